/* SPDX-License-Identifier: Apache-2.0 */
/* ochre.h: add, upsert, update, delete.  Columns become the rows of one batch, which point at the caller's memory. */
#include "mode/library_internal.h"

#include "model/limits.h"

#include <inttypes.h>

/* ---- columns ---- */

static och_code check_shape(const struct library_rows *w, och_error *err)
{
    const och_records *r = &w->records;
    size_t floats, bytes;
    if (r->count > UINT32_MAX)
        return FAIL(err, OCH_TOO_LARGE, "%zu records in one call; send fewer", r->count);
    if (r->count && !r->ids)
        return FAIL(err, OCH_INVALID, "och_records.ids is NULL");
    if (!r->vectors)
        return w->op == BATCH_UPDATE || r->count == 0
                   ? OCH_OK
                   : FAIL(err, OCH_INVALID, "och_records.vectors is NULL");
    if (r->dimension == 0)
        return FAIL(err, OCH_INVALID,
                    "Validation error: embeddings: Each embedding must have at least 1 dimension");
    if (r->dimension > LIMIT_DIMENSION_MAX)
        return FAIL(err, OCH_QUOTA, "Quota exceeded: embeddings of dimension %zu, at most %d",
                    r->dimension, LIMIT_DIMENSION_MAX);
    if (r->vector_stride < r->dimension)
        return FAIL(err, OCH_INVALID, "och_records.vector_stride is %zu, below the dimension %zu",
                    r->vector_stride, r->dimension);
    if (mul_overflows(r->vector_stride, r->count, &floats) ||
        mul_overflows(floats, sizeof(float), &bytes))
        return FAIL(err, OCH_TOO_LARGE, "embeddings are too large");
    return OCH_OK;
}

static och_code set_text(const och_bytes *column, size_t i, const char *name, uint8_t *state,
                         slice *text, och_error *err)
{
    if (!column || (!column[i].at && !column[i].len))
        return OCH_OK;
    och_code code = library_check_text(column[i], name, err);
    if (code != OCH_OK) {
        error_context(err, "record %zu", i);
        return code;
    }
    *state = FIELD_VALUE;
    *text = library_slice(column[i]);
    return OCH_OK;
}

static och_code set_rows(struct library_rows *w, och_error *err)
{
    const och_records *r = &w->records;
    w->rows = ARENA_ARRAY(&w->arena, struct batch_input_row, r->count + 1);
    if (!w->rows)
        return FAIL_NO_MEMORY(err, "records");
    for (size_t i = 0; i < r->count; i++) {
        struct batch_input_row *row = &w->rows[i];
        uint8_t unused;
        row->op = (uint8_t)w->op;
        TRY(set_text(r->ids, i, "id", &unused, &row->id, err));
        TRY(set_text(r->documents, i, "document", &row->document_state, &row->document, err));
        TRY(set_text(r->uris, i, "uri", &row->uri_state, &row->uri, err));
        if (r->vectors)
            row->vector = r->vectors + i * r->vector_stride;
    }
    return OCH_OK;
}

och_code library_clear(uint32_t fields, struct batch_input_row *row, och_error *err)
{
    const struct {
        uint32_t field;
        uint8_t *state;
        const char *name;
    } columns[] = {{OCH_DOCUMENT, &row->document_state, "document"},
                   {OCH_URI, &row->uri_state, "uri"},
                   {OCH_METADATA, &row->metadata_state, "metadata"}};
    if (fields & ~(uint32_t)(OCH_DOCUMENT | OCH_URI | OCH_METADATA))
        return FAIL(err, OCH_INVALID, "clear has unknown bits: 0x%" PRIx32, fields);
    for (size_t i = 0; i < COUNT_OF(columns); i++) {
        if (!(fields & columns[i].field))
            continue;
        if (*columns[i].state == FIELD_VALUE)
            return FAIL(err, OCH_INVALID, "clear: the same call sets %s of that record",
                        columns[i].name);
        *columns[i].state = FIELD_CLEAR;
    }
    return OCH_OK;
}

static och_code set_extras(struct library_rows *w, och_error *err)
{
    const och_records *r = &w->records;
    for (size_t i = 0; i < r->count; i++) {
        if (r->expires_ms && r->expires_ms[i] < 0)
            return FAIL(err, OCH_INVALID, "record %zu: expires_ms is before 1970", i);
        if (r->expires_ms)
            w->rows[i].expires_ms = r->expires_ms[i];
        if (!r->clear || !r->clear[i])
            continue;
        if (w->op == BATCH_ADD)
            return FAIL(err, OCH_INVALID, "och_records.clear is for upsert and update");
        TRY(library_clear(r->clear[i], &w->rows[i], err));
    }
    return OCH_OK;
}

/* ---- metadata ---- */

/* Lengths go into the rows; their places follow when the buffer has stopped moving. */
static och_code encode_one(struct library_rows *w, size_t i, struct arena *scratch, och_error *err)
{
    const struct json_value *value;
    size_t start = w->metadata.len;
    TRY(library_read_json(w->records.metadatas_json[i], "not JSON", scratch, &value, err));
    if (!value)
        return OCH_OK;
    if (value->kind != JSON_OBJECT)
        return FAIL(err, OCH_SHAPE, "expected an object, got %s", json_describe(value, scratch));
    TRY(meta_from_json(value, w->op == BATCH_ADD ? 0 : META_ALLOW_DELETE, &w->metadata, err));
    w->rows[i].metadata_state = FIELD_VALUE;
    w->rows[i].metadata.len = w->metadata.len - start;
    return OCH_OK;
}

static och_code encode_metadatas(struct library_rows *w, och_error *err)
{
    struct arena scratch;
    arena_init(&scratch, database_budget(w->collection->database->database), 0);
    och_code code = OCH_OK;
    size_t i = 0;
    for (; i < w->records.count && code == OCH_OK; i++) {
        code = encode_one(w, i, &scratch, err);
        if (scratch.used_bytes > 1u << 20)
            arena_done(&scratch);
    }
    arena_done(&scratch);
    if (code != OCH_OK) {
        error_context(err, "Validation error: metadatas: Invalid metadata at index %zu", i - 1);
        return code;
    }
    TRY(buf_check(&w->metadata, "metadata", err));
    const uint8_t *at = w->metadata.at;
    for (i = 0; i < w->records.count; i++) {
        if (w->rows[i].metadata_state != FIELD_VALUE)
            continue;
        w->rows[i].metadata.at = at;
        at += w->rows[i].metadata.len;
    }
    return OCH_OK;
}

/* ---- the calls ---- */

void library_rows_init(struct library_rows *w, och_collection *collection, enum batch_op op)
{
    *w = (struct library_rows){
        .collection = collection, .op = op, .records = (och_records)OCH_RECORDS};
    arena_init(&w->arena, database_budget(collection->database->database), 0);
    buf_init(&w->metadata, LIMIT_PAYLOAD_BYTES);
}

void library_rows_done(struct library_rows *w)
{
    buf_done(&w->metadata);
    arena_done(&w->arena);
}

och_code library_rows_read(struct library_rows *w, const och_records *records,
                           struct batch_input *ret_input, och_error *err)
{
    och_records *r = &w->records;
    // 1.0 ended before `clear`
    TRY(library_read_struct(records, offsetof(och_records, clear), r, sizeof(*r), "och_records",
                            err));
    if (r->vector_stride == 0)
        r->vector_stride = r->dimension;
    TRY(check_shape(w, err));
    TRY(set_rows(w, err));
    if (r->metadatas_json)
        TRY(encode_metadatas(w, err));
    TRY(set_extras(w, err));
    if (r->vectors)
        TRY(library_check_finite(r->vectors, r->count, r->dimension, r->vector_stride, err));
    *ret_input =
        (struct batch_input){.count = (uint32_t)r->count,
                             .dimension = r->vectors && r->count ? (uint32_t)r->dimension : 0,
                             .rows = w->rows};
    return OCH_OK;
}

void library_give_counts(och_counts *ret_counts, const struct gateway_counts *counts)
{
    och_counts ours = {sizeof(ours), counts->inserted, counts->updated, counts->skipped,
                       counts->deleted};
    if (ret_counts)
        library_write_struct(ret_counts, &ours, sizeof(ours));
}

static och_code write_records(och_collection *collection, const char *call, enum batch_op op,
                              const och_records *records, och_counts *ret_counts, och_error *err)
{
    struct library_rows w;
    struct gateway_counts counts = {0};
    TRY(library_enter_present(collection, call, err));
    library_rows_init(&w, collection, op);
    struct gateway_scope scope = library_scope(collection, 0, NULL);
    struct gateway_write write = {.collection = collection->id, .want_counts = ret_counts != NULL};
    och_code code = OCH_OK;
    if (ret_counts)
        code = library_check_struct(ret_counts, sizeof(*ret_counts), "och_counts", err);
    if (code == OCH_OK)
        code = library_rows_read(&w, records, &write.input, err);
    if (code == OCH_OK)
        code = gateway_write(database_gateway(collection->database->database), &scope, &write,
                             &counts, err);
    library_rows_done(&w);
    library_leave(collection->database);
    if (code == OCH_OK)
        library_give_counts(ret_counts, &counts);
    return code;
}

och_code och_collection_add(och_collection *collection, const och_records *records,
                            och_counts *ret_counts, och_error *err)
{
    return write_records(collection, __func__, BATCH_ADD, records, ret_counts, err);
}

och_code och_collection_upsert(och_collection *collection, const och_records *records,
                               och_counts *ret_counts, och_error *err)
{
    return write_records(collection, __func__, BATCH_UPSERT, records, ret_counts, err);
}

och_code och_collection_update(och_collection *collection, const och_records *records,
                               och_counts *ret_counts, och_error *err)
{
    return write_records(collection, __func__, BATCH_UPDATE, records, ret_counts, err);
}

static och_code delete_selected(och_collection *collection, const och_select *given, bool dry_run,
                                struct arena *arena, uint64_t *ret_deleted, och_error *err)
{
    och_select which;
    struct plan plan;
    TRY(library_read_select(collection, given, arena, &which, &plan, err));
    if (which.limit != OCH_NO_LIMIT && !plan.filter)
        return FAIL(err, OCH_INVALID,
                    "Validation error: limit, where: limit can only be specified when a where "
                    "clause is provided");
    if (plan.has_ids && plan.id_count == 0 && !plan.filter)
        return FAIL(err, OCH_INVALID,
                    "Validation error: ids, where: Either ids or where must be specified");
    if (which.offset)
        return FAIL(err, OCH_INVALID, "och_select.offset is for och_collection_get only");
    plan.kind = PLAN_GET;
    struct gateway_scope scope = library_scope(collection, which.deadline_ms, which.cancel);
    return gateway_delete(database_gateway(collection->database->database), &scope, &plan, NULL,
                          dry_run, ret_deleted, err);
}

och_code och_collection_delete(och_collection *collection, const och_select *which,
                               och_counts *ret_counts, och_error *err)
{
    TRY(library_enter_present(collection, __func__, err));
    struct arena arena;
    arena_init(&arena, database_budget(collection->database->database), 0);
    struct gateway_counts counts = {0};
    och_code code = OCH_OK;
    if (ret_counts)
        code = library_check_struct(ret_counts, sizeof(*ret_counts), "och_counts", err);
    if (code == OCH_OK)
        code = delete_selected(collection, which, false, &arena, &counts.deleted, err);
    arena_done(&arena);
    library_leave(collection->database);
    if (code == OCH_OK)
        library_give_counts(ret_counts, &counts);
    return code;
}

och_code och_collection_delete_count(och_collection *collection, const och_select *which,
                                     uint64_t *ret_count, och_error *err)
{
    if (!ret_count)
        return FAIL(err, OCH_INVALID, "ret_count is NULL");
    TRY(library_enter_present(collection, __func__, err));
    struct arena arena;
    uint64_t count = 0;
    arena_init(&arena, database_budget(collection->database->database), 0);
    och_code code = delete_selected(collection, which, true, &arena, &count, err);
    arena_done(&arena);
    library_leave(collection->database);
    if (code == OCH_OK)
        *ret_count = count;
    return code;
}
