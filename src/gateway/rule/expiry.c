/* SPDX-License-Identifier: Apache-2.0 */
/* How long records live that do not say so themselves: the collection's own metadata names it (docs/extras.md), so it is shown, changed, copied
 * and backed up with the collection, and official clients can set it. */
#include "gateway/gateway_internal.h"

#include "base/bytes.h"

#include <inttypes.h>

#define TTL_KEY "ochre:ttl_seconds"

static int64_t now_ms(struct gateway *gateway)
{
    return (int64_t)(clock_wall_ns(gateway->options.clock) / 1000000);
}

int64_t gateway_expiry_after(struct gateway *gateway, int64_t ttl_seconds)
{
    assert(ttl_seconds > 0 && ttl_seconds <= GATEWAY_TTL_MAX);
    return now_ms(gateway) + ttl_seconds * 1000;
}

static bool read_ttl(slice metadata, int64_t *ret_seconds)
{
    struct meta_entry entry;
    if (!metadata.at || !meta_find(metadata, SLICE(TTL_KEY), &entry))
        return false;
    *ret_seconds = entry.type == META_INT ? (int64_t)load_u64(entry.value.at) : 0;
    return true;
}

och_code gateway_check_ttl(slice metadata, const char *member, och_error *err)
{
    int64_t seconds;
    if (!read_ttl(metadata, &seconds) || (seconds > 0 && seconds <= GATEWAY_TTL_MAX))
        return OCH_OK;
    return FAIL(err, OCH_INVALID,
                "Validation error: %s: " TTL_KEY
                ": must be an integer number of seconds from 1 to %" PRId64,
                member, GATEWAY_TTL_MAX);
}

och_code gateway_default_expiry(struct gateway *gateway, const struct sysdb_collection *collection,
                                struct batch_input *input, struct arena *arena, och_error *err)
{
    int64_t seconds;
    if (!read_ttl(collection->metadata, &seconds) || seconds < 1 || seconds > GATEWAY_TTL_MAX)
        return OCH_OK; /* none, or from before the rule */
    struct batch_input_row *rows =
        ARENA_ARRAY(arena, struct batch_input_row, (size_t)input->count + 1);
    if (!rows)
        return FAIL_NO_MEMORY(err, "records");
    int64_t expires_ms = gateway_expiry_after(gateway, seconds);
    for (uint32_t i = 0; i < input->count; i++) {
        rows[i] = input->rows[i];
        bool inserts = rows[i].op == BATCH_ADD || rows[i].op == BATCH_UPSERT;
        if (inserts && rows[i].expires_ms == 0)
            rows[i].expires_ms = expires_ms;
    }
    input->rows = rows;
    return OCH_OK;
}
