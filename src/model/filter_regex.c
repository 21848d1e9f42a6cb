/* SPDX-License-Identifier: Apache-2.0 */
/* Regular expressions of filters: the engine the peer uses, with the peer's limits and refusals
 * (query-language.md §3).
 *
 * The engine is asked for its byte API, which would accept patterns that match part of a character.
 * The peer refuses these: any class in byte mode, "(?-u)\w".  Such patterns are found here, after
 * the engine has vouched for the syntax. */
#include "model/filter_internal.h"
#include "model/limits.h"

#define REGEX_DFA_BYTES  (2u << 20) /* per thread that is matching */
#define REGEX_FULL_COUNT 8          /* so many patterns get the whole of both limits */
#define REGEX_NEST_MAX   256        /* the engine itself stops at 250 */
#define REASON_MAX       900

/* Which modes are on at one place of a pattern. */
struct mode {
    bool unicode, fold_case, blanks;
};

/* After "(?": read flags up to ':' or ')'.  False when this is a named group, which has no flags. */
static bool read_flags(slice pattern, size_t *at, struct mode *mode, bool *ret_scoped)
{
    bool on = true;
    size_t i = *at;
    for (; i < pattern.len; i++) {
        switch (pattern.at[i]) {
        case '-':
            on = false;
            break;
        case 'u':
            mode->unicode = on;
            break;
        case 'i':
            mode->fold_case = on;
            break;
        case 'x':
            mode->blanks = on;
            break;
        case ':':
        case ')':
            *ret_scoped = pattern.at[i] == ':';
            *at = i + 1;
            return true;
        case 'P':
        case '<': /* a name follows */
            while (i < pattern.len && pattern.at[i] != '>')
                i++;
            *at = i;
            return false;
        default:
            break;
        }
    }
    return false;
}

/* Past the class that begins at `at`. */
static size_t skip_class(slice pattern, size_t at)
{
    unsigned depth = 0;
    bool first = false; /* a ']' in first place is an ordinary character */
    for (; at < pattern.len; at++) {
        uint8_t c = pattern.at[at];
        if (c == '\\') {
            at++;
            first = false;
        } else if (c == '[') {
            depth++;
            first = true;
            if (at + 1 < pattern.len && pattern.at[at + 1] == '^')
                at++;
        } else if (c == ']' && !first) {
            if (--depth == 0)
                return at + 1;
        } else {
            first = false;
        }
    }
    return at;
}

static bool is_letter(uint8_t c)
{
    return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}

/* The escape that begins with the backslash at `at`: where it ends, and the character it spells out
 * in hexadecimal, else 0. */
static size_t read_escape(slice pattern, size_t at, uint32_t *ret_code)
{
    size_t end = min_size(at + 2, pattern.len), digits = 0;
    uint8_t kind = at + 1 < pattern.len ? pattern.at[at + 1] : 0;
    *ret_code = 0;
    if (kind != 'x' && kind != 'u' && kind != 'U')
        return end;
    bool braces = end < pattern.len && pattern.at[end] == '{';
    size_t wanted = braces ? SIZE_MAX : kind == 'x' ? 2 : kind == 'u' ? 4 : 8;
    end += braces;
    for (; end < pattern.len && digits < wanted && pattern.at[end] != '}'; end++, digits++) {
        uint8_t c = pattern.at[end];
        uint32_t digit = c <= '9' ? c - 48u : (c | 0x20u) - 87u; /* '0', 'a' - 10 */
        *ret_code = *ret_code << 4 | (digit & 15);
    }
    return end + braces;
}

/* What is said of one element of a pattern in byte mode. */
static bool escape_is_bytes(slice pattern, size_t at, size_t end, uint32_t code, bool fold_case)
{
    uint8_t kind = at + 1 < pattern.len ? pattern.at[at + 1] : 0;
    if (kind && memchr("dDsSwWpP", kind, 8))
        return true;
    bool one_byte = kind == 'x' && end == at + 4 && pattern.at[at + 2] != '{';
    return (code >= 128 && one_byte) || (fold_case && code < 128 && is_letter((uint8_t)code));
}

/* "[.]" and "[\.]" are a way to write one character, not a class. */
static size_t one_in_class(slice pattern, size_t at, bool fold_case)
{
    const uint8_t *p = pattern.at + at;
    size_t left = pattern.len - at;
    if (left >= 3 && p[2] == ']' && p[1] < 128 && !memchr("^[\\]", p[1], 4) &&
        !(fold_case && is_letter(p[1])))
        return 3;
    if (left >= 4 && p[1] == '\\' && p[3] == ']' && p[2] < 128 && !is_letter(p[2]))
        return 4;
    return 0;
}

/* Whether a sound pattern has a class, or folded case, which makes one, where Unicode is off. */
static bool uses_bytes(slice pattern)
{
    struct mode modes[REGEX_NEST_MAX] = {{.unicode = true}};
    size_t depth = 0;
    for (size_t at = 0; at < pattern.len;) {
        struct mode *mode = &modes[depth];
        uint8_t c = pattern.at[at];
        if (c == '\\') {
            uint32_t code;
            size_t end = read_escape(pattern, at, &code);
            if (!mode->unicode && escape_is_bytes(pattern, at, end, code, mode->fold_case))
                return true;
            at = end;
        } else if (c == '[') {
            size_t one = mode->unicode ? 0 : one_in_class(pattern, at, mode->fold_case);
            if (!mode->unicode && !one)
                return true;
            at = one ? at + one : skip_class(pattern, at);
        } else if (c == '(') {
            struct mode inner = *mode;
            bool scoped = true;
            at++;
            if (at < pattern.len && pattern.at[at] == '?') {
                at++;
                if (!read_flags(pattern, &at, &inner, &scoped))
                    inner = *mode;
            }
            if (!scoped) {
                *mode = inner;
                continue;
            }
            if (depth + 1 == REGEX_NEST_MAX)
                return true;
            modes[++depth] = inner;
        } else if (c == ')') {
            depth -= depth > 0;
            at++;
        } else if (c == '#' && mode->blanks) {
            while (at < pattern.len && pattern.at[at] != '\n')
                at++;
        } else {
            if (!mode->unicode && (c == '.' || (mode->fold_case && is_letter(c))))
                return true;
            at++;
        }
    }
    return false;
}

/* The engine's message begins with the whole pattern; of a long one only the verdict is kept. */
static och_code fail_syntax(slice pattern, const char *message, och_error *err)
{
    size_t len = strlen(message);
    if (len > REASON_MAX) {
        const char *verdict = message;
        for (const char *at = message; (at = strstr(at, "\nerror: ")); at++)
            verdict = at;
        return FAIL(err, OCH_INVALID,
                    "Regex syntax error: regex parse error: a pattern of %zu bytes%.900s",
                    pattern.len, verdict);
    }
    return FAIL(err, OCH_INVALID, "Regex syntax error: %s", message);
}

och_code filter_regex_compile(slice pattern, uint32_t count, rure **ret_regex, och_error *err)
{
    size_t shares = count > REGEX_FULL_COUNT ? count : REGEX_FULL_COUNT;
    rure_options *options = rure_options_new();
    rure_options_size_limit(options, (size_t)LIMIT_REGEX_BYTES * REGEX_FULL_COUNT / shares);
    rure_options_dfa_size_limit(options, (size_t)REGEX_DFA_BYTES * REGEX_FULL_COUNT / shares);
    rure_error *error = rure_error_new();
    const uint8_t *at = pattern.len ? pattern.at : (const uint8_t *)"";
    rure *regex = rure_compile(at, pattern.len, RURE_FLAG_UNICODE, options, error);
    och_code code = OCH_OK;
    if (!regex)
        code = fail_syntax(pattern, rure_error_message(error), err);
    rure_error_free(error);
    rure_options_free(options);
    if (code != OCH_OK)
        return code;
    if (uses_bytes(pattern)) {
        rure_free(regex);
        return FAIL(err, OCH_INVALID, "Byte pattern is not allowed");
    }
    *ret_regex = regex;
    return OCH_OK;
}
