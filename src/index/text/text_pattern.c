/* SPDX-License-Identifier: Apache-2.0 */
/* A reader of regular expressions that the engine has already vouched for: it needs to know where each part ends and which strings the simple
 * ones stand for.  What it does not know makes the whole pattern say nothing; bigger classes and the like say nothing where they stand. */
#include "index/text/text_pattern.h"

#define NEST_MAX   60u /* groups; it bounds recursion here.  Deeper patterns say nothing. */
#define RUN_MAX    192u
#define CHOICE_MAX (1u << 20)
#define REPEAT_MAX 4u

/* ---- repetition ---- */

static bool read_number(struct pattern *p, uint32_t *ret)
{
    uint64_t value = 0;
    bool any = false;
    for (; pattern_peek(p) >= '0' && pattern_peek(p) <= '9'; p->at++, any = true)
        value = value < UINT32_MAX ? value * 10 + (pattern_peek(p) - '0') : value;
    *ret = value < UINT32_MAX ? (uint32_t)value : UINT32_MAX - 1;
    return any;
}

/* "{n}", "{n,}", "{n,m}"; UINT32_MAX: no end. */
static void read_counts(struct pattern *p, uint32_t *ret_min, uint32_t *ret_max)
{
    if (!read_number(p, ret_min)) {
        p->lost = true;
        return;
    }
    *ret_max = *ret_min;
    if (pattern_eat(p, ',') && !read_number(p, ret_max))
        *ret_max = UINT32_MAX;
    if (!pattern_eat(p, '}'))
        p->lost = true; // blanks, perhaps
}

static struct text_info repeat(struct pattern *p, struct text_info info, uint32_t min, uint32_t max)
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

static bool at_repetition(struct pattern *p)
{
    pattern_skip_blanks(p);
    uint8_t c = pattern_peek(p);
    return p->at < p->pattern.len && (c == '*' || c == '+' || c == '?' || c == '{');
}

/* What follows an atom, and lazy or not makes no difference. */
static struct text_info read_repetitions(struct pattern *p, struct text_info info)
{
    while (!pattern_over(p) && at_repetition(p)) {
        uint8_t c = p->pattern.at[p->at++];
        uint32_t min = c == '+', max = c == '?' ? 1 : UINT32_MAX;
        if (c == '{')
            read_counts(p, &min, &max);
        (void)pattern_eat(p, '?');
        if (p->lost)
            break;
        info = repeat(p, info, min, max);
    }
    return info;
}

/* ---- groups ---- */

static struct text_info read_choices(struct pattern *p);

/* Behind "(?": flags up to ':' or ')', or a name.  *ret_scoped: a group follows. */
static void read_flags(struct pattern *p, bool *ret_scoped)
{
    bool on = true;
    *ret_scoped = true;
    if (pattern_peek(p) == 'P' || pattern_peek(p) == '<') {
        while (!pattern_over(p) && pattern_peek(p) != '>')
            p->at++;
        p->lost = p->lost || !pattern_eat(p, '>');
        return;
    }
    while (!pattern_over(p)) {
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
static struct text_info read_group(struct pattern *p, bool *ret_atom)
{
    bool fold = p->fold, blanks = p->blanks, scoped = true;
    struct text_info info = {0};
    pattern_skip_blanks(p);
    if (pattern_eat(p, '?'))
        read_flags(p, &scoped);
    *ret_atom = scoped;
    if (!scoped || p->lost)
        return info;
    if (p->depth == NEST_MAX)
        return pattern_lose(p);
    p->depth++;
    info = read_choices(p);
    p->depth--;
    p->fold = fold;
    p->blanks = blanks;
    return pattern_eat(p, ')') ? info : pattern_lose(p);
}

/* ---- sequences ---- */

struct sequence {
    struct text_info acc;
    struct text_nodes needs;
    uint8_t run[RUN_MAX + 4]; /* characters that stand for themselves */
    size_t run_len;
};

static void end_run(struct pattern *p, struct sequence *s)
{
    if (!s->run_len || p->maker.failed)
        return;
    slice text = arena_copy(p->maker.arena, slice_make(s->run, s->run_len));
    p->maker.failed = !text.at;
    if (text.at)
        text_info_concat(&p->maker, &s->acc, &s->needs, text_info_string(&p->maker, text));
    s->run_len = 0;
}

static void add_code(struct pattern *p, struct sequence *s, uint32_t code)
{
    struct pattern_codes codes = {0};
    pattern_codes_add(&codes, code, p->fold);
    if (codes.count == 1 && !at_repetition(p)) {
        s->run_len += pattern_write_code(codes.at[0], s->run + s->run_len);
        if (s->run_len >= RUN_MAX)
            end_run(p, s);
        return;
    }
    end_run(p, s);
    if (!p->maker.failed)
        text_info_concat(&p->maker, &s->acc, &s->needs,
                         read_repetitions(p, pattern_codes_info(p, &codes)));
}

/* An atom that is not a plain character; *ret_code when it is one after all. */
static struct text_info read_atom(struct pattern *p, bool *ret_atom, uint32_t *ret_code)
{
    uint8_t c = pattern_peek(p);
    *ret_atom = true;
    *ret_code = CODE_NONE;
    if (c == '(' || c == '[' || c == '.' || c == '^' || c == '$' || c == '\\')
        p->at++;
    switch (c) {
    case '(':
        return read_group(p, ret_atom);
    case '[':
        return pattern_read_class(p);
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
        return pattern_lose(p); // nothing to repeat
    case '\\': {
        uint32_t code;
        enum pattern_escape kind = pattern_read_escape(p, &code);
        if (kind == ESCAPE_CODE)
            *ret_code = code;
        if (kind != ESCAPE_ASSERT)
            return text_info_any(&p->maker);
        p->asserts = true;
        return text_info_string(&p->maker, SLICE(""));
    }
    default:
        *ret_code = pattern_read_code(p);
        return (struct text_info){0};
    }
}

static struct text_info read_sequence(struct pattern *p)
{
    struct sequence *s = arena_zalloc(p->maker.arena, sizeof(*s)); // not on the stack: groups nest
    if (!s) {
        p->maker.failed = true;
        return (struct text_info){0};
    }
    s->acc = text_info_string(&p->maker, SLICE(""));
    for (;;) {
        pattern_skip_blanks(p);
        if (pattern_over(p) || pattern_peek(p) == '|' || pattern_peek(p) == ')')
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

static struct text_info read_choices(struct pattern *p)
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
    } while (!p->lost && !p->maker.failed && pattern_eat(p, '|'));
    if (p->lost || p->maker.failed)
        return (struct text_info){0};
    return text_info_alternate(&p->maker, choices, count);
}

/* ---- the whole ---- */

/* The matches are these strings: ranges of keys can say it all. */
static struct text_node *exact_root(struct pattern *p, struct text_set set, bool *ret_exact)
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
    struct pattern p = {.pattern = pattern, .maker = {.arena = arena, .grams = TEXT_GRAMS_MAX}};
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
