/* SPDX-License-Identifier: Apache-2.0 */
/* What finding, reading and scanning cost: printed, not judged. */
#include "part_fixture.h"
#include "support/slow.h"

#include <time.h>

/* CPU time: the machine may be busy with something else. */
static uint64_t now(void)
{
    struct timespec at;
    assert_int_equal(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &at), 0);
    return (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec;
}

static void print_cost(const char *what, uint64_t begin, double count)
{
    printf("%-48s %9.1f ns\n", what, (double)(now() - begin) / count);
}

static void costs_of(uint32_t rows)
{
    struct rows_options options = {.count = rows,
                                   .dimension = 32,
                                   .metric = METRIC_COSINE,
                                   .document_bytes = 120,
                                   .seq_step = 3,
                                   .absent_percent = 5};
    struct fixture f;
    struct arena arena;
    struct part_reads reads;
    struct record record;
    uint32_t found;
    printf("%u rows of 32 dimensions\n", rows);
    fixture_init(&f, &options, 1);
    cache_free(f.cache);
    MUST(cache_new(1u << 30, &f.budget, &f.cache, err));
    uint64_t begin = now();
    fixture_build(&f);
    print_cost("build, a row", begin, rows);
    printf("%-48s %9.1f bytes a row beyond its data\n", "overhead",
           ((double)f.blob_size - (double)f.info.raw_bytes) / rows);
    uint64_t *hashes = calloc(rows, sizeof(*hashes));
    for (uint32_t i = 0; i < rows; i++)
        hashes[i] = slice_hash(f.rows[i].id);
    arena_init(&arena, NULL, 0);
    part_reads_init(&reads, f.cache, &arena);
    for (unsigned round = 0; round < 2; round++) {
        begin = now();
        for (uint32_t i = 0; i < rows; i++) {
            uint32_t n = (uint32_t)((uint64_t)i * 7919 % rows);
            MUST(part_find(f.part, f.rows[n].id, hashes[n], &found, err));
        }
        print_cost(round ? "find, present, random" : "find, present, cold", begin, rows);
    }
    begin = now();
    for (uint32_t i = 0; i < rows; i++)
        MUST(part_find(f.part, f.rows[i].id, hashes[i] * 3 + 1, &found, err));
    print_cost("find, absent", begin, rows);
    for (unsigned round = 0; round < 2; round++) {
        begin = now();
        for (uint32_t row = 0; row < rows; row++) {
            MUST(part_read(f.part, &reads, row, RECORD_METADATA, &record, err));
            if (row % 4096 == 0)
                part_reads_done(&reads);
        }
        print_cost(round ? "metadata in row order, a row" : "metadata in row order, cold, a row",
                   begin, rows);
    }
    part_reads_done(&reads);
    begin = now();
    for (uint32_t i = 0; i < rows; i++) {
        uint32_t n = (uint32_t)((uint64_t)i * 7919 % rows);
        MUST(part_read(f.part, &reads, n, RECORD_ALL, &record, err));
        if (i % 16 == 0)
            part_reads_done(&reads);
    }
    print_cost("all fields of a random row", begin, rows);
    part_reads_done(&reads);
    begin = now();
    for (uint32_t i = 0; i < rows; i++) {
        int64_t seq;
        MUST(part_seq(f.part, i, &seq, err));
    }
    print_cost("seq of a row", begin, rows);
    for (unsigned round = 0; round < 2; round++) {
        float query[32] = {0.5f}, *out = calloc(rows, sizeof(*out));
        begin = now();
        for (uint32_t row = 0, count; row < rows; row += count) {
            const float *vectors;
            const struct extent *extent;
            MUST(part_vectors(f.part, row, &vectors, &count, &extent, err));
            kernel_get()->dot_rows_f32(query, vectors, 32, 32, count, out);
            cache_unpin(f.cache, extent);
        }
        double ns = (double)(now() - begin);
        printf("%-48s %9.1f GB/s\n", round ? "scan of the vectors" : "scan of the vectors, again",
               (double)rows * 128 / ns);
        free(out);
    }
    part_reads_done(&reads);
    arena_done(&arena);
    free(hashes);
    fixture_done(&f);
}

static void costs_are_printed(void **state)
{
    (void)state;
    costs_of(10000);
    needs_many_rows();
    costs_of(300000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(costs_are_printed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
