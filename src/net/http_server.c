/* SPDX-License-Identifier: Apache-2.0 */
/* Start, drain and end of the server. */
#include "net/http_internal.h"

#include <sys/resource.h>
#include <unistd.h>

#define LOOP_STACK_BYTES   ((size_t)512 * 1024)
#define WORKER_STACK_BYTES ((size_t)512 * 1024)
#define WORKERS_MAX        256u
#define LOOPS_MAX          64u
#define SPARE_FILES        128u /* descriptors left to the rest of the process */
#define LINGER_MS          5000u
#define HASTE_MS           500u
#define BODY_WINDOW_MS     5000u

static och_code check_options(const struct http_server_options *options, och_error *err)
{
    if ((options->tls_certificate == NULL) != (options->tls_key == NULL))
        return FAIL(err, OCH_SETTING, "TLS needs both a certificate and a key");
    if (options->worker_max > WORKERS_MAX)
        return FAIL(err, OCH_SETTING, "worker_max is %u; at most %u workers are possible",
                    options->worker_max, WORKERS_MAX);
    if (options->loop_count > LOOPS_MAX)
        return FAIL(err, OCH_SETTING, "loop_count is %u; at most %u loops are possible",
                    options->loop_count, LOOPS_MAX);
    return OCH_OK;
}

static uint32_t or_default(uint32_t value, uint32_t when_zero)
{
    return value != 0 ? value : when_zero;
}

/* Every zero becomes its default. */
static void fill_options(struct http_server_options *options)
{
    options->worker_max = or_default(options->worker_max, WORKERS_MAX);
    options->waiting_max = or_default(options->waiting_max, 1024);
    options->deadline_ms = or_default(options->deadline_ms, 60000);
    options->deadline_ms_max = or_default(options->deadline_ms_max, 600000);
    options->head_timeout_ms = or_default(options->head_timeout_ms, 10000);
    options->idle_timeout_ms = or_default(options->idle_timeout_ms, 75000);
    options->body_bytes_per_s_min = or_default(options->body_bytes_per_s_min, 1024);
    if (options->body_bytes_max == 0)
        options->body_bytes_max = 41943040;
    if (options->gzip_replies_min_bytes == 0)
        options->gzip_replies_min_bytes = 65536;
    if (options->gzip_local_max_bytes == 0)
        options->gzip_local_max_bytes = 262144;
    if (options->clock == NULL)
        options->clock = clock_system();
    if (options->loop_count == 0) {
        long cores = sysconf(_SC_NPROCESSORS_ONLN);
        options->loop_count = cores < 1 ? 1 : cores > (long)LOOPS_MAX ? LOOPS_MAX : (unsigned)cores;
    }
    struct rlimit files;
    if (options->connection_max == 0) {
        bool known = getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur != RLIM_INFINITY;
        rlim_t most = known ? files.rlim_cur : 65536;
        most = most > (rlim_t)2 * SPARE_FILES ? most - SPARE_FILES : most / 2;
        options->connection_max = most > 1000000 ? 1000000 : (unsigned)most;
    }
}

static void fill_timeouts(struct http_server *server)
{
    const struct http_server_options *options = &server->options;
    uint32_t window_ms =
        options->head_timeout_ms < BODY_WINDOW_MS ? options->head_timeout_ms : BODY_WINDOW_MS;
    uint32_t linger_ms =
        options->head_timeout_ms < LINGER_MS ? options->head_timeout_ms : LINGER_MS;
    server->timeout_ns[TIMEOUT_IDLE] = options->idle_timeout_ms * UINT64_C(1000000);
    server->timeout_ns[TIMEOUT_HEAD] = options->head_timeout_ms * UINT64_C(1000000);
    server->timeout_ns[TIMEOUT_BODY] = window_ms * UINT64_C(1000000);
    server->timeout_ns[TIMEOUT_WRITE] = options->idle_timeout_ms * UINT64_C(1000000);
    server->timeout_ns[TIMEOUT_LINGER] = linger_ms * UINT64_C(1000000);
    server->timeout_ns[TIMEOUT_HASTE] = HASTE_MS * UINT64_C(1000000);
}

static och_code server_open(struct http_server *server, och_error *err)
{
    const struct http_server_options *options = &server->options;
    if (options->tls_certificate != NULL) {
        /* read again by http_server_renew_tls() */
        server->tls_certificate =
            mem_copy_text(options->tls_certificate, strlen(options->tls_certificate));
        server->tls_key = mem_copy_text(options->tls_key, strlen(options->tls_key));
        if (server->tls_certificate == NULL || server->tls_key == NULL)
            return FAIL_NO_MEMORY(err, "the HTTP server");
        TRY(net_tls_context_new(server->tls_certificate, server->tls_key, &server->tls, err));
    }
    TRY(http_listen_open(server, err));
    size_t bytes;
    server->loops = mul_overflows(options->loop_count, sizeof(struct http_loop), &bytes)
                        ? NULL
                        : mem_zalloc(bytes);
    if (server->loops == NULL)
        return FAIL_NO_MEMORY(err, "event loops");
    while (server->loop_count < options->loop_count)
        TRY(http_loop_init(&server->loops[server->loop_count++], server, err));
    const struct pool_options pool = {.name = "http-work",
                                      .thread_count = options->worker_max,
                                      .running_max = options->running_max,
                                      .prompt = true,
                                      .stack_bytes = WORKER_STACK_BYTES};
    TRY(pool_new(&pool, &server->pool, err));
    TRY(http_listen_start(server, err));
    for (unsigned i = 0; i < server->loop_count; i++)
        TRY(thread_start(&server->loops[i].thread, "http-loop", LOOP_STACK_BYTES, http_loop_run,
                         &server->loops[i], err));
    return OCH_OK;
}

och_code http_server_start(const struct http_server_options *options,
                           struct http_server **ret_server, och_error *err)
{
    assert(options->handler.handle != NULL);
    TRY(check_options(options, err));
    struct http_server *server = MEM_NEW(struct http_server);
    if (server == NULL)
        return FAIL_NO_MEMORY(err, "the HTTP server");
    server->options = *options;
    mutex_init(&server->mutex, RANK_NET);
    cond_init(&server->changed);
    fill_options(&server->options);
    fill_timeouts(server);
    och_code code = server_open(server, err);
    if (code != OCH_OK) {
        http_server_free(server);
        return code;
    }
    *ret_server = server;
    return OCH_OK;
}

uint16_t http_server_port(const struct http_server *server)
{
    return server->port;
}

void http_server_stats(const struct http_server *server, struct http_server_stats *ret_stats)
{
    uint64_t at_work = atomic_load_explicit(&server->at_work, memory_order_relaxed);
    uint64_t running = atomic_load_explicit(&server->running, memory_order_relaxed);
    *ret_stats = (struct http_server_stats){
        .connections = atomic_load_explicit(&server->conn_count, memory_order_relaxed),
        .running = running,
        .waiting = at_work > running ? at_work - running : 0,
        .busy = atomic_load_explicit(&server->busy, memory_order_relaxed),
        .refused = atomic_load_explicit(&server->refused, memory_order_relaxed)};
}

static void set_phase(struct http_server *server, enum http_phase phase)
{
    if (http_server_phase(server) >= phase)
        return;
    atomic_store_explicit(&server->phase, phase, memory_order_release);
    for (unsigned i = 0; i < server->loop_count; i++)
        if (server->loops[i].thread.started)
            http_loop_wake(&server->loops[i]);
}

static unsigned count_running(const struct http_server *server)
{
    unsigned running = 0;
    for (unsigned i = 0; i < server->loop_count; i++)
        running += server->loops[i].thread.started;
    return running;
}

/* Cut what is left; returns when every loop has done so.  Requests at work see their cancel flag. */
static void cut(struct http_server *server)
{
    set_phase(server, PHASE_CUT);
    mutex_lock(&server->mutex);
    while (server->cut_count < count_running(server))
        cond_wait(&server->changed, &server->mutex);
    mutex_unlock(&server->mutex);
}

void http_server_drain(struct http_server *server, uint64_t deadline_mono_ns)
{
    set_phase(server, PHASE_DRAIN);
    mutex_lock(&server->mutex);
    bool in_time = true;
    while (in_time && atomic_load_explicit(&server->conn_count, memory_order_acquire) > 0)
        in_time = cond_wait_until(&server->changed, &server->mutex, deadline_mono_ns);
    mutex_unlock(&server->mutex);
    if (!in_time)
        trace_line(server->options.trace, TRACE_WARN, "net",
                   "time is up: connections are cut with requests at work", NULL);
    cut(server);
}

void http_server_free(struct http_server *server)
{
    if (server == NULL)
        return;
    cut(server);
    pool_free(server->pool); /* answers what it still has: cancelled, to cut sockets */
    set_phase(server, PHASE_STOP);
    for (unsigned i = 0; i < server->loop_count; i++)
        if (server->loops[i].thread.started)
            thread_join(&server->loops[i].thread);
    http_listen_close(server);
    for (unsigned i = 0; i < server->loop_count; i++)
        http_loop_done(&server->loops[i]);
    mem_free(server->loops);
    net_tls_context_free(server->tls);
    mem_free(server->tls_certificate);
    mem_free(server->tls_key);
    cond_done(&server->changed);
    mutex_done(&server->mutex);
    mem_free(server);
}

och_code http_server_renew_tls(struct http_server *server, och_error *err)
{
    if (server->tls == NULL)
        return FAIL(err, OCH_SETTING, "the server was started without TLS");
    struct ssl_ctx_st *fresh = NULL;
    TRY(net_tls_context_new(server->tls_certificate, server->tls_key, &fresh, err));
    mutex_lock(&server->mutex);
    struct ssl_ctx_st *old = server->tls;
    server->tls = fresh;
    mutex_unlock(&server->mutex);
    net_tls_context_free(old); /* connections hold references of their own */
    return OCH_OK;
}
