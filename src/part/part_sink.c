/* SPDX-License-Identifier: Apache-2.0 */
/* Sections, page checksums, directory and footer of a part being written. */
#include "part/part_sink.h"

#include "kernel/kernel.h"

och_code charged_alloc(struct budget *budget, uint64_t count, size_t size, const char *what,
                       struct charged *ret, och_error *err)
{
    size_t bytes;
    if (count > SIZE_MAX || mul_overflows((size_t)count, size, &bytes))
        return FAIL_NO_MEMORY(err, what);
    TRY(budget_take(budget, bytes, what, err));
    void *at = mem_zalloc(bytes);
    if (!at) {
        budget_give(budget, bytes);
        return FAIL_NO_MEMORY(err, what);
    }
    *ret = (struct charged){at, bytes};
    return OCH_OK;
}

void charged_free(struct budget *budget, struct charged *memory)
{
    if (!memory->at)
        return;
    mem_free(memory->at);
    budget_give(budget, memory->bytes);
    *memory = (struct charged){NULL, 0};
}

static och_code pad(struct part_sink *sink, uint64_t align, och_error *err)
{
    static const uint8_t zeros[VEC_ALIGN];
    assert(align <= sizeof(zeros));
    uint64_t written = sink->writer->written;
    return store_append(sink->writer, zeros, (size_t)(round_up(written, align) - written), err);
}

och_code part_sink_init(struct part_sink *sink, struct store_writer *writer, struct budget *budget,
                        och_error *err)
{
    *sink = (struct part_sink){.writer = writer, .budget = budget};
    TRY(pad(sink, SECTION_ALIGN, err));
    sink->begin = writer->written;
    return OCH_OK;
}

void part_sink_done(struct part_sink *sink)
{
    charged_free(sink->budget, &sink->crcs);
}

och_code part_sink_raw(struct part_sink *sink, const void *at, size_t len, och_error *err)
{
    assert(!sink->open);
    return store_append(sink->writer, at, len, err);
}

och_code part_sink_align(struct part_sink *sink, uint64_t align, och_error *err)
{
    assert(!sink->open);
    return pad(sink, align, err);
}

och_code part_sink_begin(struct part_sink *sink, enum part_section_id id, uint64_t size,
                         och_error *err)
{
    assert(id < SECTION_COUNT && !sink->open && !sink->sections[id].page_size);
    bool large = id == SECTION_VEC && size >= VEC_ALIGN_FROM;
    TRY(pad(sink, large ? VEC_ALIGN : SECTION_ALIGN, err));
    if (sink->crc_count > UINT32_MAX)
        return FAIL(err, OCH_TOO_LARGE, "a part of more than 2^32 pages");
    sink->open = id;
    sink->in_page = 0;
    sink->order[sink->section_count++] = (uint8_t)id;
    sink->sections[id] = (struct part_section){.offset = part_sink_offset(sink),
                                               .page_size = part_section_page_size(id),
                                               .first_page = (uint32_t)sink->crc_count};
    return OCH_OK;
}

static och_code crc_push(struct part_sink *sink, uint32_t crc, och_error *err)
{
    if (sink->crc_count * 4 == sink->crcs.bytes) {
        struct charged more = {0};
        uint64_t count = sink->crc_count ? 2 * sink->crc_count : 64;
        TRY(charged_alloc(sink->budget, count, 4, "page checksums", &more, err));
        if (sink->crcs.at)
            memcpy(more.at, sink->crcs.at, sink->crcs.bytes);
        charged_free(sink->budget, &sink->crcs);
        sink->crcs = more;
    }
    store_u32((uint8_t *)sink->crcs.at + 4 * sink->crc_count++, crc);
    return OCH_OK;
}

och_code part_sink_append(struct part_sink *sink, const void *at, size_t len, och_error *err)
{
    struct part_section *section = &sink->sections[sink->open];
    const struct kernel *kernel = kernel_get();
    const uint8_t *from = at;
    assert(sink->open);
    TRY(store_append(sink->writer, at, len, err));
    while (len) {
        if (!sink->in_page)
            sink->crc = part_page_seed(sink->id, sink->open, section->size / section->page_size);
        size_t step = min_size(len, section->page_size - sink->in_page);
        sink->crc = kernel->crc32c(sink->crc, from, step);
        sink->in_page += (uint32_t)step;
        section->size += step;
        from += step;
        len -= step;
        if (sink->in_page == section->page_size) {
            TRY(crc_push(sink, sink->crc, err));
            sink->in_page = 0;
        }
    }
    return OCH_OK;
}

och_code part_sink_end(struct part_sink *sink, uint64_t aux, och_error *err)
{
    struct part_section *section = &sink->sections[sink->open];
    if (sink->in_page)
        TRY(crc_push(sink, sink->crc, err));
    section->aux = aux;
    assert(sink->crc_count == section->first_page + part_section_pages(section));
    sink->open = SECTION_NONE;
    return OCH_OK;
}

och_code part_sink_section(struct part_sink *sink, enum part_section_id id, const void *at,
                           size_t len, och_error *err)
{
    TRY(part_sink_begin(sink, id, len, err));
    TRY(part_sink_append(sink, at, len, err));
    return part_sink_end(sink, 0, err);
}

/* The checksum table as it lies, and its pages' checksums behind the directory's entries. */
static och_code write_table(struct part_sink *sink, uint64_t *ret_offset, struct buf *page_crcs,
                            och_error *err)
{
    uint64_t size = 4 * sink->crc_count;
    TRY(part_sink_align(sink, SECTION_ALIGN, err));
    *ret_offset = part_sink_offset(sink);
    for (uint64_t at = 0; at < size; at += TABLE_PAGE) {
        const uint8_t *page = (const uint8_t *)sink->crcs.at + at;
        size_t len = min_size((size_t)(size - at), TABLE_PAGE);
        uint32_t seed = part_page_seed(sink->id, SECTION_CRCS, at / TABLE_PAGE);
        buf_u32(page_crcs, kernel_get()->crc32c(seed, page, len));
        TRY(part_sink_raw(sink, page, len, err));
    }
    return OCH_OK;
}

static void directory_write(const struct part_sink *sink, const struct part_totals *totals,
                            uint64_t table_offset, const struct buf *page_crcs, struct buf *out)
{
    buf_u32(out, DIRECTORY_MAGIC);
    buf_u16(out, PART_MAJOR);
    buf_u16(out, PART_MINOR);
    buf_u32(out, (uint32_t)sink->section_count);
    buf_u32(out, (uint32_t)(page_crcs->len / 4));
    buf_append(out, sink->id.bytes, 16);
    buf_u64(out, table_offset);
    buf_u64(out, sink->crc_count);
    buf_u64(out, totals->raw_bytes);
    buf_u32(out, totals->vector_count);
    buf_u32(out, totals->kill_count);
    assert(out->failed || out->len == DIRECTORY_SIZE);
    for (size_t i = 0; i < sink->section_count; i++) {
        const struct part_section *section = &sink->sections[sink->order[i]];
        buf_u32(out, sink->order[i]);
        buf_u32(out, section->page_size);
        buf_u64(out, section->offset);
        buf_u64(out, section->size);
        buf_u64(out, section->aux);
        buf_u32(out, section->first_page);
        buf_u32(out, 0);
    }
    buf_slice(out, buf_view(page_crcs));
}

static void footer_write(const struct part_sink *sink, const struct part_ref *ref,
                         uint8_t at[FOOTER_SIZE])
{
    memset(at, 0, FOOTER_SIZE);
    memcpy(at, FOOTER_MAGIC, 8);
    store_u16(at + 8, PART_MAJOR);
    store_u16(at + 10, PART_MINOR);
    store_u32(at + 12, ref->head_len);
    memcpy(at + 16, sink->id.bytes, 16);
    store_u64(at + 32, ref->size);
    store_u64(at + 40, ref->dir_offset);
    store_u32(at + 48, ref->dir_len);
    store_u32(at + 52, ref->dir_crc);
    store_u32(at + 60, kernel_get()->crc32c(0, at, 60));
}

och_code part_sink_close(struct part_sink *sink, const struct part_totals *totals,
                         uint32_t head_len, struct part_ref *ret_ref, och_error *err)
{
    CLEANUP(buf_cleanup) struct buf page_crcs;
    CLEANUP(buf_cleanup) struct buf directory;
    buf_init(&page_crcs, BUF_MAX_NONE);
    buf_init(&directory, BUF_MAX_NONE);
    uint64_t table_offset;
    TRY(write_table(sink, &table_offset, &page_crcs, err));
    TRY(buf_check(&page_crcs, "page checksums", err));
    directory_write(sink, totals, table_offset, &page_crcs, &directory);
    TRY(buf_check(&directory, "a part's directory", err));
    if (directory.len > UINT32_MAX)
        return FAIL(err, OCH_TOO_LARGE, "a part's directory of %zu bytes", directory.len);
    TRY(part_sink_align(sink, SECTION_ALIGN, err));
    struct part_ref ref = {.offset = sink->begin, .head_len = head_len};
    ref.dir_offset = part_sink_offset(sink);
    ref.dir_len = (uint32_t)directory.len;
    ref.dir_crc = kernel_get()->crc32c(0, directory.at, directory.len);
    TRY(part_sink_raw(sink, directory.at, directory.len, err));
    TRY(part_sink_align(sink, SECTION_ALIGN, err));
    ref.size = part_sink_offset(sink) + FOOTER_SIZE;
    uint8_t footer[FOOTER_SIZE];
    footer_write(sink, &ref, footer);
    TRY(part_sink_raw(sink, footer, sizeof(footer), err));
    *ret_ref = ref;
    return OCH_OK;
}
