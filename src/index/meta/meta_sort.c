/* SPDX-License-Identifier: Apache-2.0 */
/* A column as it was collected → ordinals, entries in their order: the values of a dictionary ascending, the rows of each ascending. */
#include "index/meta/meta_build.h"

#include <stdlib.h>

#define DIGIT       8u /* bits sorted at a time */
#define DIGITS      (64 / DIGIT)
#define BUCKETS     (1u << DIGIT)
#define STRING_SORT 52u  /* bytes a distinct string takes while they are sorted */
#define RADIX_LEAST 192u /* fewer strings are sorted by comparisons */

size_t meta_sort_bytes(const struct column *column)
{
    size_t values = column->rows.len, distinct = column->strings.len;
    return meta_type_is_string(column->type) ? values * 4 + distinct * STRING_SORT : values * 16;
}

/* ---- numbers ---- */

struct pairs {
    uint64_t *images;
    uint32_t *rows;
};

/* Where each digit's buckets begin, all digits in one pass.  Returns the digits in which values differ, a bit each; none when they ascend already, as
 * times often do. */
static unsigned count_digits(const uint64_t *images, uint32_t count,
                             uint32_t starts[DIGITS][BUCKETS])
{
    unsigned differ = 0;
    uint64_t before = 0;
    bool ascend = true;
    memset(starts, 0, sizeof(uint32_t[DIGITS][BUCKETS]));
    for (uint32_t i = 0; i < count; i++) {
        uint64_t image = images[i];
        ascend &= image >= before;
        before = image;
        for (unsigned d = 0; d < DIGITS; d++)
            starts[d][image >> d * DIGIT & (BUCKETS - 1)]++;
    }
    for (unsigned d = 0; d < DIGITS && !ascend; d++) {
        uint32_t sum = 0;
        if (starts[d][images[0] >> d * DIGIT & (BUCKETS - 1)] != count)
            differ |= 1u << d;
        for (uint32_t i = 0; i < BUCKETS; i++) {
            uint32_t next = sum + starts[d][i];
            starts[d][i] = sum;
            sum = next;
        }
    }
    return differ;
}

/* Least digit first, only digits in which values differ; stable, so that rows of one value ascend.  False: the result is in `to`. */
static bool radix_sort(struct pairs from, struct pairs to, uint32_t count)
{
    uint32_t starts[DIGITS][BUCKETS];
    unsigned differ = count_digits(from.images, count, starts);
    bool here = true;
    for (unsigned d = 0; d < DIGITS; d++) {
        if (!(differ >> d & 1))
            continue;
        for (uint32_t i = 0; i < count; i++) {
            uint64_t image = from.images[i];
            uint32_t place = starts[d][image >> d * DIGIT & (BUCKETS - 1)]++;
            to.images[place] = image;
            to.rows[place] = from.rows[i];
        }
        struct pairs other = from;
        from = to;
        to = other;
        here = !here;
    }
    return here;
}

/* Distinct values to the front; a row that repeats a value counts once. */
static void make_distinct(struct meta_values *values, uint64_t *images, uint32_t *rows,
                          uint32_t count, uint32_t *before)
{
    uint32_t ordinals = 0, kept = 0;
    uint64_t last = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t image = images[i];
        bool is_new = !i || image != last;
        if (is_new) {
            images[ordinals] = image;
            before[ordinals++] = kept;
        }
        if (is_new || rows[kept - 1] != rows[i])
            rows[kept++] = rows[i];
        last = image;
    }
    before[ordinals] = kept;
    values->images = images;
    values->rows = rows;
    values->before = before;
    values->ordinals = ordinals;
    values->entries = kept;
}

static och_code write_numbers(struct meta_build *build, struct column *column, uint32_t *codes,
                              och_error *err)
{
    uint32_t count = (uint32_t)column->rows.len;
    struct meta_values values = {
        .key = column->key, .type = column->type, .present = column->present};
    CLEANUP(mem_cleanup) uint64_t *images = mem_alloc((size_t)count * 8);
    CLEANUP(mem_cleanup) uint32_t *rows = mem_alloc((size_t)count * 4);
    CLEANUP(mem_cleanup) uint32_t *before = mem_alloc(((size_t)count + 1) * 4);
    if (!images || !rows || !before)
        return FAIL_NO_MEMORY(err, "a metadata index");
    struct pairs mine = {column->images.at, column->rows.at}, scratch = {images, rows};
    struct pairs sorted = radix_sort(mine, scratch, count) ? mine : scratch;
    make_distinct(&values, sorted.images, sorted.rows, count, before);
    return meta_write_column(&build->writer, &values, codes, err);
}

/* ---- strings ---- */

/* Strings that share their first `depth` bytes, [first, first + count) of the order. */
struct group {
    uint32_t first, count, depth;
};
struct string_sort {
    const slice *strings;   /* by id */
    struct pairs at, spare; /* eight bytes of each, the first the highest; ids */
    VEC(struct group) open;
};

struct ranked {
    slice text;
    uint32_t id;
};
static int compare_ranked(const void *a, const void *b)
{
    return slice_compare(((const struct ranked *)a)->text, ((const struct ranked *)b)->text);
}

static void sort_few(const struct string_sort *sort, uint32_t *ids, uint32_t count)
{
    struct ranked ranked[RADIX_LEAST];
    assert(count <= COUNT_OF(ranked));
    for (uint32_t i = 0; i < count; i++)
        ranked[i] = (struct ranked){sort->strings[ids[i]], ids[i]};
    qsort(ranked, count, sizeof(*ranked), compare_ranked);
    for (uint32_t i = 0; i < count; i++)
        ids[i] = ranked[i].id;
}

static uint32_t common_depth(const struct string_sort *sort, const struct group *group)
{
    const uint32_t *ids = sort->at.rows + group->first;
    slice first = sort->strings[ids[0]];
    size_t shared = max_size(first.len, group->depth);
    for (uint32_t i = 1; i < group->count && shared > group->depth; i++) {
        slice text = sort->strings[ids[i]];
        size_t at = group->depth, end = min_size(shared, text.len);
        while (at < end && text.at[at] == first.at[at])
            at++;
        shared = at;
    }
    return (uint32_t)shared;
}

/* One group by its next eight bytes; what they do not tell apart is left open.  A string that ends goes with those that have zeros there, until so few are
 * together that they are compared whole. */
static bool sort_group(struct string_sort *sort, struct group group)
{
    if (group.count <= RADIX_LEAST) {
        sort_few(sort, sort->at.rows + group.first, group.count);
        return true;
    }
    struct pairs at = {sort->at.images + group.first, sort->at.rows + group.first};
    uint32_t depth = common_depth(sort, &group);
    for (uint32_t i = 0; i < group.count; i++)
        at.images[i] = meta_eight_bytes(sort->strings[at.rows[i]], depth);
    if (!radix_sort(at, sort->spare, group.count)) {
        memcpy(at.images, sort->spare.images, (size_t)group.count * sizeof(*at.images));
        memcpy(at.rows, sort->spare.rows, (size_t)group.count * sizeof(*at.rows));
    }
    for (uint32_t i = 0, end; i < group.count; i = end) {
        for (end = i + 1; end < group.count && at.images[end] == at.images[i];)
            end++;
        struct group same = {group.first + i, end - i, depth + 8};
        if (same.count > 1 && !VEC_PUSH(&sort->open, same))
            return false;
    }
    return true;
}

/* at.rows: ids in the order of their strings, which differ. */
static bool sort_strings(struct string_sort *sort, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        sort->at.rows[i] = i;
    bool fine = VEC_PUSH(&sort->open, (struct group){0, count, 0});
    while (fine && sort->open.len)
        fine = sort_group(sort, sort->open.at[--sort->open.len]);
    VEC_DONE(&sort->open);
    return fine;
}

/* Rows by ordinal, in one counting sort; a row that repeats a value counts once.  Shapes: before[distinct + 2], zeros. */
static uint32_t rows_by_rank(const struct column *column, const uint32_t *ranks, uint32_t distinct,
                             uint32_t *before, uint32_t *rows)
{
    uint32_t count = (uint32_t)column->rows.len, kept = 0;
    for (uint32_t i = 0; i < count; i++)
        before[ranks[column->ids.at[i]] + 2]++;
    for (uint32_t i = 0; i < distinct; i++)
        before[i + 2] += before[i + 1];
    for (uint32_t i = 0; i < count; i++) /* before[o + 1] runs to the end of o */
        rows[before[ranks[column->ids.at[i]] + 1]++] = column->rows.at[i];
    if (!meta_type_is_array(column->type))
        return count; /* before[o] is the end of o - 1 already */
    for (uint32_t o = 0, i = 0; o < distinct; o++) {
        uint32_t end = before[o + 1], begin = kept;
        before[o] = begin;
        for (; i < end; i++) {
            if (kept == begin || rows[kept - 1] != rows[i])
                rows[kept++] = rows[i];
        }
    }
    before[distinct] = kept;
    return kept;
}

static och_code write_strings(struct meta_build *build, struct column *column, uint32_t *codes,
                              och_error *err)
{
    size_t count = column->rows.len, distinct = column->strings.len;
    CLEANUP(mem_cleanup) uint64_t *keys = mem_alloc(distinct * 2 * sizeof(*keys));
    CLEANUP(mem_cleanup) uint32_t *ids = mem_alloc(distinct * 2 * sizeof(*ids));
    CLEANUP(mem_cleanup) slice *ordered = mem_alloc(distinct * sizeof(*ordered));
    CLEANUP(mem_cleanup) uint32_t *ranks = mem_alloc(distinct * sizeof(*ranks));
    CLEANUP(mem_cleanup) uint32_t *before = mem_zalloc((distinct + 2) * sizeof(*before));
    CLEANUP(mem_cleanup) uint32_t *rows = mem_alloc(count * sizeof(*rows));
    if (!keys || !ids || !ordered || !ranks || !before || !rows)
        return FAIL_NO_MEMORY(err, "a metadata index");
    struct string_sort sort = {.strings = column->strings.at,
                               .at = {keys, ids},
                               .spare = {keys + distinct, ids + distinct}};
    if (!sort_strings(&sort, (uint32_t)distinct))
        return FAIL_NO_MEMORY(err, "a metadata index");
    for (uint32_t i = 0; i < distinct; i++) {
        ranks[ids[i]] = i;
        ordered[i] = column->strings.at[ids[i]];
    }
    struct meta_values values = {.key = column->key,
                                 .type = column->type,
                                 .ordinals = (uint32_t)distinct,
                                 .strings = ordered,
                                 .before = before,
                                 .rows = rows,
                                 .present = column->present};
    values.entries = rows_by_rank(column, ranks, (uint32_t)distinct, before, rows);
    return meta_write_column(&build->writer, &values, codes, err);
}

och_code meta_sort_column(struct meta_build *build, struct column *column, uint32_t *codes,
                          och_error *err)
{
    return meta_type_is_string(column->type) ? write_strings(build, column, codes, err)
                                             : write_numbers(build, column, codes, err);
}
