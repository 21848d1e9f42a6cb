/* SPDX-License-Identifier: Apache-2.0 */
/* The writer: one thread that turns the queue into groups.  While it flushes one, all arriving batches queue;
 * then the queue is the next group.  Offsets are given when a group is planned, so a failed flush only takes
 * back its own.  After the flush: index, sink, acknowledgement, in this order. */
#include "wal/wal_internal.h"

#include "base/bytes.h"
#include "kernel/kernel.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define HEAD_SLOT  192u /* padding of the payload before, then a header */
#define HEAD_START 64u

static const uint8_t zeros[WAL_ALIGN];

void wal_request_init(struct wal_request *request)
{
    *request = (struct wal_request){0};
    mutex_init(&request->lock, RANK_LEAF);
    cond_init(&request->wake);
}

void wal_request_done(struct wal_request *request)
{
    cond_done(&request->wake);
    mutex_done(&request->lock);
}

void wal_request_push(struct wal *wal, struct wal_request *request)
{
    request->next = NULL;
    bool idle = wal->queue == NULL;
    *wal->queue_end = request;
    wal->queue_end = &request->next;
    request->collection->in_flight++;
    wal->stats.backlog_bytes += request->bytes;
    wal->stats.backlog_batches += request->draft_count;
    if (idle)
        cond_signal(&wal->work);
}

och_code wal_request_wait(struct wal_request *request)
{
    mutex_lock(&request->lock);
    while (!request->done)
        cond_wait(&request->wake, &request->lock);
    mutex_unlock(&request->lock);
    return request->code;
}

static void request_wake(struct wal_request *request)
{
    mutex_lock(&request->lock);
    request->done = true;
    cond_signal(&request->wake);
    mutex_unlock(&request->lock); // from here on it may be gone
}

static struct wal_request *queue_pop(struct wal *wal)
{
    struct wal_request *request = wal->queue;
    wal->queue = request->next;
    if (!wal->queue)
        wal->queue_end = &wal->queue;
    return request;
}

/* Under lock: the books of a request that did not get into the log. */
static void request_fail(struct wal *wal, struct wal_request *request, och_code code)
{
    struct wal_collection *c = request->collection;
    assert(c->in_flight > 0);
    c->in_flight--;
    wal->stats.backlog_bytes -= request->bytes;
    wal->stats.backlog_batches -= request->draft_count;
    if (request->id)
        wal_id_free(c, request->id);
    request->id = NULL;
    request->code = code;
    wal_wake_changed(wal);
}

static void queue_fail(struct wal *wal, och_code code, const och_error *why)
{
    while (wal->queue) {
        struct wal_request *request = queue_pop(wal);
        (void)FAIL_OS(request->err, code, why->os_errno, "%s", why->message);
        request_fail(wal, request, code);
        request_wake(request);
    }
}

/* ---- a flush ---- */

static bool fits(const struct wal *wal, uint64_t bytes)
{
    return wal->current && wal->byte + FIRST_BYTES + bytes <= wal->current->size;
}

/*
 * Have room for a request of so many bytes.  No lock held.  OCH_BUSY: no room on the disk; OCH_UNAVAILABLE: the log
 * cannot be written.
 */
static och_code room_make(struct wal *wal, uint64_t bytes, bool deletes, och_error *err)
{
    och_error why = {0};
    bool wait = wal->failing && sched_mono_ns() < wal->retry_mono_ns;
    bool blocked = wal->must_mark || !fits(wal, bytes) || (wal->rescue && !deletes);
    if (wait && blocked && !deletes) // those have their reserve
        return FAIL_OS(err, OCH_BUSY, wal->failure.os_errno, "the log cannot be written now: %s",
                       wal->failure.message);
    bool fresh = wal->must_mark;
    och_code code = fresh ? wal_writer_mark(wal, &why) : wal_end_forget(wal, &why);
    blocked = !fits(wal, bytes) || (wal->rescue && !deletes);
    if (code == OCH_OK && blocked) {
        struct wal_segment *segment;
        code = wal_segment_next(wal, FIRST_BYTES + bytes, deletes, &segment, &why);
        if (code == OCH_OK) {
            wal_current_close(wal);
            wal_current_set(wal, segment);
            fresh = true;
        }
    }
    if (code == OCH_OK) {
        wal_set_working(wal, fresh);
        return OCH_OK;
    }
    wal_set_failing(wal, &why, wal->must_mark && !wal_may_pass(&why));
    if (wal_is_full(&why))
        return FAIL_OS(err, OCH_BUSY, why.os_errno, "no space left on the device for the log: %s",
                       why.message);
    return FAIL_OS(err, OCH_UNAVAILABLE, why.os_errno, "the log cannot be written: %s",
                   why.message);
}

/* Under lock: give the request its offsets, as if all before it in the group had succeeded. */
static och_code request_place(struct wal *wal, struct wal_request *request, uint32_t frame_count)
{
    struct wal_collection *c = request->collection;
    uint32_t dimension = c->next_dimension;
    size_t frames = frame_count + request->draft_count;
    if (request->dimension && dimension && request->dimension != dimension)
        return FAIL(request->err, OCH_INVALID,
                    "Collection expecting embedding with dimension of %u, got %u", dimension,
                    request->dimension);
    if (request->placed && request->drafts[0].batch->first != c->next_head)
        return FAIL(request->err, OCH_CONFLICT,
                    "the log of the copy is at offset %" PRIu64 ", not %" PRIu64, c->next_head,
                    request->drafts[0].batch->first);
    if (!VEC_RESERVE(&c->entries, c->entries.len + c->flight_frames + request->draft_count) ||
        !VEC_RESERVE(&wal->parts, 2 * frames + 2) ||
        !VEC_RESERVE(&wal->heads, (frames + 1) * HEAD_SLOT))
        return FAIL_NO_MEMORY(request->err, "a flush of the log");
    if (request->fixes_dimension && request->dimension)
        dimension = request->dimension;
    int64_t now = request->as_of_ms ? request->as_of_ms : wal_now_ms(wal);
    for (size_t i = 0; i < request->draft_count; i++) {
        struct wal_batch *batch = request->drafts[i].batch;
        if (!request->placed) {
            batch->first = c->next_head;
            batch->created_at = now > c->next_created_at ? now : c->next_created_at;
            batch->dimension = dimension;
        }
        assert(batch->first == c->next_head);
        c->next_head += batch->count;
        c->next_created_at = batch->created_at;
        c->next_dimension = batch->dimension;
    }
    c->flight_frames += (uint32_t)request->draft_count;
    return OCH_OK;
}

/* Under lock: the queue's head, and all after it that fit, become the group. */
static uint32_t plan(struct wal *wal, uint64_t *ret_bytes)
{
    uint64_t room = wal->current->size - wal->byte - FIRST_BYTES, bytes = 0;
    uint32_t frame_count = 0;
    wal->flight.len = 0;
    while (wal->queue) {
        struct wal_request *request = wal->queue;
        if (request->bytes > room - bytes || (frame_count && bytes > WAL_GROUP_BYTES) ||
            (wal->rescue && !request->deletes))
            break;
        och_code code = VEC_RESERVE(&wal->flight, wal->flight.len + 1)
                            ? request_place(wal, request, frame_count)
                            : FAIL_NO_MEMORY(request->err, "a flush of the log");
        (void)queue_pop(wal);
        if (code != OCH_OK) {
            request_fail(wal, request, code);
            request_wake(request);
            continue;
        }
        wal->flight.at[wal->flight.len++] = request;
        frame_count += (uint32_t)request->draft_count;
        bytes += request->bytes;
    }
    *ret_bytes = bytes;
    return frame_count;
}

/* Headers around the payloads, which are written from where they are. */
static och_code flight_put(struct wal *wal, uint32_t frame_count, uint64_t bytes, och_error *err)
{
    struct wal_group group = {.size = WAL_HEADER_SIZE + bytes, .frame_count = frame_count};
    uint64_t byte = wal->byte + WAL_HEADER_SIZE;
    uint8_t *slot = wal->heads.at;
    size_t padding = 0;
    uint32_t index = 0;
    wal->parts.len = 0;
    wal->parts.at[wal->parts.len++] = (struct iovec){slot + HEAD_START, WAL_HEADER_SIZE};
    for (size_t i = 0; i < wal->flight.len; i++) {
        const struct wal_request *request = wal->flight.at[i];
        for (size_t j = 0; j < request->draft_count; j++) {
            const struct wal_draft *draft = &request->drafts[j];
            const struct wal_batch *batch = draft->batch;
            struct wal_frame frame = {
                .payload_size = (uint32_t)batch->payload->len,
                .payload_crc = draft->payload_crc,
                .count = batch->count,
                .dimension = batch->dimension,
                .kinds = draft->kinds,
                .index = index++,
                .collection = batch->collection,
                .batch_id = batch->batch_id,
                .first = batch->first,
                .request_hash = batch->request_hash,
                .sequence = wal->sequence,
                .created_at = batch->created_at,
            };
            slot += HEAD_SLOT;
            memset(slot, 0, HEAD_START);
            wal_frame_encode(&frame, wal->current->name, byte, slot + HEAD_START);
            wal->parts.at[wal->parts.len++] =
                (struct iovec){slot + HEAD_START - padding, padding + WAL_HEADER_SIZE};
            wal->parts.at[wal->parts.len++] =
                (struct iovec){batch->payload->at, frame.payload_size};
            padding = (size_t)(wal_frame_bytes(frame.payload_size) - WAL_HEADER_SIZE) -
                      frame.payload_size;
            byte += wal_frame_bytes(frame.payload_size);
        }
    }
    assert(index == frame_count && byte == wal->byte + group.size);
    wal->parts.at[wal->parts.len++] = (struct iovec){(void *)(uintptr_t)zeros, padding};
    return wal_group_put(wal, wal->parts.at, wal->parts.len, &group,
                         wal->options.durability == WAL_ALWAYS, err);
}

/* Under lock: the group is durable; put it into the index.  Everything it needs was reserved. */
static void flight_commit(struct wal *wal, struct wal_segment *segment, uint64_t byte)
{
    byte += WAL_HEADER_SIZE;
    for (size_t i = 0; i < wal->flight.len; i++) {
        struct wal_request *request = wal->flight.at[i];
        struct wal_collection *c = request->collection;
        for (size_t j = 0; j < request->draft_count; j++) {
            const struct wal_batch *batch = request->drafts[j].batch;
            uint32_t size = (uint32_t)batch->payload->len;
            assert(c->entries.len < c->entries.cap);
            c->entries.at[c->entries.len++] = (struct wal_entry){
                .segment = segment,
                .byte = byte,
                .first = batch->first,
                .created_at = batch->created_at,
                .count = batch->count,
                .dimension = batch->dimension,
                .payload_size = size,
                .payload_crc = request->drafts[j].payload_crc,
            };
            segment->live_frames++;
            c->live_bytes += wal_frame_bytes(size);
            byte += wal_frame_bytes(size);
            c->head = batch->first + batch->count;
            c->dimension = batch->dimension;
            c->last_created_at = batch->created_at;
        }
        wal->stats.appends += request->draft_count;
        if (request->id) {
            const struct wal_batch *batch = request->drafts[0].batch;
            wal_id_done(c, request->id, batch->first, batch->count, batch->created_at);
            request->id = NULL;
        }
        c->flight_frames = 0;
    }
}

/* After the flush, before the acknowledgements. */
static void flight_deliver(struct wal *wal)
{
    const struct wal_sink *sink = &wal->options.sink;
    for (size_t i = 0; sink->deliver && i < wal->flight.len; i++) {
        struct wal_request *request = wal->flight.at[i];
        for (size_t j = 0; j < request->draft_count; j++)
            sink->deliver(sink->context, request->drafts[j].batch);
    }
    mutex_lock(&wal->lock);
    for (size_t i = 0; i < wal->flight.len; i++)
        wal->flight.at[i]->collection->in_flight--;
    wal_wake_changed(wal);
    mutex_unlock(&wal->lock);
}

/* The flush failed: offsets and dimensions are as before it (D11). */
static void flight_fail(struct wal *wal, const och_error *why)
{
    mutex_lock(&wal->lock);
    for (size_t i = 0; i < wal->flight.len; i++) {
        struct wal_request *request = wal->flight.at[i];
        struct wal_collection *c = request->collection;
        c->next_head = c->head;
        c->next_dimension = c->dimension;
        c->next_created_at = c->last_created_at;
        c->flight_frames = 0;
        (void)FAIL_OS(request->err, OCH_UNAVAILABLE, why->os_errno,
                      "the write could not be made durable, its outcome is unknown: %s",
                      why->message);
        request_fail(wal, request, OCH_UNAVAILABLE);
    }
    mutex_unlock(&wal->lock);
}

static void spare_want(struct wal *wal)
{
    if (!wal->current || wal->byte < wal->current->size / 2)
        return;
    mutex_lock(&wal->lock);
    if (wal->spare_state == SPARE_NONE && sched_mono_ns() >= wal->spare_retry_ns) {
        wal->spare_state = SPARE_WANTED;
        cond_signal(&wal->chore);
    }
    mutex_unlock(&wal->lock);
}

/* Under lock, which is given up meanwhile. */
static void queue_flush(struct wal *wal)
{
    och_error why = {0};
    uint64_t bytes = wal->queue->bytes;
    bool deletes = wal->queue->deletes;
    if (wal->read_only) {
        (void)FAIL_OS(&why, OCH_UNAVAILABLE, wal->failure.os_errno,
                      "the log failed twice and takes no writes until it is reopened: %s",
                      wal->failure.message);
        queue_fail(wal, OCH_UNAVAILABLE, &why);
        return;
    }
    mutex_unlock(&wal->lock);
    och_code code = room_make(wal, bytes, deletes, &why);
    mutex_lock(&wal->lock);
    if (code != OCH_OK) {
        /* Others may fit where this one does not. */
        struct wal_request *request = queue_pop(wal);
        (void)FAIL_OS(request->err, code, why.os_errno, "%s", why.message);
        request_fail(wal, request, code);
        request_wake(request);
        return;
    }
    uint32_t frame_count = plan(wal, &bytes);
    mutex_unlock(&wal->lock);
    if (frame_count) {
        struct wal_segment *segment = wal->current;
        uint64_t byte = wal->byte;
        code = flight_put(wal, frame_count, bytes, &why);
        if (code == OCH_OK) {
            mutex_lock(&wal->lock);
            flight_commit(wal, segment, byte);
            mutex_unlock(&wal->lock);
            flight_deliver(wal);
        } else {
            wal_resume(wal);
            flight_fail(wal, &why);
        }
        for (size_t i = 0; i < wal->flight.len; i++)
            request_wake(wal->flight.at[i]);
        wal->flight.len = 0;
        spare_want(wal);
    }
    mutex_lock(&wal->lock);
}

/* ---- the thread ---- */

/* Under lock, given up meanwhile: a trim left nothing in `current` that anybody needs. */
static void roll(struct wal *wal)
{
    wal->roll_wanted = false;
    if (!wal->current || wal->read_only || wal->failing)
        return;
    mutex_unlock(&wal->lock);
    wal_current_close(wal);
    wal->must_mark = true;
    wal_resume(wal);
    mutex_lock(&wal->lock);
    wal->reap_wanted = true;
    cond_signal(&wal->chore);
}

/* Under lock, given up meanwhile: the queue is empty. */
static void idle(struct wal *wal)
{
    bool relaxed = wal->options.durability == WAL_INTERVAL;
    bool durable = wal_place_compare(wal->synced, wal->data_end) >= 0;
    bool sync_due = relaxed && wal->current && !durable;
    bool note_due = wal->current && durable && wal_place_compare(wal->noted, wal->data_end) < 0 &&
                    wal->byte + FIRST_BYTES <= wal->current->size;
    if (!sync_due && !note_due) {
        cond_wait(&wal->work, &wal->lock);
        return;
    }
    uint64_t interval_ns = wal->options.interval_ms * 1000000ull;
    uint64_t until = note_due ? sched_mono_ns() + WAL_IDLE_NS : wal->sync_mono_ns + interval_ns;
    bool woken = cond_wait_until(&wal->work, &wal->lock, until);
    if (woken || wal->queue || wal->stopping)
        return;
    mutex_unlock(&wal->lock);
    och_error why = {0};
    och_code code = note_due ? wal_writer_note(wal, false, &why) : wal_data_sync(wal, &why);
    if (code != OCH_OK) {
        trace_line(wal->options.trace, TRACE_ERROR, "wal", "a segment failed", "error", why.message,
                   NULL);
        wal_resume(wal);
    }
    mutex_lock(&wal->lock);
}

/* In WAL_INTERVAL a busy log syncs between flushes. */
static void interval_sync(struct wal *wal)
{
    if (wal->options.durability != WAL_INTERVAL || !wal->current ||
        sched_mono_ns() - wal->sync_mono_ns < wal->options.interval_ms * 1000000ull)
        return;
    mutex_unlock(&wal->lock);
    och_error why = {0};
    if (wal_data_sync(wal, &why) != OCH_OK) {
        trace_line(wal->options.trace, TRACE_ERROR, "wal", "a segment failed", "error", why.message,
                   NULL);
        wal_resume(wal);
    }
    mutex_lock(&wal->lock);
}

void wal_writer_run(void *arg)
{
    struct wal *wal = arg;
    mutex_lock(&wal->lock);
    for (;;) {
        if (wal->queue) {
            queue_flush(wal);
            interval_sync(wal);
        } else if (wal->stopping) {
            break;
        } else if (wal->roll_wanted) {
            roll(wal);
        } else {
            idle(wal);
        }
    }
    mutex_unlock(&wal->lock);
}
