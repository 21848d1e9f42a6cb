/* SPDX-License-Identifier: Apache-2.0 */
/* Aliases of collections, routes of our own (docs/extras.md). */
#include "gateway/http/exchange.h"

#include "model/limits.h"

#include <inttypes.h>

#define MEMBER(type_, member_) .at = offsetof(type_, member_)

static void write_alias(struct buf *out, const struct sysdb_alias *alias)
{
    char id[UUID_TEXT_SIZE];
    buf_text(out, "{\"alias\":");
    json_write_string(out, alias->name);
    buf_text(out, ",\"collection\":");
    json_write_string(out, alias->collection_name);
    buf_printf(out, ",\"collection_id\":\"%s\",\"set_at\":%" PRId64 "}",
               uuid_format(alias->collection, id), alias->created_at);
}

static och_code write_named(struct exchange *x, slice name, och_error *err)
{
    struct sysdb_alias alias;
    TRY(sysdb_alias_get(x->gateway->options.sysdb, x->scope.tenant, x->scope.database, name,
                        &x->arena, &alias, err));
    write_alias(&x->reply->body, &alias);
    return OCH_OK;
}

static och_code write_list(struct exchange *x, och_error *err)
{
    struct sysdb_alias *rows;
    size_t count;
    TRY(sysdb_alias_list(x->gateway->options.sysdb, x->scope.tenant, x->scope.database, &x->arena,
                         &rows, &count, err));
    struct buf *out = &x->reply->body;
    buf_byte(out, '[');
    for (size_t i = 0; i < count; i++) {
        if (i)
            buf_byte(out, ',');
        write_alias(out, &rows[i]);
    }
    buf_byte(out, ']');
    return OCH_OK;
}

och_code handle_alias_list(struct exchange *x, och_error *err)
{
    return write_list(x, err);
}

och_code handle_alias_get(struct exchange *x, och_error *err)
{
    return write_named(x, x->target, err);
}

och_code handle_alias_put(struct exchange *x, och_error *err)
{
    struct put_body {
        const struct json_value *collection;
    } body = {0};
    static const struct wire_member members[] = {
        {"collection", WIRE_STRING, true, true, MEMBER(struct put_body, collection)}};
    static const struct wire_body shape = {"AliasPayload", members, COUNT_OF(members), true};
    TRY(wire_read(x, &shape, &body, err));
    struct gateway_alias_change change = {x->target, body.collection->string};
    TRY(gateway_alias_change(x->gateway, &x->scope, &change, 1, err));
    return write_named(x, x->target, err);
}

och_code handle_alias_drop(struct exchange *x, och_error *err)
{
    struct gateway_alias_change change = {x->target, SLICE_NONE};
    TRY(gateway_alias_change(x->gateway, &x->scope, &change, 1, err));
    buf_text(&x->reply->body, "{}");
    return OCH_OK;
}

/* {"aliases": {"live": "docs-2", "old": null}}: all of them at once; the answer is the list as it is then. */
och_code handle_alias_change(struct exchange *x, och_error *err)
{
    struct change_body {
        const struct json_value *aliases;
    } body = {0};
    static const struct wire_member members[] = {
        {"aliases", WIRE_OBJECT, true, true, MEMBER(struct change_body, aliases)}};
    static const struct wire_body shape = {"AliasesPayload", members, COUNT_OF(members), true};
    TRY(wire_read(x, &shape, &body, err));
    uint32_t count = body.aliases->count;
    struct gateway_alias_change *changes =
        ARENA_ARRAY(&x->arena, struct gateway_alias_change, (size_t)count + 1);
    if (!changes)
        return FAIL_NO_MEMORY(err, "aliases");
    for (uint32_t i = 0; i < count; i++) {
        const struct json_member *member = &body.aliases->members[i];
        if (member->value.kind != JSON_STRING && member->value.kind != JSON_NULL)
            return wire_fail(x, &member->value, err, "aliases",
                             "invalid type: %s, expected a string",
                             json_describe(&member->value, &x->arena));
        changes[i].name = member->name;
        if (member->value.kind == JSON_STRING)
            changes[i].collection = member->value.string;
    }
    if (count > 0)
        TRY(gateway_alias_change(x->gateway, &x->scope, changes, count, err));
    return write_list(x, err);
}
