/* SPDX-License-Identifier: Apache-2.0 */
/* The loops over lists of rows by instruction set, and one number as all of them read the last ones. */
#ifndef KERNEL_POSTINGS_INTERNAL_H
#define KERNEL_POSTINGS_INTERNAL_H

#include "kernel/postings.h"

#include <string.h>

#define POSTINGS_OF(set)                                                                           \
    void kernel_unpack_##set(const uint8_t *packed, unsigned width, uint32_t count, uint32_t base, \
                             uint32_t *values);                                                    \
    uint64_t kernel_unpack_rows_##set(const uint8_t *packed, unsigned width, uint32_t count,       \
                                      uint32_t first, uint32_t *rows);                             \
    uint32_t kernel_above_##set(const float *sums, uint32_t n, float least, uint32_t most,         \
                                uint32_t *places);
POSTINGS_OF(scalar)
POSTINGS_OF(avx2)
POSTINGS_OF(avx512)

static inline uint32_t packed_number(const uint8_t *packed, unsigned width, uint32_t i)
{
    uint64_t bit = (uint64_t)i * width, word;
    memcpy(&word, packed + bit / 8, sizeof(word));
    return (uint32_t)(word >> bit % 8 & ((1ull << width) - 1));
}
#endif
