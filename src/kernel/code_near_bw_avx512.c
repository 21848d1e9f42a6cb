/* SPDX-License-Identifier: Apache-2.0 */
/* Many queries among many lists with the first generation of AVX-512: products by way of 16 bits. */
#include "kernel/code_v16_avx512.h"

#define NAME(loop)  code_##loop##_avx512bw
#define NEAR_ROWS   8
#define NEAR_BLOCKS 1
#define BIAS        0

typedef struct x64 {
    __m512i magnitude; /* of x - 128 */
    __mmask64 negative;
} x64;

static ALWAYS_INLINE x64 x64_load(const uint8_t *at)
{
    __m512i value = _mm512_xor_si512(_mm512_loadu_si512(at), _mm512_set1_epi8(-128));
    return (x64){_mm512_abs_epi8(value), _mm512_movepi8_mask(value)};
}

/* The sign moves over to the query's bytes; no pair passes 2 * 128 * 127. */
static ALWAYS_INLINE w16 w16_dot(w16 sum, x64 x, int32_t four)
{
    __m512i q = _mm512_set1_epi32(four);
    q = _mm512_mask_sub_epi8(q, x.negative, _mm512_setzero_si512(), q);
    __m512i pairs = _mm512_maddubs_epi16(x.magnitude, q);
    return _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}

#include "kernel/code_near_loops.h"
