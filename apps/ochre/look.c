/* SPDX-License-Identifier: Apache-2.0 */
/* Verbs that only look: version, health, config, help. */
#include "cli.h"

#include "mode/server.h"
#include "ochre/ochre.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int cli_run_version(const struct cli *cli)
{
    struct buf out CLEANUP(buf_cleanup);
    buf_init(&out, 4096);
    if (cli->json)
        buf_printf(&out, "{\"version\":\"%s\",\"cpu\":\"%s\"}\n", OCH_VERSION, server_cpu_level());
    else
        buf_printf(&out, "ochre %s (%s)\n", OCH_VERSION, server_cpu_level());
    return cli_print(&out);
}

int cli_run_help(const struct cli *cli)
{
    struct buf out CLEANUP(buf_cleanup);
    buf_init(&out, 1u << 20);
    if (cli->word_count == 0) {
        cli_write_overview(&out);
        return cli_print(&out);
    }
    const struct cli_verb *verb = cli_find_verb(cli->words[0]);
    if (!verb)
        return cli_unknown_verb(cli->words[0]);
    cli_write_help(verb, &out);
    return cli_print(&out);
}

/* ---- config ---- */

static och_code check_config(const struct cli *cli, const struct settings *settings,
                             struct buf *out, och_error *err)
{
    TRY(settings_check_host(settings, false, err));
    size_t set = 0, count = 0;
    struct setting_info info;
    for (; setting_describe(count, &info); count++)
        set += settings->origins[count].source != SETTING_DEFAULT;
    if (cli->json)
        buf_printf(out, "{\"set\":%zu,\"default\":%zu}\n", set, count - set);
    else
        buf_printf(out, "sound: %zu set, %zu default\n", set, count - set);
    return OCH_OK;
}

int cli_run_config(const struct cli *cli)
{
    bool print = cli->word_count > 0 && strcmp(cli->words[0], "print") == 0;
    bool check = cli->word_count > 0 && strcmp(cli->words[0], "check") == 0;
    struct buf out CLEANUP(buf_cleanup);
    buf_init(&out, 1u << 20);
    if (!print && !check) {
        cli_write_usage(cli->verb, &out);
        cli_talk(&out);
        return EXIT_USAGE;
    }
    och_error err = {0};
    struct settings settings;
    if (cli_settings(cli, cli->word_count > 1 ? cli->words[1] : NULL, &settings, &err) != OCH_OK) {
        if (err.code == OCH_NOT_FOUND)
            err.code = OCH_SETTING;
        return cli_fail(cli, &err);
    }
    och_code code = OCH_OK;
    if (print)
        settings_print(&settings, &out);
    else
        code = check_config(cli, &settings, &out, &err);
    for (size_t i = 0; i < settings.note_count && !cli->quiet; i++)
        (void)fprintf(stderr, "note: %s\n", settings.notes[i]);
    settings_done(&settings);
    return code == OCH_OK ? cli_print(&out) : cli_fail(cli, &err);
}

/* ---- health ---- */

/* "http://host:port" with or without a path. */
static och_code split_url(const char *url, char host[CLI_HOST_SIZE], uint16_t *ret_port,
                          och_error *err)
{
    static const char scheme[] = "http://";
    if (strncmp(url, scheme, sizeof(scheme) - 1) != 0)
        return FAIL(err, OCH_SETTING, "\"%.200s\" is no address like http://localhost:8000", url);
    const char *at = url + sizeof(scheme) - 1;
    size_t len = at[0] == '[' ? strcspn(at, "]") + 1 : strcspn(at, ":/");
    const char *rest = strlen(at) >= len ? at + len : "";
    if (len == 0 || len >= CLI_HOST_SIZE)
        return FAIL(err, OCH_SETTING, "\"%.200s\" names no host", url);
    bool bracket = at[0] == '[' && at[len - 1] == ']';
    size_t bare = bracket ? len - 2 : len;
    memcpy(host, bracket ? at + 1 : at, bare);
    host[bare] = '\0';
    unsigned long port = 80;
    if (*rest == ':') {
        char *end;
        port = strtoul(rest + 1, &end, 10);
        if (end == rest + 1 || (*end && *end != '/') || port == 0 || port > 65535)
            return FAIL(err, OCH_SETTING, "\"%.200s\" has no sound port", url);
    }
    *ret_port = (uint16_t)port;
    return OCH_OK;
}

och_code cli_find_server(const struct cli *cli, char host[CLI_HOST_SIZE], uint16_t *ret_port,
                         och_error *err)
{
    const char *url = cli_option(cli, "url");
    if (!url && cli->setting_count == 0)
        url = getenv("OCHRE_URL");
    if (url && url[0])
        return split_url(url, host, ret_port, err);
    struct settings settings;
    TRY(cli_settings(cli, NULL, &settings, err));
    bool any = strcmp(settings.host, "0.0.0.0") == 0 || strcmp(settings.host, "::") == 0;
    (void)snprintf(host, CLI_HOST_SIZE, "%s", any ? "localhost" : settings.host);
    *ret_port = (uint16_t)settings.port;
    bool tls = settings.tls_certificate != NULL;
    settings_done(&settings);
    return tls ? FAIL(err, OCH_UNSUPPORTED, "this verb does not speak TLS; use curl") : OCH_OK;
}

int cli_run_health(const struct cli *cli)
{
    och_error err = {0};
    char host[CLI_HOST_SIZE];
    uint16_t port = 0;
    bool live = cli_option(cli, "live") && !cli_option(cli, "ready");
    och_code code = cli_find_server(cli, host, &port, &err);
    if (code == OCH_OK)
        code = server_probe(host, port, live, 5000, &err);
    if (code != OCH_OK)
        return cli_fail(cli, &err);
    if (cli->quiet)
        return EXIT_DONE;
    struct buf out CLEANUP(buf_cleanup);
    buf_init(&out, 4096);
    const char *state = live ? "live" : "ready";
    if (cli->json)
        buf_printf(&out, "{\"state\":\"%s\"}\n", state);
    else
        buf_printf(&out, "%s\n", state);
    return cli_print(&out);
}
