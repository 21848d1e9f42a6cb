/* SPDX-License-Identifier: Apache-2.0 */
/* What a row costs in each representation on this machine: measured once, in about a millisecond, after a few searches were planned with the
 * usual figures: the first answer after a start has more to wait for than others.  Only ratios decide, and a busy machine measures badly, so a
 * figure counts no more than three times off the one that was found on the machine this was written on. */
#include "index/vector/vector_internal.h"

#include "base/pages.h"

#include <stdatomic.h>

#define ROWS   2048 /* of codes; in a cache, as most of what a search reads */
#define TRIES  3
#define OFF_BY 3.0
#define FIRST  16 /* plans that go by the usual figures */

/* Nanoseconds at 128 and at 768 dimensions. */
struct measured {
    double code1, code8, exact, coarse;
};
static const struct measured usual[2] = {{0.7, 14, 25, 3.3}, {3.3, 46, 160, 9.7}};
static const uint32_t dims[2] = {128, 768};

static double least(double a, double b)
{
    return a < b ? a : b;
}

static double trimmed(double own, double normal)
{
    return own > normal * OFF_BY ? normal * OFF_BY : own < normal / OFF_BY ? normal / OFF_BY : own;
}

/* bytes: ROWS vectors of dim floats, all zero; their first quarter serves as codes of any kind. */
static struct measured measure(const uint8_t *bytes, uint32_t dim, uint8_t *table, const int8_t *q8)
{
    const struct kernel_code *kernel = kernel_code_get();
    const struct kernel *exact = kernel_get();
    struct code_query8 query = {.q8 = q8, .scale = 1, .norm2 = 1};
    struct code_bound bound = {.scale = 1, .limit = -1};
    struct measured ret = {1e9, 1e9, 1e9, 1e9};
    const uint32_t fourth = ROWS / 4;
    uint32_t at[16];
    float out[CODE_BLOCK_ROWS];
    float sum = 0;
    for (int t = 0; t < TRIES; t++) {
        uint64_t times[5] = {sched_mono_ns()};
        for (uint32_t i = 0; i < ROWS / CODE_BLOCK_ROWS; i++)
            (void)kernel->scan1(bytes + (size_t)i * code_block_size(dim), table, dim, &bound, out);
        times[1] = sched_mono_ns();
        for (uint32_t i = 0; i < fourth; i += 16) {
            for (uint32_t j = 0; j < 16; j++)
                at[j] = (i + j) * 797 % ROWS; /* here and there */
            kernel->distance8(bytes, at, 16, &query, dim, out);
        }
        times[2] = sched_mono_ns();
        for (uint32_t i = 0; i < fourth; i++)
            sum += exact->dot_f32(
                (const float *)(const void *)table,
                (const float *)(const void *)(bytes + (size_t)(i * 797 % ROWS) * dim * 4), dim);
        times[3] = sched_mono_ns();
        for (uint32_t i = 0; i < ROWS / CODE_LISTS / 4; i++)
            kernel->coarse16(bytes + (size_t)i * code_coarse_size(dim), 1, &query, dim, out);
        times[4] = sched_mono_ns();
        ret.code1 = least(ret.code1, (double)(times[1] - times[0]) / ROWS);
        ret.code8 = least(ret.code8, (double)(times[2] - times[1]) / fourth);
        ret.exact = least(ret.exact, (double)(times[3] - times[2]) / fourth);
        ret.coarse = least(ret.coarse, (double)(times[4] - times[3]) / fourth);
    }
    return sum > 1 ? usual[0] : ret; /* of zeros the sum is none; nobody may leave the loop out */
}

/* Plans made, up to FIRST; then one more while it is measured (who counts that one writes the figures), two more when they are known. */
static _Atomic int state;

static double line(double at0, double at1, double dim)
{
    double value = at0 + (at1 - at0) * (dim - dims[0]) / (dims[1] - dims[0]);
    return value > at0 / 4 ? value : at0 / 4;
}

static void measure_all(struct measured ret[2])
{
    memcpy(ret, usual, sizeof(usual));
    size_t size = (size_t)ROWS * dims[1] * 4; /* 6 MB, which are to be gone afterwards */
    uint8_t *bytes = pages_alloc(size);
    uint8_t *table = mem_alloc_aligned(64, code_table_size(dims[1]));
    int8_t *q8 = mem_alloc_aligned(64, dims[1]);
    for (int i = 0; bytes && table && q8 && i < 2; i++) {
        memset(bytes, 0, (size_t)ROWS * dims[i] * 4);
        memset(table, 0, code_table_size(dims[i]));
        memset(q8, 0, dims[i]);
        struct measured own = measure(bytes, dims[i], table, q8);
        ret[i] = (struct measured){
            trimmed(own.code1, usual[i].code1), trimmed(own.code8, usual[i].code8),
            trimmed(own.exact, usual[i].exact), trimmed(own.coarse, usual[i].coarse)};
    }
    pages_free(bytes, size, 0);
    mem_free_aligned(table);
    mem_free_aligned(q8);
}

struct vector_costs vector_costs_of(uint32_t code_dim)
{
    static struct measured points[2];
    struct measured now[2];
    // pairs with the release below
    int plans = atomic_load_explicit(&state, memory_order_acquire);
    bool mine = plans <= FIRST && atomic_compare_exchange_strong(&state, &plans, plans + 1);
    if (plans == FIRST + 2) {
        memcpy(now, points, sizeof(now));
    } else if (mine && plans == FIRST) {
        measure_all(points);
        memcpy(now, points, sizeof(now));
        atomic_store_explicit(&state, FIRST + 2, memory_order_release);
    } else { /* too early, or another thread is at it: nobody waits for that */
        memcpy(now, usual, sizeof(now));
    }
    double dim = code_dim;
    return (struct vector_costs){.code1 = line(now[0].code1, now[1].code1, dim),
                                 .code8 = line(now[0].code8, now[1].code8, dim),
                                 .exact = line(now[0].exact, now[1].exact, dim),
                                 .coarse = line(now[0].coarse, now[1].coarse, dim)};
}
