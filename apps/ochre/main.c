/* SPDX-License-Identifier: Apache-2.0 */
/* The one executable: a table of verbs. */
#include "cli.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#ifdef OCHRE_JEMALLOC
/* Read by the allocator before main: give memory back within a second, from a thread of its own; one arena a processor, whatever the number
 * of threads, and threads keep only small pieces for themselves, since what one request frees another can use then. */
__attribute__((visibility("default"))) const char *malloc_conf =
    "background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0,percpu_arena:percpu,tcache_max:"
    "4096";
#endif

static const struct cli_option health_options[] = {
    {"live", NULL, "does it answer at all?", false},
    {"ready", NULL, "can it also write? (the default)", false},
    {"url", "URL", "the server [$OCHRE_URL, else where the settings say it listens]", false},
    {"host", "TEXT", "its address [localhost]", true},
    {"port", "NUMBER", "its port [8000]", true},
};
static const struct cli_option check_options[] = {
    {"path", "DIR", "the folder [./ochre]", true},
    {"deep", NULL, "also look up every id in every part", false},
};

static const struct cli_option recall_options[] = {
    {"k", "NUMBER", "nearest neighbours that are asked for [10]", false},
    {"queries", "NUMBER", "stored records that are asked for theirs [100]", false},
    {"vectors", "FILE", "ask these vectors instead: .npy of float32, else bare float32", false},
    {"targets", "LIST", "recalls to aim at, a line each, 0.9,0.99 [the collection's effort]",
     false},
    {"fail-below", "NUMBER", "exit 1 when a recall is lower", false},
    {"path", "DIR", "a folder: opened read-only, or asked through its server if one holds it",
     false},
    {"url", "URL", "the server [$OCHRE_URL, else where the settings say it listens]", false},
    {"key-file", "FILE", "the key for the server is this file's first line", false},
    {"tenant", "TEXT", "whose collections [default_tenant]", false},
    {"database", "TEXT", "in which database [default_database]", false},
};

const struct cli_verb cli_verbs[] = {
    {.name = "serve",
     .also = "run",
     .usage = "[CONFIG] [--path DIR] [--host NAME] [--port N]",
     .summary = "Serve one folder over HTTP until SIGTERM or SIGINT.",
     .examples = {"ochre serve --path ./ochre", "ochre serve /etc/ochre.yaml --port 8001"},
     .takes_settings = true,
     .words_max = 1,
     .run = cli_run_serve},
    {.name = "health",
     .usage = "[--live|--ready] [--url URL]",
     .summary = "Ask a server how it is: exit 0, 5 (nobody answers) or 9 (not ready).",
     .examples = {"ochre health", "ochre health --live --url http://localhost:8001"},
     .options = health_options,
     .option_count = COUNT_OF(health_options),
     .run = cli_run_health},
    {.name = "config",
     .usage = "print|check [CONFIG]",
     .summary = "Show every setting with its origin, or only tell whether all are sound.",
     .examples = {"ochre config print", "ochre config check /etc/ochre.yaml"},
     .takes_settings = true,
     .words_max = 2,
     .run = cli_run_config},
    {.name = "check",
     .usage = "--path DIR [--deep]",
     .summary =
         "Verify a folder that no server holds, every byte of it: exit 4 when damage is found.",
     .examples = {"ochre check --path ./ochre", "ochre check --path ./ochre --deep --json"},
     .options = check_options,
     .option_count = COUNT_OF(check_options),
     .run = cli_run_check},
    {.name = "recall",
     .usage = "[COLLECTION] [-k N] [--queries N] [--path DIR|--url URL]",
     .summary = "Measure how many of the true nearest neighbours queries find, and how fast.",
     .examples = {"ochre recall docs -k 10 --queries 100",
                  "ochre recall --path ./ochre --targets 0.9,0.95,0.99 --json"},
     .options = recall_options,
     .option_count = COUNT_OF(recall_options),
     .words_max = 1,
     .run = cli_run_recall},
    {.name = "version",
     .usage = "",
     .summary = "Show the version and the instruction set in use.",
     .examples = {"ochre version", "ochre version --json"},
     .run = cli_run_version},
    {.name = "help",
     .usage = "[VERB]",
     .summary = "Explain a verb.",
     .examples = {"ochre help", "ochre help serve"},
     .words_max = 1,
     .run = cli_run_help},
};
const size_t cli_verb_count = COUNT_OF(cli_verbs);

int main(int argc, char **argv)
{
    (void)signal(SIGPIPE, SIG_IGN);
    struct buf text CLEANUP(buf_cleanup);
    buf_init(&text, 1u << 20);
    if (argc < 2) {
        cli_write_overview(&text);
        cli_talk(&text);
        return EXIT_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        name = "help";
    else if (strcmp(name, "--version") == 0)
        name = "version";
    const struct cli_verb *verb = cli_find_verb(name);
    if (!verb)
        return cli_unknown_verb(name);
    static struct cli cli;
    if (!cli_parse(&cli, verb, argc - 2, argv + 2))
        return EXIT_USAGE;
    if (!cli.help)
        return verb->run(&cli);
    cli_write_help(verb, &text);
    return cli_print(&text);
}
