/* SPDX-License-Identifier: Apache-2.0 */
/* Scanning codes with the first generation of AVX-512.  VPSHUFB looks up 16 bytes in one 16-byte table a 128-bit lane, so
 * the bytes of a block are first brought to order: lane t = group t of 16 rows. */
#include "kernel/code_scan_avx512.h"

#define NAME(loop) code_##loop##_avx512bw

/* Sum of u8 * s8 over the four bytes of each 32-bit lane, u8 <= 128, s8 >= -127: no pair passes 2 * 128 * 127. */
static ALWAYS_INLINE __m512i dot4(__m512i sum, __m512i u8, __m512i s8)
{
    __m512i pairs = _mm512_maddubs_epi16(u8, s8);
    return _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}

/* The same for x - 128: its magnitude, and its sign moved over to q. */
static ALWAYS_INLINE __m512i dot4_centred(__m512i sum, __m512i x, __m512i q)
{
    __m512i value = _mm512_xor_si512(x, _mm512_set1_epi8(-128));
    __m512i turned = _mm512_mask_sub_epi8(q, _mm512_movepi8_mask(value), _mm512_setzero_si512(), q);
    return dot4(sum, _mm512_abs_epi8(value), turned);
}

static ALWAYS_INLINE int32_t dot8(const uint8_t *x, const int8_t *q, size_t dim, int32_t q_sum)
{
    (void)q_sum;
    __m512i sum = _mm512_setzero_si512();
    for (size_t i = 0; i < dim; i += 64)
        sum = dot4_centred(sum, _mm512_loadu_si512(x + i), _mm512_loadu_si512(q + i));
    return _mm512_reduce_add_epi32(sum);
}

/* Sums of 16-bit lanes: `all` of the lanes as they are, modulo 2^16, `odd` of their upper bytes. */
struct acc16 {
    __m512i all, odd;
};

static ALWAYS_INLINE void acc_add(struct acc16 *acc, __m512i values)
{
    acc->all = _mm512_add_epi16(acc->all, values);
    acc->odd = _mm512_add_epi16(acc->odd, _mm512_srli_epi16(values, 8));
}

/* 16 rows as 32-bit sums, the four lanes (groups) added up. */
static ALWAYS_INLINE __m512i acc_wide(struct acc16 acc)
{
    __m512i even = _mm512_sub_epi16(acc.all, _mm512_slli_epi16(acc.odd, 8));
    __m512i first = _mm512_unpacklo_epi16(even, acc.odd); /* rows 0-7 of each lane */
    __m512i last = _mm512_unpackhi_epi16(even, acc.odd);
    __m512i sum[4];
    for (int i = 0; i < 2; i++) {
        __m512i half = i == 0 ? first : last;
        __m512i low = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(half));
        __m512i high = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(half, 1));
        sum[i] = _mm512_add_epi32(low, high); /* rows 0-7 of lanes 0+2, then of lanes 1+3 */
    }
    sum[2] = _mm512_shuffle_i64x2(sum[0], sum[1], 0x44); /* _MM_SHUFFLE(1, 0, 1, 0) */
    sum[3] = _mm512_shuffle_i64x2(sum[0], sum[1], 0xee); /* _MM_SHUFFLE(3, 2, 3, 2) */
    return _mm512_add_epi32(sum[2], sum[3]);
}

static ALWAYS_INLINE struct acc32 acc_of(const uint8_t *code, const uint8_t *table, size_t dim)
{
    const __m512i nibble = _mm512_set1_epi8(15);
    const __m512i by_group =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    const __m512i by_row = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i zero = _mm512_setzero_si512();
    struct acc32 sum = {zero, zero};
    for (size_t from = 0; from < 4 * dim;) {
        size_t to =
            min_size(4 * dim, from + 256 * 64); /* 256 additions of at most 255 fit 16 bits */
        struct acc16 low = {zero, zero}, high = {zero, zero};
        for (; from < to; from += 64) {
            __m512i both = _mm512_shuffle_epi8(_mm512_loadu_si512(code + from), by_group);
            both = _mm512_permutexvar_epi32(by_row, both);
            __m512i values = _mm512_loadu_si512(table + from);
            acc_add(&low, _mm512_shuffle_epi8(values, _mm512_and_si512(both, nibble)));
            both = _mm512_and_si512(_mm512_srli_epi16(both, 4), nibble);
            acc_add(&high, _mm512_shuffle_epi8(values, both));
        }
        sum.low = _mm512_add_epi32(sum.low, acc_wide(low));
        sum.high = _mm512_add_epi32(sum.high, acc_wide(high));
    }
    return sum;
}

#include "kernel/code_scan_loops.h"

void code_coarse16_avx512bw(const uint8_t *packed, size_t blocks, const struct code_query8 *query,
                            size_t dim, float *out)
{
    size_t size = code_coarse_size(dim);
    for (size_t block = 0; block < blocks; block++, packed += size) {
        __m512i sum = _mm512_setzero_si512();
        for (size_t i = 0; i < dim; i += 4) {
            int32_t four;
            memcpy(&four, query->q8 + i, sizeof four);
            sum = dot4_centred(sum, _mm512_loadu_si512(packed + 16 * i), _mm512_set1_epi32(four));
        }
        coarse_end(sum, packed + CODE_LISTS * dim, query, out + CODE_LISTS * block);
    }
}

uint64_t code_popcount_avx512bw(const uint64_t *words, size_t count)
{
    return code_popcount_avx2(words, count);
}

uint64_t code_popcount_and_avx512bw(const uint64_t *a, const uint64_t *b, size_t count)
{
    return code_popcount_and_avx2(a, b, count);
}
