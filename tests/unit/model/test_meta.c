/* SPDX-License-Identifier: Apache-2.0 */
#include "model_test.h"

#include "base/clock.h"

#include <math.h>

static int set_up(void **state)
{
    static struct arena arena;
    arena_init(&arena, NULL, 0);
    *state = &arena;
    return 0;
}
static int tear_down(void **state)
{
    arena_done(*state);
    return 0;
}

static void check_round_trip(struct arena *arena, const char *in, const char *out)
{
    slice encoded = meta_of(arena, in, META_ALLOW_DELETE);
    och_error err = {0};
    if (meta_validate(encoded, &err) != OCH_OK)
        fail_msg("%s: %s", in, err.message);
    CLEANUP(buf_cleanup) struct buf text;
    buf_init(&text, BUF_MAX_NONE);
    meta_to_json(encoded, &text);
    assert_slice(buf_view(&text), out);
}

static void json_comes_back_as_it_was_with_keys_sorted(void **state)
{
    static const char *const cases[][2] = {
        {"{}", "{}"},
        {"{\"b\":1,\"a\":2}", "{\"a\":2,\"b\":1}"},
        {"{\"a\":1,\"a\":\"last wins\"}", "{\"a\":\"last wins\"}"},
        {"{\"i\":9223372036854775807,\"j\":-9223372036854775808}",
         "{\"i\":9223372036854775807,\"j\":-9223372036854775808}"},
        {"{\"f\":1.0,\"g\":-0.0,\"h\":0.1}", "{\"f\":1.0,\"g\":-0.0,\"h\":0.1}"},
        {"{\"f\":123456789.12345679}", "{\"f\":123456789.12345679}"},
        {"{\"f\":9223372036854775808}", "{\"f\":9.223372036854776e+18}"},
        {"{\"t\":true,\"f\":false}", "{\"f\":false,\"t\":true}"},
        {"{\"s\":\"\",\"n\":\"a\\u0000b\"}", "{\"n\":\"a\\u0000b\",\"s\":\"\"}"},
        {"{\"l\":[]}", "{\"l\":[]}"},
        {"{\"l\":[1,2,2]}", "{\"l\":[1,2,2]}"},
        {"{\"l\":[1,2.5]}", "{\"l\":[1.0,2.5]}"},
        {"{\"l\":[2.5,1]}", "{\"l\":[2.5,1.0]}"},
        {"{\"l\":[true,false,true]}", "{\"l\":[true,false,true]}"},
        {"{\"l\":[\"\",\"b\",\"a\"]}", "{\"l\":[\"\",\"b\",\"a\"]}"},
        {"{\"gone\":null,\"kept\":1}", "{\"kept\":1}"},
        {"{\"v\":{\"indices\":[1,5],\"values\":[1,2.5]}}",
         "{\"v\":{\"#type\":\"sparse_vector\",\"indices\":[1,5],\"values\":[1.0,2.5],\"tokens\":"
         "null}}"},
        {"{\"v\":{\"values\":[1],\"tokens\":[\"t\"],\"indices\":[4294967295]}}",
         "{\"v\":{\"#type\":\"sparse_vector\",\"indices\":[4294967295],\"values\":[1.0],\"tokens\":"
         "[\"t\"]}}"},
        {"{\"v\":{\"indices\":[],\"values\":[],\"tokens\":null,\"#type\":\"sparse_vector\"}}",
         "{\"v\":{\"#type\":\"sparse_vector\",\"indices\":[],\"values\":[],\"tokens\":null}}"},
        {"{\"v\":{\"indices\":[],\"values\":[],\"tokens\":[]}}",
         "{\"v\":{\"#type\":\"sparse_vector\",\"indices\":[],\"values\":[],\"tokens\":[]}}"},
        {"{\"v\":{\"indices\":[1],\"values\":[2],\"#type\":\"sparse_vector\",\"more\":1}}",
         "{\"v\":{\"#type\":\"sparse_vector\",\"indices\":[1],\"values\":[2.0],\"tokens\":null}}"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        check_round_trip(*state, cases[i][0], cases[i][1]);
}

static void a_hundred_keys_are_sorted_too(void **state)
{
    CLEANUP(buf_cleanup) struct buf text;
    buf_init(&text, BUF_MAX_NONE);
    buf_byte(&text, '{');
    for (int i = 0; i < 200; i++)
        buf_printf(&text, "%s\"k%d\":%d", i ? "," : "", i * 37 % 100, i);
    buf_text(&text, "}");
    buf_byte(&text, 0);
    slice encoded = meta_of(*state, (const char *)text.at, 0);
    assert_int_equal(meta_count(encoded), 100);
    assert_int_equal(meta_validate(encoded, NULL), OCH_OK);
    struct meta_entry entry;
    for (int i = 100; i < 200; i++) {
        char key[16];
        snprintf(key, sizeof(key), "k%d", i * 37 % 100);
        assert_true(meta_find(encoded, slice_of(key), &entry));
        assert_int_equal(meta_int(&entry), i); /* the later of two */
    }
}

struct refusal {
    const char *text;
    unsigned flags;
    och_code code;
    const char *says;
};

static void bad_keys_and_values_are_refused_with_their_key(void **state)
{
    static const struct refusal cases[] = {
        {"{\"\":1}", 0, OCH_INVALID, "Metadata key cannot be empty"},
        {"{\"#x\":1}", 0, OCH_INVALID, "Metadata key cannot start with '#' or '$': #x"},
        {"{\"$x\":1}", META_COLLECTION, OCH_INVALID,
         "Metadata key cannot start with '#' or '$': $x"},
        {"{\"chroma:document\":5}", 0, OCH_INVALID,
         "Metadata key cannot start with 'chroma:': chroma:document"},
        {"{\"k\":null}", 0, OCH_SHAPE,
         "k: data did not match any variant of untagged enum MetadataValue"},
        {"{\"k\":{\"x\":1}}", META_ALLOW_DELETE, OCH_SHAPE,
         "k: data did not match any variant of untagged enum UpdateMetadataValue"},
        {"{\"k\":[1,\"x\"]}", 0, OCH_SHAPE, "k: data did not match any variant"},
        {"{\"k\":[true,1]}", 0, OCH_SHAPE, "k: data did not match any variant"},
        {"{\"k\":[null]}", META_ALLOW_DELETE, OCH_SHAPE, "k: data did not match any variant"},
        {"{\"k\":[[1]]}", 0, OCH_SHAPE, "k: data did not match any variant"},
        {"{\"k\":[{}]}", 0, OCH_SHAPE, "k: data did not match any variant"},
        {"{\"#a\":1,\"k\":[[]]}", 0, OCH_SHAPE, "k: data did not match any variant"},
        {"{\"k\":{}}", 0, OCH_SHAPE, "k: data did not match any variant"},
        {"{\"v\":{\"#type\":\"other\",\"indices\":[1],\"values\":[1.0]}}", 0, OCH_SHAPE, "v: data"},
        {"{\"v\":{\"indices\":[1],\"values\":[1.0],\"more\":1}}", 0, OCH_SHAPE, "v: data"},
        {"{\"v\":{\"indices\":[-1],\"values\":[1.0]}}", 0, OCH_SHAPE, "v: data"},
        {"{\"v\":{\"indices\":[4294967296],\"values\":[1.0]}}", 0, OCH_SHAPE, "v: data"},
        {"{\"v\":{\"indices\":[1.0],\"values\":[1.0]}}", 0, OCH_SHAPE, "v: data"},
        {"{\"v\":{\"indices\":[1],\"values\":[\"1\"]}}", 0, OCH_SHAPE, "v: data"},
        {"{\"v\":{\"indices\":[1],\"values\":[1],\"tokens\":[1]}}", 0, OCH_SHAPE, "v: data"},
        {"{\"v\":{\"indices\":[5,1],\"values\":[1.0,2.0]}}", 0, OCH_INVALID,
         "v: Sparse vector indices must be sorted in strictly ascending order (no duplicates)"},
        {"{\"v\":{\"indices\":[5,5],\"values\":[1.0,2.0]}}", 0, OCH_INVALID, "v: Sparse vector"},
        {"{\"v\":{\"indices\":[1],\"values\":[1.0,2.0]}}", 0, OCH_INVALID,
         "v: Sparse vector indices, values, and tokens (when present) must have the same length"},
        {"{\"v\":{\"indices\":[1],\"values\":[1.0],\"tokens\":[]}}", 0, OCH_INVALID, "v: Sparse"},
        {"{\"v\":{\"indices\":[1],\"values\":[1e39]}}", 0, OCH_INVALID, "v: Sparse vector value 0"},
        {"{\"v\":{\"indices\":[1],\"values\":[1]}}", META_COLLECTION | META_NO_SPARSE, OCH_INVALID,
         "Sparse vectors are not supported in collection metadata: v"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        CLEANUP(buf_cleanup) struct buf out;
        buf_init(&out, BUF_MAX_NONE);
        och_error err = {0};
        och_code code = meta_from_json(json_of(*state, cases[i].text), cases[i].flags, &out, &err);
        if (code != cases[i].code || !strstr(err.message, cases[i].says) || err.code != code)
            fail_msg("%s: got %d %s", cases[i].text, code, err.message);
    }
}

static void find_sees_every_key_and_no_other(void **state)
{
    slice encoded = meta_of(*state, "{\"a\":1,\"ab\":2,\"b\":3,\"ba\":4,\"caa\":5}", 0);
    static const char *const there[] = {"a", "ab", "b", "ba", "caa"};
    static const char *const missing[] = {"", "A", "aa", "abc", "bb", "c", "ca", "caaa", "d"};
    struct meta_entry entry;
    for (size_t i = 0; i < COUNT_OF(there); i++) {
        assert_true(meta_find(encoded, slice_of(there[i]), &entry));
        assert_int_equal(meta_int(&entry), i + 1);
        assert_slice(entry.key, there[i]);
    }
    for (size_t i = 0; i < COUNT_OF(missing); i++)
        assert_false(meta_find(encoded, slice_of(missing[i]), &entry));
    assert_false(meta_find(SLICE_NONE, SLICE("a"), &entry));
    assert_false(meta_find(meta_of(*state, "{}", 0), SLICE("a"), &entry));
}

static void keys_and_values_longer_than_127_bytes_are_found(void **state)
{
    CLEANUP(buf_cleanup) struct buf text;
    buf_init(&text, BUF_MAX_NONE);
    for (int i = 0; i < 3; i++)
        buf_printf(&text, "%s\"%0*d%d\":\"%0*d\"", i ? "," : "{", 300, 0, i, 20000, i);
    buf_text(&text, "}");
    buf_byte(&text, 0);
    slice encoded = meta_of(*state, (const char *)text.at, 0);
    for (int i = 0; i < 4; i++) {
        char key[400];
        int len = snprintf(key, sizeof(key), "%0*d%d", 300, 0, i);
        struct meta_entry entry;
        assert_int_equal(meta_find(encoded, slice_make(key, (size_t)len), &entry), i < 3);
        if (i < 3)
            assert_int_equal(entry.value.len, 20000);
    }
}

static void merge_is_laid_over_key_by_key(void **state)
{
    static const char *const cases[][3] = {
        {"{}", "{}", "{}"},
        {"{\"a\":1}", "{}", "{\"a\":1}"},
        {"{}", "{\"a\":1}", "{\"a\":1}"},
        {"{\"a\":1,\"b\":2}", "{\"a\":null}", "{\"b\":2}"},
        {"{\"a\":1}", "{\"a\":null}", "{}"},
        {"{\"a\":1}", "{\"b\":null}", "{\"a\":1}"},
        {"{\"a\":1,\"c\":3}", "{\"b\":[1],\"c\":\"x\"}", "{\"a\":1,\"b\":[1],\"c\":\"x\"}"},
        {"{\"m\":1}", "{\"a\":null,\"z\":2}", "{\"m\":1,\"z\":2}"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        CLEANUP(buf_cleanup) struct buf merged, text;
        buf_init(&merged, BUF_MAX_NONE);
        buf_init(&text, BUF_MAX_NONE);
        bool empty;
        meta_merge(meta_of(*state, cases[i][0], 0), meta_of(*state, cases[i][1], META_ALLOW_DELETE),
                   &merged, &empty);
        meta_to_json(buf_view(&merged), &text);
        assert_slice(buf_view(&text), cases[i][2]);
        assert_int_equal(empty, strcmp(cases[i][2], "{}") == 0);
        assert_int_equal(meta_validate(buf_view(&merged), NULL), OCH_OK);
    }
    CLEANUP(buf_cleanup) struct buf merged;
    buf_init(&merged, BUF_MAX_NONE);
    bool empty;
    meta_merge(SLICE_NONE, SLICE_NONE, &merged, &empty);
    assert_true(empty);
    assert_int_equal(merged.len, 1);
}

/* Walk, find and print must stay inside the bytes whatever they are; validate must say no or be right. */
static void use_all(slice bytes)
{
    CLEANUP(buf_cleanup) struct buf out;
    buf_init(&out, 1 << 20);
    struct meta_entry entry;
    bool empty;
    (void)meta_find(bytes, SLICE("k"), &entry);
    (void)meta_find(bytes, SLICE("zz"), &entry);
    meta_to_json(bytes, &out);
    meta_merge(bytes, bytes, &out, &empty);
}

static void damage_is_refused_or_harmless(void **state)
{
    slice good =
        meta_of(*state,
                "{\"a\":true,\"b\":1,\"c\":1.5,\"d\":\"s\",\"e\":[true],\"f\":[1],\"g\":[1.5],"
                "\"h\":[\"x\",\"yy\"],\"i\":[],\"k\":{\"indices\":[1,2],\"values\":[1,2],"
                "\"tokens\":[\"p\",\"q\"]},\"z\":null}",
                META_ALLOW_DELETE);
    for (size_t len = 0; len < good.len; len++) {
        uint8_t *copy =
            mem_alloc(len ? len : 1); /* exact, so that the sanitizer sees a step beyond */
        memcpy(copy, good.at, len);
        assert_int_equal(meta_validate(slice_make(copy, len), NULL), OCH_CORRUPT);
        use_all(slice_make(copy, len));
        mem_free(copy);
    }
    for (size_t bit = 0; bit < good.len * 8; bit++) {
        uint8_t *copy = mem_alloc(good.len);
        memcpy(copy, good.at, good.len);
        copy[bit / 8] ^= (uint8_t)(1 << bit % 8);
        och_code code = meta_validate(slice_make(copy, good.len), NULL);
        assert_true(code == OCH_OK || code == OCH_CORRUPT);
        use_all(slice_make(copy, good.len));
        mem_free(copy);
    }
}

static void validate_names_what_is_wrong(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t len;
    } bad[] = {
        {"", 0},                               /* no count */
        {"\x01", 1},                           /* entry missing */
        {"\x00\x00", 2},                       /* bytes behind */
        {"\x01\x01k\x01\x01\x02", 6},          /* a bool of 2 */
        {"\x01\x01k\x02\x01\x02", 6},          /* a short int */
        {"\x01\x01k\x09\x01\x02", 6},          /* an empty array with bytes */
        {"\x01\x01k\x05\x00", 5},              /* an array of nothing */
        {"\x01\x01k\x0c\x00", 5},              /* unknown type */
        {"\x01\x01k\x00\x00", 5},              /* type 0 */
        {"\x02\x01k\x09\x00\x01k\x09\x00", 9}, /* a key twice */
        {"\x02\x01k\x09\x00\x01j\x09\x00", 9}, /* out of order */
        {"\x01\x01k\x0a\x02\x00\x02", 7},      /* has_tokens 2 */
        {"\x01\x01k\x0a\x03\x00\x00\x00", 8},  /* sparse with a byte too many */
        {"\x01\x01k\x08\x02\x02x", 7},         /* string longer than its array */
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_int_equal(meta_validate(slice_make(bad[i].bytes, bad[i].len), NULL), OCH_CORRUPT);
}

/* docs/formats/metadata.md, worked example. */
static void the_example_of_the_format_page_parses(void **state)
{
    static const uint8_t example[] = {
        0x03,                                                               /* 3 entries */
        0x01, 'n', 0x02, 0x08, 0x2a, 0,    0,    0,    0,   0,    0,   0,   /* n: int 42 */
        0x04, 't', 'a',  'g',  's',  0x08, 0x05, 0x01, 'a', 0x02, 'b', 'c', /* tags: ["a","bc"] */
        0x02, 'u', 'p',  0x01, 0x01, 0x01,                                  /* up: true */
    };
    slice encoded = meta_of(*state, "{\"tags\":[\"a\",\"bc\"],\"n\":42,\"up\":true}", 0);
    assert_int_equal(encoded.len, sizeof(example));
    assert_memory_equal(encoded.at, example, sizeof(example));
    assert_int_equal(meta_validate(slice_make(example, sizeof(example)), NULL), OCH_OK);
}

static och_code encode_once(void *user)
{
    const struct json_value *value = user;
    CLEANUP(buf_cleanup) struct buf out;
    buf_init(&out, BUF_MAX_NONE);
    return meta_from_json(value, 0, &out, NULL);
}

static void no_memory_is_an_error_and_leaks_nothing(void **state)
{
    CLEANUP(buf_cleanup) struct buf text;
    buf_init(&text, BUF_MAX_NONE);
    for (int i = 0; i < 40; i++)
        buf_printf(&text, "%s\"k%d\":[\"%0*d\"]", i ? "," : "{", i, 100, i);
    buf_text(&text, "}");
    buf_byte(&text, 0);
    for_each_failing_allocation(encode_once, json_of(*state, (const char *)text.at));
}

static void schema_types_follow_the_element(void **state)
{
    (void)state;
    static const int expected[] = {
        -1,         SCHEMA_BOOL,  SCHEMA_INT,    SCHEMA_FLOAT, SCHEMA_STRING, SCHEMA_BOOL,
        SCHEMA_INT, SCHEMA_FLOAT, SCHEMA_STRING, -1,           SCHEMA_SPARSE, -1};
    for (uint8_t type = 0; type < COUNT_OF(expected); type++)
        assert_int_equal(meta_schema_type(type), expected[type]);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(json_comes_back_as_it_was_with_keys_sorted),
        TEST(a_hundred_keys_are_sorted_too),
        TEST(bad_keys_and_values_are_refused_with_their_key),
        TEST(find_sees_every_key_and_no_other),
        TEST(keys_and_values_longer_than_127_bytes_are_found),
        TEST(merge_is_laid_over_key_by_key),
        TEST(damage_is_refused_or_harmless),
        TEST(validate_names_what_is_wrong),
        TEST(the_example_of_the_format_page_parses),
        TEST(no_memory_is_an_error_and_leaks_nothing),
        TEST(schema_types_follow_the_element),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
