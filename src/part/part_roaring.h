/* SPDX-License-Identifier: Apache-2.0 */
/* Words to Roaring and back.  Apart from part_bitmap.c because Roaring's header has bitset_ names of its own.  Inside part/ only. */
#ifndef PART_PART_ROARING_H
#define PART_PART_ROARING_H

#include "base/buf.h"

/** Append the portable form of the set bits. */
MUST_USE och_code part_roaring_encode(const uint64_t *words, uint32_t bits, struct buf *out,
                                      och_error *err);
/** Set bits in zeroed `words`.  OCH_CORRUPT when malformed or a bit ≥ bits. */
MUST_USE och_code part_roaring_decode(slice encoded, uint64_t *words, uint32_t bits,
                                      och_error *err);
#endif
