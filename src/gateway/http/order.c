/* SPDX-License-Identifier: Apache-2.0 */
/* The order of a get and the page that a cursor names: members of ours (docs/extras.md). */
#include "gateway/http/exchange.h"

/* Which order a name means. */
static och_code order_named(slice name, struct plan_order *ret, och_error *err)
{
    *ret = (struct plan_order){.by = PLAN_BY_KEY, .key = name};
    if (slice_equal(name, SLICE("#insertion")))
        ret->by = PLAN_BY_INSERTION;
    else if (slice_equal(name, SLICE("#id")))
        ret->by = PLAN_BY_ID;
    else if (filter_key_is_reserved(name))
        return FAIL(err, OCH_INVALID,
                    "order_by: rows are in the order of #insertion, #id or a key of metadata, not "
                    "\"%.*s\"",
                    (int)min_size(name.len, 60),
                    (const char *)(name.len ? name.at : (const uint8_t *)""));
    return OCH_OK;
}

och_code exchange_order(const struct json_value *order_by, struct plan *plan, och_error *err)
{
    const char *wanted = "order_by: write \"key\" or {\"key\": \"key\", \"order\": \"desc\"}";
    const struct json_value *key = NULL, *order = NULL;
    if (!order_by)
        return OCH_OK;
    if (order_by->kind == JSON_STRING)
        return order_named(order_by->string, &plan->order, err);
    for (uint32_t i = 0; order_by->kind == JSON_OBJECT && i < order_by->count; i++) {
        const struct json_member *member = &order_by->members[i];
        if (slice_equal(member->name, SLICE("key")))
            key = &member->value;
        else if (slice_equal(member->name, SLICE("order")))
            order = &member->value;
        else
            return FAIL(err, OCH_INVALID, "%s", wanted);
    }
    if (!key || key->kind != JSON_STRING || (order && order->kind != JSON_STRING))
        return FAIL(err, OCH_INVALID, "%s", wanted);
    TRY(order_named(key->string, &plan->order, err));
    plan->order.descending = order && slice_equal(order->string, SLICE("desc"));
    if (order && !plan->order.descending && !slice_equal(order->string, SLICE("asc")))
        return FAIL(err, OCH_INVALID, "%s", wanted);
    return OCH_OK;
}

och_code exchange_cursor(struct exchange *x, const struct json_value *cursor, struct plan *plan,
                         och_error *err)
{
    if (!cursor || !cursor->string.len) /* "": the first page */
        return OCH_OK;
    if (plan->offset)
        return FAIL(err, OCH_INVALID,
                    "cursor: a page begins where its cursor says, without offset");
    return plan_cursor_read(cursor->string, &x->arena, plan, err);
}

och_code exchange_next(struct exchange *x, const struct json_value *cursor, const struct plan *plan,
                       const struct query_result *result, och_error *err)
{
    struct buf *out = &x->reply->body;
    if (!cursor)
        return OCH_OK;
    buf_text(out, ",\"cursor\":");
    if (!result->has_last) {
        buf_text(out, "null");
        return OCH_OK;
    }
    buf_byte(out, '"');
    TRY(plan_cursor_write(plan, &result->last, out, err));
    buf_byte(out, '"');
    return OCH_OK;
}
