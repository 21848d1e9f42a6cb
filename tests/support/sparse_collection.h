/* SPDX-License-Identifier: Apache-2.0 */
/* A collection with two indexes of sparse vectors: under "plain", and under "rare" with bm25; its dense vectors in one of the spaces. */
#ifndef SUPPORT_SPARSE_COLLECTION_H
#define SUPPORT_SPARSE_COLLECTION_H

#include "model/schema.h"
#include "support/stack.h"

static uuid sparse_collection_in(struct stack *s, const char *name, const char *space)
{
    static const char *const format =
        "{\"defaults\":{},\"keys\":{\"#embedding\":{\"float_list\":{\"vector_index\":{\"enabled\":"
        "true,"
        "\"config\":{\"space\":\"%s\"}}}},"
        "\"plain\":{\"sparse_vector\":{\"sparse_vector_index\":{\"enabled\":true,\"config\":{}}}},"
        "\"rare\":{\"sparse_vector\":{\"sparse_vector_index\":{\"enabled\":true,\"config\":{"
        "\"bm25\":true}}}}}}";
    struct arena arena;
    struct json_value schema;
    struct json_fault fault;
    char text[600];
    arena_init(&arena, NULL, 0);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    (void)snprintf(text, sizeof(text), format, space);
#pragma GCC diagnostic pop
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

__attribute__((unused)) static uuid sparse_collection(struct stack *s, const char *name)
{
    return sparse_collection_in(s, name, "l2");
}
#endif
