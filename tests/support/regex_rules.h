/* SPDX-License-Identifier: Apache-2.0 */
/* Random regular expressions and what they match, found by following all places at once: the truth that tests compare `$regex` with.  Patterns are
 * known by their text as long as they are in the table; texts are UTF-8. */
#ifndef SUPPORT_REGEX_RULES_H
#define SUPPORT_REGEX_RULES_H

#include "base/buf.h"
#include "base/clock.h"
#include "support/text_rules.h"

#define REGEX_TEXT_MAX     4096 /* bytes of a text */
#define REGEX_NODES_MAX    4096
#define REGEX_PATTERNS_MAX 256

enum regex_kind {
    REGEX_CHARS, /* one of `chars` */
    REGEX_NOT_CHARS,
    REGEX_ANY, /* but a line feed */
    REGEX_DIGIT,
    REGEX_NOT_DIGIT,
    REGEX_WORD,
    REGEX_NOT_WORD,
    REGEX_BEGIN,
    REGEX_END,
    REGEX_EDGE,
    REGEX_NOT_EDGE,
    REGEX_SEQUENCE,
    REGEX_CHOICE,
    REGEX_REPEAT /* the one child, least to most times; most -1: any number */
};
struct regex_node {
    enum regex_kind kind;
    char chars[24];
    int least, most;
    struct regex_node *children[3];
    int child_count;
};
static struct {
    struct regex_node nodes[REGEX_NODES_MAX];
    int node_count;
    struct {
        char text[512];
        size_t len;
        const struct regex_node *root;
        bool folds; /* (?i) */
    } patterns[REGEX_PATTERNS_MAX];
    int count;
} regex_table;

/* ---- making ---- */

#define REGEX_ALPHABET 12
static const char *const regex_alphabet[REGEX_ALPHABET] = {
    "a", "b", "c", "A", "B", "s", "k", "É", "é", "文", "\xe2\x84\xaa", "1"};

static inline uint32_t regex_below(struct random *random, uint32_t count)
{
    return (uint32_t)random_below(random, count);
}

static inline struct regex_node *regex_new(enum regex_kind kind)
{
    struct regex_node *node = &regex_table.nodes[regex_table.node_count++];
    memset(node, 0, sizeof(*node));
    node->kind = kind;
    return node;
}

static inline bool regex_is_char(const struct regex_node *node)
{
    return node->kind <= REGEX_NOT_WORD;
}

static inline struct regex_node *regex_random_leaf(struct random *random)
{
    static const enum regex_kind kinds[] = {REGEX_ANY,  REGEX_DIGIT,    REGEX_NOT_DIGIT,
                                            REGEX_WORD, REGEX_NOT_WORD, REGEX_BEGIN,
                                            REGEX_END,  REGEX_EDGE,     REGEX_NOT_EDGE};
    if (regex_below(random, 4) == 0)
        return regex_new(kinds[regex_below(random, COUNT_OF(kinds))]);
    struct regex_node *node = regex_new(regex_below(random, 12) ? REGEX_CHARS : REGEX_NOT_CHARS);
    uint32_t count = regex_below(random, 4) ? 1 : 1 + regex_below(random, 3);
    for (uint32_t i = 0; i < count; i++)
        strcat(node->chars, regex_alphabet[regex_below(random, REGEX_ALPHABET)]);
    return node;
}

/* Only single characters, and sequences of them that are all named, repeat without bound: following the others through long texts takes too long. */
static inline bool regex_may_run(const struct regex_node *node)
{
    bool named = node->kind == REGEX_SEQUENCE && node->child_count > 0;
    for (int i = 0; i < node->child_count; i++)
        named = named && node->children[i]->kind == REGEX_CHARS;
    return regex_is_char(node) || named;
}

/* Recursion as deep as `depth` says. */
static inline struct regex_node *regex_random_node(struct random *random, unsigned depth)
{
    uint32_t form = depth ? regex_below(random, 6) : 0;
    if (form < 2)
        return regex_random_leaf(random);
    if (form == 2) {
        struct regex_node *node = regex_new(REGEX_REPEAT);
        node->children[node->child_count++] = regex_random_node(random, depth - 1);
        node->least = (int)regex_below(random, 3);
        node->most = node->least + (int)regex_below(random, 3);
        if (regex_may_run(node->children[0]) && regex_below(random, 2))
            node->most = -1;
        return node;
    }
    struct regex_node *node = regex_new(form == 3 ? REGEX_CHOICE : REGEX_SEQUENCE);
    uint32_t count = 1 + regex_below(random, 3);
    for (uint32_t i = 0; i < count; i++)
        node->children[node->child_count++] = regex_random_node(random, depth - 1);
    return node;
}

static inline void regex_write_repeat(const struct regex_node *node, bool lazy, struct buf *out)
{
    if (node->least == 0 && node->most == 1)
        buf_byte(out, '?');
    else if (node->least < 2 && node->most < 0)
        buf_byte(out, node->least ? '+' : '*');
    else if (node->most < 0)
        buf_printf(out, "{%d,}", node->least);
    else if (node->least == node->most)
        buf_printf(out, "{%d}", node->least);
    else
        buf_printf(out, "{%d,%d}", node->least, node->most);
    if (lazy)
        buf_byte(out, '?');
}

static inline void regex_write(const struct regex_node *node, struct random *random,
                               struct buf *out)
{
    static const char *const escapes[] = {
        [REGEX_ANY] = ".",    [REGEX_DIGIT] = "\\d",    [REGEX_NOT_DIGIT] = "\\D",
        [REGEX_WORD] = "\\w", [REGEX_NOT_WORD] = "\\W", [REGEX_BEGIN] = "^",
        [REGEX_END] = "$",    [REGEX_EDGE] = "\\b",     [REGEX_NOT_EDGE] = "\\B"};
    static const char *const groups[] = {"(", "(?:", "(?P<n>"};
    static unsigned names;
    if (node->kind == REGEX_CHARS && strlen(node->chars) == rule_char_len(slice_of(node->chars))) {
        buf_text(out, node->chars);
        return;
    }
    if (node->kind <= REGEX_NOT_CHARS) {
        buf_printf(out, "[%s%s]", node->kind == REGEX_CHARS ? "" : "^", node->chars);
        return;
    }
    if (node->kind < REGEX_SEQUENCE) {
        buf_text(out, escapes[node->kind]);
        return;
    }
    uint32_t group = regex_below(random, 3);
    if (group == 2)
        buf_printf(out, "(?P<n%u>", names++);
    else
        buf_text(out, groups[group]);
    for (int i = 0; i < node->child_count; i++) {
        if (i && node->kind == REGEX_CHOICE)
            buf_byte(out, '|');
        regex_write(node->children[i], random, out);
    }
    if (node->kind == REGEX_REPEAT)
        regex_write_repeat(node, regex_below(random, 4) == 0, out);
    buf_byte(out, ')');
}

/* A pattern, put into the table and written as text.  False: the table is full. */
static inline bool regex_random(struct random *random, unsigned depth, struct buf *out)
{
    if (regex_table.count == REGEX_PATTERNS_MAX || regex_table.node_count > REGEX_NODES_MAX - 500)
        return false;
    size_t start = out->len;
    bool folds = regex_below(random, 3) == 0;
    const struct regex_node *root = regex_random_node(random, depth);
    buf_text(out, folds ? "(?i)" : "");
    regex_write(root, random, out);
    size_t len = out->len - start;
    if (len > sizeof(regex_table.patterns[0].text)) {
        out->len = start;
        return false;
    }
    memcpy(regex_table.patterns[regex_table.count].text, out->at + start, len);
    regex_table.patterns[regex_table.count].len = len;
    regex_table.patterns[regex_table.count].root = root;
    regex_table.patterns[regex_table.count++].folds = folds;
    return true;
}

/* One that is there; of a table that is empty the pattern "a". */
static inline void regex_known(struct buf *out)
{
    if (!regex_table.count) {
        struct regex_node *node = regex_new(REGEX_CHARS);
        strcpy(node->chars, "a");
        regex_table.patterns[0].text[0] = 'a';
        regex_table.patterns[0].len = 1;
        regex_table.patterns[0].root = node;
        regex_table.patterns[regex_table.count++].folds = false;
    }
    buf_append(out, regex_table.patterns[0].text, regex_table.patterns[0].len);
}

/* What was made is forgotten. */
static inline void regex_forget(void)
{
    regex_table.count = regex_table.node_count = 0;
}

/* ---- matching ---- */

static inline bool regex_is_digit(slice c)
{
    return c.at[0] >= '0' && c.at[0] <= '9';
}

/* Of the characters that tests use: all beyond ASCII are letters or marks, but for a dash and a full stop. */
static inline bool regex_is_word(slice c)
{
    uint8_t b = c.at[0];
    if (slice_starts_with(c, SLICE("—")) || slice_starts_with(c, SLICE("。")))
        return false;
    return b >= 0x80 || b == '_' || regex_is_digit(c) || (b >= 'a' && b <= 'z') ||
           (b >= 'A' && b <= 'Z');
}

static inline bool regex_same_char(slice a, slice b, bool folds)
{
    size_t x, y;
    if (folds)
        return rule_fold(a, &x) == rule_fold(b, &y);
    x = rule_char_len(a);
    return x == rule_char_len(b) && memcmp(a.at, b.at, x) == 0;
}

static inline bool regex_takes(const struct regex_node *node, slice at, bool folds)
{
    switch (node->kind) {
    case REGEX_ANY:
        return at.at[0] != '\n';
    case REGEX_DIGIT:
        return regex_is_digit(at);
    case REGEX_NOT_DIGIT:
        return !regex_is_digit(at);
    case REGEX_WORD:
        return regex_is_word(at);
    case REGEX_NOT_WORD:
        return !regex_is_word(at);
    default: {
        bool among = false;
        for (slice c = slice_of(node->chars); c.len; c = slice_from(c, rule_char_len(c)))
            among = among || regex_same_char(c, at, folds);
        return among == (node->kind == REGEX_CHARS);
    }
    }
}

static inline bool regex_stands(const struct regex_node *node, slice text, size_t at)
{
    if (node->kind == REGEX_BEGIN)
        return at == 0;
    if (node->kind == REGEX_END)
        return at == text.len;
    size_t before = at;
    while (before && (text.at[--before] & 0xc0) == 0x80)
        ;
    bool left = at && regex_is_word(slice_from(text, before)),
         right = at < text.len && regex_is_word(slice_from(text, at));
    return (left != right) == (node->kind == REGEX_EDGE);
}

static inline void regex_follow(const struct regex_node *node, slice text, bool folds,
                                const uint8_t *from, uint8_t *to);

static inline void regex_follow_repeat(const struct regex_node *node, slice text, bool folds,
                                       const uint8_t *from, uint8_t *to)
{
    uint8_t now[REGEX_TEXT_MAX + 1], next[REGEX_TEXT_MAX + 1];
    memcpy(now, from, text.len + 1);
    for (int i = 0; i < node->least; i++) {
        regex_follow(node->children[0], text, folds, now, next);
        memcpy(now, next, text.len + 1);
    }
    memcpy(to, now, text.len + 1);
    bool runs = node->most < 0 && regex_is_char(node->children[0]);
    for (size_t at = 0; runs && at < text.len; at++) {
        if (to[at] && regex_takes(node->children[0], slice_from(text, at), folds))
            to[at + rule_char_len(slice_from(text, at))] = 1;
    }
    for (int i = node->least, more = !runs; more && (node->most < 0 || i < node->most); i++) {
        more = 0;
        regex_follow(node->children[0], text, folds, now, next);
        for (size_t at = 0; at <= text.len; at++) {
            now[at] = next[at] && !to[at];
            to[at] |= now[at];
            more |= now[at];
        }
    }
}

/* to[i]: some way through the node leads from a place of `from` to i. */
static inline void regex_follow(const struct regex_node *node, slice text, bool folds,
                                const uint8_t *from, uint8_t *to)
{
    uint8_t now[REGEX_TEXT_MAX + 1];
    if (node->kind == REGEX_REPEAT) {
        regex_follow_repeat(node, text, folds, from, to);
        return;
    }
    if (node->kind == REGEX_SEQUENCE) {
        memcpy(to, from, text.len + 1);
        for (int i = 0; i < node->child_count; i++) {
            memcpy(now, to, text.len + 1);
            regex_follow(node->children[i], text, folds, now, to);
        }
        return;
    }
    memset(to, 0, text.len + 1);
    for (int i = 0; node->kind == REGEX_CHOICE && i < node->child_count; i++) {
        regex_follow(node->children[i], text, folds, from, now);
        for (size_t at = 0; at <= text.len; at++)
            to[at] |= now[at];
    }
    for (size_t at = 0; node->kind < REGEX_SEQUENCE && at <= text.len; at++) {
        slice rest = slice_from(text, at);
        if (!from[at])
            continue;
        if (!regex_is_char(node))
            to[at] |= regex_stands(node, text, at);
        else if (rest.len && regex_takes(node, rest, folds))
            to[at + rule_char_len(rest)] = 1;
    }
}

static inline bool rule_regex(slice text, slice pattern)
{
    uint8_t from[REGEX_TEXT_MAX + 1], to[REGEX_TEXT_MAX + 1];
    int i = 0;
    while (i < regex_table.count && !slice_equal(pattern, slice_make(regex_table.patterns[i].text,
                                                                     regex_table.patterns[i].len)))
        i++;
    assert_true(i < regex_table.count && text.len <= REGEX_TEXT_MAX);
    for (size_t at = 0; at <= text.len; at++)
        from[at] = at == text.len || (text.at[at] & 0xc0) != 0x80;
    regex_follow(regex_table.patterns[i].root, text, regex_table.patterns[i].folds, from, to);
    return memchr(to, 1, text.len + 1) != NULL;
}
#endif
