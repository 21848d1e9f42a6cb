/* SPDX-License-Identifier: Apache-2.0 */
/* The order in which a search comes to the lists. */
#include "index/vector/vector_search_internal.h"

#include <stdlib.h>

#define KEY_BUCKETS 512

static inline bool comes_before(const struct ranked_list *a, const struct ranked_list *b)
{
    return a->key < b->key || (a->key == b->key && a->list < b->list);
}

/* Where a key lies between the least and the most. */
static inline uint32_t bucket_of(float key, float least, float scale)
{
    float place = (key - least) * scale;
    /* bytes that nobody wrote may make it no number */
    return place >= 0 && place < KEY_BUCKETS ? (uint32_t)place : KEY_BUCKETS - 1;
}

/* Buckets that together hold at least `want` lists; all of them if their keys are alike. */
static uint32_t buckets_for(const uint32_t *counts, uint32_t want)
{
    uint32_t bucket = 0, sum = 0;
    while (bucket < KEY_BUCKETS - 1 && (sum += counts[bucket]) < want)
        bucket++;
    return bucket + 1;
}

/* Insertion: the items lie near their places already. */
static void order_inside(struct ranked_list *items, uint32_t len)
{
    for (uint32_t i = 1; i < len; i++) {
        struct ranked_list item = items[i];
        uint32_t at = i;
        for (; at && comes_before(&item, &items[at - 1]); at--)
            items[at] = items[at - 1];
        items[at] = item;
    }
}

static int compare_ranked(const void *a, const void *b)
{
    const struct ranked_list *x = a, *y = b;
    return comes_before(y, x) - comes_before(x, y);
}

/* All lists not yet visited, or those of the nearest buckets that hold `want`, in ascending order: by buckets of equal width, then within
 * them.  In order and not as a heap: then it is known what to fetch into the cache. */
void search_rank_lists(struct vector_search *s, uint32_t want)
{
    uint32_t lists = s->index->lists, counts[KEY_BUCKETS] = {0}, starts[KEY_BUCKETS];
    bool shared = s->query->plan.key != 0 && want < lists;
    float least = s->key_least, scale = KEY_BUCKETS / (s->key_most - least);
    float limit = shared ? s->query->plan.key : INFINITY;
    if (!(scale > 0) || !isfinite(scale))
        scale = 0;
    for (uint32_t j = 0; j < lists; j++)
        counts[bucket_of(s->keys[j], least, scale)]++;
    uint32_t buckets = shared || want >= lists ? KEY_BUCKETS : buckets_for(counts, want), sum = 0;
    for (uint32_t i = 0; i < buckets; i++) {
        starts[i] = sum;
        sum += counts[i];
        counts[i] = 0;
    }
    for (uint32_t j = 0; j < lists; j++) {
        uint32_t bucket = bucket_of(s->keys[j], least, scale);
        if (bucket < buckets && s->keys[j] <= limit && !(s->visited[j / 64] >> j % 64 & 1))
            s->order[starts[bucket] + counts[bucket]++] = (struct ranked_list){s->keys[j], j};
    }
    s->order_at = s->order_len = 0;
    for (uint32_t i = 0; i < buckets; i++) {
        struct ranked_list *items = s->order + starts[i];
        if (counts[i] > 32)
            qsort(items, counts[i], sizeof(*items), compare_ranked);
        else
            order_inside(items, counts[i]);
        memmove(s->order + s->order_len, items, counts[i] * sizeof(*items));
        s->order_len += counts[i];
    }
}

/* Distances and keys of the lists that may be visited: `all`, or those of the nearest cells; keys of the others are no numbers. */
och_code search_place_lists(struct vector_search *s, bool all, och_error *err)
{
    const struct vector_index *index = s->index;
    const struct vector_plan *plan = &s->query->plan;
    struct vector_range *ranges;
    uint32_t count;
    all = all || plan->mode != VECTOR_BUDGET;
    TRY(vector_coarse(index, &s->query8, all ? index->lists : plan->lists, s->arena, s->deltas,
                      &ranges, &count, err));
    s->some_lists = count != 1 || ranges[0].to - ranges[0].from < index->lists;
    for (uint32_t j = 0; s->some_lists && j < index->lists; j++)
        s->keys[j] = NAN;
    s->key_least = INFINITY;
    s->key_most = -INFINITY;
    for (uint32_t r = 0; r < count; r++) {
        for (uint32_t j = ranges[r].from; j < ranges[r].to; j++) {
            float rms2 = load_f32(index->list + (size_t)j * VECTOR_LIST_SIZE + 12);
            float key = plan->mode == VECTOR_BUDGET
                            ? s->deltas[j] + index->gamma * rms2
                            : vector_nearest(s->deltas[j], rms2, plan->reach);
            s->keys[j] = key;
            s->key_least = key < s->key_least ? key : s->key_least;
            s->key_most = key > s->key_most ? key : s->key_most;
        }
    }
    return OCH_OK;
}

och_code search_coarse(struct vector_search *s, och_error *err)
{
    const struct vector_index *index = s->index;
    uint32_t lists = (uint32_t)round_up(index->lists, CODE_LISTS);
    s->deltas = arena_alloc_aligned(s->arena, 64, 2 * sizeof(float) * lists);
    s->order = arena_alloc(s->arena, sizeof(*s->order) * index->lists);
    s->visited = ARENA_ARRAY(s->arena, uint64_t, (index->lists + 63) / 64);
    if (!s->deltas || !s->order || !s->visited)
        return FAIL_NO_MEMORY(err, "a search");
    s->keys = s->deltas + lists;
    return search_place_lists(s, false, err);
}
