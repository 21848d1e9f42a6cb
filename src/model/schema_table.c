/* SPDX-License-Identifier: Apache-2.0 */
/* Which numbers an index configuration has, with defaults and bounds (schema-and-config.md §1.1, 1.2), and which index belongs to which value type. */
#include "model/schema_internal.h"

#include <float.h>

const char *const schema_spaces[] = {"l2", "cosine", "ip", NULL};
static_assert(METRIC_L2 == 0 && METRIC_COSINE == 1 && METRIC_IP == 2, "order of schema_spaces");

#define ROW(name_, legacy_, kind_, fallback_, min_, max_, bounds_, places_)                \
    {                                                                                      \
        .name = name_, .legacy = legacy_, .fallback = fallback_, .min = min_, .max = max_, \
        .bounds = bounds_, .kind = kind_, .places = (places_)                              \
    }
#define C SETTING_CREATE
#define U SETTING_UPDATE
#define S SETTING_SCHEMA
#define V SETTING_SHOWN

/* Next to each other so that a reader sees one table; the least double above 1 makes "more than 1" an inclusive bound. */
static const struct setting_row hnsw_rows[] = {
    ROW("ef_construction", "hnsw:construction_ef", SETTING_UINT, 100, 1, 65536,
        "between 1 and 65,536", C | S | V),
    ROW("max_neighbors", "hnsw:M", SETTING_UINT, 16, 2, 512, "between 2 and 512", C | U | S | V),
    ROW("ef_search", "hnsw:search_ef", SETTING_UINT, 100, 1, 65536, "between 1 and 65,536",
        C | U | S | V),
    ROW("num_threads", "hnsw:num_threads", SETTING_UINT, 1, 0, 9.3e18, NULL, C | U | S),
    ROW("batch_size", "hnsw:batch_size", SETTING_UINT, 100, 2, 9.3e18, "at least 2", C | U | S),
    ROW("sync_threshold", "hnsw:sync_threshold", SETTING_UINT, 1000, 2, 9.3e18, "at least 2",
        C | U | S | V),
    ROW("resize_factor", "hnsw:resize_factor", SETTING_F64, 1.2, 1.0000000000000002, DBL_MAX,
        "more than 1", C | U | S | V),
};
static const struct setting_row spann_rows[] = {
    ROW("search_nprobe", NULL, SETTING_UINT, 64, 0, 128, "at most 128", C | U | S | V),
    ROW("search_rng_factor", NULL, SETTING_F64, 1, 1, 1, "1.0", S),
    ROW("search_rng_epsilon", NULL, SETTING_F64, 10, 5, 10, "between 5.0 and 10.0", S),
    ROW("write_nprobe", NULL, SETTING_UINT, 32, 0, 64, "at most 64", C | S | V),
    ROW("nreplica_count", NULL, SETTING_UINT, 8, 0, 8, "at most 8", S),
    ROW("write_rng_factor", NULL, SETTING_F64, 1, 1, 1, "1.0", S),
    ROW("write_rng_epsilon", NULL, SETTING_F64, 5, 5, 10, "between 5.0 and 10.0", S),
    ROW("split_threshold", NULL, SETTING_UINT, 50, 50, 200, "between 50 and 200", C | S | V),
    ROW("num_samples_kmeans", NULL, SETTING_UINT, 1000, 0, 1000, "at most 1,000", S),
    ROW("initial_lambda", NULL, SETTING_F64, 100, 100, 100, "100.0", S),
    ROW("reassign_neighbor_count", NULL, SETTING_UINT, 64, 0, 64, "at most 64", C | S | V),
    ROW("merge_threshold", NULL, SETTING_UINT, 25, 25, 100, "between 25 and 100", C | S | V),
    ROW("num_centers_to_merge_to", NULL, SETTING_UINT, 8, 0, 8, "at most 8", S),
    ROW("ef_construction", NULL, SETTING_UINT, 200, 0, 200, "at most 200", C | S | V),
    ROW("ef_search", NULL, SETTING_UINT, 200, 0, 200, "at most 200", C | U | S | V),
    ROW("max_neighbors", NULL, SETTING_UINT, 64, 0, 64, "at most 64", C | S | V),
    ROW("center_drift_threshold", NULL, SETTING_F64, 0, 0.1, 1, "between 0.1 and 1.0",
        S | SETTING_OPTIONAL),
};
#undef C
#undef U
#undef S
#undef V
#undef ROW
static_assert(COUNT_OF(spann_rows) <= SETTING_MAX, "settings fit");
static_assert(COUNT_OF(hnsw_rows) <= SETTING_MAX, "settings fit");

const struct index_row schema_indexes[INDEX_KIND_COUNT] = {
    {"hnsw", "HNSW", "struct HnswConfiguration", "struct UpdateHnswConfiguration",
     "struct HnswIndexConfig", hnsw_rows, COUNT_OF(hnsw_rows), 2},
    {"spann", "SPANN", "struct SpannConfiguration", "struct UpdateSpannConfiguration",
     "struct SpannIndexConfig", spann_rows, COUNT_OF(spann_rows), 0},
};
const struct slot_row schema_slots[SLOT_COUNT] = {
    {"fts_index", "$fts_index", GROUP_STRING},
    {"string_inverted_index", "$string_inverted_index", GROUP_STRING},
    {"vector_index", "$vector_index", GROUP_FLOATS},
    {"sparse_vector_index", "$sparse_vector_index", GROUP_SPARSE},
    {"int_inverted_index", "$int_inverted_index", GROUP_INT},
    {"float_inverted_index", "$float_inverted_index", GROUP_FLOAT},
    {"bool_inverted_index", "$bool_inverted_index", GROUP_BOOL},
};
const struct group_row schema_groups[GROUP_COUNT] = {
    {"string", "#string", SLOT_FTS, 2},
    {"float_list", "#float_list", SLOT_VECTOR, 1},
    {"sparse_vector", "#sparse_vector", SLOT_SPARSE, 1},
    {"int", "#int", SLOT_INT, 1},
    {"float", "#float", SLOT_FLOAT, 1},
    {"bool", "#bool", SLOT_BOOL, 1},
};
const uint8_t schema_type_groups[SCHEMA_TYPE_COUNT] = {
    [SCHEMA_STRING] = GROUP_STRING, [SCHEMA_INT] = GROUP_INT,       [SCHEMA_FLOAT] = GROUP_FLOAT,
    [SCHEMA_BOOL] = GROUP_BOOL,     [SCHEMA_SPARSE] = GROUP_SPARSE,
};

const uint8_t schema_type_slots[SCHEMA_TYPE_COUNT] = {
    [SCHEMA_STRING] = SLOT_STRING, [SCHEMA_INT] = SLOT_INT,       [SCHEMA_FLOAT] = SLOT_FLOAT,
    [SCHEMA_BOOL] = SLOT_BOOL,     [SCHEMA_SPARSE] = SLOT_SPARSE,
};
