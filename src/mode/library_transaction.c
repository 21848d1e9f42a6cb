/* SPDX-License-Identifier: Apache-2.0 */
/* ochre.h: transactions.  Reads go to the gateway at once, under a token; writes are noted here, copied, until they are committed as one batch. */
#include "base/vec.h"
#include "mode/library_internal.h"

#include <inttypes.h>

och_code och_transaction_begin(och_collection *collection, och_transaction **ret_transaction,
                               och_error *err)
{
    if (!ret_transaction)
        return FAIL(err, OCH_INVALID, "ret_transaction is NULL");
    TRY(library_enter_present(collection, __func__, err));
    och_transaction *t = MEM_NEW(och_transaction);
    och_code code = t ? OCH_OK : FAIL_NO_MEMORY(err, "a transaction");
    if (code == OCH_OK)
        code = library_collection_copy(collection, NULL, &t->collection, err);
    if (code == OCH_OK) {
        t->database = collection->database;
        arena_init(&t->arena, database_budget(t->database->database), 0);
        *ret_transaction = t;
    } else {
        mem_free(t);
    }
    library_leave(collection->database);
    return code;
}

static och_code enter(och_transaction *t, och_error *err)
{
    return library_enter(t ? t->database : NULL, err);
}

/* ---- reading ---- */

static och_code get(och_transaction *t, const och_select *which, och_result *result, och_error *err)
{
    och_select select;
    struct plan plan;
    TRY(library_read_select(t->collection, which, &result->arena, &select, &plan, err));
    if (select.order_by.at || select.cursor.at || select.descending)
        return FAIL(err, OCH_INVALID,
                    "order_by and cursor are for och_collection_get: a transaction reads in order "
                    "of insertion");
    plan.kind = PLAN_GET;
    struct gateway_scope scope = library_scope(t->collection, select.deadline_ms, select.cancel);
    result->include = select.include;
    return gateway_read_conditional(database_gateway(t->database->database), &scope, &plan,
                                    &result->arena, &t->token, &result->rows, err);
}

och_code och_transaction_get(och_transaction *t, const och_select *which, och_result **ret_result,
                             och_error *err)
{
    if (!ret_result)
        return FAIL(err, OCH_INVALID, "ret_result is NULL");
    TRY(enter(t, err));
    och_result *result = NULL;
    och_code code = library_result_new(t->database, &result, err);
    if (code == OCH_OK)
        code = get(t, which, result, err);
    return library_result_end(t->database, result, code, ret_result);
}

/* ---- noting writes ---- */

static bool copy_bytes(struct arena *arena, slice *text)
{
    if (text->at)
        *text = arena_copy(arena, *text);
    else
        return true;
    return text->at != NULL;
}

static bool copy_row(struct arena *arena, struct batch_input_row *row, uint32_t dimension)
{
    if (row->vector) {
        slice bytes = slice_make((const uint8_t *)row->vector, dimension * sizeof(float));
        row->vector = (const float *)(const void *)arena_copy(arena, bytes).at;
        if (!row->vector)
            return false;
    }
    return copy_bytes(arena, &row->id) && copy_bytes(arena, &row->document) &&
           copy_bytes(arena, &row->uri) && copy_bytes(arena, &row->metadata);
}

static och_code check_input(const och_transaction *t, const struct batch_input *input,
                            och_error *err)
{
    if (t->dimension && input->dimension && t->dimension != input->dimension)
        return FAIL(err, OCH_INVALID,
                    "Collection expecting embedding with dimension of %" PRIu32 ", got %" PRIu32,
                    t->dimension, input->dimension);
    for (uint32_t i = 0; i < input->count; i++)
        if (input->rows[i].id.len == 0)
            return FAIL(err, OCH_INVALID,
                        "Empty ID, ID must have at least one character: record %" PRIu32, i);
    if (t->count + input->count > UINT32_MAX)
        return FAIL(err, OCH_TOO_LARGE, "more than 4294967295 writes in one transaction");
    return OCH_OK;
}

/* All of them or, after an error, none. */
static och_code note(och_transaction *t, const struct batch_input *input, och_error *err)
{
    TRY(check_input(t, input, err));
    size_t count = t->count + input->count;
    if (!vec_reserve((void **)(void *)&t->rows, &t->capacity, count, sizeof(*t->rows)))
        return FAIL_NO_MEMORY(err, "writes of a transaction");
    for (uint32_t i = 0; i < input->count; i++) {
        struct batch_input_row *row = &t->rows[t->count + i];
        *row = input->rows[i];
        if (!copy_row(&t->arena, row, input->dimension))
            return FAIL_NO_MEMORY(err, "writes of a transaction");
    }
    t->count = count;
    t->dimension = input->dimension ? input->dimension : t->dimension;
    return OCH_OK;
}

static och_code note_records(och_transaction *t, enum batch_op op, const och_records *records,
                             och_error *err)
{
    struct library_rows rows;
    struct batch_input input;
    TRY(enter(t, err));
    library_rows_init(&rows, t->collection, op);
    och_code code = library_rows_read(&rows, records, &input, err);
    if (code == OCH_OK)
        code = note(t, &input, err);
    library_rows_done(&rows);
    library_leave(t->database);
    return code;
}

och_code och_transaction_add(och_transaction *t, const och_records *records, och_error *err)
{
    return note_records(t, BATCH_ADD, records, err);
}

och_code och_transaction_upsert(och_transaction *t, const och_records *records, och_error *err)
{
    return note_records(t, BATCH_UPSERT, records, err);
}

och_code och_transaction_update(och_transaction *t, const och_records *records, och_error *err)
{
    return note_records(t, BATCH_UPDATE, records, err);
}

static och_code note_deletes(och_transaction *t, const och_bytes *ids, size_t count,
                             struct arena *arena, och_error *err)
{
    if (!ids && count)
        return FAIL(err, OCH_INVALID, "ids is NULL");
    if (count > UINT32_MAX)
        return FAIL(err, OCH_TOO_LARGE, "%zu ids in one call; send fewer", count);
    struct batch_input_row *rows = ARENA_ARRAY(arena, struct batch_input_row, count + 1);
    if (!rows)
        return FAIL_NO_MEMORY(err, "ids");
    for (size_t i = 0; i < count; i++) {
        TRY(library_check_text(ids[i], "id", err));
        rows[i] = (struct batch_input_row){.op = BATCH_DELETE, .id = library_slice(ids[i])};
    }
    struct batch_input input = {.count = (uint32_t)count, .rows = rows};
    return note(t, &input, err);
}

och_code och_transaction_delete(och_transaction *t, const och_bytes *ids, size_t id_count,
                                och_error *err)
{
    struct arena arena;
    TRY(enter(t, err));
    arena_init(&arena, database_budget(t->database->database), 0);
    och_code code = note_deletes(t, ids, id_count, &arena, err);
    arena_done(&arena);
    library_leave(t->database);
    return code;
}

/* ---- the end ---- */

static void clear(och_transaction *t)
{
    struct budget *budget = database_budget(t->database->database);
    t->token = 0;
    t->count = 0;
    t->dimension = 0;
    arena_done(&t->arena);
    arena_init(&t->arena, budget, 0);
}

och_code och_transaction_commit(och_transaction *t, uint64_t *ret_count, och_error *err)
{
    TRY(enter(t, err));
    struct gateway *gateway = database_gateway(t->database->database);
    struct gateway_scope scope = library_scope(t->collection, 0, NULL);
    struct gateway_commit commit = {
        .collection = t->collection->id,
        .read_token = t->token,
        .input = {.count = (uint32_t)t->count, .dimension = t->dimension, .rows = t->rows}};
    struct gateway_committed committed;
    och_code code = gateway_commit(gateway, &scope, &commit, &committed, err);
    if (code == OCH_OK && ret_count)
        *ret_count = committed.count;
    if (code == OCH_OK || code == OCH_CONFLICT)
        clear(t);
    library_leave(t->database);
    return code;
}

void och_transaction_free(och_transaction *t)
{
    if (!t || library_is_forked(t->database))
        return;
    if (library_enter(t->database, NULL) == OCH_OK) { /* else no tokens are left */
        gateway_transaction_end(database_gateway(t->database->database), t->token);
        library_leave(t->database);
    }
    arena_done(&t->arena);
    mem_free(t->rows);
    och_collection_free(t->collection);
    mem_free(t);
}
