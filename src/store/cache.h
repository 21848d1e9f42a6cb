/* SPDX-License-Identifier: Apache-2.0 */
/* One budgeted cache of checked, pinned extents over all open parts (D5).  An extent is a contiguous piece of memory, 64-byte aligned,
 * filled and verified once by its owner's loader; while pinned it stays.  Scan-resistant eviction (S3-FIFO: Yang et al., SOSP 2023). */
#ifndef STORE_CACHE_H
#define STORE_CACHE_H

#include "base/mem.h"

struct cache;
struct extent {
    const uint8_t *at;
    size_t len;
};
struct cache_key {
    uint64_t owner;   /* from cache_owner_new */
    uint32_t section; /* of the owner */
    uint32_t index;
};
/** Fill `at[len]`; called without locks held.  A failure is returned to everyone waiting and nothing is kept. */
typedef och_code (*cache_loader)(void *context, struct cache_key key, uint8_t *at, size_t len,
                                 och_error *err);

/** What leaves first when room is short: cold, then warm, then hot, as long as each keeps an eighth of what is used: so nothing that is
 *  hot but forgotten keeps out what is read now. */
enum cache_heat { CACHE_COLD = 0, CACHE_HOT = 1, CACHE_WARM = 2 };
#define CACHE_HEATS 3

/** Keeps used bytes within `budget` (its own child budget with limit_bytes). */
MUST_USE och_code cache_new(size_t limit_bytes, struct budget *budget, struct cache **ret_cache,
                            och_error *err);
void cache_free(struct cache *cache);
uint64_t cache_owner_new(struct cache *cache);
/** Drop all unpinned extents of an owner and make the rest go at their last unpin. */
void cache_owner_drop(struct cache *cache, uint64_t owner);
/** Drop one extent if it is there; if it is pinned it goes at its last unpin. */
void cache_drop(struct cache *cache, struct cache_key key);
/** Pin an extent, loading it if absent; concurrent callers of one key load it once.
 *  Errors: the loader's; OCH_BUSY when the budget cannot take it even after evicting. */
MUST_USE och_code cache_pin(struct cache *cache, struct cache_key key, size_t len,
                            enum cache_heat heat, cache_loader loader, void *context,
                            const struct extent **ret_extent, och_error *err);
void cache_unpin(struct cache *cache, const struct extent *extent); /* NULL is fine */
/** Pin an extent if it is there; never loads, never waits. */
bool cache_peek(struct cache *cache, struct cache_key key, const struct extent **ret_extent);
/** Bytes that can be had without evicting what is as hot: what is free, and what is colder beyond its eighth. */
size_t cache_room(struct cache *cache, enum cache_heat heat);

/* ---- many at once ---- */
enum cache_want_state {
    WANT_PINNED, /* extent is pinned */
    WANT_FILL,   /* the caller fills at[len] and says cache_filled */
    WANT_WAIT,   /* another thread loads it: cache_await */
    WANT_FAILED  /* code says why; nothing is held */
};
struct cache_want {
    struct cache_key key;
    size_t len;
    enum cache_heat heat;
    /* set by the calls below */
    enum cache_want_state state;
    och_code code;
    const struct extent *extent;
    uint8_t *at;
    void *entry;
};
/**
 * Pin what is there and make room for what is not, without waiting.
 *
 * The caller then fills all of WANT_FILL with one batch of reads, says cache_filled for each of them, and only then waits for those of
 * others: who waits owes nobody anything, so no two can wait for each other.  A key may be wanted twice.
 */
void cache_begin(struct cache *cache, struct cache_want *wants, size_t count);
/** Publish what was filled, or that it failed (`failure` goes to those who wait for it; may be NULL). */
void cache_filled(struct cache *cache, struct cache_want *want, och_code code,
                  const och_error *failure);
/** Wait for another thread's load; the want becomes WANT_PINNED or WANT_FAILED. */
void cache_await(struct cache *cache, struct cache_want *want);

struct cache_stats {
    uint64_t hits, misses, evictions;
    size_t used_bytes, pinned_bytes;
    struct {
        uint64_t hits, misses;
        size_t bytes;
    } heat[CACHE_HEATS]; /* the same by enum cache_heat */
};
void cache_stats(struct cache *cache, struct cache_stats *ret_stats);
/** Give back unpinned memory until at most `bytes` are used (memory pressure). */
void cache_shrink(struct cache *cache, size_t bytes);
#endif
