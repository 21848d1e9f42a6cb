/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as section SPRS or TERM, and sections built of any rows or texts with some bytes changed.  The property: no crash, no leak, no read outside, only rows that
 * exist; and of an unchanged section the same answers by every plan.
 *
 * Bytes: u8 mode (bit 0: build, bit 1: change, bit 2: of text), u16 rows, u16 directory length, u8 query dimensions, u8 k, u8 capacity; then the section, or
 * 4 bytes a value (row step, dimension, weight, place to change); of text the documents, each ended by a zero, the rest is cut as it comes. */
#include "base/buf.h"
#include "base/topk.h"
#include "index/sparse/sparse.h"
#include "model/meta.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HEADER 8u

struct input {
    slice values, section;
    uint32_t rows, at, row; /* of the build: values taken, row they belong to */
    bool text;
    uint8_t *pieces[SPARSE_SLOTS];
    struct buf built, metadata;
    struct topk top;
};

static och_code piece_at(void *context, uint32_t slot, uint64_t offset, const uint8_t **ret_at,
                         size_t *ret_len, och_error *err)
{
    struct input *input = context;
    if (offset >= input->section.len)
        return FAIL(err, OCH_CORRUPT, "a place outside");
    size_t from = (size_t)offset / 65536 * 65536, len = min_size(65536, input->section.len - from);
    free(input->pieces[slot]);
    input->pieces[slot] = malloc(len);
    if (!input->pieces[slot])
        return FAIL_NO_MEMORY(err, "a piece");
    memcpy(input->pieces[slot], input->section.at + from, len);
    *ret_at = input->pieces[slot] + (offset - from);
    *ret_len = len - (size_t)(offset - from);
    return OCH_OK;
}

static och_code emit(void *context, const void *at, size_t len, och_error *err)
{
    struct input *input = context;
    buf_append(&input->built, at, len);
    return buf_check(&input->built, "a section", err);
}

/* Values in order: each goes on in the row, or `step` rows farther. */
static och_code metadata_of(void *context, uint32_t row, slice *ret, och_error *err)
{
    struct input *input = context;
    CLEANUP(buf_cleanup) struct buf dims, weights;
    buf_init(&dims, BUF_MAX_NONE);
    buf_init(&weights, BUF_MAX_NONE);
    if (!row)
        input->at = input->row = 0;
    uint32_t count = 0, dim = 0;
    while ((size_t)input->at + 4 <= input->values.len) {
        const uint8_t *value = input->values.at + input->at;
        if (value[0] >= 8 && input->row + value[0] / 8u > row)
            break;
        input->row = row;
        dim += 1 + value[1];
        buf_u32(&dims, dim);
        buf_f32(&weights, (float)(value[2] - 100) / 16);
        count++;
        input->at += 4;
    }
    buf_clear(&input->metadata);
    buf_varint(&input->metadata, 1);
    buf_sized(&input->metadata, SLICE("v"));
    buf_byte(&input->metadata, META_SPARSE);
    CLEANUP(buf_cleanup) struct buf value;
    buf_init(&value, BUF_MAX_NONE);
    buf_varint(&value, count);
    buf_append(&value, dims.at, dims.len);
    buf_append(&value, weights.at, weights.len);
    buf_byte(&value, 0);
    buf_sized(&input->metadata, buf_view(&value));
    *ret = buf_view(&input->metadata);
    return buf_check(&input->metadata, "a row", err);
}

/* Documents behind each other; rows beyond have one in four times an empty one. */
static och_code document_of(void *context, uint32_t row, slice *ret, och_error *err)
{
    struct input *input = context;
    (void)err;
    if (!row)
        input->at = 0;
    *ret = (slice){0};
    if (input->at >= input->values.len) {
        if (row % 4 == 0)
            *ret = SLICE("");
        return OCH_OK;
    }
    const uint8_t *begin = input->values.at + input->at;
    size_t left = input->values.len - input->at;
    const uint8_t *end = memchr(begin, 0, left);
    size_t len = end ? (size_t)(end - begin) : left;
    input->at += (uint32_t)len + 1;
    *ret = slice_make(begin, len);
    return OCH_OK;
}

static float bound(void *context)
{
    return topk_bound(&((struct input *)context)->top);
}
static och_code verify(void *context, uint32_t row, bool *ret, och_error *err)
{
    (void)context;
    (void)err;
    *ret = row % 7 != 0;
    return OCH_OK;
}
static och_code offer(void *context, uint32_t row, float score, och_error *err)
{
    struct input *input = context;
    (void)err;
    if (row >= input->rows)
        abort();
    topk_push(&input->top, (struct topk_item){.distance = score, .row = row, .seq = row});
    return OCH_OK;
}

static bool search(struct input *input, uint32_t directory_len, const struct sparse_terms *terms,
                   size_t k, enum sparse_plan plan, struct arena *arena)
{
    struct sparse_index index;
    struct sparse_pages pages = {input, piece_at};
    struct sparse_hits hits = {input, bound, verify, offer};
    uint64_t offset, holders[64] = {0};
    slice directory =
        slice_make(input->section.at + input->section.len - directory_len, directory_len);
    if (!sparse_index_open(directory, input->section.len, input->rows, &index) ||
        topk_init(&input->top, k, arena, NULL) != OCH_OK)
        return false;
    uint64_t *words = ARENA_ARRAY(arena, uint64_t, input->rows / 64 + 2 + SPARSE_WINDOW / 64);
    if (!words)
        return false;
    uint64_t allowed = 0;
    for (uint32_t row = 0; row < input->rows; row++) {
        words[row / 64] |= (uint64_t)(row % 5 != 0) << row % 64;
        allowed += row % 5 != 0;
    }
    struct sparse_search search = {.index = &index,
                                   .pages = &pages,
                                   .key = sparse_index_key(&index, 0),
                                   .terms = *terms,
                                   .norm = terms_norm_of(1 + k, 7 * k),
                                   .k = k,
                                   .allowed = k % 2 ? words : NULL,
                                   .allowed_count = allowed,
                                   .none_sure = k % 3 == 0,
                                   .hits = &hits,
                                   .plan = plan};
    bool fine = sparse_search(&search, arena, &offset, NULL) == OCH_OK;
    fine = sparse_count(&index, &pages, search.key, terms, words, NULL, arena, holders, &offset,
                        NULL) == OCH_OK &&
           fine;
    uint64_t documents, all;
    if (index.text)
        fine = sparse_totals(&index, &pages, words, &documents, &all, NULL) == OCH_OK && fine;
    topk_sort(&input->top);
    return fine;
}

static int by_term(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Words that are there, ascending, each once. */
static uint32_t text_terms(slice text, uint32_t *dims, uint32_t most)
{
    uint32_t count = 0, n = 0;
    for (struct terms walk = terms_of(text); count < most && terms_next(&walk, &dims[count]);)
        count++;
    qsort(dims, count, sizeof(*dims), by_term);
    for (uint32_t i = 0; i < count; i++)
        if (!n || dims[n - 1] != dims[i])
            dims[n++] = dims[i];
    return n;
}

static void run(struct input *input, uint32_t directory_len, const uint8_t *data, bool sound)
{
    uint32_t dims[64];
    float weights[64];
    struct arena arena;
    struct topk first = {0};
    struct sparse_terms terms = {dims, weights, 1 + data[5] % 40};
    for (uint32_t i = 0; i < terms.count; i++) {
        dims[i] = 1 + i * (1 + data[6] / 16u);
        weights[i] = (float)((int)(i * 37 % 11) - 3) / 3;
    }
    if (input->text)
        terms.count = text_terms(input->values, dims, terms.count);
    arena_init(&arena, NULL, 64 << 20);
    for (int plan = SPARSE_AUTO; plan <= SPARSE_EXACT; plan++) {
        bool fine =
            search(input, directory_len, &terms, 1 + data[6] % 16u, (enum sparse_plan)plan, &arena);
        if (!sound)
            continue;
        if (!fine || (plan && first.len != input->top.len))
            abort();
        for (size_t i = 0; plan && i < first.len; i++) {
            if (first.items[i].row != input->top.items[i].row ||
                memcmp(&first.items[i].distance, &input->top.items[i].distance, 4) != 0)
                abort();
        }
        if (!plan)
            first = input->top;
    }
    arena_done(&arena);
}

static uint32_t build(struct input *input, const uint8_t *data)
{
    static const slice keys[] = {{(const uint8_t *)"v", 1}};
    struct sparse_options options = {.text = input->text,
                                     .keys = keys,
                                     .key_count = 1,
                                     .capacity = 1u << data[7] % 24,
                                     .emit = emit,
                                     .emit_context = input};
    struct sparse_rows rows = {input, input->rows, input->text ? document_of : metadata_of};
    uint32_t directory_len;
    if (sparse_build(&options, &rows, &directory_len, NULL) != OCH_OK)
        abort();
    if (data[0] & 2) {
        for (size_t i = 3; i < input->values.len && i < 64; i += 4) {
            size_t place = (size_t)input->values.at[i] * 131 % input->built.len;
            if (i % 8 == 3) /* near the end, where the directory is */
                place = input->built.len - 1 - input->values.at[i] % directory_len;
            input->built.at[place] ^= (uint8_t)(input->values.at[i - 1] | 1);
        }
    }
    input->section = buf_view(&input->built);
    return directory_len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < HEADER || size > 1 << 17)
        return 0;
    uint64_t live = mem_count_live();
    struct input *input = calloc(1, sizeof(*input));
    if (!input)
        return 0;
    buf_init(&input->built, BUF_MAX_NONE);
    buf_init(&input->metadata, BUF_MAX_NONE);
    slice rest = slice_make(data + HEADER, size - HEADER);
    uint32_t directory_len = load_u16(data + 3);
    input->rows = load_u16(data + 1);
    input->values = input->section = rest;
    input->text = data[0] & 4;
    if (data[0] & 1)
        directory_len = build(input, data);
    if (directory_len <= input->section.len)
        run(input, directory_len, data, (data[0] & 3) == 1);
    buf_done(&input->built);
    buf_done(&input->metadata);
    for (uint32_t i = 0; i < SPARSE_SLOTS; i++)
        free(input->pieces[i]);
    free(input);
    if (mem_count_live() != live)
        abort();
    return 0;
}
