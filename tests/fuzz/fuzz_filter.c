/* SPDX-License-Identifier: Apache-2.0 */
/* Filters.  First byte: 0 mod 3 a where clause as JSON, 1 a where_document clause, 2 encoded bytes.
 * What parses encodes to bytes that decode to the same bytes; matching with fields missing says
 * unknown or what matching with all of them says; a negation says the opposite. */
#include "base/mem.h"
#include "model/filter.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static bool parse(uint8_t how, slice text, struct arena *arena, struct filter_node **ret_node)
{
    och_error err = {0};
    if (how % 3 == 2) {
        struct reader reader = reader_of(text);
        return filter_decode(&reader, arena, ret_node, &err) == OCH_OK;
    }
    struct json_value value;
    struct json_fault fault;
    if (json_read(text, NULL, arena, &value, &fault, NULL) != OCH_OK)
        return false;
    och_code code = how % 3 ? filter_parse_document(&value, arena, ret_node, &err)
                            : filter_parse_where(&value, arena, ret_node, &err);
    if (code == OCH_OK)
        return true;
    require(code == OCH_INVALID && json_utf8_valid(slice_of(err.message)));
    return false;
}

static void round_trip(const struct filter_node *node, struct arena *arena)
{
    CLEANUP(buf_cleanup) struct buf first, second;
    struct filter_node *again;
    buf_init(&first, BUF_MAX_NONE);
    buf_init(&second, BUF_MAX_NONE);
    filter_encode(node, &first);
    struct reader reader = reader_of(buf_view(&first));
    require(filter_decode(&reader, arena, &again, NULL) == OCH_OK && reader_left(&reader) == 0);
    filter_encode(again, &second);
    require(slice_equal(buf_view(&first), buf_view(&second)));
}

static void match(const struct filter *filter, const struct filter *negated)
{
    static const uint8_t metadata[] = {
        3, 1,   'a',         META_INT, 8,   1,   0, 0,   0,          0, 0, 0, 0,
        1, 'b', META_STRING, 2,        'x', 'y', 1, 'c', META_BOOLS, 2, 0, 1};
    const struct filter_row rows[] = {
        {7, SLICE("a"), slice_make(metadata, sizeof(metadata)), SLICE("a document"), NULL},
        {7, SLICE(""), SLICE_NONE, SLICE_NONE, NULL},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        enum filter_truth whole = filter_match(filter, &rows[i]);
        require(whole != FILTER_UNKNOWN);
        require(filter_match(negated, &rows[i]) ==
                (whole == FILTER_TRUE ? FILTER_FALSE : FILTER_TRUE));
        for (unsigned have = 0; have < 7; have++) {
            struct filter_row row = rows[i];
            row.have = have;
            enum filter_truth part = filter_match(filter, &row);
            require(part == whole || part == FILTER_UNKNOWN);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct arena arena;
    struct filter_node *node;
    CLEANUP(filter_cleanup) struct filter *filter = NULL;
    CLEANUP(filter_cleanup) struct filter *negated = NULL;
    arena_init(&arena, NULL, 64u << 20);
    if (parse(data[0], slice_make(data + 1, size - 1), &arena, &node) && node) {
        round_trip(node, &arena);
        struct filter_node *children[] = {node};
        struct filter_node not = {.op = FILTER_NOT, .children = children, .child_count = 1};
        och_error err = {0};
        och_code code = filter_compile(node, &filter, &err);
        require(code == OCH_OK || code == OCH_INVALID);
        if (code == OCH_OK && filter_compile(&not, &negated, NULL) == OCH_OK)
            match(filter, negated);
    }
    arena_done(&arena);
    return 0;
}
