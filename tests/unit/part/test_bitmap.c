/* SPDX-License-Identifier: Apache-2.0 */
/* Deletion bitmaps: words to Roaring and back, and what is not Roaring is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "part/part.h"

static void fill(struct bitset *set, struct random *random, unsigned kind)
{
    for (size_t i = 0; i < set->bits; i++) {
        bool in = kind == 0   ? false
                  : kind == 1 ? true
                  : kind == 2 ? random_below(random, 1000) == 0
                  : kind == 3 ? random_below(random, 2) == 0
                              : i / 5000 % 2 == 1;
        if (in)
            bitset_add(set, i);
    }
}

static void bitmaps_come_back(void **state)
{
    (void)state;
    const size_t sizes[] = {0, 1, 63, 64, 65, 65535, 65536, 65537, 300000};
    struct random random;
    random_seed(&random, 1);
    for (size_t s = 0; s < COUNT_OF(sizes); s++) {
        for (unsigned kind = 0; kind < 5; kind++) {
            struct bitset set, back;
            struct buf out;
            assert_true(bitset_init(&set, sizes[s]));
            fill(&set, &random, kind);
            buf_init(&out, BUF_MAX_NONE);
            assert_int_equal(part_bitmap_encode(&set, &out, NULL), OCH_OK);
            if (kind == 0 || kind == 1)
                assert_true(out.len < 200);
            assert_int_equal(part_bitmap_decode(buf_view(&out), (uint32_t)sizes[s], &back, NULL),
                             OCH_OK);
            assert_int_equal(back.bits, set.bits);
            for (size_t i = 0; i < bitset_words(set.bits); i++)
                assert_true(back.words[i] == set.words[i]);
            bitset_done(&back);
            size_t count = bitset_count(&set);
            if (count && sizes[s] < 70000) { // a row that the part does not have
                uint32_t last = 0;
                for (size_t i = bitset_next(&set, 0); i < set.bits; i = bitset_next(&set, i + 1))
                    last = (uint32_t)i;
                och_error failure = {0};
                assert_int_equal(part_bitmap_decode(buf_view(&out), last, &back, &failure),
                                 OCH_CORRUPT);
                assert_non_null(strstr(failure.message, "names row"));
            }
            bitset_done(&set);
            buf_done(&out);
        }
    }
}

static void malformed_ones_are_refused(void **state)
{
    (void)state;
    struct random random;
    struct bitset set, back;
    struct buf out;
    random_seed(&random, 2);
    assert_true(bitset_init(&set, 200000));
    fill(&set, &random, 2);
    for (size_t i = 70000; i < 90000; i++)
        bitset_add(&set, i);
    buf_init(&out, BUF_MAX_NONE);
    assert_int_equal(part_bitmap_encode(&set, &out, NULL), OCH_OK);
    assert_int_equal(part_bitmap_decode(SLICE_NONE, 10, &back, NULL), OCH_CORRUPT);
    for (size_t len = 0; len < out.len; len++) {
        uint8_t *cut = malloc(len + 1);
        memcpy(cut, out.at, len);
        assert_int_equal(part_bitmap_decode(slice_make(cut, len), 200000, &back, NULL),
                         OCH_CORRUPT);
        free(cut);
    }
    for (unsigned i = 0; i < 20000; i++) { // no crash; rows stay in range
        size_t at = (size_t)random_below(&random, out.len);
        uint8_t kept = out.at[at];
        out.at[at] = (uint8_t)random_u64(&random);
        if (part_bitmap_decode(buf_view(&out), 200000, &back, NULL) == OCH_OK) {
            assert_true(bitset_count(&back) <= 200000);
            bitset_done(&back);
        }
        out.at[at] = kept;
    }
    bitset_done(&set);
    buf_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bitmaps_come_back),
        cmocka_unit_test(malformed_ones_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
