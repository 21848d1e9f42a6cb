/* SPDX-License-Identifier: Apache-2.0 */
/* Segments come and go.  A file is reserved, synced and named in its folder before its catalogue row, and a row
 * is removed before its file: so a row without a file is damage, and a file without a row is either one that was
 * never written to or, with an id below the catalogue's highest, one that was to be removed. */
#include "wal/wal_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SPARE_RETRY_NS 1000000000ull

bool wal_is_full(const och_error *err)
{
    return err->os_errno == ENOSPC || err->os_errno == EDQUOT;
}

och_code wal_path(struct wal *wal, const char *name, char **ret_path, och_error *err)
{
    size_t size = strlen(wal->folder) + strlen(name) + 2;
    char *path = mem_alloc(size);
    if (!path)
        return FAIL_NO_MEMORY(err, "a path");
    (void)snprintf(path, size, "%s/%s", wal->folder, name);
    *ret_path = path;
    return OCH_OK;
}

void wal_segment_unref(struct wal *wal, struct wal_segment *segment)
{
    (void)wal;
    assert(segment->refs > 0);
    if (--segment->refs)
        return;
    file_close(segment->file);
    mem_free(segment);
}

static och_code segment_make(struct wal *wal, const char *path, struct wal_segment *segment,
                             och_error *err)
{
    struct io *io = wal->options.io;
    TRY(io_open(io, path, IO_WRITE | IO_CREATE | IO_EXCLUSIVE, &segment->file, err));
    och_code code = file_allocate(segment->file, 0, segment->size, err);
    if (code == OCH_OK)
        code = file_sync(segment->file, err);
    if (code == OCH_OK)
        code = io_sync_folder(io, wal->folder, err);
    if (code == OCH_OK)
        return OCH_OK;
    file_close(segment->file);
    segment->file = NULL;
    wal_ignore(io_remove(io, path, NULL)); // no row names it yet
    return code;
}

och_code wal_segment_new(struct wal *wal, uint64_t size, struct wal_segment **ret_segment,
                         och_error *err)
{
    struct wal_segment *segment = MEM_NEW(struct wal_segment);
    if (!segment)
        return FAIL_NO_MEMORY(err, "a log segment");
    mutex_lock(&wal->lock);
    *segment = (struct wal_segment){
        .refs = 1,
        .state = SEGMENT_UNUSED,
        .name = {wal->next_id++, random_u64(&wal->random)},
        .size = size,
    };
    mutex_unlock(&wal->lock);
    char text[WAL_NAME_SIZE];
    CLEANUP(mem_cleanup) char *path = NULL;
    och_code code = wal_path(wal, wal_name_format(segment->name, text), &path, err);
    if (code == OCH_OK)
        code = segment_make(wal, path, segment, err);
    if (code == OCH_OK) {
        struct sysdb_segment row = {segment->name.id, segment->name.salt, size};
        // when this fails the row may be there all the same: the empty file stays for the next open
        code = sysdb_segment_add(wal->options.sysdb, &row, err);
    }
    if (code != OCH_OK) {
        file_close(segment->file);
        mem_free(segment);
        return code;
    }
    *ret_segment = segment;
    return OCH_OK;
}

static void reserve_drop(struct wal *wal)
{
    CLEANUP(mem_cleanup) char *path = NULL;
    if (wal_path(wal, WAL_RESERVE_NAME, &path, NULL) == OCH_OK)
        wal_ignore(io_remove(wal->options.io, path, NULL));
}

static void reserve_make(struct wal *wal)
{
    CLEANUP(mem_cleanup) char *path = NULL;
    struct file *file = NULL;
    if (wal_path(wal, WAL_RESERVE_NAME, &path, NULL) != OCH_OK ||
        io_open(wal->options.io, path, IO_WRITE | IO_CREATE, &file, NULL) != OCH_OK)
        return;
    bool done = file_allocate(file, 0, WAL_RESERVE_BYTES, NULL) == OCH_OK &&
                file_sync(file, NULL) == OCH_OK;
    file_close(file);
    if (!done)
        wal_ignore(io_remove(wal->options.io, path, NULL));
    mutex_lock(&wal->lock);
    wal->reserve_there = done;
    wal->reserve_given_up &= !done;
    mutex_unlock(&wal->lock);
}

/* Under lock: into the list, ascending.  Without memory the file stays for the next open. */
static bool segment_keep(struct wal *wal, struct wal_segment *segment, bool grow)
{
    if (!VEC_RESERVE(&wal->segments, wal->segments.len + 1)) {
        wal_segment_unref(wal, segment);
        return false;
    }
    size_t at = wal->segments.len++;
    for (; at > 0 && wal->segments.at[at - 1]->name.id > segment->name.id; at--)
        wal->segments.at[at] = wal->segments.at[at - 1];
    wal->segments.at[at] = segment;
    if (grow && wal->segment_bytes < wal->options.segment_bytes)
        wal->segment_bytes = wal->segment_bytes * 2 < wal->options.segment_bytes
                                 ? wal->segment_bytes * 2
                                 : wal->options.segment_bytes;
    return true;
}

/* The spare, if it was made and is large enough.  A smaller one stays below its successor, so it is void. */
static void spare_take(struct wal *wal, uint64_t needed, struct wal_segment **ret_segment,
                       uint64_t *ret_size)
{
    *ret_segment = NULL;
    mutex_lock(&wal->lock);
    while (wal->spare_state == SPARE_MAKING)
        wal_ignore(wal_wait_changed(wal, NULL, NULL));
    if (wal->spare_state == SPARE_READY) {
        bool fits = wal->spare->size >= needed;
        wal->spare->state = fits ? SEGMENT_USED : SEGMENT_VOID;
        *ret_segment = fits ? wal->spare : NULL;
        wal->spare = NULL;
    }
    wal->spare_state = SPARE_NONE;
    *ret_size = round_up(needed > wal->segment_bytes ? needed : wal->segment_bytes, WAL_PAGE);
    mutex_unlock(&wal->lock);
}

/* After a full disk there is room again when the reserve fits as well: else ordinary writes would take what deletes and
 * compaction need the next time. */
static och_code check_room(struct wal *wal, uint64_t size, och_error *err)
{
    uint64_t left = 0;
    mutex_lock(&wal->lock);
    bool given_up = wal->reserve_given_up;
    mutex_unlock(&wal->lock);
    if (!given_up || io_space(wal->options.io, wal->folder, &left, NULL) != OCH_OK ||
        left >= size + WAL_RESERVE_BYTES)
        return OCH_OK;
    return FAIL_OS(err, OCH_IO, ENOSPC, "%" PRIu64 " bytes are free, a log segment takes %" PRIu64,
                   left, (uint64_t)(size + WAL_RESERVE_BYTES));
}

och_code wal_segment_next(struct wal *wal, uint64_t needed, bool may_rescue,
                          struct wal_segment **ret_segment, och_error *err)
{
    struct wal_segment *segment;
    uint64_t size;
    spare_take(wal, needed, &segment, &size);
    if (segment) {
        wal->rescue = false;
        *ret_segment = segment;
        return OCH_OK;
    }
    och_error first = {0};
    // the last room is not for a whole segment when a small one does: naming it in the catalogue takes some, too
    bool small_does = may_rescue && needed <= WAL_RESCUE_BYTES && size > WAL_RESCUE_BYTES;
    och_code code = may_rescue && !small_does ? OCH_OK : check_room(wal, size, &first);
    if (code == OCH_OK)
        code = wal_segment_new(wal, size, &segment, &first);
    bool rescue = false;
    if (code != OCH_OK && wal_is_full(&first)) {
        reserve_drop(wal);
        mutex_lock(&wal->lock);
        wal->reserve_there = false;
        wal->reserve_given_up = true;
        mutex_unlock(&wal->lock);
        if (small_does) {
            rescue = true;
            code = wal_segment_new(wal, WAL_RESCUE_BYTES, &segment, NULL);
        }
    }
    if (code != OCH_OK) {
        if (err)
            *err = first;
        return first.code;
    }
    mutex_lock(&wal->lock);
    segment->state = SEGMENT_USED;
    bool kept = segment_keep(wal, segment, !rescue);
    wal->reserve_wanted |= !rescue && !wal->reserve_there;
    cond_signal(&wal->chore);
    mutex_unlock(&wal->lock);
    if (!kept)
        return FAIL_NO_MEMORY(err, "a log segment");
    wal->rescue = rescue;
    *ret_segment = segment;
    return OCH_OK;
}

/* Under lock: take what can go out of the list into `gone`.  Room for all was made. */
static size_t reap_collect(struct wal *wal, struct wal_segment **gone)
{
    size_t gone_count = 0, kept = 0;
    bool before_open = false; // one that stays needs its successor to tell where it ends
    for (size_t i = 0; i < wal->segments.len; i++) {
        struct wal_segment *segment = wal->segments.at[i];
        bool old = segment->name.id < wal->current->name.id;
        bool dead = segment->state == SEGMENT_VOID ||
                    (segment->state == SEGMENT_USED && segment->live_frames == 0 && !before_open);
        if (old && dead) {
            gone[gone_count++] = segment;
            continue;
        }
        before_open = segment->state == SEGMENT_USED && !segment->closed;
        wal->segments.at[kept++] = segment;
    }
    wal->segments.len = kept;
    return gone_count;
}

static void reap_files(struct wal *wal, struct wal_segment **gone, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        och_error why = {0};
        if (io_remove(wal->options.io, file_path(gone[i]->file), &why) != OCH_OK)
            trace_line(wal->options.trace, TRACE_WARN, "wal",
                       "a segment that nobody needs stays until the next open", "error",
                       why.message, NULL);
    }
    wal_ignore(io_sync_folder(wal->options.io, wal->folder,
                              NULL)); // a file that comes back is removed at open
}

/* Tombstones are needed while a segment may hold frames of theirs. */
static och_code reap_tombs(struct wal *wal, och_error *err)
{
    VEC(uuid) ids = {0};
    mutex_lock(&wal->lock);
    uint64_t lowest = wal->segments.len ? wal->segments.at[0]->name.id : wal->next_id;
    size_t kept = 0;
    bool room = VEC_RESERVE(&ids, wal->tombs.len);
    for (size_t i = 0; room && i < wal->tombs.len; i++) {
        if (wal->tombs.at[i].last < lowest)
            ids.at[ids.len++] = wal->tombs.at[i].id;
    }
    mutex_unlock(&wal->lock);
    och_code code = room ? OCH_OK : FAIL_NO_MEMORY(err, "a list of collections");
    if (code == OCH_OK && ids.len)
        code = sysdb_tombstones_remove(wal->options.sysdb, ids.at, ids.len, err);
    if (code == OCH_OK && ids.len) {
        mutex_lock(&wal->lock);
        for (size_t i = 0; i < wal->tombs.len; i++) {
            if (wal->tombs.at[i].last >= lowest)
                wal->tombs.at[kept++] = wal->tombs.at[i];
        }
        wal->tombs.len = kept;
        mutex_unlock(&wal->lock);
    }
    VEC_DONE(&ids);
    return code;
}

/* Under reap_lock. */
static och_code reap_segments(struct wal *wal, bool *ret_any, och_error *err)
{
    mutex_lock(&wal->lock);
    size_t max = wal->segments.len, count = 0;
    CLEANUP(mem_cleanup) char *memory = mem_alloc(max * (sizeof(void *) + sizeof(uint64_t)));
    struct wal_segment **gone = (struct wal_segment **)(void *)memory;
    // before the first group of a segment is durable, its predecessors' ends are known by nothing else
    if (memory && wal->current && wal->started_seen)
        count = reap_collect(wal, gone);
    mutex_unlock(&wal->lock);
    if (!memory)
        return FAIL_NO_MEMORY(err, "a list of segments");
    *ret_any = count > 0;
    if (count == 0)
        return OCH_OK;
    uint64_t *ids = (uint64_t *)(void *)(memory + max * sizeof(void *));
    for (size_t i = 0; i < count; i++)
        ids[i] = gone[i]->name.id;
    och_code code = sysdb_segment_remove(wal->options.sysdb, ids, count, err);
    if (code == OCH_OK)
        reap_files(wal, gone, count);
    mutex_lock(&wal->lock);
    for (size_t i = 0; i < count; i++) {
        if (code == OCH_OK)
            wal_segment_unref(wal, gone[i]);
        else
            (void)segment_keep(wal, gone[i], false); // another try with the next trim
    }
    mutex_unlock(&wal->lock);
    return code;
}

och_code wal_reap(struct wal *wal, och_error *err)
{
    bool any = false;
    mutex_lock(&wal->reap_lock);
    och_code code = reap_segments(wal, &any, err);
    if (code == OCH_OK && any)
        code = reap_tombs(wal, err);
    mutex_unlock(&wal->reap_lock);
    return code;
}

/* ---- the helper thread ---- */

/* Under lock, which is given up meanwhile. */
static void spare_make(struct wal *wal)
{
    wal->spare_state = SPARE_MAKING;
    uint64_t size = wal->segment_bytes;
    mutex_unlock(&wal->lock);
    struct wal_segment *segment = NULL;
    och_error why = {0};
    bool made = wal_segment_new(wal, size, &segment, &why) == OCH_OK;
    mutex_lock(&wal->lock);
    made = made && segment_keep(wal, segment, true);
    wal->spare = made ? segment : NULL;
    wal->spare_state = made ? SPARE_READY : SPARE_NONE;
    if (!made) {
        wal->spare_retry_ns = sched_mono_ns() + SPARE_RETRY_NS;
        trace_line(wal->options.trace, TRACE_WARN, "wal", "no spare segment", "error", why.message,
                   NULL);
    }
    wal_wake_changed(wal);
}

static void punch_one(struct wal *wal)
{
    struct wal_range range = wal->punches.at[--wal->punches.len];
    mutex_unlock(&wal->lock);
    wal_ignore(file_punch(range.segment->file, range.byte, range.len, NULL)); // space only
    mutex_lock(&wal->lock);
    wal_segment_unref(wal, range.segment);
}

void wal_helper_run(void *arg)
{
    struct wal *wal = arg;
    thread_lower_priority();
    mutex_lock(&wal->lock);
    for (;;) {
        if (wal->punches.len) {
            punch_one(wal);
        } else if (wal->reap_wanted) {
            wal->reap_wanted = false;
            mutex_unlock(&wal->lock);
            och_error why = {0};
            if (wal_reap(wal, &why) != OCH_OK)
                trace_line(wal->options.trace, TRACE_WARN, "wal", "segments stay for now", "error",
                           why.message, NULL);
            mutex_lock(&wal->lock);
        } else if (wal->helper_stopping) {
            break;
        } else if (wal->spare_state == SPARE_WANTED) {
            spare_make(wal);
        } else if (wal->reserve_wanted) {
            wal->reserve_wanted = false;
            mutex_unlock(&wal->lock);
            reserve_make(wal);
            mutex_lock(&wal->lock);
        } else {
            cond_wait(&wal->chore, &wal->lock);
        }
    }
    mutex_unlock(&wal->lock);
}
