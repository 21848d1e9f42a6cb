/* SPDX-License-Identifier: Apache-2.0 */
/* `ochre check`: offline verification. */
#include "cli.h"

#include "admin/check.h"

#include <stdlib.h>

/* --path, else the setting wherever it comes from. */
static och_code find_path(const struct cli *cli, struct buf *path, och_error *err)
{
    struct settings settings;
    TRY(cli_settings(cli, NULL, &settings, err));
    buf_text(path, settings.path);
    buf_byte(path, 0);
    settings_done(&settings);
    return buf_check(path, "a path", err);
}

int cli_run_check(const struct cli *cli)
{
    och_error err = {0};
    struct check_report report;
    struct buf path CLEANUP(buf_cleanup), out CLEANUP(buf_cleanup);
    struct trace trace;
    buf_init(&path, 65536);
    buf_init(&out, BUF_MAX_NONE);
    trace_init_stderr(&trace, TRACE_ERROR, false);
    och_code code = find_path(cli, &path, &err);
    if (code == OCH_OK) {
        struct check_options options = {.path = (const char *)path.at,
                                        .deep = cli_option(cli, "deep") != NULL,
                                        .trace = &trace};
        code = check_folder(&options, &report, &err);
    }
    if (code != OCH_OK)
        return cli_fail(cli, &err);
    if (cli->json)
        check_report_write_json(&report, &out);
    else if (!cli->quiet || report.faults)
        check_report_write(&report, &out);
    int status = report.faults ? EXIT_DAMAGED : EXIT_DONE;
    check_report_done(&report);
    int printed = cli_print(&out);
    return printed == EXIT_DONE ? status : printed;
}
