/* SPDX-License-Identifier: Apache-2.0 */
/* What the server's tests share: a server with a small handler, and raw connections to it. */
#ifndef NET_TEST_H
#define NET_TEST_H

#include "net/http.h"

#include "base/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* "/cheap..." runs on the loop; "/wait" works until it is cancelled or let go. */
struct net_test {
    struct http_server *server;
    uint16_t port;
    struct budget budget;
    _Atomic unsigned handled, smuggled, waiting, cancelled, let_go;
};

UNUSED static void test_handle(void *context, const struct http_request *request,
                               struct http_reply *reply)
{
    struct net_test *test = context;
    atomic_fetch_add(&test->handled, 1);
    for (size_t i = 0; i < 64; i++) /* the padding can be read */
        reply->status += request->body.at[request->body.len + i] & 0;
    if (request->body_size_refused > 0) {
        assert(request->body.len == 0);
        reply->status = 413;
        buf_printf(&reply->body, "refused %llu", (unsigned long long)request->body_size_refused);
    } else if (slice_starts_with(request->path, SLICE("/smuggled"))) {
        atomic_fetch_add(&test->smuggled, 1);
    } else if (slice_equal(request->path, SLICE("/wait"))) {
        atomic_fetch_add(&test->waiting, 1);
        while (work_check(&request->limits, NULL) == OCH_OK && atomic_load(&test->let_go) == 0)
            sched_sleep_ns(500000);
        if (atomic_load(&request->limits.cancel->fired))
            atomic_fetch_add(&test->cancelled, 1);
        reply->status = work_check(&request->limits, NULL) == OCH_DEADLINE ? 504 : 200;
        buf_text(&reply->body, "waited");
    } else if (slice_equal(request->path, SLICE("/big"))) {
        for (unsigned i = 0; i < 300000; i++)
            buf_printf(&reply->body, "%u,", i % 1000);
    } else if (slice_equal(request->path, SLICE("/huge"))) { /* more than a socket's buffers take */
        buf_zero(&reply->body, 32u << 20);
    } else if (slice_equal(request->path, SLICE("/middle"))) {
        for (unsigned i = 0; i < 30000; i++)
            buf_printf(&reply->body, "%u,", i % 1000);
    } else if (slice_equal(request->path, SLICE("/empty"))) {
        reply->status = 204;
    } else if (slice_equal(request->path, SLICE("/fails"))) {
        reply->body.failed = true;
    } else {
        buf_printf(&reply->body, "%.*s %.*s ", SLICE_ARG(request->method),
                   SLICE_ARG(request->target));
        buf_slice(&reply->body, request->body);
    }
}

UNUSED static bool test_is_cheap(void *context, const struct http_request *head)
{
    (void)context;
    return slice_starts_with(head->path, SLICE("/cheap"));
}

UNUSED static bool test_admit(void *context, const struct http_request *head,
                              struct http_reply *reply)
{
    (void)context;
    if (!slice_equal(head->path, SLICE("/forbidden")))
        return true;
    reply->status = 401;
    buf_text(&reply->body, "no");
    return false;
}

UNUSED static struct http_server_options test_options(struct net_test *test)
{
    memset(test, 0, sizeof(*test));
    budget_init(&test->budget, 0, NULL);
    return (struct http_server_options){.host = "127.0.0.1",
                                        .loop_count = 2,
                                        .worker_max = 4,
                                        .body_bytes_max = 1000000,
                                        .budget = &test->budget,
                                        .handler = {.context = test,
                                                    .handle = test_handle,
                                                    .admit = test_admit,
                                                    .is_cheap = test_is_cheap}};
}

UNUSED static void test_start(struct net_test *test, const struct http_server_options *options)
{
    och_error err = {0};
    if (http_server_start(options, &test->server, &err) != OCH_OK)
        fail_msg("%s", err.message);
    test->port = http_server_port(test->server);
    assert_int_not_equal(test->port, 0);
}

/* Nothing may be charged to the budget once the server is gone. */
UNUSED static void test_stop(struct net_test *test)
{
    http_server_free(test->server);
    test->server = NULL;
    assert_int_equal(budget_used(&test->budget), 0);
}

UNUSED static uint64_t after_ms(uint64_t ms)
{
    return clock_mono_ns(clock_system()) + ms * 1000000;
}

UNUSED static void wait_until_at_least(_Atomic unsigned *counter, unsigned value)
{
    uint64_t deadline = after_ms(20000);
    while (atomic_load(counter) < value) {
        if (clock_mono_ns(clock_system()) > deadline)
            fail_msg("waited in vain");
        sched_sleep_ns(500000);
    }
}

/* ---- raw connections ---- */

UNUSED static int raw_connect(uint16_t port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)(void *)&address, sizeof(address)), 0);
    return fd;
}

/* What the server no longer takes is not missed. */
UNUSED static void raw_send(int fd, slice text)
{
    while (text.len > 0) {
        ssize_t put = send(fd, text.at, text.len, MSG_NOSIGNAL);
        if (put <= 0)
            return;
        text = slice_from(text, (size_t)put);
    }
}

/* False at the end of the stream. */
UNUSED static bool raw_read(int fd, struct buf *to)
{
    struct pollfd one = {.fd = fd, .events = POLLIN};
    if (poll(&one, 1, 20000) != 1)
        fail_msg("the server says nothing");
    uint8_t *room = buf_reserve(to, 65536);
    assert_non_null(room);
    ssize_t got = recv(fd, room, 65536, 0);
    if (got > 0)
        to->len += (size_t)got;
    return got > 0;
}

UNUSED static void raw_read_all(int fd, struct buf *to)
{
    while (raw_read(fd, to)) {
    }
}

/* Size of the first answer in `text`, 0 when it is not complete; its status and body. */
UNUSED static size_t answer_parse(slice text, bool is_head, int *ret_status, slice *ret_body)
{
    /* not in all of it: the sanitizers look at every byte that memmem() might */
    const uint8_t *end = text.len ? memmem(text.at, min_size(text.len, 4096), "\r\n\r\n", 4) : NULL;
    if (end == NULL)
        return 0;
    size_t head = (size_t)(end - text.at) + 4;
    assert_true(head > 12 && memcmp(text.at, "HTTP/1.1 ", 9) == 0);
    *ret_status = atoi((const char *)text.at + 9);
    const char *length = memmem(text.at, head, "Content-Length: ", 16);
    size_t body = length != NULL && !is_head ? strtoull(length + 16, NULL, 10) : 0;
    if (text.len - head < body)
        return 0;
    *ret_body = (slice){text.at + head, body};
    return head + body;
}

/* Read one answer; `input` keeps what came behind it. */
UNUSED static int raw_answer(int fd, struct buf *input, struct buf *ret_body)
{
    int status = 0;
    slice body;
    size_t size;
    while ((size = answer_parse(buf_view(input), false, &status, &body)) == 0)
        if (!raw_read(fd, input))
            return 0;
    if (ret_body != NULL) {
        buf_clear(ret_body);
        buf_slice(ret_body, body);
    }
    memmove(input->at, input->at + size, input->len - size);
    input->len -= size;
    return status;
}

/* Send everything, read to the end, and print the statuses that came: "200 400". */
UNUSED static void raw_statuses(uint16_t port, slice text, char *to, size_t size)
{
    int fd = raw_connect(port);
    raw_send(fd, text);
    struct buf answers;
    buf_init(&answers, BUF_MAX_NONE);
    raw_read_all(fd, &answers);
    (void)close(fd);
    to[0] = '\0';
    size_t used = 0, at = 0;
    slice body;
    while (at < answers.len) {
        int status = 0;
        size_t step =
            answer_parse((slice){answers.at + at, answers.len - at}, false, &status, &body);
        if (step == 0)
            fail_msg("an answer is cut off");
        used += (size_t)snprintf(to + used, size - used, "%s%d", used ? " " : "", status);
        at += step;
    }
    buf_done(&answers);
}

#endif
