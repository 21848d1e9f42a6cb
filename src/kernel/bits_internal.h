/* SPDX-License-Identifier: Apache-2.0 */
/* The loops over bit slices by instruction set. */
#ifndef KERNEL_BITS_INTERNAL_H
#define KERNEL_BITS_INTERNAL_H

#include "kernel/bits.h"

#define BITS_OF(set)                                                                               \
    void kernel_bits_range_##set(const uint8_t *body, unsigned width, size_t blocks, uint32_t low, \
                                 uint32_t high, uint64_t *out);                                    \
    void kernel_bits_slice_##set(const uint32_t *codes, size_t blocks, unsigned width,             \
                                 uint8_t *body);
BITS_OF(scalar)
BITS_OF(avx2)
BITS_OF(avx512)
BITS_OF(neon)
#endif
