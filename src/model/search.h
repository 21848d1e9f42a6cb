/* SPDX-License-Identifier: Apache-2.0 */
/* One payload of a Search (query-language.md §4) as a value: filter, rank expression, groups, page, fields.  Parse, check, encode, evaluate. */
#ifndef MODEL_SEARCH_H
#define MODEL_SEARCH_H

#include "model/filter.h"

/* A rank expression is a program for a stack machine, in the order of evaluation, so that nothing recurses over what clients nest.  A list of n
 * operands is folded from its seed: {"$sum": [a, b]} is 0, a, +, b, +. */
enum rank_op {
    RANK_VAL = 1, /* +1 */
    RANK_KNN,     /* +1 */
    RANK_ADD,     /* -1, as all of two operands */
    RANK_MUL,
    RANK_MAX,
    RANK_MIN,
    RANK_SUB,
    RANK_DIV,
    RANK_ABS, /* 0, as all of one operand */
    RANK_EXP,
    RANK_LOG
};
#define RANK_STACK_MAX 144 /* more than JSON can nest */
struct rank_step {
    uint8_t op;
    union {
        float value;  /* RANK_VAL */
        uint32_t knn; /* RANK_KNN: which */
    };
};

/** What ranks by nearness: a dense vector, or a sparse one under a key; or `$bm25`, the words of a text in documents. */
struct search_knn {
    bool sparse, text, has_fallback, return_rank; /* sparse, text: not both */
    bool bm25;   /* sparse: weigh dimensions by idf; set from the schema, not by clients */
    slice key;   /* sparse only */
    slice words; /* text: the query, UTF-8 */
    uint32_t limit;
    bool has_max; /* ours, `$knn` only: hits that are farther are none */
    float max_distance;
    float fallback;          /* "default" */
    const float *values;     /* dense: `count` floats; sparse: beside indices */
    const uint32_t *indices; /* sparse: strictly ascending once checked */
    uint32_t count, index_count;
};

enum search_aggregate { SEARCH_UNGROUPED = 0, SEARCH_MIN_K = 1, SEARCH_MAX_K = 2 };
struct search_group {
    uint8_t aggregate; /* enum search_aggregate */
    const slice *keys, *order;
    uint32_t key_count, order_count, k;
};

struct search {
    const struct filter_node *filter; /* NULL: all */
    bool has_rank;                    /* false: insertion order */
    const struct rank_step *steps;
    uint32_t step_count;
    struct search_knn *knns;
    uint32_t knn_count;
    struct search_group group;
    uint64_t limit, offset; /* PLAN_NO_LIMIT: none */
    unsigned fields;        /* enum record_field wanted; the id always comes */
};
/** What the answer shows; the sender keeps it. */
struct search_select {
    const slice
        *keys; /* distinct; #document, #embedding, #metadata, #score, then the others by bytes */
    uint32_t count;
    bool score, whole_metadata, some_metadata; /* some: single fields */
};
struct search_request {
    struct search *searches;
    struct search_select *selects;
    uint32_t count;
    och_code late; /* of what is judged only once the collection is known to exist */
    och_error late_err;
};

/**
 * Read `searches` (an array); `text` is what it was read from, for line and column.  Everything borrowed from it or in the arena.
 * Errors: OCH_SHAPE "searches[i].rank.$knn: missing field `query` at line L column C"; OCH_INVALID for an expression that is not one member (whole
 * message); OCH_QUOTA "Quota exceeded: ..." beyond the limits of limits.h.  The rules of search_check are not applied.
 */
MUST_USE och_code search_parse(const struct json_value *searches, slice text, struct arena *arena,
                               struct search_request *ret_request, och_error *err);
/** Rules on contents: groups, sparse vectors, finite numbers.  OCH_INVALID "Validation error: searches[i].group_by: ..." */
MUST_USE och_code search_check(const struct search_request *request, och_error *err);

/** Is it a program that leaves one value and stays within RANK_STACK_MAX? */
bool rank_sound(const struct rank_step *steps, uint32_t count, uint32_t knn_count);
/** A value of a record: what it has, and what it has where it has none. */
struct rank_value {
    float value, fallback;
    bool has, has_fallback;
};
/**
 * What an expression is for one record; knns: per $knn the record's score if it is among its hits, and its default.  All in f32; a NaN is the
 * positive one on every machine.  Cost: a few ns a step.
 */
struct rank_value rank_evaluate(const struct rank_step *steps, uint32_t count,
                                const struct rank_value *knns);
/** Append what a payload shows of a record's metadata, as an object.  False: it shows nothing of it, and nothing is appended. */
bool search_metadata_to_json(slice metadata, const struct search_select *select, struct buf *out);
/** Total order of scores: -inf, numbers, -0 before 0, +inf, NaN. */
int rank_compare(float a, float b);
/** Order of metadata across types (§4.3): missing (NULL) < bool < int < float < string < sparse < bool[] < int[] < float[] < string[]. */
int search_compare_meta(const struct meta_entry *a, const struct meta_entry *b);

/** Binary form, part of the plan's (docs/formats/plan.md). */
void search_encode(const struct search *searches, uint32_t count, struct buf *out);
MUST_USE och_code search_decode(struct reader *reader, struct arena *arena,
                                struct search **ret_searches, uint32_t *ret_count, och_error *err);
#endif
