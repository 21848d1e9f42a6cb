/* SPDX-License-Identifier: Apache-2.0 */
/* The single-node server: open, listen, drain, close; in the opposite order on the way down. */
#include "mode/server.h"

#include "kernel/kernel.h"
#include "net/http.h"
#include "ochre/ochre.h"

#include <inttypes.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#define HTTP_WORKERS_MAX 256

struct server {
    struct arena arena; /* texts */
    const struct settings *settings;
    struct clock *clock;
    struct trace *trace;
    struct database *database;
    struct http_server *http;
    bool folder_is_new;
    uint64_t start_ns, ready_ns;
};

static unsigned processor_count(void)
{
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    return count > 0 ? (unsigned)count : 1;
}

static bool is_ipv6_number(const char *host)
{
    return strchr(host, ':') != NULL && host[0] != '[';
}

static const char *base_url(struct server *s, unsigned port)
{
    const struct settings *settings = s->settings;
    bool v6 = is_ipv6_number(settings->host);
    return arena_printf(&s->arena, "%s://%s%s%s:%u", settings->tls_certificate ? "https" : "http",
                        v6 ? "[" : "", settings->host, v6 ? "]" : "", port);
}

static och_code open_database(struct server *s, och_error *err)
{
    const struct settings *settings = s->settings;
    const char *catalogue = arena_printf(&s->arena, "%s/catalogue.sqlite", settings->path);
    if (!catalogue)
        return FAIL_NO_MEMORY(err, "the server");
    struct io_entry entry;
    s->folder_is_new = io_stat(io_posix(), catalogue, &entry, NULL) == OCH_NOT_FOUND;
    struct database_options options = {
        .path = settings->path,
        .create = true,
        .settings = settings,
        /* a port that the system chooses is not known yet */
        .address = settings->port ? base_url(s, (unsigned)settings->port) : NULL,
        .trace = s->trace,
        .clock = s->clock,
        .start_compactor = true,
    };
    return database_open(&options, &s->database, err);
}

/* The local socket in the folder, where its path fits into an address. */
static const char *socket_path(struct server *s)
{
    if (!s->settings->unix_socket)
        return NULL;
    const char *path = arena_printf(&s->arena, "%s/ochre.sock", s->settings->path);
    if (!path || strlen(path) < sizeof(((struct sockaddr_un *)NULL)->sun_path))
        return path;
    trace_line(s->trace, TRACE_WARN, "mode", "the folder's path is too long for a local socket",
               "path", path, NULL);
    return NULL;
}

static unsigned loop_count(const struct settings *settings)
{
    if (settings->io_threads)
        return (unsigned)settings->io_threads;
    return (unsigned)min_size(4, (processor_count() + 1) / 2);
}

static och_code start_http(struct server *s, och_error *err)
{
    const struct settings *settings = s->settings;
    unsigned workers = (unsigned)min_size((size_t)settings->workers, HTTP_WORKERS_MAX);
    unsigned waiting = (unsigned)settings->waiting;
    unsigned breaker = (unsigned)settings->circuit_breaker_requests;
    if (breaker) {
        workers = (unsigned)min_size(workers, breaker);
        waiting = (unsigned)min_size(waiting, breaker - workers);
    }
    struct http_server_options options = {
        .host = settings->host,
        .port = (uint16_t)settings->port,
        .unix_path = socket_path(s),
        .loop_count = loop_count(settings),
        .worker_max = workers,
        .running_max = 1 + (settings->threads ? (unsigned)settings->threads : processor_count()),
        .waiting_max = waiting ? waiting : 1, /* 0 would mean the server's default */
        .body_bytes_max = (uint64_t)settings->max_payload_size_bytes,
        .deadline_ms = (uint32_t)settings->deadline_ms,
        .deadline_ms_max = (uint32_t)settings->deadline_max_ms,
        .head_timeout_ms = (uint32_t)settings->head_timeout_ms,
        .idle_timeout_ms = (uint32_t)settings->idle_timeout_ms,
        .tls_certificate = settings->tls_certificate,
        .tls_key = settings->tls_key,
        .gzip_replies_min_bytes = settings->gzip_replies ? 16384 : SIZE_MAX,
        .budget = database_budget(s->database),
        .clock = s->clock,
        .trace = s->trace,
        .handler = gateway_handler(database_gateway(s->database)),
    };
    och_code code = http_server_start(&options, &s->http, err);
    if (code == OCH_OK)
        database_set_http(s->database, s->http, http_server_stats);
    if (code != OCH_IN_USE)
        return code;
    if (err)
        err->code = OCH_IO; /* "in use" is said of folders only: it has an exit code of its own */
    return OCH_IO;
}

och_code server_start(const struct server_options *options, struct server **ret_server,
                      och_error *err)
{
    TRY(settings_check_host(options->settings, false, err));
    struct server *s = MEM_NEW(struct server);
    if (!s)
        return FAIL_NO_MEMORY(err, "the server");
    arena_init(&s->arena, NULL, 0);
    s->settings = options->settings;
    s->trace = options->trace;
    s->clock = options->clock ? options->clock : clock_system();
    s->start_ns = clock_mono_ns(s->clock);
    och_code code = open_database(s, err);
    if (code == OCH_OK)
        code = start_http(s, err);
    if (code != OCH_OK) {
        server_free(s);
        return code;
    }
    s->ready_ns = clock_mono_ns(s->clock);
    *ret_server = s;
    return OCH_OK;
}

och_code server_stop(struct server *s, uint32_t drain_ms, och_error *err)
{
    http_server_drain(s->http, clock_mono_ns(s->clock) + drain_ms * UINT64_C(1000000));
    http_server_free(take(&s->http)); /* waits for the last handlers: cancelled, so not long */
    database_set_http(s->database, NULL, NULL);
    return database_close(s->database, err);
}

void server_free(struct server *s)
{
    if (!s)
        return;
    http_server_free(s->http);
    database_free(s->database);
    arena_done(&s->arena);
    mem_free(s);
}

static void write_size(struct buf *out, int64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1024 && unit + 1 < COUNT_OF(units)) {
        value /= 1024;
        unit++;
    }
    buf_printf(out, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
}

void server_write_banner(const struct server *s, struct buf *out)
{
    const struct settings *settings = s->settings;
    bool v6 = is_ipv6_number(settings->host);
    unsigned port = http_server_port(s->http);
    buf_printf(out, "ochre %s (%s)  data %s%s  memory limit ", OCH_VERSION, server_cpu_level(),
               settings->path, s->folder_is_new ? " (new)" : "");
    write_size(out, settings->memory_limit);
    buf_printf(out, "\n  api      %s://%s%s%s:%u/api/v2\n",
               settings->tls_certificate ? "https" : "http", v6 ? "[" : "", settings->host,
               v6 ? "]" : "", port);
    buf_printf(out, "  python   chromadb.HttpClient(host=\"%s\", port=%u%s)\n", settings->host,
               port, settings->tls_certificate ? ", ssl=True" : "");
    const char *who = settings_check_host(&(struct settings){.host = settings->host}, false, NULL)
                          ? "no keys and insecure: anyone in reach can read and delete."
                          : "no keys: only this machine can connect.";
    buf_printf(out, "%s Ready in %" PRIu64 " ms.\n", who, (s->ready_ns - s->start_ns) / 1000000);
}

uint16_t server_port(const struct server *s)
{
    return http_server_port(s->http);
}

struct database *server_database(struct server *s)
{
    return s->database;
}

och_code server_renew_tls(struct server *s, och_error *err)
{
    return s->settings->tls_certificate ? http_server_renew_tls(s->http, err) : OCH_OK;
}

const char *server_cpu_level(void)
{
    return kernel_get()->name;
}

och_code server_probe(const char *host, uint16_t port, bool live, uint32_t timeout_ms,
                      och_error *err)
{
    struct arena arena;
    arena_init(&arena, NULL, 0);
    struct http_answer answer;
    och_code code =
        http_fetch(host, port, "GET", live ? "/api/v2/heartbeat" : "/api/v2/healthcheck", NULL, 0,
                   SLICE_NONE, timeout_ms, &arena, &answer, err);
    if (code == OCH_OK && answer.status != 200)
        code = FAIL(err, OCH_BUSY, "%s:%u answers %d: %.*s", host, port, answer.status,
                    (int)min_size(answer.body.len, 400), (const char *)answer.body.at);
    arena_done(&arena);
    return code;
}
