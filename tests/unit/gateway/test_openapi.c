/* SPDX-License-Identifier: Apache-2.0 */
/* /openapi.json describes every route, and nothing else; /docs/ is there. */
#include "gateway_test.h"

#include "gateway/http/exchange.h"

/* The document; its values live in the arena. */
static const struct json_value *fetch(struct stack *s, struct arena *arena)
{
    struct http_handler handler = gateway_handler(s->gateway);
    slice path = SLICE("/openapi.json");
    struct http_request request = {
        .method = SLICE("GET"), .target = path, .path = path, .peer = SLICE("in-process")};
    struct http_reply reply;
    http_reply_init(&reply, BUF_MAX_NONE);
    handler.handle(handler.context, &request, &reply);
    assert_int_equal(reply.status, 200);
    struct json_value *value = arena_alloc(arena, sizeof(*value));
    struct json_fault fault;
    assert_non_null(value);
    och_error err = {0};
    if (json_read(buf_view(&reply.body), NULL, arena, value, &fault, &err) != OCH_OK)
        fail_msg("%s", err.message);
    http_reply_done(&reply);
    return value;
}

static const struct json_value *member(const struct json_value *object, const char *name)
{
    return json_get(object, slice_of(name));
}

static const struct json_value *find(const struct json_value *document, slice reference)
{
    assert_true(slice_starts_with(reference, SLICE("#/")));
    slice rest = slice_from(reference, 2);
    while (document && rest.len > 0) {
        size_t len = 0;
        while (len < rest.len && rest.at[len] != '/')
            len++;
        document = json_get(document, slice_make(rest.at, len));
        rest = slice_from(rest, min_size(len + 1, rest.len));
    }
    return document;
}

/* Depth is bounded: json_read() allows 128. */
static void check_references(const struct json_value *document, const struct json_value *value)
{
    if (value->kind == JSON_ARRAY)
        for (uint32_t i = 0; i < value->count; i++)
            check_references(document, &value->items[i]);
    for (uint32_t i = 0; value->kind == JSON_OBJECT && i < value->count; i++) {
        const struct json_member *one = &value->members[i];
        if (slice_equal(one->name, SLICE("$ref")) && !find(document, one->value.string))
            fail_msg("%.*s is not there", SLICE_ARG(one->value.string));
        check_references(document, &one->value);
    }
}

static void every_reference_leads_somewhere(void **state)
{
    struct arena arena;
    arena_init(&arena, NULL, 0);
    const struct json_value *document = fetch(*state, &arena);
    check_references(document, document);
    arena_done(&arena);
}

/* "/a/{b}/c" and "a/{star}/c" mean one path. */
static bool same_path(slice path, const char *pattern)
{
    size_t at = 1;
    for (; *pattern; pattern++) {
        if (at >= path.len)
            return false;
        if (*pattern != '*') {
            if (path.at[at++] != (uint8_t)*pattern)
                return false;
            continue;
        }
        if (path.at[at] != '{')
            return false;
        while (at < path.len && path.at[at - 1] != '}')
            at++;
    }
    return at == path.len;
}

static const struct json_value *find_operation(const struct json_value *document, size_t route)
{
    const char *method, *pattern;
    char lower[16] = {0};
    route_name(route, &method, &pattern);
    for (size_t i = 0; method[i] && i < 15; i++)
        lower[i] = (char)(method[i] | 0x20);
    const struct json_value *paths = member(document, "paths");
    for (uint32_t i = 0; i < paths->count; i++)
        if (same_path(paths->members[i].name, pattern))
            return member(&paths->members[i].value, lower);
    return NULL;
}

static void every_route_is_described(void **state)
{
    struct arena arena;
    arena_init(&arena, NULL, 0);
    const struct json_value *document = fetch(*state, &arena);
    unsigned missing = 0;
    for (size_t i = 0; i < route_count(); i++) {
        const char *method, *pattern;
        route_name(i, &method, &pattern);
        const struct json_value *operation = find_operation(document, i);
        if (!operation) {
            print_error("%s %s: not described in src/gateway/http/openapi.json\n", method, pattern);
            missing++;
            continue;
        }
        const struct json_value *summary = member(operation, "summary"),
                                *answers = member(operation, "responses"),
                                *id = member(operation, "operationId");
        if (!summary || summary->string.len < 5 || !id || id->string.len == 0 ||
            answers->count < 2 || member(operation, "tags")->items[0].string.len == 0)
            fail_msg("%s %s is not described well", method, pattern);
    }
    assert_int_equal(missing, 0);
    arena_done(&arena);
}

static void every_description_has_a_route(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, NULL, 0);
    struct json_value source;
    struct json_fault fault;
    assert_int_equal(json_read(openapi_embedded(), NULL, &arena, &source, &fault, NULL), OCH_OK);
    const struct json_value *operations = member(&source, "operations");
    for (uint32_t i = 0; i < operations->count; i++) {
        slice name = operations->members[i].name;
        bool found = false;
        for (size_t j = 0; j < route_count() && !found; j++) {
            const char *method, *pattern;
            route_name(j, &method, &pattern);
            found = slice_equal(name, slice_of(arena_printf(&arena, "%s %s", method, pattern)));
        }
        if (!found)
            fail_msg("%.*s is described, but no route", SLICE_ARG(name));
    }
    arena_done(&arena);
}

static void no_parameter_is_unnamed(void **state)
{
    struct arena arena;
    arena_init(&arena, NULL, 0);
    const struct json_value *document = fetch(*state, &arena);
    const struct json_value *paths = member(document, "paths");
    for (uint32_t i = 0; i < paths->count; i++) {
        slice path = paths->members[i].name;
        assert_null(memmem(path.at, path.len, "{unnamed}", 9));
        assert_true(member(&paths->members[i].value, "parameters")->count >= 1);
    }
    arena_done(&arena);
}

static void the_page_is_served_from_here(void **state)
{
    struct stack *s = *state;
    static struct answer answer;
    exchange(s, &(struct ask){.method = "GET", .target = "/docs"}, &answer);
    assert_int_equal(answer.status, 303);
    assert_non_null(strstr(answer.headers, "Location: /docs/\r\n"));
    static const char *const files[] = {"/docs/", "/docs/page.js", "/docs/page.css"};
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        exchange(s, &(struct ask){.method = "GET", .target = files[i]}, &answer);
        assert_int_equal(answer.status, 200);
        assert_non_null(strstr(answer.headers, "Content-Security-Policy: default-src 'none'"));
        assert_null(strstr(answer.body, "http://")); /* nothing from elsewhere */
        assert_null(strstr(answer.body, "https://"));
    }
    EXPECT(404, "No such page", "GET", "/docs/else");
    EXPECT(404, "No such route", "GET", "/docs/page.js/more");
}

static int set_up(void **state)
{
    static struct stack stack;
    stack_open(&stack);
    *state = &stack;
    return 0;
}

static int tear_down(void **state)
{
    stack_done(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_reference_leads_somewhere, set_up, tear_down),
        cmocka_unit_test_setup_teardown(every_route_is_described, set_up, tear_down),
        cmocka_unit_test(every_description_has_a_route),
        cmocka_unit_test_setup_teardown(no_parameter_is_unnamed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_page_is_served_from_here, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
