/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a metadata index: u32 rows, u32 length of the directory, then the section.  Filters over it give answers or OCH_CORRUPT, never a crash
 * and never a row that is not there. */
#include "base/bytes.h"
#include "index/meta/meta_index.h"
#include "model/meta.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct section {
    const uint8_t *at;
    size_t len;
    uint8_t *copies[256]; /* what was handed out, in memory of its own size */
    size_t count;
};

static och_code at(void *context, uint64_t offset, size_t len, const uint8_t **ret_at,
                   och_error *err)
{
    struct section *s = context;
    if (offset > s->len || len > s->len - offset)
        abort(); /* places are checked before they are asked for */
    if (s->count == COUNT_OF(s->copies))
        return FAIL(err, OCH_BUSY, "too many pages");
    uint8_t *copy = malloc(len ? len : 1);
    if (!copy)
        return FAIL_NO_MEMORY(err, "a page");
    memcpy(copy, s->at + offset, len);
    s->copies[s->count++] = copy;
    *ret_at = copy;
    return OCH_OK;
}

static void release(void *context)
{
    struct section *s = context;
    while (s->count)
        free(s->copies[--s->count]);
}

static void ask(const struct meta_index *index, struct section *s, const struct filter_node *node,
                enum meta_force force)
{
    struct meta_pages pages = {s, at, release};
    struct meta_search_options options = {
        .index = index, .pages = &pages, .rows = index->rows, .force = force};
    CLEANUP(filter_cleanup) struct filter *compiled = NULL;
    if (filter_compile(node, &compiled, NULL) != OCH_OK)
        return;
    options.compiled = compiled;
    struct meta_search search;
    struct arena arena;
    uint64_t sure[META_CHUNK_WORDS], maybe[META_CHUNK_WORDS];
    arena_init(&arena, NULL, 64 << 20);
    och_code code = meta_search_init(&search, &options, node, &arena, NULL);
    for (uint32_t chunk = 0; code == OCH_OK && chunk < index->chunks && chunk < 4; chunk++) {
        uint32_t left = index->rows - chunk * META_CHUNK;
        code = meta_search_chunk(&search, chunk, sure, maybe, NULL);
        if (code == OCH_OK && left < META_CHUNK && left % 64 && sure[left / 64] >> left % 64)
            abort(); /* a row that is not there */
    }
    release(s);
    arena_done(&arena);
}

static och_code counted(void *context, uint8_t type, slice value, uint64_t count, och_error *err)
{
    const struct meta_index *index = context;
    (void)err;
    if (type < META_BOOL || type > META_STRING || !count || !index->rows)
        abort();
    if (type != META_STRING && value.len != (type == META_BOOL ? 1 : 8))
        abort();
    return OCH_OK;
}

/* Rows by value, of all rows and of every third one. */
static void count(struct meta_index *index, struct section *s, slice key)
{
    struct meta_pages pages = {s, at, release};
    for (int masked = 0; masked < 2; masked++) {
        struct arena arena;
        bool known, damaged;
        arena_init(&arena, NULL, 64 << 20);
        uint64_t *mask = ARENA_ARRAY(&arena, uint64_t, (size_t)index->chunks * META_CHUNK_WORDS);
        for (uint32_t row = 0; mask && row < index->rows; row += 3)
            mask[row / 64] |= 1ull << row % 64;
        struct meta_count_options options = {.index = index,
                                             .pages = &pages,
                                             .rows = index->rows,
                                             .key = key,
                                             .mask = masked ? mask : NULL,
                                             .arena = &arena,
                                             .counted = counted,
                                             .context = index};
        och_code code = meta_count_values(&options, &known, &damaged, NULL);
        if (code == OCH_OK && damaged)
            abort();
        release(s);
        arena_done(&arena);
    }
}

static och_code begin_column(void *context, och_error *err)
{
    (void)context, (void)err;
    return OCH_OK;
}

static och_code give_rows(void *context, const uint32_t *rows, uint32_t count, bool *ret_enough,
                          och_error *err)
{
    const struct meta_index *index = context;
    (void)err;
    for (uint32_t i = 0; i < count; i++) {
        if (rows[i] >= index->rows)
            abort();
    }
    *ret_enough = count % 3 == 0;
    return OCH_OK;
}

static void walk(struct meta_index *index, struct section *s, slice key, bool descending)
{
    struct meta_pages pages = {s, at, release};
    struct filter_value from = {.kind = FILTER_INT, .integer = 7};
    bool known, damaged;
    struct meta_order_options options = {.index = index,
                                         .pages = &pages,
                                         .rows = index->rows,
                                         .key = key,
                                         .descending = descending,
                                         .rows_in_order = true,
                                         .from = key.len && key.at[0] == 'n' ? &from : NULL,
                                         .column = begin_column,
                                         .give = give_rows,
                                         .context = index};
    och_code code = meta_walk_order(&options, &known, &damaged, NULL);
    if (code == OCH_OK && damaged)
        abort();
    release(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const keys[] = {"a", "k", "n", "u"};
    static const uint8_t ops[] = {FILTER_EQ, FILTER_NE,          FILTER_GT,       FILTER_GTE,
                                  FILTER_LT, FILTER_LTE,         FILTER_CONTAINS, FILTER_EXISTS,
                                  FILTER_IN, FILTER_META_PREFIX, FILTER_META_LIKE};
    struct filter_value values[] = {{.kind = FILTER_BOOL, .boolean = true},
                                    {.kind = FILTER_INT, .integer = 400},
                                    {.kind = FILTER_FLOAT, .number = 1.5},
                                    {.kind = FILTER_STRING, .string = SLICE("user-20")}};
    struct meta_index index;
    if (size < 8 || size > 1 << 20)
        return 0;
    struct section s = {.at = data + 8, .len = size - 8};
    uint32_t rows = load_u32(data), dir_len = load_u32(data + 4);
    uint64_t live = mem_count_live();
    if (dir_len > s.len || rows > 4 * META_CHUNK ||
        !meta_index_open(slice_make(s.at + s.len - dir_len, dir_len), s.len, rows, &index))
        return 0;
    for (size_t i = 0; i < COUNT_OF(keys) * COUNT_OF(ops) * COUNT_OF(values); i++) {
        uint8_t op = ops[i / COUNT_OF(keys) % COUNT_OF(ops)];
        size_t which = op == FILTER_EXISTS ? 0 : i / COUNT_OF(keys) / COUNT_OF(ops);
        if (op >= FILTER_META_PREFIX)
            which = 3;
        bool order = op >= FILTER_GT && op <= FILTER_LTE;
        struct filter_node leaf = {.op = op,
                                   .key = slice_of(keys[i % COUNT_OF(keys)]),
                                   .values = &values[order && which != 2 ? 1 : which],
                                   .value_count = 1};
        ask(&index, &s, &leaf, (enum meta_force)(i % 3));
    }
    for (size_t i = 0; i < COUNT_OF(keys); i++)
        count(&index, &s, slice_of(keys[i]));
    for (size_t i = 0; i < 2 * COUNT_OF(keys); i++)
        walk(&index, &s, slice_of(keys[i / 2]), i % 2);
    if (mem_count_live() != live)
        abort();
    return 0;
}
