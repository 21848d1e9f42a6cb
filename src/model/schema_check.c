/* SPDX-License-Identifier: Apache-2.0 */
/* What a well-formed schema may not say (schema-and-config.md §1.1, 1.2, 3.3), and the gate that filters pass (query-language.md §2.5). */
#include "base/vec.h"
#include "model/schema_internal.h"

#define DOCUMENT_KEY  SLICE("#document")
#define EMBEDDING_KEY SLICE("#embedding")

och_code schema_check_bounds(const struct vector_config *config, const struct place *up,
                             const char *prefix, och_error *err)
{
    for (size_t kind = 0; kind < INDEX_KIND_COUNT; kind++) {
        const struct index_row *index = &schema_indexes[kind];
        struct place of_index = {up, slice_of(index->name)};
        const struct index_settings *settings = &config->kinds[kind];
        for (size_t i = 0; settings->present && i < index->count; i++) {
            const struct setting_row *row = &index->rows[i];
            if (!(settings->given >> i & 1) || !row->bounds)
                continue;
            bool whole = row->kind == SETTING_UINT;
            double number =
                whole ? (double)settings->values[i].integer : settings->values[i].number;
            if (number >= row->min && number <= row->max)
                continue;
            struct place place = {&of_index, slice_of(row->name)};
            struct place_text text = place_write(&place);
            och_code code =
                FAIL(err, OCH_INVALID, "%sInvalid %s configuration: %s: must be %s, got %.*g at %s",
                     prefix, index->label, row->name, row->bounds, whole ? 19 : 6, number, text.at);
            error_mark_path(err, text.at, strlen(text.at));
            return code;
        }
    }
    return OCH_OK;
}

#define RECONCILE "Failed to reconcile schema: "
#define RULE(...) return FAIL(err, OCH_INVALID, "Validation error: schema: " __VA_ARGS__)

static bool slot_on(const struct schema_types *types, enum schema_slot slot)
{
    return types->enabled >> slot & 1;
}

static const struct place schema_place = {NULL, {(const uint8_t *)"schema", 6}};

/* Of the vector index below `up`, in the names that answers have. */
static och_code check_bounds_below(const struct vector_config *config, const struct place *up,
                                   och_error *err)
{
    struct place group = {up, slice_of(schema_groups[GROUP_FLOATS].name)},
                 slot = {&group, slice_of(schema_slots[SLOT_VECTOR].name)},
                 inner = {&slot, SLICE("config")};
    return schema_check_bounds(config, &inner, RECONCILE, err);
}

static och_code check_vector(const struct schema_types *types, slice key, och_error *err)
{
    const struct vector_config *config = types->vector;
    if (!config)
        return OCH_OK;
    if (config->has_source && !slice_equal(config->source_key, DOCUMENT_KEY))
        RULE("Vector index can only source from #document");
    struct place keys = {&schema_place, SLICE("keys")}, place = {&keys, key};
    return check_bounds_below(config, &place, err);
}

static och_code check_sparse(const struct schema_types *types, och_error *err)
{
    const struct sparse_config *config = types->sparse;
    if (!config || !config->has_source)
        return OCH_OK;
    if (slot_on(types, SLOT_SPARSE) && !config->embedding_function)
        RULE("If source_key is provided then embedding_function must also be provided since there "
             "is no default embedding function.");
    if (slice_starts_with(config->source_key, SLICE("#")) &&
        !slice_equal(config->source_key, DOCUMENT_KEY))
        RULE("source_key cannot begin with '#'. The only valid key starting with '#' is "
             "Key.DOCUMENT or '#document'.");
    return OCH_OK;
}

/* Any source_key is taken here, as the original does: no key gets it from the defaults, so it names nothing that anybody would embed. */
static och_code check_defaults(const struct schema_types *types, och_error *err)
{
    if (slot_on(types, SLOT_VECTOR))
        RULE("Vector index cannot be enabled by default. It can only be enabled on #embedding "
             "field.");
    if (types->vector && types->vector->kinds[INDEX_HNSW].present &&
        types->vector->kinds[INDEX_SPANN].present)
        RULE("Both spann and hnsw config cannot be present at the same time.");
    if (slot_on(types, SLOT_SPARSE))
        RULE("Sparse vector index cannot be enabled by default. Please enable sparse vector index "
             "on specific keys.");
    if (slot_on(types, SLOT_FTS))
        RULE("Full text search / regular expression index cannot be enabled by default. It can "
             "only be enabled on #document field.");
    struct place place = {&schema_place, SLICE("defaults")};
    return types->vector ? check_bounds_below(types->vector, &place, err) : OCH_OK;
}

static och_code check_key(const struct schema_key *key, och_error *err)
{
    const struct schema_types *types = &key->types;
    slice shown = schema_shown(key->name);
    bool document = slice_equal(key->name, DOCUMENT_KEY);
    bool embedding = slice_equal(key->name, EMBEDDING_KEY);
    if (!document && !embedding && slice_starts_with(key->name, SLICE("#")))
        RULE("key cannot begin with '#'. Keys starting with '#' are reserved for system use: %.*s",
             SLICE_ARG(shown));
    if (document && (types->groups & ~(1u << GROUP_STRING)))
        RULE("Document field cannot have any value types other than string: %.*s",
             SLICE_ARG(shown));
    if (embedding && (types->groups & ~(1u << GROUP_FLOATS)))
        RULE("Embedding field cannot have any value types other than float_list: %.*s",
             SLICE_ARG(shown));
    if (!embedding && slot_on(types, SLOT_VECTOR))
        RULE("Vector index can only be enabled on #embedding field: %.*s", SLICE_ARG(shown));
    if (!document && slot_on(types, SLOT_FTS))
        RULE("Full text search / regular expression index can only be enabled on #document field: "
             "%.*s",
             SLICE_ARG(shown));
    if (document && slot_on(types, SLOT_STRING))
        RULE("String inverted index can not be enabled on #document key: %.*s", SLICE_ARG(shown));
    TRY(check_vector(types, key->name, err));
    return check_sparse(types, err);
}

/* projects/A/locations/B/keyRings/C/cryptoKeys/D, each part at least one byte, as the peer's pattern .+ allows. */
static bool cmek_fits(slice text)
{
    static const char *const parts[] = {"projects/", "/locations/", "/keyRings/", "/cryptoKeys/"};
    size_t at = 0;
    for (size_t i = 0; i < COUNT_OF(parts); i++) {
        slice part = slice_of(parts[i]);
        size_t first = i == 0 ? 0 : at + 1;
        size_t last = i == 0 ? 0 : text.len;
        size_t found = first;
        while (found <= last && found <= text.len &&
               !slice_starts_with(slice_from(text, found), part))
            found++;
        if (found > last || found >= text.len)
            return false;
        at = found + part.len;
    }
    return at < text.len;
}

och_code schema_check_rules(const struct schema_plan *plan, och_error *err)
{
    TRY(check_defaults(&plan->defaults, err));
    for (size_t i = 0; i < plan->key_count; i++)
        TRY(check_key(&plan->keys[i], err));
    if (plan->cmek.at && !cmek_fits(plan->cmek))
        return FAIL(err, OCH_INVALID,
                    "CMEK does not match expected pattern: projects/*/locations/*/keyRings/*/"
                    "cryptoKeys/*");
    return OCH_OK;
}

/* ---- gate ---- */

static const char *const type_names[SCHEMA_TYPE_COUNT] = {
    [SCHEMA_STRING] = "Str",          [SCHEMA_INT] = "Int",
    [SCHEMA_FLOAT] = "Float",         [SCHEMA_BOOL] = "Bool",
    [SCHEMA_SPARSE] = "SparseVector",
};

static enum schema_type operand_type(const struct filter_node *node)
{
    static const uint8_t types[] = {[FILTER_STRING] = SCHEMA_STRING,
                                    [FILTER_BOOL] = SCHEMA_BOOL,
                                    [FILTER_INT] = SCHEMA_INT,
                                    [FILTER_FLOAT] = SCHEMA_FLOAT};
    enum schema_type type = SCHEMA_STRING;
    for (uint32_t i = 0; i < node->value_count; i++) {
        assert(node->values[i].kind < COUNT_OF(types));
        enum schema_type found = types[node->values[i].kind];
        if (i == 0 || found == SCHEMA_FLOAT)
            type = found; /* a numeric list with one float is a list of floats */
    }
    return type;
}

static bool may_filter(const struct schema *schema, slice key, enum schema_type type)
{
    struct schema_plan plan = {.keys = schema->keys, .key_count = schema->key_count};
    const struct schema_key *entry = schema_find(&plan, key);
    unsigned slot = schema_type_slots[type];
    if (entry && (entry->types.slots >> slot & 1))
        return entry->types.enabled >> slot & 1;
    return schema->defaults_enabled >> type & 1;
}

static och_code gate_leaf(const struct schema *schema, const struct filter_node *node,
                          och_error *err)
{
    if (node->op >= FILTER_DOC_CONTAINS && node->op <= FILTER_DOC_ICONTAINS) {
        if (!schema->full_text)
            return FAIL(err, OCH_INVALID,
                        "Cannot filter using full-text search because FTS indexing is disabled");
        return OCH_OK;
    }
    /* $exists asks for presence, whatever the type: the stored values answer it */
    if (node->op < FILTER_EQ || node->op > FILTER_META_ICONTAINS || node->op == FILTER_EXISTS)
        return OCH_OK;
    enum schema_type type = operand_type(node);
    if (may_filter(schema, node->key, type))
        return OCH_OK;
    slice shown = schema_shown(node->key);
    return FAIL(err, OCH_INVALID,
                "Cannot filter using metadata key '%.*s' with type '%s' because indexing is "
                "disabled",
                SLICE_ARG(shown), type_names[type]);
}

och_code schema_gate(const struct schema *schema, const struct filter_node *filter, och_error *err)
{
    if (!filter)
        return OCH_OK;
    VEC(const struct filter_node *) todo = {0};
    och_code code = OCH_OK;
    if (!VEC_PUSH(&todo, filter))
        code = FAIL_NO_MEMORY(err, "a filter");
    while (code == OCH_OK && todo.len > 0) {
        const struct filter_node *node = todo.at[--todo.len];
        code = gate_leaf(schema, node, err);
        for (uint32_t i = node->child_count; code == OCH_OK && i > 0; i--)
            if (!VEC_PUSH(&todo, node->children[i - 1]))
                code = FAIL_NO_MEMORY(err, "a filter");
    }
    VEC_DONE(&todo);
    return code;
}
