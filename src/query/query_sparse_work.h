/* SPDX-License-Identifier: Apache-2.0 */
/* One ranking by postings at work: sparse vectors and words of documents alike.  Inside query/ only. */
#ifndef QUERY_QUERY_SPARSE_WORK_H
#define QUERY_QUERY_SPARSE_WORK_H

#include "query/query_sparse.h"

#include "part/part_sparse.h"

/* A row that was read and holds dimensions of the query. */
struct pair {
    uint32_t term;
    float weight; /* of text: how often */
};
struct match {
    struct match *next;
    uint32_t row, count;
    uint32_t length; /* of text: terms of the document */
    struct pair pairs[];
};
/* What is known of one part, or of the tail. */
struct source {
    uint32_t number;
    bool was_read; /* all its rows were looked at: matches */
    struct match *matches, **end;
    uint64_t *dead; /* with expired rows among them; NULL: not made */
};

struct sparse_work {
    struct run *run;
    struct run plain; /* the same without a filter */
    const struct sparse_query *query;
    struct sparse_terms terms;
    float *weights;       /* of the terms, by how rare they are */
    uint64_t *holders;    /* by term, of live rows */
    uint64_t live;        /* rows */
    struct pair *scratch; /* one row's */
    uint32_t scratch_count;
    struct source *sources;
    uint32_t *order; /* parts, most rows first */
    struct topk *best;
    struct lookup lookup;
    /* of text */
    struct part_totals_text totals;
    struct terms_norm norm;
    uint64_t *may_hold;   /* bits of terms: most words of a document are not asked for */
    float *counts;        /* by term, one row's; zero between rows */
    uint32_t tail_chunks; /* runs of the tail's slots with an index */
    uint64_t *tail_live;  /* their slots that are rows */
};

static inline struct view_place sparse_place(const struct sparse_work *s, uint32_t source,
                                             uint32_t row)
{
    uint32_t part = source < view_part_count(s->run->view) ? source : VIEW_NO_PART;
    return (struct view_place){part, row};
}

/* ---- query_text.c ---- */
/** What a query of text needs besides: terms of its words, bits. */
MUST_USE och_code text_init(struct sparse_work *s, och_error *err);
/** A live row's document: counted, and kept as a match when it holds a term. */
MUST_USE och_code text_read_row(struct sparse_work *s, struct lookup *lookup, struct source *source,
                                uint32_t row, och_error *err);
/** Make or find the indexes of the tail; slots behind them are read. */
MUST_USE och_code text_tail_open(struct sparse_work *s, och_error *err);
MUST_USE och_code text_tail_count(struct sparse_work *s, och_error *err);
MUST_USE och_code text_tail_search(struct sparse_work *s, och_error *err);

/* ---- query_sparse.c ---- */
/** Remember a row that is worth at least `weights` pairs; the row's pairs are s->scratch. */
MUST_USE och_code sparse_note_match(struct sparse_work *s, struct source *source, uint32_t row,
                                    uint32_t length, och_error *err);
/** struct sparse_hits over rows [first, …) of a source. */
struct sparse_part_hits {
    struct sparse_work *search;
    uint32_t source, first;
};
float sparse_hit_bound(void *context);
MUST_USE och_code sparse_hit_verify(void *context, uint32_t row, bool *ret_passes, och_error *err);
MUST_USE och_code sparse_hit_offer(void *context, uint32_t row, float score, och_error *err);
#endif
