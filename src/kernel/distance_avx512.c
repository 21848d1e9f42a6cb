/* SPDX-License-Identifier: Apache-2.0 */
/* Distances with AVX-512: sixteen strides are one register, tails are masked. */
#include "kernel/kernel_internal.h"

#include <immintrin.h>

#define ROWS_IN_FLIGHT 8
#define NAME(loop)     kernel_##loop##_avx512

typedef __m512 v16;
typedef struct d16 {
    __m512d low, high;
} d16;

static ALWAYS_INLINE __mmask16 lanes_below(size_t n)
{
    return (__mmask16)((1u << n) - 1);
}

static ALWAYS_INLINE v16 v16_zero(void)
{
    return _mm512_setzero_ps();
}
static ALWAYS_INLINE v16 v16_load(const float *at)
{
    return _mm512_loadu_ps(at);
}
static ALWAYS_INLINE v16 v16_load_part(const float *at, size_t n)
{
    return _mm512_maskz_loadu_ps(lanes_below(n), at);
}
static ALWAYS_INLINE v16 v16_sub(v16 a, v16 b)
{
    return _mm512_sub_ps(a, b);
}
static ALWAYS_INLINE v16 v16_fma(v16 a, v16 b, v16 sum)
{
    return _mm512_fmadd_ps(a, b, sum);
}
static ALWAYS_INLINE v16 v16_fma_part(v16 a, v16 b, v16 sum, size_t n)
{
    return _mm512_mask3_fmadd_ps(a, b, sum, lanes_below(n));
}
static ALWAYS_INLINE float v16_sum(v16 sum)
{
    __m256 t = _mm256_add_ps(_mm512_castps512_ps256(sum), _mm512_extractf32x8_ps(sum, 1));
    __m128 u = _mm_add_ps(_mm256_castps256_ps128(t), _mm256_extractf128_ps(t, 1));
    __m128 v = _mm_add_ps(u, _mm_movehl_ps(u, u));
    return _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)));
}

static ALWAYS_INLINE d16 d16_zero(void)
{
    return (d16){_mm512_setzero_pd(), _mm512_setzero_pd()};
}
static ALWAYS_INLINE d16 d16_of(v16 all)
{
    return (d16){_mm512_cvtps_pd(_mm512_castps512_ps256(all)),
                 _mm512_cvtps_pd(_mm512_extractf32x8_ps(all, 1))};
}
static ALWAYS_INLINE d16 d16_load(const float *at)
{
    return d16_of(v16_load(at));
}
static ALWAYS_INLINE d16 d16_load_part(const float *at, size_t n)
{
    return d16_of(v16_load_part(at, n));
}
static ALWAYS_INLINE d16 d16_sub(d16 a, d16 b)
{
    return (d16){_mm512_sub_pd(a.low, b.low), _mm512_sub_pd(a.high, b.high)};
}
static ALWAYS_INLINE d16 d16_fma(d16 a, d16 b, d16 sum)
{
    return (d16){_mm512_fmadd_pd(a.low, b.low, sum.low), _mm512_fmadd_pd(a.high, b.high, sum.high)};
}
static ALWAYS_INLINE d16 d16_fma_part(d16 a, d16 b, d16 sum, size_t n)
{
    __mmask16 lanes = lanes_below(n);
    return (d16){_mm512_mask3_fmadd_pd(a.low, b.low, sum.low, (__mmask8)lanes),
                 _mm512_mask3_fmadd_pd(a.high, b.high, sum.high, (__mmask8)(lanes >> 8))};
}
static ALWAYS_INLINE float d16_sum(d16 sum)
{
    __m512d t = _mm512_add_pd(sum.low, sum.high);
    __m256d u = _mm256_add_pd(_mm512_castpd512_pd256(t), _mm512_extractf64x4_pd(t, 1));
    __m128d v = _mm_add_pd(_mm256_castpd256_pd128(u), _mm256_extractf128_pd(u, 1));
    return (float)_mm_cvtsd_f64(_mm_add_sd(v, _mm_unpackhi_pd(v, v)));
}

#include "kernel/distance_loops.h"
