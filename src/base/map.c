/* SPDX-License-Identifier: Apache-2.0 */
/* Open addressing with linear probing and kept hashes; removal moves later entries back, so there are
 * no tombstones and a map that shrinks does not get slower. */
#include "base/map.h"

#include <string.h>

#define CAP_FIRST 16u

static uint64_t map_seed;

void map_set_seed(uint64_t seed)
{
    map_seed = seed;
}

/* With a seed, the hash is multiplied apart from its low bits, so that keys whose XXH3 collide in
 * their low bits only do not collide here. */
uint64_t map_hash(slice key)
{
    uint64_t hash = slice_hash(key);
    if (map_seed) {
        hash = (hash ^ map_seed) * 0x9E3779B97F4A7C15u;
        hash ^= hash >> 32;
    }
    return hash ? hash : 1; // 0 marks an empty entry
}

void map_init(struct map *map)
{
    *map = (struct map){0};
}

void map_done(struct map *map)
{
    if (!map)
        return;
    mem_free(map->entries);
    map_init(map);
}

/* Where the key is, or the empty entry where it would go.  The map is never full. */
static size_t find(const struct map *map, slice key, uint64_t hash)
{
    size_t mask = map->cap - 1;
    size_t i = (size_t)hash & mask;
    while (map->entries[i].hash &&
           (map->entries[i].hash != hash || !slice_equal(map->entries[i].key, key)))
        i = (i + 1) & mask;
    return i;
}

static bool rebuild(struct map *map, size_t cap)
{
    size_t bytes;
    if (mul_overflows(cap, sizeof(struct map_entry), &bytes))
        return false;
    struct map_entry *entries = mem_zalloc(bytes);
    if (!entries)
        return false;
    for (size_t i = 0; i < map->cap; i++) {
        uint64_t hash = map->entries[i].hash;
        if (!hash)
            continue;
        size_t to = (size_t)hash & (cap - 1);
        while (entries[to].hash)
            to = (to + 1) & (cap - 1);
        entries[to] = map->entries[i];
    }
    mem_free(map->entries);
    map->entries = entries;
    map->cap = cap;
    return true;
}

bool map_reserve(struct map *map, size_t count)
{
    if (count <= map->cap / 4 * 3)
        return true;
    size_t cap = max_size(map->cap, CAP_FIRST);
    while (cap / 4 * 3 < count) {
        if (mul_overflows(cap, 2, &cap))
            return false;
    }
    return rebuild(map, cap);
}

uint64_t *map_find(const struct map *map, slice key)
{
    if (map->len == 0)
        return NULL;
    size_t i = find(map, key, map_hash(key));
    return map->entries[i].hash ? &map->entries[i].value : NULL;
}

uint64_t *map_at(struct map *map, slice key, bool *ret_new)
{
    uint64_t hash = map_hash(key);
    if (map->len) {
        size_t i = find(map, key, hash);
        if (map->entries[i].hash) {
            *ret_new = false;
            return &map->entries[i].value;
        }
    }
    if (!map_reserve(map, map->len + 1))
        return NULL;
    size_t i = find(map, key, hash);
    map->entries[i] = (struct map_entry){.hash = hash, .key = key};
    map->len++;
    *ret_new = true;
    return &map->entries[i].value;
}

bool map_remove(struct map *map, slice key)
{
    if (map->len == 0)
        return false;
    size_t mask = map->cap - 1, hole = find(map, key, map_hash(key));
    if (!map->entries[hole].hash)
        return false;
    for (size_t i = (hole + 1) & mask; map->entries[i].hash; i = (i + 1) & mask) {
        size_t home = (size_t)map->entries[i].hash & mask;
        if (((i - home) & mask) < ((i - hole) & mask))
            continue; // it lives between the hole and here: moving it would lose it
        map->entries[hole] = map->entries[i];
        hole = i;
    }
    map->entries[hole] = (struct map_entry){0};
    map->len--;
    return true;
}

bool map_next(const struct map *map, size_t *cursor, slice *ret_key, uint64_t *ret_value)
{
    for (; *cursor < map->cap; (*cursor)++) {
        const struct map_entry *entry = &map->entries[*cursor];
        if (!entry->hash)
            continue;
        if (ret_key)
            *ret_key = entry->key;
        if (ret_value)
            *ret_value = entry->value;
        (*cursor)++;
        return true;
    }
    return false;
}
