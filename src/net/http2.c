/* SPDX-License-Identifier: Apache-2.0 */
/* An HTTP/2 connection: its session with nghttp2, bytes in and out, time, floods.  Runs on the connection's loop. */
#include "net/http2.h"

/* ---- floods ---- */

/* False when there were too many. */
static bool allow(struct http2_allowance *allowance, double burst, double per_second)
{
    uint64_t now = http_now_ns();
    allowance->left += (double)(now - allowance->at_ns) * 1e-9 * per_second;
    if (allowance->left > burst)
        allowance->left = burst;
    allowance->at_ns = now;
    allowance->left -= 1;
    return allowance->left >= 0;
}

static int calm_down(nghttp2_session *session, const char *what, struct http_conn *conn)
{
    trace_line(conn->loop->server->options.trace, TRACE_DEBUG, "net",
               "connection ended for flooding", "peer", conn->peer, "with", what, NULL);
    (void)nghttp2_session_terminate_session(session, NGHTTP2_ENHANCE_YOUR_CALM);
    return 0;
}

/* ---- what nghttp2 tells ---- */

static struct http2_stream *stream_of(nghttp2_session *session, int32_t id)
{
    return nghttp2_session_get_stream_user_data(session, id);
}

/* Each frame that is no head and carries no data must be paid for. */
static int on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *header, void *user)
{
    struct http_conn *conn = user;
    struct http2 *http2 = conn->http2;
    bool useful = header->type == NGHTTP2_HEADERS || header->type == NGHTTP2_CONTINUATION ||
                  (header->type == NGHTTP2_DATA &&
                   (header->length > 0 || (header->flags & NGHTTP2_FLAG_END_STREAM) != 0));
    if (header->type == NGHTTP2_RST_STREAM &&
        !allow(&http2->resets, HTTP2_RESETS_BURST, HTTP2_RESETS_RATE))
        return calm_down(session, "resets", conn);
    if (!useful && !allow(&http2->frames, HTTP2_FRAMES_BURST, HTTP2_FRAMES_RATE))
        return calm_down(session, "frames", conn);
    return 0;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct http_conn *conn = user;
    struct http2 *http2 = conn->http2;
    http2->head_since_ns = http_now_ns();
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    /* nghttp2 counts the streams that are open; those reset while at work count here as well. */
    struct http2_stream *stream = NULL;
    if (http2->stream_count < HTTP2_STREAMS_MAX)
        stream = http2_stream_new(conn, frame->hd.stream_id);
    if (stream == NULL)
        return nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                                         NGHTTP2_REFUSED_STREAM);
    return nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, stream);
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *user)
{
    (void)flags, (void)user;
    struct http2_stream *stream = stream_of(session, frame->hd.stream_id);
    if (stream == NULL ||
        http2_stream_field(stream, slice_make(name, name_len), slice_make(value, value_len)))
        return 0;
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct http_conn *conn = user;
    struct http2_stream *stream = NULL;
    if (frame->hd.type == NGHTTP2_HEADERS)
        conn->http2->head_since_ns = 0;
    if (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA)
        stream = stream_of(session, frame->hd.stream_id);
    if (stream == NULL)
        return 0;
    bool ends = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    if (frame->hd.type == NGHTTP2_HEADERS && stream->state == STREAM_HEAD)
        http2_stream_head_end(stream, ends);
    else if (ends)
        http2_stream_input_end(stream);
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *at,
                   size_t len, void *user)
{
    (void)flags, (void)user;
    struct http2_stream *stream = stream_of(session, id);
    size_t waits = stream != NULL ? http2_stream_data(stream, slice_make(at, len)) : 0;
    (void)nghttp2_session_consume_connection(session, len);
    if (len > waits)
        (void)nghttp2_session_consume_stream(session, id, len - waits);
    return 0;
}

static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct http_conn *conn = user;
    if (frame->hd.type == NGHTTP2_DATA)
        conn->http2->frames.left += 2; /* the client may open its windows for that */
    bool ends = (frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS) &&
                (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    struct http2_stream *stream = ends ? stream_of(session, frame->hd.stream_id) : NULL;
    if (stream != NULL)
        http2_stream_answered(stream);
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *user)
{
    (void)code, (void)user;
    struct http2_stream *stream = stream_of(session, id);
    if (stream != NULL)
        http2_stream_close(stream);
    return 0;
}

/* ---- the session ---- */

static void *session_malloc(size_t size, void *user)
{
    (void)user;
    return mem_alloc(size);
}
static void session_free(void *at, void *user)
{
    (void)user;
    mem_free(at);
}
static void *session_calloc(size_t count, size_t size, void *user)
{
    (void)user;
    size_t bytes;
    return mul_overflows(count, size, &bytes) ? NULL : mem_zalloc(bytes);
}
static void *session_realloc(void *at, size_t size, void *user)
{
    (void)user;
    return mem_realloc(at, size);
}

static nghttp2_session_callbacks *new_callbacks(void)
{
    nghttp2_session_callbacks *callbacks = NULL;
    if (nghttp2_session_callbacks_new(&callbacks) != 0)
        return NULL;
    nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, on_begin_frame);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_recv);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_send);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    return callbacks;
}

static nghttp2_session *new_session(struct http_conn *conn)
{
    static nghttp2_mem memory = {.malloc = session_malloc,
                                 .free = session_free,
                                 .calloc = session_calloc,
                                 .realloc = session_realloc};
    static const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, HTTP2_STREAMS_MAX},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, HTTP2_WINDOW_BYTES},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HTTP_HEAD_BYTES_MAX},
    };
    nghttp2_session *session = NULL;
    nghttp2_option *option = NULL;
    nghttp2_session_callbacks *callbacks = new_callbacks();
    bool made = callbacks != NULL && nghttp2_option_new(&option) == 0;
    if (made) {
        nghttp2_option_set_no_closed_streams(option, 1);
        nghttp2_option_set_no_auto_window_update(option, 1); /* on_data() opens them */
        made = nghttp2_session_server_new3(&session, callbacks, conn, option, &memory) == 0 &&
               nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, settings, COUNT_OF(settings)) ==
                   0 &&
               nghttp2_session_set_local_window_size(session, NGHTTP2_FLAG_NONE, 0,
                                                     HTTP2_WINDOW_BYTES) == 0;
    }
    if (!made) {
        nghttp2_session_del(session);
        session = NULL;
    }
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    return session;
}

bool http2_is_preface(slice input, bool *ret_whole)
{
    slice preface = SLICE(HTTP2_PREFACE);
    size_t len = min_size(input.len, preface.len);
    *ret_whole = len == preface.len;
    return memcmp(input.at, preface.at, len) == 0;
}

/* ---- out ---- */

/* What the socket did not take is kept; false when the connection is closed. */
static bool put(struct http_conn *conn, const uint8_t *at, size_t len)
{
    struct http2 *http2 = conn->http2;
    struct iovec part = {.iov_base = (void *)(uintptr_t)at, .iov_len = len}; /* only read */
    ssize_t sent = conn->transport.ops->write(&conn->transport, &part, 1);
    if (sent == NET_BROKEN) {
        http_conn_close(conn);
        return false;
    }
    size_t taken = sent > 0 ? (size_t)sent : 0;
    if (http2->out != NULL && at == http2->out + http2->out_sent) {
        http2->out_sent += taken;
    } else if (taken < len) {
        http2->out = mem_alloc(len - taken);
        if (http2->out == NULL) {
            http_conn_close(conn);
            return false;
        }
        memcpy(http2->out, at + taken, len - taken);
        http2->out_len = len - taken;
        http2->out_sent = 0;
        budget_force(conn->loop->server->options.budget, http2->out_len);
    }
    if (taken > 0 && http2->out != NULL)
        http2->out_since_ns = http_now_ns();
    return true;
}

static void release_out(struct http_conn *conn)
{
    struct http2 *http2 = conn->http2;
    if (http2->out != NULL)
        budget_give(conn->loop->server->options.budget, http2->out_len);
    mem_free(http2->out);
    http2->out = NULL;
    http2->out_len = http2->out_sent = 0;
}

/* Frames that wait, gathered in the loop's buffer; the length, or -1 when the session is broken. */
static ssize_t gather(struct http_conn *conn)
{
    size_t len = 0;
    while (HTTP_READ_BYTES - len >= HTTP2_FRAME_ROOM) {
        const uint8_t *at;
        ssize_t got = nghttp2_session_mem_send(conn->http2->session, &at);
        if (got < 0 || (size_t)got > HTTP_READ_BYTES - len)
            return -1;
        if (got == 0)
            break;
        memcpy(conn->loop->buffer + len, at, (size_t)got);
        len += (size_t)got;
    }
    return (ssize_t)len;
}

/* False when the connection is closed. */
static bool flush(struct http_conn *conn)
{
    struct http2 *http2 = conn->http2;
    http2->more = false;
    for (unsigned round = 0; round < HTTP2_ROUNDS; round++) {
        if (http2->out != NULL) {
            if (!put(conn, http2->out + http2->out_sent, http2->out_len - http2->out_sent))
                return false;
            if (http2->out_sent < http2->out_len)
                return true;
            release_out(conn);
        }
        ssize_t len = gather(conn);
        if (len < 0) {
            http_conn_close(conn);
            return false;
        }
        if (len == 0)
            return true;
        if (!put(conn, conn->loop->buffer, (size_t)len))
            return false;
        if (http2->out != NULL)
            return true;
    }
    http2->more = true;
    return true;
}

/* ---- in ---- */

static void feed(struct http_conn *conn, const uint8_t *at, size_t len)
{
    struct http2 *http2 = conn->http2;
    if (http2->broken)
        return;
    ssize_t used = nghttp2_session_mem_recv(http2->session, at, len);
    if (used >= 0)
        return;
    http2->broken = true; /* it may send, but read no more */
    (void)nghttp2_session_terminate_session(http2->session, used == NGHTTP2_ERR_FLOODED
                                                                ? NGHTTP2_ENHANCE_YOUR_CALM
                                                                : NGHTTP2_INTERNAL_ERROR);
}

/* False when the connection is closed. */
static bool read_all(struct http_conn *conn)
{
    uint8_t *buffer = conn->loop->buffer;
    for (unsigned round = 0;; round++) {
        ssize_t got = conn->transport.ops->read(&conn->transport, buffer, HTTP_READ_BYTES);
        if (got == NET_WANT_READ || got == NET_WANT_WRITE)
            return true;
        if (got <= 0) {
            http_conn_close(conn);
            return false;
        }
        feed(conn, buffer, (size_t)got);
        bool drained = conn->transport.tls == NULL && got < (ssize_t)HTTP_READ_BYTES;
        if (drained || (round >= 8 && !conn->transport.ops->pending(&conn->transport)))
            return true;
    }
}

/* ---- life ---- */

static void go_away(struct http_conn *conn)
{
    struct http2 *http2 = conn->http2;
    if (http2->goes)
        return;
    http2->goes = true;
    (void)nghttp2_submit_goaway(http2->session, NGHTTP2_FLAG_NONE,
                                nghttp2_session_get_last_proc_stream_id(http2->session),
                                NGHTTP2_NO_ERROR, NULL, 0);
}

/* Send what there is, then see what to wait for. */
static void go_on(struct http_conn *conn)
{
    struct http2 *http2 = conn->http2;
    if (http_server_phase(conn->loop->server) != PHASE_SERVE)
        go_away(conn);
    if (!flush(conn))
        return;
    bool sent = http2->out == NULL && !http2->more;
    bool over =
        nghttp2_session_want_read(http2->session) == 0 || (http2->goes && http2->stream_count == 0);
    if (sent && over) {
        http_conn_linger(conn);
        return;
    }
    bool busy = http2->stream_count > 0 || !sent || http2->head_since_ns != 0;
    if (busy != http2->busy) {
        http2->busy = busy;
        TAILQ_REMOVE(&conn->loop->conns, conn, link);
        TAILQ_INSERT_TAIL(&conn->loop->conns, conn, link);
        http_conn_set_deadline(conn, busy ? TIMEOUT_BODY : TIMEOUT_IDLE);
    }
    bool full = nghttp2_session_get_outbound_queue_size(http2->session) > HTTP2_OUTBOUND_MAX;
    bool writes = http2->out != NULL || http2->more;
    http_conn_watch(conn, (short)((full && writes ? 0 : EV_READ) | (writes ? EV_WRITE : 0)));
}

void http2_begin(struct http_conn *conn, slice input)
{
    http_exchange_free(conn->exchange);
    conn->exchange = NULL;
    struct http2 *http2 = MEM_NEW(struct http2);
    if (http2 == NULL) {
        http_conn_close(conn);
        return;
    }
    TAILQ_INIT(&http2->streams);
    STAILQ_INIT(&http2->done);
    http2->frames = (struct http2_allowance){HTTP2_FRAMES_BURST, http_now_ns()};
    http2->resets = (struct http2_allowance){HTTP2_RESETS_BURST, http_now_ns()};
    conn->http2 = http2;
    conn->state = CONN_HTTP2;
    http2->session = new_session(conn);
    if (http2->session == NULL) {
        http_conn_close(conn);
        return;
    }
    http_conn_set_deadline(conn, TIMEOUT_IDLE);
    feed(conn, input.at, input.len);
    if (!conn->transport.ops->pending(&conn->transport) || read_all(conn))
        go_on(conn);
}

void http2_event(struct http_conn *conn, short what)
{
    if ((what & EV_READ) == 0 || read_all(conn))
        go_on(conn);
}

void http2_reap(struct http_conn *conn)
{
    struct http2 *http2 = conn->http2;
    struct http2_done done = STAILQ_HEAD_INITIALIZER(done);
    mutex_lock(&conn->loop->mutex);
    STAILQ_CONCAT(&done, &http2->done);
    http2->posted = false;
    mutex_unlock(&conn->loop->mutex);
    struct http2_stream *stream;
    while ((stream = STAILQ_FIRST(&done)) != NULL) {
        STAILQ_REMOVE_HEAD(&done, done);
        http2->at_work--;
        if (stream->state == STREAM_GONE)
            http2_stream_free(stream);
        else
            http2_stream_answer(stream);
    }
}

void http2_posted(struct http_conn *conn)
{
    http2_reap(conn);
    if (conn->state == CONN_HTTP2)
        go_on(conn);
    http_conn_settle(conn);
}

void http2_tick(struct http_conn *conn)
{
    struct http2 *http2 = conn->http2;
    const struct http_server *server = conn->loop->server;
    uint64_t now = http_now_ns();
    bool stuck =
        http2->out != NULL && now >= http2->out_since_ns + server->timeout_ns[TIMEOUT_WRITE];
    bool slow_head =
        http2->head_since_ns != 0 && now >= http2->head_since_ns + server->timeout_ns[TIMEOUT_HEAD];
    if (stuck || slow_head) {
        http_conn_close(conn);
        return;
    }
    if (!http2->busy)
        go_away(conn);
    struct http2_stream *stream = TAILQ_FIRST(&http2->streams);
    while (stream != NULL) {
        struct http2_stream *next = TAILQ_NEXT(stream, link);
        http2_stream_tick(stream, now);
        stream = next;
    }
    http_conn_set_deadline(conn, TIMEOUT_BODY);
    go_on(conn);
}

void http2_drain(struct http_conn *conn)
{
    struct http2_stream *stream;
    bool idle = http2_is_idle(conn) && !http_conn_has_unread(conn);
    go_away(conn);
    for (stream = TAILQ_FIRST(&conn->http2->streams); stream; stream = TAILQ_NEXT(stream, link))
        http2_stream_hurry(stream);
    if (!idle)
        go_on(conn);
    else if (flush(conn))
        http_conn_close(conn); /* as idle ones of HTTP/1.1 */
}

bool http2_is_idle(const struct http_conn *conn)
{
    return conn->http2->stream_count == 0 && conn->http2->out == NULL;
}

void http2_close(struct http_conn *conn)
{
    struct http2 *http2 = conn->http2;
    nghttp2_session_del(http2->session);
    http2->session = NULL;
    release_out(conn);
    struct http2_stream *stream = TAILQ_FIRST(&http2->streams);
    while (stream != NULL) {
        struct http2_stream *next = TAILQ_NEXT(stream, link);
        http2_stream_close(stream);
        stream = next;
    }
}

bool http2_forget(struct http_conn *conn)
{
    struct http2 *http2 = conn->http2;
    mutex_lock(&conn->loop->mutex);
    bool held = http2->at_work > 0 || http2->posted;
    mutex_unlock(&conn->loop->mutex);
    if (held)
        return false;
    assert(TAILQ_EMPTY(&http2->streams));
    mem_free(http2);
    conn->http2 = NULL;
    return true;
}
