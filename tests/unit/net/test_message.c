/* SPDX-License-Identifier: Apache-2.0 */
/* Messages as values, bodies that grow, and compression: all without a server. */
#include "net/http_body.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <zlib.h>

#include <cmocka.h>

/* SLICE for static tables */
#define TEXT(literal)                                      \
    {                                                      \
        (const uint8_t *)("" literal), sizeof(literal) - 1 \
    }

static void percent_escapes_are_decoded_or_stand_for_themselves(void **state)
{
    (void)state;
    static const struct {
        slice text;
        bool plus;
        slice expected;
    } cases[] = {
        {TEXT(""), false, TEXT("")},
        {TEXT("abc"), false, TEXT("abc")},
        {TEXT("a%2Fb%2f"), false, TEXT("a/b/")},
        {TEXT("a+b"), false, TEXT("a+b")},
        {TEXT("a+b%2B"), true, TEXT("a b+")},
        {TEXT("%00x"), false, TEXT("\0x")},
        {TEXT("%C3%A4"), false, TEXT("\xc3\xa4")},
        {TEXT("%25%32%35"), false, TEXT("%25")},
        {TEXT("%"), false, TEXT("%")},
        {TEXT("a%2"), false, TEXT("a%2")},
        {TEXT("%g0"), false, TEXT("%g0")},
        {TEXT("%0g"), false, TEXT("%0g")},
        {TEXT("%%20"), false, TEXT("% ")},
    };
    struct arena arena;
    arena_init(&arena, NULL, 0);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        slice got = SLICE_NONE;
        assert_true(http_percent_decode(cases[i].text, cases[i].plus, &arena, &got));
        assert_true(slice_equal(got, cases[i].expected));
    }
    arena_done(&arena);
}

static void a_reply_starts_as_an_empty_json_answer(void **state)
{
    (void)state;
    struct http_reply reply;
    http_reply_init(&reply, 10);
    assert_int_equal(reply.status, 200);
    assert_true(slice_equal(reply.content_type, SLICE("application/json")));
    http_reply_header(&reply, "Retry-After", "%d", 7);
    http_reply_header(&reply, "X", "a b");
    assert_true(slice_equal(buf_view(&reply.headers), SLICE("Retry-After: 7\r\nX: a b\r\n")));
    buf_text(&reply.body, "12345678901");
    assert_true(reply.body.failed);
    http_reply_done(&reply);
    assert_string_equal(http_reason(429), "Too Many Requests");
    assert_non_null(http_reason(999));
}

static void a_body_grows_with_what_arrives_and_ends_in_zeros(void **state)
{
    (void)state;
    struct budget budget;
    budget_init(&budget, 1 << 20, NULL);
    struct http_body body;
    http_body_init(&body, &budget);
    assert_int_equal(http_body_finish(&body).len, 0);
    assert_non_null(http_body_finish(&body).at);
    assert_int_equal(http_body_reserve(&body, 10, 40000000, NULL), OCH_OK);
    assert_true(budget_used(&budget) < 100000);
    for (unsigned i = 0; i < 300000; i++) {
        assert_int_equal(http_body_reserve(&body, 1, 300000, NULL), OCH_OK);
        body.at[body.len++] = (uint8_t)(i % 251 + 1);
    }
    assert_true(budget_used(&budget) <= 300000 + HTTP_BODY_PADDING);
    slice view = http_body_finish(&body);
    assert_int_equal(view.len, 300000);
    for (size_t i = 0; i < HTTP_BODY_PADDING; i++)
        assert_int_equal(view.at[view.len + i], 0);
    och_error err = {0};
    assert_int_equal(http_body_reserve(&body, 2 << 20, 0, &err), OCH_BUSY);
    assert_true(strlen(err.message) > 0);
    assert_int_equal(body.len, 300000);
    http_body_done(&body);
    http_body_done(&body);
    assert_int_equal(budget_used(&budget), 0);
}

/* `window` as zlib's: 15 zlib, 31 gzip, -15 raw */
static size_t deflate_with(int window, slice text, uint8_t *to, size_t room)
{
    z_stream stream = {0};
    assert_int_equal(deflateInit2(&stream, 9, Z_DEFLATED, window, 8, Z_DEFAULT_STRATEGY), Z_OK);
    stream.next_in = (unsigned char *)(uintptr_t)text.at;
    stream.avail_in = (unsigned)text.len;
    stream.next_out = to;
    stream.avail_out = (unsigned)room;
    assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
    assert_int_equal(deflateEnd(&stream), Z_OK);
    return room - stream.avail_out;
}

static och_code inflate_all(slice packed, size_t step, uint64_t max, struct http_body *body,
                            struct budget *budget)
{
    struct http_inflate *inflate = NULL;
    och_error err = {0};
    och_code code = http_inflate_new(budget, &inflate, &err);
    for (size_t at = 0; code == OCH_OK && at < packed.len; at += step)
        code = http_inflate_feed(inflate, (slice){packed.at + at, min_size(step, packed.len - at)},
                                 max, body, &err);
    if (code == OCH_OK)
        code = http_inflate_finish(inflate, &err);
    if (code != OCH_OK)
        assert_true(strlen(err.message) > 0);
    http_inflate_free(inflate);
    return code;
}

static void compressed_bodies_inflate_however_they_are_cut(void **state)
{
    (void)state;
    uint8_t text[3000], packed[8192];
    struct random random;
    random_seed(&random, 1);
    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = (uint8_t)('a' + random_below(&random, 20));
    size_t gzip_len = deflate_with(31, (slice){text, sizeof(text)}, packed, sizeof(packed));
    size_t both_len =
        gzip_len + deflate_with(31, SLICE("second"), packed + gzip_len, sizeof(packed) - gzip_len);
    struct budget budget;
    budget_init(&budget, 0, NULL);
    for (size_t step = 1; step < both_len; step = step * 2 + 1) {
        struct http_body body;
        http_body_init(&body, &budget);
        assert_int_equal(inflate_all((slice){packed, both_len}, step, 10000, &body, &budget),
                         OCH_OK);
        assert_int_equal(body.len, sizeof(text) + 6);
        assert_memory_equal(body.at, text, sizeof(text));
        assert_memory_equal(body.at + sizeof(text), "second", 6);
        http_body_done(&body);
    }
    struct http_body body;
    http_body_init(&body, &budget);
    size_t zlib_len = deflate_with(15, SLICE("zlib too"), packed, sizeof(packed));
    assert_int_equal(inflate_all((slice){packed, zlib_len}, 3, 10000, &body, &budget), OCH_OK);
    assert_true(slice_equal(http_body_finish(&body), SLICE("zlib too")));
    http_body_done(&body);
    assert_int_equal(budget_used(&budget), 0);
}

static void damaged_cut_and_padded_gzip_is_refused(void **state)
{
    (void)state;
    uint8_t packed[256], damaged[256];
    size_t len = deflate_with(31, SLICE("some text that is worth packing, packing, packing"),
                              packed, sizeof(packed) - 8);
    struct http_body body;
    http_body_init(&body, NULL);
    for (size_t cut = 0; cut < len; cut++) {
        assert_int_equal(inflate_all((slice){packed, cut}, 7, 1000, &body, NULL), OCH_INVALID);
        body.len = 0;
    }
    memcpy(damaged, packed, len);
    damaged[len - 6] ^= 1; /* its CRC */
    assert_int_equal(inflate_all((slice){damaged, len}, 7, 1000, &body, NULL), OCH_INVALID);
    memcpy(packed + len, "garbage", 7);
    assert_int_equal(inflate_all((slice){packed, len + 7}, 1000, 1000, &body, NULL), OCH_INVALID);
    assert_int_equal(inflate_all(SLICE("not gzip at all"), 1000, 1000, &body, NULL), OCH_INVALID);
    http_body_done(&body);
}

static void a_gzip_bomb_stops_at_the_limit_and_at_the_ratio(void **state)
{
    (void)state;
    enum { zeros_len = 8 << 20, packed_max = 1 << 16 };
    uint8_t *zeros = mem_zalloc(zeros_len), *packed = mem_alloc(packed_max);
    assert_non_null(zeros);
    assert_non_null(packed);
    size_t len = deflate_with(31, (slice){zeros, zeros_len}, packed, packed_max);
    struct budget budget;
    budget_init(&budget, 0, NULL);
    struct http_body body;
    http_body_init(&body, &budget);
    assert_int_equal(inflate_all((slice){packed, len}, len, 500000, &body, &budget), OCH_TOO_LARGE);
    assert_true(budget_used(&budget) < 2000000);
    http_body_done(&body);
    assert_int_equal(inflate_all((slice){packed, len}, len, UINT64_MAX, &body, &budget),
                     OCH_INVALID);
    assert_true(budget_used(&budget) < 4000000); /* stopped soon after the first MiB */
    http_body_done(&body);
    /* below 1 MiB a body may repeat itself as it likes */
    len = deflate_with(31, (slice){zeros, 1 << 20}, packed, packed_max);
    assert_int_equal(inflate_all((slice){packed, len}, len, UINT64_MAX, &body, &budget), OCH_OK);
    assert_int_equal(body.len, 1 << 20);
    http_body_done(&body);
    assert_int_equal(budget_used(&budget), 0);
    mem_free(zeros);
    mem_free(packed);
}

static void inflating_survives_every_failing_allocation(void **state)
{
    (void)state;
    uint8_t packed[256];
    size_t len = deflate_with(31, SLICE("text"), packed, sizeof(packed));
    uint64_t live = mem_count_live();
    for (uint64_t nth = 1; nth < 50; nth++) {
        struct http_body body;
        struct budget budget;
        budget_init(&budget, 0, NULL);
        http_body_init(&body, &budget);
        mem_fail_at(nth);
        och_code code = inflate_all((slice){packed, len}, len, 1000, &body, &budget);
        mem_fail_at(0);
        assert_true(code == OCH_OK || code == OCH_NO_MEMORY);
        http_body_done(&body);
        assert_int_equal(budget_used(&budget), 0);
        assert_int_equal(mem_count_live(), live);
        if (code == OCH_OK)
            return;
    }
    fail_msg("inflating never succeeded");
}

static void answers_are_packed_only_when_that_makes_them_smaller(void **state)
{
    (void)state;
    struct buf text, packed;
    buf_init(&text, BUF_MAX_NONE);
    for (unsigned i = 0; i < 20000; i++)
        buf_printf(&text, "%u,", i);
    assert_true(http_gzip(buf_view(&text), &packed));
    assert_true(packed.len < text.len / 2);
    struct http_body body;
    http_body_init(&body, NULL);
    assert_int_equal(inflate_all(buf_view(&packed), 1000, text.len, &body, NULL), OCH_OK);
    assert_true(slice_equal(http_body_finish(&body), buf_view(&text)));
    http_body_done(&body);
    buf_done(&packed);
    buf_clear(&text);
    struct random random;
    random_seed(&random, 2);
    for (unsigned i = 0; i < 10000; i++)
        buf_byte(&text, (uint8_t)random_u64(&random));
    assert_false(http_gzip(buf_view(&text), &packed));
    assert_false(http_gzip(SLICE_NONE, &packed));
    buf_done(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(percent_escapes_are_decoded_or_stand_for_themselves),
        cmocka_unit_test(a_reply_starts_as_an_empty_json_answer),
        cmocka_unit_test(a_body_grows_with_what_arrives_and_ends_in_zeros),
        cmocka_unit_test(compressed_bodies_inflate_however_they_are_cut),
        cmocka_unit_test(damaged_cut_and_padded_gzip_is_refused),
        cmocka_unit_test(a_gzip_bomb_stops_at_the_limit_and_at_the_ratio),
        cmocka_unit_test(inflating_survives_every_failing_allocation),
        cmocka_unit_test(answers_are_packed_only_when_that_makes_them_smaller),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
