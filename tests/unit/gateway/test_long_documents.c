/* SPDX-License-Identifier: Apache-2.0 */
/* A document of 40 MB, one of all code points and short ones: strings and patterns find them wherever they stand, in the tail, in a part and in a merged one,
 * in bounded time (text-index.md §7). */
#define STACK_GATEWAY
#include "support/slow.h"
#include "support/stack.h"

#include <time.h>

#define LONG_BYTES  (40u << 20)
#define QUICK_BYTES (2u << 20)
#define CPU_S_MAX   30 /* of one question; one that is not linear takes hours */

enum { LONG = 1, ALL = 2, SHORT = 4, OTHER = 8 }; /* rows, as bits; OTHER comes last */
static const char *const names[] = {"long", "all", "short", "other"};

/* What lies around borders of pages, blocks, pieces of a deadline's check and others: "{needle:00}" and on, each over one of them. */
static const uint32_t borders[] = {4096,    8192,     16384,   65536,   131072,
                                   1 << 20, 16 << 20, 2 << 20, 8 << 20, 32 << 20};
#define NEEDLE_LEN 11

struct texts {
    slice longest, all;
};

static void put(uint8_t *at, size_t place, const char *text)
{
    memcpy(at + place, text, strlen(text));
}

/* Words of lower case, and the needles. */
static slice make_long(struct arena *arena, uint32_t bytes)
{
    static const char *const words[] = {"treaty ", "of ",    "westphalia ", "signed ", "in ",
                                        "spring ", "harbor", "lighthouse ", "the ",    "a, "};
    struct random random;
    uint8_t *at = arena_alloc(arena, bytes);
    size_t len = 0;
    assert_non_null(at);
    random_seed(&random, 40);
    while (len < bytes) {
        const char *word = words[random_below(&random, COUNT_OF(words))];
        size_t size = min_size(strlen(word), bytes - len);
        memcpy(at + len, word, size);
        len += size;
    }
    put(at, 0, "{needle:start}");
    put(at, bytes / 2 + 3, "{needle:middle} Q123456Q");
    put(at, bytes - 22, "ΩΩΩΩΩ{needle:end}"); /* the last bytes */
    for (unsigned i = 0; i < COUNT_OF(borders); i++) {
        char needle[NEEDLE_LEN + 1];
        (void)snprintf(needle, sizeof(needle), "{needle:%02u}", i);
        if (borders[i] + 100 < bytes && borders[i] != bytes / 2)
            put(at, borders[i] - NEEDLE_LEN / 2, needle);
    }
    return slice_make(at, bytes);
}

static slice make_all(struct arena *arena)
{
    uint8_t *at = arena_alloc(arena, 0x110000 * 4);
    size_t len = 0;
    assert_non_null(at);
    for (uint32_t c = 0; c < 0x110000; c++) {
        if (c >= 0xD800 && c < 0xE000)
            continue;
        if (c >= 0x10000)
            at[len++] = (uint8_t)(0xF0 | c >> 18);
        if (c >= 0x800)
            at[len++] = (uint8_t)(c >= 0x10000 ? 0x80 | (c >> 12 & 63) : 0xE0 | c >> 12);
        if (c >= 0x80)
            at[len++] = (uint8_t)(c >= 0x800 ? 0x80 | (c >> 6 & 63) : 0xC0 | c >> 6);
        at[len++] = (uint8_t)(c >= 0x80 ? 0x80 | (c & 63) : c);
    }
    return slice_make(at, len);
}

static void write_one(struct stack *s, uuid id, const char *name, slice document)
{
    static const float vector[STACK_DIM] = {1, 2, 3, 4};
    struct batch_input_row row = {.op = BATCH_ADD,
                                  .id = slice_of(name),
                                  .vector = vector,
                                  .document_state = FIELD_VALUE,
                                  .document = document};
    struct batch_input batch = {.count = 1, .dimension = STACK_DIM, .rows = &row};
    struct payload *payload = NULL;
    struct wal_appended appended;
    OK(batch_encode(&batch, &s->budget, &payload, err));
    struct wal_append request = {.collection = id,
                                 .payload = payload,
                                 .count = 1,
                                 .dimension = STACK_DIM,
                                 .fixes_dimension = true};
    OK(wal_append(s->wal, &request, &appended, err));
    payload_unref(payload);
}

/* The rows that pass; with `documents` read and compared too. */
static unsigned ask(struct stack *s, uuid id, const char *op, slice text,
                    const struct texts *documents)
{
    struct json_member leaf = {.name = slice_of(op), .value = {.kind = JSON_STRING}};
    struct json_value clause = {.kind = JSON_OBJECT, .count = 1, .members = &leaf};
    struct gateway_scope scope = {SLICE("default_tenant"), SLICE("default_database"), .as_of = 0};
    struct filter_node *filter;
    struct query_result result;
    struct arena arena;
    unsigned rows = 0;
    leaf.value.string = text;
    arena_init(&arena, &s->budget, 0);
    OK(filter_parse_document(&clause, &arena, &filter, err));
    struct plan plan = {.kind = PLAN_GET,
                        .collection = id,
                        .fields = documents ? RECORD_ID | RECORD_DOCUMENT : RECORD_ID,
                        .limit = PLAN_NO_LIMIT,
                        .filter = filter};
    clock_t begin = clock();
    OK(gateway_read(s->gateway, &scope, &plan, &arena, &result, err));
    double spent = (double)(clock() - begin) / CLOCKS_PER_SEC;
    if (spent > CPU_S_MAX)
        fail_msg("%s %.*s took %.0f s", op, (int)min_size(text.len, 40), (const char *)text.at,
                 spent);
    for (size_t i = 0; i < result.hits->count; i++) {
        const struct record *record = &result.hits->rows[i].record;
        unsigned row = 0;
        while (row < COUNT_OF(names) && !slice_equal(record->id, slice_of(names[row])))
            row++;
        rows |= 1u << row;
        if (documents && row < 2)
            assert_true(slice_equal(record->document, row ? documents->all : documents->longest));
    }
    query_result_done(&result);
    arena_done(&arena);
    return rows;
}

static void check(struct stack *s, uuid id, const char *op, slice text, unsigned expected)
{
    unsigned rows = ask(s, id, op, text, NULL);
    if (rows != expected)
        fail_msg("%s %.*s: rows %x, not %x", op, (int)min_size(text.len, 40), (const char *)text.at,
                 rows, expected);
}

static void check_strings(struct stack *s, uuid id, const struct texts *texts, unsigned there)
{
    static const struct {
        const char *text;
        unsigned rows;
    } cases[] = {{"{needle:start}", LONG},
                 {"{needle:middle} Q", LONG},
                 {"ΩΩ{needle:end}", LONG},
                 {"{needle:end}x", 0},
                 {"{needle:nowhere}", 0},
                 {"{needle", LONG | OTHER},
                 {"Q1", LONG},
                 {"\xf4\x8f\xbf\xbf", ALL},
                 {"\xed\x9f\xbf\xee\x80\x80", ALL}, /* around the surrogates */
                 {"\xef\xbf\xbf\xf0\x90\x80\x80", ALL},
                 {"ЖЗИЙ", ALL},
                 {"westphalia ", LONG | SHORT},
                 {"", LONG | ALL | SHORT | OTHER}};
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        check(s, id, "$contains", slice_of(cases[i].text), cases[i].rows & there);
    for (unsigned i = 0; i < COUNT_OF(borders); i++) {
        char needle[NEEDLE_LEN + 1];
        (void)snprintf(needle, sizeof(needle), "{needle:%02u}", i);
        bool in = borders[i] + 100 < texts->longest.len && borders[i] != texts->longest.len / 2;
        check(s, id, "$contains", slice_of(needle), in ? LONG : 0);
    }
    check(s, id, "$contains", slice_make("\0\1\2", 3), ALL);
    check(s, id, "$contains", slice_make("\0", 1), ALL);
    check(s, id, "$not_contains", SLICE("{needle:end}"), (ALL | SHORT | OTHER) & there);
    check(s, id, "$contains", texts->longest, LONG);
    check(s, id, "$contains", slice_from(texts->longest, 1), LONG);
    check(s, id, "$contains", texts->all, ALL);
    assert_int_equal(ask(s, id, "$contains", SLICE("Z"), texts), ALL);
    assert_int_equal(ask(s, id, "$contains", SLICE("{needle:start}"), texts), LONG);
}

static void check_patterns(struct stack *s, uuid id, unsigned there)
{
    static const struct {
        const char *pattern;
        unsigned rows;
    } cases[] = {{"\\{needle:e[a-z]+\\}$", LONG},
                 {"^\\{needle:start", LONG},
                 {"^\\{needle", LONG | OTHER},
                 {"(?i)NEEDLE:MIDDLE", LONG},
                 {"needle:x?no[v-w]here", 0},
                 {"needle:0[0-9]\\}", LONG},
                 {"[A-Z][0-9]{6}[A-Z]", LONG}, /* no literal from here on */
                 {"\\p{Greek}{5}", LONG | ALL},
                 {"[\\x{10FFFE}-\\x{10FFFF}]{2}", ALL},
                 {"\\x00[\\x00-\\x03]{3}", ALL},
                 {"[0-9]{7}", ALL},
                 {"[0-9]{11}", 0},
                 {"(?s)^.*$", LONG | ALL | SHORT | OTHER},
                 {"[a-z]{12}", LONG | ALL | SHORT},
                 {"", LONG | ALL | SHORT | OTHER}};
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        check(s, id, "$regex", slice_of(cases[i].pattern), cases[i].rows & there);
    check(s, id, "$not_regex", SLICE("\\p{Greek}{5}"), (SHORT | OTHER) & there);
}

static void documents_of_40_mb_are_found_by_what_they_hold(void **state)
{
    (void)state;
    struct stack stack = {.threads = 2}, *s = &stack;
    struct arena arena;
    arena_init(&arena, NULL, 0);
    struct texts texts = {make_long(&arena, cases_of(LONG_BYTES, QUICK_BYTES)), make_all(&arena)};
    stack_open(s);
    uuid id = stack_collection(s, "long", "l2");
    write_one(s, id, "long", texts.longest);
    write_one(s, id, "all", texts.all);
    write_one(s, id, "short", SLICE("westphalia harborharbor"));
    for (int state_of = 0; state_of < 3; state_of++) { /* tail, part, parts merged */
        unsigned there = LONG | ALL | SHORT;
        if (state_of == 2) {
            write_one(s, id, "other", SLICE("{needle"));
            there |= OTHER;
        }
        if (state_of)
            OK(compactor_run(s->compactor, &id, state_of == 2, err));
        check_strings(s, id, &texts, there);
        check_patterns(s, id, there);
    }
    arena_done(&arena);
    stack_done(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(documents_of_40_mb_are_found_by_what_they_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
