/* SPDX-License-Identifier: Apache-2.0 */
/* Files as a handle, so that tests replace the disk: io_posix() is the machine's, io_sim is memory
 * that can lose power, fill up and fail (D23).  All paths are relative or absolute UTF-8.  Calls
 * block.  Any thread; one file may be used from several threads at once. */
#ifndef BASE_IO_H
#define BASE_IO_H

#include "base/arena.h"

#include <sys/uio.h>

struct io;
struct file;

enum io_open_flags {
    IO_WRITE = 1,     /* else read only */
    IO_CREATE = 2,    /* make it if missing */
    IO_EXCLUSIVE = 4, /* with IO_CREATE: OCH_EXISTS if it is there */
    IO_TRUNCATE = 8,
    IO_SCATTERED = 16 /* will be read here and there: nothing is read ahead unasked */
};
struct io_entry {
    const char *name;
    uint64_t size;
    bool is_folder;
};

/** The machine's files. */
struct io *io_posix(void);

/* Errors of all: OCH_IO with os_errno; OCH_NOT_FOUND for a missing path; OCH_NO_MEMORY. */
MUST_USE och_code io_open(struct io *io, const char *path, unsigned flags, struct file **ret_file,
                          och_error *err);
void file_close(struct file *file); /* NULL is fine */
void file_cleanup(struct file **file);
/** Read up to len bytes; *ret_len < len only at the end of the file. */
MUST_USE och_code file_read(struct file *file, uint64_t offset, void *at, size_t len,
                            size_t *ret_len, och_error *err);
/** Like file_read, but a short read is OCH_CORRUPT naming path and offset. */
MUST_USE och_code file_read_all(struct file *file, uint64_t offset, void *at, size_t len,
                                och_error *err);
/** These bytes are wanted soon: the system may begin to read them.  Never fails, never waits. */
void file_expect(struct file *file, uint64_t offset, uint64_t len);
/** These bytes were written and are not needed in the system's memory alone: it begins to write them to the disk; wait: until they lie there, so that
 *  no sync of another file queues behind a flood.  Not durable by that.  After an error the file's state is unknown: a later sync may not tell. */
MUST_USE och_code file_write_out(struct file *file, uint64_t offset, uint64_t len, bool wait,
                                 och_error *err);
/** Write all of it, or fail with any part of it written. */
MUST_USE och_code file_write(struct file *file, uint64_t offset, const void *at, size_t len,
                             och_error *err);
MUST_USE och_code file_write_v(struct file *file, uint64_t offset, const struct iovec *parts,
                               size_t count, och_error *err);
/** fdatasync: data and size are durable when it returns OK.  After an error the file's state is unknown (D11). */
MUST_USE och_code file_sync(struct file *file, och_error *err);
/** Reserve disk space and extend the size to at least offset + len. */
MUST_USE och_code file_allocate(struct file *file, uint64_t offset, uint64_t len, och_error *err);
/** Give back the space of a range; it reads as zeros.  OCH_UNSUPPORTED where the system cannot. */
MUST_USE och_code file_punch(struct file *file, uint64_t offset, uint64_t len, och_error *err);
MUST_USE och_code file_truncate(struct file *file, uint64_t size, och_error *err);
MUST_USE och_code file_size(struct file *file, uint64_t *ret_size, och_error *err);
const char *file_path(const struct file *file);

MUST_USE och_code io_rename(struct io *io, const char *from, const char *to, och_error *err);
MUST_USE och_code io_remove(struct io *io, const char *path, och_error *err);
/** Make creations, renames and removals in a folder durable. */
MUST_USE och_code io_sync_folder(struct io *io, const char *path, och_error *err);
/** mkdir -p; fine if it is there.  The names of folders it made are durable when it returns. */
MUST_USE och_code io_make_folder(struct io *io, const char *path, och_error *err);
/** Names in a folder without "." and "..", sorted, in the arena. */
MUST_USE och_code io_list(struct io *io, const char *path, struct arena *arena,
                          struct io_entry **ret_entries, size_t *ret_count, och_error *err);
/** OCH_NOT_FOUND if it is not there. */
MUST_USE och_code io_stat(struct io *io, const char *path, struct io_entry *ret_entry,
                          och_error *err);
/** Bytes that may still be written below path. */
MUST_USE och_code io_space(struct io *io, const char *path, uint64_t *ret_free, och_error *err);
/** Take an open-file-description lock on a file (made if missing) for life (D32).  OCH_IN_USE when it is held;
 *  then *ret_holder (arena) is the file's content.  shared: readers among themselves.  Freed by file_close. */
MUST_USE och_code io_lock(struct io *io, const char *path, bool shared, struct arena *arena,
                          struct file **ret_file, slice *ret_holder, och_error *err);

/* ---- many reads at once ---- */
struct io_reader; /* what it takes: rings of the kernel, threads, or nothing; any thread */
enum io_reader_kind {
    IO_READER_BEST,    /* rings where the kernel lets us, else threads */
    IO_READER_THREADS, /* as where it does not */
    IO_READER_SERIAL   /* one after the other */
};
struct io_read {
    struct file *file;
    uint64_t offset;
    void *at;
    size_t len;
    /* set by io_read_batch */
    size_t got; /* less than len: the file ends there */
    och_code code;
    int os_errno;
};
MUST_USE och_code io_reader_new(struct io *io, enum io_reader_kind kind,
                                struct io_reader **ret_reader, och_error *err);
/** Ends its threads and gives back its rings; no batch may be on its way.  NULL is fine. */
void io_reader_free(struct io_reader *reader);
/**
 * Do all of them at once; returns when all are done, each with its own fate.
 *
 * Neighbours in the array that are neighbours in a file become one read.  Files are of the reader's io.
 * Cost: one system call and the slowest read, where rings are allowed.
 */
void io_read_batch(struct io_reader *reader, struct io_read *reads, size_t count);
/** What file_read_all would have said of it: its error, OCH_CORRUPT when it is short, else OCH_OK. */
MUST_USE och_code io_read_result(const struct io_read *read, och_error *err);

/** What an implementation provides; callers use the functions above. */
struct io_ops {
    och_code (*open)(struct io *io, const char *path, unsigned flags, struct file **ret_file,
                     och_error *err);
    void (*close)(struct file *file);
    och_code (*read)(struct file *file, uint64_t offset, void *at, size_t len, size_t *ret_len,
                     och_error *err);
    void (*expect)(struct file *file, uint64_t offset, uint64_t len); /* NULL: nothing to gain */
    och_code (*write_out)(struct file *file, uint64_t offset, uint64_t len, bool wait,
                          och_error *err);      /* NULL: nothing to gain */
    int (*descriptor)(const struct file *file); /* for batches; NULL: they go through read */
    och_code (*write_v)(struct file *file, uint64_t offset, const struct iovec *parts, size_t count,
                        och_error *err);
    och_code (*sync)(struct file *file, och_error *err);
    och_code (*allocate)(struct file *file, uint64_t offset, uint64_t len, och_error *err);
    och_code (*punch)(struct file *file, uint64_t offset, uint64_t len, och_error *err);
    och_code (*truncate)(struct file *file, uint64_t size, och_error *err);
    och_code (*size)(struct file *file, uint64_t *ret_size, och_error *err);
    och_code (*rename)(struct io *io, const char *from, const char *to, och_error *err);
    och_code (*remove)(struct io *io, const char *path, och_error *err);
    och_code (*sync_folder)(struct io *io, const char *path, och_error *err);
    och_code (*make_folder)(struct io *io, const char *path, och_error *err);
    och_code (*list)(struct io *io, const char *path, struct arena *arena,
                     struct io_entry **ret_entries, size_t *ret_count, och_error *err);
    och_code (*stat)(struct io *io, const char *path, struct io_entry *ret_entry, och_error *err);
    och_code (*space)(struct io *io, const char *path, uint64_t *ret_free, och_error *err);
    och_code (*lock)(struct io *io, const char *path, bool shared, struct arena *arena,
                     struct file **ret_file, slice *ret_holder, och_error *err);
};
struct io {
    const struct io_ops *ops;
};
struct file { /* first member of every implementation's */
    struct io *io;
    const char *path;
};
#endif
