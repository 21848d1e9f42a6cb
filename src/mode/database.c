/* SPDX-License-Identifier: Apache-2.0 */
/* Wiring of local and single-node mode: folder, lock, catalogue, store, log, views, query, compaction, gateway; opened in that order, closed in
 * the opposite one.
 *
 * The folder: ochre.lock · catalogue.sqlite · log/ · blobs/ */
#include "mode/database.h"
#include "mode/metrics.h"

#include "base/io_sim.h"
#include "base/map.h"
#include "function/function.h"
#include "ochre/ochre.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define CACHE_SHARE 60 /* per cent of the memory limit that cached extents may take */
#define TAIL_SHARE  32 /* part of it that a tail has at most before it becomes a part */
#define HOLD_TAILS  4  /* tails' worth that wait for functions before they are flushed anyway */

struct database {
    struct database_options options;
    struct arena arena; /* paths */
    pid_t pid;
    struct io *own_io; /* memory, when there is no folder */
    struct io *io;
    struct clock *clock;
    struct trace quiet; /* when nobody listens */
    struct trace *trace;
    struct file *lock;
    struct budget budget;
    struct sysdb *sysdb;
    struct store *store;
    struct cache *cache;
    struct views *views;
    struct wal *wal;
    struct compactor *compactor;
    struct functions *functions;
    struct pool *pool;
    struct query *query;
    struct gateway *gateway;
    struct metrics_sources metrics;
};

static void write_nothing(void *user, enum trace_level level, slice line)
{
    (void)user;
    (void)level;
    (void)line;
}

/* Clients choose ids and keys; a secret seed keeps them from choosing ones that collide in our tables. */
static void seed_maps(void)
{
    static atomic_flag done = ATOMIC_FLAG_INIT;
    struct random random;
    if (atomic_flag_test_and_set(&done))
        return;
    random_seed_system(&random);
    map_set_seed(random_u64(&random));
}

static const char *path_of(struct database *d, const char *name)
{
    return arena_printf(&d->arena, "%s/%s", d->options.path, name);
}

/* ---- the lock ---- */

static och_code take_lock(struct database *d, och_error *err)
{
    slice holder = SLICE_NONE;
    och_code code = io_lock(d->io, path_of(d, "ochre.lock"), d->options.read_only, &d->arena,
                            &d->lock, &holder, err);
    if (code == OCH_IN_USE) {
        while (holder.len > 0 && holder.at[holder.len - 1] == '\n')
            holder.len--;
        return FAIL(err, OCH_IN_USE, "folder %s is in use by %.*s. Stop it, or use --url.",
                    d->options.path, SLICE_ARG(holder.len ? holder : SLICE("another process")));
    }
    TRY(code);
    if (d->options.read_only)
        return OCH_OK;
    char host[128] = "this machine";
    (void)gethostname(host, sizeof(host) - 1);
    time_t now = (time_t)(clock_wall_ns(d->clock) / 1000000000u);
    struct tm utc;
    char since[32] = "";
    if (gmtime_r(&now, &utc))
        (void)strftime(since, sizeof(since), "%Y-%m-%d %H:%M UTC", &utc);
    const char *address = d->options.address;
    const char *text =
        arena_printf(&d->arena, "pid %ld on %s%s%s%s since %s\n", (long)getpid(), host,
                     address ? " (" : "", address ? address : "", address ? ")" : "", since);
    if (!text)
        return FAIL_NO_MEMORY(err, "the lock file");
    TRY(file_truncate(d->lock, 0, err));
    return file_write(d->lock, 0, text, strlen(text), err);
}

/* A catalogue may be made only where nothing is that it would have to know (D10). */
static och_code folder_is_new(struct database *d, const char *name, bool *ret_new, och_error *err)
{
    struct io_entry *entries;
    size_t count = 0;
    och_code code = io_list(d->io, path_of(d, name), &d->arena, &entries, &count, err);
    if (code == OCH_NOT_FOUND) {
        error_clear(err);
        return OCH_OK;
    }
    TRY(code);
    *ret_new = *ret_new && count == 0;
    return OCH_OK;
}

static och_code open_folder(struct database *d, bool *ret_create, och_error *err)
{
    if (d->options.create) {
        TRY(io_make_folder(d->io, d->options.path, err));
    } else {
        struct io_entry entry;
        och_code code = io_stat(d->io, d->options.path, &entry, err);
        if (code == OCH_NOT_FOUND)
            return FAIL(err, OCH_NOT_FOUND, "there is no folder %s", d->options.path);
        TRY(code);
    }
    TRY(take_lock(d, err));
    struct io_entry entry;
    och_code code = io_stat(d->io, path_of(d, "catalogue.sqlite"), &entry, err);
    *ret_create = false;
    if (code != OCH_NOT_FOUND)
        return code;
    error_clear(err);
    bool is_new = true;
    TRY(folder_is_new(d, "log", &is_new, err));
    TRY(folder_is_new(d, "blobs", &is_new, err));
    if (!is_new)
        return FAIL(err, OCH_CORRUPT,
                    "folder %s holds a log or data but no catalogue.sqlite. Nothing was touched; "
                    "put the catalogue back, or restore a backup.",
                    d->options.path);
    if (!d->options.create || d->options.read_only)
        return FAIL(err, OCH_NOT_FOUND, "folder %s holds no database", d->options.path);
    if (io_stat(d->io, path_of(d, "chroma.sqlite3"), &entry, NULL) == OCH_OK)
        return FAIL(
            err, OCH_UNSUPPORTED,
            "folder %s holds data of Chroma (chroma.sqlite3), which is not read yet. Choose "
            "another folder, and copy through the clients.",
            d->options.path);
    *ret_create = true;
    return OCH_OK;
}

/* ---- components ---- */

static unsigned processor_count(void)
{
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    return count > 0 ? (unsigned)count : 1;
}

static och_code open_storage(struct database *d, bool create, och_error *err)
{
    const struct settings *s = d->options.settings;
    struct sysdb_options catalogue = {.io = d->io,
                                      .path = path_of(d, "catalogue.sqlite"),
                                      .clock = d->clock,
                                      .trace = d->trace,
                                      .budget = &d->budget,
                                      .retention_ms = s->version_retention,
                                      .read_only = d->options.read_only,
                                      .create = create};
    TRY(sysdb_open(&catalogue, &d->sysdb, err));
    TRY(store_folder_new(d->io, path_of(d, "blobs"), &d->store, err));
    TRY(cache_new((size_t)(s->memory_limit / 100 * CACHE_SHARE), &d->budget, &d->cache, err));
    uint64_t tail_bytes = (uint64_t)s->tail_bytes_max;
    if (s->memory_limit > 0 && tail_bytes > (uint64_t)s->memory_limit / TAIL_SHARE)
        tail_bytes = (uint64_t)s->memory_limit / TAIL_SHARE;
    struct part_env parts = {.store = d->store, .cache = d->cache, .trace = d->trace};
    struct views_options views = {.sysdb = d->sysdb,
                                  .parts = parts,
                                  .budget = &d->budget,
                                  .clock = d->clock,
                                  .trace = d->trace,
                                  .tail_rows_max = (uint32_t)s->tail_rows_max,
                                  .tail_bytes_max = tail_bytes};
    TRY(views_new(&views, &d->views, err));
    struct functions_options functions = {.sysdb = d->sysdb,
                                          .views = d->views,
                                          .cache = d->cache,
                                          .budget = &d->budget,
                                          .clock = d->clock,
                                          .trace = d->trace,
                                          .hold_rows = HOLD_TAILS * (uint64_t)s->tail_rows_max,
                                          .hold_bytes = HOLD_TAILS * tail_bytes};
    TRY(functions_new(&functions, &d->functions, err));
    static const enum wal_durability durabilities[] = {[DURABILITY_ALWAYS] = WAL_ALWAYS,
                                                       [DURABILITY_INTERVAL] = WAL_INTERVAL,
                                                       [DURABILITY_OS] = WAL_OS};
    struct wal_options log = {.io = d->io,
                              .folder = path_of(d, "log"),
                              .sysdb = d->sysdb,
                              .clock = d->clock,
                              .trace = d->trace,
                              .budget = &d->budget,
                              .sink = functions_sink(d->functions, views_sink(d->views)),
                              .durability = durabilities[s->durability.mode],
                              .interval_ms = (uint32_t)s->durability.interval_ms,
                              .segment_bytes = (uint64_t)s->log_segment_bytes,
                              .slow_bytes = (uint64_t)s->log_slow_bytes,
                              .stop_bytes = (uint64_t)s->log_stop_bytes,
                              .read_only = d->options.read_only};
    TRY(wal_open(&log, &d->wal, err));
    views_set_wal(d->views, d->wal);
    struct compactor_options compactor = {
        .views = d->views,
        .wal = d->wal,
        .sysdb = d->sysdb,
        .store = d->store,
        .parts = parts,
        .budget = &d->budget,
        .clock = d->clock,
        .trace = d->trace,
        .thread_count = s->background_threads ? (unsigned)s->background_threads : processor_count(),
        .tail_rows_max = (uint32_t)s->tail_rows_max,
        .part_rows_max = (uint32_t)s->part_rows_max,
        .tail_bytes_max = tail_bytes,
        .slow_bytes = (uint64_t)s->log_slow_bytes,
        .idle_ms = (uint32_t)s->compact_idle_ms,
        .hold = functions_hold,
        .hold_context = d->functions};
    TRY(compactor_new(&compactor, &d->compactor, err));
    views_set_wants(d->views, compactor_kick, compactor_note_expiry, d->compactor);
    if (!d->options.read_only)
        TRY(functions_load(d->functions, d->wal, d->compactor, err));
    return OCH_OK;
}

static och_code open_front(struct database *d, och_error *err)
{
    const struct settings *s = d->options.settings;
    /* A scan runs on the thread that asks and on these. */
    unsigned threads = s->threads ? (unsigned)s->threads : processor_count();
    if (threads > 1) {
        struct pool_options pool = {.name = "ochre-scan", .thread_count = threads - 1};
        TRY(pool_new(&pool, &d->pool, err));
    }
    struct query_options query = {.views = d->views,
                                  .cache = d->cache,
                                  .pool = d->pool,
                                  .clock = d->clock,
                                  .trace = d->trace,
                                  .budget = &d->budget,
                                  .correct = s->correct_recall};
    TRY(query_local_new(&query, &d->query, err));
    slice *origins = ARENA_ARRAY(&d->arena, slice, s->cors_allow_origins.count + 1);
    if (!origins)
        return FAIL_NO_MEMORY(err, "a database");
    for (size_t i = 0; i < s->cors_allow_origins.count; i++)
        origins[i] = slice_of(s->cors_allow_origins.at[i]);
    d->metrics = (struct metrics_sources){.version = OCH_VERSION,
                                          .clock = d->clock,
                                          .sysdb = d->sysdb,
                                          .wal = d->wal,
                                          .views = d->views,
                                          .query = d->query,
                                          .compactor = d->compactor,
                                          .functions = d->functions,
                                          .cache = d->cache,
                                          .budget = &d->budget};
    struct gateway_options gateway = {.sysdb = d->sysdb,
                                      .wal = d->wal,
                                      .views = d->views,
                                      .query = d->query,
                                      .compactor = d->compactor,
                                      .functions = d->options.read_only ? NULL : d->functions,
                                      .function_records = (uint64_t)s->min_records_for_invocation,
                                      .forks_max = (uint64_t)s->fork_edges_max,
                                      .budget = &d->budget,
                                      .clock = d->clock,
                                      .trace = d->trace,
                                      .allow_reset = s->allow_reset,
                                      .log_requests = s->log_requests,
                                      .body_bytes_max = (uint64_t)s->max_payload_size_bytes,
                                      .thread_count = processor_count(),
                                      .cors_origins = origins,
                                      .cors_origin_count = s->cors_allow_origins.count,
                                      .version = OCH_VERSION,
                                      .write_metrics = metrics_write,
                                      .metrics_context = &d->metrics};
    return gateway_new(&gateway, &d->gateway, err);
}

och_code database_open(const struct database_options *options, struct database **ret_database,
                       och_error *err)
{
    struct database *d = MEM_NEW(struct database);
    if (!d)
        return FAIL_NO_MEMORY(err, "a database");
    seed_maps();
    d->options = *options;
    d->pid = getpid();
    arena_init(&d->arena, NULL, 0);
    budget_init(&d->budget, options->settings->memory_limit, NULL);
    d->clock = options->clock ? options->clock : clock_system();
    d->quiet = (struct trace){.level = TRACE_ERROR, .write = write_nothing};
    d->trace = options->trace ? options->trace : &d->quiet;
    d->io = options->io ? options->io : io_posix();
    och_code code = OCH_OK;
    if (!options->path) {
        d->options.path = "memory";
        d->options.create = true;
        if (!options->io) {
            d->own_io = d->io = io_sim_new(false);
            code = d->own_io ? OCH_OK : FAIL_NO_MEMORY(err, "a database");
        }
    } else {
        d->options.path = arena_printf(&d->arena, "%s", options->path);
    }
    bool create = false;
    if (code == OCH_OK)
        code = open_folder(d, &create, err);
    if (code == OCH_OK)
        code = open_storage(d, create, err);
    if (code == OCH_OK)
        code = open_front(d, err);
    if (code == OCH_OK && options->start_compactor && !options->read_only)
        code = compactor_start(d->compactor, err);
    if (code == OCH_OK && options->start_compactor && !options->read_only)
        code = functions_start(d->functions, err);
    if (code != OCH_OK) {
        database_free(d);
        return code;
    }
    *ret_database = d;
    return OCH_OK;
}

och_code database_close(struct database *d, och_error *err)
{
    if (d->functions)
        functions_stop(d->functions);
    if (d->compactor)
        compactor_stop(d->compactor);
    if (d->query)
        query_stop(d->query);
    och_code code = d->wal ? wal_close(d->wal, err) : OCH_OK;
    och_code closed = d->sysdb ? sysdb_close(d->sysdb, code == OCH_OK ? err : NULL) : OCH_OK;
    /* Results may outlive this: they need views and cache, but no threads and no lock. */
    gateway_free(take(&d->gateway));
    query_free(take(&d->query));
    if (d->pool)
        pool_free(take(&d->pool));
    file_close(take(&d->lock));
    return code == OCH_OK ? closed : code;
}

void database_abandon(struct database *d)
{
    file_close(take(&d->lock));
}

void database_free(struct database *d)
{
    if (!d)
        return;
    if (d->functions)
        functions_stop(d->functions);
    if (d->compactor)
        compactor_stop(d->compactor);
    gateway_free(d->gateway);
    query_free(d->query);
    if (d->pool)
        pool_free(d->pool);
    functions_free(d->functions);
    compactor_free(d->compactor);
    wal_free(d->wal);
    views_free(d->views);
    cache_free(d->cache);
    store_free(d->store);
    sysdb_free(d->sysdb);
    file_close(d->lock);
    if (d->own_io)
        io_sim_free(d->own_io);
    arena_done(&d->arena);
    mem_free(d);
}

struct gateway *database_gateway(struct database *d)
{
    return d->gateway;
}
struct compactor *database_compactor(struct database *d)
{
    return d->compactor;
}
struct functions *database_functions(struct database *d)
{
    return d->functions;
}
struct sysdb *database_sysdb(struct database *d)
{
    return d->sysdb;
}
struct wal *database_wal(struct database *d)
{
    return d->wal;
}
struct views *database_views(struct database *d)
{
    return d->views;
}
struct budget *database_budget(struct database *d)
{
    return &d->budget;
}
struct clock *database_clock(struct database *d)
{
    return d->clock;
}
struct trace *database_trace(struct database *d)
{
    return d->trace;
}
void database_set_http(struct database *d, struct http_server *http,
                       void (*read)(const struct http_server *, struct http_server_stats *))
{
    if (http)
        d->metrics.read_http = read;
    /* release: pairs with the acquire in metrics.c */
    atomic_store_explicit(&d->metrics.http, http, memory_order_release);
}
bool database_is_forked(const struct database *d)
{
    return getpid() != d->pid;
}
