/* SPDX-License-Identifier: Apache-2.0 */
/* Blobs in a folder: on the machine's disk and on the simulated one, whole, torn and failing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io_sim.h"
#include "base/sched.h"
#include "store/store.h"

#include <errno.h>

#define MUST(call)                                                              \
    do {                                                                        \
        och_error must_err_ = {0};                                              \
        och_error *err = &must_err_;                                            \
        if ((call) != OCH_OK)                                                   \
            fail_msg("%s:%d: %s: %s", __FILE__, __LINE__, #call, err->message); \
    } while (0)

static object_id id_of(unsigned n)
{
    object_id id = {{0}};
    id.bytes[0] = (uint8_t)(n * 37);
    id.bytes[1] = (uint8_t)n;
    id.bytes[2] = (uint8_t)(n >> 8);
    id.bytes[15] = 0xab;
    return id;
}

static uint8_t byte_of(unsigned n, size_t i)
{
    return (uint8_t)(i * 31 + i / 997 + n);
}

static och_code write_blob(struct store *store, unsigned n, size_t len, size_t step, och_error *err)
{
    struct store_writer *writer;
    uint8_t *bytes = malloc(len + 1);
    for (size_t i = 0; i < len; i++)
        bytes[i] = byte_of(n, i);
    och_code code = store_create(store, id_of(n), &writer, err);
    if (code == OCH_OK) {
        for (size_t at = 0; code == OCH_OK && at < len; at += step) {
            assert_int_equal(writer->written, at);
            code = store_append(writer, bytes + at, len - at < step ? len - at : step, err);
        }
        if (code == OCH_OK)
            code = store_finish(writer, err);
        else
            store_abandon(writer);
    }
    free(bytes);
    return code;
}

static void check_blob(struct store *store, unsigned n, size_t len)
{
    uint64_t size;
    MUST(store_size(store, id_of(n), &size, err));
    assert_int_equal(size, len);
    uint8_t *bytes = malloc(len + 1);
    MUST(store_read(store, id_of(n), 0, bytes, len, err));
    for (size_t i = 0; i < len; i++)
        assert_int_equal(bytes[i], byte_of(n, i));
    if (len > 10) {
        MUST(store_read(store, id_of(n), len - 7, bytes, 7, err));
        assert_int_equal(bytes[0], byte_of(n, len - 7));
    }
    assert_int_equal(store_read(store, id_of(n), len, bytes, 1, NULL), OCH_CORRUPT);
    free(bytes);
}

static void check_store(struct io *io, const char *path)
{
    struct store *store;
    struct store_writer *writer;
    uint8_t byte;
    MUST(store_folder_new(io, path, &store, err));
    const size_t sizes[] = {0, 1, 4095, 1 << 20, (1 << 20) + 1, 3500000};
    for (unsigned n = 0; n < COUNT_OF(sizes); n++) {
        MUST(write_blob(store, n, sizes[n], n % 2 ? 1777 : 1500000, err));
        check_blob(store, n, sizes[n]);
    }
    assert_int_equal(store_read(store, id_of(77), 0, &byte, 1, NULL), OCH_NOT_FOUND);
    assert_int_equal(store_create(store, id_of(3), &writer, NULL), OCH_EXISTS);

    // an unfinished one is not there
    MUST(store_create(store, id_of(50), &writer, err));
    MUST(store_append(writer, "x", 1, err));
    assert_int_equal(store_read(store, id_of(50), 0, &byte, 1, NULL), OCH_NOT_FOUND);
    struct arena arena;
    object_id *ids;
    size_t count;
    arena_init(&arena, NULL, 0);
    MUST(store_list(store, &arena, &ids, &count, err));
    assert_int_equal(count, COUNT_OF(sizes));
    store_abandon(writer);
    MUST(store_create(store, id_of(50), &writer, err));
    store_abandon(writer);

    MUST(store_punch(store, id_of(5), 4096, 8192, err));
    MUST(store_read(store, id_of(5), 5000, &byte, 1, err));
    MUST(store_remove(store, id_of(5), err));
    MUST(store_remove(store, id_of(5), err));
    assert_int_equal(store_read(store, id_of(5), 0, &byte, 1, NULL), OCH_NOT_FOUND);
    store_free(store);

    MUST(store_folder_new(io, path, &store, err));
    MUST(store_list(store, &arena, &ids, &count, err));
    assert_int_equal(count, COUNT_OF(sizes) - 1);
    for (unsigned n = 0; n < count; n++) {
        bool found = false;
        for (size_t i = 0; i < count; i++)
            found = found || memcmp(ids[i].bytes, id_of(n).bytes, 16) == 0;
        assert_true(found);
        check_blob(store, n, sizes[n]);
        MUST(store_remove(store, id_of(n), err));
    }
    store_free(store);
    arena_done(&arena);
}

static void what_is_written_is_read_on_a_simulated_disk(void **state)
{
    (void)state;
    struct io *io = io_sim_new(false);
    check_store(io, "/a/store");
    io_sim_free(io);
}

static void what_is_written_is_read_on_the_machines_disk(void **state)
{
    (void)state;
    char path[] = "/tmp/ochre-store-XXXXXX";
    assert_non_null(mkdtemp(path));
    check_store(io_posix(), path);
    char command[64];
    (void)snprintf(command, sizeof(command), "rm -r %s", path);
    assert_int_equal(system(command), 0);
}

static void more_blobs_than_open_files(void **state)
{
    (void)state;
    struct io *io = io_sim_new(false);
    struct store *store;
    MUST(store_folder_new(io, "/s", &store, err));
    for (unsigned n = 0; n < 300; n++)
        MUST(write_blob(store, n, 100, 100, err));
    for (unsigned n = 0; n < 300; n++)
        check_blob(store, n, 100);
    uint64_t opened = io_sim_count(io, IO_SIM_OPEN);
    for (unsigned n = 200; n < 300; n++)
        check_blob(store, n, 100);
    assert_int_equal(io_sim_count(io, IO_SIM_OPEN), opened); // the last ones were still open
    check_blob(store, 0, 100);
    assert_int_equal(io_sim_count(io, IO_SIM_OPEN), opened + 1);
    store_free(store);
    io_sim_free(io);
}

/* After a power cut a finished blob is whole; an unfinished one has no name. */
static void finished_blobs_survive_a_power_cut(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 60; seed++) {
        struct io *io = io_sim_new(true);
        struct store *store, *after;
        struct store_writer *writer;
        MUST(io_make_folder(io, "/data", err));
        MUST(io_sync_folder(io, "/", err));
        MUST(store_folder_new(io, "/data/store", &store, err));
        MUST(write_blob(store, 1, 5000, 999, err));
        MUST(write_blob(store, 2, 1200000, 100000, err));
        MUST(store_create(store, id_of(3), &writer, err));
        MUST(store_append(writer, "abc", 3, err));
        struct io *image = io_sim_power_cut(io, seed);
        MUST(store_folder_new(image, "/data/store", &after, err));
        check_blob(after, 1, 5000);
        check_blob(after, 2, 1200000);
        struct arena arena;
        object_id *ids;
        size_t count;
        arena_init(&arena, NULL, 0);
        MUST(store_list(after, &arena, &ids, &count, err));
        assert_int_equal(count, 2);
        MUST(store_remove(after, id_of(3), err)); // the catalogue announced it
        MUST(write_blob(after, 3, 10, 10, err));
        arena_done(&arena);
        store_free(after);
        io_sim_free(image);
        store_abandon(writer);
        store_free(store);
        io_sim_free(io);
    }
}

static void every_failing_operation_leaves_all_or_nothing(void **state)
{
    (void)state;
    bool passed = false;
    for (uint64_t nth = 1; !passed; nth++) {
        struct io *io = io_sim_new(false);
        struct store *store;
        MUST(store_folder_new(io, "/s", &store, err));
        MUST(write_blob(store, 1, 1500000, 70000, err));
        io_sim_fail_at(io, IO_SIM_ANY, nth, ENOSPC, false);
        och_error failure = {0};
        och_code code = write_blob(store, 2, 1500000, 70000, &failure);
        io_sim_fail_at(io, IO_SIM_ANY, 0, 0, false);
        passed = code == OCH_OK && nth > 5;
        check_blob(store, 1, 1500000);
        if (code == OCH_OK) {
            check_blob(store, 2, 1500000);
        } else {
            uint64_t size;
            assert_int_equal(store_size(store, id_of(2), &size, NULL), OCH_NOT_FOUND);
            assert_true(failure.message[0] != 0);
        }
        store_free(store);
        io_sim_free(io);
        assert_true(nth < 200);
    }
}

static void every_failing_allocation_is_survived(void **state)
{
    (void)state;
    struct io *io = io_sim_new(false);
    uint64_t live = mem_count_live();
    for (uint64_t nth = 1; nth < 60; nth++) {
        struct store *store = NULL;
        uint8_t bytes[10];
        mem_fail_at(nth);
        och_code code = store_folder_new(io, "/s", &store, NULL);
        if (code == OCH_OK)
            code = write_blob(store, (unsigned)nth, 100, 50, NULL);
        if (code == OCH_OK)
            code = store_read(store, id_of((unsigned)nth), 3, bytes, 5, NULL);
        if (code == OCH_OK)
            code = store_remove(store, id_of((unsigned)nth), NULL);
        mem_fail_at(0);
        if (store && code != OCH_OK)
            MUST(store_remove(store, id_of((unsigned)nth), err));
        store_free(store);
    }
    // the disk keeps its folders, the store nothing
    assert_true(mem_count_live() - live < 400);
    io_sim_free(io);
}

struct reader_thread {
    struct thread thread;
    struct store *store;
    unsigned first;
};

static void read_many(void *arg)
{
    struct reader_thread *reader = arg;
    uint8_t byte;
    for (unsigned i = 0; i < 4000; i++) {
        unsigned n = (reader->first + i * 7) % 200;
        och_code code = store_read(reader->store, id_of(n), n % 50, &byte, 1, NULL);
        if (code == OCH_OK && byte != byte_of(n, n % 50))
            abort();
        if (code != OCH_OK && (code != OCH_NOT_FOUND || n % 10))
            abort();
        if (i % 400 == 0 && n % 10 == 0 && store_remove(reader->store, id_of(n), NULL) != OCH_OK)
            abort();
    }
}

static void many_threads_read_and_remove(void **state)
{
    (void)state;
    struct io *io = io_sim_new(false);
    struct store *store;
    struct reader_thread readers[4];
    MUST(store_folder_new(io, "/s", &store, err));
    for (unsigned n = 0; n < 200; n++)
        MUST(write_blob(store, n, 64, 64, err));
    for (unsigned t = 0; t < COUNT_OF(readers); t++) {
        readers[t].store = store;
        readers[t].first = t * 50;
        MUST(thread_start(&readers[t].thread, "reader", 0, read_many, &readers[t], err));
    }
    for (unsigned t = 0; t < COUNT_OF(readers); t++)
        thread_join(&readers[t].thread);
    store_free(store);
    io_sim_free(io);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_on_a_simulated_disk),
        cmocka_unit_test(what_is_written_is_read_on_the_machines_disk),
        cmocka_unit_test(more_blobs_than_open_files),
        cmocka_unit_test(finished_blobs_survive_a_power_cut),
        cmocka_unit_test(every_failing_operation_leaves_all_or_nothing),
        cmocka_unit_test(every_failing_allocation_is_survived),
        cmocka_unit_test(many_threads_read_and_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
