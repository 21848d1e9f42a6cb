/* SPDX-License-Identifier: Apache-2.0 */
/* Forks and the progress of indexing (http-api.md §8). */
#include "gateway/http/exchange.h"

#include <inttypes.h>

och_code handle_indexing_status(struct exchange *x, och_error *err)
{
    const struct sysdb_collection *collection CLEANUP(sysdb_collection_cleanup) = NULL;
    TRY(exchange_collection(x, &collection, err));
    /* The head is read after the offset, so it is not before it. */
    uint64_t indexed = collection->log_offset, total;
    uint32_t dimension;
    TRY(wal_head(x->gateway->options.wal, collection->id, &total, &dimension, err));
    struct buf *out = &x->reply->body;
    buf_text(out, "{\"op_indexing_progress\":");
    json_write_f32(out, total ? (float)((double)indexed / (double)total) : 1.0f);
    buf_printf(out,
               ",\"num_unindexed_ops\":%" PRIu64 ",\"num_indexed_ops\":%" PRIu64
               ",\"total_ops\":%" PRIu64 "}",
               total - indexed, indexed, total);
    return OCH_OK;
}

och_code handle_fork_count(struct exchange *x, och_error *err)
{
    /* No route makes forks yet: every tree is a root. */
    const struct sysdb_collection *collection CLEANUP(sysdb_collection_cleanup) = NULL;
    TRY(exchange_collection(x, &collection, err));
    buf_text(&x->reply->body, "{\"count\":0}");
    return OCH_OK;
}
