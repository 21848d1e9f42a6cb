/* SPDX-License-Identifier: Apache-2.0 */
/* Writes to the records that ids and a filter choose: delete, and update of all of them alike (D14).  Atomic and exact: the ids are read at H and
 * appended if none of them was touched since; after three tries the append turn is held while they are read. */
#include "gateway/gateway_internal.h"

#include "model/limits.h"

#include <inttypes.h>

#define CHOOSE_TRIES 3 /* outside the turn; then inside it */

struct chosen {
    struct gateway *gateway;
    const struct gateway_scope *scope;
    const struct plan *which;
    const struct batch_input_row *set; /* what all of them get, NULL: they are deleted */
    struct gateway_once once;
    struct arena *arena;
    uint64_t at; /* H */
    slice *ids;
    uint32_t count;
    struct payload *payload;
    bool inside; /* evaluate inside the turn */
    bool touched;
    struct arena *told_in; /* where `told` goes; NULL: nobody asks */
    slice told;            /* how they were found, the last time */
    struct wal_appended appended;
};

/* The ids of the records, as of some H. */
static och_code choose(struct chosen *d, och_error *err)
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
    och_code code = d->ids ? OCH_OK : FAIL_NO_MEMORY(err, "ids of the records");
    if (code == OCH_OK && count > UINT32_MAX)
        code = FAIL(err, OCH_TOO_LARGE, "%zu records in one call; use a limit", count);
    for (size_t i = 0; i < count && code == OCH_OK; i++) {
        d->ids[i] = arena_copy(d->arena, result.hits->rows[i].record.id);
        if (!d->ids[i].at)
            code = FAIL_NO_MEMORY(err, "ids of the records");
    }
    if (code == OCH_OK && d->told_in && result.explain.len) {
        d->told = arena_copy(d->told_in, result.explain);
        if (!d->told.at)
            code = FAIL_NO_MEMORY(err, "explain");
    }
    d->count = (uint32_t)count;
    query_result_done(&result);
    return code;
}

/* Every row of an update carries its own copy of what is set: said before it is built when that is more than a batch may hold. */
static och_code check_size(const struct chosen *d, och_error *err)
{
    uint64_t each = d->set->document.len + d->set->uri.len + d->set->metadata.len;
    if (d->count && each > LIMIT_PAYLOAD_BYTES / d->count)
        return FAIL(err, OCH_TOO_LARGE,
                    "%" PRIu32 " records with %" PRIu64 " bytes each are more than one batch holds "
                    "(2 GiB); use a limit",
                    d->count, each);
    return OCH_OK;
}

static och_code encode(struct chosen *d, och_error *err)
{
    payload_unref(take(&d->payload));
    if (d->set)
        TRY(check_size(d, err));
    struct batch_input_row *rows =
        ARENA_ARRAY(d->arena, struct batch_input_row, (size_t)d->count + 1);
    if (!rows)
        return FAIL_NO_MEMORY(err, "the operations");
    for (uint32_t i = 0; i < d->count; i++) {
        rows[i] = d->set ? *d->set : (struct batch_input_row){.op = BATCH_DELETE};
        rows[i].id = d->ids[i];
    }
    struct batch_input input = {.count = d->count, .rows = rows};
    return batch_encode(&input, d->gateway->options.budget, &d->payload, err);
}

static och_code decide_chosen(void *context, uint64_t head, struct wal_append *request,
                              bool *ret_append, och_error *err)
{
    struct chosen *d = context;
    (void)head;
    *ret_append = true;
    d->touched = false;
    if (d->inside) {
        /* Taken before: what the filter then finds has not expired for the batch. */
        request->as_of_ms = (int64_t)(clock_wall_ns(d->gateway->options.clock) / 1000000);
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
    request->as_of_ms = view_info(view)->now_ms;
    for (uint32_t i = 0; i < d->count && !d->touched; i++) {
        d->touched = view_touched(view, d->ids[i], d->at);
        if (!d->touched && view_info(view)->has_expiry) {
            struct view_place place;
            bool found;
            TRY(view_find(view, d->ids[i], &place, &found, err));
            d->touched = !found; /* its time ran out between */
        }
    }
    *ret_append = !d->touched;
    return OCH_OK;
}

static och_code try_once(struct chosen *d, bool dry_run, och_error *err)
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
                                 .decide = decide_chosen,
                                 .context = d,
                                 .batch_id = d->once.batch_id,
                                 .request_hash = d->once.request_hash,
                                 .limits = d->scope->limits};
    return wal_append(d->gateway->options.wal, &request, &d->appended, err);
}

static och_code run(struct chosen *d, bool dry_run, uint64_t *ret_count, och_error *err)
{
    struct gateway *gateway = d->gateway;
    const struct sysdb_collection *collection CLEANUP(sysdb_collection_cleanup) = NULL;
    uuid id = d->which->collection;
    TRY(sysdb_collection_get(gateway->options.sysdb, d->scope->tenant, d->scope->database, id,
                             &collection, err));
    TRY(schema_gate(&collection->schema, d->which->filter, err));
    *ret_count = 0;
    if (!d->which->has_ids && !d->which->filter)
        return OCH_OK; /* nothing said is nothing chosen */
    TRY(gateway_throttle(gateway, id, (uint32_t)d->which->id_count, err));
    struct arena arena;
    arena_init(&arena, gateway->options.budget, 0);
    d->arena = &arena;
    /* Under a key the log is asked first: what is there now is not what was chosen then. */
    bool keyed = !uuid_is_zero(d->once.batch_id);
    och_code code = OCH_OK;
    for (int attempt = 0; attempt <= CHOOSE_TRIES; attempt++) {
        d->inside = keyed || attempt == CHOOSE_TRIES;
        code = try_once(d, dry_run, err);
        if (code != OCH_OK || !d->touched)
            break;
    }
    payload_unref(d->payload);
    uint64_t count = d->count;
    if (code == OCH_OK && d->appended.repeated) {
        struct gateway_counts counts = {0};
        code =
            gateway_counts_of_repeated(gateway, id, d->once.batch_id, &d->appended, &counts, err);
        count = d->set ? counts.updated : counts.deleted;
    }
    if (code == OCH_OK)
        *ret_count = count;
    arena_done(&arena);
    d->arena = NULL;
    views_settle(gateway->options.views, id);
    return code;
}

och_code gateway_delete_explained(struct gateway *gateway, const struct gateway_scope *scope,
                                  const struct plan *which, const struct gateway_once *once,
                                  bool dry_run, struct arena *arena, uint64_t *ret_deleted,
                                  slice *ret_explain, och_error *err)
{
    struct chosen d = {.gateway = gateway, .scope = scope, .which = which, .told_in = arena};
    if (once && !dry_run)
        d.once = *once;
    TRY(run(&d, dry_run, ret_deleted, err));
    *ret_explain = d.told;
    return OCH_OK;
}

och_code gateway_delete(struct gateway *gateway, const struct gateway_scope *scope,
                        const struct plan *which, const struct gateway_once *once, bool dry_run,
                        uint64_t *ret_deleted, och_error *err)
{
    slice explain;
    return gateway_delete_explained(gateway, scope, which, once, dry_run, NULL, ret_deleted,
                                    &explain, err);
}

och_code gateway_update_chosen(struct gateway *gateway, const struct gateway_scope *scope,
                               const struct plan *which, const struct batch_input_row *set,
                               const struct gateway_once *once, bool dry_run, uint64_t *ret_updated,
                               och_error *err)
{
    assert(set->op == BATCH_UPDATE && !set->vector);
    struct chosen d = {.gateway = gateway, .scope = scope, .which = which, .set = set};
    if (once && !dry_run)
        d.once = *once;
    return run(&d, dry_run, ret_updated, err);
}
