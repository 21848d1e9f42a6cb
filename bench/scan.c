/* SPDX-License-Identifier: Apache-2.0 */
/* Exact search through the whole database, in process, one thread, beside what the machine can do: rows lie in a compacted part, nothing is
 * filtered, the collection's effort (ef_search 1000) asks for exact answers: every query reads every vector.
 *
 *     scan [rows [dimension [queries [space]]]]        default 300000 384 40 l2
 *
 * Prints one JSON line: bytes of vectors read a second, median and spread over the queries, and the same for a bare loop of the same kernel over
 * memory of the same size. */
#include "kernel/kernel.h"
#include "ochre/ochre.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void die(const char *what, const och_error *err)
{
    (void)fprintf(stderr, "scan: %s: %s\n", what, err->message);
    exit(1);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static float unit(uint64_t *state)
{
    *state = *state * 6364136223846793005ull + 1442695040888963407ull;
    return (float)(*state >> 40) / 16777216.0f - 0.5f;
}

static void add_rows(och_collection *collection, size_t rows, size_t dim)
{
    enum { BATCH = 4096 };
    och_error err = OCH_ERROR;
    float *vectors = malloc(sizeof(float) * BATCH * dim);
    och_bytes *ids = malloc(sizeof(*ids) * BATCH);
    char(*names)[24] = malloc(24 * BATCH);
    uint64_t state = 1;
    if (!vectors || !ids || !names)
        exit(1);
    for (size_t at = 0; at < rows; at += BATCH) {
        size_t count = rows - at < BATCH ? rows - at : BATCH;
        for (size_t i = 0; i < count; i++) {
            int len = snprintf(names[i], sizeof(names[i]), "r%zu", at + i);
            ids[i] = (och_bytes){names[i], (size_t)len};
            for (size_t j = 0; j < dim; j++)
                vectors[i * dim + j] = unit(&state);
        }
        och_records records = OCH_RECORDS;
        records.count = count;
        records.dimension = dim;
        records.ids = ids;
        records.vectors = vectors;
        while (och_collection_add(collection, &records, NULL, &err) != OCH_OK) {
            if (err.code != OCH_BUSY)
                die("add", &err);
            (void)usleep(100000); /* ahead of compaction */
        }
    }
    free(vectors);
    free(ids);
    free(names);
}

static double percentile(const double *sorted, int count, double p)
{
    return sorted[(int)((count - 1) * p)];
}

int main(int argc, char **argv)
{
    size_t rows = argc > 1 ? strtoull(argv[1], NULL, 10) : 300000,
           dim = argc > 2 ? strtoull(argv[2], NULL, 10) : 384;
    int queries = argc > 3 ? atoi(argv[3]) : 40;
    const char *space = argc > 4 ? argv[4] : "l2";
    och_error err = OCH_ERROR;
    och_open_options options = OCH_OPEN_OPTIONS;
    const char *settings = "threads: 1\ncompact_idle_ms: 200\n";
    options.settings_yaml = (och_bytes){settings, strlen(settings)};
    options.memory_limit_bytes = (uint64_t)rows * dim * 4 * 4 + (1u << 30);
    och_database *database;
    if (och_database_open(NULL, &options, &database, &err) != OCH_OK)
        die("open", &err);
    char configuration[64];
    (void)snprintf(configuration, sizeof(configuration),
                   "{\"hnsw\":{\"space\":\"%s\",\"ef_search\":1000}}", space);
    och_collection_spec spec = OCH_COLLECTION_SPEC;
    spec.name = (och_bytes){"scan", 4};
    spec.configuration_json = (och_bytes){configuration, strlen(configuration)};
    och_collection *collection;
    if (och_collection_create(database, &spec, &collection, &err) != OCH_OK)
        die("create", &err);
    add_rows(collection, rows, dim);
    (void)sleep((unsigned)(5 + rows * dim / 50000000)); /* to one part, then to rest */

    float *query = malloc(sizeof(float) * dim), *out = malloc(sizeof(float) * rows);
    float *bare = aligned_alloc(64, (sizeof(float) * rows * dim + 63) / 64 * 64);
    double *through = malloc(sizeof(double) * (size_t)queries),
           *kernel_only = malloc(sizeof(double) * (size_t)queries);
    if (!query || !out || !bare || !through || !kernel_only)
        return 1;
    uint64_t state = 99;
    for (size_t i = 0; i < rows * dim; i++)
        bare[i] = unit(&state);
    const struct kernel *kernel = kernel_get();
    double bytes = (double)rows * (double)dim * 4;
    for (int q = -2; q < queries; q++) {
        uint64_t seqs[10];
        float distances[10];
        size_t count;
        for (size_t j = 0; j < dim; j++)
            query[j] = unit(&state);
        double start = now();
        if (och_collection_nearest(collection, query, dim, 10, NULL, seqs, distances, &count,
                                   &err) != OCH_OK ||
            count != 10)
            die("nearest", &err);
        double middle = now();
        if (strcmp(space, "l2") == 0)
            kernel->l2_rows_f32(query, bare, dim, dim, rows, out);
        else
            kernel->dot_rows_f32(query, bare, dim, dim, rows, out);
        double end = now();
        if (q < 0)
            continue; /* the first ones fill the cache */
        through[q] = bytes / (middle - start) / 1e9;
        kernel_only[q] = bytes / (end - middle) / 1e9;
    }
    qsort(through, (size_t)queries, sizeof(double), compare);
    qsort(kernel_only, (size_t)queries, sizeof(double), compare);
    printf("{\"bench\":\"scan\",\"rows\":%zu,\"dimension\":%zu,\"space\":\"%s\",\"kernel\":\"%s\","
           "\"queries\":%d,\"gb_per_s\":%.2f,\"gb_per_s_p10\":%.2f,"
           "\"gb_per_s_p90\":%.2f,\"bare_kernel_gb_per_s\":%.2f}\n",
           rows, dim, space, kernel->name, queries, percentile(through, queries, 0.5),
           percentile(through, queries, 0.1), percentile(through, queries, 0.9),
           percentile(kernel_only, queries, 0.5));
    och_collection_free(collection);
    if (och_database_close(database, &err) != OCH_OK)
        die("close", &err);
    och_database_free(database);
    free(query);
    free(out);
    free(bare);
    free(through);
    free(kernel_only);
    return 0;
}
