/* SPDX-License-Identifier: Apache-2.0 */
/* Everything a catalogue says, as text to compare; and random operations that do the same on every catalogue. */
#ifndef TESTS_SYSDB_MODEL_H
#define TESTS_SYSDB_MODEL_H

#include "sysdb_test.h"

#include "model/meta.h"

#include <inttypes.h>

static inline void say_id(struct buf *out, uuid id)
{
    char text[UUID_TEXT_SIZE];
    buf_printf(out, " %s", uuid_format(id, text));
}

static inline void say_parts(struct buf *out, const struct sysdb_version *version)
{
    for (size_t k = 0; k < version->part_count; k++) {
        say_id(out, version->parts[k].file);
        buf_printf(out, "@%" PRIu64 " %08" PRIx64, version->parts[k].offset,
                   slice_hash(version->parts[k].dead));
    }
}

static inline och_code say_kept(struct sysdb *sysdb, uuid collection, struct arena *arena,
                                struct buf *out, och_error *fault)
{
    struct sysdb_kept *rows;
    size_t count;
    TRY(sysdb_kept_list(sysdb, collection, arena, &rows, &count, fault));
    for (size_t i = 0; i < count; i++) {
        struct sysdb_version version;
        TRY(sysdb_version_get(sysdb, rows[i].id, arena, &version, fault));
        buf_text(out, "\n  kept");
        say_id(out, rows[i].id);
        buf_printf(out, " [%.*s] %" PRIu64 " %" PRId64 " %" PRId64 " %" PRId64 " %" PRIu64,
                   SLICE_ARG(rows[i].name), rows[i].log_offset, rows[i].taken_at, rows[i].last_at,
                   rows[i].keep_until, rows[i].rows);
        say_parts(out, &version);
    }
    return OCH_OK;
}

static inline och_code say_collections(struct sysdb *sysdb, struct arena *arena, struct buf *out,
                                       och_error *fault)
{
    const struct sysdb_collection **rows;
    size_t count;
    och_code code =
        sysdb_collection_list(sysdb, TENANT, DATABASE, ALL, 0, arena, &rows, &count, fault);
    if (code != OCH_OK)
        return code;
    for (size_t i = 0; i < count; i++) {
        const struct sysdb_collection *c = rows[i], *found = NULL;
        if (code == OCH_OK)
            code = sysdb_collection_find(sysdb, TENANT, DATABASE, c->name, &found, fault);
        if (code == OCH_OK && !uuid_equal(found->id, c->id))
            buf_text(out, "\nfound another");
        if (code == OCH_OK)
            sysdb_collection_unref(found);
        struct sysdb_version version = {0};
        if (code == OCH_OK)
            code = sysdb_version_get(sysdb, c->id, arena, &version, fault);
        if (code == OCH_OK) {
            buf_text(out, "\n");
            say_id(out, c->id);
            buf_printf(
                out, " %.*s v%" PRId64 " %" PRIu64 " d%u meta %d %08" PRIx64 " schema %016" PRIx64,
                SLICE_ARG(c->name), c->version, c->log_offset, c->dimension, c->metadata.at != NULL,
                slice_hash(c->metadata), slice_hash(c->schema_json));
            for (size_t k = 0; k < c->pair_count; k++)
                buf_printf(out, " %.*s:%d", SLICE_ARG(c->pairs[k].key), c->pairs[k].type);
            say_parts(out, &version);
            code = say_kept(sysdb, c->id, arena, out, fault);
        }
        sysdb_collection_unref(c);
    }
    return code;
}

static inline och_code say_rest(struct sysdb *sysdb, struct arena *arena, struct buf *out,
                                och_error *fault)
{
    size_t count;
    uuid *ids;
    struct sysdb_garbage *garbage;
    struct sysdb_segment *segments;
    struct sysdb_log_end end;
    struct sysdb_database *databases;
    TRY(sysdb_database_list(sysdb, TENANT, ALL, 0, arena, &databases, &count, fault));
    for (size_t i = 0; i < count; i++)
        buf_printf(out, "\ndb %.*s", SLICE_ARG(databases[i].name));
    TRY(sysdb_tombstones(sysdb, arena, &ids, &count, fault));
    for (size_t i = 0; i < count; i++)
        buf_text(out, "\ntombstone"), say_id(out, ids[i]);
    TRY(sysdb_file_list(sysdb, arena, &ids, &count, fault));
    for (size_t i = 0; i < count; i++)
        buf_text(out, "\nlive"), say_id(out, ids[i]);
    TRY(sysdb_garbage_list(sysdb, true, arena, &garbage, &count, fault));
    for (size_t i = 0; i < count; i++) {
        buf_printf(out, "\ngarbage %d %" PRIu64 " %" PRIu64, garbage[i].whole, garbage[i].offset,
                   garbage[i].size);
        say_id(out, garbage[i].file);
    }
    TRY(sysdb_segment_list(sysdb, arena, &segments, &count, fault));
    for (size_t i = 0; i < count; i++)
        buf_printf(out, "\nsegment %" PRIu64 " %" PRIu64, segments[i].id, segments[i].salt);
    TRY(sysdb_log_end_get(sysdb, &end, fault));
    buf_printf(out, "\nend %d %" PRIu64, end.has, end.byte);
    return OCH_OK;
}

/* All of it, NUL-terminated. */
static inline och_code say_all(struct sysdb *sysdb, struct buf *out, och_error *fault)
{
    struct arena arena;
    arena_init(&arena, NULL, 0);
    buf_clear(out);
    buf_printf(out, "generation %" PRIu64, sysdb_generation(sysdb));
    och_code code = say_collections(sysdb, &arena, out, fault);
    if (code == OCH_OK)
        code = say_rest(sysdb, &arena, out, fault);
    buf_byte(out, 0);
    arena_done(&arena);
    return code;
}

/* ---- operations ---- */

struct op {
    int kind;
    uint64_t a, b;
};

static inline struct op op_random(struct random *random, uint64_t number)
{
    static const int kinds[] = {0, 0, 0, 0, 0, 1, 1, 2, 3, 4, 4, 4, 4, 5, 6, 7, 8, 9};
    int kind = kinds[random_below(random, COUNT_OF(kinds))];
    if (kind == 9 && random_below(random, 8) != 0)
        kind = 0;
    return (struct op){kind, number, number ? random_below(random, number) : 0};
}

static inline och_code op_commit(struct test *t, struct sysdb *sysdb, const struct op *op,
                                 och_error *fault)
{
    struct arena arena;
    struct sysdb_version version;
    arena_init(&arena, NULL, 0);
    och_code code = sysdb_version_get(sysdb, id_of(op->b), &arena, &version, fault);
    if (code == OCH_OK) {
        uint8_t dead[200];
        memset(dead, (int)op->a, sizeof(dead));
        struct sysdb_part parts[3] = {{.file = id_of(1000000 + op->a / 12),
                                       .offset = op->a % 12 * 4096,
                                       .size = 4096,
                                       .rows = 3,
                                       .dead = slice_make(dead, op->a % 200)}};
        struct batch_pair pair = {SLICE("key"), (uint8_t)(op->a % 4)};
        struct sysdb_batch_id batch = {.batch_id = id_of(op->a),
                                       .created_at = (int64_t)(t->clock.wall_ns / 1000000)};
        for (size_t i = 0; i < 2 && i < version.part_count; i++)
            parts[i + 1] = version.parts[i]; // some carried over
        struct sysdb_commit item = {.collection = id_of(op->b),
                                    .expected_version = version.version,
                                    .next = {.log_offset = op->a,
                                             .dimension = 2,
                                             .parts = parts,
                                             .part_count = 1 + min_size(version.part_count, 2)},
                                    .pairs = &pair,
                                    .pair_count = 1,
                                    .batch_ids = &batch,
                                    .batch_id_count = 1};
        code = sysdb_commit_versions(sysdb, &item, 1, fault);
    }
    arena_done(&arena);
    return code;
}

/* Does the same on every catalogue in the same state.  Refusals (not found, exists, conflict) count as done. */
static inline och_code op_run(struct test *t, struct sysdb *sysdb, const struct op *op,
                              och_error *fault)
{
    char name[32];
    uint8_t metadata[600] = {0};
    struct sysdb_collection_change change = {0};
    uuid id = id_of(op->b), file = id_of(1000000 + op->a / 12);
    uint64_t segment = op->b;
    (void)snprintf(name, sizeof(name), "name-%d", (int)(op->a * 7 % 50));
    memset(metadata, (int)op->a, sizeof(metadata));
    switch (op->kind) {
    case 0: {
        struct sysdb_collection_new spec = {.id = id_of(op->a),
                                            .tenant = TENANT,
                                            .database = DATABASE,
                                            .name = slice_of(name),
                                            .metadata = slice_make(metadata, op->a % 600 + 1),
                                            .schema_json = t->schema,
                                            .get_or_create = op->a % 2};
        const struct sysdb_collection *made = NULL;
        bool created;
        och_code code = sysdb_collection_create(sysdb, &spec, &made, &created, fault);
        if (code == OCH_OK)
            sysdb_collection_unref(made);
        return code;
    }
    case 1:
        change.set_name = change.set_metadata = true;
        change.name = slice_of(name);
        return sysdb_collection_update(sysdb, id, &change, fault);
    case 2:
        return sysdb_collection_drop(sysdb, id, fault);
    case 3:
        return sysdb_segment_add(sysdb, &(struct sysdb_segment){op->a, op->b, 1}, fault);
    case 4: {
        och_code code = sysdb_file_announce(sysdb, file, fault);
        return code == OCH_EXISTS ? op_commit(t, sysdb, op, fault) : code;
    }
    case 5:
        return sysdb_segment_remove(sysdb, &segment, 1, fault);
    case 6:
        return sysdb_log_end_set(sysdb, &(struct sysdb_log_end){op->a % 2, 1, op->a, 1}, fault);
    case 7:
        return sysdb_database_create(sysdb, TENANT, slice_of(name), id_of(op->a), fault);
    case 8:
        return sysdb_file_forget(sysdb, &file, 1, fault);
    default:
        return sysdb_reset(sysdb, fault);
    }
}

static inline bool refusal(och_code code)
{
    return code == OCH_NOT_FOUND || code == OCH_EXISTS || code == OCH_CONFLICT ||
           code == OCH_INVALID || code == OCH_STALE || code == OCH_QUOTA;
}

/* ---- the same with kept versions; apart, as the golden catalogues come from those above ---- */

enum { OP_KEEP = 10, OP_RELEASE, OP_EXPIRE, OP_RESTORE, OP_RETAIN, OP_KINDS };

static inline struct op op_random_kept(struct random *random, uint64_t number)
{
    struct op op = op_random(random, number);
    if (random_below(random, 5) < 2)
        op.kind = OP_KEEP + (int)random_below(random, OP_KINDS - OP_KEEP);
    return op;
}

/* One of the collections that there are, and one of the versions that are kept of it, if any. */
static inline och_code op_pick(struct sysdb *sysdb, const struct op *op, struct arena *arena,
                               uuid *ret_id, struct sysdb_version *ret_now,
                               struct sysdb_kept *ret_kept, och_error *fault)
{
    const struct sysdb_collection **rows;
    struct sysdb_kept *kept;
    size_t count, kept_count;
    TRY(sysdb_collection_list(sysdb, TENANT, DATABASE, ALL, 0, arena, &rows, &count, fault));
    if (count)
        *ret_id = rows[op->b % count]->id;
    for (size_t i = 0; i < count; i++)
        sysdb_collection_unref(rows[i]);
    if (count == 0)
        return FAIL(fault, OCH_NOT_FOUND, "no collection");
    *ret_kept = (struct sysdb_kept){.id = id_of(op->a)}; // none has it
    TRY(sysdb_version_get(sysdb, *ret_id, arena, ret_now, fault));
    TRY(sysdb_kept_list(sysdb, *ret_id, arena, &kept, &kept_count, fault));
    if (kept_count)
        *ret_kept = kept[op->a % kept_count];
    return OCH_OK;
}

/* A second of retention by the collection's metadata; then flushes, which keep what they replace if it has any. */
static inline och_code op_retain(struct sysdb *sysdb, const struct op *op, uuid id,
                                 const struct sysdb_version *now, och_error *fault)
{
    uint8_t metadata[64] = {1, sizeof(SYSDB_RETENTION_KEY) - 1};
    size_t len = sizeof(SYSDB_RETENTION_KEY) + 1;
    memcpy(metadata + 2, SYSDB_RETENTION_KEY, sizeof(SYSDB_RETENTION_KEY) - 1);
    metadata[len] = META_INT;
    metadata[len + 1] = 8;
    metadata[len + 2] = 1;
    struct sysdb_collection_change change = {.set_metadata = true,
                                             .metadata = slice_make(metadata, len + 10)};
    if (op->a % 2)
        return sysdb_collection_update(sysdb, id, &change, fault);
    struct sysdb_commit item = {.collection = id,
                                .expected_version = now->version,
                                .next = *now,
                                .kept = id_of(2000000 + op->a)};
    item.next.log_offset = op->a;
    item.next.part_count = now->part_count - (now->part_count > 1); // one goes but for what is kept
    return sysdb_commit_versions(sysdb, &item, 1, fault);
}

static inline och_code op_run_kept(struct test *t, struct sysdb *sysdb, const struct op *op,
                                   och_error *fault)
{
    if (op->kind < OP_KEEP)
        return op_run(t, sysdb, op, fault);
    int64_t now_ms = (int64_t)(clock_wall_ns(&t->clock.clock) / 1000000);
    char name[32];
    uuid id;
    struct sysdb_version now;
    struct sysdb_kept kept;
    struct arena arena;
    size_t count;
    bool more;
    arena_init(&arena, NULL, 0);
    (void)snprintf(name, sizeof(name), "kept-%d", (int)(op->a % 7));
    och_code code = op_pick(sysdb, op, &arena, &id, &now, &kept, fault);
    if (code == OCH_OK && op->kind == OP_KEEP) {
        bool named = op->a % 3 != 0; // those without are outlived at once
        struct sysdb_keep keep = {.collection = id,
                                  .id = id_of(2000000 + op->a),
                                  .name = named ? slice_of(name) : SLICE_NONE,
                                  .keep_until = named ? 0 : now_ms - 1,
                                  .taken_at = now_ms,
                                  .max = 3};
        code = sysdb_keep(sysdb, &keep, &kept, fault);
    } else if (code == OCH_OK && op->kind == OP_RELEASE) {
        code = sysdb_kept_drop(sysdb, id, kept.id, fault);
    } else if (code == OCH_OK && op->kind == OP_EXPIRE) {
        code = sysdb_kept_expire(sysdb, &count, &more, fault);
    } else if (code == OCH_OK && op->kind == OP_RESTORE) {
        struct sysdb_restore restore = {.collection = id,
                                        .kept = kept.id,
                                        .from = now.log_offset,
                                        .log_offset = op->a,
                                        .created_at = now_ms,
                                        .id = id_of(2000000 + op->a),
                                        .name = op->a % 2 ? slice_of(name) : SLICE_NONE,
                                        .max = 3};
        code = sysdb_restore(sysdb, &restore, fault);
    } else if (code == OCH_OK && op->kind == OP_RETAIN) {
        code = op_retain(sysdb, op, id, &now, fault);
    }
    arena_done(&arena);
    return code;
}
#endif
