/* SPDX-License-Identifier: Apache-2.0 */
/* Sparse vectors as metadata holds them. */
#include "index/sparse/sparse.h"

#include "model/meta.h"

bool sparse_value_find(slice metadata, slice key, struct sparse_value *ret_value)
{
    struct meta_entry entry;
    if (!metadata.at || !meta_find(metadata, key, &entry) || entry.type != META_SPARSE)
        return false;
    struct reader reader = reader_of(entry.value);
    uint64_t count = reader_varint(&reader);
    if (reader.failed || count > reader_left(&reader) / 8)
        return false;
    struct sparse_value value = {.count = (uint32_t)count};
    if (count > UINT32_MAX)
        return false;
    value.dims = reader_skip(&reader, (size_t)count * 4);
    value.weights = reader_skip(&reader, (size_t)count * 4);
    for (uint32_t i = 1; i < value.count; i++) {
        if (sparse_value_dim(&value, i - 1) >= sparse_value_dim(&value, i))
            return false;
    }
    *ret_value = value;
    return true;
}

/* The first place from `from` on with at least `dim`, by steps that double: short where vectors overlap much, logarithmic where they do not. */
static uint32_t skip_to(const struct sparse_value *value, uint32_t from, uint32_t dim)
{
    uint32_t low = from, step = 1, high;
    while (low < value->count && sparse_value_dim(value, low) < dim) {
        from = low + 1;
        low = value->count - low > step ? low + step : value->count;
        step = step < UINT32_MAX / 2 ? step * 2 : step;
    }
    for (high = low; from < high;) {
        uint32_t middle = from + (high - from) / 2;
        if (sparse_value_dim(value, middle) < dim)
            from = middle + 1;
        else
            high = middle;
    }
    return from;
}

uint32_t sparse_value_match(const struct sparse_value *value, const struct sparse_terms *terms,
                            void (*found)(void *context, uint32_t term, float weight),
                            void *context)
{
    uint32_t at = 0, matches = 0;
    for (uint32_t term = 0; term < terms->count && at < value->count; term++) {
        at = skip_to(value, at, terms->dims[term]);
        if (at < value->count && sparse_value_dim(value, at) == terms->dims[term]) {
            found(context, term, sparse_value_weight(value, at));
            matches++;
        }
    }
    return matches;
}
