/* SPDX-License-Identifier: Apache-2.0 */
/* Every table of the code loops against the scalar one, bit for bit, at the edge of forbidden pages. */
#include "kernel/code.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "guarded.h"

enum { KINDS = 8, WIDE = 65536, ROWS = 35 };

static const struct kernel_code *const *tables;
static size_t table_count;
static const struct kernel_code *scalar;

/* Memory whose end is forbidden: what() gives the last `size` bytes of it. */
static struct guarded area[9];

static void *what(size_t which, size_t size)
{
    assert_true(size <= (size_t)(area[which].end - area[which].start));
    return area[which].end - size;
}

static float random_float(uint64_t *state)
{
    return (float)((double)(next_random(state) >> 11) * 0x1p-53 * 2.0 - 1.0);
}

/* Inputs of each kind; 0 and 1 are ordinary. */
static void fill_floats(float *x, size_t count, unsigned kind, uint64_t *state)
{
    for (size_t i = 0; i < count; i++) {
        float u = random_float(state);
        uint64_t coin = next_random(state);
        switch (kind) {
        case 0:
            x[i] = u;
            break;
        case 1:
            x[i] = u * u * u * 1000.0f;
            break;
        case 2:
            x[i] = 0.25f;
            break;
        case 3:
            x[i] = coin & 1 ? 0.0f : -0.0f;
            break;
        case 4: /* denormal */
            x[i] = u * 0x1p-130f;
            break;
        case 5: /* ties of rounding */
            x[i] = i == 0 ? 127.0f : (float)(int)(coin % 255) * 0.5f - 63.5f;
            break;
        case 6:
            x[i] = coin & 1 ? 127.0f : -127.0f;
            break;
        default: /* one large, the others small or denormal */
            x[i] = coin % 64 == 0 ? u * 0x1p40f : u * (coin & 64 ? 0x1p-20f : 0x1p-140f);
        }
    }
}

static void fill_bytes(uint8_t *at, size_t count, unsigned kind, uint64_t *state)
{
    for (size_t i = 0; i < count; i++)
        at[i] = kind == 2 ? 255 : kind == 3 ? 0 : (uint8_t)(next_random(state) >> 20);
}

/* q8 in -127..127 and its sum. */
static int32_t fill_query(int8_t *q, size_t count, unsigned kind, uint64_t *state)
{
    int32_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        int any = (int)(next_random(state) % 255) - 127;
        q[i] = (int8_t)(kind == 2 ? 127 : kind == 3 ? -127 : any);
        sum += q[i];
    }
    return sum;
}

static void same_bytes(const void *got, const void *want, size_t size, const char *table,
                       const char *loop, size_t dim)
{
    if (memcmp(got, want, size) == 0)
        return;
    const uint8_t *a = got, *b = want;
    size_t i = 0;
    while (a[i] == b[i])
        i++;
    fail_msg("%s of %s, dim %zu: byte %zu of %zu differs", loop, table, dim, i, size);
}

/* All multiples of 64 up to 2048, and the widest. */
static size_t next_dim(size_t dim)
{
    return dim < 2048 ? dim + 64 : dim == 2048 ? WIDE : 0;
}

static int set_up(void **state)
{
    (void)state;
    table_count = kernel_code_all(&tables);
    scalar = tables[0];
    for (size_t i = 0; i < COUNT_OF(area); i++)
        area[i] = guarded_new((size_t)ROWS * (WIDE + 512) * 4);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(area); i++)
        guarded_free(&area[i]);
    return 0;
}

static void scans_add_what_the_table_says(void **state)
{
    (void)state;
    uint64_t seed = 1;
    for (size_t dim = 64; dim; dim = next_dim(dim))
        for (unsigned kind = 0; kind < 4; kind++) {
            uint8_t *code = what(0, 4 * dim), *table = what(1, 4 * dim);
            fill_bytes(code, 4 * dim, kind == 3 ? 2 : kind, &seed);
            fill_bytes(table, 4 * dim, kind, &seed);
            int32_t want[32], *got = what(2, sizeof want);
            scalar->scan1_block(code, table, dim / 4, want);
            if (kind == 2)
                assert_int_equal(want[31], 255 * (int32_t)(dim / 4));
            for (size_t t = 1; t < table_count; t++) {
                memset(got, 0x55, sizeof want);
                tables[t]->scan1_block(code, table, dim / 4, got);
                same_bytes(got, want, sizeof want, tables[t]->name, "scan1_block", dim);
            }
        }
}

static void bounds_are_equal_and_absent_rows_never_pass(void **state)
{
    (void)state;
    uint64_t seed = 2;
    size_t passed = 0, tried = 0;
    for (unsigned round = 0; round < 400; round++) {
        size_t dim = 64 * (1 + round % 12);
        uint8_t *block = what(0, code_block_size(dim)), *table = what(1, 4 * dim);
        fill_bytes(block, 4 * dim, 0, &seed);
        fill_bytes(table, 4 * dim, 0, &seed);
        float a[32], b[32], want[32], *got = what(2, sizeof want);
        fill_floats(a, 32, round % KINDS, &seed);
        fill_floats(b, 32, round / KINDS % KINDS, &seed);
        struct code_bound bound = {0.01f * random_float(&seed), random_float(&seed),
                                   random_float(&seed), random_float(&seed)};
        if (round % 5 == 0)
            bound.limit = INFINITY;
        for (size_t v = 0; v < 32; v++) {
            if (v % 7 == round % 7)
                a[v] = CODE_PAD_A, b[v] = 0.0f;
            code_factors_set(block, dim, v, a[v], b[v]);
        }
        int32_t acc[32];
        scalar->scan1_block(block, table, dim / 4, acc);
        uint32_t mask = scalar->scan1_bound(acc, a, b, &bound, want);
        for (size_t v = 0; v < 32; v++) {
            bool there = v % 7 != round % 7;
            assert_int_equal(mask >> v & 1, there && want[v] < bound.limit);
            passed += mask >> v & 1;
            tried++;
        }
        for (size_t t = 0; t < table_count; t++) {
            memset(got, 0x55, sizeof want);
            assert_int_equal(tables[t]->scan1_bound(acc, a, b, &bound, got), mask);
            same_bytes(got, want, sizeof want, tables[t]->name, "scan1_bound", dim);
            memset(got, 0x55, sizeof want);
            assert_int_equal(tables[t]->scan1(block, table, dim, &bound, got), mask);
            same_bytes(got, want, sizeof want, tables[t]->name, "scan1", dim);
        }
    }
    assert_in_range(passed, tried / 10, tried * 9 / 10);
}

static void products_of_bytes_are_exact(void **state)
{
    (void)state;
    uint64_t seed = 3;
    for (size_t dim = 64; dim; dim = next_dim(dim))
        for (unsigned kind = 0; kind < 9; kind++) {
            uint8_t *x = what(0, dim);
            int8_t *q = what(1, dim);
            fill_bytes(x, dim, kind % 3 == 0 ? 0 : kind % 3 + 1, &seed);
            int32_t sum = fill_query(q, dim, kind / 3 == 0 ? 0 : kind / 3 + 1, &seed);
            int64_t want = 0;
            for (size_t i = 0; i < dim; i++)
                want += ((int)x[i] - 128) * q[i];
            for (size_t t = 0; t < table_count; t++)
                if (tables[t]->dot_u8s8(x, q, dim, sum) != want)
                    fail_msg("dot_u8s8 of %s, dim %zu, kind %u", tables[t]->name, dim, kind);
        }
}

static void rows_and_lists_have_the_same_distance_in_every_table(void **state)
{
    (void)state;
    uint64_t seed = 4;
    for (size_t dim = 64; dim; dim = next_dim(dim)) {
        uint8_t *rows = what(0, ROWS * code_row_size(dim));
        int8_t *q = what(1, dim);
        enum { TIMES = ROWS + 5 };
        uint32_t *at = what(5, TIMES * sizeof *at);
        fill_bytes(rows, ROWS * code_row_size(dim), 0, &seed);
        for (size_t i = 0; i < ROWS; i++) {
            float factors[2] = {random_float(&seed), random_float(&seed)};
            memcpy(rows + i * code_row_size(dim) + dim, factors, sizeof factors);
        }
        for (size_t i = 0; i < TIMES; i++)
            at[i] = i < 2 ? ROWS - 1 : (uint32_t)(next_random(&seed) % ROWS);
        struct code_query8 query = {q, fill_query(q, dim, (unsigned)(dim / 64 % 4), &seed),
                                    random_float(&seed), 3.0f};
        float want[TIMES], *got = what(2, sizeof want);
        scalar->distance8(rows, at, TIMES, &query, dim, want);
        for (size_t t = 1; t < table_count; t++) {
            memset(got, 0x55, sizeof want);
            tables[t]->distance8(rows, at, TIMES, &query, dim, got);
            same_bytes(got, want, sizeof want, tables[t]->name, "distance8", dim);
        }
        const uint8_t *where[TIMES];
        for (size_t i = 0; i < TIMES; i++)
            where[i] = rows + at[i] * code_row_size(dim);
        for (size_t t = 0; t < table_count; t++) {
            memset(got, 0x55, sizeof want);
            tables[t]->distance8_of(where, TIMES, &query, dim, got);
            same_bytes(got, want, sizeof want, tables[t]->name, "distance8_of", dim);
        }
        for (size_t lists = 1; lists <= ROWS; lists += lists < ROWS - 1 ? 17 : 1) {
            size_t blocks = (lists + 15) / 16;
            uint8_t *packed = what(3, blocks * code_coarse_size(dim));
            code_pack_coarse(rows, lists, dim, packed);
            for (size_t i = 0; i < lists; i++)
                at[i] = (uint32_t)i;
            scalar->distance8(rows, at, lists, &query, dim, want);
            for (size_t t = 0; t < table_count; t++) {
                float *all = what(4, 16 * blocks * sizeof *all);
                tables[t]->coarse16(packed, blocks, &query, dim, all);
                same_bytes(all, want, lists * sizeof *all, tables[t]->name, "coarse16", dim);
                for (size_t i = lists; i < 16 * blocks; i++)
                    assert_true(isinf(all[i]) && all[i] > 0);
            }
        }
    }
}

/* More blocks than one step of any table takes. */
static void any_number_of_coarse_blocks_is_walked(void **state)
{
    (void)state;
    uint64_t seed = 5;
    enum { DIM = 128, MOST = 11 };
    uint8_t *rows = what(0, 16 * MOST * code_row_size(DIM));
    int8_t q[DIM];
    fill_bytes(rows, 16 * MOST * code_row_size(DIM), 0, &seed);
    for (size_t i = 0; i < 16 * MOST; i++) {
        float factors[2] = {random_float(&seed), random_float(&seed)};
        memcpy(rows + i * code_row_size(DIM) + DIM, factors, sizeof factors);
    }
    struct code_query8 query = {q, fill_query(q, DIM, 0, &seed), 0.5f, 3.0f};
    for (size_t blocks = 0; blocks <= MOST; blocks++) {
        uint8_t *packed = what(3, blocks * code_coarse_size(DIM));
        code_pack_coarse(rows, 16 * blocks, DIM, packed);
        float want[16 * MOST], *got = what(4, 16 * blocks * sizeof *got);
        scalar->coarse16(packed, blocks, &query, DIM, want);
        for (size_t t = 1; t < table_count; t++) {
            tables[t]->coarse16(packed, blocks, &query, DIM, got);
            same_bytes(got, want, 16 * blocks * sizeof *got, tables[t]->name, "coarse16", DIM);
        }
    }
}

/* Keys, their range, how many lie in each bucket, and which are the nearest. */
static void lists_have_the_same_keys_and_order_in_every_table(void **state)
{
    (void)state;
    uint64_t seed = 15;
    enum { MOST = 83, BUCKETS = 32 };
    for (size_t count = 0; count <= MOST; count++) {
        float *lists = what(0, 4 * count * sizeof *lists),
              *deltas = what(1, count * sizeof *deltas);
        for (size_t j = 0; j < count; j++) {
            for (int i = 0; i < 3; i++)
                lists[4 * j + (size_t)i] = NAN; /* other figures of a list */
            lists[4 * j + 3] = fabsf(random_float(&seed));
            deltas[j] = random_float(&seed) * 3.0f + 2.0f;
        }
        struct code_keys how = {random_float(&seed), count % 3 ? random_float(&seed) : 0.0f};
        float want[MOST + 1], want_range[2], range[2], *keys = what(2, count * sizeof *keys);
        scalar->list_keys(lists, deltas, count, &how, want, want_range);
        float scale = (float)BUCKETS / (want_range[1] - want_range[0]) * 1.5f;
        float limit = count ? want[count / 2] : 0;
        uint32_t counts[BUCKETS] = {0}, numbers[MOST + 1];
        scalar->count_keys(want, count, want_range[0], count ? scale : 1, BUCKETS, counts);
        size_t found = scalar->keys_upto(want, count, limit, numbers);
        assert_true(found <= count && (!count || found));
        for (size_t t = 1; t < table_count; t++) {
            const char *name = tables[t]->name;
            uint32_t own[BUCKETS] = {0}, *chosen = what(3, count * sizeof *chosen);
            tables[t]->list_keys(lists, deltas, count, &how, keys, range);
            same_bytes(keys, want, count * sizeof *keys, name, "list_keys", count);
            same_bytes(range, want_range, sizeof range, name, "list_keys, range", count);
            tables[t]->count_keys(keys, count, want_range[0], count ? scale : 1, BUCKETS, own);
            same_bytes(own, counts, sizeof own, name, "count_keys", count);
            assert_int_equal(tables[t]->keys_upto(keys, count, limit, chosen), found);
            same_bytes(chosen, numbers, found * sizeof *chosen, name, "keys_upto", count);
        }
    }
}

static void codes_are_made_the_same_way(void **state)
{
    (void)state;
    uint64_t seed = 6;
    static uint8_t want_row[WIDE + 8];
    static int8_t want_q8[WIDE];
    static float want_y[WIDE];
    for (size_t dim = 64; dim; dim = next_dim(dim))
        for (unsigned kind = 0; kind < KINDS; kind++) {
            float *y = what(0, dim * sizeof *y), *centroid = what(1, dim * sizeof *y);
            fill_floats(y, dim, kind, &seed);
            fill_floats(centroid, dim, kind % 3, &seed);
            uint8_t *row = what(2, code_row_size(dim));
            int8_t *q8 = what(3, dim);
            float *back = what(4, dim * sizeof *back);
            struct code_query8 want_query, query;
            scalar->quant8(y, dim, want_row);
            scalar->quant8_query(y, dim, want_q8, &want_query);
            for (size_t t = 1; t < table_count; t++) {
                const char *name = tables[t]->name;
                memset(row, 0x55, code_row_size(dim));
                tables[t]->quant8(y, dim, row);
                same_bytes(row, want_row, code_row_size(dim), name, "quant8", dim);
                tables[t]->quant8_query(y, dim, q8, &query);
                same_bytes(q8, want_q8, dim, name, "quant8_query", dim);
                assert_ptr_equal(query.q8, q8);
                assert_int_equal(query.sum, want_query.sum);
                same_bytes(&query.scale, &want_query.scale, 4, name, "query scale", dim);
                same_bytes(&query.norm2, &want_query.norm2, 4, name, "query norm2", dim);
                scalar->decode8(row, NULL, dim, want_y);
                tables[t]->decode8(row, NULL, dim, back);
                same_bytes(back, want_y, dim * sizeof *back, name, "decode8", dim);
                scalar->decode8(row, centroid, dim, want_y);
                tables[t]->decode8(row, centroid, dim, back);
                same_bytes(back, want_y, dim * sizeof *back, name, "decode8 residual", dim);
            }
        }
}

static void tables_and_signs_are_made_the_same_way(void **state)
{
    (void)state;
    uint64_t seed = 7;
    static uint8_t want[4 * WIDE + 256];
    for (size_t dim = 64; dim; dim = next_dim(dim))
        for (unsigned kind = 0; kind < KINDS; kind++) {
            float *y = what(0, dim * sizeof *y), *centroid = what(1, dim * sizeof *y);
            fill_floats(y, dim, kind, &seed);
            fill_floats(centroid, dim, kind == 2 ? 2 : 0, &seed);
            uint8_t *out = what(2, 4 * dim);
            struct code_table want_table = scalar->table_u8(y, dim, want);
            for (size_t t = 1; t < table_count; t++) {
                memset(out, 0x55, 4 * dim);
                struct code_table table = tables[t]->table_u8(y, dim, out);
                same_bytes(&table, &want_table, sizeof table, tables[t]->name, "table", dim);
                same_bytes(out, want, 4 * dim, tables[t]->name, "table_u8", dim);
            }
            const size_t places[] = {0, 15, 16, 31};
            for (size_t p = 0; p < COUNT_OF(places); p++) {
                struct code_sums want_sums, sums;
                memset(want, 0, 4 * dim);
                scalar->sign_encode(y, centroid, dim, want, places[p], &want_sums);
                for (size_t t = 1; t < table_count; t++) {
                    memset(out, 0, 4 * dim);
                    tables[t]->sign_encode(y, centroid, dim, out, places[p], &sums);
                    same_bytes(out, want, 4 * dim, tables[t]->name, "sign_encode", dim);
                    same_bytes(&sums, &want_sums, sizeof sums, tables[t]->name, "sums", dim);
                }
            }
        }
}

static void assignment_is_equal_and_prefers_the_lower_number(void **state)
{
    (void)state;
    uint64_t seed = 8;
    const size_t dims[] = {1, 2, 3, 17, 64, 100, 129}, counts[] = {0, 1, 5, 8, 9, 64, 70},
                 list_counts[] = {1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100};
    for (size_t d = 0; d < COUNT_OF(dims); d++)
        for (size_t c = 0; c < COUNT_OF(counts); c++)
            for (size_t l = 0; l < COUNT_OF(list_counts); l++) {
                size_t dim = dims[d], count = counts[c], lists = list_counts[l];
                size_t width = code_packed_norms(lists);
                float *centroids = what(0, lists * dim * sizeof(float));
                float *packed = what(1, code_packed_floats(lists, dim) * sizeof(float));
                float *norms = what(2, width * sizeof(float));
                float *all = what(3, count * dim * sizeof(float));
                const float **rows = what(6, count * sizeof *rows);
                fill_floats(centroids, lists * dim, (unsigned)(l % 3), &seed);
                fill_floats(all, count * dim, (unsigned)(c % 2), &seed);
                for (size_t j = lists / 2; j < lists; j += 3) /* doubles of earlier ones */
                    memcpy(centroids + j * dim, centroids + j / 2 * dim, dim * sizeof(float));
                for (size_t i = 0; i < count; i++) {
                    rows[i] = all + i * dim;
                    if (i % 3 == 0)
                        memcpy(all + i * dim, centroids + i % lists * dim, dim * sizeof(float));
                }
                code_pack_f32(centroids, dim, lists, dim, packed, norms);
                uint32_t want[70], *got = what(7, count * sizeof *got);
                float want_score[70], *score = what(8, count * sizeof *score);
                for (size_t i = 0; i < count; i++) {
                    want[i] = i % 4 == 3 ? 7 : UINT32_MAX;
                    want_score[i] = i % 4 == 3 ? -1.0f : INFINITY;
                }
                uint32_t first[70];
                float first_score[70];
                memcpy(first, want, sizeof want);
                memcpy(first_score, want_score, sizeof want_score);
                scalar->assign_f32(rows, count, packed, norms, lists, dim, 10, want, want_score);
                float *want_all = what(4, count * width * sizeof(float));
                float *got_all = what(5, count * width * sizeof(float));
                scalar->scores_f32(rows, count, packed, norms, lists, dim, want_all);
                for (size_t i = 0; i < count; i++) {
                    if (i % 4 == 3)
                        continue;
                    size_t least = 0;
                    for (size_t j = 0; j < lists; j++)
                        least = want_all[i * width + j] < want_all[i * width + least] ? j : least;
                    assert_int_equal(want[i], 10 + least);
                }
                for (size_t t = 1; t < table_count; t++) {
                    memcpy(got, first, count * sizeof *got);
                    memcpy(score, first_score, count * sizeof *score);
                    tables[t]->assign_f32(rows, count, packed, norms, lists, dim, 10, got, score);
                    same_bytes(got, want, count * 4, tables[t]->name, "assign index", dim);
                    same_bytes(score, want_score, count * 4, tables[t]->name, "assign score", dim);
                    memset(got_all, 0x55, count * width * sizeof(float));
                    tables[t]->scores_f32(rows, count, packed, norms, lists, dim, got_all);
                    same_bytes(got_all, want_all, count * width * 4, tables[t]->name, "scores",
                               dim);
                }
            }
}

/* The best so far wins a tie if its number is lower, and loses it if higher. */
static void assignment_goes_on_across_calls(void **state)
{
    (void)state;
    float centroids[40], packed[64], norms[64], at = 3.0f;
    const float *row = &at;
    for (size_t j = 0; j < 40; j++)
        centroids[j] = j % 10 == 5 ? 3.0f : -1.0f;
    code_pack_f32(centroids, 1, 40, 1, packed, norms);
    for (size_t t = 0; t < table_count; t++) {
        uint32_t index = UINT32_MAX;
        float score = INFINITY;
        tables[t]->assign_f32(&row, 1, packed, norms, 40, 1, 100, &index, &score);
        assert_int_equal(index, 105);
        assert_true(score == -9.0f);
        tables[t]->assign_f32(&row, 1, packed, norms, 40, 1, 200, &index, &score);
        assert_int_equal(index, 105);
        tables[t]->assign_f32(&row, 1, packed, norms, 40, 1, 0, &index, &score);
        assert_int_equal(index, 5);
    }
}

/* Many queries at once: the distances of coarse16, and the nearest of them. */
static void queries_among_lists_are_equal_and_prefer_the_lower_number(void **state)
{
    (void)state;
    uint64_t seed = 21;
    enum { MOST = 21 };
    const size_t dims[] = {4, 64, 100, 192, 1024}, counts[] = {0, 1, 3, 4, 7, 8, 9, MOST},
                 list_counts[] = {1, 15, 16, 17, 32, 33, 48, 50, 130};
    for (size_t d = 0; d < COUNT_OF(dims); d++)
        for (size_t c = 0; c < COUNT_OF(counts); c++)
            for (size_t l = 0; l < COUNT_OF(list_counts); l++) {
                size_t dim = dims[d], count = counts[c], lists = list_counts[l];
                size_t blocks = (lists + CODE_LISTS - 1) / CODE_LISTS, width = CODE_LISTS * blocks;
                uint8_t *rows = what(0, lists * code_row_size(dim));
                fill_bytes(rows, lists * code_row_size(dim), (unsigned)(l % 4), &seed);
                for (size_t j = 0; j < lists; j++) {
                    float factors[2] = {random_float(&seed), random_float(&seed) + 1.0f};
                    memcpy(rows + j * code_row_size(dim) + dim, factors, sizeof factors);
                    if (j % 3 == 2) /* doubles of earlier ones */
                        memcpy(rows + j * code_row_size(dim), rows + j / 2 * code_row_size(dim),
                               code_row_size(dim));
                }
                uint8_t *packed = what(1, blocks * code_coarse_size(dim));
                code_pack_coarse(rows, lists, dim, packed);
                int8_t *q8 = what(2, count * dim);
                struct code_query8 *queries = what(3, count * sizeof *queries);
                for (size_t i = 0; i < count; i++) {
                    int32_t sum = fill_query(q8 + i * dim, dim, (unsigned)(i % 4), &seed);
                    queries[i] = (struct code_query8){q8 + i * dim, sum, random_float(&seed), 2.0f};
                }
                float *want_all = what(4, count * width * sizeof(float)),
                      *got_all = what(5, count * width * sizeof(float));
                uint32_t want[MOST], first[MOST], *got = what(6, count * sizeof *got);
                float want_best[MOST], first_best[MOST], *best = what(7, count * sizeof *best);
                for (size_t i = 0; i < count; i++) {
                    scalar->coarse16(packed, blocks, &queries[i], dim, want_all + i * width);
                    first[i] = i % 4 == 3 ? 7 : UINT32_MAX;
                    first_best[i] = i % 8 == 7 ? -INFINITY : INFINITY;
                    want[i] = first[i];
                    want_best[i] = first_best[i];
                    for (size_t j = 0; j < lists; j++)
                        if (want_all[i * width + j] < want_best[i]) {
                            want_best[i] = want_all[i * width + j];
                            want[i] = 10 + (uint32_t)j;
                        }
                }
                for (size_t t = 0; t < table_count; t++) {
                    const char *name = tables[t]->name;
                    memset(got_all, 0x55, count * width * sizeof(float));
                    tables[t]->coarse16_rows(packed, blocks, queries, count, dim, got_all);
                    same_bytes(got_all, want_all, count * width * 4, name, "coarse16_rows", dim);
                    memcpy(got, first, count * sizeof *got);
                    memcpy(best, first_best, count * sizeof *best);
                    tables[t]->nearest16(packed, blocks, queries, count, dim, 10, got, best);
                    same_bytes(got, want, count * 4, name, "nearest16", dim);
                    same_bytes(best, want_best, count * 4, name, "nearest16 distance", dim);
                    /* again with other numbers: equals win only with a lower one */
                    tables[t]->nearest16(packed, blocks, queries, count, dim, 500, got, best);
                    same_bytes(got, want, count * 4, name, "nearest16 again", dim);
                    tables[t]->nearest16(packed, blocks, queries, count, dim, 0, got, best);
                    for (size_t i = 0; i < count; i++)
                        assert_int_equal(got[i], i % 8 == 7 ? 7 : want[i] - 10);
                }
            }
}

static void transforms_and_rotations_are_equal(void **state)
{
    (void)state;
    uint64_t seed = 9;
    static float from[WIDE], want[WIDE];
    for (size_t length = 1; length <= WIDE; length *= 2)
        for (unsigned kind = 0; kind < KINDS; kind++) {
            float *got = what(0, length * sizeof *got);
            fill_floats(from, length, kind, &seed);
            memcpy(want, from, length * sizeof *got);
            scalar->fht_f32(want, length);
            for (size_t t = 1; t < table_count; t++) {
                memcpy(got, from, length * sizeof *got);
                tables[t]->fht_f32(got, length);
                same_bytes(got, want, length * sizeof *got, tables[t]->name, "fht", length);
            }
        }
    for (size_t dim = 64; dim; dim = next_dim(dim))
        for (unsigned kind = 0; kind < KINDS; kind++)
            for (unsigned back = 0; back < 2; back++) {
                float *got = what(0, dim * sizeof *got);
                fill_floats(from, dim, kind, &seed);
                memcpy(want, from, dim * sizeof *got);
                (back ? scalar->rotate_back_f32 : scalar->rotate_f32)(want, dim, dim + kind);
                for (size_t t = 1; t < table_count; t++) {
                    memcpy(got, from, dim * sizeof *got);
                    (back ? tables[t]->rotate_back_f32 : tables[t]->rotate_f32)(got, dim,
                                                                                dim + kind);
                    same_bytes(got, want, dim * sizeof *got, tables[t]->name,
                               back ? "rotate_back" : "rotate", dim);
                }
            }
}

static void bits_are_counted(void **state)
{
    (void)state;
    uint64_t seed = 10;
    for (size_t count = 0; count < 70; count++) {
        uint64_t *a = what(0, 8 * count), *b = what(1, 8 * count), want = 0, both = 0;
        for (size_t i = 0; i < count; i++) {
            a[i] = count % 7 == 0 ? UINT64_MAX : next_random(&seed);
            b[i] = next_random(&seed);
            for (unsigned bit = 0; bit < 64; bit++) {
                want += a[i] >> bit & 1;
                both += a[i] >> bit & b[i] >> bit & 1;
            }
        }
        for (size_t t = 0; t < table_count; t++) {
            assert_int_equal(tables[t]->popcount(a, count), want);
            assert_int_equal(tables[t]->popcount_and(a, b, count), both);
        }
    }
}

static void the_choice_is_one_of_the_tables(void **state)
{
    (void)state;
    assert_string_equal(tables[0]->name, "scalar");
    const char *wish = getenv("OCHRE_KERNEL");
    bool listed = false;
    for (size_t t = 0; t < table_count; t++)
        listed = listed || tables[t] == kernel_code_get();
    assert_true(listed);
    if (!wish)
        assert_ptr_equal(kernel_code_get(), tables[table_count - 1]);
    else if (strcmp(wish, "scalar") == 0)
        assert_ptr_equal(kernel_code_get(), tables[0]);
    print_message("code kernels: %zu, chosen %s\n", table_count, kernel_code_get()->name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scans_add_what_the_table_says),
        cmocka_unit_test(bounds_are_equal_and_absent_rows_never_pass),
        cmocka_unit_test(products_of_bytes_are_exact),
        cmocka_unit_test(rows_and_lists_have_the_same_distance_in_every_table),
        cmocka_unit_test(any_number_of_coarse_blocks_is_walked),
        cmocka_unit_test(lists_have_the_same_keys_and_order_in_every_table),
        cmocka_unit_test(codes_are_made_the_same_way),
        cmocka_unit_test(tables_and_signs_are_made_the_same_way),
        cmocka_unit_test(assignment_is_equal_and_prefers_the_lower_number),
        cmocka_unit_test(assignment_goes_on_across_calls),
        cmocka_unit_test(queries_among_lists_are_equal_and_prefer_the_lower_number),
        cmocka_unit_test(transforms_and_rotations_are_equal),
        cmocka_unit_test(bits_are_counted),
        cmocka_unit_test(the_choice_is_one_of_the_tables),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
