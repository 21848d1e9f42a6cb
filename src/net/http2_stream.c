/* SPDX-License-Identifier: Apache-2.0 */
/* One stream of an HTTP/2 connection: from fields and data to a request, from the answer to frames.
 *
 * Heads are written out in HTTP/1.1's form and go through the parser that judges those (http_parse.c), so that both
 * protocols have the same limits, refusals and meanings. */
#include "net/http2.h"

#include <stdio.h>

static uint8_t status_name[] = ":status"; /* nghttp2 only reads it */

struct http2_stream *http2_stream_new(struct http_conn *conn, int32_t id)
{
    struct http2_stream *stream = MEM_NEW(struct http2_stream);
    if (stream == NULL)
        return NULL;
    stream->exchange = http_exchange_new(conn);
    if (stream->exchange == NULL) {
        mem_free(stream);
        return NULL;
    }
    stream->conn = conn;
    stream->id = id;
    stream->since_ns = http_now_ns();
    buf_init(&stream->ahead, BUF_MAX_NONE);
    buf_init(&stream->head, HTTP_HEAD_BYTES_MAX + 1024); /* what is over the limit must be seen */
    TAILQ_INSERT_TAIL(&conn->http2->streams, stream, link);
    conn->http2->stream_count++;
    return stream;
}

static void free_pseudo_fields(struct http2_stream *stream)
{
    slice *all[] = {&stream->method, &stream->target, &stream->authority};
    for (size_t i = 0; i < COUNT_OF(all); i++) {
        mem_free((void *)(uintptr_t)all[i]->at);
        *all[i] = SLICE_NONE;
    }
}

void http2_stream_free(struct http2_stream *stream)
{
    struct http2 *http2 = stream->conn->http2;
    TAILQ_REMOVE(&http2->streams, stream, link);
    http2->stream_count--;
    budget_give(stream->exchange->server->options.budget, stream->ahead.len);
    buf_done(&stream->ahead);
    http_exchange_free(stream->exchange);
    free_pseudo_fields(stream);
    buf_done(&stream->head);
    mem_free(stream);
}

void http2_stream_close(struct http2_stream *stream)
{
    if (stream->state == STREAM_GONE)
        return; /* closed before, and still at work */
    if (stream->state != STREAM_WORK) {
        http2_stream_free(stream);
        return;
    }
    stream->state = STREAM_GONE;
    atomic_store_explicit(&stream->cancel.fired, true, memory_order_relaxed);
}

static bool submit(struct http2_stream *stream, void (*run)(void *arg));
static void resume_body(struct http2_stream *stream);
static void run_piece(void *arg);

/* ---- answers ---- */

/* nghttp2's buffer is filled from the body as the windows open; the next piece of a streamed answer (http_stream) is
 * made when the one before is used up, by a worker, and no worker waits for the client. */
static ssize_t read_body(nghttp2_session *session, int32_t id, uint8_t *at, size_t room,
                         uint32_t *flags, nghttp2_data_source *source, void *user)
{
    (void)session, (void)id, (void)user;
    struct http2_stream *stream = source->ptr;
    struct http_exchange *exchange = stream->exchange;
    if (stream->state == STREAM_WORK)
        return NGHTTP2_ERR_DEFERRED;
    slice left = slice_from(buf_view(&exchange->reply.body), (size_t)exchange->sent);
    size_t len = min_size(left.len, room);
    if (len > 0)
        memcpy(at, left.at, len);
    exchange->sent += len;
    stream->progress += len;
    if (len < left.len)
        return (ssize_t)len;
    if (exchange->reply.stream == NULL)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    else if (!submit(stream, run_piece))
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* a reset */
    else if (len == 0)
        return NGHTTP2_ERR_DEFERRED;
    return (ssize_t)len;
}

/* "Name: value\r\n" lines as fields with names in lower case, behind those there are; false when they do not fit. */
static bool add_lines(uint8_t *at, size_t len, nghttp2_nv *fields, size_t max, size_t *count)
{
    uint8_t *end = at + len;
    while (at < end) {
        uint8_t *line_end = memchr(at, '\r', (size_t)(end - at));
        uint8_t *colon = memchr(at, ':', (size_t)(end - at));
        if (line_end == NULL || colon == NULL || colon > line_end || *count == max)
            return false;
        for (uint8_t *c = at; c < colon; c++)
            if (*c >= 'A' && *c <= 'Z')
                *c = (uint8_t)(*c | 0x20);
        uint8_t *value = colon + 1 < line_end ? colon + 2 : line_end;
        /* Of the connection, not of the answer: RFC 9113 8.2.2 */
        slice name = slice_make(at, (size_t)(colon - at));
        if (!slice_equal(name, SLICE("connection")) &&
            !slice_equal(name, SLICE("transfer-encoding")))
            fields[(*count)++] = (nghttp2_nv){.name = at,
                                              .namelen = (size_t)(colon - at),
                                              .value = value,
                                              .valuelen = (size_t)(line_end - value)};
        at = line_end + 2;
    }
    return true;
}

/* The next piece is there. */
static void go_on(struct http2_stream *stream)
{
    nghttp2_session *session = stream->conn->http2->session;
    stream->state = STREAM_ANSWER;
    stream->exchange->sent = 0;
    stream->since_ns = http_now_ns();
    stream->progress = 0;
    if (stream->cut_off)
        (void)nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, stream->id,
                                        NGHTTP2_INTERNAL_ERROR);
    else
        (void)nghttp2_session_resume_data(session, stream->id);
}

void http2_stream_answer(struct http2_stream *stream)
{
    if (stream->exchange->wants_more) {
        resume_body(stream);
        return;
    }
    if (stream->answers) {
        go_on(stream);
        return;
    }
    stream->answers = true;
    struct http_exchange *exchange = stream->exchange;
    const struct http_reply *reply = &exchange->reply;
    nghttp2_session *session = stream->conn->http2->session;
    static const char first_line[] = "HTTP/1.1 200 ";
    char status[8];
    nghttp2_nv fields[HTTP_HEADERS_MAX];
    size_t count = 1;
    (void)snprintf(status, sizeof(status), "%03u", (unsigned)reply->status % 1000);
    fields[0] =
        (nghttp2_nv){.name = status_name, .namelen = 7, .value = (uint8_t *)status, .valuelen = 3};
    struct buf lines;
    buf_init(&lines, BUF_MAX_NONE);
    const char *end = memchr(exchange->lines, '\n', exchange->lines_len);
    assert(end != NULL && exchange->lines_len > sizeof(first_line));
    size_t skip = (size_t)(end - exchange->lines) + 1;
    buf_append(&lines, exchange->lines + skip, exchange->lines_len - skip);
    buf_slice(&lines, buf_view(&reply->headers));
    bool fits = !lines.failed && add_lines(lines.at, lines.len, fields, COUNT_OF(fields), &count);
    exchange->sent = 0;
    stream->state = STREAM_ANSWER;
    stream->since_ns = http_now_ns();
    stream->progress = 0;
    nghttp2_data_provider body = {.source.ptr = stream, .read_callback = read_body};
    bool has_body = !exchange->bodyless && (reply->body.len > 0 || reply->stream != NULL);
    if (!fits ||
        nghttp2_submit_response(session, stream->id, fields, count, has_body ? &body : NULL) != 0)
        (void)nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, stream->id,
                                        NGHTTP2_INTERNAL_ERROR);
    buf_done(&lines);
}

static void encode_and_answer(struct http2_stream *stream)
{
    http_exchange_encode(stream->exchange);
    http2_stream_answer(stream);
}

static void refuse(struct http2_stream *stream, int status, const char *name, const char *message)
{
    http_exchange_error(stream->exchange, status, name, message);
    encode_and_answer(stream);
}

/* ---- requests at work ---- */

/* On a worker: back to the loop, which may free the stream at once. */
static void hand_back(struct http2_stream *stream)
{
    struct http_conn *conn = stream->conn;
    struct http_loop *loop = conn->loop;
    mutex_lock(&loop->mutex);
    STAILQ_INSERT_TAIL(&conn->http2->done, stream, done);
    bool wake = false;
    if (!conn->http2->posted) {
        conn->http2->posted = true;
        wake = STAILQ_EMPTY(&loop->posted);
        STAILQ_INSERT_TAIL(&loop->posted, conn, posted);
    }
    mutex_unlock(&loop->mutex);
    if (wake)
        http_loop_wake(loop);
}

/* On a worker. */
static void run_stream(void *arg)
{
    struct http2_stream *stream = arg;
    struct http_server *server = stream->exchange->server;
    http_exchange_taken(stream->exchange);
    (void)atomic_fetch_add_explicit(&server->running, 1, memory_order_relaxed);
    http_exchange_handle(stream->exchange);
    (void)atomic_fetch_sub_explicit(&server->running, 1, memory_order_relaxed);
    (void)atomic_fetch_sub_explicit(&server->at_work, 1, memory_order_relaxed);
    hand_back(stream);
}

/* On a worker. */
static void run_piece(void *arg)
{
    struct http2_stream *stream = arg;
    struct http_server *server = stream->exchange->server;
    struct http_reply *reply = &stream->exchange->reply;
    http_exchange_taken(stream->exchange);
    (void)atomic_fetch_add_explicit(&server->running, 1, memory_order_relaxed);
    bool more = true;
    buf_clear(&reply->body);
    stream->cut_off =
        reply->stream->next(reply->stream, &reply->body, &more) != OCH_OK || reply->body.failed;
    if (stream->cut_off || !more) {
        reply->stream->free(reply->stream);
        reply->stream = NULL;
    }
    (void)atomic_fetch_sub_explicit(&server->running, 1, memory_order_relaxed);
    (void)atomic_fetch_sub_explicit(&server->at_work, 1, memory_order_relaxed);
    hand_back(stream);
}

/* Give the exchange to a worker.  False: there are too many of them at work. */
static bool submit(struct http2_stream *stream, void (*run)(void *arg))
{
    struct http_server *server = stream->exchange->server;
    unsigned most = server->options.worker_max + server->options.waiting_max;
    enum http2_state before = stream->state;
    stream->exchange->queued_ns = http_now_ns();
    stream->state = STREAM_WORK;
    stream->conn->http2->at_work++;
    /* An intake that has begun is not stopped in the middle. */
    if ((atomic_fetch_add_explicit(&server->at_work, 1, memory_order_relaxed) < most ||
         stream->exchange->begun) &&
        pool_submit(server->pool, run, stream, NULL) == OCH_OK)
        return true;
    (void)atomic_fetch_sub_explicit(&server->at_work, 1, memory_order_relaxed);
    stream->conn->http2->at_work--;
    stream->state = before;
    return false;
}

static void dispatch(struct http2_stream *stream)
{
    struct http_exchange *exchange = stream->exchange;
    struct http_server *server = exchange->server;
    const struct http_handler *handler = &server->options.handler;
    exchange->request.body = http_body_finish(&exchange->body);
    if (handler->is_cheap != NULL && handler->is_cheap(handler->context, &exchange->request)) {
        http_exchange_handle(exchange);
        http2_stream_answer(stream);
        return;
    }
    if (submit(stream, run_stream))
        return;
    http_exchange_busy(exchange);
    encode_and_answer(stream);
}

/* ---- heads ---- */

static bool keep(slice *to, slice value)
{
    mem_free((void *)(uintptr_t)to->at);
    char *copy = mem_copy_text(value.at, value.len);
    *to = slice_make(copy, copy != NULL ? value.len : 0);
    return copy != NULL;
}

static void write_field(struct http2_stream *stream, slice name, slice value)
{
    if (stream->head.len > HTTP_HEAD_BYTES_MAX)
        return; /* refused already */
    size_t room = HTTP_HEAD_BYTES_MAX + 1024 - stream->head.len;
    if (name.len + value.len + 4 > room) { /* shows the parser that the head is too large */
        uint8_t *at = buf_reserve(&stream->head, room);
        if (at != NULL)
            memset(at, 'x', room);
        stream->head.len += at != NULL ? room : 0;
        return;
    }
    /* nghttp2 has looked at this; a line end more would be a field more, or a request. */
    if (value.len > 0 &&
        (memchr(value.at, '\r', value.len) != NULL || memchr(value.at, '\n', value.len) != NULL))
        buf_byte(&stream->head, '\n'); /* refused by the parser */
    buf_slice(&stream->head, name);
    buf_text(&stream->head, ": ");
    buf_slice(&stream->head, value);
    buf_text(&stream->head, "\r\n");
}

/* A blank inside would make three words of two. */
static bool is_word(slice text)
{
    for (size_t i = 0; i < text.len; i++)
        if (text.at[i] <= ' ')
            return false;
    return text.len > 0;
}

static void write_request_line(struct http2_stream *stream)
{
    struct buf *head = &stream->head;
    stream->line_is_written = true;
    if (is_word(stream->method) && is_word(stream->target)) {
        buf_slice(head, stream->method);
        buf_byte(head, ' ');
        buf_slice(head, stream->target);
        buf_text(head, " HTTP/1.1\r\n");
    } else {
        buf_text(head, "? "); /* CONNECT, for one: refused by the parser */
    }
    if (stream->authority.len > 0)
        write_field(stream, SLICE("host"), stream->authority);
}

bool http2_stream_field(struct http2_stream *stream, slice name, slice value)
{
    if (stream->state != STREAM_HEAD)
        return true; /* trailers */
    if (name.len > 0 && name.at[0] == ':') {
        if (value.len > HTTP_HEAD_BYTES_MAX)
            return true; /* missing then: refused */
        if (slice_equal(name, SLICE(":method")))
            return keep(&stream->method, value);
        if (slice_equal(name, SLICE(":path")))
            return keep(&stream->target, value);
        if (slice_equal(name, SLICE(":authority")))
            return keep(&stream->authority, value);
        return true;
    }
    if (!stream->line_is_written)
        write_request_line(stream);
    /* RFC 9113 8.3.1: it may be there as well, but must say the same */
    if (slice_equal(name, SLICE("host")) && slice_equal(value, stream->authority))
        return !stream->head.failed;
    write_field(stream, name, value);
    return !stream->head.failed;
}

static const char *error_name(int status)
{
    return status == 400 ? "InvalidArgumentError" : status == 429 ? "Backoff" : "ChromaError";
}

static void send_continue(struct http2_stream *stream)
{
    static uint8_t status[] = "100";
    nghttp2_nv field = {.name = status_name, .namelen = 7, .value = status, .valuelen = 3};
    (void)nghttp2_submit_headers(stream->conn->http2->session, NGHTTP2_FLAG_NONE, stream->id, NULL,
                                 &field, 1, NULL);
}

/* The handler makes the answer, so that it looks like its others. */
static void refuse_body_size(struct http2_stream *stream, uint64_t size)
{
    http_body_done(&stream->exchange->body);
    stream->exchange->request.body_size_refused = size;
    dispatch(stream);
}

static void parse_head(struct http2_stream *stream)
{
    struct http_exchange *exchange = stream->exchange;
    struct http_head *head = &exchange->head;
    if (!stream->line_is_written)
        write_request_line(stream);
    buf_text(&stream->head, "\r\n");
    enum http_parse result =
        stream->head.failed ? HTTP_PARSE_BAD : http_head_parse(head, buf_view(&stream->head));
    if (result == HTTP_PARSE_MORE) /* cut off where a field did not fit */
        refuse(stream, 431, "ChromaError", "the head of the request is too large");
    else if (result == HTTP_PARSE_BAD && head->problem != NULL)
        refuse(stream, head->status, error_name(head->status), head->problem);
    else if (result == HTTP_PARSE_BAD)
        refuse(stream, 431, "ChromaError", "the head of the request is too large");
    else if (head->chunked)
        refuse(stream, 400, "InvalidArgumentError", "HTTP/2 has no Transfer-Encoding");
    else if (!http_exchange_begin(exchange, stream->head.at))
        encode_and_answer(stream);
    else
        exchange->request.limits.cancel = &stream->cancel;
}

void http2_stream_head_end(struct http2_stream *stream, bool input_ended)
{
    struct http_exchange *exchange = stream->exchange;
    stream->input_ended = input_ended;
    parse_head(stream);
    free_pseudo_fields(stream);
    buf_done(&stream->head);
    buf_init(&stream->head, 0);
    if (stream->state != STREAM_HEAD)
        return;
    stream->state = STREAM_BODY;
    if (input_ended)
        http2_stream_input_end(stream);
    else if (exchange->head.content_length > exchange->server->options.body_bytes_max &&
             exchange->intake == NULL)
        refuse_body_size(stream, exchange->head.content_length);
    else if (exchange->head.expect_continue)
        send_continue(stream);
}

/* ---- bodies ---- */

static void refuse_body(struct http2_stream *stream, const och_error *err)
{
    if (http_exchange_break(stream->exchange, err))
        dispatch(stream);
    else if (err->code == OCH_TOO_LARGE)
        refuse_body_size(stream, stream->exchange->body.len);
    else if (err->code == OCH_INVALID)
        refuse(stream, 400, "InvalidArgumentError", err->message);
    else
        refuse(stream, 429, "Backoff", err->message);
}

/* Until there is a piece; how much was used. */
static size_t feed_intake(struct http2_stream *stream, slice data)
{
    struct http_exchange *exchange = stream->exchange;
    size_t used = 0;
    och_error err = {0};
    while (used < data.len && stream->state == STREAM_BODY) {
        slice step = slice_from(data, used);
        step.len = min_size(step.len, min_size(http_exchange_step(exchange), HTTP_READ_BYTES));
        used += step.len;
        exchange->received += step.len;
        if (http_exchange_take(exchange, step, &err) != OCH_OK)
            refuse_body(stream, &err);
        else if (http_exchange_full(exchange))
            dispatch(stream);
    }
    return used;
}

static size_t put_ahead(struct http2_stream *stream, slice data)
{
    budget_force(stream->exchange->server->options.budget, data.len);
    buf_slice(&stream->ahead, data);
    if (stream->ahead.failed) { /* the stream is of no use without it */
        budget_give(stream->exchange->server->options.budget, data.len);
        (void)nghttp2_submit_rst_stream(stream->conn->http2->session, NGHTTP2_FLAG_NONE, stream->id,
                                        NGHTTP2_INTERNAL_ERROR);
        return 0;
    }
    return data.len;
}

/* The intake has taken its piece: go on with what has come meanwhile, and open the window for that. */
static void resume_body(struct http2_stream *stream)
{
    stream->exchange->wants_more = false;
    stream->state = STREAM_BODY;
    stream->since_ns = http_now_ns();
    stream->progress = 0;
    size_t used = feed_intake(stream, buf_view(&stream->ahead));
    size_t left = stream->ahead.len - used;
    if (used > 0 && left > 0)
        memmove(stream->ahead.at, stream->ahead.at + used, left);
    stream->ahead.len = left;
    budget_give(stream->exchange->server->options.budget, used);
    if (used > 0)
        (void)nghttp2_session_consume_stream(stream->conn->http2->session, stream->id, used);
    if (stream->input_ended && stream->state == STREAM_BODY)
        http2_stream_input_end(stream);
}

size_t http2_stream_data(struct http2_stream *stream, slice data)
{
    struct http_exchange *exchange = stream->exchange;
    stream->progress += data.len;
    if (exchange->pieces && (stream->state == STREAM_BODY || stream->state == STREAM_WORK)) {
        size_t used = feed_intake(stream, data);
        return stream->state == STREAM_BODY || stream->state == STREAM_WORK
                   ? put_ahead(stream, slice_from(data, used))
                   : 0;
    }
    if (stream->state == STREAM_LINGER &&
        stream->progress / 2 > exchange->server->options.body_bytes_max)
        http2_stream_hurry(stream);
    if (stream->state != STREAM_BODY)
        return 0; /* answered already */
    exchange->received += data.len;
    och_error err = {0};
    if (exchange->received > exchange->server->options.body_bytes_max)
        refuse_body_size(stream, exchange->received);
    else if (http_exchange_take(exchange, data, &err) != OCH_OK)
        refuse_body(stream, &err);
    return 0;
}

void http2_stream_input_end(struct http2_stream *stream)
{
    struct http_exchange *exchange = stream->exchange;
    stream->input_ended = true;
    if (stream->state != STREAM_BODY)
        return;
    och_error err = {0};
    if (exchange->inflate != NULL && exchange->received == 0) {
        http_inflate_free(exchange->inflate); /* nothing, compressed: nothing */
        exchange->inflate = NULL;
    }
    if (exchange->inflate != NULL && http_inflate_finish(exchange->inflate, &err) != OCH_OK)
        refuse_body(stream, &err);
    else {
        exchange->last = true;
        dispatch(stream);
    }
}

/* ---- what comes behind the answer ---- */

void http2_stream_hurry(struct http2_stream *stream)
{
    if (stream->state == STREAM_LINGER) /* RFC 9113 8.1 */
        (void)nghttp2_submit_rst_stream(stream->conn->http2->session, NGHTTP2_FLAG_NONE, stream->id,
                                        NGHTTP2_NO_ERROR);
}

/* Clients that see a reset while they still send may lose the answer over it, as with HTTP/1.1. */
void http2_stream_answered(struct http2_stream *stream)
{
    if (stream->input_ended)
        return; /* nghttp2 closes it */
    stream->state = STREAM_LINGER;
    stream->since_ns = http_now_ns();
    stream->progress = 0;
    if (http_server_phase(stream->exchange->server) != PHASE_SERVE)
        http2_stream_hurry(stream);
}

/* ---- time ---- */

void http2_stream_tick(struct http2_stream *stream, uint64_t now_ns)
{
    const struct http_server *server = stream->exchange->server;
    enum http_timeout timeout = stream->state == STREAM_BODY ? TIMEOUT_BODY : TIMEOUT_WRITE;
    uint64_t window_ns = server->timeout_ns[timeout];
    if (stream->state == STREAM_LINGER &&
        now_ns >= stream->since_ns + server->timeout_ns[TIMEOUT_LINGER])
        http2_stream_hurry(stream);
    if ((stream->state != STREAM_BODY && stream->state != STREAM_ANSWER) ||
        now_ns < stream->since_ns + window_ns)
        return;
    uint64_t wanted = server->options.body_bytes_per_s_min * (window_ns / 1000000u) / 1000u;
    bool fast_enough = stream->progress >= wanted;
    stream->since_ns = now_ns;
    stream->progress = 0;
    if (fast_enough)
        return;
    if (stream->state == STREAM_BODY)
        refuse(stream, 408, "ChromaError", "the request did not arrive in time");
    else
        (void)nghttp2_submit_rst_stream(stream->conn->http2->session, NGHTTP2_FLAG_NONE, stream->id,
                                        NGHTTP2_CANCEL);
}
