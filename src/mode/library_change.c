/* SPDX-License-Identifier: Apache-2.0 */
/* ochre.h: changing what ids and a filter choose. */
#include "mode/library_internal.h"

#include "model/limits.h"

static och_code read_text(och_bytes given, const char *name, uint8_t *state, slice *text,
                          och_error *err)
{
    if (!given.at && !given.len)
        return OCH_OK;
    TRY(library_check_text(given, name, err));
    *state = FIELD_VALUE;
    *text = library_slice(given);
    return OCH_OK;
}

/* Encoded into `encoded`, which holds as long as the row. */
static och_code read_metadata(och_bytes json, struct arena *arena, struct buf *encoded,
                              struct batch_input_row *set, och_error *err)
{
    const struct json_value *value;
    TRY(library_read_json(json, "not JSON", arena, &value, err));
    if (!value)
        return OCH_OK;
    if (value->kind != JSON_OBJECT)
        return FAIL(err, OCH_SHAPE, "metadata_json: expected an object, got %s",
                    json_describe(value, arena));
    och_code code = meta_from_json(value, META_ALLOW_DELETE, encoded, err);
    if (code == OCH_OK)
        code = buf_check(encoded, "metadata", err);
    if (code != OCH_OK) {
        error_context(err, "metadata_json");
        return code;
    }
    set->metadata_state = FIELD_VALUE;
    set->metadata = buf_view(encoded);
    return OCH_OK;
}

static och_code read_change(const och_change *given, struct arena *arena, struct buf *metadata,
                            och_change *change, struct batch_input_row *set, och_error *err)
{
    *change = (och_change)OCH_CHANGE;
    TRY(library_read_struct(given, sizeof(*change), change, sizeof(*change), "och_change", err));
    TRY(read_text(change->document, "document", &set->document_state, &set->document, err));
    TRY(read_text(change->uri, "uri", &set->uri_state, &set->uri, err));
    TRY(read_metadata(change->metadata_json, arena, metadata, set, err));
    if (change->expires_ms < 0)
        return FAIL(err, OCH_INVALID, "och_change.expires_ms is before 1970");
    set->expires_ms = change->expires_ms;
    return library_clear(change->clear, set, err);
}

static och_code update_chosen(och_collection *collection, const och_select *given,
                              const och_change *given_change, struct arena *arena,
                              struct buf *metadata, uint64_t *ret_updated, och_error *err)
{
    och_select which;
    och_change change;
    struct plan plan;
    struct batch_input_row set = {.op = BATCH_UPDATE};
    TRY(library_read_select(collection, given, arena, &which, &plan, err));
    TRY(read_change(given_change, arena, metadata, &change, &set, err));
    if (!plan.has_ids && !plan.filter)
        return FAIL(err, OCH_INVALID,
                    "neither ids nor a filter: say which records are to be changed");
    if (which.offset)
        return FAIL(err, OCH_INVALID, "och_select.offset is for och_collection_get only");
    plan.kind = PLAN_GET;
    struct gateway_scope scope = library_scope(collection, which.deadline_ms, which.cancel);
    return gateway_update_chosen(database_gateway(collection->database->database), &scope, &plan,
                                 &set, NULL, change.dry_run, ret_updated, err);
}

och_code och_collection_update_where(och_collection *collection, const och_select *which,
                                     const och_change *change, och_counts *ret_counts,
                                     och_error *err)
{
    TRY(library_enter_present(collection, __func__, err));
    struct arena arena;
    struct buf metadata;
    arena_init(&arena, database_budget(collection->database->database), 0);
    buf_init(&metadata, LIMIT_PAYLOAD_BYTES);
    struct gateway_counts counts = {0};
    och_code code = OCH_OK;
    if (ret_counts)
        code = library_check_struct(ret_counts, sizeof(*ret_counts), "och_counts", err);
    if (code == OCH_OK)
        code = update_chosen(collection, which, change, &arena, &metadata, &counts.updated, err);
    buf_done(&metadata);
    arena_done(&arena);
    library_leave(collection->database);
    if (code == OCH_OK)
        library_give_counts(ret_counts, &counts);
    return code;
}
