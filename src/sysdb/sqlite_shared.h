/* SPDX-License-Identifier: Apache-2.0 */
/* Locks and the write-ahead log's index, shared by the connections of one catalogue (sqlite.org/walformat.html §2). */
#ifndef SYSDB_SQLITE_SHARED_H
#define SYSDB_SQLITE_SHARED_H

#include "sysdb/sqlite_vfs.h"

/** What one open file holds. */
struct sqlite_locks {
    int level;                 /* SQLITE_LOCK_* */
    uint8_t shared, exclusive; /* bit per slot of the index */
};

/* Each answers false when another file is in the way. */
bool sqlite_shared_lock(struct sqlite_shared *shared, struct sqlite_locks *mine, int level);
void sqlite_shared_unlock(struct sqlite_shared *shared, struct sqlite_locks *mine, int level);
bool sqlite_shared_reserved(struct sqlite_shared *shared);
bool sqlite_shared_shm_lock(struct sqlite_shared *shared, struct sqlite_locks *mine, int first,
                            int count, bool exclusive, bool lock);
/** Region `index` of the index's memory, zeroed when made; *ret_region NULL when it is not there and !make.  False: no memory. */
bool sqlite_shared_region(struct sqlite_shared *shared, size_t index, size_t size, bool make,
                          void **ret_region);
/** What one thread wrote before is seen by another after. */
void sqlite_shared_barrier(struct sqlite_shared *shared);
#endif
