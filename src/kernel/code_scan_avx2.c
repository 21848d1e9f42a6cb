/* SPDX-License-Identifier: Apache-2.0 */
/* Scanning codes with AVX2: as the first generation of AVX-512, in halves. */
#include "kernel/code_internal.h"

#include <immintrin.h>

#define NAME(loop) code_##loop##_avx2

struct acc32 {
    __m256i quarter[4]; /* rows 0-7, 8-15, 16-23, 24-31 */
};

static ALWAYS_INLINE __m256i load256(const void *at)
{
    return _mm256_loadu_si256(at);
}

/* Sum of (x - 128) * q over the four bytes of each 32-bit lane: the magnitude of one by the other with its sign; |q| <= 127,
 * so no pair passes 2 * 128 * 127. */
static ALWAYS_INLINE __m256i dot4_centred(__m256i sum, __m256i x, __m256i q)
{
    __m256i value = _mm256_xor_si256(x, _mm256_set1_epi8(-128));
    __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(value), _mm256_sign_epi8(q, value));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

static ALWAYS_INLINE int32_t dot8(const uint8_t *x, const int8_t *q, size_t dim, int32_t q_sum)
{
    (void)q_sum;
    __m256i even = _mm256_setzero_si256(), odd = even;
    for (size_t i = 0; i < dim; i += 64) {
        even = dot4_centred(even, load256(x + i), load256(q + i));
        odd = dot4_centred(odd, load256(x + i + 32), load256(q + i + 32));
    }
    __m256i sum = _mm256_add_epi32(even, odd);
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
    __m128i two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
    return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 1)));
}

/* Sums of 16-bit lanes: `all` of the lanes as they are, modulo 2^16, `odd` of their upper bytes. */
struct acc16 {
    __m256i all, odd;
};

static ALWAYS_INLINE void acc_add(struct acc16 *acc, __m256i values)
{
    acc->all = _mm256_add_epi16(acc->all, values);
    acc->odd = _mm256_add_epi16(acc->odd, _mm256_srli_epi16(values, 8));
}

/* Add 16 rows, the two lanes (groups) together, to 32-bit sums. */
static ALWAYS_INLINE void acc_widen(struct acc16 acc, __m256i sum[2])
{
    __m256i even = _mm256_sub_epi16(acc.all, _mm256_slli_epi16(acc.odd, 8));
    __m256i half[2] = {_mm256_unpacklo_epi16(even, acc.odd), _mm256_unpackhi_epi16(even, acc.odd)};
    for (int i = 0; i < 2; i++) {
        __m256i low = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(half[i]));
        __m256i high = _mm256_cvtepu16_epi32(_mm256_extracti128_si256(half[i], 1));
        sum[i] = _mm256_add_epi32(sum[i], _mm256_add_epi32(low, high));
    }
}

static ALWAYS_INLINE __m256i load_pair(const uint8_t *low, const uint8_t *high)
{
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const void *)low)),
                                   _mm_loadu_si128((const void *)high), 1);
}

static ALWAYS_INLINE struct acc32 acc_of(const uint8_t *code, const uint8_t *table, size_t dim)
{
    const __m256i nibble = _mm256_set1_epi8(15);
    const __m256i by_group = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    const __m256i zero = _mm256_setzero_si256();
    struct acc32 sum = {{zero, zero, zero, zero}};
    for (size_t from = 0; from < 4 * dim;) {
        size_t to = min_size(4 * dim, from + 128 * 64); /* twice 128 additions of at most 255 */
        struct acc16 low = {zero, zero}, high = {zero, zero};
        for (; from < to; from += 64) {
            const uint8_t *at = code + from;
            /* Lanes hold 4 rows x 4 groups; joined so that a lane is one group of rows 0-15 in order. */
            __m256i first = _mm256_shuffle_epi8(load_pair(at, at + 32), by_group);
            __m256i second = _mm256_shuffle_epi8(load_pair(at + 16, at + 48), by_group);
            for (int half = 0; half < 2; half++) {
                __m256i both = half == 0 ? _mm256_unpacklo_epi32(first, second)
                                         : _mm256_unpackhi_epi32(first, second);
                both = _mm256_permute4x64_epi64(both, 0xd8); /* quarters 0, 2, 1, 3 */
                __m256i values = load256(table + from + 32 * half);
                acc_add(&low, _mm256_shuffle_epi8(values, _mm256_and_si256(both, nibble)));
                both = _mm256_and_si256(_mm256_srli_epi16(both, 4), nibble);
                acc_add(&high, _mm256_shuffle_epi8(values, both));
            }
        }
        acc_widen(low, sum.quarter);
        acc_widen(high, sum.quarter + 2);
    }
    return sum;
}

static ALWAYS_INLINE void acc_store(struct acc32 acc, int32_t out[32])
{
    for (int i = 0; i < 4; i++)
        _mm256_storeu_si256((void *)(out + 8 * i), acc.quarter[i]);
}

static ALWAYS_INLINE struct acc32 acc_load(const int32_t in[32])
{
    return (struct acc32){{load256(in), load256(in + 8), load256(in + 16), load256(in + 24)}};
}

static ALWAYS_INLINE uint32_t acc_bound(struct acc32 acc, const void *a_at, const void *b_at,
                                        const struct code_bound *bound, float low_at[32])
{
    const uint8_t *a_bytes = a_at, *b_bytes = b_at;
    uint32_t mask = 0;
    for (int i = 0; i < 4; i++) {
        __m256 a = _mm256_loadu_ps((const void *)(a_bytes + 32 * i));
        __m256 b = _mm256_loadu_ps((const void *)(b_bytes + 32 * i));
        __m256 dot =
            _mm256_fmadd_ps(_mm256_set1_ps(bound->scale), _mm256_cvtepi32_ps(acc.quarter[i]),
                            _mm256_set1_ps(bound->offset));
        __m256 low = _mm256_fnmadd_ps(b, dot, _mm256_add_ps(a, _mm256_set1_ps(bound->delta)));
        _mm256_storeu_ps(low_at + 8 * i, low);
        __m256 pass = _mm256_and_ps(_mm256_cmp_ps(low, _mm256_set1_ps(bound->limit), _CMP_LT_OQ),
                                    _mm256_cmp_ps(a, _mm256_set1_ps(CODE_PAD_A), _CMP_LT_OQ));
        mask |= (uint32_t)_mm256_movemask_ps(pass) << 8 * i;
    }
    return mask;
}

#include "kernel/code_scan_loops.h"

static ALWAYS_INLINE void coarse_end(__m256i dot, const uint8_t *end,
                                     const struct code_query8 *query, float *out)
{
    __m256 scale = _mm256_loadu_ps((const void *)end),
           norm2 = _mm256_loadu_ps((const void *)(end + 64));
    __m256 twice = _mm256_mul_ps(_mm256_set1_ps(2.0f * query->scale), scale);
    __m256 norms = _mm256_add_ps(norm2, _mm256_set1_ps(query->norm2));
    _mm256_storeu_ps(out, _mm256_fnmadd_ps(twice, _mm256_cvtepi32_ps(dot), norms));
}

void code_coarse16_avx2(const uint8_t *packed, size_t blocks, const struct code_query8 *query,
                        size_t dim, float *out)
{
    size_t size = code_coarse_size(dim);
    for (size_t block = 0; block < blocks; block++, packed += size) {
        __m256i low = _mm256_setzero_si256(), high = low;
        for (size_t i = 0; i < dim; i += 4) {
            int32_t four;
            memcpy(&four, query->q8 + i, sizeof four);
            __m256i q = _mm256_set1_epi32(four);
            low = dot4_centred(low, load256(packed + 16 * i), q);
            high = dot4_centred(high, load256(packed + 16 * i + 32), q);
        }
        const uint8_t *end = packed + CODE_LISTS * dim;
        coarse_end(low, end, query, out + CODE_LISTS * block);
        coarse_end(high, end + 32, query, out + CODE_LISTS * block + 8);
    }
}

uint64_t code_popcount_avx2(const uint64_t *words, size_t count)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += (uint64_t)_mm_popcnt_u64(words[i]);
    return sum;
}

uint64_t code_popcount_and_avx2(const uint64_t *a, const uint64_t *b, size_t count)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += (uint64_t)_mm_popcnt_u64(a[i] & b[i]);
    return sum;
}
