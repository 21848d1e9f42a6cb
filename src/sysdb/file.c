/* SPDX-License-Identifier: Apache-2.0 */
/* Objects of the store: announced before they are written, live while a version refers to them, then doomed until the
 * object is gone.  A pack that lives on after one of its parts lost its last reference has a hole there. */
#include "sysdb/sysdb_internal.h"

/* ---- references that went ---- */

static och_code doom(struct session *session, struct value id, och_error *err)
{
    struct row row;
    bool found;
    TRY(table_row_get(session, TABLE_FILE, &id, &session->scratch, &row, &found, err));
    if (!found || !slice_equal(row.at[FILE_STATE].bytes, FILE_LIVE))
        return OCH_OK; // doomed already, by an earlier part of the same pack
    TRY(table_rows_delete(session, QUERY_HOLES_OF_FILE, &id, 1, err));
    row.at[FILE_STATE] = value_text(FILE_DOOMED);
    return table_row_update(session, &row, err);
}

static och_code note_hole(struct session *session, const struct row *part, och_error *err)
{
    struct value range[] = {part->at[PART_FILE], part->at[PART_OFF]};
    int64_t number;
    bool used, found;
    TRY(sql_query_number(session, QUERY_RANGE_USED, range, 2, &number, &used, err));
    if (used)
        return OCH_OK;
    struct row known, row = {.table = TABLE_HOLE, .at = {range[0], range[1], part->at[PART_LEN]}};
    TRY(table_row_get(session, TABLE_HOLE, row.at, &session->scratch, &known, &found, err));
    return found ? OCH_OK : table_row_insert(session, &row, err);
}

och_code parts_release(struct session *session, const struct row *parts, size_t count,
                       och_error *err)
{
    for (size_t i = 0; i < count; i++) {
        int64_t number;
        bool used;
        TRY(sql_query_number(session, QUERY_FILE_USED, &parts[i].at[PART_FILE], 1, &number, &used,
                             err));
        TRY(used ? note_hole(session, &parts[i], err) : doom(session, parts[i].at[PART_FILE], err));
    }
    return OCH_OK;
}

/* ---- calls ---- */

static och_code run_announce(struct session *session, void *arg, och_error *err)
{
    const uuid *id = arg;
    struct row row = {.table = TABLE_FILE, .at = {value_id(id), value_text(FILE_UPLOADING)}};
    och_code code = table_row_insert(session, &row, err);
    if (code == OCH_EXISTS) {
        char text[UUID_TEXT_SIZE];
        return FAIL(err, OCH_EXISTS, "file %s was announced before", uuid_format(*id, text));
    }
    return code;
}

och_code sysdb_file_announce(struct sysdb *sysdb, uuid file, och_error *err)
{
    return sysdb_write_run(sysdb, run_announce, &file, err);
}

struct files {
    const uuid *at;
    size_t count;
};

static och_code run_forget(struct session *session, void *arg, och_error *err)
{
    const struct files *files = arg;
    for (size_t i = 0; i < files->count; i++) {
        struct value key = value_id(&files->at[i]);
        struct row row;
        bool found;
        TRY(table_row_get(session, TABLE_FILE, &key, &session->scratch, &row, &found, err));
        if (!found)
            continue;
        if (slice_equal(row.at[FILE_STATE].bytes, FILE_LIVE)) {
            char text[UUID_TEXT_SIZE];
            return FAIL(err, OCH_CONFLICT, "file %s is live", uuid_format(files->at[i], text));
        }
        TRY(table_row_delete(session, &row, err));
    }
    return OCH_OK;
}

och_code sysdb_file_forget(struct sysdb *sysdb, const uuid *files, size_t count, och_error *err)
{
    struct files arg = {files, count};
    return sysdb_write_run(sysdb, run_forget, &arg, err);
}

struct range {
    uuid file;
    uint64_t offset;
};

static och_code run_hole_forget(struct session *session, void *arg, och_error *err)
{
    const struct range *range = arg;
    struct value key[] = {value_id(&range->file), value_u64(range->offset)};
    struct row row;
    bool found;
    TRY(table_row_get(session, TABLE_HOLE, key, &session->scratch, &row, &found, err));
    return found ? table_row_delete(session, &row, err) : OCH_OK;
}

och_code sysdb_hole_forget(struct sysdb *sysdb, uuid file, uint64_t offset, och_error *err)
{
    struct range range = {file, offset};
    return sysdb_write_run(sysdb, run_hole_forget, &range, err);
}

static och_code garbage_rows(struct session *session, bool include_uploading, row_list *list,
                             och_error *err)
{
    struct arena *arena = &session->scratch;
    TRY(table_rows_collect(session, QUERY_FILE_DOOMED, NULL, 0, arena, list, err));
    if (include_uploading)
        TRY(table_rows_collect(session, QUERY_FILE_UPLOADING, NULL, 0, arena, list, err));
    return table_rows_collect(session, QUERY_HOLES, NULL, 0, &session->scratch, list, err);
}

och_code sysdb_garbage_list(struct sysdb *sysdb, bool include_uploading, struct arena *arena,
                            struct sysdb_garbage **ret_rows, size_t *ret_count, och_error *err)
{
    CLEANUP(session_turn_cleanup) struct session *session = NULL;
    TRY(session_turn_enter(sysdb, &session, err));
    row_list list = {0};
    och_code code = garbage_rows(session, include_uploading, &list, err);
    struct sysdb_garbage *rows = NULL;
    if (code == OCH_OK) {
        rows = ARENA_ARRAY(arena, struct sysdb_garbage, list.len ? list.len : 1);
        if (!rows)
            code = FAIL_NO_MEMORY(err, "a list of files");
    }
    for (size_t i = 0; code == OCH_OK && i < list.len; i++) {
        const struct row *row = &list.at[i]; // file and hole begin with the file's id
        memcpy(rows[i].file.bytes, row->at[FILE_ID].bytes.at, 16);
        rows[i].whole = row->table == TABLE_FILE;
        if (!rows[i].whole) {
            rows[i].offset = (uint64_t)row->at[HOLE_OFF].number;
            rows[i].size = (uint64_t)row->at[HOLE_LEN].number;
        }
    }
    if (code == OCH_OK) {
        *ret_rows = rows;
        *ret_count = list.len;
    }
    VEC_DONE(&list);
    return code;
}

och_code sysdb_file_list(struct sysdb *sysdb, struct arena *arena, uuid **ret_files,
                         size_t *ret_count, och_error *err)
{
    CLEANUP(session_turn_cleanup) struct session *session = NULL;
    TRY(session_turn_enter(sysdb, &session, err));
    row_list list = {0};
    och_code code =
        table_rows_collect(session, QUERY_FILE_LIVE, NULL, 0, &session->scratch, &list, err);
    uuid *files = NULL;
    if (code == OCH_OK) {
        files = ARENA_ARRAY(arena, uuid, list.len ? list.len : 1);
        if (!files)
            code = FAIL_NO_MEMORY(err, "a list of files");
    }
    for (size_t i = 0; code == OCH_OK && i < list.len; i++)
        memcpy(files[i].bytes, list.at[i].at[FILE_ID].bytes.at, 16);
    if (code == OCH_OK) {
        *ret_files = files;
        *ret_count = list.len;
    }
    VEC_DONE(&list);
    return code;
}
