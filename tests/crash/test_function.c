/* SPDX-License-Identifier: Apache-2.0 */
/* Power goes while functions run, at every operation of the disk and at random ones: what is opened on the rest counts each record once. */
#include "unit/function/function_player.h"

#include <errno.h>

static struct {
    uint64_t cuts, runs;
} tally;

/* The machine is gone; what is left of the disk takes its place. */
static void cut_power(struct player *p)
{
    struct stack *s = &p->stack;
    io_sim_fail_at(s->io, IO_SIM_ANY, 1, EIO, true);
    struct io *image = io_sim_power_cut(s->io, random_u64(&p->random));
    assert_non_null(image);
    functions_stop(s->functions);
    compactor_stop(s->compactor);
    IGNORE(wal_close(s->wal, NULL));
    IGNORE(sysdb_close(s->sysdb, NULL));
    functions_free(s->functions);
    compactor_free(s->compactor);
    wal_free(s->wal);
    views_free(s->views);
    cache_free(s->cache);
    store_free(s->store);
    sysdb_free(s->sysdb);
    io_sim_free(s->io);
    s->functions = NULL;
    s->compactor = NULL;
    s->io = image;
    stack_open(s);
    tally.cuts++;
}

/* The nth operation of a run is the last one; true: it had none so late.  Then writes, or a flush of the output, come before the next run. */
static bool cut_run_at(uint64_t nth, bool write, bool flush)
{
    struct player p;
    och_error why = {0};
    player_open(&p, 2);
    for (int i = 0; i < 6; i++)
        OK(player_write(&p, err));
    run_all(&p.stack);
    OK(compactor_run(p.stack.compactor, &p.input, true, err));
    OK(compactor_run(p.stack.compactor, &p.output, true, err));
    for (int i = 0; i < 6; i++)
        OK(player_write(&p, err));
    io_sim_fail_at(p.stack.io, IO_SIM_ANY, nth, EIO, true);
    bool ended = functions_run(p.stack.functions, &why) == OCH_OK;
    cut_power(&p);
    if (write)
        OK(player_write(&p, err));
    if (flush) /* what a step wrote must not leave the log before it is recognised */
        OK(compactor_run(p.stack.compactor, &p.output, true, err));
    player_check(&p);
    player_check(&p);
    stack_done(&p.stack);
    return ended;
}

static void at_every_operation_of_a_run(void **state)
{
    (void)state;
    for (unsigned how = 0; how < 4; how++) {
        for (uint64_t nth = 1; !cut_run_at(nth, how & 1, how & 2); nth++)
            continue;
    }
}

static void at_random_moments(void **state)
{
    (void)state;
    uint64_t seeds = player_number("OCHRE_CRASH_SEEDS", 24);
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        struct player p;
        och_error why = {0};
        player_open(&p, seed);
        for (int cut = 0; cut < 3; cut++) {
            for (uint64_t i = random_below(&p.random, 12); i > 0; i--)
                OK(player_step(&p, err));
            io_sim_fail_at(p.stack.io, IO_SIM_ANY, 1 + random_below(&p.random, 60), EIO, true);
            for (int i = 0; i < 40 && player_step(&p, &why) == OCH_OK; i++)
                error_clear(&why);
            cut_power(&p);
            if (random_below(&p.random, 2) == 0)
                OK(compactor_run(p.stack.compactor, &p.output, true, err));
            player_check(&p);
        }
        struct functions_stats stats;
        functions_stats(p.stack.functions, &stats);
        tally.runs += stats.runs;
        stack_done(&p.stack);
    }
    printf("%llu cuts\n", (unsigned long long)tally.cuts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(at_every_operation_of_a_run),
        cmocka_unit_test(at_random_moments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
