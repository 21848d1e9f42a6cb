/* SPDX-License-Identifier: Apache-2.0 */
/* Views are taken, copied and given back: a pointer to a generation, what counts of its tail, and a clock. */
#include "view/view_internal.h"

#define TAKE_TRIES 5 /* what settling made current may be dropped again before we look */

static och_code view_new(struct collection *c, uint8_t level, struct view **ret_view,
                         och_error *err)
{
    struct view *view = MEM_NEW(struct view);
    if (!view)
        return FAIL_NO_MEMORY(err, "a view");
    mutex_lock(&c->lock);
    struct generation *g = c->current;
    if (!g) {
        mutex_unlock(&c->lock);
        mem_free(view);
        return FAIL(err, OCH_STALE, "not loaded");
    }
    generation_ref(g);
    view->info = (struct view_info){.collection = c->id,
                                    .version = g->version,
                                    .from = g->from,
                                    .to = g->next,
                                    .dimension = g->dimension,
                                    .live_rows = g->live_rows,
                                    .has_expiry = g->has_expiry,
                                    .metric = g->metric,
                                    .recall = g->recall};
    view->slot_count = g->slot_count;
    view->batch_count = g->batch_count;
    view->created_at = g->created_at;
    mutex_unlock(&c->lock);
    view->collection = c;
    view->generation = g;
    view->info.now_ms = (int64_t)(clock_wall_ns(c->views->options.clock) / 1000000);
    if (level == READ_INDEX_ONLY) {
        view->info.to = g->from;
        view->slot_count = 0;
        view->batch_count = 0;
        view->info.live_rows = 0;
    }
    for (uint32_t i = 0; i < g->part_count; i++) {
        view->info.has_expiry |= part_has_expiry(g->parts[i].part);
        if (level == READ_INDEX_ONLY)
            view->info.live_rows += part_rows(g->parts[i].part) -
                                    (g->parts[i].dead.words ? bitset_count(&g->parts[i].dead) : 0);
    }
    /* not when it is the Compactor that looks at parts */
    const struct views_options *o = &c->views->options;
    if (view->info.has_expiry && level != READ_INDEX_ONLY && o->has_expiry &&
        !atomic_exchange(&c->expiry_told, true))
        o->has_expiry(o->wants_context, c->id);
    view->dead = mem_zalloc((g->part_count + 1) * sizeof(*view->dead));
    if (!view->dead) {
        generation_unref(g);
        mem_free(view);
        return FAIL_NO_MEMORY(err, "a view");
    }
    *ret_view = view;
    return OCH_OK;
}

och_code view_acquire(struct views *views, uuid id, uint8_t level, struct view **ret_view,
                      och_error *err)
{
    struct collection *c = collection_take(views, id, true);
    if (!c)
        return FAIL_NO_MEMORY(err, "a view");
    for (int attempt = 0;; attempt++) {
        mutex_lock(&c->lock);
        bool ready = c->current && c->pending.len == 0 && !c->lost && !c->resolving;
        mutex_unlock(&c->lock);
        och_code code = ready ? OCH_OK : collection_settle(c, err);
        if (code == OCH_OK)
            code = view_new(c, level, ret_view, err);
        if (code == OCH_OK)
            return OCH_OK; /* the view keeps the reference on c */
        if (code != OCH_STALE || attempt == TAKE_TRIES) {
            collection_release(c);
            return code;
        }
        error_clear(err);
    }
}

och_code view_copy(const struct view *view, struct view **ret_view, och_error *err)
{
    struct views *views = view->collection->views;
    struct view *copy = MEM_NEW(struct view);
    struct dead_set **dead = mem_zalloc((view->generation->part_count + 1) * sizeof(*view->dead));
    if (!copy || !dead) {
        mem_free(copy);
        mem_free(dead);
        return FAIL_NO_MEMORY(err, "a view");
    }
    copy->collection = view->collection;
    copy->generation = view->generation;
    copy->info = view->info;
    copy->slot_count = view->slot_count;
    copy->batch_count = view->batch_count;
    copy->created_at = view->created_at;
    copy->dead = dead;
    generation_ref(copy->generation);
    mutex_lock(&views->lock);
    copy->collection->refs++; /* not the first one: the view that is copied has one */
    mutex_unlock(&views->lock);
    *ret_view = copy;
    return OCH_OK;
}

size_t view_held_bytes(const struct view *view, uintptr_t *ret_same)
{
    const struct generation *g = view->generation;
    mutex_lock(&view->collection->lock);
    size_t bytes = view->collection->current == g ? 0 : g->payload_bytes + g->charged_bytes;
    mutex_unlock(&view->collection->lock);
    *ret_same = (uintptr_t)g;
    return bytes;
}

void view_release(struct view *view)
{
    if (!view)
        return;
    for (uint32_t i = 0; i < view->generation->part_count; i++)
        dead_set_unref(view->dead[i]);
    mem_free(view->dead);
    if (view->traces) {
        mutex_lock(&view->collection->lock);
        trail_release(view->collection);
        mutex_unlock(&view->collection->lock);
    }
    generation_unref(view->generation);
    collection_release(view->collection);
    mem_free(view);
}

void view_cleanup(struct view **view)
{
    view_release(*view);
}
