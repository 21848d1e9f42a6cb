/* SPDX-License-Identifier: Apache-2.0 */
/* Base64 decoding, 64 characters a step: interleaved loads part the quartets, two table look-ups give the values. */
#include "kernel/kernel_internal.h"

#include <arm_neon.h>

/* Value of each ASCII character, 0xff where there is none. */
static void fill_values(uint8_t values[128])
{
    static const uint8_t alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (int i = 0; i < 128; i++)
        values[i] = 0xff;
    for (uint8_t i = 0; i < 64; i++)
        values[alphabet[i]] = i;
}

static ALWAYS_INLINE uint8x16_t sextets_of(uint8x16_t chars, uint8x16x4_t low, uint8x16x4_t high)
{
    /* A look-up outside its 64 entries gives 0; characters of 128 and more are marked on top. */
    uint8x16_t first = vqtbl4q_u8(low, chars);
    uint8x16_t both = vqtbx4q_u8(first, high, vsubq_u8(chars, vdupq_n_u8(64)));
    return vorrq_u8(both, vcgeq_u8(chars, vdupq_n_u8(128)));
}

size_t kernel_base64_decode_neon(const uint8_t *text, size_t len, uint8_t *out)
{
    size_t at = 0, got = 0;
    if (len % 4 != 0)
        return SIZE_MAX;
    if (len > 64) {
        uint8_t values[128];
        fill_values(values);
        uint8x16x4_t low = vld1q_u8_x4(values), high = vld1q_u8_x4(values + 64);
        for (; len - at > 64; at += 64, got += 48) {
            uint8x16x4_t chars = vld4q_u8(text + at);
            uint8x16_t a = sextets_of(chars.val[0], low, high);
            uint8x16_t b = sextets_of(chars.val[1], low, high);
            uint8x16_t c = sextets_of(chars.val[2], low, high);
            uint8x16_t d = sextets_of(chars.val[3], low, high);
            if (vmaxvq_u8(vorrq_u8(vorrq_u8(a, b), vorrq_u8(c, d))) > 63)
                return SIZE_MAX;
            uint8x16x3_t bytes;
            bytes.val[0] = vorrq_u8(vshlq_n_u8(a, 2), vshrq_n_u8(b, 4));
            bytes.val[1] = vorrq_u8(vshlq_n_u8(b, 4), vshrq_n_u8(c, 2));
            bytes.val[2] = vorrq_u8(vshlq_n_u8(c, 6), d);
            vst3q_u8(out + got, bytes);
        }
    }
    size_t rest = kernel_base64_decode_scalar(text + at, len - at, out + got);
    return rest == SIZE_MAX ? SIZE_MAX : got + rest;
}
