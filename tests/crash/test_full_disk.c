/* SPDX-License-Identifier: Apache-2.0 */
/* A disk that fills up (D11): reads go on, writes are refused with an error that says so, deletes and compaction still run on what was kept in
 * reserve, the folder still opens, and when there is room writes resume by themselves.  Tried with many amounts of room left.
 * OCHRE_CRASH_SEEDS: how many amounts; OCHRE_CRASH_SECONDS or OCHRE_SOAK_MINUTES: how long at most. */
#include "support/world.h"

#include <errno.h>

#define PLENTY        (1ull << 40)
#define RESERVE_LEAST (512u << 10)

static uint64_t reserves; /* worlds in which there was one */

static uint64_t room_left(struct world *w)
{
    uint64_t left = 0;
    och_error err = {0};
    if (io_space(w->bench.io, "data", &left, &err) != OCH_OK)
        fail_msg("%s", err.message);
    return left;
}

static void leave_room(struct world *w, uint64_t room)
{
    io_sim_set_capacity(w->bench.io, PLENTY);
    io_sim_set_capacity(w->bench.io, PLENTY - room_left(w) + room);
}

static void explain(struct world *w, const char *what, const och_error *err)
{
    fail_msg("seed %" PRIu64 ", %s: %s: %s (%s:%d)", w->seed, w->last, what, err->message,
             err->file, err->line);
}

static och_code write_some(struct world *w, och_error *err)
{
    size_t i = random_below(&w->bench.random, w->now.count);
    w->before = w->now;
    world_use(w, i);
    struct model_write writes[24];
    for (uint32_t row = 0; row < 24; row++) {
        random_write(&w->bench.random, BATCH_UPSERT, &writes[row]);
        model_apply(&w->now.at[i].model, &writes[row]);
    }
    struct gateway_counts counts;
    w->last = "upsert";
    w->steps++;
    och_code code = bench_write(&w->bench, writes, 24, false, &counts, err);
    w->unsure = code != OCH_OK;
    return code;
}

/* The error must tell a person what to do. */
static void check_refusal(struct world *w, const och_error *err)
{
    bool clear = err->code == OCH_UNAVAILABLE || err->code == OCH_BUSY || err->code == OCH_IO;
    if (!clear || !(strstr(err->message, "No space left") || strstr(err->message, "full")))
        explain(w, "the refusal is not clear", err);
}

static och_code delete_one(struct world *w, size_t i, och_error *err)
{
    struct model *m = &w->now.at[i].model;
    w->before = w->now;
    world_use(w, i);
    struct model_write gone = {.op = BATCH_DELETE, .id = m->rows[0].id, .document = -1, .uri = -1};
    model_apply(m, &gone);
    struct gateway_counts counts;
    w->last = "delete";
    w->steps++;
    och_code code = bench_write(&w->bench, &gone, 1, false, &counts, err);
    w->unsure = code != OCH_OK;
    return code;
}

static void fill_up(struct world *w, unsigned *ret_writes)
{
    och_error err = {0};
    unsigned writes = 0;
    while (write_some(w, &err) == OCH_OK) {
        if (++writes > 4000)
            fail_msg("the disk does not fill");
        if (writes % 64 == 63 &&
            writes < 1500) { // compaction as it would run beside; it may find no room either
            och_code code = compactor_run(database_compactor(w->bench.database), NULL, false, &err);
            if (code != OCH_OK)
                check_refusal(w, &err);
            error_clear(&err);
        }
    }
    check_refusal(w, &err);
    (void)world_settle(w);
    *ret_writes = writes;
}

/* Writes resume without a word from us, within a second or two. */
static void await_writes(struct world *w)
{
    och_error err = {0};
    for (int i = 0; i < 400; i++) {
        if (write_some(w, &err) == OCH_OK) {
            (void)world_settle(w);
            return;
        }
        check_refusal(w, &err);
        (void)world_settle(w);
        sched_sleep_ns(10000000);
    }
    explain(w, "there is room and still no write", &err);
}

/* A try that failed gives back what it had written, and the catalogue's log begins anew before the next. */
static void compact(struct world *w)
{
    och_error err = {0};
    bool reserve = room_left(w) >= RESERVE_LEAST; // flushes behind the deletes may have used it
    if (compactor_run(database_compactor(w->bench.database), NULL, true, &err) == OCH_OK)
        return;
    check_refusal(w, &err);
    (void)world_settle(w);
    if (reserve && compactor_run(database_compactor(w->bench.database), NULL, true, &err) != OCH_OK)
        explain(w, "compaction on a full disk, the second try", &err);
}

static void run_room(uint64_t seed, uint64_t room, bool reopen)
{
    struct world *w = world_new(seed, io_sim_new(false));
    och_error err = {0};
    w->bench.settings.log_segment_bytes = 2 << 20; // the reserve is smaller than a segment
    w->bench.settings.tail_rows_max =
        1024; // each step of a flush costs a transaction; a real tail takes few of them
    bench_open(&w->bench);
    while (w->now.count < 2)
        IGNORE(step_create(w, &err));
    for (int i = 0; i < 12; i++) {
        if (write_some(w, &err) != OCH_OK)
            explain(w, "before the disk is full", &err);
    }
    sched_sleep_ns(2000000); // a spare segment is made behind
    leave_room(w, room);
    unsigned writes;
    fill_up(w, &writes);
    world_check_reads(w, 2);
    // deletes and compaction have their reserve, unless the disk was full before and it is used up
    bool reserve = room_left(w) >= RESERVE_LEAST;
    unsigned deletes = 0;
    reserves += reserve;
    for (size_t i = 0; i < w->now.count; i++) {
        while (w->now.at[i].model.count > 0 && deletes < 40) {
            deletes++;
            if (delete_one(w, i, &err) == OCH_OK)
                continue;
            if (reserve)
                explain(w, "a delete on a full disk", &err);
            check_refusal(w, &err);
            (void)world_settle(w);
        }
    }
    (void)world_settle(w);
    compact(w);
    (void)world_settle(w);
    world_check_reads(w, 2);
    if (reopen) { // a full disk is no reason not to open and read
        och_error why = {0};
        if (database_close(w->bench.database, &why) != OCH_OK)
            check_refusal(w, &why);
        database_free(w->bench.database);
        w->bench.database = NULL;
        if (bench_try_open(&w->bench, &err) != OCH_OK)
            explain(w, "opening on a full disk", &err);
        (void)world_settle(w);
        world_check_reads(w, 1);
    }
    leave_room(w, 8 << 20);
    await_writes(w);
    io_sim_set_capacity(w->bench.io, 0);
    world_check_reads(w, 1);
    world_audit(w);
    bench_close(&w->bench);
    bench_open(&w->bench);
    (void)world_settle(w);
    bench_close(&w->bench);
    if (getenv("OCHRE_CRASH_TRACE"))
        printf("room %" PRIu64 ": %u writes, %u deletes\n", room, writes, deletes);
    world_free(w);
}

static void a_full_disk_refuses_writes_and_nothing_else(void **state)
{
    (void)state;
    uint64_t seeds = count_from(80 / WORLD_SLOW), first = number_from("OCHRE_CRASH_FIRST", 1), seed,
             end = sched_mono_ns() + seconds_from(240) * 1000000000u;
    for (seed = first; seed < first + seeds && sched_mono_ns() < end; seed++) {
        uint64_t some = seed % 200;
        uint64_t room = seed % 3 == 0 ? some * 512 : seed % 3 == 1 ? some * 4096 : some * 16384;
        run_room(seed, room, seed & 1);
    }
    printf("%" PRIu64 " amounts of room, in %" PRIu64 " deletes and compaction had a reserve\n",
           seed - first, reserves);
    /* A thread makes the reserve again, flushes use it before we look: on a quiet machine in every sixth world, on a busy one in half of them.
     * A few seeds, slowed by a sanitizer, say nothing about it. */
    assert_true(reserves * 10 >= (seed - first) * 3 || seed - first < 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_disk_refuses_writes_and_nothing_else)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
