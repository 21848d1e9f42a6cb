/* SPDX-License-Identifier: Apache-2.0 */
/* Runs of blocks into the cache, decoded: [{u32 first row, rows, place, 0} per block][blocks], each block [u32 ends][bytes], the top bit of
 * an end saying "absent".  All is checked while decoding, so readers need not. */
#include "part/part_internal.h"

#include <lz4.h>
#include <zstd.h>

static uint64_t index_at(const struct part_section *section)
{
    return section->size - section->aux * RUN_ENTRY;
}

/* Runs lie one behind the other and cover all rows. */
static och_code check_index(struct part *part, unsigned id, const uint8_t *at, size_t len,
                            och_error *err)
{
    const struct part_section *section = &part->sections[id];
    uint64_t next = 0;
    uint32_t last_row = 0;
    for (size_t i = 0; i < len; i += RUN_ENTRY) {
        uint64_t offset = load_u64(at + i);
        uint32_t encoded = load_u32(at + i + 8), row = load_u32(at + i + 16),
                 blocks = load_u32(at + i + 20);
        bool ascends = i ? row > last_row : row == 0;
        if (offset != next || encoded > index_at(section) - offset || !ascends ||
            row >= part->info.rows || blocks < 1 || blocks > RUN_BLOCKS_MAX)
            return part_corrupt(part, id, index_at(section) + i, "bad entry of a run", err);
        next = offset + encoded;
        last_row = row;
    }
    if (next != index_at(section))
        return part_corrupt(part, id, index_at(section), "runs do not fill the section", err);
    return OCH_OK;
}

och_code part_run_find(struct part *part, unsigned id, uint32_t row, struct part_run *ret_run,
                       och_error *err)
{
    const struct part_section *section = &part->sections[id];
    const uint8_t *index;
    size_t len = (size_t)(section->aux * RUN_ENTRY);
    TRY(part_resident(part, id, index_at(section), len, check_index, &index, err));
    uint32_t low = 0, high = (uint32_t)section->aux; // the last entry with first_row <= row
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (load_u32(index + (size_t)middle * RUN_ENTRY + 16) <= row)
            low = middle;
        else
            high = middle;
    }
    const uint8_t *entry = index + (size_t)low * RUN_ENTRY;
    *ret_run = (struct part_run){.offset = load_u64(entry),
                                 .index = low,
                                 .encoded_len = load_u32(entry + 8),
                                 .decoded_len = load_u32(entry + 12),
                                 .first_row = load_u32(entry + 16),
                                 .blocks = load_u32(entry + 20)};
    uint32_t next = low + 1 < section->aux ? load_u32(entry + RUN_ENTRY + 16) : part->info.rows;
    ret_run->rows = next - ret_run->first_row;
    return OCH_OK;
}

struct run_load {
    struct part *part;
    const struct part_run *run;
    bool goes_on; /* from the run before */
};

static bool decode(uint8_t codec, const uint8_t *from, uint32_t encoded_len, uint8_t *to,
                   uint32_t raw_len)
{
    switch (codec) {
    case CODEC_RAW:
        if (encoded_len != raw_len)
            return false;
        memcpy(to, from, raw_len);
        return true;
    case CODEC_LZ4:
        return encoded_len <= INT32_MAX && raw_len <= INT32_MAX &&
               LZ4_decompress_safe((const char *)from, (char *)to, (int)encoded_len,
                                   (int)raw_len) == (int)raw_len;
    case CODEC_ZSTD:
        return ZSTD_decompress(to, raw_len, from, encoded_len) == raw_len;
    default:
        return false;
    }
}

/* Lengths become ends, in place. */
static bool make_ends(uint8_t *block, uint32_t rows, uint32_t bytes)
{
    uint32_t *ends = (uint32_t *)(void *)block; // 16-byte aligned memory of the cache
    uint64_t sum = 0;
    for (uint32_t i = 0; i < rows; i++) {
        uint32_t len = load_u32(block + 4 * (size_t)i), absent = len == BLOCK_ABSENT;
        sum += absent ? 0 : len;
        if (sum > bytes)
            return false;
        ends[i] = (uint32_t)sum | absent << 31;
    }
    return sum == bytes;
}

/* Returns what is wrong, or NULL. */
static const char *decode_run(const struct part_run *run, struct reader *reader, uint8_t *at,
                              size_t len)
{
    size_t place = (size_t)run->blocks * 16;
    uint32_t row = 0;
    if (place > len)
        return "its decoded size is wrong";
    memset(at, 0, place);
    for (uint32_t i = 0; i < run->blocks; i++) {
        uint32_t raw_len = reader_u32(reader), encoded_len = reader_u32(reader),
                 rows = reader_u32(reader);
        uint8_t codec = reader_u8(reader);
        (void)reader_bytes(reader, 3);
        slice encoded = reader_bytes(reader, encoded_len);
        if (reader->failed)
            return "a block ends too early";
        if (!rows || rows > run->rows - row || raw_len > INT32_MAX || raw_len / 4 < rows ||
            round_up(raw_len, 16) > len - place)
            return "a block's figures do not fit";
        if (!decode(codec, encoded.at, encoded_len, at + place, raw_len))
            return "a block cannot be decoded";
        if (!make_ends(at + place, rows, raw_len - 4 * rows))
            return "a block's lengths do not fit";
        memset(at + place + raw_len, 0, (size_t)(round_up(raw_len, 16) - raw_len));
        uint32_t *entry = (uint32_t *)(void *)(at + (size_t)i * 16);
        entry[0] = row;
        entry[1] = rows;
        entry[2] = (uint32_t)place;
        row += rows;
        place += round_up(raw_len, 16);
    }
    if (row != run->rows || place != len || reader_left(reader))
        return "a run's figures do not fit";
    return NULL;
}

och_code part_run_decode(struct part *part, unsigned id, const struct part_run *run,
                         const uint8_t *pages, uint64_t from, uint8_t *at, size_t len,
                         och_error *err)
{
    struct reader reader = reader_of(slice_make(pages + (run->offset - from), run->encoded_len));
    const char *fault = decode_run(run, &reader, at, len);
    return fault ? part_corrupt(part, id, run->offset, fault, err) : OCH_OK;
}

static och_code load_run(void *context, struct cache_key key, uint8_t *at, size_t len,
                         och_error *err)
{
    const struct run_load *load = context;
    const struct part_section *section = &load->part->sections[key.section];
    uint64_t from = load->run->offset, end = from + load->run->encoded_len;
    uint64_t cover = from - from % section->page_size,
             cover_end = round_up(end, section->page_size);
    cover_end = cover_end < section->size ? cover_end : section->size;
    CLEANUP(mem_cleanup) uint8_t *pages = mem_alloc((size_t)(cover_end - cover));
    if (!pages)
        return FAIL_NO_MEMORY(err, "pages of a part");
    if (load->goes_on)
        part_expect(load->part, key.section, cover_end);
    TRY(part_load_pages(load->part, key.section, cover / section->page_size, pages,
                        (size_t)(cover_end - cover), err));
    return part_run_decode(load->part, key.section, load->run, pages, cover, at, len, err);
}

och_code part_block_pin(struct part *part, unsigned id, uint32_t row, bool goes_on,
                        struct part_block_view *ret_block, och_error *err)
{
    struct part_run run;
    assert(row < part->info.rows && part_has(part, id));
    TRY(part_run_find(part, id, row, &run, err));
    struct run_load load = {part, &run, goes_on};
    struct cache_key key = {part->owner, id, run.index};
    TRY(cache_pin(part->env.cache, key, run.decoded_len, part_heat(id), load_run, &load,
                  &ret_block->extent, err));
    const uint32_t *table = (const uint32_t *)(const void *)ret_block->extent->at;
    uint32_t low = 0, high = run.blocks, in_run = row - run.first_row;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (table[(size_t)middle * 4] <= in_run)
            low = middle;
        else
            high = middle;
    }
    const uint32_t *entry = table + (size_t)low * 4;
    ret_block->first_row = run.first_row + entry[0];
    ret_block->rows = entry[1];
    ret_block->base = ret_block->extent->at + entry[2];
    return OCH_OK;
}
