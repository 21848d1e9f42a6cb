/* SPDX-License-Identifier: Apache-2.0 */
/* Databases and collections: create, change, drop, show, reset. */
#include "base/map.h"
#include "gateway/rule/token.h"

#include <inttypes.h>

static bool given(const struct json_value *value)
{
    return value && value->kind != JSON_NULL;
}

/* Collection metadata from JSON, with the wire's prefix; `{}` is refused, null values are dropped where an update allows them. */
static och_code encode_metadata(const struct json_value *value, const char *member, unsigned flags,
                                struct arena *arena, slice *ret_encoded, och_error *err)
{
    *ret_encoded = SLICE_NONE;
    if (!given(value))
        return OCH_OK;
    if (value->count == 0)
        return FAIL(err, OCH_INVALID, "Validation error: %s: Metadata cannot be empty", member);
    struct buf encoded, plain;
    buf_init(&encoded, BUF_MAX_NONE);
    buf_init(&plain, BUF_MAX_NONE);
    och_code code = meta_from_json(value, flags | META_NO_SPARSE | META_COLLECTION, &encoded, err);
    if (code == OCH_INVALID)
        error_context(err, "Validation error: %s", member);
    bool empty = false;
    if (code == OCH_OK) {
        meta_merge(SLICE("\0"), buf_view(&encoded), &plain, &empty);
        code = buf_check(&plain, "metadata", err);
    }
    if (code == OCH_OK && !empty) {
        *ret_encoded = arena_copy(arena, buf_view(&plain));
        if (!ret_encoded->at)
            code = FAIL_NO_MEMORY(err, "metadata");
    }
    buf_done(&plain);
    buf_done(&encoded);
    return code;
}

och_code gateway_collection_create(struct gateway *gateway, const struct gateway_scope *scope,
                                   const struct gateway_collection_new *spec,
                                   const struct sysdb_collection **ret_collection, och_error *err)
{
    och_code named = gateway_check_name(spec->name, err);
    if (named != OCH_OK) {
        error_context(err, "Validation error: name");
        return named;
    }
    struct arena arena;
    arena_init(&arena, gateway->options.budget, 0);
    struct sysdb_collection_new row = {.id = gateway_new_id(gateway),
                                       .tenant = scope->tenant,
                                       .database = scope->database,
                                       .name = spec->name,
                                       .get_or_create = spec->get_or_create};
    och_code code = encode_metadata(spec->metadata, "metadata", 0, &arena, &row.metadata, err);
    if (code == OCH_OK)
        code = gateway_check_ttl(row.metadata, "metadata", err);
    if (code == OCH_OK)
        code = gateway_check_retention(row.metadata, "metadata", err);
    if (code == OCH_OK && spec->get_or_create) {
        /* An existing one is returned unchanged, whatever else the request says (schema-and-config.md §4). */
        code = sysdb_collection_find(gateway->options.sysdb, scope->tenant, scope->database,
                                     spec->name, ret_collection, err);
        if (code != OCH_NOT_FOUND) {
            arena_done(&arena);
            return code;
        }
        error_clear(err);
        code = OCH_OK;
    }
    struct schema_options options = {.thread_count = gateway->options.thread_count};
    if (code == OCH_OK)
        code = schema_create(spec->configuration, spec->schema, spec->metadata, &options, &arena,
                             &row.schema_json, err);
    bool created;
    if (code == OCH_OK)
        code = sysdb_collection_create(gateway->options.sysdb, &row, ret_collection, &created, err);
    arena_done(&arena);
    return code;
}

/* Under update_lock when the configuration changes: it is read, changed and written. */
static och_code update_collection(struct gateway *gateway, const struct gateway_scope *scope,
                                  uuid id, const struct json_value *new_name,
                                  const struct json_value *new_metadata,
                                  const struct json_value *new_configuration, och_error *err)
{
    const struct sysdb_collection *collection CLEANUP(sysdb_collection_cleanup) = NULL;
    TRY(sysdb_collection_get(gateway->options.sysdb, scope->tenant, scope->database, id,
                             &collection, err));
    struct arena arena;
    arena_init(&arena, gateway->options.budget, 0);
    struct sysdb_collection_change change = {.set_name = given(new_name),
                                             .set_metadata = given(new_metadata),
                                             .set_schema = given(new_configuration)};
    och_code code = OCH_OK;
    if (change.set_name) {
        change.name = new_name->string;
        code = gateway_check_name(change.name, err);
        if (code != OCH_OK)
            error_context(err, "Validation error: new_name");
    }
    if (code == OCH_OK)
        code = encode_metadata(new_metadata, "new_metadata", META_ALLOW_DELETE, &arena,
                               &change.metadata, err);
    if (code == OCH_OK)
        code = gateway_check_ttl(change.metadata, "new_metadata", err);
    if (code == OCH_OK)
        code = gateway_check_retention(change.metadata, "new_metadata", err);
    if (code == OCH_OK && change.set_schema)
        code = schema_update(collection->schema_json, new_configuration, &arena,
                             &change.schema_json, err);
    if (code == OCH_OK && (change.set_name || change.set_metadata || change.set_schema))
        code = sysdb_collection_update(gateway->options.sysdb, id, &change, err);
    arena_done(&arena);
    return code;
}

och_code gateway_collection_update(struct gateway *gateway, const struct gateway_scope *scope,
                                   uuid id, const struct json_value *new_name,
                                   const struct json_value *new_metadata,
                                   const struct json_value *new_configuration, och_error *err)
{
    bool alone = given(new_configuration); /* else each member replaces what was there */
    if (alone)
        mutex_lock(&gateway->update_lock);
    och_code code =
        update_collection(gateway, scope, id, new_name, new_metadata, new_configuration, err);
    if (alone)
        mutex_unlock(&gateway->update_lock);
    return code;
}

/* Sealed first, so that nothing is acknowledged after the drop (D15). Under drop_lock. */
static och_code drop(struct gateway *gateway, uuid id, och_error *err)
{
    TRY(wal_seal(gateway->options.wal, id, err));
    och_code code = sysdb_collection_drop(gateway->options.sysdb, id, err);
    if (code != OCH_OK) {
        wal_unseal(gateway->options.wal, id);
        return code;
    }
    wal_forget(gateway->options.wal, id);
    tokens_forget(gateway->tokens, id);
    views_forget(gateway->options.views, id);
    if (gateway->options.functions)
        functions_forget(gateway->options.functions, id);
    compactor_kick(gateway->options.compactor, id);
    return OCH_OK;
}

och_code gateway_collection_drop(struct gateway *gateway, const struct gateway_scope *scope,
                                 slice name, och_error *err)
{
    const struct sysdb_collection *collection CLEANUP(sysdb_collection_cleanup) = NULL;
    mutex_lock(&gateway->drop_lock);
    och_code code = gateway_collection_find(gateway, scope, name, &collection, err);
    if (code == OCH_OK && !slice_equal(collection->name, name))
        code = FAIL(err, OCH_INVALID,
                    "[%.*s] is an alias of collection [%.*s]: remove the alias, or drop the "
                    "collection by its name",
                    SLICE_ARG(name), SLICE_ARG(collection->name));
    if (code == OCH_OK)
        code = drop(gateway, collection->id, err);
    mutex_unlock(&gateway->drop_lock);
    return code;
}

och_code gateway_drop_by_id(struct gateway *gateway, uuid id, och_error *err)
{
    mutex_lock(&gateway->drop_lock);
    och_code code = drop(gateway, id, err);
    mutex_unlock(&gateway->drop_lock);
    return code;
}

och_code gateway_database_create(struct gateway *gateway, slice tenant, slice name, och_error *err)
{
    TRY(gateway_check_name(name, err));
    return sysdb_database_create(gateway->options.sysdb, tenant, name, gateway_new_id(gateway),
                                 err);
}

static och_code drop_all_of(struct gateway *gateway, slice tenant, slice name, och_error *err)
{
    struct arena arena;
    arena_init(&arena, gateway->options.budget, 0);
    const struct sysdb_collection **rows = NULL;
    size_t count = 0;
    och_code code = sysdb_collection_list(gateway->options.sysdb, tenant, name, UINT64_MAX, 0,
                                          &arena, &rows, &count, err);
    for (size_t i = 0; i < count; i++) {
        if (code == OCH_OK)
            code = drop(gateway, rows[i]->id, err);
        sysdb_collection_unref(rows[i]);
    }
    arena_done(&arena);
    return code;
}

och_code gateway_database_drop(struct gateway *gateway, slice tenant, slice name, och_error *err)
{
    mutex_lock(&gateway->drop_lock);
    och_code code;
    do {
        /* Again while someone goes on creating collections in it. */
        error_clear(err);
        code = drop_all_of(gateway, tenant, name, err);
        if (code == OCH_OK)
            code = sysdb_database_drop(gateway->options.sysdb, tenant, name, err);
    } while (code == OCH_CONFLICT);
    mutex_unlock(&gateway->drop_lock);
    return code;
}

/* ---- reset ---- */

static och_code seal_all(struct gateway *gateway, bool seal, och_error *err)
{
    int64_t cursor = 0;
    uuid ids[64];
    size_t count;
    do {
        TRY(sysdb_collection_walk(gateway->options.sysdb, &cursor, COUNT_OF(ids), ids, &count,
                                  err));
        for (size_t i = 0; i < count; i++) {
            if (seal)
                TRY(wal_seal(gateway->options.wal, ids[i], err));
            else
                wal_unseal(gateway->options.wal, ids[i]);
        }
    } while (count > 0);
    return OCH_OK;
}

/* Tombstones from before, which log and views forgot long ago. */
static och_code note_tombstones(struct gateway *gateway, struct arena *arena, struct map *known,
                                och_error *err)
{
    uuid *ids = NULL;
    size_t count = 0;
    TRY(sysdb_tombstones(gateway->options.sysdb, arena, &ids, &count, err));
    for (size_t i = 0; i < count; i++) {
        bool is_new;
        if (!map_at(known, uuid_slice(&ids[i]), &is_new))
            return FAIL_NO_MEMORY(err, "a reset");
    }
    return OCH_OK;
}

static och_code forget_all(struct gateway *gateway, struct arena *arena, struct map *known,
                           och_error *err)
{
    uuid *ids = NULL;
    size_t count = 0;
    tokens_forget_all(gateway->tokens);
    TRY(sysdb_tombstones(gateway->options.sysdb, arena, &ids, &count, err));
    for (size_t i = 0; i < count; i++) {
        if (map_find(known, uuid_slice(&ids[i])))
            continue;
        wal_forget(gateway->options.wal, ids[i]);
        views_forget(gateway->options.views, ids[i]);
        if (gateway->options.functions)
            functions_forget(gateway->options.functions, ids[i]);
    }
    if (count > 0)
        compactor_kick(gateway->options.compactor, ids[0]); /* for the garbage of all */
    return OCH_OK;
}

static och_code reset(struct gateway *gateway, struct arena *arena, struct map *known,
                      och_error *err)
{
    TRY(note_tombstones(gateway, arena, known, err));
    och_code code = seal_all(gateway, true, err);
    if (code == OCH_OK)
        code = sysdb_reset(gateway->options.sysdb, err);
    if (code == OCH_OK)
        return forget_all(gateway, arena, known, err);
    IGNORE(seal_all(gateway, false, NULL)); /* they live on, and take writes */
    return code;
}

och_code gateway_reset(struct gateway *gateway, och_error *err)
{
    if (!gateway->options.allow_reset)
        return FAIL(err, OCH_FORBIDDEN, "Reset is disabled by config");
    struct arena arena;
    struct map known;
    arena_init(&arena, gateway->options.budget, 0);
    map_init(&known);
    mutex_lock(&gateway->drop_lock);
    och_code code = reset(gateway, &arena, &known, err);
    mutex_unlock(&gateway->drop_lock);
    map_done(&known);
    arena_done(&arena);
    return code;
}

/* ---- the Collection object ---- */

static och_code write_schema(struct gateway *gateway, const struct sysdb_collection *c,
                             struct arena *arena, struct buf *out, och_error *err)
{
    struct view *view CLEANUP(view_cleanup) = NULL;
    struct batch_pair *tail_pairs = NULL;
    size_t tail_count = 0;
    uint64_t head;
    uint32_t dimension;
    och_code known = wal_head(gateway->options.wal, c->id, &head, &dimension, err);
    if (known == OCH_NOT_FOUND) { /* dropped since the caller found it: shown as it was then */
        error_clear(err);
        head = c->log_offset;
        dimension = c->dimension;
        known = OCH_OK;
    }
    TRY(known);
    if (head > c->log_offset) {
        /* Only then does the tail know keys that the catalogue does not. */
        och_code code = view_acquire(gateway->options.views, c->id, READ_INDEX_AND_WAL, &view, err);
        if (code == OCH_OK)
            code = view_pairs(view, arena, &tail_pairs, &tail_count, err);
        if (code != OCH_OK)
            error_clear(err); /* a damaged collection can still be looked at and dropped */
    }
    struct batch_pair *pairs =
        ARENA_ARRAY(arena, struct batch_pair, c->pair_count + tail_count + 1);
    if (!pairs)
        return FAIL_NO_MEMORY(err, "a schema");
    if (c->pair_count)
        memcpy(pairs, c->pairs, c->pair_count * sizeof(*pairs));
    if (tail_count)
        memcpy(pairs + c->pair_count, tail_pairs, tail_count * sizeof(*pairs));
    TRY(schema_write(c->schema_json, pairs, c->pair_count + tail_count, arena, out, err));
    buf_text(out, ",\"dimension\":");
    if (dimension)
        buf_printf(out, "%" PRIu32, dimension);
    else
        buf_text(out, "null");
    return OCH_OK;
}

och_code gateway_collection_write(struct gateway *gateway, const struct sysdb_collection *c,
                                  struct arena *arena, struct buf *out, och_error *err)
{
    char id[UUID_TEXT_SIZE];
    buf_printf(out, "{\"id\":\"%s\",\"name\":", uuid_format(c->id, id));
    json_write_string(out, c->name);
    buf_text(out, ",\"configuration_json\":");
    TRY(schema_write_configuration(c->schema_json, arena, out, err));
    buf_text(out, ",\"metadata\":");
    if (c->metadata.at)
        meta_to_json(c->metadata, out);
    else
        buf_text(out, "null");
    buf_text(out, ",\"tenant\":");
    json_write_string(out, c->tenant);
    buf_text(out, ",\"database\":");
    json_write_string(out, c->database);
    buf_printf(out,
               ",\"log_position\":%" PRIu64 ",\"version\":%" PRId64 ",\"schema\":", c->log_offset,
               c->version);
    TRY(write_schema(gateway, c, arena, out, err));
    buf_byte(out, '}');
    return buf_check(out, "a collection", err);
}
