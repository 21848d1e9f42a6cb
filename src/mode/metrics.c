/* SPDX-License-Identifier: Apache-2.0 */
/* Each component keeps its own counters and hands out a copy; here they get names.  Families are always there, so that a missing one means
 * an older version, and collections are few by construction: labels never grow with the data. */
#include "mode/metrics.h"

#include "base/metric.h"
#include "kernel/kernel.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

static void write_process(const struct metrics_sources *s, struct buf *out)
{
    struct buf labels CLEANUP(buf_cleanup);
    buf_init(&labels, BUF_MAX_NONE);
    metric_label(&labels, "version", slice_of(s->version));
    metric_label(&labels, "kernel", slice_of(kernel_get()->name));
    metric_family(out, "ochre_build_info", "gauge",
                  "Always 1; the version and the instruction set in use.");
    metric_u64(out, "ochre_build_info", metric_labels(&labels), 1);
    int64_t used = budget_used(s->budget);
    metric_one(out, "ochre_memory_used_bytes", "gauge",
               "Memory counted against the limit: cache, tails, builds, requests, catalogue.",
               used > 0 ? (uint64_t)used : 0);
    metric_one(out, "ochre_memory_limit_bytes", "gauge", "The limit (memory_limit); 0: none.",
               (uint64_t)s->budget->limit_bytes);
    struct arena arena;
    struct io_entry *entries;
    size_t count = 0;
    arena_init(&arena, NULL, 0);
    if (io_list(io_posix(), "/proc/self/fd", &arena, &entries, &count, NULL) == OCH_OK)
        metric_one(out, "process_open_fds", "gauge", "Open file descriptors of the process.",
                   count);
    arena_done(&arena);
}

static void write_http(struct metrics_sources *s, struct buf *out)
{
    struct http_server_stats stats = {0};
    /* acquire: pairs with the release in database_set_http */
    struct http_server *http = atomic_load_explicit(&s->http, memory_order_acquire);
    if (http)
        s->read_http(http, &stats);
    metric_one(out, "ochre_http_connections", "gauge", "Open connections.", stats.connections);
    metric_one(out, "ochre_http_requests_waiting", "gauge",
               "Requests that wait for a worker: the depth of the queue.", stats.waiting);
    metric_one(out, "ochre_http_busy_total", "counter",
               "Requests answered 429 because the queue was full.", stats.busy);
    metric_one(out, "ochre_http_refused_total", "counter",
               "Requests answered before any route saw them: malformed, too large, too slow.",
               stats.refused);
}

/* Rows and age of what is not in parts yet. */
static void write_backlog(const struct metrics_sources *s, struct buf *out)
{
    uint64_t rows, bytes, all_rows = 0, collections = 0;
    int64_t oldest_ms, first_ms = INT64_MAX;
    size_t cursor = 0;
    uuid id;
    while (wal_next_collection(s->wal, &cursor, &id, &rows, &bytes, &oldest_ms)) {
        all_rows += rows;
        collections++;
        first_ms = oldest_ms < first_ms ? oldest_ms : first_ms;
    }
    int64_t now_ms = (int64_t)(clock_wall_ns(s->clock) / 1000000);
    uint64_t age_ms = collections && now_ms > first_ms ? (uint64_t)(now_ms - first_ms) : 0;
    metric_one(out, "ochre_log_backlog_records", "gauge",
               "Operations in the log that are not in parts yet.", all_rows);
    metric_one(out, "ochre_log_backlog_collections", "gauge", "Collections that have such ones.",
               collections);
    metric_family(out, "ochre_log_backlog_age_seconds", "gauge", "Age of the oldest of them.");
    metric_nano(out, "ochre_log_backlog_age_seconds", NULL, age_ms * 1000000);
}

static void write_log(const struct metrics_sources *s, struct buf *out)
{
    struct wal_stats stats;
    wal_stats(s->wal, &stats);
    write_backlog(s, out);
    metric_one(out, "ochre_log_backlog_bytes", "gauge",
               "Bytes in the log that are not in parts yet; at log_slow writers are slowed.",
               stats.backlog_bytes);
    metric_one(out, "ochre_log_backlog_batches", "gauge", "Batches that make these bytes.",
               stats.backlog_batches);
    metric_one(out, "ochre_log_segments", "gauge", "Segment files.", stats.segments);
    metric_one(out, "ochre_log_appends_total", "counter", "Batches written since the start.",
               stats.appends);
    metric_one(out, "ochre_log_flushes_total", "counter",
               "Flushes to disk since the start; several batches share one.", stats.flushes);
    metric_one(out, "ochre_log_failing", "gauge",
               "1: no room on the disk, writes are refused until there is.", stats.failing);
    metric_one(out, "ochre_log_read_only", "gauge",
               "1: writing failed twice, the database must be opened anew.", stats.read_only);
}

static void write_compaction(const struct metrics_sources *s, struct buf *out)
{
    struct compactor_stats stats = {0};
    if (s->compactor)
        compactor_stats(s->compactor, &stats);
    static const char runs[] = "ochre_compaction_runs_total";
    metric_family(out, runs, "counter",
                  "Finished runs since the start: flushes make tails parts, merges join parts.");
    metric_u64(out, runs, "kind=\"flush\"", stats.flushes);
    metric_u64(out, runs, "kind=\"merge\"", stats.merges);
    metric_one(out, "ochre_compaction_failures_total", "counter",
               "Runs that failed; they are tried again.", stats.failures);
    metric_one(out, "ochre_compaction_rows_total", "counter", "Rows written to parts.",
               stats.rows_written);
    metric_one(out, "ochre_compaction_reclaimed_bytes_total", "counter",
               "Bytes on disk given back.", stats.bytes_reclaimed);
}

static void write_functions(const struct metrics_sources *s, struct buf *out)
{
    struct functions_stats stats = {0};
    if (s->functions)
        functions_stats(s->functions, &stats);
    metric_one(out, "ochre_functions_attached", "gauge",
               "Attached functions, once for each of their inputs.", stats.attached);
    metric_one(out, "ochre_functions_failing", "gauge", "Those whose last run failed.",
               stats.failing);
    metric_one(out, "ochre_functions_waiting_records", "gauge",
               "Operations of their inputs that they have not consumed yet.", stats.waiting);
    metric_one(out, "ochre_functions_runs_total", "counter", "Runs that ended well.", stats.runs);
    metric_one(out, "ochre_functions_rebuilds_total", "counter",
               "Those of them that made the output anew from all records of the input.",
               stats.rebuilds);
    metric_one(out, "ochre_functions_failures_total", "counter",
               "Runs that failed; they are tried again.", stats.failures);
    metric_one(out, "ochre_functions_consumed_records_total", "counter",
               "Operations of inputs consumed.", stats.consumed);
    metric_one(out, "ochre_functions_written_records_total", "counter",
               "Records written to and deleted from outputs.", stats.written);
}

static void write_cache(const struct metrics_sources *s, struct buf *out)
{
    static const char *const heats[CACHE_HEATS] = {[CACHE_COLD] = "heat=\"cold\"",
                                                   [CACHE_WARM] = "heat=\"warm\"",
                                                   [CACHE_HOT] = "heat=\"hot\""};
    struct cache_stats stats;
    cache_stats(s->cache, &stats);
    metric_family(out, "ochre_cache_hits_total", "counter",
                  "Pieces of parts found in memory, by heat (index heads are hot, codes warm, "
                  "records cold).");
    for (size_t i = 0; i < CACHE_HEATS; i++)
        metric_u64(out, "ochre_cache_hits_total", heats[i], stats.heat[i].hits);
    metric_family(out, "ochre_cache_misses_total", "counter", "Pieces read from disk.");
    for (size_t i = 0; i < CACHE_HEATS; i++)
        metric_u64(out, "ochre_cache_misses_total", heats[i], stats.heat[i].misses);
    metric_family(out, "ochre_cache_bytes", "gauge", "Bytes held.");
    for (size_t i = 0; i < CACHE_HEATS; i++)
        metric_u64(out, "ochre_cache_bytes", heats[i], stats.heat[i].bytes);
    metric_one(out, "ochre_cache_pinned_bytes", "gauge", "Bytes of them in use right now.",
               stats.pinned_bytes);
    metric_one(out, "ochre_cache_evictions_total", "counter", "Pieces let go for others.",
               stats.evictions);
}

static void write_recall(const struct metrics_sources *s, struct buf *out)
{
    struct query_stats stats;
    query_stats(s->query, &stats);
    metric_one(out, "ochre_recall_corrections_total", "counter",
               "Times that a collection's effort was measured by asking real queries again.",
               stats.corrections);
    metric_one(out, "ochre_recall_queries_rerun_total", "counter",
               "Queries run again for it, each at several efforts.", stats.asked);
    metric_family(out, "ochre_recall_correction_seconds_total", "counter",
                  "Time spent on it, beside the queries of clients.");
    metric_nano(out, "ochre_recall_correction_seconds_total", NULL, stats.correction_ns);
    metric_one(out, "ochre_recall_remembered_queries", "gauge", "Queries kept for it.",
               stats.remembered);
    metric_one(out, "ochre_recall_corrected_collections", "gauge",
               "Collections whose searches go further than calibrated, to reach their recall.",
               stats.corrected);
    metric_family(out, "ochre_recall_effort_max", "gauge",
                  "The largest factor by which one does; 1: none.");
    bool sane = isfinite(stats.effort_max) && stats.effort_max >= 0;
    metric_nano(out, "ochre_recall_effort_max", NULL,
                sane ? (uint64_t)((double)stats.effort_max * 1e9) : 0);
}

/* ---- collections ---- */

/* Labels of one; without the catalogue's answer (dropped meanwhile) the id must do. */
static void collection_labels(const struct metrics_sources *s, uuid id, struct buf *labels)
{
    char text[UUID_TEXT_SIZE];
    const struct sysdb_collection *c CLEANUP(sysdb_collection_cleanup) = NULL;
    och_code code = sysdb_collection_get(s->sysdb, SLICE_NONE, SLICE_NONE, id, &c, NULL);
    buf_clear(labels);
    metric_label(labels, "collection", slice_of(uuid_format(id, text)));
    metric_label(labels, "tenant", code == OCH_OK ? c->tenant : SLICE(""));
    metric_label(labels, "database", code == OCH_OK ? c->database : SLICE(""));
    metric_label(labels, "name", code == OCH_OK ? c->name : SLICE(""));
}

static void write_largest(const struct metrics_sources *s, struct buf *out)
{
    static const struct {
        const char *name, *help;
        size_t at;
    } families[] = {
        {"ochre_collection_records", "Records, of the largest collections in memory.",
         offsetof(struct views_usage, live_rows)},
        {"ochre_collection_stored_rows",
         "Rows in parts and tail, replaced and deleted ones too: what is above the records is "
         "dead.",
         offsetof(struct views_usage, stored_rows)},
        {"ochre_collection_parts", "Parts.", offsetof(struct views_usage, parts)},
        {"ochre_collection_part_bytes", "Bytes of the parts on disk.",
         offsetof(struct views_usage, part_bytes)},
        {"ochre_collection_tail_rows", "Operations that are not in parts yet.",
         offsetof(struct views_usage, tail_rows)},
        {"ochre_collection_tail_bytes", "Their bytes, in memory and in the log.",
         offsetof(struct views_usage, tail_bytes)},
        {"ochre_collection_damaged_parts", "Parts with a damaged section.",
         offsetof(struct views_usage, damaged_parts)},
    };
    struct views_usage rows[METRICS_COLLECTIONS];
    struct buf labels[METRICS_COLLECTIONS];
    const char *texts[METRICS_COLLECTIONS];
    size_t count = views_largest(s->views, rows, METRICS_COLLECTIONS);
    for (size_t i = 0; i < count; i++) {
        buf_init(&labels[i], BUF_MAX_NONE);
        collection_labels(s, rows[i].collection, &labels[i]);
        texts[i] = metric_labels(&labels[i]);
    }
    for (size_t f = 0; f < COUNT_OF(families); f++) {
        metric_family(out, families[f].name, "gauge", families[f].help);
        for (size_t i = 0; i < count; i++) {
            uint64_t value;
            memcpy(&value, (const char *)&rows[i] + families[f].at, sizeof(value));
            metric_u64(out, families[f].name, texts[i], value);
        }
    }
    for (size_t i = 0; i < count; i++)
        buf_done(&labels[i]);
}

static void write_views(const struct metrics_sources *s, struct buf *out)
{
    struct views_stats stats;
    views_stats(s->views, &stats);
    metric_one(out, "ochre_collections_loaded", "gauge", "Collections in memory.",
               stats.collections_loaded);
    metric_one(out, "ochre_tail_rows", "gauge", "Rows in memory that are not in parts yet.",
               stats.tail_rows);
    metric_one(out, "ochre_tail_bytes", "gauge", "Their bytes.", stats.tail_bytes);
    metric_one(out, "ochre_damaged_parts", "gauge",
               "Parts of loaded collections with a damaged section: answers are right but slower "
               "until it is rebuilt, or an error for some rows.",
               stats.damaged_parts);
    write_largest(s, out);
}

void metrics_write(void *context, struct buf *out)
{
    struct metrics_sources *s = context;
    write_process(s, out);
    write_http(s, out);
    write_log(s, out);
    write_compaction(s, out);
    write_functions(s, out);
    write_cache(s, out);
    write_recall(s, out);
    write_views(s, out);
}
