/* SPDX-License-Identifier: Apache-2.0 */
/* The sparse index in a part, and that of documents' terms: written behind VALUES and TEXT, its directory resident, its blocks pinned while a query reads them;
 * damage gone round. */
#include "part/part_sparse.h"

#include "part/part_compare.h"
#include "part/part_sink.h"

#include "model/schema.h"

/* ---- building ---- */

static och_code emit(void *context, const void *at, size_t len, och_error *err)
{
    return part_sink_append(context, at, len, err);
}

/* A power of two, so that builds with about as much room give the same bytes. */
static uint32_t capacity_of(struct budget *budget)
{
    int64_t room = budget ? budget_free(budget) / 4 / 24 : SPARSE_CAPACITY_MAX;
    uint32_t capacity = SPARSE_CAPACITY_MAX;
    while (capacity > SPARSE_CAPACITY_MIN && capacity > room)
        capacity /= 2;
    return capacity;
}

static och_code write_section(struct part_sink *sink, unsigned id, const slice *keys,
                              size_t key_count, const struct sparse_rows *rows,
                              const struct limits_of_work *limits, och_error *err)
{
    uint32_t directory_len;
    struct sparse_options options = {.budget = sink->budget,
                                     .limits = limits,
                                     .text = id == SECTION_TERM,
                                     .keys = keys,
                                     .key_count = (uint32_t)key_count,
                                     .capacity = capacity_of(sink->budget),
                                     .emit = emit,
                                     .emit_context = sink};
    if (!key_count || key_count > UINT16_MAX)
        return OCH_OK;
    TRY(part_sink_begin(sink, id, 0, err));
    TRY(sparse_build(&options, rows, &directory_len, err));
    return part_sink_end(sink, directory_len, err);
}

och_code part_sparse_write(struct part_sink *sink, slice schema_json,
                           const struct sparse_rows *rows, const struct limits_of_work *limits,
                           och_error *err)
{
    struct arena arena;
    struct schema schema;
    slice *keys;
    size_t count;
    arena_init(&arena, NULL, 0);
    och_code code = OCH_OK;
    // of a text that cannot be read nothing is known; queries will ask the rows
    if (schema_parse(schema_json, &arena, &schema, NULL) == OCH_OK) {
        code = schema_sparse_keys(&schema, &arena, &keys, &count, err);
        if (code == OCH_OK)
            code = write_section(sink, SECTION_SPRS, keys, count, rows, limits, err);
    }
    arena_done(&arena);
    return code;
}

och_code part_terms_write(struct part_sink *sink, slice schema_json, const struct sparse_rows *rows,
                          uint64_t text_bytes, const struct limits_of_work *limits, och_error *err)
{
    const slice key = PART_TERMS_KEY;
    if (text_bytes < TERMS_BYTES_MIN || !part_text_wanted(schema_json))
        return OCH_OK;
    return write_section(sink, SECTION_TERM, &key, 1, rows, limits, err);
}

/* ---- reading ---- */

static och_code load_index(struct part *part, unsigned id, struct sparse_index *ret, och_error *err)
{
    const struct part_section *section = &part->sections[id];
    const uint8_t *at;
    if (!section->aux || section->aux > section->size || section->aux > UINT32_MAX)
        return part_corrupt(part, id, 0, "its directory's size is wrong", err);
    uint64_t from = section->size - section->aux;
    TRY(part_resident(part, id, from, (size_t)section->aux, NULL, &at, err));
    if (!sparse_index_open(slice_make(at, (size_t)section->aux), section->size, part->info.rows,
                           ret) ||
        ret->text != (id == SECTION_TERM))
        return part_corrupt(part, id, from, "figures that do not fit together", err);
    return OCH_OK;
}

/* What a failure comes to: OCH_OK, go round the index. */
static och_code go_round(struct part *part, unsigned id, och_code code, const och_error *failure,
                         och_error *err)
{
    if (code == OCH_BUSY)
        return OCH_OK;
    if (part_is_damage(code, failure)) {
        part_note_damage(part, id, failure);
        return OCH_OK;
    }
    if (err)
        *err = *failure;
    return code;
}

/* NULL: none, damaged, or no room for it now. */
static och_code index_of(struct part *part, unsigned id, const struct sparse_index **ret_index,
                         och_error *err)
{
    struct part_postings *postings = id == SECTION_TERM ? &part->terms : &part->sparse;
    // pairs with the store below
    uint32_t state = atomic_load_explicit(&postings->state, memory_order_acquire);
    *ret_index = NULL;
    if (!part_has(part, id) || part_damage(part) & PART_BIT(id))
        return OCH_OK;
    if (state != INDEX_READY) {
        struct sparse_index index;
        och_error failure = {0};
        och_code code = load_index(part, id, &index, &failure);
        if (code != OCH_OK)
            return go_round(part, id, code, &failure, err);
        mutex_lock(&part->mutex);
        if (atomic_load_explicit(&postings->state, memory_order_relaxed) != INDEX_READY)
            postings->index = index;
        atomic_store_explicit(&postings->state, INDEX_READY, memory_order_release);
        mutex_unlock(&part->mutex);
    }
    *ret_index = &postings->index;
    return OCH_OK;
}

struct pages_state {
    struct part *part;
    unsigned id;
    struct part_piece pieces[SPARSE_SLOTS]; /* pinned, the last asked for of each slot */
};

static och_code page_at(void *context, uint32_t slot, uint64_t offset, const uint8_t **ret_at,
                        size_t *ret_len, och_error *err)
{
    struct pages_state *state = context;
    struct part *part = state->part;
    struct part_piece *piece = &state->pieces[slot];
    assert(slot < SPARSE_SLOTS);
    if (!piece->extent || offset < piece->from || offset - piece->from >= piece->extent->len) {
        struct part_piece next;
        if (offset >= part->sections[state->id].size)
            return part_corrupt(part, state->id, offset, "a place outside it", err);
        TRY(part_pin(part, state->id, 1, offset, &next, err));
        cache_unpin(part->env.cache, piece->extent);
        *piece = next;
    }
    *ret_at = piece->extent->at + (offset - piece->from);
    *ret_len = piece->extent->len - (size_t)(offset - piece->from);
    return OCH_OK;
}

static void pages_done(struct pages_state *state)
{
    for (uint32_t i = 0; i < SPARSE_SLOTS; i++)
        cache_unpin(state->part->env.cache, state->pieces[i].extent);
}

och_code part_sparse_search(struct part *part, bool text, struct sparse_search *search,
                            struct arena *arena, bool *ret_usable, och_error *err)
{
    struct pages_state state = {.part = part, .id = text ? SECTION_TERM : SECTION_SPRS};
    struct sparse_pages pages = {&state, page_at};
    struct arena work;
    uint64_t offset = 0;
    och_error failure = {0};
    *ret_usable = false;
    TRY(index_of(part, state.id, &search->index, err));
    if (!search->index || !sparse_index_has(search->index, search->key))
        return OCH_OK;
    search->pages = &pages;
    arena_init(&work, arena->budget, 0);
    och_code code = sparse_search(search, &work, &offset, &failure);
    pages_done(&state);
    arena_done(&work);
    search->pages = NULL;
    *ret_usable = code == OCH_OK;
    return code == OCH_OK ? OCH_OK : go_round(part, state.id, code, &failure, err);
}

och_code part_sparse_count(struct part *part, slice key, const struct sparse_terms *terms,
                           const uint64_t *dead, const struct limits_of_work *limits,
                           struct arena *arena, uint64_t *holders, struct part_totals_text *totals,
                           bool *ret_usable, och_error *err)
{
    const struct sparse_index *index;
    struct pages_state state = {.part = part, .id = totals ? SECTION_TERM : SECTION_SPRS};
    struct sparse_pages pages = {&state, page_at};
    struct arena work;
    uint64_t offset = 0, documents = 0, all = 0;
    och_error failure = {0};
    *ret_usable = false;
    TRY(index_of(part, state.id, &index, err));
    if (!index || !sparse_index_has(index, key))
        return OCH_OK;
    arena_init(&work, arena->budget, 0);
    uint64_t *counts = ARENA_ARRAY(&work, uint64_t, (size_t)terms->count + 1);
    och_code code = counts ? sparse_count(index, &pages, key, terms, dead, limits, &work, counts,
                                          &offset, &failure)
                           : FAIL_NO_MEMORY(&failure, "a sparse query");
    if (code == OCH_OK && totals)
        code = sparse_totals(index, &pages, dead, &documents, &all, &failure);
    pages_done(&state);
    for (uint32_t i = 0; code == OCH_OK && i < terms->count; i++)
        holders[i] += counts[i];
    if (code == OCH_OK && totals) {
        totals->documents += documents;
        totals->terms += all;
    }
    arena_done(&work);
    *ret_usable = code == OCH_OK;
    return code == OCH_OK ? OCH_OK : go_round(part, state.id, code, &failure, err);
}

/* ---- checking ---- */

och_code part_sparse_check(struct part *part, unsigned id, const char **ret_fault,
                           uint64_t *ret_offset, och_error *err)
{
    const struct sparse_index *index;
    struct part_comparison c;
    bool text = id == SECTION_TERM;
    uint32_t directory_len;
    *ret_fault = NULL;
    *ret_offset = 0;
    TRY(index_of(part, id, &index, err));
    if (!index || index->capacity > SPARSE_CAPACITY_MAX)
        return OCH_OK;
    part_comparison_init(&c, part, id, text ? RECORD_DOCUMENT : RECORD_METADATA);
    slice *keys = ARENA_ARRAY(&c.arena, slice, (size_t)index->key_count + 1);
    for (uint32_t i = 0; keys && i < index->key_count; i++)
        keys[i] = sparse_index_key(index, i);
    struct sparse_options options = {.text = text,
                                     .keys = keys,
                                     .key_count = index->key_count,
                                     .capacity = index->capacity,
                                     .raw = index->raw,
                                     .emit = part_comparison_emit,
                                     .emit_context = &c};
    struct sparse_rows rows = {&c, part->info.rows, part_comparison_row};
    och_code code = keys ? sparse_build(&options, &rows, &directory_len, err)
                         : FAIL_NO_MEMORY(err, "checking a sparse index");
    part_comparison_done(
        &c, text ? "it is not the index of the documents" : "it is not the index of the metadata",
        ret_fault, ret_offset);
    return code;
}
