/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a pinned view: parts with their dead rows, slots of the tail, single records. */
#include "view/view_internal.h"

#include <inttypes.h>

const struct view_info *view_info(const struct view *view)
{
    return &view->info;
}

void view_set_clock(struct view *view, int64_t now_ms)
{
    view->info.now_ms = now_ms;
}

size_t view_part_count(const struct view *view)
{
    return view->generation->part_count;
}

struct part *view_part(const struct view *view, size_t i)
{
    assert(i < view->generation->part_count);
    return view->generation->parts[i].part;
}

och_code view_dead(struct view *view, size_t i, const struct bitset **ret_dead, och_error *err)
{
    assert(i < view->generation->part_count);
    if (!view->dead[i]) {
        struct dead_set *set;
        TRY(generation_dead(view->generation, i, view->info.to, &set, err));
        if (set) /* else nothing is written: tasks of a query ask side by side */
            view->dead[i] = set;
    }
    *ret_dead = view->dead[i] ? &view->dead[i]->bits : NULL;
    return OCH_OK;
}

och_code view_dead_upto(struct view *view, size_t i, uint64_t upto, struct bitset *ret_copy,
                        och_error *err)
{
    struct dead_set *set = NULL;
    TRY(generation_dead(view->generation, i, upto, &set, err));
    bool copied = set ? bitset_copy(ret_copy, &set->bits)
                      : bitset_init(ret_copy, part_rows(view_part(view, i)));
    dead_set_unref(set);
    return copied ? OCH_OK : FAIL_NO_MEMORY(err, "a deletion bitmap");
}

uint32_t view_slot_count(const struct view *view)
{
    return view->slot_count;
}

const struct tail_slot *view_slot(const struct view *view, uint32_t i)
{
    assert(i < view->slot_count);
    return generation_slot(view->generation, i);
}

static bool expired(int64_t expires_ms, int64_t now_ms)
{
    return expires_ms != 0 && expires_ms <= now_ms;
}

static bool row_expired(const struct view *view, int64_t expires_ms)
{
    return expired(expires_ms, view->info.now_ms);
}

/* The last word on its id, for a reader at `to`. */
static bool is_newest(const struct view *view, const struct tail_slot *slot)
{
    return slot->offset < view->info.to &&
           atomic_load_explicit(&slot->superseded_at, memory_order_acquire) >= view->info.to;
}

bool view_slot_live(const struct view *view, const struct tail_slot *slot)
{
    return !slot->tombstone && is_newest(view, slot) && !row_expired(view, slot->record.expires_ms);
}

bool view_slot_stands(const struct view *view, const struct tail_slot *slot)
{
    return !slot->tombstone && is_newest(view, slot) &&
           !expired(slot->record.expires_ms, view->created_at);
}

och_code view_slot_read(struct view *view, const struct tail_slot *slot, struct part_reads *reads,
                        unsigned fields, struct record *ret_record, och_error *err)
{
    *ret_record = slot->record;
    unsigned missing = fields & slot->from_part;
    if (!missing)
        return OCH_OK;
    struct record base;
    TRY(part_read(view->generation->parts[slot->base_part].part, reads, slot->base_row, missing,
                  &base, err));
    if (missing & RECORD_VECTOR)
        ret_record->vector = base.vector;
    if (missing & RECORD_DOCUMENT)
        ret_record->document = base.document;
    if (missing & RECORD_URI)
        ret_record->uri = base.uri;
    if (missing & RECORD_METADATA)
        ret_record->metadata = base.metadata;
    return OCH_OK;
}

static och_code find_in_parts(struct view *view, slice id, uint64_t hash,
                              struct view_place *ret_place, bool *ret_found, och_error *err)
{
    for (size_t i = view_part_count(view); i-- > 0;) {
        uint32_t row;
        TRY(part_find(view_part(view, i), id, hash, &row, err));
        if (row == PART_NO_ROW)
            continue;
        const struct bitset *dead;
        TRY(view_dead(view, i, &dead, err));
        if (dead && bitset_has(dead, row))
            continue;
        *ret_place = (struct view_place){(uint32_t)i, row};
        *ret_found = true;
        return OCH_OK;
    }
    return OCH_OK;
}

och_code view_find(struct view *view, slice id, struct view_place *ret_place, bool *ret_found,
                   och_error *err)
{
    *ret_found = false;
    uint64_t hash = slice_hash(id);
    uint32_t number = view->slot_count ? generation_find(view->generation, id, hash,
                                                         view->slot_count, view->info.to)
                                       : 0;
    if (number == 0) {
        TRY(find_in_parts(view, id, hash, ret_place, ret_found, err));
        if (*ret_found && part_has_expiry(view_part(view, ret_place->part))) {
            struct arena scratch;
            struct part_reads reads;
            arena_init(&scratch, NULL, 0);
            part_reads_init(&reads, view->collection->views->options.parts.cache, &scratch);
            struct record record;
            och_code code = part_read(view_part(view, ret_place->part), &reads, ret_place->row,
                                      RECORD_EXPIRY, &record, err);
            *ret_found = code == OCH_OK && !row_expired(view, record.expires_ms);
            part_reads_done(&reads);
            arena_done(&scratch);
            return code;
        }
        return OCH_OK;
    }
    if (view_slot_live(view, view_slot(view, number - 1))) {
        *ret_place = (struct view_place){VIEW_NO_PART, number - 1};
        *ret_found = true;
    }
    return OCH_OK;
}

och_code view_read(struct view *view, struct view_place place, struct part_reads *reads,
                   unsigned fields, struct record *ret_record, och_error *err)
{
    if (place.part == VIEW_NO_PART)
        return view_slot_read(view, view_slot(view, place.row), reads, fields, ret_record, err);
    return part_read(view_part(view, place.part), reads, place.row, fields, ret_record, err);
}

bool view_touched(struct view *view, slice id, uint64_t offset)
{
    if (offset < view->info.from)
        return true;
    if (view->slot_count == 0)
        return false;
    uint32_t number =
        generation_find(view->generation, id, slice_hash(id), view->slot_count, view->info.to);
    return number != 0 && view_slot(view, number - 1)->offset >= offset;
}

och_code view_batch_counts(struct view *view, uint64_t first, uint32_t count,
                           struct view_counts *ret_counts, och_error *err)
{
    struct generation *g = view->generation;
    bool found = false;
    mutex_lock(&g->lock);
    size_t low = 0, high = view->batch_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (g->batches.at[middle].batch->first < first)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < view->batch_count && g->batches.at[low].batch->first == first &&
        g->batches.at[low].batch->count == count) {
        *ret_counts = g->batches.at[low].counts;
        found = true;
    }
    mutex_unlock(&g->lock);
    return found ? OCH_OK
                 : FAIL(err, OCH_STALE, "batch at offset %" PRIu64 " is no longer in the tail",
                        first);
}

size_t view_batch_count(const struct view *view)
{
    return view->batch_count;
}

const struct wal_batch *view_batch(const struct view *view, size_t i)
{
    struct generation *g = view->generation;
    mutex_lock(&g->lock); /* the array may be growing under the resolver */
    const struct wal_batch *batch = g->batches.at[i].batch;
    mutex_unlock(&g->lock);
    return batch;
}

static void end_at(struct view *view, size_t kept)
{
    struct view_info *info = &view->info;
    const struct wal_batch *last = view_batch(view, kept - 1);
    view->batch_count = kept;
    view->created_at = last->created_at;
    info->to = last->first + last->count; /* slots behind it are not rows of this view any more */
    info->dimension = last->dimension ? last->dimension : info->dimension;
}

bool view_cut_at(struct view *view, uint64_t upto)
{
    size_t kept = 0;
    for (; kept < view->batch_count; kept++) {
        const struct wal_batch *batch = view_batch(view, kept);
        if (batch->first + batch->count > upto)
            break;
    }
    if (kept > 0)
        end_at(view, kept);
    return kept > 0;
}

bool view_cut(struct view *view, uint64_t rows_max, uint64_t bytes_max)
{
    const struct view_info *info = &view->info;
    uint64_t bytes = 0;
    size_t kept = 0;
    for (; kept < view->batch_count; kept++) {
        const struct wal_batch *batch = view_batch(view, kept);
        bytes += batch->payload->len;
        if (kept > 0 && (batch->first + batch->count - info->from > rows_max || bytes > bytes_max))
            break;
    }
    if (kept == view->batch_count)
        return false;
    end_at(view, kept);
    return true;
}

och_code view_pairs(struct view *view, struct arena *arena, struct batch_pair **ret_pairs,
                    size_t *ret_count, och_error *err)
{
    struct map seen; /* key -> bit per type */
    map_init(&seen);
    VEC(struct batch_pair) pairs = {0};
    bool ok = true;
    for (size_t i = 0; i < view->batch_count && ok; i++) {
        slice cursor = view_batch(view, i)->rows.pairs;
        struct batch_pair pair;
        while (ok && batch_pair_next(&cursor, &pair)) {
            bool is_new;
            uint64_t *types = map_at(&seen, pair.key, &is_new);
            if (!types) {
                ok = false;
            } else if (!(*types >> pair.type & 1)) {
                *types |= 1ull << pair.type;
                ok = VEC_PUSH(&pairs, pair);
            }
        }
    }
    struct batch_pair *copy = ok ? ARENA_ARRAY(arena, struct batch_pair, pairs.len + 1) : NULL;
    if (copy) {
        if (pairs.len)
            memcpy(copy, pairs.at, pairs.len * sizeof(*copy));
        *ret_pairs = copy;
        *ret_count = pairs.len;
    }
    VEC_DONE(&pairs);
    map_done(&seen);
    return copy ? OCH_OK : FAIL_NO_MEMORY(err, "schema pairs");
}

och_code view_kills(struct view *view, struct arena *arena, slice **ret_ids, size_t *ret_count,
                    och_error *err)
{
    VEC(slice) kills = {0};
    bool ok = true;
    for (uint32_t i = 0; i < view->slot_count && ok; i++) {
        const struct tail_slot *slot = view_slot(view, i);
        if (slot->base_part != VIEW_NO_PART && is_newest(view, slot) &&
            !view_slot_stands(view, slot))
            ok = VEC_PUSH(&kills, slot->record.id);
    }
    slice *copy = ok ? ARENA_ARRAY(arena, slice, kills.len + 1) : NULL;
    if (copy) {
        if (kills.len)
            memcpy(copy, kills.at, kills.len * sizeof(*copy));
        *ret_ids = copy;
        *ret_count = kills.len;
    }
    VEC_DONE(&kills);
    return copy ? OCH_OK : FAIL_NO_MEMORY(err, "deleted ids");
}

bool view_warning(struct view *view, struct buf *out)
{
    size_t damaged = 0;
    for (size_t i = 0; i < view_part_count(view); i++)
        damaged += part_damage(view_part(view, i)) != 0;
    if (damaged == 0)
        return false;
    const struct views_options *options = &view->collection->views->options;
    if (options->wants_compaction && !atomic_exchange(&view->collection->rebuild_wanted, true))
        options->wants_compaction(options->wants_context, view->collection->id);
    buf_printf(out,
               "%zu of %zu parts have a damaged index section (bad checksum); answers are exact "
               "but slower until it is rebuilt",
               damaged, view_part_count(view));
    return true;
}
