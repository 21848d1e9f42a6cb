/* SPDX-License-Identifier: Apache-2.0 */
/* docs/formats/part.md and the code say the same: the page's example opens, and the builder makes it. */
#include "part_fixture.h"

#include "fuzz/part_reseal.h"

/* The lines "<address>: <hex> ..." of the page's example; "*" repeats zeros. */
static size_t read_example(uint8_t *at, size_t room)
{
    FILE *page = fopen("docs/formats/part.md", "r");
    char line[2000];
    size_t len = 0;
    if (!page)
        skip(); // not run from the project's folder
    while (fgets(line, sizeof(line), page)) {
        unsigned address;
        int used = 0;
        if (sscanf(line, "%8x: %n", &address, &used) != 1 || used != 10)
            continue;
        for (; len < address; len++)
            at[len] = 0;
        for (const char *hex = line + used; *hex && len < room; hex += hex[2] == ' ' ? 3 : 2) {
            unsigned byte;
            if (hex[0] == ' ' || sscanf(hex, "%2x", &byte) != 1)
                break;
            at[len++] = (uint8_t)byte;
        }
    }
    (void)fclose(page);
    return len;
}

static void the_pages_example_opens_and_is_what_is_built(void **state)
{
    (void)state;
    static uint8_t bytes[4096], built[4096];
    size_t len = read_example(bytes, sizeof(bytes));
    struct bytes_store store = bytes_store_of(bytes, len);
    struct part_ref ref;
    uuid collection;
    struct rows_options options = {.count = 0, .dimension = 3, .kill_count = 9};
    struct fixture f;
    fixture_init(&f, &options, 2);
    fixture_build(&f);
    MUST(part_ref_at_end(&store.store, f.object, len, &ref, &collection, err));
    struct part_env env = {&store.store, f.cache, NULL};
    struct part *part;
    MUST(part_open(&env, &ref, collection, &part, err));
    char text[UUID_TEXT_SIZE];
    assert_string_equal(uuid_format(collection, text), "57d0a8a8-0d69-481a-8ad5-edda4280bbb9");
    assert_int_equal(part_rows(part), 0);
    assert_int_equal(part_info(part)->log_to, 7);
    MUST(check_part(&f, part, err));
    part_unref(part);
    assert_int_equal(len, f.blob_size);
    MUST(store_read(f.store, f.object, 0, built, f.blob_size, err));
    assert_memory_equal(bytes, built, len);
    fixture_done(&f);
}

/* Change a version number, make the checksums right, open. */
static och_code open_with_version(const struct fixture *f, size_t place, uint16_t major)
{
    static uint8_t bytes[8192];
    MUST(store_read(f->store, f->object, 0, bytes, f->blob_size, err));
    reseal(bytes, f->blob_size);
    store_u16(bytes + place, major);
    struct bytes_store store = bytes_store_of(bytes, f->blob_size);
    struct part_env env = {&store.store, f->cache, NULL};
    struct part_ref ref = f->info.ref;
    const struct kernel *kernel = kernel_get();
    store_u32(bytes + 60, kernel->crc32c(0, bytes, 60));
    ref.dir_crc = kernel->crc32c(0, bytes + ref.dir_offset, ref.dir_len);
    struct part *part = NULL;
    och_code code = part_open(&env, &ref, f->collection, &part, NULL);
    part_unref(part);
    return code;
}

static void newer_versions_are_told_from_damage(void **state)
{
    (void)state;
    struct rows_options options = {.count = 5, .dimension = 3};
    struct fixture f;
    fixture_init(&f, &options, 1);
    fixture_build(&f);
    size_t dir = (size_t)f.info.ref.dir_offset;
    assert_int_equal(open_with_version(&f, 8, 2), OCH_UNSUPPORTED);
    assert_int_equal(open_with_version(&f, 8, 0), OCH_CORRUPT);
    assert_int_equal(open_with_version(&f, 10, 7), OCH_OK); // minor
    assert_int_equal(open_with_version(&f, dir + 4, 2), OCH_UNSUPPORTED);
    assert_int_equal(open_with_version(&f, dir + 6, 9), OCH_OK);
    fixture_done(&f);
}

/* A section number that this version does not know is passed over. */
static void unknown_sections_are_ignored(void **state)
{
    (void)state;
    static uint8_t bytes[8192];
    struct rows_options options = {.count = 5, .dimension = 3, .metric = METRIC_COSINE};
    struct fixture f;
    fixture_init(&f, &options, 1);
    fixture_build(&f);
    MUST(store_read(f.store, f.object, 0, bytes, f.blob_size, err));
    uint8_t *dir = bytes + f.info.ref.dir_offset;
    for (uint32_t i = 0; i < load_u32(dir + 8); i++) {
        uint8_t *entry = dir + DIRECTORY_SIZE + (size_t)ENTRY_SIZE * i;
        if (load_u32(entry) == SECTION_NORM)
            store_u32(entry, 77);
    }
    reseal(bytes, f.blob_size);
    struct bytes_store store = bytes_store_of(bytes, f.blob_size);
    struct part_env env = {&store.store, f.cache, NULL};
    struct part_ref ref;
    struct part *part;
    uuid collection;
    MUST(part_ref_at_end(&store.store, f.object, f.blob_size, &ref, &collection, err));
    MUST(part_open(&env, &ref, collection, &part, err));
    MUST(check_part(&f, part, err)); // norms are made from the vectors
    assert_int_equal(part_damage(part), 0);
    part_unref(part);
    fixture_done(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_pages_example_opens_and_is_what_is_built),
        cmocka_unit_test(newer_versions_are_told_from_damage),
        cmocka_unit_test(unknown_sections_are_ignored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
