/* SPDX-License-Identifier: Apache-2.0 */
/* The vector index in a part: its small sections stay resident, pieces of its codes are pinned while a search goes on. */
#include "part/part_internal.h"

#include "kernel/kernel.h"

#define EXPECT_BYTES (16u << 20)
#define INDEX_SECTIONS                                                           \
    (PART_BIT(SECTION_MEAN) | PART_BIT(SECTION_LIST) | PART_BIT(SECTION_CENTQ) | \
     PART_BIT(SECTION_CODE) | PART_BIT(SECTION_CODE8))

static och_code resident(struct part *part, unsigned id, slice *ret, och_error *err)
{
    const uint8_t *at;
    size_t len = (size_t)part->sections[id].size;
    TRY(part_resident(part, id, 0, len, NULL, &at, err));
    *ret = slice_make(at, len);
    return OCH_OK;
}

/* What is resident lies one behind the other: one wait for the disk, not four. */
static void expect_index(struct part *part)
{
    const struct part_section
        *first = &part->sections[SECTION_MEAN],
        *last = &part->sections[part_has(part, SECTION_SUPER) ? SECTION_SUPER : SECTION_CENTQ];
    if (last->offset < first->offset)
        return;
    uint64_t len = last->offset + last->size - first->offset;
    store_expect(part->env.store, part->info.ref.object, part->info.ref.offset + first->offset,
                 len < EXPECT_BYTES ? len : EXPECT_BYTES);
}

static och_code load_index(struct part *part, unsigned *ret_section, struct vector_index *ret,
                           och_error *err)
{
    static const uint8_t ids[] = {SECTION_MEAN, SECTION_LIST, SECTION_CENTQ};
    slice bytes[COUNT_OF(ids)];
    expect_index(part);
    for (size_t i = 0; i < COUNT_OF(ids); i++) {
        *ret_section = ids[i];
        TRY(resident(part, ids[i], &bytes[i], err));
    }
    *ret_section = SECTION_MEAN;
    if (!vector_index_open(bytes[0], bytes[1], bytes[2], part->sections[SECTION_CODE].size,
                           part->sections[SECTION_CODE8].size, part->info.rows,
                           part->info.dimension, part->info.metric, ret))
        return part_corrupt(part, SECTION_MEAN, 0, "figures that do not fit together", err);
    return OCH_OK;
}

/* SUPER saves time; without it the index is as good. */
static och_code load_super(struct part *part, struct vector_index *index, och_error *err)
{
    slice bytes;
    och_error failure = {0};
    if (!part_has(part, SECTION_SUPER))
        return OCH_OK;
    och_code code = resident(part, SECTION_SUPER, &bytes, &failure);
    if (code == OCH_OK && !vector_index_super(index, bytes))
        code = part_corrupt(part, SECTION_SUPER, 0, "figures that do not fit together", &failure);
    if (code == OCH_OK || code == OCH_BUSY)
        return OCH_OK;
    if (part_is_damage(code, &failure)) {
        part_note_damage(part, SECTION_SUPER, &failure);
        return OCH_OK;
    }
    if (err)
        *err = failure;
    return code;
}

och_code part_vector_index(struct part *part, const struct vector_index **ret_index, och_error *err)
{
    // pairs with the store below
    uint32_t state = atomic_load_explicit(&part->index_state, memory_order_acquire);
    *ret_index = NULL;
    if (state == INDEX_NONE || part_damage(part) & INDEX_SECTIONS)
        return OCH_OK;
    if (state == INDEX_READY) {
        *ret_index = &part->index;
        return OCH_OK;
    }
    struct vector_index index;
    unsigned section = SECTION_MEAN;
    och_error failure = {0};
    och_code code = OCH_NOT_FOUND;
    if (part_has(part, SECTION_MEAN) && part_has(part, SECTION_LIST) &&
        part_has(part, SECTION_CENTQ) && part_has(part, SECTION_CODE) &&
        part_has(part, SECTION_CODE8)) {
        code = load_index(part, &section, &index, &failure);
        if (code == OCH_OK)
            code = load_super(part, &index, &failure);
        if (code == OCH_BUSY) // no room for it now: without it, then
            return OCH_OK;
        if (code != OCH_OK && !part_is_damage(code, &failure)) {
            if (err)
                *err = failure;
            return code;
        }
        if (code != OCH_OK)
            part_note_damage(part, section, &failure);
    }
    mutex_lock(&part->mutex);
    if (atomic_load_explicit(&part->index_state, memory_order_relaxed) == INDEX_UNKNOWN) {
        if (code == OCH_OK)
            part->index = index;
        atomic_store_explicit(&part->index_state, code == OCH_OK ? INDEX_READY : INDEX_NONE,
                              memory_order_release);
    }
    mutex_unlock(&part->mutex);
    *ret_index = code == OCH_OK ? &part->index : NULL;
    return OCH_OK;
}

/* ---- pieces of codes ---- */

struct pieces {
    unsigned id;
    uint32_t unit;
    uint64_t group_bytes, count, last;
    const struct extent **pins; /* by piece */
    const uint8_t **bases;      /* of those that are pinned; else NULL */
};
struct reader_state {
    struct part *part;
    struct pieces pieces[2];      /* by enum vector_section */
    struct part_ahead next, held; /* what is wanted; what was fetched last */
    const struct extent *few;     /* rows of CODE8 by themselves, looked at now */
    bool missed;                  /* something was not in memory */
    unsigned failed;              /* section */
};

static och_code pieces_init(struct part *part, unsigned id, size_t unit, struct arena *arena,
                            struct pieces *ret, och_error *err)
{
    const struct part_section *section = &part->sections[id];
    *ret = (struct pieces){.id = id, .unit = (uint32_t)unit};
    ret->group_bytes = part_group_of(section, id, ret->unit) * unit;
    ret->count = (section->size + ret->group_bytes - 1) / ret->group_bytes;
    ret->pins = ARENA_ARRAY(arena, const struct extent *, ret->count + 1);
    ret->bases = ARENA_ARRAY(arena, const uint8_t *, ret->count + 1);
    return ret->pins && ret->bases ? OCH_OK : FAIL_NO_MEMORY(err, "a search");
}

static void hold(struct pieces *pieces, uint64_t index, const struct extent *extent)
{
    pieces->pins[index] = extent;
    pieces->bases[index] = extent->at;
}

static void pieces_unpin(struct part *part, struct pieces *pieces, uint64_t but)
{
    for (uint64_t i = 0; i < pieces->count; i++) {
        if (i == but)
            continue;
        cache_unpin(part->env.cache, pieces->pins[i]);
        pieces->pins[i] = NULL;
        pieces->bases[i] = NULL;
    }
}

/* Give back what this search holds and does not look at. */
static void give_back(struct reader_state *state, enum vector_section which)
{
    struct pieces *other = &state->pieces[!which];
    pieces_unpin(state->part, &state->pieces[which], UINT64_MAX);
    pieces_unpin(state->part, other, other->last);
    part_ahead_done(&state->held);
}

/* A piece, or for CODE8 perhaps only some rows around the one asked for. */
static och_code pin_at(struct reader_state *state, enum vector_section which, uint64_t unit,
                       struct part_rows *ret_rows, och_error *err)
{
    struct part *part = state->part;
    const struct pieces *pieces = &state->pieces[which];
    struct part_piece piece;
    if (which == VECTOR_CODE8) {
        if (part_row_peek(part, pieces->id, pieces->unit, unit, ret_rows))
            return OCH_OK;
        state->missed = true;
        return part_row_pin(part, pieces->id, pieces->unit, unit, ret_rows, err);
    }
    uint64_t index = unit * pieces->unit / pieces->group_bytes; // as part_piece_of has it
    struct cache_key key = {part->owner, pieces->id, (uint32_t)index};
    piece.from = index * pieces->group_bytes;
    if (!cache_peek(part->env.cache, key, &piece.extent)) {
        state->missed = true;
        TRY(part_pin(part, pieces->id, pieces->unit, unit * pieces->unit, &piece, err));
    }
    *ret_rows = (struct part_rows){piece.extent, piece.extent->at, piece.from / pieces->unit,
                                   piece.extent->len / pieces->unit, true};
    return OCH_OK;
}

static och_code piece_at(void *context, enum vector_section which, uint64_t unit,
                         const uint8_t **ret_base, uint64_t *ret_first, uint64_t *ret_units,
                         och_error *err)
{
    struct reader_state *state = context;
    struct pieces *pieces = &state->pieces[which];
    uint64_t per_piece = pieces->group_bytes / pieces->unit, index = unit / per_piece;
    const struct extent *extent = pieces->pins[index];
    if (which == VECTOR_CODE8) { // its rows are not looked at any more
        cache_unpin(state->part->env.cache, state->few);
        state->few = NULL;
    }
    if (LIKELY(extent)) {
        *ret_base = extent->at;
        *ret_first = index * per_piece;
        *ret_units = extent->len / pieces->unit;
        pieces->last = index;
        return OCH_OK;
    }
    struct part_rows rows;
    och_code code = pin_at(state, which, unit, &rows, err);
    if (code == OCH_BUSY) {
        give_back(state, which);
        error_clear(err);
        code = pin_at(state, which, unit, &rows, err);
    }
    if (code != OCH_OK) {
        state->failed = pieces->id;
        return code;
    }
    if (rows.is_piece) {
        hold(pieces, index, rows.extent);
        pieces->last = index;
    } else {
        state->few = rows.extent;
    }
    *ret_base = rows.base;
    *ret_first = rows.first;
    *ret_units = rows.count;
    return OCH_OK;
}

static const uint8_t *peek_piece(void *context, enum vector_section which, uint64_t index)
{
    struct reader_state *state = context;
    struct pieces *pieces = &state->pieces[which];
    struct cache_key key = {state->part->owner, pieces->id, (uint32_t)index};
    const struct extent *extent;
    if (!cache_peek(state->part->env.cache, key, &extent))
        return NULL;
    hold(pieces, index, extent);
    return extent->at;
}

static void want_unit(void *context, enum vector_section which, uint64_t unit)
{
    struct reader_state *state = context;
    const struct pieces *pieces = &state->pieces[which];
    if (pieces->pins[unit * pieces->unit / pieces->group_bytes])
        return;
    if (which == VECTOR_CODE8)
        part_ahead_row(&state->next, pieces->id, pieces->unit, unit);
    else
        part_ahead_piece(&state->next, pieces->id, pieces->unit, unit * pieces->unit);
}

static void fetch_wanted(void *context)
{
    struct reader_state *state = context;
    if (part_ahead_load(&state->next))
        state->missed = true;
    part_ahead_done(&state->held);
    state->held = state->next;
    part_ahead_init(&state->next, state->part);
}

bool part_was_searched(const struct part *part)
{
    return atomic_load_explicit(&part->searched, memory_order_relaxed);
}

och_code part_vector_search(struct part *part, struct vector_query *query, struct arena *arena,
                            struct vector_found *ret_found, bool *ret_usable, och_error *err)
{
    struct reader_state state = {.part = part};
    struct vector_pages pages = {
        .context = &state, .at = piece_at, .want = want_unit, .fetch = fetch_wanted};
    const struct vector_index *index;
    och_error failure = {0};
    *ret_usable = false;
    TRY(part_vector_index(part, &index, err));
    if (!index)
        return OCH_OK;
    TRY(pieces_init(part, SECTION_CODE, code_block_size(index->code_dim), arena,
                    &state.pieces[VECTOR_CODE], err));
    TRY(pieces_init(part, SECTION_CODE8, code_row_size(index->code_dim), arena,
                    &state.pieces[VECTOR_CODE8], err));
    part_ahead_init(&state.next, part);
    part_ahead_init(&state.held, part);
    for (int which = 0; which < 2; which++)
        pages.held[which] = (struct vector_held){
            state.pieces[which].bases, state.pieces[which].group_bytes / state.pieces[which].unit};
    pages.peek = peek_piece;
    pages.cold = !atomic_load_explicit(&part->codes_warm, memory_order_relaxed);
    query->index = index;
    query->pages = &pages;
    if (!atomic_load_explicit(&part->searched, memory_order_relaxed))
        atomic_store_explicit(&part->searched, true, memory_order_relaxed);
    och_code code = vector_search(query, arena, ret_found, ret_usable, &failure);
    // a wish for the next search: by what this one met
    if (pages.cold == !state.missed)
        atomic_store_explicit(&part->codes_warm, pages.cold, memory_order_relaxed);
    part_ahead_done(&state.next);
    part_ahead_done(&state.held);
    cache_unpin(part->env.cache, state.few);
    pieces_unpin(part, &state.pieces[VECTOR_CODE], UINT64_MAX);
    pieces_unpin(part, &state.pieces[VECTOR_CODE8], UINT64_MAX);
    query->pages = NULL;
    if (code == OCH_OK)
        return OCH_OK;
    *ret_usable = false;
    if (state.failed && part_is_damage(code, &failure)) {
        part_note_damage(part, state.failed, &failure);
        return OCH_OK;
    }
    if (state.failed && code == OCH_BUSY) // a scan needs less at a time
        return OCH_OK;
    if (err)
        *err = failure;
    return code;
}
