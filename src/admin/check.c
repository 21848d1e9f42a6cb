/* SPDX-License-Identifier: Apache-2.0 */
/* `ochre check`.  From the catalogue outwards: its own rows, then the log that it names, then the blobs it names and those it does not, then
 * every page of every part, then what parts and catalogue say of one another. */
#include "admin/check.h"

#include "part/part.h"
#include "sysdb/sysdb.h"
#include "wal/wal.h"
#include "json/json.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define MEMORY_DEFAULT (INT64_C(512) << 20)
#define WALK_COUNT     64
#define ID_SHOWN       40

struct check {
    struct check_options options;
    struct check_report *report;
    struct arena arena; /* paths, lists of files */
    struct io *io;
    struct clock *clock;
    struct budget budget;
    struct file *lock;
    struct sysdb *sysdb;
    struct store *store; /* NULL: there is no folder of blobs */
    struct cache *cache;
    uuid *missing; /* files that the catalogue knows and the store does not */
    size_t missing_count;
};

static void fault(struct check *c, const char *format, ...) PRINTF_LIKE(2, 3);
static void fault(struct check *c, const char *format, ...)
{
    char text[1200];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    buf_printf(&c->report->lines, "%s\n", text);
    c->report->faults++;
}

/* Damage goes into the report; anything else ends the check. */
static och_code note(struct check *c, och_code code, const och_error *found, och_error *err)
{
    if (code == OCH_CORRUPT || code == OCH_NOT_FOUND || code == OCH_INVALID) {
        fault(c, "%s", found->message);
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
        return note(c, code, &found, err);
    uint64_t faults = 0;
    code = sysdb_verify(c->sysdb, &c->report->lines, &faults, &found);
    c->report->faults += faults;
    return note(c, code, &found, err);
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
    return note(c, code, &found, err);
}

/* ---- blobs ---- */

static int by_uuid(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(uuid));
}

static bool holds(const uuid *sorted, size_t count, const void *id)
{
    return count > 0 && bsearch(id, sorted, count, sizeof(uuid), by_uuid) != NULL;
}

static object_id object_of(uuid file)
{
    object_id object;
    memcpy(object.bytes, file.bytes, sizeof(object.bytes));
    return object;
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
    char text[UUID_TEXT_SIZE];
    TRY(list_leftovers(c, &left, &left_count, err));
    for (size_t i = 0; i < object_count; i++) {
        uuid id;
        uint64_t size = 0;
        memcpy(id.bytes, objects[i].bytes, sizeof(id.bytes));
        och_error found = {0};
        TRY(note(c, store_size(c->store, objects[i], &size, &found), &found, err));
        c->report->blobs++;
        c->report->blob_bytes += size;
        if (!holds(files, file_count, &id) && !holds(left, left_count, &id))
            fault(c, "blob %s, %" PRIu64 " bytes: the catalogue does not know it",
                  uuid_format(id, text), size);
    }
    c->missing = ARENA_ARRAY(&c->arena, uuid, file_count + 1);
    if (!c->missing)
        return FAIL_NO_MEMORY(err, "a list of files");
    for (size_t i = 0; i < file_count; i++) {
        if (holds((const uuid *)(const void *)objects, object_count, &files[i]))
            continue;
        fault(c, "blob %s: missing", uuid_format(files[i], text));
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

/* ---- parts ---- */

struct collection_check { /* one collection's version, parts opened as far as possible */
    const struct sysdb_collection *row;
    struct sysdb_version version;
    struct part **parts; /* NULL: could not be opened */
    struct bitset *dead;
    struct arena arena;
    char name[600];
};

static void compare_part(struct check *c, struct collection_check *k, size_t i)
{
    const struct sysdb_part *row = &k->version.parts[i];
    const struct part_info *info = part_info(k->parts[i]);
    char text[UUID_TEXT_SIZE];
    (void)uuid_format(row->file, text);
    if (info->rows != row->rows)
        fault(c, "%s, part %zu in blob %s: it has %" PRIu32 " rows, the catalogue says %" PRIu32,
              k->name, i, text, info->rows, row->rows);
    if (info->log_from != row->log_from || info->log_to != row->log_to)
        fault(c,
              "%s, part %zu in blob %s: it holds the log from %" PRIu64 " to %" PRIu64
              ", the catalogue says %" PRIu64 " to %" PRIu64,
              k->name, i, text, info->log_from, info->log_to, row->log_from, row->log_to);
    if (info->dimension && k->version.dimension && info->dimension != k->version.dimension)
        fault(c, "%s, part %zu in blob %s: dimension %" PRIu32 ", the catalogue says %" PRIu32,
              k->name, i, text, info->dimension, k->version.dimension);
}

/* Rows beyond the bitmap are alive: it is empty when none is dead, or when it could not be read. */
static bool is_dead(const struct collection_check *k, size_t i, uint32_t row)
{
    return row < k->dead[i].bits && bitset_has(&k->dead[i], row);
}

static och_code check_bitmap(struct check *c, struct collection_check *k, size_t i, och_error *err)
{
    const struct sysdb_part *row = &k->version.parts[i];
    och_error found = {0};
    if (row->dead.len > 0) {
        och_code code = part_bitmap_decode(row->dead, row->rows, &k->dead[i], &found);
        if (code != OCH_OK) {
            error_context(&found, "%s, part %zu", k->name, i);
            return note(c, code, &found, err);
        }
    }
    size_t dead = k->dead[i].words ? bitset_count(&k->dead[i]) : 0;
    if (dead != row->deleted)
        fault(c, "%s, part %zu: the bitmap has %zu rows deleted, the catalogue says %" PRIu32,
              k->name, i, dead, row->deleted);
    return OCH_OK;
}

static och_code check_part(struct check *c, struct collection_check *k, size_t i, och_error *err)
{
    const struct sysdb_part *row = &k->version.parts[i];
    c->report->parts++;
    c->report->rows += row->rows - min_size(row->rows, row->deleted);
    TRY(check_bitmap(c, k, i, err));
    if (!c->store || holds(c->missing, c->missing_count, &row->file))
        return OCH_OK; /* said already */
    struct part_env env = {.store = c->store, .cache = c->cache, .trace = c->options.trace};
    struct part_ref ref = {.object = object_of(row->file),
                           .offset = row->offset,
                           .size = row->size,
                           .dir_offset = row->dir_offset,
                           .dir_len = row->dir_len,
                           .dir_crc = row->dir_crc,
                           .head_len = row->head_len};
    och_error found = {0};
    och_code code = part_open(&env, &ref, k->row->id, &k->parts[i], &found);
    if (code != OCH_OK) {
        error_context(&found, "%s", k->name);
        return note(c, code, &found, err);
    }
    compare_part(c, k, i);
    uint64_t faults = 0;
    code = part_verify(k->parts[i], &c->report->lines, &faults, &found);
    c->report->faults += faults;
    return note(c, code, &found, err);
}

static void check_ranges(struct check *c, struct collection_check *k)
{
    uint64_t end = 0;
    for (size_t i = 0; i < k->version.part_count; i++) {
        const struct sysdb_part *row = &k->version.parts[i];
        if (row->log_from > row->log_to || (i > 0 && row->log_from < end))
            fault(c,
                  "%s, part %zu: its log range %" PRIu64 " to %" PRIu64
                  " does not follow the part before it, which ends at %" PRIu64,
                  k->name, i, row->log_from, row->log_to, end);
        end = row->log_to;
    }
    if (end > k->version.log_offset)
        fault(c, "%s: the parts hold the log to %" PRIu64 ", the version only to %" PRIu64, k->name,
              end, k->version.log_offset);
}

/* ---- deep: every live id is found where it is, and live nowhere else ---- */

static och_code look_up(struct check *c, struct collection_check *k, size_t home, uint32_t row,
                        slice id, och_error *err)
{
    uint64_t hash = slice_hash(id);
    for (size_t i = 0; i < k->version.part_count; i++) {
        uint32_t at;
        if (!k->parts[i])
            continue;
        TRY(part_find(k->parts[i], id, hash, &at, err));
        if (i == home && at != row)
            fault(c, "%s, part %zu, row %" PRIu32 ": its id \"%.*s\" is not found there", k->name,
                  i, row, (int)min_size(id.len, ID_SHOWN), (const char *)id.at);
        else if (i != home && at != PART_NO_ROW && !is_dead(k, i, at))
            fault(c,
                  "%s: id \"%.*s\" lives twice, in part %zu row %" PRIu32
                  " and part %zu row %" PRIu32,
                  k->name, (int)min_size(id.len, ID_SHOWN), (const char *)id.at, home, row, i, at);
    }
    return OCH_OK;
}

static och_code check_ids(struct check *c, struct collection_check *k, size_t home,
                          struct part_reads *reads, och_error *err)
{
    for (uint32_t row = 0; row < part_rows(k->parts[home]); row++) {
        struct record record;
        if (row % 1024 == 0) {
            part_reads_done(reads);
            TRY(work_check(&c->options.limits, err));
        }
        if (is_dead(k, home, row))
            continue;
        TRY(part_read(k->parts[home], reads, row, RECORD_ID, &record, err));
        TRY(look_up(c, k, home, row, record.id, err));
    }
    return OCH_OK;
}

static och_code check_all_ids(struct check *c, struct collection_check *k, och_error *err)
{
    och_code code = OCH_OK;
    struct arena arena;
    struct part_reads reads;
    arena_init(&arena, NULL, 0);
    part_reads_init(&reads, c->cache, &arena);
    for (size_t i = 0; i < k->version.part_count && code == OCH_OK; i++) {
        och_error found = {0};
        if (k->parts[i])
            code = check_ids(c, k, i, &reads, &found);
        if (code == OCH_CORRUPT)
            code = OCH_OK; /* a page that part_verify named already */
        else if (code != OCH_OK && err)
            *err = found;
        part_reads_done(&reads);
        arena_done(&arena);
    }
    return code;
}

/* ---- collections ---- */

static och_code check_version(struct check *c, struct collection_check *k, och_error *err)
{
    och_error found = {0};
    och_code code = sysdb_version_get(c->sysdb, k->row->id, &k->arena, &k->version, &found);
    if (code != OCH_OK) {
        error_context(&found, "%s", k->name);
        k->version.part_count = 0;
        return note(c, code, &found, err);
    }
    k->parts = ARENA_ARRAY(&k->arena, struct part *, k->version.part_count + 1);
    k->dead = ARENA_ARRAY(&k->arena, struct bitset, k->version.part_count + 1);
    if (!k->parts || !k->dead) {
        k->version.part_count = 0;
        return FAIL_NO_MEMORY(err, "a version");
    }
    check_ranges(c, k);
    for (size_t i = 0; i < k->version.part_count; i++) {
        TRY(work_check(&c->options.limits, err));
        TRY(check_part(c, k, i, err));
    }
    return c->options.deep ? check_all_ids(c, k, err) : OCH_OK;
}

static och_code check_collection(struct check *c, uuid id, och_error *err)
{
    struct collection_check k = {0};
    och_error found = {0};
    och_code code = sysdb_collection_get(c->sysdb, SLICE_NONE, SLICE_NONE, id, &k.row, &found);
    if (code != OCH_OK)
        return note(c, code, &found, err);
    c->report->collections++;
    char text[UUID_TEXT_SIZE];
    (void)snprintf(k.name, sizeof(k.name), "collection \"%.*s\" (%s)", SLICE_ARG(k.row->name),
                   uuid_format(id, text));
    arena_init(&k.arena, &c->budget, 0);
    code = check_version(c, &k, err);
    for (size_t i = 0; i < k.version.part_count; i++) {
        if (k.parts[i])
            part_unref(k.parts[i]);
        bitset_done(&k.dead[i]);
    }
    arena_done(&k.arena);
    sysdb_collection_unref(k.row);
    return code;
}

static och_code check_collections(struct check *c, och_error *err)
{
    int64_t cursor = 0;
    uuid ids[WALK_COUNT];
    size_t count;
    do {
        och_error found = {0};
        count = 0;
        och_code code = sysdb_collection_walk(c->sysdb, &cursor, WALK_COUNT, ids, &count, &found);
        if (code != OCH_OK)
            return note(c, code, &found, err);
        for (size_t i = 0; i < count; i++)
            TRY(check_collection(c, ids[i], err));
    } while (count > 0);
    return OCH_OK;
}

/* ---- all ---- */

static och_code run(struct check *c, och_error *err)
{
    bool catalogue, usable;
    TRY(open_folder(c, &catalogue, err));
    if (!catalogue) {
        fault(c, "folder %s holds a log or data but no catalogue.sqlite", c->options.path);
        return OCH_OK;
    }
    TRY(check_catalogue(c, &usable, err));
    if (!usable)
        return OCH_OK; /* what log and blobs should hold stands in it */
    TRY(check_log(c, err));
    TRY(cache_new((size_t)c->budget.limit_bytes / 2, &c->budget, &c->cache, err));
    TRY(check_blobs(c, err));
    return check_collections(c, err);
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
