/* SPDX-License-Identifier: Apache-2.0 */
/* Schemas made from a request (§4) and updated (§2).  The numbers in brackets are sections of schema-and-config.md. */
#include "model/schema_internal.h"

#define DOCUMENT_KEY  SLICE("#document")
#define EMBEDDING_KEY SLICE("#embedding")

static const struct json_member unknown_members[] = {
    {{(const uint8_t *)"type", 4},
     {.kind = JSON_STRING, .string = {(const uint8_t *)"unknown", 7}}}};

struct schema_key *schema_find(const struct schema_plan *plan, slice name)
{
    size_t low = 0, high = plan->key_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = slice_compare(plan->keys[middle].name, name);
        if (order == 0)
            return &plan->keys[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

void index_settings_fill(struct index_settings *settings, enum index_kind kind,
                         unsigned thread_count)
{
    const struct index_row *index = &schema_indexes[kind];
    settings->present = true;
    for (size_t i = 0; i < index->count; i++) {
        const struct setting_row *row = &index->rows[i];
        if ((settings->given >> i & 1) || (row->places & SETTING_OPTIONAL))
            continue;
        if (row->kind == SETTING_F64)
            settings->values[i].number = row->fallback;
        else
            settings->values[i].integer = (int64_t)row->fallback;
        if (kind == INDEX_HNSW && i == HNSW_NUM_THREADS && thread_count > 0)
            settings->values[i].integer = thread_count;
        settings->given |= 1u << i;
    }
}

void index_settings_overlay(struct index_settings *to, const struct index_settings *from)
{
    to->present |= from->present;
    for (size_t i = 0; i < SETTING_MAX; i++)
        if (from->given >> i & 1)
            to->values[i] = from->values[i];
    to->given |= from->given;
}

/* ---- the default schema (§3.1) ---- */

static och_code default_vector(struct schema_types *types, const struct schema_options *options,
                               bool source, struct arena *arena, och_error *err)
{
    struct vector_config *config = ARENA_NEW(arena, struct vector_config);
    if (!config)
        return FAIL_NO_MEMORY(err, "a schema");
    enum index_kind built = options->spann ? INDEX_SPANN : INDEX_HNSW;
    config->has_space = true;
    config->space = METRIC_L2;
    config->has_source = source;
    config->source_key = DOCUMENT_KEY;
    index_settings_fill(&config->kinds[built], built, options->thread_count);
    types->vector = config;
    return OCH_OK;
}

static och_code default_types(slice key, const struct schema_options *options, struct arena *arena,
                              struct schema_types *out, och_error *err)
{
    static const struct json_value unknown = {.kind = JSON_OBJECT,
                                              .count = 1,
                                              .members =
                                                  (struct json_member *)(uintptr_t)unknown_members};
    *out = (struct schema_types){0};
    if (slice_equal(key, DOCUMENT_KEY)) {
        out->groups = 1u << GROUP_STRING;
        out->slots = 1u << SLOT_FTS | 1u << SLOT_STRING;
        out->enabled = 1u << SLOT_FTS;
        return OCH_OK;
    }
    if (slice_equal(key, EMBEDDING_KEY)) {
        out->groups = 1u << GROUP_FLOATS;
        out->slots = out->enabled = 1u << SLOT_VECTOR;
        return default_vector(out, options, true, arena, err);
    }
    out->groups = (1u << GROUP_COUNT) - 1;
    out->slots = (1u << SLOT_COUNT) - 1;
    out->enabled = 1u << SLOT_STRING | 1u << SLOT_INT | 1u << SLOT_FLOAT | 1u << SLOT_BOOL;
    out->sparse = ARENA_NEW(arena, struct sparse_config);
    if (!out->sparse)
        return FAIL_NO_MEMORY(err, "a schema");
    out->sparse->embedding_function = &unknown;
    out->sparse->has_bm25 = true;
    return default_vector(out, options, false, arena, err);
}

/* ---- merging ---- */

/* With `replace` the other kind of index takes the place of the built one: `defaults` shows one of them. */
static void merge_vector(struct vector_config *to, const struct vector_config *from, bool replace,
                         enum index_kind built)
{
    if (from->has_space) {
        to->has_space = true;
        to->space = from->space;
    }
    if (from->has_source) {
        to->has_source = true;
        to->source_key = from->source_key;
    }
    if (from->embedding_function)
        to->embedding_function = from->embedding_function;
    for (unsigned kind = 0; kind < INDEX_KIND_COUNT; kind++) {
        if (!from->kinds[kind].present)
            continue;
        if (!to->kinds[kind].present)
            index_settings_fill(&to->kinds[kind], (enum index_kind)kind, 0);
        index_settings_overlay(&to->kinds[kind], &from->kinds[kind]);
        if (replace && kind != built)
            to->kinds[built] = (struct index_settings){0};
    }
}

static void merge_types(struct schema_types *to, const struct schema_types *from, bool replace,
                        enum index_kind built)
{
    to->groups |= from->groups;
    to->slots |= from->slots;
    to->enabled = (uint8_t)((to->enabled & ~from->slots) | from->enabled);
    if (from->slots >> SLOT_FTS & 1)
        to->token_bitmap = from->token_bitmap;
    if (from->vector && to->vector)
        merge_vector(to->vector, from->vector, replace, built);
    if (from->sparse && to->sparse) {
        const struct sparse_config *given = from->sparse;
        if (given->embedding_function)
            to->sparse->embedding_function = given->embedding_function;
        if (given->has_source)
            to->sparse->source_key = given->source_key;
        to->sparse->has_source |= given->has_source;
        if (given->has_bm25)
            to->sparse->bm25 = given->bm25;
        to->sparse->has_bm25 |= given->has_bm25;
        to->sparse->max_score = given->max_score;
    }
}

/* Put the merged reserved key into the plan, which has room for it. */
static och_code merge_reserved(struct schema_plan *plan, slice name,
                               const struct schema_options *options, struct arena *arena,
                               och_error *err)
{
    struct schema_types types;
    TRY(default_types(name, options, arena, &types, err));
    struct schema_key *entry = schema_find(plan, name);
    if (entry) {
        merge_types(&types, &entry->types, false, plan->built);
    } else {
        size_t at = plan->key_count++;
        for (; at > 0 && slice_compare(plan->keys[at - 1].name, name) > 0; at--)
            plan->keys[at] = plan->keys[at - 1];
        entry = &plan->keys[at];
        entry->name = name;
    }
    entry->types = types;
    return OCH_OK;
}

/* The request's schema over the default one; `value` NULL or null gives the default. */
static och_code make_plan(const struct json_value *value, const struct schema_options *options,
                          struct arena *arena, struct schema_plan *ret_plan, och_error *err)
{
    struct schema_plan plan = {.built = options->spann ? INDEX_SPANN : INDEX_HNSW};
    if (value && value->kind != JSON_NULL) {
        struct schema_input input = {.arena = arena, .store = true};
        struct place place = {NULL, SLICE("schema")};
        TRY(schema_read_plan(&input, &place, value, &plan, err));
        TRY(schema_check_rules(&plan, err));
    } else {
        plan.keys = ARENA_ARRAY(arena, struct schema_key, 2);
        if (!plan.keys)
            return FAIL_NO_MEMORY(err, "a schema");
    }
    struct schema_types defaults;
    TRY(default_types(SLICE(""), options, arena, &defaults, err));
    merge_types(&defaults, &plan.defaults, true, plan.built);
    plan.defaults = defaults;
    TRY(merge_reserved(&plan, DOCUMENT_KEY, options, arena, err));
    TRY(merge_reserved(&plan, EMBEDDING_KEY, options, arena, err));
    *ret_plan = plan;
    return OCH_OK;
}

static och_code plan_is_default(const struct schema_plan *plan,
                                const struct schema_options *options, struct arena *arena,
                                bool *ret_same, och_error *err)
{
    struct schema_plan plain;
    TRY(make_plan(NULL, options, arena, &plain, err));
    CLEANUP(buf_cleanup) struct buf left, right;
    buf_init(&left, BUF_MAX_NONE);
    buf_init(&right, BUF_MAX_NONE);
    schema_write_plan(plan, WRITE_COMPARE, &left);
    schema_write_plan(&plain, WRITE_COMPARE, &right);
    TRY(buf_check(&left, "a schema", err));
    TRY(buf_check(&right, "a schema", err));
    *ret_same = slice_equal(buf_view(&left), buf_view(&right));
    return OCH_OK;
}

/* ---- configuration ---- */

static bool settings_are_default(const struct vector_config *config,
                                 const struct schema_options *options)
{
    if (config->has_space && config->space != METRIC_L2)
        return false;
    for (unsigned kind = 0; kind < INDEX_KIND_COUNT; kind++) {
        const struct index_row *index = &schema_indexes[kind];
        const struct index_settings *given = &config->kinds[kind];
        struct index_settings plain = {0};
        index_settings_fill(&plain, (enum index_kind)kind, options->thread_count);
        for (size_t i = 0; i < index->count; i++) {
            bool same = index->rows[i].kind == SETTING_UINT
                            ? given->values[i].integer == plain.values[i].integer
                            : given->values[i].number == plain.values[i].number;
            if ((given->given >> i & 1) && !same)
                return false;
        }
    }
    return true;
}

/* Configuration and legacy metadata as one set of vector settings (§1.4). */
static och_code fold_configuration(const struct json_value *value,
                                   const struct json_value *metadata,
                                   const struct schema_options *options, struct arena *arena,
                                   struct vector_config *ret_config, och_error *err)
{
    struct schema_input input = {.arena = arena, .store = true};
    struct place place = {NULL, SLICE("configuration")};
    struct configuration configuration;
    TRY(schema_read_configuration(&input, &place, value, SETTING_CREATE, &configuration, err));
    if (configuration.kind_count > 1)
        return FAIL(err, OCH_INVALID, "Multiple vector index configurations provided");
    struct vector_config *config = &configuration.vector;
    TRY(schema_check_bounds(config, &place, "", err));
    if (settings_are_default(config, options)) {
        struct vector_config legacy = {0};
        TRY(schema_read_legacy(metadata, &legacy, err));
        legacy.embedding_function = config->embedding_function;
        if (legacy.has_space || legacy.kinds[INDEX_HNSW].present)
            *config = legacy;
    }
    *ret_config = *config;
    return OCH_OK;
}

/* Lay vector settings over both places that hold them.  Those of the kind not built are kept beside #embedding's (X15). */
static void apply_settings(struct schema_plan *plan, const struct vector_config *config,
                           unsigned thread_count)
{
    struct vector_config *places[] = {plan->defaults.vector,
                                      schema_find(plan, EMBEDDING_KEY)->types.vector};
    for (size_t i = 0; i < COUNT_OF(places); i++) {
        if (config->has_space)
            places[i]->space = config->space;
        if (config->embedding_function)
            places[i]->embedding_function = config->embedding_function;
        for (unsigned kind = 0; kind < INDEX_KIND_COUNT; kind++) {
            struct index_settings *settings = &places[i]->kinds[kind];
            if (config->kinds[kind].given == 0 || (i == 0 && !settings->present))
                continue;
            if (!settings->present)
                index_settings_fill(settings, (enum index_kind)kind, thread_count);
            index_settings_overlay(settings, &config->kinds[kind]);
        }
    }
}

static och_code store_plan(const struct schema_plan *plan, struct arena *arena, slice *ret_json,
                           och_error *err)
{
    CLEANUP(buf_cleanup) struct buf text;
    buf_init(&text, BUF_MAX_NONE);
    schema_write_plan(plan, WRITE_STORED, &text);
    TRY(buf_check(&text, "a schema", err));
    slice copy = arena_copy(arena, buf_view(&text));
    if (!copy.at)
        return FAIL_NO_MEMORY(err, "a schema");
    *ret_json = copy;
    return OCH_OK;
}

och_code schema_create(const struct json_value *configuration, const struct json_value *schema,
                       const struct json_value *metadata, const struct schema_options *options,
                       struct arena *arena, slice *ret_json, och_error *err)
{
    struct vector_config config;
    struct schema_plan plan;
    bool schema_default = false;
    TRY(fold_configuration(configuration, metadata, options, arena, &config, err));
    TRY(make_plan(schema, options, arena, &plan, err));
    TRY(plan_is_default(&plan, options, arena, &schema_default, err));
    bool config_default = settings_are_default(&config, options) &&
                          embedding_function_is_default(config.embedding_function);
    if (!config_default && !schema_default)
        return FAIL(err, OCH_INVALID,
                    "Failed to reconcile schema: Cannot set both collection config and schema "
                    "simultaneously");
    if (schema_default) /* else the schema stands as merged */
        apply_settings(&plan, &config, options->thread_count);
    return store_plan(&plan, arena, ret_json, err);
}

/* ---- shapes only ---- */

#define SCRATCH_BYTES 65536 /* for the descriptions in messages */

och_code schema_check_shape(const struct json_value *configuration, const struct json_value *schema,
                            och_error *err)
{
    struct arena scratch;
    arena_init(&scratch, NULL, SCRATCH_BYTES);
    struct schema_input input = {.arena = &scratch, .store = false};
    struct place place = {NULL, SLICE("configuration")};
    struct configuration ignored;
    struct schema_plan plan = {0};
    och_code code =
        schema_read_configuration(&input, &place, configuration, SETTING_CREATE, &ignored, err);
    place.name = SLICE("schema");
    if (code == OCH_OK && schema && schema->kind != JSON_NULL)
        code = schema_read_plan(&input, &place, schema, &plan, err);
    arena_done(&scratch);
    return code;
}

och_code schema_check_update_shape(const struct json_value *new_configuration, och_error *err)
{
    struct arena scratch;
    arena_init(&scratch, NULL, SCRATCH_BYTES);
    struct schema_input input = {.arena = &scratch, .store = false};
    struct place place = {NULL, SLICE("new_configuration")};
    struct configuration ignored;
    och_code code =
        schema_read_configuration(&input, &place, new_configuration, SETTING_UPDATE, &ignored, err);
    arena_done(&scratch);
    return code;
}

/* ---- update ---- */

och_code schema_update(slice stored_json, const struct json_value *new_configuration,
                       struct arena *arena, slice *ret_json, och_error *err)
{
    struct schema_input input = {.arena = arena, .store = true};
    struct place place = {NULL, SLICE("new_configuration")};
    struct configuration given;
    struct schema_plan plan;
    TRY(schema_read_configuration(&input, &place, new_configuration, SETTING_UPDATE, &given, err));
    if (given.kind_count > 1)
        return FAIL(err, OCH_INVALID, "Multiple vector index configurations provided");
    TRY(schema_check_bounds(&given.vector, &place, "", err));
    TRY(schema_read_stored(stored_json, arena, &plan, err));
    apply_settings(&plan, &given.vector, 0);
    return store_plan(&plan, arena, ret_json, err);
}
