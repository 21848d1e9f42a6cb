/* SPDX-License-Identifier: Apache-2.0 */
/* Files of one connection.  Rollback journals and temporary files live on the heap. */
#include "sysdb/sqlite_vfs.h"

#include "base/buf.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/sched.h"
#include "kernel/kernel.h"
#include "sysdb/sqlite_shared.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define PATH_MAX_BYTES 1024
#define PENDING_BYTES  (256u << 10)
#define WAL_HEADER     32u
#define WAL_FRAME      (24u + CATALOGUE_PAGE)

struct sqlite_vfs {
    sqlite3_vfs base;
    struct io *io;
    struct clock *clock;
    struct random random;
    struct sqlite_shared *shared;
    bool read_only;
    och_error error; /* the last one; one connection, so one thread at a time */
    char name[48];
};

enum kind { KIND_MAIN, KIND_WAL, KIND_MEMORY };

struct vfs_file {
    sqlite3_file base;
    struct sqlite_vfs *vfs;
    struct file *file; /* NULL for KIND_MEMORY */
    struct buf memory;
    enum kind kind;
    /* Frames that SQLite writes one behind the other, header by page; they go to the disk together, at the latest with the
     * sync.  The other connection looks at frames only after that. */
    struct buf pending;
    uint64_t pending_at;
    bool folder_stale; /* made by us, and its name is not durable yet */
    struct sqlite_locks locks;
};

static struct vfs_file *vfs_file_of(sqlite3_file *file)
{
    return (struct vfs_file *)(void *)file;
}

static struct sqlite_vfs *vfs_of(sqlite3_vfs *vfs)
{
    return (struct sqlite_vfs *)(void *)vfs;
}

/* Keep what the disk said for the message and answer with SQLite's code for it. */
static int refuse(struct sqlite_vfs *vfs, const och_error *err, int sqlite_code)
{
    vfs->error = *err;
    if (err->code == OCH_NO_MEMORY)
        return SQLITE_IOERR_NOMEM;
    if (err->os_errno == ENOSPC || err->os_errno == EDQUOT)
        return SQLITE_FULL;
    return sqlite_code;
}

/* The checksum of a page: over all before it, then the page's number. */
static uint32_t page_crc(const uint8_t *page, const uint8_t *number)
{
    const struct kernel *kernel = kernel_get();
    uint32_t crc = kernel->crc32c(0, page, CATALOGUE_PAGE - CATALOGUE_RESERVED);
    return kernel->crc32c(crc, number, 4);
}

static void page_seal(uint8_t *page, uint64_t index)
{
    uint8_t *tail = page + CATALOGUE_PAGE - CATALOGUE_RESERVED;
    store_u32(tail + 4, (uint32_t)index);
    store_u32(tail, page_crc(page, tail + 4));
}

static bool page_sound(const uint8_t *page, uint64_t index)
{
    const uint8_t *tail = page + CATALOGUE_PAGE - CATALOGUE_RESERVED;
    return load_u32(tail + 4) == (uint32_t)index && load_u32(tail) == page_crc(page, tail + 4);
}

/* After a failure the frames are dropped: SQLite gives up their transaction. */
static int flush(struct vfs_file *file)
{
    och_error err = {0};
    size_t len = file->pending.len;
    buf_clear(&file->pending);
    if (len == 0 || file_write(file->file, file->pending_at, file->pending.at, len, &err) == OCH_OK)
        return SQLITE_OK;
    return refuse(file->vfs, &err, SQLITE_IOERR_WRITE);
}

/* Keep a write for later if it goes on where the last one ended. */
static int append(struct vfs_file *file, const void *at, size_t len, uint64_t to)
{
    if (file->pending.len &&
        (to != file->pending_at + file->pending.len || len > PENDING_BYTES - file->pending.len)) {
        int rc = flush(file);
        if (rc != SQLITE_OK)
            return rc;
    }
    if (file->pending.len == 0)
        file->pending_at = to;
    buf_append(&file->pending, at, len);
    if (!file->pending.failed)
        return SQLITE_OK;
    buf_clear(&file->pending);
    return SQLITE_IOERR_NOMEM;
}

static int file_close_(sqlite3_file *base)
{
    struct vfs_file *file = vfs_file_of(base);
    file_close(file->file);
    file->file = NULL;
    if (file->kind == KIND_MAIN)
        sqlite_shared_unlock(file->vfs->shared, &file->locks, SQLITE_LOCK_NONE);
    buf_done(&file->memory);
    buf_done(&file->pending); // never synced, so nobody counts on it
    return SQLITE_OK;
}

static int memory_read(struct vfs_file *file, void *at, size_t len, uint64_t offset)
{
    size_t got = offset < file->memory.len ? min_size(len, file->memory.len - (size_t)offset) : 0;
    if (got)
        memcpy(at, file->memory.at + offset, got);
    memset((uint8_t *)at + got, 0, len - got);
    return got == len ? SQLITE_OK : SQLITE_IOERR_SHORT_READ;
}

static int memory_write(struct vfs_file *file, const void *at, size_t len, uint64_t offset)
{
    size_t end;
    if (add_overflows((size_t)offset, len, &end))
        return SQLITE_FULL;
    if (end > file->memory.len)
        buf_zero(&file->memory, end - file->memory.len);
    if (file->memory.failed)
        return SQLITE_IOERR_NOMEM;
    memcpy(file->memory.at + offset, at, len);
    return SQLITE_OK;
}

/* A page of the catalogue: whole and sound, or an error. */
static int check_main(struct vfs_file *file, const uint8_t *at, size_t len, size_t got,
                      uint64_t offset)
{
    och_error err = {0};
    if (len < 512 || (got == 0 && offset == 0))
        return SQLITE_OK; // a look at the header, or a catalogue being made
    uint64_t index = offset / CATALOGUE_PAGE + 1;
    if (len != CATALOGUE_PAGE || offset % CATALOGUE_PAGE != 0 || got != len)
        (void)FAIL(&err, OCH_CORRUPT, "page %" PRIu64 " ends early", index);
    else if (!page_sound(at, index))
        (void)FAIL(&err, OCH_CORRUPT, "page %" PRIu64 " does not match its checksum", index);
    else
        return SQLITE_OK;
    return refuse(file->vfs, &err, SQLITE_IOERR_DATA);
}

static int file_read_(sqlite3_file *base, void *at, int amount, sqlite3_int64 offset)
{
    struct vfs_file *file = vfs_file_of(base);
    size_t len = (size_t)amount, got;
    uint64_t from = (uint64_t)offset;
    if (file->kind == KIND_MEMORY)
        return memory_read(file, at, len, from);
    int rc = flush(file);
    if (rc != SQLITE_OK)
        return rc;
    och_error err = {0};
    if (file_read(file->file, from, at, len, &got, &err) != OCH_OK)
        return refuse(file->vfs, &err, SQLITE_IOERR_READ);
    memset((uint8_t *)at + got, 0, len - got);
    if (file->kind == KIND_MAIN) {
        rc = check_main(file, at, len, got, from);
        if (rc != SQLITE_OK)
            return rc;
    } else if (len == CATALOGUE_PAGE && got == len && from >= WAL_HEADER + 24 &&
               (from - WAL_HEADER - 24) % WAL_FRAME == 0) {
        if (sqlite_wal_check_frame(file->file, (from - WAL_HEADER - 24) / WAL_FRAME, at, &err) !=
            OCH_OK)
            return refuse(file->vfs, &err,
                          err.code == OCH_CORRUPT ? SQLITE_IOERR_DATA : SQLITE_IOERR_READ);
    }
    return got == len ? SQLITE_OK : SQLITE_IOERR_SHORT_READ;
}

static int file_write_(sqlite3_file *base, const void *at, int amount, sqlite3_int64 offset)
{
    struct vfs_file *file = vfs_file_of(base);
    size_t len = (size_t)amount;
    uint64_t to = (uint64_t)offset;
    if (file->kind == KIND_MEMORY)
        return memory_write(file, at, len, to);
    if (file->vfs->read_only)
        return SQLITE_READONLY;
    if (file->kind == KIND_WAL)
        return append(file, at, len, to);
    uint8_t page[CATALOGUE_PAGE];
    if (file->kind == KIND_MAIN) {
        if (len != CATALOGUE_PAGE || to % CATALOGUE_PAGE != 0)
            return SQLITE_IOERR_WRITE; // SQLite writes whole pages only
        memcpy(page, at, sizeof(page));
        page_seal(page, to / CATALOGUE_PAGE + 1);
        at = page;
    }
    och_error err = {0};
    if (file_write(file->file, to, at, len, &err) != OCH_OK)
        return refuse(file->vfs, &err, SQLITE_IOERR_WRITE);
    return SQLITE_OK;
}

static int file_truncate_(sqlite3_file *base, sqlite3_int64 size)
{
    struct vfs_file *file = vfs_file_of(base);
    if (file->kind == KIND_MEMORY) {
        if ((uint64_t)size < file->memory.len)
            file->memory.len = (size_t)size;
        return SQLITE_OK;
    }
    if (file->vfs->read_only)
        return SQLITE_READONLY;
    int rc = flush(file);
    if (rc != SQLITE_OK)
        return rc;
    och_error err = {0};
    if (file_truncate(file->file, (uint64_t)size, &err) != OCH_OK)
        return refuse(file->vfs, &err, SQLITE_IOERR_TRUNCATE);
    return SQLITE_OK;
}

static och_code sync_folder_of(struct io *io, const char *path, och_error *err)
{
    char folder[PATH_MAX_BYTES];
    const char *slash = strrchr(path, '/');
    size_t len = slash ? (size_t)(slash - path) : 0;
    if (!slash)
        return io_sync_folder(io, ".", err);
    if (len == 0)
        return io_sync_folder(io, "/", err);
    if (len >= sizeof(folder))
        return FAIL(err, OCH_INVALID, "the path of the catalogue is longer than %d bytes",
                    PATH_MAX_BYTES);
    memcpy(folder, path, len);
    folder[len] = '\0';
    return io_sync_folder(io, folder, err);
}

static int file_sync_(sqlite3_file *base, int flags)
{
    (void)flags;
    struct vfs_file *file = vfs_file_of(base);
    if (file->kind == KIND_MEMORY || file->vfs->read_only)
        return SQLITE_OK;
    int rc = flush(file);
    if (rc != SQLITE_OK)
        return rc;
    och_error err = {0};
    if (file_sync(file->file, &err) != OCH_OK)
        return refuse(file->vfs, &err, SQLITE_IOERR_FSYNC);
    if (file->folder_stale) {
        if (sync_folder_of(file->vfs->io, file_path(file->file), &err) != OCH_OK)
            return refuse(file->vfs, &err, SQLITE_IOERR_DIR_FSYNC);
        file->folder_stale = false;
    }
    return SQLITE_OK;
}

static int file_size_(sqlite3_file *base, sqlite3_int64 *ret_size)
{
    struct vfs_file *file = vfs_file_of(base);
    uint64_t size = file->memory.len;
    int rc = flush(file);
    if (rc != SQLITE_OK)
        return rc;
    och_error err = {0};
    if (file->kind != KIND_MEMORY && file_size(file->file, &size, &err) != OCH_OK)
        return refuse(file->vfs, &err, SQLITE_IOERR_FSTAT);
    *ret_size = (sqlite3_int64)size;
    return SQLITE_OK;
}

static int file_lock_(sqlite3_file *base, int level)
{
    struct vfs_file *file = vfs_file_of(base);
    return sqlite_shared_lock(file->vfs->shared, &file->locks, level) ? SQLITE_OK : SQLITE_BUSY;
}

static int file_unlock_(sqlite3_file *base, int level)
{
    struct vfs_file *file = vfs_file_of(base);
    sqlite_shared_unlock(file->vfs->shared, &file->locks, level);
    return SQLITE_OK;
}

static int file_reserved_(sqlite3_file *base, int *ret_reserved)
{
    struct vfs_file *file = vfs_file_of(base);
    *ret_reserved = sqlite_shared_reserved(file->vfs->shared);
    return SQLITE_OK;
}

static int file_shm_map(sqlite3_file *base, int index, int size, int extend,
                        void volatile **ret_region)
{
    struct vfs_file *file = vfs_file_of(base);
    void *region = NULL;
    if (!sqlite_shared_region(file->vfs->shared, (size_t)index, (size_t)size, extend != 0, &region))
        return SQLITE_IOERR_NOMEM;
    *ret_region = region;
    return SQLITE_OK;
}

static int file_shm_lock(sqlite3_file *base, int first, int count, int flags)
{
    struct vfs_file *file = vfs_file_of(base);
    bool exclusive = (flags & SQLITE_SHM_EXCLUSIVE) != 0, lock = (flags & SQLITE_SHM_LOCK) != 0;
    return sqlite_shared_shm_lock(file->vfs->shared, &file->locks, first, count, exclusive, lock)
               ? SQLITE_OK
               : SQLITE_BUSY;
}

static void file_shm_barrier(sqlite3_file *base)
{
    sqlite_shared_barrier(vfs_file_of(base)->vfs->shared);
}

static int file_shm_unmap(sqlite3_file *base, int remove)
{
    (void)base, (void)remove; // the regions go with what is shared
    return SQLITE_OK;
}

static int file_control_(sqlite3_file *base, int operation, void *argument)
{
    (void)argument;
    if (operation == SQLITE_FCNTL_LOCKSTATE)
        *(int *)argument = vfs_file_of(base)->locks.level;
    else
        return SQLITE_NOTFOUND;
    return SQLITE_OK;
}

static int file_sector_(sqlite3_file *base)
{
    (void)base;
    return CATALOGUE_PAGE;
}

static int file_traits_(sqlite3_file *base)
{
    (void)base;
    return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

static const sqlite3_io_methods methods = {
    .iVersion = 2, // no mapping (D5)
    .xClose = file_close_,
    .xRead = file_read_,
    .xWrite = file_write_,
    .xTruncate = file_truncate_,
    .xSync = file_sync_,
    .xFileSize = file_size_,
    .xLock = file_lock_,
    .xUnlock = file_unlock_,
    .xCheckReservedLock = file_reserved_,
    .xFileControl = file_control_,
    .xSectorSize = file_sector_,
    .xDeviceCharacteristics = file_traits_,
    .xShmMap = file_shm_map,
    .xShmLock = file_shm_lock,
    .xShmBarrier = file_shm_barrier,
    .xShmUnmap = file_shm_unmap,
};

/* Open what is there, else make it. */
static och_code open_or_make(struct sqlite_vfs *vfs, const char *path, bool make,
                             struct vfs_file *file, och_error *err)
{
    unsigned flags = vfs->read_only ? 0 : IO_WRITE;
    och_error missing = {0};
    och_code code = io_open(vfs->io, path, flags, &file->file, &missing);
    if (code == OCH_OK)
        return OCH_OK;
    if (code == OCH_NOT_FOUND && vfs->read_only && file->kind == KIND_WAL) {
        file->kind = KIND_MEMORY;
        return OCH_OK;
    }
    if (code == OCH_NOT_FOUND && make && !vfs->read_only) {
        TRY(io_open(vfs->io, path, IO_WRITE | IO_CREATE, &file->file, err));
        file->folder_stale = true;
        return OCH_OK;
    }
    if (err)
        *err = missing;
    return code;
}

static int vfs_open(sqlite3_vfs *base, const char *path, sqlite3_file *base_file, int flags,
                    int *ret_flags)
{
    struct sqlite_vfs *vfs = vfs_of(base);
    struct vfs_file *file = vfs_file_of(base_file);
    och_error err = {0};
    *file = (struct vfs_file){.vfs = vfs, .kind = KIND_MEMORY};
    buf_init(&file->memory, BUF_MAX_NONE);
    buf_init(&file->pending, BUF_MAX_NONE);
    if (path && flags & (SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_WAL)) {
        file->kind = flags & SQLITE_OPEN_WAL ? KIND_WAL : KIND_MAIN;
        if (open_or_make(vfs, path, (flags & SQLITE_OPEN_CREATE) != 0, file, &err) != OCH_OK)
            return refuse(vfs, &err, SQLITE_CANTOPEN);
    } else if (path) {
        return SQLITE_CANTOPEN; // rollback journals are kept in memory
    }
    file->base.pMethods = &methods;
    if (ret_flags) {
        int writable = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
        *ret_flags = vfs->read_only ? (flags & ~writable) | SQLITE_OPEN_READONLY : flags;
    }
    return SQLITE_OK;
}

static int vfs_delete(sqlite3_vfs *base, const char *path, int sync_folder)
{
    (void)sync_folder;
    struct sqlite_vfs *vfs = vfs_of(base);
    och_error err = {0};
    if (vfs->read_only)
        return SQLITE_READONLY;
    och_code code = io_remove(vfs->io, path, &err);
    if (code == OCH_NOT_FOUND)
        return SQLITE_IOERR_DELETE_NOENT;
    if (code == OCH_OK)
        code = sync_folder_of(vfs->io, path, &err);
    return code == OCH_OK ? SQLITE_OK : refuse(vfs, &err, SQLITE_IOERR_DELETE);
}

static int vfs_access(sqlite3_vfs *base, const char *path, int flags, int *ret_there)
{
    (void)flags;
    struct sqlite_vfs *vfs = vfs_of(base);
    struct io_entry entry;
    och_error err = {0};
    size_t len = strlen(path);
    *ret_there = 0;
    if (len > 8 && strcmp(path + len - 8, "-journal") == 0)
        return SQLITE_OK; // never ours: see vfs_open
    och_code code = io_stat(vfs->io, path, &entry, &err);
    if (code != OCH_OK && code != OCH_NOT_FOUND)
        return refuse(vfs, &err, SQLITE_IOERR_ACCESS);
    *ret_there = code == OCH_OK && (flags != SQLITE_ACCESS_EXISTS || entry.size > 0);
    return SQLITE_OK;
}

static int vfs_full_path(sqlite3_vfs *base, const char *path, int size, char *out)
{
    (void)base;
    size_t len = strlen(path);
    if (len >= (size_t)size)
        return SQLITE_CANTOPEN;
    memcpy(out, path, len + 1);
    return SQLITE_OK;
}

static int vfs_randomness(sqlite3_vfs *base, int size, char *out)
{
    random_fill(&vfs_of(base)->random, out, (size_t)size);
    return size;
}

static int vfs_sleep(sqlite3_vfs *base, int microseconds)
{
    (void)base;
    sched_sleep_ns((uint64_t)microseconds * 1000);
    return microseconds;
}

static int vfs_time(sqlite3_vfs *base, sqlite3_int64 *ret_ms)
{
    // milliseconds since noon of 24 November 4714 BC
    *ret_ms = (sqlite3_int64)(clock_wall_ns(vfs_of(base)->clock) / 1000000) + 210866760000000;
    return SQLITE_OK;
}

static int vfs_time_days(sqlite3_vfs *base, double *ret_days)
{
    sqlite3_int64 ms;
    (void)vfs_time(base, &ms);
    *ret_days = (double)ms / 86400000.0;
    return SQLITE_OK;
}

// NOLINTNEXTLINE(readability-non-const-parameter): SQLite's signature
static int vfs_last_error(sqlite3_vfs *base, int size, char *out)
{
    (void)size, (void)out;
    return vfs_of(base)->error.os_errno;
}

och_code sqlite_vfs_new(struct io *io, struct clock *clock, bool read_only,
                        struct sqlite_shared *shared, struct sqlite_vfs **ret_vfs, och_error *err)
{
    static _Atomic uint64_t serial; // names are unique in the process
    struct sqlite_vfs *vfs = MEM_NEW(struct sqlite_vfs);
    if (!vfs)
        return FAIL_NO_MEMORY(err, "the catalogue's files");
    vfs->io = io;
    vfs->clock = clock;
    vfs->read_only = read_only;
    vfs->shared = shared;
    random_seed_system(&vfs->random);
    (void)snprintf(vfs->name, sizeof(vfs->name), "ochre-%" PRIu64,
                   (uint64_t)atomic_fetch_add(&serial, 1));
    vfs->base = (sqlite3_vfs){
        .iVersion = 2,
        .szOsFile = sizeof(struct vfs_file),
        .mxPathname = PATH_MAX_BYTES,
        .zName = vfs->name,
        .xOpen = vfs_open,
        .xDelete = vfs_delete,
        .xAccess = vfs_access,
        .xFullPathname = vfs_full_path,
        .xRandomness = vfs_randomness,
        .xSleep = vfs_sleep,
        .xCurrentTime = vfs_time_days,
        .xGetLastError = vfs_last_error,
        .xCurrentTimeInt64 = vfs_time,
    };
    if (sqlite3_vfs_register(&vfs->base, 0) != SQLITE_OK) {
        mem_free(vfs);
        return FAIL(err, OCH_INTERNAL, "SQLite takes no file system");
    }
    *ret_vfs = vfs;
    return OCH_OK;
}

void sqlite_vfs_free(struct sqlite_vfs *vfs)
{
    if (!vfs)
        return;
    (void)sqlite3_vfs_unregister(&vfs->base);
    mem_free(vfs);
}

const char *sqlite_vfs_name(const struct sqlite_vfs *vfs)
{
    return vfs->name;
}

och_error sqlite_vfs_take_error(struct sqlite_vfs *vfs)
{
    och_error taken = vfs->error;
    vfs->error = (och_error){0};
    return taken;
}
