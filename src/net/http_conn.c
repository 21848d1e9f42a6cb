/* SPDX-License-Identifier: Apache-2.0 */
/* The states of a connection.  All of this runs on the connection's loop, but run_request().
 *
 * How a request at work comes back: the worker answers on the socket itself.  When all is out and the loop still
 * watches for input (WORK_WATCHED), it only marks the connection WORK_DONE: the next event finds it so.  Else it
 * posts the connection, and the loop goes on.  The loop stops watching by WORK_PAUSED, once it has seen input or
 * hang-up while the request is at work; whoever loses the exchange of `work` acts on what the other wrote. */
#include "net/http_internal.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>

#define READ_AWAY_BYTES_MAX \
    65536u /* a refused body up to this size is read, so that the connection lives on */
#define READ_ROUNDS       8
#define DIRECT_READ_BYTES 16384u /* from here a body is read into its place */
/* Edges, as unread input stays; with EV_READ, since libevent reports errors as that alone. */
#define WATCH_HANG_UP      (EV_READ | EV_CLOSED | EV_ET)
#define DIRECT_ROUND_BYTES 262144u /* room made at once for it */

static void on_event(evutil_socket_t fd, short what, void *arg);
static void on_timer(evutil_socket_t fd, short what, void *arg);
static void feed(struct http_conn *conn, const uint8_t *at, size_t len);

static uint64_t now_ns(void)
{
    return clock_mono_ns(clock_system());
}

/* ---- events and time ---- */

static void watch(struct http_conn *conn, short events)
{
    if (conn->watched == events)
        return;
    if (conn->watched != 0)
        (void)event_del(&conn->event);
    conn->watched = events;
    if (events == 0)
        return;
    (void)event_assign(&conn->event, conn->loop->base, conn->transport.fd,
                       (short)(events | EV_PERSIST), on_event, conn);
    (void)event_add(&conn->event, NULL);
}

/* The timer is left alone when it fires before the new deadline: it then looks again.  So a request on a living
 * connection costs no timer at all. */
static void set_deadline_from(struct http_conn *conn, enum http_timeout timeout, uint64_t from_ns)
{
    conn->timeout = timeout;
    conn->progress = 0;
    conn->deadline_ns = from_ns + conn->loop->server->timeout_ns[timeout];
    if (conn->timer_at_ns != 0 && conn->timer_at_ns <= conn->deadline_ns)
        return;
    conn->timer_at_ns = conn->deadline_ns;
    (void)event_add(&conn->timer, conn->loop->timeouts[timeout]);
}

static void set_deadline(struct http_conn *conn, enum http_timeout timeout)
{
    set_deadline_from(conn, timeout, now_ns());
}

/* ---- life ---- */

static void print_peer(struct http_conn *conn, bool is_unix)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof(address);
    conn->local = is_unix;
    if (is_unix ||
        getpeername(conn->transport.fd, (struct sockaddr *)(void *)&address, &size) != 0) {
        (void)snprintf(conn->peer, sizeof(conn->peer), "%s", is_unix ? "unix" : "unknown");
        return;
    }
    char text[INET6_ADDRSTRLEN] = "unknown";
    uint16_t port = 0;
    if (address.ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const void *)&address;
        (void)inet_ntop(AF_INET, &v4->sin_addr, text, sizeof(text));
        port = ntohs(v4->sin_port);
        conn->local = (ntohl(v4->sin_addr.s_addr) >> 24) == 127;
    } else if (address.ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const void *)&address;
        (void)inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof(text));
        port = ntohs(v6->sin6_port);
        conn->local = IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr) != 0;
    }
    (void)snprintf(conn->peer, sizeof(conn->peer),
                   address.ss_family == AF_INET6 ? "[%s]:%u" : "%s:%u", text, (unsigned)port);
}

struct http_conn *http_conn_new(struct http_loop *loop, int fd, bool is_unix)
{
    struct http_server *server = loop->server;
    struct http_conn *conn = MEM_NEW(struct http_conn);
    if (conn == NULL)
        return NULL;
    conn->loop = loop;
    conn->is_new = true;
    net_transport_init_plain(&conn->transport, fd);
    if (server->tls_certificate != NULL && !is_unix) {
        mutex_lock(&server->mutex);
        och_code code = net_transport_init_tls(&conn->transport, fd, server->tls, NULL);
        mutex_unlock(&server->mutex);
        if (code != OCH_OK) {
            mem_free(conn);
            return NULL;
        }
    }
    print_peer(conn, is_unix);
    if (!is_unix) {
        int one = 1;
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    }
    (void)atomic_fetch_add_explicit(&server->conn_count, 1, memory_order_relaxed);
    return conn;
}

void http_conn_start(struct http_conn *conn)
{
    conn->is_new = false;
    TAILQ_INSERT_TAIL(&conn->loop->conns, conn, link);
    (void)event_assign(&conn->timer, conn->loop->base, -1, 0, on_timer, conn);
    set_deadline(conn, conn->transport.tls != NULL ? TIMEOUT_HEAD : TIMEOUT_IDLE);
    watch(conn, EV_READ);
}

static void release_held(struct http_conn *conn)
{
    budget_give(conn->loop->server->options.budget, conn->held_cap);
    mem_free(conn->held);
    conn->held = NULL;
    conn->held_len = conn->held_cap = 0;
}

/* Everything but the memory, which settle() frees when nobody up the stack looks at it any more. */
static void conn_close(struct http_conn *conn)
{
    if (conn->state == CONN_CLOSED)
        return;
    conn->state = CONN_CLOSED;
    watch(conn, 0);
    (void)event_del(&conn->timer);
    conn->transport.ops->close(&conn->transport);
    http_exchange_free(conn->exchange);
    conn->exchange = NULL;
    release_held(conn);
    TAILQ_REMOVE(&conn->loop->conns, conn, link);
}

static void conn_free(struct http_conn *conn)
{
    struct http_server *server = conn->loop->server;
    mem_free(conn);
    unsigned before = atomic_fetch_sub_explicit(&server->conn_count, 1, memory_order_acq_rel);
    if (before == 1 && http_server_phase(server) != PHASE_SERVE) {
        mutex_lock(&server->mutex);
        cond_broadcast(&server->changed);
        mutex_unlock(&server->mutex);
    }
}

void http_conn_drop(struct http_conn *conn)
{
    if (conn->is_new)
        conn->transport.ops->close(&conn->transport);
    else
        conn_close(conn);
    conn_free(conn);
}

/* ---- answers ---- */

static void start_linger(struct http_conn *conn)
{
    conn->transport.ops->end(&conn->transport);
    conn->state = CONN_LINGER;
    release_held(conn);
    set_deadline(conn, TIMEOUT_LINGER);
    watch(conn, EV_READ);
}

static void become_idle(struct http_conn *conn, uint64_t since_ns)
{
    conn->state = CONN_HEAD;
    atomic_store_explicit(&conn->cancel.fired, false, memory_order_relaxed);
    TAILQ_REMOVE(&conn->loop->conns, conn, link);
    TAILQ_INSERT_TAIL(&conn->loop->conns, conn, link);
    set_deadline_from(conn, TIMEOUT_IDLE, since_ns);
    watch(conn, EV_READ);
}

/* The answer is out. */
static void conn_answered(struct http_conn *conn)
{
    struct http_exchange *exchange = conn->exchange;
    bool keep_alive = exchange->keep_alive;
    bool linger = exchange->linger || conn->held_len > 0;
    http_exchange_free(exchange);
    conn->exchange = NULL;
    if (keep_alive)
        become_idle(conn, now_ns());
    else if (linger && http_server_phase(conn->loop->server) == PHASE_SERVE)
        start_linger(conn);
    else
        conn_close(conn);
}

/* Send the encoded answer as far as it goes. */
static void conn_send(struct http_conn *conn)
{
    uint64_t sent_before = conn->exchange->sent;
    int result = http_exchange_send(conn->exchange);
    conn->progress += conn->exchange->sent - sent_before;
    if (result == 0) {
        conn_answered(conn);
    } else if (result == NET_BROKEN) {
        conn_close(conn);
    } else {
        if (conn->state != CONN_WRITE)
            set_deadline(conn, TIMEOUT_WRITE);
        conn->state = CONN_WRITE;
        watch(conn, result == NET_WANT_READ ? EV_READ : EV_WRITE);
    }
}

static void conn_answer(struct http_conn *conn)
{
    http_exchange_encode(conn->exchange);
    conn_send(conn);
}

/* Framing is lost, or the rest of the body unwanted: answer and close. */
static void conn_refuse(struct http_conn *conn, int status, const char *name, const char *message)
{
    struct http_exchange *exchange = conn->exchange;
    http_exchange_error(exchange, status, name, message);
    exchange->keep_alive = false;
    exchange->linger = true;
    conn_answer(conn);
}

static const char *error_name(int status)
{
    return status == 400 ? "InvalidArgumentError" : status == 429 ? "Backoff" : "ChromaError";
}

/* ---- requests at work ---- */

/* On a worker. */
static void run_request(void *arg)
{
    struct http_exchange *exchange = arg;
    struct http_conn *conn = exchange->conn;
    struct http_server *server = exchange->server;
    http_exchange_handle(exchange);
    int result = http_exchange_send(exchange);
    (void)atomic_fetch_sub_explicit(&server->at_work, 1, memory_order_relaxed);
    if (result == 0 && exchange->keep_alive) {
        http_exchange_free(exchange);
        conn->exchange = NULL;
        conn->idle_since_ns = now_ns();
        uint8_t expected = WORK_WATCHED;
        /* release: pairs with the loop's failing exchange in pause_watching() */
        if (atomic_compare_exchange_strong_explicit(&conn->work, &expected, WORK_DONE,
                                                    memory_order_release, memory_order_relaxed))
            return; /* the connection may be gone by now */
    }
    http_loop_post(conn);
}

/* False when the worker was first and the request is done. */
static bool pause_watching(struct http_conn *conn)
{
    uint8_t expected = WORK_WATCHED;
    return atomic_compare_exchange_strong_explicit(&conn->work, &expected, WORK_PAUSED,
                                                   memory_order_acquire, memory_order_acquire) ||
           expected == WORK_PAUSED;
}

/* Give the request to the pool, or answer 429 and say false. */
static bool submit(struct http_conn *conn)
{
    struct http_server *server = conn->loop->server;
    conn->submit = false;
    unsigned most = server->options.worker_max + server->options.waiting_max;
    char message[128];
    (void)snprintf(message, sizeof(message),
                   "%u requests are at work or waiting already. Backoff and retry.", most);
    if (atomic_fetch_add_explicit(&server->at_work, 1, memory_order_relaxed) < most) {
        bool paused = conn->held_len > 0 || conn->transport.ops->pending(&conn->transport);
        atomic_store_explicit(&conn->work, paused ? WORK_PAUSED : WORK_WATCHED,
                              memory_order_relaxed);
        watch(conn, paused ? WATCH_HANG_UP : EV_READ);
        och_error err = {0};
        if (pool_submit(server->pool, run_request, conn->exchange, &err) == OCH_OK)
            return true;
        (void)snprintf(message, sizeof(message), "no worker takes the request. Backoff and retry.");
    }
    (void)atomic_fetch_sub_explicit(&server->at_work, 1, memory_order_relaxed);
    conn->state = CONN_BODY; /* as before */
    http_exchange_error(conn->exchange, 429, "Backoff", message);
    conn_answer(conn);
    return false;
}

/* Every way in from the loop ends here: submit what became ready, free what was closed. */
static void settle(struct http_conn *conn)
{
    while (conn->state == CONN_WORK && conn->submit && !submit(conn)) {
        if (conn->state == CONN_HEAD && conn->held_len > 0)
            feed(conn, NULL, 0);
    }
    if (conn->state == CONN_CLOSED)
        conn_free(conn);
}

/* The request is whole: answer it here, or mark it for the pool. */
static void dispatch(struct http_conn *conn)
{
    struct http_exchange *exchange = conn->exchange;
    const struct http_handler *handler = &conn->loop->server->options.handler;
    exchange->request.body = http_body_finish(&exchange->body);
    if (handler->is_cheap != NULL && handler->is_cheap(handler->context, &exchange->request)) {
        http_exchange_handle(exchange);
        conn_send(conn);
    } else {
        conn->state = CONN_WORK;
        conn->submit = true;
    }
}

/* ---- bodies ---- */

/* The handler makes the answer, so that it looks like its others. */
static void refuse_body_size(struct http_conn *conn, uint64_t size)
{
    struct http_exchange *exchange = conn->exchange;
    http_body_done(&exchange->body);
    exchange->request.body_size_refused = size;
    exchange->keep_alive = false;
    exchange->linger = true;
    dispatch(conn);
}

static void refuse_body(struct http_conn *conn, const och_error *err)
{
    struct http_exchange *exchange = conn->exchange;
    if (err->code == OCH_TOO_LARGE)
        refuse_body_size(conn, exchange->body.len);
    else if (err->code == OCH_INVALID)
        conn_refuse(conn, 400, "InvalidArgumentError", err->message);
    else
        conn_refuse(conn, 429, "Backoff", err->message);
}

/* Take data of the body; false when the request was answered or refused over it. */
static bool take_body(struct http_conn *conn, slice data)
{
    struct http_exchange *exchange = conn->exchange;
    uint64_t bytes_max = conn->loop->server->options.body_bytes_max;
    exchange->received += data.len;
    conn->progress += data.len;
    if (exchange->answered)
        return true;
    if (exchange->received > bytes_max) {
        refuse_body_size(conn, exchange->received);
        return false;
    }
    och_error err = {0};
    och_code code;
    if (exchange->inflate != NULL) {
        code = http_inflate_feed(exchange->inflate, data, bytes_max, &exchange->body, &err);
    } else {
        code = http_body_reserve(&exchange->body, data.len, exchange->head.content_length, &err);
        if (code == OCH_OK) {
            memcpy(exchange->body.at + exchange->body.len, data.at, data.len);
            exchange->body.len += data.len;
        }
    }
    if (code != OCH_OK)
        refuse_body(conn, &err);
    return code == OCH_OK;
}

static void body_complete(struct http_conn *conn)
{
    struct http_exchange *exchange = conn->exchange;
    och_error err = {0};
    if (exchange->answered)
        conn_answer(conn);
    else if (exchange->inflate != NULL && http_inflate_finish(exchange->inflate, &err) != OCH_OK)
        refuse_body(conn, &err);
    else
        dispatch(conn);
}

/* Bytes used. */
static size_t feed_chunks(struct http_conn *conn, slice input)
{
    struct http_exchange *exchange = conn->exchange;
    for (size_t used = 0;;) {
        size_t step;
        slice data;
        enum http_parse result =
            http_chunks_decode(&exchange->chunks, slice_from(input, used), &step, &data);
        used += step;
        if (result == HTTP_PARSE_BAD) {
            conn_refuse(conn, 400, "InvalidArgumentError", exchange->chunks.problem);
            return input.len;
        }
        if (data.len > 0 && !take_body(conn, data))
            return input.len;
        if (result == HTTP_PARSE_DONE)
            body_complete(conn);
        if (result == HTTP_PARSE_DONE || used == input.len)
            return used;
    }
}

static size_t feed_body(struct http_conn *conn, slice input)
{
    struct http_exchange *exchange = conn->exchange;
    if (exchange->head.chunked)
        return feed_chunks(conn, input);
    uint64_t left = exchange->head.content_length - exchange->received;
    slice data = {input.at, left < input.len ? (size_t)left : input.len};
    if (!take_body(conn, data))
        return input.len;
    if (data.len == left)
        body_complete(conn);
    return data.len;
}

/* ---- heads ---- */

static void send_continue(struct http_conn *conn)
{
    static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
    struct iovec part = {.iov_base = (void *)(uintptr_t)text, .iov_len = sizeof(text) - 1};
    ssize_t put = conn->transport.ops->write(&conn->transport, &part, 1);
    /* Not at all: the client sends its body anyway, after a while.  In part: nothing can follow. */
    if (put == NET_BROKEN || (put >= 0 && (size_t)put != part.iov_len))
        conn_close(conn);
}

/* The handler or we have an answer before the body was read. */
static void answer_early(struct http_conn *conn)
{
    struct http_exchange *exchange = conn->exchange;
    const struct http_head *head = &exchange->head;
    if (!head->chunked && head->content_length == 0) {
        conn_answer(conn);
    } else if (!head->chunked && head->content_length <= READ_AWAY_BYTES_MAX &&
               !head->expect_continue) {
        conn->state = CONN_BODY;
    } else {
        exchange->keep_alive = false;
        exchange->linger = true;
        conn_answer(conn);
    }
}

static void request_begin(struct http_conn *conn, const uint8_t *head_bytes, bool more_input)
{
    struct http_exchange *exchange = conn->exchange;
    const struct http_head *head = &exchange->head;
    if (!http_exchange_begin(exchange, head_bytes)) {
        answer_early(conn);
        return;
    }
    if (!head->chunked && head->content_length == 0) {
        if (exchange->inflate != NULL) {
            http_inflate_free(exchange->inflate); /* nothing, compressed: nothing */
            exchange->inflate = NULL;
        }
        dispatch(conn);
    } else if (head->content_length > conn->loop->server->options.body_bytes_max) {
        refuse_body_size(conn, head->content_length);
    } else {
        conn->state = CONN_BODY;
        if (head->expect_continue && !more_input)
            send_continue(conn);
    }
}

/* Bytes used; 0 when the head is not complete. */
static size_t feed_head(struct http_conn *conn, slice input)
{
    if (conn->exchange == NULL)
        conn->exchange = http_exchange_new(conn);
    struct http_exchange *exchange = conn->exchange;
    if (exchange == NULL) {
        conn_close(conn);
        return input.len;
    }
    enum http_parse result = http_head_parse(&exchange->head, input);
    if (result == HTTP_PARSE_MORE)
        return 0;
    if (result == HTTP_PARSE_BAD) {
        int status = exchange->head.status;
        conn_refuse(conn, status, error_name(status), exchange->head.problem);
        return input.len;
    }
    size_t size = exchange->head.size; /* the exchange may be gone after this */
    request_begin(conn, input.at, input.len > size);
    return size;
}

/* ---- input ---- */

/* Append to the held input; false when memory is used up. */
static bool hold(struct http_conn *conn, const uint8_t *at, size_t len)
{
    size_t need = conn->held_len + len;
    assert(need <= HTTP_HEAD_BYTES_MAX + 2 * HTTP_READ_BYTES);
    if (need > conn->held_cap) {
        size_t cap = max_size(round_up(need, 512),
                              min_size(2 * (size_t)conn->held_cap, HTTP_HEAD_BYTES_MAX));
        struct budget *budget = conn->loop->server->options.budget;
        if (budget_take(budget, cap - conn->held_cap, "input of a connection", NULL) != OCH_OK)
            return false;
        uint8_t *held = mem_realloc(conn->held, cap);
        if (held == NULL) {
            budget_give(budget, cap - conn->held_cap);
            return false;
        }
        conn->held = held;
        conn->held_cap = (uint32_t)cap;
    }
    if (len > 0)
        memcpy(conn->held + conn->held_len, at, len);
    conn->held_len = (uint32_t)need;
    return true;
}

/* Work through the input, request by request, as long as answers go out at once. */
static size_t feed_all(struct http_conn *conn, slice input)
{
    size_t used = 0;
    while (used < input.len) {
        size_t step = 0;
        if (conn->state == CONN_HEAD)
            step = feed_head(conn, slice_from(input, used));
        else if (conn->state == CONN_BODY)
            step = feed_body(conn, slice_from(input, used));
        if (step == 0)
            break;
        used += step;
    }
    return used;
}

/* Keep what was not used at the front of the held input. */
static void put_away(struct http_conn *conn, slice rest, bool from_held)
{
    bool sound = true;
    if (conn->state == CONN_CLOSED || conn->state == CONN_LINGER || rest.len == 0) {
        release_held(conn);
    } else if (from_held) {
        memmove(conn->held, rest.at, rest.len);
        conn->held_len = (uint32_t)rest.len;
    } else {
        sound = hold(conn, rest.at, rest.len);
    }
    if (!sound)
        conn_close(conn);
    else if (conn->state == CONN_HEAD && conn->held_len > 0 && conn->timeout == TIMEOUT_IDLE)
        set_deadline(conn, TIMEOUT_HEAD);
    else if (conn->state == CONN_BODY && conn->timeout != TIMEOUT_BODY)
        set_deadline(conn, TIMEOUT_BODY);
}

static void feed(struct http_conn *conn, const uint8_t *at, size_t len)
{
    bool from_held = conn->held_len > 0;
    slice input = {at, len};
    if (from_held) {
        if (!hold(conn, at, len)) {
            conn_close(conn);
            return;
        }
        input = (slice){conn->held, conn->held_len};
        conn->held_len = 0; /* while it is worked on; the memory stays */
    }
    size_t used = feed_all(conn, input);
    put_away(conn, slice_from(input, used), from_held);
}

/* Large bodies of known length go straight to their place. */
static bool reads_directly(const struct http_conn *conn)
{
    const struct http_exchange *exchange = conn->exchange;
    return conn->state == CONN_BODY && !exchange->head.chunked && exchange->inflate == NULL &&
           !exchange->answered &&
           exchange->head.content_length - exchange->received >= DIRECT_READ_BYTES;
}

/* As transport read. */
static ssize_t read_directly(struct http_conn *conn)
{
    struct http_exchange *exchange = conn->exchange;
    struct http_body *body = &exchange->body;
    uint64_t left = exchange->head.content_length - exchange->received;
    size_t room = left < DIRECT_ROUND_BYTES ? (size_t)left : DIRECT_ROUND_BYTES;
    och_error err = {0};
    if (http_body_reserve(body, room, exchange->head.content_length, &err) != OCH_OK) {
        refuse_body(conn, &err);
        return 1;
    }
    if (body->cap - body->len > room)
        room = left < body->cap - body->len ? (size_t)left : body->cap - body->len;
    ssize_t got = conn->transport.ops->read(&conn->transport, body->at + body->len, room);
    if (got <= 0)
        return got;
    body->len += (size_t)got;
    exchange->received += (uint64_t)got;
    conn->progress += (uint64_t)got;
    if (exchange->received == exchange->head.content_length)
        body_complete(conn);
    return got;
}

static void read_some(struct http_conn *conn)
{
    uint8_t *buffer = conn->loop->buffer;
    for (unsigned round = 0; conn->state == CONN_HEAD || conn->state == CONN_BODY; round++) {
        bool direct = reads_directly(conn);
        ssize_t got = direct ? read_directly(conn)
                             : conn->transport.ops->read(&conn->transport, buffer, HTTP_READ_BYTES);
        if (got == NET_WANT_READ || got == NET_WANT_WRITE) {
            watch(conn, got == NET_WANT_READ ? EV_READ : EV_WRITE);
            return;
        }
        if (got <= 0) {
            conn_close(conn);
            return;
        }
        if (!direct)
            feed(conn, buffer, (size_t)got);
        if (conn->state != CONN_HEAD && conn->state != CONN_BODY)
            return;
        /* A short read has emptied the socket.  TLS gives one record at a time, and keeps others to itself. */
        bool drained = conn->transport.tls == NULL && !direct && got < (ssize_t)HTTP_READ_BYTES;
        if (drained || (round >= READ_ROUNDS && !conn->transport.ops->pending(&conn->transport)))
            return;
    }
}

/* Back between requests: what has been held or decrypted already will not raise an event. */
static void read_on(struct http_conn *conn)
{
    if (conn->state == CONN_HEAD && conn->held_len > 0)
        feed(conn, NULL, 0);
    if (conn->state == CONN_HEAD && conn->transport.ops->pending(&conn->transport))
        read_some(conn);
}

static void read_away(struct http_conn *conn)
{
    uint64_t most = conn->loop->server->options.body_bytes_max + HTTP_READ_BYTES;
    for (unsigned round = 0; round < READ_ROUNDS; round++) {
        ssize_t got =
            conn->transport.ops->read(&conn->transport, conn->loop->buffer, HTTP_READ_BYTES);
        if (got == NET_WANT_READ || got == NET_WANT_WRITE)
            return;
        conn->progress += got > 0 ? (uint64_t)got : 0;
        if (got <= 0 || conn->progress > most) {
            conn_close(conn);
            return;
        }
    }
}

/* The worker answered while the loop was watching. */
static void finish_done(struct http_conn *conn)
{
    assert(conn->exchange == NULL);
    if (http_server_phase(conn->loop->server) != PHASE_SERVE)
        conn_close(conn);
    else
        become_idle(conn, conn->idle_since_ns);
}

/* Input or hang-up while a request is at work. */
static void event_at_work(struct http_conn *conn, short what)
{
    if (!pause_watching(conn)) {
        finish_done(conn);
        if (conn->state == CONN_HEAD)
            read_some(conn);
        return;
    }
    /* Not by reading: after a reset, bytes that came before it can still be read. */
    struct pollfd socket = {.fd = conn->transport.fd, .events = POLLIN | POLLRDHUP};
    (void)poll(&socket, 1, 0);
    if ((what & EV_CLOSED) == 0 && (socket.revents & (POLLRDHUP | POLLHUP | POLLERR)) == 0) {
        watch(conn, WATCH_HANG_UP);
        return;
    }
    atomic_store_explicit(&conn->cancel.fired, true, memory_order_relaxed);
    watch(conn, 0);
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    struct http_conn *conn = arg;
    switch (conn->state) {
    case CONN_HEAD:
    case CONN_BODY:
        read_some(conn);
        break;
    case CONN_WORK:
        event_at_work(conn, what);
        break;
    case CONN_WRITE:
        conn_send(conn);
        read_on(conn);
        break;
    case CONN_LINGER:
        read_away(conn);
        break;
    case CONN_CLOSED:
        break;
    }
    settle(conn);
}

void http_conn_finish_work(struct http_conn *conn)
{
    assert(conn->state == CONN_WORK);
    if (http_server_phase(conn->loop->server) >= PHASE_CUT)
        conn_close(conn);
    else if (conn->exchange != NULL)
        conn_send(conn); /* knows what the worker has sent */
    else
        finish_done(conn);
    read_on(conn);
    settle(conn);
}

/* ---- time is up ---- */

static bool fast_enough(const struct http_conn *conn)
{
    const struct http_server *server = conn->loop->server;
    uint64_t rate = server->options.body_bytes_per_s_min;
    bool moves = conn->timeout == TIMEOUT_BODY || conn->timeout == TIMEOUT_WRITE;
    return moves && conn->progress >= rate * (server->timeout_ns[conn->timeout] / 1000000u) / 1000u;
}

static void time_is_up(struct http_conn *conn)
{
    if (fast_enough(conn)) {
        set_deadline(conn, conn->timeout);
    } else if (conn->timeout == TIMEOUT_HEAD && conn->exchange == NULL &&
               !net_transport_in_handshake(&conn->transport)) {
        set_deadline(conn, TIMEOUT_IDLE); /* after the TLS handshake */
    } else if (conn->exchange != NULL &&
               (conn->timeout == TIMEOUT_HEAD || conn->timeout == TIMEOUT_BODY)) {
        if (conn->exchange->answered)
            conn_close(conn);
        else
            conn_refuse(conn, 408, "ChromaError", "the request did not arrive in time");
    } else {
        conn_close(conn);
    }
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct http_conn *conn = arg;
    conn->timer_at_ns = 0;
    if (conn->state == CONN_WORK &&
        atomic_load_explicit(&conn->work, memory_order_acquire) != WORK_DONE) {
        set_deadline(conn, TIMEOUT_IDLE); /* the handler minds the request's own deadline */
        return;
    }
    if (conn->state == CONN_WORK) {
        conn->timer_at_ns = 1; /* no new timer in there: the time since the answer counts */
        finish_done(conn);
        conn->timer_at_ns = 0;
    }
    uint64_t now = now_ns();
    if (conn->state == CONN_CLOSED) {
        settle(conn);
        return;
    }
    if (now < conn->deadline_ns) {
        uint64_t left_us = (conn->deadline_ns - now) / 1000 + 1;
        struct timeval left = {.tv_sec = (time_t)(left_us / 1000000),
                               .tv_usec = (suseconds_t)(left_us % 1000000)};
        conn->timer_at_ns = conn->deadline_ns;
        (void)event_add(&conn->timer, &left);
    } else {
        time_is_up(conn);
    }
    settle(conn);
}

/* ---- draining ---- */

bool http_conn_is_idle(const struct http_conn *conn)
{
    if (conn->state == CONN_WORK)
        return atomic_load_explicit(&conn->work, memory_order_acquire) == WORK_DONE;
    return conn->state == CONN_HEAD && conn->held_len == 0;
}

void http_conn_phase(struct http_conn *conn, enum http_phase phase)
{
    if (conn->state == CONN_WORK && !conn->submit) {
        if (!pause_watching(conn)) {
            conn_close(conn);
        } else if (phase >= PHASE_CUT) {
            atomic_store_explicit(&conn->cancel.fired, true, memory_order_relaxed);
            watch(conn, 0);
            (void)shutdown(conn->transport.fd, SHUT_RDWR);
        } else if (conn->watched == EV_READ) {
            watch(conn, WATCH_HANG_UP);
        }
    } else if (phase >= PHASE_CUT || http_conn_is_idle(conn) || conn->state == CONN_LINGER) {
        conn_close(conn);
    }
    settle(conn);
}
