/* SPDX-License-Identifier: Apache-2.0 */
/* The simulated disk: calls on names, and the disk itself.  Absolute and relative paths mean the same; ".." is
 * refused.  What a power cut leaves is decided in io_sim_crash.c. */
#include "base/io_sim_private.h"

#include <errno.h>
#include <string.h>

struct disk *disk_of(struct io *io)
{
    return CONTAINER_OF(io, struct disk, io);
}

och_code sim_fail(och_error *err, int os_errno, const char *verb, const char *path)
{
    och_code code = os_errno == ENOENT   ? OCH_NOT_FOUND
                    : os_errno == ENOMEM ? OCH_NO_MEMORY
                    : os_errno == EEXIST ? OCH_EXISTS
                                         : OCH_IO;
    return FAIL_OS(err, code, os_errno, "cannot %s %s", verb, path);
}

int disk_count(struct disk *disk, enum io_sim_operation kind)
{
    int ret = 0;
    enum io_sim_operation both[] = {IO_SIM_ANY, kind};
    for (size_t i = kind == IO_SIM_ANY ? 1 : 0; i < 2; i++) {
        uint64_t now = atomic_fetch_add(&disk->counts[both[i]], 1) + 1;
        uint64_t at = atomic_load(&disk->fail_at[both[i]]);
        if (at && (now == at || (now > at && atomic_load(&disk->fail_stuck[both[i]]))))
            ret = atomic_load(&disk->fail_errno[both[i]]);
    }
    return ret;
}

/* ---- calls on names ---- */

/* Is `inner` the folder or below it?  Walks down from the folder by a list. */
static bool is_below(const char *inner, const char *outer)
{
    for (;;) {
        inner += strspn(inner, "/");
        outer += strspn(outer, "/");
        size_t inner_len = strcspn(inner, "/"), outer_len = strcspn(outer, "/");
        if (outer_len == 1 && outer[0] == '.') {
            outer++;
            continue;
        }
        if (inner_len == 1 && inner[0] == '.') {
            inner++;
            continue;
        }
        if (outer_len == 0)
            return true;
        if (inner_len != outer_len || memcmp(inner, outer, inner_len) != 0)
            return false;
        inner += inner_len;
        outer += outer_len;
    }
}

static int rename_locked(struct disk *disk, const char *from, const char *to)
{
    struct place source, target;
    int os_errno = place_find(disk, from, &source);
    if (!os_errno)
        os_errno = place_find(disk, to, &target);
    if (os_errno)
        return os_errno;
    if (!source.node)
        return ENOENT;
    if (!source.folder || !target.folder)
        return EBUSY;
    if (source.node == target.node)
        return 0;
    if (source.node->is_folder && is_below(to, from))
        return EINVAL;
    if (target.node) {
        if (target.node->is_folder && !source.node->is_folder)
            return EISDIR;
        if (!target.node->is_folder && source.node->is_folder)
            return ENOTDIR;
        if (target.node->lists[LIST_NOW].len)
            return ENOTEMPTY;
    }
    return names_change(disk, NAME_RENAME, &source, &target, source.node);
}

static och_code sim_rename(struct io *io, const char *from, const char *to, och_error *err)
{
    struct disk *disk = disk_of(io);
    int os_errno = disk_count(disk, IO_SIM_RENAME);
    if (!os_errno) {
        mutex_lock(&disk->mutex);
        os_errno = rename_locked(disk, from, to);
        mutex_unlock(&disk->mutex);
    }
    if (!os_errno)
        return OCH_OK;
    och_code code = sim_fail(err, os_errno, "rename", from);
    error_append(err, " (to %s)", to);
    return code;
}

static int remove_locked(struct disk *disk, const char *path)
{
    struct place place;
    int os_errno = place_find(disk, path, &place);
    if (os_errno)
        return os_errno;
    if (!place.node)
        return ENOENT;
    if (!place.folder)
        return EBUSY;
    if (place.node->lists[LIST_NOW].len)
        return ENOTEMPTY;
    return names_change(disk, NAME_UNLINK, &place, NULL, place.node);
}

static och_code sim_remove(struct io *io, const char *path, och_error *err)
{
    struct disk *disk = disk_of(io);
    int os_errno = disk_count(disk, IO_SIM_REMOVE);
    if (!os_errno) {
        mutex_lock(&disk->mutex);
        os_errno = remove_locked(disk, path);
        mutex_unlock(&disk->mutex);
    }
    return os_errno ? sim_fail(err, os_errno, "remove", path) : OCH_OK;
}

static int folder_at(struct disk *disk, const char *path, struct node **ret_node)
{
    struct place place;
    int os_errno = place_find(disk, path, &place);
    if (os_errno)
        return os_errno;
    *ret_node = place.node;
    return !place.node ? ENOENT : !place.node->is_folder ? ENOTDIR : 0;
}

static och_code sim_sync_folder(struct io *io, const char *path, och_error *err)
{
    struct disk *disk = disk_of(io);
    struct node *folder;
    int os_errno = disk_count(disk, IO_SIM_SYNC);
    if (!os_errno) {
        mutex_lock(&disk->mutex);
        os_errno = folder_at(disk, path, &folder);
        if (!os_errno)
            os_errno = names_sync(disk, folder);
        mutex_unlock(&disk->mutex);
    }
    return os_errno ? sim_fail(err, os_errno, "sync folder", path) : OCH_OK;
}

/* As on the machine, a new folder's name is durable when the call returns. */
static int make_locked(struct disk *disk, char *path)
{
    for (char *at = path;;) {
        at += strspn(at, "/");
        if (!*at)
            return 0;
        at += strcspn(at, "/");
        char after = *at;
        *at = '\0';
        struct place place;
        int os_errno = place_find(disk, path, &place);
        if (!os_errno && place.node && !place.node->is_folder)
            os_errno = ENOTDIR;
        if (!os_errno && !place.node) {
            struct node *node = node_new(disk, true);
            os_errno = node ? names_change(disk, NAME_LINK, &place, NULL, node) : ENOMEM;
            if (node)
                node_unref(disk, node);
            if (!os_errno)
                os_errno = names_sync(disk, place.folder);
        }
        *at = after;
        if (os_errno)
            return os_errno;
    }
}

static och_code sim_make_folder(struct io *io, const char *path, och_error *err)
{
    struct disk *disk = disk_of(io);
    CLEANUP(mem_cleanup) char *copy = mem_copy_text(path, strlen(path));
    int os_errno = disk_count(disk, IO_SIM_ANY);
    if (!os_errno && !copy)
        os_errno = ENOMEM;
    if (!os_errno) {
        mutex_lock(&disk->mutex);
        os_errno = make_locked(disk, copy);
        mutex_unlock(&disk->mutex);
    }
    return os_errno ? sim_fail(err, os_errno, "make folder", path) : OCH_OK;
}

static int list_locked(struct disk *disk, const char *path, struct arena *arena,
                       struct io_entry **ret_entries, size_t *ret_count)
{
    struct node *folder;
    int os_errno = folder_at(disk, path, &folder);
    if (os_errno)
        return os_errno;
    const name_list *list = &folder->lists[LIST_NOW];
    struct io_entry *entries = ARENA_ARRAY(arena, struct io_entry, list->len);
    if (!entries)
        return ENOMEM;
    for (size_t i = 0; i < list->len; i++) {
        struct node *node = list->at[i].node;
        entries[i].name = (const char *)arena_copy(arena, slice_of(list->at[i].text)).at;
        entries[i].size = node->is_folder ? 0 : node_size(node);
        entries[i].is_folder = node->is_folder;
        if (!entries[i].name)
            return ENOMEM;
    }
    *ret_entries = entries;
    *ret_count = list->len;
    return 0;
}

static och_code sim_list(struct io *io, const char *path, struct arena *arena,
                         struct io_entry **ret_entries, size_t *ret_count, och_error *err)
{
    struct disk *disk = disk_of(io);
    int os_errno = disk_count(disk, IO_SIM_READ);
    if (!os_errno) {
        mutex_lock(&disk->mutex);
        os_errno = list_locked(disk, path, arena, ret_entries, ret_count);
        mutex_unlock(&disk->mutex);
    }
    return os_errno ? sim_fail(err, os_errno, "list", path) : OCH_OK;
}

static och_code sim_stat(struct io *io, const char *path, struct io_entry *ret_entry,
                         och_error *err)
{
    struct disk *disk = disk_of(io);
    int os_errno = disk_count(disk, IO_SIM_READ);
    if (!os_errno) {
        struct place place;
        mutex_lock(&disk->mutex);
        os_errno = place_find(disk, path, &place);
        if (os_errno == ENOTDIR || (!os_errno && !place.node))
            os_errno = ENOENT;
        if (!os_errno) {
            const char *slash = strrchr(path, '/');
            ret_entry->name = slash ? slash + 1 : path;
            ret_entry->is_folder = place.node->is_folder;
            ret_entry->size = place.node->is_folder ? 0 : node_size(place.node);
        }
        mutex_unlock(&disk->mutex);
    }
    return os_errno ? sim_fail(err, os_errno, "find", path) : OCH_OK;
}

static och_code sim_space(struct io *io, const char *path, uint64_t *ret_free, och_error *err)
{
    (void)path;
    (void)err;
    struct disk *disk = disk_of(io);
    uint64_t capacity = atomic_load(&disk->capacity_bytes);
    uint64_t used = atomic_load(&disk->used_blocks) * SIM_BLOCK;
    *ret_free = !capacity ? INT64_MAX : used < capacity ? capacity - used : 0;
    return OCH_OK;
}

/* ---- the disk ---- */

struct disk *disk_new(bool keep_history)
{
    static const struct io_ops ops = {
        .open = sim_open,
        .close = sim_close,
        .read = sim_read,
        .write_v = sim_write_v,
        .sync = sim_sync,
        .allocate = sim_allocate,
        .punch = sim_punch,
        .truncate = sim_truncate,
        .size = sim_size,
        .rename = sim_rename,
        .remove = sim_remove,
        .sync_folder = sim_sync_folder,
        .make_folder = sim_make_folder,
        .list = sim_list,
        .stat = sim_stat,
        .space = sim_space,
        .lock = sim_lock,
    };
    struct disk *disk = MEM_NEW(struct disk);
    if (!disk)
        return NULL;
    disk->io.ops = &ops;
    disk->keep_history = keep_history;
    disk->name_changes_end = &disk->name_changes;
    mutex_init(&disk->mutex, RANK_LEAF);
    disk->root = node_new(disk, true);
    if (!disk->root) {
        mutex_done(&disk->mutex);
        mem_free(disk);
        return NULL;
    }
    return disk;
}

struct io *io_sim_new(bool keep_history)
{
    struct disk *disk = disk_new(keep_history);
    return disk ? &disk->io : NULL;
}

void io_sim_free(struct io *io)
{
    if (!io)
        return;
    struct disk *disk = disk_of(io);
    assert(disk->open_files == 0 && "close files before their disk");
    while (disk->name_changes) {
        struct name_change *next = disk->name_changes->next;
        name_change_free(disk, disk->name_changes);
        disk->name_changes = next;
    }
    node_unref(disk, disk->root);
    assert(!disk->all);
    mutex_done(&disk->mutex);
    mem_free(disk);
}

void io_sim_fail_at(struct io *io, enum io_sim_operation kind, uint64_t nth, int os_errno,
                    bool stuck)
{
    struct disk *disk = disk_of(io);
    atomic_store(&disk->fail_at[kind], 0);
    atomic_store(&disk->fail_errno[kind], os_errno);
    atomic_store(&disk->fail_stuck[kind], stuck);
    if (nth)
        atomic_store(&disk->fail_at[kind], atomic_load(&disk->counts[kind]) + nth);
}

uint64_t io_sim_count(struct io *io, enum io_sim_operation kind)
{
    return atomic_load(&disk_of(io)->counts[kind]);
}

void io_sim_set_capacity(struct io *io, uint64_t bytes)
{
    atomic_store(&disk_of(io)->capacity_bytes, bytes);
}

/* The damage is on the disk itself: programs see it, and no power cut takes it back. */
och_code io_sim_poke(struct io *io, const char *path, uint64_t offset, const void *at, size_t len,
                     och_error *err)
{
    struct disk *disk = disk_of(io);
    struct place place;
    mutex_lock(&disk->mutex);
    int os_errno = place_find(disk, path, &place);
    if (!os_errno && !place.node)
        os_errno = ENOENT;
    if (!os_errno && place.node->is_folder)
        os_errno = EISDIR;
    if (!os_errno && (offset > SIM_SIZE_MAX || len > SIM_SIZE_MAX - offset))
        os_errno = EFBIG;
    if (!os_errno) {
        struct node *node = place.node;
        mutex_lock(&node->mutex);
        uint64_t missing = content_missing(&node->now, offset, len);
        bool done = content_write(&node->now, offset, at, len) &&
                    (!disk->keep_history || content_write(&node->durable, offset, at, len));
        missing -= content_missing(&node->now, offset, len);
        mutex_unlock(&node->mutex);
        atomic_fetch_add(&disk->used_blocks, missing);
        os_errno = done ? 0 : ENOMEM;
    }
    mutex_unlock(&disk->mutex);
    return os_errno ? sim_fail(err, os_errno, "damage", path) : OCH_OK;
}
