/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/2 on the same port, with nghttp2 as the client, and frames by hand where a client must misbehave. */
#include "intake_test.h"

#include <nghttp2/nghttp2.h>

#define PREFACE          "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define ANSWERS_MAX      256
#define NO_SETTINGS      "\0\0\0\x04\0\0\0\0\0"
#define STREAM_INDEX(id) ((size_t)(id) / 2 % ANSWERS_MAX)

struct answer2 {
    int status;
    struct buf body;
    uint32_t closed_with;
    bool closed, has_date;
};
struct client2 {
    nghttp2_session *session;
    int fd;
    unsigned open;
    bool ended;
    bool holds_windows; /* gives no room for more */
    int goaway;         /* its code, -1: none came */
    struct answer2 answers[ANSWERS_MAX];
};

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *user)
{
    (void)session, (void)flags;
    struct client2 *client = user;
    struct answer2 *answer = &client->answers[STREAM_INDEX(frame->hd.stream_id)];
    for (size_t i = 0; i < name_len; i++)
        assert_false(name[i] >= 'A' && name[i] <= 'Z');
    if (slice_equal(slice_make(name, name_len), SLICE(":status")))
        answer->status = atoi((const char *)value);
    answer->has_date |= slice_equal(slice_make(name, name_len), SLICE("date"));
    assert_false(slice_equal(slice_make(name, name_len), SLICE("connection")));
    (void)value_len;
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *at,
                   size_t len, void *user)
{
    (void)flags;
    struct client2 *client = user;
    buf_append(&client->answers[STREAM_INDEX(id)].body, at, len);
    if (!client->holds_windows)
        assert_int_equal(nghttp2_session_consume(session, id, len), 0);
    return 0;
}

static int on_close(nghttp2_session *session, int32_t id, uint32_t code, void *user)
{
    (void)session;
    struct client2 *client = user;
    client->answers[STREAM_INDEX(id)].closed = true;
    client->answers[STREAM_INDEX(id)].closed_with = code;
    client->open--;
    return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    (void)session;
    struct client2 *client = user;
    if (frame->hd.type == NGHTTP2_GOAWAY)
        client->goaway = (int)frame->goaway.error_code;
    return 0;
}

static void client_open(struct client2 *client, uint16_t port)
{
    memset(client, 0, sizeof(*client));
    for (size_t i = 0; i < ANSWERS_MAX; i++)
        buf_init(&client->answers[i].body, BUF_MAX_NONE);
    client->goaway = -1;
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option;
    assert_int_equal(nghttp2_session_callbacks_new(&callbacks), 0);
    assert_int_equal(nghttp2_option_new(&option), 0);
    nghttp2_option_set_no_auto_window_update(option, 1);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    assert_int_equal(nghttp2_session_client_new2(&client->session, callbacks, client, option), 0);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_option_del(option);
    assert_int_equal(nghttp2_submit_settings(client->session, NGHTTP2_FLAG_NONE, NULL, 0), 0);
    client->fd = raw_connect(port);
}

static void client_close(struct client2 *client)
{
    nghttp2_session_del(client->session);
    (void)close(client->fd);
    for (size_t i = 0; i < ANSWERS_MAX; i++)
        buf_done(&client->answers[i].body);
}

static void client_send(struct client2 *client)
{
    const uint8_t *at;
    ssize_t len;
    while ((len = nghttp2_session_mem_send(client->session, &at)) > 0)
        raw_send(client->fd, slice_make(at, (size_t)len));
    assert_true(len == 0);
}

/* Send and read until every stream is closed, or the connection, or `stop` holds. */
static void client_run(struct client2 *client, bool (*stop)(struct client2 *client))
{
    static uint8_t room[65536];
    while (!client->ended && client->open > 0 && !(stop && stop(client))) {
        client_send(client);
        struct pollfd one = {.fd = client->fd, .events = POLLIN};
        if (poll(&one, 1, 20000) != 1)
            fail_msg("the server says nothing");
        ssize_t got = recv(client->fd, room, sizeof(room), 0);
        client->ended = got <= 0;
        if (got > 0)
            assert_true(nghttp2_session_mem_recv(client->session, room, (size_t)got) == got);
    }
    if (!client->ended)
        client_send(client);
}

struct body2 {
    slice left;
    bool holds_back; /* the end never comes */
};

static ssize_t read_body(nghttp2_session *session, int32_t id, uint8_t *at, size_t room,
                         uint32_t *flags, nghttp2_data_source *source, void *user)
{
    (void)session, (void)id, (void)user;
    struct body2 *body = source->ptr;
    size_t len = min_size(room, body->left.len);
    if (len == 0 && body->holds_back)
        return NGHTTP2_ERR_DEFERRED;
    memcpy(at, body->left.at, len);
    body->left = slice_from(body->left, len);
    if (body->left.len == 0 && !body->holds_back)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)len;
}

#define FIELD(name_, value_)                                                \
    {                                                                       \
        .name = (uint8_t *)(uintptr_t)(name_), .namelen = strlen(name_),    \
        .value = (uint8_t *)(uintptr_t)(value_), .valuelen = strlen(value_) \
    }

/* The answer's place; `extra` is one more field. */
static struct answer2 *ask(struct client2 *client, const char *method, const char *path,
                           struct body2 *body, const char *extra, const char *value)
{
    nghttp2_nv fields[] = {FIELD(":method", method), FIELD(":path", path), FIELD(":scheme", "http"),
                           FIELD(":authority", "a"),
                           FIELD(extra ? extra : "x", value ? value : "y")};
    nghttp2_data_provider provider = {.source.ptr = body, .read_callback = read_body};
    int32_t id = nghttp2_submit_request(client->session, NULL, fields, COUNT_OF(fields),
                                        body ? &provider : NULL, NULL);
    assert_true(id > 0);
    client->open++;
    struct answer2 *answer = &client->answers[STREAM_INDEX(id)];
    buf_clear(&answer->body);
    answer->status = 0;
    answer->closed = false;
    return answer;
}

static void expect(struct answer2 *answer, int status, const char *begins)
{
    if (answer->status != status || !answer->closed ||
        !slice_starts_with(buf_view(&answer->body), slice_of(begins)))
        fail_msg("expected %d %s, got %d %.*s (%s, code %u)", status, begins, answer->status,
                 (int)min_size(answer->body.len, 200), (const char *)answer->body.at,
                 answer->closed ? "closed" : "open", answer->closed_with);
}

static void requests_are_answered(void **state)
{
    (void)state;
    struct net_test test;
    struct http_server_options options = test_options(&test);
    test_start(&test, &options);
    static struct client2 client;
    client_open(&client, test.port);
    struct body2 body = {.left = SLICE("abc")};
    struct answer2 *cheap = ask(&client, "GET", "/cheap?x=1", NULL, NULL, NULL),
                   *post = ask(&client, "POST", "/pooled", &body, "content-length", "3"),
                   *big = ask(&client, "GET", "/big", NULL, NULL, NULL),
                   *none = ask(&client, "GET", "/empty", NULL, NULL, NULL),
                   *head = ask(&client, "HEAD", "/cheap", NULL, NULL, NULL),
                   *refused = ask(&client, "GET", "/forbidden", NULL, NULL, NULL);
    client_run(&client, NULL);
    expect(cheap, 200, "GET /cheap?x=1 ");
    expect(post, 200, "POST /pooled abc");
    expect(big, 200, "0,1,2,3,4,");
    expect(none, 204, "");
    expect(head, 200, "");
    expect(refused, 401, "no");
    assert_true(cheap->has_date && big->body.len > 1000000 && head->body.len == 0);
    /* many, one after the other and beside each other */
    for (unsigned round = 0; round < 20; round++) {
        struct answer2 *all[100];
        for (size_t i = 0; i < COUNT_OF(all); i++)
            all[i] = ask(&client, "GET", i % 2 ? "/pooled" : "/cheap", NULL, NULL, NULL);
        client_run(&client, NULL);
        for (size_t i = 0; i < COUNT_OF(all); i++)
            expect(all[i], 200, "GET ");
    }
    assert_int_equal(client.goaway, -1);
    client_close(&client);
    test_stop(&test);
}

static void bodies_have_the_limits_of_http_1(void **state)
{
    (void)state;
    struct net_test test;
    struct http_server_options options = test_options(&test);
    test_start(&test, &options);
    static struct client2 client;
    client_open(&client, test.port);
    struct buf text;
    buf_init(&text, BUF_MAX_NONE);
    for (unsigned i = 0; text.len < 3000000; i++)
        buf_printf(&text, "%u ", i);
    struct body2 fits = {.left = {text.at, 900000}}, declared = {.left = buf_view(&text)},
                 seen = {.left = buf_view(&text)}, torn = {.left = SLICE("no gzip at all")};
    struct answer2 *first = ask(&client, "POST", "/", &fits, NULL, NULL);
    client_run(&client, NULL);
    expect(first, 200, "POST / 0 1 2");
    assert_int_equal(first->body.len, 7 + 900000);
    char length[32];
    (void)snprintf(length, sizeof(length), "%zu", text.len);
    struct answer2 *second = ask(&client, "POST", "/", &declared, "content-length", length),
                   *third = ask(&client, "POST", "/", &seen, NULL, NULL),
                   *fourth = ask(&client, "POST", "/", &torn, "content-encoding", "gzip"),
                   *fifth = ask(&client, "POST", "/", &torn, "content-encoding", "br");
    client_run(&client, NULL);
    expect(second, 413, "refused 3000");
    expect(third, 413, "refused 10");
    expect(fourth, 400, "{\"error\":");
    expect(fifth, 415, "{\"error\":");
    struct answer2 *after = ask(&client, "GET", "/cheap", NULL, NULL, NULL);
    client_run(&client, NULL);
    expect(after, 200, "GET /cheap");
    buf_done(&text);
    client_close(&client);
    test_stop(&test);
}

static void heads_are_judged_as_in_http_1(void **state)
{
    (void)state;
    struct net_test test;
    struct http_server_options options = test_options(&test);
    test_start(&test, &options);
    static struct client2 client;
    static char large[40000];
    memset(large, 'x', sizeof(large) - 1);
    client_open(&client, test.port);
    struct body2 body = {.left = SLICE("abc")};
    struct answer2 *all[] = {ask(&client, "GET", "/a", NULL, "filler", large),
                             ask(&client, "get", "/a", NULL, NULL, NULL),
                             ask(&client, "GET", "/a#b", NULL, NULL, NULL),
                             ask(&client, "GET", "a", NULL, NULL, NULL),
                             ask(&client, "GET", "/a", NULL, "host", "other"),
                             ask(&client, "POST", "/a", &body, "expect", "miracles"),
                             ask(&client, "GET", "/a", NULL, "ochre-deadline-ms", "soon"),
                             ask(&client, "GET", "/a", NULL, "host", "a")};
    static const int wanted[] = {431, 400, 400, 400, 400, 417, 400, 200};
    client_run(&client, NULL);
    for (size_t i = 0; i < COUNT_OF(all); i++) {
        /* what nghttp2 itself finds malformed is reset */
        if (all[i]->status != wanted[i] && !(wanted[i] == 400 && all[i]->closed_with != 0))
            fail_msg("request %zu: %d instead of %d", i, all[i]->status, wanted[i]);
    }
    nghttp2_nv many[80] = {FIELD(":method", "GET"), FIELD(":path", "/"), FIELD(":scheme", "http"),
                           FIELD(":authority", "a")};
    for (size_t i = 4; i < COUNT_OF(many); i++)
        many[i] = (nghttp2_nv)FIELD("x", "y");
    int32_t id = nghttp2_submit_request(client.session, NULL, many, COUNT_OF(many), NULL, NULL);
    client.open++;
    client_run(&client, NULL);
    expect(&client.answers[STREAM_INDEX(id)], 431, "{\"error\":");
    client_close(&client);
    assert_int_equal(atomic_load(&test.handled), 1);
    test_stop(&test);
}

static void a_preface_may_come_byte_by_byte_and_not_late(void **state)
{
    (void)state;
    struct net_test test;
    struct http_server_options options = test_options(&test);
    test_start(&test, &options);
    static const char first[] = PREFACE NO_SETTINGS;
    int fd = raw_connect(test.port);
    for (size_t i = 0; i < sizeof(first) - 1; i++) {
        raw_send(fd, slice_make(first + i, 1));
        sched_sleep_ns(200000);
    }
    struct buf input;
    buf_init(&input, BUF_MAX_NONE);
    while (input.len < 9 && raw_read(fd, &input)) {
    }
    assert_true(input.len >= 9 && input.at[3] == NGHTTP2_SETTINGS);
    (void)close(fd);
    buf_done(&input);
    char statuses[64];
    raw_statuses(test.port, SLICE("GET /a HTTP/1.1\r\nHost: a\r\n\r\n" PREFACE NO_SETTINGS),
                 statuses, sizeof(statuses));
    assert_string_equal(statuses, "200 505");
    raw_statuses(test.port, SLICE("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"), statuses, sizeof(statuses));
    assert_string_equal(statuses, "505");
    test_stop(&test);
}

static bool has_goaway(struct client2 *client)
{
    return client->goaway >= 0;
}

static void a_reset_cancels_its_request_and_no_other(void **state)
{
    (void)state;
    struct net_test test;
    struct http_server_options options = test_options(&test);
    test_start(&test, &options);
    static struct client2 client;
    client_open(&client, test.port);
    (void)ask(&client, "GET", "/wait", NULL, NULL, NULL);
    struct answer2 *stays = ask(&client, "GET", "/wait", NULL, NULL, NULL);
    client_send(&client);
    wait_until_at_least(&test.waiting, 2);
    assert_int_equal(
        nghttp2_submit_rst_stream(client.session, NGHTTP2_FLAG_NONE, 1, NGHTTP2_CANCEL), 0);
    client_send(&client);
    wait_until_at_least(&test.cancelled, 1);
    atomic_store(&test.let_go, 1);
    client_run(&client, NULL);
    expect(stays, 200, "waited");
    assert_int_equal(atomic_load(&test.cancelled), 1);
    client_close(&client);
    test_stop(&test);
}

static void a_hang_up_cancels_all(void **state)
{
    (void)state;
    struct net_test test;
    struct http_server_options options = test_options(&test);
    test_start(&test, &options);
    static struct client2 client;
    client_open(&client, test.port);
    for (unsigned i = 0; i < 3; i++)
        (void)ask(&client, "GET", "/wait", NULL, NULL, NULL);
    client_send(&client);
    wait_until_at_least(&test.waiting, 3);
    client_close(&client);
    wait_until_at_least(&test.cancelled, 3);
    test_stop(&test);
}

static void no_more_than_a_hundred_streams_are_taken(void **state)
{
    (void)state;
    struct net_test test;
    struct http_server_options options = test_options(&test);
    options.waiting_max = 1000;
    test_start(&test, &options);
    static struct client2 client;
    client_open(&client, test.port);
    /* Reset while at work they still count: else a client could have any number at work. */
    for (unsigned i = 0; i < 100; i++)
        (void)ask(&client, "GET", "/wait", NULL, NULL, NULL);
    client_send(&client);
    wait_until_at_least(&test.waiting, 4);
    for (int32_t id = 1; id < 200; id += 2)
        assert_int_equal(
            nghttp2_submit_rst_stream(client.session, NGHTTP2_FLAG_NONE, id, NGHTTP2_CANCEL), 0);
    client_send(&client);
    wait_until_at_least(&test.cancelled, 4);
    client_run(&client, NULL);
    client.open = 0;
    atomic_store(&test.let_go, 1);
    struct answer2 *later = ask(&client, "GET", "/cheap", NULL, NULL, NULL);
    client_run(&client, NULL);
    assert_true(later->closed);
    assert_true(later->status == 200 || later->closed_with == NGHTTP2_REFUSED_STREAM);
    client_close(&client);
    test_stop(&test);
}

/* Frames by hand: the same one many times over; the error code of the GOAWAY, or -1. */
static int flood(uint16_t port, slice frame, unsigned count, bool streams)
{
    int fd = raw_connect(port);
    struct buf text, input;
    buf_init(&text, BUF_MAX_NONE);
    buf_init(&input, BUF_MAX_NONE);
    buf_append(&text, PREFACE NO_SETTINGS, sizeof(PREFACE NO_SETTINGS) - 1);
    for (unsigned i = 0; i < count; i++) {
        /* HEADERS :method GET, :path /, :scheme http, :authority "" */
        static const uint8_t request[] = {0, 0, 5, 1, 5, 0, 0, 0, 0, 0x82, 0x84, 0x86, 0x41, 0};
        uint32_t id = 2 * i + 1;
        uint8_t place[4] = {0, (uint8_t)(id >> 16), (uint8_t)(id >> 8), (uint8_t)id};
        if (streams) {
            buf_append(&text, request, sizeof(request));
            memcpy(text.at + text.len - 9, place, 4);
        }
        buf_slice(&text, frame);
        if (streams)
            memcpy(text.at + text.len - frame.len + 5, place, 4);
    }
    raw_send(fd, buf_view(&text));
    (void)shutdown(fd, SHUT_WR);
    raw_read_all(fd, &input);
    int code = -1;
    for (size_t at = 0; at + 9 <= input.len;) {
        size_t len = (size_t)input.at[at] << 16 | (size_t)input.at[at + 1] << 8 | input.at[at + 2];
        if (input.at[at + 3] == NGHTTP2_GOAWAY && at + 17 <= input.len)
            code = input.at[at + 16];
        at += 9 + len;
    }
    (void)close(fd);
    buf_done(&text);
    buf_done(&input);
    return code;
}

static void floods_end_the_connection(void **state)
{
    (void)state;
    struct net_test test;
    struct http_server_options options = test_options(&test);
    test_start(&test, &options);
    slice ping = SLICE("\0\0\x08\x06\0\0\0\0\0abcdefgh"), settings = SLICE(NO_SETTINGS),
          reset = SLICE("\0\0\x04\x03\0\0\0\0\0\0\0\0\x08"),
          priority = SLICE("\0\0\x05\x02\0\0\0\0\x01\0\0\0\x03\x10");
    assert_int_equal(flood(test.port, ping, 40000, false), NGHTTP2_ENHANCE_YOUR_CALM);
    assert_int_equal(flood(test.port, settings, 40000, false), NGHTTP2_ENHANCE_YOUR_CALM);
    assert_int_equal(flood(test.port, priority, 40000, false), NGHTTP2_ENHANCE_YOUR_CALM);
    /* open and reset: CVE-2023-44487; nghttp2 may be the first to see it */
    int code = flood(test.port, reset, 3000, true);
    assert_true(code == NGHTTP2_ENHANCE_YOUR_CALM || code == NGHTTP2_INTERNAL_ERROR);
    assert_true(atomic_load(&test.handled) < 2000);
    /* a few of each are nobody's harm */
    assert_int_equal(flood(test.port, ping, 100, false), -1);
    test_stop(&test);
}

static void slow_clients_are_cut(void **state)
{
    (void)state;
    struct net_test test;
    struct http_server_options options = test_options(&test);
    options.head_timeout_ms = 300;
    options.idle_timeout_ms = 600;
    test_start(&test, &options);
    static struct client2 client;
    client_open(&client, test.port);
    struct body2 body = {.left = SLICE("abc"), .holds_back = true};
    struct answer2 *slow = ask(&client, "POST", "/", &body, NULL, NULL);
    client_run(&client, has_goaway);
    expect(slow, 408, "{\"error\":");
    /* idle: a GOAWAY, then the end */
    client.open = 1;
    client_run(&client, NULL);
    assert_true(client.ended && client.goaway == NGHTTP2_NO_ERROR);
    client_close(&client);
    /* half a head */
    int fd = raw_connect(test.port);
    raw_send(fd, SLICE(PREFACE NO_SETTINGS "\0\0\x10\x01\x01\0\0\0\x01\x82\x84"));
    struct buf input;
    buf_init(&input, BUF_MAX_NONE);
    raw_read_all(fd, &input);
    (void)close(fd);
    buf_done(&input);
    /* a client that opens no windows */
    client_open(&client, test.port);
    client.holds_windows = true;
    struct answer2 *big = ask(&client, "GET", "/big", NULL, NULL, NULL);
    client_run(&client, NULL);
    assert_true(big->status == 200 && big->body.len < 100000);
    assert_true(client.ended || big->closed_with == NGHTTP2_CANCEL);
    client_close(&client);
    test_stop(&test);
}

/* ---- answers in pieces ---- */

#define PIECES 60u

struct pieces {
    struct http_stream stream;
    unsigned made, fails_at;
    _Atomic unsigned *freed;
};

static och_code next_piece(struct http_stream *stream, struct buf *body, bool *ret_more)
{
    struct pieces *pieces = (struct pieces *)(void *)stream;
    assert_int_equal(body->len, 0);
    if (++pieces->made == pieces->fails_at)
        return OCH_IO;
    for (unsigned i = 0; i < 50000; i++)
        buf_byte(body, (uint8_t)('a' + pieces->made % 26));
    *ret_more = pieces->made < PIECES;
    return OCH_OK;
}

static void free_pieces(struct http_stream *stream)
{
    struct pieces *pieces = (struct pieces *)(void *)stream;
    atomic_fetch_add(pieces->freed, 1);
    mem_free(pieces);
}

static void handle_in_pieces(void *context, const struct http_request *request,
                             struct http_reply *reply)
{
    struct net_test *test = context;
    assert_true(request->streams);
    struct pieces *pieces = mem_zalloc(sizeof(*pieces));
    assert_non_null(pieces);
    *pieces = (struct pieces){.stream = {next_piece, free_pieces}, .freed = &test->handled};
    pieces->fails_at = slice_equal(request->path, SLICE("/fail")) ? 30 : 0;
    if (!slice_equal(request->path, SLICE("/later")))
        buf_text(&reply->body, "first");
    reply->stream = &pieces->stream;
}

static void answers_come_in_pieces(void **state)
{
    (void)state;
    struct net_test test;
    struct http_server_options options = test_options(&test);
    options.handler = (struct http_handler){.context = &test, .handle = handle_in_pieces};
    test_start(&test, &options);
    static struct client2 client;
    client_open(&client, test.port);
    struct answer2 *all[] = {ask(&client, "GET", "/a", NULL, NULL, NULL),
                             ask(&client, "GET", "/fail", NULL, NULL, NULL),
                             ask(&client, "GET", "/b", NULL, NULL, NULL),
                             ask(&client, "GET", "/later", NULL, NULL, NULL),
                             ask(&client, "HEAD", "/a", NULL, NULL, NULL)};
    client_run(&client, NULL);
    for (size_t i = 0; i < 4; i++) {
        size_t first = i == 3 ? 0 : 5, whole = first + PIECES * 50000u;
        assert_int_equal(all[i]->status, 200);
        assert_true(i == 1 ? all[i]->body.len < whole : all[i]->body.len == whole);
        assert_int_equal(all[i]->closed_with != 0, i == 1);
        for (size_t at = first; at < all[i]->body.len; at += 997)
            assert_int_equal(all[i]->body.at[at], 'a' + ((at - first) / 50000 + 1) % 26);
    }
    expect(all[4], 200, "");
    assert_int_equal(atomic_load(&test.handled), 5); /* all are freed */
    /* gone in the middle */
    (void)ask(&client, "GET", "/a", NULL, NULL, NULL);
    client.holds_windows = true;
    client_send(&client);
    sched_sleep_ns(20000000);
    client_close(&client);
    wait_until_at_least(&test.handled, 6);
    test_stop(&test);
}

static void bodies_are_taken_in_pieces(void **state)
{
    (void)state;
    struct net_test test;
    start_intake(&test);
    test.budget.limit_bytes = 24 << 20; /* less than the bodies */
    static struct client2 client;
    client_open(&client, test.port);
    enum { EACH = 5000011, STREAMS = 8 };
    uint8_t *bytes = make_body(EACH);
    struct buf packed;
    assert_true(http_gzip(slice_make(bytes, EACH), &packed));
    char expected[64];
    (void)snprintf(expected, sizeof(expected), "%d %llu", EACH,
                   (unsigned long long)sum_of(0, slice_make(bytes, EACH)));
    struct body2 bodies[STREAMS];
    struct answer2 *all[STREAMS];
    for (size_t i = 0; i < STREAMS; i++) {
        bool gzip = i % 4 == 1, stop = i % 4 == 2;
        bodies[i] = (struct body2){gzip ? buf_view(&packed) : slice_make(bytes, EACH), false};
        all[i] = ask(&client, "POST", stop ? "/sum/stop" : "/sum", &bodies[i],
                     gzip ? "content-encoding" : NULL, gzip ? "gzip" : NULL);
    }
    client_run(&client, NULL);
    for (size_t i = 0; i < STREAMS; i++)
        expect(all[i], i % 4 == 2 ? 418 : 200, i % 4 == 2 ? "" : expected);
    struct body2 broken = {slice_make(packed.at, packed.len / 2), false};
    struct answer2 *cut = ask(&client, "POST", "/sum", &broken, "content-encoding", "gzip");
    client_run(&client, NULL);
    expect(cut, 400, "");
    assert_non_null(memmem(cut->body.at, cut->body.len, "stops in the middle", 19));
    /* gone in the middle */
    struct body2 half = {slice_make(bytes, 2000000), true};
    (void)ask(&client, "POST", "/sum", &half, NULL, NULL);
    client_send(&client);
    client_close(&client);
    wait_until_at_least(&test.let_go, STREAMS + 2);
    buf_done(&packed);
    free(bytes);
    test_stop(&test);
}

struct drain_run {
    struct net_test *test;
    uint64_t deadline_ns;
};

static void run_drain(void *arg)
{
    struct drain_run *run = arg;
    http_server_drain(run->test->server, run->deadline_ns);
}

static void draining_answers_what_is_at_work(void **state)
{
    (void)state;
    struct net_test test;
    struct http_server_options options = test_options(&test);
    test_start(&test, &options);
    static struct client2 client, idle;
    client_open(&client, test.port);
    client_open(&idle, test.port);
    struct answer2 *first = ask(&idle, "GET", "/cheap", NULL, NULL, NULL);
    client_run(&idle, NULL);
    expect(first, 200, "GET /cheap");
    struct answer2 *work = ask(&client, "GET", "/wait", NULL, NULL, NULL);
    client_send(&client);
    wait_until_at_least(&test.waiting, 1);
    struct drain_run run = {&test, after_ms(10000)};
    struct thread thread = {0};
    assert_int_equal(thread_start(&thread, "drain", (size_t)256 * 1024, run_drain, &run, NULL),
                     OCH_OK);
    idle.open = 1;
    client_run(&idle, NULL);
    assert_true(idle.ended && idle.goaway == NGHTTP2_NO_ERROR);
    client_close(&idle);
    client_run(&client, has_goaway);
    assert_int_equal(client.goaway, NGHTTP2_NO_ERROR);
    atomic_store(&test.let_go, 1);
    client_run(&client, NULL);
    expect(work, 200, "waited");
    client_close(&client);
    thread_join(&thread);
    test_stop(&test);
}

static void a_drain_that_takes_too_long_cancels(void **state)
{
    (void)state;
    struct net_test test;
    struct http_server_options options = test_options(&test);
    test_start(&test, &options);
    static struct client2 client;
    client_open(&client, test.port);
    for (unsigned i = 0; i < 10; i++)
        (void)ask(&client, "GET", "/wait", NULL, NULL, NULL);
    client_send(&client);
    wait_until_at_least(&test.waiting, 4);
    http_server_drain(test.server, after_ms(100));
    wait_until_at_least(&test.cancelled, 4);
    test_stop(&test);
    client_close(&client);
}

static void requests_survive_failing_allocations(void **state)
{
    (void)state;
    struct net_test test;
    struct http_server_options options = test_options(&test);
    options.loop_count = 1;
    test_start(&test, &options);
    struct body2 body = {.left = SLICE("abc")};
    unsigned answered = 0;
    for (uint64_t nth = 1; nth <= 60; nth++) {
        static struct client2 client;
        body.left = SLICE("abc");
        client_open(&client, test.port);
        struct answer2 *one = ask(&client, "POST", "/pooled", &body, NULL, NULL),
                       *two = ask(&client, "GET", "/cheap", NULL, NULL, NULL);
        mem_fail_at(nth);
        client_run(&client, NULL);
        mem_fail_at(0);
        answered += (unsigned)(one->status == 200) + (unsigned)(two->status == 200);
        client_close(&client);
    }
    print_message("%u of 120 answered\n", answered);
    assert_true(answered > 30);
    test_stop(&test);
}

/* Whatever comes behind the preface, the next client is served. */
static void nonsense_harms_nobody(void **state)
{
    (void)state;
    struct net_test test;
    struct http_server_options options = test_options(&test);
    options.head_timeout_ms = 500;
    options.idle_timeout_ms = 500;
    test_start(&test, &options);
    struct random random;
    random_seed(&random, 7);
    for (unsigned i = 0; i < 200; i++) {
        uint8_t frames[512];
        size_t len = 0;
        while (len < 400) {
            size_t size = (size_t)random_below(&random, 30);
            uint8_t head[9] = {0,
                               0,
                               (uint8_t)size,
                               (uint8_t)random_below(&random, 11),
                               (uint8_t)random_below(&random, 64),
                               0,
                               0,
                               0,
                               (uint8_t)random_below(&random, 8)};
            memcpy(frames + len, head, 9);
            for (size_t j = 0; j < size; j++)
                frames[len + 9 + j] = (uint8_t)random_below(&random, 256);
            len += 9 + size;
        }
        int fd = raw_connect(test.port);
        raw_send(fd, SLICE(PREFACE NO_SETTINGS));
        raw_send(fd, slice_make(frames, len));
        (void)shutdown(fd, SHUT_WR);
        struct buf input;
        buf_init(&input, BUF_MAX_NONE);
        raw_read_all(fd, &input);
        buf_done(&input);
        (void)close(fd);
    }
    static struct client2 client;
    client_open(&client, test.port);
    struct answer2 *after = ask(&client, "GET", "/cheap", NULL, NULL, NULL);
    client_run(&client, NULL);
    expect(after, 200, "GET /cheap");
    client_close(&client);
    test_stop(&test);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_are_answered),
        cmocka_unit_test(bodies_have_the_limits_of_http_1),
        cmocka_unit_test(heads_are_judged_as_in_http_1),
        cmocka_unit_test(a_preface_may_come_byte_by_byte_and_not_late),
        cmocka_unit_test(a_reset_cancels_its_request_and_no_other),
        cmocka_unit_test(a_hang_up_cancels_all),
        cmocka_unit_test(no_more_than_a_hundred_streams_are_taken),
        cmocka_unit_test(floods_end_the_connection),
        cmocka_unit_test(slow_clients_are_cut),
        cmocka_unit_test(answers_come_in_pieces),
        cmocka_unit_test(bodies_are_taken_in_pieces),
        cmocka_unit_test(draining_answers_what_is_at_work),
        cmocka_unit_test(a_drain_that_takes_too_long_cancels),
        cmocka_unit_test(requests_survive_failing_allocations),
        cmocka_unit_test(nonsense_harms_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
