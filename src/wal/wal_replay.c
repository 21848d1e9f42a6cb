/* SPDX-License-Identifier: Apache-2.0 */
/* Replay of one segment: its groups by headers, D1's judgement of what is not sound, and the index of what somebody still
 * needs.  Only the tail's groups from the highest `synced` on have their payloads read. */
#include "wal/wal_recover.h"

#include <inttypes.h>
#include <stdio.h>

och_code wal_corrupt(och_error *err, const struct wal_segment *segment, uint64_t byte,
                     const char *what)
{
    return FAIL(err, OCH_CORRUPT, "log segment %s, byte %" PRIu64 ": %s", file_path(segment->file),
                byte, what);
}

static bool is_tomb(const struct recovery *r, uuid id, size_t *ret_index)
{
    size_t low = 0, high = r->tomb_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = uuid_compare(r->tombs[middle], id);
        if (order == 0) {
            *ret_index = middle;
            return true;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}

/* The collection's state, or NULL when the frame is a dropped collection's. */
static och_code owner_get(struct recovery *r, uuid id, uint64_t segment_id,
                          struct wal_collection **ret, och_error *err)
{
    struct wal *wal = r->wal;
    size_t tomb;
    *ret = wal_collection_find(wal, id);
    if (*ret)
        return OCH_OK;
    if (is_tomb(r, id, &tomb)) {
        if (r->tombs_last[tomb] < segment_id)
            r->tombs_last[tomb] = segment_id;
        return OCH_OK;
    }
    struct wal_collection *c;
    mutex_lock(&wal->lock);
    och_code code = wal_collection_get(wal, id, &c, err);
    if (code == OCH_OK)
        wal_collection_unpin(wal, c);
    mutex_unlock(&wal->lock);
    if (code == OCH_NOT_FOUND) {
        char text[UUID_TEXT_SIZE];
        return FAIL(err, OCH_CORRUPT,
                    "the log holds batches of collection %s, which the catalogue does not know",
                    uuid_format(id, text));
    }
    TRY(code);
    *ret = c;
    return OCH_OK;
}

/*
 * A damaged group header is harmless if the frames behind it are sound, fill the place up to the next sound group, and
 * nobody needs them.
 */
static och_code harmless(struct recovery *r, struct wal_walk *walk, uint64_t byte, uint64_t end,
                         bool *ret_harmless, och_error *err)
{
    *ret_harmless = false;
    for (byte += WAL_HEADER_SIZE; byte < end;) {
        struct wal_frame frame;
        bool sound;
        TRY(wal_walk_frame(walk, byte, &frame, &sound, err));
        if (!sound || wal_frame_bytes(frame.payload_size) > end - byte)
            return OCH_OK;
        struct wal_collection *c;
        TRY(owner_get(r, frame.collection, walk->name.id, &c, err));
        if (c && frame.first + frame.count > c->trimmed)
            return OCH_OK;
        byte += wal_frame_bytes(frame.payload_size);
    }
    *ret_harmless = byte == end;
    return OCH_OK;
}

static och_code damage_judge(struct recovery *r, struct wal_walk *walk,
                             const struct wal_segment *segment, uint64_t byte, uint64_t next,
                             och_error *err)
{
    bool fine;
    TRY(harmless(r, walk, byte, next, &fine, err));
    if (!fine)
        return wal_corrupt(err, segment, byte,
                           "a group that was durable is damaged; `ochre check` tells what else is");
    char where[64];
    (void)snprintf(where, sizeof(where), "%" PRIu64, byte);
    trace_line(r->wal->options.trace, TRACE_WARN, "wal",
               "a damaged group was skipped: all in it is in the parts", "segment",
               file_path(segment->file), "byte", where, NULL);
    return OCH_OK;
}

static och_code group_take(struct recovery *r, const struct wal_segment *segment, uint64_t byte,
                           const struct wal_group *group, size_t frames_before, och_error *err)
{
    struct group_at at = {byte, byte + group->size, group->sequence, frames_before, group->synced};
    if (r->generation < group->generation)
        r->generation = group->generation;
    if (wal_place_compare(r->synced, group->synced) < 0)
        r->synced = group->synced;
    if (r->groups.len && r->groups.at[r->groups.len - 1].sequence >= group->sequence)
        return wal_corrupt(err, segment, byte, "groups are out of order");
    return VEC_PUSH(&r->groups, at) ? OCH_OK : FAIL_NO_MEMORY(err, "opening the log");
}

/* From `byte` (0 at first) over sound groups; *ret_byte is where the first one stands that is not, or the end. */
static och_code walk_sound(struct recovery *r, struct wal_walk *walk, const struct link *link,
                           uint64_t *byte, bool *ret_last, och_error *err)
{
    *ret_last = false;
    while (!*ret_last && *byte < (link->limit < walk->size ? link->limit : walk->size)) {
        struct wal_group group;
        size_t before = r->frames.len;
        bool sound;
        TRY(wal_walk_group(walk, *byte, &group, &r->frames, &sound, err));
        if (!sound)
            return OCH_OK;
        TRY(group_take(r, link->segment, *byte, &group, before, err));
        *byte += group.size;
        *ret_last = group.flags & WAL_GROUP_LAST;
    }
    return OCH_OK;
}

/* A segment of the chain before the tail: it has to be sound up to its known end. */
static och_code segment_walk(struct recovery *r, struct wal_walk *walk, const struct link *link,
                             och_error *err)
{
    struct wal_segment *segment = link->segment;
    uint64_t byte = 0;
    for (;;) {
        bool last;
        TRY(walk_sound(r, walk, link, &byte, &last, err));
        if (last)
            segment->closed = true;
        if (last || byte >= link->limit)
            break;
        uint64_t end = link->limit < walk->size ? link->limit : walk->size, next;
        struct wal_group group;
        bool zero;
        TRY(wal_walk_search(walk, byte + WAL_ALIGN, end, &next, &group, &zero, err));
        TRY(damage_judge(r, walk, segment, byte, next, err));
        byte = next;
        if (byte >= end)
            break;
    }
    if (link->limit != NO_LIMIT && byte != link->limit)
        return wal_corrupt(err, segment, byte, "it does not end where the next segment says");
    if (link->limit == NO_LIMIT && !segment->closed)
        return wal_corrupt(err, segment, byte, "its end is missing");
    return OCH_OK;
}

/* Whether some sound group behind `byte` of the tail was written when everything up to there was durable. */
static och_code tail_search(struct recovery *r, struct wal_walk *walk, uint64_t byte,
                            uint64_t *ret_next, bool *ret_damage, och_error *err)
{
    struct wal_place here = {walk->name.id, byte};
    struct wal_group group;
    uint64_t at = byte;
    bool zero, found = false;
    *ret_damage = false;
    *ret_next = walk->size;
    r->rest_zero = true;
    while (at < walk->size) {
        // the place itself may hold half a header
        TRY(wal_walk_search(walk, at == byte ? byte : at + WAL_ALIGN, walk->size, &at, &group,
                            &zero, err));
        r->rest_zero = r->rest_zero && zero && at == walk->size;
        if (at == walk->size)
            break;
        *ret_next = found ? *ret_next : at;
        found = true;
        *ret_damage |= wal_place_compare(group.synced, here) > 0;
    }
    for (size_t i = r->tail + 1; i < r->count; i++) {
        struct link *link = &r->links[i];
        struct wal_walk other;
        TRY(wal_walk_init(&other, link->segment->file, link->segment->name, link->segment->size,
                          err));
        och_code code = OCH_OK;
        bool unused = true;
        for (at = 0; code == OCH_OK && at < other.size; at += WAL_ALIGN) {
            code = wal_walk_search(&other, at, other.size, &at, &group, &zero, err);
            unused = unused && zero && at == other.size;
            if (code == OCH_OK && at < other.size)
                *ret_damage |= wal_place_compare(group.synced, here) > 0;
        }
        wal_walk_done(&other);
        TRY(code);
        link->segment->state = unused ? SEGMENT_UNUSED : SEGMENT_VOID;
        r->rest_zero = r->rest_zero && unused;
    }
    return OCH_OK;
}

/* The tail: sound groups, then either nothing, or a torn flush to cut, or damage. */
static och_code tail_walk(struct recovery *r, struct wal_walk *walk, const struct link *link,
                          och_error *err)
{
    struct wal_segment *segment = link->segment;
    uint64_t byte = 0;
    bool at_note = false;
    for (;;) {
        bool damage;
        TRY(walk_sound(r, walk, link, &byte, &r->closed, err));
        at_note = r->noted.has && r->noted.segment == segment->name.id && r->noted.byte == byte;
        if (at_note)
            break;
        uint64_t next;
        TRY(tail_search(r, walk, byte, &next, &damage, err));
        bool short_of_note =
            r->noted.has && r->noted.segment == segment->name.id && r->noted.byte > byte;
        if (short_of_note && (next > r->noted.byte || next == walk->size)) {
            next = r->noted.byte < walk->size ? r->noted.byte : walk->size;
        } else if (!damage && !short_of_note) {
            break;
        }
        TRY(damage_judge(r, walk, segment, byte, next, err));
        byte = next;
    }
    r->end = byte;
    segment->closed = r->closed;
    if (at_note) { // closed in order: what stands behind was never written
        r->rest_zero = true;
        for (size_t i = r->tail + 1; i < r->count; i++)
            r->links[i].segment->state = SEGMENT_UNUSED;
    }
    return OCH_OK;
}

/* Payloads of the groups that nobody says are durable: the first bad one is where the log is cut. */
static och_code tail_verify(struct recovery *r, struct wal_walk *walk, och_error *err)
{
    for (size_t i = 0; i < r->groups.len; i++) {
        const struct group_at *group = &r->groups.at[i];
        if (wal_place_compare((struct wal_place){walk->name.id, group->byte}, r->synced) < 0)
            continue;
        size_t end = i + 1 < r->groups.len ? r->groups.at[i + 1].frames : r->frames.len;
        for (size_t j = group->frames; j < end; j++) {
            const struct wal_found *found = &r->frames.at[j];
            struct wal_collection *c;
            bool sound;
            TRY(owner_get(r, found->frame.collection, walk->name.id, &c, err));
            if (!c)
                continue; // may be punched
            TRY(wal_walk_payload(walk, found, &sound, err));
            if (sound)
                continue;
            r->end = group->byte;
            r->rest_zero = false;
            r->closed = false;
            r->links[r->tail].segment->closed = false;
            r->frames.len = group->frames;
            r->groups.len = i;
            return OCH_OK;
        }
    }
    return OCH_OK;
}

/* ---- the index ---- */

static och_code frame_take(struct recovery *r, struct wal_segment *segment,
                           const struct wal_found *found, och_error *err)
{
    const struct wal_frame *frame = &found->frame;
    struct wal *wal = r->wal;
    struct wal_collection *c;
    TRY(owner_get(r, frame->collection, segment->name.id, &c, err));
    if (!c || frame->first + frame->count <= c->trimmed)
        return OCH_OK;
    bool fits = c->entries.len ? frame->first == c->head : frame->first <= c->trimmed;
    if (!fits) {
        char text[UUID_TEXT_SIZE];
        return FAIL(err, OCH_CORRUPT,
                    "log segment %s, byte %" PRIu64 ": collection %s goes on at offset %" PRIu64
                    ", expected %" PRIu64,
                    file_path(segment->file), found->byte, uuid_format(c->id, text), frame->first,
                    c->head);
    }
    struct wal_entry entry = {
        .segment = segment,
        .byte = found->byte,
        .first = frame->first,
        .created_at = frame->created_at,
        .count = frame->count,
        .dimension = frame->dimension,
        .payload_size = frame->payload_size,
        .payload_crc = frame->payload_crc,
    };
    if (!VEC_PUSH(&c->entries, entry))
        return FAIL_NO_MEMORY(err, "the log's index");
    segment->live_frames++;
    c->live_bytes += wal_frame_bytes(frame->payload_size);
    wal->stats.backlog_bytes += wal_frame_bytes(frame->payload_size);
    wal->stats.backlog_batches++;
    c->head = c->next_head = frame->first + frame->count;
    c->dimension = c->next_dimension = frame->dimension ? frame->dimension : c->dimension;
    if (c->last_created_at < frame->created_at)
        c->last_created_at = c->next_created_at = frame->created_at;
    if (uuid_is_zero(frame->batch_id))
        return OCH_OK;
    struct wal_id *id = MEM_NEW(struct wal_id);
    if (!id)
        return FAIL_NO_MEMORY(err, "a batch id");
    id->batch_id = frame->batch_id;
    id->request_hash = frame->request_hash;
    uint64_t *old = map_find(&c->ids, uuid_slice(&id->batch_id));
    if (old) // the first was older than we remember when the second came
        wal_id_drop(c, (struct wal_id *)(uintptr_t)*old);
    bool fresh = false;
    uint64_t *value = map_at(&c->ids, uuid_slice(&id->batch_id), &fresh);
    if (!value) {
        mem_free(id);
        return FAIL_NO_MEMORY(err, "a batch id");
    }
    *value = (uint64_t)(uintptr_t)id;
    wal_id_done(c, id, frame->first, frame->count, frame->created_at);
    return OCH_OK;
}

och_code wal_replay(struct recovery *r, size_t index, och_error *err)
{
    const struct link *link = &r->links[index];
    struct wal_walk walk;
    r->groups.len = 0;
    r->frames.len = 0;
    TRY(wal_walk_init(&walk, link->segment->file, link->segment->name, link->segment->size, err));
    och_code code =
        index == r->tail ? tail_walk(r, &walk, link, err) : segment_walk(r, &walk, link, err);
    if (code == OCH_OK && index == r->tail)
        code = tail_verify(r, &walk, err);
    wal_walk_done(&walk);
    for (size_t i = 0; code == OCH_OK && i < r->frames.len; i++)
        code = frame_take(r, link->segment, &r->frames.at[i], err);
    return code;
}
