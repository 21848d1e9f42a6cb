/* SPDX-License-Identifier: Apache-2.0 */
/* Sixteen f32 (v16) or i32 (w16) lanes in four registers of Advanced SIMD; what each step does says code_v16_avx512.h. */
#ifndef KERNEL_CODE_V16_NEON_H
#define KERNEL_CODE_V16_NEON_H

#include "kernel/code_internal.h"

#include <arm_neon.h>

typedef struct v16 {
    float32x4_t quarter[4];
} v16;
typedef struct w16 {
    int32x4_t quarter[4];
} w16;

#define EACH(result, value)        \
    for (int i_ = 0; i_ < 4; i_++) \
    (result).quarter[i_] = (value)

static ALWAYS_INLINE v16 v16_set1(float x)
{
    float32x4_t all = vdupq_n_f32(x);
    return (v16){{all, all, all, all}};
}
static ALWAYS_INLINE v16 v16_load(const float *at)
{
    return (v16){{vld1q_f32(at), vld1q_f32(at + 4), vld1q_f32(at + 8), vld1q_f32(at + 12)}};
}
static ALWAYS_INLINE void v16_store(float *at, v16 x)
{
    for (int i = 0; i < 4; i++)
        vst1q_f32(at + 4 * i, x.quarter[i]);
}
static ALWAYS_INLINE v16 v16_add(v16 a, v16 b)
{
    EACH(a, vaddq_f32(a.quarter[i_], b.quarter[i_]));
    return a;
}
static ALWAYS_INLINE v16 v16_sub(v16 a, v16 b)
{
    EACH(a, vsubq_f32(a.quarter[i_], b.quarter[i_]));
    return a;
}
static ALWAYS_INLINE v16 v16_mul(v16 a, v16 b)
{
    EACH(a, vmulq_f32(a.quarter[i_], b.quarter[i_]));
    return a;
}
static ALWAYS_INLINE v16 v16_fma(v16 a, v16 b, v16 sum)
{
    EACH(sum, vfmaq_f32(sum.quarter[i_], a.quarter[i_], b.quarter[i_]));
    return sum;
}
static ALWAYS_INLINE v16 v16_max(v16 a, v16 b)
{
    EACH(a, vmaxq_f32(a.quarter[i_], b.quarter[i_]));
    return a;
}
static ALWAYS_INLINE v16 v16_min(v16 a, v16 b)
{
    EACH(a, vminq_f32(a.quarter[i_], b.quarter[i_]));
    return a;
}
static ALWAYS_INLINE v16 v16_abs(v16 a)
{
    EACH(a, vabsq_f32(a.quarter[i_]));
    return a;
}
static ALWAYS_INLINE float v16_largest(v16 a)
{
    return vmaxvq_f32(
        vmaxq_f32(vmaxq_f32(a.quarter[0], a.quarter[1]), vmaxq_f32(a.quarter[2], a.quarter[3])));
}
static ALWAYS_INLINE float v16_sum(v16 sum)
{
    float32x4_t even = vaddq_f32(sum.quarter[0], sum.quarter[2]);
    float32x4_t odd = vaddq_f32(sum.quarter[1], sum.quarter[3]);
    float32x4_t u = vaddq_f32(even, odd);
    float32x2_t v = vadd_f32(vget_low_f32(u), vget_high_f32(u));
    return vget_lane_f32(v, 0) + vget_lane_f32(v, 1);
}
static ALWAYS_INLINE uint32_t v16_not_negative(v16 a)
{
    const uint32x4_t weight = {1, 2, 4, 8};
    uint32_t bits = 0;
    for (int i = 0; i < 4; i++)
        bits |= vaddvq_u32(vandq_u32(vcgezq_f32(a.quarter[i]), weight)) << 4 * i;
    return bits;
}
static ALWAYS_INLINE uint32_t v16_upto(v16 a, v16 b)
{
    const uint32x4_t weight = {1, 2, 4, 8};
    uint32_t bits = 0;
    for (int i = 0; i < 4; i++)
        bits |= vaddvq_u32(vandq_u32(vcleq_f32(a.quarter[i], b.quarter[i]), weight)) << 4 * i;
    return bits;
}
static ALWAYS_INLINE v16 v16_sqrt(v16 a)
{
    EACH(a, vsqrtq_f32(a.quarter[i_]));
    return a;
}
static ALWAYS_INLINE v16 v16_negate(v16 a, uint32_t bits)
{
    const int32x4_t up = {31, 30, 29, 28};
    for (int i = 0; i < 4; i++) {
        uint32x4_t all = vshlq_u32(vdupq_n_u32(bits >> 4 * i), up);
        uint32x4_t sign = vandq_u32(all, vdupq_n_u32(0x80000000));
        a.quarter[i] = vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(a.quarter[i]), sign));
    }
    return a;
}
static ALWAYS_INLINE v16 v16_butterfly(v16 a, int stride)
{
    const float32x4_t s1 = {1, -1, 1, -1}, s2 = {1, 1, -1, -1};
    v16 b = a;
    switch (stride) {
    case 1:
        EACH(b, vfmaq_f32(vrev64q_f32(a.quarter[i_]), a.quarter[i_], s1));
        break;
    case 2:
        EACH(b, vfmaq_f32(vextq_f32(a.quarter[i_], a.quarter[i_], 2), a.quarter[i_], s2));
        break;
    case 4:
        for (int i = 0; i < 4; i += 2) {
            b.quarter[i] = vaddq_f32(a.quarter[i], a.quarter[i + 1]);
            b.quarter[i + 1] = vsubq_f32(a.quarter[i], a.quarter[i + 1]);
        }
        break;
    default:
        for (int i = 0; i < 2; i++) {
            b.quarter[i] = vaddq_f32(a.quarter[i], a.quarter[i + 2]);
            b.quarter[i + 2] = vsubq_f32(a.quarter[i], a.quarter[i + 2]);
        }
    }
    return b;
}
static ALWAYS_INLINE void v16_load_groups(const float *q, v16 out[4])
{
    for (int i = 0; i < 4; i++) {
        float32x4x4_t four = vld4q_f32(q + 16 * i);
        for (int t = 0; t < 4; t++)
            out[t].quarter[i] = four.val[t];
    }
}

static ALWAYS_INLINE w16 w16_round(v16 a)
{
    w16 b;
    EACH(b, vcvtnq_s32_f32(a.quarter[i_]));
    return b;
}
static ALWAYS_INLINE v16 w16_float(w16 a)
{
    v16 b;
    EACH(b, vcvtq_f32_s32(a.quarter[i_]));
    return b;
}
static ALWAYS_INLINE w16 w16_zero(void)
{
    int32x4_t zero = vdupq_n_s32(0);
    return (w16){{zero, zero, zero, zero}};
}
static ALWAYS_INLINE w16 w16_set1(int32_t x)
{
    int32x4_t all = vdupq_n_s32(x);
    return (w16){{all, all, all, all}};
}
static ALWAYS_INLINE w16 w16_add(w16 a, w16 b)
{
    EACH(a, vaddq_s32(a.quarter[i_], b.quarter[i_]));
    return a;
}
static ALWAYS_INLINE int32_t w16_sum(w16 a)
{
    return vaddvq_s32(
        vaddq_s32(vaddq_s32(a.quarter[0], a.quarter[1]), vaddq_s32(a.quarter[2], a.quarter[3])));
}
static ALWAYS_INLINE w16 w16_join(w16 a, w16 b, w16 c, w16 d)
{
    for (int i = 0; i < 4; i++) {
        int32x4_t ab = vorrq_s32(a.quarter[i], vshlq_n_s32(b.quarter[i], 8));
        int32x4_t cd = vorrq_s32(c.quarter[i], vshlq_n_s32(d.quarter[i], 8));
        a.quarter[i] = vorrq_s32(ab, vshlq_n_s32(cd, 16));
    }
    return a;
}
static ALWAYS_INLINE void w16_store_bytes(void *at, w16 a)
{
    int16x8_t low = vcombine_s16(vmovn_s32(a.quarter[0]), vmovn_s32(a.quarter[1]));
    int16x8_t high = vcombine_s16(vmovn_s32(a.quarter[2]), vmovn_s32(a.quarter[3]));
    vst1q_s8(at, vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
}
static ALWAYS_INLINE v16 v16_load_code(const uint8_t *at)
{
    int8x16_t bytes = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(at), vdupq_n_u8(128)));
    int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_s8(vget_high_s8(bytes));
    return (v16){{vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))),
                  vcvtq_f32_s32(vmovl_s16(vget_high_s16(low))),
                  vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))),
                  vcvtq_f32_s32(vmovl_s16(vget_high_s16(high)))}};
}
/* As bytes, since `at` may have any alignment. */
static ALWAYS_INLINE void w16_store_groups(uint8_t *at, const w16 w[4])
{
    for (int i = 0; i < 4; i++) {
        int32x4_t ab01 = vzip1q_s32(w[0].quarter[i], w[1].quarter[i]);
        int32x4_t ab23 = vzip2q_s32(w[0].quarter[i], w[1].quarter[i]);
        int32x4_t cd01 = vzip1q_s32(w[2].quarter[i], w[3].quarter[i]);
        int32x4_t cd23 = vzip2q_s32(w[2].quarter[i], w[3].quarter[i]);
        const int32x4_t r[4] = {
            vcombine_s32(vget_low_s32(ab01), vget_low_s32(cd01)),
            vcombine_s32(vget_high_s32(ab01), vget_high_s32(cd01)),
            vcombine_s32(vget_low_s32(ab23), vget_low_s32(cd23)),
            vcombine_s32(vget_high_s32(ab23), vget_high_s32(cd23)),
        };
        for (int j = 0; j < 4; j++)
            vst1q_u8(at + 64 * i + 16 * j, vreinterpretq_u8_s32(r[j]));
    }
}
static ALWAYS_INLINE void v16_keep_less(v16 *best, w16 *index, v16 a, int32_t number)
{
    for (int i = 0; i < 4; i++) {
        uint32x4_t less = vcltq_f32(a.quarter[i], best->quarter[i]);
        best->quarter[i] = vbslq_f32(less, a.quarter[i], best->quarter[i]);
        index->quarter[i] = vbslq_s32(less, vdupq_n_s32(number), index->quarter[i]);
    }
}
static ALWAYS_INLINE w16 w16_load(const int32_t *at)
{
    return (w16){{vld1q_s32(at), vld1q_s32(at + 4), vld1q_s32(at + 8), vld1q_s32(at + 12)}};
}
static ALWAYS_INLINE void w16_store(int32_t *at, w16 a)
{
    for (int i = 0; i < 4; i++)
        vst1q_s32(at + 4 * i, a.quarter[i]);
}
#endif
