/* SPDX-License-Identifier: Apache-2.0 */
/* Inside json/ only: the tree under construction, and the scan that names a fault. */
#ifndef JSON_TREE_H
#define JSON_TREE_H

#include "json/json.h"
#include "json/shim.h"

struct json_frame {
    size_t first_value, first_name;
    uint32_t offset;
    bool object;
};

/* Values wait on a stack until their container closes; then they move to the arena in one piece. */
struct json_tree {
    const struct json_options *options;
    struct arena *arena;
    const uint8_t *text, *end;
    uint32_t shift; /* bytes put before the text that the caller does not know of */
    struct json_value *values;
    size_t value_count, value_capacity;
    slice *names;
    size_t name_count, name_capacity;
    struct json_rows rows;
    size_t charged_bytes; /* taken from the arena's budget for the above */
    unsigned depth;
    bool rows_wanted; /* the member just named holds rows */
    bool no_memory;
    struct json_frame frames[JSON_DEPTH_MAX];
};

void json_tree_init(struct json_tree *tree, const struct json_options *options, struct arena *arena,
                    slice padded);
void json_tree_done(struct json_tree *tree);

/** True when text is one JSON value; else says where and why not, as the peer words it.  Reads no byte past the end.
 *  Cost: some 200 MB/s; only run on texts that the reader refused. */
bool json_scan(slice text, struct json_fault *ret_fault);

#endif
