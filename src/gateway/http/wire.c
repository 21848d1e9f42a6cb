/* SPDX-License-Identifier: Apache-2.0 */
/* Request bodies: content type, size, JSON, then members by a table of types (http-api.md §2.2, §2.3). */
#include "gateway/http/exchange.h"

#include "model/plan.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

och_code wire_fail(struct exchange *x, const struct json_value *value, och_error *err,
                   const char *path, const char *format, ...)
{
    char reason[512];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(reason, sizeof(reason), format, args);
    va_end(args);
    uint32_t line, column;
    json_locate(x->request->body, value ? value->offset : 0, &line, &column);
    const char *within = x->within ? x->within : "";
    if (*path || *within)
        exchange_at(x, "%s", path);
    return FAIL(err, OCH_SHAPE, "%s%s%s%s%s at line %" PRIu32 " column %" PRIu32, within,
                *within && *path ? "." : "", path, *within || *path ? ": " : "", reason, line,
                column);
}

static och_code check_content_type(struct exchange *x, och_error *err)
{
    slice type = http_request_header(x->request, SLICE("content-type"));
    size_t end = 0;
    while (end < type.len && type.at[end] != ';')
        end++;
    while (end > 0 && (type.at[end - 1] == ' ' || type.at[end - 1] == '\t'))
        end--;
    slice name = slice_make(type.at, end);
    slice json = SLICE("application/json"), prefix = SLICE("application/"), suffix = SLICE("+json");
    bool fits = !type.at || slice_equal_nocase(name, json);
    if (!fits && name.len > prefix.len + suffix.len)
        fits = slice_equal_nocase(slice_make(name.at, prefix.len), prefix) &&
               slice_equal_nocase(slice_from(name, name.len - suffix.len), suffix);
    if (fits)
        return OCH_OK;
    x->error_status = 415;
    och_code code =
        FAIL(err, OCH_INVALID, "Expected request with `Content-Type: application/json`");
    error_hint(err, "Send it instead of `%.*s`, with curl by -H 'Content-Type: application/json'.",
               (int)min_size(name.len, 60), (const char *)type.at);
    return code;
}

/* 41943040 as 41,943,040. */
static const char *grouped(uint64_t value, char text[32])
{
    char digits[24];
    int count = snprintf(digits, sizeof(digits), "%" PRIu64, value);
    char *to = text;
    for (int i = 0; i < count; i++) {
        if (i > 0 && (count - i) % 3 == 0)
            *to++ = ',';
        *to++ = digits[i];
    }
    *to = '\0';
    return text;
}

och_code wire_check_size(struct exchange *x, och_error *err)
{
    if (x->request->body_size_refused == 0)
        return OCH_OK;
    char size[32], limit[32];
    och_code code = FAIL(err, OCH_TOO_LARGE,
                         "Failed to buffer the request body: length limit exceeded: %s bytes, "
                         "limit %s (max_payload_size_bytes).",
                         grouped(x->request->body_size_refused, size),
                         grouped(x->gateway->options.body_bytes_max, limit));
    error_hint(err, "Send fewer records per call.");
    return code;
}

/* ---- types ---- */

static const char *type_name(enum wire_type type)
{
    static const char *const names[] = {
        "a value",    "a string",   "a boolean",  "u32",        "a map",      "a sequence",
        "a sequence", "a sequence", "a sequence", "a sequence", "a sequence", "a sequence",
        "a sequence", "a sequence", "i64",        "a sequence", "a sequence"};
    return names[type];
}

static och_code wrong_type(struct exchange *x, const struct json_value *value, const char *path,
                           const char *expected, och_error *err)
{
    return wire_fail(x, value, err, path, "invalid type: %s, expected %s",
                     json_describe(value, &x->arena), expected);
}

static och_code check_u32(struct exchange *x, const struct json_value *value, const char *path,
                          och_error *err)
{
    if (value->kind == JSON_INT && value->integer >= 0 && value->integer <= UINT32_MAX)
        return OCH_OK;
    if (value->kind == JSON_INT || (value->kind == JSON_FLOAT && value->big))
        return wire_fail(x, value, err, path, "invalid value: %s, expected u32",
                         json_describe(value, &x->arena));
    return wrong_type(x, value, path, "u32", err);
}

static och_code check_strings(struct exchange *x, const struct json_value *value, const char *path,
                              bool nullable, och_error *err)
{
    if (value->kind != JSON_ARRAY)
        return wrong_type(x, value, path, "a sequence", err);
    for (uint32_t i = 0; i < value->count; i++) {
        const struct json_value *item = &value->items[i];
        if (item->kind != JSON_STRING && !(nullable && item->kind == JSON_NULL))
            return wrong_type(x, item, arena_printf(&x->arena, "%s[%" PRIu32 "]", path, i),
                              "a string", err);
    }
    return OCH_OK;
}

static bool is_number_row(const struct json_value *item)
{
    /* An empty array holds no number that could be wrong; its length is judged later. */
    return item->kind == JSON_FLOATS || (item->kind == JSON_ARRAY && item->count == 0);
}

/* What is wrong with an element that is no row of numbers: the first thing in it that is no number, or it. */
static const char *describe_row(struct exchange *x, const struct json_value *item, uint32_t i)
{
    for (uint32_t j = 0; item->kind == JSON_ARRAY && j < item->count; j++) {
        enum json_kind kind = item->items[j].kind;
        if (kind != JSON_INT && kind != JSON_FLOAT)
            return arena_printf(&x->arena, "element %" PRIu32 "[%" PRIu32 "] is %s", i, j,
                                json_describe(&item->items[j], &x->arena));
    }
    return arena_printf(&x->arena, "element %" PRIu32 " is %s", i, json_describe(item, &x->arena));
}

static och_code check_embeddings(struct exchange *x, const struct json_value *value,
                                 const char *path, bool nullable, och_error *err)
{
    if (value->kind != JSON_ARRAY)
        return wire_fail(x, value, err, path,
                         "data did not match any variant of untagged enum EmbeddingsPayload");
    bool rows = false, texts = false;
    for (uint32_t i = 0; i < value->count; i++) {
        const struct json_value *item = &value->items[i];
        bool row = is_number_row(item), text = item->kind == JSON_STRING;
        rows |= row;
        texts |= text;
        if ((!row && !text && !(nullable && item->kind == JSON_NULL)) || (rows && texts))
            return wire_fail(x, item, err, path,
                             "data did not match any variant of untagged enum EmbeddingsPayload: "
                             "%s; write arrays of numbers, or base64 strings, not both",
                             describe_row(x, item, i));
    }
    return OCH_OK;
}

static och_code check_objects(struct exchange *x, const struct json_value *value, const char *path,
                              och_error *err)
{
    if (value->kind != JSON_ARRAY)
        return wrong_type(x, value, path, "a sequence", err);
    for (uint32_t i = 0; i < value->count; i++) {
        const struct json_value *item = &value->items[i];
        if (item->kind != JSON_OBJECT && item->kind != JSON_NULL)
            return wrong_type(x, item, arena_printf(&x->arena, "%s[%" PRIu32 "]", path, i), "a map",
                              err);
    }
    return OCH_OK;
}

static const struct {
    const char *name;
    unsigned field;
} includes[] = {
    {"distances", WIRE_DISTANCES},  {"documents", RECORD_DOCUMENT}, {"embeddings", RECORD_VECTOR},
    {"metadatas", RECORD_METADATA}, {"uris", RECORD_URI},           {"expires_at", RECORD_EXPIRY},
};

static och_code check_include(struct exchange *x, const struct json_value *value, const char *path,
                              och_error *err)
{
    if (value->kind != JSON_ARRAY)
        return wrong_type(x, value, path, "a sequence", err);
    for (uint32_t i = 0; i < value->count; i++) {
        bool known = false;
        if (value->items[i].kind != JSON_STRING) /* the original takes it for bad JSON */
            return FAIL(err, OCH_INVALID,
                        "Failed to parse the request body as JSON: %s[%" PRIu32
                        "]: expected a string, got %s",
                        path, i, json_describe(&value->items[i], &x->arena));
        for (size_t j = 0; j < COUNT_OF(includes); j++)
            known |= slice_equal(value->items[i].string, slice_of(includes[j].name));
        if (!known)
            return wire_fail(x, &value->items[i], err, path,
                             "unknown variant `%.*s`, expected one of `distances`, `documents`, "
                             "`embeddings`, `metadatas`, `uris`",
                             (int)min_size(value->items[i].string.len, 40),
                             (const char *)value->items[i].string.at);
    }
    return OCH_OK;
}

static och_code check_ints(struct exchange *x, const struct json_value *value, const char *path,
                           och_error *err)
{
    if (value->kind != JSON_ARRAY)
        return wrong_type(x, value, path, "a sequence", err);
    for (uint32_t i = 0; i < value->count; i++) {
        const struct json_value *item = &value->items[i];
        if (item->kind != JSON_INT && item->kind != JSON_NULL)
            return wrong_type(x, item, arena_printf(&x->arena, "%s[%" PRIu32 "]", path, i), "i64",
                              err);
    }
    return OCH_OK;
}

static och_code check_fields(struct exchange *x, const struct json_value *value, const char *path,
                             och_error *err)
{
    TRY(check_strings(x, value, path, false, err));
    for (uint32_t i = 0; i < value->count; i++) {
        slice name = value->items[i].string;
        if (!slice_equal(name, SLICE("document")) && !slice_equal(name, SLICE("uri")) &&
            !slice_equal(name, SLICE("metadata")))
            return wire_fail(x, &value->items[i], err, path,
                             "unknown variant `%.*s`, expected one of `document`, `uri`, "
                             "`metadata`",
                             (int)min_size(name.len, 40), (const char *)name.at);
    }
    return OCH_OK;
}

static och_code check_clear(struct exchange *x, const struct json_value *value, const char *path,
                            och_error *err)
{
    if (value->kind != JSON_ARRAY)
        return wrong_type(x, value, path, "a sequence", err);
    for (uint32_t i = 0; i < value->count; i++) {
        if (value->items[i].kind != JSON_NULL)
            TRY(check_fields(x, &value->items[i],
                             arena_printf(&x->arena, "%s[%" PRIu32 "]", path, i), err));
    }
    return OCH_OK;
}

static och_code check_member(struct exchange *x, const struct wire_member *member,
                             const struct json_value *value, och_error *err)
{
    const char *path = member->name;
    if (value->kind == JSON_NULL)
        return member->required || member->refuses_null
                   ? wrong_type(x, value, path, type_name(member->type), err)
                   : OCH_OK;
    switch (member->type) {
    case WIRE_ANY:
        return OCH_OK;
    case WIRE_STRING:
        return value->kind == JSON_STRING ? OCH_OK : wrong_type(x, value, path, "a string", err);
    case WIRE_BOOL:
        return value->kind == JSON_BOOL ? OCH_OK : wrong_type(x, value, path, "a boolean", err);
    case WIRE_U32:
        return check_u32(x, value, path, err);
    case WIRE_OBJECT:
        return value->kind == JSON_OBJECT ? OCH_OK : wrong_type(x, value, path, "a map", err);
    case WIRE_STRINGS:
    case WIRE_STRINGS_UNLESS_SET:
    case WIRE_NULLABLE_STRINGS:
        return check_strings(x, value, path, member->type == WIRE_NULLABLE_STRINGS, err);
    case WIRE_EMBEDDINGS:
    case WIRE_NULLABLE_EMBEDDINGS:
        return check_embeddings(x, value, path, member->type == WIRE_NULLABLE_EMBEDDINGS, err);
    case WIRE_METADATAS:
        return check_objects(x, value, path, err);
    case WIRE_INCLUDE:
        return check_include(x, value, path, err);
    case WIRE_CLEAR:
        return check_clear(x, value, path, err);
    case WIRE_FIELDS:
        return check_fields(x, value, path, err);
    case WIRE_INT:
        return value->kind == JSON_INT ? OCH_OK : wrong_type(x, value, path, "i64", err);
    case WIRE_NULLABLE_INTS:
        return check_ints(x, value, path, err);
    case WIRE_SEQUENCE:
        return value->kind == JSON_ARRAY ? OCH_OK : wrong_type(x, value, path, "a sequence", err);
    }
    return OCH_OK;
}

/* ---- bodies ---- */

static const struct wire_member *find_member(const struct wire_body *shape, slice name)
{
    for (size_t i = 0; i < shape->count; i++) {
        if (slice_equal(name, slice_of(shape->members[i].name)))
            return &shape->members[i];
    }
    return NULL;
}

static och_code unknown_member(struct exchange *x, const struct wire_body *shape,
                               const struct json_member *member, och_error *err)
{
    struct buf known;
    buf_init(&known, 1024);
    for (size_t i = 0; i < shape->count; i++)
        buf_printf(&known, "%s`%s`", i ? ", " : "", shape->members[i].name);
    exchange_at(x, "%.*s", (int)min_size(member->name.len, 40), (const char *)member->name.at);
    och_code code =
        wire_fail(x, &member->value, err, "", "unknown field `%.*s`, expected one of %.*s",
                  (int)min_size(member->name.len, 40), (const char *)member->name.at,
                  (int)known.len, (const char *)known.at);
    buf_done(&known);
    return code;
}

/* An update of what a filter chooses says `set` and needs no ids. */
static bool is_required(const struct wire_member *member, const struct json_value *body)
{
    if (member->type != WIRE_STRINGS_UNLESS_SET || !member->required)
        return member->required;
    const struct json_value *set = json_get(body, SLICE("set"));
    return !set || set->kind == JSON_NULL;
}

och_code wire_spread(struct exchange *x, const struct wire_body *shape,
                     const struct json_value *body, void *ret_values, och_error *err)
{
    if (body->kind != JSON_OBJECT) {
        if (body->kind == JSON_ARRAY)
            return wire_fail(x, body, err, "",
                             "invalid length %" PRIu32 ", expected struct %s with %zu elements",
                             body->count, shape->struct_name, shape->count);
        return wire_fail(x, body, err, "", "invalid type: %s, expected struct %s",
                         json_describe(body, &x->arena), shape->struct_name);
    }
    for (uint32_t i = 0; i < body->count; i++) {
        const struct json_member *given = &body->members[i];
        const struct wire_member *member = find_member(shape, given->name);
        if (!member) {
            if (shape->refuses_unknown)
                return unknown_member(x, shape, given, err);
            continue;
        }
        const struct json_value **place =
            (const struct json_value **)(void *)((char *)ret_values + member->at);
        if (*place)
            exchange_at(x, "%s", member->name);
        if (*place)
            return wire_fail(x, &given->value, err, "", "duplicate field `%s`", member->name);
        TRY(check_member(x, member, &given->value, err));
        *place = &given->value;
    }
    for (size_t i = 0; i < shape->count; i++) {
        const struct json_value **place =
            (const struct json_value **)(void *)((char *)ret_values + shape->members[i].at);
        if (!*place && is_required(&shape->members[i], body)) {
            exchange_at(x, "%s", shape->members[i].name);
            return wire_fail(x, body, err, "", "missing field `%s`", shape->members[i].name);
        }
        if (*place && (*place)->kind == JSON_NULL)
            *place = NULL;
    }
    return OCH_OK;
}

static const slice float_members[] = {{(const uint8_t *)"embeddings", 10},
                                      {(const uint8_t *)"query_embeddings", 16}};

/* A sound value with something behind it: the original judges the value's shape first. */
static och_code judge_trailing(struct exchange *x, const struct wire_body *shape,
                               const struct json_fault *fault, void *ret_values, och_error *err)
{
    struct json_options options = {.float_members = float_members,
                                   .float_member_count = COUNT_OF(float_members),
                                   .float_depth = x->float_depth};
    struct json_value value;
    struct json_fault again;
    slice before = slice_make(x->request->body.at, fault->offset);
    if (fault->offset > x->request->body.len ||
        json_read(before, &options, &x->arena, &value, &again, NULL) != OCH_OK)
        return OCH_OK;
    return wire_spread(x, shape, &value, ret_values, err);
}

/* JSON that has not ended where the body does: more often cut than wrong. */
static och_code hint_cut(struct exchange *x, const struct json_fault *fault, och_code code,
                         och_error *err)
{
    char bytes[32];
    size_t len = x->request->body.len;
    if (!strstr(fault->reason, "EOF while parsing"))
        return code;
    if (len == 0)
        error_hint(err, "The body is empty: send a JSON object, if only {}.");
    else
        error_hint(err,
                   "The body ends there, after %s byte%s: send all of it, and as "
                   "Content-Length its bytes, not characters.",
                   grouped(len, bytes), len == 1 ? "" : "s");
    return code;
}

och_code wire_read(struct exchange *x, const struct wire_body *shape, void *ret_values,
                   och_error *err)
{
    TRY(check_content_type(x, err));
    TRY(wire_check_size(x, err));
    struct json_options options = {.float_members = float_members,
                                   .float_member_count = COUNT_OF(float_members),
                                   .float_depth = x->float_depth,
                                   .keep_text = true};
    struct json_fault fault = {0};
    och_code code = json_read(x->request->body, &options, &x->arena, &x->body, &fault, err);
    if (code == OCH_INVALID) {
        if (strstr(fault.reason, "trailing characters"))
            TRY(judge_trailing(x, shape, &fault, ret_values, err));
        code =
            FAIL(err, OCH_INVALID,
                 "Failed to parse the request body as JSON: %s at line %" PRIu32 " column %" PRIu32,
                 fault.reason, fault.line, fault.column);
        return hint_cut(x, &fault, code, err);
    }
    TRY(code);
    return wire_spread(x, shape, &x->body, ret_values, err);
}

unsigned wire_include(const struct json_value *include, unsigned fallback)
{
    if (!include)
        return fallback;
    unsigned fields = 0;
    for (uint32_t i = 0; i < include->count; i++) {
        for (size_t j = 0; j < COUNT_OF(includes); j++) {
            if (slice_equal(include->items[i].string, slice_of(includes[j].name)))
                fields |= includes[j].field;
        }
    }
    return fields;
}

bool wire_read_level(slice text, uint8_t *ret_level)
{
    if (slice_equal(text, SLICE("index_and_wal")))
        *ret_level = READ_INDEX_AND_WAL;
    else if (slice_equal(text, SLICE("index_only")))
        *ret_level = READ_INDEX_ONLY;
    else if (slice_equal(text, SLICE("index_and_bounded_wal")))
        *ret_level = READ_BOUNDED_WAL;
    else
        return false;
    return true;
}

/* ---- query strings ---- */

och_code wire_query_text(struct exchange *x, const char *name, slice *ret_value, och_error *err)
{
    slice query = x->request->query, wanted = slice_of(name);
    *ret_value = SLICE_NONE;
    for (size_t at = 0; at < query.len;) {
        size_t end = at;
        while (end < query.len && query.at[end] != '&')
            end++;
        size_t equals = at;
        while (equals < end && query.at[equals] != '=')
            equals++;
        if (slice_equal(slice_make(query.at + at, equals - at), wanted)) {
            if (ret_value->at)
                return FAIL(err, OCH_INVALID,
                            "Failed to deserialize query string: duplicate field `%s`", name);
            slice raw = equals < end ? slice_make(query.at + equals + 1, end - equals - 1)
                                     : slice_make(query.at + end, 0);
            if (!http_percent_decode(raw, true, &x->arena, ret_value) ||
                !json_utf8_valid(*ret_value))
                return FAIL(err, OCH_INVALID,
                            "Failed to deserialize query string: %s: invalid escape", name);
        }
        at = end + 1;
    }
    return OCH_OK;
}

och_code wire_query_u64(struct exchange *x, const char *name, uint64_t fallback,
                        uint64_t *ret_value, och_error *err)
{
    slice text;
    TRY(wire_query_text(x, name, &text, err));
    *ret_value = fallback;
    if (!text.at)
        return OCH_OK;
    if (text.len == 0)
        return FAIL(
            err, OCH_INVALID,
            "Failed to deserialize query string: %s: cannot parse integer from empty string", name);
    uint64_t value = 0;
    for (size_t i = text.len > 1 && text.at[0] == '+' ? 1 : 0; i < text.len; i++) {
        if (text.at[i] < '0' || text.at[i] > '9')
            return FAIL(err, OCH_INVALID,
                        "Failed to deserialize query string: %s: invalid digit found in string",
                        name);
        value = value * 10 + (uint64_t)(text.at[i] - '0');
        if (value > UINT32_MAX)
            return FAIL(
                err, OCH_INVALID,
                "Failed to deserialize query string: %s: number too large to fit in target type",
                name);
    }
    *ret_value = value;
    return OCH_OK;
}
