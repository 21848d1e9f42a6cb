/* SPDX-License-Identifier: Apache-2.0 */
/* Writing records: add, upsert, update, and delete by ids or filter (D13, D14). */
#include "base/map.h"
#include "gateway/gateway_internal.h"

#include <inttypes.h>

#define DELETE_TRIES 3 /* outside the turn; then inside it */

static och_code throttle(struct gateway *gateway, uuid collection, uint32_t count, och_error *err)
{
    uint64_t wait_ns;
    TRY(compactor_throttle(gateway->options.compactor, collection, count, &wait_ns, err));
    if (wait_ns)
        sched_sleep_ns(wait_ns);
    return OCH_OK;
}

static och_code check_ids(const struct batch_input *input, och_error *err)
{
    for (uint32_t i = 0; i < input->count; i++) {
        if (input->rows[i].id.len == 0)
            return FAIL(err, OCH_INVALID,
                        "Empty ID, ID must have at least one character: record %" PRIu32, i);
    }
    return OCH_OK;
}

/* ---- what only the append turn can tell ---- */

struct turn {
    struct gateway *gateway;
    const struct gateway_write *write;
    struct gateway_counts counts;
};

/* Run the operations against the state at the head, only to count (D13). */
static och_code simulate(struct turn *turn, struct view *view, och_error *err)
{
    const struct batch_input *input = &turn->write->input;
    struct map states; /* id -> 1 absent, 2 present, as the batch has made it so far */
    map_init(&states);
    turn->counts = (struct gateway_counts){0};
    och_code code = OCH_OK;
    for (uint32_t i = 0; i < input->count && code == OCH_OK; i++) {
        const struct batch_input_row *row = &input->rows[i];
        bool is_new;
        uint64_t *state = map_at(&states, row->id, &is_new);
        if (!state) {
            code = FAIL_NO_MEMORY(err, "counts");
            break;
        }
        if (is_new) {
            struct view_place place;
            bool found = false;
            code = view_find(view, row->id, &place, &found, err);
            *state = found ? 2 : 1;
        }
        bool present = *state == 2;
        turn->counts.inserted += !present && (row->op == BATCH_ADD || row->op == BATCH_UPSERT);
        turn->counts.updated += present && (row->op == BATCH_UPDATE || row->op == BATCH_UPSERT);
        turn->counts.deleted += present && row->op == BATCH_DELETE;
        turn->counts.skipped += (present && row->op == BATCH_ADD) ||
                                (!present && (row->op == BATCH_UPDATE || row->op == BATCH_DELETE));
        if (row->op == BATCH_ADD || row->op == BATCH_UPSERT)
            *state = 2;
        else if (row->op == BATCH_DELETE)
            *state = 1;
    }
    map_done(&states);
    return code;
}

/* An update's vector fixes the dimension only if a record is there to take it (X9). */
static och_code update_finds_record(struct view *view, const struct batch_input *input,
                                    bool *ret_finds, och_error *err)
{
    *ret_finds = false;
    for (uint32_t i = 0; i < input->count && !*ret_finds; i++) {
        struct view_place place;
        if (input->rows[i].vector)
            TRY(view_find(view, input->rows[i].id, &place, ret_finds, err));
    }
    return OCH_OK;
}

static och_code decide_write(void *context, uint64_t head, struct wal_append *request,
                             bool *ret_append, och_error *err)
{
    struct turn *turn = context;
    struct view *view CLEANUP(view_cleanup) = NULL;
    (void)head;
    *ret_append = true;
    TRY(view_acquire(turn->gateway->options.views, turn->write->collection, READ_INDEX_AND_WAL,
                     &view, err));
    if (turn->write->want_counts)
        TRY(simulate(turn, view, err));
    const struct batch_input *input = &turn->write->input;
    if (!request->fixes_dimension && input->dimension && view_info(view)->dimension == 0) {
        bool finds;
        TRY(update_finds_record(view, input, &finds, err));
        request->fixes_dimension = finds;
        *ret_append = finds; /* no record at all has that id: nothing to write */
    }
    return OCH_OK;
}

/* What a batch did that was applied before (D17). */
static och_code counts_of_repeated(struct gateway *gateway, uuid collection, uuid batch_id,
                                   const struct wal_appended *appended,
                                   struct gateway_counts *ret_counts, och_error *err)
{
    for (bool again = false;; again = true) {
        struct sysdb_batch_id known;
        bool found;
        TRY(sysdb_batch_id_get(gateway->options.sysdb, collection, batch_id, &known, &found, err));
        if (found) {
            *ret_counts = (struct gateway_counts){known.inserted, known.updated, known.skipped,
                                                  known.deleted};
            return OCH_OK;
        }
        struct view *view CLEANUP(view_cleanup) = NULL;
        TRY(view_acquire(gateway->options.views, collection, READ_INDEX_AND_WAL, &view, err));
        struct view_counts counts;
        och_code code = view_batch_counts(view, appended->first, appended->count, &counts, err);
        if (code == OCH_OK)
            *ret_counts = (struct gateway_counts){counts.inserted, counts.updated, counts.skipped,
                                                  counts.deleted};
        if (code != OCH_STALE || again)
            return code;
        error_clear(err); /* flushed between the two looks: now the catalogue has it */
    }
}

och_code gateway_write(struct gateway *gateway, const struct gateway_scope *scope,
                       const struct gateway_write *write, struct gateway_counts *ret_counts,
                       och_error *err)
{
    const struct sysdb_collection *collection CLEANUP(sysdb_collection_cleanup) = NULL;
    TRY(sysdb_collection_get(gateway->options.sysdb, scope->tenant, scope->database,
                             write->collection, &collection, err));
    const struct batch_input *input = &write->input;
    *ret_counts = (struct gateway_counts){0};
    TRY(gateway_check_dimension(gateway, collection, input->dimension, err));
    TRY(check_ids(input, err));
    if (input->count == 0)
        return OCH_OK;
    TRY(throttle(gateway, write->collection, write->input.count, err));
    struct payload *payload CLEANUP(payload_cleanup) = NULL;
    TRY(batch_encode(input, gateway->options.budget, &payload, err));
    bool fixes = input->rows[0].op == BATCH_ADD || input->rows[0].op == BATCH_UPSERT;
    struct turn turn = {.gateway = gateway, .write = write};
    uint32_t have = 0; /* once fixed it stays */
    TRY(gateway_dimension(gateway, write->collection, &have, err));
    bool in_turn = write->want_counts || (input->dimension && !fixes && !have);
    struct wal_append request = {.collection = write->collection,
                                 .payload = payload,
                                 .count = input->count,
                                 .dimension = input->dimension,
                                 .fixes_dimension = fixes && input->dimension,
                                 .batch_id = write->once.batch_id,
                                 .request_hash = write->once.request_hash,
                                 .decide = in_turn ? decide_write : NULL,
                                 .context = &turn,
                                 .limits = scope->limits};
    struct wal_appended appended;
    TRY(wal_append(gateway->options.wal, &request, &appended, err));
    views_settle(gateway->options.views, write->collection);
    *ret_counts = turn.counts;
    if (appended.repeated && write->want_counts)
        return counts_of_repeated(gateway, write->collection, write->once.batch_id, &appended,
                                  ret_counts, err);
    return OCH_OK;
}

/* ---- delete ---- */

struct deletion {
    struct gateway *gateway;
    const struct gateway_scope *scope;
    const struct plan *which;
    struct gateway_once once;
    struct arena *arena;
    uint64_t at; /* H */
    slice *ids;
    uint32_t count;
    struct payload *payload;
    bool inside; /* evaluate inside the turn */
    bool touched;
    struct wal_appended appended;
};

/* The ids to delete, as of some H. */
static och_code choose(struct deletion *d, och_error *err)
{
    struct plan plan = *d->which;
    plan.kind = PLAN_GET;
    plan.level = READ_INDEX_AND_WAL;
    plan.fields = RECORD_ID;
    plan.offset = 0;
    struct query_result result;
    TRY(query_run(d->gateway->options.query, &plan, &d->scope->limits, d->arena, &result, err));
    size_t count = result.hits ? result.hits->count : 0;
    d->at = result.at;
    d->ids = ARENA_ARRAY(d->arena, slice, count + 1);
    och_code code = d->ids ? OCH_OK : FAIL_NO_MEMORY(err, "ids to delete");
    if (code == OCH_OK && count > UINT32_MAX)
        code = FAIL(err, OCH_TOO_LARGE, "%zu records in one delete; use a limit", count);
    for (size_t i = 0; i < count && code == OCH_OK; i++) {
        d->ids[i] = arena_copy(d->arena, result.hits->rows[i].record.id);
        if (!d->ids[i].at)
            code = FAIL_NO_MEMORY(err, "ids to delete");
    }
    d->count = (uint32_t)count;
    query_result_done(&result);
    return code;
}

static och_code encode(struct deletion *d, och_error *err)
{
    payload_unref(take(&d->payload));
    struct batch_input_row *rows =
        ARENA_ARRAY(d->arena, struct batch_input_row, (size_t)d->count + 1);
    if (!rows)
        return FAIL_NO_MEMORY(err, "a delete");
    for (uint32_t i = 0; i < d->count; i++)
        rows[i] = (struct batch_input_row){.op = BATCH_DELETE, .id = d->ids[i]};
    struct batch_input input = {.count = d->count, .rows = rows};
    return batch_encode(&input, d->gateway->options.budget, &d->payload, err);
}

static och_code decide_delete(void *context, uint64_t head, struct wal_append *request,
                              bool *ret_append, och_error *err)
{
    struct deletion *d = context;
    (void)head;
    *ret_append = true;
    d->touched = false;
    if (d->inside) {
        TRY(choose(d, err));
        *ret_append = d->count > 0;
        if (d->count > 0) {
            TRY(encode(d, err));
            request->payload = d->payload;
            request->count = d->count;
        }
        return OCH_OK;
    }
    struct view *view CLEANUP(view_cleanup) = NULL;
    TRY(view_acquire(d->gateway->options.views, d->which->collection, READ_INDEX_AND_WAL, &view,
                     err));
    for (uint32_t i = 0; i < d->count && !d->touched; i++)
        d->touched = view_touched(view, d->ids[i], d->at);
    *ret_append = !d->touched;
    return OCH_OK;
}

static och_code delete_once(struct deletion *d, bool dry_run, och_error *err)
{
    d->touched = false;
    if (!d->inside) {
        TRY(choose(d, err));
        if (d->count == 0 || dry_run)
            return OCH_OK;
        TRY(encode(d, err));
    }
    struct wal_append request = {.collection = d->which->collection,
                                 .payload = d->payload,
                                 .count = d->count,
                                 .decide = decide_delete,
                                 .context = d,
                                 .batch_id = d->once.batch_id,
                                 .request_hash = d->once.request_hash,
                                 .limits = d->scope->limits};
    return wal_append(d->gateway->options.wal, &request, &d->appended, err);
}

och_code gateway_delete(struct gateway *gateway, const struct gateway_scope *scope,
                        const struct plan *which, const struct gateway_once *once, bool dry_run,
                        uint64_t *ret_deleted, och_error *err)
{
    const struct sysdb_collection *collection CLEANUP(sysdb_collection_cleanup) = NULL;
    TRY(sysdb_collection_get(gateway->options.sysdb, scope->tenant, scope->database,
                             which->collection, &collection, err));
    TRY(schema_gate(&collection->schema, which->filter, err));
    *ret_deleted = 0;
    if (!which->has_ids && !which->filter)
        return OCH_OK; /* {} deletes nothing */
    TRY(throttle(gateway, which->collection, (uint32_t)which->id_count, err));
    struct arena arena;
    arena_init(&arena, gateway->options.budget, 0);
    struct deletion d = {.gateway = gateway, .scope = scope, .which = which, .arena = &arena};
    if (once && !dry_run)
        d.once = *once;
    /* Under a key the log is asked first: what is there now is not what was deleted then. */
    bool keyed = !uuid_is_zero(d.once.batch_id);
    och_code code = OCH_OK;
    for (int attempt = 0; attempt <= DELETE_TRIES; attempt++) {
        d.inside = keyed || attempt == DELETE_TRIES;
        code = delete_once(&d, dry_run, err);
        if (code != OCH_OK || !d.touched)
            break;
    }
    payload_unref(d.payload);
    struct gateway_counts counts = {.deleted = d.count};
    if (code == OCH_OK && d.appended.repeated)
        code = counts_of_repeated(gateway, which->collection, d.once.batch_id, &d.appended, &counts,
                                  err);
    if (code == OCH_OK)
        *ret_deleted = counts.deleted;
    arena_done(&arena);
    views_settle(gateway->options.views, which->collection);
    return code;
}
