/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of rows, eight numbers at a time.  Eight numbers of w bits take w bytes, so that each step begins at a byte; its halves begin at a byte or in the
 * middle of one.  A permutation brings the four bytes that hold a number into its lane, a shift by lane does the rest. */
#include "kernel/postings_internal.h"

#include <immintrin.h>

#define WIDTH_32 25u /* up to which a number lies in four bytes, whatever its first bit */

struct lanes {
    __m256i bytes, shifts, mask;
};

static inline struct lanes lanes_of(unsigned width)
{
    const __m256i i = _mm256_set_epi32(3, 2, 1, 0, 3, 2, 1, 0);
    int middle = (int)(4 * (width & 1));
    __m256i bit = _mm256_mullo_epi32(i, _mm256_set1_epi32((int)width));
    bit = _mm256_add_epi32(bit, _mm256_set_epi32(middle, middle, middle, middle, 0, 0, 0, 0));
    __m256i byte = _mm256_srli_epi32(bit, 3);
    byte = _mm256_mullo_epi32(byte, _mm256_set1_epi32(0x01010101));
    return (struct lanes){_mm256_add_epi32(byte, _mm256_set1_epi32(0x03020100)),
                          _mm256_and_si256(bit, _mm256_set1_epi32(7)),
                          _mm256_set1_epi32((int)((1u << width) - 1))};
}

static inline __m256i numbers(const struct lanes *lanes, const uint8_t *at, unsigned width)
{
    __m128i low = _mm_loadu_si128((const __m128i *)(const void *)at);
    __m128i high = _mm_loadu_si128((const __m128i *)(const void *)(at + width / 2));
    __m256i bytes = _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
    bytes = _mm256_shuffle_epi8(bytes, lanes->bytes);
    return _mm256_and_si256(_mm256_srlv_epi32(bytes, lanes->shifts), lanes->mask);
}

/* How many of `count` numbers can be read by steps of eight without touching what may not be read. */
static inline uint32_t whole_steps(unsigned width, uint32_t count)
{
    size_t readable = count ? (size_t)(count - 1) * width / 8 + 8 : 0, step = width / 2 + 16;
    if (width > WIDTH_32 || readable < step)
        return 0;
    size_t steps = width ? (readable - step) / width + 1 : count / 8;
    return (uint32_t)(steps < count / 8 ? steps : count / 8) * 8;
}

void kernel_unpack_avx2(const uint8_t *packed, unsigned width, uint32_t count, uint32_t base,
                        uint32_t *values)
{
    uint32_t whole = whole_steps(width, count);
    struct lanes lanes = lanes_of(whole ? width : 0);
    for (uint32_t i = 0; i < whole; i += 8)
        _mm256_storeu_si256((__m256i *)(void *)(values + i),
                            _mm256_add_epi32(numbers(&lanes, packed + (size_t)i / 8 * width, width),
                                             _mm256_set1_epi32((int)base)));
    for (uint32_t i = whole; i < count; i++)
        values[i] = base + packed_number(packed, width, i);
}

/* Each lane and those before it, added up. */
static inline __m256i sums_of(__m256i x)
{
    x = _mm256_add_epi32(x, _mm256_slli_si256(x, 4));
    x = _mm256_add_epi32(x, _mm256_slli_si256(x, 8));
    __m256i low =
        _mm256_permute2x128_si256(x, x, 0x08); /* the lower half as the upper one, zeros */
    return _mm256_add_epi32(x, _mm256_shuffle_epi32(low, 0xff));
}

uint64_t kernel_unpack_rows_avx2(const uint8_t *packed, unsigned width, uint32_t count,
                                 uint32_t first, uint32_t *rows)
{
    const __m256i last = _mm256_set1_epi32(7), one = _mm256_set1_epi32(1);
    /* so few of so few bits stay below 2^32 together */
    if (width > 24 || count > 128)
        return kernel_unpack_rows_scalar(packed, width, count, first, rows);
    uint32_t whole = whole_steps(width, count - 1);
    struct lanes lanes = lanes_of(width);
    __m256i before = _mm256_set1_epi32((int)first);
    rows[0] = first;
    for (uint32_t i = 0; i < whole; i += 8) {
        __m256i gaps =
            _mm256_add_epi32(numbers(&lanes, packed + (size_t)i / 8 * width, width), one);
        __m256i here = _mm256_add_epi32(sums_of(gaps), before);
        _mm256_storeu_si256((__m256i *)(void *)(rows + 1 + i), here);
        before = _mm256_permutevar8x32_epi32(here, last);
    }
    for (uint32_t i = whole + 1; i < count; i++)
        rows[i] = rows[i - 1] + 1 + packed_number(packed, width, i - 1);
    return (uint64_t)first + (rows[count - 1] - first);
}

uint32_t kernel_above_avx2(const float *sums, uint32_t n, float least, uint32_t most,
                           uint32_t *places)
{
    const __m256 floor = _mm256_set1_ps(least);
    uint32_t count = 0;
    for (uint32_t at = 0; at < n && count <= most; at += 16) {
        __m256 low = _mm256_cmp_ps(_mm256_loadu_ps(sums + at), floor, _CMP_GE_OQ);
        __m256 high = _mm256_cmp_ps(_mm256_loadu_ps(sums + at + 8), floor, _CMP_GE_OQ);
        uint32_t mask = (uint32_t)_mm256_movemask_ps(low) | (uint32_t)_mm256_movemask_ps(high) << 8;
        for (; mask; mask &= mask - 1)
            places[count++] = at + (uint32_t)__builtin_ctz(mask);
    }
    return count;
}
