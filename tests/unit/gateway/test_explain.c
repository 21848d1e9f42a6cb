/* SPDX-License-Identifier: Apache-2.0 */
/* `"explain": true`: get, query, Search and delete tell how they found what they answer with; without it nobody is told. */
#include "gateway_test.h"

/* The answer read as JSON; its `explain`, NULL: none. */
static const struct json_value *ask_explain(struct stack *s, struct arena *arena,
                                            const char *target, const char *body)
{
    static struct answer answer;
    struct json_value *value = ARENA_NEW(arena, struct json_value);
    exchange(s, &(struct ask){.method = "POST", .target = target, .body = body}, &answer);
    if (answer.status != 200)
        fail_msg("%s: %s", body, answer.body);
    assert_non_null(value);
    struct json_fault fault;
    assert_int_equal(json_read(slice_of(answer.body), NULL, arena, value, &fault, NULL), OCH_OK);
    return json_get(value, SLICE("explain"));
}

static const struct json_value *member(const struct json_value *object, const char *name)
{
    const struct json_value *value = json_get(object, slice_of(name));
    if (!value)
        fail_msg("no member %s", name);
    return value;
}

static void assert_text(const struct json_value *object, const char *name, const char *text)
{
    assert_true(slice_equal(member(object, name)->string, slice_of(text)));
}

static void fill(struct stack *s, const char *id)
{
    struct buf body;
    buf_init(&body, BUF_MAX_NONE);
    buf_text(&body, "{\"ids\":[");
    for (int i = 0; i < 40; i++)
        buf_printf(&body, "%s\"i%d\"", i ? "," : "", i);
    buf_text(&body, "],\"embeddings\":[");
    for (int i = 0; i < 40; i++)
        buf_printf(&body, "%s[%d,%d]", i ? "," : "", i, i % 7);
    buf_text(&body, "],\"documents\":[");
    for (int i = 0; i < 40; i++)
        buf_printf(&body, "%s\"%s treaty\"", i ? "," : "", i % 2 ? "odd" : "even");
    buf_text(&body, "]}");
    buf_byte(&body, 0);
    EXPECT(201, "{}", "POST", path(id, "add"), (const char *)body.at);
    buf_done(&body);
}

static void reads_tell_how_they_went_when_asked(void **state)
{
    (void)state;
    struct stack stack = {0}, *s = &stack;
    char id[UUID_TEXT_SIZE];
    struct arena arena;
    arena_init(&arena, NULL, 0);
    stack_open(s);
    make_collection(s, "{\"name\":\"docs\"}", id);
    fill(s, id);
    assert_null(ask_explain(s, &arena, path(id, "get"), "{\"limit\":1}"));
    assert_null(ask_explain(s, &arena, path(id, "query"), "{\"query_embeddings\":[[1,2]]}"));
    assert_null(ask_explain(s, &arena, path(id, "search"), "{\"searches\":[{}]}"));
    assert_null(
        ask_explain(s, &arena, path(id, "search"), "{\"searches\":[{}],\"explain\":false}"));
    const struct json_value *told =
        ask_explain(s, &arena, path(id, "get"), "{\"limit\":1,\"explain\":true}");
    assert_int_equal(member(told, "tail_slots")->integer, 40);
    told = ask_explain(s, &arena, path(id, "query"),
                       "{\"query_embeddings\":[[1,2]],\"explain\":true}");
    assert_text(told, "plan", "exact scan");
    assert_int_equal(member(told, "sources")->count, 1); /* the tail */
    (void)member(told, "recall_target");
    (void)member(told, "time_us");
    arena_done(&arena);
    stack_done(s);
}

/* What it finds at last, when others wrote between, is what it tells; a repetition finds nothing anew. */
static void a_delete_tells_how_it_found_its_records(void **state)
{
    (void)state;
    struct stack stack = {0}, *s = &stack;
    char id[UUID_TEXT_SIZE];
    struct arena arena;
    static struct answer answer;
    arena_init(&arena, NULL, 0);
    stack_open(s);
    make_collection(s, "{\"name\":\"docs\"}", id);
    fill(s, id);
    const char *target = path(id, "delete"),
               *odd = "{\"where_document\":{\"$contains\":\"odd\"},\"limit\":2";
    const struct json_value *told = ask_explain(
        s, &arena, target, arena_printf(&arena, "%s,\"dry_run\":true,\"explain\":true}", odd));
    assert_text(told, "plan", "exact scan");
    assert_int_equal(member(told, "tail_slots")->integer, 40);
    assert_int_equal(member(told, "survivors")->integer, 2);
    assert_null(ask_explain(s, &arena, target, arena_printf(&arena, "%s,\"dry_run\":true}", odd)));
    assert_null(ask_explain(s, &arena, target, arena_printf(&arena, "%s,\"explain\":false}", odd)));
    told = ask_explain(s, &arena, target,
                       arena_printf(&arena, "%s,\"counts\":true,\"explain\":true}", odd));
    assert_int_equal(member(told, "survivors")->integer, 2);
    told = ask_explain(s, &arena, target, "{\"ids\":[\"i0\",\"i2\",\"i3\"],\"explain\":true}");
    assert_text(told, "plan", "by id");
    struct ask keyed = {.method = "POST",
                        .target = target,
                        .body = "{\"ids\":[\"i4\",\"i6\"],\"explain\":true}",
                        .headers = {{SLICE("Idempotency-Key"), SLICE("k1")}},
                        .header_count = 1};
    exchange(s, &keyed, &answer);
    assert_non_null(strstr(answer.body, "{\"deleted\":2,\"explain\":{"));
    exchange(s, &keyed, &answer);
    assert_string_equal(answer.body, "{\"deleted\":2}");
    EXPECT(200, "32", "GET", path(id, "count"));
    arena_done(&arena);
    stack_done(s);
}

static void a_search_tells_of_each_ranking_of_each_payload(void **state)
{
    (void)state;
    struct stack stack = {0}, *s = &stack;
    char id[UUID_TEXT_SIZE];
    struct arena arena;
    arena_init(&arena, NULL, 0);
    stack_open(s);
    make_collection(s, "{\"name\":\"docs\"}", id);
    fill(s, id);
    const struct json_value *told =
        ask_explain(s, &arena, path(id, "search"),
                    "{\"explain\":true,\"searches\":[{\"rank\":{\"$sum\":[{\"$knn\":{\"query\":[1,"
                    "2],\"limit\":5}},"
                    "{\"$bm25\":{\"query\":\"odd\",\"limit\":30}}]},\"limit\":{\"limit\":3}},{"
                    "\"limit\":{\"limit\":2}}]}");
    assert_text(told, "plan", "search");
    const struct json_value *searches = member(told, "searches");
    assert_int_equal(searches->count, 2);
    const struct json_value *rankings = member(&searches->items[0], "rankings");
    assert_int_equal(rankings->count, 2);
    assert_text(&rankings->items[0], "kind", "$knn");
    assert_int_equal(member(&rankings->items[0], "limit")->integer, 5);
    assert_int_equal(member(&rankings->items[0], "hits")->integer, 5);
    assert_int_equal(member(&rankings->items[0], "sources")->count, 1);
    assert_text(&rankings->items[1], "kind", "$bm25");
    assert_int_equal(member(&rankings->items[1], "hits")->integer, 20);
    assert_null(json_get(&rankings->items[1], SLICE("sources")));
    (void)member(&rankings->items[1], "time_us");
    assert_int_equal(member(&searches->items[1], "rankings")->count, 0);
    assert_int_equal(member(&searches->items[1], "hits")->integer, 2);
    assert_int_equal(
        member(ask_explain(s, &arena, path(id, "search"), "{\"explain\":true,\"searches\":[]}"),
               "searches")
            ->count,
        0);
    arena_done(&arena);
    stack_done(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_tell_how_they_went_when_asked),
        cmocka_unit_test(a_delete_tells_how_it_found_its_records),
        cmocka_unit_test(a_search_tells_of_each_ranking_of_each_payload),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
