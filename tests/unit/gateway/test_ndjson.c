/* SPDX-License-Identifier: Apache-2.0 */
/* Records as lines (docs/extras.md): written batch by batch, faults named by line, exported from one view, and the same again when imported. */
#include "gateway_test.h"

#include <inttypes.h>

static struct answer answer;

static void send_lines(struct stack *s, const char *target, const char *lines, const char *key,
                       int status, const char *says)
{
    struct ask ask = {.method = "POST",
                      .target = target,
                      .body = lines,
                      .headers = {{SLICE("Content-Type"), SLICE("application/x-ndjson")},
                                  {SLICE("Idempotency-Key"), key ? slice_of(key) : SLICE("")}},
                      .header_count = key ? 2 : 1};
    expect(s, &ask, status, says);
}

static void settle(struct stack *s, const char *id)
{
    uuid collection;
    assert_true(uuid_parse(slice_of(id), &collection));
    OK(compactor_run(s->compactor, &collection, true, err));
}

#define LINES                                                                                 \
    "{\"id\":\"a\",\"embedding\":[1,0.1],\"document\":\"x\\n\\\"y\\\"\",\"metadata\":{\"b\":" \
    "true,\"f\":1.0,\"i\":1,\"l\":[\"p\",\"q\"]},\"expires_at\":99999999999999}\r\n"          \
    "\n  \n{\"id\":\"b\",\"embedding\":[-3e-45,2.5],\"uri\":\"u\",\"document\":null}\n"       \
    "{\"id\":\"c\",\"embedding\":[16777217,3]}"
#define EXPORTED                                                                                \
    "{\"id\":\"a\",\"embedding\":[1.0,0.1],\"document\":\"x\\n\\\"y\\\"\",\"metadata\":{\"b\":" \
    "true,\"f\":1.0,\"i\":1,\"l\":[\"p\",\"q\"]},\"expires_at\":99999999999999}\n"              \
    "{\"id\":\"b\",\"embedding\":[-3e-45,2.5],\"uri\":\"u\"}\n"                                 \
    "{\"id\":\"c\",\"embedding\":[16777216.0,3.0]}\n"

static void lines_go_in_and_come_out_the_same(void **state)
{
    (void)state;
    struct stack stack = {.tail_rows_max = 100}, *s = &stack;
    char id[UUID_TEXT_SIZE], again[UUID_TEXT_SIZE];
    stack_open(s);
    make_collection(s, "{\"name\":\"lines\"}", id);
    make_collection(s, "{\"name\":\"again\"}", again);
    send_lines(s, path(id, "add"), LINES, NULL, 201,
               "{\"inserted\":3,\"updated\":0,\"skipped\":0,\"deleted\":0}");
    for (int in_parts = 0; in_parts < 2; in_parts++) {
        exchange(s, &(struct ask){.method = "GET", .target = path(id, "export")}, &answer);
        if (strcmp(answer.body, EXPORTED) != 0)
            fail_msg("%s", answer.body);
        settle(s, id);
    }
    send_lines(s, path(again, "upsert?batch_size=2"), answer.body, NULL, 200,
               "{\"inserted\":3,\"updated\":0,\"skipped\":0,\"deleted\":0}");
    exchange(s, &(struct ask){.method = "POST", .target = path(again, "export"), .body = "{}"},
             &answer);
    assert_string_equal(answer.body, EXPORTED);
    EXPECT(200, "{\"id\":\"b\"", "POST", path(id, "export"),
           "{\"where_document\":{\"$not_contains\":\"x\"}}");
    EXPECT(200, "{\"id\":\"a\"", "POST", path(id, "export"), "{\"where\":{\"i\":1}}");
    EXPECT(422, "", "POST", path(id, "export"), "{\"limit\":3}");
    EXPECT(404, "", "GET", path("00000000-0000-4000-8000-000000000000", "export"));
    send_lines(s, path(id, "update"),
               "{\"id\":\"a\",\"metadata\":{\"i\":null}}\n{\"id\":\"n\",\"document\":\"z\"}\n",
               NULL, 200, "{\"inserted\":0,\"updated\":1,\"skipped\":1,\"deleted\":0}");
    EXPECT(200, "", "POST", path(id, "export"), "{\"where\":{\"i\":1}}");
    send_lines(s, path(id, "add"), "", NULL, 201, "{\"inserted\":0,");
    stack_done(s);
}

static void a_fault_names_its_line_and_what_is_written(void **state)
{
    (void)state;
    struct stack stack = {0}, *s = &stack;
    char id[UUID_TEXT_SIZE];
    stack_open(s);
    make_collection(s, "{\"name\":\"faults\"}", id);
    static const struct {
        const char *says, *lines;
    } cases[] = {
        {"line 2: not JSON: ", "{\"id\":\"a\",\"embedding\":[1,2]}\n{\"id\":}\n"},
        {"line 1: record: sequence, expected an object", "[1]"},
        {"line 1: a record needs an `id`", "{\"embedding\":[1,2]}"},
        {"line 1: a record needs an `id`", "{\"id\":\"\",\"embedding\":[1,2]}"},
        {"line 1: a record to add or upsert needs an `embedding`", "{\"id\":\"a\"}"},
        {"line 1: id: integer `1`, expected a string", "{\"id\":1}"},
        {"line 1: unknown member `vector`", "{\"id\":\"a\",\"vector\":[1]}"},
        {"line 1: embedding: sequence, expected an array of numbers",
         "{\"id\":\"a\",\"embedding\":[]}"},
        {"line 1: embedding: string \\\"x\\\", expected a number",
         "{\"id\":\"a\",\"embedding\":[\"x\"]}"},
        {"line 1: embedding: number 1 is too large for f32",
         "{\"id\":\"a\",\"embedding\":[1,1e39]}"},
        {"line 3: embedding of dimension 3 among others of 2",
         "{\"id\":\"a\",\"embedding\":[1,2]}\n\n{\"id\":\"b\",\"embedding\":[1,2,3]}"},
        {"line 1: metadata: ", "{\"id\":\"a\",\"embedding\":[1,2],\"metadata\":{\"#x\":1}}"},
        {"line 1: metadata: sequence, expected an object",
         "{\"id\":\"a\",\"embedding\":[1,2],\"metadata\":[]}"},
        {"line 1: Validation error: expires_at",
         "{\"id\":\"a\",\"embedding\":[1,2],\"expires_at\":-1}"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        send_lines(s, path(id, "add"), cases[i].lines, NULL, 400, cases[i].says);
    EXPECT(200, "0", "GET", path(id, "count"));
    send_lines(s, path(id, "add?batch_size=2"),
               "{\"id\":\"a\",\"embedding\":[1,2]}\n{\"id\":\"b\",\"embedding\":[1,2]}\n"
               "{\"id\":\"c\",\"embedding\":[1,2]}\n{\"id\":\"d\"}\n",
               NULL, 400,
               "line 4: a record to add or upsert needs an `embedding`; the 2 lines before "
               "line 3 are written");
    EXPECT(200, "{\"ids\":[\"a\",\"b\"]", "POST", path(id, "get"), "{}");
    send_lines(s, path(id, "add"), "{\"id\":\"e\",\"embedding\":[1,2,3]}", NULL, 400,
               "line 1: Collection expecting embedding with dimension of 2, got 3");
    send_lines(s, path(id, "add?batch_size=0"), "", NULL, 400, "batch_size must be");
    send_lines(s, path(id, "add?batch_size=x"), "", NULL, 400, "");
    stack_done(s);
}

/* Send `lines` in pieces cut at two places, each in memory of its own; false when the answer came before the last. */
static bool send_in_pieces(struct stack *s, const char *target, const char *lines, size_t first,
                           size_t second, int status, const char *says)
{
    struct http_handler handler = gateway_handler(s->gateway);
    struct http_header type = {SLICE("Content-Type"), SLICE("application/x-ndjson")};
    const char *mark = strchr(target, '?');
    struct http_request request = {.method = SLICE("POST"),
                                   .target = slice_of(target),
                                   .path = mark ? slice_make(target, (size_t)(mark - target))
                                                : slice_of(target),
                                   .query = mark ? slice_of(mark + 1) : SLICE_NONE,
                                   .headers = &type,
                                   .header_count = 1};
    const size_t ends[] = {0, first, second, strlen(lines)};
    struct http_intake *intake = handler.intake(handler.context, &request);
    struct http_reply reply;
    assert_non_null(intake);
    http_reply_init(&reply, 1u << 20);
    bool complete = false;
    size_t i = 0;
    for (; i < 3 && !complete; i++) {
        size_t len = ends[i + 1] - ends[i];
        uint8_t *piece = calloc(1, len + 64);
        assert_non_null(piece);
        memcpy(piece, lines + ends[i], len);
        request.body = slice_make(piece, len);
        complete = intake->feed(intake, &request, i == 2, NULL, &reply);
        free(piece);
    }
    buf_byte(&reply.body, 0);
    if (!complete || reply.status != status || !strstr((const char *)reply.body.at, says))
        fail_msg("cut at %zu and %zu: expected %d %s, got %d %s", first, second, status, says,
                 reply.status, (const char *)reply.body.at);
    intake->free(intake);
    http_reply_done(&reply);
    return i == 3;
}

static void a_body_may_be_cut_anywhere(void **state)
{
    (void)state;
    struct stack stack = {0}, *s = &stack;
    char id[UUID_TEXT_SIZE];
    stack_open(s);
    make_collection(s, "{\"name\":\"cut\"}", id);
    static const char lines[] = "{\"id\":\"a\",\"embedding\":[1,2]}\n\n{\"id\":\"\xc3\xa9\","
                                "\"embedding\":[1,2]}\r\n{\"id\":\"c\",\"embedding\":[1,2]}";
    static const char bad[] = "{\"id\":\"x\",\"embedding\":[1,2]}\n{\"id\":5}\n{\"id\":\"y\","
                              "\"embedding\":[1,2]}\n";
    char target[256];
    (void)snprintf(target, sizeof(target), "%s", path(id, "upsert?batch_size=2"));
    (void)send_in_pieces(s, target, lines, 0, 0, 200, "{\"inserted\":3,\"updated\":0,");
    for (size_t i = 0; i <= strlen(lines); i += i < 4 ? 1 : 3) {
        for (size_t j = i; j <= strlen(lines); j += 5)
            (void)send_in_pieces(s, target, lines, i, j, 200, "{\"inserted\":0,\"updated\":3,");
    }
    (void)snprintf(target, sizeof(target), "%s", path(id, "add?batch_size=1"));
    unsigned early = 0;
    for (size_t i = 0; i <= strlen(bad); i += 7) {
        bool whole =
            send_in_pieces(s, target, bad, i, i, 400,
                           "line 2: id: integer `5`, expected a string; line 1 is written");
        early += !whole;
    }
    assert_true(early > 1); /* the fault is told when it is seen */
    EXPECT(200, "4", "GET", path(id, "count"));
    (void)send_in_pieces(s, path("nobody", "add"), lines, 3, 9, 400, "Collection ID is not");
    (void)send_in_pieces(s, "/api/v2/add", lines, 3, 9, 404, "No such route");
    stack_done(s);
}

static void a_key_lets_an_import_go_on_where_it_ended(void **state)
{
    (void)state;
    struct stack stack = {0}, *s = &stack;
    char id[UUID_TEXT_SIZE];
    stack_open(s);
    make_collection(s, "{\"name\":\"keyed\"}", id);
#define TWO "{\"id\":\"a\",\"embedding\":[1,2]}\n{\"id\":\"b\",\"embedding\":[1,2]}\n"
    send_lines(s, path(id, "upsert?batch_size=2"), TWO "{\"id\":\"c\"}\n", "k", 400, "line 3: ");
    send_lines(s, path(id, "upsert?batch_size=2"), TWO "{\"id\":\"c\",\"embedding\":[1,2]}\n", "k",
               200, "{\"inserted\":3,\"updated\":0,\"skipped\":0,\"deleted\":0}");
    send_lines(s, path(id, "upsert?batch_size=2"), TWO "{\"id\":\"c\",\"embedding\":[1,2]}\n", "k",
               200, "{\"inserted\":3,\"updated\":0,\"skipped\":0,\"deleted\":0}");
    send_lines(s, path(id, "upsert?batch_size=2"), "{\"id\":\"z\",\"embedding\":[1,2]}\n", "k", 422,
               "lines 1 to 1: ");
    EXPECT(200, "3", "GET", path(id, "count"));
    stack_done(s);
}

/* The first page of an export that is sent in pieces; an empty body is a GET. */
static void begin_export(struct stack *s, const char *id, const char *body,
                         struct http_reply *reply)
{
    char target[256], room[128] = {0}; /* readers may look beyond the end */
    (void)snprintf(target, sizeof(target), "%s", path(id, "export"));
    size_t len = strlen(body);
    assert_true(len + 64 <= sizeof(room));
    memcpy(room, body, len);
    const struct http_header type[] = {{SLICE("content-type"), SLICE("application/json")}};
    struct http_handler handler = gateway_handler(s->gateway);
    struct http_request request = {.method = len ? SLICE("POST") : SLICE("GET"),
                                   .target = slice_of(target),
                                   .path = slice_of(target),
                                   .body = slice_make((const uint8_t *)room, len),
                                   .headers = type,
                                   .header_count = 1,
                                   .streams = true};
    http_reply_init(reply, 1u << 20);
    handler.handle(handler.context, &request, reply);
    assert_int_equal(reply->status, 200);
    assert_non_null(reply->stream);
}

/* The whole text with a zero behind it; returns how many pages it had. */
static unsigned finish_export(struct http_reply *reply, struct buf *all)
{
    unsigned pages = 1;
    for (bool more = true; more; pages++) {
        buf_slice(all, buf_view(&reply->body));
        buf_clear(&reply->body);
        assert_int_equal(reply->stream->next(reply->stream, &reply->body, &more), OCH_OK);
    }
    buf_slice(all, buf_view(&reply->body));
    buf_byte(all, 0);
    http_reply_done(reply);
    return pages;
}

/* What is written while an export is under way is not in it, what is deleted still is; it takes one page at a time. */
static void an_export_shows_one_moment(void **state)
{
    (void)state;
    struct stack stack = {.tail_rows_max = 100}, *s = &stack;
    char id[UUID_TEXT_SIZE];
    stack_open(s);
    make_collection(s, "{\"name\":\"moment\"}", id);
    struct buf lines;
    buf_init(&lines, BUF_MAX_NONE);
    for (int i = 0; i < 2500; i++)
        buf_printf(&lines, "{\"id\":\"i%04d\",\"embedding\":[%d,1]}\n", i, i);
    buf_byte(&lines, 0);
    send_lines(s, path(id, "add"), (const char *)lines.at, NULL, 201, "{\"inserted\":2500,");
    settle(s, id);
    struct http_reply reply;
    begin_export(s, id, "", &reply);
    EXPECT(200, "{\"deleted\":2500}", "POST", path(id, "delete"),
           "{\"where\":{\"k\":{\"$ne\":1}}}");
    EXPECT(201, "{}", "POST", path(id, "add"), "{\"ids\":[\"later\"],\"embeddings\":[[1,2]]}");
    settle(s, id);
    struct buf all;
    buf_init(&all, BUF_MAX_NONE);
    assert_true(finish_export(&reply, &all) > 2);
    const char *at = (const char *)all.at;
    for (int i = 0; i < 2500; i++) {
        char expected[64];
        int len = snprintf(expected, sizeof(expected),
                           "{\"id\":\"i%04d\",\"embedding\":[%d.0,1.0]}\n", i, i);
        if (strncmp(at, expected, (size_t)len) != 0)
            fail_msg("line %d: %.60s", i, at);
        at += len;
    }
    assert_int_equal(*at, '\0');
    buf_done(&all);
    buf_done(&lines);
    EXPECT(200, "{\"id\":\"later\"", "GET", path(id, "export"));
    stack_done(s);
}

/* By a token or a version: all lines, also when the token ends, the version is given up and merges go on under way. */
static void an_export_shows_the_state_that_it_names(void **state)
{
    (void)state;
    struct stack stack = {.tail_rows_max = 100}, *s = &stack;
    char id[UUID_TEXT_SIZE], at_token[80];
    stack_open(s);
    make_collection(s, "{\"name\":\"states\"}", id);
    struct buf lines, all;
    buf_init(&lines, BUF_MAX_NONE);
    buf_init(&all, BUF_MAX_NONE);
    for (int i = 0; i < 2500; i++)
        buf_printf(&lines, "{\"id\":\"i%04d\",\"embedding\":[%d.0,1.0]}\n", i, i);
    buf_byte(&lines, 0);
    send_lines(s, path(id, "add"), (const char *)lines.at, NULL, 201, "{\"inserted\":2500,");
    EXPECT(200, "{\"version\":2500,", "POST", path(id, "versions"), "{\"name\":\"first\"}");
    exchange(s,
             &(struct ask){
                 .method = "POST", .target = path(id, "conditional/get"), .body = "{\"limit\":0}"},
             &answer);
    unsigned long long token = strtoull(strstr(answer.body, "\"read_token\":") + 13, NULL, 10);
    EXPECT(200, "{\"deleted\":2500}", "POST", path(id, "delete"),
           "{\"where\":{\"k\":{\"$ne\":1}}}");
    EXPECT(201, "{}", "POST", path(id, "add"), "{\"ids\":[\"later\"],\"embeddings\":[[1,2]]}");
    (void)snprintf(at_token, sizeof(at_token), "{\"as_of\":%llu}", token);
    for (int by_version = 0; by_version < 2; by_version++) {
        struct http_reply reply;
        begin_export(s, id, by_version ? "{\"as_of\":{\"version\":\"first\"}}" : at_token, &reply);
        if (by_version)
            EXPECT(200, "{\"deleted\":1}", "DELETE", path(id, "versions/first"));
        else
            gateway_transaction_end(s->gateway, token);
        settle(s, id);
        buf_clear(&all);
        assert_true(finish_export(&reply, &all) > 2);
        assert_string_equal((const char *)all.at, (const char *)lines.at);
    }
    EXPECT(412, "", "POST", path(id, "export"), at_token);
    EXPECT(404, "", "POST", path(id, "export"), "{\"as_of\":{\"version\":\"first\"}}");
    EXPECT(200, "{\"id\":\"later\"", "POST", path(id, "export"), "{\"as_of\":null}");
    buf_done(&all);
    buf_done(&lines);
    settle(s, id);
    stack_done(s);
}

/* Each allocation fails in turn: an error or the whole, never a part of a batch. */
static void memory_that_fails_is_an_error(void **state)
{
    (void)state;
    struct stack stack = {0}, *s = &stack;
    char id[UUID_TEXT_SIZE], target[256];
    stack_open(s);
    make_collection(s, "{\"name\":\"memory\"}", id);
    (void)snprintf(target, sizeof(target), "%s", path(id, "upsert?batch_size=2"));
    struct ask ask = {.method = "POST",
                      .target = target,
                      .body = LINES,
                      .headers = {{SLICE("Content-Type"), SLICE("application/x-ndjson")}},
                      .header_count = 1};
    unsigned failures = 0, passes = 0;
    for (uint64_t n = 1; passes < 5 && n < 3000; n++) {
        mem_fail_at(n);
        exchange_raw(s, &ask, &answer);
        mem_fail_at(0);
        passes = answer.status == 200 ? passes + 1 : 0;
        failures += answer.status != 200;
        if (answer.status != 200 && answer.status != 503 && answer.status != 429 &&
            answer.status != 500)
            fail_msg("allocation %d: %d %s", (int)n, answer.status, answer.body);
        exchange(s, &(struct ask){.method = "GET", .target = path(id, "count")}, &answer);
        assert_true(answer.body[0] == '0' || answer.body[0] == '2' || answer.body[0] == '3');
    }
    assert_int_equal(passes, 5);
    assert_true(failures > 3);
    stack_done(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_go_in_and_come_out_the_same),
        cmocka_unit_test(a_fault_names_its_line_and_what_is_written),
        cmocka_unit_test(a_body_may_be_cut_anywhere),
        cmocka_unit_test(a_key_lets_an_import_go_on_where_it_ended),
        cmocka_unit_test(an_export_shows_one_moment),
        cmocka_unit_test(an_export_shows_the_state_that_it_names),
        cmocka_unit_test(memory_that_fails_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
