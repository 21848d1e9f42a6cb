/* SPDX-License-Identifier: Apache-2.0 */
/* Files and ranges that nobody refers to any more leave the disk; what a held view still reads waits for it (D10, D15). */
#include "compact/compact_internal.h"

static object_id object_of(uuid file)
{
    object_id object;
    memcpy(object.bytes, file.bytes, sizeof(object.bytes));
    return object;
}

static bool is_used(struct compactor *c, const struct sysdb_garbage *row)
{
    return row->whole ? views_uses_file(c->options.views, row->file)
                      : views_uses_part(c->options.views, row->file, row->offset);
}

/* One row of garbage.  *ret_gone: a whole object left, to be forgotten; *ret_held: a view still reads it. */
static och_code remove_one(struct compactor *c, const struct sysdb_garbage *row, bool *dropped,
                           bool *ret_gone, bool *ret_held, uint64_t *reclaimed, och_error *err)
{
    struct store *store = c->options.store;
    *ret_gone = false;
    *ret_held = is_used(c, row);
    if (*ret_held &&
        !*dropped) { /* a kept version that was read not long ago can be opened again */
        views_drop_kept(c->options.views);
        *dropped = true;
        *ret_held = is_used(c, row);
    }
    if (*ret_held)
        return OCH_OK;
    if (row->whole) {
        uint64_t size = 0;
        if (store_size(store, object_of(row->file), &size, NULL) != OCH_OK)
            size = 0;
        TRY(store_remove(store, object_of(row->file), err));
        *reclaimed += size;
        *ret_gone = true;
        return OCH_OK;
    }
    TRY(store_punch(store, object_of(row->file), row->offset, row->size, err));
    *reclaimed += row->size;
    return sysdb_hole_forget(c->options.sysdb, row->file, row->offset, err);
}

och_code compact_expire_kept(struct compactor *c, bool *ret_any, och_error *err)
{
    size_t count;
    bool more;
    *ret_any = false;
    do {
        TRY(sysdb_kept_expire(c->options.sysdb, &count, &more, err));
        *ret_any |= count > 0;
    } while (more && !compact_stopping(c));
    return OCH_OK;
}

och_code compact_garbage(struct compactor *c, bool at_open, bool *ret_more, och_error *err)
{
    *ret_more = false;
    bool dropped = false;
    struct arena arena;
    arena_init(&arena, c->options.budget, 0);
    struct sysdb_garbage *rows = NULL;
    size_t count = 0, gone = 0;
    uint64_t reclaimed = 0;
    bool any;
    och_code code = compact_expire_kept(c, &any, err);
    if (code == OCH_OK)
        code = sysdb_garbage_list(c->options.sysdb, at_open, &arena, &rows, &count, err);
    uuid *files = code == OCH_OK ? ARENA_ARRAY(&arena, uuid, count + 1) : NULL;
    if (code == OCH_OK && !files)
        code = FAIL_NO_MEMORY(err, "a list of old files");
    /* One that will not go does not keep the others; the first reason is told. */
    for (size_t i = 0; files && i < count; i++) {
        bool is_gone, held;
        och_code removed = remove_one(c, &rows[i], &dropped, &is_gone, &held, &reclaimed,
                                      code == OCH_OK ? err : NULL);
        if (is_gone)
            files[gone++] = rows[i].file;
        *ret_more |= held;
        code = code == OCH_OK ? removed : code;
    }
    if (gone > 0) {
        och_code forgot =
            sysdb_file_forget(c->options.sysdb, files, gone, code == OCH_OK ? err : NULL);
        code = code == OCH_OK ? forgot : code;
    }
    arena_done(&arena);
    mutex_lock(&c->lock);
    c->stats.bytes_reclaimed += reclaimed;
    mutex_unlock(&c->lock);
    return code;
}
