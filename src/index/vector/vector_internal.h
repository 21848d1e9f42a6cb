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
#define VECTOR_MAGIC       0x5856434fu /* "OCVX" */
#define VECTOR_MAJOR       1
#define VECTOR_HEADER_SIZE 256u /* of MEAN; the mean follows */
#define VECTOR_LIST_SIZE   16u
#define VECTOR_TARGETS     6u
#define VECTOR_KS          2u
#define VECTOR_BUDGETS_AT  128u
#define VECTOR_REACH_AT    176u
extern const float vector_targets[VECTOR_TARGETS];
extern const uint32_t vector_ks[VECTOR_KS];

#define VECTOR_NORM2_MAX 1e30f /* rows longer than its root stay outside the codes */
#define VECTOR_SEED      0x6f636872652d7631u

/* ---- the internal space ---- */
struct vector_space {
    enum metric metric;
    uint32_t dim, wide, code_dim;
    uint64_t seed;
    float big2;        /* ip: largest |x|² */
    const float *mean; /* wide floats */
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
/** The same for a query; code_dim floats.  False: it has no place there. */
bool vector_query_row(const struct vector_space *space, const float *q, float *out,
                      float *ret_norm2);
/** Squared internal distance of a reported one, and back. */
double vector_internal(const struct vector_space *space, float query_norm2, float reported);

/** The nearest distance that rows of a list may have: (mean - 2 reach |q-c| rms), where mean = |q-c|² + rms² is what they have on average. */
static inline float vector_nearest(float delta, float rms2, float reach)
{
    return delta + rms2 - 2 * reach * sqrtf((delta > 0 ? delta : 0) * rms2);
}

/* ---- k-means in memory ---- */
struct vector_kmeans {
    const float *rows; /* count x dim */
    size_t count;
    uint32_t dim, centers, rounds;
    uint64_t seed;
    const struct limits_of_work *limits;
};
/** centers x dim floats.  count ≥ 1; centres without rows repeat others. */
MUST_USE och_code vector_kmeans_run(const struct vector_kmeans *job, float *ret_centroids,
                                    och_error *err);

/* ---- building ---- */
#define LIST_OUTSIDE (UINT32_MAX - 1)
#define LIST_NONE    UINT32_MAX

/* Memory counted in the budget; 64-byte aligned, zeroed. */
struct vector_memory {
    void *at;
    size_t bytes;
};
MUST_USE och_code vector_alloc(struct budget *budget, uint64_t count, size_t size, const char *what,
                               struct vector_memory *ret, och_error *err);
void vector_release(struct budget *budget, struct vector_memory *memory);

/* Centroids in hierarchical order, packed cell by cell. */
struct vector_codebook {
    uint32_t cells, lists;
    struct vector_memory cell_packed, cell_norms;
    struct vector_memory list_packed, list_norms;
    struct vector_memory cell_first; /* u32[cells + 1]: first list of a cell */
    struct vector_memory
        packed_at; /* u64[cells]: floats into list_packed; norms at packed_at / wide */
};

struct vector_build {
    struct vector_options options;
    struct vector_rows rows;
    struct vector_space space;
    struct vector_memory mean, mean_section;
    struct vector_memory list_of; /* u32[count]: list, LIST_OUTSIDE, LIST_NONE */
    struct vector_memory order;   /* u32[count] */
    struct vector_memory list, centq, code;
    uint32_t coded, outside, lists, lists_098;
    bool permuted;
    float rms;
    struct limits_of_work limits;
};
static inline och_code vector_fetch(struct vector_build *build, uint32_t source, const float **ret,
                                    och_error *err)
{
    return build->rows.row(build->rows.context, source, ret, err);
}
/** Fills list_of and lists: several lists. */
MUST_USE och_code vector_train(struct vector_build *build, och_error *err);
/** Lists of far too many rows become several.  Needs list_of; changes list_of and lists. */
MUST_USE och_code vector_split(struct vector_build *build, och_error *err);
/** From list_of: order, LIST, CENTQ, CODE, MEAN. */
MUST_USE och_code vector_encode(struct vector_build *build, och_error *err);

/* ---- calibration: the build's own rows as queries ---- */
#define CALIBRATION_QUERIES 256u
struct vector_calibration {
    struct vector_build *build;
    uint32_t queries;
    struct vector_memory sources;               /* u32[queries] */
    struct vector_memory rotated, q8, tables;   /* per query */
    struct vector_memory query8, table_factors; /* struct code_query8, struct code_table */
    struct vector_memory heaps;                 /* {distance, list}[queries x 100] */
    struct vector_memory heap_len;              /* u32 */
    float kappa;                                /* so far */
};
MUST_USE och_code vector_calibration_init(struct vector_calibration *c, struct vector_build *build,
                                          och_error *err);
void vector_calibration_done(struct vector_calibration *c);
/** `count` rows of a list with their codes; sources tell a query's own row. */
void vector_calibration_rows(struct vector_calibration *c, uint32_t list, const float *centroid,
                             const uint8_t *blocks, const uint8_t *rows8, const uint32_t *sources,
                             uint32_t count);
/** γ, reach and the table of lists, from the lists' centroids and spreads. */
struct vector_calibrated {
    float gamma, reach[VECTOR_TARGETS];
    uint32_t budgets[VECTOR_KS][VECTOR_TARGETS];
};
MUST_USE och_code vector_calibration_finish(struct vector_calibration *c,
                                            struct vector_calibrated *ret, och_error *err);
#endif
