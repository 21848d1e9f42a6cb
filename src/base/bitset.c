/* SPDX-License-Identifier: Apache-2.0 */
/* Dense bits.  Invariant: bits past the end are zero, so counts and scans need no mask. */
#include "base/bitset.h"

#include <string.h>

bool bitset_init(struct bitset *set, size_t bits)
{
    *set = (struct bitset){0};
    if (bits > SIZE_MAX - 63)
        return false;
    set->words = mem_zalloc(bitset_words(bits) * sizeof(uint64_t));
    if (!set->words)
        return false;
    set->bits = bits;
    return true;
}

void bitset_done(struct bitset *set)
{
    if (!set)
        return;
    mem_free(set->words);
    *set = (struct bitset){0};
}

bool bitset_copy(struct bitset *set, const struct bitset *from)
{
    if (!bitset_init(set, from->bits))
        return false;
    if (from->bits)
        memcpy(set->words, from->words, bitset_words(from->bits) * sizeof(uint64_t));
    return true;
}

static void clear_past_end(struct bitset *set)
{
    if (set->bits % 64)
        set->words[set->bits / 64] &= (1ull << (set->bits % 64)) - 1;
}

void bitset_fill(struct bitset *set)
{
    if (set->bits)
        memset(set->words, 0xFF, bitset_words(set->bits) * sizeof(uint64_t));
    clear_past_end(set);
}

void bitset_and(struct bitset *set, const struct bitset *other)
{
    assert(set->bits == other->bits);
    for (size_t i = 0; i < bitset_words(set->bits); i++)
        set->words[i] &= other->words[i];
}

void bitset_or(struct bitset *set, const struct bitset *other)
{
    assert(set->bits == other->bits);
    for (size_t i = 0; i < bitset_words(set->bits); i++)
        set->words[i] |= other->words[i];
}

void bitset_and_not(struct bitset *set, const struct bitset *other)
{
    assert(set->bits == other->bits);
    for (size_t i = 0; i < bitset_words(set->bits); i++)
        set->words[i] &= ~other->words[i];
}

void bitset_not(struct bitset *set)
{
    for (size_t i = 0; i < bitset_words(set->bits); i++)
        set->words[i] = ~set->words[i];
    clear_past_end(set);
}

size_t bitset_count(const struct bitset *set)
{
    size_t count = 0;
    for (size_t i = 0; i < bitset_words(set->bits); i++)
        count += (size_t)__builtin_popcountll(set->words[i]);
    return count;
}

size_t bitset_next(const struct bitset *set, size_t from)
{
    if (from >= set->bits)
        return set->bits;
    size_t i = from / 64, words = bitset_words(set->bits);
    uint64_t word = set->words[i] & (~0ull << (from % 64));
    while (!word) {
        if (++i == words)
            return set->bits;
        word = set->words[i];
    }
    return i * 64 + (size_t)__builtin_ctzll(word);
}
