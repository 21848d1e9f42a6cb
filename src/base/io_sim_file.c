/* SPDX-License-Identifier: Apache-2.0 */
/* Calls on open files of the simulated disk. */
#include "base/io_sim_private.h"

#include <errno.h>
#include <string.h>

struct sim_file {
    struct file file;
    struct disk *disk;
    struct node *node; /* a reference */
    bool writable, locked, shared;
    char path[];
};

static struct sim_file *mine(struct file *file)
{
    return CONTAINER_OF(file, struct sim_file, file);
}

/* ---- contents ---- */

static void change_append(struct node *node, struct change *change)
{
    *node->changes_end = change;
    node->changes_end = &change->next;
}

bool change_apply(struct content *content, const struct change *change)
{
    switch (change->kind) {
    case CHANGE_WRITE:
        return content_write(content, change->offset, change->data, (size_t)change->len);
    case CHANGE_ALLOCATE:
        return content_reserve(content, change->offset, change->len);
    case CHANGE_ZERO:
        (void)content_zero(content, change->offset, change->len);
        return true;
    case CHANGE_SIZE:
        (void)content_set_size(content, change->offset);
        return true;
    }
    return true;
}

static bool take_blocks(struct disk *disk, uint64_t blocks)
{
    uint64_t capacity = atomic_load_explicit(&disk->capacity_bytes, memory_order_relaxed);
    uint64_t used = atomic_load_explicit(&disk->used_blocks, memory_order_relaxed);
    do {
        if (blocks && capacity && (used + blocks) * SIM_BLOCK > capacity)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&disk->used_blocks, &used, used + blocks,
                                                    memory_order_relaxed, memory_order_relaxed));
    return true;
}

static void give_blocks(struct disk *disk, uint64_t blocks)
{
    atomic_fetch_sub_explicit(&disk->used_blocks, blocks, memory_order_relaxed);
}

/* Under the node's mutex: change what programs see, and remember it until the next sync. */
static int node_change(struct disk *disk, struct node *node, enum change_kind kind, uint64_t offset,
                       uint64_t len, const void *data)
{
    bool grows = kind == CHANGE_WRITE || kind == CHANGE_ALLOCATE;
    if (offset > SIM_SIZE_MAX || (grows && len > SIM_SIZE_MAX - offset))
        return EFBIG;
    struct change *change = NULL;
    size_t data_size = kind == CHANGE_WRITE ? (size_t)len : 0;
    if (disk->keep_history) {
        change = mem_alloc(sizeof(*change) + data_size);
        if (!change)
            return ENOMEM;
        *change = (struct change){.kind = kind, .offset = offset, .len = len};
        if (data_size)
            memcpy(change->data, data, data_size);
    }
    uint64_t before = grows ? content_missing(&node->now, offset, len) : 0;
    if (!take_blocks(disk, before)) {
        mem_free(change);
        return ENOSPC;
    }
    bool done = true;
    if (kind == CHANGE_WRITE)
        done = content_write(&node->now, offset, data, data_size);
    else if (kind == CHANGE_ALLOCATE)
        done = content_reserve(&node->now, offset, len);
    else if (kind == CHANGE_ZERO)
        give_blocks(disk, content_zero(&node->now, offset, len));
    else
        give_blocks(disk, content_set_size(&node->now, offset));
    if (!done) {
        give_blocks(disk, content_missing(&node->now, offset, len));
        mem_free(change);
        return ENOMEM;
    }
    if (change) {
        change->size_after = node->now.size;
        change_append(node, change);
    }
    return 0;
}

static int file_change(struct file *file, enum change_kind kind, uint64_t offset, uint64_t len,
                       const void *data)
{
    struct sim_file *self = mine(file);
    if (!self->writable)
        return EBADF;
    mutex_lock(&self->node->mutex);
    int os_errno = node_change(self->disk, self->node, kind, offset, len, data);
    mutex_unlock(&self->node->mutex);
    return os_errno;
}

/* ---- calls on files ---- */

och_code sim_read(struct file *file, uint64_t offset, void *at, size_t len, size_t *ret_len,
                  och_error *err)
{
    struct sim_file *self = mine(file);
    int os_errno = disk_count(self->disk, IO_SIM_READ);
    if (os_errno)
        return sim_fail(err, os_errno, "read", self->path);
    struct node *node = self->node;
    mutex_lock(&node->mutex);
    uint64_t left = offset < node->now.size ? node->now.size - offset : 0;
    size_t got = (size_t)(len < left ? len : left);
    content_read(&node->now, offset, at, got);
    mutex_unlock(&node->mutex);
    *ret_len = got;
    return OCH_OK;
}

/* Of a write that fails, a part is there: as much as fits, or half when the failure was ordered. */
static int write_part(struct file *file, uint64_t offset, const uint8_t *at, size_t len)
{
    int os_errno = file_change(file, CHANGE_WRITE, offset, len, at);
    if (os_errno != ENOSPC)
        return os_errno;
    while (len > 0) {
        size_t some = min_size(len, SIM_BLOCK - (size_t)(offset % SIM_BLOCK));
        if (file_change(file, CHANGE_WRITE, offset, some, at) != 0)
            break;
        at += some;
        offset += some;
        len -= some;
    }
    return ENOSPC;
}

/* How much of a write is there that was told to fail: half, but no sector that was there before is left half old, half new;
 * neither a kernel nor a disk does that. */
static size_t half_of(struct file *file, uint64_t offset, size_t whole)
{
    struct node *node = mine(file)->node;
    uint64_t end = offset + whole / 2;
    mutex_lock(&node->mutex);
    if (end < node->now.size)
        end -= end % SIM_SECTOR;
    mutex_unlock(&node->mutex);
    return end > offset ? (size_t)(end - offset) : 0;
}

och_code sim_write_v(struct file *file, uint64_t offset, const struct iovec *parts, size_t count,
                     och_error *err)
{
    int ordered = disk_count(mine(file)->disk, IO_SIM_WRITE), os_errno = 0;
    size_t whole = 0, left;
    for (size_t i = 0; i < count; i++)
        whole += parts[i].iov_len;
    left = ordered ? half_of(file, offset, whole) : whole;
    for (size_t i = 0; i < count && left > 0 && !os_errno; i++) {
        size_t some = min_size(parts[i].iov_len, left);
        if (some)
            os_errno = write_part(file, offset, parts[i].iov_base, some);
        offset += some;
        left -= some;
    }
    os_errno = ordered ? ordered : os_errno;
    return os_errno ? sim_fail(err, os_errno, "write", file->path) : OCH_OK;
}

/* After a failed sync the kernel holds the pages for clean: no later sync writes them. */
static int node_sync(struct node *node, int ordered)
{
    for (struct change *change = node->changes; ordered && change; change = change->next)
        change->lost = true;
    if (ordered)
        return ordered;
    while (node->changes) {
        struct change *change = node->changes;
        if (!change->lost && !change_apply(&node->durable, change))
            return ENOMEM;
        node->changes = change->next;
        mem_free(change);
    }
    node->changes_end = &node->changes;
    return 0;
}

och_code sim_sync(struct file *file, och_error *err)
{
    struct sim_file *self = mine(file);
    int os_errno = disk_count(self->disk, IO_SIM_SYNC);
    mutex_lock(&self->node->mutex);
    os_errno = node_sync(self->node, os_errno);
    mutex_unlock(&self->node->mutex);
    return os_errno ? sim_fail(err, os_errno, "sync", self->path) : OCH_OK;
}

static och_code change_call(struct file *file, enum change_kind kind, uint64_t offset, uint64_t len,
                            const char *verb, och_error *err)
{
    int os_errno = disk_count(mine(file)->disk, IO_SIM_WRITE);
    if (!os_errno)
        os_errno = file_change(file, kind, offset, len, NULL);
    return os_errno ? sim_fail(err, os_errno, verb, file->path) : OCH_OK;
}

och_code sim_allocate(struct file *file, uint64_t offset, uint64_t len, och_error *err)
{
    return change_call(file, CHANGE_ALLOCATE, offset, len, "reserve space for", err);
}

och_code sim_punch(struct file *file, uint64_t offset, uint64_t len, och_error *err)
{
    return change_call(file, CHANGE_ZERO, offset, len, "free space of", err);
}

och_code sim_truncate(struct file *file, uint64_t size, och_error *err)
{
    return change_call(file, CHANGE_SIZE, size, 0, "set the size of", err);
}

uint64_t node_size(struct node *node)
{
    mutex_lock(&node->mutex);
    uint64_t size = node->now.size;
    mutex_unlock(&node->mutex);
    return size;
}

och_code sim_size(struct file *file, uint64_t *ret_size, och_error *err)
{
    (void)err;
    *ret_size = node_size(mine(file)->node);
    return OCH_OK;
}

/* ---- opening ---- */

/* Under the disk's mutex: the node to open, with a reference taken. */
static int node_open(struct disk *disk, const char *path, unsigned flags, struct node **ret_node)
{
    struct place place;
    int os_errno = place_find(disk, path, &place);
    if (os_errno)
        return os_errno;
    if (!place.node) {
        if (!(flags & IO_CREATE))
            return ENOENT;
        struct node *node = node_new(disk, false);
        if (!node)
            return ENOMEM;
        os_errno = names_change(disk, NAME_LINK, &place, NULL, node);
        if (os_errno)
            node_unref(disk, node);
        else
            *ret_node = node;
        return os_errno;
    }
    if (flags & IO_CREATE && flags & IO_EXCLUSIVE)
        return EEXIST;
    if (place.node->is_folder)
        return EISDIR;
    if (flags & IO_TRUNCATE) {
        mutex_lock(&place.node->mutex);
        os_errno = node_change(disk, place.node, CHANGE_SIZE, 0, 0, NULL);
        mutex_unlock(&place.node->mutex);
        if (os_errno)
            return os_errno;
    }
    node_ref(place.node);
    *ret_node = place.node;
    return 0;
}

/* Open, without counting; the caller holds the disk's mutex. */
static int open_locked(struct disk *disk, const char *path, unsigned flags,
                       struct sim_file **ret_file)
{
    size_t size = strlen(path) + 1;
    struct sim_file *file = mem_zalloc(sizeof(*file) + size);
    if (!file)
        return ENOMEM;
    int os_errno = node_open(disk, path, flags, &file->node);
    if (os_errno) {
        mem_free(file);
        return os_errno;
    }
    memcpy(file->path, path, size);
    file->file = (struct file){.io = &disk->io, .path = file->path};
    file->disk = disk;
    file->writable = flags & IO_WRITE;
    disk->open_files++;
    *ret_file = file;
    return 0;
}

och_code sim_open(struct io *io, const char *path, unsigned flags, struct file **ret_file,
                  och_error *err)
{
    struct disk *disk = disk_of(io);
    struct sim_file *file = NULL;
    int os_errno = disk_count(disk, IO_SIM_OPEN);
    if (!os_errno) {
        mutex_lock(&disk->mutex);
        os_errno = open_locked(disk, path, flags, &file);
        mutex_unlock(&disk->mutex);
    }
    if (os_errno)
        return sim_fail(err, os_errno, "open", path);
    *ret_file = &file->file;
    return OCH_OK;
}

static void close_locked(struct sim_file *file)
{
    if (file->locked && file->shared)
        file->node->shared_locks--;
    else if (file->locked)
        file->node->locked = false;
    file->disk->open_files--;
    node_unref(file->disk, file->node);
    mem_free(file);
}

void sim_close(struct file *file)
{
    struct disk *disk = mine(file)->disk;
    mutex_lock(&disk->mutex);
    close_locked(mine(file));
    mutex_unlock(&disk->mutex);
}

static slice read_holder(struct node *node, struct arena *arena)
{
    size_t len = (size_t)(node->now.size < 4096 ? node->now.size : 4096);
    uint8_t *text = arena ? arena_alloc(arena, len + 1) : NULL;
    if (!text)
        return SLICE_NONE;
    content_read(&node->now, 0, text, len);
    text[len] = '\0';
    return (slice){text, len};
}

och_code sim_lock(struct io *io, const char *path, bool shared, struct arena *arena,
                  struct file **ret_file, slice *ret_holder, och_error *err)
{
    struct disk *disk = disk_of(io);
    struct sim_file *file = NULL;
    int os_errno = disk_count(disk, IO_SIM_OPEN);
    if (os_errno)
        return sim_fail(err, os_errno, "open lock", path);
    mutex_lock(&disk->mutex);
    os_errno = open_locked(disk, path, IO_WRITE | IO_CREATE, &file);
    if (os_errno) {
        mutex_unlock(&disk->mutex);
        return sim_fail(err, os_errno, "open lock", path);
    }
    struct node *node = file->node;
    bool taken = !node->locked && (shared || !node->shared_locks);
    if (taken) {
        file->locked = true;
        file->shared = shared;
        if (shared)
            node->shared_locks++;
        else
            node->locked = true;
        *ret_file = &file->file;
    } else {
        mutex_lock(&node->mutex);
        if (ret_holder)
            *ret_holder = read_holder(node, arena);
        mutex_unlock(&node->mutex);
        close_locked(file);
    }
    mutex_unlock(&disk->mutex);
    return taken ? OCH_OK : FAIL(err, OCH_IN_USE, "%s is locked by another handle", path);
}
