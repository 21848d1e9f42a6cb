/* SPDX-License-Identifier: Apache-2.0 */
/* Segments of the log and where it ended at a clean close (D1). */
#include "sysdb/sysdb_internal.h"

#include <inttypes.h>

static och_code run_add(struct session *session, void *arg, och_error *err)
{
    const struct sysdb_segment *segment = arg;
    struct row row = {
        .table = TABLE_SEGMENT,
        .at = {value_u64(segment->id), value_u64(segment->salt), value_u64(segment->size)}};
    och_code code = table_row_insert(session, &row, err);
    if (code == OCH_EXISTS)
        return FAIL(err, OCH_EXISTS, "log segment %" PRIu64 " exists already", segment->id);
    return code;
}

och_code sysdb_segment_add(struct sysdb *sysdb, const struct sysdb_segment *segment, och_error *err)
{
    if (segment->id > INT64_MAX)
        return FAIL(err, OCH_INVALID, "log segment %" PRIu64 " is out of range", segment->id);
    struct sysdb_segment copy = *segment;
    return sysdb_write_run(sysdb, run_add, &copy, err);
}

och_code sysdb_segment_list(struct sysdb *sysdb, struct arena *arena,
                            struct sysdb_segment **ret_rows, size_t *ret_count, och_error *err)
{
    CLEANUP(session_turn_cleanup) struct session *session = NULL;
    TRY(session_turn_enter(sysdb, &session, err));
    row_list list = {0};
    och_code code =
        table_rows_collect(session, QUERY_SEGMENTS, NULL, 0, &session->scratch, &list, err);
    struct sysdb_segment *rows = NULL;
    if (code == OCH_OK) {
        rows = ARENA_ARRAY(arena, struct sysdb_segment, list.len ? list.len : 1);
        if (!rows)
            code = FAIL_NO_MEMORY(err, "a list of segments");
    }
    for (size_t i = 0; code == OCH_OK && i < list.len; i++)
        rows[i] = (struct sysdb_segment){(uint64_t)list.at[i].at[SEGMENT_ID].number,
                                         (uint64_t)list.at[i].at[SEGMENT_SALT].number,
                                         (uint64_t)list.at[i].at[SEGMENT_SIZE].number};
    if (code == OCH_OK) {
        *ret_rows = rows;
        *ret_count = list.len;
    }
    VEC_DONE(&list);
    return code;
}

struct segment_ids {
    const uint64_t *at;
    size_t count;
};

static och_code run_remove(struct session *session, void *arg, och_error *err)
{
    const struct segment_ids *ids = arg;
    for (size_t i = 0; i < ids->count; i++) {
        struct value key = value_u64(ids->at[i]);
        struct row row;
        bool found;
        TRY(table_row_get(session, TABLE_SEGMENT, &key, &session->scratch, &row, &found, err));
        if (found)
            TRY(table_row_delete(session, &row, err));
    }
    return OCH_OK;
}

och_code sysdb_segment_remove(struct sysdb *sysdb, const uint64_t *ids, size_t count,
                              och_error *err)
{
    struct segment_ids arg = {ids, count};
    return sysdb_write_run(sysdb, run_remove, &arg, err);
}

static och_code run_end_set(struct session *session, void *arg, och_error *err)
{
    const struct sysdb_log_end *end = arg;
    struct row known, row = {.table = TABLE_LOG_END,
                             .at = {value_int(1), value_u64(end->segment), value_u64(end->byte),
                                    value_u64(end->sequence)}};
    bool found;
    TRY(table_row_find(session, QUERY_LOG_END, NULL, 0, &session->scratch, &known, &found, err));
    if (!end->has)
        return found ? table_row_delete(session, &known, err) : OCH_OK;
    row.crc = found ? known.crc : 0;
    return found ? table_row_update(session, &row, err) : table_row_insert(session, &row, err);
}

och_code sysdb_log_end_set(struct sysdb *sysdb, const struct sysdb_log_end *end, och_error *err)
{
    struct sysdb_log_end copy = *end;
    return sysdb_write_run(sysdb, run_end_set, &copy, err);
}

och_code sysdb_log_end_get(struct sysdb *sysdb, struct sysdb_log_end *ret_end, och_error *err)
{
    CLEANUP(session_turn_cleanup) struct session *session = NULL;
    TRY(session_turn_enter(sysdb, &session, err));
    struct row row;
    bool found;
    TRY(table_row_find(session, QUERY_LOG_END, NULL, 0, &session->scratch, &row, &found, err));
    *ret_end = (struct sysdb_log_end){.has = found};
    if (found) {
        ret_end->segment = (uint64_t)row.at[END_SEGMENT].number;
        ret_end->byte = (uint64_t)row.at[END_BYTE].number;
        ret_end->sequence = (uint64_t)row.at[END_SEQUENCE].number;
    }
    return OCH_OK;
}
