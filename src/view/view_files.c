/* SPDX-License-Identifier: Apache-2.0 */
/* Which files and parts the generations in memory refer to: what is counted here must not leave the disk yet (D10). */
#include "view/view_internal.h"

struct file_use {
    uint8_t key[24]; /* file, offset; all ones: any offset */
    uint64_t count;
};

static slice use_key(uuid file, uint64_t offset, uint8_t key[24])
{
    memcpy(key, file.bytes, 16);
    memcpy(key + 16, &offset, 8);
    return slice_make(key, 24);
}

/* Under files_lock. */
static bool use_add(struct views *views, uuid file, uint64_t offset)
{
    uint8_t key[24];
    uint64_t *value = map_find(&views->files, use_key(file, offset, key));
    if (value) {
        ((struct file_use *)(uintptr_t)*value)->count++;
        return true;
    }
    struct file_use *use = MEM_NEW(struct file_use);
    if (!use)
        return false;
    memcpy(use->key, key, sizeof(key));
    use->count = 1;
    bool is_new;
    value = map_at(&views->files, slice_make(use->key, sizeof(use->key)), &is_new);
    if (!value) {
        mem_free(use);
        return false;
    }
    *value = (uint64_t)(uintptr_t)use;
    return true;
}

static void use_drop(struct views *views, uuid file, uint64_t offset)
{
    uint8_t key[24];
    uint64_t *value = map_find(&views->files, use_key(file, offset, key));
    assert(value);
    struct file_use *use = (struct file_use *)(uintptr_t)*value;
    if (--use->count > 0)
        return;
    (void)map_remove(&views->files, slice_make(use->key, sizeof(use->key)));
    mem_free(use);
}

bool views_file_take(struct views *views, uuid file, uint64_t offset)
{
    mutex_lock(&views->files_lock);
    bool taken = use_add(views, file, offset);
    if (taken && !use_add(views, file, UINT64_MAX)) {
        use_drop(views, file, offset);
        taken = false;
    }
    mutex_unlock(&views->files_lock);
    return taken;
}

void views_file_give(struct views *views, uuid file, uint64_t offset)
{
    mutex_lock(&views->files_lock);
    use_drop(views, file, offset);
    use_drop(views, file, UINT64_MAX);
    mutex_unlock(&views->files_lock);
}

bool views_uses_part(struct views *views, uuid file, uint64_t offset)
{
    uint8_t key[24];
    mutex_lock(&views->files_lock);
    bool used = map_find(&views->files, use_key(file, offset, key)) != NULL;
    mutex_unlock(&views->files_lock);
    return used;
}

bool views_uses_file(struct views *views, uuid file)
{
    return views_uses_part(views, file, UINT64_MAX);
}
