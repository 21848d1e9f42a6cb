/* SPDX-License-Identifier: Apache-2.0 */
/* The plan of a read as bytes and back.  docs/formats/plan.md. */
#include "model/plan.h"

#include "model/limits.h"
#include "model/record.h"

#define PLAN_VERSION 1
enum plan_flag {
    PLAN_HAS_IDS = 1,
    PLAN_EXPLAIN = 2,
    PLAN_BARE = 4,
    PLAN_ORDERED = 8,
    PLAN_BOUNDED = 16,
    PLAN_FLAGS_ALL = 31
};

och_code plan_aim(struct plan *plan, double recall, och_error *err)
{
    if (!(recall >= 0.5 && recall <= 1))
        return FAIL(err, OCH_INVALID, "recall must be a number from 0.5 to 1 (1: exact)");
    plan->recall = (float)recall;
    return OCH_OK;
}

static bool is_ordered(const struct plan *plan)
{
    return plan->order.by || plan->order.descending || plan->has_after;
}

static bool is_bounded(const struct plan *plan)
{
    return plan->has_max || plan->mmr_candidates;
}

static void encode_bounds(const struct plan *plan, struct buf *out)
{
    buf_byte(out, (uint8_t)((plan->has_max ? 1 : 0) | (plan->mmr_candidates ? 2 : 0)));
    if (plan->has_max)
        buf_f32(out, plan->max_distance);
    if (!plan->mmr_candidates)
        return;
    buf_f32(out, plan->mmr_lambda);
    buf_varint(out, plan->mmr_candidates);
}

static float read_f32(struct reader *reader)
{
    const uint8_t *at = reader_skip(reader, 4);
    return at ? load_f32(at) : 0;
}

static bool decode_bounds(struct reader *reader, struct plan *plan)
{
    uint8_t what = reader_u8(reader);
    plan->has_max = what & 1;
    if (plan->has_max)
        plan->max_distance = read_f32(reader);
    if (what & 2) {
        plan->mmr_lambda = read_f32(reader);
        uint64_t candidates = reader_varint(reader);
        if (!candidates || candidates > LIMIT_MMR_CANDIDATES ||
            !(plan->mmr_lambda >= 0 && plan->mmr_lambda <= 1))
            return false;
        plan->mmr_candidates = (uint32_t)candidates;
    }
    return !reader->failed && what && what <= 3;
}

void plan_encode(const struct plan *plan, struct buf *out)
{
    buf_byte(out, PLAN_VERSION);
    buf_byte(out, plan->kind);
    buf_byte(out, plan->level);
    buf_byte(out,
             (uint8_t)((plan->has_ids ? PLAN_HAS_IDS : 0) | (plan->explain ? PLAN_EXPLAIN : 0) |
                       (plan->bare ? PLAN_BARE : 0) | (is_ordered(plan) ? PLAN_ORDERED : 0) |
                       (is_bounded(plan) ? PLAN_BOUNDED : 0)));
    buf_append(out, plan->collection.bytes, sizeof(plan->collection.bytes));
    buf_varint(out, plan->fields);
    buf_varint(out, plan->limit);
    buf_varint(out, plan->offset);
    buf_varint(out, plan->k);
    buf_f32(out, plan->recall);
    if (is_ordered(plan))
        plan_order_encode(plan, out);
    if (is_bounded(plan))
        encode_bounds(plan, out);
    if (plan->has_ids) {
        buf_varint(out, plan->id_count);
        for (uint64_t i = 0; i < plan->id_count; i++)
            buf_sized(out, plan->ids[i]);
    }
    filter_encode(plan->filter, out);
    buf_varint(out, plan->vector_count);
    buf_varint(out, plan->dimension);
    static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "vectors are copied as they lie");
    size_t size = (size_t)plan->vector_count * plan->dimension * sizeof(float);
    if (size)
        buf_append(out, plan->vectors, size);
    if (plan->kind == PLAN_SEARCH)
        search_encode(plan->searches, plan->search_count, out);
    if (plan->kind == PLAN_FACETS)
        plan_facets_encode(plan, out);
}

static och_code fail(och_error *err, const char *what)
{
    return FAIL(err, OCH_CORRUPT, "plan: %s", what);
}

static och_code decode_head(struct reader *reader, struct plan *plan, och_error *err)
{
    uint8_t version = reader_u8(reader);
    if (!reader->failed && version != PLAN_VERSION)
        return FAIL(err, OCH_CORRUPT, "plan: version %u is unknown", version);
    plan->kind = reader_u8(reader);
    plan->level = reader_u8(reader);
    uint8_t flags = reader_u8(reader);
    const uint8_t *collection = reader_skip(reader, sizeof(plan->collection.bytes));
    uint64_t fields = reader_varint(reader);
    plan->limit = reader_varint(reader);
    plan->offset = reader_varint(reader);
    uint64_t k = reader_varint(reader);
    const uint8_t *recall = reader_skip(reader, 4);
    if (reader->failed)
        return fail(err, "cut short");
    if (plan->kind < PLAN_GET || plan->kind > PLAN_FACETS)
        return fail(err, "unknown kind");
    if (plan->level > READ_BOUNDED_WAL || flags > PLAN_FLAGS_ALL || fields > RECORD_ALL ||
        k > UINT32_MAX)
        return fail(err, "a value out of range");
    memcpy(plan->collection.bytes, collection, sizeof(plan->collection.bytes));
    plan->has_ids = flags & PLAN_HAS_IDS;
    plan->explain = flags & PLAN_EXPLAIN;
    plan->bare = flags & PLAN_BARE;
    plan->fields = (unsigned)fields;
    plan->k = (uint32_t)k;
    plan->recall = load_f32(recall);
    if (!(plan->recall >= 0.0f && plan->recall <= 1.0f))
        return fail(err, "recall is not within 0 to 1");
    if ((flags & PLAN_ORDERED) && !plan_order_decode(reader, plan))
        return fail(err, "an order that is none");
    if ((flags & PLAN_BOUNDED) && !decode_bounds(reader, plan))
        return fail(err, "bounds that are none");
    return OCH_OK;
}

static och_code decode_ids(struct reader *reader, struct arena *arena, struct plan *plan,
                           och_error *err)
{
    uint64_t count = reader_varint(reader);
    if (reader->failed || count > reader_left(reader)) /* each takes a byte or more */
        return fail(err, "cut short in its ids");
    slice *ids = ARENA_ARRAY(arena, slice, (size_t)count);
    if (!ids)
        return FAIL_NO_MEMORY(err, "a plan");
    for (uint64_t i = 0; i < count; i++)
        ids[i] = reader_sized(reader);
    if (reader->failed)
        return fail(err, "cut short in its ids");
    plan->ids = ids;
    plan->id_count = count;
    return OCH_OK;
}

static och_code decode_vectors(struct reader *reader, struct arena *arena, struct plan *plan,
                               och_error *err)
{
    uint64_t count = reader_varint(reader), dimension = reader_varint(reader);
    if (reader->failed || count > UINT32_MAX || dimension > LIMIT_DIMENSION_MAX)
        return fail(err, "vectors out of range");
    uint64_t size = count * dimension * sizeof(float);
    if (plan->kind >= PLAN_SEARCH ? count != 0 : size != reader_left(reader))
        return fail(err, "its vectors do not fill it");
    plan->vector_count = (uint32_t)count;
    plan->dimension = (uint32_t)dimension;
    if (size == 0)
        return OCH_OK;
    float *vectors = arena_alloc_aligned(arena, 64, (size_t)size);
    if (!vectors)
        return FAIL_NO_MEMORY(err, "a plan");
    memcpy(vectors, reader_skip(reader, (size_t)size), (size_t)size);
    plan->vectors = vectors;
    return OCH_OK;
}

och_code plan_decode(slice encoded, struct arena *arena, struct plan *ret_plan, och_error *err)
{
    struct plan plan = {0};
    struct reader reader = reader_of(encoded);
    struct filter_node *filter;
    TRY(decode_head(&reader, &plan, err));
    if (plan.has_ids)
        TRY(decode_ids(&reader, arena, &plan, err));
    TRY(filter_decode(&reader, arena, &filter, err));
    plan.filter = filter;
    TRY(decode_vectors(&reader, arena, &plan, err));
    if (plan.kind == PLAN_SEARCH) {
        struct search *searches;
        TRY(search_decode(&reader, arena, &searches, &plan.search_count, err));
        plan.searches = searches;
        if (reader_left(&reader))
            return fail(err, "bytes behind its searches");
    }
    if (plan.kind == PLAN_FACETS)
        TRY(plan_facets_decode(&reader, arena, &plan, err));
    *ret_plan = plan;
    return OCH_OK;
}
