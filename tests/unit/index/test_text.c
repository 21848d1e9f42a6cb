/* SPDX-License-Identifier: Apache-2.0 */
/* The text index against the documents themselves: what it says of any needle is true, whatever the segments, pieces and encodings. */
#include "text_fixture.h"

static uint64_t candidates, matches;

static void check_needle(struct corpus *c, slice needle)
{
    struct arena arena;
    struct text_query query;
    uint64_t *words;
    uint32_t count, found = 0;
    arena_init(&arena, NULL, 0);
    MUST(text_query_contains(needle, &arena, &query, err));
    MUST(corpus_search(c, &query, &arena, &words, &count, err));
    for (uint32_t row = 0; row < c->count; row++) {
        bool is_candidate = words[row / 64] >> row % 64 & 1;
        bool truth = corpus_contains(c->documents[row], needle);
        found += is_candidate;
        matches += truth;
        if (truth && !is_candidate)
            fail_msg("row %u is missed for \"%.*s\"", row, SLICE_ARG(needle));
        if (query.exact && is_candidate && !truth)
            fail_msg("row %u is wrong for \"%.*s\"", row, SLICE_ARG(needle));
        if (is_candidate)
            assert_true(text_query_allows(&query, c->documents[row]) || !query.exact);
    }
    candidates += found;
    assert_int_equal(found, count);
    arena_done(&arena);
}

static void check_many(struct corpus *c, struct random *random, unsigned rounds)
{
    static const char *const fixed[] = {"quartz",
                                        "lighthouse protocol",
                                        "the",
                                        "THE",
                                        "ß",
                                        "文",
                                        "文件",
                                        "ファイル",
                                        "%",
                                        "_",
                                        "\\",
                                        "a_b",
                                        "absent everywhere",
                                        "zzz",
                                        "é"};
    for (size_t i = 0; i < COUNT_OF(fixed); i++)
        check_needle(c, slice_of(fixed[i]));
    check_needle(c, slice_make("\0", 1));
    check_needle(c, slice_make("a\0", 2));
    check_needle(c, slice_make("\0\0\0", 3));
    check_needle(c, slice_make(" \0 ", 3));
    check_needle(c, SLICE(""));
    for (unsigned i = 0; i < rounds; i++) {
        slice document = c->documents[random_below(random, c->count)];
        if (!document.len)
            continue;
        size_t from = (size_t)random_below(random, document.len);
        size_t len = 1 + (size_t)random_below(random, min_size(document.len - from, 24));
        check_needle(c, slice_make(document.at + from, len));
        if (i % 8 == 0)
            check_needle(c, document);
    }
}

static void needles_of_any_length_find_their_rows(void **state)
{
    static const struct {
        uint32_t count, capacity, piece;
        unsigned absent;
    } cases[] = {{2000, 0, 0, 10},    {2000, 5000, 0, 10}, {700, 0, 64, 0},
                 {700, 900, 100, 30}, {1, 0, 0, 0},        {65, 100, 7, 50},
                 {400, 0, 13, 95},    {0, 0, 0, 0},        {300, 0, 0, 100}};
    (void)state;
    candidates = matches = 0;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct corpus c;
        struct random random;
        random_seed(&random, i);
        corpus_init(&c, cases[i].count, cases[i].absent, i + 1);
        corpus_build(&c, cases[i].capacity);
        c.piece = cases[i].piece;
        c.reads = i % 2;
        c.unreadable = UINT32_MAX;
        if (c.count)
            check_many(&c, &random, 200);
        else
            check_needle(&c, SLICE("abc"));
        corpus_done(&c);
    }
    print_message("%u candidates, %u matches\n", (unsigned)candidates, (unsigned)matches);
    assert_true(candidates < matches * 3 / 2); // it is of use
}

static void every_needle_of_one_and_two_bytes_is_exact(void **state)
{
    struct corpus c;
    (void)state;
    corpus_init(&c, 60, 10, 77);
    corpus_build(&c, 0);
    for (unsigned a = 0; a < 256; a++) {
        uint8_t needle[2] = {(uint8_t)a, 0};
        check_needle(&c, slice_make(needle, 1));
        for (unsigned b = 0; b < 256; b++) {
            needle[1] = (uint8_t)b;
            if (text_string_is_exact(slice_make(needle, 2)) || b == 0)
                check_needle(&c, slice_make(needle, 2));
        }
    }
    corpus_done(&c);
}

/* Nearly all rows hold "e", a few of them before rare letters only: these are read, as long as that goes, and the answer is the same. */
static void rows_that_dense_lists_leave_open_are_read(void **state)
{
    enum { ROWS = 6000 };
    struct corpus c;
    struct random random;
    (void)state;
    random_seed(&random, 9);
    corpus_init(&c, ROWS, 100, 1);
    for (uint32_t row = 0; row < ROWS; row++) {
        char text[128];
        size_t len = 0;
        for (uint32_t i = 0; i < 20; i++) {
            text[len++] = row % 1500 == 7 || (row % 1500 == 8 && i) ? 'x' : 'e';
            text[len++] = row % 1500 == 8 ? 'Q' : (char)('a' + random_below(&random, 26));
            text[len++] = (char)('a' + random_below(&random, 26));
        }
        memcpy(text + len, row % 1500 == 7 || row % 1500 == 8 ? "x. " : "e. ", 3);
        c.documents[row] = arena_copy(&c.arena, slice_make((const uint8_t *)text, len + 3));
        c.bytes += len + 3;
    }
    c.documents[11] = slice_make(NULL, 0);
    corpus_build(&c, 0);
    check_needle(&c, SLICE("e"));
    assert_int_equal(c.read, 0);
    c.reads = true;
    c.unreadable = UINT32_MAX;
    check_needle(&c, SLICE("e"));
    assert_int_equal(c.read, 9); /* two of each 1500, and the one that is none */
    for (c.unreadable = 0; c.unreadable < 9; c.unreadable++) {
        c.read = 0;
        check_needle(&c, SLICE("e"));
        assert_int_equal(c.read, c.unreadable + 1);
    }
    corpus_done(&c);
}

/* Rows that have a gram densely, evenly, in runs, hardly ever: each encoding, many blocks. */
static void lists_of_any_shape_are_read_back(void **state)
{
    (void)state;
    struct random random;
    random_seed(&random, 5);
    unsigned used[3] = {0};
    for (unsigned round = 0; round < 200; round++) {
        uint32_t segment_rows = 1 + (uint32_t)random_below(&random, round % 20 ? 3000 : 1 << 18);
        uint64_t step = 1 + random_below(&random, round % 3 ? 2000 : 3);
        uint32_t *rows = malloc(4 * (size_t)segment_rows), count = 0;
        for (uint64_t row = random_below(&random, step); row < segment_rows;
             row += 1 + random_below(&random, 1 + random_below(&random, step)))
            rows[count++] = (uint32_t)row;
        size_t words = bitset_words(segment_rows);
        uint64_t *want = calloc(words, 8), *got = calloc(words, 8), *mask = calloc(words, 8);
        struct buf out;
        buf_init(&out, BUF_MAX_NONE);
        if (count) {
            struct text_list list = {.count = count};
            list.encoding = (uint8_t)text_list_write(rows, count, segment_rows, &out);
            list.len = (uint32_t)out.len;
            used[list.encoding]++;
            assert_true(out.len <= text_bitmap_size(segment_rows));
            for (uint32_t i = 0; i < count; i++)
                want[rows[i] / 64] |= 1ull << rows[i] % 64;
            assert_true(text_list_or(buf_view(&out), &list, segment_rows, got));
            assert_memory_equal(want, got, words * 8);
            for (uint32_t i = 0; i < segment_rows;
                 i += 1 + (uint32_t)random_below(&random, round + 2))
                mask[i / 64] |= 1ull << i % 64;
            memcpy(got, mask, words * 8);
            assert_true(text_list_and(buf_view(&out), &list, segment_rows, got));
            for (size_t w = 0; w < words; w++)
                assert_int_equal(got[w], mask[w] & want[w]);
            // any bytes: no crash, rows in range
            for (unsigned i = 0; i < (round % 20 ? 20 : 2); i++) {
                size_t at = (size_t)random_below(&random, out.len);
                uint8_t old = out.at[at];
                out.at[at] = (uint8_t)random_below(&random, 256);
                (void)!text_list_or(buf_view(&out), &list, segment_rows, got);
                (void)!text_list_and(buf_view(&out), &list, segment_rows, got);
                out.at[at] = old;
            }
        }
        buf_done(&out);
        free(rows);
        free(want);
        free(got);
        free(mask);
    }
    assert_true(used[0] > 10 && used[1] > 10 && used[2] > 10);
}

/* ---- reads that wait for one another ---- */

/* Where a cold search reads pieces that it has not read yet, in order: what it reads in one place does not depend on what it read there before. */
struct rounds {
    struct corpus *corpus;
    struct text_segment segments[8];
    uint32_t segment_count, segment; /* of the last read */
    bool in_lists;
    uint32_t rounds, back; /* changes of place; from lists to a dictionary of the same segment */
    uint32_t reads;
    bool seen[1024]; /* by piece: in the cache from then on */
};

static och_code rounds_at(void *context, uint64_t offset, const uint8_t **ret_at, size_t *ret_len,
                          och_error *err)
{
    struct rounds *r = context;
    uint32_t at = 0;
    bool in_lists = false;
    for (; at < r->segment_count; at++) {
        const struct text_segment *segment = &r->segments[at];
        in_lists = offset - segment->lists_at < segment->dict_at - segment->lists_at;
        if (in_lists || offset - segment->dict_at < segment->dict_len)
            break;
    }
    if (at == r->segment_count || offset / r->corpus->piece >= COUNT_OF(r->seen))
        fail_msg("a read at %llu of %zu", (unsigned long long)offset, r->corpus->section.len);
    if (r->seen[offset / r->corpus->piece])
        return corpus_at(r->corpus, offset, ret_at, ret_len, err);
    r->seen[offset / r->corpus->piece] = true;
    bool same = r->rounds && at == r->segment;
    r->rounds += !same || in_lists != r->in_lists;
    r->back += same && r->in_lists && !in_lists;
    r->reads++;
    r->segment = at;
    r->in_lists = in_lists;
    return corpus_at(r->corpus, offset, ret_at, ret_len, err);
}

/* The rounds of one cold search: 0 to 2 of each segment. */
static uint32_t count_rounds(struct corpus *c, slice text, bool pattern, uint32_t *ret_reads)
{
    struct arena arena;
    struct text_index index;
    struct text_query query;
    struct text_cursor cursor = {0};
    struct rounds r = {.corpus = c};
    struct text_pages pages = {&r, rounds_at};
    uint64_t *words, offset;
    uint32_t count;
    arena_init(&arena, NULL, 0);
    assert_true(corpus_open(c, &index));
    while (r.segment_count < COUNT_OF(r.segments) &&
           text_segment_next(&index, &cursor, &r.segments[r.segment_count]))
        r.segment_count++;
    assert_int_equal(r.segment_count, index.segments);
    if (pattern)
        text_query_regex(text, &arena, &query);
    else
        MUST(text_query_contains(text, &arena, &query, err));
    MUST(text_search(&index, &pages, &query, NULL, NULL, &arena, &words, &count, &offset, err));
    if (r.back || r.rounds > 2 * r.segment_count)
        fail_msg("%u rounds, %u times back, for \"%.*s\"", r.rounds, r.back, SLICE_ARG(text));
    arena_done(&arena);
    *ret_reads = r.reads;
    return r.rounds;
}

/* Dictionary blocks of all grams, then lists, segment by segment; a third round, that of the candidates' documents, is the caller's. */
static void a_cold_search_reads_in_two_rounds_a_segment(void **state)
{
    static const char *const needles[] = {"quartz", "lighthouse protocol", "the", "文件",
                                          "a_b",    "absent everywhere",   "é",   "x"};
    static const char *const patterns[] = {"(?i)quartz", "light(house|bulb) pro", "[a-z]{3}_a",
                                           "文.ファ",    "(foo|bar|baz) yz",      "func_?a.*x"};
    static const uint32_t capacities[] = {TEXT_CAPACITY_MAX, 40000};
    (void)state;
    for (size_t i = 0; i < COUNT_OF(capacities); i++) {
        struct corpus c;
        struct text_index index;
        uint32_t reads, most = 0;
        corpus_init(&c, 4000, 10, 77);
        corpus_build(&c, capacities[i]);
        c.piece = 4096;
        assert_true(corpus_open(&c, &index));
        assert_true(i ? index.segments > 1 : index.segments == 1);
        for (size_t j = 0; j < COUNT_OF(needles); j++) {
            uint32_t rounds = count_rounds(&c, slice_of(needles[j]), false, &reads);
            most = rounds > most ? rounds : most;
            /* each gram's dictionary block and list, each of which may lie in two pieces */
            if (strlen(needles[j]) > 2)
                assert_true(reads <= index.segments * 4 * (strlen(needles[j]) - 2));
        }
        for (size_t j = 0; j < COUNT_OF(patterns); j++) {
            uint32_t rounds = count_rounds(&c, slice_of(patterns[j]), true, &reads);
            most = rounds > most ? rounds : most;
        }
        assert_true(most >= 2);
        corpus_done(&c);
    }
}

static void hostile_documents_and_needles_take_bounded_room(void **state)
{
    struct corpus c;
    struct budget budget;
    (void)state;
    corpus_init(&c, 40, 0, 3);
    uint8_t *same = arena_alloc(&c.arena, 1 << 20), *all = arena_alloc(&c.arena, 4 << 20);
    memset(same, 'a', 1 << 20);
    struct random random;
    random_seed(&random, 9);
    for (size_t i = 0; i < 4 << 20; i++)
        all[i] = (uint8_t)random_below(&random, 256);
    c.documents[7] = slice_make(same, 1 << 20);
    c.documents[9] = slice_make(all, 4 << 20);
    c.documents[20] = slice_make(all + 1000, (4 << 20) - 1000);
    c.bytes += 9u << 20;
    budget_init(&budget, 0, NULL);
    MUST(corpus_build_in(&c, 1000, &budget, err));
    assert_int_equal(budget_used(&budget), 0);
    check_needle(&c, slice_make(same, 1 << 20));
    check_needle(&c, slice_make(same, 100));
    check_needle(&c, slice_make(all + 5000, 1 << 20));
    check_needle(&c, slice_make(all + 500, 300));
    // too little room: told, not crashed
    budget_init(&budget, 3 << 20, NULL);
    assert_int_equal(corpus_build_in(&c, 1000, &budget, NULL), OCH_BUSY);
    assert_int_equal(budget_used(&budget), 0);
    corpus_done(&c);
}

static void failing_allocations_are_survived(void **state)
{
    struct corpus c;
    (void)state;
    corpus_init(&c, 300, 10, 4);
    unsigned failed = 0;
    for (uint64_t nth = 1; nth < 200; nth++) {
        mem_fail_at(nth);
        och_code code = corpus_build_in(&c, 2000, NULL, NULL);
        mem_fail_at(0);
        assert_true(code == OCH_OK || code == OCH_NO_MEMORY);
        failed += code != OCH_OK;
    }
    assert_true(failed > 10);
    corpus_build(&c, 2000);
    for (uint64_t nth = 1; nth < 20; nth++) {
        struct arena arena;
        struct text_query query;
        uint64_t *words;
        uint32_t count;
        arena_init(&arena, NULL, 0);
        mem_fail_at(nth);
        och_code code = text_query_contains(SLICE("quartz"), &arena, &query, NULL);
        if (code == OCH_OK)
            code = corpus_search(&c, &query, &arena, &words, &count, NULL);
        mem_fail_at(0);
        assert_true(code == OCH_OK || code == OCH_NO_MEMORY);
        arena_done(&arena);
    }
    corpus_done(&c);
}

/* The cache's checksums find changed bytes; what passes them all the same must not crash. */
static void changed_bytes_are_errors_or_harmless(void **state)
{
    struct corpus c;
    struct random random;
    unsigned refused = 0, searched = 0;
    (void)state;
    random_seed(&random, 11);
    corpus_init(&c, 500, 10, 5);
    corpus_build(&c, 3000);
    for (size_t at = 0; at < c.section.len; at += 1 + c.section.len / 6000) {
        uint8_t old = c.section.at[at];
        struct arena arena;
        struct text_query query;
        uint64_t *words;
        uint32_t count;
        c.section.at[at] ^= (uint8_t)(1u << random_below(&random, 8));
        for (unsigned i = 0; i < 3; i++) {
            static const char *const needles[] = {"the", "e", "lighthouse protocol"};
            arena_init(&arena, NULL, 0);
            MUST(text_query_contains(slice_of(needles[i]), &arena, &query, err));
            och_code code = corpus_search(&c, &query, &arena, &words, &count, NULL);
            assert_true(code == OCH_OK || code == OCH_CORRUPT);
            refused += code == OCH_CORRUPT;
            searched++;
            arena_done(&arena);
        }
        c.section.at[at] = old;
    }
    print_message("%u of %u refused\n", refused, searched);
    assert_true(refused > 100);
    corpus_done(&c);
}

static void the_same_rows_give_the_same_section(void **state)
{
    struct corpus a, b;
    (void)state;
    corpus_init(&a, 900, 10, 6);
    corpus_init(&b, 900, 10, 6);
    corpus_build(&a, 4000);
    corpus_build(&b, 4000);
    assert_int_equal(a.section.len, b.section.len);
    assert_memory_equal(a.section.at, b.section.at, a.section.len);
    corpus_done(&a);
    corpus_done(&b);
}

/* The lines "<address>: <hex> ..." of the page's example. */
static size_t read_example(uint8_t *at, size_t room)
{
    FILE *page = fopen("docs/formats/text.md", "r");
    char line[2000];
    size_t len = 0;
    if (!page)
        skip(); // not run from the project's folder
    while (fgets(line, sizeof(line), page)) {
        unsigned address;
        int used = 0;
        if (sscanf(line, "%8x: %n", &address, &used) != 1 || used != 10)
            continue;
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

static void the_pages_example_is_what_is_built(void **state)
{
    uint8_t bytes[1024];
    struct corpus c;
    (void)state;
    size_t len = read_example(bytes, sizeof(bytes));
    corpus_init(&c, 0, 0, 0);
    slice documents[] = {SLICE("abab"), SLICE_NONE, SLICE(""), SLICE("ab")};
    c.documents = documents;
    c.count = 4;
    c.bytes = 6;
    corpus_build(&c, 0);
    assert_int_equal(c.section.len, len);
    assert_memory_equal(c.section.at, bytes, len);
    assert_int_equal(c.directory_len, 124);
    check_needle(&c, SLICE("ab"));
    check_needle(&c, SLICE(""));
    check_needle(&c, SLICE("bab"));
    corpus_done(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(needles_of_any_length_find_their_rows),
        cmocka_unit_test(every_needle_of_one_and_two_bytes_is_exact),
        cmocka_unit_test(rows_that_dense_lists_leave_open_are_read),
        cmocka_unit_test(lists_of_any_shape_are_read_back),
        cmocka_unit_test(a_cold_search_reads_in_two_rounds_a_segment),
        cmocka_unit_test(hostile_documents_and_needles_take_bounded_room),
        cmocka_unit_test(failing_allocations_are_survived),
        cmocka_unit_test(changed_bytes_are_errors_or_harmless),
        cmocka_unit_test(the_same_rows_give_the_same_section),
        cmocka_unit_test(the_pages_example_is_what_is_built),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
