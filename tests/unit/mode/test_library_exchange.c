/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP without a socket, and the library with too little memory. */
#include "base/mem.h"
#include "library_test.h"

#define DATABASE "/api/v2/tenants/default_tenant/databases/default_database"

static int exchange(och_database *database, const char *method, const char *target,
                    const char *body, och_response **ret_response)
{
    och_header headers[] = {{och_text("content-type"), och_text("application/json")}};
    och_request request = OCH_REQUEST;
    request.method = och_text(method);
    request.target = och_text(target);
    request.body = och_text(body);
    request.headers = headers;
    request.header_count = 1;
    OK(och_database_exchange(database, &request, ret_response, &err));
    return och_response_status(*ret_response);
}

static const char *body_of(och_response *response)
{
    static char text[65536];
    och_bytes body = och_response_body(response);
    assert_true(body.len < sizeof(text));
    if (body.len)
        memcpy(text, body.at, body.len);
    text[body.len] = '\0';
    return text;
}

static och_bytes header_of(och_response *response, const char *name)
{
    const och_header *headers;
    size_t count = och_response_headers(response, &headers);
    for (size_t i = 0; i < count; i++)
        if (headers[i].name.len == strlen(name) &&
            strncasecmp(headers[i].name.at, name, strlen(name)) == 0)
            return headers[i].value;
    return (och_bytes)OCH_NO_BYTES;
}

/* max_payload_size_bytes is for bodies that are held whole. */
static void lines_may_be_of_any_length(void **state)
{
    (void)state;
    och_open_options options = OCH_OPEN_OPTIONS;
    options.settings_yaml = och_text("max_payload_size_bytes: 100000\n");
    options.memory_limit_bytes = 256u << 20;
    och_database *database;
    OK(och_database_open(NULL, &options, &database, &err));
    och_collection *collection = test_create(database, "lines");
    size_t count = 30000, len = 0;
    char *body = malloc(count * 96);
    assert_non_null(body);
    for (size_t i = 0; i < count; i++)
        len += (size_t)snprintf(body + len, 96,
                                "{\"id\":\"line%zu\",\"embedding\":[%zu,1],\"uri\":\"u\"}\n", i, i);
    assert_true(len > 1300000); /* two pieces */
    char target[256];
    och_bytes id = och_collection_id(collection);
    (void)snprintf(target, sizeof(target), DATABASE "/collections/%.*s/add", (int)id.len,
                   (const char *)id.at);
    och_header headers[] = {{och_text("content-type"), och_text("application/x-ndjson")}};
    och_request request = OCH_REQUEST;
    och_response *r;
    request.method = och_text("POST");
    request.target = och_text(target);
    request.body = (och_bytes){body, len};
    request.headers = headers;
    request.header_count = 1;
    OK(och_database_exchange(database, &request, &r, &err));
    assert_int_equal(och_response_status(r), 201);
    assert_non_null(strstr(body_of(r), "{\"inserted\":30000,"));
    och_response_free(r);
    free(body);
    och_collection_free(collection);
    test_close(database);
}

static void the_whole_api_answers_without_a_socket(void **state)
{
    (void)state;
    och_database *database = test_open(NULL);
    och_response *r;
    assert_int_equal(exchange(database, "GET", "/api/v2/heartbeat", NULL, &r), 200);
    assert_non_null(strstr(body_of(r), "nanosecond heartbeat"));
    och_bytes type = header_of(r, "content-type");
    assert_memory_equal(type.at, "application/json", type.len);
    och_response_free(r);
    assert_int_equal(
        exchange(database, "POST", DATABASE "/collections", "{\"name\": \"docs\"}", &r), 200);
    och_response_free(r);

    /* Typed calls and exchanges are two faces of one collection. */
    och_collection_spec spec = OCH_COLLECTION_SPEC;
    och_collection *collection;
    spec.name = och_text("docs");
    OK(och_collection_open(database, &spec, &collection, &err));
    char target[512];
    (void)snprintf(target, sizeof(target), DATABASE "/collections/%s/add",
                   (const char *)och_collection_id(collection).at);
    assert_int_equal(
        exchange(database, "POST", target, "{\"ids\":[\"x\"],\"embeddings\":[[1.0,2.0]]}", &r),
        201);
    och_response_free(r);
    assert_string_equal(test_get(collection, NULL), "x");
    (void)snprintf(target, sizeof(target), DATABASE "/collections/%s/query",
                   (const char *)och_collection_id(collection).at);
    assert_int_equal(exchange(database, "POST", target,
                              "{\"query_embeddings\":[[1.0,2.0]],\"include\":[\"distances\"]}", &r),
                     200);
    assert_non_null(strstr(body_of(r), "\"distances\":[[0.0]]"));
    och_response_free(r);
    assert_int_equal(exchange(database, "GET", DATABASE "/collections?limit=1&offset=1", NULL, &r),
                     200);
    assert_string_equal(body_of(r), "[]");
    och_response_free(r);
    och_collection_free(collection);
    test_close(database);
}

static void errors_of_the_api_are_answers(void **state)
{
    (void)state;
    och_database *database = test_open(NULL);
    och_response *r;
    assert_int_equal(exchange(database, "GET", "/nowhere", NULL, &r), 404);
    assert_true(header_of(r, "chroma-trace-id").len == 32);
    och_response_free(r);
    assert_int_equal(exchange(database, "DELETE", "/api/v2/heartbeat", NULL, &r), 405);
    assert_true(header_of(r, "allow").len > 0);
    och_response_free(r);
    assert_int_equal(exchange(database, "POST", DATABASE "/collections", "{", &r), 400);
    och_response_free(r);
    assert_int_equal(exchange(database, "POST", DATABASE "/collections", "{}", &r), 422);
    och_response_free(r);
    assert_int_equal(exchange(database, "HEAD", "/api/v2/heartbeat", NULL, &r), 200);
    assert_int_equal(och_response_body(r).len, 0);
    och_response_free(r);
    test_close(database);
}

static void a_body_over_the_limit_is_answered_with_413(void **state)
{
    (void)state;
    och_open_options options = OCH_OPEN_OPTIONS;
    options.settings_yaml = och_text("max_payload_size_bytes: 1KiB\n");
    och_database *database;
    OK(och_database_open(NULL, &options, &database, &err));
    char *body = malloc(2000);
    memset(body, ' ', 1999);
    body[1999] = '\0';
    och_response *r;
    assert_int_equal(exchange(database, "POST", DATABASE "/collections", body, &r), 413);
    och_response_free(r);
    free(body);
    test_close(database);
}

static void a_request_that_no_message_could_carry_is_refused(void **state)
{
    (void)state;
    och_database *database = test_open(NULL);
    och_response *r;
    static const char *const methods[] = {NULL, "", "GET /", "G\nT"};
    static const char *const targets[] = {NULL, "", "api", "/a b", "/a\r\nx: y", "/\t"};
    och_request request = OCH_REQUEST;
    request.target = och_text("/");
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        request.method = och_text(methods[i]);
        FAILS(OCH_INVALID, och_database_exchange(database, &request, &r, &err));
    }
    request.method = och_text("GET");
    for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
        request.target = och_text(targets[i]);
        FAILS(OCH_INVALID, och_database_exchange(database, &request, &r, &err));
    }
    request.target = och_text("/");
    request.header_count = 1;
    FAILS(OCH_INVALID, och_database_exchange(database, &request, &r, &err));
    static const char *const names[] = {"", "a b", "a:", NULL};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        och_header header = {och_text(names[i]), och_text("v")};
        request.headers = &header;
        FAILS(OCH_INVALID, och_database_exchange(database, &request, &r, &err));
    }
    och_header injected = {och_text("a"), och_text("v\r\nb: c")};
    request.headers = &injected;
    FAILS(OCH_INVALID, och_database_exchange(database, &request, &r, &err));
    request.header_count = 1000;
    FAILS(OCH_INVALID, och_database_exchange(database, &request, &r, &err));
    request.header_count = 0;
    request.body.len = 5;
    FAILS(OCH_INVALID, och_database_exchange(database, &request, &r, &err));
    FAILS(OCH_INVALID, och_database_exchange(database, NULL, &r, &err));
    FAILS(OCH_INVALID, och_database_exchange(database, &request, NULL, &err));
    FAILS(OCH_INVALID, och_database_exchange(NULL, &request, &r, &err));
    test_close(database);
}

static void an_exchange_can_be_given_up(void **state)
{
    (void)state;
    och_database *database = test_open(NULL);
    och_request request = OCH_REQUEST;
    och_response *r;
    OK(och_cancel_new(&request.cancel, &err));
    och_cancel_fire(request.cancel);
    request.method = och_text("GET");
    request.target = och_text(DATABASE "/collections");
    OK(och_database_exchange(database, &request, &r, &err));
    assert_int_equal(och_response_status(r), 503);
    och_response_free(r);
    och_cancel_free(request.cancel);
    test_close(database);
}

static void a_closed_database_has_no_answer(void **state)
{
    (void)state;
    och_database *database = test_open(NULL);
    och_request request = OCH_REQUEST;
    och_response *r;
    request.method = och_text("GET");
    request.target = och_text("/api/v2/heartbeat");
    OK(och_database_exchange(database, &request, &r, &err));
    OK(och_database_close(database, &err));
    och_response *late;
    FAILS(OCH_CLOSED, och_database_exchange(database, &request, &late, &err));
    och_database_free(database);
    assert_int_equal(och_response_status(r), 200); /* responses are on their own */
    och_response_free(r);
    assert_int_equal(och_response_status(NULL), 0);
    assert_null(och_response_body(NULL).at);
    assert_int_equal(och_response_headers(NULL, NULL), 0);
}

/* ---- no memory ---- */

/* A whole small life; returns OCH_OK or the first code, and leaves nothing behind. */
static och_code live(och_error *mine)
{
    och_database *database = NULL;
    och_collection *collection = NULL;
    och_filter *filter = NULL;
    och_result *result = NULL;
    och_response *response = NULL;
    och_open_options options = OCH_OPEN_OPTIONS;
    options.memory_limit_bytes = 256u << 20;
    och_code code = och_database_open(NULL, &options, &database, mine);
    och_collection_spec spec = OCH_COLLECTION_SPEC;
    spec.name = och_text("docs");
    spec.metadata_json = och_text("{\"a\": 1}");
    if (code == OCH_OK)
        code = och_collection_create(database, &spec, &collection, mine);
    struct test_rows rows;
    och_counts counts = OCH_COUNTS;
    if (code == OCH_OK)
        code = och_collection_upsert(collection, test_records(&rows), &counts, mine);
    if (code == OCH_OK)
        code = och_filter_parse(och_text("{\"n\": {\"$in\": [1, 2]}}"),
                                och_text("{\"$contains\": \"one\"}"), &filter, mine);
    och_select which = OCH_SELECT;
    which.filter = filter;
    which.include = OCH_DOCUMENT | OCH_METADATA | OCH_EXPLAIN;
    if (code == OCH_OK)
        code = och_collection_query(collection, test_vectors, 1, 3, 2, &which, &result, mine);
    och_row row = OCH_ROW;
    bool more;
    if (code == OCH_OK)
        code = och_result_next(result, &row, &more, mine);
    och_request request = OCH_REQUEST;
    request.method = och_text("GET");
    request.target = och_text(DATABASE "/collections");
    if (code == OCH_OK)
        code = och_database_exchange(database, &request, &response, mine);
    if (code == OCH_OK)
        code = och_collection_delete(collection, &which, NULL, mine);
    och_response_free(response);
    och_result_free(result);
    och_filter_free(filter);
    och_collection_free(collection);
    if (code == OCH_OK)
        code = och_database_close(database, mine);
    och_database_free(database);
    return code;
}

static void every_failing_allocation_is_an_error_and_nothing_leaks(void **state)
{
    (void)state;
    och_error mine = OCH_ERROR;
    if (live(&mine) != OCH_OK)
        fail_msg("%s", mine.message);
    uint64_t live_before = mem_count_live(), began = mem_count_allocations();
    assert_int_equal(live(&mine), OCH_OK);
    uint64_t needed = mem_count_allocations() - began;
    assert_true(needed > 100);
    unsigned refused = 0;
    for (uint64_t nth = 1; nth <= needed + 8; nth++) {
        mine = (och_error)OCH_ERROR;
        mem_fail_at(nth);
        och_code code = live(&mine);
        mem_fail_at(0);
        /* Caches and diagnostics may do without. */
        if (code != OCH_OK) {
            refused++;
            if (code != OCH_NO_MEMORY && code != OCH_BUSY && code != OCH_UNAVAILABLE)
                fail_msg("allocation %u: code %d: %s", (unsigned)nth, code, mine.message);
        }
        if (mem_count_live() != live_before)
            fail_msg("allocation %u leaks %d pieces: code %d: %s", (unsigned)nth,
                     (int)(mem_count_live() - live_before), code, mine.message);
    }
    assert_true(refused > 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_whole_api_answers_without_a_socket),
        cmocka_unit_test(lines_may_be_of_any_length),
        cmocka_unit_test(errors_of_the_api_are_answers),
        cmocka_unit_test(a_body_over_the_limit_is_answered_with_413),
        cmocka_unit_test(a_request_that_no_message_could_carry_is_refused),
        cmocka_unit_test(an_exchange_can_be_given_up),
        cmocka_unit_test(a_closed_database_has_no_answer),
        cmocka_unit_test(every_failing_allocation_is_an_error_and_nothing_leaks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
