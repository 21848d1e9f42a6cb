/* SPDX-License-Identifier: Apache-2.0 */
/* Words of a text: where they begin and end, what is one and the same, and what BM25 makes of them beside the formula of the book. */
#include "model/terms.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint32_t cut(slice text, uint32_t *terms, uint32_t most)
{
    struct terms walk = terms_of(text);
    uint32_t count = 0, term;
    while (terms_next(&walk, &term)) {
        assert_true(count < most);
        terms[count++] = term;
    }
    assert_false(terms_next(&walk, &term)); /* stays at the end */
    return count;
}

static void words_are_runs_of_letters_marks_and_digits_in_lower_case(void **state)
{
    (void)state;
    /* both columns are the same terms in the same order */
    static const char *const same[][2] = {
        {"The quick, brown fox!", "the quick brown fox"},
        {"  a-b_c.d/e ", "A B C D E"},
        {"don't", "DON T"},
        {"3.14 2024-05", "3 14 2024 05"},
        {"ÉCOLE Éa", "école éa"},
        {"ПРИВЕТ, мир", "привет МИР"},
        {"ὈΔΥΣΣΕΎΣ", "ὀδυσσεύς"},
        {"STRAẞE", "straße"},
        {"İstanbul", "istanbul"},
        {"Ǆ ǅ", "ǆ ǆ"},
        {"ＡＢｃ１", "abc1"},
        {"naïve café", "NAÏVE CAFÉ"},
        {"e\xCC\x81t\xC3\xA9", "E\xCC\x81T\xC3\x89"}, /* a mark belongs to its word */
        {"क्षत्रिय हिन्दी", "क्षत्रिय—हिन्दी"},
        {"𐐀𐐁", "𐐨𐐩"},
        {"日本語", "日本、本語"},
        {"日本語ABC漢字", "日本 本語 abc 漢字"},
        {"水", "「水」"},
        {"カタカナ", "カタ タカ カナ"},
        {"한국어 말", "한국 국어 말"},
        {"", " \t\n…—。!"}};
    for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
        uint32_t a[32], b[32];
        uint32_t count = cut(slice_of(same[i][0]), a, 32);
        if (count != cut(slice_of(same[i][1]), b, 32) || memcmp(a, b, count * sizeof(*a)) != 0)
            fail_msg("\"%s\" is not \"%s\"", same[i][0], same[i][1]);
    }
    uint32_t terms[8];
    assert_int_equal(cut(SLICE("the quick brown fox"), terms, 8), 4);
    assert_int_equal(cut(SLICE("日本語"), terms, 8), 2);
    assert_int_equal(cut(SLICE("水"), terms, 8), 1);
    assert_int_equal(cut(SLICE(" .. "), terms, 8), 0);
    /* composed and decomposed are two words */
    uint32_t composed, decomposed;
    (void)cut(SLICE("\xC3\xA9"), &composed, 1);
    (void)cut(SLICE("e\xCC\x81"), &decomposed, 1);
    assert_int_not_equal(composed, decomposed);
}

static void a_term_is_a_hash_that_stays(void **state)
{
    (void)state;
    /* FNV-1a in 64 bits of "a" is af63dc4c8601ec8c: its halves joined.  Stored indexes hold these. */
    uint32_t term;
    assert_int_equal(cut(SLICE("A"), &term, 1), 1);
    assert_int_equal(term, 0xaf63dc4cu ^ 0x8601ec8cu);
    assert_int_equal(cut(SLICE("Foobar"), &term, 1), 1);
    assert_int_equal(term, 0x85944171u ^ 0xf73967e8u);
}

/* Copies at the end of their memory, so that a read beyond is seen. */
static void any_bytes_are_cut_into_something(void **state)
{
    (void)state;
    uint32_t seed = 1, terms[64];
    for (int round = 0; round < 20000; round++) {
        size_t len = (size_t)(round % 40);
        uint8_t *text = malloc(len ? len : 1);
        assert_non_null(text);
        for (size_t i = 0; i < len; i++) {
            seed = seed * 1664525u + 1013904223u;
            text[i] = (uint8_t)(seed >> 24 | (seed >> 9 & 0x80));
        }
        uint32_t count = cut(slice_make(text, len), terms, 64);
        assert_true(count <= len / 2 + 1); /* what builders count on */
        free(text);
    }
    static const char *const torn[] = {"\xE6",     "\xE6\x97",     "\xF0\x90\x90",     "\xC3",
                                       "\xFF\xFE", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xC0\x80"};
    for (size_t i = 0; i < sizeof(torn) / sizeof(torn[0]); i++)
        assert_int_equal(cut(slice_of(torn[i]), terms, 64), 0);
    assert_int_equal(cut(SLICE("a\xE6"
                               "b"),
                         terms, 64),
                     2);
}

static void weights_are_those_of_the_formula(void **state)
{
    (void)state;
    for (uint32_t count = 1; count < 50; count += 7) {
        for (uint32_t length = count; length < 2000; length += 37) {
            double average = 115.25;
            struct terms_norm norm = terms_norm_of(400, 46100);
            double expected = count * 2.2 / (count + 1.2 * (1 - 0.75 + 0.75 * length / average));
            assert_true(fabs((double)terms_weight(norm, (float)count, length) - expected) <
                        1e-5 * expected);
        }
    }
    assert_true(fabs((double)terms_idf(1000, 10) - log((1000 - 10 + 0.5) / 10.5 + 1)) < 1e-6);
    assert_true(terms_idf(5, 5) > 0);
    assert_true(terms_idf(5, 9) == terms_idf(5, 5));
    struct terms_norm none = terms_norm_of(0, 0);
    assert_true(isfinite(terms_weight(none, 1, 0)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_are_runs_of_letters_marks_and_digits_in_lower_case),
        cmocka_unit_test(a_term_is_a_hash_that_stays),
        cmocka_unit_test(any_bytes_are_cut_into_something),
        cmocka_unit_test(weights_are_those_of_the_formula),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
