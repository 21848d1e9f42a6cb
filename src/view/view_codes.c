/* SPDX-License-Identifier: Apache-2.0 */
/* 1-bit and 8-bit codes of the tail's vectors (D18).  A tail that nobody searches costs nothing.  The first query makes some, and each one that finds slots
 * without: half a millisecond of it, not all.  Where queries look, writers make the codes of what they add, and who installs a version those of its
 * tail, so that queries rarely have to. */
#include "view/view_internal.h"

#include "index/vector/vector_frame.h"

#define CODES_CHUNK  1024u   /* slots */
#define CODES_CHUNKS 4096u   /* slots beyond are scanned exactly */
#define CODES_STEP   1024u   /* slots that one query codes at most */
#define FOLLOW_STEPS 8u      /* one writer codes at most so many times what a query does */
#define STEP_NUMBERS 262144u /* numbers of vectors that take about half a millisecond */
#define CHUNK_WORDS  (CODES_CHUNK / 64)
#define CHUNK_BLOCKS (CODES_CHUNK / CODE_BLOCK_ROWS)
#define BLOCKS_AT    (CHUNK_WORDS * sizeof(uint64_t))

struct tail_codes {
    struct vector_frame frame;
    _Atomic bool asked; /* by a query */
    size_t chunk_bytes;
    _Atomic uint32_t
        slots; /* a multiple of 64: those below are coded or have no place among codes */
    uint8_t *chunks
        [CODES_CHUNKS]; /* u64[CHUNK_WORDS]: which slots have a code; their blocks; their 8-bit rows */
};

void tail_codes_free(struct tail_codes *codes, struct budget *budget)
{
    if (!codes)
        return;
    for (uint32_t i = 0; i < CODES_CHUNKS && codes->chunks[i]; i++) {
        mem_free_aligned(codes->chunks[i]);
        budget_give(budget, codes->chunk_bytes);
    }
    budget_give(budget, sizeof(*codes));
    vector_frame_done(&codes->frame);
    mem_free(codes);
}

static size_t rows_at(size_t code_dim)
{
    return BLOCKS_AT + CHUNK_BLOCKS * code_block_size(code_dim);
}

static const float *own_vector(const struct tail_slot *slot)
{
    return slot->tombstone || (slot->from_part & RECORD_VECTOR) ? NULL : slot->record.vector;
}

/* The newest part's mean and rotation, so that what merges say of a space holds for the tail as well; else a mean of the tail's own. */
static struct tail_codes *codes_new(const struct generation *g, uint32_t dimension,
                                    const struct vector_index *like, och_error *err)
{
    struct budget *budget = g->views->options.budget;
    const float *sample[VIEW_CODES_MIN];
    for (uint32_t i = 0; i < VIEW_CODES_MIN; i++)
        sample[i] = own_vector(generation_slot(g, i));
    if (budget_take(budget, sizeof(struct tail_codes), "codes of the tail", err) != OCH_OK)
        return NULL;
    struct tail_codes *codes = MEM_NEW(struct tail_codes);
    if (!codes || vector_frame_init(&codes->frame, g->metric, dimension, like, sample,
                                    VIEW_CODES_MIN, budget, err) != OCH_OK) {
        budget_give(budget, sizeof(struct tail_codes));
        mem_free(codes);
        return NULL;
    }
    size_t code_dim = codes->frame.index.code_dim;
    codes->chunk_bytes = rows_at(code_dim) + CODES_CHUNK * code_row_size(code_dim);
    return codes;
}

/* Codes of slots [first, first + 64). */
static void code_slots(struct tail_codes *codes, const struct generation *g, uint32_t first,
                       float *scratch)
{
    uint8_t *chunk = codes->chunks[first / CODES_CHUNK];
    size_t code_dim = codes->frame.index.code_dim, block_size = code_block_size(code_dim),
           row_size = code_row_size(code_dim);
    uint32_t at = first % CODES_CHUNK;
    uint8_t *row = chunk + rows_at(code_dim) + at * row_size,
            *blocks = chunk + BLOCKS_AT + at / CODE_BLOCK_ROWS * block_size;
    uint64_t word = 0;
    for (uint32_t i = 0; i < 64; i++, row += row_size) {
        uint8_t *block = blocks + i / CODE_BLOCK_ROWS * block_size;
        if (i % CODE_BLOCK_ROWS == 0)
            code_block_clear(block, code_dim);
        const struct tail_slot *slot = generation_slot(g, first + i);
        const float *vector = own_vector(slot);
        /* one that was replaced is looked up by older views only */
        if (vector &&
            atomic_load_explicit(&slot->superseded_at, memory_order_relaxed) == UINT64_MAX &&
            vector_frame_code(&codes->frame, vector, scratch, row, block, i % CODE_BLOCK_ROWS))
            word |= 1ull << i;
    }
    memcpy(chunk + at / 64 * sizeof(word), &word, sizeof(word));
}

/* How many slots one query codes. */
static uint32_t step_of(uint32_t dimension)
{
    uint32_t step = STEP_NUMBERS / dimension / 64 * 64;
    step = step > 64 ? step : 64;
    return step < CODES_STEP ? step : CODES_STEP;
}

/* At most `step` slots of those up to `end`; one thread at a time, under codes_lock.  What does not fit the budget is not coded. */
static void code_more(struct tail_codes *codes, const struct generation *g, uint32_t end,
                      uint32_t step)
{
    struct budget *budget = g->views->options.budget;
    uint32_t first = atomic_load_explicit(&codes->slots, memory_order_relaxed);
    end = end / 64 * 64;
    if (first >= end)
        return; /* a later view's reader was here */
    end = end - first < step ? end : first + step;
    end = end < CODES_CHUNK * CODES_CHUNKS ? end : CODES_CHUNK * CODES_CHUNKS;
    float *scratch = mem_alloc_aligned(64, codes->frame.index.code_dim * sizeof(float));
    for (; scratch && first < end; first += 64) {
        uint8_t **chunk = &codes->chunks[first / CODES_CHUNK];
        if (!*chunk) {
            if (budget_take(budget, codes->chunk_bytes, "codes of the tail", NULL) != OCH_OK)
                break;
            *chunk = mem_alloc_aligned(64, codes->chunk_bytes);
            if (!*chunk) {
                budget_give(budget, codes->chunk_bytes);
                break;
            }
            memset(*chunk, 0, codes->chunk_bytes);
        }
        code_slots(codes, g, first, scratch);
        /* Pairs with the acquire in view_codes. */
        atomic_store_explicit(&codes->slots, first + 64, memory_order_release);
    }
    mem_free_aligned(scratch);
}

bool view_codes(struct view *view, const struct vector_index *like, struct view_codes *ret)
{
    struct generation *g = view->generation;
    if (view->slot_count < VIEW_CODES_MIN || !vector_wanted(view->slot_count, view->info.dimension))
        return false;
    struct tail_codes *codes = atomic_load_explicit(&g->codes, memory_order_acquire);
    if ((!codes ||
         atomic_load_explicit(&codes->slots, memory_order_relaxed) < view->slot_count / 64 * 64) &&
        mutex_try_lock(&g->codes_lock)) {
        codes = atomic_load_explicit(&g->codes, memory_order_relaxed);
        if (!codes && (codes = codes_new(g, view->info.dimension, like, NULL)) != NULL)
            atomic_store_explicit(&g->codes, codes, memory_order_release);
        if (codes)
            code_more(codes, g, view->slot_count, step_of(view->info.dimension));
        mutex_unlock(&g->codes_lock);
    }
    if (!codes)
        return false;
    if (!atomic_load_explicit(&codes->asked, memory_order_relaxed))
        atomic_store_explicit(&codes->asked, true, memory_order_relaxed);
    // pairs with the release in code_more
    uint32_t slots = atomic_load_explicit(&codes->slots, memory_order_acquire);
    slots = slots < view->slot_count ? slots : view->slot_count / 64 * 64;
    *ret = (struct view_codes){.index = codes->frame.index, .codes = codes};
    ret->index.coded = slots;
    return slots != 0;
}

bool tail_codes_asked(const struct generation *g)
{
    struct tail_codes *codes = atomic_load_explicit(&g->codes, memory_order_acquire);
    return codes && atomic_load_explicit(&codes->asked, memory_order_relaxed);
}

void tail_codes_begin(struct generation *g, const struct generation *old)
{
    const struct vector_index *newest = NULL, *index;
    if (!tail_codes_asked(old) || g->slot_count < VIEW_CODES_MIN ||
        !vector_wanted(g->slot_count, g->dimension))
        return;
    for (uint32_t i = 0; i < g->part_count; i++)
        if (part_vector_index(g->parts[i].part, &index, NULL) == OCH_OK && index)
            newest = index;
    struct tail_codes *codes = codes_new(g, g->dimension, newest, NULL);
    if (!codes)
        return;
    code_more(codes, g, g->slot_count, UINT32_MAX);
    atomic_store_explicit(&g->codes, codes, memory_order_release);
}

void tail_codes_follow(struct generation *g, uint32_t slot_count)
{
    struct tail_codes *codes = atomic_load_explicit(&g->codes, memory_order_acquire);
    if (!codes || !mutex_try_lock(&g->codes_lock))
        return;
    code_more(codes, g, slot_count, FOLLOW_STEPS * step_of(codes->frame.index.dimension));
    mutex_unlock(&g->codes_lock);
}

uint64_t view_codes_word(const struct view_codes *codes, uint32_t slot)
{
    uint64_t word;
    assert(slot < codes->index.coded && slot % 64 == 0);
    memcpy(&word, codes->codes->chunks[slot / CODES_CHUNK] + slot % CODES_CHUNK / 64 * sizeof(word),
           sizeof(word));
    return word;
}

och_code view_codes_page(void *context, enum vector_section section, uint64_t unit,
                         const uint8_t **ret_base, uint64_t *ret_first, uint64_t *ret_units,
                         och_error *err)
{
    const struct view_codes *codes = context;
    (void)err;
    bool rows = section == VECTOR_CODE8;
    uint64_t units = rows ? CODES_CHUNK : CHUNK_BLOCKS;
    assert((rows || section == VECTOR_CODE) && unit / units * CODES_CHUNK < codes->index.coded);
    *ret_base =
        codes->codes->chunks[unit / units] + (rows ? rows_at(codes->index.code_dim) : BLOCKS_AT);
    *ret_first = unit / units * units;
    *ret_units = units;
    return OCH_OK;
}
