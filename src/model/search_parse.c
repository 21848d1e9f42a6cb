/* SPDX-License-Identifier: Apache-2.0 */
/* A Search payload from JSON.  Shape first, in document order, with the path as the peer writes it; contents (search_check) later, because an
 * unknown collection is judged between the two. */
#include "model/search_internal.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

/* ---- failing ---- */

och_code search_fail(struct search_parser *p, const struct json_value *value, const char *path,
                     const char *format, ...)
{
    char reason[400];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(reason, sizeof(reason), format, args);
    va_end(args);
    uint32_t line = 1, column = 1;
    if (p->text.at)
        json_locate(p->text, value->offset, &line, &column);
    och_code code =
        FAIL(p->err, OCH_SHAPE, "searches[%" PRIu32 "]%s: %s at line %" PRIu32 " column %" PRIu32,
             p->index, path, reason, line, column);
    error_mark_path(p->err, p->err->message, strcspn(p->err->message, ": "));
    return code;
}

och_code search_wrong_type(struct search_parser *p, const struct json_value *value,
                           const char *path, const char *expected)
{
    return search_fail(p, value, path, "invalid type: %s, expected %s",
                       json_describe(value, p->arena), expected);
}

/* ---- members of an object ---- */

och_code search_members(struct search_parser *p, const struct json_value *object, const char *path,
                        const char *expected, const struct search_member *members, size_t count)
{
    for (size_t i = 0; i < count; i++)
        *members[i].place = NULL;
    if (object->kind != JSON_OBJECT)
        return search_wrong_type(p, object, path, expected);
    for (uint32_t i = 0; i < object->count; i++) {
        const struct json_member *given = &object->members[i];
        size_t at = 0;
        while (at < count && !slice_equal(given->name, slice_of(members[at].name)))
            at++;
        if (at == count) { /* silence would mean: unfiltered, unranked (X22) */
            const char *known = "";
            for (size_t j = 0; j < count && known; j++)
                known = arena_printf(p->arena, "%s%s`%s`", known, j ? ", " : "", members[j].name);
            return search_fail(p, &given->value, path, "unknown field `%.*s`, expected one of %s",
                               (int)min_size(given->name.len, 40), (const char *)given->name.at,
                               known ? known : "those known");
        }
        if (*members[at].place)
            return search_fail(p, &given->value, path, "duplicate field `%s`", members[at].name);
        *members[at].place = &given->value;
    }
    return OCH_OK;
}

och_code search_u32(struct search_parser *p, const struct json_value *value, const char *path,
                    uint32_t *ret)
{
    if (value->kind == JSON_INT && value->integer >= 0 && value->integer <= UINT32_MAX) {
        *ret = (uint32_t)value->integer;
        return OCH_OK;
    }
    if (value->kind == JSON_INT || (value->kind == JSON_FLOAT && value->big))
        return search_fail(p, value, path, "invalid value: %s, expected u32",
                           json_describe(value, p->arena));
    return search_wrong_type(p, value, path, "u32");
}

static och_code read_keys(struct search_parser *p, const struct json_value *list, const char *path,
                          const slice **ret_keys, uint32_t *ret_count)
{
    *ret_keys = NULL;
    *ret_count = 0;
    if (!list)
        return OCH_OK;
    if (list->kind != JSON_ARRAY)
        return search_wrong_type(p, list, path, "a sequence");
    if (list->count > LIMIT_SEARCH_KEYS)
        return FAIL(p->err, OCH_QUOTA,
                    "Quota exceeded: searches[%" PRIu32 "]%s: %" PRIu32
                    " keys, at most %d are allowed",
                    p->index, path, list->count, LIMIT_SEARCH_KEYS);
    slice *keys = ARENA_ARRAY(p->arena, slice, (size_t)list->count + 1);
    if (!keys)
        return FAIL_NO_MEMORY(p->err, "a search");
    for (uint32_t i = 0; i < list->count; i++) {
        if (list->items[i].kind != JSON_STRING) {
            const char *at = arena_printf(p->arena, "%s[%" PRIu32 "]", path, i);
            return search_wrong_type(p, &list->items[i], at ? at : path, "a string");
        }
        keys[i] = list->items[i].string;
    }
    *ret_keys = keys;
    *ret_count = list->count;
    return OCH_OK;
}

/* ---- the members of a payload ---- */

static och_code read_filter(struct search_parser *p, const struct json_value *value,
                            const char *path, struct search *search)
{
    struct filter_node *filter = NULL;
    och_error err = {0};
    if (value->kind == JSON_OBJECT && value->count == 0)
        return OCH_OK;
    const char *root = arena_printf(p->arena, "searches[%" PRIu32 "]%s", p->index, path);
    och_code code = filter_parse_where_at(value, root ? root : "searches", p->arena, &filter, &err);
    search->filter = filter;
    if (code == OCH_OK)
        return OCH_OK;
    if (code == OCH_INVALID &&
        slice_starts_with(slice_of(err.message), SLICE("Invalid where clause")))
        return search_fail(p, value, path, "%s", err.message);
    if (code != OCH_INVALID) {
        *p->err = err;
        return code;
    }
    search_late(p, code, &err); /* '#document' as a metadata key: judged with the schema */
    return OCH_OK;
}

static och_code read_aggregate(struct search_parser *p, const struct json_value *value,
                               struct search_group *group)
{
    const char *path = ".group_by.aggregate";
    if (value->kind != JSON_OBJECT)
        return search_wrong_type(p, value, path, "enum Aggregate");
    if (value->count != 1)
        return FAIL(p->err, OCH_INVALID,
                    "Failed to parse the request body as JSON: searches[%" PRIu32
                    "]%s: expected one member, $min_k or $max_k, got %" PRIu32,
                    p->index, path, value->count);
    const struct json_member *only = &value->members[0];
    if (slice_equal(only->name, SLICE("$min_k")))
        group->aggregate = SEARCH_MIN_K;
    else if (slice_equal(only->name, SLICE("$max_k")))
        group->aggregate = SEARCH_MAX_K;
    else
        return search_fail(p, value, path,
                           "unknown variant `%.*s`, expected one of `$min_k`, `$max_k`",
                           (int)min_size(only->name.len, 40), (const char *)only->name.at);
    path = group->aggregate == SEARCH_MIN_K ? ".group_by.aggregate.$min_k"
                                            : ".group_by.aggregate.$max_k";
    const struct json_value *keys = NULL, *k = NULL;
    const struct search_member members[] = {{"keys", &keys}, {"k", &k}};
    TRY(search_members(p, &only->value, path, "struct variant", members, COUNT_OF(members)));
    if (!keys || !k)
        return search_fail(p, &only->value, path, "missing field `%s`", keys ? "k" : "keys");
    TRY(read_keys(p, keys, arena_printf(p->arena, "%s.keys", path), &group->order,
                  &group->order_count));
    return search_u32(p, k, arena_printf(p->arena, "%s.k", path), &group->k);
}

static och_code read_group(struct search_parser *p, const struct json_value *value,
                           struct search_group *group)
{
    const struct json_value *keys = NULL, *aggregate = NULL;
    const struct search_member members[] = {{"keys", &keys}, {"aggregate", &aggregate}};
    TRY(search_members(p, value, ".group_by", "struct GroupBy", members, COUNT_OF(members)));
    TRY(read_keys(p, keys, ".group_by.keys", &group->keys, &group->key_count));
    if (!aggregate || aggregate->kind == JSON_NULL)
        return OCH_OK;
    return read_aggregate(p, aggregate, group);
}

static och_code read_limit(struct search_parser *p, const struct json_value *value,
                           struct search *search)
{
    const struct json_value *offset = NULL, *limit = NULL;
    const struct search_member members[] = {{"offset", &offset}, {"limit", &limit}};
    uint32_t number = 0;
    TRY(search_members(p, value, ".limit", "struct Limit", members, COUNT_OF(members)));
    if (offset)
        TRY(search_u32(p, offset, ".limit.offset", &number));
    search->offset = number;
    if (!limit || limit->kind == JSON_NULL)
        return OCH_OK;
    TRY(search_u32(p, limit, ".limit.limit", &number));
    search->limit = number;
    return OCH_OK;
}

/* ---- select ---- */

static const struct {
    const char *name;
    unsigned fields;
} system_keys[] = {{"#document", RECORD_DOCUMENT},
                   {"#embedding", RECORD_VECTOR},
                   {"#metadata", RECORD_METADATA},
                   {"#score", 0}};
#define SYSTEM_SCORE 3

static size_t system_key(slice key)
{
    size_t i = 0;
    while (i < COUNT_OF(system_keys) && !slice_equal(key, slice_of(system_keys[i].name)))
        i++;
    return i;
}

static int select_order(const void *a, const void *b)
{
    const slice *x = a, *y = b;
    size_t left = system_key(*x), right = system_key(*y);
    return left != right ? (left > right) - (left < right) : slice_compare(*x, *y);
}

static och_code read_select(struct search_parser *p, const struct json_value *value,
                            struct search *search, struct search_select *select)
{
    const struct json_value *list = NULL;
    const struct search_member members[] = {{"keys", &list}};
    const slice *given;
    uint32_t count;
    TRY(search_members(p, value, ".select", "struct Select", members, COUNT_OF(members)));
    TRY(read_keys(p, list, ".select.keys", &given, &count));
    slice *keys = ARENA_ARRAY(p->arena, slice, (size_t)count + 1);
    if (!keys)
        return FAIL_NO_MEMORY(p->err, "a search");
    for (uint32_t i = 0; i < count; i++)
        keys[i] = given[i];
    if (count > 1)
        qsort(keys, count, sizeof(*keys), select_order);
    for (uint32_t i = 0; i < count; i++) {
        if (i && slice_equal(keys[i], keys[i - 1]))
            continue;
        size_t known = system_key(keys[i]);
        if (known < COUNT_OF(system_keys))
            search->fields |= system_keys[known].fields;
        select->score |= known == SYSTEM_SCORE;
        if (slice_equal(keys[i], SLICE("#uri")))
            search->fields |= RECORD_URI;
        else
            select->some_metadata |= known == COUNT_OF(system_keys);
        keys[select->count++] = keys[i];
    }
    select->whole_metadata = search->fields & RECORD_METADATA;
    if (select->some_metadata)
        search->fields |= RECORD_METADATA;
    select->keys = keys;
    return OCH_OK;
}

/* ---- payloads ---- */

static och_code read_payload(struct search_parser *p, const struct json_value *value,
                             struct search *search, struct search_select *select)
{
    const struct json_value *filter, *where, *rank, *group, *limit, *keys;
    const struct search_member members[] = {
        {"filter", &filter},  {"where", &where}, {"rank", &rank},
        {"group_by", &group}, {"limit", &limit}, {"select", &keys},
    };
    search->limit = PLAN_NO_LIMIT;
    TRY(search_members(p, value, "", "struct SearchPayload", members, COUNT_OF(members)));
    if (filter && where)
        return search_fail(p, where, "", "duplicate field `filter`: `where` is another name of it");
    if (filter && filter->kind != JSON_NULL)
        TRY(read_filter(p, filter, ".filter", search));
    if (where && where->kind != JSON_NULL)
        TRY(read_filter(p, where, ".where", search));
    if (rank && rank->kind != JSON_NULL)
        TRY(search_parse_rank(p, rank, search));
    if (group)
        TRY(read_group(p, group, &search->group));
    if (limit)
        TRY(read_limit(p, limit, search));
    if (keys)
        TRY(read_select(p, keys, search, select));
    return OCH_OK;
}

och_code search_parse(const struct json_value *searches, slice text, struct arena *arena,
                      struct search_request *ret_request, och_error *err)
{
    och_error ignored;
    struct search_parser p = {
        .arena = arena, .err = err ? err : &ignored, .text = text, .request = ret_request};
    *ret_request = (struct search_request){0};
    assert(searches->kind == JSON_ARRAY);
    if (searches->count > LIMIT_SEARCHES)
        return FAIL(err, OCH_QUOTA,
                    "Quota exceeded: searches: %" PRIu32 " payloads, at most %d are allowed",
                    searches->count, LIMIT_SEARCHES);
    ret_request->searches = ARENA_ARRAY(arena, struct search, (size_t)searches->count + 1);
    ret_request->selects = ARENA_ARRAY(arena, struct search_select, (size_t)searches->count + 1);
    if (!ret_request->searches || !ret_request->selects)
        return FAIL_NO_MEMORY(err, "a search");
    ret_request->count = searches->count;
    for (p.index = 0; p.index < searches->count; p.index++)
        TRY(read_payload(&p, &searches->items[p.index], &ret_request->searches[p.index],
                         &ret_request->selects[p.index]));
    return OCH_OK;
}
