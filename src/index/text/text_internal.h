/* SPDX-License-Identifier: Apache-2.0 */
/* Shared inside index/text/ only. */
#ifndef INDEX_TEXT_INTERNAL_H
#define INDEX_TEXT_INTERNAL_H

#include "base/buf.h"
#include "base/bytes.h"
#include "index/text/text.h"

/* ---- format (docs/formats/text.md) ---- */
#define TEXT_MAGIC        0x5854434fu /* "OCTX" */
#define TEXT_MAJOR        1u
#define TEXT_HEADER_SIZE  64u /* of the directory */
#define TEXT_SEGMENT_SIZE 48u
#define TEXT_TOP_SIZE     12u
#define TEXT_BLOCK_KEYS   64u        /* of a dictionary block */
#define TEXT_SEGMENT_ROWS (1u << 20) /* at most: a row takes 20 bits */
#define TEXT_LIST_BLOCK   128u       /* rows of a packed block */
#define TEXT_KEYS         (1u << 24)

enum text_encoding {
    TEXT_VARINT = 0, /* gaps as LEB128 */
    TEXT_PACKED = 1, /* blocks of gaps, packed */
    TEXT_BITMAP = 2  /* a bit per row of the segment */
};

/** Three bytes as a key; what is past the end counts as zero. */
static inline uint32_t text_key(uint8_t a, uint8_t b, uint8_t c)
{
    return (uint32_t)a << 16 | (uint32_t)b << 8 | c;
}
static inline uint32_t text_key_at(slice text, size_t i)
{
    return text_key(text.at[i], i + 1 < text.len ? text.at[i + 1] : 0,
                    i + 2 < text.len ? text.at[i + 2] : 0);
}
static inline size_t text_bitmap_size(uint32_t rows)
{
    return bitset_words(rows) * 8;
}

/* ---- lists ---- */
struct text_list { /* found in a dictionary */
    uint32_t count;
    uint8_t encoding;
    uint64_t offset; /* in the section */
    uint32_t len;
};
/** Append the shortest encoding of ascending rows (< segment_rows). */
enum text_encoding text_list_write(const uint32_t *rows, uint32_t count, uint32_t segment_rows,
                                   struct buf *out);
/** words |= the list.  False: not a list of so many rows. */
MUST_USE bool text_list_or(slice bytes, const struct text_list *list, uint32_t segment_rows,
                           uint64_t *words);
/** words &= the list; blocks without a bit in words are skipped. */
MUST_USE bool text_list_and(slice bytes, const struct text_list *list, uint32_t segment_rows,
                            uint64_t *words);

/* ---- segments ---- */
struct text_segment {
    uint32_t first_row, rows;
    uint64_t lists_at, dict_at; /* in the section */
    uint32_t lists_len, dict_len, blocks;
    const uint8_t *top; /* blocks entries */
    struct text_list presence;
    bool all_present;
};
/** Walks the segments in order; begin with a zeroed cursor. */
struct text_cursor {
    uint32_t next;
    uint64_t top;
};
bool text_segment_next(const struct text_index *index, struct text_cursor *cursor,
                       struct text_segment *ret_segment);

/* ---- conditions ---- */
enum text_op {
    TEXT_ALL,   /* has a document */
    TEXT_RANGE, /* has a gram of [first, last] */
    TEXT_AND,
    TEXT_OR /* no children: none */
};
struct text_node {
    uint8_t op;
    uint32_t first, last; /* TEXT_RANGE */
    uint32_t number;      /* below the query's `nodes` */
    uint32_t child_count;
    struct text_node **children;
};
#define TEXT_DEPTH_MAX 32 /* of a condition's tree; deeper parts are taken for "all" */

/** Condition for one string: all of its grams (up to a limit), or a range of keys when it is short.  NULL: no memory. */
struct text_node *text_node_string(slice text, struct arena *arena);
/** Whether such a condition decides by itself. */
bool text_string_is_exact(slice text);
struct text_node *text_node_new(struct arena *arena, enum text_op op);
/** Number the nodes, cut what is too deep, measure. */
void text_query_finish(struct text_query *query, struct text_node *root);

/* ---- what a part of a pattern says of its matches ---- */
#define TEXT_SET_MAX   16u  /* strings of a set */
#define TEXT_EXACT_MAX 512u /* bytes of an exact one */
#define TEXT_CROSS_MAX 64u
#define TEXT_GRAMS_MAX 65536u /* of a whole pattern */

struct text_set {
    uint32_t count;
    const slice *at;
};
/** exact: the matches are these strings and no others.  Else every match begins with one of `pre`, ends with one of `suf`, and what holds it
 *  fulfils `need`.  need NULL: all. */
struct text_info {
    bool exact;
    struct text_set strings, pre, suf;
    struct text_node *need;
};
struct text_nodes { /* a list that grows */
    struct text_node **at;
    uint32_t count, room;
};
/** Room for all of this; `failed` once it is used up: then nothing made since is of use. */
struct text_maker {
    struct arena *arena;
    uint32_t grams;
    bool failed;
};
struct text_info text_info_string(struct text_maker *maker, slice text);
struct text_info text_info_strings(struct text_maker *maker, const slice *texts, uint32_t count);
struct text_info text_info_any(struct text_maker *maker);
/** acc := acc then next.  What both need is added to `needs`, acc.need is not looked at. */
void text_info_concat(struct text_maker *maker, struct text_info *acc, struct text_nodes *needs,
                      struct text_info next);
struct text_info text_info_alternate(struct text_maker *maker, const struct text_info *choices,
                                     size_t count);
/** The same knowledge without saying that it is all. */
struct text_info text_info_inexact(struct text_maker *maker, struct text_info info);
void text_nodes_add(struct text_maker *maker, struct text_nodes *nodes, struct text_node *node);
/** All of them: NULL when there are none. */
struct text_node *text_nodes_and(struct text_maker *maker, const struct text_nodes *nodes);
/** One of the strings is in the text.  NULL: says nothing. */
struct text_node *text_node_strings(struct text_maker *maker, struct text_set set);

/** The code points that equal `code` when case does not count, itself among them; up to 4. */
unsigned text_fold(uint32_t code, uint32_t ret_codes[4]);
#endif
