/* SPDX-License-Identifier: Apache-2.0 */
/* What a search needs of a sum, the rows that may have it, and their exact sums. */
#include "index/sparse/sparse_scorer.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

#define SCORE_ROUNDING 0x1p-21

float scorer_round_down(double value)
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
    s->keep = scorer_round_down(s->need - s->margin);
}

void scorer_update(struct scorer *s)
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
static och_code add_exact(struct scorer *s, struct lists *lists, struct list *list,
                          const uint32_t *rows, uint32_t n, och_error *err)
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
            TRY(list_weight(lists, list, block, rows[i], &has, &weight, err));
            s->exact[i] += has ? q * (double)weight : 0;
            s->held[i] |= has;
            s->search->postings_settled++;
            i++;
            continue;
        }
        TRY(list_decode(lists, list, block, err));
        s->search->postings_settled += list->count;
        for (uint32_t at = 0; i < n && rows[i] < end; i++) {
            while (at < list->count && list->rows[at] < rows[i])
                at++;
            if (at == list->count || list->rows[at] != rows[i])
                continue;
            s->exact[i] += q * (double)list->weights[at];
            s->held[i] = 1;
        }
    }
    return OCH_OK;
}

och_code scorer_score_rows(struct scorer *s, struct opened *at, const uint32_t *rows, uint32_t n,
                           bool verified, och_error *err)
{
    const struct sparse_hits *hits = s->search->hits;
    memset(s->exact, 0, n * sizeof(*s->exact));
    memset(s->held, 0, n);
    for (uint32_t i = 0; i < at->lists.count; i++)
        TRY(add_exact(s, &at->lists, &at->lists.lists[i], rows, n, err));
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
    scorer_update(s);
    return OCH_OK;
}

static int by_row(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

och_code scorer_settle(struct scorer *s, och_error *err)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->candidate_count; i++) {
        if (s->candidates[i].sum >= s->keep)
            s->rows[n++] = s->candidates[i].row;
    }
    s->candidate_count = 0;
    if (!n)
        return OCH_OK;
    qsort(s->rows, n, sizeof(*s->rows), by_row); /* windows are not visited in order */
    for (uint32_t i = 0, from = 0; i < s->opened_count && from < n; i++) {
        uint32_t end = from;
        while (end < n && s->rows[end] < s->opened[i].lists.segment.end_row)
            end++;
        if (end > from)
            TRY(scorer_score_rows(s, &s->opened[i], s->rows + from, end - from, true, err));
        from = end;
    }
    return OCH_OK;
}

och_code scorer_consider(struct scorer *s, uint32_t row, och_error *err)
{
    bool pass;
    float sum = s->sums[row - s->base];
    if (!scorer_allows(s, row))
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
            TRY(scorer_settle(s, err));
    }
    s->candidates[s->candidate_count++] = (struct candidate){row, sum};
    return OCH_OK;
}
