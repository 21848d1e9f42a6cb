/* SPDX-License-Identifier: Apache-2.0 */
/* A log over a simulated disk and the small catalogue, and a sink that keeps what it is told. */
#ifndef TESTS_LOG_FIXTURE_H
#define TESTS_LOG_FIXTURE_H

#include "unit/wal/fake_sysdb.h"

#include "base/buf.h"
#include "base/io_sim.h"
#include "wal/wal.h"
#include "wal/wal_segment.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct log {
    struct io *io;
    struct sysdb *db;
    struct wal *wal;
    struct clock_manual clock;
    struct mutex lock; /* guards told */
    VEC(struct wal_batch *) told;
    struct wal_options options;
    och_error err;
};

#define OK(log, call)                                                          \
    do {                                                                       \
        och_code ok_code_ = (call);                                            \
        if (ok_code_ != OCH_OK)                                                \
            fail_msg("%s: %s", error_code_name(ok_code_), (log)->err.message); \
    } while (0)

static inline void log_deliver(void *context, struct wal_batch *batch)
{
    struct log *log = context;
    mutex_lock(&log->lock);
    if (VEC_RESERVE(&log->told, log->told.len + 1))
        log->told.at[log->told.len++] = wal_batch_ref(batch);
    mutex_unlock(&log->lock);
}

static inline void log_options(struct log *log)
{
    log->options.io = log->io;
    log->options.folder = log->options.folder ? log->options.folder : "log";
    log->options.sysdb = log->db;
    log->options.clock = &log->clock.clock;
    log->options.sink = (struct wal_sink){log, log_deliver};
    log->options.seed = 7;
    if (!log->options.segment_bytes)
        log->options.segment_bytes = 64 << 10;
}

static inline void log_init(struct log *log, bool keep_history)
{
    memset(log, 0, sizeof(*log));
    mutex_init(&log->lock, RANK_LEAF);
    clock_manual_init(&log->clock, 1700000000000000000u);
    log->io = io_sim_new(keep_history);
    log->db = fake_new();
    assert_non_null(log->io);
    log_options(log);
}

static inline void log_forget_told(struct log *log)
{
    for (size_t i = 0; i < log->told.len; i++)
        wal_batch_unref(log->told.at[i]);
    log->told.len = 0;
}

static inline och_code log_try_open(struct log *log)
{
    log->err = (och_error){0};
    log->wal = NULL;
    return wal_open(&log->options, &log->wal, &log->err);
}
static inline void log_open(struct log *log)
{
    OK(log, log_try_open(log));
}
/** A process that ends without a word; the disk stays as it is. */
static inline void log_kill(struct log *log)
{
    wal_free(log->wal);
    log->wal = NULL;
    log_forget_told(log);
}
static inline void log_close(struct log *log)
{
    OK(log, wal_close(log->wal, &log->err));
    log_kill(log);
}
static inline void log_done(struct log *log)
{
    log_kill(log);
    VEC_DONE(&log->told);
    io_sim_free(log->io);
    fake_free(log->db);
    mutex_done(&log->lock);
}

static inline uuid log_uuid(uint64_t n)
{
    uuid id = {{0}};
    memcpy(id.bytes, &n, 8);
    id.bytes[15] = 1;
    return id;
}

/** A batch whose bytes follow from its number. */
static inline struct payload *log_payload(uint64_t number, uint32_t count, uint32_t dimension,
                                          size_t document_bytes)
{
    struct batch_input_row *rows = mem_zalloc((count + 1) * sizeof(*rows));
    float *vector = mem_zalloc((dimension + 1) * sizeof(float));
    char *text = mem_zalloc(document_bytes + 1);
    char(*ids)[24] = mem_zalloc((count + 1) * sizeof(*ids));
    struct payload *payload = NULL;
    if (!rows || !vector || !text || !ids)
        goto end;
    memset(text, 'a' + (int)(number % 26), document_bytes);
    for (uint32_t i = 0; i < dimension; i++)
        vector[i] = (float)(number * 31 + i);
    for (uint32_t i = 0; i < count; i++) {
        (void)snprintf(ids[i], sizeof(ids[i]), "n%llu-%u", (unsigned long long)number, i);
        rows[i] = (struct batch_input_row){
            .op = BATCH_ADD,
            .document_state = document_bytes ? FIELD_VALUE : FIELD_KEEP,
            .id = slice_of(ids[i]),
            .vector = dimension ? vector : NULL,
            .document = slice_make(text, document_bytes),
        };
    }
    struct batch_input input = {count, dimension, rows};
    if (batch_encode(&input, NULL, &payload, NULL) != OCH_OK)
        payload = NULL;
end:
    mem_free(rows);
    mem_free(vector);
    mem_free(text);
    mem_free(ids);
    return payload;
}

static inline struct payload *log_delete_payload(const char *id)
{
    struct batch_input_row row = {.op = BATCH_DELETE, .id = slice_of(id)};
    struct batch_input input = {1, 0, &row};
    struct payload *payload = NULL;
    assert(batch_encode(&input, NULL, &payload, NULL) == OCH_OK);
    return payload;
}

static inline och_code log_put(struct log *log, uuid collection, uint64_t number, uint32_t count,
                               uint32_t dimension, size_t document_bytes, struct wal_appended *ret,
                               och_error *err)
{
    struct payload *payload = log_payload(number, count, dimension, document_bytes);
    if (!payload)
        return FAIL_NO_MEMORY(err, "a payload");
    struct wal_append ask = {
        .collection = collection,
        .payload = payload,
        .count = count,
        .dimension = dimension,
        .fixes_dimension = true,
    };
    och_code code = wal_append(log->wal, &ask, ret, err);
    payload_unref(payload);
    return code;
}

/** Before opening: the reserve is there, so that the helper has nothing to do on the disk. */
static inline void log_reserve(struct log *log)
{
    struct file *file;
    OK(log, io_make_folder(log->io, log->options.folder, &log->err));
    OK(log, io_open(log->io, "log/reserve", IO_WRITE | IO_CREATE, &file, &log->err));
    file_close(file);
}

static inline char *log_file(struct log *log, size_t n);

/** Wait until the first segment has so many groups: with the note that follows a flush, the writer is idle then. */
static inline void log_settle(struct log *log, unsigned groups)
{
    for (int i = 0; i < 20000; i++) {
        struct file *file;
        uint8_t page[4096];
        unsigned found = 0;
        OK(log, io_open(log->io, log_file(log, 0), 0, &file, &log->err));
        OK(log, file_read_all(file, 0, page, sizeof(page), &log->err));
        file_close(file);
        for (size_t at = 0; at < sizeof(page); at += WAL_ALIGN)
            found += memcmp(page + at, "OGRP", 4) == 0;
        if (found >= groups)
            return;
        sched_sleep_ns(1000000);
    }
    fail_msg("the writer never notes what is durable");
}

/** Append and expect it to be at this offset. */
static inline void log_add(struct log *log, uuid collection, uint64_t number, uint32_t count,
                           size_t document_bytes, uint64_t offset)
{
    struct wal_appended got;
    OK(log, log_put(log, collection, number, count, 4, document_bytes, &got, &log->err));
    assert_int_equal(got.first, offset);
    assert_int_equal(got.count, count);
    assert_false(got.repeated);
}

static inline void log_batch_is(const struct wal_batch *batch, uint64_t number, uint32_t count,
                                size_t document_bytes, uint64_t offset)
{
    struct payload *want = log_payload(number, count, batch->rows.dimension, document_bytes);
    assert_int_equal(batch->first, offset);
    assert_int_equal(batch->count, count);
    assert_int_equal(batch->payload->len, want->len);
    assert_memory_equal(batch->payload->at, want->at, want->len);
    payload_unref(want);
}

struct tail {
    struct wal_batch **at;
    size_t len;
};
static inline struct tail log_tail(struct log *log, uuid collection, uint64_t from)
{
    struct tail tail = {0};
    OK(log, wal_tail(log->wal, collection, from, &tail.at, &tail.len, &log->err));
    return tail;
}
static inline void tail_done(struct tail *tail)
{
    for (size_t i = 0; i < tail->len; i++)
        wal_batch_unref(tail->at[i]);
    mem_free(tail->at);
    *tail = (struct tail){0};
}

/** Names of the segments on disk, ascending; count in *ret. */
static inline struct io_entry *log_files(struct log *log, struct arena *arena, size_t *ret)
{
    struct io_entry *all = NULL;
    size_t count = 0, kept = 0;
    assert_int_equal(io_list(log->io, log->options.folder, arena, &all, &count, NULL), OCH_OK);
    for (size_t i = 0; i < count; i++) {
        struct wal_name name;
        if (wal_name_parse(all[i].name, &name))
            all[kept++] = all[i];
    }
    *ret = kept;
    return all;
}
/** Path of the n-th segment on disk. */
static inline char *log_file(struct log *log, size_t n)
{
    struct arena arena;
    size_t count;
    static char path[256];
    arena_init(&arena, NULL, 0);
    struct io_entry *files = log_files(log, &arena, &count);
    assert_true(n < count);
    (void)snprintf(path, sizeof(path), "%s/%s", log->options.folder, files[n].name);
    arena_done(&arena);
    return path;
}
#endif
