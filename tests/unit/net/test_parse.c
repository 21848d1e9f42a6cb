/* SPDX-License-Identifier: Apache-2.0 */
/* The strict parser: what is refused, what is understood, and that it does not matter how input is cut. */
#include "net/http_parse.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* SLICE for static tables */
#define TEXT(literal)                                      \
    {                                                      \
        (const uint8_t *)("" literal), sizeof(literal) - 1 \
    }

#define H   "Host: a\r\n"
#define GET "GET / HTTP/1.1\r\n"

struct head_case {
    const char *name;
    slice bytes;
    int status; /* 0 = accepted, -1 = more is wanted */
};

static const struct head_case head_cases[] = {
    {"a plain request", TEXT(GET H "\r\n"), 0},
    {"HTTP/1.0 without Host", TEXT("GET / HTTP/1.0\r\n\r\n"), 0},
    {"one empty line before", TEXT("\r\n" GET H "\r\n"), 0},
    {"two empty lines before", TEXT("\r\n\r\n" GET H "\r\n"), 400},
    {"not complete", TEXT(GET H "\r"), -1},
    {"bare LF after the request line", TEXT("GET / HTTP/1.1\nHost: a\n\n"), 400},
    {"bare LF after a field", TEXT(GET "Host: a\n\r\n"), 400},
    {"bare LF as the last line", TEXT(GET H "\n"), 400},
    {"bare CR in a value", TEXT(GET "Host: a\r\nX: a\rb\r\n\r\n"), 400},
    {"CR CR LF", TEXT(GET "Host: a\r\r\n\r\n"), 400},
    {"a folded field", TEXT(GET H "X: a\r\n b\r\n\r\n"), 400},
    {"a field folded by a tab", TEXT(GET H "X: a\r\n\tb\r\n\r\n"), 400},
    {"a blank first header line", TEXT(GET " Host: a\r\n\r\n"), 400},
    {"blank before the colon", TEXT(GET "Host : a\r\n\r\n"), 400},
    {"tab before the colon", TEXT(GET H "Content-Length\t: 5\r\n\r\n"), 400},
    {"no colon", TEXT(GET H "garbage\r\n\r\n"), 400},
    {"empty name", TEXT(GET H ": x\r\n\r\n"), 400},
    {"bracket in a name", TEXT(GET H "X[: x\r\n\r\n"), 400},
    {"byte over 127 in a name", TEXT(GET H "X\xc3\xa4: x\r\n\r\n"), 400},
    {"byte over 127 in a value", TEXT(GET H "X: \xc3\xa4\r\n\r\n"), 0},
    {"NUL in a value", TEXT(GET H "X: a\0b\r\n\r\n"), 400},
    {"NUL in a name", TEXT(GET H "X\0: ab\r\n\r\n"), 400},
    {"control byte in a value", TEXT(GET H "X: a\x01\r\n\r\n"), 400},
    {"DEL in a value", TEXT(GET H "X: a\x7f\r\n\r\n"), 400},
    {"tab in a value", TEXT(GET H "X: a\tb\r\n\r\n"), 0},
    {"no Host", TEXT(GET "\r\n"), 400},
    {"two Hosts", TEXT(GET H "Host: b\r\n\r\n"), 400},
    {"two equal Hosts", TEXT(GET H H "\r\n"), 400},
    {"a Host with a blank", TEXT(GET "Host: a b\r\n\r\n"), 400},
    {"a Host with user info", TEXT(GET "Host: u@a\r\n\r\n"), 400},
    {"an IPv6 Host", TEXT(GET "Host: [::1]:8000\r\n\r\n"), 0},
    {"an empty Host", TEXT(GET "Host:\r\n\r\n"), 0},
    {"lower case method", TEXT("get / HTTP/1.1\r\n" H "\r\n"), 400},
    {"mixed case method", TEXT("GeT / HTTP/1.1\r\n" H "\r\n"), 400},
    {"no method", TEXT(" / HTTP/1.1\r\n" H "\r\n"), 400},
    {"tab after the method", TEXT("GET\t/ HTTP/1.1\r\n" H "\r\n"), 400},
    {"two blanks after the method", TEXT("GET  / HTTP/1.1\r\n" H "\r\n"), 400},
    {"two blanks before the version", TEXT("GET /  HTTP/1.1\r\n" H "\r\n"), 400},
    {"a blank after the version", TEXT("GET / HTTP/1.1 \r\n" H "\r\n"), 400},
    {"no version", TEXT("GET /\r\n" H "\r\n"), 400},
    {"HTTP/0.9", TEXT("GET / HTTP/0.9\r\n" H "\r\n"), 505},
    {"HTTP/1.2", TEXT("GET / HTTP/1.2\r\n" H "\r\n"), 505},
    {"HTTP/2.0", TEXT("PRI * HTTP/2.0\r\n\r\n"), 505},
    {"HTTP/1.10", TEXT("GET / HTTP/1.10\r\n" H "\r\n"), 400},
    {"http/1.1", TEXT("GET / http/1.1\r\n" H "\r\n"), 400},
    {"another protocol", TEXT("GET / RTSP/1.1\r\n" H "\r\n"), 400},
    {"a TLS hello", TEXT("\x16\x03\x01\x02\x00\x01"), 400},
    {"a target without slash", TEXT("GET a HTTP/1.1\r\n" H "\r\n"), 400},
    {"a star", TEXT("OPTIONS * HTTP/1.1\r\n" H "\r\n"), 0},
    {"a star for GET", TEXT("GET * HTTP/1.1\r\n" H "\r\n"), 400},
    {"CONNECT", TEXT("CONNECT a:80 HTTP/1.1\r\n" H "\r\n"), 400},
    {"an absolute target", TEXT("GET http://a/b?c HTTP/1.1\r\n" H "\r\n"), 0},
    {"an absolute target without host", TEXT("GET http:///b HTTP/1.1\r\n" H "\r\n"), 400},
    {"another scheme", TEXT("GET file:///b HTTP/1.1\r\n" H "\r\n"), 400},
    {"a fragment", TEXT("GET /a#b HTTP/1.1\r\n" H "\r\n"), 400},
    {"a raw byte over 127", TEXT("GET /\xc3\xa4 HTTP/1.1\r\n" H "\r\n"), 400},
    {"both lengths", TEXT(GET H "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"), 400},
    {"both lengths, other way",
     TEXT(GET H "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"), 400},
    {"two lengths", TEXT(GET H "Content-Length: 5\r\nContent-Length: 6\r\n\r\n"), 400},
    {"two equal lengths", TEXT(GET H "Content-Length: 5\r\ncontent-length: 5\r\n\r\n"), 400},
    {"a list of lengths", TEXT(GET H "Content-Length: 5, 5\r\n\r\n"), 400},
    {"a signed length", TEXT(GET H "Content-Length: +5\r\n\r\n"), 400},
    {"a negative length", TEXT(GET H "Content-Length: -5\r\n\r\n"), 400},
    {"a hexadecimal length", TEXT(GET H "Content-Length: 0x5\r\n\r\n"), 400},
    {"an empty length", TEXT(GET H "Content-Length: \r\n\r\n"), 400},
    {"a length with a blank", TEXT(GET H "Content-Length: 5 5\r\n\r\n"), 400},
    {"a length beyond 64 bits", TEXT(GET H "Content-Length: 18446744073709551621\r\n\r\n"), 400},
    {"an underscore name is another", TEXT(GET H "Content_Length: x\r\n\r\n"), 0},
    {"identity", TEXT(GET H "Transfer-Encoding: identity\r\n\r\n"), 501},
    {"gzip, chunked", TEXT(GET H "Transfer-Encoding: gzip, chunked\r\n\r\n"), 501},
    {"chunked, gzip", TEXT(GET H "Transfer-Encoding: chunked, gzip\r\n\r\n"), 400},
    {"chunked twice", TEXT(GET H "Transfer-Encoding: chunked, chunked\r\n\r\n"), 400},
    {"chunked in two fields",
     TEXT(GET H "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"), 400},
    {"chunked, then identity",
     TEXT(GET H "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n"), 400},
    {"xchunked", TEXT(GET H "Transfer-Encoding: xchunked\r\n\r\n"), 501},
    {"quoted chunked", TEXT(GET H "Transfer-Encoding: \"chunked\"\r\n\r\n"), 400},
    {"vertical tab before chunked",
     TEXT(GET H "Transfer-Encoding: \x0b"
                "chunked\r\n\r\n"),
     400},
    {"chunked in capitals", TEXT(GET H "Transfer-Encoding: Chunked\r\n\r\n"), 0},
    {"empty transfer encoding", TEXT(GET H "Transfer-Encoding:\r\n\r\n"), 400},
    {"chunked in HTTP/1.0", TEXT("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400},
    {"an unknown expectation", TEXT(GET H "Expect: 200-ok\r\n\r\n"), 417},
};

static int parse_whole(struct http_head *head, slice bytes)
{
    http_head_init(head);
    enum http_parse result = http_head_parse(head, bytes);
    return result == HTTP_PARSE_DONE ? 0 : result == HTTP_PARSE_MORE ? -1 : head->status;
}

static void heads_are_accepted_or_refused_as_listed(void **state)
{
    (void)state;
    unsigned wrong = 0;
    for (size_t i = 0; i < COUNT_OF(head_cases); i++) {
        struct http_head head;
        int got = parse_whole(&head, head_cases[i].bytes);
        if (got != head_cases[i].status) {
            print_error("%s: expected %d, got %d\n", head_cases[i].name, head_cases[i].status, got);
            wrong++;
        }
        if (got > 0)
            assert_non_null(head.problem);
    }
    assert_int_equal(wrong, 0);
}

/* The bytes are copied to fresh memory of just their size at each step, so that asan sees any look beyond. */
static void a_head_reads_the_same_in_one_piece_and_byte_by_byte(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(head_cases); i++) {
        struct http_head whole, parts;
        int expected = parse_whole(&whole, head_cases[i].bytes);
        http_head_init(&parts);
        enum http_parse result = HTTP_PARSE_MORE;
        for (size_t len = 0; len <= head_cases[i].bytes.len && result == HTTP_PARSE_MORE; len++) {
            uint8_t *copy = mem_alloc(len);
            assert_non_null(copy);
            memcpy(copy, head_cases[i].bytes.at, len);
            result = http_head_parse(&parts, (slice){copy, len});
            mem_free(copy);
        }
        int got = result == HTTP_PARSE_DONE ? 0 : result == HTTP_PARSE_MORE ? -1 : parts.status;
        assert_int_equal(got, expected);
        if (got == 0) {
            assert_int_equal(parts.size, whole.size);
            assert_int_equal(parts.field_count, whole.field_count);
            assert_memory_equal(parts.fields, whole.fields,
                                whole.field_count * sizeof(whole.fields[0]));
        }
    }
}

static void a_bare_line_feed_is_refused_at_once(void **state)
{
    (void)state;
    struct http_head head;
    assert_int_equal(parse_whole(&head, SLICE("GET / HTTP/1.1\n")), 400);
    assert_int_equal(parse_whole(&head, SLICE("GET / HTTP/1.1\rH")), 400);
    assert_int_equal(parse_whole(&head, SLICE("GET / HTTP/1.1\r\nHost: \x01")), 400);
    assert_int_equal(parse_whole(&head, SLICE("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n")), 400);
}

static void the_parts_of_a_request_are_found(void **state)
{
    (void)state;
    static const char text[] =
        "POST http://h:1/a%20b?x=1&y=?2 HTTP/1.1\r\nHost:h:1\r\nA:  b c \t\r\nEmpty:\r\n"
        "Content-Length: 007\r\nConnection: x, Close\r\nExpect: 100-Continue\r\n\r\n1234567";
    struct http_head head;
    assert_int_equal(parse_whole(&head, slice_of(text)), 0);
    struct http_header headers[HTTP_HEADERS_MAX];
    struct http_request request = {0};
    http_head_view(&head, (const uint8_t *)text, headers, &request);
    assert_true(slice_equal(request.method, SLICE("POST")));
    assert_true(slice_equal(request.target, SLICE("http://h:1/a%20b?x=1&y=?2")));
    assert_true(slice_equal(request.path, SLICE("/a%20b")));
    assert_true(slice_equal(request.query, SLICE("x=1&y=?2")));
    assert_int_equal(request.header_count, 6);
    assert_true(slice_equal(http_request_header(&request, SLICE("a")), SLICE("b c")));
    slice empty = http_request_header(&request, SLICE("EMPTY"));
    assert_non_null(empty.at);
    assert_int_equal(empty.len, 0);
    assert_null(http_request_header(&request, SLICE("missing")).at);
    assert_int_equal(head.content_length, 7);
    assert_int_equal(head.size, strlen(text) - 7);
    assert_false(head.keep_alive);
    assert_true(head.expect_continue);
    assert_false(head.chunked);

    assert_int_equal(parse_whole(&head, SLICE("GET https://h HTTP/1.1\r\nHost: h\r\n\r\n")), 0);
    http_head_view(&head, (const uint8_t *)"GET https://h HTTP/1.1\r\nHost: h\r\n\r\n", headers,
                   &request);
    assert_true(slice_equal(request.path, SLICE("/")));
    assert_int_equal(request.query.len, 0);
}

static void connections_stay_open_as_the_version_and_the_fields_say(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool keep_alive;
    } cases[] = {
        {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", true},
        {"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", false},
        {"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, close\r\n\r\n", false},
        {"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nConnection: keep-alive\r\n\r\n", false},
        {"GET / HTTP/1.1\r\nHost: a\r\nConnection: closed\r\n\r\n", true},
        {"GET / HTTP/1.0\r\n\r\n", false},
        {"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true},
        {"GET / HTTP/1.0\r\nConnection: close, keep-alive\r\n\r\n", false},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct http_head head;
        assert_int_equal(parse_whole(&head, slice_of(cases[i].text)), 0);
        assert_int_equal(head.keep_alive, cases[i].keep_alive);
    }
}

static void a_head_may_have_64_fields_and_32_kib(void **state)
{
    (void)state;
    struct http_head head;
    struct buf text;
    for (unsigned fields = 64; fields <= 65; fields++) {
        buf_init(&text, BUF_MAX_NONE);
        buf_text(&text, GET H);
        for (unsigned i = 1; i < fields; i++)
            buf_printf(&text, "X%u: y\r\n", i);
        buf_text(&text, "\r\n");
        assert_int_equal(parse_whole(&head, buf_view(&text)), fields == 64 ? 0 : 431);
        buf_done(&text);
    }
    for (size_t size = HTTP_HEAD_BYTES_MAX - 1; size <= HTTP_HEAD_BYTES_MAX + 1; size++) {
        buf_init(&text, BUF_MAX_NONE);
        buf_text(&text, GET H "X: ");
        while (text.len < size - 4)
            buf_byte(&text, 'x');
        buf_text(&text, "\r\n\r\n");
        assert_int_equal(text.len, size);
        assert_int_equal(parse_whole(&head, buf_view(&text)),
                         size <= HTTP_HEAD_BYTES_MAX ? 0 : 431);
        buf_done(&text);
    }
}

/* ---- chunks ---- */

struct chunk_case {
    const char *name;
    slice bytes;
    const char *data; /* NULL = refused */
    bool whole;
};

static const struct chunk_case chunk_cases[] = {
    {"nothing", TEXT("0\r\n\r\n"), "", true},
    {"two chunks", TEXT("3\r\nabc\r\n00A\r\n0123456789\r\n0\r\n\r\n"), "abc0123456789", true},
    {"more behind", TEXT("1\r\na\r\n0\r\n\r\nGET"), "a", true},
    {"trailers", TEXT("1\r\na\r\n0\r\nX: y\r\nZ:\r\n\r\n"), "a", true},
    {"an extension", TEXT("1;a=\"b;c\"\r\na\r\n0;x\r\n\r\n"), "a", true},
    {"not complete", TEXT("5\r\nabc"), "abc", false},
    {"no size", TEXT("\r\nabc\r\n"), NULL, false},
    {"blank before the size", TEXT(" 3\r\nabc\r\n"), NULL, false},
    {"blank behind the size", TEXT("3 \r\nabc\r\n"), NULL, false},
    {"blank before the extension", TEXT("3 ;a\r\nabc\r\n"), NULL, false},
    {"signed size", TEXT("+3\r\nabc\r\n"), NULL, false},
    {"negative size", TEXT("-3\r\nabc\r\n"), NULL, false},
    {"0x", TEXT("0x3\r\nabc\r\n"), NULL, false},
    {"underscore", TEXT("1_0\r\nabc\r\n"), NULL, false},
    {"size beyond 64 bits", TEXT("10000000000000003\r\nabc\r\n"), NULL, false},
    {"bare LF behind the size", TEXT("3\nabc\r\n0\r\n\r\n"), NULL, false},
    {"bare CR behind the size", TEXT("3\rabc\r\n0\r\n\r\n"), NULL, false},
    {"bare LF behind the data", TEXT("3\r\nabc\n0\r\n\r\n"), NULL, false},
    {"another byte than CR behind the data", TEXT("3\r\nabcx\n0\r\n\r\n"), NULL, false},
    {"longer than its size", TEXT("3\r\nabcd\r\n0\r\n\r\n"), NULL, false},
    {"bare LF in the extension", TEXT("3;a\nabc\r\n0\r\n\r\n"), NULL, false},
    {"NUL in the extension", TEXT("3;a\0\r\nabc\r\n0\r\n\r\n"), NULL, false},
    {"bare LF at the end", TEXT("0\r\n\n"), NULL, false},
    {"a trailer that is no field", TEXT("0\r\nabc\r\n\r\n"), NULL, false},
    {"a request in place of trailers", TEXT("0\r\nGET / HTTP/1.1\r\n\r\n"), NULL, false},
    {"a folded trailer", TEXT("0\r\nX: y\r\n z\r\n\r\n"), NULL, false},
    {"a nameless trailer", TEXT("0\r\n: y\r\n\r\n"), NULL, false},
    {"blank before a trailer's colon", TEXT("0\r\nX : y\r\n\r\n"), NULL, false},
    {"bare LF behind a trailer", TEXT("0\r\nX: y\n\r\n"), NULL, false},
};

static enum http_parse decode(slice bytes, size_t step, struct buf *data, size_t *ret_used)
{
    struct http_chunks chunks;
    http_chunks_init(&chunks);
    enum http_parse result = HTTP_PARSE_MORE;
    size_t used = 0;
    while (result == HTTP_PARSE_MORE && used < bytes.len) {
        size_t taken;
        slice piece;
        result = http_chunks_decode(
            &chunks, (slice){bytes.at + used, min_size(step, bytes.len - used)}, &taken, &piece);
        assert_true(taken > 0 || result == HTTP_PARSE_DONE);
        used += taken;
        buf_slice(data, piece);
    }
    if (result == HTTP_PARSE_BAD)
        assert_non_null(chunks.problem);
    *ret_used = used;
    return result;
}

static void chunked_bodies_are_decoded_or_refused_however_they_are_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(chunk_cases); i++) {
        const struct chunk_case *one = &chunk_cases[i];
        for (size_t step = 1; step <= one->bytes.len; step++) {
            struct buf data;
            buf_init(&data, BUF_MAX_NONE);
            size_t used;
            enum http_parse result = decode(one->bytes, step, &data, &used);
            enum http_parse expected = !one->data   ? HTTP_PARSE_BAD
                                       : one->whole ? HTTP_PARSE_DONE
                                                    : HTTP_PARSE_MORE;
            if (result != expected)
                fail_msg("%s, cut every %zu bytes: %d", one->name, step, (int)result);
            if (one->data)
                assert_true(slice_equal(buf_view(&data), slice_of(one->data)));
            buf_done(&data);
        }
    }
}

static void size_lines_and_trailers_have_limits(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct buf text, data;
        size_t used;
        buf_init(&text, BUF_MAX_NONE);
        buf_init(&data, BUF_MAX_NONE);
        buf_text(&text, "0;");
        while (text.len < 255 + i)
            buf_byte(&text, 'x');
        buf_text(&text, "\r\n\r\n");
        assert_int_equal(decode(buf_view(&text), 1000, &data, &used),
                         i == 0 ? HTTP_PARSE_DONE : HTTP_PARSE_BAD);
        buf_clear(&text);
        buf_text(&text, "0\r\nX: ");
        while (text.len < 3 + 4092 + i)
            buf_byte(&text, 'x');
        buf_text(&text, "\r\n\r\n");
        assert_int_equal(decode(buf_view(&text), 10000, &data, &used),
                         i == 0 ? HTTP_PARSE_DONE : HTTP_PARSE_BAD);
        buf_done(&text);
        buf_done(&data);
    }
}

static void lists_of_codings_heed_their_weights(void **state)
{
    (void)state;
    assert_true(http_list_has(SLICE("gzip"), SLICE("gzip")));
    assert_true(http_list_has(SLICE("br;q=1.0, GZIP;q=0.8, *;q=0.1"), SLICE("gzip")));
    assert_true(http_list_has(SLICE("gzip; q=0.001"), SLICE("gzip")));
    assert_false(http_list_has(SLICE("gzip;q=0"), SLICE("gzip")));
    assert_false(http_list_has(SLICE("gzip; Q=0.00"), SLICE("gzip")));
    assert_false(http_list_has(SLICE("x-gzip, gzipped"), SLICE("gzip")));
    assert_false(http_list_has(SLICE(""), SLICE("gzip")));
    assert_false(http_list_has(SLICE(",,"), SLICE("gzip")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heads_are_accepted_or_refused_as_listed),
        cmocka_unit_test(a_head_reads_the_same_in_one_piece_and_byte_by_byte),
        cmocka_unit_test(a_bare_line_feed_is_refused_at_once),
        cmocka_unit_test(the_parts_of_a_request_are_found),
        cmocka_unit_test(connections_stay_open_as_the_version_and_the_fields_say),
        cmocka_unit_test(a_head_may_have_64_fields_and_32_kib),
        cmocka_unit_test(chunked_bodies_are_decoded_or_refused_however_they_are_cut),
        cmocka_unit_test(size_lines_and_trailers_have_limits),
        cmocka_unit_test(lists_of_codings_heed_their_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
