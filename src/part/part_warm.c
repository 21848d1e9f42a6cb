/* SPDX-License-Identifier: Apache-2.0 */
/* Reading ahead of the first query: the sections that searches and filters look at, into the cache, hottest first, as long as nothing as hot has to
 * leave for them.  The pieces are those that the readers themselves pin. */
#include "part/part_internal.h"

/* In the order of loading.  `unit` as the section's readers cut it; 0: asked when it is known. */
static const struct {
    uint8_t section;
    enum part_warmth least; /* from which level on */
    uint32_t unit;
} sections[] = {
    {SECTION_IDHASH, PART_WARM_HOT, 8},   {SECTION_SEQ, PART_WARM_HOT, 0},
    {SECTION_SEQROWS, PART_WARM_HOT, 4},  {SECTION_NORM, PART_WARM_HOT, 4},
    {SECTION_CODE, PART_WARM_HOT, 0},     {SECTION_CODE8, PART_WARM_CODES, 0},
    {SECTION_META, PART_WARM_INDEXES, 1}, {SECTION_TEXT, PART_WARM_INDEXES, 1},
    {SECTION_SPRS, PART_WARM_INDEXES, 1}, {SECTION_TERM, PART_WARM_INDEXES, 1},
    {SECTION_VEC, PART_WARM_VECTORS, 0},
};

static uint32_t unit_of(const struct part *part, unsigned id, uint32_t unit,
                        const struct vector_index *index)
{
    switch (id) {
    case SECTION_SEQ:
        return (uint32_t)part_seq_stride(part->sections[id].aux);
    case SECTION_CODE:
        return index ? (uint32_t)code_block_size(index->code_dim) : 0;
    case SECTION_CODE8:
        return index ? (uint32_t)code_row_size(index->code_dim) : 0;
    case SECTION_VEC:
        return 4 * part->info.dimension;
    default:
        return unit;
    }
}

/* Damage of a derived section is noted as its readers would, and is no failure; nor is a full cache. */
static och_code give_up(struct part *part, unsigned id, och_code code, const och_error *failure,
                        struct part_warmed *warmed, och_error *err)
{
    if (code == OCH_BUSY) {
        warmed->full = true;
        return OCH_OK;
    }
    if (part_is_damage(code, failure) && id != SECTION_VEC && id != SECTION_SEQ) {
        part_note_damage(part, id, failure);
        return OCH_OK;
    }
    if (err)
        *err = *failure;
    return code;
}

/* One section, piece by piece. */
static och_code warm_section(struct part *part, unsigned id, uint32_t unit,
                             const struct limits_of_work *limits, struct part_warmed *warmed,
                             och_error *err)
{
    uint64_t size = part->sections[id].size;
    for (uint64_t offset = 0; offset < size;) {
        struct part_piece piece;
        struct cache_key key;
        size_t len;
        och_error failure = {0};
        uint64_t from = part_piece_of(part, id, unit, offset, &key, &len);
        TRY(work_check(limits, err));
        const struct extent *there;
        if (cache_peek(part->env.cache, key, &there)) {
            cache_unpin(part->env.cache, there);
        } else if (cache_room(part->env.cache, part_heat(id)) < len) {
            warmed->full = true;
            return OCH_OK;
        } else {
            och_code code = part_pin(part, id, unit, offset, &piece, &failure);
            if (code != OCH_OK)
                return give_up(part, id, code, &failure, warmed, err);
            cache_unpin(part->env.cache, piece.extent);
        }
        warmed->bytes += len;
        offset = from + len;
    }
    return OCH_OK;
}

/* What stays as long as the part is open: small, and read by every first look. */
static och_code warm_resident(struct part *part, enum part_warmth level, och_error *err)
{
    static const uint8_t blocks[] = {SECTION_IDS, SECTION_VALUES, SECTION_DOCS, SECTION_URIS};
    uint32_t row;
    TRY(part_find(part, SLICE(""), slice_hash(SLICE("")), &row, err));
    for (size_t i = 0; i < COUNT_OF(blocks) && part->info.rows; i++) {
        struct part_run run;
        if (part_has(part, blocks[i]))
            TRY(part_run_find(part, blocks[i], 0, &run, err));
    }
    if (level < PART_WARM_INDEXES)
        return OCH_OK;
    const struct meta_index *meta;
    const struct text_index *text;
    TRY(part_meta_index(part, &meta, err));
    return part_text_index(part, &text, err);
}

och_code part_warm(struct part *part, enum part_warmth level, const struct limits_of_work *limits,
                   struct part_warmed *ret_warmed, och_error *err)
{
    const struct vector_index *index;
    TRY(part_vector_index(part, &index, err));
    TRY(warm_resident(part, level, err));
    for (size_t i = 0; i < COUNT_OF(sections); i++) {
        unsigned id = sections[i].section;
        if (sections[i].least > level || !part_has(part, id) || part_damage(part) & PART_BIT(id))
            continue;
        uint32_t unit = unit_of(part, id, sections[i].unit, index);
        if (!unit)
            continue;
        ret_warmed->wanted_bytes += part->sections[id].size;
        if (!ret_warmed->full)
            TRY(warm_section(part, id, unit, limits, ret_warmed, err));
    }
    return OCH_OK;
}
