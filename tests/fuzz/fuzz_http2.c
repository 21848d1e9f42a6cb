/* SPDX-License-Identifier: Apache-2.0 */
/* Input: what a client sends over one connection that begins with HTTP/2's preface (which is put before it), in pieces.  No
 * sockets and no threads: a transport of our own, and a handler that runs on the loop.  Properties: no crash, no leak, no
 * memory left charged, every request that the handler sees is one that HTTP/1.1's parser accepted. */
#include "net/http2.h"

#include "base/clock.h"

#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The first byte of a piece is its length; a length of 0 lets the socket be full once. */
struct wire {
    slice preface, left;
    bool full;
};
static struct wire wire;

static ssize_t wire_read(struct net_transport *transport, void *at, size_t len)
{
    (void)transport;
    if (wire.preface.len > 0) {
        size_t part = min_size(wire.preface.len, len);
        memcpy(at, wire.preface.at, part);
        wire.preface = slice_from(wire.preface, part);
        return (ssize_t)part;
    }
    if (wire.left.len == 0)
        return 0;
    size_t piece = wire.left.at[0] & 0x80 ? (wire.left.at[0] & 0x7fu) * 64u : wire.left.at[0];
    wire.left = slice_from(wire.left, 1);
    wire.full = piece == 0;
    if (piece == 0)
        return NET_WANT_READ;
    piece = min_size(min_size(piece, wire.left.len), len);
    if (piece == 0)
        return 0;
    memcpy(at, wire.left.at, piece);
    wire.left = slice_from(wire.left, piece);
    return (ssize_t)piece;
}

static ssize_t wire_write(struct net_transport *transport, const struct iovec *parts, int count)
{
    (void)transport;
    if (wire.full)
        return NET_WANT_WRITE;
    ssize_t taken = 0;
    for (int i = 0; i < count; i++)
        taken += (ssize_t)parts[i].iov_len;
    return taken;
}

static bool wire_pending(const struct net_transport *transport)
{
    (void)transport;
    return wire.left.len > 0 && !wire.full;
}
static void wire_end(struct net_transport *transport)
{
    (void)transport;
}
static void wire_close(struct net_transport *transport)
{
    (void)close(transport->fd);
    transport->fd = -1;
}

static void handle(void *context, const struct http_request *request, struct http_reply *reply)
{
    (void)context;
    if (request->method.len == 0 || request->path.len == 0 ||
        request->header_count > HTTP_HEADERS_MAX || request->body.at[request->body.len] != 0)
        abort();
    for (size_t i = 0; i < request->target.len; i++)
        if (request->target.at[i] <= ' ' || request->target.at[i] >= 0x7f)
            abort();
    if (request->body_size_refused > 0)
        reply->status = 413;
    http_reply_header(reply, "X-Method", "%zu", request->method.len);
    buf_zero(&reply->body, request->path.len * 1000);
}

static bool always_cheap(void *context, const struct http_request *head)
{
    (void)context, (void)head;
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct net_transport_ops ops = {wire_read, wire_write, wire_pending, wire_end,
                                                 wire_close};
    static struct http_server server;
    static struct http_loop loop;
    static struct budget budget;
    if (size > 65536)
        return 0;
    if (loop.server == NULL) {
        budget_init(&budget, 0, NULL);
        server.options =
            (struct http_server_options){.body_bytes_max = 10000,
                                         .deadline_ms = 1000,
                                         .deadline_ms_max = 1000,
                                         .body_bytes_per_s_min = 1,
                                         .gzip_replies_min_bytes = 4096,
                                         .gzip_local_max_bytes = 65536,
                                         .budget = &budget,
                                         .clock = clock_system(),
                                         .handler = {.handle = handle, .is_cheap = always_cheap}};
        mutex_init(&server.mutex, RANK_NET);
        cond_init(&server.changed);
        for (size_t i = 0; i < TIMEOUT_COUNT; i++)
            server.timeout_ns[i] = UINT64_C(1000000000) * (i + 1);
        server.loops = &loop;
        server.loop_count = 1;
        if (http_loop_init(&loop, &server, NULL) != OCH_OK)
            abort();
    }
    int fd = eventfd(0, EFD_CLOEXEC); /* something to watch, which says nothing */
    struct http_conn *conn = http_conn_new(&loop, fd, true);
    if (conn == NULL)
        abort();
    wire = (struct wire){.preface = SLICE(HTTP2_PREFACE), .left = {data, size}};
    conn->transport = (struct net_transport){.ops = &ops, .fd = fd};
    http_conn_start(conn);
    /* on_event() with its settling, until the connection is gone */
    uint8_t preface[sizeof(HTTP2_PREFACE)];
    ssize_t got = wire_read(&conn->transport, preface, sizeof(preface));
    http_conn_feed(conn, preface, (size_t)got);
    for (unsigned round = 0; round < 70000 && conn->state == CONN_HTTP2; round++) {
        wire.full = false;
        http2_event(conn, EV_READ | EV_WRITE);
        if (round % 16 == 15 && conn->state == CONN_HTTP2)
            http2_tick(conn);
    }
    http_conn_drop(conn);
    if (budget_used(&budget) != 0)
        abort();
    return 0;
}
