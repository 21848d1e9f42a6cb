/* SPDX-License-Identifier: Apache-2.0 */
/* Counting: rows that hold a dimension, and the documents of an index of text, rows that are gone left out. */
#include "index/sparse/sparse_internal.h"

static bool any_bit(const uint64_t *words, uint32_t from, uint32_t end)
{
    for (uint32_t w = from / 64; w <= (end - 1) / 64; w++) {
        uint64_t bits = words[w];
        if (w == from / 64)
            bits &= UINT64_MAX << from % 64;
        if (w == (end - 1) / 64)
            bits &= UINT64_MAX >> (63 - (end - 1) % 64);
        if (bits)
            return true;
    }
    return false;
}

static och_code count_list(struct lists *lists, struct list *list, const uint64_t *dead,
                           uint64_t *ret_count, och_error *err)
{
    uint64_t count = list->df;
    for (uint32_t b = 0; dead && b < list->block_count; b++) {
        uint32_t end =
            b + 1 < list->block_count ? list->runs[b + 1].first_row : lists->segment.end_row;
        if (!any_bit(dead, list->runs[b].first_row, end))
            continue;
        TRY(list_decode(lists, list, b, err));
        for (uint32_t i = 0; i < list->count; i++)
            count -= dead[list->rows[i] / 64] >> list->rows[i] % 64 & 1;
    }
    *ret_count += count;
    return OCH_OK;
}

och_code sparse_count(const struct sparse_index *index, const struct sparse_pages *pages, slice key,
                      const struct sparse_terms *terms, const uint64_t *dead,
                      const struct limits_of_work *limits, struct arena *arena, uint64_t *holders,
                      uint64_t *ret_offset, och_error *err)
{
    uint32_t number = index_key(index, key);
    for (uint32_t i = 0; number != UINT32_MAX && i < index->segment_count; i++) {
        struct lists lists;
        struct slots slots = {0};
        struct arena made;
        if (segment_at(index, i).key != number)
            continue;
        arena_init(&made, arena->budget, 0);
        och_code code = lists_open(&lists, &slots, index, pages, i, terms, NULL, &made, err);
        for (uint32_t l = 0; code == OCH_OK && l < lists.count; l++) {
            if (limits)
                code = work_check(limits, err);
            if (code == OCH_OK)
                code =
                    count_list(&lists, &lists.lists[l], dead, &holders[lists.lists[l].term], err);
        }
        *ret_offset = slots.fault_offset;
        arena_done(&made);
        TRY(code);
    }
    return OCH_OK;
}

och_code sparse_totals(const struct sparse_index *index, const struct sparse_pages *pages,
                       const uint64_t *dead, uint64_t *ret_documents, uint64_t *ret_terms,
                       och_error *err)
{
    uint64_t documents = index->documents, terms = index->terms;
    const uint8_t *lengths = NULL;
    uint32_t first = 0, there = 0;
    for (uint32_t w = 0; dead && w * 64 < index->rows; w++) {
        for (uint64_t left = dead[w]; left; left &= left - 1) {
            uint32_t row = w * 64 + (uint32_t)__builtin_ctzll(left);
            if (row >= index->rows)
                break;
            if (row - first >= there) {
                size_t len;
                TRY(pages->at(pages->context, LENGTHS_SLOT, index->lengths_at + 4 * (uint64_t)row,
                              &lengths, &len, err));
                first = row;
                there = (uint32_t)min_size(len / 4, index->rows - row);
                if (!there)
                    return FAIL(err, OCH_CORRUPT, "documents' lengths are cut");
            }
            uint32_t length = load_u32(lengths + 4 * (size_t)(row - first));
            documents -= length != TERMS_NONE;
            terms -= length != TERMS_NONE ? length : 0;
        }
    }
    *ret_documents = documents;
    *ret_terms = terms;
    return OCH_OK;
}
