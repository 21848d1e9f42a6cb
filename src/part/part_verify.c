/* SPDX-License-Identifier: Apache-2.0 */
/* Every page of a part, and what derived sections say against what primary ones hold. */
#include "part/part_internal.h"

#include "kernel/kernel.h"
#include "model/meta.h"

#include <stdio.h>

#define CHUNK_BYTES (1u << 20)

struct verify {
    struct part *part;
    struct buf *report;
    uint64_t faults;
    uint32_t bad; /* sections with a fault, by bit */
};

/* Write the fault down and go on, or pass on what is no fault of the bytes. */
static och_code note(struct verify *verify, unsigned id, och_code code, const och_error *failure,
                     och_error *err)
{
    if (!part_is_damage(code, failure)) {
        if (err)
            *err = *failure;
        return code;
    }
    verify->faults++;
    verify->bad |= PART_BIT(id);
    buf_text(verify->report, failure->message);
    buf_byte(verify->report, '\n');
    return OCH_OK;
}

static och_code note_corrupt(struct verify *verify, unsigned id, uint64_t offset, const char *what,
                             och_error *err)
{
    och_error failure = {0};
    och_code code = part_corrupt(verify->part, id, offset, what, &failure);
    return note(verify, id, code, &failure, err);
}

static bool is_sound(const struct verify *verify, unsigned id)
{
    return part_has(verify->part, id) && !(verify->bad & PART_BIT(id));
}

/* ---- pages ---- */

static och_code verify_table(struct verify *verify, uint8_t *chunk, och_error *err)
{
    struct part *part = verify->part;
    const struct part_ref *ref = &part->info.ref;
    uint64_t size = part->table_count * 4;
    for (uint64_t at = 0; at < size; at += TABLE_PAGE) {
        size_t len = min_size((size_t)(size - at), TABLE_PAGE);
        och_error failure = {0};
        och_code code = store_read(part->env.store, ref->object,
                                   ref->offset + part->table_offset + at, chunk, len, &failure);
        uint32_t seed = part_page_seed(part->id, SECTION_CRCS, at / TABLE_PAGE);
        if (code != OCH_OK)
            TRY(note(verify, SECTION_CRCS, code, &failure, err));
        else if (kernel_get()->crc32c(seed, chunk, len) != part->table_crcs[at / TABLE_PAGE])
            TRY(note_corrupt(verify, SECTION_CRCS, at, "checksum mismatch", err));
    }
    return OCH_OK;
}

static och_code verify_pages(struct verify *verify, unsigned id, uint8_t *chunk, och_error *err)
{
    const struct part_section *section = &verify->part->sections[id];
    for (uint64_t at = 0; at < section->size; at += CHUNK_BYTES) {
        size_t len = min_size((size_t)(section->size - at), CHUNK_BYTES);
        och_error failure = {0};
        och_code code =
            part_load_pages(verify->part, id, at / section->page_size, chunk, len, &failure);
        if (code == OCH_OK)
            continue;
        for (size_t done = 0; done < len; done += section->page_size) { // name each bad page
            size_t step = min_size(len - done, section->page_size);
            code = part_load_pages(verify->part, id, (at + done) / section->page_size, chunk, step,
                                   &failure);
            if (code != OCH_OK)
                TRY(note(verify, id, code, &failure, err));
        }
    }
    return OCH_OK;
}

static och_code verify_footer(struct verify *verify, och_error *err)
{
    const struct part_ref *mine = &verify->part->info.ref;
    struct part_ref ref;
    uuid collection;
    och_error failure = {0};
    och_code code = part_ref_at_end(verify->part->env.store, mine->object,
                                    mine->offset + mine->size, &ref, &collection, &failure);
    if (code != OCH_OK)
        return note(verify, SECTION_NONE, code, &failure, err);
    if (ref.offset != mine->offset || ref.size != mine->size ||
        ref.dir_offset != mine->dir_offset || ref.dir_len != mine->dir_len ||
        ref.dir_crc != mine->dir_crc || ref.head_len != mine->head_len)
        return note_corrupt(verify, SECTION_NONE, mine->size - FOOTER_SIZE,
                            "the footer is of another part", err);
    return OCH_OK;
}

/* ---- what the bytes say ---- */

/* Decode all blocks; every id must be found at its row, metadata must be well-formed. */
static och_code verify_row(struct verify *verify, unsigned id, uint32_t row, slice field,
                           const uint8_t *filter, och_error *err)
{
    struct part *part = verify->part;
    if (id == SECTION_VALUES && field.at && meta_validate(field, NULL) != OCH_OK)
        return note_corrupt(verify, id, 0, "malformed metadata", err);
    if (id != SECTION_IDS)
        return OCH_OK;
    uint64_t hash = slice_hash(field);
    if (filter && !part_filter_has(filter, part->sections[SECTION_IDFILTER].size, hash))
        TRY(note_corrupt(verify, SECTION_IDFILTER, 0, "an id is missing", err));
    uint32_t found;
    och_error failure = {0};
    och_code code = part_find(part, field, hash, &found, &failure);
    if (code != OCH_OK)
        return note(verify, SECTION_IDHASH, code, &failure, err);
    if (found != row)
        return note_corrupt(verify, SECTION_IDHASH, 0, "an id leads to another row", err);
    return OCH_OK;
}

static och_code verify_blocks(struct verify *verify, unsigned id, och_error *err)
{
    struct part *part = verify->part;
    const uint8_t *filter = NULL;
    if (id == SECTION_IDS && is_sound(verify, SECTION_IDFILTER))
        TRY(part_resident(part, SECTION_IDFILTER, 0, (size_t)part->sections[SECTION_IDFILTER].size,
                          NULL, &filter, err));
    for (uint32_t row = 0; row < part->info.rows && is_sound(verify, id);) {
        struct part_block_view block;
        och_error failure = {0};
        och_code code = part_block_pin(part, id, row, true, &block, &failure);
        if (code != OCH_OK)
            return note(verify, id, code, &failure, err);
        for (uint32_t i = 0; code == OCH_OK && i < block.rows && verify->faults < 1000; i++)
            code = verify_row(verify, id, block.first_row + i,
                              part_block_field(block.base, block.rows, i), filter, err);
        row = block.first_row + block.rows;
        cache_unpin(part->env.cache, block.extent);
        TRY(code);
    }
    return OCH_OK;
}

static och_code verify_norms(struct verify *verify, och_error *err)
{
    struct part *part = verify->part;
    uint32_t dimension = part->info.dimension;
    for (uint32_t row = 0; row < part->info.rows;) {
        const struct extent *vector_extent, *norm_extent;
        const float *vectors, *norms;
        uint32_t vector_count, norm_count;
        TRY(part_vectors(part, row, &vectors, &vector_count, &vector_extent, err));
        och_code code = part_norms(part, row, &norms, &norm_count, &norm_extent, err);
        if (code != OCH_OK) {
            cache_unpin(part->env.cache, vector_extent);
            return code;
        }
        uint32_t count = vector_count < norm_count ? vector_count : norm_count, wrong = 0;
        for (uint32_t i = 0; i < count; i++) {
            const float *vector = vectors + (size_t)i * dimension;
            float norm = kernel_get()->dot_f32(vector, vector, dimension);
            bool nan = norm != norm && norms[i] != norms[i];
            wrong += !nan && memcmp(&norm, &norms[i], 4) != 0;
        }
        cache_unpin(part->env.cache, vector_extent);
        cache_unpin(part->env.cache, norm_extent);
        if (wrong)
            return note_corrupt(verify, SECTION_NORM, 4 * (uint64_t)row,
                                "norms are not those of the vectors", err);
        row += count;
    }
    return OCH_OK;
}

static och_code verify_order(struct verify *verify, och_error *err)
{
    struct part *part = verify->part;
    struct arena arena;
    struct part_reads reads;
    const uint32_t *rows;
    int64_t last = INT64_MIN;
    arena_init(&arena, NULL, 0);
    part_reads_init(&reads, part->env.cache, &arena);
    och_code code = part_seq_order(part, &reads, &rows, err);
    for (uint32_t i = 0; code == OCH_OK && i < part->info.rows; i++) {
        int64_t seq;
        code = part_seq(part, rows[i], &seq, err);
        if (code == OCH_OK && i && seq <= last) {
            unsigned id = part_has(part, SECTION_SEQROWS) ? SECTION_SEQROWS : SECTION_SEQ;
            code = note_corrupt(verify, id, 0, "rows are not in ascending seq", err);
            break;
        }
        last = seq;
    }
    part_reads_done(&reads);
    arena_done(&arena);
    return code;
}

static och_code verify_lists(struct verify *verify, och_error *err)
{
    struct part *part = verify->part;
    struct arena arena;
    slice *kills;
    size_t count;
    och_error failure = {0};
    arena_init(&arena, NULL, 0);
    och_code code = OCH_OK;
    if (!(verify->bad & PART_BIT(SECTION_KILL)))
        code = part_kills(part, &arena, &kills, &count, &failure);
    arena_done(&arena);
    if (code != OCH_OK)
        TRY(note(verify, SECTION_KILL, code, &failure, err));
    if (!is_sound(verify, SECTION_VPRES))
        return OCH_OK;
    const uint64_t *present;
    uint32_t vectors = 0;
    TRY(part_vector_presence(part, NULL, &present, err));
    for (uint32_t row = 0; present && row < part->info.rows; row++)
        vectors += (uint32_t)(present[row / 64] >> row % 64 & 1);
    if (present && vectors != part->vector_count)
        return note_corrupt(verify, SECTION_VPRES, 0, "not as many vectors as said", err);
    return OCH_OK;
}

/* The index's figures; its codes only by their pages. */
static och_code verify_index(struct verify *verify, och_error *err)
{
    struct part *part = verify->part;
    const struct vector_index *index;
    if (!is_sound(verify, SECTION_MEAN) || !is_sound(verify, SECTION_LIST) ||
        !is_sound(verify, SECTION_CENTQ))
        return OCH_OK;
    TRY(part_vector_index(part, &index, err));
    if (!index && part_damage(part) & PART_BIT(SECTION_MEAN))
        return note_corrupt(verify, SECTION_MEAN, 0, "figures that do not fit together", err);
    return OCH_OK;
}

/* An index built again from sound documents must be the stored one. */
static och_code verify_text(struct verify *verify, och_error *err)
{
    struct part *part = verify->part;
    const char *fault;
    uint64_t offset;
    if (!is_sound(verify, SECTION_TEXT) || verify->bad & PART_BIT(SECTION_DOCS))
        return OCH_OK;
    TRY(part_text_check(part, &fault, &offset, err));
    if (!fault && part_damage(part) & PART_BIT(SECTION_TEXT))
        fault = "figures that do not fit together";
    return fault ? note_corrupt(verify, SECTION_TEXT, offset, fault, err) : OCH_OK;
}

/* An index built again from sound metadata must be the stored one. */
static och_code verify_meta(struct verify *verify, och_error *err)
{
    struct part *part = verify->part;
    const char *fault;
    uint64_t offset;
    if (!is_sound(verify, SECTION_META) || verify->bad & PART_BIT(SECTION_VALUES))
        return OCH_OK;
    TRY(part_meta_check(part, &fault, &offset, err));
    if (!fault && part_damage(part) & PART_BIT(SECTION_META))
        fault = "figures that do not fit together";
    return fault ? note_corrupt(verify, SECTION_META, offset, fault, err) : OCH_OK;
}

/* An index built again from sound metadata, or documents, must be the stored one. */
static och_code verify_sparse(struct verify *verify, unsigned id, unsigned made_of, och_error *err)
{
    struct part *part = verify->part;
    const char *fault;
    uint64_t offset;
    if (!is_sound(verify, id) || verify->bad & PART_BIT(made_of))
        return OCH_OK;
    TRY(part_sparse_check(part, id, &fault, &offset, err));
    if (!fault && part_damage(part) & PART_BIT(id))
        fault = "figures that do not fit together";
    return fault ? note_corrupt(verify, id, offset, fault, err) : OCH_OK;
}

och_code part_verify(struct part *part, struct buf *report, uint64_t *ret_faults, och_error *err)
{
    static const uint8_t blocks[] = {SECTION_IDS, SECTION_VALUES, SECTION_DOCS, SECTION_URIS};
    struct verify verify = {.part = part, .report = report};
    CLEANUP(mem_cleanup) uint8_t *chunk = mem_alloc(CHUNK_BYTES);
    if (!chunk)
        return FAIL_NO_MEMORY(err, "checking a part");
    for (unsigned id = 0; id < SECTION_COUNT; id++) { // what opening or reading met already
        if (part_damage(part) & PART_BIT(id) && !part_has(part, id) && id != SECTION_CRCS)
            TRY(note_corrupt(&verify, id, 0, "its size is wrong", err));
    }
    TRY(verify_footer(&verify, err));
    TRY(verify_table(&verify, chunk, err));
    for (unsigned id = 1; id < SECTION_COUNT; id++)
        TRY(verify_pages(&verify, id, chunk, err));
    if (part->info.rows && is_sound(&verify, SECTION_IDS) && is_sound(&verify, SECTION_SEQ)) {
        for (size_t i = 0; i < COUNT_OF(blocks); i++)
            TRY(verify_blocks(&verify, blocks[i], err));
        TRY(verify_order(&verify, err));
    }
    if (is_sound(&verify, SECTION_NORM) && is_sound(&verify, SECTION_VEC))
        TRY(verify_norms(&verify, err));
    TRY(verify_lists(&verify, err));
    TRY(verify_index(&verify, err));
    TRY(verify_meta(&verify, err));
    TRY(verify_sparse(&verify, SECTION_SPRS, SECTION_VALUES, err));
    TRY(verify_sparse(&verify, SECTION_TERM, SECTION_DOCS, err));
    TRY(verify_text(&verify, err));
    TRY(buf_check(report, "a report", err));
    *ret_faults = verify.faults;
    return OCH_OK;
}
