/* SPDX-License-Identifier: Apache-2.0 */
/* Standard base64 (RFC 4648 section 4) with padding, and canonical only: the length is a multiple of four, '='
 * stands only at the end, and the bits that padding leaves over are zero. */
#include "kernel/kernel_internal.h"

static int sextet(uint8_t c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

size_t kernel_base64_decode_scalar(const uint8_t *text, size_t len, uint8_t *out)
{
    if (len % 4 != 0)
        return SIZE_MAX;
    size_t got = 0;
    for (size_t i = 0; i < len; i += 4) {
        const uint8_t *quad = text + i;
        size_t pad = 0;
        if (i + 4 == len && quad[3] == '=')
            pad = quad[2] == '=' ? 2 : 1;
        int a = sextet(quad[0]), b = sextet(quad[1]);
        int c = pad == 2 ? 0 : sextet(quad[2]), d = pad > 0 ? 0 : sextet(quad[3]);
        if ((a | b | c | d) < 0)
            return SIZE_MAX;
        uint32_t bits = (uint32_t)a << 18 | (uint32_t)b << 12 | (uint32_t)c << 6 | (uint32_t)d;
        if (bits & ((1u << 8 * pad) - 1))
            return SIZE_MAX;
        out[got++] = (uint8_t)(bits >> 16);
        if (pad < 2)
            out[got++] = (uint8_t)(bits >> 8);
        if (pad < 1)
            out[got++] = (uint8_t)bits;
    }
    return got;
}

size_t kernel_base64_encode(const uint8_t *at, size_t len, char *out)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t put = 0, i = 0;
    for (; i + 3 <= len; i += 3) {
        uint32_t bits = (uint32_t)at[i] << 16 | (uint32_t)at[i + 1] << 8 | at[i + 2];
        out[put++] = alphabet[bits >> 18];
        out[put++] = alphabet[bits >> 12 & 63];
        out[put++] = alphabet[bits >> 6 & 63];
        out[put++] = alphabet[bits & 63];
    }
    if (i < len) {
        bool two = i + 2 == len;
        uint32_t bits = (uint32_t)at[i] << 16 | (two ? (uint32_t)at[i + 1] << 8 : 0);
        out[put++] = alphabet[bits >> 18];
        out[put++] = alphabet[bits >> 12 & 63];
        out[put++] = two ? alphabet[bits >> 6 & 63] : '=';
        out[put++] = '=';
    }
    return put;
}
