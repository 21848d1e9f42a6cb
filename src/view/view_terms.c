/* SPDX-License-Identifier: Apache-2.0 */
/* Terms of the tail's documents, as small indexes of VIEW_TERMS_SLOTS slots each.  Made by the first reader that ranks by text and would have to cut the documents
 * into words anyway; a writer pays nothing, a tail that nobody searches for words costs nothing. */
#include "view/view_internal.h"

#define CHUNKS 4096u /* slots beyond are read by each query */

struct terms_chunk {
    struct sparse_index index;
    size_t bytes;
    uint8_t *at; /* the section; its end is what `index` borrows */
};
struct tail_terms {
    _Atomic uint32_t count;
    _Atomic bool busy; /* a reader makes chunks */
    struct terms_chunk *chunks[CHUNKS];
};

void tail_terms_free(struct tail_terms *terms, struct budget *budget)
{
    if (!terms)
        return;
    for (uint32_t i = 0; i < CHUNKS && terms->chunks[i]; i++) {
        budget_give(budget, sizeof(struct terms_chunk) + terms->chunks[i]->bytes);
        mem_free(terms->chunks[i]->at);
        mem_free(terms->chunks[i]);
    }
    budget_give(budget, sizeof(*terms));
    mem_free(terms);
}

/* Made once; the first reader's stays. */
static struct tail_terms *terms_of_tail(struct view *view)
{
    struct generation *g = view->generation;
    struct budget *budget = view->collection->views->options.budget;
    struct tail_terms *terms = atomic_load_explicit(&g->terms, memory_order_acquire), *other = NULL;
    if (terms || budget_take(budget, sizeof(*terms), "terms of the tail", NULL) != OCH_OK)
        return terms;
    terms = MEM_NEW(struct tail_terms);
    // pairs with the acquire above
    if (terms && atomic_compare_exchange_strong(&g->terms, &other, terms))
        return terms;
    mem_free(terms);
    budget_give(budget, sizeof(*terms));
    return other;
}

struct source {
    struct view *view;
    struct part_reads reads;
    struct arena arena;
    uint32_t first;
    struct buf out;
};

static och_code document_of(void *context, uint32_t row, slice *ret_document, och_error *err)
{
    struct source *source = context;
    const struct tail_slot *slot = view_slot(source->view, source->first + row);
    struct record record = {0};
    *ret_document = (slice){0};
    if (slot->tombstone)
        return OCH_OK;
    TRY(view_slot_read(source->view, slot, &source->reads, RECORD_DOCUMENT, &record, err));
    *ret_document = record.document;
    return OCH_OK;
}

static och_code emit(void *context, const void *at, size_t len, och_error *err)
{
    struct source *source = context;
    buf_append(&source->out, at, len);
    return buf_check(&source->out, "terms of the tail", err);
}

static och_code build(struct source *source, const struct limits_of_work *limits,
                      struct budget *budget, uint32_t *ret_directory_len)
{
    const slice key = PART_TERMS_KEY;
    struct sparse_rows rows = {source, VIEW_TERMS_SLOTS, document_of};
    struct sparse_options options = {.budget = budget,
                                     .limits = limits,
                                     .text = true,
                                     .keys = &key,
                                     .key_count = 1,
                                     .emit = emit,
                                     .emit_context = source};
    return sparse_build(&options, &rows, ret_directory_len, NULL);
}

/* NULL: no room, or a document that cannot be read; whoever then reads the slots is told why. */
static struct terms_chunk *chunk_new(struct view *view, uint32_t first,
                                     const struct limits_of_work *limits)
{
    const struct views_options *options = &view->collection->views->options;
    struct source source = {.view = view, .first = first};
    uint32_t directory_len = 0;
    arena_init(&source.arena, options->budget, 0);
    part_reads_init(&source.reads, options->parts.cache, &source.arena);
    buf_init(&source.out, UINT32_MAX);
    och_code code = build(&source, limits, options->budget, &directory_len);
    part_reads_done(&source.reads);
    arena_done(&source.arena);
    struct terms_chunk *chunk = NULL;
    size_t bytes = source.out.len;
    if (code == OCH_OK &&
        budget_take(options->budget, sizeof(*chunk) + bytes, "terms of the tail", NULL) == OCH_OK) {
        chunk = MEM_NEW(struct terms_chunk);
        uint8_t *at = mem_alloc(bytes); /* a buffer has room to spare */
        bool sound = chunk && at;
        if (sound) {
            memcpy(at, source.out.at, bytes);
            *chunk = (struct terms_chunk){.bytes = bytes, .at = at};
            slice directory = slice_make(at + (bytes - directory_len), directory_len);
            sound = sparse_index_open(directory, bytes, VIEW_TERMS_SLOTS, &chunk->index);
            assert(sound);
        }
        if (!sound) {
            mem_free(at);
            mem_free(chunk);
            chunk = NULL;
            budget_give(options->budget, sizeof(*chunk) + bytes);
        }
    }
    buf_done(&source.out);
    return chunk;
}

uint32_t view_terms(struct view *view, const struct limits_of_work *limits)
{
    uint32_t want = view->slot_count / VIEW_TERMS_SLOTS, have;
    if (!want)
        return 0;
    struct tail_terms *terms = terms_of_tail(view);
    if (!terms)
        return 0;
    want = want < CHUNKS ? want : CHUNKS;
    // pairs with the release below
    have = atomic_load_explicit(&terms->count, memory_order_acquire);
    if (have < want && !atomic_exchange(&terms->busy, true)) {
        have = atomic_load_explicit(&terms->count, memory_order_acquire);
        while (have < want) {
            struct terms_chunk *chunk = chunk_new(view, have * VIEW_TERMS_SLOTS, limits);
            if (!chunk)
                break;
            terms->chunks[have++] = chunk;
            atomic_store_explicit(&terms->count, have, memory_order_release);
        }
        atomic_store(&terms->busy, false);
    }
    return have < want ? have : want;
}

static och_code page_at(void *context, uint32_t slot, uint64_t offset, const uint8_t **ret_at,
                        size_t *ret_len, och_error *err)
{
    const struct terms_chunk *chunk = context;
    (void)slot;
    (void)err;
    assert(offset < chunk->bytes);
    *ret_at = chunk->at + offset;
    *ret_len = chunk->bytes - (size_t)offset;
    return OCH_OK;
}

const struct sparse_index *view_terms_index(struct view *view, uint32_t i,
                                            struct sparse_pages *ret_pages)
{
    // pairs with terms_of_tail
    struct tail_terms *terms = atomic_load_explicit(&view->generation->terms, memory_order_acquire);
    *ret_pages = (struct sparse_pages){terms->chunks[i], page_at};
    return &terms->chunks[i]->index;
}
