/* SPDX-License-Identifier: Apache-2.0 */
/* One request and its answer: what the head asks for, the handler's call, the answer's bytes. */
#include "base/retry.h"
#include "net/http_internal.h"

#include <poll.h>
#include <stdio.h>

struct http_exchange *http_exchange_new(struct http_conn *conn)
{
    struct http_exchange *exchange = mem_alloc(sizeof(*exchange));
    if (exchange == NULL)
        return NULL;
    memset(exchange, 0, offsetof(struct http_exchange, lines));
    exchange->conn = conn;
    exchange->server = conn->loop->server;
    http_head_init(&exchange->head);
    http_reply_init(&exchange->reply, HTTP_REPLY_BYTES_MAX);
    http_body_init(&exchange->body, exchange->server->options.budget);
    return exchange;
}

/* The request's memory, once nobody looks at it any more. */
static void release_request(struct http_exchange *exchange)
{
    http_body_done(&exchange->body);
    http_inflate_free(exchange->inflate);
    exchange->inflate = NULL;
    if (exchange->intake != NULL)
        exchange->intake->free(exchange->intake);
    exchange->intake = NULL;
    if (exchange->head_bytes != exchange->head_inline)
        mem_free(exchange->head_bytes);
    exchange->head_bytes = NULL;
    exchange->request = (struct http_request){0};
}

static void charge_reply(struct http_exchange *exchange, size_t bytes)
{
    budget_give(exchange->server->options.budget, exchange->reply_charged);
    budget_force(exchange->server->options.budget, bytes);
    exchange->reply_charged = bytes;
}

void http_exchange_free(struct http_exchange *exchange)
{
    if (exchange == NULL)
        return;
    release_request(exchange);
    charge_reply(exchange, 0);
    http_reply_done(&exchange->reply);
    mem_free(exchange);
}

static void answer_error(struct http_exchange *exchange, int status, const char *name,
                         const char *message, unsigned retry_s)
{
    struct http_server *server = exchange->server;
    (void)atomic_fetch_add_explicit(status == 429 ? &server->busy : &server->refused, 1,
                                    memory_order_relaxed);
    struct http_reply *reply = &exchange->reply;
    http_reply_done(reply);
    http_reply_init(reply, HTTP_REPLY_BYTES_MAX);
    reply->status = status;
    const struct http_handler *handler = &server->options.handler;
    if (handler->refuse != NULL) {
        handler->refuse(handler->context, &exchange->request, status, name, message, reply);
    } else {
        buf_printf(&reply->body, "{\"error\":\"%s\",\"message\":\"", name);
        for (const char *at = message; *at != '\0'; at++) {
            uint8_t byte = (uint8_t)*at;
            if (byte == '"' || byte == '\\')
                buf_byte(&reply->body, '\\');
            buf_byte(&reply->body, byte < 0x20 ? ' ' : byte);
        }
        buf_text(&reply->body, "\"}");
    }
    if (status == 429)
        http_reply_header(reply, "Retry-After", "%u", retry_s);
}

void http_exchange_error(struct http_exchange *exchange, int status, const char *name,
                         const char *message)
{
    answer_error(exchange, status, name, message, retry_seconds(0)); /* over memory, if at all */
}

void http_exchange_busy(struct http_exchange *exchange)
{
    struct http_server *server = exchange->server;
    uint64_t taken_ns = atomic_load_explicit(&server->taken_ns, memory_order_relaxed);
    uint64_t waited_ns = atomic_load_explicit(&server->waited_ns, memory_order_relaxed);
    uint64_t now = http_now_ns(), since_ns = taken_ns && now > taken_ns ? now - taken_ns : 0;
    /* They are served in turn: as long as the last one waited, unless it is longer than that since one was taken at all. */
    unsigned retry_s = retry_seconds(since_ns > waited_ns ? since_ns : waited_ns);
    char message[128];
    (void)snprintf(message, sizeof(message),
                   "%u requests are at work or waiting already. Backoff and retry in %u s.",
                   server->options.worker_max + server->options.waiting_max, retry_s);
    answer_error(exchange, 429, "Backoff", message, retry_s);
}

void http_exchange_taken(struct http_exchange *exchange)
{
    struct http_server *server = exchange->server;
    uint64_t now = http_now_ns();
    atomic_store_explicit(&server->taken_ns, now, memory_order_relaxed);
    atomic_store_explicit(&server->waited_ns, now - exchange->queued_ns, memory_order_relaxed);
}

/* ---- the head ---- */

static bool refuse(struct http_exchange *exchange, int status, const char *name,
                   const char *message)
{
    http_exchange_error(exchange, status, name, message);
    exchange->answered = true;
    return false;
}

static bool read_deadline(struct http_exchange *exchange)
{
    const struct http_server_options *options = &exchange->server->options;
    struct http_request *request = &exchange->request;
    uint64_t deadline_ms = options->deadline_ms;
    slice text = http_request_header(request, SLICE("Ochre-Deadline-Ms"));
    if (text.at != NULL) {
        uint64_t asked = 0;
        bool sound = text.len > 0 && text.len <= 9;
        for (size_t i = 0; sound && i < text.len; i++) {
            sound = text.at[i] >= '0' && text.at[i] <= '9';
            asked = asked * 10 + (uint64_t)(text.at[i] - '0');
        }
        if (!sound || asked == 0)
            return refuse(
                exchange, 400, "InvalidArgumentError",
                "Ochre-Deadline-Ms must be a whole number of milliseconds from 1 to 999999999");
        deadline_ms = asked < options->deadline_ms_max ? asked : options->deadline_ms_max;
    }
    request->limits.deadline_mono_ns = request->received_mono_ns + deadline_ms * 1000000u;
    request->limits.cancel = &exchange->conn->cancel;
    return true;
}

static bool read_coding(struct http_exchange *exchange)
{
    slice coding = http_request_header(&exchange->request, SLICE("Content-Encoding"));
    if (coding.len == 0 || slice_equal_nocase(coding, SLICE("identity")))
        return true;
    if (!slice_equal_nocase(coding, SLICE("gzip")) &&
        !slice_equal_nocase(coding, SLICE("x-gzip")) &&
        !slice_equal_nocase(coding, SLICE("deflate"))) {
        (void)refuse(exchange, 415, "ChromaError",
                     "of Content-Encoding only gzip and deflate are known here");
        http_reply_header(&exchange->reply, "Accept-Encoding", "gzip, deflate");
        return false;
    }
    och_error err = {0};
    if (http_inflate_new(exchange->server->options.budget, &exchange->inflate, &err) != OCH_OK)
        return refuse(exchange, 429, "Backoff", err.message);
    return true;
}

bool http_exchange_begin(struct http_exchange *exchange, const uint8_t *head_bytes)
{
    struct http_server *server = exchange->server;
    struct http_head *head = &exchange->head;
    exchange->head_bytes =
        head->size <= sizeof(exchange->head_inline) ? exchange->head_inline : mem_alloc(head->size);
    exchange->keep_alive = false;
    if (exchange->head_bytes == NULL)
        return refuse(exchange, 429, "Backoff", "no memory for the head of the request");
    memcpy(exchange->head_bytes, head_bytes, head->size);
    http_head_view(head, exchange->head_bytes, exchange->headers, &exchange->request);
    struct http_request *request = &exchange->request;
    request->received_mono_ns = clock_mono_ns(server->options.clock);
    request->peer = slice_of(exchange->conn->peer);
    request->streams = true;
    request->body = http_body_finish(&exchange->body);
    exchange->keep_alive = head->keep_alive;
    exchange->bodyless = slice_equal(request->method, SLICE("HEAD"));
    slice accepted = http_request_header(request, SLICE("Accept-Encoding"));
    exchange->accepts_gzip = accepted.len > 0 && http_list_has(accepted, SLICE("gzip"));
    http_chunks_init(&exchange->chunks);
    if (!read_deadline(exchange) || !read_coding(exchange))
        return false;
    const struct http_handler *handler = &server->options.handler;
    if (handler->admit != NULL && !handler->admit(handler->context, request, &exchange->reply)) {
        exchange->answered = true;
        return false;
    }
    exchange->broken_code = OCH_OK;
    if (handler->intake != NULL)
        exchange->intake = handler->intake(handler->context, request);
    exchange->pieces = exchange->intake != NULL;
    return true;
}

/* ---- the body ---- */

#define INTAKE_STEP_BYTES 4096u /* of compressed data: a thousand times as much at most */

size_t http_exchange_step(const struct http_exchange *exchange)
{
    return exchange->intake != NULL && exchange->inflate != NULL ? INTAKE_STEP_BYTES : SIZE_MAX;
}

bool http_exchange_full(const struct http_exchange *exchange)
{
    return exchange->intake != NULL && exchange->body.len >= HTTP_PIECE_BYTES;
}

bool http_exchange_break(struct http_exchange *exchange, const och_error *why)
{
    if (exchange->intake == NULL || exchange->wants_more)
        return false;
    exchange->broken_code = why->code;
    (void)snprintf(exchange->broken, sizeof(exchange->broken), "%s", why->message);
    exchange->last = true;
    exchange->keep_alive = false;
    exchange->linger = true;
    return true;
}

och_code http_exchange_take(struct http_exchange *exchange, slice data, och_error *err)
{
    struct http_body *body = &exchange->body;
    if (exchange->inflate != NULL)
        return http_inflate_feed(
            exchange->inflate, data,
            exchange->intake != NULL ? UINT64_MAX : exchange->server->options.body_bytes_max, body,
            err);
    TRY(http_body_reserve(body, data.len, exchange->head.content_length, err));
    memcpy(body->at + body->len, data.at, data.len);
    body->len += data.len;
    return OCH_OK;
}

/* ---- the answer ---- */

/* Each piece has the time that a request has. */
static bool take_piece(struct http_exchange *exchange)
{
    struct http_request *request = &exchange->request;
    uint64_t now = clock_mono_ns(exchange->server->options.clock);
    uint64_t allowed_ns = request->limits.deadline_mono_ns - request->received_mono_ns;
    request->received_mono_ns = now;
    request->limits.deadline_mono_ns = now + allowed_ns;
    och_error broken = {0};
    if (exchange->broken_code != OCH_OK)
        (void)FAIL(&broken, exchange->broken_code, "%s", exchange->broken);
    bool complete =
        exchange->intake->feed(exchange->intake, request, exchange->last,
                               broken.code != OCH_OK ? &broken : NULL, &exchange->reply);
    assert(complete || !exchange->last);
    exchange->begun = true;
    exchange->wants_more = !complete;
    exchange->body.len = 0; /* the memory stays for the next */
    if (complete && !exchange->last) {
        exchange->keep_alive = false;
        exchange->linger = true;
    }
    return complete;
}

void http_exchange_handle(struct http_exchange *exchange)
{
    if (exchange->intake != NULL) {
        if (take_piece(exchange)) {
            http_exchange_encode(exchange);
            release_request(exchange);
        }
        return;
    }
    const struct http_handler *handler = &exchange->server->options.handler;
    handler->handle(handler->context, &exchange->request, &exchange->reply);
    http_exchange_encode(exchange);
    release_request(exchange);
}

/* Loopback has bandwidth to spare, so there gzip only costs time; see README.md. */
static void compress_reply(struct http_exchange *exchange)
{
    const struct http_server_options *options = &exchange->server->options;
    struct http_reply *reply = &exchange->reply;
    if (!exchange->accepts_gzip || reply->stream ||
        reply->body.len < options->gzip_replies_min_bytes ||
        (exchange->conn->local && reply->body.len > options->gzip_local_max_bytes))
        return;
    struct buf packed;
    if (!http_gzip(buf_view(&reply->body), &packed))
        return;
    buf_done(&reply->body);
    reply->body = packed;
    http_reply_header(reply, "Content-Encoding", "gzip");
    http_reply_header(reply, "Vary", "Accept-Encoding");
}

/* "Thu, 26 Nov 2026 09:10:11 GMT"; days by H. Hinnant's civil_from_days */
static int print_date(char *to, size_t size, uint64_t wall_ns)
{
    static const char days[] = "ThuFriSatSunMonTueWed",
                      months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    uint64_t seconds = wall_ns / 1000000000u;
    uint32_t day = (uint32_t)(seconds / 86400), second = (uint32_t)(seconds % 86400);
    uint32_t z = day + 719468, era = z / 146097, of_era = z - era * 146097;
    uint32_t year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    uint32_t of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    uint32_t shifted = (5 * of_year + 2) / 153; /* months from March */
    uint32_t day_of_month = of_year - (153 * shifted + 2) / 5 + 1;
    uint32_t month = shifted < 10 ? shifted + 2 : shifted - 10; /* from January, 0-based */
    uint32_t year = year_of_era + era * 400 + (month <= 1);
    return snprintf(to, size, "Date: %.3s, %02u %.3s %u %02u:%02u:%02u GMT\r\n",
                    days + (size_t)day % 7 * 3, day_of_month, months + (size_t)month * 3, year,
                    second / 3600, second / 60 % 60, second % 60);
}

static bool status_has_body(int status)
{
    return status >= 200 && status != 204 && status != 304;
}

void http_exchange_encode(struct http_exchange *exchange)
{
    struct http_server *server = exchange->server;
    struct http_reply *reply = &exchange->reply;
    if (reply->body.failed || reply->headers.failed)
        http_exchange_error(exchange, 500, "InternalError", "no memory for the answer");
    compress_reply(exchange);
    charge_reply(exchange, reply->body.cap);
    exchange->chunked = reply->stream && !exchange->request.http_1_0;
    if (reply->close || http_server_phase(server) != PHASE_SERVE ||
        (reply->stream && !exchange->chunked)) /* its end is that of the connection */
        exchange->keep_alive = false;
    char *to = exchange->lines;
    size_t size = sizeof(exchange->lines);
    size_t len =
        (size_t)snprintf(to, size, "HTTP/1.1 %d %s\r\n", reply->status, http_reason(reply->status));
    len += (size_t)print_date(to + len, size - len, clock_wall_ns(server->options.clock));
    if (status_has_body(reply->status)) {
        if (reply->body.len > 0 && reply->content_type.len > 0)
            len += (size_t)snprintf(to + len, size - len, "Content-Type: %.*s\r\n",
                                    SLICE_ARG(reply->content_type));
        assert(len < size);
        if (!reply->stream)
            len +=
                (size_t)snprintf(to + len, size - len, "Content-Length: %zu\r\n", reply->body.len);
        else if (exchange->chunked)
            len += (size_t)snprintf(to + len, size - len, "Transfer-Encoding: chunked\r\n");
    } else {
        exchange->bodyless = true;
    }
    if (!exchange->keep_alive || exchange->request.http_1_0) {
        assert(len < size);
        len += (size_t)snprintf(to + len, size - len, "Connection: %s\r\n",
                                exchange->keep_alive ? "keep-alive" : "close");
    }
    assert(len < size);
    exchange->lines_len = (uint16_t)len;
    exchange->sent = 0;
}

/* ---- streamed answers ---- */

#define STREAM_LOOK_MS 250 /* how often a stalled one looks whether anybody still wants it */

/* Wait until the socket goes on.  False: nobody is there any more, or has taken anything for as long as an answer may take. */
static bool await_socket(struct http_exchange *exchange, int wanted, uint64_t since_ns)
{
    struct pollfd socket = {.fd = exchange->conn->transport.fd,
                            .events = wanted == NET_WANT_READ ? POLLIN : POLLOUT};
    if (atomic_load_explicit(&exchange->conn->cancel.fired, memory_order_relaxed) ||
        http_now_ns() - since_ns > exchange->server->timeout_ns[TIMEOUT_WRITE])
        return false;
    sched_block_begin();
    (void)poll(&socket, 1, STREAM_LOOK_MS);
    sched_block_end();
    return true;
}

/* All of it, waiting as long as it moves on. */
static int send_whole(struct http_exchange *exchange, const slice *all, size_t count)
{
    struct net_transport *transport = &exchange->conn->transport;
    uint64_t since_ns = http_now_ns();
    for (size_t i = 0, sent = 0; i < count;) {
        if (sent == all[i].len) {
            i++;
            sent = 0;
            continue;
        }
        struct iovec part = {.iov_base = (void *)(uintptr_t)(all[i].at + sent), /* only read */
                             .iov_len = all[i].len - sent};
        ssize_t put = transport->ops->write(transport, &part, 1);
        if (put == NET_BROKEN || (put < 0 && !await_socket(exchange, (int)put, since_ns)))
            return NET_BROKEN;
        if (put > 0) {
            sent += (size_t)put;
            since_ns = http_now_ns();
        }
    }
    return 0;
}

static int send_piece(struct http_exchange *exchange)
{
    slice body = buf_view(&exchange->reply.body);
    if (body.len == 0 || exchange->bodyless)
        return 0;
    if (!exchange->chunked)
        return send_whole(exchange, &body, 1);
    char size[24];
    (void)snprintf(size, sizeof(size), "%zx\r\n", body.len);
    const slice all[] = {slice_of(size), body, SLICE("\r\n")};
    return send_whole(exchange, all, COUNT_OF(all));
}

static int stream_all(struct http_exchange *exchange)
{
    struct http_reply *reply = &exchange->reply;
    const slice head[] = {{(const uint8_t *)exchange->lines, exchange->lines_len},
                          buf_view(&reply->headers),
                          SLICE("\r\n")};
    int result = send_whole(exchange, head, COUNT_OF(head));
    if (result == 0)
        result = send_piece(exchange);
    for (bool more = !exchange->bodyless; result == 0 && more;) {
        buf_clear(&reply->body);
        if (reply->stream->next(reply->stream, &reply->body, &more) != OCH_OK ||
            reply->body.failed || http_server_phase(exchange->server) >= PHASE_CUT)
            return NET_BROKEN;
        charge_reply(exchange, reply->body.cap);
        result = send_piece(exchange);
    }
    const slice last = SLICE("0\r\n\r\n");
    return result == 0 && exchange->chunked && !exchange->bodyless ? send_whole(exchange, &last, 1)
                                                                   : result;
}

int http_exchange_stream(struct http_exchange *exchange)
{
    exchange->stream_result = stream_all(exchange);
    exchange->streamed = true;
    exchange->reply.stream->free(exchange->reply.stream);
    exchange->reply.stream = NULL;
    return exchange->stream_result;
}

int http_exchange_send(struct http_exchange *exchange)
{
    if (exchange->streamed)
        return exchange->stream_result;
    static const char blank_line[] = "\r\n";
    const struct http_reply *reply = &exchange->reply;
    const slice all[] = {
        {(const uint8_t *)exchange->lines, exchange->lines_len},
        buf_view(&reply->headers),
        {(const uint8_t *)blank_line, 2},
        exchange->bodyless ? SLICE_NONE : buf_view(&reply->body),
    };
    struct net_transport *transport = &exchange->conn->transport;
    for (;;) {
        struct iovec parts[COUNT_OF(all)];
        int count = 0;
        uint64_t skip = exchange->sent;
        for (size_t i = 0; i < COUNT_OF(all); i++) {
            if (all[i].len <= skip) {
                skip -= all[i].len;
                continue;
            }
            parts[count].iov_base = (void *)(uintptr_t)(all[i].at + skip); /* only read */
            parts[count++].iov_len = all[i].len - (size_t)skip;
            skip = 0;
        }
        if (count == 0)
            return 0;
        ssize_t put = transport->ops->write(transport, parts, count);
        if (put < 0)
            return (int)put;
        exchange->sent += (uint64_t)put;
    }
}
