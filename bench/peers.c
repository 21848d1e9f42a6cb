/* SPDX-License-Identifier: Apache-2.0 */
/* Vector search through the whole database (collection, log, parts, views, filters; ochre.h), beside what the kit's libpeers measures of hnswlib,
 * faiss and usearch: the same data sets, the same lines.
 *
 *     peers DATA ROWS [options]
 *       DATA              a data set of the kit: shape.txt, base.f32, query.f32, meta.bin
 *       --folder DIR      where the database lies while it is measured (DATA/peers-ochre); removed before and after
 *       --space S         cosine, l2, ip: rows have length one, so all three rank alike (cosine)
 *       --filters         rows carry the set's metadata, and filtered queries follow
 *       --memory MB       memory_limit (4096)
 *       --seconds S       CPU time spent on each effort, at least (0.5)
 *       --limits LIST     only the default effort, after opening again with each memory_limit in MB: 64,256,4096
 *
 * One thread searches.  All times are CPU time of the process: other work on the machine then costs little of what is measured.  One JSON line for
 * the build (writing every row, log included, until compaction rests), one for each effort, one for each filter.  Memory is what the process has
 * grown by: peak while building, and after the database was closed, opened again and asked all queries. */
#include "base/attr.h"
#include "kernel/kernel.h"
#include "ochre/ochre.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { K = 10, BATCH = 1000, TRUTH_K = 100, TAGS_MAX = 3 };
#define NO_ROW UINT32_MAX

struct meta { /* as the kit's data.h */
    float price;
    int16_t year;
    uint8_t category, flag, tags[TAGS_MAX + 1];
};
struct bench {
    const char *data, *space;
    char folder[512];
    uint32_t rows, dim, queries;
    uint64_t memory_bytes;
    double seconds;
    bool filters;
    const char *limits;
    FILE *base;
    float *query;
    struct meta *meta;
    uint32_t *truth; /* queries x K */
    uint64_t *seqs;  /* of each row, ascending */
    och_database *database;
    och_collection *collection;
};

PRINTF_LIKE(1, 2) __attribute__((noreturn)) static void die(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)fprintf(stderr, "peers: ");
    (void)vfprintf(stderr, format, args);
    (void)fprintf(stderr, "\n");
    va_end(args);
    exit(1);
}

static void *need(size_t count, size_t size)
{
    void *at = calloc(count + 1, size);
    if (!at)
        die("no memory");
    return at;
}

static double clock_of(clockid_t id)
{
    struct timespec t;
    (void)clock_gettime(id, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double cpu(void)
{
    return clock_of(CLOCK_PROCESS_CPUTIME_ID);
}

/* "VmRSS" or "VmHWM" of this process. */
static double status_mb(const char *key)
{
    char line[256];
    double kib = 0;
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof(line), file))
        if (strncmp(line, key, strlen(key)) == 0)
            kib = strtod(line + strlen(key) + 1, NULL);
    if (file)
        (void)fclose(file);
    return kib * 1024 / 1e6;
}

static double folder_mb(const char *folder, const char *below)
{
    char command[600];
    double bytes = 0;
    (void)snprintf(command, sizeof(command), "du -sb '%s%s'", folder, below);
    FILE *pipe = popen(command, "r");
    if (!pipe || fscanf(pipe, "%lf", &bytes) != 1)
        die("cannot measure %s", folder);
    (void)pclose(pipe);
    return bytes / 1e6;
}

static void remove_folder(const struct bench *b)
{
    char command[600];
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", b->folder);
    if (system(command) != 0)
        die("cannot remove %s", b->folder);
}

/* ---- the data set ---- */

static FILE *open_file(const struct bench *b, const char *name)
{
    char path[600];
    (void)snprintf(path, sizeof(path), "%s/%s", b->data, name);
    FILE *file = fopen(path, "rb");
    if (!file)
        die("cannot read %s", path);
    return file;
}

static void read_all(FILE *file, const char *what, void *at, size_t size)
{
    if (fread(at, 1, size, file) != size)
        die("%s is too short", what);
}

static void read_data(struct bench *b)
{
    unsigned rows, dim, queries;
    FILE *file = open_file(b, "shape.txt");
    if (fscanf(file, "%u %u %u", &rows, &dim, &queries) != 3 || dim == 0 || dim > 65535)
        die("shape.txt is not \"rows dim queries\"");
    (void)fclose(file);
    if (b->rows == 0 || b->rows > rows)
        die("the set has %u rows, %u are wanted", rows, b->rows);
    b->dim = dim;
    b->queries = queries;
    b->query = need((size_t)queries * dim, sizeof(float));
    file = open_file(b, "query.f32");
    read_all(file, "query.f32", b->query, (size_t)queries * dim * sizeof(float));
    (void)fclose(file);
    b->meta = need(b->rows, sizeof(*b->meta));
    file = open_file(b, "meta.bin");
    read_all(file, "meta.bin", b->meta, b->rows * sizeof(*b->meta));
    (void)fclose(file);
    b->base = open_file(b, "base.f32");
}

/* Exact answers kept before: the kit's have TRUTH_K rows a query, ours K. */
static bool read_truth(struct bench *b, const char *name, uint32_t width)
{
    char path[600];
    uint32_t nearest[TRUTH_K];
    (void)snprintf(path, sizeof(path), "%s/%s-%u.bin", b->data, name, b->rows);
    FILE *file = fopen(path, "rb");
    for (uint32_t q = 0; file && q < b->queries; q++) {
        read_all(file, path, nearest, width * sizeof(*nearest));
        memcpy(b->truth + (size_t)q * K, nearest, K * sizeof(*nearest));
    }
    if (file)
        (void)fclose(file);
    return file != NULL;
}

static void keep_truth(const struct bench *b, const char *name)
{
    char path[600];
    size_t count = (size_t)b->queries * K;
    (void)snprintf(path, sizeof(path), "%s/%s-%u.bin", b->data, name, b->rows);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(b->truth, sizeof(*b->truth), count, file) != count || fclose(file) != 0)
        die("cannot write %s", path);
}

static void keep(float *scores, uint32_t *rows, float score, uint32_t row)
{
    if (!(score > scores[K - 1]))
        return;
    int at = K - 1;
    for (; at > 0 && scores[at - 1] < score; at--) {
        scores[at] = scores[at - 1];
        rows[at] = rows[at - 1];
    }
    scores[at] = score;
    rows[at] = row;
}

/* The K nearest rows of those that pass, by brute force over the file. */
static void find_truth(struct bench *b, bool (*match)(const struct meta *))
{
    const struct kernel *kernel = kernel_get();
    float *rows = need((size_t)BATCH * b->dim, sizeof(float)),
          *best = need((size_t)b->queries * K, sizeof(float)), dots[BATCH];
    for (size_t i = 0; i < (size_t)b->queries * K; i++) {
        best[i] = -2;
        b->truth[i] = NO_ROW;
    }
    rewind(b->base);
    for (uint32_t at = 0; at < b->rows; at += BATCH) {
        uint32_t count = b->rows - at < BATCH ? b->rows - at : BATCH;
        read_all(b->base, "base.f32", rows, (size_t)count * b->dim * sizeof(float));
        for (uint32_t q = 0; q < b->queries; q++) {
            kernel->dot_rows_f32(b->query + (size_t)q * b->dim, rows, b->dim, b->dim, count, dots);
            for (uint32_t i = 0; i < count; i++)
                if (!match || match(&b->meta[at + i]))
                    keep(best + (size_t)q * K, b->truth + (size_t)q * K, dots[i], at + i);
        }
    }
    free(rows);
    free(best);
}

/* ---- the database ---- */

static void open_database(struct bench *b)
{
    static const char settings[] = "threads: 1\nbackground_threads: 1\ncompact_idle_ms: 200\n";
    och_error err = OCH_ERROR;
    och_open_options options = OCH_OPEN_OPTIONS;
    options.settings_yaml = och_text(settings);
    options.memory_limit_bytes = b->memory_bytes;
    if (och_database_open(b->folder, &options, &b->database, &err) != OCH_OK)
        die("open: %s", err.message);
    char configuration[64];
    (void)snprintf(configuration, sizeof(configuration), "{\"hnsw\":{\"space\":\"%s\"}}", b->space);
    och_collection_spec spec = OCH_COLLECTION_SPEC;
    spec.name = och_text("peers");
    spec.get_or_create = true;
    spec.configuration_json = och_text(configuration);
    if (och_collection_create(b->database, &spec, &b->collection, &err) != OCH_OK)
        die("create: %s", err.message);
}

static void close_database(struct bench *b)
{
    och_error err = OCH_ERROR;
    och_collection_free(b->collection);
    if (och_database_close(b->database, &err) != OCH_OK)
        die("close: %s", err.message);
    och_database_free(b->database);
}

/* As load.c of the kit writes them, the price without rounding. */
static och_bytes metadata_of(const struct meta *m, char *text, size_t size)
{
    int len = snprintf(text, size, "{\"category\":\"c%02u\",\"year\":%d,\"price\":%.9g,\"flag\":%s",
                       m->category, m->year, (double)m->price, m->flag ? "true" : "false");
    for (int i = 0; i < TAGS_MAX && m->tags[i] != 0xff; i++)
        len += snprintf(text + len, size - (size_t)len, "%s\"t%02u\"", i ? "," : ",\"tags\":[",
                        m->tags[i]);
    len += snprintf(text + len, size - (size_t)len, "%s", m->tags[0] != 0xff ? "]}" : "}");
    return (och_bytes){text, (size_t)len};
}

static void add_rows(struct bench *b)
{
    enum { META_SIZE = 160, NAME_SIZE = 16 };
    och_error err = OCH_ERROR;
    float *vectors = need((size_t)BATCH * b->dim, sizeof(float));
    och_bytes *ids = need(BATCH, sizeof(*ids)), *metadatas = need(BATCH, sizeof(*metadatas));
    char *names = need(BATCH, NAME_SIZE), *texts = need(BATCH, META_SIZE);
    rewind(b->base);
    for (uint32_t at = 0; at < b->rows; at += BATCH) {
        uint32_t count = b->rows - at < BATCH ? b->rows - at : BATCH;
        read_all(b->base, "base.f32", vectors, (size_t)count * b->dim * sizeof(float));
        for (uint32_t i = 0; i < count; i++) {
            char *name = names + (size_t)i * NAME_SIZE;
            ids[i] = (och_bytes){name, (size_t)snprintf(name, NAME_SIZE, "r%u", at + i)};
            metadatas[i] = metadata_of(&b->meta[at + i], texts + (size_t)i * META_SIZE, META_SIZE);
        }
        och_records records = OCH_RECORDS;
        records.count = count;
        records.dimension = b->dim;
        records.ids = ids;
        records.vectors = vectors;
        records.metadatas_json = b->filters ? metadatas : NULL;
        while (och_collection_add(b->collection, &records, NULL, &err) != OCH_OK) {
            if (err.code != OCH_BUSY)
                die("add: %s", err.message);
            (void)usleep(50000); /* ahead of compaction */
        }
    }
    free(vectors);
    free(ids);
    free(metadatas);
    free(names);
    free(texts);
}

/* A number from the answer's explanation of a query for all vectors. */
static double explained(const struct bench *b, const char *member, uint32_t vectors)
{
    och_error err = OCH_ERROR;
    och_result *result;
    och_select select = OCH_SELECT;
    char key[64], text[2048];
    select.include = OCH_EXPLAIN;
    if (och_collection_query(b->collection, b->query, vectors, b->dim, K, &select, &result, &err) !=
        OCH_OK)
        die("query: %s", err.message);
    och_bytes json = och_result_explain_json(result);
    (void)snprintf(text, sizeof(text), "%.*s", (int)json.len, (const char *)json.at);
    och_result_free(result);
    (void)snprintf(key, sizeof(key), "\"%s\":", member);
    const char *at = strstr(text, key);
    return at ? strtod(at + strlen(key), NULL) : -1;
}

/* Until the tail is empty and nothing has cost CPU time for two seconds. */
static void wait_for_rest(const struct bench *b)
{
    int quiet = 0;
    for (int tries = 0; quiet < 4 && tries < 3600; tries++) {
        double before = cpu();
        (void)usleep(500000);
        quiet = cpu() - before < 0.005 ? quiet + 1 : 0;
        if (quiet == 4 && explained(b, "tail_slots", 1) > 0)
            quiet = 0;
    }
    if (quiet < 4)
        die("compaction does not come to rest");
}

static void build(struct bench *b)
{
    double before_mb = status_mb("VmRSS:"), start = cpu(), wall = clock_of(CLOCK_MONOTONIC);
    open_database(b);
    add_rows(b);
    double added = cpu();
    wait_for_rest(b);
    double end = cpu();
    double parts = explained(b, "parts", 1);
    printf("{\"lib\":\"ochre\",\"rows\":%u,\"dim\":%u,\"build_threads\":1,\"build_s\":%.2f,"
           "\"until_added_s\":%.2f,\"wall_s\":%.1f,\"parts\":%.0f,\"disk_mb\":%.1f,"
           "\"log_mb\":%.1f,\"build_peak_mb\":%.0f}\n",
           b->rows, b->dim, end - start, added - start, clock_of(CLOCK_MONOTONIC) - wall, parts,
           folder_mb(b->folder, ""), folder_mb(b->folder, "/log"), status_mb("VmHWM:") - before_mb);
    (void)fflush(stdout);
}

/* Which seq each row has: they rise with the rows. */
static void read_seqs(struct bench *b)
{
    och_error err = OCH_ERROR;
    och_result *result;
    och_row row = OCH_ROW;
    bool more;
    uint32_t count = 0;
    if (och_collection_get(b->collection, NULL, &result, &err) != OCH_OK)
        die("get: %s", err.message);
    if (och_result_count(result) != b->rows)
        die("%zu rows are there, %u were added", och_result_count(result), b->rows);
    while (och_result_next(result, &row, &more, &err) == OCH_OK && more) {
        char name[16];
        int len = snprintf(name, sizeof(name), "r%u", count);
        if (row.id.len != (size_t)len || memcmp(row.id.at, name, row.id.len) != 0)
            die("row %u has another id", count);
        b->seqs[count++] = row.seq;
    }
    och_result_free(result);
}

static uint32_t row_of(const struct bench *b, uint64_t seq)
{
    uint32_t low = 0, high = b->rows;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (b->seqs[middle] < seq)
            low = middle + 1;
        else
            high = middle;
    }
    return low < b->rows && b->seqs[low] == seq ? low : NO_ROW;
}

static void set_effort(const struct bench *b, int ef)
{
    och_error err = OCH_ERROR;
    och_response *response;
    char target[200], body[64];
    och_bytes id = och_collection_id(b->collection);
    (void)snprintf(target, sizeof(target),
                   "/api/v2/tenants/default_tenant/databases/default_database/collections/%.*s",
                   (int)id.len, (const char *)id.at);
    (void)snprintf(body, sizeof(body), "{\"new_configuration\":{\"hnsw\":{\"ef_search\":%d}}}", ef);
    och_header header = {{"Content-Type", 12}, {"application/json", 16}};
    och_request request = OCH_REQUEST;
    request.method = och_text("PUT");
    request.target = och_text(target);
    request.body = och_text(body);
    request.headers = &header;
    request.header_count = 1;
    if (och_database_exchange(b->database, &request, &response, &err) != OCH_OK)
        die("PUT: %s", err.message);
    if (och_response_status(response) != 200)
        die("PUT answers %d: %.*s", och_response_status(response),
            (int)och_response_body(response).len, (const char *)och_response_body(response).at);
    och_response_free(response);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct measured {
    double recall, per_query_s, p50_s, p99_s;
    uint64_t wrong; /* rows that the filter should have kept out, or too few */
};

/* Every query again and again for the time given. */
static struct measured ask_all(struct bench *b, const och_filter *filter,
                               bool (*match)(const struct meta *))
{
    och_error err = OCH_ERROR;
    double *times = need(b->queries, sizeof(*times)), spent = 0;
    uint64_t asked = 0, hits = 0, wanted = 0;
    struct measured m = {0};
    for (int round = 0; round < 2 || spent < b->seconds; round++) {
        hits = wanted = m.wrong = 0;
        for (uint32_t q = 0; q < b->queries; q++) {
            uint64_t seqs[K];
            size_t count = 0, there = 0;
            double start = cpu();
            if (och_collection_nearest(b->collection, b->query + (size_t)q * b->dim, b->dim, K,
                                       filter, seqs, NULL, &count, &err) != OCH_OK)
                die("nearest: %s", err.message);
            times[q] = cpu() - start;
            const uint32_t *truth = b->truth + (size_t)q * K;
            while (there < K && truth[there] != NO_ROW)
                there++;
            m.wrong += count != there;
            wanted += there;
            for (size_t i = 0; i < count; i++) {
                uint32_t row = row_of(b, seqs[i]);
                m.wrong += row == NO_ROW || (match && !match(&b->meta[row]));
                for (size_t j = 0; j < there; j++)
                    hits += truth[j] == row;
            }
            if (round > 0) { /* the first one warms */
                spent += times[q];
                asked++;
            }
        }
    }
    qsort(times, b->queries, sizeof(*times), by_value);
    m.recall = wanted ? (double)hits / (double)wanted : 1;
    m.per_query_s = spent / (double)asked;
    m.p50_s = times[b->queries / 2];
    m.p99_s = times[(size_t)((double)b->queries * 0.99)];
    free(times);
    return m;
}

static void search(struct bench *b)
{
    static const int efforts[] = {1, 2, 4, 7, 10, 15, 20, 30, 40, 60, 80, 100, 150, 200, 400, 800};
    for (size_t i = 0; i < COUNT_OF(efforts); i++) {
        set_effort(b, efforts[i]);
        struct measured m = ask_all(b, NULL, NULL);
        double lists = explained(b, "lists_probed", b->queries) / b->queries,
               coded = explained(b, "rows_coded", b->queries) / b->queries;
        printf(
            "{\"lib\":\"ochre\",\"threads\":1,\"ef\":%d,\"recall\":%.4f,\"qps\":%.0f,"
            "\"p50_us\":%.0f,\"p99_us\":%.0f,\"lists\":%.1f,\"rows_coded\":%.0f,\"wrong\":%" PRIu64
            "}\n",
            efforts[i], m.recall, 1 / m.per_query_s, m.p50_s * 1e6, m.p99_s * 1e6, lists, coded,
            m.wrong);
        (void)fflush(stdout);
    }
    set_effort(b, 100);
}

/* What the process has grown by, once every query was asked. */
static double open_again(struct bench *b)
{
    (void)malloc_trim(0);
    double before_mb = status_mb("VmRSS:");
    open_database(b);
    set_effort(b, 100);
    (void)ask_all(b, NULL, NULL);
    (void)malloc_trim(0);
    return status_mb("VmRSS:") - before_mb;
}

static void search_within_limits(struct bench *b)
{
    for (const char *at = b->limits; at && *at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
        b->memory_bytes = strtoull(at, NULL, 10) * 1000000;
        double grown_mb = open_again(b), wall = clock_of(CLOCK_MONOTONIC), start = cpu();
        struct measured m = ask_all(b, NULL, NULL);
        double share = (cpu() - start) / (clock_of(CLOCK_MONOTONIC) - wall);
        printf("{\"lib\":\"ochre\",\"threads\":1,\"memory_limit_mb\":%.0f,\"index_mb\":%.0f,"
               "\"recall\":%.4f,\"qps\":%.0f,\"p50_us\":%.0f,\"p99_us\":%.0f,\"cpu_share\":%.2f,"
               "\"wrong\":%" PRIu64 "}\n",
               (double)b->memory_bytes / 1e6, grown_mb, m.recall, 1 / m.per_query_s, m.p50_s * 1e6,
               m.p99_s * 1e6, share, m.wrong);
        (void)fflush(stdout);
        close_database(b);
    }
}

/* ---- filters: those of the kit's data.c that ask metadata ---- */

static bool is_flag(const struct meta *m)
{
    return m->flag;
}
static bool is_cheap(const struct meta *m)
{
    return m->price < 50.0f;
}
static bool is_1999_quarter(const struct meta *m)
{
    return m->year == 1999 && m->price < 250.0f;
}
static bool is_1999_cheap(const struct meta *m)
{
    return m->year == 1999 && m->price < 25.0f;
}
static bool is_category(const struct meta *m)
{
    return m->category == 3;
}
static bool has_tag(const struct meta *m)
{
    return m->tags[0] == 7 || m->tags[1] == 7 || m->tags[2] == 7;
}

static void search_filtered(struct bench *b)
{
    static const struct {
        const char *name, *where;
        bool (*match)(const struct meta *);
    } filters[] = {
        {"flag-50%", "{\"flag\":true}", is_flag},
        {"price-5%", "{\"price\":{\"$lt\":50.0}}", is_cheap},
        {"and-0.5%", "{\"$and\":[{\"year\":1999},{\"price\":{\"$lt\":250.0}}]}", is_1999_quarter},
        {"and-0.05%", "{\"$and\":[{\"year\":1999},{\"price\":{\"$lt\":25.0}}]}", is_1999_cheap},
        {"category", "{\"category\":\"c03\"}", is_category},
        {"tag", "{\"tags\":{\"$contains\":\"t07\"}}", has_tag},
    };
    b->queries = b->queries < 200 ? b->queries : 200;
    for (size_t i = 0; i < COUNT_OF(filters); i++) {
        och_error err = OCH_ERROR;
        och_filter *filter;
        if (och_filter_parse(och_text(filters[i].where), (och_bytes)OCH_NO_BYTES, &filter, &err) !=
            OCH_OK)
            die("filter: %s", err.message);
        find_truth(b, filters[i].match);
        uint32_t survivors = 0;
        for (uint32_t row = 0; row < b->rows; row++)
            survivors += filters[i].match(&b->meta[row]);
        struct measured m = ask_all(b, filter, filters[i].match);
        printf(
            "{\"lib\":\"ochre\",\"threads\":1,\"filter\":\"%s\",\"survivors\":%u,\"recall\":%.4f,"
            "\"qps\":%.0f,\"p50_us\":%.0f,\"p99_us\":%.0f,\"wrong\":%" PRIu64 "}\n",
            filters[i].name, survivors, m.recall, 1 / m.per_query_s, m.p50_s * 1e6, m.p99_s * 1e6,
            m.wrong);
        (void)fflush(stdout);
        och_filter_free(filter);
    }
}

static void read_options(struct bench *b, int argc, char **argv)
{
    if (argc < 3)
        die("usage: peers DATA ROWS [--folder DIR] [--space S] [--filters] [--memory MB] "
            "[--seconds S] [--limits LIST]");
    b->data = argv[1];
    b->rows = (uint32_t)strtoul(argv[2], NULL, 10);
    (void)snprintf(b->folder, sizeof(b->folder), "%s/peers-ochre", b->data);
    for (int i = 3; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--filters") == 0) {
            b->filters = true;
            continue;
        }
        if (strcmp(argv[i], "--folder") == 0)
            (void)snprintf(b->folder, sizeof(b->folder), "%s", value);
        else if (strcmp(argv[i], "--space") == 0)
            b->space = value;
        else if (strcmp(argv[i], "--memory") == 0)
            b->memory_bytes = strtoull(value, NULL, 10) * 1000000;
        else if (strcmp(argv[i], "--seconds") == 0)
            b->seconds = strtod(value, NULL);
        else if (strcmp(argv[i], "--limits") == 0)
            b->limits = value;
        else
            die("unknown option %s", argv[i]);
        i++;
    }
}

int main(int argc, char **argv)
{
    struct bench b = {.space = "cosine", .memory_bytes = 4096000000, .seconds = 0.5};
    read_options(&b, argc, argv);
    read_data(&b);
    b.truth = need((size_t)b.queries * K, sizeof(*b.truth));
    b.seqs = need(b.rows, sizeof(*b.seqs));
    if (!read_truth(&b, "truth-none-0", TRUTH_K) && !read_truth(&b, "nearest-none-0", K)) {
        find_truth(&b, NULL);
        keep_truth(&b, "nearest-none-0");
    }
    remove_folder(&b);
    build(&b);
    read_seqs(&b);
    close_database(&b);
    if (b.limits) {
        search_within_limits(&b);
        remove_folder(&b);
        return 0;
    }
    double index_mb = open_again(&b);
    printf("{\"lib\":\"ochre\",\"rows\":%u,\"dim\":%u,\"index_mb\":%.0f}\n", b.rows, b.dim,
           index_mb);
    search(&b);
    if (b.filters)
        search_filtered(&b);
    close_database(&b);
    remove_folder(&b);
    return 0;
}
