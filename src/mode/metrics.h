/* SPDX-License-Identifier: Apache-2.0 */
/* Figures of the components for GET /metrics; docs/metrics.md is made from them. */
#ifndef MODE_METRICS_H
#define MODE_METRICS_H

#include "gateway/gateway.h"
#include "store/cache.h"

#define METRICS_COLLECTIONS 20 /* told apart, the largest in memory */

struct metrics_sources {
    const char *version;
    struct clock *clock;
    struct sysdb *sysdb;
    struct wal *wal;
    struct views *views;
    struct query *query;
    struct compactor *compactor;
    struct functions *functions; /* NULL: shown as none */
    struct cache *cache;
    struct budget *budget;
    _Atomic(struct http_server *) http; /* NULL: no sockets */
    /* Set with it: the library, which has no sockets, must not link net/'s server. */
    void (*read_http)(const struct http_server *http, struct http_server_stats *ret_stats);
};
/** gateway_options.write_metrics; context: struct metrics_sources.  Cost: a look at each loaded collection and each one with unflushed batches,
 *  with short locks; nothing is read from disk but the names of collections that the catalogue does not have in memory. */
void metrics_write(void *context, struct buf *out);
#endif
