/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of rows, a number at a time: the specification of the others. */
#include "kernel/postings_internal.h"

void kernel_unpack_scalar(const uint8_t *packed, unsigned width, uint32_t count, uint32_t base,
                          uint32_t *values)
{
    for (uint32_t i = 0; i < count; i++)
        values[i] = base + packed_number(packed, width, i);
}

uint64_t kernel_unpack_rows_scalar(const uint8_t *packed, unsigned width, uint32_t count,
                                   uint32_t first, uint32_t *rows)
{
    uint64_t row = first;
    rows[0] = first;
    for (uint32_t i = 1; i < count; i++) {
        row += 1 + (uint64_t)packed_number(packed, width, i - 1);
        rows[i] = (uint32_t)row;
    }
    return row;
}

/* Compilers do not make this of a loop at the levels we build with. */
typedef float four __attribute__((vector_size(16)));
typedef int32_t four_bits __attribute__((vector_size(16)));

static bool any_of_16(const float *sums, float least)
{
    four floor = {least, least, least, least}, at[4];
    memcpy(at, sums, sizeof(at));
    four_bits above = (at[0] >= floor) | (at[1] >= floor) | (at[2] >= floor) | (at[3] >= floor);
    uint64_t halves[2];
    memcpy(halves, &above, sizeof(halves));
    return halves[0] | halves[1];
}

uint32_t kernel_above_scalar(const float *sums, uint32_t n, float least, uint32_t most,
                             uint32_t *places)
{
    uint32_t count = 0;
    for (uint32_t at = 0; at < n && count <= most; at += 16) {
        if (!any_of_16(sums + at, least))
            continue;
        for (uint32_t i = 0; i < 16; i++) {
            places[count] = at + i;
            count += sums[at + i] >= least;
        }
    }
    return count;
}
