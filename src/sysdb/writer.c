/* SPDX-License-Identifier: Apache-2.0 */
/* One thread writes.  While a commit is under way requests of all callers queue; then all that wait go under one commit,
 * each in a savepoint of its own, so that one fails alone and many share one fsync (D17). */
#include "sysdb/sysdb_internal.h"

/* ---- the turn ---- */

och_code turn_take(struct sysdb *sysdb, och_error *err)
{
    mutex_lock(&sysdb->mutex);
    uint64_t mine = sysdb->turn_next++;
    while (sysdb->turn_now != mine)
        cond_wait(&sysdb->turn_cond, &sysdb->mutex);
    bool closed = sysdb->closed;
    mutex_unlock(&sysdb->mutex);
    if (closed) {
        turn_give(sysdb);
        return FAIL(err, OCH_CLOSED, "catalogue %s is closed", sysdb->path);
    }
    arena_done(&sysdb->scratch);
    return OCH_OK;
}

void turn_give(struct sysdb *sysdb)
{
    mutex_lock(&sysdb->mutex);
    sysdb->turn_now++;
    bool others = sysdb->turn_now != sysdb->turn_next;
    mutex_unlock(&sysdb->mutex);
    if (others)
        cond_broadcast(&sysdb->turn_cond);
}

och_code turn_enter(struct sysdb *sysdb, struct sysdb **ret_turn, och_error *err)
{
    TRY(turn_take(sysdb, err));
    *ret_turn = sysdb;
    return OCH_OK;
}

void turn_cleanup(struct sysdb **turn)
{
    if (*turn)
        turn_give(*turn);
}

/* ---- what the transaction under way changes in memory ---- */

void touch(struct sysdb *sysdb, uuid id)
{
    for (size_t i = 0; i < sysdb->published.len; i++) {
        if (!uuid_equal(sysdb->published.at[i]->id, id))
            continue;
        sysdb_collection_unref(sysdb->published.at[i]);
        sysdb->published.at[i] = sysdb->published.at[--sysdb->published.len];
        break;
    }
    if (!VEC_PUSH(&sysdb->touched, id))
        sysdb->touched_all = true;
}

void touch_all(struct sysdb *sysdb)
{
    sysdb->touched_all = true;
    while (sysdb->published.len)
        sysdb_collection_unref(sysdb->published.at[--sysdb->published.len]);
}

void publish_later(struct sysdb *sysdb, const struct sysdb_collection *collection)
{
    if (!VEC_PUSH(&sysdb->published, collection))
        return; // it will be read again
    // the count is shared between threads, so even a const snapshot has it writable
    atomic_fetch_add(&((struct sysdb_collection *)(uintptr_t)collection)->refs, 1);
}

static void show_changes(struct sysdb *sysdb, bool committed)
{
    if (sysdb->touched_all)
        cache_clear(&sysdb->cache);
    for (size_t i = 0; i < sysdb->touched.len && !sysdb->touched_all; i++)
        cache_remove(&sysdb->cache, sysdb->touched.at[i]);
    for (size_t i = 0; i < sysdb->published.len; i++) {
        if (committed)
            cache_put(&sysdb->cache, sysdb->published.at[i]);
        sysdb_collection_unref(sysdb->published.at[i]);
    }
    sysdb->touched.len = 0;
    sysdb->published.len = 0;
    sysdb->touched_all = false;
}

/* ---- the transaction ---- */

/* After a failed write or sync the log's end may hold a transaction that we reported as failed.  Everything sound goes into
 * the catalogue file and the log begins anew, so that such bytes are gone before anything is acknowledged again (D11). */
static och_code restart_journal(struct sysdb *sysdb, och_error *err)
{
    int rc = sqlite3_wal_checkpoint_v2(sysdb->connection, "main", SQLITE_CHECKPOINT_TRUNCATE, NULL,
                                       NULL);
    if (rc != SQLITE_OK) {
        och_code code = sql_fail(sysdb, rc, err);
        error_append(err, " (after a failed write; reads go on, writes are tried again)");
        return code;
    }
    sysdb->restart_journal = false;
    return OCH_OK;
}

static void abandon(struct sysdb *sysdb)
{
    if (!sqlite3_get_autocommit(sysdb->connection))
        (void)sql_query_run(sysdb, QUERY_ROLLBACK, NULL);
    sysdb->sums = sysdb->committed;
    sysdb->restart_journal = true;
}

static void fail_request(struct request *request, och_code code, const och_error *err)
{
    if (request->code != OCH_OK)
        return; // it has a reason of its own
    request->code = code;
    request->error = *err;
}

/* In its savepoint.  False: the whole transaction is gone. */
static bool run_request(struct sysdb *sysdb, struct request *request, och_error *err)
{
    struct sums before = sysdb->sums;
    bool changed_before = sysdb->changed;
    sysdb->changed = false;
    arena_done(&sysdb->scratch);
    if (sql_query_run(sysdb, QUERY_SAVE, err) != OCH_OK)
        return false;
    request->code = request->run(sysdb, request->arg, &request->error);
    bool lost = sqlite3_get_autocommit(sysdb->connection) != 0;
    if (lost) {
        if (err)
            *err = request->error;
        return false;
    }
    if (request->code != OCH_OK) {
        sysdb->sums = before;
        sysdb->changed = changed_before;
        if (sql_query_run(sysdb, QUERY_SAVE_ROLLBACK, err) != OCH_OK)
            return false;
    } else {
        sysdb->changed |= changed_before;
    }
    return sql_query_run(sysdb, QUERY_SAVE_RELEASE, err) == OCH_OK;
}

static och_code run_all(struct sysdb *sysdb, struct request *first, och_error *err)
{
    if (sysdb->restart_journal)
        TRY(restart_journal(sysdb, err));
    TRY(sql_query_run(sysdb, QUERY_BEGIN, err));
    sysdb->changed = false;
    for (struct request *request = first; request; request = request->next) {
        if (!run_request(sysdb, request, err))
            return err->code != OCH_OK ? err->code : FAIL(err, OCH_IO, "the transaction is gone");
    }
    if (!sysdb->changed)
        return sql_query_run(sysdb, QUERY_ROLLBACK, err);
    sysdb->sums.generation++;
    TRY(sums_store(sysdb, err));
    return sql_query_run(sysdb, QUERY_COMMIT, err);
}

static void run_batch(struct sysdb *sysdb, struct request *first)
{
    och_error err = {0};
    och_code code = turn_take(sysdb, &err);
    bool turn = code == OCH_OK;
    if (turn)
        code = run_all(sysdb, first, &err);
    if (code != OCH_OK) {
        for (struct request *request = first; request; request = request->next)
            fail_request(request, code, &err);
        if (turn)
            abandon(sysdb);
    } else {
        sysdb->committed = sysdb->sums;
        atomic_store(&sysdb->generation, sysdb->sums.generation);
    }
    if (turn) {
        show_changes(sysdb, code == OCH_OK);
        turn_give(sysdb);
    }
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
    }
    mutex_unlock(&sysdb->mutex);
}

och_code writer_start(struct sysdb *sysdb, och_error *err)
{
    return thread_start(&sysdb->writer, "sysdb", 512 * 1024, writer_main, sysdb, err);
}

void writer_stop(struct sysdb *sysdb)
{
    mutex_lock(&sysdb->mutex);
    sysdb->stopping = true;
    cond_signal(&sysdb->queue_cond);
    mutex_unlock(&sysdb->mutex);
    thread_join(&sysdb->writer);
}

och_code write_run(struct sysdb *sysdb,
                   och_code (*run)(struct sysdb *sysdb, void *arg, och_error *err), void *arg,
                   och_error *err)
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
