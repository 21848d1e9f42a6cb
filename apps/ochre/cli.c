/* SPDX-License-Identifier: Apache-2.0 */
/* Arguments by tables, nearest names, help, errors and exit codes. */
#include "cli.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- nearest names ---- */

#define NAME_MAX_SHOWN 40

static char plain(char c)
{
    return c == '_' ? '-' : c;
}

static bool same_name(const char *a, size_t len, const char *b)
{
    if (strlen(b) != len)
        return false;
    for (size_t i = 0; i < len; i++)
        if (plain(a[i]) != plain(b[i]))
            return false;
    return true;
}

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
    unsigned ab = a < b ? a : b;
    return ab < c ? ab : c;
}

/* Edit distance; swapped neighbours count once. */
static unsigned distance(const char *a, size_t a_len, const char *b)
{
    unsigned rows[3][NAME_MAX_SHOWN + 1];
    size_t b_len = strlen(b);
    if (a_len > NAME_MAX_SHOWN || b_len > NAME_MAX_SHOWN)
        return NAME_MAX_SHOWN;
    for (size_t j = 0; j <= b_len; j++)
        rows[0][j] = (unsigned)j;
    for (size_t i = 1; i <= a_len; i++) {
        unsigned *now = rows[i % 3], *before = rows[(i + 2) % 3], *two = rows[(i + 1) % 3];
        now[0] = (unsigned)i;
        for (size_t j = 1; j <= b_len; j++) {
            unsigned change = plain(a[i - 1]) == plain(b[j - 1]) ? 0 : 1;
            now[j] = min3(before[j] + 1, now[j - 1] + 1, before[j - 1] + change);
            if (i > 1 && j > 1 && plain(a[i - 1]) == plain(b[j - 2]) &&
                plain(a[i - 2]) == plain(b[j - 1]) && two[j - 2] + 1 < now[j])
                now[j] = two[j - 2] + 1;
        }
    }
    return rows[a_len % 3][b_len];
}

struct nearest {
    const char *wanted;
    size_t len;
    const char *name;
    unsigned distance;
};

static struct nearest nearest_begin(const char *wanted, size_t len)
{
    return (struct nearest){.wanted = wanted, .len = len, .distance = len <= 4 ? 2 : 3};
}

static void nearest_offer(struct nearest *n, const char *name)
{
    unsigned d = name ? distance(n->wanted, n->len, name) : UINT32_MAX;
    if (d < n->distance) {
        n->distance = d;
        n->name = name;
    }
}

/* ---- verbs ---- */

const struct cli_verb *cli_find_verb(const char *name)
{
    for (size_t i = 0; i < cli_verb_count; i++) {
        const struct cli_verb *verb = &cli_verbs[i];
        if (strcmp(verb->name, name) == 0 || (verb->also && strcmp(verb->also, name) == 0))
            return verb;
    }
    return NULL;
}

int cli_unknown_verb(const char *name)
{
    struct nearest n = nearest_begin(name, strlen(name));
    for (size_t i = 0; i < cli_verb_count; i++) {
        nearest_offer(&n, cli_verbs[i].name);
        nearest_offer(&n, cli_verbs[i].also);
    }
    (void)fprintf(stderr, "ochre: no verb \"%.40s\". ", name);
    if (n.name)
        (void)fprintf(stderr, "Did you mean \"%s\"?\n", n.name);
    else
        (void)fprintf(stderr, "\"ochre help\" lists them.\n");
    return EXIT_USAGE;
}

/* ---- options ---- */

static const struct cli_option common[] = {
    {"json", NULL, "answer in JSON", false},
    {"quiet", NULL, "say only what is asked for", false},
    {"help", NULL, "show this", false},
};

static const struct cli_option *find_option(const struct cli_option *options, size_t count,
                                            const char *name, size_t len)
{
    for (size_t i = 0; i < count; i++)
        if (same_name(name, len, options[i].name))
            return &options[i];
    return NULL;
}

static bool find_setting(const char *name, size_t len, struct setting_info *ret_info)
{
    for (size_t i = 0; setting_describe(i, ret_info); i++)
        if (same_name(name, len, ret_info->name))
            return true;
    return false;
}

static bool unknown_option(const struct cli_verb *verb, const char *name, size_t len)
{
    struct nearest n = nearest_begin(name, len);
    struct setting_info info;
    for (size_t i = 0; i < verb->option_count; i++)
        nearest_offer(&n, verb->options[i].name);
    for (size_t i = 0; i < COUNT_OF(common); i++)
        nearest_offer(&n, common[i].name);
    for (size_t i = 0; verb->takes_settings && setting_describe(i, &info); i++)
        nearest_offer(&n, info.name);
    (void)fprintf(stderr, "ochre: \"%s\" has no option \"--%.*s\". ", verb->name,
                  (int)min_size(len, NAME_MAX_SHOWN), name);
    if (n.name) {
        char shown[NAME_MAX_SHOWN + 1] = "";
        for (size_t i = 0; n.name[i] && i < NAME_MAX_SHOWN; i++)
            shown[i] = plain(n.name[i]);
        (void)fprintf(stderr, "Did you mean \"--%s\"?\n", shown);
    } else {
        (void)fprintf(stderr, "\"ochre %s --help\" lists them.\n", verb->name);
    }
    return false;
}

static bool put(struct setting_flag *list, size_t *count, const char *name, const char *value)
{
    if (*count == CLI_GIVEN_MAX) {
        (void)fprintf(stderr, "ochre: more than %d options\n", CLI_GIVEN_MAX);
        return false;
    }
    list[(*count)++] = (struct setting_flag){name, value};
    return true;
}

/* One "--name", "--name=value" or "--name value" at argv[*at]; with one dash: "-k value". */
static bool parse_option(struct cli *cli, int argc, char **argv, int *at)
{
    const struct cli_verb *verb = cli->verb;
    const char *name = argv[*at] + (argv[*at][1] == '-' ? 2 : 1);
    size_t len = strcspn(name, "=");
    const char *value = name[len] == '=' ? name + len + 1 : NULL;
    const struct cli_option *option = find_option(verb->options, verb->option_count, name, len);
    bool own = option != NULL;
    struct setting_info info = {0};
    bool setting = !own && verb->takes_settings && find_setting(name, len, &info);
    if (!option)
        option = find_option(common, COUNT_OF(common), name, len);
    if (!setting && !option)
        return unknown_option(verb, name, len);
    bool is_switch = setting ? info.is_switch : !option->value;
    if (!is_switch && !value) {
        if (*at + 1 >= argc) {
            (void)fprintf(stderr, "ochre: \"--%s\" needs a value\n", name);
            return false;
        }
        value = argv[++*at];
    }
    if (setting || (own && option->is_setting))
        return put(cli->settings, &cli->setting_count, setting ? info.name : option->name, value);
    if (is_switch && value) {
        (void)fprintf(stderr, "ochre: \"--%.*s\" takes no value\n", (int)len, name);
        return false;
    }
    if (own)
        return put(cli->given, &cli->given_count, option->name, value ? value : "");
    cli->json |= strcmp(option->name, "json") == 0;
    cli->quiet |= strcmp(option->name, "quiet") == 0;
    cli->help |= strcmp(option->name, "help") == 0;
    return true;
}

static bool parse_word(struct cli *cli, const char *word)
{
    if (cli->word_count < cli->verb->words_max && cli->word_count < CLI_WORDS_MAX) {
        cli->words[cli->word_count++] = word;
        return true;
    }
    (void)fprintf(stderr, "ochre: \"%s\" does not know what to do with \"%.40s\"\n",
                  cli->verb->name, word);
    return false;
}

bool cli_parse(struct cli *cli, const struct cli_verb *verb, int argc, char **argv)
{
    *cli = (struct cli){.verb = verb};
    bool options_end = false;
    for (int at = 0; at < argc; at++) {
        const char *arg = argv[at];
        bool sound;
        if (options_end || arg[0] != '-' || arg[1] == '\0') {
            sound = parse_word(cli, arg);
        } else if (strcmp(arg, "--") == 0) {
            options_end = sound = true;
        } else if (strcmp(arg, "-h") == 0) {
            cli->help = sound = true;
        } else if (strcmp(arg, "-q") == 0) {
            cli->quiet = sound = true;
        } else if (arg[1] == '-' ||
                   (!arg[2] && find_option(verb->options, verb->option_count, arg + 1, 1))) {
            sound = parse_option(cli, argc, argv, &at);
        } else {
            (void)fprintf(stderr, "ochre: no option \"%.40s\". \"ochre %s --help\" lists them.\n",
                          arg, verb->name);
            sound = false;
        }
        if (!sound)
            return false;
    }
    return true;
}

const char *cli_option(const struct cli *cli, const char *name)
{
    const char *value = NULL;
    for (size_t i = 0; i < cli->given_count; i++)
        if (strcmp(cli->given[i].name, name) == 0)
            value = cli->given[i].value;
    return value;
}

och_code cli_settings(const struct cli *cli, const char *config, struct settings *ret_settings,
                      och_error *err)
{
    struct settings_input input = {.flags = cli->settings,
                                   .flag_count = cli->setting_count,
                                   .environment = environ,
                                   .yaml_path = config};
    return settings_init(&input, ret_settings, err);
}

/* ---- help ---- */

static void write_option(struct buf *out, const char *name, const char *value, const char *help)
{
    buf_text(out, "  --");
    size_t start = out->len;
    for (const char *c = name; *c; c++)
        buf_byte(out, (uint8_t)plain(*c));
    if (value)
        buf_printf(out, " %s", value);
    while (!out->failed && out->len < start + 34)
        buf_byte(out, ' ');
    buf_printf(out, " %s\n", help);
}

static void write_settings(struct buf *out)
{
    struct setting_info info;
    buf_text(out, "\nSettings, also from the configuration file and from variables like "
                  "OCHRE_MEMORY_LIMIT:\n");
    for (size_t i = 0; setting_describe(i, &info); i++) {
        char value[64] = "";
        (void)snprintf(value, sizeof(value), "%s", info.type);
        for (char *c = value; *c; c++)
            *c = *c >= 'a' && *c <= 'z' ? (char)(*c - 'a' + 'A') : *c;
        struct buf help CLEANUP(buf_cleanup);
        buf_init(&help, 4096);
        buf_text(&help, info.help);
        if (info.choices)
            buf_printf(&help, " One of %s.", info.choices);
        if (info.fallback && !info.is_switch)
            buf_printf(&help, " [%s]", info.fallback);
        buf_byte(&help, 0);
        if (buf_check(&help, "help", NULL) == OCH_OK)
            write_option(out, info.name, info.is_switch ? NULL : value, (const char *)help.at);
    }
}

void cli_write_usage(const struct cli_verb *verb, struct buf *out)
{
    buf_printf(out, "usage: ochre %s%s%s%s%s%s\n\n%s\n\n", verb->name, verb->usage[0] ? " " : "",
               verb->usage, verb->also ? "   (also: " : "", verb->also ? verb->also : "",
               verb->also ? ")" : "", verb->summary);
    for (size_t i = 0; i < COUNT_OF(verb->examples); i++)
        if (verb->examples[i])
            buf_printf(out, "  $ %s\n", verb->examples[i]);
}

void cli_write_help(const struct cli_verb *verb, struct buf *out)
{
    cli_write_usage(verb, out);
    buf_byte(out, '\n');
    for (size_t i = 0; i < verb->option_count; i++)
        write_option(out, verb->options[i].name, verb->options[i].value, verb->options[i].help);
    for (size_t i = 0; i < COUNT_OF(common); i++)
        write_option(out, common[i].name, common[i].value, common[i].help);
    if (verb->takes_settings)
        write_settings(out);
}

void cli_write_overview(struct buf *out)
{
    buf_text(out, "usage: ochre VERB [OPTION...]\n\n");
    for (size_t i = 0; i < cli_verb_count; i++)
        buf_printf(out, "  %-10s %s\n", cli_verbs[i].name, cli_verbs[i].summary);
    buf_text(out, "\n  $ ochre serve --path ./ochre\n  $ ochre help serve\n");
}

/* ---- output ---- */

int cli_exit_of(och_code code)
{
    switch (code) {
    case OCH_OK:
        return EXIT_DONE;
    case OCH_INVALID:
    case OCH_SHAPE:
    case OCH_SETTING:
        return EXIT_USAGE;
    case OCH_NOT_FOUND:
        return EXIT_NOT_FOUND;
    case OCH_CORRUPT:
        return EXIT_DAMAGED;
    case OCH_UNAVAILABLE:
    case OCH_DEADLINE:
        return EXIT_UNREACHABLE;
    case OCH_UNAUTHENTICATED:
    case OCH_FORBIDDEN:
        return EXIT_NOT_ALLOWED;
    case OCH_IN_USE:
        return EXIT_IN_USE;
    case OCH_BUSY:
        return EXIT_RETRY;
    case OCH_CANCELLED:
        return EXIT_INTERRUPTED;
    default:
        return EXIT_FAILED;
    }
}

void cli_write_json(struct buf *out, slice text)
{
    buf_byte(out, '"');
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.at[i];
        if (c == '"' || c == '\\') {
            buf_byte(out, '\\');
            buf_byte(out, c);
        } else if (c < 0x20 || c == 0x7f) {
            buf_printf(out, "\\u%04x", c);
        } else {
            buf_byte(out, c);
        }
    }
    buf_byte(out, '"');
}

int cli_fail(const struct cli *cli, const och_error *err)
{
    if (!cli->json) {
        (void)fprintf(stderr, "ochre: %s\n", err->message);
        return cli_exit_of(err->code);
    }
    struct buf line CLEANUP(buf_cleanup);
    buf_init(&line, 16384);
    buf_text(&line, "{\"error\":\"ChromaError\",\"message\":");
    cli_write_json(&line, slice_of(err->message));
    buf_printf(&line, ",\"code\":\"%s\"}\n", error_code_name(err->code));
    cli_talk(&line);
    return cli_exit_of(err->code);
}

static bool write_to(int fd, const struct buf *text)
{
    for (size_t at = 0; at < text->len;) {
        ssize_t done = write(fd, text->at + at, text->len - at);
        if (done > 0)
            at += (size_t)done;
        else if (errno != EINTR)
            return false;
    }
    return !text->failed;
}

int cli_print(const struct buf *text)
{
    if (write_to(STDOUT_FILENO, text) || errno == EPIPE)
        return EXIT_DONE;
    (void)fprintf(stderr, "ochre: cannot write the answer: %s\n",
                  text->failed ? "no memory" : strerror(errno));
    return EXIT_FAILED;
}

void cli_talk(const struct buf *text)
{
    if (!write_to(STDERR_FILENO, text))
        return; // nobody is left to tell
}
