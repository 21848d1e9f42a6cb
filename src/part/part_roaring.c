/* SPDX-License-Identifier: Apache-2.0 */
/* CRoaring keeps its own memory here: it lives for one call, and it does not survive a refused allocation. */
#include "part/part_roaring.h"

#include <roaring/roaring.h>

static void roaring_cleanup(roaring_bitmap_t **bitmap)
{
    if (*bitmap)
        roaring_bitmap_free(*bitmap);
}

och_code part_roaring_encode(const uint64_t *words, uint32_t bits, struct buf *out, och_error *err)
{
    CLEANUP(roaring_cleanup) roaring_bitmap_t *bitmap = roaring_bitmap_create();
    if (!bitmap)
        return FAIL_NO_MEMORY(err, "a deletion bitmap");
    roaring_bulk_context_t bulk = {0};
    for (size_t i = 0; i < ((size_t)bits + 63) / 64; i++) {
        for (uint64_t word = words[i]; word; word &= word - 1)
            roaring_bitmap_add_bulk(bitmap, &bulk,
                                    (uint32_t)(i * 64 + (size_t)__builtin_ctzll(word)));
    }
    (void)roaring_bitmap_run_optimize(bitmap);
    size_t size = roaring_bitmap_portable_size_in_bytes(bitmap);
    uint8_t *at = buf_reserve(out, size);
    if (at)
        out->len += roaring_bitmap_portable_serialize(bitmap, (char *)at);
    return buf_check(out, "a deletion bitmap", err);
}

och_code part_roaring_decode(slice encoded, uint64_t *words, uint32_t bits, och_error *err)
{
    const char *bytes = (const char *)encoded.at;
    if (!encoded.len || roaring_bitmap_portable_deserialize_size(bytes, encoded.len) != encoded.len)
        return FAIL(err, OCH_CORRUPT, "deletion bitmap of %zu bytes has the wrong length",
                    encoded.len);
    CLEANUP(roaring_cleanup)
    roaring_bitmap_t *bitmap = roaring_bitmap_portable_deserialize_safe(bytes, encoded.len);
    const char *reason = NULL;
    if (!bitmap || !roaring_bitmap_internal_validate(bitmap, &reason))
        return FAIL(err, OCH_CORRUPT, "deletion bitmap: %s", reason ? reason : "malformed");
    if (!roaring_bitmap_is_empty(bitmap) && roaring_bitmap_maximum(bitmap) >= bits)
        return FAIL(err, OCH_CORRUPT, "deletion bitmap names row %u, the part has %u",
                    roaring_bitmap_maximum(bitmap), bits);
    roaring_uint32_iterator_t iterator;
    roaring_iterator_init(bitmap, &iterator);
    uint32_t batch[256], count;
    while ((count = roaring_uint32_iterator_read(&iterator, batch, COUNT_OF(batch))) > 0) {
        for (uint32_t i = 0; i < count; i++)
            words[batch[i] / 64] |= 1ull << batch[i] % 64;
    }
    return OCH_OK;
}
