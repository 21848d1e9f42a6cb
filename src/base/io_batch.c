/* SPDX-License-Identifier: Apache-2.0 */
/* Many reads at once.  Where the kernel allows io_uring, a batch is one submission on a ring of its own (rings are made as batches meet,
 * at most RINGS_MAX, and kept); else a few threads share the reads with the caller.  Whatever a ring does not read whole is read again by
 * the file's own call, which is the judge of errors and of the file's end: so a ring can only make things faster. */
#include "base/io.h"

#include "base/pool.h"

#include <errno.h>
#include <inttypes.h>
#include <liburing.h>
#include <string.h>

#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#else
#define VALGRIND_MAKE_MEM_DEFINED(at, len) 0
#endif

#define RINGS_MAX    64u
#define RING_ENTRIES 64u
#define THREADS      8u
#define JOIN_PARTS   16u
#define JOIN_BYTES   (1u << 20)

struct ring {
    struct ring *next;
    struct io_uring uring;
};
struct io_reader {
    struct io *io;
    bool use_rings;
    struct pool *pool;  /* without rings; NULL: serial */
    struct mutex mutex; /* guards: the rest */
    struct ring *free;
    unsigned ring_count;
    bool rings_failed; /* the kernel said no: do not ask for every batch */
};

/* Reads [first, first + count) of a batch, one behind the other in one file. */
struct joined {
    size_t first, count, bytes;
    bool done;
    struct iovec parts[JOIN_PARTS];
};

/* ---- by the file's own call ---- */

static void read_one(struct io_read *read)
{
    och_error failure = {0};
    read->got = 0;
    read->code = file_read(read->file, read->offset, read->at, read->len, &read->got, &failure);
    read->os_errno = failure.os_errno;
}

och_code io_read_result(const struct io_read *read, och_error *err)
{
    if (read->code != OCH_OK)
        return FAIL_OS(err, read->code, read->os_errno, "cannot read %s", file_path(read->file));
    if (read->got == read->len)
        return OCH_OK;
    return FAIL(err, OCH_CORRUPT,
                "%s ends at byte %" PRIu64 ", expected %zu bytes from %" PRIu64 " on",
                file_path(read->file), read->offset + read->got, read->len, read->offset);
}

static void read_task(void *context, size_t i)
{
    struct io_read *reads = context;
    read_one(&reads[i]);
}

/* ---- rings ---- */

static void ring_free(struct ring *ring)
{
    io_uring_queue_exit(&ring->uring);
    mem_free(ring);
}

/* A ring for one batch; NULL: there is none to be had. */
static struct ring *ring_take(struct io_reader *reader)
{
    mutex_lock(&reader->mutex);
    struct ring *ring = reader->free;
    bool make = false;
    if (ring) {
        reader->free = ring->next;
    } else if (!reader->rings_failed && reader->ring_count < RINGS_MAX) {
        make = true;
        reader->ring_count++;
    }
    mutex_unlock(&reader->mutex);
    if (!make)
        return ring;
    ring = MEM_NEW(struct ring);
    if (ring && io_uring_queue_init(RING_ENTRIES, &ring->uring, 0) == 0)
        return ring;
    mem_free(ring);
    mutex_lock(&reader->mutex);
    reader->ring_count--;
    reader->rings_failed = true;
    mutex_unlock(&reader->mutex);
    return NULL;
}

static void ring_give(struct io_reader *reader, struct ring *ring, bool broken)
{
    if (broken)
        ring_free(ring);
    mutex_lock(&reader->mutex);
    if (broken) {
        reader->ring_count--;
        reader->rings_failed = true;
    } else {
        ring->next = reader->free;
        reader->free = ring;
    }
    mutex_unlock(&reader->mutex);
}

static size_t reap(struct io_uring *uring, struct joined *joined)
{
    struct io_uring_cqe *cqe;
    unsigned head;
    unsigned seen = 0;
    io_uring_for_each_cqe(uring, head, cqe)
    {
        struct joined *mine = &joined[io_uring_cqe_get_data64(cqe)];
        mine->done = cqe->res >= 0 && (size_t)cqe->res == mine->bytes;
        seen++;
    }
    io_uring_cq_advance(uring, seen);
    return seen;
}

/* All of joined[count], as far as the ring does them.  Nothing is on its way any more when it returns.  False: the ring is no good. */
static bool ring_run(struct ring *ring, const struct io_read *reads, struct joined *joined,
                     size_t count)
{
    struct io_uring *uring = &ring->uring;
    size_t filled = 0, sent = 0, reaped = 0; // each at most the one before
    bool sound = true;
    while (reaped < (sound ? count : sent)) {
        struct io_uring_sqe *sqe = NULL;
        while (sound && filled < count && filled - reaped < RING_ENTRIES &&
               (sqe = io_uring_get_sqe(uring)) != NULL) {
            const struct io_read *first = &reads[joined[filled].first];
            io_uring_prep_readv(sqe, first->file->io->ops->descriptor(first->file),
                                joined[filled].parts, (unsigned)joined[filled].count,
                                first->offset);
            io_uring_sqe_set_data64(sqe, filled++);
        }
        unsigned flying = (unsigned)(filled - reaped);
        int rc = 0;
        if (sound)
            rc = io_uring_submit_and_wait(uring, filled < count ? (flying + 1) / 2 : flying);
        if (rc > 0)
            sent += (size_t)rc;
        reaped += reap(uring, joined);
        if (rc < 0 && (sent == reaped || (rc != -EINTR && rc != -EAGAIN && rc != -EBUSY)))
            sound = rc == -EINTR && sound;
        struct io_uring_cqe *cqe;
        if (!sound && reaped < sent)
            (void)io_uring_wait_cqe(uring, &cqe); // interrupted: we come back
    }
    return sound;
}

/* Neighbours become one; returns how many are left. */
static size_t join(const struct io_read *reads, size_t count, struct joined *joined)
{
    size_t len = 0;
    for (size_t i = 0; i < count; i++) {
        const struct io_read *read = &reads[i];
        struct joined *last = len ? &joined[len - 1] : NULL;
        bool next_to = last && last->count < JOIN_PARTS && last->bytes + read->len <= JOIN_BYTES &&
                       read[-1].file == read->file &&
                       read[-1].offset + read[-1].len == read->offset;
        if (!next_to) {
            last = &joined[len++];
            *last = (struct joined){.first = i};
        }
        last->parts[last->count++] = (struct iovec){.iov_base = read->at, .iov_len = read->len};
        last->bytes += read->len;
    }
    return len;
}

/* False: nothing was read. */
static bool read_by_ring(struct io_reader *reader, struct io_read *reads, size_t count)
{
    size_t bytes;
    if (mul_overflows(count, sizeof(struct joined), &bytes))
        return false;
    CLEANUP(mem_cleanup) struct joined *joined = mem_alloc(bytes);
    struct ring *ring = joined ? ring_take(reader) : NULL;
    if (!ring)
        return false;
    size_t len = join(reads, count, joined);
    bool sound = ring_run(ring, reads, joined, len);
    ring_give(reader, ring, !sound);
    for (size_t i = 0; i < len; i++) {
        for (size_t j = joined[i].first; j < joined[i].first + joined[i].count; j++) {
            if (joined[i].done) {
                // the kernel filled it behind Valgrind's back
                (void)VALGRIND_MAKE_MEM_DEFINED(reads[j].at, reads[j].len);
                reads[j].got = reads[j].len;
                reads[j].code = OCH_OK;
                reads[j].os_errno = 0;
            } else {
                read_one(&reads[j]);
            }
        }
    }
    return true;
}

/* ---- the whole ---- */

och_code io_reader_new(struct io *io, enum io_reader_kind kind, struct io_reader **ret_reader,
                       och_error *err)
{
    struct io_reader *reader = MEM_NEW(struct io_reader);
    if (!reader)
        return FAIL_NO_MEMORY(err, "a reader of files");
    reader->io = io;
    mutex_init(&reader->mutex, RANK_LEAF);
    if (!io->ops->descriptor) // not the machine's disk: one after the other, in the order given
        kind = IO_READER_SERIAL;
    if (kind == IO_READER_BEST) {
        struct ring *ring = ring_take(reader);
        reader->use_rings = ring != NULL;
        if (ring)
            ring_give(reader, ring, false);
        else
            kind = IO_READER_THREADS;
    }
    if (kind == IO_READER_THREADS) {
        struct pool_options options = {.name = "read", .thread_count = THREADS};
        och_code code = pool_new(&options, &reader->pool, err);
        if (code != OCH_OK) {
            io_reader_free(reader);
            return code;
        }
    }
    *ret_reader = reader;
    return OCH_OK;
}

void io_reader_free(struct io_reader *reader)
{
    if (!reader)
        return;
    pool_free(reader->pool);
    for (struct ring *ring = reader->free, *next; ring; ring = next) {
        next = ring->next;
        ring_free(ring);
    }
    mutex_done(&reader->mutex);
    mem_free(reader);
}

void io_read_batch(struct io_reader *reader, struct io_read *reads, size_t count)
{
    sched_block_begin();
    bool done = count > 1 && reader->use_rings && read_by_ring(reader, reads, count);
    sched_block_end();
    if (done)
        return;
    if (count > 1 && reader->pool) {
        pool_for(reader->pool, count, read_task, reads);
        return;
    }
    for (size_t i = 0; i < count; i++)
        read_one(&reads[i]);
}
