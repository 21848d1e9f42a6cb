/* SPDX-License-Identifier: Apache-2.0 */
/* get and count: rows in insertion order.  Parts and tail each give their survivors in ascending seq, a small merge joins them and stops
 * at the limit, so a page costs what it shows plus what lies before it. */
#include "query/query_answer.h"

#include <stdlib.h>

#define FEW_SHARE 64 /* one in so many rows passing is few */

struct stream { /* survivors of one source in ascending seq */
    size_t source;
    uint32_t row_count, next; /* positions handed to survive_range so far */
    const uint32_t *order;    /* position -> row, NULL: identity */
    uint64_t words[QUERY_CHUNK_WORDS];
    uint32_t base, chunk; /* positions [base, base + chunk) are in words */
    uint32_t at;          /* within the chunk */
    bool done;
    struct view_place place; /* the current row */
    int64_t seq;
    struct lookup lookup;
};

static och_code chunk_fill(struct stream *s, struct run *run, och_error *err)
{
    s->base = s->next;
    s->chunk = s->row_count - s->next < QUERY_CHUNK ? s->row_count - s->next : QUERY_CHUNK;
    s->next += s->chunk;
    s->at = 0;
    run->scanned += s->chunk;
    if (!s->order && s->source < view_part_count(run->view))
        TRY(answer_upto(run, s->source, s->next, err));
    /* Pins of the last chunk are not needed any more. */
    lookup_done(&s->lookup);
    lookup_init(&s->lookup, run);
    if (!s->order)
        return survive_range(&s->lookup, s->source, s->base, s->chunk, s->words, err);
    memset(s->words, 0, sizeof(s->words));
    TRY(work_check(run->limits, err));
    const struct bitset *dead = NULL;
    bool in_tail = s->source == view_part_count(run->view);
    if (!in_tail)
        TRY(view_dead(run->view, s->source, &dead, err));
    for (uint32_t i = 0; i < s->chunk; i++) {
        uint32_t row = s->order[s->base + i];
        bool passes = in_tail || !dead || !bitset_has(dead, row);
        if (passes)
            TRY(survive_place(
                &s->lookup, (struct view_place){in_tail ? VIEW_NO_PART : (uint32_t)s->source, row},
                &passes, err));
        if (passes)
            s->words[i / 64] |= 1ull << (i % 64);
    }
    return OCH_OK;
}

/* Rows up to the place that a cursor names were shown already. */
static bool is_before(const struct run *run, int64_t seq)
{
    return run->plan->has_after && seq <= run->plan->after.seq;
}

static och_code stream_next(struct stream *s, struct run *run, och_error *err)
{
    for (;;) {
        while (s->at < s->chunk) {
            uint64_t word = s->words[s->at / 64] >> (s->at % 64);
            if (word == 0) {
                s->at = (s->at / 64 + 1) * 64;
                continue;
            }
            s->at += (uint32_t)__builtin_ctzll(word);
            uint32_t position = s->base + s->at++;
            uint32_t row = s->order ? s->order[position] : position;
            if (s->source == view_part_count(run->view)) {
                s->place = (struct view_place){VIEW_NO_PART, row};
                s->seq = view_slot(run->view, row)->record.seq;
            } else {
                s->place = (struct view_place){(uint32_t)s->source, row};
                TRY(part_seq(view_part(run->view, s->source), row, &s->seq, err));
            }
            if (!is_before(run, s->seq))
                return OCH_OK;
        }
        if (s->next == s->row_count) {
            s->done = true;
            return OCH_OK;
        }
        TRY(chunk_fill(s, run, err));
    }
}

struct slot_seq {
    int64_t seq;
    uint32_t slot;
};
static int slot_seq_compare(const void *a, const void *b)
{
    const struct slot_seq *x = a, *y = b;
    return (x->seq > y->seq) - (x->seq < y->seq);
}

/* Slots are in order of their operations; updates keep an older seq.  Only then an order is made, of the live ones. */
static och_code tail_order(struct run *run, struct stream *s, och_error *err)
{
    uint32_t count = view_slot_count(run->view);
    int64_t last = INT64_MIN;
    bool ordered = true;
    for (uint32_t i = 0; i < count && ordered; i++) {
        const struct tail_slot *slot = view_slot(run->view, i);
        if (!view_slot_live(run->view, slot))
            continue;
        ordered = slot->record.seq > last;
        last = slot->record.seq;
    }
    s->row_count = count;
    if (ordered)
        return OCH_OK;
    struct slot_seq *live = ARENA_ARRAY(run->arena, struct slot_seq, count);
    uint32_t *order = ARENA_ARRAY(run->arena, uint32_t, count);
    if (!live || !order)
        return FAIL_NO_MEMORY(err, "the order of the tail");
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct tail_slot *slot = view_slot(run->view, i);
        if (view_slot_live(run->view, slot))
            live[kept++] = (struct slot_seq){slot->record.seq, i};
    }
    qsort(live, kept, sizeof(*live), slot_seq_compare);
    for (uint32_t i = 0; i < kept; i++)
        order[i] = live[i].slot;
    s->order = order;
    s->row_count = kept;
    return OCH_OK;
}

/* Rows of a part that may pass, in ascending seq: worth sorting when they are few. */
static och_code few_in_order(struct run *run, struct stream *s, const struct answer *answer,
                             och_error *err)
{
    struct part *part = view_part(run->view, s->source);
    struct slot_seq *found = ARENA_ARRAY(run->arena, struct slot_seq, (size_t)answer->passing + 1);
    uint32_t *order = ARENA_ARRAY(run->arena, uint32_t, (size_t)answer->passing + 1), count = 0;
    if (!found || !order)
        return FAIL_NO_MEMORY(err, "the order of rows");
    for (uint32_t w = 0; w < bitset_words(part_rows(part)); w++) {
        for (uint64_t left = answer->maybe[w]; left; left &= left - 1) {
            found[count].slot = w * 64 + (uint32_t)__builtin_ctzll(left);
            TRY(part_seq(part, found[count].slot, &found[count].seq, err));
            count++;
        }
    }
    assert(count == answer->passing);
    if (count)
        qsort(found, count, sizeof(*found), slot_seq_compare);
    for (uint32_t i = 0; i < count; i++)
        order[i] = found[i].slot;
    s->order = order;
    s->row_count = count;
    return OCH_OK;
}

/* Rows that are not in seq order are taken in the part's list of them, or, when few pass, only those. */
static och_code part_order(struct run *run, struct stream *s, struct query_result *result,
                           och_error *err)
{
    struct part *part = view_part(run->view, s->source);
    TRY(answer_upto(run, s->source, s->row_count, err));
    const struct answer *answer = answer_of(run, s->source, s->row_count);
    if (answer && answer->passing <= s->row_count / FEW_SHARE)
        return few_in_order(run, s, answer, err);
    return part_seq_order(part, &result->pins->reads, &s->order, err);
}

/* A page that begins behind a row costs no look at those before: positions of a part ascend by seq. */
static och_code skip_before(struct run *run, struct stream *s, och_error *err)
{
    struct part *part = view_part(run->view, s->source);
    uint32_t low = 0, high = run->plan->has_after ? s->row_count : 0;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int64_t seq;
        TRY(part_seq(part, s->order ? s->order[middle] : middle, &seq, err));
        if (is_before(run, seq))
            low = middle + 1;
        else
            high = middle;
    }
    s->next = low / 64 * 64;
    return OCH_OK;
}

static och_code stream_open(struct run *run, size_t source, struct query_result *result,
                            struct stream *s, och_error *err)
{
    s->source = source;
    if (source == view_part_count(run->view)) {
        TRY(tail_order(run, s, err));
    } else {
        struct part *part = view_part(run->view, source);
        s->row_count = part_rows(part);
        if (!part_is_seq_ordered(part))
            TRY(part_order(run, s, result, err));
        TRY(skip_before(run, s, err));
    }
    return stream_next(s, run, err);
}

typedef och_code (*row_taker)(void *context, struct view_place place, bool *ret_more,
                              och_error *err);

static och_code merge(struct run *run, struct stream *streams, size_t count, row_taker take_row,
                      void *context, och_error *err)
{
    for (bool more = true; more;) {
        struct stream *first = NULL;
        for (size_t i = 0; i < count; i++) {
            if (!streams[i].done && (!first || streams[i].seq < first->seq))
                first = &streams[i];
        }
        if (!first)
            return OCH_OK;
        run->survivors++;
        TRY(take_row(context, first->place, &more, err));
        if (more)
            TRY(stream_next(first, run, err));
    }
    return OCH_OK;
}

static och_code walk(struct run *run, struct query_result *result, row_taker take_row,
                     void *context, och_error *err)
{
    size_t count = view_part_count(run->view) + 1;
    struct stream *streams = ARENA_ARRAY(run->arena, struct stream, count);
    if (!streams)
        return FAIL_NO_MEMORY(err, "a read");
    for (size_t i = 0; i < count; i++)
        lookup_init(&streams[i].lookup, run);
    och_code code = OCH_OK;
    for (size_t i = 0; i < count && code == OCH_OK; i++)
        code = stream_open(run, i, result, &streams[i], err);
    if (code == OCH_OK)
        code = merge(run, streams, count, take_row, context, err);
    for (size_t i = 0; i < count; i++)
        lookup_done(&streams[i].lookup);
    return code;
}

struct get_rows {
    struct run *run;
    struct query_result *result;
    uint64_t skip, left;
    struct query_row *rows; /* in the arena, so that the budget sees them */
    size_t count, room;
};

static och_code get_reserve(struct get_rows *get, och_error *err)
{
    if (get->count < get->room)
        return OCH_OK;
    size_t room = get->room ? get->room * 2 : 64;
    struct query_row *rows = ARENA_ARRAY(get->run->arena, struct query_row, room);
    if (!rows)
        return FAIL_NO_MEMORY(err, "the rows of an answer");
    if (get->count)
        memcpy(rows, get->rows, get->count * sizeof(*rows));
    get->rows = rows;
    get->room = room;
    return OCH_OK;
}

static och_code get_row(void *context, struct view_place place, bool *ret_more, och_error *err)
{
    struct get_rows *get = context;
    *ret_more = true;
    if (get->skip) {
        get->skip--;
        return OCH_OK;
    }
    TRY(get_reserve(get, err));
    TRY(query_fetch(get->run, get->result, place, &get->rows[get->count], err));
    get->count++;
    if (get->count % 1024 == 0)
        TRY(work_check(get->run->limits, err));
    *ret_more = --get->left > 0;
    return OCH_OK;
}

static och_code get_candidates(struct run *run, struct get_rows *get, och_error *err)
{
    struct candidate *rows = NULL;
    size_t count = 0;
    TRY(survive_ids(run, &rows, &count, err));
    och_code code = OCH_OK;
    bool more = true;
    for (size_t i = 0; i < count && code == OCH_OK && more; i++) {
        if (!is_before(run, rows[i].seq))
            code = get_row(get, rows[i].place, &more, err);
    }
    mem_free(rows);
    return code;
}

och_code query_run_get(struct run *run, struct query_result *result, och_error *err)
{
    if (run->plan->order.by != PLAN_BY_INSERTION || run->plan->order.descending)
        return query_run_ordered(run, result, err);
    struct get_rows get = {
        .run = run, .result = result, .skip = run->plan->offset, .left = run->plan->limit};
    if (get.left > 0)
        TRY(run->plan->has_ids ? get_candidates(run, &get, err)
                               : walk(run, result, get_row, &get, err));
    result->hits = ARENA_NEW(run->arena, struct query_hits);
    if (!result->hits)
        return FAIL_NO_MEMORY(err, "the rows of an answer");
    *result->hits = (struct query_hits){get.rows, get.count};
    result->hit_count = 1;
    result->has_last = get.count && get.left == 0;
    if (result->has_last)
        result->last = (struct plan_key){.seq = get.rows[get.count - 1].record.seq};
    return OCH_OK;
}

/* ---- count ---- */

struct count_task {
    struct run *run;
    size_t part_count;
    _Atomic uint64_t count;
    _Atomic bool failed;
    struct mutex lock; /* guards code, err */
    och_code code;
    och_error err;
    struct count_range {
        size_t source;
        uint32_t first, count;
    } * ranges;
};

static void count_range(void *context, size_t i)
{
    struct count_task *task = context;
    if (atomic_load(&task->failed))
        return;
    const struct count_range *range = &task->ranges[i];
    uint64_t words[QUERY_CHUNK_WORDS];
    och_error err = {0};
    struct lookup lookup;
    lookup_init(&lookup, task->run);
    och_code code = survive_range(&lookup, range->source, range->first, range->count, words, &err);
    lookup_done(&lookup);
    if (code == OCH_OK) {
        uint64_t count = 0;
        for (uint32_t w = 0; w * 64 < range->count; w++)
            count += (uint64_t)__builtin_popcountll(words[w]);
        atomic_fetch_add(&task->count, count);
        return;
    }
    mutex_lock(&task->lock);
    if (!atomic_exchange(&task->failed, true)) {
        task->code = code;
        task->err = err;
    }
    mutex_unlock(&task->lock);
}

static och_code count_scan(struct run *run, uint64_t *ret_count, och_error *err)
{
    size_t part_count = view_part_count(run->view), ranges = 0;
    bool *known = ARENA_ARRAY(run->arena, bool, part_count + 1);
    if (!known)
        return FAIL_NO_MEMORY(err, "a count");
    for (size_t i = 0; i <= part_count; i++)
        ranges +=
            ((i < part_count ? part_rows(view_part(run->view, i)) : view_slot_count(run->view)) +
             QUERY_CHUNK - 1) /
            QUERY_CHUNK;
    struct count_task task = {.run = run, .part_count = part_count};
    task.ranges = ARENA_ARRAY(run->arena, struct count_range, ranges + 1);
    if (!task.ranges)
        return FAIL_NO_MEMORY(err, "a count");
    size_t made = 0;
    for (size_t i = 0; i < part_count; i++) {
        uint64_t count = 0;
        TRY(answer_count(run, i, &known[i], &count, err));
        if (!known[i])
            TRY(answer_upto(run, i, part_rows(view_part(run->view, i)), err));
        atomic_fetch_add(&task.count, count);
    }
    for (size_t i = 0; i <= part_count; i++) {
        if (known[i])
            continue;
        uint32_t rows =
            i < part_count ? part_rows(view_part(run->view, i)) : view_slot_count(run->view);
        for (uint32_t first = 0; first < rows; first += QUERY_CHUNK) {
            uint32_t count = rows - first < QUERY_CHUNK ? rows - first : QUERY_CHUNK;
            task.ranges[made++] = (struct count_range){i, first, count};
        }
        run->scanned += rows;
    }
    mutex_init(&task.lock, RANK_LEAF);
    pool_for(run->query->options.pool, made, count_range, &task);
    mutex_done(&task.lock);
    if (task.code != OCH_OK) {
        if (err)
            *err = task.err;
        return task.code;
    }
    *ret_count = atomic_load(&task.count);
    return OCH_OK;
}

och_code query_run_count(struct run *run, struct query_result *result, och_error *err)
{
    const struct view_info *info = view_info(run->view);
    if (run->plan->has_ids) {
        struct candidate *rows = NULL;
        size_t count = 0;
        TRY(survive_ids(run, &rows, &count, err));
        mem_free(rows);
        result->count = count;
        return OCH_OK;
    }
    if (!run->filter && !info->has_expiry) {
        result->count = info->live_rows;
        return OCH_OK;
    }
    TRY(count_scan(run, &result->count, err));
    run->survivors = result->count;
    return OCH_OK;
}
