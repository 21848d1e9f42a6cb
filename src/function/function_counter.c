/* SPDX-License-Identifier: Apache-2.0 */
/* `record_counter`: one record that says how many records the input holds.  A view knows that, so nothing is added up: written twice it is the same.
 * `dummy_async`: consumes and writes nothing; for tests of chains and of clients. */
#include "function/function_internal.h"

#include <inttypes.h>

static och_code count_row(void *context, const struct record *record, och_error *err)
{
    uint64_t *count = context;
    (void)record;
    (void)err;
    ++*count;
    return OCH_OK;
}

och_code counter_rebuild(struct run *run, struct output_rows *out, och_error *err)
{
    const struct view_info *info = view_info(run->view);
    uint64_t count = info->live_rows;
    if (info->has_expiry) {
        count = 0;
        TRY(rows_walk(run, run->view, 0, count_row, &count, err));
    }
    struct buf metadata CLEANUP(buf_cleanup);
    struct buf document CLEANUP(buf_cleanup);
    buf_init(&metadata, BUF_MAX_NONE);
    buf_init(&document, BUF_MAX_NONE);
    buf_varint(&metadata, 1);
    buf_sized(&metadata, SLICE("total_count"));
    buf_byte(&metadata, META_INT);
    buf_varint(&metadata, 8);
    buf_u64(&metadata, count);
    buf_printf(&document, "Last processed %" PRIu64 " records (total: %" PRIu64 ")",
               info->to - run->completion, count);
    TRY(buf_check(&metadata, "a count", err));
    TRY(buf_check(&document, "a count", err));
    return output_upsert(out, SLICE("function_output"), buf_view(&document), buf_view(&metadata),
                         err);
}

och_code dummy_rebuild(struct run *run, struct output_rows *out, och_error *err)
{
    (void)run;
    (void)out;
    (void)err;
    return OCH_OK;
}
