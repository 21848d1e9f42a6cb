/* SPDX-License-Identifier: Apache-2.0 */
/* Errors are formatted into the caller's och_error; nothing here allocates.  Text is composed on the
 * stack first, so arguments may point into the message that is being replaced. */
#include "base/error.h"

#include <stdio.h>
#include <string.h>

#define MESSAGE_SIZE sizeof(((och_error *)0)->message)

_Static_assert(MESSAGE_SIZE == 1024, "path_at, path_len and hint_at have ten bits");

/* Drop a UTF-8 sequence that was cut in the middle.  `len` < MESSAGE_SIZE. */
static void cut_at_character(char *text, size_t len)
{
    size_t lead = len;
    while (lead > 0 && len - lead < 4 && ((uint8_t)text[lead - 1] & 0xC0) == 0x80)
        lead--;
    if (lead == 0)
        return;
    uint8_t first = (uint8_t)text[lead - 1];
    size_t wanted = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : first >= 0xC0 ? 2 : 1;
    if (len - (lead - 1) < wanted)
        text[lead - 1] = '\0';
}

/* Add to text[MESSAGE_SIZE], which holds `len` bytes; returns the new length. */
PRINTF_LIKE(3, 0) static size_t add_v(char *text, size_t len, const char *format, va_list args)
{
    assert(len < MESSAGE_SIZE);
    int wanted = vsnprintf(text + len, MESSAGE_SIZE - len, format, args);
    if (wanted < 0) {
        text[len] = '\0';
        return len;
    }
    if ((size_t)wanted < MESSAGE_SIZE - len)
        return len + (size_t)wanted;
    cut_at_character(text, MESSAGE_SIZE - 1);
    return strlen(text);
}

PRINTF_LIKE(3, 4) static size_t add(char *text, size_t len, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    len = add_v(text, len, format, args);
    va_end(args);
    return len;
}

static bool ends_with(const char *text, size_t len, const char *end)
{
    size_t end_len = strlen(end);
    return len >= end_len && memcmp(text + len - end_len, end, end_len) == 0;
}

/* The place below src/, so that messages and logs do not depend on where the tree was built. */
static const char *short_file(const char *file)
{
    const char *found = file;
    for (const char *at = file; at && (at = strstr(at, "/src/")) != NULL; at++)
        found = at + 1;
    return found;
}

och_code error_set(och_error *err, och_code code, int os_errno, const char *file, int line,
                   const char *format, ...)
{
    assert(code != OCH_OK);
    if (!err)
        return code;
    char text[MESSAGE_SIZE];
    va_list args;
    va_start(args, format);
    size_t len = add_v(text, 0, format, args);
    va_end(args);
    if (os_errno) {
        char space[128];
        const char *reason = strerror_r(os_errno, space, sizeof(space));
        if (!ends_with(text, len, reason)) // a message that quotes the one below has it already
            len = add(text, len, ": %s", reason);
    }
    memcpy(err->message, text, len + 1);
    err->path_at = err->path_len = err->hint_at = 0;
    err->code = code;
    err->os_errno = os_errno;
    err->file = short_file(file);
    err->line = line;
    return code;
}

/* What was cut off is not marked. */
static void mark_path(och_error *err, size_t at, size_t path_len, size_t message_len)
{
    bool whole = at + path_len <= message_len;
    err->path_at = (unsigned)(whole ? at : 0) & 1023u;
    err->path_len = (unsigned)(whole ? path_len : 0) & 1023u;
}

static void mark_hint(och_error *err, size_t at, size_t message_len)
{
    err->hint_at = (unsigned)(at < message_len ? at : 0) & 1023u;
}

void error_context(och_error *err, const char *format, ...)
{
    if (!err || err->code == OCH_OK)
        return;
    char text[MESSAGE_SIZE];
    va_list args;
    va_start(args, format);
    size_t len = add_v(text, 0, format, args);
    va_end(args);
    size_t shift = min_size(len + 2, MESSAGE_SIZE - 1); /* how far the message moves */
    len = add(text, len, ": %s", err->message);
    memcpy(err->message, text, len + 1);
    if (err->path_len)
        mark_path(err, err->path_at + shift, err->path_len, len);
    if (err->hint_at)
        mark_hint(err, err->hint_at + shift, len);
}

void error_append(och_error *err, const char *format, ...)
{
    if (!err || err->code == OCH_OK)
        return;
    char text[MESSAGE_SIZE];
    size_t len = add(text, 0, "%s", err->message);
    va_list args;
    va_start(args, format);
    len = add_v(text, len, format, args);
    va_end(args);
    memcpy(err->message, text, len + 1);
}

void error_mark_path(och_error *err, const char *path, size_t len)
{
    if (!err || err->code == OCH_OK || len == 0 || err->path_len)
        return;
    size_t size = strlen(err->message);
    for (size_t at = 0; at + len <= size; at++) {
        if (memcmp(err->message + at, path, len) == 0) {
            mark_path(err, at, len, size);
            return;
        }
    }
}

void error_mark_hint(och_error *err, const char *begin)
{
    size_t begin_len = strlen(begin);
    if (!err || err->code == OCH_OK)
        return;
    size_t size = strlen(err->message);
    for (size_t at = size; begin_len && at-- > 0;) {
        if (strncmp(err->message + at, begin, begin_len) == 0) {
            mark_hint(err, at, size);
            return;
        }
    }
}

void error_hint(och_error *err, const char *format, ...)
{
    if (!err || err->code == OCH_OK)
        return;
    char text[MESSAGE_SIZE];
    size_t len = add(text, 0, "%s", err->message);
    len = add(text, len, "%s", len > 0 && text[len - 1] == '.' ? " " : ". ");
    size_t at = len;
    va_list args;
    va_start(args, format);
    len = add_v(text, len, format, args);
    va_end(args);
    memcpy(err->message, text, len + 1);
    if (!err->hint_at)
        mark_hint(err, at, len);
}

void error_clear(och_error *err)
{
    if (!err)
        return;
    err->code = OCH_OK;
    err->os_errno = 0;
    err->file = NULL;
    err->line = 0;
    err->message[0] = '\0';
    err->path_at = err->path_len = err->hint_at = 0;
}

const char *error_code_name(och_code code)
{
    static const char *const names[] = {
        [OCH_OK] = "ok",
        [OCH_INVALID] = "invalid",
        [OCH_SHAPE] = "shape",
        [OCH_NOT_FOUND] = "not_found",
        [OCH_EXISTS] = "exists",
        [OCH_CONFLICT] = "conflict",
        [OCH_STALE] = "stale",
        [OCH_TOO_LARGE] = "too_large",
        [OCH_QUOTA] = "quota",
        [OCH_UNAUTHENTICATED] = "unauthenticated",
        [OCH_FORBIDDEN] = "forbidden",
        [OCH_BUSY] = "busy",
        [OCH_UNAVAILABLE] = "unavailable",
        [OCH_DEADLINE] = "deadline",
        [OCH_CANCELLED] = "cancelled",
        [OCH_UNSUPPORTED] = "unsupported",
        [OCH_NO_MEMORY] = "no_memory",
        [OCH_IO] = "io",
        [OCH_CORRUPT] = "corrupt",
        [OCH_IN_USE] = "in_use",
        [OCH_FORKED] = "forked",
        [OCH_CLOSED] = "closed",
        [OCH_SETTING] = "setting",
        [OCH_INTERNAL] = "internal",
    };
    return (size_t)code < COUNT_OF(names) && names[code] ? names[code] : "unknown";
}
