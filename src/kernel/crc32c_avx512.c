/* SPDX-License-Identifier: Apache-2.0 */
/* CRC-32C by folding: 256 bytes are kept as sixteen lanes of 128 bits, each moved on by 2048 bits a step with two
 * carry-less products; at the end the lanes are folded into one, which the crc32 instruction reduces.
 * Source: Gopal et al., Fast CRC Computation for Generic Polynomials Using PCLMULQDQ, Intel 2009. */
#include "kernel/kernel_internal.h"

#include <immintrin.h>
#include <string.h>

/* To move a lane on by d bits its low half is multiplied by x^(d+63) mod P and its high half by x^(d−1) mod P, both
 * reflected and in the upper half of the word: a reflected product lies one bit too low. */
#define MOVE_2048_LOW  0xe9a5d8be00000000
#define MOVE_2048_HIGH 0x1426a81500000000
#define MOVE_512_LOW   0x1c19243b00000000
#define MOVE_512_HIGH  0x75bba45b00000000
#define MOVE_128_LOW   0x3743f7bd00000000
#define MOVE_128_HIGH  0x3171d43000000000

static ALWAYS_INLINE __m512i pair(uint64_t low, uint64_t high)
{
    return _mm512_broadcast_i64x2(_mm_set_epi64x((long long)high, (long long)low));
}

static ALWAYS_INLINE __m512i fold(__m512i lanes, __m512i move, __m512i next)
{
    __m512i low = _mm512_clmulepi64_epi128(lanes, move, 0x00);
    __m512i high = _mm512_clmulepi64_epi128(lanes, move, 0x11);
    return _mm512_ternarylogic_epi64(low, high, next, 0x96); /* exclusive or of all three */
}

static ALWAYS_INLINE __m128i fold_lane(__m128i lane, __m128i move, __m128i next)
{
    __m128i low = _mm_clmulepi64_si128(lane, move, 0x00);
    __m128i high = _mm_clmulepi64_si128(lane, move, 0x11);
    return _mm_ternarylogic_epi64(low, high, next, 0x96);
}

/* State after `len` bytes, a multiple of 256 and not 0. */
static uint64_t fold_blocks(uint64_t state, const uint8_t *p, size_t len)
{
    __m512i sum[4];
    for (int i = 0; i < 4; i++)
        sum[i] = _mm512_loadu_si512(p + 64 * i);
    sum[0] = _mm512_xor_si512(sum[0], _mm512_zextsi128_si512(_mm_cvtsi64_si128((long long)state)));
    __m512i far = pair(MOVE_2048_LOW, MOVE_2048_HIGH);
    for (size_t at = 256; at < len; at += 256)
        for (int i = 0; i < 4; i++)
            sum[i] = fold(sum[i], far, _mm512_loadu_si512(p + at + 64 * (size_t)i));
    __m512i near = pair(MOVE_512_LOW, MOVE_512_HIGH);
    __m512i all = fold(fold(fold(sum[0], near, sum[1]), near, sum[2]), near, sum[3]);
    __m128i step = _mm_set_epi64x((long long)MOVE_128_HIGH, (long long)MOVE_128_LOW);
    __m128i lane = _mm512_castsi512_si128(all);
    lane = fold_lane(lane, step, _mm512_extracti32x4_epi32(all, 1));
    lane = fold_lane(lane, step, _mm512_extracti32x4_epi32(all, 2));
    lane = fold_lane(lane, step, _mm512_extracti32x4_epi32(all, 3));
    uint64_t half = _mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(lane));
    return _mm_crc32_u64(half, (uint64_t)_mm_extract_epi64(lane, 1));
}

uint32_t kernel_crc32c_avx512(uint32_t crc, const void *at, size_t len)
{
    const uint8_t *p = at;
    uint64_t state = (uint32_t)~crc;
    if (len >= 256) {
        size_t whole = len & ~(size_t)255;
        state = fold_blocks(state, p, whole);
        p += whole;
        len -= whole;
    }
    for (; len >= 8; len -= 8, p += 8) {
        uint64_t word;
        memcpy(&word, p, sizeof word);
        state = _mm_crc32_u64(state, word);
    }
    for (; len > 0; len--, p++)
        state = _mm_crc32_u8((uint32_t)state, *p);
    return ~(uint32_t)state;
}
