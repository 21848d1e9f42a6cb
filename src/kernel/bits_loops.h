/* SPDX-License-Identifier: Apache-2.0 */
/* Comparisons of bit-sliced codes and the slicing itself, written once: bits_<set>.c defines RANGE and SLICE_CODES, the functions' names, and
 * `vector`, a type of 8 to 64 bytes made of u64 on which & | ~ << >> work.
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

/* ---- slicing ---- */

#define CODE_BITS 32u
#define LANES     (sizeof(vector) / 4) /* of 32 codes each */

/* Lane by lane a square of 32 x 32 bits is turned over: bit j of m[i] was bit i of m[j].  Only m[0] to m[width - 1] are made; bits from `width` on are
 * zero in all codes, so the part of the square that is empty is left out.  Shifts cross lanes, the masks take that away again.
 * Source: Warren, "Hacker's Delight", 2nd edition, 7-3. */
static ALWAYS_INLINE void turn_over(vector *m, unsigned width)
{
    uint64_t mask = 0x0000ffff0000ffffu;
    unsigned live = CODE_BITS;
    for (unsigned step = CODE_BITS / 2; step; step /= 2, mask ^= mask << step) {
        if (width <= step && live == 2 * step) {
            for (unsigned k = 0; k < step; k++)
                m[k] |= m[k + step] << step;
            live = step;
            continue;
        }
        for (unsigned k = 0; k < live; k = (k + step + 1) & ~step) {
            vector moved = (m[k] >> step ^ m[k + step]) & mask;
            m[k] ^= moved << step;
            m[k + step] ^= moved;
        }
    }
}

void SLICE_CODES(const uint32_t *codes, size_t blocks, unsigned width, uint8_t *body)
{
    debug_assert(width >= 1 && width <= BITS_WIDTH_MAX);
    for (; blocks--; body += bits_block_size(width))
        for (size_t part = 0; part < PER_BLOCK; part++, codes += LANES * CODE_BITS) {
            uint32_t words[CODE_BITS][LANES];
            vector m[CODE_BITS];
            for (size_t lane = 0; lane < LANES; lane++)
                for (size_t i = 0; i < CODE_BITS; i++)
                    words[i][lane] = codes[lane * CODE_BITS + i];
            memcpy(m, words, sizeof(m));
            turn_over(m, width);
            for (unsigned i = 0; i < width; i++)
                memcpy(body + (size_t)i * (BITS_ROWS / 8) + part * sizeof(vector),
                       &m[width - 1 - i], sizeof(vector));
        }
}
#endif
