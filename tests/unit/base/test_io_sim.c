/* SPDX-License-Identifier: Apache-2.0 */
/* The simulated disk: what a power cut may take and what never, faults on order, a full disk. */
#include "base/buf.h"
#include "base/io_sim.h"
#include "base/sched.h"

#include <errno.h>
#include <setjmp.h>
#include <stdio.h>

#include <cmocka.h>

#define CUTS 400

static struct file *opened(struct io *io, const char *path, unsigned flags)
{
    struct file *file = NULL;
    assert_int_equal(io_open(io, path, flags, &file, NULL), OCH_OK);
    return file;
}

static void put(struct io *io, const char *path, const char *text, bool sync)
{
    struct file *file = opened(io, path, IO_WRITE | IO_CREATE);
    assert_int_equal(file_write(file, 0, text, strlen(text), NULL), OCH_OK);
    if (sync)
        assert_int_equal(file_sync(file, NULL), OCH_OK);
    file_close(file);
}

/* The file's content with a NUL behind; NULL when it is not there. */
static const char *get(struct io *io, const char *path, struct arena *arena, uint64_t *ret_size)
{
    struct file *file;
    if (io_open(io, path, 0, &file, NULL) != OCH_OK)
        return NULL;
    assert_int_equal(file_size(file, ret_size, NULL), OCH_OK);
    char *text = arena_zalloc(arena, *ret_size + 1);
    assert_int_equal(file_read_all(file, 0, text, *ret_size, NULL), OCH_OK);
    file_close(file);
    return text;
}

static void what_was_synced_survives_every_power_cut(void **state)
{
    (void)state;
    struct io *io = io_sim_new(true);
    assert_int_equal(io_make_folder(io, "a/b", NULL), OCH_OK);
    put(io, "a/b/f", "durable", true);
    assert_int_equal(io_sync_folder(io, "a/b", NULL), OCH_OK);
    // much happens afterwards, elsewhere and without sync
    for (int i = 0; i < 30; i++) {
        char path[32];
        (void)snprintf(path, sizeof(path), "a/b/g%d", i);
        put(io, path, "x", i % 2);
        if (i % 3 == 0)
            assert_int_equal(io_rename(io, path, "a/other", NULL), OCH_OK);
        if (i % 3 == 1)
            assert_int_equal(io_remove(io, path, NULL), OCH_OK);
    }
    for (uint64_t seed = 0; seed < CUTS; seed++) {
        struct arena arena;
        uint64_t size;
        struct io *cut = io_sim_power_cut(io, seed);
        arena_init(&arena, NULL, 0);
        assert_string_equal(get(cut, "a/b/f", &arena, &size), "durable");
        // and what the machine finds is durable itself
        struct io *again = io_sim_power_cut(cut, seed);
        assert_string_equal(get(again, "a/b/f", &arena, &size), "durable");
        io_sim_free(again);
        io_sim_free(cut);
        arena_done(&arena);
    }
    io_sim_free(io);
}

static void an_unsynced_name_comes_and_goes_but_a_synced_one_stays(void **state)
{
    (void)state;
    struct io *io = io_sim_new(true);
    put(io, "synced", "1", true);
    assert_int_equal(io_sync_folder(io, "", NULL), OCH_OK);
    put(io, "made", "2", true); // data synced, name not
    assert_int_equal(io_remove(io, "synced", NULL), OCH_OK);
    size_t made = 0, removed = 0, crossed = 0;
    for (uint64_t seed = 0; seed < CUTS; seed++) {
        struct arena arena;
        uint64_t size;
        struct io *cut = io_sim_power_cut(io, seed);
        arena_init(&arena, NULL, 0);
        const char *text = get(cut, "made", &arena, &size);
        assert_true(!text || strcmp(text, "2") == 0);
        bool gone = get(cut, "synced", &arena, &size) == NULL;
        made += text != NULL;
        removed += gone;
        crossed += !text && gone; // the later change without the earlier
        io_sim_free(cut);
        arena_done(&arena);
    }
    assert_in_range(made, CUTS / 10, CUTS * 9 / 10);
    assert_in_range(removed, CUTS / 10, CUTS * 9 / 10);
    assert_true(crossed > 0);
    assert_int_equal(io_sync_folder(io, "/", NULL), OCH_OK);
    struct io *cut = io_sim_power_cut(io, 1);
    struct io_entry entry;
    assert_int_equal(io_stat(cut, "made", &entry, NULL), OCH_OK);
    assert_int_equal(io_stat(cut, "synced", &entry, NULL), OCH_NOT_FOUND);
    io_sim_free(cut);
    io_sim_free(io);
}

static void a_rename_is_old_or_new_never_none_or_both(void **state)
{
    (void)state;
    struct io *io = io_sim_new(true);
    assert_int_equal(io_make_folder(io, "d", NULL), OCH_OK);
    put(io, "x", "old", true);
    put(io, "moved", "m", true);
    assert_int_equal(io_sync_folder(io, ".", NULL), OCH_OK);
    put(io, "x.new", "new", true);
    assert_int_equal(io_rename(io, "x.new", "x", NULL), OCH_OK);
    assert_int_equal(io_rename(io, "moved", "d/moved", NULL), OCH_OK);
    size_t fresh = 0, left = 0;
    for (uint64_t seed = 0; seed < CUTS; seed++) {
        struct arena arena;
        uint64_t size;
        struct io_entry entry;
        struct io *cut = io_sim_power_cut(io, seed);
        arena_init(&arena, NULL, 0);
        const char *text = get(cut, "x", &arena, &size);
        assert_non_null(text);
        bool is_new = strcmp(text, "new") == 0;
        assert_true(is_new || strcmp(text, "old") == 0);
        bool temporary = io_stat(cut, "x.new", &entry, NULL) == OCH_OK;
        assert_false(is_new && temporary);
        fresh += is_new;
        left += temporary;
        bool here = io_stat(cut, "moved", &entry, NULL) == OCH_OK;
        bool there = io_stat(cut, "d/moved", &entry, NULL) == OCH_OK;
        assert_true(here != there);
        io_sim_free(cut);
        arena_done(&arena);
    }
    assert_in_range(fresh, CUTS / 10, CUTS * 9 / 10);
    assert_true(left > 0);
    // syncing the target's folder brings along what the rename was made of
    put(io, "n", "n", true);
    assert_int_equal(io_rename(io, "n", "d/n", NULL), OCH_OK);
    assert_int_equal(io_sync_folder(io, "d", NULL), OCH_OK);
    for (uint64_t seed = 0; seed < CUTS; seed++) {
        struct io_entry entry;
        struct io *cut = io_sim_power_cut(io, seed);
        assert_int_equal(io_stat(cut, "d/n", &entry, NULL), OCH_OK);
        assert_int_equal(io_stat(cut, "n", &entry, NULL), OCH_NOT_FOUND);
        assert_int_equal(io_stat(cut, "d/moved", &entry, NULL), OCH_OK);
        io_sim_free(cut);
    }
    // and so does syncing the source's
    assert_int_equal(io_rename(io, "d/n", "back", NULL), OCH_OK);
    assert_int_equal(io_sync_folder(io, "d", NULL), OCH_OK);
    for (uint64_t seed = 0; seed < CUTS; seed++) {
        struct io_entry entry;
        struct io *cut = io_sim_power_cut(io, seed);
        assert_int_equal(io_stat(cut, "back", &entry, NULL), OCH_OK);
        assert_int_equal(io_stat(cut, "d/n", &entry, NULL), OCH_NOT_FOUND);
        io_sim_free(cut);
    }
    io_sim_free(io);
}

/* x moves away, z takes its place: in any outcome both contents are still somewhere. */
static void changes_of_one_name_keep_their_order(void **state)
{
    (void)state;
    struct io *io = io_sim_new(true);
    put(io, "x", "X", true);
    put(io, "z", "Z", true);
    assert_int_equal(io_sync_folder(io, "", NULL), OCH_OK);
    assert_int_equal(io_rename(io, "x", "y", NULL), OCH_OK);
    assert_int_equal(io_rename(io, "z", "x", NULL), OCH_OK);
    size_t half = 0;
    for (uint64_t seed = 0; seed < CUTS; seed++) {
        struct arena arena;
        uint64_t size;
        struct io *cut = io_sim_power_cut(io, seed);
        arena_init(&arena, NULL, 0);
        const char *x = get(cut, "x", &arena, &size), *y = get(cut, "y", &arena, &size);
        const char *z = get(cut, "z", &arena, &size);
        assert_true((x && *x == 'X') != (y && *y == 'X'));
        assert_true((x && *x == 'Z') != (z && *z == 'Z'));
        half += !x;
        io_sim_free(cut);
        arena_done(&arena);
    }
    assert_true(half > 0);
    io_sim_free(io);
}

/* Old content 'a', new 'b', over ten sectors, with a partial one at each end. */
static void an_overwrite_tears_at_sectors(void **state)
{
    (void)state;
    struct io *io = io_sim_new(true);
    struct file *file = opened(io, "f", IO_WRITE | IO_CREATE);
    char text[5120], found[5120];
    memset(text, 'a', sizeof(text));
    assert_int_equal(file_write(file, 0, text, sizeof(text), NULL), OCH_OK);
    assert_int_equal(file_sync(file, NULL), OCH_OK);
    assert_int_equal(io_sync_folder(io, "", NULL), OCH_OK);
    memset(text, 'b', sizeof(text));
    assert_int_equal(file_write(file, 100, text, 4900, NULL), OCH_OK);
    memset(text, 'c', sizeof(text));
    assert_int_equal(file_write(file, 1000, text, 100, NULL), OCH_OK);
    size_t torn = 0, none = 0, all = 0, late_only = 0;
    for (uint64_t seed = 0; seed < CUTS; seed++) {
        struct io *cut = io_sim_power_cut(io, seed);
        struct file *other = opened(cut, "f", 0);
        uint64_t size;
        assert_int_equal(file_size(other, &size, NULL), OCH_OK);
        assert_int_equal(size, 5120);
        assert_int_equal(file_read_all(other, 0, found, sizeof(found), NULL), OCH_OK);
        size_t taken = 0;
        for (size_t sector = 0; sector < 10; sector++) {
            char kind = found[sector * 512 + 200];
            assert_true(kind == 'a' || kind == 'b');
            taken += kind == 'b';
            for (size_t i = sector * 512; i < sector * 512 + 512; i++) {
                bool in_c = i >= 1000 && i < 1100;
                bool inside = i >= 100 && i < 5000;
                // a later write to a sector never arrives without the earlier one
                assert_true(found[i] == (inside ? kind : 'a') ||
                            (in_c && kind == 'b' && found[i] == 'c'));
            }
        }
        torn += taken > 0 && taken < 10;
        none += taken == 0;
        all += taken == 10;
        late_only += found[1023] != 'c' && found[1024] == 'c'; // the small write tore too
        file_close(other);
        io_sim_free(cut);
    }
    assert_true(torn > CUTS / 5);
    assert_true(none > CUTS / 20);
    assert_true(all > CUTS / 20);
    assert_true(late_only > 0);
    file_close(file);
    io_sim_free(io);
}

/* The synced half stands; the grown half is missing, short, zeros, garbage, or there. */
static void growth_without_sync_may_come_in_any_shape(void **state)
{
    (void)state;
    struct io *io = io_sim_new(true);
    struct file *file = opened(io, "f", IO_WRITE | IO_CREATE);
    char text[8192], found[8192];
    memset(text, 'a', sizeof(text));
    assert_int_equal(file_write(file, 0, text, 4096, NULL), OCH_OK);
    assert_int_equal(file_sync(file, NULL), OCH_OK);
    assert_int_equal(io_sync_folder(io, "", NULL), OCH_OK);
    memset(text + 4096, 'b', 4096);
    for (size_t i = 4096; i < 8192; i += 1024)
        assert_int_equal(file_write(file, i, text + i, 1024, NULL), OCH_OK);
    size_t same = 0, whole = 0, part = 0, zeros = 0, garbage = 0;
    for (uint64_t seed = 0; seed < 2 * CUTS; seed++) {
        struct io *cut = io_sim_power_cut(io, seed);
        struct file *other = opened(cut, "f", 0);
        uint64_t size;
        assert_int_equal(file_size(other, &size, NULL), OCH_OK);
        assert_true(size >= 4096 && size <= 8192 && size % 1024 == 0);
        assert_int_equal(file_read_all(other, 0, found, size, NULL), OCH_OK);
        assert_memory_equal(found, text, 4096);
        same += size == 4096;
        part += size > 4096 && size < 8192;
        whole += size == 8192 && memcmp(found, text, 8192) == 0;
        for (size_t i = 4096; i < size; i += 512) {
            zeros += found[i] == 0 && found[i + 1] == 0;
            garbage += found[i] != 0 && found[i] != 'b';
        }
        file_close(other);
        io_sim_free(cut);
    }
    assert_true(same > 0 && part > 0 && whole > 0 && zeros > 0 && garbage > 0);
    file_close(file);
    io_sim_free(io);
}

/* Space that was reserved and synced reads as zeros or as what was written, never as garbage. */
static void reserved_and_synced_space_is_never_garbage(void **state)
{
    (void)state;
    struct io *io = io_sim_new(true);
    struct file *file = opened(io, "f", IO_WRITE | IO_CREATE);
    char text[4096], found[4096];
    memset(text, 'b', sizeof(text));
    assert_int_equal(file_allocate(file, 0, 1 << 20, NULL), OCH_OK);
    assert_int_equal(file_sync(file, NULL), OCH_OK);
    assert_int_equal(io_sync_folder(io, "", NULL), OCH_OK);
    assert_int_equal(file_write(file, 0, text, sizeof(text), NULL), OCH_OK);
    for (uint64_t seed = 0; seed < CUTS; seed++) {
        struct io *cut = io_sim_power_cut(io, seed);
        struct file *other = opened(cut, "f", 0);
        uint64_t size;
        assert_int_equal(file_size(other, &size, NULL), OCH_OK);
        assert_int_equal(size, 1 << 20);
        assert_int_equal(file_read_all(other, 0, found, sizeof(found), NULL), OCH_OK);
        for (size_t i = 0; i < sizeof(found); i++)
            assert_true(found[i] == 0 || found[i] == 'b');
        file_close(other);
        io_sim_free(cut);
    }
    file_close(file);
    io_sim_free(io);
}

static void a_truncation_happens_whole_or_not_at_all(void **state)
{
    (void)state;
    struct io *io = io_sim_new(true);
    put(io, "f", "aaaaaaaaaa", true);
    assert_int_equal(io_sync_folder(io, "", NULL), OCH_OK);
    struct file *file = opened(io, "f", IO_WRITE);
    assert_int_equal(file_truncate(file, 4, NULL), OCH_OK);
    assert_int_equal(file_truncate(file, 8, NULL), OCH_OK);
    size_t seen[9] = {0};
    for (uint64_t seed = 0; seed < CUTS; seed++) {
        struct arena arena;
        uint64_t size;
        struct io *cut = io_sim_power_cut(io, seed);
        arena_init(&arena, NULL, 0);
        const char *text = get(cut, "f", &arena, &size);
        assert_true(size == 10 || size == 4 || size == 8);
        assert_memory_equal(text, size == 10 ? "aaaaaaaaaa" : "aaaa\0\0\0\0", size);
        seen[size == 10 ? 0 : size]++;
        io_sim_free(cut);
        arena_done(&arena);
    }
    assert_true(seen[0] > 0 && seen[4] > 0 && seen[8] > 0);
    file_close(file);
    io_sim_free(io);
}

/* The kernel drops the pages of a failed sync: a second one that succeeds proves nothing (D11). */
static void a_failed_sync_is_not_repaired_by_the_next(void **state)
{
    (void)state;
    struct io *io = io_sim_new(true);
    struct file *file = opened(io, "f", IO_WRITE | IO_CREATE);
    assert_int_equal(file_truncate(file, 4, NULL), OCH_OK);
    assert_int_equal(file_sync(file, NULL), OCH_OK);
    assert_int_equal(io_sync_folder(io, "", NULL), OCH_OK);
    assert_int_equal(file_write(file, 0, "lost", 4, NULL), OCH_OK);
    io_sim_fail_at(io, IO_SIM_SYNC, 1, EIO, false);
    och_error err = {0};
    assert_int_equal(file_sync(file, &err), OCH_IO);
    assert_int_equal(err.os_errno, EIO);
    assert_int_equal(file_sync(file, NULL), OCH_OK);
    char text[4];
    assert_int_equal(file_read_all(file, 0, text, 4, NULL), OCH_OK);
    assert_memory_equal(text, "lost", 4); // programs still see it
    struct io *cut = io_sim_power_cut(io, 5);
    struct file *other = opened(cut, "f", 0);
    assert_int_equal(file_read_all(other, 0, text, 4, NULL), OCH_OK);
    assert_memory_equal(text, "\0\0\0\0", 4);
    file_close(other);
    file_close(file);
    io_sim_free(cut);
    io_sim_free(io);
}

/* ---- random histories ---- */

#define FILES      6
#define MODEL_SIZE 6000

struct model { /* of one file that keeps its name */
    uint8_t now[MODEL_SIZE], synced[MODEL_SIZE];
    uint64_t now_size, synced_size;
    bool since[MODEL_SIZE]; /* byte was changed since the last sync */
    bool dirty;
};

static void model_step(struct io *io, struct random *random, struct model *models)
{
    size_t i = random_below(random, FILES);
    struct model *model = &models[i];
    char path[16];
    (void)snprintf(path, sizeof(path), "d/f%zu", i);
    struct file *file = opened(io, path, IO_WRITE);
    uint64_t offset = random_below(random, MODEL_SIZE - 1);
    uint64_t len = random_below(random, MODEL_SIZE - offset);
    switch (random_below(random, 6)) {
    case 0:
        assert_int_equal(file_sync(file, NULL), OCH_OK);
        memcpy(model->synced, model->now, MODEL_SIZE);
        model->synced_size = model->now_size;
        memset(model->since, 0, sizeof(model->since));
        model->dirty = false;
        break;
    case 1:
        assert_int_equal(file_truncate(file, offset, NULL), OCH_OK);
        if (offset < model->now_size) {
            memset(model->now + offset, 0, MODEL_SIZE - offset);
            memset(model->since + offset, 1, MODEL_SIZE - offset);
        }
        model->now_size = offset;
        model->dirty = true;
        break;
    case 2:
        assert_int_equal(file_punch(file, offset, len, NULL), OCH_OK);
        memset(model->now + offset, 0, len);
        memset(model->since + offset, 1, len);
        model->dirty = true;
        break;
    default: {
        uint8_t bytes[MODEL_SIZE];
        random_fill(random, bytes, len);
        assert_int_equal(file_write(file, offset, bytes, len, NULL), OCH_OK);
        if (len) {
            memcpy(model->now + offset, bytes, len);
            memset(model->since + offset, 1, len);
            model->now_size = offset + len > model->now_size ? offset + len : model->now_size;
        }
        model->dirty = true;
        break;
    }
    }
    file_close(file);
}

static void check_model(struct io *io, const struct model *models, bool now)
{
    for (size_t i = 0; i < FILES; i++) {
        struct arena arena;
        char path[16];
        uint64_t size = 0;
        (void)snprintf(path, sizeof(path), "d/f%zu", i);
        arena_init(&arena, NULL, 0);
        const uint8_t *text = (const uint8_t *)get(io, path, &arena, &size);
        assert_non_null(text);
        const struct model *model = &models[i];
        if (now || !model->dirty) {
            assert_int_equal(size, model->now_size);
            assert_memory_equal(text, model->now, size);
        }
        for (size_t at = 0; !now && at < size && at < model->synced_size; at++) {
            if (!model->since[at])
                assert_int_equal(text[at], model->synced[at]);
        }
        arena_done(&arena);
    }
}

static void random_histories_keep_what_they_must(void **state)
{
    (void)state;
    for (uint64_t round = 0; round < 12; round++) {
        struct random random;
        static struct model models[FILES];
        struct io *io = io_sim_new(true);
        memset(models, 0, sizeof(models));
        random_seed(&random, round);
        assert_int_equal(io_make_folder(io, "d", NULL), OCH_OK);
        for (char path[] = "d/f0"; path[3] < '0' + FILES; path[3]++)
            put(io, path, "", false);
        assert_int_equal(io_sync_folder(io, "d", NULL), OCH_OK);
        for (size_t step = 0; step < 60; step++) {
            model_step(io, &random, models);
            check_model(io, models, true);
            struct io *cut = io_sim_power_cut(io, round * 1000 + step);
            check_model(cut, models, false);
            io_sim_free(cut);
        }
        struct io *copy = io_sim_copy(io);
        check_model(copy, models, true);
        io_sim_free(copy);
        io_sim_free(io);
    }
}

/* All names and contents as one text. */
static void describe(struct io *io, const char *path, struct arena *arena, struct buf *buf)
{
    struct io_entry *entries;
    size_t count;
    assert_int_equal(io_list(io, path, arena, &entries, &count, NULL), OCH_OK);
    for (size_t i = 0; i < count; i++) {
        const char *inner = arena_printf(arena, "%s/%s", path, entries[i].name);
        uint64_t size = 0;
        buf_text(buf, inner);
        if (entries[i].is_folder)
            describe(io, inner, arena, buf);
        else
            buf_text(buf, get(io, inner, arena, &size));
        buf_u64(buf, size);
    }
}

static void the_same_seed_gives_the_same_image(void **state)
{
    (void)state;
    struct io *io = io_sim_new(true);
    assert_int_equal(io_make_folder(io, "a/b", NULL), OCH_OK);
    for (int i = 0; i < 20; i++) {
        char path[16];
        (void)snprintf(path, sizeof(path), "a/%s%d", i % 2 ? "b/" : "", i);
        put(io, path, "some text that is not synced", i % 4 == 0);
    }
    size_t different = 0;
    struct arena arena;
    struct buf texts[3];
    arena_init(&arena, NULL, 0);
    for (uint64_t seed = 0; seed < 50; seed++) {
        for (uint64_t i = 0; i < 3; i++) {
            struct io *cut = io_sim_power_cut(io, seed + i / 2 * 1000);
            buf_init(&texts[i], BUF_MAX_NONE);
            describe(cut, "", &arena, &texts[i]);
            io_sim_free(cut);
        }
        assert_true(slice_equal(buf_view(&texts[0]), buf_view(&texts[1])));
        different += !slice_equal(buf_view(&texts[0]), buf_view(&texts[2]));
        for (size_t i = 0; i < 3; i++)
            buf_done(&texts[i]);
    }
    assert_true(different > 25);
    arena_done(&arena);
    io_sim_free(io);
}

static void in_an_image_locks_are_free_and_open_files_matter_no_more(void **state)
{
    (void)state;
    struct io *io = io_sim_new(true);
    struct file *lock, *other;
    assert_int_equal(io_lock(io, "lock", false, NULL, &lock, NULL, NULL), OCH_OK);
    assert_int_equal(io_sync_folder(io, "", NULL), OCH_OK);
    struct io *cut = io_sim_power_cut(io, 1);
    assert_int_equal(io_lock(cut, "lock", false, NULL, &other, NULL, NULL), OCH_OK);
    assert_int_equal(file_write(lock, 0, "still usable", 12, NULL), OCH_OK);
    uint64_t size;
    assert_int_equal(file_size(other, &size, NULL), OCH_OK);
    assert_int_equal(size, 0);
    file_close(lock);
    file_close(other);
    io_sim_free(cut);
    io_sim_free(io);
}

static void the_nth_operation_of_a_kind_fails(void **state)
{
    (void)state;
    struct io *io = io_sim_new(false);
    struct file *file = opened(io, "f", IO_WRITE | IO_CREATE);
    uint64_t before = io_sim_count(io, IO_SIM_WRITE), any = io_sim_count(io, IO_SIM_ANY);
    io_sim_fail_at(io, IO_SIM_WRITE, 2, EIO, false);
    assert_int_equal(file_write(file, 0, "1234", 4, NULL), OCH_OK);
    assert_int_equal(file_sync(file, NULL), OCH_OK);
    och_error err = {0};
    assert_int_equal(file_write(file, 4, "5678", 4, &err), OCH_IO);
    assert_int_equal(err.os_errno, EIO);
    char part[8] = {0};
    size_t len;
    assert_int_equal(file_read(file, 0, part, 8, &len, NULL), OCH_OK);
    assert_int_equal(len, 6); // half of it is there
    assert_memory_equal(part, "123456", 6);
    assert_int_equal(file_write(file, 4, "abcd", 4, NULL), OCH_OK);
    assert_int_equal(io_sim_count(io, IO_SIM_WRITE) - before, 3);
    assert_int_equal(io_sim_count(io, IO_SIM_ANY) - any, 5);
    io_sim_fail_at(io, IO_SIM_ANY, 1, ENOSPC, true);
    struct io_entry entry;
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(io_rename(io, "f", "g", NULL), OCH_IO);
        assert_int_equal(io_remove(io, "f", NULL), OCH_IO);
        assert_int_equal(io_stat(io, "f", &entry, NULL), OCH_IO);
        assert_int_equal(io_make_folder(io, "d", NULL), OCH_IO);
    }
    io_sim_fail_at(io, IO_SIM_ANY, 0, 0, false);
    assert_int_equal(io_rename(io, "f", "g", NULL), OCH_OK);
    io_sim_fail_at(io, IO_SIM_OPEN, 1, ENOENT, false);
    assert_int_equal(io_open(io, "g", 0, &file, NULL), OCH_NOT_FOUND);
    file_close(file);
    io_sim_free(io);
}

static void a_full_disk_says_so_and_goes_on_when_there_is_room(void **state)
{
    (void)state;
    struct io *io = io_sim_new(false);
    static const char block[4096] = "x";
    uint64_t left;
    io_sim_set_capacity(io, 10 * 4096);
    struct file *file = opened(io, "f", IO_WRITE | IO_CREATE);
    och_error err = {0};
    for (uint64_t i = 0; i < 10; i++)
        assert_int_equal(file_write(file, i * 8192, block, 4096, NULL), OCH_OK);
    assert_int_equal(io_space(io, "", &left, NULL), OCH_OK);
    assert_int_equal(left, 0);
    assert_int_equal(file_write(file, 90000, block, 1, &err), OCH_IO);
    assert_int_equal(err.os_errno, ENOSPC);
    assert_int_equal(file_write(file, 0, block, 4096, NULL), OCH_OK); // over old blocks
    assert_int_equal(file_allocate(file, 4096, 4096, NULL), OCH_IO);
    assert_int_equal(file_punch(file, 0, 4096, NULL), OCH_OK);
    assert_int_equal(io_space(io, "", &left, NULL), OCH_OK);
    assert_int_equal(left, 4096);
    assert_int_equal(file_allocate(file, 4096, 4096, NULL), OCH_OK);
    assert_int_equal(file_truncate(file, 0, NULL), OCH_OK);
    assert_int_equal(io_space(io, "", &left, NULL), OCH_OK);
    assert_int_equal(left, 40960);
    // a write that does not fit leaves a part
    char text[3 * 4096];
    memset(text, 'y', sizeof(text));
    io_sim_set_capacity(io, 2 * 4096);
    assert_int_equal(file_write(file, 0, text, sizeof(text), NULL), OCH_IO);
    uint64_t size;
    assert_int_equal(file_size(file, &size, NULL), OCH_OK);
    assert_int_equal(size, 2 * 4096);
    file_close(file);
    assert_int_equal(io_remove(io, "f", NULL), OCH_OK);
    assert_int_equal(io_space(io, "", &left, NULL), OCH_OK);
    assert_int_equal(left, 2 * 4096);
    io_sim_set_capacity(io, 0);
    assert_int_equal(io_space(io, "", &left, NULL), OCH_OK);
    assert_true(left > 1ull << 50);
    io_sim_free(io);
}

static void damage_is_seen_by_all_and_survives(void **state)
{
    (void)state;
    struct io *io = io_sim_new(true);
    struct arena arena;
    uint64_t size;
    arena_init(&arena, NULL, 0);
    put(io, "f", "abc", true);
    assert_int_equal(io_sync_folder(io, "", NULL), OCH_OK);
    assert_int_equal(io_sim_poke(io, "f", 1, "X", 1, NULL), OCH_OK);
    assert_int_equal(io_sim_poke(io, "g", 1, "X", 1, NULL), OCH_NOT_FOUND);
    assert_string_equal(get(io, "f", &arena, &size), "aXc");
    struct io *cut = io_sim_power_cut(io, 3);
    assert_string_equal(get(cut, "f", &arena, &size), "aXc");
    arena_done(&arena);
    io_sim_free(cut);
    io_sim_free(io);
}

static void preallocated_files_cost_nothing_until_written(void **state)
{
    (void)state;
    struct io *io = io_sim_new(false);
    struct file *file = opened(io, "f", IO_WRITE | IO_CREATE);
    uint64_t live = mem_count_live(), size;
    assert_int_equal(file_allocate(file, 0, 64 << 20, NULL), OCH_OK);
    assert_true(mem_count_live() - live <= 1);
    assert_int_equal(file_size(file, &size, NULL), OCH_OK);
    assert_int_equal(size, 64 << 20);
    file_close(file);
    io_sim_free(io);
}

struct worker {
    struct io *io;
    unsigned number;
};

static void work(void *arg)
{
    struct worker *worker = arg;
    char path[32], moved[32];
    (void)snprintf(path, sizeof(path), "w%u", worker->number);
    (void)snprintf(moved, sizeof(moved), "m%u", worker->number);
    struct file *shared = opened(worker->io, "shared", IO_WRITE | IO_CREATE);
    for (uint64_t i = 0; i < 200; i++) {
        char byte = (char)worker->number, back = 0;
        uint64_t place = i * 4 + worker->number;
        put(worker->io, path, "text", i % 2);
        assert(io_rename(worker->io, path, moved, NULL) == OCH_OK);
        assert(io_sync_folder(worker->io, "", NULL) == OCH_OK);
        assert(file_write(shared, place, &byte, 1, NULL) == OCH_OK);
        assert(file_sync(shared, NULL) == OCH_OK);
        assert(file_read_all(shared, place, &back, 1, NULL) == OCH_OK);
        assert(back == byte);
        assert(io_remove(worker->io, moved, NULL) == OCH_OK);
    }
    file_close(shared);
}

static void threads_share_the_disk_even_while_the_power_fails(void **state)
{
    (void)state;
    struct io *io = io_sim_new(true);
    struct thread threads[4];
    struct worker workers[4];
    for (unsigned i = 0; i < 4; i++) {
        workers[i] = (struct worker){io, i};
        assert_int_equal(thread_start(&threads[i], "io", 0, work, &workers[i], NULL), OCH_OK);
    }
    for (uint64_t seed = 0; seed < 30; seed++)
        io_sim_free(io_sim_power_cut(io, seed));
    for (size_t i = 0; i < 4; i++)
        thread_join(&threads[i]);
    struct io_entry *entries;
    size_t count;
    struct arena arena;
    arena_init(&arena, NULL, 0);
    assert_int_equal(io_list(io, "", &arena, &entries, &count, NULL), OCH_OK);
    assert_int_equal(count, 1);
    assert_int_equal(entries[0].size, 800);
    arena_done(&arena);
    io_sim_free(io);
}

static void images_survive_failing_allocations(void **state)
{
    (void)state;
    struct io *io = io_sim_new(true);
    assert_int_equal(io_make_folder(io, "a/b", NULL), OCH_OK);
    put(io, "a/b/f", "1", true);
    put(io, "a/g", "2", false);
    assert_int_equal(io_rename(io, "a/g", "a/b/g", NULL), OCH_OK);
    uint64_t live = mem_count_live();
    struct io *cut = NULL;
    for (uint64_t nth = 1; !cut; nth++) {
        mem_fail_at(nth);
        cut = io_sim_power_cut(io, 9);
        mem_fail_at(0);
        if (!cut)
            assert_int_equal(mem_count_live(), live);
        assert_true(nth < 1000);
    }
    io_sim_free(cut);
    assert_int_equal(mem_count_live(), live);
    io_sim_free(io);
    io_sim_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_synced_survives_every_power_cut),
        cmocka_unit_test(an_unsynced_name_comes_and_goes_but_a_synced_one_stays),
        cmocka_unit_test(a_rename_is_old_or_new_never_none_or_both),
        cmocka_unit_test(changes_of_one_name_keep_their_order),
        cmocka_unit_test(an_overwrite_tears_at_sectors),
        cmocka_unit_test(growth_without_sync_may_come_in_any_shape),
        cmocka_unit_test(reserved_and_synced_space_is_never_garbage),
        cmocka_unit_test(a_truncation_happens_whole_or_not_at_all),
        cmocka_unit_test(a_failed_sync_is_not_repaired_by_the_next),
        cmocka_unit_test(random_histories_keep_what_they_must),
        cmocka_unit_test(the_same_seed_gives_the_same_image),
        cmocka_unit_test(in_an_image_locks_are_free_and_open_files_matter_no_more),
        cmocka_unit_test(the_nth_operation_of_a_kind_fails),
        cmocka_unit_test(a_full_disk_says_so_and_goes_on_when_there_is_room),
        cmocka_unit_test(damage_is_seen_by_all_and_survives),
        cmocka_unit_test(preallocated_files_cost_nothing_until_written),
        cmocka_unit_test(threads_share_the_disk_even_while_the_power_fails),
        cmocka_unit_test(images_survive_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
