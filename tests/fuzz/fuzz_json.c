/* SPDX-License-Identifier: Apache-2.0 */
/* What json_read() takes, json_write_value() writes so that it reads back equal; what it refuses, the second grammar
 * in json_scan() refuses too; nothing behind the text changes the verdict. */
#include "json/tree.h"

#include <stdlib.h>

static const slice rows_named[] = {{(const uint8_t *)"e", 1}, {(const uint8_t *)"embeddings", 10}};

static void demand(bool holds)
{
    if (!holds)
        abort();
}

static void round_trip(const struct json_value *value, const struct json_options *options)
{
    struct buf text;
    buf_init(&text, BUF_MAX_NONE);
    json_write_value(&text, value);
    demand(!text.failed);
    struct arena arena;
    arena_init(&arena, NULL, 0);
    struct json_value again;
    struct json_options plain = *options;
    plain.keep_text = false;
    och_error err = {0};
    demand(json_read(buf_view(&text), &plain, &arena, &again, NULL, &err) == OCH_OK);
    /* A float that overflowed is written as null, so those rows come back as other things. */
    size_t len = text.len;
    json_write_value(&text, &again);
    demand(text.len == 2 * len && memcmp(text.at, text.at + len, len) == 0);
    bool nulls = false;
    for (size_t i = 0; i + 4 <= len; i++)
        nulls = nulls || memcmp(text.at + i, "null", 4) == 0;
    demand(nulls || json_equal(value, &again));
    arena_done(&arena);
    buf_done(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    /* The first byte says how: bit 0 keeps the text, bit 1 names rows, the rest lies in the padding. */
    uint8_t how = data[0];
    size_t len = size - 1;
    uint8_t *padded = malloc(len + JSON_PADDING);
    demand(padded != NULL);
    memcpy(padded, data + 1, len);
    memset(padded + len, how, JSON_PADDING);
    struct json_options options = {
        .float_members = rows_named, .float_member_count = how & 2 ? 2 : 0, .keep_text = how & 1};
    struct arena arena;
    arena_init(&arena, NULL, 0);
    struct json_value value;
    struct json_fault fault = {0}, scanned = {0};
    och_error err = {0};
    slice text = slice_make(padded, len);
    och_code code = json_read(text, &options, &arena, &value, &fault, &err);
    bool mark = len >= 3 && memcmp(padded, "\xef\xbb\xbf", 3) == 0;
    demand((code == OCH_OK) == (json_scan(text, &scanned) && !mark));
    if (code == OCH_OK) {
        round_trip(&value, &options);
    } else {
        demand(code == OCH_INVALID && fault.reason && fault.line > 0 && fault.offset <= len);
        demand(err.code == OCH_INVALID);
    }
    arena_done(&arena);
    free(padded);
    return 0;
}
