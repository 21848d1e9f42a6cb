/* SPDX-License-Identifier: Apache-2.0 */
/* Writing records: add, upsert, update (D13).  Deletes and updates by filter: chosen.c. */
#include "base/map.h"
#include "gateway/gateway_internal.h"

#include <inttypes.h>

och_code gateway_throttle(struct gateway *gateway, uuid collection, uint32_t count, och_error *err)
{
    uint64_t wait_ns;
    TRY(compactor_throttle(gateway->options.compactor, collection, count, &wait_ns, err));
    if (wait_ns)
        sched_sleep_ns(wait_ns);
    return OCH_OK;
}

och_code gateway_check_ids(const struct batch_input *input, och_error *err)
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
    struct batch_input input; /* the write's, with the collection's default expiry */
    struct gateway_counts counts;
};

/* Run the operations against the state at the head, only to count (D13). */
static och_code simulate(struct turn *turn, struct view *view, och_error *err)
{
    const struct batch_input *input = &turn->input;
    int64_t now_ms = view_info(view)->now_ms;
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
        bool writes =
            row->op == BATCH_UPSERT || (present ? row->op == BATCH_UPDATE : row->op == BATCH_ADD);
        if (writes && row->expires_ms != 0)
            *state = row->expires_ms > now_ms ? 2 : 1; /* its time may be over from the beginning */
        else if (writes && !present)
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
    /* What had expired for the counts has for the batch, and the other way round. */
    request->as_of_ms = view_info(view)->now_ms;
    if (turn->write->want_counts)
        TRY(simulate(turn, view, err));
    const struct batch_input *input = &turn->input;
    if (!request->fixes_dimension && input->dimension && view_info(view)->dimension == 0) {
        bool finds;
        TRY(update_finds_record(view, input, &finds, err));
        request->fixes_dimension = finds;
        *ret_append = finds; /* no record at all has that id: nothing to write */
    }
    return OCH_OK;
}

och_code gateway_counts_of_repeated(struct gateway *gateway, uuid collection, uuid batch_id,
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

static och_code write_batch(struct gateway *gateway, const struct gateway_scope *scope,
                            const struct gateway_write *write, struct arena *arena,
                            struct gateway_counts *ret_counts, och_error *err)
{
    const struct sysdb_collection *collection CLEANUP(sysdb_collection_cleanup) = NULL;
    TRY(sysdb_collection_get(gateway->options.sysdb, scope->tenant, scope->database,
                             write->collection, &collection, err));
    struct turn turn = {.gateway = gateway, .write = write, .input = write->input};
    struct batch_input *input = &turn.input;
    *ret_counts = (struct gateway_counts){0};
    TRY(gateway_check_dimension(gateway, collection, input->dimension, err));
    TRY(gateway_check_ids(input, err));
    if (input->count == 0)
        return OCH_OK;
    TRY(gateway_default_expiry(gateway, collection, input, arena, err));
    TRY(gateway_throttle(gateway, write->collection, input->count, err));
    struct payload *payload CLEANUP(payload_cleanup) = NULL;
    TRY(batch_encode(input, gateway->options.budget, &payload, err));
    bool fixes = input->rows[0].op == BATCH_ADD || input->rows[0].op == BATCH_UPSERT;
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
        return gateway_counts_of_repeated(gateway, write->collection, write->once.batch_id,
                                          &appended, ret_counts, err);
    return OCH_OK;
}

och_code gateway_write(struct gateway *gateway, const struct gateway_scope *scope,
                       const struct gateway_write *write, struct gateway_counts *ret_counts,
                       och_error *err)
{
    struct arena arena;
    arena_init(&arena, gateway->options.budget, 0);
    och_code code = write_batch(gateway, scope, write, &arena, ret_counts, err);
    arena_done(&arena);
    return code;
}
