/* SPDX-License-Identifier: Apache-2.0 */
/* ochre.h: Search, by the payloads that POST .../search takes. */
#include "mode/library_internal.h"

/* One payload, or an array of them, as an array. */
static och_code read_payloads(och_bytes text, struct arena *arena,
                              const struct json_value **ret_payloads, och_error *err)
{
    const struct json_value *value;
    TRY(library_read_json(text, "search_json", arena, &value, err));
    *ret_payloads = value;
    if (value && value->kind == JSON_ARRAY)
        return OCH_OK;
    if (!value || value->kind != JSON_OBJECT)
        return FAIL(err, OCH_SHAPE,
                    "search_json: expected a payload of Search or an array of them");
    struct json_value *list = ARENA_NEW(arena, struct json_value);
    if (!list)
        return FAIL_NO_MEMORY(err, "a search");
    *list =
        (struct json_value){.kind = JSON_ARRAY, .count = 1, .offset = value->offset, .items = NULL};
    list->items = ARENA_NEW(arena, struct json_value);
    if (!list->items)
        return FAIL_NO_MEMORY(err, "a search");
    *list->items = *value;
    *ret_payloads = list;
    return OCH_OK;
}

static och_code search(och_collection *collection, och_bytes text, och_result *result,
                       och_error *err)
{
    const struct json_value *payloads;
    struct search_request request;
    TRY(read_payloads(text, &result->arena, &payloads, err));
    TRY(search_parse(payloads, library_slice(text), &result->arena, &request, err));
    TRY(search_check(&request, err));
    result->selects = request.selects;
    result->searches = request.searches;
    const struct plan plan = {.kind = PLAN_SEARCH,
                              .collection = collection->id,
                              .level = READ_INDEX_AND_WAL,
                              .limit = PLAN_NO_LIMIT,
                              .searches = request.searches,
                              .search_count = request.count};
    struct gateway_scope scope = library_scope(collection, 0, NULL);
    return gateway_read(database_gateway(collection->database->database), &scope, &plan,
                        &result->arena, &result->rows, err);
}

och_code och_collection_search(och_collection *collection, och_bytes search_json,
                               och_result **ret_result, och_error *err)
{
    och_result *result;
    TRY(library_result_begin(collection ? collection->database : NULL, ret_result, &result, err));
    och_code code = search(collection, search_json, result, err);
    return library_result_end(collection->database, result, code, ret_result);
}

uint32_t library_search_include(const och_result *result, size_t payload)
{
    unsigned fields = result->searches[payload].fields;
    return (fields & RECORD_DOCUMENT ? OCH_DOCUMENT : 0u) | (fields & RECORD_URI ? OCH_URI : 0u) |
           (fields & RECORD_METADATA ? OCH_METADATA : 0u) |
           (fields & RECORD_VECTOR ? OCH_VECTOR : 0u);
}
