/* SPDX-License-Identifier: Apache-2.0 */
/* Base64 decoding, 32 characters a step.  The high nibble of a character picks a range and with it the distance to
 * its value; a character is sound when the classes of its two nibbles have no bit in common.
 * Source: Mula and Lemire, Faster Base64 Encoding and Decoding Using AVX2 Instructions, 2018. */
#include "kernel/kernel_internal.h"

#include <immintrin.h>

/* Sets ret_bad where a character is not of the alphabet; else each byte becomes its value. */
static ALWAYS_INLINE __m256i sextets_of(__m256i chars, bool *ret_bad)
{
    const __m256i class_of_low =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(0x15, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11,
                                                  0x11, 0x11, 0x13, 0x1a, 0x1b, 0x1b, 0x1b, 0x1a));
    const __m256i class_of_high =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(0x10, 0x10, 0x01, 0x02, 0x04, 0x08, 0x04, 0x08,
                                                  0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10));
    const __m256i distance = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 16, 19, 4, -65, -65, -71, -71, 0, 0, 0, 0, 0, 0, 0, 0));
    const __m256i nibble = _mm256_set1_epi8(0x0f);
    __m256i high = _mm256_and_si256(_mm256_srli_epi32(chars, 4), nibble);
    __m256i low = _mm256_and_si256(chars, nibble);
    *ret_bad = !_mm256_testz_si256(_mm256_shuffle_epi8(class_of_low, low),
                                   _mm256_shuffle_epi8(class_of_high, high));
    __m256i slash = _mm256_cmpeq_epi8(chars, _mm256_set1_epi8('/'));
    return _mm256_add_epi8(chars, _mm256_shuffle_epi8(distance, _mm256_add_epi8(slash, high)));
}

size_t kernel_base64_decode_avx2(const uint8_t *text, size_t len, uint8_t *out)
{
    const __m256i pack = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(2, 1, 0, 6, 5, 4, 10, 9, 8, 14, 13, 12, -1, -1, -1, -1));
    size_t at = 0, got = 0;
    if (len % 4 != 0)
        return SIZE_MAX;
    /* A step writes 32 bytes, 24 of which count: room for 8 more is 11 characters, and one quartet may be padded. */
    for (; len - at >= 32 + 16; at += 32, got += 24) {
        bool bad;
        __m256i chars = _mm256_loadu_si256((const __m256i *)(const void *)(text + at));
        __m256i sextets = sextets_of(chars, &bad);
        if (UNLIKELY(bad))
            return SIZE_MAX;
        __m256i pairs = _mm256_maddubs_epi16(sextets, _mm256_set1_epi32(0x01400140));
        __m256i quads = _mm256_madd_epi16(pairs, _mm256_set1_epi32(0x00011000));
        __m256i packed = _mm256_permutevar8x32_epi32(_mm256_shuffle_epi8(quads, pack),
                                                     _mm256_setr_epi32(0, 1, 2, 4, 5, 6, 7, 7));
        _mm256_storeu_si256((__m256i *)(void *)(out + got), packed);
    }
    size_t rest = kernel_base64_decode_scalar(text + at, len - at, out + got);
    return rest == SIZE_MAX ? SIZE_MAX : got + rest;
}
