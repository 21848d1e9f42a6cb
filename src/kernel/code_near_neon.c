/* SPDX-License-Identifier: Apache-2.0 */
/* Many queries among many lists with Advanced SIMD of the first generation: products of bytes by way of 16 bits. */
#include "kernel/code_v16_neon.h"

#define NAME(loop) code_##loop##_neon

static ALWAYS_INLINE int32x4_t dot4(int32x4_t sum, int8x16_t x, int8x16_t q)
{
    int16x8_t low = vmull_s8(vget_low_s8(x), vget_low_s8(q)), high = vmull_high_s8(x, q);
    return vaddq_s32(sum, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)));
}

#include "kernel/code_near_neon_loops.h"
