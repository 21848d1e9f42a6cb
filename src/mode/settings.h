/* SPDX-License-Identifier: Apache-2.0 */
/* Every setting of the product, from one table: flag over environment over YAML file over default, always (X28).
 * Also understood: the keys and variables of the original (http-api.md §13), mapped onto ours or explained. */
#ifndef MODE_SETTINGS_H
#define MODE_SETTINGS_H

#include "base/buf.h"
#include "base/io.h"

enum durability {
    DURABILITY_ALWAYS,   /* synced before it is acknowledged */
    DURABILITY_INTERVAL, /* synced at least that often; a power cut may take the last interval */
    DURABILITY_OS        /* written before it is acknowledged, synced when the system likes */
};
struct setting_durability {
    int mode;            /* enum durability */
    int64_t interval_ms; /* of DURABILITY_INTERVAL */
};
enum setting_index { SETTING_INDEX_HNSW, SETTING_INDEX_SPANN };
enum setting_log_format { SETTING_LOG_TEXT, SETTING_LOG_JSON };

struct setting_list {
    const char **at;
    size_t count;
};
enum setting_source { SETTING_DEFAULT, SETTING_FILE, SETTING_ENVIRONMENT, SETTING_FLAG };
struct setting_origin {
    uint8_t source;    /* enum setting_source */
    const char *where; /* file, variable or flag; NULL for a default */
    unsigned line;     /* in the file, else 0 */
};
#define SETTING_ROW_MAX 48

/** All values; what is NULL or 0 by default is said in docs/settings.md. */
struct settings {
    const char *path, *host, *tls_certificate, *tls_key;
    int64_t port;
    bool unix_socket, allow_reset, insecure, enable_schema, gzip_replies, correct_recall,
        log_requests;
    struct setting_list cors_allow_origins;
    int64_t max_payload_size_bytes, memory_limit; /* memory_limit is resolved: never 0 */
    struct setting_durability durability;
    int64_t log_segment_bytes, log_slow_bytes, log_stop_bytes;
    int log_level;  /* enum trace_level */
    int log_format; /* enum setting_log_format */
    int64_t threads, io_threads, workers, waiting,
        background_threads; /* 0: as many as the machine suggests */
    int64_t deadline_ms, deadline_max_ms, idle_timeout_ms, head_timeout_ms;
    int64_t circuit_breaker_requests; /* 0: none but workers + waiting */
    int64_t compact_idle_ms, tail_rows_max, tail_bytes_max, part_rows_max;
    int64_t version_retention; /* ms */
    int default_knn_index;     /* enum setting_index */
    int64_t min_records_for_invocation, fork_edges_max;

    struct setting_origin origins[SETTING_ROW_MAX]; /* by row, see setting_describe */
    const char *
        *notes; /* sentences worth a line in the log: what was understood and has no effect */
    size_t note_count;
    struct arena arena; /* holds all texts */
};

struct setting_flag {
    const char
        *name; /* "port", "memory-limit"; dashes and underscores alike, leading dashes optional */
    const char *value; /* NULL: a switch, on */
};
struct settings_input {
    const struct setting_flag *flags;
    size_t flag_count;
    char *const *environment; /* as environ; NULL: none */
    const char *yaml_path;    /* NULL: none.  Read through `io` */
    slice yaml_text;          /* instead of a file; at == NULL: none */
    struct io *io;            /* NULL: io_posix().  Also where the machine's memory is read */
};

/**
 * Read all sources.
 * Errors: OCH_SETTING naming place, setting, expected and got (unknown settings get the nearest name); OCH_IO, OCH_NOT_FOUND for the
 * file; OCH_NO_MEMORY.  On error nothing needs settings_done.
 * Ownership: all texts are copies in ret_settings->arena.
 */
MUST_USE och_code settings_init(const struct settings_input *input, struct settings *ret_settings,
                                och_error *err);
void settings_done(struct settings *settings);
/** Refuse an address that others can reach while there are no keys and no `insecure` (X30). */
MUST_USE och_code settings_check_host(const struct settings *settings, bool have_keys,
                                      och_error *err);

/** `config print`: YAML that reads back to the same settings, each line with its origin; secrets as ***. */
void settings_print(const struct settings *settings, struct buf *out);
/** The settings that differ from their defaults, `name=value` with blanks between; for the first line of the log. */
void settings_print_changed(const struct settings *settings, struct buf *out);

struct setting_info {
    const char *name;     /* "memory_limit" */
    const char *type;     /* "size" */
    const char *fallback; /* "50%"; NULL: unset */
    const char *help;     /* one sentence or two */
    const char *choices;  /* "always, interval:TIME, os" or NULL */
    bool secret, is_switch;
};
/** The i-th setting, for --help, completion and documents; false past the end. */
bool setting_describe(size_t i, struct setting_info *ret_info);
/** docs/settings.md. */
void settings_write_docs(struct buf *out);
#endif
