/* SPDX-License-Identifier: Apache-2.0 */
/* `ochre recall`: against databases in this process, a server, and peers that answer badly. */
#include "admin/recall.h"
#include "library_test.h"
#include "mode/server.h"

#include <math.h>

#define RECORDS   400
#define DIMENSION 8

struct seen { /* what the probe told */
    struct recall_line lines[8];
    char names[8][64];
    size_t count;
};

static void note(void *context, const struct recall_line *line)
{
    struct seen *seen = context;
    assert_true(seen->count < COUNT_OF(seen->lines));
    (void)snprintf(seen->names[seen->count], 64, "%.*s", SLICE_ARG(line->collection));
    seen->lines[seen->count++] = *line;
}

/* A database in this process; what it is asked and what it answers may be tampered with. */
struct peer {
    och_database *database;
    unsigned asked_less; /* n_results of approximate queries is made this, 0: left */
    const char *instead; /* what queries are answered with, NULL: the truth */
    unsigned queries;
};

static och_code exchange(void *context, const char *method, const char *target, slice body,
                         struct arena *arena, int *ret_status, slice *ret_body, och_error *error)
{
    struct peer *peer = context;
    bool is_query = strstr(target, "/query") != NULL;
    char *text = arena_alloc(arena, body.len + 1);
    assert_non_null(text);
    if (body.len)
        memcpy(text, body.at, body.len);
    text[body.len] = '\0';
    peer->queries += is_query;
    char *wish = strstr(text, "\"n_results\":");
    if (is_query && peer->asked_less && !strstr(text, "\"recall\":1")) {
        assert_non_null(wish);
        wish += strlen("\"n_results\":");
        for (unsigned left = peer->asked_less; *wish >= '0' && *wish <= '9'; wish++, left = 0)
            *wish = left ? (char)('0' + left) : ' ';
    }
    if (is_query && peer->instead) {
        *ret_status = 200;
        *ret_body = slice_of(peer->instead);
        return OCH_OK;
    }
    och_header header = {{"Content-Type", 12}, {"application/json", 16}};
    och_request request = OCH_REQUEST;
    och_response *response;
    request.method = och_text(method);
    request.target = och_text(target);
    request.body = (och_bytes){text, body.len};
    request.headers = &header;
    request.header_count = 1;
    TRY(och_database_exchange(peer->database, &request, &response, error));
    och_bytes answer = och_response_body(response);
    *ret_status = och_response_status(response);
    *ret_body = arena_copy(arena, slice_make(answer.at, answer.len));
    och_response_free(response);
    return OCH_OK;
}

static void fill(och_database *database, const char *name, size_t count)
{
    static float vectors[RECORDS * DIMENSION];
    och_collection *collection = test_many(database, name, count, DIMENSION, vectors);
    och_collection_free(collection);
}

struct fixture {
    struct peer peer;
    struct recall_peer handle;
    struct recall_options options;
    struct seen seen;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    f->peer.database = test_open(NULL);
    fill(f->peer.database, "docs", RECORDS);
    fill(f->peer.database, "empty", 0);
    fill(f->peer.database, "pair", 2);
    f->handle = (struct recall_peer){.context = &f->peer, .exchange = exchange};
    f->options = (struct recall_options){.peer = &f->handle, .k = 10, .queries = 20, .seed = 1};
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    test_close(f->peer.database);
    free(f);
    return 0;
}

static void every_collection_with_vectors_gets_a_line(void **state)
{
    struct fixture *f = *state;
    OK(recall_probe(&f->options, note, &f->seen, &err));
    assert_int_equal(f->seen.count, 2);
    assert_string_equal(f->seen.names[0], "docs");
    assert_int_equal(f->seen.lines[0].records, RECORDS);
    assert_int_equal(f->seen.lines[0].dimension, DIMENSION);
    assert_int_equal(f->seen.lines[0].queries, 20);
    assert_true(f->seen.lines[0].recall == 1 && f->seen.lines[0].least == 1);
    assert_string_equal(f->seen.names[1], "pair");
    assert_int_equal(f->seen.lines[1].queries, 2); /* no more rows than there are */
    assert_true(f->seen.lines[1].recall == 1);
}

static void neighbours_that_are_missing_are_missed(void **state)
{
    struct fixture *f = *state;
    f->options.collection = SLICE("docs");
    f->peer.asked_less = 6; /* the row itself and five of its ten neighbours */
    OK(recall_probe(&f->options, note, &f->seen, &err));
    assert_int_equal(f->seen.count, 1);
    assert_true(fabs(f->seen.lines[0].recall - 0.5) < 1e-9);
    assert_true(fabs(f->seen.lines[0].least - 0.5) < 1e-9);
}

static void each_target_is_a_line_and_exact_answers_are_asked_for_once(void **state)
{
    struct fixture *f = *state;
    static const double targets[] = {0.8, 0.95, 1};
    f->options.collection = SLICE("docs");
    f->options.targets = targets;
    f->options.target_count = 3;
    OK(recall_probe(&f->options, note, &f->seen, &err));
    assert_int_equal(f->seen.count, 3);
    assert_true(f->seen.lines[1].target == 0.95);
    assert_int_equal(f->peer.queries, 4 * 20);
}

static void vectors_given_are_asked_instead_of_rows(void **state)
{
    struct fixture *f = *state;
    float vectors[3 * DIMENSION] = {1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 1, 0, 0, 0, 0, 0, 1};
    f->options.collection = SLICE("docs");
    f->options.vectors = vectors;
    f->options.vector_count = 3;
    f->options.dimension = DIMENSION;
    OK(recall_probe(&f->options, note, &f->seen, &err));
    assert_int_equal(f->seen.lines[0].queries, 3);
    assert_true(f->seen.lines[0].recall == 1);
    f->options.dimension = 0; /* bare floats */
    f->options.vector_count = 3 * DIMENSION;
    OK(recall_probe(&f->options, note, &f->seen, &err));
    assert_int_equal(f->seen.lines[1].queries, 3);
    f->options.vector_count = 3 * DIMENSION - 1;
    FAILS(OCH_INVALID, recall_probe(&f->options, note, &f->seen, &err));
    f->options.dimension = DIMENSION + 1;
    f->options.vector_count = 1;
    FAILS(OCH_INVALID, recall_probe(&f->options, note, &f->seen, &err));
}

static void what_is_not_there_is_named(void **state)
{
    struct fixture *f = *state;
    f->options.collection = SLICE("dcos/ \x01");
    FAILS(OCH_NOT_FOUND, recall_probe(&f->options, note, &f->seen, &err));
    SAYS("dcos");
    f->options.collection = SLICE("docs");
    f->options.database = SLICE("nowhere");
    FAILS(OCH_NOT_FOUND, recall_probe(&f->options, note, &f->seen, &err));
    f->options.collection = SLICE_NONE; /* lists are empty there, as in the original */
    OK(recall_probe(&f->options, note, &f->seen, &err));
    assert_int_equal(f->seen.count, 0);
    f->options.database = SLICE_NONE;
    f->options.k = 0;
    FAILS(OCH_INVALID, recall_probe(&f->options, note, &f->seen, &err));
    f->options.k = RECALL_K_MAX + 1;
    FAILS(OCH_INVALID, recall_probe(&f->options, note, &f->seen, &err));
}

static void a_peer_that_answers_badly_is_refused(void **state)
{
    struct fixture *f = *state;
    f->options.collection = SLICE("docs");
    f->peer.instead = "{\"ids\":[[\"a\"]],\"distances\":[[0.5]]}";
    FAILS(OCH_UNSUPPORTED, recall_probe(&f->options, note, &f->seen, &err));
    static const char *const bad[] = {"",
                                      "{",
                                      "[]",
                                      "7",
                                      "{\"ids\":[],\"distances\":[],\"explain\":{}}",
                                      "{\"ids\":[[\"a\"]],\"distances\":[[]],\"explain\":{}}",
                                      "{\"ids\":[\"a\"],\"distances\":[[1]],\"explain\":{}}"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        f->peer.instead = bad[i];
        FAILS(OCH_UNAVAILABLE, recall_probe(&f->options, note, &f->seen, &err));
    }
    /* Odd, but readable: nothing is found, nothing breaks. */
    f->peer.instead = "{\"ids\":[[1,null]],\"distances\":[[null,\"x\"]],"
                      "\"explain\":{\"time_us\":-1,\"lists_probed\":\"many\"}}";
    OK(recall_probe(&f->options, note, &f->seen, &err));
}

static void a_query_may_name_its_recall(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *recall;
        int status;
    } cases[] = {{"1", 200},    {"1.0", 200},  {"0.5", 200},   {"null", 200},
                 {"0.49", 400}, {"1.01", 400}, {"\"1\"", 400}, {"[]", 400}};
    struct arena arena;
    arena_init(&arena, NULL, 0);
    och_collection_spec spec = OCH_COLLECTION_SPEC;
    och_collection *collection;
    spec.name = och_text("docs");
    OK(och_collection_open(f->peer.database, &spec, &collection, &err));
    och_bytes id = och_collection_id(collection);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        int status = 0;
        slice answer;
        const char *target = arena_printf(
            &arena,
            "/api/v2/tenants/default_tenant/databases/default_database/collections/%.*s/query",
            (int)id.len, (const char *)id.at);
        const char *body = arena_printf(
            &arena, "{\"query_embeddings\":[[1,0,0,0,0,0,0,0]],\"recall\":%s}", cases[i].recall);
        OK(exchange(&f->peer, "POST", target, slice_of(body), &arena, &status, &answer, &err));
        assert_int_equal(status, cases[i].status);
    }
    och_collection_free(collection);
    arena_done(&arena);
}

static void a_changed_effort_counts_at_once(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *configuration, *target;
    } cases[] = {{"{\"hnsw\":{\"ef_search\":10}}", "\"recall_target\":0.92"},
                 {"{\"hnsw\":{\"ef_search\":2000}}", "\"recall_target\":1"}};
    struct arena arena;
    arena_init(&arena, NULL, 0);
    och_collection_spec spec = OCH_COLLECTION_SPEC;
    och_collection *collection;
    spec.name = och_text("docs");
    OK(och_collection_open(f->peer.database, &spec, &collection, &err));
    och_bytes id = och_collection_id(collection);
    const char *target = arena_printf(
        &arena, "/api/v2/tenants/default_tenant/databases/default_database/collections/%.*s",
        (int)id.len, (const char *)id.at);
    const char *query = arena_printf(&arena, "%s/query", target);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        int status = 0;
        slice answer;
        const char *body =
            arena_printf(&arena, "{\"new_configuration\":%s}", cases[i].configuration);
        OK(exchange(&f->peer, "PUT", target, slice_of(body), &arena, &status, &answer, &err));
        assert_int_equal(status, 200);
        OK(exchange(&f->peer, "POST", query,
                    SLICE("{\"query_embeddings\":[[1,0,0,0,0,0,0,0]],\"explain\":true}"), &arena,
                    &status, &answer, &err));
        assert_int_equal(status, 200);
        const char *text = arena_printf(&arena, "%.*s", SLICE_ARG(answer));
        if (!strstr(text, cases[i].target))
            fail_msg("%s is not in %s", cases[i].target, text);
    }
    och_collection_free(collection);
    arena_done(&arena);
}

static void a_server_is_probed_as_a_folder_is(void **state)
{
    (void)state;
    const char *path = test_folder();
    och_database *database = test_open(path);
    fill(database, "docs", RECORDS);
    test_close(database);
    struct setting_flag flags[] = {{"path", path}, {"port", "0"}, {"memory-limit", "256MiB"}};
    struct settings_input input = {.flags = flags, .flag_count = COUNT_OF(flags)};
    struct settings settings;
    struct server *server;
    OK(settings_init(&input, &settings, &err));
    struct server_options options = {.settings = &settings};
    OK(server_start(&options, &server, &err));
    struct recall_server to = {.host = "localhost",
                               .port = server_port(server),
                               .key = SLICE("unused"),
                               .timeout_ms = 20000};
    struct recall_peer peer;
    struct seen seen = {0};
    recall_peer_init_server(&peer, &to);
    struct recall_options probing = {.peer = &peer, .k = 5, .queries = 10, .seed = 2};
    OK(recall_probe(&probing, note, &seen, &err));
    assert_int_equal(seen.count, 1);
    assert_true(seen.lines[0].recall == 1);
    OK(server_stop(server, SERVER_DRAIN_MS, &err));
    server_free(server);
    FAILS(OCH_UNAVAILABLE, recall_probe(&probing, note, &seen, &err));
    settings_done(&settings);
    test_remove(path);
}

/* ---- files of vectors ---- */

static void write_file(const char *path, const void *at, size_t len)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(at, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

static size_t make_npy(uint8_t *out, const char *header, size_t floats)
{
    size_t len = strlen(header);
    memcpy(out, "\x93NUMPY\x01\x00", 8);
    out[8] = (uint8_t)len;
    out[9] = (uint8_t)(len >> 8);
    memcpy(out + 10, header, len);
    for (size_t i = 0; i < floats; i++) {
        float number = (float)i;
        memcpy(out + 10 + len + 4 * i, &number, 4);
    }
    return 10 + len + 4 * floats;
}

static void files_of_vectors_are_read_or_refused(void **state)
{
    (void)state;
    char path[100];
    const char *folder = test_folder();
    (void)snprintf(path, sizeof(path), "%s/v.npy", folder);
    uint8_t bytes[1024];
    static const char good[] = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }   \n";
    struct arena arena;
    arena_init(&arena, NULL, 0);
    float *vectors;
    uint32_t count, dimension;
    size_t len = make_npy(bytes, good, 6);
    write_file(path, bytes, len);
    OK(recall_read_vectors(io_posix(), path, &arena, &vectors, &count, &dimension, &err));
    assert_int_equal(count, 2);
    assert_int_equal(dimension, 3);
    assert_true(vectors[5] == 5);
    for (size_t cut = 0; cut < len; cut++) { /* what is left of it may pass for bare floats */
        write_file(path, bytes, cut);
        och_code code =
            recall_read_vectors(io_posix(), path, &arena, &vectors, &count, &dimension, &err);
        assert_true(code == OCH_INVALID || (code == OCH_OK && cut < 10));
    }
    static const char *const bad[] = {
        "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }",
        "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (6,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3, 1), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 3), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1073741824, 1073741824), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 4), }",
        "{}",
        ""};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        write_file(path, bytes, make_npy(bytes, bad[i], 6));
        FAILS(OCH_INVALID,
              recall_read_vectors(io_posix(), path, &arena, &vectors, &count, &dimension, &err));
    }
    float bare[4] = {1, 2, 3, 4};
    write_file(path, bare, sizeof(bare));
    OK(recall_read_vectors(io_posix(), path, &arena, &vectors, &count, &dimension, &err));
    assert_int_equal(count, 4);
    assert_int_equal(dimension, 0);
    bare[2] = NAN;
    write_file(path, bare, sizeof(bare));
    FAILS(OCH_INVALID,
          recall_read_vectors(io_posix(), path, &arena, &vectors, &count, &dimension, &err));
    FAILS(OCH_NOT_FOUND, recall_read_vectors(io_posix(), "/nowhere/v.npy", &arena, &vectors, &count,
                                             &dimension, &err));
    arena_done(&arena);
    test_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_collection_with_vectors_gets_a_line, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(neighbours_that_are_missing_are_missed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(each_target_is_a_line_and_exact_answers_are_asked_for_once,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(vectors_given_are_asked_instead_of_rows, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_not_there_is_named, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_peer_that_answers_badly_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_query_may_name_its_recall, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_changed_effort_counts_at_once, set_up, tear_down),
        cmocka_unit_test(a_server_is_probed_as_a_folder_is),
        cmocka_unit_test(files_of_vectors_are_read_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
