/* SPDX-License-Identifier: Apache-2.0 */
/* Walks in the order of values: nothing is left out that comes before what was given. */
#include "unit/index/meta_model.h"

#define ROWS  (2 * META_CHUNK + 5000u)
#define TEXTS 7u /* the last two are one to the dictionary */
#define KEYS  4u

static const char *const names[KEYS] = {"b", "f", "i", "s"};

/* The place of a row's value among those of its key; -1: it has none. */
static int64_t place_of(unsigned key, uint32_t row)
{
    if (row % 11 == key)
        return -1;
    return key == 0       ? row / 3 % 2
           : key == 1     ? row * 48271 % ROWS
           : key == 2     ? row / 7 % 6
           : row % 5 == 0 ? TEXTS - 2
                          : (row * 7919 >> 4) % (TEXTS - 2);
}

static slice text_of(uint32_t row, uint32_t place, uint8_t room[300])
{
    memset(room, 'a' + (int)place, 300);
    if (place < TEXTS - 2)
        return slice_make(room, 1 + place);
    room[280] = row % 2 ? 'A' : 'z'; /* what tells them apart is cut off */
    return slice_make(room, 300);
}

static slice row_of(void *context, uint32_t row)
{
    static uint8_t bytes[400], room[300];
    struct buf out = {.at = bytes, .cap = sizeof(bytes), .max = sizeof(bytes)};
    uint64_t count = 0;
    (void)context;
    for (unsigned key = 0; key < KEYS; key++)
        count += place_of(key, row) >= 0;
    buf_varint(&out, count);
    for (unsigned key = 0; key < KEYS; key++) {
        int64_t place = place_of(key, row);
        uint8_t value[8];
        if (place < 0)
            continue;
        double number = (double)place / 4;
        slice bytes_of = key == 0 ? slice_make(value, 1) : slice_make(value, 8);
        value[0] = (uint8_t)place;
        if (key == 1)
            memcpy(value, &number, 8);
        else if (key == 2)
            store_u64(value, (uint64_t)place);
        else if (key == 3)
            bytes_of = text_of(row, (uint32_t)place, room);
        buf_sized(&out, slice_of(names[key]));
        buf_byte(&out, key == 0   ? META_BOOL
                       : key == 1 ? META_FLOAT
                       : key == 2 ? META_INT
                                  : META_STRING);
        buf_sized(&out, bytes_of);
    }
    assert_false(out.failed);
    return buf_view(&out);
}

struct given {
    bool has[ROWS];
    uint32_t count, wanted;
};

static och_code begin(void *context, och_error *err)
{
    (void)context, (void)err;
    return OCH_OK;
}

static och_code give(void *context, const uint32_t *rows, uint32_t count, bool *ret_enough,
                     och_error *err)
{
    struct given *g = context;
    (void)err;
    assert_true(count > 0);
    for (uint32_t i = 0; i < count; i++) {
        assert_true(rows[i] < ROWS && !g->has[rows[i]]);
        g->has[rows[i]] = true;
    }
    g->count += count;
    *ret_enough = g->count >= g->wanted;
    return OCH_OK;
}

/* Values are compared in the walk's direction. */
static void check(const struct given *g, unsigned key, bool descending, bool in_order, int64_t from)
{
    int64_t last = INT64_MIN, sign = descending ? -1 : 1, begin_at = descending ? -from : from;
    uint32_t last_row = 0, with = 0, last_count = 0;
    for (uint32_t row = 0; row < ROWS; row++) {
        int64_t place = place_of(key, row), here = sign * place;
        with += place >= 0;
        if (!g->has[row])
            continue;
        assert_true(place >= 0);
        last_count = here == last ? last_count + 1 : here > last ? 1 : last_count;
        last_row = here >= last ? row : last_row;
        last = here > last ? here : last;
    }
    if (from < 0)
        assert_true(g->count >= g->wanted || g->count == with);
    for (uint32_t row = 0; row < ROWS; row++) {
        int64_t place = place_of(key, row), here = sign * place;
        if (g->has[row] || place < 0 || here > last || (from >= 0 && here < begin_at))
            continue;
        bool cut = key == 3 && place == TEXTS - 2;
        assert_true(here == last && in_order && !cut && row > last_row);
        assert_true(last_count >= 1 && g->count >= g->wanted);
    }
    /* little more than was wanted */
    if (in_order && key != 3)
        assert_true(g->count < g->wanted + META_CHUNK / 8);
}

static void what_comes_first_is_given(void **state)
{
    static struct given g;
    struct section s;
    uint8_t room[300];
    (void)state;
    assert_true(section_build(&s, ROWS, row_of, NULL, 0, NULL));
    for (unsigned run = 0; run < KEYS * 2 * 2 * 3 * 2; run++) {
        static const uint32_t wanted[] = {1, 100, ROWS};
        unsigned key = run % KEYS, rest = run / KEYS;
        bool descending = rest % 2, in_order = rest / 2 % 2, known, damaged;
        int64_t from = rest / 12 ? (key == 1 ? 5000 : key == 3 ? 2 : 1) : -1;
        struct filter_value bound = {.kind = FILTER_BOOL};
        if (key == 1)
            bound = (struct filter_value){.kind = FILTER_FLOAT, .number = (double)from / 4};
        if (key == 2)
            bound = (struct filter_value){.kind = FILTER_INT, .integer = from};
        if (key == 3 && from >= 0)
            bound = (struct filter_value){.kind = FILTER_STRING, .string = text_of(0, 2, room)};
        struct meta_order_options options = {.index = &s.index,
                                             .pages = &s.pages,
                                             .rows = ROWS,
                                             .key = slice_of(names[key]),
                                             .descending = descending,
                                             .rows_in_order = in_order,
                                             .from = from < 0 ? NULL : &bound,
                                             .column = begin,
                                             .give = give,
                                             .context = &g};
        memset(&g, 0, sizeof(g));
        g.wanted = wanted[rest / 4 % 3];
        MUST(meta_walk_order(&options, &known, &damaged, err));
        assert_true(known && !damaged);
        assert_int_equal(s.held, 0);
        check(&g, key, descending, in_order, from);
    }
    section_done(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_comes_first_is_given),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
