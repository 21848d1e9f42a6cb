/* SPDX-License-Identifier: Apache-2.0 */
/* Speed: one create, many creates at once, a hundred thousand collections.  Prints what it measured; the bounds asserted
 * are far above, since the machine may be busy. */
#include "base/pool.h"
#include "support/slow.h"
#include "sysdb_test.h"

#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define COLLECTIONS 3000
#define SLOWER      20
#else
#define COLLECTIONS 100000
#define SLOWER      1
#endif
#define PER_COMMIT 64

static double seconds(void)
{
    return (double)clock_mono_ns(clock_system()) * 1e-9;
}
static double cpu_seconds(void)
{
    struct rusage usage;
    (void)getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
           1e-6 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}
static double resident_mib(void)
{
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file) {
        if (fscanf(file, "%*s %ld", &pages) != 1)
            pages = 0;
        (void)fclose(file);
    }
    return (double)pages * 4096 / 1048576;
}

static void a_create_costs_one_sync_and_little_work(void **state)
{
    struct test *t = *state;
    uint64_t syncs = io_sim_count(t->io, IO_SIM_SYNC);
    double cpu = cpu_seconds(), wall = seconds();
    for (uint64_t i = 0; i < 300; i++) {
        char name[20];
        (void)snprintf(name, sizeof(name), "name-%d", (int)i);
        ok(create(t, t->sysdb, i, name));
    }
    cpu = cpu_seconds() - cpu, wall = seconds() - wall;
    syncs = io_sim_count(t->io, IO_SIM_SYNC) - syncs;
    print_message("create: %.1f us cpu, %.1f us, %.2f syncs\n", cpu / 300 * 1e6, wall / 300 * 1e6,
                  (double)syncs / 300);
    assert_true(syncs < 330);
    assert_true(cpu / 300 < 1e-3 * SLOWER * cases_of(1, 50));
}

struct job {
    struct test *t;
    uint64_t first, count;
};

static void create_some(void *arg)
{
    struct job *job = arg;
    for (uint64_t i = 0; i < job->count; i++) {
        char name[24];
        uint64_t number = job->first + i;
        (void)snprintf(name, sizeof(name), "name-%d", (int)number);
        struct sysdb_collection_new spec = {.id = id_of(number),
                                            .tenant = TENANT,
                                            .database = DATABASE,
                                            .name = slice_of(name),
                                            .schema_json = job->t->schema};
        const struct sysdb_collection *made;
        bool created;
        och_error mine = {0};
        if (sysdb_collection_create(job->t->sysdb, &spec, &made, &created, &mine) != OCH_OK)
            fail_msg("%s", mine.message);
        sysdb_collection_unref(made);
    }
}

static void create_all(struct test *t, uint64_t count)
{
    struct job jobs[PER_COMMIT];
    struct thread threads[PER_COMMIT];
    for (uint64_t i = 0; i < PER_COMMIT; i++) {
        uint64_t from = count * i / PER_COMMIT, to = count * (i + 1) / PER_COMMIT;
        jobs[i] = (struct job){t, from, to - from};
        ok(thread_start(&threads[i], "create", 0, create_some, &jobs[i], &err));
    }
    for (size_t i = 0; i < PER_COMMIT; i++)
        thread_join(&threads[i]);
}

/* Every collection gets a part, packed hundreds to a file. */
static void commit_all(struct test *t, uint64_t count)
{
    for (uint64_t first = 0; first < count; first += 1000) {
        uint64_t some = count - first < 1000 ? count - first : 1000;
        struct sysdb_part *parts = test_calloc(some, sizeof(*parts));
        struct sysdb_commit *items = test_calloc(some, sizeof(*items));
        ok(sysdb_file_announce(t->sysdb, id_of(1000000 + first), &err));
        for (uint64_t i = 0; i < some; i++) {
            parts[i] = (struct sysdb_part){.file = id_of(1000000 + first),
                                           .offset = 4096 * i,
                                           .size = 4096,
                                           .rows = 10,
                                           .log_to = 10};
            items[i] = (struct sysdb_commit){
                .collection = id_of(first + i),
                .next = {.log_offset = 10, .dimension = 8, .parts = &parts[i], .part_count = 1}};
        }
        ok(sysdb_commit_versions(t->sysdb, items, some, &err));
        assert_true(items[some - 1].ret_committed);
        test_free(parts);
        test_free(items);
    }
}

static void a_hundred_thousand_collections_open_fast(void **state)
{
    needs_many_rows();
    struct test *t = *state;
    reopen(t);
    uint64_t syncs = io_sim_count(t->io, IO_SIM_SYNC);
    double wall = seconds(), cpu = cpu_seconds();
    create_all(t, COLLECTIONS);
    wall = seconds() - wall, cpu = cpu_seconds() - cpu;
    syncs = io_sim_count(t->io, IO_SIM_SYNC) - syncs;
    print_message("%d creates by %d threads: %.1f us each, %.1f us cpu, %.3f syncs\n", COLLECTIONS,
                  PER_COMMIT, wall / COLLECTIONS * 1e6, cpu / COLLECTIONS * 1e6,
                  (double)syncs / COLLECTIONS);
    assert_true(syncs < COLLECTIONS / 2); // many share one
    wall = seconds();
    commit_all(t, COLLECTIONS);
    print_message("commit of a version: %.1f us each\n", (seconds() - wall) / COLLECTIONS * 1e6);
    ok(sysdb_close(t->sysdb, &err));
    sysdb_free(t->sysdb);
    double resident = resident_mib();
    wall = seconds();
    ok(open_on(t, t->io, false, &t->sysdb));
    wall = seconds() - wall;
    struct io_entry entry;
    ok(io_stat(t->io, CATALOGUE, &entry, &err));
    print_message("open: %.0f ms, %.1f MiB more resident, catalogue %.1f MiB\n", wall * 1e3,
                  resident_mib() - resident, (double)entry.size / 1048576);
    assert_true(wall < 1.0 * SLOWER);

    uint64_t count;
    ok(sysdb_collection_count(t->sysdb, TENANT, DATABASE, &count, &err));
    assert_int_equal(count, COLLECTIONS);
    wall = seconds();
    const struct sysdb_collection **rows;
    size_t got;
    struct arena arena;
    arena_init(&arena, NULL, 0);
    ok(sysdb_collection_list(t->sysdb, TENANT, DATABASE, ALL, 0, &arena, &rows, &got, &err));
    assert_int_equal(got, COLLECTIONS);
    print_message("list of all: %.0f ms\n", (seconds() - wall) * 1e3);
    for (size_t i = 0; i < got; i++)
        sysdb_collection_unref(rows[i]);
    arena_done(&arena);

    const struct sysdb_collection *c;
    uuid last = id_of(COLLECTIONS - 1);
    ok(sysdb_collection_get(t->sysdb, TENANT, DATABASE, last, &c, &err));
    sysdb_collection_unref(c);
    wall = seconds();
    for (int i = 0; i < 100000; i++) {
        ok(sysdb_collection_get(t->sysdb, TENANT, DATABASE, last, &c, &err));
        sysdb_collection_unref(c);
    }
    wall = (seconds() - wall) / 100000;
    print_message("get, cached: %.0f ns\n", wall * 1e9);
    assert_true(wall < 10e-6 * SLOWER);
    wall = seconds();
    for (uint64_t i = 0; i < 2000; i++) {
        ok(sysdb_collection_get(t->sysdb, TENANT, DATABASE, id_of(i), &c, &err));
        sysdb_collection_unref(c);
    }
    print_message("get, not cached: %.1f us\n", (seconds() - wall) / 2000 * 1e6);
}

static int begin_without_history(void **state)
{
    (void)test_begin(state);
    struct test *t = *state;
    io_sim_free(t->io);
    t->io = io_sim_new(false);
    ok(io_make_folder(t->io, "data", &err));
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_create_costs_one_sync_and_little_work, test_begin_open,
                                        test_end),
        cmocka_unit_test_setup_teardown(a_hundred_thousand_collections_open_fast,
                                        begin_without_history, test_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
