/* SPDX-License-Identifier: Apache-2.0 */
/* Retry-After: as long as compaction will take to make room, where that is why a writer is refused. */
#include "gateway_test.h"

#include "base/retry.h"
#include "compact/compact_internal.h"

static struct answer answer;

/* The header's seconds of a write that is refused; the message says the same, once. */
static unsigned refused(struct stack *s, const char *id, const char *why)
{
    exchange(s,
             &(struct ask){.method = "POST",
                           .target = path(id, "add"),
                           .body = "{\"ids\":[\"n\"],\"embeddings\":[[1,2]]}"},
             &answer);
    if (answer.status != 429 || !strstr(answer.body, why))
        fail_msg("%d %s", answer.status, answer.body);
    const char *header = strstr(answer.headers, "Retry-After: "),
               *words = strstr(answer.body, "Try again in ");
    assert_non_null(header);
    assert_non_null(words);
    unsigned seconds = (unsigned)strtoul(header + 13, NULL, 10);
    assert_int_equal(strtoul(words + 13, NULL, 10), seconds);
    assert_non_null(strstr(answer.body, "\"hint\":\"Try again in "));
    const char *hint = strstr(answer.body, "\"hint\"");
    const char *again = strstr(words + 1, "Try again in ");
    assert_true(again && again > hint && !strstr(again + 1, "Try again in "));
    return seconds;
}

static void a_refused_writer_is_told_when_there_will_be_room(void **state)
{
    (void)state;
    struct stack stack = {.tail_rows_max = 10}, *s = &stack;
    char id[UUID_TEXT_SIZE], body[22000];
    stack_open(s);
    make_collection(s, "{\"name\":\"one\"}", id);
    for (int i = 0; i < 40; i++) {
        (void)snprintf(body, sizeof(body),
                       "{\"ids\":[\"%d\"],\"embeddings\":[[1,2]],\"documents\":[\"%020000d\"]}", i,
                       i);
        EXPECT(201, "{}", "POST", path(id, "add"), body);
    }
    EXPECT(200, "40", "GET", path(id, "count")); /* resolved by a reader, it is counted */
    struct compactor *c = s->compactor;
    c->flusher.started = true; /* for whom writers wait; it does nothing here */

    /* One behind the other: the queue is 12.3 s long, of which a writer may wait 5. */
    c->tail_ns[PACE_FLUSH] = 700000000;
    c->admit_ns = clock_mono_ns(&s->clock.clock) + 12300000000;
    assert_int_equal(refused(s, id, "rows, 4.0 times the usual tail"), 8);
    clock_manual_advance(&s->clock, 7000000000);
    assert_int_equal(refused(s, id, "rows, 4.0 times the usual tail"), 1);

    /* 40 tails, of which nine have to go. */
    c->options.tail_rows_max = 1;
    c->admit_ns = 0;
    assert_int_equal(refused(s, id, "rows, 40.0 times the usual tail"), 7);
    c->tail_ns[PACE_FLUSH] = 7000000000;
    assert_int_equal(refused(s, id, "rows, 40.0 times the usual tail"), 60);
    c->tail_ns[PACE_FLUSH] = 0; /* no flush was seen yet */
    assert_int_equal(refused(s, id, "rows, 40.0 times the usual tail"), 1);

    /* All tails together are more than an eighth of the memory. */
    uint64_t all = views_tail_bytes(s->views);
    s->budget.limit_bytes = 4 << 20;
    c->tail_ns[PACE_FLUSH] = 700000000;
    c->options.tail_bytes_max = 65536;
    c->options.tail_rows_max = 10;
    assert_true(all > 600000);
    double tails = (double)(all - (1u << 19)) / 65536 + 1;
    assert_int_equal(refused(s, id, "more than 1/8 of the memory limit"),
                     retry_seconds((uint64_t)(tails * 700000000)));
    assert_true(tails * 0.7 > 2);
    s->budget.limit_bytes = 0;
    c->options.tail_bytes_max = UINT64_MAX;
    c->flusher.started = false;
    EXPECT(201, "{}", "POST", path(id, "add"), "{\"ids\":[\"n\"],\"embeddings\":[[1,2]]}");
    stack_done(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_refused_writer_is_told_when_there_will_be_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
