/* SPDX-License-Identifier: Apache-2.0 */
/* The simulated disk: calls on files and names.  Absolute and relative paths mean the same; ".." is
 * refused.  What a power cut leaves is decided in io_sim_crash.c. */
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

struct disk *disk_of(struct io *io)
{
    return CONTAINER_OF(io, struct disk, io);
}

static struct sim_file *mine(struct file *file)
{
    return CONTAINER_OF(file, struct sim_file, file);
}

static och_code fail(och_error *err, int os_errno, const char *verb, const char *path)
{
    och_code code = os_errno == ENOENT   ? OCH_NOT_FOUND
                    : os_errno == ENOMEM ? OCH_NO_MEMORY
                    : os_errno == EEXIST ? OCH_EXISTS
                                         : OCH_IO;
    return FAIL_OS(err, code, os_errno, "cannot %s %s", verb, path);
}

/* Count the operation; the errno it must fail with, or 0. */
static int count(struct disk *disk, enum io_sim_operation kind)
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

/* ---- names ---- */

struct place {
    struct node *folder; /* NULL for the root itself */
    slice name;
    struct node *node; /* NULL when the name is free */
};

/* Find what a path means; 0 or an errno.  The last name may be missing, a folder before it not. */
static int place_find(struct disk *disk, const char *path, struct place *ret)
{
    *ret = (struct place){.node = disk->root};
    const char *at = path;
    for (;;) {
        at += strspn(at, "/");
        size_t len = strcspn(at, "/");
        if (len == 0)
            return 0;
        if (len == 2 && memcmp(at, "..", 2) == 0)
            return EINVAL;
        if (len == 1 && at[0] == '.') {
            at += len;
            continue;
        }
        if (!ret->node)
            return ENOENT;
        if (!ret->node->is_folder)
            return ENOTDIR;
        size_t i;
        ret->folder = ret->node;
        ret->name = slice_make(at, len);
        const name_list *list = &ret->folder->lists[LIST_NOW];
        ret->node = names_find(list, ret->name, &i) ? list->at[i].node : NULL;
        at += len;
    }
}

static void name_change_free(struct disk *disk, struct name_change *change)
{
    if (change->folder)
        node_unref(disk, change->folder);
    if (change->to_folder)
        node_unref(disk, change->to_folder);
    if (change->node)
        node_unref(disk, change->node);
    mem_free(change->text);
    mem_free(change->to_text);
    mem_free(change);
}

static void name_changes_append(struct disk *disk, struct name_change *change)
{
    *disk->name_changes_end = change;
    disk->name_changes_end = &change->next;
}

/* Do a change of names, and remember it until the folder is synced. */
static int name_change(struct disk *disk, enum name_change_kind kind, const struct place *from,
                       const struct place *to, struct node *node)
{
    struct name_change *change = MEM_NEW(struct name_change);
    if (!change)
        return ENOMEM;
    change->kind = kind;
    node_ref(change->folder = from->folder);
    node_ref(change->node = node);
    change->text = mem_copy_text(from->name.at, from->name.len);
    if (to) {
        node_ref(change->to_folder = to->folder);
        change->to_text = mem_copy_text(to->name.at, to->name.len);
    }
    if (!change->text || (to && !change->to_text) || !name_change_apply(disk, LIST_NOW, change)) {
        name_change_free(disk, change);
        return ENOMEM;
    }
    if (disk->keep_history)
        name_changes_append(disk, change);
    else
        name_change_free(disk, change);
    return 0;
}

/* Make durable what touches the folder, and what that builds on in other folders. */
static int names_sync(struct disk *disk, const struct node *folder)
{
    for (struct name_change *change = disk->name_changes; change; change = change->next)
        change->marked = change->folder == folder || change->to_folder == folder;
    bool more = true;
    while (more) {
        more = false;
        for (struct name_change *early = disk->name_changes; early; early = early->next) {
            if (early->marked)
                continue;
            for (const struct name_change *late = early->next; late && !early->marked;
                 late = late->next)
                early->marked = late->marked && name_changes_touch(early, late);
            more |= early->marked;
        }
    }
    struct name_change **link = &disk->name_changes;
    while (*link) {
        struct name_change *change = *link;
        if (!change->marked) {
            link = &change->next;
            continue;
        }
        if (!name_change_apply(disk, LIST_DURABLE, change))
            return ENOMEM;
        *link = change->next;
        if (!*link)
            disk->name_changes_end = link;
        name_change_free(disk, change);
    }
    return 0;
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

static och_code sim_read(struct file *file, uint64_t offset, void *at, size_t len, size_t *ret_len,
                         och_error *err)
{
    struct sim_file *self = mine(file);
    int os_errno = count(self->disk, IO_SIM_READ);
    if (os_errno)
        return fail(err, os_errno, "read", self->path);
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

static och_code sim_write_v(struct file *file, uint64_t offset, const struct iovec *parts,
                            size_t count_of_parts, och_error *err)
{
    int ordered = count(mine(file)->disk, IO_SIM_WRITE), os_errno = 0;
    size_t whole = 0, left;
    for (size_t i = 0; i < count_of_parts; i++)
        whole += parts[i].iov_len;
    left = ordered ? whole / 2 : whole;
    for (size_t i = 0; i < count_of_parts && left > 0 && !os_errno; i++) {
        size_t some = min_size(parts[i].iov_len, left);
        if (some)
            os_errno = write_part(file, offset, parts[i].iov_base, some);
        offset += some;
        left -= some;
    }
    os_errno = ordered ? ordered : os_errno;
    return os_errno ? fail(err, os_errno, "write", file->path) : OCH_OK;
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

static och_code sim_sync(struct file *file, och_error *err)
{
    struct sim_file *self = mine(file);
    int os_errno = count(self->disk, IO_SIM_SYNC);
    mutex_lock(&self->node->mutex);
    os_errno = node_sync(self->node, os_errno);
    mutex_unlock(&self->node->mutex);
    return os_errno ? fail(err, os_errno, "sync", self->path) : OCH_OK;
}

static och_code change_call(struct file *file, enum change_kind kind, uint64_t offset, uint64_t len,
                            const char *verb, och_error *err)
{
    int os_errno = count(mine(file)->disk, IO_SIM_WRITE);
    if (!os_errno)
        os_errno = file_change(file, kind, offset, len, NULL);
    return os_errno ? fail(err, os_errno, verb, file->path) : OCH_OK;
}

static och_code sim_allocate(struct file *file, uint64_t offset, uint64_t len, och_error *err)
{
    return change_call(file, CHANGE_ALLOCATE, offset, len, "reserve space for", err);
}

static och_code sim_punch(struct file *file, uint64_t offset, uint64_t len, och_error *err)
{
    return change_call(file, CHANGE_ZERO, offset, len, "free space of", err);
}

static och_code sim_truncate(struct file *file, uint64_t size, och_error *err)
{
    return change_call(file, CHANGE_SIZE, size, 0, "set the size of", err);
}

static uint64_t node_size(struct node *node)
{
    mutex_lock(&node->mutex);
    uint64_t size = node->now.size;
    mutex_unlock(&node->mutex);
    return size;
}

static och_code sim_size(struct file *file, uint64_t *ret_size, och_error *err)
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
        os_errno = name_change(disk, NAME_LINK, &place, NULL, node);
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

static och_code sim_open(struct io *io, const char *path, unsigned flags, struct file **ret_file,
                         och_error *err)
{
    struct disk *disk = disk_of(io);
    struct sim_file *file = NULL;
    int os_errno = count(disk, IO_SIM_OPEN);
    if (!os_errno) {
        mutex_lock(&disk->mutex);
        os_errno = open_locked(disk, path, flags, &file);
        mutex_unlock(&disk->mutex);
    }
    if (os_errno)
        return fail(err, os_errno, "open", path);
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

static void sim_close(struct file *file)
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

static och_code sim_lock(struct io *io, const char *path, bool shared, struct arena *arena,
                         struct file **ret_file, slice *ret_holder, och_error *err)
{
    struct disk *disk = disk_of(io);
    struct sim_file *file = NULL;
    int os_errno = count(disk, IO_SIM_OPEN);
    if (os_errno)
        return fail(err, os_errno, "open lock", path);
    mutex_lock(&disk->mutex);
    os_errno = open_locked(disk, path, IO_WRITE | IO_CREATE, &file);
    if (os_errno) {
        mutex_unlock(&disk->mutex);
        return fail(err, os_errno, "open lock", path);
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
    return name_change(disk, NAME_RENAME, &source, &target, source.node);
}

static och_code sim_rename(struct io *io, const char *from, const char *to, och_error *err)
{
    struct disk *disk = disk_of(io);
    int os_errno = count(disk, IO_SIM_RENAME);
    if (!os_errno) {
        mutex_lock(&disk->mutex);
        os_errno = rename_locked(disk, from, to);
        mutex_unlock(&disk->mutex);
    }
    if (!os_errno)
        return OCH_OK;
    och_code code = fail(err, os_errno, "rename", from);
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
    return name_change(disk, NAME_UNLINK, &place, NULL, place.node);
}

static och_code sim_remove(struct io *io, const char *path, och_error *err)
{
    struct disk *disk = disk_of(io);
    int os_errno = count(disk, IO_SIM_REMOVE);
    if (!os_errno) {
        mutex_lock(&disk->mutex);
        os_errno = remove_locked(disk, path);
        mutex_unlock(&disk->mutex);
    }
    return os_errno ? fail(err, os_errno, "remove", path) : OCH_OK;
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
    int os_errno = count(disk, IO_SIM_SYNC);
    if (!os_errno) {
        mutex_lock(&disk->mutex);
        os_errno = folder_at(disk, path, &folder);
        if (!os_errno)
            os_errno = names_sync(disk, folder);
        mutex_unlock(&disk->mutex);
    }
    return os_errno ? fail(err, os_errno, "sync folder", path) : OCH_OK;
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
            os_errno = node ? name_change(disk, NAME_LINK, &place, NULL, node) : ENOMEM;
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
    int os_errno = count(disk, IO_SIM_ANY);
    if (!os_errno && !copy)
        os_errno = ENOMEM;
    if (!os_errno) {
        mutex_lock(&disk->mutex);
        os_errno = make_locked(disk, copy);
        mutex_unlock(&disk->mutex);
    }
    return os_errno ? fail(err, os_errno, "make folder", path) : OCH_OK;
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
    int os_errno = count(disk, IO_SIM_READ);
    if (!os_errno) {
        mutex_lock(&disk->mutex);
        os_errno = list_locked(disk, path, arena, ret_entries, ret_count);
        mutex_unlock(&disk->mutex);
    }
    return os_errno ? fail(err, os_errno, "list", path) : OCH_OK;
}

static och_code sim_stat(struct io *io, const char *path, struct io_entry *ret_entry,
                         och_error *err)
{
    struct disk *disk = disk_of(io);
    int os_errno = count(disk, IO_SIM_READ);
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
    return os_errno ? fail(err, os_errno, "find", path) : OCH_OK;
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
    return os_errno ? fail(err, os_errno, "damage", path) : OCH_OK;
}
