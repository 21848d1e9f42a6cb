/* SPDX-License-Identifier: Apache-2.0 */
/* The Query Executor in this process: takes a plan, pins a view, runs, hands out rows with what they point into. */
#include "query/query_answer.h"
#include "query/query_correct.h"
#include "query/query_search.h"

#include <inttypes.h>

och_code query_local_new(const struct query_options *options, struct query **ret_query,
                         och_error *err)
{
    struct query *query = MEM_NEW(struct query);
    if (!query)
        return FAIL_NO_MEMORY(err, "the query executor");
    query->options = *options;
    query->kernel = kernel_get();
    och_code code = corrector_new(query, &query->corrector, err);
    if (code != OCH_OK) {
        mem_free(query);
        return code;
    }
    *ret_query = query;
    return OCH_OK;
}

void query_stop(struct query *query)
{
    corrector_stop(query->corrector);
}

void query_free(struct query *query)
{
    if (!query)
        return;
    corrector_free(query->corrector);
    mem_free(query);
}

void lookup_init(struct lookup *lookup, struct run *run)
{
    lookup->run = run;
    lookup->work = (struct filter_work){.limits = run->limits};
    arena_init(&lookup->arena, run->arena->budget, 0);
    part_reads_init(&lookup->reads, run->query->options.cache, &lookup->arena);
}

void lookup_done(struct lookup *lookup)
{
    part_reads_done(&lookup->reads);
    arena_done(&lookup->arena);
}

och_code query_fetch(struct run *run, struct query_result *result, struct view_place place,
                     struct query_row *ret_row, och_error *err)
{
    return view_read(run->view, place, &result->pins->reads,
                     run->plan->fields | RECORD_ID | RECORD_SEQ, &ret_row->record, err);
}

static och_code check_dimension(const struct run *run, och_error *err)
{
    uint32_t have = view_info(run->view)->dimension, asked = run->plan->dimension;
    if (run->plan->kind == PLAN_QUERY && run->plan->vector_count && have && asked != have)
        return FAIL(err, OCH_INVALID,
                    "Collection expecting embedding with dimension of %" PRIu32 ", got %" PRIu32,
                    have, asked);
    return OCH_OK;
}

/* Tasks run side by side: what a view makes on first use is made before they start. */
static och_code prepare(struct run *run, och_error *err)
{
    for (size_t i = 0; i < view_part_count(run->view); i++) {
        const struct bitset *dead;
        TRY(view_dead(run->view, i, &dead, err));
    }
    return OCH_OK;
}

static och_code dispatch(struct run *run, struct query_result *result, och_error *err)
{
    TRY(check_dimension(run, err));
    TRY(prepare(run, err));
    if (run->plan->kind == PLAN_SEARCH) /* each payload has a filter of its own */
        return query_run_search(run, result, err);
    TRY(filter_compile(run->plan->filter, &run->filter, err));
    run->needs = run->filter ? filter_needs(run->filter) : 0;
    TRY(answers_open(run, err));
    if (run->plan->kind == PLAN_QUERY || run->plan->has_ids) /* get and count do it as they go */
        TRY(answers_evaluate(run, err));
    switch (run->plan->kind) {
    case PLAN_COUNT:
        return query_run_count(run, result, err);
    case PLAN_FACETS:
        return query_run_facets(run, result, err);
    case PLAN_GET:
        return query_run_get(run, result, err);
    case PLAN_QUERY:
        return query_run_knn(run, result, err);
    default:
        return FAIL(err, OCH_INVALID, "unknown plan kind %u", run->plan->kind);
    }
}

static och_code say_more(struct run *run, struct query_result *result, uint64_t began_ns,
                         och_error *err)
{
    struct buf text;
    buf_init(&text, 4096);
    if (view_warning(run->view, &text))
        result->warning = arena_copy(run->arena, buf_view(&text));
    och_code code = buf_check(&text, "a warning", err);
    buf_done(&text);
    if (code == OCH_OK && run->plan->explain)
        code = run_explain(run, began_ns, &result->explain, err);
    return code;
}

/* How a plan runs, beside what it says. */
struct manner {
    const struct view *at; /* over a copy of this view; NULL: over what there is now */
    float effort;
    bool learns;
};

static och_code run_so(struct query *query, const struct plan *plan,
                       const struct limits_of_work *limits, struct manner manner,
                       struct arena *arena, struct query_result *ret_result, och_error *err)
{
    static const struct limits_of_work no_limits;
    *ret_result = (struct query_result){0};
    uint64_t began_ns = clock_mono_ns(query->options.clock);
    struct run run = {.query = query,
                      .plan = plan,
                      .limits = limits ? limits : &no_limits,
                      .arena = arena,
                      .effort = manner.effort,
                      .learns = manner.learns};
    TRY(work_check(run.limits, err));
    struct query_pins *pins = ARENA_NEW(arena, struct query_pins);
    if (!pins)
        return FAIL_NO_MEMORY(err, "a query");
    if (manner.at)
        TRY(view_copy(manner.at, &pins->view, err));
    else
        TRY(view_acquire(query->options.views, plan->collection, plan->level, &pins->view, err));
    part_reads_init(&pins->reads, query->options.cache, arena);
    ret_result->pins = pins;
    run.view = pins->view;
    ret_result->at = view_info(run.view)->to;
    ret_result->dimension = view_info(run.view)->dimension;
    och_code code = dispatch(&run, ret_result, err);
    if (code == OCH_OK)
        code = say_more(&run, ret_result, began_ns, err);
    answers_done(&run);
    filter_free(run.filter);
    if (code != OCH_OK)
        query_result_done(ret_result);
    return code;
}

och_code query_run_effort(struct query *query, const struct plan *plan,
                          const struct limits_of_work *limits, float effort, struct arena *arena,
                          struct query_result *ret_result, och_error *err)
{
    struct manner manner = {.effort = effort};
    return run_so(query, plan, limits, manner, arena, ret_result, err);
}

och_code query_run_view(struct query *query, const struct plan *plan, const struct view *view,
                        const struct limits_of_work *limits, struct arena *arena,
                        struct query_result *ret_result, och_error *err)
{
    struct manner manner = {.at = view, .effort = 1};
    return run_so(query, plan, limits, manner, arena, ret_result, err);
}

och_code query_run(struct query *query, const struct plan *plan,
                   const struct limits_of_work *limits, struct arena *arena,
                   struct query_result *ret_result, och_error *err)
{
    struct correction correction = {.effort = 1};
    if (plan->kind == PLAN_QUERY || plan->kind == PLAN_SEARCH)
        (void)corrector_effort(query->corrector, plan->collection, &correction);
    corrector_enter(query->corrector);
    struct manner manner = {.effort = correction.effort, .learns = true};
    och_code code = run_so(query, plan, limits, manner, arena, ret_result, err);
    corrector_leave(query->corrector);
    return code;
}

void query_result_done(struct query_result *result)
{
    if (!result->pins)
        return;
    part_reads_done(&result->pins->reads);
    view_release(result->pins->view);
    result->pins = NULL;
}
