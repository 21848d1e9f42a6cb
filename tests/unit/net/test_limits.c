/* SPDX-License-Identifier: Apache-2.0 */
/* Slow, vanishing and too many clients, and the end of a server. */
#include "net_test.h"

#include "net/http_internal.h"

#include <dirent.h>

#define H "Host: a\r\n"

static uint64_t ms_since(uint64_t start_ns)
{
    return (clock_mono_ns(clock_system()) - start_ns) / 1000000;
}

/* What the server says until it closes, as one status, 0 for nothing. */
static int read_to_end(int fd)
{
    struct buf input;
    buf_init(&input, BUF_MAX_NONE);
    raw_read_all(fd, &input);
    int status = 0;
    slice body;
    if (input.len > 0)
        assert_true(answer_parse(buf_view(&input), false, &status, &body) > 0);
    buf_done(&input);
    (void)close(fd);
    return status;
}

static void slow_senders_are_cut(void **state)
{
    (void)state;
    struct net_test test;
    struct http_server_options options = test_options(&test);
    options.head_timeout_ms = 200;
    options.idle_timeout_ms = 400;
    test_start(&test, &options);
    static const struct {
        const char *text;
        int status;
        uint64_t ms_min, ms_max;
    } cases[] = {
        {"", 0, 350, 3000},                       /* idle: no answer */
        {"G", 408, 150, 2000},                    /* a head that stops */
        {"GET / HTTP/1.1\r\n" H, 408, 150, 2000}, /* */
        {"POST / HTTP/1.1\r\n" H "Content-Length: 50\r\n\r\nabc", 408, 150,
         2000}, /* a body that stops */
        {"POST / HTTP/1.1\r\n" H "Content-Length: 90000\r\n\r\nabc", 408, 150,
         2000}, /* read in place */
        {"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n5\r\nab", 408, 150, 2000},
        {"POST /forbidden HTTP/1.1\r\n" H "Content-Length: 50\r\n\r\nabc", 0, 150, 2000},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        uint64_t start = clock_mono_ns(clock_system());
        int fd = raw_connect(test.port);
        raw_send(fd, slice_of(cases[i].text));
        assert_int_equal(read_to_end(fd), cases[i].status);
        if (ms_since(start) < cases[i].ms_min || ms_since(start) > cases[i].ms_max)
            fail_msg("case %zu took %llu ms", i, (unsigned long long)ms_since(start));
    }
    assert_int_equal(atomic_load(&test.handled), 0);
    test_stop(&test);
}

/* A byte now and then does not keep a head alive, and too few bytes do not keep a body alive. */
static void drip_feeding_does_not_help(void **state)
{
    (void)state;
    struct net_test test;
    struct http_server_options options = test_options(&test);
    options.head_timeout_ms = 200;
    test_start(&test, &options);
    static const char *const starts[] = {"GET / HTTP/1.1\r\n" H "X: ",
                                         "POST / HTTP/1.1\r\n" H "Content-Length: 5000\r\n\r\n"};
    for (size_t i = 0; i < COUNT_OF(starts); i++) {
        uint64_t start = clock_mono_ns(clock_system());
        int fd = raw_connect(test.port);
        raw_send(fd, slice_of(starts[i]));
        struct pollfd one = {.fd = fd, .events = POLLIN};
        while (poll(&one, 1, 20) == 0 && ms_since(start) < 5000)
            raw_send(fd, SLICE("x"));
        assert_int_equal(read_to_end(fd), 408);
        assert_true(ms_since(start) < 3000);
    }
    test_stop(&test);
}

static void a_body_that_is_fast_enough_may_take_long(void **state)
{
    (void)state;
    struct net_test test;
    struct http_server_options options = test_options(&test);
    options.head_timeout_ms = 1000; /* a busy machine may stop us for less than that */
    options.body_bytes_per_s_min = 1000;
    test_start(&test, &options);
    int fd = raw_connect(test.port);
    raw_send(fd, SLICE("POST / HTTP/1.1\r\n" H "Content-Length: 25000\r\n\r\n"));
    char kilobyte[1000];
    memset(kilobyte, 'x', sizeof(kilobyte));
    for (unsigned i = 0; i < 25; i++) {
        raw_send(fd, slice_make(kilobyte, sizeof(kilobyte)));
        sched_sleep_ns(60000000);
    }
    struct buf input;
    buf_init(&input, BUF_MAX_NONE);
    assert_int_equal(raw_answer(fd, &input, NULL), 200);
    buf_done(&input);
    (void)close(fd);
    test_stop(&test);
}

static void a_client_that_does_not_read_is_cut_and_holds_up_nobody(void **state)
{
    (void)state;
    struct net_test test;
    struct http_server_options options = test_options(&test);
    options.idle_timeout_ms = 300;
    options.body_bytes_per_s_min = 100000000;
    test_start(&test, &options);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), small = 4096;
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(test.port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)(void *)&address, sizeof(address)), 0);
    for (unsigned i = 0; i < 20; i++)
        raw_send(fd, SLICE("GET /big HTTP/1.1\r\n" H "\r\n"));
    int other = raw_connect(test.port);
    raw_send(other, SLICE("GET /cheap HTTP/1.1\r\n" H "Connection: close\r\n\r\n"));
    assert_int_equal(read_to_end(other), 200);
    /* it is cut: the connection ends although only a part of the answers was sent */
    uint64_t deadline = after_ms(10000);
    ssize_t put = 1;
    while (put > 0 && clock_mono_ns(clock_system()) < deadline) {
        put = send(fd, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
        sched_sleep_ns(20000000);
    }
    assert_true(put < 0 && (errno == EPIPE || errno == ECONNRESET));
    (void)close(fd);
    test_stop(&test);
}

static void a_large_answer_reaches_a_slow_reader(void **state)
{
    (void)state;
    struct net_test test;
    struct http_server_options options = test_options(&test);
    test_start(&test, &options);
    int fd = raw_connect(test.port);
    raw_send(fd, SLICE("GET /big HTTP/1.1\r\n" H "\r\nGET /big HTTP/1.1\r\n" H "\r\n"));
    sched_sleep_ns(100000000);
    struct buf input, first, second;
    buf_init(&input, BUF_MAX_NONE);
    buf_init(&first, BUF_MAX_NONE);
    buf_init(&second, BUF_MAX_NONE);
    assert_int_equal(raw_answer(fd, &input, &first), 200);
    assert_int_equal(raw_answer(fd, &input, &second), 200);
    assert_true(first.len > 1000000 && slice_equal(buf_view(&first), buf_view(&second)));
    buf_done(&input);
    buf_done(&first);
    buf_done(&second);
    (void)close(fd);
    test_stop(&test);
}

static void a_client_that_hangs_up_cancels_its_request(void **state)
{
    (void)state;
    struct net_test test;
    struct http_server_options options = test_options(&test);
    test_start(&test, &options);
    /* plainly; with a request behind it; by a reset */
    static const char *const behind[] = {"", "GET /next HTTP/1.1\r\n" H "\r\n", "R"};
    for (unsigned i = 0; i < 3; i++) {
        int fd = raw_connect(test.port);
        raw_send(fd, SLICE("GET /wait HTTP/1.1\r\n" H "\r\n"));
        wait_until_at_least(&test.waiting, i + 1);
        raw_send(fd, slice_of(behind[i]));
        if (behind[i][0] == 'R') {
            struct linger reset = {.l_onoff = 1};
            sched_sleep_ns(20000000);
            (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
        }
        (void)close(fd);
        wait_until_at_least(&test.cancelled, i + 1);
    }
    test_stop(&test);
}

static void a_deadline_from_the_client_reaches_the_handler(void **state)
{
    (void)state;
    struct net_test test;
    struct http_server_options options = test_options(&test);
    options.deadline_ms_max = 100;
    test_start(&test, &options);
    struct arena arena;
    arena_init(&arena, NULL, 0);
    struct http_answer answer;
    struct http_header deadline = {SLICE("ochre-deadline-ms"), SLICE("50")};
    och_error err = {0};
    assert_int_equal(http_fetch("127.0.0.1", test.port, "GET", "/wait", &deadline, 1, SLICE_NONE,
                                20000, &arena, &answer, &err),
                     OCH_OK);
    assert_int_equal(answer.status, 504);
    deadline.value = SLICE("999999999"); /* cut to the most */
    assert_int_equal(http_fetch("127.0.0.1", test.port, "GET", "/wait", &deadline, 1, SLICE_NONE,
                                20000, &arena, &answer, &err),
                     OCH_OK);
    assert_int_equal(answer.status, 504);
    arena_done(&arena);
    test_stop(&test);
}

static void more_requests_than_workers_and_places_get_429(void **state)
{
    (void)state;
    struct net_test test;
    struct http_server_options options = test_options(&test);
    options.worker_max = 2;
    options.waiting_max = 3;
    test_start(&test, &options);
    int fds[5];
    for (unsigned i = 0; i < 5; i++) {
        fds[i] = raw_connect(test.port);
        raw_send(fds[i], SLICE("GET /wait HTTP/1.1\r\n" H "\r\n"));
        if (i < 2)
            wait_until_at_least(&test.waiting, i + 1);
    }
    sched_sleep_ns(100000000); /* those that wait for a worker are not seen from here */
    int fd = raw_connect(test.port);
    struct buf input, body;
    buf_init(&input, BUF_MAX_NONE);
    buf_init(&body, BUF_MAX_NONE);
    raw_send(fd, SLICE("POST /x HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\nabc"));
    while (input.len == 0 || memmem(input.at, input.len, "\r\n\r\n", 4) == NULL)
        assert_true(raw_read(fd, &input));
    assert_non_null(memmem(input.at, input.len, "Retry-After: 1\r\n", 16));
    assert_int_equal(raw_answer(fd, &input, &body), 429);
    assert_true(slice_starts_with(buf_view(&body), SLICE("{\"error\":\"Backoff\",\"message\":\"")));
    /* cheap ones are answered nevertheless, and afterwards the connection is as good as before */
    raw_send(fd, SLICE("GET /cheap HTTP/1.1\r\n" H "\r\n"));
    assert_int_equal(raw_answer(fd, &input, &body), 200);
    atomic_store(&test.let_go, 1);
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(raw_answer(fds[i], &input, NULL), 200);
        (void)close(fds[i]);
    }
    raw_send(fd, SLICE("GET /x HTTP/1.1\r\n" H "\r\n"));
    assert_int_equal(raw_answer(fd, &input, &body), 200);
    (void)close(fd);
    buf_done(&input);
    buf_done(&body);
    test_stop(&test);
}

/* As long as the last one waited that a worker took, or as none was taken. */
static void a_full_queue_tells_how_long_it_is(void **state)
{
    (void)state;
    struct net_test test;
    struct http_server_options options = test_options(&test);
    options.worker_max = 1;
    options.waiting_max = 1;
    test_start(&test, &options);
    struct buf input, body;
    buf_init(&input, BUF_MAX_NONE);
    buf_init(&body, BUF_MAX_NONE);
    int fds[2];
    for (unsigned i = 0; i < 2; i++) {
        fds[i] = raw_connect(test.port);
        raw_send(fds[i], SLICE("GET /wait HTTP/1.1\r\n" H "\r\n"));
    }
    for (struct http_server_stats stats = {0}; stats.running + stats.waiting < 2;)
        http_server_stats(test.server, &stats);
    wait_until_at_least(&test.waiting, 1);
    static const struct {
        uint64_t waited_ns, since_ns;
        const char *header, *says;
    } cases[] = {{0, 0, "Retry-After: 1\r\n", "Backoff and retry in 1 s."},
                 {20000000000, 0, "Retry-After: 20\r\n", "2 requests are at work or waiting"},
                 {20000000000, 33100000000, "Retry-After: 34\r\n", "Backoff and retry in 34 s."},
                 {0, 900000000000, "Retry-After: 60\r\n", "Backoff and retry in 60 s."}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        atomic_store(&test.server->waited_ns, cases[i].waited_ns);
        atomic_store(&test.server->taken_ns, http_now_ns() - cases[i].since_ns);
        int fd = raw_connect(test.port);
        buf_clear(&input);
        raw_send(fd, SLICE("GET /x HTTP/1.1\r\n" H "\r\n"));
        while (input.len == 0 || memmem(input.at, input.len, "\r\n\r\n", 4) == NULL)
            assert_true(raw_read(fd, &input));
        assert_non_null(memmem(input.at, input.len, cases[i].header, strlen(cases[i].header)));
        assert_int_equal(raw_answer(fd, &input, &body), 429);
        assert_non_null(memmem(body.at, body.len, cases[i].says, strlen(cases[i].says)));
        (void)close(fd);
    }
    atomic_store(&test.let_go, 1);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(raw_answer(fds[i], &input, NULL), 200);
        (void)close(fds[i]);
    }
    assert_true(atomic_load(&test.server->waited_ns) > 0); /* the second one did */
    buf_done(&input);
    buf_done(&body);
    test_stop(&test);
}

static void bodies_beyond_the_budget_get_429(void **state)
{
    (void)state;
    struct net_test test;
    struct http_server_options options = test_options(&test);
    test.budget.limit_bytes = 150000;
    test_start(&test, &options);
    struct arena arena;
    arena_init(&arena, NULL, 0);
    uint8_t *body = arena_zalloc(&arena, 500000);
    struct http_answer answer;
    och_error err = {0};
    assert_int_equal(http_fetch("127.0.0.1", test.port, "POST", "/", NULL, 0, (slice){body, 50000},
                                20000, &arena, &answer, &err),
                     OCH_OK);
    assert_int_equal(answer.status, 200);
    assert_int_equal(http_fetch("127.0.0.1", test.port, "POST", "/", NULL, 0, (slice){body, 500000},
                                20000, &arena, &answer, &err),
                     OCH_OK);
    assert_int_equal(answer.status, 429);
    assert_true(slice_starts_with(answer.body, SLICE("{\"error\":\"Backoff\"")));
    arena_done(&arena);
    test_stop(&test);
}

static void idle_connections_give_way_to_new_ones(void **state)
{
    (void)state;
    struct net_test test;
    struct http_server_options options = test_options(&test);
    options.connection_max = 8;
    test_start(&test, &options);
    int fds[40];
    struct buf input;
    buf_init(&input, BUF_MAX_NONE);
    for (unsigned i = 0; i < COUNT_OF(fds); i++) {
        fds[i] = raw_connect(test.port);
        raw_send(fds[i], SLICE("GET /x HTTP/1.1\r\n" H "\r\n"));
        assert_int_equal(raw_answer(fds[i], &input, NULL), 200);
    }
    for (unsigned i = 0; i < COUNT_OF(fds); i++)
        (void)close(fds[i]);
    buf_done(&input);
    test_stop(&test);
}

/* ---- the end ---- */

struct drain {
    struct net_test *test;
    uint64_t deadline_ns;
    _Atomic unsigned done;
};

static void run_drain(void *arg)
{
    struct drain *drain = arg;
    http_server_drain(drain->test->server, drain->deadline_ns);
    atomic_store(&drain->done, 1);
}

static void draining_answers_what_is_at_work_and_drops_the_idle(void **state)
{
    (void)state;
    struct net_test test;
    struct http_server_options options = test_options(&test);
    test_start(&test, &options);
    int idle = raw_connect(test.port), used = raw_connect(test.port), busy = raw_connect(test.port),
        late = raw_connect(test.port);
    struct buf input;
    buf_init(&input, BUF_MAX_NONE);
    raw_send(used, SLICE("GET /x HTTP/1.1\r\n" H "\r\n"));
    assert_int_equal(raw_answer(used, &input, NULL), 200);
    raw_send(busy, SLICE("GET /wait HTTP/1.1\r\n" H "\r\n"));
    raw_send(late, SLICE("POST /x HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\na"));
    wait_until_at_least(&test.waiting, 1);
    sched_sleep_ns(50000000);
    struct drain drain = {.test = &test, .deadline_ns = after_ms(20000)};
    struct thread thread;
    assert_int_equal(thread_start(&thread, "drain", 0, run_drain, &drain, NULL), OCH_OK);
    assert_int_equal(read_to_end(idle), 0);
    assert_int_equal(read_to_end(used), 0);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(test.port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_not_equal(connect(fd, (struct sockaddr *)(void *)&address, sizeof(address)), 0);
    (void)close(fd);
    assert_int_equal(atomic_load(&drain.done), 0);
    raw_send(late, SLICE("bc"));
    raw_read_all(late, &input);
    assert_non_null(memmem(input.at, input.len, "Connection: close\r\n", 19));
    (void)close(late);
    assert_int_equal(atomic_load(&drain.done), 0);
    atomic_store(&test.let_go, 1);
    buf_clear(&input);
    raw_read_all(busy, &input);
    assert_non_null(memmem(input.at, input.len, "waited", 6));
    assert_non_null(memmem(input.at, input.len, "Connection: close\r\n", 19));
    (void)close(busy);
    thread_join(&thread);
    assert_int_equal(atomic_load(&test.cancelled), 0);
    buf_done(&input);
    test_stop(&test);
}

/* The answer was made before draining began, with the promise to keep the connection. */
static void draining_closes_a_slow_reader_after_its_answer(void **state)
{
    (void)state;
    struct net_test test;
    struct http_server_options options = test_options(&test);
    test_start(&test, &options);
    int fd = raw_connect(test.port);
    raw_send(fd, SLICE("GET /huge HTTP/1.1\r\n" H "\r\n"));
    wait_until_at_least(&test.handled, 1);
    sched_sleep_ns(100000000);
    struct drain drain = {.test = &test, .deadline_ns = after_ms(20000)};
    uint64_t start = clock_mono_ns(clock_system());
    struct thread thread;
    assert_int_equal(thread_start(&thread, "drain", 0, run_drain, &drain, NULL), OCH_OK);
    sched_sleep_ns(50000000);
    struct buf input;
    buf_init(&input, BUF_MAX_NONE);
    assert_int_equal(raw_answer(fd, &input, NULL), 200);
    assert_int_equal(raw_answer(fd, &input, NULL), 0);
    assert_int_equal(input.len, 0);
    thread_join(&thread);
    assert_true(ms_since(start) < 10000);
    (void)close(fd);
    buf_done(&input);
    test_stop(&test);
}

static void a_drain_ends_at_its_deadline_and_cancels_the_rest(void **state)
{
    (void)state;
    struct net_test test;
    struct http_server_options options = test_options(&test);
    test_start(&test, &options);
    int busy = raw_connect(test.port), partial = raw_connect(test.port);
    raw_send(busy, SLICE("GET /wait HTTP/1.1\r\n" H "\r\n"));
    raw_send(partial, SLICE("GET /wa"));
    wait_until_at_least(&test.waiting, 1);
    uint64_t start = clock_mono_ns(clock_system());
    http_server_drain(test.server, after_ms(200));
    assert_true(ms_since(start) >= 150 && ms_since(start) < 5000);
    wait_until_at_least(&test.cancelled, 1);
    assert_int_equal(read_to_end(busy), 0);
    assert_int_equal(read_to_end(partial), 0);
    test_stop(&test);
}

struct load {
    uint16_t port;
    _Atomic unsigned stop, answers;
    struct thread thread;
};

/* Requests on fresh and on kept connections until told to stop; a connection may end, an answer may not be cut. */
static void run_load(void *arg)
{
    struct load *load = arg;
    for (unsigned i = 0; atomic_load(&load->stop) == 0; i++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(load->port)};
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        if (connect(fd, (struct sockaddr *)(void *)&address, sizeof(address)) == 0) {
            struct buf input;
            buf_init(&input, BUF_MAX_NONE);
            for (unsigned j = 0; j < 20; j++) {
                raw_send(fd, j % 2 ? SLICE("GET /cheap HTTP/1.1\r\n" H "\r\n")
                                   : SLICE("GET /middle HTTP/1.1\r\n" H "\r\n"));
                size_t size = 0;
                int status;
                slice body;
                while ((size = answer_parse(buf_view(&input), false, &status, &body)) == 0 &&
                       raw_read(fd, &input)) {
                }
                if (size == 0) {
                    atomic_fetch_add(&load->answers, input.len > 0 ? 1000000u : 0u); /* cut off */
                    break;
                }
                input.len = 0;
                atomic_fetch_add(&load->answers, 1);
            }
            buf_done(&input);
        }
        (void)close(fd);
    }
}

static void draining_under_load_cuts_no_answer(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 5; round++) {
        struct net_test test;
        struct http_server_options options = test_options(&test);
        test_start(&test, &options);
        struct load loads[4];
        memset(loads, 0, sizeof(loads));
        for (unsigned i = 0; i < COUNT_OF(loads); i++) {
            loads[i].port = test.port;
            assert_int_equal(thread_start(&loads[i].thread, "load", 0, run_load, &loads[i], NULL),
                             OCH_OK);
        }
        wait_until_at_least(&test.handled, 100);
        uint64_t start = clock_mono_ns(clock_system());
        http_server_drain(test.server, after_ms(20000));
        assert_true(ms_since(start) < 10000);
        test_stop(&test);
        for (unsigned i = 0; i < COUNT_OF(loads); i++) {
            atomic_store(&loads[i].stop, 1);
            thread_join(&loads[i].thread);
            assert_true(atomic_load(&loads[i].answers) < 1000000);
        }
    }
}

static unsigned count_entries(const char *path)
{
    DIR *folder = opendir(path);
    assert_non_null(folder);
    unsigned count = 0;
    while (readdir(folder) != NULL)
        count++;
    (void)closedir(folder);
    return count;
}

static void many_servers_come_and_go_without_leaking(void **state)
{
    (void)state;
    unsigned files = count_entries("/proc/self/fd"), threads = count_entries("/proc/self/task");
    uint64_t live = mem_count_live();
    for (unsigned i = 0; i < 30; i++) {
        struct net_test test;
        struct http_server_options options = test_options(&test);
        test_start(&test, &options);
        int fd = raw_connect(test.port), other = raw_connect(test.port);
        raw_send(fd, SLICE("GET /x HTTP/1.1\r\n" H "\r\n"));
        struct buf input;
        buf_init(&input, BUF_MAX_NONE);
        assert_int_equal(raw_answer(fd, &input, NULL), 200);
        raw_send(other, i % 2 ? SLICE("GET /wait HTTP/1.1\r\n" H "\r\n") : SLICE("GET /wa"));
        if (i % 3 == 0)
            http_server_drain(test.server, after_ms(10));
        test_stop(&test);
        buf_done(&input);
        (void)close(fd);
        (void)close(other);
    }
    assert_int_equal(count_entries("/proc/self/fd"), files);
    assert_int_equal(count_entries("/proc/self/task"), threads);
    assert_int_equal(mem_count_live(), live);
}

static void starting_survives_every_failing_allocation(void **state)
{
    (void)state;
    uint64_t live = mem_count_live();
    for (uint64_t nth = 1; nth < 100; nth++) {
        struct net_test test;
        struct http_server_options options = test_options(&test);
        och_error err = {0};
        struct http_server *server = NULL;
        mem_fail_at(nth);
        och_code code = http_server_start(&options, &server, &err);
        mem_fail_at(0);
        if (code == OCH_OK)
            http_server_free(server);
        assert_int_equal(mem_count_live(), live);
        if (code == OCH_OK)
            return;
        assert_int_equal(code, OCH_NO_MEMORY);
        assert_null(server);
    }
    fail_msg("the server never started");
}

/* With the n-th allocation failing, a request is answered or its connection ends; the next one is fine. */
static void requests_survive_failing_allocations(void **state)
{
    (void)state;
    struct net_test test;
    struct http_server_options options = test_options(&test);
    test_start(&test, &options);
    for (uint64_t nth = 1; nth < 40; nth++) {
        int fd = raw_connect(test.port);
        mem_fail_at(nth);
        raw_send(
            fd, SLICE("POST /x HTTP/1.1\r\n" H
                      "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET /x HTTP/1.1\r\n" H
                      "Connection: close\r\n\r\n"));
        struct pollfd one = {.fd = fd, .events = POLLIN};
        assert_int_equal(poll(&one, 1, 20000), 1);
        uint8_t bytes[4096];
        while (recv(fd, bytes, sizeof(bytes), 0) > 0) {
        }
        mem_fail_at(0);
        (void)close(fd);
        int next = raw_connect(test.port);
        raw_send(next, SLICE("GET /cheap HTTP/1.1\r\n" H "Connection: close\r\n\r\n"));
        assert_int_equal(read_to_end(next), 200);
    }
    test_stop(&test);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slow_senders_are_cut),
        cmocka_unit_test(drip_feeding_does_not_help),
        cmocka_unit_test(a_body_that_is_fast_enough_may_take_long),
        cmocka_unit_test(a_client_that_does_not_read_is_cut_and_holds_up_nobody),
        cmocka_unit_test(a_large_answer_reaches_a_slow_reader),
        cmocka_unit_test(a_client_that_hangs_up_cancels_its_request),
        cmocka_unit_test(a_deadline_from_the_client_reaches_the_handler),
        cmocka_unit_test(more_requests_than_workers_and_places_get_429),
        cmocka_unit_test(a_full_queue_tells_how_long_it_is),
        cmocka_unit_test(bodies_beyond_the_budget_get_429),
        cmocka_unit_test(idle_connections_give_way_to_new_ones),
        cmocka_unit_test(draining_answers_what_is_at_work_and_drops_the_idle),
        cmocka_unit_test(draining_closes_a_slow_reader_after_its_answer),
        cmocka_unit_test(a_drain_ends_at_its_deadline_and_cancels_the_rest),
        cmocka_unit_test(draining_under_load_cuts_no_answer),
        cmocka_unit_test(many_servers_come_and_go_without_leaking),
        cmocka_unit_test(starting_survives_every_failing_allocation),
        cmocka_unit_test(requests_survive_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
