/* SPDX-License-Identifier: Apache-2.0 */
/* 128-bit names as text and back. */
#include "model/uuid.h"

/* -1 when it is no hex digit. */
static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool uuid_parse(slice text, uuid *ret_id)
{
    /* The original's forms: also {…} and urn:uuid:…. */
    if (text.len == UUID_TEXT_SIZE + 8 && slice_starts_with(text, SLICE("urn:uuid:")))
        text = slice_from(text, 9);
    else if (text.len == UUID_TEXT_SIZE + 1 && text.at[0] == '{' && text.at[text.len - 1] == '}')
        text = slice_make(text.at + 1, text.len - 2);
    bool dashes = text.len == UUID_TEXT_SIZE - 1;
    if (!dashes && text.len != 32)
        return false;
    uuid id;
    const uint8_t *at = text.at;
    for (unsigned i = 0; i < 16; i++) {
        if (dashes && (i == 4 || i == 6 || i == 8 || i == 10) && *at++ != '-')
            return false;
        int high = hex_digit(at[0]), low = hex_digit(at[1]);
        if (high < 0 || low < 0)
            return false;
        id.bytes[i] = (uint8_t)(high << 4 | low);
        at += 2;
    }
    *ret_id = id;
    return true;
}

const char *uuid_format(uuid id, char text[UUID_TEXT_SIZE])
{
    static const char digits[] = "0123456789abcdef";
    char *at = text;
    for (unsigned i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *at++ = '-';
        *at++ = digits[id.bytes[i] >> 4];
        *at++ = digits[id.bytes[i] & 15];
    }
    *at = 0;
    return text;
}

uuid uuid_random(struct random *random)
{
    uuid id;
    random_fill(random, id.bytes, sizeof(id.bytes));
    id.bytes[6] = (uint8_t)((id.bytes[6] & 0x0f) | 0x40); /* RFC 9562: version 4, variant 10 */
    id.bytes[8] = (uint8_t)((id.bytes[8] & 0x3f) | 0x80);
    return id;
}

bool uuid_is_zero(uuid id)
{
    static const uuid zero;
    return uuid_equal(id, zero);
}
