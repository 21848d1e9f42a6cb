/* SPDX-License-Identifier: Apache-2.0 */
/* Random documents in several languages, an index over them in memory, and the engine's word on patterns. */
#ifndef TESTS_UNIT_INDEX_TEXT_FIXTURE_H
#define TESTS_UNIT_INDEX_TEXT_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "index/text/text.h"
#include "index/text/text_internal.h"
#include "kernel/kernel.h"

#include <rure.h>

#define MUST(call)                                                              \
    do {                                                                        \
        och_error must_err_ = {0};                                              \
        och_error *err = &must_err_;                                            \
        if ((call) != OCH_OK)                                                   \
            fail_msg("%s:%d: %s: %s", __FILE__, __LINE__, #call, err->message); \
    } while (0)

struct corpus {
    struct arena arena;
    slice *documents;
    uint32_t count;
    uint64_t bytes;
    struct buf section;
    uint32_t directory_len;
    uint32_t piece;            /* bytes handed out at once; 0: all */
    bool reads;                /* searches may look into documents */
    uint32_t read, unreadable; /* how many they did; from which on they fail */
    uint8_t
        *copy; /* of the last piece, so that the sanitizer sees pointers that are kept too long */
};

static inline slice corpus_text(struct corpus *c, const char *text)
{
    return arena_copy(&c->arena, slice_of(text));
}

/* Words of several scripts, some of them rare; case, accents, a zero byte and percent signs among them. */
static inline slice corpus_document(struct corpus *c, struct random *random)
{
    static const char *const words[] = {"the",        "The",       "THE",      "quartz",
                                        "lighthouse", "protocol",  "function", "func_a",
                                        "Straße",     "STRASSE",   "ẞ",        "groß",
                                        "é",          "e\xcc\x81", "É",        "naïve",
                                        "Привет",     "привет",    "мир",      "文件",
                                        "ファイル",   "検索",      "中文字",   "한국어",
                                        "100%",       "a_b",       "c\\d",     "\xf0\x9f\x98\x80",
                                        "ſtop",       "Kelvin",    "kelvin",   "\xe2\x84\xaa",
                                        "σίγμα",      "ΣΊΓΜΑ",     "ς",        "İstanbul",
                                        "ısı",        "aaaa",      "aa",       "2024-01-31",
                                        "x",          "yz",        "foo",      "bar",
                                        "baz",        "\n",        "\t",       "!"};
    struct buf out;
    buf_init(&out, BUF_MAX_NONE);
    uint64_t count = random_below(random, 12);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t kind = random_below(random, 40);
        if (kind == 0)
            buf_byte(&out, 0);
        else if (kind == 1)
            buf_printf(&out, "w%u", (unsigned)random_below(random, 100000));
        else
            buf_text(&out, words[random_below(random, COUNT_OF(words))]);
        if (random_below(random, 3))
            buf_byte(&out, ' ');
    }
    slice copy = arena_copy(&c->arena, buf_view(&out));
    buf_done(&out);
    return copy;
}

static inline void corpus_init(struct corpus *c, uint32_t count, unsigned absent_percent,
                               uint64_t seed)
{
    struct random random;
    *c = (struct corpus){.count = count};
    arena_init(&c->arena, NULL, 0);
    random_seed(&random, seed);
    c->documents = ARENA_ARRAY(&c->arena, slice, count + 1);
    for (uint32_t i = 0; i < count; i++) {
        if (random_below(&random, 100) >= absent_percent)
            c->documents[i] = corpus_document(c, &random);
        c->bytes += c->documents[i].len;
    }
    buf_init(&c->section, BUF_MAX_NONE);
}

static inline void corpus_done(struct corpus *c)
{
    buf_done(&c->section);
    free(c->copy);
    arena_done(&c->arena);
}

static inline och_code corpus_row(void *context, uint32_t row, slice *ret, och_error *err)
{
    (void)err;
    *ret = ((struct corpus *)context)->documents[row];
    return OCH_OK;
}

static inline och_code corpus_read(void *context, uint32_t row, slice *ret, och_error *err)
{
    struct corpus *c = context;
    if (c->read++ >= c->unreadable)
        return FAIL(err, OCH_IO, "a document that cannot be read");
    return corpus_row(context, row, ret, err);
}

static inline och_code corpus_emit(void *context, const void *at, size_t len, och_error *err)
{
    struct corpus *c = context;
    buf_append(&c->section, at, len);
    return buf_check(&c->section, "a section", err);
}

static inline och_code corpus_build_in(struct corpus *c, uint32_t capacity, struct budget *budget,
                                       och_error *err)
{
    struct text_options options = {.budget = budget,
                                   .text_bytes = c->bytes,
                                   .capacity = capacity,
                                   .emit = corpus_emit,
                                   .emit_context = c};
    struct text_rows rows = {c, c->count, corpus_row};
    buf_clear(&c->section);
    return text_build(&options, &rows, &c->directory_len, err);
}

static inline void corpus_build(struct corpus *c, uint32_t capacity)
{
    MUST(corpus_build_in(c, capacity, NULL, err));
}

static inline och_code corpus_at(void *context, uint64_t offset, const uint8_t **ret_at,
                                 size_t *ret_len, och_error *err)
{
    struct corpus *c = context;
    if (offset >= c->section.len)
        return FAIL(err, OCH_INTERNAL, "a place outside the section");
    uint64_t piece = c->piece ? c->piece : c->section.len, from = offset / piece * piece;
    size_t len = min_size((size_t)piece, (size_t)(c->section.len - from));
    free(c->copy);
    c->copy = malloc(len);
    memcpy(c->copy, c->section.at + from, len);
    *ret_at = c->copy + (offset - from);
    *ret_len = len - (size_t)(offset - from);
    return OCH_OK;
}

static inline bool corpus_open(struct corpus *c, struct text_index *ret)
{
    slice directory =
        slice_make(c->section.at + c->section.len - c->directory_len, c->directory_len);
    return text_index_open(directory, c->section.len, c->count, ret);
}

static inline och_code corpus_search(struct corpus *c, const struct text_query *query,
                                     struct arena *arena, uint64_t **ret_words, uint32_t *ret_count,
                                     och_error *err)
{
    struct text_index index;
    struct text_pages pages = {c, corpus_at};
    uint64_t offset;
    if (!corpus_open(c, &index))
        return FAIL(err, OCH_CORRUPT, "not an index");
    struct text_rows documents = {c, c->count, corpus_read};
    return text_search(&index, &pages, query, c->reads ? &documents : NULL, NULL, arena, ret_words,
                       ret_count, &offset, err);
}

static inline bool corpus_contains(slice document, slice needle)
{
    return document.at &&
           kernel_get()->find(document.at, document.len, needle.at, needle.len) != SIZE_MAX;
}

/* NULL: the engine refuses it. */
static inline rure *corpus_regex(slice pattern)
{
    rure_error *error = rure_error_new();
    rure *regex = rure_compile(pattern.at, pattern.len, RURE_FLAG_UNICODE, NULL, error);
    rure_error_free(error);
    return regex;
}

static inline bool corpus_matches(rure *regex, slice document)
{
    return document.at && rure_is_match(regex, document.at, document.len, 0);
}
#endif
