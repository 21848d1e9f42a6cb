/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies of add, upsert and update that are lines of JSON (import.c): whole, or piece by piece while they arrive (http_intake).  The first piece
 * goes the way of a request; those behind it find its import open. */
#include "gateway/http/exchange.h"

#define BATCH_LINES 1000u

struct import_intake {
    struct http_intake intake; /* first */
    struct gateway *gateway;
    struct gateway_import *import; /* NULL: the first piece has not been there */
    size_t route;
    struct request_line line; /* filled only if it is wanted */
    int status;               /* of the answer, after success */
    bool last;                /* this piece is */
    const och_error *broken;
    uint64_t begin_ns;
};

static bool is_lines(const struct http_request *request)
{
    slice type = http_request_header(request, SLICE("content-type"));
    size_t end = 0;
    while (end < type.len && type.at[end] != ';' && type.at[end] != ' ')
        end++;
    slice name = slice_make(type.at, end);
    return type.at && (slice_equal_nocase(name, SLICE("application/x-ndjson")) ||
                       slice_equal_nocase(name, SLICE("application/jsonl")));
}

bool import_is_wanted(const struct exchange *x)
{
    return is_lines(x->request);
}

static och_code begin(struct exchange *x, enum batch_op op, struct gateway_import **ret_import,
                      och_error *err)
{
    uint64_t lines;
    const struct sysdb_collection *collection CLEANUP(sysdb_collection_cleanup) = NULL;
    TRY(wire_check_size(x, err));
    TRY(wire_query_u64(x, "batch_size", BATCH_LINES, &lines, err));
    if (lines > GATEWAY_IMPORT_LINES_MAX)
        lines = 0; /* refused below */
    TRY(exchange_collection(x, &collection, err));
    struct gateway_import_options options = {.collection = collection->id,
                                             .op = op,
                                             .batch_lines = (uint32_t)lines,
                                             .line_bytes_max =
                                                 (size_t)x->gateway->options.body_bytes_max};
    TRY(exchange_key(x, op, collection->id, &options.key, err));
    return gateway_import_new(x->gateway, &x->scope, &options, ret_import, err);
}

/* Take what there is of the body; after the last of it, answer. */
static och_code take_body(struct exchange *x, struct gateway_import *import, bool last,
                          const och_error *broken, int status, och_error *err)
{
    struct gateway_counts counts;
    och_code code = gateway_import_feed(import, x->request->body, &x->request->limits, err);
    if (code == OCH_OK && last)
        code = gateway_import_end(import, &x->request->limits, broken, &counts, err);
    if (code == OCH_CONFLICT)
        x->error_status = 422; /* another request under the same Idempotency-Key (D17) */
    TRY(code);
    if (last) {
        x->reply->status = status;
        exchange_counts(&x->reply->body, &counts);
    }
    return OCH_OK;
}

och_code import_lines(struct exchange *x, enum batch_op op, int status, och_error *err)
{
    struct import_intake *intake = x->intake;
    struct gateway_import *import = NULL;
    TRY(begin(x, op, &import, err));
    bool last = !intake || intake->last;
    och_code code = take_body(x, import, last, intake ? intake->broken : NULL, status, err);
    if (code == OCH_OK && !last) {
        intake->import = import;
        intake->status = status;
    } else {
        gateway_import_free(import);
    }
    return code;
}

/* ---- piece by piece ---- */

static bool take_piece(struct http_intake *base, const struct http_request *request, bool last,
                       const och_error *broken, struct http_reply *reply)
{
    struct import_intake *intake = (struct import_intake *)(void *)base;
    struct exchange x = {.gateway = intake->gateway,
                         .request = request,
                         .reply = reply,
                         .route = route_count(),
                         .intake = intake};
    och_error err = {0};
    arena_init(&x.arena, intake->gateway->options.budget, 0);
    intake->last = last;
    intake->broken = broken;
    bool first = !intake->import, complete = last;
    if (first) {
        exchange_dispatch(&x);
        intake->route = x.route;
        if (request_log_wanted(x.gateway))
            request_log_begin(&x, &intake->line);
        complete = last || !intake->import;
    } else {
        och_code code = take_body(&x, intake->import, last, broken, intake->status, &err);
        if (code == OCH_OK)
            code = buf_check(&reply->body, "the answer", &err);
        if (code != OCH_OK)
            reply_error(&x, code, &err);
        complete = last || code != OCH_OK;
    }
    intake->line.bytes_in += request->body.len;
    if (complete) {
        struct meter *meter = intake->gateway->meter;
        uint64_t duration = clock_mono_ns(intake->gateway->options.clock) - intake->begin_ns;
        reply_cors(&x);
        if (request_log_wanted(x.gateway))
            request_log_end(x.gateway, &intake->line, reply, duration);
        meter_end(meter, intake->route, reply->status, duration);
        meter_begin(meter); /* free() ends it */
    }
    arena_done(&x.arena);
    return complete;
}

static void intake_free(struct http_intake *base)
{
    struct import_intake *intake = (struct import_intake *)(void *)base;
    meter_leave(intake->gateway->meter);
    gateway_import_free(intake->import);
    mem_free(intake);
}

struct http_intake *gateway_http_intake(void *context, const struct http_request *head)
{
    static const slice ends[] = {{(const uint8_t *)"/add", 4},
                                 {(const uint8_t *)"/upsert", 7},
                                 {(const uint8_t *)"/update", 7}};
    struct gateway *gateway = context;
    bool fits = false;
    for (size_t i = 0; i < COUNT_OF(ends); i++)
        fits |= head->path.len > ends[i].len &&
                slice_equal(slice_from(head->path, head->path.len - ends[i].len), ends[i]);
    if (!fits || !slice_equal(head->method, SLICE("POST")) || !is_lines(head))
        return NULL;
    struct import_intake *intake = MEM_NEW(struct import_intake);
    if (!intake)
        return NULL; /* then it has to fit into one piece */
    intake->intake = (struct http_intake){.feed = take_piece, .free = intake_free};
    intake->gateway = gateway;
    intake->begin_ns = clock_mono_ns(gateway->options.clock);
    meter_begin(gateway->meter);
    return &intake->intake;
}
