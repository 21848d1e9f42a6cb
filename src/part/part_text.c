/* SPDX-License-Identifier: Apache-2.0 */
/* The text index in a part: written behind the documents, its directory resident, its lists pinned one piece at a time; damage gone round. */
#include "part/part_compare.h"
#include "part/part_sink.h"

#include "index/text/text.h"
#include "model/schema.h"

#define PATTERN_BYTES (8u << 20) /* for what a pattern is made into; more, and it says nothing */
#define OPEN_MIN      16u        /* rows per segment: fewer are read at once */

/* ---- building ---- */

bool part_text_wanted(slice schema_json)
{
    struct arena arena;
    struct schema schema;
    arena_init(&arena, NULL, 0);
    // a text that cannot be read decides nothing: filters are refused, or not, by the catalogue's own
    bool wanted = schema_parse(schema_json, &arena, &schema, NULL) != OCH_OK || schema.full_text;
    arena_done(&arena);
    return wanted;
}

static och_code emit(void *context, const void *at, size_t len, och_error *err)
{
    return part_sink_append(context, at, len, err);
}

/* A power of two, so that builds with about as much room give the same bytes. */
static uint32_t capacity_of(struct budget *budget)
{
    int64_t room = budget ? budget_free(budget) / 4 / 8 : TEXT_CAPACITY_MAX;
    uint32_t capacity = TEXT_CAPACITY_MAX;
    while (capacity > TEXT_CAPACITY_MIN && capacity > room)
        capacity /= 2;
    return capacity;
}

och_code part_text_write(struct part_sink *sink, slice schema_json, const struct text_rows *rows,
                         uint64_t text_bytes, const struct limits_of_work *limits, och_error *err)
{
    uint32_t directory_len;
    if (text_bytes < TEXT_BYTES_MIN || !part_text_wanted(schema_json))
        return OCH_OK;
    struct text_options options = {.budget = sink->budget,
                                   .limits = limits,
                                   .text_bytes = text_bytes,
                                   .capacity = capacity_of(sink->budget),
                                   .emit = emit,
                                   .emit_context = sink};
    TRY(part_sink_begin(sink, SECTION_TEXT, 0, err));
    TRY(text_build(&options, rows, &directory_len, err));
    return part_sink_end(sink, directory_len, err);
}

/* ---- reading ---- */

static och_code load_index(struct part *part, struct text_index *ret, och_error *err)
{
    const struct part_section *section = &part->sections[SECTION_TEXT];
    const uint8_t *at;
    if (!section->aux || section->aux > section->size)
        return part_corrupt(part, SECTION_TEXT, 0, "its directory's size is wrong", err);
    uint64_t from = section->size - section->aux;
    TRY(part_resident(part, SECTION_TEXT, from, (size_t)section->aux, NULL, &at, err));
    if (!text_index_open(slice_make(at, (size_t)section->aux), section->size, part->info.rows, ret))
        return part_corrupt(part, SECTION_TEXT, from, "figures that do not fit together", err);
    return OCH_OK;
}

/* NULL: none, damaged, or no room for it now. */
och_code part_text_index(struct part *part, const struct text_index **ret_index, och_error *err)
{
    // pairs with the store below
    uint32_t state = atomic_load_explicit(&part->text_state, memory_order_acquire);
    *ret_index = NULL;
    if (!part_has(part, SECTION_TEXT) || part_damage(part) & PART_BIT(SECTION_TEXT))
        return OCH_OK;
    if (state != INDEX_READY) {
        struct text_index index;
        och_error failure = {0};
        och_code code = load_index(part, &index, &failure);
        if (code == OCH_BUSY)
            return OCH_OK;
        if (code != OCH_OK && part_is_damage(code, &failure)) {
            part_note_damage(part, SECTION_TEXT, &failure);
            return OCH_OK;
        }
        if (code != OCH_OK) {
            if (err)
                *err = failure;
            return code;
        }
        mutex_lock(&part->mutex);
        if (atomic_load_explicit(&part->text_state, memory_order_relaxed) != INDEX_READY)
            part->text = index;
        atomic_store_explicit(&part->text_state, INDEX_READY, memory_order_release);
        mutex_unlock(&part->mutex);
    }
    *ret_index = &part->text;
    return OCH_OK;
}

struct pages_state {
    struct part *part;
    struct part_piece piece; /* pinned, the last one asked for */
};

static och_code page_at(void *context, uint64_t offset, const uint8_t **ret_at, size_t *ret_len,
                        och_error *err)
{
    struct pages_state *state = context;
    struct part *part = state->part;
    const struct part_piece *piece = &state->piece;
    if (!piece->extent || offset - piece->from >= piece->extent->len) {
        struct part_piece next;
        if (offset >= part->sections[SECTION_TEXT].size)
            return part_corrupt(part, SECTION_TEXT, offset, "a place outside it", err);
        TRY(part_pin(part, SECTION_TEXT, 1, offset, &next, err));
        cache_unpin(part->env.cache, state->piece.extent);
        state->piece = next;
    }
    *ret_at = piece->extent->at + (offset - piece->from);
    *ret_len = piece->extent->len - (size_t)(offset - piece->from);
    return OCH_OK;
}

/* A document, for strings that few rows lack. */
struct documents_state {
    struct part *part;
    struct part_reads reads;
};

static och_code document_at(void *context, uint32_t row, slice *ret, och_error *err)
{
    struct documents_state *state = context;
    struct record record;
    TRY(part_read(state->part, &state->reads, row, RECORD_DOCUMENT, &record, err));
    *ret = record.document;
    return OCH_OK;
}

/* Bits as the caller wants them, out of the search's arena. */
static och_code make_rows(const struct part *part, const uint64_t *words, uint32_t count,
                          struct arena *arena, struct rows *ret, och_error *err)
{
    uint32_t part_rows = part->info.rows;
    size_t word_count = bitset_words(part_rows);
    if (count == 0 || count == part_rows) {
        *ret = count ? rows_all(part_rows) : rows_none();
        return OCH_OK;
    }
    if (count > part_rows / 64) {
        uint64_t *copy = arena_alloc(arena, word_count * 8);
        if (!copy)
            return FAIL_NO_MEMORY(err, "rows of a filter");
        memcpy(copy, words, word_count * 8);
        *ret = (struct rows){.kind = ROWS_BITS, .count = count, .words = copy};
        return OCH_OK;
    }
    uint32_t *list = arena_alloc(arena, count * sizeof(uint32_t)), n = 0;
    if (!list)
        return FAIL_NO_MEMORY(err, "rows of a filter");
    for (size_t w = 0; w < word_count; w++) {
        for (uint64_t left = words[w]; left; left &= left - 1)
            list[n++] = (uint32_t)(w * 64) + (uint32_t)__builtin_ctzll(left);
    }
    *ret = (struct rows){.kind = ROWS_LIST, .count = count, .list = list};
    return OCH_OK;
}

static och_code search(struct part *part, const struct text_index *index,
                       const struct text_query *query, const struct limits_of_work *limits,
                       struct arena *arena, struct rows_answer *ret, och_error *err)
{
    struct pages_state state = {.part = part};
    struct text_pages pages = {&state, page_at};
    struct documents_state documents = {.part = part};
    struct text_rows rows = {&documents, part->info.rows, document_at};
    struct arena work;
    uint64_t *words, offset = 0;
    uint32_t count;
    och_error failure = {0};
    arena_init(&work, arena->budget, 0);
    part_reads_init(&documents.reads, part->env.cache, &work);
    och_code code =
        text_search(index, &pages, query, &rows, limits, &work, &words, &count, &offset, &failure);
    part_reads_done(&documents.reads);
    cache_unpin(part->env.cache, state.piece.extent);
    if (code == OCH_OK) {
        // sound candidates that are none, or certain, need no look at the texts
        ret->exact = query->exact || !count;
        code = make_rows(part, words, count, arena, &ret->maybe, err);
    } else if (part_is_damage(code, &failure)) {
        part_note_damage(part, SECTION_TEXT, &failure);
        code = OCH_OK;
    } else if (code == OCH_BUSY) { // looking at the texts needs less at a time
        code = OCH_OK;
    } else if (err) {
        *err = failure;
    }
    arena_done(&work);
    return code;
}

och_code part_text_rows(struct part *part, const struct filter_node *leaf, uint32_t open,
                        const struct limits_of_work *limits, struct arena *arena,
                        struct rows_answer *ret, och_error *err)
{
    const struct text_index *index;
    struct text_query query;
    struct arena made;
    och_code code = OCH_OK;
    *ret = rows_unknown(part->info.rows);
    TRY(part_text_index(part, &index, err));
    if (!index || open / OPEN_MIN < index->segments || leaf->value_count != 1)
        return OCH_OK;
    slice text = leaf->values[0].string;
    arena_init(&made, arena->budget, PATTERN_BYTES);
    if (leaf->op <= FILTER_DOC_NOT_CONTAINS || leaf->op == FILTER_DOC_PREFIX)
        code = text_query_contains(text, &made, &query, err);
    else if ((code = filter_pattern(leaf, &made, &text, err)) == OCH_OK)
        text_query_regex(text, &made, &query);
    if (leaf->op == FILTER_DOC_PREFIX && text.len) /* those that hold it anywhere */
        query.exact = false;
    if (code == OCH_OK)
        code = search(part, index, &query, limits, arena, ret, err);
    arena_done(&made);
    return code;
}

/* ---- checking ---- */

och_code part_text_check(struct part *part, const char **ret_fault, uint64_t *ret_offset,
                         och_error *err)
{
    const struct text_index *index;
    struct part_comparison c;
    uint32_t directory_len;
    *ret_fault = NULL;
    *ret_offset = 0;
    TRY(part_text_index(part, &index, err));
    if (!index || index->capacity > TEXT_CAPACITY_MAX)
        return OCH_OK;
    part_comparison_init(&c, part, SECTION_TEXT, RECORD_DOCUMENT);
    struct text_options options = {.text_bytes = index->text_bytes,
                                   .capacity = index->capacity,
                                   .emit = part_comparison_emit,
                                   .emit_context = &c};
    struct text_rows rows = {&c, part->info.rows, part_comparison_row};
    och_code code = text_build(&options, &rows, &directory_len, err);
    part_comparison_done(&c, "it is not the index of the documents", ret_fault, ret_offset);
    return code;
}
