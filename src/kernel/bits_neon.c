/* SPDX-License-Identifier: Apache-2.0 */
/* Bit slices, 16 bytes at a time. */
#include "base/attr.h"

typedef uint64_t vector __attribute__((vector_size(16)));

#define RANGE       kernel_bits_range_neon
#define SLICE_CODES kernel_bits_slice_neon
#include "kernel/bits_loops.h"
