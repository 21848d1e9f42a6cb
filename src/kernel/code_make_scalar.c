/* SPDX-License-Identifier: Apache-2.0 */
/* Making codes, the specification. */
#include "kernel/code_internal.h"

#include <math.h>

/* The strided sum of code.h. */
struct sum {
    float stride[16];
    double total;
};

static float tree(const float s[16])
{
    float t[8], u[4];
    for (size_t j = 0; j < 8; j++)
        t[j] = s[j] + s[j + 8];
    for (size_t j = 0; j < 4; j++)
        u[j] = t[j] + t[j + 4];
    return (u[0] + u[2]) + (u[1] + u[3]);
}

static void sum_step(struct sum *sum, size_t i, float x, float y)
{
    if (i % CODE_SUM_STEP == 0 && i > 0) {
        sum->total += (double)tree(sum->stride);
        memset(sum->stride, 0, sizeof sum->stride);
    }
    sum->stride[i % 16] = fmaf(x, y, sum->stride[i % 16]);
}

static float sum_end(const struct sum *sum)
{
    return (float)(sum->total + (double)tree(sum->stride));
}

static float largest(const float *x, size_t dim)
{
    float most = 0.0f;
    for (size_t i = 0; i < dim; i++)
        most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    return most;
}

void code_quant8_scalar(const float *y, size_t dim, uint8_t *row)
{
    float most = largest(y, dim), by = most < CODE_TINY ? 0.0f : 127.0f / most;
    struct sum norm2 = {{0}, 0}, dot = {{0}, 0};
    for (size_t i = 0; i < dim; i++) {
        float value = rintf(y[i] * by);
        row[i] = (uint8_t)((int)value + 128);
        sum_step(&norm2, i, y[i], y[i]);
        sum_step(&dot, i, value, y[i]);
    }
    float all = sum_end(&norm2), own = sum_end(&dot), scale = own > 0.0f ? all / own : 0.0f;
    memcpy(row + dim, &scale, sizeof scale);
    memcpy(row + dim + 4, &all, sizeof all);
}

void code_decode8_scalar(const uint8_t *row, const float *centroid, size_t dim, float *y)
{
    float scale = code_row_scale(row, dim);
    for (size_t i = 0; i < dim; i++) {
        y[i] = scale * (float)(row[i] - 128);
        if (centroid)
            y[i] -= centroid[i];
    }
}

void code_quant8_query_scalar(const float *q, size_t dim, int8_t *q8, struct code_query8 *ret)
{
    float most = largest(q, dim);
    bool tiny = most < CODE_TINY;
    float by = tiny ? 0.0f : 127.0f / most;
    struct sum norm2 = {{0}, 0};
    int32_t total = 0;
    for (size_t i = 0; i < dim; i++) {
        q8[i] = (int8_t)rintf(q[i] * by);
        total += q8[i];
        sum_step(&norm2, i, q[i], q[i]);
    }
    *ret = (struct code_query8){q8, total, tiny ? 0.0f : most / 127.0f, sum_end(&norm2)};
}

/* The sixteen sums of one group, their smallest; returns largest - smallest. */
static float group_sums(const float *q, float sums[16], float *ret_least)
{
    float low[4] = {0.0f, q[0], q[1], q[0] + q[1]}, high[4] = {0.0f, q[2], q[3], q[2] + q[3]};
    float least = INFINITY, most = -INFINITY;
    for (size_t i = 0; i < 16; i++) {
        sums[i] = low[i % 4] + high[i / 4];
        least = sums[i] < least ? sums[i] : least;
        most = sums[i] > most ? sums[i] : most;
    }
    *ret_least = least;
    return most - least;
}

/* Largest and smallest sum of a group belong to complementary bits, so 2*smallest - (sum of q) = -(largest - smallest). */
struct code_table code_table_u8_scalar(const float *q, size_t dim, uint8_t *table)
{
    float sums[16], least, widest = 0.0f, stride[16] = {0};
    for (size_t m = 0; m < dim / 4; m++) {
        float range = group_sums(q + 4 * m, sums, &least);
        widest = range > widest ? range : widest;
        stride[m % 16] += range;
    }
    bool tiny = widest < CODE_TINY;
    float by = tiny ? 0.0f : 255.0f / widest;
    for (size_t m = 0; m < dim / 4; m++) {
        (void)group_sums(q + 4 * m, sums, &least);
        for (size_t i = 0; i < 16; i++)
            table[16 * m + i] = (uint8_t)rintf((sums[i] - least) * by);
    }
    return (struct code_table){tiny ? 0.0f : 2.0f * (widest / 255.0f), -tree(stride)};
}

void code_sign_encode_scalar(const float *y, const float *centroid, size_t dim, uint8_t *block,
                             size_t v, struct code_sums *ret)
{
    debug_assert(v < CODE_BLOCK_ROWS);
    struct sum norm2 = {{0}, 0}, norm1 = {{0}, 0}, dot = {{0}, 0};
    for (size_t i = 0; i < dim; i++) {
        float r = y[i] - centroid[i];
        if (r >= 0.0f) {
            unsigned bit = 1u << (i % 4 + (v < 16 ? 0 : 4));
            uint8_t *byte = block + i / 16 * 64 + 4 * (v % 16) + i / 4 % 4;
            *byte = (uint8_t)(*byte | bit);
        }
        sum_step(&norm2, i, r, r);
        sum_step(&norm1, i, fabsf(r), 1.0f);
        sum_step(&dot, i, r >= 0.0f ? 1.0f : -1.0f, centroid[i]);
    }
    *ret = (struct code_sums){sum_end(&norm2), sum_end(&norm1), sum_end(&dot)};
}
