/* SPDX-License-Identifier: Apache-2.0 */
/* A pattern being read: its characters and classes (text_letters.c), and what is made of them (text_pattern.c).  Inside index/text only. */
#ifndef INDEX_TEXT_PATTERN_H
#define INDEX_TEXT_PATTERN_H

#include "index/text/text_internal.h"

#define CODE_NONE UINT32_MAX

struct pattern {
    slice pattern;
    size_t at;
    struct text_maker maker;
    bool lost;         /* not understood: stop */
    bool fold, blanks; /* (?i), (?x) */
    bool asserts;      /* it has places that match no text but ask for something */
    unsigned depth;
};

static inline bool pattern_over(const struct pattern *p)
{
    return p->lost || p->maker.failed || p->at >= p->pattern.len;
}

static inline uint8_t pattern_peek(const struct pattern *p)
{
    return p->at < p->pattern.len ? p->pattern.at[p->at] : 0;
}

static inline bool pattern_eat(struct pattern *p, uint8_t c)
{
    if (p->at >= p->pattern.len || p->pattern.at[p->at] != c)
        return false;
    p->at++;
    return true;
}

static inline struct text_info pattern_lose(struct pattern *p)
{
    p->lost = true;
    return (struct text_info){0};
}

/* Code points, each with those that equal it if case does not count. */
struct pattern_codes {
    uint32_t at[TEXT_SET_MAX];
    uint32_t count;
    bool many; /* more than fit, or not known */
};

enum pattern_escape { ESCAPE_CODE, ESCAPE_CLASS, ESCAPE_ASSERT };

/** The code point at hand, in UTF-8. */
uint32_t pattern_read_code(struct pattern *p);
/** In UTF-8; returns its bytes. */
size_t pattern_write_code(uint32_t c, uint8_t out[4]);
/** White space and remarks, if (?x) is on. */
void pattern_skip_blanks(struct pattern *p);
/** After a backslash. */
enum pattern_escape pattern_read_escape(struct pattern *p, uint32_t *ret_code);
void pattern_codes_add(struct pattern_codes *codes, uint32_t code, bool fold);
/** What one of them says; all when they are many. */
struct text_info pattern_codes_info(struct pattern *p, const struct pattern_codes *codes);
/** Behind the '[' at hand. */
struct text_info pattern_read_class(struct pattern *p);
#endif
