/* SPDX-License-Identifier: Apache-2.0 */
/* Top-k by sparse dot product over one part: f32 accumulators by windows of rows, lists and windows left out that cannot matter, exact sums in f64 for
 * what is left.  README.md has the reasoning; every comparison leaves room for rounding, so leaving out never changes an answer. */
#include "index/sparse/sparse_scorer.h"

#include <math.h>
#include <stdlib.h>

#define CANDIDATES 4096u /* beyond k, before they are scored */
#define SAFE_SUM   1e37  /* sums up to this do not overflow on the way */
#define LISTS_ONCE 2048u /* of segments that are searched together */
#define WORDS      (SPARSE_WINDOW / 64)

/* ---- windows by what they can give ---- */

struct window {
    double bound;
    struct opened *at;
    uint32_t base;
    bool held; /* by a list at least */
};

static int by_bound(const void *a, const void *b)
{
    const struct window *x = a, *y = b;
    if (x->bound != y->bound)
        return x->bound < y->bound ? 1 : -1;
    if (x->at != y->at)
        return x->at < y->at ? -1 : 1;
    return (x->base > y->base) - (x->base < y->base);
}

static void add_bound(struct window *window, const struct list *list, float max, float min)
{
    window->bound += list_bound(list, max, min);
    window->held = true;
}

/* The bounds of one list in a segment's windows, the first of which has the number `first`. */
static void add_bounds(const struct list *list, uint32_t end_row, uint32_t first,
                       struct window *windows)
{
    uint32_t last = UINT32_MAX;
    if (list->is_short) {
        for (uint32_t i = 0; i < list->count; i++) {
            uint32_t here = list->rows[i] / SPARSE_WINDOW;
            if (here != last)
                add_bound(&windows[here - first], list, list->max, list->min);
            last = here;
        }
        return;
    }
    const struct block_run *runs = list->runs;
    float max = 0, min = 0;
    for (uint32_t b = 0; b < list->block_count; b++) {
        uint32_t end = b + 1 < list->block_count ? runs[b + 1].first_row : end_row;
        for (uint32_t here = runs[b].first_row / SPARSE_WINDOW; here <= (end - 1) / SPARSE_WINDOW;
             here++) {
            bool goes_on = here == last;
            if (!goes_on && last != UINT32_MAX)
                add_bound(&windows[last - first], list, max, min);
            max = goes_on && max > runs[b].max ? max : runs[b].max;
            min = goes_on && min < runs[b].min ? min : runs[b].min;
            last = here;
        }
    }
    add_bound(&windows[last - first], list, max, min);
}

static uint32_t window_count(const struct segment *segment)
{
    return (segment->end_row - 1) / SPARSE_WINDOW - segment->first_row / SPARSE_WINDOW + 1;
}

/* The windows of all opened segments that hold a posting, the most promising first: what they give is what lets others be left out. */
static och_code order_windows(struct scorer *s, struct arena *arena, struct window **ret_windows,
                              size_t *ret_count, och_error *err)
{
    size_t room = 0, count = 0;
    for (uint32_t i = 0; i < s->opened_count; i++)
        room += window_count(&s->opened[i].lists.segment);
    struct window *windows = ARENA_ARRAY(arena, struct window, room);
    if (!windows)
        return FAIL_NO_MEMORY(err, "a sparse query");
    for (uint32_t i = 0, at = 0; i < s->opened_count; i++) {
        struct lists *lists = &s->opened[i].lists;
        uint32_t first = lists->segment.first_row / SPARSE_WINDOW;
        for (uint32_t l = 0; l < lists->count; l++)
            add_bounds(&lists->lists[l], lists->segment.end_row, first, windows + at);
        for (uint32_t w = 0, end = window_count(&lists->segment); w < end; w++, at++) {
            windows[at].at = &s->opened[i];
            windows[at].base = (first + w) * SPARSE_WINDOW;
            if (windows[at].held)
                windows[count++] = windows[at];
        }
    }
    if (s->search->plan == SPARSE_AUTO && count > 1)
        qsort(windows, count, sizeof(*windows), by_bound);
    *ret_windows = windows;
    *ret_count = count;
    return OCH_OK;
}

/* ---- segments ---- */

/* Few rows are allowed in all: no windows. */
static och_code score_few(struct scorer *s, och_error *err)
{
    for (uint32_t i = 0; i < s->opened_count; i++) {
        const struct segment *segment = &s->opened[i].lists.segment;
        uint32_t n = 0;
        for (uint32_t w = segment->first_row / 64; w <= (segment->end_row - 1) / 64; w++) {
            for (uint64_t left = s->search->allowed[w]; left; left &= left - 1) {
                uint32_t row = w * 64 + (uint32_t)__builtin_ctzll(left);
                if (row >= segment->first_row && row < segment->end_row && n < FEW_ALLOWED)
                    s->found[n++] = row;
            }
        }
        if (n)
            TRY(scorer_score_rows(s, &s->opened[i], s->found, n, false, err));
    }
    return OCH_OK;
}

/* What rounding can come to, whatever the segment. */
static void measure_lists(struct scorer *s)
{
    s->safe = true;
    s->margin = 0;
    for (uint32_t at = 0; at < s->opened_count; at++) {
        const struct lists *lists = &s->opened[at].lists;
        double sum = 0;
        for (uint32_t i = 0; i < lists->count; i++) {
            const struct list *list = &lists->lists[i];
            double most = fabs((double)list->max), least = fabs((double)list->min);
            sum += fabs((double)list->q) * (most > least ? most : least);
            s->opened[at].order[i] = i;
            s->search->postings_all += list->df;
        }
        double margin = 4.0 * lists->count * (0x1p-24 * sum + 1e-44);
        s->safe = s->safe && sum < SAFE_SUM; /* false for what is not a number, too */
        s->margin = margin > s->margin ? margin : s->margin;
    }
    if (!s->safe)
        s->margin = 0;
}

static och_code search_opened(struct scorer *s, struct arena *arena, och_error *err)
{
    struct sparse_search *search = s->search;
    struct window *windows = NULL;
    size_t count = 0;
    if (!s->opened_count)
        return OCH_OK;
    measure_lists(s);
    s->best_count = 0;
    scorer_update(s);
    if (search->allowed && search->allowed_count < FEW_ALLOWED && search->plan == SPARSE_AUTO)
        return score_few(s, err);
    TRY(order_windows(s, arena, &windows, &count, err));
    for (size_t i = 0; i < count; i++) {
        if (search->limits)
            TRY(work_check(search->limits, err));
        TRY(scorer_window(s, windows[i].at, windows[i].base, err));
    }
    return scorer_settle(s, err);
}

/* Open the segments of a key from *from on, as many as are searched together. */
static och_code open_some(struct scorer *s, uint32_t key, struct slots *slots, uint32_t *from,
                          struct arena *arena, och_error *err)
{
    const struct sparse_search *search = s->search;
    const struct sparse_index *index = search->index;
    uint32_t total = 0;
    s->opened_count = 0;
    for (; *from < index->segment_count && total < LISTS_ONCE; (*from)++) {
        if (segment_at(index, *from).key != key)
            continue;
        struct opened *opened = &s->opened[s->opened_count++];
        TRY(lists_open(&opened->lists, slots, index, search->pages, *from, &search->terms,
                       &search->norm, arena, err));
        uint32_t count = opened->lists.count;
        opened->order = arena_alloc(arena, ((size_t)count + 1) * sizeof(*opened->order));
        if (!opened->order)
            return FAIL_NO_MEMORY(err, "a sparse query");
        total += count;
        if (!count)
            s->opened_count--;
    }
    return OCH_OK;
}

static och_code scorer_init(struct scorer *s, struct sparse_search *search, struct arena *arena,
                            och_error *err)
{
    size_t k = search->k < search->index->rows ? search->k : search->index->rows;
    *s = (struct scorer){.search = search, .best_room = k};
    size_t all = search->index->rows, window = min_size(SPARSE_WINDOW, (all + 63) / 64 * 64);
    s->candidate_room = (uint32_t)min_size(k + CANDIDATES, all);
    size_t rows = s->candidate_room > window ? s->candidate_room : window;
    /* not zeroed, so that no page is touched before it is needed: a query would spend a good part of its time on that */
    s->opened = arena_alloc(arena, ((size_t)search->index->segment_count + 1) * sizeof(*s->opened));
    s->sums = arena_alloc_aligned(arena, 64, window * sizeof(*s->sums));
    s->touched = ARENA_ARRAY(arena, uint64_t, WORDS);
    s->found = arena_alloc(arena, (window + 16) * sizeof(*s->found));
    s->rows = arena_alloc(arena, ((size_t)s->candidate_room + 1) * sizeof(*s->rows));
    s->exact = arena_alloc(arena, (rows + 1) * sizeof(*s->exact));
    s->held = arena_alloc(arena, rows + 1);
    s->candidates = arena_alloc(arena, ((size_t)s->candidate_room + 1) * sizeof(*s->candidates));
    s->best = arena_alloc(arena, (k + 1) * sizeof(*s->best));
    if (!s->opened || !s->sums || !s->touched || !s->found || !s->rows || !s->exact || !s->held ||
        !s->candidates || !s->best)
        return FAIL_NO_MEMORY(err, "a sparse query");
    memset(s->sums, 0, window * sizeof(*s->sums));
    return OCH_OK;
}

och_code sparse_search(struct sparse_search *search, struct arena *arena, uint64_t *ret_offset,
                       och_error *err)
{
    const struct sparse_index *index = search->index;
    struct scorer s;
    uint32_t key = index_key(index, search->key);
    if (key == UINT32_MAX || !search->terms.count || !search->k)
        return OCH_OK;
    TRY(scorer_init(&s, search, arena, err));
    for (uint32_t at = 0; at < index->segment_count;) {
        struct slots slots = {0};
        struct arena made;
        arena_init(&made, arena->budget, 0);
        och_code code = open_some(&s, key, &slots, &at, &made, err);
        if (code == OCH_OK)
            code = search_opened(&s, &made, err);
        *ret_offset = slots.fault_offset;
        arena_done(&made);
        TRY(code);
    }
    return OCH_OK;
}
