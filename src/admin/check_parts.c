/* SPDX-License-Identifier: Apache-2.0 */
/* `ochre check`: every page of every part, and what parts and catalogue say of one another. */
#include "admin/check_internal.h"

#include "base/bytes.h"
#include "base/map.h"

#include <inttypes.h>
#include <stdio.h>

#define WALK_COUNT 64
#define ID_SHOWN   40

struct collection_check { /* one collection's version, parts opened as far as possible */
    uuid id;              /* of the collection, or of a version that it keeps */
    const struct sysdb_collection *row;
    struct sysdb_version version;
    struct part **parts; /* NULL: could not be opened */
    struct bitset *dead;
    struct arena *arena;
    char name[600];
    struct map *seen; /* parts of this collection that were looked at: file and offset */
    bool kept;        /* an older version */
};

/* A part that several versions of a collection share is looked at once.  No memory: twice. */
static bool is_seen(struct collection_check *k, size_t i)
{
    const struct sysdb_part *row = &k->version.parts[i];
    uint8_t *key = arena_alloc(k->arena, 24);
    if (!key)
        return false;
    memcpy(key, row->file.bytes, 16);
    store_u64(key + 16, row->offset);
    bool is_new = true;
    uint64_t *value = map_at(k->seen, slice_make(key, 24), &is_new);
    return value && !is_new;
}

static void compare_part(struct check *c, struct collection_check *k, size_t i)
{
    const struct sysdb_part *row = &k->version.parts[i];
    const struct part_info *info = part_info(k->parts[i]);
    char text[CHECK_BLOB_SIZE];
    (void)check_blob_name(row->file, text);
    if (info->rows != row->rows)
        check_fault(c, "%s, part %zu in %s: it has %" PRIu32 " rows, the catalogue says %" PRIu32,
                    k->name, i, text, info->rows, row->rows);
    if (info->log_from != row->log_from || info->log_to != row->log_to)
        check_fault(c,
                    "%s, part %zu in %s: it holds the log from %" PRIu64 " to %" PRIu64
                    ", the catalogue says %" PRIu64 " to %" PRIu64,
                    k->name, i, text, info->log_from, info->log_to, row->log_from, row->log_to);
    if (info->dimension && k->version.dimension && info->dimension != k->version.dimension)
        check_fault(c, "%s, part %zu in %s: dimension %" PRIu32 ", the catalogue says %" PRIu32,
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
            return check_note(c, code, &found, err);
        }
    }
    size_t dead = k->dead[i].words ? bitset_count(&k->dead[i]) : 0;
    if (dead != row->deleted)
        check_fault(c, "%s, part %zu: the bitmap has %zu rows deleted, the catalogue says %" PRIu32,
                    k->name, i, dead, row->deleted);
    return OCH_OK;
}

static och_code check_part(struct check *c, struct collection_check *k, size_t i, och_error *err)
{
    const struct sysdb_part *row = &k->version.parts[i];
    bool seen = is_seen(k, i);
    c->report->parts += !seen;
    if (!k->kept)
        c->report->rows += row->rows - min_size(row->rows, row->deleted);
    TRY(check_bitmap(c, k, i, err));
    if (seen && k->kept && !c->options.deep)
        return OCH_OK;
    if (!c->store || check_holds(c->missing, c->missing_count, &row->file))
        return OCH_OK; /* said already */
    struct part_env env = {.store = c->store, .cache = c->cache, .trace = c->options.trace};
    struct part_ref ref = {.object = check_object(row->file),
                           .offset = row->offset,
                           .size = row->size,
                           .dir_offset = row->dir_offset,
                           .dir_len = row->dir_len,
                           .dir_crc = row->dir_crc,
                           .head_len = row->head_len};
    och_error found = {0};
    och_code code =
        part_open_shared(&env, &ref, k->row->owners, k->row->owner_count, &k->parts[i], &found);
    if (code != OCH_OK) {
        error_context(&found, "%s", k->name);
        return check_note(c, code, &found, err);
    }
    compare_part(c, k, i);
    if (seen && k->kept)
        return OCH_OK;
    uint64_t faults = 0;
    code = part_verify(k->parts[i], &c->report->lines, &faults, &found);
    c->report->faults += faults;
    return check_note(c, code, &found, err);
}

static void check_ranges(struct check *c, struct collection_check *k)
{
    uint64_t end = 0;
    for (size_t i = 0; i < k->version.part_count; i++) {
        const struct sysdb_part *row = &k->version.parts[i];
        if (row->log_from > row->log_to || (i > 0 && row->log_from < end))
            check_fault(c,
                        "%s, part %zu: its log range %" PRIu64 " to %" PRIu64
                        " does not follow the part before it, which ends at %" PRIu64,
                        k->name, i, row->log_from, row->log_to, end);
        end = row->log_to;
    }
    if (end > k->version.log_offset)
        check_fault(c, "%s: the parts hold the log to %" PRIu64 ", the version only to %" PRIu64,
                    k->name, end, k->version.log_offset);
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
            check_fault(c, "%s, part %zu, row %" PRIu32 ": its id \"%.*s\" is not found there",
                        k->name, i, row, (int)min_size(id.len, ID_SHOWN), (const char *)id.at);
        else if (i != home && at != PART_NO_ROW && !is_dead(k, i, at))
            check_fault(c,
                        "%s: id \"%.*s\" lives twice, in part %zu row %" PRIu32
                        " and part %zu row %" PRIu32,
                        k->name, (int)min_size(id.len, ID_SHOWN), (const char *)id.at, home, row, i,
                        at);
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
    och_code code = sysdb_version_get(c->sysdb, k->id, k->arena, &k->version, &found);
    if (code != OCH_OK) {
        error_context(&found, "%s", k->name);
        k->version.part_count = 0;
        return check_note(c, code, &found, err);
    }
    k->parts = ARENA_ARRAY(k->arena, struct part *, k->version.part_count + 1);
    k->dead = ARENA_ARRAY(k->arena, struct bitset, k->version.part_count + 1);
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

/* The version that an id stands for. */
static och_code check_one(struct check *c, struct collection_check *k, och_error *err)
{
    och_error found = {0};
    och_code code = sysdb_collection_get(c->sysdb, SLICE_NONE, SLICE_NONE, k->id, &k->row, &found);
    if (code != OCH_OK)
        return check_note(c, code, &found, err);
    code = check_version(c, k, err);
    for (size_t i = 0; i < k->version.part_count; i++) {
        if (k->parts[i])
            part_unref(k->parts[i]);
        bitset_done(&k->dead[i]);
    }
    sysdb_collection_unref(k->row);
    return code;
}

static och_code check_kept(struct check *c, const struct collection_check *now, och_error *err)
{
    struct arena arena;
    struct sysdb_kept *rows;
    size_t count = 0;
    och_error found = {0};
    arena_init(&arena, &c->budget, 0);
    och_code code = sysdb_kept_list(c->sysdb, now->id, &arena, &rows, &count, &found);
    if (code != OCH_OK)
        code = check_note(c, code, &found, err);
    for (size_t i = 0; i < count && code == OCH_OK; i++) {
        struct collection_check k = {
            .id = rows[i].id, .arena = now->arena, .seen = now->seen, .kept = true};
        (void)snprintf(k.name, sizeof(k.name), "%.500s, version %" PRIu64, now->name,
                       rows[i].log_offset);
        code = check_one(c, &k, err);
    }
    arena_done(&arena);
    return code;
}

static och_code check_collection(struct check *c, uuid id, och_error *err)
{
    const struct sysdb_collection *row CLEANUP(sysdb_collection_cleanup) = NULL;
    struct map seen;
    struct arena arena; /* of all its versions: keys in `seen` are in it */
    och_error found = {0};
    och_code code = sysdb_collection_get(c->sysdb, SLICE_NONE, SLICE_NONE, id, &row, &found);
    if (code != OCH_OK)
        return check_note(c, code, &found, err);
    c->report->collections++;
    struct collection_check k = {.id = id, .arena = &arena, .seen = &seen};
    char text[UUID_TEXT_SIZE];
    (void)snprintf(k.name, sizeof(k.name), "collection \"%.*s\" (%s)", SLICE_ARG(row->name),
                   uuid_format(id, text));
    map_init(&seen);
    arena_init(&arena, &c->budget, 0);
    code = check_one(c, &k, err);
    if (code == OCH_OK)
        code = check_kept(c, &k, err);
    map_done(&seen);
    arena_done(&arena);
    return code;
}

och_code check_collections(struct check *c, och_error *err)
{
    int64_t cursor = 0;
    uuid ids[WALK_COUNT];
    size_t count;
    do {
        och_error found = {0};
        count = 0;
        och_code code = sysdb_collection_walk(c->sysdb, &cursor, WALK_COUNT, ids, &count, &found);
        if (code != OCH_OK)
            return check_note(c, code, &found, err);
        for (size_t i = 0; i < count; i++)
            TRY(check_collection(c, ids[i], err));
    } while (count > 0);
    return OCH_OK;
}
