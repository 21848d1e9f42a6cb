/* SPDX-License-Identifier: Apache-2.0 */
/* Rows whose time is over, as a merge may leave them behind (D20).
 *
 * Operations judge expiry by their batch's created_at, which never falls: whatever had expired at the last batch that is in the parts is absent for
 * every operation still to come, in the tail or later, so its row decides nothing any more.  The clock would be too early a judge: a batch of an
 * earlier time may be on its way, and for its operations the row is there.
 *
 * A collection that nobody writes to has no later batch.  When it is at rest the log is told, in the collection's turn and if nothing was written
 * beyond the parts, that no batch before now can come any more; the merge's commit puts that time into the version, so it holds after a restart.
 *
 * Work is bounded: a part that stays as it is is written again when 30 % of its rows have gone, as for deletions, so that all that is written again
 * for n rows is less than 2.4 n; and when that will be is computed once, when the collection comes to rest. */
#include "compact/compact_internal.h"

#include <stdlib.h>

#define READS_KEEP 256
#define AGAIN_MS   60000  /* a collection is not looked at more often */
#define SAMPLE_MAX 65536u /* rows whose times are looked at to guess when the part is hollow */

/* Told of each row of a part that is not dead and may expire. */
typedef och_code row_call(void *context, uint32_t row, struct part_reads *reads, int64_t expires_ms,
                          och_error *err);

static och_code walk_rows(struct compactor *c, struct part *part, const struct bitset *dead,
                          uint32_t step, row_call *call, void *context, och_error *err)
{
    struct arena scratch;
    struct part_reads reads;
    arena_init(&scratch, c->options.budget, 0);
    part_reads_init(&reads, c->options.parts.cache, &scratch);
    och_code code = OCH_OK;
    uint32_t looked = 0;
    for (uint64_t row = 0; row < part_rows(part) && code == OCH_OK; row += step) {
        struct record record;
        if (looked++ % READS_KEEP == READS_KEEP - 1) {
            part_reads_done(&reads);
            arena_done(&scratch);
            part_reads_init(&reads, c->options.parts.cache, &scratch);
            code = compact_stopping(c) ? FAIL(err, OCH_CANCELLED, "the compactor stops") : OCH_OK;
        }
        if (code != OCH_OK || (dead->words && bitset_has(dead, (uint32_t)row)))
            continue;
        code = part_read(part, &reads, (uint32_t)row, RECORD_EXPIRY, &record, err);
        if (code == OCH_OK && record.expires_ms)
            code = call(context, (uint32_t)row, &reads, record.expires_ms, err);
    }
    part_reads_done(&reads);
    arena_done(&scratch);
    return code;
}

/* ---- rows that go ---- */

struct burying {
    struct part *part;
    int64_t last_ms;
    struct arena *arena;
    struct compact_buried *buried;
};

static och_code bury(void *context, uint32_t row, struct part_reads *reads, int64_t expires_ms,
                     och_error *err)
{
    const struct burying *b = context;
    if (expires_ms > b->last_ms)
        return OCH_OK;
    bitset_add(b->buried->dead, row);
    if (!b->buried->keep_ids)
        return OCH_OK;
    struct record record;
    TRY(part_read(b->part, reads, row, RECORD_ID, &record, err));
    slice id = arena_copy(b->arena, record.id);
    if (!id.at || !VEC_PUSH(&b->buried->ids, id))
        return FAIL_NO_MEMORY(err, "expired ids");
    return OCH_OK;
}

och_code compact_bury_expired(struct compactor *c, struct part *part, int64_t last_ms,
                              struct arena *arena, struct compact_buried *buried, och_error *err)
{
    struct burying burying = {part, last_ms, arena, buried};
    return part_has_expiry(part) ? walk_rows(c, part, buried->dead, 1, bury, &burying, err)
                                 : OCH_OK;
}

/* ---- how many ---- */

struct counting {
    int64_t last_ms;
    uint64_t count;
};

static och_code count(void *context, uint32_t row, struct part_reads *reads, int64_t expires_ms,
                      och_error *err)
{
    struct counting *counting = context;
    (void)row, (void)reads, (void)err;
    counting->count += expires_ms <= counting->last_ms;
    return OCH_OK;
}

och_code compact_count_expired(struct compactor *c, struct part *part, const struct bitset *dead,
                               int64_t last_ms, uint64_t *ret_count, och_error *err)
{
    struct counting counting = {.last_ms = last_ms};
    if (part_has_expiry(part))
        TRY(walk_rows(c, part, dead, 1, count, &counting, err));
    *ret_count = counting.count;
    return OCH_OK;
}

/* ---- the time passes ---- */

struct passing {
    uint64_t upto;
    int64_t now_ms;
    bool passed;
};

static och_code pass(void *context, uint64_t head, struct wal_append *request, bool *ret_append,
                     och_error *err)
{
    struct passing *passing = context;
    (void)err;
    passing->passed = head == passing->upto;
    request->as_of_ms = passing->passed ? passing->now_ms : 0;
    *ret_append = false;
    return OCH_OK;
}

och_code compact_pass_time(struct compactor *c, uuid id, uint64_t upto, int64_t *ret_ms,
                           och_error *err)
{
    struct passing passing = {.upto = upto, .now_ms = compact_wall_ms(c)};
    struct wal_append request = {
        .collection = id, .decide = pass, .context = &passing, .limits = {.cancel = &c->cancel}};
    struct wal_appended none;
    och_error failure = {0};
    och_code code = wal_append(c->options.wal, &request, &none, &failure);
    *ret_ms = code == OCH_OK && passing.passed ? passing.now_ms : 0;
    return code == OCH_CANCELLED ? FAIL(err, OCH_CANCELLED, "the compactor stops") : OCH_OK;
}

/* ---- when to look ---- */

struct times {
    VEC(int64_t) at;
};

static och_code note_time(void *context, uint32_t row, struct part_reads *reads, int64_t expires_ms,
                          och_error *err)
{
    struct times *times = context;
    (void)row, (void)reads;
    return VEC_PUSH(&times->at, expires_ms) ? OCH_OK : FAIL_NO_MEMORY(err, "times of expiry");
}

static int compare_times(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Of large parts every step-th row is looked at, and so many times as many are taken to go with it. */
static och_code hollow_at(struct compactor *c, struct part *part, const struct bitset *dead,
                          int64_t *ret_ms, och_error *err)
{
    struct times times = {0};
    uint32_t rows = part_rows(part), step = (rows + SAMPLE_MAX - 1) / SAMPLE_MAX;
    uint64_t gone = dead->words ? bitset_count(dead) : 0;
    *ret_ms = 0;
    och_code code = walk_rows(c, part, dead, step, note_time, &times, err);
    if (code == OCH_OK && times.at.len)
        qsort(times.at.at, times.at.len, sizeof(int64_t), compare_times);
    for (size_t i = 0; code == OCH_OK && i < times.at.len && !*ret_ms; i++) {
        gone += step;
        if (compact_is_hollow(rows, gone))
            *ret_ms = times.at.at[i];
    }
    VEC_DONE(&times.at);
    return code;
}

och_code compact_next_expiry(struct compactor *c, uuid id, int64_t *ret_ms, och_error *err)
{
    struct view *view CLEANUP(view_cleanup) = NULL;
    och_error missing = {0};
    *ret_ms = 0;
    och_code code = view_acquire(c->options.views, id, READ_INDEX_ONLY, &view, &missing);
    if (code == OCH_NOT_FOUND) /* dropped meanwhile */
        return OCH_OK;
    if (code != OCH_OK && err)
        *err = missing;
    TRY(code);
    for (size_t i = 0; i < view_part_count(view); i++) {
        struct bitset dead = {0};
        int64_t at_ms;
        if (!part_has_expiry(view_part(view, i)))
            continue;
        TRY(view_dead_upto(view, i, view_info(view)->from, &dead, err));
        code = hollow_at(c, view_part(view, i), &dead, &at_ms, err);
        bitset_done(&dead);
        TRY(code);
        if (at_ms && (!*ret_ms || at_ms < *ret_ms))
            *ret_ms = at_ms;
    }
    return OCH_OK;
}

/* Under lock. */
static void queue_expiry(struct compactor *c, struct note *note, int64_t at_ms)
{
    if (!note->in_expiry)
        TAILQ_INSERT_TAIL(&c->expiry_list, note, expiry_link);
    note->in_expiry = true;
    note->expiry_ms = at_ms;
    c->expiry_ms = at_ms < c->expiry_ms ? at_ms : c->expiry_ms;
}

void compactor_note_expiry(void *compactor, uuid collection)
{
    struct compactor *c = compactor;
    mutex_lock(&c->lock);
    struct note *note = compact_note_take(c, collection);
    if (note && !note->in_expiry)
        queue_expiry(c, note, compact_wall_ms(c) + c->options.idle_ms);
    mutex_unlock(&c->lock);
}

bool compact_pick_expiry(struct compactor *c, uuid *ret_id)
{
    int64_t now = compact_wall_ms(c), next = INT64_MAX;
    struct note *note, *due = NULL;
    if (c->expiry_ms > now)
        return false;
    TAILQ_FOREACH(note, &c->expiry_list, expiry_link)
    {
        if (!due && note->expiry_ms <= now)
            due = note;
        else
            next = note->expiry_ms < next ? note->expiry_ms : next;
    }
    c->expiry_ms = next;
    if (!due)
        return false;
    TAILQ_REMOVE(&c->expiry_list, due, expiry_link);
    due->in_expiry = false;
    *ret_id = due->id;
    return true;
}

void compact_plan_expiry(struct compactor *c, uuid id)
{
    int64_t at_ms = 0, soonest = compact_wall_ms(c) + AGAIN_MS;
    och_error err = {0};
    if (compact_next_expiry(c, id, &at_ms, &err) != OCH_OK)
        at_ms = soonest; /* its time may be known then */
    if (!at_ms)
        return;
    mutex_lock(&c->lock);
    struct note *note = compact_note_take(c, id);
    if (note) /* due already: it was not at rest after all, or the guess was wrong */
        queue_expiry(c, note, at_ms < soonest ? soonest : at_ms);
    mutex_unlock(&c->lock);
}
