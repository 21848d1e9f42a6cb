/* SPDX-License-Identifier: Apache-2.0 */
/* After which time a refused call is worth another try. */
#include "base/retry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void times_are_whole_seconds_rounded_up(void **state)
{
    (void)state;
    static const struct {
        uint64_t ns;
        unsigned seconds;
    } cases[] = {{0, 1},
                 {1, 1},
                 {1000000000, 1},
                 {1000000001, 2},
                 {59000000001, 60},
                 {60000000000, 60},
                 {60000000001, 60},
                 {UINT64_MAX, 60}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        och_error err = {0};
        assert_int_equal(retry_seconds(cases[i].ns), cases[i].seconds);
        (void)FAIL(&err, OCH_BUSY, "no room");
        retry_hint(&err, cases[i].ns);
        assert_int_equal(retry_told(&err), cases[i].seconds);
    }
}

static void an_error_tells_its_time_in_words(void **state)
{
    (void)state;
    och_error err = {0};
    (void)FAIL(&err, OCH_BUSY, "no room");
    retry_hint(&err, 2500000000);
    assert_string_equal(err.message, "no room. Try again in 3 s.");
    error_context(&err, "collection x");
    assert_int_equal(retry_told(&err), 3);
    retry_hint(NULL, 1);
}

static void only_the_way_out_counts(void **state)
{
    (void)state;
    och_error err = {0};
    assert_int_equal(retry_told(&err), 0);
    (void)FAIL(&err, OCH_BUSY, "Try again in 9 s.");
    assert_int_equal(retry_told(&err), 0); /* it quotes somebody */
    error_hint(&err, "Use less.");
    assert_int_equal(retry_told(&err), 0);
    (void)FAIL(&err, OCH_BUSY, "no room");
    error_hint(&err, "Try again in 99999999999999999999 s, or use less.");
    assert_int_equal(retry_told(&err), 60);
    char big[2000];
    memset(big, 'x', sizeof(big));
    big[1010] = '\0'; /* so that the number is cut off */
    (void)FAIL(&err, OCH_BUSY, "%s", big);
    retry_hint(&err, 5000000000);
    assert_int_equal(retry_told(&err), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(times_are_whole_seconds_rounded_up),
        cmocka_unit_test(an_error_tells_its_time_in_words),
        cmocka_unit_test(only_the_way_out_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
