/* SPDX-License-Identifier: Apache-2.0 */
/* A pattern, a zero byte, texts parted by zero bytes.  The property: a text in which the engine finds the pattern fulfils the condition that was
 * made from it, and where the condition is said to decide, the engine agrees. */
#include "index/text/text.h"

#include <rure.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct text_query *query, rure *regex, slice text)
{
    const uint8_t *at = text.len ? text.at : (const uint8_t *)"";
    bool truth = rure_is_match(regex, at, text.len, 0);
    bool allowed = text_query_allows(query, slice_make(at, text.len));
    if (truth ? !allowed : allowed && query->exact)
        abort();
}

/* Documents are UTF-8; what is not cannot be asked about. */
static bool is_utf8(slice text)
{
    for (size_t i = 0; i < text.len;) {
        uint8_t c = text.at[i];
        size_t len = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;
        if (!len || len > text.len - i)
            return false;
        for (size_t j = 1; j < len; j++) {
            if ((text.at[i + j] & 0xc0) != 0x80)
                return false;
        }
        if ((c == 0xe0 && text.at[i + 1] < 0xa0) || (c == 0xed && text.at[i + 1] > 0x9f) ||
            (c == 0xf0 && text.at[i + 1] < 0x90) || (c == 0xf4 && text.at[i + 1] > 0x8f))
            return false;
        i += len;
    }
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *zero = size ? memchr(data, 0, size) : NULL;
    if (!zero || size > 4096)
        return 0;
    slice pattern = slice_make(data, (size_t)(zero - data));
    struct arena arena;
    struct text_query query;
    arena_init(&arena, NULL, 1 << 20);
    text_query_regex(pattern, &arena, &query); // of any bytes, refused ones too
    rure_options *options = rure_options_new();
    rure_options_size_limit(options, 1 << 20);
    rure_error *error = rure_error_new();
    rure *regex = is_utf8(pattern) ? rure_compile(pattern.len ? pattern.at : (const uint8_t *)"",
                                                  pattern.len, RURE_FLAG_UNICODE, options, error)
                                   : NULL;
    for (const uint8_t *at = zero + 1; regex && at <= data + size;) {
        const uint8_t *end = memchr(at, 0, (size_t)(data + size - at));
        end = end ? end : data + size;
        slice text = slice_make(at, (size_t)(end - at));
        if (is_utf8(text))
            check(&query, regex, text);
        at = end + 1;
    }
    if (regex)
        check(&query, regex, pattern);
    if (regex)
        rure_free(regex);
    rure_error_free(error);
    rure_options_free(options);
    arena_done(&arena);
    return 0;
}
