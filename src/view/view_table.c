/* SPDX-License-Identifier: Apache-2.0 */
/* The table of collections: deliveries come in, generations are loaded and swapped, idle ones are let go. */
#include "view/view_internal.h"

#include "model/limits.h"

#include <inttypes.h>

#define IDLE_MAX_DEFAULT 4096
#define SETTLE_ROWS      1024 /* a writer resolves what waits once it is this much */
#define SETTLE_SEARCHED  64   /* the same where queries would have to */
#define LOAD_TRIES       5

/* ---- collections ---- */

static void drop_pending(struct collection *c)
{
    for (size_t i = 0; i < c->pending.len; i++)
        wal_batch_unref(c->pending.at[i]);
    c->pending.len = 0;
    c->pending_rows = 0;
}

static void collection_free(struct collection *c)
{
    drop_pending(c);
    VEC_DONE(&c->pending);
    trail_done(c);
    prepared_done(c);
    generation_unref(c->current);
    mutex_done(&c->lock);
    mutex_done(&c->resolve_lock);
    mem_free(c);
}

/* Take a reference, making the entry if missing.  NULL: no memory. */
struct collection *collection_take(struct views *views, uuid id, bool make)
{
    struct collection *c = NULL;
    mutex_lock(&views->lock);
    uint64_t *value = map_find(&views->table, uuid_slice(&id));
    if (value) {
        c = (struct collection *)(uintptr_t)*value;
    } else if (make && (c = MEM_NEW(struct collection)) != NULL) {
        c->id = id;
        c->views = views;
        mutex_init(&c->resolve_lock, RANK_VIEW_RESOLVE);
        mutex_init(&c->lock, RANK_VIEW);
        bool is_new;
        value = map_at(&views->table, uuid_slice(&c->id), &is_new);
        if (value) {
            *value = (uint64_t)(uintptr_t)c;
        } else {
            collection_free(c);
            c = NULL;
        }
    }
    if (c) {
        c->refs++;
        if (c->idle) {
            TAILQ_REMOVE(&views->idle, c, link);
            c->idle = false;
            views->idle_count--;
        }
    }
    mutex_unlock(&views->lock);
    return c;
}

/* Under views->lock: take an entry out of the table; the caller frees it outside the lock. */
static void unlink_idle(struct views *views, struct collection *c)
{
    TAILQ_REMOVE(&views->idle, c, link);
    c->idle = false;
    views->idle_count--;
    (void)map_remove(&views->table, uuid_slice(&c->id));
}

void collection_release(struct collection *c)
{
    struct views *views = c->views;
    struct collection *victim = NULL;
    mutex_lock(&views->lock);
    assert(c->refs > 0);
    if (--c->refs == 0) {
        if (c->forgotten) {
            victim = c;
        } else {
            TAILQ_INSERT_TAIL(&views->idle, c, link);
            c->idle = true;
            views->idle_count++;
            size_t most = views->options.idle_max ? views->options.idle_max : IDLE_MAX_DEFAULT;
            if (views->idle_count > most) {
                victim = TAILQ_FIRST(&views->idle);
                unlink_idle(views, victim);
            }
        }
    }
    mutex_unlock(&views->lock);
    if (victim)
        collection_free(victim);
}

/* ---- deliveries ---- */

static void deliver(void *context, struct wal_batch *batch)
{
    struct views *views = context;
    struct collection *c = collection_take(views, batch->collection, true);
    if (!c)
        return; /* the next load reads it from the log */
    mutex_lock(&c->lock);
    if (VEC_PUSH(&c->pending, batch)) {
        wal_batch_ref(batch);
        c->pending_rows += batch->count;
    } else {
        c->lost = true;
    }
    mutex_unlock(&c->lock);
    collection_release(c);
}

struct wal_sink views_sink(struct views *views)
{
    return (struct wal_sink){.context = views, .deliver = deliver};
}

/* ---- loading, resolving, installing: under resolve_lock ---- */

static void want_compaction(struct collection *c, const struct generation *g)
{
    const struct views_options *o = &c->views->options;
    if (!o->wants_compaction)
        return;
    uint64_t rows = g->next - g->from;
    if (rows < o->tail_rows_max && g->payload_bytes < o->tail_bytes_max)
        return;
    if (!atomic_exchange(&c->wanted, true))
        o->wants_compaction(o->wants_context, c->id);
}

/* Make what the generation resolved visible to the next readers. */
static void publish(struct collection *c, struct generation *g, const struct wal_batch *batch)
{
    struct views *views = c->views;
    mutex_lock(&c->lock);
    atomic_fetch_add(&views->tail_rows, g->slots_made - g->slot_count);
    atomic_fetch_add(&views->tail_bytes, batch->payload->len);
    g->payload_bytes += batch->payload->len;
    g->slot_count = g->slots_made;
    g->live_rows = g->live_made;
    g->has_expiry = g->expiry_made;
    g->next = batch->first + batch->count;
    g->created_at = batch->created_at;
    g->batch_count = g->batches.len;
    g->dimension = batch->dimension ? batch->dimension : g->dimension;
    mutex_unlock(&c->lock);
}

static och_code resolve_batch(struct collection *c, struct generation *g, struct wal_batch *batch,
                              och_error *err)
{
    if (batch->first + batch->count <= g->next)
        return OCH_OK; /* known already */
    if (batch->first != g->next)
        return FAIL(err, OCH_STALE, "log of the collection jumps from %" PRIu64 " to %" PRIu64,
                    g->next, batch->first);
    TRY(generation_resolve(g, batch, err));
    publish(c, g, batch);
    return OCH_OK;
}

/* Batches of the log from g->next on. */
static och_code resolve_log(struct collection *c, struct generation *g, och_error *err)
{
    struct wal_batch **batches = NULL;
    size_t count = 0;
    TRY(wal_tail(c->views->options.wal, c->id, g->next, &batches, &count, err));
    och_code code = OCH_OK;
    for (size_t i = 0; i < count; i++) {
        if (code == OCH_OK)
            code = resolve_batch(c, g, batches[i], err);
        wal_batch_unref(batches[i]);
    }
    mem_free(batches);
    return code;
}

/* Resolve everything delivered so far and make `g` current, which takes the caller's reference unless it is current already.  What was
 * taken from `pending` is acknowledged, maybe: until `g` shows it no reader may start on a generation that does not. */
static och_code catch_up(struct collection *c, struct generation *g, och_error *err)
{
    for (;;) {
        mutex_lock(&c->lock);
        __typeof__(c->pending) taken = c->pending;
        bool lost = c->lost;
        if (taken.len == 0 && !lost) {
            struct generation *old = c->current == g ? NULL : c->current;
            c->current = g;
            c->resolving = false;
            mutex_unlock(&c->lock);
            generation_unref(old);
            return OCH_OK;
        }
        memset(&c->pending, 0, sizeof(c->pending));
        c->pending_rows = 0;
        c->lost = false;
        c->resolving = true;
        mutex_unlock(&c->lock);
        och_code code = lost ? resolve_log(c, g, err) : OCH_OK;
        for (size_t i = 0; i < taken.len; i++) {
            if (code == OCH_OK)
                code = resolve_batch(c, g, taken.at[i], err);
            wal_batch_unref(taken.at[i]);
        }
        VEC_DONE(&taken);
        if (code != OCH_OK)
            return code; /* `resolving` stays: the caller lets the generation go */
    }
}

/* The next reader loads it anew, and is told if something is wrong. */
static void drop_current(struct collection *c)
{
    mutex_lock(&c->lock);
    struct generation *old = c->current;
    c->current = NULL;
    mutex_unlock(&c->lock);
    generation_unref(old);
}

static och_code load(struct collection *c, och_error *err)
{
    for (int attempt = 1;; attempt++) {
        struct generation *g = NULL;
        och_code code = generation_new(c, NULL, &g, err);
        if (code == OCH_OK)
            code = resolve_log(c, g, err);
        if (code == OCH_OK)
            code = catch_up(c, g, err);
        if (code == OCH_OK) {
            want_compaction(c, g);
            return OCH_OK;
        }
        generation_unref(g);
        /* A flush committed and trimmed between reading version and log: look again. */
        if (code != OCH_STALE)
            return code;
        if (attempt == LOAD_TRIES)
            return FAIL(err, OCH_INTERNAL,
                        "the log and the catalogue disagree on a collection's offsets");
        error_clear(err);
    }
}

/* After a failure the tail may be half made: forget it, the next try reads it anew. */
och_code collection_settle(struct collection *c, och_error *err)
{
    mutex_lock(&c->resolve_lock);
    och_code code = OCH_OK;
    if (!c->current) {
        code = load(c, err);
    } else {
        code = catch_up(c, c->current, err);
        if (code == OCH_OK) {
            want_compaction(c, c->current);
        } else {
            drop_current(c);
            if (code == OCH_STALE) {
                error_clear(err);
                code = load(c, err);
            }
        }
    }
    mutex_unlock(&c->resolve_lock);
    return code;
}

static void follow_codes(struct collection *c)
{
    mutex_lock(&c->lock);
    struct generation *g = c->current;
    uint32_t slots = g ? g->slot_count : 0;
    if (g)
        generation_ref(g);
    mutex_unlock(&c->lock);
    if (g)
        tail_codes_follow(g, slots);
    generation_unref(g);
}

void views_settle(struct views *views, uuid id)
{
    struct collection *c = collection_take(views, id, false);
    if (!c)
        return;
    mutex_lock(&c->lock);
    bool searched = c->current && tail_codes_asked(c->current);
    bool much = c->pending_rows >= (searched ? SETTLE_SEARCHED : SETTLE_ROWS);
    mutex_unlock(&c->lock);
    if (much)
        IGNORE(collection_settle(c, NULL)); /* a failure meets the next reader, who can say so */
    if (searched)
        follow_codes(c);
    collection_release(c);
}

och_code views_install(struct views *views, uuid id, och_error *err)
{
    struct collection *c = collection_take(views, id, false);
    if (!c)
        return OCH_OK; /* nobody has it loaded */
    atomic_store(&c->wanted, false);
    atomic_store(&c->rebuild_wanted, false);
    mutex_lock(&c->lock);
    struct generation *old = c->current;
    if (old)
        generation_ref(old);
    size_t known = old ? old->batch_count : 0;
    mutex_unlock(&c->lock);
    struct generation *g = NULL;
    och_code code = old ? generation_new(c, old, &g, err) : OCH_OK;
    /* The bulk beside the readers and writers of the old one, the rest under the lock. */
    bool locked = false;
    for (size_t i = 0; old && code == OCH_OK; i++) {
        if (i >= known && !locked) {
            tail_codes_begin(g, old);
            mutex_lock(&c->resolve_lock);
            locked = true;
            known = old->batch_count;
        }
        if (i >= known)
            break;
        mutex_lock(&old->lock);
        struct wal_batch *batch = old->batches.at[i].batch;
        mutex_unlock(&old->lock);
        code = resolve_batch(c, g, batch, err);
    }
    if (!locked)
        mutex_lock(&c->resolve_lock);
    if (old && code == OCH_OK && c->current == old) {
        trail_keep(c, old, g);
        code = catch_up(c, g, err);
        if (code == OCH_OK)
            want_compaction(c, take(&g));
        else
            drop_current(c);
    } else {
        drop_current(c); /* loaded meanwhile, maybe from the version before */
    }
    mutex_unlock(&c->resolve_lock);
    generation_unref(g);
    generation_unref(old);
    collection_release(c);
    return code;
}

/* ---- another state in place of the one of now ---- */

struct views_replace {
    struct collection collection; /* the very same: only its type is another one */
};

och_code views_replace_begin(struct views *views, uuid id, struct views_replace **ret_replace,
                             och_error *err)
{
    struct collection *c = collection_take(views, id, true);
    if (!c)
        return FAIL_NO_MEMORY(err, "a view");
    mutex_lock(&c->resolve_lock);
    *ret_replace = (struct views_replace *)(void *)c;
    return OCH_OK;
}

void views_replace_end(struct views_replace *replace)
{
    struct collection *c = &replace->collection;
    drop_current(c);
    trail_forget(c);
    atomic_store(&c->wanted, false);
    atomic_store(&c->rebuild_wanted, false);
    mutex_unlock(&c->resolve_lock);
    collection_release(c);
}

void views_drop_kept(struct views *views)
{
    TAILQ_HEAD(, collection) gone = TAILQ_HEAD_INITIALIZER(gone);
    mutex_lock(&views->lock);
    struct collection *c = TAILQ_FIRST(&views->idle);
    while (c) {
        struct collection *next = TAILQ_NEXT(c, link);
        if (atomic_load(&c->kept)) {
            unlink_idle(views, c);
            TAILQ_INSERT_TAIL(&gone, c, link);
        }
        c = next;
    }
    mutex_unlock(&views->lock);
    while ((c = TAILQ_FIRST(&gone)) != NULL) {
        TAILQ_REMOVE(&gone, c, link);
        collection_free(c);
    }
}

void views_forget(struct views *views, uuid id)
{
    struct collection *victim = NULL;
    mutex_lock(&views->lock);
    uint64_t *value = map_find(&views->table, uuid_slice(&id));
    if (value) {
        struct collection *c = (struct collection *)(uintptr_t)*value;
        if (c->idle) {
            unlink_idle(views, c);
            victim = c;
        } else {
            c->forgotten = true;
            (void)map_remove(&views->table, uuid_slice(&c->id));
        }
    }
    mutex_unlock(&views->lock);
    if (victim)
        collection_free(victim);
}

/* ---- life ---- */

och_code views_new(const struct views_options *options, struct views **ret_views, och_error *err)
{
    struct views *views = MEM_NEW(struct views);
    if (!views)
        return FAIL_NO_MEMORY(err, "views");
    views->options = *options;
    if (views->options.tail_rows_max == 0)
        views->options.tail_rows_max = LIMIT_TAIL_ROWS;
    if (views->options.tail_bytes_max == 0)
        views->options.tail_bytes_max = LIMIT_TAIL_BYTES;
    mutex_init(&views->lock, RANK_VIEW_TABLE);
    mutex_init(&views->files_lock, RANK_LEAF);
    map_init(&views->table);
    map_init(&views->files);
    TAILQ_INIT(&views->idle);
    *ret_views = views;
    return OCH_OK;
}

void views_free(struct views *views)
{
    if (!views)
        return;
    struct collection *c;
    while ((c = TAILQ_FIRST(&views->idle)) != NULL) {
        unlink_idle(views, c);
        collection_free(c);
    }
    assert(views->table.len == 0); /* every view was released */
    map_done(&views->table);
    map_done(&views->files);
    mutex_done(&views->files_lock);
    mutex_done(&views->lock);
    mem_free(views);
}

void views_set_wal(struct views *views, struct wal *wal)
{
    views->options.wal = wal;
}

void views_set_wants(struct views *views, void (*wants)(void *context, uuid collection),
                     void (*has_expiry)(void *context, uuid collection), void *context)
{
    views->options.wants_compaction = wants;
    views->options.has_expiry = has_expiry;
    views->options.wants_context = context;
}

void views_stats(struct views *views, struct views_stats *ret_stats)
{
    mutex_lock(&views->lock);
    *ret_stats = (struct views_stats){.collections_loaded = views->table.len};
    size_t cursor = 0;
    slice key;
    uint64_t value;
    while (map_next(&views->table, &cursor, &key, &value)) {
        struct collection *c = (struct collection *)(uintptr_t)value;
        mutex_lock(&c->lock);
        for (uint32_t i = 0; c->current && i < c->current->part_count; i++)
            ret_stats->damaged_parts += part_damage(c->current->parts[i].part) != 0;
        mutex_unlock(&c->lock);
    }
    mutex_unlock(&views->lock);
    ret_stats->tail_rows = atomic_load(&views->tail_rows);
    ret_stats->tail_bytes = atomic_load(&views->tail_bytes);
}

uint64_t views_tail_bytes(struct views *views)
{
    return atomic_load_explicit(&views->tail_bytes, memory_order_relaxed); // an estimate will do
}

void views_backlog(struct views *views, uuid id, struct views_backlog *ret_backlog)
{
    struct views_backlog *b = ret_backlog;
    *b = (struct views_backlog){0};
    struct collection *c = collection_take(views, id, false);
    if (!c)
        return;
    uint32_t small = views->options.tail_rows_max + views->options.tail_rows_max / 2;
    mutex_lock(&c->lock);
    const struct generation *g = c->current;
    if (g) {
        b->rows = g->next - g->from;
        b->bytes = g->payload_bytes;
        for (uint32_t i = 0; i < g->part_count; i++)
            b->small_parts += part_rows(g->parts[i].part) <= small;
        b->large_parts = g->part_count - b->small_parts;
    }
    for (size_t i = 0; i < c->pending.len; i++)
        b->bytes += c->pending.at[i]->payload->len;
    b->rows += c->pending_rows;
    mutex_unlock(&c->lock);
    collection_release(c);
}
