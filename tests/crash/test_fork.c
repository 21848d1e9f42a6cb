/* SPDX-License-Identifier: Apache-2.0 */
/* Forks and faults (D16): power goes at each operation of the disk that a fork makes, each write, sync and allocation of one fails.  The copy is there wholly or
 * not at all, the source is as it was, both go on, and once at rest the store holds what the catalogue names.
 * OCHRE_CRASH_FIRST: the scenario's seed. */
#include "support/world.h"

#include <errno.h>

enum { TAIL, PARTS, BOTH, SHAPES }; /* what the source consists of */

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

/* A world with one collection, closed, on a disk where all is synced. */
static struct io *base_make(uint64_t seed, int shape, struct world_state *ret_state)
{
    och_error err = {0};
    struct world *w = world_new(seed, io_sim_new(true));
    must(w, bench_try_open(&w->bench, &err), "open", &err);
    must(w, step_create(w, &err), "create", &err);
    if (shape != TAIL) {
        write_some(w, 6);
        must(w, compactor_run(database_compactor(w->bench.database), w->ids, false, &err),
             "compact", &err);
    }
    if (shape != PARTS)
        write_some(w, 2);
    bench_close(&w->bench);
    struct io *base = io_sim_copy(w->bench.io);
    *ret_state = w->now;
    world_free(w);
    return base;
}

static struct world *world_on(struct io *base, uint64_t seed, const struct world_state *state)
{
    och_error err = {0};
    struct world *w = world_new(seed, io_sim_copy(base));
    w->now = *state;
    must(w, bench_try_open(&w->bench, &err), "open", &err);
    w->last = "open";
    world_settle(w); // finds the ids
    return w;
}

static och_code fork_it(struct world *w, och_error *err)
{
    char text[16];
    w->before = w->now;
    w->steps++;
    world_use(w, 0);
    w->now.at[w->now.count] = w->now.at[0];
    w->now.at[w->now.count].name = WORLD_NAMES; // no other has it
    w->last = "fork";
    och_code code =
        bench_fork(&w->bench, world_name(WORLD_NAMES, text), &w->ids[w->now.count], err);
    w->now.count++;
    w->unsure = code != OCH_OK;
    return code;
}

/* Whatever came of it is sound and goes on, also when opened again. */
static bool check_after(struct world *w)
{
    och_error err = {0};
    bool there = world_settle(w);
    world_check_reads(w, 1);
    for (int i = 0; i < 6; i++) {
        och_code code = world_step(w, &err);
        must(w, code == OCH_BUSY ? OCH_OK : code, w->last, &err);
        error_clear(&err);
    }
    world_settle(w);
    if (!there && w->now.count < WORLD_COLLECTIONS && w->now.count > 0 &&
        w->now.at[w->now.count - 1].name != WORLD_NAMES)
        must(w, fork_it(w, &err), "fork again", &err);
    bench_close(&w->bench);
    must(w, bench_try_open(&w->bench, &err), "open again", &err);
    world_settle(w);
    world_audit(w);
    world_settle(w);
    bench_close(&w->bench);
    return there;
}

static void power_goes_at_each_operation_of_a_fork(void **state)
{
    (void)state;
    uint64_t seed = number_from("OCHRE_CRASH_FIRST", 3), there = 0, not_there = 0;
    for (int shape = 0; shape < SHAPES; shape++) {
        struct world_state begin;
        struct io *base = base_make(seed, shape, &begin);
        bool done = false;
        for (uint64_t nth = 1; !done; nth += WORLD_SLOW) {
            struct world *w = world_on(base, seed + nth, &begin);
            och_error err = {0};
            io_sim_fail_at(w->bench.io, IO_SIM_ANY, nth, EIO, true);
            done = fork_it(w, &err) == OCH_OK;
            io_sim_fail_at(w->bench.io, IO_SIM_ANY, 1, EIO, true);
            struct io *image = io_sim_power_cut(w->bench.io, random_u64(&w->bench.random));
            IGNORE(database_close(w->bench.database, NULL));
            database_free(w->bench.database);
            w->bench.database = NULL;
            io_sim_free(w->bench.io);
            w->bench.io = image;
            must(w, bench_try_open(&w->bench, &err), "open after the cut", &err);
            *(check_after(w) ? &there : &not_there) += 1;
            world_free(w);
            assert_true(nth < 1000);
        }
        io_sim_free(base);
    }
    printf("%" PRIu64 " cuts left the copy, %" PRIu64 " did not\n", there, not_there);
    assert_true(there >= SHAPES && not_there > 0);
}

static void each_write_and_sync_of_a_fork_may_fail(void **state)
{
    (void)state;
    uint64_t seed = number_from("OCHRE_CRASH_FIRST", 3);
    static const enum io_sim_operation kinds[] = {IO_SIM_WRITE, IO_SIM_SYNC, IO_SIM_READ};
    for (int shape = 0; shape < SHAPES; shape++) {
        struct world_state begin;
        struct io *base = base_make(seed, shape, &begin);
        for (size_t kind = 0; kind < COUNT_OF(kinds); kind++) {
            bool done = false;
            for (uint64_t nth = 1; !done; nth++) {
                struct world *w = world_on(base, seed + nth, &begin);
                och_error err = {0};
                io_sim_fail_at(w->bench.io, kinds[kind], nth, EIO, false);
                done = fork_it(w, &err) == OCH_OK;
                io_sim_fail_at(w->bench.io, kinds[kind], 0, 0, false);
                (void)check_after(w);
                world_free(w);
                assert_true(nth < 1000);
            }
        }
        io_sim_free(base);
    }
}

static void each_allocation_of_a_fork_may_fail(void **state)
{
    (void)state;
    uint64_t seed = number_from("OCHRE_CRASH_FIRST", 3);
    struct world_state begin;
    struct io *base = base_make(seed, BOTH, &begin);
    uint64_t live = mem_count_live();
    for (uint64_t nth = 1, done = 0; !done; nth += WORLD_SLOW) {
        struct world *w = world_on(base, seed, &begin);
        och_error err = {0};
        mem_fail_at(nth);
        done = fork_it(w, &err) == OCH_OK;
        mem_fail_at(0);
        if (!done && !err.message[0])
            fail_msg("an error without a message");
        (void)check_after(w);
        world_free(w);
        if (nth > 1 && mem_count_live() != live)
            fail_msg("allocation %" PRIu64 ": leaks", nth);
        live = mem_count_live();
    }
    io_sim_free(base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(power_goes_at_each_operation_of_a_fork),
        cmocka_unit_test(each_write_and_sync_of_a_fork_may_fail),
        cmocka_unit_test(each_allocation_of_a_fork_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
