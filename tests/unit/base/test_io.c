/* SPDX-License-Identifier: Apache-2.0 */
/* What every io promises, run against the machine's files and the simulated disk alike. */
#include "base/buf.h"
#include "base/io_sim.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

struct ground {
    struct io *io;
    struct arena arena;
    char root[64];
    bool real;
};

static const char *at(struct ground *ground, const char *name)
{
    return arena_printf(&ground->arena, "%s/%s", ground->root, name);
}

static int begin(void **state, bool real)
{
    struct ground *ground = MEM_NEW(struct ground);
    arena_init(&ground->arena, NULL, 0);
    ground->real = real;
    if (real) {
        const char *base = getenv("TMPDIR");
        (void)snprintf(ground->root, sizeof(ground->root), "%.40s/ochre_io_XXXXXX",
                       base && *base ? base : "/tmp");
        ground->io = io_posix();
        if (!mkdtemp(ground->root))
            return -1;
    } else {
        ground->io = io_sim_new(true);
        (void)snprintf(ground->root, sizeof(ground->root), "/data");
        if (io_make_folder(ground->io, ground->root, NULL) != OCH_OK)
            return -1;
    }
    *state = ground;
    return 0;
}

static int begin_real(void **state)
{
    return begin(state, true);
}

static int begin_sim(void **state)
{
    return begin(state, false);
}

/* The tests nest folders three deep at most. */
static void remove_all(struct ground *ground, const char *path)
{
    struct io_entry *entries;
    size_t count;
    assert_int_equal(io_list(ground->io, path, &ground->arena, &entries, &count, NULL), OCH_OK);
    for (size_t i = 0; i < count; i++) {
        const char *inner = arena_printf(&ground->arena, "%s/%s", path, entries[i].name);
        if (entries[i].is_folder)
            remove_all(ground, inner);
        else
            assert_int_equal(io_remove(ground->io, inner, NULL), OCH_OK);
    }
    assert_int_equal(io_remove(ground->io, path, NULL), OCH_OK);
}

static int finish(void **state)
{
    struct ground *ground = *state;
    remove_all(ground, ground->root);
    if (!ground->real)
        io_sim_free(ground->io);
    arena_done(&ground->arena);
    mem_free(ground);
    return 0;
}

static struct file *opened(struct ground *ground, const char *name, unsigned flags)
{
    struct file *file = NULL;
    assert_int_equal(io_open(ground->io, at(ground, name), flags, &file, NULL), OCH_OK);
    return file;
}

static void put(struct ground *ground, const char *name, const char *text)
{
    struct file *file = opened(ground, name, IO_WRITE | IO_CREATE | IO_TRUNCATE);
    assert_int_equal(file_write(file, 0, text, strlen(text), NULL), OCH_OK);
    file_close(file);
}

static slice get(struct ground *ground, const char *name)
{
    struct file *file = opened(ground, name, 0);
    uint64_t size = 0;
    size_t len = 0;
    assert_int_equal(file_size(file, &size, NULL), OCH_OK);
    uint8_t *text = arena_alloc(&ground->arena, size + 1);
    assert_int_equal(file_read(file, 0, text, size + 1, &len, NULL), OCH_OK);
    assert_int_equal(len, size);
    file_close(file);
    return slice_make(text, len);
}

static void opening_obeys_its_flags(void **state)
{
    struct ground *ground = *state;
    struct file *file;
    och_error err = {0};
    assert_int_equal(io_open(ground->io, at(ground, "a"), 0, &file, &err), OCH_NOT_FOUND);
    assert_int_equal(err.os_errno, ENOENT);
    assert_non_null(strstr(err.message, at(ground, "a")));
    assert_int_equal(io_open(ground->io, at(ground, "a"), IO_WRITE, &file, NULL), OCH_NOT_FOUND);
    assert_int_equal(io_open(ground->io, at(ground, "no/a"), IO_WRITE | IO_CREATE, &file, NULL),
                     OCH_NOT_FOUND);
    put(ground, "a", "hello");
    assert_int_equal(
        io_open(ground->io, at(ground, "a"), IO_WRITE | IO_CREATE | IO_EXCLUSIVE, &file, NULL),
        OCH_EXISTS);
    file = opened(ground, "a", IO_WRITE | IO_CREATE);
    assert_string_equal(file_path(file), at(ground, "a"));
    file_close(file);
    assert_true(slice_equal(get(ground, "a"), SLICE("hello")));
    file_close(opened(ground, "a", IO_WRITE | IO_TRUNCATE));
    assert_int_equal(get(ground, "a").len, 0);
    CLEANUP(file_cleanup) struct file *reader = opened(ground, "a", 0);
    assert_int_equal(file_write(reader, 0, "x", 1, NULL), OCH_IO);
    assert_int_equal(file_truncate(reader, 3, NULL) != OCH_OK, true);
    file_close(NULL);
    assert_int_equal(io_open(ground->io, ground->root, IO_WRITE, &file, NULL), OCH_IO);
    assert_int_equal(io_open(ground->io, at(ground, "a/b"), 0, &file, NULL), OCH_IO);
}

static void bytes_are_read_back_from_where_they_were_written(void **state)
{
    struct ground *ground = *state;
    struct file *file = opened(ground, "f", IO_WRITE | IO_CREATE);
    char text[16] = {0};
    size_t len = 99;
    och_error err = {0};
    assert_int_equal(file_write(file, 100000, "end", 3, NULL), OCH_OK);
    assert_int_equal(file_write(file, 1, "start", 5, NULL), OCH_OK);
    assert_int_equal(file_read(file, 0, text, 8, &len, NULL), OCH_OK);
    assert_int_equal(len, 8);
    assert_memory_equal(text, "\0start\0\0", 8);
    assert_int_equal(file_read(file, 99999, text, 16, &len, NULL), OCH_OK);
    assert_int_equal(len, 4);
    assert_memory_equal(text, "\0end", 4);
    assert_int_equal(file_read(file, 500000, text, 16, &len, NULL), OCH_OK);
    assert_int_equal(len, 0);
    assert_int_equal(file_read_all(file, 100000, text, 3, NULL), OCH_OK);
    assert_int_equal(file_read_all(file, 100000, text, 4, &err), OCH_CORRUPT);
    assert_non_null(strstr(err.message, "ends at byte 100003"));
    assert_int_equal(file_read(file, UINT64_MAX - 2, text, 16, &len, NULL) == OCH_OK && len != 0,
                     false);
    assert_int_equal(file_write(file, UINT64_MAX - 2, text, 16, NULL), OCH_IO);
    assert_int_equal(file_sync(file, NULL), OCH_OK);
    file_close(file);
}

static void many_parts_are_written_in_one_call(void **state)
{
    struct ground *ground = *state;
    struct file *file = opened(ground, "v", IO_WRITE | IO_CREATE);
    struct iovec parts[300];
    uint8_t bytes[300 * 7], back[300 * 7];
    size_t len = 0;
    for (size_t i = 0; i < COUNT_OF(parts); i++) {
        parts[i] = (struct iovec){bytes + len, i % 7};
        for (size_t j = 0; j < i % 7; j++, len++)
            bytes[len] = (uint8_t)(len * 31);
    }
    assert_int_equal(file_write_v(file, 5, parts, COUNT_OF(parts), NULL), OCH_OK);
    assert_int_equal(file_read_all(file, 5, back, len, NULL), OCH_OK);
    assert_memory_equal(bytes, back, len);
    assert_int_equal(file_write_v(file, 0, parts, 0, NULL), OCH_OK);
    uint64_t size;
    assert_int_equal(file_size(file, &size, NULL), OCH_OK);
    assert_int_equal(size, len + 5);
    file_close(file);
}

static void sizes_grow_shrink_and_read_as_zeros(void **state)
{
    struct ground *ground = *state;
    struct file *file = opened(ground, "s", IO_WRITE | IO_CREATE);
    uint8_t big[70000], back[70000];
    uint64_t size;
    memset(big, 7, sizeof(big));
    assert_int_equal(file_write(file, 0, big, sizeof(big), NULL), OCH_OK);
    assert_int_equal(file_truncate(file, 5000, NULL), OCH_OK);
    assert_int_equal(file_truncate(file, 60000, NULL), OCH_OK);
    assert_int_equal(file_read_all(file, 0, back, 60000, NULL), OCH_OK);
    for (size_t i = 0; i < 60000; i++)
        assert_int_equal(back[i], i < 5000 ? 7 : 0);
    assert_int_equal(file_allocate(file, 0, 1000, NULL), OCH_OK); // never shrinks
    assert_int_equal(file_size(file, &size, NULL), OCH_OK);
    assert_int_equal(size, 60000);
    assert_int_equal(file_allocate(file, 50000, 50000, NULL), OCH_OK);
    assert_int_equal(file_size(file, &size, NULL), OCH_OK);
    assert_int_equal(size, 100000);
    assert_int_equal(file_allocate(file, UINT64_MAX - 10, 50000, NULL), OCH_IO);
    assert_int_equal(file_truncate(file, UINT64_MAX, NULL), OCH_IO);
    assert_int_equal(file_write(file, 0, big, sizeof(big), NULL), OCH_OK);
    och_code code = file_punch(file, 4096, 8192, NULL);
    assert_true(code == OCH_OK || (ground->real && code == OCH_UNSUPPORTED));
    assert_int_equal(file_read_all(file, 0, back, sizeof(back), NULL), OCH_OK);
    for (size_t i = 0; i < sizeof(back); i++)
        assert_int_equal(back[i], code == OCH_OK && i >= 4096 && i < 4096 + 8192 ? 0 : 7);
    file_close(file);
}

static void folders_are_made_listed_and_removed(void **state)
{
    struct ground *ground = *state;
    struct io_entry *entries, entry;
    size_t count;
    och_error err = {0};
    assert_int_equal(io_make_folder(ground->io, at(ground, "b/c//d/"), NULL), OCH_OK);
    assert_int_equal(io_make_folder(ground->io, at(ground, "b/c/d"), NULL), OCH_OK);
    put(ground, "b/zz", "12345");
    put(ground, "b/a", "");
    put(ground, "b/Z", "1");
    assert_int_equal(io_list(ground->io, at(ground, "b"), &ground->arena, &entries, &count, NULL),
                     OCH_OK);
    assert_int_equal(count, 4);
    static const char *const names[] = {"Z", "a", "c", "zz"};
    static const uint64_t sizes[] = {1, 0, 0, 5};
    for (size_t i = 0; i < 4; i++) {
        assert_string_equal(entries[i].name, names[i]);
        assert_int_equal(entries[i].size, sizes[i]);
        assert_int_equal(entries[i].is_folder, i == 2);
    }
    assert_int_equal(io_stat(ground->io, at(ground, "b/zz"), &entry, NULL), OCH_OK);
    assert_string_equal(entry.name, "zz");
    assert_int_equal(entry.size, 5);
    assert_false(entry.is_folder);
    assert_int_equal(io_stat(ground->io, at(ground, "b"), &entry, NULL), OCH_OK);
    assert_true(entry.is_folder);
    assert_int_equal(io_stat(ground->io, at(ground, "x"), &entry, NULL), OCH_NOT_FOUND);
    assert_int_equal(io_stat(ground->io, at(ground, "b/zz/x"), &entry, NULL), OCH_NOT_FOUND);
    assert_int_equal(io_list(ground->io, at(ground, "x"), &ground->arena, &entries, &count, &err),
                     OCH_NOT_FOUND);
    assert_int_equal(io_list(ground->io, at(ground, "b/a"), &ground->arena, &entries, &count, NULL),
                     OCH_IO);
    assert_int_equal(io_make_folder(ground->io, at(ground, "b/a/x"), NULL), OCH_IO);
    assert_int_equal(io_remove(ground->io, at(ground, "b/c"), NULL), OCH_IO); // not empty
    assert_int_equal(io_remove(ground->io, at(ground, "x"), NULL), OCH_NOT_FOUND);
    assert_int_equal(io_remove(ground->io, at(ground, "b/c/d"), NULL), OCH_OK);
    assert_int_equal(io_sync_folder(ground->io, at(ground, "b"), NULL), OCH_OK);
    assert_int_equal(io_sync_folder(ground->io, at(ground, "x"), NULL), OCH_NOT_FOUND);
    uint64_t space = 0;
    assert_int_equal(io_space(ground->io, ground->root, &space, NULL), OCH_OK);
    assert_true(space > 0);
}

static void renames_replace(void **state)
{
    struct ground *ground = *state;
    och_error err = {0};
    put(ground, "old", "old");
    put(ground, "new", "new");
    struct file *file = opened(ground, "old", 0);
    assert_int_equal(io_rename(ground->io, at(ground, "new"), at(ground, "old"), NULL), OCH_OK);
    assert_true(slice_equal(get(ground, "old"), SLICE("new")));
    char text[3];
    assert_int_equal(file_read_all(file, 0, text, 3, NULL), OCH_OK); // open files keep theirs
    assert_memory_equal(text, "old", 3);
    file_close(file);
    assert_int_equal(io_rename(ground->io, at(ground, "new"), at(ground, "x"), &err),
                     OCH_NOT_FOUND);
    assert_non_null(strstr(err.message, "(to "));
    assert_int_equal(io_rename(ground->io, at(ground, "old"), at(ground, "old"), NULL), OCH_OK);
    assert_int_equal(io_make_folder(ground->io, at(ground, "d/e"), NULL), OCH_OK);
    assert_int_equal(io_rename(ground->io, at(ground, "old"), at(ground, "d/e/f"), NULL), OCH_OK);
    assert_int_equal(io_rename(ground->io, at(ground, "d/e"), at(ground, "g"), NULL), OCH_OK);
    assert_true(slice_equal(get(ground, "g/f"), SLICE("new")));
    assert_int_equal(io_rename(ground->io, at(ground, "g"), at(ground, "g/h"), NULL), OCH_IO);
    assert_int_equal(io_rename(ground->io, at(ground, "g/f"), at(ground, "d"), NULL), OCH_IO);
    assert_int_equal(io_rename(ground->io, at(ground, "d"), at(ground, "g/f"), NULL), OCH_IO);
    assert_int_equal(io_rename(ground->io, at(ground, "d"), at(ground, "g"), NULL) == OCH_OK,
                     false); // g is not empty
}

static void removed_files_stay_with_those_who_opened_them(void **state)
{
    struct ground *ground = *state;
    put(ground, "r", "text");
    struct file *file = opened(ground, "r", IO_WRITE);
    assert_int_equal(io_remove(ground->io, at(ground, "r"), NULL), OCH_OK);
    assert_int_equal(file_write(file, 0, "T", 1, NULL), OCH_OK);
    char text[4];
    assert_int_equal(file_read_all(file, 0, text, 4, NULL), OCH_OK);
    assert_memory_equal(text, "Text", 4);
    assert_int_equal(file_sync(file, NULL), OCH_OK);
    file_close(file);
}

static void a_lock_shuts_out_others_and_names_its_holder(void **state)
{
    struct ground *ground = *state;
    struct file *lock = NULL, *other = NULL;
    slice holder = SLICE_NONE;
    const char *path = at(ground, "lock");
    assert_int_equal(io_lock(ground->io, path, false, &ground->arena, &lock, &holder, NULL),
                     OCH_OK);
    assert_int_equal(file_write(lock, 0, "pid 7 on web1", 13, NULL), OCH_OK);
    for (int shared = 0; shared < 2; shared++) {
        assert_int_equal(io_lock(ground->io, path, shared, &ground->arena, &other, &holder, NULL),
                         OCH_IN_USE);
        assert_true(slice_equal(holder, SLICE("pid 7 on web1")));
        assert_null(other);
    }
    file_close(lock);
    struct file *reader, *reader2;
    assert_int_equal(io_lock(ground->io, path, true, &ground->arena, &reader, &holder, NULL),
                     OCH_OK);
    assert_int_equal(io_lock(ground->io, path, true, NULL, &reader2, NULL, NULL), OCH_OK);
    assert_int_equal(io_lock(ground->io, path, false, NULL, &other, NULL, NULL), OCH_IN_USE);
    file_close(reader);
    assert_int_equal(io_lock(ground->io, path, false, NULL, &other, NULL, NULL), OCH_IN_USE);
    file_close(reader2);
    assert_int_equal(io_lock(ground->io, path, false, NULL, &other, NULL, NULL), OCH_OK);
    file_close(other);
    assert_int_equal(io_lock(ground->io, at(ground, "no/lock"), false, NULL, &other, NULL, NULL),
                     OCH_NOT_FOUND);
}

/* Open, write, list, lock with every allocation failing once: an error each time, nothing lost. */
static void no_memory_is_an_error_like_others(void **state)
{
    struct ground *ground = *state;
    put(ground, "m", "text");
    struct arena arena;
    arena_init(&arena, NULL, 0);
    const char *path = at(ground, "m"), *made = at(ground, "made"), *moved = at(ground, "moved");
    uint64_t live = mem_count_live();
    for (uint64_t nth = 1; nth < 60; nth++) {
        struct file *file = NULL;
        struct io_entry *entries;
        size_t count;
        mem_fail_at(nth);
        if (io_open(ground->io, made, IO_WRITE | IO_CREATE, &file, NULL) == OCH_OK) {
            och_code code = file_write(file, 0, "abc", 3, NULL);
            assert_true(code == OCH_OK || code == OCH_NO_MEMORY);
            code = file_sync(file, NULL);
            assert_true(code == OCH_OK || code == OCH_NO_MEMORY);
            file_close(file);
            code = io_rename(ground->io, made, moved, NULL);
            assert_true(code == OCH_OK || code == OCH_NO_MEMORY);
        }
        och_code code = io_list(ground->io, ground->root, &arena, &entries, &count, NULL);
        assert_true(code == OCH_OK || code == OCH_NO_MEMORY);
        slice holder;
        code = io_lock(ground->io, path, false, &arena, &file, &holder, NULL);
        assert_true(code == OCH_OK || code == OCH_NO_MEMORY);
        if (code == OCH_OK)
            file_close(file);
        mem_fail_at(0);
        arena_done(&arena);
        if (io_remove(ground->io, made, NULL) == OCH_OK)
            assert_int_equal(io_remove(ground->io, made, NULL), OCH_NOT_FOUND);
        och_code gone = io_remove(ground->io, moved, NULL);
        assert_true(gone == OCH_OK || gone == OCH_NOT_FOUND);
        assert_int_equal(io_sync_folder(ground->io, ground->root, NULL), OCH_OK);
        assert_true(slice_equal(get(ground, "m"), SLICE("text")));
        if (ground->real)
            assert_true(mem_count_live() - live < 3); // the ground's own arena may have grown
    }
}

static void descriptors_do_not_survive_an_exec(void **state)
{
    struct ground *ground = *state;
    int next = dup(0); // the next free descriptor
    assert_true(next >= 0);
    (void)close(next);
    struct file *file = opened(ground, "c", IO_WRITE | IO_CREATE);
    assert_int_equal(fcntl(next, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    file_close(file);
    assert_int_equal(fcntl(next, F_GETFD), -1);
}

#define BOTH(test)                                          \
    {#test " (machine)", test, begin_real, finish, NULL},   \
    {                                                       \
#test " (simulated)", test, begin_sim, finish, NULL \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(opening_obeys_its_flags),
        BOTH(bytes_are_read_back_from_where_they_were_written),
        BOTH(many_parts_are_written_in_one_call),
        BOTH(sizes_grow_shrink_and_read_as_zeros),
        BOTH(folders_are_made_listed_and_removed),
        BOTH(renames_replace),
        BOTH(removed_files_stay_with_those_who_opened_them),
        BOTH(a_lock_shuts_out_others_and_names_its_holder),
        BOTH(no_memory_is_an_error_like_others),
        cmocka_unit_test_setup_teardown(descriptors_do_not_survive_an_exec, begin_real, finish),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
