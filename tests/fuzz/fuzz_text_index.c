/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as section TEXT: the first two choose rows and the directory's length, the third a needle.  The property: no crash, no leak, no read
 * outside, and only rows that exist.  When the low bit of the fourth is set the bytes are documents instead (zero bytes part them): then the index
 * built over them must find every document that holds the needle. */
#include "base/buf.h"
#include "base/bytes.h"
#include "index/text/text.h"
#include "kernel/kernel.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define DOCUMENTS_MAX 300u

struct input {
    slice section;
    uint8_t *piece; /* handed out, by itself so that the sanitizer sees its ends */
    slice documents[DOCUMENTS_MAX];
    uint32_t count;
    struct buf built;
};

static och_code piece_at(void *context, uint64_t offset, const uint8_t **ret_at, size_t *ret_len,
                         och_error *err)
{
    struct input *input = context;
    if (offset >= input->section.len)
        return FAIL(err, OCH_CORRUPT, "a place outside");
    size_t from = (size_t)offset / 64 * 64, len = min_size(64, input->section.len - from);
    free(input->piece);
    input->piece = malloc(len);
    if (!input->piece)
        return FAIL_NO_MEMORY(err, "a piece");
    memcpy(input->piece, input->section.at + from, len);
    *ret_at = input->piece + (offset - from);
    *ret_len = len - (size_t)(offset - from);
    return OCH_OK;
}

static och_code row(void *context, uint32_t i, slice *ret, och_error *err)
{
    (void)err;
    *ret = ((struct input *)context)->documents[i];
    return OCH_OK;
}

static och_code emit(void *context, const void *at, size_t len, och_error *err)
{
    struct input *input = context;
    buf_append(&input->built, at, len);
    return buf_check(&input->built, "a section", err);
}

static void search(struct input *input, uint32_t rows, uint32_t directory_len, slice needle,
                   bool sound)
{
    struct text_index index;
    struct text_query query;
    struct text_pages pages = {input, piece_at};
    struct arena arena;
    uint64_t *words, offset;
    uint32_t count;
    slice directory =
        slice_make(input->section.at + input->section.len - directory_len, directory_len);
    if (!text_index_open(directory, input->section.len, rows, &index)) {
        if (sound)
            abort();
        return;
    }
    arena_init(&arena, NULL, 64 << 20);
    if (text_query_contains(needle, &arena, &query, NULL) == OCH_OK &&
        text_search(&index, &pages, &query, NULL, NULL, &arena, &words, &count, &offset, NULL) ==
            OCH_OK) {
        uint32_t found = 0;
        for (uint32_t i = 0; i < bitset_words(rows) * 64; i++) {
            bool has = words[i / 64] >> i % 64 & 1;
            found += has;
            if (has && i >= rows)
                abort();
            if (!sound || i >= rows)
                continue;
            slice document = input->documents[i];
            bool truth = document.at && kernel_get()->find(document.at, document.len, needle.at,
                                                           needle.len) != SIZE_MAX;
            if (truth ? !has : has && query.exact)
                abort();
        }
        if (sound && found != count)
            abort();
    } else if (sound) {
        abort();
    }
    arena_done(&arena);
}

/* Documents out of the bytes; every fifth row has none. */
static void build(struct input *input, slice bytes, uint32_t capacity, slice needle)
{
    uint32_t directory_len;
    uint64_t text_bytes = 0;
    for (size_t at = 0; at < bytes.len && input->count < DOCUMENTS_MAX;) {
        const uint8_t *zero = memchr(bytes.at + at, 0, bytes.len - at);
        size_t len = zero ? (size_t)(zero - bytes.at) - at : bytes.len - at;
        if (input->count % 5 != 4)
            input->documents[input->count] = slice_make(bytes.at + at, len);
        text_bytes += input->documents[input->count++].len;
        at += len + 1;
    }
    struct text_options options = {
        .text_bytes = text_bytes, .capacity = capacity, .emit = emit, .emit_context = input};
    struct text_rows rows = {input, input->count, row};
    if (text_build(&options, &rows, &directory_len, NULL) != OCH_OK)
        abort();
    input->section = buf_view(&input->built);
    search(input, input->count, directory_len, needle, true);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 16 || size > 1 << 17)
        return 0;
    uint64_t live = mem_count_live();
    struct input *input = calloc(1, sizeof(*input));
    if (!input)
        return 0;
    buf_init(&input->built, BUF_MAX_NONE);
    uint32_t rows = load_u16(data), directory_len = load_u16(data + 2);
    slice needle = slice_make(data + 5, data[4] % 12), rest = slice_make(data + 16, size - 16);
    input->section = rest;
    if (data[3] & 1)
        build(input, rest, 1 + rows, needle);
    else if (directory_len <= rest.len)
        search(input, rows, directory_len, needle, false);
    buf_done(&input->built);
    free(input->piece);
    free(input);
    if (mem_count_live() != live)
        abort();
    return 0;
}
