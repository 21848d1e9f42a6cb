/* SPDX-License-Identifier: Apache-2.0 */
/* A schema as typed values: read from JSON by tables (schema_read.c), checked (schema_check.c), written back (schema_write.c).
 * Member presence is kept apart from value, because a merge takes only what was given. */
#ifndef MODEL_SCHEMA_INTERNAL_H
#define MODEL_SCHEMA_INTERNAL_H

#include "model/schema.h"

/* One number of an index configuration. */
enum setting_kind { SETTING_UINT, SETTING_F64 };
enum setting_place {
    SETTING_CREATE = 1,   /* member of `configuration` */
    SETTING_UPDATE = 2,   /* member of `new_configuration` */
    SETTING_SCHEMA = 4,   /* member of `schema` */
    SETTING_SHOWN = 8,    /* shown in `configuration_json` */
    SETTING_OPTIONAL = 16 /* has no default: shown only where given */
};
struct setting_row {
    const char *name;
    const char *legacy; /* key in collection metadata, or NULL */
    double fallback;    /* of num_threads: schema_options decides */
    double min, max;    /* inclusive */
    const char *bounds; /* "must be ..." for messages; NULL: any value goes */
    uint8_t kind;       /* enum setting_kind */
    uint8_t places;     /* enum setting_place */
};
#define SETTING_MAX 17
enum index_kind { INDEX_HNSW = 0, INDEX_SPANN = 1, INDEX_KIND_COUNT = 2 };
struct index_row {
    const char *name;                     /* "hnsw" */
    const char *label;                    /* "HNSW" */
    const char *create, *update, *schema; /* the type names used in messages */
    const struct setting_row *rows;
    unsigned count;
    unsigned effort; /* the row that decides the default recall */
};
extern const char *const schema_spaces[]; /* by enum metric, NULL at the end */
extern const struct index_row schema_indexes[INDEX_KIND_COUNT];
#define HNSW_NUM_THREADS 3 /* place in the hnsw table */

union setting_value {
    int64_t integer;
    double number;
};
struct index_settings {
    bool present;
    uint32_t given; /* bit per row */
    union setting_value values[SETTING_MAX];
};

struct vector_config {
    bool has_space;
    uint8_t space; /* enum metric */
    bool has_source;
    slice source_key;
    const struct json_value *embedding_function; /* NULL: none.  Lives with the JSON it came from */
    struct index_settings kinds[INDEX_KIND_COUNT];
};
struct sparse_config {
    bool has_source, has_bm25, bm25, max_score;
    slice source_key;
    const struct json_value *embedding_function;
};

/* The seven indexes, in the order of schema_slots. */
enum schema_slot {
    SLOT_FTS,
    SLOT_STRING,
    SLOT_VECTOR,
    SLOT_SPARSE,
    SLOT_INT,
    SLOT_FLOAT,
    SLOT_BOOL,
    SLOT_COUNT
};
enum schema_group {
    GROUP_STRING,
    GROUP_FLOATS,
    GROUP_SPARSE,
    GROUP_INT,
    GROUP_FLOAT,
    GROUP_BOOL,
    GROUP_COUNT
};
struct slot_row {
    const char *name, *alias;
    uint8_t group; /* enum schema_group */
};
struct group_row {
    const char *name, *alias;
    uint8_t first_slot, slot_count;
};
extern const struct slot_row schema_slots[SLOT_COUNT];
extern const struct group_row schema_groups[GROUP_COUNT];
/* value type of an evolved pair (enum schema_type) -> its group */
extern const uint8_t schema_type_groups[SCHEMA_TYPE_COUNT];
/* and to the index that filters need */
extern const uint8_t schema_type_slots[SCHEMA_TYPE_COUNT];

struct schema_types {
    uint8_t groups;  /* bit per enum schema_group: member was there */
    uint8_t slots;   /* bit per enum schema_slot: index was there */
    uint8_t enabled; /* bit per enum schema_slot */
    bool token_bitmap;
    struct vector_config *vector; /* when SLOT_VECTOR is there */
    struct sparse_config *sparse; /* when SLOT_SPARSE is there */
};
struct schema_key {
    slice name;
    struct schema_types types;
    uint32_t order; /* among equal names the highest wins */
};
struct schema_plan {
    uint8_t built; /* enum index_kind */
    struct schema_types defaults;
    struct schema_key *
        keys; /* ascending by name, each once; #document and #embedding are always there once merged */
    size_t key_count;
    slice cmek; /* at NULL: none */
};

/** Where in the request a value stands. */
struct place {
    const struct place *up;
    slice name;
};
struct place_text {
    char at[400];
};
struct place_text place_write(const struct place *place);
/** `text` cut to what may stand in a message, at a character's edge. */
slice schema_shown(slice text);

/** What the readers share.  store false: check only, nothing outlives the call. */
struct schema_input {
    struct arena *arena;
    bool store;
    struct vector_config vector; /* scratch while store is false */
    struct sparse_config sparse;
};
struct configuration {
    struct vector_config vector;
    unsigned kind_count; /* how many of hnsw and spann are objects */
};
/** `allowed` is SETTING_CREATE or SETTING_UPDATE.  value NULL or null: nothing given. */
MUST_USE och_code schema_read_configuration(struct schema_input *input, const struct place *place,
                                            const struct json_value *value, unsigned allowed,
                                            struct configuration *ret_configuration,
                                            och_error *err);
/** With store: keys sorted and unique.  `built` is left alone. */
MUST_USE och_code schema_read_plan(struct schema_input *input, const struct place *place,
                                   const struct json_value *value, struct schema_plan *ret_plan,
                                   och_error *err);
/** hnsw:* keys; OCH_INVALID. */
MUST_USE och_code schema_read_legacy(const struct json_value *metadata, struct vector_config *out,
                                     och_error *err);
/** True for none, unknown, and known named default (§1.3). */
bool embedding_function_is_default(const struct json_value *function);

/** Bounds of every number given below `up`, whose place the error names; `prefix` begins the message. */
MUST_USE och_code schema_check_bounds(const struct vector_config *config, const struct place *up,
                                      const char *prefix, och_error *err);
/** The rules of §3.3 on a request's schema, before it is merged. */
MUST_USE och_code schema_check_rules(const struct schema_plan *plan, och_error *err);

enum schema_write_mode {
    WRITE_SCHEMA,
    WRITE_STORED, /* with the kind of index built */
    WRITE_COMPARE /* without what does not make a schema differ from the default */
};
void schema_write_plan(const struct schema_plan *plan, enum schema_write_mode mode,
                       struct buf *out);
void embedding_function_write(const struct json_value *function, struct buf *out);

/** For qsort: by name, then by order. */
int schema_key_order(const void *a, const void *b);
/** The key's entry, or NULL. */
struct schema_key *schema_find(const struct schema_plan *plan, slice name);
/** Fill every number that has a default and was not given. */
void index_settings_fill(struct index_settings *settings, enum index_kind kind,
                         unsigned thread_count);
/** Give `to` what `from` was given. */
void index_settings_overlay(struct index_settings *to, const struct index_settings *from);
MUST_USE och_code schema_read_stored(slice stored_json, struct arena *arena,
                                     struct schema_plan *ret_plan, och_error *err);
/** Recall that a default effort of the built index aims at. */
float schema_recall(const struct vector_config *config, enum index_kind built);
#endif
