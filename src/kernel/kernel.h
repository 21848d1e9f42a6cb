/* SPDX-License-Identifier: Apache-2.0 */
/* Hot loops over vectors and bytes: one table of functions per instruction set, chosen once.
 *
 * Distances that leave the system are computed here and are bit-equal in every table (D7): component i
 * goes to stride i mod 16, each stride is a chain of fused multiply-adds in ascending i starting from +0.0,
 * the 16 sums are added by the fixed tree ((s0+s8)+(s4+s12))+((s2+s10)+(s6+s14)) + the same over odd strides:
 * t[j] = s[j] + s[j+8] for j < 8, u[j] = t[j] + t[j+4] for j < 4, v[j] = u[j] + u[j+2] for j < 2, v[0] + v[1].
 * For dimensions above KERNEL_F32_DIM_MAX the same order in f64, rounded once at the end. */
#ifndef KERNEL_KERNEL_H
#define KERNEL_KERNEL_H

#include "base/attr.h"

#define KERNEL_F32_DIM_MAX 4096

struct kernel {
    const char *name; /* "scalar", "avx2", "avx512", "neon" */
    /** Σ(aᵢ−bᵢ)². */
    float (*l2_f32)(const float *a, const float *b, size_t dim);
    /** Σaᵢbᵢ. */
    float (*dot_f32)(const float *a, const float *b, size_t dim);
    /** One query against `count` rows lying `stride` floats apart: out[i] = l2 or dot, bit-equal to the above.
     *  This is the scan: it reads memory as one ascending stream, at the rate of the memory. */
    void (*l2_rows_f32)(const float *query, const float *rows, size_t stride, size_t dim,
                        size_t count, float *out);
    void (*dot_rows_f32)(const float *query, const float *rows, size_t stride, size_t dim,
                         size_t count, float *out);
    /** Like dot_rows_f32 and norm2[i] = Σ rowᵢ², in one pass. */
    void (*dot_norm_rows_f32)(const float *query, const float *rows, size_t stride, size_t dim,
                              size_t count, float *dot, float *norm2);
    /** CRC-32C (Castagnoli); crc 0 to begin, else the value so far. */
    uint32_t (*crc32c)(uint32_t crc, const void *at, size_t len);
    /** Standard padded base64.  Returns the decoded length, or SIZE_MAX when malformed; `out` holds len/4*3 bytes. */
    size_t (*base64_decode)(const uint8_t *text, size_t len, uint8_t *out);
    /** First place of needle in text (byte exact), or SIZE_MAX; needle_len 0 gives 0. */
    size_t (*find)(const uint8_t *text, size_t len, const uint8_t *needle, size_t needle_len);
};

/** The best table for this machine; OCHRE_KERNEL=scalar|avx2|avx512|neon overrides. Cheap after the first call. */
const struct kernel *kernel_get(void);
/** All tables that this machine can run, scalar first; for tests. */
size_t kernel_all(const struct kernel *const **ret_tables);

/** Encode; out holds (len+2)/3*4 bytes. Returns the length. */
size_t kernel_base64_encode(const uint8_t *at, size_t len, char *out);

/* Distances as reported (http-api.md §7.4), from the sums above. */
static inline float kernel_ip_distance(float dot)
{
    return 1.0f - dot;
}
/** 1 − dot/(‖a‖‖b‖), clamped at 0 from below; 1 when either norm is zero; NaN when sums overflowed. */
float kernel_cosine_distance(float dot, float norm2_a, float norm2_b);
#endif
