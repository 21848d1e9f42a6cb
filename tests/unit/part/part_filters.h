/* SPDX-License-Identifier: Apache-2.0 */
/* Filters by the metadata index of a part, against the rows one by one. */
#ifndef TESTS_UNIT_PART_PART_FILTERS_H
#define TESTS_UNIT_PART_PART_FILTERS_H

#include "model/filter.h"
#include "part/part_meta.h"

static const char *const filter_texts[] = {
    "{\"a\": 7}",
    "{\"a\": {\"$gte\": 50}}",
    "{\"a\": {\"$lt\": 3.5}}",
    "{\"a\": {\"$ne\": 7}}",
    "{\"b\": {\"$in\": [\"\", \"abc\", \"aaaaa\"]}}",
    "{\"b\": {\"$exists\": true}}",
    "{\"c\": {\"$nin\": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]}}",
    "{\"$and\": [{\"a\": {\"$gt\": 10}}, {\"c\": {\"$lte\": 60}}, {\"b\": {\"$ne\": \"\"}}]}",
    "{\"$or\": [{\"a\": {\"$gt\": 95}}, {\"$not\": {\"c\": {\"$exists\": true}}}]}",
    "{\"nobody\": true}",
};

static inline bool filter_fits(const struct filter *filter, slice metadata)
{
    struct filter_row row = {.have = FILTER_NEEDS_METADATA, .metadata = metadata};
    return filter_match(filter, &row) == FILTER_TRUE;
}

/* What the index says of one filter must hold; when it says nothing, nothing is asked of it.  *ret_said: it did. */
static inline och_code check_filter(struct part *part, const char *text,
                                    slice (*metadata)(const void *context, uint32_t row),
                                    const void *context, bool *ret_said, och_error *err)
{
    struct arena arena;
    struct part_filter *filter = NULL;
    struct filter_node *node = NULL;
    struct filter *compiled = NULL;
    static const struct json_options json_options;
    struct json_value json;
    struct json_fault fault;
    uint64_t sure[META_CHUNK_WORDS], maybe[META_CHUNK_WORDS];
    arena_init(&arena, NULL, 0);
    och_code code = json_read(slice_of(text), &json_options, &arena, &json, &fault, err);
    if (code == OCH_OK)
        code = filter_parse_where(&json, &arena, &node, err);
    if (code == OCH_OK)
        code = filter_compile(node, &compiled, err);
    struct part_filter_options options = {.compiled = compiled};
    if (code == OCH_OK)
        code = part_filter_new(part, node, &options, &arena, &filter, err);
    *ret_said = filter != NULL;
    for (uint32_t chunk = 0; code == OCH_OK && filter && chunk * META_CHUNK < part_rows(part);
         chunk++) {
        code = part_filter_chunk(filter, chunk, sure, maybe, ret_said, err);
        for (uint32_t i = 0; code == OCH_OK && *ret_said && i < META_CHUNK; i++) {
            uint32_t row = chunk * META_CHUNK + i;
            if (row >= part_rows(part))
                break;
            bool fits = filter_fits(compiled, metadata(context, row));
            assert_true(filter->search.exact);
            assert_int_equal(sure[i / 64] >> i % 64 & 1, fits);
        }
    }
    filter_free(compiled);
    arena_done(&arena);
    return code;
}
#endif
