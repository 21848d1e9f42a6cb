/* SPDX-License-Identifier: Apache-2.0 */
/* One version with the tail resolved against it: making, sharing, freeing; and the dead rows of its parts at an offset. */
#include "view/view_internal.h"

#include <inttypes.h>

void dead_set_unref(struct dead_set *set)
{
    if (!set || atomic_fetch_sub(&set->refs, 1) != 1)
        return;
    bitset_done(&set->bits);
    mem_free(set);
}

void generation_ref(struct generation *generation)
{
    atomic_fetch_add(&generation->refs, 1);
}

static void generation_free(struct generation *g)
{
    for (uint32_t i = 0; i < g->part_count; i++) {
        struct generation_part *gp = &g->parts[i];
        if (gp->part) {
            views_file_give(g->views, gp->file, gp->offset);
            part_unref(gp->part);
        }
        bitset_done(&gp->dead);
        VEC_DONE(&gp->masks);
        dead_set_unref(gp->combined);
    }
    atomic_fetch_sub(&g->views->tail_rows, g->slot_count);
    atomic_fetch_sub(&g->views->tail_bytes, g->payload_bytes);
    for (size_t i = 0; i < g->batches.len; i++)
        wal_batch_unref(g->batches.at[i].batch);
    VEC_DONE(&g->batches);
    for (unsigned i = 0; i < TAIL_CHUNK_MAX; i++)
        mem_free(g->chunks[i]);
    struct id_table *table = atomic_load(&g->table);
    while (table) {
        struct id_table *retired = table->retired;
        mem_free(table);
        table = retired;
    }
    budget_give(g->views->options.budget, g->charged_bytes);
    tail_codes_free(atomic_load(&g->codes), g->views->options.budget);
    tail_terms_free(atomic_load(&g->terms), g->views->options.budget);
    arena_done(&g->arena);
    mutex_done(&g->codes_lock);
    mutex_done(&g->lock);
    mem_free(g);
}

void generation_unref(struct generation *generation)
{
    if (generation && atomic_fetch_sub(&generation->refs, 1) == 1)
        generation_free(generation);
}

static struct part *share_part(const struct generation *old, const struct sysdb_part *row)
{
    for (uint32_t i = 0; old && i < old->part_count; i++) {
        if (uuid_equal(old->parts[i].file, row->file) && old->parts[i].offset == row->offset)
            return part_ref_take(old->parts[i].part);
    }
    return NULL;
}

och_code view_part_open(struct views *views, const struct sysdb_collection *owner,
                        const struct sysdb_part *row, struct part **ret_part, och_error *err)
{
    struct part_ref ref = {.offset = row->offset,
                           .size = row->size,
                           .dir_offset = row->dir_offset,
                           .dir_len = row->dir_len,
                           .dir_crc = row->dir_crc,
                           .head_len = row->head_len};
    memcpy(ref.object.bytes, row->file.bytes, sizeof(ref.object.bytes));
    return part_open_shared(&views->options.parts, &ref, owner->owners, owner->owner_count,
                            ret_part, err);
}

static och_code add_part(struct collection *collection, const struct sysdb_collection *owner,
                         struct generation *g, const struct generation *old,
                         const struct sysdb_part *row, och_error *err)
{
    struct generation_part *gp = &g->parts[g->part_count];
    gp->file = row->file;
    gp->offset = row->offset;
    struct part *part = share_part(old, row);
    if (!part)
        part = prepared_take(collection, row);
    if (!part)
        TRY(view_part_open(g->views, owner, row, &part, err));
    if (!views_file_take(g->views, gp->file, gp->offset)) {
        part_unref(part);
        return FAIL_NO_MEMORY(err, "a view's parts");
    }
    gp->part = part;
    g->part_count++;
    if (part_rows(part) != row->rows)
        return FAIL(err, OCH_CORRUPT, "part has %" PRIu32 " rows, the catalogue says %" PRIu32,
                    part_rows(part), row->rows);
    g->live_made += row->rows;
    if (row->dead.len == 0)
        return OCH_OK;
    TRY(part_bitmap_decode(row->dead, row->rows, &gp->dead, err));
    size_t dead = bitset_count(&gp->dead);
    if (dead != row->deleted)
        return FAIL(err, OCH_CORRUPT, "deletion bitmap holds %zu rows, the catalogue says %" PRIu32,
                    dead, row->deleted);
    g->live_made -= dead;
    return OCH_OK;
}

/* A part of a version that was replaced meanwhile may be gone already: that is no damage. */
static bool version_moved(const struct collection *collection, int64_t version)
{
    const struct sysdb_collection *row = NULL;
    bool moved = sysdb_collection_get(collection->views->options.sysdb, SLICE_NONE, SLICE_NONE,
                                      collection->id, &row, NULL) == OCH_OK &&
                 row->version != version;
    sysdb_collection_unref(row);
    return moved;
}

och_code generation_new(struct collection *collection, const struct generation *old,
                        struct generation **ret_generation, och_error *err)
{
    struct views *views = collection->views;
    struct generation *g = MEM_NEW(struct generation);
    if (!g)
        return FAIL_NO_MEMORY(err, "a view");
    atomic_store(&g->refs, 1);
    g->views = views;
    arena_init(&g->arena, views->options.budget, 0);
    mutex_init(&g->lock, RANK_LEAF);
    mutex_init(&g->codes_lock, RANK_LEAF);
    struct sysdb_version version;
    const struct sysdb_collection *row CLEANUP(sysdb_collection_cleanup) = NULL;
    och_code code = sysdb_collection_get(views->options.sysdb, SLICE_NONE, SLICE_NONE,
                                         collection->id, &row, err);
    if (code == OCH_OK) {
        atomic_store(&collection->kept, row->kept);
        g->metric = row->schema.metric;
        g->recall = row->schema.recall;
        code = sysdb_version_get(views->options.sysdb, collection->id, &g->arena, &version, err);
    }
    if (code == OCH_OK) {
        g->version = version.version;
        g->from = g->next = version.log_offset;
        g->dimension = version.dimension;
        g->parts = ARENA_ARRAY(&g->arena, struct generation_part, version.part_count + 1);
        if (!g->parts)
            code = FAIL_NO_MEMORY(err, "a view's parts");
    }
    for (size_t i = 0; code == OCH_OK && i < version.part_count; i++) {
        code = add_part(collection, row, g, old, &version.parts[i], err);
        if (code != OCH_OK && version_moved(collection, version.version))
            code = FAIL(err, OCH_STALE, "version %" PRId64 " was replaced", version.version);
    }
    if (code != OCH_OK) {
        generation_unref(g);
        return code;
    }
    g->live_rows = g->live_made;
    *ret_generation = g;
    return OCH_OK;
}

/* Masks are in ascending offset: how many count for a reader at `to`. */
static size_t masks_before(const struct generation_part *gp, uint64_t to)
{
    size_t low = 0, high = gp->masks.len;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (gp->masks.at[middle].offset < to)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static och_code dead_set_new(const struct generation_part *gp, size_t mask_count,
                             struct dead_set **ret_set, och_error *err)
{
    struct dead_set *set = MEM_NEW(struct dead_set);
    bool ok = set && (gp->dead.words ? bitset_copy(&set->bits, &gp->dead)
                                     : bitset_init(&set->bits, part_rows(gp->part)));
    if (!ok) {
        mem_free(set);
        return FAIL_NO_MEMORY(err, "a deletion bitmap");
    }
    atomic_store(&set->refs, 1);
    set->mask_count = mask_count;
    for (size_t i = 0; i < mask_count; i++)
        bitset_add(&set->bits, gp->masks.at[i].row);
    *ret_set = set;
    return OCH_OK;
}

och_code generation_dead(struct generation *g, size_t i, uint64_t to, struct dead_set **ret_set,
                         och_error *err)
{
    struct generation_part *gp = &g->parts[i];
    och_code code = OCH_OK;
    mutex_lock(&g->lock);
    size_t mask_count = masks_before(gp, to);
    if (mask_count == 0 && !gp->dead.words) {
        *ret_set = NULL;
    } else if (gp->combined && gp->combined->mask_count == mask_count) {
        atomic_fetch_add(&gp->combined->refs, 1);
        *ret_set = gp->combined;
    } else {
        struct dead_set *set = NULL;
        code = dead_set_new(gp, mask_count, &set, err);
        if (code == OCH_OK) {
            if (!gp->combined || gp->combined->mask_count < mask_count) {
                dead_set_unref(gp->combined);
                gp->combined = set;
                atomic_fetch_add(&set->refs, 1);
            }
            *ret_set = set;
        }
    }
    mutex_unlock(&g->lock);
    return code;
}
