/* SPDX-License-Identifier: Apache-2.0 */
/* Versions and what they refer to: one transaction switches versions, moves references, lets files live or die (D10). */
#include "sysdb/sysdb_internal.h"

#include <inttypes.h>

/* ---- reading ---- */

static void read_part(const struct row *row, struct sysdb_part *part)
{
    const struct value *at = row->at;
    *part = (struct sysdb_part){
        .offset = (uint64_t)at[PART_OFF].number,
        .size = (uint64_t)at[PART_LEN].number,
        .dir_offset = (uint64_t)at[PART_DIR_OFF].number,
        .dir_len = (uint32_t)at[PART_DIR_LEN].number,
        .dir_crc = (uint32_t)at[PART_DIR_CRC].number,
        .head_len = (uint32_t)at[PART_HEAD_LEN].number,
        .rows = (uint32_t)at[PART_ROWS].number,
        .deleted = (uint32_t)at[PART_DELETED].number,
        .log_from = (uint64_t)at[PART_LOG_FROM].number,
        .log_to = (uint64_t)at[PART_LOG_TO].number,
        .dead = at[PART_DEAD].bytes,
    };
    memcpy(part->file.bytes, at[PART_FILE].bytes.at, 16);
    memcpy(part->lineage.bytes, at[PART_LINEAGE].bytes.at, 16);
}

och_code sysdb_version_get(struct sysdb *sysdb, uuid collection, struct arena *arena,
                           struct sysdb_version *ret_version, och_error *err)
{
    CLEANUP(session_turn_cleanup) struct session *session = NULL;
    TRY(session_turn_enter(sysdb, &session, err));
    struct row row, kept;
    bool is_kept;
    TRY(row_of_id(session, collection, &row, &kept, &is_kept, err));
    row_list list = {0};
    och_code code = table_rows_collect(session, is_kept ? QUERY_KEPT_PARTS : QUERY_PARTS,
                                       is_kept ? &kept.at[VERSION_ORD] : &row.at[COLLECTION_ORD], 1,
                                       arena, &list, err);
    struct sysdb_part *parts = NULL;
    if (code == OCH_OK) {
        parts = ARENA_ARRAY(arena, struct sysdb_part, list.len ? list.len : 1);
        if (!parts)
            code = FAIL_NO_MEMORY(err, "a version");
    }
    for (size_t i = 0; code == OCH_OK && i < list.len; i++)
        read_part(&list.at[i], &parts[i]);
    if (code == OCH_OK)
        *ret_version =
            (struct sysdb_version){.version = row.at[COLLECTION_VERSION].number,
                                   .log_offset = (uint64_t)row.at[COLLECTION_LOG_OFFSET].number,
                                   .dimension = (uint32_t)row.at[COLLECTION_DIMENSION].number,
                                   .last_created_at = row.at[COLLECTION_LAST_CREATED].number,
                                   .parts = parts,
                                   .part_count = list.len};
    VEC_DONE(&list);
    return code;
}

/* ---- committing ---- */

static struct row part_row(int64_t collection, size_t ordinal, const struct sysdb_part *part)
{
    return (struct row){.table = TABLE_VERSION_PART,
                        .at = {[PART_COLLECTION] = value_int(collection),
                               [PART_ORDINAL] = value_u64(ordinal),
                               [PART_FILE] = value_id(&part->file),
                               [PART_OFF] = value_u64(part->offset),
                               [PART_LEN] = value_u64(part->size),
                               [PART_DIR_OFF] = value_u64(part->dir_offset),
                               [PART_DIR_LEN] = value_int(part->dir_len),
                               [PART_DIR_CRC] = value_int(part->dir_crc),
                               [PART_HEAD_LEN] = value_int(part->head_len),
                               [PART_LINEAGE] = value_id(&part->lineage),
                               [PART_ROWS] = value_int(part->rows),
                               [PART_DELETED] = value_int(part->deleted),
                               [PART_LOG_FROM] = value_u64(part->log_from),
                               [PART_LOG_TO] = value_u64(part->log_to),
                               [PART_DEAD] = value_blob(part->dead)}};
}

/* Uploading files go live; only live ones can be referred to. */
static och_code file_to_live(struct session *session, uuid id, och_error *err)
{
    struct value key = value_id(&id);
    struct row row;
    bool found;
    char text[UUID_TEXT_SIZE];
    TRY(table_row_get(session, TABLE_FILE, &key, &session->scratch, &row, &found, err));
    if (!found)
        return FAIL(err, OCH_CONFLICT, "file %s was never announced", uuid_format(id, text));
    slice state = row.at[FILE_STATE].bytes;
    if (slice_equal(state, FILE_LIVE))
        return OCH_OK;
    if (slice_equal(state, FILE_DOOMED))
        return FAIL(err, OCH_CONFLICT, "file %s is doomed", uuid_format(id, text));
    row.at[FILE_STATE] = value_text(FILE_LIVE);
    return table_row_update(session, &row, err);
}

static och_code add_pairs(struct session *session, struct value collection,
                          const struct batch_pair *pairs, size_t count, och_error *err)
{
    for (size_t i = 0; i < count; i++) {
        struct row row = {.table = TABLE_SCHEMA_KEY,
                          .at = {collection, value_text(pairs[i].key), value_int(pairs[i].type)}};
        struct row known;
        bool found;
        TRY(table_row_get(session, TABLE_SCHEMA_KEY, row.at, &session->scratch, &known, &found,
                          err));
        if (!found)
            TRY(table_row_insert(session, &row, err));
    }
    return OCH_OK;
}

static och_code add_batch_ids(struct session *session, struct value collection,
                              const struct sysdb_batch_id *ids, size_t count, och_error *err)
{
    for (size_t i = 0; i < count; i++) {
        const struct sysdb_batch_id *id = &ids[i];
        struct row row = {.table = TABLE_BATCH_ID,
                          .at = {[BATCH_COLLECTION] = collection,
                                 [BATCH_BATCH_ID] = value_id(&id->batch_id),
                                 [BATCH_HASH] = value_u64(id->request_hash),
                                 [BATCH_FIRST] = value_u64(id->first),
                                 [BATCH_COUNT] = value_int(id->count),
                                 [BATCH_INSERTED] = value_int(id->inserted),
                                 [BATCH_UPDATED] = value_int(id->updated),
                                 [BATCH_SKIPPED] = value_int(id->skipped),
                                 [BATCH_DELETED] = value_int(id->deleted),
                                 [BATCH_CREATED] = value_int(id->created_at)}};
        struct row known;
        bool found;
        TRY(table_row_get(session, TABLE_BATCH_ID, row.at, &session->scratch, &known, &found, err));
        row.crc = found ? known.crc : 0;
        TRY(found ? table_row_update(session, &row, err) : table_row_insert(session, &row, err));
    }
    return OCH_OK;
}

struct commit {
    struct sysdb_commit *items;
    size_t count;
    row_list released; /* part rows that went */
};

static och_code switch_version(struct session *session, const struct sysdb_commit *item,
                               struct row *row, row_list *released, och_error *err)
{
    const struct sysdb_version *next = &item->next;
    struct value ord = row->at[COLLECTION_ORD];
    size_t first = released->len;
    if (next->log_offset > (uint64_t)row->at[COLLECTION_LOG_OFFSET].number &&
        !uuid_is_zero(item->kept))
        TRY(kept_retain(session, row, item->kept, err));
    TRY(table_rows_collect(session, QUERY_PARTS, &ord, 1, &session->scratch, released, err));
    for (size_t i = first; i < released->len; i++)
        TRY(table_row_delete(session, &released->at[i], err));
    for (size_t i = 0; i < next->part_count; i++) {
        TRY(file_to_live(session, next->parts[i].file, err));
        struct row part = part_row(ord.number, i, &next->parts[i]);
        TRY(table_row_insert(session, &part, err));
    }
    TRY(add_pairs(session, ord, item->pairs, item->pair_count, err));
    TRY(add_batch_ids(session, ord, item->batch_ids, item->batch_id_count, err));
    row->at[COLLECTION_VERSION].number++;
    row->at[COLLECTION_LOG_OFFSET] = value_u64(next->log_offset);
    row->at[COLLECTION_DIMENSION] = value_int(next->dimension);
    row->at[COLLECTION_LAST_CREATED] = value_int(next->last_created_at);
    snapshot_touch(session, item->collection);
    return table_row_update(session, row, err);
}

static och_code commit_item(struct session *session, struct sysdb_commit *item, row_list *released,
                            och_error *err)
{
    struct value key = value_id(&item->collection);
    struct row row;
    bool found;
    item->ret_committed = false;
    TRY(table_row_find(session, QUERY_COLLECTION_BY_ID, &key, 1, &session->scratch, &row, &found,
                       err));
    if (!found || !slice_equal(row.at[COLLECTION_STATE].bytes, STATE_ACTIVE) ||
        row.at[COLLECTION_VERSION].number != item->expected_version)
        return OCH_OK;
    TRY(switch_version(session, item, &row, released, err));
    item->ret_committed = true;
    return OCH_OK;
}

static och_code run_commit(struct session *session, void *arg, och_error *err)
{
    struct commit *commit = arg;
    int64_t now = (int64_t)(clock_wall_ns(session->sysdb->clock) / 1000000);
    for (size_t i = 0; i < commit->count; i++) {
        och_code code = commit_item(session, &commit->items[i], &commit->released, err);
        if (code != OCH_OK) {
            char text[UUID_TEXT_SIZE];
            error_context(err, "collection %s", uuid_format(commit->items[i].collection, text));
            return code;
        }
    }
    // last, so that a file one item leaves and another takes up lives on
    TRY(parts_release(session, commit->released.at, commit->released.len, err));
    struct value oldest = value_int(now - BATCH_ID_KEEP_MS);
    return table_rows_delete(session, QUERY_BATCHES_BEFORE, &oldest, 1, err);
}

och_code sysdb_commit_versions(struct sysdb *sysdb, struct sysdb_commit *items, size_t count,
                               och_error *err)
{
    struct commit commit = {.items = items, .count = count};
    och_code code = sysdb_write_run(sysdb, run_commit, &commit, err);
    VEC_DONE(&commit.released);
    for (size_t i = 0; i < count && code != OCH_OK; i++)
        items[i].ret_committed = false;
    return code;
}

och_code sysdb_batch_id_get(struct sysdb *sysdb, uuid collection, uuid batch_id,
                            struct sysdb_batch_id *ret_batch, bool *ret_found, och_error *err)
{
    CLEANUP(session_turn_cleanup) struct session *session = NULL;
    TRY(session_turn_enter(sysdb, &session, err));
    struct row owner, row;
    TRY(collection_row(session, collection, &owner, err));
    struct value key[] = {owner.at[COLLECTION_ORD], value_id(&batch_id)};
    bool found;
    TRY(table_row_get(session, TABLE_BATCH_ID, key, &session->scratch, &row, &found, err));
    int64_t now = (int64_t)(clock_wall_ns(sysdb->clock) / 1000000);
    *ret_found = found && row.at[BATCH_CREATED].number >= now - BATCH_ID_KEEP_MS;
    if (!*ret_found)
        return OCH_OK;
    *ret_batch = (struct sysdb_batch_id){
        .batch_id = batch_id,
        .request_hash = (uint64_t)row.at[BATCH_HASH].number,
        .first = (uint64_t)row.at[BATCH_FIRST].number,
        .count = (uint32_t)row.at[BATCH_COUNT].number,
        .inserted = (uint32_t)row.at[BATCH_INSERTED].number,
        .updated = (uint32_t)row.at[BATCH_UPDATED].number,
        .skipped = (uint32_t)row.at[BATCH_SKIPPED].number,
        .deleted = (uint32_t)row.at[BATCH_DELETED].number,
        .created_at = row.at[BATCH_CREATED].number,
    };
    return OCH_OK;
}
