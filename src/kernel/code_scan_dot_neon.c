/* SPDX-License-Identifier: Apache-2.0 */
/* Scanning codes with Advanced SIMD and its dot products of bytes (ARMv8.2). */
#include "kernel/code_internal.h"

#include <arm_neon.h>

#define NAME(loop) code_##loop##_neondot

static ALWAYS_INLINE uint32x4_t sum4(uint32x4_t sum, uint8x16_t bytes)
{
    return vdotq_u32(sum, bytes, vdupq_n_u8(1));
}

static ALWAYS_INLINE int32x4_t dot4(int32x4_t sum, int8x16_t x, int8x16_t q)
{
    return vdotq_s32(sum, x, q);
}

#include "kernel/code_scan_neon_loops.h"

uint64_t code_popcount_neondot(const uint64_t *words, size_t count)
{
    return code_popcount_neon(words, count);
}

uint64_t code_popcount_and_neondot(const uint64_t *a, const uint64_t *b, size_t count)
{
    return code_popcount_and_neon(a, b, count);
}
