/* SPDX-License-Identifier: Apache-2.0 */
/* Substring search, written once: find_<set>.c first defines NAME, WIDTH and
 *
 *   starts(at, gap, first, last)  bit i: at[i] == first and at[i + gap] == last, for i < WIDTH
 *
 * Places whose first and last byte fit are compared in full.  Hostile text can make all of them fit and none match,
 * so the bytes compared in vain are counted and past a few per byte of text the linear search takes over. */
#ifndef KERNEL_FIND_LOOPS_H
#define KERNEL_FIND_LOOPS_H

#include "kernel/kernel_internal.h"

#include <string.h>

#define WASTE_PER_BYTE 4
#define WASTE_FREE     4096

static size_t find_linear(const uint8_t *text, size_t len, size_t from, const uint8_t *needle,
                          size_t needle_len)
{
    size_t found = kernel_find_scalar(text + from, len - from, needle, needle_len);
    return found == SIZE_MAX ? SIZE_MAX : from + found;
}

size_t NAME(const uint8_t *text, size_t len, const uint8_t *needle, size_t needle_len)
{
    if (needle_len == 0)
        return 0;
    if (needle_len > len)
        return SIZE_MAX;
    size_t gap = needle_len - 1, waste = 0, at = 0;
    if (len - gap < WIDTH)
        return find_linear(text, len, 0, needle, needle_len);
    for (;;) {
        uint64_t places = starts(text + at, gap, needle[0], needle[gap]);
        while (UNLIKELY(places != 0)) {
            size_t place = at + (size_t)__builtin_ctzll(places);
            if (needle_len <= 2 || memcmp(text + place + 1, needle + 1, needle_len - 2) == 0)
                return place;
            waste += needle_len;
            places &= places - 1;
        }
        if (UNLIKELY(waste > WASTE_FREE + WASTE_PER_BYTE * at))
            return find_linear(text, len, at + WIDTH, needle, needle_len);
        size_t left = len - gap - at - WIDTH; // places not looked at yet
        if (left == 0)
            return SIZE_MAX;
        at += left < WIDTH ? left : WIDTH; // the last step looks at some places twice
    }
}
#endif
