/* SPDX-License-Identifier: Apache-2.0 */
/* Power cuts under the whole database (invariants 1, 2, 6).  Random steps run on a simulated disk; at some point, between steps or in the midst
 * of one, power goes: unsynced sectors, sizes and names are lost, reordered or torn as the seed says.  What is opened on the rest must show the
 * state after the last acknowledged step, or that with the step in flight, and goes on from there.
 * OCHRE_CRASH_SEEDS: how many; OCHRE_CRASH_FIRST: from which; OCHRE_CRASH_SECONDS or OCHRE_SOAK_MINUTES: how long at most. */
#include "support/world.h"

#include <errno.h>

#define CUTS       3
#define STEPS_MOST 14

struct tally {
    uint64_t worlds, cuts, midst, opening, acknowledged, after, before;
};

static void open_again(struct world *w)
{
    och_error err = {0};
    if (bench_try_open(&w->bench, &err) != OCH_OK)
        fail_msg("seed %" PRIu64 ", after %s: open: %s (%s:%d)", w->seed, w->last, err.message,
                 err.file, err.line);
}

/* Steps until one fails or there are enough; in the midst of them the disk may stop for good. */
static void run_until_cut(struct world *w, struct tally *tally)
{
    struct random *r = &w->bench.random;
    uint64_t steps = 1 + random_below(r, STEPS_MOST);
    bool midst = random_below(r, 4) != 0;
    och_error err = {0};
    for (uint64_t i = 0; i < steps; i++) {
        if (world_step(w, &err) != OCH_OK && err.code != OCH_BUSY)
            fail_msg("seed %" PRIu64 ", step %" PRIu64 " (%s): %s (%s:%d)", w->seed, w->steps,
                     w->last, err.message, err.file, err.line);
        error_clear(&err);
        if (random_below(r, 24) == 0)
            world_check_reads(w, 1);
        if (random_below(r, 4) == 0) // let threads behind note what is durable
            sched_sleep_ns(50000);
    }
    if (!midst)
        return;
    io_sim_fail_at(w->bench.io, IO_SIM_ANY, 1 + random_below(r, 12) * random_below(r, 12), EIO,
                   true);
    for (uint64_t i = 0; i < STEPS_MOST; i++) {
        if (world_step(w, &err) != OCH_OK && err.code != OCH_BUSY)
            break;
        error_clear(&err);
    }
    tally->midst++;
}

/* The disk stops, whatever runs, and the world goes on with what a cut leaves of it. */
static void cut_disk(struct world *w, struct tally *tally)
{
    io_sim_fail_at(w->bench.io, IO_SIM_ANY, 1, EIO, true); // threads behind stop too
    struct io *image = io_sim_power_cut(w->bench.io, random_u64(&w->bench.random));
    assert_non_null(image);
    if (w->bench.database)
        IGNORE(database_close(w->bench.database, NULL)); // of the dead machine
    database_free(w->bench.database);
    w->bench.database = NULL;
    io_sim_free(w->bench.io);
    w->bench.io = image;
    tally->cuts++;
}

static void cut_power(struct world *w, struct tally *tally)
{
    cut_disk(w, tally);
    while (random_below(&w->bench.random, 4) == 0) { // and again while it recovers
        io_sim_fail_at(w->bench.io, IO_SIM_ANY, 1 + random_below(&w->bench.random, 60), EIO, true);
        IGNORE(bench_try_open(&w->bench, NULL));
        cut_disk(w, tally);
        tally->opening++;
    }
    bool unsure = w->unsure;
    open_again(w);
    bool after = world_settle(w);
    tally->after += unsure && after;
    tally->before += unsure && !after;
    world_check_reads(w, 2);
}

static void run_seed(uint64_t seed, struct tally *tally)
{
    struct world *w = world_new(seed, io_sim_new(true));
    w->bench.background = seed % 3 == 0;
    open_again(w);
    for (int cut = 0; cut < CUTS; cut++) {
        run_until_cut(w, tally);
        cut_power(w, tally);
    }
    if (w->bench.background) {
        bench_close(&w->bench);
        w->bench.background = false;
        open_again(w);
    }
    world_audit(w);
    bench_close(&w->bench);
    open_again(w);
    w->last = "the last close";
    world_settle(w);
    bench_close(&w->bench);
    tally->worlds++;
    tally->acknowledged += w->acknowledged;
    world_free(w);
}

static void a_power_cut_takes_nothing_that_was_acknowledged_and_leaves_no_half(void **state)
{
    (void)state;
    uint64_t seeds = count_from(2000), first = number_from("OCHRE_CRASH_FIRST", 1),
             seconds = seconds_from(60);
    struct tally tally = {0};
    struct clock *clock = clock_system();
    uint64_t start = clock_mono_ns(clock);
    for (uint64_t i = 0; i < seeds; i++) {
        if (clock_mono_ns(clock) - start > seconds * 1000000000u)
            break;
        run_seed(first + i, &tally);
    }
    double took = (double)(clock_mono_ns(clock) - start) / 1e9;
    printf("%" PRIu64 " seeds, %" PRIu64 " power cuts (%" PRIu64
           " with the disk stopped in the midst of a step, "
           "%" PRIu64 " while opening), %" PRIu64 " steps acknowledged, of those in flight %" PRIu64
           " there and %" PRIu64 " not, %.1f s, %.0f cuts a minute\n",
           tally.worlds, tally.cuts, tally.midst, tally.opening, tally.acknowledged, tally.after,
           tally.before, took, (double)tally.cuts * 60 / took);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_power_cut_takes_nothing_that_was_acknowledged_and_leaves_no_half)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
