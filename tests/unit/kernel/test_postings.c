/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of rows: every instruction set against numbers one by one, nothing touched that may not be. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernel/postings.h"
#include "unit/kernel/guarded.h"

#define MOST 150u

static uint32_t most_of(unsigned width)
{
    return width ? UINT32_MAX >> (32 - width) : 0;
}

static void put(uint8_t *packed, unsigned width, uint32_t i, uint32_t value)
{
    for (unsigned b = 0; b < width; b++) {
        uint64_t bit = (uint64_t)i * width + b;
        packed[bit / 8] |= (uint8_t)((value >> b & 1) << bit % 8);
    }
}

/* Numbers of which some are the greatest and the least, packed so that the last byte that may be read ends the memory. */
static uint8_t *pack(struct guarded *memory, unsigned width, const uint32_t *values, uint32_t count)
{
    uint64_t last = count ? (uint64_t)(count - 1) * width / 8 + 8 : 0;
    uint8_t *packed = memory->end - last;
    for (uint32_t i = 0; i < count; i++)
        put(packed, width, i, values[i]);
    return packed;
}

static void every_table_unpacks_numbers_of_every_width(void **state)
{
    const struct kernel_postings *const *tables;
    size_t table_count = kernel_postings_all(&tables);
    uint64_t seed = 1;
    (void)state;
    for (unsigned width = 0; width <= POSTINGS_WIDTH_MAX; width++) {
        for (uint32_t count = 0; count <= MOST; count += count < 40 ? 1 : 11) {
            struct guarded from = guarded_new(MOST * 4 + 8);
            uint32_t values[MOST], base = count % 2 ? 0 : (uint32_t)next_random(&seed);
            for (uint32_t i = 0; i < count; i++) {
                uint64_t random = next_random(&seed);
                values[i] = random % 4 == 0 ? most_of(width) : (uint32_t)random & most_of(width);
            }
            const uint8_t *packed = pack(&from, width, values, count);
            for (uint32_t i = 0; i < count; i++)
                values[i] += base;
            for (size_t t = 0; t < table_count; t++) {
                struct guarded to = guarded_new(MOST * 4);
                uint32_t *out = (uint32_t *)(void *)(to.end - 4 * (size_t)count);
                tables[t]->unpack(packed, width, count, base, out);
                assert_memory_equal(out, values, 4 * (size_t)count);
                guarded_free(&to);
            }
            guarded_free(&from);
        }
    }
}

static void every_table_makes_rows_of_gaps(void **state)
{
    const struct kernel_postings *const *tables;
    size_t table_count = kernel_postings_all(&tables);
    uint64_t seed = 2;
    (void)state;
    for (unsigned width = 0; width <= POSTINGS_WIDTH_MAX; width++) {
        for (uint32_t count = 1; count <= MOST; count += count < 40 ? 1 : 8) {
            struct guarded from = guarded_new(MOST * 4 + 8);
            uint32_t gaps[MOST], rows[MOST], first = (uint32_t)next_random(&seed);
            uint64_t row = first;
            first = count % 3 ? first : UINT32_MAX;
            row = rows[0] = first;
            for (uint32_t i = 1; i < count; i++) {
                uint64_t random = next_random(&seed);
                gaps[i - 1] = random % 4 == 0 ? most_of(width) : (uint32_t)random & most_of(width);
                row += 1 + (uint64_t)gaps[i - 1];
                rows[i] = (uint32_t)row;
            }
            const uint8_t *packed = pack(&from, width, gaps, count - 1);
            for (size_t t = 0; t < table_count; t++) {
                struct guarded to = guarded_new(MOST * 4);
                uint32_t *out = (uint32_t *)(void *)(to.end - 4 * (size_t)count);
                uint64_t last = tables[t]->unpack_rows(packed, width, count, first, out);
                assert_true(last == row); /* in 64 bits, wrapped or not */
                assert_memory_equal(out, rows, 4 * (size_t)count);
                guarded_free(&to);
            }
            guarded_free(&from);
        }
    }
}

static void every_table_finds_the_same_sums(void **state)
{
    const struct kernel_postings *const *tables;
    size_t table_count = kernel_postings_all(&tables);
    uint64_t seed = 3;
    static const float floors[] = {-INFINITY, -1, 0, 0.25f, 0.5f, 0.999f, INFINITY};
    (void)state;
    for (uint32_t n = 0; n <= 256; n += 16) {
        struct guarded from = guarded_new(1024);
        float *sums = (float *)(void *)(from.end - 4 * (size_t)n);
        for (uint32_t i = 0; i < n; i++) {
            uint64_t random = next_random(&seed);
            sums[i] = random % 9 == 0 ? NAN : (float)(random % 8) / 4 - 0.5f;
        }
        for (size_t f = 0; f < COUNT_OF(floors); f++) {
            uint32_t expected[256], count = 0;
            for (uint32_t i = 0; i < n; i++) {
                if (sums[i] >= floors[f])
                    expected[count++] = i;
            }
            for (size_t t = 0; t < table_count; t++) {
                uint32_t places[256 + 16];
                assert_int_equal(tables[t]->above(sums, n, floors[f], n, places), count);
                assert_memory_equal(places, expected, 4 * (size_t)count);
                for (uint32_t most = 0; most < count; most += 5) { /* enough to know: too many */
                    uint32_t some = tables[t]->above(sums, n, floors[f], most, places);
                    assert_true(some > most && some <= count);
                    assert_memory_equal(places, expected, 4 * (size_t)some);
                }
            }
        }
        guarded_free(&from);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_table_unpacks_numbers_of_every_width),
        cmocka_unit_test(every_table_makes_rows_of_gaps),
        cmocka_unit_test(every_table_finds_the_same_sums),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
