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

/** Keeps used bytes within `budget` (its own child budget with limit_bytes). */
MUST_USE och_code cache_new(size_t limit_bytes, struct budget *budget, struct cache **ret_cache,
                            och_error *err);
void cache_free(struct cache *cache);
uint64_t cache_owner_new(struct cache *cache);
/** Drop all unpinned extents of an owner and make the rest go at their last unpin. */
void cache_owner_drop(struct cache *cache, uint64_t owner);
/** Pin an extent, loading it if absent; concurrent callers of one key load it once.  hot: evicted last.
 *  Errors: the loader's; OCH_BUSY when the budget cannot take it even after evicting. */
MUST_USE och_code cache_pin(struct cache *cache, struct cache_key key, size_t len, bool hot,
                            cache_loader loader, void *context, const struct extent **ret_extent,
                            och_error *err);
void cache_unpin(struct cache *cache, const struct extent *extent); /* NULL is fine */
struct cache_stats {
    uint64_t hits, misses, evictions;
    size_t used_bytes, pinned_bytes;
};
void cache_stats(struct cache *cache, struct cache_stats *ret_stats);
/** Give back unpinned memory until at most `bytes` are used (memory pressure). */
void cache_shrink(struct cache *cache, size_t bytes);
#endif
