/* SPDX-License-Identifier: Apache-2.0 */
/* Building: rows are cut into segments of as many postings as fit the memory; a segment is sorted by gram and written before the next one
 * begins.  So one pass over the text does, nothing is spilled and nothing is merged. */
#include "index/text/text_internal.h"

#define EMIT_BYTES   (64u << 10)
#define SEEN_WORDS   (TEXT_KEYS / 64)
#define DIGIT_BITS   6u
#define DIGITS       (1u << DIGIT_BITS)
#define BUCKETS      4096u /* by a key's upper half */
#define LOW_SHIFT    20u   /* a sorted posting: lower half of the key, then the row */
#define ROW_MASK     (TEXT_SEGMENT_ROWS - 1)
#define ROWS_AT_ONCE 1024u

struct memory {
    void *at;
    size_t bytes;
};

struct builder {
    const struct text_options *options;
    uint32_t capacity;
    struct memory keys, sorted; /* u32 each, `capacity` of them */
    struct memory seen;         /* bit per key: in this row already */
    struct memory ends;   /* u32 per row of the segment: postings so far, top bit: no document */
    size_t charged_bytes; /* for the buffers */
    /* the segment being filled */
    uint32_t first_row, rows, present, keys_len;
    struct buf lists, dictionary, block; /* encoded; of this segment */
    uint64_t lists_len;
    uint32_t block_keys, block_first, last_key, key_count, block_count;
    uint64_t block_lists;
    /* of the whole */
    uint64_t written, text_bytes, len_max;
    uint32_t segment_count, total_present;
    struct buf segments, tops;
};

#define NO_DOCUMENT (1u << 31)

/* ---- memory ---- */

static och_code memory_take(struct builder *b, uint64_t count, size_t size, bool zeroed,
                            struct memory *memory, och_error *err)
{
    size_t bytes;
    if (mul_overflows((size_t)count, size, &bytes))
        return FAIL_NO_MEMORY(err, "a text index");
    TRY(budget_take(b->options->budget, bytes, "a text index", err));
    void *at = zeroed ? mem_zalloc(bytes) : mem_alloc(bytes);
    if (!at) {
        budget_give(b->options->budget, bytes);
        return FAIL_NO_MEMORY(err, "a text index");
    }
    *memory = (struct memory){at, bytes};
    return OCH_OK;
}

static void memory_give(struct builder *b, struct memory *memory)
{
    mem_free(memory->at);
    budget_give(b->options->budget, memory->bytes);
    *memory = (struct memory){NULL, 0};
}

/* Count what the buffers hold. */
static och_code charge(struct builder *b, och_error *err)
{
    size_t held = b->lists.cap + b->dictionary.cap + b->block.cap + b->segments.cap + b->tops.cap;
    if (held <= b->charged_bytes)
        return OCH_OK;
    TRY(budget_take(b->options->budget, held - b->charged_bytes, "a text index", err));
    b->charged_bytes = held;
    return OCH_OK;
}

static och_code reserve_postings(struct builder *b, uint32_t capacity, och_error *err)
{
    memory_give(b, &b->keys);
    memory_give(b, &b->sorted);
    TRY(memory_take(b, capacity, 4, false, &b->keys, err));
    TRY(memory_take(b, capacity, 4, false, &b->sorted, err));
    b->capacity = capacity;
    return OCH_OK;
}

static och_code reserve_row(struct builder *b, och_error *err)
{
    size_t room = b->ends.bytes / 4;
    if (b->rows < room)
        return OCH_OK;
    struct memory more;
    TRY(memory_take(b, room ? 2 * room : ROWS_AT_ONCE, 4, false, &more, err));
    if (room)
        memcpy(more.at, b->ends.at, b->ends.bytes);
    memory_give(b, &b->ends);
    b->ends = more;
    return OCH_OK;
}

/* ---- output ---- */

static och_code emit(struct builder *b, struct buf *from, och_error *err)
{
    TRY(buf_check(from, "a text index", err));
    TRY(charge(b, err));
    if (from->len)
        TRY(b->options->emit(b->options->emit_context, from->at, from->len, err));
    b->written += from->len;
    buf_clear(from);
    return OCH_OK;
}

/* The keys of a block go behind the dictionary, its first one into the top. */
static void end_block(struct builder *b)
{
    if (!b->block_keys)
        return;
    buf_u32(&b->tops, b->block_first);
    buf_u32(&b->tops, (uint32_t)b->dictionary.len);
    buf_u32(&b->tops, (uint32_t)b->block_lists);
    buf_slice(&b->dictionary, buf_view(&b->block));
    buf_clear(&b->block);
    b->block_keys = 0;
    b->block_count++;
}

/* Entry: gap to the key before, rows and encoding, bytes unless they follow from the rest. */
static och_code write_list(struct builder *b, uint32_t key, const uint32_t *rows, uint32_t count,
                           och_error *err)
{
    size_t before = b->lists.len;
    enum text_encoding encoding = text_list_write(rows, count, b->rows, &b->lists);
    TRY(buf_check(&b->lists, "a text index", err));
    size_t len = b->lists.len - before;
    if (b->block_keys == TEXT_BLOCK_KEYS)
        end_block(b);
    if (!b->block_keys) {
        b->block_first = key;
        b->block_lists = b->lists_len;
    } else {
        buf_varint(&b->block, key - b->last_key - 1);
    }
    buf_varint(&b->block, (uint64_t)count << 2 | encoding);
    if (encoding != TEXT_BITMAP)
        buf_varint(&b->block, len);
    b->last_key = key;
    b->block_keys++;
    b->key_count++;
    b->lists_len += len;
    return b->lists.len < EMIT_BYTES ? OCH_OK : emit(b, &b->lists, err);
}

/* ---- sorting ---- */

/* Postings by the upper half of their key; in each bucket they keep the order of rows.  Fills starts[BUCKETS + 1]. */
static void scatter(struct builder *b, uint32_t *starts)
{
    const uint32_t *keys = b->keys.at, *ends = b->ends.at;
    uint32_t *sorted = b->sorted.at;
    memset(starts, 0, (BUCKETS + 1) * sizeof(*starts));
    for (uint32_t i = 0; i < b->keys_len; i++)
        starts[(keys[i] >> 12) + 1]++;
    for (uint32_t i = 0; i < BUCKETS; i++)
        starts[i + 1] += starts[i];
    for (uint32_t row = 0, i = 0; row < b->rows; row++) {
        for (uint32_t end = ends[row] & ~NO_DOCUMENT; i < end; i++)
            sorted[starts[keys[i] >> 12]++] = (keys[i] & 0xfff) << LOW_SHIFT | row;
    }
    // each start has moved to its bucket's end, which is the next one's start
    memmove(starts + 1, starts, BUCKETS * sizeof(*starts));
    starts[0] = 0;
}

static void sort_digit(const uint32_t *from, uint32_t *to, uint32_t count, unsigned shift)
{
    uint32_t starts[DIGITS + 1] = {0};
    for (uint32_t i = 0; i < count; i++)
        starts[(from[i] >> shift & (DIGITS - 1)) + 1]++;
    for (unsigned d = 0; d < DIGITS; d++)
        starts[d + 1] += starts[d];
    for (uint32_t i = 0; i < count; i++)
        to[starts[from[i] >> shift & (DIGITS - 1)]++] = from[i];
}

/* Lists of one bucket; `work` has room for it and is overwritten. */
static och_code write_bucket(struct builder *b, uint32_t bucket, uint32_t *postings, uint32_t *work,
                             uint32_t count, och_error *err)
{
    sort_digit(postings, work, count, LOW_SHIFT);
    sort_digit(work, postings, count, LOW_SHIFT + DIGIT_BITS);
    for (uint32_t i = 0; i < count;) {
        uint32_t low = postings[i] >> LOW_SHIFT, n = 0;
        for (; i < count && postings[i] >> LOW_SHIFT == low; i++)
            work[n++] = postings[i] & ROW_MASK;
        TRY(write_list(b, bucket << 12 | low, work, n, err));
    }
    return OCH_OK;
}

static och_code write_lists(struct builder *b, och_error *err)
{
    CLEANUP(mem_cleanup) uint32_t *starts = mem_alloc((BUCKETS + 1) * sizeof(*starts));
    if (!starts)
        return FAIL_NO_MEMORY(err, "a text index");
    scatter(b, starts);
    // the keys as collected are not needed any more: their room serves for sorting
    uint32_t *sorted = b->sorted.at, *work = b->keys.at;
    for (uint32_t bucket = 0; bucket < BUCKETS; bucket++) {
        uint32_t first = starts[bucket], count = starts[bucket + 1] - first;
        if (count)
            TRY(write_bucket(b, bucket, sorted + first, work, count, err));
    }
    end_block(b);
    return emit(b, &b->lists, err);
}

/* Which rows have a document; nothing when all have one. */
static och_code write_presence(struct builder *b, uint32_t *ret_len,
                               enum text_encoding *ret_encoding, och_error *err)
{
    uint32_t *rows = b->keys.at, count = 0;
    const uint32_t *ends = b->ends.at;
    *ret_len = 0;
    *ret_encoding = TEXT_VARINT;
    if (b->present == b->rows || !b->present)
        return OCH_OK;
    for (uint32_t row = 0; row < b->rows; row++) {
        if (!(ends[row] & NO_DOCUMENT))
            rows[count++] = row;
    }
    *ret_encoding = text_list_write(rows, count, b->rows, &b->lists);
    *ret_len = (uint32_t)b->lists.len;
    return emit(b, &b->lists, err);
}

static och_code end_segment(struct builder *b, och_error *err)
{
    uint64_t begin = b->written;
    uint32_t presence_len;
    enum text_encoding encoding;
    if (!b->rows)
        return OCH_OK;
    b->lists_len = 0;
    b->key_count = b->block_count = 0;
    TRY(write_lists(b, err));
    TRY(write_presence(b, &presence_len, &encoding, err));
    uint64_t dictionary_len = b->dictionary.len;
    TRY(emit(b, &b->dictionary, err));
    if (b->lists_len > UINT32_MAX || dictionary_len > UINT32_MAX)
        return FAIL(err, OCH_TOO_LARGE, "a text index's segment");
    buf_u32(&b->segments, b->first_row);
    buf_u32(&b->segments, b->rows);
    buf_u64(&b->segments, begin);
    buf_u32(&b->segments, (uint32_t)b->lists_len);
    buf_u32(&b->segments, (uint32_t)dictionary_len);
    buf_u32(&b->segments, b->key_count);
    buf_u32(&b->segments, b->block_count);
    buf_u32(&b->segments, b->present);
    buf_u32(&b->segments, presence_len);
    buf_u32(&b->segments, encoding);
    buf_u32(&b->segments, 0);
    b->segment_count++;
    b->total_present += b->present;
    b->first_row += b->rows;
    b->rows = b->present = b->keys_len = 0;
    TRY(charge(b, err));
    return b->options->limits ? work_check(b->options->limits, err) : OCH_OK;
}

/* ---- rows ---- */

/* The distinct grams of a document, in the order they come. */
static void collect(struct builder *b, slice document)
{
    uint64_t *seen = b->seen.at;
    uint32_t *keys = b->keys.at, first = b->keys_len, len = first;
    uint32_t key = text_key(0, document.at[0], document.len > 1 ? document.at[1] : 0);
    for (size_t i = 0; i < document.len; i++) {
        key = (key << 8 | (i + 2 < document.len ? document.at[i + 2] : 0)) & (TEXT_KEYS - 1);
        uint64_t *word = &seen[key / 64], bit = 1ull << key % 64;
        keys[len] = key; // overwritten by the next one if it was seen before
        len += !(*word & bit);
        *word |= bit;
    }
    for (uint32_t i = first; i < len; i++)
        seen[keys[i] / 64] = 0;
    b->keys_len = len;
}

static och_code add_row(struct builder *b, slice document, och_error *err)
{
    // one place more: the last key may be written in vain
    uint64_t most = (document.len < TEXT_KEYS ? document.len : TEXT_KEYS) + 1;
    if (b->rows == TEXT_SEGMENT_ROWS || b->keys_len + most > b->capacity)
        TRY(end_segment(b, err));
    if (most > b->capacity)
        TRY(reserve_postings(b, (uint32_t)most, err));
    TRY(reserve_row(b, err));
    if (document.len)
        collect(b, document);
    ((uint32_t *)b->ends.at)[b->rows++] = b->keys_len | (document.at ? 0 : NO_DOCUMENT);
    b->present += document.at != NULL;
    b->text_bytes += document.len;
    b->len_max = document.len > b->len_max ? document.len : b->len_max;
    return OCH_OK;
}

static och_code write_directory(struct builder *b, uint32_t capacity, uint32_t rows,
                                uint32_t *ret_len, och_error *err)
{
    uint64_t before = b->written;
    struct buf *out = &b->lists;
    buf_u32(out, TEXT_MAGIC);
    buf_u16(out, TEXT_MAJOR);
    buf_u16(out, 0);
    buf_u32(out, rows);
    buf_u32(out, b->segment_count);
    buf_u32(out, b->total_present);
    buf_u32(out, capacity);
    buf_u64(out, b->text_bytes);
    buf_u64(out, b->len_max);
    buf_zero(out, TEXT_HEADER_SIZE - out->len);
    TRY(emit(b, out, err));
    TRY(emit(b, &b->segments, err));
    TRY(emit(b, &b->tops, err));
    if (b->written - before > UINT32_MAX)
        return FAIL(err, OCH_TOO_LARGE, "a text index's directory");
    *ret_len = (uint32_t)(b->written - before);
    return OCH_OK;
}

static och_code build_all(struct builder *b, const struct text_rows *rows, uint32_t *ret_len,
                          och_error *err)
{
    uint32_t capacity = b->options->capacity ? b->options->capacity : TEXT_CAPACITY_MAX;
    // a row has no more grams than bytes, presence takes a place per row
    uint64_t most = b->options->text_bytes + rows->count + 1;
    uint32_t room = most < capacity ? (uint32_t)most : capacity;
    uint32_t least = rows->count < TEXT_SEGMENT_ROWS ? rows->count : TEXT_SEGMENT_ROWS;
    room = room < least ? least : room;
    TRY(memory_take(b, SEEN_WORDS, 8, true, &b->seen, err));
    TRY(reserve_postings(b, room, err));
    for (uint32_t row = 0; row < rows->count; row++) {
        slice document;
        TRY(rows->row(rows->context, row, &document, err));
        TRY(add_row(b, document, err));
    }
    TRY(end_segment(b, err));
    return write_directory(b, capacity, rows->count, ret_len, err);
}

och_code text_build(const struct text_options *options, const struct text_rows *rows,
                    uint32_t *ret_directory_len, och_error *err)
{
    struct builder b = {.options = options};
    struct buf *const buffers[] = {&b.lists, &b.dictionary, &b.block, &b.segments, &b.tops};
    struct memory *const memories[] = {&b.keys, &b.sorted, &b.seen, &b.ends};
    for (size_t i = 0; i < COUNT_OF(buffers); i++)
        buf_init(buffers[i], BUF_MAX_NONE);
    och_code code = build_all(&b, rows, ret_directory_len, err);
    for (size_t i = 0; i < COUNT_OF(buffers); i++)
        buf_done(buffers[i]);
    for (size_t i = 0; i < COUNT_OF(memories); i++)
        memory_give(&b, memories[i]);
    budget_give(options->budget, b.charged_bytes);
    return code;
}
