/* SPDX-License-Identifier: Apache-2.0 */
/* An open part and how its bytes come into the cache, checked.  Inside part/ only. */
#ifndef PART_PART_INTERNAL_H
#define PART_PART_INTERNAL_H

#include "part/part.h"
#include "part/part_format.h"

#include "index/meta/meta_index.h"
#include "index/sparse/sparse.h"
#include "index/text/text.h"
#include "index/vector/vector.h"

#define PART_BIT(id) (1u << (id))
/* Added to a section's id in cache keys: */
#define PART_REBUILT 32u /* computed from primary ones */
#define PART_FEW     64u /* a few rows of it, read by themselves */

enum part_index_state { INDEX_UNKNOWN = 0, INDEX_READY, INDEX_NONE };

/* An index of postings, opened when first asked. */
struct part_postings {
    _Atomic uint32_t state;    /* enum part_index_state */
    struct sparse_index index; /* once state says so */
};

struct part {
    _Atomic uint32_t refs;
    struct part_env env;
    struct part_info info;
    uuid id;
    uint64_t owner; /* in the cache */
    struct part_section sections[SECTION_COUNT];
    uint64_t table_offset, table_count;
    uint32_t *table_crcs; /* of the table's pages */
    uint32_t flags;       /* HEAD_ */
    bool has_expiry;
    uint32_t vector_count, kill_count;
    _Atomic uint32_t damage;
    /* pinned from first use to the end: id filter, presence, run indexes */
    _Atomic(const struct extent *) resident[SECTION_COUNT];
    _Atomic uint32_t index_state;   /* enum part_index_state */
    struct vector_index index;      /* once index_state says so */
    _Atomic bool searched;          /* by its vectors, since it was opened */
    _Atomic bool codes_warm;        /* the last search found all it wanted of CODE and CODE8 */
    _Atomic uint64_t passing_until; /* monotonic ns: likely to be merged before */
    /* how often a few rows of a piece were read by themselves, by piece; for VEC and CODE8 */
    _Atomic(_Atomic uint8_t *) few_reads[2];
    _Atomic uint32_t text_state;        /* enum part_index_state */
    struct text_index text;             /* once text_state says so */
    _Atomic uint32_t meta_state;        /* enum part_index_state */
    struct meta_index meta;             /* once meta_state says so, set under the mutex */
    struct part_postings sparse, terms; /* SPRS, TERM */
    struct mutex
        mutex; /* guards: names_at and names, which are set once; index and text while they are set */
    uint8_t *names_at;
    slice names[4];
};

static inline bool part_has(const struct part *part, unsigned id)
{
    return part->sections[id].size != 0;
}

/** "part <object>, section <name>, offset <of the object>: <what>"; offset is within the section. */
och_code part_corrupt(const struct part *part, unsigned id, uint64_t offset, const char *what,
                      och_error *err);
/** Is this failure the disk's word that the bytes are bad (so that primary sections must answer)? */
bool part_is_damage(och_code code, const och_error *failure);
/** Note damage of a section that can be done without; says so once. */
void part_note_damage(struct part *part, unsigned id, const och_error *failure);

/** Whole pages, checked: [page * page_size, + len) where len ends at a page's or the section's end. */
MUST_USE och_code part_load_pages(struct part *part, unsigned id, uint64_t page, uint8_t *at,
                                  size_t len, och_error *err);
/** Any range of a section, checked. */
MUST_USE och_code part_load_range(struct part *part, unsigned id, uint64_t from, uint8_t *at,
                                  size_t len, och_error *err);

/** A pinned piece of a section: its bytes [from, from + extent->len). */
struct part_piece {
    const struct extent *extent;
    uint64_t from;
};
/** What fits all the bytes of a derived section when it cannot be read; in the form of a cache_loader, context = the part. */
typedef och_code (*part_rebuild)(void *part, struct cache_key key, uint8_t *at, size_t len,
                                 och_error *err);
/**
 * Pin the piece that holds byte `offset`, made of whole units of `unit` bytes.  `rebuild`, for a derived section, makes all of it
 * (`size` bytes) when it is damaged or absent.
 */
MUST_USE och_code part_pin(struct part *part, unsigned id, uint32_t unit, uint64_t offset,
                           struct part_piece *ret_piece, och_error *err);
MUST_USE och_code part_pin_derived(struct part *part, unsigned id, uint32_t unit, uint64_t offset,
                                   uint64_t size, part_rebuild rebuild,
                                   struct part_piece *ret_piece, och_error *err);
/** What to evict last (D5: head, CODE, CODE8, VEC). */
enum cache_heat part_heat(unsigned id);
/** Check whole pages that were read, as part_load_pages does. */
MUST_USE och_code part_check_pages(struct part *part, unsigned id, uint64_t page, const uint8_t *at,
                                   size_t len, och_error *err);
/** The key and length of the piece that holds byte `offset`; returns where it begins. */
uint64_t part_piece_of(const struct part *part, unsigned id, uint32_t unit, uint64_t offset,
                       struct cache_key *ret_key, size_t *ret_len);
/** The same of the checksums of a page of the table's count. */
uint64_t part_table_of(const struct part *part, uint64_t entry, struct cache_key *ret_key,
                       size_t *ret_len);
/** Judge a page of the table that was read: damage is noted, not an error (each page is still checked by its own entry). */
void part_table_check(struct part *part, uint32_t index, const uint8_t *at, size_t len);
/** A scan has come to byte `offset` of a section: what follows will be read. */
void part_expect(struct part *part, unsigned id, uint64_t offset);
/** Units in each piece but the last. */
uint64_t part_group_of(const struct part_section *section, unsigned id, uint32_t unit);
/** Bytes of a section that stay pinned as long as the part is open.  `check`, if not NULL, judges them once. */
typedef och_code (*part_check)(struct part *part, unsigned id, const uint8_t *at, size_t len,
                               och_error *err);
MUST_USE och_code part_resident(struct part *part, unsigned id, uint64_t from, size_t len,
                                part_check check, const uint8_t **ret_at, och_error *err);

/* ---- rows here and there (part_ahead.c) ---- */

/** Whole rows of a section of `unit` bytes a row, in a pinned extent. */
struct part_rows {
    const struct extent *extent;
    const uint8_t *base; /* of the first */
    uint64_t first, count;
    bool is_piece; /* all the rows of a piece */
};
/** Pin the extent that holds a row of VEC or CODE8 if there is one. */
bool part_row_peek(struct part *part, unsigned id, uint32_t unit, uint64_t row,
                   struct part_rows *ret_rows);
/** Pin the extent that holds a row of VEC or CODE8: the piece that a scan reads if it is there or worth it, else a few KiB around the row. */
MUST_USE och_code part_row_pin(struct part *part, unsigned id, uint32_t unit, uint64_t row,
                               struct part_rows *ret_rows, och_error *err);

/** A run in the file and in the cache. */
struct part_run {
    uint64_t offset;
    uint32_t index, encoded_len, decoded_len, first_row, blocks, rows;
};
/** One thing that a batch wants to have in the cache. */
struct part_want {
    struct cache_want want;
    unsigned id;
    uint64_t from, place; /* of the pages that hold it: in the section, in the part */
    size_t len;
    uint8_t *pages; /* what is decoded; NULL: they are the extent */
    struct part_run run;
};
/** A batch; one thread. */
struct part_ahead {
    struct part *part;
    VEC(struct part_want) wants;
    uint32_t pieces_left; /* that may be read instead of a few rows */
};
/* Adding is a wish: without memory it is not heard. */
void part_ahead_init(struct part_ahead *ahead, struct part *part);
/** A row of VEC or CODE8, as part_row_pin will look for it. */
void part_ahead_row(struct part_ahead *ahead, unsigned id, uint32_t unit, uint64_t row);
/** The piece that holds byte `offset`, as part_pin will look for it. */
void part_ahead_piece(struct part_ahead *ahead, unsigned id, uint32_t unit, uint64_t offset);
/** The run that holds a row of IDS, VALUES, DOCS or URIS. */
void part_ahead_block(struct part_ahead *ahead, unsigned id, uint32_t row);
/**
 * Read all that is not there in one batch, with the checksums it needs, and keep it pinned until part_ahead_done.
 *
 * Failures are not told: whoever then asks for what is missing reads it again and says what is wrong (D4).  Returns whether
 * anything had to be read.
 */
bool part_ahead_load(struct part_ahead *ahead);
void part_ahead_done(struct part_ahead *ahead);

MUST_USE och_code part_run_find(struct part *part, unsigned id, uint32_t row,
                                struct part_run *ret_run, och_error *err);
/** From pages that begin at `from` of the section and hold the run. */
MUST_USE och_code part_run_decode(struct part *part, unsigned id, const struct part_run *run,
                                  const uint8_t *pages, uint64_t from, uint8_t *at, size_t len,
                                  och_error *err);

/** The decoded block that holds a row of IDS, VALUES, DOCS or URIS. */
struct part_block_view {
    const struct extent *extent; /* pinned */
    const uint8_t *base;
    uint32_t first_row, rows;
};
/** goes_on: the row before was read just now, so the rows after will be. */
MUST_USE och_code part_block_pin(struct part *part, unsigned id, uint32_t row, bool goes_on,
                                 struct part_block_view *ret_block, och_error *err);
/** A row's field in a decoded block of `rows` rows; i counts from the block's first. */
static inline slice part_block_field(const uint8_t *base, uint32_t rows, uint32_t i)
{
    const uint32_t *ends = (const uint32_t *)(const void *)base; // the loader put them there
    uint32_t end = ends[i], start = i ? ends[i - 1] & 0x7fffffff : 0;
    if (end >> 31)
        return SLICE_NONE;
    return slice_make(base + 4 * (size_t)rows + start, end - start);
}

/** The metadata index; NULL when there is none, it is damaged, or there is no room now. */
MUST_USE och_code part_meta_index(struct part *part, const struct meta_index **ret_index,
                                  och_error *err);
/** Build META again from the metadata and compare; *ret_fault: what is wrong, NULL nothing, at *ret_offset of the section. */
MUST_USE och_code part_meta_check(struct part *part, const char **ret_fault, uint64_t *ret_offset,
                                  och_error *err);

/** Row's seq in a SEQ piece. */
int64_t part_seq_value(const struct part *part, const struct part_piece *piece, uint32_t row);
och_code part_seq_piece(struct part *part, uint32_t row, struct part_piece *ret_piece,
                        och_error *err);
bool part_filter_has(const uint8_t *filter, uint64_t size, uint64_t hash);

/** The index of documents; NULL when there is none, it is damaged, or there is no room now. */
struct text_index;
MUST_USE och_code part_text_index(struct part *part, const struct text_index **ret_index,
                                  och_error *err);
/** Build TEXT again from the documents and compare; *ret_fault: what is wrong, NULL nothing, at *ret_offset of the section. */
MUST_USE och_code part_text_check(struct part *part, const char **ret_fault, uint64_t *ret_offset,
                                  och_error *err);
/** Build SPRS again from the metadata, or TERM from the documents, and compare; *ret_fault: what is wrong, NULL nothing, at *ret_offset of the section. */
MUST_USE och_code part_sparse_check(struct part *part, unsigned id, const char **ret_fault,
                                    uint64_t *ret_offset, och_error *err);
#endif
