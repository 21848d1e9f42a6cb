/* SPDX-License-Identifier: Apache-2.0 */
/* The text index of one immutable part: byte trigrams and the rows that have them.  docs/formats/text.md; README.md says how it searches.
 *
 * It only ever says "no": rows it returns are candidates whose text must be tested, unless the answer says that it is exact. */
#ifndef INDEX_TEXT_TEXT_H
#define INDEX_TEXT_TEXT_H

#include "base/arena.h"
#include "base/bitset.h"
#include "base/sched.h"

#define TEXT_BYTES_MIN    (256u << 10) /* parts with less text have no index: reading it takes less */
#define TEXT_CAPACITY_MIN (2u << 20)   /* postings of a segment */
#define TEXT_CAPACITY_MAX (16u << 20)

/* ---- building ---- */

/** Documents by row; they hold until the next call.  at == NULL: the row has none. */
struct text_rows {
    void *context;
    uint32_t count;
    och_code (*row)(void *context, uint32_t row, slice *ret_document, och_error *err);
};
struct text_options {
    struct budget *budget;               /* NULL: uncounted */
    const struct limits_of_work *limits; /* NULL: none */
    uint64_t text_bytes;                 /* of all documents, at most: bounds what is allocated */
    uint32_t capacity;                   /* postings sorted at once; 0 = TEXT_CAPACITY_MAX */
    och_code (*emit)(void *context, const void *at, size_t len, och_error *err);
    void *emit_context;
};
/**
 * Write the section in one pass over the rows, piece by piece.
 *
 * Same rows and capacity, same bytes.  Memory: 8 bytes per posting of a segment (or of the row with most), 2 MiB, a segment's dictionary; charged.
 * *ret_directory_len: the section's last bytes that an opened index keeps.
 * Errors: the rows'; emit's; OCH_BUSY, OCH_NO_MEMORY, OCH_CANCELLED, OCH_DEADLINE.
 */
MUST_USE och_code text_build(const struct text_options *options, const struct text_rows *rows,
                             uint32_t *ret_directory_len, och_error *err);

/* ---- what is looked for ---- */

struct text_node;
/** A condition on a row's grams that every row which passes fulfils. */
struct text_query {
    const struct text_node *root;
    uint32_t nodes, depth; /* of the tree under root */
    uint64_t len_min;      /* shorter documents cannot pass */
    bool exact;            /* rows that fulfil it pass: nothing to test */
};
/** Documents that hold `needle`.  Errors: OCH_NO_MEMORY. */
MUST_USE och_code text_query_contains(slice needle, struct arena *arena,
                                      struct text_query *ret_query, och_error *err);
/**
 * Documents in which `pattern`, one that the regex engine has compiled, matches.
 *
 * What is not understood, or takes more room than the arena allows, gives "all rows that have a document".
 * Source: Cox, "Regular Expression Matching with a Trigram Index" (2012), on UTF-8 bytes.
 */
void text_query_regex(slice pattern, struct arena *arena, struct text_query *ret_query);
/** Does a document's text fulfil the condition?  For tests: without any index. */
bool text_query_allows(const struct text_query *query, slice document);

/* ---- reading ---- */

/** Bytes of the section from `offset` on: *ret_len of them, at least one, which hold until the next call. */
struct text_pages {
    void *context;
    och_code (*at)(void *context, uint64_t offset, const uint8_t **ret_at, size_t *ret_len,
                   och_error *err);
};
/** An opened index; borrows its directory. */
struct text_index {
    uint32_t rows, segments, capacity, present;
    uint64_t text_bytes, len_max; /* of all documents; of the longest */
    const uint8_t *segment_at;    /* entries */
    const uint8_t *top_at;        /* of dictionary blocks */
};
/** Check every figure of the directory (the section's last bytes) against the sizes; false: not an index of this part. */
MUST_USE bool text_index_open(slice directory, uint64_t section_bytes, uint32_t part_rows,
                              struct text_index *ret_index);
/**
 * The rows that fulfil a query: bitset_words(rows) words in `arena`, and how many.
 *
 * Cost: per segment a dictionary look-up per gram (about 0.2 µs), then 1 ns per posting decoded, rarest lists first and only as long as that is cheaper
 * than testing the rows left.  Memory: a bit per row of a segment, times the tree's depth.
 * documents: NULL, or where to read texts; used for strings of one or two bytes that nearly all rows hold, for up to 1,024 rows of a segment.  What it cannot read is
 * decided by the lists.
 * Errors: of the pages; OCH_CORRUPT (figures in the section that cannot be, with `*ret_offset` the place); OCH_CANCELLED, OCH_DEADLINE.
 */
MUST_USE och_code text_search(const struct text_index *index, const struct text_pages *pages,
                              const struct text_query *query, const struct text_rows *documents,
                              const struct limits_of_work *limits, struct arena *arena,
                              uint64_t **ret_words, uint32_t *ret_count, uint64_t *ret_offset,
                              och_error *err);
#endif
