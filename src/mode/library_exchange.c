/* SPDX-License-Identifier: Apache-2.0 */
/* ochre.h: an HTTP exchange without a socket, through the handler that sockets use.  What net/ would do to a message is done here: the target is
 * split, headers are checked, the body's limit and the deadline are applied, the answer's header lines become a list. */
#include "mode/library_internal.h"

#include "net/http.h"

#include <ctype.h>

#define BODY_PADDING 64 /* readable bytes behind a body (http.h) */

/* ---- the request ---- */

static bool is_token(slice text)
{
    for (size_t i = 0; i < text.len; i++)
        if (text.at[i] >= 0x7f ||
            (!isalnum(text.at[i]) && !strchr("!#$%&'*+-.^_`|~", text.at[i])) || text.at[i] == 0)
            return false;
    return text.len > 0;
}

static bool is_clean(slice text, uint8_t least)
{
    for (size_t i = 0; i < text.len; i++)
        if ((text.at[i] < least && text.at[i] != '\t') || text.at[i] == 0x7f)
            return false;
    return true;
}

static och_code read_line(const och_request *given, struct http_request *request, och_error *err)
{
    slice target = library_slice(given->target);
    request->method = library_slice(given->method);
    if (!is_token(request->method))
        return FAIL(err, OCH_INVALID, "och_request.method is no HTTP method");
    if (target.len == 0 || target.at[0] != '/' || !is_clean(target, 0x21) ||
        memchr(target.at, '\t', target.len))
        return FAIL(err, OCH_INVALID,
                    "och_request.target must begin with \"/\" and hold no blanks or control bytes");
    const uint8_t *mark = memchr(target.at, '?', target.len);
    request->target = target;
    request->path = mark ? slice_make(target.at, (size_t)(mark - target.at)) : target;
    request->query = mark ? slice_from(target, (size_t)(mark - target.at) + 1) : SLICE_NONE;
    return OCH_OK;
}

static och_code read_headers(const och_request *given, struct arena *arena,
                             struct http_request *request, och_error *err)
{
    if (given->header_count && !given->headers)
        return FAIL(err, OCH_INVALID, "och_request.headers is NULL");
    if (given->header_count > HTTP_HEADERS_MAX)
        return FAIL(err, OCH_INVALID, "%zu headers, at most %d are taken", given->header_count,
                    HTTP_HEADERS_MAX);
    struct http_header *headers = ARENA_ARRAY(arena, struct http_header, given->header_count + 1);
    if (!headers)
        return FAIL_NO_MEMORY(err, "headers");
    for (size_t i = 0; i < given->header_count; i++) {
        och_bytes name = given->headers[i].name, value = given->headers[i].value;
        if ((!name.at && name.len) || (!value.at && value.len) || !is_token(library_slice(name)) ||
            !is_clean(library_slice(value), 0x20))
            return FAIL(err, OCH_INVALID, "och_request.headers[%zu] is no HTTP header", i);
        headers[i] = (struct http_header){library_slice(name), library_slice(value)};
    }
    request->headers = headers;
    request->header_count = given->header_count;
    return OCH_OK;
}

static och_code copy_body(const och_database *database, const och_request *given,
                          struct arena *arena, struct http_request *request,
                          struct http_intake **ret_intake, och_error *err)
{
    if (!given->body.at && given->body.len)
        return FAIL(err, OCH_INVALID, "och_request.body: %zu bytes at NULL", given->body.len);
    struct http_handler handler = gateway_handler(database_gateway(database->database));
    *ret_intake = handler.intake(handler.context, request);
    if (*ret_intake) /* it is copied piece by piece */
        return OCH_OK;
    if (given->body.len > (uint64_t)database->settings.max_payload_size_bytes) {
        request->body_size_refused = given->body.len; /* the gateway answers 413 */
        return OCH_OK;
    }
    uint8_t *copy = arena_alloc(arena, given->body.len + BODY_PADDING);
    if (!copy)
        return FAIL(err, OCH_BUSY, "no memory for a body of %zu bytes within memory_limit",
                    given->body.len);
    if (given->body.len)
        memcpy(copy, given->body.at, given->body.len);
    memset(copy + given->body.len, 0, BODY_PADDING);
    request->body = slice_make(copy, given->body.len);
    return OCH_OK;
}

/* Whole milliseconds of the header, 0 when it is absent or no number. */
static uint64_t asked_deadline_ms(const struct http_request *request)
{
    slice text = http_request_header(request, SLICE("ochre-deadline-ms"));
    uint64_t value = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.at[i] < '0' || text.at[i] > '9' || value > UINT32_MAX)
            return 0;
        value = value * 10 + (uint64_t)(text.at[i] - '0');
    }
    return value;
}

static void set_limits(const och_database *database, const och_request *given,
                       struct http_request *request)
{
    uint64_t ms = given->deadline_ms ? given->deadline_ms : asked_deadline_ms(request);
    if (!ms)
        ms = (uint64_t)database->settings.deadline_ms;
    if (ms > (uint64_t)database->settings.deadline_max_ms)
        ms = (uint64_t)database->settings.deadline_max_ms;
    request->received_mono_ns = sched_mono_ns();
    request->limits.deadline_mono_ns = request->received_mono_ns + ms * UINT64_C(1000000);
    request->limits.cancel = given->cancel ? &given->cancel->cancel : NULL;
}

static och_code read_request(const och_database *database, const och_request *given,
                             struct arena *arena, struct http_request *request,
                             struct http_intake **ret_intake, och_error *err)
{
    if ((!given->method.at && given->method.len) || (!given->target.at && given->target.len))
        return FAIL(err, OCH_INVALID, "och_request: bytes at NULL");
    *request = (struct http_request){.peer = SLICE("in-process")};
    TRY(read_line(given, request, err));
    TRY(read_headers(given, arena, request, err));
    set_limits(database, given, request);
    return copy_body(database, given, arena, request, ret_intake, err);
}

/* ---- the response ---- */

/* "Name: value\r\n" lines; names and values point into the reply. */
static och_code list_headers(och_response *response, och_error *err)
{
    slice lines = buf_view(&response->reply.headers);
    size_t most = 1;
    for (size_t i = 0; i < lines.len; i++)
        most += lines.at[i] == '\n';
    size_t bytes;
    if (mul_overflows(most, sizeof(och_header), &bytes))
        return FAIL_NO_MEMORY(err, "headers");
    response->headers = mem_alloc(bytes);
    if (!response->headers)
        return FAIL_NO_MEMORY(err, "headers");
    slice type = response->reply.content_type;
    response->headers[response->header_count++] = (och_header){
        och_text("content-type"), library_bytes(type.len ? type : SLICE("application/json"))};
    while (lines.len > 0) {
        const uint8_t *end = memchr(lines.at, '\n', lines.len);
        size_t len = end ? (size_t)(end - lines.at) : lines.len;
        const uint8_t *colon = memchr(lines.at, ':', len);
        if (colon) {
            slice name = slice_make(lines.at, (size_t)(colon - lines.at));
            slice value = slice_make(colon + 1, len - name.len - 1);
            while (value.len && (value.at[0] == ' ' || value.at[0] == '\t'))
                value = slice_from(value, 1);
            while (value.len && (value.at[value.len - 1] == '\r' || value.at[value.len - 1] == ' '))
                value.len--;
            response->headers[response->header_count++] =
                (och_header){library_bytes(name), library_bytes(value)};
        }
        lines = slice_from(lines, end ? len + 1 : len);
    }
    return OCH_OK;
}

/* A body of any length; each piece has the time of a request. */
static och_code take_in_pieces(struct http_request *request, slice body, struct http_intake *intake,
                               struct http_reply *reply, och_error *err)
{
    uint64_t allowed_ns = request->limits.deadline_mono_ns - request->received_mono_ns;
    size_t most = min_size(body.len, HTTP_PIECE_BYTES);
    uint8_t *piece = mem_alloc(most + BODY_PADDING);
    if (!piece)
        return FAIL_NO_MEMORY(err, "a piece of the body");
    for (bool complete = false; !complete;) {
        size_t len = min_size(body.len, HTTP_PIECE_BYTES);
        if (len)
            memcpy(piece, body.at, len);
        memset(piece + len, 0, BODY_PADDING);
        body = slice_from(body, len);
        request->body = slice_make(piece, len);
        request->received_mono_ns = sched_mono_ns();
        request->limits.deadline_mono_ns = request->received_mono_ns + allowed_ns;
        complete = intake->feed(intake, request, body.len == 0, NULL, reply);
    }
    mem_free(piece);
    return OCH_OK;
}

static och_code exchange(och_database *database, struct http_request *request, slice body,
                         struct http_intake *intake, och_response *response, och_error *err)
{
    struct http_handler handler = gateway_handler(database_gateway(database->database));
    struct http_request head = *request;
    head.body = SLICE_NONE;
    bool admitted = !handler.admit || handler.admit(handler.context, &head, &response->reply);
    if (admitted && intake)
        TRY(take_in_pieces(request, body, intake, &response->reply, err));
    else if (admitted)
        handler.handle(handler.context, request, &response->reply);
    if (slice_equal(request->method, SLICE("HEAD")))
        buf_clear(&response->reply.body);
    TRY(buf_check(&response->reply.body, "the answer", err));
    TRY(buf_check(&response->reply.headers, "the answer", err));
    return list_headers(response, err);
}

static och_code run(och_database *database, const och_request *request, struct arena *arena,
                    och_response **ret_response, och_error *err)
{
    och_request known = OCH_REQUEST;
    struct http_request inner;
    TRY(library_read_struct(request, sizeof(known), &known, sizeof(known), "och_request", err));
    struct http_intake *intake = NULL;
    TRY(read_request(database, &known, arena, &inner, &intake, err));
    och_response *response = MEM_NEW(och_response);
    if (!response) {
        if (intake)
            intake->free(intake);
        return FAIL_NO_MEMORY(err, "a response");
    }
    http_reply_init(&response->reply, BUF_MAX_NONE);
    och_code code = exchange(database, &inner, library_slice(known.body), intake, response, err);
    if (intake)
        intake->free(intake);
    if (code == OCH_OK)
        *ret_response = response;
    else
        och_response_free(response);
    return code;
}

och_code och_database_exchange(och_database *database, const och_request *request,
                               och_response **ret_response, och_error *err)
{
    if (!ret_response)
        return FAIL(err, OCH_INVALID, "ret_response is NULL");
    TRY(library_enter(database, err));
    struct arena arena;
    arena_init(&arena, database_budget(database->database), 0);
    och_code code = run(database, request, &arena, ret_response, err);
    arena_done(&arena);
    library_leave(database);
    return code;
}

int och_response_status(const och_response *response)
{
    return response ? response->reply.status : 0;
}

och_bytes och_response_body(const och_response *response)
{
    return library_bytes(response ? buf_view(&response->reply.body) : SLICE_NONE);
}

size_t och_response_headers(const och_response *response, const och_header **ret_headers)
{
    if (ret_headers)
        *ret_headers = response ? response->headers : NULL;
    return response ? response->header_count : 0;
}

void och_response_free(och_response *response)
{
    if (!response)
        return;
    http_reply_done(&response->reply);
    mem_free(response->headers);
    mem_free(response);
}
