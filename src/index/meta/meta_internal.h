/* SPDX-License-Identifier: Apache-2.0 */
/* The format in numbers, and what the files of the folder share. */
#ifndef INDEX_META_META_INTERNAL_H
#define INDEX_META_META_INTERNAL_H

#include "base/bytes.h"
#include "index/meta/meta_index.h"
#include "kernel/bits.h"
#include "model/meta.h"

#define META_MAGIC        0x54454d4fu /* "OMET" */
#define META_VERSION      1u
#define META_INCOMPLETE   1u /* flag of the directory */
#define META_DIR_SIZE     32u
#define META_ENTRY_SIZE   64u
#define META_TOP_SIZE     16u
#define META_ZONE_SIZE    24u
#define META_DICT_HEADER  8u
#define META_DICT_NUMBERS 128u /* values of a dictionary block, at least */
#define META_DICT_STRINGS 64u
#define META_BLOCKS_AIM   8192u /* more blocks than these, and blocks grow */
#define META_GROWTH       5u    /* by 2^this at most */
#define META_STRING_MAX   256u  /* longer strings are cut here, with META_CUT behind them */
#define META_CUT          0xffu
#define META_LIST_BLOCK   4096u /* entries of a list that are read together */
#define META_SPARSE_SHARE 64u   /* a key in fewer rows than one in so many has no slices */
#define META_FEW          4u    /* distinct values up to which slices are enough */

enum meta_has { META_HAS_LIST = 1, META_HAS_SLICES = 2, META_UNINDEXED = 4 };

/* One entry of the directory, decoded. */
struct meta_column {
    slice key;
    uint8_t type, has;
    uint32_t ordinals; /* distinct values: 1..ordinals; 0 = a row without one */
    uint32_t entries;  /* pairs of a row and a value: rows that have one, but for arrays */
    uint32_t dict_blocks;
    uint64_t dict_offset, list_offset;
    const uint8_t *tops, *zones; /* in the directory */
    slice separators;
    uint64_t max; /* image of the greatest number */
};

static inline bool meta_type_is_string(uint8_t type)
{
    return type == META_STRING || type == META_STRINGS;
}
/** Was a stored string longer than the dictionary keeps? */
static inline bool meta_string_is_cut(slice text)
{
    return text.len > META_STRING_MAX;
}
static inline bool meta_type_is_array(uint8_t type)
{
    return type >= META_BOOLS && type <= META_STRINGS;
}

/* ---- numbers as u64 in the same order ---- */
#define META_IMAGE_NAN UINT64_MAX
static inline uint64_t meta_image_int(int64_t value)
{
    return (uint64_t)value ^ 1ull << 63;
}
static inline uint64_t meta_image_float(double value)
{
    uint64_t bits;
    if (value != value)
        return META_IMAGE_NAN;
    value += 0.0; /* -0.0 becomes +0.0 */
    memcpy(&bits, &value, 8);
    return bits >> 63 ? ~bits : bits | 1ull << 63;
}

/* ---- packed values, the lowest bit first ---- */
static inline unsigned meta_bits_of(uint64_t value)
{
    return value ? 64 - (unsigned)__builtin_clzll(value) : 0;
}
/* Eight bytes are added so that a value can be read as one word. */
static inline uint64_t meta_packed_size(uint64_t count, unsigned width)
{
    return width && count ? round_up((count * width + 7) / 8, 8) + 8 : 0;
}
/* At least meta_packed_size(i + 1, width) bytes are there. */
static ALWAYS_INLINE uint64_t meta_packed_get(const uint8_t *at, uint64_t i, unsigned width)
{
    if (!width)
        return 0;
    uint64_t bit = i * width;
    const uint8_t *from = at + bit / 8;
    unsigned shift = bit % 8;
    uint64_t value = load_u64(from) >> shift;
    if (shift && width > 64 - shift)
        value |= (uint64_t)from[8] << (64 - shift);
    return width == 64 ? value : value & ((1ull << width) - 1);
}

/* Writing them one behind the other. */
struct meta_packer {
    uint8_t *at; /* of the word that is being filled */
    uint64_t word;
    unsigned bits; /* of it */
};
/* value < 2^width, width <= 64. */
static ALWAYS_INLINE void meta_pack(struct meta_packer *packer, uint64_t value, unsigned width)
{
    packer->word |= value << packer->bits;
    packer->bits += width;
    if (packer->bits < 64)
        return;
    store_u64(packer->at, packer->word);
    packer->at += 8;
    packer->bits -= 64;
    packer->word = packer->bits ? value >> (width - packer->bits) : 0;
}
/* The last word, filled up with zeros. */
static inline void meta_pack_end(struct meta_packer *packer)
{
    if (packer->bits)
        store_u64(packer->at, packer->word);
}

/** Bits of a row number. */
static inline unsigned meta_row_bits(uint32_t rows)
{
    return rows > 2 ? meta_bits_of(rows - 1) : 1;
}
/** Values of a dictionary block. */
uint32_t meta_dict_block(uint8_t type, uint32_t ordinals);
static inline uint32_t meta_chunks(uint32_t rows)
{
    return (uint32_t)(((uint64_t)rows + META_CHUNK - 1) / META_CHUNK);
}
/** Rows of a chunk. */
static inline uint32_t meta_chunk_rows(uint32_t rows, uint32_t chunk)
{
    uint32_t left = rows - chunk * META_CHUNK;
    return left < META_CHUNK ? left : META_CHUNK;
}

/** Column i of an open index. */
struct meta_column meta_column_at(const struct meta_index *index, uint32_t i);
/** First column of a key; *ret_count 0: none. */
uint32_t meta_columns_of(const struct meta_index *index, slice key, uint32_t *ret_count);

/* ---- a zone: one chunk of a sliced column ---- */
struct meta_zone {
    uint32_t min, max; /* ordinals; 0: no row has a value */
    bool missing;
    uint8_t width;
    uint64_t offset;
};
static inline struct meta_zone meta_zone_at(const uint8_t *zones, uint32_t chunk)
{
    const uint8_t *at = zones + (size_t)chunk * META_ZONE_SIZE;
    return (struct meta_zone){load_u32(at), load_u32(at + 4), at[8] != 0, at[9], load_u64(at + 16)};
}
static inline uint64_t meta_zone_size(uint32_t rows, unsigned width)
{
    return ((uint64_t)rows + BITS_ROWS - 1) / BITS_ROWS * bits_block_size(width);
}

/* ---- reading (meta_read.c) ---- */
/* Pages of one index, with what went wrong. */
struct meta_reader {
    const struct meta_index *index;
    const struct meta_pages *pages;
    bool damaged;     /* the index's own bytes are bad */
    uint32_t release; /* how often pages were let go while cursors were in use */
};
och_code meta_fault(struct meta_reader *reader, const struct meta_column *column, const char *what,
                    och_error *err);
MUST_USE och_code meta_read(struct meta_reader *reader, uint64_t offset, uint64_t len,
                            const uint8_t **ret_at, och_error *err);

/* The block of a dictionary that was looked at last. */
struct meta_cursor {
    struct meta_reader *reader;
    const struct meta_column *column;
    uint32_t block, first, count; /* ordinal of its first value, how many; count 0: none yet */
    uint32_t release;             /* of the reader when the block was read */
    uint32_t base;                /* entries of ordinals before it */
    uint64_t image;               /* of its first value */
    unsigned width, excess_width;
    const uint8_t *values, *excess;
    slice strings;
};
/** First ordinal whose value is not below; ordinals + 1: all are. */
MUST_USE och_code meta_find_image(struct meta_cursor *cursor, uint64_t image, uint32_t *ret,
                                  och_error *err);
/** The image of an ordinal's number. */
MUST_USE och_code meta_image_at(struct meta_cursor *cursor, uint32_t ordinal, uint64_t *ret,
                                och_error *err);
/** The ordinal of a number, 0: none. */
MUST_USE och_code meta_has_image(struct meta_cursor *cursor, uint64_t image, uint32_t *ret,
                                 och_error *err);
/** The ordinal of a string as stored (cut), 0: none. */
MUST_USE och_code meta_find_string(struct meta_cursor *cursor, slice text, uint32_t *ret,
                                   och_error *err);
/** Eight bytes from `depth` on as a number that compares as they do, zeros behind the end. */
static inline uint64_t meta_eight_bytes(slice text, size_t depth)
{
    uint64_t value = 0;
    size_t left = text.len > depth ? text.len - depth : 0;
    if (left >= 8)
        return __builtin_bswap64(load_u64(text.at + depth));
    for (size_t i = 0; i < left; i++)
        value |= (uint64_t)text.at[depth + i] << (56 - 8 * i);
    return value;
}
/** A walk through the strings of a dictionary, each of which says how much it shares with the one before. */
struct meta_strings {
    struct meta_cursor *cursor;
    struct reader reader;
    uint32_t block, at; /* in the dictionary, in the block */
    bool begun, has_text;
    size_t len;
    uint8_t text[META_STRING_MAX + 1];
};
/** As meta_find_string, for texts that ascend, as stored; `s` begins with its cursor alone, which nobody else moves meanwhile.  Reads no block twice. */
MUST_USE och_code meta_seek_string(struct meta_strings *s, slice text, uint32_t *ret,
                                   och_error *err);
/** First ordinal whose string, as stored, is not below; ordinals + 1: all are. */
MUST_USE och_code meta_find_place(struct meta_cursor *cursor, slice text, uint32_t *ret,
                                  och_error *err);
/** Strings of ordinals [from, to) as stored, in order; each holds until the next.  The taker's error ends the walk. */
typedef och_code (*meta_string_taker)(void *context, uint32_t ordinal, slice text, och_error *err);
MUST_USE och_code meta_walk_strings(struct meta_cursor *cursor, uint32_t from, uint32_t to,
                                    meta_string_taker take_string, void *context, och_error *err);
/** Entries of ordinals below `ordinal`, 1..ordinals + 1. */
MUST_USE och_code meta_entries_before(struct meta_cursor *cursor, uint32_t ordinal, uint32_t *ret,
                                      och_error *err);
/** Rows of entries [from, to) one behind the other, as the list has them. */
MUST_USE och_code meta_list_rows(struct meta_reader *reader, const struct meta_column *column,
                                 uint32_t from, uint32_t to, uint32_t *rows, och_error *err);
struct meta_window { /* rows of interest */
    uint32_t first, count;
};
/** The same, set in a bitset of the window's rows. */
MUST_USE och_code meta_list_bits(struct meta_reader *reader, const struct meta_column *column,
                                 uint32_t from, uint32_t to, struct meta_window window,
                                 uint64_t *words, och_error *err);
/** A chunk of a sliced column; *ret_body NULL: its zone says all. */
MUST_USE och_code meta_chunk_body(struct meta_reader *reader, const struct meta_column *column,
                                  uint32_t chunk, struct meta_zone *ret_zone,
                                  const uint8_t **ret_body, och_error *err);

/* ---- writing (meta_column.c) ---- */
/* A column about to be written: values in ascending order with their rows. */
struct meta_values {
    slice key;
    uint8_t type;
    uint32_t ordinals, entries;
    const uint64_t *images; /* of each ordinal, NULL for strings */
    const slice *strings;
    const uint32_t *before; /* [ordinals + 1]: entries of the ordinals before */
    const uint32_t *rows;   /* [entries] */
    uint32_t present;       /* rows that have a value */
};
struct meta_writer {
    uint32_t rows;
    uint64_t offset; /* of the section: bytes emitted */
    meta_emit emit;
    void *context;
    struct buf tail; /* tops, separators, zones of the columns written */
    struct buf entries, keys;
    struct buf block; /* scratch */
    uint32_t columns;
};
/** What `codes` must hold: one u32 a row, whole blocks of slices. */
static inline size_t meta_codes_bytes(uint32_t rows)
{
    return ((size_t)rows + BITS_ROWS - 1) / BITS_ROWS * BITS_ROWS * sizeof(uint32_t);
}
/** `codes`: scratch of meta_codes_bytes. */
MUST_USE och_code meta_write_column(struct meta_writer *writer, const struct meta_values *values,
                                    uint32_t *codes, och_error *err);
/** A column that is only named: rows are to be looked at. */
MUST_USE och_code meta_write_unindexed(struct meta_writer *writer, slice key, uint8_t type,
                                       uint32_t present, och_error *err);
MUST_USE och_code meta_write_directory(struct meta_writer *writer, bool incomplete,
                                       uint64_t *ret_len, och_error *err);
#endif
