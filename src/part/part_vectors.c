/* SPDX-License-Identifier: Apache-2.0 */
/* The vector index of a part being built: its rows' vectors from the source, in a merge their 8-bit codes from the input parts. */
#include "part/part_sink.h"

#include "part/part_internal.h"

#define ARENA_BYTES (1u << 20)
#define WORK_MIN    (8 << 20)
#define WORK_MAX    (128 << 20)

/* One thread's way to rows. */
struct row_reader {
    struct part_vectors *vectors;
    void *source; /* context of its row() */
    struct arena arena;
    struct code_piece { /* by input: the last one used */
        const struct extent *extent;
        uint64_t first, count;
        bool broken; /* codes cannot be read: vectors must do */
    } * pieces;
};

static och_code read_vector(void *context, uint32_t i, const float **ret_vector, och_error *err)
{
    struct row_reader *reader = context;
    struct record record = {0};
    if (reader->arena.used_bytes > ARENA_BYTES)
        arena_done(&reader->arena);
    TRY(reader->vectors->source->row(reader->source, i, RECORD_VECTOR, &reader->arena, &record,
                                     err));
    *ret_vector = record.vector;
    return OCH_OK;
}

static void unpin(struct row_reader *reader, uint32_t input)
{
    struct part *part = reader->vectors->spec->inputs[input];
    if (reader->pieces[input].extent)
        cache_unpin(part->env.cache, reader->pieces[input].extent);
    reader->pieces[input].extent = NULL;
}

static void unpin_all(struct row_reader *reader)
{
    for (uint32_t i = 0; i < reader->vectors->spec->input_count; i++)
        unpin(reader, i);
}

static och_code read_code8(void *context, uint32_t input, uint32_t row, const uint8_t **ret_row8,
                           och_error *err)
{
    struct row_reader *reader = context;
    struct code_piece *piece = &reader->pieces[input];
    struct part *part = reader->vectors->spec->inputs[input];
    size_t size = code_row_size(reader->vectors->indexes[input]->code_dim);
    *ret_row8 = NULL;
    if (piece->broken)
        return OCH_OK;
    if (UNLIKELY(!piece->extent || row - piece->first >= piece->count)) {
        struct part_piece found;
        och_error failure = {0};
        unpin(reader, input);
        och_code code =
            part_pin(part, SECTION_CODE8, (uint32_t)size, row * (uint64_t)size, &found, &failure);
        if (code == OCH_BUSY) { /* give back what other inputs hold */
            unpin_all(reader);
            error_clear(&failure);
            code = part_pin(part, SECTION_CODE8, (uint32_t)size, row * (uint64_t)size, &found,
                            &failure);
        }
        if (code != OCH_OK && part_is_damage(code, &failure)) {
            part_note_damage(part, SECTION_CODE8, &failure);
            piece->broken = true;
            return OCH_OK;
        }
        if (code != OCH_OK) {
            if (err)
                *err = failure;
            return code;
        }
        piece->extent = found.extent;
        piece->first = found.from / size;
        piece->count = found.extent->len / size;
    }
    *ret_row8 = piece->extent->at + (row - piece->first) * size;
    return OCH_OK;
}

static void place(const void *context, uint32_t i, uint32_t *ret_input, uint32_t *ret_row)
{
    const struct part_source *source = ((const struct part_vectors *)context)->source;
    source->place(source->context, i, ret_input, ret_row);
}

static void reader_free(void *context)
{
    struct row_reader *reader = context;
    const struct part_source *source = reader->vectors->source;
    if (reader->pieces)
        unpin_all(reader);
    if (source->reader_free && reader->source)
        source->reader_free(reader->source);
    arena_done(&reader->arena);
    mem_free(reader->pieces);
    mem_free(reader);
}

static och_code reader_new(void *context, void **ret_reader, och_error *err)
{
    struct part_vectors *vectors = context;
    const struct part_source *source = vectors->source;
    struct row_reader *reader = MEM_NEW(struct row_reader);
    if (!reader)
        return FAIL_NO_MEMORY(err, "a vector index");
    reader->vectors = vectors;
    arena_init(&reader->arena, vectors->budget, 0);
    och_code code = OCH_OK;
    size_t bytes = 0;
    if (!mul_overflows(vectors->spec->input_count + 1, sizeof(*reader->pieces), &bytes))
        reader->pieces = mem_zalloc(bytes);
    if (!reader->pieces)
        code = FAIL_NO_MEMORY(err, "a vector index");
    else if (source->reader_new)
        code = source->reader_new(source->context, &reader->source, err);
    else
        reader->source = source->context;
    if (code != OCH_OK) {
        reader_free(reader);
        return code;
    }
    *ret_reader = reader;
    return OCH_OK;
}

static och_code open_inputs(struct part_vectors *vectors, och_error *err)
{
    const struct part_spec *spec = vectors->spec;
    size_t bytes;
    if (mul_overflows(spec->input_count + 1, sizeof(*vectors->indexes), &bytes))
        return FAIL(err, OCH_TOO_LARGE, "a merge of %zu parts", spec->input_count);
    vectors->indexes = mem_zalloc(bytes);
    if (!vectors->indexes)
        return FAIL_NO_MEMORY(err, "a vector index");
    for (size_t i = 0; i < spec->input_count; i++)
        TRY(part_vector_index(spec->inputs[i], &vectors->indexes[i], err));
    return OCH_OK;
}

och_code part_vectors_build(struct part_vectors *vectors, const struct part_spec *spec,
                            const struct part_source *source,
                            const struct part_build_options *options,
                            struct vector_build **ret_build, och_error *err)
{
    struct budget *budget = options ? options->budget : NULL;
    int64_t room = budget ? budget_free(budget) / 4 : INT64_MAX;
    const struct vector_index *like = NULL;
    *vectors = (struct part_vectors){.spec = spec, .source = source, .budget = budget};
    assert(!spec->input_count || source->place);
    TRY(open_inputs(vectors, err));
    if (spec->like && !spec->input_count)
        TRY(part_vector_index(spec->like, &like, err));
    struct vector_rows rows = {.context = vectors,
                               .count = source->count,
                               .row = read_vector,
                               .reader_new = reader_new,
                               .reader_free = reader_free,
                               .place = place,
                               .code8 = read_code8};
    struct vector_options wanted = {.dimension = spec->dimension,
                                    .metric = spec->metric,
                                    .budget = budget,
                                    .pool = options && source->reader_new ? options->pool : NULL,
                                    .limits = options ? &options->limits : NULL,
                                    .work_bytes = room > WORK_MAX   ? WORK_MAX
                                                  : room < WORK_MIN ? WORK_MIN
                                                                    : (size_t)room,
                                    .inputs = vectors->indexes,
                                    .input_count = (uint32_t)spec->input_count,
                                    .like = like,
                                    .flat_rows = options ? options->flat_rows : 0,
                                    .list_rows = options ? options->list_rows : 0};
    struct vector_build *build;
    TRY(vector_build_new(&wanted, &rows, &build, err));
    if (vector_build_result(build).coded < VECTOR_CODES_MIN) {
        vector_build_free(build);
        build = NULL;
    }
    *ret_build = build;
    return OCH_OK;
}

uuid part_vectors_lineage(const struct part_vectors *vectors, const struct vector_built *built)
{
    const struct part_spec *spec = vectors->spec;
    if (built->space_of == VECTOR_NEW_SPACE)
        return spec->lineage;
    return part_info(spec->input_count ? spec->inputs[built->space_of] : spec->like)->lineage;
}

void part_vectors_done(struct part_vectors *vectors)
{
    mem_free(vectors->indexes);
    vectors->indexes = NULL;
}
