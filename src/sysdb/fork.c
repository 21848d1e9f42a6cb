/* SPDX-License-Identifier: Apache-2.0 */
/* Forks (D16): a copy of a collection's row that refers to the same parts.  Files need nothing: one lives while any version refers
 * to it, a range of a pack likewise, so whichever of the two lets go last makes it garbage. */
#include "sysdb/sysdb_internal.h"

/* ---- the copy before it is one ---- */

static och_code run_begin(struct session *session, void *arg, och_error *err)
{
    const uuid *id = arg;
    struct row row = {.table = TABLE_COLLECTION,
                      .at = {[COLLECTION_ORD] = value_int(session->sysdb->sums.next++),
                             [COLLECTION_ID] = value_id(id),
                             [COLLECTION_DB] = value_null(),
                             [COLLECTION_NAME] = value_text(SLICE("")),
                             [COLLECTION_STATE] = value_text(STATE_TOMBSTONE),
                             [COLLECTION_SCHEMA] = value_null(),
                             [COLLECTION_VERSION] = value_int(0),
                             [COLLECTION_LOG_OFFSET] = value_int(0),
                             [COLLECTION_DIMENSION] = value_int(0),
                             [COLLECTION_LAST_CREATED] = value_int(0),
                             [COLLECTION_CREATED] = value_int(0),
                             [COLLECTION_METADATA] = value_null()}};
    return table_row_insert(session, &row, err);
}

och_code sysdb_fork_begin(struct sysdb *sysdb, uuid id, och_error *err)
{
    return sysdb_write_run(sysdb, run_begin, &id, err);
}

/* ---- the tree ---- */

/* The fork row of a collection, or that of one which is none: the root of its own tree. */
och_code fork_row(struct session *session, const struct row *collection, struct row *ret_row,
                  och_error *err)
{
    bool found;
    TRY(table_row_get(session, TABLE_FORK, &collection->at[COLLECTION_ORD], &session->scratch,
                      ret_row, &found, err));
    if (!found)
        *ret_row = (struct row){.table = TABLE_FORK,
                                .at = {[FORK_COLLECTION] = collection->at[COLLECTION_ORD],
                                       [FORK_TREE] = collection->at[COLLECTION_ID],
                                       [FORK_ANCESTORS] = value_blob(SLICE(""))}};
    return OCH_OK;
}

static och_code edges_of(struct session *session, struct value tree, uint64_t *ret_count,
                         och_error *err)
{
    int64_t count = 0;
    bool found;
    TRY(sql_query_number(session, QUERY_FORK_COUNT, &tree, 1, &count, &found, err));
    *ret_count = (uint64_t)count;
    return OCH_OK;
}

och_code sysdb_fork_count(struct sysdb *sysdb, uuid id, uint64_t *ret_count, och_error *err)
{
    CLEANUP(session_turn_cleanup) struct session *session = NULL;
    TRY(session_turn_enter(sysdb, &session, err));
    struct row row, fork;
    TRY(collection_row(session, id, &row, err));
    TRY(fork_row(session, &row, &fork, err));
    return edges_of(session, fork.at[FORK_TREE], ret_count, err);
}

/* ---- the copy ---- */

struct fork_run {
    const struct sysdb_fork *fork;
    const struct sysdb_collection *made;
};

/* The source must still be what the copy of its log was made for. */
static och_code check_source(struct session *session, const struct sysdb_fork *fork,
                             const struct row *row, och_error *err)
{
    const struct sysdb_collection *now CLEANUP(sysdb_collection_cleanup) = NULL;
    TRY(snapshot_build(session, row, NULL, NULL, &now, err));
    const struct sysdb_collection *then = fork->source;
    bool same = slice_equal(now->metadata, then->metadata) &&
                !now->metadata.at == !then->metadata.at &&
                slice_equal(now->schema_json, then->schema_json);
    if (same && now->log_offset >= then->log_offset && now->log_offset <= fork->upto)
        return OCH_OK;
    return FAIL(err, OCH_STALE, "Collection [%.*s] changed while it was forked",
                SLICE_ARG(now->name));
}

static och_code check_edges(struct session *session, const struct sysdb_fork *fork,
                            const struct row *from, och_error *err)
{
    uint64_t edges;
    TRY(edges_of(session, from->at[FORK_TREE], &edges, err));
    uint64_t depth = from->at[FORK_ANCESTORS].bytes.len / sizeof(uuid) + 1;
    if (edges < fork->edges_max && depth <= fork->edges_max)
        return OCH_OK;
    return FAIL(
        err, OCH_QUOTA,
        "Quota exceeded: Collection [%.*s] cannot be forked: its tree has %llu forks and it is "
        "%llu deep in it, the limit is %llu",
        SLICE_ARG(fork->source->name), (unsigned long long)edges, (unsigned long long)(depth - 1),
        (unsigned long long)fork->edges_max);
}

/* Rows of a table that belong to a collection by their first column, once more for the copy. */
static och_code copy_rows(struct session *session, enum query_id query, struct value from,
                          struct value to, och_error *err)
{
    row_list list = {0};
    och_code code = table_rows_collect(session, query, &from, 1, &session->scratch, &list, err);
    for (size_t i = 0; code == OCH_OK && i < list.len; i++) {
        list.at[i].at[0] = to;
        code = table_row_insert(session, &list.at[i], err);
    }
    VEC_DONE(&list);
    return code;
}

static och_code fork_row_insert(struct session *session, const struct row *from,
                                const struct row *source, struct value copy, och_error *err)
{
    CLEANUP(buf_cleanup) struct buf ancestors;
    buf_init(&ancestors, BUF_MAX_NONE);
    buf_slice(&ancestors, from->at[FORK_ANCESTORS].bytes);
    buf_slice(&ancestors, source->at[COLLECTION_ID].bytes);
    TRY(buf_check(&ancestors, "a fork", err));
    struct row row = {.table = TABLE_FORK,
                      .at = {[FORK_COLLECTION] = copy,
                             [FORK_TREE] = from->at[FORK_TREE],
                             [FORK_ANCESTORS] = value_blob(buf_view(&ancestors))}};
    return table_row_insert(session, &row, err);
}

/* The tombstone becomes the copy; without one, since there was no log to copy, a row is made. */
static och_code put_copy(struct session *session, const struct sysdb_fork *fork,
                         const struct row *source, struct row *ret_copy, och_error *err)
{
    struct value key = value_id(&fork->id);
    struct row copy = *source, before;
    bool found;
    TRY(table_row_find(session, QUERY_COLLECTION_BY_ID, &key, 1, &session->scratch, &before, &found,
                       err));
    if (found && !slice_equal(before.at[COLLECTION_STATE].bytes, STATE_TOMBSTONE)) {
        char text[UUID_TEXT_SIZE];
        return FAIL(err, OCH_EXISTS, "Collection id [%s] is taken", uuid_format(fork->id, text));
    }
    TRY(alias_check_free(session, source->at[COLLECTION_DB], fork->name, err));
    copy.crc = found ? before.crc : 0;
    copy.at[COLLECTION_ORD] =
        found ? before.at[COLLECTION_ORD] : value_int(session->sysdb->sums.next++);
    copy.at[COLLECTION_ID] = key;
    copy.at[COLLECTION_NAME] = value_text(fork->name);
    copy.at[COLLECTION_CREATED] =
        value_int((int64_t)(clock_wall_ns(session->sysdb->clock) / 1000000));
    och_code code =
        found ? table_row_update(session, &copy, err) : table_row_insert(session, &copy, err);
    if (code == OCH_EXISTS)
        return collection_name_taken(fork->name, err);
    *ret_copy = copy;
    return code;
}

static och_code run_fork(struct session *session, void *arg, och_error *err)
{
    struct fork_run *run = arg;
    const struct sysdb_fork *fork = run->fork;
    struct row source, from, copy;
    TRY(collection_row(session, fork->source->id, &source, err));
    TRY(fork_row(session, &source, &from, err));
    TRY(check_edges(session, fork, &from, err));
    TRY(check_source(session, fork, &source, err));
    TRY(put_copy(session, fork, &source, &copy, err));
    struct value was = source.at[COLLECTION_ORD], is = copy.at[COLLECTION_ORD];
    TRY(fork_row_insert(session, &from, &source, is, err));
    TRY(copy_rows(session, QUERY_PARTS, was, is, err));
    TRY(copy_rows(session, QUERY_KEYS, was, is, err));
    TRY(snapshot_build(session, &copy, NULL, NULL, &run->made, err));
    snapshot_touch(session, fork->id);
    snapshot_publish_later(session, run->made);
    return OCH_OK;
}

och_code sysdb_fork(struct sysdb *sysdb, const struct sysdb_fork *fork,
                    const struct sysdb_collection **ret_collection, och_error *err)
{
    struct fork_run run = {.fork = fork};
    och_code code = sysdb_write_run(sysdb, run_fork, &run, err);
    if (code != OCH_OK) { // also when the commit failed after all
        sysdb_collection_unref(run.made);
        return code;
    }
    *ret_collection = run.made;
    return OCH_OK;
}
