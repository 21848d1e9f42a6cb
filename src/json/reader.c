/* SPDX-License-Identifier: Apache-2.0 */
/* Reading: checks what simdjson takes on trust, then walk and tree do the work. */
#include "json/tree.h"

/* A thread keeps its parser's memory for texts up to this size; what is larger is charged and given back. */
#define KEPT_SIZE ((size_t)1 << 20)
/* simdjson's index: at worst a word for each byte, and a string buffer that we never touch. */
#define INDEX_BYTES_PER_BYTE 4

static void free_padded(uint8_t **padded)
{
    mem_free(*padded);
}

static och_code refuse(slice text, struct json_fault *ret_fault, och_error *err)
{
    struct json_fault fault;
    if (json_scan(text,
                  &fault)) /* never, or scan and simdjson disagree: the fuzz target watches it */
        fault = (struct json_fault){.line = 1, .reason = "expected value"};
    if (ret_fault)
        *ret_fault = fault;
    return FAIL(err, OCH_INVALID, "%s at line %u column %u", fault.reason, fault.line,
                fault.column);
}

/* The walk takes containers only, so any other value is walked as the one element of an array around it. */
static bool is_container(slice text)
{
    size_t at = 0;
    while (at < text.len && (text.at[at] == ' ' || text.at[at] == '\n' || text.at[at] == '\t' ||
                             text.at[at] == '\r'))
        at++;
    return at < text.len && (text.at[at] == '{' || text.at[at] == '[');
}

static och_code read_padded(slice text, slice padded, bool wrapped,
                            const struct json_options *options, struct arena *arena,
                            struct json_value *ret_value, struct json_fault *ret_fault,
                            och_error *err)
{
    struct json_tree tree;
    json_tree_init(&tree, options, arena, padded);
    tree.shift = wrapped;
    enum json_walk_result result = json_walk(padded.at, padded.len, &tree);
    struct json_value root = {0};
    if (result == JSON_WALK_OK) {
        assert(tree.value_count == 1 && tree.depth == 0);
        root = tree.values[0];
        if (wrapped && root.count != 1)
            result = JSON_WALK_REFUSED;
        else if (wrapped)
            root = root.items[0];
    }
    bool no_memory = tree.no_memory || result == JSON_WALK_NO_MEMORY;
    json_tree_done(&tree);
    if (padded.len > KEPT_SIZE)
        json_shim_trim(KEPT_SIZE);
    if (no_memory)
        return FAIL_NO_MEMORY(err, "JSON");
    if (result != JSON_WALK_OK)
        return refuse(text, ret_fault, err);
    *ret_value = root;
    return OCH_OK;
}

och_code json_read(slice text, const struct json_options *options, struct arena *arena,
                   struct json_value *ret_value, struct json_fault *ret_fault, och_error *err)
{
    static const struct json_options plain = {0};
    options = options ? options : &plain;
    if (text.len >= UINT32_MAX - 2 * JSON_PADDING)
        return FAIL(err, OCH_TOO_LARGE, "JSON text of %zu bytes; at most 4 GiB", text.len);
    /* A byte order mark is no blank, though some readers skip it. */
    bool mark = text.len >= 3 && memcmp(text.at, "\xef\xbb\xbf", 3) == 0;
    if (text.len == 0 || mark)
        return refuse(text, ret_fault, err);

    bool wrapped = !is_container(text), copied = wrapped || !options->keep_text;
    struct json_options used = *options;
    used.keep_text = !copied;
    size_t index = text.len > KEPT_SIZE ? text.len * INDEX_BYTES_PER_BYTE : 0;
    size_t bytes = index + (copied ? text.len : 0);
    CLEANUP(free_padded) uint8_t *scratch = NULL;
    slice padded = text;
    if (budget_take(arena->budget, bytes, "JSON", NULL) != OCH_OK) {
        arena->refused_bytes = bytes;
        return FAIL_NO_MEMORY(err, "JSON");
    }
    if (copied) {
        scratch = mem_alloc(text.len + 2 + JSON_PADDING);
        if (!scratch) {
            budget_give(arena->budget, bytes);
            return FAIL_NO_MEMORY(err, "JSON");
        }
        scratch[0] = '[';
        memcpy(scratch + wrapped, text.at, text.len);
        padded = slice_make(scratch, text.len + 2 * (size_t)wrapped);
        if (wrapped)
            scratch[text.len + 1] = ']';
        memset(scratch + padded.len, 0, JSON_PADDING);
    }
    och_code code = read_padded(text, padded, wrapped, &used, arena, ret_value, ret_fault, err);
    budget_give(arena->budget, bytes);
    return code;
}

void json_locate(slice text, size_t offset, uint32_t *ret_line, uint32_t *ret_column)
{
    uint32_t line = 1;
    size_t start = 0;
    offset = min_size(offset, text.len);
    while (start < offset) {
        const uint8_t *end = memchr(text.at + start, '\n', offset - start);
        if (!end)
            break;
        line++;
        start = (size_t)(end - text.at) + 1;
    }
    *ret_line = line;
    *ret_column = (uint32_t)(offset - start) + 1;
}

bool json_utf8_valid(slice text)
{
    return text.len == 0 || json_shim_utf8_valid(text.at, text.len);
}
