/* SPDX-License-Identifier: Apache-2.0 */
/* Values to text: the notation, the shortest digits, every escape. */
#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "unit/json/reading.h"

static void assert_text(struct buf *buf, const char *want)
{
    assert_false(buf->failed);
    if (!slice_equal(buf_view(buf), slice_of(want)))
        fail_msg("%.*s, not %s", SLICE_ARG(buf_view(buf)), want);
    buf_clear(buf);
}

static void doubles_are_laid_out_as_the_peer_does(void **state)
{
    (void)state;
    static const struct {
        double value;
        const char *text;
    } cases[] = {{0.0, "0.0"},
                 {-0.0, "-0.0"},
                 {0.1, "0.1"},
                 {1.0, "1.0"},
                 {-1.5, "-1.5"},
                 {100.0, "100.0"},
                 {123.456, "123.456"},
                 {0.0001, "0.0001"},
                 {0.00001, "0.00001"},
                 {0.000012345, "0.000012345"},
                 {0.0000099, "9.9e-6"},
                 {1e-7, "1e-7"},
                 {-1.25e-7, "-1.25e-7"},
                 {1e15, "1000000000000000.0"},
                 {9999999999999998.0, "9999999999999998.0"},
                 {1e16, "1e+16"},
                 {1.2e16, "1.2e+16"},
                 {9.223372036854776e18, "9.223372036854776e+18"},
                 {9007199254740992.0, "9007199254740992.0"},
                 {1e308, "1e+308"},
                 {1.7976931348623157e308, "1.7976931348623157e+308"},
                 {5e-324, "5e-324"},
                 {2.2250738585072014e-308, "2.2250738585072014e-308"},
                 {INFINITY, "null"},
                 {-INFINITY, "null"},
                 {NAN, "null"}};
    CLEANUP(buf_cleanup) struct buf text;
    buf_init(&text, BUF_MAX_NONE);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        json_write_f64(&text, cases[i].value);
        assert_text(&text, cases[i].text);
    }
}

static void floats_are_laid_out_as_the_peer_does(void **state)
{
    (void)state;
    static const struct {
        float value;
        const char *text;
    } cases[] = {{0.0f, "0.0"},
                 {-0.0f, "-0.0"},
                 {0.1f, "0.1"},
                 {16777216.0f, "16777216.0"},
                 {1.1920929e-7f, "1.1920929e-7"},
                 {3.4028235e38f, "3.4028235e+38"},
                 {1e-45f, "1e-45"},
                 {1e-40f, "1e-40"},
                 {1e10f, "10000000000.0"},
                 {-123456.79f, "-123456.79"},
                 {0.3333333432674408f, "0.33333334"},
                 {1e16f, "1e+16"},
                 {INFINITY, "null"},
                 {NAN, "null"}};
    CLEANUP(buf_cleanup) struct buf text;
    buf_init(&text, BUF_MAX_NONE);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        json_write_f32(&text, cases[i].value);
        assert_text(&text, cases[i].text);
    }
    float row[3] = {1.0f, -2.5f, NAN};
    json_write_f32_array(&text, row, 3);
    assert_text(&text, "[1.0,-2.5,null]");
    json_write_f32_array(&text, row, 0);
    assert_text(&text, "[]");
}

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

/* A million bit patterns of all exponents, in arrays, through our reader and past strtof. */
static void a_million_floats_come_back(void **state)
{
    (void)state;
    enum { ROUNDS = 100, ROW = 10007 };
    CLEANUP(buf_cleanup) struct buf text;
    buf_init(&text, BUF_MAX_NONE);
    static float row[ROW];
    uint64_t random = 2;
    for (int round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < ROW; i++) {
            row[i] = float_of((uint32_t)next_random(&random));
            if (!isfinite(row[i]))
                row[i] = 1.0f;
        }
        buf_clear(&text);
        buf_text(&text, "{\"embeddings\":[");
        json_write_f32_array(&text, row, ROW);
        buf_text(&text, "]}");
        buf_byte(&text, 0);
        struct reading r;
        read_with(&r, slice_make(text.at, text.len - 1), &float_options);
        assert_int_equal(r.code, OCH_OK);
        const struct json_value *got = &r.value.members[0].value.items[0];
        assert_int_equal(got->kind, JSON_FLOATS);
        assert_int_equal(got->count, ROW);
        assert_memory_equal(got->floats, row, sizeof row);
        if (round % 20 == 0) {
            const char *at = (const char *)text.at + strlen("{\"embeddings\":[[");
            for (size_t i = 0; i < ROW; i++) {
                char *end;
                float want = strtof(at, &end);
                assert_memory_equal(&want, &row[i], 4);
                at = end + 1;
            }
        }
        done_with(&r);
    }
}

static size_t significant_digits(const char *text)
{
    size_t count = 0, zeros = 0;
    for (; *text && *text != 'e'; text++) {
        if (*text < '0' || *text > '9' || (*text == '0' && count == 0))
            continue;
        zeros = *text == '0' ? zeros + 1 : 0;
        count++;
    }
    return count - zeros;
}

static void digits_are_as_few_as_can_be(void **state)
{
    (void)state;
    CLEANUP(buf_cleanup) struct buf text;
    buf_init(&text, BUF_MAX_NONE);
    uint64_t random = 3;
    for (int i = 0; i < 40000; i++) {
        uint64_t bits = next_random(&random);
        double value;
        float small = float_of((uint32_t)bits);
        memcpy(&value, &bits, 8);
        if (!isfinite(value) || !isfinite(small))
            continue;
        char want[40];
        int digits = 0;
        do
            snprintf(want, sizeof want, "%.*e", digits, value);
        while (strtod(want, NULL) != value && digits++ < 17);
        buf_clear(&text);
        json_write_f64(&text, value);
        buf_byte(&text, 0);
        double back = strtod((const char *)text.at, NULL);
        assert_memory_equal(&back, &value, 8);
        assert_int_equal(significant_digits((const char *)text.at), significant_digits(want));
        digits = 0;
        do
            snprintf(want, sizeof want, "%.*e", digits, (double)small);
        while (strtof(want, NULL) != small && digits++ < 9);
        buf_clear(&text);
        json_write_f32(&text, small);
        buf_byte(&text, 0);
        assert_int_equal(significant_digits((const char *)text.at), significant_digits(want));
    }
}

static void integers_are_plain(void **state)
{
    (void)state;
    static const int64_t values[] = {0, 1, -1, 9, 10, 1234567890123456789, INT64_MAX, INT64_MIN};
    CLEANUP(buf_cleanup) struct buf text;
    buf_init(&text, BUF_MAX_NONE);
    for (size_t i = 0; i < COUNT_OF(values); i++) {
        char want[32];
        snprintf(want, sizeof want, "%" PRId64, values[i]);
        json_write_int(&text, values[i]);
        assert_text(&text, want);
    }
}

static void every_byte_below_128_is_escaped_as_the_peer_does(void **state)
{
    (void)state;
    CLEANUP(buf_cleanup) struct buf text;
    buf_init(&text, BUF_MAX_NONE);
    for (unsigned byte = 0; byte < 128; byte++) {
        char want[32];
        const char *letters = "\b\f\n\r\t\"\\", *names = "bfnrt\"\\";
        const char *at = byte ? strchr(letters, (int)byte) : NULL;
        if (at)
            snprintf(want, sizeof want, "\"1234567\\%c89abcdefg\"", names[at - letters]);
        else if (byte < 32)
            snprintf(want, sizeof want, "\"1234567\\u%04x89abcdefg\"", byte);
        else
            snprintf(want, sizeof want, "\"1234567%c89abcdefg\"", (char)byte);
        uint8_t given[] = "1234567?89abcdefg";
        given[7] = (uint8_t)byte;
        json_write_string(&text, slice_make(given, sizeof given - 1));
        assert_text(&text, want);
    }
    json_write_string(&text, SLICE("\xc3\xa9\xf0\x9f\x98\x80\x7f"));
    assert_text(&text, "\"\xc3\xa9\xf0\x9f\x98\x80\x7f\"");
    json_write_string(&text, SLICE_NONE);
    assert_text(&text, "\"\"");
}

static void strings_come_back_wherever_the_escape_stands(void **state)
{
    (void)state;
    CLEANUP(buf_cleanup) struct buf text;
    buf_init(&text, BUF_MAX_NONE);
    uint64_t random = 4;
    for (int i = 0; i < 20000; i++) {
        uint8_t given[80];
        size_t len = (size_t)(next_random(&random) % sizeof given);
        for (size_t k = 0; k < len; k++)
            given[k] = (uint8_t)(next_random(&random) % (i % 2 ? 128 : 40));
        buf_clear(&text);
        json_write_string(&text, slice_make(given, len));
        struct reading r;
        read_with(&r, buf_view(&text), NULL);
        assert_int_equal(r.code, OCH_OK);
        assert_int_equal(r.value.string.len, len);
        assert_memory_equal(r.value.string.at, given, len);
        done_with(&r);
    }
}

static void values_are_written_without_blanks(void **state)
{
    (void)state;
    CLEANUP(buf_cleanup) struct buf text;
    buf_init(&text, BUF_MAX_NONE);
    struct reading r;
    read_with(&r,
              SLICE(" { \"a\" : [ 1 , -0 , 2.50 , [ ] , { } , null , true ] , \"b\\n\" : { \"c\" : "
                    "\"d\" } } "),
              NULL);
    assert_int_equal(r.code, OCH_OK);
    json_write_value(&text, &r.value);
    assert_text(&text, "{\"a\":[1,-0.0,2.5,[],{},null,true],\"b\\n\":{\"c\":\"d\"}}");
    done_with(&r);
}

static void a_full_buffer_is_a_sticky_failure(void **state)
{
    (void)state;
    struct reading r, again;
    read_with(&r, slice_of(rich), &float_options);
    assert_int_equal(r.code, OCH_OK);
    for (size_t max = 0;; max++) {
        CLEANUP(buf_cleanup) struct buf text;
        buf_init(&text, max);
        json_write_value(&text, &r.value);
        assert_true(text.len <= max);
        if (text.failed)
            continue;
        read_with(&again, buf_view(&text), &float_options);
        assert_int_equal(again.code, OCH_OK);
        assert_true(json_equal(&r.value, &again.value));
        done_with(&again);
        break;
    }
    done_with(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(doubles_are_laid_out_as_the_peer_does),
        cmocka_unit_test(floats_are_laid_out_as_the_peer_does),
        cmocka_unit_test(a_million_floats_come_back),
        cmocka_unit_test(digits_are_as_few_as_can_be),
        cmocka_unit_test(integers_are_plain),
        cmocka_unit_test(every_byte_below_128_is_escaped_as_the_peer_does),
        cmocka_unit_test(strings_come_back_wherever_the_escape_stands),
        cmocka_unit_test(values_are_written_without_blanks),
        cmocka_unit_test(a_full_buffer_is_a_sticky_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
