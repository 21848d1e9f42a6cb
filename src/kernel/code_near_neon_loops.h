/* SPDX-License-Identifier: Apache-2.0 */
/* Many queries among many lists with Advanced SIMD; the including file defines NAME(loop) and dot4(sum, x, q): add the four products s8 * s8
 * of each 32-bit lane. */
#ifndef KERNEL_CODE_NEAR_NEON_LOOPS_H
#define KERNEL_CODE_NEAR_NEON_LOOPS_H

#define NEAR_ROWS   4
#define NEAR_BLOCKS 1
#define BIAS        0

typedef struct x64 {
    int8x16_t quarter[4]; /* x - 128 */
} x64;

static ALWAYS_INLINE x64 x64_load(const uint8_t *at)
{
    x64 x;
    for (int i = 0; i < 4; i++)
        x.quarter[i] = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(at + 16 * i), vdupq_n_u8(128)));
    return x;
}

static ALWAYS_INLINE w16 w16_dot(w16 sum, x64 x, int32_t four)
{
    int8x16_t q = vreinterpretq_s8_s32(vdupq_n_s32(four));
    for (int i = 0; i < 4; i++)
        sum.quarter[i] = dot4(sum.quarter[i], x.quarter[i], q);
    return sum;
}

#include "kernel/code_near_loops.h"
#endif
