/* SPDX-License-Identifier: Apache-2.0 */
/* Building the sparse index: postings of as many rows as fit are collected, sorted by dimension with rows ascending and written as a segment
 * (sparse_write.c); then the next rows.  So one pass a key is enough, whatever the memory.  Of text every term of a document is a posting first; sorted, those of
 * one row lie side by side and are counted. */
#include "index/sparse/sparse_write.h"

#include <stdlib.h>

struct build {
    const struct sparse_options *options;
    const struct sparse_rows *rows;
    struct sparse_writer writer;
    struct posting *postings;
    uint32_t count, room, capacity;
    size_t charged;
    struct segment segment; /* key, first_row, held */
};

static och_code charge(struct build *build, size_t bytes, och_error *err)
{
    if (build->options->budget)
        TRY(budget_take(build->options->budget, bytes, "a sparse index", err));
    build->charged += bytes;
    return OCH_OK;
}

static void discharge(struct build *build, size_t bytes)
{
    if (build->options->budget)
        budget_give(build->options->budget, bytes);
    build->charged -= bytes;
}

static och_code make_room(struct build *build, uint32_t more, och_error *err)
{
    uint64_t wanted = (uint64_t)build->count + more, room = build->room;
    if (wanted <= room)
        return OCH_OK;
    room = room ? room * 2 : 4096;
    if (room > build->capacity)
        room = build->capacity;
    if (room < wanted)
        room = wanted;
    size_t bytes;
    if (room > UINT32_MAX || mul_overflows((size_t)room, sizeof(struct posting), &bytes))
        return FAIL(err, OCH_TOO_LARGE, "a sparse index of too many values");
    TRY(charge(build, bytes - build->room * sizeof(struct posting), err));
    struct posting *postings = mem_realloc(build->postings, bytes);
    if (!postings)
        return FAIL_NO_MEMORY(err, "a sparse index");
    build->postings = postings;
    build->room = (uint32_t)room;
    return OCH_OK;
}

/* Least significant byte first, only bytes in which dimensions differ; stable, so that rows of a dimension go on ascending.  Returns where they are. */
static struct posting *radix_sort(struct posting *from, struct posting *to, uint32_t count)
{
    uint32_t starts[256], differ = 0;
    for (uint32_t i = 1; i < count; i++)
        differ |= from[i].dim ^ from[0].dim;
    for (unsigned shift = 0; shift < 32; shift += 8) {
        if (!(differ >> shift & 255))
            continue;
        memset(starts, 0, sizeof(starts));
        for (uint32_t i = 0; i < count; i++)
            starts[from[i].dim >> shift & 255]++;
        for (uint32_t i = 0, sum = 0; i < 256; i++) {
            uint32_t next = sum + starts[i];
            starts[i] = sum;
            sum = next;
        }
        for (uint32_t i = 0; i < count; i++)
            to[starts[from[i].dim >> shift & 255]++] = from[i];
        struct posting *other = from;
        from = to;
        to = other;
    }
    return from;
}

/* Postings of one term and row become one, with their number as its weight. */
static uint32_t count_equal(struct posting *sorted, uint32_t count)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct posting *last = n ? &sorted[n - 1] : NULL;
        if (!last || last->dim != sorted[i].dim || last->row != sorted[i].row)
            sorted[n++] = sorted[i];
        else if (last->weight < (float)TERMS_COUNT_MAX)
            last->weight += 1;
    }
    return n;
}

static och_code flush(struct build *build, uint32_t end_row, och_error *err)
{
    size_t scratch_bytes = (size_t)build->count * sizeof(struct posting), work = 0;
    if (!build->count)
        return OCH_OK;
    TRY(charge(build, scratch_bytes, err));
    CLEANUP(mem_cleanup) struct posting *scratch = mem_alloc(scratch_bytes);
    if (!scratch)
        return FAIL_NO_MEMORY(err, "a sparse index");
    struct posting *sorted = radix_sort(build->postings, scratch, build->count);
    if (build->options->text)
        build->count = count_equal(sorted, build->count);
    build->segment.end_row = end_row;
    work = sparse_write_work(sorted, build->count);
    TRY(charge(build, work, err));
    TRY(sparse_write_segment(&build->writer, &build->segment, sorted, build->count, err));
    discharge(build, work + scratch_bytes);
    build->count = 0;
    return OCH_OK;
}

static och_code add_row(struct build *build, uint32_t row, const struct sparse_value *value,
                        och_error *err)
{
    if (build->count && (uint64_t)build->count + value->count > build->capacity) {
        TRY(flush(build, row, err));
        build->segment.first_row = row;
        build->segment.held = 0;
    }
    TRY(make_room(build, value->count, err));
    for (uint32_t i = 0; i < value->count; i++)
        build->postings[build->count++] = (struct posting){
            .dim = sparse_value_dim(value, i), .row = row, .weight = sparse_value_weight(value, i)};
    build->segment.held++;
    return OCH_OK;
}

/* A term takes two bytes of a text at least, or is its last. */
static och_code add_document(struct build *build, uint32_t row, slice document, och_error *err)
{
    struct terms terms = terms_of(document);
    uint32_t begin, term;
    if (document.len / 2 >= UINT32_MAX / 2)
        return FAIL(err, OCH_TOO_LARGE, "a document of more than 2 GiB");
    uint32_t most = (uint32_t)(document.len / 2 + 1);
    if (build->count && (uint64_t)build->count + most > build->capacity) {
        TRY(flush(build, row, err));
        build->segment = (struct segment){.key = build->segment.key, .first_row = row};
    }
    TRY(make_room(build, most, err));
    begin = build->count;
    while (terms_next(&terms, &term)) {
        assert(build->count < build->room);
        build->postings[build->count++] = (struct posting){.dim = term, .row = row, .weight = 1};
    }
    build->writer.lengths[row] = build->count - begin;
    build->segment.held++;
    build->segment.terms += build->count - begin;
    return OCH_OK;
}

static och_code add_value(struct build *build, uint32_t key, uint32_t row, slice metadata,
                          och_error *err)
{
    struct sparse_value value;
    return sparse_value_find(metadata, build->options->keys[key], &value)
               ? add_row(build, row, &value, err)
               : OCH_OK;
}

static och_code build_key(struct build *build, uint32_t key, och_error *err)
{
    build->segment = (struct segment){.key = key};
    for (uint32_t row = 0; row < build->rows->count; row++) {
        slice value;
        if (row % 1024 == 0 && build->options->limits)
            TRY(work_check(build->options->limits, err));
        TRY(build->rows->row(build->rows->context, row, &value, err));
        if (!build->options->text)
            TRY(add_value(build, key, row, value, err));
        else if (value.at)
            TRY(add_document(build, row, value, err));
    }
    return flush(build, build->rows->count, err);
}

static och_code make_lengths(struct build *build, och_error *err)
{
    size_t bytes = ((size_t)build->rows->count + 1) * sizeof(uint32_t);
    if (!build->options->text)
        return OCH_OK;
    assert(build->options->key_count == 1);
    TRY(charge(build, bytes, err));
    build->writer.lengths = mem_alloc(bytes);
    if (!build->writer.lengths)
        return FAIL_NO_MEMORY(err, "an index of text");
    for (uint32_t row = 0; row < build->rows->count; row++)
        build->writer.lengths[row] = TERMS_NONE;
    return OCH_OK;
}

och_code sparse_build(const struct sparse_options *options, const struct sparse_rows *rows,
                      uint32_t *ret_directory_len, och_error *err)
{
    struct build build = {.options = options, .rows = rows};
    build.capacity = options->capacity ? options->capacity : SPARSE_CAPACITY_MAX;
    assert(options->key_count <= KEYS_MAX);
    sparse_writer_init(&build.writer, options);
    och_code code = make_lengths(&build, err);
    *ret_directory_len = 0;
    for (uint32_t key = 0; key < options->key_count && code == OCH_OK; key++)
        code = build_key(&build, key, err);
    if (code == OCH_OK && options->key_count)
        code = sparse_write_directory(&build.writer, rows->count, build.capacity, ret_directory_len,
                                      err);
    mem_free(build.writer.lengths);
    sparse_writer_done(&build.writer);
    mem_free(build.postings);
    discharge(&build, build.charged);
    return code;
}
