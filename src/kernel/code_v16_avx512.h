/* SPDX-License-Identifier: Apache-2.0 */
/* Sixteen f32 (v16) or i32 (w16) lanes in one AVX-512 register; the steps that code_make_loops.h and code_float_loops.h
 * are written in. */
#ifndef KERNEL_CODE_V16_AVX512_H
#define KERNEL_CODE_V16_AVX512_H

#include "kernel/code_internal.h"

#include <immintrin.h>

typedef __m512 v16;
typedef __m512i w16;

static ALWAYS_INLINE v16 v16_set1(float x)
{
    return _mm512_set1_ps(x);
}
static ALWAYS_INLINE v16 v16_load(const float *at)
{
    return _mm512_loadu_ps(at);
}
static ALWAYS_INLINE void v16_store(float *at, v16 x)
{
    _mm512_storeu_ps(at, x);
}
static ALWAYS_INLINE v16 v16_add(v16 a, v16 b)
{
    return _mm512_add_ps(a, b);
}
static ALWAYS_INLINE v16 v16_sub(v16 a, v16 b)
{
    return _mm512_sub_ps(a, b);
}
static ALWAYS_INLINE v16 v16_mul(v16 a, v16 b)
{
    return _mm512_mul_ps(a, b);
}
static ALWAYS_INLINE v16 v16_fma(v16 a, v16 b, v16 sum)
{
    return _mm512_fmadd_ps(a, b, sum);
}
static ALWAYS_INLINE v16 v16_max(v16 a, v16 b)
{
    return _mm512_max_ps(a, b);
}
static ALWAYS_INLINE v16 v16_min(v16 a, v16 b)
{
    return _mm512_min_ps(a, b);
}
static ALWAYS_INLINE v16 v16_abs(v16 a)
{
    return _mm512_abs_ps(a);
}
static ALWAYS_INLINE float v16_largest(v16 a)
{
    return _mm512_reduce_max_ps(a);
}
static ALWAYS_INLINE float v16_sum(v16 sum)
{
    __m256 t = _mm256_add_ps(_mm512_castps512_ps256(sum), _mm512_extractf32x8_ps(sum, 1));
    __m128 u = _mm_add_ps(_mm256_castps256_ps128(t), _mm256_extractf128_ps(t, 1));
    __m128 v = _mm_add_ps(u, _mm_movehl_ps(u, u));
    return _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)));
}
/* Bit i: lane i >= 0. */
static ALWAYS_INLINE uint32_t v16_not_negative(v16 a)
{
    return _mm512_cmp_ps_mask(a, _mm512_setzero_ps(), _CMP_GE_OQ);
}
/* Bit i: lane i of a <= that of b. */
static ALWAYS_INLINE uint32_t v16_upto(v16 a, v16 b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ);
}
static ALWAYS_INLINE v16 v16_sqrt(v16 a)
{
    return _mm512_sqrt_ps(a);
}
/* Lanes whose bit is set change their sign. */
static ALWAYS_INLINE v16 v16_negate(v16 a, uint32_t bits)
{
    return _mm512_mask_xor_ps(a, (__mmask16)bits, a, _mm512_set1_ps(-0.0f));
}
/* Butterfly with the lane 1, 2, 4 or 8 away: sum in the lower lane, difference in the upper. */
static ALWAYS_INLINE v16 v16_butterfly(v16 a, int stride)
{
    __m512 other, sign; /* other + sign * a rounds once, as other +- a does */
    const __m512 s1 = _mm512_setr_ps(1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1);
    const __m512 s2 = _mm512_setr_ps(1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1);
    const __m512 s4 = _mm512_setr_ps(1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 1, -1, -1, -1, -1);
    const __m512 s8 = _mm512_setr_ps(1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1, -1);
    switch (stride) {
    case 1:
        other = _mm512_permute_ps(a, 0xb1); /* 1 0 3 2 */
        sign = s1;
        break;
    case 2:
        other = _mm512_permute_ps(a, 0x4e); /* 2 3 0 1 */
        sign = s2;
        break;
    case 4:
        other = _mm512_shuffle_f32x4(a, a, 0xb1);
        sign = s4;
        break;
    default:
        other = _mm512_shuffle_f32x4(a, a, 0x4e);
        sign = s8;
    }
    return _mm512_fmadd_ps(a, sign, other);
}
/* Of sixteen groups of four floats: out[t] lane m = q[4m+t]. */
static ALWAYS_INLINE void v16_load_groups(const float *q, v16 out[4])
{
    const __m512i even =
        _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 1, 5, 9, 13, 17, 21, 25, 29);
    const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(2));
    __m512 a = v16_load(q), b = v16_load(q + 16), c = v16_load(q + 32), d = v16_load(q + 48);
    __m512 low01 = _mm512_permutex2var_ps(a, even, b), high01 = _mm512_permutex2var_ps(c, even, d);
    __m512 low23 = _mm512_permutex2var_ps(a, odd, b), high23 = _mm512_permutex2var_ps(c, odd, d);
    out[0] = _mm512_shuffle_f32x4(low01, high01, 0x44);
    out[1] = _mm512_shuffle_f32x4(low01, high01, 0xee);
    out[2] = _mm512_shuffle_f32x4(low23, high23, 0x44);
    out[3] = _mm512_shuffle_f32x4(low23, high23, 0xee);
}

static ALWAYS_INLINE w16 w16_round(v16 a)
{
    return _mm512_cvtps_epi32(a);
}
static ALWAYS_INLINE v16 w16_float(w16 a)
{
    return _mm512_cvtepi32_ps(a);
}
static ALWAYS_INLINE w16 w16_zero(void)
{
    return _mm512_setzero_si512();
}
static ALWAYS_INLINE w16 w16_set1(int32_t x)
{
    return _mm512_set1_epi32(x);
}
static ALWAYS_INLINE w16 w16_add(w16 a, w16 b)
{
    return _mm512_add_epi32(a, b);
}
static ALWAYS_INLINE int32_t w16_sum(w16 a)
{
    return _mm512_reduce_add_epi32(a);
}
/* One byte of each of four: bits 0-7 of a, b, c, d in this order. */
static ALWAYS_INLINE w16 w16_join(w16 a, w16 b, w16 c, w16 d)
{
    __m512i ab = _mm512_or_si512(a, _mm512_slli_epi32(b, 8));
    return _mm512_or_si512(ab, _mm512_slli_epi32(_mm512_or_si512(c, _mm512_slli_epi32(d, 8)), 16));
}
/* The lanes' lower bytes, side by side. */
static ALWAYS_INLINE void w16_store_bytes(void *at, w16 a)
{
    _mm_storeu_si128(at, _mm512_cvtepi32_epi8(a));
}
/* Sixteen bytes, less 128. */
static ALWAYS_INLINE v16 v16_load_code(const uint8_t *at)
{
    __m128i bytes = _mm_xor_si128(_mm_loadu_si128((const void *)at), _mm_set1_epi8(-128));
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
}
/* Sixteen groups of 16 bytes: of group m the lanes m of w[0..3]. */
static ALWAYS_INLINE void w16_store_groups(uint8_t *at, const w16 w[4])
{
    __m512i low01 = _mm512_unpacklo_epi32(w[0], w[1]), high01 = _mm512_unpackhi_epi32(w[0], w[1]);
    __m512i low23 = _mm512_unpacklo_epi32(w[2], w[3]), high23 = _mm512_unpackhi_epi32(w[2], w[3]);
    __m512i r[4] = {_mm512_unpacklo_epi64(low01, low23), _mm512_unpackhi_epi64(low01, low23),
                    _mm512_unpacklo_epi64(high01, high23), _mm512_unpackhi_epi64(high01, high23)};
    for (int j = 0; j < 4; j++) { /* lane L of r[j]: group 4L + j */
        _mm_storeu_si128((void *)(at + 16 * j), _mm512_castsi512_si128(r[j]));
        _mm_storeu_si128((void *)(at + 16 * j + 64), _mm512_extracti32x4_epi32(r[j], 1));
        _mm_storeu_si128((void *)(at + 16 * j + 128), _mm512_extracti32x4_epi32(r[j], 2));
        _mm_storeu_si128((void *)(at + 16 * j + 192), _mm512_extracti32x4_epi32(r[j], 3));
    }
}
/* Where a < b: a into best and i into index. */
static ALWAYS_INLINE void v16_keep_less(v16 *best, w16 *index, v16 a, int32_t i)
{
    __mmask16 less = _mm512_cmp_ps_mask(a, *best, _CMP_LT_OQ);
    *best = _mm512_mask_mov_ps(*best, less, a);
    *index = _mm512_mask_mov_epi32(*index, less, _mm512_set1_epi32(i));
}
static ALWAYS_INLINE w16 w16_load(const int32_t *at)
{
    return _mm512_loadu_si512(at);
}
static ALWAYS_INLINE void w16_store(int32_t *at, w16 a)
{
    _mm512_storeu_si512(at, a);
}
#endif
