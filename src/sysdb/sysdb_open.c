/* SPDX-License-Identifier: Apache-2.0 */
/* Opening, checking and closing a catalogue. */
#include "sysdb/sysdb_internal.h"

#include <inttypes.h>
#include <stdio.h>

#define HEADER_BYTES 100u
#define EXPECT_BYTES (1u << 20)

static och_code new_handle(const struct sysdb_options *options, struct sysdb **ret_sysdb,
                           och_error *err)
{
    struct sysdb *sysdb = MEM_NEW(struct sysdb);
    if (!sysdb)
        return FAIL_NO_MEMORY(err, "the catalogue");
    sysdb->io = options->io;
    sysdb->clock = options->clock;
    sysdb->trace = options->trace;
    sysdb->read_only = options->read_only;
    sysdb->retention_ms = options->retention_ms;
    mutex_init(&sysdb->mutex, RANK_SYSDB);
    cond_init(&sysdb->turn_cond);
    cond_init(&sysdb->queue_cond);
    snapshot_cache_init(&sysdb->cache);
    sysdb->cache.budget = options->budget;
    if (options->budget)
        budget_force(options->budget, WRITER_CACHE_BYTES + READER_CACHE_BYTES);
    *ret_sysdb = sysdb;
    sysdb->path = mem_copy_text(options->path, strlen(options->path));
    return sysdb->path ? OCH_OK : FAIL_NO_MEMORY(err, "a path");
}

/* Is this file ours?  SQLite reads the page size from here before any page is checked. */
static och_code check_header(struct sysdb *sysdb, och_error *err)
{
    static const uint8_t magic[16] = "SQLite format 3";
    CLEANUP(file_cleanup) struct file *file = NULL;
    uint8_t header[HEADER_BYTES];
    uint64_t size;
    TRY(io_open(sysdb->io, sysdb->path, 0, &file, err));
    TRY(file_size(file, &size, err));
    if (size < CATALOGUE_PAGE)
        return FAIL(err, OCH_CORRUPT, "catalogue %s has %" PRIu64 " bytes, expected at least %u",
                    sysdb->path, size, CATALOGUE_PAGE);
    /* SQLite will ask for it page by page and wait for each */
    file_expect(file, 0, size < EXPECT_BYTES ? size : EXPECT_BYTES);
    TRY(file_read_all(file, 0, header, sizeof(header), err));
    bool ours = memcmp(header, magic, sizeof(magic)) == 0 && header[16] == CATALOGUE_PAGE >> 8 &&
                header[17] == 0 && header[18] == 2 && header[19] == 2 &&
                header[20] == CATALOGUE_RESERVED;
    if (!ours)
        return FAIL(err, OCH_CORRUPT, "catalogue %s: its header is not that of a catalogue",
                    sysdb->path);
    return OCH_OK;
}

static och_code check_journal(struct sysdb *sysdb, och_error *err)
{
    CLEANUP(mem_cleanup) char *path = NULL;
    size_t len = strlen(sysdb->path);
    path = mem_alloc(len + 5);
    if (!path)
        return FAIL_NO_MEMORY(err, "a path");
    memcpy(path, sysdb->path, len);
    memcpy(path + len, "-wal", 5);
    return sqlite_wal_check(sysdb->io, path, sysdb->path, err);
}

static och_code open_there(struct sysdb *sysdb, och_error *err)
{
    uint64_t faults = 0;
    struct session *first = sysdb->read_only ? &sysdb->reader : &sysdb->writer;
    TRY(check_header(sysdb, err));
    TRY(check_journal(sysdb, err));
    /* A torn transaction at the log's end must not stand behind the next one: its frames, half overwritten when the power
     * goes again, would look like a later transaction behind a damaged one. */
    sysdb->restart_journal = true;
    TRY(sqlite_shared_new(&sysdb->shared, err));
    TRY(session_open(sysdb, &sysdb->writer, err));
    TRY(session_open(sysdb, &sysdb->reader, err));
    TRY(session_connect(first, sysdb->path, false, err));
    TRY(catalogue_migrate(first, err));
    TRY(sums_check(first, &sysdb->sums, false, NULL, &faults, err));
    sysdb->committed = sysdb->sums;
    atomic_store(&sysdb->generation, sysdb->sums.generation);
    if (sysdb->read_only)
        return OCH_OK;
    TRY(session_connect(&sysdb->reader, sysdb->path, false, err));
    return sysdb_writer_start(sysdb, err);
}

static och_code make_if_missing(const struct sysdb_options *options, och_error *err)
{
    struct io_entry entry;
    och_error found = {0};
    och_code code = io_stat(options->io, options->path, &entry, &found);
    if (code == OCH_NOT_FOUND && options->create && !options->read_only)
        return catalogue_create(options, err);
    if (code == OCH_NOT_FOUND)
        return FAIL(err, OCH_NOT_FOUND, "there is no catalogue at %s", options->path);
    if (code != OCH_OK && err)
        *err = found;
    return code;
}

och_code sysdb_open(const struct sysdb_options *options, struct sysdb **ret_sysdb, och_error *err)
{
    struct sysdb *sysdb = NULL;
    TRY(make_if_missing(options, err));
    och_code code = new_handle(options, &sysdb, err);
    if (code == OCH_OK)
        code = open_there(sysdb, err);
    if (code != OCH_OK) {
        sysdb_free(sysdb);
        return code;
    }
    *ret_sysdb = sysdb;
    return OCH_OK;
}

uint64_t sysdb_generation(struct sysdb *sysdb)
{
    return atomic_load(&sysdb->generation);
}

/* SQLite's own check: each row it gives is "ok" or a fault. */
static och_code check_integrity(struct session *session, const char *pragma, struct buf *report,
                                uint64_t *faults, och_error *err)
{
    sqlite3_stmt *statement = NULL;
    int rc = sqlite3_prepare_v2(session->connection, pragma, -1, &statement, NULL);
    while (rc == SQLITE_OK || rc == SQLITE_ROW) {
        rc = sqlite3_step(statement);
        if (rc != SQLITE_ROW)
            break;
        const char *text = (const char *)sqlite3_column_text(statement, 0);
        if (text && strcmp(text, "ok") == 0)
            continue;
        buf_printf(report, "catalogue %s: %s\n", session->sysdb->path, text ? text : "no memory");
        *faults += 1;
    }
    och_error found = {0};
    och_code code = rc == SQLITE_DONE ? OCH_OK : sql_fail(session, rc, &found);
    (void)sqlite3_finalize(statement);
    if (code == OCH_CORRUPT) {
        buf_printf(report, "%s\n", found.message);
        *faults += 1;
        return OCH_OK;
    }
    if (code != OCH_OK && err)
        *err = found;
    return code;
}

och_code sysdb_verify(struct sysdb *sysdb, struct buf *report, uint64_t *ret_faults, och_error *err)
{
    CLEANUP(session_turn_cleanup) struct session *session = NULL;
    TRY(session_turn_enter(sysdb, &session, err));
    uint64_t faults = 0;
    struct sums sums;
    och_error found = {0};
    TRY(check_integrity(session, "PRAGMA integrity_check", report, &faults, err));
    TRY(check_integrity(session, "PRAGMA foreign_key_check", report, &faults, err));
    size_t tables;
    och_code code = sums_load(session, &sums, &tables, &found); // of the state that this turn sees
    if (code == OCH_OK)
        code = sums_check(session, &sums, true, report, &faults, &found);
    if (code == OCH_CORRUPT) {
        buf_printf(report, "%s\n", found.message);
        faults++;
    } else if (code != OCH_OK) {
        if (err)
            *err = found;
        return code;
    }
    TRY(buf_check(report, "a report", err));
    *ret_faults = faults;
    return OCH_OK;
}

och_code sysdb_close(struct sysdb *sysdb, och_error *err)
{
    sysdb_writer_stop(sysdb);
    TRY(session_turn_take(sysdb, err));
    mutex_lock(&sysdb->mutex);
    sysdb->closed = true;
    mutex_unlock(&sysdb->mutex);
    och_code code = session_disconnect(&sysdb->reader, err);
    if (code == OCH_OK && !sysdb->read_only) {
        int rc = sqlite3_wal_checkpoint_v2(sysdb->writer.connection, "main",
                                           SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
        if (rc != SQLITE_OK)
            code = sql_fail(&sysdb->writer, rc, err);
    }
    och_code closed = session_disconnect(&sysdb->writer, code == OCH_OK ? err : NULL);
    session_turn_give(sysdb);
    return code != OCH_OK ? code : closed;
}

void sysdb_free(struct sysdb *sysdb)
{
    if (!sysdb)
        return;
    sysdb_writer_stop(sysdb);
    (void)session_close(&sysdb->reader, NULL);
    (void)session_close(&sysdb->writer, NULL);
    sqlite_shared_free(sysdb->shared);
    VEC_DONE(&sysdb->touched);
    mem_free(sysdb->published.at);
    struct budget *budget = sysdb->cache.budget;
    snapshot_cache_done(&sysdb->cache);
    if (budget)
        budget_give(budget, WRITER_CACHE_BYTES + READER_CACHE_BYTES);
    cond_done(&sysdb->turn_cond);
    cond_done(&sysdb->queue_cond);
    mutex_done(&sysdb->mutex);
    mem_free(sysdb->path);
    mem_free(sysdb);
}
