/* SPDX-License-Identifier: Apache-2.0 */
/* Resolution: what a batch's operations mean, judged at their own offsets (D12).  The one place where add, upsert, update and delete
 * are decided; reads, counts, compaction and every machine follow from it. */
#include "view/view_internal.h"

#include <inttypes.h>

static void chunk_of(uint32_t i, unsigned *ret_chunk, uint32_t *ret_at)
{
    uint32_t scaled = i / TAIL_CHUNK_FIRST + 1;
    unsigned chunk = 31u - (unsigned)__builtin_clz(scaled);
    *ret_chunk = chunk;
    *ret_at = i - TAIL_CHUNK_FIRST * ((1u << chunk) - 1);
}

struct tail_slot *generation_slot(const struct generation *generation, uint32_t i)
{
    unsigned chunk;
    uint32_t at;
    chunk_of(i, &chunk, &at);
    return &generation->chunks[chunk][at];
}

static void charge(struct generation *g, size_t bytes)
{
    g->charged_bytes += bytes;
    budget_force(g->views->options.budget, bytes);
}

/* ---- ids ---- */

#define ENTRY_SLOT(entry) ((uint32_t)(entry))

static uint64_t entry_make(uint64_t hash, uint32_t slot)
{
    return (hash & 0xffffffff00000000ull) | (slot + 1u);
}

static bool entry_is(const struct generation *g, uint64_t entry, slice id, uint64_t hash)
{
    return (entry ^ hash) >> 32 == 0 &&
           slice_equal(generation_slot(g, ENTRY_SLOT(entry) - 1)->record.id, id);
}

/* The place of an id, or the empty place where it belongs. */
static uint32_t table_place(const struct generation *g, struct id_table *table, slice id,
                            uint64_t hash)
{
    uint32_t i = (uint32_t)hash & (table->cap - 1);
    for (;; i = (i + 1) & (table->cap - 1)) {
        uint64_t entry = atomic_load_explicit(&table->entries[i], memory_order_acquire);
        if (entry == 0 || entry_is(g, entry, id, hash))
            return i;
    }
}

/* Room for `more` ids.  The old table stays readable: readers may be walking it. */
static och_code table_reserve(struct generation *g, uint32_t more, och_error *err)
{
    struct id_table *old = atomic_load_explicit(&g->table, memory_order_relaxed);
    uint64_t need = ((uint64_t)g->table_used + more) * 4 / 3 + 1;
    if (old && need <= old->cap)
        return OCH_OK;
    uint64_t cap = 32;
    while (cap < need)
        cap *= 2;
    if (cap > UINT32_MAX / 2)
        return FAIL(err, OCH_TOO_LARGE, "tail of %" PRIu64 " ids", need);
    size_t bytes = sizeof(struct id_table) + cap * sizeof(_Atomic uint64_t);
    struct id_table *table = mem_zalloc(bytes);
    if (!table)
        return FAIL_NO_MEMORY(err, "the tail's id table");
    charge(g, bytes);
    table->cap = (uint32_t)cap;
    table->retired = old;
    for (uint32_t i = 0; old && i < old->cap; i++) {
        uint64_t entry = atomic_load_explicit(&old->entries[i], memory_order_relaxed);
        if (entry == 0)
            continue;
        slice id = generation_slot(g, ENTRY_SLOT(entry) - 1)->record.id;
        uint64_t hash = slice_hash(id);
        atomic_store_explicit(&table->entries[table_place(g, table, id, hash)], entry,
                              memory_order_relaxed);
    }
    /* Pairs with the acquire in generation_find. */
    atomic_store_explicit(&g->table, table, memory_order_release);
    return OCH_OK;
}

uint32_t generation_find(const struct generation *g, slice id, uint64_t hash, uint32_t slot_count,
                         uint64_t to)
{
    struct id_table *table = atomic_load_explicit(&g->table, memory_order_acquire);
    if (!table)
        return 0;
    uint64_t entry = atomic_load_explicit(&table->entries[table_place(g, table, id, hash)],
                                          memory_order_acquire);
    /* Slots beyond the reader's are newer than its view: follow the chain back. */
    for (uint32_t slot = ENTRY_SLOT(entry); slot != 0;) {
        const struct tail_slot *found = generation_slot(g, slot - 1);
        if (slot <= slot_count && found->offset < to)
            return slot;
        slot = found->previous;
    }
    return 0;
}

/* ---- slots ---- */

static och_code slots_reserve(struct generation *g, uint32_t more, och_error *err)
{
    if (more == 0)
        return OCH_OK;
    if ((uint64_t)g->slots_made + more > (1u << 28))
        return FAIL(err, OCH_TOO_LARGE, "tail of more than %u rows", 1u << 28);
    unsigned chunk;
    uint32_t at;
    chunk_of(g->slots_made + more - 1, &chunk, &at);
    for (unsigned i = 0; i <= chunk; i++) {
        if (g->chunks[i])
            continue;
        size_t bytes = ((size_t)TAIL_CHUNK_FIRST << i) * sizeof(struct tail_slot);
        g->chunks[i] = mem_zalloc(bytes);
        if (!g->chunks[i])
            return FAIL_NO_MEMORY(err, "the tail's rows");
        charge(g, bytes);
    }
    return OCH_OK;
}

/* What is known of an id when an operation meets it. */
struct present {
    uint64_t hash;
    uint32_t place;     /* in the id table */
    uint32_t slot;      /* newest slot + 1, 0: none */
    bool live;          /* there is a record */
    bool stands;        /* there is one, or one that expired */
    uint32_t part, row; /* it lives in a part: else VIEW_NO_PART */
    int64_t seq;
};

struct resolver {
    struct generation *g;
    struct wal_batch *batch;
    struct part_reads reads;
    struct arena scratch;
    struct view_counts counts;
    int64_t live_change;
};

static bool is_expired(int64_t expires_ms, int64_t now_ms)
{
    return expires_ms != 0 && expires_ms <= now_ms;
}

static och_code find_in_parts(struct resolver *r, slice id, struct present *p, och_error *err)
{
    for (uint32_t i = r->g->part_count; i-- > 0;) {
        struct generation_part *gp = &r->g->parts[i];
        uint32_t row;
        TRY(part_find(gp->part, id, p->hash, &row, err));
        if (row == PART_NO_ROW || (gp->dead.words && bitset_has(&gp->dead, row)))
            continue;
        p->part = i;
        p->row = row;
        TRY(part_seq(gp->part, row, &p->seq, err));
        p->live = p->stands = true;
        if (part_has_expiry(gp->part)) {
            struct record record;
            TRY(part_read(gp->part, &r->reads, row, RECORD_EXPIRY, &record, err));
            p->live = !is_expired(record.expires_ms, r->batch->created_at);
        }
        return OCH_OK;
    }
    return OCH_OK;
}

static och_code find_present(struct resolver *r, slice id, struct present *p, och_error *err)
{
    *p = (struct present){.hash = slice_hash(id), .part = VIEW_NO_PART};
    struct id_table *table = atomic_load_explicit(&r->g->table, memory_order_relaxed);
    p->place = table_place(r->g, table, id, p->hash);
    p->slot = ENTRY_SLOT(atomic_load_explicit(&table->entries[p->place], memory_order_relaxed));
    if (p->slot == 0)
        return find_in_parts(r, id, p, err);
    const struct tail_slot *slot = generation_slot(r->g, p->slot - 1);
    p->stands = !slot->tombstone;
    p->live = p->stands && !is_expired(slot->record.expires_ms, r->batch->created_at);
    p->seq = slot->record.seq;
    return OCH_OK;
}

static och_code mask_part_row(struct generation *g, uint32_t part, uint32_t row, uint64_t offset,
                              och_error *err)
{
    mutex_lock(&g->lock);
    bool pushed = VEC_PUSH(&g->parts[part].masks, ((struct tail_mask){row, offset}));
    mutex_unlock(&g->lock);
    return pushed ? OCH_OK : FAIL_NO_MEMORY(err, "a mask over a part");
}

/* Make a slot for an operation at `offset`; the caller fills in record and flags before publishing it by slot_publish. */
static struct tail_slot *slot_new(struct resolver *r, const struct present *p, uint64_t offset)
{
    struct tail_slot *slot = generation_slot(r->g, r->g->slots_made);
    slot->offset = offset;
    atomic_store_explicit(&slot->superseded_at, UINT64_MAX, memory_order_relaxed);
    slot->previous = p->slot;
    slot->base_part = VIEW_NO_PART;
    slot->base_row = 0;
    slot->from_part = 0;
    slot->tombstone = false;
    return slot;
}

static och_code slot_publish(struct resolver *r, struct present *p, struct tail_slot *slot,
                             och_error *err)
{
    struct generation *g = r->g;
    if (p->slot != 0) {
        struct tail_slot *old = generation_slot(g, p->slot - 1);
        slot->base_part = old->base_part;
        slot->base_row = old->base_row;
        /* A reader at `to` ≤ offset goes on seeing the old one: view_slot_live compares. */
        atomic_store_explicit(&old->superseded_at, slot->offset, memory_order_release);
    } else {
        g->table_used++;
        if (p->part != VIEW_NO_PART) {
            slot->base_part = p->part;
            slot->base_row = p->row;
            TRY(mask_part_row(g, p->part, p->row, slot->offset, err));
        }
    }
    struct id_table *table = atomic_load_explicit(&g->table, memory_order_relaxed);
    atomic_store_explicit(&table->entries[p->place], entry_make(p->hash, g->slots_made),
                          memory_order_release);
    g->slots_made++;
    return OCH_OK;
}

/* The record's metadata after a patch; patches over a part's row read that row now, so that filters need not. */
static och_code merge_metadata(struct resolver *r, const struct present *p,
                               const struct tail_slot *old, slice patch, struct tail_slot *slot,
                               och_error *err)
{
    slice before;
    if (old && !(old->from_part & RECORD_METADATA)) {
        before = old->record.metadata;
    } else {
        uint32_t part = old ? old->base_part : p->part, row = old ? old->base_row : p->row;
        struct record record;
        TRY(part_read(r->g->parts[part].part, &r->reads, row, RECORD_METADATA, &record, err));
        before = record.metadata;
    }
    struct buf merged;
    buf_init(&merged, BUF_MAX_NONE);
    bool empty = false;
    meta_merge(before.at ? before : SLICE("\0"), patch, &merged, &empty);
    och_code code = buf_check(&merged, "merged metadata", err);
    if (code == OCH_OK) {
        slot->from_part &= (uint8_t)~RECORD_METADATA;
        slot->record.metadata = empty ? SLICE_NONE : arena_copy(&r->g->arena, buf_view(&merged));
        if (!empty && !slot->record.metadata.at)
            code = FAIL_NO_MEMORY(err, "merged metadata");
    }
    buf_done(&merged);
    return code;
}

/* A fresh map's META_DELETE entries mean nothing: drop them; a map without entries is no metadata. */
static och_code fresh_metadata(struct resolver *r, slice patch, struct tail_slot *slot,
                               och_error *err)
{
    struct meta_iter iter;
    struct meta_entry entry;
    bool deletes = false;
    meta_iter_init(&iter, patch);
    bool any = false;
    while (meta_iter_next(&iter, &entry)) {
        any = true;
        deletes |= entry.type == META_DELETE;
    }
    if (!any) {
        slot->record.metadata = SLICE_NONE;
        return OCH_OK;
    }
    if (!deletes) {
        slot->record.metadata = patch;
        return OCH_OK;
    }
    struct buf merged;
    buf_init(&merged, BUF_MAX_NONE);
    bool empty = false;
    meta_merge(SLICE("\0"), patch, &merged, &empty);
    och_code code = buf_check(&merged, "metadata", err);
    if (code == OCH_OK) {
        slot->record.metadata = empty ? SLICE_NONE : arena_copy(&r->g->arena, buf_view(&merged));
        if (!empty && !slot->record.metadata.at)
            code = FAIL_NO_MEMORY(err, "metadata");
    }
    buf_done(&merged);
    return code;
}

static int64_t expiry_of(const struct batch_input_row *row)
{
    return row->expires_ms == BATCH_NEVER ? 0 : row->expires_ms;
}

static och_code apply_insert(struct resolver *r, struct present *p,
                             const struct batch_input_row *row, uint64_t offset, och_error *err)
{
    struct tail_slot *slot = slot_new(r, p, offset);
    slot->record = (struct record){
        .id = row->id, .seq = (int64_t)offset, .vector = row->vector, .expires_ms = expiry_of(row)};
    if (row->document_state == FIELD_VALUE)
        slot->record.document = row->document;
    if (row->uri_state == FIELD_VALUE)
        slot->record.uri = row->uri;
    if (row->metadata_state == FIELD_VALUE)
        TRY(fresh_metadata(r, row->metadata, slot, err));
    r->g->expiry_made |= slot->record.expires_ms != 0;
    r->counts.inserted++;
    r->live_change += !p->stands; /* an expired one was counted until now */
    return slot_publish(r, p, slot, err);
}

static void keep_field(struct tail_slot *slot, uint8_t state, slice value, slice *field,
                       uint8_t bit)
{
    if (state == FIELD_KEEP)
        return;
    slot->from_part &= (uint8_t)~bit;
    *field = state == FIELD_VALUE ? value : SLICE_NONE;
}

static och_code apply_change(struct resolver *r, struct present *p,
                             const struct batch_input_row *row, uint64_t offset, och_error *err)
{
    const struct tail_slot *old = p->slot ? generation_slot(r->g, p->slot - 1) : NULL;
    struct tail_slot *slot = slot_new(r, p, offset);
    if (old) {
        slot->record = old->record;
        slot->from_part = old->from_part;
    } else {
        slot->record = (struct record){.seq = p->seq};
        slot->from_part = RECORD_VECTOR | RECORD_DOCUMENT | RECORD_URI | RECORD_METADATA;
        if (part_has_expiry(r->g->parts[p->part].part)) {
            struct record record;
            TRY(part_read(r->g->parts[p->part].part, &r->reads, p->row, RECORD_EXPIRY, &record,
                          err));
            slot->record.expires_ms = record.expires_ms;
        }
    }
    slot->record.id = row->id;
    if (row->vector) {
        slot->record.vector = row->vector;
        slot->from_part &= (uint8_t)~RECORD_VECTOR;
    }
    keep_field(slot, row->document_state, row->document, &slot->record.document, RECORD_DOCUMENT);
    keep_field(slot, row->uri_state, row->uri, &slot->record.uri, RECORD_URI);
    if (row->metadata_state == FIELD_VALUE)
        TRY(merge_metadata(r, p, old, row->metadata, slot, err));
    else
        keep_field(slot, row->metadata_state, row->metadata, &slot->record.metadata,
                   RECORD_METADATA);
    if (row->expires_ms)
        slot->record.expires_ms = expiry_of(row);
    r->g->expiry_made |= slot->record.expires_ms != 0;
    r->counts.updated++;
    return slot_publish(r, p, slot, err);
}

static och_code apply_delete(struct resolver *r, struct present *p, slice id, uint64_t offset,
                             och_error *err)
{
    struct tail_slot *slot = slot_new(r, p, offset);
    slot->record = (struct record){.id = id, .seq = p->seq};
    slot->tombstone = true;
    r->counts.deleted++;
    r->live_change--;
    return slot_publish(r, p, slot, err);
}

static och_code apply(struct resolver *r, uint32_t i, och_error *err)
{
    struct batch_input_row row;
    batch_row(&r->batch->rows, i, &row);
    uint64_t offset = r->batch->first + i;
    struct present p;
    TRY(find_present(r, row.id, &p, err));
    switch (row.op) {
    case BATCH_DELETE:
        if (p.live)
            return apply_delete(r, &p, row.id, offset, err);
        break;
    case BATCH_UPDATE:
        if (p.live)
            return apply_change(r, &p, &row, offset, err);
        break;
    case BATCH_UPSERT:
        if (p.live)
            return apply_change(r, &p, &row, offset, err);
        return apply_insert(r, &p, &row, offset, err);
    case BATCH_ADD:
        if (!p.live)
            return apply_insert(r, &p, &row, offset, err);
        break;
    default:
        return FAIL(err, OCH_CORRUPT, "batch at offset %" PRIu64 ": unknown operation %u",
                    r->batch->first, row.op);
    }
    r->counts.skipped++;
    return OCH_OK;
}

och_code generation_resolve(struct generation *g, struct wal_batch *batch, och_error *err)
{
    TRY(table_reserve(g, batch->count, err));
    TRY(slots_reserve(g, batch->count, err));
    struct resolver r = {.g = g, .batch = batch};
    arena_init(&r.scratch, g->views->options.budget, 0);
    part_reads_init(&r.reads, g->views->options.parts.cache, &r.scratch);
    och_code code = OCH_OK;
    for (uint32_t i = 0; i < batch->count && code == OCH_OK; i++)
        code = apply(&r, i, err);
    part_reads_done(&r.reads);
    arena_done(&r.scratch);
    TRY(code);
    mutex_lock(&g->lock);
    bool pushed = VEC_PUSH(&g->batches, ((struct tail_batch){batch, r.counts}));
    mutex_unlock(&g->lock);
    if (!pushed)
        return FAIL_NO_MEMORY(err, "the tail's batches");
    wal_batch_ref(batch);
    g->live_made += (uint64_t)r.live_change;
    return OCH_OK;
}
