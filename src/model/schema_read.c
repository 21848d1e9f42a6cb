/* SPDX-License-Identifier: Apache-2.0 */
/* JSON of a request or of the catalogue to typed values.  Only shapes are judged here; every complaint names its place. */
#include "model/schema_internal.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- messages ---- */

slice schema_shown(slice text)
{
    size_t len = min_size(text.len, 128);
    while (len > 0 && len < text.len && (text.at[len] & 0xC0) == 0x80)
        len--;
    return slice_make(text.at, len);
}

struct place_text place_write(const struct place *place)
{
    const struct place *chain[12];
    size_t depth = 0;
    for (; place && depth < COUNT_OF(chain); place = place->up)
        chain[depth++] = place;
    struct place_text text = {{0}};
    size_t at = 0;
    while (depth > 0) {
        slice name = schema_shown(chain[--depth]->name);
        if (at + name.len + 2 >= sizeof(text.at))
            break;
        if (at > 0)
            text.at[at++] = '.';
        if (name.len > 0)
            memcpy(text.at + at, name.at, name.len);
        at += name.len;
    }
    text.at[at] = 0;
    return text;
}

static och_code fail_type(struct schema_input *input, const struct place *place,
                          const struct json_value *value, const char *expected, och_error *err)
{
    const char *found = value->kind == JSON_STRING && value->string.len > 40
                            ? "string"
                            : json_describe(value, input->arena);
    return FAIL(err, OCH_SHAPE, "%s: invalid type: %s, expected %s", place_write(place).at,
                found ? found : "value", expected);
}

static och_code fail_missing(const struct place *place, const char *name, och_error *err)
{
    return FAIL(err, OCH_SHAPE, "%s: missing field `%s`", place_write(place).at, name);
}

static bool given(const struct json_value *value)
{
    return value && value->kind != JSON_NULL;
}

/* ---- members ---- */

#define MEMBER_MAX 20
struct member_set {
    const char *names[MEMBER_MAX];
    const char *aliases[MEMBER_MAX];
    size_t count;
    bool strict; /* an unknown member is an error */
    const struct json_value *found[MEMBER_MAX];
};

static size_t add_member(struct member_set *set, const char *name, const char *alias)
{
    assert(set->count < MEMBER_MAX);
    set->names[set->count] = name;
    set->aliases[set->count] = alias;
    return set->count++;
}

static och_code fail_unknown(const struct member_set *set, const struct place *place, slice name,
                             och_error *err)
{
    char list[512] = "";
    size_t at = 0;
    for (size_t i = 0; i < set->count && at < sizeof(list); i++)
        at +=
            (size_t)snprintf(list + at, sizeof(list) - at, "%s`%s`", i ? ", " : "", set->names[i]);
    struct place inner = {place, name};
    slice shown = schema_shown(name);
    return FAIL(err, OCH_SHAPE, "%s: unknown field `%.*s`, %s%s", place_write(&inner).at,
                SLICE_ARG(shown),
                set->count > 1 ? "expected one of "
                : set->count   ? "expected "
                               : "there are no fields",
                list);
}

/* Find the members of an object; a repeated one is an error, as is an unknown one where the set is strict. */
static och_code collect(struct schema_input *input, struct member_set *set,
                        const struct place *place, const struct json_value *value,
                        const char *expected, och_error *err)
{
    if (value->kind != JSON_OBJECT)
        return fail_type(input, place, value, expected, err);
    for (uint32_t m = 0; m < value->count; m++) {
        const struct json_member *member = &value->members[m];
        size_t i = 0;
        while (i < set->count && !slice_equal(member->name, slice_of(set->names[i])) &&
               !(set->aliases[i] && slice_equal(member->name, slice_of(set->aliases[i]))))
            i++;
        if (i == set->count) {
            if (set->strict)
                return fail_unknown(set, place, member->name, err);
            continue;
        }
        if (set->found[i])
            return FAIL(err, OCH_SHAPE, "%s: duplicate field `%s`", place_write(place).at,
                        set->names[i]);
        set->found[i] = &member->value;
    }
    return OCH_OK;
}

/* ---- leaves ---- */

static och_code read_bool(struct schema_input *input, const struct place *up, const char *name,
                          const struct json_value *value, bool *out, och_error *err)
{
    struct place place = {up, slice_of(name)};
    if (value->kind != JSON_BOOL)
        return fail_type(input, &place, value, "a boolean", err);
    *out = value->boolean;
    return OCH_OK;
}

static och_code read_string(struct schema_input *input, const struct place *up, const char *name,
                            const struct json_value *value, slice *out, och_error *err)
{
    struct place place = {up, slice_of(name)};
    if (value->kind != JSON_STRING)
        return fail_type(input, &place, value, "a string", err);
    *out = value->string;
    return OCH_OK;
}

/* One of a few names.  The peer calls anything but a string a syntax error there; clients see 400. */
static och_code read_variant(const struct place *up, const char *name,
                             const struct json_value *value, const char *const *variants,
                             uint8_t *out, och_error *err)
{
    struct place place = {up, slice_of(name)};
    if (value->kind != JSON_STRING)
        return FAIL(err, OCH_INVALID,
                    "Failed to parse the request body as JSON: %s: expected value, one of the "
                    "strings `%s`, `%s`, ...",
                    place_write(&place).at, variants[0], variants[1]);
    char list[160] = "";
    size_t at = 0;
    for (uint8_t i = 0; variants[i]; i++) {
        if (slice_equal(value->string, slice_of(variants[i]))) {
            *out = i;
            return OCH_OK;
        }
        at += (size_t)snprintf(list + at, sizeof(list) - at, "%s`%s`", i ? ", " : "", variants[i]);
    }
    slice shown = schema_shown(value->string);
    return FAIL(err, OCH_SHAPE, "%s: unknown variant `%.*s`, expected one of %s",
                place_write(&place).at, SLICE_ARG(shown), list);
}

static och_code read_space(const struct place *up, const struct json_value *value,
                           struct vector_config *out, och_error *err)
{
    if (!given(value))
        return OCH_OK;
    TRY(read_variant(up, "space", value, schema_spaces, &out->space, err));
    out->has_space = true;
    return OCH_OK;
}

static och_code read_number(struct schema_input *input, const struct place *up,
                            const struct setting_row *row, const struct json_value *value,
                            union setting_value *out, och_error *err)
{
    struct place place = {up, slice_of(row->name)};
    if (row->kind == SETTING_F64) {
        if (value->kind != JSON_INT && value->kind != JSON_FLOAT)
            return fail_type(input, &place, value, "f64", err);
        out->number = value->kind == JSON_INT ? (double)value->integer : value->number;
        return OCH_OK;
    }
    if (value->kind != JSON_INT)
        return fail_type(input, &place, value, "usize", err);
    if (value->integer < 0)
        return FAIL(err, OCH_SHAPE, "%s: invalid value: integer `%lld`, expected usize",
                    place_write(&place).at, (long long)value->integer);
    out->integer = value->integer;
    return OCH_OK;
}

/* The peer lets nobody but its operator choose a quantiser. */
static och_code read_quantize(const struct place *up, const struct json_value *value,
                              och_error *err)
{
    static const char *const names[] = {"none", "four_bit_rabit_q_with_u_search", NULL};
    uint8_t chosen = 0;
    if (!given(value))
        return OCH_OK;
    TRY(read_variant(up, "quantize", value, names, &chosen, err));
    if (chosen != 0)
        return FAIL(err, OCH_INVALID,
                    "quantize field cannot be set in user schema. Quantization can only be enabled "
                    "via frontend configuration.");
    return OCH_OK;
}

/* hnsw or spann, wherever it stands: `allowed` says which numbers may. */
static och_code read_index(struct schema_input *input, const struct place *up, enum index_kind kind,
                           const struct json_value *value, unsigned allowed,
                           struct vector_config *out, och_error *err)
{
    const struct index_row *index = &schema_indexes[kind];
    struct place place = {up, slice_of(index->name)};
    struct member_set set = {.strict = true};
    size_t rows[MEMBER_MAX] = {0};
    size_t first = 0;
    if (allowed == SETTING_CREATE)
        first = 1 + add_member(&set, "space", NULL);
    for (size_t i = 0; i < index->count; i++)
        if (index->rows[i].places & allowed)
            rows[add_member(&set, index->rows[i].name, NULL)] = i;
    size_t quantize = 0, end = set.count;
    if (allowed == SETTING_SCHEMA && kind == INDEX_SPANN)
        quantize = add_member(&set, "quantize", NULL);
    TRY(collect(input, &set, &place, value,
                allowed == SETTING_CREATE   ? index->create
                : allowed == SETTING_UPDATE ? index->update
                                            : index->schema,
                err));
    if (first)
        TRY(read_space(&place, set.found[0], out, err));
    if (quantize)
        TRY(read_quantize(&place, set.found[quantize], err));
    struct index_settings *settings = &out->kinds[kind];
    settings->present = true;
    for (size_t i = first; i < end; i++) {
        if (!given(set.found[i]))
            continue;
        TRY(read_number(input, &place, &index->rows[rows[i]], set.found[i],
                        &settings->values[rows[i]], err));
        settings->given |= 1u << rows[i];
    }
    return OCH_OK;
}

static och_code read_embedding_function(struct schema_input *input, const struct place *up,
                                        const struct json_value *value,
                                        const struct json_value **out, och_error *err)
{
    static const char *const types[] = {"legacy", "known", "unknown", NULL};
    struct place place = {up, SLICE("embedding_function")};
    if (!given(value))
        return OCH_OK;
    struct member_set set = {.strict = false};
    size_t type = add_member(&set, "type", NULL);
    size_t name = add_member(&set, "name", NULL);
    size_t config = add_member(&set, "config", NULL);
    TRY(collect(input, &set, &place, value, "internally tagged enum EmbeddingFunctionConfiguration",
                err));
    if (!set.found[type])
        return fail_missing(&place, "type", err);
    struct place inner = {&place, SLICE("type")};
    if (set.found[type]->kind != JSON_STRING)
        return fail_type(input, &inner, set.found[type], "variant identifier", err);
    uint8_t chosen = 0;
    TRY(read_variant(&place, "type", set.found[type], types, &chosen, err));
    if (slice_equal(set.found[type]->string, SLICE("known"))) {
        slice text;
        if (!set.found[name])
            return fail_missing(&place, "name", err);
        TRY(read_string(input, &place, "name", set.found[name], &text, err));
        if (!set.found[config])
            return fail_missing(&place, "config", err);
    }
    *out = value;
    return OCH_OK;
}

bool embedding_function_is_default(const struct json_value *function)
{
    if (!given(function))
        return true;
    const struct json_value *type = json_get(function, SLICE("type"));
    const struct json_value *name = json_get(function, SLICE("name"));
    if (type && slice_equal(type->string, SLICE("unknown")))
        return true;
    return type && slice_equal(type->string, SLICE("known")) && name &&
           slice_equal(name->string, SLICE("default"));
}

/* ---- configuration ---- */

och_code schema_read_configuration(struct schema_input *input, const struct place *place,
                                   const struct json_value *value, unsigned allowed,
                                   struct configuration *ret_configuration, och_error *err)
{
    struct configuration out = {0};
    if (given(value)) {
        struct member_set set = {.strict = false};
        for (size_t kind = 0; kind < INDEX_KIND_COUNT; kind++)
            add_member(&set, schema_indexes[kind].name, NULL);
        size_t function = add_member(&set, "embedding_function", NULL);
        TRY(collect(input, &set, place, value,
                    allowed == SETTING_UPDATE ? "struct UpdateCollectionConfiguration"
                                              : "struct CollectionConfiguration",
                    err));
        for (size_t kind = 0; kind < INDEX_KIND_COUNT; kind++) {
            if (!given(set.found[kind]))
                continue;
            out.kind_count++;
            TRY(read_index(input, place, (enum index_kind)kind, set.found[kind], allowed,
                           &out.vector, err));
        }
        TRY(read_embedding_function(input, place, set.found[function],
                                    &out.vector.embedding_function, err));
    }
    *ret_configuration = out;
    return OCH_OK;
}

/* ---- schema ---- */

static och_code read_vector_config(struct schema_input *input, const struct place *place,
                                   const struct json_value *value, struct vector_config *out,
                                   och_error *err)
{
    struct member_set set = {.strict = true};
    size_t space = add_member(&set, "space", NULL);
    size_t function = add_member(&set, "embedding_function", NULL);
    size_t source = add_member(&set, "source_key", NULL);
    size_t kinds = set.count;
    for (size_t kind = 0; kind < INDEX_KIND_COUNT; kind++)
        add_member(&set, schema_indexes[kind].name, NULL);
    TRY(collect(input, &set, place, value, "struct VectorIndexConfig", err));
    TRY(read_space(place, set.found[space], out, err));
    TRY(read_embedding_function(input, place, set.found[function], &out->embedding_function, err));
    if (given(set.found[source])) {
        TRY(read_string(input, place, "source_key", set.found[source], &out->source_key, err));
        out->has_source = true;
    }
    for (size_t kind = 0; kind < INDEX_KIND_COUNT; kind++)
        if (given(set.found[kinds + kind]))
            TRY(read_index(input, place, (enum index_kind)kind, set.found[kinds + kind],
                           SETTING_SCHEMA, out, err));
    return OCH_OK;
}

static och_code read_sparse_config(struct schema_input *input, const struct place *place,
                                   const struct json_value *value, struct sparse_config *out,
                                   och_error *err)
{
    static const char *const algorithms[] = {"wand", "max_score", NULL};
    struct member_set set = {.strict = true};
    size_t function = add_member(&set, "embedding_function", NULL);
    size_t source = add_member(&set, "source_key", NULL);
    size_t bm25 = add_member(&set, "bm25", NULL);
    size_t algorithm = add_member(&set, "algorithm", NULL);
    TRY(collect(input, &set, place, value, "struct SparseVectorIndexConfig", err));
    TRY(read_embedding_function(input, place, set.found[function], &out->embedding_function, err));
    if (given(set.found[source])) {
        TRY(read_string(input, place, "source_key", set.found[source], &out->source_key, err));
        out->has_source = true;
    }
    if (given(set.found[bm25])) {
        TRY(read_bool(input, place, "bm25", set.found[bm25], &out->bm25, err));
        out->has_bm25 = true;
    }
    uint8_t chosen = 0;
    if (given(set.found[algorithm]))
        TRY(read_variant(place, "algorithm", set.found[algorithm], algorithms, &chosen, err));
    out->max_score = chosen == 1;
    return OCH_OK;
}

static och_code read_text_config(struct schema_input *input, const struct place *place,
                                 const struct json_value *value, bool *ret_token_bitmap,
                                 och_error *err)
{
    static const char *const algorithms[] = {"trigram", "token_bitmap", NULL};
    struct member_set set = {.strict = true};
    size_t algorithm = add_member(&set, "algorithm", NULL);
    TRY(collect(input, &set, place, value, "struct FtsIndexConfig", err));
    uint8_t chosen = 0;
    if (given(set.found[algorithm]))
        TRY(read_variant(place, "algorithm", set.found[algorithm], algorithms, &chosen, err));
    *ret_token_bitmap = chosen == 1;
    return OCH_OK;
}

static och_code read_slot_config(struct schema_input *input, const struct place *up, unsigned slot,
                                 const struct json_value *value, struct schema_types *out,
                                 och_error *err)
{
    struct place place = {up, SLICE("config")};
    if (slot == SLOT_FTS)
        return read_text_config(input, &place, value, &out->token_bitmap, err);
    if (slot == SLOT_VECTOR) {
        input->vector = (struct vector_config){0};
        out->vector = input->store ? ARENA_NEW(input->arena, struct vector_config) : &input->vector;
        if (!out->vector)
            return FAIL_NO_MEMORY(err, "a schema");
        return read_vector_config(input, &place, value, out->vector, err);
    }
    if (slot == SLOT_SPARSE) {
        input->sparse = (struct sparse_config){0};
        out->sparse = input->store ? ARENA_NEW(input->arena, struct sparse_config) : &input->sparse;
        if (!out->sparse)
            return FAIL_NO_MEMORY(err, "a schema");
        return read_sparse_config(input, &place, value, out->sparse, err);
    }
    struct member_set none = {.strict = true};
    return collect(input, &none, &place, value, "struct InvertedIndexConfig", err);
}

static och_code read_slot(struct schema_input *input, const struct place *up, unsigned slot,
                          const struct json_value *value, struct schema_types *out, och_error *err)
{
    struct place place = {up, slice_of(schema_slots[slot].name)};
    struct member_set set = {.strict = false};
    size_t enabled = add_member(&set, "enabled", NULL);
    size_t config = add_member(&set, "config", NULL);
    TRY(collect(input, &set, &place, value, "struct IndexType", err));
    if (!set.found[enabled])
        return fail_missing(&place, "enabled", err);
    bool on = false;
    TRY(read_bool(input, &place, "enabled", set.found[enabled], &on, err));
    if (!set.found[config])
        return fail_missing(&place, "config", err);
    TRY(read_slot_config(input, &place, slot, set.found[config], out, err));
    out->slots |= (uint8_t)(1u << slot);
    if (on)
        out->enabled |= (uint8_t)(1u << slot);
    return OCH_OK;
}

static och_code read_types(struct schema_input *input, const struct place *place,
                           const struct json_value *value, struct schema_types *out, och_error *err)
{
    struct member_set set = {.strict = false};
    for (size_t group = 0; group < GROUP_COUNT; group++)
        add_member(&set, schema_groups[group].name, schema_groups[group].alias);
    TRY(collect(input, &set, place, value, "struct ValueTypes", err));
    for (size_t group = 0; group < GROUP_COUNT; group++) {
        const struct group_row *row = &schema_groups[group];
        if (!given(set.found[group]))
            continue;
        struct place inner = {place, slice_of(row->name)};
        struct member_set slots = {.strict = false};
        for (size_t slot = row->first_slot; slot < row->first_slot + row->slot_count; slot++)
            add_member(&slots, schema_slots[slot].name, schema_slots[slot].alias);
        TRY(collect(input, &slots, &inner, set.found[group], "struct ValueType", err));
        out->groups |= (uint8_t)(1u << group);
        for (size_t i = 0; i < slots.count; i++)
            if (given(slots.found[i]))
                TRY(read_slot(input, &inner, (unsigned)(row->first_slot + i), slots.found[i], out,
                              err));
    }
    return OCH_OK;
}

int schema_key_order(const void *a, const void *b)
{
    const struct schema_key *left = a, *right = b;
    int order = slice_compare(left->name, right->name);
    return order ? order : (left->order > right->order) - (left->order < right->order);
}

static och_code read_keys(struct schema_input *input, const struct place *up,
                          const struct json_value *value, struct schema_plan *plan, och_error *err)
{
    struct place place = {up, SLICE("keys")};
    if (value->kind != JSON_OBJECT)
        return fail_type(input, &place, value, "a map", err);
    if (input->store) {
        /* room for the two reserved keys, which a merge may add */
        plan->keys = ARENA_ARRAY(input->arena, struct schema_key, (size_t)value->count + 2);
        if (!plan->keys)
            return FAIL_NO_MEMORY(err, "a schema");
    }
    for (uint32_t i = 0; i < value->count; i++) {
        const struct json_member *member = &value->members[i];
        struct place inner = {&place, member->name};
        struct schema_key key = {.name = member->name, .order = i};
        TRY(read_types(input, &inner, &member->value, &key.types, err));
        if (input->store)
            plan->keys[i] = key;
    }
    if (!input->store || value->count == 0)
        return OCH_OK;
    qsort(plan->keys, value->count, sizeof(plan->keys[0]), schema_key_order);
    size_t kept = 0;
    for (uint32_t i = 0; i < value->count; i++) {
        if (i + 1 < value->count && slice_equal(plan->keys[i].name, plan->keys[i + 1].name))
            continue;
        plan->keys[kept++] = plan->keys[i];
    }
    plan->key_count = kept;
    return OCH_OK;
}

och_code schema_read_plan(struct schema_input *input, const struct place *place,
                          const struct json_value *value, struct schema_plan *ret_plan,
                          och_error *err)
{
    struct schema_plan plan = {.built = ret_plan->built};
    struct member_set set = {.strict = false};
    size_t defaults = add_member(&set, "defaults", NULL);
    size_t keys = add_member(&set, "keys", "key_overrides");
    size_t cmek = add_member(&set, "cmek", NULL);
    TRY(collect(input, &set, place, value, "struct Schema", err));
    if (!set.found[defaults])
        return fail_missing(place, "defaults", err);
    if (!set.found[keys])
        return fail_missing(place, "keys", err);
    struct place inner = {place, SLICE("defaults")};
    TRY(read_types(input, &inner, set.found[defaults], &plan.defaults, err));
    TRY(read_keys(input, place, set.found[keys], &plan, err));
    if (given(set.found[cmek])) {
        struct place outer = {place, SLICE("cmek")};
        struct member_set gcp = {.strict = false};
        add_member(&gcp, "gcp", NULL);
        TRY(collect(input, &gcp, &outer, set.found[cmek], "enum Cmek", err));
        if (!gcp.found[0])
            return fail_missing(&outer, "gcp", err);
        TRY(read_string(input, &outer, "gcp", gcp.found[0], &plan.cmek, err));
    }
    *ret_plan = plan;
    return OCH_OK;
}
