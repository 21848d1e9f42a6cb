/* SPDX-License-Identifier: Apache-2.0 */
/* Ways to damage the files of a simulated disk, one at a time, and to say which. */
#ifndef SUPPORT_DAMAGE_H
#define SUPPORT_DAMAGE_H

#include "support/world.h"

#define DAMAGE_FILES 64

struct damage_file {
    char path[160];
    uint8_t *bytes;
    size_t size, used; /* used: behind the last byte that is not zero */
};
struct damage_files {
    size_t count;
    struct damage_file at[DAMAGE_FILES];
};
enum damage_kind {
    DAMAGE_FLIP,
    DAMAGE_ZERO,
    DAMAGE_NOISE,
    DAMAGE_TRUNCATE,
    DAMAGE_SWAP,
    DAMAGE_REPLACE,
    DAMAGE_REMOVE,
    DAMAGE_KINDS
};
struct damage {
    enum damage_kind kind;
    const struct damage_file *file, *other;
    size_t from, len, to; /* to: of a swap */
    uint8_t bit;
};

static void damage_must(och_code code, const och_error *err)
{
    if (code != OCH_OK)
        fail_msg("damaging: %s", err->message);
}

static void damage_add_file(struct io *io, const char *path, struct damage_files *files)
{
    och_error err = {0};
    struct file *file;
    uint64_t size;
    assert_true(files->count < DAMAGE_FILES);
    struct damage_file *f = &files->at[files->count++];
    *f = (struct damage_file){0};
    (void)snprintf(f->path, sizeof(f->path), "%s", path);
    damage_must(io_open(io, path, 0, &file, &err), &err);
    damage_must(file_size(file, &size, &err), &err);
    f->bytes = calloc(1, size + 1);
    assert_non_null(f->bytes);
    f->size = (size_t)size;
    damage_must(file_read_all(file, 0, f->bytes, f->size, &err), &err);
    file_close(file);
    for (f->used = f->size; f->used > 0 && !f->bytes[f->used - 1];)
        f->used--;
}

/* All files below three levels of folders. */
static void damage_list(struct io *io, struct damage_files *files)
{
    struct arena arena;
    arena_init(&arena, NULL, 0);
    const char *folders[DAMAGE_FILES] = {"data"};
    size_t folder_count = 1;
    och_error err = {0};
    files->count = 0;
    for (size_t i = 0; i < folder_count; i++) {
        struct io_entry *entries;
        size_t count;
        damage_must(io_list(io, folders[i], &arena, &entries, &count, &err), &err);
        for (size_t e = 0; e < count; e++) {
            const char *path = arena_printf(&arena, "%s/%s", folders[i], entries[e].name);
            if (!entries[e].is_folder) {
                damage_add_file(io, path, files);
            } else {
                assert_true(folder_count < DAMAGE_FILES);
                folders[folder_count++] = path;
            }
        }
    }
    arena_done(&arena);
}

static void damage_files_free(struct damage_files *files)
{
    for (size_t i = 0; i < files->count; i++)
        free(files->at[i].bytes);
    files->count = 0;
}

/* A place that matters more often than not: most of a log segment is zeros. */
static size_t damage_place(struct random *r, const struct damage_file *file)
{
    size_t reach = file->used && random_below(r, 8) ? file->used : file->size;
    size_t at = reach ? (size_t)random_below(r, reach) : 0;
    for (int i = 0; i < 8 && at < file->size && !file->bytes[at]; i++)
        at = (size_t)random_below(r, reach);
    return at;
}

static struct damage damage_draw(struct random *r, const struct damage_files *files)
{
    static const size_t lengths[] = {1, 8, 64, 512, 4096, 20000, 65536};
    static const enum damage_kind kinds[] = {
        DAMAGE_FLIP, DAMAGE_FLIP, DAMAGE_FLIP,     DAMAGE_FLIP,     DAMAGE_FLIP,    DAMAGE_FLIP,
        DAMAGE_ZERO, DAMAGE_ZERO, DAMAGE_ZERO,     DAMAGE_NOISE,    DAMAGE_NOISE,   DAMAGE_SWAP,
        DAMAGE_SWAP, DAMAGE_SWAP, DAMAGE_TRUNCATE, DAMAGE_TRUNCATE, DAMAGE_REPLACE, DAMAGE_REMOVE};
    struct damage d = {.kind = kinds[random_below(r, COUNT_OF(kinds))]};
    do
        d.file = &files->at[random_below(r, files->count)];
    while (d.file->size < 256 && random_below(r, 16));
    d.other = &files->at[random_below(r, files->count)];
    d.from = damage_place(r, d.file);
    d.len = lengths[random_below(r, COUNT_OF(lengths))];
    d.bit = (uint8_t)(1u << random_below(r, 8));
    switch (d.kind) {
    case DAMAGE_SWAP:
        d.len = random_below(r, 2) ? 4096 : 512;
        d.to = damage_place(r, d.file) / d.len * d.len;
        d.from = d.from / d.len * d.len;
        break;
    case DAMAGE_TRUNCATE:
        d.from = random_below(r, 6) ? d.from : 0;
        d.len = SIZE_MAX;
        break;
    case DAMAGE_REPLACE:
    case DAMAGE_REMOVE:
        d.from = 0;
        d.len = SIZE_MAX;
        break;
    case DAMAGE_FLIP:
        d.len = 1;
        break;
    default:
        break;
    }
    return d;
}

static void damage_text(const struct damage *d, char *text, size_t size)
{
    static const char *const names[DAMAGE_KINDS] = {
        [DAMAGE_FLIP] = "flip",         [DAMAGE_ZERO] = "zero", [DAMAGE_NOISE] = "noise",
        [DAMAGE_TRUNCATE] = "truncate", [DAMAGE_SWAP] = "swap", [DAMAGE_REPLACE] = "replace",
        [DAMAGE_REMOVE] = "remove"};
    (void)snprintf(text, size, "%s %s at %zu len %zu to %zu bit %u, other %s", names[d->kind],
                   d->file->path, d->from, d->len, d->to, d->bit, d->other->path);
}

/* False when it changes nothing. */
static bool damage_bytes(const struct damage *d, struct random *r, uint8_t *bytes)
{
    size_t size = d->file->size, from = d->from, len = d->len;
    if (d->kind == DAMAGE_SWAP) {
        if (from + len > size || d->to + len > size || from == d->to)
            return false;
        memcpy(bytes + from, d->file->bytes + d->to, len);
        memcpy(bytes + d->to, d->file->bytes + from, len);
    } else if (from < size) {
        len = len < size - from ? len : size - from;
        if (d->kind == DAMAGE_ZERO)
            memset(bytes + from, 0, len);
        else if (d->kind == DAMAGE_NOISE)
            random_fill(r, bytes + from, len);
        else
            bytes[from] ^= d->bit;
    }
    return memcmp(bytes, d->file->bytes, size) != 0;
}

/* Do it to an image.  False when it changes nothing. */
static bool damage_do(const struct damage *d, struct random *r, struct io *io)
{
    och_error err = {0};
    struct file *file;
    if (d->kind == DAMAGE_REMOVE) {
        damage_must(io_remove(io, d->file->path, &err), &err);
        return true;
    }
    bool changed = true;
    damage_must(io_open(io, d->file->path, IO_WRITE, &file, &err), &err);
    if (d->kind == DAMAGE_TRUNCATE) {
        changed = d->from < d->file->size;
        damage_must(file_truncate(file, d->from, &err), &err);
    } else if (d->kind == DAMAGE_REPLACE) {
        changed = d->other != d->file;
        damage_must(file_truncate(file, 0, &err), &err);
        damage_must(file_write(file, 0, d->other->bytes, d->other->size, &err), &err);
    } else {
        uint8_t *bytes = malloc(d->file->size + 1);
        assert_non_null(bytes);
        memcpy(bytes, d->file->bytes, d->file->size);
        changed = damage_bytes(d, r, bytes);
        if (changed)
            damage_must(file_write(file, 0, bytes, d->file->size, &err), &err);
        free(bytes);
    }
    file_close(file);
    return changed;
}
#endif
