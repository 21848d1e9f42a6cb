/* SPDX-License-Identifier: Apache-2.0 */
/* One thread writes.  While a commit is under way requests of all callers queue; then all that wait go under one commit,
 * each in a savepoint of its own, so that one fails alone and many share one fsync (D17). */
#include "sysdb/sysdb_internal.h"

/* ---- the turn ---- */

och_code session_turn_take(struct sysdb *sysdb, och_error *err)
{
    mutex_lock(&sysdb->mutex);
    uint64_t mine = sysdb->turn_next++;
    while (sysdb->turn_now != mine)
        cond_wait(&sysdb->turn_cond, &sysdb->mutex);
    bool closed = sysdb->closed;
    mutex_unlock(&sysdb->mutex);
    if (closed) {
        session_turn_give(sysdb);
        return FAIL(err, OCH_CLOSED, "catalogue %s is closed", sysdb->path);
    }
    return OCH_OK;
}

void session_turn_give(struct sysdb *sysdb)
{
    mutex_lock(&sysdb->mutex);
    sysdb->turn_now++;
    bool others = sysdb->turn_now != sysdb->turn_next;
    mutex_unlock(&sysdb->mutex);
    if (others)
        cond_broadcast(&sysdb->turn_cond);
}

och_code session_turn_enter(struct sysdb *sysdb, struct session **ret_session, och_error *err)
{
    TRY(session_turn_take(sysdb, err));
    struct session *session = &sysdb->reader;
    *ret_session = session; // from here on the caller gives the turn back
    arena_done(&session->scratch);
    session->epoch =
        snapshot_cache_epoch(&sysdb->cache); // before the first statement fixes the state seen
    return sql_query_run(session, QUERY_BEGIN_READ, err);
}

void session_turn_cleanup(struct session **session)
{
    if (!*session)
        return;
    sqlite3 *connection = (*session)->connection;
    if (connection && !sqlite3_get_autocommit(connection))
        (void)sql_query_run(*session, QUERY_ROLLBACK, NULL);
    session_turn_give((*session)->sysdb);
}

/* ---- what the transaction under way changes in memory ---- */

void snapshot_touch(struct session *session, uuid id)
{
    for (size_t i = 0; i < session->sysdb->published.len; i++) {
        if (!uuid_equal(session->sysdb->published.at[i]->id, id))
            continue;
        sysdb_collection_unref(session->sysdb->published.at[i]);
        session->sysdb->published.at[i] =
            session->sysdb->published.at[--session->sysdb->published.len];
        break;
    }
    if (!VEC_PUSH(&session->sysdb->touched, id))
        session->sysdb->touched_all = true;
}

void snapshot_touch_all(struct session *session)
{
    session->sysdb->touched_all = true;
    while (session->sysdb->published.len)
        sysdb_collection_unref(session->sysdb->published.at[--session->sysdb->published.len]);
}

void snapshot_publish_later(struct session *session, const struct sysdb_collection *collection)
{
    if (!VEC_PUSH(&session->sysdb->published, collection))
        return; // it will be read again
    // the count is shared between threads, so even a const snapshot has it writable
    atomic_fetch_add(&((struct sysdb_collection *)(uintptr_t)collection)->refs, 1);
}

static void show_changes(struct sysdb *sysdb, bool committed)
{
    if (sysdb->touched_all)
        snapshot_cache_clear(&sysdb->cache);
    for (size_t i = 0; i < sysdb->touched.len && !sysdb->touched_all; i++)
        snapshot_cache_remove(&sysdb->cache, sysdb->touched.at[i]);
    for (size_t i = 0; i < sysdb->published.len; i++) {
        if (committed)
            snapshot_cache_put(&sysdb->cache, sysdb->published.at[i],
                               snapshot_cache_epoch(&sysdb->cache));
        sysdb_collection_unref(sysdb->published.at[i]);
    }
    sysdb->touched.len = 0;
    sysdb->published.len = 0;
    sysdb->touched_all = false;
}

/* ---- the transaction ---- */

/* After a failed write or sync the log's end may hold a transaction that we reported as failed.  Everything sound goes into
 * the catalogue file and the log begins anew, so that such bytes are gone before anything is acknowledged again (D11). */
static och_code restart_journal(struct session *session, och_error *err)
{
    TRY(session_turn_take(session->sysdb, err)); // readers must be out of the log
    int rc = sqlite3_wal_checkpoint_v2(session->connection, "main", SQLITE_CHECKPOINT_TRUNCATE,
                                       NULL, NULL);
    session_turn_give(session->sysdb);
    if (rc != SQLITE_OK)
        return sql_fail(session, rc, err);
    session->sysdb->restart_journal = false;
    session->sysdb->journal_frames = 0;
    return OCH_OK;
}

static bool disk_is_nearly_full(struct sysdb *sysdb)
{
    uint64_t left;
    return io_space(sysdb->io, sysdb->path, &left, NULL) == OCH_OK && left < JOURNAL_ROOM;
}

/* Copy the log into the catalogue now and then; between commits, so that nobody waits for it.  On a disk that is nearly full
 * the log gives its room back early: what deletes and compaction have in reserve is not for it.  A failure is no loss: the
 * log stays and the next commit tries again. */
static void shorten_journal(struct sysdb *sysdb)
{
    och_error err = {0};
    och_code code = OCH_OK;
    if (sysdb->journal_frames < JOURNAL_FRAMES_FEW)
        return;
    if (sysdb->journal_frames >= JOURNAL_FRAMES_MAX || disk_is_nearly_full(sysdb)) {
        code = restart_journal(&sysdb->writer, &err);
    } else if (sysdb->journal_frames >= JOURNAL_FRAMES) {
        int rc = sqlite3_wal_checkpoint_v2(sysdb->writer.connection, "main",
                                           SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
        if (rc != SQLITE_OK && rc != SQLITE_BUSY)
            code = sql_fail(&sysdb->writer, rc, &err);
    }
    if (code != OCH_OK && sysdb->trace)
        trace_line(sysdb->trace, TRACE_WARN, "sysdb", "the catalogue's log cannot be shortened",
                   "reason", err.message, NULL);
}

static void abandon(struct session *session)
{
    if (!sqlite3_get_autocommit(session->connection))
        (void)sql_query_run(session, QUERY_ROLLBACK, NULL);
    session->sysdb->sums = session->sysdb->committed;
    session->sysdb->restart_journal = true;
}

static void fail_request(struct request *request, och_code code, const och_error *err)
{
    if (request->code != OCH_OK)
        return; // it has a reason of its own
    request->code = code;
    request->error = *err;
}

/* In its savepoint.  False: the whole transaction is gone. */
static bool run_request(struct session *session, struct request *request, och_error *err)
{
    struct sums before = session->sysdb->sums;
    bool changed_before = session->sysdb->changed;
    session->sysdb->changed = false;
    arena_done(&session->scratch);
    if (sql_query_run(session, QUERY_SAVE, err) != OCH_OK)
        return false;
    request->code = request->run(session, request->arg, &request->error);
    bool lost = sqlite3_get_autocommit(session->connection) != 0;
    if (lost) {
        if (err)
            *err = request->error;
        return false;
    }
    if (request->code != OCH_OK) {
        session->sysdb->sums = before;
        session->sysdb->changed = changed_before;
        if (sql_query_run(session, QUERY_SAVE_ROLLBACK, err) != OCH_OK)
            return false;
    } else {
        session->sysdb->changed |= changed_before;
    }
    return sql_query_run(session, QUERY_SAVE_RELEASE, err) == OCH_OK;
}

static och_code run_all(struct session *session, struct request *first, och_error *err)
{
    if (session->sysdb->restart_journal)
        TRY(restart_journal(session, err));
    TRY(sql_query_run(session, QUERY_BEGIN, err));
    session->sysdb->changed = false;
    for (struct request *request = first; request; request = request->next) {
        if (!run_request(session, request, err))
            return err->code != OCH_OK ? err->code : FAIL(err, OCH_IO, "the transaction is gone");
    }
    if (!session->sysdb->changed)
        return sql_query_run(session, QUERY_ROLLBACK, err);
    session->sysdb->sums.generation++;
    TRY(sums_store(session, err));
    return sql_query_run(session, QUERY_COMMIT, err);
}

static void run_batch(struct sysdb *sysdb, struct request *first)
{
    och_error err = {0};
    och_code code = run_all(&sysdb->writer, first, &err);
    if (code != OCH_OK) {
        for (struct request *request = first; request; request = request->next)
            fail_request(request, code, &err);
        abandon(&sysdb->writer);
    } else {
        sysdb->committed = sysdb->sums;
        atomic_store(&sysdb->generation, sysdb->sums.generation);
    }
    show_changes(sysdb, code == OCH_OK);
}

static int on_commit(void *user, sqlite3 *connection, const char *name, int frames)
{
    (void)connection, (void)name;
    ((struct sysdb *)user)->journal_frames = frames;
    return SQLITE_OK;
}

static void writer_main(void *arg)
{
    struct sysdb *sysdb = arg;
    mutex_lock(&sysdb->mutex);
    for (;;) {
        while (!sysdb->queue_first && !sysdb->stopping)
            cond_wait(&sysdb->queue_cond, &sysdb->mutex);
        struct request *first = sysdb->queue_first;
        if (!first)
            break;
        sysdb->queue_first = sysdb->queue_last = NULL;
        mutex_unlock(&sysdb->mutex);
        run_batch(sysdb, first);
        mutex_lock(&sysdb->mutex);
        while (first) {
            struct request *next = first->next; // the owner may be gone as soon as it is done
            first->done = true;
            cond_signal(&first->cond);
            first = next;
        }
        mutex_unlock(&sysdb->mutex);
        shorten_journal(sysdb);
        mutex_lock(&sysdb->mutex);
    }
    mutex_unlock(&sysdb->mutex);
}

och_code sysdb_writer_start(struct sysdb *sysdb, och_error *err)
{
    (void)sqlite3_wal_hook(sysdb->writer.connection, on_commit, sysdb); // instead of autocheckpoint
    return thread_start(&sysdb->thread, "sysdb", 512 * 1024, writer_main, sysdb, err);
}

void sysdb_writer_stop(struct sysdb *sysdb)
{
    mutex_lock(&sysdb->mutex);
    sysdb->stopping = true;
    cond_signal(&sysdb->queue_cond);
    mutex_unlock(&sysdb->mutex);
    thread_join(&sysdb->thread);
}

och_code sysdb_write_run(struct sysdb *sysdb,
                         och_code (*run)(struct session *session, void *arg, och_error *err),
                         void *arg, och_error *err)
{
    if (sysdb->read_only)
        return FAIL(err, OCH_UNSUPPORTED, "catalogue %s was opened for reading only", sysdb->path);
    struct request request = {.run = run, .arg = arg};
    cond_init(&request.cond);
    mutex_lock(&sysdb->mutex);
    bool closed = sysdb->stopping;
    if (!closed) {
        if (sysdb->queue_last)
            sysdb->queue_last->next = &request;
        else
            sysdb->queue_first = &request;
        sysdb->queue_last = &request;
        cond_signal(&sysdb->queue_cond);
        while (!request.done)
            cond_wait(&request.cond, &sysdb->mutex);
    }
    mutex_unlock(&sysdb->mutex);
    cond_done(&request.cond);
    if (closed)
        return FAIL(err, OCH_CLOSED, "catalogue %s is closed", sysdb->path);
    if (request.code != OCH_OK && err)
        *err = request.error;
    return request.code;
}
