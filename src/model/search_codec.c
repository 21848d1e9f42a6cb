/* SPDX-License-Identifier: Apache-2.0 */
/* Searches as bytes and back: the last section of a plan that is one.  docs/formats/plan.md. */
#include "model/search.h"

#include "model/limits.h"
#include "model/plan.h"
#include "model/record.h"

enum knn_flag {
    KNN_SPARSE = 1,
    KNN_FALLBACK = 2,
    KNN_RETURN_RANK = 4,
    KNN_BM25 = 8,
    KNN_TEXT = 16,
    KNN_MAX = 32,
    KNN_FLAGS_ALL = 63
};

static void encode_keys(const slice *keys, uint32_t count, struct buf *out)
{
    buf_varint(out, count);
    for (uint32_t i = 0; i < count; i++)
        buf_sized(out, keys[i]);
}

static void encode_knn(const struct search_knn *knn, struct buf *out)
{
    buf_byte(out,
             (uint8_t)((knn->sparse ? KNN_SPARSE : 0) | (knn->has_fallback ? KNN_FALLBACK : 0) |
                       (knn->return_rank ? KNN_RETURN_RANK : 0) | (knn->bm25 ? KNN_BM25 : 0) |
                       (knn->text ? KNN_TEXT : 0) | (knn->has_max ? KNN_MAX : 0)));
    buf_varint(out, knn->limit);
    if (knn->has_fallback)
        buf_f32(out, knn->fallback);
    if (knn->has_max)
        buf_f32(out, knn->max_distance);
    if (knn->text) {
        buf_sized(out, knn->words);
        return;
    }
    buf_varint(out, knn->count);
    for (uint32_t i = 0; i < knn->count; i++)
        buf_f32(out, knn->values[i]);
    if (!knn->sparse)
        return;
    buf_sized(out, knn->key);
    for (uint32_t i = 0; i < knn->count; i++)
        buf_u32(out, knn->indices[i]);
}

static void encode_rank(const struct search *search, struct buf *out)
{
    buf_varint(out, search->knn_count);
    for (uint32_t i = 0; i < search->knn_count; i++)
        encode_knn(&search->knns[i], out);
    buf_varint(out, search->step_count);
    for (uint32_t i = 0; i < search->step_count; i++) {
        const struct rank_step *step = &search->steps[i];
        buf_byte(out, step->op);
        if (step->op == RANK_VAL)
            buf_f32(out, step->value);
        if (step->op == RANK_KNN)
            buf_varint(out, step->knn);
    }
}

void search_encode(const struct search *searches, uint32_t count, struct buf *out)
{
    buf_varint(out, count);
    for (uint32_t i = 0; i < count; i++) {
        const struct search *search = &searches[i];
        const struct search_group *group = &search->group;
        filter_encode(search->filter, out);
        buf_byte(out, search->has_rank);
        if (search->has_rank)
            encode_rank(search, out);
        buf_byte(out, group->aggregate);
        if (group->aggregate) {
            encode_keys(group->keys, group->key_count, out);
            encode_keys(group->order, group->order_count, out);
            buf_varint(out, group->k);
        }
        buf_varint(out, search->limit);
        buf_varint(out, search->offset);
        buf_varint(out, search->fields);
    }
}

/* ---- reading ---- */

static och_code fail(och_error *err, const char *what)
{
    return FAIL(err, OCH_CORRUPT, "plan: a search: %s", what);
}

/* A count of things of at least `size` bytes each. */
static och_code decode_count(struct reader *reader, size_t size, uint64_t most, uint32_t *ret,
                             och_error *err)
{
    uint64_t count = reader_varint(reader);
    if (reader->failed || count > most || count > reader_left(reader) / size)
        return fail(err, "a count out of range");
    *ret = (uint32_t)count;
    return OCH_OK;
}

static och_code decode_keys(struct reader *reader, struct arena *arena, const slice **ret_keys,
                            uint32_t *ret_count, och_error *err)
{
    TRY(decode_count(reader, 1, LIMIT_SEARCH_KEYS, ret_count, err));
    slice *keys = ARENA_ARRAY(arena, slice, (size_t)*ret_count + 1);
    if (!keys)
        return FAIL_NO_MEMORY(err, "a search");
    for (uint32_t i = 0; i < *ret_count; i++)
        keys[i] = reader_sized(reader);
    *ret_keys = keys;
    return OCH_OK;
}

static och_code decode_knn(struct reader *reader, struct arena *arena, struct search_knn *knn,
                           och_error *err)
{
    uint8_t flags = reader_u8(reader);
    uint64_t limit = reader_varint(reader);
    if (flags > KNN_FLAGS_ALL || limit > UINT32_MAX)
        return fail(err, "a value out of range");
    *knn = (struct search_knn){.sparse = flags & KNN_SPARSE,
                               .has_fallback = flags & KNN_FALLBACK,
                               .return_rank = flags & KNN_RETURN_RANK,
                               .bm25 = flags & KNN_BM25,
                               .text = flags & KNN_TEXT,
                               .has_max = flags & KNN_MAX,
                               .limit = (uint32_t)limit};
    if (knn->bm25 && !knn->sparse)
        return fail(err, "idf without a sparse vector");
    if (knn->text && knn->sparse)
        return fail(err, "a text that is a sparse vector");
    if (knn->has_fallback) {
        const uint8_t *at = reader_skip(reader, 4);
        knn->fallback = at ? load_f32(at) : 0;
    }
    if (knn->has_max) {
        const uint8_t *at = reader_skip(reader, 4);
        knn->max_distance = at ? load_f32(at) : 0;
    }
    if (knn->text) {
        knn->words = reader_sized(reader);
        return OCH_OK;
    }
    TRY(decode_count(reader, 4, knn->sparse ? UINT32_MAX : LIMIT_DIMENSION_MAX, &knn->count, err));
    float *values = arena_alloc_aligned(arena, 64, ((size_t)knn->count + 1) * sizeof(float));
    if (!values)
        return FAIL_NO_MEMORY(err, "a search");
    for (uint32_t i = 0; i < knn->count; i++)
        values[i] = load_f32(reader_skip(reader, 4)); /* there: counted above */
    knn->values = values;
    if (!knn->sparse)
        return OCH_OK;
    knn->key = reader_sized(reader);
    const uint8_t *at = reader_skip(reader, (size_t)knn->count * 4);
    uint32_t *indices = ARENA_ARRAY(arena, uint32_t, (size_t)knn->count + 1);
    if (!indices)
        return FAIL_NO_MEMORY(err, "a search");
    for (uint32_t i = 0; at && i < knn->count; i++) {
        indices[i] = load_u32(at + (size_t)i * 4);
        if (i && indices[i] <= indices[i - 1])
            return fail(err, "a sparse vector out of order");
    }
    knn->indices = indices;
    knn->index_count = knn->count;
    return OCH_OK;
}

static och_code decode_rank(struct reader *reader, struct arena *arena, struct search *search,
                            och_error *err)
{
    TRY(decode_count(reader, 1, LIMIT_SEARCH_KNN, &search->knn_count, err));
    search->knns = ARENA_ARRAY(arena, struct search_knn, (size_t)search->knn_count + 1);
    if (!search->knns)
        return FAIL_NO_MEMORY(err, "a search");
    for (uint32_t i = 0; i < search->knn_count; i++)
        TRY(decode_knn(reader, arena, &search->knns[i], err));
    TRY(decode_count(reader, 1, LIMIT_SEARCH_STEPS, &search->step_count, err));
    struct rank_step *steps = ARENA_ARRAY(arena, struct rank_step, (size_t)search->step_count + 1);
    if (!steps)
        return FAIL_NO_MEMORY(err, "a search");
    for (uint32_t i = 0; i < search->step_count; i++) {
        steps[i].op = reader_u8(reader);
        if (steps[i].op == RANK_VAL) {
            const uint8_t *at = reader_skip(reader, 4);
            steps[i].value = at ? load_f32(at) : 0;
        } else if (steps[i].op == RANK_KNN) {
            uint64_t knn = reader_varint(reader);
            if (knn >= search->knn_count)
                return fail(err, "an unknown $knn");
            steps[i].knn = (uint32_t)knn;
        }
    }
    search->steps = steps;
    if (reader->failed || !rank_sound(steps, search->step_count, search->knn_count))
        return fail(err, "no rank expression");
    return OCH_OK;
}

static och_code decode_one(struct reader *reader, struct arena *arena, struct search *search,
                           och_error *err)
{
    struct filter_node *filter;
    struct search_group *group = &search->group;
    TRY(filter_decode(reader, arena, &filter, err));
    search->filter = filter;
    uint8_t has_rank = reader_u8(reader);
    if (has_rank > 1)
        return fail(err, "a value out of range");
    search->has_rank = has_rank;
    if (has_rank)
        TRY(decode_rank(reader, arena, search, err));
    group->aggregate = reader_u8(reader);
    if (group->aggregate > SEARCH_MAX_K || (group->aggregate && !has_rank))
        return fail(err, "groups of a kind unknown");
    if (group->aggregate) {
        TRY(decode_keys(reader, arena, &group->keys, &group->key_count, err));
        TRY(decode_keys(reader, arena, &group->order, &group->order_count, err));
        uint64_t k = reader_varint(reader);
        if (!group->key_count || !group->order_count || k == 0 || k > UINT32_MAX)
            return fail(err, "groups without keys or k");
        group->k = (uint32_t)k;
    }
    search->limit = reader_varint(reader);
    search->offset = reader_varint(reader);
    uint64_t fields = reader_varint(reader);
    if (reader->failed || fields > RECORD_ALL)
        return fail(err, "cut short");
    search->fields = (unsigned)fields;
    return OCH_OK;
}

och_code search_decode(struct reader *reader, struct arena *arena, struct search **ret_searches,
                       uint32_t *ret_count, och_error *err)
{
    TRY(decode_count(reader, 6, LIMIT_SEARCHES, ret_count, err));
    *ret_searches = ARENA_ARRAY(arena, struct search, (size_t)*ret_count + 1);
    if (!*ret_searches)
        return FAIL_NO_MEMORY(err, "a search");
    for (uint32_t i = 0; i < *ret_count; i++)
        TRY(decode_one(reader, arena, &(*ret_searches)[i], err));
    return OCH_OK;
}
