/* SPDX-License-Identifier: Apache-2.0 */
/* GET /metrics: read by a strict parser of the exposition format, moving as it should, and described by docs/metrics.md. */
#include "base/metric.h"
#include "library_test.h"
#include "mode/server.h"
#include "net/http.h"

#include <glob.h>

#define D   "/api/v2/tenants/default_tenant/databases/default_database"
#define C   D "/collections"
#define R   "/api/v2/tenants/*/databases/*/collections"
#define MAX 4096

/* ---- the parser ---- */

struct sample {
    char name[128], labels[1024]; /* labels as written */
    double value;
};
struct family {
    char name[128], type[16], help[512];
};
struct page {
    struct family families[128];
    struct sample samples[MAX];
    size_t family_count, sample_count;
};

static bool is_name(const char *at, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        bool letter = (at[i] >= 'a' && at[i] <= 'z') || at[i] == '_';
        if (!letter && !(i > 0 && at[i] >= '0' && at[i] <= '9'))
            return false;
    }
    return len > 0 && len < 128;
}

/* Past the labels; NULL when they are not sound. */
static const char *skip_labels(const char *at)
{
    char seen[16][64];
    size_t count = 0;
    for (;;) {
        size_t len = strcspn(at, "=\n");
        if (!is_name(at, len) || len >= 64 || count == 16 || at[len] != '=' || at[len + 1] != '"')
            return NULL;
        (void)snprintf(seen[count], 64, "%.*s", (int)len, at);
        for (size_t i = 0; i < count; i++) {
            if (strcmp(seen[i], seen[count]) == 0)
                return NULL;
        }
        count++;
        at += len + 2;
        for (; *at != '"'; at++) {
            if (*at == '\n' || *at == '\0')
                return NULL;
            if (*at == '\\' && (++at, *at != '\\' && *at != '"' && *at != 'n'))
                return NULL;
        }
        at++;
        if (*at == '}')
            return at + 1;
        if (*at++ != ',')
            return NULL;
    }
}

static bool read_value(const char *at, size_t len, double *ret_value)
{
    char text[64], *end;
    if (len == 0 || len >= sizeof(text))
        return false;
    memcpy(text, at, len);
    text[len] = '\0';
    if (strspn(text, "0123456789.") != len)
        return false; /* ours are never negative, NaN or in powers of ten */
    *ret_value = strtod(text, &end);
    return *end == '\0';
}

/* A sample of the family that stands open. */
static bool read_sample(struct page *page, const char *line, size_t len)
{
    if (page->family_count == 0 || page->sample_count == MAX)
        return false;
    struct family *family = &page->families[page->family_count - 1];
    struct sample *sample = &page->samples[page->sample_count];
    size_t name = strcspn(line, "{ \n");
    if (!is_name(line, name))
        return false;
    (void)snprintf(sample->name, sizeof(sample->name), "%.*s", (int)name, line);
    const char *at = line + name;
    sample->labels[0] = '\0';
    if (*at == '{') {
        at = skip_labels(line + name + 1);
        if (!at || (size_t)(at - line) - name > sizeof(sample->labels))
            return false;
        (void)snprintf(sample->labels, sizeof(sample->labels), "%.*s",
                       (int)((size_t)(at - line) - name - 2), line + name + 1);
    }
    if (*at++ != ' ' || !read_value(at, len - (size_t)(at - line), &sample->value))
        return false;
    size_t own = strlen(family->name);
    const char *suffix = sample->name + own;
    if (strncmp(sample->name, family->name, own) != 0)
        return false;
    bool part = strcmp(suffix, "_bucket") == 0 || strcmp(suffix, "_sum") == 0 ||
                strcmp(suffix, "_count") == 0;
    if (strcmp(family->type, "histogram") == 0 ? !part : *suffix != '\0')
        return false;
    for (size_t i = 0; i < page->sample_count; i++) {
        if (strcmp(page->samples[i].name, sample->name) == 0 &&
            strcmp(page->samples[i].labels, sample->labels) == 0)
            return false;
    }
    page->sample_count++;
    return true;
}

static bool read_head(struct page *page, const char *line, size_t len, const char *next)
{
    if (page->family_count == 128 || strncmp(line, "# HELP ", 7) != 0)
        return false;
    struct family *family = &page->families[page->family_count];
    size_t name = strcspn(line + 7, " \n"), help = len - 8 - name;
    if (len < 9 + name || !is_name(line + 7, name) || help >= sizeof(family->help))
        return false;
    (void)snprintf(family->name, sizeof(family->name), "%.*s", (int)name, line + 7);
    (void)snprintf(family->help, sizeof(family->help), "%.*s", (int)help, line + 8 + name);
    char expected[160];
    int size = snprintf(expected, sizeof(expected), "# TYPE %s ", family->name);
    if (strncmp(next, expected, (size_t)size) != 0)
        return false;
    size_t type = strcspn(next + size, "\n");
    if (type >= sizeof(family->type))
        return false;
    (void)snprintf(family->type, sizeof(family->type), "%.*s", (int)type, next + size);
    bool counter = strcmp(family->type, "counter") == 0;
    if (!counter && strcmp(family->type, "gauge") != 0 && strcmp(family->type, "histogram") != 0)
        return false;
    size_t end = strlen(family->name);
    if (counter != (end > 6 && strcmp(family->name + end - 6, "_total") == 0))
        return false; /* by convention */
    for (size_t i = 0; i < page->family_count; i++) {
        if (strcmp(page->families[i].name, family->name) == 0)
            return false;
    }
    page->family_count++;
    return true;
}

/* The first line that is wrong, or NULL. */
static const char *read_page(const char *text, struct page *page)
{
    page->family_count = page->sample_count = 0;
    for (const char *at = text; *at != '\0';) {
        const char *end = strchr(at, '\n');
        if (!end)
            return at; /* the last line ends too */
        if (*at == '#') {
            if (!read_head(page, at, (size_t)(end - at), end + 1))
                return at;
            end = strchr(end + 1, '\n');
        } else if (!read_sample(page, at, (size_t)(end - at))) {
            return at;
        }
        at = end + 1;
    }
    return NULL;
}

/* Buckets rise, bounds rise, the last is +Inf and the count; the sum is there. */
static void check_histograms(const struct page *page)
{
    double before = 0, bound_before = -1;
    for (size_t i = 0; i < page->sample_count; i++) {
        const struct sample *s = &page->samples[i];
        const char *le = strstr(s->labels, "le=\"");
        size_t len = strlen(s->name);
        if (len < 7 || strcmp(s->name + len - 7, "_bucket") != 0)
            continue;
        assert_non_null(le);
        assert_true(s->value >= before);
        before = s->value;
        bool last = strcmp(le, "le=\"+Inf\"") == 0;
        if (!last) {
            double bound = strtod(le + 4, NULL);
            assert_true(bound > bound_before);
            bound_before = bound;
            continue;
        }
        assert_true(i + 2 < page->sample_count);
        assert_non_null(strstr(s[1].name, "_sum"));
        assert_non_null(strstr(s[2].name, "_count"));
        assert_true(s[2].value == s->value);
        before = 0;
        bound_before = -1;
    }
}

/* ---- what is asked ---- */

static struct page page;

static void scrape_embedded(och_database *database)
{
    och_request request = OCH_REQUEST;
    och_response *r;
    request.method = och_text("GET");
    request.target = och_text("/metrics");
    OK(och_database_exchange(database, &request, &r, &err));
    assert_int_equal(och_response_status(r), 200);
    och_bytes body = och_response_body(r);
    char *text = calloc(1, body.len + 1);
    memcpy(text, body.at, body.len);
    const char *wrong = read_page(text, &page);
    if (wrong)
        fail_msg("not the format: %.200s", wrong);
    check_histograms(&page);
    free(text);
    och_response_free(r);
}

static int ask(och_database *database, const char *method, const char *target, const char *body)
{
    och_header type = {och_text("content-type"), och_text("application/json")};
    och_request request = OCH_REQUEST;
    och_response *r;
    request.method = och_text(method);
    request.target = och_text(target);
    request.headers = &type;
    request.header_count = 1;
    request.body = och_text(body ? body : "");
    OK(och_database_exchange(database, &request, &r, &err));
    int status = och_response_status(r);
    och_response_free(r);
    return status;
}

/* -1: not there. */
static double value_of(const char *name, const char *labels)
{
    for (size_t i = 0; i < page.sample_count; i++) {
        if (strcmp(page.samples[i].name, name) == 0 && strstr(page.samples[i].labels, labels))
            return page.samples[i].value;
    }
    return -1;
}

static void the_parser_refuses_what_is_not_the_format(void **state)
{
    (void)state;
#define HEAD "# HELP a_total x\n# TYPE a_total counter\n"
    static const char *const wrong[] = {
        HEAD "a_total 1",
        HEAD "a_total  1\n",
        HEAD "b_total 1\n",
        HEAD "a_total{} 1\n",
        HEAD "a_total{x=1} 1\n",
        HEAD "a_total{x=\"\\q\"} 1\n",
        HEAD "a_total{x=\"1} 1\n",
        HEAD "a_total 1\na_total 2\n",
        HEAD "a_total -1\n",
        HEAD "a_total{x=\"1\",x=\"1\"} 1\n",
        HEAD HEAD,
        "a_total 1\n",
        "# TYPE a_total counter\na_total 1\n",
        "# HELP a x\n# TYPE a counter\na 1\n",
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        if (!read_page(wrong[i], &page))
            fail_msg("taken: %s", wrong[i]);
    }
    assert_null(read_page(HEAD "a_total{x=\"1\\\"\\n\\\\\",y=\"\"} 1\n", &page));
}

static void labels_are_escaped(void **state)
{
    (void)state;
    struct buf labels, out;
    buf_init(&labels, BUF_MAX_NONE);
    buf_init(&out, BUF_MAX_NONE);
    metric_label(&labels, "a", slice_of("x\"y\\z\nw"));
    metric_label(&labels, "b", slice_make("\0}", 2));
    metric_family(&out, "t", "gauge", "Help.");
    metric_nano(&out, "t", metric_labels(&labels), 1500000001);
    buf_byte(&out, 0);
    assert_string_equal((const char *)out.at, "# HELP t Help.\n# TYPE t gauge\n"
                                              "t{a=\"x\\\"y\\\\z\\nw\",b=\"?}\"} 1.500000001\n");
    assert_null(read_page((const char *)out.at, &page));
    buf_done(&labels);
    buf_done(&out);
}

static void requests_and_records_are_counted(void **state)
{
    (void)state;
    static const char add[] = "{\"ids\":[\"a\",\"b\",\"c\"],\"embeddings\":[[1,2],[3,4],[5,6]]}";
    och_database *database = test_open(NULL);
    scrape_embedded(database);
    assert_true(value_of("ochre_http_requests_total", "") == -1); /* itself is counted later */
    assert_true(value_of("ochre_http_requests_running", "") == 1);
    assert_true(value_of("ochre_log_backlog_records", "") == 0);
    char id[37], target[256];
    och_request request = OCH_REQUEST;
    och_response *r;
    och_header type = {och_text("content-type"), och_text("application/json")};
    request.method = och_text("POST");
    request.target = och_text(C);
    request.headers = &type;
    request.header_count = 1;
    request.body = och_text("{\"name\":\"counted\"}");
    OK(och_database_exchange(database, &request, &r, &err));
    (void)snprintf(id, sizeof(id), "%.36s", (const char *)och_response_body(r).at + 7);
    och_response_free(r);
    (void)snprintf(target, sizeof(target), C "/%s/add", id);
    assert_int_equal(ask(database, "POST", target, add), 201);
    assert_int_equal(ask(database, "POST", target, "{\"ids\":[\"d\"]}"), 422);
    assert_int_equal(ask(database, "POST", target, add), 201); /* all there: skipped */
    (void)snprintf(target, sizeof(target), C "/%s/count", id);
    assert_int_equal(ask(database, "GET", target, NULL), 200);
    assert_int_equal(ask(database, "GET", "/nowhere/\"quoted\"", NULL), 404);
    (void)snprintf(target, sizeof(target), C "/%s/indexing_status", id);
    assert_int_equal(ask(database, "GET", target, NULL), 200);
    scrape_embedded(database);
    const char *answers = "ochre_http_requests_total";
    assert_true(value_of(answers, "method=\"POST\",route=\"" R "/*/add\",code=\"201\"") == 2);
    assert_true(value_of(answers, "method=\"POST\",route=\"" R "/*/add\",code=\"422\"") == 1);
    assert_true(value_of(answers, "method=\"GET\",route=\"" R "/*/count\",code=\"200\"") == 1);
    assert_true(value_of(answers, "method=\"any\",route=\"none\",code=\"404\"") == 1);
    assert_true(value_of(answers, "route=\"/metrics\",code=\"200\"") == 1);
    assert_true(value_of("ochre_http_request_duration_seconds_count", R "/*/add\"") == 3);
    assert_true(value_of("ochre_http_request_duration_seconds_sum", R "/*/add\"") > 0);
    assert_true(value_of("ochre_log_backlog_records", "") == 6);
    assert_true(value_of("ochre_log_backlog_batches", "") == 2);
    assert_true(value_of("ochre_log_backlog_bytes", "") > 0);
    assert_true(value_of("ochre_log_appends_total", "") == 2);
    assert_true(value_of("ochre_collections_loaded", "") == 1);
    assert_true(value_of("ochre_collection_records", "name=\"counted\"") == 3);
    assert_true(value_of("ochre_collection_tail_rows", id) == 6);
    assert_true(value_of("ochre_memory_used_bytes", "") > 0);
    assert_true(value_of("ochre_damaged_parts", "") == 0);
    test_close(database);
}

/* ---- the server and the page ---- */

struct fixture {
    char path[64];
    struct settings settings;
    struct server *server;
};

static void open_server(struct fixture *f)
{
    if (!f->path[0])
        (void)snprintf(f->path, sizeof(f->path), "%s", test_folder());
    struct setting_flag flags[] = {
        {"path", f->path}, {"port", "0"}, {"memory-limit", "256MiB"}, {"workers", "8"}};
    struct settings_input input = {.flags = flags, .flag_count = COUNT_OF(flags)};
    OK(settings_init(&input, &f->settings, &err));
    struct server_options options = {.settings = &f->settings};
    OK(server_start(&options, &f->server, &err));
}

static void stop_server(struct fixture *f)
{
    OK(server_stop(f->server, SERVER_DRAIN_MS, &err));
    server_free(f->server);
    settings_done(&f->settings);
}

static void close_server(struct fixture *f)
{
    stop_server(f);
    test_remove(f->path);
}

static void scrape(struct fixture *f)
{
    struct arena arena;
    struct http_answer answer;
    arena_init(&arena, NULL, 0);
    OK(http_fetch("localhost", server_port(f->server), "GET", "/metrics", NULL, 0, SLICE_NONE,
                  20000, &arena, &answer, &err));
    assert_int_equal(answer.status, 200);
    const char *head = arena_printf(&arena, "%.*s", SLICE_ARG(answer.head));
    assert_non_null(strstr(head, "text/plain; version=0.0.4"));
    const char *text = arena_printf(&arena, "%.*s", SLICE_ARG(answer.body));
    const char *wrong = read_page(text, &page);
    if (wrong)
        fail_msg("not the format: %.200s", wrong);
    check_histograms(&page);
    arena_done(&arena);
}

static och_code make(struct gateway *gateway, const char *name, uuid *ret_id)
{
    struct gateway_scope scope = {.tenant = SLICE("default_tenant"),
                                  .database = SLICE("default_database")};
    struct gateway_collection_new spec = {.name = slice_of(name)};
    const struct sysdb_collection *collection;
    och_code code = gateway_collection_create(gateway, &scope, &spec, &collection, &err);
    if (code == OCH_OK) {
        *ret_id = collection->id;
        sysdb_collection_unref(collection);
    }
    return code;
}

static void put(struct gateway *gateway, uuid id, size_t rows)
{
    struct gateway_scope scope = {.tenant = SLICE("default_tenant"),
                                  .database = SLICE("default_database")};
    static float vectors[64 * 2];
    static char names[64][8];
    struct batch_input_row batch[64];
    assert_true(rows <= 64);
    memset(batch, 0, sizeof(batch));
    for (size_t i = 0; i < rows; i++) {
        (void)snprintf(names[i], sizeof(names[i]), "r%zu", i);
        batch[i].op = BATCH_UPSERT;
        batch[i].id = slice_of(names[i]);
        batch[i].vector = &vectors[2 * i];
    }
    struct gateway_write write = {
        .collection = id, .input = {.rows = batch, .count = (uint32_t)rows, .dimension = 2}};
    struct gateway_counts counts;
    OK(gateway_write(gateway, &scope, &write, &counts, &err));
}

/* However many there are, so many and no more are told apart: the largest. */
static void only_the_largest_collections_are_told_apart(void **state)
{
    (void)state;
    struct fixture f = {0};
    uuid ids[40];
    open_server(&f);
    struct gateway *gateway = database_gateway(server_database(f.server));
    for (size_t i = 0; i < 40; i++) {
        char name[16];
        (void)snprintf(name, sizeof(name), "many-%zu", i);
        OK(make(gateway, name, &ids[i]));
        put(gateway, ids[i], 1 + i);
        struct view *view;
        OK(view_acquire(database_views(server_database(f.server)), ids[i], READ_INDEX_AND_WAL,
                        &view, &err));
        view_release(view);
    }
    scrape(&f);
    size_t count = 0;
    for (size_t i = 0; i < page.sample_count; i++)
        count += strcmp(page.samples[i].name, "ochre_collection_records") == 0;
    assert_int_equal(count, 20);
    assert_true(value_of("ochre_collection_records", "name=\"many-39\"") == 40);
    assert_true(value_of("ochre_collection_records", "name=\"many-20\"") == 21);
    assert_true(value_of("ochre_collection_records", "name=\"many-19\"") == -1);
    assert_true(value_of("ochre_log_backlog_collections", "") > 0);
    OK(compactor_run(database_compactor(server_database(f.server)), NULL, true, &err));
    scrape(&f);
    assert_true(value_of("ochre_compaction_runs_total", "kind=\"flush\"") > 0);
    assert_true(value_of("ochre_compaction_rows_total", "") == 820);
    assert_true(value_of("ochre_log_backlog_records", "") == 0);
    assert_true(value_of("ochre_collection_tail_rows", "name=\"many-39\"") == 0);
    assert_true(value_of("ochre_collection_part_bytes", "name=\"many-39\"") > 0);
    assert_true(value_of("ochre_http_connections", "") == 1);
    assert_true(value_of("ochre_http_requests_waiting", "") == 0);
    close_server(&f);
}

static void what_the_server_refuses_by_itself_is_counted(void **state)
{
    (void)state;
    struct fixture f = {0};
    struct arena arena;
    struct http_answer answer;
    open_server(&f);
    scrape(&f);
    assert_true(value_of("ochre_http_refused_total", "") == 0);
    struct http_header headers[] = {{SLICE("content-encoding"), SLICE("br")},
                                    {SLICE("content-type"), SLICE("application/json")}};
    arena_init(&arena, NULL, 0);
    OK(http_fetch("localhost", server_port(f.server), "POST", C, headers, 2, SLICE("{}"), 20000,
                  &arena, &answer, &err));
    assert_true(answer.status >= 400);
    arena_done(&arena);
    scrape(&f);
    assert_true(value_of("ochre_http_refused_total", "") == 1);
    close_server(&f);
}

/* Turn one bit over; again: back. */
static void flip(const char *path, long at)
{
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, at, SEEK_SET), 0);
    int byte = fgetc(file);
    assert_int_equal(fseek(file, at, SEEK_SET), 0);
    assert_true(byte != EOF && fputc(byte ^ 4, file) != EOF);
    fclose(file);
}

static int ask_server(struct fixture *f, const char *method, const char *target, const char *body,
                      bool *ret_warned)
{
    struct arena arena;
    struct http_answer answer;
    struct http_header headers[] = {{SLICE("content-type"), SLICE("application/json")}};
    arena_init(&arena, NULL, 0);
    OK(http_fetch("localhost", server_port(f->server), method, target, headers, 1, slice_of(body),
                  20000, &arena, &answer, &err));
    const char *head = arena_printf(&arena, "%.*s", SLICE_ARG(answer.head));
    *ret_warned = strstr(head, "\r\nWarning: ") != NULL;
    arena_done(&arena);
    return answer.status;
}

/* D4: a damaged section is told by metrics and health, once somebody met it. */
static void damaged_parts_are_told(void **state)
{
    (void)state;
    struct fixture f = {0};
    uuid id;
    char text[UUID_TEXT_SIZE], target[256], pattern[128];
    bool warned;
    open_server(&f);
    OK(make(database_gateway(server_database(f.server)), "damaged", &id));
    put(database_gateway(server_database(f.server)), id, 64);
    OK(compactor_run(database_compactor(server_database(f.server)), NULL, true, &err));
    (void)ask_server(&f, "GET", "/api/v2/healthcheck", "", &warned);
    assert_false(warned);
    stop_server(&f);
    glob_t found;
    (void)snprintf(pattern, sizeof(pattern), "%s/blobs/*/*.blob", f.path);
    assert_int_equal(glob(pattern, 0, NULL, &found), 0);
    assert_int_equal(found.gl_pathc, 1);
    struct stat info;
    assert_int_equal(stat(found.gl_pathv[0], &info), 0);
    (void)snprintf(target, sizeof(target), C "/%s/get", uuid_format(id, text));
    size_t told = 0;
    for (long step = 0; step < 32 && told == 0; step++) {
        long at = (long)info.st_size * (2 * step + 1) / 64;
        flip(found.gl_pathv[0], at);
        open_server(&f);
        static const char which[] = "{\"ids\":[\"r1\",\"x\"],\"include\":[\"embeddings\"]}";
        int status = ask_server(&f, "POST", target, which, &warned);
        scrape(&f);
        if (value_of("ochre_damaged_parts", "") == 1) {
            told++;
            assert_true(status == 500 || status == 200);
            assert_true(value_of("ochre_collection_damaged_parts", "name=\"damaged\"") == 1);
            assert_int_equal(ask_server(&f, "GET", "/api/v2/healthcheck", "", &warned), 200);
            assert_true(warned);
        }
        stop_server(&f);
        flip(found.gl_pathv[0], at);
    }
    assert_int_equal(told, 1);
    globfree(&found);
    test_remove(f.path);
}

static void the_page_is_made_from_the_answer(void **state)
{
    (void)state;
    struct fixture f = {0};
    struct buf text;
    open_server(&f);
    scrape(&f);
    close_server(&f);
    buf_init(&text, BUF_MAX_NONE);
    buf_text(
        &text,
        "# Metrics\n\n`GET /metrics` answers in Prometheus' text format (0.0.4), on the port of "
        "the API and through the embedded exchange. Counters begin at 0 with each start.\n\n"
        "Labels are few whatever the data: `method`, `route` (the pattern, `*` for each variable "
        "segment; `none` where no route was found) and `code` of requests; `heat` of the cache; "
        "`kind` of compaction; `collection` (its id), `tenant`, `database`, `name` of the 20 "
        "largest collections in memory. Those that nobody used lately are not in memory.\n\n"
        "Worth an alert: `ochre_log_read_only` or `ochre_log_failing` at 1, any "
        "`ochre_damaged_parts`, `ochre_log_backlog_bytes` near the setting `log_slow`, rising "
        "`ochre_compaction_failures_total`, `ochre_http_busy_total` or answers with code 5xx.\n\n"
        "| name | type | what |\n| --- | --- | --- |\n");
    for (size_t i = 0; i < page.family_count; i++)
        buf_printf(&text, "| `%s` | %s | %s |\n", page.families[i].name, page.families[i].type,
                   page.families[i].help);
    if (getenv("OCHRE_WRITE_DOCS")) {
        FILE *file = fopen("docs/metrics.md", "wb");
        assert_non_null(file);
        assert_int_equal(fwrite(text.at, 1, text.len, file), text.len);
        fclose(file);
    }
    FILE *file = fopen("docs/metrics.md", "rb");
    assert_non_null(file);
    char *stored = calloc(1, text.len + 2);
    size_t len = fread(stored, 1, text.len + 1, file);
    fclose(file);
    if (!slice_equal(buf_view(&text), slice_make(stored, len)))
        fail_msg("docs/metrics.md is not what the server answers: OCHRE_WRITE_DOCS=1 writes it");
    free(stored);
    buf_done(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_parser_refuses_what_is_not_the_format),
        cmocka_unit_test(labels_are_escaped),
        cmocka_unit_test(requests_and_records_are_counted),
        cmocka_unit_test(only_the_largest_collections_are_told_apart),
        cmocka_unit_test(what_the_server_refuses_by_itself_is_counted),
        cmocka_unit_test(damaged_parts_are_told),
        cmocka_unit_test(the_page_is_made_from_the_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
