/* SPDX-License-Identifier: Apache-2.0 */
/* Which ids were touched since a view, across versions.  The tail's batches tell it as far as they reach back; of those that a new version left
 * behind, while somebody traces the collection, the ids are copied into a page: some 30 bytes an operation instead of its whole payload. */
#include "view/view_internal.h"

#include <inttypes.h>

struct trail_page {
    _Atomic uint32_t refs;
    uint64_t first; /* offset of its first operation; one id each from there on */
    uint32_t count;
    size_t bytes;
    uint64_t made_ns;
    uint32_t *ends; /* behind the struct, then the ids */
    uint8_t *ids;
};

static uint64_t page_end(const struct trail_page *page)
{
    return page->first + page->count;
}

static void page_unref(struct views *views, struct trail_page *page)
{
    if (atomic_fetch_sub(&page->refs, 1) != 1)
        return;
    atomic_fetch_sub(&views->trail_bytes, page->bytes);
    budget_give(views->options.budget, page->bytes);
    mem_free(page);
}

/* Under collection.lock, or when nobody else has the collection. */
static void drop_pages(struct collection *c, size_t count)
{
    struct trail *trail = &c->trail;
    for (size_t i = 0; i < count; i++)
        page_unref(c->views, trail->at[i]);
    trail->len -= count;
    if (trail->len)
        memmove(trail->at, trail->at + count, trail->len * sizeof(*trail->at));
}

void trail_forget(struct collection *c)
{
    mutex_lock(&c->lock);
    drop_pages(c, c->trail.len);
    mutex_unlock(&c->lock);
}

void trail_done(struct collection *c)
{
    drop_pages(c, c->trail.len);
    VEC_DONE(&c->trail);
}

/* NULL: no memory, or too much of it. */
static struct trail_page *page_new(struct views *views, uint64_t first, uint32_t count,
                                   size_t id_bytes)
{
    size_t bytes;
    if (id_bytes > UINT32_MAX || mul_overflows(count, sizeof(uint32_t), &bytes))
        return NULL;
    bytes += sizeof(struct trail_page) + id_bytes;
    if (atomic_load(&views->trail_bytes) + bytes > TRAIL_BYTES_MAX ||
        budget_take(views->options.budget, bytes, "ids touched", NULL) != OCH_OK)
        return NULL;
    struct trail_page *page = mem_alloc(bytes);
    if (!page) {
        budget_give(views->options.budget, bytes);
        return NULL;
    }
    atomic_fetch_add(&views->trail_bytes, bytes);
    *page = (struct trail_page){.first = first,
                                .count = count,
                                .bytes = bytes,
                                .made_ns = clock_mono_ns(views->options.clock)};
    atomic_init(&page->refs, 1);
    page->ends = (uint32_t *)(void *)(page + 1);
    page->ids = (uint8_t *)(page->ends + count);
    return page;
}

/* Operations [from, to) of a generation's tail. */
static struct trail_page *page_of(struct generation *g, uint64_t from, uint64_t to)
{
    size_t id_bytes = 0;
    struct trail_page *page = NULL;
    uint32_t made = 0, end = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < g->batch_count; i++) {
            const struct wal_batch *batch = g->batches.at[i].batch;
            for (uint32_t j = 0; j < batch->count; j++) {
                if (batch->first + j < from || batch->first + j >= to)
                    continue;
                slice id = batch_id(&batch->rows, j);
                if (!page) {
                    id_bytes += id.len;
                    continue;
                }
                memcpy(page->ids + end, id.at, id.len);
                end += (uint32_t)id.len;
                page->ends[made++] = end;
            }
        }
        if (pass == 0)
            page = to - from > UINT32_MAX
                       ? NULL
                       : page_new(g->views, from, (uint32_t)(to - from), id_bytes);
        if (!page)
            return NULL;
    }
    assert(made == page->count && end == id_bytes);
    return page;
}

void trail_keep(struct collection *c, struct generation *old, const struct generation *next)
{
    uint64_t now = clock_mono_ns(c->views->options.clock), from = old->from;
    mutex_lock(&c->lock);
    struct trail *trail = &c->trail;
    size_t gone = c->tracing ? 0 : trail->len;
    while (gone < trail->len && now - trail->at[gone]->made_ns >= TRAIL_AGE_NS)
        gone++;
    drop_pages(c, gone);
    if (trail->len && page_end(trail->at[trail->len - 1]) < old->from)
        drop_pages(c, trail->len); /* a version was missed: what came before is of no use */
    if (trail->len)
        from = page_end(trail->at[trail->len - 1]);
    bool wanted = c->tracing && from < next->from && next->from <= old->next;
    mutex_unlock(&c->lock);
    if (!wanted)
        return;
    struct trail_page *page = page_of(old, from, next->from);
    mutex_lock(&c->lock);
    if (!page && trail->len) { /* others may have the room; the oldest are the first to go */
        drop_pages(c, trail->len);
        mutex_unlock(&c->lock);
        page = page_of(old, from, next->from);
        mutex_lock(&c->lock);
    }
    if (page && !VEC_PUSH(trail, page))
        page_unref(c->views, page);
    mutex_unlock(&c->lock);
}

void view_trace(struct view *view)
{
    struct collection *c = view->collection;
    mutex_lock(&c->lock);
    c->tracing += !view->traces;
    view->traces = true;
    mutex_unlock(&c->lock);
}

/* Under collection.lock. */
void trail_release(struct collection *c)
{
    assert(c->tracing > 0);
    if (--c->tracing == 0)
        drop_pages(c, c->trail.len);
}

/* The pages that reach from `since` up to `upto` without a gap, counted.  OCH_STALE: there are none such. */
static och_code take_pages(struct collection *c, uint64_t since, uint64_t upto,
                           struct trail *ret_pages, och_error *err)
{
    uint64_t at = since;
    bool memory = true;
    mutex_lock(&c->lock);
    for (size_t i = 0; i < c->trail.len && at < upto && memory; i++) {
        struct trail_page *page = c->trail.at[i];
        if (page->first > at || page_end(page) <= at)
            continue;
        memory = VEC_PUSH(ret_pages, page);
        if (memory)
            atomic_fetch_add(&page->refs, 1);
        at = page_end(page);
    }
    mutex_unlock(&c->lock);
    if (!memory)
        return FAIL_NO_MEMORY(err, "ids touched");
    if (at < upto)
        return FAIL(err, OCH_STALE,
                    "what was written between offsets %" PRIu64 " and %" PRIu64
                    " is no longer known by its ids",
                    at, upto);
    return OCH_OK;
}

/* False: enough. */
static bool walk_page(const struct trail_page *page, uint64_t since, uint64_t upto, view_touch each,
                      void *context)
{
    for (uint32_t i = 0; i < page->count; i++) {
        uint64_t offset = page->first + i;
        uint32_t start = i ? page->ends[i - 1] : 0;
        if (offset >= since && offset < upto &&
            !each(context, slice_make(page->ids + start, page->ends[i] - start)))
            return false;
    }
    return true;
}

och_code view_touches(struct view *view, uint64_t since, view_touch each, void *context,
                      och_error *err)
{
    struct collection *c = view->collection;
    uint64_t from = view->info.from;
    bool more = true;
    if (since < from) {
        struct trail pages = {0};
        och_code code = take_pages(c, since, from, &pages, err);
        for (size_t i = 0; i < pages.len; i++) {
            more = more && code == OCH_OK && walk_page(pages.at[i], since, from, each, context);
            page_unref(c->views, pages.at[i]);
        }
        VEC_DONE(&pages);
        TRY(code);
    }
    for (size_t i = view->batch_count; i-- > 0 && more;) {
        const struct wal_batch *batch = view_batch(view, i);
        if (batch->first + batch->count <= since)
            break; /* newest first: the rest is older still */
        for (uint32_t j = 0; j < batch->count && more; j++) {
            if (batch->first + j >= since)
                more = each(context, batch_id(&batch->rows, j));
        }
    }
    return OCH_OK;
}
