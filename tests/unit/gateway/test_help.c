/* SPDX-License-Identifier: Apache-2.0 */
/* Errors explain themselves: a page for each code, the place and the way out in the body, a count of each (experience.md §3). */
#include "gateway_test.h"

#include "base/error_page.h"

static void ask_as(struct stack *s, const char *target, const char *accept, struct answer *ret)
{
    struct ask ask = {.method = "GET", .target = target};
    if (accept) {
        ask.headers[0] = (struct http_header){SLICE("Accept"), slice_of(accept)};
        ask.header_count = 1;
    }
    exchange(s, &ask, ret);
}

static void has_page(struct stack *s, const char *code, int status)
{
    static struct answer answer;
    char target[128], needle[16];
    (void)snprintf(target, sizeof(target), "/help/errors/%s", code);
    ask_as(s, target, NULL, &answer);
    if (answer.status != 200)
        fail_msg("no page for the code %s", code);
    (void)snprintf(needle, sizeof(needle), "%d", status);
    if (status && !strstr(error_page_at(error_page_find(slice_of(code)))->statuses, needle))
        fail_msg("the page of %s does not say %d", code, status);
}

static void every_code_has_a_page(void **state)
{
    struct stack *s = *state;
    size_t named = 0;
    for (int code = OCH_INVALID; strcmp(error_code_name((och_code)code), "unknown") != 0; code++) {
        has_page(s, error_code_name((och_code)code), 0);
        named++;
    }
    assert_true(named >= 23);
    for (int status = 400; status < 600; status++) {
        if (strcmp(http_reason(status), "Unknown") != 0)
            has_page(s, http_error_code(status), 0);
    }
    static const char *const ours[] = {"no_route", "method_not_allowed", "v1_gone", "content_type"};
    for (size_t i = 0; i < COUNT_OF(ours); i++)
        has_page(s, ours[i], 0);
}

static void every_page_is_complete(void **state)
{
    (void)state;
    for (size_t i = 0; i < error_page_count(); i++) {
        const struct error_page *page = error_page_at(i);
        const char *texts[] = {page->title, page->meaning, page->causes, page->remedy, page->retry};
        for (size_t j = 0; j < COUNT_OF(texts); j++) {
            assert_non_null(texts[j]);
            if (strlen(texts[j]) < 3 || strchr(texts[j], '!') || strstr(texts[j], "lease "))
                fail_msg("%s: \"%s\"", page->code, texts[j]);
        }
        assert_int_equal(error_page_find(slice_of(page->code)), i);
    }
}

static void a_page_comes_in_the_form_that_is_asked_for(void **state)
{
    struct stack *s = *state;
    static struct answer answer;
    ask_as(s, "/help/errors/busy", "text/html,application/xhtml+xml,*/*;q=0.8", &answer);
    assert_non_null(strstr(answer.body, "<!doctype html>"));
    assert_null(strstr(answer.body, "<script"));
    assert_non_null(strstr(answer.headers, "default-src 'none'"));
    ask_as(s, "/help/errors/busy", "application/json", &answer);
    assert_non_null(strstr(answer.body, "{\"code\":\"busy\",\"statuses\":[429]"));
    ask_as(s, "/help/errors/busy", "*/*", &answer);
    assert_non_null(strstr(answer.body, "busy: Refused for now\n"));
    ask_as(s, "/help/errors", "application/json", &answer);
    assert_non_null(strstr(answer.body, "\"help\":\"/help/errors/in_use\""));
    ask_as(s, "/help/errors", "text/html", &answer);
    assert_non_null(strstr(answer.body, "<a href=\"errors/in_use\">"));
    EXPECT(404, "No error has the code \\\"nosuch\\\".", "GET", "/help/errors/nosuch");
    EXPECT(404, "No such route", "GET", "/help/");
    EXPECT(405, "This path does not take POST", "POST", "/help/errors");
}

static void the_root_says_what_there_is(void **state)
{
    struct stack *s = *state;
    static struct answer answer;
    const char *doors[] = {"/docs/", "/openapi.json", "/api/v2/heartbeat", "/help/errors"};
    const char *forms[] = {NULL, "text/html", "text/plain"};
    for (size_t i = 0; i < COUNT_OF(forms); i++) {
        ask_as(s, "/", forms[i], &answer);
        assert_int_equal(answer.status, 200);
        for (size_t j = 0; j < COUNT_OF(doors); j++)
            assert_non_null(strstr(answer.body, doors[j]));
    }
    EXPECT(404, "No such route: GET //.", "GET", "//");
}

/* ---- place and way out ---- */

/* The answer to an error holds `member` with this value; NULL: it does not have it. */
static void says(struct stack *s, const struct ask *ask, const char *member, const char *value)
{
    static struct answer answer;
    exchange(s, ask, &answer);
    struct arena arena;
    struct json_value body;
    struct json_fault fault;
    arena_init(&arena, NULL, 0);
    assert_int_equal(json_read(slice_of(answer.body), NULL, &arena, &body, &fault, NULL), OCH_OK);
    const struct json_value *found = json_get(&body, slice_of(member));
    const char *text = found ? arena_printf(&arena, "%.*s", SLICE_ARG(found->string)) : NULL;
    if (answer.status < 400 || (text != NULL) != (value != NULL) ||
        (value && strcmp(text, value) != 0))
        fail_msg("%s %s\n  expected %s: %s\n  got %d %s", ask->target, ask->body, member,
                 value ? value : "(none)", answer.status, answer.body);
    const struct json_value *message = json_get(&body, SLICE("message"));
    if (strcmp(member, "hint") == 0 && text) /* who sees only the message sees the hint */
        assert_non_null(strstr(arena_printf(&arena, "%.*s", SLICE_ARG(message->string)), text));
    arena_done(&arena);
}

#define SAYS(member_, value_, ...)                \
    do {                                          \
        struct ask says_ask = PLAIN(__VA_ARGS__); \
        says(s, &says_ask, (member_), (value_));  \
    } while (0)

static const char *docs_route(const char *id, const char *rest)
{
    static char target[256];
    (void)snprintf(target, sizeof(target), BASE "/collections/%s/%s", id, rest);
    return target;
}

static const char *collection_route(const char *id)
{
    static char target[256];
    (void)snprintf(target, sizeof(target), BASE "/collections/%s", id);
    return target;
}

static void an_error_names_its_place(void **state)
{
    struct stack *s = *state;
    char id[UUID_TEXT_SIZE];
    make_collection(s, "{\"name\":\"docs\"}", id);
    EXPECT(201, "{}", "POST", docs_route(id, "add"), "{\"ids\":[\"a\"],\"embeddings\":[[1,2]]}");
    const struct {
        const char *route, *body, *path;
    } cases[] = {
        {"get", "{\"where\":{\"$and\":[{\"a\":1},{\"price\":{\"$gt\":\"12\"}}]}}",
         "where.$and[1].price"},
        {"get", "{\"where_document\":{\"$contains\":5}}", "where_document.$contains"},
        {"get", "{\"where\":5}", "where"},
        {"get", "{\"limit\":-1}", "limit"},
        {"get", "{\"ids\":[\"a\",5]}", "ids[1]"},
        {"get", "{\"order_by\":5}", "order_by"},
        {"query", "{}", "query_embeddings"},
        {"query", "{\"query_embeddings\":[[1,2,3]]}", "query_embeddings[0]"},
        {"query", "{\"query_embeddings\":[[1,2],[1]]}", "query_embeddings[1]"},
        {"query", "{\"query_embeddings\":[[1,2]],\"recall\":7}", "recall"},
        {"add", "{\"ids\":[\"b\",\"c\"],\"embeddings\":[[1,2],[1]]}", "embeddings[1]"},
        {"add", "{\"ids\":[\"b\"],\"embeddings\":[[1,2,3]]}", "embeddings[0]"},
        {"add", "{\"ids\":[\"b\",\"\"],\"embeddings\":[[1,2],[3,4]]}", "ids[1]"},
        {"add", "{\"ids\":[\"b\"],\"embeddings\":[\"AAAA!\"]}", "embeddings[0]"},
        {"add",
         "{\"ids\":[\"b\",\"c\"],\"embeddings\":[[1,2],[3,4]],\"metadatas\":[null,{\"#x\":1}]}",
         "metadatas[1]"},
        {"search", "{\"searches\":[{\"filter\":{\"a\":{\"$gt\":[]}}}]}", "searches[0].filter"},
        {"upsert", "{\"ids\":[\"b\"],\"ids\":[\"c\"]}", "ids"},
        {"delete", "{\"wher\":{}}", "wher"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        SAYS("path", cases[i].path, "POST", docs_route(id, cases[i].route), cases[i].body);
    SAYS("path", "configuration.hnsw.max_neighbors", "POST", BASE "/collections",
         "{\"name\":\"more\",\"configuration\":{\"hnsw\":{\"max_neighbors\":1}}}");
    SAYS(
        "path", "schema.keys.#embedding.float_list.vector_index.config.hnsw.ef_search", "POST",
        BASE "/collections",
        "{\"name\":\"more\",\"schema\":{\"defaults\":{},\"keys\":{\"#embedding\":{\"#float_list\":{"
        "\"$vector_index\":{\"enabled\":true,\"config\":{\"hnsw\":{\"ef_search\":0}}}}}}}}");
    SAYS("path", "schema.defaults.float_list.vector_index.config.spann.write_nprobe", "POST",
         BASE "/collections",
         "{\"name\":\"more\",\"schema\":{\"keys\":{},\"defaults\":{\"float_list\":{"
         "\"vector_index\":{\"enabled\":false,\"config\":{\"spann\":{\"write_nprobe\":65}}}}}}}");
    SAYS("path", "new_configuration.hnsw.ef_search", "PUT", collection_route(id),
         "{\"new_configuration\":{\"hnsw\":{\"ef_search\":70000}}}");
    SAYS("message",
         "Failed to deserialize the JSON body into the target type: query_embeddings: data did not "
         "match any variant of untagged enum EmbeddingsPayload: element 1[2] is null; write arrays "
         "of numbers, or base64 strings, not both at line 1 column 28",
         "POST", docs_route(id, "query"), "{\"query_embeddings\":[[1,2],[3,4,null]]}");
    SAYS("path", NULL, "POST", docs_route(id, "get"), "{");
    SAYS("path", NULL, "GET", BASE "/collections/docx");
}

static void an_error_names_a_way_out(void **state)
{
    struct stack *s = *state;
    char id[UUID_TEXT_SIZE];
    make_collection(s, "{\"name\":\"docs\"}", id);
    EXPECT(201, "{}", "POST", docs_route(id, "add"), "{\"ids\":[\"a\"],\"embeddings\":[[1,2]]}");
    SAYS("hint", "Write {\"price\": {\"$gt\": 12}}.", "POST", docs_route(id, "get"),
         "{\"where\":{\"price\":{\"$gt\":\"12\"}}}");
    SAYS("hint", "One more is `$bm25`.", "POST", docs_route(id, "search"),
         "{\"searches\":[{\"rank\":{\"$bad\":1}}]}");
    SAYS("hint", "Did you mean \"docs\"?", "GET", BASE "/collections/dcos");
    SAYS("hint", NULL, "GET", BASE "/collections/something-else");
    EXPECT(404,
           "Collection [dcos] does not exist in database \\\"default_database\\\". Did you mean "
           "\\\"docs\\\"?",
           "DELETE", BASE "/collections/dcos");
    EXPECT(400,
           "Collection expecting embedding with dimension of 2, got 3: record 0 (\\\"doc-17\\\"). "
           "Collection \\\"docs\\\" was filled by another model.",
           "POST", docs_route(id, "add"), "{\"ids\":[\"doc-17\"],\"embeddings\":[[1,2,3]]}");
    struct ask large = PLAIN("POST", docs_route(id, "add"));
    large.body_size_refused = 52428800;
    says(s, &large, "hint", "Send fewer records per call.");
    expect(s, &large, 413,
           "Failed to buffer the request body: length limit exceeded: 52,428,800 bytes, limit ");
}

static void a_body_that_is_cut_or_of_another_type_says_so(void **state)
{
    struct stack *s = *state;
    SAYS("hint", "The body is empty: send a JSON object, if only {}.", "POST", BASE "/collections",
         "");
    SAYS("hint",
         "The body ends there, after 1 byte: send all of it, and as Content-Length its bytes, not "
         "characters.",
         "POST", BASE "/collections", "{");
    static const char whole[] = "{\"name\":\"docs\",\"get_or_create\":true}";
    char part[sizeof(whole)];
    for (size_t len = 1; len < sizeof(whole) - 1; len++) {
        char hint[128];
        (void)snprintf(part, len + 1, "%s", whole);
        (void)snprintf(hint, sizeof(hint),
                       "The body ends there, after %zu byte%s: send all of it, and as "
                       "Content-Length its bytes, not characters.",
                       len, len == 1 ? "" : "s");
        SAYS("hint", hint, "POST", BASE "/collections", part);
    }
    EXPECT(400,
           "Failed to parse the request body as JSON: EOF while parsing a string at line 1 column "
           "12. The body ends",
           "POST", BASE "/collections", "{\"name\":\"doc");
    SAYS("hint", NULL, "POST", BASE "/collections", "{\"name\":}"); /* wrong, not cut */

    struct ask form = PLAIN("POST", BASE "/collections", whole);
    form.headers[0] =
        (struct http_header){SLICE("Content-Type"), SLICE("text/plain ; charset=utf-8")};
    form.header_count = 1;
    says(s, &form, "hint",
         "Send it instead of `text/plain`, with curl by -H 'Content-Type: application/json'.");
    says(s, &form, "code", "content_type");
    expect(s, &form, 415, "Expected request with `Content-Type: application/json`. Send it");
}

static void errors_are_counted_by_code(void **state)
{
    struct stack *s = *state;
    static struct answer answer;
    EXPECT(404, "No such route", "GET", "/nothing");
    EXPECT(404, "No such route", "GET", "/nothing/either");
    EXPECT(405, "This path", "PUT", "/");
    ask_as(s, "/metrics", NULL, &answer);
    assert_non_null(strstr(answer.body, "ochre_errors_total{code=\"no_route\"} 2\n"));
    assert_non_null(strstr(answer.body, "ochre_errors_total{code=\"method_not_allowed\"} 1\n"));
    assert_null(strstr(answer.body, "ochre_errors_total{code=\"corrupt\"}"));
}

static void what_the_server_refuses_looks_like_other_errors(void **state)
{
    struct stack *s = *state;
    struct http_handler handler = gateway_handler(s->gateway);
    struct http_request nothing = {0};
    struct http_reply reply;
    http_reply_init(&reply, 4096);
    handler.refuse(handler.context, &nothing, 431, "ChromaError", "too large", &reply);
    assert_int_equal(reply.status, 431);
    buf_byte(&reply.body, 0);
    assert_string_equal(reply.body.at,
                        "{\"error\":\"ChromaError\",\"message\":\"too large\",\"code\":\"head_too_"
                        "large\",\"help\":\"/help/errors/head_too_large\"}");
    http_reply_done(&reply);
}

static int open_stack(void **state)
{
    static struct stack stack;
    stack = (struct stack){0};
    stack_open(&stack);
    *state = &stack;
    return 0;
}

static int close_stack(void **state)
{
    stack_done(*state);
    return 0;
}

#define STACK_TEST(test_) cmocka_unit_test_setup_teardown(test_, open_stack, close_stack)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STACK_TEST(every_code_has_a_page),
        STACK_TEST(every_page_is_complete),
        STACK_TEST(a_page_comes_in_the_form_that_is_asked_for),
        STACK_TEST(the_root_says_what_there_is),
        STACK_TEST(an_error_names_its_place),
        STACK_TEST(an_error_names_a_way_out),
        STACK_TEST(a_body_that_is_cut_or_of_another_type_says_so),
        STACK_TEST(errors_are_counted_by_code),
        STACK_TEST(what_the_server_refuses_looks_like_other_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
