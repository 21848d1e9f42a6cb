/* SPDX-License-Identifier: Apache-2.0 */
/* System routes (http-api.md §3). */
#include "gateway/http/exchange.h"

#include "model/limits.h"

#include <inttypes.h>

och_code handle_heartbeat(struct exchange *x, och_error *err)
{
    (void)err;
    buf_printf(&x->reply->body, "{\"nanosecond heartbeat\":%" PRIu64 "}",
               clock_wall_ns(x->gateway->options.clock));
    return OCH_OK;
}

och_code handle_healthcheck(struct exchange *x, och_error *err)
{
    (void)err;
    struct wal_stats log;
    wal_stats(x->gateway->options.wal, &log);
    bool writes = !log.read_only && !log.failing;
    if (!writes)
        x->reply->status = 503;
    buf_printf(&x->reply->body, "{\"is_executor_ready\":true,\"is_log_client_ready\":%s}",
               writes ? "true" : "false");
    struct views_stats stats;
    views_stats(x->gateway->options.views, &stats);
    if (stats.damaged_parts > 0)
        http_reply_header(x->reply, "Warning",
                          "199 ochre \"%" PRIu64 " damaged parts; see /metrics\"",
                          stats.damaged_parts); /* D4 */
    return OCH_OK;
}

och_code handle_version(struct exchange *x, och_error *err)
{
    (void)err;
    json_write_string(&x->reply->body, slice_of(x->gateway->options.version));
    return OCH_OK;
}

och_code handle_pre_flight(struct exchange *x, och_error *err)
{
    (void)err;
    buf_printf(&x->reply->body, "{\"max_batch_size\":%d,\"supports_base64_encoding\":true}",
               LIMIT_BATCH_ADVERTISED);
    return OCH_OK;
}

och_code handle_identity(struct exchange *x, och_error *err)
{
    (void)err;
    buf_text(
        &x->reply->body,
        "{\"user_id\":\"\",\"tenant\":\"default_tenant\",\"databases\":[\"default_database\"]}");
    return OCH_OK;
}

och_code handle_reset(struct exchange *x, och_error *err)
{
    TRY(gateway_reset(x->gateway, err));
    buf_text(&x->reply->body, "true");
    return OCH_OK;
}

och_code handle_not_yet(struct exchange *x, och_error *err)
{
    const struct sysdb_collection *collection CLEANUP(sysdb_collection_cleanup) = NULL;
    TRY(exchange_collection(x, &collection, err));
    return FAIL(err, OCH_UNSUPPORTED, "This route is not implemented yet in this version");
}
