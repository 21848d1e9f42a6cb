/* SPDX-License-Identifier: Apache-2.0 */
/* ochre.h: collections.  The rules are the gateway's (gateway.h), as over HTTP. */
#include "mode/library_internal.h"

static och_code read_spec(const och_collection_spec *given, och_collection_spec *spec,
                          och_error *err)
{
    *spec = (och_collection_spec)OCH_COLLECTION_SPEC;
    if (given)
        TRY(library_read_struct(given, sizeof(*spec), spec, sizeof(*spec), "och_collection_spec",
                                err));
    if (!spec->tenant.at)
        spec->tenant = och_text("default_tenant");
    if (!spec->database.at)
        spec->database = och_text("default_database");
    TRY(library_check_text(spec->tenant, "tenant", err));
    TRY(library_check_text(spec->database, "database", err));
    return library_check_text(spec->name, "name", err);
}

static och_code read_named(const och_collection_spec *given, och_collection_spec *spec,
                           och_error *err)
{
    if (!given)
        return FAIL(err, OCH_INVALID, "och_collection_spec is NULL");
    TRY(read_spec(given, spec, err));
    return spec->name.at ? OCH_OK : FAIL(err, OCH_INVALID, "och_collection_spec.name is absent");
}

static struct gateway_scope scope_of(const och_collection_spec *spec)
{
    return (struct gateway_scope){.tenant = library_slice(spec->tenant),
                                  .database = library_slice(spec->database)};
}

static och_code handle_new(och_database *database, const struct sysdb_collection *found,
                           const struct gateway_version_ref *version,
                           och_collection **ret_collection, och_error *err)
{
    slice name = version ? version->name : SLICE_NONE;
    size_t size = sizeof(och_collection) + found->tenant.len + found->database.len + name.len;
    och_collection *collection = mem_zalloc(size);
    if (!collection)
        return FAIL_NO_MEMORY(err, "a collection handle");
    collection->database = library_ref(database);
    collection->id = found->id;
    (void)uuid_format(found->id, collection->id_text);
    uint8_t *text = collection->texts;
    memcpy(text, found->tenant.at, found->tenant.len);
    collection->tenant = slice_make(text, found->tenant.len);
    text += found->tenant.len;
    memcpy(text, found->database.at, found->database.len);
    collection->name_of_database = slice_make(text, found->database.len);
    if (version) {
        collection->at = *version;
        collection->version = &collection->at;
    }
    if (name.len) {
        text += found->database.len;
        memcpy(text, name.at, name.len);
        collection->at.name = slice_make(text, name.len);
    }
    *ret_collection = collection;
    return OCH_OK;
}

static och_code create(och_database *database, const och_collection_spec *spec, struct arena *arena,
                       och_collection **ret_collection, och_error *err)
{
    struct gateway_collection_new fresh = {.name = library_slice(spec->name),
                                           .get_or_create = spec->get_or_create};
    TRY(library_read_json(spec->metadata_json, "metadata", arena, &fresh.metadata, err));
    TRY(library_read_json(spec->configuration_json, "configuration", arena, &fresh.configuration,
                          err));
    TRY(library_read_json(spec->schema_json, "schema", arena, &fresh.schema, err));
    if (fresh.metadata && fresh.metadata->kind != JSON_OBJECT)
        return FAIL(err, OCH_SHAPE, "metadata: expected an object");
    TRY(schema_check_shape(fresh.configuration, fresh.schema, err));
    struct gateway_scope scope = scope_of(spec);
    const struct sysdb_collection *made CLEANUP(sysdb_collection_cleanup) = NULL;
    TRY(gateway_collection_create(database_gateway(database->database), &scope, &fresh, &made,
                                  err));
    return handle_new(database, made, NULL, ret_collection, err);
}

och_code och_collection_create(och_database *database, const och_collection_spec *given,
                               och_collection **ret_collection, och_error *err)
{
    och_collection_spec spec;
    if (!ret_collection)
        return FAIL(err, OCH_INVALID, "ret_collection is NULL");
    TRY(library_enter(database, err));
    och_code code = read_named(given, &spec, err);
    struct arena arena;
    arena_init(&arena, database_budget(database->database), 0);
    if (code == OCH_OK)
        code = create(database, &spec, &arena, ret_collection, err);
    arena_done(&arena);
    library_leave(database);
    return code;
}

static och_code find(och_database *database, const och_collection_spec *spec,
                     och_collection **ret_collection, och_error *err)
{
    const struct sysdb_collection *found CLEANUP(sysdb_collection_cleanup) = NULL;
    struct gateway_scope scope = {.tenant = library_slice(spec->tenant),
                                  .database = library_slice(spec->database)};
    TRY(gateway_collection_find(database_gateway(database->database), &scope,
                                library_slice(spec->name), &found, err));
    return handle_new(database, found, NULL, ret_collection, err);
}

och_code och_collection_open(och_database *database, const och_collection_spec *named,
                             och_collection **ret_collection, och_error *err)
{
    och_collection_spec spec;
    if (!ret_collection)
        return FAIL(err, OCH_INVALID, "ret_collection is NULL");
    TRY(library_enter(database, err));
    och_code code = read_named(named, &spec, err);
    if (code == OCH_OK)
        code = find(database, &spec, ret_collection, err);
    library_leave(database);
    return code;
}

och_code och_collection_drop(och_database *database, const och_collection_spec *named,
                             och_error *err)
{
    och_collection_spec spec;
    TRY(library_enter(database, err));
    och_code code = read_named(named, &spec, err);
    if (code == OCH_OK) {
        struct gateway_scope scope = scope_of(&spec);
        code = gateway_collection_drop(database_gateway(database->database), &scope,
                                       library_slice(spec.name), err);
    }
    library_leave(database);
    return code;
}

och_code och_collection_fork(och_collection *collection, och_bytes name,
                             och_collection **ret_collection, och_error *err)
{
    if (!ret_collection)
        return FAIL(err, OCH_INVALID, "ret_collection is NULL");
    TRY(library_enter_present(collection, __func__, err));
    och_database *database = collection->database;
    const struct sysdb_collection *made CLEANUP(sysdb_collection_cleanup) = NULL;
    struct gateway_scope scope = library_scope(collection, 0, NULL);
    och_code code = library_check_text(name, "name", err);
    if (code == OCH_OK && !name.at)
        code = FAIL(err, OCH_INVALID, "name is absent");
    if (code == OCH_OK)
        code = gateway_collection_fork(database_gateway(database->database), &scope, collection->id,
                                       library_slice(name), &made, err);
    if (code == OCH_OK)
        code = handle_new(database, made, NULL, ret_collection, err);
    library_leave(database);
    return code;
}

static och_code row_of(const och_collection *collection, const struct sysdb_collection **ret_row,
                       och_error *err)
{
    return sysdb_collection_get(database_sysdb(collection->database->database), collection->tenant,
                                collection->name_of_database, collection->id, ret_row, err);
}

och_code och_collection_fork_count(och_collection *collection, uint64_t *ret_count, och_error *err)
{
    if (!ret_count)
        return FAIL(err, OCH_INVALID, "ret_count is NULL");
    TRY(library_enter_present(collection, __func__, err));
    och_database *database = collection->database;
    const struct sysdb_collection *row CLEANUP(sysdb_collection_cleanup) = NULL;
    uint64_t count = 0;
    och_code code = row_of(collection, &row, err);
    if (code == OCH_OK)
        code = sysdb_fork_count(database_sysdb(database->database), row->id, &count, err);
    if (code == OCH_OK)
        *ret_count = count;
    library_leave(database);
    return code;
}

och_code och_collection_indexing(och_collection *collection, och_indexing *ret_indexing,
                                 och_error *err)
{
    och_indexing ours = OCH_INDEXING;
    TRY(library_check_struct(ret_indexing, sizeof(ours), "och_indexing", err));
    TRY(library_enter_present(collection, __func__, err));
    och_database *database = collection->database;
    const struct sysdb_collection *row CLEANUP(sysdb_collection_cleanup) = NULL;
    och_code code = row_of(collection, &row, err);
    if (code == OCH_OK)
        code = gateway_indexing(database_gateway(database->database), row, &ours.indexed,
                                &ours.operations, err);
    if (code == OCH_OK)
        library_write_struct(ret_indexing, &ours, sizeof(ours));
    library_leave(database);
    return code;
}

och_code och_alias_set(och_database *database, const och_collection_spec *alias,
                       och_bytes collection, och_error *err)
{
    och_collection_spec spec;
    TRY(library_enter(database, err));
    och_code code = read_named(alias, &spec, err);
    if (code == OCH_OK && (collection.at || collection.len))
        code = library_check_text(collection, "collection", err);
    if (code == OCH_OK) {
        struct gateway_scope scope = scope_of(&spec);
        struct gateway_alias_change change = {library_slice(spec.name), library_slice(collection)};
        code = gateway_alias_change(database_gateway(database->database), &scope, &change, 1, err);
    }
    library_leave(database);
    return code;
}

och_code och_collection_list(och_database *database, const och_collection_spec *within,
                             och_result **ret_result, och_error *err)
{
    och_collection_spec spec;
    och_result *result;
    TRY(library_result_begin(database, ret_result, &result, err));
    och_code code = read_spec(within, &spec, err);
    if (code == OCH_OK)
        code = sysdb_collection_list(database_sysdb(database->database), library_slice(spec.tenant),
                                     library_slice(spec.database), UINT64_MAX, 0, &result->arena,
                                     &result->collections, &result->collection_count, err);
    return library_result_end(database, result, code, ret_result);
}

och_bytes och_collection_id(const och_collection *collection)
{
    return och_text(collection ? collection->id_text : NULL);
}

och_code library_collection_copy(const och_collection *collection,
                                 const struct gateway_version_ref *version,
                                 och_collection **ret_copy, och_error *err)
{
    struct sysdb_collection same = {.id = collection->id,
                                    .tenant = collection->tenant,
                                    .database = collection->name_of_database};
    return handle_new(collection->database, &same, version, ret_copy, err);
}

void och_collection_free(och_collection *collection)
{
    if (!collection || library_is_forked(collection->database))
        return;
    library_unref(collection->database);
    mem_free(collection);
}

struct gateway_scope library_scope(const och_collection *collection, uint32_t deadline_ms,
                                   const och_cancel *cancel)
{
    struct gateway_scope scope = {.tenant = collection->tenant,
                                  .database = collection->name_of_database,
                                  .version = collection->version};
    if (deadline_ms)
        scope.limits.deadline_mono_ns = sched_mono_ns() + deadline_ms * UINT64_C(1000000);
    scope.limits.cancel = cancel ? &cancel->cancel : NULL;
    return scope;
}
