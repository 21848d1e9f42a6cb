/* SPDX-License-Identifier: Apache-2.0 */
/* `ochre serve`: the single-node server until SIGTERM or SIGINT; a second one ends the process at once (D26). */
#include "cli.h"

#include "mode/server.h"
#include "ochre/ochre.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define SAME_SIGNAL_NS \
    300000000ull /* `timeout`, shells and supervisors send one to a process and again to its group */

static uint64_t first_signal_ns; /* written before the handler is there */

static void exit_now(int number)
{
    static const char text[] = "ochre: stopped at once\n";
    (void)number;
    if (clock_mono_ns(clock_system()) - first_signal_ns < SAME_SIGNAL_NS)
        return;
    if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
        _exit(EXIT_INTERRUPTED);
    _exit(EXIT_INTERRUPTED);
}

/* Blocked before any thread exists, so that all of them inherit it and the descriptor gets every one. */
static och_code catch_signals(sigset_t *ret_caught, int *ret_fd, och_error *err)
{
    (void)sigemptyset(ret_caught);
    (void)sigaddset(ret_caught, SIGTERM);
    (void)sigaddset(ret_caught, SIGINT);
    (void)sigaddset(ret_caught, SIGHUP);
    if (sigprocmask(SIG_BLOCK, ret_caught, NULL) != 0)
        return FAIL_OS(err, OCH_IO, errno, "cannot block signals");
    *ret_fd = signalfd(-1, ret_caught, SFD_CLOEXEC);
    return *ret_fd >= 0 ? OCH_OK : FAIL_OS(err, OCH_IO, errno, "cannot wait for signals");
}

static const char *wait_for_end(struct server *server, int signals, struct trace *trace)
{
    for (;;) {
        struct signalfd_siginfo info;
        ssize_t len = read(signals, &info, sizeof(info));
        if (len < 0 && errno == EINTR)
            continue;
        if (len != (ssize_t)sizeof(info))
            return "error";
        if (info.ssi_signo != SIGHUP)
            return info.ssi_signo == SIGTERM ? "SIGTERM" : "SIGINT";
        och_error err = {0};
        if (server_renew_tls(server, &err) != OCH_OK)
            trace_line(trace, TRACE_ERROR, "mode", "the certificate was not renewed", "error",
                       err.message, NULL);
        else
            trace_line(trace, TRACE_INFO, "mode",
                       "SIGHUP: read certificates again, where there are any", NULL);
    }
}

static void leave_at_second_signal(const sigset_t *caught)
{
    struct sigaction action = {.sa_handler = exit_now, .sa_flags = SA_RESTART};
    first_signal_ns = clock_mono_ns(clock_system());
    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigprocmask(SIG_UNBLOCK, caught, NULL);
}

static void say_start(const struct cli *cli, const struct settings *settings, struct server *server,
                      struct trace *trace)
{
    struct buf text CLEANUP(buf_cleanup);
    buf_init(&text, 65536);
    settings_print_changed(settings, &text);
    buf_byte(&text, 0);
    trace_line(trace, TRACE_INFO, "mode", "started", "version", OCH_VERSION, "cpu",
               server_cpu_level(), "settings", text.failed ? "-" : (const char *)text.at, NULL);
    for (size_t i = 0; i < settings->note_count; i++)
        trace_line(trace, TRACE_INFO, "mode", settings->notes[i], NULL);
    if (cli->quiet || settings->log_format == SETTING_LOG_JSON)
        return; /* a log of JSON lines stays one */
    buf_clear(&text);
    server_write_banner(server, &text);
    cli_talk(&text);
}

static och_code serve(const struct cli *cli, const struct settings *settings, och_error *err)
{
    struct trace trace;
    trace_init_stderr(&trace, (enum trace_level)settings->log_level,
                      settings->log_format == SETTING_LOG_JSON);
    sigset_t caught;
    int signals = -1;
    TRY(catch_signals(&caught, &signals, err));
    struct server_options options = {.settings = settings, .trace = &trace};
    struct server *server = NULL;
    och_code code = server_start(&options, &server, err);
    if (code == OCH_OK) {
        say_start(cli, settings, server, &trace);
        const char *why = wait_for_end(server, signals, &trace);
        leave_at_second_signal(&caught);
        trace_line(&trace, TRACE_INFO, "mode", "stopping", "signal", why, NULL);
        code = server_stop(server, SERVER_DRAIN_MS, err);
        trace_line(&trace, TRACE_INFO, "mode", "stopped", NULL);
    }
    server_free(server);
    (void)close(signals);
    return code;
}

int cli_run_serve(const struct cli *cli)
{
    och_error err = {0};
    struct settings settings;
    if (cli_settings(cli, cli->word_count ? cli->words[0] : NULL, &settings, &err) != OCH_OK) {
        /* A configuration that is not there is a wrong setting, not a missing collection. */
        if (err.code == OCH_NOT_FOUND)
            err.code = OCH_SETTING;
        return cli_fail(cli, &err);
    }
    och_code code = serve(cli, &settings, &err);
    settings_done(&settings);
    return code == OCH_OK ? EXIT_DONE : cli_fail(cli, &err);
}
