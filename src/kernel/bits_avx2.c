/* SPDX-License-Identifier: Apache-2.0 */
/* Bit slices, 32 bytes at a time. */
#include "base/attr.h"

typedef uint64_t vector __attribute__((vector_size(32)));

#define RANGE       kernel_bits_range_avx2
#define SLICE_CODES kernel_bits_slice_avx2
#include "kernel/bits_loops.h"
