/* SPDX-License-Identifier: Apache-2.0 */
/* Tenants, databases, collections (http-api.md §4, 5): read the wire, call the rules, write the wire. */
#include "gateway/http/exchange.h"

#include "model/limits.h"

#include <inttypes.h>

#define MEMBER(type_, member_) .at = offsetof(type_, member_)

static och_code empty_object(struct exchange *x)
{
    buf_text(&x->reply->body, "{}");
    return OCH_OK;
}

/* ---- tenants ---- */

struct name_body {
    const struct json_value *name;
};
static const struct wire_member name_members[] = {
    {"name", WIRE_STRING, true, true, MEMBER(struct name_body, name)}};

och_code handle_tenant_create(struct exchange *x, och_error *err)
{
    static const struct wire_body shape = {"CreateTenantPayload", name_members, 1, false};
    struct name_body body = {0};
    TRY(wire_read(x, &shape, &body, err));
    slice name = body.name->string;
    if (name.len < LIMIT_NAME_MIN) {
        struct buf quoted;
        buf_init(&quoted, 64);
        json_write_string(&quoted, name);
        och_code code = FAIL(err, OCH_INVALID,
                             "Validation error: name: Validation error: length [{\"min\": "
                             "Number(3), \"value\": String(%.*s)}]",
                             (int)quoted.len, (const char *)quoted.at);
        buf_done(&quoted);
        return code;
    }
    TRY(sysdb_tenant_create(x->gateway->options.sysdb, name, err));
    return empty_object(x);
}

och_code handle_tenant_get(struct exchange *x, och_error *err)
{
    struct sysdb_tenant tenant;
    TRY(sysdb_tenant_get(x->gateway->options.sysdb, x->target, &x->arena, &tenant, err));
    struct buf *out = &x->reply->body;
    buf_text(out, "{\"name\":");
    json_write_string(out, tenant.name);
    buf_text(out, ",\"resource_name\":");
    if (tenant.resource_name.at)
        json_write_string(out, tenant.resource_name);
    else
        buf_text(out, "null");
    buf_byte(out, '}');
    return OCH_OK;
}

och_code handle_tenant_update(struct exchange *x, och_error *err)
{
    struct resource_body {
        const struct json_value *resource_name;
    } body = {0};
    static const struct wire_member members[] = {
        {"resource_name", WIRE_STRING, true, true, MEMBER(struct resource_body, resource_name)}};
    static const struct wire_body shape = {"UpdateTenantPayload", members, 1, false};
    TRY(wire_read(x, &shape, &body, err));
    TRY(sysdb_tenant_set_resource(x->gateway->options.sysdb, x->target, body.resource_name->string,
                                  err));
    return empty_object(x);
}

/* ---- databases ---- */

static void write_database(struct buf *out, const struct sysdb_database *database)
{
    char id[UUID_TEXT_SIZE];
    buf_printf(out, "{\"id\":\"%s\",\"name\":", uuid_format(database->id, id));
    json_write_string(out, database->name);
    buf_text(out, ",\"tenant\":");
    json_write_string(out, database->tenant);
    buf_byte(out, '}');
}

och_code handle_database_create(struct exchange *x, och_error *err)
{
    static const struct wire_body shape = {"CreateDatabasePayload", name_members, 1, false};
    struct name_body body = {0};
    TRY(wire_read(x, &shape, &body, err));
    och_code code = gateway_database_create(x->gateway, x->scope.tenant, body.name->string, err);
    if (code == OCH_INVALID)
        exchange_at(x, "name");
    TRY(code);
    return empty_object(x);
}

static och_code read_page(struct exchange *x, uint64_t *ret_limit, uint64_t *ret_offset,
                          och_error *err)
{
    TRY(wire_query_u64(x, "limit", UINT64_MAX, ret_limit, err));
    return wire_query_u64(x, "offset", 0, ret_offset, err);
}

och_code handle_database_list(struct exchange *x, och_error *err)
{
    uint64_t limit, offset;
    TRY(read_page(x, &limit, &offset, err));
    struct sysdb_database *rows;
    size_t count;
    TRY(sysdb_database_list(x->gateway->options.sysdb, x->scope.tenant, limit, offset, &x->arena,
                            &rows, &count, err));
    struct buf *out = &x->reply->body;
    buf_byte(out, '[');
    for (size_t i = 0; i < count; i++) {
        if (i)
            buf_byte(out, ',');
        write_database(out, &rows[i]);
    }
    buf_byte(out, ']');
    return OCH_OK;
}

och_code handle_database_get(struct exchange *x, och_error *err)
{
    struct sysdb_database database;
    TRY(sysdb_database_get(x->gateway->options.sysdb, x->scope.tenant, x->target, &x->arena,
                           &database, err));
    write_database(&x->reply->body, &database);
    return OCH_OK;
}

och_code handle_database_drop(struct exchange *x, och_error *err)
{
    TRY(gateway_database_drop(x->gateway, x->scope.tenant, x->target, err));
    return empty_object(x);
}

/* ---- collections ---- */

och_code exchange_collection(struct exchange *x, const struct sysdb_collection **ret_collection,
                             och_error *err)
{
    uuid id;
    if (!uuid_parse(x->target, &id))
        return FAIL(err, OCH_INVALID, "Collection ID is not a valid UUIDv4");
    return sysdb_collection_get(x->gateway->options.sysdb, x->scope.tenant, x->scope.database, id,
                                ret_collection, err);
}

/* Wrong value types in collection metadata are a matter of shape (422); keys are judged later (400). */
static och_code check_metadata_shape(struct exchange *x, const struct json_value *value,
                                     const char *member, unsigned flags, och_error *err)
{
    if (!value)
        return OCH_OK;
    struct buf scratch;
    buf_init(&scratch, BUF_MAX_NONE);
    och_error reason = {0};
    och_code code = meta_from_json(value, flags | META_COLLECTION, &scratch, &reason);
    buf_done(&scratch);
    if (code == OCH_SHAPE)
        return wire_fail(x, value, err, member, "%.400s", reason.message);
    return code == OCH_NO_MEMORY ? FAIL_NO_MEMORY(err, "metadata") : OCH_OK;
}

struct create_body {
    const struct json_value *name, *metadata, *configuration, *schema, *get_or_create;
};

och_code handle_collection_create(struct exchange *x, och_error *err)
{
    static const struct wire_member members[] = {
        {"name", WIRE_STRING, true, true, MEMBER(struct create_body, name)},
        {"metadata", WIRE_OBJECT, false, false, MEMBER(struct create_body, metadata)},
        {"configuration", WIRE_OBJECT, false, false, MEMBER(struct create_body, configuration)},
        {"schema", WIRE_OBJECT, false, false, MEMBER(struct create_body, schema)},
        {"get_or_create", WIRE_BOOL, false, true, MEMBER(struct create_body, get_or_create)},
    };
    static const struct wire_body shape = {"CreateCollectionPayload", members, COUNT_OF(members),
                                           false};
    struct create_body body = {0};
    TRY(wire_read(x, &shape, &body, err));
    TRY(check_metadata_shape(x, body.metadata, "metadata", 0, err));
    TRY(schema_check_shape(body.configuration, body.schema, err));
    struct gateway_collection_new spec = {.name = body.name->string,
                                          .get_or_create =
                                              body.get_or_create && body.get_or_create->boolean,
                                          .metadata = body.metadata,
                                          .configuration = body.configuration,
                                          .schema = body.schema};
    const struct sysdb_collection *collection CLEANUP(sysdb_collection_cleanup) = NULL;
    TRY(gateway_collection_create(x->gateway, &x->scope, &spec, &collection, err));
    return gateway_collection_write(x->gateway, collection, &x->arena, &x->reply->body, err);
}

och_code handle_collection_list(struct exchange *x, och_error *err)
{
    uint64_t limit, offset;
    TRY(read_page(x, &limit, &offset, err));
    const struct sysdb_collection **rows;
    size_t count;
    TRY(sysdb_collection_list(x->gateway->options.sysdb, x->scope.tenant, x->scope.database, limit,
                              offset, &x->arena, &rows, &count, err));
    struct buf *out = &x->reply->body;
    och_code code = OCH_OK;
    buf_byte(out, '[');
    bool first = true;
    for (size_t i = 0; i < count; i++) {
        size_t start = out->len;
        if (!first)
            buf_byte(out, ',');
        if (code == OCH_OK)
            code = gateway_collection_write(x->gateway, rows[i], &x->arena, out, err);
        if (code == OCH_NOT_FOUND) { /* dropped while the list was written */
            out->len = start;
            error_clear(err);
            code = OCH_OK;
        } else {
            first = false;
        }
        sysdb_collection_unref(rows[i]);
    }
    buf_byte(out, ']');
    return code;
}

och_code handle_collection_count(struct exchange *x, och_error *err)
{
    uint64_t count;
    TRY(sysdb_collection_count(x->gateway->options.sysdb, x->scope.tenant, x->scope.database,
                               &count, err));
    buf_printf(&x->reply->body, "%" PRIu64, count);
    return OCH_OK;
}

static och_code write_collection(struct exchange *x, const struct sysdb_collection *collection,
                                 och_error *err)
{
    return gateway_collection_write(x->gateway, collection, &x->arena, &x->reply->body, err);
}

och_code handle_collection_get(struct exchange *x, och_error *err)
{
    const struct sysdb_collection *collection CLEANUP(sysdb_collection_cleanup) = NULL;
    TRY(gateway_collection_find(x->gateway, &x->scope, x->target, &collection, err));
    return write_collection(x, collection, err);
}

och_code handle_collection_by_id(struct exchange *x, och_error *err)
{
    const struct sysdb_collection *collection CLEANUP(sysdb_collection_cleanup) = NULL;
    uuid id;
    if (!uuid_parse(x->target, &id))
        return FAIL(err, OCH_INVALID,
                    "Validation error: collection_id: Invalid collection ID format, expected UUID");
    och_code code = sysdb_collection_get(x->gateway->options.sysdb, x->scope.tenant,
                                         x->scope.database, id, &collection, err);
    if (code == OCH_NOT_FOUND)
        return FAIL(err, OCH_NOT_FOUND, "Collection [%.*s] does not exist", SLICE_ARG(x->target));
    TRY(code);
    return write_collection(x, collection, err);
}

och_code handle_collection_by_crn(struct exchange *x, och_error *err)
{
    slice parts[3] = {{x->target.at, 0}, SLICE_NONE, SLICE_NONE};
    size_t count = 1;
    for (size_t i = 0; i < x->target.len; i++) {
        if (x->target.at[i] != ':')
            parts[count - 1].len++;
        else if (count++ < 3)
            parts[count - 1] = slice_make(x->target.at + i + 1, 0);
        else
            break;
    }
    if (count != 3 || parts[0].len == 0 || parts[1].len == 0 || parts[2].len == 0)
        return FAIL(
            err, OCH_INVALID,
            "Validation error: crn: CRN must be in the format "
            "<tenant_resource_name>:<database_name>:<collection_name> with non-empty parts");
    const struct sysdb_collection *collection CLEANUP(sysdb_collection_cleanup) = NULL;
    TRY(sysdb_collection_find_resource(x->gateway->options.sysdb, parts[0], parts[1], parts[2],
                                       &collection, err));
    return write_collection(x, collection, err);
}

struct change_body {
    const struct json_value *new_name, *new_metadata, *new_configuration;
};

och_code handle_collection_update(struct exchange *x, och_error *err)
{
    static const struct wire_member members[] = {
        {"new_name", WIRE_STRING, false, false, MEMBER(struct change_body, new_name)},
        {"new_metadata", WIRE_OBJECT, false, false, MEMBER(struct change_body, new_metadata)},
        {"new_configuration", WIRE_OBJECT, false, false,
         MEMBER(struct change_body, new_configuration)},
    };
    static const struct wire_body shape = {"UpdateCollectionPayload", members, COUNT_OF(members),
                                           false};
    struct change_body body = {0};
    TRY(wire_read(x, &shape, &body, err));
    TRY(check_metadata_shape(x, body.new_metadata, "new_metadata", META_ALLOW_DELETE, err));
    TRY(schema_check_update_shape(body.new_configuration, err));
    uuid id;
    if (!uuid_parse(x->target, &id))
        return FAIL(err, OCH_INVALID, "Collection ID is not a valid UUIDv4");
    TRY(gateway_collection_update(x->gateway, &x->scope, id, body.new_name, body.new_metadata,
                                  body.new_configuration, err));
    return empty_object(x);
}

och_code handle_collection_drop(struct exchange *x, och_error *err)
{
    TRY(gateway_collection_drop(x->gateway, &x->scope, x->target, err));
    return empty_object(x);
}
