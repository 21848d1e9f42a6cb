/* SPDX-License-Identifier: Apache-2.0 */
/* The text index in process, one thread, documents raw in memory: time and size of the build, then needles and patterns through the index and
 * by reading everything, beside SQLite's trigram FTS over the same documents.
 *
 *     text FILE [--docs N] [--no-sqlite]
 *       FILE       text; documents are made of whole paragraphs, 600 bytes at least
 *       --docs N   at most (100000)
 *
 * Times are CPU time, medians of five (SQLite: three).  "all" tests every candidate, "ten" stops after ten rows, "scan" reads all documents.
 * Answers are compared with the scan's. */
#include "index/text/text.h"
#include "base/buf.h"
#include "base/sched.h"
#include "documents.h"
#include "kernel/kernel.h"

#include <rure.h>
#include <sqlite3.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ROUNDS 5

struct bench {
    struct documents docs;
    struct buf section;
    uint32_t directory_len;
    struct text_index index;
    sqlite3 *sqlite;
};

static void die(const char *what)
{
    (void)fprintf(stderr, "text: %s\n", what);
    exit(1);
}

/* ---- the index ---- */

static och_code row(void *context, uint32_t i, slice *ret, och_error *err)
{
    (void)err;
    *ret = ((struct bench *)context)->docs.at[i];
    return OCH_OK;
}

static och_code emit(void *context, const void *at, size_t len, och_error *err)
{
    struct bench *b = context;
    buf_append(&b->section, at, len);
    return buf_check(&b->section, "a section", err);
}

static och_code page(void *context, uint64_t offset, const uint8_t **ret_at, size_t *ret_len,
                     och_error *err)
{
    struct bench *b = context;
    (void)err;
    *ret_at = b->section.at + offset;
    *ret_len = (size_t)(b->section.len - offset);
    return OCH_OK;
}

static void build(struct bench *b)
{
    struct budget budget;
    budget_init(&budget, 0, NULL);
    buf_init(&b->section, BUF_MAX_NONE);
    struct text_options options = {
        .budget = &budget, .text_bytes = b->docs.bytes, .emit = emit, .emit_context = b};
    struct text_rows rows = {b, b->docs.count, row};
    double began = cpu();
    if (text_build(&options, &rows, &b->directory_len, NULL) != OCH_OK)
        die("no index");
    double took = cpu() - began;
    slice directory =
        slice_make(b->section.at + b->section.len - b->directory_len, b->directory_len);
    if (!text_index_open(directory, b->section.len, b->docs.count, &b->index))
        die("not an index");
    printf("%u documents, %.1f MB: built at %.1f MB/s, %.3f bytes per byte of text, %u segments, "
           "directory %.4f\n",
           b->docs.count, (double)b->docs.bytes / 1e6, (double)b->docs.bytes / 1e6 / took,
           (double)b->section.len / (double)b->docs.bytes, b->index.segments,
           (double)b->directory_len / (double)b->docs.bytes);
}

/* ---- questions ---- */

struct question {
    const char *text;
    bool regex;
};
struct answer {
    uint32_t rows, candidates;
    bool exact;
};

static bool holds(const struct question *q, rure *regex, slice document)
{
    if (regex)
        return rure_is_match(regex, document.at, document.len, 0);
    return kernel_get()->find(document.at, document.len, (const uint8_t *)q->text,
                              strlen(q->text)) != SIZE_MAX;
}

static struct answer ask(struct bench *b, const struct question *q, rure *regex, uint32_t most)
{
    struct arena arena;
    struct text_query query;
    struct text_pages pages = {b, page};
    struct text_rows rows = {b, b->docs.count, row};
    struct answer answer = {0};
    uint64_t *words, offset;
    arena_init(&arena, NULL, 0);
    if (regex)
        text_query_regex(slice_of(q->text), &arena, &query);
    else if (text_query_contains(slice_of(q->text), &arena, &query, NULL) != OCH_OK)
        die("no memory");
    if (text_search(&b->index, &pages, &query, &rows, NULL, &arena, &words, &answer.candidates,
                    &offset, NULL) != OCH_OK)
        die("a search failed");
    answer.exact = query.exact;
    if (query.exact) {
        answer.rows = answer.candidates < most ? answer.candidates : most;
    } else {
        for (uint32_t w = 0; w < bitset_words(b->docs.count) && answer.rows < most; w++) {
            for (uint64_t left = words[w]; left && answer.rows < most; left &= left - 1)
                answer.rows +=
                    holds(q, regex, b->docs.at[w * 64 + (uint32_t)__builtin_ctzll(left)]);
        }
    }
    arena_done(&arena);
    return answer;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *times, size_t count)
{
    qsort(times, count, sizeof(*times), compare);
    return times[count / 2] * 1e3;
}

/* ---- SQLite ---- */

static void sqlite_build(struct bench *b)
{
    sqlite3_stmt *insert;
    if (sqlite3_open(":memory:", &b->sqlite) != SQLITE_OK ||
        sqlite3_exec(b->sqlite,
                     "PRAGMA case_sensitive_like=1; CREATE VIRTUAL TABLE t USING "
                     "fts5(body, tokenize='trigram case_sensitive 1'); BEGIN",
                     NULL, NULL, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(b->sqlite, "INSERT INTO t(body) VALUES(?)", -1, &insert, NULL) !=
            SQLITE_OK)
        die(sqlite3_errmsg(b->sqlite));
    double began = cpu();
    for (uint32_t i = 0; i < b->docs.count; i++) {
        (void)sqlite3_bind_text(insert, 1, (const char *)b->docs.at[i].at, (int)b->docs.at[i].len,
                                SQLITE_STATIC);
        if (sqlite3_step(insert) != SQLITE_DONE)
            die(sqlite3_errmsg(b->sqlite));
        (void)sqlite3_reset(insert);
    }
    (void)sqlite3_finalize(insert);
    (void)sqlite3_exec(b->sqlite, "COMMIT", NULL, NULL, NULL);
    printf("SQLite FTS5 trigram: built at %.1f MB/s\n",
           (double)b->docs.bytes / 1e6 / (cpu() - began));
}

static double sqlite_ask(struct bench *b, const char *sql, const char *needle)
{
    double times[3];
    for (size_t i = 0; i < COUNT_OF(times); i++) {
        sqlite3_stmt *select;
        double began = cpu();
        if (sqlite3_prepare_v2(b->sqlite, sql, -1, &select, NULL) != SQLITE_OK)
            die(sqlite3_errmsg(b->sqlite));
        (void)sqlite3_bind_text(select, 1, needle, -1, SQLITE_STATIC);
        (void)sqlite3_step(select);
        (void)sqlite3_finalize(select);
        times[i] = cpu() - began;
    }
    return median(times, COUNT_OF(times));
}

static void measure(struct bench *b, const struct question *q)
{
    double all[ROUNDS], ten[ROUNDS], scan[ROUNDS];
    struct answer answer = {0};
    uint32_t truth = 0;
    rure *regex = NULL;
    if (q->regex) {
        regex =
            rure_compile((const uint8_t *)q->text, strlen(q->text), RURE_FLAG_UNICODE, NULL, NULL);
        if (!regex)
            die("a pattern the engine refuses");
    }
    for (size_t i = 0; i < ROUNDS; i++) {
        double began = cpu();
        answer = ask(b, q, regex, UINT32_MAX);
        all[i] = cpu() - began;
        began = cpu();
        (void)ask(b, q, regex, 10);
        ten[i] = cpu() - began;
        began = cpu();
        truth = 0;
        for (uint32_t d = 0; d < b->docs.count; d++)
            truth += holds(q, regex, b->docs.at[d]);
        scan[i] = cpu() - began;
    }
    if (truth != answer.rows)
        die("a wrong answer");
    printf("| `%s` | %u | %s%u | %.3f | %.3f | %.2f |", q->text, answer.rows,
           answer.exact ? "=" : "", answer.candidates, median(all, ROUNDS), median(ten, ROUNDS),
           median(scan, ROUNDS));
    if (b->sqlite && !q->regex) {
        double like =
            sqlite_ask(b, "SELECT count(*) FROM t WHERE body LIKE '%' || ? || '%'", q->text);
        double match = strlen(q->text) >= 3
                           ? sqlite_ask(b,
                                        "SELECT count(*) FROM t WHERE t MATCH '\"' || ?1 || '\"' "
                                        "AND instr(body, ?1)",
                                        q->text)
                           : 0;
        printf(" %.1f | %.2f |", like, match);
    }
    printf("\n");
    (void)fflush(stdout);
    if (regex)
        rure_free(regex);
}

int main(int argc, char **argv)
{
    struct bench b = {0};
    uint32_t most = 100000;
    bool sqlite = true;
    const char *path = NULL;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--docs") == 0 && i + 1 < argc)
            most = (uint32_t)strtoul(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--no-sqlite") == 0)
            sqlite = false;
        else
            path = argv[i];
    }
    if (!path || !most)
        die("usage: text FILE [--docs N] [--no-sqlite]");
    if (!documents_load(&b.docs, path, most))
        die("cannot read the file");
    build(&b);
    if (sqlite)
        sqlite_build(&b);
    char some[61] = {0};
    slice middle = b.docs.at[b.docs.count / 2];
    memcpy(some, middle.at + middle.len / 4, 60);
    for (size_t i = 0; i < 60; i++) // one line of the table; and no cut character at either end
        some[i] = (uint8_t)some[i] < 32 || (uint8_t)some[i] > 126 ? ' ' : some[i];
    const struct question questions[] = {{"e", false},
                                         {"th", false},
                                         {"zq", false},
                                         {"文", false},
                                         {"ж", false},
                                         {"the ", false},
                                         {"SELECT", false},
                                         {"Unix", false},
                                         {"function", false},
                                         {"xylophone", false},
                                         {"the configuration file", false},
                                         {"zqxjkv", false},
                                         {some, false},
                                         {"func(tion)?_[a-z]+", true},
                                         {"(?i)segmentation fault", true},
                                         {"colou?r", true},
                                         {"foo|bar|baz", true},
                                         {"err(or|no).*failed", true},
                                         {"(?m)^The ", true},
                                         {"(?i)kernel (panic|oops)", true},
                                         {"\\d{4}-\\d{2}-\\d{2}", true},
                                         {"[A-Z]{12,}", true}};
    printf("| question | rows | candidates | all ms | ten ms | scan ms |%s\n",
           b.sqlite ? " LIKE ms | MATCH ms |" : "");
    for (size_t i = 0; i < COUNT_OF(questions); i++)
        measure(&b, &questions[i]);
    (void)sqlite3_close(b.sqlite);
    buf_done(&b.section);
    free(b.docs.at);
    free(b.docs.text);
    return 0;
}
