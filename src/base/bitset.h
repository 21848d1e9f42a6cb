/* SPDX-License-Identifier: Apache-2.0 */
/* Dense bits in u64 words, for scans. */
#ifndef BASE_BITSET_H
#define BASE_BITSET_H

#include "base/mem.h"

struct bitset {
    uint64_t *words;
    size_t bits;
};

static inline size_t bitset_words(size_t bits)
{
    return (bits + 63) / 64;
}
MUST_USE bool bitset_init(struct bitset *set, size_t bits); /* all zero */
void bitset_done(struct bitset *set);
MUST_USE bool bitset_copy(struct bitset *set, const struct bitset *from);
static inline bool bitset_has(const struct bitset *set, size_t i)
{
    debug_assert(i < set->bits);
    return set->words[i / 64] >> (i % 64) & 1;
}
static inline void bitset_add(struct bitset *set, size_t i)
{
    debug_assert(i < set->bits);
    set->words[i / 64] |= 1ull << (i % 64);
}
static inline void bitset_remove(struct bitset *set, size_t i)
{
    set->words[i / 64] &= ~(1ull << (i % 64));
}
void bitset_fill(struct bitset *set); /* all one; bits past the end stay zero */
void bitset_and(struct bitset *set, const struct bitset *other);
void bitset_or(struct bitset *set, const struct bitset *other);
void bitset_and_not(struct bitset *set, const struct bitset *other);
void bitset_not(struct bitset *set);
size_t bitset_count(const struct bitset *set);
/** First set bit at or after `from`; set->bits when there is none. */
size_t bitset_next(const struct bitset *set, size_t from);
#endif
