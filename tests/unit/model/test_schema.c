/* SPDX-License-Identifier: Apache-2.0 */
/* Schemas made, refused, updated, grown, damaged; and the gate in front of filters. */
#include "model/schema.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static const struct schema_options local = {.spann = false, .thread_count = 2};
static const struct schema_options cluster = {.spann = true, .thread_count = 2};

#define HNSW                                                                     \
    "{'ef_construction':100,'max_neighbors':16,'ef_search':100,'num_threads':2," \
    "'batch_size':100,'sync_threshold':1000,'resize_factor':1.2}"
#define REST                                                             \
    "'sparse_vector':{'sparse_vector_index':{'enabled':false,'config':{" \
    "'embedding_function':{'type':'unknown'},'bm25':false}}},"           \
    "'int':{'int_inverted_index':{'enabled':true,'config':{}}},"         \
    "'float':{'float_inverted_index':{'enabled':true,'config':{}}},"     \
    "'bool':{'bool_inverted_index':{'enabled':true,'config':{}}}"
#define TEXT                                               \
    "'string':{'fts_index':{'enabled':false,'config':{}}," \
    "'string_inverted_index':{'enabled':true,'config':{}}}"
#define DOCUMENT                                                       \
    "'#document':{'string':{'fts_index':{'enabled':true,'config':{}}," \
    "'string_inverted_index':{'enabled':false,'config':{}}}}"
#define EMBEDDING(config) \
    "'#embedding':{'float_list':{'vector_index':{'enabled':true,'config':" config "}}}"
#define DEFAULT_SCHEMA                                                               \
    "{'defaults':{" TEXT ",'float_list':{'vector_index':{'enabled':false,'config':{" \
    "'space':'l2','hnsw':" HNSW "}}}," REST "},'keys':{" DOCUMENT                    \
    "," EMBEDDING("{'space':'l2','source_key':'#document','hnsw':" HNSW "}") "}}"
#define DEFAULT_CONFIGURATION                                                         \
    "{'hnsw':{'space':'l2','ef_construction':100,'ef_search':100,'max_neighbors':16," \
    "'resize_factor':1.2,'sync_threshold':1000},'spann':null,'embedding_function':null}"

struct fixture {
    struct arena arena;
    struct buf out;
    och_error err;
};

/* Test texts are written with ' for ". */
static slice quoted(struct arena *arena, const char *text)
{
    uint8_t *at = arena_alloc(arena, strlen(text) + 1);
    assert_non_null(at);
    for (size_t i = 0; i <= strlen(text); i++)
        at[i] = text[i] == '\'' ? '"' : (uint8_t)text[i];
    return slice_make(at, strlen(text));
}

static const struct json_value *json(struct fixture *f, const char *text)
{
    if (!text)
        return NULL;
    struct json_value *value = ARENA_NEW(&f->arena, struct json_value);
    struct json_fault fault;
    slice source = quoted(&f->arena, text);
    if (json_read(source, &(struct json_options){0}, &f->arena, value, &fault, &f->err) != OCH_OK)
        fail_msg("%s in %s", f->err.message, text);
    return value;
}

static void assert_json(struct fixture *f, slice found, const char *wanted)
{
    struct json_value value;
    struct json_fault fault;
    assert_int_equal(
        json_read(found, &(struct json_options){0}, &f->arena, &value, &fault, &f->err), OCH_OK);
    if (!json_equal(&value, json(f, wanted)))
        fail_msg("wanted %s\n found %.*s", wanted, SLICE_ARG(found));
}

static int setup(void **state)
{
    struct fixture *f = MEM_NEW(struct fixture);
    arena_init(&f->arena, NULL, 0);
    buf_init(&f->out, BUF_MAX_NONE);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    buf_done(&f->out);
    arena_done(&f->arena);
    mem_free(f);
    return 0;
}

static och_code make(struct fixture *f, const struct schema_options *options,
                     const char *configuration, const char *schema, const char *metadata,
                     slice *ret_stored)
{
    const struct json_value *a = json(f, configuration), *b = json(f, schema),
                            *c = json(f, metadata);
    f->err = (och_error){0};
    TRY(schema_check_shape(a, b, &f->err));
    return schema_create(a, b, c, options, &f->arena, ret_stored, &f->err);
}

static slice made(struct fixture *f, const char *configuration, const char *schema)
{
    slice stored;
    if (make(f, &local, configuration, schema, NULL, &stored) != OCH_OK)
        fail_msg("%s", f->err.message);
    return stored;
}

static slice shown(struct fixture *f, slice stored)
{
    buf_clear(&f->out);
    assert_int_equal(schema_write(stored, NULL, 0, &f->arena, &f->out, &f->err), OCH_OK);
    return buf_view(&f->out);
}

static slice configured(struct fixture *f, slice stored)
{
    buf_clear(&f->out);
    assert_int_equal(schema_write_configuration(stored, &f->arena, &f->out, &f->err), OCH_OK);
    return buf_view(&f->out);
}

/* ---- tests ---- */

static void nothing_given_makes_the_default_schema(void **state)
{
    struct fixture *f = *state;
    static const char *const nothing[][2] = {
        {NULL, NULL}, {"null", "null"}, {"{}", NULL}, {"{'hnsw':{}}", "{'defaults':{},'keys':{}}"}};
    for (size_t i = 0; i < COUNT_OF(nothing); i++) {
        slice stored = made(f, nothing[i][0], nothing[i][1]);
        assert_json(f, shown(f, stored), DEFAULT_SCHEMA);
        assert_json(f, configured(f, stored), DEFAULT_CONFIGURATION);
    }
}

/* The example of docs/formats/schema.md is read, and is what we write. */
static void the_page_of_the_format_tells_the_truth(void **state)
{
    struct fixture *f = *state;
    FILE *file = fopen("docs/formats/schema.md", "rb");
    assert_non_null(file);
    char page[16384];
    size_t len = fread(page, 1, sizeof(page) - 1, file);
    fclose(file);
    page[len] = 0;
    char *start = strstr(page, "```json\n");
    assert_non_null(start);
    start += 8;
    char *end = strstr(start, "\n```"), *to = start;
    assert_non_null(end);
    for (char *at = start; at < end; at++)
        if (*at != '\n')
            *to++ = *at;
    slice text = slice_make(start, (size_t)(to - start));
    assert_true(slice_equal(text, made(f, NULL, NULL)));
    assert_json(f, shown(f, text), DEFAULT_SCHEMA);
}

static void a_cluster_builds_the_other_kind_of_index(void **state)
{
    struct fixture *f = *state;
    slice stored;
    struct schema schema;
    assert_int_equal(
        make(f, &cluster, "{'hnsw':{'space':'ip','ef_search':7}}", NULL, NULL, &stored), OCH_OK);
    assert_json(f, configured(f, stored),
                "{'hnsw':null,'spann':{'search_nprobe':64,'write_nprobe':32,'space':'ip',"
                "'ef_construction':200,'ef_search':200,'max_neighbors':64,"
                "'reassign_neighbor_count':64,'split_threshold':50,'merge_threshold':25},"
                "'embedding_function':null}");
    assert_int_equal(schema_parse(stored, &f->arena, &schema, &f->err), OCH_OK);
    assert_int_equal(schema.metric, METRIC_IP);
    assert_float_equal(schema.recall, 0.99, 1e-6);
    assert_int_equal(make(f, &cluster, "{'spann':{'search_nprobe':16}}", NULL, NULL, &stored),
                     OCH_OK);
    assert_int_equal(schema_parse(stored, &f->arena, &schema, &f->err), OCH_OK);
    assert_float_equal(schema.recall, 0.95, 1e-6);
}

static void settings_of_the_other_index_are_kept_beside_the_embedding(void **state)
{
    struct fixture *f = *state;
    slice stored = made(f, "{'spann':{'space':'cosine','search_nprobe':32}}", NULL);
    slice text = arena_copy(&f->arena, shown(f, stored));
    assert_non_null(memmem(text.at, text.len, "\"search_nprobe\":32", 18));
    assert_json(f, configured(f, stored),
                "{'hnsw':{'space':'cosine','ef_construction':100,'ef_search':100,"
                "'max_neighbors':16,'resize_factor':1.2,'sync_threshold':1000},'spann':null,"
                "'embedding_function':null}");
    /* what we show can be sent again, by a client that copies a collection */
    struct json_value value;
    struct json_fault fault;
    assert_int_equal(json_read(text, &(struct json_options){0}, &f->arena, &value, &fault, &f->err),
                     OCH_OK);
    assert_int_equal(schema_check_shape(NULL, &value, &f->err), OCH_OK);
    slice again;
    if (schema_create(NULL, &value, NULL, &local, &f->arena, &again, &f->err) != OCH_OK)
        fail_msg("%s", f->err.message);
    assert_true(slice_equal(again, stored));
}

static void everything_given_comes_back(void **state)
{
    struct fixture *f = *state;
#define ODD "{'type':'known','name':'m','config':{'z':1,'a':[null,1.5,{'b':'\\u00e4'}],'n':-0.0}}"
    slice stored = made(
        f, NULL,
        "{'defaults':{'string':{'fts_index':{'enabled':false,'config':{'algorithm':'token_bitmap'}}"
        "}"
        ",'#bool':{'$bool_inverted_index':{'enabled':false,'config':{}}},'junk':1},"
        "'key_overrides':{'\\u00e9':{'int':{'int_inverted_index':{'enabled':false,'config':{}}}},"
        "'sp':{'sparse_vector':{'sparse_vector_index':{'enabled':true,'config':{'bm25':true,"
        "'algorithm':'max_score','source_key':'body','embedding_function':" ODD "}}}},"
        "'e':{},'sp2':{'sparse_vector':{'sparse_vector_index':{'enabled':true,'config':{}}}},"
        "'#embedding':{'float_list':{'vector_index':{'enabled':false,'config':{'space':'ip',"
        "'embedding_function':" ODD ",'spann':{'center_drift_threshold':0.5}}}}}},"
        "'cmek':{'gcp':'projects/p/locations/l/keyRings/r/cryptoKeys/k'},"
        "'source_attached_function_id':null}");
    slice text = shown(f, stored);
    static const char *const wanted[] = {
        "'algorithm':'token_bitmap'",
        "'bool':{'bool_inverted_index':{'enabled':false,'config':{}}}",
        "'e':{}",
        "'sp2':{'sparse_vector':{'sparse_vector_index':{'enabled':true,'config':{}}}}",
        "'source_key':'body','bm25':true,'algorithm':'max_score'",
        "'center_drift_threshold':0.5",
        "'vector_index':{'enabled':false,'config':{'space':'ip'",
        "'cmek':{'gcp':'projects/p/locations/l/keyRings/r/cryptoKeys/k'}",
        "'config':{'z':1,'a':[null,1.5,{'b':'\u00e4'}],'n':-0.0}",
        "'\u00e9':{'int':{'int_inverted_index':{'enabled':false,'config':{}}}}",
    };
    for (size_t i = 0; i < COUNT_OF(wanted); i++) {
        slice part = quoted(&f->arena, wanted[i]);
        if (!memmem(text.at, text.len, part.at, part.len))
            fail_msg("%s is not in %.*s", wanted[i], SLICE_ARG(text));
    }
}

/* As the original: what no key takes over is not judged. */
static void a_source_is_judged_where_it_counts(void **state)
{
    struct fixture *f = *state;
    slice text = shown(
        f, made(f, NULL,
                "{'defaults':{'float_list':{'vector_index':{'enabled':false,'config':{'source_key':"
                "'#x'}}},'sparse_vector':{'sparse_vector_index':{'enabled':false,'config':"
                "{'source_key':'#y'}}}},'keys':{'k':{'sparse_vector':{'sparse_vector_index':"
                "{'enabled':false,'config':{'source_key':'z'}}}}}}"));
    static const char *const wanted[] = {
        "'source_key':'#x'",
        "'source_key':'#y'",
        "'k':{'sparse_vector':{'sparse_vector_index':{'enabled':false,'config':{'source_key':'z'}}",
        ("'#embedding':{'float_list':{'vector_index':{'enabled':true,'config':{'space':'l2',"
         "'source_key':'#document'"),
    };
    for (size_t i = 0; i < COUNT_OF(wanted); i++) {
        slice part = quoted(&f->arena, wanted[i]);
        if (!memmem(text.at, text.len, part.at, part.len))
            fail_msg("%s is not in %.*s", wanted[i], SLICE_ARG(text));
    }
}

static void the_default_embedding_function_survives_in_either_place(void **state)
{
    struct fixture *f = *state;
#define FUNCTION "{'type':'known','name':'default','config':{}}"
#define CONFIGURED(function)                                                          \
    "{'hnsw':{'space':'l2','ef_construction':100,'ef_search':100,'max_neighbors':16," \
    "'resize_factor':1.2,'sync_threshold':1000},'spann':null,'embedding_function':" function "}"
    static const char *const schema =
        "{'defaults':{},'keys':{'#embedding':{'float_list':{'vector_index':{'enabled':true,"
        "'config':{'embedding_function':" FUNCTION "}}}}}}";
    assert_json(f, configured(f, made(f, NULL, schema)), CONFIGURED(FUNCTION));
    assert_json(f, configured(f, made(f, "{'embedding_function':" FUNCTION "}", NULL)),
                CONFIGURED(FUNCTION));
    /* and conflicts with nothing */
    assert_json(f, configured(f, made(f, "{'embedding_function':{'type':'legacy'}}", schema)),
                CONFIGURED("{'type':'legacy'}"));
}

struct refusal {
    const char *configuration, *schema, *metadata;
    och_code code;
    const char *message;
};

static void what_breaks_a_rule_is_refused(void **state)
{
    struct fixture *f = *state;
#define VECTOR(enabled, config) \
    "{'float_list':{'vector_index':{'enabled':" enabled ",'config':" config "}}}"
#define SPARSE(enabled, config) \
    "{'sparse_vector':{'sparse_vector_index':{'enabled':" enabled ",'config':" config "}}}"
#define DEFAULTS(types)  "{'defaults':" types ",'keys':{}}"
#define KEY(name, types) "{'defaults':{},'keys':{'" name "':" types "}}"
    static const struct refusal refusals[] = {
        {"{'hnsw':{'ef_search':0}}", NULL, NULL, OCH_INVALID,
         "Invalid HNSW configuration: ef_search: must be between 1 and 65,536, got 0 at "
         "configuration.hnsw.ef_search"},
        {"{'hnsw':{'ef_construction':65537}}", NULL, NULL, OCH_INVALID,
         "Invalid HNSW configuration: ef_construction: must be between 1 and 65,536, got 65537 at "
         "configuration.hnsw.ef_construction"},
        {"{'hnsw':{'max_neighbors':1}}", NULL, NULL, OCH_INVALID,
         "Invalid HNSW configuration: max_neighbors: must be between 2 and 512, got 1 at "
         "configuration.hnsw.max_neighbors"},
        {"{'hnsw':{'resize_factor':1.0}}", NULL, NULL, OCH_INVALID,
         "Invalid HNSW configuration: resize_factor: must be more than 1, got 1 at "
         "configuration.hnsw.resize_factor"},
        {"{'spann':{'search_nprobe':129}}", NULL, NULL, OCH_INVALID,
         "Invalid SPANN configuration: search_nprobe: must be at most 128, got 129 at "
         "configuration.spann.search_nprobe"},
        {"{'hnsw':{},'spann':{}}", NULL, NULL, OCH_INVALID,
         "Multiple vector index configurations provided"},
        {NULL, DEFAULTS(VECTOR("true", "{}")), NULL, OCH_INVALID,
         "Validation error: schema: Vector index cannot be enabled by default. It can only be "
         "enabled on #embedding field."},
        {NULL, DEFAULTS(VECTOR("false", "{'hnsw':{},'spann':{}}")), NULL, OCH_INVALID,
         "Validation error: schema: Both spann and hnsw config cannot be present at the same "
         "time."},
        {NULL, DEFAULTS(SPARSE("true", "{}")), NULL, OCH_INVALID,
         "Validation error: schema: Sparse vector index cannot be enabled by default. Please "
         "enable sparse vector index on specific keys."},
        {NULL, KEY("k", VECTOR("true", "{}")), NULL, OCH_INVALID,
         "Validation error: schema: Vector index can only be enabled on #embedding field: k"},
        {NULL, KEY("#embedding", VECTOR("true", "{'source_key':'x'}")), NULL, OCH_INVALID,
         "Validation error: schema: Vector index can only source from #document"},
        {NULL, KEY("k", VECTOR("false", "{'source_key':'x'}")), NULL, OCH_INVALID,
         "Validation error: schema: Vector index can only source from #document"},
        {NULL, KEY("k", SPARSE("false", "{'source_key':'#t'}")), NULL, OCH_INVALID,
         "Validation error: schema: source_key cannot begin with '#'. The only valid key starting "
         "with '#' is Key.DOCUMENT or '#document'."},
        {NULL, DEFAULTS(VECTOR("false", "{'hnsw':{'sync_threshold':1}}")), NULL, OCH_INVALID,
         "Failed to reconcile schema: Invalid HNSW configuration: sync_threshold: must be at least "
         "2, got 1 at schema.defaults.float_list.vector_index.config.hnsw.sync_threshold"},
        {NULL, KEY("#embedding", VECTOR("true", "{'hnsw':{'sync_threshold':1}}")), NULL,
         OCH_INVALID,
         "Failed to reconcile schema: Invalid HNSW configuration: sync_threshold: must be at least "
         "2, got 1 at schema.keys.#embedding.float_list.vector_index.config.hnsw.sync_threshold"},
        {NULL, KEY("#embedding", VECTOR("true", "{'spann':{'write_nprobe':65}}")), NULL,
         OCH_INVALID,
         "Failed to reconcile schema: Invalid SPANN configuration: write_nprobe: must be at most "
         "64, got 65 at schema.keys.#embedding.float_list.vector_index.config.spann.write_nprobe"},
        {NULL,
         KEY("#embedding",
             VECTOR("true", "{'spann':{'quantize':'four_bit_rabit_q_with_u_search'}}")),
         NULL, OCH_INVALID,
         "quantize field cannot be set in user schema. Quantization can only be enabled via "
         "frontend configuration."},
        {NULL, KEY("k", SPARSE("true", "{'source_key':'t'}")), NULL, OCH_INVALID,
         "Validation error: schema: If source_key is provided then embedding_function must also be "
         "provided since there is no default embedding function."},
        {NULL,
         KEY("k", SPARSE("true", "{'source_key':'#t','embedding_function':{'type':'legacy'}}")),
         NULL, OCH_INVALID,
         "Validation error: schema: source_key cannot begin with '#'. The only valid key starting "
         "with '#' is Key.DOCUMENT or '#document'."},
        {NULL, "{'defaults':{},'keys':{},'cmek':{'gcp':'projects//locations/a'}}", NULL,
         OCH_INVALID,
         "CMEK does not match expected pattern: "
         "projects/*/locations/*/keyRings/*/cryptoKeys/*"},
        {"{'hnsw':{'space':'ip'}}", KEY("k", "{}"), NULL, OCH_INVALID,
         "Failed to reconcile schema: Cannot set both collection config and schema "
         "simultaneously"},
        {NULL, KEY("k", "{}"), "{'hnsw:space':'ip'}", OCH_INVALID,
         "Failed to reconcile schema: Cannot set both collection config and schema "
         "simultaneously"},
        {NULL, NULL, "{'hnsw:M':1}", OCH_INVALID,
         "Failed to parse hnsw parameters from segment metadata: hnsw:M: must be between 2 and "
         "512"},
        {NULL, NULL, "{'hnsw:m':4}", OCH_INVALID,
         "Failed to parse hnsw parameters from segment metadata: hnsw:m: is no setting of the "
         "index"},
        {NULL, NULL, "{'hnsw:batch_size':2.5}", OCH_INVALID,
         "Failed to parse hnsw parameters from segment metadata: hnsw:batch_size: must be a whole "
         "number, not negative"},
        {"{'hnsw':{},'hnsw':{}}", NULL, NULL, OCH_SHAPE, "configuration: duplicate field `hnsw`"},
        {"{'hnsw':{'ef_search':1,'ef_search':1}}", NULL, NULL, OCH_SHAPE,
         "configuration.hnsw: duplicate field `ef_search`"},
        {"{'hnsw':{'ef_search':9223372036854775808}}", NULL, NULL, OCH_SHAPE, NULL},
        {"{'hnsw':{'resize_factor':'x'}}", NULL, NULL, OCH_SHAPE,
         "configuration.hnsw.resize_factor: invalid type: string \"x\", expected f64"},
        {"{'embedding_function':{'type':1}}", NULL, NULL, OCH_SHAPE,
         "configuration.embedding_function.type: invalid type: integer `1`, expected variant "
         "identifier"},
        {"{'hnsw':{'space':1}}", NULL, NULL, OCH_INVALID, NULL},
        {NULL, "{'defaults':{'int':{'int_inverted_index':{'enabled':1,'config':{}}}},'keys':{}}",
         NULL, OCH_SHAPE,
         "schema.defaults.int.int_inverted_index.enabled: invalid type: integer `1`, expected a "
         "boolean"},
        {NULL, "{'defaults':{'int':{'int_inverted_index':{'enabled':true}}},'keys':{}}", NULL,
         OCH_SHAPE, "schema.defaults.int.int_inverted_index: missing field `config`"},
        {NULL,
         "{'defaults':{'int':{'int_inverted_index':{'enabled':true,'config':{'a':1}}}},'keys':{}}",
         NULL, OCH_SHAPE,
         "schema.defaults.int.int_inverted_index.config.a: unknown field `a`, there are no "
         "fields"},
        {NULL, "{'defaults':{},'keys':{'a':{'int':{},'#int':{}}}}", NULL, OCH_SHAPE,
         "schema.keys.a: duplicate field `int`"},
        {NULL, "{'defaults':null,'keys':{}}", NULL, OCH_SHAPE,
         "schema.defaults: invalid type: null, expected struct ValueTypes"},
        {NULL, "{'defaults':{},'keys':[]}", NULL, OCH_SHAPE,
         "schema.keys: invalid type: sequence, expected a map"},
    };
    for (size_t i = 0; i < COUNT_OF(refusals); i++) {
        const struct refusal *r = &refusals[i];
        slice stored;
        och_code code = make(f, &local, r->configuration, r->schema, r->metadata, &stored);
        if (code != r->code || (r->message && strcmp(f->err.message, r->message) != 0))
            fail_msg("row %zu: code %d: %s", i, (int)code, f->err.message);
    }
}

static void long_names_do_not_spoil_messages(void **state)
{
    struct fixture *f = *state;
    struct buf text;
    buf_init(&text, BUF_MAX_NONE);
    buf_text(&text, "{'hnsw':{'");
    for (size_t i = 0; i < 5000; i++)
        buf_text(&text, "\u20ac");
    buf_text(&text, "':1}}");
    buf_byte(&text, 0);
    slice stored;
    assert_int_equal(make(f, &local, (const char *)text.at, NULL, NULL, &stored), OCH_SHAPE);
    assert_true(json_utf8_valid(slice_of(f->err.message)));
    assert_non_null(strstr(f->err.message, "expected one of `space`"));
    buf_done(&text);
}

static void repeated_keys_of_the_map_are_won_by_the_last(void **state)
{
    struct fixture *f = *state;
    slice stored = made(f, NULL,
                        "{'defaults':{},'keys':{'k':{'int':{'int_inverted_index':{'enabled':false,"
                        "'config':{}}}},'a':{},'k':{'bool':{}}}}");
    slice text = shown(f, stored);
    assert_non_null(memmem(text.at, text.len, "\"k\":{\"bool\":{}}", 15));
    assert_null(memmem(text.at, text.len, "\"int_inverted_index\":{\"enabled\":false", 36));
}

static och_code change(struct fixture *f, slice *stored, const char *configuration)
{
    const struct json_value *value = json(f, configuration);
    f->err = (och_error){0};
    TRY(schema_check_update_shape(value, &f->err));
    return schema_update(*stored, value, &f->arena, stored, &f->err);
}

static void updates_reach_both_views(void **state)
{
    struct fixture *f = *state;
    slice stored = made(f, NULL, NULL), before = stored;
    struct schema schema;
    assert_int_equal(change(f, &stored, "null"), OCH_OK);
    assert_int_equal(change(f, &stored, "{'hnsw':null,'embedding_function':null}"), OCH_OK);
    assert_int_equal(change(f, &stored, "{'spann':{}}"), OCH_OK);
    assert_true(slice_equal(stored, before));
    assert_int_equal(change(f, &stored, "{'hnsw':{'ef_search':1000,'num_threads':9}}"), OCH_OK);
    assert_int_equal(change(f, &stored, "{'spann':{'search_nprobe':5}}"), OCH_OK);
    slice text = shown(f, stored);
    const uint8_t *first = memmem(text.at, text.len, "\"ef_search\":1000", 16);
    assert_non_null(first);
    assert_non_null(
        memmem(first + 1, (size_t)(text.at + text.len - first - 1), "\"ef_search\":1000", 16));
    assert_non_null(memmem(text.at, text.len, "\"search_nprobe\":5", 17));
    assert_int_equal(schema_parse(stored, &f->arena, &schema, &f->err), OCH_OK);
    assert_true(schema.recall == 1.0F);
    before = stored;
    assert_int_equal(change(f, &stored, "{'hnsw':{'ef_search':0}}"), OCH_INVALID);
    assert_int_equal(change(f, &stored, "{'spann':{'ef_search':201}}"), OCH_INVALID);
    assert_int_equal(change(f, &stored, "{'spann':{'write_nprobe':2}}"), OCH_SHAPE);
    assert_int_equal(change(f, &stored, "{'hnsw':{},'spann':{}}"), OCH_INVALID);
    assert_int_equal(change(f, &stored, "{'hnsw':{'space':'l2'}}"), OCH_SHAPE);
    assert_true(slice_equal(stored, before));
}

static void writes_add_their_pairs_once(void **state)
{
    struct fixture *f = *state;
    slice stored =
        made(f, NULL,
             "{'defaults':{'int':{'int_inverted_index':{'enabled':false,'config':{}}}},"
             "'keys':{'k':{'string':{'string_inverted_index':{'enabled':false,'config':{}}}}}}");
    const struct batch_pair pairs[] = {
        {SLICE("z"), SCHEMA_BOOL},   {SLICE("k"), SCHEMA_STRING},
        {SLICE("k"), SCHEMA_INT},    {SLICE("a"), SCHEMA_FLOAT},
        {SLICE("z"), SCHEMA_STRING}, {SLICE("z"), SCHEMA_BOOL},
        {SLICE("v"), SCHEMA_SPARSE}, {SLICE("chroma:document"), SCHEMA_STRING},
    };
    buf_clear(&f->out);
    assert_int_equal(schema_write(stored, pairs, COUNT_OF(pairs), &f->arena, &f->out, &f->err),
                     OCH_OK);
    struct json_value value;
    struct json_fault fault;
    assert_int_equal(
        json_read(buf_view(&f->out), &(struct json_options){0}, &f->arena, &value, &fault, &f->err),
        OCH_OK);
    static const char *const wanted[][2] = {
        {"a", "{'float':{'float_inverted_index':{'enabled':true,'config':{}}}}"},
        {"k", "{'string':{'string_inverted_index':{'enabled':false,'config':{}}},"
              "'int':{'int_inverted_index':{'enabled':false,'config':{}}}}"},
        {"z", "{" TEXT ",'bool':{'bool_inverted_index':{'enabled':true,'config':{}}}}"},
        {"v", "{'sparse_vector':{'sparse_vector_index':{'enabled':false,'config':{"
              "'embedding_function':{'type':'unknown'},'bm25':false}}}}"},
    };
    const struct json_value *keys = json_get(&value, SLICE("keys"));
    assert_int_equal(keys->count, 6);
    for (size_t i = 0; i < COUNT_OF(wanted); i++)
        if (!json_equal(json_get(keys, slice_of(wanted[i][0])), json(f, wanted[i][1])))
            fail_msg("key %s in %.*s", wanted[i][0], SLICE_ARG(buf_view(&f->out)));
}

static void effort_becomes_recall(void **state)
{
    struct fixture *f = *state;
    static const struct {
        int effort;
        double recall;
    } rows[] = {{10, 0.92},  {50, 0.97},   {100, 0.99},  {200, 0.993}, {400, 0.996},
                {1000, 1.0}, {65536, 1.0}, {22, 0.9515}, {1, 0.675},   {999, 0.9981}};
    double last = 0;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        const char *text = arena_printf(&f->arena, "{'hnsw':{'ef_search':%d}}", rows[i].effort);
        struct schema schema;
        assert_int_equal(schema_parse(made(f, text, NULL), &f->arena, &schema, &f->err), OCH_OK);
        if (schema.recall < rows[i].recall - 0.001 || schema.recall > rows[i].recall + 0.001)
            fail_msg("ef %d: %f", rows[i].effort, (double)schema.recall);
    }
    for (int effort = 1; effort < 1100; effort++) {
        const char *text = arena_printf(&f->arena, "{'hnsw':{'ef_search':%d}}", effort);
        struct schema schema;
        assert_int_equal(schema_parse(made(f, text, NULL), &f->arena, &schema, &f->err), OCH_OK);
        assert_true((double)schema.recall >= last && schema.recall <= 1);
        last = (double)schema.recall;
    }
}

static och_code gate(struct fixture *f, slice stored, const struct filter_node *node)
{
    struct schema schema;
    assert_int_equal(schema_parse(stored, &f->arena, &schema, &f->err), OCH_OK);
    f->err = (och_error){0};
    return schema_gate(&schema, node, &f->err);
}

static void filters_on_disabled_indexes_are_refused(void **state)
{
    struct fixture *f = *state;
    slice stored =
        made(f, NULL,
             "{'defaults':{'string':{'string_inverted_index':{'enabled':false,'config':{}}}},"
             "'keys':{'n':{'int':{'int_inverted_index':{'enabled':false,'config':{}}}},"
             "'k':{'string':{'string_inverted_index':{'enabled':true,'config':{}}}},"
             "'#document':{'string':{'fts_index':{'enabled':false,'config':{}}}}}}");
    struct filter_value one = {.kind = FILTER_INT, .integer = 1};
    struct filter_value half = {.kind = FILTER_FLOAT, .number = .5};
    struct filter_value text = {.kind = FILTER_STRING, .string = SLICE("x")};
    struct filter_value mixed[] = {one, half};
    struct filter_value yes = {.kind = FILTER_BOOL, .boolean = true};
    struct filter_node int_leaf = {
        .op = FILTER_NE, .key = SLICE("n"), .values = &one, .value_count = 1};
    struct filter_node float_leaf = {
        .op = FILTER_IN, .key = SLICE("n"), .values = mixed, .value_count = 2};
    struct filter_node known = {
        .op = FILTER_EQ, .key = SLICE("k"), .values = &text, .value_count = 1};
    struct filter_node other = {
        .op = FILTER_NIN, .key = SLICE("o"), .values = &text, .value_count = 1};
    struct filter_node regex = {
        .op = FILTER_META_REGEX, .key = SLICE("o"), .values = &text, .value_count = 1};
    struct filter_node exists = {
        .op = FILTER_EXISTS, .key = SLICE("o"), .values = &yes, .value_count = 1};
    struct filter_node id = {
        .op = FILTER_ID_IN, .key = SLICE_NONE, .values = &text, .value_count = 1};
    struct filter_node document = {
        .op = FILTER_DOC_NOT_REGEX, .key = SLICE_NONE, .values = &text, .value_count = 1};
    struct filter_node *pair[] = {&known, &int_leaf};
    struct filter_node inner = {.op = FILTER_OR, .children = pair, .child_count = 2};
    struct filter_node *alone[] = {&inner};
    struct filter_node outer = {.op = FILTER_NOT, .children = alone, .child_count = 1};
    assert_int_equal(gate(f, stored, NULL), OCH_OK);
    assert_int_equal(gate(f, stored, &float_leaf), OCH_OK);
    assert_int_equal(gate(f, stored, &known), OCH_OK);
    assert_int_equal(gate(f, stored, &exists), OCH_OK);
    assert_int_equal(gate(f, stored, &id), OCH_OK);
    static const char numbers[] =
        "Cannot filter using metadata key 'n' with type 'Int' because indexing is disabled";
    static const char strings[] =
        "Cannot filter using metadata key 'o' with type 'Str' because indexing is disabled";
    assert_int_equal(gate(f, stored, &int_leaf), OCH_INVALID);
    assert_string_equal(f->err.message, numbers);
    assert_int_equal(gate(f, stored, &outer), OCH_INVALID);
    assert_string_equal(f->err.message, numbers);
    assert_int_equal(gate(f, stored, &other), OCH_INVALID);
    assert_string_equal(f->err.message, strings);
    assert_int_equal(gate(f, stored, &regex), OCH_INVALID);
    assert_string_equal(f->err.message, strings);
    assert_int_equal(gate(f, stored, &document), OCH_INVALID);
    assert_string_equal(f->err.message,
                        "Cannot filter using full-text search because FTS indexing is disabled");
}

static void damaged_stored_text_is_corrupt_and_never_worse(void **state)
{
    struct fixture *f = *state;
    slice stored = made(f, "{'hnsw':{'space':'ip'}}", NULL);
    struct schema schema;
    static const char *const texts[] = {"",
                                        "{",
                                        "[]",
                                        "{}",
                                        "{'index':'hnsw'}",
                                        "{'index':'tree','defaults':{},'keys':{}}",
                                        "{'index':'hnsw','defaults':{},'keys':{}}",
                                        DEFAULT_SCHEMA};
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        assert_int_equal(schema_parse(quoted(&f->arena, texts[i]), &f->arena, &schema, &f->err),
                         OCH_CORRUPT);
    /* any one byte changed: refused, or still a complete schema */
    uint8_t *copy = arena_alloc(&f->arena, stored.len);
    for (size_t i = 0; i < stored.len; i++) {
        struct arena scratch;
        arena_init(&scratch, NULL, 0);
        memcpy(copy, stored.at, stored.len);
        copy[i] = copy[i] == '{' ? '[' : '{';
        slice text = slice_make(copy, stored.len);
        och_code code = schema_parse(text, &scratch, &schema, &f->err);
        assert_true(code == OCH_OK || code == OCH_CORRUPT);
        buf_clear(&f->out);
        code = schema_write_configuration(text, &scratch, &f->out, &f->err);
        assert_true(code == OCH_OK || code == OCH_CORRUPT);
        arena_done(&scratch);
    }
}

/* One life of a schema; every allocation in it is made to fail once. */
static och_code one_life(const struct json_value *configuration, const struct json_value *schema,
                         const struct json_value *update, const struct filter_node *filter,
                         struct arena *arena, struct buf *out, och_error *err)
{
    static const struct batch_pair pairs[] = {{{(const uint8_t *)"a", 1}, SCHEMA_INT},
                                              {{(const uint8_t *)"b", 1}, SCHEMA_STRING}};
    slice stored;
    struct schema parsed;
    TRY(schema_check_shape(configuration, schema, err));
    TRY(schema_create(configuration, schema, NULL, &local, arena, &stored, err));
    TRY(schema_check_update_shape(update, err));
    TRY(schema_update(stored, update, arena, &stored, err));
    TRY(schema_parse(stored, arena, &parsed, err));
    TRY(schema_gate(&parsed, filter, err));
    TRY(schema_write(stored, pairs, COUNT_OF(pairs), arena, out, err));
    return schema_write_configuration(stored, arena, out, err);
}

static void no_allocation_may_fail_unnoticed(void **state)
{
    struct fixture *f = *state;
    const struct json_value *configuration =
        json(f, "{'embedding_function':{'type':'known','name':'default','config':{'a':1}}}");
    const struct json_value *schema =
        json(f, "{'defaults':{},'keys':{'k':{'sparse_vector':{'sparse_vector_index':{'enabled':"
                "true,'config':{}}}}}}");
    const struct json_value *update = json(f, "{'hnsw':{'ef_search':3}}");
    struct filter_value one = {.kind = FILTER_INT, .integer = 1};
    struct filter_node leaf = {
        .op = FILTER_EQ, .key = SLICE("n"), .values = &one, .value_count = 1};
    uint64_t live = mem_count_live();
    for (uint64_t nth = 1;; nth++) {
        struct arena arena;
        struct buf out;
        och_error err = {0};
        arena_init(&arena, NULL, 0);
        buf_init(&out, BUF_MAX_NONE);
        uint64_t before = mem_count_allocations();
        mem_fail_at(nth);
        och_code code = one_life(configuration, schema, update, &leaf, &arena, &out, &err);
        mem_fail_at(0);
        bool reached = mem_count_allocations() - before >= nth;
        buf_done(&out);
        arena_done(&arena);
        assert_int_equal(mem_count_live(), live);
        if (!reached) {
            assert_int_equal(code, OCH_OK);
            assert_true(nth > 5);
            break;
        }
        if (code != OCH_OK)
            assert_int_equal(code, OCH_NO_MEMORY);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(nothing_given_makes_the_default_schema),
        TEST(the_page_of_the_format_tells_the_truth),
        TEST(a_cluster_builds_the_other_kind_of_index),
        TEST(settings_of_the_other_index_are_kept_beside_the_embedding),
        TEST(everything_given_comes_back),
        TEST(a_source_is_judged_where_it_counts),
        TEST(the_default_embedding_function_survives_in_either_place),
        TEST(what_breaks_a_rule_is_refused),
        TEST(long_names_do_not_spoil_messages),
        TEST(repeated_keys_of_the_map_are_won_by_the_last),
        TEST(updates_reach_both_views),
        TEST(writes_add_their_pairs_once),
        TEST(effort_becomes_recall),
        TEST(filters_on_disabled_indexes_are_refused),
        TEST(damaged_stored_text_is_corrupt_and_never_worse),
        TEST(no_allocation_may_fail_unnoticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
