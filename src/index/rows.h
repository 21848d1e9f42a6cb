/* SPDX-License-Identifier: Apache-2.0 */
/* What an index says of a predicate over the rows of one part: the common answer of index/meta and index/text.
 *
 * An answer is two sets: rows for which the predicate is *sure* to hold and rows for which it *may* hold; sure is a part of maybe.
 * Rows outside maybe fail, rows in maybe and not in sure are looked at one by one.  So "cannot say" is {none, all}, candidates are
 * {none, candidates}, and NOT swaps the two and turns them round (Kleene's rules, as filter_match has them). */
#ifndef INDEX_ROWS_H
#define INDEX_ROWS_H

#include "base/arena.h"
#include "base/bitset.h"
#include "model/filter.h"

enum rows_kind {
    ROWS_NONE = 0,
    ROWS_ALL,
    ROWS_LIST, /* ascending, each once */
    ROWS_BITS  /* bitset_words(rows of the part); bits past the last row are zero */
};
struct rows {
    uint8_t kind;
    uint32_t count; /* exact, whatever the kind */
    const uint32_t *list;
    const uint64_t *words;
};
struct rows_answer {
    bool exact; /* maybe is the answer; sure is not looked at */
    struct rows sure, maybe;
};

static inline struct rows rows_none(void)
{
    return (struct rows){.kind = ROWS_NONE};
}
static inline struct rows rows_all(uint32_t part_rows)
{
    return (struct rows){.kind = ROWS_ALL, .count = part_rows};
}
static inline struct rows_answer rows_unknown(uint32_t part_rows)
{
    return (struct rows_answer){.maybe = rows_all(part_rows)};
}

/**
 * Answer one leaf that the metadata index cannot: FILTER_ID_*, FILTER_DOC_*.  `leaf` is of the tree that filter_parse_* or filter_decode made.
 *
 * Always answers the *positive* predicate (contains, matches, is in), also for FILTER_DOC_NOT_* and FILTER_ID_NIN: the caller turns it round.
 * `open` is how many rows the other leaves leave open at most: where reading those is cheaper than asking an index, answer rows_unknown.
 * Ownership: lists and bits lie in `arena` or live as long as the search that asked.
 * Errors: of reading; damage of a derived section is not one (note it, answer rows_unknown).
 */
typedef och_code (*rows_leaf)(void *context, const struct filter_node *leaf, uint32_t open,
                              struct arena *arena, struct rows_answer *ret_answer, och_error *err);
#endif
