/* SPDX-License-Identifier: Apache-2.0 */
/* What writes can do beyond the original's (docs/extras.md): updates of what a filter chooses, fields cleared by upsert. */
#include "gateway_test.h"

#define SHAPE   "Failed to deserialize the JSON body into the target type: "
#define MISSING SHAPE "missing field `ids`"

static void six_records(struct stack *s, const char *id)
{
    EXPECT(201, "{}", "POST", path(id, "add"),
           "{\"ids\":[\"a\",\"b\",\"c\",\"d\",\"e\",\"f\"],\"embeddings\":[[1,2],[1,2],[1,2],[1,2],"
           "[1,2],[1,2]],\"metadatas\":[{\"k\":1},{\"k\":1,\"z\":0},{\"k\":1},{\"k\":2},{\"k\":2},"
           "null],\"documents\":[null,\"w\",null,\"x\",\"y\",\"x\"]}");
}

static void an_update_by_filter_changes_all_it_matches(void **state)
{
    (void)state;
    struct stack stack = {.tail_rows_max = 100}, *s = &stack;
    char id[UUID_TEXT_SIZE];
    uuid collection;
    stack_open(s);
    make_collection(s, "{\"name\":\"chosen\"}", id);
    assert_true(uuid_parse(slice_of(id), &collection));
    six_records(s, id);
    EXPECT(200, "{\"updated\":3}", "POST", path(id, "update"),
           "{\"where\":{\"k\":1},\"set\":{\"metadata\":{\"z\":9,\"k\":null,\"l\":\"n\"},"
           "\"document\":\"new\",\"clear\":[\"uri\"]}}");
    EXPECT(200,
           "{\"ids\":[\"a\",\"b\",\"c\"],\"embeddings\":[[1.0,2.0],[1.0,2.0],[1.0,2.0]],"
           "\"documents\":[\"new\",\"new\",\"new\"],\"uris\":null,\"metadatas\":[{\"l\":\"n\","
           "\"z\":9},{\"l\":\"n\",\"z\":9},{\"l\":\"n\",\"z\":9}]",
           "POST", path(id, "get"),
           "{\"where\":{\"z\":9},\"include\":[\"documents\",\"metadatas\",\"embeddings\"]}");
    /* rows of parts */
    OK(compactor_run(s->compactor, &collection, true, err));
    EXPECT(200, "{\"inserted\":0,\"updated\":2,\"skipped\":0,\"deleted\":0}", "POST",
           path(id, "update"),
           "{\"where_document\":{\"$contains\":\"x\"},\"set\":{\"uri\":\"u\"},\"counts\":true}");
    EXPECT(200, "{\"updated\":1}", "POST", path(id, "update"),
           "{\"ids\":[\"a\",\"d\",\"nobody\"],\"where\":{\"z\":9},\"set\":{\"clear\":[\"document\","
           "\"metadata\"]}}");
    EXPECT(200,
           "{\"ids\":[\"a\",\"b\",\"c\",\"d\",\"e\",\"f\"],\"embeddings\":null,\"documents\":[null,"
           "\"new\",\"new\",\"x\",\"y\",\"x\"],\"uris\":[null,null,null,\"u\",null,\"u\"],"
           "\"metadatas\":[null,{\"l\":\"n\",\"z\":9},{\"l\":\"n\",\"z\":9},{\"k\":2},{\"k\":2},"
           "null]",
           "POST", path(id, "get"), "{\"include\":[\"documents\",\"uris\",\"metadatas\"]}");
    stack_close(s);
    stack_open(s);
    EXPECT(200, "2", "POST", path(id, "count"), "{\"where\":{\"z\":9}}");
    stack_done(s);
}

static void limit_and_dry_run_hold_back(void **state)
{
    (void)state;
    struct stack stack = {0}, *s = &stack;
    char id[UUID_TEXT_SIZE];
    stack_open(s);
    make_collection(s, "{\"name\":\"held\"}", id);
    six_records(s, id);
    EXPECT(200, "{\"updated\":3}", "POST", path(id, "update"),
           "{\"where\":{\"k\":1},\"set\":{\"metadata\":{\"done\":true}},\"dry_run\":true}");
    EXPECT(200, "0", "POST", path(id, "count"), "{\"where\":{\"done\":true}}");
    EXPECT(200, "{\"updated\":2}", "POST", path(id, "update"),
           "{\"where\":{\"k\":1},\"set\":{\"metadata\":{\"done\":true}},\"limit\":2}");
    EXPECT(200, "{\"ids\":[\"a\",\"b\"]", "POST", path(id, "get"), "{\"where\":{\"done\":true}}");
    /* The same again takes the next ones when the filter leaves out what is done. */
    EXPECT(200, "{\"updated\":1}", "POST", path(id, "update"),
           "{\"where\":{\"$and\":[{\"k\":1},{\"done\":{\"$ne\":true}}]},"
           "\"set\":{\"metadata\":{\"done\":true}},\"limit\":2}");
    EXPECT(200, "{\"updated\":0}", "POST", path(id, "update"),
           "{\"where\":{\"k\":1},\"set\":{\"metadata\":{\"done\":true}},\"limit\":0}");
    EXPECT(200, "{\"updated\":0}", "POST", path(id, "update"),
           "{\"where\":{\"k\":77},\"set\":{\"metadata\":{\"done\":true}}}");
    EXPECT(200, "{\"updated\":0}", "POST", path(id, "update"),
           "{\"ids\":[],\"set\":{\"metadata\":{\"done\":true}}}");
    EXPECT(200, "{\"updated\":1}", "POST", path(id, "update"),
           "{\"ids\":[\"f\",\"f\"],\"set\":{\"metadata\":{\"done\":true}}}");
    EXPECT(200, "{\"updated\":3}", "POST", path(id, "update"), "{\"where\":{\"k\":1},\"set\":{}}");
    stack_done(s);
}

static void a_repeated_key_updates_once(void **state)
{
    (void)state;
    struct stack stack = {.tail_rows_max = 100}, *s = &stack;
    char id[UUID_TEXT_SIZE];
    uuid collection;
    stack_open(s);
    make_collection(s, "{\"name\":\"once\"}", id);
    assert_true(uuid_parse(slice_of(id), &collection));
    six_records(s, id);
    struct ask ask = {.method = "POST",
                      .body = "{\"where\":{\"k\":1},\"set\":{\"metadata\":{\"k\":2}}}",
                      .headers = {{SLICE("Idempotency-Key"), SLICE("u1")}},
                      .header_count = 1};
    for (int i = 0; i < 3; i++) {
        ask.target = path(id, "update");
        expect(s, &ask, 200, "{\"updated\":3}");
        if (i == 1)
            OK(compactor_run(s->compactor, &collection, true, err));
    }
    ask.target = path(id, "update");
    ask.body = "{\"where\":{\"k\":2},\"set\":{\"metadata\":{\"k\":3}}}";
    expect(s, &ask, 422, "");
    EXPECT(200, "5", "POST", path(id, "count"), "{\"where\":{\"k\":2}}");
    stack_done(s);
}

static void wrong_updates_are_refused_by_name(void **state)
{
    (void)state;
    struct stack stack = {0}, *s = &stack;
    char id[UUID_TEXT_SIZE];
    stack_open(s);
    make_collection(s, "{\"name\":\"wrong\"}", id);
    six_records(s, id);
    static const struct {
        int status;
        const char *says, *body;
    } cases[] = {
        /* as the original answers */
        {422, MISSING, "{}"},
        {422, MISSING, "{\"where\":{\"k\":1}}"},
        {422, MISSING, "{\"set\":null}"},
        {422, MISSING, "{} x"},
        {200, "{}", "{\"ids\":[\"a\"],\"where\":5,\"limit\":\"x\",\"dry_run\":7}"},
        /* ours */
        {422, SHAPE "set: invalid type: integer `1`, expected a map",
         "{\"where\":{\"k\":1},\"set\":1}"},
        {422, SHAPE "unknown field `documents`",
         "{\"where\":{\"k\":1},\"set\":{},\"documents\":[\"x\"]}"},
        {422, SHAPE "unknown field `embedding`",
         "{\"where\":{\"k\":1},\"set\":{\"embedding\":[1,2]}}"},
        {422, SHAPE "set.metadata: ", "{\"where\":{\"k\":1},\"set\":{\"metadata\":{\"a\":{}}}}"},
        {422, SHAPE "clear: unknown variant `id`",
         "{\"where\":{\"k\":1},\"set\":{\"clear\":[\"id\"]}}"},
        {400, "Validation error: set.metadata: ",
         "{\"where\":{\"k\":1},\"set\":{\"metadata\":{\"#a\":1}}}"},
        {400, "set.clear: the same request sets document",
         "{\"where\":{\"k\":1},\"set\":{\"document\":\"x\",\"clear\":[\"document\"]}}"},
        {400, "Validation error: ids, where: an update with `set` needs", "{\"set\":{}}"},
        {400, "Validation error: ids, where: an update with `set` needs",
         "{\"set\":{},\"limit\":3}"},
        {400, "", "{\"where\":{\"$k\":1},\"set\":{}}"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        EXPECT(cases[i].status, cases[i].says, "POST", path(id, "update"), cases[i].body);
    EXPECT(404, "", "POST", path("00000000-0000-4000-8000-000000000000", "update"),
           "{\"where\":{\"k\":1},\"set\":{}}");
    EXPECT(200, "6", "GET", path(id, "count"));
    stack_done(s);
}

static void upserts_clear_fields_too(void **state)
{
    (void)state;
    struct stack stack = {0}, *s = &stack;
    char id[UUID_TEXT_SIZE];
    stack_open(s);
    make_collection(s, "{\"name\":\"cleared\"}", id);
    six_records(s, id);
    EXPECT(
        200, "{}", "POST", path(id, "upsert"),
        "{\"ids\":[\"b\",\"d\",\"g\"],\"embeddings\":[[3,4],[3,4],[3,4]],"
        "\"clear\":[[\"document\",\"metadata\"],null,[\"document\"]],\"uris\":[\"u\",null,null]}");
    EXPECT(200,
           "{\"ids\":[\"b\",\"d\",\"g\"],\"embeddings\":[[3.0,4.0],[3.0,4.0],[3.0,4.0]],"
           "\"documents\":[null,\"x\",null],\"uris\":[\"u\",null,null],\"metadatas\":[null,"
           "{\"k\":2},null]",
           "POST", path(id, "get"),
           "{\"ids\":[\"b\",\"d\",\"g\"],\"include\":[\"documents\",\"uris\",\"metadatas\","
           "\"embeddings\"]}");
    EXPECT(
        400, "clear[0]: the same request sets document", "POST", path(id, "upsert"),
        "{\"ids\":[\"b\"],\"embeddings\":[[3,4]],\"documents\":[\"x\"],\"clear\":[[\"document\"]]"
        "}");
    EXPECT(400, "Inconsistent number of IDs and clear lists", "POST", path(id, "upsert"),
           "{\"ids\":[\"b\"],\"embeddings\":[[3,4]],\"clear\":[]}");
    stack_done(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_update_by_filter_changes_all_it_matches),
        cmocka_unit_test(limit_and_dry_run_hold_back),
        cmocka_unit_test(a_repeated_key_updates_once),
        cmocka_unit_test(wrong_updates_are_refused_by_name),
        cmocka_unit_test(upserts_clear_fields_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
