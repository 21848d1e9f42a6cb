/* SPDX-License-Identifier: Apache-2.0 */
/* `$bm25`: documents by the words of a text.  The search is that of query_sparse.c, terms being dimensions; here is what differs: documents cut into words where
 * no index is, and the tail's own small indexes. */
#include "query/query_sparse_work.h"

#include <stdlib.h>

#define MAY_HOLD 4096u /* bits */

/* ---- the query ---- */

static int term_order(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Distinct terms, ascending; a word that stands twice counts twice. */
och_code text_terms(slice words, struct arena *arena, struct sparse_query *query, och_error *err)
{
    size_t most = words.len / 2 + 1, count = 0;
    uint32_t *dims = ARENA_ARRAY(arena, uint32_t, most);
    struct terms walk = terms_of(words);
    uint32_t term;
    if (!dims)
        return FAIL_NO_MEMORY(err, "the words of a query");
    while (terms_next(&walk, &term)) {
        assert(count < most);
        dims[count++] = term;
    }
    if (count > 1)
        qsort(dims, count, sizeof(*dims), term_order);
    float *weights = ARENA_ARRAY(arena, float, count + 1);
    if (!weights)
        return FAIL_NO_MEMORY(err, "the words of a query");
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        n += !n || dims[n - 1] != dims[i];
        dims[n - 1] = dims[i];
        weights[n - 1] += 1;
    }
    query->dims = dims;
    query->weights = weights;
    query->count = n;
    return OCH_OK;
}

och_code text_init(struct sparse_work *s, och_error *err)
{
    struct arena *arena = s->run->arena;
    s->may_hold = ARENA_ARRAY(arena, uint64_t, MAY_HOLD / 64);
    s->counts = ARENA_ARRAY(arena, float, s->query->count);
    if (!s->may_hold || !s->counts)
        return FAIL_NO_MEMORY(err, "a query of text");
    for (size_t i = 0; i < s->query->count; i++) {
        uint32_t bit = s->query->dims[i] % MAY_HOLD;
        s->may_hold[bit / 64] |= 1ull << bit % 64;
    }
    return OCH_OK;
}

/* ---- documents ---- */

static bool find_term(const struct sparse_work *s, uint32_t term, uint32_t *ret)
{
    uint32_t low = 0, high = s->terms.count;
    if (!(s->may_hold[term % MAY_HOLD / 64] >> term % 64 & 1))
        return false;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (s->terms.dims[middle] < term)
            low = middle + 1;
        else
            high = middle;
    }
    *ret = low;
    return low < s->terms.count && s->terms.dims[low] == term;
}

static int pair_order(const void *a, const void *b)
{
    const struct pair *x = a, *y = b;
    return (x->term > y->term) - (x->term < y->term);
}

och_code text_read_row(struct sparse_work *s, struct lookup *lookup, struct source *source,
                       uint32_t row, och_error *err)
{
    struct record record;
    uint32_t term, at, length = 0;
    TRY(view_read(s->run->view, sparse_place(s, source->number, row), &lookup->reads,
                  RECORD_DOCUMENT, &record, err));
    if (!record.document.at)
        return OCH_OK;
    struct terms walk = terms_of(record.document);
    s->scratch_count = 0;
    for (; terms_next(&walk, &term); length++) {
        if (!find_term(s, term, &at))
            continue;
        if (s->counts[at] == 0)
            s->scratch[s->scratch_count++].term = at;
        if (s->counts[at] < (float)TERMS_COUNT_MAX)
            s->counts[at] += 1;
    }
    s->totals.documents++;
    s->totals.terms += length;
    if (s->scratch_count > 1)
        qsort(s->scratch, s->scratch_count, sizeof(*s->scratch), pair_order);
    for (uint32_t i = 0; i < s->scratch_count; i++) {
        s->scratch[i].weight = s->counts[s->scratch[i].term];
        s->counts[s->scratch[i].term] = 0;
    }
    return s->scratch_count ? sparse_note_match(s, source, row, length, err) : OCH_OK;
}

/* ---- the tail's indexes ---- */

och_code text_tail_open(struct sparse_work *s, och_error *err)
{
    struct view *view = s->run->view;
    s->tail_chunks = view_terms(view, s->run->limits);
    uint32_t slots = s->tail_chunks * VIEW_TERMS_SLOTS;
    if (!slots)
        return OCH_OK;
    s->tail_live = ARENA_ARRAY(s->run->arena, uint64_t, slots / 64);
    if (!s->tail_live)
        return FAIL_NO_MEMORY(err, "a query of text");
    for (uint32_t i = 0; i < slots; i++) {
        if (view_slot_live(view, view_slot(view, i)))
            s->tail_live[i / 64] |= 1ull << i % 64;
    }
    return OCH_OK;
}

och_code text_tail_count(struct sparse_work *s, och_error *err)
{
    uint64_t dead[VIEW_TERMS_SLOTS / 64], documents, terms, offset;
    for (uint32_t i = 0; i < s->tail_chunks; i++) {
        struct sparse_pages pages;
        const struct sparse_index *index = view_terms_index(s->run->view, i, &pages);
        for (uint32_t w = 0; w < COUNT_OF(dead); w++)
            dead[w] = ~s->tail_live[i * COUNT_OF(dead) + w];
        TRY(sparse_count(index, &pages, PART_TERMS_KEY, &s->terms, dead, s->run->limits,
                         s->run->arena, s->holders, &offset, err));
        TRY(sparse_totals(index, &pages, dead, &documents, &terms, err));
        s->totals.documents += documents;
        s->totals.terms += terms;
    }
    return OCH_OK;
}

och_code text_tail_search(struct sparse_work *s, och_error *err)
{
    struct sparse_part_hits context = {s, (uint32_t)view_part_count(s->run->view), 0};
    struct sparse_hits hits = {&context, sparse_hit_bound, sparse_hit_verify, sparse_hit_offer};
    for (uint32_t i = 0; i < s->tail_chunks; i++) {
        struct sparse_pages pages;
        struct arena work;
        uint64_t offset;
        struct sparse_search search = {.index = view_terms_index(s->run->view, i, &pages),
                                       .pages = &pages,
                                       .key = PART_TERMS_KEY,
                                       .terms = s->terms,
                                       .norm = s->norm,
                                       .k = s->best->k,
                                       .allowed = s->tail_live + i * (VIEW_TERMS_SLOTS / 64),
                                       .allowed_count = VIEW_TERMS_SLOTS,
                                       .none_sure = s->run->filter != NULL,
                                       .hits = &hits,
                                       .limits = s->run->limits};
        search.terms.weights = s->weights;
        context.first = i * VIEW_TERMS_SLOTS;
        arena_init(&work, s->run->arena->budget, 0);
        och_code code = sparse_search(&search, &work, &offset, err);
        arena_done(&work);
        TRY(code);
    }
    return OCH_OK;
}
