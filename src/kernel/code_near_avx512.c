/* SPDX-License-Identifier: Apache-2.0 */
/* Many queries among many lists with AVX-512 VNNI: 64 products an instruction. */
#include "kernel/code_v16_avx512.h"

#define NAME(loop)  code_##loop##_avx512
#define NEAR_ROWS   8
#define NEAR_BLOCKS 3
#define BIAS        128

typedef __m512i x64;

static ALWAYS_INLINE x64 x64_load(const uint8_t *at)
{
    return _mm512_loadu_si512(at);
}

static ALWAYS_INLINE w16 w16_dot(w16 sum, x64 x, int32_t four)
{
    return _mm512_dpbusd_epi32(sum, x, _mm512_set1_epi32(four));
}

#include "kernel/code_near_loops.h"
