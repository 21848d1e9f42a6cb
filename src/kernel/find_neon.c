/* SPDX-License-Identifier: Apache-2.0 */
/* Substring search, 16 places a step. */
#include "base/attr.h"

#include <arm_neon.h>

#define NAME  kernel_find_neon
#define WIDTH 16

static ALWAYS_INLINE uint64_t starts(const uint8_t *at, size_t gap, uint8_t first, uint8_t last)
{
    uint8x16_t fits = vandq_u8(vceqq_u8(vld1q_u8(at), vdupq_n_u8(first)),
                               vceqq_u8(vld1q_u8(at + gap), vdupq_n_u8(last)));
    if (vmaxvq_u8(fits) == 0)
        return 0;
    const uint8x16_t bit = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    uint8x16_t bits = vandq_u8(fits, bit);
    return (uint64_t)vaddv_u8(vget_low_u8(bits)) | (uint64_t)vaddv_u8(vget_high_u8(bits)) << 8;
}

#include "kernel/find_loops.h"
