/* SPDX-License-Identifier: Apache-2.0 */
/* Writing records: add, upsert, update (http-api.md §6). */
#include "base/bytes.h"
#include "gateway/http/write_request.h"

#include "model/limits.h"

#include <inttypes.h>

#define MEMBER(type_, member_) .at = offsetof(type_, member_)

static const struct wire_member add_members[] = {
    {"ids", WIRE_STRINGS, true, true, MEMBER(struct write_body, ids)},
    {"embeddings", WIRE_EMBEDDINGS, true, true, MEMBER(struct write_body, embeddings)},
    {"documents", WIRE_NULLABLE_STRINGS, false, false, MEMBER(struct write_body, documents)},
    {"uris", WIRE_NULLABLE_STRINGS, false, false, MEMBER(struct write_body, uris)},
    {"metadatas", WIRE_METADATAS, false, false, MEMBER(struct write_body, metadatas)},
    {"counts", WIRE_BOOL, false, false, MEMBER(struct write_body, counts)},
    {"expires_at", WIRE_NULLABLE_INTS, false, false, MEMBER(struct write_body, expires_at)},
    {"ttl_seconds", WIRE_INT, false, false, MEMBER(struct write_body, ttl_seconds)},
};
static const struct wire_member upsert_members[] = {
    {"ids", WIRE_STRINGS, true, true, MEMBER(struct write_body, ids)},
    {"embeddings", WIRE_EMBEDDINGS, true, true, MEMBER(struct write_body, embeddings)},
    {"documents", WIRE_NULLABLE_STRINGS, false, false, MEMBER(struct write_body, documents)},
    {"uris", WIRE_NULLABLE_STRINGS, false, false, MEMBER(struct write_body, uris)},
    {"metadatas", WIRE_METADATAS, false, false, MEMBER(struct write_body, metadatas)},
    {"counts", WIRE_BOOL, false, false, MEMBER(struct write_body, counts)},
    {"expires_at", WIRE_NULLABLE_INTS, false, false, MEMBER(struct write_body, expires_at)},
    {"ttl_seconds", WIRE_INT, false, false, MEMBER(struct write_body, ttl_seconds)},
    {"clear", WIRE_CLEAR, false, false, MEMBER(struct write_body, clear)},
};
static const struct wire_member update_members[] = {
    {"ids", WIRE_STRINGS_UNLESS_SET, true, true, MEMBER(struct write_body, ids)},
    {"embeddings", WIRE_NULLABLE_EMBEDDINGS, false, false, MEMBER(struct write_body, embeddings)},
    {"documents", WIRE_NULLABLE_STRINGS, false, false, MEMBER(struct write_body, documents)},
    {"uris", WIRE_NULLABLE_STRINGS, false, false, MEMBER(struct write_body, uris)},
    {"metadatas", WIRE_METADATAS, false, false, MEMBER(struct write_body, metadatas)},
    {"counts", WIRE_BOOL, false, false, MEMBER(struct write_body, counts)},
    {"expires_at", WIRE_NULLABLE_INTS, false, false, MEMBER(struct write_body, expires_at)},
    {"ttl_seconds", WIRE_INT, false, false, MEMBER(struct write_body, ttl_seconds)},
    {"clear", WIRE_CLEAR, false, false, MEMBER(struct write_body, clear)},
};

/* Encode all metadata at once: wrong value types are 422 now, bad keys 400 later. */
och_code write_check_shape(struct exchange *x, struct write_request *w, och_error *err)
{
    const struct json_value *metadatas = w->body.metadatas;
    unsigned flags = w->op == BATCH_ADD ? 0 : META_ALLOW_DELETE;
    if (!metadatas)
        return OCH_OK;
    struct buf all;
    buf_init(&all, BUF_MAX_NONE);
    size_t *starts = ARENA_ARRAY(&x->arena, size_t, (size_t)metadatas->count + 1);
    w->metadatas = ARENA_ARRAY(&x->arena, slice, (size_t)metadatas->count + 1);
    och_code code = starts && w->metadatas ? OCH_OK : FAIL_NO_MEMORY(err, "metadata");
    for (uint32_t i = 0; i < metadatas->count && code == OCH_OK; i++) {
        starts[i] = all.len;
        if (metadatas->items[i].kind == JSON_NULL)
            continue;
        och_error reason = {0};
        code = meta_from_json(&metadatas->items[i], flags, &all, &reason);
        if (code == OCH_INVALID) {
            all.len = starts[i];
            if (w->later == OCH_OK)
                w->later_row = i;
            if (w->later == OCH_OK)
                w->later = FAIL(&w->later_error, OCH_INVALID,
                                "Validation error: metadatas: Invalid metadata at index %" PRIu32
                                ": %.600s",
                                i, reason.message);
            code = OCH_OK;
        } else if (code == OCH_SHAPE) {
            code = wire_fail(x, &metadatas->items[i], err,
                             arena_printf(&x->arena, "metadatas[%" PRIu32 "]", i), "%.400s",
                             reason.message);
        } else if (code != OCH_OK) {
            code = FAIL(err, code, "%.600s", reason.message);
        }
    }
    if (code == OCH_OK)
        code = buf_check(&all, "metadata", err);
    slice copy = code == OCH_OK ? arena_copy(&x->arena, buf_view(&all)) : SLICE_NONE;
    if (code == OCH_OK && !copy.at)
        code = FAIL_NO_MEMORY(err, "metadata");
    if (code == OCH_OK) {
        starts[metadatas->count] = all.len;
        for (uint32_t i = 0; i < metadatas->count; i++) {
            size_t len = starts[i + 1] - starts[i];
            w->metadatas[i] = len ? slice_make(copy.at + starts[i], len) : SLICE_NONE;
        }
    }
    buf_done(&all);
    return code;
}

static och_code check_lengths(struct exchange *x, const struct write_body *body, och_error *err)
{
    static const char columns[] =
        "Inconsistent number of IDs, embeddings, documents, URIs and metadatas";
    const struct {
        const char *name, *message;
        const struct json_value *list;
    } lists[] = {
        {"embeddings", columns, body->embeddings},
        {"documents", columns, body->documents},
        {"uris", columns, body->uris},
        {"metadatas", columns, body->metadatas},
        {"clear", "Inconsistent number of IDs and clear lists", body->clear},
        {"expires_at", "Inconsistent number of IDs and expires_at", body->expires_at},
    };
    for (size_t i = 0; i < COUNT_OF(lists); i++) {
        if (!lists[i].list || lists[i].list->count == body->ids->count)
            continue;
        exchange_at(x, "%s", lists[i].name);
        return FAIL(err, OCH_INVALID, "%s", lists[i].message);
    }
    return OCH_OK;
}

static void set_text(const struct json_value *column, uint32_t i, uint8_t *state, slice *text)
{
    if (!column || column->items[i].kind != JSON_STRING)
        return;
    *state = FIELD_VALUE;
    *text = column->items[i].string;
}

och_code exchange_clear(const struct json_value *names, const char *where,
                        struct batch_input_row *row, och_error *err)
{
    for (uint32_t i = 0; i < names->count; i++) {
        slice name = names->items[i].string;
        uint8_t *state = slice_equal(name, SLICE("document")) ? &row->document_state
                         : slice_equal(name, SLICE("uri"))    ? &row->uri_state
                                                              : &row->metadata_state;
        if (*state == FIELD_VALUE)
            return FAIL(err, OCH_INVALID, "%s: the same request sets %.*s of that record", where,
                        SLICE_ARG(name));
        *state = FIELD_CLEAR;
    }
    return OCH_OK;
}

static och_code set_clear(struct exchange *x, const struct json_value *clear,
                          struct batch_input_row *row, uint32_t i, och_error *err)
{
    if (!clear || clear->items[i].kind == JSON_NULL || clear->items[i].count == 0)
        return OCH_OK;
    const char *where = arena_printf(&x->arena, "clear[%" PRIu32 "]", i);
    och_code code = exchange_clear(&clear->items[i], where, row, err);
    if (code == OCH_INVALID)
        exchange_at(x, "%s", where ? where : "clear");
    return code;
}

och_code exchange_expiry(struct exchange *x, const struct json_value *expires_at,
                         const struct json_value *ttl_seconds, int64_t *expires_ms, och_error *err)
{
    if (expires_at && expires_at->kind == JSON_INT) {
        if (expires_at->integer < 0)
            return FAIL(err, OCH_INVALID,
                        "Validation error: expires_at: %" PRId64
                        " is before 1970; milliseconds since then, or 0 for never",
                        expires_at->integer);
        *expires_ms = expires_at->integer ? expires_at->integer : BATCH_NEVER;
    } else if (ttl_seconds) {
        if (ttl_seconds->integer < 1 || ttl_seconds->integer > GATEWAY_TTL_MAX)
            return FAIL(err, OCH_INVALID,
                        "Validation error: ttl_seconds: must be from 1 to %" PRId64,
                        GATEWAY_TTL_MAX);
        *expires_ms = gateway_expiry_after(x->gateway, ttl_seconds->integer);
    }
    return OCH_OK;
}

static och_code make_rows(struct exchange *x, struct write_request *w,
                          struct batch_input *ret_input, och_error *err)
{
    uint32_t count = w->body.ids->count;
    struct batch_input_row *rows =
        ARENA_ARRAY(&x->arena, struct batch_input_row, (size_t)count + 1);
    if (!rows)
        return FAIL_NO_MEMORY(err, "records");
    for (uint32_t i = 0; i < count; i++) {
        struct batch_input_row *row = &rows[i];
        row->op = (uint8_t)w->op;
        row->id = w->body.ids->items[i].string;
        if (w->vectors.matrix && (!w->vectors.present || w->vectors.present[i]))
            row->vector = w->vectors.matrix + (size_t)i * w->vectors.dimension;
        set_text(w->body.documents, i, &row->document_state, &row->document);
        set_text(w->body.uris, i, &row->uri_state, &row->uri);
        if (w->metadatas && w->metadatas[i].at && meta_count(w->metadatas[i]) > 0) { // {} is null
            row->metadata_state = FIELD_VALUE;
            row->metadata = w->metadatas[i];
        }
        TRY(set_clear(x, w->body.clear, row, i, err));
        och_code code =
            exchange_expiry(x, w->body.expires_at ? &w->body.expires_at->items[i] : NULL,
                            w->body.ttl_seconds, &row->expires_ms, err);
        if (code == OCH_INVALID && w->body.expires_at &&
            w->body.expires_at->items[i].kind == JSON_INT)
            exchange_at(x, "expires_at[%" PRIu32 "]", i);
        TRY(code);
    }
    *ret_input =
        (struct batch_input){.count = count, .dimension = w->vectors.dimension, .rows = rows};
    return OCH_OK;
}

och_code exchange_key(struct exchange *x, enum batch_op op, uuid collection,
                      struct gateway_once *ret_once, och_error *err)
{
    slice key = http_request_header(x->request, SLICE("idempotency-key"));
    if (!key.at || key.len == 0)
        return OCH_OK;
    struct buf text;
    buf_init(&text, BUF_MAX_NONE);
    buf_append(&text, collection.bytes, 16);
    buf_slice(&text, key);
    uint64_t low = slice_hash(buf_view(&text));
    buf_byte(&text, 1);
    uint64_t high = slice_hash(buf_view(&text));
    och_code code = buf_check(&text, "an idempotency key", err);
    buf_done(&text);
    TRY(code);
    store_u64(ret_once->batch_id.bytes, low);
    store_u64(ret_once->batch_id.bytes + 8, high);
    ret_once->batch_id.bytes[0] |= 1; /* zero means none */
    /* The same body sent to another operation is another request. */
    ret_once->request_hash = slice_hash(x->request->body) + (uint64_t)op;
    return OCH_OK;
}

void exchange_counts(struct buf *out, const struct gateway_counts *counts)
{
    buf_printf(out,
               "{\"inserted\":%" PRIu64 ",\"updated\":%" PRIu64 ",\"skipped\":%" PRIu64
               ",\"deleted\":%" PRIu64 "}",
               counts->inserted, counts->updated, counts->skipped, counts->deleted);
}

/* All vectors of a call have one dimension; the first stands for them. */
static void blame_first(struct exchange *x, const struct write_request *w,
                        const struct sysdb_collection *collection, och_error *err)
{
    uint32_t i = 0;
    while (w->vectors.present && i + 1 < w->vectors.count && !w->vectors.present[i])
        i++;
    exchange_at(x, "embeddings[%" PRIu32 "]", i);
    slice id = i < w->body.ids->count ? w->body.ids->items[i].string : SLICE_NONE;
    error_append(err, ": record %" PRIu32, i);
    if (id.len)
        error_append(err, " (\"%.*s\")", (int)min_size(id.len, 40), (const char *)id.at);
    error_hint(err, "Collection \"%.*s\" was filled by another model.",
               (int)min_size(collection->name.len, 40), (const char *)collection->name.at);
}

och_code write_read_rows(struct exchange *x, struct write_request *w,
                         const struct sysdb_collection *collection, struct batch_input *ret_input,
                         och_error *err)
{
    if (w->body.embeddings)
        TRY(wire_vectors(x, w->body.embeddings, false, &w->vectors, err));
    if (w->later != OCH_OK)
        exchange_at(x, "metadatas[%" PRIu32 "]", w->later_row);
    if (w->later != OCH_OK)
        return FAIL(err, w->later, "%s", w->later_error.message);
    och_code code = gateway_check_dimension(x->gateway, collection, w->vectors.dimension, err);
    if (code == OCH_INVALID)
        blame_first(x, w, collection, err);
    TRY(code);
    TRY(check_lengths(x, &w->body, err));
    return make_rows(x, w, ret_input, err);
}

const struct wire_body *write_shape(enum batch_op op)
{
    static const struct wire_body shapes[] = {
        [BATCH_ADD] = {"AddCollectionRecordsPayload", add_members, COUNT_OF(add_members), false},
        [BATCH_UPSERT] = {"UpsertCollectionRecordsPayload", upsert_members,
                          COUNT_OF(upsert_members), false},
        [BATCH_UPDATE] = {"UpdateCollectionRecordsPayload", update_members,
                          COUNT_OF(update_members), false},
    };
    assert(op == BATCH_ADD || op == BATCH_UPSERT || op == BATCH_UPDATE);
    return &shapes[op];
}

/* After wire_read of w->body. */
static och_code write_records(struct exchange *x, struct write_request *w, int status,
                              och_error *err)
{
    TRY(write_check_shape(x, w, err));
    const struct sysdb_collection *collection CLEANUP(sysdb_collection_cleanup) = NULL;
    TRY(exchange_collection(x, &collection, err));
    struct gateway_write write = {.collection = collection->id,
                                  .want_counts = w->body.counts && w->body.counts->boolean};
    TRY(write_read_rows(x, w, collection, &write.input, err));
    TRY(exchange_key(x, w->op, write.collection, &write.once, err));
    struct gateway_counts counts;
    och_code code = gateway_write(x->gateway, &x->scope, &write, &counts, err);
    if (code == OCH_CONFLICT)
        x->error_status = 422; /* another request under the same Idempotency-Key (D17) */
    for (uint32_t i = 0; code == OCH_INVALID && i < write.input.count; i++) {
        if (write.input.rows[i].id.len == 0)
            exchange_at(x, "ids[%" PRIu32 "]", i);
    }
    TRY(code);
    x->reply->status = status;
    if (write.want_counts)
        exchange_counts(&x->reply->body, &counts);
    else
        buf_text(&x->reply->body, "{}");
    return OCH_OK;
}

static och_code handle_write(struct exchange *x, enum batch_op op, int status, och_error *err)
{
    struct write_request w = {.op = op};
    x->ask_less = "send fewer records per call";
    TRY(wire_read(x, write_shape(op), &w.body, err));
    return write_records(x, &w, status, err);
}

och_code handle_add(struct exchange *x, och_error *err)
{
    if (import_is_wanted(x))
        return import_lines(x, BATCH_ADD, 201, err);
    return handle_write(x, BATCH_ADD, 201, err);
}

och_code handle_upsert(struct exchange *x, och_error *err)
{
    if (import_is_wanted(x))
        return import_lines(x, BATCH_UPSERT, 200, err);
    return handle_write(x, BATCH_UPSERT, 200, err);
}

och_code handle_update(struct exchange *x, och_error *err)
{
    if (import_is_wanted(x))
        return import_lines(x, BATCH_UPDATE, 200, err);
    struct write_request w = {.op = BATCH_UPDATE};
    TRY(wire_read(x, write_shape(BATCH_UPDATE), &w.body, err));
    const struct json_value *set = json_get(&x->body, SLICE("set"));
    if (set && set->kind != JSON_NULL)
        return update_chosen(x, err);
    return write_records(x, &w, 200, err);
}
