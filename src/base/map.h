/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes to u64, open addressing, hashes kept.  Keys are borrowed: they must outlive the map. */
#ifndef BASE_MAP_H
#define BASE_MAP_H

#include "base/mem.h"
#include "base/slice.h"

struct map_entry {
    uint64_t hash; /* 0 = empty */
    slice key;
    uint64_t value;
};
struct map {
    struct map_entry *entries;
    size_t len, cap; /* cap 0 or a power of two */
};

/** Whole process, before the first map: a secret seed, so that nobody can choose ids whose hashes collide.
 *  0 (the default) makes walks repeatable. */
void map_set_seed(uint64_t seed);
/** The hash that maps use, with the seed, for tables of another shape; never 0. */
uint64_t map_hash(slice key);
void map_init(struct map *map);
void map_done(struct map *map);
MUST_USE bool map_reserve(struct map *map, size_t count);
/** The value's place, or NULL. Valid until the next insertion or removal. */
uint64_t *map_find(const struct map *map, slice key);
/** Find or insert with value 0; *ret_new says which.  NULL = no memory. */
uint64_t *map_at(struct map *map, slice key, bool *ret_new);
bool map_remove(struct map *map, slice key);
/** Walk: start with *cursor = 0; false at the end. */
bool map_next(const struct map *map, size_t *cursor, slice *ret_key, uint64_t *ret_value);
#endif
