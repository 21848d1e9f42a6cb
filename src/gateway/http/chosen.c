/* SPDX-License-Identifier: Apache-2.0 */
/* Update by filter, an extra of ours: a body of update with `set` changes all records that ids and filter choose alike (docs/extras.md). */
#include "gateway/http/exchange.h"

#include <inttypes.h>

#define MEMBER(type_, member_) .at = offsetof(type_, member_)

struct chosen_body {
    const struct json_value *ids, *where, *where_document, *limit, *set, *dry_run, *counts;
};
struct set_body {
    const struct json_value *metadata, *document, *uri, *clear, *expires_at, *ttl_seconds;
};

static const struct wire_member set_members[] = {
    {"metadata", WIRE_OBJECT, false, false, MEMBER(struct set_body, metadata)},
    {"document", WIRE_STRING, false, false, MEMBER(struct set_body, document)},
    {"uri", WIRE_STRING, false, false, MEMBER(struct set_body, uri)},
    {"clear", WIRE_FIELDS, false, false, MEMBER(struct set_body, clear)},
    {"expires_at", WIRE_INT, false, false, MEMBER(struct set_body, expires_at)},
    {"ttl_seconds", WIRE_INT, false, false, MEMBER(struct set_body, ttl_seconds)},
};
static const struct wire_body set_shape = {"set", set_members, COUNT_OF(set_members), true};

static const struct wire_member chosen_members[] = {
    {"ids", WIRE_STRINGS, false, false, MEMBER(struct chosen_body, ids)},
    {"where", WIRE_ANY, false, false, MEMBER(struct chosen_body, where)},
    {"where_document", WIRE_ANY, false, false, MEMBER(struct chosen_body, where_document)},
    {"limit", WIRE_U32, false, false, MEMBER(struct chosen_body, limit)},
    {"set", WIRE_OBJECT, true, true, MEMBER(struct chosen_body, set)},
    {"dry_run", WIRE_BOOL, false, false, MEMBER(struct chosen_body, dry_run)},
    {"counts", WIRE_BOOL, false, false, MEMBER(struct chosen_body, counts)},
};
static const struct wire_body chosen_shape = {"UpdateChosenPayload", chosen_members,
                                              COUNT_OF(chosen_members), true};

/* Wrong types of values are a matter of shape (422), bad keys are told later (*ret_later, 400). */
static och_code read_metadata(struct exchange *x, const struct json_value *value,
                              struct batch_input_row *set, och_code *ret_later,
                              och_error *ret_later_error, och_error *err)
{
    struct buf encoded;
    och_error reason = {0};
    buf_init(&encoded, BUF_MAX_NONE);
    och_code code = meta_from_json(value, META_ALLOW_DELETE, &encoded, &reason);
    if (code == OCH_OK)
        code = buf_check(&encoded, "metadata", &reason);
    if (code == OCH_OK) {
        set->metadata_state = FIELD_VALUE;
        set->metadata = arena_copy(&x->arena, buf_view(&encoded));
        if (!set->metadata.at)
            code = FAIL_NO_MEMORY(&reason, "metadata");
    }
    buf_done(&encoded);
    if (code == OCH_INVALID) {
        *ret_later = FAIL(ret_later_error, OCH_INVALID, "Validation error: set.metadata: %.600s",
                          reason.message);
        return OCH_OK;
    }
    if (code == OCH_SHAPE)
        return wire_fail(x, value, err, "set.metadata", "%.400s", reason.message);
    return code == OCH_OK ? OCH_OK : FAIL(err, code, "%.600s", reason.message);
}

static och_code read_set(struct exchange *x, const struct json_value *value,
                         struct batch_input_row *set, och_code *ret_later,
                         och_error *ret_later_error, och_error *err)
{
    struct set_body body = {0};
    TRY(wire_spread(x, &set_shape, value, &body, err));
    if (body.document) {
        set->document_state = FIELD_VALUE;
        set->document = body.document->string;
    }
    if (body.uri) {
        set->uri_state = FIELD_VALUE;
        set->uri = body.uri->string;
    }
    if (body.metadata)
        TRY(read_metadata(x, body.metadata, set, ret_later, ret_later_error, err));
    if (*ret_later == OCH_OK)
        *ret_later = exchange_expiry(x, body.expires_at, body.ttl_seconds, &set->expires_ms,
                                     ret_later_error);
    if (body.clear && *ret_later == OCH_OK)
        *ret_later = exchange_clear(body.clear, "set.clear", set, ret_later_error);
    return OCH_OK;
}

static och_code read_which(struct exchange *x, const struct chosen_body *body, struct plan *plan,
                           och_error *err)
{
    *plan = (struct plan){.kind = PLAN_GET, .limit = PLAN_NO_LIMIT};
    if (!uuid_parse(x->target, &plan->collection))
        return FAIL(err, OCH_INVALID, "Collection ID is not a valid UUIDv4");
    if (body->ids) {
        slice *ids = ARENA_ARRAY(&x->arena, slice, (size_t)body->ids->count + 1);
        if (!ids)
            return FAIL_NO_MEMORY(err, "ids");
        for (uint32_t i = 0; i < body->ids->count; i++)
            ids[i] = body->ids->items[i].string;
        plan->has_ids = true;
        plan->ids = ids;
        plan->id_count = body->ids->count;
    }
    struct filter_node *where, *document, *both;
    TRY(filter_parse_where(body->where, &x->arena, &where, err));
    TRY(filter_parse_document(body->where_document, &x->arena, &document, err));
    TRY(filter_join(where, document, &x->arena, &both, err));
    plan->filter = both;
    if (body->limit)
        plan->limit = (uint64_t)body->limit->integer;
    if (!plan->has_ids && !body->where && !body->where_document)
        return FAIL(err, OCH_INVALID,
                    "Validation error: ids, where: an update with `set` needs ids, where or "
                    "where_document to say which records");
    return OCH_OK;
}

och_code update_chosen(struct exchange *x, och_error *err)
{
    struct chosen_body body = {0};
    struct plan which;
    struct batch_input_row set = {.op = BATCH_UPDATE};
    och_code later = OCH_OK;
    och_error later_error = {0};
    TRY(wire_spread(x, &chosen_shape, &x->body, &body, err));
    TRY(read_set(x, body.set, &set, &later, &later_error, err));
    const struct sysdb_collection *collection CLEANUP(sysdb_collection_cleanup) = NULL;
    TRY(exchange_collection(x, &collection, err));
    if (later != OCH_OK)
        return FAIL(err, later, "%s", later_error.message);
    TRY(read_which(x, &body, &which, err));
    struct gateway_once once = {0};
    TRY(exchange_key(x, BATCH_UPDATE, which.collection, &once, err));
    struct gateway_counts counts = {0};
    och_code code =
        gateway_update_chosen(x->gateway, &x->scope, &which, &set, &once,
                              body.dry_run && body.dry_run->boolean, &counts.updated, err);
    if (code == OCH_CONFLICT)
        x->error_status = 422; /* another request under the same Idempotency-Key (D17) */
    TRY(code);
    if (body.counts && body.counts->boolean)
        exchange_counts(&x->reply->body, &counts);
    else
        buf_printf(&x->reply->body, "{\"updated\":%" PRIu64 "}", counts.updated);
    return OCH_OK;
}
