/* SPDX-License-Identifier: Apache-2.0 */
/* Distances with Advanced SIMD: sixteen strides are four registers. */
#include "kernel/kernel_internal.h"

#include <arm_neon.h>

#define ROWS_IN_FLIGHT 4
#define NAME(loop)     kernel_##loop##_neon

typedef struct v16 {
    float32x4_t quarter[4];
} v16;
typedef struct d16 {
    float64x2_t eighth[8];
} d16;

static ALWAYS_INLINE v16 v16_zero(void)
{
    float32x4_t zero = vdupq_n_f32(0);
    return (v16){{zero, zero, zero, zero}};
}
static ALWAYS_INLINE v16 v16_load(const float *at)
{
    return (v16){{vld1q_f32(at), vld1q_f32(at + 4), vld1q_f32(at + 8), vld1q_f32(at + 12)}};
}
static ALWAYS_INLINE v16 v16_load_part(const float *at, size_t n)
{
    float all[16] = {0};
    for (size_t i = 0; i < n; i++)
        all[i] = at[i];
    return v16_load(all);
}
static ALWAYS_INLINE v16 v16_sub(v16 a, v16 b)
{
    for (int i = 0; i < 4; i++)
        a.quarter[i] = vsubq_f32(a.quarter[i], b.quarter[i]);
    return a;
}
static ALWAYS_INLINE v16 v16_fma(v16 a, v16 b, v16 sum)
{
    for (int i = 0; i < 4; i++)
        sum.quarter[i] = vfmaq_f32(sum.quarter[i], a.quarter[i], b.quarter[i]);
    return sum;
}
static ALWAYS_INLINE v16 v16_fma_part(v16 a, v16 b, v16 sum, size_t n)
{
    v16 all = v16_fma(a, b, sum);
    const uint32x4_t lane = {0, 1, 2, 3};
    for (uint32_t i = 0; i < 4; i++) {
        uint32x4_t below = vcltq_u32(vaddq_u32(lane, vdupq_n_u32(4 * i)), vdupq_n_u32((uint32_t)n));
        sum.quarter[i] = vbslq_f32(below, all.quarter[i], sum.quarter[i]);
    }
    return sum;
}
static ALWAYS_INLINE float v16_sum(v16 sum)
{
    float32x4_t u = vaddq_f32(vaddq_f32(sum.quarter[0], sum.quarter[2]),
                              vaddq_f32(sum.quarter[1], sum.quarter[3]));
    float32x2_t v = vadd_f32(vget_low_f32(u), vget_high_f32(u));
    return vget_lane_f32(v, 0) + vget_lane_f32(v, 1);
}

static ALWAYS_INLINE d16 d16_zero(void)
{
    d16 all;
    for (int i = 0; i < 8; i++)
        all.eighth[i] = vdupq_n_f64(0);
    return all;
}
static ALWAYS_INLINE d16 d16_of(v16 from)
{
    d16 all;
    for (int i = 0; i < 4; i++) {
        all.eighth[2 * i] = vcvt_f64_f32(vget_low_f32(from.quarter[i]));
        all.eighth[2 * i + 1] = vcvt_high_f64_f32(from.quarter[i]);
    }
    return all;
}
static ALWAYS_INLINE d16 d16_load(const float *at)
{
    return d16_of(v16_load(at));
}
static ALWAYS_INLINE d16 d16_load_part(const float *at, size_t n)
{
    return d16_of(v16_load_part(at, n));
}
static ALWAYS_INLINE d16 d16_sub(d16 a, d16 b)
{
    for (int i = 0; i < 8; i++)
        a.eighth[i] = vsubq_f64(a.eighth[i], b.eighth[i]);
    return a;
}
static ALWAYS_INLINE d16 d16_fma(d16 a, d16 b, d16 sum)
{
    for (int i = 0; i < 8; i++)
        sum.eighth[i] = vfmaq_f64(sum.eighth[i], a.eighth[i], b.eighth[i]);
    return sum;
}
static ALWAYS_INLINE d16 d16_fma_part(d16 a, d16 b, d16 sum, size_t n)
{
    d16 all = d16_fma(a, b, sum);
    const uint64x2_t lane = {0, 1};
    for (uint64_t i = 0; i < 8; i++) {
        uint64x2_t below = vcltq_u64(vaddq_u64(lane, vdupq_n_u64(2 * i)), vdupq_n_u64(n));
        sum.eighth[i] = vbslq_f64(below, all.eighth[i], sum.eighth[i]);
    }
    return sum;
}
static ALWAYS_INLINE float d16_sum(d16 sum)
{
    float64x2_t t[4], u[2];
    for (int i = 0; i < 4; i++)
        t[i] = vaddq_f64(sum.eighth[i], sum.eighth[i + 4]);
    for (int i = 0; i < 2; i++)
        u[i] = vaddq_f64(t[i], t[i + 2]);
    float64x2_t v = vaddq_f64(u[0], u[1]);
    return (float)(vgetq_lane_f64(v, 0) + vgetq_lane_f64(v, 1));
}

#include "kernel/distance_loops.h"
