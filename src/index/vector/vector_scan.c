/* SPDX-License-Identifier: Apache-2.0 */
/* The 1-bit side of a search: list after list, the rows whose lower bound is below the threshold. */
#include "index/vector/vector_search_internal.h"

#define LISTS_AHEAD 32 /* lists read at once when nothing says how many will be visited */
#define AHEAD       2 /* lists between the one being scanned and the one being fetched into the cache */
#define MISSED_MOST 12 /* lists out of reach, one behind the other, before no more are looked for */
#define REACH_EVERY 4  /* lists between two looks at how much passes near the query */

static uint32_t list_survivors(const struct vector_search *s, const struct list_entry *list)
{
    uint32_t sum = 0;
    if (!s->query->mask)
        return list->rows;
    for (uint32_t i = 0; i < list->rows; i += 32) {
        uint32_t bits = search_mask(s, list->row_start + i);
        if (list->rows - i < 32)
            bits &= (1u << (list->rows - i)) - 1;
        sum += (uint32_t)__builtin_popcount(bits);
    }
    return sum;
}

/* A block that will be scanned soon, into the second cache (the first is full of the table and what is scanned now): lists lie here and there, and
 * no processor guesses which comes next. */
static void prefetch_block(const struct vector_search *s, uint64_t block, size_t size)
{
    const uint8_t *at = search_unit(s, VECTOR_CODE, &s->code, block, size);
    for (size_t i = 0; at && i < size; i += 64)
        __builtin_prefetch(at + i, 0, 2);
}

/* ahead: a list that follows, brought to the cache block by block meanwhile; rows 0: none. */
static och_code scan_list(struct vector_search *s, const struct list_entry *list, float delta,
                          const struct list_entry *ahead, och_error *err)
{
    uint32_t ahead_blocks = (ahead->rows + CODE_BLOCK_ROWS - 1) / CODE_BLOCK_ROWS, fetched = 0;
    size_t dim = s->index->code_dim, block_size = code_block_size(dim);
    const struct vector_pages *pages = s->query->pages;
    const struct vector_plan *plan = &s->query->plan;
    struct code_bound bound = {.scale = s->factors.a,
                               .offset = s->factors.c + plan->epsilon * s->index->kappa *
                                                            sqrtf(delta > 0 ? delta : 0),
                               .delta = delta};
    for (uint32_t at = 0; at < list->rows; at += CODE_BLOCK_ROWS) {
        uint32_t row = list->row_start + at, allowed = search_mask(s, row);
        if (list->rows - at < CODE_BLOCK_ROWS)
            allowed &= (1u << (list->rows - at)) - 1;
        if (!allowed)
            continue;
        uint64_t block = list->block_start + at / CODE_BLOCK_ROWS;
        struct piece *piece = &s->code;
        const uint8_t *code = search_unit(s, VECTOR_CODE, piece, block, block_size);
        if (UNLIKELY(!code)) {
            TRY(pages->at(pages->context, VECTOR_CODE, block, &piece->base, &piece->first,
                          &piece->units, err));
            code = piece->base + (block - piece->first) * block_size;
        }
        float low[CODE_BLOCK_ROWS];
        if (fetched < ahead_blocks)
            prefetch_block(s, ahead->block_start + fetched++, block_size);
        bound.limit = search_threshold(s);
        uint32_t pass = allowed & s->kernel->scan1(code, s->table, dim, &bound, low);
        s->found.rows_scanned += CODE_BLOCK_ROWS;
        for (; pass; pass &= pass - 1) {
            uint32_t i = (uint32_t)__builtin_ctz(pass);
            search_prefetch_row(s, row + i);
            s->pending[s->pending_len++] = (struct pending){low[i], row + i};
        }
        uint32_t most = s->carry.len < s->carry.keep ? 8 * s->carry.keep : s->drain_inside;
        if (s->pending_len >= most)
            TRY(search_drain(s, err));
        if (UNLIKELY(at % (1u << 20) == 0 && s->query->limits))
            TRY(work_check(s->query->limits, err));
    }
    return s->pending_len >= s->drain_list && s->carry.len + s->pending_len >= s->carry.keep
               ? search_drain(s, err)
               : OCH_OK;
}

/* Can nothing in the list be nearer than what is known? */
static bool is_out_of_reach(const struct vector_search *s, uint32_t list, float reach)
{
    float limit = search_kth(s);
    if (s->query->plan.mode == VECTOR_FULL || !isfinite(limit))
        return false;
    return vector_nearest(s->deltas[list], list_entry(s->index, list).rms2, reach) > limit;
}

/* Where few rows near the query pass, the nearest of those that do are many rows away. */
static void adapt_reach(struct vector_search *s)
{
    const struct vector_plan *plan = &s->query->plan;
    if (plan->mode != VECTOR_PROBE || !s->near_passed)
        return;
    float reach = plan->reach - plan->reach_fall * log10f((float)s->near / (float)s->near_passed);
    s->reach = reach > plan->reach_least ? reach : plan->reach_least;
}

/* Reach has fallen by the time a list has its turn. */
static float reach_at(const struct vector_search *s, uint32_t place)
{
    return s->fall > 0 ? s->reach - s->fall * vector_doublings(place) : s->reach;
}

/* The 1-bit codes of the next lists, at once. */
static void fetch_lists(struct vector_search *s)
{
    const struct vector_pages *pages = s->query->pages;
    s->code = (struct piece){0};
    s->fetched =
        s->order_len - s->order_at < s->fetch_step ? s->order_len : s->order_at + s->fetch_step;
    for (uint32_t i = s->order_at; i < s->fetched; i++) {
        struct list_entry list = list_entry(s->index, s->order[i].list);
        if (!list_survivors(s, &list))
            continue;
        for (uint32_t at = 0; at < list.rows; at += CODE_BLOCK_ROWS)
            pages->want(pages->context, VECTOR_CODE, list.block_start + at / CODE_BLOCK_ROWS);
    }
    pages->fetch(pages->context);
}

static och_code visit_lists(struct vector_search *s, uint32_t budget, och_error *err)
{
    const struct vector_plan *plan = &s->query->plan;
    bool in_order = plan->mode != VECTOR_BUDGET; /* of the widest reach */
    while (s->order_at < s->order_len && budget) {
        if (s->query->pages->cold && s->order_at == s->fetched)
            fetch_lists(s);
        uint32_t place = s->order_at++;
        struct ranked_list next = s->order[place];
        struct list_entry list = list_entry(s->index, next.list);
        if (is_out_of_reach(s, next.list, reach_at(s, place))) {
            if (in_order && is_out_of_reach(s, next.list, plan->reach))
                break;
            if (plan->fall > 0 && ++s->missed == MISSED_MOST)
                break;
            continue;
        }
        s->missed = 0;
        s->visited[next.list / 64] |= 1ull << next.list % 64;
        uint32_t survivors = list_survivors(s, &list);
        if (!s->query->allow) {
            s->near += list.rows;
            s->near_passed += survivors;
        }
        if (!survivors)
            continue;
        budget--;
        s->found.lists_probed++;
        if (s->found.lists_probed % REACH_EVERY == 0)
            adapt_reach(s);
        uint32_t then = s->order_at + AHEAD - 1;
        struct list_entry ahead = {0};
        if (then < s->order_len && budget >= AHEAD)
            ahead = list_entry(s->index, s->order[then].list);
        TRY(scan_list(s, &list, s->deltas[next.list], &ahead, err));
        if (s->query->limits && s->found.lists_probed % 64 == 0)
            TRY(work_check(s->query->limits, err));
    }
    return search_drain(s, err);
}

/* As one list around the mean, where centred vectors have their origin. */
och_code search_all_codes1(struct vector_search *s, och_error *err)
{
    struct list_entry all = {.rows = s->index->coded}, none = {0};
    TRY(scan_list(s, &all, s->query8.norm2, &none, err));
    return search_drain(s, err);
}

och_code search_in_lists(struct vector_search *s, och_error *err)
{
    const struct vector_plan *plan = &s->query->plan;
    bool limited = plan->mode == VECTOR_BUDGET;
    float most = search_far_lists(s->far_times) * (float)plan->lists;
    uint32_t lists = most < (float)s->index->lists ? (uint32_t)most : s->index->lists;
    uint64_t since = search_now(s);
    search_rank_lists(s, limited ? lists : s->index->lists);
    if (since)
        s->found.coarse_ns += search_now(s) - since;
    s->fetch_step = limited ? s->order_len : LISTS_AHEAD;
    if (plan->fall > 0 && s->order_len / 2 > LISTS_AHEAD) /* half of the searches end before */
        s->fetch_step = (s->order_len + 1) / 2;
    TRY(visit_lists(s, limited ? lists : UINT32_MAX, err));
    /* Too few found: whatever is left, nearest first, until there are enough. */
    if (s->carry.len < plan->k && isinf(s->bound)) {
        if (s->some_lists)
            TRY(search_place_lists(s, true, err));
        search_rank_lists(s, s->index->lists);
        s->fetched = UINT32_MAX;
        while (s->order_at < s->order_len && s->carry.len < plan->k)
            TRY(visit_lists(s, 1, err));
    }
    return OCH_OK;
}
