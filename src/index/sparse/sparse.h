/* SPDX-License-Identifier: Apache-2.0 */
/* The sparse index of one immutable part: for each dimension the rows that hold it, with their weights.  docs/formats/sparse.md; README.md says how it
 * searches.  One index serves all keys of the schema that have one.
 *
 * An index of text is the same over documents: terms (model/terms.h) are the dimensions, how often they stand there is stored, and the weights come of that, the
 * document's length and the average of all, which the searcher knows. */
#ifndef INDEX_SPARSE_SPARSE_H
#define INDEX_SPARSE_SPARSE_H

#include "base/arena.h"
#include "base/bytes.h"
#include "base/sched.h"
#include "model/terms.h"

#define SPARSE_CAPACITY_MIN (256u << 10) /* postings of a segment */
#define SPARSE_CAPACITY_MAX (16u << 20)
#define SPARSE_WINDOW       16384u /* rows scored together */
#define SPARSE_SLOTS        65u    /* pieces that a search holds at once */

/* ---- one stored vector ---- */

/** A sparse vector as metadata holds it: little-endian, at any address. */
struct sparse_value {
    const uint8_t *dims, *weights;
    uint32_t count;
};
/** The vector under a key; false: there is none, or it is not one (dimensions ascend strictly). */
bool sparse_value_find(slice metadata, slice key, struct sparse_value *ret_value);
static inline uint32_t sparse_value_dim(const struct sparse_value *value, uint32_t i)
{
    return load_u32(value->dims + 4 * (size_t)i);
}
static inline float sparse_value_weight(const struct sparse_value *value, uint32_t i)
{
    return load_f32(value->weights + 4 * (size_t)i);
}
/** Dimensions of a query, strictly ascending. */
struct sparse_terms {
    const uint32_t *dims;
    const float *weights;
    uint32_t count;
};
/** Call `found(context, term, weight)` for each dimension that both have, ascending; returns how many. */
uint32_t sparse_value_match(const struct sparse_value *value, const struct sparse_terms *terms,
                            void (*found)(void *context, uint32_t term, float weight),
                            void *context);
/** The score of a sum of products; one rounding to f32, one subtraction. */
static inline float sparse_score(double sum)
{
    return 1.0f - (float)sum;
}

/* ---- building ---- */

/** Metadata by row, or its document (at == NULL: none); it holds until the next call. */
struct sparse_rows {
    void *context;
    uint32_t count;
    och_code (*row)(void *context, uint32_t row, slice *ret_value, och_error *err);
};
struct sparse_options {
    struct budget *budget;               /* NULL: uncounted */
    const struct limits_of_work *limits; /* NULL: none */
    bool text;                           /* rows give documents; one key, whatever its name */
    const slice *keys;                   /* ascending, each once */
    uint32_t key_count;
    uint32_t capacity; /* postings sorted at once; 0 = SPARSE_CAPACITY_MAX */
    bool raw;          /* weights as they are, as in version 1: to compare with what that wrote */
    och_code (*emit)(void *context, const void *at, size_t len, och_error *err);
    void *emit_context;
};
/**
 * Write the section in one pass over the rows for each key, piece by piece.
 *
 * Same rows and capacity, same bytes.  Memory: 24 bytes per posting of a segment (or of the row with most), its dictionary and block directory, of text
 * 4 bytes a row; charged.  Postings of text are counted with repetitions.
 * *ret_directory_len: the section's last bytes that an opened index keeps; 0: nothing was written.
 * Errors: the rows'; emit's; OCH_BUSY, OCH_NO_MEMORY, OCH_CANCELLED, OCH_DEADLINE.
 */
MUST_USE och_code sparse_build(const struct sparse_options *options, const struct sparse_rows *rows,
                               uint32_t *ret_directory_len, och_error *err);

/* ---- searching ---- */

/** An opened index; borrows its directory. */
struct sparse_index {
    slice directory;
    uint64_t size; /* of the section */
    uint32_t rows, capacity, key_count, segment_count;
    const uint8_t *keys, *segments, *tops;
    bool raw; /* version 1: weights as they are */
    /* of text */
    bool text;
    uint32_t documents;
    uint64_t terms, lengths_at; /* of all documents together; u32 by row, in the section */
};
/** False: figures that do not fit together. */
bool sparse_index_open(slice directory, uint64_t section_size, uint32_t rows,
                       struct sparse_index *ret);

/** Bytes of the section from `offset` on: *ret_len of them lie at *ret_at until the next call with the same slot. */
struct sparse_pages {
    void *context;
    och_code (*at)(void *context, uint32_t slot, uint64_t offset, const uint8_t **ret_at,
                   size_t *ret_len, och_error *err);
};

/** Does the index know this key?  Else the rows must be asked. */
bool sparse_index_has(const struct sparse_index *index, slice key);

slice sparse_index_key(const struct sparse_index *index, uint32_t i);

/** What becomes of rows that a search finds. */
struct sparse_hits {
    void *context;
    /** The score that a new row must not exceed; +inf until there are enough. */
    float (*bound)(void *context);
    /** Does an undecided row pass after all? */
    och_code (*verify)(void *context, uint32_t row, bool *ret_passes, och_error *err);
    och_code (*offer)(void *context, uint32_t row, float score, och_error *err);
};
enum sparse_plan {
    SPARSE_AUTO = 0,
    SPARSE_FLAT, /* every posting is added: the baseline */
    SPARSE_EXACT /* every row that may be is scored in f64 at once */
};
struct sparse_search {
    const struct sparse_index *index;
    const struct sparse_pages *pages;
    slice key;
    struct sparse_terms terms;
    struct terms_norm norm; /* of an index of text */
    size_t k;
    const uint64_t *allowed; /* bit per row; NULL: all */
    uint64_t allowed_count;
    const uint64_t *sure; /* allowed rows that need no verification; NULL: all, unless none_sure */
    bool none_sure;
    const struct sparse_hits *hits;
    const struct limits_of_work *limits; /* NULL: none */
    enum sparse_plan plan;
    /* what was done, added up: postings added to accumulators, decoded for exact sums, in all lists; windows */
    uint64_t postings_read, postings_settled, postings_all, windows, windows_skipped;
};
/**
 * Offer every allowed row that holds a dimension of the query and may be among the k best, each once, with its exact score.
 *
 * Cost: 1 to 1.5 ns per posting read.  Memory of the arena: 1.2 KiB per dimension and segment searched at once, 16 bytes per block of its list, 0.4 MiB.
 * Errors: of pages and hits; OCH_CORRUPT with *ret_offset in the section; OCH_NO_MEMORY, OCH_CANCELLED, OCH_DEADLINE.
 */
MUST_USE och_code sparse_search(struct sparse_search *search, struct arena *arena,
                                uint64_t *ret_offset, och_error *err);
/** Add to holders[i] the rows that hold dims[i], those of `dead` (NULL: none) left out.  Errors as sparse_search. */
MUST_USE och_code sparse_count(const struct sparse_index *index, const struct sparse_pages *pages,
                               slice key, const struct sparse_terms *terms, const uint64_t *dead,
                               const struct limits_of_work *limits, struct arena *arena,
                               uint64_t *holders, uint64_t *ret_offset, och_error *err);
/** Documents of an index of text and the terms in them, rows of `dead` (NULL: none) left out.  Errors as sparse_search. */
MUST_USE och_code sparse_totals(const struct sparse_index *index, const struct sparse_pages *pages,
                                const uint64_t *dead, uint64_t *ret_documents, uint64_t *ret_terms,
                                och_error *err);
#endif
