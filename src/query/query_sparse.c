/* SPDX-License-Identifier: Apache-2.0 */
/* Nearest rows to a sparse vector, or by words of documents (query_text.c): parts by their index, the tail and parts without one by their metadata or documents.
 * Every score is a sum in f64 in the order of the dimensions, rounded once, so it does not matter where a row lies. */
#include "query/query_sparse_work.h"

#include <stdlib.h>

static uint32_t rows_of(const struct sparse_work *s, uint32_t source)
{
    return source < view_part_count(s->run->view) ? part_rows(view_part(s->run->view, source))
                                                  : view_slot_count(s->run->view);
}

/* ---- reading rows ---- */

static void note_pair(void *context, uint32_t term, float weight)
{
    struct sparse_work *s = context;
    s->scratch[s->scratch_count++] = (struct pair){term, weight};
}

och_code sparse_note_match(struct sparse_work *s, struct source *source, uint32_t row,
                           uint32_t length, och_error *err)
{
    size_t pairs_size = s->scratch_count * sizeof(struct pair);
    struct match *match = arena_alloc(s->run->arena, sizeof(*match) + pairs_size);
    if (!match)
        return FAIL_NO_MEMORY(err, "a sparse query");
    *match = (struct match){.row = row, .count = s->scratch_count, .length = length};
    memcpy(match->pairs, s->scratch, pairs_size);
    *source->end = match;
    source->end = &match->next;
    return OCH_OK;
}

static och_code read_row(struct sparse_work *s, struct lookup *lookup, struct source *source,
                         uint32_t row, och_error *err)
{
    struct record record;
    struct sparse_value value;
    if (s->query->text)
        return text_read_row(s, lookup, source, row, err);
    TRY(view_read(s->run->view, sparse_place(s, source->number, row), &lookup->reads,
                  RECORD_METADATA, &record, err));
    s->scratch_count = 0;
    if (!sparse_value_find(record.metadata, s->query->key, &value) ||
        !sparse_value_match(&value, &s->terms, note_pair, s))
        return OCH_OK;
    return sparse_note_match(s, source, row, 0, err);
}

/* Look at all live rows of a source; those of the tail that have an index of their own are not asked. */
static och_code read_rows(struct sparse_work *s, struct source *source, och_error *err)
{
    uint32_t rows = rows_of(s, source->number);
    bool tail = source->number == view_part_count(s->run->view);
    och_code code = OCH_OK;
    source->matches = NULL;
    source->end = &source->matches;
    for (uint32_t first = tail ? s->tail_chunks * VIEW_TERMS_SLOTS : 0;
         first < rows && code == OCH_OK; first += QUERY_CHUNK) {
        uint64_t words[QUERY_CHUNK_WORDS];
        uint32_t count = rows - first < QUERY_CHUNK ? rows - first : QUERY_CHUNK;
        struct lookup lookup;
        lookup_init(&lookup, &s->plain);
        code = survive_range(&lookup, source->number, first, count, words, err);
        for (uint32_t w = 0; w * 64 < count && code == OCH_OK; w++) {
            for (uint64_t left = words[w]; left && code == OCH_OK; left &= left - 1)
                code = read_row(s, &lookup, source,
                                first + w * 64 + (uint32_t)__builtin_ctzll(left), err);
        }
        lookup_done(&lookup);
    }
    source->was_read = code == OCH_OK;
    return code;
}

/* ---- how rare dimensions are ---- */

/* Rows of a part that are not there, expired ones too; NULL: all are. */
static och_code dead_rows(struct sparse_work *s, struct source *source, const uint64_t **ret_dead,
                          och_error *err)
{
    struct view *view = s->run->view;
    const struct bitset *dead;
    uint32_t rows = rows_of(s, source->number);
    TRY(view_dead(view, source->number, &dead, err));
    *ret_dead = dead ? dead->words : NULL;
    if (!part_has_expiry(view_part(view, source->number)))
        return OCH_OK;
    source->dead = ARENA_ARRAY(s->run->arena, uint64_t, bitset_words(rows) + QUERY_CHUNK_WORDS);
    if (!source->dead)
        return FAIL_NO_MEMORY(err, "a sparse query");
    for (uint32_t first = 0; first < rows; first += QUERY_CHUNK) {
        uint32_t count = rows - first < QUERY_CHUNK ? rows - first : QUERY_CHUNK;
        struct lookup lookup;
        lookup_init(&lookup, &s->plain);
        och_code code =
            survive_range(&lookup, source->number, first, count, source->dead + first / 64, err);
        lookup_done(&lookup);
        TRY(code);
        for (uint32_t w = first / 64; w * 64 < first + count; w++)
            source->dead[w] = ~source->dead[w];
    }
    *ret_dead = source->dead;
    return OCH_OK;
}

static och_code count_live(struct sparse_work *s, och_error *err)
{
    const struct view_info *info = view_info(s->run->view);
    s->live = info->live_rows;
    if (!info->has_expiry)
        return OCH_OK;
    s->live = 0;
    for (uint32_t source = 0; source <= view_part_count(s->run->view); source++) {
        uint32_t rows = rows_of(s, source);
        for (uint32_t first = 0; first < rows; first += QUERY_CHUNK) {
            uint64_t words[QUERY_CHUNK_WORDS];
            uint32_t count = rows - first < QUERY_CHUNK ? rows - first : QUERY_CHUNK;
            struct lookup lookup;
            lookup_init(&lookup, &s->plain);
            och_code code = survive_range(&lookup, source, first, count, words, err);
            lookup_done(&lookup);
            TRY(code);
            for (uint32_t w = 0; w * 64 < count; w++)
                s->live += (uint64_t)__builtin_popcountll(words[w]);
        }
    }
    return OCH_OK;
}

static och_code count_holders(struct sparse_work *s, struct source *source, och_error *err)
{
    bool usable = false;
    if (source->number < view_part_count(s->run->view)) {
        const uint64_t *dead;
        TRY(dead_rows(s, source, &dead, err));
        TRY(part_sparse_count(view_part(s->run->view, source->number), s->query->key, &s->terms,
                              dead, s->run->limits, s->run->arena, s->holders,
                              s->query->text ? &s->totals : NULL, &usable, err));
    } else {
        TRY(text_tail_count(s, err));
    }
    if (usable)
        return OCH_OK;
    if (!source->was_read)
        TRY(read_rows(s, source, err));
    for (const struct match *match = source->matches; match; match = match->next) {
        for (uint32_t i = 0; i < match->count; i++)
            s->holders[match->pairs[i].term]++;
    }
    return OCH_OK;
}

/* Exact counts over all sources come first: a weight must not depend on where rows lie. */
static och_code weigh(struct sparse_work *s, och_error *err)
{
    if (!s->query->bm25)
        return OCH_OK;
    if (!s->query->text)
        TRY(count_live(s, err));
    for (uint32_t i = 0; i <= view_part_count(s->run->view); i++)
        TRY(count_holders(s, &s->sources[i], err));
    for (uint32_t i = 0; i < s->terms.count; i++) {
        uint64_t all = s->query->text ? s->totals.documents : s->live;
        s->weights[i] = s->query->weights[i] * terms_idf(all, s->holders[i]);
    }
    s->norm = terms_norm_of(s->totals.documents, s->totals.terms);
    return OCH_OK;
}

/* ---- scoring ---- */

float sparse_hit_bound(void *context)
{
    const struct sparse_part_hits *hits = context;
    return topk_bound(hits->search->best);
}

och_code sparse_hit_verify(void *context, uint32_t row, bool *ret_passes, och_error *err)
{
    const struct sparse_part_hits *hits = context;
    struct lookup *lookup = &hits->search->lookup;
    och_code code = survive_place(
        lookup, sparse_place(hits->search, hits->source, hits->first + row), ret_passes, err);
    if (lookup->arena.used_bytes > (1u << 20) || lookup->reads.pins.len > 64) {
        lookup_done(lookup);
        lookup_init(lookup, hits->search->run);
    }
    return code;
}

och_code sparse_hit_offer(void *context, uint32_t row, float score, och_error *err)
{
    const struct sparse_part_hits *hits = context;
    row += hits->first;
    const struct sparse_work *s = hits->search;
    struct view *view = s->run->view;
    int64_t seq;
    if (hits->source == view_part_count(view))
        seq = view_slot(view, row)->record.seq;
    else
        TRY(part_seq(view_part(view, hits->source), row, &seq, err));
    topk_push(s->best, (struct topk_item){
                           .distance = score, .source = hits->source, .row = row, .seq = seq});
    return OCH_OK;
}

static och_code score_matches(struct sparse_work *s, const struct source *source, och_error *err)
{
    struct sparse_part_hits hits = {s, source->number, 0};
    uint32_t looked_at = 0;
    for (const struct match *match = source->matches; match; match = match->next) {
        double sum = 0;
        bool passes;
        for (uint32_t i = 0; i < match->count; i++) {
            float weight = match->pairs[i].weight;
            if (s->query->text)
                weight = terms_weight(s->norm, weight, match->length);
            sum += (double)s->weights[match->pairs[i].term] * (double)weight;
        }
        float score = sparse_score(sum);
        if (looked_at++ % 1024 == 0)
            TRY(work_check(s->run->limits, err));
        if (score > topk_bound(s->best))
            continue;
        TRY(sparse_hit_verify(&hits, match->row, &passes, err));
        if (passes)
            TRY(sparse_hit_offer(&hits, match->row, score, err));
    }
    return OCH_OK;
}

/* A search that broke off may have left hits behind: they are found again. */
static void forget_source(struct topk *best, uint32_t source)
{
    size_t count = best->len;
    best->len = 0;
    for (size_t i = 0; i < count; i++) {
        struct topk_item item = best->items[i];
        if (item.source != source)
            topk_push(best, item);
    }
}

/* Rows that may be hits, and those of them that surely pass. */
static och_code mask_part(struct sparse_work *s, const struct source *source,
                          struct sparse_search *search, struct arena *arena, och_error *err)
{
    struct run *run = s->run;
    struct part *part = view_part(run->view, source->number);
    uint32_t rows = part_rows(part);
    size_t words = bitset_words(rows);
    const struct bitset *dead;
    const struct answer *answer = run->filter ? answer_of(run, source->number, rows) : NULL;
    bool expiry = part_has_expiry(part);
    TRY(view_dead(run->view, source->number, &dead, err));
    search->none_sure = expiry || (run->filter && !answer);
    if (answer && !expiry)
        search->sure = answer->sure;
    if (!dead && !answer)
        return OCH_OK;
    uint64_t *allowed = ARENA_ARRAY(arena, uint64_t, words + SPARSE_WINDOW / 64);
    if (!allowed)
        return FAIL_NO_MEMORY(err, "a sparse query");
    for (size_t w = 0; w < words; w++) {
        uint64_t all = w + 1 < words || rows % 64 == 0 ? UINT64_MAX : (1ull << rows % 64) - 1;
        allowed[w] =
            all & (dead ? ~dead->words[w] : UINT64_MAX) & (answer ? answer->maybe[w] : UINT64_MAX);
        search->allowed_count += (uint64_t)__builtin_popcountll(allowed[w]);
    }
    search->allowed = allowed;
    return OCH_OK;
}

static och_code search_part(struct sparse_work *s, struct source *source, och_error *err)
{
    bool usable = false;
    if (source->was_read)
        return score_matches(s, source, err);
    struct arena arena;
    struct sparse_part_hits context = {s, source->number, 0};
    struct sparse_hits hits = {&context, sparse_hit_bound, sparse_hit_verify, sparse_hit_offer};
    struct sparse_search search = {.key = s->query->key,
                                   .terms = s->terms,
                                   .norm = s->norm,
                                   .k = s->best->k,
                                   .hits = &hits,
                                   .limits = s->run->limits};
    search.terms.weights = s->weights;
    arena_init(&arena, s->run->arena->budget, 0);
    och_code code = mask_part(s, source, &search, &arena, err);
    if (code == OCH_OK)
        code = part_sparse_search(view_part(s->run->view, source->number), s->query->text, &search,
                                  &arena, &usable, err);
    arena_done(&arena);
    if (code != OCH_OK || usable)
        return code;
    forget_source(s->best, source->number);
    TRY(read_rows(s, source, err));
    return score_matches(s, source, err);
}

/* ---- the whole ---- */

static och_code search_init(struct sparse_work *s, och_error *err)
{
    struct arena *arena = s->run->arena;
    size_t count = s->query->count, parts = view_part_count(s->run->view);
    s->plain = *s->run;
    s->plain.filter = NULL;
    s->plain.needs = 0;
    s->plain.answers = NULL;
    s->plain.answer_count = 0;
    s->weights = ARENA_ARRAY(arena, float, count);
    s->holders = ARENA_ARRAY(arena, uint64_t, count);
    s->scratch = ARENA_ARRAY(arena, struct pair, count);
    s->sources = ARENA_ARRAY(arena, struct source, parts + 1);
    s->order = ARENA_ARRAY(arena, uint32_t, parts + 1);
    if (!s->weights || !s->holders || !s->scratch || !s->sources || !s->order)
        return FAIL_NO_MEMORY(err, "a sparse query");
    memcpy(s->weights, s->query->weights, count * sizeof(float));
    s->terms = (struct sparse_terms){s->query->dims, s->query->weights, (uint32_t)count};
    for (uint32_t i = 0; i <= parts; i++)
        s->sources[i].number = i;
    for (uint32_t i = 0; i < parts; i++) { /* parts are few */
        uint32_t at = i;
        for (; at && rows_of(s, s->order[at - 1]) < rows_of(s, i); at--)
            s->order[at] = s->order[at - 1];
        s->order[at] = i;
    }
    return s->query->text ? text_init(s, err) : OCH_OK;
}

static och_code search_all(struct sparse_work *s, och_error *err)
{
    uint32_t parts = (uint32_t)view_part_count(s->run->view);
    struct source *tail = &s->sources[parts];
    if (s->query->text)
        TRY(text_tail_open(s, err));
    TRY(read_rows(s, tail, err));
    TRY(weigh(s, err));
    TRY(score_matches(s, tail, err));
    TRY(text_tail_search(s, err));
    for (uint32_t i = 0; i < parts; i++)
        TRY(search_part(s, &s->sources[s->order[i]], err));
    topk_sort(s->best);
    return OCH_OK;
}

och_code query_sparse(struct run *run, const struct sparse_query *query, struct topk *ret_best,
                      och_error *err)
{
    uint64_t live = view_info(run->view)->live_rows;
    struct sparse_work s = {.run = run, .query = query, .best = ret_best};
    *ret_best = (struct topk){0};
    if (!query->count || !query->k || !live)
        return OCH_OK;
    if (query->count > UINT32_MAX)
        return FAIL(err, OCH_TOO_LARGE, "a sparse vector of too many dimensions");
    TRY(topk_init(ret_best, query->k < live ? query->k : (size_t)live, run->arena, err));
    TRY(search_init(&s, err));
    lookup_init(&s.lookup, run);
    och_code code = search_all(&s, err);
    lookup_done(&s.lookup);
    return code;
}
