/* SPDX-License-Identifier: Apache-2.0 */
/* Requests counted by route and code, and GET /metrics.  A request takes five relaxed additions and no lock; a scrape reads what is there. */
#include "gateway/http/exchange.h"

#include "base/error_page.h"
#include "base/metric.h"

#include <stdio.h>
#include <string.h>

/* The codes that we answer (reply.c); any other counts as the last. */
static const uint16_t codes[] = {200, 201, 400, 401, 403, 404, 405, 409, 410, 412,
                                 413, 415, 422, 429, 500, 501, 503, 504, 0};

struct route_meter {
    _Atomic uint64_t answers[COUNT_OF(codes)];
    struct histogram latency;
} __attribute__((aligned(64))); /* routes do not share cache lines */

struct tally {
    _Atomic uint64_t count;
};

struct meter {
    _Atomic int64_t running;
    struct route_meter *routes; /* route_count() + 1; the last: no route */
    struct tally *errors;       /* error_page_count() + 1; the last: no page */
};

och_code gateway_http_meter_new(struct meter **ret_meter, och_error *err)
{
    size_t bytes = (route_count() + 1) * sizeof(struct route_meter);
    struct meter *meter = MEM_NEW(struct meter);
    struct route_meter *routes = meter ? mem_alloc_aligned(64, bytes) : NULL;
    struct tally *errors = routes ? mem_zalloc((error_page_count() + 1) * sizeof(*errors)) : NULL;
    if (!errors) {
        mem_free_aligned(routes);
        mem_free(meter);
        return FAIL_NO_MEMORY(err, "the gateway");
    }
    memset(routes, 0, bytes);
    meter->routes = routes;
    meter->errors = errors;
    *ret_meter = meter;
    return OCH_OK;
}

void gateway_http_meter_free(struct meter *meter)
{
    if (!meter)
        return;
    mem_free_aligned(meter->routes);
    mem_free(meter->errors);
    mem_free(meter);
}

void meter_begin(struct meter *meter)
{
    atomic_fetch_add_explicit(&meter->running, 1, memory_order_relaxed);
}

void meter_end(struct meter *meter, size_t route, int status, uint64_t duration_ns)
{
    struct route_meter *m = &meter->routes[route];
    size_t code = 0;
    while (code + 1 < COUNT_OF(codes) && codes[code] != status)
        code++;
    atomic_fetch_add_explicit(&m->answers[code], 1, memory_order_relaxed);
    histogram_add(&m->latency, duration_ns);
    atomic_fetch_sub_explicit(&meter->running, 1, memory_order_relaxed);
}

void meter_leave(struct meter *meter)
{
    atomic_fetch_sub_explicit(&meter->running, 1, memory_order_relaxed);
}

void meter_error(struct meter *meter, size_t page)
{
    atomic_fetch_add_explicit(&meter->errors[page].count, 1, memory_order_relaxed);
}

/* ---- GET /metrics ---- */

static void route_labels(struct buf *labels, size_t route)
{
    const char *method = "any", *pattern = "none";
    if (route < route_count())
        route_name(route, &method, &pattern);
    buf_clear(labels);
    buf_printf(labels, "method=\"%s\",route=\"%s%s\"", method, route < route_count() ? "/" : "",
               pattern);
}

static void write_answers(struct meter *meter, struct buf *out, struct buf *labels)
{
    static const char name[] = "ochre_http_requests_total";
    metric_family(out, name, "counter", "Requests answered, by method, route and status code.");
    for (size_t route = 0; route <= route_count(); route++) {
        for (size_t i = 0; i < COUNT_OF(codes); i++) {
            uint64_t count =
                atomic_load_explicit(&meter->routes[route].answers[i], memory_order_relaxed);
            if (count == 0)
                continue;
            route_labels(labels, route);
            if (codes[i])
                buf_printf(labels, ",code=\"%u\"", (unsigned)codes[i]);
            else
                buf_text(labels, ",code=\"other\"");
            metric_u64(out, name, metric_labels(labels), count);
        }
    }
}

static void write_latencies(struct meter *meter, struct buf *out, struct buf *labels)
{
    static const char name[] = "ochre_http_request_duration_seconds";
    metric_family(out, name, "histogram",
                  "From a whole request at hand to its answer ready to be sent, by route; waiting "
                  "for a worker and the network are not in it.");
    for (size_t route = 0; route <= route_count(); route++) {
        if (histogram_count(&meter->routes[route].latency) == 0)
            continue; /* most routes are never called */
        route_labels(labels, route);
        metric_histogram(out, name, metric_labels(labels), &meter->routes[route].latency);
    }
}

static void write_errors(struct meter *meter, struct buf *out)
{
    static const char name[] = "ochre_errors_total";
    metric_family(out, name, "counter", "Errors answered, by code; /help/errors explains them.");
    for (size_t i = 0; i < error_page_count(); i++) {
        uint64_t count = atomic_load_explicit(&meter->errors[i].count, memory_order_relaxed);
        char label[64];
        (void)snprintf(label, sizeof(label), "code=\"%s\"", error_page_at(i)->code);
        if (count > 0)
            metric_u64(out, name, label, count);
    }
}

och_code handle_metrics(struct exchange *x, och_error *err)
{
    struct meter *meter = x->gateway->meter;
    struct buf *out = &x->reply->body;
    struct buf labels CLEANUP(buf_cleanup);
    buf_init(&labels, BUF_MAX_NONE);
    write_answers(meter, out, &labels);
    write_errors(meter, out);
    write_latencies(meter, out, &labels);
    int64_t running = atomic_load_explicit(&meter->running, memory_order_relaxed);
    metric_one(out, "ochre_http_requests_running", "gauge",
               "Requests being answered now, this one included.", (uint64_t)running);
    if (x->gateway->options.write_metrics)
        x->gateway->options.write_metrics(x->gateway->options.metrics_context, out);
    TRY(buf_check(out, "the metrics", err));
    x->reply->content_type = SLICE("text/plain; version=0.0.4; charset=utf-8");
    return OCH_OK;
}
