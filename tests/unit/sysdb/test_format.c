/* SPDX-License-Identifier: Apache-2.0 */
/* docs/formats/catalogue.md: its worked examples, and a catalogue of every released format. */
#include "base/bytes.h"
#include "kernel/kernel.h"
#include "sysdb/sysdb_internal.h"
#include "sysdb_model.h"

#include <errno.h>
#include <stdlib.h>

static const uint8_t tenant_image[] = {
    0x00, 0x01, 0x01, 0,   0,   0,   0,   0,   0,   0,   0x03, 0x0e, 0,   0,   0,   0,   0,
    0,    0,    'd',  'e', 'f', 'a', 'u', 'l', 't', '_', 't',  'e',  'n', 'a', 'n', 't', 0x05};

static void the_row_of_the_page_has_its_checksum(void **state)
{
    (void)state;
    struct row row = {.table = TABLE_TENANT,
                      .at = {value_int(1), value_text(SLICE("default_tenant")), value_null()}};
    assert_int_equal(kernel_get()->crc32c(0, tenant_image, sizeof(tenant_image)), 0xd11d4234);
    assert_int_equal(table_row_crc(&row), 0xd11d4234);
    row.at[TENANT_RESOURCE] = value_text(SLICE("")); // null and empty are told apart
    assert_int_not_equal(table_row_crc(&row), 0xd11d4234);
}

static void pages_end_in_their_checksum_and_number(void **state)
{
    struct test *t = *state;
    struct file *file;
    uint64_t size;
    uint8_t page[4096], zeros[4088] = {0}, seven[4] = {7};
    const struct kernel *kernel = kernel_get();
    assert_int_equal(kernel->crc32c(kernel->crc32c(0, zeros, sizeof(zeros)), seven, 4), 0xbe32e0a4);
    reopen(t);
    ok(sysdb_close(t->sysdb, &err));
    sysdb_free(t->sysdb);
    t->sysdb = NULL;
    ok(io_open(t->io, CATALOGUE, 0, &file, &err));
    ok(file_size(file, &size, &err));
    assert_int_equal(size % 4096, 0);
    for (uint32_t number = 1; number <= size / 4096; number++) {
        ok(file_read_all(file, (number - 1) * 4096ull, page, sizeof(page), &err));
        assert_int_equal(load_u32(page + 4092), number);
        uint32_t crc = kernel->crc32c(0, page, 4088);
        assert_int_equal(load_u32(page + 4088), kernel->crc32c(crc, page + 4092, 4));
    }
    file_close(file);
}

static void frames_have_the_running_checksum(void **state)
{
    (void)state;
    // two words 1, 2 in either byte order: s0 = 1 + 0, s1 = 2 + 1
    const uint8_t little[] = {1, 0, 0, 0, 2, 0, 0, 0}, big[] = {0, 0, 0, 1, 0, 0, 0, 2};
    uint32_t sum[2] = {0, 0};
    sqlite_wal_sum(little, 8, false, sum);
    assert_true(sum[0] == 1 && sum[1] == 3);
    sqlite_wal_sum(big, 8, true, sum); // 1 + 1 + 3, 3 + 2 + 5
    assert_true(sum[0] == 5 && sum[1] == 10);
}

/* What the golden catalogue was made with: the same operations must give the same state. */
static void golden_operations(struct test *t, struct sysdb *sysdb)
{
    struct random random;
    random_seed(&random, 2024);
    for (uint64_t number = 0; number < 120; number++) {
        struct op op = op_random(&random, number);
        och_error fault = {0};
        if (op.kind != 9)
            (void)op_run(t, sysdb, &op, &fault);
    }
}

/* Everything that a catalogue says but its generation; hashes of schemas are left out, since schemas may gain members. */
static void say(struct sysdb *sysdb, struct buf *out)
{
    buf_init(out, BUF_MAX_NONE);
    ok(say_all(sysdb, out, &err));
    char *rest = strchr((char *)out->at, '\n');
    memset(out->at, 'x', (size_t)(rest - (char *)out->at)); // a step of the format counts too
    for (char *at = (char *)out->at; (at = strstr(at, "schema ")); at += 7)
        memset(at + 7, 'x', 16);
}

static void is_as_made_here(struct test *t, struct sysdb *sysdb)
{
    struct buf here, there;
    if (!t->sysdb) {
        reopen(t);
        golden_operations(t, t->sysdb);
    }
    say(t->sysdb, &here);
    say(sysdb, &there);
    assert_string_equal((char *)there.at, (char *)here.at);
    verify_clean(sysdb);
    buf_done(&here);
    buf_done(&there);
}

static void end(struct sysdb *sysdb)
{
    ok(sysdb_close(sysdb, &err));
    sysdb_free(sysdb);
}

static const char *golden_path(int format, char path[64])
{
    (void)snprintf(path, 64, "tests/unit/sysdb/golden/catalogue-%d.sqlite", format);
    return path;
}

static void every_released_format_opens(void **state)
{
    struct test *t = *state;
    char path[64];
    struct sysdb *golden;
    struct sysdb_options options = {
        .io = io_posix(), .clock = &t->clock.clock, .read_only = true, .create = true};
    const char *make = getenv("OCHRE_MAKE_GOLDEN"); // the file to be made, in today's format
    if (make) {
        options.path = make;
        options.read_only = false;
        ok(sysdb_open(&options, &golden, &err));
        golden_operations(t, golden);
        end(golden);
    }
    options.read_only = true;
    for (int format = 1; format <= CATALOGUE_MAJOR; format++) {
        options.path = golden_path(format, path);
        ok(sysdb_open(&options, &golden, &err));
        static const size_t tables[CATALOGUE_MAJOR + 1] = {0, TABLE_FORK, TABLE_VERSION,
                                                           TABLE_COUNT};
        assert_int_equal(golden->table_count, tables[format]);
        is_as_made_here(t, golden);
        end(golden);
    }
}

static void copy_in(struct test *t, const char *path)
{
    struct file *from, *to;
    uint64_t size;
    ok(io_open(io_posix(), path, 0, &from, &err));
    ok(file_size(from, &size, &err));
    uint8_t *bytes = mem_alloc((size_t)size);
    ok(file_read_all(from, 0, bytes, (size_t)size, &err));
    ok(io_open(t->io, CATALOGUE, IO_WRITE | IO_CREATE, &to, &err));
    ok(file_write(to, 0, bytes, (size_t)size, &err));
    ok(file_sync(to, &err));
    ok(io_sync_folder(t->io, "data", &err));
    file_close(from);
    file_close(to);
    mem_free(bytes);
}

/* A writing open brings the format up, whole or not at all, whatever operation of the disk is the last. */
static void older_formats_are_brought_up_to_date(void **state)
{
    struct test *t = *state;
    char path[64];
    for (int format = 1; format < CATALOGUE_MAJOR; format++) {
        bool done = false;
        for (uint64_t nth = 1; !done; nth++) {
            struct test old = {.clock = t->clock, .schema = t->schema, .io = io_sim_new(true)};
            struct sysdb *sysdb = NULL;
            och_error fault = {0};
            assert_true(nth < 1000);
            ok(io_make_folder(old.io, "data", &err));
            copy_in(&old, golden_path(format, path));
            io_sim_fail_at(old.io, IO_SIM_ANY, nth, EIO, true);
            och_code code = open_on(&old, old.io, false, &sysdb);
            if (code == OCH_OK)
                code = sysdb_close(sysdb, &fault);
            if (sysdb)
                sysdb_free(sysdb);
            done = code == OCH_OK;
            struct io *cut = io_sim_power_cut(old.io, nth);
            for (int again = 0; again < 2; again++) {
                ok(open_on(&old, cut, false, &sysdb));
                assert_int_equal(sysdb->table_count, TABLE_COUNT);
                is_as_made_here(t, sysdb);
                end(sysdb);
            }
            io_sim_free(cut);
            io_sim_free(old.io);
        }
    }
}

#define T(name) cmocka_unit_test_setup_teardown(name, test_begin, test_end)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(the_row_of_the_page_has_its_checksum), T(pages_end_in_their_checksum_and_number),
        T(frames_have_the_running_checksum),     T(every_released_format_opens),
        T(older_formats_are_brought_up_to_date),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
