/* SPDX-License-Identifier: Apache-2.0 */
/* An open part and how its bytes come into the cache, checked.  Inside part/ only. */
#ifndef PART_PART_INTERNAL_H
#define PART_PART_INTERNAL_H

#include "part/part.h"
#include "part/part_format.h"

#include "index/vector/vector.h"

#define PART_BIT(id) (1u << (id))
#define PART_REBUILT 32u /* added to a section's id in cache keys: computed from primary ones */

enum part_index_state { INDEX_UNKNOWN = 0, INDEX_READY, INDEX_NONE };

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
    _Atomic uint32_t index_state; /* enum part_index_state */
    struct vector_index index;    /* once index_state says so */
    struct mutex mutex; /* guards: names_at and names, which are set once; index while it is set */
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
/** Units in each piece but the last. */
uint64_t part_group_of(const struct part_section *section, unsigned id, uint32_t unit);
/** Bytes of a section that stay pinned as long as the part is open.  `check`, if not NULL, judges them once. */
typedef och_code (*part_check)(struct part *part, unsigned id, const uint8_t *at, size_t len,
                               och_error *err);
MUST_USE och_code part_resident(struct part *part, unsigned id, uint64_t from, size_t len,
                                part_check check, const uint8_t **ret_at, och_error *err);

/** The decoded block that holds a row of IDS, VALUES, DOCS or URIS. */
struct part_block_view {
    const struct extent *extent; /* pinned */
    const uint8_t *base;
    uint32_t first_row, rows;
};
MUST_USE och_code part_block_pin(struct part *part, unsigned id, uint32_t row,
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

/** Row's seq in a SEQ piece. */
int64_t part_seq_value(const struct part *part, const struct part_piece *piece, uint32_t row);
och_code part_seq_piece(struct part *part, uint32_t row, struct part_piece *ret_piece,
                        och_error *err);
bool part_filter_has(const uint8_t *filter, uint64_t size, uint64_t hash);
#endif
