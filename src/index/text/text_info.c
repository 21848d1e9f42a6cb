/* SPDX-License-Identifier: Apache-2.0 */
/* From what two parts of a pattern say to what they say together (text-index.md §4.1): sets of strings while they are few, then conditions on
 * grams.  Everything here may only lose knowledge, never add: a row that matches must fulfil the condition. */
#include "index/text/text_internal.h"

/* ---- sets ---- */

static slice *slices(struct text_maker *maker, size_t count)
{
    slice *at = maker->failed ? NULL : ARENA_ARRAY(maker->arena, slice, count ? count : 1);
    maker->failed = maker->failed || !at;
    return at;
}

static struct text_set set_empty_string(struct text_maker *maker)
{
    slice *at = slices(maker, 1);
    if (!at)
        return (struct text_set){0};
    at[0] = SLICE("");
    return (struct text_set){1, at};
}

static bool set_has(const slice *at, uint32_t count, slice text)
{
    for (uint32_t i = 0; i < count; i++) {
        if (slice_equal(at[i], text))
            return true;
    }
    return false;
}

/* False when the union has more than TEXT_SET_MAX strings. */
static bool set_join(struct text_maker *maker, struct text_set a, struct text_set b,
                     struct text_set *ret)
{
    slice *at = slices(maker, a.count + b.count);
    uint32_t count = 0;
    for (uint32_t i = 0; at && i < a.count + b.count; i++) {
        slice text = i < a.count ? a.at[i] : b.at[i - a.count];
        if (!set_has(at, count, text))
            at[count++] = text;
    }
    *ret = (struct text_set){count, at};
    return at && count <= TEXT_SET_MAX;
}

static slice join(struct text_maker *maker, slice a, slice b)
{
    uint8_t *at = maker->failed ? NULL : arena_alloc(maker->arena, a.len + b.len + 1);
    if (!at) {
        maker->failed = true;
        return SLICE("");
    }
    if (a.len)
        memcpy(at, a.at, a.len);
    if (b.len)
        memcpy(at + a.len, b.at, b.len);
    return slice_make(at, a.len + b.len);
}

/* Each of a before each of b; false when these are more than `max`. */
static bool set_cross(struct text_maker *maker, struct text_set a, struct text_set b, uint32_t max,
                      struct text_set *ret)
{
    if ((uint64_t)a.count * b.count > max)
        return false;
    slice *at = slices(maker, (size_t)a.count * b.count);
    uint32_t count = 0;
    for (uint32_t i = 0; i < a.count && !maker->failed; i++) {
        for (uint32_t j = 0; j < b.count && !maker->failed; j++) {
            slice text = join(maker, a.at[i], b.at[j]);
            if (!set_has(at, count, text))
                at[count++] = text;
        }
    }
    *ret = (struct text_set){count, at};
    return !maker->failed;
}

static uint64_t set_bytes(struct text_set set)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < set.count; i++)
        sum += set.at[i].len;
    return sum;
}

/* The first or last two bytes of each. */
static struct text_set set_cut(struct text_maker *maker, struct text_set set, bool at_end)
{
    slice *at = slices(maker, set.count);
    uint32_t count = 0;
    for (uint32_t i = 0; at && i < set.count; i++) {
        slice text = set.at[i];
        if (text.len > 2)
            text = at_end ? slice_from(text, text.len - 2) : slice_make(text.at, 2);
        if (!set_has(at, count, text))
            at[count++] = text;
    }
    return (struct text_set){count, at};
}

/* ---- nodes ---- */

void text_nodes_add(struct text_maker *maker, struct text_nodes *nodes, struct text_node *node)
{
    if (!node || maker->failed)
        return;
    // the same part repeated needs the same
    for (uint32_t i = nodes->count; i > 0 && i + 8 > nodes->count; i--) {
        if (nodes->at[i - 1] == node)
            return;
    }
    if (nodes->count == nodes->room) {
        uint32_t room = nodes->room ? nodes->room * 2 : 8;
        struct text_node **at = ARENA_ARRAY(maker->arena, struct text_node *, room);
        if (!at) {
            maker->failed = true;
            return;
        }
        if (nodes->count)
            memcpy(at, nodes->at, nodes->count * sizeof(struct text_node *));
        nodes->at = at;
        nodes->room = room;
    }
    nodes->at[nodes->count++] = node;
}

static struct text_node *group(struct text_maker *maker, enum text_op op,
                               const struct text_nodes *nodes)
{
    if (nodes->count == 1)
        return nodes->at[0];
    struct text_node *node = maker->failed ? NULL : text_node_new(maker->arena, op);
    if (!node) {
        maker->failed = true;
        return NULL;
    }
    node->children = nodes->at;
    node->child_count = nodes->count;
    return node;
}

struct text_node *text_nodes_and(struct text_maker *maker, const struct text_nodes *nodes)
{
    return nodes->count ? group(maker, TEXT_AND, nodes) : NULL;
}

struct text_node *text_node_strings(struct text_maker *maker, struct text_set set)
{
    struct text_nodes nodes = {0};
    for (uint32_t i = 0; i < set.count; i++) {
        if (set.at[i].len < 3)
            return NULL;
    }
    if (maker->failed || !set.count)
        return NULL;
    for (uint32_t i = 0; i < set.count; i++) {
        uint64_t grams = set.at[i].len - 2;
        if (grams > maker->grams)
            return NULL;
        struct text_node *node = text_node_string(set.at[i], maker->arena);
        if (!node) {
            maker->failed = true;
            return NULL;
        }
        maker->grams -= (uint32_t)grams;
        text_nodes_add(maker, &nodes, node);
    }
    return group(maker, TEXT_OR, &nodes);
}

/* ---- parts of a pattern ---- */

struct text_info text_info_strings(struct text_maker *maker, const slice *texts, uint32_t count)
{
    if (count == 0 || count > TEXT_SET_MAX)
        return text_info_any(maker);
    slice *at = slices(maker, count);
    if (!at)
        return (struct text_info){0};
    memcpy(at, texts, count * sizeof(*at));
    struct text_set set = {count, at};
    return (struct text_info){.exact = true, .strings = set, .pre = set, .suf = set};
}

struct text_info text_info_string(struct text_maker *maker, slice text)
{
    return text_info_strings(maker, &text, 1);
}

struct text_info text_info_any(struct text_maker *maker)
{
    struct text_set set = set_empty_string(maker);
    return (struct text_info){.pre = set, .suf = set};
}

struct text_info text_info_inexact(struct text_maker *maker, struct text_info info)
{
    if (!info.exact)
        return info;
    return (struct text_info){
        .pre = info.pre, .suf = info.suf, .need = text_node_strings(maker, info.strings)};
}

void text_info_concat(struct text_maker *maker, struct text_info *acc, struct text_nodes *needs,
                      struct text_info next)
{
    struct text_set set;
    if (maker->failed)
        return;
    if (acc->exact && next.exact &&
        set_cross(maker, acc->strings, next.strings, TEXT_SET_MAX, &set) &&
        set_bytes(set) <= TEXT_EXACT_MAX) {
        *acc = (struct text_info){.exact = true, .strings = set, .pre = set, .suf = set};
        return;
    }
    text_nodes_add(maker, needs, next.need);
    if (acc->exact)
        text_nodes_add(maker, needs, text_node_strings(maker, acc->strings));
    if (next.exact)
        text_nodes_add(maker, needs, text_node_strings(maker, next.strings));
    if (set_cross(maker, acc->suf, next.pre, TEXT_CROSS_MAX, &set))
        text_nodes_add(maker, needs, text_node_strings(maker, set));
    struct text_set pre = acc->pre, suf = next.suf;
    if (acc->exact && set_cross(maker, acc->strings, next.pre, TEXT_SET_MAX, &set))
        pre = set;
    if (next.exact && set_cross(maker, acc->suf, next.strings, TEXT_SET_MAX, &set))
        suf = set;
    text_nodes_add(maker, needs, text_node_strings(maker, pre));
    text_nodes_add(maker, needs, text_node_strings(maker, suf));
    *acc = (struct text_info){.pre = set_cut(maker, pre, false), .suf = set_cut(maker, suf, true)};
}

/* One part that is all of the choices, if they are few strings. */
static bool alternate_exact(struct text_maker *maker, const struct text_info *choices, size_t count,
                            struct text_info *ret)
{
    struct text_set set = choices[0].strings;
    for (size_t i = 0; i < count; i++) {
        if (!choices[i].exact || (i && !set_join(maker, set, choices[i].strings, &set)))
            return false;
    }
    *ret = (struct text_info){.exact = true, .strings = set, .pre = set, .suf = set};
    return !maker->failed && set_bytes(set) <= TEXT_EXACT_MAX;
}

struct text_info text_info_alternate(struct text_maker *maker, const struct text_info *choices,
                                     size_t count)
{
    struct text_info ret;
    struct text_nodes needs = {0};
    bool all = false;
    assert(count);
    if (count == 1 || alternate_exact(maker, choices, count, &ret))
        return count == 1 ? choices[0] : ret;
    struct text_set pre = {0}, suf = {0};
    bool few_pre = true, few_suf = true;
    for (size_t i = 0; i < count && !maker->failed; i++) {
        struct text_info choice = text_info_inexact(maker, choices[i]);
        all = all || !choice.need;
        if (!all)
            text_nodes_add(maker, &needs, choice.need);
        few_pre = few_pre && set_join(maker, pre, choice.pre, &pre);
        few_suf = few_suf && set_join(maker, suf, choice.suf, &suf);
    }
    ret = text_info_any(maker);
    if (few_pre)
        ret.pre = pre;
    if (few_suf)
        ret.suf = suf;
    if (!all && needs.count)
        ret.need = group(maker, TEXT_OR, &needs);
    return ret;
}
