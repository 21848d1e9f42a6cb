/* SPDX-License-Identifier: Apache-2.0 */
/* Many queries among many lists with AVX2: products by way of 16 bits. */
#include "kernel/code_v16_avx2.h"

#define NAME(loop)  code_##loop##_avx2
#define NEAR_ROWS   4
#define NEAR_BLOCKS 1
#define BIAS        0

typedef struct x64 {
    __m256i low, high; /* x - 128 */
} x64;

static ALWAYS_INLINE x64 x64_load(const uint8_t *at)
{
    const __m256i middle = _mm256_set1_epi8(-128);
    return (x64){_mm256_xor_si256(_mm256_loadu_si256((const void *)at), middle),
                 _mm256_xor_si256(_mm256_loadu_si256((const void *)(at + 32)), middle)};
}

/* The magnitude of one by the other with its sign; no pair passes 2 * 128 * 127. */
static ALWAYS_INLINE __m256i dot_half(__m256i sum, __m256i x, __m256i q)
{
    __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(x), _mm256_sign_epi8(q, x));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

static ALWAYS_INLINE w16 w16_dot(w16 sum, x64 x, int32_t four)
{
    __m256i q = _mm256_set1_epi32(four);
    return (w16){dot_half(sum.low, x.low, q), dot_half(sum.high, x.high, q)};
}

#include "kernel/code_near_loops.h"
