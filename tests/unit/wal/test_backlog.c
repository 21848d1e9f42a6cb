/* SPDX-License-Identifier: Apache-2.0 */
/* A writer that is refused for the backlog is told when trims will have made room, at their pace of late. */
#include "log_fixture.h"

#include "base/retry.h"

#define A log_uuid(1)

static unsigned refused(struct log *log, uint64_t count)
{
    struct wal_appended got;
    och_error err = {0};
    assert_int_equal(log_put(log, A, count, 1, 4, 9000, &got, &err), OCH_BUSY);
    assert_non_null(strstr(err.message, "MiB of writes wait for compaction"));
    return retry_told(&err);
}

static void trim(struct log *log, uint64_t to)
{
    fake_commit(log->db, A, to, 4, 1);
    OK(log, wal_trim(log->wal, A, to, &log->err));
}

static void a_refusal_tells_when_trims_will_have_made_room(void **state)
{
    (void)state;
    struct log log;
    log_init(&log, false);
    log.options.slow_bytes = 290000;
    log.options.stop_bytes = 300000;
    fake_add(log.db, A);
    log_open(&log);
    struct wal_appended got;
    uint64_t count = 0;
    while (count < 32)
        OK(&log, log_put(&log, A, count++, 1, 4, 9000, &got, &log.err));
    OK(&log, log_put(&log, A, count++, 1, 4, 900000, &got, &log.err));
    assert_int_equal(refused(&log, count), 1); /* nobody knows */
    trim(&log, 1);
    assert_int_equal(refused(&log, count), 1);
    for (uint64_t i = 2; i <= 3; i++) { /* a batch each 0.15 s or more: some 98 such are too many */
        sched_sleep_ns(150000000);
        trim(&log, i);
    }
    assert_in_range(refused(&log, count), 14, RETRY_S_MAX);
    for (uint64_t i = 4; i <= 13; i++)
        trim(&log, i); /* in one go: not how fast it goes */
    assert_in_range(refused(&log, count), 12, RETRY_S_MAX);
    sched_sleep_ns(150000000);
    trim(&log, 14); /* but eleven at a time is */
    assert_in_range(refused(&log, count), 2, 20);
    trim(&log, count);
    OK(&log, log_put(&log, A, count, 1, 4, 9000, &got, &log.err));
    log_done(&log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_refusal_tells_when_trims_will_have_made_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
