/* SPDX-License-Identifier: Apache-2.0 */
/* Errors as the wire has them (http-api.md §2, experience.md §3): the one place where codes become statuses and names. */
#include "base/error_page.h"
#include "base/retry.h"
#include "gateway/http/exchange.h"

#include <inttypes.h>
#include <stdio.h>

#define RETRY_S      1 /* when nobody knows better */
#define SHAPE_PREFIX "Failed to deserialize the JSON body into the target type: "

static const struct {
    och_code code;
    int status;
    const char *name;
} statuses[] = {
    {OCH_INVALID, 400, "InvalidArgumentError"},
    {OCH_SHAPE, 422, "ChromaError"},
    {OCH_NOT_FOUND, 404, "NotFoundError"},
    {OCH_EXISTS, 409, "ChromaError"},
    {OCH_CONFLICT, 409, "ConditionalWriteConflictError"},
    {OCH_STALE, 412, "StaleReadError"},
    {OCH_TOO_LARGE, 413, "ChromaError"},
    {OCH_QUOTA, 422, "ChromaError"},
    {OCH_UNAUTHENTICATED, 401, "ChromaError"},
    {OCH_FORBIDDEN, 403, "ChromaError"},
    {OCH_BUSY, 429, "Backoff"},
    {OCH_UNAVAILABLE, 503, "ChromaError"},
    {OCH_DEADLINE, 504, "ChromaError"},
    {OCH_CANCELLED, 503, "ChromaError"},
    {OCH_UNSUPPORTED, 501, "ChromaError"},
    {OCH_NO_MEMORY, 503, "ChromaError"},
    {OCH_CLOSED, 503, "ChromaError"},
};

static void make_trace_id(struct exchange *x, char text[33])
{
    slice parent = http_request_header(x->request, SLICE("traceparent"));
    if (parent.len >= 55 && parent.at[2] == '-' && parent.at[35] == '-') {
        bool sound = true, any = false; /* all zeros is no id */
        for (size_t i = 0; i < 32; i++) {
            uint8_t c = parent.at[3 + i];
            sound = sound && ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'));
            any = any || c != '0';
            text[i] = (char)c;
        }
        text[32] = '\0';
        if (sound && any)
            return;
    }
    uuid id = gateway_new_id(x->gateway);
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < 16; i++) {
        text[2 * i] = digits[id.bytes[i] >> 4];
        text[2 * i + 1] = digits[id.bytes[i] & 15];
    }
    text[32] = '\0';
}

const char *exchange_trace_id(struct exchange *x)
{
    if (!x->trace_id[0])
        make_trace_id(x, x->trace_id);
    return x->trace_id;
}

/* Messages quote what was sent, and cut it: bytes that are no UTF-8 any more show as '?'. */
static void write_message(struct buf *body, slice text, struct arena *arena)
{
    uint8_t *clean = json_utf8_valid(text) ? NULL : arena_alloc(arena, text.len + 1);
    size_t len = 0;
    for (size_t i = 0; clean && i < text.len;) {
        size_t size = 1;
        while (size < 4 && i + size < text.len && !json_utf8_valid(slice_make(text.at + i, size)))
            size++;
        bool whole = json_utf8_valid(slice_make(text.at + i, size));
        for (size_t j = 0; whole && j < size; j++)
            clean[len++] = text.at[i + j];
        if (!whole)
            clean[len++] = '?';
        i += whole ? size : 1;
    }
    json_write_string(body, clean ? slice_make(clean, len) : text);
}

/* What an error body says besides its kind. */
struct told {
    const char *message;
    slice path, hint; /* len 0: none */
};

static void write_error(struct exchange *x, int status, const char *name, const char *code,
                        const struct told *told)
{
    struct buf *body = &x->reply->body;
    const char *message = told->message ? told->message : "no memory";
    const char *trace_id = exchange_trace_id(x);
    meter_error(x->gateway->meter, error_page_find(slice_of(code)));
    x->reply->status = status;
    x->reply->content_type = SLICE("application/json");
    bool failure = status >= 500 && status != 501;
    if (failure) /* clients show only this member, and it leads to the line of the log */
        message = arena_printf(&x->arena, "%s (trace %s)", message, trace_id);
    if (!message)
        message = "no memory";
    buf_clear(body);
    buf_text(body, "{\"error\":");
    json_write_string(body, slice_of(name));
    buf_text(body, ",\"message\":");
    write_message(body, slice_of(message), &x->arena);
    buf_printf(body, ",\"code\":\"%s\"", code);
    if (told->path.len) {
        buf_text(body, ",\"path\":");
        write_message(body, told->path, &x->arena);
    }
    if (told->hint.len) {
        buf_text(body, ",\"hint\":");
        write_message(body, told->hint, &x->arena);
    }
    buf_printf(body, ",\"help\":\"/help/errors/%s\"", code);
    if (status >= 500)
        buf_printf(body, ",\"trace_id\":\"%s\"", trace_id);
    buf_byte(body, '}');
    http_reply_header(x->reply, "chroma-trace-id", "%s", trace_id);
    if (failure)
        trace_line(x->gateway->options.trace, TRACE_ERROR, "http",
                   told->message ? told->message : "no memory", "request", trace_id, "code", code,
                   NULL);
}

void reply_error_as(struct exchange *x, int status, const char *name, const char *code,
                    const char *message)
{
    write_error(x, status, name, code, &(struct told){.message = message});
}

void gateway_http_refuse(void *context, const struct http_request *request, int status,
                         const char *name, const char *message, struct http_reply *reply)
{
    struct exchange x = {
        .gateway = context, .request = request, .reply = reply, .route = route_count()};
    arena_init(&x.arena, x.gateway->options.budget, 0);
    reply_error_as(&x, status, name, http_error_code(status), message);
    if (request_log_wanted(x.gateway)) {
        struct request_line line;
        request_log_begin(&x, &line);
        request_log_end(x.gateway, &line, reply, 0);
    }
    arena_done(&x.arena);
}

void exchange_at(struct exchange *x, const char *format, ...)
{
    char path[256];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(path, sizeof(path), format, args);
    va_end(args);
    if (len < 0 || (size_t)len >= sizeof(path) || x->error_path)
        return;
    const char *within = x->within ? x->within : "";
    x->error_path = arena_printf(&x->arena, "%s%s%s", within,
                                 *within && path[0] != '[' && path[0] != '\0' ? "." : "", path);
}

static bool is_of_path(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c && strchr("_.[]$", c));
}

/* "Validation error: limit: ...", "cursor: ..." and "Quota exceeded: searches[2].rank: ..." name a member of the body. */
static slice leading_member(const char *message)
{
    static const char *const prefixes[] = {"Validation error: ", "Quota exceeded: "};
    slice text = slice_of(message), whole = SLICE(".__all__"); /* the object, then */
    for (size_t i = 0; i < COUNT_OF(prefixes); i++) {
        slice prefix = slice_of(prefixes[i]);
        if (slice_starts_with(text, prefix))
            text = slice_from(text, prefix.len);
    }
    size_t len = 0;
    while (len < text.len && is_of_path(text.at[len]))
        len++;
    bool named = len > 0 && len + 1 < text.len && text.at[len] == ':' && text.at[len + 1] == ' ' &&
                 text.at[0] >= 'a';
    if (named && len > whole.len &&
        slice_equal(slice_make(text.at + len - whole.len, whole.len), whole))
        len -= whole.len;
    return named ? slice_make(text.at, len) : SLICE_NONE;
}

/* Where in the body the error is: what a handler said, else what the message names. */
static slice path_of(struct exchange *x, och_code code, const och_error *err)
{
    slice marked = slice_make(err->message + err->path_at, err->path_len);
    if (x->error_path)
        return slice_of(x->error_path);
    if (!x->error_root && marked.len == 0)
        return code == OCH_INVALID || code == OCH_SHAPE || code == OCH_QUOTA
                   ? leading_member(err->message)
                   : SLICE_NONE;
    const char *root = x->error_root ? x->error_root : "";
    bool dot = *root && marked.len > 0 && marked.at[0] != '[';
    const char *path = arena_printf(&x->arena, "%s%s%.*s", root, dot ? "." : "", SLICE_ARG(marked));
    return path ? slice_of(path) : SLICE_NONE;
}

/* No memory because the limit says so is a refusal with the figure, not a failure (D24). */
static och_code judge_memory(struct exchange *x, och_error *refusal)
{
    size_t wanted = x->arena.refused_bytes;
    if (!wanted)
        return OCH_NO_MEMORY;
    och_code code = budget_take(x->arena.budget, wanted, "this request", refusal);
    if (code == OCH_OK) { /* others are done meanwhile */
        budget_give(x->arena.budget, wanted);
        code = FAIL(refusal, OCH_BUSY,
                    "this request needed %zu bytes more than the memory limit had free", wanted);
    }
    return code;
}

/* A refusal over memory has a way out beside waiting. */
static void hint_less(struct exchange *x, och_error *err)
{
    if (!err->hint_at && strstr(err->message, "memory"))
        error_hint(err, "Try again in %d s%s%s.", RETRY_S, x->ask_less ? ", or " : "",
                   x->ask_less ? x->ask_less : "");
}

void reply_error(struct exchange *x, och_code code, const och_error *err)
{
    och_error refusal = *err;
    if (code == OCH_NO_MEMORY)
        code = judge_memory(x, &refusal);
    if (code == OCH_BUSY)
        hint_less(x, &refusal);
    if (code == OCH_BUSY)
        err = &refusal;
    int status = 500;
    const char *name = "InternalError";
    for (size_t i = 0; i < COUNT_OF(statuses); i++) {
        if (statuses[i].code == code) {
            status = statuses[i].status;
            name = statuses[i].name;
        }
    }
    const char *message = err->message;
    if (code == OCH_SHAPE && !slice_starts_with(slice_of(message), SLICE(SHAPE_PREFIX)))
        message = arena_printf(&x->arena, SHAPE_PREFIX "%s", message);
    if (x->error_status) {
        status = x->error_status;
        name = "ChromaError";
    }
    struct told told = {.message = message,
                        .path = path_of(x, code, err),
                        .hint = err->hint_at ? slice_of(err->message + err->hint_at) : SLICE_NONE};
    write_error(x, status, name, status == 415 ? "content_type" : error_code_name(code), &told);
    unsigned retry_s = retry_told(err);
    if (status == 429 || status == 503)
        http_reply_header(x->reply, "Retry-After", "%u", retry_s ? retry_s : RETRY_S);
}

void reply_cors(struct exchange *x)
{
    const struct gateway_options *o = &x->gateway->options;
    if (o->cors_origin_count == 0)
        return;
    slice origin = http_request_header(x->request, SLICE("origin"));
    bool any = false, listed = false;
    for (size_t i = 0; i < o->cors_origin_count; i++) {
        any |= slice_equal(o->cors_origins[i], SLICE("*"));
        listed |= slice_equal(o->cors_origins[i], origin);
    }
    if (any)
        http_reply_header(x->reply, "Access-Control-Allow-Origin", "*");
    else if (listed)
        http_reply_header(x->reply, "Access-Control-Allow-Origin", "%.*s", SLICE_ARG(origin));
    if (slice_equal(x->request->method, SLICE("OPTIONS"))) {
        http_reply_header(x->reply, "Access-Control-Allow-Methods", "*");
        http_reply_header(x->reply, "Access-Control-Allow-Headers", "*");
    }
    http_reply_header(x->reply, "Vary",
                      "origin, access-control-request-method, access-control-request-headers");
}
