/* SPDX-License-Identifier: Apache-2.0 */
/* Connections: life, events, time.  What comes in is read in http_input.c, answered in http_work.c. */
#include "net/http2.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>

static void on_event(evutil_socket_t fd, short what, void *arg);
static void on_timer(evutil_socket_t fd, short what, void *arg);

/* ---- events and time ---- */

void http_conn_watch(struct http_conn *conn, short events)
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
void http_conn_set_deadline_from(struct http_conn *conn, enum http_timeout timeout,
                                 uint64_t from_ns)
{
    conn->timeout = timeout;
    conn->progress = 0;
    conn->deadline_ns = from_ns + conn->loop->server->timeout_ns[timeout];
    if (conn->timer_at_ns != 0 && conn->timer_at_ns <= conn->deadline_ns)
        return;
    conn->timer_at_ns = conn->deadline_ns;
    (void)event_add(&conn->timer, conn->loop->timeouts[timeout]);
}

void http_conn_set_deadline(struct http_conn *conn, enum http_timeout timeout)
{
    http_conn_set_deadline_from(conn, timeout, http_now_ns());
}

/* ---- life ---- */

static void print_peer(struct http_conn *conn, bool is_unix)
{
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof(address);
    conn->local = is_unix;
    if (is_unix ||
        getpeername(conn->transport.fd, (struct sockaddr *)(void *)&address, &size) != 0) {
        (void)snprintf(conn->peer, sizeof(conn->peer), "%s", is_unix ? "unix" : "unknown");
        return;
    }
    char text[INET6_ADDRSTRLEN] = "unknown";
    bool brackets = false;
    uint16_t port = 0;
    if (address.ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const void *)&address;
        (void)inet_ntop(AF_INET, &v4->sin_addr, text, sizeof(text));
        port = ntohs(v4->sin_port);
        conn->local = (ntohl(v4->sin_addr.s_addr) >> 24) == 127;
    } else if (address.ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const void *)&address;
        port = ntohs(v6->sin6_port);
        const uint8_t *bytes = v6->sin6_addr.s6_addr;
        if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr)) { /* IPv4, on a socket for "::" */
            (void)inet_ntop(AF_INET, bytes + 12, text, sizeof(text));
            conn->local = bytes[12] == 127;
        } else {
            (void)inet_ntop(AF_INET6, bytes, text, sizeof(text));
            conn->local = IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr) != 0;
            brackets = true;
        }
    }
    if (brackets)
        (void)snprintf(conn->peer, sizeof(conn->peer), "[%s]:%u", text, (unsigned)port);
    else
        (void)snprintf(conn->peer, sizeof(conn->peer), "%s:%u", text, (unsigned)port);
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
    http_conn_set_deadline(conn, conn->transport.tls != NULL ? TIMEOUT_HEAD : TIMEOUT_IDLE);
    http_conn_watch(conn, EV_READ);
}

void http_conn_release_held(struct http_conn *conn)
{
    budget_give(conn->loop->server->options.budget, conn->held_cap);
    mem_free(conn->held);
    conn->held = NULL;
    conn->held_len = conn->held_cap = 0;
}

/* Everything but the memory, which http_conn_settle() frees when nobody up the stack looks at it any more. */
void http_conn_close(struct http_conn *conn)
{
    if (conn->state == CONN_CLOSED)
        return;
    conn->state = CONN_CLOSED;
    http_conn_watch(conn, 0);
    (void)event_del(&conn->timer);
    conn->transport.ops->close(&conn->transport);
    http_exchange_free(conn->exchange);
    conn->exchange = NULL;
    if (conn->http2 != NULL)
        http2_close(conn);
    http_conn_release_held(conn);
    TAILQ_REMOVE(&conn->loop->conns, conn, link);
}

void http_conn_free(struct http_conn *conn)
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
        http_conn_close(conn);
    if (conn->http2 != NULL)
        http2_reap(conn);
    if (conn->http2 == NULL || http2_forget(conn))
        http_conn_free(conn);
}

/* ---- input and output ---- */

static void on_event(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    struct http_conn *conn = arg;
    switch (conn->state) {
    case CONN_HEAD:
    case CONN_BODY:
        http_conn_read(conn);
        break;
    case CONN_WORK:
        http_conn_event_at_work(conn, what);
        break;
    case CONN_WRITE:
        http_conn_send(conn);
        http_conn_read_on(conn);
        break;
    case CONN_LINGER:
        http_conn_read_away(conn);
        break;
    case CONN_HTTP2:
        http2_event(conn, what);
        break;
    case CONN_CLOSED:
        break;
    }
    http_conn_settle(conn);
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
    if (conn->state == CONN_HTTP2) {
        http2_tick(conn);
    } else if (fast_enough(conn)) {
        http_conn_set_deadline(conn, conn->timeout);
    } else if (conn->timeout == TIMEOUT_HEAD && conn->exchange == NULL &&
               !net_transport_in_handshake(&conn->transport)) {
        http_conn_set_deadline(conn, TIMEOUT_IDLE); /* after the TLS handshake */
    } else if (conn->exchange != NULL &&
               (conn->timeout == TIMEOUT_HEAD || conn->timeout == TIMEOUT_BODY)) {
        if (conn->exchange->answered)
            http_conn_close(conn);
        else
            http_conn_refuse(conn, 408, "ChromaError", "the request did not arrive in time");
    } else {
        http_conn_close(conn);
    }
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct http_conn *conn = arg;
    conn->timer_at_ns = 0;
    if (conn->state == CONN_WORK &&
        atomic_load_explicit(&conn->work, memory_order_acquire) != WORK_DONE) {
        http_conn_set_deadline(conn,
                               TIMEOUT_IDLE); /* the handler minds the request's own deadline */
        return;
    }
    if (conn->state == CONN_WORK) {
        conn->timer_at_ns = 1; /* no new timer in there: the time since the answer counts */
        http_conn_finish_done(conn);
        conn->timer_at_ns = 0;
    }
    uint64_t now = http_now_ns();
    if (conn->state == CONN_CLOSED) {
        http_conn_settle(conn);
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
    http_conn_settle(conn);
}

/* ---- draining ---- */

bool http_conn_is_idle(const struct http_conn *conn)
{
    if (conn->state == CONN_WORK)
        return atomic_load_explicit(&conn->work, memory_order_acquire) == WORK_DONE;
    if (conn->state == CONN_HTTP2)
        return http2_is_idle(conn);
    return conn->state == CONN_HEAD && conn->held_len == 0;
}

void http_conn_phase(struct http_conn *conn, enum http_phase phase)
{
    if (conn->state == CONN_WORK && !conn->submit) {
        if (!http_conn_pause_watching(conn)) {
            http_conn_close(conn);
        } else if (phase >= PHASE_CUT) {
            atomic_store_explicit(&conn->cancel.fired, true, memory_order_relaxed);
            http_conn_watch(conn, 0);
            (void)shutdown(conn->transport.fd, SHUT_RDWR);
        } else if (conn->watched == EV_READ) {
            http_conn_watch(conn, WATCH_HANG_UP);
        }
    } else if (phase < PHASE_CUT && conn->state == CONN_HTTP2) {
        http2_drain(conn);
    } else if (phase >= PHASE_CUT || http_conn_is_idle(conn)) {
        http_conn_close(conn);
    } else if (conn->state == CONN_LINGER) {
        http_conn_set_deadline(conn, TIMEOUT_HASTE);
    }
    http_conn_settle(conn);
}
