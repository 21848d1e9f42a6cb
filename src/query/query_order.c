/* SPDX-License-Identifier: Apache-2.0 */
/* get in another order than that of insertion: a bounded heap keeps the rows of the page.  Where the index of a part gives its first rows only those
 * are looked at, else every survivor's key is; ranges of rows are looked at side by side. */
#include "query/query_order.h"

static bool is_behind(const struct ordered *o, const struct plan_key *a, const struct plan_key *b)
{
    return plan_compare(&o->run->plan->order, a, b) > 0;
}

static void swap_kept(struct kept *a, struct kept *b)
{
    struct kept held = *a;
    *a = *b;
    *b = held;
}

static void sift_down(struct ordered *o, size_t count)
{
    for (size_t i = 0;;) {
        size_t child = 2 * i + 1;
        if (child >= count)
            return;
        if (child + 1 < count && is_behind(o, &o->at[child + 1].key, &o->at[child].key))
            child++;
        if (!is_behind(o, &o->at[child].key, &o->at[i].key))
            return;
        swap_kept(&o->at[i], &o->at[child]);
        i = child;
    }
}

static void sift_up(struct ordered *o)
{
    for (size_t i = o->count - 1; i > 0 && is_behind(o, &o->at[i].key, &o->at[(i - 1) / 2].key);
         i = (i - 1) / 2)
        swap_kept(&o->at[i], &o->at[(i - 1) / 2]);
}

static och_code charge(struct ordered *o, size_t bytes, och_error *err)
{
    TRY(budget_take(o->run->arena->budget, bytes, "rows in order", err));
    o->charged += bytes;
    return OCH_OK;
}

static och_code reserve(struct ordered *o, och_error *err)
{
    if (o->count < o->cap)
        return OCH_OK;
    size_t cap = o->cap ? o->cap * 2 : 64;
    TRY(charge(o, (cap - o->cap) * sizeof(*o->at), err));
    struct kept *more = mem_realloc(o->at, cap * sizeof(*more));
    if (!more)
        return FAIL_NO_MEMORY(err, "rows in order");
    o->at = more;
    o->cap = cap;
    return OCH_OK;
}

static och_code copy_value(struct ordered *o, struct plan_key *key, och_error *err)
{
    if (!key->value.len)
        return OCH_OK;
    TRY(charge(o, key->value.len, err));
    uint8_t *copy = mem_alloc(key->value.len);
    if (!copy)
        return FAIL_NO_MEMORY(err, "rows in order");
    memcpy(copy, key->value.at, key->value.len);
    key->value.at = copy;
    return OCH_OK;
}

static void drop_value(struct ordered *o, struct plan_key *key)
{
    if (!key->value.len)
        return;
    mem_free((void *)(uintptr_t)key->value.at);
    budget_give(o->run->arena->budget, key->value.len);
    o->charged -= key->value.len;
}

och_code order_keep(struct ordered *o, const struct kept *row, och_error *err)
{
    if (o->count == o->room && !is_behind(o, &o->at[0].key, &row->key))
        return OCH_OK;
    struct kept mine = *row;
    TRY(reserve(o, err));
    TRY(copy_value(o, &mine.key, err));
    if (o->count == o->room) {
        drop_value(o, &o->at[0].key);
        o->at[0] = mine;
        sift_down(o, o->count);
        return OCH_OK;
    }
    o->at[o->count++] = mine;
    sift_up(o);
    return OCH_OK;
}

void order_drop(struct ordered *o)
{
    for (size_t i = 0; i < o->count; i++)
        mem_free(o->at[i].key.value.len ? (void *)(uintptr_t)o->at[i].key.value.at : NULL);
    mem_free(o->at);
    budget_give(o->run->arena->budget, o->charged);
    o->at = NULL;
    o->count = o->cap = o->charged = 0;
}

/* ---- keys of rows ---- */

och_code order_key_of(struct lookup *l, struct view_place place, struct plan_key *ret,
                      och_error *err)
{
    const struct plan_order *order = &l->run->plan->order;
    struct record record = {0};
    struct meta_entry entry;
    unsigned fields = order->by == PLAN_BY_ID    ? RECORD_ID
                      : order->by == PLAN_BY_KEY ? RECORD_METADATA
                                                 : 0u;
    TRY(view_read(l->run->view, place, &l->reads, fields | RECORD_SEQ, &record, err));
    *ret = (struct plan_key){.seq = record.seq};
    if (order->by == PLAN_BY_ID) {
        ret->type = META_STRING;
        ret->value = record.id;
    } else if (order->by == PLAN_BY_KEY && meta_find(record.metadata, order->key, &entry)) {
        ret->type = entry.type;
        ret->value = entry.value;
    }
    return OCH_OK;
}

bool order_is_on(const struct ordered *o, const struct kept *row)
{
    return !o->run->plan->has_after || is_behind(o, &row->key, &o->run->plan->after);
}

static och_code keep_all(struct ordered *o, const struct kept *rows, size_t count, och_error *err)
{
    och_code code = OCH_OK;
    mutex_lock(&o->lock);
    for (size_t i = 0; i < count && code == OCH_OK; i++)
        code = order_keep(o, &rows[i], err);
    mutex_unlock(&o->lock);
    return code;
}

static och_code look_at_range(struct ordered *o, const struct row_range *range,
                              struct lookup *lookup, och_error *err)
{
    uint64_t words[QUERY_CHUNK_WORDS];
    bool in_tail = range->source == view_part_count(o->run->view);
    struct kept *rows = ARENA_ARRAY(&lookup->arena, struct kept, range->count);
    size_t count = 0;
    if (!rows)
        return FAIL_NO_MEMORY(err, "rows in order");
    TRY(survive_range(lookup, range->source, range->first, range->count, words, err));
    for (uint32_t w = 0; w * 64 < range->count; w++) {
        for (uint64_t left = words[w]; left; left &= left - 1) {
            struct kept *row = &rows[count];
            *row =
                (struct kept){.place = {in_tail ? VIEW_NO_PART : (uint32_t)range->source,
                                        range->first + w * 64 + (uint32_t)__builtin_ctzll(left)}};
            TRY(order_key_of(lookup, row->place, &row->key, err));
            count += order_is_on(o, row);
        }
    }
    return keep_all(o, rows, count, err);
}

void order_fail(struct ordered *o, och_code code, const och_error *failure)
{
    mutex_lock(&o->lock);
    if (!atomic_exchange(&o->failed, true)) {
        o->code = code;
        o->err = *failure;
    }
    mutex_unlock(&o->lock);
}

static void range_task(void *context, size_t i)
{
    struct ordered *o = context;
    och_error failure = {0};
    if (atomic_load(&o->failed))
        return;
    struct lookup lookup;
    lookup_init(&lookup, o->run);
    och_code code = look_at_range(o, &o->ranges[i], &lookup, &failure);
    lookup_done(&lookup);
    if (code != OCH_OK)
        order_fail(o, code, &failure);
}

static och_code look_at_all(struct ordered *o, och_error *err)
{
    struct run *run = o->run;
    size_t parts = view_part_count(run->view), made = 0, ranges = 0;
    TRY(answers_evaluate(run, err));
    TRY(order_by_index(o, err));
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i <= parts; i++) {
            uint32_t rows =
                i < parts ? part_rows(view_part(run->view, i)) : view_slot_count(run->view);
            run->scanned += pass ? rows : 0;
            for (uint32_t first = 0; first < rows && !(i < parts && o->done[i]);
                 first += QUERY_CHUNK) {
                uint32_t count = rows - first < QUERY_CHUNK ? rows - first : QUERY_CHUNK;
                if (pass)
                    o->ranges[made++] = (struct row_range){i, first, count};
                else
                    ranges++;
            }
        }
        if (!pass && !(o->ranges = ARENA_ARRAY(run->arena, struct row_range, ranges + 1)))
            return FAIL_NO_MEMORY(err, "a read");
    }
    pool_for(run->query->options.pool, made, range_task, o);
    if (o->code != OCH_OK && err)
        *err = o->err;
    return o->code;
}

static och_code look_at_ids(struct ordered *o, och_error *err)
{
    struct candidate *rows = NULL;
    size_t count = 0;
    struct lookup lookup;
    TRY(survive_ids(o->run, &rows, &count, err));
    lookup_init(&lookup, o->run);
    och_code code = OCH_OK;
    for (size_t i = 0; i < count && code == OCH_OK; i++) {
        if (i % QUERY_CHUNK == QUERY_CHUNK - 1) { /* pins of what was looked at are not needed */
            lookup_done(&lookup);
            lookup_init(&lookup, o->run);
            code = work_check(o->run->limits, err);
        }
        struct kept row = {.place = rows[i].place};
        if (code == OCH_OK)
            code = order_key_of(&lookup, row.place, &row.key, err);
        if (code == OCH_OK && order_is_on(o, &row))
            code = keep_all(o, &row, 1, err);
    }
    lookup_done(&lookup);
    mem_free(rows);
    return code;
}

/* ---- the page ---- */

static och_code give_rows(struct ordered *o, struct query_result *result, och_error *err)
{
    struct run *run = o->run;
    uint64_t skip = run->plan->offset < o->count ? run->plan->offset : o->count;
    size_t count = o->count - (size_t)skip;
    struct query_row *rows = ARENA_ARRAY(run->arena, struct query_row, count);
    if (!rows)
        return FAIL_NO_MEMORY(err, "the rows of an answer");
    for (size_t left = o->count; left > 1; left--) { /* the last of those left to the end */
        swap_kept(&o->at[0], &o->at[left - 1]);
        sift_down(o, left - 1);
    }
    for (size_t i = 0; i < count; i++) {
        if (i % 1024 == 0)
            TRY(work_check(run->limits, err));
        TRY(query_fetch(run, result, o->at[skip + i].place, &rows[i], err));
    }
    *result->hits = (struct query_hits){rows, count};
    result->has_last = count && count == run->plan->limit;
    if (!result->has_last)
        return OCH_OK;
    result->last = o->at[o->count - 1].key;
    if (result->last.value.len) {
        result->last.value = arena_copy(run->arena, result->last.value);
        if (!result->last.value.at)
            return FAIL_NO_MEMORY(err, "a cursor");
    }
    return OCH_OK;
}

och_code query_run_ordered(struct run *run, struct query_result *result, och_error *err)
{
    const struct plan *plan = run->plan;
    struct ordered o = {.run = run};
    if (__builtin_add_overflow(plan->offset, plan->limit, &o.room))
        o.room = UINT64_MAX;
    result->hits = ARENA_NEW(run->arena, struct query_hits);
    if (!result->hits)
        return FAIL_NO_MEMORY(err, "the rows of an answer");
    result->hit_count = 1;
    if (!plan->limit)
        return OCH_OK;
    mutex_init(&o.lock, RANK_LEAF);
    och_code code = plan->has_ids ? look_at_ids(&o, err) : look_at_all(&o, err);
    run->survivors += plan->has_ids ? 0 : o.count;
    if (code == OCH_OK)
        code = give_rows(&o, result, err);
    order_drop(&o);
    mutex_done(&o.lock);
    return code;
}
