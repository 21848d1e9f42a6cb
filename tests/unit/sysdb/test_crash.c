/* SPDX-License-Identifier: Apache-2.0 */
/* Power cuts and failing disks: what was acknowledged is there, what was not is there wholly or not at all. */
#include "sysdb_model.h"

#include "support/slow.h"

#include <errno.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SEEDS 24
#else
#define SEEDS cases_of(200, 18)
#endif
#define OPS 60

/* A second catalogue, on a disk that never fails, tells what each operation leads to. */
struct run {
    struct test *t;
    struct sysdb *shadow;
    struct io *shadow_io;
    struct buf before, after, now;
};

static void run_begin(struct run *run, struct test *t)
{
    *run = (struct run){.t = t, .shadow_io = io_sim_new(false)};
    ok(io_make_folder(run->shadow_io, "data", &err));
    ok(open_on(t, run->shadow_io, true, &run->shadow));
    buf_init(&run->before, BUF_MAX_NONE);
    buf_init(&run->after, BUF_MAX_NONE);
    buf_init(&run->now, BUF_MAX_NONE);
    ok(say_all(run->shadow, &run->after, &err));
}

static void run_end(struct run *run)
{
    sysdb_free(run->shadow);
    io_sim_free(run->shadow_io);
    buf_done(&run->before);
    buf_done(&run->after);
    buf_done(&run->now);
}

/* Run the next operation on the shadow: `before` and `after` are the two states that may be seen. */
static och_code run_shadow(struct run *run, const struct op *op)
{
    och_error fault = {0};
    struct buf swap = run->before;
    run->before = run->after;
    run->after = swap;
    och_code code = op_run_kept(run->t, run->shadow, op, &fault);
    ok(say_all(run->shadow, &run->after, &err));
    return code;
}

static bool is(const struct buf *a, const struct buf *b)
{
    return strcmp((const char *)a->at, (const char *)b->at) == 0;
}

static void check_state(struct run *run, struct sysdb *sysdb, uint64_t seed)
{
    ok(say_all(sysdb, &run->now, &err));
    verify_clean(sysdb);
    if (is(&run->now, &run->before) || is(&run->now, &run->after))
        return;
    fail_msg("seed %" PRIu64 ": neither\n%s\nnor\n%s\nbut\n%s", seed, (char *)run->before.at,
             (char *)run->after.at, (char *)run->now.at);
}

static void power_cuts_lose_nothing_acknowledged(void **state)
{
    struct test *t = *state;
    uint64_t reached = 0, kept = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct random random;
        random_seed(&random, seed);
        struct io *io = io_sim_new(true), *cut;
        struct run run;
        struct sysdb *sysdb = NULL;
        och_error fault = {0};
        run_begin(&run, t);
        ok(io_make_folder(io, "data", &err));
        ok(io_sync_folder(io, "/", &err));
        ok(open_on(t, io, true, &sysdb));
        uint64_t left = 1 + random_below(&random, 180);
        io_sim_fail_at(io, IO_SIM_ANY, left, EIO, true);
        uint64_t number = 0;
        och_code code = OCH_OK;
        struct op op = {0};
        while (number < OPS && (code == OCH_OK || refusal(code))) {
            op = op_random_kept(&random, number++);
            (void)run_shadow(&run, &op);
            fault = (och_error){0};
            code = op_run_kept(t, sysdb, &op, &fault);
        }
        bool failed = code != OCH_OK && !refusal(code);
        if (failed)
            assert_true(code == OCH_IO);
        reached += failed;
        // every third time only the process dies: all its writes stay
        cut = seed % 3 == 0 ? io_sim_copy(io) : io_sim_power_cut(io, seed * 31 + 7);
        sysdb_free(sysdb);
        ok(open_on(t, cut, false, &sysdb));
        if (!failed) { // then only the state after the last operation will do
            ok(say_all(sysdb, &run.now, &err));
            if (!is(&run.now, &run.after))
                fail_msg("seed %" PRIu64 ": lost\n%s\nbut\n%s", seed, (char *)run.after.at,
                         (char *)run.now.at);
        } else {
            check_state(&run, sysdb, seed);
            kept += is(&run.now, &run.after);
        }
        ok(create(t, sysdb, 999999, "goes-on"));
        ok(sysdb_close(sysdb, &err));
        sysdb_free(sysdb);
        io_sim_free(io);
        io_sim_free(cut);
        run_end(&run);
    }
    assert_true(kept > 0 && kept < reached);
    print_message("%d cuts, %d within an operation, %d of these had become durable\n", SEEDS,
                  (int)reached, (int)kept);
}

/* What one cut tore stands behind what is written before the next one. */
static void cuts_in_a_row_leave_nothing_that_looks_like_damage(void **state)
{
    struct test *t = *state;
    uint64_t cuts = 0;
    for (uint64_t seed = 0; seed < SEEDS / 2; seed++) {
        struct random random;
        random_seed(&random, seed + 99);
        struct io *io = io_sim_new(true);
        struct run run;
        struct sysdb *sysdb = NULL;
        run_begin(&run, t);
        ok(io_make_folder(io, "data", &err));
        ok(io_sync_folder(io, "/", &err));
        ok(open_on(t, io, true, &sysdb));
        for (uint64_t number = 0; number < 40;) {
            och_code code = OCH_OK;
            io_sim_fail_at(io, IO_SIM_ANY, 1 + random_below(&random, 12), EIO, true);
            while (code == OCH_OK || refusal(code)) {
                struct op op = op_random_kept(&random, number++);
                och_error fault = {0};
                code = op_run_kept(t, sysdb, &op, &fault);
            }
            struct buf acknowledged;
            och_error fault = {0};
            buf_init(&acknowledged, BUF_MAX_NONE);
            io_sim_fail_at(io, IO_SIM_ANY, 0, 0, false);
            ok(say_all(sysdb, &acknowledged, &fault));
            uint64_t generation = sysdb_generation(sysdb);
            struct io *cut = io_sim_power_cut(io, random_u64(&random));
            sysdb_free(sysdb);
            io_sim_free(io);
            io = cut;
            err = (och_error){0};
            if (open_on(t, io, false, &sysdb) != OCH_OK)
                fail_msg("seed %" PRIu64 " after %d: %s", seed, (int)number, err.message);
            ok(say_all(sysdb, &run.now, &err));
            if (sysdb_generation(sysdb) == generation)
                assert_true(is(&run.now, &acknowledged));
            else // the one that failed had become durable
                assert_int_equal(sysdb_generation(sysdb), generation + 1);
            buf_done(&acknowledged);
            cuts++;
        }
        verify_clean(sysdb);
        ok(sysdb_close(sysdb, &err));
        sysdb_free(sysdb);
        io_sim_free(io);
        run_end(&run);
    }
    print_message("%d cuts in a row\n", (int)cuts);
}

static uint8_t *log_bytes(struct io *io, uint64_t *ret_size)
{
    struct file *file;
    ok(io_open(io, CATALOGUE "-wal", 0, &file, &err));
    ok(file_size(file, ret_size, &err));
    uint8_t *bytes = mem_alloc(*ret_size + 1);
    ok(file_read_all(file, 0, bytes, *ret_size, &err));
    file_close(file);
    return bytes;
}

enum tear {
    TEAR_FIRST_PAGE,   /* one byte */
    TEAR_LAST_PAGE,    /* one byte */
    TEAR_FIRST_HEADER, /* its first eight bytes, as when a sector ends there */
};

/* A create that fails in its sync; the disk as it is then, with a part of its first or last frame torn. */
static struct io *tear_create(struct test *t, struct io *io, struct sysdb *sysdb, uint64_t number,
                              size_t metadata_bytes, enum tear tear)
{
    uint64_t before_size, after_size, at = UINT64_MAX;
    uint8_t *metadata = mem_zalloc(metadata_bytes);
    uint8_t *before = log_bytes(io, &before_size);
    struct sysdb_collection_new spec = {.id = id_of(number),
                                        .tenant = TENANT,
                                        .database = DATABASE,
                                        .name = SLICE("torn"),
                                        .metadata = slice_make(metadata, metadata_bytes),
                                        .schema_json = t->schema};
    const struct sysdb_collection *made;
    bool created;
    io_sim_fail_at(io, IO_SIM_SYNC, 1, EIO, true);
    fails(OCH_IO, CATALOGUE, sysdb_collection_create(sysdb, &spec, &made, &created, &err));
    struct io *copy = io_sim_copy(io);
    uint8_t *after = log_bytes(copy, &after_size);
    for (uint64_t i = 32; i + 4120 <= after_size; i += 4120) {
        bool same = i + 4120 <= before_size && memcmp(before + i, after + i, 4120) == 0;
        if (!same && (at == UINT64_MAX || tear == TEAR_LAST_PAGE))
            at = i;
    }
    assert_true(at != UINT64_MAX);
    uint8_t torn = (uint8_t)(after[at + 24 + 2000] ^ 1);
    static const uint8_t noise[8] = {0x4e, 0x18, 0xbf, 0x3f, 0x69, 0x87, 0x26, 0x29};
    if (tear == TEAR_FIRST_HEADER)
        ok(io_sim_poke(copy, CATALOGUE "-wal", at, noise, sizeof(noise), &err));
    else
        ok(io_sim_poke(copy, CATALOGUE "-wal", at + 24 + 2000, &torn, 1, &err));
    sysdb_free(sysdb);
    io_sim_free(io);
    mem_free(before);
    mem_free(after);
    mem_free(metadata);
    return copy;
}

static void a_torn_end_behind_a_torn_end_is_no_damage(void **state)
{
    struct test *t = *state;
    struct io *io = io_sim_new(false);
    struct sysdb *sysdb;
    const struct sysdb_collection *c;
    ok(io_make_folder(io, "data", &err));
    ok(open_on(t, io, true, &sysdb));
    ok(create(t, sysdb, 1, "one"));
    io = tear_create(t, io, sysdb, 100, 200000,
                     TEAR_FIRST_PAGE); // fifty frames, all but the first whole
    ok(open_on(t, io, false, &sysdb));
    ok(create(t, sysdb, 2, "two"));
    io = tear_create(t, io, sysdb, 101, 1, TEAR_LAST_PAGE);
    ok(open_on(t, io, false, &sysdb));
    ok(sysdb_collection_find(sysdb, TENANT, DATABASE, SLICE("two"), &c, &err));
    sysdb_collection_unref(c);
    fails(OCH_NOT_FOUND, "torn",
          sysdb_collection_find(sysdb, TENANT, DATABASE, SLICE("torn"), &c, &err));
    verify_clean(sysdb);
    ok(sysdb_close(sysdb, &err));
    sysdb_free(sysdb);
    io_sim_free(io);
}

static void a_torn_header_that_seems_to_end_a_transaction_is_no_damage(void **state)
{
    struct test *t = *state;
    struct io *io = io_sim_new(false);
    struct sysdb *sysdb;
    ok(io_make_folder(io, "data", &err));
    ok(open_on(t, io, true, &sysdb));
    ok(create(t, sysdb, 1, "one"));
    io = tear_create(t, io, sysdb, 100, 200000, TEAR_FIRST_HEADER);
    ok(open_on(t, io, false, &sysdb));
    verify_clean(sysdb);
    ok(sysdb_close(sysdb, &err));
    sysdb_free(sysdb);
    io_sim_free(io);
}

static void a_catalogue_being_made_is_whole_or_absent(void **state)
{
    struct test *t = *state;
    unsigned made = 0, absent = 0;
    for (uint64_t nth = 1; nth < 200; nth++) {
        struct io *io = io_sim_new(true), *cut;
        struct sysdb *sysdb = NULL;
        ok(io_make_folder(io, "data", &err));
        io_sim_fail_at(io, IO_SIM_ANY, nth, EIO, true);
        och_error fault = {0};
        err = fault;
        och_code code = open_on(t, io, true, &sysdb);
        cut = io_sim_power_cut(io, nth);
        if (code == OCH_OK)
            sysdb_free(sysdb);
        och_code again = open_on(t, cut, false, &sysdb);
        assert_true(again == OCH_OK || (again == OCH_NOT_FOUND && code != OCH_OK));
        made += again == OCH_OK;
        absent += again != OCH_OK;
        if (again != OCH_OK) {
            ok(io_make_folder(cut, "data", &err));
            ok(open_on(t, cut, true, &sysdb));
        }
        verify_clean(sysdb);
        ok(sysdb_close(sysdb, &err));
        sysdb_free(sysdb);
        io_sim_free(io);
        io_sim_free(cut);
    }
    assert_true(made > 0 && absent > 0);
}

/* Fail the n-th operation of a kind, once; the catalogue goes on, and says afterwards what it said before. */
static void fail_each(struct test *t, enum io_sim_operation kind, int os_errno, uint64_t count)
{
    uint64_t failures = 0;
    for (uint64_t nth = 1; nth <= count; nth++) {
        struct random random;
        random_seed(&random, nth);
        struct io *io = io_sim_new(true), *cut;
        struct run run;
        struct sysdb *sysdb = NULL;
        bool failed = false;
        run_begin(&run, t);
        ok(io_make_folder(io, "data", &err));
        ok(io_sync_folder(io, "/", &err));
        ok(open_on(t, io, true, &sysdb));
        io_sim_fail_at(io, kind, nth, os_errno, false);
        for (uint64_t number = 0; number < OPS; number++) {
            struct op op = op_random_kept(&random, number);
            och_error fault = {0};
            och_code code = op_run_kept(t, sysdb, &op, &fault);
            if (code != OCH_OK && !refusal(code)) {
                assert_true(code == OCH_IO && fault.os_errno == os_errno);
                assert_non_null(strstr(fault.message, CATALOGUE));
                failed = true;
                io_sim_fail_at(io, kind, 0, 0, false);
                verify_clean(sysdb);
                ok(say_all(sysdb, &run.now, &err));
                if (!is(&run.now, &run.after)) // the shadow has not run it yet
                    fail_msg("nth %" PRIu64 ": half done\n%s\nbut\n%s", nth, (char *)run.after.at,
                             (char *)run.now.at);
                fault = (och_error){0};
                code = op_run_kept(t, sysdb, &op, &fault); // nothing of it happened: again
            }
            och_code wanted = run_shadow(&run, &op);
            assert_int_equal(code, wanted);
        }
        failures += failed;
        cut = io_sim_power_cut(io, nth);
        sysdb_free(sysdb);
        ok(open_on(t, cut, false, &sysdb));
        verify_clean(sysdb);
        ok(say_all(sysdb, &run.now, &err));
        if (!is(&run.now, &run.after))
            fail_msg("nth %" PRIu64 ":\n%s\nbut\n%s", nth, (char *)run.after.at,
                     (char *)run.now.at);
        ok(sysdb_close(sysdb, &err));
        sysdb_free(sysdb);
        io_sim_free(io);
        io_sim_free(cut);
        run_end(&run);
    }
    print_message("%d failures in %d runs\n", (int)failures, (int)count);
    assert_true(failures > 0);
}

static void a_failed_write_is_reported_and_survived(void **state)
{
    fail_each(*state, IO_SIM_WRITE, EIO, 44);
}
static void a_failed_sync_is_reported_and_survived(void **state)
{
    fail_each(*state, IO_SIM_SYNC, EIO, 44);
}
static void a_failed_read_is_reported_and_survived(void **state)
{
    fail_each(*state, IO_SIM_READ, EIO, SEEDS / 4);
}
static void a_full_disk_is_reported_and_survived(void **state)
{
    fail_each(*state, IO_SIM_WRITE, ENOSPC, 44);
}

static void failures_while_opening_are_clean(void **state)
{
    struct test *t = *state;
    static const enum io_sim_operation kinds[] = {IO_SIM_WRITE,  IO_SIM_SYNC,   IO_SIM_OPEN,
                                                  IO_SIM_RENAME, IO_SIM_REMOVE, IO_SIM_READ};
    struct io *io = io_sim_new(true);
    struct sysdb *sysdb = NULL;
    ok(io_make_folder(io, "data", &err));
    ok(open_on(t, io, true, &sysdb));
    for (uint64_t i = 0; i < 20; i++) {
        char name[20];
        (void)snprintf(name, sizeof(name), "c%d", (int)i);
        ok(create(t, sysdb, i, name));
    }
    for (int create_new = 0; create_new < 2; create_new++) {
        for (size_t k = 0; k < COUNT_OF(kinds); k++) {
            bool failed = true;
            for (uint64_t nth = 1; failed && nth < 300; nth++) {
                struct io *copy = create_new ? io_sim_new(false) : io_sim_power_cut(io, nth);
                struct sysdb *again = NULL;
                ok(io_make_folder(copy, "data", &err));
                io_sim_fail_at(copy, kinds[k], nth, EIO, false);
                err = (och_error){0};
                och_code code = open_on(t, copy, true, &again);
                failed = code != OCH_OK;
                if (failed)
                    assert_true(code == OCH_IO);
                else
                    failed = sysdb_close(again, &err) != OCH_OK;
                sysdb_free(code == OCH_OK ? again : NULL);
                io_sim_fail_at(copy, kinds[k], 0, 0, false);
                ok(open_on(t, copy, true, &again));
                verify_clean(again);
                uint64_t count;
                ok(sysdb_collection_count(again, TENANT, DATABASE, &count, &err));
                assert_int_equal(count, create_new ? 0 : 20);
                ok(sysdb_close(again, &err));
                sysdb_free(again);
                io_sim_free(copy);
            }
        }
    }
    sysdb_free(sysdb);
    io_sim_free(io);
}

/* ---- no memory ---- */

/* A little of everything; each call may fail for want of memory, and does nothing then. */
static och_code use_all(struct test *t, struct io *io)
{
    static const struct op ops[] = {
        {0, 4, 0},           {4, 4, 4},           {4, 5, 4},          {1, 6, 4},
        {3, 7, 1},           {6, 9, 0},           {7, 10, 0},         {OP_KEEP, 11, 0},
        {OP_KEEP, 12, 0},    {OP_RETAIN, 13, 0},  {OP_RETAIN, 14, 0}, {OP_EXPIRE, 0, 0},
        {OP_RESTORE, 15, 0}, {OP_RELEASE, 16, 0}, {2, 0, 4},          {0, 17, 0}};
    struct sysdb *sysdb = NULL;
    och_error fault = {0};
    struct sysdb_options options = {
        .io = io, .path = CATALOGUE, .clock = &t->clock.clock, .create = true};
    TRY(sysdb_open(&options, &sysdb, &fault));
    och_code worst = OCH_OK;
    for (size_t i = 0; i < COUNT_OF(ops); i++) {
        och_code code = op_run_kept(t, sysdb, &ops[i], &fault);
        if (code != OCH_OK && !refusal(code))
            worst = code;
    }
    struct buf text;
    buf_init(&text, BUF_MAX_NONE);
    och_code code = say_all(sysdb, &text, &fault);
    worst = code != OCH_OK ? code : worst;
    buf_done(&text);
    code = sysdb_close(sysdb, &fault);
    worst = code != OCH_OK ? code : worst;
    sysdb_free(sysdb);
    return worst;
}

static void every_allocation_may_fail(void **state)
{
    struct test *t = *state;
    unsigned failures = 0, survived = 0;
    uint64_t count = 1;
    for (uint64_t nth = 0; nth <= count; nth++) { // 0: nothing fails; how many are there?
        struct io *io = io_sim_new(false);
        struct sysdb *sysdb;
        ok(io_make_folder(io, "data", &err));
        uint64_t before = mem_count_allocations();
        mem_fail_at(nth);
        och_code code = use_all(t, io);
        mem_fail_at(0);
        if (nth == 0)
            count = mem_count_allocations() - before;
        assert_true(code == OCH_OK || code == OCH_NO_MEMORY || code == OCH_BUSY);
        failures += code != OCH_OK;
        survived += code == OCH_OK;
        ok(open_on(t, io, true, &sysdb));
        verify_clean(sysdb);
        ok(sysdb_close(sysdb, &err));
        sysdb_free(sysdb);
        io_sim_free(io);
    }
    print_message("%u failed allocations, %u survived\n", failures, survived);
    assert_true(failures > 50);
}

/* ---- with many threads ---- */

struct writer {
    struct test *t;
    struct sysdb *sysdb;
    uint64_t first, acknowledged;
};

static void write_until_failure(void *arg)
{
    struct writer *writer = arg;
    for (uint64_t i = 0; i < 1000; i++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "n-%d", (int)(writer->first + i));
        struct sysdb_collection_new spec = {.id = id_of(writer->first + i),
                                            .tenant = TENANT,
                                            .database = DATABASE,
                                            .name = slice_of(name),
                                            .schema_json = writer->t->schema};
        const struct sysdb_collection *made;
        bool created;
        if (sysdb_collection_create(writer->sysdb, &spec, &made, &created, NULL) != OCH_OK)
            return;
        sysdb_collection_unref(made);
        writer->acknowledged++;
    }
}

static void cuts_under_many_writers_lose_nothing_acknowledged(void **state)
{
    struct test *t = *state;
    for (uint64_t seed = 0; seed < SEEDS / 6; seed++) {
        struct io *io = io_sim_new(true);
        struct sysdb *sysdb = NULL;
        struct writer writers[8];
        struct thread threads[8];
        ok(io_make_folder(io, "data", &err));
        ok(open_on(t, io, true, &sysdb));
        io_sim_fail_at(io, IO_SIM_ANY, 20 + seed * 17, EIO, true);
        for (uint64_t i = 0; i < 8; i++) {
            writers[i] = (struct writer){t, sysdb, i * 1000, 0};
            ok(thread_start(&threads[i], "w", 0, write_until_failure, &writers[i], &err));
        }
        for (size_t i = 0; i < 8; i++)
            thread_join(&threads[i]);
        struct io *cut = io_sim_power_cut(io, seed);
        sysdb_free(sysdb);
        ok(open_on(t, cut, false, &sysdb));
        verify_clean(sysdb);
        for (uint64_t i = 0; i < 8; i++) {
            for (uint64_t k = 0; k < writers[i].acknowledged; k++) {
                const struct sysdb_collection *c;
                ok(sysdb_collection_get(sysdb, TENANT, DATABASE, id_of(i * 1000 + k), &c, &err));
                sysdb_collection_unref(c);
            }
        }
        ok(sysdb_close(sysdb, &err));
        sysdb_free(sysdb);
        io_sim_free(io);
        io_sim_free(cut);
    }
}

#define T(name) cmocka_unit_test_setup_teardown(name, test_begin, test_end)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(power_cuts_lose_nothing_acknowledged),
        T(cuts_in_a_row_leave_nothing_that_looks_like_damage),
        T(a_torn_end_behind_a_torn_end_is_no_damage),
        T(a_torn_header_that_seems_to_end_a_transaction_is_no_damage),
        T(a_catalogue_being_made_is_whole_or_absent),
        T(a_failed_write_is_reported_and_survived),
        T(a_failed_sync_is_reported_and_survived),
        T(a_failed_read_is_reported_and_survived),
        T(a_full_disk_is_reported_and_survived),
        T(failures_while_opening_are_clean),
        T(every_allocation_may_fail),
        T(cuts_under_many_writers_lose_nothing_acknowledged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
