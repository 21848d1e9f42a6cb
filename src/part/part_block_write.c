/* SPDX-License-Identifier: Apache-2.0 */
/* Records packed into blocks of about 8 KiB, blocks into runs that the cache holds decoded. */
#include "part/part_sink.h"

#include <lz4.h>
#include <zstd.h>

#define ZSTD_LEVEL 3

void part_block_writer_init(struct part_block_writer *writer, struct part_sink *sink,
                            enum part_section_id section)
{
    *writer = (struct part_block_writer){.sink = sink, .section = section};
    // what filters and look-ups scan comes in larger runs than what single hits are read from
    bool scanned = section == SECTION_IDS || section == SECTION_VALUES;
    writer->run_bytes = scanned ? 65536 : 32768;
    buf_init(&writer->lengths, BUF_MAX_NONE);
    buf_init(&writer->bytes, BUF_MAX_NONE);
    buf_init(&writer->run, BUF_MAX_NONE);
    buf_init(&writer->index, BUF_MAX_NONE);
    buf_init(&writer->work, BUF_MAX_NONE);
}

void part_block_writer_done(struct part_block_writer *writer)
{
    buf_done(&writer->lengths);
    buf_done(&writer->bytes);
    buf_done(&writer->run);
    buf_done(&writer->index);
    buf_done(&writer->work);
    ZSTD_freeCCtx(writer->zstd);
    charged_free(writer->sink->budget, &writer->lz4);
    budget_give(writer->sink->budget, writer->charged_bytes);
    writer->zstd = NULL;
    writer->charged_bytes = 0;
}

/* Count what the buffers hold or will hold. */
static och_code charge(struct part_block_writer *writer, size_t more, och_error *err)
{
    size_t wanted = writer->lengths.cap + writer->bytes.cap + writer->run.cap + writer->index.cap +
                    writer->work.cap + more;
    if (wanted <= writer->charged_bytes)
        return OCH_OK;
    TRY(budget_take(writer->sink->budget, wanted - writer->charged_bytes, "a part's blocks", err));
    writer->charged_bytes = wanted;
    return OCH_OK;
}

/* Encode `raw` behind what `out` holds.  0: it does not shrink enough. */
static och_code compress(struct part_block_writer *writer, slice raw, struct buf *out,
                         uint8_t *ret_codec, size_t *ret_len, och_error *err)
{
    size_t limit = raw.len - raw.len / 11; // ratio 1.1
    bool zstd = writer->section == SECTION_URIS;
    uint8_t *at = buf_reserve(out, limit);
    *ret_codec = CODEC_RAW;
    *ret_len = 0;
    if (!at)
        return buf_check(out, "a block", err);
    if (raw.len < 32)
        return OCH_OK;
    if (zstd) {
        if (!writer->zstd && !(writer->zstd = ZSTD_createCCtx()))
            return FAIL_NO_MEMORY(err, "compression");
        size_t len = ZSTD_compressCCtx(writer->zstd, at, limit, raw.at, raw.len, ZSTD_LEVEL);
        *ret_len = ZSTD_isError(len) ? 0 : len;
        *ret_codec = *ret_len ? CODEC_ZSTD : CODEC_RAW;
        return OCH_OK;
    }
    if (!writer->lz4.at)
        TRY(charged_alloc(writer->sink->budget, 1, (size_t)LZ4_sizeofState(), "compression",
                          &writer->lz4, err));
    int len = LZ4_compress_fast_extState(writer->lz4.at, (const char *)raw.at, (char *)at,
                                         (int)raw.len, (int)limit, 1);
    *ret_len = len > 0 ? (size_t)len : 0;
    *ret_codec = *ret_len ? CODEC_LZ4 : CODEC_RAW;
    return OCH_OK;
}

static och_code flush_run(struct part_block_writer *writer, och_error *err)
{
    if (!writer->run_blocks)
        return OCH_OK;
    buf_u64(&writer->index, writer->sink->sections[writer->section].size);
    buf_u32(&writer->index, (uint32_t)writer->run.len);
    buf_u32(&writer->index, writer->run_decoded);
    buf_u32(&writer->index, writer->run_row);
    buf_u32(&writer->index, writer->run_blocks);
    TRY(buf_check(&writer->index, "a part's blocks", err));
    TRY(part_sink_append(writer->sink, writer->run.at, writer->run.len, err));
    buf_clear(&writer->run);
    writer->runs++;
    writer->run_blocks = writer->run_decoded = 0;
    writer->run_row = writer->rows;
    return OCH_OK;
}

static och_code flush_block(struct part_block_writer *writer, och_error *err)
{
    if (!writer->block_rows)
        return OCH_OK;
    size_t raw_len = writer->lengths.len + writer->bytes.len;
    TRY(charge(writer, 2 * raw_len + BLOCK_HEADER, err));
    buf_clear(&writer->work);
    buf_slice(&writer->work, buf_view(&writer->lengths));
    buf_slice(&writer->work, buf_view(&writer->bytes));
    TRY(buf_check(&writer->work, "a block", err));
    slice raw = buf_view(&writer->work);
    uint8_t *header = buf_reserve(&writer->run, BLOCK_HEADER);
    if (!header)
        return buf_check(&writer->run, "a block", err);
    size_t header_at = writer->run.len, len;
    uint8_t codec;
    writer->run.len += BLOCK_HEADER;
    TRY(compress(writer, raw, &writer->run, &codec, &len, err));
    if (codec == CODEC_RAW)
        buf_slice(&writer->run, raw);
    else
        writer->run.len += len;
    TRY(buf_check(&writer->run, "a block", err));
    header = writer->run.at + header_at;
    memset(header, 0, BLOCK_HEADER);
    store_u32(header, (uint32_t)raw_len);
    store_u32(header + 4, (uint32_t)(writer->run.len - header_at - BLOCK_HEADER));
    store_u32(header + 8, writer->block_rows);
    header[12] = codec;
    writer->run_blocks++;
    writer->run_decoded += (uint32_t)(BLOCK_HEADER + round_up(raw_len, 16));
    writer->block_rows = 0;
    buf_clear(&writer->lengths);
    buf_clear(&writer->bytes);
    if (writer->run_decoded >= writer->run_bytes || writer->run_blocks == RUN_BLOCKS_MAX)
        return flush_run(writer, err);
    return OCH_OK;
}

static och_code push(struct part_block_writer *writer, slice field, och_error *err)
{
    size_t len = field.at ? field.len : 0;
    if (len > BLOCK_FIELD_MAX)
        return FAIL(err, OCH_TOO_LARGE, "a field of %zu bytes, at most %u fit", len,
                    BLOCK_FIELD_MAX);
    size_t filled = writer->lengths.len + writer->bytes.len;
    if (writer->block_rows == BLOCK_ROWS_MAX || (filled && filled + 4 + len > BLOCK_RAW))
        TRY(flush_block(writer, err));
    if (len > BLOCK_RAW)
        TRY(charge(writer, len, err));
    buf_u32(&writer->lengths, field.at ? (uint32_t)len : BLOCK_ABSENT);
    buf_append(&writer->bytes, field.at, len);
    TRY(buf_check(&writer->lengths, "a block", err));
    TRY(buf_check(&writer->bytes, "a block", err));
    writer->block_rows++;
    writer->rows++;
    return OCH_OK;
}

och_code part_block_writer_add(struct part_block_writer *writer, slice field, och_error *err)
{
    if (!writer->begun && !field.at) {
        writer->leading++;
        return OCH_OK;
    }
    if (!writer->begun) {
        writer->begun = true;
        TRY(part_sink_begin(writer->sink, writer->section, 0, err));
        while (writer->leading) {
            TRY(push(writer, SLICE_NONE, err));
            writer->leading--;
        }
    }
    return push(writer, field, err);
}

och_code part_block_writer_finish(struct part_block_writer *writer, och_error *err)
{
    if (!writer->begun)
        return OCH_OK;
    TRY(flush_block(writer, err));
    TRY(flush_run(writer, err));
    TRY(part_sink_append(writer->sink, writer->index.at, writer->index.len, err));
    return part_sink_end(writer->sink, writer->runs, err);
}
