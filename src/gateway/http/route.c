/* SPDX-License-Identifier: Apache-2.0 */
/* Which handler a method and path mean (http-api.md §3-11), and the frame around it: admission, errors, CORS. */
#include "gateway/http/exchange.h"

#include "model/limits.h"

#include <string.h>

#define T "api/v2/tenants"
#define D T "/*/databases"
#define C D "/*/collections"

/* '*' is one segment; the last '*' is x->target.  What a route means is told in openapi.json. */
static const struct route {
    const char *method, *pattern;
    exchange_handler handle;
    bool cheap;
} routes[] = {
    {"POST", C "/*/add", handle_add, false},
    {"POST", C "/*/query", handle_query, false},
    {"POST", C "/*/get", handle_get, false},
    {"POST", C "/*/upsert", handle_upsert, false},
    {"POST", C "/*/update", handle_update, false},
    {"POST", C "/*/delete", handle_delete, false},
    {"GET", C "/*/count", handle_count, false},
    {"POST", C "/*/count", handle_count_where, false},
    {"POST", C "/*/search", handle_search, false},
    {"POST", C "/*/facets", handle_facets, false},
    {"POST", C "/*/warm", handle_warm, false},
    {"GET", C "/*/export", handle_export, false},
    {"POST", C "/*/export", handle_export, false},
    {"POST", C "/*/fork", handle_fork, false},
    {"GET", C "/*/fork_count", handle_fork_count, false},
    {"GET", C "/*/versions", handle_version_list, false},
    {"POST", C "/*/versions", handle_version_keep, false},
    {"DELETE", C "/*/versions/*", handle_version_drop, false},
    {"POST", C "/*/restore", handle_restore, false},
    {"GET", C "/*/indexing_status", handle_indexing_status, false},
    {"POST", C "/*/functions/attach", handle_function_attach, false},
    {"GET", C "/*/functions/*", handle_function_get, false},
    {"POST", C "/*/attached_functions/*/detach", handle_function_detach, false},
    {"POST", C "/*/attached_functions/*/add_input", handle_function_add_input, false},
    {"POST", C "/*/conditional/get", handle_conditional_get, false},
    {"POST", C "/*/conditional/commit", handle_conditional_commit, false},
    {"GET", C "/by-id/*", handle_collection_by_id, false},
    {"GET", C "/*", handle_collection_get, false},
    {"PUT", C "/*", handle_collection_update, false},
    {"DELETE", C "/*", handle_collection_drop, false},
    {"GET", C, handle_collection_list, false},
    {"POST", C, handle_collection_create, false},
    {"GET", D "/*/aliases", handle_alias_list, false},
    {"POST", D "/*/aliases", handle_alias_change, false},
    {"GET", D "/*/aliases/*", handle_alias_get, false},
    {"PUT", D "/*/aliases/*", handle_alias_put, false},
    {"DELETE", D "/*/aliases/*", handle_alias_drop, false},
    {"GET", D "/*/collections_count", handle_collection_count, false},
    {"GET", "api/v2/collections/*", handle_collection_by_crn, false},
    {"GET", D "/*", handle_database_get, false},
    {"DELETE", D "/*", handle_database_drop, false},
    {"GET", D, handle_database_list, false},
    {"POST", D, handle_database_create, false},
    {"GET", T "/*", handle_tenant_get, false},
    {"PATCH", T "/*", handle_tenant_update, false},
    {"POST", T, handle_tenant_create, false},
    {"GET", "api/v2", handle_heartbeat, true},
    {"GET", "api/v2/heartbeat", handle_heartbeat, true},
    {"GET", "api/v2/healthcheck", handle_healthcheck, true},
    {"GET", "api/v2/version", handle_version, true},
    {"GET", "api/v2/pre-flight-checks", handle_pre_flight, true},
    {"GET", "api/v2/auth/identity", handle_identity, true},
    {"POST", "api/v2/reset", handle_reset, false},
    {"GET", "metrics", handle_metrics, false},
    {"GET", "openapi.json", handle_openapi, false},
    {"GET", "docs", handle_docs, false},
    {"GET", "docs/*", handle_docs_file, false},
    {"GET", "", handle_root, false},
    {"GET", "help/errors", handle_help_errors, false},
    {"GET", "help/errors/*", handle_help_error, false},
};

size_t route_count(void)
{
    return COUNT_OF(routes);
}

void route_name(size_t route, const char **ret_method, const char **ret_pattern)
{
    assert(route < COUNT_OF(routes));
    *ret_method = routes[route].method;
    *ret_pattern = routes[route].pattern;
}

/* Does a pattern match the segments?  *ret_target: the last segment a '*' stood for, *ret_stars the first two of D and C paths. */
static bool matches(const char *pattern, const struct exchange *x, slice *ret_target,
                    slice ret_stars[2])
{
    size_t stars = 0, i = 0;
    if (!*pattern) /* "/" */
        return x->segment_count == 1 && x->segments[0].len == 0;
    for (const char *at = pattern; *at; i++) {
        size_t len = strcspn(at, "/");
        if (i >= x->segment_count)
            return false;
        if (len == 1 && *at == '*') {
            if (stars < 2)
                ret_stars[stars] = x->segments[i];
            stars++;
            if (stars <= 3)
                *ret_target = x->segments[i];
        } else if (!slice_equal(slice_make(at, len), x->segments[i])) {
            return false;
        }
        at += len;
        at += *at == '/';
    }
    return i == x->segment_count;
}

static bool method_is(slice method, const char *name)
{
    slice wanted = slice_of(name);
    return slice_equal(method, wanted) ||
           (slice_equal(method, SLICE("HEAD")) && slice_equal(wanted, SLICE("GET")));
}

/* Cut at '/', decode each piece by itself: %2F is a '/' inside a name. */
static och_code split_path(struct exchange *x, och_error *err)
{
    slice path = x->request->path;
    if (path.len == 0 || path.at[0] != '/')
        return FAIL(err, OCH_NOT_FOUND, "no such route");
    for (size_t at = 1;;) {
        size_t end = at;
        while (end < path.len && path.at[end] != '/')
            end++;
        if (x->segment_count == EXCHANGE_SEGMENTS_MAX)
            return FAIL(err, OCH_NOT_FOUND, "no such route");
        slice *segment = &x->segments[x->segment_count++];
        if (!http_percent_decode(slice_make(path.at + at, end - at), false, &x->arena, segment) ||
            !json_utf8_valid(*segment))
            return FAIL(err, OCH_INVALID, "Invalid URL: Invalid UTF-8 in `%zu`",
                        x->segment_count - 1);
        if (end == path.len)
            return OCH_OK;
        at = end + 1;
    }
}

static bool is_v1(const struct exchange *x)
{
    return x->segment_count >= 3 && slice_equal(x->segments[0], SLICE("api")) &&
           slice_equal(x->segments[1], SLICE("v1")) && x->segments[2].len > 0;
}

static void reply_no_route(struct exchange *x, const bool allowed[COUNT_OF(routes)])
{
    struct buf allow;
    buf_init(&allow, 256);
    for (size_t i = 0; i < COUNT_OF(routes); i++) {
        if (!allowed[i])
            continue;
        buf_text(&allow, allow.len ? ", " : "");
        buf_text(&allow, strcmp(routes[i].method, "GET") == 0 ? "GET, HEAD" : routes[i].method);
    }
    if (allow.len > 0) {
        reply_error_as(x, 405, "ChromaError", "method_not_allowed",
                       arena_printf(&x->arena, "This path does not take %.*s. It takes %.*s.",
                                    SLICE_ARG(x->request->method), (int)allow.len,
                                    (const char *)allow.at));
        http_reply_header(x->reply, "Allow", "%.*s", (int)allow.len, (const char *)allow.at);
    } else {
        size_t shown = min_size(x->request->path.len, 200);
        reply_error_as(x, 404, "NotFoundError", "no_route",
                       arena_printf(&x->arena,
                                    "No such route: %.*s %.*s. The API is below /api/v2.",
                                    SLICE_ARG(x->request->method), (int)shown,
                                    (const char *)x->request->path.at));
    }
    buf_done(&allow);
}

static const struct route *find_route(struct exchange *x, bool allowed[COUNT_OF(routes)])
{
    for (size_t i = 0; i < COUNT_OF(routes); i++) {
        slice target = SLICE_NONE, stars[2] = {SLICE_NONE, SLICE_NONE};
        if (!matches(routes[i].pattern, x, &target, stars))
            continue;
        /* Counting by filter needs a body; without one this is a wrong method, as the original says. */
        if (routes[i].handle == handle_count_where && x->request->body.len == 0)
            continue;
        if (method_is(x->request->method, routes[i].method)) {
            x->target = target;
            x->scope.tenant = stars[0];
            x->scope.database = stars[1];
            x->scope.limits = x->request->limits;
            x->route = i;
            return &routes[i];
        }
        allowed[i] = true;
    }
    return NULL;
}

void exchange_dispatch(struct exchange *x)
{
    och_error err = {0};
    och_code code = split_path(x, &err);
    if (slice_equal(x->request->method, SLICE("OPTIONS")) &&
        x->gateway->options.cors_origin_count > 0) {
        x->reply->status = 200;
        return;
    }
    if (code != OCH_OK && code != OCH_NOT_FOUND) {
        reply_error(x, code, &err);
        return;
    }
    if (code == OCH_OK && is_v1(x)) {
        reply_error_as(x, 410, "Unimplemented", "v1_gone",
                       "The v1 API is deprecated. Please use /v2 apis");
        return;
    }
    bool allowed[COUNT_OF(routes)] = {false};
    const struct route *route = code == OCH_OK ? find_route(x, allowed) : NULL;
    if (!route) {
        reply_no_route(x, allowed);
        return;
    }
    x->reply->status = 200;
    code = work_check(&x->request->limits, &err);
    if (code == OCH_OK && x->scope.database.at && x->scope.database.len < LIMIT_NAME_MIN)
        code = FAIL(&err, OCH_INVALID, "database name must be at least 3 characters");
    if (code == OCH_OK)
        code = route->handle(x, &err);
    if (code == OCH_OK)
        code = buf_check(&x->reply->body, "the answer", &err);
    if (code != OCH_OK)
        reply_error(x, code, &err);
}

void gateway_http_handle(void *context, const struct http_request *request,
                         struct http_reply *reply)
{
    struct exchange x = {
        .gateway = context, .request = request, .reply = reply, .route = COUNT_OF(routes)};
    struct clock *clock = x.gateway->options.clock;
    uint64_t begin = clock_mono_ns(clock);
    meter_begin(x.gateway->meter);
    arena_init(&x.arena, x.gateway->options.budget, 0);
    exchange_dispatch(&x);
    reply_cors(&x);
    uint64_t duration = clock_mono_ns(clock) - begin;
    if (request_log_wanted(x.gateway)) {
        struct request_line line;
        request_log_begin(&x, &line);
        line.bytes_in = request->body.len;
        request_log_end(x.gateway, &line, reply, duration);
    }
    arena_done(&x.arena);
    meter_end(x.gateway->meter, x.route, reply->status, duration);
}

bool gateway_http_admit(void *context, const struct http_request *head, struct http_reply *reply)
{
    /* The place for identity and rate limits, before the body is read (D25): no keys exist yet, everybody is admitted. */
    (void)context;
    (void)head;
    (void)reply;
    return true;
}

bool gateway_http_is_cheap(void *context, const struct http_request *head)
{
    (void)context;
    slice rest = head->path;
    if (!slice_starts_with(rest, SLICE("/api/v2")))
        return false;
    rest = slice_from(rest, 1);
    for (size_t i = 0; i < COUNT_OF(routes); i++) {
        if (routes[i].cheap && slice_equal(rest, slice_of(routes[i].pattern)))
            return true;
    }
    return false;
}
