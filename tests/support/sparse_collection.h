/* SPDX-License-Identifier: Apache-2.0 */
/* A collection with two indexes of sparse vectors: under "plain", and under "rare" with bm25. */
#ifndef SUPPORT_SPARSE_COLLECTION_H
#define SUPPORT_SPARSE_COLLECTION_H

#include "model/schema.h"
#include "support/stack.h"

static uuid sparse_collection(struct stack *s, const char *name)
{
    static const char *const text =
        "{\"defaults\":{},\"keys\":{"
        "\"plain\":{\"sparse_vector\":{\"sparse_vector_index\":{\"enabled\":true,\"config\":{}}}},"
        "\"rare\":{\"sparse_vector\":{\"sparse_vector_index\":{\"enabled\":true,\"config\":{"
        "\"bm25\":true}}}}}}";
    struct arena arena;
    struct json_value schema;
    struct json_fault fault;
    arena_init(&arena, NULL, 0);
    OK(json_read(slice_of(text), NULL, &arena, &schema, &fault, err));
    struct schema_options options = {.thread_count = 1};
    struct sysdb_collection_new spec = {.id = uuid_random(&s->random),
                                        .tenant = SLICE("default_tenant"),
                                        .database = SLICE("default_database"),
                                        .name = slice_of(name)};
    OK(schema_create(NULL, &schema, NULL, &options, &arena, &spec.schema_json, err));
    const struct sysdb_collection *row = NULL;
    bool created;
    OK(sysdb_collection_create(s->sysdb, &spec, &row, &created, err));
    uuid id = row->id;
    sysdb_collection_unref(row);
    arena_done(&arena);
    return id;
}
#endif
