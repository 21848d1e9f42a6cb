/* SPDX-License-Identifier: Apache-2.0 */
/* Names and rules of sections. */
#include "part/part_format.h"

#include "kernel/kernel.h"

#define BIT(id) (1u << (id))

static const char *const names[SECTION_COUNT] = {
    [SECTION_HEAD] = "HEAD",       [SECTION_MEAN] = "MEAN",     [SECTION_LIST] = "LIST",
    [SECTION_CENTQ] = "CENTQ",     [SECTION_SUPER] = "SUPER",   [SECTION_IDFILTER] = "IDFILTER",
    [SECTION_IDHASH] = "IDHASH",   [SECTION_IDS] = "IDS",       [SECTION_SEQ] = "SEQ",
    [SECTION_SEQROWS] = "SEQROWS", [SECTION_VEC] = "VEC",       [SECTION_VPRES] = "VPRES",
    [SECTION_NORM] = "NORM",       [SECTION_VALUES] = "VALUES", [SECTION_DOCS] = "DOCS",
    [SECTION_URIS] = "URIS",       [SECTION_EXPIRY] = "EXPIRY", [SECTION_KILL] = "KILL",
    [SECTION_NAMES] = "NAMES",     [SECTION_CODE] = "CODE",     [SECTION_CODE8] = "CODE8",
    [SECTION_CENT] = "CENT",       [SECTION_ROWMAP] = "ROWMAP", [SECTION_META] = "META",
    [SECTION_TEXT] = "TEXT",       [SECTION_SPRS] = "SPRS",     [SECTION_CRCS] = "checksum table",
    [SECTION_TERM] = "TERM"};

const char *part_section_name(unsigned id)
{
    return id < SECTION_COUNT && names[id] ? names[id] : "?";
}

uint32_t part_section_page_size(unsigned id)
{
    const uint32_t small = BIT(SECTION_VEC) | BIT(SECTION_CODE) | BIT(SECTION_CODE8) |
                           BIT(SECTION_SEQ) | BIT(SECTION_DOCS) | BIT(SECTION_VALUES) |
                           BIT(SECTION_IDS) | BIT(SECTION_URIS);
    return id < SECTION_COUNT && small & BIT(id) ? PAGE_SMALL : PAGE_LARGE;
}

bool part_section_is_derived(unsigned id)
{
    const uint32_t derived =
        BIT(SECTION_MEAN) | BIT(SECTION_LIST) | BIT(SECTION_CENTQ) | BIT(SECTION_SUPER) |
        BIT(SECTION_IDFILTER) | BIT(SECTION_IDHASH) | BIT(SECTION_SEQROWS) | BIT(SECTION_NORM) |
        BIT(SECTION_CODE) | BIT(SECTION_CODE8) | BIT(SECTION_CENT) | BIT(SECTION_ROWMAP) |
        BIT(SECTION_META) | BIT(SECTION_TEXT) | BIT(SECTION_SPRS) | BIT(SECTION_TERM);
    return id < SECTION_COUNT && derived & BIT(id);
}

uint32_t part_page_seed(uuid part, unsigned id, uint64_t page)
{
    uint8_t place[28];
    memcpy(place, part.bytes, 16);
    store_u32(place + 16, id);
    store_u64(place + 20, page);
    return kernel_get()->crc32c(0, place, sizeof(place));
}
