/* SPDX-License-Identifier: Apache-2.0 */
/* Distances with AVX2 and FMA: sixteen strides are two registers. */
#include "kernel/kernel_internal.h"

#include <immintrin.h>

#define ROWS_IN_FLIGHT 4
#define NAME(loop)     kernel_##loop##_avx2

typedef struct v16 {
    __m256 low, high;
} v16;
typedef struct d16 {
    __m256d quarter[4];
} d16;

/* All ones in the lanes from `first` on that are below n. */
static ALWAYS_INLINE __m256i lanes_below(size_t n, int first)
{
    __m256i lane =
        _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(first));
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), lane);
}

static ALWAYS_INLINE v16 v16_zero(void)
{
    return (v16){_mm256_setzero_ps(), _mm256_setzero_ps()};
}
static ALWAYS_INLINE v16 v16_load(const float *at)
{
    return (v16){_mm256_loadu_ps(at), _mm256_loadu_ps(at + 8)};
}
static ALWAYS_INLINE v16 v16_load_part(const float *at, size_t n)
{
    return (v16){_mm256_maskload_ps(at, lanes_below(n, 0)),
                 _mm256_maskload_ps(at + 8, lanes_below(n, 8))};
}
static ALWAYS_INLINE v16 v16_sub(v16 a, v16 b)
{
    return (v16){_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)};
}
static ALWAYS_INLINE v16 v16_fma(v16 a, v16 b, v16 sum)
{
    return (v16){_mm256_fmadd_ps(a.low, b.low, sum.low), _mm256_fmadd_ps(a.high, b.high, sum.high)};
}
static ALWAYS_INLINE v16 v16_fma_part(v16 a, v16 b, v16 sum, size_t n)
{
    v16 all = v16_fma(a, b, sum);
    return (v16){_mm256_blendv_ps(sum.low, all.low, _mm256_castsi256_ps(lanes_below(n, 0))),
                 _mm256_blendv_ps(sum.high, all.high, _mm256_castsi256_ps(lanes_below(n, 8)))};
}
static ALWAYS_INLINE float v16_sum(v16 sum)
{
    __m256 t = _mm256_add_ps(sum.low, sum.high);
    __m128 u = _mm_add_ps(_mm256_castps256_ps128(t), _mm256_extractf128_ps(t, 1));
    __m128 v = _mm_add_ps(u, _mm_movehl_ps(u, u));
    return _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)));
}

static ALWAYS_INLINE d16 d16_zero(void)
{
    __m256d zero = _mm256_setzero_pd();
    return (d16){{zero, zero, zero, zero}};
}
static ALWAYS_INLINE d16 d16_of(v16 all)
{
    return (d16){{_mm256_cvtps_pd(_mm256_castps256_ps128(all.low)),
                  _mm256_cvtps_pd(_mm256_extractf128_ps(all.low, 1)),
                  _mm256_cvtps_pd(_mm256_castps256_ps128(all.high)),
                  _mm256_cvtps_pd(_mm256_extractf128_ps(all.high, 1))}};
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
    for (int i = 0; i < 4; i++)
        a.quarter[i] = _mm256_sub_pd(a.quarter[i], b.quarter[i]);
    return a;
}
static ALWAYS_INLINE d16 d16_fma(d16 a, d16 b, d16 sum)
{
    for (int i = 0; i < 4; i++)
        sum.quarter[i] = _mm256_fmadd_pd(a.quarter[i], b.quarter[i], sum.quarter[i]);
    return sum;
}
static ALWAYS_INLINE d16 d16_fma_part(d16 a, d16 b, d16 sum, size_t n)
{
    d16 all = d16_fma(a, b, sum);
    for (int i = 0; i < 4; i++) {
        __m128i lane = _mm_add_epi32(_mm_setr_epi32(0, 1, 2, 3), _mm_set1_epi32(4 * i));
        __m256i below = _mm256_cvtepi32_epi64(_mm_cmpgt_epi32(_mm_set1_epi32((int)n), lane));
        sum.quarter[i] =
            _mm256_blendv_pd(sum.quarter[i], all.quarter[i], _mm256_castsi256_pd(below));
    }
    return sum;
}
static ALWAYS_INLINE float d16_sum(d16 sum)
{
    __m256d u = _mm256_add_pd(_mm256_add_pd(sum.quarter[0], sum.quarter[2]),
                              _mm256_add_pd(sum.quarter[1], sum.quarter[3]));
    __m128d v = _mm_add_pd(_mm256_castpd256_pd128(u), _mm256_extractf128_pd(u, 1));
    return (float)_mm_cvtsd_f64(_mm_add_sd(v, _mm_unpackhi_pd(v, v)));
}

#include "kernel/distance_loops.h"
