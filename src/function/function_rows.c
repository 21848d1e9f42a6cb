/* SPDX-License-Identifier: Apache-2.0 */
/* What the kinds have in common: rows to write, records of the output, all rows of a view, and what a stretch of operations changed. */
#include "function/function_internal.h"

#define ROW_OVERHEAD 64

/* ---- rows to write ---- */

static och_code keep(struct output_rows *out, slice from, slice *ret, och_error *err)
{
    *ret = arena_copy(out->arena, from);
    out->bytes += from.len;
    return ret->at ? OCH_OK : FAIL_NO_MEMORY(err, "rows of a function");
}

static och_code push(struct output_rows *out, const struct batch_input_row *row, och_error *err)
{
    out->bytes += ROW_OVERHEAD;
    return VEC_PUSH(&out->rows, *row) ? OCH_OK : FAIL_NO_MEMORY(err, "rows of a function");
}

och_code output_upsert(struct output_rows *out, slice id, slice document, slice metadata,
                       och_error *err)
{
    struct batch_input_row row = {.op = BATCH_UPSERT, .vector = out->zeros};
    TRY(keep(out, id, &row.id, err));
    if (document.at) {
        row.document_state = FIELD_VALUE;
        TRY(keep(out, document, &row.document, err));
    }
    if (metadata.at) {
        row.metadata_state = FIELD_VALUE;
        TRY(keep(out, metadata, &row.metadata, err));
    }
    return push(out, &row, err);
}

och_code output_delete(struct output_rows *out, slice id, och_error *err)
{
    struct batch_input_row row = {.op = BATCH_DELETE};
    TRY(keep(out, id, &row.id, err));
    return push(out, &row, err);
}

/* ---- reading ---- */

static och_code copy_field(struct arena *arena, slice *field, och_error *err)
{
    if (!field->at)
        return OCH_OK;
    *field = arena_copy(arena, *field);
    return field->at ? OCH_OK : FAIL_NO_MEMORY(err, "a record");
}

och_code record_find(struct run *run, struct view *view, slice id, unsigned fields,
                     struct arena *arena, struct record *ret_record, bool *ret_found,
                     och_error *err)
{
    struct view_place place;
    *ret_record = (struct record){0};
    TRY(view_find(view, id, &place, ret_found, err));
    if (!*ret_found)
        return OCH_OK;
    struct arena scratch;
    struct part_reads reads;
    arena_init(&scratch, NULL, 0);
    part_reads_init(&reads, run->functions->options.cache, &scratch);
    och_code code = view_read(view, place, &reads, fields, ret_record, err);
    ret_record->id = id;
    if (code == OCH_OK && fields & RECORD_DOCUMENT)
        code = copy_field(arena, &ret_record->document, err);
    if (code == OCH_OK && fields & RECORD_METADATA)
        code = copy_field(arena, &ret_record->metadata, err);
    part_reads_done(&reads);
    arena_done(&scratch);
    return code;
}

/* Reads that give back what they pinned now and then. */
struct reading {
    struct run *run;
    struct view *view;
    struct arena scratch;
    struct part_reads reads;
    unsigned count;
};

static void reading_begin(struct reading *r)
{
    arena_init(&r->scratch, r->run->functions->options.budget, 0);
    part_reads_init(&r->reads, r->run->functions->options.cache, &r->scratch);
    r->count = 0;
}

static void reading_end(struct reading *r)
{
    part_reads_done(&r->reads);
    arena_done(&r->scratch);
}

/* Before each row; what earlier ones pointed to may be gone. */
static och_code reading_next(struct reading *r, och_error *err)
{
    if (++r->count < FUNCTION_READS_KEEP)
        return OCH_OK;
    reading_end(r);
    reading_begin(r);
    return run_check(r->run, err);
}

static och_code walk_part(struct reading *r, size_t i, unsigned fields, row_visit visit,
                          void *context, och_error *err)
{
    struct part *part = view_part(r->view, i);
    const struct bitset *dead;
    int64_t now_ms = view_info(r->view)->now_ms;
    bool expiry = part_has_expiry(part);
    TRY(view_dead(r->view, i, &dead, err));
    for (uint32_t row = 0; row < part_rows(part); row++) {
        if (dead && bitset_has(dead, row))
            continue;
        struct record record = {0};
        TRY(reading_next(r, err));
        TRY(part_read(part, &r->reads, row, fields | (expiry ? RECORD_EXPIRY : 0), &record, err));
        if (expiry && record.expires_ms != 0 && record.expires_ms <= now_ms)
            continue;
        TRY(visit(context, &record, err));
    }
    return OCH_OK;
}

static och_code walk_tail(struct reading *r, unsigned fields, row_visit visit, void *context,
                          och_error *err)
{
    for (uint32_t i = 0; i < view_slot_count(r->view); i++) {
        const struct tail_slot *slot = view_slot(r->view, i);
        if (!view_slot_live(r->view, slot))
            continue;
        struct record record;
        TRY(reading_next(r, err));
        TRY(view_slot_read(r->view, slot, &r->reads, fields, &record, err));
        TRY(visit(context, &record, err));
    }
    return OCH_OK;
}

och_code rows_walk(struct run *run, struct view *view, unsigned fields, row_visit visit,
                   void *context, och_error *err)
{
    struct reading reading = {.run = run, .view = view};
    reading_begin(&reading);
    och_code code = OCH_OK;
    for (size_t i = 0; i < view_part_count(view) && code == OCH_OK; i++)
        code = walk_part(&reading, i, fields, visit, context, err);
    if (code == OCH_OK)
        code = walk_tail(&reading, fields, visit, context, err);
    reading_end(&reading);
    return code;
}

/* ---- changes ---- */

/* The first slot of an operation at or after `from`: slots are in the order of their offsets. */
static uint32_t first_slot(const struct view *view, uint64_t from)
{
    uint32_t low = 0, high = view_slot_count(view);
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (view_slot(view, middle)->offset < from)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* What stood under this id before `from`.  No row expires here, so what is no tombstone stood. */
static och_code read_before(struct reading *r, const struct tail_slot *slot, uint64_t from,
                            unsigned fields, struct record *ret_record, bool *ret_there,
                            och_error *err)
{
    uint32_t previous = slot->previous;
    while (previous && view_slot(r->view, previous - 1)->offset >= from)
        previous = view_slot(r->view, previous - 1)->previous;
    *ret_there = false;
    if (previous) {
        const struct tail_slot *old = view_slot(r->view, previous - 1);
        *ret_there = !old->tombstone;
        return old->tombstone ? OCH_OK
                              : view_slot_read(r->view, old, &r->reads, fields, ret_record, err);
    }
    if (slot->base_part == VIEW_NO_PART)
        return OCH_OK;
    *ret_there = true;
    struct view_place place = {slot->base_part, slot->base_row};
    return view_read(r->view, place, &r->reads, fields, ret_record, err);
}

static och_code visit_change(struct reading *r, const struct tail_slot *slot, uint64_t from,
                             unsigned fields, change_visit visit, void *context, och_error *err)
{
    struct record before = {0}, after = {0};
    bool there;
    TRY(reading_next(r, err));
    TRY(read_before(r, slot, from, fields, &before, &there, err));
    struct change change = {.id = slot->record.id, .before = there ? &before : NULL};
    if (!slot->tombstone) {
        TRY(view_slot_read(r->view, slot, &r->reads, fields, &after, err));
        change.after = &after;
    }
    return change.before || change.after ? visit(context, &change, err) : OCH_OK;
}

och_code changes_walk(struct run *run, uint64_t from, uint64_t to, bool each, unsigned fields,
                      change_visit visit, void *context, och_error *err)
{
    struct reading reading = {.run = run, .view = run->view};
    reading_begin(&reading);
    och_code code = OCH_OK;
    for (uint32_t i = first_slot(run->view, from); i < view_slot_count(run->view) && code == OCH_OK;
         i++) {
        const struct tail_slot *slot = view_slot(run->view, i);
        if (slot->offset >= to)
            break;
        bool newest = atomic_load_explicit(&slot->superseded_at, memory_order_acquire) >= to;
        if (each || newest)
            code = visit_change(&reading, slot, each ? slot->offset : from, fields, visit, context,
                                err);
    }
    reading_end(&reading);
    return code;
}
