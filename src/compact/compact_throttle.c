/* SPDX-License-Identifier: Apache-2.0 */
/* The pace of writers (D18): slowed to that of flushes and merges, refused when that does not do; a refusal tells when compaction will have gone
 * far enough, if what it did lately goes on. */
#include "base/retry.h"
#include "compact/compact_internal.h"

#include "model/limits.h"

#include <inttypes.h>

#define REFUSE_TAILS  32
#define REFUSE_SHARE  8   /* of the memory limit: tails above it leave compaction no room */
#define SLOW_TAILS    1.5 /* tails' worth of unflushed rows from which on writers are slowed */
#define ADMIT_MOST_NS 5000000000ull /* a writer that had to wait longer is refused */
#define SLOW_PARTS \
    4 /* small parts from which on writers are slowed, at the limit to the pace of merges */
#define SLOW_LARGE 2 /* large parts above their limit: writers have the pace of their merges */

/* Nanoseconds that a writer of so many rows owes: as long as compaction takes for them, more the further it is behind.  Under lock, as what follows. */
static uint64_t debt(struct compactor *c, const struct views_backlog *backlog, double tails,
                     uint32_t count)
{
    double share = backlog->rows ? tails / (double)backlog->rows * count : 0, ns = 0;
    double merged = (double)count / c->options.tail_rows_max;
    if (tails > SLOW_TAILS)
        ns += share * (double)c->tail_ns[PACE_FLUSH] * (tails - SLOW_TAILS + 1);
    if (backlog->small_parts > SLOW_PARTS)
        ns += merged * (double)c->tail_ns[PACE_MERGE] *
              (double)(backlog->small_parts - SLOW_PARTS) / (LIMIT_TAIL_PARTS - SLOW_PARTS);
    if (backlog->large_parts > LIMIT_LARGE_PARTS)
        ns += merged * (double)c->tail_ns[PACE_LARGE] *
              (double)(backlog->large_parts - LIMIT_LARGE_PARTS) / SLOW_LARGE;
    /* no more than one waits for: what a giant batch owes is not for those who come when it is long merged */
    return ns < ADMIT_MOST_NS ? (uint64_t)ns : ADMIT_MOST_NS;
}

/* Until tails are shorter by so much: flushes are whole ones.  0: none was seen yet. */
static uint64_t flush_ns(const struct compactor *c, double tails)
{
    return (uint64_t)((tails + 1) * (double)c->tail_ns[PACE_FLUSH]);
}

/* The tails of all collections together leave compaction no room in memory. */
static och_code check_memory(struct compactor *c, och_error *err)
{
    int64_t limit = c->options.budget ? c->options.budget->limit_bytes : 0;
    uint64_t all = views_tail_bytes(c->options.views), most = (uint64_t)limit / REFUSE_SHARE;
    if (limit <= 0 || all <= most)
        return OCH_OK;
    mutex_lock(&c->lock);
    c->pressed = true;
    cond_signal(&c->flush_wake);
    uint64_t after_ns = flush_ns(c, (double)(all - most) / (double)c->options.tail_bytes_max);
    mutex_unlock(&c->lock);
    och_code code = FAIL(err, OCH_BUSY,
                         "%" PRIu64 " MiB wait to be compacted, more than 1/%d of the memory limit",
                         all >> 20, REFUSE_SHARE);
    retry_hint(err, after_ns);
    return code;
}

och_code compactor_throttle(struct compactor *c, uuid collection, uint32_t count,
                            uint64_t *ret_wait_ns, och_error *err)
{
    *ret_wait_ns = 0;
    if (!c->flusher.started)
        return OCH_OK; /* nobody would make it shorter meanwhile */
    struct views_backlog backlog;
    views_backlog(c->options.views, collection, &backlog);
    double tails = (double)backlog.rows / c->options.tail_rows_max,
           by_bytes = (double)backlog.bytes / (double)c->options.tail_bytes_max;
    tails = tails > by_bytes ? tails : by_bytes;
    TRY(check_memory(c, err));
    mutex_lock(&c->lock);
    uint64_t now = now_ns(c), owed = debt(c, &backlog, tails, count);
    uint64_t begin = c->admit_ns > now ? c->admit_ns : now, until = begin + owed, after_ns = 0;
    bool too_long = tails >= REFUSE_TAILS, too_late = owed && begin - now > ADMIT_MOST_NS;
    bool refused = too_long || too_late;
    if (owed && !refused)
        c->admit_ns = until; /* whoever comes next goes on behind this one */
    if (too_long)
        after_ns = flush_ns(c, tails - REFUSE_TAILS);
    if (too_late && begin - now - ADMIT_MOST_NS > after_ns)
        after_ns = begin - now - ADMIT_MOST_NS;
    if (backlog.small_parts > SLOW_PARTS || backlog.large_parts > LIMIT_LARGE_PARTS)
        c->slowed_ns = now;
    mutex_unlock(&c->lock);
    if (refused) {
        och_code code = FAIL(
            err, OCH_BUSY,
            "%" PRIu64 " rows, %.1f times the usual tail, and %zu small parts wait to be compacted",
            backlog.rows, tails, backlog.small_parts);
        retry_hint(err, after_ns);
        return code;
    }
    if (owed)
        *ret_wait_ns = until - now < ADMIT_MOST_NS ? until - now : ADMIT_MOST_NS;
    return OCH_OK;
}
