/* SPDX-License-Identifier: Apache-2.0 */
/* Nearest neighbours in the tail by 1-bit and 8-bit codes: the coded slots as one source among the indexed parts, the last of them, since hardly a row
 * of it passes the threshold of the parts. */
#include "query/query_knn.h"

#include <math.h>

void knn_choose_tail(struct knn *knn, const struct vector_index *like)
{
    struct view *view = knn->run->view;
    struct view_codes codes;
    if (knn->recall >= RECALL_EXACT || !view_codes(view, like, &codes) ||
        knn->k > codes.index.coded / 10)
        return;
    knn->tail = codes;
    knn->indexed[view_part_count(view)].index = &knn->tail.index;
}

static och_code scan_slots(struct worker *w, const uint64_t *words, uint32_t count, och_error *err)
{
    uint32_t source = (uint32_t)view_part_count(w->knn->run->view);
    for (uint32_t first = 0; first < count; first += QUERY_CHUNK) {
        struct range range = {source, first,
                              count - first < QUERY_CHUNK ? count - first : QUERY_CHUNK};
        TRY(work_check(w->knn->run->limits, err));
        TRY(knn_scan_tail(w, &range, words + first / 64, err));
    }
    return OCH_OK;
}

och_code knn_rerank_tail(struct worker *w, const struct part_search *search, och_error *err)
{
    struct view *view = w->knn->run->view;
    for (size_t i = 0; i < search->found->count; i++) {
        uint32_t slot = search->found->rows[i].row;
        TRY(knn_score_block(w, view_slot(view, slot)->record.vector, NULL, 1, 1, search->source,
                            slot, err));
    }
    return OCH_OK;
}

/* Rows of the parts that are as near as those of the tail are older, so they come first: what the tail found must not keep them out because codes
 * round one way here and another there; nor their lower bound, which is strict. */
static void yield_to_parts(const struct vector_found *found, struct vector_carry *carry)
{
    float error = 0;
    for (size_t i = 0; i < found->count; i++)
        error = found->rows[i].error > error ? found->rows[i].error : error;
    for (uint32_t i = 0; i < carry->len; i++)
        carry->heap[i] = nextafterf(carry->heap[i] + error, INFINITY);
}

/* Slots among some that live, when nothing else is asked. */
static och_code allow_live(void *context, uint32_t *slots, uint32_t *count, och_error *err)
{
    struct view *view = context;
    uint32_t kept = 0;
    (void)err;
    for (uint32_t i = 0; i < *count; i++)
        if (view_slot_live(view, view_slot(view, slots[i])))
            slots[kept++] = slots[i];
    *count = kept;
    return OCH_OK;
}

/* Which slots have codes and which have not; of the latter those that survive, and of all of them if codes are of no use. */
static och_code split_slots(struct worker *w, const struct part_search *search, bool usable,
                            uint64_t *coded, uint64_t *rest, uint64_t *ret_exact, och_error *err)
{
    struct knn *knn = w->knn;
    const uint64_t *mask = knn->indexed[search->source].mask;
    *ret_exact = 0;
    for (uint32_t i = 0; i < knn->tail.index.coded / 64; i++) {
        uint64_t has = usable ? view_codes_word(&knn->tail, i * 64) : 0, live = mask ? mask[i] : 0;
        if (!mask && ~has)
            TRY(survive_range(&w->lookup, search->source, i * 64, 64, &live, err));
        coded[i] = mask ? live & has : has;
        rest[i] = live & ~has;
        *ret_exact += (uint64_t)__builtin_popcountll(rest[i]);
    }
    return OCH_OK;
}

och_code knn_search_tail(struct worker *w, struct part_search *search, och_error *err)
{
    struct knn *knn = w->knn;
    struct run *run = knn->run;
    struct vector_query *query = &search->query;
    uint32_t slots = knn->tail.index.coded;
    uint64_t survivors = atomic_load_explicit(&knn->indexed[search->source].survivors,
                                              memory_order_relaxed),
             exact;
    struct vector_pages pages = {.context = &knn->tail, .at = view_codes_page};
    bool usable = survivors > 4 * (uint64_t)query->plan.keep;
    uint64_t *coded = ARENA_ARRAY(&w->arena, uint64_t, slots / 64 + 1),
             *rest = ARENA_ARRAY(&w->arena, uint64_t, slots / 64 + 1);
    if (!coded || !rest)
        return FAIL_NO_MEMORY(err, "a search");
    TRY(split_slots(w, search, usable, coded, rest, &exact, err));
    if (usable) {
        query->mask = coded;
        query->pages = &pages;
        query->allow = knn->indexed[search->source].lazy ? allow_live : NULL;
        query->allow_context = run->view;
        TRY(vector_search(query, &w->arena, search->found, &usable, err));
        query->pages = NULL;
        query->allow = NULL;
        if (usable)
            yield_to_parts(search->found, query->carry);
        else
            TRY(split_slots(w, search, false, coded, rest, &exact, err));
    }
    uint64_t since = run_now(run);
    if (exact)
        TRY(scan_slots(w, rest, slots, err));
    run_spent(run, search->source, STAGE_EXACT, since);
    if (exact)
        atomic_fetch_or_explicit(&run->sources[search->source].ways, RUN_EXACT,
                                 memory_order_relaxed);
    run_add(&run->sources[search->source].rows_exact, exact);
    return OCH_OK;
}
