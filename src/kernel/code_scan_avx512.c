/* SPDX-License-Identifier: Apache-2.0 */
/* Scanning codes with AVX-512 VBMI, VNNI and VPOPCNTDQ.  64 bytes of a block are 16 rows (32 with both halves) x 4 groups;
 * one byte permutation looks all of them up in the 64 bytes of table of these groups, and since the four bytes of a
 * 32-bit lane belong to one row, one VPDPBUSD by ones adds them to the row's sum.
 * Source: Andre, Kermarrec, Le Scouarnec, PQ fast scan, VLDB 2015, for tables in registers. */
#include "kernel/code_scan_avx512.h"

#define NAME(loop) code_##loop##_avx512

static ALWAYS_INLINE __m512i dot4(__m512i sum, __m512i u8, __m512i s8)
{
    return _mm512_dpbusd_epi32(sum, u8, s8);
}

static ALWAYS_INLINE int32_t dot8(const uint8_t *x, const int8_t *q, size_t dim, int32_t q_sum)
{
    __m512i even = _mm512_setzero_si512(), odd = even;
    size_t i = 0;
    for (; i + 128 <= dim; i += 128) {
        even = dot4(even, _mm512_loadu_si512(x + i), _mm512_loadu_si512(q + i));
        odd = dot4(odd, _mm512_loadu_si512(x + i + 64), _mm512_loadu_si512(q + i + 64));
    }
    if (i < dim)
        even = dot4(even, _mm512_loadu_si512(x + i), _mm512_loadu_si512(q + i));
    return _mm512_reduce_add_epi32(_mm512_add_epi32(even, odd)) - 128 * q_sum;
}

/* 16 dimensions of 32 rows. */
static ALWAYS_INLINE void acc_step(struct acc32 *acc, const uint8_t *code, const uint8_t *table)
{
    const __m512i nibble = _mm512_set1_epi8(15), group = _mm512_set1_epi32(0x30201000),
                  ones = _mm512_set1_epi8(1);
    __m512i both = _mm512_loadu_si512(code), values = _mm512_loadu_si512(table);
    __m512i low =
        _mm512_ternarylogic_epi32(both, nibble, group, 0xea); /* (both & nibble) | group */
    __m512i high = _mm512_ternarylogic_epi32(_mm512_srli_epi16(both, 4), nibble, group, 0xea);
    acc->low = dot4(acc->low, _mm512_permutexvar_epi8(low, values), ones);
    acc->high = dot4(acc->high, _mm512_permutexvar_epi8(high, values), ones);
}

static ALWAYS_INLINE struct acc32 acc_of(const uint8_t *code, const uint8_t *table, size_t dim)
{
    struct acc32 even = {_mm512_setzero_si512(), _mm512_setzero_si512()}, odd = even;
    for (size_t at = 0; at < 4 * dim; at += 256) {
        acc_step(&even, code + at, table + at);
        acc_step(&odd, code + at + 64, table + at + 64);
        acc_step(&even, code + at + 128, table + at + 128);
        acc_step(&odd, code + at + 192, table + at + 192);
    }
    return (struct acc32){_mm512_add_epi32(even.low, odd.low),
                          _mm512_add_epi32(even.high, odd.high)};
}

#include "kernel/code_scan_loops.h"

/* Four blocks of 16 lists side by side; a lane is a list, so nothing is added across. */
void code_coarse16_avx512(const uint8_t *packed, size_t blocks, const struct code_query8 *query,
                          size_t dim, float *out)
{
    size_t size = code_coarse_size(dim), block = 0;
    for (; block + 4 <= blocks; block += 4, packed += 4 * size) {
        __m512i s0 = _mm512_setzero_si512(), s1 = s0, s2 = s0, s3 = s0;
        for (size_t i = 0; i < dim; i += 4) {
            int32_t four;
            memcpy(&four, query->q8 + i, sizeof four);
            __m512i q = _mm512_set1_epi32(four);
            const uint8_t *at = packed + 16 * i;
            s0 = dot4(s0, _mm512_loadu_si512(at), q);
            s1 = dot4(s1, _mm512_loadu_si512(at + size), q);
            s2 = dot4(s2, _mm512_loadu_si512(at + 2 * size), q);
            s3 = dot4(s3, _mm512_loadu_si512(at + 3 * size), q);
        }
        __m512i bias = _mm512_set1_epi32(128 * query->sum);
        const uint8_t *end = packed + CODE_LISTS * dim;
        float *to = out + CODE_LISTS * block;
        coarse_end(_mm512_sub_epi32(s0, bias), end, query, to);
        coarse_end(_mm512_sub_epi32(s1, bias), end + size, query, to + 16);
        coarse_end(_mm512_sub_epi32(s2, bias), end + 2 * size, query, to + 32);
        coarse_end(_mm512_sub_epi32(s3, bias), end + 3 * size, query, to + 48);
    }
    for (; block < blocks; block++, packed += size) {
        __m512i even = _mm512_setzero_si512(), odd = even;
        for (size_t i = 0; i < dim; i += 8) {
            int32_t four[2];
            memcpy(four, query->q8 + i, sizeof four);
            even = dot4(even, _mm512_loadu_si512(packed + 16 * i), _mm512_set1_epi32(four[0]));
            odd = dot4(odd, _mm512_loadu_si512(packed + 16 * i + 64), _mm512_set1_epi32(four[1]));
        }
        __m512i sum =
            _mm512_sub_epi32(_mm512_add_epi32(even, odd), _mm512_set1_epi32(128 * query->sum));
        coarse_end(sum, packed + CODE_LISTS * dim, query, out + CODE_LISTS * block);
    }
}

static ALWAYS_INLINE __mmask8 words_below(size_t n)
{
    return (__mmask8)((1u << n) - 1);
}

uint64_t code_popcount_avx512(const uint64_t *words, size_t count)
{
    __m512i sum = _mm512_setzero_si512();
    for (size_t i = 0; i < count; i += 8) {
        __mmask8 in = words_below(min_size(count - i, 8));
        sum = _mm512_add_epi64(sum, _mm512_popcnt_epi64(_mm512_maskz_loadu_epi64(in, words + i)));
    }
    return (uint64_t)_mm512_reduce_add_epi64(sum);
}

uint64_t code_popcount_and_avx512(const uint64_t *a, const uint64_t *b, size_t count)
{
    __m512i sum = _mm512_setzero_si512();
    for (size_t i = 0; i < count; i += 8) {
        __mmask8 in = words_below(min_size(count - i, 8));
        __m512i both = _mm512_and_si512(_mm512_maskz_loadu_epi64(in, a + i),
                                        _mm512_maskz_loadu_epi64(in, b + i));
        sum = _mm512_add_epi64(sum, _mm512_popcnt_epi64(both));
    }
    return (uint64_t)_mm512_reduce_add_epi64(sum);
}
