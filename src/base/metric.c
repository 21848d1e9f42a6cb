/* SPDX-License-Identifier: Apache-2.0 */
/* Counting is relaxed everywhere: a reader may see one sample a moment before another, and says nothing that depends on it. */
#include "base/metric.h"

#include <inttypes.h>

/* From what a cached lookup takes to what nobody waits for. */
static const struct {
    uint64_t ns;
    const char *text;
} bounds[HISTOGRAM_BOUNDS] = {
    {100000, "0.0001"},  {250000, "0.00025"}, {500000, "0.0005"},  {1000000, "0.001"},
    {2500000, "0.0025"}, {5000000, "0.005"},  {10000000, "0.01"},  {25000000, "0.025"},
    {50000000, "0.05"},  {100000000, "0.1"},  {250000000, "0.25"}, {500000000, "0.5"},
    {1000000000, "1"},   {2500000000, "2.5"}, {5000000000, "5"},   {10000000000, "10"},
};

void histogram_add(struct histogram *histogram, uint64_t duration_ns)
{
    size_t i = 0;
    while (i < HISTOGRAM_BOUNDS && duration_ns > bounds[i].ns)
        i++;
    atomic_fetch_add_explicit(&histogram->counts[i], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&histogram->sum_ns, duration_ns, memory_order_relaxed);
}

uint64_t histogram_count(const struct histogram *histogram)
{
    uint64_t count = 0;
    for (size_t i = 0; i <= HISTOGRAM_BOUNDS; i++)
        count += atomic_load_explicit(&histogram->counts[i], memory_order_relaxed);
    return count;
}

void metric_family(struct buf *out, const char *name, const char *type, const char *help)
{
    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void begin(struct buf *out, const char *name, const char *suffix, const char *labels,
                  const char *bound)
{
    bool any = labels && labels[0];
    buf_text(out, name);
    buf_text(out, suffix);
    if (any || bound)
        buf_byte(out, '{');
    if (any)
        buf_text(out, labels);
    if (bound)
        buf_printf(out, "%sle=\"%s\"", any ? "," : "", bound);
    if (any || bound)
        buf_byte(out, '}');
    buf_byte(out, ' ');
}

static void write_nano(struct buf *out, uint64_t billionths)
{
    buf_printf(out, "%" PRIu64 ".%09" PRIu64 "\n", billionths / 1000000000,
               billionths % 1000000000);
}

void metric_u64(struct buf *out, const char *name, const char *labels, uint64_t value)
{
    begin(out, name, "", labels, NULL);
    buf_printf(out, "%" PRIu64 "\n", value);
}

void metric_nano(struct buf *out, const char *name, const char *labels, uint64_t billionths)
{
    begin(out, name, "", labels, NULL);
    write_nano(out, billionths);
}

void metric_histogram(struct buf *out, const char *name, const char *labels,
                      const struct histogram *histogram)
{
    uint64_t count = 0;
    for (size_t i = 0; i <= HISTOGRAM_BOUNDS; i++) {
        count += atomic_load_explicit(&histogram->counts[i], memory_order_relaxed);
        begin(out, name, "_bucket", labels, i < HISTOGRAM_BOUNDS ? bounds[i].text : "+Inf");
        buf_printf(out, "%" PRIu64 "\n", count);
    }
    begin(out, name, "_sum", labels, NULL);
    write_nano(out, atomic_load_explicit(&histogram->sum_ns, memory_order_relaxed));
    begin(out, name, "_count", labels, NULL);
    buf_printf(out, "%" PRIu64 "\n", count);
}

void metric_one(struct buf *out, const char *name, const char *type, const char *help,
                uint64_t value)
{
    metric_family(out, name, type, help);
    metric_u64(out, name, NULL, value);
}

void metric_label(struct buf *labels, const char *name, slice value)
{
    buf_printf(labels, "%s%s=\"", labels->len ? "," : "", name);
    for (size_t i = 0; i < value.len; i++) {
        uint8_t byte = value.at[i];
        if (byte == '\\' || byte == '"')
            buf_byte(labels, '\\');
        if (byte == '\n')
            buf_text(labels, "\\n");
        else
            buf_byte(labels, byte ? byte : '?');
    }
    buf_byte(labels, '"');
}

const char *metric_labels(struct buf *labels)
{
    buf_byte(labels, 0);
    return buf_check(labels, "labels", NULL) == OCH_OK ? (const char *)labels->at : "";
}
