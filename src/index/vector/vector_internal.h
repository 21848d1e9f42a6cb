/* SPDX-License-Identifier: Apache-2.0 */
/* Shared inside index/vector/ only. */
#ifndef INDEX_VECTOR_INTERNAL_H
#define INDEX_VECTOR_INTERNAL_H

#include "base/bytes.h"
#include "base/clock.h"
#include "index/vector/vector.h"
#include "kernel/kernel.h"

#include <math.h>

/* ---- format (docs/formats/vector.md) ---- */
#define VECTOR_KAPPA       0.603f      /* sqrt(1 - 2/pi), where it is not measured */
#define VECTOR_MAGIC       0x5856434fu /* "OCVX" */
#define VECTOR_MAJOR       1
#define VECTOR_HEADER_SIZE 256u /* of MEAN; the mean follows */
#define VECTOR_LIST_SIZE   16u
#define VECTOR_TARGETS     6u
#define VECTOR_KS          2u
#define VECTOR_TRAINED_AT  64u
#define VECTOR_FALL_AT     96u
#define VECTOR_PLACED_AT   100u /* for k = 10, 50, by targets */
#define VECTOR_NEARER_AT   124u /* what it is more for k = 2 than for 10 */
#define VECTOR_FAR_AT      20u
#define VECTOR_BUDGETS_AT  128u
#define VECTOR_REACH_AT    176u /* by ks and targets, as the lists */
#define VECTOR_PROBE_AT    224u
#define VECTOR_PROBES      4u
extern const float vector_targets[VECTOR_TARGETS], vector_probes[VECTOR_PROBES];
#define VECTOR_PLACED 3u
extern const uint32_t vector_ks[VECTOR_KS], vector_placed_ks[VECTOR_PLACED];
#define VECTOR_PLACED_UNIT 2048.0f /* of a reach by place, in whole numbers */
#define VECTOR_FALL        0.07f
#define VECTOR_FARTHEST    1.2 /* lists by place: at most so many times the budget */

#define VECTOR_CAREFUL 0.98f /* recalls from here on get a wider bound */

#define VECTOR_NORM2_MAX 1e30f /* rows longer than its root stay outside the codes */
#define VECTOR_SEED      0x6f636872652d7631u

/* ---- the internal space ---- */
struct vector_space {
    enum metric metric;
    uint32_t dim, wide, code_dim;
    uint64_t seed;
    float big2;        /* ip: largest |x|² */
    const float *mean; /* wide floats */
    float limit2;      /* rows with a larger |x|² stay outside the codes; 0: VECTOR_NORM2_MAX */
};
static inline uint32_t vector_wide(enum metric metric, uint32_t dim)
{
    return dim + (metric == METRIC_IP);
}
static inline uint32_t vector_code_dim(uint32_t wide)
{
    return (uint32_t)round_up(wide, CODE_DIM_STEP);
}
/** |x|² as the space sees it; false: the row stays outside the codes. */
bool vector_norm2(const struct vector_space *space, const float *x, float *ret_norm2);
/** The centred internal vector, `wide` floats, zeros up to `out_floats`.  *ret_shift: to be added to squared distances from this row. */
void vector_row(const struct vector_space *space, const float *x, float norm2, float *out,
                size_t out_floats, float *ret_shift);
/** The same for a query, stretched if it is one of ip; code_dim floats.  False: it has no place there. */
bool vector_query_row(const struct vector_space *space, const float *q, double stretch, float *out);
/** As queries of a part alone are stretched. */
double vector_usual_stretch(const struct vector_space *space, const float *q);
/** Squared internal distance of a reported one. */
double vector_internal(const struct vector_space *space, const struct vector_stretch *stretch,
                       float reported);

/** The nearest distance that rows of a list may have: (mean - 2 reach |q-c| rms), where mean = |q-c|² + rms² is what they have on average. */
static inline float vector_nearest(float delta, float rms2, float reach)
{
    return delta + rms2 - 2 * reach * sqrtf((delta > 0 ? delta : 0) * rms2);
}

/** The doublings up to a place in the order of lists, 0 at the first: their logarithm, linear in between. */
static inline float vector_doublings(uint32_t place)
{
    float from_one = (float)place + 1;
    uint32_t bits;
    memcpy(&bits, &from_one, sizeof bits);
    return (float)bits * 0x1p-23f - 127;
}

/** Nanoseconds: a row by 1-bit code in a scan, by 8-bit code and by stored vector at a random place, a list's distance. */
struct vector_costs {
    double code1, code8, exact, coarse;
};
struct vector_costs vector_costs_of(uint32_t code_dim);
/** How far the k nearest rows reach out of their lists, so that hardly any is lost beside a budget of lists. */
float vector_reach(const struct vector_index *index, double k, float recall);
/** The same without a budget: as much is lost as the recall allows. */
float vector_probe_reach(const struct vector_index *index, double k, float recall);
/** How far rows reach out of the first list, where that falls by index->fall with each doubling of the place. */
float vector_placed_reach(const struct vector_index *index, double k, float recall);
/** The same for so many times the lists. */
float vector_placed_farther(const struct vector_index *index, double times);
/** Lists of a part that holds a share of all rows, for its share of the k nearest of all. */
double vector_budget_share(const struct vector_index *index, uint32_t k, double share,
                           float recall);
/* ---- which lists a query looks at (vector_super.c) ---- */
struct vector_range {
    uint32_t from, to; /* lists */
};
/** Squared distances to centroids, by code: of all lists, or with SUPER and more than super_from lists of those in the cells nearest to the query
 *  as calibration says, that hold enough for `visited` of them.  deltas: room for all lists in whole blocks; only what the ranges name is set. */
MUST_USE och_code vector_coarse(const struct vector_index *index, const struct code_query8 *query,
                                uint32_t visited, struct arena *arena, float *deltas,
                                struct vector_range **ret_ranges, uint32_t *ret_count,
                                och_error *err);

/* ---- work for several threads (vector_work.c) ---- */
/* Memory counted in the budget; 64-byte aligned, zeroed. */
struct vector_memory {
    void *at;
    size_t bytes;
};
MUST_USE och_code vector_alloc(struct budget *budget, uint64_t count, size_t size, const char *what,
                               struct vector_memory *ret, och_error *err);
void vector_release(struct budget *budget, struct vector_memory *memory);

/* Items [0, items) in any order, by the caller and idle threads of the pool; a thread that finds no room for its state leaves the work to
 * the others.  What an item does depends on its number alone, so the result does not depend on the threads. */
struct vector_job {
    struct vector_build *build; /* whose rows the workers read; NULL: they read none */
    struct pool *pool;
    const struct limits_of_work *limits;
    void *context;
    size_t state_size;                                             /* of a worker, zeroed */
    och_code (*begin)(void *context, void *state, och_error *err); /* NULL: nothing to do */
    och_code (*run)(void *context, void *reader, void *state, uint32_t item, och_error *err);
    void (*end)(void *context, void *state); /* after a begin that failed, too; NULL: nothing */
    uint32_t items;
};
MUST_USE och_code vector_for(const struct vector_job *job, och_error *err);

/* ---- rows and centroids by 8 bits (vector_near.c) ---- */
/** Dimensions that count for vectors of a width, and those that a query or a row takes while it is made. */
static inline size_t vector_near_dim(uint32_t width)
{
    return (size_t)round_up(width, 4);
}
static inline size_t vector_near_room(uint32_t width)
{
    return (size_t)round_up(width, CODE_DIM_STEP);
}
static inline size_t vector_near_size(uint32_t lists, uint32_t width)
{
    return (lists + CODE_LISTS - 1) / CODE_LISTS * code_coarse_size(vector_near_dim(width));
}
/** x less mean (NULL: as it is) as a query for nearest16 with vector_near_dim dimensions; scratch and q8 have room for vector_near_room. */
void vector_near_query(const float *x, const float *mean, uint32_t width, float *scratch,
                       int8_t *q8, struct code_query8 *ret);
/** Centroids, `width` floats each, less mean, to coarse blocks of vector_near_dim dimensions: vector_near_size bytes. */
MUST_USE och_code vector_near_pack(struct budget *budget, const float *centroids, const float *mean,
                                   uint32_t lists, uint32_t width, uint8_t *packed, och_error *err);

/* ---- k-means in memory ---- */
struct vector_kmeans {
    const float *rows; /* count x dim */
    size_t count;
    uint32_t dim, centers, rounds;
    uint64_t seed;
    struct budget *budget;
    struct pool *pool; /* NULL: one thread */
    const struct limits_of_work *limits;
};
/** centers x dim floats.  count ≥ 1; centres without rows repeat others. */
MUST_USE och_code vector_kmeans_run(const struct vector_kmeans *job, float *ret_centroids,
                                    och_error *err);

/* ---- what codes can tell apart (vector_sight.c) ---- */
#define VECTOR_LENGTHS 256 /* classes of |x|², each twice the one before */
unsigned vector_length_class(float norm2);
/** Rows at most that are left outside the codes because they are far longer than the others: each query looks at all of them. */
uint32_t vector_outside_most(uint32_t rows);
/** limit2 for rows of these lengths. */
float vector_limit_among(const uint32_t lengths[VECTOR_LENGTHS], uint32_t rows, enum metric metric);
/** limit2 for further rows in the space of an index. */
float vector_limit_of(const struct vector_index *index);
/** Compare some rows by codes and by their vectors: do codes know near from far? */
MUST_USE och_code vector_codes_see(struct vector_build *build, bool *ret_sees, och_error *err);

/** Bytes of SUPER. */
static inline size_t vector_super_size(uint32_t cells, size_t code_dim)
{
    return ((size_t)cells + CODE_LISTS - 1) / CODE_LISTS * code_coarse_size(code_dim) +
           4 * ((size_t)cells + 1);
}

/* ---- building ---- */
#define LIST_OUTSIDE (UINT32_MAX - 1)
#define LIST_NONE    UINT32_MAX

#define VECTOR_LISTS_ROOT 4.0 /* lists, in roots of the number of rows */
#define VECTOR_GROWN      4   /* times the rows that lists were trained for: they no longer fit */

/* What is remembered of the training that the lists come from; 0 rows: not known.  Lists that were trained to be long (options.list_rows) suit fewer rows
 * than they were made of: as many as would get so many lists. */
struct vector_trained {
    uint32_t rows, lists, lists_098;
    float rms, imbalance;
};

struct vector_build {
    struct vector_options options;
    struct vector_rows rows;
    void *reader; /* of the thread that builds */
    struct vector_space space;
    bool kept_space; /* taken from an input or from options.like */
    bool
        rotated; /* training and assignment happen in rotated space, from 8-bit codes where there are */
    uint32_t width;         /* floats of a row there */
    const bool *same_space; /* by input: its codes are taken over */
    uint32_t base;          /* input whose lists are kept, VECTOR_NO_INPUT */
    bool carried;           /* its calibration, too, as far as some queries agree with it */
    bool disagrees;         /* they do not */
    struct vector_memory same, mean, mean_section, super;
    struct vector_memory list_of;    /* u32[count]: list, LIST_OUTSIDE, LIST_NONE */
    struct vector_memory order;      /* u32[count] */
    struct vector_memory cell_first; /* u32[cells + 1]: lists of one cell are neighbours */
    struct vector_memory list, centq, code;
    struct vector_memory
        rows8; /* of all coded rows in order, if they fitted one wave: made once, not again to be written */
    uint32_t coded, outside, lists, cells, lists_098, space_of;
    uint32_t strangers; /* of the coded: no input has a code of this space for them */
    struct vector_trained trained;
    bool permuted;
    float rms;
    struct limits_of_work limits;
};
#define VECTOR_NO_INPUT UINT32_MAX

static inline och_code vector_fetch(struct vector_build *build, void *reader, uint32_t source,
                                    const float **ret, och_error *err)
{
    return build->rows.row(reader, source, ret, err);
}
/** A row as training sees it: build->width floats. */
MUST_USE och_code vector_read_row(struct vector_build *build, void *reader, uint32_t source,
                                  float *out, och_error *err);
/** The 8-bit row of a source: taken over if its input is of this space, else made; `scratch` is code_dim floats, aligned. */
MUST_USE och_code vector_read_code8(struct vector_build *build, void *reader, uint32_t source,
                                    float *scratch, uint8_t *out, och_error *err);
/** Source indexes of `want` coded rows, evenly spread; returns how many. */
uint32_t vector_sample(const struct vector_build *build, uint32_t want, uint32_t *sources);

/* Centroids in hierarchical order, packed cell by cell. */
struct vector_codebook {
    uint32_t cells, lists, width;
    struct vector_memory cell_near;               /* by 8 bits */
    struct vector_memory list_near;               /* the same, cell by cell */
    struct vector_memory list_packed, list_norms; /* for rows between which 8 bits cannot decide */
    struct vector_memory cell_first;              /* u32[cells + 1]: first list of a cell */
    struct vector_memory
        packed_at; /* u64[cells]: floats into list_packed; norms at packed_at / width */
    struct vector_memory near_at; /* u64[cells]: bytes into list_near */
    float scale, length;          /* the largest of a list */
};
/* Rows gathered to be assigned. */
#define VECTOR_NEAR_CELLS 8
struct vector_batch {
    struct vector_build *build;
    const struct vector_codebook *book;
    uint32_t room, count;
    struct vector_memory rows; /* room x width */
    struct vector_memory sources, best, score, near, cell_scores;
    struct vector_memory q8, queries, scratch; /* the rows by 8 bits */
    struct vector_memory by_cell, cell_start;  /* rows that have a cell among their nearest */
    struct vector_memory pointers, picked_queries, picked_best, picked_score, unsure;
};
MUST_USE och_code vector_batch_init(struct vector_batch *b, struct vector_build *build,
                                    const struct vector_codebook *book, och_error *err);
void vector_batch_done(struct vector_batch *b);
static inline float *vector_batch_row(const struct vector_batch *b, uint32_t i)
{
    return (float *)b->rows.at + (size_t)i * b->build->width;
}
/** b->near: the nearest cells of each row. */
void vector_batch_cells(struct vector_batch *b);
uint32_t vector_batch_room(const struct vector_build *build);
/** Centroids -> cell_near of a book; lists x width floats -> the rest of it. */
MUST_USE och_code vector_book_cells(struct vector_build *build, struct vector_codebook *book,
                                    const float *centroids, och_error *err);
MUST_USE och_code vector_book_lists(struct vector_build *build, struct vector_codebook *book,
                                    const float *centroids, och_error *err);
void vector_book_done(struct vector_build *build, struct vector_codebook *book);
/** Rows with codes to the lists of the book: all of them, or only those whose list_of is LIST_UNKNOWN. */
#define LIST_UNKNOWN (UINT32_MAX - 2)
MUST_USE och_code vector_assign(struct vector_build *build, const struct vector_codebook *book,
                                bool unknown_only, och_error *err);

/** Fills list_of, lists and cells: several lists. */
MUST_USE och_code vector_train(struct vector_build *build, och_error *err);
/** Lists of far too many rows become several, empty ones none.  Needs list_of; changes list_of, lists, cell_first. */
MUST_USE och_code vector_split(struct vector_build *build, och_error *err);
/** Σ rows² · lists / n²: 1 if all lists are equally long. */
MUST_USE och_code vector_imbalance(const struct vector_build *build, float *ret, och_error *err);
/** From list_of: order, LIST, CENTQ, SUPER, CODE, MEAN. */
MUST_USE och_code vector_encode(struct vector_build *build, och_error *err);

/* ---- merging (vector_merge.c) ---- */
/** Which space and which lists: from options.inputs and like.  Before the survey. */
MUST_USE och_code vector_choose_space(struct vector_build *build, och_error *err);
/** Do the rows fit in the space that was taken over?  Behind the survey.  If not: vector_drop_space, and survey them again. */
MUST_USE och_code vector_space_fits(struct vector_build *build, bool *ret_fits, och_error *err);
void vector_drop_space(struct vector_build *build);
/** list_of, from the base's lists; *ret_fits false: train anew. */
MUST_USE och_code vector_merge_lists(struct vector_build *build, bool *ret_fits, och_error *err);
/** Have the lists that were taken over become worse than training would make them? */
bool vector_has_drifted(const struct vector_build *build);

/* ---- calibration: the build's own rows as queries ---- */
/* By a query the recall that lists have varies by .22 at .80 and .16 at .90, with half of its neighbours: 2,048 tell it to .5 and .35 points. */
#define CALIBRATION_QUERIES 2048u
#define CALIBRATION_BYTES   (32u << 20) /* that they take: more dimensions, fewer queries */
#define CALIBRATION_MERGED \
    512u /* with lists of an input or long ones: a merge costs little but for this */
#define CALIBRATION_CHECKED 128u /* with its calibration as well */
#define CALIBRATION_SHARE \
    2u /* a query sees one block in so many, and that share of its neighbours */
#define CALIBRATION_NEIGHBOURS (100u / CALIBRATION_SHARE)
struct vector_neighbour {
    float distance;
    uint32_t list;
};
struct vector_calibration {
    struct vector_build *build;
    uint32_t queries;
    struct vector_memory sources;               /* u32[queries] */
    struct vector_memory rotated, q8, tables;   /* per query */
    struct vector_memory query8, table_factors; /* struct code_query8, struct code_table */
    struct vector_memory heaps;    /* struct vector_neighbour[queries x CALIBRATION_NEIGHBOURS] */
    struct vector_memory heap_len; /* u32 */
    float kappa;                   /* so far */
};
static inline struct vector_neighbour *vector_neighbours(const struct vector_calibration *c,
                                                         uint32_t query)
{
    return (struct vector_neighbour *)c->heaps.at + (size_t)query * CALIBRATION_NEIGHBOURS;
}
MUST_USE och_code vector_calibration_init(struct vector_calibration *c, struct vector_build *build,
                                          och_error *err);
void vector_calibration_done(struct vector_calibration *c);
/** Squared distance of a query to a list's centroid. */
float vector_calibration_delta(const struct vector_calibration *c, uint32_t query,
                               const float *centroid);
/** Is nothing in a list nearer than what the query knows already, by all that is likely? */
bool vector_calibration_passes_by(const struct vector_calibration *c, uint32_t query, float delta,
                                  float rms2);
/** `count` rows of a list with their codes, from block `first_block` of CODE on, asked by one of the queries; sources tell its own row.
 *  Several threads may ask for different queries; each must see all rows in the same order. */
void vector_calibration_rows(struct vector_calibration *c, uint32_t query, uint32_t list,
                             float delta, uint64_t first_block, const uint8_t *blocks,
                             const uint8_t *rows8, const uint32_t *sources, uint32_t count);
/** γ, reaches and the table of lists, from the lists' centroids and spreads (vector_budget.c). */
struct vector_calibrated {
    float gamma, reach[VECTOR_KS][VECTOR_TARGETS], probe[VECTOR_KS][VECTOR_PROBES];
    float placed[VECTOR_PLACED][VECTOR_TARGETS], fall; /* placed: [0] only as nearer */
    float nearer, far;
    uint32_t budgets[VECTOR_KS][VECTOR_TARGETS];
    uint32_t
        super_cells; /* the nearest so many hold all but SUPER_MISSED of what queries look for */
};
MUST_USE och_code vector_calibration_finish(struct vector_calibration *c,
                                            struct vector_calibrated *ret, och_error *err);
#endif
