/* SPDX-License-Identifier: Apache-2.0 */
/* A page of rows in the order of a key, by the dictionary of each part: values are walked through from the page's beginning on until enough rows
 * of each type have survived.  The first rows in the order of all types are among the first of each, so nothing need be known of how types compare;
 * rows without the key come last, so a part that has fewer rows with it than the page has places is looked at as a whole. */
#include "query/query_order.h"

#define PINS_KEEP 512u /* rows after which pinned extents are given back */
#define COST_WALK 5    /* ns for a row that is walked over, and */
#define COST_LOOK 60   /* for one that is looked at */

struct taking {
    struct ordered mine; /* of this part */
    struct lookup lookup;
    size_t part;
    const struct bitset *dead;
    bool asks; /* survivors are asked for */
    uint64_t total, in_column;
    uint32_t pinned;
};

static och_code begin_column(void *context, och_error *err)
{
    struct taking *t = context;
    (void)err;
    t->in_column = 0;
    return OCH_OK;
}

static och_code take_row(struct taking *t, uint32_t row, och_error *err)
{
    struct kept kept = {.place = {(uint32_t)t->part, row}};
    bool survives = true;
    if (t->dead && bitset_has(t->dead, row))
        return OCH_OK;
    if (t->asks)
        TRY(survive_place(&t->lookup, kept.place, &survives, err));
    if (!survives)
        return OCH_OK;
    if (t->pinned++ % PINS_KEEP == PINS_KEEP - 1) {
        struct run *run = t->lookup.run;
        lookup_done(&t->lookup);
        lookup_init(&t->lookup, run);
    }
    TRY(order_key_of(&t->lookup, kept.place, &kept.key, err));
    if (!order_is_on(&t->mine, &kept))
        return OCH_OK;
    t->in_column++;
    t->total++;
    return order_keep(&t->mine, &kept, err);
}

static och_code take_rows(void *context, const uint32_t *rows, uint32_t count, bool *ret_enough,
                          och_error *err)
{
    struct taking *t = context;
    for (uint32_t i = 0; i < count; i++)
        TRY(take_row(t, rows[i], err));
    *ret_enough = t->in_column >= t->mine.room;
    return OCH_OK;
}

/* The cursor's value as an operand.  False: none that the walk could begin at, or rows without the key are on the page. */
static bool begin_at(const struct plan_key *after, struct filter_value *ret)
{
    switch (after->type) {
    case META_BOOL:
        *ret = (struct filter_value){.kind = FILTER_BOOL};
        return after->value.len == 1;
    case META_INT:
        if (after->value.len != 8)
            return false;
        *ret = (struct filter_value){.kind = FILTER_INT,
                                     .integer = (int64_t)load_u64(after->value.at)};
        return true;
    case META_FLOAT:
        if (after->value.len != 8)
            return false;
        *ret = (struct filter_value){.kind = FILTER_FLOAT, .number = load_f64(after->value.at)};
        return true;
    case META_STRING:
        *ret = (struct filter_value){.kind = FILTER_STRING, .string = after->value};
        return true;
    default:
        return false;
    }
}

/* Rows of a part that survive, at least. */
static uint64_t survivors(const struct run *run, size_t part, const struct bitset *dead)
{
    uint64_t rows = part_rows(view_part(run->view, part)), gone = dead ? bitset_count(dead) : 0;
    if (run->filter) {
        const struct answer *answer = answer_of(run, part, (uint32_t)rows);
        rows = answer ? answer->passing - answer->open : 0;
    }
    return rows > gone ? rows - gone : 0;
}

/* Is walking through values until `room` rows have survived less work than a look at all survivors?  As if they were spread evenly. */
static bool walk_pays(const struct ordered *o, size_t part, const struct bitset *dead)
{
    double rows = part_rows(view_part(o->run->view, part)),
           alive = (double)survivors(o->run, part, dead), room = (double)o->room;
    if (room * 4 > alive)
        return false;
    return COST_WALK * rows * room / alive + 4 * COST_LOOK * room < COST_LOOK * alive;
}

static och_code look_at_part(struct ordered *o, size_t part, och_error *err)
{
    struct run *run = o->run;
    const struct plan *plan = run->plan;
    struct taking t = {.mine = {.run = run, .room = o->room}, .part = part};
    struct filter_value from;
    struct part *of = view_part(run->view, part);
    TRY(view_dead(run->view, part, &t.dead, err));
    if (!walk_pays(o, part, t.dead) || (plan->has_after && !begin_at(&plan->after, &from)))
        return OCH_OK;
    t.asks = run->filter || part_has_expiry(of);
    struct meta_order_options options = {.key = plan->order.key,
                                         .descending = plan->order.descending,
                                         .rows_in_order = part_is_seq_ordered(of),
                                         .from = plan->has_after ? &from : NULL,
                                         .limits = run->limits,
                                         .column = begin_column,
                                         .give = take_rows,
                                         .context = &t};
    struct arena arena;
    bool known = false;
    arena_init(&arena, run->arena->budget, 0);
    lookup_init(&t.lookup, run);
    och_code code = part_walk_order(of, &options, &arena, &known, err);
    if (code == OCH_OK && known && t.total >= o->room) {
        mutex_lock(&o->lock);
        for (size_t i = 0; i < t.mine.count && code == OCH_OK; i++)
            code = order_keep(o, &t.mine.at[i], err);
        mutex_unlock(&o->lock);
        o->done[part] = true;
    }
    lookup_done(&t.lookup);
    arena_done(&arena);
    order_drop(&t.mine);
    return code;
}

static void part_task(void *context, size_t i)
{
    struct ordered *o = context;
    och_error failure = {0};
    if (atomic_load(&o->failed))
        return;
    och_code code = look_at_part(o, i, &failure);
    if (code != OCH_OK)
        order_fail(o, code, &failure);
}

och_code order_by_index(struct ordered *o, och_error *err)
{
    struct run *run = o->run;
    size_t parts = view_part_count(run->view);
    o->done = ARENA_ARRAY(run->arena, bool, parts + 1);
    if (!o->done)
        return FAIL_NO_MEMORY(err, "a read");
    if (run->plan->order.by != PLAN_BY_KEY || !parts)
        return OCH_OK;
    pool_for(run->query->options.pool, parts, part_task, o);
    if (o->code != OCH_OK && err)
        *err = o->err;
    return o->code;
}
