/* SPDX-License-Identifier: Apache-2.0 */
/* Blobs as files: <folder>/<first byte, hex>/<32 hex>.blob.  A blob is written as "<name>.new" and gets its name when its bytes are
 * durable, so a name stands for a whole blob.  docs/formats/store.md. */
#include "base/sched.h"
#include "base/vec.h"
#include "store/store.h"

#include <inttypes.h>
#include <stdio.h>

#define FILES_MAX    128
#define BUFFER_BYTES (1u << 20)
#define OUT_STEP     (8u << 20)
#define NAME_DIGITS  32

/* One open file and who uses it.  Out of the table (removed, or displaced) it is closed by its last user. */
struct open_file {
    struct file *file;
    object_id id;
    uint32_t users;
    bool listed;
    uint64_t used_at; /* of the table's clock */
};

struct store_folder {
    struct store store;
    struct io *io;
    struct io_reader *reader;
    char *path;
    struct mutex mutex; /* guards: all below */
    struct open_file *files[FILES_MAX];
    size_t file_count;
    uint64_t clock;
    bool folder_synced[256]; /* its name in the parent is durable */
};

struct folder_writer {
    struct store_writer writer;
    object_id id;
    struct file *file;
    uint8_t *buffer;
    size_t buffered;
    uint64_t flushed, out; /* out: up to here on its way to the disk */
    bool failed;
};

static struct store_folder *folder_of(struct store *store)
{
    return CONTAINER_OF(store, struct store_folder, store);
}

static struct folder_writer *writer_of(struct store_writer *writer)
{
    return CONTAINER_OF(writer, struct folder_writer, writer);
}

static void hex_of(object_id id, char text[NAME_DIGITS + 1])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < 16; i++) {
        text[2 * i] = digits[id.bytes[i] >> 4];
        text[2 * i + 1] = digits[id.bytes[i] & 15];
    }
    text[NAME_DIGITS] = '\0';
}

static int digit_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* "<32 hex>.blob", nothing else */
static bool id_of(const char *name, object_id *ret_id)
{
    if (strlen(name) != NAME_DIGITS + 5 || strcmp(name + NAME_DIGITS, ".blob") != 0)
        return false;
    for (size_t i = 0; i < 16; i++) {
        int high = digit_of(name[2 * i]), low = digit_of(name[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        ret_id->bytes[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

/* <path>/<2 hex>, or with a suffix the blob's file in it; the caller's to mem_free. */
static och_code path_of(const struct store_folder *folder, object_id id, const char *suffix,
                        char **ret_path, och_error *err)
{
    char hex[NAME_DIGITS + 1];
    hex_of(id, hex);
    size_t size = strlen(folder->path) + NAME_DIGITS + 16;
    char *path = mem_alloc(size);
    if (!path)
        return FAIL_NO_MEMORY(err, "a blob's path");
    int len = suffix ? snprintf(path, size, "%s/%.2s/%s%s", folder->path, hex, hex, suffix)
                     : snprintf(path, size, "%s/%.2s", folder->path, hex);
    assert(len > 0 && (size_t)len < size);
    *ret_path = path;
    return OCH_OK;
}

/* ---- open files ---- */

static struct open_file *find_listed(struct store_folder *folder, object_id id, size_t *ret_index)
{
    for (size_t i = 0; i < folder->file_count; i++) {
        if (memcmp(folder->files[i]->id.bytes, id.bytes, sizeof(id.bytes)) == 0) {
            *ret_index = i;
            return folder->files[i];
        }
    }
    return NULL;
}

/* Take one out of the table; returns it when nobody uses it and the caller must close it. */
static struct open_file *unlist(struct store_folder *folder, size_t index)
{
    struct open_file *open = folder->files[index];
    folder->files[index] = folder->files[--folder->file_count];
    open->listed = false;
    return open->users ? NULL : open;
}

static void open_file_free(struct open_file *open)
{
    if (open) {
        file_close(open->file);
        mem_free(open);
    }
}

/* Make room for one more; returns what the caller must close. */
static struct open_file *displace(struct store_folder *folder)
{
    size_t oldest = FILES_MAX;
    for (size_t i = 0; i < folder->file_count; i++) {
        if (!folder->files[i]->users &&
            (oldest == FILES_MAX || folder->files[i]->used_at < folder->files[oldest]->used_at))
            oldest = i;
    }
    return oldest == FILES_MAX ? NULL : unlist(folder, oldest);
}

static och_code open_new(struct store_folder *folder, object_id id, struct open_file **ret_open,
                         och_error *err)
{
    CLEANUP(mem_cleanup) char *path = NULL;
    TRY(path_of(folder, id, ".blob", &path, err));
    struct open_file *open = MEM_NEW(struct open_file);
    if (!open)
        return FAIL_NO_MEMORY(err, "an open blob");
    och_code code = io_open(folder->io, path, IO_SCATTERED, &open->file, err);
    if (code != OCH_OK) {
        mem_free(open);
        if (code == OCH_NOT_FOUND)
            error_context(err, "blob is missing");
        return code;
    }
    open->id = id;
    *ret_open = open;
    return OCH_OK;
}

/* A blob's open file, counted. */
static och_code use(struct store_folder *folder, object_id id, struct open_file **ret_open,
                    och_error *err)
{
    size_t index;
    mutex_lock(&folder->mutex);
    struct open_file *open = find_listed(folder, id, &index);
    if (open) {
        open->users++;
        open->used_at = ++folder->clock;
    }
    mutex_unlock(&folder->mutex);
    if (!open) {
        struct open_file *mine = NULL, *spare = NULL;
        TRY(open_new(folder, id, &mine, err));
        mutex_lock(&folder->mutex);
        open = find_listed(folder, id, &index);
        if (open) { // another thread was faster
            spare = mine;
        } else {
            open = mine;
            if (folder->file_count == FILES_MAX)
                spare = displace(folder);
            if (folder->file_count < FILES_MAX) {
                folder->files[folder->file_count++] = open;
                open->listed = true;
            }
        }
        open->users++;
        open->used_at = ++folder->clock;
        mutex_unlock(&folder->mutex);
        open_file_free(spare);
    }
    *ret_open = open;
    return OCH_OK;
}

static void unuse(struct store_folder *folder, struct open_file *open)
{
    mutex_lock(&folder->mutex);
    bool last = --open->users == 0 && !open->listed;
    mutex_unlock(&folder->mutex);
    if (last)
        open_file_free(open);
}

/* ---- reading ---- */

static och_code folder_read(struct store *store, object_id id, uint64_t offset, void *at,
                            size_t len, och_error *err)
{
    struct store_folder *folder = folder_of(store);
    struct open_file *open;
    TRY(use(folder, id, &open, err));
    och_code code = file_read_all(open->file, offset, at, len, err);
    unuse(folder, open);
    return code;
}

static void folder_read_batch(struct store *store, object_id id, struct io_read *reads,
                              size_t count)
{
    struct store_folder *folder = folder_of(store);
    struct open_file *open;
    och_code code = use(folder, id, &open, NULL);
    if (code != OCH_OK) {
        for (size_t i = 0; i < count; i++)
            reads[i].code = code;
        return;
    }
    for (size_t i = 0; i < count; i++)
        reads[i].file = open->file;
    io_read_batch(folder->reader, reads, count);
    for (size_t i = 0; i < count; i++) {
        reads[i].code = io_read_result(&reads[i], NULL);
        reads[i].file = NULL; // it may be gone from here on
    }
    unuse(folder, open);
}

static void folder_expect(struct store *store, object_id id, uint64_t offset, uint64_t len)
{
    struct store_folder *folder = folder_of(store);
    struct open_file *open;
    if (use(folder, id, &open, NULL) != OCH_OK)
        return; // whoever reads will say so
    file_expect(open->file, offset, len);
    unuse(folder, open);
}

static och_code folder_size(struct store *store, object_id id, uint64_t *ret_size, och_error *err)
{
    struct store_folder *folder = folder_of(store);
    struct open_file *open;
    TRY(use(folder, id, &open, err));
    och_code code = file_size(open->file, ret_size, err);
    unuse(folder, open);
    return code;
}

static och_code folder_list(struct store *store, struct arena *arena, object_id **ret_ids,
                            size_t *ret_count, och_error *err)
{
    struct store_folder *folder = folder_of(store);
    VEC(object_id) ids = {0};
    struct io_entry *fans = NULL, *names = NULL;
    size_t fan_count = 0, name_count = 0;
    och_code code = io_list(folder->io, folder->path, arena, &fans, &fan_count, err);
    for (size_t i = 0; code == OCH_OK && i < fan_count; i++) {
        const char *fan = fans[i].name;
        if (!fans[i].is_folder || strlen(fan) != 2 || digit_of(fan[0]) < 0 || digit_of(fan[1]) < 0)
            continue;
        const char *path = arena_printf(arena, "%s/%s", folder->path, fan);
        code = path ? io_list(folder->io, path, arena, &names, &name_count, err)
                    : FAIL_NO_MEMORY(err, "a list of blobs");
        for (size_t j = 0; code == OCH_OK && j < name_count; j++) {
            object_id id;
            if (id_of(names[j].name, &id) && !VEC_PUSH(&ids, id))
                code = FAIL_NO_MEMORY(err, "a list of blobs");
        }
    }
    object_id *copy = NULL;
    if (code == OCH_OK && !(copy = ARENA_ARRAY(arena, object_id, ids.len)))
        code = FAIL_NO_MEMORY(err, "a list of blobs");
    if (code == OCH_OK) {
        if (ids.len)
            memcpy(copy, ids.at, ids.len * sizeof(object_id));
        *ret_ids = copy;
        *ret_count = ids.len;
    }
    VEC_DONE(&ids);
    return code;
}

/* ---- writing ---- */

static void writer_free(struct folder_writer *writer)
{
    if (!writer)
        return;
    file_close(writer->file);
    mem_free(writer->buffer);
    mem_free(writer);
}

static och_code folder_create(struct store *store, object_id id, struct store_writer **ret_writer,
                              och_error *err)
{
    struct store_folder *folder = folder_of(store);
    CLEANUP(mem_cleanup) char *fan = NULL;
    CLEANUP(mem_cleanup) char *path = NULL;
    CLEANUP(mem_cleanup) char *name = NULL;
    TRY(path_of(folder, id, NULL, &fan, err));
    TRY(path_of(folder, id, ".new", &path, err));
    TRY(path_of(folder, id, ".blob", &name, err));
    TRY(io_make_folder(folder->io, fan, err));
    struct io_entry entry;
    och_code code = io_stat(folder->io, name, &entry, NULL);
    if (code == OCH_OK)
        return FAIL(err, OCH_EXISTS, "blob %s is there already", name);
    struct folder_writer *writer = MEM_NEW(struct folder_writer);
    if (!writer)
        return FAIL_NO_MEMORY(err, "a blob's writer");
    writer->buffer = mem_alloc(BUFFER_BYTES);
    code = writer->buffer
               ? io_open(folder->io, path, IO_WRITE | IO_CREATE | IO_EXCLUSIVE, &writer->file, err)
               : FAIL_NO_MEMORY(err, "a blob's writer");
    if (code != OCH_OK) {
        writer_free(writer);
        return code;
    }
    writer->writer.store = store;
    writer->id = id;
    *ret_writer = &writer->writer;
    return OCH_OK;
}

/* A large blob goes to the disk while it is made, two steps at a time: its sync finds little left, and the log's does not wait behind all of it. */
static och_code write_out(struct folder_writer *writer, och_error *err)
{
    uint64_t before = writer->out < OUT_STEP ? writer->out : OUT_STEP;
    if (before)
        TRY(file_write_out(writer->file, writer->out - before, before, true, err));
    TRY(file_write_out(writer->file, writer->out, writer->flushed - writer->out, false, err));
    writer->out = writer->flushed;
    return OCH_OK;
}

/* What failed once is not tried again: the file's state is unknown (D11). */
static och_code flush(struct folder_writer *writer, const void *at, size_t len, och_error *err)
{
    if (writer->failed)
        return FAIL(err, OCH_IO, "%s: an earlier write failed", file_path(writer->file));
    if (!len)
        return OCH_OK;
    och_code code = file_write(writer->file, writer->flushed, at, len, err);
    writer->failed = code != OCH_OK;
    if (code == OCH_OK)
        writer->flushed += len;
    if (code == OCH_OK && writer->flushed - writer->out >= OUT_STEP) {
        code = write_out(writer, err);
        writer->failed = code != OCH_OK;
    }
    return code;
}

static och_code folder_append(struct store_writer *base, const void *at, size_t len, och_error *err)
{
    struct folder_writer *writer = writer_of(base);
    if (len > BUFFER_BYTES - writer->buffered) {
        TRY(flush(writer, writer->buffer, writer->buffered, err));
        writer->buffered = 0;
        if (len >= BUFFER_BYTES) {
            TRY(flush(writer, at, len, err));
            base->written += len;
            return OCH_OK;
        }
    }
    if (len)
        memcpy(writer->buffer + writer->buffered, at, len);
    writer->buffered += len;
    base->written += len;
    return OCH_OK;
}

static void folder_abandon(struct store_writer *base)
{
    struct folder_writer *writer = writer_of(base);
    struct store_folder *folder = folder_of(base->store);
    char *path = NULL;
    if (path_of(folder, writer->id, ".new", &path, NULL) == OCH_OK) {
        file_close(writer->file);
        writer->file = NULL;
        och_code ignored = io_remove(folder->io, path, NULL); // store_remove tries again
        (void)ignored;
    }
    mem_free(path);
    writer_free(writer);
}

/* Write order: bytes, sync, name, sync of the folder (and of its parent, the first time). */
static och_code settle(struct store_folder *folder, struct folder_writer *writer, och_error *err)
{
    CLEANUP(mem_cleanup) char *fan = NULL;
    CLEANUP(mem_cleanup) char *from = NULL;
    CLEANUP(mem_cleanup) char *to = NULL;
    TRY(path_of(folder, writer->id, NULL, &fan, err));
    TRY(path_of(folder, writer->id, ".new", &from, err));
    TRY(path_of(folder, writer->id, ".blob", &to, err));
    TRY(flush(writer, writer->buffer, writer->buffered, err));
    TRY(file_sync(writer->file, err));
    TRY(io_rename(folder->io, from, to, err));
    TRY(io_sync_folder(folder->io, fan, err));
    mutex_lock(&folder->mutex);
    bool synced = folder->folder_synced[writer->id.bytes[0]];
    mutex_unlock(&folder->mutex);
    if (!synced) {
        TRY(io_sync_folder(folder->io, folder->path, err));
        mutex_lock(&folder->mutex);
        folder->folder_synced[writer->id.bytes[0]] = true;
        mutex_unlock(&folder->mutex);
    }
    return OCH_OK;
}

static och_code folder_remove(struct store *store, object_id id, och_error *err)
{
    struct store_folder *folder = folder_of(store);
    struct open_file *unused = NULL;
    size_t index;
    mutex_lock(&folder->mutex);
    if (find_listed(folder, id, &index))
        unused = unlist(folder, index);
    mutex_unlock(&folder->mutex);
    open_file_free(unused);
    static const char *const suffixes[] = {".blob", ".new"};
    for (size_t i = 0; i < COUNT_OF(suffixes); i++) {
        CLEANUP(mem_cleanup) char *path = NULL;
        TRY(path_of(folder, id, suffixes[i], &path, err));
        och_error mine = {0};
        och_code code = io_remove(folder->io, path, &mine);
        if (code != OCH_OK && code != OCH_NOT_FOUND) {
            if (err)
                *err = mine;
            return code;
        }
    }
    /* Also when the name was gone already: the one who removed it may have failed here.  Until then a power cut brings the
     * blob back, and the catalogue must not forget it. */
    CLEANUP(mem_cleanup) char *fan = NULL;
    och_error mine = {0};
    TRY(path_of(folder, id, NULL, &fan, err));
    och_code code = io_sync_folder(folder->io, fan, &mine);
    if (code != OCH_OK && code != OCH_NOT_FOUND && err)
        *err = mine;
    return code == OCH_NOT_FOUND ? OCH_OK : code;
}

static och_code folder_finish(struct store_writer *base, och_error *err)
{
    struct folder_writer *writer = writer_of(base);
    struct store_folder *folder = folder_of(base->store);
    och_code code = settle(folder, writer, err);
    object_id id = writer->id;
    writer_free(writer);
    if (code != OCH_OK) {
        och_code ignored = folder_remove(&folder->store, id, NULL);
        (void)ignored;
    }
    return code;
}

static och_code folder_punch(struct store *store, object_id id, uint64_t offset, uint64_t len,
                             och_error *err)
{
    struct store_folder *folder = folder_of(store);
    CLEANUP(mem_cleanup) char *path = NULL;
    CLEANUP(file_cleanup) struct file *file = NULL;
    TRY(path_of(folder, id, ".blob", &path, err));
    TRY(io_open(folder->io, path, IO_WRITE, &file, err));
    och_error mine = {0};
    och_code code = file_punch(file, offset, len, &mine);
    if (code == OCH_OK || code == OCH_UNSUPPORTED)
        return OCH_OK;
    if (err)
        *err = mine;
    return code;
}

static void folder_free(struct store *store)
{
    struct store_folder *folder = folder_of(store);
    for (size_t i = 0; i < folder->file_count; i++) {
        assert(folder->files[i]->users == 0);
        open_file_free(folder->files[i]);
    }
    io_reader_free(folder->reader);
    mutex_done(&folder->mutex);
    mem_free(folder->path);
    mem_free(folder);
}

static const struct store_ops folder_ops = {.create = folder_create,
                                            .append = folder_append,
                                            .finish = folder_finish,
                                            .abandon = folder_abandon,
                                            .read = folder_read,
                                            .read_batch = folder_read_batch,
                                            .expect = folder_expect,
                                            .size = folder_size,
                                            .remove = folder_remove,
                                            .punch = folder_punch,
                                            .list = folder_list,
                                            .free = folder_free};

och_code store_folder_new(struct io *io, const char *path, struct store **ret_store, och_error *err)
{
    TRY(io_make_folder(io, path, err)); // its name is durable with it
    struct store_folder *folder = MEM_NEW(struct store_folder);
    if (!folder)
        return FAIL_NO_MEMORY(err, "the store");
    folder->store.ops = &folder_ops;
    folder->io = io;
    mutex_init(&folder->mutex, RANK_LEAF);
    folder->path = mem_copy_text(path, strlen(path));
    och_code code = folder->path ? io_reader_new(io, IO_READER_BEST, &folder->reader, err)
                                 : FAIL_NO_MEMORY(err, "the store");
    if (code != OCH_OK) {
        folder_free(&folder->store);
        return code;
    }
    *ret_store = &folder->store;
    return OCH_OK;
}
