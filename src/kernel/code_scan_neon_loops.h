/* SPDX-License-Identifier: Apache-2.0 */
/* Scanning codes with Advanced SIMD: TBL looks up in 64 bytes at once, the index being group and nibble.  The including
 * file defines NAME(loop) and
 *   sum4(sum, bytes)     add the four u8 of each 32-bit lane
 *   dot4(sum, x, q)      add the four products s8 * s8 of each 32-bit lane */
#ifndef KERNEL_CODE_SCAN_NEON_LOOPS_H
#define KERNEL_CODE_SCAN_NEON_LOOPS_H

struct acc32 {
    uint32x4_t eighth[8]; /* rows 0-3, 4-7, ... */
};

static ALWAYS_INLINE struct acc32 acc_of(const uint8_t *code, const uint8_t *table, size_t dim)
{
    const uint8x16_t nibble = vdupq_n_u8(15), group = vreinterpretq_u8_u32(vdupq_n_u32(0x30201000));
    struct acc32 acc;
    for (int i = 0; i < 8; i++)
        acc.eighth[i] = vdupq_n_u32(0);
    for (size_t at = 0; at < 4 * dim; at += 64) {
        uint8x16x4_t values = vld1q_u8_x4(table + at);
        for (int i = 0; i < 4; i++) {
            uint8x16_t both = vld1q_u8(code + at + 16 * i);
            uint8x16_t low = vorrq_u8(vandq_u8(both, nibble), group);
            uint8x16_t high = vorrq_u8(vshrq_n_u8(both, 4), group);
            acc.eighth[i] = sum4(acc.eighth[i], vqtbl4q_u8(values, low));
            acc.eighth[i + 4] = sum4(acc.eighth[i + 4], vqtbl4q_u8(values, high));
        }
    }
    return acc;
}

static ALWAYS_INLINE int8x16_t centred(const uint8_t *at)
{
    return vreinterpretq_s8_u8(veorq_u8(vld1q_u8(at), vdupq_n_u8(128)));
}

static ALWAYS_INLINE int32_t dot8(const uint8_t *x, const int8_t *q, size_t dim, int32_t q_sum)
{
    (void)q_sum;
    int32x4_t sum[4] = {vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0)};
    for (size_t i = 0; i < dim; i += 64)
        for (int j = 0; j < 4; j++)
            sum[j] = dot4(sum[j], centred(x + i + 16 * j), vld1q_s8(q + i + 16 * j));
    return vaddvq_s32(vaddq_s32(vaddq_s32(sum[0], sum[1]), vaddq_s32(sum[2], sum[3])));
}

static ALWAYS_INLINE void acc_store(struct acc32 acc, int32_t out[32])
{
    for (int i = 0; i < 8; i++)
        vst1q_s32(out + 4 * i, vreinterpretq_s32_u32(acc.eighth[i]));
}

static ALWAYS_INLINE struct acc32 acc_load(const int32_t in[32])
{
    struct acc32 acc;
    for (int i = 0; i < 8; i++)
        acc.eighth[i] = vreinterpretq_u32_s32(vld1q_s32(in + 4 * i));
    return acc;
}

static ALWAYS_INLINE float32x4_t load_factors(const uint8_t *at)
{
    return vreinterpretq_f32_u8(vld1q_u8(at));
}

static ALWAYS_INLINE uint32_t acc_bound(struct acc32 acc, const void *a_at, const void *b_at,
                                        const struct code_bound *bound, float low_at[32])
{
    const uint8_t *a_bytes = a_at, *b_bytes = b_at;
    const uint32x4_t weight = {1, 2, 4, 8};
    uint32_t mask = 0;
    for (int i = 0; i < 8; i++) {
        float32x4_t a = load_factors(a_bytes + 16 * i), b = load_factors(b_bytes + 16 * i);
        float32x4_t sum = vcvtq_f32_s32(vreinterpretq_s32_u32(acc.eighth[i]));
        float32x4_t dot = vfmaq_f32(vdupq_n_f32(bound->offset), vdupq_n_f32(bound->scale), sum);
        float32x4_t low = vfmsq_f32(vaddq_f32(a, vdupq_n_f32(bound->delta)), b, dot);
        vst1q_f32(low_at + 4 * i, low);
        uint32x4_t pass = vandq_u32(vcltq_f32(low, vdupq_n_f32(bound->limit)),
                                    vcltq_f32(a, vdupq_n_f32(CODE_PAD_A)));
        mask |= vaddvq_u32(vandq_u32(pass, weight)) << 4 * i;
    }
    return mask;
}

#include "kernel/code_scan_loops.h"

void NAME(coarse16)(const uint8_t *packed, size_t blocks, const struct code_query8 *query,
                    size_t dim, float *out)
{
    float32x4_t twice_scale = vdupq_n_f32(2.0f * query->scale);
    for (size_t block = 0; block < blocks; block++, packed += code_coarse_size(dim)) {
        int32x4_t sum[4] = {vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0)};
        for (size_t i = 0; i < dim; i += 4) {
            int32_t four;
            memcpy(&four, query->q8 + i, sizeof four);
            int8x16_t q = vreinterpretq_s8_s32(vdupq_n_s32(four));
            for (int j = 0; j < 4; j++)
                sum[j] = dot4(sum[j], centred(packed + 16 * i + 16 * j), q);
        }
        const uint8_t *end = packed + CODE_LISTS * dim;
        for (int j = 0; j < 4; j++) {
            float32x4_t twice = vmulq_f32(twice_scale, load_factors(end + 16 * j));
            float32x4_t norms =
                vaddq_f32(load_factors(end + 64 + 16 * j), vdupq_n_f32(query->norm2));
            vst1q_f32(out + CODE_LISTS * block + 4 * j,
                      vfmsq_f32(norms, twice, vcvtq_f32_s32(sum[j])));
        }
    }
}
#endif
