/* SPDX-License-Identifier: Apache-2.0 */
/* Answers that are made while they are sent: chunked, to the end of the connection for old clients, cut off after a fault, and nothing kept of those
 * that nobody reads. */
#include "net_test.h"

#define PIECES      100u
#define PIECE_BYTES 100000u /* all of them are more than a socket's buffers take */

struct pieces {
    struct http_stream stream;
    unsigned made, fails_at;
    _Atomic unsigned *freed;
};

static och_code next_piece(struct http_stream *stream, struct buf *body, bool *ret_more)
{
    struct pieces *p = (struct pieces *)(void *)stream;
    assert_int_equal(body->len, 0);
    if (++p->made == p->fails_at)
        return OCH_IO;
    for (unsigned i = 0; i < PIECE_BYTES; i++)
        buf_byte(body, (uint8_t)('a' + (p->made + i) % 26));
    *ret_more = p->made < PIECES;
    return OCH_OK;
}

static void free_pieces(struct http_stream *stream)
{
    struct pieces *p = (struct pieces *)(void *)stream;
    atomic_fetch_add(p->freed, 1);
    mem_free(p);
}

/* "/fail" breaks in the middle, "/plain" is no stream, everything else is whole. */
static void handle(void *context, const struct http_request *request, struct http_reply *reply)
{
    struct net_test *test = context;
    assert_true(request->streams);
    buf_text(&reply->body, "first");
    if (slice_equal(request->path, SLICE("/plain")))
        return;
    struct pieces *p = mem_zalloc(sizeof(*p));
    assert_non_null(p);
    *p = (struct pieces){.stream = {next_piece, free_pieces}, .freed = &test->handled};
    p->fails_at = slice_equal(request->path, SLICE("/fail")) ? 50 : 0;
    reply->stream = &p->stream;
}

static void start(struct net_test *test)
{
    struct http_server_options options = test_options(test);
    options.handler = (struct http_handler){.context = test, .handle = handle};
    test_start(test, &options);
}

static void check_text(slice text)
{
    assert_int_equal(text.len, 5 + PIECES * PIECE_BYTES);
    assert_memory_equal(text.at, "first", 5);
    for (size_t piece = 0; piece < PIECES; piece++) {
        size_t at = 5 + piece * PIECE_BYTES;
        for (size_t i = 0; i < PIECE_BYTES; i += 997)
            assert_int_equal(text.at[at + i], 'a' + (piece + 1 + i) % 26);
    }
}

/* Take the chunks out of a body; false when the last one is missing.  *ret_used: bytes up to its end. */
static bool unchunk(slice body, struct buf *text, size_t *ret_used)
{
    for (size_t at = 0; at < body.len;) {
        char *end;
        unsigned long size = strtoul((const char *)body.at + at, &end, 16);
        at = (size_t)((const uint8_t *)end - body.at) + 2;
        if (at + size + 2 > body.len)
            return false;
        buf_append(text, body.at + at, size);
        at += size + 2;
        *ret_used = at;
        if (size == 0)
            return true;
    }
    return false;
}

static size_t head_len(slice answer)
{
    const uint8_t *end = memmem(answer.at, min_size(answer.len, 4096), "\r\n\r\n", 4);
    assert_non_null(end);
    return (size_t)(end - answer.at) + 4;
}

static void a_streamed_answer_comes_in_chunks_and_the_connection_goes_on(void **state)
{
    (void)state;
    struct net_test test;
    struct buf answer, text;
    start(&test);
    buf_init(&answer, BUF_MAX_NONE);
    buf_init(&text, BUF_MAX_NONE);
    int fd = raw_connect(test.port);
    raw_send(fd, SLICE("GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /plain HTTP/1.1\r\nHost: x\r\n"
                       "Connection: close\r\n\r\n"));
    raw_read_all(fd, &answer);
    buf_byte(&answer, 0);
    slice all = slice_make(answer.at, answer.len - 1);
    size_t head = head_len(all), used = 0;
    assert_non_null(memmem(all.at, head, "Transfer-Encoding: chunked\r\n", 28));
    assert_null(memmem(all.at, head, "Content-Length", 14));
    assert_true(unchunk(slice_from(all, head), &text, &used));
    check_text(buf_view(&text));
    slice second = slice_from(all, head + used);
    assert_true(slice_starts_with(second, SLICE("HTTP/1.1 200")));
    assert_memory_equal(second.at + second.len - 5, "first", 5);
    (void)close(fd);
    buf_done(&answer);
    buf_done(&text);
    assert_int_equal(test.handled, 1);
    test_stop(&test);
}

static void an_old_client_reads_to_the_end_of_the_connection(void **state)
{
    (void)state;
    struct net_test test;
    struct buf answer;
    start(&test);
    buf_init(&answer, BUF_MAX_NONE);
    int fd = raw_connect(test.port);
    raw_send(fd, SLICE("GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
    raw_read_all(fd, &answer);
    slice all = buf_view(&answer);
    assert_null(memmem(all.at, head_len(all), "Transfer-Encoding", 17));
    check_text(slice_from(all, head_len(all)));
    (void)close(fd);
    buf_done(&answer);
    test_stop(&test);
}

static void a_fault_on_the_way_leaves_the_answer_without_an_end(void **state)
{
    (void)state;
    struct net_test test;
    struct buf answer, text;
    size_t used;
    start(&test);
    buf_init(&answer, BUF_MAX_NONE);
    buf_init(&text, BUF_MAX_NONE);
    int fd = raw_connect(test.port);
    raw_send(fd, SLICE("GET /fail HTTP/1.1\r\nHost: x\r\n\r\n"));
    raw_read_all(fd, &answer);
    buf_byte(&answer, 0);
    slice all = slice_make(answer.at, answer.len - 1);
    assert_false(unchunk(slice_from(all, head_len(all)), &text, &used));
    assert_int_equal(text.len, 5 + 49 * PIECE_BYTES);
    (void)close(fd);
    wait_until_at_least(&test.handled, 1);
    buf_done(&answer);
    buf_done(&text);
    test_stop(&test);
}

static void head_is_answered_without_a_piece(void **state)
{
    (void)state;
    struct net_test test;
    struct buf answer;
    start(&test);
    buf_init(&answer, BUF_MAX_NONE);
    int fd = raw_connect(test.port);
    raw_send(fd, SLICE("HEAD /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
    raw_read_all(fd, &answer);
    assert_int_equal(head_len(buf_view(&answer)), answer.len);
    (void)close(fd);
    buf_done(&answer);
    assert_int_equal(test.handled, 1);
    test_stop(&test);
}

static void who_goes_away_or_reads_nothing_is_given_up(void **state)
{
    (void)state;
    struct net_test test;
    struct buf some;
    start(&test);
    buf_init(&some, BUF_MAX_NONE);
    int gone = raw_connect(test.port), silent = raw_connect(test.port);
    raw_send(gone, SLICE("GET /a HTTP/1.1\r\nHost: x\r\n\r\n"));
    raw_send(silent, SLICE("GET /a HTTP/1.1\r\nHost: x\r\n\r\n"));
    assert_true(raw_read(gone, &some));
    (void)close(gone);
    wait_until_at_least(&test.handled, 1);
    assert_int_equal(test.handled, 1);
    test_stop(&test); /* the other one still waits for its client */
    assert_int_equal(test.handled, 2);
    (void)close(silent);
    buf_done(&some);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_streamed_answer_comes_in_chunks_and_the_connection_goes_on),
        cmocka_unit_test(an_old_client_reads_to_the_end_of_the_connection),
        cmocka_unit_test(a_fault_on_the_way_leaves_the_answer_without_an_end),
        cmocka_unit_test(head_is_answered_without_a_piece),
        cmocka_unit_test(who_goes_away_or_reads_nothing_is_given_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
