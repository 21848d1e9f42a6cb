/* SPDX-License-Identifier: Apache-2.0 */
/* Many threads at one part, through a cache that holds a tenth of it. */
#include "part_fixture.h"

struct asker {
    struct thread thread;
    struct fixture *f;
    uint64_t seed, right, busy;
};

static void ask(void *arg)
{
    struct asker *asker = arg;
    struct fixture *f = asker->f;
    struct random random;
    struct arena arena;
    struct part_reads reads;
    random_seed(&random, asker->seed);
    arena_init(&arena, NULL, 0);
    part_reads_init(&reads, f->cache, &arena);
    struct part *part = part_ref_take(f->part);
    for (unsigned i = 0; i < 3000; i++) {
        uint32_t n = (uint32_t)random_below(&random, f->options.count), found = 0;
        const struct record *want = &f->rows[n];
        struct record got;
        och_code code = part_find(part, want->id, slice_hash(want->id), &found, NULL);
        if (code == OCH_OK && found != f->row_of[n])
            abort();
        if (code == OCH_OK)
            code = part_read(part, &reads, f->row_of[n], RECORD_ALL, &got, NULL);
        if (code == OCH_OK &&
            (!slice_equal(got.id, want->id) || !slice_equal(got.document, want->document) ||
             !slice_equal(got.metadata, want->metadata) || got.seq != want->seq ||
             memcmp(got.vector, want->vector, 4 * f->options.dimension) != 0))
            abort();
        if (code != OCH_OK && code != OCH_BUSY)
            abort();
        asker->right += code == OCH_OK;
        asker->busy += code == OCH_BUSY;
        if (random_below(&random, 4) == 0)
            part_reads_done(&reads);
    }
    part_reads_done(&reads);
    part_unref(part);
    arena_done(&arena);
}

static void run_askers(struct fixture *f, size_t cache_bytes)
{
    struct asker askers[4];
    cache_free(f->cache);
    MUST(cache_new(cache_bytes, &f->budget, &f->cache, err));
    MUST(fixture_open(f, &f->part, err));
    uint64_t right = 0;
    for (size_t t = 0; t < COUNT_OF(askers); t++) {
        askers[t] = (struct asker){.f = f, .seed = t};
        MUST(thread_start(&askers[t].thread, "asker", 0, ask, &askers[t], err));
    }
    for (size_t t = 0; t < COUNT_OF(askers); t++) {
        thread_join(&askers[t].thread);
        right += askers[t].right;
    }
    struct cache_stats stats;
    cache_stats(f->cache, &stats);
    printf("%zu KiB of cache: %llu right, %llu misses, %llu evictions\n", cache_bytes / 1024,
           (unsigned long long)right, (unsigned long long)stats.misses,
           (unsigned long long)stats.evictions);
    assert_true(right > 2000);
    part_unref(f->part);
    f->part = NULL;
}

static void threads_share_a_part(void **state)
{
    (void)state;
    struct rows_options options = {.count = 6000,
                                   .dimension = 64,
                                   .metric = METRIC_COSINE,
                                   .document_bytes = 400,
                                   .seq_step = 3};
    struct fixture f;
    fixture_init(&f, &options, 8);
    fixture_build(&f);
    part_unref(f.part);
    f.part = NULL;
    run_askers(&f, 64 << 20);
    run_askers(&f, 3 << 20);
    fixture_done(&f);
}

static void threads_meet_damage_together(void **state)
{
    (void)state;
    struct rows_options options = {.count = 6000,
                                   .dimension = 8,
                                   .metric = METRIC_COSINE,
                                   .document_bytes = 40,
                                   .seq_step = 3};
    struct fixture f;
    fixture_init(&f, &options, 9);
    fixture_build(&f);
    part_unref(f.part);
    // the id filter ends the head; behind names comes the index
    uint8_t noise[256] = {1, 2, 3};
    MUST(io_sim_poke(f.io, f.path, 300, noise, sizeof(noise), err));
    MUST(io_sim_poke(f.io, f.path, 9000, noise, sizeof(noise), err));
    run_askers(&f, 64 << 20);
    fixture_done(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_share_a_part),
        cmocka_unit_test(threads_meet_damage_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
