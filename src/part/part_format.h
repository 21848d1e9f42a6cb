/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of a part: docs/formats/part.md, in numbers.  Inside part/ only. */
#ifndef PART_PART_FORMAT_H
#define PART_PART_FORMAT_H

#include "base/bytes.h"
#include "model/uuid.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "vectors are read as they lie in the file, which is little-endian"
#endif

#define PART_MAJOR 1u
#define PART_MINOR 0u

/* Values are in files: never reuse one.  Below 32, a bit each in part_damage. */
enum part_section_id {
    SECTION_NONE = 0,
    SECTION_HEAD = 1,
    SECTION_MEAN = 2,
    SECTION_LIST = 3,
    SECTION_CENTQ = 4,
    SECTION_SUPER = 5,
    SECTION_IDFILTER = 6,
    SECTION_IDHASH = 7,
    SECTION_IDS = 8,
    SECTION_SEQ = 9,
    SECTION_SEQROWS = 10,
    SECTION_VEC = 11,
    SECTION_VPRES = 12,
    SECTION_NORM = 13,
    SECTION_VALUES = 14,
    SECTION_DOCS = 15,
    SECTION_URIS = 16,
    SECTION_EXPIRY = 17,
    SECTION_KILL = 18,
    SECTION_NAMES = 19,
    SECTION_CODE = 20,
    SECTION_CODE8 = 21,
    SECTION_CENT = 22,
    SECTION_ROWMAP = 23,
    SECTION_META = 24,
    SECTION_TEXT = 25,
    SECTION_SPRS = 26,
    SECTION_CRCS = 27, /* the table of page checksums */
    SECTION_TERM = 28,
    SECTION_COUNT = 32
};

/* Header: the first bytes of a part. */
#define HEADER_SIZE    64u
#define HEADER_MAGIC   "OCHREPRT"
#define FOOTER_SIZE    64u
#define FOOTER_MAGIC   "OCHREEND"
#define SECTION_ALIGN  64u
#define VEC_ALIGN      4096u
#define VEC_ALIGN_FROM 65536u /* sections at least this large are aligned to VEC_ALIGN */
#define PAGE_SMALL     4096u
#define PAGE_LARGE     65536u
#define TABLE_PAGE     65536u /* of the checksum table */

#define HEAD_SIZE       128u
#define HEAD_MAGIC      0x4448434fu /* "OCHD" */
#define HEAD_SEQ_ORDER  1u          /* row order is seq order */
#define HEAD_PLAIN      2u          /* no derived sections */
#define DIRECTORY_MAGIC 0x5244434fu /* "OCDR" */
#define DIRECTORY_SIZE  64u         /* its fixed part */
#define ENTRY_SIZE      40u
#define ENTRIES_MAX     1024u

#define SEQ_ROWS     128u /* rows of a SEQ block */
#define FILTER_BLOCK 64u
#define FILTER_BITS  10u /* per key */
#define FILTER_HASH  6u  /* bits set per key, all in one block */
#define BUCKET_ROWS  8u  /* rows per bucket of IDHASH, on average */

/* Blocks of records: VALUES, DOCS, URIS, IDS. */
#define BLOCK_RAW       8192u
#define BLOCK_HEADER    16u
#define BLOCK_ROWS_MAX  4096u
#define BLOCK_FIELD_MAX (1u << 30)
#define RUN_ENTRY       24u
#define RUN_BLOCKS_MAX  64u
#define BLOCK_ABSENT    UINT32_MAX

enum part_codec { CODEC_RAW = 0, CODEC_LZ4 = 1, CODEC_ZSTD = 2 };

struct part_section {
    uint64_t offset; /* from the part's begin */
    uint64_t size;   /* 0: absent */
    uint64_t aux;    /* IDS, VALUES, DOCS, URIS: runs; SEQ: bits per value */
    uint32_t page_size;
    uint32_t first_page; /* in the checksum table */
};

static inline uint64_t part_section_pages(const struct part_section *section)
{
    return section->size / section->page_size + (section->size % section->page_size != 0);
}

/** "VEC" and the like; "?" for ids without a name. */
const char *part_section_name(unsigned id);
/** Page size by section (D3). */
uint32_t part_section_page_size(unsigned id);
/** Is it computed from others (D4)? */
bool part_section_is_derived(unsigned id);
/** What a page's checksum begins with, so that a page of another part, section or place does not pass. */
uint32_t part_page_seed(uuid part, unsigned id, uint64_t page);

/* SEQ: each block is i64 base, then SEQ_ROWS values of `bits` bits above it, from the lowest bit on. */
static inline uint64_t part_seq_stride(uint64_t bits)
{
    return 8 + SEQ_ROWS / 8 * bits;
}
/* IDHASH: u32 buckets, u32 rows; u32 starts[buckets + 1]; pad to 8; {u32 tag, u32 row}[rows]. */
static inline uint64_t part_idhash_buckets(uint64_t rows)
{
    return (rows + BUCKET_ROWS - 1) / BUCKET_ROWS;
}
static inline uint64_t part_idhash_entries_at(uint64_t rows)
{
    return round_up(8 + 4 * (part_idhash_buckets(rows) + 1), 8);
}
static inline uint64_t part_idhash_size(uint64_t rows)
{
    return part_idhash_entries_at(rows) + 8 * rows;
}
static inline uint32_t part_idhash_bucket(uint64_t hash, uint64_t rows)
{
    return (uint32_t)((hash >> 32) * part_idhash_buckets(rows) >> 32);
}
/* IDFILTER: blocks of 512 bits. */
static inline uint64_t part_filter_size(uint64_t rows)
{
    return round_up((rows * FILTER_BITS + 7) / 8, FILTER_BLOCK);
}
struct part_filter_bits {
    uint64_t block;
    uint16_t bits[FILTER_HASH];
};
static inline struct part_filter_bits part_filter_of(uint64_t hash, uint64_t blocks)
{
    struct part_filter_bits ret;
    ret.block = (hash >> 32) * blocks >> 32;
    uint64_t mixed = (hash ^ hash >> 29) * 0x9e3779b97f4a7c15u;
    for (unsigned i = 0; i < FILTER_HASH; i++)
        ret.bits[i] = (uint16_t)(mixed >> (64 - 9 * (i + 1)) & 511);
    return ret;
}
#endif
