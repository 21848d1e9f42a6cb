/* SPDX-License-Identifier: Apache-2.0 */
/* Scanning codes, the specification. */
#include "kernel/code_internal.h"

#include <math.h>

void code_scan1_block_scalar(const uint8_t *code, const uint8_t *table, size_t groups,
                             int32_t acc[32])
{
    debug_assert(groups % 16 == 0);
    memset(acc, 0, 32 * sizeof *acc);
    for (size_t m = 0; m < groups; m++)
        for (size_t v = 0; v < 16; v++) {
            uint8_t both = code[m / 4 * 64 + 4 * v + m % 4];
            acc[v] += table[16 * m + (both & 15)];
            acc[v + 16] += table[16 * m + (both >> 4)];
        }
}

uint32_t code_scan1_bound_scalar(const int32_t acc[32], const float a[32], const float b[32],
                                 const struct code_bound *bound, float low[32])
{
    uint32_t mask = 0;
    for (size_t v = 0; v < 32; v++) {
        float dot = fmaf(bound->scale, (float)acc[v], bound->offset);
        low[v] = fmaf(-b[v], dot, a[v] + bound->delta);
        mask |= (uint32_t)(low[v] < bound->limit && a[v] < CODE_PAD_A) << v;
    }
    return mask;
}

uint32_t code_scan1_scalar(const uint8_t *block, const uint8_t *table, size_t dim,
                           const struct code_bound *bound, float low[32])
{
    int32_t acc[32];
    float a[32], b[32];
    code_scan1_block_scalar(block, table, dim / 4, acc);
    memcpy(a, block + 4 * dim, sizeof a);
    memcpy(b, block + 4 * dim + sizeof a, sizeof b);
    return code_scan1_bound_scalar(acc, a, b, bound, low);
}

int32_t code_dot_u8s8_scalar(const uint8_t *x, const int8_t *q, size_t dim, int32_t q_sum)
{
    (void)q_sum;
    int32_t sum = 0;
    for (size_t i = 0; i < dim; i++)
        sum += (x[i] - 128) * q[i];
    return sum;
}

static float distance_of(const uint8_t *row, const struct code_query8 *query, size_t dim)
{
    float dot = (float)code_dot_u8s8_scalar(row, query->q8, dim, query->sum);
    float twice = 2.0f * query->scale * code_row_scale(row, dim);
    return fmaf(-twice, dot, code_row_norm2(row, dim) + query->norm2);
}

void code_distance8_scalar(const uint8_t *rows, const uint32_t *at, size_t count,
                           const struct code_query8 *query, size_t dim, float *out)
{
    for (size_t i = 0; i < count; i++)
        out[i] = distance_of(rows + at[i] * code_row_size(dim), query, dim);
}

void code_distance8_of_scalar(const uint8_t *const *rows, size_t count,
                              const struct code_query8 *query, size_t dim, float *out)
{
    for (size_t i = 0; i < count; i++)
        out[i] = distance_of(rows[i], query, dim);
}

void code_coarse16_scalar(const uint8_t *packed, size_t blocks, const struct code_query8 *query,
                          size_t dim, float *out)
{
    for (size_t block = 0; block < blocks; block++, packed += code_coarse_size(dim))
        for (size_t j = 0; j < CODE_LISTS; j++) {
            int32_t dot = 0;
            for (size_t i = 0; i < dim; i++)
                dot += (packed[i / 4 * 64 + 4 * j + i % 4] - 128) * query->q8[i];
            float scale, norm2;
            memcpy(&scale, packed + CODE_LISTS * dim + 4 * j, sizeof scale);
            memcpy(&norm2, packed + CODE_LISTS * dim + 64 + 4 * j, sizeof norm2);
            float twice = 2.0f * query->scale * scale;
            out[CODE_LISTS * block + j] = fmaf(-twice, (float)dot, norm2 + query->norm2);
        }
}

uint64_t code_popcount_scalar(const uint64_t *words, size_t count)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += (uint64_t)__builtin_popcountll(words[i]);
    return sum;
}

uint64_t code_popcount_and_scalar(const uint64_t *a, const uint64_t *b, size_t count)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += (uint64_t)__builtin_popcountll(a[i] & b[i]);
    return sum;
}
