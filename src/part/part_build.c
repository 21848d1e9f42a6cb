/* SPDX-License-Identifier: Apache-2.0 */
/* Building a part: a pass over ids and seq for what the head needs, then one pass over the source per section.  Per row it keeps 8 bytes
 * (the id's hash), later 8.5 (the hash index) or 4 (norms); never vectors or text.  Same rows, same bytes. */
#include "part/part_sink.h"

#include "index/meta/meta_index.h"
#include "index/sparse/sparse.h"
#include "index/text/text.h"
#include "index/vector/vector.h"
#include "kernel/kernel.h"

#include <stdlib.h>

#define CHECK_ROWS  256u
#define ARENA_BYTES (1u << 20)

struct build {
    const struct part_spec *spec;
    const struct part_source *source;
    const struct part_build_options *options;
    struct part_sink sink;
    struct part_totals totals;
    struct arena arena;           /* of the row at hand */
    const uint32_t *order;        /* row -> source index; NULL: the same */
    struct part_vectors index_of; /* its rows' vectors and codes, for `vector` */
    struct vector_build *vector;  /* NULL: no vector index */
    struct vector_built vectors;  /* its sections */
    struct meta_build *meta;      /* NULL: no metadata index */
    uuid lineage;
    uint32_t rows, head_len;
    struct charged hashes, index, filter, norms, presence, kills;
    uint64_t digest[2];
    unsigned seq_bits;
    bool has_expiry;
};

static struct budget *budget_of(const struct build *build)
{
    return build->options ? build->options->budget : NULL;
}

static uint32_t source_of(const struct build *build, uint32_t row)
{
    return build->order ? build->order[row] : row;
}

static och_code fetch(struct build *build, uint32_t row, unsigned fields, struct record *ret,
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

static slice id_of(const struct record *record)
{
    return record->id.at ? record->id : SLICE("");
}

/* ---- first pass: ids, seq, expiry ---- */

static void digest_add(struct build *build, const void *at, size_t len)
{
    uint8_t state[24];
    uint64_t hash = slice_hash(slice_make(at, len));
    for (unsigned i = 0; i < 2; i++) {
        store_u64(state, build->digest[i]);
        store_u64(state + 8, hash);
        store_u64(state + 16, i);
        build->digest[i] = slice_hash(slice_make(state, sizeof(state)));
    }
}

static unsigned bits_of(uint64_t value)
{
    return value ? 64 - (unsigned)__builtin_clzll(value) : 0;
}

static och_code survey(struct build *build, och_error *err)
{
    int64_t min = 0, max = 0, last = INT64_MIN;
    uint64_t *hashes = build->hashes.at;
    for (uint32_t row = 0; row < build->rows; row++) {
        struct record record;
        TRY(fetch(build, row, RECORD_ID | RECORD_SEQ | RECORD_EXPIRY, &record, err));
        hashes[row] = slice_hash(id_of(&record));
        uint8_t place[16];
        store_u64(place, hashes[row]);
        store_u64(place + 8, (uint64_t)record.seq);
        digest_add(build, place, sizeof(place));
        if (!build->order && record.seq <= last)
            return FAIL(err, OCH_INTERNAL, "rows of a new part are not in ascending seq");
        last = record.seq;
        min = row % SEQ_ROWS == 0 || record.seq < min ? record.seq : min;
        max = row % SEQ_ROWS == 0 || record.seq > max ? record.seq : max;
        unsigned bits = bits_of((uint64_t)max - (uint64_t)min);
        build->seq_bits = bits > build->seq_bits ? bits : build->seq_bits;
        build->has_expiry = build->has_expiry || record.expires_ms != 0;
    }
    return OCH_OK;
}

/* The part's own id: from what is in it, so that building again gives the same bytes. */
static void name_part(struct build *build)
{
    const struct part_spec *spec = build->spec;
    uint8_t facts[64];
    memcpy(facts, spec->collection.bytes, 16);
    memcpy(facts + 16, build->lineage.bytes, 16);
    store_u64(facts + 32, spec->log_from);
    store_u64(facts + 40, spec->log_to);
    store_u32(facts + 48, build->rows);
    store_u32(facts + 52, spec->dimension);
    store_u32(facts + 56, (uint32_t)spec->metric);
    store_u32(facts + 60, build->totals.kill_count);
    digest_add(build, facts, sizeof(facts));
    const slice *kills = build->kills.at;
    for (uint32_t i = 0; i < build->totals.kill_count; i++)
        digest_add(build, kills[i].at, kills[i].len);
    store_u64(build->sink.id.bytes, build->digest[0]);
    store_u64(build->sink.id.bytes + 8, build->digest[1]);
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

static och_code write_index_head(struct build *build, och_error *err)
{
    const struct vector_built *built = &build->vectors;
    if (!build->vector)
        return OCH_OK;
    TRY(part_sink_section(&build->sink, SECTION_MEAN, built->mean.at, built->mean.len, err));
    TRY(part_sink_section(&build->sink, SECTION_LIST, built->list.at, built->list.len, err));
    TRY(part_sink_section(&build->sink, SECTION_CENTQ, built->centq.at, built->centq.len, err));
    return built->super.len ? part_sink_section(&build->sink, SECTION_SUPER, built->super.at,
                                                built->super.len, err)
                            : OCH_OK;
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

/* ---- head ---- */

static int compare_slices(const void *a, const void *b)
{
    return slice_compare(*(const slice *)a, *(const slice *)b);
}

static och_code sort_kills(struct build *build, och_error *err)
{
    const struct part_spec *spec = build->spec;
    if (!spec->kill_count)
        return OCH_OK;
    TRY(charged_alloc(budget_of(build), spec->kill_count, sizeof(slice), "deleted ids",
                      &build->kills, err));
    slice *kills = build->kills.at;
    memcpy(kills, spec->kills, spec->kill_count * sizeof(slice));
    qsort(kills, spec->kill_count, sizeof(slice), compare_slices);
    size_t kept = 0;
    for (size_t i = 0; i < spec->kill_count; i++) {
        if (!kept || !slice_equal(kills[kept - 1], kills[i]))
            kills[kept++] = kills[i];
    }
    if (kept > UINT32_MAX)
        return FAIL(err, OCH_TOO_LARGE, "%zu deleted ids in one part", kept);
    build->totals.kill_count = (uint32_t)kept;
    return OCH_OK;
}

static och_code write_header(struct build *build, och_error *err)
{
    const struct vector_built *built = &build->vectors;
    uint64_t filter_at = round_up(HEADER_SIZE + HEAD_SIZE, SECTION_ALIGN);
    const slice index[] = {built->mean, built->list, built->centq, built->super};
    for (size_t i = 0; build->vector && i < COUNT_OF(index); i++)
        filter_at = index[i].len ? round_up(filter_at, SECTION_ALIGN) + index[i].len : filter_at;
    if (build->filter.at)
        filter_at = round_up(filter_at, SECTION_ALIGN);
    uint64_t head_len = build->filter.at ? filter_at + build->filter.bytes : filter_at;
    if (head_len > UINT32_MAX)
        return FAIL(err, OCH_TOO_LARGE, "a part of %u rows", build->rows);
    build->head_len = (uint32_t)head_len;
    uint8_t header[HEADER_SIZE] = {0};
    memcpy(header, HEADER_MAGIC, 8);
    store_u16(header + 8, PART_MAJOR);
    store_u16(header + 10, PART_MINOR);
    store_u32(header + 12, build->head_len);
    memcpy(header + 16, build->sink.id.bytes, 16);
    store_u32(header + 60, kernel_get()->crc32c(0, header, 60));
    return part_sink_raw(&build->sink, header, sizeof(header), err);
}

static och_code write_head(struct build *build, och_error *err)
{
    const struct part_spec *spec = build->spec;
    uint8_t head[HEAD_SIZE] = {0};
    store_u32(head, HEAD_MAGIC);
    store_u32(head + 4, (build->order ? 0 : HEAD_SEQ_ORDER) | (spec->plain ? HEAD_PLAIN : 0));
    memcpy(head + 8, spec->collection.bytes, 16);
    memcpy(head + 24, build->lineage.bytes, 16);
    store_u32(head + 40, build->rows);
    store_u32(head + 44, spec->dimension);
    store_u32(head + 48, (uint32_t)spec->metric);
    store_u32(head + 52, build->has_expiry);
    store_u64(head + 56, spec->log_from);
    store_u64(head + 64, spec->log_to);
    if (build->vector) {
        store_u32(head + 72, build->vectors.trained_rows);
        memcpy(head + 76, &build->vectors.trained_rms, 4);
        store_u32(head + 80, build->vectors.trained_lists);
        store_u32(head + 84, build->vectors.trained_098);
    }
    return part_sink_section(&build->sink, SECTION_HEAD, head, sizeof(head), err);
}

static och_code make_filter(struct build *build, och_error *err)
{
    uint64_t size = part_filter_size(build->rows), blocks = size / FILTER_BLOCK;
    TRY(charged_alloc(budget_of(build), size, 1, "an id filter", &build->filter, err));
    const uint64_t *hashes = build->hashes.at;
    uint8_t *filter = build->filter.at;
    for (uint32_t row = 0; row < build->rows; row++) {
        struct part_filter_bits set = part_filter_of(hashes[row], blocks);
        uint8_t *block = filter + set.block * FILTER_BLOCK;
        for (unsigned i = 0; i < FILTER_HASH; i++)
            block[set.bits[i] / 8] |= (uint8_t)(1u << set.bits[i] % 8);
    }
    return OCH_OK;
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
    TRY(charged_alloc(budget_of(build), part_idhash_size(build->rows), 1, "an id index",
                      &build->index, err));
    part_idhash_fill(build->index.at, build->hashes.at, build->rows);
    charged_free(budget_of(build), &build->hashes);
    TRY(part_sink_section(&build->sink, SECTION_IDHASH, build->index.at, build->index.bytes, err));
    charged_free(budget_of(build), &build->index);
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
        TRY(fetch(build, row, RECORD_SEQ, &record, err));
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
        TRY(fetch(build, row, RECORD_EXPIRY, &record, err));
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
    struct budget *budget = budget_of(build);
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
        TRY(fetch(build, row, RECORD_VECTOR, &record, err));
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
    charged_free(budget_of(build), &build->norms);
    charged_free(budget_of(build), &build->presence);
    return OCH_OK;
}

/* ---- records in blocks ---- */

static slice field_of(const struct record *record, enum part_section_id section)
{
    switch (section) {
    case SECTION_IDS:
        return id_of(record);
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
        code = fetch(build, row, field, &record, err);
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
    TRY(fetch(context, row, RECORD_DOCUMENT, &record, err));
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
    TRY(fetch(context, row, RECORD_METADATA, &record, err));
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
    charged_free(budget_of(build), &build->hashes);
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
    TRY(part_sink_init(&build->sink, writer, budget_of(build), err));
    TRY(sort_kills(build, err));
    if (build->rows) {
        TRY(charged_alloc(budget_of(build), build->rows, 8, "id hashes", &build->hashes, err));
        TRY(survey(build, err));
    }
    name_part(build);
    if (build->rows && !build->spec->plain)
        TRY(make_filter(build, err));
    TRY(write_header(build, err));
    TRY(write_head(build, err));
    TRY(write_index_head(build, err));
    if (build->filter.at)
        TRY(part_sink_section(&build->sink, SECTION_IDFILTER, build->filter.at, build->filter.bytes,
                              err));
    assert(part_sink_offset(&build->sink) == build->head_len);
    charged_free(budget_of(build), &build->filter);
    TRY(write_lists(build, err));
    charged_free(budget_of(build), &build->kills);
    TRY(write_rows(build, inverse, err));
    return part_sink_close(&build->sink, &build->totals, build->head_len, ret_ref, err);
}

static void build_done(struct build *build)
{
    struct budget *budget = budget_of(build);
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
    build.sink.budget = budget_of(&build);
    arena_init(&build.arena, budget_of(&build), 0);
    och_code code = index_vectors(&build, err);
    if (code == OCH_OK && build.order)
        code = charged_alloc(budget_of(&build), build.rows, 4, "row order", &inverse, err);
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
    charged_free(budget_of(&build), &inverse);
    build_done(&build);
    return code;
}

och_code part_build(const struct part_spec *spec, const struct part_source *source,
                    const struct part_build_options *options, struct store_writer *writer,
                    uint32_t *ret_rows, struct part_info *ret_info, och_error *err)
{
    return part_build_ordered(spec, source, options, NULL, writer, ret_rows, ret_info, err);
}
