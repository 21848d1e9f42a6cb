/* SPDX-License-Identifier: Apache-2.0 */
/* Forks and the progress of indexing (http-api.md §8). */
#include "gateway/http/exchange.h"

#include <inttypes.h>

och_code handle_indexing_status(struct exchange *x, och_error *err)
{
    const struct sysdb_collection *collection CLEANUP(sysdb_collection_cleanup) = NULL;
    TRY(exchange_collection(x, &collection, err));
    uint64_t indexed, total;
    TRY(gateway_indexing(x->gateway, collection, &indexed, &total, err));
    struct buf *out = &x->reply->body;
    buf_text(out, "{\"op_indexing_progress\":");
    json_write_f32(out, total ? (float)((double)indexed / (double)total) : 1.0f);
    buf_printf(out,
               ",\"num_unindexed_ops\":%" PRIu64 ",\"num_indexed_ops\":%" PRIu64
               ",\"total_ops\":%" PRIu64 "}",
               total - indexed, indexed, total);
    return OCH_OK;
}

och_code handle_fork(struct exchange *x, och_error *err)
{
    struct fork_body {
        const struct json_value *new_name;
    } body = {0};
    static const struct wire_member members[] = {{.name = "new_name",
                                                  .type = WIRE_STRING,
                                                  .required = true,
                                                  .refuses_null = true,
                                                  .at = offsetof(struct fork_body, new_name)}};
    static const struct wire_body shape = {"ForkCollectionPayload", members, COUNT_OF(members),
                                           false};
    TRY(wire_read(x, &shape, &body, err));
    uuid source;
    if (!uuid_parse(x->target, &source))
        return FAIL(err, OCH_INVALID, "Collection ID is not a valid UUIDv4");
    const struct sysdb_collection *copy CLEANUP(sysdb_collection_cleanup) = NULL;
    TRY(gateway_collection_fork(x->gateway, &x->scope, source, body.new_name->string, &copy, err));
    return gateway_collection_write(x->gateway, copy, &x->arena, &x->reply->body, err);
}

och_code handle_fork_count(struct exchange *x, och_error *err)
{
    const struct sysdb_collection *collection CLEANUP(sysdb_collection_cleanup) = NULL;
    TRY(exchange_collection(x, &collection, err));
    uint64_t count;
    TRY(sysdb_fork_count(x->gateway->options.sysdb, collection->id, &count, err));
    buf_printf(&x->reply->body, "{\"count\":%" PRIu64 "}", count);
    return OCH_OK;
}
