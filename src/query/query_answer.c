/* SPDX-License-Identifier: Apache-2.0 */
/* The plan's filter as bitsets over each part: metadata by its index, documents by theirs, ids by look-up.  What stays open after that is asked row
 * by row (query_filter.c). */
#include "query/query_answer.h"

#include <stdlib.h>

#define IDS_FEW      256     /* so many ids are asked one by one, with no index at all */
#define CHEAP_OPEN   512     /* so many rows to be looked at are few */
#define SIDE_BY_SIDE 200000u /* rows in all from which parts are evaluated by several threads */

/* ---- leaves that are not about metadata ---- */

struct asked {
    struct run *run;
    struct part *part;
};

static int compare_rows(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Rows of the part with one of these ids.  Dead ones are among them: they are left out later. */
static och_code rows_of_ids(const struct asked *asked, const struct filter_node *leaf,
                            struct arena *arena, struct rows_answer *ret, och_error *err)
{
    uint32_t *rows = ARENA_ARRAY(arena, uint32_t, (size_t)leaf->value_count + 1), found = 0,
             kept = 0;
    if (!rows)
        return FAIL_NO_MEMORY(err, "a filter");
    for (uint32_t i = 0; i < leaf->value_count; i++) {
        slice id = leaf->values[i].string;
        if (i % 1024 == 0)
            TRY(work_check(asked->run->limits, err));
        TRY(part_find(asked->part, id, slice_hash(id), &rows[found], err));
        found += rows[found] != PART_NO_ROW;
    }
    if (found)
        qsort(rows, found, sizeof(*rows), compare_rows);
    for (uint32_t i = 0; i < found; i++) {
        if (!kept || rows[kept - 1] != rows[i])
            rows[kept++] = rows[i];
    }
    *ret = (struct rows_answer){.exact = true,
                                .maybe = {.kind = ROWS_LIST, .count = kept, .list = rows}};
    return OCH_OK;
}

static och_code answer_leaf(void *context, const struct filter_node *leaf, uint32_t open,
                            struct arena *arena, struct rows_answer *ret, och_error *err)
{
    const struct asked *asked = context;
    *ret = rows_unknown(part_rows(asked->part));
    switch (leaf->op) {
    case FILTER_ID_IN:
    case FILTER_ID_NIN: /* a look-up costs two or three rows asked for their ids */
        return leaf->value_count / 2 <= open ? rows_of_ids(asked, leaf, arena, ret, err) : OCH_OK;
    default:
        return part_text_rows(asked->part, leaf, open, asked->run->limits, arena, ret, err);
    }
}

/* ---- opening ---- */

static och_code open_part(struct run *run, size_t i, och_error *err)
{
    struct answer *answer = &run->answers[i];
    struct part *part = view_part(run->view, i);
    struct asked asked = {run, part};
    answer->has_expiry = part_has_expiry(part);
    const struct part_filter_options options = {.compiled = run->filter,
                                                .other = answer_leaf,
                                                .other_context = &asked,
                                                .limits = run->limits};
    TRY(part_filter_new(part, run->plan->filter, &options, &answer->arena, &answer->filter, err));
    if (!answer->filter)
        return OCH_OK;
    /* chunks are written whole */
    size_t words = (bitset_words(part_rows(part)) + 7) / 8 * 8;
    bool exact = answer->filter->search.exact;
    answer->sure = arena_alloc_aligned(&answer->arena, 64, words * 8);
    answer->maybe = exact ? answer->sure : arena_alloc_aligned(&answer->arena, 64, words * 8);
    return answer->sure && answer->maybe ? OCH_OK : FAIL_NO_MEMORY(err, "a filter");
}

och_code answers_open(struct run *run, och_error *err)
{
    size_t count = view_part_count(run->view);
    if (!run->filter || !count || (run->plan->has_ids && run->plan->id_count <= IDS_FEW))
        return OCH_OK;
    run->answers = ARENA_ARRAY(run->arena, struct answer, count);
    if (!run->answers)
        return FAIL_NO_MEMORY(err, "a filter");
    for (size_t i = 0; i < count; i++)
        arena_init(&run->answers[i].arena, run->arena->budget, 0);
    run->answer_count = count;
    for (size_t i = 0; i < count; i++)
        TRY(open_part(run, i, err));
    return OCH_OK;
}

void answers_done(struct run *run)
{
    for (size_t i = 0; i < run->answer_count; i++)
        arena_done(&run->answers[i].arena);
    run->answer_count = 0;
    run->answers = NULL;
}

/* ---- evaluating ---- */

static void count_chunk(struct answer *answer, size_t first, size_t words)
{
    const struct kernel_code *kernel = kernel_code_get();
    uint64_t maybe = kernel->popcount(answer->maybe + first, words);
    answer->passing += maybe;
    if (answer->maybe != answer->sure) /* sure rows are among those that may */
        answer->open += maybe - kernel->popcount(answer->sure + first, words);
}

static och_code evaluate_upto(struct run *run, struct answer *answer, uint32_t part_rows_all,
                              uint32_t rows, och_error *err)
{
    while (answer->filter && answer->ready < rows) {
        uint32_t chunk = answer->ready / META_CHUNK, left = part_rows_all - answer->ready;
        size_t first = (size_t)chunk * META_CHUNK_WORDS;
        uint32_t count = left < META_CHUNK ? left : META_CHUNK;
        bool usable;
        TRY(work_check(run->limits, err));
        if (meta_search_is_empty(&answer->filter->search, chunk)) {
            memset(answer->sure + first, 0, bitset_words(count) * 8);
            memset(answer->maybe + first, 0, bitset_words(count) * 8);
            answer->ready += count;
            continue;
        }
        TRY(part_filter_chunk(answer->filter, chunk, answer->sure + first, answer->maybe + first,
                              &usable, err));
        if (!usable) { /* its rows are asked one by one, also those that were said */
            answer->filter = NULL;
            break;
        }
        count_chunk(answer, first, bitset_words(count));
        answer->ready += count;
    }
    return OCH_OK;
}

och_code answer_upto(struct run *run, size_t part, uint32_t rows, och_error *err)
{
    if (!run->answers)
        return OCH_OK;
    return evaluate_upto(run, &run->answers[part], part_rows(view_part(run->view, part)), rows,
                         err);
}

struct evaluation {
    struct run *run;
    struct mutex lock; /* guards code, err */
    och_code code;
    och_error err;
};

static void evaluate_task(void *context, size_t i)
{
    struct evaluation *e = context;
    och_error failure = {0};
    uint32_t rows = part_rows(view_part(e->run->view, i));
    och_code code = evaluate_upto(e->run, &e->run->answers[i], rows, rows, &failure);
    if (code == OCH_OK)
        return;
    mutex_lock(&e->lock);
    if (e->code == OCH_OK) {
        e->code = code;
        e->err = failure;
    }
    mutex_unlock(&e->lock);
}

och_code answers_evaluate(struct run *run, och_error *err)
{
    struct evaluation e = {.run = run};
    uint64_t rows = 0;
    for (size_t i = 0; i < run->answer_count; i++)
        rows += part_rows(view_part(run->view, i));
    mutex_init(&e.lock, RANK_LEAF);
    pool_for(rows < SIDE_BY_SIDE ? NULL : run->query->options.pool, run->answer_count,
             evaluate_task, &e);
    mutex_done(&e.lock);
    if (e.code != OCH_OK && err)
        *err = e.err;
    return e.code;
}

/* ---- asking ---- */

bool answer_is_cheap(const struct run *run, size_t part)
{
    const struct answer *answer = answer_of(run, part, part_rows(view_part(run->view, part)));
    return answer && !answer->has_expiry && answer->open <= CHEAP_OPEN;
}

och_code answer_count(struct run *run, size_t part, bool *ret_known, uint64_t *ret_count,
                      och_error *err)
{
    const struct bitset *dead;
    uint32_t rows = part_rows(view_part(run->view, part));
    struct answer *answer = run->answers ? &run->answers[part] : NULL;
    *ret_known = false;
    if (!answer || !answer->filter || answer->has_expiry || !answer->filter->search.exact)
        return OCH_OK;
    TRY(view_dead(run->view, part, &dead, err));
    const struct meta_search *search = &answer->filter->search;
    if (!dead && search->at_least == search->at_most) { /* before any row is looked at */
        *ret_known = true;
        *ret_count = search->at_most;
        return OCH_OK;
    }
    TRY(answer_upto(run, part, rows, err));
    if (!answer_of(run, part, rows))
        return OCH_OK;
    const struct kernel_code *kernel = kernel_code_get();
    *ret_known = true;
    *ret_count = answer->passing -
                 (dead ? kernel->popcount_and(answer->sure, dead->words, bitset_words(rows)) : 0);
    return OCH_OK;
}
