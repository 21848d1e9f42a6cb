/* SPDX-License-Identifier: Apache-2.0 */
/* From the store into the cache: whole pages, checked one by one before anyone sees them (D4, D5). */
#include "part/part_internal.h"

#include "kernel/kernel.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#define WHOLE_BYTES (1u << 20)   /* sections up to this are one extent */
#define INDEX_BYTES (4u << 20)   /* the same for IDHASH, where a look-up then pays for one pin */
#define PIECE_BYTES (256u << 10) /* else extents of about this */
#define TEXT_BYTES  (64u << 10)  /* of TEXT: a query wants a few short lists here and there */
#define CODE_BYTES \
    (128u << 10) /* of CODE, where it wants some hundred, and pays for each piece that it pins */
#define SEQ_BYTES   (16u << 10) /* of SEQ, where it wants single rows */
#define AHEAD_BYTES (1u << 20)  /* what a scan says that it will read */

/* ---- damage ---- */

och_code part_corrupt(const struct part *part, unsigned id, uint64_t offset, const char *what,
                      och_error *err)
{
    char text[UUID_TEXT_SIZE];
    uuid object;
    memcpy(object.bytes, part->info.ref.object.bytes, sizeof(object.bytes));
    uint64_t begin = part->info.ref.offset;
    begin += id == SECTION_CRCS ? part->table_offset : part->sections[id].offset;
    return FAIL(err, OCH_CORRUPT, "part %s, section %s, offset %" PRIu64 ": %s",
                uuid_format(object, text), part_section_name(id), begin + offset, what);
}

bool part_is_damage(och_code code, const och_error *failure)
{
    return code == OCH_CORRUPT || (code == OCH_IO && failure->os_errno == EIO);
}

void part_note_damage(struct part *part, unsigned id, const och_error *failure)
{
    uint32_t before = atomic_fetch_or_explicit(&part->damage, PART_BIT(id), memory_order_relaxed);
    if (before & PART_BIT(id))
        return;
    trace_line(part->env.trace, TRACE_WARN, "part",
               id == SECTION_CRCS ? "damaged checksums, each page is still checked by its own"
                                  : "damaged section, answers come from the records themselves",
               "section", part_section_name(id), "reason", failure->message, NULL);
}

/* ---- pages ---- */

static och_code load_table(void *context, struct cache_key key, uint8_t *at, size_t len,
                           och_error *err)
{
    struct part *part = context;
    uint64_t from = (uint64_t)key.index * TABLE_PAGE;
    och_code code = store_read(part->env.store, part->info.ref.object,
                               part->info.ref.offset + part->table_offset + from, at, len, err);
    if (code == OCH_CORRUPT)
        return part_corrupt(part, SECTION_CRCS, from, "the file ends before it", err);
    if (code != OCH_OK)
        return code;
    part_table_check(part, key.index, at, len);
    return OCH_OK;
}

void part_table_check(struct part *part, uint32_t index, const uint8_t *at, size_t len)
{
    uint32_t seed = part_page_seed(part->id, SECTION_CRCS, index);
    if (kernel_get()->crc32c(seed, at, len) == part->table_crcs[index])
        return;
    // the entries that are sound still prove their pages; the others refuse them
    och_error failure = {0};
    och_code ignored = part_corrupt(part, SECTION_CRCS, (uint64_t)index * TABLE_PAGE,
                                    "checksum mismatch", &failure);
    (void)ignored;
    part_note_damage(part, SECTION_CRCS, &failure);
}

uint64_t part_table_of(const struct part *part, uint64_t entry, struct cache_key *ret_key,
                       size_t *ret_len)
{
    uint64_t index = entry * 4 / TABLE_PAGE, size = part->table_count * 4;
    *ret_len = min_size((size_t)(size - index * TABLE_PAGE), TABLE_PAGE);
    *ret_key = (struct cache_key){part->owner, SECTION_CRCS, (uint32_t)index};
    return index * TABLE_PAGE;
}

static och_code pin_table(struct part *part, uint64_t entry, const struct extent **ret_extent,
                          och_error *err)
{
    struct cache_key key;
    size_t len;
    (void)part_table_of(part, entry, &key, &len);
    return cache_pin(part->env.cache, key, len, CACHE_HOT, load_table, part, ret_extent, err);
}

och_code part_check_pages(struct part *part, unsigned id, uint64_t page, const uint8_t *at,
                          size_t len, och_error *err)
{
    const struct part_section *section = &part->sections[id];
    const struct kernel *kernel = kernel_get();
    const struct extent *table = NULL;
    uint64_t per_table = TABLE_PAGE / 4, table_index = UINT64_MAX;
    och_code code = OCH_OK;
    for (size_t done = 0; code == OCH_OK && done < len; page++) {
        uint64_t entry = section->first_page + page;
        if (entry / per_table != table_index) {
            cache_unpin(part->env.cache, table);
            table = NULL;
            code = pin_table(part, entry, &table, err);
            if (code != OCH_OK)
                break;
            table_index = entry / per_table;
        }
        size_t step = min_size(len - done, section->page_size);
        assert(table != NULL); /* the first page has pinned it */
        uint32_t crc = kernel->crc32c(part_page_seed(part->id, id, page), at + done, step);
        if (crc != load_u32(table->at + entry % per_table * 4))
            code = part_corrupt(part, id, page * section->page_size, "checksum mismatch", err);
        done += step;
    }
    cache_unpin(part->env.cache, table);
    return code;
}

och_code part_load_pages(struct part *part, unsigned id, uint64_t page, uint8_t *at, size_t len,
                         och_error *err)
{
    const struct part_section *section = &part->sections[id];
    uint64_t from = page * section->page_size;
    assert(from <= section->size && len <= section->size - from);
    assert(len % section->page_size == 0 || from + len == section->size);
    och_code code = store_read(part->env.store, part->info.ref.object,
                               part->info.ref.offset + section->offset + from, at, len, err);
    if (code == OCH_CORRUPT)
        return part_corrupt(part, id, from, "the file ends before it", err);
    if (code != OCH_OK) {
        error_context(err, "section %s", part_section_name(id));
        return code;
    }
    return part_check_pages(part, id, page, at, len, err);
}

och_code part_load_range(struct part *part, unsigned id, uint64_t from, uint8_t *at, size_t len,
                         och_error *err)
{
    const struct part_section *section = &part->sections[id];
    assert(from <= section->size && len <= section->size - from);
    uint64_t end = from + len, page = from / section->page_size;
    uint64_t cover = page * section->page_size;
    uint64_t cover_end = round_up(end, section->page_size);
    if (!len)
        return OCH_OK;
    cover_end = cover_end < section->size ? cover_end : section->size;
    if (cover == from && cover_end == end)
        return part_load_pages(part, id, page, at, len, err);
    CLEANUP(mem_cleanup) uint8_t *pages = mem_alloc((size_t)(cover_end - cover));
    if (!pages)
        return FAIL_NO_MEMORY(err, "pages of a part");
    TRY(part_load_pages(part, id, page, pages, (size_t)(cover_end - cover), err));
    memcpy(at, pages + (from - cover), len);
    return OCH_OK;
}

/* ---- extents ---- */

/* Bytes of a piece, and up to which a section is one extent.  In parts written before CODE and SEQ had small pages, small pieces of them would
 * mostly read and check what lies around them. */
static uint32_t piece_bytes(const struct part_section *section, unsigned id, uint64_t *ret_whole)
{
    bool small = section->page_size < PAGE_LARGE;
    *ret_whole = id == SECTION_VEC            ? PIECE_BYTES
                 : id == SECTION_IDHASH       ? INDEX_BYTES
                 : id == SECTION_SEQ && small ? SEQ_BYTES
                                              : WHOLE_BYTES;
    if (id == SECTION_SEQ && small)
        return SEQ_BYTES;
    if (id == SECTION_CODE && small)
        return CODE_BYTES;
    return id == SECTION_TEXT ? TEXT_BYTES : PIECE_BYTES;
}

/* A section is one extent, or extents of `group` units; ends of groups fall on page ends where that costs little. */
uint64_t part_group_of(const struct part_section *section, unsigned id, uint32_t unit)
{
    uint64_t whole;
    uint32_t piece = piece_bytes(section, id, &whole);
    if (section->size <= whole || id == SECTION_SEQROWS)
        return section->size / unit + 1;
    uint64_t group = piece / unit ? piece / unit : 1;
    uint32_t a = section->page_size, b = unit;
    while (b) { // greatest common divisor
        uint32_t rest = a % b;
        a = b;
        b = rest;
    }
    uint64_t step = section->page_size / a;
    if (step * unit > 2 * (uint64_t)piece)
        return group;
    return group < step ? step : group - group % step;
}

struct range_load {
    struct part *part;
    uint64_t from;
};

static och_code load_range(void *context, struct cache_key key, uint8_t *at, size_t len,
                           och_error *err)
{
    struct range_load *load = context;
    return part_load_range(load->part, key.section, load->from, at, len, err);
}

static och_code load_seqrows(void *context, struct cache_key key, uint8_t *at, size_t len,
                             och_error *err)
{
    struct range_load *load = context;
    TRY(part_load_range(load->part, key.section, load->from, at, len, err));
    for (size_t i = 0; i < len; i += 4) {
        if (load_u32(at + i) >= load->part->info.rows)
            return part_corrupt(load->part, key.section, i, "row out of range", err);
    }
    return OCH_OK;
}

enum cache_heat part_heat(unsigned id)
{
    switch (id) {
    case SECTION_IDHASH:
    case SECTION_SEQ:
    case SECTION_NORM:
    case SECTION_CODE:
    case SECTION_CRCS:
        return CACHE_HOT;
    case SECTION_CODE8:
    case SECTION_META:
    case SECTION_TEXT:
    case SECTION_SPRS:
    case SECTION_TERM:
        return CACHE_WARM;
    default:
        return CACHE_COLD;
    }
}

void part_expect(struct part *part, unsigned id, uint64_t offset)
{
    const struct part_section *section = &part->sections[id];
    if (offset < section->size)
        store_expect(part->env.store, part->info.ref.object,
                     part->info.ref.offset + section->offset + offset,
                     min_size((size_t)(section->size - offset), AHEAD_BYTES));
}

static och_code load_scanned(void *context, struct cache_key key, uint8_t *at, size_t len,
                             och_error *err)
{
    struct range_load *load = context;
    part_expect(load->part, key.section, load->from + len);
    return part_load_range(load->part, key.section, load->from, at, len, err);
}

uint64_t part_piece_of(const struct part *part, unsigned id, uint32_t unit, uint64_t offset,
                       struct cache_key *ret_key, size_t *ret_len)
{
    const struct part_section *section = &part->sections[id];
    assert(unit && offset < section->size);
    uint64_t group_bytes = part_group_of(section, id, unit) * unit;
    uint64_t index = offset / group_bytes, from = index * group_bytes;
    uint64_t left = section->size - from;
    *ret_key = (struct cache_key){part->owner, id, (uint32_t)index};
    *ret_len = (size_t)(left < group_bytes ? left : group_bytes);
    return from;
}

och_code part_pin(struct part *part, unsigned id, uint32_t unit, uint64_t offset,
                  struct part_piece *ret_piece, och_error *err)
{
    struct cache_key key;
    size_t len;
    uint64_t from = part_piece_of(part, id, unit, offset, &key, &len);
    struct range_load load = {part, from};
    cache_loader loader = id == SECTION_SEQROWS ? load_seqrows
                          : id == SECTION_VEC   ? load_scanned // others want rows of it
                                                : load_range;
    TRY(cache_pin(part->env.cache, key, len, part_heat(id), loader, &load, &ret_piece->extent,
                  err));
    ret_piece->from = from;
    return OCH_OK;
}

och_code part_pin_derived(struct part *part, unsigned id, uint32_t unit, uint64_t offset,
                          uint64_t size, part_rebuild rebuild, struct part_piece *ret_piece,
                          och_error *err)
{
    uint32_t damage = atomic_load_explicit(&part->damage, memory_order_relaxed);
    if (LIKELY(part_has(part, id) && !(damage & PART_BIT(id)))) {
        och_error failure = {0};
        och_code code = part_pin(part, id, unit, offset, ret_piece, &failure);
        if (LIKELY(code == OCH_OK))
            return OCH_OK;
        if (!part_is_damage(code, &failure)) {
            if (err)
                *err = failure;
            return code;
        }
        part_note_damage(part, id, &failure);
    }
    struct cache_key key = {part->owner, id | PART_REBUILT, 0};
    TRY(cache_pin(part->env.cache, key, (size_t)size, CACHE_HOT, rebuild, part, &ret_piece->extent,
                  err));
    ret_piece->from = 0;
    return OCH_OK;
}

struct resident_load {
    struct part *part;
    uint64_t from;
    part_check check;
};

static och_code load_resident(void *context, struct cache_key key, uint8_t *at, size_t len,
                              och_error *err)
{
    struct resident_load *load = context;
    TRY(part_load_range(load->part, key.section, load->from, at, len, err));
    return load->check ? load->check(load->part, key.section, at, len, err) : OCH_OK;
}

och_code part_resident(struct part *part, unsigned id, uint64_t from, size_t len, part_check check,
                       const uint8_t **ret_at, och_error *err)
{
    // pairs with the exchange below
    const struct extent *extent = atomic_load_explicit(&part->resident[id], memory_order_acquire);
    if (UNLIKELY(!extent)) {
        struct resident_load load = {part, from, check};
        struct cache_key key = {part->owner, id, UINT32_MAX};
        TRY(cache_pin(part->env.cache, key, len, CACHE_HOT, load_resident, &load, &extent, err));
        const struct extent *before = NULL;
        if (!atomic_compare_exchange_strong_explicit(&part->resident[id], &before, extent,
                                                     memory_order_acq_rel, memory_order_acquire)) {
            cache_unpin(part->env.cache, extent); // another thread keeps it
            extent = before;
        }
    }
    *ret_at = extent->at;
    return OCH_OK;
}
