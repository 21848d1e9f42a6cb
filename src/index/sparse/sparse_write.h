/* SPDX-License-Identifier: Apache-2.0 */
/* Writing segments and the directory.  Inside index/sparse only. */
#ifndef INDEX_SPARSE_WRITE_H
#define INDEX_SPARSE_WRITE_H

#include "index/sparse/sparse_internal.h"

struct posting {
    uint32_t dim, row;
    float weight;
};

struct sparse_writer {
    const struct sparse_options *options;
    uint64_t at; /* bytes emitted */
    uint32_t segment_count;
    struct buf segments, tops;
    uint32_t *lengths; /* of text, by row; the builder's */
    /* of the segment being written */
    struct buf runs, dict, block;
    uint64_t post_offset;
    struct terms_norm norm;               /* of text: what its bounds are made with */
    uint32_t dict_count;                  /* entries of the dictionary block begun */
    size_t dict_begin;                    /* where it begins */
    uint32_t last_dim, last_at, last_run; /* what deltas count from */
};

void sparse_writer_init(struct sparse_writer *writer, const struct sparse_options *options);
void sparse_writer_done(struct sparse_writer *writer);
/** Bytes that writing these postings, sorted by dimension, then row, will take besides them. */
size_t sparse_write_work(const struct posting *postings, uint32_t count);
/** `segment` names key, rows and holders; the rest is filled in. */
MUST_USE och_code sparse_write_segment(struct sparse_writer *writer, const struct segment *segment,
                                       const struct posting *postings, uint32_t count,
                                       och_error *err);
/** Of text: the documents' lengths go before it. */
MUST_USE och_code sparse_write_directory(struct sparse_writer *writer, uint32_t rows,
                                         uint32_t capacity, uint32_t *ret_len, och_error *err);
#endif
