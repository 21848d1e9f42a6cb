/* SPDX-License-Identifier: Apache-2.0 */
/* Rank expressions from JSON into steps: a walk with a stack of its own, one frame an open node, so that depth costs no C stack. */
#include "model/search_internal.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>

static const struct {
    const char *name;
    uint8_t op;
    uint8_t operands; /* 0: a leaf, 1, 2: left and right, 3: a list */
    float seed;
} nodes[] = {
    {"$abs", RANK_ABS, 1, 0},        {"$bm25", RANK_KNN, 0, 0},      {"$div", RANK_DIV, 2, 0},
    {"$exp", RANK_EXP, 1, 0},        {"$knn", RANK_KNN, 0, 0},       {"$log", RANK_LOG, 1, 0},
    {"$max", RANK_MAX, 3, -FLT_MAX}, {"$min", RANK_MIN, 3, FLT_MAX}, {"$mul", RANK_MUL, 3, 1},
    {"$sub", RANK_SUB, 2, 0},        {"$sum", RANK_ADD, 3, 0},       {"$val", RANK_VAL, 0, 0},
};
enum { LEAF, ONE, LEFT_RIGHT, LIST };

struct frame {
    const struct json_value *operands[2]; /* ONE, LEFT_RIGHT */
    const struct json_value *list;        /* LIST */
    uint32_t next;
    uint8_t node; /* index in `nodes` */
};

struct walk {
    struct search_parser *p;
    struct frame *frames; /* JSON_DEPTH_MAX */
    uint32_t depth;
    struct rank_step *steps;
    struct search_knn *knns;
    uint32_t step_count, step_room, knn_count, knn_room;
};

/* Where the walk is: ".rank.$sum[1].$sub.left". */
static const char *path_of(const struct walk *w, const char *last)
{
    struct buf text;
    buf_init(&text, BUF_MAX_NONE);
    buf_text(&text, ".rank");
    for (uint32_t i = 0; i < w->depth; i++) {
        const struct frame *f = &w->frames[i];
        buf_printf(&text, ".%s", nodes[f->node].name);
        if (nodes[f->node].operands == LIST)
            buf_printf(&text, "[%" PRIu32 "]", f->next - 1);
        else if (nodes[f->node].operands == LEFT_RIGHT)
            buf_text(&text, f->next == 1 ? ".left" : ".right");
    }
    buf_text(&text, last);
    if (text.len > 300) { /* its end says more */
        buf_byte(&text, 0);
        const char *end = text.failed ? NULL : (const char *)text.at + text.len - 251;
        const char *cut = end ? arena_printf(w->p->arena, ".rank...%s", end) : NULL;
        buf_done(&text);
        return cut ? cut : ".rank";
    }
    slice whole = arena_copy(w->p->arena, buf_view(&text));
    buf_done(&text);
    return whole.at ? (const char *)whole.at : ".rank";
}

static och_code grow(struct walk *w, void **at, uint32_t count, uint32_t *room, size_t size)
{
    if (count < *room)
        return OCH_OK;
    uint32_t more = *room ? *room * 2 : 16;
    void *grown = arena_array(w->p->arena, more, size);
    if (!grown)
        return FAIL_NO_MEMORY(w->p->err, "a rank expression");
    if (count)
        memcpy(grown, *at, count * size);
    *at = grown;
    *room = more;
    return OCH_OK;
}

static och_code too_many(struct walk *w, const char *what, int most)
{
    return FAIL(w->p->err, OCH_QUOTA,
                "Quota exceeded: searches[%" PRIu32
                "].rank: the rank expressions of a request may hold %d %s",
                w->p->index, most, what);
}

static och_code emit(struct walk *w, struct rank_step step)
{
    if (++w->p->steps > LIMIT_SEARCH_STEPS)
        return too_many(w, "operations", LIMIT_SEARCH_STEPS);
    TRY(grow(w, (void **)(void *)&w->steps, w->step_count, &w->step_room, sizeof(step)));
    w->steps[w->step_count++] = step;
    return OCH_OK;
}

/* ---- $knn ---- */

static bool to_f32(const struct json_value *value, float *ret)
{
    if (value->kind != JSON_INT && value->kind != JSON_FLOAT)
        return false;
    double number = value->kind == JSON_INT ? (double)value->integer : value->number;
    *ret = (float)number;
    return true;
}

/* Floats of a list; false when one is none. */
static bool to_floats(struct walk *w, const struct json_value *list, const float **ret, bool *ok)
{
    float *values = arena_alloc_aligned(w->p->arena, 64, ((size_t)list->count + 1) * sizeof(float));
    *ok = values != NULL;
    for (uint32_t i = 0; values && i < list->count; i++) {
        if (!to_f32(&list->items[i], &values[i]))
            return false;
    }
    *ret = values;
    return true;
}

static bool to_indices(struct walk *w, const struct json_value *list, const uint32_t **ret,
                       bool *ok)
{
    uint32_t *indices = ARENA_ARRAY(w->p->arena, uint32_t, (size_t)list->count + 1);
    *ok = indices != NULL;
    for (uint32_t i = 0; indices && i < list->count; i++) {
        const struct json_value *item = &list->items[i];
        if (item->kind != JSON_INT || item->integer < 0 || item->integer > UINT32_MAX)
            return false;
        indices[i] = (uint32_t)item->integer;
    }
    *ret = indices;
    return true;
}

static const char *const lengths_differ =
    "Sparse vector indices, values, and tokens (when present) must have the same length";

static och_code read_sparse(struct walk *w, const struct json_value *value, struct search_knn *knn,
                            bool *ret_fits)
{
    const struct json_value *indices = json_get(value, SLICE("indices")),
                            *values = json_get(value, SLICE("values")),
                            *tokens = json_get(value, SLICE("tokens")),
                            *type = json_get(value, SLICE("#type"));
    bool room = true;
    *ret_fits = false;
    if (!indices || indices->kind != JSON_ARRAY || !values || values->kind != JSON_ARRAY ||
        (type && (type->kind != JSON_STRING || !slice_equal(type->string, SLICE("sparse_vector")))))
        return OCH_OK;
    if (tokens && tokens->kind == JSON_NULL)
        tokens = NULL;
    if (tokens && tokens->kind != JSON_ARRAY)
        return OCH_OK;
    for (uint32_t i = 0; tokens && i < tokens->count; i++)
        if (tokens->items[i].kind != JSON_STRING)
            return OCH_OK;
    *ret_fits = to_indices(w, indices, &knn->indices, &room) && room &&
                to_floats(w, values, &knn->values, &room);
    if (!room)
        return FAIL_NO_MEMORY(w->p->err, "a sparse vector");
    knn->sparse = true;
    knn->index_count = indices->count;
    knn->count = values->count;
    if (tokens && tokens->count != indices->count) {
        och_error err = {0};
        och_code code = FAIL(&err, OCH_INVALID,
                             "Validation error: searches[%" PRIu32
                             "].rank: Invalid sparse vector in KNN query: %s",
                             w->p->index, lengths_differ);
        search_late(w->p, code, &err);
    }
    return OCH_OK;
}

static och_code read_query(struct walk *w, const struct json_value *query, struct search_knn *knn)
{
    bool fits = false, room = true;
    if (query->kind == JSON_ARRAY) {
        fits = to_floats(w, query, &knn->values, &room);
        knn->count = query->count;
    } else if (query->kind == JSON_OBJECT) {
        TRY(read_sparse(w, query, knn, &fits));
    }
    if (!room)
        return FAIL_NO_MEMORY(w->p->err, "a query vector");
    if (fits)
        return OCH_OK;
    return search_fail(w->p, query, path_of(w, ".$knn.query"),
                       "data did not match any variant of untagged enum QueryVector: %s; write an "
                       "array of numbers or {\"indices\": [...], \"values\": [...]}",
                       json_describe(query, w->p->arena));
}

/* What `$knn` and `$bm25` have in common. */
static och_code read_list(struct walk *w, const char *name, const struct json_value *limit,
                          const struct json_value *fallback, const struct json_value *return_rank,
                          struct search_knn *knn)
{
    struct search_parser *p = w->p;
    if (limit)
        TRY(search_u32(p, limit, path_of(w, arena_printf(p->arena, ".%s.limit", name)),
                       &knn->limit));
    if (fallback && fallback->kind != JSON_NULL) {
        if (!to_f32(fallback, &knn->fallback))
            return search_wrong_type(
                p, fallback, path_of(w, arena_printf(p->arena, ".%s.default", name)), "f32");
        knn->has_fallback = true;
    }
    if (return_rank && return_rank->kind != JSON_BOOL)
        return search_wrong_type(p, return_rank,
                                 path_of(w, arena_printf(p->arena, ".%s.return_rank", name)),
                                 "a boolean");
    knn->return_rank = return_rank && return_rank->boolean;
    if (++p->knns > LIMIT_SEARCH_KNN)
        return too_many(w, "$knn", LIMIT_SEARCH_KNN);
    TRY(grow(w, (void **)(void *)&w->knns, w->knn_count, &w->knn_room, sizeof(*knn)));
    w->knns[w->knn_count++] = *knn;
    return emit(w, (struct rank_step){.op = RANK_KNN, .knn = w->knn_count - 1});
}

static och_code read_bm25(struct walk *w, const struct json_value *value)
{
    struct search_parser *p = w->p;
    const struct json_value *query, *limit, *fallback, *return_rank;
    const struct search_member members[] = {{"query", &query},
                                            {"limit", &limit},
                                            {"default", &fallback},
                                            {"return_rank", &return_rank}};
    struct search_knn knn = {.limit = LIMIT_SEARCH_KNN_DEFAULT, .text = true};
    TRY(search_members(p, value, path_of(w, ".$bm25"), "struct variant RankExpr::Bm25", members,
                       COUNT_OF(members)));
    if (!query)
        return search_fail(p, value, path_of(w, ".$bm25"), "missing field `query`");
    if (query->kind != JSON_STRING)
        return search_wrong_type(p, query, path_of(w, ".$bm25.query"), "a string");
    knn.words = query->string;
    return read_list(w, "$bm25", limit, fallback, return_rank, &knn);
}

static och_code read_knn(struct walk *w, const struct json_value *value)
{
    struct search_parser *p = w->p;
    const struct json_value *query, *key, *limit, *fallback, *return_rank, *max;
    const struct search_member members[] = {{"query", &query},      {"key", &key},
                                            {"max_distance", &max}, {"limit", &limit},
                                            {"default", &fallback}, {"return_rank", &return_rank}};
    struct search_knn knn = {.limit = LIMIT_SEARCH_KNN_DEFAULT, .key = SLICE("#embedding")};
    TRY(search_members(p, value, path_of(w, ".$knn"), "struct variant RankExpr::Knn", members,
                       COUNT_OF(members)));
    if (!query)
        return search_fail(p, value, path_of(w, ".$knn"), "missing field `query`");
    TRY(read_query(w, query, &knn));
    if (key && key->kind != JSON_STRING)
        return search_wrong_type(p, key, path_of(w, ".$knn.key"), "a string");
    if (key)
        knn.key = key->string;
    knn.has_max = max && max->kind != JSON_NULL;
    if (knn.has_max && !to_f32(max, &knn.max_distance))
        return search_wrong_type(p, max, path_of(w, ".$knn.max_distance"), "f32");
    return read_list(w, "$knn", limit, fallback, return_rank, &knn);
}

/* ---- nodes ---- */

static och_code find_node(struct walk *w, const struct json_value *value, uint8_t *ret_node)
{
    struct search_parser *p = w->p;
    if (value->kind != JSON_OBJECT)
        return search_wrong_type(p, value, path_of(w, ""), "enum RankExpr");
    if (value->count != 1)
        return FAIL(p->err, OCH_INVALID,
                    "Failed to parse the request body as JSON: searches[%" PRIu32
                    "]%s: expected one operator, got %" PRIu32
                    " members. Write {\"$sum\": [{...}, {...}]} to combine",
                    p->index, path_of(w, ""), value->count);
    slice name = value->members[0].name;
    for (size_t i = 0; i < COUNT_OF(nodes); i++) {
        if (slice_equal(name, slice_of(nodes[i].name))) {
            *ret_node = (uint8_t)i;
            return OCH_OK;
        }
    }
    och_code code =
        search_fail(p, value, path_of(w, ""),
                    "unknown variant `%.*s`, expected one of `$abs`, `$div`, `$exp`, `$knn`, "
                    "`$log`, `$max`, `$min`, `$mul`, `$sub`, `$sum`, `$val`",
                    (int)min_size(name.len, 40), (const char *)name.at);
    error_hint(p->err, "One more is `$bm25`."); /* of our own; the list is that of the original */
    return code;
}

static och_code read_val(struct walk *w, const struct json_value *value)
{
    float number;
    if (!to_f32(value, &number))
        return search_wrong_type(w->p, value, path_of(w, ".$val"), "f32");
    return emit(w, (struct rank_step){.op = RANK_VAL, .value = number});
}

/* A leaf is emitted, another node becomes a frame. */
static och_code open_node(struct walk *w, const struct json_value *value)
{
    uint8_t node = 0;
    TRY(find_node(w, value, &node));
    const struct json_value *body = &value->members[0].value;
    if (nodes[node].op == RANK_KNN)
        return nodes[node].name[1] == 'b' ? read_bm25(w, body) : read_knn(w, body);
    if (nodes[node].op == RANK_VAL)
        return read_val(w, body);
    if (w->depth == JSON_DEPTH_MAX)
        return FAIL(w->p->err, OCH_INVALID,
                    "Validation error: searches[%" PRIu32 "].rank: nested too deeply", w->p->index);
    struct frame *f = &w->frames[w->depth];
    *f = (struct frame){.node = node};
    if (nodes[node].operands == ONE) {
        f->operands[0] = body;
    } else if (nodes[node].operands == LEFT_RIGHT) {
        const struct search_member members[] = {{"left", &f->operands[0]},
                                                {"right", &f->operands[1]}};
        const char *path = path_of(w, arena_printf(w->p->arena, ".%s", nodes[node].name));
        TRY(search_members(w->p, body, path, "struct variant", members, COUNT_OF(members)));
        if (!f->operands[0] || !f->operands[1])
            return search_fail(w->p, body, path, "missing field `%s`",
                               f->operands[0] ? "right" : "left");
    } else {
        if (body->kind != JSON_ARRAY)
            return search_wrong_type(w->p, body,
                                     path_of(w, arena_printf(w->p->arena, ".%s", nodes[node].name)),
                                     "a sequence");
        f->list = body;
        TRY(emit(w, (struct rank_step){.op = RANK_VAL, .value = nodes[node].seed}));
    }
    w->depth++;
    return OCH_OK;
}

/* One operand of the innermost open node, or its end. */
static och_code advance(struct walk *w)
{
    struct frame *f = &w->frames[w->depth - 1];
    uint8_t op = nodes[f->node].op;
    bool list = nodes[f->node].operands == LIST;
    uint32_t count = list ? f->list->count : nodes[f->node].operands;
    if (list && f->next > 0) /* the operand before is done */
        TRY(emit(w, (struct rank_step){.op = op}));
    if (f->next < count) {
        const struct json_value *operand = list ? &f->list->items[f->next] : f->operands[f->next];
        assert(operand);
        f->next++;
        return open_node(w, operand);
    }
    w->depth--;
    return list ? OCH_OK : emit(w, (struct rank_step){.op = op});
}

och_code search_parse_rank(struct search_parser *p, const struct json_value *rank,
                           struct search *search)
{
    struct walk w = {.p = p};
    w.frames = ARENA_ARRAY(p->arena, struct frame, JSON_DEPTH_MAX);
    if (!w.frames)
        return FAIL_NO_MEMORY(p->err, "a rank expression");
    TRY(open_node(&w, rank));
    while (w.depth > 0)
        TRY(advance(&w));
    assert(rank_sound(w.steps, w.step_count, w.knn_count));
    search->has_rank = true;
    search->steps = w.steps;
    search->step_count = w.step_count;
    search->knns = w.knns;
    search->knn_count = w.knn_count;
    return OCH_OK;
}

/* ---- contents ---- */

static och_code check_knn(const struct search_knn *knn, uint32_t index, och_error *err)
{
    const char *fault = NULL;
    for (uint32_t i = 0; i < knn->count && !fault; i++)
        if (!isfinite(knn->values[i]))
            fault = "query vectors must not contain NaN or Infinity values";
    for (uint32_t i = 1; knn->sparse && i < knn->index_count && !fault; i++)
        if (knn->indices[i - 1] >= knn->indices[i])
            fault = "Invalid sparse vector in KNN query: Sparse vector indices must be sorted in "
                    "strictly ascending order (no duplicates)";
    if (knn->sparse && knn->index_count != knn->count)
        return FAIL(err, OCH_INVALID,
                    "Validation error: searches[%" PRIu32
                    "].rank: Invalid sparse vector in KNN query: %s",
                    index, lengths_differ);
    if (fault)
        return FAIL(err, OCH_INVALID, "Validation error: searches[%" PRIu32 "].rank: %s", index,
                    fault);
    return OCH_OK;
}

static bool one_of(slice key, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (slice_equal(key, slice_of(names[i])))
            return true;
    return false;
}

static och_code check_group(const struct search *search, uint32_t index, och_error *err)
{
    static const char *const derived[] = {"#document", "#embedding", "#metadata", "#score"};
    const struct search_group *group = &search->group;
    const char *fault = NULL;
    if (!group->key_count && !group->aggregate)
        return OCH_OK;
    if (!search->has_rank)
        return FAIL(err, OCH_INVALID,
                    "Validation error: searches[%" PRIu32
                    "].__all__: group_by requires rank expression to be specified",
                    index);
    if (!group->key_count || !group->aggregate)
        fault = "group_by keys and aggregate must both be specified or both be omitted";
    for (uint32_t i = 0; i < group->key_count && !fault; i++)
        if (one_of(group->keys[i], derived, COUNT_OF(derived)))
            fault = "group_by keys must be metadata fields (cannot use #score, #document, "
                    "#embedding, or #metadata)";
    if (!fault && !group->order_count)
        fault = "aggregate keys must not be empty";
    if (!fault && !group->k)
        fault = "aggregate k must be greater than 0";
    for (uint32_t i = 0; i < group->order_count && !fault; i++)
        if (one_of(group->order[i], derived, COUNT_OF(derived) - 1))
            fault = "aggregate keys must be metadata fields or #score (cannot use #document, "
                    "#embedding, or #metadata)";
    if (!fault)
        return OCH_OK;
    return FAIL(err, OCH_INVALID, "Validation error: searches[%" PRIu32 "].group_by: %s", index,
                fault);
}

och_code search_check(const struct search_request *request, och_error *err)
{
    if (request->late != OCH_OK && err)
        *err = request->late_err;
    TRY(request->late);
    for (uint32_t i = 0; i < request->count; i++) {
        const struct search *search = &request->searches[i];
        for (uint32_t j = 0; j < search->knn_count; j++)
            TRY(check_knn(&search->knns[j], i, err));
        TRY(check_group(search, i, err));
    }
    return OCH_OK;
}
