/* SPDX-License-Identifier: Apache-2.0 */
/* Names, types, defaults and bounds of all settings, and the original's names for them. */
#include "base/trace.h"
#include "mode/settings_internal.h"

#define FIELD(name_, type_) \
    .name = #name_, .type = type_, .offset = offsetof(struct settings, name_)
#define KIB 1024LL
#define MIB (1024LL * KIB)
#define GIB (1024LL * MIB)
#define TIB (1024LL * GIB)
#define DAY (24LL * 3600 * 1000)

static const char *const levels[] = {"error", "warn", "info", "debug", NULL};
static_assert(TRACE_ERROR == 0 && TRACE_WARN == 1 && TRACE_INFO == 2 && TRACE_DEBUG == 3, "levels");
static const char *const formats[] = {"text", "json", NULL};
static const char *const indexes[] = {"hnsw", "spann", NULL};

const char *const setting_type_names[TYPE_COUNT] = {
    [TYPE_STRING] = "text", [TYPE_BOOL] = "switch",   [TYPE_BYTES] = "size",
    [TYPE_MEMORY] = "size", [TYPE_INT] = "number",    [TYPE_MILLIS] = "time",
    [TYPE_LIST] = "list",   [TYPE_CHOICE] = "choice", [TYPE_DURABILITY] = "choice",
};

const struct setting_row setting_rows[] = {
    {FIELD(path, TYPE_STRING), .fallback = "./ochre",
     .help = "Folder that holds the data; made if missing."},
    {FIELD(host, TYPE_STRING), .fallback = "localhost",
     .help = "Address to listen on. An address that others can reach needs keys, or insecure."},
    {FIELD(port, TYPE_INT), .fallback = "8000", .min = 0, .max = 65535,
     .help = "TCP port to listen on; 0 takes any free one."},
    {FIELD(unix_socket, TYPE_BOOL), .fallback = "true",
     .help =
         "Also listen on the socket ochre.sock in the data folder, which command line verbs use."},
    {FIELD(insecure, TYPE_BOOL), .fallback = "false",
     .help = "Listen on an address that others can reach although no keys exist."},
    {FIELD(tls_certificate, TYPE_STRING),
     .help = "PEM file with the certificate chain; with tls_key it turns TLS on."},
    {FIELD(tls_key, TYPE_STRING), .help = "PEM file with the private key of tls_certificate."},
    {FIELD(cors_allow_origins, TYPE_LIST),
     .help = "Origins whose web pages may call the server; * is any. Unset sends no CORS headers."},
    {FIELD(allow_reset, TYPE_BOOL), .fallback = "false",
     .help = "Allow POST /api/v2/reset, which deletes everything."},
    {FIELD(gzip_replies, TYPE_BOOL), .fallback = "true",
     .help = "Compress replies for clients that accept gzip."},
    {FIELD(max_payload_size_bytes, TYPE_BYTES), .fallback = "40 MiB", .min = KIB, .max = 2 * GIB,
     .help = "Largest request body; a longer one is answered with 413."},
    {FIELD(memory_limit, TYPE_MEMORY), .fallback = "50%", .min = 64 * MIB, .max = 1024 * TIB,
     .help = "Memory for caches, tails, requests and builds together: a size, or a share of what "
             "the machine or "
             "the control group has. Work beyond it is answered with 429."},
    {FIELD(durability, TYPE_DURABILITY), .fallback = "always", .min = 1, .max = DAY,
     .help = "When a write is on disk: before it is acknowledged (always), at least once per "
             "interval, or when "
             "the system chooses (os). With the last two a power cut loses acknowledged writes."},
    {FIELD(log_segment_bytes, TYPE_BYTES), .fallback = "16 MiB", .min = MIB, .max = 2 * GIB,
     .help = "Size of a file of the write-ahead log."},
    {FIELD(log_slow_bytes, TYPE_BYTES), .fallback = "256 MiB", .min = MIB, .max = 1024 * TIB,
     .help = "Log not yet compacted from which on writers are slowed."},
    {FIELD(log_stop_bytes, TYPE_BYTES), .fallback = "1 GiB", .min = MIB, .max = 1024 * TIB,
     .help = "Log not yet compacted from which on writes are answered with 429."},
    {FIELD(log_level, TYPE_CHOICE), .fallback = "info", .choices = levels,
     .choices_text = "error, warn, info, debug",
     .help = "Least important lines that the diagnostic log shows."},
    {FIELD(log_format, TYPE_CHOICE), .fallback = "text", .choices = formats,
     .choices_text = "text, json", .help = "Form of the diagnostic log on stderr."},
    {FIELD(log_requests, TYPE_BOOL), .fallback = "false",
     .help = "A line of the diagnostic log for each request, at info: route, status, time, bytes, "
             "tenant, id."},
    {FIELD(threads, TYPE_INT), .fallback = "0", .min = 0, .max = 1024,
     .help = "Threads that search; 0 is one for each CPU."},
    {FIELD(io_threads, TYPE_INT), .fallback = "0", .min = 0, .max = 64,
     .help = "Event loops that serve connections; 0 is one for each two CPUs, at most 4."},
    {FIELD(workers, TYPE_INT), .fallback = "256", .min = 1, .max = 256,
     .help = "Requests at work at one time."},
    {FIELD(waiting, TYPE_INT), .fallback = "1024", .min = 0, .max = 1000000,
     .help = "Requests that may wait for a worker; more are answered with 429."},
    {FIELD(circuit_breaker_requests, TYPE_INT), .fallback = "0", .min = 0, .max = 1000000,
     .help = "Requests at work and waiting together; 0 leaves it to workers and waiting."},
    {FIELD(deadline_ms, TYPE_MILLIS), .fallback = "60s", .min = 1, .max = DAY,
     .help = "Time that a request may take unless it says otherwise (header Ochre-Deadline-Ms)."},
    {FIELD(deadline_max_ms, TYPE_MILLIS), .fallback = "600s", .min = 1, .max = DAY,
     .help = "Most time that a request may ask for."},
    {FIELD(idle_timeout_ms, TYPE_MILLIS), .fallback = "75s", .min = 1, .max = DAY,
     .help = "Time after which a connection without a request is closed."},
    {FIELD(head_timeout_ms, TYPE_MILLIS), .fallback = "10s", .min = 1, .max = DAY,
     .help = "Time that the head of a request may take from its first byte."},
    {FIELD(background_threads, TYPE_INT), .fallback = "0", .min = 0, .max = 1024,
     .help = "Threads that build a part when parts are merged; 0 is one for each CPU."},
    {FIELD(compact_idle_ms, TYPE_MILLIS), .fallback = "10s", .min = 0, .max = DAY,
     .help = "Time without writes after which a collection is compacted further."},
    {FIELD(correct_recall, TYPE_BOOL), .fallback = "true",
     .help = "Ask some recent queries again when idle, and search harder where they were not "
             "answered as well as promised."},
    {FIELD(tail_rows_max, TYPE_INT), .fallback = "16384", .min = 1, .max = 1000000,
     .help = "Records in the tail of a collection before they become a part."},
    {FIELD(tail_bytes_max, TYPE_BYTES), .fallback = "32 MiB", .min = 64 * KIB, .max = 2 * GIB,
     .help = "Bytes in the tail of a collection before they become a part."},
    {FIELD(part_rows_max, TYPE_INT), .fallback = "20000000", .min = 1000, .max = 1000000000,
     .help = "Most records of one part."},
    {FIELD(version_retention, TYPE_MILLIS), .fallback = "0ms", .min = 0, .max = 36500 * DAY,
     .help = "Time that a replaced version of a collection can still be read and restored; a "
             "collection's metadata ochre:version_retention_seconds says otherwise for it."},
    {FIELD(default_knn_index, TYPE_CHOICE), .fallback = "hnsw", .choices = indexes,
     .choices_text = "hnsw, spann",
     .help = "Kind of index that new collections report to clients; what is built is the same."},
    {FIELD(enable_schema, TYPE_BOOL), .fallback = "true",
     .help = "Show and accept the schema of collections."},
    {FIELD(min_records_for_invocation, TYPE_INT), .fallback = "100", .min = 1, .max = 1000000000,
     .help = "New records that trigger a run of an attached function."},
    {FIELD(fork_edges_max, TYPE_INT), .fallback = "256", .min = 1, .max = 10000,
     .help = "Forks of one collection and of its forks together; one more is answered with 422."},
};
const size_t setting_row_count = COUNT_OF(setting_rows);
static_assert(COUNT_OF(setting_rows) <= SETTING_ROW_MAX, "origins has room");

#define SAME(name)       \
    {                    \
        name, name, NULL \
    }
const struct setting_original setting_originals[] = {
    SAME("port"),
    {"listen_address", "host", NULL},
    {"persist_path", "path", NULL},
    SAME("max_payload_size_bytes"),
    SAME("allow_reset"),
    SAME("cors_allow_origins"),
    {"circuit_breaker.requests", "circuit_breaker_requests", NULL},
    SAME("default_knn_index"),
    SAME("enable_schema"),
    SAME("min_records_for_invocation"),
    {"sqlite_filename", NULL, "records are not kept in an SQLite file"},
    {"sqlitedb", NULL, "records are not kept in an SQLite file, and there are no migrations"},
    {"sysdb", NULL, "the catalogue is part of the data folder"},
    {"log", NULL, "the log is part of the data folder"},
    {"executor", NULL, "queries run in this process"},
    {"segment_manager", NULL, "the cache obeys memory_limit"},
    {"collections_with_segments_provider", NULL, "the catalogue is read in this process"},
    {"scorecard_enabled", NULL, "requests are limited by workers and waiting"},
    {"scorecard", NULL, "requests are limited by workers and waiting"},
    {"open_telemetry", NULL, "traces are not exported"},
    {"stdout_tracing", NULL, "diagnostics go to stderr, see log_level and log_format"},
    {"tenants_*", NULL, "what it switches on is on for every tenant or is never needed"},
    {"enable_transactions", NULL, "conditional transactions are always on"},
    {"enable_log_scouting", NULL, "every read sees the whole log"},
    {"enable_span_indexing", NULL, "the kind of index is the server's choice"},
    {"region", NULL, "there is one region"},
};
const size_t setting_original_count = COUNT_OF(setting_originals);
