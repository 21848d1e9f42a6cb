/* SPDX-License-Identifier: Apache-2.0 */
/* Immutable, counted snapshots of collections and the cache that reads hit.  Collections that were made alike share one
 * parsed schema, so a snapshot costs some hundred bytes. */
#include "sysdb/sysdb_internal.h"

#include "base/bytes.h"

#define KEY_ON_STACK 2048u

struct schema_object {
    _Atomic uint32_t refs;
    int64_t ord;
    struct arena arena;
    slice json;
    struct schema schema;
};

struct snapshot { /* one allocation with all its bytes */
    struct sysdb_collection collection;
    struct schema_object *schema;
    struct snapshot *newer, *older; /* in the cache's mutex */
    slice name_key;
    size_t bytes;
};

static struct snapshot *snapshot_of(const struct sysdb_collection *collection)
{
    return (struct snapshot *)(uintptr_t)collection; // its first member
}

static void schema_object_unref(struct schema_object *object)
{
    if (!object || atomic_fetch_sub(&object->refs, 1) != 1)
        return;
    arena_done(&object->arena);
    mem_free(object);
}

void schema_objects_done(struct session *session)
{
    for (size_t i = 0; i < SCHEMA_OBJECT_MAX; i++) {
        schema_object_unref(session->schemas[i]);
        session->schemas[i] = NULL;
    }
}

/* Read and parse a schema row. */
static och_code schema_object_load(struct session *session, int64_t ord,
                                   struct schema_object *object, och_error *err)
{
    struct value key = value_int(ord);
    struct row row;
    bool found;
    TRY(table_row_get(session, TABLE_SCHEMA, &key, &object->arena, &row, &found, err));
    if (!found)
        return FAIL(err, OCH_CORRUPT, "catalogue %s: table schema has lost a row",
                    session->sysdb->path);
    object->json = row.at[SCHEMA_JSON].bytes;
    return schema_parse(object->json, &object->arena, &object->schema, err);
}

/* With a reference for the caller. */
static och_code schema_object_get(struct session *session, int64_t ord,
                                  struct schema_object **ret_object, och_error *err)
{
    for (size_t i = 0; i < SCHEMA_OBJECT_MAX; i++) {
        if (!session->schemas[i] || session->schemas[i]->ord != ord)
            continue;
        atomic_fetch_add(&session->schemas[i]->refs, 1);
        *ret_object = session->schemas[i];
        return OCH_OK;
    }
    struct schema_object *object = MEM_NEW(struct schema_object);
    if (!object)
        return FAIL_NO_MEMORY(err, "a schema");
    object->refs = 2; // the caller's and the table's
    object->ord = ord;
    arena_init(&object->arena, NULL, 0);
    och_code code = schema_object_load(session, ord, object, err);
    if (code != OCH_OK) {
        error_context(err, "schema %lld of catalogue %s", (long long)ord, session->sysdb->path);
        object->refs = 1;
        schema_object_unref(object);
        return code;
    }
    schema_object_unref(session->schemas[session->schema_hand]);
    session->schemas[session->schema_hand] = object;
    session->schema_hand = (session->schema_hand + 1) % SCHEMA_OBJECT_MAX;
    *ret_object = object;
    return OCH_OK;
}

/* What a name is found by: the lengths keep ("a", "bc") and ("ab", "c") apart. */
static void write_key(uint8_t *at, slice tenant, slice database, slice name)
{
    store_u32(at, (uint32_t)tenant.len);
    store_u32(at + 4, (uint32_t)database.len);
    at += 8;
    slice all[] = {tenant, database, name};
    for (size_t i = 0; i < COUNT_OF(all); i++) {
        if (all[i].len)
            memcpy(at, all[i].at, all[i].len);
        at += all[i].len;
    }
}

static slice put_bytes(uint8_t **at, slice bytes)
{
    slice copy = slice_make(*at, bytes.len);
    if (bytes.len)
        memcpy(*at, bytes.at, bytes.len);
    *at += bytes.len;
    return copy;
}

struct parents {
    const struct row *db, *tenant, *fork;
};

static och_code fill(struct session *session, const struct row *row, const struct parents *parents,
                     const row_list *keys, const struct sysdb_collection **ret_collection,
                     och_error *err)
{
    const struct row *db = parents->db, *tenant = parents->tenant;
    slice ancestors = parents->fork->at[FORK_ANCESTORS].bytes;
    slice tenant_name = tenant->at[TENANT_NAME].bytes, db_name = db->at[DB_NAME].bytes;
    slice name = row->at[COLLECTION_NAME].bytes, metadata = row->at[COLLECTION_METADATA].bytes;
    size_t pairs_at = (size_t)round_up(sizeof(struct snapshot), 16);
    size_t size = pairs_at + keys->len * sizeof(struct batch_pair);
    size += 8 + tenant_name.len + db_name.len + name.len + metadata.len + 16 + ancestors.len;
    for (size_t i = 0; i < keys->len; i++)
        size += keys->at[i].at[KEY_KEY].bytes.len;
    struct snapshot *snapshot = mem_zalloc(size);
    if (!snapshot)
        return FAIL_NO_MEMORY(err, "a collection");
    och_code code =
        schema_object_get(session, row->at[COLLECTION_SCHEMA].number, &snapshot->schema, err);
    if (code != OCH_OK) {
        mem_free(snapshot);
        return code;
    }
    struct batch_pair *pairs = (struct batch_pair *)(void *)((uint8_t *)snapshot + pairs_at);
    uint8_t *at = (uint8_t *)(pairs + keys->len);
    struct sysdb_collection *collection = &snapshot->collection;
    collection->owners = (const uuid *)(void *)at; // bytes: any place will do
    collection->owner_count = 1 + ancestors.len / sizeof(uuid);
    (void)put_bytes(&at, row->at[COLLECTION_ID].bytes);
    (void)put_bytes(&at, ancestors);
    write_key(at, tenant_name, db_name, name);
    snapshot->name_key = slice_make(at, 8 + tenant_name.len + db_name.len + name.len);
    at += 8;
    collection->tenant = slice_make(at, tenant_name.len);
    collection->database = slice_make(at + tenant_name.len, db_name.len);
    collection->name = slice_make(at + tenant_name.len + db_name.len, name.len);
    at += tenant_name.len + db_name.len + name.len;
    if (row->at[COLLECTION_METADATA].kind != SQLITE_NULL)
        collection->metadata = put_bytes(&at, metadata);
    for (size_t i = 0; i < keys->len; i++) {
        pairs[i].key = put_bytes(&at, keys->at[i].at[KEY_KEY].bytes);
        pairs[i].type = (uint8_t)keys->at[i].at[KEY_TYPE].number;
    }
    collection->refs = 1;
    memcpy(collection->id.bytes, row->at[COLLECTION_ID].bytes.at, 16);
    memcpy(collection->database_id.bytes, db->at[DB_ID].bytes.at, 16);
    collection->schema = snapshot->schema->schema;
    collection->schema_json = snapshot->schema->json;
    collection->pairs = keys->len ? pairs : NULL;
    collection->pair_count = keys->len;
    collection->dimension = (uint32_t)row->at[COLLECTION_DIMENSION].number;
    collection->version = row->at[COLLECTION_VERSION].number;
    collection->log_offset = (uint64_t)row->at[COLLECTION_LOG_OFFSET].number;
    collection->last_created_at = row->at[COLLECTION_LAST_CREATED].number;
    collection->ord = row->at[COLLECTION_ORD].number;
    snapshot->bytes = size;
    *ret_collection = collection;
    return OCH_OK;
}

static och_code read_parent(struct session *session, enum table_id table, int64_t ord,
                            struct row *ret_row, och_error *err)
{
    struct value key = value_int(ord);
    bool found;
    TRY(table_row_get(session, table, &key, &session->scratch, ret_row, &found, err));
    if (!found)
        return FAIL(err, OCH_CORRUPT, "catalogue %s: table %s has lost row (%lld)",
                    session->sysdb->path, sysdb_tables[table].name, (long long)ord);
    return OCH_OK;
}

och_code snapshot_build(struct session *session, const struct row *collection, const struct row *db,
                        const struct row *tenant, const struct sysdb_collection **ret_collection,
                        och_error *err)
{
    struct row db_row, tenant_row;
    if (!db) {
        TRY(read_parent(session, TABLE_DB, collection->at[COLLECTION_DB].number, &db_row, err));
        db = &db_row;
    }
    if (!tenant) {
        TRY(read_parent(session, TABLE_TENANT, db->at[DB_TENANT].number, &tenant_row, err));
        tenant = &tenant_row;
    }
    struct row fork;
    TRY(fork_row(session, collection, &fork, err));
    struct parents parents = {db, tenant, &fork};
    row_list keys = {0};
    och_code code = table_rows_collect(session, QUERY_KEYS, &collection->at[COLLECTION_ORD], 1,
                                       &session->scratch, &keys, err);
    if (code == OCH_OK)
        code = fill(session, collection, &parents, &keys, ret_collection, err);
    VEC_DONE(&keys);
    return code;
}

void snapshot_mark_kept(const struct sysdb_collection *collection)
{
    snapshot_of(collection)->collection.kept = true;
}

void sysdb_collection_unref(const struct sysdb_collection *collection)
{
    if (!collection)
        return;
    struct snapshot *snapshot = snapshot_of(collection);
    if (atomic_fetch_sub_explicit(&snapshot->collection.refs, 1, memory_order_acq_rel) != 1)
        return;
    schema_object_unref(snapshot->schema);
    mem_free(snapshot);
}

void sysdb_collection_cleanup(const struct sysdb_collection **collection)
{
    sysdb_collection_unref(*collection);
}

/* ---- the cache ---- */

void snapshot_cache_init(struct snapshot_cache *cache)
{
    mutex_init(&cache->mutex, RANK_SYSDB + 1);
    map_init(&cache->by_id);
    map_init(&cache->by_name);
    cache->count_max = SNAPSHOT_COUNT_MAX;
    cache->bytes_max = SNAPSHOT_BYTES_MAX;
}

static void unlink_snapshot(struct snapshot_cache *cache, struct snapshot *snapshot)
{
    *(snapshot->newer ? &snapshot->newer->older : &cache->newest) = snapshot->older;
    *(snapshot->older ? &snapshot->older->newer : &cache->oldest) = snapshot->newer;
    snapshot->newer = snapshot->older = NULL;
}

static void link_newest(struct snapshot_cache *cache, struct snapshot *snapshot)
{
    snapshot->older = cache->newest;
    snapshot->newer = NULL;
    *(cache->newest ? &cache->newest->newer : &cache->oldest) = snapshot;
    cache->newest = snapshot;
}

/* In the mutex. */
static void drop(struct snapshot_cache *cache, struct snapshot *snapshot)
{
    unlink_snapshot(cache, snapshot);
    (void)map_remove(&cache->by_id, uuid_slice(&snapshot->collection.id));
    uint64_t *named = map_find(&cache->by_name, snapshot->name_key);
    if (named && *named == (uint64_t)(uintptr_t)snapshot)
        (void)map_remove(&cache->by_name, snapshot->name_key);
    cache->count--;
    cache->bytes -= snapshot->bytes;
    if (cache->budget)
        budget_give(cache->budget, snapshot->bytes);
    sysdb_collection_unref(&snapshot->collection);
}

static const struct sysdb_collection *look(struct snapshot_cache *cache, const struct map *map,
                                           slice key)
{
    mutex_lock(&cache->mutex);
    const uint64_t *place = map_find(map, key);
    struct snapshot *snapshot = place ? (struct snapshot *)(uintptr_t)*place : NULL;
    if (snapshot) {
        atomic_fetch_add_explicit(&snapshot->collection.refs, 1, memory_order_relaxed);
        if (cache->newest != snapshot) {
            unlink_snapshot(cache, snapshot);
            link_newest(cache, snapshot);
        }
    }
    mutex_unlock(&cache->mutex);
    return snapshot ? &snapshot->collection : NULL;
}

const struct sysdb_collection *snapshot_cache_get(struct snapshot_cache *cache, uuid id)
{
    return look(cache, &cache->by_id, uuid_slice(&id));
}

const struct sysdb_collection *snapshot_cache_find(struct snapshot_cache *cache, slice tenant,
                                                   slice database, slice name)
{
    uint8_t key[KEY_ON_STACK];
    if (tenant.len > KEY_ON_STACK / 4 || database.len > KEY_ON_STACK / 4 ||
        name.len > KEY_ON_STACK / 4)
        return NULL; // rare: by SQL then
    write_key(key, tenant, database, name);
    return look(cache, &cache->by_name, slice_make(key, 8 + tenant.len + database.len + name.len));
}

uint64_t snapshot_cache_epoch(struct snapshot_cache *cache)
{
    mutex_lock(&cache->mutex);
    uint64_t epoch = cache->epoch;
    mutex_unlock(&cache->mutex);
    return epoch;
}

void snapshot_cache_put(struct snapshot_cache *cache, const struct sysdb_collection *collection,
                        uint64_t epoch)
{
    struct snapshot *snapshot = snapshot_of(collection);
    mutex_lock(&cache->mutex);
    if (epoch != cache->epoch) {
        mutex_unlock(&cache->mutex);
        return;
    }
    bool is_new = false;
    uint64_t *by_id = map_at(&cache->by_id, uuid_slice(&collection->id), &is_new);
    if (by_id && is_new) {
        *by_id = (uint64_t)(uintptr_t)snapshot;
        bool name_is_new;
        uint64_t *by_name = map_at(&cache->by_name, snapshot->name_key, &name_is_new);
        if (by_name && name_is_new)
            *by_name = (uint64_t)(uintptr_t)snapshot;
        atomic_fetch_add(&snapshot->collection.refs, 1);
        link_newest(cache, snapshot);
        cache->count++;
        cache->bytes += snapshot->bytes;
        if (cache->budget)
            budget_force(cache->budget, snapshot->bytes);
        while (cache->count > cache->count_max || cache->bytes > cache->bytes_max)
            drop(cache, cache->oldest);
    }
    mutex_unlock(&cache->mutex);
}

void snapshot_cache_remove(struct snapshot_cache *cache, uuid id)
{
    mutex_lock(&cache->mutex);
    cache->epoch++;
    const uint64_t *place = map_find(&cache->by_id, uuid_slice(&id));
    if (place)
        drop(cache, (struct snapshot *)(uintptr_t)*place);
    mutex_unlock(&cache->mutex);
}

void snapshot_cache_clear(struct snapshot_cache *cache)
{
    mutex_lock(&cache->mutex);
    cache->epoch++;
    while (cache->oldest)
        drop(cache, cache->oldest);
    mutex_unlock(&cache->mutex);
}

void snapshot_cache_done(struct snapshot_cache *cache)
{
    snapshot_cache_clear(cache);
    map_done(&cache->by_id);
    map_done(&cache->by_name);
    mutex_done(&cache->mutex);
}
