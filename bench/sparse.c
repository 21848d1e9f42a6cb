/* SPDX-License-Identifier: Apache-2.0 */
/* The sparse index in process, one thread, the section raw in memory: time and size of the build, then BM25 queries of 3, 8 and 30 terms through the
 * index and by plain accumulation over all postings of their terms (one accumulator a row, same posting blocks, same binary).
 *
 *     sparse [--rows N] [--queries N] [--terms N] [--k N]
 *       --rows N      (200000)
 *       --queries N   of each kind (200)
 *       --terms N     only queries of so many terms
 *       --k N         only queries for so many hits
 *
 * Documents are made: about 72 distinct terms of a Zipf vocabulary of a million, a third of them from the vocabulary of the document's topic; topics
 * lie together, 512 of them, as rows in list order do.  Weights are BM25's (k1 1.2, b 0.75), queries take terms of one document, weighed by idf.
 * Times are CPU time of a query; p50 and p99 over queries, each the least of three.  Answers of the two are compared. */
#include "index/sparse/sparse_internal.h"

#include "base/clock.h"
#include "base/topk.h"
#include "model/meta.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define TOPICS     512u
#define VOCABULARY 1000000u
#define TERMS_MAX  160u
#define ROUNDS     3

struct bench {
    uint32_t rows, queries;
    uint64_t *starts; /* rows + 1 */
    uint32_t *dims;
    float *weights;
    uint32_t *df;
    struct buf section, metadata;
    uint32_t directory_len;
    struct sparse_index index;
    struct topk top;
    float *sums; /* of plain accumulation */
    struct random random;
};

static void die(const char *what)
{
    (void)fprintf(stderr, "sparse: %s\n", what);
    exit(1);
}

static double cpu(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- documents ---- */

/* Zipf with exponent one, by inversion of the integral. */
static uint32_t zipf(struct random *random, uint32_t n)
{
    double rank = exp(random_unit(random) * log((double)n + 1)) - 1;
    return rank >= n ? n - 1 : (uint32_t)rank;
}

static uint32_t hash_term(uint32_t term)
{
    uint32_t h = term * 2654435761u;
    h ^= h >> 15;
    return h * 2246822519u;
}

static int by_dim(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void make_documents(struct bench *b)
{
    uint64_t count = 0, room = (uint64_t)b->rows * TERMS_MAX;
    b->starts = calloc(b->rows + 1, sizeof(uint64_t));
    b->dims = malloc(room * 4);
    b->weights = malloc(room * 4);
    if (!b->starts || !b->dims || !b->weights)
        die("no memory");
    for (uint32_t row = 0; row < b->rows; row++) {
        uint32_t topic = (uint32_t)((uint64_t)row * TOPICS / b->rows), terms[TERMS_MAX];
        uint32_t length = 70 + (uint32_t)random_below(&b->random, TERMS_MAX - 70);
        for (uint32_t i = 0; i < length; i++) {
            bool own = random_below(&b->random, 3) == 0;
            uint32_t term = own ? VOCABULARY + topic * 2000 + zipf(&b->random, 2000)
                                : zipf(&b->random, VOCABULARY);
            terms[i] = hash_term(term);
        }
        qsort(terms, length, 4, by_dim);
        b->starts[row] = count;
        double norm = 1.2 * (0.25 + 0.75 * length / 115.0);
        for (uint32_t i = 0; i < length;) {
            uint32_t tf = 1;
            while (i + tf < length && terms[i + tf] == terms[i])
                tf++;
            b->dims[count] = terms[i];
            b->weights[count++] = (float)(tf * 2.2 / (tf + norm));
            i += tf;
        }
    }
    b->starts[b->rows] = count;
}

static och_code metadata_of(void *context, uint32_t row, slice *ret, och_error *err)
{
    struct bench *b = context;
    uint32_t count = (uint32_t)(b->starts[row + 1] - b->starts[row]);
    buf_clear(&b->metadata);
    buf_varint(&b->metadata, 1);
    buf_sized(&b->metadata, SLICE("v"));
    buf_byte(&b->metadata, META_SPARSE);
    buf_varint(&b->metadata, (count < 128 ? 1u : 2u) + 8 * (uint64_t)count + 1);
    buf_varint(&b->metadata, count);
    buf_append(&b->metadata, b->dims + b->starts[row], 4 * (size_t)count);
    buf_append(&b->metadata, b->weights + b->starts[row], 4 * (size_t)count);
    buf_byte(&b->metadata, 0);
    *ret = buf_view(&b->metadata);
    return buf_check(&b->metadata, "a row", err);
}

static och_code emit(void *context, const void *at, size_t len, och_error *err)
{
    struct bench *b = context;
    buf_append(&b->section, at, len);
    return buf_check(&b->section, "a section", err);
}

static void build(struct bench *b)
{
    static const slice keys[] = {{(const uint8_t *)"v", 1}};
    struct sparse_options options = {.keys = keys, .key_count = 1, .emit = emit, .emit_context = b};
    struct sparse_rows rows = {b, b->rows, metadata_of};
    uint64_t postings = b->starts[b->rows];
    double began = cpu();
    if (sparse_build(&options, &rows, &b->directory_len, NULL) != OCH_OK)
        die("no index");
    double seconds = cpu() - began;
    slice directory =
        slice_make(b->section.at + b->section.len - b->directory_len, b->directory_len);
    if (!sparse_index_open(directory, b->section.len, b->rows, &b->index))
        die("the index does not open");
    uint64_t dims = 0;
    for (uint32_t i = 0; i < b->index.segment_count; i++)
        dims += segment_at(&b->index, i).dims;
    printf("%u rows, %.1f M postings (%.1f a row), %.2f M dimensions in %u segments\n", b->rows,
           (double)postings / 1e6, (double)postings / b->rows, (double)dims / 1e6,
           b->index.segment_count);
    printf("build %.2f s CPU, %.1f M postings/s; %.2f bytes a posting\n", seconds,
           (double)postings / 1e6 / seconds, (double)b->section.len / (double)postings);
}

/* ---- searching ---- */

static och_code page_at(void *context, uint32_t slot, uint64_t offset, const uint8_t **ret_at,
                        size_t *ret_len, och_error *err)
{
    struct bench *b = context;
    (void)slot;
    if (offset >= b->section.len)
        return FAIL(err, OCH_CORRUPT, "a place outside");
    *ret_at = b->section.at + offset;
    *ret_len = b->section.len - (size_t)offset;
    return OCH_OK;
}
static float bound(void *context)
{
    return topk_bound(&((struct bench *)context)->top);
}
static och_code verify(void *context, uint32_t row, bool *ret, och_error *err)
{
    (void)context, (void)row, (void)err;
    *ret = true;
    return OCH_OK;
}
static och_code offer(void *context, uint32_t row, float score, och_error *err)
{
    (void)err;
    topk_push(&((struct bench *)context)->top,
              (struct topk_item){.distance = score, .row = row, .seq = row});
    return OCH_OK;
}

struct question {
    uint32_t dims[30];
    float weights[30];
    uint32_t count;
};

static int by_dim_pair(const void *a, const void *b)
{
    return by_dim(a, b);
}

static struct question make_question(struct bench *b, uint32_t count)
{
    struct question q = {0};
    uint32_t row = (uint32_t)random_below(&b->random, b->rows);
    uint64_t begin = b->starts[row], held = b->starts[row + 1] - begin;
    while (q.count < count && q.count < held / 2) {
        uint32_t dim = b->dims[begin + random_below(&b->random, held)];
        bool is_new = true;
        for (uint32_t i = 0; i < q.count; i++)
            is_new = is_new && q.dims[i] != dim;
        if (is_new)
            q.dims[q.count++] = dim;
    }
    qsort(q.dims, q.count, 4, by_dim_pair);
    struct sparse_pages pages = {b, page_at};
    struct sparse_terms terms = {q.dims, q.weights, q.count};
    uint64_t holders[30] = {0}, offset;
    struct arena arena;
    arena_init(&arena, NULL, 0);
    if (sparse_count(&b->index, &pages, SLICE("v"), &terms, NULL, NULL, &arena, holders, &offset,
                     NULL) != OCH_OK)
        die("cannot count");
    arena_done(&arena);
    for (uint32_t i = 0; i < q.count; i++)
        q.weights[i] =
            (float)log1p((b->rows - (double)holders[i] + 0.5) / ((double)holders[i] + 0.5));
    return q;
}

static void ask(struct bench *b, const struct question *q, size_t k, enum sparse_plan plan,
                const uint64_t *allowed, uint64_t allowed_count, struct sparse_search *ret)
{
    struct sparse_pages pages = {b, page_at};
    struct sparse_hits hits = {b, bound, verify, offer};
    struct arena arena;
    uint64_t offset;
    arena_init(&arena, NULL, 0);
    *ret = (struct sparse_search){.index = &b->index,
                                  .pages = &pages,
                                  .key = SLICE("v"),
                                  .terms = {q->dims, q->weights, q->count},
                                  .k = k,
                                  .allowed = allowed,
                                  .allowed_count = allowed_count,
                                  .hits = &hits,
                                  .plan = plan};
    if (sparse_search(ret, &arena, &offset, NULL) != OCH_OK)
        die("a search fails");
    topk_sort(&b->top);
    arena_done(&arena);
}

/* Plain accumulation: every posting into an accumulator a row, then the k best. */
static void ask_plain(struct bench *b, const struct question *q, size_t k)
{
    struct sparse_pages pages = {b, page_at};
    struct sparse_terms terms = {q->dims, q->weights, q->count};
    struct arena arena;
    arena_init(&arena, NULL, 0);
    memset(b->sums, 0, (size_t)b->rows * 4);
    for (uint32_t segment = 0; segment < b->index.segment_count; segment++) {
        struct lists lists;
        struct slots slots = {0};
        if (lists_open(&lists, &slots, &b->index, &pages, segment, &terms, NULL, &arena, NULL) !=
            OCH_OK)
            die("a list does not open");
        for (uint32_t l = 0; l < lists.count; l++) {
            struct list *list = &lists.lists[l];
            float weight = list->q;
            for (uint32_t block = 0; block < list->block_count; block++) {
                if (list_decode(&lists, list, block, NULL) != OCH_OK)
                    die("a block does not open");
                for (uint32_t i = 0; i < list->count; i++)
                    b->sums[list->rows[i]] += weight * list->weights[i];
            }
        }
    }
    float least = 0;
    for (uint32_t row = 0; row + 16 <= round_up(b->rows, 16); row += 16) {
        int any = 0;
        for (uint32_t i = 0; i < 16; i++)
            any |= b->sums[row + i] > least;
        for (uint32_t i = 0; any && i < 16; i++) {
            if (b->sums[row + i] > least) {
                (void)offer(b, row + i, 1 - b->sums[row + i], NULL);
                if (b->top.len == k)
                    least = 1 - topk_bound(&b->top);
            }
        }
    }
    topk_sort(&b->top);
    arena_done(&arena);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

enum way { BY_INDEX, BY_PLAIN, BY_FLAT, BY_FILTER, WAYS };

static void compare(struct bench *b, uint32_t terms, size_t k, const uint64_t *allowed,
                    uint64_t allowed_count)
{
    double *times[WAYS], worst = 0;
    uint64_t read = 0, all = 0;
    struct arena arena;
    arena_init(&arena, NULL, 0);
    for (int way = 0; way < WAYS; way++)
        times[way] = ARENA_ARRAY(&arena, double, b->queries);
    for (uint32_t i = 0; i < b->queries; i++) {
        struct question q = make_question(b, terms);
        float found[2] = {0};
        for (int round = 0; round < ROUNDS; round++) {
            for (int way = 0; way < WAYS; way++) {
                struct sparse_search search;
                struct arena made;
                arena_init(&made, NULL, 0);
                if (topk_init(&b->top, k, &made, NULL) != OCH_OK)
                    die("no memory");
                double began = cpu();
                if (way == BY_PLAIN)
                    ask_plain(b, &q, k);
                else
                    ask(b, &q, k, way == BY_FLAT ? SPARSE_FLAT : SPARSE_AUTO,
                        way == BY_FILTER ? allowed : NULL, allowed_count, &search);
                double took = cpu() - began;
                if (!round || took < times[way][i])
                    times[way][i] = took;
                if (way <= BY_PLAIN && b->top.len)
                    found[way] = b->top.items[b->top.len - 1].distance;
                if (way == BY_INDEX && !round) {
                    read += search.postings_read;
                    all += search.postings_all;
                }
                arena_done(&made);
            }
        }
        if (fabsf(found[0] - found[1]) > 1e-4f * fabsf(found[1]) + 1e-4f)
            die("answers differ");
        double ratio = times[BY_INDEX][i] / times[BY_PLAIN][i];
        worst = ratio > worst ? ratio : worst;
    }
    for (int way = 0; way < WAYS; way++)
        qsort(times[way], b->queries, sizeof(double), by_value);
    uint32_t middle = b->queries / 2, late = b->queries * 99 / 100;
    printf(
        "%2u terms, k %3zu | index %7.3f %7.3f | plain %7.3f %7.3f | windows %7.3f | 1 %% %7.3f | "
        "%.2f x | worst %.2f | read %3.0f %% of %llu k\n",
        terms, k, times[BY_INDEX][middle] * 1e3, times[BY_INDEX][late] * 1e3,
        times[BY_PLAIN][middle] * 1e3, times[BY_PLAIN][late] * 1e3, times[BY_FLAT][middle] * 1e3,
        times[BY_FILTER][middle] * 1e3, times[BY_PLAIN][middle] / times[BY_INDEX][middle], worst,
        100.0 * (double)read / (double)all, (unsigned long long)(all / b->queries / 1000));
    arena_done(&arena);
}

int main(int argc, char **argv)
{
    static const uint32_t terms[] = {3, 8, 30};
    static const size_t ks[] = {10, 100};
    struct bench b = {.rows = 200000, .queries = 200};
    uint32_t only_terms = 0, only_k = 0;
    for (int i = 1; i + 1 < argc; i += 2) {
        uint32_t value = (uint32_t)strtoul(argv[i + 1], NULL, 10);
        if (strcmp(argv[i], "--rows") == 0)
            b.rows = value;
        else if (strcmp(argv[i], "--queries") == 0)
            b.queries = value;
        else if (strcmp(argv[i], "--terms") == 0)
            only_terms = value;
        else if (strcmp(argv[i], "--k") == 0)
            only_k = value;
        else
            die("usage: sparse [--rows N] [--queries N] [--terms N] [--k N]");
    }
    random_seed(&b.random, 5);
    buf_init(&b.section, BUF_MAX_NONE);
    buf_init(&b.metadata, BUF_MAX_NONE);
    make_documents(&b);
    build(&b);
    b.sums = calloc((size_t)b.rows + 16, 4);
    uint64_t *allowed = calloc(b.rows / 64 + 1 + SPARSE_WINDOW / 64, 8), allowed_count = 0;
    if (!b.sums || !allowed)
        die("no memory");
    for (uint32_t row = 0; row < b.rows; row++) {
        bool in = random_below(&b.random, 100) == 0;
        allowed[row / 64] |= (uint64_t)in << row % 64;
        allowed_count += in;
    }
    printf("ms: p50, p99 by index; p50, p99 plain; p50 by windows without leaving out; p50 with a "
           "filter "
           "of 1 %%\n");
    for (size_t i = 0; i < COUNT_OF(terms); i++) {
        for (size_t j = 0; j < COUNT_OF(ks); j++) {
            if ((!only_terms || only_terms == terms[i]) && (!only_k || only_k == ks[j]))
                compare(&b, terms[i], ks[j], allowed, allowed_count);
        }
    }
    free(b.starts);
    free(b.dims);
    free(b.weights);
    free(b.sums);
    free(allowed);
    buf_done(&b.section);
    buf_done(&b.metadata);
    return 0;
}
