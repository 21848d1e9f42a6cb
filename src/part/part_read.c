/* SPDX-License-Identifier: Apache-2.0 */
/* Rows and columns out of a part.  What a reader touched last stays at hand in its blocks[]. */
#include "part/part_internal.h"

#include "kernel/kernel.h"

#include <stdlib.h>

enum read_slot { SLOT_IDS, SLOT_VALUES, SLOT_DOCS, SLOT_URIS, SLOT_SEQ, SLOT_EXPIRY, SLOT_VEC };

/* ---- reads ---- */

void part_reads_init(struct part_reads *reads, struct cache *cache, struct arena *arena)
{
    *reads = (struct part_reads){.cache = cache, .arena = arena};
}

void part_reads_done(struct part_reads *reads)
{
    for (size_t i = 0; i < reads->pins.len; i++)
        cache_unpin(reads->cache, reads->pins.at[i]);
    VEC_DONE(&reads->pins);
    memset(reads->blocks, 0, sizeof(reads->blocks));
}

/* Own a pin until done; on failure it is given back at once. */
static och_code keep(struct part_reads *reads, const struct extent *extent, och_error *err)
{
    if (VEC_PUSH(&reads->pins, extent))
        return OCH_OK;
    cache_unpin(reads->cache, extent);
    return FAIL_NO_MEMORY(err, "a list of pins");
}

static inline bool slot_has(const struct part_block *slot, const struct part *part, uint32_t row)
{
    return slot->owner == part->owner && row - slot->first_row < slot->row_count;
}

/* The slot then holds the block with the row. */
static NO_INLINE och_code slot_block(struct part *part, struct part_reads *reads,
                                     struct part_block *slot, unsigned id, uint32_t row,
                                     och_error *err)
{
    struct part_block_view block;
    bool goes_on = slot->owner == part->owner && row == slot->first_row + slot->row_count;
    TRY(part_block_pin(part, id, row, goes_on, &block, err));
    if (slot->extent != block.extent)
        TRY(keep(reads, block.extent, err));
    else
        cache_unpin(reads->cache, block.extent); // a neighbour in a run that is kept already
    *slot =
        (struct part_block){part->owner, id, block.first_row, block.rows, block.extent, block.base};
    return OCH_OK;
}

static inline och_code read_field(struct part *part, struct part_reads *reads, enum read_slot name,
                                  unsigned id, uint32_t row, slice *ret_field, och_error *err)
{
    struct part_block *slot = &reads->blocks[name];
    *ret_field = SLICE_NONE;
    if (!part_has(part, id))
        return OCH_OK;
    if (UNLIKELY(!slot_has(slot, part, row)))
        TRY(slot_block(part, reads, slot, id, row, err));
    *ret_field = part_block_field(slot->base, slot->row_count, row - slot->first_row);
    return OCH_OK;
}

/* The same for pieces of fixed-size units of `unit` bytes, `unit_rows` rows each. */
static NO_INLINE och_code slot_piece(struct part *part, struct part_reads *reads,
                                     struct part_block *slot, unsigned id, uint32_t unit,
                                     uint32_t unit_rows, uint32_t row, och_error *err)
{
    struct part_piece piece;
    TRY(part_pin(part, id, unit, (uint64_t)(row / unit_rows) * unit, &piece, err));
    TRY(keep(reads, piece.extent, err));
    uint64_t first = piece.from / unit * unit_rows, count = piece.extent->len / unit * unit_rows;
    uint64_t left = part->info.rows - first;
    *slot = (struct part_block){part->owner,     id,
                                (uint32_t)first, (uint32_t)(count < left ? count : left),
                                piece.extent,    piece.extent->at};
    return OCH_OK;
}

/* ---- seq ---- */

static int64_t unpack(const uint8_t *block, const uint8_t *end, uint64_t bits, uint32_t i)
{
    uint64_t bit = i * bits;
    const uint8_t *at = block + 8 + bit / 8;
    unsigned shift = bit % 8;
    uint8_t tail[16] = {0};
    if (UNLIKELY(end - at < 9)) { // the last values of a piece
        if (at < end)
            memcpy(tail, at, (size_t)(end - at));
        at = tail;
    }
    uint64_t value = load_u64(at) >> shift;
    if (shift)
        value |= (uint64_t)at[8] << (64 - shift);
    if (bits < 64)
        value &= (1ull << bits) - 1;
    return (int64_t)(load_u64(block) + value);
}

int64_t part_seq_value(const struct part *part, const struct part_piece *piece, uint32_t row)
{
    uint64_t bits = part->sections[SECTION_SEQ].aux;
    uint64_t offset = (row / SEQ_ROWS) * part_seq_stride(bits) - piece->from;
    const uint8_t *at = piece->extent->at;
    return unpack(at + offset, at + piece->extent->len, bits, row % SEQ_ROWS);
}

och_code part_seq_piece(struct part *part, uint32_t row, struct part_piece *ret_piece,
                        och_error *err)
{
    uint64_t stride = part_seq_stride(part->sections[SECTION_SEQ].aux);
    return part_pin(part, SECTION_SEQ, (uint32_t)stride, row / SEQ_ROWS * stride, ret_piece, err);
}

och_code part_seq(struct part *part, uint32_t row, int64_t *ret_seq, och_error *err)
{
    struct part_piece piece;
    assert(row < part->info.rows);
    TRY(part_seq_piece(part, row, &piece, err));
    *ret_seq = part_seq_value(part, &piece, row);
    cache_unpin(part->env.cache, piece.extent);
    return OCH_OK;
}

static och_code read_seq(struct part *part, struct part_reads *reads, uint32_t row,
                         int64_t *ret_seq, och_error *err)
{
    struct part_block *slot = &reads->blocks[SLOT_SEQ];
    uint64_t bits = part->sections[SECTION_SEQ].aux;
    if (UNLIKELY(!slot_has(slot, part, row)))
        TRY(slot_piece(part, reads, slot, SECTION_SEQ, (uint32_t)part_seq_stride(bits), SEQ_ROWS,
                       row, err));
    uint32_t i = row - slot->first_row;
    *ret_seq = unpack(slot->base + i / SEQ_ROWS * part_seq_stride(bits),
                      slot->base + slot->extent->len, bits, i % SEQ_ROWS);
    return OCH_OK;
}

och_code part_seq_kept(struct part *part, struct part_reads *reads, uint32_t row, int64_t *ret_seq,
                       och_error *err)
{
    assert(row < part->info.rows);
    return read_seq(part, reads, row, ret_seq, err);
}

struct seq_row {
    int64_t seq;
    uint32_t row;
};

static int compare_seq_rows(const void *a, const void *b)
{
    const struct seq_row *x = a, *y = b;
    int order = (x->seq > y->seq) - (x->seq < y->seq);
    return order ? order : (x->row > y->row) - (x->row < y->row);
}

static och_code rebuild_seqrows(void *context, struct cache_key key, uint8_t *at, size_t len,
                                och_error *err)
{
    struct part *part = context;
    uint32_t rows = part->info.rows;
    size_t bytes;
    (void)key;
    (void)len;
    CLEANUP(mem_cleanup) struct seq_row *order = NULL;
    if (mul_overflows(rows, sizeof(*order), &bytes) || !(order = mem_alloc(bytes)))
        return FAIL_NO_MEMORY(err, "the rows in insertion order");
    for (uint32_t row = 0; row < rows;) {
        struct part_piece piece;
        TRY(part_seq_piece(part, row, &piece, err));
        uint64_t stride = part_seq_stride(part->sections[SECTION_SEQ].aux);
        uint64_t end = (piece.from + piece.extent->len) / stride * SEQ_ROWS;
        for (; row < rows && row < end; row++)
            order[row] = (struct seq_row){part_seq_value(part, &piece, row), row};
        cache_unpin(part->env.cache, piece.extent);
    }
    qsort(order, rows, sizeof(*order), compare_seq_rows);
    for (uint32_t i = 0; i < rows; i++)
        store_u32(at + 4 * (size_t)i, order[i].row);
    return OCH_OK;
}

och_code part_seq_order(struct part *part, struct part_reads *reads, const uint32_t **ret_rows,
                        och_error *err)
{
    uint32_t rows = part->info.rows;
    if (part_is_seq_ordered(part) || !rows) {
        uint32_t *order = ARENA_ARRAY(reads->arena, uint32_t, rows);
        if (!order)
            return FAIL_NO_MEMORY(err, "the rows in insertion order");
        for (uint32_t row = 0; row < rows; row++)
            order[row] = row;
        *ret_rows = order;
        return OCH_OK;
    }
    struct part_piece piece;
    TRY(part_pin_derived(part, SECTION_SEQROWS, 4, 0, (uint64_t)rows * 4, rebuild_seqrows, &piece,
                         err));
    TRY(keep(reads, piece.extent, err));
    *ret_rows = (const uint32_t *)(const void *)piece.extent->at; // 64-byte aligned
    return OCH_OK;
}

/* ---- vectors ---- */

och_code part_vectors(struct part *part, uint32_t row, const float **ret_vectors,
                      uint32_t *ret_count, const struct extent **ret_extent, och_error *err)
{
    assert(row < part->info.rows);
    if (!part_has(part, SECTION_VEC)) {
        *ret_vectors = NULL;
        *ret_count = 0;
        *ret_extent = NULL;
        return OCH_OK;
    }
    uint64_t stride = (uint64_t)part->info.dimension * 4, offset = row * stride;
    struct part_piece piece;
    TRY(part_pin(part, SECTION_VEC, (uint32_t)stride, offset, &piece, err));
    *ret_vectors = (const float *)(const void *)(piece.extent->at + (offset - piece.from));
    *ret_count = (uint32_t)((piece.from + piece.extent->len - offset) / stride);
    *ret_extent = piece.extent;
    return OCH_OK;
}

static const float *vector_of(const struct part_rows *rows, uint32_t row, uint32_t stride)
{
    return (const float *)(const void *)(rows->base + (row - rows->first) * stride);
}

/* A vector that is about to be asked for on its way into the processor's cache, while the next one is looked up. */
static void fetch_lines(const float *vector, uint32_t stride)
{
    enum { LINE = 64, MOST = 2048 };
    for (uint32_t at = 0; at < stride && at < MOST; at += LINE)
        __builtin_prefetch((const char *)vector + at);
}

static void want_seq(struct part_ahead *ahead, uint32_t row)
{
    uint64_t stride = part_seq_stride(ahead->part->sections[SECTION_SEQ].aux);
    part_ahead_piece(ahead, SECTION_SEQ, (uint32_t)stride, row / SEQ_ROWS * stride);
}

och_code part_pick_vectors(struct part *part, const uint32_t *rows, size_t count,
                           struct arena *arena, const float ***ret_vectors,
                           struct part_picked *ret_picked, och_error *err)
{
    uint32_t stride = part->info.dimension * 4;
    struct part_picked picked = {.part = part};
    const float **vectors = ARENA_ARRAY(arena, const float *, count + 1);
    picked.pins = ARENA_ARRAY(arena, const struct extent *, count + 1);
    if (!vectors || !picked.pins)
        return FAIL_NO_MEMORY(err, "vectors");
    struct part_rows now = {0};
    struct part_ahead ahead;
    part_ahead_init(&ahead, part);
    for (size_t i = 0; i < count; i++) {
        if (now.extent && rows[i] - now.first < now.count) {
            vectors[i] = vector_of(&now, rows[i], stride);
        } else if (part_row_peek(part, SECTION_VEC, stride, rows[i], &now)) {
            picked.pins[picked.pin_count++] = now.extent;
            vectors[i] = vector_of(&now, rows[i], stride);
            fetch_lines(vectors[i], stride);
        } else {
            now.extent = NULL;
            vectors[i] = NULL;
            picked.was_cold = true;
            part_ahead_row(&ahead, SECTION_VEC, stride, rows[i]);
        }
    }
    for (size_t i = 0; i < count && picked.was_cold; i++) { // equal distances are told apart by it
        if (!vectors[i])
            want_seq(&ahead, rows[i]);
    }
    if (picked.was_cold)
        (void)part_ahead_load(&ahead);
    och_code code = OCH_OK;
    now.extent = NULL;
    for (size_t i = 0; i < count; i++) {
        if (vectors[i])
            continue;
        if (!now.extent || rows[i] - now.first >= now.count) {
            code = part_row_pin(part, SECTION_VEC, stride, rows[i], &now, err);
            if (code != OCH_OK)
                break;
            picked.pins[picked.pin_count++] = now.extent;
        }
        vectors[i] = vector_of(&now, rows[i], stride);
    }
    part_ahead_done(&ahead);
    if (code != OCH_OK) {
        part_picked_done(&picked);
        return code;
    }
    *ret_vectors = vectors;
    *ret_picked = picked;
    return OCH_OK;
}

void part_picked_done(struct part_picked *picked)
{
    for (size_t i = 0; i < picked->pin_count; i++)
        cache_unpin(picked->part->env.cache, picked->pins[i]);
    picked->pin_count = 0;
}

void part_read_ahead(struct part *part, struct part_reads *reads, const uint32_t *rows,
                     size_t count, unsigned fields)
{
    static const struct {
        unsigned field, section;
    } blocks[] = {{RECORD_ID, SECTION_IDS},
                  {RECORD_METADATA, SECTION_VALUES},
                  {RECORD_DOCUMENT, SECTION_DOCS},
                  {RECORD_URI, SECTION_URIS}};
    struct part_ahead ahead;
    part_ahead_init(&ahead, part);
    for (size_t b = 0; b < COUNT_OF(blocks); b++) {
        for (size_t i = 0; i < count && fields & blocks[b].field; i++)
            part_ahead_block(&ahead, blocks[b].section, rows[i]);
    }
    for (size_t i = 0; i < count && fields & RECORD_VECTOR; i++)
        part_ahead_row(&ahead, SECTION_VEC, part->info.dimension * 4, rows[i]);
    for (size_t i = 0; i < count && fields & RECORD_SEQ; i++)
        want_seq(&ahead, rows[i]);
    (void)part_ahead_load(&ahead);
    for (size_t i = 0; i < ahead.wants.len; i++) {
        struct cache_want *want = &ahead.wants.at[i].want;
        if (want->extent && VEC_PUSH(&reads->pins, want->extent))
            want->extent = NULL; // kept by the reads now
    }
    part_ahead_done(&ahead);
}

static och_code rebuild_norms(void *context, struct cache_key key, uint8_t *at, size_t len,
                              och_error *err)
{
    struct part *part = context;
    float *norms = (float *)(void *)at;
    (void)key;
    assert(len == (size_t)part->info.rows * 4);
    for (uint32_t row = 0; row < part->info.rows;) {
        const float *vectors;
        const struct extent *extent;
        uint32_t count, dimension = part->info.dimension;
        TRY(part_vectors(part, row, &vectors, &count, &extent, err));
        for (uint32_t i = 0; i < count; i++) {
            const float *vector = vectors + (size_t)i * dimension;
            norms[row + i] = kernel_get()->dot_f32(vector, vector, dimension);
        }
        cache_unpin(part->env.cache, extent);
        row += count;
    }
    return OCH_OK;
}

och_code part_norms(struct part *part, uint32_t row, const float **ret_norms, uint32_t *ret_count,
                    const struct extent **ret_extent, och_error *err)
{
    assert(row < part->info.rows);
    if (!part_has(part, SECTION_VEC)) {
        *ret_norms = NULL;
        *ret_count = 0;
        *ret_extent = NULL;
        return OCH_OK;
    }
    struct part_piece piece;
    uint64_t offset = (uint64_t)row * 4;
    TRY(part_pin_derived(part, SECTION_NORM, 4, offset, (uint64_t)part->info.rows * 4,
                         rebuild_norms, &piece, err));
    *ret_norms = (const float *)(const void *)(piece.extent->at + (offset - piece.from));
    *ret_count = (uint32_t)((piece.from + piece.extent->len - offset) / 4);
    *ret_extent = piece.extent;
    return OCH_OK;
}

static och_code presence(struct part *part, const uint64_t **ret_words, och_error *err)
{
    const struct part_section *section = &part->sections[SECTION_VPRES];
    const uint8_t *at = NULL;
    if (section->size && part_has(part, SECTION_VEC))
        TRY(part_resident(part, SECTION_VPRES, 0, (size_t)section->size, NULL, &at, err));
    *ret_words = (const uint64_t *)(const void *)at;
    return OCH_OK;
}

och_code part_vector_presence(struct part *part, struct part_reads *reads,
                              const uint64_t **ret_words, och_error *err)
{
    (void)reads; // it stays as long as the part
    return presence(part, ret_words, err);
}

static och_code read_vector(struct part *part, struct part_reads *reads, uint32_t row,
                            const float **ret_vector, och_error *err)
{
    struct part_block *slot = &reads->blocks[SLOT_VEC];
    const uint64_t *present;
    *ret_vector = NULL;
    if (!part_has(part, SECTION_VEC))
        return OCH_OK;
    TRY(presence(part, &present, err));
    if (present && !(present[row / 64] >> row % 64 & 1))
        return OCH_OK;
    uint32_t stride = part->info.dimension * 4;
    if (!slot_has(slot, part, row)) {
        struct part_rows rows;
        TRY(part_row_pin(part, SECTION_VEC, stride, row, &rows, err));
        TRY(keep(reads, rows.extent, err));
        *slot = (struct part_block){part->owner,          SECTION_VEC, (uint32_t)rows.first,
                                    (uint32_t)rows.count, rows.extent, rows.base};
    }
    *ret_vector =
        (const float *)(const void *)(slot->base + (size_t)(row - slot->first_row) * stride);
    return OCH_OK;
}

/* ---- rows ---- */

static och_code read_expiry(struct part *part, struct part_reads *reads, uint32_t row,
                            int64_t *ret_expiry, och_error *err)
{
    struct part_block *slot = &reads->blocks[SLOT_EXPIRY];
    *ret_expiry = 0;
    if (!part->has_expiry)
        return OCH_OK;
    if (!slot_has(slot, part, row))
        TRY(slot_piece(part, reads, slot, SECTION_EXPIRY, 8, 1, row, err));
    *ret_expiry = (int64_t)load_u64(slot->base + 8 * (size_t)(row - slot->first_row));
    return OCH_OK;
}

och_code part_read(struct part *part, struct part_reads *reads, uint32_t row, unsigned fields,
                   struct record *ret_record, och_error *err)
{
    assert(row < part->info.rows);
    struct record record = {0};
    if (fields & RECORD_METADATA)
        TRY(read_field(part, reads, SLOT_VALUES, SECTION_VALUES, row, &record.metadata, err));
    if (fields & RECORD_ID)
        TRY(read_field(part, reads, SLOT_IDS, SECTION_IDS, row, &record.id, err));
    if (fields & RECORD_SEQ)
        TRY(read_seq(part, reads, row, &record.seq, err));
    if (fields & RECORD_VECTOR)
        TRY(read_vector(part, reads, row, &record.vector, err));
    if (fields & RECORD_DOCUMENT)
        TRY(read_field(part, reads, SLOT_DOCS, SECTION_DOCS, row, &record.document, err));
    if (fields & RECORD_URI)
        TRY(read_field(part, reads, SLOT_URIS, SECTION_URIS, row, &record.uri, err));
    if (fields & RECORD_EXPIRY)
        TRY(read_expiry(part, reads, row, &record.expires_ms, err));
    *ret_record = record;
    return OCH_OK;
}

/* ---- lists ---- */

och_code part_kills(struct part *part, struct arena *arena, slice **ret_ids, size_t *ret_count,
                    och_error *err)
{
    const struct part_section *section = &part->sections[SECTION_KILL];
    size_t count = part->kill_count;
    // an id takes a byte at least, so this bounds what is allocated below
    if (count > section->size)
        return part_corrupt(part, SECTION_KILL, 0, "more ids than bytes", err);
    slice *ids = ARENA_ARRAY(arena, slice, count);
    uint8_t *bytes = ids ? arena_alloc(arena, (size_t)section->size) : NULL;
    if (!bytes)
        return FAIL_NO_MEMORY(err, "deleted ids");
    TRY(part_load_range(part, SECTION_KILL, 0, bytes, (size_t)section->size, err));
    struct reader reader = reader_of(slice_make(bytes, (size_t)section->size));
    for (size_t i = 0; i < count; i++)
        ids[i] = reader_sized(&reader);
    if (reader.failed || reader_left(&reader))
        return part_corrupt(part, SECTION_KILL, 0, "its ids do not fill it", err);
    *ret_ids = ids;
    *ret_count = count;
    return OCH_OK;
}

/* Read once, kept in the part. */
static och_code load_names(struct part *part, och_error *err)
{
    const struct part_section *section = &part->sections[SECTION_NAMES];
    CLEANUP(mem_cleanup) uint8_t *bytes = mem_alloc((size_t)section->size);
    slice names[4];
    if (!bytes)
        return FAIL_NO_MEMORY(err, "a part's names");
    TRY(part_load_range(part, SECTION_NAMES, 0, bytes, (size_t)section->size, err));
    struct reader reader = reader_of(slice_make(bytes, (size_t)section->size));
    for (size_t i = 0; i < COUNT_OF(names); i++)
        names[i] = reader_sized(&reader);
    if (reader.failed)
        return part_corrupt(part, SECTION_NAMES, 0, "it ends too early", err);
    mutex_lock(&part->mutex);
    if (!part->names_at) {
        part->names_at = take(&bytes);
        memcpy(part->names, names, sizeof(names));
    }
    mutex_unlock(&part->mutex);
    return OCH_OK;
}

void part_names(const struct part *part, slice *ret_tenant, slice *ret_database, slice *ret_name,
                slice *ret_schema_json)
{
    struct part *mine = (struct part *)(uintptr_t)part; // what is read is only kept, not changed
    mutex_lock(&mine->mutex);
    bool loaded = mine->names_at != NULL;
    mutex_unlock(&mine->mutex);
    och_error failure = {0};
    och_code code = loaded ? OCH_OK : load_names(mine, &failure);
    if (code != OCH_OK && part_is_damage(code, &failure))
        part_note_damage(mine, SECTION_NAMES, &failure);
    mutex_lock(&mine->mutex);
    *ret_tenant = mine->names[0];
    *ret_database = mine->names[1];
    *ret_name = mine->names[2];
    *ret_schema_json = mine->names[3];
    mutex_unlock(&mine->mutex);
}
