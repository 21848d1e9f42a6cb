/* SPDX-License-Identifier: Apache-2.0 */
/* Typed schemas back to JSON: as clients see them, as the catalogue keeps them, and as they are compared with the default. */
#include "model/schema_internal.h"

/* `"name":` with a comma before all but the first. */
static void member(struct buf *out, bool *first, slice name)
{
    if (!*first)
        buf_byte(out, ',');
    *first = false;
    json_write_string(out, name);
    buf_byte(out, ':');
}

void embedding_function_write(const struct json_value *function, struct buf *out)
{
    if (!function) {
        buf_text(out, "null");
        return;
    }
    /* only what the type knows; anything else a client put beside it was not part of it */
    const struct json_value *type = json_get(function, SLICE("type"));
    assert(type && type->kind == JSON_STRING);
    buf_text(out, "{\"type\":");
    json_write_string(out, type->string);
    if (slice_equal(type->string, SLICE("known"))) {
        buf_text(out, ",\"name\":");
        json_write_value(out, json_get(function, SLICE("name")));
        buf_text(out, ",\"config\":");
        json_write_value(out, json_get(function, SLICE("config")));
    }
    buf_byte(out, '}');
}

static void write_number(const struct setting_row *row, const union setting_value *value,
                         struct buf *out)
{
    if (row->kind == SETTING_UINT)
        json_write_int(out, value->integer);
    else
        json_write_f64(out, value->number);
}

static bool is_fallback(const struct setting_row *row, const union setting_value *value)
{
    double number = row->kind == SETTING_UINT ? (double)value->integer : value->number;
    return !(row->places & SETTING_OPTIONAL) && number == row->fallback;
}

static void write_index(const struct index_settings *settings, enum index_kind kind,
                        enum schema_write_mode mode, bool *first_outside, struct buf *out)
{
    const struct index_row *index = &schema_indexes[kind];
    bool first = true;
    if (!settings->present)
        return;
    if (mode != WRITE_COMPARE) {
        member(out, first_outside, slice_of(index->name));
        buf_byte(out, '{');
    }
    for (size_t i = 0; i < index->count; i++) {
        const struct setting_row *row = &index->rows[i];
        if (!(settings->given >> i & 1))
            continue;
        /* num_threads says where the schema was made, not what it is */
        if (mode == WRITE_COMPARE && ((kind == INDEX_HNSW && i == HNSW_NUM_THREADS) ||
                                      is_fallback(row, &settings->values[i])))
            continue;
        member(out, mode == WRITE_COMPARE ? first_outside : &first, slice_of(row->name));
        write_number(row, &settings->values[i], out);
    }
    if (mode != WRITE_COMPARE)
        buf_byte(out, '}');
}

static void write_vector_config(const struct vector_config *config, enum schema_write_mode mode,
                                struct buf *out)
{
    bool first = true;
    buf_byte(out, '{');
    if (config->has_space) {
        member(out, &first, SLICE("space"));
        json_write_string(out, slice_of(schema_spaces[config->space]));
    }
    if (mode == WRITE_COMPARE ? !embedding_function_is_default(config->embedding_function)
                              : config->embedding_function != NULL) {
        member(out, &first, SLICE("embedding_function"));
        embedding_function_write(config->embedding_function, out);
    }
    if (config->has_source) {
        member(out, &first, SLICE("source_key"));
        json_write_string(out, config->source_key);
    }
    for (unsigned kind = 0; kind < INDEX_KIND_COUNT; kind++)
        write_index(&config->kinds[kind], (enum index_kind)kind, mode, &first, out);
    buf_byte(out, '}');
}

static void write_sparse_config(const struct sparse_config *config, enum schema_write_mode mode,
                                struct buf *out)
{
    bool first = true;
    buf_byte(out, '{');
    if (mode == WRITE_COMPARE ? !embedding_function_is_default(config->embedding_function)
                              : config->embedding_function != NULL) {
        member(out, &first, SLICE("embedding_function"));
        embedding_function_write(config->embedding_function, out);
    }
    if (config->has_source) {
        member(out, &first, SLICE("source_key"));
        json_write_string(out, config->source_key);
    }
    if (config->has_bm25) {
        member(out, &first, SLICE("bm25"));
        buf_text(out, config->bm25 ? "true" : "false");
    }
    if (config->max_score) {
        member(out, &first, SLICE("algorithm"));
        buf_text(out, "\"max_score\"");
    }
    buf_byte(out, '}');
}

static void write_slot(const struct schema_types *types, unsigned slot, enum schema_write_mode mode,
                       bool *first, struct buf *out)
{
    member(out, first, slice_of(schema_slots[slot].name));
    buf_text(out, types->enabled >> slot & 1 ? "{\"enabled\":true,\"config\":"
                                             : "{\"enabled\":false,\"config\":");
    if (slot == SLOT_VECTOR)
        write_vector_config(types->vector, mode, out);
    else if (slot == SLOT_SPARSE)
        write_sparse_config(types->sparse, mode, out);
    else if (slot == SLOT_FTS && types->token_bitmap)
        buf_text(out, "{\"algorithm\":\"token_bitmap\"}");
    else
        buf_text(out, "{}");
    buf_byte(out, '}');
}

static void write_types(const struct schema_types *types, enum schema_write_mode mode,
                        struct buf *out)
{
    bool first = true;
    buf_byte(out, '{');
    for (unsigned group = 0; group < GROUP_COUNT; group++) {
        const struct group_row *row = &schema_groups[group];
        bool first_slot = true;
        if (!(types->groups >> group & 1))
            continue;
        member(out, &first, slice_of(row->name));
        buf_byte(out, '{');
        for (unsigned i = 0; i < row->slot_count; i++)
            if (types->slots >> (row->first_slot + i) & 1)
                write_slot(types, row->first_slot + i, mode, &first_slot, out);
        buf_byte(out, '}');
    }
    buf_byte(out, '}');
}

void schema_write_plan(const struct schema_plan *plan, enum schema_write_mode mode, struct buf *out)
{
    bool first = true;
    buf_byte(out, '{');
    if (mode == WRITE_STORED) {
        buf_text(out, "\"index\":");
        json_write_string(out, slice_of(schema_indexes[plan->built].name));
        buf_byte(out, ',');
    }
    buf_text(out, "\"defaults\":");
    write_types(&plan->defaults, mode, out);
    buf_text(out, ",\"keys\":{");
    for (size_t i = 0; i < plan->key_count; i++) {
        member(out, &first, plan->keys[i].name);
        write_types(&plan->keys[i].types, mode, out);
    }
    buf_byte(out, '}');
    if (plan->cmek.at && mode != WRITE_COMPARE) {
        buf_text(out, ",\"cmek\":{\"gcp\":");
        json_write_string(out, plan->cmek);
        buf_byte(out, '}');
    }
    buf_byte(out, '}');
}

static void write_shown(const struct vector_config *config, enum index_kind kind, struct buf *out)
{
    const struct index_row *index = &schema_indexes[kind];
    buf_text(out, "{\"space\":");
    json_write_string(out, slice_of(schema_spaces[config->space]));
    for (size_t i = 0; i < index->count; i++) {
        if (!(index->rows[i].places & SETTING_SHOWN))
            continue;
        buf_byte(out, ',');
        json_write_string(out, slice_of(index->rows[i].name));
        buf_byte(out, ':');
        write_number(&index->rows[i], &config->kinds[kind].values[i], out);
    }
    buf_byte(out, '}');
}

och_code schema_write_configuration(slice stored_json, struct arena *arena, struct buf *out,
                                    och_error *err)
{
    struct schema_plan plan;
    TRY(schema_read_stored(stored_json, arena, &plan, err));
    const struct vector_config *config = schema_find(&plan, SLICE("#embedding"))->types.vector;
    bool first = true;
    buf_byte(out, '{');
    for (unsigned kind = 0; kind < INDEX_KIND_COUNT; kind++) {
        member(out, &first, slice_of(schema_indexes[kind].name));
        if (kind == plan.built)
            write_shown(config, (enum index_kind)kind, out);
        else
            buf_text(out, "null");
    }
    member(out, &first, SLICE("embedding_function"));
    embedding_function_write(config->embedding_function, out);
    buf_byte(out, '}');
    return buf_check(out, "a configuration", err);
}
