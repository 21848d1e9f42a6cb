/* SPDX-License-Identifier: Apache-2.0 */
/* What both generations of AVX-512 share: 32 sums in two registers, and what is done with them. */
#ifndef KERNEL_CODE_SCAN_AVX512_H
#define KERNEL_CODE_SCAN_AVX512_H

#include "kernel/code_internal.h"

#include <immintrin.h>

struct acc32 {
    __m512i low, high; /* rows 0-15, 16-31 */
};

static ALWAYS_INLINE void acc_store(struct acc32 acc, int32_t out[32])
{
    _mm512_storeu_si512(out, acc.low);
    _mm512_storeu_si512(out + 16, acc.high);
}

static ALWAYS_INLINE struct acc32 acc_load(const int32_t in[32])
{
    return (struct acc32){_mm512_loadu_si512(in), _mm512_loadu_si512(in + 16)};
}

static ALWAYS_INLINE uint32_t bound_half(__m512i acc, const void *a_at, const void *b_at,
                                         const struct code_bound *bound, float *low_at)
{
    __m512 a = _mm512_loadu_ps(a_at), b = _mm512_loadu_ps(b_at);
    __m512 dot = _mm512_fmadd_ps(_mm512_set1_ps(bound->scale), _mm512_cvtepi32_ps(acc),
                                 _mm512_set1_ps(bound->offset));
    __m512 low = _mm512_fnmadd_ps(b, dot, _mm512_add_ps(a, _mm512_set1_ps(bound->delta)));
    _mm512_storeu_ps(low_at, low);
    __mmask16 there = _mm512_cmp_ps_mask(a, _mm512_set1_ps(CODE_PAD_A), _CMP_LT_OQ);
    return _mm512_mask_cmp_ps_mask(there, low, _mm512_set1_ps(bound->limit), _CMP_LT_OQ);
}

static ALWAYS_INLINE uint32_t acc_bound(struct acc32 acc, const void *a, const void *b,
                                        const struct code_bound *bound, float low[32])
{
    const uint8_t *a_bytes = a, *b_bytes = b;
    uint32_t mask = bound_half(acc.low, a_bytes, b_bytes, bound, low);
    return mask | bound_half(acc.high, a_bytes + 64, b_bytes + 64, bound, low + 16) << 16;
}

/* Distances of 16 lists from their dot products; scale and norm2 lie at `end`. */
static ALWAYS_INLINE void coarse_end(__m512i dot, const uint8_t *end,
                                     const struct code_query8 *query, float *out)
{
    __m512 twice = _mm512_mul_ps(_mm512_set1_ps(2.0f * query->scale), _mm512_loadu_ps(end));
    __m512 norms = _mm512_add_ps(_mm512_loadu_ps(end + 64), _mm512_set1_ps(query->norm2));
    _mm512_storeu_ps(out, _mm512_fnmadd_ps(twice, _mm512_cvtepi32_ps(dot), norms));
}
#endif
