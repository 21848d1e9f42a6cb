/* SPDX-License-Identifier: Apache-2.0 */
/* Text that is not JSON, hostile text, and memory that runs out. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "unit/json/reading.h"
#include "json/tree.h"

static void faults_read_as_the_peer_words_them(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        /* Recorded from the peer. */
        {"", "EOF while parsing a value at line 1 column 0"},
        {"{", "EOF while parsing an object at line 1 column 1"},
        {"}", "expected value at line 1 column 1"},
        {"{\"name\":\"abc\"} x", "trailing characters at line 1 column 16"},
        {"{\"name\":\"abc\",}", "trailing comma at line 1 column 15"},
        {"{\"name\":\"abc\"}}", "trailing characters at line 1 column 15"},
        {"{\"name\":\"unterminated}", "EOF while parsing a string at line 1 column 22"},
        {"{\"ids\":[\"n\"],\"embeddings\":[[NaN,1]]}", "expected value at line 1 column 29"},
        {"{\"ids\":[\"n\"],\"embeddings\":[[Infinity,1]]}", "expected value at line 1 column 29"},
        {"{\"ids\":[\"n\"],\"embeddings\":[[1e999,1]]}", "number out of range at line 1 column 33"},
        {"{\"ids\":[\"n\"],\"embeddings\":[[01,1]]}", "invalid number at line 1 column 30"},
        {"{\"ids\":[\"n\"],\"embeddings\":[[.5,1]]}", "expected value at line 1 column 29"},
        {"{\"ids\":[\"n\"],\"embeddings\":[[1.,1]]}", "invalid number at line 1 column 31"},
        {"{\"ids\":[\"n\"],\"embeddings\":[[+1,1]]}", "expected value at line 1 column 29"},
        {"{\"ids\":}", "expected value at line 1 column 8"},
        {"{'ids':[]}", "key must be a string at line 1 column 2"},
        {"{\"ids\":[\"a\"],}", "trailing comma at line 1 column 14"},
        {"\xef\xbb\xbf{}", "expected value at line 1 column 1"},
        {"{\"ids\":[\"\\ud800\"]}", "unexpected end of hex escape at line 1 column 16"},
        {"{\"ids\":[\"a\nb\"]}",
         "control character (\\u0000-\\u001F) found while parsing a string at line 2 column 0"},
        {"{\"ids\":[\"\\x41\"]}", "invalid escape at line 1 column 11"},
        {"// c\n{}", "expected value at line 1 column 1"},
        {"{\"ids\":[\"\xff\"]}", "invalid unicode code point at line 1 column 11"},
        {"{\"ids\":[\"a\"]} {}", "trailing characters at line 1 column 15"},
        /* In the same manner. */
        {" \n ", "EOF while parsing a value at line 2 column 1"},
        {"[", "EOF while parsing a list at line 1 column 1"},
        {"[1", "EOF while parsing a list at line 1 column 2"},
        {"[1,", "EOF while parsing a value at line 1 column 3"},
        {"[1,]", "trailing comma at line 1 column 4"},
        {"[1 2]", "expected `,` or `]` at line 1 column 4"},
        {"[1}", "expected `,` or `]` at line 1 column 3"},
        {"[,1]", "expected value at line 1 column 2"},
        {"{\"a\"}", "expected `:` at line 1 column 5"},
        {"{\"a\"", "EOF while parsing an object at line 1 column 4"},
        {"{\"a\":1 \"b\":2}", "expected `,` or `}` at line 1 column 8"},
        {"{\"a\":1,2:3}", "key must be a string at line 1 column 8"},
        {"{\"a\":1,", "EOF while parsing a value at line 1 column 7"},
        {"nul", "EOF while parsing a value at line 1 column 3"},
        {"nulL", "expected ident at line 1 column 4"},
        {"[truefalse]", "expected `,` or `]` at line 1 column 6"},
        {"-", "EOF while parsing a value at line 1 column 1"},
        {"[-a]", "invalid number at line 1 column 3"},
        {"[1e]", "invalid number at line 1 column 4"},
        {"[1e+]", "invalid number at line 1 column 5"},
        {"1.", "EOF while parsing a value at line 1 column 2"},
        {"1x", "trailing characters at line 1 column 2"},
        {"1e400", "number out of range at line 1 column 5"},
        {"\"\\udc00\"", "lone leading surrogate in hex escape at line 1 column 7"},
        {"\"\\ud800\\u0041\"", "lone leading surrogate in hex escape at line 1 column 13"},
        {"\"\\ud800x", "unexpected end of hex escape at line 1 column 8"},
        {"\"\\u12", "EOF while parsing a string at line 1 column 5"},
        {"\"\\u12g4\"", "invalid escape at line 1 column 7"},
        {"\"a", "EOF while parsing a string at line 1 column 2"},
        {"\"a\\", "EOF while parsing a string at line 1 column 3"},
        {"\"\xed\xa0\x80\"", "invalid unicode code point at line 1 column 5"},
        {"\"\xc0\xaf\"", "invalid unicode code point at line 1 column 4"},
        {"[1]\xff", "trailing characters at line 1 column 4"},
        {"1],[2", "trailing characters at line 1 column 2"},
        {"1,2", "trailing characters at line 1 column 2"},
        {"[1]\n[2]", "trailing characters at line 2 column 1"},
        {"\f[]", "expected value at line 1 column 1"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct reading r;
        read_with(&r, slice_of(cases[i].text), &float_options);
        if (r.code != OCH_INVALID || strcmp(r.err.message, cases[i].message) != 0)
            fail_msg("%s: %d %s, not %s", cases[i].text, r.code, r.err.message, cases[i].message);
        assert_non_null(r.fault.reason);
        assert_true(r.fault.offset <= strlen(cases[i].text));
        done_with(&r);
    }
}

static void the_largest_doubles_are_told_from_too_large_ones(void **state)
{
    (void)state;
    static const char half[] = /* 2^1024 − 2^970 */
        "179769313486231580793728971405303415079934132710037826936173778980444968292764750946649017"
        "977587"
        "207096330286416692887910946555547851940402630657488671505820681908902000708383676273854845"
        "817711"
        "531764475730270069855571366959622842914819860834936475292719074168444365510704342711559699"
        "508093"
        "042880177904174497792";
    static const struct {
        const char *front, *back;
        bool fits;
    } cases[] = {{"", "", false},          {"", "e0", false},     {"", "e1", false},
                 {"", "e-1", true},        {"0.", "e309", false}, {"0.", "e308", true},
                 {"0.000", "e312", false}, {"", ".0001", false},  {"-", "", false},
                 {"", "0e-1", false},      {"", "00e-3", true}};
    char text[400];
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        snprintf(text, sizeof text, "[%s%s%s]", cases[i].front, half, cases[i].back);
        struct reading r;
        read_with(&r, slice_of(text), NULL);
        if (r.code != (cases[i].fits ? OCH_OK : OCH_INVALID))
            fail_msg("%s half %s: %d", cases[i].front, cases[i].back, r.code);
        struct json_fault fault;
        assert_int_equal(json_scan(slice_of(text), &fault), cases[i].fits);
        done_with(&r);
    }
    /* One less in the last place rounds down. */
    struct reading r;
    snprintf(text, sizeof text, "[%.307s79]", half);
    assert_int_equal(read_with(&r, slice_of(text), NULL)->code, OCH_OK);
    done_with(&r);
}

static void depth_128_is_read_and_129_refused(void **state)
{
    (void)state;
    for (int objects = 0; objects < 3; objects++)
        for (size_t depth = 126; depth <= 131; depth++) {
            CLEANUP(buf_cleanup) struct buf text;
            buf_init(&text, BUF_MAX_NONE);
            size_t at_129 = 0;
            for (size_t i = 0; i < depth; i++) {
                bool object = objects == 1 || (objects == 2 && i % 2);
                at_129 = i == 128 ? text.len + 1 : at_129;
                buf_text(&text, object ? "{\"embeddings\":" : "[");
            }
            buf_text(&text, "1");
            for (size_t i = depth; i-- > 0;)
                buf_text(&text, objects == 1 || (objects == 2 && i % 2) ? "}" : "]");
            struct reading r;
            read_with(&r, buf_view(&text), &float_options);
            if (depth <= JSON_DEPTH_MAX) {
                assert_int_equal(r.code, OCH_OK);
                CLEANUP(buf_cleanup) struct buf again;
                buf_init(&again, BUF_MAX_NONE);
                json_write_value(&again, &r.value);
                assert_true(slice_equal(buf_view(&again), buf_view(&text)));
                assert_true(json_equal(&r.value, &r.value));
            } else {
                char want[80];
                snprintf(want, sizeof want, "recursion limit exceeded at line 1 column %zu",
                         at_129);
                assert_int_equal(r.code, OCH_INVALID);
                assert_string_equal(r.err.message, want);
            }
            done_with(&r);
        }
}

static void endless_openings_cost_nothing(void **state)
{
    (void)state;
    enum { SIZE = 3 << 20 };
    uint8_t *text = malloc(SIZE);
    assert_non_null(text);
    static const char *const bricks[] = {"[", "{\"a\":", "[[1],", "[{\"\":["};
    for (size_t i = 0; i < COUNT_OF(bricks); i++) {
        size_t len = strlen(bricks[i]);
        for (size_t at = 0; at < SIZE; at++)
            text[at] = (uint8_t)bricks[i][at % len];
        struct reading r;
        read_with(&r, slice_make(text, SIZE), &float_options);
        assert_int_equal(r.code, OCH_INVALID);
        done_with(&r);
    }
    free(text);
}

/* The reader and the scan are two grammars: they must agree on every text. */
static och_code both_ways(const uint8_t *padded, size_t len, bool keep)
{
    struct json_options options = float_options;
    options.keep_text = keep;
    struct reading r;
    read_with(&r, slice_make(padded, len), &options);
    struct json_fault fault = {0};
    bool sound = json_scan(slice_make(padded, len), &fault);
    bool mark = len >= 3 && memcmp(padded, "\xef\xbb\xbf", 3) == 0;
    if (r.code != (sound && !mark ? OCH_OK : OCH_INVALID))
        fail_msg("reader %d, scan %d: %.*s", r.code, sound, (int)len, (const char *)padded);
    if (!sound && (fault.offset > len || fault.line == 0 || !fault.reason))
        fail_msg("no place for the fault: %.*s", (int)len, (const char *)padded);
    och_code code = r.code;
    done_with(&r);
    return code;
}

/* Whatever lies in the padding, no text is completed by it. */
static void every_cut_is_refused_whatever_follows(void **state)
{
    (void)state;
    static const char followers[] = {0,   ']', '}', ',', '"',  '1',       ' ',
                                     ':', '[', '{', 'e', '\\', (char)0xff};
    uint8_t text[sizeof rich + JSON_PADDING];
    size_t whole = sizeof rich - 1;
    for (size_t len = 0; len < whole; len++)
        for (size_t f = 0; f < sizeof followers; f++) {
            memset(text, followers[f], sizeof text);
            memcpy(text, rich, len);
            /* Cut in the closing blanks it is whole. */
            och_code want = len == whole - 1 ? OCH_OK : OCH_INVALID;
            assert_int_equal(both_ways(text, len, true), want);
            assert_int_equal(both_ways(text, len, false), want);
        }
}

static void one_wrong_byte_is_judged_alike_by_both_grammars(void **state)
{
    (void)state;
    uint8_t text[sizeof rich + JSON_PADDING] = {0};
    size_t len = sizeof rich - 1, refused = 0;
    for (size_t at = 0; at < len; at++)
        for (unsigned byte = 0; byte < 256; byte++) {
            memcpy(text, rich, len);
            text[at] = (uint8_t)byte;
            refused += both_ways(text, len, true) != OCH_OK;
        }
    assert_true(refused > len * 100);
}

static void random_damage_is_judged_alike_by_both_grammars(void **state)
{
    (void)state;
    static const char *const bits[] = {"[",
                                       "]",
                                       "{",
                                       "}",
                                       ",",
                                       ":",
                                       "\"",
                                       "\\",
                                       "1",
                                       "-",
                                       ".",
                                       "e",
                                       "0",
                                       "null",
                                       "tru",
                                       " ",
                                       "\n",
                                       "\"a\"",
                                       "\\u",
                                       "1e400",
                                       "\xc3",
                                       "[1,2]",
                                       "\"embeddings\":",
                                       "9999999999999999999"};
    uint8_t text[1024];
    uint64_t random = 7;
    for (int round = 0; round < 60000; round++) {
        size_t len = 0;
        if (round % 2) {
            len = sizeof rich - 1;
            memcpy(text, rich, len);
        }
        for (uint64_t edits = 1 + next_random(&random) % (round % 2 ? 4 : 12); edits > 0; edits--) {
            const char *bit = bits[next_random(&random) % COUNT_OF(bits)];
            size_t bit_len = strlen(bit), at = (size_t)(next_random(&random) % (len + 1));
            size_t cut = min_size((size_t)(next_random(&random) % 4), len - at);
            memmove(text + at + bit_len, text + at + cut, len - at - cut);
            memcpy(text + at, bit, bit_len);
            len += bit_len - cut;
        }
        memset(text + len, (int)next_random(&random), JSON_PADDING);
        both_ways(text, len, round % 3 == 0);
    }
}

static void hostile_escapes_and_repeats_stay_linear(void **state)
{
    (void)state;
    CLEANUP(buf_cleanup) struct buf text;
    buf_init(&text, BUF_MAX_NONE);
    buf_text(&text, "{\"embeddings\":[");
    for (int i = 0; i < 100000; i++)
        buf_text(&text, "[1,2,3,4,5,6,7,8,9,\"\\n\"],");
    buf_text(&text, "\"");
    for (int i = 0; i < 500000; i++)
        buf_text(&text, "\\\\");
    buf_text(&text, "\"]}");
    struct reading r;
    read_with(&r, buf_view(&text), &float_options);
    assert_int_equal(r.code, OCH_OK);
    assert_int_equal(r.value.members[0].value.count, 100001);
    assert_int_equal(r.value.members[0].value.items[100000].string.len, 500000);
    done_with(&r);
}

static void every_failed_allocation_is_an_error_and_leaks_nothing(void **state)
{
    (void)state;
    struct reading r;
    read_with(&r, slice_of(rich), &float_options); /* warm the thread's parser */
    done_with(&r);
    uint64_t live = mem_count_live();
    for (uint64_t nth = 1;; nth++) {
        mem_fail_at(nth);
        read_with(&r, slice_of(rich), &float_options);
        mem_fail_at(0);
        och_code code = r.code;
        done_with(&r);
        assert_int_equal(mem_count_live(), live);
        if (code == OCH_OK)
            break;
        assert_int_equal(code, OCH_NO_MEMORY);
        assert_int_equal(r.err.code, OCH_NO_MEMORY);
        assert_true(nth < 1000);
    }
}

static void a_budget_bounds_what_a_text_can_take(void **state)
{
    (void)state;
    CLEANUP(buf_cleanup) struct buf text;
    buf_init(&text, BUF_MAX_NONE);
    buf_text(&text, "{\"embeddings\":[");
    for (int i = 0; i < 2000; i++)
        buf_text(&text, "[1],[2,3],");
    buf_text(&text, "[]],\"x\":[");
    for (int i = 0; i < 20000; i++)
        buf_text(&text, "0,{},");
    buf_text(&text, "0]}");
    bool fitted = false;
    for (int64_t limit = 1 << 12; !fitted; limit *= 2) {
        assert_true(limit < (int64_t)1 << 30);
        struct budget budget;
        budget_init(&budget, limit, NULL);
        struct arena arena;
        arena_init(&arena, &budget, 0);
        struct json_value value;
        och_error err = {0};
        och_code code = json_read(buf_view(&text), &float_options, &arena, &value, NULL, &err);
        fitted = code == OCH_OK;
        assert_int_equal(code, fitted ? OCH_OK : OCH_NO_MEMORY);
        assert_int_equal(budget_used(&budget), arena.used_bytes);
        arena_done(&arena);
        assert_int_equal(budget_used(&budget), 0);
    }
}

static void lines_and_columns_are_counted_from_one(void **state)
{
    (void)state;
    static const struct {
        size_t offset;
        uint32_t line, column;
    } cases[] = {{0, 1, 1}, {1, 1, 2}, {2, 1, 3}, {3, 2, 1},
                 {4, 3, 1}, {5, 3, 2}, {6, 3, 3}, {99, 3, 3}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        uint32_t line, column;
        json_locate(SLICE("ab\n\ncd"), cases[i].offset, &line, &column);
        assert_int_equal(line, cases[i].line);
        assert_int_equal(column, cases[i].column);
    }
}

static void utf8_is_judged_by_the_standard(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "\x80",     "\xc3", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf8\x88\x80\x80\x80",
        "\xe2\x82", "\xff"};
    assert_true(json_utf8_valid(SLICE_NONE));
    assert_true(json_utf8_valid(SLICE("a\xc3\xa9\xe2\x82\xac\xf4\x8f\xbf\xbf")));
    for (size_t i = 0; i < COUNT_OF(wrong); i++)
        assert_false(json_utf8_valid(slice_of(wrong[i])));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(faults_read_as_the_peer_words_them),
        cmocka_unit_test(the_largest_doubles_are_told_from_too_large_ones),
        cmocka_unit_test(depth_128_is_read_and_129_refused),
        cmocka_unit_test(endless_openings_cost_nothing),
        cmocka_unit_test(every_cut_is_refused_whatever_follows),
        cmocka_unit_test(one_wrong_byte_is_judged_alike_by_both_grammars),
        cmocka_unit_test(random_damage_is_judged_alike_by_both_grammars),
        cmocka_unit_test(hostile_escapes_and_repeats_stay_linear),
        cmocka_unit_test(every_failed_allocation_is_an_error_and_leaks_nothing),
        cmocka_unit_test(a_budget_bounds_what_a_text_can_take),
        cmocka_unit_test(lines_and_columns_are_counted_from_one),
        cmocka_unit_test(utf8_is_judged_by_the_standard),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
