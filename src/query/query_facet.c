/* SPDX-License-Identifier: Apache-2.0 */
/* Facets: how many records have each value of a key, exactly, under any filter.  A part tells by its metadata index, given the bits of its
 * survivors; the tail, and what the index cannot tell, is read row by row. */
#include "base/map.h"
#include "base/vec.h"
#include "model/limits.h"
#include "query/query_answer.h"

#include <stdlib.h>

struct counted {
    struct plan_key value; /* bytes in the run's arena, behind those of the type */
    uint64_t count, last;  /* last: number of the row that was counted last */
};
struct tally {
    slice key;
    struct map map; /* type and value -> place in `at` */
    VEC(struct counted) at;
    uint64_t records;
};
struct facets {
    struct run *run;
    struct tally *tallies;
    uint64_t rows; /* looked at one by one */
};

/* ---- counting ---- */

/* -0.0 is 0.0, as filters have it. */
static slice plain(uint8_t type, slice value, uint8_t room[8])
{
    if (type != META_FLOAT || value.len != 8 || load_f64(value.at) != 0)
        return value;
    memset(room, 0, 8);
    return slice_make(room, 8);
}

/* row 0: of many rows at once. */
static och_code tally_add(struct facets *f, struct tally *t, uint8_t type, slice value,
                          uint64_t count, uint64_t row, och_error *err)
{
    uint8_t small[256], zero[8];
    value = plain(type, value, zero);
    uint8_t *key = value.len < sizeof(small) ? small : arena_alloc(f->run->arena, value.len + 1);
    bool is_new;
    if (!key)
        return FAIL_NO_MEMORY(err, "facets");
    key[0] = type;
    if (value.len)
        memcpy(key + 1, value.at, value.len);
    slice named = slice_make(key, value.len + 1);
    uint64_t *place = map_find(&t->map, named);
    if (!place) {
        if (key == small)
            named = arena_copy(f->run->arena, named);
        struct counted counted = {.value = {.type = type}};
        if (!named.at || !(place = map_at(&t->map, named, &is_new)) || !VEC_PUSH(&t->at, counted))
            return FAIL_NO_MEMORY(err, "facets");
        *place = t->at.len - 1;
        t->at.at[*place].value.value = slice_from(named, 1);
    }
    struct counted *counted = &t->at.at[*place];
    if (row && counted->last == row)
        return OCH_OK; /* an element that is there twice */
    counted->last = row;
    counted->count += count;
    return OCH_OK;
}

static och_code add_elements(struct facets *f, struct tally *t, const struct meta_entry *entry,
                             och_error *err)
{
    static const uint8_t types[] = {[META_BOOLS] = META_BOOL,
                                    [META_INTS] = META_INT,
                                    [META_FLOATS] = META_FLOAT,
                                    [META_STRINGS] = META_STRING};
    struct reader reader = reader_of(entry->value);
    size_t size = entry->type == META_BOOLS ? 1 : 8;
    while (!reader.failed && reader_left(&reader)) {
        slice element;
        if (entry->type == META_STRINGS) {
            element = reader_sized(&reader);
        } else {
            const uint8_t *at = reader_skip(&reader, size);
            element = slice_make(at, size);
        }
        if (!reader.failed)
            TRY(tally_add(f, t, types[entry->type], element, 1, f->rows, err));
    }
    return OCH_OK;
}

static och_code add_row(struct facets *f, struct tally *t, slice metadata, och_error *err)
{
    struct meta_entry entry;
    if (!metadata.at || !meta_find(metadata, t->key, &entry) || entry.type == META_DELETE)
        return OCH_OK;
    t->records++;
    if (entry.type <= META_STRING)
        return tally_add(f, t, entry.type, entry.value, 1, f->rows, err);
    if (entry.type <= META_STRINGS)
        return add_elements(f, t, &entry, err);
    return OCH_OK; /* no values: an empty array, a sparse vector */
}

/* ---- rows one by one ---- */

static och_code add_place(struct facets *f, struct lookup *l, struct view_place place,
                          const bool *wanted, och_error *err)
{
    struct record record = {0};
    TRY(view_read(f->run->view, place, &l->reads, RECORD_METADATA, &record, err));
    f->rows++;
    for (uint32_t i = 0; i < f->run->plan->facet_count; i++) {
        if (!wanted || wanted[i])
            TRY(add_row(f, &f->tallies[i], record.metadata, err));
    }
    return OCH_OK;
}

static och_code add_bits(struct facets *f, size_t source, uint32_t first, uint32_t count,
                         const uint64_t *words, const bool *wanted, och_error *err)
{
    bool in_tail = source == view_part_count(f->run->view);
    struct lookup lookup;
    och_code code = work_check(f->run->limits, err);
    lookup_init(&lookup, f->run);
    for (uint32_t w = 0; code == OCH_OK && w * 64 < count; w++) {
        for (uint64_t left = words[w]; left && code == OCH_OK; left &= left - 1) {
            struct view_place place = {in_tail ? VIEW_NO_PART : (uint32_t)source,
                                       first + w * 64 + (uint32_t)__builtin_ctzll(left)};
            code = add_place(f, &lookup, place, wanted, err);
        }
    }
    lookup_done(&lookup);
    return code;
}

/* Survivors of a source as bits, and how many; words for whole chunks of the index. */
static och_code survivors(struct run *run, size_t source, uint32_t rows, uint64_t *words,
                          uint64_t *ret_count, och_error *err)
{
    *ret_count = 0;
    for (uint32_t first = 0; first < rows; first += QUERY_CHUNK) {
        uint32_t count = rows - first < QUERY_CHUNK ? rows - first : QUERY_CHUNK;
        struct lookup lookup;
        lookup_init(&lookup, run);
        och_code code = survive_range(&lookup, source, first, count, words + first / 64, err);
        lookup_done(&lookup);
        TRY(code);
        for (uint32_t w = 0; w * 64 < count; w++)
            *ret_count += (uint64_t)__builtin_popcountll(words[first / 64 + w]);
    }
    run->scanned += rows;
    return OCH_OK;
}

/* ---- parts by their index ---- */

struct staged { /* what the index told, until it is known to be all */
    struct arena arena;
    VEC(struct query_facet_value) at;
};

static och_code stage(void *context, uint8_t type, slice value, uint64_t count, och_error *err)
{
    struct staged *s = context;
    struct query_facet_value told = {{type, SLICE_NONE, 0}, count};
    told.value.value = arena_copy(&s->arena, value);
    if (!told.value.value.at || !VEC_PUSH(&s->at, told))
        return FAIL_NO_MEMORY(err, "facets");
    return OCH_OK;
}

/* Records of the mask that have the key, whatever is under it. */
static och_code count_records(struct facets *f, struct part *part, slice key, const uint64_t *mask,
                              struct arena *arena, bool *ret_known, uint64_t *ret, och_error *err)
{
    const struct filter_value yes = {.kind = FILTER_BOOL, .boolean = true};
    const struct filter_node exists = {
        .op = FILTER_EXISTS, .key = key, .values = &yes, .value_count = 1};
    const struct part_filter_options options = {.limits = f->run->limits};
    struct part_filter *filter;
    uint64_t words[META_CHUNK_WORDS];
    *ret_known = false;
    *ret = 0;
    TRY(part_filter_new(part, &exists, &options, arena, &filter, err));
    if (!filter || !filter->search.exact)
        return OCH_OK;
    for (uint32_t first = 0; first < part_rows(part); first += META_CHUNK) {
        uint32_t left = part_rows(part) - first, count = left < META_CHUNK ? left : META_CHUNK;
        bool usable;
        TRY(part_filter_chunk(filter, first / META_CHUNK, words, words, &usable, err));
        if (!usable)
            return OCH_OK;
        for (uint32_t w = 0; w * 64 < count; w++)
            *ret += (uint64_t)__builtin_popcountll(words[w] & mask[first / 64 + w]);
    }
    *ret_known = true;
    return OCH_OK;
}

static och_code add_by_index(struct facets *f, struct tally *t, struct part *part,
                             const uint64_t *mask, bool all, bool *ret_known, och_error *err)
{
    struct staged s = {0};
    struct arena arena;
    uint64_t records = 0;
    arena_init(&arena, f->run->arena->budget, 0);
    arena_init(&s.arena, f->run->arena->budget, 0);
    och_code code = part_count_values(part, t->key, all ? NULL : mask, f->run->limits, &arena,
                                      stage, &s, ret_known, err);
    if (code == OCH_OK && *ret_known)
        code = count_records(f, part, t->key, mask, &arena, ret_known, &records, err);
    for (size_t i = 0; code == OCH_OK && *ret_known && i < s.at.len; i++)
        code = tally_add(f, t, s.at.at[i].value.type, s.at.at[i].value.value, s.at.at[i].count, 0,
                         err);
    if (*ret_known)
        t->records += records;
    VEC_DONE(&s.at);
    arena_done(&s.arena);
    arena_done(&arena);
    return code;
}

#define BY_ROWS_SHARE 64 /* fewer survivors than one in so many rows are read one by one */

static och_code add_source(struct facets *f, size_t source, struct query_result *result,
                           och_error *err)
{
    struct run *run = f->run;
    bool in_tail = source == view_part_count(run->view);
    struct part *part = in_tail ? NULL : view_part(run->view, source);
    uint32_t rows = in_tail ? view_slot_count(run->view) : part_rows(part);
    struct arena arena;
    bool wanted[LIMIT_FACETS] = {0}, any = in_tail;
    uint64_t count;
    arena_init(&arena, run->arena->budget, 0);
    size_t words = (bitset_words(rows) + META_CHUNK_WORDS) / META_CHUNK_WORDS * META_CHUNK_WORDS;
    uint64_t *mask = ARENA_ARRAY(&arena, uint64_t, words);
    och_code code = mask ? OCH_OK : FAIL_NO_MEMORY(err, "facets");
    if (code == OCH_OK)
        code = survivors(run, source, rows, mask, &count, err);
    for (uint32_t i = 0; code == OCH_OK && i < run->plan->facet_count; i++) {
        bool known = false;
        if (!in_tail && count > rows / BY_ROWS_SHARE)
            code = add_by_index(f, &f->tallies[i], part, mask, count == rows, &known, err);
        wanted[i] = !known;
        any = any || !known;
    }
    for (uint32_t first = 0; code == OCH_OK && any && first < rows; first += QUERY_CHUNK)
        code = add_bits(f, source, first, rows - first < QUERY_CHUNK ? rows - first : QUERY_CHUNK,
                        mask + first / 64, wanted, err);
    if (code == OCH_OK)
        result->count += count;
    arena_done(&arena);
    return code;
}

static och_code add_ids(struct facets *f, struct query_result *result, och_error *err)
{
    struct candidate *rows = NULL;
    size_t count = 0;
    struct lookup lookup;
    TRY(survive_ids(f->run, &rows, &count, err));
    lookup_init(&lookup, f->run);
    och_code code = OCH_OK;
    for (size_t i = 0; i < count && code == OCH_OK; i++) {
        if (i % QUERY_CHUNK == QUERY_CHUNK - 1) { /* pins of what was looked at are not needed */
            lookup_done(&lookup);
            lookup_init(&lookup, f->run);
            code = work_check(f->run->limits, err);
        }
        if (code == OCH_OK)
            code = add_place(f, &lookup, rows[i].place, NULL, err);
    }
    lookup_done(&lookup);
    mem_free(rows);
    result->count = count;
    return code;
}

/* ---- telling ---- */

static int compare_values(const struct counted *a, const struct counted *b)
{
    static const struct plan_order order = {.by = PLAN_BY_KEY};
    int by_value = plan_compare(&order, &a->value, &b->value);
    return by_value ? by_value : (a->value.type > b->value.type) - (a->value.type < b->value.type);
}
static int by_value(const void *a, const void *b)
{
    return compare_values(a, b);
}
static int by_count(const void *a, const void *b)
{
    const struct counted *x = a, *y = b;
    if (x->count != y->count)
        return x->count > y->count ? -1 : 1;
    return compare_values(x, y);
}

static och_code tell(struct run *run, struct tally *t, const struct plan_facet *asked,
                     struct query_facet *ret, och_error *err)
{
    ret->records = t->records;
    ret->distinct = t->at.len;
    for (size_t i = 0; i < t->at.len; i++) {
        const struct counted *c = &t->at.at[i];
        struct counted least = {.value = ret->least}, most = {.value = ret->most};
        if (!i || compare_values(c, &least) < 0)
            ret->least = c->value;
        if (!i || compare_values(c, &most) > 0)
            ret->most = c->value;
    }
    ret->value_count = t->at.len < asked->limit ? t->at.len : asked->limit;
    if (ret->value_count) {
        TRY(work_check(run->limits, err));
        qsort(t->at.at, t->at.len, sizeof(*t->at.at), asked->by_value ? by_value : by_count);
    }
    ret->values = ARENA_ARRAY(run->arena, struct query_facet_value, ret->value_count);
    if (!ret->values)
        return FAIL_NO_MEMORY(err, "facets");
    for (size_t i = 0; i < ret->value_count; i++)
        ret->values[i] = (struct query_facet_value){t->at.at[i].value, t->at.at[i].count};
    return OCH_OK;
}

och_code query_run_facets(struct run *run, struct query_result *result, och_error *err)
{
    const struct plan *plan = run->plan;
    struct facets f = {.run = run};
    if (plan->facet_count > LIMIT_FACETS)
        return FAIL(err, OCH_INVALID, "facets: at most %d keys, got %u", LIMIT_FACETS,
                    plan->facet_count);
    f.tallies = ARENA_ARRAY(run->arena, struct tally, plan->facet_count);
    result->facets = ARENA_ARRAY(run->arena, struct query_facet, plan->facet_count);
    if (!f.tallies || !result->facets)
        return FAIL_NO_MEMORY(err, "facets");
    for (uint32_t i = 0; i < plan->facet_count; i++) {
        map_init(&f.tallies[i].map);
        f.tallies[i].key = plan->facets[i].key;
    }
    och_code code = plan->has_ids ? add_ids(&f, result, err) : answers_evaluate(run, err);
    for (size_t i = 0; !plan->has_ids && code == OCH_OK && i <= view_part_count(run->view); i++)
        code = add_source(&f, i, result, err);
    for (uint32_t i = 0; i < plan->facet_count; i++) {
        if (code == OCH_OK)
            code = tell(run, &f.tallies[i], &plan->facets[i], &result->facets[i], err);
        map_done(&f.tallies[i].map);
        VEC_DONE(&f.tallies[i].at);
    }
    run->survivors += plan->has_ids ? 0 : result->count;
    return code;
}
