/* SPDX-License-Identifier: Apache-2.0 */
/* Statistics that follow every write are what counting all records from scratch gives, whatever is flushed, merged or opened anew in between. */
#include "unit/function/function_player.h"

static void statistics_are_what_counting_from_scratch_gives(void **state)
{
    (void)state;
    uint64_t seeds = player_number("OCHRE_PROP_SEEDS", 16);
    struct functions_stats all = {0};
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        struct player p;
        player_open(&p, seed);
        for (int round = 0; round < 6; round++) {
            for (uint64_t i = random_below(&p.random, 30); i > 0; i--) {
                och_error err = {0};
                if (player_step(&p, &err) != OCH_OK)
                    fail_msg("seed %llu: %s", (unsigned long long)seed, err.message);
            }
            if (random_below(&p.random, 3) == 0) {
                player_count(&p, &all);
                stack_close(&p.stack);
                stack_open(&p.stack);
            }
            player_check(&p);
        }
        player_count(&p, &all);
        stack_done(&p.stack);
    }
    assert_true(all.runs > all.rebuilds && all.rebuilds > 0);
    printf("%llu runs, %llu of them rebuilds, %llu operations consumed, %llu records written\n",
           (unsigned long long)all.runs, (unsigned long long)all.rebuilds,
           (unsigned long long)all.consumed, (unsigned long long)all.written);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(statistics_are_what_counting_from_scratch_gives)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
