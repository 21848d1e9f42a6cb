/* SPDX-License-Identifier: Apache-2.0 */
/* The Log's public calls: opening and closing, appending with its turn, batch ids and throttle, trimming,
 * sealing, and the numbers that others steer by. */
#include "wal/wal_internal.h"

#include "kernel/kernel.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define SLOW_STEP_NS 1000000ull /* per tenth of the way from slow to stop */
#define ROLL_BYTES   (256ull << 10)

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

/* ---- append ---- */

struct append { /* one call's state */
    struct wal *wal;
    struct wal_append *ask;
    struct wal_collection *c;
    struct wal_draft draft;
    struct wal_request request;
};

/* Slow writers down, then refuse them, before the backlog can hurt. */
static och_code append_throttle(struct wal *wal, const struct limits_of_work *limits,
                                och_error *err)
{
    const struct wal_options *o = &wal->options;
    mutex_lock(&wal->lock);
    uint64_t backlog = wal->stats.backlog_bytes;
    bool closed = wal->closed;
    mutex_unlock(&wal->lock);
    if (closed)
        return FAIL(err, OCH_CLOSED, "the log is closed");
    if (o->read_only)
        return FAIL(err, OCH_UNSUPPORTED, "the database was opened read-only");
    TRY(work_check(limits, err));
    if (backlog >= o->stop_bytes)
        return FAIL(err, OCH_BUSY,
                    "%" PRIu64 " MiB of writes wait for compaction, the limit is %" PRIu64
                    " MiB: retry later",
                    backlog >> 20, o->stop_bytes >> 20);
    if (backlog >= o->slow_bytes) {
        uint64_t tenth = (backlog - o->slow_bytes) * 10 / (o->stop_bytes - o->slow_bytes);
        sched_sleep_ns((tenth + 1) * SLOW_STEP_NS);
    }
    return work_check(limits, err);
}

uint32_t wal_kinds_of(const struct batch *rows)
{
    uint32_t kinds = 0;
    for (uint32_t i = 0; i < rows->count; i++)
        kinds |= 1u << rows->ops[i];
    kinds |= rows->vectors ? (uint32_t)WAL_KIND_VECTORS : 0;
    kinds |= rows->document_ends ? (uint32_t)WAL_KIND_DOCUMENTS : 0;
    kinds |= rows->uri_ends ? (uint32_t)WAL_KIND_URIS : 0;
    kinds |= rows->metadata_ends ? (uint32_t)WAL_KIND_METADATA : 0;
    kinds |= rows->expiries ? (uint32_t)WAL_KIND_EXPIRY : 0;
    return kinds;
}

/* Decode and checksum in the caller's thread: what the writer does per batch stays small. */
static och_code append_prepare(struct append *a, och_error *err)
{
    struct wal_append *ask = a->ask;
    if (ask->payload->len > LIMIT_PAYLOAD_BYTES)
        return FAIL(err, OCH_TOO_LARGE, "a batch of %zu bytes, at most %llu", ask->payload->len,
                    LIMIT_PAYLOAD_BYTES);
    struct batch rows;
    slice bytes = {ask->payload->at, ask->payload->len};
    TRY(batch_open(bytes, &rows, err));
    if (rows.count != ask->count || rows.count == 0)
        return FAIL(err, OCH_INTERNAL, "a batch of %u rows was announced with %u", rows.count,
                    ask->count);
    struct wal_batch *batch = MEM_NEW(struct wal_batch);
    if (!batch)
        return FAIL_NO_MEMORY(err, "a batch");
    atomic_init(&batch->refs, 1);
    batch->collection = ask->collection;
    batch->count = ask->count;
    batch->batch_id = ask->batch_id;
    batch->request_hash = ask->request_hash;
    batch->payload = payload_ref(ask->payload);
    batch->rows = rows;
    a->draft.batch = batch;
    a->draft.kinds = wal_kinds_of(&rows);
    a->draft.payload_crc = kernel_get()->crc32c(0, bytes.at, bytes.len);
    a->request.drafts = &a->draft;
    a->request.draft_count = 1;
    a->request.bytes = wal_frame_bytes((uint32_t)bytes.len);
    a->request.dimension = ask->dimension;
    a->request.fixes_dimension = ask->fixes_dimension;
    a->request.deletes = a->draft.kinds == 1u << BATCH_DELETE;
    return OCH_OK;
}

static och_code id_answer(uint64_t hash, uint64_t first, uint32_t count,
                          const struct wal_append *ask, struct wal_appended *ret, och_error *err)
{
    if (hash != ask->request_hash)
        return FAIL(err, OCH_CONFLICT, "this idempotency key was used with another request");
    *ret = (struct wal_appended){.first = first, .count = count, .repeated = true};
    return OCH_OK;
}

/* Under lock.  Whether this batch id was applied (ret->repeated), else it is now in flight as ours. */
static och_code append_id(struct append *a, struct wal_appended *ret, och_error *err)
{
    struct wal *wal = a->wal;
    struct wal_append *ask = a->ask;
    bool asked = false;
    for (;;) {
        uint64_t *found = map_find(&a->c->ids, uuid_slice(&ask->batch_id));
        struct wal_id *id = found ? (struct wal_id *)(uintptr_t)*found : NULL;
        if (id && !id->in_flight && wal_now_ms(wal) - id->created_at <= WAL_ID_MS)
            return id_answer(id->request_hash, id->first, id->count, ask, ret, err);
        if (id && id->in_flight) {
            if (id->request_hash != ask->request_hash)
                return id_answer(id->request_hash, 0, 0, ask, ret, err);
            TRY(wal_wait_changed(wal, &ask->limits, err));
            continue;
        }
        if (!asked && !id) { // trimmed: the catalogue has it since its rows are in the parts
            struct sysdb_batch_id row;
            bool known = false;
            asked = true;
            mutex_unlock(&wal->lock);
            och_code code = sysdb_batch_id_get(wal->options.sysdb, ask->collection, ask->batch_id,
                                               &row, &known, err);
            mutex_lock(&wal->lock);
            if (code != OCH_OK)
                return code;
            if (known)
                return id_answer(row.request_hash, row.first, row.count, ask, ret, err);
            continue; // meanwhile somebody else may have come with it
        }
        if (id) // too old to count: the new one takes its place
            wal_id_drop(a->c, id);
        break;
    }
    struct wal_id *id = MEM_NEW(struct wal_id);
    if (!id)
        return FAIL_NO_MEMORY(err, "a batch id");
    *id = (struct wal_id){
        .batch_id = ask->batch_id, .request_hash = ask->request_hash, .in_flight = true};
    bool fresh;
    uint64_t *value = map_at(&a->c->ids, uuid_slice(&id->batch_id), &fresh);
    if (!value) {
        mem_free(id);
        return FAIL_NO_MEMORY(err, "a batch id");
    }
    assert(fresh);
    *value = (uint64_t)(uintptr_t)id;
    a->request.id = id;
    return OCH_OK;
}

static och_code gone(uuid id, och_error *err)
{
    char text[UUID_TEXT_SIZE];
    return FAIL(err, OCH_NOT_FOUND, "Collection [%s] does not exist.", uuid_format(id, text));
}

/* Under lock, given up meanwhile: decide while nothing of the collection is on its way. */
static och_code append_decide(struct append *a, bool *ret_append, och_error *err)
{
    struct wal *wal = a->wal;
    while (a->c->in_flight) {
        TRY(wal_wait_changed(wal, &a->ask->limits, err));
        if (a->c->sealed)
            return gone(a->c->id, err);
    }
    uint64_t head = a->c->head;
    bool append = true;
    mutex_unlock(&wal->lock);
    och_code code = a->ask->decide(a->ask->context, head, a->ask, &append, err);
    append = append && code == OCH_OK && a->ask->count > 0;
    if (append)
        code = append_prepare(a, err);
    mutex_lock(&wal->lock);
    *ret_append = append;
    return code;
}

/* Under lock: into the queue, behind everything of this collection that came before. */
static och_code append_queue(struct append *a, bool *ret_append, och_error *err)
{
    struct wal *wal = a->wal;
    struct wal_collection *c = a->c;
    while (c->turn && !c->sealed)
        TRY(wal_wait_changed(wal, &a->ask->limits, err));
    if (c->sealed)
        return gone(c->id, err);
    *ret_append = true;
    if (a->ask->decide) {
        c->turn = true;
        och_code code = append_decide(a, ret_append, err);
        c->turn = false;
        wal_wake_changed(wal);
        TRY(code);
        if (!*ret_append)
            return OCH_OK;
        if (c->sealed)
            return gone(c->id, err);
    }
    if (wal->closed)
        return FAIL(err, OCH_CLOSED, "the log is closed");
    if (a->request.dimension && c->dimension && a->request.dimension != c->dimension)
        return FAIL(err, OCH_INVALID, "Collection expecting embedding with dimension of %u, got %u",
                    c->dimension, a->request.dimension);
    a->request.collection = c;
    a->request.err = err;
    wal_request_push(wal, &a->request);
    return OCH_OK;
}

static och_code append_run(struct append *a, struct wal_appended *ret, och_error *err)
{
    struct wal *wal = a->wal;
    TRY(append_throttle(wal, &a->ask->limits, err));
    if (!a->ask->decide)
        TRY(append_prepare(a, err));
    mutex_lock(&wal->lock);
    och_code code = wal_collection_get(wal, a->ask->collection, &a->c, err);
    if (code == OCH_OK && !uuid_is_zero(a->ask->batch_id))
        code = append_id(a, ret, err);
    bool queued = false;
    if (code == OCH_OK && !ret->repeated)
        code = append_queue(a, &queued, err);
    queued = queued && code == OCH_OK;
    if (!queued && a->request.id) {
        wal_id_free(a->c, a->request.id);
        wal_wake_changed(wal);
    }
    mutex_unlock(&wal->lock);
    if (queued)
        code = wal_request_wait(&a->request);
    if (queued && code == OCH_OK)
        *ret =
            (struct wal_appended){.first = a->draft.batch->first, .count = a->draft.batch->count};
    if (a->c) {
        mutex_lock(&wal->lock);
        wal_collection_unpin(wal, a->c);
        mutex_unlock(&wal->lock);
    }
    return code;
}

och_code wal_append(struct wal *wal, struct wal_append *request, struct wal_appended *ret_appended,
                    och_error *err)
{
    struct append a = {.wal = wal, .ask = request};
    struct wal_appended appended = {0};
    wal_request_init(&a.request);
    och_code code = append_run(&a, &appended, err);
    wal_batch_unref(a.draft.batch);
    wal_request_done(&a.request);
    if (code == OCH_OK)
        *ret_appended = appended;
    return code;
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
    bool emptied = wal_collection_trim(wal, c, to);
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
