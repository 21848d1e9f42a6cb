/* SPDX-License-Identifier: Apache-2.0 */
/* Bit slices, a block's vector at a time. */
#include "base/attr.h"

typedef uint64_t vector __attribute__((vector_size(64)));

#define RANGE       kernel_bits_range_avx512
#define SLICE_CODES kernel_bits_slice_avx512
#include "kernel/bits_loops.h"
