/* SPDX-License-Identifier: Apache-2.0 */
/* Versions that are kept: a row with what the collection's row said, and its part rows once more.  They refer to files as current versions do, so
 * nothing else has to know of them; whoever lets go last makes garbage. */
#include "sysdb/sysdb_internal.h"

#include "base/bytes.h"

#define EXPIRE_STEP 64

static int64_t now_ms(const struct session *session)
{
    return (int64_t)(clock_wall_ns(session->sysdb->clock) / 1000000);
}

och_code kept_find(struct session *session, uuid id, struct row *ret_row, bool *ret_found,
                   och_error *err)
{
    struct value key = value_id(&id);
    return table_row_find(session, QUERY_KEPT_BY_ID, &key, 1, &session->scratch, ret_row, ret_found,
                          err);
}

static och_code collection_as_kept(struct session *session, const struct row *kept,
                                   struct row *ret_row, och_error *err)
{
    bool found;
    TRY(table_row_get(session, TABLE_COLLECTION, &kept->at[VERSION_COLLECTION], &session->scratch,
                      ret_row, &found, err));
    if (!found || !slice_equal(ret_row->at[COLLECTION_STATE].bytes, STATE_ACTIVE))
        return FAIL(err, OCH_CORRUPT, "catalogue %s: the collection of kept version (%lld) is gone",
                    session->sysdb->path, (long long)kept->at[VERSION_ORD].number);
    ret_row->at[COLLECTION_VERSION] = kept->at[VERSION_ORD]; // of its own, and never another one
    ret_row->at[COLLECTION_LOG_OFFSET] = kept->at[VERSION_LOG_OFFSET];
    ret_row->at[COLLECTION_DIMENSION] = kept->at[VERSION_DIMENSION];
    ret_row->at[COLLECTION_LAST_CREATED] = kept->at[VERSION_LAST_CREATED];
    return OCH_OK;
}

och_code row_of_id(struct session *session, uuid id, struct row *ret_row, struct row *ret_kept,
                   bool *ret_is_kept, och_error *err)
{
    och_error missing = {0};
    och_code code = collection_row(session, id, ret_row, &missing);
    *ret_is_kept = false;
    if (code == OCH_NOT_FOUND)
        TRY(kept_find(session, id, ret_kept, ret_is_kept, err));
    if (*ret_is_kept)
        return collection_as_kept(session, ret_kept, ret_row, err);
    if (code != OCH_OK && err)
        *err = missing;
    return code;
}

/* ---- keeping ---- */

static uint64_t live_rows(const row_list *parts)
{
    uint64_t rows = 0;
    for (size_t i = 0; i < parts->len; i++)
        rows +=
            (uint64_t)(parts->at[i].at[PART_ROWS].number - parts->at[i].at[PART_DELETED].number);
    return rows;
}

/* Part rows once more, for another owner. */
static och_code copy_parts(struct session *session, row_list *parts, enum table_id table,
                           struct value owner, och_error *err)
{
    for (size_t i = 0; i < parts->len; i++) {
        struct row part = parts->at[i];
        part.table = table;
        part.crc = 0;
        part.at[PART_COLLECTION] = owner;
        TRY(table_row_insert(session, &part, err));
    }
    return OCH_OK;
}

och_code kept_add(struct session *session, const struct row *collection, const uuid *id,
                  struct value name, int64_t taken_at, int64_t keep_until, struct row *ret_row,
                  och_error *err)
{
    row_list parts = {0};
    och_code code = table_rows_collect(session, QUERY_PARTS, &collection->at[COLLECTION_ORD], 1,
                                       &session->scratch, &parts, err);
    struct row row = {.table = TABLE_VERSION,
                      .at = {[VERSION_ORD] = value_int(session->sysdb->sums.next++),
                             [VERSION_ID] = value_id(id),
                             [VERSION_COLLECTION] = collection->at[COLLECTION_ORD],
                             [VERSION_NAME] = name,
                             [VERSION_LOG_OFFSET] = collection->at[COLLECTION_LOG_OFFSET],
                             [VERSION_DIMENSION] = collection->at[COLLECTION_DIMENSION],
                             [VERSION_LAST_CREATED] = collection->at[COLLECTION_LAST_CREATED],
                             [VERSION_TAKEN] = value_int(taken_at),
                             [VERSION_KEEP_UNTIL] = value_int(keep_until),
                             [VERSION_ROWS] = value_u64(live_rows(&parts))}};
    if (code == OCH_OK)
        code = table_row_insert(session, &row, err);
    if (code == OCH_OK)
        code = copy_parts(session, &parts, TABLE_KEPT_PART, row.at[VERSION_ORD], err);
    VEC_DONE(&parts);
    if (ret_row)
        *ret_row = row;
    return code;
}

/* 0: superseded versions go at once. */
static int64_t retention_ms(const struct session *session, const struct row *collection)
{
    slice metadata = collection->at[COLLECTION_METADATA].bytes;
    struct meta_entry entry;
    if (collection->at[COLLECTION_METADATA].kind == SQLITE_NULL ||
        !meta_find(metadata, SLICE(SYSDB_RETENTION_KEY), &entry) || entry.type != META_INT)
        return session->sysdb->retention_ms;
    int64_t seconds = (int64_t)load_u64(entry.value.at);
    bool sound = seconds >= 0 && seconds <= SYSDB_RETENTION_SECONDS; // else from before the rule
    return sound ? seconds * 1000 : session->sysdb->retention_ms;
}

och_code kept_retain(struct session *session, const struct row *collection, uuid id, och_error *err)
{
    int64_t keep_ms = retention_ms(session, collection);
    if (keep_ms <= 0)
        return OCH_OK;
    int64_t last = collection->at[COLLECTION_LAST_CREATED].number;
    int64_t created = collection->at[COLLECTION_CREATED].number;
    return kept_add(session, collection, &id, value_null(), last > created ? last : created,
                    now_ms(session) + keep_ms, NULL, err);
}

/* With a name; no more than `max` of them. */
static och_code keep_named(struct session *session, const struct row *collection, const uuid *id,
                           slice name, int64_t taken_at, size_t max, struct row *ret_row,
                           och_error *err)
{
    row_list rows = {0};
    och_code code = table_rows_collect(session, QUERY_KEPT, &collection->at[COLLECTION_ORD], 1,
                                       &session->scratch, &rows, err);
    size_t named = 0;
    for (size_t i = 0; code == OCH_OK && i < rows.len; i++) {
        const struct value *other = &rows.at[i].at[VERSION_NAME];
        named += other->kind != SQLITE_NULL;
        if (other->kind != SQLITE_NULL && slice_equal(other->bytes, name))
            code = FAIL(err, OCH_EXISTS, "Version [%.*s] already exists", SLICE_ARG(name));
    }
    VEC_DONE(&rows);
    if (code == OCH_OK && named >= max)
        code = FAIL(err, OCH_QUOTA,
                    "Quota exceeded: the collection keeps %zu versions by name, the limit is %zu",
                    named, max);
    TRY(code);
    return kept_add(session, collection, id, value_text(name), taken_at, 0, ret_row, err);
}

struct keep_run {
    const struct sysdb_keep *keep;
    struct sysdb_kept kept;
};

static struct sysdb_kept read_kept(const struct row *row)
{
    const struct value *at = row->at;
    struct sysdb_kept kept = {.log_offset = (uint64_t)at[VERSION_LOG_OFFSET].number,
                              .taken_at = at[VERSION_TAKEN].number,
                              .last_at = at[VERSION_LAST_CREATED].number,
                              .keep_until = at[VERSION_KEEP_UNTIL].number,
                              .rows = (uint64_t)at[VERSION_ROWS].number};
    memcpy(kept.id.bytes, at[VERSION_ID].bytes.at, 16);
    if (at[VERSION_NAME].kind != SQLITE_NULL)
        kept.name = at[VERSION_NAME].bytes;
    return kept;
}

static och_code run_keep(struct session *session, void *arg, och_error *err)
{
    struct keep_run *run = arg;
    const struct sysdb_keep *keep = run->keep;
    struct row collection, row;
    TRY(collection_row(session, keep->collection, &collection, err));
    if ((uint64_t)collection.at[COLLECTION_LOG_OFFSET].number < keep->log_offset)
        return FAIL(err, OCH_STALE, "the version does not reach offset %llu",
                    (unsigned long long)keep->log_offset);
    if (keep->name.at)
        TRY(keep_named(session, &collection, &keep->id, keep->name, keep->taken_at, keep->max, &row,
                       err));
    else
        TRY(kept_add(session, &collection, &keep->id, value_null(), keep->taken_at,
                     keep->keep_until, &row, err));
    run->kept = read_kept(&row);
    run->kept.name = keep->name; // the row's is ours, too
    return OCH_OK;
}

och_code sysdb_keep(struct sysdb *sysdb, const struct sysdb_keep *keep, struct sysdb_kept *ret_kept,
                    och_error *err)
{
    struct keep_run run = {.keep = keep};
    TRY(sysdb_write_run(sysdb, run_keep, &run, err));
    *ret_kept = run.kept;
    return OCH_OK;
}

/* ---- reading ---- */

och_code sysdb_kept_list(struct sysdb *sysdb, uuid collection, struct arena *arena,
                         struct sysdb_kept **ret_rows, size_t *ret_count, och_error *err)
{
    CLEANUP(session_turn_cleanup) struct session *session = NULL;
    TRY(session_turn_enter(sysdb, &session, err));
    struct row owner;
    TRY(collection_row(session, collection, &owner, err));
    row_list list = {0};
    och_code code =
        table_rows_collect(session, QUERY_KEPT, &owner.at[COLLECTION_ORD], 1, arena, &list, err);
    struct sysdb_kept *rows = NULL;
    if (code == OCH_OK) {
        rows = ARENA_ARRAY(arena, struct sysdb_kept, list.len ? list.len : 1);
        if (!rows)
            code = FAIL_NO_MEMORY(err, "a list of versions");
    }
    for (size_t i = 0; code == OCH_OK && i < list.len; i++)
        rows[i] = read_kept(&list.at[i]);
    if (code == OCH_OK) {
        *ret_rows = rows;
        *ret_count = list.len;
    }
    VEC_DONE(&list);
    return code;
}

/* ---- giving up ---- */

static och_code drop_row(struct session *session, const struct row *row, och_error *err)
{
    row_list parts = {0};
    och_code code = table_rows_collect(session, QUERY_KEPT_PARTS, &row->at[VERSION_ORD], 1,
                                       &session->scratch, &parts, err);
    for (size_t i = 0; code == OCH_OK && i < parts.len; i++)
        code = table_row_delete(session, &parts.at[i], err);
    if (code == OCH_OK)
        code = parts_release(session, parts.at, parts.len, err);
    VEC_DONE(&parts);
    TRY(code);
    return table_row_delete(session, row, err);
}

static och_code drop_rows(struct session *session, enum query_id query, const struct value *values,
                          size_t count, size_t *ret_dropped, och_error *err)
{
    row_list rows = {0};
    och_code code =
        table_rows_collect(session, query, values, count, &session->scratch, &rows, err);
    for (size_t i = 0; code == OCH_OK && i < rows.len; i++)
        code = drop_row(session, &rows.at[i], err);
    *ret_dropped = rows.len;
    VEC_DONE(&rows);
    return code;
}

och_code kept_bury(struct session *session, struct value collection, och_error *err)
{
    size_t dropped;
    return drop_rows(session, QUERY_KEPT, &collection, 1, &dropped, err);
}

struct drop_run {
    uuid collection, id;
};

static och_code version_missing(och_error *err)
{
    return FAIL(err, OCH_NOT_FOUND, "The version is not kept (any more)");
}

/* A kept version of this collection. */
static och_code find_of(struct session *session, const struct row *collection, uuid id,
                        struct row *ret_row, och_error *err)
{
    bool found;
    TRY(kept_find(session, id, ret_row, &found, err));
    if (!found || ret_row->at[VERSION_COLLECTION].number != collection->at[COLLECTION_ORD].number)
        return version_missing(err);
    return OCH_OK;
}

static och_code run_kept_drop(struct session *session, void *arg, och_error *err)
{
    const struct drop_run *run = arg;
    struct row collection, row;
    TRY(collection_row(session, run->collection, &collection, err));
    TRY(find_of(session, &collection, run->id, &row, err));
    return drop_row(session, &row, err);
}

och_code sysdb_kept_drop(struct sysdb *sysdb, uuid collection, uuid id, och_error *err)
{
    struct drop_run run = {collection, id};
    return sysdb_write_run(sysdb, run_kept_drop, &run, err);
}

static och_code run_expire(struct session *session, void *arg, och_error *err)
{
    struct value values[] = {value_int(now_ms(session)), value_int(EXPIRE_STEP)};
    return drop_rows(session, QUERY_KEPT_UNTIL, values, 2, arg, err);
}

och_code sysdb_kept_expire(struct sysdb *sysdb, size_t *ret_count, bool *ret_more, och_error *err)
{
    *ret_count = 0;
    *ret_more = false;
    {
        CLEANUP(session_turn_cleanup) struct session *session = NULL;
        TRY(session_turn_enter(sysdb, &session, err));
        struct value values[] = {value_int(now_ms(session)), value_int(1)};
        struct row row;
        bool found;
        TRY(table_row_find(session, QUERY_KEPT_UNTIL, values, 2, &session->scratch, &row, &found,
                           err));
        if (!found)
            return OCH_OK;
    }
    size_t dropped = 0;
    TRY(sysdb_write_run(sysdb, run_expire, &dropped, err));
    *ret_count = dropped;
    *ret_more = dropped == EXPIRE_STEP;
    return OCH_OK;
}

/* ---- restoring ---- */

static och_code check_functions(struct session *session, const struct row *collection,
                                och_error *err)
{
    static const enum query_id queries[] = {QUERY_FUNCTIONS_OF_INPUT, QUERY_FUNCTIONS_OF_OUTPUT};
    for (size_t i = 0; i < COUNT_OF(queries); i++) {
        struct row row;
        bool found;
        TRY(table_row_find(session, queries[i], &collection->at[COLLECTION_ORD], 1,
                           &session->scratch, &row, &found, err));
        if (found)
            return FAIL(err, OCH_EXISTS,
                        "Collection [%.*s] cannot be restored: the attached function [%.*s] %s it. "
                        "Detach it first",
                        SLICE_ARG(collection->at[COLLECTION_NAME].bytes),
                        SLICE_ARG(row.at[FUNCTION_NAME].bytes), i ? "writes to" : "reads from");
    }
    return OCH_OK;
}

och_code sysdb_restore_check(struct sysdb *sysdb, uuid collection, och_error *err)
{
    CLEANUP(session_turn_cleanup) struct session *session = NULL;
    TRY(session_turn_enter(sysdb, &session, err));
    struct row row;
    TRY(collection_row(session, collection, &row, err));
    return check_functions(session, &row, err);
}

/* The parts of a kept version in place of those of now. */
static och_code swap_parts(struct session *session, struct value ord, struct value kept,
                           row_list *released, row_list *parts, och_error *err)
{
    TRY(table_rows_collect(session, QUERY_PARTS, &ord, 1, &session->scratch, released, err));
    TRY(table_rows_collect(session, QUERY_KEPT_PARTS, &kept, 1, &session->scratch, parts, err));
    for (size_t i = 0; i < released->len; i++)
        TRY(table_row_delete(session, &released->at[i], err));
    TRY(copy_parts(session, parts, TABLE_VERSION_PART, ord, err));
    return parts_release(session, released->at, released->len, err);
}

static och_code run_restore(struct session *session, void *arg, och_error *err)
{
    const struct sysdb_restore *restore = arg;
    struct row collection, kept;
    TRY(collection_row(session, restore->collection, &collection, err));
    TRY(find_of(session, &collection, restore->kept, &kept, err));
    TRY(check_functions(session, &collection, err));
    if ((uint64_t)collection.at[COLLECTION_LOG_OFFSET].number != restore->from)
        return FAIL(err, OCH_STALE, "the collection changed while it was restored");
    if (restore->name.at)
        TRY(keep_named(session, &collection, &restore->id, restore->name, now_ms(session),
                       restore->max, NULL, err));
    else
        TRY(kept_retain(session, &collection, restore->id, err));
    row_list released = {0}, parts = {0};
    och_code code = swap_parts(session, collection.at[COLLECTION_ORD], kept.at[VERSION_ORD],
                               &released, &parts, err);
    VEC_DONE(&released);
    VEC_DONE(&parts);
    TRY(code);
    collection.at[COLLECTION_VERSION].number++;
    collection.at[COLLECTION_LOG_OFFSET] = value_u64(restore->log_offset);
    collection.at[COLLECTION_LAST_CREATED] = value_int(restore->created_at);
    snapshot_touch(session, restore->collection);
    return table_row_update(session, &collection, err);
}

och_code sysdb_restore(struct sysdb *sysdb, const struct sysdb_restore *restore, och_error *err)
{
    struct sysdb_restore copy = *restore;
    return sysdb_write_run(sysdb, run_restore, &copy, err);
}
