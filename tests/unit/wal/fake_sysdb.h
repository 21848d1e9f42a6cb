/* SPDX-License-Identifier: Apache-2.0 */
/* A catalogue in memory with just what the log asks for.  Each call is durable when it returns, so a power
 * cut finds a copy of it.  Its definitions take the place of the library's in a test's link. */
#ifndef TESTS_FAKE_SYSDB_H
#define TESTS_FAKE_SYSDB_H

#include "base/sched.h"
#include "base/vec.h"
#include "sysdb/sysdb.h"

#include <errno.h>

struct fake_collection {
    uuid id;
    bool dropped;
    uint64_t log_offset;
    uint32_t dimension;
    int64_t last_created_at;
};
struct fake_batch_id {
    uuid collection;
    struct sysdb_batch_id row;
};
struct sysdb {
    struct mutex lock; /* guards all */
    VEC(struct fake_collection) collections;
    VEC(struct sysdb_segment) segments;
    VEC(struct fake_batch_id) batch_ids;
    struct sysdb_log_end end;
    uint64_t generation;
    uint64_t calls, fail_at;              /* the n-th writing call fails, before it does anything */
    bool fail_after;                      /* ... or after it did all */
    void (*on_generation)(void *context); /* called once, in the middle of a flush */
    void *context;
};

static inline struct sysdb *fake_new(void)
{
    struct sysdb *db = MEM_NEW(struct sysdb);
    assert(db);
    mutex_init(&db->lock, RANK_SYSDB);
    db->generation = 1;
    return db;
}
static inline void fake_free(struct sysdb *db)
{
    if (!db)
        return;
    VEC_DONE(&db->collections);
    VEC_DONE(&db->segments);
    VEC_DONE(&db->batch_ids);
    mutex_done(&db->lock);
    mem_free(db);
}
/** Under db->lock. */
static inline struct sysdb *fake_copy_locked(struct sysdb *db)
{
    struct sysdb *copy = fake_new();
    for (size_t i = 0; i < db->collections.len; i++)
        assert(VEC_PUSH(&copy->collections, db->collections.at[i]));
    for (size_t i = 0; i < db->segments.len; i++)
        assert(VEC_PUSH(&copy->segments, db->segments.at[i]));
    for (size_t i = 0; i < db->batch_ids.len; i++)
        assert(VEC_PUSH(&copy->batch_ids, db->batch_ids.at[i]));
    copy->end = db->end;
    copy->generation = db->generation;
    return copy;
}
static inline struct sysdb *fake_copy(struct sysdb *db)
{
    mutex_lock(&db->lock);
    struct sysdb *copy = fake_copy_locked(db);
    mutex_unlock(&db->lock);
    return copy;
}
static inline struct fake_collection *fake_find(struct sysdb *db, uuid id)
{
    for (size_t i = 0; i < db->collections.len; i++) {
        if (uuid_equal(db->collections.at[i].id, id))
            return &db->collections.at[i];
    }
    return NULL;
}
static inline void fake_add(struct sysdb *db, uuid id)
{
    mutex_lock(&db->lock);
    assert(VEC_PUSH(&db->collections, (struct fake_collection){.id = id}));
    db->generation++;
    mutex_unlock(&db->lock);
}
static inline void fake_drop(struct sysdb *db, uuid id)
{
    mutex_lock(&db->lock);
    fake_find(db, id)->dropped = true;
    db->generation++;
    mutex_unlock(&db->lock);
}
/** The last step of a fork. */
static inline void fake_revive(struct sysdb *db, uuid id)
{
    mutex_lock(&db->lock);
    fake_find(db, id)->dropped = false;
    db->generation++;
    mutex_unlock(&db->lock);
}
static inline size_t fake_segments(struct sysdb *db)
{
    mutex_lock(&db->lock);
    size_t count = db->segments.len;
    mutex_unlock(&db->lock);
    return count;
}
/** A commit of D10. */
static inline void fake_commit(struct sysdb *db, uuid id, uint64_t log_offset, uint32_t dimension,
                               int64_t created_at)
{
    mutex_lock(&db->lock);
    struct fake_collection *c = fake_find(db, id);
    c->log_offset = log_offset;
    c->dimension = dimension;
    c->last_created_at = created_at;
    db->generation++;
    mutex_unlock(&db->lock);
}
static inline void fake_remember(struct sysdb *db, uuid id, struct sysdb_batch_id row)
{
    mutex_lock(&db->lock);
    assert(VEC_PUSH(&db->batch_ids, (struct fake_batch_id){id, row}));
    mutex_unlock(&db->lock);
}

/* A writing call: whether it is to do its work, and what to answer. */
static inline bool fake_begin(struct sysdb *db, och_code *ret, och_error *err)
{
    mutex_lock(&db->lock);
    bool fails = db->fail_at && ++db->calls == db->fail_at;
    *ret = fails ? FAIL_OS(err, OCH_IO, EIO, "the catalogue failed") : OCH_OK;
    if (fails && !db->fail_after)
        return false;
    db->generation++;
    return true;
}

uint64_t sysdb_generation(struct sysdb *db)
{
    void (*call)(void *) = db->on_generation;
    db->on_generation = NULL;
    if (call)
        call(db->context);
    mutex_lock(&db->lock);
    uint64_t generation = db->generation;
    mutex_unlock(&db->lock);
    return generation;
}

och_code sysdb_collection_get(struct sysdb *db, slice tenant, slice database, uuid id,
                              const struct sysdb_collection **ret, och_error *err)
{
    (void)tenant, (void)database;
    mutex_lock(&db->lock);
    const struct fake_collection *c = fake_find(db, id);
    struct sysdb_collection *row = c && !c->dropped ? MEM_NEW(struct sysdb_collection) : NULL;
    if (row) {
        row->id = id;
        row->log_offset = c->log_offset;
        row->dimension = c->dimension;
        row->last_created_at = c->last_created_at;
    }
    bool there = c && !c->dropped;
    mutex_unlock(&db->lock);
    if (!row)
        return there ? FAIL_NO_MEMORY(err, "a collection")
                     : FAIL(err, OCH_NOT_FOUND, "Collection does not exist.");
    *ret = row;
    return OCH_OK;
}

void sysdb_collection_unref(const struct sysdb_collection *collection)
{
    mem_free((void *)(uintptr_t)collection);
}

och_code sysdb_tombstones(struct sysdb *db, struct arena *arena, uuid **ret_ids, size_t *ret_count,
                          och_error *err)
{
    mutex_lock(&db->lock);
    uuid *ids = ARENA_ARRAY(arena, uuid, db->collections.len + 1);
    size_t count = 0;
    for (size_t i = 0; ids && i < db->collections.len; i++) {
        if (db->collections.at[i].dropped)
            ids[count++] = db->collections.at[i].id;
    }
    mutex_unlock(&db->lock);
    if (!ids)
        return FAIL_NO_MEMORY(err, "tombstones");
    *ret_ids = ids;
    *ret_count = count;
    return OCH_OK;
}

och_code sysdb_tombstones_remove(struct sysdb *db, const uuid *ids, size_t count, och_error *err)
{
    och_code code;
    if (fake_begin(db, &code, err)) {
        for (size_t i = 0; i < count; i++) {
            struct fake_collection *c = fake_find(db, ids[i]);
            if (c && c->dropped)
                *c = db->collections.at[--db->collections.len];
        }
    }
    mutex_unlock(&db->lock);
    return code;
}

och_code sysdb_batch_id_get(struct sysdb *db, uuid collection, uuid batch_id,
                            struct sysdb_batch_id *ret, bool *ret_found, och_error *err)
{
    (void)err;
    mutex_lock(&db->lock);
    *ret_found = false;
    for (size_t i = 0; i < db->batch_ids.len; i++) {
        const struct fake_batch_id *row = &db->batch_ids.at[i];
        if (uuid_equal(row->collection, collection) && uuid_equal(row->row.batch_id, batch_id)) {
            *ret = row->row;
            *ret_found = true;
        }
    }
    mutex_unlock(&db->lock);
    return OCH_OK;
}

och_code sysdb_segment_add(struct sysdb *db, const struct sysdb_segment *segment, och_error *err)
{
    och_code code;
    if (fake_begin(db, &code, err) && !VEC_PUSH(&db->segments, *segment))
        code = FAIL_NO_MEMORY(err, "a row");
    mutex_unlock(&db->lock);
    return code;
}

och_code sysdb_segment_list(struct sysdb *db, struct arena *arena, struct sysdb_segment **ret_rows,
                            size_t *ret_count, och_error *err)
{
    mutex_lock(&db->lock);
    struct sysdb_segment *rows = ARENA_ARRAY(arena, struct sysdb_segment, db->segments.len + 1);
    size_t count = db->segments.len;
    for (size_t i = 0; rows && i < count; i++)
        rows[i] = db->segments.at[i];
    mutex_unlock(&db->lock);
    if (!rows)
        return FAIL_NO_MEMORY(err, "rows");
    *ret_rows = rows;
    *ret_count = count;
    return OCH_OK;
}

och_code sysdb_segment_remove(struct sysdb *db, const uint64_t *ids, size_t count, och_error *err)
{
    och_code code;
    if (fake_begin(db, &code, err)) {
        for (size_t i = 0; i < count; i++) {
            size_t j = 0;
            while (j < db->segments.len && db->segments.at[j].id != ids[i])
                j++;
            assert(j < db->segments.len);
            db->segments.at[j] = db->segments.at[--db->segments.len];
        }
    }
    mutex_unlock(&db->lock);
    return code;
}

och_code sysdb_log_end_set(struct sysdb *db, const struct sysdb_log_end *end, och_error *err)
{
    och_code code;
    if (fake_begin(db, &code, err))
        db->end = *end;
    mutex_unlock(&db->lock);
    return code;
}

och_code sysdb_log_end_get(struct sysdb *db, struct sysdb_log_end *ret_end, och_error *err)
{
    (void)err;
    mutex_lock(&db->lock);
    *ret_end = db->end;
    mutex_unlock(&db->lock);
    return OCH_OK;
}
#endif
