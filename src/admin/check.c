/* SPDX-License-Identifier: Apache-2.0 */
/* `ochre check`.  From the catalogue outwards: its own rows, then the log that it names, then the blobs it names and those it does not, then
 * every page of every part, then what parts and catalogue say of one another. */
#include "admin/check_internal.h"

#include "wal/wal.h"
#include "json/json.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define MEMORY_DEFAULT (INT64_C(512) << 20)

void check_fault(struct check *c, const char *format, ...)
{
    char text[1200];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    buf_printf(&c->report->lines, "%s\n", text);
    c->report->faults++;
}

och_code check_note(struct check *c, och_code code, const och_error *found, och_error *err)
{
    if (code == OCH_CORRUPT || code == OCH_NOT_FOUND || code == OCH_INVALID) {
        check_fault(c, "%s", found->message);
        return OCH_OK;
    }
    if (code != OCH_OK && err)
        *err = *found;
    return code;
}

static const char *path_of(struct check *c, const char *name)
{
    return arena_printf(&c->arena, "%s/%s", c->options.path, name);
}

/* ---- the folder ---- */

static och_code exists(struct check *c, const char *path, bool *ret_exists, och_error *err)
{
    struct io_entry entry;
    if (!path)
        return FAIL_NO_MEMORY(err, "a path");
    och_code code = io_stat(c->io, path, &entry, err);
    *ret_exists = code == OCH_OK;
    if (code != OCH_NOT_FOUND)
        return code;
    error_clear(err);
    return OCH_OK;
}

static och_code has_entries(struct check *c, const char *name, bool *ret_some, och_error *err)
{
    struct io_entry *entries = NULL;
    size_t count = 0;
    bool there;
    TRY(exists(c, path_of(c, name), &there, err));
    if (there)
        TRY(io_list(c->io, path_of(c, name), &c->arena, &entries, &count, err));
    *ret_some |= count > 0;
    return OCH_OK;
}

static och_code open_folder(struct check *c, bool *ret_catalogue, och_error *err)
{
    bool there, some = false;
    TRY(exists(c, c->options.path, &there, err));
    if (!there)
        return FAIL(err, OCH_NOT_FOUND, "there is no folder %s", c->options.path);
    TRY(exists(c, path_of(c, "catalogue.sqlite"), ret_catalogue, err));
    if (!*ret_catalogue) {
        TRY(has_entries(c, "log", &some, err));
        TRY(has_entries(c, "blobs", &some, err));
        if (!some)
            return FAIL(err, OCH_NOT_FOUND, "folder %s holds no database", c->options.path);
    }
    slice holder = SLICE_NONE;
    och_code code =
        io_lock(c->io, path_of(c, "ochre.lock"), true, &c->arena, &c->lock, &holder, err);
    if (code != OCH_IN_USE)
        return code;
    while (holder.len > 0 && holder.at[holder.len - 1] == '\n')
        holder.len--;
    return FAIL(err, OCH_IN_USE, "folder %s is in use by %.*s. Stop it first.", c->options.path,
                SLICE_ARG(holder.len ? holder : SLICE("another process")));
}

/* ---- catalogue and log ---- */

static och_code check_catalogue(struct check *c, bool *ret_usable, och_error *err)
{
    struct sysdb_options options = {.io = c->io,
                                    .path = path_of(c, "catalogue.sqlite"),
                                    .clock = c->clock,
                                    .trace = c->options.trace,
                                    .read_only = true,
                                    .budget = &c->budget};
    och_error found = {0};
    och_code code =
        options.path ? sysdb_open(&options, &c->sysdb, &found) : FAIL_NO_MEMORY(&found, "a path");
    *ret_usable = code == OCH_OK;
    if (code != OCH_OK)
        return check_note(c, code, &found, err);
    uint64_t faults = 0;
    code = sysdb_verify(c->sysdb, &c->report->lines, &faults, &found);
    c->report->faults += faults;
    return check_note(c, code, &found, err);
}

static och_code check_log(struct check *c, och_error *err)
{
    struct wal_options options = {.io = c->io,
                                  .folder = path_of(c, "log"),
                                  .sysdb = c->sysdb,
                                  .clock = c->clock,
                                  .trace = c->options.trace,
                                  .budget = &c->budget,
                                  .read_only = true};
    if (!options.folder)
        return FAIL_NO_MEMORY(err, "a path");
    bool there;
    TRY(exists(c, options.folder, &there, err));
    struct sysdb_segment *segments;
    size_t count = 0;
    TRY(sysdb_segment_list(c->sysdb, &c->arena, &segments, &count, err));
    if (!there && count == 0)
        return OCH_OK;
    och_error found = {0};
    uint64_t faults = 0;
    och_code code = wal_verify(&options, &c->report->lines, &faults, &c->report->frames, &found);
    c->report->faults += faults;
    return check_note(c, code, &found, err);
}

/* ---- blobs ---- */

static int by_uuid(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(uuid));
}

bool check_holds(const uuid *sorted, size_t count, const void *id)
{
    return count > 0 && bsearch(id, sorted, count, sizeof(uuid), by_uuid) != NULL;
}

object_id check_object(uuid file)
{
    object_id object;
    memcpy(object.bytes, file.bytes, sizeof(object.bytes));
    return object;
}

const char *check_blob_name(uuid file, char text[CHECK_BLOB_SIZE])
{
    int at = snprintf(text, CHECK_BLOB_SIZE, "blobs/%02x/", file.bytes[0]);
    for (size_t i = 0; i < sizeof(file.bytes); i++)
        at += snprintf(text + at, CHECK_BLOB_SIZE - (size_t)at, "%02x", file.bytes[i]);
    (void)snprintf(text + at, CHECK_BLOB_SIZE - (size_t)at, ".blob");
    return text;
}

/* What the catalogue has not finished with: announced or doomed files may be there or not. */
static och_code list_leftovers(struct check *c, uuid **ret_files, size_t *ret_count, och_error *err)
{
    struct sysdb_garbage *rows = NULL;
    size_t count = 0;
    TRY(sysdb_garbage_list(c->sysdb, true, &c->arena, &rows, &count, err));
    uuid *files = ARENA_ARRAY(&c->arena, uuid, count + 1);
    if (!files)
        return FAIL_NO_MEMORY(err, "a list of files");
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        if (rows[i].whole)
            files[kept++] = rows[i].file;
    qsort(files, kept, sizeof(uuid), by_uuid);
    *ret_files = files;
    *ret_count = kept;
    return OCH_OK;
}

static och_code compare_files(struct check *c, const uuid *files, size_t file_count,
                              const object_id *objects, size_t object_count, och_error *err)
{
    uuid *left = NULL;
    size_t left_count = 0;
    char text[CHECK_BLOB_SIZE];
    TRY(list_leftovers(c, &left, &left_count, err));
    for (size_t i = 0; i < object_count; i++) {
        uuid id;
        uint64_t size = 0;
        memcpy(id.bytes, objects[i].bytes, sizeof(id.bytes));
        och_error found = {0};
        TRY(check_note(c, store_size(c->store, objects[i], &size, &found), &found, err));
        c->report->blobs++;
        c->report->blob_bytes += size;
        if (!check_holds(files, file_count, &id) && !check_holds(left, left_count, &id))
            check_fault(c, "%s, %" PRIu64 " bytes: the catalogue does not know it",
                        check_blob_name(id, text), size);
    }
    c->missing = ARENA_ARRAY(&c->arena, uuid, file_count + 1);
    if (!c->missing)
        return FAIL_NO_MEMORY(err, "a list of files");
    for (size_t i = 0; i < file_count; i++) {
        if (check_holds((const uuid *)(const void *)objects, object_count, &files[i]))
            continue;
        check_fault(c, "%s: missing", check_blob_name(files[i], text));
        c->missing[c->missing_count++] = files[i];
    }
    return OCH_OK;
}

static och_code check_blobs(struct check *c, och_error *err)
{
    static_assert(sizeof(uuid) == sizeof(object_id), "both are 16 bytes");
    uuid *files = NULL;
    object_id *objects = NULL;
    size_t file_count = 0, object_count = 0;
    bool there;
    TRY(exists(c, path_of(c, "blobs"), &there, err));
    if (there) {
        TRY(store_folder_new(c->io, path_of(c, "blobs"), &c->store, err));
        TRY(store_list(c->store, &c->arena, &objects, &object_count, err));
    }
    TRY(sysdb_file_list(c->sysdb, &c->arena, &files, &file_count, err));
    if (file_count)
        qsort(files, file_count, sizeof(uuid), by_uuid);
    if (object_count)
        qsort(objects, object_count, sizeof(object_id), by_uuid);
    return compare_files(c, files, file_count, objects, object_count, err);
}

/* ---- all ---- */

static och_code run(struct check *c, och_error *err)
{
    bool catalogue, usable;
    TRY(open_folder(c, &catalogue, err));
    if (!catalogue) {
        check_fault(c, "folder %s holds a log or data but no catalogue.sqlite", c->options.path);
        return OCH_OK;
    }
    TRY(check_catalogue(c, &usable, err));
    if (!usable)
        return OCH_OK; /* what log and blobs should hold stands in it */
    TRY(cache_new((size_t)c->budget.limit_bytes / 2, &c->budget, &c->cache, err));
    static och_code (*const steps[])(struct check *, och_error *) = {check_log, check_blobs,
                                                                     check_collections};
    for (size_t i = 0; i < COUNT_OF(steps); i++) {
        och_error found = {0}; /* a damaged catalogue may end any step */
        TRY(check_note(c, steps[i](c, &found), &found, err));
    }
    return OCH_OK;
}

och_code check_folder(const struct check_options *options, struct check_report *ret_report,
                      och_error *err)
{
    *ret_report = (struct check_report){0};
    buf_init(&ret_report->lines, BUF_MAX_NONE);
    struct check c = {.options = *options, .report = ret_report};
    c.io = options->io ? options->io : io_posix();
    c.clock = options->clock ? options->clock : clock_system();
    budget_init(&c.budget,
                options->memory_limit_bytes ? options->memory_limit_bytes : MEMORY_DEFAULT, NULL);
    arena_init(&c.arena, &c.budget, 0);
    och_code code = run(&c, err);
    if (code == OCH_OK)
        code = buf_check(&ret_report->lines, "the report", err);
    cache_free(c.cache);
    if (c.store)
        store_free(c.store);
    if (c.sysdb) {
        och_code closed = sysdb_close(c.sysdb, code == OCH_OK ? err : NULL);
        code = code == OCH_OK ? closed : code;
    }
    sysdb_free(c.sysdb);
    arena_done(&c.arena);
    file_close(c.lock);
    if (code != OCH_OK)
        check_report_done(ret_report);
    return code;
}

void check_report_done(struct check_report *report)
{
    buf_done(&report->lines);
}

void check_report_write(const struct check_report *report, struct buf *out)
{
    buf_slice(out, buf_view(&report->lines));
    buf_printf(out,
               "%" PRIu64 " collections, %" PRIu64 " parts, %" PRIu64 " rows, %" PRIu64
               " blobs, %" PRIu64 " bytes, %" PRIu64 " batches in the log: ",
               report->collections, report->parts, report->rows, report->blobs, report->blob_bytes,
               report->frames);
    if (report->faults)
        buf_printf(out, "%" PRIu64 " faults\n", report->faults);
    else
        buf_text(out, "sound\n");
}

void check_report_write_json(const struct check_report *report, struct buf *out)
{
    buf_printf(out,
               "{\"faults\":%" PRIu64 ",\"collections\":%" PRIu64 ",\"parts\":%" PRIu64
               ",\"rows\":%" PRIu64 ",\"blobs\":%" PRIu64 ",\"blob_bytes\":%" PRIu64
               ",\"log_batches\":%" PRIu64 ",\"lines\":[",
               report->faults, report->collections, report->parts, report->rows, report->blobs,
               report->blob_bytes, report->frames);
    slice left = buf_view(&report->lines);
    for (bool first = true; left.len > 0; first = false) {
        const uint8_t *end = memchr(left.at, '\n', left.len);
        size_t len = end ? (size_t)(end - left.at) : left.len;
        buf_text(out, first ? "" : ",");
        slice line = slice_make(left.at, len);
        json_write_string(out, json_utf8_valid(line) ? line : SLICE("(not text)"));
        left = slice_from(left, end ? len + 1 : len);
    }
    buf_text(out, "]}\n");
}
