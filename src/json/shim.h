/* SPDX-License-Identifier: Apache-2.0 */
/* The seam between the C++ shims and the C of this folder: plain C types, readable by both. */
#ifndef JSON_SHIM_H
#define JSON_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes that must be readable behind a text. */
#define JSON_PADDING 64

enum json_walk_result {
    JSON_WALK_OK,
    JSON_WALK_REFUSED,   /* not JSON, or too deep: json_scan() says why */
    JSON_WALK_STOPPED,   /* the tree said no: it knows why */
    JSON_WALK_NO_MEMORY, /* simdjson's own memory */
};

/* Floats of all rows of one member, in order; grown by the tree. */
struct json_rows {
    float *at;
    size_t count, capacity;
};

struct json_tree;

/* reader.cc: walk an array or object of `len` padded bytes and tell the tree what is there, in order.
 * `len` is below 2^32 − JSON_PADDING. */
enum json_walk_result json_walk(const uint8_t *text, size_t len, struct json_tree *tree);
bool json_shim_utf8_valid(const uint8_t *text, size_t len);
/* Forget this thread's parser when it holds memory for more than `len` bytes of text. */
void json_shim_trim(size_t len);

/* tree.c: what the walk calls.  False = stop.  `token` is where the value starts, in the padded text. */
bool json_tree_open(struct json_tree *tree, const uint8_t *token, bool object);
bool json_tree_close(struct json_tree *tree);
/* `raw` stands behind the opening quote. */
bool json_tree_name(struct json_tree *tree, const uint8_t *raw);
bool json_tree_string(struct json_tree *tree, const uint8_t *token, const uint8_t *raw);
bool json_tree_number(struct json_tree *tree, const uint8_t *token, double value);
bool json_tree_bool(struct json_tree *tree, const uint8_t *token, bool value);
bool json_tree_null(struct json_tree *tree, const uint8_t *token);
/* True when the member just named holds rows of floats. */
bool json_tree_wants_rows(const struct json_tree *tree);
/* Rows of the member just opened, empty to begin with.  json_tree_row() keeps the floats from `first` to the end as
 * one row; json_tree_rows_done() puts them in place, before json_tree_close(). */
struct json_rows *json_tree_rows(struct json_tree *tree);
bool json_tree_rows_grow(struct json_tree *tree);
bool json_tree_row(struct json_tree *tree, const uint8_t *token, size_t first, bool big);
bool json_tree_rows_done(struct json_tree *tree);

/* f32_text.cc: shortest text, not terminated; `out` holds JSON_NUMBER_MAX bytes; value finite.  Returns its length. */
#define JSON_NUMBER_MAX 32
size_t json_f32_text(float value, char *out);
size_t json_f64_text(double value, char *out);
/* "v,v,v" */
size_t json_f32_texts(const float *values, size_t count, char *out);

#ifdef __cplusplus
}
#endif
#endif
