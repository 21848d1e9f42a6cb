/* SPDX-License-Identifier: Apache-2.0 */
/* Metadata between JSON and its encoding (query-language.md §1, http-api.md §6.1). */
#include "base/mem.h"
#include "model/meta.h"

#include <math.h>
#include <stdlib.h>

#define MEMBERS_INLINE 32

static const char *variant_name(unsigned flags)
{
    return flags & META_ALLOW_DELETE ? "UpdateMetadataValue" : "MetadataValue";
}

static och_code fail_shape(slice key, unsigned flags, const char *why, och_error *err)
{
    return FAIL(err, OCH_SHAPE, "%.*s: data did not match any variant of untagged enum %s%s%s",
                SLICE_ARG(key), variant_name(flags), *why ? ": " : "", why);
}

static och_code check_key(slice key, och_error *err)
{
    if (key.len == 0)
        return FAIL(err, OCH_INVALID, "Metadata key cannot be empty");
    if (key.at[0] == '#' || key.at[0] == '$')
        return FAIL(err, OCH_INVALID, "Metadata key cannot start with '#' or '$': %.*s",
                    SLICE_ARG(key));
    if (slice_starts_with(key, SLICE("chroma:")))
        return FAIL(err, OCH_INVALID, "Metadata key cannot start with 'chroma:': %.*s",
                    SLICE_ARG(key));
    return OCH_OK;
}

/* ---- arrays ---- */

static size_t varint_size(uint64_t value)
{
    size_t size = 1;
    for (; value >= 128; value >>= 7)
        size++;
    return size;
}

static double number_of(const struct json_value *value)
{
    return value->kind == JSON_INT ? (double)value->integer : value->number;
}

/* The array type of these elements, 0 when they do not go together. */
static uint8_t array_type(const struct json_value *array)
{
    static const uint8_t type_of_kind[JSON_FLOATS + 1] = {
        [JSON_BOOL] = META_BOOLS,
        [JSON_INT] = META_INTS,
        [JSON_FLOAT] = META_FLOATS,
        [JSON_STRING] = META_STRINGS,
    };
    if (array->count == 0)
        return META_EMPTY;
    uint8_t type = type_of_kind[array->items[0].kind];
    for (uint32_t i = 1; i < array->count; i++) {
        uint8_t here = type_of_kind[array->items[i].kind];
        if (here == type)
            continue;
        bool numbers = (here == META_INTS || here == META_FLOATS) &&
                       (type == META_INTS || type == META_FLOATS);
        if (!numbers)
            return 0;
        type = META_FLOATS;
    }
    return type;
}

static size_t strings_size(const struct json_value *items, uint32_t count)
{
    size_t size = 0;
    for (uint32_t i = 0; i < count; i++)
        size += varint_size(items[i].string.len) + items[i].string.len;
    return size;
}

static void append_array(const struct json_value *array, uint8_t type, struct buf *out)
{
    const struct json_value *items = array->items;
    uint32_t count = array->count;
    size_t size = type == META_BOOLS     ? count
                  : type == META_STRINGS ? strings_size(items, count)
                                         : (size_t)count * 8;
    buf_byte(out, type);
    buf_varint(out, size);
    for (uint32_t i = 0; i < count; i++) {
        if (type == META_BOOLS)
            buf_byte(out, items[i].boolean);
        else if (type == META_INTS)
            buf_u64(out, (uint64_t)items[i].integer);
        else if (type == META_FLOATS)
            buf_f64(out, number_of(&items[i]));
        else
            buf_sized(out, items[i].string);
    }
}

/* ---- sparse vectors ---- */

struct sparse_parts {
    const struct json_value *indices, *values, *tokens; /* tokens NULL: none */
};

/* Whether an object has the shape of a sparse vector; its contents are judged by check_sparse. */
static bool sparse_shape(const struct json_value *object, struct sparse_parts *ret)
{
    const struct json_value *tag = json_get(object, SLICE("#type"));
    if (tag && !(tag->kind == JSON_STRING && slice_equal(tag->string, SLICE("sparse_vector"))))
        return false;
    for (uint32_t i = 0; i < object->count && !tag; i++) {
        slice name = object->members[i].name;
        if (!slice_equal(name, SLICE("indices")) && !slice_equal(name, SLICE("values")) &&
            !slice_equal(name, SLICE("tokens")))
            return false;
    }
    struct sparse_parts parts = {json_get(object, SLICE("indices")),
                                 json_get(object, SLICE("values")),
                                 json_get(object, SLICE("tokens"))};
    if (parts.tokens && parts.tokens->kind == JSON_NULL)
        parts.tokens = NULL;
    if (!parts.indices || parts.indices->kind != JSON_ARRAY || !parts.values ||
        parts.values->kind != JSON_ARRAY || (parts.tokens && parts.tokens->kind != JSON_ARRAY))
        return false;
    for (uint32_t i = 0; i < parts.indices->count; i++) {
        const struct json_value *index = &parts.indices->items[i];
        if (index->kind != JSON_INT || index->integer < 0 || index->integer > UINT32_MAX)
            return false;
    }
    for (uint32_t i = 0; i < parts.values->count; i++) {
        uint8_t kind = parts.values->items[i].kind;
        if (kind != JSON_INT && kind != JSON_FLOAT)
            return false;
    }
    for (uint32_t i = 0; parts.tokens && i < parts.tokens->count; i++) {
        if (parts.tokens->items[i].kind != JSON_STRING)
            return false;
    }
    *ret = parts;
    return true;
}

static och_code check_sparse(slice key, const struct sparse_parts *parts, unsigned flags,
                             och_error *err)
{
    if (flags & META_NO_SPARSE)
        return FAIL(err, OCH_INVALID,
                    "Sparse vectors are not supported in collection metadata: %.*s",
                    SLICE_ARG(key));
    uint32_t count = parts->indices->count;
    if (parts->values->count != count || (parts->tokens && parts->tokens->count != count))
        return FAIL(err, OCH_INVALID,
                    "%.*s: Sparse vector indices, values, and tokens (when present) must have the "
                    "same length",
                    SLICE_ARG(key));
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0 && parts->indices->items[i].integer <= parts->indices->items[i - 1].integer)
            return FAIL(err, OCH_INVALID,
                        "%.*s: Sparse vector indices must be sorted in strictly ascending order "
                        "(no duplicates)",
                        SLICE_ARG(key));
        if (!isfinite((float)number_of(&parts->values->items[i])))
            return FAIL(err, OCH_INVALID, "%.*s: Sparse vector value %u overflows a 32-bit float",
                        SLICE_ARG(key), i);
    }
    return OCH_OK;
}

static void append_sparse(const struct sparse_parts *parts, struct buf *out)
{
    uint32_t count = parts->indices->count;
    size_t tokens_size = parts->tokens ? strings_size(parts->tokens->items, count) : 0;
    buf_byte(out, META_SPARSE);
    buf_varint(out, varint_size(count) + (size_t)count * 8 + 1 + tokens_size);
    buf_varint(out, count);
    for (uint32_t i = 0; i < count; i++)
        buf_u32(out, (uint32_t)parts->indices->items[i].integer);
    for (uint32_t i = 0; i < count; i++)
        buf_f32(out, (float)number_of(&parts->values->items[i]));
    buf_byte(out, parts->tokens != NULL);
    for (uint32_t i = 0; parts->tokens && i < count; i++)
        buf_sized(out, parts->tokens->items[i].string);
}

/* ---- objects ---- */

static och_code append_value(slice key, const struct json_value *value, unsigned flags,
                             struct buf *out, och_error *err)
{
    switch (value->kind) {
    case JSON_NULL:
        if (!(flags & META_ALLOW_DELETE))
            return fail_shape(key, flags, "", err);
        buf_byte(out, META_DELETE);
        buf_varint(out, 0);
        return OCH_OK;
    case JSON_BOOL:
        buf_byte(out, META_BOOL);
        buf_varint(out, 1);
        buf_byte(out, value->boolean);
        return OCH_OK;
    case JSON_INT:
        buf_byte(out, META_INT);
        buf_varint(out, 8);
        buf_u64(out, (uint64_t)value->integer);
        return OCH_OK;
    case JSON_FLOAT:
        buf_byte(out, META_FLOAT);
        buf_varint(out, 8);
        buf_f64(out, value->number);
        return OCH_OK;
    case JSON_STRING:
        buf_byte(out, META_STRING);
        buf_sized(out, value->string);
        return OCH_OK;
    case JSON_ARRAY: {
        uint8_t type = array_type(value);
        if (type == 0)
            return fail_shape(key, flags, "an array holds values of one type", err);
        append_array(value, type, out);
        return OCH_OK;
    }
    case JSON_OBJECT: {
        struct sparse_parts parts;
        if (!sparse_shape(value, &parts))
            return fail_shape(key, flags, "", err);
        TRY(check_sparse(key, &parts, flags, err));
        append_sparse(&parts, out);
        return OCH_OK;
    }
    default:
        return fail_shape(key, flags, "", err);
    }
}

/* By name, then as written, so that of equal names the last one comes last. */
static int compare_members(const void *a, const void *b)
{
    const struct json_member *x = *(const struct json_member *const *)a;
    const struct json_member *y = *(const struct json_member *const *)b;
    int order = slice_compare(x->name, y->name);
    return order ? order : (x > y) - (x < y);
}

static void sort_members(const struct json_member **members, size_t count)
{
    if (count > MEMBERS_INLINE) {
        qsort(members, count, sizeof(*members), compare_members);
        return;
    }
    for (size_t i = 1; i < count; i++) {
        const struct json_member *member = members[i];
        size_t at = i;
        for (; at > 0 && compare_members(&members[at - 1], &member) > 0; at--)
            members[at] = members[at - 1];
        members[at] = member;
    }
}

/* Shape errors win over all others, as the peer reads the whole value before it judges it. */
static och_code append_members(const struct json_member **members, size_t count, unsigned flags,
                               struct buf *out, och_error *err)
{
    och_error first = {0};
    for (size_t i = 0; i < count; i++) {
        slice key = members[i]->name;
        och_error error = {0};
        buf_sized(out, key);
        och_code code = append_value(key, &members[i]->value, flags, out, &error);
        if (code == OCH_OK)
            code = check_key(key, &error);
        if (code == OCH_OK)
            continue;
        if (code == OCH_SHAPE || first.code == OCH_OK)
            first = error;
        if (code == OCH_SHAPE)
            break;
    }
    if (first.code == OCH_OK)
        return buf_check(out, "metadata", err);
    if (err)
        *err = first;
    return first.code;
}

och_code meta_from_json(const struct json_value *value, unsigned flags, struct buf *out,
                        och_error *err)
{
    assert(value->kind == JSON_OBJECT);
    const struct json_member *few[MEMBERS_INLINE], **members = few;
    CLEANUP(mem_cleanup) const struct json_member **many = NULL;
    if (value->count > MEMBERS_INLINE) {
        many = mem_alloc((size_t)value->count * sizeof(*many));
        if (!many)
            return FAIL_NO_MEMORY(err, "metadata");
        members = many;
    }
    for (uint32_t i = 0; i < value->count; i++)
        members[i] = &value->members[i];
    sort_members(members, value->count);
    size_t kept = 0;
    for (uint32_t i = 0; i < value->count; i++) {
        bool repeated = i + 1 < value->count && slice_equal(members[i]->name, members[i + 1]->name);
        if (!repeated)
            members[kept++] = members[i];
    }
    buf_varint(out, kept);
    return append_members(members, kept, flags, out, err);
}

/* ---- out again ---- */

static void strings_to_json(struct reader *reader, uint64_t count, struct buf *out)
{
    buf_byte(out, '[');
    for (uint64_t i = 0; i < count && reader_left(reader) > 0 && !reader->failed; i++) {
        if (i)
            buf_byte(out, ',');
        json_write_string(out, reader_sized(reader));
    }
    buf_byte(out, ']');
}

static void sparse_to_json(slice value, struct buf *out)
{
    struct reader reader = reader_of(value);
    uint64_t count = reader_varint(&reader);
    if (count > reader_left(&reader) / 8)
        count = 0;
    buf_text(out, "{\"#type\":\"sparse_vector\",\"indices\":[");
    for (uint64_t i = 0; i < count; i++) {
        if (i)
            buf_byte(out, ',');
        json_write_int(out, reader_u32(&reader));
    }
    buf_text(out, "],\"values\":[");
    for (uint64_t i = 0; i < count; i++) {
        if (i)
            buf_byte(out, ',');
        const uint8_t *at = reader_skip(&reader, 4);
        json_write_f32(out, at ? load_f32(at) : 0.0f);
    }
    buf_text(out, "],\"tokens\":");
    if (reader_u8(&reader) == 1)
        strings_to_json(&reader, count, out);
    else
        buf_text(out, "null");
    buf_byte(out, '}');
}

static void fixed_to_json(const struct meta_entry *entry, struct buf *out)
{
    size_t step = entry->type == META_BOOLS ? 1 : 8;
    buf_byte(out, '[');
    for (size_t at = 0; at + step <= entry->value.len; at += step) {
        const uint8_t *element = entry->value.at + at;
        if (at)
            buf_byte(out, ',');
        if (entry->type == META_BOOLS)
            buf_text(out, *element ? "true" : "false");
        else if (entry->type == META_INTS)
            json_write_int(out, (int64_t)load_u64(element));
        else
            json_write_f64(out, load_f64(element));
    }
    buf_byte(out, ']');
}

void meta_value_to_json(const struct meta_entry *entry, struct buf *out)
{
    switch (entry->type) {
    case META_BOOL:
        buf_text(out, meta_bool(entry) ? "true" : "false");
        return;
    case META_INT:
        json_write_int(out, meta_int(entry));
        return;
    case META_FLOAT:
        json_write_f64(out, meta_float(entry));
        return;
    case META_STRING:
        json_write_string(out, entry->value);
        return;
    case META_BOOLS:
    case META_INTS:
    case META_FLOATS:
        fixed_to_json(entry, out);
        return;
    case META_STRINGS: {
        struct reader reader = reader_of(entry->value);
        strings_to_json(&reader, UINT64_MAX, out);
        return;
    }
    case META_EMPTY:
        buf_text(out, "[]");
        return;
    case META_SPARSE:
        sparse_to_json(entry->value, out);
        return;
    default:
        buf_text(out, "null");
        return;
    }
}

void meta_to_json(slice encoded, struct buf *out)
{
    struct meta_iter iter;
    struct meta_entry entry;
    bool first = true;
    meta_iter_init(&iter, encoded);
    buf_byte(out, '{');
    while (meta_iter_next(&iter, &entry)) {
        if (entry.type == META_DELETE || slice_starts_with(entry.key, SLICE("chroma:")))
            continue;
        if (!first)
            buf_byte(out, ',');
        first = false;
        json_write_string(out, entry.key);
        buf_byte(out, ':');
        meta_value_to_json(&entry, out);
    }
    buf_byte(out, '}');
}
