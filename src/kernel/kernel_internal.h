/* SPDX-License-Identifier: Apache-2.0 */
/* What the instruction sets bring, by file; kernel.c puts the tables together. */
#ifndef KERNEL_KERNEL_INTERNAL_H
#define KERNEL_KERNEL_INTERNAL_H

#include "kernel/kernel.h"

/* distance_<set>.c defines these five; see distance_loops.h. */
#define KERNEL_DISTANCE_OF(set)                                                                  \
    float kernel_l2_##set(const float *a, const float *b, size_t dim);                           \
    float kernel_dot_##set(const float *a, const float *b, size_t dim);                          \
    void kernel_l2_rows_##set(const float *query, const float *rows, size_t stride, size_t dim,  \
                              size_t count, float *out);                                         \
    void kernel_dot_rows_##set(const float *query, const float *rows, size_t stride, size_t dim, \
                               size_t count, float *out);                                        \
    void kernel_dot_norm_rows_##set(const float *query, const float *rows, size_t stride,        \
                                    size_t dim, size_t count, float *dot, float *norm2);
KERNEL_DISTANCE_OF(scalar)
KERNEL_DISTANCE_OF(avx2)
KERNEL_DISTANCE_OF(avx512)
KERNEL_DISTANCE_OF(neon)

uint32_t kernel_crc32c_scalar(uint32_t crc, const void *at, size_t len);
uint32_t kernel_crc32c_sse42(uint32_t crc, const void *at, size_t len);
uint32_t kernel_crc32c_avx512(uint32_t crc, const void *at, size_t len);
uint32_t kernel_crc32c_neon(uint32_t crc, const void *at, size_t len);

size_t kernel_base64_decode_scalar(const uint8_t *text, size_t len, uint8_t *out);
size_t kernel_base64_decode_avx2(const uint8_t *text, size_t len, uint8_t *out);
size_t kernel_base64_decode_avx512(const uint8_t *text, size_t len, uint8_t *out);
size_t kernel_base64_decode_neon(const uint8_t *text, size_t len, uint8_t *out);

size_t kernel_find_scalar(const uint8_t *text, size_t len, const uint8_t *needle,
                          size_t needle_len);
size_t kernel_find_avx2(const uint8_t *text, size_t len, const uint8_t *needle, size_t needle_len);
size_t kernel_find_avx512(const uint8_t *text, size_t len, const uint8_t *needle,
                          size_t needle_len);
size_t kernel_find_neon(const uint8_t *text, size_t len, const uint8_t *needle, size_t needle_len);

#endif
