/* SPDX-License-Identifier: Apache-2.0 */
/* Conditions made from patterns, against the engine: a document that matches fulfils the condition, always. */
#include "text_fixture.h"

/* Letters with more than one other case, letters without, bytes of all lengths, a zero. */
static const char *const letters[] = {"a",           "A",
                                      "ſ",           "s",
                                      "S",           "k",
                                      "K",           "\xe2\x84\xaa",
                                      "é",           "É",
                                      "ß",           "ẞ",
                                      "İ",           "ı",
                                      "i",           "I",
                                      "σ",           "ς",
                                      "Σ",           "文",
                                      "件",          "\xf0\x9f\x98\x80",
                                      "1",           "_",
                                      " ",           "\n",
                                      "x",           "å",
                                      "\xe2\x84\xab"};

struct maker {
    struct random random;
    struct buf out;
};

static const char *letter(struct maker *m)
{
    return letters[random_below(&m->random, COUNT_OF(letters))];
}

static void make_class(struct maker *m, unsigned depth)
{
    static const char *const sets[] = {
        "[a-c]",  "[^a]",     "[sS]",      "[[:alpha:]]", "[a-z&&[^aeiou]]",
        "[]a]",   "[^]a]",    "[a-]",      "[-a]",        "[\\]\\-k]",
        "[k]",    "[文件]",   "[\\d_]",    "[a--[b]]",    "[]-a]",
        "[A-[a]", "[x~~[a]]", "[^\\s\\S]", "[ é]"};
    if (depth || random_below(&m->random, 3)) {
        buf_text(&m->out, sets[random_below(&m->random, COUNT_OF(sets))]);
        return;
    }
    buf_byte(&m->out, '[');
    for (uint64_t i = 1 + random_below(&m->random, 4); i > 0; i--) {
        const char *c = letter(m);
        buf_text(&m->out, *c == '\n' || *c == ' ' ? "z" : c);
    }
    buf_byte(&m->out, ']');
}

static void make_atom(struct maker *m, unsigned depth);

static void make_sequence(struct maker *m, unsigned depth)
{
    for (uint64_t i = random_below(&m->random, 5); i > 0; i--)
        make_atom(m, depth);
}

static void make_choices(struct maker *m, unsigned depth)
{
    make_sequence(m, depth);
    for (uint64_t i = random_below(&m->random, 3); i > 0; i--) {
        buf_byte(&m->out, '|');
        make_sequence(m, depth);
    }
}

static void make_atom(struct maker *m, unsigned depth)
{
    static const char *const specials[] = {
        ".",       "^",          "$",           "\\b",        "\\B",  "\\d",  "\\w",
        "\\S",     "\\p{Greek}", "\\pL",        "\\PL",       "\\A",  "\\z",  "\\x41",
        "\\x{e9}", "\\u6587",    "\\U0000004B", "\\.",        "\\\\", "\\n",  "\\t",
        "\\x{0}",  "(?i)",       "(?x)",        "(?-i)",      "(?s)", "(?m)", "(?U)",
        "\\-",     "\\ ",        "\\#",         "\\b{start}", "\\<"};
    static const char *const heads[] = {
        "(", "(?:", "(?P<n>", "(?<m>", "(?i:", "(?x: ", "(?is-m:", "(?-i:", "(?x)("};
    static const char *const tails[] = {"*",   "+",  "?",  "{2}", "{0,2}", "{1,}", "{2,3}", "{3}",
                                        "{0}", "*?", "+?", "??",  "{2}?",  "{5}",  "{1,1}"};
    uint64_t kind = random_below(&m->random, 12);
    if (kind == 0 && depth < 4) {
        buf_text(&m->out, heads[random_below(&m->random, COUNT_OF(heads))]);
        make_choices(m, depth + 1);
        buf_byte(&m->out, ')');
    } else if (kind == 1) {
        make_class(m, 0);
    } else if (kind == 2) {
        buf_text(&m->out, specials[random_below(&m->random, COUNT_OF(specials))]);
    } else {
        buf_text(&m->out, letter(m));
    }
    if (random_below(&m->random, 4) == 0)
        buf_text(&m->out, tails[random_below(&m->random, COUNT_OF(tails))]);
}

static slice make_text(struct maker *m, struct arena *arena)
{
    struct buf out;
    buf_init(&out, BUF_MAX_NONE);
    for (uint64_t i = random_below(&m->random, 12); i > 0; i--) {
        uint64_t kind = random_below(&m->random, 20);
        if (kind == 0)
            buf_byte(&out, 0);
        else
            buf_text(&out, kind == 1 ? "e" : letter(m));
    }
    slice copy = arena_copy(arena, buf_view(&out));
    buf_done(&out);
    return copy;
}

struct tally {
    unsigned patterns, matching, refused, others, exact;
};

static void check_pattern(struct tally *tally, slice pattern, const slice *texts, size_t count)
{
    struct arena arena;
    struct text_query query;
    rure *regex = corpus_regex(pattern);
    if (!regex)
        return;
    tally->patterns++;
    arena_init(&arena, NULL, 0);
    text_query_regex(pattern, &arena, &query);
    for (size_t i = 0; i < count; i++) {
        bool truth = corpus_matches(regex, texts[i]), allowed = text_query_allows(&query, texts[i]);
        tally->matching += truth;
        tally->others += !truth;
        tally->refused += !allowed;
        tally->exact += query.exact;
        if (truth && !allowed)
            fail_msg("\"%.*s\" matches \"%.*s\", which is refused", SLICE_ARG(pattern),
                     SLICE_ARG(texts[i]));
        if (query.exact && allowed && !truth)
            fail_msg("\"%.*s\" does not match \"%.*s\", which is taken for sure",
                     SLICE_ARG(pattern), SLICE_ARG(texts[i]));
    }
    arena_done(&arena);
    rure_free(regex);
}

static void what_matches_is_a_candidate(void **state)
{
    struct maker m = {0};
    struct arena arena;
    struct tally tally = {0};
    slice texts[40];
    (void)state;
    random_seed(&m.random, 20261126);
    for (unsigned round = 0; round < 12000; round++) {
        buf_init(&m.out, BUF_MAX_NONE);
        arena_init(&arena, NULL, 0);
        if (random_below(&m.random, 4) == 0)
            buf_text(&m.out, random_below(&m.random, 2) ? "(?i)" : "(?x)");
        make_choices(&m, 0);
        for (size_t i = 0; i < COUNT_OF(texts); i++)
            texts[i] = make_text(&m, &arena);
        // the pattern itself, where it is plain, matches itself
        texts[0] = buf_view(&m.out);
        check_pattern(&tally, buf_view(&m.out), texts, COUNT_OF(texts));
        arena_done(&arena);
        buf_done(&m.out);
    }
    print_message("%u patterns; %u texts match; %u of %u others refused; %u exact\n",
                  tally.patterns, tally.matching, tally.refused, tally.others, tally.exact);
    assert_true(tally.patterns > 5000 && tally.matching > 20000);
    assert_true(tally.refused * 4 > tally.others); // it is of use
}

/* Cases that have a rule of their own; texts on both sides. */
static void places_where_the_syntax_has_its_own_ways(void **state)
{
    static const char *const patterns[] = {"abc",
                                           "a{0}b",
                                           "",
                                           "a||b",
                                           "()",
                                           "(a|)",
                                           "[]]abc",
                                           "[^]]abc",
                                           "[]-a]xyz",
                                           "[a-]xyz",
                                           "[-a]xyz",
                                           "[--[b]]xyz",
                                           "[a--[b]]xyz",
                                           "[A-[a]xyz]",
                                           "(?x) a b [ x y ] c # remark\n d",
                                           "(?x)a{2} \\ b",
                                           "(?i)straße",
                                           "(?i)STRASSE",
                                           "(?i)kelvin",
                                           "(?i)\xe2\x84\xaa",
                                           "(?i)σ",
                                           "(?i)(?-i)k",
                                           "a(?i)b|c",
                                           "(?:(?i)a)b",
                                           "(?i:a)b",
                                           "foo(bar)?baz",
                                           "(foo|bar){2}",
                                           "a+bc",
                                           "(ab)+c",
                                           "x{2,4}y",
                                           "(?s).abc.",
                                           "^abc$",
                                           "\\babc\\b",
                                           "(?m)^abc",
                                           "\\x61bc",
                                           "\\x{61}bc",
                                           "\\u0061bc",
                                           "\\U00000061bc",
                                           "[\\x61-\\x63]yz",
                                           "文件|ファイル",
                                           "[文件]ab",
                                           "a.c",
                                           "a\\.c",
                                           "\\p{Greek}abc",
                                           "\\pLabc",
                                           "[[:alpha:]]abc",
                                           "[[:^alpha:]]abc",
                                           "(?P<name>abc)d",
                                           "(?<name>abc)d",
                                           "(a*)*b",
                                           "(x?){10}",
                                           "(a|b|c){5}",
                                           "colou?r",
                                           "(?i)segmentation fault",
                                           "err(or|no).*failed",
                                           "https?://[a-z.]+\\.org",
                                           "\\d{4}-\\d{2}",
                                           "(?u)abc",
                                           "ab(?#c)",
                                           "a\\b{2}bc",
                                           "\\b{start}abc",
                                           "(?i)[k]elvin",
                                           "(?i)[^k]elvin",
                                           "(?i)ſ",
                                           "(?i)ǆ",
                                           "a\\Qb",
                                           "(?R)$abc",
                                           "\\z",
                                           "x*",
                                           "(?i)İ",
                                           "(?i)ı"};
    static const char *const texts[] = {"abc",
                                        "xabcx",
                                        "b",
                                        "",
                                        "a",
                                        "ab",
                                        "]abc",
                                        "xabc",
                                        "]xyz",
                                        "-xyz",
                                        "axyz",
                                        "^xyz",
                                        "bxyz",
                                        "abxcd",
                                        "abyc d",
                                        "aa b",
                                        "STRASSE",
                                        "straße",
                                        "STRAẞE",
                                        "strasse",
                                        "Kelvin",
                                        ("\xe2\x84\xaa"
                                         "elvin"),
                                        "kelvin",
                                        "σ",
                                        "ς",
                                        "Σ",
                                        "k",
                                        "K",
                                        "aB",
                                        "C",
                                        "c",
                                        "Ab",
                                        "AB",
                                        "foobarbaz",
                                        "foobaz",
                                        "foofoo",
                                        "barfoo",
                                        "aabc",
                                        "ababc",
                                        "xxxxxy",
                                        "\nabc\n",
                                        "文件",
                                        "ファイル",
                                        "件ab",
                                        "axc",
                                        "a.c",
                                        "αabc",
                                        "abcd",
                                        "color",
                                        "colour",
                                        "SEGMENTATION FAULT",
                                        "ſegmentation fault",
                                        "errno has failed",
                                        "http://a.org",
                                        "2024-01",
                                        "S",
                                        "ſ",
                                        "s",
                                        "ǅ",
                                        "Ǆ",
                                        "x",
                                        "i",
                                        "I",
                                        "İ",
                                        "ı",
                                        "A[xyz]",
                                        "Bxyz]",
                                        "yz",
                                        "ayz",
                                        "xyz",
                                        "[xyz",
                                        "[xyz]",
                                        "bbbbb",
                                        "cabac"};
    slice at[COUNT_OF(texts) + 1];
    struct tally tally = {0};
    (void)state;
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        at[i] = slice_of(texts[i]);
    at[COUNT_OF(texts)] = SLICE_NONE;
    for (size_t i = 0; i < COUNT_OF(patterns); i++)
        check_pattern(&tally, slice_of(patterns[i]), at, COUNT_OF(at));
    assert_true(tally.patterns > 55);
}

static bool says_something(const char *pattern)
{
    struct arena arena;
    struct text_query query;
    arena_init(&arena, NULL, 0);
    text_query_regex(slice_of(pattern), &arena, &query);
    bool ret = query.root->op != TEXT_ALL;
    arena_done(&arena);
    return ret;
}

static void literals_are_found_wherever_they_stand(void **state)
{
    static const char *const useful[] = {"quartz light[a-z]+ proto",
                                         "func(tion)?_[a-z]+",
                                         "(?i)segmentation fault",
                                         "colou?r",
                                         "foo|bar|baz",
                                         "err(or|no).*failed",
                                         "https?://[a-z.]+\\.org",
                                         "[Dd]ebian",
                                         "\\bint\\s+main\\s*\\(",
                                         "文件|ファイル",
                                         "(?m)^The ",
                                         "(?i)kernel (panic|oops)",
                                         "(?i)привет",
                                         "(?x) abc # x",
                                         "[^a]xyz[^b]",
                                         "(abc)+",
                                         "(?i)Straße",
                                         "a{3}",
                                         ".*needle.*"};
    static const char *const useless[] = {"\\d{4}-\\d{2}-\\d{2}",
                                          "[A-Z]{12,}",
                                          ".*",
                                          "a|.",
                                          "(foo)?",
                                          "x*",
                                          "(?:abc|)",
                                          "ab[0-9]?",
                                          "\\w+"};
    (void)state;
    for (size_t i = 0; i < COUNT_OF(useful); i++) {
        if (!says_something(useful[i]))
            fail_msg("nothing is known of %s", useful[i]);
    }
    for (size_t i = 0; i < COUNT_OF(useless); i++)
        (void)says_something(useless[i]); // right either way
}

static void hostile_patterns_take_bounded_room(void **state)
{
    struct buf out;
    struct tally tally = {0};
    slice texts[] = {SLICE("abc"), SLICE("aaaaaaaaab"), SLICE(""), SLICE_NONE, SLICE("w9999 w77")};
    static const char *const patterns[] = {"(a*)*b",
                                           "(x?){1000}",
                                           "(a|b|c){50}",
                                           "[^a]*",
                                           ".{100}x",
                                           "((((a{4}){4}){4}){4}){4}b",
                                           "((((.*abc){4}){4}){4}){4}"};
    (void)state;
    for (size_t i = 0; i < COUNT_OF(patterns); i++)
        check_pattern(&tally, slice_of(patterns[i]), texts, COUNT_OF(texts));
    for (unsigned nested = 40; nested <= 260; nested += nested == 240 ? 1 : 50) {
        buf_init(&out, BUF_MAX_NONE);
        for (unsigned i = 0; i < nested; i++)
            buf_byte(&out, '(');
        buf_text(&out, "abc");
        for (unsigned i = 0; i < nested; i++)
            buf_byte(&out, ')');
        check_pattern(&tally, buf_view(&out), texts, COUNT_OF(texts));
        buf_done(&out);
    }
    buf_init(&out, BUF_MAX_NONE);
    for (unsigned i = 0; i < 10000; i++)
        buf_printf(&out, "%sw%u", i ? "|" : "", i);
    check_pattern(&tally, buf_view(&out), texts, COUNT_OF(texts));
    buf_clear(&out);
    for (unsigned i = 0; i < 100000; i++)
        buf_byte(&out, (uint8_t)('a' + i % 26));
    struct arena arena;
    struct text_query query;
    arena_init(&arena, NULL, 8 << 20);
    text_query_regex(buf_view(&out), &arena, &query);
    assert_true(text_query_allows(&query, buf_view(&out)));
    arena_done(&arena);
    // any limit: all rows, never a crash
    for (size_t limit = 1; limit < 200000; limit += limit / 2 + 50) {
        arena_init(&arena, NULL, limit);
        text_query_regex(SLICE("(?i)quartz (light|dark)[a-z]+ (proto|meta)"), &arena, &query);
        assert_true(text_query_allows(&query, SLICE("Quartz lightx METAL")));
        arena_done(&arena);
    }
    buf_done(&out);
}

static size_t utf8(uint32_t c, uint8_t *out)
{
    if (c < 0x80)
        return out[0] = (uint8_t)c, 1;
    if (c < 0x800)
        return out[0] = (uint8_t)(0xc0 | c >> 6), out[1] = (uint8_t)(0x80 | (c & 63)), 2;
    if (c < 0x10000)
        return out[0] = (uint8_t)(0xe0 | c >> 12), out[1] = (uint8_t)(0x80 | (c >> 6 & 63)),
               out[2] = (uint8_t)(0x80 | (c & 63)), 3;
    return out[0] = (uint8_t)(0xf0 | c >> 18), out[1] = (uint8_t)(0x80 | (c >> 12 & 63)),
           out[2] = (uint8_t)(0x80 | (c >> 6 & 63)), out[3] = (uint8_t)(0x80 | (c & 63)), 4;
}

/* The engine's own idea of case: every code point that the table pairs must match its like and nothing else, and what the table does not
 * name must match nothing but itself. */
static void case_is_folded_as_the_engine_does(void **state)
{
    uint32_t *cased = malloc(sizeof(uint32_t) * 0x110000), count = 0;
    struct buf pattern, text;
    (void)state;
    buf_init(&pattern, BUF_MAX_NONE);
    buf_init(&text, BUF_MAX_NONE);
    buf_text(&pattern, "(?i)[");
    uint32_t first = 0;
    for (uint32_t c = 0; c <= 0x10ffff; c++) {
        uint32_t same[4];
        bool alone = c < 0xd800 || c > 0xdfff ? text_fold(c, same) == 1 : false;
        if (!alone) {
            if (first < c && c > 0 && first < 0x110000)
                buf_printf(&pattern, "\\x{%x}-\\x{%x}", first, c - 1);
            first = c + 1;
            if (c < 0xd800 || c > 0xdfff)
                cased[count++] = c;
        }
    }
    buf_printf(&pattern, "\\x{%x}-\\x{10ffff}]", first);
    rure *others = corpus_regex(buf_view(&pattern));
    assert_non_null(others);
    for (uint32_t i = 0; i < count; i++) {
        uint8_t bytes[4];
        size_t len = utf8(cased[i], bytes);
        if (rure_is_match(others, bytes, len, 0))
            fail_msg("U+%04X has a like that the table does not know", cased[i]);
        buf_append(&text, bytes, len);
    }
    rure_free(others);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t same[4], found = 0;
        unsigned likes = text_fold(cased[i], same);
        buf_clear(&pattern);
        buf_printf(&pattern, "(?i)\\x{%x}", cased[i]);
        rure *regex = corpus_regex(buf_view(&pattern));
        rure_match match = {0, 0};
        while (rure_find(regex, text.at, text.len, match.end, &match))
            found++;
        if (found != likes)
            fail_msg("U+%04X has %u likes, the table says %u", cased[i], found, likes);
        for (unsigned j = 0; j < likes; j++) {
            uint8_t bytes[4];
            assert_true(rure_is_match(regex, bytes, utf8(same[j], bytes), 0));
        }
        rure_free(regex);
    }
    print_message("%u code points have likes\n", count);
    buf_done(&pattern);
    buf_done(&text);
    free(cased);
}

/* Through the index: candidates of any pattern hold all rows that match. */
static void rows_of_a_pattern_are_found_in_the_index(void **state)
{
    static const char *const patterns[] = {"lighthouse( |_)?protocol",
                                           "(?i)straße|привет",
                                           "(?i)kelvin",
                                           "quartz.*the",
                                           "文件|検索",
                                           "func(tion|_a)",
                                           "[Tt]he",
                                           "ab",
                                           "(?i)σίγμα",
                                           "\\d{4}-\\d{2}",
                                           "a",
                                           "",
                                           "^the",
                                           "x{1,3}y?z",
                                           "(foo|bar|baz){2}",
                                           "100%",
                                           "(?i)istanbul",
                                           "aaaa",
                                           "[^\\s\\S]"};
    struct corpus c;
    (void)state;
    for (unsigned round = 0; round < 3; round++) {
        corpus_init(&c, 1500, 10, 40 + round);
        corpus_build(&c, round ? 4000 : 0);
        c.piece = round == 2 ? 50 : 0;
        for (size_t i = 0; i < COUNT_OF(patterns); i++) {
            struct arena arena;
            struct text_query query;
            uint64_t *words;
            uint32_t count;
            rure *regex = corpus_regex(slice_of(patterns[i]));
            arena_init(&arena, NULL, 0);
            text_query_regex(slice_of(patterns[i]), &arena, &query);
            MUST(corpus_search(&c, &query, &arena, &words, &count, err));
            for (uint32_t row = 0; row < c.count; row++) {
                bool candidate = words[row / 64] >> row % 64 & 1,
                     truth = corpus_matches(regex, c.documents[row]);
                if (truth ? !candidate : query.exact && candidate)
                    fail_msg("%s: row %u is %s", patterns[i], row, truth ? "missed" : "wrong");
            }
            arena_done(&arena);
            rure_free(regex);
        }
        corpus_done(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_matches_is_a_candidate),
        cmocka_unit_test(places_where_the_syntax_has_its_own_ways),
        cmocka_unit_test(literals_are_found_wherever_they_stand),
        cmocka_unit_test(hostile_patterns_take_bounded_room),
        cmocka_unit_test(case_is_folded_as_the_engine_does),
        cmocka_unit_test(rows_of_a_pattern_are_found_in_the_index),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
