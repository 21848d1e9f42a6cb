/* SPDX-License-Identifier: Apache-2.0 */
/* Characters of a pattern: code points, escapes, classes, and the strings they stand for. */
#include "index/text/text_pattern.h"

uint32_t pattern_read_code(struct pattern *p)
{
    const uint8_t *at = p->pattern.at + p->at;
    size_t left = p->pattern.len - p->at;
    uint32_t c = left ? at[0] : 0;
    size_t len = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    if (len > left || (c >= 0x80 && c < 0xc2) || c > 0xf4) {
        p->lost = true;
        return 0;
    }
    if (len > 1)
        c &= 0x7fu >> len;
    for (size_t i = 1; i < len; i++) {
        p->lost = p->lost || (at[i] & 0xc0) != 0x80;
        c = c << 6 | (at[i] & 0x3fu);
    }
    p->at += len;
    return c;
}

size_t pattern_write_code(uint32_t c, uint8_t out[4])
{
    if (c < 0x80) {
        out[0] = (uint8_t)c;
        return 1;
    }
    size_t len = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = len - 1; i > 0; i--, c >>= 6)
        out[i] = (uint8_t)(0x80 | (c & 0x3f));
    out[0] = (uint8_t)((0xf00u >> len & 0xf0) | c);
    return len;
}

/* White space as (?x) leaves it out. */
static bool is_blank(uint32_t c)
{
    return (c >= 9 && c <= 13) || c == ' ' || c == 0x85 || c == 0x200e || c == 0x200f ||
           c == 0x2028 || c == 0x2029;
}

void pattern_skip_blanks(struct pattern *p)
{
    while (p->blanks && !pattern_over(p)) {
        size_t before = p->at;
        if (pattern_peek(p) == '#') {
            while (!pattern_over(p) && pattern_peek(p) != '\n')
                p->at++;
            continue;
        }
        if (!is_blank(pattern_read_code(p))) {
            p->at = before;
            return;
        }
    }
}

static uint32_t read_hex(struct pattern *p, unsigned digits)
{
    bool braces = pattern_eat(p, '{');
    uint32_t code = 0;
    unsigned count = 0;
    while (!pattern_over(p) && (braces ? pattern_peek(p) != '}' : count < digits)) {
        uint8_t c = pattern_peek(p), lower = c | 0x20;
        uint32_t digit = c >= '0' && c <= '9'           ? c - 48u
                         : lower >= 'a' && lower <= 'f' ? lower - 87u
                                                        : 16;
        if (digit == 16 || code > 0x10ffff)
            p->lost = true;
        code = code << 4 | (digit & 15);
        p->at++;
        count++;
    }
    if ((braces && !pattern_eat(p, '}')) || !count || code > 0x10ffff ||
        (code >= 0xd800 && code < 0xe000))
        p->lost = true;
    return code;
}

/* After a backslash. */
enum pattern_escape pattern_read_escape(struct pattern *p, uint32_t *ret_code)
{
    static const struct {
        char name;
        uint8_t code;
    } controls[] = {{'a', 7}, {'f', 12}, {'t', 9}, {'n', 10}, {'r', 13}, {'v', 11}};
    if (pattern_over(p)) {
        p->lost = true;
        return ESCAPE_ASSERT;
    }
    uint8_t c = p->pattern.at[p->at++];
    *ret_code = c;
    for (size_t i = 0; i < COUNT_OF(controls); i++) {
        if (controls[i].name == (char)c) {
            *ret_code = controls[i].code;
            return ESCAPE_CODE;
        }
    }
    switch (c) {
    case 'x':
    case 'u':
    case 'U':
        *ret_code = read_hex(p, c == 'x' ? 2 : c == 'u' ? 4 : 8);
        return ESCAPE_CODE;
    case 'd':
    case 'D':
    case 's':
    case 'S':
    case 'w':
    case 'W':
        return ESCAPE_CLASS;
    case 'p':
    case 'P':
        if (!pattern_eat(p, '{')) {
            (void)pattern_read_code(p);
            return ESCAPE_CLASS;
        }
        while (!pattern_over(p) && pattern_peek(p) != '}')
            p->at++;
        if (!pattern_eat(p, '}'))
            p->lost = true;
        return ESCAPE_CLASS;
    case 'A':
    case 'z':
    case 'B':
    case '<':
    case '>':
        return ESCAPE_ASSERT;
    case 'b': // \b{start} is one; \b{2} would be a repetition
        if (pattern_peek(p) == '{')
            p->lost = true;
        return ESCAPE_ASSERT;
    default:
        if (c >= 0x80 || (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z'))
            p->lost = true;
        return ESCAPE_CODE;
    }
}

void pattern_codes_add(struct pattern_codes *codes, uint32_t code, bool fold)
{
    uint32_t same[4] = {code};
    unsigned count = fold ? text_fold(code, same) : 1;
    for (unsigned i = 0; i < count; i++) {
        bool has = false;
        for (uint32_t j = 0; j < codes->count; j++)
            has = has || codes->at[j] == same[i];
        if (has)
            continue;
        if (codes->count == TEXT_SET_MAX) {
            codes->many = true;
            return;
        }
        codes->at[codes->count++] = same[i];
    }
}

struct text_info pattern_codes_info(struct pattern *p, const struct pattern_codes *codes)
{
    slice texts[TEXT_SET_MAX];
    if (codes->many || !codes->count)
        return text_info_any(&p->maker);
    uint8_t *bytes = arena_alloc(p->maker.arena, (size_t)codes->count * 4);
    if (!bytes) {
        p->maker.failed = true;
        return (struct text_info){0};
    }
    for (uint32_t i = 0; i < codes->count; i++)
        texts[i] = slice_make(bytes + (size_t)i * 4,
                              pattern_write_code(codes->at[i], bytes + (size_t)i * 4));
    return text_info_strings(&p->maker, texts, codes->count);
}

/* ---- classes ---- */

/* One item of a class: a character, or something bigger. */
static uint32_t class_item(struct pattern *p, struct pattern_codes *codes)
{
    uint32_t code = 0;
    if (!pattern_eat(p, '\\'))
        return pattern_read_code(p);
    if (pattern_read_escape(p, &code) == ESCAPE_CODE)
        return code;
    codes->many = true;
    return CODE_NONE;
}

static bool starts_with(const struct pattern *p, const char *text)
{
    return slice_starts_with(slice_from(p->pattern, p->at), slice_of(text));
}

/* At the item `code`: a range if "-x" follows. */
static void class_range(struct pattern *p, struct pattern_codes *codes, uint32_t code)
{
    uint32_t last = code;
    bool range = pattern_peek(p) == '-' && p->at + 1 < p->pattern.len &&
                 p->pattern.at[p->at + 1] != ']' && p->pattern.at[p->at + 1] != '-';
    if (range) {
        p->at++;
        last = class_item(p, codes); // a '[' here is a character
    }
    if (code == CODE_NONE || last == CODE_NONE || last < code || last - code >= TEXT_SET_MAX)
        codes->many = true;
    for (uint32_t c = code; !codes->many && c <= last; c++)
        pattern_codes_add(codes, c, p->fold);
}

/* Behind the '[' at hand.  Sets within sets, set operators and negation are passed over. */
struct text_info pattern_read_class(struct pattern *p)
{
    struct pattern_codes codes = {0};
    unsigned depth = 1;
    bool first = true; // ']' stands for itself there
    if (pattern_eat(p, '^'))
        codes.many = true;
    while (!pattern_over(p) && depth) {
        uint8_t c = pattern_peek(p);
        if (p->blanks && (c == '#' || c >= 0x80 || is_blank(c)))
            return pattern_lose(p); // blanks and remarks inside: rare
        if (c == ']' && !first) {
            p->at++;
            depth--;
            continue;
        }
        if (c == '[') {
            p->at++;
            codes.many = true;
            depth++;
            first = true;
            (void)pattern_eat(p, '^');
            continue;
        }
        bool is_bracket = c == ']'; // in first place, and never the begin of a range
        first = false;
        if (is_bracket) {
            p->at++;
            pattern_codes_add(&codes, c, p->fold);
        } else if (starts_with(p, "&&") || starts_with(p, "--") || starts_with(p, "~~")) {
            p->at += 2;
            codes.many = true;
        } else {
            class_range(p, &codes, class_item(p, &codes));
        }
    }
    if (depth)
        return pattern_lose(p);
    return pattern_codes_info(p, &codes);
}
