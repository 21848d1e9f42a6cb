/* SPDX-License-Identifier: Apache-2.0 */
/* Schemas from the catalogue: read back, grown by writes (schema-and-config.md §5), boiled down to what the engine needs. */
#include "model/schema_internal.h"

#include <math.h>
#include <stdlib.h>

#define DOCUMENT_KEY  SLICE("#document")
#define EMBEDDING_KEY SLICE("#embedding")

/* ---- stored text ---- */

static och_code fail_stored(och_error *err, const char *reason)
{
    return FAIL(err, OCH_CORRUPT, "stored schema: %s", reason);
}

/* What every stored schema holds, so that readers need not ask. */
static bool is_complete(const struct schema_plan *plan)
{
    const struct schema_key *document = schema_find(plan, DOCUMENT_KEY);
    const struct schema_key *embedding = schema_find(plan, EMBEDDING_KEY);
    if (!document || !embedding || plan->defaults.slots != (1u << SLOT_COUNT) - 1 ||
        plan->defaults.groups != (1u << GROUP_COUNT) - 1)
        return false;
    if (!(document->types.slots >> SLOT_FTS & 1) || !embedding->types.vector)
        return false;
    const struct vector_config *config = embedding->types.vector;
    const struct index_settings *built = &config->kinds[plan->built];
    struct index_settings plain = {0};
    index_settings_fill(&plain, (enum index_kind)plan->built, 0);
    return config->has_space && built->present && (built->given & plain.given) == plain.given;
}

och_code schema_read_stored(slice stored_json, struct arena *arena, struct schema_plan *ret_plan,
                            och_error *err)
{
    struct json_value value;
    struct json_fault fault;
    och_error inner = {0};
    och_code code =
        json_read(stored_json, &(struct json_options){0}, arena, &value, &fault, &inner);
    const struct json_value *index = code == OCH_OK ? json_get(&value, SLICE("index")) : NULL;
    struct schema_plan plan = {0};
    if (code == OCH_OK) {
        if (!index || index->kind != JSON_STRING)
            return fail_stored(err, "no kind of index");
        while (plan.built < INDEX_KIND_COUNT &&
               !slice_equal(index->string, slice_of(schema_indexes[plan.built].name)))
            plan.built++;
        if (plan.built == INDEX_KIND_COUNT)
            return fail_stored(err, "unknown kind of index");
        struct schema_input input = {.arena = arena, .store = true};
        struct place place = {NULL, SLICE("schema")};
        code = schema_read_plan(&input, &place, &value, &plan, &inner);
    }
    if (code == OCH_NO_MEMORY)
        return FAIL_NO_MEMORY(err, "a schema");
    if (code != OCH_OK)
        return fail_stored(err, inner.message);
    if (!is_complete(&plan))
        return fail_stored(err, "a part of every schema is missing");
    *ret_plan = plan;
    return OCH_OK;
}

/* ---- growth by writes (§5) ---- */

/* The value type of `defaults`, alone. */
static struct schema_types one_group(const struct schema_types *defaults, unsigned group)
{
    const struct group_row *row = &schema_groups[group];
    uint8_t slots = (uint8_t)(((1u << row->slot_count) - 1) << row->first_slot);
    return (struct schema_types){
        .groups = (uint8_t)(1u << group),
        .slots = (uint8_t)(defaults->slots & slots),
        .enabled = (uint8_t)(defaults->enabled & slots),
        .token_bitmap = group == GROUP_STRING && defaults->token_bitmap,
        .sparse = group == GROUP_SPARSE ? defaults->sparse : NULL,
    };
}

static och_code add_pairs(struct schema_plan *plan, const struct batch_pair *pairs,
                          size_t pair_count, struct arena *arena, och_error *err)
{
    size_t count = plan->key_count, kept = 0, total;
    if (add_overflows(plan->key_count, pair_count, &total))
        return FAIL_NO_MEMORY(err, "a schema");
    struct schema_key *keys = ARENA_ARRAY(arena, struct schema_key, total);
    if (!keys)
        return FAIL_NO_MEMORY(err, "a schema");
    for (size_t i = 0; i < plan->key_count; i++) {
        keys[i] = plan->keys[i];
        keys[i].order = 0; /* what the schema says comes before what writes add */
    }
    for (size_t i = 0; i < pair_count; i++) {
        if (pairs[i].type >= SCHEMA_TYPE_COUNT || slice_starts_with(pairs[i].key, SLICE("chroma:")))
            continue;
        keys[count++] = (struct schema_key){
            .name = pairs[i].key,
            .types = one_group(&plan->defaults, schema_type_groups[pairs[i].type]),
            .order = 1,
        };
    }
    qsort(keys, count, sizeof(keys[0]), schema_key_order);
    for (size_t i = 0; i < count; i++) {
        struct schema_key *last = kept ? &keys[kept - 1] : NULL;
        if (!last || !slice_equal(last->name, keys[i].name))
            keys[kept++] = keys[i];
        else if (!(last->types.groups & keys[i].types.groups)) {
            last->types.groups |= keys[i].types.groups;
            last->types.slots |= keys[i].types.slots;
            last->types.enabled |= keys[i].types.enabled;
            last->types.token_bitmap |= keys[i].types.token_bitmap;
            if (keys[i].types.sparse)
                last->types.sparse = keys[i].types.sparse;
        }
    }
    plan->keys = keys;
    plan->key_count = kept;
    return OCH_OK;
}

och_code schema_write(slice stored_json, const struct batch_pair *pairs, size_t pair_count,
                      struct arena *arena, struct buf *out, och_error *err)
{
    struct schema_plan plan;
    TRY(schema_read_stored(stored_json, arena, &plan, err));
    if (pair_count > 0)
        TRY(add_pairs(&plan, pairs, pair_count, arena, err));
    schema_write_plan(&plan, WRITE_SCHEMA, out);
    return buf_check(out, "a schema", err);
}

/* ---- what the engine needs ---- */

struct recall_point {
    double effort, recall;
};

/* Linear in log effort against log(1 - recall) between the points and beyond them (vector-index.md §7). */
static double interpolate(const struct recall_point *points, size_t count, double effort)
{
    size_t i = 1;
    while (i + 1 < count && effort > points[i].effort)
        i++;
    const struct recall_point *a = &points[i - 1], *b = &points[i];
    double share = log(effort / a->effort) / log(b->effort / a->effort);
    double loss = log(1 - a->recall) + share * (log(1 - b->recall) - log(1 - a->recall));
    double recall = 1 - exp(loss);
    return recall < 0.5 ? 0.5 : recall;
}

float schema_recall(const struct vector_config *config, enum index_kind built)
{
    static const struct recall_point hnsw[] = {
        {10, 0.92}, {50, 0.97}, {100, 0.99}, {200, 0.993}, {400, 0.996}};
    static const struct recall_point spann[] = {{16, 0.95}, {64, 0.99}, {128, 0.993}};
    int64_t effort = config->kinds[built].values[schema_indexes[built].effort].integer;
    double bounded = effort < 1 ? 1 : (double)effort;
    if (built == INDEX_SPANN)
        return (float)interpolate(spann, COUNT_OF(spann), bounded);
    if (effort >= 1000)
        return 1;
    return (float)interpolate(hnsw, COUNT_OF(hnsw), bounded);
}

och_code schema_parse(slice stored_json, struct arena *arena, struct schema *ret_schema,
                      och_error *err)
{
    struct schema_plan plan;
    TRY(schema_read_stored(stored_json, arena, &plan, err));
    const struct vector_config *config = schema_find(&plan, EMBEDDING_KEY)->types.vector;
    struct schema schema = {
        .metric = (enum metric)config->space,
        .recall = schema_recall(config, (enum index_kind)plan.built),
        .full_text = schema_find(&plan, DOCUMENT_KEY)->types.enabled >> SLOT_FTS & 1,
        .keys = plan.keys,
        .key_count = plan.key_count,
        .json = arena_copy(arena, stored_json),
    };
    if (!schema.json.at)
        return FAIL_NO_MEMORY(err, "a schema");
    for (unsigned type = 0; type < SCHEMA_TYPE_COUNT; type++)
        if (plan.defaults.enabled >> schema_type_slots[type] & 1)
            schema.defaults_enabled |= (uint8_t)(1u << type);
    *ret_schema = schema;
    return OCH_OK;
}

static bool has_sparse_index(const struct schema_key *key)
{
    return key->types.sparse && key->types.enabled >> SLOT_SPARSE & 1;
}

bool schema_sparse_index(const struct schema *schema, slice key, bool *ret_bm25)
{
    for (size_t i = 0; i < schema->key_count; i++) {
        if (!slice_equal(schema->keys[i].name, key))
            continue;
        *ret_bm25 = has_sparse_index(&schema->keys[i]) && schema->keys[i].types.sparse->bm25;
        return has_sparse_index(&schema->keys[i]);
    }
    *ret_bm25 = false;
    return false;
}

och_code schema_sparse_keys(const struct schema *schema, struct arena *arena, slice **ret_keys,
                            size_t *ret_count, och_error *err)
{
    slice *keys = ARENA_ARRAY(arena, slice, schema->key_count + 1);
    size_t count = 0;
    if (!keys)
        return FAIL_NO_MEMORY(err, "a schema");
    for (size_t i = 0; i < schema->key_count; i++) {
        if (has_sparse_index(&schema->keys[i]))
            keys[count++] = schema->keys[i].name;
    }
    *ret_keys = keys;
    *ret_count = count;
    return OCH_OK;
}
