/* SPDX-License-Identifier: Apache-2.0 */
/* Substring search, 32 places a step. */
#include "base/attr.h"

#include <immintrin.h>

#define NAME  kernel_find_avx2
#define WIDTH 32

static ALWAYS_INLINE uint64_t starts(const uint8_t *at, size_t gap, uint8_t first, uint8_t last)
{
    __m256i front = _mm256_loadu_si256((const __m256i *)(const void *)at);
    __m256i back = _mm256_loadu_si256((const __m256i *)(const void *)(at + gap));
    __m256i fits = _mm256_and_si256(_mm256_cmpeq_epi8(front, _mm256_set1_epi8((char)first)),
                                    _mm256_cmpeq_epi8(back, _mm256_set1_epi8((char)last)));
    return (uint32_t)_mm256_movemask_epi8(fits);
}

#include "kernel/find_loops.h"
