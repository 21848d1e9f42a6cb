/* SPDX-License-Identifier: Apache-2.0 */
/* Make all checksums of a changed part right again, so that what is behind them is tested; and a store that is just these bytes. */
#ifndef TESTS_FUZZ_PART_RESEAL_H
#define TESTS_FUZZ_PART_RESEAL_H

#include "kernel/kernel.h"
#include "part/part.h"
#include "part/part_format.h"
#include "part/part_meta.h"

static inline void reseal_section(uint8_t *at, size_t table, uint64_t table_count, uuid id,
                                  uint8_t *entry, uint64_t limit)
{
    uint32_t section = load_u32(entry), page_size = load_u32(entry + 4);
    uint64_t offset = load_u64(entry + 8), size = load_u64(entry + 16);
    uint64_t first = load_u32(entry + 32);
    if (!page_size || offset > limit || size > limit - offset)
        return;
    for (uint64_t done = 0, page = 0; done < size && first + page < table_count; page++) {
        size_t len = min_size((size_t)(size - done), page_size);
        uint32_t crc =
            kernel_get()->crc32c(part_page_seed(id, section, page), at + offset + done, len);
        store_u32(at + table + 4 * (first + page), crc);
        done += len;
    }
}

/* The footer's figures are believed as far as they stay inside the bytes. */
static inline void reseal(uint8_t *at, size_t size)
{
    const struct kernel *kernel = kernel_get();
    if (size < HEADER_SIZE + FOOTER_SIZE)
        return;
    uint8_t *footer = at + size - FOOTER_SIZE;
    uint64_t limit = size - FOOTER_SIZE, dir_at = load_u64(footer + 40);
    uint32_t dir_len = load_u32(footer + 48);
    uuid id;
    memcpy(at, HEADER_MAGIC, 8);
    memcpy(footer, FOOTER_MAGIC, 8);
    store_u16(at + 8, PART_MAJOR);
    store_u16(footer + 8, PART_MAJOR);
    store_u64(footer + 32, size);
    if (dir_at <= limit && dir_len <= limit - dir_at && dir_len >= DIRECTORY_SIZE) {
        uint8_t *dir = at + dir_at;
        uint32_t entries = load_u32(dir + 8), table_pages = load_u32(dir + 12);
        uint64_t table = load_u64(dir + 32), count = load_u64(dir + 40);
        store_u32(dir, DIRECTORY_MAGIC);
        store_u16(dir + 4, PART_MAJOR);
        memcpy(id.bytes, dir + 16, 16);
        memcpy(at + 16, id.bytes, 16);
        bool fits = table <= limit && count <= (limit - table) / 4 &&
                    entries <= (dir_len - DIRECTORY_SIZE) / ENTRY_SIZE;
        for (uint32_t i = 0; fits && i < entries; i++)
            reseal_section(at, (size_t)table, count, id, dir + DIRECTORY_SIZE + ENTRY_SIZE * i,
                           limit);
        uint8_t *crcs = dir + DIRECTORY_SIZE + (uint64_t)ENTRY_SIZE * (fits ? entries : 0);
        for (uint64_t page = 0; fits && page < table_pages; page++) {
            uint64_t done = page * TABLE_PAGE;
            if (done >= 4 * count || crcs + 4 * page + 4 > dir + dir_len)
                break;
            size_t len = min_size((size_t)(4 * count - done), TABLE_PAGE);
            store_u32(crcs + 4 * page, kernel->crc32c(part_page_seed(id, SECTION_CRCS, page),
                                                      at + table + done, len));
        }
        store_u32(footer + 52, kernel->crc32c(0, dir, dir_len));
    }
    store_u32(at + 60, kernel->crc32c(0, at, 60));
    store_u32(footer + 60, kernel->crc32c(0, footer, 60));
}

struct bytes_store {
    struct store store;
    const uint8_t *at;
    size_t size;
};

static inline och_code bytes_read(struct store *store, object_id id, uint64_t offset, void *at,
                                  size_t len, och_error *err)
{
    const struct bytes_store *bytes = CONTAINER_OF(store, struct bytes_store, store);
    (void)id;
    if (offset > bytes->size || len > bytes->size - offset)
        return FAIL(err, OCH_CORRUPT, "the object ends too early");
    if (len)
        memcpy(at, bytes->at + offset, len);
    return OCH_OK;
}

static inline void bytes_expect(struct store *store, object_id id, uint64_t offset, uint64_t len)
{
    (void)store, (void)id, (void)offset, (void)len;
}

static const struct store_ops bytes_ops = {.read = bytes_read, .expect = bytes_expect};

static inline struct bytes_store bytes_store_of(const uint8_t *at, size_t size)
{
    return (struct bytes_store){{&bytes_ops}, at, size};
}

/* Filters by the metadata index, on keys that the corpus has. */
static inline uint64_t part_ask_filters(struct part *part)
{
    static const uint8_t ops[] = {FILTER_EQ, FILTER_LT, FILTER_NE, FILTER_EXISTS, FILTER_CONTAINS};
    uint64_t sum = 0, sure[META_CHUNK_WORDS], maybe[META_CHUNK_WORDS];
    for (size_t i = 0; i < 3 * COUNT_OF(ops); i++) {
        static const char *const keys[] = {"a", "b", "c"};
        uint8_t op = ops[i / 3];
        struct filter_value value = {.kind = FILTER_INT, .integer = 50};
        if (op == FILTER_EXISTS)
            value = (struct filter_value){.kind = FILTER_BOOL, .boolean = true};
        struct filter_node node = {
            .op = op, .key = slice_of(keys[i % 3]), .values = &value, .value_count = 1};
        struct part_filter *filter = NULL;
        struct arena arena;
        bool usable;
        arena_init(&arena, NULL, 64 << 20);
        if (part_filter_new(part, &node, NULL, &arena, &filter, NULL) == OCH_OK && filter &&
            part_filter_chunk(filter, 0, sure, maybe, &usable, NULL) == OCH_OK && usable)
            sum += sure[0];
        arena_done(&arena);
    }
    return sum;
}

/* Ask an open part everything.  Any answer will do, and any error but a bug's. */
static inline void part_ask_everything(struct part *part, struct cache *cache)
{
    struct arena arena;
    struct part_reads reads;
    arena_init(&arena, NULL, 0);
    part_reads_init(&reads, cache, &arena);
    uint32_t rows = part_rows(part) < 3000 ? part_rows(part) : 3000, found;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < rows; i++) {
        uint32_t row = i % 2 ? part_rows(part) - 1 - i / 2 : i / 2;
        struct record record;
        for (unsigned field = RECORD_ID; field <= RECORD_EXPIRY; field *= 2) {
            if (part_read(part, &reads, row, field, &record, NULL) != OCH_OK)
                continue;
            if (record.id.at &&
                part_find(part, record.id, slice_hash(record.id), &found, NULL) == OCH_OK)
                sum += found;
            if (record.document.len)
                sum += record.document.at[record.document.len - 1];
            if (record.vector)
                sum += record.vector[part_info(part)->dimension - 1] > 0;
        }
        int64_t seq;
        if (part_seq(part, row, &seq, NULL) == OCH_OK)
            sum += (uint64_t)seq;
        const float *floats;
        const struct extent *extent;
        uint32_t count;
        if (part_vectors(part, row, &floats, &count, &extent, NULL) == OCH_OK) {
            if (count)
                sum += floats[(size_t)count * part_info(part)->dimension - 1] > 0;
            cache_unpin(cache, extent);
        }
        if (part_norms(part, row, &floats, &count, &extent, NULL) == OCH_OK) {
            if (count)
                sum += floats[count - 1] > 0;
            cache_unpin(cache, extent);
        }
    }
    if (part_find(part, SLICE("x"), sum, &found, NULL) == OCH_OK)
        sum += found;
    const uint32_t *order;
    if (part_seq_order(part, &reads, &order, NULL) == OCH_OK && part_rows(part))
        sum += order[part_rows(part) - 1];
    const uint64_t *present;
    if (part_vector_presence(part, &reads, &present, NULL) == OCH_OK && present)
        sum += present[(part_rows(part) - 1) / 64];
    slice *kills, names[4];
    size_t kill_count;
    if (part_kills(part, &arena, &kills, &kill_count, NULL) == OCH_OK && kill_count)
        sum += kills[kill_count - 1].len;
    part_names(part, &names[0], &names[1], &names[2], &names[3]);
    struct filter_value needle = {.kind = FILTER_STRING, .string = SLICE("the")};
    struct filter_node leaf = {.op = FILTER_DOC_CONTAINS, .values = &needle, .value_count = 1};
    struct rows_answer answer;
    if (part_text_rows(part, &leaf, part_rows(part), NULL, &arena, &answer, NULL) == OCH_OK)
        sum += answer.maybe.count;
    sum += part_ask_filters(part);
    struct buf report;
    uint64_t faults;
    buf_init(&report, 1 << 20);
    if (part_verify(part, &report, &faults, NULL) == OCH_OK)
        sum += faults;
    buf_done(&report);
    static volatile uint64_t used; // so that nothing above is left out
    used = sum;
    (void)used;
    part_reads_done(&reads);
    arena_done(&arena);
}
#endif
