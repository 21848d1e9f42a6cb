/* SPDX-License-Identifier: Apache-2.0 */
/* The line of the log that each request leaves, if the setting `log_requests` says so (experience.md §4). */
#include "gateway/http/exchange.h"

#include <inttypes.h>
#include <stdio.h>

bool request_log_wanted(const struct gateway *gateway)
{
    const struct trace *trace = gateway->options.trace;
    return gateway->options.log_requests && trace && trace->level >= TRACE_INFO;
}

/* A name from the outside; cut, at a character's edge. */
static void copy_name(slice name, char *ret, size_t size)
{
    size_t len = min_size(name.len, size - 1);
    while (len > 0 && len < name.len && (name.at[len] & 0xC0) == 0x80)
        len--;
    bool fits = len > 0 && json_utf8_valid(slice_make(name.at, len));
    (void)snprintf(ret, size, "%.*s", fits ? (int)len : 1, fits ? (const char *)name.at : "-");
}

void request_log_begin(struct exchange *x, struct request_line *ret_line)
{
    const char *method, *pattern;
    *ret_line = (struct request_line){.route = x->route};
    if (x->route < route_count()) {
        route_name(x->route, &method, &pattern);
        (void)snprintf(ret_line->method, sizeof(ret_line->method), "%s", method);
    } else {
        copy_name(x->request->method, ret_line->method, sizeof(ret_line->method));
    }
    copy_name(x->scope.tenant, ret_line->tenant, sizeof(ret_line->tenant));
    (void)snprintf(ret_line->id, sizeof(ret_line->id), "%s", exchange_trace_id(x));
}

void request_log_end(const struct gateway *gateway, const struct request_line *line,
                     const struct http_reply *reply, uint64_t duration_ns)
{
    const char *method, *pattern = "-";
    char route[160], status[12], ms[32], in[24], out[24];
    bool known = line->route < route_count();
    if (known)
        route_name(line->route, &method, &pattern);
    (void)snprintf(route, sizeof(route), "%s%s", known ? "/" : "", pattern);
    (void)snprintf(status, sizeof(status), "%d", reply->status);
    (void)snprintf(ms, sizeof(ms), "%.3f", (double)duration_ns / 1e6);
    (void)snprintf(in, sizeof(in), "%" PRIu64, line->bytes_in);
    (void)snprintf(out, sizeof(out), "%zu", reply->body.len);
    trace_event(gateway->options.trace, TRACE_INFO, "http", "request", "method", line->method,
                "route", route, "status", status, "ms", ms, "in", in, "out",
                reply->stream ? "-" : out, /* what follows is not made yet */
                "tenant", line->tenant, "key", "-", "request", line->id, NULL);
}
