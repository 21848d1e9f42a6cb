/* SPDX-License-Identifier: Apache-2.0 */
/* Comparisons of bit-sliced codes, written once: bits_<set>.c defines RANGE, the function's name, and `vector`, a type of 8 to 64 bytes
 * on which & | ~ work bit by bit.
 *
 * Going from the highest bit down, `equal` holds the rows whose bits so far are those of the bound; a row leaves it for good when it differs,
 * and is above or below by that bit.  Bounds that bind nothing are left out: half of the work for one-sided ranges. */
#ifndef KERNEL_BITS_LOOPS_H
#define KERNEL_BITS_LOOPS_H

#include "kernel/bits_internal.h"

#include <string.h>

#define PER_BLOCK (BITS_ROWS / 8 / sizeof(vector))

static ALWAYS_INLINE vector slice_at(const uint8_t *at, unsigned slice)
{
    vector v;
    memcpy(&v, at + (size_t)slice * (BITS_ROWS / 8), sizeof(v));
    return v;
}

/* ones[i]: bit i of the bound, counted from the highest, in every place. */
static ALWAYS_INLINE vector equals(const uint8_t *at, unsigned width, const vector *ones)
{
    vector zero = {0}, equal = ~zero;
    for (unsigned i = 0; i < width; i++)
        equal &= ~(slice_at(at, i) ^ ones[i]);
    return equal;
}

static ALWAYS_INLINE vector at_least(const uint8_t *at, unsigned width, const vector *ones)
{
    vector above = {0}, equal = ~above;
    for (unsigned i = 0; i < width; i++) {
        vector x = slice_at(at, i);
        above |= equal & x & ~ones[i];
        equal &= ~(x ^ ones[i]);
    }
    return above | equal;
}

static ALWAYS_INLINE vector at_most(const uint8_t *at, unsigned width, const vector *ones)
{
    vector below = {0}, equal = ~below;
    for (unsigned i = 0; i < width; i++) {
        vector x = slice_at(at, i);
        below |= equal & ~x & ones[i];
        equal &= ~(x ^ ones[i]);
    }
    return below | equal;
}

static ALWAYS_INLINE vector between(const uint8_t *at, unsigned width, const vector *low,
                                    const vector *high)
{
    vector zero = {0}, same_low = ~zero, same_high = ~zero, above = zero, below = zero;
    for (unsigned i = 0; i < width; i++) {
        vector x = slice_at(at, i);
        above |= same_low & x & ~low[i];
        same_low &= ~(x ^ low[i]);
        below |= same_high & ~x & high[i];
        same_high &= ~(x ^ high[i]);
    }
    return (above | same_low) & (below | same_high);
}

static ALWAYS_INLINE void spread(uint32_t bound, unsigned width, vector *ones)
{
    for (unsigned i = 0; i < width; i++)
        memset(&ones[i], bound >> (width - 1 - i) & 1 ? 0xff : 0, sizeof(vector));
}

#define EACH_VECTOR(expression)                                                      \
    for (size_t block = 0; block < blocks; block++, body += bits_block_size(width))  \
        for (size_t part = 0; part < PER_BLOCK; part++, out += sizeof(vector) / 8) { \
            const uint8_t *at = body + part * sizeof(vector);                        \
            vector v = (expression);                                                 \
            memcpy(out, &v, sizeof(v));                                              \
        }

void RANGE(const uint8_t *body, unsigned width, size_t blocks, uint32_t low, uint32_t high,
           uint64_t *out)
{
    uint32_t most = UINT32_MAX >> (32 - width);
    vector lows[BITS_WIDTH_MAX], highs[BITS_WIDTH_MAX];
    debug_assert(width >= 1 && width <= BITS_WIDTH_MAX && low <= high && high <= most);
    spread(low, width, lows);
    spread(high, width, highs);
    if (low == high) {
        EACH_VECTOR(equals(at, width, lows))
    } else if (high == most) {
        EACH_VECTOR(at_least(at, width, lows))
    } else if (low == 0) {
        EACH_VECTOR(at_most(at, width, highs))
    } else {
        EACH_VECTOR(between(at, width, lows, highs))
    }
}
#endif
