/* SPDX-License-Identifier: Apache-2.0 */
/* Segments of the sparse index: posting blocks, their directory, the dictionary.  docs/formats/sparse.md. */
#include "index/sparse/sparse_write.h"

#include <math.h>

void sparse_writer_init(struct sparse_writer *writer, const struct sparse_options *options)
{
    *writer = (struct sparse_writer){.options = options};
    struct buf *const all[] = {&writer->segments, &writer->tops, &writer->runs, &writer->dict,
                               &writer->block};
    for (size_t i = 0; i < COUNT_OF(all); i++)
        buf_init(all[i], BUF_MAX_NONE);
}

void sparse_writer_done(struct sparse_writer *writer)
{
    struct buf *const all[] = {&writer->segments, &writer->tops, &writer->runs, &writer->dict,
                               &writer->block};
    for (size_t i = 0; i < COUNT_OF(all); i++)
        buf_done(all[i]);
}

static och_code emit(struct sparse_writer *writer, const void *at, size_t len, och_error *err)
{
    TRY(writer->options->emit(writer->options->emit_context, at, len, err));
    writer->at += len;
    return OCH_OK;
}

static och_code emit_buf(struct sparse_writer *writer, struct buf *buf, och_error *err)
{
    TRY(buf_check(buf, "a sparse index", err));
    TRY(emit(writer, buf->at, buf->len, err));
    buf_clear(buf);
    return OCH_OK;
}

static och_code emit_zeros(struct sparse_writer *writer, uint64_t count, och_error *err)
{
    static const uint8_t zeros[DICT_BLOCK];
    while (count) {
        size_t step = count < sizeof(zeros) ? (size_t)count : sizeof(zeros);
        TRY(emit(writer, zeros, step, err));
        count -= step;
    }
    return OCH_OK;
}

static uint32_t list_length(const struct posting *postings, uint32_t count)
{
    uint32_t length = 1;
    while (length < count && postings[length].dim == postings[0].dim)
        length++;
    return length;
}

size_t sparse_write_work(const struct posting *postings, uint32_t count)
{
    size_t dict = 0, runs = 0;
    for (uint32_t i = 0; i < count;) {
        uint32_t length = list_length(postings + i, count - i);
        dict += length <= INLINE_ROWS ? 8 + 9 * (size_t)length : 16;
        runs += length > POSTING_BLOCK ? (length + POSTING_BLOCK - 1) / POSTING_BLOCK : 0;
        i += length;
    }
    /* a growing buffer is up to twice what is in it */
    return 2 * (dict + dict / 8 + DICT_BLOCK + runs * RUN_SIZE);
}

/* ---- posting blocks ---- */

static uint32_t bits_of(uint32_t value)
{
    return value ? 32 - (uint32_t)__builtin_clz(value) : 0;
}

static uint32_t width_of(const struct posting *postings, uint32_t count)
{
    uint32_t all = 0;
    for (uint32_t i = 1; i < count; i++)
        all |= postings[i].row - postings[i - 1].row - 1;
    return bits_of(all);
}

/* Counts of terms are at least 1: so many bits for what is more. */
static uint32_t count_width_of(const struct posting *postings, uint32_t count)
{
    uint32_t all = 0;
    for (uint32_t i = 0; i < count; i++)
        all |= (uint32_t)postings[i].weight - 1;
    return bits_of(all);
}

/* Values of some bits each, the lowest first. */
struct packer {
    struct buf *out;
    uint64_t bits;
    unsigned held;
};

static void pack(struct packer *packer, uint32_t value, uint32_t width)
{
    packer->bits |= (uint64_t)value << packer->held;
    packer->held += width;
    if (packer->held >= 32) {
        buf_u32(packer->out, (uint32_t)packer->bits);
        packer->bits >>= 32;
        packer->held -= 32;
    }
}

static void pack_end(struct packer *packer)
{
    if (packer->held)
        buf_u32(packer->out, (uint32_t)packer->bits);
    packer->held = 0;
    packer->bits = 0;
}

static uint32_t weight_bits(const struct posting *posting)
{
    uint32_t bits;
    memcpy(&bits, &posting->weight, sizeof(bits));
    return bits;
}

/* The least of weights, as the u32 that their bits are: no order of numbers where signs are mixed, but nothing is lost either. */
static uint32_t base_of(const struct posting *postings, uint32_t count, uint32_t *ret_width)
{
    uint32_t least = UINT32_MAX, most = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t bits = weight_bits(&postings[i]);
        least = bits < least ? bits : least;
        most = bits > most ? bits : most;
    }
    *ret_width = bits_of(most - least);
    return least;
}

static och_code write_block(struct sparse_writer *writer, const struct posting *postings,
                            uint32_t count, uint32_t *ret_offset, och_error *err)
{
    bool text = writer->options->text, raw = writer->options->raw;
    uint32_t width = width_of(postings, count), weight_width = 0, base = 0;
    if (text)
        weight_width = count_width_of(postings, count);
    else if (!raw)
        base = base_of(postings, count, &weight_width);
    uint32_t size = posting_size(text, raw, count, width, weight_width);
    uint64_t room = FILE_BLOCK - writer->at % FILE_BLOCK;
    if (room < size + posting_slack(raw))
        TRY(emit_zeros(writer, room, err));
    uint64_t place = (writer->at - writer->post_offset) / 4;
    if (place > UINT32_MAX)
        return FAIL(err, OCH_TOO_LARGE, "a sparse index of too many values");
    *ret_offset = (uint32_t)place;
    struct buf *block = &writer->block;
    buf_byte(block, (uint8_t)width);
    buf_byte(block, (uint8_t)(count - 1));
    buf_u16(block, (uint16_t)weight_width);
    if (!text && !raw)
        buf_u32(block, base);
    struct packer packer = {.out = block};
    for (uint32_t i = 1; i < count; i++)
        pack(&packer, postings[i].row - postings[i - 1].row - 1, width);
    pack_end(&packer);
    for (uint32_t i = 0; i < count && raw; i++)
        buf_f32(block, postings[i].weight);
    for (uint32_t i = 0; i < count && !raw; i++)
        pack(&packer, text ? (uint32_t)postings[i].weight - 1 : weight_bits(&postings[i]) - base,
             weight_width);
    pack_end(&packer);
    assert(block->failed || block->len == size);
    return emit_buf(writer, block, err);
}

static float weight_of(const struct sparse_writer *writer, const struct posting *posting)
{
    return writer->options->text
               ? terms_weight(writer->norm, posting->weight, writer->lengths[posting->row])
               : posting->weight;
}

/* What is not a number bounds nothing. */
static void write_run(struct sparse_writer *writer, const struct posting *postings, uint32_t count,
                      uint32_t offset)
{
    float max = weight_of(writer, &postings[0]), min = max;
    bool finite = true;
    for (uint32_t i = 0; i < count; i++) {
        float weight = weight_of(writer, &postings[i]);
        finite = finite && isfinite(weight);
        max = weight > max ? weight : max;
        min = weight < min ? weight : min;
    }
    buf_u32(&writer->runs, postings[0].row);
    buf_u32(&writer->runs, offset);
    buf_f32(&writer->runs, finite ? max : INFINITY);
    buf_f32(&writer->runs, finite ? min : -INFINITY);
}

/* ---- dictionary ---- */

static void dict_close(struct sparse_writer *writer)
{
    struct buf *dict = &writer->dict;
    if (!writer->dict_count || dict->failed)
        return;
    store_u16(dict->at + writer->dict_begin, (uint16_t)writer->dict_count);
    buf_zero(dict, DICT_BLOCK - (dict->len - writer->dict_begin));
    writer->dict_count = 0;
}

/* Begin an entry; the first of a block counts from nothing. */
static void dict_entry(struct sparse_writer *writer, uint32_t dim, uint32_t length)
{
    struct buf *dict = &writer->dict;
    if (writer->dict_count && dict->len - writer->dict_begin > DICT_BLOCK - ENTRY_MAX)
        dict_close(writer);
    if (!writer->dict_count) {
        writer->dict_begin = dict->len;
        writer->last_at = writer->last_run = 0;
        buf_u16(dict, 0);
        buf_u32(&writer->tops, dim);
    } else {
        buf_varint(dict, dim - writer->last_dim);
    }
    writer->last_dim = dim;
    writer->dict_count++;
    buf_varint(dict, length);
}

static och_code write_list(struct sparse_writer *writer, const struct segment *segment,
                           const struct posting *postings, uint32_t length, och_error *err)
{
    struct buf *dict = &writer->dict;
    dict_entry(writer, postings[0].dim, length);
    if (length <= INLINE_ROWS) {
        for (uint32_t i = 0; i < length; i++)
            buf_varint(dict, postings[i].row - (i ? postings[i - 1].row : segment->first_row));
        for (uint32_t i = 0; i < length && writer->options->text; i++)
            buf_varint(dict, (uint32_t)postings[i].weight);
        for (uint32_t i = 0; i < length && !writer->options->text; i++)
            buf_f32(dict, postings[i].weight);
        return OCH_OK;
    }
    if (length <= POSTING_BLOCK) {
        uint32_t offset;
        TRY(write_block(writer, postings, length, &offset, err));
        buf_varint(dict, postings[0].row - segment->first_row);
        buf_varint(dict, offset - writer->last_at);
        writer->last_at = offset;
        return OCH_OK;
    }
    uint32_t run = (uint32_t)(writer->runs.len / RUN_SIZE);
    buf_varint(dict, run - writer->last_run);
    writer->last_run = run;
    for (uint32_t i = 0; i < length; i += POSTING_BLOCK) {
        uint32_t count = length - i < POSTING_BLOCK ? length - i : POSTING_BLOCK, offset;
        TRY(write_block(writer, postings + i, count, &offset, err));
        write_run(writer, postings + i, count, offset);
    }
    return OCH_OK;
}

/* ---- the whole ---- */

och_code sparse_write_segment(struct sparse_writer *writer, const struct segment *segment,
                              const struct posting *postings, uint32_t count, och_error *err)
{
    struct segment done = *segment;
    uint32_t dims = 0;
    writer->post_offset = writer->at;
    writer->norm = terms_norm_of(segment->held, segment->terms);
    done.top_index = (uint32_t)(writer->tops.len / 4);
    for (uint32_t i = 0; i < count; dims++) {
        uint32_t length = list_length(postings + i, count - i);
        if (dims % 4096 == 0 && writer->options->limits)
            TRY(work_check(writer->options->limits, err));
        TRY(write_list(writer, segment, postings + i, length, err));
        i += length;
    }
    dict_close(writer);
    TRY(emit_zeros(writer, round_up(writer->at, RUN_SIZE) - writer->at, err));
    done.dims = dims;
    done.postings = count;
    done.post_offset = writer->post_offset;
    done.run_offset = writer->at;
    done.run_count = (uint32_t)(writer->runs.len / RUN_SIZE);
    TRY(emit_buf(writer, &writer->runs, err));
    TRY(emit_zeros(writer, round_up(writer->at, DICT_BLOCK) - writer->at, err));
    done.dict_offset = writer->at;
    done.dict_blocks = (uint32_t)(writer->dict.len / DICT_BLOCK);
    TRY(emit_buf(writer, &writer->dict, err));
    struct buf *out = &writer->segments;
    const uint32_t first[] = {done.key,  done.first_row, done.end_row,
                              done.held, done.dims,      done.dict_blocks};
    for (size_t i = 0; i < COUNT_OF(first); i++)
        buf_u32(out, first[i]);
    buf_u64(out, done.postings);
    buf_u64(out, done.post_offset);
    buf_u64(out, done.run_offset);
    buf_u64(out, done.dict_offset);
    buf_u32(out, done.top_index);
    buf_u32(out, done.run_count);
    if (writer->options->text)
        buf_u64(out, done.terms);
    writer->segment_count++;
    return OCH_OK;
}

static och_code write_lengths(struct sparse_writer *writer, uint32_t rows, uint32_t *ret_documents,
                              uint64_t *ret_terms, och_error *err)
{
    assert(writer->at % 4 == 0);
    for (uint32_t row = 0; row < rows; row++) {
        uint32_t length = writer->lengths[row];
        *ret_documents += length != TERMS_NONE;
        *ret_terms += length != TERMS_NONE ? length : 0;
        buf_u32(&writer->block, length);
        if (writer->block.len >= FILE_BLOCK)
            TRY(emit_buf(writer, &writer->block, err));
    }
    return emit_buf(writer, &writer->block, err);
}

och_code sparse_write_directory(struct sparse_writer *writer, uint32_t rows, uint32_t capacity,
                                uint32_t *ret_len, och_error *err)
{
    CLEANUP(buf_cleanup) struct buf out;
    const struct sparse_options *options = writer->options;
    uint64_t lengths_at = writer->at, terms = 0;
    uint32_t documents = 0;
    if (options->text)
        TRY(write_lengths(writer, rows, &documents, &terms, err));
    buf_init(&out, UINT32_MAX);
    buf_u32(&out, SPARSE_MAGIC);
    buf_u16(&out, options->text ? SPARSE_TEXT : options->raw ? SPARSE_RAW : SPARSE_VERSION);
    buf_u16(&out, (uint16_t)options->key_count);
    buf_u32(&out, rows);
    buf_u32(&out, capacity);
    buf_u32(&out, writer->segment_count);
    size_t keys_len_at = out.len;
    buf_u32(&out, 0);
    buf_u64(&out, options->text ? lengths_at : 0);
    if (options->text) {
        buf_u64(&out, terms);
        buf_u32(&out, documents);
        buf_u32(&out, TERMS_VERSION);
    }
    size_t keys_at = out.len;
    for (uint32_t i = 0; i < options->key_count; i++)
        buf_sized(&out, options->keys[i]);
    buf_align(&out, 8);
    if (!out.failed)
        store_u32(out.at + keys_len_at, (uint32_t)(out.len - keys_at));
    buf_append(&out, writer->segments.at, writer->segments.len);
    buf_append(&out, writer->tops.at, writer->tops.len);
    TRY(buf_check(&writer->segments, "a sparse index", err));
    TRY(buf_check(&writer->tops, "a sparse index", err));
    TRY(buf_check(&out, "a sparse index", err));
    TRY(emit(writer, out.at, out.len, err));
    *ret_len = (uint32_t)out.len;
    return OCH_OK;
}
