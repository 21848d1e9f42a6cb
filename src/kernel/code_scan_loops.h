/* SPDX-License-Identifier: Apache-2.0 */
/* What the scans of every instruction set share.  code_scan_<set>.c first defines NAME(loop) and
 *   dot8(x, q, dim, q_sum)                  as kernel_code.dot_u8s8
 *   struct acc32, acc_of(code, table, dim)  the 32 sums of a block
 *   acc_store(acc, out), acc_load(in)
 *   acc_bound(acc, a, b, bound, low)        as kernel_code.scan1_bound */
#ifndef KERNEL_CODE_SCAN_LOOPS_H
#define KERNEL_CODE_SCAN_LOOPS_H

#include "kernel/code_internal.h"

#include <math.h>

#define ROWS_AHEAD  6    /* rows between the one being read and the one being fetched */
#define FETCH_BYTES 2048 /* of a row: what follows, the processor fetches by itself */

void NAME(scan1_block)(const uint8_t *code, const uint8_t *table, size_t groups, int32_t acc[32])
{
    debug_assert(groups % 16 == 0);
    acc_store(acc_of(code, table, 4 * groups), acc);
}

uint32_t NAME(scan1_bound)(const int32_t acc[32], const float a[32], const float b[32],
                           const struct code_bound *bound, float low[32])
{
    return acc_bound(acc_load(acc), a, b, bound, low);
}

uint32_t NAME(scan1)(const uint8_t *block, const uint8_t *table, size_t dim,
                     const struct code_bound *bound, float low[32])
{
    const uint8_t *a = block + 4 * dim;
    return acc_bound(acc_of(block, table, dim), a, a + 128, bound, low);
}

int32_t NAME(dot_u8s8)(const uint8_t *x, const int8_t *q, size_t dim, int32_t q_sum)
{
    return dot8(x, q, dim, q_sum);
}

static ALWAYS_INLINE float distance_of(const uint8_t *row, const struct code_query8 *query,
                                       size_t dim)
{
    float dot = (float)dot8(row, query->q8, dim, query->sum);
    float twice = 2.0f * query->scale * code_row_scale(row, dim);
    return fmaf(-twice, dot, code_row_norm2(row, dim) + query->norm2);
}

void NAME(distance8_of)(const uint8_t *const *rows, size_t count, const struct code_query8 *query,
                        size_t dim, float *out)
{
    for (size_t i = 0; i < count; i++)
        out[i] = distance_of(rows[i], query, dim);
}

void NAME(distance8)(const uint8_t *rows, const uint32_t *at, size_t count,
                     const struct code_query8 *query, size_t dim, float *out)
{
    size_t size = code_row_size(dim), fetch = min_size(size, FETCH_BYTES);
    for (size_t i = 0; i < count; i++) {
        if (i + ROWS_AHEAD < count) {
            const uint8_t *ahead = rows + at[i + ROWS_AHEAD] * size;
            for (size_t byte = 0; byte < fetch; byte += 64)
                __builtin_prefetch(ahead + byte);
            __builtin_prefetch(ahead + size - 1);
        }
        out[i] = distance_of(rows + at[i] * size, query, dim);
    }
}
#endif
