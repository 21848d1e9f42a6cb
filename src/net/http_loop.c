/* SPDX-License-Identifier: Apache-2.0 */
/* An event loop in a thread of its own.  Everything from outside comes by the posted list and an eventfd. */
#include "net/http_internal.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

void http_loop_wake(struct http_loop *loop)
{
    uint64_t one = 1;
    ssize_t put;
    do {
        put = write(loop->wake_fd, &one, sizeof(one));
    } while (put < 0 && errno == EINTR);
}

void http_loop_post(struct http_conn *conn)
{
    struct http_loop *loop = conn->loop;
    mutex_lock(&loop->mutex);
    bool first = STAILQ_EMPTY(&loop->posted);
    STAILQ_INSERT_TAIL(&loop->posted, conn, posted);
    mutex_unlock(&loop->mutex);
    if (first)
        http_loop_wake(loop);
}

static struct http_conn *take_posted(struct http_loop *loop)
{
    mutex_lock(&loop->mutex);
    struct http_conn *conn = STAILQ_FIRST(&loop->posted);
    if (conn != NULL)
        STAILQ_REMOVE_HEAD(&loop->posted, posted);
    mutex_unlock(&loop->mutex);
    return conn;
}

static void work_posted(struct http_loop *loop)
{
    for (struct http_conn *conn = take_posted(loop); conn != NULL; conn = take_posted(loop)) {
        if (!conn->is_new)
            http_conn_finish_work(conn);
        else if (http_server_phase(loop->server) != PHASE_SERVE)
            http_conn_drop(conn);
        else
            http_conn_start(conn);
    }
}

/* Make room for newcomers: close the connection that has been idle for longest, roughly. */
static void evict_one(struct http_loop *loop)
{
    struct http_conn *conn = TAILQ_FIRST(&loop->conns);
    for (unsigned i = 0; conn != NULL && i < 64; i++, conn = TAILQ_NEXT(conn, link)) {
        if (http_conn_is_idle(conn)) {
            http_conn_drop(conn);
            return;
        }
    }
}

static void enter_phase(struct http_loop *loop, enum http_phase phase)
{
    struct http_server *server = loop->server;
    enum http_phase before = loop->phase;
    loop->phase = phase;
    if (before == PHASE_SERVE && loop == &server->loops[0])
        http_listen_close(server);
    struct http_conn *conn = TAILQ_FIRST(&loop->conns);
    while (conn != NULL) {
        struct http_conn *next = TAILQ_NEXT(conn, link);
        http_conn_phase(conn, phase);
        conn = next;
    }
    mutex_lock(&server->mutex);
    if (before < PHASE_CUT && phase >= PHASE_CUT)
        server->cut_count++;
    cond_broadcast(&server->changed);
    mutex_unlock(&server->mutex);
    if (phase == PHASE_STOP)
        (void)event_base_loopbreak(loop->base);
}

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
    (void)what;
    struct http_loop *loop = arg;
    uint64_t count;
    ssize_t got = read((int)fd, &count, sizeof(count));
    (void)got; /* EAGAIN: woken for nothing */
    work_posted(loop);
    if (atomic_exchange_explicit(&loop->evict, false, memory_order_relaxed))
        evict_one(loop);
    enum http_phase phase = http_server_phase(loop->server);
    if (phase != loop->phase)
        enter_phase(loop, phase);
}

void http_loop_run(void *arg)
{
    struct http_loop *loop = arg;
    thread_be_prompt();
    (void)event_base_loop(loop->base, EVLOOP_NO_EXIT_ON_EMPTY);
}

static struct event_base *new_base(void)
{
    struct event_config *config = event_config_new();
    if (config == NULL)
        return NULL;
    /* One thread each.  No list of epoll changes: what it holds back for a closed descriptor would
     * hit another loop's new one of the same number. */
    (void)event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
    struct event_base *base = event_base_new_with_config(config);
    event_config_free(config);
    return base;
}

och_code http_loop_init(struct http_loop *loop, struct http_server *server, och_error *err)
{
    loop->server = server;
    loop->wake_fd = -1;
    TAILQ_INIT(&loop->conns);
    STAILQ_INIT(&loop->posted);
    mutex_init(&loop->mutex, RANK_NET);
    loop->base = new_base();
    loop->buffer = mem_alloc(HTTP_READ_BYTES);
    if (loop->base == NULL || loop->buffer == NULL)
        return FAIL_NO_MEMORY(err, "an event loop");
    for (unsigned i = 0; i < TIMEOUT_COUNT; i++) {
        uint64_t us = server->timeout_ns[i] / 1000;
        struct timeval span = {.tv_sec = (time_t)(us / 1000000),
                               .tv_usec = (suseconds_t)(us % 1000000)};
        loop->timeouts[i] = event_base_init_common_timeout(loop->base, &span);
        if (loop->timeouts[i] == NULL)
            return FAIL_NO_MEMORY(err, "an event loop");
    }
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->wake_fd < 0)
        return FAIL_OS(err, OCH_IO, errno, "cannot make an eventfd");
    if (event_assign(&loop->wake, loop->base, loop->wake_fd, EV_READ | EV_PERSIST, on_wake, loop) !=
            0 ||
        event_add(&loop->wake, NULL) != 0)
        return FAIL(err, OCH_IO, "cannot watch an eventfd");
    return OCH_OK;
}

void http_loop_done(struct http_loop *loop)
{
    struct http_conn *conn;
    while ((conn = take_posted(loop)) != NULL)
        if (conn->is_new || conn->state == CONN_CLOSED)
            http_conn_drop(conn);
    while ((conn = TAILQ_FIRST(&loop->conns)) != NULL)
        http_conn_drop(conn);
    if (loop->wake_fd >= 0) {
        (void)event_del(&loop->wake);
        (void)close(loop->wake_fd);
    }
    if (loop->base != NULL)
        event_base_free(loop->base);
    mem_free(loop->buffer);
    mutex_done(&loop->mutex);
}
