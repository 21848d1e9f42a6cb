/* SPDX-License-Identifier: Apache-2.0 */
/* What sound text becomes. */
#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "unit/json/reading.h"

static void assert_slice(slice got, const char *want)
{
    if (!slice_equal(got, slice_of(want)))
        fail_msg("\"%.*s\", not \"%s\"", SLICE_ARG(got), want);
}

static void every_kind_of_value_is_built(void **state)
{
    (void)state;
    struct reading r;
    read_with(&r, slice_of(rich), NULL);
    assert_int_equal(r.code, OCH_OK);
    assert_int_equal(r.value.kind, JSON_OBJECT);
    assert_int_equal(r.value.count, 9);
    assert_int_equal(r.value.offset, 1);
    const struct json_value *ids = json_get(&r.value, SLICE("ids"));
    assert_int_equal(ids->count, 3);
    assert_int_equal(ids->offset, 10);
    assert_slice(ids->items[1].string, "b\xc3\xa9\"\\/\b\f\n\r\t");
    assert_slice(ids->items[2].string, "\xf0\x9f\x98\x80\xf0\x9f\x98\x80");
    const struct json_value *rows = json_get(&r.value, SLICE("embeddings"));
    assert_int_equal(rows->kind, JSON_ARRAY);
    assert_int_equal(rows->items[0].kind, JSON_ARRAY);
    assert_int_equal(rows->items[0].items[0].kind, JSON_INT);
    assert_true(rows->items[1].items[2].number == 60.0);
    const struct json_value *big = json_get(&r.value, SLICE("big"));
    assert_int_equal(big->kind, JSON_FLOAT);
    assert_true(big->big);
    assert_int_equal(json_get(&r.value, SLICE("n"))->kind, JSON_NULL);
    assert_true(json_get(&r.value, SLICE("t"))->boolean);
    assert_false(json_get(&r.value, SLICE("f"))->boolean);
    assert_int_equal(json_get(&r.value, SLICE("e"))->count, 0);
    assert_slice(json_get(&r.value, SLICE(""))->string, "");
    assert_null(json_get(&r.value, SLICE("absent")));
    assert_null(json_get(ids, SLICE("ids")));
    done_with(&r);
}

static void values_may_stand_alone(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum json_kind kind;
        uint32_t offset;
    } cases[] = {{"1", JSON_INT, 0},         {" -1.5 ", JSON_FLOAT, 1}, {"\"x\"", JSON_STRING, 0},
                 {"\n\ttrue", JSON_BOOL, 2}, {"null ", JSON_NULL, 0},   {"[]", JSON_ARRAY, 0},
                 {"  {}  ", JSON_OBJECT, 2}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct reading r;
        read_with(&r, slice_of(cases[i].text), NULL);
        assert_int_equal(r.code, OCH_OK);
        assert_int_equal(r.value.kind, cases[i].kind);
        assert_int_equal(r.value.offset, cases[i].offset);
        done_with(&r);
    }
}

static void integers_are_exact_and_what_does_not_fit_is_a_float(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool integer, big;
        int64_t exact;
        double number;
    } cases[] = {{"0", true, false, 0, 0},
                 {"9007199254740993", true, false, 9007199254740993, 0},
                 {"9223372036854775807", true, false, INT64_MAX, 0},
                 {"-9223372036854775808", true, false, INT64_MIN, 0},
                 {"9223372036854775808", false, true, 0, 0x1p63},
                 {"-9223372036854775809", false, true, 0, -0x1p63},
                 {"18446744073709551615", false, true, 0, 0x1p64},
                 {"100000000000000000000000000000000000000000", false, true, 0, 1e41},
                 {"-0", false, false, 0, -0.0},
                 {"-0.0", false, false, 0, -0.0},
                 {"0.0", false, false, 0, 0.0},
                 {"1.0", false, false, 0, 1.0},
                 {"1e0", false, false, 0, 1.0},
                 {"1E+2", false, false, 0, 100.0},
                 {"1e-400", false, false, 0, 0.0},
                 {"5e-324", false, false, 0, 0x1p-1074},
                 {"1.7976931348623157e308", false, false, 0, 0x1.fffffffffffffp1023}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct reading r;
        read_with(&r, slice_of(cases[i].text), NULL);
        assert_int_equal(r.code, OCH_OK);
        assert_int_equal(r.value.kind, cases[i].integer ? JSON_INT : JSON_FLOAT);
        assert_int_equal(r.value.big, cases[i].big);
        if (cases[i].integer)
            assert_true(r.value.integer == cases[i].exact);
        else
            assert_memory_equal(&r.value.number, &cases[i].number, sizeof(double));
        done_with(&r);
    }
}

/* Numbers of any look, in one array, against the C library one by one. */
static void numbers_are_rounded_as_strtod_does(void **state)
{
    (void)state;
    enum { NUMBERS = 200000 };
    CLEANUP(buf_cleanup) struct buf text;
    buf_init(&text, BUF_MAX_NONE);
    uint32_t *starts = malloc(NUMBERS * sizeof *starts);
    assert_non_null(starts);
    uint64_t random = 1;
    for (size_t i = 0; i < NUMBERS; i++) {
        buf_text(&text, i ? "," : "[");
        starts[i] = (uint32_t)text.len;
        uint64_t bits = next_random(&random);
        double any;
        memcpy(&any, &bits, sizeof any);
        switch (i % 7) {
        case 0:
            buf_printf(&text, "%.*g", (int)(bits % 25) + 1, isfinite(any) ? any : 0.5);
            break;
        case 1:
            buf_printf(&text, "%" PRId64, (int64_t)bits);
            break;
        case 2: /* long mantissas near halfway points */
            buf_printf(&text, "%.*f", (int)(bits % 40),
                       (double)(bits >> 40) * 0x1.0000000000001p-3);
            break;
        case 3:
            buf_printf(&text, "%" PRIu64 "e%d", bits, (int)(next_random(&random) % 630) - 350);
            break;
        case 4: /* more digits than a word holds, behind "0." */
            buf_printf(&text, "%s0.%0*d%019" PRIu64 "%" PRIu64, bits & 1 ? "-" : "",
                       (int)(bits % 9) + 1, (int)(bits % 3), bits >> 1,
                       next_random(&random) >> (bits % 64));
            break;
        case 5:
            buf_printf(&text, "%" PRIu64 "e%s%020d", bits, bits & 1 ? "-" : "+", (int)(bits % 200));
            break;
        default:
            buf_printf(&text, "-%" PRIu64 ".%05d", bits >> (bits % 60), (int)(bits % 100000));
        }
    }
    buf_text(&text, "]");
    buf_byte(&text, 0);
    assert_false(text.failed);
    struct reading r;
    read_with(&r, slice_make(text.at, text.len - 1), NULL);
    assert_int_equal(r.code, OCH_OK);
    assert_int_equal(r.value.count, NUMBERS);
    for (size_t i = 0; i < NUMBERS; i++) {
        const char *at = (const char *)text.at + starts[i];
        const struct json_value *got = &r.value.items[i];
        double want = strtod(at, NULL),
               number = got->kind == JSON_INT ? (double)got->integer : got->number;
        assert_int_equal(got->offset, starts[i]);
        if (memcmp(&want, &number, sizeof want) != 0)
            fail_msg("%.40s: %a, not %a", at, number, want);
    }
    done_with(&r);
    free(starts);
}

static void the_last_of_repeated_names_wins_and_all_are_kept(void **state)
{
    (void)state;
    struct reading r;
    read_with(&r, SLICE("{\"a\":1,\"b\":2,\"\\u0061\":3}"), NULL);
    assert_int_equal(r.code, OCH_OK);
    assert_int_equal(r.value.count, 3);
    assert_true(json_get(&r.value, SLICE("a"))->integer == 3);
    assert_true(r.value.members[0].value.integer == 1);
    assert_slice(r.value.members[2].name, "a");
    done_with(&r);
}

static void nul_bytes_live_in_strings(void **state)
{
    (void)state;
    struct reading r;
    read_with(&r, SLICE("[\"a\\u0000b\"]"), NULL);
    assert_int_equal(r.code, OCH_OK);
    assert_int_equal(r.value.items[0].string.len, 3);
    assert_memory_equal(r.value.items[0].string.at, "a\0b", 3);
    done_with(&r);
}

static void every_code_point_comes_through_an_escape(void **state)
{
    (void)state;
    for (uint32_t point = 0; point < 0x110000; point += point < 0x3000 ? 1 : 37) {
        if (point >= 0xd800 && point < 0xe000)
            continue;
        char text[32];
        if (point < 0x10000)
            snprintf(text, sizeof text, "\"\\u%04X\"", point);
        else
            snprintf(text, sizeof text, "\"\\u%04x\\u%04x\"", 0xd800 + ((point - 0x10000) >> 10),
                     0xdc00 + (point & 0x3ff));
        struct reading r;
        read_with(&r, slice_of(text), NULL);
        assert_int_equal(r.code, OCH_OK);
        assert_true(json_utf8_valid(r.value.string));
        size_t len = point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
        assert_int_equal(r.value.string.len, len);
        uint32_t back = len == 1 ? r.value.string.at[0] : r.value.string.at[0] & (0x7fu >> len);
        for (size_t i = 1; i < len; i++)
            back = back << 6 | (r.value.string.at[i] & 63);
        assert_int_equal(back, point);
        done_with(&r);
    }
}

static void rows_of_one_length_lie_in_one_block(void **state)
{
    (void)state;
    struct reading r;
    read_with(&r, SLICE("{\"embeddings\":[[1,2.5,3],[-0,1e-3,7],[4,5,6]],\"x\":[[1]]}"),
              &float_options);
    assert_int_equal(r.code, OCH_OK);
    const struct json_value *rows = json_get(&r.value, SLICE("embeddings"));
    assert_int_equal(rows->count, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(rows->items[i].kind, JSON_FLOATS);
        assert_int_equal(rows->items[i].count, 3);
        assert_false(rows->items[i].big);
        assert_ptr_equal(rows->items[i].floats, rows->items[0].floats + 3 * i);
    }
    assert_int_equal((uintptr_t)rows->items[0].floats % 64, 0);
    assert_int_equal(rows->items[1].offset, 25);
    static const float want[9] = {1, 2.5f, 3, -0.0f, 1e-3f, 7, 4, 5, 6};
    assert_memory_equal(rows->items[0].floats, want, sizeof want);
    assert_int_equal(json_get(&r.value, SLICE("x"))->items[0].kind, JSON_ARRAY);
    done_with(&r);
}

static void rows_among_other_things_stay_what_they_are(void **state)
{
    (void)state;
    struct reading r;
    read_with(
        &r,
        SLICE(
            "{\"embeddings\":[[1,2],\"AACAPw==\",[3,\"x\"],[],null,[4,[5]],{\"embeddings\":[[6]]},"
            "[7,8,9],[1,null],[9223372036854775807,true]],\"embeddings\":[[1]]}"),
        &float_options);
    assert_int_equal(r.code, OCH_OK);
    static const enum json_kind kinds[] = {JSON_FLOATS, JSON_STRING, JSON_ARRAY,  JSON_FLOATS,
                                           JSON_NULL,   JSON_ARRAY,  JSON_OBJECT, JSON_FLOATS,
                                           JSON_ARRAY,  JSON_ARRAY};
    const struct json_value *rows = &r.value.members[0].value;
    assert_int_equal(rows->count, COUNT_OF(kinds));
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        assert_int_equal(rows->items[i].kind, kinds[i]);
        if (kinds[i] == JSON_FLOATS)
            assert_int_equal((uintptr_t)rows->items[i].floats % 64, 0);
    }
    assert_int_equal(rows->items[0].count, 2);
    assert_true(rows->items[0].floats[1] == 2.0f);
    assert_int_equal(rows->items[2].items[0].kind, JSON_INT);
    assert_int_equal(rows->items[3].count, 0);
    assert_true(rows->items[7].floats[2] == 9.0f);
    assert_true(rows->items[9].items[0].integer == INT64_MAX);
    assert_int_equal(r.value.members[1].value.items[0].kind, JSON_FLOATS);
    assert_true(r.value.members[1].value.items[0].floats[0] == 1.0f);
    done_with(&r);
    /* Not an array, not an object on top, not at the top: ordinary. */
    static const char *const plain[] = {"{\"embeddings\":{\"a\":[[1]]}}", "{\"embeddings\":null}",
                                        "[[[1]]]", "{\"a\":{\"embeddings\":[[1]]}}"};
    for (size_t i = 0; i < COUNT_OF(plain); i++) {
        CLEANUP(buf_cleanup) struct buf out;
        buf_init(&out, BUF_MAX_NONE);
        read_with(&r, slice_of(plain[i]), &float_options);
        assert_int_equal(r.code, OCH_OK);
        json_write_value(&out, &r.value);
        assert_slice(buf_view(&out), plain[i]);
        done_with(&r);
    }
}

static void floats_are_rounded_once_more_and_overflow_is_marked(void **state)
{
    (void)state;
    struct reading r;
    read_with(
        &r,
        SLICE("{\"embeddings\":[[3.4028235677973362e38,1],[3.4028235677973366e38,-1e39],[1e-50,"
              "1.00000017881393432617187499]]}"),
        &float_options);
    assert_int_equal(r.code, OCH_OK);
    const struct json_value *rows = r.value.members[0].value.items;
    assert_false(rows[0].big);
    assert_true(rows[0].floats[0] == 0x1.fffffep127f);
    assert_true(rows[1].big);
    assert_true(rows[1].floats[0] == INFINITY);
    assert_true(rows[1].floats[1] == -INFINITY);
    assert_false(rows[2].big);
    assert_true(rows[2].floats[0] == 0.0f);
    /* f64 first, then f32: the decimal lies below the halfway point, its f64 on it, and that goes to even. */
    assert_true(rows[2].floats[1] == (float)strtod("1.00000017881393432617187499", NULL));
    done_with(&r);
}

static void kept_text_is_pointed_into(void **state)
{
    (void)state;
    char text[256] = "{\"plain\":\"as it is\",\"escaped\":\"a\\nb\"}";
    size_t len = strlen(text);
    struct json_options options = {.keep_text = true};
    struct reading r;
    read_with(&r, slice_make(text, len), &options);
    assert_int_equal(r.code, OCH_OK);
    const uint8_t *plain = json_get(&r.value, SLICE("plain"))->string.at;
    const uint8_t *escaped = json_get(&r.value, SLICE("escaped"))->string.at;
    assert_true(plain > (uint8_t *)text && plain < (uint8_t *)text + len);
    assert_false(escaped > (uint8_t *)text && escaped < (uint8_t *)text + len);
    done_with(&r);
    options.keep_text = false;
    read_with(&r, slice_make(text, len), &options);
    memset(text, 'x', len);
    assert_slice(json_get(&r.value, SLICE("plain"))->string, "as it is");
    done_with(&r);
}

static void values_are_described_as_the_peer_does(void **state)
{
    (void)state;
    static const struct {
        const char *text, *said;
    } cases[] = {{"null", "null"},
                 {"true", "boolean `true`"},
                 {"-1", "integer `-1`"},
                 {"1.50", "floating point `1.5`"},
                 {"1e0", "floating point `1.0`"},
                 {"9223372036854775808", "integer `9223372036854775808`"},
                 {"18446744073709551616", "floating point `1.8446744073709552e+19`"},
                 {"\"x\\n\"", "string \"x\\n\""},
                 {"[1]", "sequence"},
                 {"{}", "map"}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct reading r;
        read_with(&r, slice_of(cases[i].text), NULL);
        assert_int_equal(r.code, OCH_OK);
        assert_string_equal(json_describe(&r.value, &r.arena), cases[i].said);
        done_with(&r);
    }
}

static void equality_ignores_order_and_tells_kinds_apart(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b;
        bool equal;
    } cases[] = {{"{\"a\":1,\"b\":[1,{}]}", "{\"b\":[1,{}],\"a\":1}", true},
                 {"{\"a\":0,\"a\":1}", "{\"a\":1}", true},
                 {"{\"a\":1,\"a\":0}", "{\"a\":1}", false},
                 {"{\"a\":1}", "{\"a\":1,\"b\":1}", false},
                 {"1", "1.0", false},
                 {"0.0", "-0.0", false},
                 {"[1,2]", "[2,1]", false},
                 {"[1]", "[1,1]", false},
                 {"\"\\u0041\"", "\"A\"", true},
                 {"null", "false", false}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct reading a, b;
        read_with(&a, slice_of(cases[i].a), NULL);
        read_with(&b, slice_of(cases[i].b), NULL);
        if (json_equal(&a.value, &b.value) != cases[i].equal ||
            json_equal(&b.value, &a.value) != cases[i].equal)
            fail_msg("%s and %s", cases[i].a, cases[i].b);
        done_with(&a);
        done_with(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_value_is_built),
        cmocka_unit_test(values_may_stand_alone),
        cmocka_unit_test(integers_are_exact_and_what_does_not_fit_is_a_float),
        cmocka_unit_test(numbers_are_rounded_as_strtod_does),
        cmocka_unit_test(the_last_of_repeated_names_wins_and_all_are_kept),
        cmocka_unit_test(nul_bytes_live_in_strings),
        cmocka_unit_test(every_code_point_comes_through_an_escape),
        cmocka_unit_test(rows_of_one_length_lie_in_one_block),
        cmocka_unit_test(rows_among_other_things_stay_what_they_are),
        cmocka_unit_test(floats_are_rounded_once_more_and_overflow_is_marked),
        cmocka_unit_test(kept_text_is_pointed_into),
        cmocka_unit_test(values_are_described_as_the_peer_does),
        cmocka_unit_test(equality_ignores_order_and_tells_kinds_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
