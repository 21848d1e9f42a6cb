/* SPDX-License-Identifier: Apache-2.0 */
/* Transactions (http-api.md §10): reads at one state, commits that are applied wholly or, when what was read changed, not at all. */
#include "gateway_test.h"

#include "gateway/rule/token.h"

#include <inttypes.h>

#define GET    "conditional/get"
#define COMMIT "conditional/commit"

PRINTF_LIKE(1, 2) static const char *format(const char *text, ...)
{
    static char texts[8][8192];
    static unsigned next;
    char *at = texts[next++ % 8];
    va_list args;
    va_start(args, text);
    int len = vsnprintf(at, sizeof(texts[0]), text, args);
    va_end(args);
    assert_in_range(len, 0, sizeof(texts[0]) - 1);
    return at;
}

/* A conditional get; the answer begins as expected.  Returns the token. */
static uint64_t begin(struct stack *s, const char *id, const char *body, const char *expected)
{
    static struct answer answer;
    struct ask ask = PLAIN("POST", path(id, GET), body);
    exchange(s, &ask, &answer);
    if (answer.status != 200 || strncmp(answer.body, expected, strlen(expected)) != 0)
        fail_msg("%s\n  expected %s\n  got      %d %s", body, expected, answer.status, answer.body);
    const char *at = strstr(answer.body, "\"read_token\":");
    assert_non_null(at);
    return strtoull(at + 13, NULL, 10);
}

/* operations: the text between the brackets. */
static void commit(struct stack *s, const char *id, uint64_t token, const char *read_ids,
                   const char *operations, int status, const char *expected)
{
    EXPECT(status, expected, "POST", path(id, COMMIT),
           token ? format("{\"read_token\":%" PRIu64 ",\"read_ids\":[%s],\"operations\":[%s]}",
                          token, read_ids, operations)
                 : format("{\"read_token\":null,\"operations\":[%s]}", operations));
}

#define CONFLICT          "conditional write conflict"
#define OP(op_, payload_) "{\"operation\":\"" op_ "\",\"payload\":{" payload_ "}}"

static void flush(struct stack *s, const char *id)
{
    uuid collection;
    assert_true(uuid_parse(slice_of(id), &collection));
    OK(compactor_run(s->compactor, &collection, false, err));
}

/* a: n=1, b: n=2, c: n=3 */
static void make_three(struct stack *s, const char *name, char id[UUID_TEXT_SIZE])
{
    make_collection(s, format("{\"name\":\"%s\"}", name), id);
    EXPECT(201, "{}", "POST", path(id, "add"),
           "{\"ids\":[\"a\",\"b\",\"c\"],\"embeddings\":[[1,0],[2,0],[3,0]],"
           "\"metadatas\":[{\"n\":1},{\"n\":2},{\"n\":3}]}");
}

static void expect_ids(struct stack *s, const char *id, const char *ids)
{
    EXPECT(200, format("{\"ids\":[%s],", ids), "POST", path(id, "get"), "{\"include\":[]}");
}

/* ---- reads ---- */

static void reads_with_one_token_see_one_state(void **state)
{
    (void)state;
    struct stack stack = {.tail_rows_max = 100}, *s = &stack;
    char id[UUID_TEXT_SIZE];
    stack_open(s);
    make_three(s, "states", id);
    uint64_t token =
        begin(s, id, "{\"ids\":[\"a\"]}",
              "{\"ids\":[\"a\"],\"embeddings\":null,\"documents\":[null],\"uris\":null,"
              "\"metadatas\":[{\"n\":1}],\"include\":[\"documents\",\"metadatas\"],"
              "\"read_token\":");
    for (int flushed = 0; flushed < 3; flushed++) {
        EXPECT(200, "{}", "POST", path(id, "upsert"),
               format("{\"ids\":[\"a\",\"x%d\"],\"embeddings\":[[9,0],[9,9]],"
                      "\"metadatas\":[{\"n\":9},{\"n\":9}]}",
                      flushed));
        EXPECT(200, "{\"deleted\":", "POST", path(id, "delete"), "{\"ids\":[\"b\"]}");
        assert_int_equal(
            begin(s, id,
                  format("{\"read_token\":%" PRIu64 ",\"include\":[\"embeddings\",\"metadatas\"]}",
                         token),
                  "{\"ids\":[\"a\",\"b\",\"c\"],\"embeddings\":[[1.0,0.0],[2.0,0.0],"
                  "[3.0,0.0]],\"documents\":null,\"uris\":null,"
                  "\"metadatas\":[{\"n\":1},{\"n\":2},{\"n\":3}]"),
            token);
        assert_int_equal(begin(s, id,
                               format("{\"read_token\":\"%" PRIu64
                                      "\",\"where\":{\"n\":{\"$gt\":1}},\"limit\":1,\"offset\":1,"
                                      "\"include\":[]}",
                                      token),
                               "{\"ids\":[\"c\"]"),
                         token);
        flush(s, id);
    }
    expect_ids(s, id, "\"a\",\"c\",\"x0\",\"x1\",\"x2\"");
    uint64_t other = begin(s, id, "{\"include\":[]}", "{\"ids\":[\"a\",\"c\",\"x0\"");
    assert_true(other != token && other > 0 && other < (1ull << 53));
    stack_done(s);
}

static void tokens_that_are_not_known_are_stale(void **state)
{
    (void)state;
    struct stack stack = {.tail_rows_max = 100}, *s = &stack;
    char id[UUID_TEXT_SIZE], other[UUID_TEXT_SIZE];
    stack_open(s);
    make_three(s, "stale", id);
    make_three(s, "other", other);
    uint64_t token = begin(s, id, "{\"ids\":[\"a\"]}", "{\"ids\":[\"a\"]");
    char body[64];
    (void)snprintf(body, sizeof(body), "{\"read_token\":%" PRIu64 "}", token);
    const char *operation = OP("delete", "\"ids\":[\"a\"]");
    EXPECT(412, "read token ", "POST", path(other, GET), body);
    commit(s, other, token, "", operation, 412, "read token ");
    commit(s, id, token ^ 1, "", operation, 412, "read token ");
    static const char *const never[] = {"0",
                                        "\"0\"",
                                        "9007199254740993",
                                        "18446744073709551615",
                                        "18446744073709551616",
                                        "\"18446744073709551615\""};
    for (size_t i = 0; i < COUNT_OF(never); i++) {
        EXPECT(412, "", "POST", path(id, GET), format("{\"read_token\":%s}", never[i]));
        EXPECT(412, "", "POST", path(id, COMMIT),
               format("{\"read_token\":%s,\"operations\":[%s]}", never[i], operation));
    }
    static const char *const wrong[] = {"-1",   "1.5",    "true",   "[]",
                                        "\"\"", "\"1x\"", "\"-1\"", "\"18446744073709551616\""};
    for (size_t i = 0; i < COUNT_OF(wrong); i++)
        EXPECT(422,
               "Failed to deserialize the JSON body into the target type: read_token: ", "POST",
               path(id, GET), format("{\"read_token\":%s}", wrong[i]));
    clock_manual_advance(&s->clock, TOKEN_AGE_NS - 1000000);
    EXPECT(200, "{\"ids\":[\"a\"", "POST", path(id, GET), body);
    clock_manual_advance(&s->clock, 1000000);
    EXPECT(412, "read token ", "POST", path(id, GET), body);
    commit(s, id, token, "", operation, 412, "read token ");
    token = begin(s, id, "{\"ids\":[\"a\"]}", "{\"ids\":[\"a\"]");
    stack_close(s);
    stack_open(s);
    commit(s, id, token, "", operation, 412, "read token ");
    expect_ids(s, id, "\"a\",\"b\",\"c\"");
    stack_done(s);
}

/* ---- commits ---- */

static void a_commit_applies_all_operations_in_order(void **state)
{
    (void)state;
    struct stack stack = {.tail_rows_max = 100}, *s = &stack;
    char id[UUID_TEXT_SIZE];
    stack_open(s);
    make_three(s, "order", id);
    uint64_t token =
        begin(s, id, "{\"ids\":[\"a\",\"b\",\"new\"],\"include\":[]}", "{\"ids\":[\"a\",\"b\"]");
    commit(s, id, token, "\"a\",\"b\",\"new\"",
           OP("add", "\"ids\":[\"new\"],\"embeddings\":[[4,0]],\"documents\":[\"made\"]") "," OP(
               "update", "\"ids\":[\"a\",\"new\"],\"metadatas\":[{\"n\":null,\"m\":1},{\"k\":true}"
                         "]") "," OP("upsert", "\"ids\":[\"b\",\"u\"],\"embeddings\":[[5,0],"
                                               "\"AACAPwAAAEA=\"]"),
           422,
           "Failed to deserialize the JSON body into the target type: operations[2].payload."
           "embeddings: ");
    commit(s, id, token, "\"a\",\"b\",\"new\"",
           OP("add", "\"ids\":[\"new\"],\"embeddings\":[[4,0]],\"documents\":[\"made\"]") "," OP(
               "update",
               "\"ids\":[\"a\",\"new\"],\"metadatas\":[{\"n\":null,\"m\":1},{\"k\":true}"
               "]") "," OP("upsert", "\"ids\":[\"b\",\"u\"],\"embeddings\":[\"AACgQAAAAAA=\","
                                     "\"AACAPwAAAEA=\"]") "," OP("delete", "\"ids\":[\"u\",\"c\","
                                                                           "\"nobody\"]"),
           200, "{\"first_inserted_record_offset\":3,\"record_count\":8}");
    for (int flushed = 0; flushed < 2; flushed++) {
        EXPECT(200,
               "{\"ids\":[\"a\",\"b\",\"new\"],\"embeddings\":[[1.0,0.0],[5.0,0.0],[4.0,0.0]],"
               "\"documents\":[null,null,\"made\"],\"uris\":null,"
               "\"metadatas\":[{\"m\":1},{\"n\":2},{\"k\":true}]",
               "POST", path(id, "get"),
               "{\"include\":[\"embeddings\",\"documents\",\"metadatas\"]}");
        flush(s, id);
    }
    /* Without a token there is no condition. */
    commit(s, id, 0, "", OP("delete", "\"ids\":[\"a\"]"), 200,
           "{\"first_inserted_record_offset\":11,\"record_count\":1}");
    EXPECT(200, "{\"first_inserted_record_offset\":12,\"record_count\":1}", "POST",
           path(id, COMMIT),
           "{\"operations\":[{\"payload\":{\"ids\":[\"b\"]},\"operation\":\"delete\"}]}");
    expect_ids(s, id, "\"new\"");
    /* Nothing to write: nothing happens, whatever the token. */
    commit(s, id, 12345, "\"a\"", "", 200,
           "{\"first_inserted_record_offset\":null,\"record_count\":0}");
    commit(s, id, 0, "", OP("delete", "\"ids\":null") "," OP("update", "\"ids\":[]"), 200,
           "{\"first_inserted_record_offset\":null,\"record_count\":0}");
    stack_done(s);
}

struct interference {
    const char *read;         /* the members of the get */
    const char *route, *body; /* what another client does meanwhile */
    const char *read_ids;     /* what the client says that it read */
    const char *write;        /* operations */
    int status;
};

#define BUMP_A       OP("update", "\"ids\":[\"a\"],\"metadatas\":[{\"n\":7}]")
#define ADD_Z        OP("upsert", "\"ids\":[\"z\"],\"embeddings\":[[1,1]]")
#define ADD(id_, n_) "{\"ids\":[\"" id_ "\"],\"embeddings\":[[1,1]],\"metadatas\":[{\"n\":" n_ "}]}"
#define SET(id_, n_) "{\"ids\":[\"" id_ "\"],\"metadatas\":[{\"n\":" n_ "}]}"

static const struct interference interferences[] = {
    /* ids read, told by the client or not */
    {"\"ids\":[\"a\"]", "update", SET("a", "5"), "\"a\"", BUMP_A, 409},
    {"\"ids\":[\"a\"]", "update", SET("a", "5"), "", ADD_Z, 409},
    {"\"ids\":[\"a\"]", "delete", "{\"ids\":[\"a\"]}", "\"a\"", ADD_Z, 409},
    {"\"ids\":[\"a\"]", "update", SET("b", "5"), "\"a\"", BUMP_A, 200},
    {"\"ids\":[\"a\",\"none\"]", "add", ADD("none", "1"), "", ADD_Z, 409},
    {"\"ids\":[\"a\"]", "update", SET("b", "5"), "\"a\",\"b\"", BUMP_A, 409}, /* told only */
    {"\"ids\":[\"a\"],\"where\":{\"n\":99}", "update", SET("a", "99"), "", ADD_Z, 409},
    /* ids to be written, not read */
    {"\"ids\":[\"a\"]", "add", ADD("z", "1"), "\"a\"", ADD_Z, 409},
    {"\"ids\":[]", "update", SET("a", "5"), "", BUMP_A, 409},
    /* phantoms: what a filter would see now */
    {"\"where\":{\"n\":{\"$gte\":2}}", "add", ADD("d", "2"), "\"b\",\"c\"", ADD_Z, 409},
    {"\"where\":{\"n\":{\"$gte\":2}}", "add", ADD("d", "1"), "\"b\",\"c\"", ADD_Z, 200},
    {"\"where\":{\"n\":{\"$gte\":2}}", "update", SET("a", "2"), "\"b\",\"c\"", ADD_Z, 409},
    {"\"where\":{\"n\":{\"$gte\":2}}", "update", SET("a", "0"), "\"b\",\"c\"", ADD_Z, 200},
    /* what it saw and would no longer see, or differently */
    {"\"where\":{\"n\":{\"$gte\":2}}", "update", SET("b", "0"), "", ADD_Z, 409},
    {"\"where\":{\"n\":{\"$gte\":2}}", "delete", "{\"ids\":[\"c\"]}", "", ADD_Z, 409},
    {"\"where\":{\"n\":{\"$gte\":2}}", "delete", "{\"ids\":[\"a\"]}", "", ADD_Z, 200},
    {"\"where\":{\"n\":{\"$gte\":2}}", "update", "{\"ids\":[\"b\"],\"documents\":[\"text\"]}", "",
     ADD_Z, 409},
    {"\"where_document\":{\"$contains\":\"tex\"}", "update",
     "{\"ids\":[\"b\"],\"documents\":[\"text\"]}", "", ADD_Z, 409},
    {"\"where_document\":{\"$contains\":\"other\"}", "update",
     "{\"ids\":[\"b\"],\"documents\":[\"text\"]}", "", ADD_Z, 200},
    /* a limit: rows behind the last one were not read */
    {"\"where\":{\"n\":{\"$gte\":1}},\"limit\":2", "add", ADD("d", "2"), "", ADD_Z, 200},
    {"\"where\":{\"n\":{\"$gte\":1}},\"limit\":2", "update", SET("c", "9"), "", ADD_Z, 200},
    {"\"where\":{\"n\":{\"$gte\":1}},\"limit\":2", "update", SET("b", "9"), "", ADD_Z, 409},
    {"\"where\":{\"n\":{\"$gte\":1}},\"limit\":2", "delete", "{\"ids\":[\"a\"]}", "", ADD_Z, 409},
    {"\"where\":{\"n\":{\"$gte\":2}},\"limit\":1", "update", SET("a", "2"), "", ADD_Z, 409},
    {"\"where\":{\"n\":{\"$gte\":1}},\"limit\":4", "add", ADD("d", "2"), "", ADD_Z, 409},
    {"\"where\":{\"n\":{\"$gte\":1}},\"limit\":1,\"offset\":1", "update", SET("a", "9"), "", ADD_Z,
     409}, /* it was counted */
    {"\"where\":{\"n\":{\"$gte\":1}},\"limit\":1,\"offset\":1", "update", SET("c", "9"), "", ADD_Z,
     200},
    {"\"where\":{\"n\":{\"$gte\":1}},\"limit\":0", "update", SET("a", "9"), "", ADD_Z, 200},
    /* no filter: all records */
    {"\"limit\":9", "add", ADD("d", "2"), "", ADD_Z, 409},
    {"\"limit\":3", "add", ADD("d", "2"), "", ADD_Z, 200},
    {"\"limit\":3", "update", SET("c", "9"), "", ADD_Z, 409},
    /* deleted and made again it is another row, at the end */
    {"\"where\":{\"n\":3},\"limit\":1", "upsert", ADD("c", "3"), "", ADD_Z, 409},
};

static void interfere(struct stack *s, size_t i, int flushes)
{
    const struct interference *c = &interferences[i];
    char id[UUID_TEXT_SIZE];
    make_three(s, format("case%zu-%d", i, flushes), id);
    if (flushes & 1)
        flush(s, id);
    uint64_t token = begin(s, id, format("{%s}", c->read), "{\"ids\":[");
    if (flushes & 2)
        flush(s, id);
    EXPECT(strcmp(c->route, "add") == 0 ? 201 : 200, "{", "POST", path(id, c->route), c->body);
    if (flushes & 4)
        flush(s, id);
    static struct answer before, after;
    struct ask all = PLAIN("POST", path(id, "get"), "{}");
    exchange(s, &all, &before);
    static struct answer answer;
    struct ask ask = PLAIN("POST", path(id, COMMIT),
                           format("{\"read_token\":%" PRIu64 ",\"read_ids\":[%s],"
                                  "\"operations\":[" OP("add", "\"ids\":[\"y\"],"
                                                               "\"embeddings\":[[1,1]]") ",%s]}",
                                  token, c->read_ids, c->write));
    exchange(s, &ask, &answer);
    if (answer.status != c->status)
        fail_msg("case %zu, flushes %d: {%s} then %s %s: expected %d, got %d %s", i, flushes,
                 c->read, c->route, c->body, c->status, answer.status, answer.body);
    all = PLAIN("POST", path(id, "get"), "{}");
    exchange(s, &all, &after);
    if (c->status == 409) {
        assert_non_null(strstr(answer.body, "\"error\":\"ConditionalWriteConflictError\""));
        assert_non_null(strstr(answer.body, "\"message\":\"" CONFLICT "\""));
        assert_string_equal(before.body, after.body); /* nothing was applied */
    } else {
        assert_non_null(strstr(after.body, "\"y\""));
    }
    /* Either way the transaction is over. */
    exchange(s, &ask, &answer);
    assert_int_equal(answer.status, 412);
    EXPECT(200, "{}", "DELETE", format(BASE "/collections/case%zu-%d", i, flushes));
}

static void a_commit_conflicts_exactly_when_what_was_read_or_is_written_changed(void **state)
{
    (void)state;
    struct stack stack = {.tail_rows_max = 100}, *s = &stack;
    stack_open(s);
    for (size_t i = 0; i < COUNT_OF(interferences); i++)
        for (int flushes = 0; flushes < 8; flushes++)
            interfere(s, i, flushes);
    stack_done(s);
}

static void records_that_expired_since_they_were_read_are_a_conflict(void **state)
{
    (void)state;
    struct stack stack = {.tail_rows_max = 100}, *s = &stack;
    stack_open(s);
    uuid collection = stack_collection(s, "expires", "l2");
    char id[UUID_TEXT_SIZE];
    uuid_format(collection, id);
    struct stack_row rows[] = {
        {.op = BATCH_ADD, .id = "a", .metadata_json = "{\"n\":1}"},
        {.op = BATCH_ADD,
         .id = "b",
         .metadata_json = "{\"n\":1}",
         .expires_ms = STACK_NOW_MS + 2000},
        {.op = BATCH_ADD,
         .id = "c",
         .metadata_json = "{\"n\":1}",
         .expires_ms = STACK_NOW_MS + 9000},
    };
    stack_write(s, collection, rows, COUNT_OF(rows));
    static const struct {
        const char *read;
        int status;
    } cases[] = {{"{\"ids\":[\"a\"]}", 200},
                 {"{\"ids\":[\"b\"]}", 409},
                 {"{\"where\":{\"n\":1},\"limit\":1}", 200},
                 {"{\"where\":{\"n\":1},\"limit\":1,\"offset\":1}", 409},
                 {"{\"where\":{\"n\":1},\"limit\":1,\"offset\":2}", 409},
                 {"{\"where\":{\"n\":2},\"limit\":1}", 200}};
    uint64_t tokens[COUNT_OF(cases)];
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        tokens[i] = begin(s, id, cases[i].read, "{\"ids\":[");
        if (i == 3)
            flush(s, id);
    }
    clock_manual_advance(&s->clock, 3000000000ull);
    EXPECT(200, "{\"ids\":[\"a\",\"b\",\"c\"]", "POST", path(id, GET),
           format("{\"include\":[],\"read_token\":%" PRIu64 "}", tokens[0])); /* by its clock */
    tokens[0] = begin(s, id, cases[0].read, "{\"ids\":[");
    expect_ids(s, id, "\"a\",\"c\"");
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        commit(s, id, tokens[i], "",
               format(OP("add", "\"ids\":[\"new%zu\"],\"embeddings\":[[0,0,0,1]]"), i),
               cases[i].status, cases[i].status == 200 ? "{" : CONFLICT);
    stack_done(s);
}

static void a_commit_with_a_key_is_applied_once(void **state)
{
    (void)state;
    struct stack stack = {.tail_rows_max = 100}, *s = &stack;
    char id[UUID_TEXT_SIZE];
    stack_open(s);
    make_three(s, "keys", id);
    char target[256];
    uint64_t token = begin(s, id, "{\"ids\":[\"a\"]}", "{\"ids\":[\"a\"]");
    struct ask ask = {.method = "POST",
                      .target = strcpy(target, path(id, COMMIT)),
                      .body =
                          format("{\"read_token\":%" PRIu64 ",\"operations\":[" BUMP_A "]}", token),
                      .headers = {{SLICE("Idempotency-Key"), SLICE("k1")}},
                      .header_count = 1};
    static const char first[] = "{\"first_inserted_record_offset\":3,\"record_count\":1}";
    expect(s, &ask, 200, first);
    expect(s, &ask, 200, first); /* though the token is void and a was changed */
    EXPECT(200, "{}", "POST", path(id, "update"), SET("a", "8"));
    flush(s, id);
    expect(s, &ask, 200, first);
    EXPECT(200,
           "{\"ids\":[\"a\"],\"embeddings\":null,\"documents\":[null],\"uris\":null,"
           "\"metadatas\":[{\"n\":8}]",
           "POST", path(id, "get"), "{\"ids\":[\"a\"]}");
    struct ask another = ask;
    another.body = "{\"operations\":[" ADD_Z "]}";
    expect(s, &another, 422, "this idempotency key was used with another request");
    /* What conflicted was not applied: the next one under the key is the first. */
    token = begin(s, id, "{\"ids\":[\"a\"]}", "{\"ids\":[\"a\"]");
    ask.headers[0].value = SLICE("k2");
    ask.body = format("{\"read_token\":%" PRIu64 ",\"operations\":[" BUMP_A "]}", token);
    EXPECT(200, "{}", "POST", path(id, "update"), SET("a", "9"));
    expect(s, &ask, 409, CONFLICT);
    token = begin(s, id, "{\"ids\":[\"a\"]}", "{\"ids\":[\"a\"]");
    ask.body = format("{\"read_token\":%" PRIu64 ",\"operations\":[" BUMP_A "]}", token);
    expect(s, &ask, 200, "{\"first_inserted_record_offset\":6,");
    stack_done(s);
}

/* ---- validation ---- */

static void operations_are_judged_in_order_as_by_the_plain_routes(void **state)
{
    (void)state;
    struct stack stack = {.tail_rows_max = 100}, *s = &stack;
    char id[UUID_TEXT_SIZE];
    stack_open(s);
    make_three(s, "judged", id);
#define SHAPE "Failed to deserialize the JSON body into the target type: "
    static const struct {
        const char *body;
        int status;
        const char *message;
    } cases[] = {
        {"{}", 422, SHAPE "missing field `operations`"},
        {"[]", 422, SHAPE "invalid length 0, expected struct ConditionalCommitPayload"},
        {"{\"operations\":null}", 422, SHAPE "operations: invalid type: null, expected a sequence"},
        {"{\"operations\":{}}", 422, SHAPE "operations: invalid type: map, expected a sequence"},
        {"{\"read_ids\":null,\"operations\":[]}", 422, SHAPE "read_ids: invalid type: null"},
        {"{\"read_ids\":[1],\"operations\":[]}", 422, SHAPE "read_ids[0]: invalid type"},
        {"{\"operations\":[1]}", 422, SHAPE "operations[0]: invalid type: integer `1`"},
        {"{\"operations\":[{}]}", 422, SHAPE "operations[0]: missing field `operation`"},
        {"{\"operations\":[{\"operation\":\"add\"}]}", 422,
         SHAPE "operations[0]: missing field `payload`"},
        {"{\"operations\":[{\"operation\":\"Add\",\"payload\":{}}]}", 422,
         SHAPE "operations[0].operation: unknown variant `Add`, expected one of `add`, `update`"},
        {"{\"operations\":[" ADD_Z "," OP("add", "\"ids\":[\"q\"]") "]}", 422,
         SHAPE "operations[1].payload: missing field `embeddings`"},
        {"{\"operations\":[" OP("update", "\"set\":{\"metadata\":{}},\"where\":{\"n\":1}") "]}",
         422, SHAPE "operations[0].payload: missing field `ids`"},
        {"{\"operations\":[" OP("add", "\"ids\":[\"q\"],\"embeddings\":[[1,1]],"
                                       "\"metadatas\":[{\"a\":{}}]") "]}",
         422, SHAPE "operations[0].payload.metadatas[0]: "},
        {"{\"operations\":[" OP("delete", "\"ids\":[\"q\"],\"filter\":{}") "]}", 422,
         SHAPE "operations[0].payload: unknown field `filter`"},
        {"{\"read_ids\":[\"a\"],\"operations\":[]}", 400,
         "conditional commit with read_ids requires read_token"},
        {"{\"read_token\":5,\"read_ids\":[\"\"],\"operations\":[]}", 400,
         "read_ids must not contain empty ids"},
        {"{\"operations\":[" OP("delete", "\"where\":{\"n\":1}") "]}", 400,
         "transactional predicate deletes are not supported (operations[0])"},
        {"{\"operations\":[" OP("delete", "\"ids\":[]") "]}", 400,
         "Validation error: ids, where: Either ids or where must be specified"},
        {"{\"operations\":[" OP("delete", "\"ids\":[\"a\"],\"limit\":1") "]}", 400,
         "Validation error: limit, where: limit can only be specified when a where clause"},
        {"{\"operations\":[" OP("delete", "\"ids\":[\"a\",\"\"]") "]}", 400,
         "Empty ID, ID must have at least one character: record 1 (operations[0])"},
        {"{\"operations\":[" ADD_Z "," OP("add", "\"ids\":[\"\"],\"embeddings\":[[1,1]]") "]}", 400,
         "Empty ID, ID must have at least one character: record 0 (operations[1])"},
        {"{\"operations\":[" OP("add", "\"ids\":[\"q\"],\"embeddings\":[[1,2,3]]") "]}", 400,
         "Collection expecting embedding with dimension of 2, got 3: record 0 (\\\"q\\\") "
         "(operations[0]). Collection"},
        {"{\"operations\":[" OP("add", "\"ids\":[\"q\",\"r\"],\"embeddings\":[[1,2]]") "]}", 400,
         "Inconsistent number of IDs, embeddings, documents, URIs and metadatas"},
        {"{\"operations\":[" OP("add", "\"ids\":[\"q\"],\"embeddings\":[\"!\"]") "]}", 400,
         "Invalid base64 string"},
        {"{\"operations\":[" OP("add", "\"ids\":[\"q\"],\"embeddings\":[[1,1]],"
                                       "\"metadatas\":[{\"#x\":1}]") "]}",
         400, "Validation error: metadatas: Invalid metadata at index 0"},
        {"{\"operations\":[" OP("add", "\"ids\":[\"q\"],\"embeddings\":[[1,1]],"
                                       "\"metadatas\":[{\"x\":null}]") "]}",
         422, SHAPE "operations[0].payload.metadatas[0]"},
        /* The first fault counts: shapes of all, then one operation after the other. */
        {"{\"operations\":[" OP("add", "\"ids\":[\"q\"],\"embeddings\":[[1,2,3]]") "," OP(
             "delete", "\"ids\":[]") "]}",
         400, "Collection expecting"},
        {"{\"operations\":[" OP("delete", "\"ids\":[]") "," OP("add", "\"ids\":[\"q\"]") "]}", 422,
         SHAPE "operations[1]"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        EXPECT(cases[i].status, cases[i].message, "POST", path(id, COMMIT), cases[i].body);
    EXPECT(400, "Collection ID is not a valid UUIDv4", "POST", path("nope", COMMIT),
           "{\"operations\":[]}");
    EXPECT(404, "Collection [00000000-0000-4000-8000-000000000000] does not exist.", "POST",
           path("00000000-0000-4000-8000-000000000000", COMMIT), "{\"operations\":[]}");
    EXPECT(404, "Collection [00000000-0000-4000-8000-000000000000] does not exist.", "POST",
           path("00000000-0000-4000-8000-000000000000", GET), "{}");
    EXPECT(400, "Invalid where clause", "POST", path(id, GET), "{\"where\":{\"n\":{\"$x\":1}}}");
    EXPECT(405, "", "GET", path(id, COMMIT));
    expect_ids(s, id, "\"a\",\"b\",\"c\"");
    stack_done(s);
}

static void the_first_vector_of_a_commit_fixes_the_dimension_if_a_record_takes_it(void **state)
{
    (void)state;
    struct stack stack = {.tail_rows_max = 100}, *s = &stack;
    char id[UUID_TEXT_SIZE];
    stack_open(s);
    make_collection(s, "{\"name\":\"dimension\"}", id);
    commit(s, id, 0, "",
           OP("add", "\"ids\":[\"a\"],\"embeddings\":[[1,2]]") "," OP(
               "add", "\"ids\":[\"b\"],\"embeddings\":[[1,2,3]]"),
           400, "Collection expecting embedding with dimension of 2, got 3");
    /* Nobody is there to take them. */
    uint64_t token = begin(s, id, "{\"limit\":1}", "{\"ids\":[]");
    commit(s, id, token, "",
           OP("update", "\"ids\":[\"a\"],\"embeddings\":[[1,2,3]]") "," OP("delete",
                                                                           "\"ids\":[\"b\"]"),
           200, "{\"first_inserted_record_offset\":0,");
    commit(s, id, 0, "", OP("update", "\"ids\":[\"a\"],\"embeddings\":[[1,2,3]]"), 200, "{");
    EXPECT(200, "{\"id\":", "GET", BASE "/collections/dimension");
    token = begin(s, id, "{\"limit\":1}", "{\"ids\":[]");
    commit(s, id, token, "",
           OP("update", "\"ids\":[\"a\"],\"embeddings\":[[7,7]]") "," OP(
               "add", "\"ids\":[\"a\"],\"embeddings\":[[1,2]]") "," OP("update",
                                                                       "\"ids\":[\"a\"],"
                                                                       "\"embeddings\":[[3,4]]"),
           200, "{");
    EXPECT(200, "{\"ids\":[\"a\"],\"embeddings\":[[3.0,4.0]]", "POST", path(id, "get"),
           "{\"include\":[\"embeddings\"]}");
    EXPECT(400, "Collection expecting embedding with dimension of 2, got 3", "POST",
           path(id, "add"), "{\"ids\":[\"c\"],\"embeddings\":[[1,2,3]]}");
    stack_done(s);
}

/* ---- how much tokens keep ---- */

static void the_number_of_tokens_is_bounded_and_the_oldest_go_first(void **state)
{
    (void)state;
    struct stack stack = {.tail_rows_max = 100}, *s = &stack;
    char id[UUID_TEXT_SIZE];
    stack_open(s);
    make_three(s, "many", id);
    uint64_t first = begin(s, id, "{\"limit\":1}", "{"),
             second = begin(s, id, "{\"limit\":1}", "{");
    for (int i = 0; i < TOKENS_MAX - 1; i++)
        (void)begin(s, id, "{\"limit\":1,\"include\":[]}", "{");
    commit(s, id, first, "", ADD_Z, 412, "read token ");
    commit(s, id, second, "", ADD_Z, 200, "{");
    stack_done(s);
}

static void tails_of_older_versions_are_kept_only_up_to_a_limit(void **state)
{
    (void)state;
    struct stack stack = {.tail_rows_max = 100}, *s = &stack;
    char id[UUID_TEXT_SIZE];
    stack_open(s);
    make_collection(s, "{\"name\":\"held\"}", id);
    /* More than the body limit of tests: straight to the log. */
    uuid collection;
    assert_true(uuid_parse(slice_of(id), &collection));
    enum { ROWS = 32, SIZE = 256 << 10 };
    char *document = malloc(SIZE + 1), names[ROWS][16];
    struct stack_row rows[ROWS];
    assert_non_null(document);
    memset(document, 'x', SIZE);
    document[SIZE] = '\0';
    uint64_t tokens[12];
    for (size_t i = 0; i < COUNT_OF(tokens); i++) {
        for (size_t j = 0; j < ROWS; j++) {
            (void)snprintf(names[j], sizeof(names[j]), "doc%zu-%zu", i, j);
            rows[j] = (struct stack_row){.op = BATCH_ADD, .id = names[j], .document = document};
        }
        stack_write(s, collection, rows, ROWS);
        tokens[i] = begin(s, id, "{\"limit\":1,\"include\":[]}", "{");
        uint64_t again = begin(s, id, "{\"limit\":1,\"include\":[]}", "{"); /* holds the same */
        EXPECT(200, "{", "POST", path(id, GET),
               format("{\"read_token\":%" PRIu64 ",\"limit\":1,\"include\":[]}", again));
        flush(s, id);
    }
    free(document);
    clock_manual_advance(&s->clock, 2000000000ull);
    size_t alive = 0;
    bool younger_alive = false;
    for (size_t i = 0; i < COUNT_OF(tokens); i++) {
        static struct answer answer;
        struct ask ask =
            PLAIN("POST", path(id, GET),
                  format("{\"read_token\":%" PRIu64 ",\"limit\":1,\"include\":[]}", tokens[i]));
        exchange(s, &ask, &answer);
        assert_true(answer.status == 200 || answer.status == 412);
        alive += answer.status == 200;
        assert_false(younger_alive && answer.status != 200); /* the oldest go */
        younger_alive |= answer.status == 200;
    }
    assert_in_range(
        alive, 7, 8); /* of 8 MiB and a bit each, 64 MiB together, the last one's flushed as well */
    stack_done(s);
}

static void a_drop_or_reset_lets_tokens_go_at_once(void **state)
{
    (void)state;
    struct stack stack = {.tail_rows_max = 100, .allow_reset = true}, *s = &stack;
    char id[UUID_TEXT_SIZE];
    stack_open(s);
    make_three(s, "dropped", id);
    flush(s, id);
    uint64_t token = begin(s, id, "{\"limit\":1}", "{");
    EXPECT(200, "{}", "DELETE", BASE "/collections/dropped");
    OK(compactor_run(s->compactor, NULL, false, err));
    struct views_stats stats;
    views_stats(s->views, &stats);
    assert_int_equal(stats.collections_loaded, 0); /* nobody holds it */
    commit(s, id, token, "", ADD_Z, 404, "Collection [");
    make_three(s, "reset", id);
    (void)begin(s, id, "{\"limit\":1}", "{");
    EXPECT(200, "true", "POST", "/api/v2/reset");
    views_stats(s->views, &stats);
    assert_int_equal(stats.collections_loaded, 0);
    stack_done(s);
}

static void too_much_read_to_remember_means_that_any_write_conflicts(void **state)
{
    (void)state;
    struct stack stack = {.tail_rows_max = 100}, *s = &stack;
    char id[UUID_TEXT_SIZE];
    stack_open(s);
    make_three(s, "much", id);
    struct buf body;
    buf_init(&body, BUF_MAX_NONE);
    char name[101];
    memset(name, 'q', 100);
    name[100] = '\0';
    uint64_t token = 0;
    for (int read = 0; read < 12; read++) { /* 12 x 0.5 MiB */
        buf_clear(&body);
        buf_text(&body, "{\"include\":[],");
        if (token)
            buf_printf(&body, "\"read_token\":%" PRIu64 ",", token);
        buf_text(&body, "\"ids\":[\"a\"");
        for (int i = 0; i < 5000; i++)
            buf_printf(&body, ",\"%s%d-%d\"", name, read, i);
        buf_text(&body, "]}");
        buf_byte(&body, 0);
        token = begin(s, id, (const char *)body.at, "{\"ids\":[\"a\"]");
    }
    buf_done(&body);
    commit(s, id, token, "", ADD_Z, 200, "{"); /* nothing was written since */
    token = begin(s, id, "{\"ids\":[\"a\"]}", "{");
    EXPECT(200, "{}", "POST", path(id, "update"), SET("b", "9"));
    commit(s, id, token, "", BUMP_A, 200, "{");
    stack_done(s);
}

/* ---- failing allocations: all or nothing, and nothing is left behind ---- */

#define ALLOCATIONS_MAX 250

static void each_allocation_of_a_transaction_may_fail(void **state)
{
    (void)state;
    struct stack stack = {.tail_rows_max = 100}, *s = &stack;
    char id[UUID_TEXT_SIZE];
    static struct answer answer;
    stack_open(s);
    make_three(s, "failing", id);
    unsigned refused = 0, passed = 0;
    for (uint64_t n = 1; n <= ALLOCATIONS_MAX; n++) {
        uint64_t token =
            begin(s, id, "{\"where\":{\"n\":{\"$gte\":2}},\"limit\":9}", "{\"ids\":[\"b\",\"c\"]");
        struct ask get = PLAIN("POST", path(id, GET),
                               format("{\"read_token\":%" PRIu64 ",\"ids\":[\"b\"]}", token));
        mem_fail_at(n);
        exchange_raw(s, &get, &answer);
        mem_fail_at(0);
        assert_true(answer.status == 200 || answer.status == 503 || answer.status == 429);
        refused += answer.status != 200;
        bool all = answer.status == 200; /* then what was read may not fit to be remembered */
        EXPECT(200, "{}", "POST", path(id, "update"), SET("a", "0"));
        if (n % 2)
            flush(s, id);
        struct ask ask = PLAIN("POST", path(id, COMMIT),
                               format("{\"read_token\":%" PRIu64 ",\"operations\":[" ADD_Z
                                      "," OP("add", "\"ids\":[\"y\"],\"embeddings\":[[1,1]]") "]}",
                                      token));
        mem_fail_at(n);
        exchange_raw(s, &ask, &answer);
        mem_fail_at(0);
        bool applied = answer.status == 200;
        passed += applied;
        if (!applied && answer.status != 503 && answer.status != 429 && answer.status != 412 &&
            !(answer.status == 409 && all))
            fail_msg("allocation %" PRIu64 ": %d %s", n, answer.status, answer.body);
        expect_ids(s, id, applied ? "\"a\",\"b\",\"c\",\"z\",\"y\"" : "\"a\",\"b\",\"c\"");
        if (applied)
            EXPECT(200, "{\"deleted\":2}", "POST", path(id, "delete"), "{\"ids\":[\"z\",\"y\"]}");
    }
    assert_true(refused > 3 && passed > 3);
    stack_done(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_with_one_token_see_one_state),
        cmocka_unit_test(tokens_that_are_not_known_are_stale),
        cmocka_unit_test(a_commit_applies_all_operations_in_order),
        cmocka_unit_test(a_commit_conflicts_exactly_when_what_was_read_or_is_written_changed),
        cmocka_unit_test(records_that_expired_since_they_were_read_are_a_conflict),
        cmocka_unit_test(a_commit_with_a_key_is_applied_once),
        cmocka_unit_test(operations_are_judged_in_order_as_by_the_plain_routes),
        cmocka_unit_test(the_first_vector_of_a_commit_fixes_the_dimension_if_a_record_takes_it),
        cmocka_unit_test(the_number_of_tokens_is_bounded_and_the_oldest_go_first),
        cmocka_unit_test(tails_of_older_versions_are_kept_only_up_to_a_limit),
        cmocka_unit_test(a_drop_or_reset_lets_tokens_go_at_once),
        cmocka_unit_test(too_much_read_to_remember_means_that_any_write_conflicts),
        cmocka_unit_test(each_allocation_of_a_transaction_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
