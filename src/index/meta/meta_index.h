/* SPDX-License-Identifier: Apache-2.0 */
/* The metadata index of one part: where-filters become bitsets.  docs/formats/meta.md; README.md for how a filter is answered.
 *
 * It knows rows by number and bytes by offset in one section: whoever opens it brings pages of that section, checked. */
#ifndef INDEX_META_META_INDEX_H
#define INDEX_META_META_INDEX_H

#include "base/buf.h"
#include "base/pool.h"
#include "index/rows.h"

#define META_CHUNK       65536u /* rows that are evaluated together */
#define META_CHUNK_WORDS (META_CHUNK / 64)
#define META_ROWS_MIN    128u /* parts of fewer rows have no index: decisions/0011 */
#define META_COLUMNS_MAX \
    65536u /* columns that the builder keeps; further keys are looked at row by row */

/* ---- building ---- */
struct meta_build;
struct meta_build_options {
    uint32_t rows;
    struct budget *budget;
    size_t
        work_bytes; /* of columns collected at once; one column is taken whatever it needs, as far as the budget goes */
    const struct limits_of_work *limits; /* NULL: none */
};
typedef och_code (*meta_emit)(void *context, const void *at, size_t len, och_error *err);

MUST_USE och_code meta_build_new(const struct meta_build_options *options,
                                 struct meta_build **ret_build, och_error *err);
void meta_build_free(struct meta_build *build); /* NULL is fine */
/**
 * The next row's metadata, at NULL: it has none.  Rows come in ascending order, all of them in each pass.
 * Metadata that cannot be walked ends the build without an error: meta_build_wanted becomes false, and so it does when the budget cannot take it.
 */
MUST_USE och_code meta_build_row(struct meta_build *build, slice metadata, och_error *err);
/** Is there anything to write?  False: the part gets no index. */
bool meta_build_wanted(const struct meta_build *build);
/** After a pass over all rows: write the columns that it collected.  *ret_more: another pass over the rows is needed for the others. */
MUST_USE och_code meta_build_pass_end(struct meta_build *build, meta_emit emit, void *context,
                                      bool *ret_more, och_error *err);
/** After the last pass: write the directory, *ret_len bytes, the end of the section. */
MUST_USE och_code meta_build_finish(struct meta_build *build, meta_emit emit, void *context,
                                    uint64_t *ret_len, och_error *err);

/* ---- reading ---- */
/** Bytes [offset, offset + len) of the section, checked and pinned until `release`.  len is the same whenever offset is. */
struct meta_pages {
    void *context;
    och_code (*at)(void *context, uint64_t offset, size_t len, const uint8_t **ret_at,
                   och_error *err);
    void (*release)(void *context);
};
struct meta_index {      /* figures are checked against each other */
    slice head;          /* the directory; borrowed */
    uint64_t blocks_len; /* of the section before it */
    uint32_t rows, columns, chunks;
    bool incomplete; /* keys without a column may be there all the same */
};
/** False: figures that do not fit together.  section_len: with the directory. */
MUST_USE bool meta_index_open(slice head, uint64_t section_len, uint32_t rows,
                              struct meta_index *ret_index);

/** Are there columns that are named only? */
bool meta_index_has_gaps(const struct meta_index *index);

/* ---- searching ---- */
enum meta_force { META_BY_COST = 0, META_BY_LISTS, META_BY_SLICES }; /* for tests */
struct meta_search_options {
    const struct meta_index *index; /* NULL: nothing is known of metadata */
    const struct meta_pages *pages;
    uint32_t rows;
    rows_leaf other; /* leaves that are not about metadata; NULL: nothing is known of them */
    void *other_context;
    const struct filter *compiled;       /* of the same tree: its patterns; NULL: those stay open */
    const struct limits_of_work *limits; /* NULL: none */
    enum meta_force force;
};
struct meta_search {
    uint32_t rows;
    bool exact;   /* `maybe` is the same as `sure` in all chunks */
    bool nothing; /* nothing at all is known: look at all rows */
    uint32_t at_least,
        at_most; /* rows for which the filter holds; equal when it is known before any list is read */
    bool damaged;           /* after OCH_CORRUPT: it is the index whose bytes are bad */
    struct meta_eval *eval; /* internal */
};
/**
 * Make a filter ready to be evaluated over one part.  All memory is of `arena`; the tree must outlive the search.
 * Errors: of pages and of `other`, OCH_CORRUPT (then ret_search->damaged says whether it is the index), OCH_NO_MEMORY, OCH_BUSY.
 */
MUST_USE och_code meta_search_init(struct meta_search *search,
                                   const struct meta_search_options *options,
                                   const struct filter_node *node, struct arena *arena,
                                   och_error *err);
/**
 * Rows [chunk * META_CHUNK, ...): bits of rows that pass surely and of those that may; `maybe` is not written when the search is exact and may be
 * NULL then.  Shapes: META_CHUNK_WORDS each, fewer in the last chunk: bitset_words of what is left; bits past the last row are zero.
 * Threads: one at a time.
 */
MUST_USE och_code meta_search_chunk(struct meta_search *search, uint32_t chunk, uint64_t *sure,
                                    uint64_t *maybe, och_error *err);

/**
 * Is it known that no row of the chunk passes?  Then meta_search_chunk would write zeros, and can be left out.  It is known of ranges and values that
 * lie together, and of short lists from the second chunk that is asked for on.  Cost: a look at each leaf.
 */
bool meta_search_is_empty(const struct meta_search *search, uint32_t chunk);

/* ---- order ---- */
struct meta_order_options {
    const struct meta_index *index;
    const struct meta_pages *pages;
    uint32_t rows;
    slice key;
    bool descending;
    bool rows_in_order; /* rows ascend as ties are to come */
    const struct filter_value
        *from; /* values before it, in the walk's direction, may be left out; NULL: none */
    const struct limits_of_work *limits; /* NULL: none */
    /** A column begins: values of one type. */
    och_code (*column)(void *context, och_error *err);
    /** Some of its rows: those of whole values, all before others that come later.  *ret_enough: no more of this column. */
    och_code (*give)(void *context, const uint32_t *rows, uint32_t count, bool *ret_enough,
                     och_error *err);
    void *context;
};
/**
 * Walk through the rows that have a value under a key, each type's in the order of its values, from the least or the greatest on.
 *
 * Rows of one value come in any order unless rows_in_order, and only then may they be cut short.  *ret_known false: the index cannot say (arrays, a column that is
 * only named); then nothing was given.
 * Errors: of pages and the callbacks, OCH_CORRUPT (*ret_damaged: the index), OCH_NO_MEMORY.  Cost: some 5 ns a row that is walked over.
 */
MUST_USE och_code meta_walk_order(const struct meta_order_options *options, bool *ret_known,
                                  bool *ret_damaged, och_error *err);

/* ---- counting ---- */
/** A value that rows have, a scalar or an element of an array, with the type of a scalar; -0.0 is 0.0.  It holds during the call. */
typedef och_code (*meta_counted)(void *context, uint8_t type, slice value, uint64_t count,
                                 och_error *err);
struct meta_count_options {
    const struct meta_index *index;
    const struct meta_pages *pages;
    uint32_t rows;
    slice key;
    const uint64_t
        *mask; /* rows that count: bitset_words(rows), whole chunks can be read; NULL: all */
    struct arena *arena;
    const struct limits_of_work *limits; /* NULL: none */
    meta_counted counted;                /* maybe several times with the same value */
    void *context;
};
/**
 * Count the rows that have each value of a key; a row with an element twice counts once.
 *
 * *ret_known false: the index cannot say (a string longer than it keeps, a column that is only named); then nothing was given to `counted`.
 * Errors: of pages and of `counted`, OCH_CORRUPT (*ret_damaged: the index), OCH_NO_MEMORY, OCH_BUSY.
 * Cost: without a mask a walk through the dictionary; with one 1 to 10 ns a row of it or an entry of the list.
 */
MUST_USE och_code meta_count_values(const struct meta_count_options *options, bool *ret_known,
                                    bool *ret_damaged, och_error *err);
#endif
