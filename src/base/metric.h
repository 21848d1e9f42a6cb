/* SPDX-License-Identifier: Apache-2.0 */
/* Figures for the outside: histograms that any thread may add to, and the text that Prometheus reads (exposition format 0.0.4). */
#ifndef BASE_METRIC_H
#define BASE_METRIC_H

#include "base/buf.h"

#include <stdatomic.h>

#define HISTOGRAM_BOUNDS 16

/** Durations by length; zeroed memory is an empty one.  Adding takes no lock. */
struct histogram {
    _Atomic uint64_t
        counts[HISTOGRAM_BOUNDS + 1]; /* not cumulative; the last is above all bounds */
    _Atomic uint64_t sum_ns;
};
void histogram_add(struct histogram *histogram, uint64_t duration_ns);
uint64_t histogram_count(const struct histogram *histogram);

/** The head of a family; all its samples follow before the next one begins.  type: "counter", "gauge", "histogram". */
void metric_family(struct buf *out, const char *name, const char *type, const char *help);
/** One sample.  labels: as metric_label made them, or NULL. */
void metric_u64(struct buf *out, const char *name, const char *labels, uint64_t value);
/** One sample given in billionths: ns as seconds, say.  Written without the host's locale. */
void metric_nano(struct buf *out, const char *name, const char *labels, uint64_t billionths);
/** The samples of a histogram in seconds: _bucket, _sum, _count, which agree with each other. */
void metric_histogram(struct buf *out, const char *name, const char *labels,
                      const struct histogram *histogram);
/** A family of one sample without labels. */
void metric_one(struct buf *out, const char *name, const char *type, const char *help,
                uint64_t value);
/** Add name="value" to labels, with a comma where needed and what is special escaped.  The caller ends the text with a NUL byte, see metric_labels. */
void metric_label(struct buf *labels, const char *name, slice value);
/** Labels as a C string; "" when there was no memory. */
const char *metric_labels(struct buf *labels);
#endif
