/* SPDX-License-Identifier: Apache-2.0 */
/* Batches back from the segments: a collection's tail, and its copy for a fork (D16).  The index says where each
 * frame stands, so only its own payloads are read; they are checked and decoded, and a bad one is that
 * collection's damage alone (D19). */
#include "wal/wal_internal.h"

#include "base/bytes.h"
#include "kernel/kernel.h"

#include <inttypes.h>
#include <string.h>

typedef VEC(struct wal_entry) entry_list;

static void entries_drop(struct wal *wal, entry_list *list)
{
    mutex_lock(&wal->lock);
    for (size_t i = 0; i < list->len; i++)
        wal_segment_unref(wal, list->at[i].segment);
    mutex_unlock(&wal->lock);
    VEC_DONE(list);
}

/* The first live entry that ends after `from`. */
static size_t entry_find(const struct wal_collection *c, uint64_t from)
{
    size_t low = c->start, high = c->entries.len;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct wal_entry *entry = &c->entries.at[middle];
        if (entry->first + entry->count <= from)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Copies of the entries in [from, upto), their segments held. */
static och_code entries_take(struct wal *wal, uuid collection, uint64_t from, uint64_t upto,
                             entry_list *list, och_error *err)
{
    struct wal_collection scratch;
    const struct wal_collection *c;
    mutex_lock(&wal->lock);
    och_code code = wal_collection_peek(wal, collection, &scratch, &c, err);
    if (code != OCH_OK) {
        mutex_unlock(&wal->lock);
        return code;
    }
    if (from < c->trimmed) {
        code = FAIL(err, OCH_STALE, "the log begins at offset %" PRIu64 ", not %" PRIu64,
                    c->trimmed, from);
    } else {
        size_t start = entry_find(c, from), end = start;
        while (end < c->entries.len && c->entries.at[end].first < upto)
            end++;
        if (!VEC_RESERVE(list, end - start))
            code = FAIL_NO_MEMORY(err, "a tail");
        for (size_t i = start; code == OCH_OK && i < end; i++) {
            list->at[list->len++] = c->entries.at[i];
            c->entries.at[i].segment->refs++;
        }
    }
    mutex_unlock(&wal->lock);
    return code;
}

static och_code damaged(const struct wal_entry *entry, uuid collection, const char *why,
                        och_error *err)
{
    char text[UUID_TEXT_SIZE];
    return FAIL(err, OCH_CORRUPT,
                "log %s byte %" PRIu64 ": batch at offset %" PRIu64 " of collection %s: %s",
                file_path(entry->segment->file), entry->byte, entry->first,
                uuid_format(collection, text), why);
}

/* The frame's header once more: the index does not keep batch ids and hashes. */
static och_code header_read(const struct wal_entry *entry, uuid collection, struct wal_batch *batch,
                            och_error *err)
{
    uint8_t head[WAL_HEADER_SIZE];
    struct wal_frame frame;
    size_t len;
    TRY(file_read(entry->segment->file, entry->byte, head, sizeof(head), &len, err));
    if (len < sizeof(head) || !wal_frame_decode(head, entry->segment->name, entry->byte, &frame) ||
        frame.first != entry->first || frame.payload_size != entry->payload_size)
        return damaged(entry, collection, "its header changed", err);
    batch->batch_id = frame.batch_id;
    batch->request_hash = frame.request_hash;
    return OCH_OK;
}

static och_code batch_fill(struct wal *wal, const struct wal_entry *entry, uuid collection,
                           struct wal_batch *batch, och_error *err)
{
    struct budget *budget = wal->options.budget;
    TRY(header_read(entry, collection, batch, err));
    if (budget && budget_free(budget) < (int64_t)entry->payload_size)
        return FAIL(err, OCH_BUSY, "a tail needs %u bytes more, %" PRId64 " are free",
                    entry->payload_size, budget_free(budget));
    batch->payload = payload_new(entry->payload_size, budget);
    if (!batch->payload)
        return FAIL_NO_MEMORY(err, "a tail");
    uint8_t *at = batch->payload->at;
    size_t len;
    TRY(file_read(entry->segment->file, entry->byte + WAL_HEADER_SIZE, at, entry->payload_size,
                  &len, err));
    if (len < entry->payload_size || kernel_get()->crc32c(0, at, len) != entry->payload_crc)
        return damaged(entry, collection, "checksum of the payload does not match", err);
    och_error why = {0};
    if (batch_open(slice_make(at, len), &batch->rows, &why) != OCH_OK)
        return damaged(entry, collection, why.message, err);
    if (batch->rows.count != entry->count)
        return damaged(entry, collection, "the number of rows does not match", err);
    return OCH_OK;
}

och_code wal_batch_read(struct wal *wal, const struct wal_entry *entry, uuid collection,
                        struct wal_batch **ret_batch, och_error *err)
{
    struct wal_batch *batch = MEM_NEW(struct wal_batch);
    if (!batch)
        return FAIL_NO_MEMORY(err, "a tail");
    atomic_init(&batch->refs, 1);
    batch->collection = collection;
    batch->first = entry->first;
    batch->count = entry->count;
    batch->dimension = entry->dimension;
    batch->created_at = entry->created_at;
    och_code code = batch_fill(wal, entry, collection, batch, err);
    if (code != OCH_OK) {
        wal_batch_unref(batch);
        return code;
    }
    *ret_batch = batch;
    return OCH_OK;
}

static void batches_free(struct wal_batch **batches, size_t count)
{
    for (size_t i = 0; i < count; i++)
        wal_batch_unref(batches[i]);
    mem_free(batches);
}

static och_code range_read(struct wal *wal, uuid collection, uint64_t from, uint64_t upto,
                           struct wal_batch ***ret_batches, size_t *ret_count, och_error *err)
{
    entry_list list = {0};
    TRY(entries_take(wal, collection, from, upto, &list, err));
    size_t count = 0;
    struct wal_batch **batches = mem_zalloc((list.len + 1) * sizeof(batches[0]));
    och_code code = batches ? OCH_OK : FAIL_NO_MEMORY(err, "a tail");
    while (code == OCH_OK && count < list.len) {
        code = wal_batch_read(wal, &list.at[count], collection, &batches[count], err);
        count += code == OCH_OK;
    }
    entries_drop(wal, &list);
    if (code != OCH_OK) {
        batches_free(batches, count);
        return code;
    }
    *ret_batches = batches;
    *ret_count = count;
    return OCH_OK;
}

och_code wal_tail(struct wal *wal, uuid collection, uint64_t from, struct wal_batch ***ret_batches,
                  size_t *ret_count, och_error *err)
{
    return range_read(wal, collection, from, UINT64_MAX, ret_batches, ret_count, err);
}

/* ---- fork ---- */

struct fork {
    struct wal_draft *drafts;
    struct wal_request request;
};

static och_code fork_queue(struct wal *wal, const struct wal_origin *to, struct fork *fork,
                           struct wal_collection **ret_collection, och_error *err)
{
    TRY(wal_collection_begin(wal, to, ret_collection, err));
    struct wal_collection *c = *ret_collection;
    if (c->sealed || wal->closed)
        return FAIL(err, c->sealed ? OCH_NOT_FOUND : OCH_CLOSED, "the copy takes no batches");
    if (c->head != to->offset || c->in_flight || c->start < c->entries.len)
        return FAIL(err, OCH_CONFLICT, "the log of the copy is at offset %" PRIu64 ", not %" PRIu64,
                    c->head, to->offset);
    fork->request.collection = c;
    fork->request.err = err;
    wal_request_push(wal, &fork->request);
    return OCH_OK;
}

static och_code fork_run(struct wal *wal, const struct wal_origin *to, struct wal_batch **batches,
                         size_t count, struct fork *fork, och_error *err)
{
    uint64_t next = to->offset;
    for (size_t i = 0; i < count; i++) {
        struct wal_batch *batch = batches[i];
        if (batch->first != next)
            return FAIL(err, OCH_INVALID, "no batch begins at offset %" PRIu64, next);
        next += batch->count;
        batch->collection = to->collection;
        batch->batch_id = (uuid){{0}}; // the id was the other collection's
        batch->request_hash = 0;
        slice bytes = {batch->payload->at, batch->payload->len};
        fork->drafts[i] = (struct wal_draft){.batch = batch};
        fork->drafts[i].payload_crc = kernel_get()->crc32c(0, bytes.at, bytes.len);
        fork->drafts[i].kinds = wal_kinds_of(&batch->rows);
        fork->request.bytes += wal_frame_bytes((uint32_t)bytes.len);
    }
    fork->request.drafts = fork->drafts;
    fork->request.draft_count = count;
    fork->request.placed = true;
    struct wal_collection *c = NULL;
    mutex_lock(&wal->lock);
    och_code code = fork_queue(wal, to, fork, &c, err);
    mutex_unlock(&wal->lock);
    if (code == OCH_OK)
        code = wal_request_wait(&fork->request);
    if (c) {
        mutex_lock(&wal->lock);
        wal_collection_unpin(wal, c);
        mutex_unlock(&wal->lock);
    }
    return code;
}

och_code wal_fork(struct wal *wal, uuid from, const struct wal_origin *to, uint64_t upto,
                  och_error *err)
{
    const struct limits_of_work none = {0};
    TRY(wal_throttle(wal, &none, err));
    struct wal_batch **batches;
    size_t count;
    TRY(range_read(wal, from, to->offset, upto, &batches, &count, err));
    struct fork fork = {0};
    och_code code = OCH_OK;
    wal_request_init(&fork.request);
    if (count) {
        fork.drafts = mem_zalloc(count * sizeof(fork.drafts[0]));
        code = fork.drafts ? fork_run(wal, to, batches, count, &fork, err)
                           : FAIL_NO_MEMORY(err, "a copy of the log");
    }
    wal_request_done(&fork.request);
    mem_free(fork.drafts);
    batches_free(batches, count);
    return code;
}
