/* SPDX-License-Identifier: Apache-2.0 */
/* Optimal string alignment: edit distance with swaps of neighbours, three rows at a time. */
#include "base/near.h"

#include "base/attr.h"

static size_t edit_distance(slice a, slice b)
{
    size_t rows[3][NEAR_MAX + 1];
    for (size_t j = 0; j <= b.len; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= a.len; i++) {
        const size_t *before = rows[(i + 1) % 3], *last = rows[(i + 2) % 3];
        size_t *row = rows[i % 3];
        row[0] = i;
        for (size_t j = 1; j <= b.len; j++) {
            size_t best = last[j - 1] + (a.at[i - 1] != b.at[j - 1]);
            best = min_size(best, min_size(last[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && a.at[i - 1] == b.at[j - 2] && a.at[i - 2] == b.at[j - 1])
                best = min_size(best, before[j - 2] + 1);
            row[j] = best;
        }
    }
    return rows[a.len % 3][b.len];
}

size_t near_distance(slice wanted, slice known)
{
    if (wanted.len > NEAR_MAX || known.len > NEAR_MAX)
        return SIZE_MAX;
    size_t distance = edit_distance(wanted, known);
    return distance <= max_size(2, known.len / 3) ? distance : SIZE_MAX;
}
