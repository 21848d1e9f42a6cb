/* SPDX-License-Identifier: Apache-2.0 */
/* Checksums, base64 and substring search: every table against slow and obvious ones. */
#include "kernel/kernel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "unit/kernel/guarded.h"

static uint32_t slow_crc(uint32_t crc, const uint8_t *at, size_t len)
{
    crc = ~crc;
    for (size_t i = 0; i < len; i++) {
        crc ^= at[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
    }
    return ~crc;
}

static void crc32c_knows_the_published_values(void **state)
{
    (void)state;
    const struct kernel *const *tables;
    size_t count = kernel_all(&tables);
    uint8_t zeros[32] = {0}, ones[32], rising[32], falling[32];
    memset(ones, 0xff, sizeof ones);
    for (size_t i = 0; i < 32; i++) {
        rising[i] = (uint8_t)i;
        falling[i] = (uint8_t)(31 - i);
    }
    for (size_t t = 0; t < count; t++) {
        assert_int_equal(tables[t]->crc32c(0, "", 0), 0);
        assert_int_equal(tables[t]->crc32c(0, "123456789", 9), 0xe3069283);
        assert_int_equal(tables[t]->crc32c(0, zeros, 32), 0x8a9136aa); /* RFC 3720 B.4 */
        assert_int_equal(tables[t]->crc32c(0, ones, 32), 0x62a8ab43);
        assert_int_equal(tables[t]->crc32c(0, rising, 32), 0x46dd794e);
        assert_int_equal(tables[t]->crc32c(0, falling, 32), 0x113fdb5c);
    }
}

static void crc32c_is_the_same_in_every_table_and_in_pieces(void **state)
{
    (void)state;
    const struct kernel *const *tables;
    size_t count = kernel_all(&tables);
    struct guarded memory = guarded_new(40000);
    uint64_t random = 3;
    for (uint8_t *p = memory.start; p < memory.end; p++)
        *p = (uint8_t)next_random(&random);
    for (size_t round = 0; round < 1400; round++) {
        size_t len = round < 1100 ? round : (size_t)(next_random(&random) % 36000);
        const uint8_t *at = memory.end - len;
        uint32_t seed = (uint32_t)next_random(&random);
        uint32_t want = slow_crc(seed, at, len);
        size_t cut = len ? (size_t)(next_random(&random) % len) : 0;
        for (size_t t = 0; t < count; t++) {
            uint32_t got = tables[t]->crc32c(seed, at, len);
            uint32_t pieces =
                tables[t]->crc32c(tables[t]->crc32c(seed, at, cut), at + cut, len - cut);
            if (got != want || pieces != want)
                fail_msg("%s len %zu: %08x, in pieces %08x, not %08x", tables[t]->name, len, got,
                         pieces, want);
        }
    }
    guarded_free(&memory);
}

/* Valid is what encoding gives: so decode without asking, encode again and compare. */
static size_t slow_decode(const uint8_t *text, size_t len, uint8_t *out)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char again[4096];
    size_t padding = len >= 1 && text[len - 1] == '=' ? 1u + (len >= 2 && text[len - 2] == '=') : 0;
    if (len % 4 != 0)
        return SIZE_MAX;
    size_t got = 0;
    uint32_t bits = 0;
    for (size_t i = 0; i < len; i++) {
        const char *at = text[i] ? strchr(alphabet, text[i]) : NULL;
        bits = bits << 6 | (at ? (uint32_t)(at - alphabet) : 0);
        if (i % 4 == 3) {
            out[got++] = (uint8_t)(bits >> 16);
            out[got++] = (uint8_t)(bits >> 8);
            out[got++] = (uint8_t)bits;
        }
    }
    got -= padding;
    if (kernel_base64_encode(out, got, again) != len || memcmp(again, text, len) != 0)
        return SIZE_MAX;
    return got;
}

static void base64_examples_of_the_rfc(void **state)
{
    (void)state;
    static const struct {
        const char *plain, *coded;
    } cases[] = {{"", ""},
                 {"f", "Zg=="},
                 {"fo", "Zm8="},
                 {"foo", "Zm9v"},
                 {"foob", "Zm9vYg=="},
                 {"fooba", "Zm9vYmE="},
                 {"foobar", "Zm9vYmFy"}};
    static const char *const wrong[] = {"Z",     "Zg",   "Zg=",  "Zh==", "Zm9=",     "=",
                                        "====",  "Zg=a", "Z===", "=g==", "Zg==Zg==", "Zm 9",
                                        "Zm9\n", "Zm9-", "Zm9_", "Zg==="};
    const struct kernel *const *tables;
    size_t count = kernel_all(&tables);
    for (size_t t = 0; t < count; t++) {
        for (size_t i = 0; i < COUNT_OF(cases); i++) {
            char coded[16];
            uint8_t plain[16];
            size_t len = strlen(cases[i].plain), coded_len = strlen(cases[i].coded);
            assert_int_equal(kernel_base64_encode((const uint8_t *)cases[i].plain, len, coded),
                             coded_len);
            assert_memory_equal(coded, cases[i].coded, coded_len);
            assert_int_equal(tables[t]->base64_decode((const uint8_t *)coded, coded_len, plain),
                             len);
            assert_memory_equal(plain, cases[i].plain, len);
        }
        for (size_t i = 0; i < COUNT_OF(wrong); i++) {
            uint8_t plain[16];
            size_t got =
                tables[t]->base64_decode((const uint8_t *)wrong[i], strlen(wrong[i]), plain);
            if (got != SIZE_MAX)
                fail_msg("%s takes %s", tables[t]->name, wrong[i]);
        }
    }
}

static void base64_of_every_length_comes_back_and_stays_in_bounds(void **state)
{
    (void)state;
    const struct kernel *const *tables;
    size_t count = kernel_all(&tables);
    struct guarded text = guarded_new(4096), room = guarded_new(4096);
    uint8_t plain[3000];
    char coded[4096];
    uint64_t random = 4;
    for (size_t len = 0; len < 700; len++) {
        for (size_t i = 0; i < len; i++)
            plain[i] = (uint8_t)next_random(&random);
        size_t coded_len = kernel_base64_encode(plain, len, coded);
        assert_int_equal(coded_len, (len + 2) / 3 * 4);
        uint8_t *at = memcpy(text.end - coded_len, coded, coded_len);
        uint8_t *out = room.end - coded_len / 4 * 3;
        for (size_t t = 0; t < count; t++) {
            memset(room.start, 0xaa, (size_t)(room.end - room.start));
            assert_int_equal(tables[t]->base64_decode(at, coded_len, out), len);
            assert_memory_equal(out, plain, len);
            assert_true(out == room.start || out[-1] == 0xaa);
        }
    }
    guarded_free(&text);
    guarded_free(&room);
}

static void base64_with_one_wrong_byte_is_judged_alike(void **state)
{
    (void)state;
    const struct kernel *const *tables;
    size_t count = kernel_all(&tables);
    static const size_t lens[] = {1, 2, 3, 24, 35, 36, 47, 48, 49, 50, 96, 97, 98, 145};
    uint8_t plain[256], got[256], want[256];
    uint8_t coded[256];
    uint64_t random = 5;
    for (size_t l = 0; l < COUNT_OF(lens); l++) {
        for (size_t i = 0; i < lens[l]; i++)
            plain[i] = (uint8_t)next_random(&random);
        size_t len = kernel_base64_encode(plain, lens[l], (char *)coded);
        for (size_t at = 0; at < len; at++) {
            uint8_t kept = coded[at];
            for (int byte = 0; byte < 256; byte++) {
                coded[at] = (uint8_t)byte;
                size_t want_len = slow_decode(coded, len, want);
                for (size_t t = 0; t < count; t++) {
                    size_t got_len = tables[t]->base64_decode(coded, len, got);
                    if (got_len != want_len ||
                        (want_len != SIZE_MAX && memcmp(got, want, want_len) != 0))
                        fail_msg("%s: byte %d at %zu of %zu", tables[t]->name, byte, at, len);
                }
            }
            coded[at] = kept;
        }
    }
}

static size_t slow_find(const uint8_t *text, size_t len, const uint8_t *needle, size_t needle_len)
{
    for (size_t at = 0; needle_len <= len && at <= len - needle_len; at++)
        if (needle_len == 0 || memcmp(text + at, needle, needle_len) == 0)
            return at;
    return SIZE_MAX;
}

static void find_agrees_with_trying_every_place(void **state)
{
    (void)state;
    const struct kernel *const *tables;
    size_t count = kernel_all(&tables);
    struct guarded text = guarded_new(4096), needle = guarded_new(4096);
    uint64_t random = 6;
    for (int round = 0; round < 30000; round++) {
        size_t len = (size_t)(next_random(&random) % (round % 10 == 0 ? 3000 : 200));
        uint64_t letters = 1 + next_random(&random) % (round % 3 == 0 ? 200 : 3);
        uint8_t *at = text.end - len;
        for (size_t i = 0; i < len; i++)
            at[i] = (uint8_t)(next_random(&random) % letters);
        size_t needle_len = (size_t)(next_random(&random) % (round % 2 ? 6 : 90));
        uint8_t *want = needle.end - needle_len;
        if (round % 5 && needle_len <= len)
            memcpy(want, at + next_random(&random) % (len - needle_len + 1), needle_len);
        else
            for (size_t i = 0; i < needle_len; i++)
                want[i] = (uint8_t)(next_random(&random) % letters);
        if (round % 7 == 0 && needle_len)
            want[next_random(&random) % needle_len] ^= 1;
        size_t place = slow_find(at, len, want, needle_len);
        for (size_t t = 0; t < count; t++) {
            size_t got = tables[t]->find(at, len, want, needle_len);
            if (got != place)
                fail_msg("%s: %zu, not %zu (text %zu, needle %zu)", tables[t]->name, got, place,
                         len, needle_len);
        }
    }
    guarded_free(&text);
    guarded_free(&needle);
}

/* Every place fits at both ends and none in the middle: a plain comparison at each would take 10^11 steps. */
static void find_stays_linear_on_hostile_text(void **state)
{
    (void)state;
    enum { TEXT = 4 << 20, NEEDLE = 1 << 16 };
    const struct kernel *const *tables;
    size_t count = kernel_all(&tables);
    uint8_t *text = malloc(TEXT), *needle = malloc(NEEDLE);
    assert_non_null(text);
    assert_non_null(needle);
    memset(text, 'a', TEXT);
    memset(needle, 'a', NEEDLE);
    needle[NEEDLE - 2] = 'b';
    for (size_t t = 0; t < count; t++) {
        assert_true(tables[t]->find(text, TEXT, needle, NEEDLE) == SIZE_MAX);
        text[TEXT - 2] = 'b';
        assert_true(tables[t]->find(text, TEXT, needle, NEEDLE) == TEXT - NEEDLE);
        text[TEXT - 2] = 'a';
    }
    free(text);
    free(needle);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc32c_knows_the_published_values),
        cmocka_unit_test(crc32c_is_the_same_in_every_table_and_in_pieces),
        cmocka_unit_test(base64_examples_of_the_rfc),
        cmocka_unit_test(base64_of_every_length_comes_back_and_stays_in_bounds),
        cmocka_unit_test(base64_with_one_wrong_byte_is_judged_alike),
        cmocka_unit_test(find_agrees_with_trying_every_place),
        cmocka_unit_test(find_stays_linear_on_hostile_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
