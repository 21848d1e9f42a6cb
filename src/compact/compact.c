/* SPDX-License-Identifier: Apache-2.0 */
/* When to compact what: notes about collections, a sweep over the log for idle ones, and three workers: a long merge blocks neither a flush nor the
 * merging of small parts.
 *
 * Priorities.  The longer the tail and the more small parts, the more each query costs: at lowest priority flushes would stand still exactly when
 * queries keep all processors busy, and queries would get slower by what was not flushed.  So the flusher gets a third of what a query gets where
 * both want the same processor.  Merges are nicer while nobody waits for them; those that start while writers are slowed by the number of parts
 * are like flushes: the pace of writers is that of merges, and beside a reader that never pauses nicer ones get a tenth of a processor. */
#include "compact/compact_internal.h"

#include "base/pages.h"

#include "model/limits.h"

#include <inttypes.h>
#include <stdlib.h>

#define MS              1000000ull
#define IDLE_MS_DEFAULT 1000
#define AGE_MS_MAX      30000 /* unflushed longer than this: flushed though still written to */
#define GROUP_MAX       2048  /* collections in one flush */
#define GROUP_BYTES     (64u << 20)
#define RETRY_FIRST_NS  (200 * MS)
#define RETRY_MOST_NS   (60000 * MS)
#define POISON_TRIES    3
#define NICE_FLUSH      5
#define NICE_AWAITED    5 /* merges that writers wait for */
#define NICE_MERGE      10
#define SLOWED_NS       (2000 * MS) /* writers that were slowed by parts so lately wait for merges */

bool compact_stopping(struct compactor *c)
{
    mutex_lock(&c->lock);
    bool stopping = c->stopping;
    mutex_unlock(&c->lock);
    return stopping;
}

uuid compact_new_id(struct compactor *c)
{
    mutex_lock(&c->lock);
    uuid id = uuid_random(&c->random);
    mutex_unlock(&c->lock);
    return id;
}

/* ---- notes: under c->lock ---- */

static struct note *note_find(struct compactor *c, uuid id)
{
    uint64_t *value = map_find(&c->notes, uuid_slice(&id));
    return value ? (struct note *)(uintptr_t)*value : NULL;
}

struct note *compact_note_take(struct compactor *c, uuid id)
{
    struct note *note = note_find(c, id);
    if (note)
        return note;
    note = MEM_NEW(struct note);
    if (!note)
        return NULL;
    note->id = id;
    bool is_new;
    uint64_t *value = map_at(&c->notes, uuid_slice(&note->id), &is_new);
    if (!value) {
        mem_free(note);
        return NULL;
    }
    *value = (uint64_t)(uintptr_t)note;
    return note;
}

static void note_forget_idle(struct compactor *c, struct note *note)
{
    if (note->in_flush || note->in_merge[MERGE_SMALL] || note->in_merge[MERGE_LARGE] ||
        note->in_idle || note->in_expiry || note->failures)
        return;
    (void)map_remove(&c->notes, uuid_slice(&note->id));
    mem_free(note);
}

static void queue_flush(struct compactor *c, struct note *note)
{
    if (note->in_flush)
        return;
    note->in_flush = true;
    TAILQ_INSERT_TAIL(&c->flush_queue, note, flush_link);
}

static void unqueue_flush(struct compactor *c, struct note *note)
{
    if (!note->in_flush)
        return;
    note->in_flush = false;
    TAILQ_REMOVE(&c->flush_queue, note, flush_link);
}

static void queue_merge(struct compactor *c, struct note *note, enum merge_tier tier)
{
    if (!note->in_merge[tier])
        TAILQ_INSERT_TAIL(&c->merge_queue[tier], note, merge_link[tier]);
    note->in_merge[tier] = true;
    cond_signal(&c->merge_wake[tier]);
}

void compact_want_merge(struct compactor *c, uuid id)
{
    mutex_lock(&c->lock);
    struct note *note = compact_note_take(c, id);
    if (note) {
        for (int tier = 0; tier < MERGE_TIERS; tier++)
            queue_merge(c, note, (enum merge_tier)tier);
        if (note->in_idle)
            TAILQ_REMOVE(&c->idle_queue, note, idle_link);
        TAILQ_INSERT_TAIL(&c->idle_queue, note, idle_link);
        note->in_idle = true;
        note->idle_since = now_ns(c);
    }
    mutex_unlock(&c->lock);
}

void compactor_kick(void *compactor, uuid collection)
{
    struct compactor *c = compactor;
    mutex_lock(&c->lock);
    struct note *note = compact_note_take(c, collection);
    if (note)
        queue_flush(c, note);
    c->garbage = true;
    cond_signal(&c->flush_wake);
    cond_signal(&c->merge_wake[MERGE_LARGE]);
    mutex_unlock(&c->lock);
}

/* What one tail's worth of this work takes now, waiting for processors included: writers are slowed by it. */
void compact_learn_pace(struct compactor *c, enum pace which, uint64_t tail_ns)
{
    mutex_lock(&c->lock);
    uint64_t *pace = &c->tail_ns[which];
    *pace = *pace ? (*pace * 3 + tail_ns) / 4 : tail_ns;
    mutex_unlock(&c->lock);
}

/* ---- the flusher ---- */

/* What came of flushing one collection. */
static void note_outcome(struct compactor *c, uuid id, och_code code)
{
    mutex_lock(&c->lock);
    struct note *note = code == OCH_OK ? note_find(c, id) : compact_note_take(c, id);
    if (note && code == OCH_OK) {
        note->failures = 0;
        note->not_before = 0;
        note->rows_seen = 0;
        note_forget_idle(c, note);
    } else if (note) {
        uint64_t wait = RETRY_FIRST_NS << (note->failures < 9 ? note->failures : 9);
        note->failures++;
        note->not_before = now_ns(c) + (wait < RETRY_MOST_NS ? wait : RETRY_MOST_NS);
        queue_flush(c, note);
        c->stats.failures++;
    }
    mutex_unlock(&c->lock);
}

static bool is_poison(och_code code)
{
    return code == OCH_INTERNAL || code == OCH_CORRUPT || code == OCH_INVALID;
}

typedef och_code flush_call(struct compactor *c, uuid id, bool plain, och_error *err);

static och_code flush_whole(struct compactor *c, uuid id, bool plain, och_error *err)
{
    return compact_flush(c, &id, 1, plain, err);
}

static void flush_alone(struct compactor *c, uuid id, flush_call *flush)
{
    mutex_lock(&c->lock);
    struct note *note = note_find(c, id);
    unsigned failures = note ? note->failures : 0;
    mutex_unlock(&c->lock);
    och_error err = {0};
    och_code code = flush(c, id, false, &err);
    if (is_poison(code) && failures + 1 >= POISON_TRIES) {
        error_clear(&err);
        code = flush(c, id, true, &err); /* D19 */
    }
    if (code == OCH_CANCELLED)
        return;
    if (code != OCH_OK) {
        char text[UUID_TEXT_SIZE];
        trace_line(c->options.trace, TRACE_WARN, "compact",
                   "flush failed; the tail stays and it is tried again", "collection",
                   uuid_format(id, text), "reason", err.message, NULL);
    }
    note_outcome(c, id, code);
    if (code == OCH_OK)
        compact_want_merge(
            c, id); /* it was large, or a part of it is damaged: see what the policy says */
}

/* Small ones together; when the group fails, each by itself so that one poison delays nothing but itself. */
static void flush_group(struct compactor *c, const uuid *ids, size_t count)
{
    if (count == 0)
        return;
    if (count > 1) {
        och_error err = {0};
        och_code code = compact_flush(c, ids, count, false, &err);
        if (code == OCH_OK) {
            for (size_t i = 0; i < count; i++)
                note_outcome(c, ids[i], OCH_OK);
            return;
        }
    }
    for (size_t i = 0; i < count && !compact_stopping(c); i++)
        flush_alone(c, ids[i], flush_whole);
}

/* The collection with a large tail that may be tried now; *ret_wait_until: when the next one may. */
static bool pick_large(struct compactor *c, uuid *ret_id, uint64_t *ret_wait_until)
{
    uint64_t now = now_ns(c);
    struct note *note;
    TAILQ_FOREACH(note, &c->flush_queue, flush_link)
    {
        if (note->not_before <= now) {
            *ret_id = note->id;
            unqueue_flush(c, note); /* a kick from here on is a new wish */
            return true;
        }
        if (note->not_before < *ret_wait_until)
            *ret_wait_until = note->not_before;
    }
    return false;
}

/* Flush what nobody has written to since the last sweep, what is old, and, when the log is long, what holds its oldest segments. */
static void sweep(struct compactor *c)
{
    struct wal_stats log;
    wal_stats(c->options.wal, &log);
    mutex_lock(&c->lock);
    bool pressed = c->pressed || log.backlog_bytes > c->options.slow_bytes / 2;
    c->pressed = false;
    mutex_unlock(&c->lock);
    int64_t now_ms = compact_wall_ms(c);
    uuid *group = mem_alloc(GROUP_MAX * sizeof(*group));
    if (!group)
        return;
    size_t count = 0;
    if (pressed) {
        count = wal_oldest_collections(c->options.wal, group, GROUP_MAX);
        flush_group(c, group, count);
        count = 0;
    }
    size_t cursor = 0;
    uint64_t group_bytes = 0, rows, bytes;
    uuid id;
    int64_t oldest_ms;
    while (!compact_stopping(c) &&
           wal_next_collection(c->options.wal, &cursor, &id, &rows, &bytes, &oldest_ms)) {
        mutex_lock(&c->lock);
        struct note *note = compact_note_take(c, id);
        bool waits = note && note->not_before > now_ns(c);
        bool idle =
            note && note->rows_seen == rows && now_ms - oldest_ms >= (int64_t)c->options.idle_ms;
        bool large = rows >= c->options.tail_rows_max || bytes >= c->options.tail_bytes_max;
        if (note)
            note->rows_seen = rows;
        mutex_unlock(&c->lock);
        if (waits || !(idle || large || now_ms - oldest_ms >= AGE_MS_MAX))
            continue;
        group[count++] = id;
        group_bytes += bytes;
        if (count == GROUP_MAX || group_bytes >= GROUP_BYTES) {
            flush_group(c, group, count);
            count = 0;
            group_bytes = 0;
        }
    }
    if (!compact_stopping(c))
        flush_group(c, group, count);
    mem_free(group);
}

/* Versions whose time is over; their files are for the garbage. */
static void give_up_kept(struct compactor *c)
{
    bool any = false;
    och_error err = {0};
    if (compact_expire_kept(c, &any, &err) != OCH_OK)
        trace_line(c->options.trace, TRACE_WARN, "compact",
                   "old versions stay for now; it is tried again", "reason", err.message, NULL);
    if (!any)
        return;
    mutex_lock(&c->lock);
    c->garbage = true;
    cond_signal(&c->merge_wake[MERGE_LARGE]);
    mutex_unlock(&c->lock);
}

static void run_flusher(void *arg)
{
    struct compactor *c = arg;
    thread_be_nice(NICE_FLUSH);
    uint64_t next_sweep = now_ns(c) + c->options.idle_ms * MS;
    mutex_lock(&c->lock);
    while (!c->stopping) {
        uuid id;
        uint64_t wait_until = next_sweep;
        if (pick_large(c, &id, &wait_until)) {
            mutex_unlock(&c->lock);
            uint64_t began = now_ns(c);
            flush_alone(c, id, compact_flush_step);
            compact_learn_pace(c, PACE_FLUSH, now_ns(c) - began);
            mutex_lock(&c->lock);
        } else if (c->pressed || now_ns(c) >= next_sweep) {
            mutex_unlock(&c->lock);
            if (c->tick)
                c->tick(c->tick_context);
            sweep(c);
            give_up_kept(c);
            next_sweep = now_ns(c) + c->options.idle_ms * MS;
            mutex_lock(&c->lock);
        } else {
            (void)cond_wait_until(&c->flush_wake, &c->lock, wait_until);
        }
    }
    mutex_unlock(&c->lock);
}

/* ---- the mergers ---- */

/* A collection whose parts may want merging; idle ones go down to one part. */
static bool pick_merge(struct compactor *c, enum merge_tier tier, uuid *ret_id, bool *ret_idle,
                       uint64_t *ret_wait_until)
{
    struct note *note = TAILQ_FIRST(&c->merge_queue[tier]);
    *ret_idle = !note;
    if (note) {
        TAILQ_REMOVE(&c->merge_queue[tier], note, merge_link[tier]);
        note->in_merge[tier] = false;
        *ret_id = note->id;
        return true;
    }
    if (tier != MERGE_LARGE)
        return false;
    uint64_t now = now_ns(c);
    TAILQ_FOREACH(note, &c->idle_queue, idle_link)
    {
        uint64_t due = note->idle_since + c->options.idle_ms * MS * 2;
        if (due > now) {
            *ret_wait_until = due < *ret_wait_until ? due : *ret_wait_until;
            break;
        }
        /* not at rest, or failing: it does not keep the others */
        if (note->in_flush || note->in_merge[MERGE_SMALL] ||
            uuid_equal(c->running[MERGE_SMALL].id, note->id))
            continue;
        TAILQ_REMOVE(&c->idle_queue, note, idle_link);
        note->in_idle = false;
        *ret_id = note->id;
        return true;
    }
    return compact_pick_expiry(c, ret_id);
}

/* Parts that this tier has made or left may be for the other one. */
static void tell_other(struct compactor *c, uuid id, enum merge_tier tier)
{
    mutex_lock(&c->lock);
    struct note *note = compact_note_take(c, id);
    if (note)
        queue_merge(c, note, tier == MERGE_SMALL ? MERGE_LARGE : MERGE_SMALL);
    mutex_unlock(&c->lock);
}

static void merge_one(struct compactor *c, enum merge_tier tier, uuid id, bool idle)
{
    bool merged = true, any = false;
    och_error err = {0};
    och_code code = OCH_OK;
    struct views_backlog backlog;
    views_backlog(c->options.views, id, &backlog);
    idle = idle && backlog.rows == 0; /* written to: the flush of that will say so again */
    bool at_rest = idle;
    while (merged && code == OCH_OK && !compact_stopping(c)) {
        code = compact_merge_tier(c, id, tier, idle, &merged, &err);
        any |= merged;
        idle &= !merged;
    }
    if (any)
        tell_other(c, id, tier);
    if (at_rest && code != OCH_CANCELLED)
        compact_plan_expiry(c, id);
    if (code != OCH_OK && code != OCH_CANCELLED) {
        char text[UUID_TEXT_SIZE];
        trace_line(c->options.trace, TRACE_WARN, "compact",
                   "merge failed; the parts stay as they are", "collection", uuid_format(id, text),
                   "reason", err.message, NULL);
    }
    mutex_lock(&c->lock);
    c->stats.failures += code != OCH_OK && code != OCH_CANCELLED;
    struct note *note = note_find(c, id);
    if (note)
        note_forget_idle(c, note);
    mutex_unlock(&c->lock);
}

/* Niceness once taken cannot be given back without privileges, but a new thread has none. */
struct apart {
    struct compactor *c;
    uuid id;
    enum merge_tier tier;
    bool idle, awaited;
};

static void run_apart(void *arg)
{
    const struct apart *a = arg;
    thread_be_nice(a->awaited ? NICE_AWAITED : NICE_MERGE);
    merge_one(a->c, a->tier, a->id, a->idle);
}

static void merge_apart(struct apart *apart)
{
    struct thread thread;
    const char *name = apart->tier == MERGE_SMALL ? "ochre-merge" : "ochre-merge-big";
    if (thread_start(&thread, name, 1u << 20, run_apart, apart, NULL) == OCH_OK)
        thread_join(&thread);
    else
        merge_one(apart->c, apart->tier, apart->id, apart->idle);
}

static void collect_garbage(struct compactor *c)
{
    och_error err = {0};
    bool more = false;
    if (compact_garbage(c, false, &more, &err) != OCH_OK) {
        trace_line(c->options.trace, TRACE_WARN, "compact",
                   "removing old files failed; it is tried again", "reason", err.message, NULL);
        more = true;
    }
    if (!more)
        return;
    mutex_lock(&c->lock);
    c->garbage = true; /* a view holds some of it */
    mutex_unlock(&c->lock);
}

static void run_merger(struct compactor *c, enum merge_tier tier)
{
    bool cleans = tier == MERGE_LARGE;
    uint64_t next_garbage = 0;
    mutex_lock(&c->lock);
    while (!c->stopping) {
        uuid id;
        bool idle;
        uint64_t now = now_ns(c), wait_until = now + 1000 * MS;
        if (cleans && c->garbage && now >= next_garbage) {
            c->garbage = false;
            mutex_unlock(&c->lock);
            collect_garbage(c);
            next_garbage = now_ns(c) + 500 * MS;
            mutex_lock(&c->lock);
        } else if (pick_merge(c, tier, &id, &idle, &wait_until)) {
            bool awaited = c->slowed_ns && now_ns(c) - c->slowed_ns < SLOWED_NS;
            mutex_unlock(&c->lock);
            merge_apart(&(struct apart){c, id, tier, idle, awaited});
            mutex_lock(&c->lock);
        } else {
            bool woken = cond_wait_until(&c->merge_wake[tier], &c->lock,
                                         cleans && c->garbage ? next_garbage : wait_until);
            if (cleans && !woken)
                pages_trim();
        }
    }
    mutex_unlock(&c->lock);
}

static void run_small_merger(void *arg)
{
    run_merger(arg, MERGE_SMALL);
}

static void run_large_merger(void *arg)
{
    run_merger(arg, MERGE_LARGE);
}

/* ---- by request ---- */

static och_code bring_to_rest(struct compactor *c, uuid id, bool merge_to_one, och_error *err)
{
    TRY(compact_flush(c, &id, 1, false, err));
    bool merged = true;
    while (merged)
        TRY(compact_merge(c, id, merge_to_one, &merged, err));
    return OCH_OK;
}

och_code compactor_flush(struct compactor *c, uuid collection, och_error *err)
{
    return compact_flush(c, &collection, 1, false, err);
}

och_code compactor_run(struct compactor *c, const uuid *collection, bool merge_to_one,
                       och_error *err)
{
    if (collection) {
        TRY(bring_to_rest(c, *collection, merge_to_one, err));
    } else {
        int64_t cursor = 0;
        uuid ids[64];
        size_t count = 0;
        do {
            TRY(sysdb_collection_walk(c->options.sysdb, &cursor, COUNT_OF(ids), ids, &count, err));
            TRY(compact_flush(c, ids, count, false, err));
            for (size_t i = 0; i < count; i++)
                TRY(bring_to_rest(c, ids[i], merge_to_one, err));
        } while (count > 0);
    }
    bool more;
    return compact_garbage(c, false, &more, err);
}

void compactor_stats(struct compactor *c, struct compactor_stats *ret_stats)
{
    mutex_lock(&c->lock);
    *ret_stats = c->stats;
    mutex_unlock(&c->lock);
}

/* ---- life ---- */

och_code compactor_new(const struct compactor_options *options, struct compactor **ret_compactor,
                       och_error *err)
{
    struct compactor *c = MEM_NEW(struct compactor);
    if (!c)
        return FAIL_NO_MEMORY(err, "the compactor");
    c->options = *options;
    struct compactor_options *o = &c->options;
    o->tail_rows_max = o->tail_rows_max ? o->tail_rows_max : LIMIT_TAIL_ROWS;
    o->tail_bytes_max = o->tail_bytes_max ? o->tail_bytes_max : LIMIT_TAIL_BYTES;
    o->part_rows_max = o->part_rows_max ? o->part_rows_max : LIMIT_PART_ROWS;
    o->slow_bytes = o->slow_bytes ? o->slow_bytes : LIMIT_LOG_SLOW_BYTES;
    o->idle_ms = o->idle_ms ? o->idle_ms : IDLE_MS_DEFAULT;
    mutex_init(&c->flush_lock, RANK_FLUSH);
    mutex_init(&c->merge_locks[MERGE_SMALL], RANK_MERGE_SMALL);
    mutex_init(&c->merge_locks[MERGE_LARGE], RANK_MERGE_LARGE);
    mutex_init(&c->commit_lock, RANK_COMMIT);
    mutex_init(&c->lock, RANK_LEAF);
    cond_init(&c->flush_wake);
    map_init(&c->notes);
    TAILQ_INIT(&c->flush_queue);
    for (int tier = 0; tier < MERGE_TIERS; tier++) {
        cond_init(&c->merge_wake[tier]);
        TAILQ_INIT(&c->merge_queue[tier]);
    }
    TAILQ_INIT(&c->idle_queue);
    TAILQ_INIT(&c->expiry_list);
    c->expiry_ms = INT64_MAX;
    random_seed_system(&c->random);
    *ret_compactor = c;
    return OCH_OK;
}

void compactor_set_tick(struct compactor *c, void (*tick)(void *context), void *context)
{
    assert(!c->flusher.started);
    c->tick = tick;
    c->tick_context = context;
}

och_code compactor_start(struct compactor *c, och_error *err)
{
    bool more;
    TRY(compact_garbage(c, true, &more, err));
    TRY(thread_start(&c->flusher, "ochre-flush", 1u << 20, run_flusher, c, err));
    TRY(thread_start(&c->mergers[MERGE_SMALL], "ochre-merge", 1u << 20, run_small_merger, c, err));
    return thread_start(&c->mergers[MERGE_LARGE], "ochre-merge-big", 1u << 20, run_large_merger, c,
                        err);
}

void compactor_stop(struct compactor *c)
{
    mutex_lock(&c->lock);
    c->stopping = true;
    atomic_store(&c->cancel.fired, true);
    cond_broadcast(&c->flush_wake);
    for (int tier = 0; tier < MERGE_TIERS; tier++)
        cond_broadcast(&c->merge_wake[tier]);
    mutex_unlock(&c->lock);
    if (c->flusher.started)
        thread_join(&c->flusher);
    for (int tier = 0; tier < MERGE_TIERS; tier++)
        if (c->mergers[tier].started)
            thread_join(&c->mergers[tier]);
}

void compactor_free(struct compactor *c)
{
    if (!c)
        return;
    size_t cursor = 0;
    slice key;
    uint64_t value;
    while (map_next(&c->notes, &cursor, &key, &value))
        mem_free((struct note *)(uintptr_t)value);
    map_done(&c->notes);
    cond_done(&c->flush_wake);
    for (int tier = 0; tier < MERGE_TIERS; tier++) {
        cond_done(&c->merge_wake[tier]);
        mutex_done(&c->merge_locks[tier]);
    }
    mutex_done(&c->lock);
    mutex_done(&c->commit_lock);
    mutex_done(&c->flush_lock);
    mem_free(c);
}
