/* SPDX-License-Identifier: Apache-2.0 */
/* One collection cut into 1, 2, 4, 8 parts at random: what a query costs when parts are searched one after the other, each with what was found
 * so far as a bound.  In process, one thread, everything in memory.
 *
 *     parts [--rows N] [--dim D] [--queries Q] [--k K] [--recall R] [--parts P] [--rounds R] [--alone] [folder]
 *       --alone   each part by itself, without the bound: what it is worth
 *
 * One JSON line for each number of parts. */
#include "index_bench.h"

enum { K_MAX = 100, PARTS_MAX = 8 };

static void truth_of(const struct data *b, uint32_t k, struct best *truth)
{
    for (uint32_t q = 0; q < b->queries; q++) {
        truth[q].count = 0;
        truth[q].k = k;
    }
    for (uint32_t i = 0; i < b->rows; i++)
        for (uint32_t q = 0; q < b->queries; q++)
            best_push(&truth[q], (struct item){reported(b, b->query + (size_t)q * b->dim,
                                                        b->base + (size_t)i * b->dim),
                                               i});
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int rounds = 3;

static double run(struct data *b, uint32_t count, uint32_t k, float recall, bool alone,
                  const struct best *truth, double one_us)
{
    struct part_data parts[PARTS_MAX] = {0};
    uint32_t *sources = need(b->rows, 4), *fill = sources;
    double *times = need(b->queries, 8);
    for (uint32_t p = 0; p < count; p++) {
        parts[p].data = b;
        parts[p].sources = fill;
        for (uint32_t i = 0; i < b->rows; i++) {
            uint64_t mixed = (uint64_t)i * 0x9e3779b97f4a7c15u;
            mixed = (mixed ^ mixed >> 29) * 0xbf58476d1ce4e5b9u;
            if ((uint32_t)((mixed >> 32) % count) == p)
                *fill++ = i;
        }
        parts[p].rows = (uint32_t)(fill - parts[p].sources);
        parts[p].like = p ? &parts[0].index : NULL;
        part_make(&parts[p]);
    }
    double hits = 0, lists = 0, coded = 0, scored = 0, reranked = 0;
    for (int round = 0; round < rounds; round++) { /* the best of them */
        hits = lists = coded = scored = reranked = 0;
        for (uint32_t q = 0; q < b->queries; q++) {
            const float *query = b->query + (size_t)q * b->dim;
            struct best best = {.k = k};
            double start = cpu();
            struct vector_query searches[PARTS_MAX], *shared[PARTS_MAX];
            uint32_t share = 0;
            struct arena arena;
            och_error err = {0};
            struct vector_carry carry;
            arena_init(&arena, NULL, 0);
            for (uint32_t p = 0; p < count; p++) {
                searches[p] = (struct vector_query){
                    .carry = alone ? NULL : &carry,
                    .index = &parts[p].index,
                    .vector = query,
                    .plan = vector_plan_make(&parts[p].index, k, recall, parts[p].index.coded)};
                if (p == 0 &&
                    vector_carry_init(&carry, searches[0].plan.keep, &arena, &err) != OCH_OK)
                    die(err.message);
                if (searches[p].plan.mode == VECTOR_BUDGET && !alone) {
                    shared[share++] = &searches[p];
                    if (vector_search_begin(&searches[p], &arena, &searches[p].begun, &err) !=
                        OCH_OK)
                        die(err.message);
                }
            }
            if (share > 1)
                vector_share(shared, share, recall, 1);
            struct vector_found found[PARTS_MAX];
            for (uint32_t p = 0; p < count; p++) {
                ask_part(&parts[p], &searches[p], &best, &arena, &found[p]);
                lists += (double)found[p].lists_probed / b->queries;
                coded += (double)found[p].rows_scanned / b->queries;
                scored += (double)found[p].rows_scored / b->queries;
            }
            if (!alone)
                vector_join(found, count, k, &arena);
            for (uint32_t p = 0; p < count; p++) {
                rerank_part(&parts[p], query, &found[p], &best);
                reranked += (double)found[p].count / b->queries;
            }
            arena_done(&arena);
            double spent = cpu() - start;
            times[q] = round && times[q] < spent ? times[q] : spent;
            for (uint32_t i = 0; i < k; i++)
                for (uint32_t j = 0; j < best.count; j++)
                    hits += best.items[j].source == truth[q].items[i].source;
        }
    }
    double sum = 0;
    for (uint32_t q = 0; q < b->queries; q++)
        sum += times[q] * 1e6 / b->queries;
    qsort(times, b->queries, sizeof(*times), compare_doubles);
    printf("{\"bench\":\"parts\",\"parts\":%u,\"alone\":%s,\"target\":%.3f,\"recall\":%.4f,"
           "\"mean_us\":%.1f,\"p50_us\":%.1f,\"p99_us\":%.1f,\"to_one_part\":%.2f,"
           "\"lists\":%.0f,\"rows_coded\":%.0f,\"rows_scored\":%.0f,\"reranked\":%.1f}\n",
           count, alone ? "true" : "false", (double)recall, hits / ((double)k * b->queries), sum,
           times[b->queries / 2] * 1e6, times[(size_t)(b->queries * 0.99)] * 1e6,
           one_us > 0 ? sum / one_us : 1, lists, coded, scored, reranked);
    (void)fflush(stdout);
    for (uint32_t p = 0; p < count; p++)
        part_drop(&parts[p]);
    free(sources);
    free(times);
    return sum;
}

int main(int argc, char **argv)
{
    struct data b = {.rows = 200000, .dim = 384, .queries = 500, .metric = METRIC_COSINE};
    const char *folder = NULL;
    uint32_t k = 10, counts[] = {1, 2, 4, 8};
    uint32_t only = 0;
    float recall = 0.99f;
    bool alone = false;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--alone") == 0) {
            alone = true;
            continue;
        }
        if (argv[i][0] != '-') {
            folder = argv[i];
            continue;
        }
        i++;
        if (strcmp(argv[i - 1], "--rows") == 0)
            b.rows = (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(argv[i - 1], "--dim") == 0)
            b.dim = (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(argv[i - 1], "--k") == 0)
            k = (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(argv[i - 1], "--queries") == 0)
            b.queries = (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(argv[i - 1], "--rounds") == 0)
            rounds = (int)strtol(value, NULL, 10);
        else if (strcmp(argv[i - 1], "--parts") == 0)
            only = (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(argv[i - 1], "--recall") == 0)
            recall = strtof(value, NULL);
        else
            die("parts: unknown option");
    }
    if (!k || k > K_MAX)
        die("parts: --k is 1 to 100");
    data_get(&b, folder);
    struct best *truth = need(b.queries, sizeof(*truth));
    truth_of(&b, k, truth);
    double one = 0;
    for (size_t i = 0; i < COUNT_OF(counts); i++) {
        if (only && counts[i] != only)
            continue;
        double us = run(&b, counts[i], k, recall, alone, truth, one);
        one = i ? one : us;
    }
    return 0;
}
