/* SPDX-License-Identifier: Apache-2.0 */
/* A part at work, shared by part_build.c and part_build_head.c only. */
#ifndef PART_PART_BUILD_H
#define PART_PART_BUILD_H

#include "index/vector/vector.h"
#include "part/part_sink.h"

struct build {
    const struct part_spec *spec;
    const struct part_source *source;
    const struct part_build_options *options;
    struct part_sink sink;
    struct part_totals totals;
    struct arena arena;           /* of the row at hand */
    const uint32_t *order;        /* row -> source index; NULL: the same */
    struct part_vectors index_of; /* its rows' vectors and codes, for `vector` */
    struct vector_build *vector;  /* NULL: no vector index */
    struct vector_built vectors;  /* its sections */
    struct meta_build *meta;      /* NULL: no metadata index */
    uuid lineage;
    uint32_t rows, head_len;
    struct charged hashes, index, filter, norms, presence, kills;
    uint64_t digest[2];
    unsigned seq_bits;
    bool has_expiry;
};

static inline struct budget *part_build_budget(const struct build *build)
{
    return build->options ? build->options->budget : NULL;
}

static inline slice part_build_id(const struct record *record)
{
    return record->id.at ? record->id : SLICE("");
}

/** A row of the part from the source; pointers hold until the next one is fetched.  Looks at the limits now and then. */
MUST_USE och_code part_build_fetch(struct build *build, uint32_t row, unsigned fields,
                                   struct record *ret, och_error *err);
/** One pass over ids and seq; then all that stands before the rows: header, HEAD, the vector index' head, the id filter.  build->hashes is filled. */
MUST_USE och_code part_build_head(struct build *build, och_error *err);
#endif
