/* SPDX-License-Identifier: Apache-2.0 */
/* Hot loops over bit-sliced columns (docs/formats/meta.md): codes of 512 rows lie as `width` vectors of 512 bits, the most significant bit
 * first, so that a comparison reads each vector once and its answer already is a bitset.  One table per instruction set; all give the same bits.
 *
 * Source: Li and Patel, "BitWeaving: fast scans for main memory data processing", SIGMOD 2013 (vertical layout);
 * O'Neil and Quass, "Improved query performance with variant indexes", SIGMOD 1997 (bit-sliced index). */
#ifndef KERNEL_BITS_H
#define KERNEL_BITS_H

#include "base/attr.h"

#define BITS_ROWS      512 /* rows of a block: one vector of 64 bytes per bit of the code */
#define BITS_WORDS     8   /* of a block's answer */
#define BITS_WIDTH_MAX 32

struct kernel_bits {
    const char *name; /* "scalar", "avx2", "avx512", "neon" */
    /** Bit per row: low <= code <= high.  Shapes: body[blocks][width][64 bytes], out[blocks x BITS_WORDS]; 1 <= width <= BITS_WIDTH_MAX;
     *  low <= high < 2^width.  Any alignment. */
    void (*range)(const uint8_t *body, unsigned width, size_t blocks, uint32_t low, uint32_t high,
                  uint64_t *out);
    /** The body of these codes.  Shapes: codes[blocks x BITS_ROWS], each < 2^width; body as above, any alignment; 1 <= width <= BITS_WIDTH_MAX. */
    void (*slice)(const uint32_t *codes, size_t blocks, unsigned width, uint8_t *body);
};

/** The best table for this machine; OCHRE_KERNEL=scalar|avx2|avx512|neon overrides.  Cheap after the first call. */
const struct kernel_bits *kernel_bits_get(void);
/** All tables that this machine can run, scalar first; for tests. */
size_t kernel_bits_all(const struct kernel_bits *const **ret_tables);

static inline size_t bits_block_size(unsigned width)
{
    return (size_t)width * (BITS_ROWS / 8);
}
/** The code of one row of a body. */
static inline uint32_t bits_code(const uint8_t *body, unsigned width, uint32_t row)
{
    const uint8_t *at = body + row / BITS_ROWS * bits_block_size(width) + row % BITS_ROWS / 8;
    uint32_t code = 0;
    for (unsigned i = 0; i < width; i++)
        code = code << 1 | (at[(size_t)i * (BITS_ROWS / 8)] >> row % 8 & 1u);
    return code;
}
#endif
