/* SPDX-License-Identifier: Apache-2.0 */
/* Sparse vectors of random rows, an index over them in memory, and brute force over all of them. */
#ifndef TESTS_UNIT_INDEX_SPARSE_FIXTURE_H
#define TESTS_UNIT_INDEX_SPARSE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/topk.h"
#include "index/sparse/sparse.h"
#include "model/meta.h"

#define MUST(call)                                                              \
    do {                                                                        \
        och_error must_err_ = {0};                                              \
        och_error *err = &must_err_;                                            \
        if ((call) != OCH_OK)                                                   \
            fail_msg("%s:%d: %s: %s", __FILE__, __LINE__, #call, err->message); \
    } while (0)

struct sparse_row {
    uint32_t count; /* UINT32_MAX: no vector */
    uint32_t *dims;
    float *weights;
};
struct sparse_set {
    struct arena arena;
    struct sparse_row *rows;
    uint32_t count;
    struct buf scratch, section;
    uint32_t directory_len;
    bool raw;                      /* built as version 1 was */
    uint32_t piece;                /* bytes handed out at once; 0: all */
    uint8_t *copies[SPARSE_SLOTS]; /* so that the sanitizer sees pointers kept too long */
    uint64_t asked;
    struct random random; /* goes on after what made the rows */
};

static inline void sparse_set_init(struct sparse_set *set, uint32_t count)
{
    *set = (struct sparse_set){.count = count};
    arena_init(&set->arena, NULL, 0);
    buf_init(&set->scratch, BUF_MAX_NONE);
    buf_init(&set->section, BUF_MAX_NONE);
    set->rows = ARENA_ARRAY(&set->arena, struct sparse_row, count + 1);
    assert_non_null(set->rows);
    for (uint32_t i = 0; i < count; i++)
        set->rows[i].count = UINT32_MAX;
}

static inline void sparse_set_done(struct sparse_set *set)
{
    for (uint32_t i = 0; i < SPARSE_SLOTS; i++)
        free(set->copies[i]);
    buf_done(&set->scratch);
    buf_done(&set->section);
    arena_done(&set->arena);
}

static inline void sparse_set_row(struct sparse_set *set, uint32_t row, uint32_t count)
{
    set->rows[row] = (struct sparse_row){.count = count,
                                         .dims = ARENA_ARRAY(&set->arena, uint32_t, count + 1),
                                         .weights = ARENA_ARRAY(&set->arena, float, count + 1)};
    assert_non_null(set->rows[row].dims);
    assert_non_null(set->rows[row].weights);
}

/* {"other": true, "v": the vector}; the vector under "w" too when `twice`. */
static inline void sparse_encode(const struct sparse_row *row, const char *key, struct buf *out)
{
    CLEANUP(buf_cleanup) struct buf value;
    buf_init(&value, BUF_MAX_NONE);
    buf_clear(out);
    bool has = row->count != UINT32_MAX;
    buf_varint(out, has ? 2 : 1);
    buf_sized(out, SLICE("other"));
    buf_byte(out, META_BOOL);
    buf_varint(out, 1);
    buf_byte(out, 1);
    if (!has)
        return;
    buf_sized(out, slice_of(key));
    buf_byte(out, META_SPARSE);
    buf_varint(&value, row->count);
    for (uint32_t i = 0; i < row->count; i++)
        buf_u32(&value, row->dims[i]);
    for (uint32_t i = 0; i < row->count; i++)
        buf_f32(&value, row->weights[i]);
    buf_byte(&value, 0);
    buf_sized(out, buf_view(&value));
}

static inline och_code sparse_set_metadata(void *context, uint32_t row, slice *ret, och_error *err)
{
    struct sparse_set *set = context;
    sparse_encode(&set->rows[row], "v", &set->scratch);
    *ret = buf_view(&set->scratch);
    set->asked++;
    return buf_check(&set->scratch, "a row", err);
}

static inline och_code sparse_set_emit(void *context, const void *at, size_t len, och_error *err)
{
    struct sparse_set *set = context;
    buf_append(&set->section, at, len);
    return buf_check(&set->section, "a section", err);
}

static inline void sparse_set_build(struct sparse_set *set, uint32_t capacity)
{
    static const slice keys[] = {{(const uint8_t *)"v", 1}};
    struct sparse_options options = {.keys = keys,
                                     .key_count = 1,
                                     .capacity = capacity,
                                     .raw = set->raw,
                                     .emit = sparse_set_emit,
                                     .emit_context = set};
    struct sparse_rows rows = {set, set->count, sparse_set_metadata};
    buf_clear(&set->section);
    MUST(sparse_build(&options, &rows, &set->directory_len, err));
}

static inline och_code sparse_set_page(void *context, uint32_t slot, uint64_t offset,
                                       const uint8_t **ret_at, size_t *ret_len, och_error *err)
{
    struct sparse_set *set = context;
    if (offset >= set->section.len)
        return FAIL(err, OCH_CORRUPT, "a place outside");
    size_t from = set->piece ? (size_t)(offset - offset % set->piece) : 0;
    size_t len = set->piece ? min_size(set->piece, set->section.len - from) : set->section.len;
    if (set->piece) {
        free(set->copies[slot]);
        set->copies[slot] = malloc(len);
        memcpy(set->copies[slot], set->section.at + from, len);
        *ret_at = set->copies[slot] + (offset - from);
    } else {
        *ret_at = set->section.at + offset;
    }
    *ret_len = len - (size_t)(offset - from);
    return OCH_OK;
}

static inline bool sparse_set_open(struct sparse_set *set, struct sparse_index *ret)
{
    return set->directory_len <= set->section.len &&
           sparse_index_open(slice_make(set->section.at + set->section.len - set->directory_len,
                                        set->directory_len),
                             set->section.len, set->count, ret);
}

/* ---- brute force ---- */

static inline bool sparse_brute_score(const struct sparse_row *row,
                                      const struct sparse_terms *terms, float *ret)
{
    double sum = 0;
    bool holds = false;
    for (uint32_t t = 0; t < terms->count; t++) {
        for (uint32_t i = 0; row->count != UINT32_MAX && i < row->count; i++) {
            if (row->dims[i] != terms->dims[t])
                continue;
            sum += (double)terms->weights[t] * (double)row->weights[i];
            holds = true;
        }
    }
    *ret = 1.0f - (float)sum;
    return holds;
}

struct sparse_answer {
    struct sparse_set *set;
    struct topk top;
    const uint64_t *passing; /* what verification says; NULL: all */
    uint64_t offered, verified;
};

static inline float sparse_answer_bound(void *context)
{
    const struct sparse_answer *answer = context;
    return topk_bound(&answer->top);
}
static inline och_code sparse_answer_verify(void *context, uint32_t row, bool *ret, och_error *err)
{
    struct sparse_answer *answer = context;
    (void)err;
    answer->verified++;
    *ret = !answer->passing || (answer->passing[row / 64] >> row % 64 & 1);
    return OCH_OK;
}
/* Insertion order is not row order. */
static inline int64_t sparse_seq(uint32_t row)
{
    return (int64_t)((row * 2654435761u) ^ 0x5555);
}
static inline och_code sparse_answer_offer(void *context, uint32_t row, float score, och_error *err)
{
    struct sparse_answer *answer = context;
    (void)err;
    answer->offered++;
    topk_push(&answer->top,
              (struct topk_item){.distance = score, .row = row, .seq = sparse_seq(row)});
    return OCH_OK;
}

/* Search and compare with all rows; `passing` NULL: all. */
static inline void sparse_compare(struct sparse_set *set, const struct sparse_terms *terms,
                                  size_t k, const uint64_t *allowed, const uint64_t *passing,
                                  enum sparse_plan plan)
{
    struct sparse_index index;
    struct arena arena;
    struct sparse_answer answer = {.set = set, .passing = passing};
    struct sparse_hits hits = {&answer, sparse_answer_bound, sparse_answer_verify,
                               sparse_answer_offer};
    struct sparse_pages pages = {set, sparse_set_page};
    struct topk expected;
    uint64_t offset = 0, holders = 0;
    arena_init(&arena, NULL, 0);
    assert_true(sparse_set_open(set, &index));
    MUST(topk_init(&answer.top, k, &arena, err));
    MUST(topk_init(&expected, k, &arena, err));
    struct sparse_search search = {.index = &index,
                                   .pages = &pages,
                                   .key = SLICE("v"),
                                   .terms = *terms,
                                   .k = k,
                                   .allowed = allowed,
                                   .none_sure = passing != NULL,
                                   .hits = &hits,
                                   .plan = plan};
    for (uint32_t row = 0; row < set->count; row++) {
        float score;
        bool in = (!allowed || allowed[row / 64] >> row % 64 & 1);
        search.allowed_count += allowed && in;
        if (!sparse_brute_score(&set->rows[row], terms, &score))
            continue;
        holders++;
        if (in && (!passing || (passing[row / 64] >> row % 64 & 1)))
            topk_push(&expected,
                      (struct topk_item){.distance = score, .row = row, .seq = sparse_seq(row)});
    }
    MUST(sparse_search(&search, &arena, &offset, err));
    topk_sort(&answer.top);
    topk_sort(&expected);
    assert_int_equal(answer.top.len, expected.len);
    for (size_t i = 0; i < expected.len; i++) {
        assert_int_equal(answer.top.items[i].row, expected.items[i].row);
        assert_memory_equal(&answer.top.items[i].distance, &expected.items[i].distance, 4);
    }
    arena_done(&arena);
}
#endif
