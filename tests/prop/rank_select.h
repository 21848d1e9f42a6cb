/* SPDX-License-Identifier: Apache-2.0 */
/* `select` of random Search payloads, and what a whole answer to them holds (query-language.md §4.4), read off the rows of rank_model.h. */
#ifndef PROP_RANK_SELECT_H
#define PROP_RANK_SELECT_H

#include "rank_model.h"

#define SELECT_MAX 9

/* Of those that mean something by themselves, the first four in the order in which they are told; of metadata; and of nothing. */
static const char *const select_keys[] = {
    "#document", "#embedding", "#metadata", "#score", "#uri",    "#id",  "c",  "n",
    "a",         "b",          "ab",        "zz",     "plain",   "rare", "",   "nowhere",
    "#",         "chroma:c",   "C",         "日本",   "#Score",  "\\",   "c0", "#documents",
    "plain ",    "document",   "$a",        "a.b",    "metadata"};
#define SYSTEM_KEYS 4

struct select {
    bool given, empty;              /* empty: an object without `keys` */
    uint32_t count, of[SELECT_MAX]; /* as asked */
    uint32_t distinct, sorted[SELECT_MAX];
};

static int by_select(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    if (x < SYSTEM_KEYS || y < SYSTEM_KEYS)
        return (x > y) - (x < y);
    return slice_compare(slice_of(select_keys[x]), slice_of(select_keys[y]));
}

static void random_select(struct random *random, struct select *select)
{
    *select = (struct select){.given = below(random, 5) != 0, .empty = below(random, 8) == 0};
    uint32_t keys = below(random, 3) ? 14 : COUNT_OF(select_keys);
    if (select->given && !select->empty)
        select->count = below(random, SELECT_MAX + 1);
    for (uint32_t i = 0; i < select->count; i++)
        select->of[i] = below(random, keys);
    memcpy(select->sorted, select->of, sizeof(select->of));
    qsort(select->sorted, select->count, sizeof(*select->sorted), by_select);
    for (uint32_t i = 0; i < select->count; i++)
        if (i == 0 || select->sorted[i] != select->sorted[i - 1])
            select->sorted[select->distinct++] = select->sorted[i];
}

static void write_select(const struct select *select, struct buf *out)
{
    if (!select->given)
        return;
    buf_text(out, ",\"select\":{");
    for (uint32_t i = 0; i < select->count; i++) {
        buf_text(out, i ? "," : "\"keys\":[");
        json_write_string(out, slice_of(select_keys[select->of[i]]));
    }
    if (!select->empty)
        buf_text(out, select->count ? "]" : "\"keys\":[]");
    buf_byte(out, '}');
}

static bool selects(const struct select *select, const char *key)
{
    for (uint32_t i = 0; i < select->count; i++)
        if (strcmp(select_keys[select->of[i]], key) == 0)
            return true;
    return false;
}

/* Any key but those with a column of their own. */
static bool selects_fields(const struct select *select)
{
    for (uint32_t i = 0; i < select->count; i++)
        if (select->of[i] > SYSTEM_KEYS)
            return true;
    return selects(select, "#metadata");
}

/* ---- what a record is told to have ---- */

static void write_sparse_answer(const uint32_t *dims, const float *weights, uint32_t count,
                                struct buf *out)
{
    buf_text(out, "{\"#type\":\"sparse_vector\",\"indices\":[");
    for (uint32_t i = 0; i < count; i++)
        buf_printf(out, "%s%u", i ? "," : "", dims[i]);
    buf_text(out, "],\"values\":[");
    for (uint32_t i = 0; i < count; i++) {
        buf_text(out, i ? "," : "");
        json_write_f32(out, weights[i]);
    }
    buf_text(out, "],\"tokens\":null}");
}

/* As it comes back: an array with one float has floats. */
static void write_value_answer(const struct json_value *value, struct buf *out)
{
    static const uint32_t dims[] = {1}; /* of the only sparse vector among random values */
    static const float weights[] = {1};
    bool floats = false;
    if (value->kind == JSON_OBJECT) {
        write_sparse_answer(dims, weights, 1, out);
        return;
    }
    for (uint32_t i = 0; value->kind == JSON_ARRAY && i < value->count; i++)
        floats |= value->items[i].kind == JSON_FLOAT;
    if (!floats) {
        json_write_value(out, value);
        return;
    }
    for (uint32_t i = 0; i < value->count; i++) {
        buf_byte(out, i ? ',' : '[');
        json_write_f64(out, value->items[i].kind == JSON_INT ? (double)value->items[i].integer
                                                             : value->items[i].number);
    }
    buf_byte(out, ']');
}

/* What the row holds under a key of its metadata, as text; false: nothing. */
static bool write_field(const struct row *row, const char *key, struct buf *out)
{
    buf_clear(out);
    if (strcmp(key, "plain") == 0 || strcmp(key, "rare") == 0) {
        if (row->dim_count)
            write_sparse_answer(row->dims, row->weights, row->dim_count, out);
        return row->dim_count;
    }
    const struct json_value *value = json_get(row->ruled.metadata, slice_of(key));
    if (value)
        write_value_answer(value, out);
    return value;
}

static void compare_texts(const struct buf *expected, const struct json_value *got)
{
    struct buf text;
    buf_init(&text, BUF_MAX_NONE);
    json_write_value(&text, got);
    if (!slice_equal(buf_view(expected), buf_view(&text)))
        fail_msg("%.*s, not %.*s", SLICE_ARG(buf_view(&text)), SLICE_ARG(buf_view(expected)));
    buf_done(&text);
}

static void compare_metadata(const struct select *select, const struct row *row,
                             const struct json_value *got)
{
    static const char *const all[] = {"c", "n", "a", "b", "ab", "zz", "plain", "rare"};
    bool whole = selects(select, "#metadata");
    uint32_t shown = 0;
    struct buf expected;
    buf_init(&expected, BUF_MAX_NONE);
    for (size_t i = 0; i < COUNT_OF(all); i++) {
        if (!(whole || selects(select, all[i])) || !write_field(row, all[i], &expected))
            continue;
        shown++;
        const struct json_value *field = json_get(got, slice_of(all[i]));
        if (!field)
            fail_msg("%s shows nothing of %s", row->id, all[i]);
        compare_texts(&expected, field);
    }
    buf_done(&expected);
    assert_int_equal(got->kind, shown ? JSON_OBJECT : JSON_NULL);
    assert_int_equal(shown ? got->count : 0, shown);
}

static void compare_text(bool has, const char *text, const struct json_value *got)
{
    assert_int_equal(got->kind, has ? JSON_STRING : JSON_NULL);
    if (has)
        assert_true(slice_equal(got->string, slice_of(text)));
}

static void compare_score(float score, const struct json_value *got)
{
    float value = (float)got->number;
    assert_int_equal(got->kind, isfinite(score) ? JSON_FLOAT : JSON_NULL); /* JSON has no others */
    if (isfinite(score))
        assert_memory_equal(&value, &score, sizeof(score));
}

static void compare_embedding(const struct row *row, const struct json_value *got)
{
    const float vector[4] = {row->at, 1};
    struct buf expected;
    assert_int_equal(got->kind, row->has_vector ? JSON_ARRAY : JSON_NULL);
    if (!row->has_vector)
        return;
    buf_init(&expected, BUF_MAX_NONE);
    json_write_f32_array(&expected, vector, 4);
    compare_texts(&expected, got);
    buf_done(&expected);
}

/* ---- a whole answer ---- */

/* The payload's column, `count` long; NULL: it is null, as not selected. */
static const struct json_value *column_of(const struct json_value *answer, const char *name,
                                          uint32_t payload, bool wanted, uint32_t count)
{
    const struct json_value *columns = json_get(answer, slice_of(name));
    if (!columns || columns->kind != JSON_ARRAY || columns->count <= payload)
        fail_msg("no %s of payload %u", name, payload);
    const struct json_value *column = &columns->items[payload];
    if (column->kind != (wanted ? JSON_ARRAY : JSON_NULL) || (wanted && column->count != count))
        fail_msg("%s of payload %u: kind %d with %u, not %u", name, payload, column->kind,
                 column->count, count);
    return wanted ? column : NULL;
}

static void compare_payload(const struct json_value *answer, uint32_t payload, bool uris,
                            const struct select *select, const struct ranked *list, uint32_t count)
{
    const struct json_value *
        ids = column_of(answer, "ids", payload, true, count),
       *documents = column_of(answer, "documents", payload, selects(select, "#document"), count),
       *embeddings = column_of(answer, "embeddings", payload, selects(select, "#embedding"), count),
       *metadatas = column_of(answer, "metadatas", payload, selects_fields(select), count),
       *scores = column_of(answer, "scores", payload, selects(select, "#score"), count),
       *links = uris ? column_of(answer, "uris", payload, selects(select, "#uri"), count) : NULL;
    for (uint32_t i = 0; i < count; i++) {
        const struct row *row = list[i].row;
        compare_text(true, row->id, &ids->items[i]);
        if (documents)
            compare_text(row->has_document, row->document, &documents->items[i]);
        if (embeddings)
            compare_embedding(row, &embeddings->items[i]);
        if (metadatas)
            compare_metadata(select, row, &metadatas->items[i]);
        if (scores)
            compare_score(list[i].score, &scores->items[i]);
        if (links)
            compare_text(*row->uri, row->uri, &links->items[i]);
    }
    const struct json_value *told = column_of(answer, "select", payload, true, select->distinct);
    for (uint32_t i = 0; i < select->distinct; i++)
        compare_text(true, select_keys[select->sorted[i]], &told->items[i]);
}

/* An answer to some payloads: nothing more, nothing less. */
static void compare_answer(const struct json_value *answer, const struct question *questions,
                           const struct select *select, uint32_t count, const struct table *table)
{
    static const char *const columns[] = {"ids",    "documents", "embeddings", "metadatas",
                                          "scores", "select",    "uris"};
    bool uris = false;
    for (uint32_t i = 0; i < count; i++)
        uris |= selects(&select[i], "#uri");
    assert_int_equal(answer->count, COUNT_OF(columns) - !uris);
    for (size_t i = 0; i < answer->count; i++)
        assert_int_equal(json_get(answer, slice_of(columns[i]))->count, count);
    for (uint32_t i = 0; i < count; i++) {
        struct ranked list[ROWS_MAX];
        uint32_t hits = expected_hits(&questions[i], table, list);
        compare_payload(answer, i, uris, &select[i], list, hits);
    }
}
#endif
