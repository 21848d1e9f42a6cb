/* SPDX-License-Identifier: Apache-2.0 */
/* Dispatch to the implementation, and what all of them share. */
#include "base/io.h"

#include "base/sched.h"

#include <inttypes.h>

/* Around what may wait for the disk: sched_block_begin(); return unblocked(call); */
static och_code unblocked(och_code code)
{
    sched_block_end();
    return code;
}

och_code io_open(struct io *io, const char *path, unsigned flags, struct file **ret_file,
                 och_error *err)
{
    assert(flags & IO_WRITE || !(flags & (IO_CREATE | IO_EXCLUSIVE | IO_TRUNCATE)));
    return io->ops->open(io, path, flags, ret_file, err);
}

void file_close(struct file *file)
{
    if (file)
        file->io->ops->close(file);
}

void file_cleanup(struct file **file)
{
    file_close(*file);
}

och_code file_read(struct file *file, uint64_t offset, void *at, size_t len, size_t *ret_len,
                   och_error *err)
{
    sched_block_begin();
    return unblocked(file->io->ops->read(file, offset, at, len, ret_len, err));
}

och_code file_read_all(struct file *file, uint64_t offset, void *at, size_t len, och_error *err)
{
    size_t got;
    TRY(file_read(file, offset, at, len, &got, err));
    if (got == len)
        return OCH_OK;
    return FAIL(err, OCH_CORRUPT,
                "%s ends at byte %" PRIu64 ", expected %zu bytes from %" PRIu64 " on", file->path,
                offset + got, len, offset);
}

void file_expect(struct file *file, uint64_t offset, uint64_t len)
{
    if (file->io->ops->expect)
        file->io->ops->expect(file, offset, len);
}

och_code file_write_out(struct file *file, uint64_t offset, uint64_t len, bool wait, och_error *err)
{
    if (!file->io->ops->write_out)
        return OCH_OK;
    sched_block_begin();
    return unblocked(file->io->ops->write_out(file, offset, len, wait, err));
}

och_code file_write(struct file *file, uint64_t offset, const void *at, size_t len, och_error *err)
{
    // iovec has no const; implementations only read from it
    struct iovec part = {.iov_base = (void *)(uintptr_t)at, .iov_len = len};
    sched_block_begin();
    return unblocked(file->io->ops->write_v(file, offset, &part, 1, err));
}

och_code file_write_v(struct file *file, uint64_t offset, const struct iovec *parts, size_t count,
                      och_error *err)
{
    sched_block_begin();
    return unblocked(file->io->ops->write_v(file, offset, parts, count, err));
}

och_code file_sync(struct file *file, och_error *err)
{
    sched_block_begin();
    return unblocked(file->io->ops->sync(file, err));
}

och_code file_allocate(struct file *file, uint64_t offset, uint64_t len, och_error *err)
{
    return file->io->ops->allocate(file, offset, len, err);
}

och_code file_punch(struct file *file, uint64_t offset, uint64_t len, och_error *err)
{
    return file->io->ops->punch(file, offset, len, err);
}

och_code file_truncate(struct file *file, uint64_t size, och_error *err)
{
    return file->io->ops->truncate(file, size, err);
}

och_code file_size(struct file *file, uint64_t *ret_size, och_error *err)
{
    return file->io->ops->size(file, ret_size, err);
}

const char *file_path(const struct file *file)
{
    return file->path;
}

och_code io_rename(struct io *io, const char *from, const char *to, och_error *err)
{
    return io->ops->rename(io, from, to, err);
}

och_code io_remove(struct io *io, const char *path, och_error *err)
{
    return io->ops->remove(io, path, err);
}

och_code io_sync_folder(struct io *io, const char *path, och_error *err)
{
    sched_block_begin();
    return unblocked(io->ops->sync_folder(io, path, err));
}

och_code io_make_folder(struct io *io, const char *path, och_error *err)
{
    return io->ops->make_folder(io, path, err);
}

och_code io_list(struct io *io, const char *path, struct arena *arena,
                 struct io_entry **ret_entries, size_t *ret_count, och_error *err)
{
    return io->ops->list(io, path, arena, ret_entries, ret_count, err);
}

och_code io_stat(struct io *io, const char *path, struct io_entry *ret_entry, och_error *err)
{
    return io->ops->stat(io, path, ret_entry, err);
}

och_code io_space(struct io *io, const char *path, uint64_t *ret_free, och_error *err)
{
    return io->ops->space(io, path, ret_free, err);
}

och_code io_lock(struct io *io, const char *path, bool shared, struct arena *arena,
                 struct file **ret_file, slice *ret_holder, och_error *err)
{
    return io->ops->lock(io, path, shared, arena, ret_file, ret_holder, err);
}
