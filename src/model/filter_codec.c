/* SPDX-License-Identifier: Apache-2.0 */
/* Filters as bytes, a part of the plan's encoding (docs/formats/plan.md), and what a sound node is. */
#include "model/filter_internal.h"

#define NODE_NONE 0

static bool all_of_kind(const struct filter_node *node, uint8_t kind)
{
    for (uint32_t i = 0; i < node->value_count; i++) {
        if (node->values[i].kind != kind)
            return false;
    }
    return true;
}

bool filter_node_sound(const struct filter_node *node)
{
    switch (node->op) {
    case FILTER_AND:
    case FILTER_OR:
        return node->value_count == 0;
    case FILTER_NOT:
        return node->value_count == 0 && node->child_count == 1;
    case FILTER_EQ:
    case FILTER_NE:
    case FILTER_CONTAINS:
    case FILTER_NOT_CONTAINS:
        return node->value_count == 1 && node->child_count == 0;
    case FILTER_GT:
    case FILTER_GTE:
    case FILTER_LT:
    case FILTER_LTE:
        return node->value_count == 1 && node->child_count == 0 &&
               (node->values[0].kind == FILTER_INT || node->values[0].kind == FILTER_FLOAT);
    case FILTER_IN:
    case FILTER_NIN:
        return node->child_count == 0;
    case FILTER_EXISTS:
        return node->value_count == 1 && node->child_count == 0 && all_of_kind(node, FILTER_BOOL);
    case FILTER_ID_IN:
    case FILTER_ID_NIN:
        return node->child_count == 0 && all_of_kind(node, FILTER_STRING);
    case FILTER_META_REGEX:
    case FILTER_META_NOT_REGEX:
    case FILTER_META_PREFIX:
    case FILTER_META_LIKE:
    case FILTER_META_ICONTAINS:
    case FILTER_DOC_CONTAINS:
    case FILTER_DOC_NOT_CONTAINS:
    case FILTER_DOC_REGEX:
    case FILTER_DOC_NOT_REGEX:
    case FILTER_DOC_PREFIX:
    case FILTER_DOC_LIKE:
    case FILTER_DOC_ICONTAINS:
        return node->value_count == 1 && node->child_count == 0 && all_of_kind(node, FILTER_STRING);
    default:
        return false;
    }
}

static void encode_value(const struct filter_value *value, struct buf *out)
{
    buf_byte(out, value->kind);
    switch (value->kind) {
    case FILTER_STRING:
        buf_sized(out, value->string);
        return;
    case FILTER_BOOL:
        buf_byte(out, value->boolean);
        return;
    case FILTER_INT:
        buf_u64(out, (uint64_t)value->integer);
        return;
    default:
        assert(value->kind == FILTER_FLOAT);
        buf_f64(out, value->number);
        return;
    }
}

/* Depth is bounded where trees are made: by JSON's nesting or by filter_decode. */
void filter_encode(const struct filter_node *node, struct buf *out)
{
    if (!node) {
        buf_byte(out, NODE_NONE);
        return;
    }
    buf_byte(out, node->op);
    if (filter_is_group(node->op)) {
        buf_varint(out, node->child_count);
        for (uint32_t i = 0; i < node->child_count; i++)
            filter_encode(node->children[i], out);
        return;
    }
    if (filter_is_metadata(node->op))
        buf_sized(out, node->key);
    buf_varint(out, node->value_count);
    for (uint32_t i = 0; i < node->value_count; i++)
        encode_value(&node->values[i], out);
}

struct decoder {
    struct reader *reader;
    struct arena *arena;
    och_error *err;
};

static och_code fail(och_error *err, const char *what)
{
    return FAIL(err, OCH_CORRUPT, "filter: %s", what);
}

static och_code decode_value(struct decoder *decoder, struct filter_value *ret)
{
    struct reader *reader = decoder->reader;
    ret->kind = reader_u8(reader);
    switch (ret->kind) {
    case FILTER_STRING:
        ret->string = reader_sized(reader);
        break;
    case FILTER_BOOL: {
        uint8_t byte = reader_u8(reader);
        if (byte > 1)
            return fail(decoder->err, "a boolean that is neither 0 nor 1");
        ret->boolean = byte;
        break;
    }
    case FILTER_INT:
        ret->integer = (int64_t)reader_u64(reader);
        break;
    case FILTER_FLOAT: {
        const uint8_t *at = reader_skip(reader, 8);
        ret->number = at ? load_f64(at) : 0.0;
        break;
    }
    default:
        return fail(decoder->err, "unknown kind of value");
    }
    return reader->failed ? fail(decoder->err, "cut short") : OCH_OK;
}

static och_code decode_leaf(struct decoder *decoder, struct filter_node *node)
{
    struct reader *reader = decoder->reader;
    if (filter_is_metadata(node->op))
        node->key = reader_sized(reader);
    uint64_t count = reader_varint(reader);
    /* A value takes at least two bytes, so what arrives bounds what is allocated. */
    if (reader->failed || count > reader_left(reader) / 2 || count > UINT32_MAX)
        return fail(decoder->err, "cut short");
    struct filter_value *values = ARENA_ARRAY(decoder->arena, struct filter_value, (size_t)count);
    if (!values)
        return FAIL_NO_MEMORY(decoder->err, "a filter");
    for (uint64_t i = 0; i < count; i++)
        TRY(decode_value(decoder, &values[i]));
    node->values = values;
    node->value_count = (uint32_t)count;
    return OCH_OK;
}

static och_code decode_node(struct decoder *decoder, unsigned depth, struct filter_node **ret_node);

static och_code decode_group(struct decoder *decoder, unsigned depth, struct filter_node *node)
{
    uint64_t count = reader_varint(decoder->reader);
    if (decoder->reader->failed || count > reader_left(decoder->reader) || count > UINT32_MAX)
        return fail(decoder->err, "cut short");
    node->children = ARENA_ARRAY(decoder->arena, struct filter_node *, (size_t)count);
    if (!node->children)
        return FAIL_NO_MEMORY(decoder->err, "a filter");
    for (uint64_t i = 0; i < count; i++) {
        TRY(decode_node(decoder, depth + 1, &node->children[i]));
        if (!node->children[i])
            return fail(decoder->err, "a missing child");
    }
    node->child_count = (uint32_t)count;
    return OCH_OK;
}

static och_code decode_node(struct decoder *decoder, unsigned depth, struct filter_node **ret_node)
{
    uint8_t op = reader_u8(decoder->reader);
    if (decoder->reader->failed)
        return fail(decoder->err, "cut short");
    if (op == NODE_NONE) {
        *ret_node = NULL;
        return OCH_OK;
    }
    if (depth >= FILTER_DEPTH_MAX)
        return fail(decoder->err, "nested too deeply");
    struct filter_node *node = ARENA_NEW(decoder->arena, struct filter_node);
    if (!node)
        return FAIL_NO_MEMORY(decoder->err, "a filter");
    node->op = op;
    if (filter_is_group(op))
        TRY(decode_group(decoder, depth, node));
    else
        TRY(decode_leaf(decoder, node));
    if (!filter_node_sound(node))
        return fail(decoder->err, "an operator with the wrong operands");
    *ret_node = node;
    return OCH_OK;
}

och_code filter_decode(struct reader *reader, struct arena *arena, struct filter_node **ret_node,
                       och_error *err)
{
    struct decoder decoder = {reader, arena, err};
    return decode_node(&decoder, 0, ret_node);
}

och_code filter_join(struct filter_node *a, struct filter_node *b, struct arena *arena,
                     struct filter_node **ret_node, och_error *err)
{
    if (!a || !b) {
        *ret_node = a ? a : b;
        return OCH_OK;
    }
    struct filter_node *node = ARENA_NEW(arena, struct filter_node);
    struct filter_node **children = ARENA_ARRAY(arena, struct filter_node *, 2);
    if (!node || !children)
        return FAIL_NO_MEMORY(err, "a filter");
    children[0] = a;
    children[1] = b;
    *node = (struct filter_node){.op = FILTER_AND, .children = children, .child_count = 2};
    *ret_node = node;
    return OCH_OK;
}
