/* SPDX-License-Identifier: Apache-2.0 */
/* Looking at values: members by name, equality, and what the peer calls a value in its messages. */
#include "json/json.h"

#include <inttypes.h>
#include <math.h>

const struct json_value *json_get(const struct json_value *object, slice name)
{
    if (!object || object->kind != JSON_OBJECT)
        return NULL;
    for (size_t i = object->count; i-- > 0;)
        if (slice_equal(object->members[i].name, name))
            return &object->members[i].value;
    return NULL;
}

const char *json_describe(const struct json_value *value, struct arena *arena)
{
    CLEANUP(buf_cleanup) struct buf text;
    buf_init(&text, BUF_MAX_NONE);
    switch (value->kind) {
    case JSON_NULL:
        return "null";
    case JSON_BOOL:
        return value->boolean ? "boolean `true`" : "boolean `false`";
    case JSON_ARRAY:
    case JSON_FLOATS:
        return "sequence";
    case JSON_OBJECT:
        return "map";
    case JSON_INT:
        return arena_printf(arena, "integer `%" PRId64 "`", value->integer);
    case JSON_FLOAT:
        if (value->big && value->number >= 0 && value->number < 0x1p64) {
            /* The peer holds it as u64 and names it exactly; our f64 may have lost the last digits. */
            return arena_printf(arena, "integer `%.0f`", value->number);
        }
        buf_text(&text, "floating point `");
        json_write_f64(&text, value->number);
        buf_text(&text, "`");
        break;
    default:
        buf_text(&text, "string ");
        json_write_string(&text, value->string);
    }
    if (text.failed)
        return NULL;
    return (const char *)arena_copy(arena, buf_view(&text)).at;
}

static bool equal_here(const struct json_value *a, const struct json_value *b)
{
    if (a->kind != b->kind)
        return false;
    switch (a->kind) {
    case JSON_NULL:
        return true;
    case JSON_BOOL:
        return a->boolean == b->boolean;
    case JSON_INT:
        return a->integer == b->integer;
    case JSON_FLOAT:
        return memcmp(&a->number, &b->number, sizeof a->number) == 0;
    case JSON_STRING:
        return slice_equal(a->string, b->string);
    case JSON_FLOATS:
        return a->count == b->count &&
               (a->count == 0 || memcmp(a->floats, b->floats, a->count * sizeof(float)) == 0);
    default:
        return true; /* containers: the caller goes on */
    }
}

/* Repeated names count once, the last value wins; so compare what json_get() sees from both sides.  The depth of
 * values is bounded by JSON_DEPTH_MAX. */
static bool covers(const struct json_value *a, const struct json_value *b)
{
    for (size_t i = 0; i < a->count; i++) {
        const struct json_value *other = json_get(b, a->members[i].name);
        if (!other)
            return false;
        if (json_get(a, a->members[i].name) == &a->members[i].value &&
            !json_equal(&a->members[i].value, other))
            return false;
    }
    return true;
}

bool json_equal(const struct json_value *a, const struct json_value *b)
{
    if (!equal_here(a, b))
        return false;
    if (a->kind == JSON_ARRAY) {
        if (a->count != b->count)
            return false;
        for (size_t i = 0; i < a->count; i++)
            if (!json_equal(&a->items[i], &b->items[i]))
                return false;
    }
    if (a->kind == JSON_OBJECT) {
        if (!covers(a, b))
            return false;
        for (size_t i = 0; i < b->count; i++)
            if (!json_get(a, b->members[i].name))
                return false;
    }
    return true;
}
