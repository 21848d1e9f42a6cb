/* SPDX-License-Identifier: Apache-2.0 */
/* Keys of lists and choosing among them, written once over sixteen lanes.  code_rank_<set>.c first defines NAME(loop) and includes
 * code_v16_<set>.h; what is left of sixteen lanes is done one by one, in the same steps. */
#ifndef KERNEL_CODE_RANK_LOOPS_H
#define KERNEL_CODE_RANK_LOOPS_H

#include <math.h>

void NAME(list_keys)(const float *lists, const float *deltas, size_t count,
                     const struct code_keys *how, float *keys, float ret_range[2])
{
    v16 weight = v16_set1(how->weight), reach = v16_set1(how->reach), zero = v16_set1(0.0f);
    v16 least = v16_set1(INFINITY), most = v16_set1(-INFINITY);
    float ends[2] = {INFINITY, -INFINITY}, lanes[2][16];
    size_t j = 0;
    for (; j + 16 <= count; j += 16) {
        v16 columns[4], delta = v16_load(deltas + j);
        v16_load_groups(lists + 4 * j, columns);
        v16 key = v16_add(delta, v16_mul(weight, columns[3]));
        if (how->reach != 0.0f) {
            v16 both = v16_mul(v16_max(delta, zero), columns[3]);
            key = v16_sub(key, v16_mul(reach, v16_sqrt(both)));
        }
        v16_store(keys + j, key);
        least = v16_min(key, least);
        most = v16_max(key, most);
    }
    for (; j < count; j++) {
        float delta = deltas[j], spread = lists[4 * j + 3];
        keys[j] = delta + how->weight * spread;
        if (how->reach != 0.0f)
            keys[j] -= how->reach * sqrtf((delta > 0.0f ? delta : 0.0f) * spread);
        ends[0] = keys[j] < ends[0] ? keys[j] : ends[0];
        ends[1] = keys[j] > ends[1] ? keys[j] : ends[1];
    }
    v16_store(lanes[0], least);
    v16_store(lanes[1], most);
    for (size_t i = 0; i < 16; i++) {
        ends[0] = lanes[0][i] < ends[0] ? lanes[0][i] : ends[0];
        ends[1] = lanes[1][i] > ends[1] ? lanes[1][i] : ends[1];
    }
    memcpy(ret_range, ends, sizeof ends);
}

void NAME(count_keys)(const float *keys, size_t count, float least, float scale, uint32_t buckets,
                      uint32_t *counts)
{
    float last = (float)(buckets - 1);
    v16 all_least = v16_set1(least), all_scale = v16_set1(scale), all_last = v16_set1(last);
    size_t j = 0;
    for (; j + 16 <= count; j += 16) {
        v16 place = v16_mul(v16_sub(v16_load(keys + j), all_least), all_scale);
        int32_t at[16];
        w16_store(at, w16_round(v16_max(v16_min(place, all_last), v16_set1(0.0f))));
        for (size_t i = 0; i < 16; i++)
            counts[at[i]]++;
    }
    for (; j < count; j++)
        counts[code_key_bucket(keys[j], least, scale, last)]++;
}

size_t NAME(keys_upto)(const float *keys, size_t count, float limit, uint32_t *ret_numbers)
{
    v16 all = v16_set1(limit);
    size_t found = 0, j = 0;
    for (; j + 16 <= count; j += 16)
        for (uint32_t in = v16_upto(v16_load(keys + j), all); in; in &= in - 1)
            ret_numbers[found++] = (uint32_t)j + (uint32_t)__builtin_ctz(in);
    for (; j < count; j++)
        if (keys[j] <= limit)
            ret_numbers[found++] = (uint32_t)j;
    return found;
}
#endif
