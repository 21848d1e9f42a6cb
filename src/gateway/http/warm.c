/* SPDX-License-Identifier: Apache-2.0 */
/* Loading a collection before its first query, a route of our own (docs/extras.md). */
#include "gateway/http/exchange.h"

#include <inttypes.h>

struct warm_body {
    const struct json_value *level;
};

static och_code read_level(struct exchange *x, const struct json_value *level,
                           enum part_warmth *ret_level, och_error *err)
{
    static const char *const names[] = {
        [PART_WARM_HOT] = "hot", [PART_WARM_INDEXES] = "indexes", [PART_WARM_VECTORS] = "vectors"};
    *ret_level = PART_WARM_INDEXES;
    if (!level)
        return OCH_OK;
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        if (names[i] && slice_equal(level->string, slice_of(names[i]))) {
            *ret_level = (enum part_warmth)i;
            return OCH_OK;
        }
    }
    return wire_fail(x, level, err, "level",
                     "unknown variant `%.*s`, expected one of `hot`, `indexes`, `vectors`",
                     (int)min_size(level->string.len, 40), (const char *)level->string.at);
}

och_code gateway_warm(struct gateway *gateway, const struct gateway_scope *scope, uuid collection,
                      enum part_warmth level, struct gateway_warmed *ret_warmed, och_error *err)
{
    const struct sysdb_collection *found CLEANUP(sysdb_collection_cleanup) = NULL;
    TRY(sysdb_collection_get(gateway->options.sysdb, scope->tenant, scope->database, collection,
                             &found, err));
    struct view *view CLEANUP(view_cleanup) = NULL;
    TRY(view_acquire(gateway->options.views, collection, READ_INDEX_AND_WAL, &view, err));
    struct part_warmed warmed = {0};
    for (size_t i = 0; i < view_part_count(view); i++)
        TRY(part_warm(view_part(view, i), level, &scope->limits, &warmed, err));
    *ret_warmed = (struct gateway_warmed){view_part_count(view), warmed.bytes, warmed.wanted_bytes};
    return OCH_OK;
}

och_code handle_warm(struct exchange *x, och_error *err)
{
    static const struct wire_member members[] = {
        {"level", WIRE_STRING, false, false, .at = offsetof(struct warm_body, level)}};
    static const struct wire_body shape = {"WarmPayload", members, COUNT_OF(members), true};
    struct warm_body body = {0};
    enum part_warmth level;
    if (x->request->body.len || x->request->body_size_refused)
        TRY(wire_read(x, &shape, &body, err));
    TRY(read_level(x, body.level, &level, err));
    const struct sysdb_collection *collection CLEANUP(sysdb_collection_cleanup) = NULL;
    TRY(exchange_collection(x, &collection, err));
    struct gateway_warmed warmed;
    x->scope.limits = x->request->limits;
    TRY(gateway_warm(x->gateway, &x->scope, collection->id, level, &warmed, err));
    buf_printf(&x->reply->body,
               "{\"parts\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"wanted_bytes\":%" PRIu64
               ",\"complete\":%s}",
               warmed.parts, warmed.bytes, warmed.wanted_bytes,
               warmed.bytes == warmed.wanted_bytes ? "true" : "false");
    return OCH_OK;
}
