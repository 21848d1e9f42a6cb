/* SPDX-License-Identifier: Apache-2.0 */
/* Headers, names and walks of a segment (docs/formats/log.md). */
#include "unit/wal/log_fixture.h"

#include "base/bytes.h"
#include "kernel/kernel.h"

static const struct wal_name name = {1, 0x0123456789abcdefu};

/* The page's hex block. */
static size_t example(uint8_t *out, size_t max)
{
    FILE *page = fopen("docs/formats/log.md", "r");
    char line[512];
    size_t len = 0;
    bool inside = false;
    assert_non_null(page);
    while (fgets(line, sizeof(line), page)) {
        if (strncmp(line, "```", 3) == 0) {
            if (inside)
                break;
            inside = strncmp(line, "```hex", 6) == 0;
            continue;
        }
        char *at = line;
        while (inside && *at && *at != '\n') {
            char *end;
            unsigned long byte = strtoul(at, &end, 16);
            if (end == at)
                break;
            assert_true(byte < 256 && len < max);
            out[len++] = (uint8_t)byte;
            at = end;
        }
    }
    (void)fclose(page);
    return len;
}

static void the_worked_example_is_what_the_page_says(void **state)
{
    (void)state;
    uint8_t bytes[1024], again[WAL_HEADER_SIZE];
    struct wal_group group;
    struct wal_frame frame;
    struct batch rows;
    assert_int_equal(example(bytes, sizeof(bytes)), 448);
    assert_true(wal_group_decode(bytes, name, 0, &group));
    assert_int_equal(group.size, 448);
    assert_int_equal(group.flags, WAL_GROUP_FIRST);
    assert_int_equal(group.sequence, 1);
    assert_int_equal(group.frame_count, 1);
    assert_int_equal(group.generation, 9);
    assert_int_equal(group.synced.segment + group.ended.segment, 0);
    wal_group_encode(&group, name, 0, again);
    assert_memory_equal(bytes, again, sizeof(again));
    assert_true(wal_frame_decode(bytes + 128, name, 128, &frame));
    assert_int_equal(frame.payload_size, 129);
    assert_int_equal(frame.first, 5);
    assert_int_equal(frame.count, 1);
    assert_int_equal(frame.kinds, 1u << BATCH_DELETE);
    assert_int_equal(frame.request_hash, 0xbeef);
    assert_int_equal(frame.created_at, 1700000000000);
    assert_int_equal(frame.collection.bytes[15], 16);
    assert_int_equal(frame.batch_id.bytes[0], 0xaa);
    wal_frame_encode(&frame, name, 128, again);
    assert_memory_equal(bytes + 128, again, sizeof(again));
    assert_int_equal(kernel_get()->crc32c(0, bytes + 256, 129), frame.payload_crc);
    struct payload *payload = payload_new(129, NULL); // aligned
    memcpy(payload->at, bytes + 256, 129);
    assert_int_equal(batch_open(slice_make(payload->at, 129), &rows, NULL), OCH_OK);
    assert_int_equal(rows.ops[0], BATCH_DELETE);
    assert_true(slice_equal(batch_id(&rows, 0), slice_of("x")));
    payload_unref(payload);
}

static void no_bit_of_a_header_can_change(void **state)
{
    (void)state;
    uint8_t bytes[1024];
    struct wal_group group;
    struct wal_frame frame;
    (void)example(bytes, sizeof(bytes));
    for (size_t bit = 0; bit < WAL_HEADER_SIZE * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        bytes[128 + bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_false(wal_group_decode(bytes, name, 0, &group));
        assert_false(wal_frame_decode(bytes + 128, name, 128, &frame));
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        bytes[128 + bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert_true(wal_group_decode(bytes, name, 0, &group));
}

static void D1_bytes_from_another_place_or_segment_do_not_pass(void **state)
{
    (void)state;
    uint8_t bytes[1024];
    struct wal_group group;
    struct wal_frame frame;
    (void)example(bytes, sizeof(bytes));
    struct wal_name other = {1, name.salt + 1}, next = {2, name.salt};
    assert_false(wal_group_decode(bytes, other, 0, &group));
    assert_false(wal_group_decode(bytes, next, 0, &group));
    assert_false(wal_group_decode(bytes, name, 64, &group));
    assert_false(wal_frame_decode(bytes + 128, other, 128, &frame));
    assert_false(wal_frame_decode(bytes + 128, next, 128, &frame));
    assert_false(wal_frame_decode(bytes + 128, name, 192, &frame));
}

static void a_newer_format_is_refused_and_not_cut(void **state)
{
    (void)state;
    uint8_t bytes[1024];
    (void)example(bytes, sizeof(bytes));
    bytes[10] = 1; // minor
    uint8_t seed[24] = {0};
    store_u64(seed, name.salt);
    store_u64(seed + 8, name.id);
    store_u32(bytes + 4, 0);
    uint32_t crc = kernel_get()->crc32c(0, seed, sizeof(seed));
    store_u32(bytes + 4, kernel_get()->crc32c(crc, bytes, WAL_HEADER_SIZE));
    struct wal_group group;
    assert_false(wal_group_decode(bytes, name, 0, &group));
    assert_true(wal_group_unknown(bytes, name, 0));
    struct io *io = io_sim_new(false);
    struct file *file;
    struct wal_walk walk;
    bool sound;
    och_error err = {0};
    assert_int_equal(io_open(io, "s", IO_WRITE | IO_CREATE, &file, &err), OCH_OK);
    assert_int_equal(file_write(file, 0, bytes, 448, &err), OCH_OK);
    assert_int_equal(wal_walk_init(&walk, file, name, 448, &err), OCH_OK);
    assert_int_equal(wal_walk_group(&walk, 0, &group, NULL, &sound, &err), OCH_INVALID);
    assert_non_null(strstr(err.message, "1.1"));
    wal_walk_done(&walk);
    file_close(file);
    io_sim_free(io);
}

static void names_go_both_ways_and_nothing_else_is_one(void **state)
{
    (void)state;
    char text[WAL_NAME_SIZE];
    struct wal_name back;
    struct wal_name n = {0xab, 0xffffffffffffffffu};
    assert_string_equal(wal_name_format(n, text), "00000000000000ab-ffffffffffffffff.log");
    assert_true(wal_name_parse(text, &back));
    assert_true(back.id == n.id && back.salt == n.salt);
    const char *bad[] = {"",
                         "reserve",
                         "00000000000000AB-ffffffffffffffff.log",
                         "00000000000000ab-ffffffffffffffff.logx",
                         "00000000000000ab_ffffffffffffffff.log",
                         "0000000000000000-ffffffffffffffff.log",
                         "0x000000000000ab-ffffffffffffffff.log",
                         " 0000000000000ab-ffffffffffffffff.log"};
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_false(wal_name_parse(bad[i], &back));
}

static void a_search_finds_a_group_across_its_reading_pieces(void **state)
{
    (void)state;
    struct io *io = io_sim_new(false);
    struct file *file;
    uint64_t size = (3 << 20) + 448;
    uint64_t places[] = {64, (1 << 20) - 64, 1 << 20, (2 << 20) - 128, 3 << 20};
    assert_int_equal(io_open(io, "s", IO_WRITE | IO_CREATE, &file, NULL), OCH_OK);
    for (size_t i = 0; i < COUNT_OF(places); i++) {
        struct wal_walk walk;
        uint8_t head[WAL_HEADER_SIZE], fake[4] = {'O', 'G', 'R', 'P'};
        struct wal_group group = {.size = WAL_HEADER_SIZE, .sequence = 1}, found;
        uint64_t at;
        bool zero;
        assert_int_equal(file_truncate(file, 0, NULL), OCH_OK);
        assert_int_equal(file_truncate(file, size, NULL), OCH_OK);
        wal_group_encode(&group, name, places[i], head);
        assert_int_equal(file_write(file, places[i], head, sizeof(head), NULL), OCH_OK);
        assert_int_equal(wal_walk_init(&walk, file, name, size, NULL), OCH_OK);
        assert_int_equal(wal_walk_search(&walk, 0, size, &at, &found, &zero, NULL), OCH_OK);
        assert_int_equal(at, places[i]);
        assert_true(zero);
        assert_int_equal(wal_walk_search(&walk, places[i] + 64, size, &at, &found, &zero, NULL),
                         OCH_OK);
        assert_int_equal(at, size);
        if (places[i] > 64) { // something that only looks like one, before it
            assert_int_equal(file_write(file, 0, fake, 4, NULL), OCH_OK);
            assert_int_equal(wal_walk_search(&walk, 0, size, &at, &found, &zero, NULL), OCH_OK);
            assert_int_equal(at, places[i]);
            assert_false(zero);
        }
        wal_walk_done(&walk);
    }
    file_close(file);
    io_sim_free(io);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_worked_example_is_what_the_page_says),
        cmocka_unit_test(no_bit_of_a_header_can_change),
        cmocka_unit_test(D1_bytes_from_another_place_or_segment_do_not_pass),
        cmocka_unit_test(a_newer_format_is_refused_and_not_cut),
        cmocka_unit_test(names_go_both_ways_and_nothing_else_is_one),
        cmocka_unit_test(a_search_finds_a_group_across_its_reading_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
