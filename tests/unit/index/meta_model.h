/* SPDX-License-Identifier: Apache-2.0 */
/* Records in memory, an index over their metadata, and a plain evaluator that knows nothing of either's code: the truth about filters. */
#ifndef TESTS_UNIT_INDEX_META_MODEL_H
#define TESTS_UNIT_INDEX_META_MODEL_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "index/meta/meta_index.h"
#include "support/exact.h"
#include "support/text_rules.h"

#define MUST(call)                                                              \
    do {                                                                        \
        och_error must_err_ = {0};                                              \
        och_error *err = &must_err_;                                            \
        if ((call) != OCH_OK)                                                   \
            fail_msg("%s:%d: %s: %s", __FILE__, __LINE__, #call, err->message); \
    } while (0)

#define MODEL_KEYS     6
#define MODEL_ELEMENTS 3

/* ---- values ---- */

struct model_scalar {
    uint8_t kind; /* enum filter_value_kind */
    bool boolean;
    int64_t integer;
    double number;
    slice string;
};
struct model_value {
    uint8_t type; /* enum meta_type; 0: missing */
    uint32_t count;
    struct model_scalar at[MODEL_ELEMENTS]; /* one for scalars */
};
struct model {
    uint32_t rows;
    struct model_value (*values)[MODEL_KEYS];
    struct arena arena;
    struct buf *encoded; /* by row */
};
static const char *const model_keys[MODEL_KEYS] = {"", "a", "b", "city", "price", "z\xff"};

static inline void put_scalar(struct buf *out, const struct model_scalar *s, bool sized)
{
    if (s->kind == FILTER_BOOL)
        buf_byte(out, s->boolean);
    else if (s->kind == FILTER_INT)
        buf_u64(out, (uint64_t)s->integer);
    else if (s->kind == FILTER_FLOAT)
        buf_f64(out, s->number);
    else if (sized)
        buf_sized(out, s->string);
    else
        buf_slice(out, s->string);
}

static inline void model_encode(struct model *m, uint32_t row)
{
    struct buf *out = &m->encoded[row], value;
    uint32_t count = 0;
    buf_init(out, BUF_MAX_NONE);
    buf_init(&value, BUF_MAX_NONE);
    for (unsigned k = 0; k < MODEL_KEYS; k++)
        count += m->values[row][k].type != 0;
    if (!count && row % 2) /* no metadata at all, or a map of none */
        return;
    buf_varint(out, count);
    for (unsigned k = 0; k < MODEL_KEYS; k++) {
        const struct model_value *v = &m->values[row][k];
        if (!v->type)
            continue;
        buf_clear(&value);
        for (uint32_t i = 0; i < v->count; i++)
            put_scalar(&value, &v->at[i], v->type == META_STRINGS);
        if (v->type == META_SPARSE) { /* one index, one value, no tokens */
            buf_varint(&value, 1);
            buf_u32(&value, 7);
            buf_f32(&value, 0.5f);
            buf_byte(&value, 0);
        }
        buf_sized(out, slice_of(model_keys[k]));
        buf_byte(out, v->type);
        buf_sized(out, buf_view(&value));
    }
    buf_done(&value);
    assert_false(out->failed);
    MUST(meta_validate(buf_view(out), err));
}

static inline void model_init(struct model *m, uint32_t rows)
{
    m->rows = rows;
    m->values = calloc(rows + 1, sizeof(*m->values));
    m->encoded = calloc(rows + 1, sizeof(*m->encoded));
    arena_init(&m->arena, NULL, 0);
}

static inline void model_done(struct model *m)
{
    for (uint32_t i = 0; i < m->rows; i++)
        buf_done(&m->encoded[i]);
    free(m->values);
    free(m->encoded);
    arena_done(&m->arena);
}

/* ---- the truth ---- */

/* -2: nothing to compare. */
static inline int model_compare(const struct model_scalar *a, const struct model_scalar *b)
{
    if ((a->kind == FILTER_INT || a->kind == FILTER_FLOAT) &&
        (b->kind == FILTER_INT || b->kind == FILTER_FLOAT)) {
        exact_number x = a->kind == FILTER_INT ? (exact_number)a->integer : (exact_number)a->number;
        exact_number y = b->kind == FILTER_INT ? (exact_number)b->integer : (exact_number)b->number;
        return x != x || y != y ? -2 : x < y ? -1 : x > y;
    }
    if (a->kind != b->kind)
        return -2;
    if (a->kind == FILTER_BOOL)
        return a->boolean == b->boolean ? 0 : 1;
    return slice_equal(a->string, b->string) ? 0 : 1;
}

static inline struct model_scalar scalar_of(const struct filter_value *v)
{
    struct model_scalar s = {.kind = v->kind};
    if (v->kind == FILTER_BOOL)
        s.boolean = v->boolean;
    else if (v->kind == FILTER_INT)
        s.integer = v->integer;
    else if (v->kind == FILTER_FLOAT)
        s.number = v->number;
    else
        s.string = v->string;
    return s;
}

static inline bool model_any(const struct model_value *v, const struct filter_node *node)
{
    for (uint32_t i = 0; i < node->value_count; i++) {
        struct model_scalar operand = scalar_of(&node->values[i]);
        if (model_compare(&v->at[0], &operand) == 0)
            return true;
    }
    return false;
}

static inline bool model_leaf(const struct model_value *v, const struct filter_node *node)
{
    struct model_scalar operand = scalar_of(&node->values[0]);
    bool scalar = v->type >= META_BOOL && v->type <= META_STRING;
    bool number = v->type == META_INT || v->type == META_FLOAT;
    int order = scalar ? model_compare(&v->at[0], &operand) : -2;
    switch (node->op) {
    case FILTER_EQ:
    case FILTER_IN:
        return scalar && model_any(v, node);
    case FILTER_NE:
    case FILTER_NIN:
        return !(scalar && model_any(v, node));
    case FILTER_GT:
        return number && order == 1;
    case FILTER_GTE:
        return number && order >= 0;
    case FILTER_LT:
        return number && order == -1;
    case FILTER_LTE:
        return number && (order == -1 || order == 0);
    case FILTER_META_PREFIX:
        return v->type == META_STRING && slice_starts_with(v->at[0].string, operand.string);
    case FILTER_META_LIKE:
        return v->type == META_STRING && rule_like(v->at[0].string, operand.string);
    case FILTER_META_ICONTAINS:
        return v->type == META_STRING && rule_icontains(v->at[0].string, operand.string);
    case FILTER_META_REGEX: /* tests ask for ".." only: two characters, none of them a line feed */
        return v->type == META_STRING && rule_like(v->at[0].string, SLICE("%__%"));
    case FILTER_EXISTS:
        return (v->type != 0) == operand.boolean;
    default: {
        bool found = false;
        for (uint32_t i = 0; !scalar && i < v->count; i++)
            found =
                found || (v->at[i].kind == operand.kind && model_compare(&v->at[i], &operand) == 0);
        return found == (node->op == FILTER_CONTAINS);
    }
    }
}

/* Leaves that others answer: a document predicate is true of rows whose number is a multiple of 3, an id predicate of multiples of 7. */
static inline bool model_other(uint32_t row, uint8_t op)
{
    switch (op) {
    case FILTER_DOC_CONTAINS:
        return row % 3 == 0;
    case FILTER_DOC_NOT_CONTAINS:
        return row % 3 != 0;
    case FILTER_ID_IN:
        return row % 7 == 0;
    default:
        return row % 7 != 0;
    }
}

static inline bool model_matches(const struct model *m, uint32_t row,
                                 const struct filter_node *node)
{
    bool all = true, any = false;
    if (node->op == FILTER_NOT)
        return !model_matches(m, row, node->children[0]);
    if (node->op == FILTER_AND || node->op == FILTER_OR) {
        for (uint32_t i = 0; i < node->child_count; i++) {
            bool child = model_matches(m, row, node->children[i]);
            all = all && child;
            any = any || child;
        }
        return node->op == FILTER_AND ? all : any;
    }
    if (node->op >= FILTER_ID_IN)
        return model_other(row, node->op);
    static const struct model_value missing;
    const struct model_value *value = &missing;
    for (unsigned k = 0; k < MODEL_KEYS; k++) {
        if (node->key.len && slice_equal(slice_of(model_keys[k]), node->key))
            value = &m->values[row][k];
    }
    return model_leaf(value, node);
}

/* ---- an index in memory ---- */

struct section {
    struct buf bytes;
    uint64_t dir_len;
    uint32_t passes;
    struct meta_index index;
    struct meta_pages pages;
    uint64_t reads, read_bytes, held; /* counted by the pages */
    uint8_t *copies[4096];            /* pages handed out, each in memory of its own size */
};

static inline och_code section_emit(void *context, const void *at, size_t len, och_error *err)
{
    struct section *s = context;
    buf_append(&s->bytes, at, len);
    return buf_check(&s->bytes, "a test", err);
}

/* A copy of exactly the bytes asked for, so that the sanitizers see a read past them. */
static inline och_code section_at(void *context, uint64_t offset, size_t len,
                                  const uint8_t **ret_at, och_error *err)
{
    struct section *s = context;
    (void)err;
    assert_true(offset <= s->bytes.len && len <= s->bytes.len - offset);
    assert_true(s->held < COUNT_OF(s->copies));
    uint8_t *copy = malloc(len ? len : 1);
    memcpy(copy, s->bytes.at + offset, len);
    s->copies[s->held++] = copy;
    s->reads++;
    s->read_bytes += len;
    *ret_at = copy;
    return OCH_OK;
}

static inline void section_release(void *context)
{
    struct section *s = context;
    while (s->held)
        free(s->copies[--s->held]);
}

/* Rows by a callback, so that big ones need no model.  False: the builder wanted no index. */
static inline bool section_build(struct section *s, uint32_t rows,
                                 slice (*metadata)(void *context, uint32_t row), void *context,
                                 size_t work_bytes, struct budget *budget)
{
    struct meta_build *build;
    struct meta_build_options options = {
        .rows = rows, .budget = budget, .work_bytes = work_bytes ? work_bytes : SIZE_MAX};
    memset(s, 0, sizeof(*s));
    buf_init(&s->bytes, BUF_MAX_NONE);
    MUST(meta_build_new(&options, &build, err));
    bool more = true;
    for (; more; s->passes++) {
        for (uint32_t row = 0; row < rows; row++)
            MUST(meta_build_row(build, metadata(context, row), err));
        MUST(meta_build_pass_end(build, section_emit, s, &more, err));
    }
    bool wanted = meta_build_wanted(build);
    if (wanted)
        MUST(meta_build_finish(build, section_emit, s, &s->dir_len, err));
    meta_build_free(build);
    s->pages = (struct meta_pages){s, section_at, section_release};
    if (wanted)
        assert_true(
            meta_index_open(slice_make(s->bytes.at + s->bytes.len - s->dir_len, (size_t)s->dir_len),
                            s->bytes.len, rows, &s->index));
    return wanted;
}

static inline void section_done(struct section *s)
{
    section_release(s);
    buf_done(&s->bytes);
}

static inline slice model_metadata(void *context, uint32_t row)
{
    const struct model *m = context;
    return buf_view(&m->encoded[row]);
}

/* Bits of all rows: sure ones, and those that may. */
static inline och_code section_search(struct section *s, const struct filter_node *node,
                                      rows_leaf other, void *context, enum meta_force force,
                                      struct meta_search *search, uint64_t *sure, uint64_t *maybe,
                                      struct arena *arena, och_error *err)
{
    struct meta_search_options options = {.index = &s->index,
                                          .pages = &s->pages,
                                          .rows = s->index.rows,
                                          .other = other,
                                          .other_context = context,
                                          .force = force};
    /* filters that are not sound go without */
    CLEANUP(filter_cleanup) struct filter *compiled = NULL;
    if (filter_compile(node, &compiled, NULL) == OCH_OK)
        options.compiled = compiled;
    TRY(meta_search_init(search, &options, node, arena, err));
    for (uint32_t chunk = 0; chunk * META_CHUNK < s->index.rows; chunk++) {
        uint64_t *chunk_sure = sure + (size_t)chunk * META_CHUNK_WORDS,
                 *chunk_maybe = maybe + (size_t)chunk * META_CHUNK_WORDS;
        bool empty = meta_search_is_empty(search, chunk); /* said before it is looked at */
        TRY(meta_search_chunk(search, chunk, chunk_sure, chunk_maybe, err));
        for (uint32_t i = 0; empty && i < META_CHUNK_WORDS; i++) {
            if (i < bitset_words(s->index.rows) - chunk * META_CHUNK_WORDS)
                assert_true(!chunk_sure[i] && (search->exact || !chunk_maybe[i]));
        }
    }
    if (search->exact)
        memcpy(maybe, sure, bitset_words(s->index.rows) * 8);
    return OCH_OK;
}
#endif
