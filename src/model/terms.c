/* SPDX-License-Identifier: Apache-2.0 */
/* Words of a text as numbers.  Most text stays in one range of a table for long, so the last range found is asked first. */
#include "model/terms.h"

#include "base/attr.h"
#include "model/terms_unicode.h"

#include <math.h>

#define FNV_BASIS 0xcbf29ce484222325u
#define FNV_PRIME 0x100000001b3u

enum { KIND_NONE, KIND_WORD, KIND_PAIR };

/* Digits and lower case letters of what belongs to words; 0 separates. */
static const uint8_t ascii[128] = {
    ['0'] = '0', ['1'] = '1', ['2'] = '2', ['3'] = '3', ['4'] = '4', ['5'] = '5', ['6'] = '6',
    ['7'] = '7', ['8'] = '8', ['9'] = '9', ['A'] = 'a', ['B'] = 'b', ['C'] = 'c', ['D'] = 'd',
    ['E'] = 'e', ['F'] = 'f', ['G'] = 'g', ['H'] = 'h', ['I'] = 'i', ['J'] = 'j', ['K'] = 'k',
    ['L'] = 'l', ['M'] = 'm', ['N'] = 'n', ['O'] = 'o', ['P'] = 'p', ['Q'] = 'q', ['R'] = 'r',
    ['S'] = 's', ['T'] = 't', ['U'] = 'u', ['V'] = 'v', ['W'] = 'w', ['X'] = 'x', ['Y'] = 'y',
    ['Z'] = 'z', ['a'] = 'a', ['b'] = 'b', ['c'] = 'c', ['d'] = 'd', ['e'] = 'e', ['f'] = 'f',
    ['g'] = 'g', ['h'] = 'h', ['i'] = 'i', ['j'] = 'j', ['k'] = 'k', ['l'] = 'l', ['m'] = 'm',
    ['n'] = 'n', ['o'] = 'o', ['p'] = 'p', ['q'] = 'q', ['r'] = 'r', ['s'] = 's', ['t'] = 't',
    ['u'] = 'u', ['v'] = 'v', ['w'] = 'w', ['x'] = 'x', ['y'] = 'y', ['z'] = 'z'};

/* ---- code points ---- */

/* One of two bytes or more; its length, 1 for what is no UTF-8, which separates. */
static uint32_t decode(const uint8_t *at, const uint8_t *end, uint32_t *ret_point)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    uint32_t len = at[0] >= 0xf0 ? 4 : at[0] >= 0xe0 ? 3 : 2, point = at[0] & (0x7fu >> len);
    *ret_point = 0;
    if (at[0] < 0xc2 || at[0] > 0xf4 || (size_t)(end - at) < len)
        return 1;
    for (uint32_t i = 1; i < len; i++) {
        if ((at[i] & 0xc0) != 0x80)
            return 1;
        point = point << 6 | (at[i] & 0x3f);
    }
    if (point < least[len])
        return 1;
    *ret_point = point;
    return len;
}

static uint32_t kind_of(struct terms *terms, uint32_t point)
{
    if (point >= terms->kind_first && point <= terms->kind_last)
        return terms->kind;
    size_t low = 0, high = COUNT_OF(term_kinds); /* the first that ends at `point` or behind */
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (term_kinds[middle].last < point)
            low = middle + 1;
        else
            high = middle;
    }
    bool inside = low < COUNT_OF(term_kinds) && term_kinds[low].first <= point;
    terms->kind_first = inside ? term_kinds[low].first : low ? term_kinds[low - 1].last + 1 : 0;
    if (inside)
        terms->kind_last = term_kinds[low].last;
    else
        terms->kind_last = low < COUNT_OF(term_kinds) ? term_kinds[low].first - 1 : UINT32_MAX;
    terms->kind = inside ? term_kinds[low].kind : KIND_NONE;
    return terms->kind;
}

static uint32_t fold_of(struct terms *terms, uint32_t point)
{
    if (point < terms->fold_first || point > terms->fold_last) {
        size_t low = 0, high = COUNT_OF(term_folds);
        while (low < high) {
            size_t middle = (low + high) / 2;
            if (term_folds[middle].last < point)
                low = middle + 1;
            else
                high = middle;
        }
        bool inside = low < COUNT_OF(term_folds) && term_folds[low].first <= point;
        terms->fold_first = inside ? term_folds[low].first : low ? term_folds[low - 1].last + 1 : 0;
        if (inside)
            terms->fold_last = term_folds[low].last;
        else
            terms->fold_last = low < COUNT_OF(term_folds) ? term_folds[low].first - 1 : UINT32_MAX;
        terms->fold = inside ? &term_folds[low] : NULL;
    }
    const struct term_fold_range *range = terms->fold;
    if (!range || (point - range->first) % range->step)
        return point;
    return (uint32_t)((int32_t)point + range->delta);
}

/* ---- hashes ---- */

static uint64_t hash_byte(uint64_t hash, uint32_t byte)
{
    return (hash ^ byte) * FNV_PRIME;
}

static uint64_t hash_point(uint64_t hash, uint32_t point)
{
    if (point < 0x80)
        return hash_byte(hash, point);
    if (point < 0x800) {
        hash = hash_byte(hash, 0xc0 | point >> 6);
    } else {
        if (point < 0x10000) {
            hash = hash_byte(hash, 0xe0 | point >> 12);
        } else {
            hash = hash_byte(hash, 0xf0 | point >> 18);
            hash = hash_byte(hash, 0x80 | (point >> 12 & 0x3f));
        }
        hash = hash_byte(hash, 0x80 | (point >> 6 & 0x3f));
    }
    return hash_byte(hash, 0x80 | (point & 0x3f));
}

static uint32_t hash_term(uint64_t hash)
{
    return (uint32_t)(hash ^ hash >> 32);
}

/* ---- terms ---- */

/* A character at `at` that is one of a pair, `len` bytes long.  False: it was the second half of the last pair. */
static bool next_pair(struct terms *terms, uint32_t point, uint32_t len, uint32_t *ret_term)
{
    uint64_t hash = hash_point(FNV_BASIS, point);
    bool was_paired = terms->paired;
    uint32_t second;
    terms->at += len;
    terms->paired = false;
    if (terms->at < terms->end && *terms->at >= 0x80) {
        (void)decode(terms->at, terms->end, &second);
        terms->paired = kind_of(terms, second) == KIND_PAIR;
    }
    if (!terms->paired && was_paired)
        return false;
    *ret_term = hash_term(terms->paired ? hash_point(hash, second) : hash);
    return true;
}

bool terms_next(struct terms *terms, uint32_t *ret_term)
{
    uint64_t hash = FNV_BASIS;
    bool in_word = false;
    while (terms->at < terms->end) {
        uint32_t point, len, kind;
        if (*terms->at < 0x80) {
            uint8_t folded = ascii[*terms->at++];
            if (folded) {
                hash = hash_byte(hash, folded);
                in_word = true;
            } else if (in_word) {
                break;
            }
            continue;
        }
        len = decode(terms->at, terms->end, &point);
        kind = kind_of(terms, point);
        if (kind != KIND_WORD && in_word)
            break;
        if (kind == KIND_PAIR) {
            if (next_pair(terms, point, len, ret_term))
                return true;
            continue;
        }
        terms->at += len;
        if (kind == KIND_NONE)
            continue;
        hash = hash_point(hash, fold_of(terms, point));
        in_word = true;
    }
    *ret_term = hash_term(hash);
    return in_word;
}

/* ---- what they are worth ---- */

struct terms_norm terms_norm_of(uint64_t documents, uint64_t terms)
{
    double average = documents && terms ? (double)terms / (double)documents : 1;
    return (struct terms_norm){.base = (float)(TERMS_K1 * (1 - TERMS_B)),
                               .per_term = (float)(TERMS_K1 * TERMS_B / average)};
}

float terms_idf(uint64_t all, uint64_t holders)
{
    double n = (double)(holders < all ? holders : all);
    return (float)log1p(((double)all - n + 0.5) / (n + 0.5));
}
