/* SPDX-License-Identifier: Apache-2.0 */
/* From bytes to requests: heads, bodies, and what came too early.  Runs on the connection's loop. */
#include "net/http2.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#define READ_AWAY_BYTES_MAX \
    65536u /* a refused body up to this size is read, so that the connection lives on */
#define READ_ROUNDS        8
#define DIRECT_READ_BYTES  16384u  /* from here a body is read into its place */
#define DIRECT_ROUND_BYTES 262144u /* room made at once for it */

/* ---- bodies ---- */

/* The handler makes the answer, so that it looks like its others. */
static void refuse_body_size(struct http_conn *conn, uint64_t size)
{
    struct http_exchange *exchange = conn->exchange;
    http_body_done(&exchange->body);
    exchange->request.body_size_refused = size;
    exchange->keep_alive = false;
    exchange->linger = true;
    http_conn_dispatch(conn);
}

static void refuse_body(struct http_conn *conn, const och_error *err)
{
    struct http_exchange *exchange = conn->exchange;
    if (http_exchange_break(exchange, err))
        http_conn_dispatch(conn);
    else if (err->code == OCH_TOO_LARGE)
        refuse_body_size(conn, exchange->body.len);
    else if (err->code == OCH_INVALID)
        http_conn_refuse(conn, 400, "InvalidArgumentError", err->message);
    else
        http_conn_refuse(conn, 429, "Backoff", err->message);
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
    if (exchange->received > bytes_max && exchange->intake == NULL) {
        refuse_body_size(conn, exchange->received);
        return false;
    }
    och_error err = {0};
    och_code code = http_exchange_take(exchange, data, &err);
    if (code != OCH_OK)
        refuse_body(conn, &err);
    return code == OCH_OK;
}

static void body_complete(struct http_conn *conn)
{
    struct http_exchange *exchange = conn->exchange;
    och_error err = {0};
    if (exchange->answered)
        http_conn_answer(conn);
    else if (exchange->inflate != NULL && http_inflate_finish(exchange->inflate, &err) != OCH_OK)
        refuse_body(conn, &err);
    else {
        exchange->last = true;
        http_conn_dispatch(conn);
    }
}

/* With a whole piece the intake has its turn; what comes behind it waits. */
static void hand_over_piece(struct http_conn *conn)
{
    if (conn->state == CONN_BODY && http_exchange_full(conn->exchange))
        http_conn_dispatch(conn);
}

void http_conn_resume_body(struct http_conn *conn)
{
    conn->exchange->wants_more = false;
    conn->state = CONN_BODY;
    http_conn_set_deadline(conn, TIMEOUT_BODY);
    http_conn_watch(conn, EV_READ);
}

/* Bytes used. */
static size_t feed_chunks(struct http_conn *conn, slice input)
{
    struct http_exchange *exchange = conn->exchange;
    for (size_t used = 0;;) {
        size_t step;
        slice data;
        slice rest = slice_from(input, used);
        rest.len = min_size(rest.len, http_exchange_step(exchange));
        enum http_parse result = http_chunks_decode(&exchange->chunks, rest, &step, &data);
        used += step;
        if (result == HTTP_PARSE_BAD) {
            och_error err = {0};
            (void)FAIL(&err, OCH_INVALID, "%s", exchange->chunks.problem);
            exchange->keep_alive = false;
            exchange->linger = true;
            refuse_body(conn, &err);
            return input.len;
        }
        if (data.len > 0 && !take_body(conn, data))
            return input.len;
        if (result == HTTP_PARSE_DONE)
            body_complete(conn);
        else
            hand_over_piece(conn);
        if (result == HTTP_PARSE_DONE || used == input.len || conn->state != CONN_BODY)
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
    data.len = min_size(data.len, http_exchange_step(exchange));
    if (!take_body(conn, data))
        return input.len;
    if (data.len == left)
        body_complete(conn);
    else
        hand_over_piece(conn);
    return data.len;
}

/* ---- heads ---- */

static const char *error_name(int status)
{
    return status == 400 ? "InvalidArgumentError" : status == 429 ? "Backoff" : "ChromaError";
}

static void send_continue(struct http_conn *conn)
{
    static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
    struct iovec part = {.iov_base = (void *)(uintptr_t)text, .iov_len = sizeof(text) - 1};
    ssize_t put = conn->transport.ops->write(&conn->transport, &part, 1);
    /* Not at all: the client sends its body anyway, after a while.  In part: nothing can follow. */
    if (put == NET_BROKEN || (put >= 0 && (size_t)put != part.iov_len))
        http_conn_close(conn);
}

/* The handler or we have an answer before the body was read. */
static void answer_early(struct http_conn *conn)
{
    struct http_exchange *exchange = conn->exchange;
    const struct http_head *head = &exchange->head;
    if (!head->chunked && head->content_length == 0) {
        http_conn_answer(conn);
    } else if (!head->chunked && head->content_length <= READ_AWAY_BYTES_MAX &&
               !head->expect_continue) {
        conn->state = CONN_BODY;
    } else {
        exchange->keep_alive = false;
        exchange->linger = true;
        http_conn_answer(conn);
    }
}

static void request_begin(struct http_conn *conn, const uint8_t *head_bytes, bool more_input)
{
    struct http_exchange *exchange = conn->exchange;
    const struct http_head *head = &exchange->head;
    conn->used = true;
    if (!http_exchange_begin(exchange, head_bytes)) {
        answer_early(conn);
        return;
    }
    if (!head->chunked && head->content_length == 0) {
        if (exchange->inflate != NULL) {
            http_inflate_free(exchange->inflate); /* nothing, compressed: nothing */
            exchange->inflate = NULL;
        }
        exchange->last = true;
        http_conn_dispatch(conn);
    } else if (head->content_length > conn->loop->server->options.body_bytes_max &&
               exchange->intake == NULL) {
        refuse_body_size(conn, head->content_length);
    } else {
        conn->state = CONN_BODY;
        if (head->expect_continue && !more_input)
            send_continue(conn);
    }
}

/* HTTP/2 begins with a line that no request can have.  Behind TLS it must have been agreed on, RFC 9113 3.2. */
static bool may_be_http2(const struct http_conn *conn, slice input, bool *ret_whole)
{
    return !conn->used && http2_is_preface(input, ret_whole) &&
           (conn->transport.tls == NULL || net_transport_agreed_http2(&conn->transport));
}

/* Bytes used; 0 when the head is not complete. */
static size_t feed_head(struct http_conn *conn, slice input)
{
    if (conn->exchange == NULL)
        conn->exchange = http_exchange_new(conn);
    struct http_exchange *exchange = conn->exchange;
    if (exchange == NULL) {
        http_conn_close(conn);
        return input.len;
    }
    bool whole;
    enum http_parse result = http_head_parse(&exchange->head, input);
    if (result == HTTP_PARSE_MORE)
        return 0;
    if (result == HTTP_PARSE_BAD && may_be_http2(conn, input, &whole)) {
        if (whole)
            http2_begin(conn, input);
        else
            http_head_init(&exchange->head); /* looked at anew with more behind it */
        return whole ? input.len : 0;
    }
    if (result == HTTP_PARSE_BAD) {
        int status = exchange->head.status;
        trace_line(conn->loop->server->options.trace, TRACE_DEBUG, "net", "request refused", "peer",
                   conn->peer, "problem", exchange->head.problem, NULL);
        http_conn_refuse(conn, status, error_name(status), exchange->head.problem);
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

/* The body comes apart from its head.  A client that leaves Nagle on holds it back until the head is acknowledged,
 * which the kernel would put off for 40 ms, hoping for an answer to go with it. */
static void await_body(struct http_conn *conn)
{
    int one = 1;
    (void)setsockopt(conn->transport.fd, IPPROTO_TCP, TCP_QUICKACK, &one, sizeof(one));
    http_conn_set_deadline(conn, TIMEOUT_BODY);
}

/* Keep what was not used at the front of the held input. */
static void put_away(struct http_conn *conn, slice rest, bool from_held)
{
    bool sound = true;
    if (conn->state == CONN_CLOSED || conn->state == CONN_LINGER || rest.len == 0) {
        http_conn_release_held(conn);
    } else if (from_held) {
        memmove(conn->held, rest.at, rest.len);
        conn->held_len = (uint32_t)rest.len;
    } else {
        sound = hold(conn, rest.at, rest.len);
    }
    if (!sound)
        http_conn_close(conn);
    else if (conn->state == CONN_HEAD && conn->held_len > 0 && conn->timeout == TIMEOUT_IDLE)
        http_conn_set_deadline(conn, TIMEOUT_HEAD);
    else if (conn->state == CONN_BODY && conn->timeout != TIMEOUT_BODY)
        await_body(conn);
}

void http_conn_feed(struct http_conn *conn, const uint8_t *at, size_t len)
{
    bool from_held = conn->held_len > 0;
    slice input = {at, len};
    if (from_held) {
        if (!hold(conn, at, len)) {
            http_conn_close(conn);
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
    if (exchange->intake == NULL && body->cap - body->len > room)
        room = left < body->cap - body->len ? (size_t)left : body->cap - body->len;
    ssize_t got = conn->transport.ops->read(&conn->transport, body->at + body->len, room);
    if (got <= 0)
        return got;
    body->len += (size_t)got;
    exchange->received += (uint64_t)got;
    conn->progress += (uint64_t)got;
    if (exchange->received == exchange->head.content_length)
        body_complete(conn);
    else
        hand_over_piece(conn);
    return got;
}

void http_conn_read(struct http_conn *conn)
{
    uint8_t *buffer = conn->loop->buffer;
    for (unsigned round = 0; conn->state == CONN_HEAD || conn->state == CONN_BODY; round++) {
        bool direct = reads_directly(conn);
        ssize_t got = direct ? read_directly(conn)
                             : conn->transport.ops->read(&conn->transport, buffer, HTTP_READ_BYTES);
        if (got == NET_WANT_READ || got == NET_WANT_WRITE) {
            http_conn_watch(conn, got == NET_WANT_READ ? EV_READ : EV_WRITE);
            return;
        }
        if (got <= 0) {
            http_conn_close(conn);
            return;
        }
        if (!direct)
            http_conn_feed(conn, buffer, (size_t)got);
        if (conn->state != CONN_HEAD && conn->state != CONN_BODY)
            return;
        /* A short read has emptied the socket.  TLS gives one record at a time, and keeps others to itself. */
        bool drained = conn->transport.tls == NULL && !direct && got < (ssize_t)HTTP_READ_BYTES;
        if (drained || (round >= READ_ROUNDS && !conn->transport.ops->pending(&conn->transport)))
            return;
    }
}

/* Back between requests: what has been held or decrypted already will not raise an event. */
void http_conn_read_on(struct http_conn *conn)
{
    if ((conn->state == CONN_HEAD || conn->state == CONN_BODY) && conn->held_len > 0)
        http_conn_feed(conn, NULL, 0);
    if ((conn->state == CONN_HEAD || conn->state == CONN_BODY) &&
        conn->transport.ops->pending(&conn->transport))
        http_conn_read(conn);
}

void http_conn_read_away(struct http_conn *conn)
{
    uint64_t most = conn->loop->server->options.body_bytes_max + HTTP_READ_BYTES;
    for (unsigned round = 0; round < READ_ROUNDS; round++) {
        ssize_t got =
            conn->transport.ops->read(&conn->transport, conn->loop->buffer, HTTP_READ_BYTES);
        if (got == NET_WANT_READ || got == NET_WANT_WRITE)
            return;
        conn->progress += got > 0 ? (uint64_t)got : 0;
        if (got <= 0 || (conn->progress > most && !conn->patient)) {
            http_conn_close(conn);
            return;
        }
    }
}
