/* SPDX-License-Identifier: Apache-2.0 */
/* Groups onto the disk: the current segment and its end, notes, closing and beginning segments, and going on after
 * a failure (D1, D11).  All of it runs in the writer's thread, or where no other runs. */
#include "wal/wal_internal.h"

#include <errno.h>

/* Under lock: what the next write in `current` would break is undone by starting anew. */
static void current_drop(struct wal *wal)
{
    if (wal->current && !wal->started)
        wal->current->state = SEGMENT_VOID;
    wal->current = NULL;
    wal->started = wal->started_seen = false;
    wal->used = 0;
}

void wal_current_set(struct wal *wal, struct wal_segment *segment)
{
    mutex_lock(&wal->lock);
    current_drop(wal);
    wal->current = segment;
    mutex_unlock(&wal->lock);
    wal->byte = 0;
}

/*
 * Write one group whose header is parts[0] (filled in here).  On success the log ends behind it, on failure
 * nothing is known of the segment any more (D11).
 */
och_code wal_group_put(struct wal *wal, struct iovec *parts, size_t part_count,
                       struct wal_group *group, bool sync, och_error *err)
{
    struct wal_segment *segment = wal->current;
    assert(segment && wal->byte + group->size <= segment->size);
    assert(parts[0].iov_len >= WAL_HEADER_SIZE);
    bool first = wal->byte == 0;
    group->sequence = wal->sequence;
    group->synced = wal->synced;
    group->generation = sysdb_generation(wal->options.sysdb);
    if (first) {
        group->flags |= WAL_GROUP_FIRST;
        group->ended = wal->end;
    }
    wal_group_encode(group, segment->name, wal->byte, parts[0].iov_base);
    och_code code = file_write_v(segment->file, wal->byte, parts, part_count, err);
    sync = sync || first;
    if (code == OCH_OK && sync)
        code = file_sync(segment->file, err);
    if (code != OCH_OK) {
        mutex_lock(&wal->lock);
        current_drop(wal);
        wal->must_mark = true;
        mutex_unlock(&wal->lock);
        return code;
    }
    wal->byte += group->size;
    wal->end = (struct wal_place){segment->name.id, wal->byte};
    wal->noted = group->synced;
    wal->sequence++;
    if (group->frame_count)
        wal->data_end = wal->end;
    if (sync) {
        wal->synced = wal->end;
        wal->sync_mono_ns = sched_mono_ns();
    }
    mutex_lock(&wal->lock);
    wal->started = wal->started_seen = true;
    wal->used = wal->byte;
    wal->stats.flushes += group->frame_count > 0;
    mutex_unlock(&wal->lock);
    return OCH_OK;
}

static och_code group_put_empty(struct wal *wal, uint32_t flags, bool sync, och_error *err)
{
    uint8_t head[WAL_HEADER_SIZE];
    struct iovec part = {head, sizeof(head)};
    struct wal_group group = {.size = WAL_HEADER_SIZE, .flags = flags};
    return wal_group_put(wal, &part, 1, &group, sync, err);
}

/* The catalogue's note of the log's end does not hold once something is written. */
och_code wal_end_forget(struct wal *wal, och_error *err)
{
    if (!wal->end_noted)
        return OCH_OK;
    TRY(sysdb_log_end_set(wal->options.sysdb, &(struct sysdb_log_end){0}, err));
    wal->end_noted = false;
    return OCH_OK;
}

och_code wal_data_sync(struct wal *wal, och_error *err)
{
    if (!wal->current || wal_place_compare(wal->synced, wal->end) >= 0)
        return OCH_OK;
    och_code code = file_sync(wal->current->file, err);
    if (code == OCH_OK) {
        wal->synced = wal->end;
        wal->sync_mono_ns = sched_mono_ns();
        return OCH_OK;
    }
    mutex_lock(&wal->lock);
    current_drop(wal);
    wal->must_mark = true;
    mutex_unlock(&wal->lock);
    return code;
}

och_code wal_writer_note(struct wal *wal, bool sync, och_error *err)
{
    if (!wal->current || !wal->started)
        return OCH_OK;
    bool last = wal->byte + FIRST_BYTES > wal->current->size;
    if (last && !sync)
        return OCH_OK; // its last place is kept for the end
    if (wal->byte + WAL_HEADER_SIZE > wal->current->size)
        return OCH_OK;
    TRY(wal_end_forget(wal, err));
    if (sync)
        TRY(wal_data_sync(wal, err));
    struct wal_segment *segment = wal->current;
    TRY(group_put_empty(wal, last ? WAL_GROUP_LAST : 0, sync, err));
    if (last) {
        mutex_lock(&wal->lock);
        segment->closed = true;
        current_drop(wal);
        mutex_unlock(&wal->lock);
    }
    return OCH_OK;
}

/* Leave `current`: everything in it durable, then a group that says it was the last. */
void wal_current_close(struct wal *wal)
{
    struct wal_segment *segment = wal->current;
    if (!segment)
        return;
    och_error why = {0};
    och_code code = OCH_OK;
    if (wal->started) {
        code = wal_data_sync(wal, &why);
        if (code == OCH_OK && wal->byte + WAL_HEADER_SIZE <= segment->size)
            code = group_put_empty(wal, WAL_GROUP_LAST, true, &why);
    }
    mutex_lock(&wal->lock);
    segment->closed = code == OCH_OK && wal->started;
    current_drop(wal);
    wal->must_mark = false; // the next segment's first group tells the end in any case
    mutex_unlock(&wal->lock);
    if (code != OCH_OK)
        trace_line(wal->options.trace, TRACE_WARN, "wal", "a segment could not be closed", "error",
                   why.message, NULL);
}

och_code wal_writer_mark(struct wal *wal, och_error *err)
{
    struct wal_segment *segment;
    TRY(wal_end_forget(wal, err));
    TRY(wal_segment_next(wal, FIRST_BYTES, true, &segment, err));
    wal_current_set(wal, segment);
    TRY(group_put_empty(wal, 0, true, err));
    wal->must_mark = false;
    return OCH_OK;
}

/* ---- failures ---- */

/* Nothing of ours is at fault and it may pass: no room, no memory, no descriptors. */
bool wal_may_pass(const och_error *why)
{
    return wal_is_full(why) || why->code == OCH_NO_MEMORY || why->os_errno == EMFILE ||
           why->os_errno == ENFILE;
}

void wal_set_failing(struct wal *wal, const och_error *why, bool for_good)
{
    mutex_lock(&wal->lock);
    if (!wal->failing && !wal->read_only)
        trace_line(wal->options.trace, TRACE_ERROR, "wal",
                   for_good ? "no writes until reopened" : "no writes for now", "error",
                   why->message, NULL);
    wal->failing = !for_good;
    wal->read_only |= for_good;
    wal->retry_mono_ns = wal_is_full(why) ? sched_mono_ns() + WAL_RETRY_NS : 0;
    wal->failure = *why;
    mutex_unlock(&wal->lock);
}

/* A full disk has room again when a whole segment could be had, not when a small batch fits somewhere. */
void wal_set_working(struct wal *wal, bool fresh_segment)
{
    if (!wal->failing || wal->rescue || (wal_is_full(&wal->failure) && !fresh_segment))
        return;
    mutex_lock(&wal->lock);
    wal->failing = false;
    wal->reserve_wanted = true;
    cond_signal(&wal->chore);
    mutex_unlock(&wal->lock);
    trace_line(wal->options.trace, TRACE_WARN, "wal", "writes go on", NULL);
}

/* After a failed flush: go on in a new segment that says where the last one ends (D11). */
void wal_resume(struct wal *wal)
{
    och_error why = {0};
    if (!wal->must_mark)
        return;
    if (wal_writer_mark(wal, &why) == OCH_OK)
        wal_set_working(wal, true);
    else
        wal_set_failing(wal, &why, !wal_may_pass(&why));
}
