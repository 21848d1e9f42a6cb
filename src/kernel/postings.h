/* SPDX-License-Identifier: Apache-2.0 */
/* Hot loops over lists of rows: numbers of equal width unpacked, gaps made rows, sums compared.  One table per instruction set; all give the same.
 *
 * Packed numbers lie one behind the other from the lowest bit of the first byte on.  Eight bytes from the first byte of each number on can be read. */
#ifndef KERNEL_POSTINGS_H
#define KERNEL_POSTINGS_H

#include "base/attr.h"

#define POSTINGS_WIDTH_MAX 32

struct kernel_postings {
    const char *name; /* "scalar", "avx2", "avx512", "neon" */
    /** The first `count` numbers of `width` bits, `base` added to each.  Shapes: values[count]; width <= POSTINGS_WIDTH_MAX. */
    void (*unpack)(const uint8_t *packed, unsigned width, uint32_t count, uint32_t base,
                   uint32_t *values);
    /** Rows from gaps less one: rows[0] is `first`, of `count` >= 1.  Returns the last row in 64 bits: what is below 2^32 has not wrapped. */
    uint64_t (*unpack_rows)(const uint8_t *packed, unsigned width, uint32_t count, uint32_t first,
                            uint32_t *rows);
    /** Places of the sums that are not below `least`, ascending; ends early once there are more than `most`.  Returns how many there are; more than `most`: at
     *  least so many.  Shapes: sums[n], n a multiple of 16; places[n + 16], those behind the answer are spoiled. */
    uint32_t (*above)(const float *sums, uint32_t n, float least, uint32_t most, uint32_t *places);
};

/** The best table for this machine; OCHRE_KERNEL=scalar|avx2|avx512|neon overrides.  Cheap after the first call. */
const struct kernel_postings *kernel_postings_get(void);
/** All tables that this machine can run, scalar first; for tests. */
size_t kernel_postings_all(const struct kernel_postings *const **ret_tables);
#endif
