/* SPDX-License-Identifier: Apache-2.0 */
/* Versions of a collection, routes of our own (docs/extras.md), and the as_of of reads. */
#include "gateway/http/exchange.h"

#include <inttypes.h>

#define MEMBER(type_, member_) .at = offsetof(type_, member_)

static bool read_digits(slice text, uint64_t *ret_number)
{
    *ret_number = 0;
    for (size_t i = 0; i < text.len; i++) {
        uint64_t digit = (uint64_t)text.at[i] - '0';
        if (digit > 9 || __builtin_mul_overflow(*ret_number, 10, ret_number) ||
            __builtin_add_overflow(*ret_number, digit, ret_number))
            return false;
    }
    return text.len > 0;
}

/* ---- times as RFC 3339 has them ---- */

/* Two or four digits and the sign behind them, if one is named.  Negative: something else. */
static int take_number(slice *text, size_t digits, const char *sign)
{
    uint64_t number;
    if (text->len < digits + (*sign != '\0') || !read_digits(slice_make(text->at, digits), &number))
        return -1;
    *text = slice_from(*text, digits);
    if (*sign) {
        if (!strchr(sign, text->at[0]) || text->at[0] == '\0')
            return -1;
        *text = slice_from(*text, 1);
    }
    return (int)number;
}

/* Days since 1970-01-01 of a day in the Gregorian calendar, by counting 400-year eras that begin in March (H. Hinnant, "chrono-compatible low-level date
 * algorithms"). */
static int64_t days_of(int64_t year, int64_t month, int64_t day)
{
    year -= month <= 2;
    int64_t era = year / 400, of_era = year - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int64_t days = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    return era * 146097 + days - 719468;
}

static bool is_day(int year, int month, int day)
{
    static const uint8_t lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (year < 0 || month < 1 || month > 12 || day < 1)
        return false;
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return day <= lengths[month - 1] + (month == 2 && leap);
}

/* "Z" or an offset such as "+02:00", in minutes. */
static bool read_zone(slice text, int *ret_minutes)
{
    *ret_minutes = 0;
    if (text.len == 1)
        return text.at[0] == 'Z' || text.at[0] == 'z';
    if (text.len != 6 || (text.at[0] != '+' && text.at[0] != '-'))
        return false;
    int sign = text.at[0] == '-' ? -1 : 1;
    text = slice_from(text, 1);
    int hours = take_number(&text, 2, ":"), minutes = take_number(&text, 2, "");
    *ret_minutes = sign * (hours * 60 + minutes);
    return hours >= 0 && hours < 24 && minutes >= 0 && minutes < 60;
}

/* In ms since 1970; what is finer than a ms is cut off. */
static bool read_time(slice text, int64_t *ret_ms)
{
    int year = take_number(&text, 4, "-"), month = take_number(&text, 2, "-");
    int day = take_number(&text, 2, "Tt "), hour = take_number(&text, 2, ":");
    int minute = take_number(&text, 2, ":"), second = take_number(&text, 2, "");
    if (!is_day(year, month, day) || hour < 0 || hour > 23 || minute < 0 || minute > 59 ||
        second < 0 || second > 60)
        return false;
    int64_t ms = 0, unit = 100;
    if (text.len && text.at[0] == '.') {
        size_t i = 1;
        for (; i < text.len && text.at[i] >= '0' && text.at[i] <= '9'; i++, unit /= 10)
            ms += unit * (text.at[i] - '0');
        if (i == 1)
            return false;
        text = slice_from(text, i);
    }
    int zone;
    if (!read_zone(text, &zone))
        return false;
    int64_t minutes = (days_of(year, month, day) * 24 + hour) * 60 + minute - zone;
    *ret_ms = (minutes * 60 + second) * 1000 + ms;
    return true;
}

/* ---- which version ---- */

static och_code read_version(struct exchange *x, const struct json_value *value,
                             struct gateway_version_ref *ret_ref, och_error *err)
{
    *ret_ref = (struct gateway_version_ref){.by = GATEWAY_BY_NUMBER};
    if (value->kind == JSON_INT && value->integer >= 0) {
        ret_ref->number = (uint64_t)value->integer;
        return OCH_OK;
    }
    if (value->kind != JSON_STRING)
        return wire_fail(x, value, err, "version",
                         "invalid type: %s, expected a version's number or name",
                         json_describe(value, &x->arena));
    if (!read_digits(value->string, &ret_ref->number))
        *ret_ref = (struct gateway_version_ref){.by = GATEWAY_BY_NAME, .name = value->string};
    return OCH_OK;
}

static och_code read_moment(struct exchange *x, const struct json_value *value,
                            struct gateway_version_ref *ret_ref, och_error *err)
{
    *ret_ref = (struct gateway_version_ref){.by = GATEWAY_BY_TIME};
    if (value->kind == JSON_INT && value->integer >= 0)
        ret_ref->time_ms = value->integer;
    else if (value->kind != JSON_STRING || !read_time(value->string, &ret_ref->time_ms))
        return wire_fail(x, value, err, "time",
                         "invalid value: %s, expected a time such as 2026-11-26T18:30:00Z, or "
                         "milliseconds since 1970",
                         json_describe(value, &x->arena));
    return OCH_OK;
}

/* One of both members. */
static och_code read_ref(struct exchange *x, const struct json_value *object,
                         const struct json_value *version, const struct json_value *time,
                         struct gateway_version_ref *ret_ref, och_error *err)
{
    if (!version == !time)
        return wire_fail(x, object, err, "version", "expected either `version` or `time`");
    return version ? read_version(x, version, ret_ref, err) : read_moment(x, time, ret_ref, err);
}

och_code exchange_as_of(struct exchange *x, const struct json_value *value, och_error *err)
{
    struct as_of {
        const struct json_value *version, *time;
    } body = {0};
    static const struct wire_member members[] = {
        {"version", WIRE_ANY, false, false, MEMBER(struct as_of, version)},
        {"time", WIRE_ANY, false, false, MEMBER(struct as_of, time)},
    };
    static const struct wire_body shape = {"AsOf", members, COUNT_OF(members), true};
    if (!value || value->kind != JSON_OBJECT)
        return exchange_read_token(x, value, &x->scope.as_of, err);
    const char *within = x->within;
    x->within = "as_of";
    TRY(wire_spread(x, &shape, value, &body, err));
    struct gateway_version_ref *ref = ARENA_ARRAY(&x->arena, struct gateway_version_ref, 1);
    if (!ref)
        return FAIL_NO_MEMORY(err, "a version");
    TRY(read_ref(x, value, body.version, body.time, ref, err));
    x->within = within;
    x->scope.version = ref;
    return OCH_OK;
}

/* ---- handlers ---- */

static och_code collection_id(const struct exchange *x, uuid *ret_id, och_error *err)
{
    if (!uuid_parse(x->target, ret_id))
        return FAIL(err, OCH_INVALID, "Collection ID is not a valid UUIDv4");
    return OCH_OK;
}

static void write_version(struct buf *out, const struct gateway_version *version)
{
    buf_printf(out, "{\"version\":%" PRIu64 ",\"name\":", version->number);
    if (version->name.at)
        json_write_string(out, version->name);
    else
        buf_text(out, "null");
    buf_printf(out, ",\"log_offset\":%" PRIu64 ",\"time\":", version->number);
    if (version->time_ms)
        json_write_int(out, version->time_ms);
    else
        buf_text(out, "null");
    buf_printf(out, ",\"records\":%" PRIu64 ",\"current\":%s,\"kept_until\":", version->records,
               version->current ? "true" : "false");
    if (version->keep_until_ms)
        json_write_int(out, version->keep_until_ms);
    else
        buf_text(out, "null");
    buf_byte(out, '}');
}

och_code handle_version_list(struct exchange *x, och_error *err)
{
    uuid id;
    struct gateway_version *rows;
    size_t count;
    TRY(collection_id(x, &id, err));
    TRY(gateway_versions(x->gateway, &x->scope, id, &x->arena, &rows, &count, err));
    struct buf *out = &x->reply->body;
    buf_text(out, "{\"versions\":[");
    for (size_t i = 0; i < count; i++) {
        buf_text(out, i ? "," : "");
        write_version(out, &rows[i]);
    }
    buf_text(out, "]}");
    return OCH_OK;
}

och_code handle_version_keep(struct exchange *x, och_error *err)
{
    struct keep_body {
        const struct json_value *name;
    } body = {0};
    static const struct wire_member members[] = {
        {"name", WIRE_STRING, true, true, MEMBER(struct keep_body, name)}};
    static const struct wire_body shape = {"VersionPayload", members, COUNT_OF(members), true};
    uuid id;
    struct gateway_version version;
    TRY(wire_read(x, &shape, &body, err));
    TRY(collection_id(x, &id, err));
    TRY(gateway_version_keep(x->gateway, &x->scope, id, body.name->string, &version, err));
    write_version(&x->reply->body, &version);
    return OCH_OK;
}

och_code handle_version_drop(struct exchange *x, och_error *err)
{
    uuid id;
    uint64_t dropped;
    struct gateway_version_ref ref = {.by = GATEWAY_BY_NUMBER};
    slice which = x->segments[x->segment_count - 1];
    TRY(collection_id(x, &id, err));
    if (!read_digits(which, &ref.number))
        ref = (struct gateway_version_ref){.by = GATEWAY_BY_NAME, .name = which};
    TRY(gateway_version_drop(x->gateway, &x->scope, id, &ref, &dropped, err));
    buf_printf(&x->reply->body, "{\"deleted\":%" PRIu64 "}", dropped);
    return OCH_OK;
}

och_code handle_restore(struct exchange *x, och_error *err)
{
    struct restore_body {
        const struct json_value *version, *time, *keep, *dry_run;
    } body = {0};
    static const struct wire_member members[] = {
        {"version", WIRE_ANY, false, false, MEMBER(struct restore_body, version)},
        {"time", WIRE_ANY, false, false, MEMBER(struct restore_body, time)},
        {"keep", WIRE_STRING, false, false, MEMBER(struct restore_body, keep)},
        {"dry_run", WIRE_BOOL, false, false, MEMBER(struct restore_body, dry_run)},
    };
    static const struct wire_body shape = {"RestorePayload", members, COUNT_OF(members), true};
    uuid id;
    struct gateway_restore restore = {0};
    struct gateway_restored restored;
    TRY(wire_read(x, &shape, &body, err));
    TRY(collection_id(x, &id, err));
    TRY(read_ref(x, &x->body, body.version, body.time, &restore.to, err));
    restore.keep = body.keep ? body.keep->string : SLICE_NONE;
    restore.dry_run = body.dry_run && body.dry_run->boolean;
    TRY(gateway_restore(x->gateway, &x->scope, id, &restore, &restored, err));
    buf_printf(&x->reply->body,
               "{\"restored\":%" PRIu64 ",\"version\":%" PRIu64 ",\"records\":%" PRIu64
               ",\"records_before\":%" PRIu64 "}",
               restored.restored, restored.version, restored.records, restored.records_before);
    return OCH_OK;
}
