/* SPDX-License-Identifier: Apache-2.0 */
/* Shared inside index/sparse only: numbers of the format, lists and their cursors. */
#ifndef INDEX_SPARSE_INTERNAL_H
#define INDEX_SPARSE_INTERNAL_H

#include "index/sparse/sparse.h"

#include "base/buf.h"

#define SPARSE_MAGIC   0x5650534fu /* "OSPV" */
#define SPARSE_RAW     1u          /* the version with weights as they are; still read */
#define SPARSE_TEXT    2u          /* the version of an index of text */
#define SPARSE_VERSION 3u
#define SEGMENT_SIZE   64u
#define SEGMENT_TEXT   72u
#define POSTING_BLOCK  128u
#define FILE_BLOCK     65536u /* no posting block crosses a multiple */
#define RUN_SIZE       16u    /* an entry of the block directory */
#define DICT_BLOCK     1024u
#define DICT_HEADER    2u
#define INLINE_ROWS    4u /* lists up to this stand in the dictionary */
#define ENTRY_MAX      64u
#define KEYS_MAX       UINT16_MAX
#define NO_BLOCK       UINT32_MAX

#define PACKED_SLACK 8u /* values are unpacked by reads of eight bytes */
#define LENGTHS_SLOT (SPARSE_SLOTS - 1)

/* Bytes of `count` values of `width` bits. */
static inline uint32_t packed_size(uint32_t count, uint32_t width)
{
    return (count * width + 31) / 32 * 4;
}
/* Bytes of a posting block: header, rows but the first, then weights as they are, or packed: what they exceed the least by, of text counts less one. */
static inline uint32_t posting_packed(uint32_t count, uint32_t width)
{
    return packed_size(count - 1, width);
}
static inline uint32_t posting_head(bool text, bool raw)
{
    return text || raw ? 4 : 8;
}
static inline uint32_t posting_size(bool text, bool raw, uint32_t count, uint32_t width,
                                    uint32_t weight_width)
{
    return posting_head(text, raw) + posting_packed(count, width) +
           (raw ? 4 * count : packed_size(count, weight_width));
}
/* Bytes behind it that can be read. */
static inline uint32_t posting_slack(bool raw)
{
    return raw ? 0 : PACKED_SLACK;
}

struct segment {
    uint32_t key, first_row, end_row, held;
    uint32_t dims, dict_blocks;
    uint64_t postings, post_offset, run_offset, dict_offset;
    uint32_t top_index, run_count;
    uint64_t terms; /* of text: of all its documents */
};
static_assert(sizeof(struct segment) == SEGMENT_TEXT, "as in the file");
static inline uint32_t segment_size(bool text)
{
    return text ? SEGMENT_TEXT : SEGMENT_SIZE;
}

/** A segment of an opened index: its figures were checked. */
struct segment segment_at(const struct sparse_index *index, uint32_t i);

/* A posting block as the directory knows it. */
struct block_run {
    uint32_t first_row, offset; /* in units of 4 bytes, from post_offset */
    float max, min;
};
static_assert(sizeof(struct block_run) == RUN_SIZE, "as in the file");

/** One dimension of the query in one segment. */
struct list {
    uint32_t term; /* place in the query */
    float q;
    uint32_t df, block_count;
    const struct block_run *runs; /* block_count */
    bool is_short;                /* its one block is decoded for good */
    float max, min;
    /* the block that is decoded */
    uint32_t decoded, count;
    uint32_t *rows; /* POSTING_BLOCK */
    float *weights; /* as many */
    /* the piece that was asked for last */
    const uint8_t *piece;
    uint64_t piece_from, piece_end;
    uint32_t slot;
    /* in the window at hand */
    uint32_t block; /* the first that may meet it */
    uint32_t block_end;
    double bound;
};

/** What the greatest and least weight make of it; never below zero. */
static inline double list_bound(const struct list *list, float max, float min)
{
    double most = (double)list->q * (double)max, least = (double)list->q * (double)min;
    most = most > least ? most : least;
    return most > 0 ? most : 0;
}

/** Pieces of the section that lists hold, of several segments; begin with zeros. */
struct slots {
    struct list *owners[LENGTHS_SLOT];
    uint32_t given;
    const uint8_t *lengths;
    uint32_t lengths_first, lengths_count;
    uint64_t fault_offset;
};

/** Lists of one segment, ascending by dimension. */
struct lists {
    const struct sparse_index *index;
    const struct sparse_pages *pages;
    struct segment segment;
    struct slots *slots;
    struct list *lists;
    uint32_t count;
    /* of text; counting needs no weights */
    bool weighs;
    struct terms_norm norm;
    double norm_ratio; /* what a stored bound may be short of */
};
/** Find the query's dimensions in a segment; nothing but short lists is read.  norm NULL: rows will only be counted. */
MUST_USE och_code lists_open(struct lists *lists, struct slots *slots,
                             const struct sparse_index *index, const struct sparse_pages *pages,
                             uint32_t segment, const struct sparse_terms *terms,
                             const struct terms_norm *norm, struct arena *arena, och_error *err);
/** Decode block b of a list, unless it is: rows ascend and lie within [runs[b].first_row, the next block's or the segment's end). */
MUST_USE och_code list_decode(struct lists *lists, struct list *list, uint32_t b, och_error *err);
/** The weight of one row in block b, which need not be decoded for that. */
MUST_USE och_code list_weight(struct lists *lists, struct list *list, uint32_t b, uint32_t row,
                              bool *ret_has, float *ret_weight, och_error *err);
/** The last block from `from` on whose first row is at most `row`; `from` if none is. */
uint32_t list_seek(const struct list *list, uint32_t from, uint32_t row);
och_code lists_corrupt(struct lists *lists, uint64_t offset, const char *what, och_error *err);
/** Which key; UINT32_MAX: not here. */
uint32_t index_key(const struct sparse_index *index, slice key);
#endif
