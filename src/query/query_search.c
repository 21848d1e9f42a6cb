/* SPDX-License-Identifier: Apache-2.0 */
/* Search (query-language.md §4): several payloads over one view.  Each $knn gives its ranked list; records that any list holds are the candidates, in
 * insertion order; the rank expression is worked out for one after another; then sort, groups, page, fields. */
#include "query/query_search.h"

#include "query/query_answer.h"
#include "query/query_sparse.h"

#include "part/part_sparse.h"

#include <inttypes.h>
#include <stdlib.h>

#define CHECK_EVERY 1024 /* rows or, about, evaluated steps between looks at the deadline */
#define ROWS_WORTH  4096 /* of a collection, from which rankings run side by side */

/* ---- $knn: ranked lists ---- */

static bool is_dense(const struct search_knn *knn)
{
    return !knn->sparse && !knn->text;
}

/* Dense queries of one payload that want the same number of hits are one search of several vectors. */
static och_code rank_dense(struct run *run, const struct search *search, uint32_t limit,
                           struct topk *lists, och_error *err)
{
    const struct plan *asked = run->plan;
    struct plan plan = *asked;
    uint32_t count = 0;
    for (uint32_t i = 0; i < search->knn_count; i++)
        count += is_dense(&search->knns[i]) && search->knns[i].limit == limit;
    plan.vector_count = count;
    plan.dimension = view_info(run->view)->dimension;
    plan.k = limit;
    size_t bytes;
    if (mul_overflows((size_t)count * sizeof(float), plan.dimension, &bytes))
        return FAIL(err, OCH_TOO_LARGE, "too many query vectors");
    float *vectors = arena_alloc_aligned(run->arena, 64, bytes + 64);
    uint32_t *owners = ARENA_ARRAY(run->arena, uint32_t, count);
    if (!vectors || !owners)
        return FAIL_NO_MEMORY(err, "a search");
    count = 0;
    for (uint32_t i = 0; i < search->knn_count; i++) {
        const struct search_knn *knn = &search->knns[i];
        if (!is_dense(knn) || knn->limit != limit)
            continue;
        memcpy(vectors + (size_t)count * plan.dimension, knn->values,
               plan.dimension * sizeof(float));
        owners[count++] = i;
    }
    plan.vectors = vectors;
    run->plan = &plan;
    struct topk *best = NULL;
    och_code code = query_knn_nearest(run, &best, err);
    run->plan = asked;
    for (uint32_t i = 0; code == OCH_OK && i < count; i++)
        lists[owners[i]] = best[i];
    return code;
}

static och_code rank_sparse(struct run *run, const struct search_knn *knn, struct topk *list,
                            och_error *err)
{
    struct sparse_query query = {.key = knn->key,
                                 .dims = knn->indices,
                                 .weights = knn->values,
                                 .count = knn->count,
                                 .k = knn->limit,
                                 .bm25 = knn->bm25};
    if (knn->text) {
        query.text = query.bm25 = true;
        query.key = PART_TERMS_KEY;
        TRY(text_terms(knn->words, run->arena, &query, err));
    }
    return query_sparse(run, &query, list, err);
}

/* One ranking, or all dense ones that want the same number of hits: as many as run side by side. */
struct list_task {
    struct run run; /* its own: plan, arena and counters change while it works */
    const struct search *search;
    uint32_t knn; /* the first of them */
    struct topk *lists;
    och_code code;
    och_error err;
};

static och_code rank_task(struct list_task *task, struct run *run, och_error *err)
{
    const struct search_knn *knn = &task->search->knns[task->knn];
    return is_dense(knn) ? rank_dense(run, task->search, knn->limit, task->lists, err)
                         : rank_sparse(run, knn, &task->lists[task->knn], err);
}

static void run_task(void *context, size_t i)
{
    struct list_task *task = (struct list_task *)context + i;
    task->code = rank_task(task, &task->run, &task->err);
}

static bool task_wanted(const struct run *run, const struct search *search, uint32_t knn)
{
    if (!is_dense(&search->knns[knn]))
        return true;
    for (uint32_t j = 0; j < knn; j++)
        if (is_dense(&search->knns[j]) && search->knns[j].limit == search->knns[knn].limit)
            return false;
    return view_info(run->view)->dimension != 0; /* else nobody has a vector */
}

/* Rankings do not depend on each other: each in an arena of its own, which holds its list until the lists are joined.  Few rows are not worth waking anyone. */
static och_code rank_lists(struct run *run, const struct search *search, struct topk *lists,
                           struct arena *arenas, och_error *err)
{
    struct list_task *tasks = ARENA_ARRAY(run->arena, struct list_task, search->knn_count);
    size_t count = 0;
    if (!tasks)
        return FAIL_NO_MEMORY(err, "a search");
    for (uint32_t i = 0; i < search->knn_count; i++)
        if (task_wanted(run, search, i))
            tasks[count++] = (struct list_task){.search = search, .knn = i, .lists = lists};
    bool beside = count > 1 && !run->plan->explain && run->query->options.pool &&
                  view_info(run->view)->live_rows >= ROWS_WORTH;
    for (size_t i = 0; i < count && !beside; i++) {
        const struct search_knn *knn = &search->knns[tasks[i].knn];
        uint64_t since = run_now(run);
        run->sources = NULL;
        TRY(rank_task(&tasks[i], run, err));
        run_tell_ranking(run,
                         knn->text     ? "$bm25"
                         : knn->sparse ? "sparse $knn"
                                       : "$knn",
                         knn->limit, lists[tasks[i].knn].len, since);
    }
    for (size_t i = 0; i < count && beside; i++) {
        tasks[i].run = *run;
        tasks[i].run.arena = &arenas[i];
    }
    if (beside)
        pool_for(run->query->options.pool, count, run_task, tasks);
    for (size_t i = 0; i < count && beside; i++) {
        if (tasks[i].code == OCH_OK)
            continue;
        if (err)
            *err = tasks[i].err;
        return tasks[i].code;
    }
    return OCH_OK;
}

/* ---- scores ---- */

struct hit { /* one record in one ranked list */
    int64_t seq;
    struct view_place place;
    uint32_t knn;
    float score;
};
struct scored {
    int64_t seq;
    struct view_place place;
    float score;
};

static int hit_order(const void *a, const void *b)
{
    const struct hit *x = a, *y = b;
    if (x->seq != y->seq)
        return x->seq < y->seq ? -1 : 1;
    return (x->knn > y->knn) - (x->knn < y->knn);
}

static int scored_order(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;
    int order = rank_compare(x->score, y->score);
    return order ? order : (x->seq > y->seq) - (x->seq < y->seq);
}

/* How many of a ranked list are near enough. */
static size_t near_enough(const struct search_knn *knn, const struct topk *list)
{
    size_t len = list->len;
    while (knn->has_max && len && !(list->items[len - 1].distance <= knn->max_distance))
        len--;
    return len;
}

static och_code gather(struct run *run, const struct search *search, const struct topk *lists,
                       struct hit **ret_hits, size_t *ret_count, och_error *err)
{
    size_t total = 0, count = 0;
    for (uint32_t i = 0; i < search->knn_count; i++)
        total += near_enough(&search->knns[i], &lists[i]);
    struct hit *hits = ARENA_ARRAY(run->arena, struct hit, total + 1);
    if (!hits)
        return FAIL_NO_MEMORY(err, "the candidates of a search");
    for (uint32_t i = 0; i < search->knn_count; i++) {
        bool rank = search->knns[i].return_rank;
        size_t len = near_enough(&search->knns[i], &lists[i]);
        for (size_t j = 0; j < len; j++) {
            const struct topk_item *item = &lists[i].items[j];
            bool in_tail = item->source == view_part_count(run->view);
            hits[count++] =
                (struct hit){.seq = item->seq,
                             .place = {in_tail ? VIEW_NO_PART : item->source, (uint32_t)item->row},
                             .knn = i,
                             .score = rank ? (float)j : item->distance};
        }
    }
    if (count > 1)
        qsort(hits, count, sizeof(*hits), hit_order);
    *ret_hits = hits;
    *ret_count = count;
    return OCH_OK;
}

/* The expression for every record that a list holds; those in its support, best first. */
static och_code score(struct run *run, const struct search *search, const struct hit *hits,
                      size_t hit_count, struct scored **ret_rows, size_t *ret_count, och_error *err)
{
    struct scored *rows = ARENA_ARRAY(run->arena, struct scored, hit_count + 1);
    struct rank_value *values =
        ARENA_ARRAY(run->arena, struct rank_value, (size_t)search->knn_count + 1);
    if (!rows || !values)
        return FAIL_NO_MEMORY(err, "the scores of a search");
    for (uint32_t i = 0; i < search->knn_count; i++)
        values[i] = (struct rank_value){.fallback = search->knns[i].fallback,
                                        .has_fallback = search->knns[i].has_fallback};
    size_t count = 0;
    uint64_t steps = 0;
    for (size_t at = 0, end; at < hit_count; at = end) {
        for (end = at; end < hit_count && hits[end].seq == hits[at].seq; end++) {
            values[hits[end].knn].has = true;
            values[hits[end].knn].value = hits[end].score;
        }
        struct rank_value v = rank_evaluate(search->steps, search->step_count, values);
        if (v.has)
            rows[count++] = (struct scored){hits[at].seq, hits[at].place, v.value};
        for (size_t i = at; i < end; i++)
            values[hits[i].knn].has = false;
        if ((steps += search->step_count) > CHECK_EVERY * 16) {
            steps = 0;
            TRY(work_check(run->limits, err));
        }
    }
    if (count > 1)
        qsort(rows, count, sizeof(*rows), scored_order);
    *ret_rows = rows;
    *ret_count = count;
    return OCH_OK;
}

/* ---- groups ---- */

/* A candidate with the values that say which group it is in and where. */
struct member {
    const struct search_group *group;
    slice key; /* the group's values, as bytes that are equal when they are */
    const struct meta_entry *const *order; /* by aggregate key; NULL: missing */
    struct scored row;
    size_t at; /* by score: what is equal stays in this order */
};

static int member_order(const void *a, const void *b)
{
    const struct member *x = a, *y = b;
    const struct search_group *group = x->group;
    int order = slice_compare(x->key, y->key);
    for (uint32_t i = 0; i < group->order_count && order == 0; i++) {
        order = slice_equal(group->order[i], SLICE("#score"))
                    ? rank_compare(x->row.score, y->row.score)
                    : search_compare_meta(x->order[i], y->order[i]);
        if (group->aggregate == SEARCH_MAX_K)
            order = -order;
    }
    return order ? order : (x->at > y->at) - (x->at < y->at);
}

static const struct meta_entry *value_of(slice metadata, slice key, struct meta_entry *entry)
{
    bool there = metadata.at && !filter_key_is_reserved(key) && meta_find(metadata, key, entry);
    return there ? entry : NULL;
}

/* Values are copied: the blocks that they lie in are given back. */
static och_code member_fill(struct run *run, const struct search_group *group, slice metadata,
                            struct member *member, och_error *err)
{
    CLEANUP(buf_cleanup) struct buf key;
    buf_init(&key, BUF_MAX_NONE);
    for (uint32_t i = 0; i < group->key_count; i++) {
        struct meta_entry entry;
        const struct meta_entry *value = value_of(metadata, group->keys[i], &entry);
        buf_byte(&key, value ? value->type : 0);
        if (value)
            buf_sized(&key, value->value);
    }
    TRY(buf_check(&key, "a group", err));
    const struct meta_entry **order =
        ARENA_ARRAY(run->arena, const struct meta_entry *, (size_t)group->order_count + 1);
    member->key = arena_copy(run->arena, buf_view(&key));
    if (!order || !member->key.at)
        return FAIL_NO_MEMORY(err, "the groups of a search");
    for (uint32_t i = 0; i < group->order_count; i++) {
        struct meta_entry entry;
        if (!value_of(metadata, group->order[i], &entry))
            continue;
        struct meta_entry *copy = ARENA_NEW(run->arena, struct meta_entry);
        if (!copy)
            return FAIL_NO_MEMORY(err, "the groups of a search");
        copy->type = entry.type;
        copy->value = arena_copy(run->arena, entry.value);
        if (!copy->value.at)
            return FAIL_NO_MEMORY(err, "the groups of a search");
        order[i] = copy;
    }
    member->group = group;
    member->order = order;
    return OCH_OK;
}

/* What is shown of candidates in parts: one batch of reads a part, instead of one wait after another. */
static och_code read_ahead(struct run *run, struct part_reads *reads, unsigned fields,
                           const struct scored *rows, size_t count, och_error *err)
{
    uint32_t *list = ARENA_ARRAY(run->arena, uint32_t, count + 1);
    if (!list)
        return FAIL_NO_MEMORY(err, "the results of a search");
    for (size_t part = 0; part < view_part_count(run->view); part++) {
        size_t found = 0;
        for (size_t i = 0; i < count; i++)
            if (rows[i].place.part == part)
                list[found++] = rows[i].place.row;
        if (found)
            part_read_ahead(view_part(run->view, part), reads, list, found, fields);
    }
    return OCH_OK;
}

static och_code fill_members(struct run *run, const struct search_group *group,
                             const struct scored *rows, size_t count, struct member *members,
                             och_error *err)
{
    struct lookup lookup;
    lookup_init(&lookup, run);
    och_code code = OCH_OK;
    for (size_t i = 0; i < count && code == OCH_OK; i++) {
        struct record record;
        if (i % QUERY_AHEAD_ROWS == 0) {
            lookup_done(&lookup); /* pinned blocks of rows before are not needed any more */
            lookup_init(&lookup, run);
            code = work_check(run->limits, err);
            if (code == OCH_OK)
                code = read_ahead(run, &lookup.reads, RECORD_METADATA, rows + i,
                                  min_size(count - i, QUERY_AHEAD_ROWS), err);
        }
        if (code == OCH_OK)
            code =
                view_read(run->view, rows[i].place, &lookup.reads, RECORD_METADATA, &record, err);
        if (code == OCH_OK)
            code = member_fill(run, group, record.metadata, &members[i], err);
        members[i].row = rows[i];
        members[i].at = i;
    }
    lookup_done(&lookup);
    return code;
}

/* rows: best first; those that their group keeps, best first. */
static och_code keep_groups(struct run *run, const struct search_group *group, struct scored *rows,
                            size_t *count, och_error *err)
{
    struct member *members = ARENA_ARRAY(run->arena, struct member, *count + 1);
    if (!members)
        return FAIL_NO_MEMORY(err, "the groups of a search");
    TRY(fill_members(run, group, rows, *count, members, err));
    if (*count > 1)
        qsort(members, *count, sizeof(*members), member_order);
    size_t kept = 0, in_group = 0;
    for (size_t i = 0; i < *count; i++) {
        in_group = i && slice_equal(members[i].key, members[i - 1].key) ? in_group + 1 : 0;
        if (in_group < group->k)
            rows[kept++] = members[i].row;
    }
    if (kept > 1)
        qsort(rows, kept, sizeof(*rows), scored_order);
    *count = kept;
    return OCH_OK;
}

/* ---- payloads ---- */

static och_code fetch(struct run *run, struct query_result *result, unsigned fields,
                      const struct scored *rows, size_t count, struct query_hits *ret_hits,
                      och_error *err)
{
    struct query_row *out = ARENA_ARRAY(run->arena, struct query_row, count + 1);
    if (!out)
        return FAIL_NO_MEMORY(err, "the results of a search");
    fields |= RECORD_ID | RECORD_SEQ;
    for (size_t i = 0; i < count; i++) {
        if (i % QUERY_AHEAD_ROWS == 0) {
            TRY(work_check(run->limits, err));
            TRY(read_ahead(run, &result->pins->reads, fields, rows + i,
                           min_size(count - i, QUERY_AHEAD_ROWS), err));
        }
        TRY(view_read(run->view, rows[i].place, &result->pins->reads, fields, &out[i].record, err));
        out[i].distance = rows[i].score;
    }
    *ret_hits = (struct query_hits){out, count};
    return OCH_OK;
}

/* Every record that a list holds. */
static och_code find_candidates(struct run *run, const struct search *search, struct hit **ret_hits,
                                size_t *ret_count, och_error *err)
{
    struct topk *lists = ARENA_ARRAY(run->arena, struct topk, (size_t)search->knn_count + 1);
    struct arena *arenas = ARENA_ARRAY(run->arena, struct arena, (size_t)search->knn_count + 1);
    och_code code = OCH_OK;
    if (!lists || !arenas)
        return FAIL_NO_MEMORY(err, "a search");
    for (uint32_t i = 0; i < search->knn_count; i++)
        arena_init(&arenas[i], run->arena->budget, 0);
    if (search->knn_count) {
        code = answers_evaluate(run, err);
        if (code == OCH_OK)
            code = rank_lists(run, search, lists, arenas, err);
    }
    if (code == OCH_OK)
        code = gather(run, search, lists, ret_hits, ret_count, err);
    for (uint32_t i = 0; i < search->knn_count; i++)
        arena_done(&arenas[i]);
    return code;
}

static och_code search_ranked(struct run *run, const struct search *search,
                              struct query_result *result, struct query_hits *ret_hits,
                              och_error *err)
{
    struct hit *hits = NULL;
    struct scored *rows = NULL;
    size_t count = 0;
    TRY(find_candidates(run, search, &hits, &count, err));
    TRY(score(run, search, hits, count, &rows, &count, err));
    if (search->group.aggregate)
        TRY(keep_groups(run, &search->group, rows, &count, err));
    size_t first = search->offset < count ? (size_t)search->offset : count;
    count -= first;
    if (search->limit < count)
        count = (size_t)search->limit;
    return fetch(run, result, search->fields, rows + first, count, ret_hits, err);
}

/* Insertion order; the score is the place in it, counted before the offset. */
static och_code search_listed(struct run *run, const struct search *search,
                              struct query_result *result, struct query_hits *ret_hits,
                              och_error *err)
{
    struct query_result listed = {.pins = result->pins};
    TRY(query_run_get(run, &listed, err));
    *ret_hits = listed.hits[0];
    for (size_t i = 0; i < ret_hits->count; i++)
        ret_hits->rows[i].distance = (float)(search->offset + i);
    return OCH_OK;
}

static och_code search_one(struct run *run, const struct search *search,
                           struct query_result *result, struct query_hits *ret_hits, och_error *err)
{
    const struct plan *asked = run->plan;
    struct plan plan = *asked; /* this payload as a get or a query */
    plan.kind = search->has_rank ? PLAN_QUERY : PLAN_GET;
    plan.filter = search->filter;
    plan.fields = search->fields;
    plan.limit = search->limit;
    plan.offset = search->offset;
    plan.searches = NULL;
    plan.search_count = 0;
    TRY(work_check(run->limits, err));
    TRY(filter_compile(search->filter, &run->filter, err));
    run->needs = run->filter ? filter_needs(run->filter) : 0;
    run->plan = &plan;
    och_code code = answers_open(run, err);
    if (code == OCH_OK)
        code = search->has_rank ? search_ranked(run, search, result, ret_hits, err)
                                : search_listed(run, search, result, ret_hits, err);
    answers_done(run);
    filter_free(run->filter);
    run->filter = NULL;
    run->plan = asked;
    return code;
}

static och_code check_dimensions(const struct run *run, och_error *err)
{
    uint32_t have = view_info(run->view)->dimension;
    for (uint32_t i = 0; have && i < run->plan->search_count; i++) {
        const struct search *search = &run->plan->searches[i];
        for (uint32_t j = 0; j < search->knn_count; j++)
            if (is_dense(&search->knns[j]) && search->knns[j].count != have)
                return FAIL(err, OCH_INVALID,
                            "Collection expecting embedding with dimension of %" PRIu32
                            ", got %" PRIu32,
                            have, search->knns[j].count);
    }
    return OCH_OK;
}

och_code query_run_search(struct run *run, struct query_result *result, och_error *err)
{
    const struct plan *plan = run->plan;
    TRY(check_dimensions(run, err));
    result->hits = ARENA_ARRAY(run->arena, struct query_hits, (size_t)plan->search_count + 1);
    if (!result->hits)
        return FAIL_NO_MEMORY(err, "a search");
    result->hit_count = plan->search_count;
    CLEANUP(buf_cleanup) struct buf told;
    buf_init(&told, BUF_MAX_NONE);
    run->told = plan->explain ? &told : NULL;
    for (uint32_t i = 0; i < plan->search_count; i++) {
        uint64_t since = run_now(run);
        if (run->told)
            buf_text(&told, i ? ",{\"rankings\":[" : "{\"rankings\":[");
        TRY(search_one(run, &plan->searches[i], result, &result->hits[i], err));
        if (run->told)
            buf_printf(&told, "],\"hits\":%zu,\"time_us\":%" PRIu64 "}", result->hits[i].count,
                       (sched_mono_ns() - since) / 1000);
    }
    run->told = NULL;
    TRY(buf_check(&told, "explain", err));
    if (told.len)
        run->searches = arena_copy(run->arena, buf_view(&told));
    return told.len && !run->searches.at ? FAIL_NO_MEMORY(err, "explain") : OCH_OK;
}
