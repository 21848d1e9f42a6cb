/* SPDX-License-Identifier: Apache-2.0 */
/* Building a part: a pass over ids and seq for what the head needs, then one pass over the source per section.  Per row it keeps 8 bytes
 * (the id's hash), later 8.5 (the hash index) or 4 (norms); never vectors or text.  Same rows, same bytes. */
#include "part/part_build.h"

#include "index/meta/meta_index.h"
#include "index/sparse/sparse.h"
#include "index/text/text.h"
#include "kernel/kernel.h"

#define CHECK_ROWS  256u
#define ARENA_BYTES (1u << 20)

static uint32_t source_of(const struct build *build, uint32_t row)
{
    return build->order ? build->order[row] : row;
}

och_code part_build_fetch(struct build *build, uint32_t row, unsigned fields, struct record *ret,
                          och_error *err)
{
    if (row % CHECK_ROWS == 0 && build->options)
        TRY(work_check(&build->options->limits, err));
    if (build->arena.used_bytes > ARENA_BYTES)
        arena_done(&build->arena);
    *ret = (struct record){0};
    return build->source->row(build->source->context, source_of(build, row), fields, &build->arena,
                              ret, err);
}

/* ---- vector index ---- */

/* The index decides the order of rows, so it comes first.  Few rows, or an order that is given, and there is none. */
static och_code index_vectors(struct build *build, och_error *err)
{
    const struct part_spec *spec = build->spec;
    if (build->order || spec->plain || !vector_wanted(build->rows, spec->dimension))
        return OCH_OK;
    TRY(part_vectors_build(&build->index_of, spec, build->source, build->options, &build->vector,
                           err));
    if (!build->vector) /* most rows have no vector */
        return OCH_OK;
    build->vectors = vector_build_result(build->vector);
    build->lineage = part_vectors_lineage(&build->index_of, &build->vectors);
    build->order = vector_build_order(build->vector);
    return OCH_OK;
}

static och_code emit_code8(void *context, const void *at, size_t len, och_error *err)
{
    struct build *build = context;
    return part_sink_append(&build->sink, at, len, err);
}

static och_code write_index(struct build *build, och_error *err)
{
    const struct vector_built *built = &build->vectors;
    if (!build->vector)
        return OCH_OK;
    TRY(part_sink_section(&build->sink, SECTION_CODE, built->code.at, built->code.len, err));
    TRY(part_sink_begin(&build->sink, SECTION_CODE8, built->code8_bytes, err));
    TRY(vector_build_code8(build->vector, emit_code8, build, err));
    return part_sink_end(&build->sink, 0, err);
}

/* ---- ids and order ---- */

void part_idhash_fill(uint8_t *at, const uint64_t *hashes, uint32_t rows)
{
    uint64_t buckets = part_idhash_buckets(rows);
    uint8_t *starts = at + 8, *entries = at + part_idhash_entries_at(rows);
    store_u32(at, (uint32_t)buckets);
    store_u32(at + 4, rows);
    // count, sum up, place: starts[b] moves to its bucket's end while filling and is the next one's begin afterwards
    for (uint32_t row = 0; row < rows; row++) {
        uint8_t *count = starts + 4 * (uint64_t)part_idhash_bucket(hashes[row], rows);
        store_u32(count, load_u32(count) + 1);
    }
    uint32_t sum = 0;
    for (uint64_t b = 0; b <= buckets; b++) {
        uint32_t count = b < buckets ? load_u32(starts + 4 * b) : 0;
        store_u32(starts + 4 * b, sum);
        sum += count;
    }
    for (uint32_t row = 0; row < rows; row++) {
        uint8_t *start = starts + 4 * (uint64_t)part_idhash_bucket(hashes[row], rows);
        uint32_t place = load_u32(start);
        store_u32(start, place + 1);
        store_u32(entries + 8 * (uint64_t)place, (uint32_t)hashes[row]);
        store_u32(entries + 8 * (uint64_t)place + 4, row);
    }
    memmove(starts + 4, starts, 4 * buckets);
    store_u32(starts, 0);
}

static och_code write_idhash(struct build *build, och_error *err)
{
    TRY(charged_alloc(part_build_budget(build), part_idhash_size(build->rows), 1, "an id index",
                      &build->index, err));
    part_idhash_fill(build->index.at, build->hashes.at, build->rows);
    charged_free(part_build_budget(build), &build->hashes);
    TRY(part_sink_section(&build->sink, SECTION_IDHASH, build->index.at, build->index.bytes, err));
    charged_free(part_build_budget(build), &build->index);
    return OCH_OK;
}

static och_code write_seq_block(struct build *build, const int64_t *seqs, uint32_t count,
                                och_error *err)
{
    uint8_t block[8 + SEQ_ROWS / 8 * 64 + 8] = {0};
    int64_t base = seqs[0];
    for (uint32_t i = 1; i < count; i++)
        base = seqs[i] < base ? seqs[i] : base;
    store_u64(block, (uint64_t)base);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t value = (uint64_t)seqs[i] - (uint64_t)base;
        uint64_t bit = (uint64_t)i * build->seq_bits;
        uint8_t *at = block + 8 + bit / 8;
        unsigned shift = bit % 8;
        store_u64(at, load_u64(at) | value << shift);
        if (shift)
            at[8] |= (uint8_t)(value >> (64 - shift));
    }
    return part_sink_append(&build->sink, block, (size_t)part_seq_stride(build->seq_bits), err);
}

static och_code write_seq(struct build *build, och_error *err)
{
    int64_t seqs[SEQ_ROWS];
    TRY(part_sink_begin(&build->sink, SECTION_SEQ, 0, err));
    for (uint32_t row = 0; row < build->rows; row++) {
        struct record record;
        TRY(part_build_fetch(build, row, RECORD_SEQ, &record, err));
        seqs[row % SEQ_ROWS] = record.seq;
        if (row % SEQ_ROWS == SEQ_ROWS - 1 || row == build->rows - 1)
            TRY(write_seq_block(build, seqs, row % SEQ_ROWS + 1, err));
    }
    return part_sink_end(&build->sink, build->seq_bits, err);
}

/* `inverse`: source index -> row, and the source is in seq order. */
static och_code write_seqrows(struct build *build, const uint32_t *inverse, och_error *err)
{
    return part_sink_section(&build->sink, SECTION_SEQROWS, inverse, 4 * (size_t)build->rows, err);
}

static och_code write_expiry(struct build *build, och_error *err)
{
    TRY(part_sink_begin(&build->sink, SECTION_EXPIRY, 0, err));
    for (uint32_t row = 0; row < build->rows; row++) {
        struct record record;
        uint8_t at[8];
        TRY(part_build_fetch(build, row, RECORD_EXPIRY, &record, err));
        store_u64(at, (uint64_t)record.expires_ms);
        TRY(part_sink_append(&build->sink, at, sizeof(at), err));
    }
    return part_sink_end(&build->sink, 0, err);
}

/* ---- vectors ---- */

/* Zeros for rows without a vector. */
static och_code write_zeros(struct build *build, uint32_t rows, och_error *err)
{
    static const uint8_t zeros[4096];
    uint64_t left = (uint64_t)rows * build->spec->dimension * 4;
    while (left) {
        size_t step = min_size((size_t)left, sizeof(zeros));
        TRY(part_sink_append(&build->sink, zeros, step, err));
        left -= step;
    }
    return OCH_OK;
}

static och_code begin_vectors(struct build *build, uint32_t leading, och_error *err)
{
    struct budget *budget = part_build_budget(build);
    uint64_t stride = (uint64_t)build->spec->dimension * 4;
    TRY(charged_alloc(budget, bitset_words(build->rows), 8, "vectors", &build->presence, err));
    if (build->spec->metric == METRIC_COSINE && !build->spec->plain)
        TRY(charged_alloc(budget, build->rows, 4, "norms", &build->norms, err));
    TRY(part_sink_begin(&build->sink, SECTION_VEC, build->rows * stride, err));
    return write_zeros(build, leading, err);
}

static och_code write_vector(struct build *build, uint32_t row, const float *vector, och_error *err)
{
    uint32_t dimension = build->spec->dimension;
    uint8_t *presence = build->presence.at;
    presence[row / 8] |= (uint8_t)(1u << row % 8);
    build->totals.vector_count++;
    if (build->norms.at)
        ((float *)build->norms.at)[row] = kernel_get()->dot_f32(vector, vector, dimension);
    return part_sink_append(&build->sink, vector, (size_t)dimension * 4, err);
}

static och_code write_vectors(struct build *build, och_error *err)
{
    for (uint32_t row = 0; row < build->rows; row++) {
        struct record record;
        TRY(part_build_fetch(build, row, RECORD_VECTOR, &record, err));
        if (record.vector && !build->totals.vector_count)
            TRY(begin_vectors(build, row, err));
        if (record.vector)
            TRY(write_vector(build, row, record.vector, err));
        else if (build->totals.vector_count)
            TRY(write_zeros(build, 1, err));
    }
    if (!build->totals.vector_count)
        return OCH_OK;
    TRY(part_sink_end(&build->sink, 0, err));
    build->totals.raw_bytes += (uint64_t)build->totals.vector_count * build->spec->dimension * 4;
    if (build->totals.vector_count < build->rows)
        TRY(part_sink_section(&build->sink, SECTION_VPRES, build->presence.at,
                              build->presence.bytes, err));
    if (build->norms.at)
        TRY(part_sink_section(&build->sink, SECTION_NORM, build->norms.at, build->norms.bytes,
                              err));
    charged_free(part_build_budget(build), &build->norms);
    charged_free(part_build_budget(build), &build->presence);
    return OCH_OK;
}

/* ---- records in blocks ---- */

static slice field_of(const struct record *record, enum part_section_id section)
{
    switch (section) {
    case SECTION_IDS:
        return part_build_id(record);
    case SECTION_VALUES:
        return record->metadata;
    case SECTION_DOCS:
        return record->document;
    default:
        return record->uri;
    }
}

static och_code write_blocks(struct build *build, enum part_section_id section, unsigned field,
                             och_error *err)
{
    struct part_block_writer writer;
    part_block_writer_init(&writer, &build->sink, section);
    och_code code = OCH_OK;
    for (uint32_t row = 0; code == OCH_OK && row < build->rows; row++) {
        struct record record;
        code = part_build_fetch(build, row, field, &record, err);
        if (code != OCH_OK)
            break;
        slice value = field_of(&record, section);
        code = part_block_writer_add(&writer, value, err);
        if (code == OCH_OK && section == SECTION_VALUES && build->meta)
            code = meta_build_row(build->meta, value, err);
        build->totals.raw_bytes += value.at ? value.len : 0;
    }
    if (code == OCH_OK)
        code = part_block_writer_finish(&writer, err);
    part_block_writer_done(&writer);
    return code;
}

static och_code text_row(void *context, uint32_t row, slice *ret_document, och_error *err)
{
    struct record record;
    TRY(part_build_fetch(context, row, RECORD_DOCUMENT, &record, err));
    *ret_document = record.document;
    return OCH_OK;
}

static och_code write_text(struct build *build, uint64_t text_bytes, och_error *err)
{
    struct text_rows rows = {build, build->rows, text_row};
    if (build->spec->plain)
        return OCH_OK;
    return part_text_write(&build->sink, build->spec->schema_json, &rows, text_bytes,
                           build->options ? &build->options->limits : NULL, err);
}

static och_code write_terms(struct build *build, uint64_t text_bytes, och_error *err)
{
    struct sparse_rows rows = {build, build->rows, text_row};
    if (build->spec->plain)
        return OCH_OK;
    return part_terms_write(&build->sink, build->spec->schema_json, &rows, text_bytes,
                            build->options ? &build->options->limits : NULL, err);
}

static och_code metadata_row(void *context, uint32_t row, slice *ret_metadata, och_error *err)
{
    struct record record;
    TRY(part_build_fetch(context, row, RECORD_METADATA, &record, err));
    *ret_metadata = record.metadata;
    return OCH_OK;
}

static och_code write_sparse(struct build *build, och_error *err)
{
    struct sparse_rows rows = {build, build->rows, metadata_row};
    if (build->spec->plain)
        return OCH_OK;
    return part_sparse_write(&build->sink, build->spec->schema_json, &rows,
                             build->options ? &build->options->limits : NULL, err);
}

static och_code write_values(struct build *build, och_error *err)
{
    const struct limits_of_work *limits = build->options ? &build->options->limits : NULL;
    if (!build->spec->plain)
        TRY(part_meta_begin(&build->sink, build->rows, limits, &build->meta, err));
    TRY(write_blocks(build, SECTION_VALUES, RECORD_METADATA, err));
    TRY(part_meta_end(&build->sink, build->meta, build->rows, metadata_row, build, err));
    meta_build_free(take(&build->meta));
    return OCH_OK;
}

static och_code write_lists(struct build *build, och_error *err)
{
    const struct part_spec *spec = build->spec;
    const slice texts[] = {spec->tenant, spec->database, spec->name, spec->schema_json};
    CLEANUP(buf_cleanup) struct buf out;
    buf_init(&out, BUF_MAX_NONE);
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        buf_sized(&out, texts[i]);
    TRY(buf_check(&out, "a part's names", err));
    TRY(part_sink_section(&build->sink, SECTION_NAMES, out.at, out.len, err));
    if (!build->totals.kill_count)
        return OCH_OK;
    const slice *kills = build->kills.at;
    TRY(part_sink_begin(&build->sink, SECTION_KILL, 0, err));
    for (uint32_t i = 0; i < build->totals.kill_count; i++) {
        buf_clear(&out);
        buf_sized(&out, kills[i]);
        TRY(buf_check(&out, "deleted ids", err));
        TRY(part_sink_append(&build->sink, out.at, out.len, err));
    }
    return part_sink_end(&build->sink, 0, err);
}

/* ---- the whole ---- */

static och_code write_rows(struct build *build, const uint32_t *inverse, och_error *err)
{
    if (!build->rows)
        return OCH_OK;
    if (!build->spec->plain)
        TRY(write_idhash(build, err));
    charged_free(part_build_budget(build), &build->hashes);
    TRY(write_blocks(build, SECTION_IDS, RECORD_ID, err));
    TRY(write_seq(build, err));
    if (build->order && !build->spec->plain)
        TRY(write_seqrows(build, inverse, err));
    if (build->has_expiry)
        TRY(write_expiry(build, err));
    if (build->spec->dimension)
        TRY(write_vectors(build, err));
    TRY(write_index(build, err));
    TRY(write_values(build, err));
    TRY(write_sparse(build, err));
    uint64_t before = build->totals.raw_bytes;
    TRY(write_blocks(build, SECTION_DOCS, RECORD_DOCUMENT, err));
    uint64_t text_bytes = build->totals.raw_bytes - before;
    TRY(write_blocks(build, SECTION_URIS, RECORD_URI, err));
    TRY(write_text(build, text_bytes, err));
    return write_terms(build, text_bytes, err);
}

static och_code build_all(struct build *build, const uint32_t *inverse, struct store_writer *writer,
                          struct part_ref *ret_ref, och_error *err)
{
    TRY(part_sink_init(&build->sink, writer, part_build_budget(build), err));
    TRY(part_build_head(build, err));
    TRY(write_lists(build, err));
    charged_free(part_build_budget(build), &build->kills);
    TRY(write_rows(build, inverse, err));
    return part_sink_close(&build->sink, &build->totals, build->head_len, ret_ref, err);
}

static void build_done(struct build *build)
{
    struct budget *budget = part_build_budget(build);
    struct charged *const all[] = {&build->hashes, &build->index,    &build->filter,
                                   &build->norms,  &build->presence, &build->kills};
    for (size_t i = 0; i < COUNT_OF(all); i++)
        charged_free(budget, all[i]);
    vector_build_free(build->vector);
    part_vectors_done(&build->index_of);
    meta_build_free(build->meta);
    part_sink_done(&build->sink);
    arena_done(&build->arena);
}

och_code part_build_ordered(const struct part_spec *spec, const struct part_source *source,
                            const struct part_build_options *options, const uint32_t *order,
                            struct store_writer *writer, uint32_t *ret_rows,
                            struct part_info *ret_info, och_error *err)
{
    assert(spec->log_from <= spec->log_to);
    if (source->count == PART_NO_ROW)
        return FAIL(err, OCH_TOO_LARGE, "a part of %u rows", source->count);
    struct build build = {.spec = spec,
                          .source = source,
                          .options = options,
                          .order = order,
                          .rows = source->count,
                          .lineage = spec->lineage};
    struct charged inverse = {0}; // source index -> row
    struct part_ref ref;
    build.sink.budget = part_build_budget(&build);
    arena_init(&build.arena, part_build_budget(&build), 0);
    och_code code = index_vectors(&build, err);
    if (code == OCH_OK && build.order)
        code = charged_alloc(part_build_budget(&build), build.rows, 4, "row order", &inverse, err);
    for (uint32_t row = 0; code == OCH_OK && build.order && row < build.rows; row++)
        ((uint32_t *)inverse.at)[build.order[row]] = row;
    if (code == OCH_OK)
        code = build_all(&build, inverse.at, writer, &ref, err);
    if (code == OCH_OK) {
        *ret_info = (struct part_info){.ref = ref,
                                       .collection = spec->collection,
                                       .lineage = build.lineage,
                                       .rows = build.rows,
                                       .dimension = spec->dimension,
                                       .metric = spec->metric,
                                       .log_from = spec->log_from,
                                       .log_to = spec->log_to,
                                       .raw_bytes = build.totals.raw_bytes};
        for (uint32_t i = 0; ret_rows && i < build.rows; i++)
            ret_rows[i] = inverse.at ? ((const uint32_t *)inverse.at)[i] : i;
    }
    charged_free(part_build_budget(&build), &inverse);
    build_done(&build);
    return code;
}

och_code part_build(const struct part_spec *spec, const struct part_source *source,
                    const struct part_build_options *options, struct store_writer *writer,
                    uint32_t *ret_rows, struct part_info *ret_info, och_error *err)
{
    return part_build_ordered(spec, source, options, NULL, writer, ret_rows, ret_info, err);
}
