/* SPDX-License-Identifier: Apache-2.0 */
/* Attached functions: who may attach what to which collection; what is asked again and again is the catalogue's to judge. */
#include "gateway/gateway_internal.h"

#include "model/limits.h"

static och_code no_functions(och_error *err)
{
    return FAIL(err, OCH_UNSUPPORTED, "this database is open for reading only: no functions run");
}

static och_code check_database(const struct gateway_scope *scope, och_error *err)
{
    for (size_t i = 0; i < scope->database.len; i++) {
        if (scope->database.at[i] == '+')
            return FAIL(err, OCH_INVALID,
                        "multi-region databases do not support attached functions");
    }
    return OCH_OK;
}

/* The input, if it is there for this scope. */
static och_code check_collection(struct gateway *gateway, const struct gateway_scope *scope,
                                 uuid id, och_error *err)
{
    const struct sysdb_collection *collection CLEANUP(sysdb_collection_cleanup) = NULL;
    return sysdb_collection_get(gateway->options.sysdb, scope->tenant, scope->database, id,
                                &collection, err);
}

static och_code check_kind(struct gateway *gateway, slice function, och_error *err)
{
    const struct function_kind *kind = function_kind_find(function);
    if (!kind)
        return FAIL(err, OCH_NOT_FOUND, "function not found: %.*s", SLICE_ARG(function));
    if (kind->needs_reset && !gateway->options.allow_reset)
        return FAIL(err, OCH_FORBIDDEN, "%s is only enabled when allow_reset is true", kind->name);
    if (kind->missing)
        return FAIL(err, OCH_UNSUPPORTED, "function %s does not run here: %s", kind->name,
                    kind->missing);
    return OCH_OK;
}

static och_code check_name(slice name, och_error *err)
{
    if (name.len == 0)
        return FAIL(err, OCH_INVALID,
                    "Validation error: name: Validation error: length [{\"min\": Number(1), "
                    "\"value\": String(\"\")}]");
    if (slice_starts_with(name, SLICE("_deleted_")))
        return FAIL(err, OCH_INVALID,
                    "attached function name cannot start with reserved prefix '_deleted_'");
    return OCH_OK;
}

/* As for collections, but that the original does not mind short ones here. */
static och_code check_output_name(slice name, och_error *err)
{
    bool is_short = name.len > 0 && name.len < LIMIT_NAME_MIN;
    for (size_t i = 0; i < name.len && is_short; i++) {
        uint8_t c = name.at[i];
        is_short = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    }
    if (is_short)
        return OCH_OK;
    och_code code = gateway_check_name(name, err);
    if (code != OCH_OK)
        error_context(err, "Validation error: output_collection");
    return code;
}

och_code gateway_function_attach(struct gateway *gateway, const struct gateway_scope *scope,
                                 uuid collection, const struct gateway_function_new *spec,
                                 struct arena *arena, struct sysdb_function *ret_function,
                                 bool *ret_created, och_error *err)
{
    TRY(check_name(spec->name, err));
    TRY(check_database(scope, err));
    TRY(check_collection(gateway, scope, collection, err));
    TRY(check_kind(gateway, spec->function, err));
    TRY(check_output_name(spec->output, err));
    if (!gateway->options.functions)
        return no_functions(err);
    uint64_t records = gateway->options.function_records;
    struct sysdb_function_new row = {.id = gateway_new_id(gateway),
                                     .input = collection,
                                     .name = spec->name,
                                     .function = spec->function,
                                     .output_name = spec->output,
                                     .params = spec->params,
                                     .is_async = function_kind_find(spec->function)->is_async,
                                     .min_records = records ? records : FUNCTION_MIN_RECORDS,
                                     .output = {.id = gateway_new_id(gateway),
                                                .tenant = scope->tenant,
                                                .database = scope->database,
                                                .name = spec->output}};
    struct schema_options options = {.thread_count = gateway->options.thread_count};
    TRY(schema_create(NULL, NULL, NULL, &options, arena, &row.output.schema_json, err));
    TRY(sysdb_function_attach(gateway->options.sysdb, &row, arena, ret_function, ret_created, err));
    return *ret_created ? functions_attached(gateway->options.functions, ret_function, err)
                        : OCH_OK;
}

och_code gateway_function_get(struct gateway *gateway, const struct gateway_scope *scope,
                              uuid collection, slice name, struct arena *arena,
                              struct sysdb_function *ret_function, och_error *err)
{
    TRY(check_collection(gateway, scope, collection, err));
    return sysdb_function_get(gateway->options.sysdb, collection, name, arena, ret_function, err);
}

och_code gateway_function_add_input(struct gateway *gateway, const struct gateway_scope *scope,
                                    uuid collection, slice name, uuid input, struct arena *arena,
                                    struct sysdb_function *ret_function, bool *ret_created,
                                    och_error *err)
{
    TRY(check_database(scope, err));
    TRY(check_collection(gateway, scope, collection, err));
    TRY(check_collection(gateway, scope, input, err));
    if (!gateway->options.functions)
        return no_functions(err);
    TRY(sysdb_function_add_input(gateway->options.sysdb, collection, name, input, arena,
                                 ret_function, ret_created, err));
    return *ret_created ? functions_attached(gateway->options.functions, ret_function, err)
                        : OCH_OK;
}

och_code gateway_function_detach(struct gateway *gateway, const struct gateway_scope *scope,
                                 uuid collection, slice name, bool delete_output, och_error *err)
{
    struct arena arena;
    struct sysdb_function row;
    arena_init(&arena, gateway->options.budget, 0);
    och_code code = check_collection(gateway, scope, collection, err);
    if (code == OCH_OK) {
        code = sysdb_function_get(gateway->options.sysdb, collection, name, &arena, &row, err);
        if (code == OCH_NOT_FOUND)
            code = FAIL(err, OCH_NOT_FOUND, "Attached Function with ID [%.*s] does not exist",
                        SLICE_ARG(name));
    }
    if (code == OCH_OK && !gateway->options.functions)
        code = no_functions(err);
    /* The output takes its functions along, of all inputs, in one transaction. */
    if (code == OCH_OK && delete_output)
        code = gateway_drop_by_id(gateway, row.output, err);
    else if (code == OCH_OK)
        code = sysdb_function_detach(gateway->options.sysdb, collection, name, err);
    if (code == OCH_OK && !delete_output)
        functions_detached(gateway->options.functions, row.id, row.input);
    arena_done(&arena);
    return code;
}
