/* SPDX-License-Identifier: Apache-2.0 */
/* One window of rows: its lists are added into f32 accumulators, or some of them only to what the others found. */
#include "index/sparse/sparse_scorer.h"

#include "kernel/postings.h"

#define ALLOWED_SHARE   16u /* postings per allowed row from which rows are scored one by one */
#define ALLOWED_PER_HIT 64u /* allowed rows per hit from which the k-th best leaves many out */
#define SPLIT_PAYS      4u  /* postings saved per posting read */
#define FOUND_COST      6u  /* of a row found, and per list that may add to it, in postings added */
#define FOUND_PROBE     2u
#define SPLIT_TERMS     1024u
#define ADD_WHOLE       3u    /* postings per candidate up to which a list is added whole */
#define TOUCHED_MOST    2048u /* postings of a window up to which touched rows are noted */

/* ---- lists in a window ---- */

/* The part of a short list that lies in the window. */
static void enter_short(const struct scorer *s, struct list *list)
{
    uint32_t at = 0, count = list->count;
    while (count) { /* the first row not below base */
        uint32_t half = count / 2;
        if (list->rows[at + half] < s->base) {
            at += half + 1;
            count -= half + 1;
        } else {
            count = half;
        }
    }
    list->block = list->block_end = at;
    while (list->block_end < list->count && list->rows[list->block_end] < s->end)
        list->block_end++;
}

/* Where the list stands in the window, and how much it can give there; returns about how many postings. */
static uint64_t enter_window(const struct scorer *s, struct list *list)
{
    float max = list->max, min = list->min;
    list->bound = 0;
    if (list->is_short) {
        enter_short(s, list);
        if (list->block == list->block_end)
            return 0;
    } else {
        const struct block_run *runs = list->runs;
        uint32_t b =
            list_seek(list, runs[list->block].first_row <= s->base ? list->block : 0, s->base);
        list->block = list->block_end = b;
        if (runs[b].first_row >= s->end)
            return 0;
        max = runs[b].max;
        min = runs[b].min;
        for (b++; b < list->block_count && runs[b].first_row < s->end; b++) {
            max = runs[b].max > max ? runs[b].max : max;
            min = runs[b].min < min ? runs[b].min : min;
        }
        list->block_end = b;
    }
    list->bound = list_bound(list, max, min);
    if (list->is_short)
        return list->block_end - list->block;
    uint64_t postings = (uint64_t)(list->block_end - list->block) * POSTING_BLOCK;
    return list->block_end == list->block_count && list->df % POSTING_BLOCK
               ? postings - POSTING_BLOCK + list->df % POSTING_BLOCK
               : postings;
}

static uint64_t postings_of(const struct list *list)
{
    return list->is_short ? list->block_end - list->block
                          : (uint64_t)(list->block_end - list->block) * POSTING_BLOCK;
}

/* The hot loop: about a nanosecond a posting. */
static void add_postings(struct scorer *s, const struct list *list, uint32_t from, uint32_t to)
{
    float *sums = s->sums;
    float q = list->q;
    const uint32_t *rows = list->rows;
    const float *weights = list->weights;
    uint32_t base = s->base;
    s->search->postings_read += to - from;
    if (s->notes_touched) {
        for (uint32_t i = from; i < to; i++) {
            uint32_t at = rows[i] - base;
            sums[at] += q * weights[i];
            s->touched[at / 64] |= 1ull << at % 64;
        }
        return;
    }
    for (uint32_t i = from; i < to; i++)
        sums[rows[i] - base] += q * weights[i];
}

static och_code add_block(struct scorer *s, struct list *list, uint32_t b, och_error *err)
{
    TRY(list_decode(&s->at->lists, list, b, err));
    uint32_t from = 0, to = list->count;
    while (from < to && list->rows[from] < s->base)
        from++;
    while (to > from && list->rows[to - 1] >= s->end)
        to--;
    add_postings(s, list, from, to);
    return OCH_OK;
}

static och_code add_list(struct scorer *s, struct list *list, och_error *err)
{
    if (list->is_short) {
        add_postings(s, list, list->block, list->block_end);
        return OCH_OK;
    }
    for (uint32_t b = list->block; b < list->block_end; b++)
        TRY(add_block(s, list, b, err));
    return OCH_OK;
}

/* Only the blocks that may hold one of the rows found. */
static och_code add_where(struct scorer *s, struct list *list, och_error *err)
{
    const uint32_t *found = s->found;
    uint32_t n = s->found_count;
    if (list->is_short)
        return add_list(s, list, err);
    for (uint32_t i = 0, b = list->block; i < n;) {
        b = list_seek(list, b, s->base + found[i]);
        uint32_t next = b + 1 < list->block_count ? list->runs[b + 1].first_row : UINT32_MAX;
        if (b >= list->block_end)
            break;
        if (list->runs[b].first_row <= s->base + found[i])
            TRY(add_block(s, list, b, err));
        else
            next = list->runs[b].first_row;
        while (i < n && s->base + found[i] < next)
            i++;
    }
    return OCH_OK;
}

/* ---- rows of a window ---- */

static void clear_window(struct scorer *s)
{
    if (!s->notes_touched) {
        memset(s->sums, 0, 64 * (size_t)s->words * sizeof(*s->sums));
        return;
    }
    for (uint32_t w = 0; w < s->words; w++) {
        if (s->touched[w]) {
            memset(s->sums + 64 * (size_t)w, 0, 64 * sizeof(*s->sums));
            s->touched[w] = 0;
        }
    }
}

/* Rows of the window whose sum is at least `least`, allowed or not, ascending, into s->found; more than `most`: at least so many. */
static void find_above(struct scorer *s, float least, uint32_t most)
{
    uint32_t n = 0;
    if (!s->notes_touched) {
        s->found_count =
            kernel_postings_get()->above(s->sums, 64 * s->words, least, most, s->found);
        return;
    }
    for (uint32_t w = 0; w < s->words && n <= most; w++) {
        for (uint64_t left = s->touched[w]; left; left &= left - 1) {
            uint32_t at = w * 64 + (uint32_t)__builtin_ctzll(left);
            s->found[n] = at;
            n += s->sums[at] >= least;
        }
    }
    s->found_count = n;
}

/* Consider what was found, as long as it is good enough. */
static och_code consider_found(struct scorer *s, och_error *err)
{
    for (uint32_t i = 0; i < s->found_count; i++) {
        if (s->sums[s->found[i]] >= s->keep)
            TRY(scorer_consider(s, s->base + s->found[i], err));
    }
    return OCH_OK;
}

/* ---- with a split ---- */

struct split {
    uint32_t prefix; /* lists of s->at->order that only add to what others found; 0: none */
    double bound;    /* what they give at most */
    uint64_t saved;  /* about how many postings they have in the window */
};

/* By what they can add, the least first; nearly in order since the last window. */
static void order_lists(struct scorer *s)
{
    uint32_t *order = s->at->order;
    const struct list *lists = s->at->lists.lists;
    for (uint32_t i = 1; i < s->at->lists.count; i++) {
        uint32_t list = order[i], at = i;
        for (; at && lists[order[at - 1]].bound > lists[list].bound; at--)
            order[at] = order[at - 1];
        order[at] = list;
    }
}

static struct split choose_split(struct scorer *s, uint64_t postings)
{
    struct split ret = {0};
    uint32_t *order = s->at->order, count = s->at->lists.count;
    struct list *lists = s->at->lists.lists;
    if (s->search->plan != SPARSE_AUTO || count > SPLIT_TERMS || s->need <= s->margin)
        return ret;
    order_lists(s);
    uint64_t saved = 0;
    while (ret.prefix < count && ret.bound + lists[order[ret.prefix]].bound < s->need - s->margin) {
        ret.bound += lists[order[ret.prefix]].bound;
        saved += postings_of(&lists[order[ret.prefix++]]);
    }
    ret.saved = saved;
    if (saved <= SPLIT_PAYS * (postings - (saved < postings ? saved : postings)))
        ret = (struct split){0};
    return ret;
}

static void drop_below(struct scorer *s, float least)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < s->found_count; i++) {
        uint32_t at = s->found[i];
        s->found[kept] = at;
        kept += s->sums[at] >= least;
    }
    s->found_count = kept;
}

static void drop_refused(struct scorer *s)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; s->allowed && i < s->found_count; i++) {
        uint32_t at = s->found[i];
        s->found[kept] = at;
        kept += (uint32_t)(s->allowed[at / 64] >> at % 64 & 1);
    }
    s->found_count = s->allowed ? kept : s->found_count;
}

/* Add the first `count` lists of the order to the rows found, the largest first, and leave out rows that can no longer get there. */
static och_code follow_found(struct scorer *s, uint32_t count, double rest, och_error *err)
{
    struct list *lists = s->at->lists.lists;
    const uint32_t *order = s->at->order;
    for (uint32_t i = count; i-- > 0 && s->found_count;) {
        struct list *list = &lists[order[i]];
        uint64_t postings = postings_of(list);
        if (postings && postings < ADD_WHOLE * (uint64_t)s->found_count)
            TRY(add_list(s, list, err));
        else if (postings)
            TRY(add_where(s, list, err));
        rest -= list->bound;
        /* what was subtracted may have left a rounding behind; the margin is far larger */
        drop_below(s, scorer_round_down(s->need - s->margin - (rest > 0 ? rest : 0)));
    }
    return OCH_OK;
}

/* The essential lists find rows; the others add to those that can still get there. */
static och_code window_split(struct scorer *s, struct split split, och_error *err)
{
    struct list *lists = s->at->lists.lists;
    const uint32_t *order = s->at->order;
    for (uint32_t i = split.prefix; i < s->at->lists.count; i++)
        TRY(add_list(s, &lists[order[i]], err));
    uint64_t most = split.saved / (FOUND_COST + FOUND_PROBE * split.prefix);
    most = s->notes_touched || most > UINT32_MAX ? UINT32_MAX : most;
    find_above(s, scorer_round_down(s->need - s->margin - split.bound), (uint32_t)most);
    if (s->found_count > most) { /* too many to be followed */
        for (uint32_t i = 0; i < split.prefix; i++)
            TRY(add_list(s, &lists[order[i]], err));
        find_above(s, s->keep, UINT32_MAX);
        return consider_found(s, err);
    }
    drop_refused(s);
    TRY(follow_found(s, split.prefix, split.bound, err));
    return consider_found(s, err);
}

/* Few rows are allowed: they are followed from the first list on. */
static och_code window_allowed(struct scorer *s, double bound, och_error *err)
{
    order_lists(s);
    s->notes_touched = true;
    s->found_count = 0;
    for (uint32_t w = 0; w * 64 < s->end - s->base; w++) {
        for (uint64_t left = s->allowed[w]; left; left &= left - 1)
            s->found[s->found_count++] = w * 64 + (uint32_t)__builtin_ctzll(left);
    }
    och_code code = follow_found(s, s->at->lists.count, bound, err);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < s->found_count; i++) { /* a row that no list holds is no hit */
        uint32_t at = s->found[i];
        s->found[kept] = at;
        kept += (uint32_t)(s->touched[at / 64] >> at % 64 & 1);
    }
    s->found_count = kept;
    if (code == OCH_OK)
        code = consider_found(s, err);
    clear_window(s);
    return code;
}

/* ---- the window ---- */

/* Rows of the window that may be hits, into s->found. */
static void list_allowed(struct scorer *s)
{
    uint32_t n = 0;
    for (uint32_t row = s->base; !s->allowed && row < s->end; row++)
        s->found[n++] = row;
    for (uint32_t w = 0; s->allowed && w * 64 < s->end - s->base; w++) {
        for (uint64_t left = s->allowed[w]; left; left &= left - 1)
            s->found[n++] = s->base + w * 64 + (uint32_t)__builtin_ctzll(left);
    }
    s->found_count = n;
}

static uint64_t count_allowed(const struct scorer *s)
{
    uint64_t count = 0;
    if (!s->allowed)
        return s->end - s->base;
    for (uint32_t w = 0; w * 64 < s->end - s->base; w++)
        count += (uint64_t)__builtin_popcountll(s->allowed[w]);
    return count;
}

static void move_to(struct scorer *s, struct opened *at, uint32_t base)
{
    uint64_t end = (uint64_t)base + SPARSE_WINDOW;
    s->at = at;
    s->base = base;
    s->end = end < at->lists.segment.end_row ? (uint32_t)end : at->lists.segment.end_row;
    s->words = (s->end - s->base + 63) / 64;
    s->allowed = s->search->allowed ? s->search->allowed + base / 64 : NULL;
}

och_code scorer_window(struct scorer *s, struct opened *at, uint32_t base, och_error *err)
{
    struct sparse_search *search = s->search;
    move_to(s, at, base);
    uint64_t postings = 0, allowed = count_allowed(s);
    double bound = 0;
    if (!allowed)
        return OCH_OK;
    for (uint32_t i = 0; i < s->at->lists.count; i++) {
        postings += enter_window(s, &s->at->lists.lists[i]);
        bound += s->at->lists.lists[i].bound;
    }
    if (!postings)
        return OCH_OK;
    search->windows++;
    if (search->plan == SPARSE_AUTO && s->safe && bound < s->need - s->margin) {
        search->windows_skipped++;
        return OCH_OK;
    }
    bool few = s->allowed && search->plan == SPARSE_AUTO && allowed * ALLOWED_SHARE < postings;
    if (few && s->safe && s->at->lists.count <= SPLIT_TERMS &&
        search->allowed_count > ALLOWED_PER_HIT * (uint64_t)search->k)
        return window_allowed(s, bound, err);
    if (search->plan == SPARSE_EXACT || !s->safe || few) {
        list_allowed(s);
        return scorer_score_rows(s, s->at, s->found, s->found_count, false, err);
    }
    struct split split = choose_split(s, postings);
    float least = split.prefix ? scorer_round_down(s->need - s->margin - split.bound) : s->keep;
    s->notes_touched = least <= 0 || postings < TOUCHED_MOST;
    och_code code = OCH_OK;
    if (split.prefix) {
        code = window_split(s, split, err);
    } else {
        for (uint32_t i = 0; i < s->at->lists.count && code == OCH_OK; i++)
            code = add_list(s, &s->at->lists.lists[i], err);
        if (code == OCH_OK) {
            find_above(s, s->keep, UINT32_MAX);
            code = consider_found(s, err);
        }
    }
    clear_window(s);
    return code;
}
