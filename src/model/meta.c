/* SPDX-License-Identifier: Apache-2.0 */
/* Metadata in its one encoding: walk, find, check, merge.  docs/formats/metadata.md. */
#include "model/meta.h"

void meta_iter_init(struct meta_iter *iter, slice encoded)
{
    iter->reader = reader_of(encoded);
    iter->left = encoded.len ? reader_varint(&iter->reader) : 0;
}

bool meta_iter_next(struct meta_iter *iter, struct meta_entry *ret_entry)
{
    if (iter->left == 0 || iter->reader.failed)
        return false;
    slice key = reader_sized(&iter->reader);
    uint8_t type = reader_u8(&iter->reader);
    slice value = reader_sized(&iter->reader);
    if (iter->reader.failed)
        return false;
    iter->left--;
    *ret_entry = (struct meta_entry){key, type, value};
    return true;
}

/* One varint; NULL at damage.  Lengths below 128 are nearly all there is. */
static ALWAYS_INLINE const uint8_t *varint(const uint8_t *at, const uint8_t *end, uint64_t *ret)
{
    if (UNLIKELY(at == end))
        return NULL;
    if (LIKELY(*at < 128)) {
        *ret = *at;
        return at + 1;
    }
    struct reader reader = {at, end, false};
    *ret = reader_varint(&reader);
    return reader.failed ? NULL : reader.at;
}

/* Keys ascend, so the walk ends at the first key that is not smaller.  Most keys differ in their
 * first byte, which spares the call of memcmp. */
bool meta_find(slice encoded, slice key, struct meta_entry *ret_entry)
{
    if (encoded.len == 0)
        return false;
    const uint8_t *at = encoded.at, *end = encoded.at + encoded.len;
    int first = key.len ? key.at[0] : -1;
    uint64_t left, size;
    at = varint(at, end, &left);
    for (; at && left > 0; left--) {
        at = varint(at, end, &size);
        if (UNLIKELY(!at || (uint64_t)(end - at) <= size))
            return false;
        slice here = slice_make(at, (size_t)size);
        int order = (here.len ? at[0] : -1) - first;
        if (order == 0)
            order = slice_compare(here, key);
        if (order > 0)
            return false;
        at += size;
        uint8_t type = *at++;
        at = varint(at, end, &size);
        if (UNLIKELY(!at || (uint64_t)(end - at) < size))
            return false;
        if (order == 0) {
            *ret_entry = (struct meta_entry){here, type, slice_make(at, (size_t)size)};
            return true;
        }
        at += size;
    }
    return false;
}

uint64_t meta_count(slice encoded)
{
    struct meta_iter iter;
    meta_iter_init(&iter, encoded);
    return iter.reader.failed ? 0 : iter.left;
}

static bool strings_valid(struct reader *reader, uint64_t count)
{
    for (; count > 0; count--) {
        (void)reader_sized(reader);
        if (reader->failed)
            return false;
    }
    return true;
}

static bool sparse_valid(slice value)
{
    struct reader reader = reader_of(value);
    uint64_t count = reader_varint(&reader);
    if (reader.failed || count > reader_left(&reader) / 8)
        return false;
    const uint8_t *indices = reader_skip(&reader, (size_t)count * 4);
    (void)reader_skip(&reader, (size_t)count * 4);
    for (uint64_t i = 1; i < count; i++) {
        if (load_u32(indices + i * 4) <= load_u32(indices + i * 4 - 4))
            return false;
    }
    uint8_t has_tokens = reader_u8(&reader);
    if (reader.failed || has_tokens > 1 || (has_tokens && !strings_valid(&reader, count)))
        return false;
    return reader_left(&reader) == 0;
}

static bool bools_valid(slice value)
{
    uint8_t bits = 0;
    for (size_t i = 0; i < value.len; i++)
        bits |= value.at[i];
    return bits < 2;
}

static bool value_valid(const struct meta_entry *entry)
{
    slice value = entry->value;
    switch (entry->type) {
    case META_BOOL:
        return value.len == 1 && value.at[0] < 2;
    case META_INT:
    case META_FLOAT:
        return value.len == 8;
    case META_STRING:
        return true;
    case META_BOOLS:
        return value.len > 0 && bools_valid(value);
    case META_INTS:
    case META_FLOATS:
        return value.len > 0 && value.len % 8 == 0;
    case META_STRINGS: {
        struct reader reader = reader_of(value);
        while (!reader.failed && reader_left(&reader) > 0)
            (void)reader_sized(&reader);
        return !reader.failed && value.len > 0;
    }
    case META_EMPTY:
    case META_DELETE:
        return value.len == 0;
    case META_SPARSE:
        return sparse_valid(value);
    default:
        return false;
    }
}

och_code meta_validate(slice encoded, och_error *err)
{
    struct meta_iter iter;
    meta_iter_init(&iter, encoded);
    if (encoded.len == 0)
        return FAIL(err, OCH_CORRUPT, "metadata: no entry count");
    uint64_t count = iter.left;
    struct meta_entry entry;
    slice before = SLICE_NONE;
    for (uint64_t i = 0; i < count; i++) {
        if (!meta_iter_next(&iter, &entry))
            return FAIL(err, OCH_CORRUPT, "metadata: cut short in entry %llu of %llu",
                        (unsigned long long)i, (unsigned long long)count);
        if (i > 0 && slice_compare(before, entry.key) >= 0)
            return FAIL(err, OCH_CORRUPT, "metadata: keys out of order at entry %llu",
                        (unsigned long long)i);
        if (!value_valid(&entry))
            return FAIL(err, OCH_CORRUPT,
                        "metadata: entry %llu has a bad value of type %u, %zu bytes",
                        (unsigned long long)i, entry.type, entry.value.len);
        before = entry.key;
    }
    if (iter.reader.failed || reader_left(&iter.reader) > 0)
        return FAIL(err, OCH_CORRUPT, "metadata: %zu bytes behind the last entry",
                    reader_left(&iter.reader));
    return OCH_OK;
}

static void append_entry(struct buf *out, const struct meta_entry *entry)
{
    buf_sized(out, entry->key);
    buf_byte(out, entry->type);
    buf_sized(out, entry->value);
}

/* Walk both in key order and call for each entry of the result; `out` NULL only counts. */
static uint64_t merge_into(slice old, slice patch, struct buf *out)
{
    struct meta_iter old_iter, patch_iter;
    struct meta_entry old_entry = {0}, patch_entry = {0};
    meta_iter_init(&old_iter, old);
    meta_iter_init(&patch_iter, patch);
    bool has_old = meta_iter_next(&old_iter, &old_entry);
    bool has_patch = meta_iter_next(&patch_iter, &patch_entry);
    uint64_t count = 0;
    while (has_old || has_patch) {
        int order = !has_old ? 1 : !has_patch ? -1 : slice_compare(old_entry.key, patch_entry.key);
        const struct meta_entry *entry = order < 0 ? &old_entry : &patch_entry;
        if (entry->type != META_DELETE) {
            count++;
            if (out)
                append_entry(out, entry);
        }
        if (order <= 0)
            has_old = meta_iter_next(&old_iter, &old_entry);
        if (order >= 0)
            has_patch = meta_iter_next(&patch_iter, &patch_entry);
    }
    return count;
}

void meta_merge(slice old, slice patch, struct buf *out, bool *ret_empty)
{
    uint64_t count = merge_into(old, patch, NULL);
    buf_varint(out, count);
    (void)merge_into(old, patch, out);
    *ret_empty = count == 0;
}

/* The length is checked even so: a caller may walk bytes that were never validated. */
bool meta_bool(const struct meta_entry *entry)
{
    assert(entry->type == META_BOOL);
    return entry->value.len == 1 && entry->value.at[0] != 0;
}

int64_t meta_int(const struct meta_entry *entry)
{
    assert(entry->type == META_INT);
    return entry->value.len == 8 ? (int64_t)load_u64(entry->value.at) : 0;
}

double meta_float(const struct meta_entry *entry)
{
    assert(entry->type == META_FLOAT);
    return entry->value.len == 8 ? load_f64(entry->value.at) : 0.0;
}

int meta_schema_type(uint8_t meta_type)
{
    switch (meta_type) {
    case META_BOOL:
    case META_BOOLS:
        return SCHEMA_BOOL;
    case META_INT:
    case META_INTS:
        return SCHEMA_INT;
    case META_FLOAT:
    case META_FLOATS:
        return SCHEMA_FLOAT;
    case META_STRING:
    case META_STRINGS:
        return SCHEMA_STRING;
    case META_SPARSE:
        return SCHEMA_SPARSE;
    default:
        return -1;
    }
}
