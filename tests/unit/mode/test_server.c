/* SPDX-License-Identifier: Apache-2.0 */
/* The single-node server as a whole: from settings to answers, and down again in time. */
#include "library_test.h"
#include "mode/server.h"
#include "net/http.h"

#include <pthread.h>

struct fixture {
    char path[64];
    struct settings settings;
    struct server *server;
};

static och_code read_settings(struct fixture *f, const char *yaml)
{
    struct setting_flag flags[] = {
        {"path", f->path}, {"port", "0"}, {"memory-limit", "256MiB"}, {"workers", "8"}};
    struct settings_input input = {.flags = flags,
                                   .flag_count = COUNT_OF(flags),
                                   .yaml_text = yaml ? slice_of(yaml) : SLICE_NONE};
    return settings_init(&input, &f->settings, &err);
}

static och_code start(struct fixture *f, const char *yaml)
{
    OK(read_settings(f, yaml));
    struct server_options options = {.settings = &f->settings};
    och_code code = server_start(&options, &f->server, &err);
    if (code != OCH_OK)
        settings_done(&f->settings);
    return code;
}

static uint64_t stop(struct fixture *f)
{
    uint64_t began = clock_mono_ns(clock_system());
    OK(server_stop(f->server, SERVER_DRAIN_MS, &err));
    uint64_t took = clock_mono_ns(clock_system()) - began;
    server_free(f->server);
    settings_done(&f->settings);
    return took / 1000000;
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    (void)snprintf(f->path, sizeof(f->path), "%s", test_folder());
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    test_remove(f->path);
    free(f);
    return 0;
}

static int fetch(struct fixture *f, const char *method, const char *target, const char *body)
{
    struct arena arena;
    struct http_answer answer;
    struct http_header headers[] = {{SLICE("content-type"), SLICE("application/json")}};
    arena_init(&arena, NULL, 0);
    OK(http_fetch("localhost", server_port(f->server), method, target, headers, 1, slice_of(body),
                  20000, &arena, &answer, &err));
    arena_done(&arena);
    return answer.status;
}

static void it_answers_and_stops_within_a_second(void **state)
{
    struct fixture *f = *state;
    OK(start(f, NULL));
    assert_true(server_port(f->server) > 0);
    assert_int_equal(fetch(f, "GET", "/api/v2/heartbeat", ""), 200);
    OK(server_probe("localhost", server_port(f->server), true, 5000, &err));
    OK(server_probe("localhost", server_port(f->server), false, 5000, &err));
    uint16_t port = server_port(f->server);
    assert_true(stop(f) < 1000);
    FAILS(OCH_UNAVAILABLE, server_probe("localhost", port, true, 5000, &err));
}

static void what_it_acknowledged_is_there_after_a_restart(void **state)
{
    struct fixture *f = *state;
    static const char base[] = "/api/v2/tenants/default_tenant/databases/default_database";
    char target[200];
    (void)snprintf(target, sizeof(target), "%s/collections", base);
    OK(start(f, NULL));
    assert_int_equal(fetch(f, "POST", target, "{\"name\":\"docs\"}"), 200);
    (void)stop(f);
    OK(start(f, NULL));
    (void)snprintf(target, sizeof(target), "%s/collections/docs", base);
    assert_int_equal(fetch(f, "GET", target, ""), 200);
    (void)stop(f);
    och_database *database = test_open(f->path); /* one format for server and library */
    och_collection_spec spec = OCH_COLLECTION_SPEC;
    och_collection *collection;
    spec.name = och_text("docs");
    OK(och_collection_open(database, &spec, &collection, &err));
    och_collection_free(collection);
    test_close(database);
}

static void the_banner_says_where_and_for_whom(void **state)
{
    struct fixture *f = *state;
    char wanted[100];
    for (int round = 0; round < 2; round++) {
        OK(start(f, NULL));
        struct buf text;
        buf_init(&text, 4096);
        server_write_banner(f->server, &text);
        buf_byte(&text, 0);
        const char *banner = (const char *)text.at;
        assert_non_null(strstr(banner, "ochre " OCH_VERSION " ("));
        assert_int_equal(strstr(banner, " (new)") != NULL, round == 0);
        assert_non_null(strstr(banner, "memory limit 256.0 MiB"));
        (void)snprintf(wanted, sizeof(wanted), "http://localhost:%u/api/v2",
                       server_port(f->server));
        assert_non_null(strstr(banner, wanted));
        assert_non_null(strstr(banner, "no keys: only this machine can connect."));
        buf_done(&text);
        (void)stop(f);
    }
}

static void a_second_server_is_told_who_has_the_folder(void **state)
{
    struct fixture *f = *state;
    struct fixture second = {0};
    memcpy(second.path, f->path, sizeof(second.path));
    OK(start(f, NULL));
    FAILS(OCH_IN_USE, start(&second, NULL));
    SAYS("is in use by pid");
    assert_int_equal(fetch(f, "GET", "/api/v2/heartbeat", ""), 200);
    (void)stop(f);
    OK(start(&second, NULL));
    (void)stop(&second);
}

static void a_folder_of_the_original_is_left_alone(void **state)
{
    struct fixture *f = *state;
    char name[200];
    (void)mkdir(f->path, 0700);
    (void)snprintf(name, sizeof(name), "%s/chroma.sqlite3", f->path);
    FILE *file = fopen(name, "w");
    assert_non_null(file);
    (void)fclose(file);
    FAILS(OCH_UNSUPPORTED, start(f, NULL));
    SAYS("holds data of Chroma");
    (void)snprintf(name, sizeof(name), "%s/catalogue.sqlite", f->path);
    assert_int_not_equal(access(name, F_OK), 0);
}

static void a_port_that_is_taken_is_said_with_a_way_out(void **state)
{
    struct fixture *f = *state;
    struct fixture second = {0};
    (void)snprintf(second.path, sizeof(second.path), "%s/second", f->path);
    OK(start(f, NULL));
    OK(read_settings(&second, NULL));
    second.settings.port = server_port(f->server);
    struct server_options options = {.settings = &second.settings};
    FAILS(OCH_IO, server_start(&options, &second.server, &err));
    SAYS("another program has the port. Choose one with --port");
    settings_done(&second.settings);
    (void)stop(f);
}

static void a_public_address_needs_keys_or_insecure(void **state)
{
    struct fixture *f = *state;
    FAILS(OCH_SETTING, start(f, "host: 0.0.0.0\n"));
    SAYS("refusing to listen on 0.0.0.0 without keys");
    OK(start(f, "host: 0.0.0.0\ninsecure: true\n"));
    struct buf text;
    buf_init(&text, 4096);
    server_write_banner(f->server, &text);
    assert_non_null(memmem(text.at, text.len, "anyone in reach", 15));
    buf_done(&text);
    (void)stop(f);
}

static void the_local_socket_comes_and_goes_with_the_server(void **state)
{
    struct fixture *f = *state;
    char path[100];
    struct stat info;
    (void)snprintf(path, sizeof(path), "%s/ochre.sock", f->path);
    OK(start(f, NULL));
    assert_int_equal(stat(path, &info), 0);
    assert_true(S_ISSOCK(info.st_mode));
    (void)stop(f);
    assert_int_not_equal(stat(path, &info), 0);
    OK(start(f, "unix_socket: false\n"));
    assert_int_not_equal(stat(path, &info), 0);
    (void)stop(f);
}

/* ---- under load ---- */

struct client {
    struct fixture *f;
    uint16_t port;
    pthread_t thread;
    unsigned answers;
};

static void *ask_until_refused(void *arg)
{
    struct client *c = arg;
    struct http_answer answer;
    och_code code = OCH_OK;
    while (code == OCH_OK) {
        struct arena arena;
        arena_init(&arena, NULL, 0);
        code = http_fetch("localhost", c->port, "GET",
                          "/api/v2/tenants/default_tenant/databases/default_database/collections",
                          NULL, 0, SLICE_NONE, 5000, &arena, &answer, NULL);
        c->answers += code == OCH_OK;
        arena_done(&arena);
    }
    return NULL;
}

static void under_load_it_stops_in_time_too(void **state)
{
    struct fixture *f = *state;
    struct client clients[4];
    OK(start(f, NULL));
    for (size_t i = 0; i < COUNT_OF(clients); i++) {
        clients[i] = (struct client){.f = f, .port = server_port(f->server)};
        assert_int_equal(pthread_create(&clients[i].thread, NULL, ask_until_refused, &clients[i]),
                         0);
    }
    (void)usleep(200000);
    assert_true(stop(f) < 5000);
    for (size_t i = 0; i < COUNT_OF(clients); i++) {
        assert_int_equal(pthread_join(clients[i].thread, NULL), 0);
        assert_true(clients[i].answers > 0);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(it_answers_and_stops_within_a_second),
        TEST(what_it_acknowledged_is_there_after_a_restart),
        TEST(the_banner_says_where_and_for_whom),
        TEST(a_second_server_is_told_who_has_the_folder),
        TEST(a_port_that_is_taken_is_said_with_a_way_out),
        TEST(a_folder_of_the_original_is_left_alone),
        TEST(a_public_address_needs_keys_or_insecure),
        TEST(the_local_socket_comes_and_goes_with_the_server),
        TEST(under_load_it_stops_in_time_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
