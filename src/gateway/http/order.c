/* SPDX-License-Identifier: Apache-2.0 */
/* The order of a get and the page that a cursor names, what bounds a query: members of ours (docs/extras.md). */
#include "gateway/http/exchange.h"

#include "model/limits.h"

#include <float.h>
#include <math.h>

#define MMR_LAMBDA     0.5f
#define MMR_CANDIDATES 4 /* times n_results, unless said otherwise */

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

/* ---- queries ---- */

static bool number_of(const struct json_value *json, double *ret)
{
    *ret = json->kind == JSON_INT ? (double)json->integer : json->number;
    return json->kind == JSON_INT || json->kind == JSON_FLOAT;
}

och_code exchange_recall(const struct json_value *recall, struct plan *plan, och_error *err)
{
    double wanted;
    if (!recall)
        return OCH_OK;
    return plan_aim(plan, number_of(recall, &wanted) ? wanted : -1, err);
}

static och_code read_mmr(const struct json_value *mmr, struct plan *plan, och_error *err)
{
    uint64_t candidates = (uint64_t)plan->k * MMR_CANDIDATES;
    double lambda = (double)MMR_LAMBDA;
    bool sound = mmr->kind == JSON_OBJECT;
    for (uint32_t i = 0; sound && i < mmr->count; i++) {
        const struct json_member *member = &mmr->members[i];
        if (slice_equal(member->name, SLICE("lambda"))) {
            sound = number_of(&member->value, &lambda) && lambda >= 0 && lambda <= 1;
        } else if (slice_equal(member->name, SLICE("candidates"))) {
            sound = member->value.kind == JSON_INT && member->value.integer > 0 &&
                    member->value.integer <= LIMIT_MMR_CANDIDATES;
            candidates = sound ? (uint64_t)member->value.integer : 0;
        } else {
            sound = false;
        }
    }
    if (!sound)
        return FAIL(err, OCH_INVALID,
                    "mmr: write {\"lambda\": 0.5, \"candidates\": 40}, with lambda from 0 to 1 and "
                    "candidates from 1 to %d; both may be left out",
                    LIMIT_MMR_CANDIDATES);
    if (plan->k > LIMIT_MMR_CANDIDATES)
        return FAIL(err, OCH_INVALID, "mmr: at most %d n_results, got %u", LIMIT_MMR_CANDIDATES,
                    plan->k);
    candidates = candidates > plan->k ? candidates : plan->k;
    candidates = candidates < LIMIT_MMR_CANDIDATES ? candidates : LIMIT_MMR_CANDIDATES;
    plan->mmr_lambda = (float)lambda;
    plan->mmr_candidates = candidates ? (uint32_t)candidates : 1;
    return OCH_OK;
}

och_code exchange_bounds(const struct json_value *max_distance, const struct json_value *mmr,
                         struct plan *plan, och_error *err)
{
    double most;
    if (max_distance) {
        if (!number_of(max_distance, &most) || !(fabs(most) <= (double)FLT_MAX))
            return FAIL(err, OCH_INVALID, "max_distance must be a number that a distance can be");
        plan->has_max = true;
        plan->max_distance = (float)most;
    }
    return mmr ? read_mmr(mmr, plan, err) : OCH_OK;
}
