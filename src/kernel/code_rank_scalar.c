/* SPDX-License-Identifier: Apache-2.0 */
/* Keys of lists and choosing among them, the specification. */
#include "kernel/code_internal.h"

#include <math.h>

void code_list_keys_scalar(const float *lists, const float *deltas, size_t count,
                           const struct code_keys *how, float *keys, float ret_range[2])
{
    float least = INFINITY, most = -INFINITY;
    for (size_t j = 0; j < count; j++) {
        float delta = deltas[j], spread = lists[4 * j + 3], key = delta + how->weight * spread;
        if (how->reach != 0.0f)
            key -= how->reach * sqrtf((delta > 0.0f ? delta : 0.0f) * spread);
        keys[j] = key;
        least = key < least ? key : least;
        most = key > most ? key : most;
    }
    ret_range[0] = least;
    ret_range[1] = most;
}

void code_count_keys_scalar(const float *keys, size_t count, float least, float scale,
                            uint32_t buckets, uint32_t *counts)
{
    for (size_t j = 0; j < count; j++)
        counts[code_key_bucket(keys[j], least, scale, (float)(buckets - 1))]++;
}

size_t code_keys_upto_scalar(const float *keys, size_t count, float limit, uint32_t *ret_numbers)
{
    size_t found = 0;
    for (size_t j = 0; j < count; j++)
        if (keys[j] <= limit)
            ret_numbers[found++] = (uint32_t)j;
    return found;
}
