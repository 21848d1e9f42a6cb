/* SPDX-License-Identifier: Apache-2.0 */
/* Everything a catalogue says, as text to compare; and random operations that do the same on every catalogue. */
#ifndef TESTS_SYSDB_MODEL_H
#define TESTS_SYSDB_MODEL_H

#include "sysdb_test.h"

#include <inttypes.h>

static inline void say_id(struct buf *out, uuid id)
{
    char text[UUID_TEXT_SIZE];
    buf_printf(out, " %s", uuid_format(id, text));
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
            for (size_t k = 0; k < version.part_count; k++) {
                say_id(out, version.parts[k].file);
                buf_printf(out, "@%" PRIu64 " %08" PRIx64, version.parts[k].offset,
                           slice_hash(version.parts[k].dead));
            }
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
           code == OCH_INVALID;
}
#endif
