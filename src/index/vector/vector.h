/* SPDX-License-Identifier: Apache-2.0 */
/* The vector index of one immutable part: inverted lists over 1-bit and 8-bit codes.  docs/formats/vector.md; README.md says how it searches.
 *
 * It knows rows by number and bytes by offset; where they lie and how they are checked is the part's business.  What it returns are
 * candidates: the caller computes the distances that are reported from the stored vectors (D7). */
#ifndef INDEX_VECTOR_VECTOR_H
#define INDEX_VECTOR_VECTOR_H

#include "base/arena.h"
#include "base/pool.h"
#include "kernel/code.h"
#include "model/record.h"

#define VECTOR_CODES_MIN   2000 /* parts with fewer vectors have no codes: they are scanned exactly */
#define VECTOR_FLAT_ROWS   20000 /* up to here one list, in the order of insertion */
#define VECTOR_SUPER_LISTS 8192
#define VECTOR_NO_LIST     UINT32_MAX

/* ---- building ---- */

/** Rows by source index; a row's vector holds until the reader's next call.  NULL: it has none. */
struct vector_rows {
    void *context;
    uint32_t count;
    och_code (*row)(void *reader, uint32_t i, const float **ret_vector, och_error *err);
    /** A reader for one more thread.  NULL: the context is the reader of all of them. */
    och_code (*reader_new)(void *context, void **ret_reader, och_error *err);
    void (*reader_free)(void *reader);
    /** Merges, with options.inputs: the input that a source comes from and its row there; constant, any thread. */
    void (*place)(const void *context, uint32_t i, uint32_t *ret_input, uint32_t *ret_row);
    /** The 8-bit code of an input's row, until the reader's next call; NULL: it cannot be read, its vector says it. */
    och_code (*code8)(void *reader, uint32_t input, uint32_t row, const uint8_t **ret_row8,
                      och_error *err);
};
struct vector_options {
    uint32_t dimension;
    enum metric metric;
    struct budget *budget;               /* NULL: uncounted */
    struct pool *pool;                   /* NULL: one thread; reader_new then makes a reader each */
    const struct limits_of_work *limits; /* NULL: none */
    size_t work_bytes;                   /* rows held at once while training; 0 = 128 MiB */
    uint32_t flat_rows;                  /* 0 = VECTOR_FLAT_ROWS; tests and benchmarks */
    uint32_t
        list_rows; /* 0: lists as short as queries want; else of so many rows: cheap, for a part that is going to be merged */
    /** Indexes of the parts that the rows come from; entries may be NULL.  Codes of the space that most rows share are taken over, and
     *  the lists of the largest of these inputs while they fit (README, "Merging"). */
    const struct vector_index *const *inputs;
    uint32_t input_count;
    const struct vector_index
        *like; /* no inputs: take its mean and rotation if they fit, so that merges copy codes */
};
struct vector_build; /* one thread */

/** Is an index worth it for so many vectors? */
bool vector_wanted(uint64_t vectors, uint32_t dimension);
/** Bytes that a build holds for each row while it makes codes; besides that it takes some 20 to 150 MB (docs/sizing.md, "Building"). */
uint64_t vector_build_row_bytes(uint32_t dimension);
/**
 * Train, assign, encode and calibrate.
 *
 * Same rows in the same order, same bytes, whatever the threads.  Reads all rows four to six times, most of it in ascending order.
 * Errors: the rows'; OCH_BUSY, OCH_NO_MEMORY, OCH_CANCELLED, OCH_DEADLINE.
 */
MUST_USE och_code vector_build_new(const struct vector_options *options,
                                   const struct vector_rows *rows, struct vector_build **ret_build,
                                   och_error *err);
void vector_build_free(struct vector_build *build);
/** row -> source index: lists one behind the other, then rows outside the codes, then rows without a vector; NULL: as they came.
 *  Within each the order of the source. */
const uint32_t *vector_build_order(const struct vector_build *build);
/** Contents of the sections, borrowed from the build.  CODE8 is streamed by vector_build_code8. */
struct vector_built {
    slice mean, list, centq, super, code; /* super: empty with one list */
    uint64_t code8_bytes;
    uint32_t coded, lists, lists_098; /* lists for a recall of 0.98, by calibration */
    float rms;
    uint32_t trained_rows, trained_lists,
        trained_098; /* of the training that the lists come from */
    float trained_rms;
    uint32_t
        space_of; /* the input whose mean and rotation these are; 0 with `like`; VECTOR_NEW_SPACE */
    uint32_t base; /* the input whose lists these are, or VECTOR_NEW_SPACE: trained anew */
};
#define VECTOR_NEW_SPACE UINT32_MAX
struct vector_built vector_build_result(const struct vector_build *build);
/** The 8-bit rows in row order, in pieces. */
MUST_USE och_code vector_build_code8(struct vector_build *build,
                                     och_code (*emit)(void *context, const void *at, size_t len,
                                                      och_error *err),
                                     void *context, och_error *err);

/* ---- reading ---- */

/** How a search gets at CODE and CODE8: the piece that holds unit `unit` (a block of CODE, a row of CODE8), made of the whole units
 *  [*ret_first, *ret_first + *ret_units).  It holds until the section is asked again, or `want` or `fetch` are called.
 *
 *  cold: asking may mean waiting for a disk.  Then the search says before which units it `want`s, and `fetch` reads them all at once. */
enum vector_section { VECTOR_CODE, VECTOR_CODE8 };
struct vector_held {
    const uint8_t *const *at; /* by piece: where it lies in memory; NULL: not known */
    uint64_t units;           /* in each but the last; 0: there are no such pieces */
};
struct vector_pages {
    void *context;
    och_code (*at)(void *context, enum vector_section section, uint64_t unit,
                   const uint8_t **ret_base, uint64_t *ret_first, uint64_t *ret_units,
                   och_error *err);
    /* Optional, by section: pieces held, until asking for one fails to find room.  peek: hold one that is in memory; never waits; else NULL. */
    struct vector_held held[2];
    const uint8_t *(*peek)(void *context, enum vector_section section, uint64_t piece);
    bool cold;
    void (*want)(void *context, enum vector_section section, uint64_t unit);
    void (*fetch)(void *context);
};

struct vector_index;
/** Are its lists, or is its one list, as short as queries want, or were they trained for a part on the way (list_rows)? */
bool vector_lists_suit(const struct vector_index *index);

/** An opened index; borrows the sections. */
struct vector_index {
    enum metric metric;
    uint32_t dimension, wide, code_dim; /* with ip's extra coordinate; padded */
    uint32_t coded,
        outside; /* rows [0, coded) have codes, [coded, coded + outside) must be scored */
    uint32_t lists;
    uint64_t blocks, seed;
    float big2, gamma, kappa, rms;
    float fall;   /* of reach with each doubling of a list's place; 0: not known */
    float nearer; /* what reach is more for two neighbours than for ten; 0: not known */
    float far;    /* |q-c|² of its first list from which on a query is far off; 0: not known */
    uint32_t trained_rows, trained_lists, trained_098, lists_098; /* 0: not known */
    float trained_rms, trained_imbalance;
    uint32_t cells;                    /* of SUPER; 0: none */
    const uint8_t *super, *cell_first; /* coarse blocks; u32[cells + 1] */
    uint32_t
        super_cells; /* so many of the nearest cells hold what a query looks for, by calibration */
    uint32_t super_from;  /* with more lists than this they are asked first; VECTOR_SUPER_LISTS */
    const float *mean;    /* wide floats */
    const uint8_t *list;  /* 16 bytes each */
    const uint8_t *centq; /* coarse blocks */
    const uint8_t *budgets;
};
/** Check every figure of MEAN and LIST against the sizes; false: not an index of this part. */
MUST_USE bool vector_index_open(slice mean, slice list, slice centq, uint64_t code_bytes,
                                uint64_t code8_bytes, uint32_t part_rows, uint32_t dimension,
                                enum metric metric, struct vector_index *ret_index);
/** SUPER, checked against the index; false: not this index's.  Empty: there is none. */
MUST_USE bool vector_index_super(struct vector_index *index, slice super);

enum vector_mode {
    VECTOR_BUDGET, /* as many lists as calibration says, without those out of reach */
    VECTOR_PROBE,  /* filtered: all lists in reach that have survivors */
    VECTOR_FULL,   /* all lists with survivors */
    VECTOR_CODES8, /* the 8-bit code of every survivor */
    VECTOR_EXACT,  /* so few that their stored vectors are looked at: no search */
    VECTOR_CODES1  /* without lists (vector_frame.h): the 1-bit code of every survivor */
};
/** A search as planned; make it with vector_plan_make and change what you know better. */
struct vector_plan {
    enum vector_mode mode;
    uint32_t k, keep;     /* 8-bit distances that decide the threshold */
    uint32_t rerank_max;  /* candidates handed over, at most */
    uint32_t lists;       /* VECTOR_BUDGET: visit at most */
    float key;            /* and none beyond this key; by vector_share, 0: not set */
    float epsilon, reach; /* of the bound; of the stop rule */
    float fall;           /* of reach with each doubling of a list's place */
    /* VECTOR_PROBE: where but one row in r passes, the k nearest are r·k rows away and reach less: by this for each tenfold, to no less than that */
    float reach_fall, reach_least;
};
/** Choose by cost; `survivors` of the coded rows, `coded` when nothing is filtered. */
struct vector_plan vector_plan_make(const struct vector_index *index, uint32_t k, float recall,
                                    uint64_t survivors);
/** Search harder than calibration says, effort ≥ 1: so many times the lists, and lists that reach farther; INFINITY: all of them. */
void vector_plan_effort(struct vector_plan *plan, const struct vector_index *index, float effort);
/** Lists that calibration promises a recall for. */
uint32_t vector_budget(const struct vector_index *index, uint32_t k, float recall);

/** The 8-bit distances that searches of several parts for one query have found so far: what decides the threshold goes along from part to part, as
 *  if they were one.  In a scale that all parts share. */
struct vector_carry {
    float *heap;        /* few: ascending; many: a max-heap */
    uint32_t len, keep; /* keep: as vector_plan.keep, the largest of the parts */
};
MUST_USE och_code vector_carry_init(struct vector_carry *carry, uint32_t keep, struct arena *arena,
                                    och_error *err);
/** ip: a query is compared with codes as if it were twice as long as rows usually are.  The order of rows by inner product is the same for any length, but what
 *  distances to lists tell is not. */
struct vector_stretch {
    double times, norm2; /* Σq² of the stretched query */
};
/** One for all parts that a query searches; l2, cosine: none.  O(dimension). */
struct vector_stretch vector_stretch(const struct vector_index *const *indexes, size_t count,
                                     const float *q);
/** A row that was found without codes. */
void vector_carry_add(struct vector_carry *carry, enum metric metric,
                      const struct vector_stretch *stretch, float reported);

struct vector_search;
struct vector_query {
    struct vector_carry *carry;  /* NULL: this part stands for itself */
    struct vector_search *begun; /* by vector_search_begin; NULL: vector_search does it all */
    const struct vector_index *index;
    const struct vector_pages *pages;
    const float *vector;
    struct vector_stretch stretch; /* times 0: that of this part alone */
    const uint64_t *mask;          /* bit per row that may be returned; NULL: all */
    float bound; /* only rows with a smaller or equal reported distance matter; +inf: all do */
    const struct limits_of_work *limits;
    bool timed;
    /** Asked about rows before their 8-bit codes are read; NULL: the mask says all.  Keeps those that may be returned, in order. */
    och_code (*allow)(void *context, uint32_t *rows, uint32_t *count, och_error *err);
    void *allow_context;
    struct vector_plan plan;
};
struct vector_candidate {
    uint32_t row;
    float distance, error; /* by 8-bit code, internal; comparable among parts, too */
};
struct vector_found {
    struct vector_candidate *rows; /* by ascending row */
    size_t count;
    uint64_t lists_probed, rows_scanned, rows_scored; /* 1-bit, 8-bit */
    uint64_t coarse_ns, scan_ns, score_ns;            /* when timed */
};
/**
 * First half of a search: the query among the lists.  Needs index, vector, plan.mode and plan.k; lets several parts share one budget
 * (vector_share).  *ret NULL: this query cannot be answered by codes.  Lives in the arena.
 */
MUST_USE och_code vector_search_begin(const struct vector_query *query, struct arena *arena,
                                      struct vector_search **ret, och_error *err);
/**
 * Lists of several parts as one order: set plan.lists of searches begun with VECTOR_BUDGET, so that together they visit the nearest lists, as
 * many as each part's calibration says for its share of the neighbours, times effort.  Same metric, same k and recall.
 */
void vector_share(struct vector_query *const *queries, size_t count, float recall, float effort);
/** Candidates of several parts searched with one carry: leave those among which the k nearest of all are. */
void vector_join(struct vector_found *found, size_t count, uint32_t k, struct arena *arena);
/**
 * The rows among which the k nearest are, as far as the codes can tell; min(k, survivors) at least when bound is +inf.
 *
 * Rows outside the codes are not looked at.  False in *ret_usable: this query cannot be answered by codes (no direction, too long).
 */
MUST_USE och_code vector_search(const struct vector_query *query, struct arena *arena,
                                struct vector_found *ret_found, bool *ret_usable, och_error *err);
#endif
