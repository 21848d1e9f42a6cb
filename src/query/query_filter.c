/* SPDX-License-Identifier: Apache-2.0 */
/* Which rows of a source survive: not dead, not expired, passing the filter.  What the indexes of a part say is taken first; rows that they leave
 * open, and those of the tail, are asked one by one: metadata and ids, and a document only when they leave the answer open. */
#include "query/query_answer.h"

#include <stdlib.h>

static unsigned fields_of(unsigned needs)
{
    return ((needs & FILTER_NEEDS_ID) ? RECORD_ID : 0u) |
           ((needs & FILTER_NEEDS_METADATA) ? RECORD_METADATA : 0u) |
           ((needs & FILTER_NEEDS_DOCUMENT) ? RECORD_DOCUMENT : 0u);
}

static och_code row_read(struct lookup *l, struct view_place place, const struct tail_slot *slot,
                         unsigned fields, struct record *ret, och_error *err)
{
    if (slot)
        return view_slot_read(l->run->view, slot, &l->reads, fields, ret, err);
    return part_read(view_part(l->run->view, place.part), &l->reads, place.row, fields, ret, err);
}

/* slot is given for tail rows, else NULL. */
static och_code row_passes(struct lookup *l, struct view_place place, const struct tail_slot *slot,
                           bool check_expiry, bool *ret_passes, och_error *err)
{
    const struct run *run = l->run;
    unsigned cheap = run->needs & (FILTER_NEEDS_ID | FILTER_NEEDS_METADATA);
    unsigned fields = fields_of(cheap) | (check_expiry ? RECORD_EXPIRY : 0u);
    struct record record = {0};
    if (fields)
        TRY(row_read(l, place, slot, fields, &record, err));
    if (check_expiry && record.expires_ms != 0 &&
        record.expires_ms <= view_info(run->view)->now_ms) {
        *ret_passes = false;
        return OCH_OK;
    }
    struct filter_row row = {
        .have = cheap, .id = record.id, .metadata = record.metadata, .work = &l->work};
    enum filter_truth truth = filter_match(run->filter, &row);
    if (truth == FILTER_UNKNOWN && !l->work.stopped) {
        struct record full;
        TRY(row_read(l, place, slot, RECORD_DOCUMENT, &full, err));
        row.have |= FILTER_NEEDS_DOCUMENT;
        row.document = full.document;
        truth = filter_match(run->filter, &row);
    }
    if (UNLIKELY(l->work.stopped))
        return work_check(run->limits, err);
    *ret_passes = truth == FILTER_TRUE;
    return OCH_OK;
}

och_code survive_place(struct lookup *lookup, struct view_place place, bool *ret_survives,
                       och_error *err)
{
    struct view *view = lookup->run->view;
    const struct tail_slot *slot = place.part == VIEW_NO_PART ? view_slot(view, place.row) : NULL;
    bool expiry = !slot && part_has_expiry(view_part(view, place.part));
    const struct answer *answer = slot ? NULL : answer_of(lookup->run, place.part, place.row + 1);
    if (answer) {
        uint64_t bit = 1ull << place.row % 64;
        *ret_survives = answer->maybe[place.row / 64] & bit;
        if (!*ret_survives || (!expiry && (answer->sure[place.row / 64] & bit)))
            return OCH_OK;
    }
    return row_passes(lookup, place, slot, expiry, ret_survives, err);
}

static och_code survive_tail(struct lookup *l, uint32_t first, uint32_t count, uint64_t *words,
                             och_error *err)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct tail_slot *slot = view_slot(l->run->view, first + i);
        bool passes = view_slot_live(l->run->view, slot);
        if (passes && l->run->filter)
            TRY(row_passes(l, (struct view_place){VIEW_NO_PART, first + i}, slot, false, &passes,
                           err));
        if (passes)
            words[i / 64] |= 1ull << (i % 64);
    }
    return OCH_OK;
}

static och_code survive_part(struct lookup *l, size_t source, uint32_t first, uint32_t count,
                             uint64_t *words, och_error *err)
{
    struct view *view = l->run->view;
    const struct bitset *dead;
    TRY(view_dead(view, source, &dead, err));
    for (uint32_t w = 0; w * 64 < count; w++) {
        uint64_t all = count - w * 64 >= 64 ? UINT64_MAX : (1ull << (count - w * 64)) - 1;
        words[w] = dead ? all & ~dead->words[first / 64 + w] : all;
    }
    bool expiry = part_has_expiry(view_part(view, source));
    if (!l->run->filter && !expiry)
        return OCH_OK;
    const struct answer *answer = answer_of(l->run, source, first + count);
    for (uint32_t w = 0; w * 64 < count; w++) {
        uint64_t open = words[w];
        if (answer) {
            words[w] &= answer->maybe[first / 64 + w];
            open = words[w] & (expiry ? UINT64_MAX : ~answer->sure[first / 64 + w]);
        }
        for (uint64_t left = open; left; left &= left - 1) {
            uint32_t bit = (uint32_t)__builtin_ctzll(left);
            bool passes;
            TRY(row_passes(l, (struct view_place){(uint32_t)source, first + w * 64 + bit}, NULL,
                           expiry, &passes, err));
            if (!passes)
                words[w] &= ~(1ull << bit);
        }
    }
    return OCH_OK;
}

och_code survive_range(struct lookup *lookup, size_t source, uint32_t first, uint32_t count,
                       uint64_t *words, och_error *err)
{
    assert(count <= QUERY_CHUNK && first % 64 == 0);
    memset(words, 0, (count + 63) / 64 * sizeof(*words));
    TRY(work_check(lookup->run->limits, err));
    if (source == view_part_count(lookup->run->view))
        return survive_tail(lookup, first, count, words, err);
    return survive_part(lookup, source, first, count, words, err);
}

static int candidate_compare(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    return (x->seq > y->seq) - (x->seq < y->seq);
}

static och_code candidate_add(struct lookup *l, slice id, struct candidate *rows, size_t *count,
                              och_error *err)
{
    struct run *run = l->run;
    struct candidate c;
    bool found, survives = true;
    TRY(view_find(run->view, id, &c.place, &found, err));
    if (!found)
        return OCH_OK;
    if (run->filter)
        TRY(survive_place(l, c.place, &survives, err));
    if (!survives)
        return OCH_OK;
    if (c.place.part == VIEW_NO_PART)
        c.seq = view_slot(run->view, c.place.row)->record.seq;
    else
        TRY(part_seq(view_part(run->view, c.place.part), c.place.row, &c.seq, err));
    rows[(*count)++] = c;
    return OCH_OK;
}

och_code survive_ids(struct run *run, struct candidate **ret_rows, size_t *ret_count,
                     och_error *err)
{
    size_t bytes;
    if (mul_overflows(run->plan->id_count + 1, sizeof(struct candidate), &bytes))
        return FAIL(err, OCH_TOO_LARGE, "too many ids");
    struct candidate *rows = mem_alloc(bytes);
    if (!rows)
        return FAIL_NO_MEMORY(err, "ids");
    size_t count = 0;
    och_code code = OCH_OK;
    struct lookup lookup;
    lookup_init(&lookup, run);
    for (uint64_t i = 0; i < run->plan->id_count && code == OCH_OK; i++) {
        if (i % 1024 == 0)
            code = work_check(run->limits, err);
        if (code == OCH_OK)
            code = candidate_add(&lookup, run->plan->ids[i], rows, &count, err);
    }
    lookup_done(&lookup);
    if (code != OCH_OK) {
        mem_free(rows);
        return code;
    }
    /* seq is unique among live rows, so equal neighbours are repeated ids. */
    if (count > 1)
        qsort(rows, count, sizeof(*rows), candidate_compare);
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (i == 0 || rows[i].seq != rows[kept - 1].seq)
            rows[kept++] = rows[i];
    }
    run->scanned += run->plan->id_count;
    run->survivors += kept;
    *ret_rows = rows;
    *ret_count = kept;
    return OCH_OK;
}
