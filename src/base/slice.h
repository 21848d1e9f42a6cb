/* SPDX-License-Identifier: Apache-2.0 */
/* Borrowed bytes: pointer and length, not NUL-terminated.  {NULL, 0} is "absent" where a page says so. */
#ifndef BASE_SLICE_H
#define BASE_SLICE_H

#include "base/attr.h"

#include <string.h>

typedef struct slice {
    const uint8_t *at;
    size_t len;
} slice;

#define SLICE(literal) ((slice){(const uint8_t *)("" literal), sizeof(literal) - 1})
#define SLICE_NONE     ((slice){NULL, 0})
/** For printf: "%.*s", SLICE_ARG(s). */
#define SLICE_ARG(s)                                      \
    ((int)((s).len > 0x7fffffff ? 0x7fffffff : (s).len)), \
        (const char *)((s).len ? (const void *)(s).at : (const void *)"")

static inline slice slice_make(const void *at, size_t len)
{
    return (slice){(const uint8_t *)at, len};
}
static inline slice slice_of(const char *text)
{
    return (slice){(const uint8_t *)text, strlen(text)};
}
static inline bool slice_equal(slice a, slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0);
}
/** By bytes, then by length; <0, 0, >0. */
static inline int slice_compare(slice a, slice b)
{
    size_t shared = a.len < b.len ? a.len : b.len;
    int order = shared ? memcmp(a.at, b.at, shared) : 0;
    return order ? order : (a.len > b.len) - (a.len < b.len);
}
static inline bool slice_starts_with(slice text, slice prefix)
{
    return text.len >= prefix.len &&
           (prefix.len == 0 || memcmp(text.at, prefix.at, prefix.len) == 0);
}
static inline slice slice_from(slice text, size_t start)
{
    assert(start <= text.len);
    return (slice){text.at + start, text.len - start};
}
/** XXH3-64, seed 0: the hash of ids everywhere, on disk too (D3). */
uint64_t slice_hash(slice text);
/** ASCII case-insensitive equality, for header names. */
bool slice_equal_nocase(slice a, slice b);
#endif
