/* SPDX-License-Identifier: Apache-2.0 */
/* Opening: which groups count, by D1's rule, and what they hold.
 *
 * The last segment with a sound first group is the log's tail; its first group names the segment before and where that
 * ends, and so on back: a chain.  Segments between two of the chain are void.  Where the segment before is gone (trimmed),
 * the next older one must end with a LAST group.  Then each segment of the chain is walked from its start to its end, by
 * headers alone; only the tail's groups from the highest `synced` on have their payloads read. */
#include "wal/wal_recover.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REWRITE_BYTES (1u << 20)

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
    if (size != row->size)
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
            return wal_corrupt(err, link->segment, 0, "its first group is damaged");
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
                return wal_corrupt(err, segment, 0, "a group that was durable is damaged");
        }
    }
    for (size_t i = 0; i < r->count; i++) {
        if (r->links[i].chained)
            TRY(wal_replay(r, i, err));
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
