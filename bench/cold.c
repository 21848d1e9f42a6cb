/* SPDX-License-Identifier: Apache-2.0 */
/* A collection larger than memory, in process, on a real disk.
 *
 *     cold FOLDER fill [rows [dimension [again]]]      default 300000 768: clustered rows with a text of 300 bytes, to one part
 *     cold FOLDER ask [queries [limit_mib [include [keep]]]]
 *
 * `ask` opens the folder with that memory_limit (default: a quarter of the blobs), searches for the 10 nearest of vectors like the rows, one
 * after the other, and prints one JSON line: time to the first answer (open included), p50 and p99 of the first hundred and of the rest,
 * bytes and calls of the disk per query, the process's memory.  Before every query the blobs' pages are dropped from the kernel's page
 * cache (posix_fadvise DONTNEED), so that whatever is not in the process's own memory comes from the disk; "keep" leaves them there.
 * include: 0 ids, 1 documents too. */
#include "ochre/ochre.h"

#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { CLUSTERS = 500, DIRECTIONS = 24, BATCH = 2048, FILES_MAX = 64, COLD_QUERIES = 100 };

static void die(const char *what, const och_error *err)
{
    (void)fprintf(stderr, "cold: %s: %s\n", what, err ? err->message : "");
    exit(1);
}

static void *need(size_t count, size_t size)
{
    void *at = calloc(count, size);
    if (!at)
        die("no memory", NULL);
    return at;
}

static double now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static float unit(uint64_t *state)
{
    *state = *state * 6364136223846793005ull + 1442695040888963407ull;
    return (float)(*state >> 40) / 16777216.0f - 0.5f;
}

/* ---- rows: clusters, each with directions of its own ---- */

struct shape {
    size_t dim;
    float *centers, *directions;
};

static struct shape shape_new(size_t dim)
{
    struct shape shape = {dim, need(CLUSTERS * dim, sizeof(float)),
                          need((size_t)CLUSTERS * DIRECTIONS * dim, sizeof(float))};
    uint64_t state = 12345;
    for (size_t i = 0; i < CLUSTERS * dim; i++)
        shape.centers[i] = unit(&state);
    for (size_t i = 0; i < (size_t)CLUSTERS * DIRECTIONS * dim; i++)
        shape.directions[i] = 0.5f * unit(&state);
    return shape;
}

static void make_row(const struct shape *shape, uint64_t *state, float *row)
{
    size_t dim = shape->dim, cluster = (size_t)((unit(state) + 0.5f) * CLUSTERS) % CLUSTERS;
    memcpy(row, shape->centers + cluster * dim, dim * sizeof(float));
    for (size_t k = 0; k < DIRECTIONS; k++) {
        const float *direction = shape->directions + (cluster * DIRECTIONS + k) * dim;
        float by = 2 * unit(state);
        for (size_t i = 0; i < dim; i++)
            row[i] += by * direction[i];
    }
}

/* ---- the blobs ---- */

struct blobs {
    int fds[FILES_MAX];
    size_t count;
    double bytes;
};

static void open_blobs(const char *folder, struct blobs *blobs)
{
    char path[512];
    (void)snprintf(path, sizeof(path), "%s/blobs", folder);
    DIR *fans = opendir(path);
    for (const struct dirent *fan; fans && (fan = readdir(fans));) {
        (void)snprintf(path, sizeof(path), "%s/blobs/%.8s", folder, fan->d_name);
        DIR *files = fan->d_name[0] == '.' ? NULL : opendir(path);
        for (const struct dirent *file; files && (file = readdir(files));) {
            (void)snprintf(path, sizeof(path), "%s/blobs/%.8s/%.64s", folder, fan->d_name,
                           file->d_name);
            struct stat info;
            if (file->d_name[0] == '.' || blobs->count == FILES_MAX || stat(path, &info) != 0)
                continue;
            blobs->fds[blobs->count++] = open(path, O_RDONLY | O_CLOEXEC);
            blobs->bytes += (double)info.st_size;
        }
        if (files)
            (void)closedir(files);
    }
    if (fans)
        (void)closedir(fans);
}

static void drop_pages(const struct blobs *blobs)
{
    for (size_t i = 0; i < blobs->count; i++)
        (void)posix_fadvise(blobs->fds[i], 0, 0, POSIX_FADV_DONTNEED);
}

/* ---- the process, as the kernel counts it ---- */

static double figure(const char *path, const char *name)
{
    FILE *file = fopen(path, "re");
    char line[256];
    double value = 0;
    while (file && fgets(line, sizeof(line), file)) {
        if (strncmp(line, name, strlen(name)) == 0)
            value = strtod(line + strlen(name), NULL);
    }
    if (file)
        (void)fclose(file);
    return value;
}

/* ---- fill ---- */

static och_collection *open_collection(och_database *database, bool create)
{
    och_error err = OCH_ERROR;
    och_collection *collection;
    och_collection_spec spec = OCH_COLLECTION_SPEC;
    spec.name = (och_bytes){"cold", 4};
    och_code code = create ? och_collection_create(database, &spec, &collection, &err)
                           : och_collection_open(database, &spec, &collection, &err);
    if (code != OCH_OK)
        die("collection", &err);
    return collection;
}

static void add_rows(och_collection *collection, const struct shape *shape, size_t rows)
{
    och_error err = OCH_ERROR;
    float *vectors = need(BATCH * shape->dim, sizeof(float));
    och_bytes *ids = need(BATCH, sizeof(*ids)), *documents = need(BATCH, sizeof(*documents));
    char(*names)[24] = need(BATCH, 24), (*texts)[301] = need(BATCH, 301);
    uint64_t state = 1;
    for (size_t at = 0; at < rows; at += BATCH) {
        size_t count = rows - at < BATCH ? rows - at : BATCH;
        for (size_t i = 0; i < count; i++) {
            int len = snprintf(names[i], sizeof(names[i]), "r%zu", at + i);
            ids[i] = (och_bytes){names[i], (size_t)len};
            make_row(shape, &state, vectors + i * shape->dim);
            for (size_t j = 0; j < 300; j++)
                texts[i][j] = "etaoin shrdlu cmfw"[(size_t)((unit(&state) + 0.5f) * 18) % 18];
            documents[i] = (och_bytes){texts[i], 300};
        }
        och_records records = OCH_RECORDS;
        records.count = count;
        records.dimension = shape->dim;
        records.ids = ids;
        records.vectors = vectors;
        records.documents = documents;
        while (och_collection_add(collection, &records, NULL, &err) != OCH_OK) {
            if (err.code != OCH_BUSY)
                die("add", &err);
            (void)usleep(100000); /* ahead of compaction */
        }
    }
}

static och_database *open_database(const char *folder, uint64_t limit, const char *settings)
{
    och_error err = OCH_ERROR;
    och_open_options options = OCH_OPEN_OPTIONS;
    och_database *database;
    options.memory_limit_bytes = limit;
    options.settings_yaml = (och_bytes){settings, strlen(settings)};
    if (och_database_open(folder, &options, &database, &err) != OCH_OK)
        die("open", &err);
    return database;
}

static void close_database(och_database *database, och_collection *collection)
{
    och_error err = OCH_ERROR;
    och_collection_free(collection);
    if (och_database_close(database, &err) != OCH_OK)
        die("close", &err);
    och_database_free(database);
}

/* Until compaction has made one part of it all, at most ten minutes. */
static void settle(const char *folder, double bytes)
{
    struct blobs blobs = {.count = 0};
    for (int i = 0; i < 300 && !(blobs.count == 1 && blobs.bytes > bytes); i++) {
        for (size_t j = 0; j < blobs.count; j++)
            (void)close(blobs.fds[j]);
        (void)sleep(2);
        blobs = (struct blobs){.count = 0};
        open_blobs(folder, &blobs);
    }
}

static int fill(const char *folder, size_t rows, size_t dim, bool again)
{
    struct shape shape = shape_new(dim);
    och_database *database = open_database(folder, 0, "compact_idle_ms: 200\n");
    och_collection *collection = open_collection(database, !again);
    char path[512];
    if (!again)
        add_rows(collection, &shape, rows);
    settle(folder, (double)rows * (double)dim * 4);
    close_database(database, collection);
    (void)snprintf(path, sizeof(path), "%s/shape", folder);
    FILE *file = fopen(path, "we");
    if (!file || fprintf(file, "rows %zu\ndim %zu\n", rows, dim) < 0 || fclose(file) != 0)
        die("shape", NULL);
    return 0;
}

/* ---- ask ---- */

static double ask_once(och_collection *collection, const float *query, size_t dim, uint32_t include)
{
    och_error err = OCH_ERROR;
    och_select select = OCH_SELECT;
    och_result *result;
    select.include = include;
    double start = now();
    if (och_collection_query(collection, query, 1, dim, 10, &select, &result, &err) != OCH_OK)
        die("query", &err);
    double end = now();
    if (och_result_count(result) != 10)
        die("not ten rows", NULL);
    och_result_free(result);
    return end - start;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double percentile(double *times, size_t count, double p)
{
    qsort(times, count, sizeof(double), compare);
    return count ? 1e3 * times[(size_t)((double)(count - 1) * p)] : 0;
}

static int ask(const char *folder, size_t queries, uint64_t limit, uint32_t include, bool keep)
{
    char path[512];
    struct blobs blobs = {.count = 0};
    (void)snprintf(path, sizeof(path), "%s/shape", folder);
    size_t dim = (size_t)figure(path, "dim "), rows = (size_t)figure(path, "rows ");
    struct shape shape = shape_new(dim);
    float *query = need(dim, sizeof(float));
    double *times = need(queries + 1, sizeof(double));
    uint64_t state = 777;
    open_blobs(folder, &blobs);
    if (!limit)
        limit = (uint64_t)blobs.bytes / 4;
    drop_pages(&blobs);
    double before_mb = figure("/proc/self/status", "VmRSS:") / 1e3, start = now();
    och_database *database = open_database(folder, limit, "threads: 1\ncompact_idle_ms: 3600000\n");
    och_collection *collection = open_collection(database, false);
    make_row(&shape, &state, query);
    (void)ask_once(collection, query, dim, include);
    double first = now() - start;
    double first_mb = figure("/proc/self/io", "read_bytes:") / 1e6;
    for (size_t q = 0; q < queries; q++) {
        make_row(&shape, &state, query);
        if (!keep)
            drop_pages(&blobs);
        times[q] = ask_once(collection, query, dim, include);
    }
    size_t cold = queries < COLD_QUERIES ? queries : COLD_QUERIES, rest = queries - cold;
    double cold_p50 = percentile(times, cold, 0.5), cold_p99 = percentile(times, cold, 0.99);
    double read_mb = figure("/proc/self/io", "read_bytes:") / 1e6 - first_mb;
    printf("{\"bench\":\"cold\",\"rows\":%zu,\"dimension\":%zu,\"blobs_mb\":%.0f,\"limit_mb\":%.0f,"
           "\"page_cache\":\"%s\",\"include\":%u,\"first_answer_ms\":%.1f,\"first_read_mb\":%.1f,"
           "\"queries\":%zu,\"first100_p50_ms\":%.2f,\"first100_p99_ms\":%.2f,"
           "\"p50_ms\":%.2f,\"p99_ms\":%.2f,\"read_mb_per_query\":%.3f,"
           "\"own_mb\":%.0f,\"peak_mb\":%.0f}\n",
           rows, dim, blobs.bytes / 1e6, (double)limit / 1e6, keep ? "kept" : "dropped", include,
           1e3 * first, first_mb, queries, cold_p50, cold_p99, percentile(times + cold, rest, 0.5),
           percentile(times + cold, rest, 0.99), read_mb / (double)(queries ? queries : 1),
           figure("/proc/self/status", "VmRSS:") / 1e3 - before_mb,
           figure("/proc/self/status", "VmHWM:") / 1e3 - before_mb);
    close_database(database, collection);
    return 0;
}

int main(int argc, char **argv)
{
    size_t number[3] = {0};
    for (int i = 3; i < argc && i < 6; i++)
        number[i - 3] = strtoull(argv[i], NULL, 10);
    if (argc > 2 && strcmp(argv[2], "fill") == 0)
        return fill(argv[1], number[0] ? number[0] : 300000, number[1] ? number[1] : 768,
                    argc > 5 && strcmp(argv[5], "again") == 0);
    if (argc > 2 && strcmp(argv[2], "ask") == 0)
        return ask(argv[1], number[0] ? number[0] : 1000, (uint64_t)number[1] << 20,
                   (uint32_t)number[2], argc > 6 && strcmp(argv[6], "keep") == 0);
    (void)fprintf(stderr, "usage: cold FOLDER fill [rows [dimension [again]]]\n"
                          "       cold FOLDER ask [queries [limit_mib [include [keep]]]]\n");
    return 2;
}
