/* SPDX-License-Identifier: Apache-2.0 */
/* Whether the codes mean what they should: layout by hand, rotation, accuracy of the estimates.  With OCHRE_SPEED set,
 * also how fast they are. */
#include "kernel/code.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "guarded.h"

static const struct kernel_code *const *tables;
static size_t table_count;

static float random_normal(uint64_t *state)
{
    double u = ((double)(next_random(state) >> 11) + 0.5) * 0x1p-53;
    double v = (double)(next_random(state) >> 11) * 0x1p-53;
    return (float)(sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v));
}

static double norm2_of(const float *x, size_t dim)
{
    double sum = 0.0;
    for (size_t i = 0; i < dim; i++)
        sum += (double)x[i] * (double)x[i];
    return sum;
}

static double dot_of(const float *x, const float *y, size_t dim)
{
    double sum = 0.0;
    for (size_t i = 0; i < dim; i++)
        sum += (double)x[i] * (double)y[i];
    return sum;
}

/* One row whose residual is >= 0 at dimensions 0, 5, 18 and 63 alone. */
static void a_block_lies_as_drawn_by_hand(void **state)
{
    (void)state;
    enum { DIM = 64 };
    float y[DIM], centroid[DIM] = {0};
    for (size_t i = 0; i < DIM; i++)
        y[i] = i == 0 || i == 18 || i == 63 ? 1.0f : i == 5 ? 0.0f : -1.0f;
    for (size_t t = 0; t < table_count; t++)
        for (size_t v = 2; v < 32; v += 16) {
            uint8_t block[4 * DIM + 256];
            struct code_sums sums;
            code_block_clear(block, DIM);
            tables[t]->sign_encode(y, centroid, DIM, block, v, &sums);
            unsigned shift = v < 16 ? 0 : 4;
            for (size_t at = 0; at < 4 * DIM; at++) {
                unsigned want = 0;
                if (at == 0 * 64 + 4 * 2 + 0)
                    want = 1; /* dimension 0: group 0, bit 0 */
                if (at == 0 * 64 + 4 * 2 + 1)
                    want = 2; /* dimension 5: group 1, bit 1 */
                if (at == 1 * 64 + 4 * 2 + 0)
                    want = 4; /* dimension 18: group 4, bit 2 */
                if (at == 3 * 64 + 4 * 2 + 3)
                    want = 8; /* dimension 63: group 15, bit 3 */
                assert_int_equal(block[at], want << shift);
            }
            assert_true(sums.norm2 == 63.0f && sums.norm1 == 63.0f && sums.centroid_dot == 0.0f);
            float a, b;
            code_factors_of(&sums, &a, &b);
            assert_true(a == 63.0f && b == 2.0f);
            code_factors_set(block, DIM, v, a, b);
            for (size_t row = 0; row < 32; row++) {
                code_factors_get(block, DIM, row, &a, &b);
                assert_true(row == v ? a == 63.0f && b == 2.0f : a == CODE_PAD_A && b == 0.0f);
            }
            assert_int_equal(block[4 * DIM + 4 * v + 3], 0x42); /* 63.0f is 0x427c0000 */
            assert_int_equal(block[4 * DIM + 128 + 4 * v + 3], 0x40);

            /* Each of the sixteen groups has its own weights: 16 m + pattern. */
            uint8_t table[4 * DIM];
            int32_t acc[32];
            for (size_t i = 0; i < sizeof table; i++)
                table[i] = (uint8_t)i;
            tables[t]->scan1_block(block, table, DIM / 4, acc);
            for (size_t row = 0; row < 32; row++)
                assert_int_equal(acc[row], 16 * 120 + (row == v ? 1 + 2 + 4 + 8 : 0));
        }
}

static void a_coarse_block_and_a_tile_lie_as_drawn_by_hand(void **state)
{
    (void)state;
    enum { DIM = 64 };
    uint8_t rows[2 * (DIM + 8)], packed[16 * DIM + 128];
    for (size_t i = 0; i < DIM; i++) {
        rows[i] = (uint8_t)i;
        rows[DIM + 8 + i] = (uint8_t)(100 + i);
    }
    const float factors[4] = {1.0f, 2.0f, 3.0f, 4.0f};
    memcpy(rows + DIM, factors, 8);
    memcpy(rows + DIM + 8 + DIM, factors + 2, 8);
    code_pack_coarse(rows, 2, DIM, packed);
    assert_int_equal(packed[0], 0);
    assert_int_equal(packed[3], 3);
    assert_int_equal(packed[4], 100);
    assert_int_equal(packed[8], 128);
    assert_int_equal(packed[64], 4);
    assert_int_equal(packed[64 + 4 + 1], 105);
    float end[32];
    memcpy(end, packed + 16 * DIM, sizeof end);
    assert_true(end[0] == 1.0f && end[1] == 3.0f && end[2] == 0.0f);
    assert_true(end[16] == 2.0f && end[17] == 4.0f && isinf(end[18]));
    float centroids[33 * 2], tile[64 * 2], norms[64];
    for (size_t i = 0; i < 66; i++)
        centroids[i] = (float)i;
    code_pack_f32(centroids, 2, 33, 2, tile, norms);
    assert_true(tile[1] == 2.0f && tile[32] == 1.0f && tile[64] == 64.0f && tile[96] == 65.0f);
    assert_true(norms[1] == 13.0f && norms[32] == 64.0f * 64.0f + 65.0f * 65.0f);
    assert_true(isinf(norms[33]) && tile[65] == 0.0f);
}

static void rotations_keep_norms_and_come_back(void **state)
{
    (void)state;
    uint64_t seed = 1;
    static float x[65536], y[65536];
    for (size_t dim = 64; dim <= 65536; dim = dim < 2048 ? dim + 64 : dim * 2) {
        for (size_t i = 0; i < dim; i++)
            x[i] = y[i] = random_normal(&seed);
        const struct kernel_code *best = kernel_code_get();
        best->rotate_f32(y, dim, 77);
        double before = norm2_of(x, dim), after = norm2_of(y, dim);
        assert_true(fabs(after - before) < 1e-5 * before);
        assert_true(fabs(dot_of(x, y, dim)) < 0.9 * before);
        best->rotate_back_f32(y, dim, 77);
        for (size_t i = 0; i < dim; i++)
            assert_true(fabsf(y[i] - x[i]) < 1e-5f);
        size_t length = dim & (~dim + 1);
        memcpy(y, x, dim * sizeof *y);
        best->fht_f32(y, length);
        best->fht_f32(y, length);
        for (size_t i = 0; i < length; i++)
            assert_true(fabsf(y[i] / (float)length - x[i]) < 1e-5f);
    }
}

static int sign_of(float x)
{
    return (x > 0.0f) - (x < 0.0f);
}

/* Signs of rotated inputs are fair coins: all together, at each dimension over seeds, and between neighbours.  (Few numbers
 * can come of a one-hot vector in 64 dimensions, and some are zeros: they count for neither side.) */
static void rotated_signs_are_balanced(void **state)
{
    (void)state;
    const size_t dims[] = {64, 128, 192, 448, 768, 1024, 1536};
    enum { SEEDS = 600, MOST = 1536 };
    uint64_t seed = 2;
    static float x[MOST];
    static int sums[MOST];
    for (size_t d = 0; d < COUNT_OF(dims); d++)
        for (unsigned kind = 0; kind < 3; kind++) {
            size_t dim = dims[d];
            int all = 0, pairs = 0;
            memset(sums, 0, sizeof sums);
            for (size_t s = 0; s < SEEDS; s++) {
                memset(x, 0, sizeof x);
                if (kind == 0)
                    x[next_random(&seed) % dim] = 1.0f;
                for (size_t i = 0; kind > 0 && i < dim; i++)
                    x[i] = kind == 1 ? random_normal(&seed) : 1.0f;
                kernel_code_get()->rotate_f32(x, dim, next_random(&seed));
                for (size_t i = 0; i < dim; i++) {
                    sums[i] += sign_of(x[i]);
                    pairs += i > 0 ? sign_of(x[i]) * sign_of(x[i - 1]) : 0;
                }
            }
            for (size_t i = 0; i < dim; i++) {
                all += sums[i];
                if (abs(sums[i]) > 5.0 * sqrt(SEEDS))
                    fail_msg("dim %zu, kind %u: %d of %d at %zu", dim, kind, sums[i], SEEDS, i);
            }
            if (abs(all) > 5.0 * sqrt((double)(SEEDS * dim)))
                fail_msg("dim %zu, kind %u: all signs add up to %d", dim, kind, all);
            if (abs(pairs) > 5.0 * sqrt((double)(SEEDS * dim)))
                fail_msg("dim %zu, kind %u: all pairs add up to %d", dim, kind, pairs);
        }
}

/* |y|^2 comes out exactly along the row itself, elsewhere within the rounding of 8 bits. */
static void eight_bits_estimate_distances(void **state)
{
    (void)state;
    uint64_t seed = 3;
    const size_t dims[] = {64, 128, 768, 4096, 65536};
    static float y[65536], q[65536], back[65536];
    static uint8_t row[65536 + 8];
    static int8_t q8[65536];
    const struct kernel_code *best = kernel_code_get();
    for (size_t d = 0; d < COUNT_OF(dims); d++)
        for (unsigned round = 0; round < 20; round++) {
            size_t dim = dims[d];
            for (size_t i = 0; i < dim; i++) {
                y[i] = random_normal(&seed);
                q[i] = y[i] + 0.5f * random_normal(&seed);
            }
            struct code_query8 query;
            best->quant8(y, dim, row);
            best->quant8_query(q, dim, q8, &query);
            double norm2 = norm2_of(y, dim), q_norm2 = norm2_of(q, dim);
            assert_true(fabs((double)code_row_norm2(row, dim) - norm2) < 1e-6 * norm2);
            assert_true(fabs((double)query.norm2 - q_norm2) < 1e-6 * q_norm2);
            best->decode8(row, NULL, dim, back);
            assert_true(fabs(dot_of(y, back, dim) - norm2) < 1e-5 * norm2);
            double want = norm2 + q_norm2 - 2.0 * dot_of(y, q, dim);
            uint32_t at = 0;
            float got;
            best->distance8(row, &at, 1, &query, dim, &got);
            double error = 6.0 * sqrt(1.0 / 12.0) *
                           (sqrt(q_norm2) * (double)code_row_scale(row, dim) +
                            sqrt(norm2) * (double)query.scale);
            assert_true(fabs((double)got - want) < error + 1e-5 * norm2);
        }
}

/* The 1-bit estimate of |q-x|^2 is unbiased, and its error what section 6 says: |v| * 0.6 * b. */
static void one_bit_estimates_distances(void **state)
{
    (void)state;
    enum { DIM = 256, BLOCKS = 64 };
    uint64_t seed = 4;
    static uint8_t block[4 * DIM + 256], table[4 * DIM];
    float q[DIM], centroid[DIM], y[32][DIM];
    const struct kernel_code *best = kernel_code_get();
    double bias = 0.0, square = 0.0;
    size_t below = 0;
    for (size_t i = 0; i < DIM; i++) {
        centroid[i] = random_normal(&seed);
        q[i] = centroid[i] + random_normal(&seed);
    }
    struct code_table of = best->table_u8(q, DIM, table);
    for (unsigned round = 0; round < BLOCKS; round++) {
        float low[32];
        double sigma[32];
        double delta = 0.0;
        for (size_t i = 0; i < DIM; i++)
            delta += ((double)q[i] - (double)centroid[i]) * ((double)q[i] - (double)centroid[i]);
        code_block_clear(block, DIM);
        for (size_t v = 0; v < 32; v++) {
            struct code_sums sums;
            float a, b;
            for (size_t i = 0; i < DIM; i++)
                y[v][i] = centroid[i] + random_normal(&seed);
            best->sign_encode(y[v], centroid, DIM, block, v, &sums);
            code_factors_of(&sums, &a, &b);
            code_factors_set(block, DIM, v, a, b);
            sigma[v] = (double)b * sqrt(delta) * 0.6;
        }
        struct code_bound bound = {of.a, of.c, (float)delta, INFINITY};
        assert_int_equal(best->scan1(block, table, DIM, &bound, low), UINT32_MAX);
        float estimate[32];
        memcpy(estimate, low, sizeof low);
        bound.offset = of.c + 1.5f * 0.6f * sqrtf((float)delta);
        (void)best->scan1(block, table, DIM, &bound, low);
        for (size_t v = 0; v < 32; v++) {
            double want = 0.0;
            for (size_t i = 0; i < DIM; i++)
                want += ((double)q[i] - (double)y[v][i]) * ((double)q[i] - (double)y[v][i]);
            double error = ((double)estimate[v] - want) / sigma[v];
            bias += error;
            square += error * error;
            below += (double)low[v] < want;
        }
    }
    double count = 32.0 * BLOCKS;
    assert_true(fabs(bias / count) < 5.0 / sqrt(count));
    assert_true(square / count > 0.85 && square / count < 1.15);
    assert_true((double)below > 0.9 * count && (double)below < 0.96 * count);
}

/* A row equal to a centroid scores exactly -norm, so that its distance is exactly 0. */
static void a_row_that_is_a_centroid_has_distance_zero(void **state)
{
    (void)state;
    enum { DIM = 100, LISTS = 40 };
    static float centroids[LISTS * DIM], packed[64 * DIM], norms[64];
    const float *rows[LISTS];
    uint32_t index[LISTS];
    float score[LISTS];
    uint64_t seed = 5;
    for (size_t i = 0; i < COUNT_OF(centroids); i++)
        centroids[i] = random_normal(&seed);
    code_pack_f32(centroids, DIM, LISTS, DIM, packed, norms);
    for (size_t t = 0; t < table_count; t++) {
        for (size_t i = 0; i < LISTS; i++) {
            rows[i] = centroids + i * DIM;
            index[i] = UINT32_MAX;
            score[i] = INFINITY;
        }
        tables[t]->assign_f32(rows, LISTS, packed, norms, LISTS, DIM, 0, index, score);
        for (size_t i = 0; i < LISTS; i++) {
            assert_int_equal(index[i], i);
            assert_true(score[i] == -norms[i]);
        }
    }
}

static double now_ns(void)
{
    struct timespec at;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &at);
    return (double)at.tv_sec * 1e9 + (double)at.tv_nsec;
}

/* Least time of one run of the code, in ns. */
#define TIME(times, ...)                                        \
    __extension__({                                             \
        double least_ = INFINITY;                               \
        for (int round_ = 0; round_ < 7; round_++) {            \
            double from_ = now_ns();                            \
            for (size_t i_ = 0; i_ < (times); i_++) {           \
                __VA_ARGS__;                                    \
                __asm__ volatile("" ::: "memory");              \
            }                                                   \
            double one_ = (now_ns() - from_) / (double)(times); \
            least_ = one_ < least_ ? one_ : least_;             \
        }                                                       \
        least_;                                                 \
    })

enum { SPEED_LISTS = 1280, SPEED_NEAR = 900000, SPEED_FAR = 64000000 };
static volatile uint32_t sink;

static uint8_t *random_bytes(size_t size)
{
    uint64_t seed = 6;
    uint8_t *at = aligned_alloc(64, (size_t)round_up(size, 64));
    assert_non_null(at);
    for (size_t i = 0; i < size; i++)
        at[i] = (uint8_t)(next_random(&seed) >> 9);
    return at;
}

static float *random_floats(size_t count)
{
    uint64_t seed = 7;
    float *at = aligned_alloc(64, (size_t)round_up(count * sizeof *at, 64));
    assert_non_null(at);
    for (size_t i = 0; i < count; i++)
        at[i] = random_normal(&seed);
    return at;
}

/* Code in the second-level cache (near), and from memory (far). */
static void speed_of_scans(const struct kernel_code *k, size_t dim)
{
    size_t size = code_block_size(dim), near = SPEED_NEAR / size, far = SPEED_FAR / size;
    uint8_t *blocks = random_bytes(far * size), *table = random_bytes(4 * dim);
    const struct code_bound bound = {0.01f, 1.0f, 2.0f, 3.0f};
    float low[32];
    int32_t acc[32];
    double near_ns = TIME(2, for (size_t b = 0; b < near; b++) sink +=
                             k->scan1(blocks + b * size, table, dim, &bound, low));
    double far_ns = TIME(1, for (size_t b = 0; b < far; b++) sink +=
                            k->scan1(blocks + b * size, table, dim, &bound, low));
    double plain_ns = TIME(
        2, for (size_t b = 0; b < near; b++) {
            k->scan1_block(blocks + b * size, table, dim / 4, acc);
            sink += (uint32_t)acc[3];
        });
    printf("%-9s D %4zu: scan1_block near %.2f, scan1 near %.2f, from memory %.2f ns a row\n",
           k->name, dim, plain_ns / (double)(32 * near), near_ns / (double)(32 * near),
           far_ns / (double)(32 * far));
    free(blocks);
    free(table);
}

static void speed_of_8bits(const struct kernel_code *k, size_t dim)
{
    size_t size = code_row_size(dim), near = SPEED_NEAR / size, far = SPEED_FAR / size;
    uint8_t *rows = random_bytes(far * size);
    uint8_t *coarse = random_bytes(SPEED_LISTS / 16 * code_coarse_size(dim));
    float *x = random_floats(dim), *out = random_floats(SPEED_LISTS);
    int8_t *q8 = (int8_t *)random_bytes(dim);
    struct code_query8 query;
    uint32_t at[512];
    uint64_t seed = 8;
    double query_ns = TIME(300, k->quant8_query(x, dim, q8, &query));
    double dot_ns = TIME(2, for (size_t r = 0; r < near; r++) sink +=
                            (uint32_t)k->dot_u8s8(rows + r * size, q8, dim, query.sum));
    double random_ns = TIME(10, {
        for (size_t i = 0; i < COUNT_OF(at); i++)
            at[i] = (uint32_t)(next_random(&seed) % far);
        k->distance8(rows, at, COUNT_OF(at), &query, dim, out);
    });
    code_pack_coarse(rows, SPEED_LISTS, dim, coarse);
    for (size_t i = 0; i < SPEED_LISTS / 16; i++)
        memset(coarse + (i + 1) * code_coarse_size(dim) - 128, 0x3f, 128);
    double coarse_ns = TIME(10, k->coarse16(coarse, SPEED_LISTS / 16, &query, dim, out));
    printf(
        "%-9s D %4zu: dot_u8s8 near %.1f, distance8 scattered in memory %.0f, coarse16 %.2f ns a "
        "row; quant8_query %.0f ns\n",
        k->name, dim, dot_ns / (double)near, random_ns / COUNT_OF(at), coarse_ns / SPEED_LISTS,
        query_ns);
    free(rows);
    free(coarse);
    free(x);
    free(out);
    free(q8);
}

static void speed_of_floats(const struct kernel_code *k, size_t dim)
{
    float *centroids = random_floats(SPEED_LISTS * dim), norms[SPEED_LISTS];
    float *packed = random_floats(code_packed_floats(SPEED_LISTS, dim));
    float *x = random_floats(64 * dim), score[64];
    uint8_t *bytes = random_bytes(code_block_size(dim));
    const float *rows[64];
    uint32_t index[64];
    struct code_sums sums;
    code_pack_f32(centroids, dim, SPEED_LISTS, dim, packed, norms);
    double assign_ns = TIME(1, {
        for (size_t i = 0; i < 64; i++) {
            rows[i] = x + i * dim;
            index[i] = UINT32_MAX;
            score[i] = INFINITY;
        }
        k->assign_f32(rows, 64, packed, norms, SPEED_LISTS, dim, 0, index, score);
    });
    double rotate_ns = TIME(300, {
        memcpy(x, centroids, dim * sizeof *x);
        k->rotate_f32(x, dim, 5);
    });
    double table_ns = TIME(300, (void)k->table_u8(x, dim, bytes));
    double quant_ns = TIME(300, k->quant8(x, dim, bytes));
    double sign_ns = TIME(30, for (size_t v = 0; v < 32; v++)
                                  k->sign_encode(x, centroids, dim, bytes, v, &sums));
    printf("%-9s D %4zu: rotate %.0f, table_u8 %.0f, quant8 %.0f, sign_encode %.0f ns; assign %.0f "
           "GFLOP/s\n",
           k->name, dim, rotate_ns, table_ns, quant_ns, sign_ns / 32,
           2.0 * 64 * SPEED_LISTS * (double)dim / assign_ns);
    free(centroids);
    free(packed);
    free(x);
    free(bytes);
}

static void speed_is_told_when_asked(void **state)
{
    (void)state;
    if (!getenv("OCHRE_SPEED"))
        skip();
    for (size_t t = 1; t < table_count; t++)
        for (size_t dim = 128; dim <= 768; dim += 640) {
            speed_of_scans(tables[t], dim);
            speed_of_8bits(tables[t], dim);
            speed_of_floats(tables[t], dim);
        }
}

int main(void)
{
    table_count = kernel_code_all(&tables);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_block_lies_as_drawn_by_hand),
        cmocka_unit_test(a_coarse_block_and_a_tile_lie_as_drawn_by_hand),
        cmocka_unit_test(rotations_keep_norms_and_come_back),
        cmocka_unit_test(rotated_signs_are_balanced),
        cmocka_unit_test(eight_bits_estimate_distances),
        cmocka_unit_test(one_bit_estimates_distances),
        cmocka_unit_test(a_row_that_is_a_centroid_has_distance_zero),
        cmocka_unit_test(speed_is_told_when_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
