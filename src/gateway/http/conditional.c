/* SPDX-License-Identifier: Apache-2.0 */
/* Conditional commits (http-api.md §10): the writes of a transaction, each with the body of its plain route, applied together or not at all.
 * Conditional gets are in records.c. */
#include "gateway/http/write_request.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define MEMBER(type_, member_) .at = offsetof(type_, member_)

/* What exchange_key tells commits from other operations by. */
#define KEY_COMMIT ((enum batch_op)16)

/* ---- tokens ---- */

static bool read_digits(slice text, uint64_t *ret_number)
{
    uint64_t number = 0;
    if (text.len == 0 || text.len > 20)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        if (text.at[i] < '0' || text.at[i] > '9' || __builtin_mul_overflow(number, 10, &number) ||
            __builtin_add_overflow(number, (uint64_t)(text.at[i] - '0'), &number))
            return false;
    }
    *ret_number = number;
    return true;
}

och_code exchange_read_token(struct exchange *x, const struct json_value *value,
                             uint64_t *ret_token, och_error *err)
{
    *ret_token = 0;
    if (!value)
        return OCH_OK;
    bool sound = false, huge = value->kind == JSON_FLOAT && value->big;
    if (value->kind == JSON_INT && value->integer >= 0) {
        *ret_token = (uint64_t)value->integer;
        sound = true;
    } else if (value->kind == JSON_STRING) {
        sound = read_digits(value->string, ret_token);
    }
    if (!sound && !huge)
        return wire_fail(x, value, err, "read_token", "invalid type: %s, expected u64",
                         json_describe(value, &x->arena));
    if (*ret_token == 0)
        return FAIL(err, OCH_STALE, "no read token of that number was given out");
    return OCH_OK;
}

/* ---- bodies ---- */

struct commit_body {
    const struct json_value *read_token, *read_ids, *operations;
};
static const struct wire_member commit_members[] = {
    {"read_token", WIRE_ANY, false, false, MEMBER(struct commit_body, read_token)},
    {"read_ids", WIRE_STRINGS, false, true, MEMBER(struct commit_body, read_ids)},
    {"operations", WIRE_SEQUENCE, true, true, MEMBER(struct commit_body, operations)},
};
static const struct wire_body commit_shape = {"ConditionalCommitPayload", commit_members,
                                              COUNT_OF(commit_members), false};

struct operation_body {
    const struct json_value *operation, *payload;
};
static const struct wire_member operation_members[] = {
    {"operation", WIRE_STRING, true, true, MEMBER(struct operation_body, operation)},
    {"payload", WIRE_OBJECT, true, true, MEMBER(struct operation_body, payload)},
};
static const struct wire_body operation_shape = {"ConditionalTransactionOperationPayload",
                                                 operation_members, COUNT_OF(operation_members),
                                                 false};

struct delete_body {
    const struct json_value *ids, *where, *where_document, *limit, *counts;
};
static const struct wire_member delete_members[] = {
    {"ids", WIRE_STRINGS, false, false, MEMBER(struct delete_body, ids)},
    {"where", WIRE_ANY, false, false, MEMBER(struct delete_body, where)},
    {"where_document", WIRE_ANY, false, false, MEMBER(struct delete_body, where_document)},
    {"limit", WIRE_U32, false, false, MEMBER(struct delete_body, limit)},
    {"counts", WIRE_BOOL, false, false, MEMBER(struct delete_body, counts)},
};
static const struct wire_body delete_shape = {"DeleteCollectionRecordsPayload", delete_members,
                                              COUNT_OF(delete_members), true};

struct operation {
    const char *path;
    struct write_request write;
    struct delete_body deletion;
};

static bool name_op(slice name, enum batch_op *ret_op)
{
    static const struct {
        const char *name;
        enum batch_op op;
    } ops[] = {{"add", BATCH_ADD},
               {"update", BATCH_UPDATE},
               {"upsert", BATCH_UPSERT},
               {"delete", BATCH_DELETE}};
    for (size_t i = 0; i < COUNT_OF(ops); i++) {
        if (slice_equal(name, slice_of(ops[i].name))) {
            *ret_op = ops[i].op;
            return true;
        }
    }
    return false;
}

static och_code read_operation(struct exchange *x, const struct json_value *value, uint32_t i,
                               struct operation *o, och_error *err)
{
    struct operation_body body = {0};
    o->path = arena_printf(&x->arena, "operations[%" PRIu32 "]", i);
    const char *payload_path = arena_printf(&x->arena, "operations[%" PRIu32 "].payload", i);
    if (!o->path || !payload_path)
        return FAIL_NO_MEMORY(err, "an operation");
    x->within = o->path;
    TRY(wire_spread(x, &operation_shape, value, &body, err));
    slice name = body.operation->string;
    if (!name_op(name, &o->write.op))
        return wire_fail(x, body.operation, err, "operation",
                         "unknown variant `%.*s`, expected one of `add`, `update`, `upsert`, "
                         "`delete`",
                         (int)min_size(name.len, 40), (const char *)name.at);
    x->within = payload_path;
    if (o->write.op == BATCH_DELETE)
        return wire_spread(x, &delete_shape, body.payload, &o->deletion, err);
    TRY(wire_spread(x, write_shape(o->write.op), body.payload, &o->write.body, err));
    if (!o->write.body.ids) /* an update by filter, which would read */
        return wire_fail(x, body.payload, err, "", "missing field `ids`");
    return write_check_shape(x, &o->write, err);
}

/* ---- rows ---- */

static och_code delete_rows(struct exchange *x, const struct delete_body *body,
                            struct batch_input *ret_input, och_error *err)
{
    if (body->where || body->where_document)
        return FAIL(err, OCH_INVALID, "transactional predicate deletes are not supported");
    if (body->limit)
        return FAIL(err, OCH_INVALID,
                    "Validation error: limit, where: limit can only be specified when a where "
                    "clause is provided");
    if (body->ids && body->ids->count == 0)
        return FAIL(err, OCH_INVALID,
                    "Validation error: ids, where: Either ids or where must be specified");
    uint32_t count = body->ids ? body->ids->count : 0;
    struct batch_input_row *rows =
        ARENA_ARRAY(&x->arena, struct batch_input_row, (size_t)count + 1);
    if (!rows)
        return FAIL_NO_MEMORY(err, "records");
    for (uint32_t i = 0; i < count; i++)
        rows[i] = (struct batch_input_row){.op = BATCH_DELETE, .id = body->ids->items[i].string};
    *ret_input = (struct batch_input){.count = count, .rows = rows};
    return OCH_OK;
}

static och_code operation_rows(struct exchange *x, struct operation *o,
                               const struct sysdb_collection *collection,
                               struct batch_input *ret_input, och_error *err)
{
    TRY(o->write.op == BATCH_DELETE ? delete_rows(x, &o->deletion, ret_input, err)
                                    : write_read_rows(x, &o->write, collection, ret_input, err));
    return gateway_check_ids(ret_input, err);
}

/* Behind the message, which begins as that of the plain route. */
static void name_place(och_error *err, const char *where)
{
    if (!err)
        return;
    char hint[sizeof(err->message)] = "";
    size_t len = strlen(err->message);
    if (err->hint_at > 1) { /* the way out stays behind it */
        memcpy(hint, err->message + err->hint_at, len - err->hint_at + 1);
        len = err->hint_at - 1;
        len -= err->message[len - 1] == '.';
        err->hint_at = 0;
    }
    (void)snprintf(err->message + len, sizeof(err->message) - len, " (%s)", where);
    if (*hint)
        error_hint(err, "%s", hint);
}

/* One after the other, as the plain routes would judge them; then all rows behind each other. */
static och_code all_rows(struct exchange *x, struct operation *operations, uint32_t count,
                         const struct sysdb_collection *collection, struct batch_input *ret_input,
                         och_error *err)
{
    struct batch_input *inputs = ARENA_ARRAY(&x->arena, struct batch_input, (size_t)count + 1);
    uint64_t total = 0;
    uint32_t dimension = 0;
    if (!inputs)
        return FAIL_NO_MEMORY(err, "operations");
    for (uint32_t i = 0; i < count; i++) {
        x->within = operations[i].path;
        och_code code = operation_rows(x, &operations[i], collection, &inputs[i], err);
        x->within = NULL;
        uint32_t given = inputs[i].dimension;
        if (code == OCH_OK && dimension && given && given != dimension)
            code =
                FAIL(err, OCH_INVALID,
                     "Collection expecting embedding with dimension of %" PRIu32 ", got %" PRIu32,
                     dimension, given);
        if (code != OCH_OK) {
            name_place(err, operations[i].path);
            return code;
        }
        dimension = given ? given : dimension;
        total += inputs[i].count;
    }
    struct batch_input_row *rows = ARENA_ARRAY(&x->arena, struct batch_input_row, total + 1);
    if (total > UINT32_MAX || !rows)
        return FAIL_NO_MEMORY(err, "records");
    size_t at = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (inputs[i].count)
            memcpy(rows + at, inputs[i].rows, inputs[i].count * sizeof(*rows));
        at += inputs[i].count;
    }
    *ret_input =
        (struct batch_input){.count = (uint32_t)total, .dimension = dimension, .rows = rows};
    return OCH_OK;
}

/* ---- the handler ---- */

static och_code read_ids(struct exchange *x, const struct json_value *ids,
                         struct gateway_commit *commit, och_error *err)
{
    uint32_t count = ids ? ids->count : 0;
    slice *list = ARENA_ARRAY(&x->arena, slice, (size_t)count + 1);
    if (!list)
        return FAIL_NO_MEMORY(err, "ids");
    for (uint32_t i = 0; i < count; i++) {
        list[i] = ids->items[i].string;
        if (list[i].len == 0)
            return FAIL(err, OCH_INVALID, "read_ids must not contain empty ids");
    }
    commit->read_ids = list;
    commit->read_id_count = count;
    return OCH_OK;
}

och_code handle_conditional_commit(struct exchange *x, och_error *err)
{
    struct commit_body body = {0};
    struct gateway_commit commit = {0};
    struct gateway_committed committed;
    x->float_depth = 4; /* body, operations, operation, payload */
    TRY(wire_read(x, &commit_shape, &body, err));
    uint32_t count = body.operations->count;
    struct operation *operations = ARENA_ARRAY(&x->arena, struct operation, (size_t)count + 1);
    if (!operations)
        return FAIL_NO_MEMORY(err, "operations");
    for (uint32_t i = 0; i < count; i++)
        TRY(read_operation(x, &body.operations->items[i], i, &operations[i], err));
    x->within = NULL;
    TRY(exchange_read_token(x, body.read_token, &commit.read_token, err));
    const struct sysdb_collection *collection CLEANUP(sysdb_collection_cleanup) = NULL;
    TRY(exchange_collection(x, &collection, err));
    commit.collection = collection->id;
    if (!commit.read_token && body.read_ids && body.read_ids->count)
        return FAIL(err, OCH_INVALID, "conditional commit with read_ids requires read_token");
    TRY(read_ids(x, body.read_ids, &commit, err));
    TRY(all_rows(x, operations, count, collection, &commit.input, err));
    TRY(exchange_key(x, KEY_COMMIT, commit.collection, &commit.once, err));
    och_code code = gateway_commit(x->gateway, &x->scope, &commit, &committed, err);
    if (code == OCH_CONFLICT && committed.key_reused)
        x->error_status = 422; /* as with other writes (D17) */
    TRY(code);
    if (committed.count)
        buf_printf(&x->reply->body,
                   "{\"first_inserted_record_offset\":%" PRIu64 ",\"record_count\":%" PRIu32 "}",
                   committed.first, committed.count);
    else
        buf_text(&x->reply->body, "{\"first_inserted_record_offset\":null,\"record_count\":0}");
    return OCH_OK;
}
