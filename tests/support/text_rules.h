/* SPDX-License-Identifier: Apache-2.0 */
/* What $prefix, $like and $icontains mean, written down as slowly and plainly as can be: the truth that tests compare with.  Texts are UTF-8. */
#ifndef TESTS_SUPPORT_TEXT_RULES_H
#define TESTS_SUPPORT_TEXT_RULES_H

#include "base/slice.h"

static inline size_t rule_char_len(slice text)
{
    uint8_t c = text.at[0];
    size_t len = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    return len < text.len ? len : text.len;
}

/* Recursion as deep as the pattern is long: patterns of tests are short. */
static inline bool rule_like(slice text, slice like)
{
    if (!like.len)
        return !text.len;
    slice rest = slice_from(like, 1);
    if (like.at[0] == '%') {
        while (rest.len && rest.at[0] == '%') /* as one */
            rest = slice_from(rest, 1);
        for (;; text = slice_from(text, rule_char_len(text))) {
            if (rule_like(text, rest))
                return true;
            if (!text.len)
                return false;
        }
    }
    if (!text.len)
        return false;
    if (like.at[0] == '_')
        return rule_like(slice_from(text, rule_char_len(text)), rest);
    if (like.at[0] == '\\') {
        like = rest;
        rest = slice_from(like, 1);
    }
    return text.at[0] == like.at[0] && rule_like(slice_from(text, 1), rest);
}

/* Letters of ASCII and the small and the large e with acute, which test data have; also the long s and the Kelvin sign. */
static inline uint32_t rule_fold(slice text, size_t *ret_len)
{
    size_t len = rule_char_len(text);
    uint32_t c = text.at[0];
    *ret_len = len;
    for (size_t i = 1; i < len; i++)
        c = c << 8 | text.at[i];
    if (c >= 'A' && c <= 'Z')
        return c + 32;
    return c == 0xc389 ? 0xc3a9 : c == 0xc5bf ? 's' : c == 0xe284aa ? 'k' : c;
}

static inline bool rule_istarts(slice text, slice part)
{
    while (part.len) {
        size_t a, b;
        if (!text.len || rule_fold(text, &a) != rule_fold(part, &b))
            return false;
        text = slice_from(text, a);
        part = slice_from(part, b);
    }
    return true;
}

static inline bool rule_icontains(slice text, slice part)
{
    for (;; text = slice_from(text, rule_char_len(text))) {
        if (rule_istarts(text, part))
            return true;
        if (!text.len)
            return false;
    }
}
#endif
