/* SPDX-License-Identifier: Apache-2.0 */
/* The distance loops, written once.  distance_<set>.c first defines two value types and their steps, then
 * includes this page, so every table walks the components in the one order that kernel.h promises:
 *
 *   v16  sixteen f32 lanes, lane i mod 16 holds stride i mod 16:
 *        v16_zero, v16_load, v16_load_part, v16_sub, v16_fma, v16_fma_part, v16_sum
 *   d16  the same in f64, loaded from f32: d16_...; d16_sum rounds to f32, once
 *   ROWS_IN_FLIGHT, NORM_ROWS_IN_FLIGHT: as many rows as the registers hold
 *   NAME(loop): the public name, kernel_<loop>_<set>
 *
 * *_part reads and changes the first `n` lanes only: the others keep their sum, even a negative zero. */
#ifndef KERNEL_DISTANCE_LOOPS_H
#define KERNEL_DISTANCE_LOOPS_H

#include "kernel/kernel_internal.h"

/* The row that many floats further on will be wanted when this group is done; an address, never read here. */
static ALWAYS_INLINE void fetch_later(const float *at, size_t floats)
{
    __builtin_prefetch((const void *)((uintptr_t)at + floats * sizeof(float)));
}

static NO_INLINE float l2_wide(const float *a, const float *b, size_t dim)
{
    d16 sum = d16_zero();
    size_t i = 0;
    for (; i + 16 <= dim; i += 16) {
        d16 gap = d16_sub(d16_load(a + i), d16_load(b + i));
        sum = d16_fma(gap, gap, sum);
    }
    if (i < dim) {
        d16 gap = d16_sub(d16_load_part(a + i, dim - i), d16_load_part(b + i, dim - i));
        sum = d16_fma_part(gap, gap, sum, dim - i);
    }
    return d16_sum(sum);
}

static NO_INLINE float dot_wide(const float *a, const float *b, size_t dim)
{
    d16 sum = d16_zero();
    size_t i = 0;
    for (; i + 16 <= dim; i += 16)
        sum = d16_fma(d16_load(a + i), d16_load(b + i), sum);
    if (i < dim)
        sum = d16_fma_part(d16_load_part(a + i, dim - i), d16_load_part(b + i, dim - i), sum,
                           dim - i);
    return d16_sum(sum);
}

float NAME(l2)(const float *a, const float *b, size_t dim)
{
    if (UNLIKELY(dim > KERNEL_F32_DIM_MAX))
        return l2_wide(a, b, dim);
    v16 sum = v16_zero();
    size_t i = 0;
    for (; i + 16 <= dim; i += 16) {
        v16 gap = v16_sub(v16_load(a + i), v16_load(b + i));
        sum = v16_fma(gap, gap, sum);
    }
    if (i < dim) {
        v16 gap = v16_sub(v16_load_part(a + i, dim - i), v16_load_part(b + i, dim - i));
        sum = v16_fma_part(gap, gap, sum, dim - i);
    }
    return v16_sum(sum);
}

float NAME(dot)(const float *a, const float *b, size_t dim)
{
    if (UNLIKELY(dim > KERNEL_F32_DIM_MAX))
        return dot_wide(a, b, dim);
    v16 sum = v16_zero();
    size_t i = 0;
    for (; i + 16 <= dim; i += 16)
        sum = v16_fma(v16_load(a + i), v16_load(b + i), sum);
    if (i < dim)
        sum = v16_fma_part(v16_load_part(a + i, dim - i), v16_load_part(b + i, dim - i), sum,
                           dim - i);
    return v16_sum(sum);
}

/* One group of ROWS_IN_FLIGHT rows: each row keeps one register of sums, the query is loaded once for all. */
static ALWAYS_INLINE void l2_group(const float *query, const float *rows, size_t stride, size_t dim,
                                   float *out)
{
    v16 sum[ROWS_IN_FLIGHT];
    for (size_t r = 0; r < ROWS_IN_FLIGHT; r++)
        sum[r] = v16_zero();
    size_t i = 0;
    for (; i + 16 <= dim; i += 16) {
        v16 part = v16_load(query + i);
        for (size_t r = 0; r < ROWS_IN_FLIGHT; r++) {
            const float *row = rows + r * stride + i;
            fetch_later(row, ROWS_IN_FLIGHT * stride);
            v16 gap = v16_sub(part, v16_load(row));
            sum[r] = v16_fma(gap, gap, sum[r]);
        }
    }
    if (i < dim) {
        v16 part = v16_load_part(query + i, dim - i);
        for (size_t r = 0; r < ROWS_IN_FLIGHT; r++) {
            v16 gap = v16_sub(part, v16_load_part(rows + r * stride + i, dim - i));
            sum[r] = v16_fma_part(gap, gap, sum[r], dim - i);
        }
    }
    for (size_t r = 0; r < ROWS_IN_FLIGHT; r++)
        out[r] = v16_sum(sum[r]);
}

static ALWAYS_INLINE void dot_group(const float *query, const float *rows, size_t stride,
                                    size_t dim, float *out)
{
    v16 sum[ROWS_IN_FLIGHT];
    for (size_t r = 0; r < ROWS_IN_FLIGHT; r++)
        sum[r] = v16_zero();
    size_t i = 0;
    for (; i + 16 <= dim; i += 16) {
        v16 part = v16_load(query + i);
        for (size_t r = 0; r < ROWS_IN_FLIGHT; r++) {
            const float *row = rows + r * stride + i;
            fetch_later(row, ROWS_IN_FLIGHT * stride);
            sum[r] = v16_fma(part, v16_load(row), sum[r]);
        }
    }
    if (i < dim) {
        v16 part = v16_load_part(query + i, dim - i);
        for (size_t r = 0; r < ROWS_IN_FLIGHT; r++)
            sum[r] =
                v16_fma_part(part, v16_load_part(rows + r * stride + i, dim - i), sum[r], dim - i);
    }
    for (size_t r = 0; r < ROWS_IN_FLIGHT; r++)
        out[r] = v16_sum(sum[r]);
}

static ALWAYS_INLINE void dot_norm_group(const float *query, const float *rows, size_t stride,
                                         size_t dim, float *dot, float *norm2)
{
    v16 sum[NORM_ROWS_IN_FLIGHT], norm[NORM_ROWS_IN_FLIGHT];
    for (size_t r = 0; r < NORM_ROWS_IN_FLIGHT; r++)
        sum[r] = norm[r] = v16_zero();
    size_t i = 0;
    for (; i + 16 <= dim; i += 16) {
        v16 part = v16_load(query + i);
        for (size_t r = 0; r < NORM_ROWS_IN_FLIGHT; r++) {
            const float *row = rows + r * stride + i;
            fetch_later(row, NORM_ROWS_IN_FLIGHT * stride);
            v16 own = v16_load(row);
            sum[r] = v16_fma(part, own, sum[r]);
            norm[r] = v16_fma(own, own, norm[r]);
        }
    }
    if (i < dim) {
        v16 part = v16_load_part(query + i, dim - i);
        for (size_t r = 0; r < NORM_ROWS_IN_FLIGHT; r++) {
            v16 own = v16_load_part(rows + r * stride + i, dim - i);
            sum[r] = v16_fma_part(part, own, sum[r], dim - i);
            norm[r] = v16_fma_part(own, own, norm[r], dim - i);
        }
    }
    for (size_t r = 0; r < NORM_ROWS_IN_FLIGHT; r++) {
        dot[r] = v16_sum(sum[r]);
        norm2[r] = v16_sum(norm[r]);
    }
}

void NAME(l2_rows)(const float *query, const float *rows, size_t stride, size_t dim, size_t count,
                   float *out)
{
    debug_assert(stride >= dim);
    size_t row = 0;
    if (dim <= KERNEL_F32_DIM_MAX)
        for (; row + ROWS_IN_FLIGHT <= count; row += ROWS_IN_FLIGHT)
            l2_group(query, rows + row * stride, stride, dim, out + row);
    for (; row < count; row++)
        out[row] = NAME(l2)(query, rows + row * stride, dim);
}

void NAME(dot_rows)(const float *query, const float *rows, size_t stride, size_t dim, size_t count,
                    float *out)
{
    debug_assert(stride >= dim);
    size_t row = 0;
    if (dim <= KERNEL_F32_DIM_MAX)
        for (; row + ROWS_IN_FLIGHT <= count; row += ROWS_IN_FLIGHT)
            dot_group(query, rows + row * stride, stride, dim, out + row);
    for (; row < count; row++)
        out[row] = NAME(dot)(query, rows + row * stride, dim);
}

void NAME(dot_norm_rows)(const float *query, const float *rows, size_t stride, size_t dim,
                         size_t count, float *dot, float *norm2)
{
    debug_assert(stride >= dim);
    size_t row = 0;
    if (dim <= KERNEL_F32_DIM_MAX)
        for (; row + NORM_ROWS_IN_FLIGHT <= count; row += NORM_ROWS_IN_FLIGHT)
            dot_norm_group(query, rows + row * stride, stride, dim, dot + row, norm2 + row);
    for (; row < count; row++) {
        const float *own = rows + row * stride;
        dot[row] = NAME(dot)(query, own, dim);
        norm2[row] = NAME(dot)(own, own, dim);
    }
}
#endif
