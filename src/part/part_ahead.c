/* SPDX-License-Identifier: Apache-2.0 */
/* Rows here and there.  What a scan reads comes in pieces of 256 KiB; who wants single rows would pay for a hundred others.  So rows of VEC
 * and CODE8 are also cached in extents of a few KiB, whole pages around a few rows, and all that a query will want is read in one batch.
 * Where many such reads fall into one piece and there is room, the piece itself is read: a collection that fits into memory ends up in
 * pieces, one that does not keeps what it uses, and so does a part that will be merged before it has paid.  Both forms are extents like others:
 * counted, and evicted when nobody wants them; the few go when their piece comes. */
#include "part/part_internal.h"

#include <stdlib.h>

#define FEW_BYTES  8192u  /* about so much around a row */
#define WHOLE_MOST 16384u /* or more, when rows then end where pages end */
#define FEW_READS  8u     /* so many in one piece make the piece worth it */
#define FITS_FACTOR \
    4u /* ... but where there is room for so many times the section, which ends up in pieces anyway, */
#define FITS_READS     4u  /* so many: what was read before is thrown away then */
#define PIECES_AT_ONCE 2u  /* in one batch: 0.4 ms each */
#define ROOM_FACTOR    16u /* ... when there is room for so many of them */

/* ---- a few rows ---- */

/* Rows of one small extent: whole pages of them where rows and pages meet soon, else about FEW_BYTES. */
static uint64_t few_rows(const struct part_section *section, uint32_t unit)
{
    uint32_t a = section->page_size, b = unit;
    assert(a && b); // what was opened has pages and rows of some size
    while (b) {     // greatest common divisor
        uint32_t rest = a % b;
        a = b;
        b = rest;
    }
    uint64_t whole = section->page_size / a;
    if (whole * unit <= WHOLE_MOST)
        return whole * unit < PAGE_SMALL ? whole * (PAGE_SMALL / (whole * unit)) : whole;
    return unit < FEW_BYTES ? FEW_BYTES / unit : 1;
}

struct few {
    struct cache_key key;
    uint64_t first, count; /* rows */
    uint64_t from;         /* of the pages around them */
    size_t len;
};

static struct few few_of(const struct part *part, unsigned id, uint32_t unit, uint64_t row)
{
    const struct part_section *section = &part->sections[id];
    uint64_t group = few_rows(section, unit), all = section->size / unit;
    struct few few = {.first = row / group * group};
    few.key = (struct cache_key){part->owner, id | PART_FEW, (uint32_t)(row / group)};
    few.count = all - few.first < group ? all - few.first : group;
    few.from = few.first * unit / section->page_size * section->page_size;
    uint64_t end = round_up((few.first + few.count) * unit, section->page_size);
    few.len = (size_t)((end < section->size ? end : section->size) - few.from);
    return few;
}

void part_set_passing(struct part *part, uint64_t until_ns)
{
    atomic_store_explicit(&part->passing_until, until_ns, memory_order_relaxed);
}

static bool is_passing(const struct part *part)
{
    uint64_t until = atomic_load_explicit(&part->passing_until, memory_order_relaxed);
    return until && sched_mono_ns() < until;
}

/* Count a read of a few rows; true: from now on the piece around them is worth its room.  Not too many at once: a query would wait for them. */
static bool is_piece_worth_it(struct part *part, unsigned id, uint32_t index, size_t piece_len,
                              uint32_t *pieces_left)
{
    _Atomic(_Atomic uint8_t *) *slot = &part->few_reads[id == SECTION_CODE8];
    // pairs with the exchange below
    _Atomic uint8_t *counts = atomic_load_explicit(slot, memory_order_acquire);
    if (!counts) {
        // pieces hold 64 KiB at the least, whatever the unit
        _Atomic uint8_t *fresh = mem_zalloc((size_t)(part->sections[id].size >> 16) + 2);
        if (!fresh)
            return false;
        if (atomic_compare_exchange_strong_explicit(slot, &counts, fresh, memory_order_acq_rel,
                                                    memory_order_acquire))
            counts = fresh;
        else
            mem_free((void *)(uintptr_t)fresh);
    }
    uint8_t before = atomic_fetch_add_explicit(&counts[index], 1, memory_order_relaxed);
    if (before + 1u < FITS_READS || !*pieces_left)
        return false;
    size_t room = cache_room(part->env.cache, part_heat(id));
    bool fits = room / FITS_FACTOR >= part->sections[id].size;
    if ((!fits && before + 1u < FEW_READS) || room < ROOM_FACTOR * piece_len || is_passing(part))
        return false;
    --*pieces_left;
    atomic_store_explicit(&counts[index], 0, memory_order_relaxed); // it may leave and come again
    return true;
}

struct few_load {
    struct part *part;
    const struct few *few;
};

static och_code load_few(void *context, struct cache_key key, uint8_t *at, size_t len,
                         och_error *err)
{
    const struct few_load *load = context;
    unsigned id = key.section & ~PART_FEW;
    uint64_t page = load->few->from / load->part->sections[id].page_size;
    return part_load_pages(load->part, id, page, at, len, err);
}

static struct part_rows rows_of_few(const struct extent *extent, const struct few *few,
                                    uint32_t unit)
{
    return (struct part_rows){extent, extent->at + (few->first * unit - few->from), few->first,
                              few->count, false};
}

/* The piece is going to hold them: rows [first, end). */
static void drop_few(const struct part *part, unsigned id, uint32_t unit, uint64_t first,
                     uint64_t end)
{
    for (uint64_t row = first; row < end;) {
        struct few few = few_of(part, id, unit, row);
        cache_drop(part->env.cache, few.key);
        row = few.first + few.count;
    }
}

/* The extent that a row will come from: pinned if it is there, else what is to be loaded. */
struct choice {
    const struct extent *extent; /* NULL: not there */
    bool is_few;
    struct few few;
    struct cache_key piece; /* of the piece */
    uint64_t from;
    size_t len;
};

static struct choice choose(struct part *part, unsigned id, uint32_t unit, uint64_t row,
                            uint32_t *pieces_left)
{
    struct cache *cache = part->env.cache;
    struct choice choice = {0};
    choice.from = part_piece_of(part, id, unit, row * unit, &choice.piece, &choice.len);
    if (cache_peek(cache, choice.piece, &choice.extent) || part->sections[id].size <= PAGE_LARGE)
        return choice;
    choice.few = few_of(part, id, unit, row);
    choice.is_few = cache_peek(cache, choice.few.key, &choice.extent) ||
                    !is_piece_worth_it(part, id, choice.piece.index, choice.len, pieces_left);
    if (!choice.is_few)
        drop_few(part, id, unit, choice.from / unit, (choice.from + choice.len) / unit);
    return choice;
}

bool part_row_peek(struct part *part, unsigned id, uint32_t unit, uint64_t row,
                   struct part_rows *ret_rows)
{
    struct cache_key key;
    const struct extent *extent;
    size_t len;
    uint64_t from = part_piece_of(part, id, unit, row * unit, &key, &len);
    if (cache_peek(part->env.cache, key, &extent)) {
        *ret_rows = (struct part_rows){extent, extent->at, from / unit, extent->len / unit, true};
        return true;
    }
    struct few few = few_of(part, id, unit, row);
    if (!cache_peek(part->env.cache, few.key, &extent))
        return false;
    *ret_rows = rows_of_few(extent, &few, unit);
    return true;
}

och_code part_row_pin(struct part *part, unsigned id, uint32_t unit, uint64_t row,
                      struct part_rows *ret_rows, och_error *err)
{
    assert(row < part->sections[id].size / unit);
    uint32_t pieces_left = 1;
    struct choice choice = choose(part, id, unit, row, &pieces_left);
    if (!choice.extent && !choice.is_few) {
        struct part_piece piece;
        och_error failure = {0};
        och_code code = part_pin(part, id, unit, row * unit, &piece, &failure);
        if (code != OCH_OK && (code != OCH_BUSY || part->sections[id].size <= PAGE_LARGE)) {
            if (err)
                *err = failure;
            return code;
        }
        if (code == OCH_OK) {
            choice.extent = piece.extent;
        } else { // no room: less of it
            choice.few = few_of(part, id, unit, row);
            choice.is_few = true;
        }
    }
    if (!choice.extent) {
        struct few_load load = {part, &choice.few};
        TRY(cache_pin(part->env.cache, choice.few.key, choice.few.len, part_heat(id), load_few,
                      &load, &choice.extent, err));
    }
    *ret_rows = choice.is_few
                    ? rows_of_few(choice.extent, &choice.few, unit)
                    : (struct part_rows){choice.extent, choice.extent->at, choice.from / unit,
                                         choice.extent->len / unit, true};
    return OCH_OK;
}

/* ---- a batch ---- */

void part_ahead_init(struct part_ahead *ahead, struct part *part)
{
    *ahead = (struct part_ahead){.part = part, .pieces_left = PIECES_AT_ONCE};
}

static bool is_known(const struct part_ahead *ahead, struct cache_key key)
{
    const struct cache_key *last =
        ahead->wants.len ? &ahead->wants.at[ahead->wants.len - 1].want.key : NULL;
    return last && last->section == key.section && last->index == key.index;
}

static void add(struct part_ahead *ahead, unsigned id, struct cache_key key,
                const struct extent *extent, size_t len, uint64_t from, size_t pages_len,
                const struct part_run *run)
{
    struct part_want want = {.want = {.key = key,
                                      .len = len,
                                      .heat = part_heat(id),
                                      .state = extent ? WANT_PINNED : WANT_FAILED,
                                      .extent = extent},
                             .id = id,
                             .from = from,
                             .place = ahead->part->sections[id].offset + from,
                             .len = pages_len};
    if (run)
        want.run = *run;
    if (is_known(ahead, key) || !VEC_PUSH(&ahead->wants, want))
        cache_unpin(ahead->part->env.cache, extent);
}

void part_ahead_row(struct part_ahead *ahead, unsigned id, uint32_t unit, uint64_t row)
{
    struct part *part = ahead->part;
    if (!part_has(part, id))
        return;
    struct choice choice = choose(part, id, unit, row, &ahead->pieces_left);
    if (choice.is_few)
        add(ahead, id, choice.few.key, choice.extent, choice.few.len, choice.few.from,
            choice.few.len, NULL);
    else if (choice.extent)
        add(ahead, id, choice.piece, choice.extent, choice.len, choice.from, choice.len, NULL);
    else
        part_ahead_piece(ahead, id, unit, row * unit);
}

void part_ahead_piece(struct part_ahead *ahead, unsigned id, uint32_t unit, uint64_t offset)
{
    const struct part *part = ahead->part;
    const struct part_section *section = &part->sections[id];
    struct cache_key key;
    size_t len;
    if (!part_has(part, id))
        return;
    uint64_t from = part_piece_of(part, id, unit, offset, &key, &len);
    // pieces of odd units begin and end inside pages: what is around them is read and left
    uint64_t cover = from / section->page_size * section->page_size;
    uint64_t end = round_up(from + len, section->page_size);
    end = end < section->size ? end : section->size;
    struct part_run around = {.offset = from};
    bool whole = cover == from && end == from + len;
    add(ahead, id, key, NULL, len, cover, (size_t)(end - cover), whole ? NULL : &around);
}

void part_ahead_block(struct part_ahead *ahead, unsigned id, uint32_t row)
{
    const struct part *part = ahead->part;
    const struct part_section *section = &part->sections[id];
    struct part_run run;
    if (!part_has(part, id) || part_run_find(ahead->part, id, row, &run, NULL) != OCH_OK)
        return;
    struct cache_key key = {part->owner, id, run.index};
    uint64_t cover = run.offset / section->page_size * section->page_size;
    uint64_t end = round_up(run.offset + run.encoded_len, section->page_size);
    end = end < section->size ? end : section->size;
    add(ahead, id, key, NULL, run.decoded_len, cover, (size_t)(end - cover), &run);
}

/* By place in the file, so that neighbours become one read. */
static int by_place(const void *a, const void *b)
{
    const struct part_want *x = a, *y = b;
    return (x->place > y->place) - (x->place < y->place);
}

struct batch {
    struct part *part;
    VEC(struct io_read) reads;
    VEC(struct cache_want) tables;
};

/* The checksums of pages of a section, among what is to be read. */
static bool want_tables(struct batch *batch, const struct part_want *want)
{
    const struct part *part = batch->part;
    const struct part_section *section = &part->sections[want->id];
    uint64_t first = section->first_page + want->from / section->page_size;
    uint64_t last = section->first_page + (want->from + want->len - 1) / section->page_size;
    for (uint64_t entry = first; entry <= last;
         entry = (entry / (TABLE_PAGE / 4) + 1) * (TABLE_PAGE / 4)) {
        struct cache_want table = {.heat = part_heat(SECTION_CRCS)};
        (void)part_table_of(part, entry, &table.key, &table.len);
        bool known = false;
        for (size_t i = 0; i < batch->tables.len && !known; i++)
            known = batch->tables.at[i].key.index == table.key.index;
        if (!known && !VEC_PUSH(&batch->tables, table))
            return false;
    }
    return true;
}

static bool want_read(struct batch *batch, uint64_t offset, void *at, size_t len)
{
    struct io_read read = {
        .offset = batch->part->info.ref.offset + offset, .at = at, .len = len, .code = OCH_IO};
    return VEC_PUSH(&batch->reads, read);
}

/* Is what is cached something else than the pages? */
static bool is_decoded(const struct part_want *want)
{
    return want->len != want->want.len || want->run.encoded_len;
}

/* What a read came to, in the words of part_load_pages. */
static och_code read_result(const struct part *part, unsigned id, uint64_t from,
                            const struct io_read *read, och_error *err)
{
    if (read->code == OCH_OK)
        return OCH_OK;
    if (read->code == OCH_CORRUPT)
        return part_corrupt(part, id, from, "the file ends before it", err);
    return FAIL_OS(err, read->code, read->os_errno, "section %s cannot be read",
                   part_section_name(id));
}

/* Checked, and decoded where the cache holds something else than pages. */
static och_code finish_want(struct part *part, const struct part_want *want, och_error *err)
{
    const struct part_section *section = &part->sections[want->id];
    const uint8_t *pages = want->pages ? want->pages : want->want.at;
    TRY(part_check_pages(part, want->id, want->from / section->page_size, pages, want->len, err));
    if (want->run.encoded_len)
        return part_run_decode(part, want->id, &want->run, pages, want->from, want->want.at,
                               want->want.len, err);
    if (want->pages)
        memcpy(want->want.at, pages + (want->run.offset - want->from), want->want.len);
    return OCH_OK;
}

/* Room for the checksums that the wants need and that are not there; what has no memory fails here. */
static void plan(struct batch *batch, struct part_want *wants, size_t count)
{
    struct cache *cache = batch->part->env.cache;
    for (size_t i = 0; i < count; i++) {
        struct part_want *want = &wants[i];
        if (want->want.state != WANT_FILL)
            continue;
        if (is_decoded(want))
            want->pages = mem_alloc(want->len);
        if ((is_decoded(want) && !want->pages) || !want_tables(batch, want))
            cache_filled(cache, &want->want, OCH_NO_MEMORY, NULL);
    }
    cache_begin(cache, batch->tables.at, batch->tables.len);
    for (size_t i = 0; i < batch->tables.len; i++) {
        struct cache_want *table = &batch->tables.at[i];
        uint64_t offset = batch->part->table_offset + (uint64_t)table->key.index * TABLE_PAGE;
        if (table->state == WANT_FILL && !want_read(batch, offset, table->at, table->len))
            cache_filled(cache, table, OCH_NO_MEMORY, NULL);
    }
    for (size_t i = 0; i < count; i++) {
        struct part_want *want = &wants[i];
        if (want->want.state == WANT_FILL &&
            !want_read(batch, want->place, want->pages ? want->pages : want->want.at, want->len))
            cache_filled(cache, &want->want, OCH_NO_MEMORY, NULL);
    }
}

/* Tables first: whoever waits for another's table has published his own, and owes nobody a table. */
static const struct io_read *finish_tables(struct batch *batch)
{
    struct cache *cache = batch->part->env.cache;
    const struct io_read *read = batch->reads.at;
    for (size_t i = 0; i < batch->tables.len; i++) {
        struct cache_want *table = &batch->tables.at[i];
        if (table->state != WANT_FILL)
            continue;
        och_error failure = {0};
        och_code code = read_result(batch->part, SECTION_CRCS,
                                    (uint64_t)table->key.index * TABLE_PAGE, read++, &failure);
        if (code == OCH_OK)
            part_table_check(batch->part, table->key.index, table->at, table->len);
        cache_filled(cache, table, code, &failure);
    }
    for (size_t i = 0; i < batch->tables.len; i++) {
        if (batch->tables.at[i].state == WANT_WAIT)
            cache_await(cache, &batch->tables.at[i]);
    }
    return read;
}

static void fill(struct part *part, struct part_want *wants, size_t count)
{
    struct cache *cache = part->env.cache;
    struct batch batch = {.part = part};
    qsort(wants, count, sizeof(*wants), by_place);
    plan(&batch, wants, count);
    if (batch.reads.len)
        store_read_batch(part->env.store, part->info.ref.object, batch.reads.at, batch.reads.len);
    const struct io_read *read = finish_tables(&batch);
    for (size_t i = 0; i < count; i++) {
        struct part_want *want = &wants[i];
        if (want->want.state == WANT_FILL) {
            och_error failure = {0};
            och_code code = read_result(part, want->id, want->from, read++, &failure);
            if (code == OCH_OK)
                code = finish_want(part, want, &failure);
            cache_filled(cache, &want->want, code, &failure);
        }
        mem_free(want->pages);
        want->pages = NULL;
    }
    for (size_t i = 0; i < batch.tables.len; i++)
        cache_unpin(cache, batch.tables.at[i].extent);
    VEC_DONE(&batch.tables);
    VEC_DONE(&batch.reads);
}

bool part_ahead_load(struct part_ahead *ahead)
{
    struct cache *cache = ahead->part->env.cache;
    bool any = false;
    for (size_t i = 0; i < ahead->wants.len; i++) {
        struct cache_want *want = &ahead->wants.at[i].want;
        if (want->state != WANT_PINNED)
            cache_begin(cache, want, 1);
        any = any || want->state == WANT_FILL;
    }
    if (any)
        fill(ahead->part, ahead->wants.at, ahead->wants.len);
    for (size_t i = 0; i < ahead->wants.len; i++) {
        if (ahead->wants.at[i].want.state == WANT_WAIT)
            cache_await(cache, &ahead->wants.at[i].want);
    }
    return any;
}

void part_ahead_done(struct part_ahead *ahead)
{
    for (size_t i = 0; i < ahead->wants.len; i++)
        cache_unpin(ahead->part->env.cache, ahead->wants.at[i].want.extent);
    VEC_DONE(&ahead->wants);
}
