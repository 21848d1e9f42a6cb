/* SPDX-License-Identifier: Apache-2.0 */
/* ochre.h: versions of a collection.  The rules are the gateway's (gateway.h), as over HTTP. */
#include "mode/library_internal.h"

/* ---- arguments ---- */

och_code library_enter_present(const och_collection *collection, const char *call, och_error *err)
{
    TRY(library_enter(collection ? collection->database : NULL, err));
    if (!collection->version)
        return OCH_OK;
    library_leave(collection->database);
    return FAIL(err, OCH_INVALID,
                "%s is not for a handle of och_collection_at, which reads one version: use a "
                "handle of the collection itself",
                call);
}

static och_code check_name(och_bytes name, const char *called, och_error *err)
{
    TRY(library_check_text(name, called, err));
    return name.at ? OCH_OK : FAIL(err, OCH_INVALID, "%s is absent", called);
}

static och_code read_ref(const och_version_ref *given, struct gateway_version_ref *ret_ref,
                         och_error *err)
{
    och_version_ref ref = OCH_VERSION_REF;
    TRY(library_read_struct(given, sizeof(ref), &ref, sizeof(ref), "och_version_ref", err));
    TRY(library_check_text(ref.name, "och_version_ref.name", err));
    bool by_name = ref.name.at, by_number = ref.number != OCH_NO_VERSION, by_time = ref.time_ms;
    if (by_name + by_number + by_time != 1)
        return FAIL(err, OCH_INVALID,
                    "och_version_ref: one of name, number and time_ms says which version, here "
                    "%d of them do",
                    by_name + by_number + by_time);
    if (ref.time_ms < 0)
        return FAIL(err, OCH_INVALID, "och_version_ref.time_ms is before 1970");
    *ret_ref = (struct gateway_version_ref){.by = by_name     ? GATEWAY_BY_NAME
                                                  : by_number ? GATEWAY_BY_NUMBER
                                                              : GATEWAY_BY_TIME,
                                            .number = by_number ? ref.number : 0,
                                            .name = library_slice(ref.name),
                                            .time_ms = ref.time_ms};
    return OCH_OK;
}

static och_version_info info_of(const struct gateway_version *version)
{
    return (och_version_info){.struct_size = sizeof(och_version_info),
                              .current = version->current,
                              .number = version->number,
                              .name = library_bytes(version->name),
                              .time_ms = version->time_ms,
                              .kept_until_ms = version->keep_until_ms,
                              .records = version->records};
}

/* ---- listing ---- */

och_code och_collection_versions(och_collection *collection, och_result **ret_result,
                                 och_error *err)
{
    if (!ret_result)
        return FAIL(err, OCH_INVALID, "ret_result is NULL");
    TRY(library_enter_present(collection, __func__, err));
    och_database *database = collection->database;
    struct gateway_scope scope = library_scope(collection, 0, NULL);
    och_result *result = NULL;
    och_code code = library_result_new(database, &result, err);
    if (code == OCH_OK)
        code = gateway_versions(database_gateway(database->database), &scope, collection->id,
                                &result->arena, &result->versions, &result->version_count, err);
    return library_result_end(database, result, code, ret_result);
}

och_code och_result_version(const och_result *result, size_t index, och_version_info *ret_version,
                            och_error *err)
{
    if (!result || index >= result->version_count)
        return FAIL(err, OCH_INVALID, "this result has no version number %zu in its list", index);
    if (library_is_forked(result->database))
        return FAIL(err, OCH_FORKED, "this result belongs to the parent process");
    TRY(library_check_struct(ret_version, sizeof(*ret_version), "och_version_info", err));
    och_version_info ours = info_of(&result->versions[index]);
    library_write_struct(ret_version, &ours, sizeof(ours));
    return OCH_OK;
}

void library_next_version(const och_result *result, och_row *ours, bool *ret_more)
{
    *ret_more = result->row_at < result->version_count;
    if (!*ret_more)
        return;
    ours->id = library_bytes(result->versions[result->row_at].name);
    ours->seq = result->versions[result->row_at].number;
}

/* ---- keeping, giving up ---- */

static och_code keep(och_collection *collection, och_bytes name, och_version_info *ret_version,
                     och_error *err)
{
    struct gateway_scope scope = library_scope(collection, 0, NULL);
    struct gateway_version version;
    TRY(check_name(name, "name", err));
    if (ret_version)
        TRY(library_check_struct(ret_version, sizeof(*ret_version), "och_version_info", err));
    TRY(gateway_version_keep(database_gateway(collection->database->database), &scope,
                             collection->id, library_slice(name), &version, err));
    och_version_info ours = info_of(&version);
    if (ret_version)
        library_write_struct(ret_version, &ours, sizeof(ours));
    return OCH_OK;
}

och_code och_collection_keep(och_collection *collection, och_bytes name,
                             och_version_info *ret_version, och_error *err)
{
    TRY(library_enter_present(collection, __func__, err));
    och_database *database = collection->database;
    och_code code = keep(collection, name, ret_version, err);
    library_leave(database);
    return code;
}

static och_code drop(och_collection *collection, const och_version_ref *which,
                     uint64_t *ret_dropped, och_error *err)
{
    struct gateway_scope scope = library_scope(collection, 0, NULL);
    struct gateway_version_ref ref;
    TRY(read_ref(which, &ref, err));
    if (ref.by == GATEWAY_BY_TIME)
        return FAIL(err, OCH_INVALID,
                    "och_version_ref: a version is given up by its name or its number");
    return gateway_version_drop(database_gateway(collection->database->database), &scope,
                                collection->id, &ref, ret_dropped, err);
}

och_code och_collection_drop_version(och_collection *collection, const och_version_ref *which,
                                     uint64_t *ret_dropped, och_error *err)
{
    TRY(library_enter_present(collection, __func__, err));
    och_database *database = collection->database;
    uint64_t dropped = 0;
    och_code code = drop(collection, which, &dropped, err);
    if (code == OCH_OK && ret_dropped)
        *ret_dropped = dropped;
    library_leave(database);
    return code;
}

/* ---- restoring ---- */

static och_code restore(och_collection *collection, const och_version_ref *to, och_bytes keep_as,
                        bool dry_run, och_restored *ret_restored, och_error *err)
{
    struct gateway_scope scope = library_scope(collection, 0, NULL);
    struct gateway_restore request = {.dry_run = dry_run};
    struct gateway_restored restored;
    TRY(read_ref(to, &request.to, err));
    TRY(library_check_text(keep_as, "keep", err));
    if (ret_restored)
        TRY(library_check_struct(ret_restored, sizeof(*ret_restored), "och_restored", err));
    request.keep = library_slice(keep_as);
    TRY(gateway_restore(database_gateway(collection->database->database), &scope, collection->id,
                        &request, &restored, err));
    och_restored ours = {sizeof(ours), restored.restored, restored.version, restored.records,
                         restored.records_before};
    if (ret_restored)
        library_write_struct(ret_restored, &ours, sizeof(ours));
    return OCH_OK;
}

och_code och_collection_restore(och_collection *collection, const och_version_ref *to,
                                och_bytes keep_as, bool dry_run, och_restored *ret_restored,
                                och_error *err)
{
    TRY(library_enter_present(collection, __func__, err));
    och_database *database = collection->database;
    och_code code = restore(collection, to, keep_as, dry_run, ret_restored, err);
    library_leave(database);
    return code;
}

/* ---- reading ---- */

/* A get of nothing: it finds the version, or says why not. */
static och_code check_readable(const och_collection *collection,
                               const struct gateway_version_ref *ref, och_error *err)
{
    struct gateway *gateway = database_gateway(collection->database->database);
    struct gateway_scope scope = library_scope(collection, 0, NULL);
    struct plan plan = {.kind = PLAN_GET, .collection = collection->id};
    struct query_result result;
    struct arena arena;
    scope.version = ref;
    arena_init(&arena, database_budget(collection->database->database), 0);
    och_code code = gateway_read(gateway, &scope, &plan, &arena, &result, err);
    if (code == OCH_OK)
        query_result_done(&result);
    arena_done(&arena);
    return code;
}

och_code och_collection_at(och_collection *collection, const och_version_ref *version,
                           och_collection **ret_collection, och_error *err)
{
    if (!ret_collection)
        return FAIL(err, OCH_INVALID, "ret_collection is NULL");
    TRY(library_enter_present(collection, __func__, err));
    och_database *database = collection->database;
    struct gateway_version_ref ref;
    och_code code = read_ref(version, &ref, err);
    if (code == OCH_OK)
        code = check_readable(collection, &ref, err);
    if (code == OCH_OK)
        code = library_collection_copy(collection, &ref, ret_collection, err);
    library_leave(database);
    return code;
}
