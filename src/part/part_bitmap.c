/* SPDX-License-Identifier: Apache-2.0 */
/* Deletion bitmaps: dense words in memory, Roaring's portable format in the catalogue. */
#include "part/part.h"
#include "part/part_roaring.h"

och_code part_bitmap_encode(const struct bitset *dead, struct buf *out, och_error *err)
{
    assert(dead->bits <= UINT32_MAX);
    return part_roaring_encode(dead->words, (uint32_t)dead->bits, out, err);
}

och_code part_bitmap_decode(slice encoded, uint32_t rows, struct bitset *ret_dead, och_error *err)
{
    struct bitset dead;
    if (!bitset_init(&dead, rows))
        return FAIL_NO_MEMORY(err, "a deletion bitmap");
    och_code code = part_roaring_decode(encoded, dead.words, rows, err);
    if (code != OCH_OK)
        bitset_done(&dead);
    else
        *ret_dead = dead;
    return code;
}
