/* SPDX-License-Identifier: Apache-2.0 */
/* Ingest and queries side by side, over HTTP, against a real server that it starts itself.
 *
 *     ingest BINARY [options]
 *       --rows N --dim D      200000, 768
 *       --data DIR            rows and queries of a data set (shape.txt: "rows dim queries", base.f32, query.f32) in place of made ones
 *       --batch B             rows a request (500)
 *       --rate R              rows a second at most; 0 (default): as fast as they are taken
 *       --pause MS            between two queries (0)
 *       --space S             l2, cosine, ip (cosine)
 *       --memory-limit L      as in OCHRE_MEMORY_LIMIT
 *       --folder DIR          must not exist yet; removed at the end unless --keep
 *       --port P              18300
 *       --idle S              seconds of queries at rest (10)
 *       --settle S            seconds at most to wait until compaction is at rest before (600)
 *       --churn               afterwards update 30 %, delete 50 %, add them back; beside a fresh build
 *       --restarts N          then kill -9 and start so often: to the first answer, pages in the system's cache and dropped by turns (0)
 *       --stop-at SHARE       SIGTERM after this share of the rows: how long does it take?
 *
 * One writer adds rows in batches; one reader asks for the ten nearest all the while: first while rows are added (a line each tenth), then while the
 * server still compacts, then at rest.  Recall: of a sample of the answers, computed afterwards against all rows that were acknowledged
 * before the query was sent; a returned row counts when it is as near as the tenth of them.  Threads of the server are told by their names. */
#include "serve.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define K             10
#define QUERIES       1000
#define SAMPLE        600 /* answers that are checked, over all */
#define PHASES        12  /* tenths, settling, idle */
#define CHURN_QUERIES 200
#define KEEP_VERSION  UINT64_MAX /* vectors as they are */
#define SETTLING      10
#define IDLE          11
#define COOL_S        3 /* one part, no tail and no work of the compactor for so long: at rest */
#define SAMPLE_NS     50000000ull

struct answer {
    uint32_t query, acknowledged;
    int phase;
    uint32_t rows[K];
};
struct phase {
    double began, ended, *ms;
    size_t count, room;
    uint32_t rows_began, rows_ended;
    double tail, parts, scanned; /* sums, as told by explain */
    double cpu_flush, cpu_merge, cpu_all, cpu_io, peak_mb;
    double hits, wanted;
    double worst_add_ms;
};
struct bench {
    struct serve serve;
    uint32_t rows, dim, batch, rate, pause_ms, restarts;
    const char *space, *data;
    uint32_t data_rows; /* of the data set */
    const float *drawn; /* its rows */
    double idle_s, settle_s, stop_at;
    bool keep, churn;
    uint8_t *gone; /* by row: deleted now; NULL: none */
    struct maker maker;
    float *base, *queries;
    char path[192];
    struct text *bodies;
    struct phase phases[PHASES];
    double *add_ms; /* room for all batches */
    size_t add_count;
    struct answer *answers;
    size_t answer_count, answer_room;
    uint64_t ghosts; /* deleted rows that were returned */
    _Atomic uint32_t acknowledged;
    _Atomic int phase;
    _Atomic uint32_t unmerged; /* parts and rows of the tail, as the last answer tells */
    _Atomic bool stop;
    _Atomic uint64_t refused, failed;
};

/* ---- the reader ---- */

static double told(const char *body, const char *name)
{
    const char *at = strstr(body, name);
    return at ? strtod(at + strlen(name), NULL) : 0;
}

static void note(struct phase *p, double ms, const char *body)
{
    if (p->count == p->room) {
        p->room = p->room ? p->room * 2 : 4096;
        p->ms = realloc(p->ms, p->room * sizeof(double));
        if (!p->ms)
            die("no memory");
    }
    p->ms[p->count++] = ms;
    p->tail += told(body, "\"tail_slots\":");
    p->parts += told(body, "\"parts\":");
    p->scanned += told(body, "\"rows_scanned\":");
}

static void keep_answer(struct bench *b, uint32_t query, uint32_t acknowledged, int phase,
                        const char *body)
{
    if (b->answer_count == b->answer_room) {
        b->answer_room = b->answer_room ? b->answer_room * 2 : 4096;
        b->answers = realloc(b->answers, b->answer_room * sizeof(struct answer));
        if (!b->answers)
            die("no memory");
    }
    struct answer *a = &b->answers[b->answer_count++];
    *a = (struct answer){query, acknowledged, phase, {0}};
    const char *at = strstr(body, "\"ids\":");
    for (int i = 0; i < K; i++) {
        at = at ? strstr(at, "\"r") : NULL;
        a->rows[i] = at ? (uint32_t)strtoul(at + 2, NULL, 10) : UINT32_MAX;
        at = at ? at + 2 : NULL;
    }
}

static void read_all(void *arg)
{
    struct bench *b = arg;
    struct link link;
    link_open(&link, b->serve.port);
    thread_be_prompt(); /* it stands for a client with a processor of its own: as little as possible of what it measures is its own waiting for one */
    double kept = 0;
    for (uint32_t i = 0; !atomic_load(&b->stop); i = (i + 1) % QUERIES) {
        uint32_t acknowledged = atomic_load(&b->acknowledged);
        int phase = atomic_load(&b->phase);
        if (acknowledged < 2 * K) {
            sched_sleep_ns(1000000);
            continue;
        }
        double began = now_s();
        int status = link_call(&link, "POST", b->path, b->bodies[i].at, b->bodies[i].len);
        double ended = now_s();
        if (status != 200) {
            if (atomic_fetch_add(&b->failed, 1) == 0)
                (void)fprintf(stderr, "query: %d %.200s\n", status, status ? link.body : "");
            if (status == 0)
                break;
            continue;
        }
        if (ended - kept >= (double)SAMPLE_NS * 1e-9) {
            keep_answer(b, i, acknowledged, phase, link.body);
            kept = ended;
        }
        note(&b->phases[phase], (ended - began) * 1e3, link.body);
        atomic_store(&b->unmerged, (uint32_t)(told(link.body, "\"parts\":") +
                                              told(link.body, "\"tail_slots\":")));
        if (b->pause_ms)
            sched_sleep_ns((uint64_t)b->pause_ms * 1000000);
    }
    link_close(&link);
}

/* ---- phases ---- */

static void phase_begin(struct bench *b, int i)
{
    struct phase *p = &b->phases[i];
    p->began = now_s();
    p->rows_began = atomic_load(&b->acknowledged);
    p->cpu_flush = -serve_cpu(&b->serve, "ochre-flush");
    p->cpu_merge = -serve_cpu(&b->serve, "ochre-merge") - serve_cpu(&b->serve, "ochre-build");
    p->cpu_all = -serve_cpu_all(&b->serve);
    atomic_store(&b->phase, i);
}

static void phase_end(struct bench *b, int i)
{
    struct phase *p = &b->phases[i];
    p->ended = now_s();
    p->rows_ended = atomic_load(&b->acknowledged);
    p->cpu_flush += serve_cpu(&b->serve, "ochre-flush");
    p->cpu_merge += serve_cpu(&b->serve, "ochre-merge") + serve_cpu(&b->serve, "ochre-build");
    if (p->cpu_merge < 0) /* threads that had begun before have ended */
        p->cpu_merge = 0;
    p->cpu_all += serve_cpu_all(&b->serve);
    p->peak_mb = serve_mb(&b->serve, "VmHWM:");
    (void)fprintf(stderr, "%.1f s: %u rows; phase %d took %.1f s\n", p->ended - b->phases[0].began,
                  p->rows_ended, i, p->ended - p->began);
}

/* All tenths together, and how far from rest that is. */
static void ingest_print(struct bench *b, double peak_mb)
{
    struct phase all = {0}, *idle = &b->phases[IDLE];
    for (int i = 0; i < SETTLING; i++) {
        struct phase *p = &b->phases[i];
        for (size_t j = 0; j < p->count; j++)
            note(&all, p->ms[j], "");
        all.hits += p->hits;
        all.wanted += p->wanted;
    }
    qsort(all.ms, all.count, sizeof(double), compare_double);
    printf("while adding: %zu queries p50 %.2f p95 %.2f p99 %.2f ms, recall %.4f; idle p50 %.2f "
           "p95 %.2f p99 %.2f ms; p99 x%.1f\n",
           all.count, quantile(all.ms, all.count, 0.5), quantile(all.ms, all.count, 0.95),
           quantile(all.ms, all.count, 0.99), all.wanted > 0 ? all.hits / all.wanted : 0,
           quantile(idle->ms, idle->count, 0.5), quantile(idle->ms, idle->count, 0.95),
           quantile(idle->ms, idle->count, 0.99),
           quantile(all.ms, all.count, 0.99) / quantile(idle->ms, idle->count, 0.99));
    qsort(b->add_ms, b->add_count, sizeof(double), compare_double);
    printf("adds of %u: p50 %.1f p99 %.1f most %.0f ms\n", b->batch,
           quantile(b->add_ms, b->add_count, 0.5), quantile(b->add_ms, b->add_count, 0.99),
           quantile(b->add_ms, b->add_count, 1));
    free(all.ms);
    const struct phase *p = b->phases;
    double seconds[3] = {0};
    for (int i = 0; i < SETTLING; i++)
        seconds[i / 4] += p[i].ended - p[i].began;
    printf(
        "rows/s: first four tenths %.0f, next four %.0f, last two %.0f; peak memory %.0f MB, limit "
        "%s\n",
        0.4 * b->rows / seconds[0], 0.4 * b->rows / seconds[1], 0.2 * b->rows / seconds[2], peak_mb,
        b->serve.memory_limit ? b->serve.memory_limit : "half of the machine");
}

static void phase_print(struct bench *b, int i)
{
    struct phase *p = &b->phases[i];
    double wall = p->ended - p->began, n = (double)p->count + 1e-9;
    qsort(p->ms, p->count, sizeof(double), compare_double);
    static const char *const names[] = {"settling", "idle"};
    char name[16];
    (void)snprintf(name, sizeof(name), "%d%%", (i + 1) * 10);
    printf("%-9s %6.1f s %7.0f rows/s  worst add %5.0f ms | %6zu queries p50 %7.2f p95 %7.2f "
           "p99 %7.2f most %7.1f ms, recall %.4f (%.0f) | tail %6.0f parts %4.1f scanned %7.0f | "
           "cores: flush %.2f merge %.2f all %.2f | peak %.0f MB\n",
           i < SETTLING ? name : names[i - SETTLING], wall,
           (double)(p->rows_ended - p->rows_began) / wall, p->worst_add_ms, p->count,
           quantile(p->ms, p->count, 0.5), quantile(p->ms, p->count, 0.95),
           quantile(p->ms, p->count, 0.99), quantile(p->ms, p->count, 1),
           p->wanted > 0 ? p->hits / p->wanted : 0, p->wanted / K, p->tail / n, p->parts / n,
           p->scanned / n, p->cpu_flush / wall, p->cpu_merge / wall, p->cpu_all / wall, p->peak_mb);
    (void)fflush(stdout);
}

/* ---- the writer ---- */

static void make_body(const struct bench *b, uint32_t first, uint32_t count, struct text *body)
{
    body->len = 0;
    text_add(body, "{\"ids\":[");
    for (uint32_t i = 0; i < count; i++)
        text_add(body, "%s\"r%u\"", i ? "," : "", first + i);
    text_add(body, "],\"embeddings\":[");
    for (uint32_t i = 0; i < count; i++) {
        if (i)
            text_add(body, ",");
        text_vector(body, b->base + (size_t)(first + i) * b->dim, b->dim);
    }
    text_add(body, "]}");
}

static void write_batch(struct bench *b, struct link *link, const char *path,
                        const struct text *body, uint32_t count)
{
    double began = now_s();
    for (;;) {
        int status = link_call(link, "POST", path, body->at, body->len);
        if (status == 201)
            break;
        if (status != 429)
            die("add: %d %.300s", status, status ? link->body : "");
        if (atomic_fetch_add(&b->refused, 1) == 0)
            (void)fprintf(stderr, "refused at %u rows: %.300s\n", atomic_load(&b->acknowledged),
                          link->body);
        sched_sleep_ns(100000000);
    }
    double ms = (now_s() - began) * 1e3;
    struct phase *p = &b->phases[atomic_load(&b->phase)];
    b->add_ms[b->add_count++] = ms;
    p->worst_add_ms = ms > p->worst_add_ms ? ms : p->worst_add_ms;
    atomic_fetch_add(&b->acknowledged, count);
}

static void write_all(struct bench *b, const char *path)
{
    struct link link;
    struct text body = {0};
    link_open(&link, b->serve.port);
    int phase = 0;
    phase_begin(b, 0);
    double began = now_s();
    for (uint32_t first = 0; first < b->rows; first += b->batch) {
        int now_in = (int)((uint64_t)first * 10 / b->rows);
        if (now_in != phase) {
            phase_end(b, phase);
            phase_begin(b, now_in);
            phase = now_in;
        }
        if (b->stop_at > 0 && first >= b->stop_at * b->rows) {
            atomic_store(&b->stop, true);
            printf("SIGTERM at %u rows: gone after %.2f s\n", first, serve_stop(&b->serve));
            exit(0);
        }
        uint32_t count = b->rows - first < b->batch ? b->rows - first : b->batch;
        make_body(b, first, count, &body);
        write_batch(b, &link, path, &body, count);
        double due = began + (double)(first + count) / (b->rate ? b->rate : 1e12);
        if (now_s() < due)
            sched_sleep_ns((uint64_t)((due - now_s()) * 1e9));
    }
    phase_end(b, phase);
    free(body.at);
    link_close(&link);
}

static double compactor_cpu(struct bench *b)
{
    return serve_cpu(&b->serve, "ochre-flush") + serve_cpu(&b->serve, "ochre-merge") +
           serve_cpu(&b->serve, "ochre-build");
}

/* Until nothing is left to compact: a tail is flushed, and its collection merged to one part, only when nobody has written for a while. */
static void settle(struct bench *b)
{
    phase_begin(b, SETTLING);
    double last = compactor_cpu(b), since = now_s();
    while (now_s() - b->phases[SETTLING].began < b->settle_s && now_s() - since < COOL_S) {
        double used = compactor_cpu(b); /* less when a helper is gone */
        if (fabs(used - last) > 0.03 || atomic_load(&b->unmerged) > 1)
            since = now_s();
        last = used;
        sched_sleep_ns(200000000);
    }
    phase_end(b, SETTLING);
    if (since > b->phases[SETTLING].began)
        b->phases[SETTLING].ended = since;
    if (now_s() - since < COOL_S)
        printf("not at rest after %.0f s: %u parts and rows of the tail\n", b->settle_s,
               atomic_load(&b->unmerged));
}

/* ---- recall ---- */

static float distance(const struct bench *b, float sum, float norm2_q, float norm2_row)
{
    if (strcmp(b->space, "l2") == 0)
        return sum;
    if (strcmp(b->space, "ip") == 0)
        return kernel_ip_distance(sum);
    return kernel_cosine_distance(sum, norm2_q, norm2_row);
}

/* Rows [at, at + count) into the nearest distances of an answer. */
static void nearer(const struct bench *b, const float *query, const float *norms, uint32_t at,
                   uint32_t count, float *best)
{
    float sums[256], norm2 = kernel_get()->dot_f32(query, query, b->dim);
    bool l2 = strcmp(b->space, "l2") == 0;
    (l2 ? kernel_get()->l2_rows_f32 : kernel_get()->dot_rows_f32)(
        query, b->base + (size_t)at * b->dim, b->dim, b->dim, count, sums);
    for (uint32_t i = 0; i < count; i++) {
        float d = distance(b, sums[i], norm2, norms[at + i]);
        if (d >= best[K - 1] || (b->gone && b->gone[at + i]))
            continue;
        int place = K - 1;
        for (; place > 0 && best[place - 1] > d; place--)
            best[place] = best[place - 1];
        best[place] = d;
    }
}

static void count_hits(struct bench *b, const struct answer *a, const float *norms, float worst)
{
    const struct kernel *kernel = kernel_get();
    const float *query = b->queries + (size_t)a->query * b->dim;
    float norm2 = kernel->dot_f32(query, query, b->dim);
    bool l2 = strcmp(b->space, "l2") == 0;
    struct phase *p = &b->phases[a->phase];
    for (int i = 0; i < K; i++) {
        p->wanted++;
        if (a->rows[i] >= b->rows)
            continue;
        b->ghosts += b->gone && b->gone[a->rows[i]];
        const float *row = b->base + (size_t)a->rows[i] * b->dim;
        float sum = l2 ? kernel->l2_f32(query, row, b->dim) : kernel->dot_f32(query, row, b->dim);
        p->hits += distance(b, sum, norm2, norms[a->rows[i]]) <= worst;
    }
}

/* The tenth nearest distance among the rows acknowledged before each answer, then what was returned.  Rows go by once, for all answers. */
static void judge(struct bench *b, const struct answer *const *answers, size_t count,
                  const float *norms)
{
    enum { BLOCK = 256 };
    float *best = need(count * K, sizeof(float));
    for (size_t i = 0; i < count * K; i++)
        best[i] = INFINITY;
    for (uint32_t at = 0; at < b->rows; at += BLOCK) {
        for (size_t i = 0; i < count; i++) {
            uint32_t end = answers[i]->acknowledged;
            if (end > at)
                nearer(b, b->queries + (size_t)answers[i]->query * b->dim, norms, at,
                       end - at < BLOCK ? end - at : BLOCK, best + i * K);
        }
    }
    for (size_t i = 0; i < count; i++)
        count_hits(b, answers[i], norms, best[i * K + K - 1]);
    free(best);
}

static float *norms_of(const struct bench *b)
{
    const struct kernel *kernel = kernel_get();
    float *norms = need(b->rows, 4);
    for (uint32_t i = 0; i < b->rows; i++) {
        const float *row = b->base + (size_t)i * b->dim;
        norms[i] = kernel->dot_f32(row, row, b->dim);
    }
    return norms;
}

static void judge_all(struct bench *b)
{
    float *norms = norms_of(b);
    const struct answer **answers = need(SAMPLE + PHASES, sizeof(*answers));
    size_t chosen = 0;
    /* Evenly over the phases, as far as there are answers. */
    for (int phase = 0; phase < PHASES; phase++) {
        size_t count = 0, seen = 0, share = SAMPLE / PHASES;
        for (size_t i = 0; i < b->answer_count; i++)
            count += b->answers[i].phase == phase;
        size_t step = count / share + 1;
        for (size_t i = 0; i < b->answer_count; i++) {
            if (b->answers[i].phase == phase && seen++ % step == 0)
                answers[chosen++] = &b->answers[i];
        }
    }
    judge(b, answers, chosen, norms);
    free(answers);
    free(norms);
}

static void create(struct bench *b, char *add_path, size_t room, const char *name)
{
    struct link link;
    struct text body = {0};
    link_open(&link, b->serve.port);
    text_add(&body, "{\"name\":\"%s\",\"configuration\":{\"hnsw\":{\"space\":\"%s\"}}}", name,
             b->space);
    if (link_call(&link, "POST", BASE_PATH, body.at, body.len) != 200)
        die("create: %s", link.body);
    const char *id = strstr(link.body, "\"id\":\"");
    if (!id)
        die("create: %s", link.body);
    (void)snprintf(add_path, room, BASE_PATH "/%.36s/add", id + 6);
    (void)snprintf(b->path, sizeof(b->path), BASE_PATH "/%.36s/query", id + 6);
    free(body.at);
    link_close(&link);
}

/* ---- after a kill ---- */

static void drop_pages(const char *folder)
{
    char command[700];
    (void)snprintf(command, sizeof(command),
                   "find '%s' -type f -exec dd if={} iflag=nocache count=0 status=none \\;",
                   folder);
    if (system(command) != 0)
        die("pages are not dropped");
}

static void restarts(struct bench *b)
{
    for (uint32_t i = 0; i < b->restarts; i++) {
        double beat;
        if (i % 2)
            drop_pages(b->serve.folder);
        double ms = serve_restart(&b->serve, b->path, &b->bodies[i % QUERIES], &beat);
        printf(
            "killed and started again, pages %s: first heartbeat %.1f ms, first answer %.1f ms\n",
            i % 2 ? "dropped" : "cached", beat, ms);
        (void)fflush(stdout);
        sched_sleep_ns(1000000000);
    }
}

/* ---- churn ---- */

/* A row of a version: version 0 is the data set's, later ones are other rows of it, somewhat changed. */
static void draw_row(const struct bench *b, uint32_t row, uint64_t version, float *out)
{
    if (!b->data) {
        maker_row(&b->maker, row, version, out);
        return;
    }
    uint64_t state = row * 0x2545f4914f6cdd1du + version;
    const float *from = b->drawn + (mix(&state) % b->data_rows) * b->dim;
    for (uint32_t i = 0; i < b->dim; i++)
        out[i] = from[i] * (1 + 0.1f * bell(&state));
}

/* Queries at rest, each judged against the rows as they are now. */
static void ask_and_judge(struct bench *b, const char *what)
{
    struct link link;
    struct phase *p = &b->phases[IDLE];
    link_open(&link, b->serve.port);
    b->answer_count = 0;
    p->hits = p->wanted = p->parts = p->tail = 0;
    p->count = 0;
    for (uint32_t i = 0; i < CHURN_QUERIES; i++) {
        double began = now_s();
        if (link_call(&link, "POST", b->path, b->bodies[i].at, b->bodies[i].len) != 200)
            die("query: %s", link.body);
        note(p, (now_s() - began) * 1e3, link.body);
        keep_answer(b, i, b->rows, IDLE, link.body);
    }
    link_close(&link);
    float *norms = norms_of(b);
    const struct answer **answers = need(b->answer_count, sizeof(*answers));
    for (size_t i = 0; i < b->answer_count; i++)
        answers[i] = &b->answers[i];
    judge(b, answers, b->answer_count, norms);
    free(answers);
    free(norms);
    printf("%-28s recall %.4f, deleted rows returned %llu; parts %.1f, tail %.0f\n", what,
           p->hits / p->wanted, (unsigned long long)b->ghosts, p->parts / CHURN_QUERIES,
           p->tail / CHURN_QUERIES);
    (void)fflush(stdout);
}

/* Send all rows for which `which` says yes; with vectors of a new version, or only the ids. */
static void send_rows(struct bench *b, const char *verb, bool (*which)(uint32_t row),
                      uint64_t version)
{
    struct link link;
    struct text body = {0}, ids = {0}, vectors = {0};
    char path[192];
    (void)snprintf(path, sizeof(path), "%.*s/%s", (int)(strlen(b->path) - 6), b->path, verb);
    link_open(&link, b->serve.port);
    uint32_t count = 0;
    for (uint32_t row = 0; row <= b->rows; row++) {
        if (count > 0 && (row == b->rows || count == b->batch)) {
            body.len = 0;
            text_room(&body, ids.len + vectors.len + 64);
            body.len = (size_t)sprintf(body.at, "{\"ids\":[%.*s]", (int)ids.len, ids.at);
            if (version)
                body.len += (size_t)sprintf(body.at + body.len, ",\"embeddings\":[%.*s]",
                                            (int)vectors.len, vectors.at);
            body.at[body.len++] = '}';
            int status;
            while ((status = link_call(&link, "POST", path, body.at, body.len)) == 429)
                sched_sleep_ns(100000000);
            if (status < 200 || status > 299)
                die("%s: %d %.200s", verb, status, status ? link.body : "");
            count = 0;
            ids.len = vectors.len = 0;
        }
        if (row == b->rows || !which(row))
            continue;
        text_add(&ids, "%s\"r%u\"", count ? "," : "", row);
        if (version) {
            float *at = b->base + (size_t)row * b->dim;
            if (version != KEEP_VERSION)
                draw_row(b, row, version, at);
            text_add(&vectors, "%s", count ? "," : "");
            text_vector(&vectors, at, b->dim);
        }
        count++;
    }
    link_close(&link);
    free(body.at);
    free(ids.at);
    free(vectors.at);
}

static bool is_updated(uint32_t row)
{
    return row % 10 < 3;
}
static bool is_deleted(uint32_t row)
{
    return row % 2 == 0;
}
static bool is_any(uint32_t row)
{
    (void)row;
    return true;
}

static void churn(struct bench *b)
{
    b->gone = need(b->rows, 1);
    memset(b->gone, 0, b->rows);
    ask_and_judge(b, "built");
    send_rows(b, "update", is_updated, 1);
    ask_and_judge(b, "30 % updated");
    settle(b);
    ask_and_judge(b, "  compacted");
    for (uint32_t row = 0; row < b->rows; row++)
        b->gone[row] = is_deleted(row);
    send_rows(b, "delete", is_deleted, 0);
    ask_and_judge(b, "50 % deleted");
    settle(b);
    ask_and_judge(b, "  compacted");
    send_rows(b, "add", is_deleted, 2);
    memset(b->gone, 0, b->rows);
    ask_and_judge(b, "added back");
    settle(b);
    ask_and_judge(b, "  compacted");
    char path[192];
    create(b, path, sizeof(path), "fresh");
    send_rows(b, "add", is_any, KEEP_VERSION);
    settle(b);
    ask_and_judge(b, "the same rows, built afresh");
}

/* ---- all of it ---- */

/* The file's floats, ours to change in memory. */
static float *map_floats(const char *folder, const char *name, size_t count)
{
    char path[512];
    struct stat info;
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info) != 0 || (size_t)info.st_size < count * 4)
        die("%s: missing or too short", path);
    void *at = mmap(NULL, count * 4, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd, 0);
    if (at == MAP_FAILED)
        die("%s: not mapped", path);
    (void)close(fd);
    return at;
}

static void open_data(struct bench *b)
{
    char path[512];
    unsigned queries;
    (void)snprintf(path, sizeof(path), "%s/shape.txt", b->data);
    FILE *file = fopen(path, "re");
    if (!file || fscanf(file, "%u %u %u", &b->data_rows, &b->dim, &queries) != 3 ||
        queries < QUERIES)
        die("%s: not a data set of %d queries", path, QUERIES);
    (void)fclose(file);
    b->rows = b->rows < b->data_rows ? b->rows : b->data_rows;
    b->base = map_floats(b->data, "base.f32", (size_t)b->rows * b->dim);
    b->drawn = map_floats(b->data, "base.f32", (size_t)b->data_rows * b->dim);
    b->queries = map_floats(b->data, "query.f32", (size_t)QUERIES * b->dim);
}

static void make_rows(struct bench *b)
{
    maker_init(&b->maker, b->dim, b->rows);
    b->base = need((size_t)b->rows * b->dim, 4);
    b->queries = need((size_t)QUERIES * b->dim, 4);
    for (uint32_t i = 0; i < b->rows; i++)
        maker_row(&b->maker, i, 0, b->base + (size_t)i * b->dim);
    for (uint32_t i = 0; i < QUERIES; i++)
        maker_row(&b->maker, (uint64_t)b->rows + i, 0, b->queries + (size_t)i * b->dim);
}

static void make_data(struct bench *b)
{
    if (b->data)
        open_data(b);
    else
        make_rows(b);
    b->bodies = need(QUERIES, sizeof(struct text));
    b->add_ms = need(b->rows / b->batch + 2, sizeof(double));
    for (uint32_t i = 0; i < QUERIES; i++) {
        const float *query = b->queries + (size_t)i * b->dim;
        struct text *body = &b->bodies[i];
        *body = (struct text){0};
        text_add(body,
                 "{\"n_results\":%d,\"include\":[\"distances\"],\"explain\":true,"
                 "\"query_embeddings\":[[",
                 K);
        for (uint32_t j = 0; j < b->dim; j++)
            text_add(body, "%s%.9g", j ? "," : "", (double)query[j]);
        text_add(body, "]]}");
    }
}

static void parse(struct bench *b, int argc, char **argv)
{
    if (argc < 2)
        die("ingest BINARY [options]: see the top of bench/ingest.c");
    b->serve.binary = argv[1];
    for (int i = 2; i < argc; i++) {
        const char *name = argv[i];
        if (strcmp(name, "--keep") == 0) {
            b->keep = true;
            continue;
        }
        if (strcmp(name, "--churn") == 0) {
            b->churn = true;
            continue;
        }
        const char *value = i + 1 < argc ? argv[++i] : "";
        if (strcmp(name, "--rows") == 0)
            b->rows = (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(name, "--dim") == 0)
            b->dim = (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(name, "--batch") == 0)
            b->batch = (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(name, "--rate") == 0)
            b->rate = (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(name, "--pause") == 0)
            b->pause_ms = (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(name, "--restarts") == 0)
            b->restarts = (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(name, "--data") == 0)
            b->data = value;
        else if (strcmp(name, "--space") == 0)
            b->space = value;
        else if (strcmp(name, "--memory-limit") == 0)
            b->serve.memory_limit = value;
        else if (strcmp(name, "--folder") == 0)
            b->serve.folder = value;
        else if (strcmp(name, "--port") == 0)
            b->serve.port = (int)strtol(value, NULL, 10);
        else if (strcmp(name, "--idle") == 0)
            b->idle_s = strtod(value, NULL);
        else if (strcmp(name, "--settle") == 0)
            b->settle_s = strtod(value, NULL);
        else if (strcmp(name, "--stop-at") == 0)
            b->stop_at = strtod(value, NULL);
        else
            die("unknown option %s", name);
    }
    if (!b->serve.folder)
        die("--folder is needed");
}

int main(int argc, char **argv)
{
    static struct bench b = {.rows = 200000,
                             .dim = 768,
                             .batch = 500,
                             .space = "cosine",
                             .idle_s = 10,
                             .settle_s = 600,
                             .serve = {.port = 18300}};
    parse(&b, argc, argv);
    make_data(&b);
    serve_start(&b.serve);
    char add_path[192];
    create(&b, add_path, sizeof(add_path), "ingest");
    struct thread reader;
    if (thread_start(&reader, "reader", 1 << 20, read_all, &b, NULL) != OCH_OK)
        die("no thread");
    double began = now_s();
    write_all(&b, add_path);
    double written = now_s();
    settle(&b);
    phase_begin(&b, IDLE);
    sched_sleep_ns((uint64_t)(b.idle_s * 1e9));
    phase_end(&b, IDLE);
    atomic_store(&b.stop, true);
    thread_join(&reader);
    double peak_mb = serve_mb(&b.serve, "VmHWM:");
    restarts(&b);
    judge_all(&b);
    for (int i = 0; i < PHASES; i++)
        phase_print(&b, i);
    ingest_print(&b, peak_mb);
    if (b.churn)
        churn(&b);
    double stop_s = serve_stop(&b.serve);
    printf("%u x %u: %.1f s, %.0f rows/s; stop %.2f s; refused %llu, failed queries %llu\n", b.rows,
           b.dim, written - began, b.rows / (written - began), stop_s,
           (unsigned long long)atomic_load(&b.refused), (unsigned long long)atomic_load(&b.failed));
    if (!b.keep) {
        char command[600];
        (void)snprintf(command, sizeof(command), "rm -rf '%s'", b.serve.folder);
        return system(command) == 0 ? 0 : 1;
    }
    return 0;
}
