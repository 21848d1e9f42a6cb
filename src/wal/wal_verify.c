/* SPDX-License-Identifier: Apache-2.0 */
/* Offline verification: the log is opened read-only, which judges every header, and then every payload that
 * somebody still needs is read.  A log that does not open is looked through segment by segment. */
#include "wal/wal_internal.h"

#include <inttypes.h>

static void payloads_verify(struct wal *wal, struct buf *report, uint64_t *faults, uint64_t *frames)
{
    for (size_t i = 0; i < wal->slots.len; i++) {
        const struct wal_collection *c = wal->slots.at[i];
        if (!c)
            continue;
        for (size_t j = c->start; j < c->entries.len; j++) {
            struct wal_batch *batch = NULL;
            och_error why = {0};
            (*frames)++;
            if (wal_batch_read(wal, &c->entries.at[j], c->id, &batch, &why) != OCH_OK) {
                (*faults)++;
                buf_printf(report, "%s\n", why.message);
            }
            wal_batch_unref(batch);
        }
    }
}

/* One segment by itself: the ranges between sound groups.  Behind the last one may be an end or a torn flush. */
static och_code segment_look(struct io *io, const char *path, struct wal_name name, uint64_t size,
                             struct buf *report, uint64_t *faults, uint64_t *frames, och_error *err)
{
    CLEANUP(file_cleanup) struct file *file = NULL;
    TRY(io_open(io, path, 0, &file, err));
    struct wal_walk walk;
    TRY(wal_walk_init(&walk, file, name, size, err));
    uint64_t byte = 0;
    och_code code = OCH_OK;
    while (code == OCH_OK && byte < size) {
        struct wal_group group;
        bool sound, zero;
        uint64_t next;
        code = wal_walk_group(&walk, byte, &group, NULL, &sound, err);
        if (code == OCH_OK && sound) {
            *frames += group.frame_count;
            byte += group.size;
            if (group.flags & WAL_GROUP_LAST)
                break;
            continue;
        }
        if (code == OCH_OK)
            code = wal_walk_search(&walk, byte, size, &next, &group, &zero, err);
        if (code != OCH_OK || next >= size)
            break;
        (*faults)++;
        buf_printf(report, "log segment %s: no sound group in bytes %" PRIu64 " to %" PRIu64 "\n",
                   path, byte, next);
        byte = next;
    }
    wal_walk_done(&walk);
    return code;
}

static och_code segments_look(const struct wal_options *options, struct buf *report,
                              uint64_t *faults, uint64_t *frames, och_error *err)
{
    struct arena arena;
    struct sysdb_segment *rows;
    size_t count = 0;
    arena_init(&arena, NULL, 0);
    och_code code = sysdb_segment_list(options->sysdb, &arena, &rows, &count, err);
    for (size_t i = 0; code == OCH_OK && i < count; i++) {
        struct wal_name name = {rows[i].id, rows[i].salt};
        char text[WAL_NAME_SIZE];
        const char *path =
            arena_printf(&arena, "%s/%s", options->folder, wal_name_format(name, text));
        och_error why = {0};
        if (!path) {
            code = FAIL_NO_MEMORY(err, "looking at the log");
        } else if (segment_look(options->io, path, name, rows[i].size, report, faults, frames,
                                &why) != OCH_OK) {
            (*faults)++;
            buf_printf(report, "%s\n", why.message);
        }
    }
    arena_done(&arena);
    return code;
}

och_code wal_verify(const struct wal_options *options, struct buf *report, uint64_t *ret_faults,
                    uint64_t *ret_frames, och_error *err)
{
    struct wal_options own = *options;
    struct wal *wal;
    uint64_t faults = 0, frames = 0;
    och_error why = {0};
    own.read_only = true;
    own.sink = (struct wal_sink){0};
    och_code code = wal_open(&own, &wal, &why);
    if (code == OCH_OK) {
        payloads_verify(wal, report, &faults, &frames);
        code = wal_close(wal, err);
        wal_free(wal);
    } else if (code == OCH_CORRUPT) {
        faults++;
        buf_printf(report, "%s\n", why.message);
        code = segments_look(options, report, &faults, &frames, err);
    } else if (err) {
        *err = why;
    }
    TRY(code);
    TRY(buf_check(report, "the report", err));
    *ret_faults = faults;
    *ret_frames = frames;
    return OCH_OK;
}
