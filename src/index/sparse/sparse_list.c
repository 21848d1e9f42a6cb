/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of a query's dimensions in one segment: found in the dictionary, read block by block.  Nothing in the bytes is believed: rows of a block are
 * known to ascend and to lie where the block directory says before anyone uses them. */
#include "index/sparse/sparse_internal.h"

#include "kernel/postings.h"

#include <math.h>

#define COUNT_BITS 24u /* of TERMS_COUNT_MAX */

och_code lists_corrupt(struct lists *lists, uint64_t offset, const char *what, och_error *err)
{
    lists->slots->fault_offset = offset;
    return FAIL(err, OCH_CORRUPT, "%s", what);
}

/* ---- the dictionary ---- */

/* The block whose first dimension is the last not above `dim`; UINT32_MAX: all are above. */
static uint32_t dict_block(const struct lists *lists, uint32_t dim)
{
    const uint8_t *tops = lists->index->tops + 4 * (size_t)lists->segment.top_index;
    uint32_t low = 0, high = lists->segment.dict_blocks;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (load_u32(tops + 4 * (size_t)middle) <= dim)
            low = middle + 1;
        else
            high = middle;
    }
    return low - 1;
}

struct entry {
    uint32_t df;
    slice body;              /* of lists in the dictionary itself: rows, then weights */
    uint64_t first, at, run; /* of others; counted from their begin */
};

/* Read the entry after its dimension. */
static bool entry_read(struct reader *reader, bool text, struct entry *entry)
{
    uint64_t df = reader_varint(reader);
    if (reader->failed || !df || df > UINT32_MAX)
        return false;
    entry->df = (uint32_t)df;
    if (df <= INLINE_ROWS) {
        const uint8_t *begin = reader->at;
        for (uint64_t i = 0; i < df; i++)
            (void)reader_varint(reader);
        for (uint64_t i = 0; i < df && text; i++)
            (void)reader_varint(reader);
        if (!text)
            (void)reader_skip(reader, 4 * (size_t)df);
        entry->body = slice_make(begin, (size_t)(reader->at - begin));
    } else if (df <= POSTING_BLOCK) {
        entry->first = reader_varint(reader);
        entry->at += reader_varint(reader);
    } else {
        entry->run += reader_varint(reader);
    }
    return !reader->failed;
}

static och_code entry_find(struct lists *lists, uint32_t dim, struct entry *ret, bool *ret_found,
                           och_error *err)
{
    uint32_t block = dict_block(lists, dim);
    const uint8_t *at;
    size_t len;
    *ret_found = false;
    if (block == UINT32_MAX)
        return OCH_OK;
    uint64_t offset = lists->segment.dict_offset + (uint64_t)block * DICT_BLOCK;
    TRY(lists->pages->at(lists->pages->context, 0, offset, &at, &len, err));
    lists->slots->owners[0] = NULL;
    if (len < DICT_BLOCK)
        return lists_corrupt(lists, offset, "a dictionary block is cut", err);
    struct reader reader = reader_of(slice_make(at, DICT_BLOCK));
    uint32_t count = reader_u16(&reader);
    uint64_t here = load_u32(lists->index->tops + 4 * ((size_t)lists->segment.top_index + block));
    struct entry entry = {0};
    for (uint32_t i = 0; i < count; i++) {
        here += i ? reader_varint(&reader) : 0;
        if (!entry_read(&reader, lists->index->text, &entry) || here > UINT32_MAX)
            return lists_corrupt(lists, offset, "a dictionary block does not hold together", err);
        if (here < dim)
            continue;
        *ret_found = here == dim;
        *ret = entry;
        break;
    }
    return OCH_OK;
}

/* ---- blocks ---- */

static och_code piece_at(struct lists *lists, struct list *list, uint64_t offset,
                         const uint8_t **ret_at, size_t *ret_len, och_error *err)
{
    bool mine = lists->slots->owners[list->slot] == list;
    if (!mine || offset < list->piece_from || offset >= list->piece_end) {
        size_t len;
        lists->slots->owners[list->slot] = NULL;
        TRY(lists->pages->at(lists->pages->context, list->slot, offset, &list->piece, &len, err));
        list->piece_from = offset;
        list->piece_end = offset + len;
        lists->slots->owners[list->slot] = list;
    }
    *ret_at = list->piece + (offset - list->piece_from);
    *ret_len = (size_t)(list->piece_end - offset);
    return OCH_OK;
}

static och_code lengths_move(struct lists *lists, uint32_t row, och_error *err)
{
    size_t len;
    uint64_t offset = lists->index->lengths_at + (uint64_t)row * 4;
    lists->slots->lengths_count = 0;
    TRY(lists->pages->at(lists->pages->context, LENGTHS_SLOT, offset, &lists->slots->lengths, &len,
                         err));
    len = min_size(len / 4, lists->index->rows - row);
    if (!len)
        return lists_corrupt(lists, offset, "documents' lengths are cut", err);
    lists->slots->lengths_first = row;
    lists->slots->lengths_count = (uint32_t)len;
    return OCH_OK;
}

/* What counts of terms weigh in the rows that hold them. */
static och_code weigh(struct lists *lists, const uint32_t *rows, uint32_t count, float *values,
                      och_error *err)
{
    struct terms_norm norm = lists->norm;
    for (uint32_t i = 0; i < count;) {
        if (rows[i] - lists->slots->lengths_first >= lists->slots->lengths_count)
            TRY(lengths_move(lists, rows[i], err));
        const uint8_t *lengths = lists->slots->lengths;
        uint32_t first = lists->slots->lengths_first, there = lists->slots->lengths_count;
        for (; i < count && rows[i] - first < there; i++)
            values[i] =
                terms_weight(norm, values[i], load_u32(lengths + 4 * (size_t)(rows[i] - first)));
    }
    return OCH_OK;
}

/* A posting block, its header checked. */
static och_code block_at(struct lists *lists, struct list *list, uint64_t place, uint32_t count,
                         const uint8_t **ret_at, och_error *err)
{
    const struct segment *segment = &lists->segment;
    uint64_t offset = segment->post_offset + place * 4;
    size_t len;
    if (offset >= segment->run_offset)
        return lists_corrupt(lists, segment->run_offset, "a posting block lies outside", err);
    TRY(piece_at(lists, list, offset, ret_at, &len, err));
    const uint8_t *at = *ret_at;
    bool text = lists->index->text, raw = lists->index->raw;
    if (len < 4 || at[0] > 32 || at[1] + 1u != count || at[2] > (text ? COUNT_BITS : 32) ||
        posting_size(text, raw, count, at[0], at[2]) + posting_slack(raw) > len)
        return lists_corrupt(lists, offset, "a posting block does not hold together", err);
    return OCH_OK;
}

/* Weights of a block, its rows known. */
static och_code read_weights(struct lists *lists, struct list *list, const uint8_t *at,
                             och_error *err)
{
    const struct sparse_index *index = lists->index;
    const uint8_t *packed =
        at + posting_head(index->text, index->raw) + posting_packed(list->count, at[0]);
    uint32_t values[POSTING_BLOCK], count = list->count;
    if (index->raw) {
        memcpy(list->weights, packed, 4 * (size_t)count); // little-endian, as the machine
        return OCH_OK;
    }
    kernel_postings_get()->unpack(packed, at[2], count, index->text ? 1 : load_u32(at + 4), values);
    if (!index->text) {
        memcpy(list->weights, values, 4 * (size_t)count);
        return OCH_OK;
    }
    for (uint32_t i = 0; i < count; i++)
        list->weights[i] = (float)values[i];
    return lists->weighs ? weigh(lists, list->rows, count, list->weights, err) : OCH_OK;
}

static och_code decode(struct lists *lists, struct list *list, uint64_t place, uint32_t count,
                       uint32_t first, uint32_t end, och_error *err)
{
    const uint8_t *at;
    TRY(block_at(lists, list, place, count, &at, err));
    const uint8_t *rows = at + posting_head(lists->index->text, lists->index->raw);
    if (kernel_postings_get()->unpack_rows(rows, at[0], count, first, list->rows) >= end)
        return lists_corrupt(lists, lists->segment.post_offset + place * 4,
                             "a posting block has rows outside its range", err);
    list->count = count;
    return read_weights(lists, list, at, err);
}

och_code list_decode(struct lists *lists, struct list *list, uint32_t b, och_error *err)
{
    assert(b < list->block_count);
    if (list->decoded == b)
        return OCH_OK;
    bool last = b == list->block_count - 1;
    list->decoded = NO_BLOCK;
    TRY(decode(lists, list, list->runs[b].offset,
               last ? list->df - b * POSTING_BLOCK : POSTING_BLOCK, list->runs[b].first_row,
               last ? lists->segment.end_row : list->runs[b + 1].first_row, err));
    list->decoded = b;
    return OCH_OK;
}

/* The i-th of packed numbers; eight bytes from it on can be read. */
static uint32_t number_at(const uint8_t *packed, uint32_t width, uint32_t i)
{
    uint64_t bit = (uint64_t)i * width;
    return (uint32_t)(load_u64(packed + bit / 8) >> bit % 8 & ((1ull << width) - 1));
}

och_code list_weight(struct lists *lists, struct list *list, uint32_t b, uint32_t row,
                     bool *ret_has, float *ret_weight, och_error *err)
{
    const struct sparse_index *index = lists->index;
    uint32_t count = b == list->block_count - 1 ? list->df - b * POSTING_BLOCK : POSTING_BLOCK;
    const uint8_t *at;
    TRY(block_at(lists, list, list->runs[b].offset, count, &at, err));
    const uint8_t *rows = at + posting_head(index->text, index->raw);
    const uint8_t *weights = rows + posting_packed(count, at[0]);
    uint64_t here = list->runs[b].first_row;
    uint32_t i = 0;
    for (; here < row && i + 1 < count; i++)
        here += 1 + (uint64_t)number_at(rows, at[0], i);
    *ret_has = here == row;
    if (index->raw) {
        *ret_weight = load_f32(weights + 4 * (size_t)i);
    } else if (index->text) {
        *ret_weight = (float)(1 + number_at(weights, at[2], i));
        return *ret_has ? weigh(lists, &row, 1, ret_weight, err) : OCH_OK;
    } else {
        uint32_t bits = load_u32(at + 4) + number_at(weights, at[2], i);
        memcpy(ret_weight, &bits, sizeof(bits));
    }
    return OCH_OK;
}

uint32_t list_seek(const struct list *list, uint32_t from, uint32_t row)
{
    uint32_t low = from, step = 1, high = list->block_count;
    while (low + step < high && list->runs[low + step].first_row <= row) {
        low += step;
        step *= 2;
    }
    high = high - low > step ? low + step : high;
    while (low + 1 < high) {
        uint32_t middle = low + (high - low) / 2;
        if (list->runs[middle].first_row <= row)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* ---- opening ---- */

/* One block, kept for good; list->rows and weights are filled in. */
static och_code close_short(struct list *list, struct arena *arena, och_error *err)
{
    struct block_run *run = ARENA_NEW(arena, struct block_run);
    if (!run)
        return FAIL_NO_MEMORY(err, "a sparse query");
    float max = list->weights[0], min = max;
    for (uint32_t i = 0; i < list->count; i++) {
        float weight = list->weights[i];
        if (!isfinite(weight)) {
            max = INFINITY;
            min = -INFINITY;
            break;
        }
        max = weight > max ? weight : max;
        min = weight < min ? weight : min;
    }
    *run = (struct block_run){.first_row = list->rows[0], .max = max, .min = min};
    list->runs = run;
    list->block_count = 1;
    list->decoded = 0;
    list->is_short = true;
    list->max = max;
    list->min = min;
    return OCH_OK;
}

static och_code open_inline(struct lists *lists, struct list *list, const struct entry *entry,
                            struct arena *arena, och_error *err)
{
    struct reader reader = reader_of(entry->body);
    uint64_t row = lists->segment.first_row;
    for (uint32_t i = 0; i < list->df; i++) {
        uint64_t delta = reader_varint(&reader);
        row = delta < UINT32_MAX && (!i || delta) ? row + delta : UINT64_MAX;
        if (row >= lists->segment.end_row)
            return lists_corrupt(lists, lists->segment.dict_offset,
                                 "a dictionary entry has rows outside its range", err);
        list->rows[i] = (uint32_t)row;
    }
    list->count = list->df;
    for (uint32_t i = 0; i < list->df && !lists->index->text; i++)
        list->weights[i] = load_f32(reader.at + 4 * (size_t)i);
    for (uint32_t i = 0; i < list->df && lists->index->text; i++) {
        uint64_t held = reader_varint(&reader);
        list->weights[i] = (float)(held < TERMS_COUNT_MAX ? held : TERMS_COUNT_MAX);
    }
    if (lists->weighs && lists->index->text)
        TRY(weigh(lists, list->rows, list->df, list->weights, err));
    return close_short(list, arena, err);
}

/* The whole block directory of a list, copied: ascending rows, and what its weights are between. */
static och_code open_runs(struct lists *lists, struct list *list, uint64_t run, struct arena *arena,
                          och_error *err)
{
    const struct segment *segment = &lists->segment;
    uint32_t count = (list->df - 1) / POSTING_BLOCK + 1;
    if (run > segment->run_count || count > segment->run_count - run)
        return lists_corrupt(lists, segment->dict_offset, "a dictionary entry leads nowhere", err);
    uint64_t from = segment->run_offset + run * RUN_SIZE;
    struct block_run *runs = ARENA_ARRAY(arena, struct block_run, count);
    if (!runs)
        return FAIL_NO_MEMORY(err, "a sparse query");
    for (uint32_t done = 0; done < count;) {
        const uint8_t *at;
        size_t len;
        TRY(piece_at(lists, list, from + (uint64_t)done * RUN_SIZE, &at, &len, err));
        uint32_t here = (uint32_t)min_size(len / RUN_SIZE, count - done);
        if (!here)
            return lists_corrupt(lists, from, "a block directory is cut", err);
        memcpy(runs + done, at, (size_t)here * RUN_SIZE); // little-endian, as the machine
        done += here;
    }
    float max = runs[0].max, min = runs[0].min;
    bool sound =
        runs[0].first_row >= segment->first_row && runs[count - 1].first_row < segment->end_row;
    for (uint32_t i = 0; i < count; i++) {
        if (lists->index->text)
            runs[i].max = (float)((double)runs[i].max * lists->norm_ratio);
        max = runs[i].max > max ? runs[i].max : max;
        min = runs[i].min < min ? runs[i].min : min;
        sound = sound && (!i || runs[i - 1].first_row < runs[i].first_row) &&
                runs[i].max >= runs[i].min;
    }
    if (!sound)
        return lists_corrupt(lists, from, "a block directory does not hold together", err);
    list->runs = runs;
    list->block_count = count;
    list->max = max;
    list->min = min;
    return OCH_OK;
}

static och_code open_list(struct lists *lists, struct list *list, const struct entry *entry,
                          struct arena *arena, och_error *err)
{
    const struct segment *segment = &lists->segment;
    list->df = entry->df;
    list->decoded = NO_BLOCK;
    list->rows = arena_alloc(arena, POSTING_BLOCK * sizeof(uint32_t));
    list->weights = arena_alloc(arena, POSTING_BLOCK * sizeof(float));
    if (!list->rows || !list->weights)
        return FAIL_NO_MEMORY(err, "a sparse query");
    if (entry->df > segment->end_row - segment->first_row)
        return lists_corrupt(lists, segment->dict_offset, "a list longer than its rows", err);
    if (entry->df <= INLINE_ROWS)
        return open_inline(lists, list, entry, arena, err);
    if (entry->df > POSTING_BLOCK)
        return open_runs(lists, list, entry->run, arena, err);
    if (entry->first >= segment->end_row - segment->first_row || entry->at > UINT32_MAX)
        return lists_corrupt(lists, segment->dict_offset, "a dictionary entry leads nowhere", err);
    TRY(decode(lists, list, entry->at, entry->df, segment->first_row + (uint32_t)entry->first,
               segment->end_row, err));
    return close_short(list, arena, err);
}

/* Bounds were made with the average length of the segment's documents.  A weight c / (c + base + p·length) is at most p'/p times what it was with p'. */
static double norm_ratio(const struct segment *segment, struct terms_norm norm)
{
    struct terms_norm made = terms_norm_of(segment->held, segment->terms);
    double ratio = (double)made.per_term / (double)norm.per_term;
    return (ratio > 1 ? ratio : 1) * (1 + 0x1p-20);
}

och_code lists_open(struct lists *lists, struct slots *slots, const struct sparse_index *index,
                    const struct sparse_pages *pages, uint32_t segment,
                    const struct sparse_terms *terms, const struct terms_norm *norm,
                    struct arena *arena, och_error *err)
{
    *lists = (struct lists){.slots = slots,
                            .index = index,
                            .pages = pages,
                            .segment = segment_at(index, segment),
                            .weighs = norm != NULL,
                            .norm_ratio = 1};
    if (norm && index->text) {
        lists->norm = *norm;
        lists->norm_ratio = norm_ratio(&lists->segment, *norm);
    }
    lists->lists = ARENA_ARRAY(arena, struct list, (size_t)terms->count + 1);
    if (!lists->lists)
        return FAIL_NO_MEMORY(err, "a sparse query");
    for (uint32_t i = 0; i < terms->count; i++) {
        struct list *list = &lists->lists[lists->count];
        struct entry entry;
        bool found;
        TRY(entry_find(lists, terms->dims[i], &entry, &found, err));
        if (!found)
            continue;
        *list =
            (struct list){.term = i, .q = terms->weights[i], .slot = slots->given++ % LENGTHS_SLOT};
        TRY(open_list(lists, list, &entry, arena, err));
        lists->count++;
    }
    return OCH_OK;
}
