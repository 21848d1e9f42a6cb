/* SPDX-License-Identifier: Apache-2.0 */
/* The extent cache: 16 shards, each a hash table and queues by which its extents leave (cache_evict.c).
 *
 * An entry's life: in the table while loading, in table and a queue when ready.  Pins rise only under the shard's lock; they fall without
 * it, so whoever finds 0 under the lock may free it.  An entry taken out of the table while pinned carries DOOMED and is freed by whoever
 * takes the last pin. */
#include "base/pages.h"
#include "store/cache_internal.h"

#include <string.h>

static uint64_t mix(uint64_t x)
{
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    return x ^ x >> 32;
}

static uint64_t hash_of(struct cache_key key)
{
    uint64_t place = (uint64_t)key.section << 32 | key.index;
    return mix(mix(key.owner) + place * 0x9e3779b97f4a7c15u);
}

static struct shard *shard_of(struct cache *cache, uint64_t hash)
{
    return &cache->shards[hash >> 60];
}

static bool same_key(struct cache_key a, struct cache_key b)
{
    return a.owner == b.owner && a.section == b.section && a.index == b.index;
}

/* ---- the table, under the shard's lock ---- */

static struct entry *table_find(const struct shard *shard, uint64_t hash, struct cache_key key)
{
    if (!shard->table_size)
        return NULL;
    struct entry *entry = shard->table[hash & (shard->table_size - 1)];
    while (entry && !(entry->hash == hash && same_key(entry->key, key)))
        entry = entry->chain;
    return entry;
}

/* Grow when full; without memory the chains just get longer.  False only when there is no table at all. */
static bool table_room(struct shard *shard)
{
    if (shard->entry_count < shard->table_size)
        return true;
    size_t size = shard->table_size ? 2 * shard->table_size : 64, bytes;
    struct entry **table =
        mul_overflows(size, sizeof(*table), &bytes) ? NULL : (struct entry **)mem_zalloc(bytes);
    if (!table)
        return shard->table_size > 0;
    for (size_t i = 0; i < shard->table_size; i++) {
        for (struct entry *entry = shard->table[i], *next; entry; entry = next) {
            next = entry->chain;
            entry->chain = table[entry->hash & (size - 1)];
            table[entry->hash & (size - 1)] = entry;
        }
    }
    mem_free(shard->table);
    shard->table = table;
    shard->table_size = size;
    return true;
}

static void table_add(struct shard *shard, struct entry *entry)
{
    struct entry **slot = &shard->table[entry->hash & (shard->table_size - 1)];
    entry->chain = *slot;
    *slot = entry;
    shard->entry_count++;
    struct entry **list = &shard->owners[entry->key.owner % OWNERS];
    entry->owner_at = list;
    entry->owner_next = *list;
    if (*list)
        (*list)->owner_at = &entry->owner_next;
    *list = entry;
}

void cache_table_remove(struct shard *shard, const struct entry *entry)
{
    struct entry **slot = &shard->table[entry->hash & (shard->table_size - 1)];
    while (*slot != entry)
        slot = &(*slot)->chain;
    *slot = entry->chain;
    shard->entry_count--;
    *entry->owner_at = entry->owner_next;
    if (entry->owner_next)
        entry->owner_next->owner_at = entry->owner_at;
}

/* ---- pinning ---- */

/* Counted among the users of a ready entry, under the lock. */
static const struct extent *pin_ready(struct shard *shard, struct entry *entry)
{
    atomic_fetch_add_explicit(&entry->pins, 1, memory_order_relaxed); // the lock orders it
    if (entry->uses < USES_MAX)
        entry->uses++;
    shard->hits[entry->heat]++;
    return &entry->extent;
}

static och_code copy_failure(const struct entry *entry, och_error *err)
{
    if (!entry->failure)
        return FAIL(err, entry->code, "loading a piece of the cache failed");
    if (err)
        *err = *entry->failure;
    return entry->code;
}

/* Another thread loads it and we are among its waiters: wait for its result, under the lock. */
static och_code wait_for(struct shard *shard, struct entry *entry, const struct extent **ret_extent,
                         bool *ret_free, och_error *err)
{
    while (entry->state == ENTRY_LOADING)
        cond_wait(&shard->loaded, &shard->mutex);
    bool last = --entry->waiters == 0;
    *ret_free = false;
    if (entry->state == ENTRY_READY) { // the loader pinned it for each of us
        *ret_extent = &entry->extent;
        return OCH_OK;
    }
    *ret_free = last;
    return copy_failure(entry, err);
}

/* Put a new entry in the table, or find that another thread did. */
static och_code begin_load(struct shard *shard, struct cache_key key, uint64_t hash, size_t len,
                           enum cache_heat heat, struct entry **ret_entry, och_error *err)
{
    struct entry *entry = table_room(shard) ? MEM_NEW(struct entry) : NULL;
    if (!entry)
        return FAIL_NO_MEMORY(err, "an entry of the cache");
    entry->extent.len = len;
    entry->key = key;
    entry->hash = hash;
    entry->heat = (uint8_t)heat;
    entry->state = ENTRY_LOADING;
    table_add(shard, entry);
    shard->misses[entry->heat]++;
    *ret_entry = entry;
    return OCH_OK;
}

/* Room for the bytes of an entry, without locks. */
static och_code make_room(struct cache *cache, struct entry *entry, och_error *err)
{
    size_t len = entry->extent.len;
    if (len > PTRDIFF_MAX - 4096)
        return FAIL(err, OCH_TOO_LARGE, "a piece of the cache of %zu bytes", len);
    TRY(cache_reserve(cache, cache_charge(len), (size_t)(entry->hash >> 60), err));
    atomic_fetch_add_explicit(&cache->heat_bytes[entry->heat], cache_charge(len),
                              memory_order_relaxed);
    entry->bytes = pages_alloc(len);
    entry->extent.at = entry->bytes;
    if (entry->bytes)
        return OCH_OK;
    cache_give_bytes(cache, entry);
    return FAIL_NO_MEMORY(err, "a piece of the cache");
}

/* Tell the waiters, under the lock.  Returns whether nobody needs the (failed) entry any more. */
static bool publish(struct cache *cache, struct shard *shard, struct entry *entry, och_code code,
                    och_error *failure)
{
    uint32_t waiters = entry->waiters;
    if (code != OCH_OK) {
        cache_table_remove(shard, entry);
        entry->state = ENTRY_FAILED;
        entry->code = code;
        entry->failure = failure;
        cond_broadcast(&shard->loaded);
        return waiters == 0;
    }
    entry->state = ENTRY_READY;
    uint32_t pins = 1 + waiters;
    if (entry->dropped) {
        cache_table_remove(shard, entry);
        pins |= DOOMED;
        atomic_fetch_add_explicit(&cache->doomed_bytes, cache_charge(entry->extent.len),
                                  memory_order_relaxed);
    } else if (entry->heat != CACHE_COLD) {
        cache_queue_add(shard, entry, entry->heat == CACHE_HOT ? QUEUE_HOT : QUEUE_WARM);
    } else {
        cache_queue_add(shard, entry,
                        cache_ghost_take(shard, entry->hash) ? QUEUE_MAIN : QUEUE_SMALL);
    }
    atomic_store_explicit(&entry->pins, pins, memory_order_relaxed); // the lock orders it
    shard->hits[entry->heat] += waiters;
    if (waiters)
        cond_broadcast(&shard->loaded);
    return false;
}

/* What became of an entry whose room was made (or not: then there are no bytes).  Frees it when it failed and nobody waits. */
static void settle(struct cache *cache, struct entry *entry, och_code code, const och_error *reason)
{
    struct shard *shard = shard_of(cache, entry->hash);
    och_error *failure = NULL;
    if (code != OCH_OK) {
        if (entry->bytes)
            cache_give_bytes(cache, entry);
        entry->extent.at = NULL;
        failure =
            reason ? mem_alloc(sizeof(*failure)) : NULL; // without it waiters get the code alone
        if (failure)
            *failure = *reason;
    }
    mutex_lock(&shard->mutex);
    bool unneeded = publish(cache, shard, entry, code, failure);
    mutex_unlock(&shard->mutex);
    if (unneeded) {
        mem_free(failure);
        mem_free(entry);
    }
}

static NO_INLINE och_code load(struct cache *cache, struct entry *entry, cache_loader loader,
                               void *context, const struct extent **ret_extent, och_error *err)
{
    och_error mine = {0};
    och_code code = make_room(cache, entry, &mine);
    if (code == OCH_OK)
        code = loader(context, entry->key, entry->bytes, entry->extent.len, &mine);
    if (code != OCH_OK && err)
        *err = mine;
    if (code == OCH_OK)
        *ret_extent = &entry->extent; // pinned for us; after a failure it may be gone
    settle(cache, entry, code, &mine);
    return code;
}

och_code cache_pin(struct cache *cache, struct cache_key key, size_t len, enum cache_heat heat,
                   cache_loader loader, void *context, const struct extent **ret_extent,
                   och_error *err)
{
    uint64_t hash = hash_of(key);
    struct shard *shard = shard_of(cache, hash);
    mutex_lock(&shard->mutex);
    struct entry *entry = table_find(shard, hash, key);
    if (LIKELY(entry && entry->state == ENTRY_READY)) {
        assert(entry->extent.len == len);
        *ret_extent = pin_ready(shard, entry);
        mutex_unlock(&shard->mutex);
        return OCH_OK;
    }
    if (entry) {
        bool unneeded;
        entry->waiters++;
        och_code code = wait_for(shard, entry, ret_extent, &unneeded, err);
        mutex_unlock(&shard->mutex);
        if (unneeded) {
            mem_free(entry->failure);
            mem_free(entry);
        }
        return code;
    }
    och_code code = begin_load(shard, key, hash, len, heat, &entry, err);
    mutex_unlock(&shard->mutex);
    return code == OCH_OK ? load(cache, entry, loader, context, ret_extent, err) : code;
}

bool cache_peek(struct cache *cache, struct cache_key key, const struct extent **ret_extent)
{
    uint64_t hash = hash_of(key);
    struct shard *shard = shard_of(cache, hash);
    mutex_lock(&shard->mutex);
    struct entry *entry = table_find(shard, hash, key);
    bool ready = entry && entry->state == ENTRY_READY;
    if (ready)
        *ret_extent = pin_ready(shard, entry);
    mutex_unlock(&shard->mutex);
    return ready;
}

/* ---- many at once ---- */

static void begin_one(struct cache *cache, struct cache_want *want)
{
    uint64_t hash = hash_of(want->key);
    struct shard *shard = shard_of(cache, hash);
    mutex_lock(&shard->mutex);
    struct entry *entry = table_find(shard, hash, want->key);
    want->code = OCH_OK;
    want->extent = NULL;
    want->at = NULL;
    if (entry && entry->state == ENTRY_READY) {
        assert(entry->extent.len == want->len);
        want->extent = pin_ready(shard, entry);
        want->state = WANT_PINNED;
    } else if (entry) {
        entry->waiters++;
        want->state = WANT_WAIT;
    } else {
        want->code = begin_load(shard, want->key, hash, want->len, want->heat, &entry, NULL);
        want->state = want->code == OCH_OK ? WANT_FILL : WANT_FAILED;
    }
    mutex_unlock(&shard->mutex);
    want->entry = entry;
    if (want->state != WANT_FILL)
        return;
    och_error failure = {0};
    och_code code = make_room(cache, entry, &failure);
    if (code == OCH_OK)
        want->at = entry->bytes;
    else
        cache_filled(cache, want, code, &failure);
}

void cache_begin(struct cache *cache, struct cache_want *wants, size_t count)
{
    for (size_t i = 0; i < count; i++)
        begin_one(cache, &wants[i]);
}

void cache_filled(struct cache *cache, struct cache_want *want, och_code code,
                  const och_error *failure)
{
    struct entry *entry = want->entry;
    assert(want->state == WANT_FILL);
    want->state = code == OCH_OK ? WANT_PINNED : WANT_FAILED;
    want->code = code;
    want->extent = code == OCH_OK ? &entry->extent : NULL;
    want->at = NULL;
    want->entry = NULL;
    settle(cache, entry, code, failure);
}

void cache_await(struct cache *cache, struct cache_want *want)
{
    struct entry *entry = want->entry;
    assert(want->state == WANT_WAIT);
    struct shard *shard = shard_of(cache, entry->hash);
    bool unneeded;
    mutex_lock(&shard->mutex);
    want->code = wait_for(shard, entry, &want->extent, &unneeded, NULL);
    mutex_unlock(&shard->mutex);
    want->state = want->code == OCH_OK ? WANT_PINNED : WANT_FAILED;
    want->entry = NULL;
    if (unneeded) {
        mem_free(entry->failure);
        mem_free(entry);
    }
}

void cache_unpin(struct cache *cache, const struct extent *extent)
{
    if (!extent)
        return;
    struct entry *entry = (struct entry *)(uintptr_t)extent;
    size_t bytes = cache_charge(extent->len);
    // release: our reads are over before another thread frees it; acquire: others' are, if we do
    uint32_t before = atomic_fetch_sub_explicit(&entry->pins, 1, memory_order_acq_rel);
    assert(before & ~DOOMED);
    if (before == (DOOMED | 1)) {
        atomic_fetch_sub_explicit(&cache->doomed_bytes, bytes, memory_order_relaxed);
        (void)cache_entry_free(cache, entry);
    }
}

/* ---- owners, life ---- */

uint64_t cache_owner_new(struct cache *cache)
{
    return atomic_fetch_add_explicit(&cache->next_owner, 1, memory_order_relaxed) + 1;
}

/* Take a ready entry out; returns it when it can be freed now. */
static struct entry *doom(struct cache *cache, struct shard *shard, struct entry *entry)
{
    cache_queue_remove(shard, entry);
    atomic_fetch_add_explicit(&cache->doomed_bytes, cache_charge(entry->extent.len),
                              memory_order_relaxed);
    // pairs with cache_unpin: exactly one of the two sees the other's step and frees
    if (atomic_fetch_or_explicit(&entry->pins, DOOMED, memory_order_acq_rel))
        return NULL;
    atomic_fetch_sub_explicit(&cache->doomed_bytes, cache_charge(entry->extent.len),
                              memory_order_relaxed);
    return entry;
}

void cache_drop(struct cache *cache, struct cache_key key)
{
    uint64_t hash = hash_of(key);
    struct shard *shard = shard_of(cache, hash);
    mutex_lock(&shard->mutex);
    struct entry *entry = table_find(shard, hash, key);
    if (entry && entry->state == ENTRY_READY) {
        cache_table_remove(shard, entry);
        entry = doom(cache, shard, entry);
    } else {
        entry = NULL; // one that is being loaded is wanted
    }
    mutex_unlock(&shard->mutex);
    if (entry)
        (void)cache_entry_free(cache, entry);
}

void cache_owner_drop(struct cache *cache, uint64_t owner)
{
    for (size_t i = 0; i < SHARDS; i++) {
        struct shard *shard = &cache->shards[i];
        struct entry *unpinned = NULL, *next;
        mutex_lock(&shard->mutex);
        for (struct entry *entry = shard->owners[owner % OWNERS]; entry; entry = next) {
            next = entry->owner_next;
            if (entry->key.owner != owner)
                continue;
            if (entry->state == ENTRY_LOADING) {
                entry->dropped = true;
                continue;
            }
            cache_table_remove(shard, entry);
            if (doom(cache, shard, entry)) {
                entry->chain = unpinned;
                unpinned = entry;
            }
        }
        mutex_unlock(&shard->mutex);
        while (unpinned) {
            next = unpinned->chain;
            (void)cache_entry_free(cache, unpinned);
            unpinned = next;
        }
    }
}

och_code cache_new(size_t limit_bytes, struct budget *budget, struct cache **ret_cache,
                   och_error *err)
{
    struct cache *cache = mem_alloc_aligned(alignof(struct cache), sizeof(struct cache));
    if (!cache)
        return FAIL_NO_MEMORY(err, "the cache");
    memset(cache, 0, sizeof(*cache));
    budget_init(&cache->budget, limit_bytes > INT64_MAX ? 0 : (int64_t)limit_bytes, budget);
    for (size_t i = 0; i < SHARDS; i++) {
        mutex_init(&cache->shards[i].mutex, RANK_CACHE);
        cond_init(&cache->shards[i].loaded);
    }
    *ret_cache = cache;
    return OCH_OK;
}

void cache_free(struct cache *cache)
{
    if (!cache)
        return;
    for (size_t i = 0; i < SHARDS; i++) {
        struct shard *shard = &cache->shards[i];
        for (size_t slot = 0; slot < shard->table_size; slot++) {
            for (struct entry *entry = shard->table[slot], *next; entry; entry = next) {
                next = entry->chain;
                assert(entry->state == ENTRY_READY && cache_pins(entry) == 0);
                (void)cache_entry_free(cache, entry);
            }
        }
        mem_free(shard->table);
        cond_done(&shard->loaded);
        mutex_done(&shard->mutex);
    }
    assert(budget_used(&cache->budget) == 0);
    mem_free_aligned(cache);
}

void cache_stats(struct cache *cache, struct cache_stats *ret_stats)
{
    struct cache_stats stats = {0};
    stats.pinned_bytes = atomic_load_explicit(&cache->doomed_bytes, memory_order_relaxed);
    stats.used_bytes = (size_t)budget_used(&cache->budget);
    for (size_t heat = 0; heat < HEATS; heat++)
        stats.heat[heat].bytes = cache_heat_bytes(cache, (enum cache_heat)heat);
    for (size_t i = 0; i < SHARDS; i++) {
        struct shard *shard = &cache->shards[i];
        mutex_lock(&shard->mutex);
        for (size_t heat = 0; heat < HEATS; heat++) {
            stats.heat[heat].hits += shard->hits[heat];
            stats.heat[heat].misses += shard->misses[heat];
            stats.hits += shard->hits[heat];
            stats.misses += shard->misses[heat];
        }
        stats.evictions += shard->evictions;
        for (size_t name = 0; name < QUEUE_COUNT; name++) {
            for (struct entry *entry = shard->queues[name].newest; entry; entry = entry->older)
                stats.pinned_bytes += cache_pins(entry) ? cache_charge(entry->extent.len) : 0;
        }
        mutex_unlock(&shard->mutex);
    }
    *ret_stats = stats;
}
