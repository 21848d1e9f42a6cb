/* SPDX-License-Identifier: Apache-2.0 */
/* Top-k by sparse dot product over one part: f32 accumulators by windows of rows, lists and windows left out that cannot matter, exact sums in f64 for
 * what is left.  README.md has the reasoning; every comparison leaves room for rounding, so leaving out never changes an answer. */
#include "index/sparse/sparse_internal.h"

#include <float.h>
#include <math.h>

#define WORDS          (SPARSE_WINDOW / 64)
#define CANDIDATES     4096u /* beyond k, before they are scored */
#define FEW_ALLOWED    1000u /* rows that are scored without looking at windows */
#define ALLOWED_SHARE  16u   /* postings per allowed row from which rows are scored one by one */
#define SPLIT_PAYS     4u    /* postings saved per posting read */
#define FOUND_COST     6u /* of a row found, and per list that may add to it, in postings added */
#define FOUND_PROBE    2u
#define SPLIT_TERMS    1024u
#define ADD_WHOLE      3u    /* postings per candidate up to which a list is added whole */
#define TOUCHED_MOST   2048u /* postings of a window up to which touched rows are noted */
#define SAFE_SUM       1e37  /* sums up to this do not overflow on the way */
#define SCORE_ROUNDING 0x1p-21

struct candidate {
    uint32_t row;
    float sum;
};
struct scorer {
    struct sparse_search *search;
    struct lists lists;
    uint32_t *order; /* lists by bound, as the last window left them */
    float *sums;     /* SPARSE_WINDOW */
    uint64_t *touched;
    uint32_t *found; /* rows of a window */
    uint32_t found_count;
    uint32_t *rows; /* to be scored exactly */
    double *exact;
    uint8_t *held;
    struct candidate *candidates;
    uint32_t candidate_count, candidate_room;
    double *best; /* a min-heap of k exact sums at least */
    size_t best_count, best_room;
    double margin; /* an accumulated sum differs from the exact one by no more */
    double global; /* what an exact sum needs, by the hits so far */
    double need;   /* the same with what was accumulated since */
    float keep;    /* accumulated sums below do not matter */
    bool safe;
    /* the window at hand */
    uint32_t base, end, words;
    const uint64_t *allowed; /* of it; NULL: all */
    bool notes_touched;
};

static bool is_allowed(const struct scorer *s, uint32_t row)
{
    const uint64_t *allowed = s->search->allowed;
    return !allowed || (allowed[row / 64] >> row % 64 & 1);
}

static float round_down(double value)
{
    if (value > (double)FLT_MAX)
        return FLT_MAX;
    if (value < -(double)FLT_MAX)
        return -INFINITY;
    float rounded = (float)value;
    return (double)rounded > value ? nextafterf(rounded, -INFINITY) : rounded;
}

/* ---- what is needed ---- */

static void update_need(struct scorer *s)
{
    s->need = s->global;
    if (s->best_room && s->best_count == s->best_room) {
        double local = s->best[0] - SCORE_ROUNDING * (1 + fabs(s->best[0]));
        s->need = local > s->need ? local : s->need;
    }
    s->keep = round_down(s->need - s->margin);
}

static void update_global(struct scorer *s)
{
    double bound = (double)s->search->hits->bound(s->search->hits->context);
    if (bound == INFINITY)
        s->global = -INFINITY;
    else if (bound == -INFINITY)
        s->global = INFINITY;
    else
        s->global = 1 - bound - SCORE_ROUNDING * (1 + fabs(bound));
    update_need(s);
}

/* Keep the k largest of what sums are at least. */
static void note_best(struct scorer *s, double at_least)
{
    double *heap = s->best;
    if (s->best_count < s->best_room) {
        size_t at = s->best_count++;
        for (; at && heap[(at - 1) / 2] > at_least; at = (at - 1) / 2)
            heap[at] = heap[(at - 1) / 2];
        heap[at] = at_least;
    } else if (at_least > heap[0]) {
        size_t at = 0;
        for (size_t child; (child = 2 * at + 1) < s->best_count; at = child) {
            child += child + 1 < s->best_count && heap[child + 1] < heap[child];
            if (heap[child] >= at_least)
                break;
            heap[at] = heap[child];
        }
        heap[at] = at_least;
    } else {
        return;
    }
    if (s->best_count == s->best_room)
        update_need(s);
}

static och_code passes(struct scorer *s, uint32_t row, bool *ret, och_error *err)
{
    const struct sparse_search *search = s->search;
    *ret = true;
    if (search->sure ? search->sure[row / 64] >> row % 64 & 1 : !search->none_sure)
        return OCH_OK;
    return search->hits->verify(search->hits->context, row, ret, err);
}

/* ---- exact sums ---- */

/* Add one list to rows that it holds; rows ascend. */
static och_code add_exact(struct scorer *s, struct list *list, const uint32_t *rows, uint32_t n,
                          och_error *err)
{
    double q = (double)list->q;
    for (uint32_t i = 0, block = 0; i < n;) {
        block = list_seek(list, block, rows[i]);
        if (list->runs[block].first_row > rows[i]) {
            i++;
            continue;
        }
        uint32_t end = block + 1 < list->block_count ? list->runs[block + 1].first_row : UINT32_MAX;
        if (!list->is_short && list->decoded != block && (i + 1 == n || rows[i + 1] >= end)) {
            bool has;
            float weight;
            TRY(list_weight(&s->lists, list, block, rows[i], &has, &weight, err));
            s->exact[i] += has ? q * (double)weight : 0;
            s->held[i] |= has;
            s->search->postings_settled++;
            i++;
            continue;
        }
        TRY(list_decode(&s->lists, list, block, err));
        s->search->postings_settled += list->count;
        for (uint32_t at = 0; i < n && rows[i] < end; i++) {
            while (at < list->count && list->rows[at] < rows[i])
                at++;
            if (at == list->count || list->rows[at] != rows[i])
                continue;
            s->exact[i] += q * (double)load_f32(list->weights + 4 * (size_t)at);
            s->held[i] = 1;
        }
    }
    return OCH_OK;
}

/* Score rows and offer those that may enter. */
static och_code score_rows(struct scorer *s, const uint32_t *rows, uint32_t n, bool verified,
                           och_error *err)
{
    const struct sparse_hits *hits = s->search->hits;
    memset(s->exact, 0, n * sizeof(*s->exact));
    memset(s->held, 0, n);
    for (uint32_t i = 0; i < s->lists.count; i++)
        TRY(add_exact(s, &s->lists.lists[i], rows, n, err));
    for (uint32_t i = 0; i < n; i++) {
        float score = sparse_score(s->exact[i]);
        bool pass = s->held[i] != 0;
        if (!pass || score > hits->bound(hits->context))
            continue;
        if (!verified)
            TRY(passes(s, rows[i], &pass, err));
        if (pass)
            TRY(hits->offer(hits->context, rows[i], score, err));
    }
    update_global(s);
    return OCH_OK;
}

/* Candidates still good enough, scored exactly. */
static och_code settle(struct scorer *s, och_error *err)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->candidate_count; i++) {
        if (s->candidates[i].sum >= s->keep)
            s->rows[n++] = s->candidates[i].row;
    }
    s->candidate_count = 0;
    return n ? score_rows(s, s->rows, n, true, err) : OCH_OK;
}

/* A row whose sum is at least s->keep. */
static och_code consider(struct scorer *s, uint32_t row, och_error *err)
{
    bool pass;
    float sum = s->sums[row - s->base];
    if (!is_allowed(s, row))
        return OCH_OK;
    TRY(passes(s, row, &pass, err));
    if (!pass)
        return OCH_OK;
    note_best(s, (double)sum - s->margin);
    if (s->candidate_count == s->candidate_room) {
        uint32_t kept = 0;
        for (uint32_t i = 0; i < s->candidate_count; i++) {
            if (s->candidates[i].sum >= s->keep)
                s->candidates[kept++] = s->candidates[i];
        }
        s->candidate_count = kept;
        if (kept > s->candidate_room / 2 + 1) /* many of one score */
            TRY(settle(s, err));
    }
    s->candidates[s->candidate_count++] = (struct candidate){row, sum};
    return OCH_OK;
}

/* ---- lists in a window ---- */

/* Where the list stands in the window, and how much it can give there; returns about how many postings. */
static uint64_t enter_window(const struct scorer *s, struct list *list)
{
    float max, min;
    list->bound = 0;
    if (list->is_short) {
        while (list->block < list->count && list->rows[list->block] < s->base)
            list->block++;
        list->block_end = list->block;
        while (list->block_end < list->count && list->rows[list->block_end] < s->end)
            list->block_end++;
        if (list->block == list->block_end)
            return 0;
        max = list->max;
        min = list->min;
    } else {
        list->block = list_seek(list, list->block, s->base);
        list->block_end = list->block;
        if (list->runs[list->block].first_row >= s->end)
            return 0;
        max = list->runs[list->block].max;
        min = list->runs[list->block].min;
        uint32_t b = list->block + 1;
        for (; b < list->block_count && list->runs[b].first_row < s->end; b++) {
            max = list->runs[b].max > max ? list->runs[b].max : max;
            min = list->runs[b].min < min ? list->runs[b].min : min;
        }
        list->block_end = b;
    }
    double most = (double)list->q * (double)max, least = (double)list->q * (double)min;
    most = most > least ? most : least;
    list->bound = most > 0 ? most : 0;
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
    const uint8_t *weights = list->weights;
    uint32_t base = s->base;
    s->search->postings_read += to - from;
    if (s->notes_touched) {
        for (uint32_t i = from; i < to; i++) {
            uint32_t at = rows[i] - base;
            sums[at] += q * load_f32(weights + 4 * (size_t)i);
            s->touched[at / 64] |= 1ull << at % 64;
        }
        return;
    }
    for (uint32_t i = from; i < to; i++)
        sums[rows[i] - base] += q * load_f32(weights + 4 * (size_t)i);
}

static och_code add_block(struct scorer *s, struct list *list, uint32_t b, och_error *err)
{
    TRY(list_decode(&s->lists, list, b, err));
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

/* Only the blocks that may hold one of these rows. */
static och_code add_where(struct scorer *s, struct list *list, const uint32_t *rows, uint32_t n,
                          och_error *err)
{
    if (list->is_short)
        return add_list(s, list, err);
    for (uint32_t i = 0, b = list->block; i < n && b < list->block_end;) {
        b = list_seek(list, b, rows[i]);
        uint32_t next = b + 1 < list->block_count ? list->runs[b + 1].first_row : UINT32_MAX;
        if (b >= list->block_end)
            break;
        if (list->runs[b].first_row <= rows[i])
            TRY(add_block(s, list, b, err));
        else
            next = list->runs[b].first_row;
        while (i < n && rows[i] < next)
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

/* Call for each row whose sum is at least `least` (which may rise meanwhile: *least is read again). */
typedef och_code (*row_call)(struct scorer *s, uint32_t row, och_error *err);

static och_code each_touched(struct scorer *s, const float *least, row_call call, och_error *err)
{
    for (uint32_t w = 0; w < s->words; w++) {
        uint64_t left = s->touched[w] & (s->allowed ? s->allowed[w] : UINT64_MAX);
        for (; left; left &= left - 1) {
            uint32_t at = w * 64 + (uint32_t)__builtin_ctzll(left);
            if (s->sums[at] >= *least)
                TRY(call(s, s->base + at, err));
        }
    }
    return OCH_OK;
}

/* Compilers do not make this of a loop at the levels we build with. */
typedef float four __attribute__((vector_size(16)));
typedef int32_t four_bits __attribute__((vector_size(16)));

static bool any_of_16(const float *sums, float least)
{
    four floor = {least, least, least, least}, at[4];
    memcpy(at, sums, sizeof(at));
    four_bits above = (at[0] >= floor) | (at[1] >= floor) | (at[2] >= floor) | (at[3] >= floor);
    uint64_t halves[2];
    memcpy(halves, &above, sizeof(halves));
    return halves[0] | halves[1];
}

static uint32_t count_above(const struct scorer *s, float least)
{
    four floor = {least, least, least, least};
    four_bits count = {0};
    int32_t each[4];
    for (uint32_t i = 0; i < 64 * s->words; i += 4) {
        four at;
        memcpy(&at, s->sums + i, sizeof(at));
        count -= at >= floor; /* what is true is -1 */
    }
    memcpy(each, &count, sizeof(each));
    return (uint32_t)(each[0] + each[1] + each[2] + each[3]);
}

static och_code each_above(struct scorer *s, const float *least, row_call call, och_error *err)
{
    if (s->notes_touched)
        return each_touched(s, least, call, err);
    for (uint32_t at = 0; at < 64 * s->words; at += 16) {
        bool any = any_of_16(s->sums + at, *least);
        for (uint32_t i = 0; any && i < 16; i++) {
            if (s->sums[at + i] >= *least)
                TRY(call(s, s->base + at + i, err));
        }
    }
    return OCH_OK;
}

/* ---- with a split ---- */

struct split {
    uint32_t prefix; /* lists of s->order that only add to what others found; 0: none */
    double bound;    /* what they give at most */
    uint64_t saved;  /* about how many postings they have in the window */
};

static struct split choose_split(struct scorer *s, uint64_t postings)
{
    struct split ret = {0};
    uint32_t *order = s->order, count = s->lists.count;
    struct list *lists = s->lists.lists;
    if (s->search->plan != SPARSE_AUTO || count > SPLIT_TERMS || s->need <= s->margin)
        return ret;
    for (uint32_t i = 1; i < count; i++) { /* nearly in order since the last window */
        uint32_t list = order[i], at = i;
        for (; at && lists[order[at - 1]].bound > lists[list].bound; at--)
            order[at] = order[at - 1];
        order[at] = list;
    }
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

static och_code collect(struct scorer *s, uint32_t row, och_error *err)
{
    (void)err;
    if (is_allowed(s, row))
        s->found[s->found_count++] = row;
    return OCH_OK;
}

static void drop_below(struct scorer *s, float least)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < s->found_count; i++) {
        if (s->sums[s->found[i] - s->base] >= least)
            s->found[kept++] = s->found[i];
    }
    s->found_count = kept;
}

/* The essential lists find rows; the others, the largest first, add to those that can still get there. */
static och_code window_split(struct scorer *s, struct split split, och_error *err)
{
    struct list *lists = s->lists.lists;
    double rest = split.bound;
    for (uint32_t i = split.prefix; i < s->lists.count; i++)
        TRY(add_list(s, &lists[s->order[i]], err));
    float least = round_down(s->need - s->margin - rest);
    uint64_t rows = s->notes_touched ? 0 : count_above(s, least);
    if (rows * (FOUND_COST + FOUND_PROBE * split.prefix) >
        split.saved) { /* too many to be followed */
        for (uint32_t i = 0; i < split.prefix; i++)
            TRY(add_list(s, &lists[s->order[i]], err));
        return each_above(s, &s->keep, consider, err);
    }
    s->found_count = 0;
    TRY(each_above(s, &least, collect, err));
    for (uint32_t i = split.prefix; i-- > 0 && s->found_count;) {
        struct list *list = &lists[s->order[i]];
        uint64_t postings = postings_of(list);
        if (postings && postings < ADD_WHOLE * (uint64_t)s->found_count)
            TRY(add_list(s, list, err));
        else if (postings)
            TRY(add_where(s, list, s->found, s->found_count, err));
        rest -= list->bound;
        /* what was subtracted may have left a rounding behind; the margin is far larger */
        drop_below(s, round_down(s->need - s->margin - (rest > 0 ? rest : 0)));
    }
    for (uint32_t i = 0; i < s->found_count; i++) {
        if (s->sums[s->found[i] - s->base] >= s->keep)
            TRY(consider(s, s->found[i], err));
    }
    return OCH_OK;
}

/* ---- windows ---- */

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

static och_code score_window(struct scorer *s, och_error *err)
{
    struct sparse_search *search = s->search;
    uint64_t postings = 0, allowed = count_allowed(s);
    double bound = 0;
    if (!allowed)
        return OCH_OK;
    for (uint32_t i = 0; i < s->lists.count; i++) {
        postings += enter_window(s, &s->lists.lists[i]);
        bound += s->lists.lists[i].bound;
    }
    if (!postings)
        return OCH_OK;
    search->windows++;
    if (search->plan == SPARSE_EXACT || !s->safe ||
        (s->allowed && search->plan == SPARSE_AUTO && allowed * ALLOWED_SHARE < postings)) {
        list_allowed(s);
        return score_rows(s, s->found, s->found_count, false, err);
    }
    if (search->plan == SPARSE_AUTO && bound < s->need - s->margin) {
        search->windows_skipped++;
        return OCH_OK;
    }
    struct split split = choose_split(s, postings);
    float least = split.prefix ? round_down(s->need - s->margin - split.bound) : s->keep;
    s->notes_touched = least <= 0 || postings < TOUCHED_MOST;
    och_code code = OCH_OK;
    if (split.prefix) {
        code = window_split(s, split, err);
    } else {
        for (uint32_t i = 0; i < s->lists.count && code == OCH_OK; i++)
            code = add_list(s, &s->lists.lists[i], err);
        if (code == OCH_OK)
            code = each_above(s, &s->keep, consider, err);
    }
    clear_window(s);
    return code;
}

/* Few rows are allowed in all: no windows. */
static och_code score_few(struct scorer *s, och_error *err)
{
    const struct segment *segment = &s->lists.segment;
    uint32_t n = 0;
    for (uint32_t w = segment->first_row / 64; w <= (segment->end_row - 1) / 64; w++) {
        for (uint64_t left = s->search->allowed[w]; left; left &= left - 1) {
            uint32_t row = w * 64 + (uint32_t)__builtin_ctzll(left);
            if (row >= segment->first_row && row < segment->end_row && n < FEW_ALLOWED)
                s->found[n++] = row;
        }
    }
    return n ? score_rows(s, s->found, n, false, err) : OCH_OK;
}

static void measure_lists(struct scorer *s)
{
    double sum = 0;
    for (uint32_t i = 0; i < s->lists.count; i++) {
        const struct list *list = &s->lists.lists[i];
        double most = fabs((double)list->max), least = fabs((double)list->min);
        sum += fabs((double)list->q) * (most > least ? most : least);
        s->order[i] = i;
        s->search->postings_all += list->df;
    }
    s->safe = sum < SAFE_SUM; /* false for what is not a number, too */
    s->margin = s->safe ? 4.0 * s->lists.count * (0x1p-24 * sum + 1e-44) : 0;
}

static och_code search_segment(struct scorer *s, och_error *err)
{
    const struct segment *segment = &s->lists.segment;
    const struct sparse_search *search = s->search;
    measure_lists(s);
    if (!s->lists.count)
        return OCH_OK;
    s->best_count = 0;
    update_global(s);
    if (search->allowed && search->allowed_count < FEW_ALLOWED && search->plan == SPARSE_AUTO)
        return score_few(s, err);
    for (uint64_t base = segment->first_row - segment->first_row % SPARSE_WINDOW;
         base < segment->end_row; base += SPARSE_WINDOW) {
        if (search->limits)
            TRY(work_check(search->limits, err));
        uint64_t end = base + SPARSE_WINDOW;
        s->base = (uint32_t)base;
        s->end = end < segment->end_row ? (uint32_t)end : segment->end_row;
        s->words = (s->end - s->base + 63) / 64;
        s->allowed = search->allowed ? search->allowed + base / 64 : NULL;
        TRY(score_window(s, err));
    }
    return settle(s, err);
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
    s->order = arena_alloc(arena, ((size_t)search->terms.count + 1) * sizeof(*s->order));
    s->sums = arena_alloc_aligned(arena, 64, window * sizeof(*s->sums));
    s->touched = ARENA_ARRAY(arena, uint64_t, WORDS);
    s->found = arena_alloc(arena, (window + 1) * sizeof(*s->found));
    s->rows = arena_alloc(arena, ((size_t)s->candidate_room + 1) * sizeof(*s->rows));
    s->exact = arena_alloc(arena, (rows + 1) * sizeof(*s->exact));
    s->held = arena_alloc(arena, rows + 1);
    s->candidates = arena_alloc(arena, ((size_t)s->candidate_room + 1) * sizeof(*s->candidates));
    s->best = arena_alloc(arena, (k + 1) * sizeof(*s->best));
    if (!s->order || !s->sums || !s->touched || !s->found || !s->rows || !s->exact || !s->held ||
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
    for (uint32_t i = 0; i < index->segment_count; i++) {
        if (segment_at(index, i).key != key)
            continue;
        struct arena made;
        arena_init(&made, arena->budget, 0);
        och_code code = lists_open(&s.lists, index, search->pages, i, &search->terms, &search->norm,
                                   &made, err);
        if (code == OCH_OK)
            code = search_segment(&s, err);
        *ret_offset = s.lists.fault_offset;
        arena_done(&made);
        TRY(code);
    }
    return OCH_OK;
}

/* ---- counting ---- */

static bool any_bit(const uint64_t *words, uint32_t from, uint32_t end)
{
    for (uint32_t w = from / 64; w <= (end - 1) / 64; w++) {
        uint64_t bits = words[w];
        if (w == from / 64)
            bits &= UINT64_MAX << from % 64;
        if (w == (end - 1) / 64)
            bits &= UINT64_MAX >> (63 - (end - 1) % 64);
        if (bits)
            return true;
    }
    return false;
}

static och_code count_list(struct lists *lists, struct list *list, const uint64_t *dead,
                           uint64_t *ret_count, och_error *err)
{
    uint64_t count = list->df;
    for (uint32_t b = 0; dead && b < list->block_count; b++) {
        uint32_t end =
            b + 1 < list->block_count ? list->runs[b + 1].first_row : lists->segment.end_row;
        if (!any_bit(dead, list->runs[b].first_row, end))
            continue;
        TRY(list_decode(lists, list, b, err));
        for (uint32_t i = 0; i < list->count; i++)
            count -= dead[list->rows[i] / 64] >> list->rows[i] % 64 & 1;
    }
    *ret_count += count;
    return OCH_OK;
}

och_code sparse_count(const struct sparse_index *index, const struct sparse_pages *pages, slice key,
                      const struct sparse_terms *terms, const uint64_t *dead,
                      const struct limits_of_work *limits, struct arena *arena, uint64_t *holders,
                      uint64_t *ret_offset, och_error *err)
{
    uint32_t number = index_key(index, key);
    for (uint32_t i = 0; number != UINT32_MAX && i < index->segment_count; i++) {
        struct lists lists;
        struct arena made;
        if (segment_at(index, i).key != number)
            continue;
        arena_init(&made, arena->budget, 0);
        och_code code = lists_open(&lists, index, pages, i, terms, NULL, &made, err);
        for (uint32_t l = 0; code == OCH_OK && l < lists.count; l++) {
            if (limits)
                code = work_check(limits, err);
            if (code == OCH_OK)
                code =
                    count_list(&lists, &lists.lists[l], dead, &holders[lists.lists[l].term], err);
        }
        *ret_offset = lists.fault_offset;
        arena_done(&made);
        TRY(code);
    }
    return OCH_OK;
}

och_code sparse_totals(const struct sparse_index *index, const struct sparse_pages *pages,
                       const uint64_t *dead, uint64_t *ret_documents, uint64_t *ret_terms,
                       och_error *err)
{
    uint64_t documents = index->documents, terms = index->terms;
    const uint8_t *lengths = NULL;
    uint32_t first = 0, there = 0;
    for (uint32_t w = 0; dead && w * 64 < index->rows; w++) {
        for (uint64_t left = dead[w]; left; left &= left - 1) {
            uint32_t row = w * 64 + (uint32_t)__builtin_ctzll(left);
            if (row >= index->rows)
                break;
            if (row - first >= there) {
                size_t len;
                TRY(pages->at(pages->context, LENGTHS_SLOT, index->lengths_at + 4 * (uint64_t)row,
                              &lengths, &len, err));
                first = row;
                there = (uint32_t)min_size(len / 4, index->rows - row);
                if (!there)
                    return FAIL(err, OCH_CORRUPT, "documents' lengths are cut");
            }
            uint32_t length = load_u32(lengths + 4 * (size_t)(row - first));
            documents -= length != TERMS_NONE;
            terms -= length != TERMS_NONE ? length : 0;
        }
    }
    *ret_documents = documents;
    *ret_terms = terms;
    return OCH_OK;
}
