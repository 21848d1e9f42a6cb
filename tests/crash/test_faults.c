/* SPDX-License-Identifier: Apache-2.0 */
/* One thing fails at a time: the n-th write, sync, rename, open, removal, read and allocation of a fixed scenario, n = 1, 2, .. until it runs
 * clean (D11, STYLE §12).  Every call answers, right or with an error; nothing leaks; the database shows the state before or after the call that
 * failed, in the same process and after reopening, and takes writes again.
 * Sanitized builds try every eighth by default.  OCHRE_CRASH_STRIDE: every how many-th allocation (1: all, as in a soak); OCHRE_CRASH_FIRST: the scenario's seed. */
#include "support/world.h"

#include <errno.h>

#define STEPS 36

static struct { /* the fault on order */
    bool memory, fired;
    enum io_sim_operation kind;
    uint64_t nth, used; /* used: allocations inside calls so far */
    uint64_t entered;
} fault;

static void fault_enter(struct bench *b)
{
    (void)b;
    fault.entered = mem_count_allocations();
    if (fault.memory && !fault.fired && fault.nth > fault.used)
        mem_fail_at(fault.nth - fault.used);
}

static void fault_leave(struct bench *b)
{
    if (fault.memory) {
        fault.used += mem_count_allocations() - fault.entered;
        mem_fail_at(0);
        fault.fired = fault.nth && fault.used >= fault.nth;
    } else {
        fault.fired = fault.nth && io_sim_count(b->io, fault.kind) >= fault.nth;
    }
}

/* A read of everything and a query, either of which may fail. */
static och_code try_reads(struct world *w, och_error *err)
{
    struct buf text;
    buf_init(&text, BUF_MAX_NONE);
    och_code code = OCH_OK;
    for (size_t i = 0; i < w->now.count && code == OCH_OK; i++) {
        struct arena arena;
        arena_init(&arena, NULL, 0);
        float query[MODEL_DIM] = {1, -1, 2, 0, 1};
        struct plan plan = {.kind = PLAN_QUERY,
                            .collection = w->ids[i],
                            .fields = RECORD_ALL,
                            .limit = PLAN_NO_LIMIT,
                            .vectors = query,
                            .vector_count = 1,
                            .dimension = MODEL_DIM,
                            .k = 5};
        struct query_result result = {0};
        size_t rows = w->now.at[i].model.count;
        bench_enter(&w->bench);
        code = gateway_read(database_gateway(w->bench.database), &bench_scope, &plan, &arena,
                            &result, err);
        if (code == OCH_OK && result.hits[0].count != (rows < 5 ? rows : 5))
            fail_msg("a query answers %zu rows of %zu", result.hits[0].count, rows);
        query_result_done(&result);
        if (code == OCH_OK)
            code = rows_text(w->bench.database, w->ids[i], &text, err);
        (void)bench_leave(&w->bench, code);
        arena_done(&arena);
    }
    buf_done(&text);
    return code;
}

static void must(struct world *w, och_code code, const char *what, const och_error *err)
{
    if (code != OCH_OK)
        fail_msg("fault %d/%d at %" PRIu64 " in %s, then %s: %s (%s:%d)", fault.memory,
                 (int)fault.kind, fault.nth, w->last, what, err->message, err->file, err->line);
}

static void reopen(struct world *w, bool close)
{
    och_error err = {0};
    if (close)
        must(w, database_close(w->bench.database, &err), "close", &err);
    database_free(w->bench.database);
    w->bench.database = NULL;
    must(w, bench_try_open(&w->bench, &err), "open", &err);
}

/* The fault is over: what it left must be sound, and go on working. */
static void check_after(struct world *w)
{
    och_error err = {0};
    const char *at = w->last;
    if (!w->bench.database)
        reopen(w, false);
    (void)world_settle(w);
    world_check_reads(w, 1);
    for (int i = 0; i < 4; i++) { // what comes next is acknowledged, so the answer stands
        och_code code = world_step(w, &err);
        must(w, code == OCH_BUSY ? OCH_OK : code, at, &err);
    }
    (void)world_settle(w);
    reopen(w, true);
    (void)world_settle(w);
    must(w, compactor_run(database_compactor(w->bench.database), NULL, true, &err), "compact",
         &err);
    (void)world_settle(w);
}

/* False: the scenario ran clean, the fault was never met. */
static bool run_scenario(uint64_t seed)
{
    struct world *w = world_new(seed, io_sim_new(false));
    och_error err = {0};
    fault.used = 0;
    fault.fired = false;
    w->bench.enter = fault_enter;
    w->bench.leave = fault_leave;
    if (!fault.memory && fault.nth)
        io_sim_fail_at(w->bench.io, fault.kind, fault.nth, EIO, false);
    w->last = "the first open";
    och_code code = bench_try_open(&w->bench, &err);
    for (int i = 0; i < STEPS && code == OCH_OK && !fault.fired; i++) {
        code = world_step(w, &err);
        if (code == OCH_OK && i % 6 == 5)
            code = try_reads(w, &err);
    }
    bool met = fault.fired;
    if (code != OCH_OK && !met)
        fail_msg("the scenario fails by itself in %s: %s", w->last, err.message);
    if (code != OCH_OK && (err.code != code || !err.message[0]))
        fail_msg("an error without a message in %s", w->last);
    io_sim_fail_at(w->bench.io, fault.kind, 0, 0, false);
    w->bench.enter = NULL;
    w->bench.leave = NULL;
    if (met)
        check_after(w);
    if (w->bench.database)
        bench_close(&w->bench);
    world_free(w);
    return met;
}

static void run_seed(uint64_t seed, uint64_t stride, const char *what)
{
    uint64_t tried = 0;
    fault.nth = 0;
    (void)run_scenario(seed); // what is made once in a process is made now
    uint64_t live = mem_count_live();
    for (fault.nth = 1;; fault.nth += stride, tried++) {
        bool met = run_scenario(seed);
        if (mem_count_live() != live)
            fail_msg("fault %s at %" PRIu64 " leaks %" PRIu64 " allocations", what, fault.nth,
                     mem_count_live() - live);
        if (!met)
            break;
    }
    printf("scenario %" PRIu64 ", %s: %" PRIu64 " faults, the last at %" PRIu64 "\n", seed, what,
           tried, tried ? fault.nth - stride : 0);
}

static void run_all(bool memory, enum io_sim_operation kind, uint64_t stride, const char *what)
{
    uint64_t first = number_from("OCHRE_CRASH_FIRST", 7);
    fault.memory = memory;
    fault.kind = kind;
    run_seed(first, stride, what);
    run_seed(first + 14, stride, what);
}

static void each_write_may_fail(void **state)
{
    (void)state;
    run_all(false, IO_SIM_WRITE, WORLD_SLOW, "write");
}
static void each_sync_may_fail(void **state)
{
    (void)state;
    run_all(false, IO_SIM_SYNC, WORLD_SLOW, "sync");
}
static void each_rename_open_and_removal_may_fail(void **state)
{
    (void)state;
    run_all(false, IO_SIM_RENAME, WORLD_SLOW, "rename");
    run_all(false, IO_SIM_OPEN, WORLD_SLOW, "open");
    run_all(false, IO_SIM_REMOVE, WORLD_SLOW, "removal");
}
static void each_read_may_fail(void **state)
{
    (void)state;
    run_all(false, IO_SIM_READ, WORLD_SLOW, "read");
}
static void each_allocation_may_fail(void **state)
{
    (void)state;
    run_all(true, IO_SIM_ANY,
            number_from("OCHRE_CRASH_STRIDE", getenv("OCHRE_SOAK_MINUTES") ? 1 : 17 * WORLD_SLOW),
            "allocation");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_write_may_fail),
        cmocka_unit_test(each_sync_may_fail),
        cmocka_unit_test(each_rename_open_and_removal_may_fail),
        cmocka_unit_test(each_read_may_fail),
        cmocka_unit_test(each_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
