/* SPDX-License-Identifier: Apache-2.0 */
/* Which parts to merge (D18): few parts, little rewriting.  Merges join only parts adjacent in log range (D3). */
#include "compact/compact_internal.h"

#include "model/limits.h"

#define SMALL_RUN 4 /* so many adjacent tail-sized parts become one */

static bool is_small(const struct policy *policy, const struct policy_part *part)
{
    return part->rows - part->deleted <= policy->tail_rows + policy->tail_rows / 2;
}

/* The longest run of adjacent small parts. */
static void longest_small_run(const struct policy *policy, const struct policy_part *parts,
                              size_t count, size_t *ret_first, size_t *ret_count)
{
    *ret_first = *ret_count = 0;
    for (size_t i = 0; i < count;) {
        size_t end = i;
        while (end < count && is_small(policy, &parts[end]))
            end++;
        if (end - i > *ret_count) {
            *ret_first = i;
            *ret_count = end - i;
        }
        i = end + 1;
    }
}

/* The adjacent pair of large parts that is cheapest to join. */
static void cheapest_pair(const struct policy *policy, const struct policy_part *parts,
                          size_t count, size_t *ret_first, size_t *ret_count)
{
    uint64_t best = UINT64_MAX;
    for (size_t i = 0; i + 1 < count; i++) {
        uint64_t rows = parts[i].rows - parts[i].deleted + parts[i + 1].rows - parts[i + 1].deleted;
        if (rows > policy->part_rows_max || rows >= best)
            continue;
        best = rows;
        *ret_first = i;
        *ret_count = 2;
    }
}

void policy_choose(const struct policy *policy, const struct policy_part *parts, size_t count,
                   size_t *ret_first, size_t *ret_count)
{
    *ret_first = *ret_count = 0;
    uint64_t live = 0;
    size_t large = 0;
    for (size_t i = 0; i < count; i++) {
        live += parts[i].rows - parts[i].deleted;
        large += !is_small(policy, &parts[i]);
    }
    if (policy->to_one && live <= policy->part_rows_max &&
        (count > 1 || (count == 1 && parts[0].deleted > 0))) {
        *ret_count = count;
        return;
    }
    size_t first, run;
    longest_small_run(policy, parts, count, &first, &run);
    if (run >= SMALL_RUN) {
        *ret_first = first;
        *ret_count = run;
        return;
    }
    /* More than 30 % dead, or a section to rebuild: rewrite that part alone. */
    for (size_t i = 0; i < count; i++) {
        if (parts[i].damaged || (parts[i].rows > 0 && parts[i].deleted * 10 > parts[i].rows * 3)) {
            *ret_first = i;
            *ret_count = 1;
            return;
        }
    }
    if (large > LIMIT_LARGE_PARTS || count > LIMIT_LARGE_PARTS + LIMIT_TAIL_PARTS)
        cheapest_pair(policy, parts, count, ret_first, ret_count);
}
