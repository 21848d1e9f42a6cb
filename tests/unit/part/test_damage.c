/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever happens to the bytes: right answers, or an error that names the place (D4).  Never another answer, never a crash. */
#include "part_fixture.h"

#include "fuzz/part_reseal.h"
#include "part/part_internal.h"
#include "support/slow.h"

#include <errno.h>

/* A permutation for parts that are not in seq order. */
static const uint32_t *some_order(void)
{
    static uint32_t order[300];
    for (uint32_t i = 0; i < 300; i++)
        order[i] = (i * 7 + 3) % 300;
    return order;
}

static const struct rows_options full = {.count = 300,
                                         .dimension = 24,
                                         .metric = METRIC_COSINE,
                                         .absent_percent = 10,
                                         .document_bytes = 150,
                                         .seq_step = 5,
                                         .expiry = true,
                                         .kill_count = 20};

static struct fixture base;
static uint8_t *blob;

static int set_up(void **state)
{
    (void)state;
    struct rows_options options = full;
    options.order = some_order();
    fixture_init(&base, &options, 42);
    fixture_build(&base);
    blob = malloc(base.blob_size);
    MUST(store_read(base.store, base.object, 0, blob, base.blob_size, err));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    free(blob);
    fixture_done(&base);
    return 0;
}

static void restore(void)
{
    MUST(io_sim_poke(base.io, base.path, 0, blob, base.blob_size, err));
}

static void flip(uint64_t offset)
{
    uint8_t byte = blob[offset] ^ 0x40;
    MUST(io_sim_poke(base.io, base.path, offset, &byte, 1, err));
}

/* Open and ask: OCH_OK (then all was right) or OCH_CORRUPT with a name in it. */
static och_code check_image(uint32_t *ret_damage, och_error *failure)
{
    struct part *part;
    *ret_damage = 0;
    och_code code = fixture_open(&base, &part, failure);
    if (code == OCH_OK) {
        code = check_part(&base, part, failure);
        *ret_damage = part_damage(part);
        part_unref(part);
    }
    if (code != OCH_OK) {
        assert_int_equal(code, OCH_CORRUPT);
        assert_non_null(strstr(failure->message, "part "));
        assert_non_null(strstr(failure->message, "section "));
        assert_non_null(strstr(failure->message, "offset "));
    }
    return code;
}

static void each_section_damaged_answers_or_names_itself(void **state)
{
    (void)state;
    uint32_t seen = 0;
    for (unsigned id = 1; id < SECTION_COUNT; id++) {
        const struct part_section section = base.part->sections[id];
        if (!section.size)
            continue;
        seen |= PART_BIT(id);
        for (int place = 0; place < 3; place++) {
            och_error failure = {0};
            uint32_t damage;
            char name[40];
            flip(section.offset + (place == 0   ? 0
                                   : place == 1 ? section.size / 2
                                                : section.size - 1));
            och_code code = check_image(&damage, &failure);
            (void)snprintf(name, sizeof(name), "section %s,", part_section_name(id));
            if (part_section_is_derived(id)) {
                if (code != OCH_OK || damage != PART_BIT(id))
                    fail_msg("%s: code %d, damage %x: %s", name, (int)code, damage,
                             failure.message);
            } else if (id == SECTION_NAMES) {
                assert_int_equal(code, OCH_OK); // nothing that is asked for depends on it
                struct part *part;
                slice tenant, database, collection, schema;
                MUST(fixture_open(&base, &part, err));
                part_names(part, &tenant, &database, &collection, &schema);
                assert_null(tenant.at);
                assert_int_equal(part_damage(part), PART_BIT(SECTION_NAMES));
                part_unref(part);
            } else {
                if (code != OCH_CORRUPT || !strstr(failure.message, name) ||
                    !strstr(failure.message, "checksum mismatch"))
                    fail_msg("%s: code %d: %s", name, (int)code, failure.message);
            }
            // and `check` finds it
            struct part *part;
            if (fixture_open(&base, &part, NULL) == OCH_OK) {
                struct buf report;
                uint64_t faults;
                buf_init(&report, BUF_MAX_NONE);
                MUST(part_verify(part, &report, &faults, err));
                buf_byte(&report, 0);
                assert_true(faults >= 1);
                assert_non_null(strstr((const char *)report.at, name));
                buf_done(&report);
                part_unref(part);
            }
            restore();
        }
    }
    const uint32_t wanted =
        PART_BIT(SECTION_HEAD) | PART_BIT(SECTION_IDFILTER) | PART_BIT(SECTION_IDHASH) |
        PART_BIT(SECTION_IDS) | PART_BIT(SECTION_SEQ) | PART_BIT(SECTION_SEQROWS) |
        PART_BIT(SECTION_VEC) | PART_BIT(SECTION_VPRES) | PART_BIT(SECTION_NORM) |
        PART_BIT(SECTION_VALUES) | PART_BIT(SECTION_DOCS) | PART_BIT(SECTION_URIS) |
        PART_BIT(SECTION_EXPIRY) | PART_BIT(SECTION_KILL) | PART_BIT(SECTION_NAMES) |
        PART_BIT(SECTION_META);
    assert_int_equal(seen, wanted);
}

static void a_damaged_checksum_costs_its_page_alone(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < base.part->table_count; i++) {
        och_error failure = {0};
        uint32_t damage;
        flip(base.part->table_offset + 4 * i);
        och_code code = check_image(&damage, &failure);
        // the page that it is of: refused if primary, done without if derived
        unsigned owner = 0;
        for (unsigned id = 1; id < SECTION_COUNT; id++) {
            const struct part_section *section = &base.part->sections[id];
            if (section->size && i >= section->first_page &&
                i < section->first_page + part_section_pages(section))
                owner = id;
        }
        assert_true(owner != 0);
        if (part_section_is_derived(owner) || owner == SECTION_NAMES)
            assert_int_equal(code, OCH_OK);
        else
            assert_non_null(strstr(failure.message, part_section_name(owner)));
        if (code == OCH_OK)
            assert_true(damage & PART_BIT(SECTION_CRCS));
        restore();
    }
}

static void cut(uint64_t size)
{
    struct file *file;
    MUST(io_open(base.io, base.path, IO_WRITE, &file, err));
    MUST(file_truncate(file, size, err));
    file_close(file);
}

/* Anywhere, or in a section that can be done without. */
static uint64_t place_of(struct random *random, bool derived)
{
    for (;;) {
        uint64_t at = random_below(random, base.blob_size);
        for (unsigned id = 1; id < SECTION_COUNT; id++) {
            const struct part_section *section = &base.part->sections[id];
            bool inside =
                section->size && at >= section->offset && at - section->offset < section->size;
            if (!derived || (inside && part_section_is_derived(id)))
                return at;
        }
    }
}

/* Thousands of images with one to three faults each. */
static void no_damage_image_gives_a_wrong_answer(void **state)
{
    (void)state;
    const uint32_t images = cases_of(6000, 200);
    struct rows_options options = full;
    struct fixture other;
    options.order = some_order();
    fixture_init(&other, &options, 43);
    fixture_build(&other);
    uint8_t *strange = malloc(other.blob_size), page[4096];
    MUST(store_read(other.store, other.object, 0, strange, other.blob_size, err));
    struct random random;
    random_seed(&random, 7);
    uint32_t sound = 0, refused = 0, survived = 0;
    for (uint32_t image = 0; image < images; image++) {
        uint64_t faults = 1 + random_below(&random, 3);
        bool was_cut = false, derived = image % 3 == 0;
        for (uint64_t i = 0; i < faults && !was_cut; i++) {
            uint64_t kind = random_below(&random, 6), at = place_of(&random, derived);
            kind = derived && kind == 0 ? 1 : kind;
            uint64_t step = (uint64_t)64 << random_below(&random, 7);
            at = kind == 1 ? at : at - at % step;
            size_t len = min_size((size_t)(base.blob_size - at), (size_t)step);
            uint64_t from = random_below(&random, other.blob_size - len + 1);
            from -= from % 64;
            switch (kind) {
            case 0:
                cut(at);
                was_cut = true;
                break;
            case 1:
                flip(at);
                break;
            case 2: // zeros
                memset(page, 0, sizeof(page));
                MUST(io_sim_poke(base.io, base.path, at, page, len, err));
                break;
            case 3: // a piece of the same part elsewhere
                from = min_size((size_t)from, (size_t)base.blob_size - len);
                MUST(io_sim_poke(base.io, base.path, at, blob + from, len, err));
                break;
            case 4: // the same piece of another part
                if (at + len <= other.blob_size)
                    MUST(io_sim_poke(base.io, base.path, at, strange + at, len, err));
                break;
            default: // noise
                random_fill(&random, page, len);
                MUST(io_sim_poke(base.io, base.path, at, page, len, err));
                break;
            }
        }
        och_error failure = {0};
        uint32_t damage;
        och_code code = check_image(&damage, &failure);
        refused += code != OCH_OK;
        survived += code == OCH_OK && damage;
        sound += code == OCH_OK && !damage;
        if (was_cut)
            cut(base.blob_size);
        restore();
    }
    printf("%d images: %u refused, %u answered from primary sections, %u untouched\n", images,
           refused, survived, sound);
    assert_true(refused > images / 6 && survived > images / 12);
    free(strange);
    fixture_done(&other);
}

static void sealed_nonsense_never_crashes(void **state)
{
    (void)state;
    struct random random;
    random_seed(&random, 17);
    uint8_t *copy = malloc(base.blob_size);
    struct cache *cache;
    MUST(cache_new(64 << 20, NULL, &cache, err));
    const uint32_t images = cases_of(3000, 90);
    uint32_t opened = 0;
    for (uint32_t image = 0; image < images; image++) {
        memcpy(copy, blob, base.blob_size);
        uint64_t faults = 1 + random_below(&random, 4);
        for (uint64_t i = 0; i < faults; i++) {
            // mostly where figures stand: heads, tables, indexes at a section's end
            unsigned id = (unsigned)random_below(&random, SECTION_COUNT);
            const struct part_section *section = &base.part->sections[id];
            uint64_t at = random_below(&random, base.blob_size);
            if (section->size) {
                uint64_t reach = section->size < 200 ? section->size : 200;
                uint64_t within = random_below(&random, reach);
                at = section->offset + (image % 2 ? within : section->size - 1 - within);
            } else if (image % 3 == 0) {
                at = base.info.ref.dir_offset + random_below(&random, base.info.ref.dir_len);
            }
            copy[at] = (uint8_t)(image % 5 ? random_u64(&random) : 0xff);
        }
        reseal(copy, base.blob_size);
        struct bytes_store bytes = bytes_store_of(copy, base.blob_size);
        struct part_env env = {&bytes.store, cache, NULL};
        struct part_ref ref;
        struct part *part;
        uuid collection;
        if (part_ref_at_end(&bytes.store, base.object, base.blob_size, &ref, &collection, NULL) !=
                OCH_OK ||
            part_open(&env, &ref, collection, &part, NULL) != OCH_OK)
            continue;
        opened++;
        part_ask_everything(part, cache);
        part_unref(part);
    }
    assert_true(opened > images / 3);
    cache_free(cache);
    free(copy);
}

static void a_read_that_fails_is_an_error_or_goes_round(void **state)
{
    (void)state;
    bool passed = false;
    for (uint64_t nth = 1; !passed; nth++) {
        struct part *part;
        och_error failure = {0};
        uint64_t before = io_sim_count(base.io, IO_SIM_READ);
        io_sim_fail_at(base.io, IO_SIM_READ, nth, nth % 2 ? EIO : EAGAIN, false);
        och_code code = fixture_open(&base, &part, &failure);
        if (code == OCH_OK) {
            code = check_part(&base, part, &failure);
            uint32_t damage = part_damage(part);
            // gone round only for the disk's own word, and only around derived sections
            assert_true(!damage || nth % 2);
            for (unsigned id = 1; id < SECTION_COUNT; id++)
                assert_true(!(damage & PART_BIT(id)) || part_section_is_derived(id));
            if (code != OCH_OK) { // nothing of the failure stays
                MUST(check_part(&base, part, err));
            }
            part_unref(part);
        }
        passed = io_sim_count(base.io, IO_SIM_READ) - before < nth;
        io_sim_fail_at(base.io, IO_SIM_READ, 0, 0, false);
        assert_true(code == OCH_OK || code == OCH_IO);
        assert_true(nth < 500);
    }
}

static void an_allocation_that_fails_is_an_error(void **state)
{
    (void)state;
    struct rows_options options = full;
    options.count = 60;
    bool passed = false;
    uint32_t failed = 0;
    for (uint64_t nth = 1; !passed; nth += nth < 400 ? 1 : 17) {
        struct fixture f;
        struct store_writer *writer;
        fixture_init(&f, &options, 5);
        uint64_t live = mem_count_live(), begin = mem_count_allocations();
        MUST(store_create(f.store, f.object, &writer, err));
        mem_fail_at(nth);
        och_code code = fixture_append(&f, writer, &f.info, NULL);
        if (code == OCH_OK) {
            mem_fail_at(0);
            uint64_t used = mem_count_allocations() - begin;
            MUST(store_finish(writer, err));
            mem_fail_at(nth > used ? nth - used : 0);
            struct part *part;
            code = fixture_open(&f, &part, NULL);
            if (code == OCH_OK) {
                code = check_part(&f, part, NULL);
                passed = nth > mem_count_allocations() - begin;
                mem_fail_at(0);
                part_unref(part);
            }
        } else {
            store_abandon(writer);
        }
        mem_fail_at(0);
        assert_true(code == OCH_OK || code == OCH_NO_MEMORY);
        failed += code != OCH_OK;
        (void)live;
        fixture_done(&f);
    }
    printf("%u allocations failed in turn\n", failed);
    assert_true(failed > 50);
}

static void a_cache_too_small_refuses_and_never_lies(void **state)
{
    (void)state;
    for (size_t limit = 2000; limit < 200000; limit = limit * 3 / 2) {
        struct cache *own = base.cache, *small;
        struct part *part;
        och_error failure = {0};
        MUST(cache_new(limit, NULL, &small, err));
        base.cache = small;
        och_code code = fixture_open(&base, &part, &failure);
        if (code == OCH_OK) {
            code = check_part(&base, part, &failure);
            assert_int_equal(part_damage(part), 0);
            part_unref(part);
        }
        assert_true(code == OCH_OK || code == OCH_BUSY);
        assert_true(code == OCH_BUSY || limit > 50000);
        cache_free(small);
        base.cache = own;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_section_damaged_answers_or_names_itself),
        cmocka_unit_test(a_damaged_checksum_costs_its_page_alone),
        cmocka_unit_test(no_damage_image_gives_a_wrong_answer),
        cmocka_unit_test(sealed_nonsense_never_crashes),
        cmocka_unit_test(a_read_that_fails_is_an_error_or_goes_round),
        cmocka_unit_test(an_allocation_that_fails_is_an_error),
        cmocka_unit_test(a_cache_too_small_refuses_and_never_lies),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
