/* SPDX-License-Identifier: Apache-2.0 */
#include "model_test.h"

#include "model/uuid.h"

static void text_comes_back_in_lower_case_with_dashes(void **state)
{
    (void)state;
    uuid id;
    char text[UUID_TEXT_SIZE];
    assert_true(uuid_parse(SLICE("00112233-4455-6677-8899-AaBbCcDdEeFf"), &id));
    assert_string_equal(uuid_format(id, text), "00112233-4455-6677-8899-aabbccddeeff");
    assert_int_equal(id.bytes[0], 0);
    assert_int_equal(id.bytes[15], 0xff);
    uuid other;
    assert_true(uuid_parse(SLICE("00112233445566778899AABBCCDDEEFF"), &other));
    assert_true(uuid_equal(id, other));
    assert_true(uuid_parse(SLICE("{00112233-4455-6677-8899-aabbccddeeff}"), &other));
    assert_true(uuid_equal(id, other));
    assert_true(uuid_parse(SLICE("urn:uuid:00112233-4455-6677-8899-aabbccddeeff"), &other));
    assert_true(uuid_equal(id, other));
}

static void anything_else_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "x",
        "00112233-4455-6677-8899-aabbccddeef",
        "00112233-4455-6677-8899-aabbccddeefff",
        "00112233-4455-6677-8899-aabbccddeefg",
        "00112233_4455-6677-8899-aabbccddeeff",
        "001122334-455-6677-8899-aabbccddeeff",
        "00112233445566778899aabbccddeef",
        "00112233445566778899aabbccddeeff0",
        "0011223344556677-899aabbccddeeff",
        "{0112233-4455-6677-8899-aabbccddeeff",
        "{00112233-4455-6677-8899-aabbccddeeff",
        "{00112233445566778899aabbccddeeff}",
        "urn:uuid:00112233445566778899aabbccddeeff",
        "urn:uuid:{00112233-4455-6677-8899-aabbccddeeff}",
        "URN:UUID:00112233-4455-6677-8899-aabbccddeeff",
        "-0112233445566778899aabbccddeeff-",
        "                                ",
    };
    uuid id = {{7}};
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_false(uuid_parse(slice_of(bad[i]), &id));
    assert_int_equal(id.bytes[0], 7); /* untouched */
}

static void random_ones_are_version_4_and_differ(void **state)
{
    (void)state;
    struct random random;
    random_seed(&random, 1);
    uuid before = {{0}};
    assert_true(uuid_is_zero(before));
    for (int i = 0; i < 1000; i++) {
        uuid id = uuid_random(&random), again;
        char text[UUID_TEXT_SIZE];
        assert_int_equal(uuid_format(id, text)[14], '4');
        assert_non_null(strchr("89ab", text[19]));
        assert_true(uuid_parse(slice_of(text), &again));
        assert_true(uuid_equal(id, again));
        assert_false(uuid_equal(id, before));
        assert_false(uuid_is_zero(id));
        assert_int_equal(uuid_compare(id, before) < 0, uuid_compare(before, id) > 0);
        before = id;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_comes_back_in_lower_case_with_dashes),
        cmocka_unit_test(anything_else_is_refused),
        cmocka_unit_test(random_ones_are_version_4_and_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
