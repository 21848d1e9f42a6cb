/* SPDX-License-Identifier: Apache-2.0 */
/* POST C/facets, of ours (docs/extras.md): which values keys have, and how many records have each. */
#include "gateway/http/exchange.h"

#include "model/limits.h"

#include <inttypes.h>

#define FACET_LIMIT 10 /* values unless said otherwise */

struct facets_body {
    const struct json_value *ids, *where, *where_document, *keys, *as_of;
};

static och_code fail_keys(struct exchange *x, const struct json_value *at, och_error *err)
{
    return wire_fail(
        x, at, err, "keys",
        "expected a list of 1 to %d keys: \"key\" or {\"key\": \"key\", \"limit\": 10, "
        "\"order\": \"count\" | \"value\"}",
        LIMIT_FACETS);
}

static och_code read_facet(struct exchange *x, const struct json_value *json,
                           struct plan_facet *ret, och_error *err)
{
    const struct json_value *key = json->kind == JSON_STRING ? json : NULL;
    *ret = (struct plan_facet){.limit = FACET_LIMIT};
    for (uint32_t i = 0; json->kind == JSON_OBJECT && i < json->count; i++) {
        slice name = json->members[i].name;
        const struct json_value *value = &json->members[i].value;
        bool is_text = value->kind == JSON_STRING;
        if (slice_equal(name, SLICE("key"))) {
            key = value;
        } else if (slice_equal(name, SLICE("limit")) && value->kind == JSON_INT &&
                   value->integer >= 0 && value->integer <= UINT32_MAX) {
            ret->limit = (uint32_t)value->integer;
        } else if (slice_equal(name, SLICE("order")) && is_text &&
                   (slice_equal(value->string, SLICE("value")) ||
                    slice_equal(value->string, SLICE("count")))) {
            ret->by_value = value->string.len == 5 && value->string.at[0] == 'v';
        } else {
            return fail_keys(x, json, err);
        }
    }
    if (!key || key->kind != JSON_STRING)
        return fail_keys(x, json, err);
    ret->key = key->string;
    if (filter_key_is_reserved(ret->key))
        return FAIL(err, OCH_INVALID, "facets: keys are those of metadata, not \"%.*s\"",
                    (int)min_size(ret->key.len, 60), ret->key.len ? (const char *)ret->key.at : "");
    return OCH_OK;
}

static och_code read_facets(struct exchange *x, const struct json_value *keys, struct plan *plan,
                            och_error *err)
{
    if (keys->kind != JSON_ARRAY || !keys->count || keys->count > LIMIT_FACETS)
        return fail_keys(x, keys, err);
    struct plan_facet *facets = ARENA_ARRAY(&x->arena, struct plan_facet, keys->count);
    if (!facets)
        return FAIL_NO_MEMORY(err, "facets");
    for (uint32_t i = 0; i < keys->count; i++) {
        TRY(read_facet(x, &keys->items[i], &facets[i], err));
        for (uint32_t j = 0; j < i; j++) {
            if (slice_equal(facets[i].key, facets[j].key))
                return FAIL(err, OCH_INVALID, "facets: \"%.*s\" is there twice",
                            (int)min_size(facets[i].key.len, 60), (const char *)facets[i].key.at);
        }
    }
    plan->facets = facets;
    plan->facet_count = keys->count;
    return OCH_OK;
}

static void write_value(struct buf *out, const char *name, const struct plan_key *value)
{
    const struct meta_entry entry = {.type = value->type, .value = value->value};
    buf_text(out, name);
    if (value->type)
        meta_value_to_json(&entry, out);
    else
        buf_text(out, "null");
}

static void write_facet(struct buf *out, slice key, const struct query_facet *facet)
{
    json_write_string(out, key);
    buf_printf(out, ":{\"records\":%" PRIu64 ",\"distinct\":%" PRIu64, facet->records,
               facet->distinct);
    write_value(out, ",\"min\":", &facet->least);
    write_value(out, ",\"max\":", &facet->most);
    buf_text(out, ",\"values\":[");
    for (size_t i = 0; i < facet->value_count; i++) {
        write_value(out, i ? ",{\"value\":" : "{\"value\":", &facet->values[i].value);
        buf_printf(out, ",\"count\":%" PRIu64 "}", facet->values[i].count);
    }
    buf_text(out, "]}");
}

och_code handle_facets(struct exchange *x, och_error *err)
{
#define FACETS_MEMBER(member_) offsetof(struct facets_body, member_)
    static const struct wire_member members[] = {
        {"ids", WIRE_STRINGS, false, false, .at = FACETS_MEMBER(ids)},
        {"where", WIRE_ANY, false, false, .at = FACETS_MEMBER(where)},
        {"where_document", WIRE_ANY, false, false, .at = FACETS_MEMBER(where_document)},
        {"as_of", WIRE_ANY, false, false, .at = FACETS_MEMBER(as_of)},
        {"keys", WIRE_ANY, true, true, .at = FACETS_MEMBER(keys)},
    };
    static const struct wire_body shape = {"FacetsRequestPayload", members, COUNT_OF(members),
                                           true};
    struct facets_body body = {0};
    struct plan plan;
    struct query_result result;
    TRY(wire_read(x, &shape, &body, err));
    TRY(exchange_as_of(x, body.as_of, err));
    const struct sysdb_collection *collection CLEANUP(sysdb_collection_cleanup) = NULL;
    TRY(exchange_collection(x, &collection, err));
    TRY(exchange_plan(x, body.ids, body.where, body.where_document, PLAN_FACETS, &plan, err));
    TRY(read_facets(x, body.keys, &plan, err));
    TRY(gateway_read(x->gateway, &x->scope, &plan, &x->arena, &result, err));
    struct buf *out = &x->reply->body;
    buf_printf(out, "{\"count\":%" PRIu64 ",\"facets\":{", result.count);
    for (uint32_t i = 0; i < plan.facet_count; i++) {
        if (i)
            buf_byte(out, ',');
        write_facet(out, plan.facets[i].key, &result.facets[i]);
    }
    buf_text(out, "}}");
    if (result.warning.len)
        http_reply_header(x->reply, "Warning", "199 ochre \"%.*s\"", SLICE_ARG(result.warning));
    query_result_done(&result);
    return OCH_OK;
}
