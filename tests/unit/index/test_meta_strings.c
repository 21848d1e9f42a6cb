/* SPDX-License-Identifier: Apache-2.0 */
/* Dictionaries of strings that share long beginnings, end in zeros, are beginnings of each other: in order, and with the right counts. */
#include "unit/index/meta_model.h"

#define ROWS     6000u
#define ELEMENTS 4u

static struct random random_state;

static uint32_t below(uint32_t limit)
{
    return (uint32_t)random_below(&random_state, limit);
}

struct texts {
    struct arena arena;
    slice texts[ROWS][ELEMENTS];
    uint32_t counts[ROWS]; /* 0: the key is not there */
    bool arrays;
    struct buf row; /* one for all: what the build was given does not stay */
};

/* Beginnings of 0 to 60 bytes that many share, then a few bytes of few values, zeros often among them. */
static slice text_of(struct texts *t, uint32_t kind)
{
    uint8_t text[80];
    size_t len = 0;
    uint32_t beginning = kind == 0 ? 0 : kind == 1 ? 19 : 4 * below(15);
    for (; len < beginning; len++)
        text[len] = kind == 2 && len > 2 ? 0 : (uint8_t)('a' + len % 3);
    uint32_t rest = below(kind == 2 ? 10 : 5);
    for (uint32_t i = 0; i < rest; i++)
        text[len++] = below(3) ? (uint8_t)(below(4) * 85) : 0;
    if (kind >= 2 && below(2)) /* the same eight bytes in hundreds */
        len += (size_t)snprintf((char *)text + len, sizeof(text) - len, "%05u", below(4000));
    return arena_copy(&t->arena, slice_make(text, len));
}

static void fill(struct texts *t, bool arrays, uint32_t kind)
{
    arena_init(&t->arena, NULL, 0);
    buf_init(&t->row, BUF_MAX_NONE);
    t->arrays = arrays;
    for (uint32_t row = 0; row < ROWS; row++) {
        t->counts[row] = below(5) == 0 ? 0 : arrays ? 1 + below(ELEMENTS) : 1;
        for (uint32_t i = 0; i < t->counts[row]; i++)
            t->texts[row][i] = text_of(t, kind);
    }
}

static slice metadata_of(void *context, uint32_t row)
{
    struct texts *t = context;
    struct buf value;
    buf_init(&value, BUF_MAX_NONE);
    buf_clear(&t->row);
    if (t->row.at)
        memset(t->row.at, 0xee, t->row.cap); /* what was given before is gone */
    for (uint32_t i = 0; i < t->counts[row]; i++) {
        if (t->arrays)
            buf_sized(&value, t->texts[row][i]);
        else
            buf_slice(&value, t->texts[row][i]);
    }
    buf_varint(&t->row, t->counts[row] != 0);
    if (t->counts[row]) {
        buf_sized(&t->row, SLICE("k"));
        buf_byte(&t->row, t->arrays ? META_STRINGS : META_STRING);
        buf_sized(&t->row, buf_view(&value));
    }
    buf_done(&value);
    assert_false(t->row.failed);
    return buf_view(&t->row);
}

static int compare_slices(const void *a, const void *b)
{
    return slice_compare(*(const slice *)a, *(const slice *)b);
}

struct expected {
    slice all[ROWS * ELEMENTS]; /* each row's distinct ones, in order */
    size_t count, at;
};

static void expect(const struct texts *t, struct expected *e)
{
    e->count = e->at = 0;
    for (uint32_t row = 0; row < ROWS; row++) {
        for (uint32_t i = 0; i < t->counts[row]; i++) {
            bool again = false;
            for (uint32_t j = 0; j < i; j++)
                again = again || slice_equal(t->texts[row][i], t->texts[row][j]);
            if (!again)
                e->all[e->count++] = t->texts[row][i];
        }
    }
    qsort(e->all, e->count, sizeof(slice), compare_slices);
}

static och_code check_next(void *context, uint8_t type, slice value, uint64_t count, och_error *err)
{
    struct expected *e = context;
    (void)err;
    assert_int_equal(type, META_STRING);
    for (uint64_t i = 0; i < count; i++, e->at++) {
        assert_true(e->at < e->count);
        assert_int_equal(e->all[e->at].len, value.len);
        assert_memory_equal(e->all[e->at].at, value.at, value.len);
    }
    assert_true(e->at == e->count || slice_compare(e->all[e->at], value) > 0);
    return OCH_OK;
}

static void values_are_counted_in_the_order_of_their_bytes(void **state)
{
    static struct texts t;
    static struct expected e;
    (void)state;
    for (uint32_t run = 0; run < 8; run++) {
        struct section s;
        struct arena arena;
        bool known, damaged;
        random_seed(&random_state, 40 + run);
        fill(&t, run >= 4, run % 4);
        expect(&t, &e);
        assert_true(section_build(&s, ROWS, metadata_of, &t, 0, NULL));
        arena_init(&arena, NULL, 0);
        struct meta_count_options options = {.index = &s.index,
                                             .pages = &s.pages,
                                             .rows = ROWS,
                                             .key = SLICE("k"),
                                             .arena = &arena,
                                             .counted = check_next,
                                             .context = &e};
        MUST(meta_count_values(&options, &known, &damaged, err));
        assert_true(known);
        assert_int_equal(e.at, e.count);
        arena_done(&arena);
        section_done(&s);
        buf_done(&t.row);
        arena_done(&t.arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_counted_in_the_order_of_their_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
