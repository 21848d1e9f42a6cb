/* SPDX-License-Identifier: Apache-2.0 */
/* A collection of more than four times memory_limit is searched within it: by the library's own count and by the kernel's. */
#include "library_test.h"
#include "support/slow.h"

#include <malloc.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>

enum { ROWS = 17000, DIM = 4096, BATCH = 250, LIMIT = 64 << 20, QUERIES = 150 };
#define UNCOUNTED (8 << 20) /* stacks of tables, catalogue rows and the like */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define RSS_TELLS false
#else
#define RSS_TELLS true
#endif

static _Atomic long held, held_most;

static void *count_memory(void *user, void *old, size_t size)
{
    (void)user;
    long before = old ? (long)malloc_usable_size(old) : 0;
    void *at = NULL;
    if (size == 0)
        free(old);
    else if (!(at = realloc(old, size)))
        return NULL;
    long now = atomic_fetch_add(&held, (at ? (long)malloc_usable_size(at) : 0) - before);
    now += (at ? (long)malloc_usable_size(at) : 0) - before;
    for (long most = atomic_load(&held_most);
         now > most && !atomic_compare_exchange_weak(&held_most, &most, now);)
        continue;
    return at;
}

static double resident_mb(void)
{
    char line[256];
    double kb = 0;
    FILE *file = fopen("/proc/self/status", "re");
    assert_non_null(file);
    while (fgets(line, sizeof(line), file))
        if (strncmp(line, "VmRSS:", 6) == 0)
            kb = strtod(line + 6, NULL);
    (void)fclose(file);
    return kb / 1024;
}

/* Far from all others but the next few of its own: the nearest of a row is itself. */
static void make_row(uint32_t i, float *row)
{
    uint64_t state = i / 8 * 977 + 1, own = i * 31 + 7;
    for (size_t j = 0; j < DIM; j++) {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        own = own * 6364136223846793005ull + 1442695040888963407ull;
        row[j] = (float)(state >> 40) / 16777216.0f - 0.5f +
                 0.2f * ((float)(own >> 40) / 16777216.0f - 0.5f);
    }
}

static och_database *open_with(const char *folder, uint64_t limit, const char *settings)
{
    och_open_options options = OCH_OPEN_OPTIONS;
    och_database *database;
    options.memory_limit_bytes = limit;
    options.settings_yaml = och_text(settings);
    OK(och_database_open(folder, &options, &database, &err));
    return database;
}

static void close_all(och_database *database, och_collection *collection)
{
    och_collection_free(collection);
    OK(och_database_close(database, &err));
    och_database_free(database);
}

/* Until all rows are in parts: a tail is memory, whatever its size. */
static void settle(och_collection *collection, const float *vector)
{
    for (unsigned i = 0; i < 3000; i++) {
        och_select select = OCH_SELECT;
        och_result *result;
        char json[1024] = {0};
        select.include = OCH_EXPLAIN;
        OK(och_collection_query(collection, vector, 1, DIM, 1, &select, &result, &err));
        och_bytes explain = och_result_explain_json(result);
        memcpy(json, explain.at, explain.len < sizeof(json) ? explain.len : sizeof(json) - 1);
        och_result_free(result);
        if (strstr(json, "\"tail_slots\":0,"))
            return;
        (void)usleep(20000);
    }
    fail_msg("the tail stays");
}

static void fill(const char *folder)
{
    och_database *database =
        open_with(folder, 1u << 30, "tail_rows_max: 3000\ncompact_idle_ms: 50\n");
    och_collection *collection = test_create(database, "large");
    static float vectors[BATCH * DIM];
    for (uint32_t at = 0; at < ROWS; at += BATCH) {
        och_bytes ids[BATCH];
        char names[BATCH][16];
        for (uint32_t i = 0; i < BATCH; i++) {
            (void)snprintf(names[i], sizeof(names[i]), "r%u", at + i);
            ids[i] = och_text(names[i]);
            make_row(at + i, vectors + (size_t)i * DIM);
        }
        och_records records = OCH_RECORDS;
        records.count = BATCH;
        records.dimension = DIM;
        records.ids = ids;
        records.vectors = vectors;
        och_code code;
        while ((code = och_collection_add(collection, &records, NULL, &err)) == OCH_BUSY)
            (void)usleep(20000); /* ahead of compaction */
        assert_int_equal(code, OCH_OK);
    }
    settle(collection, vectors);
    close_all(database, collection);
}

static void data_of_four_times_the_limit_is_searched_within_it(void **state)
{
    (void)state;
    needs_many_rows();
    char folder[] = "/tmp/ochre_limit_XXXXXX";
    assert_non_null(mkdtemp(folder));
    pid_t child = fork(); /* what filling leaves in the heap is not ours */
    if (child == 0) {
        fill(folder);
        _exit(0);
    }
    int status = 1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);

    och_set_allocator(count_memory, NULL);
    double before = resident_mb(), most = 0;
    och_database *database = open_with(folder, LIMIT, "compact_idle_ms: 3600000\n");
    och_collection_spec spec = OCH_COLLECTION_SPEC;
    och_collection *collection;
    spec.name = och_text("large");
    OK(och_collection_open(database, &spec, &collection, &err));
    static float query[DIM];
    uint32_t found = 0, refused = 0;
    for (uint32_t q = 0; q < QUERIES; q++) {
        uint64_t seqs[4];
        float distances[4];
        size_t count = 0;
        make_row(q * 7919 % ROWS, query);
        err = (och_error)OCH_ERROR;
        och_code code =
            och_collection_nearest(collection, query, DIM, 4, NULL, seqs, distances, &count, &err);
        refused += code == OCH_BUSY;
        if (code != OCH_OK && code != OCH_BUSY)
            fail_msg("query %u: %s", q, err.message);
        found += code == OCH_OK && count == 4 && distances[0] < 1e-3f;
        double now = resident_mb();
        most = now > most ? now : most;
    }
    print_message("counted at most %.1f MiB, resident %.1f MiB more than before; %u refused\n",
                  (double)atomic_load(&held_most) / 1048576, most - before, refused);
    assert_int_equal(refused, 0);
    assert_true(found >= QUERIES * 97 / 100); /* the default effort aims at 99 */
    assert_true(atomic_load(&held_most) <= LIMIT + UNCOUNTED);
    assert_true(!RSS_TELLS || most - before <= (LIMIT + 2 * UNCOUNTED) / 1048576.0);
    close_all(database, collection);
    assert_int_equal(atomic_load(&held), 0);
    char command[64];
    (void)snprintf(command, sizeof(command), "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(data_of_four_times_the_limit_is_searched_within_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
