/* SPDX-License-Identifier: Apache-2.0 */
/* Answers, and requests at work.  All of this runs on the connection's loop, but run_request().
 *
 * How a request at work comes back: the worker answers on the socket itself.  When all is out and the loop still
 * watches for input (WORK_WATCHED), it only marks the connection WORK_DONE: the next event finds it so.  Else it
 * posts the connection, and the loop goes on.  The loop stops watching by WORK_PAUSED, once it has seen input or
 * hang-up while the request is at work; whoever loses the exchange of `work` acts on what the other wrote. */
#include "net/http2.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

/* ---- answers ---- */

void http_conn_linger(struct http_conn *conn)
{
    bool draining = http_server_phase(conn->loop->server) != PHASE_SERVE;
    conn->transport.ops->end(&conn->transport);
    conn->state = CONN_LINGER;
    http_conn_release_held(conn);
    http_conn_set_deadline(conn, draining ? TIMEOUT_HASTE : TIMEOUT_LINGER);
    http_conn_watch(conn, EV_READ);
}

/* Closing a socket with unread input resets it, and a reset may take the answer along. */
bool http_conn_has_unread(const struct http_conn *conn)
{
    int bytes = 0;
    return conn->held_len > 0 || (ioctl(conn->transport.fd, FIONREAD, &bytes) == 0 && bytes > 0);
}

static void become_idle(struct http_conn *conn, uint64_t since_ns)
{
    conn->state = CONN_HEAD;
    atomic_store_explicit(&conn->cancel.fired, false, memory_order_relaxed);
    TAILQ_REMOVE(&conn->loop->conns, conn, link);
    TAILQ_INSERT_TAIL(&conn->loop->conns, conn, link);
    http_conn_set_deadline_from(conn, TIMEOUT_IDLE, since_ns);
    http_conn_watch(conn, EV_READ);
}

/* The answer is out.  While draining, one that was made before may have promised to go on: close all the same. */
static void conn_answered(struct http_conn *conn)
{
    struct http_exchange *exchange = conn->exchange;
    bool keep_alive = exchange->keep_alive && http_server_phase(conn->loop->server) == PHASE_SERVE;
    bool linger = exchange->linger;
    conn->patient = exchange->begun && !exchange->last;
    http_exchange_free(exchange);
    conn->exchange = NULL;
    if (keep_alive)
        become_idle(conn, http_now_ns());
    else if (linger || http_conn_has_unread(conn))
        http_conn_linger(conn);
    else
        http_conn_close(conn);
}

/* Send the encoded answer as far as it goes. */
void http_conn_send(struct http_conn *conn)
{
    uint64_t sent_before = conn->exchange->sent;
    int result = http_exchange_send(conn->exchange);
    conn->progress += conn->exchange->sent - sent_before;
    if (result == 0) {
        conn_answered(conn);
    } else if (result == NET_BROKEN) {
        http_conn_close(conn);
    } else {
        if (conn->state != CONN_WRITE)
            http_conn_set_deadline(conn, TIMEOUT_WRITE);
        conn->state = CONN_WRITE;
        http_conn_watch(conn, result == NET_WANT_READ ? EV_READ : EV_WRITE);
    }
}

void http_conn_answer(struct http_conn *conn)
{
    http_exchange_encode(conn->exchange);
    http_conn_send(conn);
}

/* Framing is lost, or the rest of the body unwanted: answer and close. */
void http_conn_refuse(struct http_conn *conn, int status, const char *name, const char *message)
{
    struct http_exchange *exchange = conn->exchange;
    http_exchange_error(exchange, status, name, message);
    exchange->keep_alive = false;
    exchange->linger = true;
    http_conn_answer(conn);
}

/* ---- requests at work ---- */

/* On a worker. */
static void run_request(void *arg)
{
    struct http_exchange *exchange = arg;
    struct http_conn *conn = exchange->conn;
    struct http_server *server = exchange->server;
    http_exchange_taken(exchange);
    (void)atomic_fetch_add_explicit(&server->running, 1, memory_order_relaxed);
    http_exchange_handle(exchange);
    if (exchange->wants_more) {
        (void)atomic_fetch_sub_explicit(&server->running, 1, memory_order_relaxed);
        (void)atomic_fetch_sub_explicit(&server->at_work, 1, memory_order_relaxed);
        http_loop_post(conn);
        return;
    }
    int result =
        exchange->reply.stream ? http_exchange_stream(exchange) : http_exchange_send(exchange);
    (void)atomic_fetch_sub_explicit(&server->running, 1, memory_order_relaxed);
    (void)atomic_fetch_sub_explicit(&server->at_work, 1, memory_order_relaxed);
    if (result == 0 && exchange->keep_alive) {
        http_exchange_free(exchange);
        conn->exchange = NULL;
        conn->idle_since_ns = http_now_ns();
        uint8_t expected = WORK_WATCHED;
        /* release: pairs with the loop's failing exchange in http_conn_pause_watching() */
        if (atomic_compare_exchange_strong_explicit(&conn->work, &expected, WORK_DONE,
                                                    memory_order_release, memory_order_relaxed))
            return; /* the connection may be gone by now */
    }
    http_loop_post(conn);
}

/* False when the worker was first and the request is done. */
bool http_conn_pause_watching(struct http_conn *conn)
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
    struct http_exchange *exchange = conn->exchange;
    unsigned most = server->options.worker_max + server->options.waiting_max;
    conn->submit = false;
    exchange->queued_ns = http_now_ns();
    /* One that has begun is not stopped in the middle. */
    bool fits = atomic_fetch_add_explicit(&server->at_work, 1, memory_order_relaxed) < most ||
                exchange->begun;
    if (fits) {
        bool paused = conn->held_len > 0 || conn->transport.ops->pending(&conn->transport);
        atomic_store_explicit(&conn->work, paused ? WORK_PAUSED : WORK_WATCHED,
                              memory_order_relaxed);
        http_conn_watch(conn, paused ? WATCH_HANG_UP : EV_READ);
        och_error err = {0};
        if (pool_submit(server->pool, run_request, exchange, &err) == OCH_OK)
            return true;
    }
    (void)atomic_fetch_sub_explicit(&server->at_work, 1, memory_order_relaxed);
    conn->state = CONN_BODY; /* as before */
    if (fits)
        http_exchange_error(exchange, 429, "Backoff",
                            "no worker takes the request. Backoff and retry.");
    else
        http_exchange_busy(exchange);
    http_conn_answer(conn);
    return false;
}

/* Every way in from the loop ends here: submit what became ready, free what was closed. */
void http_conn_settle(struct http_conn *conn)
{
    while (conn->state == CONN_WORK && conn->submit && !submit(conn))
        http_conn_read_on(conn);
    if (conn->state == CONN_CLOSED && (conn->http2 == NULL || http2_forget(conn)))
        http_conn_free(conn);
}

/* The request is whole: answer it here, or mark it for the pool. */
void http_conn_dispatch(struct http_conn *conn)
{
    struct http_exchange *exchange = conn->exchange;
    const struct http_handler *handler = &conn->loop->server->options.handler;
    exchange->request.body = http_body_finish(&exchange->body);
    if (handler->is_cheap != NULL && handler->is_cheap(handler->context, &exchange->request)) {
        http_exchange_handle(exchange);
        http_conn_send(conn);
    } else {
        conn->state = CONN_WORK;
        conn->submit = true;
    }
}

/* The worker answered while the loop was watching. */
void http_conn_finish_done(struct http_conn *conn)
{
    assert(conn->exchange == NULL);
    if (http_server_phase(conn->loop->server) == PHASE_SERVE)
        become_idle(conn, conn->idle_since_ns);
    else if (http_conn_has_unread(conn))
        http_conn_linger(conn);
    else
        http_conn_close(conn);
}

/* Input or hang-up while a request is at work. */
void http_conn_event_at_work(struct http_conn *conn, short what)
{
    if (!http_conn_pause_watching(conn)) {
        http_conn_finish_done(conn);
        if (conn->state == CONN_HEAD)
            http_conn_read(conn);
        return;
    }
    /* Not by reading: after a reset, bytes that came before it can still be read. */
    struct pollfd socket = {.fd = conn->transport.fd, .events = POLLIN | POLLRDHUP};
    (void)poll(&socket, 1, 0);
    if ((what & EV_CLOSED) == 0 && (socket.revents & (POLLRDHUP | POLLHUP | POLLERR)) == 0) {
        http_conn_watch(conn, WATCH_HANG_UP);
        return;
    }
    atomic_store_explicit(&conn->cancel.fired, true, memory_order_relaxed);
    http_conn_watch(conn, 0);
}

void http_conn_finish_work(struct http_conn *conn)
{
    if (conn->http2 != NULL) {
        http2_posted(conn);
        return;
    }
    assert(conn->state == CONN_WORK);
    if (http_server_phase(conn->loop->server) >= PHASE_CUT)
        http_conn_close(conn);
    else if (conn->exchange != NULL && conn->exchange->wants_more)
        http_conn_resume_body(conn);
    else if (conn->exchange != NULL)
        http_conn_send(conn); /* knows what the worker has sent */
    else
        http_conn_finish_done(conn);
    http_conn_read_on(conn);
    http_conn_settle(conn);
}
