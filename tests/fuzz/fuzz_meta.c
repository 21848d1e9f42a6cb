/* SPDX-License-Identifier: Apache-2.0 */
/* Metadata.  First byte even: the rest is JSON; what is encoded validates and comes back equal.
 * Odd: the rest is encoded bytes; nothing is read outside them, and what validates is consistent. */
#include "base/mem.h"
#include "model/meta.h"
#include "json/json.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void from_json(slice text)
{
    struct arena arena;
    struct json_value value, again;
    struct json_fault fault;
    arena_init(&arena, NULL, 0);
    CLEANUP(buf_cleanup) struct buf encoded, json, encoded_again;
    buf_init(&encoded, BUF_MAX_NONE);
    buf_init(&json, BUF_MAX_NONE);
    buf_init(&encoded_again, BUF_MAX_NONE);
    if (json_read(text, NULL, &arena, &value, &fault, NULL) == OCH_OK &&
        value.kind == JSON_OBJECT && meta_from_json(&value, 0, &encoded, NULL) == OCH_OK) {
        require(meta_validate(buf_view(&encoded), NULL) == OCH_OK);
        meta_to_json(buf_view(&encoded), &json);
        require(json_read(buf_view(&json), NULL, &arena, &again, &fault, NULL) == OCH_OK);
        require(meta_from_json(&again, 0, &encoded_again, NULL) == OCH_OK);
        require(slice_equal(buf_view(&encoded), buf_view(&encoded_again)));
    }
    arena_done(&arena);
}

static void from_bytes(slice bytes)
{
    CLEANUP(buf_cleanup) struct buf merged, json;
    buf_init(&merged, BUF_MAX_NONE);
    buf_init(&json, BUF_MAX_NONE);
    bool valid = meta_validate(bytes, NULL) == OCH_OK, empty;
    struct meta_iter iter;
    struct meta_entry entry, found;
    uint64_t kept = 0, count = 0;
    meta_iter_init(&iter, bytes);
    for (; meta_iter_next(&iter, &entry); count++) {
        bool there = meta_find(bytes, entry.key, &found);
        if (valid)
            require(there && slice_equal(found.value, entry.value) && found.type == entry.type);
        kept += entry.type != META_DELETE;
    }
    meta_to_json(bytes, &json);
    meta_merge(bytes, bytes, &merged, &empty);
    if (valid) {
        require(count == meta_count(bytes));
        require(meta_validate(buf_view(&merged), NULL) == OCH_OK);
        require(meta_count(buf_view(&merged)) == kept && empty == (kept == 0));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    slice rest = slice_make(data + 1, size - 1);
    if (data[0] & 1)
        from_bytes(rest);
    else
        from_json(rest);
    return 0;
}
