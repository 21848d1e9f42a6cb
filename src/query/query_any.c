/* SPDX-License-Identifier: Apache-2.0 */
/* Does one of some rows pass a filter?  For what depends on a read that was made before: whatever was written since is looked at row by row, so the
 * cost is that of what was written, not of the collection. */
#include "query/query_internal.h"

static och_code suspect(struct lookup *l, slice id, int64_t seq_max, bool *ret_any, och_error *err)
{
    struct run *run = l->run;
    struct view_place place;
    bool found;
    TRY(view_find(run->view, id, &place, &found, err));
    if (!found)
        return OCH_OK;
    int64_t seq;
    if (place.part == VIEW_NO_PART)
        seq = view_slot(run->view, place.row)->record.seq;
    else
        TRY(part_seq(view_part(run->view, place.part), place.row, &seq, err));
    if (seq > seq_max)
        return OCH_OK;
    *ret_any = true;
    return run->filter ? survive_place(l, place, ret_any, err) : OCH_OK;
}

#define ROWS_AT_ONCE 256 /* then what was read for them is given back */

static och_code look(struct run *run, const struct query_suspects *suspects, size_t first,
                     bool *ret_any, och_error *err)
{
    struct lookup lookup;
    lookup_init(&lookup, run);
    och_code code = work_check(run->limits, err);
    for (size_t i = first; i < suspects->count && i < first + ROWS_AT_ONCE; i++) {
        if (code == OCH_OK && !*ret_any)
            code = suspect(&lookup, suspects->ids[i], suspects->seq_max, ret_any, err);
    }
    lookup_done(&lookup);
    return code;
}

och_code query_any(struct query *query, struct view *view, const struct query_suspects *suspects,
                   const struct limits_of_work *limits, bool *ret_any, och_error *err)
{
    static const struct limits_of_work no_limits;
    struct arena arena;
    arena_init(&arena, query->options.budget, 0);
    struct run run = {
        .query = query, .limits = limits ? limits : &no_limits, .view = view, .arena = &arena};
    *ret_any = false;
    och_code code = filter_compile(suspects->filter, &run.filter, err);
    if (code == OCH_OK)
        run.needs = run.filter ? filter_needs(run.filter) : 0;
    for (size_t i = 0; i < suspects->count && code == OCH_OK && !*ret_any; i += ROWS_AT_ONCE)
        code = look(&run, suspects, i, ret_any, err);
    filter_free(run.filter);
    arena_done(&arena);
    return code;
}
