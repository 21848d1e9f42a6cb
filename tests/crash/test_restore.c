/* SPDX-License-Identifier: Apache-2.0 */
/* Restores, kept versions and faults: power goes at each operation of the disk that a restore makes, each write, sync, read and allocation of one fails; the
 * same for giving versions up and for their garbage.  The collection is wholly what it was or what it becomes, what is kept reads as it was, and once at
 * rest the store holds what the catalogue names.
 * OCHRE_CRASH_FIRST: the scenario's seed. */
#include "support/world.h"

#include <errno.h>

enum { TAIL, PARTS, BOTH, SHAPES }; /* what was written since the version that is restored */
enum step { RESTORE, DROP, EXPIRE };
static const char *const kept_name = "early", *const undo_name = "undo";

struct base {
    struct io *io;
    struct world_state state;
    struct model kept; /* what "early" holds */
};

static void must(struct world *w, och_code code, const char *what, const och_error *err)
{
    if (code != OCH_OK)
        fail_msg("seed %" PRIu64 ", %s: %s (%s:%d)", w->seed, what, err->message, err->file,
                 err->line);
}

static void write_some(struct world *w, int batches)
{
    och_error err = {0};
    world_use(w, 0);
    for (int i = 0; i < batches; i++)
        must(w, step_write(w, 0, &err), "write", &err);
    must(w, step_delete(w, 0, &err), "delete", &err);
}

static void come_to_rest(struct world *w)
{
    och_error err = {0};
    must(w, compactor_run(database_compactor(w->bench.database), w->ids, true, &err), "compact",
         &err);
}

/* A world with one collection and a version that is kept, closed, on a disk where all is synced. */
static struct base base_make(uint64_t seed, int shape, int64_t retention_ms)
{
    och_error err = {0};
    struct base base = {0};
    struct gateway_version version;
    struct world *w = world_new(seed, io_sim_new(true));
    w->bench.settings.version_retention = retention_ms;
    must(w, bench_try_open(&w->bench, &err), "open", &err);
    must(w, step_create(w, &err), "create", &err);
    write_some(w, 6);
    must(w,
         gateway_version_keep(database_gateway(w->bench.database), &bench_scope, w->ids[0],
                              slice_of(kept_name), &version, &err),
         "keep", &err);
    base.kept = w->now.at[0].model;
    if (shape == PARTS || shape == BOTH) {
        write_some(w, 3);
        come_to_rest(w);
    }
    if (shape == TAIL || shape == BOTH)
        write_some(w, 2);
    bench_close(&w->bench);
    base.io = io_sim_copy(w->bench.io);
    base.state = w->now;
    world_free(w);
    return base;
}

static struct world *world_on(const struct base *base, uint64_t seed, int64_t retention_ms)
{
    och_error err = {0};
    struct world *w = world_new(seed, io_sim_copy(base->io));
    w->now = base->state;
    w->bench.settings.version_retention = retention_ms;
    must(w, bench_try_open(&w->bench, &err), "open", &err);
    w->last = "open";
    world_settle(w); // finds the ids
    return w;
}

static och_code restore_it(struct world *w, const struct base *base, och_error *err)
{
    struct gateway_restore restore = {.to = {.by = GATEWAY_BY_NAME, .name = slice_of(kept_name)},
                                      .keep = slice_of(undo_name)};
    struct gateway_restored restored;
    w->before = w->now;
    w->steps++;
    world_use(w, 0);
    w->now.at[0].model = base->kept;
    w->last = "restore";
    bench_enter(&w->bench);
    och_code code =
        bench_leave(&w->bench, gateway_restore(database_gateway(w->bench.database), &bench_scope,
                                               w->ids[0], &restore, &restored, err));
    w->unsure = code != OCH_OK;
    if (code == OCH_OK)
        assert_int_equal(restored.records, base->kept.count);
    return code;
}

static och_code drop_it(struct world *w, och_error *err)
{
    struct gateway_version_ref ref = {.by = GATEWAY_BY_NAME, .name = slice_of(kept_name)};
    uint64_t dropped;
    w->last = "give up a version";
    world_use(w, 0);
    bench_enter(&w->bench);
    och_code code = gateway_version_drop(database_gateway(w->bench.database), &bench_scope,
                                         w->ids[0], &ref, &dropped, err);
    if (code == OCH_OK)
        code = compactor_run(database_compactor(w->bench.database), w->ids, true, err);
    return bench_leave(&w->bench, code);
}

/* Versions that flushes and merges replace are kept for a millisecond. */
static och_code expire_it(struct world *w, och_error *err)
{
    w->last = "flushes and versions that go";
    world_use(w, 0);
    bench_enter(&w->bench);
    och_code code = OCH_OK;
    for (int i = 0; i < 2 && code == OCH_OK; i++) {
        code = compactor_run(database_compactor(w->bench.database), w->ids, true, err);
        sched_sleep_ns(2000000);
    }
    return bench_leave(&w->bench, code);
}

static och_code step_it(struct world *w, const struct base *base, enum step step, och_error *err)
{
    return step == RESTORE ? restore_it(w, base, err)
           : step == DROP  ? drop_it(w, err)
                           : expire_it(w, err);
}

/* A version reads as it was, or is not there if it need not be.  Its models are compared with a copy: comparing looks at all rows. */
static bool check_kept(struct world *w, const char *name, const struct model *model, bool may_lack)
{
    struct gateway_version_ref ref = {.by = GATEWAY_BY_NAME, .name = slice_of(name)};
    struct gateway_version *rows;
    size_t count;
    och_error err = {0};
    struct arena arena;
    struct model copy = *model;
    bool there = false;
    world_use(w, 0);
    arena_init(&arena, NULL, 0);
    must(w,
         gateway_versions(database_gateway(w->bench.database), &bench_scope, w->ids[0], &arena,
                          &rows, &count, &err),
         "list versions", &err);
    for (size_t i = 0; i < count; i++)
        there |= rows[i].name.at && slice_equal(rows[i].name, ref.name);
    arena_done(&arena);
    if (!there) {
        if (!may_lack)
            fail_msg("seed %" PRIu64 ": version %s is gone after %s", w->seed, name, w->last);
        return false;
    }
    bench_scope.version = &ref;
    check_all(&w->bench, &copy);
    check_query(&w->bench, &copy, &(struct model_filter){.document_part = -1}, 8);
    bench_scope.version = NULL;
    return true;
}

/* Whatever came of it is sound and goes on, also when opened again.  True: the step has happened. */
static bool check_after(struct world *w, const struct base *base, enum step step)
{
    och_error err = {0};
    struct model before = w->before.at[0].model;
    bool done = world_settle(w) && step == RESTORE, lacks = step == DROP;
    world_check_reads(w, 1);
    bool kept = check_kept(w, kept_name, &base->kept, lacks), undo = false;
    if (step == RESTORE) {
        undo = check_kept(w, undo_name, &before, true);
        /* the states may be equal: then only the version can tell */
        if (done != undo && w->now.at[0].model.count != before.count)
            fail_msg("seed %" PRIu64 ": restored %d, kept before %d", w->seed, done, undo);
    }
    for (int i = 0; i < 4; i++) {
        world_use(w, 0);
        must(w, step_write(w, 0, &err), w->last, &err);
    }
    world_settle(w);
    if (kept)
        must(w, restore_it(w, base, &err) == OCH_EXISTS ? OCH_OK : err.code, "restore again", &err);
    if (w->unsure) // "undo" was taken: nothing happened
        w->now = w->before;
    w->unsure = false;
    bench_close(&w->bench);
    must(w, bench_try_open(&w->bench, &err), "open again", &err);
    world_settle(w);
    world_audit(w);
    world_settle(w);
    if (kept)
        (void)check_kept(w, kept_name, &base->kept, false);
    if (undo)
        (void)check_kept(w, undo_name, &before, false);
    bench_close(&w->bench);
    return done || undo || (step != RESTORE && !kept);
}

static void power_goes(enum step step, int64_t retention_ms, int shape_first, uint64_t stride)
{
    uint64_t seed = number_from("OCHRE_CRASH_FIRST", 3), done_count = 0, not_done = 0;
    for (int shape = shape_first; shape < SHAPES; shape++) {
        struct base base = base_make(seed, shape, retention_ms);
        bool done = false;
        for (uint64_t nth = 1; !done; nth += stride * WORLD_SLOW) {
            struct world *w = world_on(&base, seed + nth, retention_ms);
            och_error err = {0};
            w->before = w->now;
            io_sim_fail_at(w->bench.io, IO_SIM_ANY, nth, EIO, true);
            done = step_it(w, &base, step, &err) == OCH_OK;
            io_sim_fail_at(w->bench.io, IO_SIM_ANY, 1, EIO, true);
            struct io *image = io_sim_power_cut(w->bench.io, random_u64(&w->bench.random));
            IGNORE(database_close(w->bench.database, NULL));
            database_free(w->bench.database);
            w->bench.database = NULL;
            io_sim_free(w->bench.io);
            w->bench.io = image;
            must(w, bench_try_open(&w->bench, &err), "open after the cut", &err);
            *(check_after(w, &base, step) ? &done_count : &not_done) += 1;
            world_free(w);
            assert_true(nth < 2000);
        }
        io_sim_free(base.io);
    }
    printf("%" PRIu64 " cuts came after the step, %" PRIu64 " before\n", done_count, not_done);
    if (step != EXPIRE)
        assert_true(done_count >= (uint64_t)(SHAPES - shape_first) && not_done > 0);
}

static void power_goes_at_each_operation_of_a_restore(void **state)
{
    (void)state;
    power_goes(RESTORE, 0, TAIL, 1);
}

static void power_goes_while_a_version_is_given_up(void **state)
{
    (void)state;
    power_goes(DROP, 3600000, BOTH, 2);
}

static void power_goes_while_old_versions_go(void **state)
{
    (void)state;
    power_goes(EXPIRE, 1, BOTH, 3);
}

static void operations_fail(enum step step, int64_t retention_ms)
{
    uint64_t seed = number_from("OCHRE_CRASH_FIRST", 3);
    static const enum io_sim_operation kinds[] = {IO_SIM_WRITE, IO_SIM_SYNC, IO_SIM_READ};
    for (int shape = BOTH; shape < SHAPES; shape++) { // has all that the others have
        struct base base = base_make(seed, shape, retention_ms);
        for (size_t kind = 0; kind < COUNT_OF(kinds); kind++) {
            bool done = false;
            for (uint64_t nth = 1; !done; nth += WORLD_SLOW) {
                struct world *w = world_on(&base, seed + nth, retention_ms);
                och_error err = {0};
                w->before = w->now;
                io_sim_fail_at(w->bench.io, kinds[kind], nth, EIO, false);
                done = step_it(w, &base, step, &err) == OCH_OK;
                io_sim_fail_at(w->bench.io, kinds[kind], 0, 0, false);
                (void)check_after(w, &base, step);
                world_free(w);
                assert_true(nth < 2000);
            }
        }
        io_sim_free(base.io);
    }
}

static void each_write_sync_and_read_of_a_restore_may_fail(void **state)
{
    (void)state;
    operations_fail(RESTORE, 0);
}

static void each_write_sync_and_read_may_fail_while_a_version_is_given_up(void **state)
{
    (void)state;
    operations_fail(DROP, 3600000);
}

static void each_allocation_of_a_restore_may_fail(void **state)
{
    (void)state;
    uint64_t seed = number_from("OCHRE_CRASH_FIRST", 3);
    struct base base = base_make(seed, BOTH, 3600000);
    uint64_t live = mem_count_live();
    for (uint64_t nth = 1, done = 0; !done; nth += WORLD_SLOW) {
        struct world *w = world_on(&base, seed, 3600000);
        och_error err = {0};
        w->before = w->now;
        mem_fail_at(nth);
        done = restore_it(w, &base, &err) == OCH_OK;
        mem_fail_at(0);
        if (!done && !err.message[0])
            fail_msg("an error without a message");
        (void)check_after(w, &base, RESTORE);
        world_free(w);
        if (nth > 1 && mem_count_live() != live)
            fail_msg("allocation %" PRIu64 ": leaks", nth);
        live = mem_count_live();
    }
    io_sim_free(base.io);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(power_goes_at_each_operation_of_a_restore),
        cmocka_unit_test(power_goes_while_a_version_is_given_up),
        cmocka_unit_test(power_goes_while_old_versions_go),
        cmocka_unit_test(each_write_sync_and_read_of_a_restore_may_fail),
        cmocka_unit_test(each_write_sync_and_read_may_fail_while_a_version_is_given_up),
        cmocka_unit_test(each_allocation_of_a_restore_may_fail),
    };
    cmocka_set_test_filter(getenv("OCHRE_TEST")); // one of them, NULL: all
    return cmocka_run_group_tests(tests, NULL, NULL);
}
