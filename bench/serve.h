/* SPDX-License-Identifier: Apache-2.0 */
/* For benchmarks that drive a real server over HTTP: start and stop it, calls over kept connections, what its threads used, and rows that are made
 * from their number alone.  Header only; each benchmark is one file. */
#ifndef BENCH_SERVE_H
#define BENCH_SERVE_H

#include "base/clock.h"
#include "base/sched.h"
#include "kernel/kernel.h"

#include <dirent.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define BASE_PATH "/api/v2/tenants/default_tenant/databases/default_database/collections"

__attribute__((noreturn)) PRINTF_LIKE(1, 2) static inline void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vfprintf(stderr, format, arguments);
    va_end(arguments);
    (void)fputc('\n', stderr);
    exit(1);
}

static inline void *need(size_t count, size_t size)
{
    void *at = aligned_alloc(64, (count * size + 64) / 64 * 64);
    if (!at)
        die("no memory for %zu x %zu", count, size);
    return at;
}

static inline double now_s(void)
{
    return (double)clock_mono_ns(clock_system()) * 1e-9;
}

/* ---- growing text ---- */

struct text {
    char *at;
    size_t len, room;
};

static inline void text_room(struct text *t, size_t more)
{
    if (t->len + more <= t->room)
        return;
    t->room = (t->len + more) * 3 / 2 + 256;
    t->at = realloc(t->at, t->room);
    if (!t->at)
        die("no memory for a text");
}

PRINTF_LIKE(2, 3) static inline void text_add(struct text *t, const char *format, ...)
{
    va_list arguments;
    text_room(t, 512);
    va_start(arguments, format);
    t->len += (size_t)vsnprintf(t->at + t->len, 512, format, arguments);
    va_end(arguments);
}

static inline void text_vector(struct text *t, const float *vector, uint32_t dim)
{
    text_room(t, (size_t)dim * 6 + 16);
    t->at[t->len++] = '"';
    t->len += kernel_base64_encode((const uint8_t *)vector, (size_t)dim * 4, t->at + t->len);
    t->at[t->len++] = '"';
}

/* ---- one kept connection ---- */

struct link {
    int fd;
    struct text in;
    const char *body; /* of the last answer, NUL-terminated */
};

static inline void link_open(struct link *link, int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int one = 1;
    *link = (struct link){.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    if (link->fd < 0)
        die("no socket");
    (void)setsockopt(link->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (connect(link->fd, (const struct sockaddr *)&address, sizeof(address)) != 0) {
        (void)close(link->fd);
        link->fd = -1;
    }
}

static inline void link_close(struct link *link)
{
    if (link->fd >= 0)
        (void)close(link->fd);
    free(link->in.at);
    *link = (struct link){.fd = -1};
}

static inline bool send_all(int fd, const char *at, size_t len)
{
    while (len > 0) {
        ssize_t sent = send(fd, at, len, MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
        at += sent;
        len -= (size_t)sent;
    }
    return true;
}

/* The status; 0: the connection broke. */
static inline int link_call(struct link *link, const char *method, const char *path,
                            const char *body, size_t len)
{
    char head[512];
    int head_len = snprintf(head, sizeof(head),
                            "%s %s HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
                            "Content-Length: %zu\r\n\r\n",
                            method, path, len);
    if (!send_all(link->fd, head, (size_t)head_len) || !send_all(link->fd, body, len))
        return 0;
    struct text *in = &link->in;
    in->len = 0;
    size_t body_at = 0, want = SIZE_MAX;
    while (body_at == 0 || in->len < body_at + want) {
        text_room(in, 65536);
        ssize_t got = recv(link->fd, in->at + in->len, in->room - in->len - 1, 0);
        if (got <= 0)
            return 0;
        in->len += (size_t)got;
        in->at[in->len] = 0;
        const char *end = body_at ? NULL : strstr(in->at, "\r\n\r\n");
        if (end) {
            body_at = (size_t)(end - in->at) + 4;
            const char *length = strcasestr(in->at, "content-length:");
            want = length && length < end ? strtoull(length + 15, NULL, 10) : 0;
        }
    }
    link->body = in->at + body_at;
    return (int)strtol(in->at + 9, NULL, 10);
}

/* ---- the server ---- */

struct serve {
    pid_t pid;
    int port;
    const char *binary, *folder, *memory_limit;
};

static inline void serve_spawn(struct serve *s)
{
    char port[16];
    (void)snprintf(port, sizeof(port), "%d", s->port);
    s->pid = fork();
    if (s->pid == 0) {
        if (s->memory_limit)
            (void)setenv("OCHRE_MEMORY_LIMIT", s->memory_limit, 1);
        (void)execl(s->binary, s->binary, "serve", "--path", s->folder, "--port", port,
                    (char *)NULL);
        _exit(127);
    }
}

static inline void serve_start(struct serve *s)
{
    serve_spawn(s);
    for (int i = 0; i < 3000; i++) {
        struct link link;
        link_open(&link, s->port);
        bool up = link.fd >= 0 && link_call(&link, "GET", "/api/v2/heartbeat", "", 0) == 200;
        link_close(&link);
        if (up)
            return;
        if (waitpid(s->pid, NULL, WNOHANG) == s->pid)
            die("the server ended");
        sched_sleep_ns(10000000);
    }
    die("the server does not answer");
}

/* Seconds that it took. */
static inline double serve_stop(struct serve *s)
{
    double began = now_s();
    int status = 0;
    (void)kill(s->pid, SIGTERM);
    (void)waitpid(s->pid, &status, 0);
    if (status != 0)
        (void)fprintf(stderr, "the server ended with status %d\n", status);
    return now_s() - began;
}

/* kill -9, and milliseconds until a new process answers `body` at `path`; *ret_beat_ms: until it answers at all. */
static inline double serve_restart(struct serve *s, const char *path, const struct text *body,
                                   double *ret_beat_ms)
{
    struct link link;
    int status = 0;
    (void)kill(s->pid, SIGKILL);
    (void)waitpid(s->pid, &status, 0);
    double began = now_s();
    serve_spawn(s);
    for (int i = 0; i < 60000; i++) {
        link_open(&link, s->port);
        if (link.fd >= 0 && link_call(&link, "GET", "/api/v2/heartbeat", "", 0) == 200) {
            *ret_beat_ms = (now_s() - began) * 1e3;
            status = link_call(&link, "POST", path, body->at, body->len);
            double ms = (now_s() - began) * 1e3;
            if (status != 200)
                die("first answer: %d %.200s", status, status ? link.body : "");
            link_close(&link);
            return ms;
        }
        link_close(&link);
        sched_sleep_ns(500000);
    }
    die("the server does not answer");
}

/* A figure of /proc/PID/status in MB. */
static inline double serve_mb(const struct serve *s, const char *name)
{
    char path[64], line[256];
    double mb = 0;
    (void)snprintf(path, sizeof(path), "/proc/%d/status", (int)s->pid);
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof(line), file))
        if (strncmp(line, name, strlen(name)) == 0)
            mb = strtod(line + strlen(name) + 1, NULL) / 1024;
    if (file)
        (void)fclose(file);
    return mb;
}

/* CPU seconds in a stat file of /proc, if its name begins so. */
static inline double stat_cpu(const char *path, const char *name)
{
    char line[512];
    const char *open, *close;
    unsigned long user = 0, system = 0;
    FILE *file = fopen(path, "r");
    bool is_it =
        file && fgets(line, sizeof(line), file) && (open = strchr(line, '(')) != NULL &&
        (close = strrchr(line, ')')) != NULL && strncmp(open + 1, name, strlen(name)) == 0 &&
        sscanf(close + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) ==
            2;
    if (file)
        (void)fclose(file);
    return is_it ? (double)(user + system) / (double)sysconf(_SC_CLK_TCK) : 0;
}

/* CPU seconds of the whole process, threads that have ended included. */
static inline double serve_cpu_all(const struct serve *s)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)s->pid);
    return stat_cpu(path, "");
}

/* CPU seconds of the threads that live and whose name begins so; "" = all. */
static inline double serve_cpu(const struct serve *s, const char *name)
{
    char path[320];
    double seconds = 0;
    (void)snprintf(path, sizeof(path), "/proc/%d/task", (int)s->pid);
    DIR *folder = opendir(path);
    for (struct dirent *e; folder && (e = readdir(folder)) != NULL;) {
        if (e->d_name[0] == '.')
            continue;
        (void)snprintf(path, sizeof(path), "/proc/%d/task/%s/stat", (int)s->pid, e->d_name);
        seconds += stat_cpu(path, name);
    }
    if (folder)
        (void)closedir(folder);
    return seconds;
}

/* ---- rows ---- */

/* Clusters, each with directions of its own: rows differ in about 24 of them.  A row is made of its number and its version. */
struct maker {
    uint32_t dim, clusters;
    float *centers, *basis;
};
enum { MAKER_INNER = 24, MAKER_BASES = 16 };

static inline uint64_t mix(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* The sum of four uniform numbers: near enough to a normal one. */
static inline float bell(uint64_t *state)
{
    uint64_t z = mix(state);
    int sum =
        (int)(z & 0xffff) + (int)(z >> 16 & 0xffff) + (int)(z >> 32 & 0xffff) + (int)(z >> 48);
    return (float)(sum - 131070) * (1.0f / 37837.0f);
}

static inline void maker_init(struct maker *m, uint32_t dim, uint32_t rows)
{
    uint64_t state = 42;
    *m = (struct maker){.dim = dim, .clusters = rows / 250 + 1};
    m->centers = need((size_t)m->clusters * dim, 4);
    m->basis = need((size_t)MAKER_BASES * MAKER_INNER * dim, 4);
    for (size_t i = 0; i < (size_t)m->clusters * dim; i++)
        m->centers[i] = bell(&state);
    for (size_t i = 0; i < (size_t)MAKER_BASES * MAKER_INNER * dim; i++)
        m->basis[i] = bell(&state);
}

static inline void maker_row(const struct maker *m, uint64_t number, uint64_t version, float *out)
{
    uint64_t state = number * 0x2545f4914f6cdd1du + version * 0x9e6c63d0876a9a99u + 7;
    (void)mix(&state);
    uint32_t c = (uint32_t)(mix(&state) % m->clusters), dim = m->dim;
    const float *center = m->centers + (size_t)c * dim;
    const float *own = m->basis + (size_t)(c % MAKER_BASES) * MAKER_INNER * dim;
    for (uint32_t j = 0; j < dim; j++)
        out[j] = center[j] + 0.15f * bell(&state);
    for (uint32_t i = 0; i < MAKER_INNER; i++) {
        float weight = 0.25f * bell(&state);
        for (uint32_t j = 0; j < dim; j++)
            out[j] += weight * own[(size_t)i * dim + j];
    }
}

/* ---- figures ---- */

static inline int compare_double(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* Of sorted numbers; 0 if there are none. */
static inline double quantile(const double *sorted, size_t count, double share)
{
    if (count == 0)
        return 0;
    size_t at = (size_t)(share * (double)count);
    return sorted[at < count ? at : count - 1];
}
#endif
