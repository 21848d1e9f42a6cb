/* SPDX-License-Identifier: Apache-2.0 */
/* `log_requests`: one line of the log for each request that was answered, with figures and without contents (experience.md §4). */
#include "gateway_test.h"

static struct {
    char lines[40][600];
    size_t count;
} told;

static void keep_line(void *user, enum trace_level level, slice line)
{
    (void)user;
    if (level != TRACE_INFO)
        return;
    assert_true(told.count < COUNT_OF(told.lines) && line.len < sizeof(told.lines[0]));
    (void)snprintf(told.lines[told.count++], sizeof(told.lines[0]), "%.*s", SLICE_ARG(line));
}

static void open_told(struct stack *s, enum trace_level level, bool json)
{
    told.count = 0;
    stack_open(s);
    s->trace = (struct trace){.level = level, .json = json, .write = keep_line};
}

/* The value of key=value in the newest line. */
static const char *value(const char *key)
{
    static char texts[4][200];
    static unsigned next;
    char *text = texts[next++ % 4], start[32];
    assert_true(told.count > 0);
    (void)snprintf(start, sizeof(start), " %s=", key);
    const char *at = strstr(told.lines[told.count - 1], start);
    if (!at)
        fail_msg("no %s in %s", key, told.lines[told.count - 1]);
    at += strlen(start);
    (void)snprintf(text, sizeof(texts[0]), "%.*s", (int)strcspn(at, " "), at);
    return text;
}

static void nothing_is_said_unless_it_is_asked_for(void **state)
{
    (void)state;
    static const struct {
        bool wanted;
        enum trace_level level;
        size_t lines;
    } cases[] = {{false, TRACE_DEBUG, 0}, {true, TRACE_WARN, 0}, {true, TRACE_INFO, 2}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct stack stack = {.log_requests = cases[i].wanted}, *s = &stack;
        open_told(s, cases[i].level, false);
        EXPECT(200, "", "GET", "/api/v2/heartbeat");
        EXPECT(404, "", "GET", "/api/v3/heartbeat");
        assert_int_equal(told.count, cases[i].lines);
        stack_done(s);
    }
}

static void each_request_leaves_a_line_with_its_figures(void **state)
{
    (void)state;
    struct stack stack = {.log_requests = true}, *s = &stack;
    static struct answer answer;
    char id[UUID_TEXT_SIZE], size[24];
    open_told(s, TRACE_INFO, false);
    make_collection(s, "{\"name\":\"docs\"}", id);
    assert_int_equal(told.count, 1);
    assert_string_equal(value("in"), "15");
    const char *body =
        "{\"ids\":[\"secret-id\"],\"embeddings\":[[1,2]],\"documents\":[\"secret\"]}";
    struct ask ask = {
        .method = "POST",
        .target = path(id, "add"),
        .body = body,
        .headers = {{SLICE("traceparent"),
                     SLICE("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")}},
        .header_count = 1};
    exchange(s, &ask, &answer);
    assert_int_equal(told.count, 2);
    const char *line = told.lines[1];
    assert_non_null(strstr(line, "Z info http \"request\" method=POST route=/api/v2/tenants/"));
    assert_non_null(strstr(line, "/add status=201 ms=0."));
    (void)snprintf(size, sizeof(size), "%zu", strlen(body));
    assert_string_equal(value("in"), size);
    assert_string_equal(value("out"), "2");
    assert_string_equal(value("tenant"), "default_tenant");
    assert_string_equal(value("key"), "-");
    assert_string_equal(value("request"), "0af7651916cd43dd8448eb211c80319c");
    assert_null(strstr(line, "secret"));
    assert_null(strstr(line, id));
    exchange(s, &ask, &answer); /* word for word, but for the time: it happened again */
    exchange(s, &ask, &answer);
    assert_int_equal(told.count, 4);
    stack_done(s);
}

static void an_error_has_the_id_that_the_client_sees(void **state)
{
    (void)state;
    struct stack stack = {.log_requests = true}, *s = &stack;
    static struct answer answer;
    char header[80];
    open_told(s, TRACE_INFO, false);
    struct ask ask = PLAIN("GET", "/api/v2/tenants/\xc3\xa9%20x/databases/nobody/collections/a");
    exchange(s, &ask, &answer);
    assert_true(answer.status == 404);
    assert_string_equal(value("status"), "404");
    (void)snprintf(header, sizeof(header), "chroma-trace-id: %s\r\n", value("request"));
    assert_non_null(strstr(answer.headers, header));
    assert_non_null(strstr(told.lines[0], "tenant=\"\xc3\xa9 x\""));
    ask = PLAIN("BREW", "/tea?a=1");
    exchange(s, &ask, &answer);
    assert_string_equal(value("route"), "-");
    assert_string_equal(value("method"), "BREW");
    assert_null(strstr(told.lines[1], "tea"));
    assert_string_equal(value("tenant"), "-");
    struct http_handler handler = gateway_handler(s->gateway); /* what the server refuses itself */
    struct http_request nothing = {0};
    struct http_reply reply;
    http_reply_init(&reply, 4096);
    handler.refuse(handler.context, &nothing, 431, "ChromaError", "too large", &reply);
    http_reply_done(&reply);
    assert_string_equal(value("status"), "431");
    assert_string_equal(value("method"), "-");
    stack_done(s);
}

static void lines_of_json_are_json(void **state)
{
    (void)state;
    struct stack stack = {.log_requests = true}, *s = &stack;
    struct arena arena;
    struct json_value line;
    struct json_fault fault;
    open_told(s, TRACE_INFO, true);
    EXPECT(400, "", "GET", "/api/v2/tenants/a%22%ff/databases/db-1/collections/x");
    EXPECT(404, "", "GET", "/api/v2/tenants/a%22/databases/db-1/collections/x");
    arena_init(&arena, NULL, 0);
    for (size_t i = 0; i < 2; i++) {
        OK(json_read(slice_of(told.lines[i]), NULL, &arena, &line, &fault, err));
        assert_true(slice_equal(json_get(&line, SLICE("module"))->string, SLICE("http")));
        assert_true(
            slice_equal(json_get(&line, SLICE("status"))->string, i ? SLICE("404") : SLICE("400")));
        assert_true(
            slice_equal(json_get(&line, SLICE("tenant"))->string, i ? SLICE("a\"") : SLICE("-")));
    }
    arena_done(&arena);
    stack_done(s);
}

static void a_body_in_pieces_leaves_one_line(void **state)
{
    (void)state;
    struct stack stack = {.log_requests = true}, *s = &stack;
    char id[UUID_TEXT_SIZE];
    open_told(s, TRACE_INFO, false);
    make_collection(s, "{\"name\":\"lines\"}", id);
    struct http_handler handler = gateway_handler(s->gateway);
    struct http_header type = {SLICE("Content-Type"), SLICE("application/x-ndjson")};
    static const char *const pieces[] = {"{\"id\":\"a\",\"embedding\":[1,2]}\n{\"id\":\"b\",",
                                         "\"embedding\":[1,2]}\n", ""};
    struct http_request request = {.method = SLICE("POST"),
                                   .target = slice_of(path(id, "add")),
                                   .path = slice_of(path(id, "add")),
                                   .headers = &type,
                                   .header_count = 1,
                                   .peer = SLICE("in-process")};
    struct http_intake *intake = handler.intake(handler.context, &request);
    struct http_reply reply;
    bool complete = false;
    assert_non_null(intake);
    http_reply_init(&reply, 4096);
    for (size_t i = 0; i < COUNT_OF(pieces); i++) {
        char padded[200] = {0};
        memcpy(padded, pieces[i], strlen(pieces[i]));
        request.body = slice_make(padded, strlen(pieces[i]));
        complete = intake->feed(intake, &request, i == 2, NULL, &reply);
        assert_int_equal(told.count, i == 2 ? 2 : 1);
    }
    assert_true(complete);
    intake->free(intake);
    http_reply_done(&reply);
    assert_int_equal(told.count, 2);
    assert_string_equal(value("status"), "201");
    assert_string_equal(value("in"), "58");
    assert_string_equal(value("tenant"), "default_tenant");
    assert_int_equal(strlen(value("request")), 32);
    stack_done(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_said_unless_it_is_asked_for),
        cmocka_unit_test(each_request_leaves_a_line_with_its_figures),
        cmocka_unit_test(an_error_has_the_id_that_the_client_sees),
        cmocka_unit_test(lines_of_json_are_json),
        cmocka_unit_test(a_body_in_pieces_leaves_one_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
