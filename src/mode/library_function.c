/* SPDX-License-Identifier: Apache-2.0 */
/* ochre.h: attached functions.  The rules are the gateway's (gateway.h), as over HTTP. */
#include "mode/library_internal.h"

static och_code check_given(och_bytes text, const char *name, och_error *err)
{
    TRY(library_check_text(text, name, err));
    return text.at ? OCH_OK : FAIL(err, OCH_INVALID, "%s is absent", name);
}

/* Canonical text of the params, `{}` when there are none. */
static och_code read_params(och_bytes given, struct arena *arena, struct buf *out, och_error *err)
{
    const struct json_value *params = NULL;
    TRY(library_check_text(given, "params", err));
    TRY(library_read_json(given, "params", arena, &params, err));
    if (params)
        json_write_value(out, params);
    else
        buf_text(out, "{}");
    return buf_check(out, "params", err);
}

static och_code attach(och_collection *collection, struct gateway_function_new *spec,
                       och_bytes params_json, struct arena *arena, bool *ret_created,
                       och_error *err)
{
    struct gateway_scope scope = library_scope(collection, 0, NULL);
    struct buf params CLEANUP(buf_cleanup);
    struct sysdb_function row;
    buf_init(&params, BUF_MAX_NONE);
    TRY(read_params(params_json, arena, &params, err));
    spec->params = buf_view(&params);
    return gateway_function_attach(database_gateway(collection->database->database), &scope,
                                   collection->id, spec, arena, &row, ret_created, err);
}

och_code och_function_attach(och_collection *collection, och_bytes name, och_bytes function,
                             och_bytes output, och_bytes params_json, bool *ret_created,
                             och_error *err)
{
    TRY(library_enter_present(collection, __func__, err));
    och_database *database = collection->database;
    struct gateway_function_new spec = {.name = library_slice(name),
                                        .function = library_slice(function),
                                        .output = library_slice(output)};
    struct arena arena;
    bool created = false;
    arena_init(&arena, database_budget(database->database), 0);
    och_code code = check_given(name, "name", err);
    if (code == OCH_OK)
        code = check_given(function, "function", err);
    if (code == OCH_OK)
        code = check_given(output, "output", err);
    if (code == OCH_OK)
        code = attach(collection, &spec, params_json, &arena, &created, err);
    if (code == OCH_OK && ret_created)
        *ret_created = created;
    arena_done(&arena);
    library_leave(database);
    return code;
}

och_code och_function_progress(och_collection *collection, och_bytes name, uint64_t *ret_operations,
                               och_error *err)
{
    if (!ret_operations)
        return FAIL(err, OCH_INVALID, "ret_operations is NULL");
    TRY(library_enter_present(collection, __func__, err));
    och_database *database = collection->database;
    struct gateway_scope scope = library_scope(collection, 0, NULL);
    struct arena arena;
    struct sysdb_function row;
    arena_init(&arena, database_budget(database->database), 0);
    och_code code = check_given(name, "name", err);
    if (code == OCH_OK)
        code = gateway_function_get(database_gateway(database->database), &scope, collection->id,
                                    library_slice(name), &arena, &row, err);
    if (code == OCH_OK)
        *ret_operations = row.completion;
    arena_done(&arena);
    library_leave(database);
    return code;
}

och_code och_function_detach(och_collection *collection, och_bytes name, bool delete_output,
                             och_error *err)
{
    TRY(library_enter_present(collection, __func__, err));
    och_database *database = collection->database;
    struct gateway_scope scope = library_scope(collection, 0, NULL);
    och_code code = check_given(name, "name", err);
    if (code == OCH_OK)
        code = gateway_function_detach(database_gateway(database->database), &scope, collection->id,
                                       library_slice(name), delete_output, err);
    library_leave(database);
    return code;
}
