/* SPDX-License-Identifier: Apache-2.0 */
/* Bit slices: every instruction set against codes one by one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernel/bits.h"
#include "unit/kernel/guarded.h"

#define BLOCKS 3

static void put(uint8_t *body, unsigned width, uint32_t row, uint32_t code)
{
    uint8_t *at = body + row / BITS_ROWS * bits_block_size(width) + row % BITS_ROWS / 8;
    for (unsigned i = 0; i < width; i++) {
        if (code >> (width - 1 - i) & 1)
            at[(size_t)i * (BITS_ROWS / 8)] |= (uint8_t)(1u << row % 8);
    }
}

static void check(const struct kernel_bits *table, const uint8_t *body, unsigned width,
                  const uint32_t *codes, uint32_t low, uint32_t high)
{
    struct guarded memory = guarded_new(BLOCKS * BITS_WORDS * 8);
    uint64_t *out = (uint64_t *)(void *)(memory.end - BLOCKS * BITS_WORDS * 8);
    table->range(body, width, BLOCKS, low, high, out);
    for (uint32_t row = 0; row < BLOCKS * BITS_ROWS; row++) {
        bool is = codes[row] >= low && codes[row] <= high;
        assert_int_equal(out[row / 64] >> row % 64 & 1, is);
    }
    guarded_free(&memory);
}

static void every_table_finds_the_codes_of_a_range(void **state)
{
    const struct kernel_bits *const *tables;
    size_t count = kernel_bits_all(&tables);
    uint64_t seed = 1;
    (void)state;
    for (unsigned width = 1; width <= BITS_WIDTH_MAX; width++) {
        uint32_t codes[BLOCKS * BITS_ROWS], most = UINT32_MAX >> (32 - width);
        size_t size = BLOCKS * bits_block_size(width);
        struct guarded memory = guarded_new(size);
        uint8_t *body = memory.end - size; /* nothing is read past the last vector */
        for (uint32_t row = 0; row < COUNT_OF(codes); row++) {
            uint64_t random = next_random(&seed);
            codes[row] = (uint32_t)(random >> 8) & most;
            if (random % 4 == 0)
                codes[row] = random % 8 ? most : 0;
            put(body, width, row, codes[row]);
            assert_int_equal(bits_code(body, width, row), codes[row]);
        }
        for (unsigned i = 0; i < 12; i++) {
            uint32_t a = codes[next_random(&seed) % COUNT_OF(codes)],
                     b = codes[next_random(&seed) % COUNT_OF(codes)];
            uint32_t low = a < b ? a : b, high = a < b ? b : a;
            for (size_t t = 0; t < count; t++) {
                check(tables[t], body, width, codes, low, high);
                check(tables[t], body, width, codes, low, low);
                check(tables[t], body, width, codes, 0, high);
                check(tables[t], body, width, codes, low, most);
            }
        }
        guarded_free(&memory);
    }
}

static void any_alignment_will_do(void **state)
{
    const struct kernel_bits *const *tables;
    size_t count = kernel_bits_all(&tables);
    uint64_t seed = 2;
    uint8_t body[5 * 64 + 8];
    (void)state;
    for (unsigned shift = 0; shift < 8; shift++) {
        for (size_t i = 0; i < sizeof(body); i++)
            body[i] = (uint8_t)next_random(&seed);
        for (size_t t = 0; t < count; t++) {
            uint64_t out[BITS_WORDS];
            tables[t]->range(body + shift, 5, 1, 3, 17, out);
            for (uint32_t row = 0; row < BITS_ROWS; row++) {
                uint32_t code = bits_code(body + shift, 5, row);
                assert_int_equal(out[row / 64] >> row % 64 & 1, code >= 3 && code <= 17);
            }
        }
    }
}

static void every_table_makes_the_slices_of_codes(void **state)
{
    const struct kernel_bits *const *tables;
    size_t count = kernel_bits_all(&tables);
    uint64_t seed = 3;
    (void)state;
    for (unsigned width = 1; width <= BITS_WIDTH_MAX; width++) {
        size_t size = BLOCKS * bits_block_size(width);
        struct guarded source = guarded_new(BLOCKS * BITS_ROWS * 4), memory = guarded_new(size);
        uint32_t *codes = (uint32_t *)(void *)(source.end - BLOCKS * BITS_ROWS * 4);
        uint8_t *body = memory.end - size, *wanted = calloc(1, size);
        assert_non_null(wanted);
        for (uint32_t row = 0; row < BLOCKS * BITS_ROWS; row++) {
            uint64_t random = next_random(&seed);
            codes[row] = random % 4 ? (uint32_t)(random >> 8) & UINT32_MAX >> (32 - width)
                                    : (random % 8 ? UINT32_MAX >> (32 - width) : 0);
            put(wanted, width, row, codes[row]);
        }
        for (size_t t = 0; t < count; t++) {
            memset(body, 0xa5, size);
            tables[t]->slice(codes, BLOCKS, width, body);
            assert_memory_equal(body, wanted, size);
        }
        free(wanted);
        guarded_free(&source);
        guarded_free(&memory);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_table_finds_the_codes_of_a_range),
        cmocka_unit_test(any_alignment_will_do),
        cmocka_unit_test(every_table_makes_the_slices_of_codes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
