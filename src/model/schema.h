/* SPDX-License-Identifier: Apache-2.0 */
/* Collection configuration and schema (schema-and-config.md), as pure values.
 * The catalogue keeps the schema as canonical JSON text (what create reconciled or update changed) plus the (key, type) pairs that
 * writes added later; everything shown or checked derives from these two. */
#ifndef MODEL_SCHEMA_H
#define MODEL_SCHEMA_H

#include "model/batch.h"
#include "model/filter.h"

struct schema_key;
struct schema {
    enum metric metric;
    float
        recall; /* target of default effort, from ef_search or search_nprobe (D21, vector-index.md §7 "Effort mapping") */
    bool full_text;           /* keys.#document.string.fts_index.enabled */
    uint8_t defaults_enabled; /* bit per enum schema_type: may be filtered */
    struct schema_key *keys;
    size_t key_count;
    slice json; /* the canonical text */
};

struct schema_options {
    bool spann; /* which index kind a default schema names: false = hnsw (local, single node) */
    unsigned thread_count; /* num_threads of the default schema */
};
/**
 * Reconcile what a create request carries (§1, 3, 4); any of the three may be NULL.  `metadata` is the request's JSON (legacy hnsw:* keys).
 * Errors: with the texts and codes of the spec (OCH_SHAPE = 422, OCH_INVALID = 400; all bounds of §1.1, 1.2, X14, X15, X16).
 * The kind of index built (options) is kept in the text: only schema_write shows it as clients see it.
 * OCH_SHAPE messages are "<path>: <reason>" without position (e.g. "configuration.hnsw.space: unknown variant `x`, expected one of ...").
 */
MUST_USE och_code schema_create(const struct json_value *configuration,
                                const struct json_value *schema, const struct json_value *metadata,
                                const struct schema_options *options, struct arena *arena,
                                slice *ret_json, och_error *err);
/** Shape errors only (a `space` that is no string is, as on the peer, OCH_INVALID with the whole message) of a request's configuration / schema / new_configuration members, so that the gateway can answer 422 in its turn (§2.3 of http-api). */
MUST_USE och_code schema_check_shape(const struct json_value *configuration,
                                     const struct json_value *schema, och_error *err);
MUST_USE och_code schema_check_update_shape(const struct json_value *new_configuration,
                                            och_error *err);
/** Errors as schema_create.  Lay a new_configuration over a stored schema (§2). */
MUST_USE och_code schema_update(slice stored_json, const struct json_value *new_configuration,
                                struct arena *arena, slice *ret_json, och_error *err);
/** Read stored text; OCH_CORRUPT if it is not what schema_create made.  Lives in the arena. */
MUST_USE och_code schema_parse(slice stored_json, struct arena *arena, struct schema *ret_schema,
                               och_error *err);
/** The `schema` member of a Collection: stored text with the evolved pairs added (§5). */
MUST_USE och_code schema_write(slice stored_json, const struct batch_pair *pairs, size_t pair_count,
                               struct arena *arena, struct buf *out, och_error *err);
/** The `configuration_json` member (§3.1). */
MUST_USE och_code schema_write_configuration(slice stored_json, struct arena *arena,
                                             struct buf *out, och_error *err);
/** Refuse filters on disabled indexes (query-language.md §2.5), with the texts there. */
MUST_USE och_code schema_gate(const struct schema *schema, const struct filter_node *filter,
                              och_error *err);
/** Has a key an enabled sparse index, and of which kind? */
bool schema_sparse_index(const struct schema *schema, slice key, bool *ret_bm25);
/** Keys with an enabled sparse index, ascending; arena. */
MUST_USE och_code schema_sparse_keys(const struct schema *schema, struct arena *arena,
                                     slice **ret_keys, size_t *ret_count, och_error *err);
#endif
