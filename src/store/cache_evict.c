/* SPDX-License-Identifier: Apache-2.0 */
/* What leaves the extent cache: the three queues of S3-FIFO ("FIFO queues are all you need for cache eviction", SOSP 2023, §4).  What comes in
 * waits in `small`; what is used there again moves to `main`, the rest leaves and is remembered as a ghost; a ghost that comes back goes to
 * `main` at once.  A scan passes through `small` and disturbs nothing.  Warm and hot extents have queues of their own, touched only when
 * little is left of what is colder. */
#include "base/pages.h"
#include "store/cache_internal.h"

#define SMALL_SHARE 10u /* main may hold what is left of 100 */
#define HEAT_SHARE  8u  /* one in so many bytes stays with the colder */
#define IDLE_SHARE  8u  /* one in so many free bytes may be memory that nobody uses */

/* ---- queues, under the shard's lock ---- */

void cache_queue_add(struct shard *shard, struct entry *entry, enum queue_name name)
{
    struct queue *queue = &shard->queues[name];
    entry->queue = (uint8_t)name;
    entry->newer = NULL;
    entry->older = queue->newest;
    if (queue->newest)
        queue->newest->newer = entry;
    else
        queue->oldest = entry;
    queue->newest = entry;
    queue->bytes += entry->extent.len;
    queue->count++;
}

void cache_queue_remove(struct shard *shard, struct entry *entry)
{
    struct queue *queue = &shard->queues[entry->queue];
    if (entry->newer)
        entry->newer->older = entry->older;
    else
        queue->newest = entry->older;
    if (entry->older)
        entry->older->newer = entry->newer;
    else
        queue->oldest = entry->newer;
    queue->bytes -= entry->extent.len;
    queue->count--;
}

static void ghost_add(struct shard *shard, uint64_t hash)
{
    shard->ghosts[hash % GHOSTS] = (struct ghost){(uint32_t)(hash >> 16), ++shard->ghost_time};
}

bool cache_ghost_take(struct shard *shard, uint64_t hash)
{
    struct ghost *ghost = &shard->ghosts[hash % GHOSTS];
    size_t reach = max_size(shard->queues[QUEUE_MAIN].count, 16);
    if (!ghost->time || ghost->mark != (uint32_t)(hash >> 16) ||
        shard->ghost_time - ghost->time > reach)
        return false;
    ghost->time = 0;
    return true;
}

/* ---- giving memory back ---- */

/* What nobody has charged for may lie idle for the next ones. */
void cache_give_bytes(struct cache *cache, struct entry *entry)
{
    size_t bytes = cache_charge(entry->extent.len);
    int64_t unused = budget_free(&cache->budget);
    pages_free(entry->bytes, entry->extent.len, unused > 0 ? (size_t)unused / IDLE_SHARE : 0);
    entry->bytes = NULL;
    atomic_fetch_sub_explicit(&cache->heat_bytes[entry->heat], bytes, memory_order_relaxed);
    budget_give(&cache->budget, bytes);
}

size_t cache_entry_free(struct cache *cache, struct entry *entry)
{
    size_t bytes = cache_charge(entry->extent.len);
    cache_give_bytes(cache, entry);
    mem_free(entry->failure);
    mem_free(entry);
    return bytes;
}

/* The next of a queue to leave by the rules of S3-FIFO, out of table and queue; NULL when all are pinned. */
static struct entry *queue_evict(struct shard *shard, enum queue_name name)
{
    struct queue *queue = &shard->queues[name];
    // each is passed at most USES_MAX + 1 times, then it goes, or is pinned
    for (size_t left = queue->count * (USES_MAX + 2); left && queue->oldest; left--) {
        struct entry *entry = queue->oldest;
        cache_queue_remove(shard, entry);
        if (cache_pins(entry)) {
            cache_queue_add(shard, entry, name);
        } else if (name == QUEUE_SMALL && entry->uses > 1) {
            entry->uses = 0;
            cache_queue_add(shard, entry, QUEUE_MAIN);
        } else if (name != QUEUE_SMALL && entry->uses > 0) {
            entry->uses--;
            cache_queue_add(shard, entry, name);
        } else {
            if (name == QUEUE_SMALL)
                ghost_add(shard, entry->hash);
            cache_table_remove(shard, entry);
            shard->evictions++;
            return entry;
        }
    }
    return NULL;
}

static struct entry *shard_evict(struct shard *shard, enum cache_heat heat)
{
    if (heat != CACHE_COLD)
        return queue_evict(shard, heat == CACHE_HOT ? QUEUE_HOT : QUEUE_WARM);
    const struct queue *small = &shard->queues[QUEUE_SMALL], *main = &shard->queues[QUEUE_MAIN];
    bool small_first = small->bytes * 100 >= (small->bytes + main->bytes) * SMALL_SHARE;
    struct entry *entry = queue_evict(shard, small_first ? QUEUE_SMALL : QUEUE_MAIN);
    return entry ? entry : queue_evict(shard, small_first ? QUEUE_MAIN : QUEUE_SMALL);
}

/* Which heat gives first: the coldest that holds more than its share. */
static const uint8_t *order_of_heats(struct cache *cache)
{
    static const uint8_t orders[HEATS][HEATS] = {{CACHE_COLD, CACHE_WARM, CACHE_HOT},
                                                 {CACHE_WARM, CACHE_HOT, CACHE_COLD},
                                                 {CACHE_HOT, CACHE_WARM, CACHE_COLD}};
    size_t share = (size_t)budget_used(&cache->budget) / HEAT_SHARE;
    if (cache_heat_bytes(cache, CACHE_COLD) > share)
        return orders[0];
    return cache_heat_bytes(cache, CACHE_WARM) > share ? orders[1] : orders[2];
}

/* Free one extent, beginning to look at shard `from`.  0: all are pinned. */
static size_t evict_one(struct cache *cache, size_t from)
{
    const uint8_t *order = order_of_heats(cache);
    for (unsigned heat = 0; heat < HEATS; heat++) {
        for (size_t i = 0; i < SHARDS; i++) {
            struct shard *shard = &cache->shards[(from + i) % SHARDS];
            mutex_lock(&shard->mutex);
            struct entry *entry = shard_evict(shard, (enum cache_heat)order[heat]);
            mutex_unlock(&shard->mutex);
            if (entry)
                return cache_entry_free(cache, entry);
        }
    }
    return 0;
}

size_t cache_room(struct cache *cache, enum cache_heat heat)
{
    size_t share = (size_t)budget_used(&cache->budget) / HEAT_SHARE, room = 0;
    static const enum cache_heat colder[] = {CACHE_COLD, CACHE_WARM};
    for (size_t i = 0; i < (heat == CACHE_HOT ? 2u : heat == CACHE_WARM ? 1u : 0u); i++) {
        size_t bytes = cache_heat_bytes(cache, colder[i]);
        room += bytes > share ? bytes - share : 0;
    }
    int64_t unused = budget_free(&cache->budget);
    if (unused > 0 && add_overflows(room, (size_t)unused, &room))
        return SIZE_MAX;
    return room;
}

och_code cache_reserve(struct cache *cache, size_t bytes, size_t from, och_error *err)
{
    while (budget_take(&cache->budget, bytes, "a piece of the cache", NULL) != OCH_OK) {
        // what could be had if everything of ours went; then there is no point in evicting
        int64_t room = budget_free(&cache->budget), used = budget_used(&cache->budget);
        bool hopeless = room < INT64_MAX - used && room + used < (int64_t)bytes;
        if (hopeless || !evict_one(cache, from))
            return budget_take(&cache->budget, bytes, "a piece of the cache", err);
    }
    return OCH_OK;
}

void cache_shrink(struct cache *cache, size_t bytes)
{
    for (size_t from = 0; budget_used(&cache->budget) > (int64_t)bytes; from++) {
        if (!evict_one(cache, from))
            return;
    }
}
