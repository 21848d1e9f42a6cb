/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by cache.c and cache_evict.c only. */
#ifndef STORE_CACHE_INTERNAL_H
#define STORE_CACHE_INTERNAL_H

#include "base/sched.h"
#include "store/cache.h"

#define SHARDS   16u
#define GHOSTS   1024u /* per shard */
#define OWNERS   256u  /* lists per shard, so that a drop looks at few of others' */
#define DOOMED   0x80000000u
#define USES_MAX 3u

enum queue_name { QUEUE_SMALL, QUEUE_MAIN, QUEUE_HOT, QUEUE_WARM, QUEUE_COUNT };
#define HEATS CACHE_HEATS
enum entry_state { ENTRY_LOADING, ENTRY_READY, ENTRY_FAILED };

struct entry {
    struct extent extent;
    struct cache_key key;
    uint64_t hash;
    struct entry *chain;                  /* of the table */
    struct entry *owner_next, **owner_at; /* of the owner's list, while in the table */
    struct entry *newer, *older;          /* of the queue */
    _Atomic uint32_t pins;                /* with DOOMED */
    uint8_t state, queue, uses, heat;
    /* while loading */
    uint32_t waiters;
    bool dropped; /* its owner was dropped meanwhile */
    och_code code;
    och_error *failure;
    uint8_t *bytes;
};
static_assert(offsetof(struct entry, extent) == 0, "an extent is its entry");

struct queue {
    struct entry *newest, *oldest;
    size_t bytes, count;
};
struct ghost {
    uint32_t mark, time;
};
struct shard {
    struct mutex mutex; /* guards: all below */
    struct cond loaded;
    struct entry **table;
    size_t table_size, entry_count; /* size: 0 or a power of two */
    struct entry *owners[OWNERS];
    struct queue queues[QUEUE_COUNT];
    struct ghost ghosts[GHOSTS];
    uint32_t ghost_time;
    uint64_t hits[HEATS], misses[HEATS], evictions;
} __attribute__((aligned(64)));

struct cache {
    struct budget budget;
    _Atomic uint64_t next_owner;
    _Atomic size_t doomed_bytes; /* pinned but no longer in a table */
    _Atomic size_t heat_bytes[HEATS];
    struct shard shards[SHARDS];
};

static inline size_t cache_charge(size_t len)
{
    return len + sizeof(struct entry);
}

static inline uint32_t cache_pins(const struct entry *entry)
{
    // pairs with the release in cache_unpin: what readers did with the bytes is over
    return atomic_load_explicit(&entry->pins, memory_order_acquire);
}

static inline size_t cache_heat_bytes(struct cache *cache, enum cache_heat heat)
{
    return atomic_load_explicit(&cache->heat_bytes[heat], memory_order_relaxed);
}

/* cache.c */
/** Out of the table and its owner's list, under the shard's lock. */
void cache_table_remove(struct shard *shard, const struct entry *entry);

/* cache_evict.c */
void cache_queue_add(struct shard *shard, struct entry *entry, enum queue_name name);
void cache_queue_remove(struct shard *shard, struct entry *entry);
/** Was it remembered, and have fewer left since than main holds?  Asked once. */
bool cache_ghost_take(struct shard *shard, uint64_t hash);
/** Charge so many bytes, evicting what it takes, from shard `from` on.  OCH_BUSY: nothing more can leave. */
MUST_USE och_code cache_reserve(struct cache *cache, size_t bytes, size_t from, och_error *err);
/** An entry's bytes and what they were charged. */
void cache_give_bytes(struct cache *cache, struct entry *entry);
/** The whole of an entry that nobody can reach any more.  Returns what it was charged. */
size_t cache_entry_free(struct cache *cache, struct entry *entry);
#endif
