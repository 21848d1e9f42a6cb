/* SPDX-License-Identifier: Apache-2.0 */
/* Bit slices, a word at a time: the specification of the others. */
#include "base/attr.h"

typedef uint64_t vector;

#define RANGE       kernel_bits_range_scalar
#define SLICE_CODES kernel_bits_slice_scalar
#include "kernel/bits_loops.h"
