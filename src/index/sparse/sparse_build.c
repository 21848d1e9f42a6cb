/* SPDX-License-Identifier: Apache-2.0 */
/* Building the sparse index: postings of as many rows as fit are collected, sorted by dimension with rows ascending and written as a segment
 * (sparse_write.c); then the next rows.  So one pass a key is enough, whatever the memory. */
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

static och_code build_key(struct build *build, uint32_t key, och_error *err)
{
    build->segment = (struct segment){.key = key};
    for (uint32_t row = 0; row < build->rows->count; row++) {
        slice metadata;
        struct sparse_value value;
        if (row % 1024 == 0 && build->options->limits)
            TRY(work_check(build->options->limits, err));
        TRY(build->rows->row(build->rows->context, row, &metadata, err));
        if (sparse_value_find(metadata, build->options->keys[key], &value))
            TRY(add_row(build, row, &value, err));
    }
    return flush(build, build->rows->count, err);
}

och_code sparse_build(const struct sparse_options *options, const struct sparse_rows *rows,
                      uint32_t *ret_directory_len, och_error *err)
{
    struct build build = {.options = options, .rows = rows};
    build.capacity = options->capacity ? options->capacity : SPARSE_CAPACITY_MAX;
    assert(options->key_count <= KEYS_MAX);
    sparse_writer_init(&build.writer, options);
    och_code code = OCH_OK;
    *ret_directory_len = 0;
    for (uint32_t key = 0; key < options->key_count && code == OCH_OK; key++)
        code = build_key(&build, key, err);
    if (code == OCH_OK && options->key_count)
        code = sparse_write_directory(&build.writer, rows->count, build.capacity, ret_directory_len,
                                      err);
    sparse_writer_done(&build.writer);
    mem_free(build.postings);
    discharge(&build, build.charged);
    return code;
}
