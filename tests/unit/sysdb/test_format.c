/* SPDX-License-Identifier: Apache-2.0 */
/* docs/formats/catalogue.md: its worked examples, and a catalogue of every released format. */
#include "base/bytes.h"
#include "kernel/kernel.h"
#include "sysdb/sysdb_internal.h"
#include "sysdb_model.h"

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

static void every_released_format_opens(void **state)
{
    struct test *t = *state;
    struct sysdb *golden;
    struct buf here, there;
    const char *path = "tests/unit/sysdb/golden/catalogue-1.sqlite";
    if (getenv("OCHRE_MAKE_GOLDEN"))
        path = getenv("OCHRE_MAKE_GOLDEN");
    struct sysdb_options options = {.io = io_posix(),
                                    .path = path,
                                    .clock = &t->clock.clock,
                                    .read_only = !getenv("OCHRE_MAKE_GOLDEN"),
                                    .create = true};
    ok(sysdb_open(&options, &golden, &err));
    if (!options.read_only)
        golden_operations(t, golden);
    reopen(t);
    golden_operations(t, t->sysdb);
    buf_init(&here, BUF_MAX_NONE);
    buf_init(&there, BUF_MAX_NONE);
    ok(say_all(golden, &there, &err));
    ok(say_all(t->sysdb, &here, &err));
    // schemas may gain members; the rest is as it was
    for (struct buf *text = &here; text; text = text == &here ? &there : NULL) {
        for (char *at = (char *)text->at; (at = strstr(at, "schema ")); at += 7)
            memset(at + 7, 'x', 16);
    }
    assert_string_equal((char *)there.at, (char *)here.at);
    verify_clean(golden);
    buf_done(&here);
    buf_done(&there);
    ok(sysdb_close(golden, &err));
    sysdb_free(golden);
}

#define T(name) cmocka_unit_test_setup_teardown(name, test_begin, test_end)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(the_row_of_the_page_has_its_checksum),
        T(pages_end_in_their_checksum_and_number),
        T(frames_have_the_running_checksum),
        T(every_released_format_opens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
