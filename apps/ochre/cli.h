/* SPDX-License-Identifier: Apache-2.0 */
/* What the verbs of the command line share: option tables, exit codes, errors (experience.md §2). */
#ifndef OCHRE_CLI_H
#define OCHRE_CLI_H

#include "base/buf.h"
#include "mode/settings.h"

/* Stable: scripts depend on them. */
enum cli_exit {
    EXIT_DONE = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,       /* or a wrong setting */
    EXIT_NOT_FOUND = 3,   /* no such collection, id, key, folder */
    EXIT_DAMAGED = 4,     /* damage found */
    EXIT_UNREACHABLE = 5, /* nobody answers there */
    EXIT_NOT_ALLOWED = 6,
    EXIT_IN_USE = 7, /* another process holds the folder */
    EXIT_IN_PART = 8,
    EXIT_RETRY = 9, /* refused for now */
    EXIT_INTERRUPTED = 130
};

struct cli_option {
    const char *name;  /* without dashes; a single letter is also taken behind one dash */
    const char *value; /* what stands for the value in the help; NULL: a switch */
    const char *help;
    bool is_setting; /* the setting of that name, for verbs that take only some */
};
struct cli;
struct cli_verb {
    const char *name, *also;     /* also: second spelling or NULL */
    const char *usage, *summary; /* usage: behind the verb */
    const char *examples[2];
    const struct cli_option *options;
    size_t option_count;
    bool takes_settings; /* every setting is an option too */
    size_t words_max;    /* arguments that are no options */
    int (*run)(const struct cli *cli);
};

#define CLI_GIVEN_MAX 128
#define CLI_WORDS_MAX 4
struct cli {
    const struct cli_verb *verb;
    struct setting_flag given[CLI_GIVEN_MAX]; /* options of the verb */
    size_t given_count;
    struct setting_flag settings[CLI_GIVEN_MAX];
    size_t setting_count;
    const char *words[CLI_WORDS_MAX];
    size_t word_count;
    bool json, quiet, help;
};

extern const struct cli_verb cli_verbs[];
extern const size_t cli_verb_count;
int cli_run_serve(const struct cli *cli);
int cli_run_version(const struct cli *cli);
int cli_run_health(const struct cli *cli);
int cli_run_config(const struct cli *cli);
int cli_run_check(const struct cli *cli);
int cli_run_recall(const struct cli *cli);
int cli_run_help(const struct cli *cli);

/** By name or second spelling; NULL: none. */
const struct cli_verb *cli_find_verb(const char *name);
/** Complain that there is no such verb, with the nearest name; EXIT_USAGE. */
int cli_unknown_verb(const char *name);
/** Spread the arguments behind the verb.  False: complained already, the exit code is EXIT_USAGE. */
bool cli_parse(struct cli *cli, const struct cli_verb *verb, int argc, char **argv);
/** Value of an option of the verb: NULL when not given, "" for a switch. */
const char *cli_option(const struct cli *cli, const char *name);
/** Read settings: flags, environment, the configuration file at `config` if not NULL. */
MUST_USE och_code cli_settings(const struct cli *cli, const char *config,
                               struct settings *ret_settings, och_error *err);

#define CLI_HOST_SIZE 256
/** Which server is meant: --url, else OCHRE_URL, else where the settings say that it listens. */
MUST_USE och_code cli_find_server(const struct cli *cli, char host[CLI_HOST_SIZE],
                                  uint16_t *ret_port, och_error *err);

/** How a failure of this kind leaves the process. */
int cli_exit_of(och_code code);
/** Say it on stderr, as a line or, with --json, as the error body of the HTTP API; returns the exit code. */
int cli_fail(const struct cli *cli, const och_error *err);
/** Usage, what it does, two examples. */
void cli_write_usage(const struct cli_verb *verb, struct buf *out);
/** Usage and every option. */
void cli_write_help(const struct cli_verb *verb, struct buf *out);
void cli_write_overview(struct buf *out);
/** Text as a JSON string. */
void cli_write_json(struct buf *out, slice text);
/** All of it to stdout; EXIT_DONE, or EXIT_FAILED when it cannot be written (a closed pipe is quiet). */
int cli_print(const struct buf *text);
/** All of it to stderr. */
void cli_talk(const struct buf *text);
#endif
