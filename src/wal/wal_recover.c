/* SPDX-License-Identifier: Apache-2.0 */
/* Opening: which groups count, by D1's rule, and what they hold.
 *
 * The last segment with a sound first group is the log's tail; its first group names the segment before and where that
 * ends, and so on back: a chain.  Segments between two of the chain are void.  Where the segment before is gone (trimmed),
 * the next older one must end with a LAST group.  Then each segment of the chain is walked from its start to its end, by
 * headers alone; only the tail's groups from the highest `synced` on have their payloads read. */
#include "wal/wal_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NO_LIMIT      UINT64_MAX
#define REWRITE_BYTES (1u << 20)

struct link { /* a segment while the log is being opened */
    struct wal_segment *segment;
    struct wal_group first;
    bool has_first, chained;
    uint64_t
        limit; /* where it ends, as the next one says; NO_LIMIT: it must say so itself, or it is the tail */
};
struct group_at {
    uint64_t byte, end, sequence;
    size_t frames; /* before it in the list */
    struct wal_place synced;
};
struct recovery {
    struct wal *wal;
    struct arena arena;
    struct link *links;
    size_t count;
    size_t tail; /* index, == count when there is no group at all */
    struct sysdb_log_end noted;
    uuid *tombs;
    uint64_t *tombs_last; /* highest segment with frames of it */
    size_t tomb_count;
    const char **leftover; /* names of files to remove */
    size_t leftover_count;
    uint64_t generation;
    struct wal_place synced;     /* the highest that anybody says */
    VEC(struct group_at) groups; /* of the segment being walked */
    wal_found_list frames;
    uint64_t end;   /* of the tail */
    bool rest_zero; /* nothing was ever written behind it */
    bool closed;    /* the tail's last group is LAST */
};

static och_code corrupt(och_error *err, const struct wal_segment *segment, uint64_t byte,
                        const char *what)
{
    return FAIL(err, OCH_CORRUPT, "log segment %s, byte %" PRIu64 ": %s", file_path(segment->file),
                byte, what);
}

/* ---- which files ---- */

static int by_id(const void *a, const void *b)
{
    uint64_t x = ((const struct sysdb_segment *)a)->id, y = ((const struct sysdb_segment *)b)->id;
    return (x > y) - (x < y);
}

static och_code segment_open(struct recovery *r, const struct sysdb_segment *row, och_error *err)
{
    struct wal *wal = r->wal;
    struct wal_segment *segment = MEM_NEW(struct wal_segment);
    if (!segment || !VEC_PUSH(&wal->segments, segment)) {
        mem_free(segment);
        return FAIL_NO_MEMORY(err, "a log segment");
    }
    *segment = (struct wal_segment){
        .refs = 1, .state = SEGMENT_VOID, .name = {row->id, row->salt}, .size = row->size};
    char text[WAL_NAME_SIZE];
    CLEANUP(mem_cleanup) char *path = NULL;
    TRY(wal_path(wal, wal_name_format(segment->name, text), &path, err));
    unsigned flags = wal->options.read_only ? 0 : IO_WRITE;
    och_code code = io_open(wal->options.io, path, flags, &segment->file, err);
    if (code == OCH_NOT_FOUND)
        return FAIL(err, OCH_CORRUPT, "log segment %s is missing", path);
    TRY(code);
    uint64_t size;
    TRY(file_size(segment->file, &size, err));
    if (size < row->size)
        return FAIL(err, OCH_CORRUPT,
                    "log segment %s has %" PRIu64 " bytes, the catalogue says %" PRIu64, path, size,
                    row->size);
    r->links[r->count++] = (struct link){.segment = segment, .limit = NO_LIMIT};
    return OCH_OK;
}

/* A file that the catalogue does not name: what a crash may leave, or a log newer than its catalogue. */
static och_code stranger_judge(struct recovery *r, const char *text, struct wal_name name,
                               uint64_t highest, och_error *err)
{
    struct wal *wal = r->wal;
    bool used = false;
    if (name.id > highest) { // rows go in before the first write
        uint8_t head[WAL_HEADER_SIZE] = {0};
        CLEANUP(mem_cleanup) char *path = NULL;
        struct file *file;
        size_t len;
        TRY(wal_path(wal, text, &path, err));
        TRY(io_open(wal->options.io, path, 0, &file, err));
        och_code code = file_read(file, 0, head, sizeof(head), &len, err);
        file_close(file);
        TRY(code);
        for (size_t i = 0; i < len; i++)
            used |= head[i] != 0;
    }
    if (used)
        return FAIL(
            err, OCH_CORRUPT,
            "log segment %s/%s is not in the catalogue: the catalogue is older than the log",
            wal->folder, text);
    r->leftover[r->leftover_count++] = text;
    return OCH_OK;
}

static och_code files_open(struct recovery *r, och_error *err)
{
    struct wal *wal = r->wal;
    struct sysdb_segment *rows;
    size_t row_count, entry_count = 0;
    struct io_entry *entries = NULL;
    TRY(sysdb_segment_list(wal->options.sysdb, &r->arena, &rows, &row_count, err));
    if (row_count)
        qsort(rows, row_count, sizeof(rows[0]), by_id);
    och_code code = io_list(wal->options.io, wal->folder, &r->arena, &entries, &entry_count, err);
    if (code == OCH_NOT_FOUND && row_count == 0)
        error_clear(err);
    else
        TRY(code);
    r->links = ARENA_ARRAY(&r->arena, struct link, row_count + 1);
    r->leftover = ARENA_ARRAY(&r->arena, const char *, entry_count + 1);
    if (!r->links || !r->leftover)
        return FAIL_NO_MEMORY(err, "opening the log");
    for (size_t i = 0; i < row_count; i++) {
        if (rows[i].id == 0 || (i && rows[i].id == rows[i - 1].id))
            return FAIL(err, OCH_CORRUPT, "the catalogue names log segment %" PRIu64 " twice",
                        rows[i].id);
        TRY(segment_open(r, &rows[i], err));
        wal->next_id = rows[i].id + 1;
        if (rows[i].size > wal->segment_bytes)
            wal->segment_bytes = rows[i].size < wal->options.segment_bytes
                                     ? rows[i].size
                                     : wal->options.segment_bytes;
    }
    uint64_t highest = wal->next_id - 1;
    for (size_t i = 0; i < entry_count; i++) {
        struct wal_name name;
        if (strcmp(entries[i].name, WAL_RESERVE_NAME) == 0)
            wal->reserve_there = true;
        if (entries[i].is_folder || !wal_name_parse(entries[i].name, &name))
            continue;
        bool known = false;
        for (size_t j = 0; j < r->count; j++)
            known |= r->links[j].segment->name.id == name.id &&
                     r->links[j].segment->name.salt == name.salt;
        if (!known)
            TRY(stranger_judge(r, entries[i].name, name, highest, err));
        if (name.id >= wal->next_id)
            wal->next_id = name.id + 1;
    }
    return OCH_OK;
}

/* ---- the chain ---- */

static och_code firsts_read(struct recovery *r, och_error *err)
{
    r->tail = r->count;
    for (size_t i = 0; i < r->count; i++) {
        struct link *link = &r->links[i];
        struct wal_walk walk;
        TRY(wal_walk_init(&walk, link->segment->file, link->segment->name, link->segment->size,
                          err));
        och_code code = wal_walk_group(&walk, 0, &link->first, NULL, &link->has_first, err);
        wal_walk_done(&walk);
        TRY(code);
        if (link->has_first)
            r->tail = i;
    }
    return OCH_OK;
}

static och_code chain_follow(struct recovery *r, och_error *err)
{
    size_t i = r->tail;
    while (i < r->count) {
        struct link *link = &r->links[i];
        link->chained = true;
        link->segment->state = SEGMENT_USED;
        if (!link->has_first)
            return corrupt(err, link->segment, 0, "its first group is damaged");
        struct wal_place before = link->first.ended;
        if (before.segment == 0)
            break;
        size_t j = i;
        while (j > 0 && r->links[j - 1].segment->name.id > before.segment)
            j--; // void ones between
        if (j == 0)
            break; // trimmed, and nothing older is left
        i = j - 1;
        if (r->links[i].segment->name.id == before.segment)
            r->links[i].limit = before.byte;
    }
    return OCH_OK;
}

/* ---- walking ---- */

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
        return corrupt(err, segment, byte,
                       "a group that was durable is damaged; `ochre repair` can go past it");
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
        return corrupt(err, segment, byte, "groups are out of order");
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
        return corrupt(err, segment, byte, "it does not end where the next segment says");
    if (link->limit == NO_LIMIT && !segment->closed)
        return corrupt(err, segment, byte, "its end is missing");
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

static och_code link_load(struct recovery *r, size_t index, och_error *err)
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

/* ---- all of it ---- */

static och_code catalogue_check(struct recovery *r, och_error *err)
{
    struct wal *wal = r->wal;
    uint64_t generation = sysdb_generation(wal->options.sysdb);
    if (r->generation > generation)
        return FAIL(err, OCH_CORRUPT,
                    "the catalogue is older (%" PRIu64 ") than the log (%" PRIu64 ")", generation,
                    r->generation);
    if (!r->noted.has)
        return OCH_OK;
    bool same = r->tail < r->count && r->noted.segment == r->links[r->tail].segment->name.id &&
                r->noted.byte == r->end && r->groups.len &&
                r->groups.at[r->groups.len - 1].sequence == r->noted.sequence;
    if (same)
        return OCH_OK;
    return FAIL(err, OCH_CORRUPT,
                "the catalogue says that the log ends in segment %" PRIu64 " at byte %" PRIu64
                ", and it does not",
                r->noted.segment, r->noted.byte);
}

static int by_uuid(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(uuid));
}

static och_code tombs_load(struct recovery *r, och_error *err)
{
    TRY(sysdb_tombstones(r->wal->options.sysdb, &r->arena, &r->tombs, &r->tomb_count, err));
    if (r->tomb_count)
        qsort(r->tombs, r->tomb_count, sizeof(r->tombs[0]), by_uuid);
    r->tombs_last = ARENA_ARRAY(&r->arena, uint64_t, r->tomb_count + 1);
    return r->tombs_last ? OCH_OK : FAIL_NO_MEMORY(err, "opening the log");
}

/*
 * The groups that nobody vouches for are written once more: if a sync of theirs failed before, the system shows us
 * pages that it will never write, and a sync alone would not notice.  The same bytes in the same place cannot tear.
 */
static och_code tail_rewrite(struct recovery *r, och_error *err)
{
    if (r->tail == r->count)
        return OCH_OK;
    const struct wal_segment *segment = r->links[r->tail].segment;
    uint64_t byte = r->synced.segment == segment->name.id ? r->synced.byte : 0;
    CLEANUP(buf_cleanup) struct buf piece;
    buf_init(&piece, BUF_MAX_NONE);
    while (byte < r->end) {
        size_t some = r->end - byte < REWRITE_BYTES ? (size_t)(r->end - byte) : REWRITE_BYTES;
        buf_clear(&piece);
        uint8_t *at = buf_reserve(&piece, some);
        if (!at)
            return FAIL_NO_MEMORY(err, "opening the log");
        TRY(file_read_all(segment->file, byte, at, some, err));
        TRY(file_write(segment->file, byte, at, some, err));
        byte += some;
    }
    return OCH_OK;
}

/* Under D1 everything that is going to be served is durable first. */
static och_code all_sync(struct recovery *r, och_error *err)
{
    struct wal *wal = r->wal;
    TRY(tail_rewrite(r, err));
    for (size_t i = 0; i < r->count; i++)
        TRY(file_sync(r->links[i].segment->file, err));
    return io_sync_folder(wal->options.io, wal->folder, err);
}

static och_code tombs_keep(struct recovery *r, och_error *err)
{
    struct wal *wal = r->wal;
    VEC(uuid) gone = {0};
    och_code code = OCH_OK;
    for (size_t i = 0; code == OCH_OK && i < r->tomb_count; i++) {
        struct wal_tomb tomb = {r->tombs[i], r->tombs_last[i]};
        bool kept = tomb.last ? VEC_PUSH(&wal->tombs, tomb) : VEC_PUSH(&gone, tomb.id);
        if (!kept)
            code = FAIL_NO_MEMORY(err, "opening the log");
    }
    if (code == OCH_OK && gone.len)
        code = sysdb_tombstones_remove(wal->options.sysdb, gone.at, gone.len, err);
    VEC_DONE(&gone);
    return code;
}

static void leftover_remove(struct recovery *r)
{
    struct wal *wal = r->wal;
    for (size_t i = 0; i < r->leftover_count; i++) {
        CLEANUP(mem_cleanup) char *path = NULL;
        if (wal_path(wal, r->leftover[i], &path, NULL) == OCH_OK)
            wal_ignore(io_remove(wal->options.io, path, NULL));
    }
}

/* Where the writer goes on. */
static och_code writer_place(struct recovery *r, och_error *err)
{
    struct wal *wal = r->wal;
    wal->end_noted = r->noted.has;
    for (size_t i = r->count; i > 0; i--) { // the highest unused one is the spare
        struct wal_segment *segment = r->links[i - 1].segment;
        bool after = r->tail == r->count || i - 1 > r->tail;
        if (!after || segment->state != SEGMENT_UNUSED || wal->spare) {
            if (segment->state == SEGMENT_UNUSED)
                segment->state = SEGMENT_VOID;
            continue;
        }
        wal->spare = segment;
        wal->spare_state = SPARE_READY;
    }
    if (wal->spare && wal->spare->name.id != wal->next_id - 1) {
        // something void stands above it: only a new one can be the last
        wal->spare->state = SEGMENT_VOID;
        wal->spare = NULL;
        wal->spare_state = SPARE_NONE;
    }
    if (r->tail == r->count)
        return OCH_OK;
    struct wal_segment *tail = r->links[r->tail].segment;
    wal->end = (struct wal_place){tail->name.id, r->end};
    wal->synced = wal->data_end = wal->noted = wal->end;
    wal->sequence = r->groups.len ? r->groups.at[r->groups.len - 1].sequence + 1 : 1;
    if (r->rest_zero && !r->closed) {
        wal->current = tail;
        wal->byte = wal->used = r->end;
        wal->started = wal->started_seen = true;
        return OCH_OK;
    }
    wal->must_mark = !r->rest_zero;
    if (!wal->must_mark)
        return OCH_OK; // ended in order: the next write begins a segment
    och_error why = {0};
    och_code code = wal_writer_mark(wal, &why);
    if (code == OCH_OK || wal_is_full(&why)) {
        wal->failing = code != OCH_OK;
        wal->failure = why;
        return OCH_OK; // on a full disk the same cut is found again, the segments are synced
    }
    if (err)
        *err = why;
    return code;
}

static och_code recover(struct recovery *r, och_error *err)
{
    struct wal *wal = r->wal;
    TRY(sysdb_log_end_get(wal->options.sysdb, &r->noted, err));
    TRY(tombs_load(r, err));
    TRY(files_open(r, err));
    if (wal->options.seed)
        random_seed(&wal->random, wal->options.seed + wal->next_id);
    else
        random_seed_system(&wal->random);
    TRY(firsts_read(r, err));
    TRY(chain_follow(r, err));
    if (r->noted.has)
        r->synced = (struct wal_place){r->noted.segment, r->noted.byte};
    if (r->tail == r->count) { // nothing counts; whatever was torn here stays void
        for (size_t i = 0; i < r->count; i++) {
            struct wal_walk walk;
            struct wal_segment *segment = r->links[i].segment;
            TRY(wal_walk_init(&walk, segment->file, segment->name, segment->size, err));
            struct wal_group group;
            uint64_t at;
            bool zero = false;
            och_code code = wal_walk_search(&walk, 0, walk.size, &at, &group, &zero, err);
            wal_walk_done(&walk);
            TRY(code);
            segment->state = zero && at == walk.size ? SEGMENT_UNUSED : SEGMENT_VOID;
            if (at < walk.size && group.synced.segment)
                return corrupt(err, segment, 0, "a group that was durable is damaged");
        }
    }
    for (size_t i = 0; i < r->count; i++) {
        if (r->links[i].chained)
            TRY(link_load(r, i, err));
    }
    TRY(catalogue_check(r, err));
    if (wal->options.read_only)
        return OCH_OK;
    TRY(all_sync(r, err));
    TRY(writer_place(r, err));
    TRY(tombs_keep(r, err));
    leftover_remove(r);
    return OCH_OK;
}

och_code wal_recover(struct wal *wal, och_error *err)
{
    struct recovery r = {.wal = wal};
    arena_init(&r.arena, NULL, 0);
    och_code code = recover(&r, err);
    VEC_DONE(&r.groups);
    VEC_DONE(&r.frames);
    arena_done(&r.arena);
    return code;
}
