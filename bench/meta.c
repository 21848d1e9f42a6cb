/* SPDX-License-Identifier: Apache-2.0 */
/* The metadata index beside an indexed SQLite table: a million rows of six keys in memory, the same predicates; SQLite steps over row
 * numbers, the index gives bits of rows for each 65,536 of them, or says that there are none.
 *
 *   bench_meta [rows]      one thread; medians of 15 runs (SQLite, and builds: of 3)
 *
 * Rows are encoded, and texts made, before either clock starts. */
#include "model/meta.h"
#include "base/clock.h"
#include "index/meta/meta_index.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEYS     6
#define TEXT_MAX 16

struct data {
    uint32_t rows;
    bool *flags;
    int64_t *ints, *times;
    double *floats;
    uint32_t *cities, *words;   /* of 1,000, uniform; skewed */
    char (*texts)[2][TEXT_MAX]; /* "city-", "word-" */
    struct buf encoded;         /* metadata of all rows */
    size_t *starts;             /* [rows + 1]: of each row in it */
    struct buf section;
    uint64_t dir_len;
};

static void fail(const char *what)
{
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static void make(struct data *d, uint32_t rows)
{
    struct random random;
    random_seed(&random, 1);
    *d = (struct data){.rows = rows,
                       .flags = malloc(rows),
                       .ints = malloc(8ul * rows),
                       .times = malloc(8ul * rows),
                       .floats = malloc(8ul * rows),
                       .cities = malloc(4ul * rows),
                       .words = malloc(4ul * rows)};
    for (uint32_t i = 0; i < rows; i++) {
        double skew = random_unit(&random);
        d->flags[i] = random_below(&random, 2);
        d->ints[i] = (int64_t)random_below(&random, 10000);
        d->floats[i] = random_unit(&random);
        d->cities[i] = (uint32_t)random_below(&random, 1000);
        d->words[i] = (uint32_t)(100000 * skew * skew * skew * skew);
        d->times[i] = 1700000000000 + (int64_t)i * 1000 + (int64_t)random_below(&random, 5000);
    }
}

static void put(struct buf *out, const char *key, uint8_t type, const void *at, size_t len)
{
    buf_sized(out, slice_of(key));
    buf_byte(out, type);
    buf_sized(out, slice_make(at, len));
}

static void encode(struct data *d, uint32_t i)
{
    struct buf *out = &d->encoded;
    uint8_t number[8], flag = d->flags[i];
    buf_varint(out, KEYS);
    put(out, "b", META_BOOL, &flag, 1);
    store_u64(number, *(uint64_t *)&d->floats[i]);
    put(out, "f", META_FLOAT, number, 8);
    store_u64(number, (uint64_t)d->ints[i]);
    put(out, "i", META_INT, number, 8);
    put(out, "s", META_STRING, d->texts[i][0], strlen(d->texts[i][0]));
    store_u64(number, (uint64_t)d->times[i]);
    put(out, "t", META_INT, number, 8);
    put(out, "z", META_STRING, d->texts[i][1], strlen(d->texts[i][1]));
}

static void encode_all(struct data *d)
{
    d->texts = malloc(d->rows * sizeof(*d->texts));
    d->starts = malloc((d->rows + 1) * sizeof(*d->starts));
    for (uint32_t i = 0; i < d->rows; i++) {
        (void)snprintf(d->texts[i][0], TEXT_MAX, "city-%u", d->cities[i]);
        (void)snprintf(d->texts[i][1], TEXT_MAX, "word-%u", d->words[i]);
        d->starts[i] = d->encoded.len;
        encode(d, i);
    }
    d->starts[d->rows] = d->encoded.len;
}

static och_code emit(void *context, const void *at, size_t len, och_error *err)
{
    struct data *d = context;
    buf_append(&d->section, at, len);
    return buf_check(&d->section, "the index", err);
}

static och_code at(void *context, uint64_t offset, size_t len, const uint8_t **ret_at,
                   och_error *err)
{
    (void)len, (void)err;
    *ret_at = ((struct data *)context)->section.at + offset;
    return OCH_OK;
}

static void release(void *context)
{
    (void)context;
}

static int compare_times(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Seconds; *ret_rows: of them, to collect the values row by row. */
static double build_once(struct data *d, double *ret_rows)
{
    struct meta_build *b;
    struct meta_build_options options = {.rows = d->rows, .work_bytes = SIZE_MAX};
    bool more;
    uint64_t began = sched_mono_ns();
    buf_clear(&d->section);
    if (meta_build_new(&options, &b, NULL) != OCH_OK)
        fail("no memory");
    for (uint32_t i = 0; i < d->rows; i++) {
        slice row = slice_make(d->encoded.at + d->starts[i], d->starts[i + 1] - d->starts[i]);
        if (meta_build_row(b, row, NULL) != OCH_OK)
            fail("a row");
    }
    *ret_rows = (double)(sched_mono_ns() - began) * 1e-9;
    if (meta_build_pass_end(b, emit, d, &more, NULL) != OCH_OK ||
        meta_build_finish(b, emit, d, &d->dir_len, NULL) != OCH_OK)
        fail("no index");
    meta_build_free(b);
    return (double)(sched_mono_ns() - began) * 1e-9;
}

static double build(struct data *d, double *ret_rows)
{
    double times[3], rows[3];
    for (int run = 0; run < 3; run++)
        times[run] = build_once(d, &rows[run]);
    qsort(times, 3, sizeof(*times), compare_times);
    qsort(rows, 3, sizeof(*rows), compare_times);
    *ret_rows = rows[1];
    return times[1];
}

static sqlite3 *table(const struct data *d, double *ret_seconds)
{
    sqlite3 *db;
    sqlite3_stmt *insert;
    uint64_t began = sched_mono_ns();
    if (sqlite3_open(":memory:", &db) != SQLITE_OK)
        fail("sqlite");
    sqlite3_exec(db, "create table r(n integer primary key, b, f, i, s, t, z); begin", 0, 0, 0);
    sqlite3_prepare_v2(db, "insert into r values(?,?,?,?,?,?,?)", -1, &insert, NULL);
    for (uint32_t row = 0; row < d->rows; row++) {
        sqlite3_bind_int64(insert, 1, row);
        sqlite3_bind_int(insert, 2, d->flags[row]);
        sqlite3_bind_double(insert, 3, d->floats[row]);
        sqlite3_bind_int64(insert, 4, d->ints[row]);
        sqlite3_bind_text(insert, 5, d->texts[row][0], -1, SQLITE_STATIC);
        sqlite3_bind_int64(insert, 6, d->times[row]);
        sqlite3_bind_text(insert, 7, d->texts[row][1], -1, SQLITE_STATIC);
        sqlite3_step(insert);
        sqlite3_reset(insert);
    }
    sqlite3_finalize(insert);
    sqlite3_exec(
        db,
        "commit; create index rb on r(b); create index rf on r(f); create index ri on r(i);"
        "create index rs on r(s); create index rt on r(t); create index rz on r(z); analyze",
        0, 0, 0);
    *ret_seconds = (double)(sched_mono_ns() - began) * 1e-9;
    return db;
}

static uint64_t ask_sqlite(sqlite3 *db, const char *where, double *ret_us)
{
    char sql[256];
    double times[3];
    uint64_t count = 0;
    (void)snprintf(sql, sizeof(sql), "select n from r where %s", where);
    for (int run = 0; run < 3; run++) {
        sqlite3_stmt *query;
        uint64_t began = sched_mono_ns();
        if (sqlite3_prepare_v2(db, sql, -1, &query, NULL) != SQLITE_OK)
            fail(sqlite3_errmsg(db));
        for (count = 0; sqlite3_step(query) == SQLITE_ROW; count++)
            ;
        sqlite3_finalize(query);
        times[run] = (double)(sched_mono_ns() - began) * 1e-3;
    }
    qsort(times, 3, sizeof(*times), compare_times);
    *ret_us = times[1];
    return count;
}

static uint64_t ask_index(struct data *d, const struct meta_index *index, const char *json,
                          double *ret_us)
{
    struct arena text;
    struct json_value value;
    struct json_fault fault;
    struct filter_node *node;
    struct meta_pages pages = {d, at, release};
    struct meta_search_options options = {.index = index, .pages = &pages, .rows = d->rows};
    uint64_t *words = malloc((d->rows / META_CHUNK + 1) * META_CHUNK_WORDS * 8ul), count = 0;
    bool *empty = malloc(index->chunks);
    double times[15];
    arena_init(&text, NULL, 0);
    if (json_read(slice_of(json), NULL, &text, &value, &fault, NULL) != OCH_OK ||
        filter_parse_where(&value, &text, &node, NULL) != OCH_OK)
        fail(json);
    for (int run = 0; run < 15; run++) {
        struct arena arena;
        struct meta_search search;
        uint64_t began = sched_mono_ns();
        arena_init(&arena, NULL, 0);
        och_code code = meta_search_init(&search, &options, node, &arena, NULL);
        for (uint32_t c = 0; code == OCH_OK && c < index->chunks; c++) {
            empty[c] = meta_search_is_empty(&search, c);
            if (!empty[c])
                code =
                    meta_search_chunk(&search, c, words + (size_t)c * META_CHUNK_WORDS, NULL, NULL);
        }
        if (code != OCH_OK || !search.exact)
            fail("a search");
        arena_done(&arena);
        times[run] = (double)(sched_mono_ns() - began) * 1e-3;
    }
    for (size_t i = 0; i < bitset_words(d->rows); i++)
        count += empty[i / META_CHUNK_WORDS] ? 0 : (uint64_t)__builtin_popcountll(words[i]);
    qsort(times, 15, sizeof(*times), compare_times);
    *ret_us = times[7];
    free(words);
    free(empty);
    arena_done(&text);
    return count;
}

int main(int argc, char **argv)
{
    static const char *const asked[][2] = {
        {"{\"b\": true}", "b = 1"},
        {"{\"f\": {\"$lt\": 0.5}}", "f < 0.5"},
        {"{\"f\": {\"$lt\": 0.1}}", "f < 0.1"},
        {"{\"f\": {\"$lt\": 0.01}}", "f < 0.01"},
        {"{\"f\": {\"$lt\": 0.001}}", "f < 0.001"},
        {"{\"i\": {\"$gte\": 5000}}", "i >= 5000"},
        {"{\"i\": 777}", "i = 777"},
        {"{\"s\": \"city-7\"}", "s = 'city-7'"},
        {"{\"z\": \"word-0\"}", "z = 'word-0'"},
        {"{\"$and\": [{\"t\": {\"$gte\": 1700500000000}}, {\"t\": {\"$lt\": 1700500100000}}]}",
         "t >= 1700500000000 and t < 1700500100000"},
        {"{\"$and\": [{\"b\": true}, {\"f\": {\"$lt\": 0.1}}]}", "b = 1 and f < 0.1"},
        {"{\"$or\": [{\"i\": {\"$lt\": 3000}}, {\"f\": {\"$lt\": 0.3}}]}", "i < 3000 or f < 0.3"},
    };
    struct data d;
    struct meta_index index;
    double seconds, collecting;
    make(&d, argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 1000000);
    buf_init(&d.encoded, BUF_MAX_NONE);
    buf_init(&d.section, BUF_MAX_NONE);
    encode_all(&d);
    double built = build(&d, &collecting);
    if (!meta_index_open(slice_make(d.section.at + d.section.len - d.dir_len, (size_t)d.dir_len),
                         d.section.len, d.rows, &index))
        fail("not an index");
    sqlite3 *db = table(&d, &seconds);
    sqlite3_stmt *pages;
    sqlite3_prepare_v2(db, "select page_count * page_size from pragma_page_count, pragma_page_size",
                       -1, &pages, NULL);
    double size = sqlite3_step(pages) == SQLITE_ROW ? (double)sqlite3_column_int64(pages, 0) : 0;
    sqlite3_finalize(pages);
    double values = (double)KEYS * d.rows;
    printf("build: %.2f M values/s (rows %.0f ms, columns %.0f ms), SQLite %.2f: %.1f x\n",
           values / built * 1e-6, collecting * 1e3, (built - collecting) * 1e3,
           values / seconds * 1e-6, seconds / built);
    printf("size: %.1f bytes a row, SQLite %.1f: 1/%.1f\n", (double)d.section.len / d.rows,
           size / d.rows, size / (double)d.section.len);
    printf(
        "| filter | rows | index us | SQLite us | ratio |\n| --- | ---: | ---: | ---: | ---: |\n");
    for (size_t i = 0; i < COUNT_OF(asked); i++) {
        double mine, theirs;
        uint64_t rows = ask_index(&d, &index, asked[i][0], &mine);
        if (rows != ask_sqlite(db, asked[i][1], &theirs))
            fail("the answers differ");
        printf("| `%s` | %llu | %.1f | %.0f | %.0f x |\n", asked[i][1], (unsigned long long)rows,
               mine, theirs, theirs / mine);
    }
    sqlite3_close(db);
    return 0;
}
