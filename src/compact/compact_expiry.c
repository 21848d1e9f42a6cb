/* SPDX-License-Identifier: Apache-2.0 */
/* Rows whose time is over, as a merge may leave them behind (D20).
 *
 * Operations judge expiry by their batch's created_at, which never falls: whatever had expired at the last batch that is in the parts is absent for
 * every operation still to come, in the tail or later, so its row decides nothing any more.  The clock would be too early a judge: a batch of an
 * earlier time may be on its way, and for its operations the row is there. */
#include "compact/compact_internal.h"

#define READS_KEEP 256

static och_code bury(struct part *part, uint32_t row, struct part_reads *reads, int64_t last_ms,
                     struct arena *arena, struct compact_buried *buried, och_error *err)
{
    struct record record;
    TRY(part_read(part, reads, row, RECORD_EXPIRY, &record, err));
    if (record.expires_ms == 0 || record.expires_ms > last_ms)
        return OCH_OK;
    bitset_add(buried->dead, row);
    if (!buried->keep_ids)
        return OCH_OK;
    TRY(part_read(part, reads, row, RECORD_ID, &record, err));
    slice id = arena_copy(arena, record.id);
    if (!id.at || !VEC_PUSH(&buried->ids, id))
        return FAIL_NO_MEMORY(err, "expired ids");
    return OCH_OK;
}

och_code compact_bury_expired(struct compactor *c, struct part *part, int64_t last_ms,
                              struct arena *arena, struct compact_buried *buried, och_error *err)
{
    if (!part_has_expiry(part))
        return OCH_OK;
    struct arena scratch;
    struct part_reads reads;
    arena_init(&scratch, c->options.budget, 0);
    part_reads_init(&reads, c->options.parts.cache, &scratch);
    och_code code = OCH_OK;
    for (uint32_t row = 0; row < part_rows(part) && code == OCH_OK; row++) {
        if (row % READS_KEEP == READS_KEEP - 1) {
            part_reads_done(&reads);
            arena_done(&scratch);
            part_reads_init(&reads, c->options.parts.cache, &scratch);
            code = compact_stopping(c) ? FAIL(err, OCH_CANCELLED, "the compactor stops") : OCH_OK;
        }
        if (code == OCH_OK && !bitset_has(buried->dead, row))
            code = bury(part, row, &reads, last_ms, arena, buried, err);
    }
    part_reads_done(&reads);
    arena_done(&scratch);
    return code;
}
