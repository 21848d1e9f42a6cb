/* SPDX-License-Identifier: Apache-2.0 */
/* What requests do: extras (counts, dry_run, clear, explain, Idempotency-Key), deletes, drops, reset, CORS; under failing allocations too. */
#include "gateway_test.h"

static void keyed(struct stack *s, const char *target, const char *key, const char *body,
                  int status, const char *expected)
{
    struct ask ask = {.method = "POST",
                      .target = target,
                      .body = body,
                      .headers = {{SLICE("Idempotency-Key"), slice_of(key)}},
                      .header_count = 1};
    expect(s, &ask, status, expected);
}

/* D17: applied once, whatever happened to the batch meanwhile; another request under the key is 422. */
static void a_request_with_a_key_is_applied_once(void **state)
{
    (void)state;
    struct stack stack = {.tail_rows_max = 100}, *s = &stack;
    char id[UUID_TEXT_SIZE], other[UUID_TEXT_SIZE];
    stack_open(s);
    make_collection(s, "{\"name\":\"keys\"}", id);
    make_collection(s, "{\"name\":\"others\"}", other);
    static const char body[] =
        "{\"ids\":[\"a\",\"b\"],\"embeddings\":[[1,2],[3,4]],\"counts\":true}";
    static const char counts[] = "{\"inserted\":2,\"updated\":0,\"skipped\":0,\"deleted\":0}";
    uuid collection;
    assert_true(uuid_parse(slice_of(id), &collection));
    keyed(s, path(id, "upsert"), "k1", body, 200, counts);
    keyed(s, path(id, "upsert"), "k1", body, 200, counts); /* from the tail */
    EXPECT(200, "{\"deleted\":1}", "POST", path(id, "delete"), "{\"ids\":[\"a\"]}");
    OK(compactor_run(s->compactor, &collection, false, err));
    keyed(s, path(id, "upsert"), "k1", body, 200, counts); /* from the catalogue */
    EXPECT(200, "1", "GET", path(id, "count"));
    stack_close(s);
    stack_open(s);
    keyed(s, path(id, "upsert"), "k1", body, 200, counts); /* after a restart */
    EXPECT(200, "1", "GET", path(id, "count"));
    keyed(s, path(id, "upsert"), "k1", "{\"ids\":[\"c\"],\"embeddings\":[[1,2]]}", 422,
          "this idempotency key was used with another request");
    keyed(s, path(id, "add"), "k1", body, 422, "this idempotency key was used");
    keyed(s, path(other, "upsert"), "k1", body, 200, counts); /* another collection, another key */
    keyed(s, path(id, "upsert"), "k2", body, 200,
          "{\"inserted\":1,\"updated\":1,\"skipped\":0,\"deleted\":0}");
    keyed(s, path(id, "add"), "", body, 201, "{\"inserted\":0,\"updated\":0,\"skipped\":2");
    stack_done(s);
}

/* What came between is not deleted by the repetition, which tells what the first one did. */
static void a_delete_with_a_key_is_applied_once(void **state)
{
    (void)state;
    struct stack stack = {.tail_rows_max = 100}, *s = &stack;
    char id[UUID_TEXT_SIZE];
    uuid collection;
    stack_open(s);
    make_collection(s, "{\"name\":\"keys\"}", id);
    assert_true(uuid_parse(slice_of(id), &collection));
    static const char add[] = "{\"ids\":[\"a\",\"b\"],\"embeddings\":[[1,2],[3,4]],"
                              "\"metadatas\":[{\"k\":1},{\"k\":1}]}";
    static const char by_ids[] = "{\"ids\":[\"a\",\"x\"]}",
                      by_filter[] = "{\"where\":{\"k\":1},\"counts\":true}",
                      nothing[] = "{\"ids\":[\"x\"]}";
    EXPECT(201, "{}", "POST", path(id, "add"), add);
    keyed(s, path(id, "delete"), "d1", by_ids, 200, "{\"deleted\":1}");
    EXPECT(201, "{}", "POST", path(id, "add"), add); /* a is back */
    keyed(s, path(id, "delete"), "d1", by_ids, 200, "{\"deleted\":1}");
    EXPECT(200, "2", "GET", path(id, "count"));
    keyed(s, path(id, "delete"), "d1", by_filter, 422,
          "this idempotency key was used with another request");
    keyed(s, path(id, "upsert"), "d1", by_ids, 422, "");
    keyed(s, path(id, "delete"), "d2", by_filter, 200,
          "{\"inserted\":0,\"updated\":0,\"skipped\":0,\"deleted\":2}");
    EXPECT(201, "{}", "POST", path(id, "add"), add);
    OK(compactor_run(s->compactor, &collection, false, err));
    stack_close(s);
    stack_open(s);
    keyed(s, path(id, "delete"), "d2", by_filter, 200,
          "{\"inserted\":0,\"updated\":0,\"skipped\":0,\"deleted\":2}");
    keyed(s, path(id, "delete"), "d1", by_ids, 200, "{\"deleted\":1}");
    EXPECT(200, "2", "GET", path(id, "count"));
    /* One that found nothing did nothing: the next one is the first that does. */
    keyed(s, path(id, "delete"), "d3", nothing, 200, "{\"deleted\":0}");
    keyed(s, path(id, "delete"), "d3", nothing, 200, "{\"deleted\":0}");
    keyed(s, path(id, "delete"), "d4", "{\"where\":{\"k\":1},\"dry_run\":true}", 200,
          "{\"deleted\":2}");
    EXPECT(200, "2", "GET", path(id, "count"));
    stack_done(s);
}

/* D24: what does not fit is refused with the figure, and the next request that fits is answered. */
static void a_request_over_the_memory_limit_is_refused_with_the_figure(void **state)
{
    (void)state;
    struct stack stack = {.memory_limit = 8 << 20}, *s = &stack;
    char id[UUID_TEXT_SIZE];
    stack_open(s);
    make_collection(s, "{\"name\":\"large\"}", id);
    struct buf body;
    buf_init(&body, BUF_MAX_NONE);
    buf_text(&body, "{\"ids\":[\"a\"");
    for (int i = 0; i < 200000; i++)
        buf_text(&body, ",\"a\"");
    buf_text(&body, "]}");
    buf_byte(&body, 0);
    struct answer answer;
    struct ask ask = {"POST", path(id, "get"), (const char *)body.at, {{{0}, {0}}}, 0, 0};
    exchange(s, &ask, &answer);
    assert_int_equal(answer.status, 429);
    assert_non_null(strstr(answer.body, "memory limit"));
    assert_non_null(strstr(answer.headers, "Retry-After: 1"));
    buf_done(&body);
    EXPECT(200, "{\"ids\":[]", "POST", path(id, "get"), "{\"ids\":[\"a\"]}");
    stack_done(s);
}

static void counts_are_told_when_asked(void **state)
{
    (void)state;
    struct stack stack = {0}, *s = &stack;
    char id[UUID_TEXT_SIZE];
    stack_open(s);
    make_collection(s, "{\"name\":\"counts\"}", id);
    EXPECT(201, "{}", "POST", path(id, "add"), "{\"ids\":[\"a\"],\"embeddings\":[[1,2]]}");
    EXPECT(201, "{\"inserted\":1,\"updated\":0,\"skipped\":2,\"deleted\":0}", "POST",
           path(id, "add"),
           "{\"ids\":[\"a\",\"b\",\"b\"],\"embeddings\":[[1,2],[1,2],[1,2]],\"counts\":true}");
    EXPECT(200, "{\"inserted\":1,\"updated\":2,\"skipped\":0,\"deleted\":0}", "POST",
           path(id, "upsert"),
           "{\"ids\":[\"a\",\"c\",\"c\"],\"embeddings\":[[1,2],[1,2],[1,2]],\"counts\":true}");
    EXPECT(200, "{\"inserted\":0,\"updated\":1,\"skipped\":1,\"deleted\":0}", "POST",
           path(id, "update"),
           "{\"ids\":[\"a\",\"x\"],\"documents\":[\"d\",null],\"counts\":true}");
    EXPECT(200, "{\"inserted\":0,\"updated\":0,\"skipped\":0,\"deleted\":0}", "POST",
           path(id, "update"), "{\"ids\":[],\"counts\":true}");
    EXPECT(200, "{\"inserted\":0,\"updated\":0,\"skipped\":0,\"deleted\":2}", "POST",
           path(id, "delete"), "{\"ids\":[\"a\",\"a\",\"b\",\"x\"],\"counts\":true}");
    EXPECT(200, "1", "GET", path(id, "count"));
    stack_done(s);
}

static void deletes_keep_to_their_table(void **state)
{
    (void)state;
    struct stack stack = {.tail_rows_max = 100}, *s = &stack;
    char id[UUID_TEXT_SIZE];
    uuid collection;
    stack_open(s);
    make_collection(s, "{\"name\":\"deletes\"}", id);
    assert_true(uuid_parse(slice_of(id), &collection));
    EXPECT(201, "{}", "POST", path(id, "add"),
           "{\"ids\":[\"a\",\"b\",\"c\",\"d\",\"e\",\"f\"],\"embeddings\":[[1,2],[1,2],[1,2],[1,2],"
           "[1,2],"
           "[1,2]],\"metadatas\":[{\"k\":1},{\"k\":1},{\"k\":1},{\"k\":2},{\"k\":2},null],"
           "\"documents\":[null,null,null,\"x\",\"y\",\"x\"]}");
    EXPECT(200, "{\"deleted\":0}", "POST", path(id, "delete"), "{}");
    EXPECT(200, "{\"deleted\":0}", "POST", path(id, "delete"),
           "{\"ids\":null,\"where\":null,\"limit\":null}");
    EXPECT(200, "{\"deleted\":0}", "POST", path(id, "delete"), "{\"ids\":[],\"where\":{\"k\":1}}");
    EXPECT(200, "{\"deleted\":3}", "POST", path(id, "delete"),
           "{\"where\":{\"k\":1},\"dry_run\":true}");
    EXPECT(200, "6", "GET", path(id, "count"));
    EXPECT(200, "{\"deleted\":0}", "POST", path(id, "delete"), "{\"where\":{\"k\":1},\"limit\":0}");
    EXPECT(200, "{\"deleted\":2}", "POST", path(id, "delete"), "{\"where\":{\"k\":1},\"limit\":2}");
    EXPECT(200, "{\"ids\":[\"c\",\"d\",\"e\",\"f\"]", "POST", path(id, "get"), "{}");
    OK(compactor_run(s->compactor, &collection, true, err));
    EXPECT(200, "{\"deleted\":1}", "POST", path(id, "delete"),
           "{\"ids\":[\"d\",\"e\",\"nobody\"],\"where\":{\"k\":2},\"where_document\":{\"$"
           "contains\":\"x\"}}");
    EXPECT(200, "{\"deleted\":0}", "POST", path(id, "delete"), "{\"where\":{\"k\":9}}");
    EXPECT(200, "{\"deleted\":1}", "POST", path(id, "delete"),
           "{\"where_document\":{\"$contains\":\"x\"}}");
    EXPECT(200, "{\"ids\":[\"c\",\"e\"]", "POST", path(id, "get"), "{}");
    EXPECT(200, "1", "POST", path(id, "count"), "{\"where\":{\"k\":1}}");
    EXPECT(200, "1", "POST", path(id, "count"), "{\"ids\":[\"c\",\"c\",\"x\"]}");
    EXPECT(200, "0", "POST", path(id, "count"), "{\"ids\":[]}");
    EXPECT(200, "2", "POST", path(id, "count"), "{}");
    EXPECT(200, "1", "POST", path(id, "count"), "{\"where_document\":{\"$contains\":\"y\"}}");
    stack_done(s);
}

static void fields_are_cleared_and_merged(void **state)
{
    (void)state;
    struct stack stack = {0}, *s = &stack;
    char id[UUID_TEXT_SIZE];
    stack_open(s);
    make_collection(s, "{\"name\":\"fields\"}", id);
    EXPECT(201, "{}", "POST", path(id, "add"),
           "{\"ids\":[\"a\"],\"embeddings\":[[1,2]],\"documents\":[\"\"],\"uris\":[\"u\"],"
           "\"metadatas\":[{\"k\":1,\"l\":[]}]}");
    EXPECT(200,
           "{\"ids\":[\"a\"],\"embeddings\":[[1.0,2.0]],\"documents\":[\"\"],\"uris\":[\"u\"],"
           "\"metadatas\":[{\"k\":1,\"l\":[]}],\"include\":[",
           "POST", path(id, "get"),
           "{\"include\":[\"documents\",\"uris\",\"metadatas\",\"embeddings\",\"distances\"]}");
    EXPECT(200, "{}", "POST", path(id, "update"),
           "{\"ids\":[\"a\"],\"clear\":[[\"document\",\"uri\"]],\"metadatas\":[{\"k\":null,\"l\":2}"
           "]}");
    EXPECT(
        200,
        "{\"ids\":[\"a\"],\"embeddings\":null,\"documents\":[null],\"uris\":[null],\"metadatas\":"
        "[{\"l\":2}],\"include\":[\"documents\",\"uris\",\"metadatas\"]}",
        "POST", path(id, "get"), "{\"include\":[\"documents\",\"uris\",\"metadatas\"]}");
    EXPECT(200, "{}", "POST", path(id, "update"),
           "{\"ids\":[\"a\"],\"clear\":[null],\"metadatas\":[{\"l\":null}]}");
    EXPECT(200,
           "{\"ids\":[\"a\"],\"embeddings\":null,\"documents\":[null],\"uris\":null,\"metadatas\":["
           "null],"
           "\"include\":[\"documents\",\"metadatas\"]}",
           "POST", path(id, "get"), "{}");
    stack_done(s);
}

static void queries_show_what_the_table_says(void **state)
{
    (void)state;
    struct stack stack = {0}, *s = &stack;
    char id[UUID_TEXT_SIZE];
    stack_open(s);
    make_collection(s, "{\"name\":\"queries\"}", id);
    EXPECT(200,
           "{\"ids\":[[]],\"embeddings\":null,\"documents\":[[]],\"uris\":null,\"metadatas\":[[]],"
           "\"distances\":[[]]",
           "POST", path(id, "query"), "{\"query_embeddings\":[[1,2,3]]}");
    EXPECT(200, "{\"ids\":[[],[]]", "POST", path(id, "query"), "{\"query_embeddings\":[[],[]]}");
    EXPECT(201, "{}", "POST", path(id, "add"),
           "{\"ids\":[\"a\",\"b\",\"c\"],\"embeddings\":[[1,2],[3,4],[1,2]],\"documents\":[\"x\","
           "null,\"z\"]}");
    EXPECT(200, "{\"ids\":[]", "POST", path(id, "query"), "{\"query_embeddings\":[]}");
    EXPECT(200, "{\"ids\":[[]]", "POST", path(id, "query"),
           "{\"query_embeddings\":[[1,2]],\"n_results\":0}");
    EXPECT(200, "{\"ids\":[[]]", "POST", path(id, "query"),
           "{\"query_embeddings\":[[1,2]],\"ids\":[]}");
    EXPECT(200, "{\"ids\":[[\"b\",\"c\"]]", "POST", path(id, "query"),
           "{\"query_embeddings\":[[3,4]],\"ids\":[\"c\",\"b\",\"nobody\",\"b\"]}");
    EXPECT(
        200,
        "{\"ids\":[[\"a\",\"c\"],[\"b\",\"a\"]],\"embeddings\":null,\"documents\":[[\"x\",\"z\"],"
        "[null,\"x\"]],\"uris\":null,\"metadatas\":[[null,null],[null,null]],\"distances\":[[0.0,"
        "0.0],[0.0,8.0]],\"include\":[\"documents\",\"metadatas\",\"distances\"]}",
        "POST", path(id, "query"),
        "{\"query_embeddings\":[\"AACAPwAAAEA=\",\"AABAQAAAgEA=\"],\"n_results\":2}");
    static struct answer answer;
    struct ask ask =
        PLAIN("POST", path(id, "query"), "{\"query_embeddings\":[[1,2]],\"explain\":true}");
    exchange(s, &ask, &answer);
    assert_non_null(strstr(answer.body, ",\"explain\":{\"version\":0"));
    assert_non_null(strstr(answer.body, "\"survivors\":3"));
    stack_done(s);
}

static void collections_are_made_changed_and_dropped(void **state)
{
    (void)state;
    struct stack stack = {0}, *s = &stack;
    char id[UUID_TEXT_SIZE], again[UUID_TEXT_SIZE], target[256];
    stack_open(s);
    make_collection(s, "{\"name\":\"docs\",\"metadata\":{\"k\":1}}", id);
    EXPECT(409, "Collection [docs] already exists", "POST", BASE "/collections",
           "{\"name\":\"docs\"}");
    make_collection(s, "{\"name\":\"docs\",\"get_or_create\":true,\"metadata\":{\"z\":9}}", again);
    assert_string_equal(id, again);
    EXPECT(400, "Validation error: metadata: Metadata cannot be empty", "POST", BASE "/collections",
           "{\"name\":\"empty\",\"metadata\":{}}");
    EXPECT(400, "Validation error: metadata: Metadata key cannot start with '#' or '$'", "POST",
           BASE "/collections", "{\"name\":\"empty\",\"metadata\":{\"#a\":1}}");
    EXPECT(422, "Failed to deserialize", "POST", BASE "/collections",
           "{\"name\":\"nulls\",\"metadata\":{\"a\":null}}");
    EXPECT(422, "Failed to deserialize", "POST", BASE "/collections",
           "{\"name\":\"nulls\",\"get_or_create\":null}");
    EXPECT(400, "Database [nowhere] does not exist", "POST",
           "/api/v2/tenants/default_tenant/databases/nowhere/collections", "{\"name\":\"docs\"}");
    (void)snprintf(target, sizeof(target), BASE "/collections/%s", id);
    EXPECT(200, "{}", "PUT", target, "{}");
    EXPECT(200, "{}", "PUT", target, "{\"new_name\":\"docs\",\"new_metadata\":{\"k\":null}}");
    EXPECT(400, "Validation error: new_metadata: Metadata cannot be empty", "PUT", target,
           "{\"new_metadata\":{}}");
    make_collection(s, "{\"name\":\"taken\"}", again);
    EXPECT(409, "Collection [taken] already exists", "PUT", target, "{\"new_name\":\"taken\"}");
    EXPECT(200, "{\"id\"", "GET", BASE "/collections/docs");
    EXPECT(404, "Collection [nobody] does not exist in database", "GET",
           BASE "/collections/nobody");
    (void)snprintf(target, sizeof(target), BASE "/collections/by-id/%s", id);
    EXPECT(200, "{\"id\"", "GET", target);
    EXPECT(400, "Validation error: collection_id: Invalid collection ID format", "GET",
           BASE "/collections/by-id/docs");
    EXPECT(400, "Validation error: crn: CRN must be in the format", "GET",
           "/api/v2/collections/a:b");
    EXPECT(400, "Validation error: crn: CRN must be in the format", "GET",
           "/api/v2/collections/a:b:");
    /* Another tenant's path does not reach it (X13). */
    EXPECT(200, "{}", "POST", "/api/v2/tenants", "{\"name\":\"stranger\"}");
    EXPECT(200, "{}", "POST", "/api/v2/tenants/stranger/databases", "{\"name\":\"theirs\"}");
    (void)snprintf(target, sizeof(target),
                   "/api/v2/tenants/stranger/databases/theirs/collections/%s/count", id);
    EXPECT(404, "Collection [", "GET", target);
    EXPECT(200, "{}", "DELETE", BASE "/collections/docs");
    EXPECT(404, "Collection [docs] does not exist", "DELETE", BASE "/collections/docs");
    EXPECT(404, "Collection [", "POST", path(id, "add"),
           "{\"ids\":[\"a\"],\"embeddings\":[[1,2]]}");
    EXPECT(404, "Collection [", "GET", path(id, "count"));
    EXPECT(200, "{}", "DELETE", "/api/v2/tenants/stranger/databases/theirs");
    EXPECT(404, "Database [theirs] not found", "DELETE",
           "/api/v2/tenants/stranger/databases/theirs");
    EXPECT(400, "database name must be at least 3 characters", "GET",
           "/api/v2/tenants/stranger/databases/ab");
    EXPECT(400,
           "Validation error: name: Validation error: length [{\\\"min\\\": Number(3), "
           "\\\"value\\\": String(\\\"ab\\\")}]",
           "POST", "/api/v2/tenants", "{\"name\":\"ab\"}");
    EXPECT(409, "Tenant [stranger] already exists", "POST", "/api/v2/tenants",
           "{\"name\":\"stranger\"}");
    EXPECT(404, "Tenant [nobody] not found", "GET", "/api/v2/tenants/nobody");
    stack_done(s);
}

/* X9: only a stored vector fixes the dimension. */
static void a_dimension_is_fixed_by_what_is_stored(void **state)
{
    (void)state;
    struct stack stack = {0}, *s = &stack;
    char id[UUID_TEXT_SIZE];
    stack_open(s);
    make_collection(s, "{\"name\":\"dimension\"}", id);
    EXPECT(400, "Inconsistent number", "POST", path(id, "add"),
           "{\"ids\":[],\"embeddings\":[[1,2,3]]}");
    EXPECT(200, "{}", "POST", path(id, "update"), "{\"ids\":[\"a\"],\"embeddings\":[[1,2,3]]}");
    EXPECT(201, "{}", "POST", path(id, "add"), "{\"ids\":[],\"embeddings\":[]}");
    EXPECT(201, "{}", "POST", path(id, "add"), "{\"ids\":[\"a\"],\"embeddings\":[[1,2]]}");
    EXPECT(400, "Collection expecting embedding with dimension of 2, got 3", "POST",
           path(id, "update"), "{\"ids\":[\"a\"],\"embeddings\":[[1,2,3]]}");
    EXPECT(200, "{\"deleted\":1}", "POST", path(id, "delete"), "{\"ids\":[\"a\"]}");
    EXPECT(400, "Collection expecting embedding with dimension of 2, got 3", "POST",
           path(id, "add"), "{\"ids\":[\"a\"],\"embeddings\":[[1,2,3]]}");
    stack_done(s);
}

static void a_reset_is_whole_or_not_at_all(void **state)
{
    (void)state;
    struct stack stack = {0}, *s = &stack;
    char id[UUID_TEXT_SIZE];
    stack_open(s);
    EXPECT(403, "Reset is disabled by config", "POST", "/api/v2/reset");
    stack_close(s);
    s->allow_reset = true;
    stack_open(s);
    make_collection(s, "{\"name\":\"wiped\"}", id);
    EXPECT(201, "{}", "POST", path(id, "add"), "{\"ids\":[\"a\"],\"embeddings\":[[1,2]]}");
    /* One that fails leaves everything as it was, and writable. */
    static struct answer answer;
    unsigned failures = 0;
    for (int round = 0; round < 20 && failures < 3; round++) {
        struct ask ask = PLAIN("POST", "/api/v2/reset");
        io_sim_fail_at(s->io, IO_SIM_SYNC, 1, 5, false); /* the catalogue's, nearly always */
        exchange(s, &ask, &answer);
        io_sim_fail_at(s->io, IO_SIM_SYNC, 0, 0, false);
        failures += answer.status != 200;
        if (answer.status == 200)
            make_collection(s, "{\"name\":\"wiped\"}", id);
        EXPECT(200, "{}", "POST", path(id, "upsert"), "{\"ids\":[\"b\"],\"embeddings\":[[1,2]]}");
    }
    assert_true(failures > 0);
    EXPECT(200, "true", "POST", "/api/v2/reset");
    EXPECT(404, "Collection [", "GET", path(id, "count"));
    EXPECT(200, "[]", "GET", BASE "/collections");
    make_collection(s, "{\"name\":\"wiped\"}", id);
    EXPECT(200, "0", "GET", path(id, "count"));
    stack_done(s);
}

static void origins_are_echoed_as_configured(void **state)
{
    (void)state;
    static const slice listed[] = {{(const uint8_t *)"http://a.example", 16}},
                       any[] = {{(const uint8_t *)"*", 1}};
    static const struct {
        const slice *origins;
        const char *origin, *expected; /* NULL: no such header */
    } cases[] = {
        {NULL, "http://a.example", NULL},
        {listed, "http://a.example", "Access-Control-Allow-Origin: http://a.example\r\n"},
        {listed, "http://b.example", NULL},
        {any, "http://b.example", "Access-Control-Allow-Origin: *\r\n"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        (void)state;
        struct stack stack = {.cors_origins = cases[i].origins,
                              .cors_origin_count = cases[i].origins ? 1 : 0},
                     *s = &stack;
        static struct answer answer;
        stack_open(s);
        static const char *const methods[] = {"GET", "OPTIONS"};
        for (size_t m = 0; m < 2; m++) {
            struct ask ask = {.method = methods[m],
                              .target = m ? "/any/path" : "/api/v2/heartbeat",
                              .headers = {{SLICE("Origin"), slice_of(cases[i].origin)}},
                              .header_count = 1};
            exchange(s, &ask, &answer);
            assert_int_equal(answer.status, cases[i].origins || !m ? 200 : 404);
            if (cases[i].expected)
                assert_non_null(strstr(answer.headers, cases[i].expected));
            else
                assert_null(strstr(answer.headers, "Access-Control-Allow-Origin"));
            assert_int_equal(strstr(answer.headers, "Vary: origin") != NULL,
                             cases[i].origins != NULL);
            assert_int_equal(strstr(answer.headers, "Access-Control-Allow-Methods: *") != NULL,
                             cases[i].origins && m);
        }
        stack_done(s);
    }
}

/* Whatever allocation fails, the answer is whole or an error, nothing leaks and the database goes on. */
static void each_allocation_of_a_request_may_fail(void **state)
{
    (void)state;
    struct stack stack = {.tail_rows_max = 100}, *s = &stack;
    static struct answer answer;
    char id[UUID_TEXT_SIZE];
    uuid collection;
    stack_open(s);
    make_collection(s, "{\"name\":\"memory\"}", id);
    assert_true(uuid_parse(slice_of(id), &collection));
    EXPECT(201, "{}", "POST", path(id, "add"),
           "{\"ids\":[\"a\",\"b\"],\"embeddings\":[[1,2],[3,4]],\"documents\":[\"x\",\"y\"],"
           "\"metadatas\":[{\"k\":1},{\"k\":2}]}");
    OK(compactor_run(s->compactor, &collection, true, err));
    EXPECT(200, "{}", "POST", path(id, "update"), "{\"ids\":[\"b\"],\"metadatas\":[{\"k\":3}]}");
    static const struct {
        const char *operation, *body;
    } requests[] = {
        {"get", "{\"where\":{\"k\":{\"$gt\":0}},\"where_document\":{\"$regex\":\"x|y\"},"
                "\"explain\":true}"},
        {"get", "{\"ids\":[\"b\",\"a\"],\"include\":[\"embeddings\",\"uris\"]}"},
        {"query",
         "{\"query_embeddings\":[\"AACAPwAAAEA=\"],\"where\":{\"$or\":[{\"k\":1},{\"k\":3}]}}"},
        {"count", "{\"where\":{\"k\":1}}"},
        {"upsert",
         "{\"ids\":[\"c\"],\"embeddings\":[[5,6]],\"metadatas\":[{\"z\":[1,2]}],\"counts\":true}"},
        {"update", "{\"where\":{\"k\":{\"$gt\":0}},\"set\":{\"metadata\":{\"k\":3,\"y\":[\"p\"]},"
                   "\"document\":\"x\",\"clear\":[\"uri\"],\"ttl_seconds\":1000}}"},
        {"export", "{\"where\":{\"k\":{\"$gt\":0}}}"},
        {"warm", "{}"},
        {"delete", "{\"where\":{\"z\":{\"$contains\":1}}}"},
    };
    for (size_t i = 0; i < COUNT_OF(requests); i++) {
        unsigned passes = 0, failures = 0;
        struct ask ask = PLAIN("POST", path(id, requests[i].operation), requests[i].body);
        char target[256];
        (void)snprintf(target, sizeof(target), "%s", ask.target);
        ask.target = target;
        for (uint64_t n = 1; passes < 5 && n < 3000; n++) {
            struct http_handler handler = gateway_handler(s->gateway);
            struct http_request request = {.method = slice_of(ask.method),
                                           .target = slice_of(target),
                                           .path = slice_of(target),
                                           .body = slice_of(ask.body)};
            char body[512] = {0};
            memcpy(body, ask.body, strlen(ask.body));
            request.body.at = (const uint8_t *)body;
            struct http_reply reply;
            http_reply_init(&reply, 1 << 20);
            mem_fail_at(n);
            handler.handle(handler.context, &request, &reply);
            mem_fail_at(0);
            bool ok = reply.status >= 200 && reply.status < 300 && !reply.body.failed;
            passes = ok ? passes + 1 : 0;
            failures += !ok;
            if (!ok && reply.status < 400)
                fail_msg("allocation %d of %s: %d", (int)n, ask.body, reply.status);
            http_reply_done(&reply);
            exchange(s, &ask, &answer);
            assert_int_equal(answer.status, 200);
        }
        assert_true(passes >= 5 && failures > 0);
    }
    stack_done(s);
}

struct racer {
    struct stack *stack;
    int wrong;
};

static void create_and_drop(void *arg)
{
    struct racer *racer = arg;
    struct answer *answer = malloc(sizeof(*answer));
    assert_non_null(answer);
    for (int i = 0; i < 300; i++) {
        struct ask create = {.method = "POST",
                             .target = BASE "/collections",
                             .body = "{\"name\":\"race\",\"get_or_create\":true}"};
        exchange_raw(racer->stack, &create, answer);
        racer->wrong += answer->status != 200;
        struct ask drop = {.method = "DELETE", .target = BASE "/collections/race"};
        exchange_raw(racer->stack, &drop, answer);
        racer->wrong += answer->status != 200 && answer->status != 404;
    }
    free(answer);
}

/* A collection that goes between being found and being shown is shown as it was. */
static void creating_never_fails_beside_drops(void **state)
{
    (void)state;
    struct stack stack = {0}, *s = &stack;
    struct racer racers[4];
    struct thread threads[4] = {0};
    stack_open(s);
    for (size_t i = 0; i < COUNT_OF(threads); i++) {
        racers[i] = (struct racer){.stack = s};
        assert_int_equal(
            thread_start(&threads[i], "racer", 1u << 20, create_and_drop, &racers[i], NULL),
            OCH_OK);
    }
    for (size_t i = 0; i < COUNT_OF(threads); i++) {
        thread_join(&threads[i]);
        assert_int_equal(racers[i].wrong, 0);
    }
    stack_done(s);
}

/* `unit` so often, between head and tail; the caller frees it. */
static char *repeated(const char *head, const char *unit, size_t count, const char *tail)
{
    CLEANUP(buf_cleanup) struct buf out;
    buf_init(&out, BUF_MAX_NONE);
    buf_text(&out, head);
    for (size_t i = 0; i < count; i++)
        buf_printf(&out, "%s%s", i ? "," : "", unit);
    buf_text(&out, tail);
    buf_byte(&out, 0);
    char *text = strdup((const char *)out.at);
    assert_non_null(text);
    return text;
}

static void refused_as_quota(struct stack *s, const char *id, const char *operation, char *body,
                             const char *message, const char *where)
{
    static struct answer answer;
    struct ask ask = {.method = "POST", .target = path(id, operation), .body = body};
    exchange(s, &ask, &answer);
    const char *told = strstr(answer.body, "\"message\":\"Quota exceeded: ");
    if (answer.status != 422 || !told || !strstr(told, message) || !strstr(told, where) ||
        strstr(told, "another model"))
        fail_msg("%s: %d %s", operation, answer.status, answer.body);
    free(body);
}

/* Clients know by the message's beginning that it is a limit. */
static void limits_of_ours_are_told_as_such(void **state)
{
    (void)state;
    struct stack stack = {0}, *s = &stack;
    char id[UUID_TEXT_SIZE];
    stack_open(s);
    make_collection(s, "{\"name\":\"limits\"}", id);
    refused_as_quota(s, id, "add",
                     repeated("{\"ids\":[\"a\"],\"embeddings\":[[", "1", 65536, "]]}"),
                     "embeddings of dimension 65536, at most 65535", "");
    refused_as_quota(s, id, "query", repeated("{\"query_embeddings\":[[", "1", 65536, "]]}"),
                     "embeddings of dimension 65536, at most 65535", "");
    refused_as_quota(s, id, "search", repeated("{\"searches\":[", "{}", 1001, "]}"),
                     "searches: 1001 payloads, at most 1000", "\"path\":\"searches\"");
    refused_as_quota(s, id, "search",
                     repeated("{\"searches\":[{},{\"select\":{\"keys\":[", "\"a\"", 1001, "]}}]}"),
                     "1001 keys, at most 1000", "\"path\":\"searches[1].select.keys\"");
    stack_done(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_with_a_key_is_applied_once),
        cmocka_unit_test(a_delete_with_a_key_is_applied_once),
        cmocka_unit_test(a_request_over_the_memory_limit_is_refused_with_the_figure),
        cmocka_unit_test(counts_are_told_when_asked),
        cmocka_unit_test(deletes_keep_to_their_table),
        cmocka_unit_test(limits_of_ours_are_told_as_such),
        cmocka_unit_test(fields_are_cleared_and_merged),
        cmocka_unit_test(queries_show_what_the_table_says),
        cmocka_unit_test(collections_are_made_changed_and_dropped),
        cmocka_unit_test(creating_never_fails_beside_drops),
        cmocka_unit_test(a_dimension_is_fixed_by_what_is_stored),
        cmocka_unit_test(a_reset_is_whole_or_not_at_all),
        cmocka_unit_test(origins_are_echoed_as_configured),
        cmocka_unit_test(each_allocation_of_a_request_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
