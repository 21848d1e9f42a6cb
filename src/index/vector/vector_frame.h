/* SPDX-License-Identifier: Apache-2.0 */
/* Codes of rows that lie in no part (D18): the tail's.  A frame is the mean and rotation they share; searching them is VECTOR_CODES1 or
 * VECTOR_CODES8 over the frame's index, which has no lists. */
#ifndef INDEX_VECTOR_VECTOR_FRAME_H
#define INDEX_VECTOR_VECTOR_FRAME_H

#include "index/vector/vector.h"

struct vector_frame {
    struct vector_index index; /* coded: set by who searches */
    float *mean;               /* code_dim of them, then as many zeros */
    float limit2;              /* rows with a larger |x|² have no place; 0: 1e30 */
    size_t bytes;
    struct budget *budget;
};
/**
 * Take mean and rotation over from `like`, the index of the newest part; NULL or of another shape: the mean of the rows given.
 *
 * Shapes: rows[count] pointers, NULL: no vector.  Errors: OCH_BUSY, OCH_NO_MEMORY.
 */
MUST_USE och_code vector_frame_init(struct vector_frame *frame, enum metric metric,
                                    uint32_t dimension, const struct vector_index *like,
                                    const float *const *rows, uint32_t count, struct budget *budget,
                                    och_error *err);
void vector_frame_done(struct vector_frame *frame); /* also of a frame all zero */
/** The codes of one vector; scratch: code_dim floats, row: code_row_size(code_dim) bytes, its 1-bit side is row v of a block that was cleared.
 *  False: it has no place among codes. */
bool vector_frame_code(const struct vector_frame *frame, const float *vector, float *scratch,
                       uint8_t *row, uint8_t *block, uint32_t v);
#endif
