/* SPDX-License-Identifier: Apache-2.0 */
/* Scanning codes with Advanced SIMD of the first generation: sums and products of bytes by way of 16 bits. */
#include "kernel/code_internal.h"

#include <arm_neon.h>

#define NAME(loop) code_##loop##_neon

static ALWAYS_INLINE uint32x4_t sum4(uint32x4_t sum, uint8x16_t bytes)
{
    return vpadalq_u16(sum, vpaddlq_u8(bytes));
}

static ALWAYS_INLINE int32x4_t dot4(int32x4_t sum, int8x16_t x, int8x16_t q)
{
    int16x8_t low = vmull_s8(vget_low_s8(x), vget_low_s8(q)), high = vmull_high_s8(x, q);
    return vaddq_s32(sum, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)));
}

#include "kernel/code_scan_neon_loops.h"

uint64_t code_popcount_neon(const uint64_t *words, size_t count)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += vaddv_u8(vcnt_u8(vcreate_u8(words[i])));
    return sum;
}

uint64_t code_popcount_and_neon(const uint64_t *a, const uint64_t *b, size_t count)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += vaddv_u8(vcnt_u8(vcreate_u8(a[i] & b[i])));
    return sum;
}
