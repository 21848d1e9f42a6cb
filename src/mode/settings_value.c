/* SPDX-License-Identifier: Apache-2.0 */
/* Texts to values of the table's types, and back. */
#include "mode/settings_internal.h"

#include <stdio.h>
#include <strings.h>

const char *setting_place(const struct setting_given *given, struct arena *arena)
{
    if (given->line == 0)
        return given->where;
    const char *text = arena_printf(arena, "%s line %u", given->where, given->line);
    return text ? text : given->where;
}

static slice trimmed(slice text)
{
    while (text.len > 0 && (text.at[0] == ' ' || text.at[0] == '\t'))
        text = slice_from(text, 1);
    while (text.len > 0 && (text.at[text.len - 1] == ' ' || text.at[text.len - 1] == '\t'))
        text.len--;
    return text;
}

/* Digits with at most nine behind a point; the rest of the text is left in *text. */
static bool take_number(slice *text, int64_t *ret_whole, double *ret_rest)
{
    size_t i = 0;
    int64_t whole = 0;
    double rest = 0, unit = 1;
    for (; i < text->len && text->at[i] >= '0' && text->at[i] <= '9'; i++)
        if (__builtin_mul_overflow(whole, 10, &whole) ||
            __builtin_add_overflow(whole, text->at[i] - '0', &whole))
            return false;
    if (i == 0)
        return false;
    if (i < text->len && text->at[i] == '.') {
        size_t first = ++i;
        for (; i < text->len && i < first + 9 && text->at[i] >= '0' && text->at[i] <= '9'; i++)
            rest += (text->at[i] - '0') * (unit /= 10);
        if (i == first)
            return false;
    }
    *ret_whole = whole;
    *ret_rest = rest;
    *text = trimmed(slice_from(*text, i));
    return true;
}

struct unit {
    const char *name;
    int64_t factor;
};
static const struct unit byte_units[] = {
    {"", 1},
    {"B", 1},
    {"KiB", 1LL << 10},
    {"MiB", 1LL << 20},
    {"GiB", 1LL << 30},
    {"TiB", 1LL << 40},
    {"kB", 1000},
    {"MB", 1000000},
    {"GB", 1000000000},
    {"TB", 1000000000000},
};
static const struct unit time_units[] = {{"", 1},      {"ms", 1},      {"s", 1000},
                                         {"m", 60000}, {"min", 60000}, {"h", 3600000}};

static bool read_measure(slice text, const struct unit *units, size_t count, int64_t *ret_value)
{
    int64_t whole, value;
    double rest;
    if (!take_number(&text, &whole, &rest))
        return false;
    for (size_t i = 0; i < count; i++) {
        if (!slice_equal_nocase(text, slice_of(units[i].name)))
            continue;
        if (units[i].factor == 1 && rest > 0)
            return false;
        int64_t part = (int64_t)(rest * (double)units[i].factor + 0.5);
        if (__builtin_mul_overflow(whole, units[i].factor, &value) ||
            __builtin_add_overflow(value, part, &value))
            return false;
        *ret_value = value;
        return true;
    }
    return false;
}

static bool read_integer(slice text, int64_t *ret_value)
{
    bool negative = text.len > 0 && text.at[0] == '-';
    double rest;
    if (negative)
        text = slice_from(text, 1);
    if (!take_number(&text, ret_value, &rest) || text.len > 0 || rest > 0)
        return false;
    if (negative)
        *ret_value = -*ret_value;
    return true;
}

static bool read_switch(slice text, bool *ret_value)
{
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on", "0", "1"};
    for (size_t i = 0; i < COUNT_OF(words); i++) {
        if (!slice_equal_nocase(text, slice_of(words[i])))
            continue;
        *ret_value = i % 2 == 1;
        return true;
    }
    return false;
}

static bool read_durability(slice text, const struct setting_row *row,
                            struct setting_durability *out)
{
    static const char interval[] = "interval:";
    if (slice_equal_nocase(text, SLICE("always"))) {
        *out = (struct setting_durability){.mode = DURABILITY_ALWAYS};
        return true;
    }
    if (slice_equal_nocase(text, SLICE("os"))) {
        *out = (struct setting_durability){.mode = DURABILITY_OS};
        return true;
    }
    int64_t ms;
    if (!slice_starts_with(text, slice_of(interval)) ||
        !read_measure(trimmed(slice_from(text, strlen(interval))), time_units, COUNT_OF(time_units),
                      &ms) ||
        ms < row->min || ms > row->max)
        return false;
    *out = (struct setting_durability){.mode = DURABILITY_INTERVAL, .interval_ms = ms};
    return true;
}

/* "8,000": for messages. */
static void write_count(struct buf *out, int64_t value)
{
    char digits[24];
    int len = snprintf(digits, sizeof(digits), "%lld", (long long)value);
    for (int i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0 && digits[i - 1] != '-')
            buf_byte(out, ',');
        buf_byte(out, (uint8_t)digits[i]);
    }
}

static void write_bytes(struct buf *out, int64_t value)
{
    static const char *const names[] = {"", " KiB", " MiB", " GiB", " TiB"};
    size_t i = 0;
    while (i + 1 < COUNT_OF(names) && value != 0 && value % 1024 == 0) {
        value /= 1024;
        i++;
    }
    buf_printf(out, "%lld%s", (long long)value, names[i]);
}

static void write_time(struct buf *out, int64_t ms)
{
    if (ms != 0 && ms % 1000 == 0)
        buf_printf(out, "%llds", (long long)(ms / 1000));
    else
        buf_printf(out, "%lldms", (long long)ms);
}

static void write_expected(const struct setting_row *row, struct buf *out)
{
    switch ((enum setting_type)row->type) {
    case TYPE_BOOL:
        buf_text(out, "true or false");
        break;
    case TYPE_INT:
        buf_text(out, "a whole number from ");
        write_count(out, row->min);
        buf_text(out, " to ");
        write_count(out, row->max);
        break;
    case TYPE_BYTES:
    case TYPE_MEMORY:
        buf_text(out, "a size from ");
        write_bytes(out, row->min);
        buf_text(out, " to ");
        write_bytes(out, row->max);
        buf_text(out,
                 row->type == TYPE_MEMORY ? ", like 4 GiB, or a share like 50%" : ", like 64 MiB");
        break;
    case TYPE_MILLIS:
        buf_text(out, "a time from ");
        write_time(out, row->min);
        buf_text(out, " to ");
        write_time(out, row->max);
        buf_text(out, ", like 10s or 500ms");
        break;
    case TYPE_CHOICE:
        for (size_t i = 0; row->choices[i]; i++)
            buf_printf(out, "%s\"%s\"", i ? (row->choices[i + 1] ? ", " : " or ") : "",
                       row->choices[i]);
        break;
    case TYPE_DURABILITY:
        buf_text(out, "\"always\", \"os\" or \"interval:\" and a time, like interval:200ms");
        break;
    default:
        buf_text(out, "one text");
    }
}

static och_code fail_value(struct settings *settings, const struct setting_row *row,
                           const struct setting_given *given, och_error *err)
{
    CLEANUP(buf_cleanup) struct buf expected;
    buf_init(&expected, BUF_MAX_NONE);
    write_expected(row, &expected);
    slice shown = given->count > 0 ? given->items[0] : SLICE("");
    size_t len = min_size(shown.len, 40); /* not in the middle of a character */
    while (len > 0 && len < shown.len && (shown.at[len] & 0xC0) == 0x80)
        len--;
    const char *place = setting_place(given, &settings->arena);
    if (given->source != SETTING_FLAG) { /* a flag names the setting itself */
        const char *both = arena_printf(&settings->arena, "%s: %s", place, row->name);
        place = both ? both : place;
    }
    if (given->is_list)
        return FAIL(err, OCH_SETTING, "%s: expected %.*s, got a list", place,
                    SLICE_ARG(buf_view(&expected)));
    if (row->secret)
        return FAIL(err, OCH_SETTING, "%s: expected %.*s", place, SLICE_ARG(buf_view(&expected)));
    return FAIL(err, OCH_SETTING, "%s: expected %.*s, got \"%.*s\"", place,
                SLICE_ARG(buf_view(&expected)), (int)len, (const char *)shown.at);
}

static och_code apply_list(struct settings *settings, const struct setting_given *given,
                           struct setting_list *out, och_error *err)
{
    size_t count = given->count;
    const slice *items = given->items;
    slice *parts = NULL;
    if (!given->is_list) { /* a,b or ["a", "b"] */
        slice text = trimmed(items[0]);
        if (text.len > 1 && text.at[0] == '[' && text.at[text.len - 1] == ']')
            text = trimmed(slice_make(text.at + 1, text.len - 2));
        parts = ARENA_ARRAY(&settings->arena, slice, text.len + 1);
        if (!parts)
            return FAIL_NO_MEMORY(err, "the settings");
        count = 0;
        for (size_t start = 0, i = 0; text.len > 0 && i <= text.len; i++) {
            if (i < text.len && text.at[i] != ',')
                continue;
            slice part = trimmed(slice_make(text.at + start, i - start));
            if (part.len > 1 && (part.at[0] == '"' || part.at[0] == '\'') &&
                part.at[part.len - 1] == part.at[0])
                part = slice_make(part.at + 1, part.len - 2);
            parts[count++] = part;
            start = i + 1;
        }
        items = parts;
    }
    const char **at = ARENA_ARRAY(&settings->arena, const char *, count);
    if (!at)
        return FAIL_NO_MEMORY(err, "the settings");
    for (size_t i = 0; i < count; i++) {
        at[i] = (const char *)arena_copy(&settings->arena, items[i]).at;
        if (!at[i])
            return FAIL_NO_MEMORY(err, "the settings");
    }
    *out = (struct setting_list){at, count};
    return OCH_OK;
}

static bool read_memory(struct settings *settings, const struct setting_row *row, slice text,
                        int64_t *out)
{
    int64_t share;
    if (text.len > 1 && text.at[text.len - 1] == '%') {
        if (!read_integer(trimmed(slice_make(text.at, text.len - 1)), &share) || share < 1 ||
            share > 100)
            return false;
        *out = -share; /* resolved when all sources are read */
        return true;
    }
    (void)settings;
    return read_measure(text, byte_units, COUNT_OF(byte_units), out) && *out >= row->min &&
           *out <= row->max;
}

static bool read_scalar(struct settings *settings, const struct setting_row *row, slice text,
                        void *field)
{
    int64_t number = 0;
    switch ((enum setting_type)row->type) {
    case TYPE_BOOL:
        return read_switch(text, field);
    case TYPE_INT:
        if (!read_integer(text, &number) || number < row->min || number > row->max)
            return false;
        break;
    case TYPE_BYTES:
        if (!read_measure(text, byte_units, COUNT_OF(byte_units), &number) || number < row->min ||
            number > row->max)
            return false;
        break;
    case TYPE_MILLIS:
        if (!read_measure(text, time_units, COUNT_OF(time_units), &number) || number < row->min ||
            number > row->max)
            return false;
        break;
    case TYPE_MEMORY:
        return read_memory(settings, row, text, field);
    case TYPE_CHOICE:
        for (int i = 0; row->choices[i]; i++) {
            if (!slice_equal_nocase(text, slice_of(row->choices[i])))
                continue;
            *(int *)field = i;
            return true;
        }
        return false;
    case TYPE_DURABILITY:
        return read_durability(text, row, field);
    default: /* the table knows no other type */
        return false;
    }
    *(int64_t *)field = number;
    return true;
}

och_code setting_apply(struct settings *settings, const struct setting_row *row,
                       const struct setting_given *given, och_error *err)
{
    void *field = (char *)settings + row->offset;
    assert(given->is_list || given->count == 1);
    if (row->type == TYPE_LIST) {
        TRY(apply_list(settings, given, field, err));
    } else if (given->is_list) {
        return fail_value(settings, row, given, err);
    } else if (row->type == TYPE_STRING) {
        if (given->items[0].len == 0 || memchr(given->items[0].at, 0, given->items[0].len) != NULL)
            return fail_value(settings, row, given, err);
        const char *text = (const char *)arena_copy(&settings->arena, given->items[0]).at;
        if (!text)
            return FAIL_NO_MEMORY(err, "the settings");
        *(const char **)field = text;
    } else if (!read_scalar(settings, row, trimmed(given->items[0]), field)) {
        return fail_value(settings, row, given, err);
    }
    settings->origins[row - setting_rows] =
        (struct setting_origin){given->source, given->where, given->line};
    return OCH_OK;
}

/* In double quotes, with escapes for what YAML would not take as it is: controls, its line breaks, non-characters. */
static void write_text(struct buf *out, const char *text)
{
    buf_byte(out, '"');
    for (const uint8_t *at = (const uint8_t *)text; *at; at++) {
        if (*at == '"' || *at == '\\')
            buf_printf(out, "\\%c", *at);
        else if (*at < 0x20 || *at == 0x7F)
            buf_printf(out, "\\x%02X", *at);
        else if (*at == 0xC2 && at[1] < 0xA0 && at[1] >= 0x80)
            buf_printf(out, "\\x%02X", *++at);
        else if ((*at & 0xF0) == 0xE0 && at[1] && at[2]) {
            unsigned point = (*at & 0x0Fu) << 12 | (at[1] & 0x3Fu) << 6 | (at[2] & 0x3Fu);
            if (point == 0x2028 || point == 0x2029 || point == 0xFEFF || point >= 0xFFFE)
                buf_printf(out, "\\u%04X", point);
            else
                buf_append(out, at, 3);
            at += 2;
        } else {
            buf_byte(out, *at);
        }
    }
    buf_byte(out, '"');
}

void setting_write_value(const struct settings *settings, const struct setting_row *row,
                         struct buf *out)
{
    const void *field = (const char *)settings + row->offset;
    const struct setting_list *list = field;
    const struct setting_durability *durability = field;
    const char *text;
    switch ((enum setting_type)row->type) {
    case TYPE_STRING:
        text = *(const char *const *)field;
        if (!text)
            buf_text(out, "null");
        else if (row->secret)
            buf_text(out, "\"***\"");
        else
            write_text(out, text);
        break;
    case TYPE_BOOL:
        buf_text(out, *(const bool *)field ? "true" : "false");
        break;
    case TYPE_INT:
        buf_printf(out, "%lld", (long long)*(const int64_t *)field);
        break;
    case TYPE_BYTES:
    case TYPE_MEMORY:
        write_bytes(out, *(const int64_t *)field);
        break;
    case TYPE_MILLIS:
        write_time(out, *(const int64_t *)field);
        break;
    case TYPE_LIST:
        buf_byte(out, '[');
        for (size_t i = 0; i < list->count; i++) {
            if (i > 0)
                buf_text(out, ", ");
            write_text(out, list->at[i]);
        }
        buf_byte(out, ']');
        break;
    case TYPE_CHOICE:
        buf_text(out, row->choices[*(const int *)field]);
        break;
    case TYPE_DURABILITY:
        buf_text(out, durability->mode == DURABILITY_ALWAYS ? "always"
                      : durability->mode == DURABILITY_OS   ? "os"
                                                            : "interval:");
        if (durability->mode == DURABILITY_INTERVAL)
            write_time(out, durability->interval_ms);
        break;
    default: /* the table knows no other type */
        break;
    }
}
