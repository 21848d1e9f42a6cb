/* SPDX-License-Identifier: Apache-2.0 */
/* The order in which a search comes to the lists. */
#include "index/vector/vector_search_internal.h"

#include <stdlib.h>

#define KEY_BUCKETS 512
#define ORDER_FEW   128  /* buckets for few lists */
#define FAR_ALL     1.2f /* farther off than this, the nearest cells do not do */

static inline bool comes_before(const struct ranked_list *a, const struct ranked_list *b)
{
    return a->key < b->key || (a->key == b->key && a->list < b->list);
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

/* The key up to which at least `want` lists lie. */
static float limit_of(const struct vector_search *s, uint32_t want)
{
    uint32_t lists = s->index->lists, counts[KEY_BUCKETS] = {0}, bucket = 0;
    float least = s->key_least, scale = (KEY_BUCKETS - 1) / (s->key_most - least);
    if (want >= lists || !(scale > 0) || !isfinite(scale))
        return s->key_most;
    s->kernel->count_keys(s->keys, lists, least, scale, KEY_BUCKETS, counts);
    for (uint32_t sum = counts[0]; sum < want && bucket < KEY_BUCKETS - 1;)
        sum += counts[++bucket];
    /* a bucket is centred at its number; a little beyond its end, lest rounding leaves one out */
    float limit = least + ((float)bucket + 0.52f) / scale;
    return bucket < KEY_BUCKETS - 1 && limit < s->key_most ? limit : s->key_most;
}

/* A bucket of an item, rising with its key.  Not code_key_bucket, whose rounding is a call: nobody else has to agree with these. */
static inline uint32_t bucket_of(const struct ranked_list *item, float least, float scale,
                                 float last)
{
    float place = (item->key - least) * scale;
    place = place < last ? place : last;
    return (uint32_t)(place > 0 ? place : 0);
}

/* In ascending order: by buckets of equal width, then within them. */
static void order_lists(struct vector_search *s, const struct ranked_list *items, uint32_t len,
                        float limit)
{
    uint32_t buckets = len <= 256 ? ORDER_FEW : KEY_BUCKETS, starts[KEY_BUCKETS + 1] = {0};
    float least = s->key_least, scale = (float)(buckets - 1) / (limit - least);
    scale = scale > 0 && isfinite(scale) ? scale : 0;
    for (uint32_t i = 0; i < len; i++)
        starts[bucket_of(&items[i], least, scale, (float)(buckets - 1)) + 1]++;
    for (uint32_t i = 0; i < buckets; i++)
        starts[i + 1] += starts[i];
    for (uint32_t i = 0; i < len; i++)
        s->order[starts[bucket_of(&items[i], least, scale, (float)(buckets - 1))]++] = items[i];
    for (uint32_t i = 0, from = 0; i < buckets; from = starts[i++]) { /* starts are ends by now */
        if (starts[i] - from > 32)
            qsort(s->order + from, starts[i] - from, sizeof(*items), compare_ranked);
        else
            order_inside(s->order + from, starts[i] - from);
    }
}

/* In order and not as a heap: then it is known what to fetch into the cache. */
void search_rank_lists(struct vector_search *s, uint32_t want)
{
    uint32_t lists = s->index->lists, len = 0;
    struct ranked_list *items = s->order + lists;
    bool shared = s->query->plan.key != 0 && want < lists;
    float limit = shared ? s->query->plan.key : limit_of(s, want);
    limit = limit < s->key_most ? limit : s->key_most; /* lists without a key: infinite */
    size_t found = s->kernel->keys_upto(s->keys, lists, limit, s->chosen);
    for (size_t i = 0; i < found; i++) {
        uint32_t list = s->chosen[i];
        if (!(s->visited[list / 64] >> list % 64 & 1))
            items[len++] = (struct ranked_list){s->keys[list], list};
    }
    order_lists(s, items, len, limit);
    s->order_at = 0;
    s->order_len = len;
}

void search_make_keys(struct vector_search *s, const struct vector_range *ranges, uint32_t count,
                      float gamma)
{
    const struct vector_index *index = s->index;
    const struct vector_plan *plan = &s->query->plan;
    bool budget = plan->mode == VECTOR_BUDGET;
    /* vector_nearest or, with a budget, the order that calibration ranked by */
    struct code_keys how = {.weight = budget ? gamma : 1, .reach = budget ? 0 : 2 * plan->reach};
    const float *lists = (const float *)(const void *)index->list; // aligned: extents are
    s->key_least = INFINITY;
    s->key_most = -INFINITY;
    for (uint32_t r = 0; r < count; r++) {
        uint32_t from = ranges[r].from;
        float range[2];
        s->kernel->list_keys(lists + 4 * (size_t)from, s->deltas + from, ranges[r].to - from, &how,
                             s->keys + from, range);
        s->key_least = range[0] < s->key_least ? range[0] : s->key_least;
        s->key_most = range[1] > s->key_most ? range[1] : s->key_most;
    }
}

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
        s->keys[j] = INFINITY;
    search_make_keys(s, ranges, count, index->gamma);
    return OCH_OK;
}

static float far_times(const struct vector_search *s)
{
    const struct vector_index *index = s->index;
    if (s->query->plan.mode != VECTOR_BUDGET || !(index->far > 0) ||
        !s->kernel->keys_upto(s->keys, index->lists, s->key_least, s->chosen))
        return 0;
    return s->deltas[s->chosen[0]] / index->far;
}

och_code search_coarse(struct vector_search *s, och_error *err)
{
    const struct vector_index *index = s->index;
    uint32_t lists = (uint32_t)round_up(index->lists, CODE_LISTS);
    s->deltas = arena_alloc_aligned(s->arena, 64, 2 * sizeof(float) * lists);
    s->order = arena_alloc(s->arena, 2 * sizeof(*s->order) * index->lists);
    s->chosen = arena_alloc(s->arena, sizeof(*s->chosen) * index->lists);
    s->visited = ARENA_ARRAY(s->arena, uint64_t, (index->lists + 63) / 64);
    if (!s->deltas || !s->order || !s->chosen || !s->visited)
        return FAIL_NO_MEMORY(err, "a search");
    s->keys = s->deltas + lists;
    TRY(search_place_lists(s, false, err));
    s->far_times = far_times(s);
    return s->some_lists && s->far_times > FAR_ALL ? search_place_lists(s, true, err) : OCH_OK;
}
