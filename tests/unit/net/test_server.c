/* SPDX-License-Identifier: Apache-2.0 */
/* Requests as clients send them, and as attackers do. */
#include "net_test.h"

#include <sys/stat.h>
#include <sys/un.h>

#define TEXT(literal)                                      \
    {                                                      \
        (const uint8_t *)("" literal), sizeof(literal) - 1 \
    }
#define H    "Host: a\r\n"
#define LAST "GET /last HTTP/1.1\r\n" H "Connection: close\r\n\r\n"
#define BAIT "GET /smuggled HTTP/1.1\r\n" H "\r\n"

static struct net_test test;

static int start(void **state)
{
    (void)state;
    struct http_server_options options = test_options(&test);
    test_start(&test, &options);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    test_stop(&test);
    return 0;
}

/* Every stream ends in the connection's end: asked for by LAST, or by an error before it. */
static const struct {
    const char *name;
    slice bytes;
    const char *statuses;
} streams[] = {
    {"one request", TEXT(LAST), "200"},
    {"two requests", TEXT("GET / HTTP/1.1\r\n" H "\r\n" LAST), "200 200"},
    {"cheap and pooled in turn",
     TEXT("GET /cheap HTTP/1.1\r\n" H "\r\nGET / HTTP/1.1\r\n" H "\r\nGET /cheap HTTP/1.1\r\n" H
          "\r\n" LAST),
     "200 200 200 200"},
    {"an empty line between", TEXT("GET / HTTP/1.1\r\n" H "\r\n\r\n" LAST), "200 200"},
    {"a body, then another request",
     TEXT("POST / HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\nabc" LAST), "200 200"},
    {"a chunked body, then another request",
     TEXT("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" LAST),
     "200 200"},
    {"an empty chunked body",
     TEXT("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" LAST), "200 200"},
    {"a body that looks like a request",
     TEXT("POST / HTTP/1.1\r\n" H "Content-Length: 35\r\n\r\n" BAIT LAST), "200 200"},
    {"HTTP/1.0 closes", TEXT("GET / HTTP/1.0\r\n\r\n" LAST), "200"},
    {"HTTP/1.0 kept alive", TEXT("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" LAST),
     "200 200"},
    {"no content", TEXT("GET /empty HTTP/1.1\r\n" H "\r\n" LAST), "204 200"},
    {"an answer that does not fit", TEXT("GET /fails HTTP/1.1\r\n" H "\r\n" LAST), "500 200"},
    {"not admitted, small body",
     TEXT("POST /forbidden HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\nabc" LAST), "401 200"},
    {"not admitted, no body", TEXT("GET /forbidden HTTP/1.1\r\n" H "\r\n" LAST), "401 200"},
    {"not admitted, chunks",
     TEXT("POST /forbidden HTTP/1.1\r\n" H
          "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" LAST),
     "401"},
    {"not admitted, large body",
     TEXT("POST /forbidden HTTP/1.1\r\n" H "Content-Length: 99999\r\n\r\n" LAST), "401"},
    {"not admitted, expecting",
     TEXT("POST /forbidden HTTP/1.1\r\n" H
          "Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc" LAST),
     "401"},
    {"body over the limit", TEXT("POST / HTTP/1.1\r\n" H "Content-Length: 1000001\r\n\r\nabc" LAST),
     "413"},
    {"unknown coding, small body",
     TEXT("POST / HTTP/1.1\r\n" H "Content-Encoding: br\r\nContent-Length: 3\r\n\r\nabc" LAST),
     "415 200"},
    {"broken gzip",
     TEXT("POST / HTTP/1.1\r\n" H
          "Content-Encoding: gzip\r\nContent-Length: 12\r\n\r\nabcabcabcabc" LAST),
     "400"},
    {"gzip cut short",
     TEXT("POST / HTTP/1.1\r\n" H
          "Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b" LAST),
     "400"},
    {"empty gzip",
     TEXT("POST / HTTP/1.1\r\n" H "Content-Encoding: gzip\r\nContent-Length: 0\r\n\r\n" LAST),
     "200 200"},
    {"identity coding",
     TEXT("POST / HTTP/1.1\r\n" H
          "Content-Encoding: identity\r\nContent-Length: 3\r\n\r\nabc" LAST),
     "200 200"},
    {"a deadline that is no number",
     TEXT("GET / HTTP/1.1\r\n" H "Ochre-Deadline-Ms: soon\r\n\r\n" LAST), "400 200"},
    {"a deadline of zero", TEXT("GET / HTTP/1.1\r\n" H "Ochre-Deadline-Ms: 0\r\n\r\n" LAST),
     "400 200"},
    {"an unknown method is the handler's", TEXT("BREW / HTTP/1.1\r\n" H "\r\n" LAST), "200 200"},
    /* smuggling: after each of these the bait must stay unseen */
    {"both lengths",
     TEXT("POST / HTTP/1.1\r\n" H
          "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" BAIT),
     "400"},
    {"two lengths",
     TEXT("POST / HTTP/1.1\r\n" H "Content-Length: 0\r\nContent-Length: 35\r\n\r\n" BAIT), "400"},
    {"signed length", TEXT("POST / HTTP/1.1\r\n" H "Content-Length: +0\r\n\r\n" BAIT), "400"},
    {"blank before the colon", TEXT("POST / HTTP/1.1\r\n" H "Content-Length : 0\r\n\r\n" BAIT),
     "400"},
    {"folded encoding",
     TEXT("POST / HTTP/1.1\r\n" H "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" BAIT), "400"},
    {"encoding behind a tab",
     TEXT("POST / HTTP/1.1\r\n" H "Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n" BAIT), "400"},
    {"unknown encoding",
     TEXT("POST / HTTP/1.1\r\n" H "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" BAIT), "501"},
    {"chunked twice",
     TEXT("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n" BAIT),
     "400"},
    {"encoding in HTTP/1.0",
     TEXT("POST / HTTP/1.0\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" BAIT), "400"},
    {"bare LF in the head", TEXT("GET / HTTP/1.1\n" H "\n" BAIT), "400"},
    {"bare LF ends the head", TEXT("GET / HTTP/1.1\r\n" H "\n" BAIT), "400"},
    {"NUL in the head", TEXT("GET / HTTP/1.1\r\n" H "X: \0\r\n\r\n" BAIT), "400"},
    {"two Hosts", TEXT("GET / HTTP/1.1\r\n" H "Host: b\r\n\r\n" BAIT), "400"},
    {"no Host", TEXT("GET / HTTP/1.1\r\n\r\n" BAIT), "400"},
    {"wrong version", TEXT("GET / HTTP/2.0\r\n" H "\r\n" BAIT), "505"},
    {"lower case method", TEXT("get / HTTP/1.1\r\n" H "\r\n" BAIT), "400"},
    {"bare LF behind a chunk size",
     TEXT("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\n\r\n" BAIT), "400"},
    {"blank behind a chunk size",
     TEXT("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0 \r\n\r\n" BAIT), "400"},
    {"chunk size with 0x",
     TEXT("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n" BAIT), "400"},
    {"chunk longer than its size",
     TEXT("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n" BAIT),
     "400"},
    {"overflowing chunk size",
     TEXT("POST / HTTP/1.1\r\n" H
          "Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n\r\n" BAIT),
     "400"},
    {"bare LF at the end of chunks",
     TEXT("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\n\n" BAIT), "400"},
    {"a request among the trailers",
     TEXT("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\n" BAIT), "400"},
    {"length in the trailers is ignored",
     TEXT("POST / HTTP/1.1\r\n" H
          "Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 9\r\n\r\n" LAST),
     "200 200"},
};

static void streams_are_answered_as_listed_and_nothing_is_smuggled(void **state)
{
    (void)state;
    unsigned wrong = 0;
    for (size_t i = 0; i < COUNT_OF(streams); i++) {
        char statuses[64];
        raw_statuses(test.port, streams[i].bytes, statuses, sizeof(statuses));
        if (strcmp(statuses, streams[i].statuses) != 0) {
            print_error("%s: expected %s, got %s\n", streams[i].name, streams[i].statuses,
                        statuses);
            wrong++;
        }
    }
    assert_int_equal(wrong, 0);
    assert_int_equal(atomic_load(&test.smuggled), 0);
}

/* Each stream again, cut in two at every place; a pause in between lets the server see the parts. */
static void streams_are_answered_alike_when_cut_in_two(void **state)
{
    (void)state;
    struct random random;
    random_seed(&random, 7);
    for (size_t i = 0; i < COUNT_OF(streams); i++) {
        for (unsigned round = 0; round < 6; round++) {
            size_t cut = 1 + (size_t)random_below(&random, streams[i].bytes.len - 1);
            int fd = raw_connect(test.port);
            raw_send(fd, (slice){streams[i].bytes.at, cut});
            sched_sleep_ns(300000);
            raw_send(fd, slice_from(streams[i].bytes, cut));
            struct buf answers;
            buf_init(&answers, BUF_MAX_NONE);
            raw_read_all(fd, &answers);
            (void)close(fd);
            assert_true(answers.len > 12);
            assert_memory_equal(answers.at + 9, streams[i].statuses, 3);
            buf_done(&answers);
        }
    }
    assert_int_equal(atomic_load(&test.smuggled), 0);
}

static void a_stream_sent_byte_by_byte_is_answered(void **state)
{
    (void)state;
    static const char text[] =
        "POST /a HTTP/1.1\r\n" H
        "Transfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nT: u\r\n\r\n" LAST;
    int fd = raw_connect(test.port), one = 1;
    (void)setsockopt(fd, IPPROTO_TCP, 1 /* TCP_NODELAY */, &one, sizeof(one));
    for (size_t i = 0; i < sizeof(text) - 1; i++)
        raw_send(fd, (slice){(const uint8_t *)text + i, 1});
    struct buf input, body;
    buf_init(&input, BUF_MAX_NONE);
    buf_init(&body, BUF_MAX_NONE);
    assert_int_equal(raw_answer(fd, &input, &body), 200);
    assert_true(slice_equal(buf_view(&body), SLICE("POST /a abc")));
    assert_int_equal(raw_answer(fd, &input, &body), 200);
    assert_int_equal(raw_answer(fd, &input, NULL), 0);
    (void)close(fd);
    buf_done(&input);
    buf_done(&body);
}

static void a_head_that_is_too_large_gets_431(void **state)
{
    (void)state;
    struct buf text;
    char statuses[64];
    buf_init(&text, BUF_MAX_NONE);
    buf_text(&text, "GET / HTTP/1.1\r\n" H "X: ");
    while (text.len < 200000)
        buf_byte(&text, 'x');
    raw_statuses(test.port, buf_view(&text), statuses, sizeof(statuses));
    assert_string_equal(statuses, "431");
    buf_clear(&text);
    buf_text(&text, "GET / HTTP/1.1\r\n" H);
    for (unsigned i = 0; i < 64; i++)
        buf_text(&text, "X: y\r\n");
    buf_text(&text, "\r\n");
    raw_statuses(test.port, buf_view(&text), statuses, sizeof(statuses));
    assert_string_equal(statuses, "431");
    buf_clear(&text);
    buf_text(&text, "GET / HTTP/1.1\r\n" H "X: ");
    while (text.len < 30000)
        buf_byte(&text, 'x');
    buf_text(&text, "\r\n\r\n" LAST);
    raw_statuses(test.port, buf_view(&text), statuses, sizeof(statuses));
    assert_string_equal(statuses, "200 200");
    buf_done(&text);
}

static void bad_requests_get_the_error_shape_that_clients_read(void **state)
{
    (void)state;
    int fd = raw_connect(test.port);
    raw_send(fd, SLICE("GET / HTTP/1.1\r\nHost : a\r\n\r\n"));
    struct buf input, body;
    buf_init(&input, BUF_MAX_NONE);
    buf_init(&body, BUF_MAX_NONE);
    assert_int_equal(raw_answer(fd, &input, &body), 400);
    assert_true(slice_starts_with(buf_view(&body),
                                  SLICE("{\"error\":\"InvalidArgumentError\",\"message\":\"")));
    assert_int_equal(raw_answer(fd, &input, NULL), 0);
    (void)close(fd);
    buf_done(&input);
    buf_done(&body);
}

static void an_expecting_client_is_told_to_continue(void **state)
{
    (void)state;
    int fd = raw_connect(test.port);
    raw_send(fd,
             SLICE("POST / HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"));
    struct buf input, body;
    buf_init(&input, BUF_MAX_NONE);
    buf_init(&body, BUF_MAX_NONE);
    while (input.len < 25)
        assert_true(raw_read(fd, &input));
    assert_true(slice_equal(buf_view(&input), SLICE("HTTP/1.1 100 Continue\r\n\r\n")));
    buf_clear(&input);
    raw_send(fd, SLICE("abc"));
    assert_int_equal(raw_answer(fd, &input, &body), 200);
    assert_true(slice_equal(buf_view(&body), SLICE("POST / abc")));
    (void)close(fd);
    buf_done(&input);
    buf_done(&body);
}

static void head_requests_get_the_length_but_no_body(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, NULL, 0);
    struct http_answer answer;
    och_error err = {0};
    assert_int_equal(http_fetch("127.0.0.1", test.port, "HEAD", "/x", NULL, 0, SLICE_NONE, 20000,
                                &arena, &answer, &err),
                     OCH_OK);
    assert_int_equal(answer.status, 200);
    assert_int_equal(answer.body.len, 0);
    assert_non_null(memmem(answer.head.at, answer.head.len, "Content-Length: 8\r\n", 19));
    arena_done(&arena);
}

static void large_bodies_go_there_and_back(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, NULL, 0);
    static const size_t sizes[] = {1, 4000, 16383, 16384, 65536, 100000, 999999, 1000000};
    uint8_t *body = arena_alloc(&arena, 1000001);
    assert_non_null(body);
    for (size_t i = 0; i < 1000001; i++)
        body[i] = (uint8_t)(i * 7 + i / 256);
    struct http_answer answer;
    och_error err = {0};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        assert_int_equal(http_fetch("127.0.0.1", test.port, "POST", "/", NULL, 0,
                                    (slice){body, sizes[i]}, 20000, &arena, &answer, &err),
                         OCH_OK);
        assert_int_equal(answer.status, 200);
        assert_int_equal(answer.body.len, 7 + sizes[i]);
        assert_memory_equal(answer.body.at + 7, body, sizes[i]);
    }
    assert_int_equal(http_fetch("127.0.0.1", test.port, "POST", "/", NULL, 0,
                                (slice){body, 1000001}, 20000, &arena, &answer, &err),
                     OCH_OK);
    assert_int_equal(answer.status, 413);
    assert_true(slice_equal(answer.body, SLICE("refused 1000001")));
    arena_done(&arena);
}

static void a_chunked_body_over_the_limit_is_refused_by_the_handler(void **state)
{
    (void)state;
    struct buf text, input, body;
    buf_init(&text, BUF_MAX_NONE);
    buf_init(&input, BUF_MAX_NONE);
    buf_init(&body, BUF_MAX_NONE);
    buf_text(&text, "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n");
    for (unsigned i = 0; i < 2000; i++) {
        buf_text(&text, "3e8\r\n");
        for (unsigned j = 0; j < 1000; j++)
            buf_byte(&text, 'x');
        buf_text(&text, "\r\n");
    }
    buf_text(&text, "0\r\n\r\n");
    int fd = raw_connect(test.port);
    raw_send(fd, buf_view(&text));
    assert_int_equal(raw_answer(fd, &input, &body), 413);
    assert_true(slice_equal(buf_view(&body), SLICE("refused 1001000")));
    assert_int_equal(raw_answer(fd, &input, &body), 0);
    (void)close(fd);
    buf_done(&text);
    buf_done(&input);
    buf_done(&body);
}

static void answers_are_compressed_for_those_who_ask(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, NULL, 0);
    const struct http_header gzip = {SLICE("accept-encoding"), SLICE("deflate, gzip;q=0.5")};
    static const struct {
        const char *target;
        bool packed;
    } cases[] = {{"/middle", true}, {"/big", false /* loopback is faster */}, {"/small", false}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct http_answer plain, packed;
        och_error err = {0};
        assert_int_equal(http_fetch("127.0.0.1", test.port, "GET", cases[i].target, NULL, 0,
                                    SLICE_NONE, 20000, &arena, &plain, &err),
                         OCH_OK);
        assert_null(memmem(plain.head.at, plain.head.len, "Content-Encoding", 16));
        assert_int_equal(http_fetch("127.0.0.1", test.port, "GET", cases[i].target, &gzip, 1,
                                    SLICE_NONE, 20000, &arena, &packed, &err),
                         OCH_OK);
        bool is_packed =
            memmem(packed.head.at, packed.head.len, "Content-Encoding: gzip\r\n", 24) != NULL;
        assert_int_equal(is_packed, cases[i].packed);
        assert_true(is_packed ? packed.body.len < plain.body.len / 2
                              : packed.body.len == plain.body.len);
    }
    arena_done(&arena);
}

static void pipelined_requests_are_answered_in_order(void **state)
{
    (void)state;
    enum { count = 500 };
    int fd = raw_connect(test.port);
    struct buf text, input, body;
    buf_init(&text, BUF_MAX_NONE);
    buf_init(&input, BUF_MAX_NONE);
    buf_init(&body, BUF_MAX_NONE);
    for (unsigned i = 0; i < count; i++)
        buf_printf(&text, "POST %s/%u HTTP/1.1\r\n" H "Content-Length: 1\r\n\r\nx",
                   i % 3 ? "" : "/cheap", i);
    raw_send(fd, buf_view(&text));
    for (unsigned i = 0; i < count; i++) {
        char expected[64];
        (void)snprintf(expected, sizeof(expected), "POST %s/%u x", i % 3 ? "" : "/cheap", i);
        assert_int_equal(raw_answer(fd, &input, &body), 200);
        assert_true(slice_equal(buf_view(&body), slice_of(expected)));
    }
    (void)close(fd);
    buf_done(&text);
    buf_done(&input);
    buf_done(&body);
}

static void ten_thousand_requests_pass_over_sixteen_connections(void **state)
{
    (void)state;
    enum { conns = 16, rounds = 625 };
    int fds[conns];
    struct buf input[conns], body;
    buf_init(&body, BUF_MAX_NONE);
    for (unsigned i = 0; i < conns; i++) {
        fds[i] = raw_connect(test.port);
        buf_init(&input[i], BUF_MAX_NONE);
    }
    unsigned before = atomic_load(&test.handled);
    for (unsigned round = 0; round < rounds; round++) {
        char text[128];
        for (unsigned i = 0; i < conns; i++) {
            (void)snprintf(text, sizeof(text), "GET %s/%u/%u HTTP/1.1\r\n" H "\r\n",
                           i % 2 ? "/cheap" : "", i, round);
            raw_send(fds[i], slice_of(text));
        }
        for (unsigned i = 0; i < conns; i++) {
            (void)snprintf(text, sizeof(text), "GET %s/%u/%u ", i % 2 ? "/cheap" : "", i, round);
            assert_int_equal(raw_answer(fds[i], &input[i], &body), 200);
            assert_true(slice_equal(buf_view(&body), slice_of(text)));
        }
    }
    assert_int_equal(atomic_load(&test.handled) - before, conns * rounds);
    for (unsigned i = 0; i < conns; i++) {
        (void)close(fds[i]);
        buf_done(&input[i]);
    }
    buf_done(&body);
}

static void a_taken_port_is_named_with_a_way_out(void **state)
{
    (void)state;
    struct net_test other;
    struct http_server_options options = test_options(&other);
    options.host = "localhost";
    options.port = test.port;
    och_error err = {0};
    struct http_server *server = NULL;
    assert_int_equal(http_server_start(&options, &server, &err), OCH_IN_USE);
    assert_null(server);
    char expected[160];
    (void)snprintf(
        expected, sizeof(expected),
        "cannot listen on localhost:%u: another program has the port. Choose one with --port %u.",
        test.port, test.port + 1u);
    assert_string_equal(err.message, expected);
    options.host = "203.0.113.7";
    assert_int_equal(http_server_start(&options, &server, &err), OCH_SETTING);
}

static void a_local_socket_serves_besides_and_a_stale_one_is_replaced(void **state)
{
    (void)state;
    char path[] = "/tmp/ochre-net-XXXXXX";
    assert_non_null(mkdtemp(path));
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/s", path);
    int stale = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(stale, (struct sockaddr *)(void *)&address, sizeof(address)), 0);
    (void)close(stale);
    struct net_test other;
    struct http_server_options options = test_options(&other);
    options.unix_path = address.sun_path;
    test_start(&other, &options);
    struct stat status;
    assert_int_equal(stat(address.sun_path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)(void *)&address, sizeof(address)), 0);
    raw_send(fd, SLICE("GET /u HTTP/1.1\r\n" H "\r\n"));
    struct buf input;
    buf_init(&input, BUF_MAX_NONE);
    assert_int_equal(raw_answer(fd, &input, NULL), 200);
    (void)close(fd);
    buf_done(&input);
    struct arena arena;
    arena_init(&arena, NULL, 0);
    struct http_answer answer;
    och_error err = {0};
    assert_int_equal(http_fetch(address.sun_path, 0, "GET", "/u", NULL, 0, SLICE_NONE, 5000, &arena,
                                &answer, &err),
                     OCH_OK); /* our own client takes a path for a host */
    assert_int_equal(answer.status, 200);
    assert_int_equal(http_fetch("/tmp/no such socket", 0, "GET", "/u", NULL, 0, SLICE_NONE, 5000,
                                &arena, &answer, &err),
                     OCH_UNAVAILABLE);
    assert_string_equal(err.message,
                        "cannot connect to /tmp/no such socket: No such file or directory");
    char longer[200];
    memset(longer, '/', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    assert_int_equal(
        http_fetch(longer, 0, "GET", "/u", NULL, 0, SLICE_NONE, 5000, &arena, &answer, &err),
        OCH_UNAVAILABLE);
    arena_done(&arena);
    struct http_server *second = NULL;
    options.port = 0;
    assert_int_equal(http_server_start(&options, &second, NULL),
                     OCH_IN_USE); /* not stale: it answers */
    test_stop(&other);
    assert_int_not_equal(stat(address.sun_path, &status), 0);
    assert_int_equal(rmdir(path), 0);
}

static void localhost_is_reached_by_both_addresses(void **state)
{
    (void)state;
    struct net_test other;
    struct http_server_options options = test_options(&other);
    options.host = "localhost";
    test_start(&other, &options);
    struct arena arena;
    arena_init(&arena, NULL, 0);
    struct http_answer answer;
    och_error err = {0};
    assert_int_equal(http_fetch("127.0.0.1", other.port, "GET", "/", NULL, 0, SLICE_NONE, 20000,
                                &arena, &answer, &err),
                     OCH_OK);
    int probe = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    bool has_v6 = probe >= 0 && bind(probe, (struct sockaddr *)(void *)&v6, sizeof(v6)) == 0;
    if (probe >= 0)
        (void)close(probe);
    if (has_v6)
        assert_int_equal(http_fetch("::1", other.port, "GET", "/", NULL, 0, SLICE_NONE, 20000,
                                    &arena, &answer, &err),
                         OCH_OK);
    arena_done(&arena);
    test_stop(&other);
}

static void the_client_says_why_it_has_no_answer(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, NULL, 0);
    struct http_answer answer;
    och_error err = {0};
    assert_int_equal(http_fetch("127.0.0.1", test.port, "GET", "/wait", NULL, 0, SLICE_NONE, 100,
                                &arena, &answer, &err),
                     OCH_DEADLINE);
    assert_int_equal(
        http_fetch("127.0.0.1", 1, "GET", "/", NULL, 0, SLICE_NONE, 1000, &arena, &answer, &err),
        OCH_UNAVAILABLE);
    assert_non_null(strstr(err.message, "127.0.0.1:1"));
    arena_done(&arena);
}

static void answers_carry_the_date(void **state)
{
    (void)state;
    static const struct {
        uint64_t seconds;
        const char *line;
    } cases[] = {
        {0, "\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n"},
        {951782399, "\r\nDate: Mon, 28 Feb 2000 23:59:59 GMT\r\n"},
        {951782400, "\r\nDate: Tue, 29 Feb 2000 00:00:00 GMT\r\n"},
        {1709251200, "\r\nDate: Fri, 01 Mar 2024 00:00:00 GMT\r\n"},
        {1795683611, "\r\nDate: Thu, 26 Nov 2026 09:00:11 GMT\r\n"},
        {4102444799, "\r\nDate: Thu, 31 Dec 2099 23:59:59 GMT\r\n"},
        {4107542400, "\r\nDate: Mon, 01 Mar 2100 00:00:00 GMT\r\n"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct clock_manual manual;
        clock_manual_init(&manual, cases[i].seconds * 1000000000);
        struct net_test other;
        struct http_server_options options = test_options(&other);
        options.clock = &manual.clock;
        test_start(&other, &options);
        struct arena arena;
        arena_init(&arena, NULL, 0);
        struct http_answer answer;
        assert_int_equal(http_fetch("127.0.0.1", other.port, "GET", "/", NULL, 0, SLICE_NONE, 20000,
                                    &arena, &answer, NULL),
                         OCH_OK);
        assert_non_null(
            memmem(answer.head.at, answer.head.len, cases[i].line, strlen(cases[i].line)));
        arena_done(&arena);
        test_stop(&other);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streams_are_answered_as_listed_and_nothing_is_smuggled),
        cmocka_unit_test(streams_are_answered_alike_when_cut_in_two),
        cmocka_unit_test(a_stream_sent_byte_by_byte_is_answered),
        cmocka_unit_test(a_head_that_is_too_large_gets_431),
        cmocka_unit_test(bad_requests_get_the_error_shape_that_clients_read),
        cmocka_unit_test(an_expecting_client_is_told_to_continue),
        cmocka_unit_test(head_requests_get_the_length_but_no_body),
        cmocka_unit_test(large_bodies_go_there_and_back),
        cmocka_unit_test(a_chunked_body_over_the_limit_is_refused_by_the_handler),
        cmocka_unit_test(answers_are_compressed_for_those_who_ask),
        cmocka_unit_test(pipelined_requests_are_answered_in_order),
        cmocka_unit_test(ten_thousand_requests_pass_over_sixteen_connections),
        cmocka_unit_test(a_taken_port_is_named_with_a_way_out),
        cmocka_unit_test(a_local_socket_serves_besides_and_a_stale_one_is_replaced),
        cmocka_unit_test(localhost_is_reached_by_both_addresses),
        cmocka_unit_test(answers_carry_the_date),
        cmocka_unit_test(the_client_says_why_it_has_no_answer),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
