/* SPDX-License-Identifier: Apache-2.0 */
/* Sixteen f32 (v16) or i32 (w16) lanes in two AVX2 registers; what each step does says code_v16_avx512.h. */
#ifndef KERNEL_CODE_V16_AVX2_H
#define KERNEL_CODE_V16_AVX2_H

#include "kernel/code_internal.h"

#include <immintrin.h>

typedef struct v16 {
    __m256 low, high;
} v16;
typedef struct w16 {
    __m256i low, high;
} w16;

static ALWAYS_INLINE v16 v16_set1(float x)
{
    return (v16){_mm256_set1_ps(x), _mm256_set1_ps(x)};
}
static ALWAYS_INLINE v16 v16_load(const float *at)
{
    return (v16){_mm256_loadu_ps(at), _mm256_loadu_ps(at + 8)};
}
static ALWAYS_INLINE void v16_store(float *at, v16 x)
{
    _mm256_storeu_ps(at, x.low);
    _mm256_storeu_ps(at + 8, x.high);
}
static ALWAYS_INLINE v16 v16_add(v16 a, v16 b)
{
    return (v16){_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
}
static ALWAYS_INLINE v16 v16_sub(v16 a, v16 b)
{
    return (v16){_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)};
}
static ALWAYS_INLINE v16 v16_mul(v16 a, v16 b)
{
    return (v16){_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
}
static ALWAYS_INLINE v16 v16_fma(v16 a, v16 b, v16 sum)
{
    return (v16){_mm256_fmadd_ps(a.low, b.low, sum.low), _mm256_fmadd_ps(a.high, b.high, sum.high)};
}
static ALWAYS_INLINE v16 v16_max(v16 a, v16 b)
{
    return (v16){_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)};
}
static ALWAYS_INLINE v16 v16_min(v16 a, v16 b)
{
    return (v16){_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)};
}
static ALWAYS_INLINE v16 v16_abs(v16 a)
{
    __m256 sign = _mm256_set1_ps(-0.0f);
    return (v16){_mm256_andnot_ps(sign, a.low), _mm256_andnot_ps(sign, a.high)};
}
static ALWAYS_INLINE float v16_largest(v16 a)
{
    __m256 t = _mm256_max_ps(a.low, a.high);
    __m128 u = _mm_max_ps(_mm256_castps256_ps128(t), _mm256_extractf128_ps(t, 1));
    __m128 v = _mm_max_ps(u, _mm_movehl_ps(u, u));
    return _mm_cvtss_f32(_mm_max_ss(v, _mm_movehdup_ps(v)));
}
static ALWAYS_INLINE float v16_sum(v16 sum)
{
    __m256 t = _mm256_add_ps(sum.low, sum.high);
    __m128 u = _mm_add_ps(_mm256_castps256_ps128(t), _mm256_extractf128_ps(t, 1));
    __m128 v = _mm_add_ps(u, _mm_movehl_ps(u, u));
    return _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)));
}
static ALWAYS_INLINE uint32_t v16_not_negative(v16 a)
{
    __m256 zero = _mm256_setzero_ps();
    int low = _mm256_movemask_ps(_mm256_cmp_ps(a.low, zero, _CMP_GE_OQ));
    int high = _mm256_movemask_ps(_mm256_cmp_ps(a.high, zero, _CMP_GE_OQ));
    return (uint32_t)(low | high << 8);
}
static ALWAYS_INLINE uint32_t v16_upto(v16 a, v16 b)
{
    int low = _mm256_movemask_ps(_mm256_cmp_ps(a.low, b.low, _CMP_LE_OQ));
    int high = _mm256_movemask_ps(_mm256_cmp_ps(a.high, b.high, _CMP_LE_OQ));
    return (uint32_t)(low | high << 8);
}
static ALWAYS_INLINE v16 v16_sqrt(v16 a)
{
    return (v16){_mm256_sqrt_ps(a.low), _mm256_sqrt_ps(a.high)};
}
/* The sign bit in lane i if bit i is set. */
static ALWAYS_INLINE __m256 signs_of(uint32_t bits)
{
    const __m256i up = _mm256_setr_epi32(31, 30, 29, 28, 27, 26, 25, 24);
    __m256i all = _mm256_sllv_epi32(_mm256_set1_epi32((int)bits), up);
    return _mm256_and_ps(_mm256_castsi256_ps(all), _mm256_set1_ps(-0.0f));
}
static ALWAYS_INLINE v16 v16_negate(v16 a, uint32_t bits)
{
    return (v16){_mm256_xor_ps(a.low, signs_of(bits)), _mm256_xor_ps(a.high, signs_of(bits >> 8))};
}
static ALWAYS_INLINE __m256 butterfly_half(__m256 a, int stride)
{
    const __m256 s1 = _mm256_setr_ps(1, -1, 1, -1, 1, -1, 1, -1);
    const __m256 s2 = _mm256_setr_ps(1, 1, -1, -1, 1, 1, -1, -1);
    const __m256 s4 = _mm256_setr_ps(1, 1, 1, 1, -1, -1, -1, -1);
    if (stride == 1)
        return _mm256_fmadd_ps(a, s1, _mm256_permute_ps(a, 0xb1));
    if (stride == 2)
        return _mm256_fmadd_ps(a, s2, _mm256_permute_ps(a, 0x4e));
    return _mm256_fmadd_ps(a, s4, _mm256_permute2f128_ps(a, a, 1));
}
static ALWAYS_INLINE v16 v16_butterfly(v16 a, int stride)
{
    if (stride == 8)
        return (v16){_mm256_add_ps(a.low, a.high), _mm256_sub_ps(a.low, a.high)};
    return (v16){butterfly_half(a.low, stride), butterfly_half(a.high, stride)};
}
static ALWAYS_INLINE __m256 load_pair(const float *low, const float *high)
{
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(low)), _mm_loadu_ps(high), 1);
}
static ALWAYS_INLINE void v16_load_groups(const float *q, v16 out[4])
{
    __m256 columns[2][4];
    for (int half = 0; half < 2; half++, q += 32) {
        __m256 a = load_pair(q, q + 16), b = load_pair(q + 4, q + 20);
        __m256 c = load_pair(q + 8, q + 24), d = load_pair(q + 12, q + 28);
        __m256 ab01 = _mm256_unpacklo_ps(a, b), ab23 = _mm256_unpackhi_ps(a, b);
        __m256 cd01 = _mm256_unpacklo_ps(c, d), cd23 = _mm256_unpackhi_ps(c, d);
        columns[half][0] = _mm256_shuffle_ps(ab01, cd01, 0x44);
        columns[half][1] = _mm256_shuffle_ps(ab01, cd01, 0xee);
        columns[half][2] = _mm256_shuffle_ps(ab23, cd23, 0x44);
        columns[half][3] = _mm256_shuffle_ps(ab23, cd23, 0xee);
    }
    for (int t = 0; t < 4; t++)
        out[t] = (v16){columns[0][t], columns[1][t]};
}

static ALWAYS_INLINE w16 w16_round(v16 a)
{
    return (w16){_mm256_cvtps_epi32(a.low), _mm256_cvtps_epi32(a.high)};
}
static ALWAYS_INLINE v16 w16_float(w16 a)
{
    return (v16){_mm256_cvtepi32_ps(a.low), _mm256_cvtepi32_ps(a.high)};
}
static ALWAYS_INLINE w16 w16_zero(void)
{
    return (w16){_mm256_setzero_si256(), _mm256_setzero_si256()};
}
static ALWAYS_INLINE w16 w16_set1(int32_t x)
{
    return (w16){_mm256_set1_epi32(x), _mm256_set1_epi32(x)};
}
static ALWAYS_INLINE w16 w16_add(w16 a, w16 b)
{
    return (w16){_mm256_add_epi32(a.low, b.low), _mm256_add_epi32(a.high, b.high)};
}
static ALWAYS_INLINE int32_t w16_sum(w16 a)
{
    __m256i t = _mm256_add_epi32(a.low, a.high);
    __m128i u = _mm_add_epi32(_mm256_castsi256_si128(t), _mm256_extracti128_si256(t, 1));
    __m128i v = _mm_add_epi32(u, _mm_unpackhi_epi64(u, u));
    return _mm_cvtsi128_si32(_mm_add_epi32(v, _mm_shuffle_epi32(v, 1)));
}
static ALWAYS_INLINE __m256i join_half(__m256i a, __m256i b, __m256i c, __m256i d)
{
    __m256i ab = _mm256_or_si256(a, _mm256_slli_epi32(b, 8));
    return _mm256_or_si256(ab, _mm256_slli_epi32(_mm256_or_si256(c, _mm256_slli_epi32(d, 8)), 16));
}
static ALWAYS_INLINE w16 w16_join(w16 a, w16 b, w16 c, w16 d)
{
    return (w16){join_half(a.low, b.low, c.low, d.low), join_half(a.high, b.high, c.high, d.high)};
}
static ALWAYS_INLINE void w16_store_bytes(void *at, w16 a)
{
    const __m256i lowest = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1));
    __m256i both = _mm256_unpacklo_epi32(_mm256_shuffle_epi8(a.low, lowest),
                                         _mm256_shuffle_epi8(a.high, lowest));
    __m128i first = _mm256_castsi256_si128(both), second = _mm256_extracti128_si256(both, 1);
    _mm_storeu_si128(at, _mm_unpacklo_epi32(first, second));
}
static ALWAYS_INLINE v16 v16_load_code(const uint8_t *at)
{
    __m128i bytes = _mm_xor_si128(_mm_loadu_si128((const void *)at), _mm_set1_epi8(-128));
    return (v16){_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)),
                 _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_unpackhi_epi64(bytes, bytes)))};
}
static ALWAYS_INLINE void store_groups_half(uint8_t *at, __m256i a, __m256i b, __m256i c, __m256i d)
{
    __m256i ab01 = _mm256_unpacklo_epi32(a, b), ab23 = _mm256_unpackhi_epi32(a, b);
    __m256i cd01 = _mm256_unpacklo_epi32(c, d), cd23 = _mm256_unpackhi_epi32(c, d);
    __m256i r[4] = {_mm256_unpacklo_epi64(ab01, cd01), _mm256_unpackhi_epi64(ab01, cd01),
                    _mm256_unpacklo_epi64(ab23, cd23), _mm256_unpackhi_epi64(ab23, cd23)};
    for (int j = 0; j < 4; j++) {
        _mm_storeu_si128((void *)(at + 16 * j), _mm256_castsi256_si128(r[j]));
        _mm_storeu_si128((void *)(at + 16 * j + 64), _mm256_extracti128_si256(r[j], 1));
    }
}
static ALWAYS_INLINE void w16_store_groups(uint8_t *at, const w16 w[4])
{
    store_groups_half(at, w[0].low, w[1].low, w[2].low, w[3].low);
    store_groups_half(at + 128, w[0].high, w[1].high, w[2].high, w[3].high);
}
static ALWAYS_INLINE void keep_less_half(__m256 *best, __m256i *index, __m256 a, int32_t i)
{
    __m256 less = _mm256_cmp_ps(a, *best, _CMP_LT_OQ);
    *best = _mm256_blendv_ps(*best, a, less);
    *index = _mm256_blendv_epi8(*index, _mm256_set1_epi32(i), _mm256_castps_si256(less));
}
static ALWAYS_INLINE void v16_keep_less(v16 *best, w16 *index, v16 a, int32_t i)
{
    keep_less_half(&best->low, &index->low, a.low, i);
    keep_less_half(&best->high, &index->high, a.high, i);
}
static ALWAYS_INLINE w16 w16_load(const int32_t *at)
{
    return (w16){_mm256_loadu_si256((const void *)at), _mm256_loadu_si256((const void *)(at + 8))};
}
static ALWAYS_INLINE void w16_store(int32_t *at, w16 a)
{
    _mm256_storeu_si256((void *)at, a.low);
    _mm256_storeu_si256((void *)(at + 8), a.high);
}
#endif
