/* SPDX-License-Identifier: Apache-2.0 */
/* Base64 decoding, 64 characters a step: one two-table permutation turns characters into values, two multiply-adds
 * join four values, one permutation drops the empty bytes.
 * Source: Mula and Lemire, Base64 encoding and decoding at almost the speed of a memory copy, 2018. */
#include "kernel/kernel_internal.h"

#include <immintrin.h>

/* Value of each ASCII character, 0x80 where there is none. */
static const uint8_t values[128] = {
#define NONE   0x80
#define NONE4  NONE, NONE, NONE, NONE
#define NONE16 NONE4, NONE4, NONE4, NONE4
    NONE16, NONE16, NONE4, NONE4, NONE, NONE, NONE, 62, NONE, NONE, NONE,  63,    52,   53,
    54,     55,     56,    57,    58,   59,   60,   61, NONE, NONE, NONE4, NONE,  0,    1,
    2,      3,      4,     5,     6,    7,    8,    9,  10,   11,   12,    13,    14,   15,
    16,     17,     18,    19,    20,   21,   22,   23, 24,   25,   NONE,  NONE4, NONE, 26,
    27,     28,     29,    30,    31,   32,   33,   34, 35,   36,   37,    38,    39,   40,
    41,     42,     43,    44,    45,   46,   47,   48, 49,   50,   51,    NONE4, NONE,
};

/* Bytes 2, 1, 0 of each 32-bit lane, the 48 of them side by side. */
static const uint8_t packing[64] = {
    2,  1,  0,  6,  5,  4,  10, 9,  8,  14, 13, 12, 18, 17, 16, 22, 21, 20, 26, 25, 24, 30, 29, 28,
    34, 33, 32, 38, 37, 36, 42, 41, 40, 46, 45, 44, 50, 49, 48, 54, 53, 52, 58, 57, 56, 62, 61, 60,
};

size_t kernel_base64_decode_avx512(const uint8_t *text, size_t len, uint8_t *out)
{
    __m512i table_low = _mm512_loadu_si512(values), table_high = _mm512_loadu_si512(values + 64);
    __m512i pack = _mm512_loadu_si512(packing);
    size_t at = 0, got = 0;
    if (len % 4 != 0)
        return SIZE_MAX;
    /* The last quartet may hold padding: it is left to the scalar loop. */
    for (; len - at > 64; at += 64, got += 48) {
        __m512i chars = _mm512_loadu_si512(text + at);
        __m512i sextets = _mm512_permutex2var_epi8(table_low, chars, table_high);
        if (UNLIKELY(_mm512_movepi8_mask(_mm512_or_si512(chars, sextets)) != 0))
            return SIZE_MAX;
        __m512i pairs = _mm512_maddubs_epi16(sextets, _mm512_set1_epi32(0x01400140));
        __m512i quads = _mm512_madd_epi16(pairs, _mm512_set1_epi32(0x00011000));
        _mm512_mask_storeu_epi8(out + got, 0xffffffffffff, _mm512_permutexvar_epi8(pack, quads));
    }
    size_t rest = kernel_base64_decode_scalar(text + at, len - at, out + got);
    return rest == SIZE_MAX ? SIZE_MAX : got + rest;
}
