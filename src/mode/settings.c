/* SPDX-License-Identifier: Apache-2.0 */
/* The sources in their order, the checks over several settings, and what is shown of them. */
#include "mode/settings_internal.h"

#include "base/near.h"

#define YAML_BYTES_MAX (1u << 20)
#define NOTES_MAX      200

/* ---- names ---- */

const struct setting_row *setting_find(slice name)
{
    for (size_t i = 0; i < setting_row_count; i++)
        if (slice_equal(name, slice_of(setting_rows[i].name)))
            return &setting_rows[i];
    return NULL;
}

const struct setting_original *setting_find_original(slice name)
{
    for (size_t i = 0; i < setting_original_count; i++) {
        slice known = slice_of(setting_originals[i].name);
        if (known.at[known.len - 1] == '*') {
            known.len--;
            if (slice_starts_with(name, known))
                return &setting_originals[i];
        } else if (slice_starts_with(name, known) &&
                   (name.len == known.len ||
                    (name.at[known.len] == '.' && !setting_originals[i].ours))) {
            return &setting_originals[i];
        }
    }
    return NULL;
}

const char *setting_nearest(slice name)
{
    const char *nearest = NULL;
    size_t least = SIZE_MAX;
    for (size_t i = 0; i < setting_row_count; i++) {
        size_t distance = near_distance(name, slice_of(setting_rows[i].name));
        if (distance < least) {
            least = distance;
            nearest = setting_rows[i].name;
        }
    }
    return nearest;
}

och_code settings_note(struct settings *settings, const char *note, och_error *err)
{
    if (!note)
        return FAIL_NO_MEMORY(err, "the settings");
    if (settings->note_count == NOTES_MAX)
        return OCH_OK;
    if (!settings->notes) {
        settings->notes = ARENA_ARRAY(&settings->arena, const char *, NOTES_MAX);
        if (!settings->notes)
            return FAIL_NO_MEMORY(err, "the settings");
    }
    settings->notes[settings->note_count++] = note;
    return OCH_OK;
}

/* ---- sources ---- */

static och_code apply_defaults(struct settings *settings, och_error *err)
{
    for (size_t i = 0; i < setting_row_count; i++) {
        if (!setting_rows[i].fallback)
            continue;
        slice text = slice_of(setting_rows[i].fallback);
        struct setting_given given = {
            .source = SETTING_DEFAULT, .where = "default", .items = &text, .count = 1};
        TRY(setting_apply(settings, &setting_rows[i], &given, err));
        settings->origins[i].where = NULL;
    }
    return OCH_OK;
}

och_code setting_check_retired(slice name, slice shown, const struct setting_given *given,
                               struct arena *arena, och_error *err)
{
    static const char *const prefixes[] = {"server_auth", "auth_token", "chroma_server_auth",
                                           "chroma_auth_token"};
    for (size_t i = 0; i < COUNT_OF(prefixes); i++)
        if (slice_starts_with(name, slice_of(prefixes[i])))
            return FAIL(err, OCH_SETTING,
                        "%s: %.*s once switched on authentication, and this version has none yet: "
                        "it would serve everyone. Remove it, and guard the port by other means.",
                        setting_place(given, arena), (int)min_size(shown.len, 64),
                        (const char *)shown.at);
    return OCH_OK;
}

/* CHROMA_CIRCUIT_BREAKER__REQUESTS -> circuit_breaker.requests.  False when too long to be a name. */
static bool lower_name(slice name, bool nested, char *out, size_t cap)
{
    size_t len = 0;
    if (name.len + 1 > cap)
        return false;
    for (size_t i = 0; i < name.len; i++) {
        char c = (char)name.at[i];
        if (nested && c == '_' && i + 1 < name.len && name.at[i + 1] == '_') {
            out[len++] = '.';
            i++;
        } else {
            out[len++] = c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
        }
    }
    out[len] = 0;
    return true;
}

static och_code apply_variable(struct settings *settings, const struct setting_row *row,
                               slice variable, slice value, och_error *err)
{
    slice where = arena_copy(&settings->arena, variable);
    if (!where.at)
        return FAIL_NO_MEMORY(err, "the settings");
    struct setting_given given = {.source = SETTING_ENVIRONMENT,
                                  .where = (const char *)where.at,
                                  .items = &value,
                                  .count = 1};
    return setting_apply(settings, row, &given, err);
}

static och_code note_variable(struct settings *settings, slice variable, const char *reason,
                              och_error *err)
{
    return settings_note(settings,
                         arena_printf(&settings->arena, "%.*s has no effect here: %s",
                                      (int)min_size(variable.len, 64), (const char *)variable.at,
                                      reason),
                         err);
}

/* A container platform names neighbours in the environment: OCHRE_PORT=tcp://10.0.0.7:8000, OCHRE_SERVICE_HOST, ... */
static bool is_service_link(slice name, slice value)
{
    return slice_starts_with(value, SLICE("tcp://")) || slice_starts_with(value, SLICE("udp://")) ||
           slice_starts_with(name, SLICE("service_")) || slice_starts_with(name, SLICE("port_"));
}

static och_code apply_original_variable(struct settings *settings, slice variable, slice value,
                                        och_error *err)
{
    char name[128];
    slice rest = slice_from(variable, strlen("CHROMA_"));
    if (!lower_name(rest, true, name, sizeof(name)))
        return OCH_OK;
    struct setting_given given = {.where = "environment"};
    if (value.len > 0)
        TRY(setting_check_retired(slice_of(name), variable, &given, &settings->arena, err));
    if (value.len == 0 || is_service_link(slice_of(name), value))
        return OCH_OK;
    const struct setting_original *original = setting_find_original(slice_of(name));
    if (!original)
        return note_variable(settings, variable, "not a setting of the server", err);
    if (!original->ours)
        return note_variable(settings, variable, original->reason, err);
    return apply_variable(settings, setting_find(slice_of(original->ours)), variable, value, err);
}

static och_code apply_own_variable(struct settings *settings, slice variable, slice value,
                                   och_error *err)
{
    /* read elsewhere: by the kernels, by the command line's data verbs */
    static const char *const others[] = {"kernel",   "url",    "config",
                                         "key_file", "tenant", "database"};
    char name[128] = "";
    slice rest = slice_from(variable, strlen("OCHRE_"));
    bool fits = lower_name(rest, false, name, sizeof(name));
    for (size_t i = 0; i < COUNT_OF(others); i++)
        if (slice_equal(slice_of(name), slice_of(others[i])))
            return OCH_OK;
    if (is_service_link(slice_of(name), value))
        return OCH_OK;
    const struct setting_row *row = fits ? setting_find(slice_of(name)) : NULL;
    if (row)
        return value.len == 0 ? OCH_OK : apply_variable(settings, row, variable, value, err);
    const char *nearest = fits ? setting_nearest(slice_of(name)) : NULL;
    char upper[64] = "";
    for (size_t i = 0; nearest && nearest[i] && i + 1 < sizeof(upper); i++)
        upper[i] =
            nearest[i] >= 'a' && nearest[i] <= 'z' ? (char)(nearest[i] - 'a' + 'A') : nearest[i];
    return FAIL(err, OCH_SETTING, "environment: unknown setting \"%.*s\"%s%s%s",
                (int)min_size(variable.len, 64), (const char *)variable.at,
                nearest ? ". Did you mean \"OCHRE_" : "", upper, nearest ? "\"?" : "");
}

/* Ours after the original's, whatever order the environment has. */
static och_code apply_environment(struct settings *settings, char *const *environment,
                                  och_error *err)
{
    for (unsigned own = 0; own < 2; own++) {
        slice prefix = own ? SLICE("OCHRE_") : SLICE("CHROMA_");
        for (size_t i = 0; environment && environment[i]; i++) {
            slice entry = slice_of(environment[i]);
            const uint8_t *equals = memchr(entry.at, '=', entry.len);
            if (!slice_starts_with(entry, prefix) || !equals)
                continue;
            slice variable = slice_make(entry.at, (size_t)(equals - entry.at));
            slice value = slice_from(entry, variable.len + 1);
            if (own)
                TRY(apply_own_variable(settings, variable, value, err));
            else
                TRY(apply_original_variable(settings, variable, value, err));
        }
    }
    return OCH_OK;
}

static och_code apply_flag(struct settings *settings, const struct setting_flag *flag,
                           och_error *err)
{
    char name[64] = "";
    const char *text = flag->name;
    while (*text == '-')
        text++;
    char spelt[64] = "";
    for (size_t i = 0; text[i] && i + 1 < sizeof(name); i++) {
        name[i] = text[i] == '-' ? '_' : text[i];
        spelt[i] = text[i] == '_' ? '-' : text[i];
    }
    const char *shown = arena_printf(&settings->arena, "--%s", spelt);
    if (!shown)
        return FAIL_NO_MEMORY(err, "the settings");
    const struct setting_row *row = setting_find(slice_of(name));
    if (!row) {
        const char *nearest = setting_nearest(slice_of(name));
        char dashed[64] = "";
        for (size_t i = 0; nearest && nearest[i] && i + 1 < sizeof(dashed); i++)
            dashed[i] = nearest[i] == '_' ? '-' : nearest[i];
        return FAIL(err, OCH_SETTING, "unknown option \"%.64s\"%s%s%s", shown,
                    nearest ? ". Did you mean \"--" : "", dashed, nearest ? "\"?" : "");
    }
    if (!flag->value && row->type != TYPE_BOOL)
        return FAIL(err, OCH_SETTING, "%s needs a value", shown);
    slice value = flag->value ? slice_of(flag->value) : SLICE("true");
    struct setting_given given = {
        .source = SETTING_FLAG, .where = shown, .items = &value, .count = 1};
    return setting_apply(settings, row, &given, err);
}

/* ---- what takes several settings to judge ---- */

static och_code resolve_memory(struct settings *settings, struct io *io, och_error *err)
{
    if (settings->memory_limit > 0)
        return OCH_OK;
    struct arena scratch;
    arena_init(&scratch, NULL, 0);
    int64_t machine = 0;
    och_code code = settings_machine_memory(io, &scratch, &machine, err);
    arena_done(&scratch);
    TRY(code);
    int64_t mib = 1 << 20;
    int64_t bytes = machine / 100 * -settings->memory_limit / mib * mib;
    settings->memory_limit = bytes < 64 * mib ? 64 * mib : bytes;
    return OCH_OK;
}

static och_code check_together(const struct settings *settings, och_error *err)
{
    if (settings->deadline_ms > settings->deadline_max_ms)
        return FAIL(err, OCH_SETTING, "deadline_ms (%lld ms) is above deadline_max_ms (%lld ms)",
                    (long long)settings->deadline_ms, (long long)settings->deadline_max_ms);
    if (settings->log_slow_bytes > settings->log_stop_bytes)
        return FAIL(err, OCH_SETTING,
                    "log_slow_bytes (%lld) is above log_stop_bytes (%lld): writers would be "
                    "stopped before they are slowed",
                    (long long)settings->log_slow_bytes, (long long)settings->log_stop_bytes);
    if (!settings->tls_certificate != !settings->tls_key)
        return FAIL(err, OCH_SETTING, "tls_certificate and tls_key go together: %s is missing",
                    settings->tls_key ? "tls_certificate" : "tls_key");
    return OCH_OK;
}

static och_code read_all(const struct settings_input *input, struct settings *settings,
                         och_error *err)
{
    struct io *io = input->io ? input->io : io_posix();
    const char *name = input->yaml_path ? input->yaml_path : "settings";
    slice yaml = input->yaml_text;
    slice copy = arena_copy(&settings->arena, slice_of(name));
    if (!copy.at)
        return FAIL_NO_MEMORY(err, "the settings");
    TRY(apply_defaults(settings, err));
    if (!yaml.at && input->yaml_path)
        TRY(settings_read_file(io, input->yaml_path, YAML_BYTES_MAX, &settings->arena, &yaml, err));
    if (yaml.at)
        TRY(settings_read_yaml(settings, yaml, (const char *)copy.at, err));
    TRY(apply_environment(settings, input->environment, err));
    for (size_t i = 0; i < input->flag_count; i++)
        TRY(apply_flag(settings, &input->flags[i], err));
    TRY(resolve_memory(settings, io, err));
    return check_together(settings, err);
}

och_code settings_init(const struct settings_input *input, struct settings *ret_settings,
                       och_error *err)
{
    struct settings settings = {0};
    arena_init(&settings.arena, NULL, 0);
    och_code code = read_all(input, &settings, err);
    if (code != OCH_OK)
        arena_done(&settings.arena);
    else
        *ret_settings = settings;
    return code;
}

void settings_done(struct settings *settings)
{
    if (settings)
        arena_done(&settings->arena);
}

static bool is_loopback(slice host)
{
    if (slice_equal_nocase(host, SLICE("localhost")) || slice_equal(host, SLICE("::1")) ||
        slice_equal(host, SLICE("[::1]")))
        return true;
    /* 127.0.0.0/8, and not a name like 127.example.org */
    for (size_t i = 0; i < host.len; i++)
        if (host.at[i] != '.' && (host.at[i] < '0' || host.at[i] > '9'))
            return false;
    return slice_starts_with(host, SLICE("127."));
}

och_code settings_check_host(const struct settings *settings, bool have_keys, och_error *err)
{
    if (have_keys || settings->insecure || is_loopback(slice_of(settings->host)))
        return OCH_OK;
    return FAIL(err, OCH_SETTING,
                "refusing to listen on %.255s without keys: anyone in reach could read and delete. "
                "Listen on localhost, or add --insecure where nobody else can reach it.",
                settings->host);
}

/* ---- what is shown ---- */

static void write_origin(const struct setting_origin *origin, struct buf *out)
{
    switch ((enum setting_source)origin->source) {
    case SETTING_FILE:
        buf_printf(out, "%s line %u", origin->where, origin->line);
        break;
    case SETTING_ENVIRONMENT:
    case SETTING_FLAG:
        buf_text(out, origin->where);
        break;
    default:
        buf_text(out, "default");
    }
}

void settings_print(const struct settings *settings, struct buf *out)
{
    for (size_t i = 0; i < setting_row_count; i++) {
        size_t start = out->len;
        buf_printf(out, "%s: ", setting_rows[i].name);
        setting_write_value(settings, &setting_rows[i], out);
        do
            buf_byte(out, ' ');
        while (!out->failed && out->len < start + 44);
        buf_text(out, "# ");
        write_origin(&settings->origins[i], out);
        buf_byte(out, '\n');
    }
}

void settings_print_changed(const struct settings *settings, struct buf *out)
{
    bool first = true;
    for (size_t i = 0; i < setting_row_count; i++) {
        if (settings->origins[i].source == SETTING_DEFAULT)
            continue;
        buf_printf(out, "%s%s=", first ? "" : " ", setting_rows[i].name);
        setting_write_value(settings, &setting_rows[i], out);
        first = false;
    }
}

bool setting_describe(size_t i, struct setting_info *ret_info)
{
    if (i >= setting_row_count)
        return false;
    const struct setting_row *row = &setting_rows[i];
    *ret_info = (struct setting_info){
        .name = row->name,
        .type = setting_type_names[row->type],
        .fallback = row->fallback,
        .help = row->help,
        .choices = row->type == TYPE_DURABILITY ? "always, interval:TIME, os" : row->choices_text,
        .secret = row->secret,
        .is_switch = row->type == TYPE_BOOL,
    };
    return true;
}

void settings_write_docs(struct buf *out)
{
    buf_text(
        out,
        "# Settings\n\nMade from the table in `src/mode/settings_table.c`; change it there.\n\n"
        "A setting comes from a flag (`--memory-limit 4GiB`), else from the environment\n"
        "(`OCHRE_MEMORY_LIMIT=4GiB`), else from the YAML file (`memory_limit: 4GiB`), else it has "
        "its\n"
        "default. `ochre config print` shows every value and where it came from. A setting that "
        "nobody\n"
        "knows is an error that names the nearest one.\n\n"
        "* **size**: a number of bytes, or with B, KiB, MiB, GiB, TiB (1024), kB, MB, GB, TB "
        "(1000).\n"
        "* **time**: a number of milliseconds, or with ms, s, m, h.\n"
        "* **switch**: true or false, also yes, no, on, off, 1, 0. A flag alone is true.\n"
        "* **list**: a YAML list; elsewhere with commas between.\n\n"
        "| setting | type | default | meaning |\n| --- | --- | --- | --- |\n");
    struct setting_info info;
    for (size_t i = 0; setting_describe(i, &info); i++)
        buf_printf(out, "| `%s` | %s%s%s | %s%s%s | %s |\n", info.name, info.type,
                   info.choices ? ": " : "", info.choices ? info.choices : "",
                   info.fallback ? "`" : "", info.fallback ? info.fallback : "unset",
                   info.fallback ? "`" : "", info.help);
    buf_text(out,
             "\n## Keys of Chroma\n\n"
             "A configuration file of Chroma's server works as it is, and so do its variables: "
             "`CHROMA_`\n"
             "and the upper case key, with `__` where the key has a dot. When both are set, the "
             "`OCHRE_`\n"
             "variable counts. Keys without effect here are named in the log with the reason.\n\n"
             "| key | here |\n| --- | --- |\n");
    for (size_t i = 0; i < setting_original_count; i++) {
        const struct setting_original *original = &setting_originals[i];
        if (original->ours)
            buf_printf(out, "| `%s` | `%s` |\n", original->name, original->ours);
        else
            buf_printf(out, "| `%s` | no effect: %s |\n", original->name, original->reason);
    }
    buf_text(
        out,
        "\nVariables of Chroma before 1.0 that switched on authentication (`CHROMA_SERVER_AUTHN_*` "
        "and\ntheir kin) stop the server with an error: ignoring them would leave it open.\n");
}
