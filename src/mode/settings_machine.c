/* SPDX-License-Identifier: Apache-2.0 */
/* How much memory this process may use: what Linux tells in /proc and in control groups, version 2 and 1. */
#include "mode/settings_internal.h"

#include <stdlib.h>
#include <unistd.h>

#define UNLIMITED (1LL << 60) /* version 1 writes a number near 2^63 for "none" */

och_code settings_read_file(struct io *io, const char *path, size_t max, struct arena *arena,
                            slice *ret_text, och_error *err)
{
    CLEANUP(file_cleanup) struct file *file = NULL;
    TRY(io_open(io, path, 0, &file, err));
    size_t cap = 4096, len = 0, got = 0;
    uint8_t *at = arena_alloc(arena, cap);
    do {
        if (at && len == cap) { /* files of the kernel tell no size */
            uint8_t *larger = arena_alloc(arena, cap * 2);
            if (larger)
                memcpy(larger, at, len);
            at = larger;
            cap *= 2;
        }
        if (!at)
            return FAIL_NO_MEMORY(err, "a file");
        TRY(file_read(file, len, at + len, cap - len, &got, err));
        len += got;
        if (len > max)
            return FAIL(err, OCH_TOO_LARGE, "%s is larger than %zu bytes", path, max);
    } while (len == cap);
    *ret_text = slice_make(at, len);
    return OCH_OK;
}

/* The next line of a text. */
static bool next_line(slice *text, slice *ret_line)
{
    if (text->len == 0)
        return false;
    const uint8_t *end = memchr(text->at, '\n', text->len);
    size_t len = end ? (size_t)(end - text->at) : text->len;
    *ret_line = slice_make(text->at, len);
    *text = slice_from(*text, end ? len + 1 : len);
    return true;
}

static int64_t leading_number(slice text)
{
    int64_t value = 0;
    size_t i = 0;
    while (i < text.len && text.at[i] == ' ')
        i++;
    for (; i < text.len && text.at[i] >= '0' && text.at[i] <= '9'; i++)
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, text.at[i] - '0', &value))
            return UNLIMITED;
    return value;
}

static void lower(int64_t *limit, int64_t value)
{
    if (value > 0 && value < *limit)
        *limit = value;
}

/* A file with one number; "max" and a missing file are no limit. */
static och_code lower_by_file(struct io *io, const char *path, struct arena *arena, int64_t *limit,
                              och_error *err)
{
    slice text;
    if (!path)
        return FAIL_NO_MEMORY(err, "a file");
    och_code code = settings_read_file(io, path, 4096, arena, &text, NULL);
    if (code == OCH_NO_MEMORY)
        return FAIL_NO_MEMORY(err, "a file");
    if (code == OCH_OK)
        lower(limit, leading_number(text));
    return OCH_OK;
}

/* The group and those around it: the tightest counts. */
static och_code lower_by_group(struct io *io, const char *root, slice group, const char *file,
                               struct arena *arena, int64_t *limit, och_error *err)
{
    while (group.len > 0 && group.at[group.len - 1] == '/')
        group.len--;
    for (;;) {
        const char *path = arena_printf(arena, "%s%.*s/%s", root, SLICE_ARG(group), file);
        TRY(lower_by_file(io, path, arena, limit, err));
        if (group.len == 0)
            return OCH_OK;
        while (group.len > 0 && group.at[group.len - 1] != '/')
            group.len--;
        if (group.len > 0)
            group.len--;
    }
}

static bool names_memory(slice controllers)
{
    while (controllers.len > 0) {
        const uint8_t *comma = memchr(controllers.at, ',', controllers.len);
        size_t len = comma ? (size_t)(comma - controllers.at) : controllers.len;
        if (slice_equal(slice_make(controllers.at, len), SLICE("memory")))
            return true;
        controllers = slice_from(controllers, comma ? len + 1 : len);
    }
    return false;
}

/* /proc/self/cgroup: "0::/group" in version 2, "4:memory:/group" in version 1. */
static och_code lower_by_groups(struct io *io, slice text, struct arena *arena, int64_t *limit,
                                och_error *err)
{
    slice line;
    while (next_line(&text, &line)) {
        const uint8_t *first = memchr(line.at, ':', line.len);
        if (!first)
            continue;
        slice rest = slice_from(line, (size_t)(first - line.at) + 1);
        const uint8_t *second = memchr(rest.at, ':', rest.len);
        if (!second)
            continue;
        slice controllers = slice_make(rest.at, (size_t)(second - rest.at));
        slice group = slice_from(rest, controllers.len + 1);
        if (group.len > 2048 || memchr(group.at, 0, group.len))
            continue;
        if (controllers.len == 0)
            TRY(lower_by_group(io, "/sys/fs/cgroup", group, "memory.max", arena, limit, err));
        else if (names_memory(controllers))
            TRY(lower_by_group(io, "/sys/fs/cgroup/memory", group, "memory.limit_in_bytes", arena,
                               limit, err));
    }
    return OCH_OK;
}

och_code settings_machine_memory(struct io *io, struct arena *arena, int64_t *ret_bytes,
                                 och_error *err)
{
    int64_t limit = UNLIMITED;
    slice text, line;
    och_code code = settings_read_file(io, "/proc/meminfo", 1u << 20, arena, &text, NULL);
    if (code == OCH_NO_MEMORY)
        return FAIL_NO_MEMORY(err, "a file");
    while (code == OCH_OK && next_line(&text, &line))
        if (slice_starts_with(line, SLICE("MemTotal:")))
            lower(&limit, leading_number(slice_from(line, 9)) * 1024);
    code = settings_read_file(io, "/proc/self/cgroup", 1u << 20, arena, &text, NULL);
    if (code == OCH_NO_MEMORY)
        return FAIL_NO_MEMORY(err, "a file");
    if (code == OCH_OK)
        TRY(lower_by_groups(io, text, arena, &limit, err));
    if (limit == UNLIMITED) { /* neither told */
        long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
        limit = pages > 0 && page > 0 ? (int64_t)pages * page : 1LL << 30;
    }
    *ret_bytes = limit;
    return OCH_OK;
}
