/* SPDX-License-Identifier: Apache-2.0 */
/* The rules are those of SQLite's locks between processes, kept here by counting under one mutex. */
#include "sysdb/sqlite_shared.h"

#include "base/sched.h"
#include "base/vec.h"

struct sqlite_shared {
    struct mutex mutex; /* guards: all below.  RANK_LEAF */
    int readers;        /* files at SHARED or above */
    bool reserved;      /* one of them is at RESERVED or above */
    bool pending;       /* it waits for the others to go: no new ones */
    int shm_shared[SQLITE_SHM_NLOCK];
    bool shm_exclusive[SQLITE_SHM_NLOCK];
    VEC(void *) regions;
};

och_code sqlite_shared_new(struct sqlite_shared **ret_shared, och_error *err)
{
    struct sqlite_shared *shared = MEM_NEW(struct sqlite_shared);
    if (!shared)
        return FAIL_NO_MEMORY(err, "the catalogue's locks");
    mutex_init(&shared->mutex, RANK_LEAF);
    *ret_shared = shared;
    return OCH_OK;
}

void sqlite_shared_free(struct sqlite_shared *shared)
{
    if (!shared)
        return;
    for (size_t i = 0; i < shared->regions.len; i++)
        mem_free(shared->regions.at[i]);
    VEC_DONE(&shared->regions);
    mutex_done(&shared->mutex);
    mem_free(shared);
}

/* In the mutex: one step up. */
static bool raise(struct sqlite_shared *shared, struct sqlite_locks *mine, int level)
{
    if (mine->level == SQLITE_LOCK_NONE) {
        if (shared->pending)
            return false;
        shared->readers++;
        mine->level = SQLITE_LOCK_SHARED;
    }
    if (level >= SQLITE_LOCK_RESERVED && mine->level < SQLITE_LOCK_RESERVED) {
        if (shared->reserved)
            return false;
        shared->reserved = true;
        mine->level = SQLITE_LOCK_RESERVED;
    }
    if (level == SQLITE_LOCK_EXCLUSIVE && mine->level < SQLITE_LOCK_EXCLUSIVE) {
        shared->pending = true;
        mine->level = SQLITE_LOCK_PENDING;
        if (shared->readers > 1)
            return false;
        mine->level = SQLITE_LOCK_EXCLUSIVE;
    }
    return true;
}

bool sqlite_shared_lock(struct sqlite_shared *shared, struct sqlite_locks *mine, int level)
{
    mutex_lock(&shared->mutex);
    bool taken = raise(shared, mine, level);
    mutex_unlock(&shared->mutex);
    return taken;
}

void sqlite_shared_unlock(struct sqlite_shared *shared, struct sqlite_locks *mine, int level)
{
    mutex_lock(&shared->mutex);
    if (mine->level >= SQLITE_LOCK_RESERVED && level < SQLITE_LOCK_RESERVED)
        shared->reserved = shared->pending = false;
    if (mine->level >= SQLITE_LOCK_SHARED && level < SQLITE_LOCK_SHARED)
        shared->readers--;
    if (level < mine->level)
        mine->level = level;
    mutex_unlock(&shared->mutex);
}

bool sqlite_shared_reserved(struct sqlite_shared *shared)
{
    mutex_lock(&shared->mutex);
    bool reserved = shared->reserved;
    mutex_unlock(&shared->mutex);
    return reserved;
}

/* In the mutex: may this file take the slot? */
static bool slot_free(const struct sqlite_shared *shared, const struct sqlite_locks *mine, int slot,
                      bool exclusive)
{
    bool mine_shared = (mine->shared >> slot & 1) != 0;
    bool mine_exclusive = (mine->exclusive >> slot & 1) != 0;
    if (shared->shm_exclusive[slot] && !mine_exclusive)
        return false;
    return !exclusive || shared->shm_shared[slot] == (mine_shared ? 1 : 0);
}

static void slot_set(struct sqlite_shared *shared, struct sqlite_locks *mine, int slot,
                     bool exclusive, bool lock)
{
    uint8_t bit = (uint8_t)(1u << slot);
    uint8_t *held = exclusive ? &mine->exclusive : &mine->shared;
    if (((*held & bit) != 0) == lock)
        return;
    *held ^= bit;
    if (exclusive)
        shared->shm_exclusive[slot] = lock;
    else
        shared->shm_shared[slot] += lock ? 1 : -1;
}

bool sqlite_shared_shm_lock(struct sqlite_shared *shared, struct sqlite_locks *mine, int first,
                            int count, bool exclusive, bool lock)
{
    bool taken = true;
    assert(first >= 0 && count >= 1 && first + count <= SQLITE_SHM_NLOCK);
    mutex_lock(&shared->mutex);
    for (int i = first; lock && taken && i < first + count; i++)
        taken = slot_free(shared, mine, i, exclusive);
    for (int i = first; taken && i < first + count; i++)
        slot_set(shared, mine, i, exclusive, lock);
    mutex_unlock(&shared->mutex);
    return taken;
}

bool sqlite_shared_region(struct sqlite_shared *shared, size_t index, size_t size, bool make,
                          void **ret_region)
{
    bool memory = true;
    mutex_lock(&shared->mutex);
    while (make && memory && shared->regions.len <= index) {
        void *region = mem_zalloc(size);
        memory = region && VEC_PUSH(&shared->regions, region);
        if (!memory)
            mem_free(region);
    }
    *ret_region = index < shared->regions.len ? shared->regions.at[index] : NULL;
    mutex_unlock(&shared->mutex);
    return memory;
}

void sqlite_shared_barrier(struct sqlite_shared *shared)
{
    mutex_lock(&shared->mutex);
    mutex_unlock(&shared->mutex);
}
