/* SPDX-License-Identifier: Apache-2.0 */
/* Random rows, a part of them on a simulated disk, and the comparison of all that the part answers with the rows. */
#ifndef TESTS_UNIT_PART_FIXTURE_H
#define TESTS_UNIT_PART_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/io_sim.h"
#include "kernel/kernel.h"
#include "part/part.h"
#include "part/part_internal.h"
#include "part/part_sink.h"

#include "unit/part/part_filters.h"

#define MUST(call)                                                              \
    do {                                                                        \
        och_error must_err_ = {0};                                              \
        och_error *err = &must_err_;                                            \
        if ((call) != OCH_OK)                                                   \
            fail_msg("%s:%d: %s: %s", __FILE__, __LINE__, #call, err->message); \
    } while (0)

struct rows_options {
    uint32_t count, dimension;
    enum metric metric;
    unsigned absent_percent; /* of each optional field */
    unsigned document_bytes; /* at most, about */
    uint64_t seq_step;       /* at most, at least 1; 0 = 1 */
    bool expiry, no_documents, no_metadata, no_vectors, plain;
    const uint32_t *order;
    size_t kill_count;
};

struct fixture {
    struct rows_options options;
    struct arena arena;
    struct record *rows; /* in source order */
    slice *kills;
    struct io *io;
    struct store *store;
    struct budget budget;
    struct cache *cache;
    object_id object;
    uuid collection, lineage;
    struct part_info info;
    uint64_t blob_size;
    char path[64];
    struct part *part;
    uint32_t *row_of; /* source index -> row */
};

static inline slice fixture_text(struct arena *arena, struct random *random, size_t len)
{
    uint8_t *at = arena_alloc(arena, len + 1);
    for (size_t i = 0; i < len; i++)
        at[i] = (uint8_t)(random_below(random, 40) ? 'a' + random_below(random, 6) : 0);
    return slice_make(at, len);
}

static inline slice fixture_metadata(struct arena *arena, struct random *random)
{
    struct buf out;
    buf_init(&out, BUF_MAX_NONE);
    uint64_t entries = random_below(random, 4);
    buf_varint(&out, entries);
    for (uint64_t i = 0; i < entries; i++) {
        char key = (char)('a' + i);
        buf_sized(&out, slice_make(&key, 1));
        if (i % 2) {
            buf_byte(&out, 4); // string
            uint64_t len = random_below(random, 30);
            buf_sized(&out, fixture_text(arena, random, (size_t)len));
        } else {
            buf_byte(&out, 2); // i64
            buf_varint(&out, 8);
            buf_u64(&out, random_below(random, 100));
        }
    }
    slice copy = arena_copy(arena, buf_view(&out));
    buf_done(&out);
    return copy;
}

static inline bool fixture_absent(const struct rows_options *options, struct random *random)
{
    return random_below(random, 100) < options->absent_percent;
}

static inline void fixture_row(struct fixture *f, struct random *random, uint32_t i, int64_t seq)
{
    const struct rows_options *o = &f->options;
    struct record *row = &f->rows[i];
    const char *id = arena_printf(&f->arena, "id-%08x-%u", (unsigned)random_below(random, 1u << 31),
                                  (unsigned)i);
    row->id = slice_of(id);
    if (i == 3)
        row->id = slice_make("nul\0in it", 9);
    row->seq = seq;
    if (o->dimension && !o->no_vectors && !fixture_absent(o, random)) {
        float *vector = ARENA_ARRAY(&f->arena, float, o->dimension);
        for (uint32_t d = 0; d < o->dimension; d++)
            vector[d] = (float)random_unit(random) - 0.5f;
        row->vector = vector;
    }
    if (!o->no_documents && !fixture_absent(o, random))
        row->document =
            fixture_text(&f->arena, random, (size_t)random_below(random, o->document_bytes + 1));
    if (!fixture_absent(o, random))
        row->uri = slice_of(arena_printf(&f->arena, "https://example.org/%u", (unsigned)i / 3));
    if (!o->no_metadata && !fixture_absent(o, random))
        row->metadata = fixture_metadata(&f->arena, random);
    if (o->expiry && random_below(random, 2))
        row->expires_ms = 1700000000000 + (int64_t)random_below(random, 1000000);
}

static inline och_code fixture_source_row(void *context, uint32_t i, unsigned fields,
                                          struct arena *arena, struct record *ret, och_error *err)
{
    const struct record *row = &((struct fixture *)context)->rows[i];
    // copies, so that a builder that keeps pointers too long is caught by the address sanitizer
    struct record copy = {0};
    if (fields & RECORD_ID)
        copy.id = arena_copy(arena, row->id);
    if (fields & RECORD_SEQ)
        copy.seq = row->seq;
    if (fields & RECORD_VECTOR && row->vector) {
        size_t bytes = ((struct fixture *)context)->options.dimension * sizeof(float);
        copy.vector =
            (const float *)(const void *)arena_copy(arena, slice_make(row->vector, bytes)).at;
    }
    if (fields & RECORD_DOCUMENT && row->document.at)
        copy.document = arena_copy(arena, row->document);
    if (fields & RECORD_URI && row->uri.at)
        copy.uri = arena_copy(arena, row->uri);
    if (fields & RECORD_METADATA && row->metadata.at)
        copy.metadata = arena_copy(arena, row->metadata);
    if (fields & RECORD_EXPIRY)
        copy.expires_ms = row->expires_ms;
    bool lost = (fields & RECORD_ID && !copy.id.at) ||
                (fields & RECORD_VECTOR && row->vector && !copy.vector) ||
                (fields & RECORD_DOCUMENT && row->document.at && !copy.document.at) ||
                (fields & RECORD_URI && row->uri.at && !copy.uri.at) ||
                (fields & RECORD_METADATA && row->metadata.at && !copy.metadata.at);
    *ret = copy;
    return lost ? FAIL_NO_MEMORY(err, "a row") : OCH_OK;
}

static inline struct part_spec fixture_spec(const struct fixture *f)
{
    return (struct part_spec){.collection = f->collection,
                              .lineage = f->lineage,
                              .tenant = SLICE("tenant"),
                              .database = SLICE("database"),
                              .name = SLICE("name"),
                              .schema_json = SLICE("{\"keys\":{}}"),
                              .dimension = f->options.dimension,
                              .metric = f->options.metric,
                              .log_from = 7,
                              .log_to = 7 + f->options.count,
                              .kills = f->kills,
                              .kill_count = f->options.kill_count,
                              .plain = f->options.plain};
}

static inline och_code fixture_append(struct fixture *f, struct store_writer *writer,
                                      struct part_info *ret_info, och_error *err)
{
    struct part_spec spec = fixture_spec(f);
    struct part_source source = {
        .context = f, .count = f->options.count, .row = fixture_source_row};
    struct part_build_options options = {.budget = &f->budget};
    och_code code = part_build_ordered(&spec, &source, &options, f->options.order, writer,
                                       f->row_of, ret_info, err);
    ret_info->ref.object = f->object;
    return code;
}

static inline och_code fixture_open(struct fixture *f, struct part **ret_part, och_error *err)
{
    struct part_env env = {f->store, f->cache, NULL};
    return part_open(&env, &f->info.ref, f->collection, ret_part, err);
}

/* Rows, disk and cache; no part yet. */
static inline void fixture_init(struct fixture *f, const struct rows_options *options,
                                uint64_t seed)
{
    struct random random;
    memset(f, 0, sizeof(*f));
    f->options = *options;
    random_seed(&random, seed);
    arena_init(&f->arena, NULL, 0);
    budget_init(&f->budget, 0, NULL);
    f->collection = uuid_random(&random);
    f->lineage = uuid_random(&random);
    random_fill(&random, f->object.bytes, 16);
    f->rows = ARENA_ARRAY(&f->arena, struct record, options->count + 1);
    f->row_of = ARENA_ARRAY(&f->arena, uint32_t, options->count + 1);
    f->kills = ARENA_ARRAY(&f->arena, slice, options->kill_count + 1);
    int64_t seq = 100;
    for (uint32_t i = 0; i < options->count; i++) {
        fixture_row(f, &random, i, seq);
        seq += 1 + (int64_t)(options->seq_step ? random_below(&random, options->seq_step) : 0);
    }
    for (size_t i = 0; i < options->kill_count; i++)
        f->kills[i] = slice_of(arena_printf(&f->arena, "killed %u", (unsigned)(i * 7 % 50)));
    f->io = io_sim_new(false);
    assert_non_null(f->io);
    MUST(store_folder_new(f->io, "/store", &f->store, err));
    MUST(cache_new(64 << 20, &f->budget, &f->cache, err));
    char hex[33];
    for (size_t i = 0; i < 16; i++)
        (void)snprintf(hex + 2 * i, 3, "%02x", f->object.bytes[i]);
    (void)snprintf(f->path, sizeof(f->path), "/store/%.2s/%s.blob", hex, hex);
}

/* The part, built and open. */
static inline void fixture_build(struct fixture *f)
{
    struct store_writer *writer;
    MUST(store_create(f->store, f->object, &writer, err));
    MUST(fixture_append(f, writer, &f->info, err));
    MUST(store_finish(writer, err));
    MUST(store_size(f->store, f->object, &f->blob_size, err));
    MUST(fixture_open(f, &f->part, err));
}

static inline void fixture_done(struct fixture *f)
{
    part_unref(f->part);
    cache_free(f->cache);
    store_free(f->store);
    io_sim_free(f->io);
    assert_int_equal(budget_used(&f->budget), 0);
    arena_done(&f->arena);
}

static inline void same_slice(slice a, slice b)
{
    assert_int_equal(a.at != NULL, b.at != NULL);
    assert_int_equal(a.len, b.len);
    if (a.len)
        assert_memory_equal(a.at, b.at, a.len);
}

/* ---- everything the part can say, against the rows: an error is returned, a wrong answer fails the test ---- */

/* One field of one row. */
static inline och_code check_field(const struct fixture *f, struct part *part,
                                   struct part_reads *reads, uint32_t i, unsigned field,
                                   och_error *err)
{
    const struct record *want = &f->rows[i];
    struct record got;
    TRY(part_read(part, reads, f->row_of[i], field, &got, err));
    const slice none = SLICE_NONE;
    same_slice(got.id, field & RECORD_ID ? want->id : none);
    same_slice(got.document, field & RECORD_DOCUMENT ? want->document : none);
    same_slice(got.uri, field & RECORD_URI ? want->uri : none);
    same_slice(got.metadata, field & RECORD_METADATA ? want->metadata : none);
    if (field & RECORD_SEQ)
        assert_int_equal(got.seq, want->seq);
    if (field & RECORD_EXPIRY)
        assert_int_equal(got.expires_ms, want->expires_ms);
    if (field & RECORD_VECTOR)
        assert_int_equal(got.vector != NULL, want->vector != NULL);
    if (got.vector)
        assert_memory_equal(got.vector, want->vector, 4 * f->options.dimension);
    return OCH_OK;
}

static inline och_code check_found(const struct fixture *f, struct part *part, uint32_t i,
                                   och_error *err)
{
    slice id = f->rows[i].id;
    uint32_t found;
    char text[40];
    TRY(part_find(part, id, slice_hash(id), &found, err));
    assert_int_equal(found, f->row_of[i]);
    (void)snprintf(text, sizeof(text), "not there %u", (unsigned)i);
    TRY(part_find(part, slice_of(text), slice_hash(slice_of(text)), &found, err));
    assert_int_equal(found, PART_NO_ROW);
    int64_t seq;
    TRY(part_seq(part, f->row_of[i], &seq, err));
    assert_int_equal(seq, f->rows[i].seq);
    return OCH_OK;
}

/* Each question stands for itself: damage met by one does not end the others.  The first error is returned. */
static inline och_code check_rows(const struct fixture *f, struct part *part, och_error *err)
{
    struct arena arena;
    struct part_reads reads;
    och_code first = OCH_OK;
    unsigned refusals[8] = {0};
    arena_init(&arena, NULL, 0);
    part_reads_init(&reads, f->cache, &arena);
    for (uint32_t i = 0; i < f->options.count; i++) {
        och_error failure = {0};
        bool stop = false;
        for (unsigned q = 0; q < 8 && !stop; q++) {
            if (refusals[q] > 2) // it costs a read each time
                continue;
            och_code code = q < 7 ? check_field(f, part, &reads, i, 1u << q, &failure)
                                  : check_found(f, part, i, &failure);
            refusals[q] += code != OCH_OK;
            if (code != OCH_OK && first == OCH_OK) {
                first = code;
                if (err)
                    *err = failure;
            }
            stop = code != OCH_OK && code != OCH_CORRUPT;
        }
        if (first == OCH_OK)
            first = check_field(f, part, &reads, i, RECORD_ALL, err);
        if (stop)
            break;
    }
    part_reads_done(&reads);
    arena_done(&arena);
    return first;
}

static inline och_code check_vectors(const struct fixture *f, struct part *part, och_error *err)
{
    uint32_t dimension = f->options.dimension, count = 0, norm_count = 0;
    struct record **by_row = calloc(f->options.count + 1, sizeof(*by_row));
    for (uint32_t i = 0; i < f->options.count; i++)
        by_row[f->row_of[i]] = &f->rows[i];
    och_code code = OCH_OK;
    for (uint32_t row = 0; code == OCH_OK && row < f->options.count; row += count) {
        const float *vectors, *norms = NULL;
        const struct extent *extent = NULL, *norm_extent = NULL;
        code = part_vectors(part, row, &vectors, &count, &extent, err);
        if (code != OCH_OK || !count)
            break;
        if (f->options.metric == METRIC_COSINE)
            code = part_norms(part, row, &norms, &norm_count, &norm_extent, err);
        if (code == OCH_OK && norms)
            count = count < norm_count ? count : norm_count;
        for (uint32_t i = 0; code == OCH_OK && i < count; i++) {
            const float *vector = vectors + (size_t)i * dimension, *want = by_row[row + i]->vector;
            float dot, norm = 0;
            if (want) {
                assert_memory_equal(vector, want, 4 * dimension);
                kernel_get()->dot_norm_rows_f32(want, want, dimension, dimension, 1, &dot, &norm);
            }
            for (uint32_t d = 0; !want && d < dimension; d++)
                assert_true(vector[d] == 0);
            if (norms)
                assert_memory_equal(&norms[i], &norm, 4);
        }
        cache_unpin(f->cache, extent);
        cache_unpin(f->cache, norm_extent);
    }
    free(by_row);
    return code;
}

static inline och_code check_lists(const struct fixture *f, struct part *part, och_error *err)
{
    struct arena arena;
    struct part_reads reads;
    arena_init(&arena, NULL, 0);
    part_reads_init(&reads, f->cache, &arena);
    const uint32_t *order;
    och_code code = part_seq_order(part, &reads, &order, err);
    for (uint32_t i = 0; code == OCH_OK && i < f->options.count; i++)
        assert_int_equal(order[i], f->row_of[i]);
    slice *kills;
    size_t count;
    if (code == OCH_OK)
        code = part_kills(part, &arena, &kills, &count, err);
    for (size_t i = 0; code == OCH_OK && i < count; i++) {
        bool known = false;
        for (size_t j = 0; j < f->options.kill_count; j++)
            known = known || slice_equal(kills[i], f->kills[j]);
        assert_true(known);
        assert_true(i == 0 || slice_compare(kills[i - 1], kills[i]) < 0);
    }
    if (code == OCH_OK)
        assert_int_equal(count, f->options.kill_count < 50 ? f->options.kill_count : 50);
    const uint64_t *present;
    if (code == OCH_OK)
        code = part_vector_presence(part, &reads, &present, err);
    uint32_t vectors = 0;
    for (uint32_t i = 0; i < f->options.count; i++) {
        uint32_t row = f->row_of[i];
        vectors += f->rows[i].vector != NULL;
        if (code == OCH_OK && present)
            assert_int_equal(present[row / 64] >> row % 64 & 1, f->rows[i].vector != NULL);
    }
    if (code == OCH_OK && !present)
        assert_true(vectors == 0 || vectors == f->options.count);
    part_reads_done(&reads);
    arena_done(&arena);
    return code;
}

struct by_row {
    const struct fixture *f;
    uint32_t *source; /* row -> source index */
};

static inline slice fixture_metadata_of(const void *context, uint32_t row)
{
    const struct by_row *by_row = context;
    return by_row->f->rows[by_row->source[row]].metadata;
}

static inline och_code check_filters(const struct fixture *f, struct part *part, och_error *err)
{
    struct by_row by_row = {f, calloc(f->options.count + 1, sizeof(uint32_t))};
    och_code code = OCH_OK;
    for (uint32_t i = 0; i < f->options.count; i++)
        by_row.source[f->row_of[i]] = i;
    for (size_t i = 0; i < COUNT_OF(filter_texts) && code == OCH_OK; i++) {
        bool said, has = part_has(part, SECTION_META);
        code = check_filter(part, filter_texts[i], fixture_metadata_of, &by_row, &said, err);
        if (code == OCH_OK && has && !(part_damage(part) & PART_BIT(SECTION_META)))
            assert_true(said);
    }
    free(by_row.source);
    return code;
}

static inline och_code check_part(const struct fixture *f, struct part *part, och_error *err)
{
    och_code rows = check_rows(f, part, err);
    if (rows != OCH_OK && rows != OCH_CORRUPT)
        return rows;
    och_code vectors = check_vectors(f, part, rows == OCH_OK ? err : NULL);
    och_code lists = check_lists(f, part, rows == OCH_OK && vectors == OCH_OK ? err : NULL);
    bool sound = rows == OCH_OK && vectors == OCH_OK && lists == OCH_OK;
    och_code filters = check_filters(f, part, sound ? err : NULL);
    return rows != OCH_OK ? rows : vectors != OCH_OK ? vectors : lists != OCH_OK ? lists : filters;
}
#endif
