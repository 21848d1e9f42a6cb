/* SPDX-License-Identifier: Apache-2.0 */
/* Substring search, 64 places a step. */
#include "base/attr.h"

#include <immintrin.h>

#define NAME  kernel_find_avx512
#define WIDTH 64

static ALWAYS_INLINE uint64_t starts(const uint8_t *at, size_t gap, uint8_t first, uint8_t last)
{
    __m512i front = _mm512_loadu_si512(at), back = _mm512_loadu_si512(at + gap);
    __mmask64 fits = _mm512_cmpeq_epi8_mask(front, _mm512_set1_epi8((char)first));
    return _mm512_mask_cmpeq_epi8_mask(fits, back, _mm512_set1_epi8((char)last));
}

#include "kernel/find_loops.h"
