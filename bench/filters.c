/* SPDX-License-Identifier: Apache-2.0 */
/* Filtered search in one part, given the bits of what passes: recall@10 and time a query beside an exact scan of the survivors, for shares of
 * 50, 10, 1, 0.1, 0.01 % of the rows, chosen at random or as one region (the rows nearest to one of them), asked from near it or from far off.
 * In process, one thread, everything in memory, CPU time.
 *
 *     filters [--rows N] [--dim D] [--queries Q] [--recall R] [folder]
 *
 * One JSON line a cell; `slower` counts cells above the scan's time, `low` those below 0.99. */
#include "index_bench.h"

enum { K = 10 };

struct cell {
    const char *where;
    double share;
    uint64_t *mask; /* by row of the part */
    uint64_t survivors;
    uint32_t *queries; /* which to ask */
    uint32_t query_count;
};

static int by_distance(const void *a, const void *b)
{
    return compare_items(a, b);
}

/* Rows, or queries, by their distance from a pivot. */
static struct item *ordered_by(const struct data *b, const float *pivot, const float *rows,
                               uint32_t count)
{
    struct item *items = need(count, sizeof(*items));
    for (uint32_t i = 0; i < count; i++)
        items[i] = (struct item){reported(b, pivot, rows + (size_t)i * b->dim), i};
    qsort(items, count, sizeof(*items), by_distance);
    return items;
}

static void fill(const struct data *b, struct part_data *part, struct cell *cell)
{
    struct random random;
    random_seed(&random, 5);
    uint32_t rows = part->index.coded, want = (uint32_t)(cell->share * rows + 0.5);
    want = want ? want : 1;
    memset(cell->mask, 0, (rows / 64 + 2) * 8);
    const float *pivot = part->ordered + (size_t)(rows / 3) * b->dim;
    if (strcmp(cell->where, "random") == 0) {
        for (uint32_t row = 0; row < rows; row++)
            if (random_unit(&random) < cell->share)
                cell->mask[row / 64] |= 1ull << row % 64;
    } else {
        struct item *items = ordered_by(b, pivot, part->ordered, rows);
        for (uint32_t i = 0; i < want; i++)
            cell->mask[items[i].source / 64] |= 1ull << items[i].source % 64;
        free(items);
    }
    cell->survivors = kernel_code_get()->popcount(cell->mask, rows / 64 + 1);
    struct item *items = ordered_by(b, pivot, b->query, b->queries);
    cell->query_count = b->queries / 4 ? b->queries / 4 : 1;
    for (uint32_t i = 0; i < cell->query_count; i++) {
        uint32_t at = strcmp(cell->where, "near") == 0  ? i
                      : strcmp(cell->where, "far") == 0 ? b->queries - 1 - i
                                                        : i * 4 % b->queries;
        cell->queries[i] = items[at].source;
    }
    free(items);
}

/* What the executor does with few survivors: every one that passes, by its stored vector. */
static void scan_survivors(const struct part_data *part, const struct cell *cell,
                           const float *query, struct best *best)
{
    const struct data *b = part->data;
    const struct kernel *kernel = kernel_get();
    float query_norm2 = kernel->dot_f32(query, query, b->dim);
    for (uint32_t word = 0; word * 64 < part->index.coded; word++)
        for (uint64_t left = cell->mask[word]; left; left &= left - 1) {
            uint32_t row = word * 64 + (uint32_t)__builtin_ctzll(left);
            const float *x = part->ordered + (size_t)row * b->dim;
            float distance =
                b->metric == METRIC_L2
                    ? kernel->l2_f32(query, x, b->dim)
                    : kernel_cosine_distance(kernel->dot_f32(query, x, b->dim), query_norm2,
                                             kernel->dot_f32(x, x, b->dim));
            best_push(best, (struct item){distance, part->row_source[row]});
        }
}

static const char *mode_name(const struct vector_plan *plan, bool exact)
{
    static const char *const names[] = {"lists", "probe", "all lists", "codes8"};
    return exact ? "exact" : names[plan->mode];
}

static void run(struct data *b, struct part_data *part, struct cell *cell, float recall,
                int *slower, int *low)
{
    double spent = 1e9, scan = 1e9, hits = 0, wanted = 0, coded = 0, scored = 0, reranked = 0;
    struct vector_plan plan = vector_plan_make(&part->index, K, recall, cell->survivors);
    bool exact = plan.mode == VECTOR_EXACT || cell->survivors <= 4 * (uint64_t)plan.keep;
    struct best *truth = need(cell->query_count, sizeof(*truth)),
                *answers = need(cell->query_count, sizeof(*answers));
    for (int round = 0; round < 3; round++) { /* the best of them */
        double start = cpu();
        for (uint32_t q = 0; q < cell->query_count; q++) {
            truth[q] = (struct best){.k = K};
            scan_survivors(part, cell, b->query + (size_t)cell->queries[q] * b->dim, &truth[q]);
        }
        double middle = cpu();
        scan = middle - start < scan ? middle - start : scan;
        coded = scored = reranked = 0;
        for (uint32_t q = 0; q < cell->query_count; q++) {
            const float *query = b->query + (size_t)cell->queries[q] * b->dim;
            answers[q] = (struct best){.k = K};
            if (exact) {
                scan_survivors(part, cell, query, &answers[q]);
                continue;
            }
            struct arena arena;
            struct vector_query search = {
                .index = &part->index, .vector = query, .mask = cell->mask, .plan = plan};
            struct vector_found found;
            arena_init(&arena, NULL, 0);
            ask_part(part, &search, &answers[q], &arena, &found);
            rerank_part(part, query, &found, &answers[q]);
            coded += (double)found.rows_scanned / cell->query_count;
            scored += (double)found.rows_scored / cell->query_count;
            reranked += (double)found.count / cell->query_count;
            arena_done(&arena);
        }
        double own = cpu() - middle;
        spent = own < spent ? own : spent;
    }
    for (uint32_t q = 0; q < cell->query_count; q++)
        for (uint32_t i = 0; i < truth[q].count; i++) {
            wanted++;
            hits += i < answers[q].count &&
                    answers[q].items[i].distance <= truth[q].items[truth[q].count - 1].distance;
        }
    *low += hits / wanted < 0.99;
    *slower += spent > 1.1 * scan;
    printf("{\"bench\":\"filters\",\"where\":\"%s\",\"share\":%g,\"survivors\":%llu,\"way\":\"%s\","
           "\"recall\":%.4f,\"us\":%.1f,\"scan_us\":%.1f,\"faster\":%.2f,\"rows_coded\":%.0f,"
           "\"rows_scored\":%.0f,\"reranked\":%.1f}\n",
           cell->where, cell->share, (unsigned long long)cell->survivors, mode_name(&plan, exact),
           hits / wanted, spent * 1e6 / cell->query_count, scan * 1e6 / cell->query_count,
           scan / spent, coded, scored, reranked);
    (void)fflush(stdout);
    free(truth);
    free(answers);
}

int main(int argc, char **argv)
{
    struct data b = {.rows = 200000, .dim = 384, .queries = 200, .metric = METRIC_COSINE};
    const char *folder = NULL;
    float recall = 0.99f;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (argv[i][0] != '-') {
            folder = argv[i];
            continue;
        }
        i++;
        if (strcmp(argv[i - 1], "--rows") == 0)
            b.rows = (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(argv[i - 1], "--dim") == 0)
            b.dim = (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(argv[i - 1], "--queries") == 0)
            b.queries = (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(argv[i - 1], "--recall") == 0)
            recall = strtof(value, NULL);
        else
            die("filters: unknown option");
    }
    data_get(&b, folder);
    struct part_data part = {.data = &b, .rows = b.rows};
    uint32_t *sources = need(b.rows, 4);
    for (uint32_t i = 0; i < b.rows; i++)
        sources[i] = i;
    part.sources = sources;
    part_make(&part);
    static const char *const wheres[] = {"random", "near", "far"};
    static const double shares[] = {0.5, 0.1, 0.01, 0.001, 0.0001};
    struct cell cell = {.mask = need(b.rows / 64 + 2, 8), .queries = need(b.queries, 4)};
    int slower = 0, low = 0;
    for (size_t w = 0; w < COUNT_OF(wheres); w++)
        for (size_t s = 0; s < COUNT_OF(shares); s++) {
            cell.where = wheres[w];
            cell.share = shares[s];
            fill(&b, &part, &cell);
            run(&b, &part, &cell, recall, &slower, &low);
        }
    printf("{\"bench\":\"filters\",\"slower\":%d,\"low\":%d}\n", slower, low);
    part_drop(&part);
    return 0;
}
