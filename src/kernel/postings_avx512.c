/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of rows, sixteen numbers at a time.  Sixteen numbers of w bits take 2w bytes, so that each step begins at a byte; a permutation of 16-bit words
 * brings the words that hold a number into its lane, a shift by lane does the rest. */
#include "kernel/postings_internal.h"

#include <immintrin.h>

#define WIDTH_32 17u /* up to which a number lies in two words, whatever its first bit */

/* How numbers of one width lie; two sets of eight lanes of 64 bits where 32 are too few. */
struct lanes {
    unsigned width, step; /* bytes of a step */
    __m512i words, shifts, mask;
};

static inline struct lanes lanes_of(unsigned width)
{
    struct lanes lanes = {.width = width};
    if (width <= WIDTH_32) {
        const __m512i i = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
        __m512i bit = _mm512_mullo_epi32(i, _mm512_set1_epi32((int)width));
        __m512i word = _mm512_srli_epi32(bit, 4);
        lanes.step = 2 * width;
        lanes.words = _mm512_add_epi32(_mm512_or_si512(word, _mm512_slli_epi32(word, 16)),
                                       _mm512_set1_epi32(0x00010000));
        lanes.shifts = _mm512_and_si512(bit, _mm512_set1_epi32(15));
        lanes.mask = _mm512_set1_epi32((int)((1u << width) - 1));
    } else {
        const __m512i i = _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0);
        __m512i bit = _mm512_mullo_epi32(i, _mm512_set1_epi64((int)width));
        __m512i word = _mm512_srli_epi64(bit, 4);
        word = _mm512_or_si512(word, _mm512_slli_epi64(word, 16));
        word = _mm512_or_si512(word, _mm512_slli_epi64(word, 32));
        lanes.step = width;
        lanes.words = _mm512_add_epi64(word, _mm512_set1_epi64(0x0003000200010000));
        lanes.shifts = _mm512_and_si512(bit, _mm512_set1_epi64(15));
        lanes.mask = _mm512_set1_epi64((int64_t)((1ull << width) - 1));
    }
    return lanes;
}

static inline __m512i load_most(const uint8_t *at, size_t left)
{
    return _mm512_maskz_loadu_epi8(left < 64 ? (1ull << left) - 1 : UINT64_MAX, at);
}

/* The sixteen numbers that begin at `at`, what lies behind `left` bytes being zero. */
static inline __m512i numbers(const struct lanes *lanes, const uint8_t *at, size_t left)
{
    __m512i words = load_most(at, left);
    words = _mm512_permutexvar_epi16(lanes->words, words);
    if (lanes->width <= WIDTH_32)
        return _mm512_and_si512(_mm512_srlv_epi32(words, lanes->shifts), lanes->mask);
    __m512i low = _mm512_and_si512(_mm512_srlv_epi64(words, lanes->shifts), lanes->mask);
    __m512i high = _mm512_setzero_si512();
    if (left > lanes->step) {
        words = load_most(at + lanes->step, left - lanes->step);
        words = _mm512_permutexvar_epi16(lanes->words, words);
        high = _mm512_and_si512(_mm512_srlv_epi64(words, lanes->shifts), lanes->mask);
    }
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi64_epi32(low)),
                              _mm512_cvtepi64_epi32(high), 1);
}

static inline __mmask16 first_of(uint32_t left)
{
    return (__mmask16)(left < 16 ? (1u << left) - 1 : 0xffffu);
}

void kernel_unpack_avx512(const uint8_t *packed, unsigned width, uint32_t count, uint32_t base,
                          uint32_t *values)
{
    struct lanes lanes = lanes_of(width);
    size_t len = ((size_t)count * width + 7) / 8, at = 0;
    for (uint32_t i = 0; i < count; i += 16, at += 2 * (size_t)width)
        _mm512_mask_storeu_epi32(
            values + i, first_of(count - i),
            _mm512_add_epi32(numbers(&lanes, packed + at, len - at), _mm512_set1_epi32((int)base)));
}

/* Each lane and those before it, added up. */
static inline __m512i sums_of(__m512i x)
{
    const __m512i zero = _mm512_setzero_si512();
    x = _mm512_add_epi32(x, _mm512_alignr_epi32(x, zero, 15));
    x = _mm512_add_epi32(x, _mm512_alignr_epi32(x, zero, 14));
    x = _mm512_add_epi32(x, _mm512_alignr_epi32(x, zero, 12));
    return _mm512_add_epi32(x, _mm512_alignr_epi32(x, zero, 8));
}

uint64_t kernel_unpack_rows_avx512(const uint8_t *packed, unsigned width, uint32_t count,
                                   uint32_t first, uint32_t *rows)
{
    const __m512i last = _mm512_set1_epi32(15), one = _mm512_set1_epi32(1);
    /* so few of so few bits stay below 2^32 together */
    if (width > 24 || count > 128)
        return kernel_unpack_rows_scalar(packed, width, count, first, rows);
    struct lanes lanes = lanes_of(width);
    size_t len = ((size_t)(count - 1) * width + 7) / 8, at = 0;
    __m512i before = _mm512_set1_epi32((int)first);
    rows[0] = first;
    for (uint32_t i = 1; i < count; i += 16, at += 2 * (size_t)width) {
        __m512i gaps = _mm512_add_epi32(numbers(&lanes, packed + at, len - at), one);
        __m512i here = _mm512_add_epi32(sums_of(gaps), before);
        _mm512_mask_storeu_epi32(rows + i, first_of(count - i), here);
        before = _mm512_permutexvar_epi32(last, here);
    }
    return (uint64_t)first + (rows[count - 1] - first);
}

uint32_t kernel_above_avx512(const float *sums, uint32_t n, float least, uint32_t most,
                             uint32_t *places)
{
    const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const __m512 floor = _mm512_set1_ps(least);
    uint32_t count = 0;
    for (uint32_t at = 0; at < n && count <= most; at += 16) {
        __mmask16 mask = _mm512_cmp_ps_mask(_mm512_loadu_ps(sums + at), floor, _CMP_GE_OQ);
        if (!mask)
            continue;
        __m512i here = _mm512_add_epi32(lane, _mm512_set1_epi32((int)at));
        _mm512_storeu_si512(places + count, _mm512_maskz_compress_epi32(mask, here));
        count += (uint32_t)__builtin_popcount(mask);
    }
    return count;
}
