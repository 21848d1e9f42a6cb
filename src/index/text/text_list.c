/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of ascending rows in three encodings, whichever is shortest: gaps as varints, gaps packed in blocks of 128 (first row u32, width u8,
 * then the gaps less one in that many bits), or a bitmap of the segment.  Read from untrusted bytes. */
#include "index/text/text_internal.h"

#include "kernel/postings.h"

#define BLOCK_HEAD 5u

/* ---- writing ---- */

static uint32_t varint_len(uint32_t value)
{
    return value < 1u << 7 ? 1 : value < 1u << 14 ? 2 : value < 1u << 21 ? 3 : 4;
}

static unsigned width_of(uint32_t bits)
{
    return bits ? 32 - (unsigned)__builtin_clz(bits) : 0;
}

static size_t packed_len(uint32_t count, unsigned width)
{
    return ((size_t)(count - 1) * width + 7) / 8;
}

/* The gaps of a block, all their bits in one word. */
static unsigned block_width(const uint32_t *rows, uint32_t count)
{
    uint32_t bits = 0;
    for (uint32_t i = 1; i < count; i++)
        bits |= rows[i] - rows[i - 1] - 1;
    return width_of(bits);
}

static void write_varints(const uint32_t *rows, uint32_t count, struct buf *out)
{
    uint32_t next = 0;
    for (uint32_t i = 0; i < count; i++) {
        buf_varint(out, rows[i] - next);
        next = rows[i] + 1;
    }
}

static void write_block(const uint32_t *rows, uint32_t count, struct buf *out)
{
    unsigned width = block_width(rows, count), filled = 0;
    uint64_t word = 0;
    buf_u32(out, rows[0]);
    buf_byte(out, (uint8_t)width);
    for (uint32_t i = 1; i < count; i++) {
        word |= (uint64_t)(rows[i] - rows[i - 1] - 1) << filled;
        for (filled += width; filled >= 8; filled -= 8, word >>= 8)
            buf_byte(out, (uint8_t)word);
    }
    if (filled)
        buf_byte(out, (uint8_t)word);
}

static void write_bitmap(const uint32_t *rows, uint32_t count, uint32_t segment_rows,
                         struct buf *out)
{
    size_t len = text_bitmap_size(segment_rows);
    uint8_t *at = buf_reserve(out, len);
    if (!at)
        return;
    memset(at, 0, len);
    for (uint32_t i = 0; i < count; i++)
        at[rows[i] / 8] |= (uint8_t)(1u << rows[i] % 8);
    out->len += len;
}

enum text_encoding text_list_write(const uint32_t *rows, uint32_t count, uint32_t segment_rows,
                                   struct buf *out)
{
    size_t varints = 0, packed = 0;
    uint32_t next = 0;
    assert(count && rows[count - 1] < segment_rows);
    for (uint32_t i = 0; i < count; i++) {
        varints += varint_len(rows[i] - next);
        next = rows[i] + 1;
    }
    for (uint32_t i = 0; i < count; i += TEXT_LIST_BLOCK) {
        uint32_t in_block = count - i < TEXT_LIST_BLOCK ? count - i : TEXT_LIST_BLOCK;
        packed += BLOCK_HEAD + packed_len(in_block, block_width(rows + i, in_block));
    }
    if (text_bitmap_size(segment_rows) <= min_size(varints, packed)) {
        write_bitmap(rows, count, segment_rows, out);
        return TEXT_BITMAP;
    }
    if (varints <= packed) {
        write_varints(rows, count, out);
        return TEXT_VARINT;
    }
    for (uint32_t i = 0; i < count; i += TEXT_LIST_BLOCK)
        write_block(rows + i, count - i < TEXT_LIST_BLOCK ? count - i : TEXT_LIST_BLOCK, out);
    return TEXT_PACKED;
}

/* ---- reading ---- */

/* Takes rows in ascending order: either sets their bits, or clears all others. */
struct target {
    uint64_t *words;
    uint32_t rows;
    bool intersect;
    uint32_t word; /* intersect: where `kept` belongs */
    uint64_t kept;
};

static inline void target_row(struct target *t, uint32_t row)
{
    uint32_t word = row / 64;
    if (!t->intersect) {
        t->words[word] |= 1ull << row % 64;
        return;
    }
    if (word != t->word) {
        t->words[t->word] &= t->kept;
        for (uint32_t w = t->word + 1; w < word; w++)
            t->words[w] = 0;
        t->word = word;
        t->kept = 0;
    }
    t->kept |= 1ull << row % 64;
}

static void target_rows(struct target *t, const uint32_t *rows, uint32_t count)
{
    uint64_t *words = t->words;
    if (t->intersect) {
        for (uint32_t i = 0; i < count; i++)
            target_row(t, rows[i]);
        return;
    }
    for (uint32_t i = 0; i < count; i++)
        words[rows[i] / 64] |= 1ull << rows[i] % 64;
}

static void target_end(struct target *t)
{
    if (!t->intersect)
        return;
    t->words[t->word] &= t->kept;
    for (size_t w = t->word + 1; w < bitset_words(t->rows); w++)
        t->words[w] = 0;
}

/* Have words, each bit turned round if `flip` is all ones, a bit in [from, to)? */
static bool any_between(const uint64_t *words, uint64_t flip, uint32_t from, uint32_t to)
{
    if (from >= to)
        return false;
    uint32_t first = from / 64, last = (to - 1) / 64;
    uint64_t head = UINT64_MAX << from % 64, tail = UINT64_MAX >> (63 - (to - 1) % 64);
    if (first == last)
        return (words[first] ^ flip) & head & tail;
    if ((words[first] ^ flip) & head)
        return true;
    for (uint32_t w = first + 1; w < last; w++) {
        if (words[w] ^ flip)
            return true;
    }
    return (words[last] ^ flip) & tail;
}

static bool read_varints(slice bytes, const struct text_list *list, struct target *t)
{
    const uint8_t *at = bytes.at, *end = at + bytes.len;
    uint32_t next = 0;
    for (uint32_t i = 0; i < list->count; i++) {
        if (at == end)
            return false;
        uint32_t gap = *at++;
        if (gap >= 128) {
            gap &= 127;
            for (unsigned shift = 7;; shift += 7) {
                if (at == end || shift > 14) // a row takes 20 bits
                    return false;
                gap |= (uint32_t)(*at & 127) << shift;
                if (*at++ < 128)
                    break;
            }
        }
        if (gap >= t->rows - next) // next <= rows
            return false;
        target_row(t, next + gap);
        next += gap + 1;
    }
    return at == end;
}

/* Rows below `limit`; `readable` bytes at `packed` can be read, `len` of them are the block's. */
static bool read_block(const uint8_t *packed, size_t len, size_t readable, uint32_t count,
                       uint32_t limit, uint32_t first, unsigned width, struct target *t)
{
    uint8_t copy[(TEXT_LIST_BLOCK - 1) * 20 / 8 + 16];
    uint32_t rows[TEXT_LIST_BLOCK];
    assert(len + 8 <= sizeof(copy));
    if (readable < len + 8) {
        memcpy(copy, packed, len);
        memset(copy + len, 0, 8);
        packed = copy;
    }
    if (kernel_postings_get()->unpack_rows(packed, width, count, first, rows) >= limit)
        return false;
    target_rows(t, rows, count);
    return true;
}

static bool read_packed(slice bytes, const struct text_list *list, struct target *t)
{
    const uint8_t *at = bytes.at, *end = at + bytes.len;
    for (uint32_t done = 0; done < list->count; done += TEXT_LIST_BLOCK) {
        uint32_t left = list->count - done, count = left < TEXT_LIST_BLOCK ? left : TEXT_LIST_BLOCK;
        if ((size_t)(end - at) < BLOCK_HEAD)
            return false;
        uint32_t first = load_u32(at);
        unsigned width = at[4];
        at += BLOCK_HEAD;
        if (width > 20 || packed_len(count, width) > (size_t)(end - at) || first >= t->rows)
            return false;
        size_t len = packed_len(count, width);
        uint32_t next = t->rows;
        if (left > count) {
            if ((size_t)(end - at) - len < BLOCK_HEAD)
                return false;
            next = load_u32(at + len);
            if (next <= first || next >= t->rows)
                return false;
        }
        /* rows of which none is left, or none is missing, need not be looked at */
        bool skip = !any_between(t->words, t->intersect ? 0 : UINT64_MAX, first, next);
        if (!skip && !read_block(at, len, (size_t)(end - at), count, next, first, width, t))
            return false;
        at += len;
    }
    return at == end;
}

static bool read_bitmap(slice bytes, struct target *t)
{
    size_t words = bitset_words(t->rows);
    if (bytes.len != words * 8)
        return false;
    for (size_t w = 0; w < words; w++) {
        uint64_t word = load_u64(bytes.at + w * 8);
        if (w == words - 1 && t->rows % 64)
            word &= (1ull << t->rows % 64) - 1;
        t->words[w] = t->intersect ? t->words[w] & word : t->words[w] | word;
    }
    return true;
}

static bool read_list(slice bytes, const struct text_list *list, struct target *t)
{
    if (list->encoding == TEXT_BITMAP)
        return read_bitmap(bytes, t);
    bool sound =
        list->encoding == TEXT_VARINT ? read_varints(bytes, list, t) : read_packed(bytes, list, t);
    if (sound)
        target_end(t);
    return sound;
}

bool text_list_or(slice bytes, const struct text_list *list, uint32_t segment_rows, uint64_t *words)
{
    struct target target = {.rows = segment_rows};
    target.words = words;
    return read_list(bytes, list, &target);
}

bool text_list_and(slice bytes, const struct text_list *list, uint32_t segment_rows,
                   uint64_t *words)
{
    struct target target = {.rows = segment_rows, .intersect = true};
    target.words = words;
    return read_list(bytes, list, &target);
}
