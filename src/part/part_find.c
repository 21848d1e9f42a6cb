/* SPDX-License-Identifier: Apache-2.0 */
/* From an id to its row: filter, hash index, then the id itself, always compared.  Without a sound index one is made from the ids. */
#include "part/part_internal.h"
#include "part/part_sink.h"

bool part_filter_has(const uint8_t *filter, uint64_t size, uint64_t hash)
{
    struct part_filter_bits want = part_filter_of(hash, size / FILTER_BLOCK);
    const uint8_t *block = filter + want.block * FILTER_BLOCK;
    unsigned all = 1;
    for (unsigned i = 0; i < FILTER_HASH; i++)
        all &= (unsigned)block[want.bits[i] / 8] >> want.bits[i] % 8;
    return all & 1;
}

/* False: certainly not there.  A filter that cannot be had says "perhaps". */
static och_code ask_filter(struct part *part, uint64_t hash, bool *ret_perhaps, och_error *err)
{
    const struct part_section *section = &part->sections[SECTION_IDFILTER];
    *ret_perhaps = true;
    if (!section->size || part_damage(part) & PART_BIT(SECTION_IDFILTER))
        return OCH_OK;
    const uint8_t *filter;
    och_error failure = {0};
    och_code code =
        part_resident(part, SECTION_IDFILTER, 0, (size_t)section->size, NULL, &filter, &failure);
    if (code == OCH_OK) {
        *ret_perhaps = part_filter_has(filter, section->size, hash);
        return OCH_OK;
    }
    if (part_is_damage(code, &failure)) {
        part_note_damage(part, SECTION_IDFILTER, &failure);
        return OCH_OK;
    }
    if (code == OCH_BUSY) // no room for it now; the index needs less
        return OCH_OK;
    if (err)
        *err = failure;
    return code;
}

/* All ids' hashes, in row order. */
static och_code hash_ids(struct part *part, uint64_t *hashes, och_error *err)
{
    for (uint32_t row = 0; row < part->info.rows;) {
        struct part_block_view block;
        TRY(part_block_pin(part, SECTION_IDS, row, true, &block, err));
        for (uint32_t i = 0; i < block.rows; i++)
            hashes[block.first_row + i] = slice_hash(part_block_field(block.base, block.rows, i));
        row = block.first_row + block.rows;
        cache_unpin(part->env.cache, block.extent);
    }
    return OCH_OK;
}

static och_code rebuild_idhash(void *context, struct cache_key key, uint8_t *at, size_t len,
                               och_error *err)
{
    struct part *part = context;
    (void)key;
    size_t bytes;
    CLEANUP(mem_cleanup) uint64_t *hashes = NULL;
    if (mul_overflows(part->info.rows, sizeof(*hashes), &bytes) || !(hashes = mem_alloc(bytes)))
        return FAIL_NO_MEMORY(err, "an id index");
    TRY(hash_ids(part, hashes, err));
    memset(at, 0, len);
    part_idhash_fill(at, hashes, part->info.rows);
    return OCH_OK;
}

/* A moving view of the index: the piece with a word stays pinned until another is wanted. */
struct index_view {
    struct part *part;
    struct part_piece piece;
};

static void index_done(struct index_view *view)
{
    cache_unpin(view->part->env.cache, view->piece.extent);
    view->piece = (struct part_piece){0};
}

static och_code index_word(struct index_view *view, uint64_t offset, uint32_t *ret_word,
                           och_error *err)
{
    struct part_piece *piece = &view->piece;
    if (!piece->extent || offset < piece->from || offset - piece->from >= piece->extent->len) {
        index_done(view);
        TRY(part_pin_derived(view->part, SECTION_IDHASH, 8, offset,
                             part_idhash_size(view->part->info.rows), rebuild_idhash, piece, err));
    }
    *ret_word = load_u32(piece->extent->at + (offset - piece->from));
    return OCH_OK;
}

static och_code same_id(struct part *part, uint32_t row, slice id, bool *ret_same, och_error *err)
{
    struct part_block_view block;
    TRY(part_block_pin(part, SECTION_IDS, row, false, &block, err));
    *ret_same = slice_equal(id, part_block_field(block.base, block.rows, row - block.first_row));
    cache_unpin(part->env.cache, block.extent);
    return OCH_OK;
}

/* A figure that no writer makes: once noted, the next attempt uses an index made anew. */
static void note_bad_index(struct part *part, uint64_t offset)
{
    och_error failure = {0};
    if (part_corrupt(part, SECTION_IDHASH, offset, "figures out of range", &failure) != OCH_OK)
        part_note_damage(part, SECTION_IDHASH, &failure);
}

static och_code search(struct index_view *view, slice id, uint64_t hash, bool *ret_sound,
                       uint32_t *ret_row, och_error *err)
{
    struct part *part = view->part;
    uint32_t rows = part->info.rows, bucket = part_idhash_bucket(hash, rows), start, end;
    uint64_t entries = part_idhash_entries_at(rows);
    TRY(index_word(view, 8 + 4 * (uint64_t)bucket, &start, err));
    TRY(index_word(view, 12 + 4 * (uint64_t)bucket, &end, err));
    *ret_row = PART_NO_ROW;
    *ret_sound = start <= end && end <= rows;
    for (uint32_t i = start; *ret_sound && i < end; i++) {
        uint32_t tag, row;
        TRY(index_word(view, entries + 8 * (uint64_t)i, &tag, err));
        if (tag != (uint32_t)hash)
            continue;
        TRY(index_word(view, entries + 8 * (uint64_t)i + 4, &row, err));
        if (row >= rows) {
            *ret_sound = false;
            break;
        }
        bool same;
        TRY(same_id(part, row, id, &same, err));
        if (same) {
            *ret_row = row;
            return OCH_OK;
        }
    }
    return OCH_OK;
}

och_code part_find(struct part *part, slice id, uint64_t hash, uint32_t *ret_row, och_error *err)
{
    bool perhaps = part->info.rows > 0, sound = false;
    if (perhaps)
        TRY(ask_filter(part, hash, &perhaps, err));
    if (!perhaps) {
        *ret_row = PART_NO_ROW;
        return OCH_OK;
    }
    for (int attempt = 0; attempt < 2; attempt++) {
        struct index_view view = {.part = part};
        uint32_t row = PART_NO_ROW;
        och_code code = search(&view, id, hash, &sound, &row, err);
        index_done(&view);
        if (code != OCH_OK)
            return code;
        if (sound) {
            *ret_row = row;
            return OCH_OK;
        }
        note_bad_index(part, part_idhash_entries_at(part->info.rows));
    }
    return part_corrupt(part, SECTION_IDS, 0, "no index can be made of it", err);
}
