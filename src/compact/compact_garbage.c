/* SPDX-License-Identifier: Apache-2.0 */
/* Files and ranges that nobody refers to any more leave the disk; what a held view still reads waits for it (D10, D15). */
#include "compact/compact_internal.h"

static object_id object_of(uuid file)
{
    object_id object;
    memcpy(object.bytes, file.bytes, sizeof(object.bytes));
    return object;
}

och_code compact_garbage(struct compactor *c, bool at_open, bool *ret_more, och_error *err)
{
    *ret_more = false;
    struct arena arena;
    arena_init(&arena, c->options.budget, 0);
    struct sysdb_garbage *rows = NULL;
    size_t count = 0, gone = 0;
    uint64_t reclaimed = 0;
    och_code code = sysdb_garbage_list(c->options.sysdb, at_open, &arena, &rows, &count, err);
    uuid *files = code == OCH_OK ? ARENA_ARRAY(&arena, uuid, count + 1) : NULL;
    if (code == OCH_OK && !files)
        code = FAIL_NO_MEMORY(err, "a list of old files");
    for (size_t i = 0; i < count && code == OCH_OK; i++) {
        const struct sysdb_garbage *row = &rows[i];
        if (row->whole ? views_uses_file(c->options.views, row->file)
                       : views_uses_part(c->options.views, row->file, row->offset)) {
            *ret_more = true;
            continue;
        }
        if (row->whole) {
            uint64_t size = 0;
            if (store_size(c->options.store, object_of(row->file), &size, NULL) == OCH_OK)
                reclaimed += size;
            code = store_remove(c->options.store, object_of(row->file), err);
            if (code == OCH_OK)
                files[gone++] = row->file;
        } else {
            reclaimed += row->size;
            code = store_punch(c->options.store, object_of(row->file), row->offset, row->size, err);
            if (code == OCH_OK)
                code = sysdb_hole_forget(c->options.sysdb, row->file, row->offset, err);
        }
    }
    /* What did go is noted even if a later one would not. */
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
