/* SPDX-License-Identifier: Apache-2.0 */
/* Opening: the directory's figures are checked against each other once; walking the segments then needs no checks. */
#include "index/text/text_internal.h"

/* Entries follow each other, fill the section's rest and cover all rows; tops ascend. */
static bool check_top(const struct text_segment *segment)
{
    uint32_t last_key = 0, last_dict = 0, last_lists = 0;
    for (uint32_t i = 0; i < segment->blocks; i++) {
        const uint8_t *top = segment->top + (size_t)i * TEXT_TOP_SIZE;
        uint32_t key = load_u32(top), dict = load_u32(top + 4), lists = load_u32(top + 8);
        if (i ? key <= last_key || dict <= last_dict || lists < last_lists : dict || lists)
            return false;
        if (key >= TEXT_KEYS || dict >= segment->dict_len || lists > segment->lists_len)
            return false;
        last_key = key;
        last_dict = dict;
        last_lists = lists;
    }
    return segment->blocks || (!segment->dict_len && !segment->lists_len);
}

bool text_segment_next(const struct text_index *index, struct text_cursor *cursor,
                       struct text_segment *ret_segment)
{
    if (cursor->next == index->segments)
        return false;
    const uint8_t *at = index->segment_at + (size_t)cursor->next * TEXT_SEGMENT_SIZE;
    struct text_segment segment = {.first_row = load_u32(at), .rows = load_u32(at + 4)};
    uint32_t present = load_u32(at + 32), presence_len = load_u32(at + 36);
    segment.lists_at = load_u64(at + 8);
    segment.lists_len = load_u32(at + 16);
    segment.dict_len = load_u32(at + 20);
    segment.blocks = load_u32(at + 28);
    segment.all_present = present == segment.rows;
    segment.presence = (struct text_list){.count = present,
                                          .encoding = at[40],
                                          .offset = segment.lists_at + segment.lists_len,
                                          .len = presence_len};
    segment.dict_at = segment.presence.offset + presence_len;
    segment.top = index->top_at + cursor->top * TEXT_TOP_SIZE;
    cursor->top += segment.blocks;
    cursor->next++;
    *ret_segment = segment;
    return true;
}

static bool check_segments(const struct text_index *index, uint64_t blocks, uint64_t lists_end)
{
    struct text_cursor cursor = {0};
    struct text_segment segment;
    uint64_t next_row = 0, next_at = 0, present = 0, used = 0;
    for (uint32_t i = 0; i < index->segments; i++) { // their tops must lie within the directory
        used += load_u32(index->segment_at + (size_t)i * TEXT_SEGMENT_SIZE + 28);
    }
    if (used != blocks)
        return false;
    while (text_segment_next(index, &cursor, &segment)) {
        if (segment.first_row != next_row || !segment.rows || segment.rows > TEXT_SEGMENT_ROWS ||
            segment.lists_at != next_at || segment.presence.count > segment.rows ||
            segment.presence.encoding > TEXT_BITMAP ||
            segment.presence.len > text_bitmap_size(segment.rows))
            return false;
        next_row += segment.rows;
        next_at = segment.dict_at + segment.dict_len;
        present += segment.presence.count;
        if (next_at > lists_end || next_row > index->rows || !check_top(&segment))
            return false;
    }
    return next_row == index->rows && next_at == lists_end && present == index->present;
}

bool text_index_open(slice directory, uint64_t section_bytes, uint32_t part_rows,
                     struct text_index *ret_index)
{
    if (directory.len < TEXT_HEADER_SIZE || directory.len > section_bytes)
        return false;
    const uint8_t *at = directory.at;
    struct text_index index = {.rows = load_u32(at + 8),
                               .segments = load_u32(at + 12),
                               .present = load_u32(at + 16),
                               .capacity = load_u32(at + 20),
                               .text_bytes = load_u64(at + 24),
                               .len_max = load_u64(at + 32)};
    size_t left = directory.len - TEXT_HEADER_SIZE;
    if (load_u32(at) != TEXT_MAGIC || load_u16(at + 4) != TEXT_MAJOR || index.rows != part_rows ||
        index.segments > left / TEXT_SEGMENT_SIZE)
        return false;
    left -= (size_t)index.segments * TEXT_SEGMENT_SIZE;
    index.segment_at = at + TEXT_HEADER_SIZE;
    index.top_at = index.segment_at + (size_t)index.segments * TEXT_SEGMENT_SIZE;
    if (left % TEXT_TOP_SIZE ||
        !check_segments(&index, left / TEXT_TOP_SIZE, section_bytes - directory.len))
        return false;
    *ret_index = index;
    return true;
}
