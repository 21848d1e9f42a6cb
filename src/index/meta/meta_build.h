/* SPDX-License-Identifier: Apache-2.0 */
/* What the files share that build an index.  Inside index/meta only. */
#ifndef INDEX_META_META_BUILD_H
#define INDEX_META_META_BUILD_H

#include "index/meta/meta_tree.h"

#include "base/map.h"
#include "base/vec.h"

#define META_WAITING      32u
#define META_WAITING_TEXT 43u

enum column_state { COLLECTING, DEFERRED, DONE, FAILED };

struct column {
    slice key; /* of the build's arena */
    uint8_t type, state;
    uint32_t present, last_row; /* of arrays: rows with a value; the last of them + 1 */
    VEC(uint64_t) images;
    VEC(uint32_t) ids; /* of strings, as met */
    VEC(uint32_t) rows;
    VEC(slice) strings; /* by id */
    uint64_t *slots;    /* string -> id: half of the hash above, id + 1 below; 0: free */
    uint64_t slot_mask;
    struct arena text;
    size_t charged;
};
/* A short string that waits for its id: looked up with others, so that the misses of one are waited for together with theirs. */
struct waiting {
    struct column *column;
    uint32_t place; /* of its id */
    uint32_t half;  /* of the hash */
    uint32_t id;
    uint8_t len, text[META_WAITING_TEXT];
};
struct key {
    uint32_t columns[META_SPARSE + 1]; /* + 1; 0: none */
};

struct meta_build {
    struct meta_build_options options;
    struct arena arena; /* keys */
    struct map keys;    /* key -> its place in key_columns */
    VEC(struct key) key_columns;
    VEC(struct column *) columns;
    VEC(uint32_t) hints; /* columns of the row before, by position: rows are much alike */
    size_t collected;    /* bytes of columns being collected */
    size_t key_bytes;    /* charged for columns as such */
    uint32_t row, pass;
    bool abandoned, incomplete;
    struct meta_writer writer;
    uint32_t waiting_count;
    struct waiting waiting[META_WAITING];
};

/* Most keys and many values are a few bytes long: two loads that overlap spare a call. */
static ALWAYS_INLINE bool meta_same(slice a, slice b)
{
    if (a.len != b.len)
        return false;
    if (a.len > 16)
        return memcmp(a.at, b.at, a.len) == 0;
    if (a.len >= 8)
        return load_u64(a.at) == load_u64(b.at) &&
               load_u64(a.at + a.len - 8) == load_u64(b.at + b.len - 8);
    if (a.len >= 4)
        return load_u32(a.at) == load_u32(b.at) &&
               load_u32(a.at + a.len - 4) == load_u32(b.at + b.len - 4);
    return a.len == 0 || (a.at[0] == b.at[0] && a.at[a.len / 2] == b.at[b.len / 2] &&
                          a.at[a.len - 1] == b.at[b.len - 1]);
}

/* ---- meta_build.c ---- */
/** Count memory against the column.  False: it cannot be had, and the column is given up (FAILED). */
bool meta_column_charge(struct meta_build *build, struct column *column, size_t bytes);
/** Forget what was collected, not the column. */
void meta_column_clear(struct meta_build *build, struct column *column);

/* ---- meta_collect.c ---- */
/** The value of one key of the build's row.  *ret_fine false: not a value of the column's type. */
MUST_USE och_code meta_collect(struct meta_build *build, struct column *column, slice value,
                               bool *ret_fine, och_error *err);

/** Ids for all strings that wait for them. */
MUST_USE och_code meta_collect_end(struct meta_build *build, och_error *err);

/* ---- meta_sort.c ---- */
/** Bytes that sorting and writing a column takes besides what was collected. */
size_t meta_sort_bytes(const struct column *column);
/** Sort what was collected and write the column.  `codes`: scratch of meta_write_column. */
MUST_USE och_code meta_sort_column(struct meta_build *build, struct column *column, uint32_t *codes,
                                   och_error *err);
#endif
