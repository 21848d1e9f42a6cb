/* SPDX-License-Identifier: Apache-2.0 */
/* Many reads at once: every kind of reader gives what single reads give, faults included. */
#include "base/clock.h"
#include "base/io_sim.h"
#include "base/sched.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#define FILE_BYTES (300 * 1024 + 77)
#define READS      200

static const enum io_reader_kind kinds[] = {IO_READER_BEST, IO_READER_THREADS, IO_READER_SERIAL};

static uint8_t byte_at(uint64_t offset)
{
    return (uint8_t)(offset * 2654435761u >> 13);
}

static struct file *make_file(struct io *io, const char *path)
{
    struct file *file = NULL;
    static uint8_t bytes[FILE_BYTES];
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = byte_at(i);
    assert_int_equal(io_open(io, path, IO_WRITE | IO_CREATE | IO_SCATTERED, &file, NULL), OCH_OK);
    assert_int_equal(file_write(file, 0, bytes, sizeof(bytes), NULL), OCH_OK);
    return file;
}

static uint64_t next(uint64_t *state)
{
    *state = *state * 6364136223846793005ull + 1442695040888963407ull;
    return *state >> 33;
}

/* Some here and there, some neighbours of the one before, some past the end. */
static void order_reads(struct file *file, struct io_read *reads, uint8_t *room, uint64_t seed)
{
    uint64_t offset = 0;
    for (size_t i = 0; i < READS; i++) {
        size_t len = next(&seed) % 3 ? 4096 : next(&seed) % 9000;
        if (next(&seed) % 2)
            offset = next(&seed) % FILE_BYTES;
        reads[i] = (struct io_read){
            .file = file, .offset = offset, .at = room + i * 9000, .len = len, .got = 12345};
        offset += len;
    }
}

static void check_reads(const struct io_read *reads, uint64_t size)
{
    for (size_t i = 0; i < READS; i++) {
        uint64_t left = reads[i].offset < size ? size - reads[i].offset : 0;
        size_t want = reads[i].len < left ? reads[i].len : (size_t)left;
        och_error err = {0};
        assert_int_equal(reads[i].code, OCH_OK);
        assert_int_equal(reads[i].got, want);
        assert_int_equal(io_read_result(&reads[i], &err),
                         want < reads[i].len ? OCH_CORRUPT : OCH_OK);
        for (size_t j = 0; j < want; j++)
            assert_int_equal(((uint8_t *)reads[i].at)[j], byte_at(reads[i].offset + j));
    }
}

static char *temporary(char path[64])
{
    (void)snprintf(path, 64, "/tmp/ochre_batch_XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    (void)close(fd);
    return path;
}

static void a_batch_reads_what_single_reads_do(void **state)
{
    (void)state;
    char path[64];
    struct file *file = make_file(io_posix(), temporary(path));
    struct io_read reads[READS];
    uint8_t *room = mem_alloc(READS * 9000);
    for (size_t k = 0; k < COUNT_OF(kinds); k++) {
        struct io_reader *reader;
        assert_int_equal(io_reader_new(io_posix(), kinds[k], &reader, NULL), OCH_OK);
        for (uint64_t seed = 1; seed < 20; seed++) {
            order_reads(file, reads, room, seed);
            io_read_batch(reader, reads, READS);
            check_reads(reads, FILE_BYTES);
            io_read_batch(reader, reads, seed % 3); // none, one, two
        }
        io_reader_free(reader);
    }
    mem_free(room);
    file_close(file);
    (void)unlink(path);
}

/* What a reader holds goes with it. */
static void nothing_is_left_of_a_reader(void **state)
{
    (void)state;
    size_t before = mem_count_live();
    int lowest = open("/dev/null", O_RDONLY | O_CLOEXEC);
    (void)close(lowest);
    for (size_t k = 0; k < COUNT_OF(kinds); k++) {
        struct io_reader *reader;
        assert_int_equal(io_reader_new(io_posix(), kinds[k], &reader, NULL), OCH_OK);
        io_reader_free(reader);
    }
    assert_int_equal(mem_count_live(), before);
    int again = open("/dev/null", O_RDONLY | O_CLOEXEC);
    (void)close(again);
    assert_int_equal(again, lowest);
}

/* Without room for a ring there are threads. */
static void without_rings_there_are_threads(void **state)
{
    (void)state;
    char path[64];
    struct file *file = make_file(io_posix(), temporary(path));
    struct rlimit was, none;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
    none = was;
    int lowest = open("/dev/null", O_RDONLY | O_CLOEXEC);
    (void)close(lowest);
    none.rlim_cur = (rlim_t)lowest;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    struct io_reader *reader;
    assert_int_equal(io_reader_new(io_posix(), IO_READER_BEST, &reader, NULL), OCH_OK);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
    struct io_read reads[READS];
    uint8_t *room = mem_alloc(READS * 9000);
    order_reads(file, reads, room, 7);
    io_read_batch(reader, reads, READS);
    check_reads(reads, FILE_BYTES);
    io_reader_free(reader);
    mem_free(room);
    file_close(file);
    (void)unlink(path);
}

/* One bad file in a batch is that read's affair. */
static void one_failure_is_not_the_others(void **state)
{
    (void)state;
    char path[64];
    struct file *file = make_file(io_posix(), temporary(path)), *folder = NULL;
    assert_int_equal(io_open(io_posix(), "/tmp", 0, &folder, NULL), OCH_OK);
    struct io_read reads[READS];
    uint8_t *room = mem_alloc(READS * 9000);
    for (size_t k = 0; k < COUNT_OF(kinds); k++) {
        struct io_reader *reader;
        assert_int_equal(io_reader_new(io_posix(), kinds[k], &reader, NULL), OCH_OK);
        order_reads(file, reads, room, 3);
        reads[5].file = folder;
        reads[5].len = 100;
        io_read_batch(reader, reads, READS);
        och_error err = {0};
        assert_int_equal(io_read_result(&reads[5], &err), OCH_IO);
        assert_int_equal(err.os_errno, EISDIR);
        assert_non_null(strstr(err.message, "/tmp"));
        io_reader_free(reader);
    }
    mem_free(room);
    file_close(folder);
    file_close(file);
    (void)unlink(path);
}

static void the_simulated_disk_fails_the_read_that_was_ordered(void **state)
{
    (void)state;
    struct io *io = io_sim_new(false);
    struct file *file = make_file(io, "f");
    struct io_reader *reader;
    struct io_read reads[READS];
    uint8_t *room = mem_alloc(READS * 9000);
    assert_int_equal(io_reader_new(io, IO_READER_BEST, &reader, NULL), OCH_OK);
    for (uint64_t nth = 1; nth <= READS; nth += 13) {
        order_reads(file, reads, room, nth);
        io_sim_fail_at(io, IO_SIM_READ, nth, EIO, false);
        io_read_batch(reader, reads, READS);
        for (size_t i = 0; i < READS; i++)
            assert_int_equal(reads[i].code, i + 1 == nth ? OCH_IO : OCH_OK);
        assert_int_equal(reads[nth - 1].os_errno, EIO);
    }
    io_reader_free(reader);
    mem_free(room);
    file_close(file);
    io_sim_free(io);
}

struct crowd {
    struct file *file;
    struct io_reader *reader;
};

static void read_much(void *arg)
{
    struct crowd *crowd = arg;
    struct io_read *reads = mem_alloc(READS * sizeof(*reads));
    uint8_t *room = mem_alloc(READS * 9000);
    for (uint64_t seed = 1; seed < 30; seed++) {
        order_reads(crowd->file, reads, room, seed);
        io_read_batch(crowd->reader, reads, READS);
        check_reads(reads, FILE_BYTES);
    }
    mem_free(room);
    mem_free(reads);
}

static void threads_share_a_reader(void **state)
{
    (void)state;
    char path[64];
    struct crowd crowd = {.file = make_file(io_posix(), temporary(path))};
    for (size_t k = 0; k < 2; k++) {
        struct thread threads[6];
        assert_int_equal(io_reader_new(io_posix(), kinds[k], &crowd.reader, NULL), OCH_OK);
        for (size_t i = 0; i < COUNT_OF(threads); i++)
            assert_int_equal(thread_start(&threads[i], "read", 0, read_much, &crowd, NULL), OCH_OK);
        for (size_t i = 0; i < COUNT_OF(threads); i++)
            thread_join(&threads[i]);
        io_reader_free(crowd.reader);
    }
    file_close(crowd.file);
    (void)unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_batch_reads_what_single_reads_do),
        cmocka_unit_test(nothing_is_left_of_a_reader),
        cmocka_unit_test(without_rings_there_are_threads),
        cmocka_unit_test(one_failure_is_not_the_others),
        cmocka_unit_test(the_simulated_disk_fails_the_read_that_was_ordered),
        cmocka_unit_test(threads_share_a_reader),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
