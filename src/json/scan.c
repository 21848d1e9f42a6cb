/* SPDX-License-Identifier: Apache-2.0 */
/* A plain reader of the grammar that builds nothing: it says where a refused text goes wrong, in the peer's words and
 * with its columns.  Positions are counts of bytes consumed: a fault at a byte that was only looked at counts it too,
 * a fault at the end of the text does not. */
#include "json/tree.h"

struct scan {
    const uint8_t *text;
    size_t len, at;
    const char *reason;
    size_t depth;
    bool in_object[JSON_DEPTH_MAX];
};

static int peek(const struct scan *scan)
{
    return scan->at < scan->len ? scan->text[scan->at] : -1;
}

static bool digit(int byte)
{
    return byte >= '0' && byte <= '9';
}

static void skip_blanks(struct scan *scan)
{
    while (scan->at < scan->len && (scan->text[scan->at] == ' ' || scan->text[scan->at] == '\n' ||
                                    scan->text[scan->at] == '\t' || scan->text[scan->at] == '\r'))
        scan->at++;
}

/* The last byte consumed is to blame. */
static bool blame(struct scan *scan, const char *reason)
{
    scan->reason = reason;
    return false;
}

/* The next byte is to blame, or the end of the text. */
static bool blame_next(struct scan *scan, const char *reason, const char *reason_at_end)
{
    bool end = scan->at == scan->len;
    scan->at += !end;
    return blame(scan, end ? reason_at_end : reason);
}

static bool scan_word(struct scan *scan, const char *word)
{
    for (scan->at++, word++; *word; word++) {
        int byte = peek(scan);
        scan->at += byte >= 0;
        if (byte != *word)
            return blame(scan, byte < 0 ? "EOF while parsing a value" : "expected ident");
    }
    return true;
}

/* 2^1024 − 2^970, the smallest integer that rounds to infinity. */
static const char overflow_digits[] =
    "1797693134862315807937289714053034150799341327100378269361737789804449682927647509466490179775"
    "8720709633028641669288791094655554785194040263065748867150582068190890200070838367627385484581"
    "7711531764475730270069855571366959622842914819860834936475292719074168444365510704342711559699"
    "508093042880177904174497792";

/* Whether a well-formed number overflows f64: by the place of its first digit, else digit by digit. */
static bool overflows(const uint8_t *at, const uint8_t *end)
{
    at += *at == '-';
    const uint8_t *first = NULL, *mantissa = at;
    int64_t point = 0, exponent = 0;
    bool seen_point = false;
    for (; at < end && *at != 'e' && *at != 'E'; at++) {
        if (*at == '.') {
            seen_point = true;
            continue;
        }
        if (!first && *at != '0')
            first = at;
        if (first && !seen_point)
            point++; /* digits of the integer part */
        else if (!first && seen_point)
            point--; /* zeros between the point and the first digit */
    }
    if (!first)
        return false;
    const uint8_t *mantissa_end = at;
    if (at < end) {
        at++;
        bool negative = *at == '-';
        at += *at == '-' || *at == '+';
        for (; at < end && exponent < INT32_MAX; at++)
            exponent = exponent * 10 + (*at - '0');
        exponent = negative ? -exponent : exponent;
    }
    if (point + exponent != 309)
        return point + exponent > 309;
    assert(mantissa <= first);
    size_t place = 0;
    for (at = first; at < mantissa_end; at++) {
        if (*at == '.')
            continue;
        uint8_t limit = place < 309 ? (uint8_t)overflow_digits[place] : '0';
        if (*at != limit)
            return *at > limit;
        place++;
    }
    for (; place < 309; place++)
        if (overflow_digits[place] != '0')
            return false;
    return true;
}

static bool scan_number(struct scan *scan)
{
    const uint8_t *start = scan->text + scan->at;
    if (peek(scan) == '-')
        scan->at++;
    if (peek(scan) == '0') {
        scan->at++;
        if (digit(peek(scan)))
            return blame_next(scan, "invalid number", NULL);
    } else if (digit(peek(scan))) {
        while (digit(peek(scan)))
            scan->at++;
    } else {
        return blame_next(scan, "invalid number", "EOF while parsing a value");
    }
    if (peek(scan) == '.') {
        scan->at++;
        if (!digit(peek(scan)))
            return blame_next(scan, "invalid number", "EOF while parsing a value");
        while (digit(peek(scan)))
            scan->at++;
    }
    if (peek(scan) == 'e' || peek(scan) == 'E') {
        scan->at++;
        if (peek(scan) == '+' || peek(scan) == '-')
            scan->at++;
        if (!digit(peek(scan)))
            return blame_next(scan, "invalid number", "EOF while parsing a value");
        while (digit(peek(scan)))
            scan->at++;
    }
    if (overflows(start, scan->text + scan->at))
        return blame(scan, "number out of range");
    return true;
}

/* Four hex digits; -1 with the fault told. */
static int32_t scan_hex(struct scan *scan)
{
    if (scan->len - scan->at < 4) {
        scan->at = scan->len;
        blame(scan, "EOF while parsing a string");
        return -1;
    }
    int32_t value = 0;
    bool sound = true;
    for (int i = 0; i < 4; i++) {
        uint8_t c = scan->text[scan->at++];
        uint8_t lower = c | 0x20;
        bool letter = lower >= 'a' && lower <= 'f';
        sound = sound && (digit(c) || letter);
        value = value << 4 | (letter ? lower - 'a' + 10 : c & 15);
    }
    if (!sound)
        blame(scan, "invalid escape");
    return sound ? value : -1;
}

static bool scan_unicode(struct scan *scan)
{
    int32_t high = scan_hex(scan);
    if (high < 0)
        return false;
    if (high >= 0xdc00 && high <= 0xdfff)
        return blame(scan, "lone leading surrogate in hex escape");
    if (high < 0xd800 || high > 0xdbff)
        return true;
    for (const char *want = "\\u"; *want; want++) {
        if (peek(scan) != *want)
            return blame_next(scan, "unexpected end of hex escape", "EOF while parsing a string");
        scan->at++;
    }
    int32_t low = scan_hex(scan);
    if (low < 0)
        return false;
    if (low < 0xdc00 || low > 0xdfff)
        return blame(scan, "lone leading surrogate in hex escape");
    return true;
}

/* Stands on the opening quote. */
static bool scan_string(struct scan *scan)
{
    size_t start = ++scan->at;
    for (;;) {
        int byte = peek(scan);
        if (byte < 0)
            return blame(scan, "EOF while parsing a string");
        scan->at++;
        if (byte == '"')
            break;
        if (byte < 0x20)
            return blame(scan, "control character (\\u0000-\\u001F) found while parsing a string");
        if (byte != '\\')
            continue;
        int escape = peek(scan);
        scan->at += escape >= 0;
        if (escape < 0)
            return blame(scan, "EOF while parsing a string");
        if (escape == 'u') {
            if (!scan_unicode(scan))
                return false;
        } else if (escape == 0 || !strchr("\"\\/bfnrt", escape)) {
            return blame(scan, "invalid escape");
        }
    }
    if (!json_utf8_valid(slice_make(scan->text + start, scan->at - 1 - start)))
        return blame(scan, "invalid unicode code point");
    return true;
}

static bool scan_name(struct scan *scan)
{
    if (!scan_string(scan))
        return false;
    skip_blanks(scan);
    if (peek(scan) != ':')
        return blame_next(scan, "expected `:`", "EOF while parsing an object");
    scan->at++;
    return true;
}

/* A value that is complete, or the opening of a container. */
static bool scan_start(struct scan *scan)
{
    skip_blanks(scan);
    int byte = peek(scan);
    if (byte == '{' || byte == '[') {
        if (scan->depth == JSON_DEPTH_MAX)
            return blame_next(scan, "recursion limit exceeded", NULL);
        scan->in_object[scan->depth++] = byte == '{';
        scan->at++;
        return true;
    }
    if (byte == '"')
        return scan_string(scan);
    if (byte == 'n' || byte == 't' || byte == 'f')
        return scan_word(scan, byte == 'n' ? "null" : byte == 't' ? "true" : "false");
    if (byte == '-' || digit(byte))
        return scan_number(scan);
    return blame_next(scan, "expected value", "EOF while parsing a value");
}

/* What may follow inside the innermost container: its end, or the next value's start.  `first`: just opened. */
static bool scan_next(struct scan *scan, bool first)
{
    bool object = scan->in_object[scan->depth - 1];
    skip_blanks(scan);
    if (peek(scan) == (object ? '}' : ']')) {
        scan->at++;
        scan->depth--;
        return true;
    }
    if (peek(scan) < 0)
        return blame(scan, object ? "EOF while parsing an object" : "EOF while parsing a list");
    if (!first) {
        if (peek(scan) != ',')
            return blame_next(scan, object ? "expected `,` or `}`" : "expected `,` or `]`", NULL);
        scan->at++;
        skip_blanks(scan);
        if (peek(scan) == (object ? '}' : ']'))
            return blame_next(scan, "trailing comma", NULL);
    }
    if (object) {
        if (peek(scan) != '"')
            return blame_next(scan, "key must be a string", "EOF while parsing a value");
        if (!scan_name(scan))
            return false;
    }
    return scan_start(scan);
}

bool json_scan(slice text, struct json_fault *ret_fault)
{
    struct scan scan = {.text = text.at, .len = text.len};
    bool sound = scan_start(&scan);
    for (size_t depth = 0; sound && scan.depth > 0;) {
        bool first = scan.depth > depth;
        depth = scan.depth;
        sound = scan_next(&scan, first);
    }
    if (sound) {
        skip_blanks(&scan);
        if (scan.at == scan.len)
            return true;
        sound = blame_next(&scan, "trailing characters", NULL);
    }
    uint32_t line, column;
    json_locate(text, scan.at, &line, &column);
    bool end = strncmp(scan.reason, "EOF", 3) == 0 || scan.at == 0;
    *ret_fault = (struct json_fault){
        .offset = scan.at - !end, .line = line, .column = column - 1, .reason = scan.reason};
    return sound;
}
