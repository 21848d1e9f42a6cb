/* SPDX-License-Identifier: Apache-2.0 */
/* A reader of regular expressions that the engine has already vouched for: it needs to know where each part ends and which strings the simple
 * ones stand for.  What it does not know makes the whole pattern say nothing; bigger classes and the like say nothing where they stand. */
#include "index/text/text_internal.h"

#define NEST_MAX   60u /* groups; it bounds recursion here.  Deeper patterns say nothing. */
#define RUN_MAX    192u
#define CHOICE_MAX (1u << 20)
#define REPEAT_MAX 4u
#define CODE_NONE  UINT32_MAX

struct parser {
    slice pattern;
    size_t at;
    struct text_maker maker;
    bool lost;         /* not understood: stop */
    bool fold, blanks; /* (?i), (?x) */
    bool asserts;      /* it has places that match no text but ask for something */
    unsigned depth;
};

static bool over(const struct parser *p)
{
    return p->lost || p->maker.failed || p->at >= p->pattern.len;
}

static uint8_t peek(const struct parser *p)
{
    return p->at < p->pattern.len ? p->pattern.at[p->at] : 0;
}

static bool eat(struct parser *p, uint8_t c)
{
    if (p->at >= p->pattern.len || p->pattern.at[p->at] != c)
        return false;
    p->at++;
    return true;
}

static struct text_info lose(struct parser *p)
{
    p->lost = true;
    return (struct text_info){0};
}

/* ---- characters ---- */

static uint32_t read_code(struct parser *p)
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

static size_t write_code(uint32_t c, uint8_t out[4])
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

static void skip_blanks(struct parser *p)
{
    while (p->blanks && !over(p)) {
        size_t before = p->at;
        if (peek(p) == '#') {
            while (!over(p) && peek(p) != '\n')
                p->at++;
            continue;
        }
        if (!is_blank(read_code(p))) {
            p->at = before;
            return;
        }
    }
}

static uint32_t read_hex(struct parser *p, unsigned digits)
{
    bool braces = eat(p, '{');
    uint32_t code = 0;
    unsigned count = 0;
    while (!over(p) && (braces ? peek(p) != '}' : count < digits)) {
        uint8_t c = peek(p), lower = c | 0x20;
        uint32_t digit = c >= '0' && c <= '9'           ? c - 48u
                         : lower >= 'a' && lower <= 'f' ? lower - 87u
                                                        : 16;
        if (digit == 16 || code > 0x10ffff)
            p->lost = true;
        code = code << 4 | (digit & 15);
        p->at++;
        count++;
    }
    if ((braces && !eat(p, '}')) || !count || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
        p->lost = true;
    return code;
}

enum escape { ESCAPE_CODE, ESCAPE_CLASS, ESCAPE_ASSERT };

/* After a backslash. */
static enum escape read_escape(struct parser *p, uint32_t *ret_code)
{
    static const struct {
        char name;
        uint8_t code;
    } controls[] = {{'a', 7}, {'f', 12}, {'t', 9}, {'n', 10}, {'r', 13}, {'v', 11}};
    if (over(p)) {
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
        if (!eat(p, '{')) {
            (void)read_code(p);
            return ESCAPE_CLASS;
        }
        while (!over(p) && peek(p) != '}')
            p->at++;
        if (!eat(p, '}'))
            p->lost = true;
        return ESCAPE_CLASS;
    case 'A':
    case 'z':
    case 'B':
    case '<':
    case '>':
        return ESCAPE_ASSERT;
    case 'b': // \b{start} is one; \b{2} would be a repetition
        if (peek(p) == '{')
            p->lost = true;
        return ESCAPE_ASSERT;
    default:
        if (c >= 0x80 || (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z'))
            p->lost = true;
        return ESCAPE_CODE;
    }
}

/* Code points, each with those that equal it if case does not count. */
struct codes {
    uint32_t at[TEXT_SET_MAX];
    uint32_t count;
    bool many; /* more than fit, or not known */
};

static void codes_add(struct codes *codes, uint32_t code, bool fold)
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

static struct text_info codes_info(struct parser *p, const struct codes *codes)
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
        texts[i] =
            slice_make(bytes + (size_t)i * 4, write_code(codes->at[i], bytes + (size_t)i * 4));
    return text_info_strings(&p->maker, texts, codes->count);
}

/* ---- classes ---- */

/* One item of a class: a character, or something bigger. */
static uint32_t class_item(struct parser *p, struct codes *codes)
{
    uint32_t code = 0;
    if (!eat(p, '\\'))
        return read_code(p);
    if (read_escape(p, &code) == ESCAPE_CODE)
        return code;
    codes->many = true;
    return CODE_NONE;
}

static bool starts_with(const struct parser *p, const char *text)
{
    return slice_starts_with(slice_from(p->pattern, p->at), slice_of(text));
}

/* At the item `code`: a range if "-x" follows. */
static void class_range(struct parser *p, struct codes *codes, uint32_t code)
{
    uint32_t last = code;
    bool range = peek(p) == '-' && p->at + 1 < p->pattern.len && p->pattern.at[p->at + 1] != ']' &&
                 p->pattern.at[p->at + 1] != '-';
    if (range) {
        p->at++;
        last = class_item(p, codes); // a '[' here is a character
    }
    if (code == CODE_NONE || last == CODE_NONE || last < code || last - code >= TEXT_SET_MAX)
        codes->many = true;
    for (uint32_t c = code; !codes->many && c <= last; c++)
        codes_add(codes, c, p->fold);
}

/* Behind the '[' at hand.  Sets within sets, set operators and negation are passed over. */
static struct text_info read_class(struct parser *p)
{
    struct codes codes = {0};
    unsigned depth = 1;
    bool first = true; // ']' stands for itself there
    if (eat(p, '^'))
        codes.many = true;
    while (!over(p) && depth) {
        uint8_t c = peek(p);
        if (p->blanks && (c == '#' || c >= 0x80 || is_blank(c)))
            return lose(p); // blanks and remarks inside: rare
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
            (void)eat(p, '^');
            continue;
        }
        bool is_bracket = c == ']'; // in first place, and never the begin of a range
        first = false;
        if (is_bracket) {
            p->at++;
            codes_add(&codes, c, p->fold);
        } else if (starts_with(p, "&&") || starts_with(p, "--") || starts_with(p, "~~")) {
            p->at += 2;
            codes.many = true;
        } else {
            class_range(p, &codes, class_item(p, &codes));
        }
    }
    if (depth)
        return lose(p);
    return codes_info(p, &codes);
}

/* ---- repetition ---- */

static bool read_number(struct parser *p, uint32_t *ret)
{
    uint64_t value = 0;
    bool any = false;
    for (; peek(p) >= '0' && peek(p) <= '9'; p->at++, any = true)
        value = value < UINT32_MAX ? value * 10 + (peek(p) - '0') : value;
    *ret = value < UINT32_MAX ? (uint32_t)value : UINT32_MAX - 1;
    return any;
}

/* "{n}", "{n,}", "{n,m}"; UINT32_MAX: no end. */
static void read_counts(struct parser *p, uint32_t *ret_min, uint32_t *ret_max)
{
    if (!read_number(p, ret_min)) {
        p->lost = true;
        return;
    }
    *ret_max = *ret_min;
    if (eat(p, ',') && !read_number(p, ret_max))
        *ret_max = UINT32_MAX;
    if (!eat(p, '}'))
        p->lost = true; // blanks, perhaps
}

static struct text_info repeat(struct parser *p, struct text_info info, uint32_t min, uint32_t max)
{
    struct text_maker *maker = &p->maker;
    if (min == 0 && max == 0)
        return text_info_string(maker, SLICE(""));
    if (min == 0 && max > 1)
        return text_info_any(maker);
    if (min == 0) {
        struct text_info choices[2] = {info, text_info_string(maker, SLICE(""))};
        return text_info_alternate(maker, choices, 2);
    }
    struct text_info acc = info;
    struct text_nodes needs = {0};
    uint32_t count = min < REPEAT_MAX ? min : REPEAT_MAX;
    text_nodes_add(maker, &needs, info.need);
    for (uint32_t i = 1; i < count; i++)
        text_info_concat(maker, &acc, &needs, info);
    if (!acc.exact)
        acc.need = text_nodes_and(maker, &needs);
    return min == max && min <= REPEAT_MAX ? acc : text_info_inexact(maker, acc);
}

static bool at_repetition(struct parser *p)
{
    skip_blanks(p);
    uint8_t c = peek(p);
    return p->at < p->pattern.len && (c == '*' || c == '+' || c == '?' || c == '{');
}

/* What follows an atom, and lazy or not makes no difference. */
static struct text_info read_repetitions(struct parser *p, struct text_info info)
{
    while (!over(p) && at_repetition(p)) {
        uint8_t c = p->pattern.at[p->at++];
        uint32_t min = c == '+', max = c == '?' ? 1 : UINT32_MAX;
        if (c == '{')
            read_counts(p, &min, &max);
        (void)eat(p, '?');
        if (p->lost)
            break;
        info = repeat(p, info, min, max);
    }
    return info;
}

/* ---- groups ---- */

static struct text_info read_choices(struct parser *p);

/* Behind "(?": flags up to ':' or ')', or a name.  *ret_scoped: a group follows. */
static void read_flags(struct parser *p, bool *ret_scoped)
{
    bool on = true;
    *ret_scoped = true;
    if (peek(p) == 'P' || peek(p) == '<') {
        while (!over(p) && peek(p) != '>')
            p->at++;
        p->lost = p->lost || !eat(p, '>');
        return;
    }
    while (!over(p)) {
        uint8_t c = p->pattern.at[p->at++];
        switch (c) {
        case ':':
            return;
        case ')':
            *ret_scoped = false;
            return;
        case '-':
            on = false;
            break;
        case 'i':
            p->fold = on;
            break;
        case 'x':
            p->blanks = on;
            break;
        case 'm':
        case 's':
        case 'U':
        case 'R':
            break;
        case 'u':
            p->lost = p->lost || !on; // bytes
            break;
        default:
            p->lost = true;
            return;
        }
    }
    p->lost = true;
}

/* Behind the '(' at hand.  *ret_atom false: it only set flags. */
static struct text_info read_group(struct parser *p, bool *ret_atom)
{
    bool fold = p->fold, blanks = p->blanks, scoped = true;
    struct text_info info = {0};
    skip_blanks(p);
    if (eat(p, '?'))
        read_flags(p, &scoped);
    *ret_atom = scoped;
    if (!scoped || p->lost)
        return info;
    if (p->depth == NEST_MAX)
        return lose(p);
    p->depth++;
    info = read_choices(p);
    p->depth--;
    p->fold = fold;
    p->blanks = blanks;
    return eat(p, ')') ? info : lose(p);
}

/* ---- sequences ---- */

struct sequence {
    struct text_info acc;
    struct text_nodes needs;
    uint8_t run[RUN_MAX + 4]; /* characters that stand for themselves */
    size_t run_len;
};

static void end_run(struct parser *p, struct sequence *s)
{
    if (!s->run_len || p->maker.failed)
        return;
    slice text = arena_copy(p->maker.arena, slice_make(s->run, s->run_len));
    p->maker.failed = !text.at;
    if (text.at)
        text_info_concat(&p->maker, &s->acc, &s->needs, text_info_string(&p->maker, text));
    s->run_len = 0;
}

static void add_code(struct parser *p, struct sequence *s, uint32_t code)
{
    struct codes codes = {0};
    codes_add(&codes, code, p->fold);
    if (codes.count == 1 && !at_repetition(p)) {
        s->run_len += write_code(codes.at[0], s->run + s->run_len);
        if (s->run_len >= RUN_MAX)
            end_run(p, s);
        return;
    }
    end_run(p, s);
    if (!p->maker.failed)
        text_info_concat(&p->maker, &s->acc, &s->needs, read_repetitions(p, codes_info(p, &codes)));
}

/* An atom that is not a plain character; *ret_code when it is one after all. */
static struct text_info read_atom(struct parser *p, bool *ret_atom, uint32_t *ret_code)
{
    uint8_t c = peek(p);
    *ret_atom = true;
    *ret_code = CODE_NONE;
    if (c == '(' || c == '[' || c == '.' || c == '^' || c == '$' || c == '\\')
        p->at++;
    switch (c) {
    case '(':
        return read_group(p, ret_atom);
    case '[':
        return read_class(p);
    case '.':
        return text_info_any(&p->maker);
    case '^':
    case '$':
        p->asserts = true;
        return text_info_string(&p->maker, SLICE(""));
    case '*':
    case '+':
    case '?':
    case '{':
        return lose(p); // nothing to repeat
    case '\\': {
        uint32_t code;
        enum escape kind = read_escape(p, &code);
        if (kind == ESCAPE_CODE)
            *ret_code = code;
        if (kind != ESCAPE_ASSERT)
            return text_info_any(&p->maker);
        p->asserts = true;
        return text_info_string(&p->maker, SLICE(""));
    }
    default:
        *ret_code = read_code(p);
        return (struct text_info){0};
    }
}

static struct text_info read_sequence(struct parser *p)
{
    struct sequence *s = arena_zalloc(p->maker.arena, sizeof(*s)); // not on the stack: groups nest
    if (!s) {
        p->maker.failed = true;
        return (struct text_info){0};
    }
    s->acc = text_info_string(&p->maker, SLICE(""));
    for (;;) {
        skip_blanks(p);
        if (over(p) || peek(p) == '|' || peek(p) == ')')
            break;
        bool is_atom;
        uint32_t code;
        struct text_info info = read_atom(p, &is_atom, &code);
        if (p->lost || p->maker.failed)
            break;
        if (code != CODE_NONE) {
            add_code(p, s, code);
            continue;
        }
        end_run(p, s);
        if (is_atom && !p->maker.failed)
            text_info_concat(&p->maker, &s->acc, &s->needs, read_repetitions(p, info));
    }
    end_run(p, s);
    if (!s->acc.exact)
        s->acc.need = text_nodes_and(&p->maker, &s->needs);
    return s->acc;
}

static struct text_info read_choices(struct parser *p)
{
    struct text_info *choices = NULL;
    size_t count = 0, room = 0;
    do {
        if (count == room) {
            size_t more = room ? room * 2 : 2;
            struct text_info *at = ARENA_ARRAY(p->maker.arena, struct text_info, more);
            if (!at || more > CHOICE_MAX) {
                p->maker.failed = true;
                return (struct text_info){0};
            }
            if (count)
                memcpy(at, choices, count * sizeof(*at));
            choices = at;
            room = more;
        }
        choices[count++] = read_sequence(p);
    } while (!p->lost && !p->maker.failed && eat(p, '|'));
    if (p->lost || p->maker.failed)
        return (struct text_info){0};
    return text_info_alternate(&p->maker, choices, count);
}

/* ---- the whole ---- */

/* The matches are these strings: ranges of keys can say it all. */
static struct text_node *exact_root(struct parser *p, struct text_set set, bool *ret_exact)
{
    struct text_nodes nodes = {0};
    *ret_exact = !p->asserts;
    for (uint32_t i = 0; i < set.count; i++) {
        struct text_node *node = text_node_string(set.at[i], p->maker.arena);
        *ret_exact = *ret_exact && text_string_is_exact(set.at[i]);
        if (!node)
            p->maker.failed = true;
        text_nodes_add(&p->maker, &nodes, node);
    }
    struct text_node *root = p->maker.failed ? NULL : text_node_new(p->maker.arena, TEXT_OR);
    if (!root)
        return NULL;
    root->children = nodes.at;
    root->child_count = nodes.count;
    return nodes.count == 1 ? nodes.at[0] : root;
}

static uint64_t shortest(struct text_set set)
{
    uint64_t len = UINT64_MAX;
    for (uint32_t i = 0; i < set.count; i++)
        len = set.at[i].len < len ? set.at[i].len : len;
    return set.count ? len : 0;
}

void text_query_regex(slice pattern, struct arena *arena, struct text_query *ret_query)
{
    static const struct text_node all = {.op = TEXT_ALL};
    struct parser p = {.pattern = pattern, .maker = {.arena = arena, .grams = TEXT_GRAMS_MAX}};
    struct text_node *root = NULL;
    *ret_query = (struct text_query){.root = &all, .nodes = 1, .depth = 1};
    struct text_info info = read_choices(&p);
    if (p.lost || p.maker.failed || p.at != pattern.len)
        return;
    if (info.exact) {
        ret_query->len_min = shortest(info.strings);
        root = exact_root(&p, info.strings, &ret_query->exact);
    } else {
        struct text_nodes needs = {0};
        text_nodes_add(&p.maker, &needs, info.need);
        text_nodes_add(&p.maker, &needs, text_node_strings(&p.maker, info.pre));
        text_nodes_add(&p.maker, &needs, text_node_strings(&p.maker, info.suf));
        root = text_nodes_and(&p.maker, &needs);
    }
    if (p.maker.failed || !root) {
        *ret_query = (struct text_query){.root = &all, .nodes = 1, .depth = 1};
        return;
    }
    text_query_finish(ret_query, root);
}
