/* SPDX-License-Identifier: Apache-2.0 */
/* The index of terms in process, one thread, the section raw in memory: time and size of the build beside those of the text index over the same documents,
 * then BM25 of 3, 8 and 30 words through the index, by adding every posting, and by SQLite's FTS5 (unicode61, `rank`).
 *
 *     terms FILE [--docs N] [--queries N]
 *       FILE          text; documents are made of whole paragraphs, 600 bytes at least
 *       --docs N      at most (100000)
 *       --queries N   of each kind (100)
 *
 * Queries take words of one document.  Times are CPU time of a query; p50 and p99 over queries, each the least of three (SQLite: one). */
#include "documents.h"
#include "index/sparse/sparse_internal.h"
#include "index/text/text.h"

#include "base/clock.h"
#include "base/topk.h"

#include <sqlite3.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define ROUNDS    3
#define WORDS_MAX 30u

struct bench {
    struct documents docs;
    uint32_t queries;
    struct buf section, grams;
    uint32_t directory_len;
    struct sparse_index index;
    struct topk top;
    struct random random;
    sqlite3 *sqlite;
};

static void die(const char *what)
{
    (void)fprintf(stderr, "terms: %s\n", what);
    exit(1);
}

/* ---- building ---- */

static och_code row(void *context, uint32_t i, slice *ret, och_error *err)
{
    (void)err;
    *ret = ((struct bench *)context)->docs.at[i];
    return OCH_OK;
}

static och_code emit(void *context, const void *at, size_t len, och_error *err)
{
    struct buf *out = context;
    buf_append(out, at, len);
    return buf_check(out, "a section", err);
}

static void build(struct bench *b)
{
    static const slice key = {(const uint8_t *)"#document", 9};
    struct sparse_options options = {
        .text = true, .keys = &key, .key_count = 1, .emit = emit, .emit_context = &b->section};
    struct sparse_rows rows = {b, b->docs.count, row};
    struct text_options text = {
        .text_bytes = b->docs.bytes, .emit = emit, .emit_context = &b->grams};
    struct text_rows text_rows = {b, b->docs.count, row};
    uint32_t directory_len, term;
    uint64_t terms = 0, dims = 0, postings = 0;
    double began = cpu();
    for (uint32_t i = 0; i < b->docs.count; i++)
        for (struct terms walk = terms_of(b->docs.at[i]); terms_next(&walk, &term);)
            terms++;
    double cutting = cpu() - began;
    began = cpu();
    if (sparse_build(&options, &rows, &b->directory_len, NULL) != OCH_OK)
        die("no index");
    double took = cpu() - began;
    began = cpu();
    if (text_build(&text, &text_rows, &directory_len, NULL) != OCH_OK)
        die("no text index");
    double grams = cpu() - began;
    slice directory =
        slice_make(b->section.at + b->section.len - b->directory_len, b->directory_len);
    if (!sparse_index_open(directory, b->section.len, b->docs.count, &b->index))
        die("the index does not open");
    for (uint32_t i = 0; i < b->index.segment_count; i++) {
        dims += segment_at(&b->index, i).dims;
        postings += segment_at(&b->index, i).postings;
    }
    double mb = (double)b->docs.bytes / 1e6;
    printf("%u documents, %.1f MB, %.1f M terms, %.1f M postings, %.2f M lists, %u segments\n",
           b->docs.count, mb, (double)terms / 1e6, (double)postings / 1e6, (double)dims / 1e6,
           b->index.segment_count);
    printf("cutting into words %.0f MB/s; build %.0f MB/s, %.1f M postings/s; %.2f bytes a "
           "posting, %.3f per byte of text\n",
           mb / cutting, mb / took, (double)postings / 1e6 / took,
           (double)b->section.len / (double)postings,
           (double)b->section.len / (double)b->docs.bytes);
    printf("the text index: build %.0f MB/s, %.3f per byte of text\n", mb / grams,
           (double)b->grams.len / (double)b->docs.bytes);
}

static void build_sqlite(struct bench *b)
{
    sqlite3_stmt *insert;
    double began = cpu();
    if (sqlite3_open(":memory:", &b->sqlite) != SQLITE_OK ||
        sqlite3_exec(b->sqlite,
                     "CREATE VIRTUAL TABLE d USING fts5(t, content='', tokenize='unicode61 "
                     "remove_diacritics 0'); BEGIN",
                     NULL, NULL, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(b->sqlite, "INSERT INTO d(rowid, t) VALUES(?, ?)", -1, &insert, NULL) !=
            SQLITE_OK)
        die("no FTS5");
    for (uint32_t i = 0; i < b->docs.count; i++) {
        slice text = b->docs.at[i];
        (void)sqlite3_bind_int64(insert, 1, (sqlite3_int64)i + 1);
        (void)sqlite3_bind_text(insert, 2, (const char *)text.at, (int)text.len, SQLITE_STATIC);
        if (sqlite3_step(insert) != SQLITE_DONE)
            die("SQLite takes no row");
        (void)sqlite3_reset(insert);
    }
    (void)sqlite3_finalize(insert);
    (void)sqlite3_exec(b->sqlite, "COMMIT; INSERT INTO d(d) VALUES('optimize')", NULL, NULL, NULL);
    printf("FTS5 (unicode61, no content): build %.0f MB/s\n",
           (double)b->docs.bytes / 1e6 / (cpu() - began));
}

/* ---- asking ---- */

static och_code page_at(void *context, uint32_t slot, uint64_t offset, const uint8_t **ret_at,
                        size_t *ret_len, och_error *err)
{
    struct bench *b = context;
    (void)slot;
    if (offset >= b->section.len)
        return FAIL(err, OCH_CORRUPT, "a place outside");
    *ret_at = b->section.at + offset;
    *ret_len = b->section.len - (size_t)offset;
    return OCH_OK;
}
static float bound(void *context)
{
    return topk_bound(&((struct bench *)context)->top);
}
static och_code verify(void *context, uint32_t i, bool *ret, och_error *err)
{
    (void)context, (void)i, (void)err;
    *ret = true;
    return OCH_OK;
}
static och_code offer(void *context, uint32_t i, float score, och_error *err)
{
    (void)err;
    topk_push(&((struct bench *)context)->top,
              (struct topk_item){.distance = score, .row = i, .seq = i});
    return OCH_OK;
}

struct question {
    slice words[WORDS_MAX];
    uint32_t dims[WORDS_MAX];
    float weights[WORDS_MAX];
    uint32_t count;
};

static bool is_letter(uint8_t byte)
{
    return (byte | 32u) - 'a' < 26u;
}

/* Words of one document between blanks, of ASCII letters, so that SQLite cuts them alike; ascending by term. */
static struct question make_question(struct bench *b, uint32_t count)
{
    struct question q = {0};
    slice document = b->docs.at[random_below(&b->random, b->docs.count)];
    for (uint32_t tries = 0; tries < 20 * count && q.count < count; tries++) {
        size_t begin = (size_t)random_below(&b->random, document.len), end;
        while (begin < document.len && document.at[begin] > ' ')
            begin++;
        while (begin < document.len && document.at[begin] <= ' ')
            begin++;
        for (end = begin; end < document.len && is_letter(document.at[end]);)
            end++;
        slice word = slice_make(document.at + begin, end - begin);
        struct terms walk = terms_of(word);
        uint32_t term, at = 0;
        if (word.len < 2 || word.len > 40 || end == document.len || document.at[end] > ' ' ||
            !terms_next(&walk, &term))
            continue;
        while (at < q.count && q.dims[at] < term)
            at++;
        if (at < q.count && q.dims[at] == term)
            continue;
        memmove(q.dims + at + 1, q.dims + at, (q.count - at) * sizeof(*q.dims));
        memmove(q.words + at + 1, q.words + at, (q.count - at) * sizeof(*q.words));
        q.dims[at] = term;
        q.words[at] = word;
        q.count++;
    }
    return q;
}

/* All that a query does: count, weigh, search. */
static void ask(struct bench *b, struct question *q, size_t k, enum sparse_plan plan,
                struct sparse_search *ret)
{
    struct sparse_pages pages = {b, page_at};
    struct sparse_hits hits = {b, bound, verify, offer};
    struct sparse_terms terms = {q->dims, q->weights, q->count};
    struct arena arena;
    uint64_t offset, holders[WORDS_MAX] = {0}, documents, all;
    arena_init(&arena, NULL, 0);
    if (sparse_count(&b->index, &pages, SLICE("#document"), &terms, NULL, NULL, &arena, holders,
                     &offset, NULL) != OCH_OK ||
        sparse_totals(&b->index, &pages, NULL, &documents, &all, NULL) != OCH_OK)
        die("cannot count");
    for (uint32_t i = 0; i < q->count; i++)
        q->weights[i] = terms_idf(documents, holders[i]);
    *ret = (struct sparse_search){.index = &b->index,
                                  .pages = &pages,
                                  .key = SLICE("#document"),
                                  .terms = terms,
                                  .norm = terms_norm_of(documents, all),
                                  .k = k,
                                  .hits = &hits,
                                  .plan = plan};
    if (sparse_search(ret, &arena, &offset, NULL) != OCH_OK)
        die("a search fails");
    topk_sort(&b->top);
    arena_done(&arena);
}

static void ask_sqlite(struct bench *b, const struct question *q, size_t k)
{
    struct buf text;
    sqlite3_stmt *select;
    size_t found = 0;
    buf_init(&text, BUF_MAX_NONE);
    for (uint32_t i = 0; i < q->count; i++)
        buf_printf(&text, "%s\"%.*s\"", i ? " OR " : "", SLICE_ARG(q->words[i]));
    if (sqlite3_prepare_v2(b->sqlite,
                           "SELECT rowid, rank FROM d WHERE d MATCH ? ORDER BY rank LIMIT ?", -1,
                           &select, NULL) != SQLITE_OK)
        die("SQLite takes no query");
    (void)sqlite3_bind_text(select, 1, (const char *)text.at, (int)text.len, SQLITE_STATIC);
    (void)sqlite3_bind_int64(select, 2, (sqlite3_int64)k);
    while (sqlite3_step(select) == SQLITE_ROW)
        found++;
    (void)sqlite3_finalize(select);
    buf_done(&text);
    if (!found)
        die("SQLite finds nothing");
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

enum way { BY_INDEX, BY_FLAT, BY_SQLITE, WAYS };

static void compare(struct bench *b, uint32_t words, size_t k)
{
    double *times[WAYS];
    uint64_t read = 0, all = 0;
    struct arena arena;
    arena_init(&arena, NULL, 0);
    for (int way = 0; way < WAYS; way++)
        times[way] = ARENA_ARRAY(&arena, double, b->queries);
    for (uint32_t i = 0; i < b->queries; i++) {
        struct question q = make_question(b, words);
        for (int round = 0; round < ROUNDS; round++) {
            for (int way = 0; way < WAYS && q.count; way++) {
                struct sparse_search search;
                struct arena made;
                if (way == BY_SQLITE && round)
                    continue;
                arena_init(&made, NULL, 0);
                if (topk_init(&b->top, k, &made, NULL) != OCH_OK)
                    die("no memory");
                double began = cpu();
                if (way == BY_SQLITE)
                    ask_sqlite(b, &q, k);
                else
                    ask(b, &q, k, way == BY_FLAT ? SPARSE_FLAT : SPARSE_AUTO, &search);
                double took = cpu() - began;
                if (!round || took < times[way][i])
                    times[way][i] = took;
                if (way == BY_INDEX && !round) {
                    read += search.postings_read;
                    all += search.postings_all;
                }
                arena_done(&made);
            }
        }
    }
    for (int way = 0; way < WAYS; way++)
        qsort(times[way], b->queries, sizeof(double), by_value);
    uint32_t middle = b->queries / 2, late = b->queries * 99 / 100;
    printf("%2u words, k %3zu | index %7.3f %7.3f | every posting %7.3f %7.3f | FTS5 %8.3f %8.3f | "
           "read %3.0f %% of %llu k\n",
           words, k, times[BY_INDEX][middle] * 1e3, times[BY_INDEX][late] * 1e3,
           times[BY_FLAT][middle] * 1e3, times[BY_FLAT][late] * 1e3, times[BY_SQLITE][middle] * 1e3,
           times[BY_SQLITE][late] * 1e3, 100.0 * (double)read / (double)(all ? all : 1),
           (unsigned long long)(all / b->queries / 1000));
    arena_done(&arena);
}

int main(int argc, char **argv)
{
    static const uint32_t words[] = {3, 8, 30};
    static const size_t ks[] = {10, 100};
    struct bench b = {.queries = 100};
    uint32_t most = 100000;
    if (argc < 2)
        die("usage: terms FILE [--docs N] [--queries N]");
    for (int i = 2; i + 1 < argc; i += 2) {
        uint32_t value = (uint32_t)strtoul(argv[i + 1], NULL, 10);
        if (strcmp(argv[i], "--docs") == 0)
            most = value;
        else if (strcmp(argv[i], "--queries") == 0)
            b.queries = value;
        else
            die("usage: terms FILE [--docs N] [--queries N]");
    }
    random_seed(&b.random, 7);
    buf_init(&b.section, BUF_MAX_NONE);
    buf_init(&b.grams, BUF_MAX_NONE);
    if (!documents_load(&b.docs, argv[1], most))
        die("cannot read the file");
    build(&b);
    build_sqlite(&b);
    printf("ms: p50, p99\n");
    for (size_t i = 0; i < COUNT_OF(words); i++)
        for (size_t j = 0; j < COUNT_OF(ks); j++)
            compare(&b, words[i], ks[j]);
    (void)sqlite3_close(b.sqlite);
    free(b.docs.text);
    free(b.docs.at);
    buf_done(&b.section);
    buf_done(&b.grams);
    return 0;
}
