/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes that rot: a damaged catalogue says so, or what it says is right.  A write-ahead log that lost its end may give an
 * older state, but then its generation is older too, which the log (D1) holds against it. */
#include "sysdb_model.h"

#include "support/slow.h"

#include <errno.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define IMAGES 250u
#else
#define IMAGES cases_of(2000, 100)
#endif
#define HISTORY 400

struct images {
    struct test *t;
    struct io *closed, *open;  /* without and with a write-ahead log */
    char *states[HISTORY + 2]; /* by generation */
    uint64_t latest;
    unsigned refused_at_open, refused_later, right, older;
};

static void remember(struct images *images, struct sysdb *sysdb, struct buf *text)
{
    uint64_t generation = sysdb_generation(sysdb);
    assert_true(generation < COUNT_OF(images->states));
    if (images->states[generation])
        return;
    ok(say_all(sysdb, text, &err));
    images->states[generation] = mem_copy_text(text->at, text->len);
    images->latest = generation;
}

static struct images *images_new(struct test *t)
{
    struct images *images = MEM_NEW(struct images);
    struct random random;
    struct buf text;
    struct sysdb *sysdb;
    struct io *io = io_sim_new(false);
    images->t = t;
    random_seed(&random, 5);
    buf_init(&text, BUF_MAX_NONE);
    ok(io_make_folder(io, "data", &err));
    ok(open_on(t, io, true, &sysdb));
    for (uint64_t number = 0; sysdb_generation(sysdb) < HISTORY; number++) {
        struct op op = op_random_kept(&random, number);
        och_error fault = {0};
        if (op.kind == 9)
            continue;
        (void)op_run_kept(t, sysdb, &op, &fault);
        remember(images, sysdb, &text);
        if (sysdb_generation(sysdb) == HISTORY - 40) { // the log holds only what comes from here on
            ok(sysdb_close(sysdb, &err));
            sysdb_free(sysdb);
            ok(open_on(t, io, false, &sysdb));
        }
    }
    images->open = io_sim_copy(io);
    ok(sysdb_close(sysdb, &err));
    sysdb_free(sysdb);
    images->closed = io_sim_copy(io);
    io_sim_free(io);
    buf_done(&text);
    return images;
}

static void images_free(struct images *images)
{
    for (size_t i = 0; i < COUNT_OF(images->states); i++)
        mem_free(images->states[i]);
    io_sim_free(images->open);
    io_sim_free(images->closed);
    mem_free(images);
}

/* Open a damaged image and hold what it says against the truth. */
static void judge(struct images *images, struct io *io, bool may_be_older, const char *what,
                  uint64_t at)
{
    struct sysdb *sysdb = NULL;
    err = (och_error){0};
    och_code code = open_on(images->t, io, false, &sysdb);
    if (code != OCH_OK) {
        if (code != OCH_CORRUPT)
            fail_msg("%s at %" PRIu64 ": code %d: %s", what, at, (int)code, err.message);
        assert_non_null(strstr(err.message, CATALOGUE));
        images->refused_at_open++;
        return;
    }
    struct buf text;
    och_error fault = {0};
    buf_init(&text, BUF_MAX_NONE);
    code = say_all(sysdb, &text, &fault);
    uint64_t generation = sysdb_generation(sysdb);
    if (code != OCH_OK) {
        if (code != OCH_CORRUPT)
            fail_msg("%s at %" PRIu64 ": code %d: %s", what, at, (int)code, fault.message);
        images->refused_later++;
    } else if (generation != images->latest && !may_be_older) {
        fail_msg("%s at %" PRIu64 ": generation %" PRIu64, what, at, generation);
    } else if (strcmp((char *)text.at, images->states[generation]) != 0) {
        fail_msg("%s at %" PRIu64 ": silently wrong:\n%s\nnot\n%s", what, at, (char *)text.at,
                 images->states[generation]);
    } else {
        images->right += generation == images->latest;
        images->older += generation != images->latest;
    }
    // writing on must not crash either; it may be refused
    uint64_t faults;
    struct buf report;
    buf_init(&report, BUF_MAX_NONE);
    (void)(create(images->t, sysdb, 555555, "more") == OCH_OK);
    ok(sysdb_verify(sysdb, &report, &faults, &err));
    if (code != OCH_OK)
        assert_true(faults > 0);
    buf_done(&report);
    buf_done(&text);
    (void)(sysdb_close(sysdb, &fault) == OCH_OK);
    sysdb_free(sysdb);
}

static void poke(struct io *io, const char *path, uint64_t at, const void *bytes, size_t len)
{
    ok(io_sim_poke(io, path, at, bytes, len, &err));
}

static uint64_t size_of(struct io *io, const char *path)
{
    struct io_entry entry;
    ok(io_stat(io, path, &entry, &err));
    return entry.size;
}

static void read_at(struct io *io, const char *path, uint64_t at, void *bytes, size_t len)
{
    struct file *file;
    ok(io_open(io, path, 0, &file, &err));
    ok(file_read_all(file, at, bytes, len, &err));
    file_close(file);
}

static void cut_at(struct io *io, const char *path, uint64_t size)
{
    struct file *file;
    ok(io_open(io, path, IO_WRITE, &file, &err));
    ok(file_truncate(file, size, &err));
    file_close(file);
}

static void report(struct images *images, const char *name)
{
    print_message("%s: %u refused at open, %u later, %u right, %u older\n", name,
                  images->refused_at_open, images->refused_later, images->right, images->older);
}

/* One random change of a file; its name. */
static const char *damage(struct io *io, const char *path, struct random *random, uint64_t *ret_at)
{
    static uint8_t page[4096];
    uint64_t size = size_of(io, path), at = random_below(random, size);
    *ret_at = at;
    switch (random_below(random, 6)) {
    case 0: {
        uint8_t byte;
        read_at(io, path, at, &byte, 1);
        byte ^= (uint8_t)(1u << random_below(random, 8));
        poke(io, path, at, &byte, 1);
        return "flip";
    }
    case 1: {
        uint8_t bytes[8];
        random_fill(random, bytes, sizeof(bytes));
        poke(io, path, at, bytes, min_size(sizeof(bytes), (size_t)(size - at)));
        return "garbage";
    }
    case 2:
        memset(page, 0, sizeof(page));
        poke(io, path, at, page,
             min_size(1 + (size_t)random_below(random, 512), (size_t)(size - at)));
        return "zeros";
    case 3:
        memset(page, random_below(random, 2) ? 0 : 0xff, sizeof(page));
        *ret_at = at = at / 4096 * 4096;
        poke(io, path, at, page, min_size(sizeof(page), (size_t)(size - at)));
        return "page lost";
    case 4: // a page written to the wrong place
        *ret_at = at = random_below(random, size / 4096) * 4096;
        read_at(io, path, random_below(random, size / 4096) * 4096, page, sizeof(page));
        poke(io, path, at, page, sizeof(page));
        return "page moved";
    default:
        cut_at(io, path, at);
        return "cut";
    }
}

static void damage_of_the_catalogue_is_noticed(void **state)
{
    struct images *images = images_new(*state);
    struct random random;
    random_seed(&random, 1);
    for (unsigned i = 0; i < IMAGES; i++) {
        uint64_t at;
        bool with_log = i % 3 == 0;
        struct io *io = io_sim_copy(with_log ? images->open : images->closed);
        const char *what = damage(io, CATALOGUE, &random, &at);
        judge(images, io, false, what, at);
        io_sim_free(io);
    }
    report(images, "catalogue");
    assert_true(images->refused_at_open > IMAGES / 4);
    images_free(images);
}

static void damage_of_the_write_ahead_log_is_noticed(void **state)
{
    struct images *images = images_new(*state);
    struct random random;
    random_seed(&random, 2);
    uint64_t size = size_of(images->open, CATALOGUE "-wal");
    for (unsigned i = 0; i < IMAGES; i++) {
        uint64_t at;
        struct io *io = io_sim_copy(images->open);
        const char *what = damage(io, CATALOGUE "-wal", &random, &at);
        // only what reaches into the last transactions, or a cut, can look like a torn end
        bool may_be_older = strcmp(what, "cut") == 0 || at + 20 * 4120 > size;
        judge(images, io, may_be_older, what, at);
        io_sim_free(io);
    }
    report(images, "write-ahead log");
    assert_true(images->refused_at_open > IMAGES / 4);
    images_free(images);
}

/* The first bytes decide how everything else is read: each of them, with several values. */
static void every_byte_of_the_headers_matters_or_does_not(void **state)
{
    static const uint8_t masks[] = {0x01, 0x80, 0xff};
    struct images *images = images_new(*state);
    for (uint64_t at = 0; at < 132; at++) {
        for (size_t k = 0; k < COUNT_OF(masks); k++) {
            const char *path = at < 100 ? CATALOGUE : CATALOGUE "-wal";
            uint64_t place = at < 100 ? at : at - 100;
            uint8_t byte;
            struct io *io = io_sim_copy(at < 100 ? images->closed : images->open);
            read_at(io, path, place, &byte, 1);
            byte ^= masks[k];
            poke(io, path, place, &byte, 1);
            judge(images, io, false, path, place);
            io_sim_free(io);
        }
    }
    report(images, "headers");
    assert_int_equal(images->refused_later + images->older, 0);
    images_free(images);
}

/* A page of an earlier state has a sound checksum of its own; only counts and sums tell (D8). */
static void a_lost_write_of_a_page_is_noticed(void **state)
{
    struct test *t = *state;
    struct images *images = images_new(t);
    struct sysdb *sysdb;
    struct io *later = io_sim_copy(images->closed);
    ok(open_on(t, later, false, &sysdb));
    for (uint64_t number = 10000; number < 10060; number++) {
        struct op op = {number % 3 == 0 ? 4 : 0, number, number - 10000};
        och_error fault = {0};
        (void)op_run(t, sysdb, &op, &fault);
    }
    struct buf text;
    buf_init(&text, BUF_MAX_NONE);
    ok(say_all(sysdb, &text, &err));
    mem_free(images->states[0]);
    images->states[0] = mem_copy_text(text.at, text.len);
    images->latest = sysdb_generation(sysdb);
    ok(sysdb_close(sysdb, &err));
    sysdb_free(sysdb);
    unsigned noticed = 0, silent = 0, same = 0;
    for (uint64_t at = 0; at < size_of(images->closed, CATALOGUE); at += 4096) {
        static uint8_t before[4096], after[4096];
        read_at(images->closed, CATALOGUE, at, before, 4096);
        read_at(later, CATALOGUE, at, after, 4096);
        if (memcmp(before, after, 4096) == 0) {
            same++;
            continue;
        }
        struct io *io = io_sim_copy(later);
        och_error fault = {0};
        poke(io, CATALOGUE, at, before, 4096);
        err = fault;
        och_code code = open_on(t, io, false, &sysdb);
        if (code == OCH_OK) {
            code = say_all(sysdb, &text, &fault);
            bool right = code == OCH_OK && strcmp((char *)text.at, images->states[0]) == 0;
            uint64_t faults = 0;
            struct buf lines;
            buf_init(&lines, BUF_MAX_NONE);
            ok(sysdb_verify(sysdb, &lines, &faults, &err));
            buf_done(&lines);
            if (code == OCH_OK && !right && faults == 0)
                fail_msg("page %" PRIu64 " is old, and even a check says nothing", at / 4096 + 1);
            noticed += code != OCH_OK;
            silent += code == OCH_OK && !right;
            (void)(sysdb_close(sysdb, &fault) == OCH_OK);
            sysdb_free(sysdb);
        } else {
            assert_int_equal(code, OCH_CORRUPT);
            noticed++;
        }
        io_sim_free(io);
    }
    print_message("old pages: %u noticed, %u only by check, %u unchanged\n", noticed, silent, same);
    assert_true(noticed > silent);
    buf_done(&text);
    io_sim_free(later);
    images_free(images);
}

#define T(name) cmocka_unit_test_setup_teardown(name, test_begin, test_end)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(damage_of_the_catalogue_is_noticed),
        T(damage_of_the_write_ahead_log_is_noticed),
        T(every_byte_of_the_headers_matters_or_does_not),
        T(a_lost_write_of_a_page_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
