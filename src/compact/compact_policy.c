/* SPDX-License-Identifier: Apache-2.0 */
/* Which parts to merge (D18): few parts, little rewriting.  Merges join only parts adjacent in log range (D3). */
#include "compact/compact_internal.h"

#include "index/vector/vector.h"
#include "model/limits.h"

#define SMALL_RUN      4  /* so many adjacent tail-sized parts become one */
#define SMALL_RUN_MOST 8  /* and at most so many: a backlog goes in steps that end soon */
#define BUILD_SHARE    3  /* of the memory limit, for what grows with the rows of a merge */
#define ROW_BYTES      12 /* of a part's builder, whatever is in the row */

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
        while (end < count && !parts[end].busy && is_small(policy, &parts[end]))
            end++;
        if (end - i > *ret_count) {
            *ret_first = i;
            *ret_count = end - i;
        }
        i = end + 1;
    }
}

/* The adjacent pair that is cheapest to join, among those with so many large ones: a large part is not rewritten to take in a small one that
 * is going to have neighbours of its size. */
static void cheapest_pair(const struct policy *policy, const struct policy_part *parts,
                          size_t count, int large_least, size_t *ret_first, size_t *ret_count)
{
    uint64_t best = UINT64_MAX;
    for (size_t i = 0; i + 1 < count; i++) {
        uint64_t rows = parts[i].rows - parts[i].deleted + parts[i + 1].rows - parts[i + 1].deleted;
        if (parts[i].busy || parts[i + 1].busy || rows > policy->part_rows_max || rows >= best)
            continue;
        if (!is_small(policy, &parts[i]) + !is_small(policy, &parts[i + 1]) < large_least)
            continue;
        best = rows;
        *ret_first = i;
        *ret_count = 2;
    }
}

uint64_t policy_rows_max(uint64_t rows_max, int64_t limit_bytes, uint32_t dimension)
{
    uint64_t vector =
                 dimension && dimension < UINT32_MAX / 8 ? vector_build_row_bytes(dimension) : 0,
             fit = limit_bytes > 0 ? (uint64_t)limit_bytes / BUILD_SHARE / (ROW_BYTES + vector)
                                   : UINT64_MAX;
    return fit < rows_max ? fit : rows_max;
}

void policy_choose(const struct policy *policy, const struct policy_part *parts, size_t count,
                   size_t *ret_first, size_t *ret_count)
{
    *ret_first = *ret_count = 0;
    uint64_t live = 0;
    size_t large = 0;
    bool busy = false;
    for (size_t i = 0; i < count; i++) {
        live += parts[i].rows - parts[i].deleted;
        large += !is_small(policy, &parts[i]);
        busy |= parts[i].busy;
    }
    if (policy->to_one && !busy && live <= policy->part_rows_max &&
        (count > 1 || (count == 1 && (parts[0].deleted > 0 || parts[0].unlisted)))) {
        *ret_count = count;
        return;
    }
    size_t first, run;
    longest_small_run(policy, parts, count, &first, &run);
    if (run >= SMALL_RUN && policy->tiers & 1u << MERGE_SMALL) {
        *ret_first = first;
        *ret_count = run < SMALL_RUN_MOST ? run : SMALL_RUN_MOST;
    }
    if (*ret_count > 0 || !(policy->tiers & 1u << MERGE_LARGE))
        return;
    /* More than 30 % dead, or a section to rebuild: rewrite that part alone. */
    for (size_t i = 0; i < count; i++) {
        if (parts[i].busy)
            continue;
        if (parts[i].damaged || (parts[i].rows > 0 && parts[i].deleted * 10 > parts[i].rows * 3)) {
            *ret_first = i;
            *ret_count = 1;
            return;
        }
    }
    if (large > LIMIT_LARGE_PARTS)
        cheapest_pair(policy, parts, count, 2, ret_first, ret_count);
    if (*ret_count == 0 && count > LIMIT_LARGE_PARTS + LIMIT_TAIL_PARTS)
        cheapest_pair(policy, parts, count, run >= SMALL_RUN, ret_first, ret_count);
}
