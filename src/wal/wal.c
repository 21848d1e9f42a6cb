/* SPDX-License-Identifier: Apache-2.0 */
/* The Log's public calls besides appending and reading: opening, closing, trimming, sealing, and the numbers that others
 * steer by. */
#include "wal/wal_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define ROLL_BYTES (256ull << 10) /* a segment with less in it is not left early */

struct wal_batch *wal_batch_ref(struct wal_batch *batch)
{
    uint32_t before = atomic_fetch_add_explicit(&batch->refs, 1, memory_order_relaxed);
    assert(before > 0 && before < UINT32_MAX);
    (void)before;
    return batch;
}

void wal_batch_unref(struct wal_batch *batch)
{
    if (!batch)
        return;
    // release ours, acquire everyone's before the memory goes: pairs with itself
    if (atomic_fetch_sub_explicit(&batch->refs, 1, memory_order_acq_rel) != 1)
        return;
    payload_unref(batch->payload);
    mem_free(batch);
}

/* ---- open and close ---- */

static och_code open_init(struct wal *wal, const struct wal_options *options, och_error *err)
{
    wal->options = *options;
    wal->folder = mem_copy_text(options->folder, strlen(options->folder));
    if (!wal->folder)
        return FAIL_NO_MEMORY(err, "the log");
    struct wal_options *o = &wal->options;
    o->folder = wal->folder;
    o->clock = o->clock ? o->clock : clock_system();
    o->segment_bytes = round_up(o->segment_bytes ? o->segment_bytes : WAL_SEGMENT_BYTES, WAL_PAGE);
    o->slow_bytes = o->slow_bytes ? o->slow_bytes : LIMIT_LOG_SLOW_BYTES;
    o->stop_bytes = o->stop_bytes ? o->stop_bytes : LIMIT_LOG_STOP_BYTES;
    o->interval_ms = o->interval_ms ? o->interval_ms : 100;
    wal->segment_bytes =
        o->segment_bytes < WAL_SEGMENT_MIN_BYTES ? o->segment_bytes : WAL_SEGMENT_MIN_BYTES;
    if (!o->read_only)
        TRY(io_make_folder(o->io, wal->folder, err));
    return wal_recover(wal, err);
}

static void threads_stop(struct wal *wal)
{
    mutex_lock(&wal->lock);
    wal->stopping = true;
    cond_signal(&wal->work);
    mutex_unlock(&wal->lock);
    if (wal->writer.started)
        thread_join(&wal->writer);
    wal->writer.started = false;
    mutex_lock(&wal->lock);
    wal->helper_stopping = true;
    cond_signal(&wal->chore);
    mutex_unlock(&wal->lock);
    if (wal->helper.started)
        thread_join(&wal->helper);
    wal->helper.started = false;
}

och_code wal_open(const struct wal_options *options, struct wal **ret_wal, och_error *err)
{
    struct wal *wal = MEM_NEW(struct wal);
    if (!wal)
        return FAIL_NO_MEMORY(err, "the log");
    mutex_init(&wal->lock, RANK_WAL);
    mutex_init(&wal->reap_lock, RANK_WAL - 1);
    cond_init(&wal->work);
    cond_init(&wal->chore);
    cond_init(&wal->changed);
    map_init(&wal->collections);
    wal->queue_end = &wal->queue;
    wal->next_id = 1;
    wal->sequence = 1;
    och_code code = open_init(wal, options, err);
    if (code == OCH_OK && !options->read_only) {
        wal->reserve_wanted = !wal->reserve_there; // while there is room
        code = thread_start(&wal->writer, "wal-writer", 0, wal_writer_run, wal, err);
        if (code == OCH_OK)
            code = thread_start(&wal->helper, "wal-helper", 0, wal_helper_run, wal, err);
    }
    if (code != OCH_OK) {
        wal_free(wal);
        return code;
    }
    *ret_wal = wal;
    return OCH_OK;
}

/* Threads are gone.  Note in the catalogue where the log ends, if nothing about it is doubtful. */
static och_code close_note(struct wal *wal, och_error *err)
{
    if (wal->options.read_only || wal->read_only || wal->must_mark || wal->end_noted)
        return OCH_OK;
    TRY(wal_writer_note(wal, true, err));
    if (wal->end.segment == 0 || wal_place_compare(wal->synced, wal->end) < 0)
        return OCH_OK;
    struct sysdb_log_end end = {true, wal->end.segment, wal->end.byte, wal->sequence - 1};
    TRY(sysdb_log_end_set(wal->options.sysdb, &end, err));
    wal->end_noted = true;
    return OCH_OK;
}

och_code wal_close(struct wal *wal, och_error *err)
{
    mutex_lock(&wal->lock);
    bool again = wal->closed;
    wal->closed = true;
    mutex_unlock(&wal->lock);
    if (again)
        return OCH_OK;
    threads_stop(wal);
    return close_note(wal, err);
}

void wal_free(struct wal *wal)
{
    if (!wal)
        return;
    threads_stop(wal);
    assert(wal->queue == NULL);
    for (size_t i = 0; i < wal->punches.len; i++)
        wal_segment_unref(wal, wal->punches.at[i].segment);
    for (size_t i = 0; i < wal->slots.len; i++)
        wal_collection_free(wal->slots.at[i]);
    for (size_t i = 0; i < wal->segments.len; i++)
        wal_segment_unref(wal, wal->segments.at[i]);
    VEC_DONE(&wal->punches);
    VEC_DONE(&wal->slots);
    VEC_DONE(&wal->free_slots);
    VEC_DONE(&wal->segments);
    VEC_DONE(&wal->tombs);
    VEC_DONE(&wal->flight);
    VEC_DONE(&wal->parts);
    VEC_DONE(&wal->heads);
    map_done(&wal->collections);
    cond_done(&wal->work);
    cond_done(&wal->chore);
    cond_done(&wal->changed);
    mutex_done(&wal->lock);
    mutex_done(&wal->reap_lock);
    mem_free(wal->folder);
    mem_free(wal);
}

/* ---- what others steer by ---- */

och_code wal_head(struct wal *wal, uuid collection, uint64_t *ret_head, uint32_t *ret_dimension,
                  och_error *err)
{
    struct wal_collection scratch;
    const struct wal_collection *c;
    mutex_lock(&wal->lock);
    och_code code = wal_collection_peek(wal, collection, &scratch, &c, err);
    if (code == OCH_OK) {
        *ret_head = c->head;
        *ret_dimension = c->dimension;
    }
    mutex_unlock(&wal->lock);
    return code;
}

void wal_stats(struct wal *wal, struct wal_stats *ret_stats)
{
    mutex_lock(&wal->lock);
    *ret_stats = wal->stats;
    ret_stats->segments = wal->segments.len;
    ret_stats->oldest_segment = wal->segments.len ? wal->segments.at[0]->name.id : 0;
    ret_stats->read_only = wal->read_only;
    ret_stats->failing = wal->failing;
    mutex_unlock(&wal->lock);
}

struct aged {
    struct wal_place place;
    uuid id;
};

static int by_place(const void *a, const void *b)
{
    return wal_place_compare(((const struct aged *)a)->place, ((const struct aged *)b)->place);
}

size_t wal_oldest_collections(struct wal *wal, uuid *ret_ids, size_t max)
{
    VEC(struct aged) list = {0};
    mutex_lock(&wal->lock);
    for (size_t i = 0; i < wal->slots.len; i++) {
        const struct wal_collection *c = wal->slots.at[i];
        if (!c || c->start == c->entries.len)
            continue;
        const struct wal_entry *entry = &c->entries.at[c->start];
        if (!VEC_PUSH(&list, (struct aged){{entry->segment->name.id, entry->byte}, c->id}))
            break; // some are better than none
    }
    mutex_unlock(&wal->lock);
    if (list.len)
        qsort(list.at, list.len, sizeof(list.at[0]), by_place);
    size_t count = min_size(list.len, max);
    for (size_t i = 0; i < count; i++)
        ret_ids[i] = list.at[i].id;
    VEC_DONE(&list);
    return count;
}

bool wal_next_collection(struct wal *wal, size_t *cursor, uuid *ret_id, uint64_t *ret_rows,
                         uint64_t *ret_bytes, int64_t *ret_oldest_ms)
{
    bool found = false;
    mutex_lock(&wal->lock);
    while (!found && *cursor < wal->slots.len) {
        const struct wal_collection *c = wal->slots.at[(*cursor)++];
        if (!c || c->start == c->entries.len)
            continue;
        const struct wal_entry *entry = &c->entries.at[c->start];
        found = true;
        *ret_id = c->id;
        *ret_rows = c->head - entry->first;
        *ret_bytes = c->live_bytes;
        *ret_oldest_ms = entry->created_at;
    }
    mutex_unlock(&wal->lock);
    return found;
}

/* ---- trim ---- */

/* Under lock.  Both figures are means, the newest counts a quarter.  A flush of many collections trims all of them in one go: that is one. */
static void learn_trims(struct wal *wal, uint64_t bytes)
{
    uint64_t now = sched_mono_ns(), since = now - wal->trimmed_mono_ns;
    wal->trimmed_bytes += bytes;
    if (bytes == 0 || since < WAL_TRIM_NS)
        return;
    if (wal->trimmed_mono_ns) {
        wal->trim_ns = wal->trim_ns ? (wal->trim_ns * 3 + since) / 4 : since;
        wal->trim_bytes =
            wal->trim_bytes ? (wal->trim_bytes * 3 + wal->trimmed_bytes) / 4 : wal->trimmed_bytes;
    }
    wal->trimmed_mono_ns = now;
    wal->trimmed_bytes = 0;
}

och_code wal_trim(struct wal *wal, uuid collection, uint64_t to, och_error *err)
{
    struct wal_collection *c;
    mutex_lock(&wal->lock);
    och_code code = wal_collection_get(wal, collection, &c, err);
    if (code != OCH_OK) {
        mutex_unlock(&wal->lock);
        return code;
    }
    if (to > c->head) {
        code = FAIL(err, OCH_INTERNAL, "trim to %" PRIu64 " beyond the head %" PRIu64, to, c->head);
        wal_collection_unpin(wal, c);
        mutex_unlock(&wal->lock);
        return code;
    }
    uint64_t backlog = wal->stats.backlog_bytes;
    bool emptied = wal_collection_trim(wal, c, to);
    learn_trims(wal, backlog - wal->stats.backlog_bytes);
    wal_collection_unpin(wal, c);
    if (c->pins == 0 && !c->sealed && c->trimmed == c->head && c->in_flight == 0 &&
        wal->collections.len > WAL_EVICT_COUNT)
        wal_collection_remove(wal, c); // the catalogue knows all that it holds
    if (emptied && wal->current && wal->current->live_frames == 0 && !wal->queue &&
        wal->used >= ROLL_BYTES && wal->used >= wal->current->size / 4) {
        wal->roll_wanted = true;
        cond_signal(&wal->work);
    }
    mutex_unlock(&wal->lock);
    och_error why = {0};
    if (emptied && !wal->options.read_only && wal_reap(wal, &why) != OCH_OK)
        trace_line(wal->options.trace, TRACE_WARN, "wal", "segments stay for now", "error",
                   why.message, NULL);
    return OCH_OK;
}

/* ---- drop (D15) ---- */

och_code wal_seal(struct wal *wal, uuid collection, och_error *err)
{
    struct wal_collection *c;
    mutex_lock(&wal->lock);
    och_code code = wal_collection_get(wal, collection, &c, err);
    if (code == OCH_OK) {
        c->sealed = true;
        wal_wake_changed(wal);
        while (c->in_flight || c->turn)
            wal_ignore(wal_wait_changed(wal, NULL, NULL));
        wal_collection_unpin(wal, c);
    }
    mutex_unlock(&wal->lock);
    return code;
}

void wal_unseal(struct wal *wal, uuid collection)
{
    mutex_lock(&wal->lock);
    struct wal_collection *c = wal_collection_find(wal, collection);
    if (c)
        c->sealed = false;
    mutex_unlock(&wal->lock);
}

/* Whole pages inside the payloads: headers stay, since replay reads them. */
static void forget_punch(struct wal *wal, const struct wal_collection *c)
{
    for (size_t i = c->start; i < c->entries.len; i++) {
        const struct wal_entry *entry = &c->entries.at[i];
        uint64_t from = round_up(entry->byte + WAL_HEADER_SIZE, WAL_PAGE);
        uint64_t to = (entry->byte + WAL_HEADER_SIZE + entry->payload_size) & ~(WAL_PAGE - 1);
        if (to <= from)
            continue;
        if (!VEC_PUSH(&wal->punches, (struct wal_range){entry->segment, from, to - from}))
            return; // the space comes back with the segment
        entry->segment->refs++;
    }
}

void wal_forget(struct wal *wal, uuid collection)
{
    mutex_lock(&wal->lock);
    wal->epoch++; // whoever asked the catalogue before the drop asks again
    struct wal_collection *c = wal_collection_find(wal, collection);
    bool emptied = false;
    if (c) {
        assert(c->in_flight == 0);
        c->sealed = true;
        if (!wal->options.read_only)
            forget_punch(wal, c);
        emptied = wal_collection_trim(wal, c, UINT64_MAX);
        wal_collection_remove(wal, c);
    }
    struct wal_tomb tomb = {collection, wal->current ? wal->current->name.id : wal->next_id - 1};
    (void)VEC_PUSH(&wal->tombs, tomb); // else the row stays until the next open finds it
    wal->reap_wanted |= emptied;
    cond_signal(&wal->chore);
    wal_wake_changed(wal);
    mutex_unlock(&wal->lock);
}
