/* SPDX-License-Identifier: Apache-2.0 */
/* Where settings come from, which source wins, what is refused and how it is said. */
#include "base/io_sim.h"
#include "base/trace.h"
#include "mode/settings_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static och_code load(const char *yaml, char *const *environment, const struct setting_flag *flags,
                     size_t flag_count, struct settings *out, och_error *err)
{
    struct settings_input input = {
        .flags = flags,
        .flag_count = flag_count,
        .environment = environment,
        .yaml_path = "ochre.yaml",
        .yaml_text = yaml ? slice_of(yaml) : SLICE(""),
    };
    *err = (och_error){0};
    return settings_init(&input, out, err);
}

static void the_defaults_are_those_of_the_specification(void **state)
{
    (void)state;
    struct settings s;
    och_error err;
    assert_int_equal(load(NULL, NULL, NULL, 0, &s, &err), OCH_OK);
    assert_string_equal(s.path, "./ochre");
    assert_string_equal(s.host, "localhost");
    assert_int_equal(s.port, 8000);
    assert_true(s.unix_socket && s.enable_schema && s.gzip_replies);
    assert_false(s.allow_reset || s.insecure || s.log_requests);
    assert_int_equal(s.max_payload_size_bytes, 41943040);
    assert_int_equal(s.cors_allow_origins.count, 0);
    assert_int_equal(s.durability.mode, DURABILITY_ALWAYS);
    assert_int_equal(s.log_segment_bytes, 16 << 20);
    assert_int_equal(s.log_slow_bytes, 256 << 20);
    assert_int_equal(s.log_stop_bytes, 1 << 30);
    assert_int_equal(s.workers, 256);
    assert_int_equal(s.waiting, 1024);
    assert_int_equal(s.deadline_ms, 60000);
    assert_int_equal(s.deadline_max_ms, 600000);
    assert_int_equal(s.idle_timeout_ms, 75000);
    assert_int_equal(s.head_timeout_ms, 10000);
    assert_int_equal(s.tail_rows_max, 16384);
    assert_int_equal(s.tail_bytes_max, 32 << 20);
    assert_int_equal(s.part_rows_max, 20000000);
    assert_int_equal(s.fork_edges_max, 256);
    assert_int_equal(s.min_records_for_invocation, 100);
    assert_int_equal(s.circuit_breaker_requests, 0);
    assert_int_equal(s.log_level, TRACE_INFO);
    assert_int_equal(s.log_format, SETTING_LOG_TEXT);
    assert_int_equal(s.default_knn_index, SETTING_INDEX_HNSW);
    assert_null(s.tls_certificate);
    assert_true(s.memory_limit >= 64 << 20);
    assert_int_equal(s.note_count, 0);
    settings_done(&s);
}

static void flag_beats_environment_beats_file_beats_default(void **state)
{
    (void)state;
    struct settings s;
    och_error err;
    char *environment[] = {(char *)(uintptr_t) "OCHRE_PORT=2", (char *)(uintptr_t) "CHROMA_PORT=3",
                           (char *)(uintptr_t) "OCHRE_WORKERS=12", NULL};
    const struct setting_flag flags[] = {{"--port", "1"}, {"--allow-reset", NULL}};
    const char *yaml = "port: 4\nworkers: 14\nwaiting: 15\n";
    assert_int_equal(load(yaml, environment, flags, 2, &s, &err), OCH_OK);
    assert_int_equal(s.port, 1);
    assert_int_equal(s.workers, 12);
    assert_int_equal(s.waiting, 15);
    assert_int_equal(s.deadline_ms, 60000);
    assert_true(s.allow_reset);
    settings_done(&s);
    assert_int_equal(load(yaml, environment, NULL, 0, &s, &err), OCH_OK);
    assert_int_equal(s.port, 2); /* ours over the original's */
    settings_done(&s);
    assert_int_equal(load(yaml, environment + 1, NULL, 0, &s, &err), OCH_OK);
    assert_int_equal(s.port, 3);
    settings_done(&s);
}

static void values_have_units_and_forms(void **state)
{
    (void)state;
    struct settings s;
    och_error err;
    assert_int_equal(
        load("memory_limit: 1.5 GiB\nmax_payload_size_bytes: 10MB\nlog_segment_bytes: '128 mib'\n"
             "deadline_ms: 1.5s\ndeadline_max_ms: 2h\nidle_timeout_ms: 250\nhead_timeout_ms: 3ms\n"
             "cors_allow_origins: [\"http://a\", 'http://b']\nallow_reset: on\nunix_socket: No\n"
             "durability: interval:200ms\nlog_level: debug\nlog_format: json\ntls_key: ~\n"
             "default_knn_index: spann\nhost: \"::1\"\n",
             NULL, NULL, 0, &s, &err),
        OCH_OK);
    assert_int_equal(s.memory_limit, 3LL << 29);
    assert_int_equal(s.max_payload_size_bytes, 10000000);
    assert_int_equal(s.log_segment_bytes, 128 << 20);
    assert_int_equal(s.deadline_ms, 1500);
    assert_int_equal(s.deadline_max_ms, 7200000);
    assert_int_equal(s.idle_timeout_ms, 250);
    assert_int_equal(s.head_timeout_ms, 3);
    assert_int_equal(s.cors_allow_origins.count, 2);
    assert_string_equal(s.cors_allow_origins.at[1], "http://b");
    assert_true(s.allow_reset);
    assert_false(s.unix_socket);
    assert_int_equal(s.durability.mode, DURABILITY_INTERVAL);
    assert_int_equal(s.durability.interval_ms, 200);
    assert_int_equal(s.log_level, TRACE_DEBUG);
    assert_int_equal(s.log_format, SETTING_LOG_JSON);
    assert_int_equal(s.default_knn_index, SETTING_INDEX_SPANN);
    assert_string_equal(s.host, "::1");
    settings_done(&s);
    char *environment[] = {
        (char *)(uintptr_t) "OCHRE_CORS_ALLOW_ORIGINS=[\"http://a\", \"http://b\"]",
        (char *)(uintptr_t) "OCHRE_DURABILITY=os", NULL};
    assert_int_equal(load(NULL, environment, NULL, 0, &s, &err), OCH_OK);
    assert_int_equal(s.cors_allow_origins.count, 2);
    assert_string_equal(s.cors_allow_origins.at[0], "http://a");
    assert_int_equal(s.durability.mode, DURABILITY_OS);
    settings_done(&s);
    environment[0] = (char *)(uintptr_t) "CHROMA_CORS_ALLOW_ORIGINS=*";
    assert_int_equal(load(NULL, environment, NULL, 0, &s, &err), OCH_OK);
    assert_int_equal(s.cors_allow_origins.count, 1);
    assert_string_equal(s.cors_allow_origins.at[0], "*");
    settings_done(&s);
}

struct refusal {
    const char *yaml, *variable, *flag, *value, *message;
};

static void what_is_wrong_is_refused_by_place_and_name(void **state)
{
    (void)state;
    static const struct refusal refusals[] = {
        {"# a\n\n\n\n\n\nmemory_limt: 4GiB\n", NULL, NULL, NULL,
         "ochre.yaml line 7: unknown setting \"memory_limt\". Did you mean \"memory_limit\"?"},
        {"prot: 1\n", NULL, NULL, NULL,
         "ochre.yaml line 1: unknown setting \"prot\". Did you mean \"port\"?"},
        {"what_is_this_for: 1\n", NULL, NULL, NULL,
         "ochre.yaml line 1: unknown setting \"what_is_this_for\". See \"ochre config print\" for "
         "those there are"},
        {"circuit_breaker:\n  request: 1\n", NULL, NULL, NULL, NULL},
        {"port: 65536\n", NULL, NULL, NULL,
         "ochre.yaml line 1: port: expected a whole number from 0 to 65,535, got \"65536\""},
        {"\nport: x\n", NULL, NULL, NULL,
         "ochre.yaml line 2: port: expected a whole number from 0 to 65,535, got \"x\""},
        {"port: [1]\n", NULL, NULL, NULL,
         "ochre.yaml line 1: port: expected a whole number from 0 to 65,535, got a list"},
        {"port:\n  a: 1\n", NULL, NULL, NULL, "ochre.yaml line 2: expected a value, got a section"},
        {"port: 1\nport: 2\n", NULL, NULL, NULL,
         "ochre.yaml line 2: port was set in line 1 already"},
        {"path: a\npersist_path: b\n", NULL, NULL, NULL,
         "ochre.yaml line 2: path was set in line 1 already"},
        {"- port\n", NULL, NULL, NULL, "ochre.yaml line 1: expected lines like \"port: 8000\""},
        {"port\n", NULL, NULL, NULL, "ochre.yaml line 1: expected lines like \"port: 8000\""},
        {"port: 1\n---\nport: 2\n", NULL, NULL, NULL, "ochre.yaml line 2: a second document"},
        {"port: &a 1\nworkers: *a\n", NULL, NULL, NULL,
         "ochre.yaml line 2: references (*name) are not understood"},
        {"port: {\n", NULL, NULL, NULL, NULL},
        {"port: \"\xff\"\n", NULL, NULL, NULL, NULL},
        {"host: \"a\\0b\"\n", NULL, NULL, NULL, NULL},
        {"cors_allow_origins: [[a]]\n", NULL, NULL, NULL,
         "ochre.yaml line 1: expected a list of texts"},
        {"memory_limit: 1 MiB\n", NULL, NULL, NULL,
         "ochre.yaml line 1: memory_limit: expected a size from 64 MiB to 1024 TiB, like 4 GiB, or "
         "a share like 50%, got \"1 MiB\""},
        {"memory_limit: 101%\n", NULL, NULL, NULL, NULL},
        {"memory_limit: 99999999999999999999\n", NULL, NULL, NULL, NULL},
        {"memory_limit: 9223372036854775807 TiB\n", NULL, NULL, NULL, NULL},
        {"deadline_ms: 0\n", NULL, NULL, NULL,
         "ochre.yaml line 1: deadline_ms: expected a time from 1ms to 86400s, like 10s or 500ms, "
         "got \"0\""},
        {"deadline_ms: 2h\n", NULL, NULL, NULL,
         "deadline_ms (7200000 ms) is above deadline_max_ms (600000 ms)"},
        {"log_slow_bytes: 2GiB\n", NULL, NULL, NULL, NULL},
        {"tls_key: k.pem\n", NULL, NULL, NULL,
         "tls_certificate and tls_key go together: tls_certificate is missing"},
        {"durability: sometimes\n", NULL, NULL, NULL,
         "ochre.yaml line 1: durability: expected \"always\", \"os\" or \"interval:\" and a time, "
         "like interval:200ms, got \"sometimes\""},
        {"durability: interval:0\n", NULL, NULL, NULL, NULL},
        {"log_level: loud\n", NULL, NULL, NULL,
         "ochre.yaml line 1: log_level: expected \"error\", \"warn\", \"info\" or \"debug\", got "
         "\"loud\""},
        {"chroma_server_authn_provider: x\n", NULL, NULL, NULL,
         "ochre.yaml line 1: chroma_server_authn_provider once switched on authentication, and "
         "this version has none yet: it would serve everyone. Remove it, and guard the port by "
         "other means."},
        {NULL, "CHROMA_SERVER_AUTHN_CREDENTIALS=a", NULL, NULL,
         "environment: CHROMA_SERVER_AUTHN_CREDENTIALS once switched on authentication, and this "
         "version has none yet: it would serve everyone. Remove it, and guard the port by other "
         "means."},
        {NULL, "OCHRE_MEMORYLIMIT=1", NULL, NULL,
         "environment: unknown setting \"OCHRE_MEMORYLIMIT\". Did you mean "
         "\"OCHRE_MEMORY_LIMIT\"?"},
        {NULL, "OCHRE_PORT=x", NULL, NULL,
         "OCHRE_PORT: port: expected a whole number from 0 to 65,535, got \"x\""},
        {NULL, "CHROMA_CIRCUIT_BREAKER__REQUESTS=-1", NULL, NULL,
         "CHROMA_CIRCUIT_BREAKER__REQUESTS: circuit_breaker_requests: expected a whole number from "
         "0 to 1,000,000, got \"-1\""},
        {NULL, NULL, "--memory-limt", "1",
         "unknown option \"--memory-limt\". Did you mean \"--memory-limit\"?"},
        {NULL, NULL, "--port", NULL, "--port needs a value"},
        {NULL, NULL, "allow_reset", "maybe",
         "--allow-reset: expected true or false, got \"maybe\""},
    };
    for (size_t i = 0; i < COUNT_OF(refusals); i++) {
        const struct refusal *r = &refusals[i];
        char *environment[] = {(char *)(uintptr_t)r->variable, NULL};
        struct setting_flag flag = {r->flag, r->value};
        struct settings s;
        och_error err;
        och_code code = load(r->yaml, environment, &flag, r->flag ? 1 : 0, &s, &err);
        if (code != OCH_SETTING || (r->message && strcmp(err.message, r->message) != 0))
            fail_msg("row %zu: code %d: %s", i, (int)code, code ? err.message : "accepted");
    }
}

static void a_file_of_the_original_works_and_says_what_has_no_effect(void **state)
{
    (void)state;
    struct settings s;
    och_error err;
    const char *yaml = "port: 9000\n"
                       "listen_address: 127.0.0.1\n"
                       "persist_path: \"./data\"\n"
                       "sqlite_filename: chroma.sqlite3\n"
                       "sqlitedb:\n  hash_type: \"MD5\"\n  migration_mode: \"Apply\"\n"
                       "sysdb:\n  sqlite:\n    log_topic_namespace: default\n    log_tenant: x\n"
                       "circuit_breaker:\n  requests: 77\n"
                       "scorecard:\n  - patterns: [\"op:*\", {a: [b]}]\n    score: 3\n"
                       "open_telemetry: {endpoint: \"http://x\", filters: [{crate_name: a}]}\n"
                       "tenants_with_quantization_enabled: [\"*\"]\n"
                       "cors_allow_origins:\n  - \"*\"\n";
    if (load(yaml, NULL, NULL, 0, &s, &err) != OCH_OK)
        fail_msg("%s", err.message);
    assert_int_equal(s.port, 9000);
    assert_string_equal(s.host, "127.0.0.1");
    assert_string_equal(s.path, "./data");
    assert_int_equal(s.circuit_breaker_requests, 77);
    assert_int_equal(s.cors_allow_origins.count, 1);
    assert_int_equal(s.note_count, 6);
    assert_string_equal(s.notes[0],
                        "ochre.yaml line 4: sqlite_filename has no effect here: records "
                        "are not kept in an SQLite file");
    settings_done(&s);
    char *environment[] = {(char *)(uintptr_t) "CHROMA_PERSIST_PATH=/x",
                           (char *)(uintptr_t) "CHROMA_OPEN_TELEMETRY__ENDPOINT=http://x",
                           (char *)(uintptr_t) "CHROMA_API_KEY=secret",
                           (char *)(uintptr_t) "CHROMA_SERVER_AUTHN_PROVIDER=",
                           (char *)(uintptr_t) "OCHRE_PORT=tcp://10.0.0.7:8000",
                           (char *)(uintptr_t) "OCHRE_SERVICE_HOST=10.0.0.7",
                           (char *)(uintptr_t) "OCHRE_PORT_8000_TCP_ADDR=10.0.0.7",
                           (char *)(uintptr_t) "OCHRE_KERNEL=scalar",
                           (char *)(uintptr_t) "PATH=/bin",
                           (char *)(uintptr_t) "OCHRE_",
                           NULL};
    if (load(NULL, environment, NULL, 0, &s, &err) != OCH_OK)
        fail_msg("%s", err.message);
    assert_string_equal(s.path, "/x");
    assert_int_equal(s.port, 8000);
    assert_int_equal(s.note_count, 2);
    for (size_t i = 0; i < s.note_count; i++)
        assert_null(strstr(s.notes[i], "secret"));
    settings_done(&s);
}

static void an_open_address_needs_keys_or_insecure(void **state)
{
    (void)state;
    static const struct {
        const char *host;
        bool open;
    } rows[] = {{"localhost", false},   {"127.0.0.1", false},
                {"127.1.2.3", false},   {"::1", false},
                {"[::1]", false},       {"0.0.0.0", true},
                {"::", true},           {"10.0.0.1", true},
                {"127.evil.org", true}, {"localhost.evil.org", true}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct settings s;
        och_error err;
        struct setting_flag flags[] = {{"--host", rows[i].host}, {"--insecure", NULL}};
        assert_int_equal(load(NULL, NULL, flags, 1, &s, &err), OCH_OK);
        assert_int_equal(settings_check_host(&s, false, &err), rows[i].open ? OCH_SETTING : OCH_OK);
        assert_int_equal(settings_check_host(&s, true, &err), OCH_OK);
        settings_done(&s);
        assert_int_equal(load(NULL, NULL, flags, 2, &s, &err), OCH_OK);
        assert_int_equal(settings_check_host(&s, false, &err), OCH_OK);
        settings_done(&s);
    }
    struct settings s;
    och_error err;
    assert_int_equal(load("host: 0.0.0.0\n", NULL, NULL, 0, &s, &err), OCH_OK);
    assert_int_equal(settings_check_host(&s, false, &err), OCH_SETTING);
    assert_string_equal(err.message,
                        "refusing to listen on 0.0.0.0 without keys: anyone in reach could read "
                        "and delete. Listen on localhost, or add --insecure where nobody else can "
                        "reach it.");
    settings_done(&s);
}

static void what_is_printed_reads_back_with_its_origins(void **state)
{
    (void)state;
    struct settings s, again;
    och_error err;
    struct buf first, second;
    buf_init(&first, BUF_MAX_NONE);
    buf_init(&second, BUF_MAX_NONE);
    char *environment[] = {(char *)(uintptr_t) "CHROMA_PERSIST_PATH=/a \"b\" \\c\n\xc3\xa4", NULL};
    const struct setting_flag flag = {"--deadline-ms", "1234"};
    assert_int_equal(load("\nmemory_limit: 100000001\ncors_allow_origins: ['a,b', '#', \"\"]\n"
                          "durability: interval:2s\n",
                          environment, &flag, 1, &s, &err),
                     OCH_OK);
    settings_print(&s, &first);
    buf_byte(&first, 0);
    const char *text = (const char *)first.at;
    assert_non_null(strstr(text, "memory_limit: 100000001"));
    assert_non_null(strstr(text, "# ochre.yaml line 2\n"));
    assert_non_null(strstr(text, "# CHROMA_PERSIST_PATH\n"));
    assert_non_null(strstr(text, "# --deadline-ms\n"));
    assert_non_null(strstr(text, "# default\n"));
    if (load(text, NULL, NULL, 0, &again, &err) != OCH_OK)
        fail_msg("%s in %s", err.message, text);
    assert_string_equal(again.path, s.path);
    assert_int_equal(again.cors_allow_origins.count, 3);
    buf_clear(&first);
    settings_print_changed(&s, &first);
    buf_byte(&first, 0);
    assert_non_null(strstr((const char *)first.at, "durability=interval:2s"));
    assert_null(strstr((const char *)first.at, "port="));
    /* the values, whatever their origin, are the same */
    for (size_t i = 0; i < setting_row_count; i++) {
        buf_clear(&first);
        buf_clear(&second);
        setting_write_value(&s, &setting_rows[i], &first);
        setting_write_value(&again, &setting_rows[i], &second);
        assert_true(slice_equal(buf_view(&first), buf_view(&second)));
    }
    /* a secret is not shown */
    struct setting_row row = *setting_find(SLICE("path"));
    row.secret = true;
    buf_clear(&first);
    setting_write_value(&s, &row, &first);
    assert_true(slice_equal(buf_view(&first), SLICE("\"***\"")));
    buf_done(&first);
    buf_done(&second);
    settings_done(&s);
    settings_done(&again);
}

static void put(struct io *io, const char *folder, const char *path, const char *text)
{
    och_error err = {0};
    struct file *file = NULL;
    assert_int_equal(io_make_folder(io, folder, &err), OCH_OK);
    assert_int_equal(io_open(io, path, IO_WRITE | IO_CREATE | IO_TRUNCATE, &file, &err), OCH_OK);
    assert_int_equal(file_write(file, 0, text, strlen(text), &err), OCH_OK);
    file_close(file);
}

static int64_t limit_of(struct io *io, const char *share)
{
    struct settings s;
    och_error err = {0};
    struct setting_flag flag = {"--memory-limit", share};
    struct settings_input input = {.io = io, .flags = &flag, .flag_count = share ? 1 : 0};
    if (settings_init(&input, &s, &err) != OCH_OK)
        fail_msg("%s", err.message);
    int64_t limit = s.memory_limit;
    settings_done(&s);
    return limit;
}

static void memory_is_half_of_what_the_control_group_leaves(void **state)
{
    (void)state;
    const int64_t mib = 1 << 20;
    struct io *io = io_sim_new(false);
    assert_non_null(io);
    put(io, "/proc", "/proc/meminfo", "MemFree: 5 kB\nMemTotal:       16777216 kB\nX: 1\n");
    assert_in_range(limit_of(io, NULL), 8191 * mib, 8192 * mib);
    assert_in_range(limit_of(io, "25%"), 4095 * mib, 4096 * mib);
    /* version 2: the group has no limit, the one around it has */
    put(io, "/proc/self", "/proc/self/cgroup", "0::/a/b\n");
    put(io, "/sys/fs/cgroup/a/b", "/sys/fs/cgroup/a/b/memory.max", "max\n");
    assert_in_range(limit_of(io, NULL), 8191 * mib, 8192 * mib);
    put(io, "/sys/fs/cgroup/a", "/sys/fs/cgroup/a/memory.max", "2147483648\n");
    assert_in_range(limit_of(io, NULL), 1023 * mib, 1024 * mib);
    /* version 1: inside a container the group's own path is not there, the root is */
    put(io, "/proc/self", "/proc/self/cgroup", "12:cpu,memory:/docker/1\n1:name=x:/\njunk\n");
    put(io, "/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "9223372036854771712\n");
    assert_in_range(limit_of(io, NULL), 8191 * mib, 8192 * mib);
    put(io, "/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n");
    assert_in_range(limit_of(io, NULL), 255 * mib, 256 * mib);
    /* never too little to work with */
    put(io, "/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory/memory.limit_in_bytes", "1000\n");
    assert_int_equal(limit_of(io, NULL), 64 * mib);
    io_sim_free(io);
}

static void a_missing_or_endless_file_is_an_error(void **state)
{
    (void)state;
    struct io *io = io_sim_new(false);
    struct settings s;
    och_error err = {0};
    struct settings_input input = {.io = io, .yaml_path = "/x/ochre.yaml"};
    assert_int_equal(settings_init(&input, &s, &err), OCH_NOT_FOUND);
    put(io, "/x", "/x/ochre.yaml", "port: 5\n");
    assert_int_equal(settings_init(&input, &s, &err), OCH_OK);
    assert_int_equal(s.port, 5);
    settings_done(&s);
    char *large = calloc(1, (1u << 20) + 2);
    memset(large, '#', (1u << 20) + 1);
    put(io, "/x", "/x/ochre.yaml", large);
    free(large);
    assert_int_equal(settings_init(&input, &s, &err), OCH_TOO_LARGE);
    io_sim_free(io);
}

static void no_allocation_may_fail_unnoticed(void **state)
{
    (void)state;
    char *environment[] = {(char *)(uintptr_t) "CHROMA_REGION=x", NULL};
    struct setting_flag flag = {"--port", "1"};
    uint64_t live = mem_count_live();
    for (uint64_t nth = 1;; nth++) {
        struct settings s;
        och_error err;
        uint64_t before = mem_count_allocations();
        mem_fail_at(nth);
        och_code code = load("cors_allow_origins: [a, b]\nsysdb: {a: b}\npath: x\n", environment,
                             &flag, 1, &s, &err);
        mem_fail_at(0);
        bool reached = mem_count_allocations() - before >= nth;
        if (code == OCH_OK)
            settings_done(&s);
        else
            assert_int_equal(code, OCH_NO_MEMORY);
        assert_int_equal(mem_count_live(), live);
        if (!reached) {
            assert_int_equal(code, OCH_OK);
            break;
        }
    }
}

static void the_table_is_sound_and_the_page_is_made_from_it(void **state)
{
    (void)state;
    struct setting_info info;
    for (size_t i = 0; setting_describe(i, &info); i++) {
        assert_ptr_equal(setting_find(slice_of(info.name)), &setting_rows[i]);
        assert_non_null(info.help);
        assert_int_equal(info.help[strlen(info.help) - 1], '.');
        assert_true(strlen(info.name) < 40);
    }
    for (size_t i = 0; i < setting_original_count; i++) {
        const struct setting_original *original = &setting_originals[i];
        assert_true(!original->ours != !original->reason);
        if (original->ours)
            assert_non_null(setting_find(slice_of(original->ours)));
    }
    struct buf page;
    buf_init(&page, BUF_MAX_NONE);
    settings_write_docs(&page);
    if (getenv("OCHRE_WRITE_DOCS")) {
        FILE *file = fopen("docs/settings.md", "wb");
        assert_non_null(file);
        assert_int_equal(fwrite(page.at, 1, page.len, file), page.len);
        fclose(file);
    }
    FILE *file = fopen("docs/settings.md", "rb");
    assert_non_null(file);
    char *text = calloc(1, page.len + 2);
    size_t len = fread(text, 1, page.len + 1, file);
    fclose(file);
    if (!slice_equal(buf_view(&page), slice_make(text, len)))
        fail_msg("docs/settings.md is not what the table says: OCHRE_WRITE_DOCS=1 writes it anew");
    free(text);
    buf_done(&page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_defaults_are_those_of_the_specification),
        cmocka_unit_test(flag_beats_environment_beats_file_beats_default),
        cmocka_unit_test(values_have_units_and_forms),
        cmocka_unit_test(what_is_wrong_is_refused_by_place_and_name),
        cmocka_unit_test(a_file_of_the_original_works_and_says_what_has_no_effect),
        cmocka_unit_test(an_open_address_needs_keys_or_insecure),
        cmocka_unit_test(what_is_printed_reads_back_with_its_origins),
        cmocka_unit_test(memory_is_half_of_what_the_control_group_leaves),
        cmocka_unit_test(a_missing_or_endless_file_is_an_error),
        cmocka_unit_test(no_allocation_may_fail_unnoticed),
        cmocka_unit_test(the_table_is_sound_and_the_page_is_made_from_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
