/* SPDX-License-Identifier: Apache-2.0 */
/* The oldest way to configure an index: hnsw:* keys in a collection's metadata (schema-and-config.md §1.4). */
#include "model/schema_internal.h"

#include <stdio.h>

static och_code fail_legacy(slice key, const char *reason, och_error *err)
{
    slice shown = schema_shown(key);
    return FAIL(err, OCH_INVALID, "Failed to parse hnsw parameters from segment metadata: %.*s: %s",
                SLICE_ARG(shown), reason);
}

static och_code read_legacy_member(const struct json_member *member, struct vector_config *out,
                                   och_error *err)
{
    const struct json_value *value = &member->value;
    if (slice_equal(member->name, SLICE("hnsw:space"))) {
        for (uint8_t i = 0; value->kind == JSON_STRING && schema_spaces[i]; i++) {
            if (!slice_equal(value->string, slice_of(schema_spaces[i])))
                continue;
            out->space = i;
            out->has_space = true;
            return OCH_OK;
        }
        return fail_legacy(member->name, "must be one of \"l2\", \"cosine\", \"ip\"", err);
    }
    for (size_t i = 0; i < schema_indexes[INDEX_HNSW].count; i++) {
        const struct setting_row *row = &schema_indexes[INDEX_HNSW].rows[i];
        if (!slice_equal(member->name, slice_of(row->legacy)))
            continue;
        bool whole = value->kind == JSON_INT && value->integer >= 0;
        if (row->kind == SETTING_UINT && !whole)
            return fail_legacy(member->name, "must be a whole number, not negative", err);
        if (row->kind == SETTING_F64 && value->kind != JSON_INT && value->kind != JSON_FLOAT)
            return fail_legacy(member->name, "must be a number", err);
        double number = value->kind == JSON_INT ? (double)value->integer : value->number;
        if (row->bounds && !(number >= row->min && number <= row->max)) {
            char reason[80];
            snprintf(reason, sizeof(reason), "must be %s", row->bounds);
            return fail_legacy(member->name, reason, err);
        }
        if (row->kind == SETTING_UINT)
            out->kinds[INDEX_HNSW].values[i].integer = value->integer;
        else
            out->kinds[INDEX_HNSW].values[i].number = number;
        out->kinds[INDEX_HNSW].given |= 1u << i;
        out->kinds[INDEX_HNSW].present = true;
        return OCH_OK;
    }
    return fail_legacy(member->name, "is no setting of the index", err);
}

och_code schema_read_legacy(const struct json_value *metadata, struct vector_config *out,
                            och_error *err)
{
    if (!metadata || metadata->kind != JSON_OBJECT)
        return OCH_OK;
    for (uint32_t i = 0; i < metadata->count; i++)
        if (slice_starts_with(metadata->members[i].name, SLICE("hnsw:")))
            TRY(read_legacy_member(&metadata->members[i], out, err));
    return OCH_OK;
}
