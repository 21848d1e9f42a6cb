/* SPDX-License-Identifier: Apache-2.0 */
/* Many queries among many lists, the specification. */
#include "kernel/code_internal.h"

void code_coarse16_rows_scalar(const uint8_t *packed, size_t blocks,
                               const struct code_query8 *queries, size_t count, size_t dim,
                               float *out)
{
    for (size_t i = 0; i < count; i++)
        code_coarse16_scalar(packed, blocks, &queries[i], dim, out + CODE_LISTS * blocks * i);
}

void code_nearest16_scalar(const uint8_t *packed, size_t blocks, const struct code_query8 *queries,
                           size_t count, size_t dim, uint32_t base, uint32_t *best_index,
                           float *best_distance)
{
    for (size_t i = 0; i < count; i++)
        for (size_t block = 0; block < blocks; block++) {
            float distances[CODE_LISTS];
            code_coarse16_scalar(packed + block * code_coarse_size(dim), 1, &queries[i], dim,
                                 distances);
            for (size_t j = 0; j < CODE_LISTS; j++) {
                uint32_t index = base + (uint32_t)(CODE_LISTS * block + j);
                if (!(distances[j] < INFINITY) || distances[j] > best_distance[i] ||
                    (distances[j] == best_distance[i] && index >= best_index[i]))
                    continue;
                best_distance[i] = distances[j];
                best_index[i] = index;
            }
        }
}
