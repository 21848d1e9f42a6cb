/* SPDX-License-Identifier: Apache-2.0 */
/* `ochre recall`: approximate answers beside exact ones, of a folder or of a server. */
#include "cli.h"

#include "admin/recall.h"
#include "mode/server.h"
#include "ochre/ochre.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TIMEOUT_MS 600000
#define PROBE_MS   5000

/* ---- a folder as the peer ---- */

static och_code exchange_folder(void *context, const char *method, const char *target, slice body,
                                struct arena *arena, int *ret_status, slice *ret_body,
                                och_error *err)
{
    och_header header = {{"Content-Type", 12}, {"application/json", 16}};
    och_request request = OCH_REQUEST;
    request.method = och_text(method);
    request.target = och_text(target);
    request.body = (och_bytes){body.at, body.len};
    request.headers = &header;
    request.header_count = 1;
    request.deadline_ms = TIMEOUT_MS;
    och_response *response;
    TRY(och_database_exchange(context, &request, &response, err));
    och_bytes answer = och_response_body(response);
    *ret_status = och_response_status(response);
    *ret_body = arena_copy(arena, slice_make(answer.at, answer.len));
    och_response_free(response);
    return answer.len && !ret_body->at ? FAIL_NO_MEMORY(err, "an answer") : OCH_OK;
}

static och_code open_folder(const char *path, och_database **ret_database, och_error *err)
{
    och_open_options options = OCH_OPEN_OPTIONS;
    options.read_only = true;
    options.create_missing = false;
    return och_database_open(path, &options, ret_database, err);
}

/* ---- what comes out ---- */

struct output {
    const struct cli *cli;
    bool aligned; /* for eyes; else tabs and raw numbers */
    bool began;
    double fail_below;
    bool failed;
    int status;
};

static void write_head(const struct output *out, struct buf *text)
{
    if (out->aligned)
        buf_printf(text, "%-24s %12s %5s %7s %6s %7s %7s %9s %9s %9s %7s\n", "collection",
                   "records", "dim", "queries", "target", "recall", "least", "p50 ms", "p99 ms",
                   "exact ms", "lists");
    else
        buf_text(text, "collection\trecords\tdimension\tparts\tk\tqueries\ttarget\trecall\tleast\t"
                       "p50_us\tp99_us\texact_p50_us\tlists\trows_coded\n");
}

static void write_row(const struct output *out, const struct recall_line *line, struct buf *text)
{
    char target[16] = "-";
    if (line->target > 0)
        (void)snprintf(target, sizeof(target), "%.4g", line->target);
    if (out->aligned)
        buf_printf(text,
                   "%-24.*s %12" PRIu64 " %5" PRIu32 " %7" PRIu32 " %6s %7.4f %7.4f %9.3f %9.3f "
                   "%9.3f %7.1f\n",
                   SLICE_ARG(line->collection), line->records, line->dimension, line->queries,
                   target, line->recall, line->least, (double)line->p50_us / 1000,
                   (double)line->p99_us / 1000, (double)line->exact_p50_us / 1000, line->lists);
    else
        buf_printf(text,
                   "%.*s\t%" PRIu64 "\t%" PRIu32 "\t%" PRIu64 "\t%" PRIu32 "\t%" PRIu32
                   "\t%s\t%.4f\t%.4f\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t%.1f\t%.0f\n",
                   SLICE_ARG(line->collection), line->records, line->dimension, line->parts,
                   line->k, line->queries, target, line->recall, line->least, line->p50_us,
                   line->p99_us, line->exact_p50_us, line->lists, line->rows_coded);
}

static void take_line(void *context, const struct recall_line *line)
{
    struct output *out = context;
    struct buf text CLEANUP(buf_cleanup);
    buf_init(&text, 65536);
    out->failed |= line->recall < out->fail_below;
    if (out->cli->quiet)
        return;
    if (out->cli->json) {
        recall_line_write_json(line, &text);
    } else {
        if (!out->began)
            write_head(out, &text);
        write_row(out, line, &text);
    }
    out->began = true;
    int status = cli_print(&text);
    out->status = status == EXIT_DONE ? out->status : status;
}

/* ---- options ---- */

static och_code read_count(const struct cli *cli, const char *name, uint32_t fallback,
                           uint32_t most, uint32_t *ret_count, och_error *err)
{
    const char *text = cli_option(cli, name);
    *ret_count = fallback;
    if (!text)
        return OCH_OK;
    char *end;
    errno = 0;
    unsigned long number = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end || errno || number == 0 || number > most)
        return FAIL(err, OCH_SETTING,
                    "\"%s\" must be a number from 1 to %" PRIu32 ", got \"%.40s\"", name, most,
                    text);
    *ret_count = (uint32_t)number;
    return OCH_OK;
}

/* "0.9,0.95,0.99" */
static och_code read_shares(const struct cli *cli, const char *name, double least, double *shares,
                            size_t most, size_t *ret_count, och_error *err)
{
    const char *at = cli_option(cli, name);
    *ret_count = 0;
    while (at) {
        char *end;
        double share = strtod(at, &end);
        if (end == at || (*end && *end != ',') || !(share >= least && share <= 1) ||
            *ret_count == most)
            return FAIL(err, OCH_SETTING, "\"%s\" must be %s from %.1f to 1, got \"%.40s\"", name,
                        most > 1 ? "up to 16 numbers, with commas between," : "a number", least,
                        cli_option(cli, name));
        shares[(*ret_count)++] = share;
        at = *end ? end + 1 : NULL;
    }
    return OCH_OK;
}

/* The first line of a file. */
static och_code read_key(const char *path, struct arena *arena, slice *ret_key, och_error *err)
{
    char line[4096];
    struct file *file CLEANUP(file_cleanup) = NULL;
    size_t len = 0;
    TRY(io_open(io_posix(), path, 0, &file, err));
    TRY(file_read(file, 0, line, sizeof(line) - 1, &len, err));
    line[len] = '\0';
    line[strcspn(line, "\r\n")] = '\0';
    if (!line[0])
        return FAIL(err, OCH_SETTING, "the key file %s is empty", path);
    *ret_key = arena_copy(arena, slice_of(line));
    return ret_key->at ? OCH_OK : FAIL_NO_MEMORY(err, "a key");
}

static slice option_slice(const struct cli *cli, const char *name)
{
    const char *text = cli_option(cli, name);
    return text ? slice_of(text) : SLICE_NONE;
}

static och_code read_options(const struct cli *cli, struct arena *arena, double *targets,
                             struct recall_options *options, och_error *err)
{
    *options = (struct recall_options){
        .tenant = option_slice(cli, "tenant"),
        .database = option_slice(cli, "database"),
        .collection = cli->word_count ? slice_of(cli->words[0]) : SLICE_NONE,
        .targets = targets,
        .seed = 1,
    };
    const char *vectors = cli_option(cli, "vectors");
    TRY(read_count(cli, "k", 10, RECALL_K_MAX, &options->k, err));
    TRY(read_count(cli, "queries", vectors ? RECALL_QUERIES_MAX : 100, RECALL_QUERIES_MAX,
                   &options->queries, err));
    TRY(read_shares(cli, "targets", 0.5, targets, RECALL_TARGETS_MAX, &options->target_count, err));
    if (!vectors)
        return OCH_OK;
    float *floats;
    TRY(recall_read_vectors(io_posix(), vectors, arena, &floats, &options->vector_count,
                            &options->dimension, err));
    options->vectors = floats;
    return OCH_OK;
}

/* ---- the verb ---- */

static och_code ask_server(const struct cli *cli, struct recall_server *server, struct arena *arena,
                           struct recall_options *options, struct output *out, och_error *err)
{
    struct recall_peer peer;
    const char *key = cli_option(cli, "key-file");
    server->timeout_ms = TIMEOUT_MS;
    if (key)
        TRY(read_key(key, arena, &server->key, err));
    recall_peer_init_server(&peer, server);
    options->peer = &peer;
    return recall_probe(options, take_line, out, err);
}

static och_code probe_server(const struct cli *cli, struct arena *arena,
                             struct recall_options *options, struct output *out, och_error *err)
{
    char host[CLI_HOST_SIZE];
    struct recall_server server = {.host = host};
    TRY(cli_find_server(cli, host, &server.port, err));
    return ask_server(cli, &server, arena, options, out, err);
}

/* A server that holds a folder listens in it as well.  OCH_IN_USE, *err untouched: nobody does. */
static och_code probe_holder(const struct cli *cli, const char *path, struct arena *arena,
                             struct recall_options *options, struct output *out, och_error *err)
{
    och_error unanswered = {0};
    struct recall_server server = {.host = arena_printf(arena, "%s/ochre.sock", path)};
    if (!server.host)
        return FAIL_NO_MEMORY(err, "a path");
    if (server_probe(server.host, 0, true, PROBE_MS, &unanswered) != OCH_OK)
        return OCH_IN_USE;
    error_clear(err);
    return ask_server(cli, &server, arena, options, out, err);
}

static och_code probe_folder(const struct cli *cli, const char *path, struct arena *arena,
                             struct recall_options *options, struct output *out, och_error *err)
{
    och_database *database;
    och_code opened = open_folder(path, &database, err);
    if (opened == OCH_IN_USE)
        return probe_holder(cli, path, arena, options, out, err);
    TRY(opened);
    struct recall_peer peer = {.context = database, .exchange = exchange_folder};
    options->peer = &peer;
    och_code code = recall_probe(options, take_line, out, err);
    och_code closed = och_database_close(database, code == OCH_OK ? err : NULL);
    och_database_free(database);
    return code == OCH_OK ? closed : code;
}

static och_code run(const struct cli *cli, struct output *out, struct arena *arena, och_error *err)
{
    double targets[RECALL_TARGETS_MAX], below[1];
    size_t count = 0;
    struct recall_options options;
    const char *path = cli_option(cli, "path");
    if (path && cli_option(cli, "url"))
        return FAIL(err, OCH_SETTING, "--path and --url exclude each other");
    TRY(read_options(cli, arena, targets, &options, err));
    TRY(read_shares(cli, "fail-below", 0, below, 1, &count, err));
    if (count)
        out->fail_below = below[0];
    return path ? probe_folder(cli, path, arena, &options, out, err)
                : probe_server(cli, arena, &options, out, err);
}

int cli_run_recall(const struct cli *cli)
{
    och_error err = {0};
    struct arena arena;
    struct output out = {.cli = cli, .aligned = isatty(STDOUT_FILENO) == 1, .status = EXIT_DONE};
    arena_init(&arena, NULL, 0);
    och_code code = run(cli, &out, &arena, &err);
    arena_done(&arena);
    if (code != OCH_OK)
        return cli_fail(cli, &err);
    if (!out.began && !cli->quiet)
        (void)fprintf(stderr, "no collection with vectors\n");
    return out.status != EXIT_DONE ? out.status : out.failed ? EXIT_FAILED : EXIT_DONE;
}
