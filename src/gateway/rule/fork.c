/* SPDX-License-Identifier: Apache-2.0 */
/* Forks (D16, http-api.md §8): a new collection that begins as another one is at this moment.  Parts are shared, the tail is copied in
 * the log.  Nothing of it is seen before the last step, one transaction of the catalogue; a crash before leaves a tombstone. */
#include "gateway/gateway_internal.h"

#include "model/limits.h"

#include <inttypes.h>

#define TRIES 8 /* at a source that is changed or flushed all the time */

struct fork {
    struct sysdb_fork row;
    bool has_log; /* the log may hold frames of the copy */
};

static uint64_t forks_max(const struct gateway *gateway)
{
    return gateway->options.forks_max ? gateway->options.forks_max : LIMIT_FORK_EDGES;
}

/* What would be refused in the end is refused before anything is written. */
static och_code check(struct gateway *gateway, const struct sysdb_collection *source, slice name,
                      och_error *err)
{
    const struct sysdb_collection *there CLEANUP(sysdb_collection_cleanup) = NULL;
    och_error missing = {0};
    och_code code = sysdb_collection_find(gateway->options.sysdb, source->tenant, source->database,
                                          name, &there, &missing);
    if (code == OCH_OK)
        return FAIL(err, OCH_EXISTS, "Collection [%.*s] already exists", SLICE_ARG(name));
    if (code != OCH_NOT_FOUND) {
        if (err)
            *err = missing;
        return code;
    }
    uint64_t edges;
    TRY(sysdb_fork_count(gateway->options.sysdb, source->id, &edges, err));
    if (edges >= forks_max(gateway))
        return FAIL(err, OCH_QUOTA,
                    "Quota exceeded: Collection [%.*s] cannot be forked: its tree has %" PRIu64
                    " forks",
                    SLICE_ARG(source->name), edges);
    return OCH_OK;
}

static och_code copy_log(struct gateway *gateway, struct fork *fork, och_error *err)
{
    const struct sysdb_collection *source = fork->row.source;
    uint32_t dimension;
    TRY(wal_head(gateway->options.wal, source->id, &fork->row.upto, &dimension, err));
    if (fork->row.upto <= source->log_offset)
        return OCH_OK; // a flush was faster: the catalogue will say so
    struct wal_origin origin = {fork->row.id, source->log_offset, source->dimension,
                                source->last_created_at};
    TRY(sysdb_fork_begin(gateway->options.sysdb, fork->row.id, err));
    fork->has_log = true;
    TRY(wal_fork(gateway->options.wal, source->id, &origin, fork->row.upto, err));
    /* The log delivered the copies; whoever reads the fork first takes them from the log. */
    views_forget(gateway->options.views, fork->row.id);
    return OCH_OK;
}

/* The copy will not be.  A last step that the catalogue could not write has not happened, but might have after a crash: only once
 * it writes again nobody can need the frames any more.  If it does not, they stay until the next open. */
static void give_up(struct gateway *gateway, uuid id, och_code code)
{
    bool written = code != OCH_IO && code != OCH_CORRUPT;
    if (!written &&
        sysdb_fork_begin(gateway->options.sysdb, gateway_new_id(gateway), NULL) != OCH_OK)
        return;
    wal_forget(gateway->options.wal, id);
    views_forget(gateway->options.views, id);
}

/* One try, under drop_lock: the source cannot go meanwhile, nor can a reset miss the copy.  OCH_STALE: again. */
static och_code fork_once(struct gateway *gateway, const struct gateway_scope *scope, uuid source,
                          slice name, const struct sysdb_collection **ret_collection,
                          och_error *err)
{
    const struct sysdb_collection *from CLEANUP(sysdb_collection_cleanup) = NULL;
    TRY(sysdb_collection_get(gateway->options.sysdb, scope->tenant, scope->database, source, &from,
                             err));
    TRY(check(gateway, from, name, err));
    struct fork fork = {.row = {.source = from,
                                .id = gateway_new_id(gateway),
                                .name = name,
                                .edges_max = forks_max(gateway)}};
    och_code code = copy_log(gateway, &fork, err);
    if (code == OCH_OK)
        code = sysdb_fork(gateway->options.sysdb, &fork.row, ret_collection, err);
    if (code != OCH_OK && fork.has_log)
        give_up(gateway, fork.row.id, code);
    if (code == OCH_OK && fork.has_log && (*ret_collection)->log_offset > from->log_offset)
        IGNORE(wal_trim(gateway->options.wal, fork.row.id, (*ret_collection)->log_offset, NULL));
    return code;
}

och_code gateway_collection_fork(struct gateway *gateway, const struct gateway_scope *scope,
                                 uuid source, slice name,
                                 const struct sysdb_collection **ret_collection, och_error *err)
{
    och_code code = gateway_check_name(name, err);
    if (code != OCH_OK) {
        error_context(err, "Validation error: new_name");
        return code;
    }
    for (size_t i = 0; i < scope->database.len; i++) {
        if (scope->database.at[i] == '+')
            return FAIL(err, OCH_INVALID, "multi-region databases do not support forking");
    }
    mutex_lock(&gateway->drop_lock);
    for (int attempt = 1;; attempt++) {
        code = work_check(&scope->limits, err);
        if (code == OCH_OK)
            code = fork_once(gateway, scope, source, name, ret_collection, err);
        if (code != OCH_STALE || attempt == TRIES)
            break;
        error_clear(err);
    }
    mutex_unlock(&gateway->drop_lock);
    if (code == OCH_STALE)
        return FAIL(err, OCH_BUSY, "the collection changes too fast to be forked: retry later");
    return code;
}

/* The row was read before the head is, so that is not before it. */
och_code gateway_indexing(struct gateway *gateway, const struct sysdb_collection *collection,
                          uint64_t *ret_indexed, uint64_t *ret_total, och_error *err)
{
    uint64_t total;
    uint32_t dimension;
    TRY(wal_head(gateway->options.wal, collection->id, &total, &dimension, err));
    *ret_indexed = collection->log_offset;
    *ret_total = total;
    return OCH_OK;
}
