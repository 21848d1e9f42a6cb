/* SPDX-License-Identifier: Apache-2.0 */
/* Distances in plain C: the specification that every other table equals bit for bit. */
#include "kernel/kernel_internal.h"

#include <math.h>

#define ROWS_IN_FLIGHT 1
#define NAME(loop)     kernel_##loop##_scalar

typedef struct v16 {
    float lane[16];
} v16;
typedef struct d16 {
    double lane[16];
} d16;

static ALWAYS_INLINE v16 v16_zero(void)
{
    return (v16){{0}};
}
static ALWAYS_INLINE v16 v16_load_part(const float *at, size_t n)
{
    v16 all = {{0}};
    for (size_t i = 0; i < n; i++)
        all.lane[i] = at[i];
    return all;
}
static ALWAYS_INLINE v16 v16_load(const float *at)
{
    return v16_load_part(at, 16);
}
static ALWAYS_INLINE v16 v16_sub(v16 a, v16 b)
{
    for (size_t i = 0; i < 16; i++)
        a.lane[i] -= b.lane[i];
    return a;
}
static ALWAYS_INLINE v16 v16_fma_part(v16 a, v16 b, v16 sum, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sum.lane[i] = fmaf(a.lane[i], b.lane[i], sum.lane[i]);
    return sum;
}
static ALWAYS_INLINE v16 v16_fma(v16 a, v16 b, v16 sum)
{
    return v16_fma_part(a, b, sum, 16);
}
static ALWAYS_INLINE float v16_sum(v16 sum)
{
    for (size_t half = 8; half > 0; half /= 2)
        for (size_t i = 0; i < half; i++)
            sum.lane[i] += sum.lane[i + half];
    return sum.lane[0];
}

static ALWAYS_INLINE d16 d16_zero(void)
{
    return (d16){{0}};
}
static ALWAYS_INLINE d16 d16_load_part(const float *at, size_t n)
{
    d16 all = {{0}};
    for (size_t i = 0; i < n; i++)
        all.lane[i] = (double)at[i];
    return all;
}
static ALWAYS_INLINE d16 d16_load(const float *at)
{
    return d16_load_part(at, 16);
}
static ALWAYS_INLINE d16 d16_sub(d16 a, d16 b)
{
    for (size_t i = 0; i < 16; i++)
        a.lane[i] -= b.lane[i];
    return a;
}
static ALWAYS_INLINE d16 d16_fma_part(d16 a, d16 b, d16 sum, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sum.lane[i] = fma(a.lane[i], b.lane[i], sum.lane[i]);
    return sum;
}
static ALWAYS_INLINE d16 d16_fma(d16 a, d16 b, d16 sum)
{
    return d16_fma_part(a, b, sum, 16);
}
static ALWAYS_INLINE float d16_sum(d16 sum)
{
    for (size_t half = 8; half > 0; half /= 2)
        for (size_t i = 0; i < half; i++)
            sum.lane[i] += sum.lane[i + half];
    return (float)sum.lane[0];
}

#include "kernel/distance_loops.h"
