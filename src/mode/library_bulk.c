/* SPDX-License-Identifier: Apache-2.0 */
/* ochre.h: facets, lines of JSON out and in, warming up. */
#include "mode/library_internal.h"

#include "model/limits.h"

#define BATCH_LINES  1000u
#define LINE_PADDING 64 /* readable bytes behind a piece of lines */

/* ---- facets ---- */

static och_code read_facets(const och_facets *given, struct arena *arena, struct plan *plan,
                            och_error *err)
{
    och_facets known = OCH_FACETS;
    TRY(library_read_struct(given, sizeof(known), &known, sizeof(known), "och_facets", err));
    if (!known.keys || !known.key_count || known.key_count > LIMIT_FACETS)
        return FAIL(err, OCH_INVALID, "och_facets: 1 to %d keys are asked for", LIMIT_FACETS);
    struct plan_facet *facets = ARENA_ARRAY(arena, struct plan_facet, known.key_count);
    if (!facets)
        return FAIL_NO_MEMORY(err, "facets");
    for (size_t i = 0; i < known.key_count; i++) {
        TRY(library_check_text(known.keys[i], "och_facets.keys", err));
        slice key = library_slice(known.keys[i]);
        if (key.len == 0 || filter_key_is_reserved(key))
            return FAIL(err, OCH_INVALID, "och_facets.keys[%zu] is no key of metadata", i);
        for (size_t j = 0; j < i; j++) {
            if (slice_equal(key, facets[j].key))
                return FAIL(err, OCH_INVALID, "och_facets.keys[%zu] is there twice", i);
        }
        facets[i] =
            (struct plan_facet){.key = key, .limit = known.limit, .by_value = known.by_value};
    }
    plan->facets = facets;
    plan->facet_count = (uint32_t)known.key_count;
    return OCH_OK;
}

static och_code find_facets(och_collection *collection, const och_facets *facets,
                            const och_select *among, och_result *result, och_error *err)
{
    och_select select;
    struct plan plan;
    assert(collection); // library_result_begin refuses none
    TRY(library_read_select(collection, among, &result->arena, &select, &plan, err));
    if (select.offset || select.limit != OCH_NO_LIMIT || select.order_by.at || select.cursor.at)
        return FAIL(err, OCH_INVALID,
                    "och_select: offset, limit, order_by and cursor are not for facets");
    plan.kind = PLAN_FACETS;
    plan.fields = 0;
    TRY(read_facets(facets, &result->arena, &plan, err));
    struct gateway_scope scope = library_scope(collection, select.deadline_ms, select.cancel);
    TRY(gateway_read(database_gateway(collection->database->database), &scope, &plan,
                     &result->arena, &result->rows, err));
    result->facet_count = plan.facet_count;
    return OCH_OK;
}

och_code och_collection_facets(och_collection *collection, const och_facets *facets,
                               const och_select *among, och_result **ret_result, och_error *err)
{
    och_result *result;
    TRY(library_result_begin(collection ? collection->database : NULL, ret_result, &result, err));
    och_code code = find_facets(collection, facets, among, result, err);
    return library_result_end(collection->database, result, code, ret_result);
}

/* The value as JSON behind what is in `out`. */
static void write_value(const struct plan_key *value, struct buf *out)
{
    const struct meta_entry entry = {.type = value->type, .value = value->value};
    if (value->type)
        meta_value_to_json(&entry, out);
}

och_code library_next_facet(och_result *result, och_row *ours, bool *ret_more, och_error *err)
{
    while (result->hits_at < result->facet_count &&
           result->row_at >= result->rows.facets[result->hits_at].value_count) {
        result->hits_at++;
        result->row_at = 0;
    }
    *ret_more = result->hits_at < result->facet_count;
    if (!*ret_more)
        return OCH_OK;
    const struct query_facet_value *value =
        &result->rows.facets[result->hits_at].values[result->row_at];
    buf_clear(&result->metadata);
    write_value(&value->value, &result->metadata);
    TRY(buf_check(&result->metadata, "a value", err));
    ours->query_index = (uint32_t)result->hits_at;
    ours->seq = value->count;
    ours->metadata_json = library_bytes(buf_view(&result->metadata));
    return OCH_OK;
}

och_code och_result_facet(och_result *result, size_t key, och_facet *ret_facet, och_error *err)
{
    och_facet ours = OCH_FACET;
    if (!result || key >= result->facet_count)
        return FAIL(err, OCH_INVALID, "this result has no facet number %zu", key);
    TRY(library_check_struct(ret_facet, sizeof(ours), "och_facet", err));
    const struct query_facet *facet = &result->rows.facets[key];
    struct buf *text = &result->metadata;
    buf_clear(text);
    write_value(&facet->least, text);
    size_t cut = text->len;
    write_value(&facet->most, text);
    TRY(buf_check(text, "a value", err));
    ours.records = facet->records;
    ours.distinct = facet->distinct;
    ours.value_count = facet->value_count;
    if (cut) {
        ours.least_json = (och_bytes){text->at, cut};
        ours.most_json = (och_bytes){text->at + cut, text->len - cut};
    }
    library_write_struct(ret_facet, &ours, sizeof(ours));
    return OCH_OK;
}

/* ---- export ---- */

static och_code write_pages(struct gateway_export *export, och_write_call write, void *user,
                            och_error *err)
{
    struct buf page CLEANUP(buf_cleanup);
    buf_init(&page, BUF_MAX_NONE);
    for (bool more = true; more;) {
        buf_clear(&page);
        TRY(gateway_export_next(export, &page, &more, err));
        if (page.len > 0 && !write(user, library_bytes(buf_view(&page))))
            return FAIL(err, OCH_CANCELLED, "the export was given up by its caller");
    }
    return OCH_OK;
}

static och_code export_chosen(och_collection *collection, const och_select *which,
                              struct arena *arena, och_write_call write, void *user, och_error *err)
{
    och_select select;
    struct plan plan;
    TRY(library_read_select(collection, which, arena, &select, &plan, err));
    if (select.offset || select.limit != OCH_NO_LIMIT || select.order_by.at || select.cursor.at ||
        (select.include & OCH_EXPLAIN))
        return FAIL(err, OCH_INVALID,
                    "och_select: offset, limit, order_by, cursor and OCH_EXPLAIN are not for "
                    "exports");
    plan.kind = PLAN_GET;
    plan.fields = which ? plan.fields | RECORD_EXPIRY : GATEWAY_EXPORT_FIELDS;
    struct gateway_scope scope = library_scope(collection, 0, select.cancel);
    struct gateway_export *export = NULL;
    TRY(gateway_export_new(database_gateway(collection->database->database), &scope, &plan, &export,
                           err));
    och_code code = write_pages(export, write, user, err);
    gateway_export_free(export);
    return code;
}

och_code och_collection_export(och_collection *collection, const och_select *which,
                               och_write_call write, void *user, och_error *err)
{
    if (!write)
        return FAIL(err, OCH_INVALID, "write is NULL");
    TRY(library_enter(collection ? collection->database : NULL, err));
    struct arena arena;
    arena_init(&arena, database_budget(collection->database->database), 0);
    och_code code = export_chosen(collection, which, &arena, write, user, err);
    arena_done(&arena);
    library_leave(collection->database);
    return code;
}

/* ---- import ---- */

/* The next piece into `room`, from memory or from the caller. */
static och_code next_piece(och_import *from, uint8_t *room, size_t *ret_len, och_error *err)
{
    *ret_len = 0;
    if (from->text.at) {
        *ret_len = min_size(from->text.len, HTTP_PIECE_BYTES);
        memcpy(room, from->text.at, *ret_len);
        from->text = library_bytes(slice_from(library_slice(from->text), *ret_len));
        return OCH_OK;
    }
    if (!from->read(from->user, room, HTTP_PIECE_BYTES, ret_len))
        return FAIL(err, OCH_CANCELLED, "the import was given up by its caller");
    if (*ret_len > HTTP_PIECE_BYTES)
        return FAIL(err, OCH_INVALID, "och_import.read says %zu bytes, there is room for %zu",
                    *ret_len, HTTP_PIECE_BYTES);
    return OCH_OK;
}

static och_code feed_all(struct gateway_import *import, och_import *from, uint8_t *room,
                         struct gateway_counts *ret_counts, och_error *err)
{
    struct limits_of_work limits = {.cancel = from->cancel ? &from->cancel->cancel : NULL};
    for (;;) {
        size_t len;
        och_error broken = {0};
        och_code code = next_piece(from, room, &len, &broken);
        if (code != OCH_OK || len == 0)
            return gateway_import_end(import, &limits, code != OCH_OK ? &broken : NULL, ret_counts,
                                      err);
        memset(room + len, 0, LINE_PADDING);
        TRY(gateway_import_feed(import, slice_make(room, len), &limits, err));
    }
}

static och_code read_import(const och_import *given, och_import *ret_import, enum batch_op *ret_op,
                            och_error *err)
{
    static const enum batch_op operations[] = {
        [OCH_ADD] = BATCH_ADD, [OCH_UPSERT] = BATCH_UPSERT, [OCH_UPDATE] = BATCH_UPDATE};
    *ret_import = (och_import)OCH_IMPORT;
    TRY(library_read_struct(given, sizeof(*ret_import), ret_import, sizeof(*ret_import),
                            "och_import", err));
    if (ret_import->operation >= COUNT_OF(operations))
        return FAIL(err, OCH_INVALID,
                    "och_import.operation is none of OCH_ADD, OCH_UPSERT, "
                    "OCH_UPDATE");
    if (!ret_import->text.at && (ret_import->text.len || !ret_import->read))
        return FAIL(err, OCH_INVALID, "och_import has neither text nor read");
    *ret_op = operations[ret_import->operation];
    return OCH_OK;
}

static och_code import_lines(och_collection *collection, const och_import *given,
                             struct gateway_counts *ret_counts, och_error *err)
{
    och_import from;
    enum batch_op op = BATCH_ADD;
    struct gateway_import *import = NULL;
    TRY(read_import(given, &from, &op, err));
    struct gateway_scope scope = library_scope(collection, 0, from.cancel);
    struct gateway_import_options options = {
        .collection = collection->id,
        .op = op,
        .batch_lines = from.batch_lines ? from.batch_lines : BATCH_LINES,
        .line_bytes_max = (size_t)collection->database->settings.max_payload_size_bytes};
    uint8_t *room = mem_alloc(HTTP_PIECE_BYTES + LINE_PADDING);
    if (!room)
        return FAIL_NO_MEMORY(err, "an import");
    och_code code = gateway_import_new(database_gateway(collection->database->database), &scope,
                                       &options, &import, err);
    if (code == OCH_OK)
        code = feed_all(import, &from, room, ret_counts, err);
    gateway_import_free(import);
    mem_free(room);
    return code;
}

och_code och_collection_import(och_collection *collection, const och_import *from,
                               och_counts *ret_counts, och_error *err)
{
    TRY(library_enter_present(collection, __func__, err));
    struct gateway_counts counts = {0};
    och_code code = OCH_OK;
    if (ret_counts)
        code = library_check_struct(ret_counts, sizeof(*ret_counts), "och_counts", err);
    if (code == OCH_OK)
        code = import_lines(collection, from, &counts, err);
    library_leave(collection->database);
    if (code == OCH_OK)
        library_give_counts(ret_counts, &counts);
    return code;
}

/* ---- warming up ---- */

static och_code warm(och_collection *collection, uint32_t level, uint32_t deadline_ms,
                     och_cancel *cancel, och_warmed *ret_warmed, och_error *err)
{
    static const enum part_warmth levels[] = {[OCH_WARM_HOT] = PART_WARM_HOT,
                                              [OCH_WARM_INDEXES] = PART_WARM_INDEXES,
                                              [OCH_WARM_VECTORS] = PART_WARM_VECTORS};
    if (level >= COUNT_OF(levels))
        return FAIL(err, OCH_INVALID,
                    "level is none of OCH_WARM_HOT, OCH_WARM_INDEXES, "
                    "OCH_WARM_VECTORS");
    if (ret_warmed)
        TRY(library_check_struct(ret_warmed, sizeof(*ret_warmed), "och_warmed", err));
    struct gateway_scope scope = library_scope(collection, deadline_ms, cancel);
    struct gateway_warmed warmed;
    TRY(gateway_warm(database_gateway(collection->database->database), &scope, collection->id,
                     levels[level], &warmed, err));
    och_warmed ours = {sizeof(ours), warmed.parts, warmed.bytes, warmed.wanted_bytes};
    if (ret_warmed)
        library_write_struct(ret_warmed, &ours, sizeof(ours));
    return OCH_OK;
}

och_code och_collection_warm(och_collection *collection, uint32_t level, uint32_t deadline_ms,
                             och_cancel *cancel, och_warmed *ret_warmed, och_error *err)
{
    TRY(library_enter_present(collection, __func__, err));
    och_code code = warm(collection, level, deadline_ms, cancel, ret_warmed, err);
    library_leave(collection->database);
    return code;
}
