/* SPDX-License-Identifier: Apache-2.0 */
/* Attached functions (http-api.md §9): read the wire, call the rules, write the wire. */
#include "gateway/http/exchange.h"

#include <inttypes.h>

#define MEMBER(type_, member_) .at = offsetof(type_, member_)

/* api/v2/tenants/T/databases/D/collections/C/functions/NAME */
static slice name_of(const struct exchange *x)
{
    return x->segments[9];
}

static och_code collection_id(struct exchange *x, uuid *ret_id, och_error *err)
{
    if (!uuid_parse(x->target, ret_id))
        return FAIL(err, OCH_INVALID, "Collection ID is not a valid UUIDv4");
    return OCH_OK;
}

static void write_id(struct buf *out, const char *member, uuid id)
{
    char text[UUID_TEXT_SIZE];
    buf_printf(out, "\"%s\":\"%s\"", member, uuid_format(id, text));
}

static void write_string(struct buf *out, const char *member, slice value)
{
    buf_printf(out, ",\"%s\":", member);
    json_write_string(out, value);
}

static och_code write_function(struct exchange *x, const struct sysdb_function *row, och_error *err)
{
    const struct sysdb_collection *input CLEANUP(sysdb_collection_cleanup) = NULL;
    TRY(sysdb_collection_get(x->gateway->options.sysdb, x->scope.tenant, x->scope.database,
                             row->input, &input, err));
    struct buf *out = &x->reply->body;
    char database[UUID_TEXT_SIZE];
    buf_text(out, "{\"attached_function\":{");
    write_id(out, "id", row->id);
    write_string(out, "name", row->name);
    write_string(out, "function_name", row->function);
    buf_byte(out, ',');
    write_id(out, "input_collection_id", row->input);
    write_string(out, "output_collection", row->output_name);
    buf_byte(out, ',');
    write_id(out, "output_collection_id", row->output);
    write_string(out, "params", row->params);
    write_string(out, "tenant_id", input->tenant);
    write_string(out, "database_id", slice_of(uuid_format(input->database_id, database)));
    buf_printf(out,
               ",\"completion_offset\":%" PRIu64 ",\"min_records_for_invocation\":%" PRIu64 "}",
               row->completion, row->min_records);
    return OCH_OK;
}

static void write_created(struct exchange *x, bool created)
{
    buf_printf(&x->reply->body, ",\"created\":%s}", created ? "true" : "false");
}

struct attach_body {
    const struct json_value *name, *function_id, *output_collection, *params;
};

och_code handle_function_attach(struct exchange *x, och_error *err)
{
    static const struct wire_member members[] = {
        {"name", WIRE_STRING, true, true, MEMBER(struct attach_body, name)},
        {"function_id", WIRE_STRING, true, true, MEMBER(struct attach_body, function_id)},
        {"output_collection", WIRE_STRING, true, true,
         MEMBER(struct attach_body, output_collection)},
        {"params", WIRE_ANY, false, false, MEMBER(struct attach_body, params)},
    };
    static const struct wire_body shape = {"AttachFunctionRequest", members, COUNT_OF(members),
                                           false};
    struct attach_body body = {0};
    struct buf params CLEANUP(buf_cleanup);
    uuid collection;
    buf_init(&params, BUF_MAX_NONE);
    TRY(wire_read(x, &shape, &body, err));
    TRY(collection_id(x, &collection, err));
    if (body.params)
        json_write_value(&params, body.params);
    else
        buf_text(&params, "{}");
    TRY(buf_check(&params, "params", err));
    struct gateway_function_new spec = {.name = body.name->string,
                                        .function = body.function_id->string,
                                        .output = body.output_collection->string,
                                        .params = buf_view(&params)};
    struct sysdb_function row;
    bool created;
    TRY(gateway_function_attach(x->gateway, &x->scope, collection, &spec, &x->arena, &row, &created,
                                err));
    struct buf *out = &x->reply->body;
    buf_text(out, "{\"attached_function\":{");
    write_id(out, "id", row.id);
    write_string(out, "name", row.name);
    write_string(out, "function_name", row.function);
    buf_byte(out, '}');
    write_created(x, created);
    return OCH_OK;
}

och_code handle_function_get(struct exchange *x, och_error *err)
{
    uuid collection;
    struct sysdb_function row;
    TRY(collection_id(x, &collection, err));
    TRY(gateway_function_get(x->gateway, &x->scope, collection, name_of(x), &x->arena, &row, err));
    TRY(write_function(x, &row, err));
    buf_byte(&x->reply->body, '}');
    return OCH_OK;
}

struct detach_body {
    const struct json_value *delete_output;
};

och_code handle_function_detach(struct exchange *x, och_error *err)
{
    static const struct wire_member members[] = {
        {"delete_output", WIRE_BOOL, false, true, MEMBER(struct detach_body, delete_output)}};
    static const struct wire_body shape = {"DetachFunctionRequest", members, COUNT_OF(members),
                                           false};
    struct detach_body body = {0};
    uuid collection;
    TRY(wire_read(x, &shape, &body, err));
    TRY(collection_id(x, &collection, err));
    bool delete_output = body.delete_output && body.delete_output->boolean;
    TRY(gateway_function_detach(x->gateway, &x->scope, collection, name_of(x), delete_output, err));
    buf_text(&x->reply->body, "{\"success\":true}");
    return OCH_OK;
}

struct input_body {
    const struct json_value *input_collection_id;
};

och_code handle_function_add_input(struct exchange *x, och_error *err)
{
    static const struct wire_member members[] = {{"input_collection_id", WIRE_STRING, true, true,
                                                  MEMBER(struct input_body, input_collection_id)}};
    static const struct wire_body shape = {"AddAttachedFunctionInputRequest", members,
                                           COUNT_OF(members), false};
    struct input_body body = {0};
    uuid collection, input;
    TRY(wire_read(x, &shape, &body, err));
    if (!uuid_parse(body.input_collection_id->string, &input))
        return wire_fail(x, body.input_collection_id, err, "input_collection_id",
                         "UUID parsing failed");
    TRY(collection_id(x, &collection, err));
    struct sysdb_function row;
    bool created;
    TRY(gateway_function_add_input(x->gateway, &x->scope, collection, name_of(x), input, &x->arena,
                                   &row, &created, err));
    TRY(write_function(x, &row, err));
    write_created(x, created);
    return OCH_OK;
}
