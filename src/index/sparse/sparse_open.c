/* SPDX-License-Identifier: Apache-2.0 */
/* The directory of a sparse index: every figure is checked against the others once, so that searches need check no more than what they read. */
#include "index/sparse/sparse_internal.h"

struct segment segment_at(const struct sparse_index *index, uint32_t i)
{
    const uint8_t *at = index->segments + (size_t)i * segment_size(index->text);
    return (struct segment){.key = load_u32(at),
                            .first_row = load_u32(at + 4),
                            .end_row = load_u32(at + 8),
                            .held = load_u32(at + 12),
                            .dims = load_u32(at + 16),
                            .dict_blocks = load_u32(at + 20),
                            .postings = load_u64(at + 24),
                            .post_offset = load_u64(at + 32),
                            .run_offset = load_u64(at + 40),
                            .dict_offset = load_u64(at + 48),
                            .top_index = load_u32(at + 56),
                            .run_count = load_u32(at + 60),
                            .terms = index->text ? load_u64(at + 64) : 0};
}

/* Areas lie one behind the other and within the data. */
static bool areas_fit(const struct segment *s, uint64_t data_len)
{
    return s->post_offset <= s->run_offset && s->post_offset % 4 == 0 &&
           s->run_offset % RUN_SIZE == 0 && s->run_offset <= s->dict_offset &&
           s->run_count <= (s->dict_offset - s->run_offset) / RUN_SIZE &&
           s->dict_offset % DICT_BLOCK == 0 && s->dict_offset <= data_len &&
           s->dict_blocks <= (data_len - s->dict_offset) / DICT_BLOCK;
}

static bool tops_ascend(const uint8_t *tops, const struct segment *s)
{
    for (uint32_t i = 1; i < s->dict_blocks; i++) {
        const uint8_t *at = tops + 4 * ((size_t)s->top_index + i);
        if (load_u32(at - 4) >= load_u32(at))
            return false;
    }
    return true;
}

/* Documents' lengths lie within the data. */
static bool lengths_fit(const struct sparse_index *index, uint64_t data_len, uint32_t rows)
{
    return index->lengths_at % 4 == 0 && index->lengths_at <= data_len &&
           rows <= (data_len - index->lengths_at) / 4;
}

bool sparse_index_open(slice directory, uint64_t section_size, uint32_t rows,
                       struct sparse_index *ret)
{
    struct reader reader = reader_of(directory);
    bool sound = directory.len <= section_size && reader_u32(&reader) == SPARSE_MAGIC;
    uint32_t version = reader_u16(&reader);
    struct sparse_index index = {.directory = directory,
                                 .size = section_size,
                                 .raw = version == SPARSE_RAW,
                                 .text = version == SPARSE_TEXT,
                                 .key_count = reader_u16(&reader)};
    sound = sound && (version == SPARSE_VERSION || index.raw || index.text);
    index.rows = reader_u32(&reader);
    index.capacity = reader_u32(&reader);
    index.segment_count = reader_u32(&reader);
    uint32_t keys_len = reader_u32(&reader);
    index.lengths_at = reader_u64(&reader);
    if (index.text) {
        index.terms = reader_u64(&reader);
        index.documents = reader_u32(&reader);
        sound = sound && reader_u32(&reader) == TERMS_VERSION && index.documents <= rows &&
                lengths_fit(&index, section_size - directory.len, rows);
    }
    index.keys = reader_skip(&reader, keys_len);
    if (!sound || reader.failed || index.rows != rows ||
        index.segment_count > reader_left(&reader) / segment_size(index.text))
        return false;
    struct reader names = reader_of(slice_make(index.keys, keys_len));
    for (uint32_t i = 0; i < index.key_count; i++)
        (void)reader_sized(&names);
    index.segments = reader_skip(&reader, (size_t)index.segment_count * segment_size(index.text));
    index.tops = reader.at;
    size_t top_count = reader_left(&reader) / 4;
    if (names.failed || reader.failed)
        return false;
    struct segment before = {0};
    for (uint32_t i = 0; i < index.segment_count; i++) {
        struct segment s = segment_at(&index, i);
        if (s.key < before.key || (s.key == before.key && s.first_row < before.end_row) ||
            s.key >= index.key_count || s.first_row >= s.end_row || s.end_row > rows ||
            !s.dict_blocks || s.top_index > top_count || s.dict_blocks > top_count - s.top_index ||
            !areas_fit(&s, section_size - directory.len) || !tops_ascend(index.tops, &s))
            return false;
        before = s;
    }
    *ret = index;
    return true;
}

uint32_t index_key(const struct sparse_index *index, slice key)
{
    size_t len = (size_t)(index->segments - index->keys);
    struct reader names = reader_of(slice_make(index->keys, len));
    for (uint32_t i = 0; i < index->key_count; i++) {
        slice name = reader_sized(&names);
        if (slice_equal(name, key))
            return i;
    }
    return UINT32_MAX;
}

bool sparse_index_has(const struct sparse_index *index, slice key)
{
    return index_key(index, key) != UINT32_MAX;
}

slice sparse_index_key(const struct sparse_index *index, uint32_t i)
{
    struct reader names =
        reader_of(slice_make(index->keys, (size_t)(index->segments - index->keys)));
    for (uint32_t skipped = 0; skipped < i; skipped++)
        (void)reader_sized(&names);
    return reader_sized(&names);
}
