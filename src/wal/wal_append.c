/* SPDX-License-Identifier: Apache-2.0 */
/* Appending: throttle, batch ids, the collection's turn, the queue.  Decoding and checksums happen in the caller's
 * thread, so that what the writer does per batch stays small. */
#include "base/retry.h"
#include "wal/wal_internal.h"

#include "kernel/kernel.h"

#include <inttypes.h>

#define SLOW_STEP_NS 1000000ull /* per tenth of the way from slow to stop */

struct append { /* one call's state */
    struct wal *wal;
    struct wal_append *ask;
    struct wal_collection *c;
    struct wal_draft draft;
    struct wal_request request;
    bool turn; /* kept beyond the decision, for what comes after the flush */
};

/* Under lock: until trims will have taken so many bytes off the backlog, if they go on as lately, or as long as there was none.  0: none was seen. */
static uint64_t room_ns(const struct wal *wal, uint64_t bytes)
{
    if (wal->trim_bytes == 0)
        return 0;
    uint64_t since = sched_mono_ns() - wal->trimmed_mono_ns;
    uint64_t each = since > wal->trim_ns ? since : wal->trim_ns, ns;
    if (__builtin_mul_overflow((bytes + wal->trim_bytes - 1) / wal->trim_bytes, each, &ns))
        return UINT64_MAX;
    return ns;
}

och_code wal_throttle(struct wal *wal, const struct limits_of_work *limits, och_error *err)
{
    const struct wal_options *o = &wal->options;
    mutex_lock(&wal->lock);
    uint64_t backlog = wal->stats.backlog_bytes;
    uint64_t after_ns = backlog >= o->stop_bytes ? room_ns(wal, backlog - o->stop_bytes + 1) : 0;
    bool closed = wal->closed;
    mutex_unlock(&wal->lock);
    if (closed)
        return FAIL(err, OCH_CLOSED, "the log is closed");
    if (o->read_only)
        return FAIL(err, OCH_UNSUPPORTED, "the database was opened read-only");
    TRY(work_check(limits, err));
    if (backlog >= o->stop_bytes) {
        och_code code =
            FAIL(err, OCH_BUSY,
                 "%" PRIu64 " MiB of writes wait for compaction, the limit is %" PRIu64 " MiB",
                 backlog >> 20, o->stop_bytes >> 20);
        retry_hint(err, after_ns);
        return code;
    }
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
        c->turn = a->turn = code == OCH_OK && *ret_append && a->ask->after;
        wal_wake_changed(wal);
        TRY(code);
        if (!*ret_append) {
            /* nothing is on its way: it is the last one's, too */
            if (a->ask->as_of_ms > c->next_created_at)
                c->next_created_at = c->last_created_at = a->ask->as_of_ms;
            return OCH_OK;
        }
        if (c->sealed)
            return gone(c->id, err);
    }
    if (wal->closed)
        return FAIL(err, OCH_CLOSED, "the log is closed");
    if (a->request.dimension && c->dimension && a->request.dimension != c->dimension)
        return FAIL(err, OCH_INVALID, "Collection expecting embedding with dimension of %u, got %u",
                    c->dimension, a->request.dimension);
    a->request.collection = c;
    a->request.as_of_ms = a->ask->as_of_ms;
    a->request.err = err;
    wal_request_push(wal, &a->request);
    return OCH_OK;
}

static och_code append_run(struct append *a, struct wal_appended *ret, och_error *err)
{
    struct wal *wal = a->wal;
    TRY(wal_throttle(wal, &a->ask->limits, err));
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
    if (queued && code == OCH_OK && a->turn)
        code = a->ask->after(a->ask->context, ret, a->draft.batch->created_at, err);
    if (a->c) {
        mutex_lock(&wal->lock);
        if (a->turn) {
            a->c->turn = false;
            wal_wake_changed(wal);
        }
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
