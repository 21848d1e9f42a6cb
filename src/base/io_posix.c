/* SPDX-License-Identifier: Apache-2.0 */
/* The machine's files.  Descriptors never outlive an exec, no file is mapped (D5), and a call that a
 * signal interrupts goes on.  Files are made 0640 and folders 0750, cut by the umask. */
#include "base/io.h"

#include "base/vec.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define HOLDER_MAX  4096u /* of a lock file's content, for the message */
#define CHUNK_MAX   (1u << 30)
#define PARTS_MAX   64
#define FILE_MODE   0640
#define FOLDER_MODE 0750

struct posix_file {
    struct file file;
    int fd;
    char path[];
};

static int fd_of(const struct file *file)
{
    return ((const struct posix_file *)(const void *)file)->fd;
}

static och_code fail(och_error *err, int os_errno, const char *verb, const char *path)
{
    och_code code = os_errno == ENOENT   ? OCH_NOT_FOUND
                    : os_errno == ENOMEM ? OCH_NO_MEMORY
                    : os_errno == EEXIST ? OCH_EXISTS
                                         : OCH_IO;
    return FAIL_OS(err, code, os_errno, "cannot %s %s", verb, path);
}

static bool fits(uint64_t offset, uint64_t len)
{
    return offset <= INT64_MAX && len <= INT64_MAX - offset;
}

static int open_again(const char *path, int flags)
{
    int fd;
    do
        fd = open(path, flags | O_CLOEXEC, FILE_MODE);
    while (fd < 0 && errno == EINTR);
    return fd;
}

static och_code file_new(struct io *io, const char *path, int fd, struct file **ret_file,
                         och_error *err)
{
    size_t size = strlen(path) + 1;
    struct posix_file *file = mem_alloc(sizeof(*file) + size);
    if (!file) {
        (void)close(fd);
        return FAIL_NO_MEMORY(err, "an open file");
    }
    memcpy(file->path, path, size);
    file->file = (struct file){.io = io, .path = file->path};
    file->fd = fd;
    *ret_file = &file->file;
    return OCH_OK;
}

static och_code posix_open(struct io *io, const char *path, unsigned flags, struct file **ret_file,
                           och_error *err)
{
    int how = flags & IO_WRITE ? O_RDWR : O_RDONLY;
    how |= flags & IO_CREATE ? O_CREAT : 0;
    how |= flags & IO_EXCLUSIVE ? O_EXCL : 0;
    how |= flags & IO_TRUNCATE ? O_TRUNC : 0;
    int fd = open_again(path, how);
    if (fd < 0)
        return fail(err, errno, "open", path);
    if (flags & IO_SCATTERED)
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM); // a wish: without it reads cost more
    return file_new(io, path, fd, ret_file, err);
}

static void posix_close(struct file *file)
{
    struct posix_file *mine = CONTAINER_OF(file, struct posix_file, file);
    (void)close(mine->fd); // what had to be durable was synced; EINTR must not be retried on Linux
    mem_free(mine);
}

static och_code posix_read(struct file *file, uint64_t offset, void *at, size_t len,
                           size_t *ret_len, och_error *err)
{
    size_t done = 0;
    if (!fits(offset, len))
        return fail(err, EOVERFLOW, "read", file->path);
    while (done < len) {
        ssize_t got = pread(fd_of(file), (uint8_t *)at + done, min_size(len - done, CHUNK_MAX),
                            (off_t)(offset + done));
        if (got == 0)
            break;
        if (got > 0)
            done += (size_t)got;
        else if (errno != EINTR)
            return fail(err, errno, "read", file->path);
    }
    *ret_len = done;
    return OCH_OK;
}

static void posix_expect(struct file *file, uint64_t offset, uint64_t len)
{
    if (fits(offset, len))
        (void)posix_fadvise(fd_of(file), (off_t)offset, (off_t)len, POSIX_FADV_WILLNEED);
}

static och_code posix_write_out(struct file *file, uint64_t offset, uint64_t len, bool wait,
                                och_error *err)
{
#ifdef SYNC_FILE_RANGE_WRITE
    unsigned how =
        wait ? SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER
             : SYNC_FILE_RANGE_WRITE;
    // waiting takes an error away from the sync that follows; where there is no such call nothing is lost
    if (fits(offset, len) && sync_file_range(fd_of(file), (off_t)offset, (off_t)len, how) != 0 &&
        errno != ENOSYS && errno != EINVAL && errno != ESPIPE && errno != EINTR)
        return fail(err, errno, "write", file->path);
#else
    (void)file, (void)offset, (void)len, (void)wait, (void)err;
#endif
    return OCH_OK;
}

static och_code posix_write_v(struct file *file, uint64_t offset, const struct iovec *parts,
                              size_t count, och_error *err)
{
    size_t skip = 0; // of parts[0]
    while (count > 0) {
        if (skip >= parts[0].iov_len) {
            skip -= parts[0].iov_len;
            parts++, count--;
            continue;
        }
        struct iovec now[PARTS_MAX];
        size_t some = min_size(count, PARTS_MAX);
        memcpy(now, parts, some * sizeof(now[0]));
        now[0].iov_base = (uint8_t *)now[0].iov_base + skip;
        now[0].iov_len -= skip;
        if (offset > INT64_MAX)
            return fail(err, EFBIG, "write", file->path);
        ssize_t put = pwritev(fd_of(file), now, (int)some, (off_t)offset);
        if (put < 0 && errno != EINTR)
            return fail(err, errno, "write", file->path);
        if (put == 0)
            return fail(err, EIO, "write",
                        file->path); // parts[0] has bytes left, so 0 is no progress
        if (put > 0) {
            offset += (uint64_t)put;
            skip += (size_t)put;
        }
    }
    return OCH_OK;
}

static och_code posix_sync(struct file *file, och_error *err)
{
    int rc;
    do
        rc = fdatasync(fd_of(file));
    while (rc != 0 && errno == EINTR);
    return rc == 0 ? OCH_OK : fail(err, errno, "sync", file->path);
}

static och_code posix_truncate(struct file *file, uint64_t size, och_error *err)
{
    int rc;
    if (!fits(size, 0))
        return fail(err, EFBIG, "set the size of", file->path);
    do
        rc = ftruncate(fd_of(file), (off_t)size);
    while (rc != 0 && errno == EINTR);
    return rc == 0 ? OCH_OK : fail(err, errno, "set the size of", file->path);
}

static och_code posix_size(struct file *file, uint64_t *ret_size, och_error *err)
{
    struct stat info;
    if (fstat(fd_of(file), &info) != 0)
        return fail(err, errno, "look at", file->path);
    *ret_size = (uint64_t)info.st_size;
    return OCH_OK;
}

static och_code posix_allocate(struct file *file, uint64_t offset, uint64_t len, och_error *err)
{
    int rc;
    if (!fits(offset, len))
        return fail(err, EFBIG, "reserve space for", file->path);
    if (len == 0)
        return OCH_OK;
    do
        rc = fallocate(fd_of(file), 0, (off_t)offset, (off_t)len);
    while (rc != 0 && errno == EINTR);
    if (rc == 0)
        return OCH_OK;
    if (errno != EOPNOTSUPP && errno != ENOSYS)
        return fail(err, errno, "reserve space for", file->path);
    // no reservation on this file system, but the size is what readers rely on
    uint64_t size = 0;
    TRY(posix_size(file, &size, err));
    return size >= offset + len ? OCH_OK : posix_truncate(file, offset + len, err);
}

static och_code posix_punch(struct file *file, uint64_t offset, uint64_t len, och_error *err)
{
    int rc;
    if (!fits(offset, len))
        return fail(err, EFBIG, "free space of", file->path);
    if (len == 0)
        return OCH_OK;
    do
        rc = fallocate(fd_of(file), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
                       (off_t)len);
    while (rc != 0 && errno == EINTR);
    if (rc == 0)
        return OCH_OK;
    if (errno == EOPNOTSUPP || errno == ENOSYS)
        return FAIL_OS(err, OCH_UNSUPPORTED, errno, "cannot free space of %s", file->path);
    return fail(err, errno, "free space of", file->path);
}

static och_code posix_rename(struct io *io, const char *from, const char *to, och_error *err)
{
    (void)io;
    if (rename(from, to) == 0)
        return OCH_OK;
    int os_errno = errno;
    och_code code = fail(err, os_errno, "rename", from);
    error_append(err, " (to %s)", to);
    return code;
}

static och_code posix_remove(struct io *io, const char *path, och_error *err)
{
    (void)io;
    if (remove(path) == 0)
        return OCH_OK;
    // some systems say EEXIST of a folder that is not empty
    return fail(err, errno == EEXIST ? ENOTEMPTY : errno, "remove", path);
}

static och_code posix_sync_folder(struct io *io, const char *path, och_error *err)
{
    (void)io;
    int fd = open_again(path, O_RDONLY | O_DIRECTORY);
    if (fd < 0)
        return fail(err, errno, "open folder", path);
    int rc;
    do
        rc = fsync(fd);
    while (rc != 0 && errno == EINTR);
    int os_errno = rc == 0 ? 0 : errno;
    (void)close(fd);
    // some file systems have nothing to sync in a folder and say EINVAL
    return os_errno == 0 || os_errno == EINVAL ? OCH_OK : fail(err, os_errno, "sync folder", path);
}

/* Make the folder text[0..len) and the name of it durable. */
static och_code make_one(struct io *io, char *text, size_t len, och_error *err)
{
    char after = text[len];
    text[len] = '\0';
    int os_errno = mkdir(text, FOLDER_MODE) == 0 ? 0 : errno;
    bool there = false;
    if (os_errno) { // EEXIST, but also EROFS or EACCES above a folder that is there
        struct stat info;
        there = stat(text, &info) == 0 && S_ISDIR(info.st_mode);
        os_errno = os_errno == EEXIST ? ENOTDIR : os_errno; // it is a file
    }
    och_code code = os_errno && !there ? fail(err, os_errno, "make folder", text) : OCH_OK;
    text[len] = after;
    if (os_errno)
        return code;
    while (len > 0 && text[len - 1] != '/')
        len--;
    char start = len ? text[len] : '\0';
    if (len)
        text[len] = '\0';
    och_error ignored = {0};
    code = posix_sync_folder(io, len ? text : ".", &ignored);
    if (len)
        text[len] = start;
    if (code == OCH_OK || ignored.os_errno == EACCES)
        return OCH_OK; // a parent that we may not open cannot be synced by us
    if (err)
        *err = ignored;
    return code;
}

static och_code posix_make_folder(struct io *io, const char *path, och_error *err)
{
    size_t len = strlen(path);
    CLEANUP(mem_cleanup) char *text = mem_copy_text(path, len);
    if (!text)
        return FAIL_NO_MEMORY(err, "a path");
    for (size_t i = 1; i <= len; i++) {
        if ((text[i] == '/' || text[i] == '\0') && text[i - 1] != '/')
            TRY(make_one(io, text, i, err));
    }
    return OCH_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct io_entry *)a)->name, ((const struct io_entry *)b)->name);
}

typedef VEC(struct io_entry) entries;

static och_code read_folder(DIR *folder, const char *path, struct arena *arena, entries *list,
                            och_error *err)
{
    for (;;) {
        errno = 0;
        const struct dirent *found = readdir(folder);
        if (!found)
            return errno == 0 ? OCH_OK : fail(err, errno, "list", path);
        if (strcmp(found->d_name, ".") == 0 || strcmp(found->d_name, "..") == 0)
            continue;
        struct stat info;
        if (fstatat(dirfd(folder), found->d_name, &info, 0) != 0) {
            if (errno == ENOENT)
                continue; // removed meanwhile, or a dangling link
            return fail(err, errno, "look into", path);
        }
        struct io_entry entry = {
            .name = (const char *)arena_copy(arena, slice_of(found->d_name)).at,
            .size = S_ISDIR(info.st_mode) ? 0 : (uint64_t)info.st_size,
            .is_folder = S_ISDIR(info.st_mode),
        };
        if (!entry.name || !VEC_PUSH(list, entry))
            return FAIL_NO_MEMORY(err, "a list of files");
    }
}

static och_code posix_list(struct io *io, const char *path, struct arena *arena,
                           struct io_entry **ret_entries, size_t *ret_count, och_error *err)
{
    (void)io;
    DIR *folder = opendir(path); // glibc sets O_CLOEXEC
    if (!folder)
        return fail(err, errno, "list", path);
    entries list = {0};
    och_code code = read_folder(folder, path, arena, &list, err);
    (void)closedir(folder);
    struct io_entry *sorted = NULL;
    if (code == OCH_OK) {
        sorted = ARENA_ARRAY(arena, struct io_entry, list.len);
        if (!sorted)
            code = FAIL_NO_MEMORY(err, "a list of files");
    }
    if (code == OCH_OK) {
        if (list.len) {
            memcpy(sorted, list.at, list.len * sizeof(sorted[0]));
            qsort(sorted, list.len, sizeof(sorted[0]), by_name);
        }
        *ret_entries = sorted;
        *ret_count = list.len;
    }
    VEC_DONE(&list);
    return code;
}

static och_code posix_stat(struct io *io, const char *path, struct io_entry *ret_entry,
                           och_error *err)
{
    (void)io;
    struct stat info;
    if (stat(path, &info) != 0)
        return fail(err, errno == ENOTDIR ? ENOENT : errno, "find", path);
    const char *slash = strrchr(path, '/');
    bool is_folder = S_ISDIR(info.st_mode);
    *ret_entry = (struct io_entry){.name = slash ? slash + 1 : path,
                                   .size = is_folder ? 0 : (uint64_t)info.st_size,
                                   .is_folder = is_folder};
    return OCH_OK;
}

static och_code posix_space(struct io *io, const char *path, uint64_t *ret_free, och_error *err)
{
    (void)io;
    struct statvfs info;
    int rc;
    do
        rc = statvfs(path, &info);
    while (rc != 0 && errno == EINTR);
    if (rc != 0)
        return fail(err, errno, "ask for the free space of", path);
    uint64_t unit = info.f_frsize ? info.f_frsize : info.f_bsize;
    *ret_free = __builtin_mul_overflow(unit, info.f_bavail, ret_free) ? UINT64_MAX : *ret_free;
    return OCH_OK;
}

/* What the holder wrote into the lock file; empty when it cannot be read. */
static slice read_holder(struct file *file, struct arena *arena)
{
    size_t len = 0;
    uint8_t *text = arena ? arena_alloc(arena, HOLDER_MAX + 1) : NULL;
    if (!text || posix_read(file, 0, text, HOLDER_MAX, &len, NULL) != OCH_OK)
        return SLICE_NONE;
    text[len] = '\0';
    return (slice){text, len};
}

static och_code posix_lock(struct io *io, const char *path, bool shared, struct arena *arena,
                           struct file **ret_file, slice *ret_holder, och_error *err)
{
    int fd = open_again(path, O_RDWR | O_CREAT);
    if (fd < 0 && shared && (errno == EROFS || errno == EACCES))
        fd = open_again(path, O_RDONLY);
    if (fd < 0)
        return fail(err, errno, "open lock", path);
    struct file *file = NULL;
    TRY(file_new(io, path, fd, &file, err));
    struct flock what = {.l_type = shared ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET};
    int rc;
    do
        rc = fcntl(fd, F_OFD_SETLK, &what);
    while (rc != 0 && errno == EINTR);
    if (rc == 0) {
        *ret_file = file;
        return OCH_OK;
    }
    och_code code;
    if (errno == EAGAIN || errno == EACCES) {
        if (ret_holder)
            *ret_holder = read_holder(file, arena);
        code = FAIL(err, OCH_IN_USE, "%s is locked by another process or handle", path);
    } else {
        code = fail(err, errno, "lock", path);
    }
    posix_close(file);
    return code;
}

struct io *io_posix(void)
{
    static const struct io_ops ops = {
        .open = posix_open,
        .close = posix_close,
        .read = posix_read,
        .expect = posix_expect,
        .write_out = posix_write_out,
        .descriptor = fd_of,
        .write_v = posix_write_v,
        .sync = posix_sync,
        .allocate = posix_allocate,
        .punch = posix_punch,
        .truncate = posix_truncate,
        .size = posix_size,
        .rename = posix_rename,
        .remove = posix_remove,
        .sync_folder = posix_sync_folder,
        .make_folder = posix_make_folder,
        .list = posix_list,
        .stat = posix_stat,
        .space = posix_space,
        .lock = posix_lock,
    };
    static struct io io = {&ops};
    return &io;
}
