/* SPDX-License-Identifier: Apache-2.0 */
/* The distance loops, written once.  distance_<set>.c first defines two value types and their steps, then
 * includes this page, so every table walks the components in the one order that kernel.h promises:
 *
 *   v16  sixteen f32 lanes, lane i mod 16 holds stride i mod 16:
 *        v16_zero, v16_load, v16_load_part, v16_sub, v16_fma, v16_fma_part, v16_sum
 *   d16  the same in f64, loaded from f32: d16_...; d16_sum rounds to f32, once
 *   NAME(loop): the public name, kernel_<loop>_<set>
 *
 * *_part reads and changes the first `n` lanes only: the others keep their sum, even a negative zero. */
#ifndef KERNEL_DISTANCE_LOOPS_H
#define KERNEL_DISTANCE_LOOPS_H

#include "kernel/kernel_internal.h"

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

static ALWAYS_INLINE float l2_one(const float *a, const float *b, size_t dim)
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

static ALWAYS_INLINE float dot_one(const float *a, const float *b, size_t dim)
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

static ALWAYS_INLINE void dot_norm_one(const float *query, const float *row, size_t dim, float *dot,
                                       float *norm2)
{
    if (UNLIKELY(dim > KERNEL_F32_DIM_MAX)) {
        *dot = dot_wide(query, row, dim);
        *norm2 = dot_wide(row, row, dim);
        return;
    }
    v16 sum = v16_zero(), norm = v16_zero();
    size_t i = 0;
    for (; i + 16 <= dim; i += 16) {
        v16 own = v16_load(row + i);
        sum = v16_fma(v16_load(query + i), own, sum);
        norm = v16_fma(own, own, norm);
    }
    if (i < dim) {
        v16 own = v16_load_part(row + i, dim - i);
        sum = v16_fma_part(v16_load_part(query + i, dim - i), own, sum, dim - i);
        norm = v16_fma_part(own, own, norm, dim - i);
    }
    *dot = v16_sum(sum);
    *norm2 = v16_sum(norm);
}

float NAME(l2)(const float *a, const float *b, size_t dim)
{
    return l2_one(a, b, dim);
}

float NAME(dot)(const float *a, const float *b, size_t dim)
{
    return dot_one(a, b, dim);
}

/* Rows go one after the other, without prefetching: memory is then read as one ascending stream, which the hardware
 * fetches ahead at full rate, and out-of-order execution overlaps the end of one row with the next.  Measured on Zen 4,
 * 768 dimensions from memory: 26 to 31 GB/s, as fast as reading alone; two to eight rows side by side 12 to 20, a
 * software prefetch 18 to 26.  In the second-level cache eight rows would gain a quarter. */
void NAME(l2_rows)(const float *query, const float *rows, size_t stride, size_t dim, size_t count,
                   float *out)
{
    debug_assert(stride >= dim);
    for (size_t row = 0; row < count; row++)
        out[row] = l2_one(query, rows + row * stride, dim);
}

void NAME(dot_rows)(const float *query, const float *rows, size_t stride, size_t dim, size_t count,
                    float *out)
{
    debug_assert(stride >= dim);
    for (size_t row = 0; row < count; row++)
        out[row] = dot_one(query, rows + row * stride, dim);
}

void NAME(dot_norm_rows)(const float *query, const float *rows, size_t stride, size_t dim,
                         size_t count, float *dot, float *norm2)
{
    debug_assert(stride >= dim);
    for (size_t row = 0; row < count; row++)
        dot_norm_one(query, rows + row * stride, dim, dot + row, norm2 + row);
}
#endif
