/* SPDX-License-Identifier: Apache-2.0 */
/* What flush and merge share on the way to a new version (D10). */
#include "compact/compact_internal.h"

#define ROOM_SHARE 8 /* of the memory limit */
#define ROOM_MOST  (128 << 20)

void compact_make_room(struct compactor *c)
{
    struct budget *budget = c->options.budget;
    if (!budget || budget->limit_bytes <= 0)
        return;
    int64_t want = budget->limit_bytes / ROOM_SHARE, left = budget_free(budget);
    want = want < ROOM_MOST ? want : ROOM_MOST;
    if (left >= want)
        return;
    struct cache_stats stats;
    cache_stats(c->options.parts.cache, &stats);
    size_t more = (size_t)(want - left);
    cache_shrink(c->options.parts.cache, stats.used_bytes > more ? stats.used_bytes - more : 0);
}

och_code compact_object_new(struct compactor *c, uuid *ret_file, struct store_writer **ret_writer,
                            och_error *err)
{
    uuid file = compact_new_id(c);
    TRY(sysdb_file_announce(c->options.sysdb, file, err));
    object_id object;
    memcpy(object.bytes, file.bytes, sizeof(object.bytes));
    och_code code = store_create(c->options.store, object, ret_writer, err);
    if (code != OCH_OK) {
        compact_object_drop(c, file);
        return code;
    }
    *ret_file = file;
    return OCH_OK;
}

void compact_object_drop(struct compactor *c, uuid file)
{
    object_id object;
    memcpy(object.bytes, file.bytes, sizeof(object.bytes));
    if (store_remove(c->options.store, object, NULL) == OCH_OK)
        IGNORE(sysdb_file_forget(c->options.sysdb, &file, 1, NULL));
}

struct sysdb_part compact_part_row(uuid file, const struct part_info *info)
{
    return (struct sysdb_part){.file = file,
                               .offset = info->ref.offset,
                               .size = info->ref.size,
                               .dir_offset = info->ref.dir_offset,
                               .dir_len = info->ref.dir_len,
                               .dir_crc = info->ref.dir_crc,
                               .head_len = info->ref.head_len,
                               .lineage = info->lineage,
                               .rows = info->rows,
                               .log_from = info->log_from,
                               .log_to = info->log_to};
}

och_code compact_set_dead(const struct bitset *dead, struct arena *arena, struct sysdb_part *part,
                          och_error *err)
{
    part->deleted = (uint32_t)bitset_count(dead);
    part->dead = SLICE_NONE;
    if (part->deleted == 0)
        return OCH_OK;
    struct buf encoded;
    buf_init(&encoded, BUF_MAX_NONE);
    och_code code = part_bitmap_encode(dead, &encoded, err);
    if (code == OCH_OK) {
        part->dead = arena_copy(arena, buf_view(&encoded));
        if (!part->dead.at)
            code = FAIL_NO_MEMORY(err, "a deletion bitmap");
    }
    buf_done(&encoded);
    return code;
}
