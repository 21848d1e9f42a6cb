/* SPDX-License-Identifier: Apache-2.0 */
/* Many queries among many lists with Advanced SIMD and its dot products of bytes (ARMv8.2). */
#include "kernel/code_v16_neon.h"

#define NAME(loop) code_##loop##_neondot

static ALWAYS_INLINE int32x4_t dot4(int32x4_t sum, int8x16_t x, int8x16_t q)
{
    return vdotq_s32(sum, x, q);
}

#include "kernel/code_near_neon_loops.h"
