/* SPDX-License-Identifier: Apache-2.0 */
/* After a warm-up (docs/extras.md) the first query reads nothing but the rows that it shows. */
#include "gateway_test.h"

static uint64_t index_misses(struct stack *s)
{
    struct cache_stats stats;
    cache_stats(s->cache, &stats);
    return stats.heat[CACHE_HOT].misses + stats.heat[CACHE_WARM].misses;
}

static void first_queries(struct stack *s, const char *id)
{
    EXPECT(200, "{\"ids\":[[\"i7\"", "POST", path(id, "query"),
           "{\"query_embeddings\":[[7,1,0,0]],\"n_results\":3}");
    EXPECT(200, "{\"ids\":[\"i12\"]", "POST", path(id, "get"), "{\"where\":{\"n\":12}}");
    EXPECT(200, "{\"ids\":[\"i99\",\"i3000\"]", "POST", path(id, "get"),
           "{\"ids\":[\"i3000\",\"i99\"]}");
    EXPECT(200, "{\"ids\":[\"i1234\"]", "POST", path(id, "get"),
           "{\"where_document\":{\"$contains\":\"number 1234 of\"}}");
}

static void a_warm_collection_answers_from_memory(void **state)
{
    (void)state;
    struct stack stack = {.tail_rows_max = 10000}, *s = &stack;
    char id[UUID_TEXT_SIZE];
    uuid collection;
    struct buf lines;
    stack_open(s);
    make_collection(s, "{\"name\":\"warm\"}", id);
    assert_true(uuid_parse(slice_of(id), &collection));
    buf_init(&lines, BUF_MAX_NONE);
    for (int i = 0; i < 6000; i++)
        buf_printf(&lines,
                   "{\"id\":\"i%d\",\"embedding\":[%d,1,%d,%d],\"document\":\"number %d of many\","
                   "\"metadata\":{\"n\":%d}}\n",
                   i, i, i % 3 - 1 + (i == 7), (i == 7 ? 0 : i % 5), i, i);
    buf_byte(&lines, 0);
    struct ask ask = {.method = "POST",
                      .target = path(id, "add"),
                      .body = (const char *)lines.at,
                      .headers = {{SLICE("Content-Type"), SLICE("application/x-ndjson")}},
                      .header_count = 1};
    expect(s, &ask, 201, "{\"inserted\":6000,");
    EXPECT(200, "{\"parts\":0,\"bytes\":0,\"wanted_bytes\":0,\"complete\":true}", "POST",
           path(id, "warm"), "{}");
    OK(compactor_run(s->compactor, &collection, true, err));
    stack_close(s);
    stack_open(s); /* another cache */
    EXPECT(200, "{\"parts\":1,\"bytes\":", "POST", path(id, "warm"), "{\"level\":\"hot\"}");
    static struct answer answer;
    exchange(s, &(struct ask){.method = "POST", .target = path(id, "warm"), .body = "{}"}, &answer);
    assert_int_equal(answer.status, 200);
    assert_non_null(strstr(answer.body, "\"complete\":true"));
    uint64_t before = index_misses(s);
    first_queries(s, id);
    assert_int_equal(index_misses(s), before);
    /* Again it finds everything there. */
    EXPECT(200, answer.body, "POST", path(id, "warm"), "{}");
    assert_int_equal(index_misses(s), before);
    EXPECT(200, "{\"parts\":1,", "POST", path(id, "warm"), "{\"level\":\"vectors\"}");
    EXPECT(422, "", "POST", path(id, "warm"), "{\"level\":\"tepid\"}");
    EXPECT(422, "", "POST", path(id, "warm"), "{\"x\":1}");
    EXPECT(404, "", "POST", path("00000000-0000-4000-8000-000000000000", "warm"), "{}");
    buf_done(&lines);
    stack_done(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_warm_collection_answers_from_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
