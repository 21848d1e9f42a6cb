/* SPDX-License-Identifier: Apache-2.0 */
/* ochre.h: filters, get, query, nearest, count, and walking over results. */
#include "mode/library_internal.h"

#include "model/limits.h"

#include <inttypes.h>
#include <math.h>

#define INCLUDE_ALL (OCH_DOCUMENT | OCH_URI | OCH_METADATA | OCH_VECTOR | OCH_EXPLAIN | OCH_EXPIRY)

/* ---- filters ---- */

static och_code parse_filter(och_filter *filter, och_bytes where, och_bytes where_document,
                             och_error *err)
{
    const struct json_value *metadata, *document;
    struct filter_node *a, *b;
    TRY(library_read_json(where, "Invalid where clause", &filter->arena, &metadata, err));
    TRY(library_read_json(where_document, "Invalid where document clause", &filter->arena,
                          &document, err));
    TRY(filter_parse_where(metadata, &filter->arena, &a, err));
    TRY(filter_parse_document(document, &filter->arena, &b, err));
    TRY(filter_join(a, b, &filter->arena, &filter->node, err));
    /* Patterns are tried out now, so that a bad one is refused here. */
    struct filter *compiled = NULL;
    TRY(filter_compile(filter->node, &compiled, err));
    filter_free(compiled);
    return OCH_OK;
}

och_code och_filter_parse(och_bytes where_json, och_bytes where_document_json,
                          och_filter **ret_filter, och_error *err)
{
    if (!ret_filter)
        return FAIL(err, OCH_INVALID, "ret_filter is NULL");
    och_filter *filter = MEM_NEW(och_filter);
    if (!filter)
        return FAIL_NO_MEMORY(err, "a filter");
    arena_init(&filter->arena, NULL, 0);
    och_code code = parse_filter(filter, where_json, where_document_json, err);
    if (code == OCH_OK)
        *ret_filter = filter;
    else
        och_filter_free(filter);
    return code;
}

void och_filter_free(och_filter *filter)
{
    if (!filter)
        return;
    arena_done(&filter->arena);
    mem_free(filter);
}

/* ---- selecting ---- */

static unsigned fields_of(uint32_t include)
{
    return (include & OCH_DOCUMENT ? RECORD_DOCUMENT : 0u) | (include & OCH_URI ? RECORD_URI : 0u) |
           (include & OCH_METADATA ? RECORD_METADATA : 0u) |
           (include & OCH_VECTOR ? RECORD_VECTOR : 0u) |
           (include & OCH_EXPIRY ? RECORD_EXPIRY : 0u);
}

och_code library_read_select(const och_collection *collection, const och_select *given,
                             struct arena *arena, och_select *ret_select, struct plan *ret_plan,
                             och_error *err)
{
    *ret_select = (och_select)OCH_SELECT;
    if (given)
        // 1.0 ended before `order_by`
        TRY(library_read_struct(given, offsetof(och_select, order_by), ret_select,
                                sizeof(*ret_select), "och_select", err));
    const och_select *s = ret_select;
    if (s->include & ~(uint32_t)INCLUDE_ALL)
        return FAIL(err, OCH_INVALID, "och_select.include has unknown bits: 0x%" PRIx32,
                    s->include);
    if (!s->ids && s->id_count)
        return FAIL(err, OCH_INVALID, "och_select.ids is NULL, but id_count is %zu", s->id_count);
    *ret_plan = (struct plan){.collection = collection->id,
                              .level = READ_INDEX_AND_WAL,
                              .fields = fields_of(s->include),
                              .filter = s->filter ? s->filter->node : NULL,
                              .offset = s->offset,
                              .limit = s->limit,
                              .explain = s->include & OCH_EXPLAIN};
    if (!s->ids)
        return OCH_OK;
    size_t room;
    slice *ids = add_overflows(s->id_count, 1, &room) ? NULL : ARENA_ARRAY(arena, slice, room);
    if (!ids)
        return FAIL_NO_MEMORY(err, "ids");
    for (size_t i = 0; i < s->id_count; i++) {
        och_code code = library_check_text(s->ids[i], "id", err);
        if (code != OCH_OK) {
            error_context(err, "ids[%zu]", i);
            return code;
        }
        ids[i] = library_slice(s->ids[i]);
    }
    ret_plan->has_ids = true;
    ret_plan->ids = ids;
    ret_plan->id_count = s->id_count;
    return OCH_OK;
}

static och_code set_vectors(struct plan *plan, const float *vectors, size_t count, size_t dimension,
                            size_t k, och_error *err)
{
    size_t floats, bytes;
    if (count && !vectors)
        return FAIL(err, OCH_INVALID, "vectors is NULL");
    if (count && dimension == 0)
        return FAIL(err, OCH_INVALID,
                    "Validation error: embeddings: Each embedding must have at least 1 dimension");
    if (count > UINT32_MAX || dimension > UINT32_MAX || k > UINT32_MAX ||
        mul_overflows(count, dimension, &floats) || mul_overflows(floats, sizeof(float), &bytes))
        return FAIL(err, OCH_TOO_LARGE,
                    "a query of %zu vectors of dimension %zu for %zu neighbours: no number may be "
                    "above %" PRIu32,
                    count, dimension, k, UINT32_MAX);
    TRY(library_check_finite(vectors, count, dimension, dimension, err));
    plan->kind = PLAN_QUERY;
    plan->vectors = vectors;
    plan->vector_count = (uint32_t)count;
    plan->dimension = (uint32_t)dimension;
    plan->k = (uint32_t)k;
    return OCH_OK;
}

/* ---- the calls ---- */

och_code library_result_new(och_database *database, och_result **ret_result, och_error *err)
{
    och_result *result = MEM_NEW(och_result);
    if (!result)
        return FAIL_NO_MEMORY(err, "a result");
    result->database = library_ref(database);
    arena_init(&result->arena, database_budget(database->database), 0);
    buf_init(&result->metadata, BUF_MAX_NONE);
    buf_init(&result->json, BUF_MAX_NONE);
    buf_init(&result->cursor, BUF_MAX_NONE);
    *ret_result = result;
    return OCH_OK;
}

och_code library_result_begin(och_database *database, och_result *const *wanted,
                              och_result **ret_result, och_error *err)
{
    if (!wanted)
        return FAIL(err, OCH_INVALID, "ret_result is NULL");
    TRY(library_enter(database, err));
    assert(database);
    och_code code = library_result_new(database, ret_result, err);
    if (code != OCH_OK)
        library_leave(database);
    return code;
}

och_code library_result_end(och_database *database, och_result *result, och_code code,
                            och_result **ret_result)
{
    if (code == OCH_OK)
        *ret_result = result;
    else
        och_result_free(result);
    library_leave(database);
    return code;
}

static och_code read_order(const och_select *select, struct arena *arena, struct plan *plan,
                           och_error *err)
{
    slice name = library_slice(select->order_by), cursor = library_slice(select->cursor);
    plan->order.descending = select->descending;
    if (name.at && !slice_equal(name, SLICE("#insertion"))) {
        bool by_id = slice_equal(name, SLICE("#id"));
        if (!by_id && filter_key_is_reserved(name))
            return FAIL(err, OCH_INVALID,
                        "och_select.order_by is not #insertion, #id or a key of metadata");
        plan->order.by = by_id ? PLAN_BY_ID : PLAN_BY_KEY;
        plan->order.key = by_id ? SLICE_NONE : name;
    }
    if (!cursor.at || !cursor.len)
        return OCH_OK;
    if (plan->offset)
        return FAIL(err, OCH_INVALID, "och_select.cursor says where a page begins, without offset");
    return plan_cursor_read(cursor, arena, plan, err);
}

static och_code read_bounds(const och_select *select, struct plan *plan, och_error *err)
{
    if (select->max_distance) {
        plan->has_max = true;
        plan->max_distance = *select->max_distance;
        if (isnan(plan->max_distance))
            return FAIL(err, OCH_INVALID, "max_distance must be a number that a distance can be");
    }
    if (select->recall != 0)
        TRY(plan_aim(plan, (double)select->recall, err));
    if (!select->mmr_candidates)
        return OCH_OK;
    if (select->mmr_candidates > LIMIT_MMR_CANDIDATES || plan->k > LIMIT_MMR_CANDIDATES ||
        !(select->mmr_lambda >= 0 && select->mmr_lambda <= 1))
        return FAIL(err, OCH_INVALID,
                    "och_select.mmr_candidates and k are at most %d, mmr_lambda is from 0 to 1",
                    LIMIT_MMR_CANDIDATES);
    plan->mmr_candidates = select->mmr_candidates > plan->k ? select->mmr_candidates
                           : plan->k                        ? plan->k
                                                            : 1;
    plan->mmr_lambda = select->mmr_lambda;
    return OCH_OK;
}

static och_code read_plan(och_collection *collection, const och_select *select,
                          const struct plan *plan, och_result *result, och_error *err)
{
    struct gateway_scope scope = library_scope(collection, select->deadline_ms, select->cancel);
    result->include = select->include;
    return gateway_read(database_gateway(collection->database->database), &scope, plan,
                        &result->arena, &result->rows, err);
}

static och_code get(och_collection *collection, const och_select *which, och_result *result,
                    och_error *err)
{
    och_select select;
    struct plan plan;
    TRY(library_read_select(collection, which, &result->arena, &select, &plan, err));
    plan.kind = PLAN_GET;
    TRY(read_order(&select, &result->arena, &plan, err));
    TRY(read_plan(collection, &select, &plan, result, err));
    if (!result->rows.has_last)
        return OCH_OK;
    buf_clear(&result->cursor);
    TRY(plan_cursor_write(&plan, &result->rows.last, &result->cursor, err));
    return buf_check(&result->cursor, "a cursor", err);
}

och_code och_collection_get(och_collection *collection, const och_select *which,
                            och_result **ret_result, och_error *err)
{
    och_result *result;
    TRY(library_result_begin(collection ? collection->database : NULL, ret_result, &result, err));
    och_code code = get(collection, which, result, err);
    return library_result_end(collection->database, result, code, ret_result);
}

static och_code check_dimension(och_collection *collection, size_t dimension, och_error *err)
{
    struct gateway *gateway = database_gateway(collection->database->database);
    const struct sysdb_collection *found CLEANUP(sysdb_collection_cleanup) = NULL;
    TRY(sysdb_collection_get(database_sysdb(collection->database->database), collection->tenant,
                             collection->name_of_database, collection->id, &found, err));
    return gateway_check_dimension(gateway, found, (uint32_t)dimension, err);
}

och_code och_collection_query(och_collection *collection, const float *vectors, size_t vector_count,
                              size_t dimension, size_t k, const och_select *among,
                              och_result **ret_result, och_error *err)
{
    och_result *result;
    och_select select;
    struct plan plan;
    TRY(library_result_begin(collection ? collection->database : NULL, ret_result, &result, err));
    och_code code = library_read_select(collection, among, &result->arena, &select, &plan, err);
    if (code == OCH_OK && (select.order_by.at || select.cursor.at || select.descending))
        code = FAIL(err, OCH_INVALID, "order_by and cursor are for och_collection_get");
    if (code == OCH_OK && (select.offset || select.limit != OCH_NO_LIMIT))
        code = FAIL(err, OCH_INVALID,
                    "offset and limit are for och_collection_get; k says how "
                    "many are nearest");
    if (code == OCH_OK)
        code = set_vectors(&plan, vectors, vector_count, dimension, k, err);
    if (code == OCH_OK)
        code = read_bounds(&select, &plan, err);
    if (code == OCH_OK)
        code = check_dimension(collection, plan.dimension, err);
    if (code == OCH_OK)
        code = read_plan(collection, &select, &plan, result, err);
    return library_result_end(collection->database, result, code, ret_result);
}

static och_code nearest(och_collection *collection, const struct plan *plan, uint64_t *ret_seqs,
                        float *ret_distances, size_t *ret_count, och_error *err)
{
    struct arena arena;
    arena_init(&arena, database_budget(collection->database->database), 0);
    struct gateway_scope scope = library_scope(collection, 0, NULL);
    struct query_result result;
    och_code code = gateway_read(database_gateway(collection->database->database), &scope, plan,
                                 &arena, &result, err);
    if (code == OCH_OK) {
        size_t count = result.hit_count ? result.hits[0].count : 0;
        assert(count <= plan->k);
        for (size_t i = 0; i < count; i++) {
            const struct query_row *row = &result.hits[0].rows[i];
            if (ret_seqs)
                ret_seqs[i] = (uint64_t)row->record.seq;
            if (ret_distances)
                ret_distances[i] = row->distance;
        }
        *ret_count = count;
        query_result_done(&result);
    }
    arena_done(&arena);
    return code;
}

och_code och_collection_nearest(och_collection *collection, const float *vector, size_t dimension,
                                size_t k, const och_filter *filter, uint64_t *ret_seqs,
                                float *ret_distances, size_t *ret_count, och_error *err)
{
    if (!ret_count)
        return FAIL(err, OCH_INVALID, "ret_count is NULL");
    TRY(library_enter(collection ? collection->database : NULL, err));
    struct plan plan = {.collection = collection->id,
                        .limit = PLAN_NO_LIMIT,
                        .filter = filter ? filter->node : NULL,
                        .bare = true};
    och_code code = set_vectors(&plan, vector, 1, dimension, k, err);
    if (code == OCH_OK)
        code = check_dimension(collection, plan.dimension, err);
    if (code == OCH_OK)
        code = nearest(collection, &plan, ret_seqs, ret_distances, ret_count, err);
    library_leave(collection->database);
    return code;
}

och_code och_collection_count(och_collection *collection, const och_filter *filter,
                              uint64_t *ret_count, och_error *err)
{
    if (!ret_count)
        return FAIL(err, OCH_INVALID, "ret_count is NULL");
    TRY(library_enter(collection ? collection->database : NULL, err));
    struct arena arena;
    arena_init(&arena, database_budget(collection->database->database), 0);
    struct gateway_scope scope = library_scope(collection, 0, NULL);
    struct plan plan = {.kind = PLAN_COUNT,
                        .collection = collection->id,
                        .limit = PLAN_NO_LIMIT,
                        .filter = filter ? filter->node : NULL};
    struct query_result result;
    och_code code = gateway_read(database_gateway(collection->database->database), &scope, &plan,
                                 &arena, &result, err);
    if (code == OCH_OK) {
        *ret_count = result.count;
        query_result_done(&result);
    }
    arena_done(&arena);
    library_leave(collection->database);
    return code;
}

/* ---- rows ---- */

static och_code give_record(och_result *result, const struct query_row *row, och_row *ours,
                            och_error *err)
{
    const struct record *record = &row->record;
    uint32_t include =
        result->searches ? library_search_include(result, result->hits_at) : result->include;
    ours->query_index = (uint32_t)result->hits_at;
    ours->seq = (uint64_t)record->seq;
    ours->id = library_bytes(record->id);
    ours->distance = row->distance;
    if (include & OCH_DOCUMENT)
        ours->document = library_bytes(record->document);
    if (include & OCH_URI)
        ours->uri = library_bytes(record->uri);
    if (include & OCH_EXPIRY)
        ours->expires_ms = record->expires_ms;
    if ((include & OCH_VECTOR) && record->vector) {
        ours->vector = record->vector;
        ours->dimension = result->rows.dimension;
    }
    if (!(include & OCH_METADATA) || !record->metadata.at)
        return OCH_OK;
    buf_clear(&result->metadata);
    if (!result->selects)
        meta_to_json(record->metadata, &result->metadata);
    else if (!search_metadata_to_json(record->metadata, &result->selects[result->hits_at],
                                      &result->metadata))
        return OCH_OK;
    TRY(buf_check(&result->metadata, "metadata", err));
    ours->metadata_json = library_bytes(buf_view(&result->metadata));
    return OCH_OK;
}

static och_code give_collection(och_result *result, const struct sysdb_collection *collection,
                                och_row *ours, och_error *err)
{
    struct gateway *gateway = database_gateway(result->database->database);
    struct arena arena;
    arena_init(&arena, database_budget(result->database->database), 0);
    buf_clear(&result->json);
    buf_clear(&result->metadata);
    uint32_t dimension = 0;
    och_code code = gateway_collection_write(gateway, collection, &arena, &result->json, err);
    if (code == OCH_OK)
        code = gateway_dimension(gateway, collection->id, &dimension, err);
    if (code == OCH_OK && collection->metadata.at) {
        meta_to_json(collection->metadata, &result->metadata);
        code = buf_check(&result->metadata, "metadata", err);
        ours->metadata_json = library_bytes(buf_view(&result->metadata));
    }
    arena_done(&arena);
    ours->id = library_bytes(collection->name);
    ours->document = library_bytes(buf_view(&result->json));
    ours->dimension = dimension;
    ours->seq = (uint64_t)collection->ord;
    return code;
}

/* The next row's place in rows; false at the end. */
static bool find_row(och_result *result)
{
    while (result->hits_at < result->rows.hit_count &&
           result->row_at >= result->rows.hits[result->hits_at].count) {
        result->hits_at++;
        result->row_at = 0;
    }
    return result->hits_at < result->rows.hit_count;
}

static och_code next_collection(och_result *result, och_row *ours, bool *ret_more, och_error *err)
{
    *ret_more = result->row_at < result->collection_count;
    if (!*ret_more)
        return OCH_OK;
    TRY(library_enter(result->database, err));
    och_code code = give_collection(result, result->collections[result->row_at], ours, err);
    library_leave(result->database);
    return code;
}

och_code och_result_next(och_result *result, och_row *ret_row, bool *ret_more, och_error *err)
{
    och_row ours = OCH_ROW;
    bool more = false;
    if (!result || !ret_more)
        return FAIL(err, OCH_INVALID, "the result, or where to put an answer, is NULL");
    // 1.0 ended before `expires_ms`
    TRY(library_check_struct(ret_row, offsetof(och_row, expires_ms), "och_row", err));
    if (library_is_forked(result->database))
        return FAIL(err, OCH_FORKED, "this result belongs to the parent process");
    if (result->collections) {
        TRY(next_collection(result, &ours, &more, err));
    } else if (result->facet_count) {
        TRY(library_next_facet(result, &ours, &more, err));
    } else if (result->versions) {
        library_next_version(result, &ours, &more);
    } else {
        more = find_row(result);
        if (more)
            TRY(give_record(result, &result->rows.hits[result->hits_at].rows[result->row_at], &ours,
                            err));
    }
    *ret_more = more;
    if (more) {
        result->row_at++;
        library_write_struct(ret_row, &ours, sizeof(ours));
    }
    return OCH_OK;
}

size_t och_result_count(const och_result *result)
{
    if (!result)
        return 0;
    size_t count = result->collection_count + result->version_count;
    for (size_t i = 0; i < result->rows.hit_count; i++)
        count += result->rows.hits[i].count;
    for (size_t i = 0; i < result->facet_count; i++)
        count += result->rows.facets[i].value_count;
    return count;
}

och_bytes och_result_explain_json(const och_result *result)
{
    return library_bytes(result && result->rows.explain.len ? result->rows.explain : SLICE_NONE);
}

och_bytes och_result_cursor(const och_result *result)
{
    return library_bytes(result && result->cursor.len ? buf_view(&result->cursor) : SLICE_NONE);
}

void och_result_free(och_result *result)
{
    if (!result || library_is_forked(result->database))
        return;
    query_result_done(&result->rows);
    for (size_t i = 0; i < result->collection_count; i++)
        sysdb_collection_unref(result->collections[i]);
    buf_done(&result->metadata);
    buf_done(&result->json);
    buf_done(&result->cursor);
    arena_done(&result->arena);
    library_unref(result->database);
    mem_free(result);
}
