/* SPDX-License-Identifier: Apache-2.0 */
/* Listening sockets.  Loop 0 accepts for all loops in turn: even shares, no herd, and a port that another
 * process holds is noticed, which SO_REUSEPORT would hide. */
#include "net/http_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define ACCEPT_ROUNDS   64
#define ACCEPT_PAUSE_US 50000
#define LISTEN_BACKLOG  1024
#define PORT_TRIES      16

struct address {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_storage room;
    } socket;
    socklen_t size;
    bool optional; /* the second address of "localhost" */
};

/* ---- names ---- */

static bool parse_number(const char *host, struct address *ret_address)
{
    struct address address = {0};
    char bare[INET6_ADDRSTRLEN];
    size_t len = strlen(host);
    if (len >= 2 && host[0] == '[' && host[len - 1] == ']' && len - 2 < sizeof(bare)) {
        memcpy(bare, host + 1, len - 2);
        bare[len - 2] = '\0';
        host = bare;
    }
    if (inet_pton(AF_INET, host, &address.socket.v4.sin_addr) == 1) {
        address.socket.v4.sin_family = AF_INET;
        address.size = sizeof(address.socket.v4);
    } else if (inet_pton(AF_INET6, host, &address.socket.v6.sin6_addr) == 1) {
        address.socket.v6.sin6_family = AF_INET6;
        address.size = sizeof(address.socket.v6);
    } else {
        return false;
    }
    *ret_address = address;
    return true;
}

static och_code resolve(const char *host, struct address *addresses, unsigned max,
                        unsigned *ret_count, och_error *err)
{
    if (strcasecmp(host, "localhost") == 0) {
        (void)parse_number("127.0.0.1", &addresses[0]);
        (void)parse_number("::1", &addresses[1]);
        addresses[1].optional = true;
        *ret_count = 2;
        return OCH_OK;
    }
    *ret_count = 1;
    if (parse_number(host, &addresses[0]))
        return OCH_OK;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    int failure = getaddrinfo(host, NULL, &hints, &found);
    if (failure != 0)
        return FAIL(err, OCH_SETTING,
                    "cannot listen on \"%s\": %s. Give an address of this machine.", host,
                    gai_strerror(failure));
    unsigned count = 0;
    for (const struct addrinfo *one = found; one != NULL && count < max; one = one->ai_next) {
        if (one->ai_addrlen > sizeof(addresses[count].socket))
            continue;
        addresses[count] = (struct address){.size = one->ai_addrlen};
        memcpy(&addresses[count++].socket, one->ai_addr, one->ai_addrlen);
    }
    freeaddrinfo(found);
    *ret_count = count;
    return count > 0 ? OCH_OK : FAIL(err, OCH_SETTING, "\"%s\" has no address to listen on", host);
}

static void set_port(struct address *address, uint16_t port)
{
    if (address->socket.any.sa_family == AF_INET)
        address->socket.v4.sin_port = htons(port);
    else
        address->socket.v6.sin6_port = htons(port);
}

static uint16_t port_of_socket(int fd)
{
    struct address address = {.size = sizeof(address.socket)};
    if (getsockname(fd, &address.socket.any, &address.size) != 0)
        return 0;
    return ntohs(address.socket.any.sa_family == AF_INET ? address.socket.v4.sin_port
                                                         : address.socket.v6.sin6_port);
}

/* ---- sockets ---- */

/* The listening socket, or -1 with errno set. */
static int listen_on(const struct address *address)
{
    int family = address->socket.any.sa_family;
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    int one = 1;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (family == AF_INET6) {
        /* "::" stands for every address of the machine, IPv4 as well */
        int v6_only = !IN6_IS_ADDR_UNSPECIFIED(&address->socket.v6.sin6_addr);
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6_only, sizeof(v6_only));
    }
    if (bind(fd, &address->socket.any, address->size) == 0 && listen(fd, LISTEN_BACKLOG) == 0)
        return fd;
    int failure = errno;
    (void)close(fd);
    errno = failure;
    return -1;
}

static void add_listener(struct http_server *server, int fd, bool is_unix)
{
    assert(server->listener_count < HTTP_LISTENERS_MAX);
    server->listeners[server->listener_count++] =
        (struct http_listener){.server = server, .fd = fd, .is_unix = is_unix};
}

static void close_listeners(struct http_server *server)
{
    for (unsigned i = 0; i < server->listener_count; i++)
        (void)close(server->listeners[i].fd);
    server->listener_count = 0;
}

/* All addresses on one port; 0, or the errno of the first that failed (then none is open). */
static int open_all(struct http_server *server, struct address *addresses, unsigned count)
{
    server->port = server->options.port;
    for (unsigned i = 0; i < count; i++) {
        set_port(&addresses[i], server->port);
        int fd = listen_on(&addresses[i]);
        if (fd < 0) {
            int failure = errno;
            if (addresses[i].optional && failure != EADDRINUSE)
                continue; /* no IPv6 here */
            close_listeners(server);
            return failure;
        }
        if (server->port == 0)
            server->port = port_of_socket(fd);
        add_listener(server, fd, false);
    }
    return 0;
}

static och_code open_internet(struct http_server *server, och_error *err)
{
    const struct http_server_options *options = &server->options;
    const char *host = options->host != NULL ? options->host : "localhost";
    struct address addresses[HTTP_LISTENERS_MAX - 1] = {0};
    unsigned count = 0;
    TRY(resolve(host, addresses, COUNT_OF(addresses), &count, err));
    int failure = open_all(server, addresses, count);
    /* A port that the system chose for one address may be taken on the other. */
    for (unsigned i = 0; failure == EADDRINUSE && options->port == 0 && i < PORT_TRIES; i++)
        failure = open_all(server, addresses, count);
    unsigned port = options->port;
    if (failure == EADDRINUSE)
        return FAIL(
            err, OCH_IN_USE,
            "cannot listen on %s:%u: another program has the port. Choose one with --port %u.",
            host, port, port < 65535 ? port + 1 : port - 1);
    if (failure == EADDRNOTAVAIL)
        return FAIL_OS(err, OCH_SETTING, failure,
                       "cannot listen on %s:%u: this machine does not have the address", host,
                       port);
    if (failure == EACCES)
        return FAIL_OS(err, OCH_SETTING, failure,
                       "cannot listen on %s:%u: ports below 1024 need a privilege", host, port);
    return failure == 0 ? OCH_OK
                        : FAIL_OS(err, OCH_IO, failure, "cannot listen on %s:%u", host, port);
}

/* A socket file that nobody answers on is left from a crash. */
static bool unix_socket_is_stale(const struct sockaddr_un *address)
{
    struct stat status;
    if (lstat(address->sun_path, &status) != 0 || !S_ISSOCK(status.st_mode))
        return false;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return false;
    bool stale =
        connect(fd, (const struct sockaddr *)(const void *)address, sizeof(*address)) != 0 &&
        errno == ECONNREFUSED;
    (void)close(fd);
    return stale;
}

static och_code open_unix(struct http_server *server, och_error *err)
{
    const char *path = server->options.unix_path;
    if (path == NULL)
        return OCH_OK;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (path[0] == '\0' || strlen(path) >= sizeof(address.sun_path))
        return FAIL(err, OCH_SETTING, "the local socket's path \"%s\" must have 1 to %zu bytes",
                    path, sizeof(address.sun_path) - 1);
    memcpy(address.sun_path, path, strlen(path) + 1);
    if (unix_socket_is_stale(&address))
        (void)unlink(path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return FAIL_OS(err, OCH_IO, errno, "cannot make a local socket");
    /* The mode is set before listen(): nobody can connect in between. */
    if (bind(fd, (const struct sockaddr *)(const void *)&address, sizeof(address)) != 0) {
        int failure = errno;
        (void)close(fd);
        if (failure == EADDRINUSE)
            return FAIL(
                err, OCH_IN_USE,
                "cannot listen on %s: another program has it, or it is a file of another kind",
                path);
        return FAIL_OS(err, OCH_IO, failure, "cannot listen on %s", path);
    }
    if (chmod(path, 0600) != 0 || listen(fd, LISTEN_BACKLOG) != 0) {
        int failure = errno;
        (void)close(fd);
        (void)unlink(path);
        return FAIL_OS(err, OCH_IO, failure, "cannot listen on %s", path);
    }
    add_listener(server, fd, true);
    server->unix_path = mem_copy_text(path, strlen(path));
    return server->unix_path != NULL ? OCH_OK : FAIL_NO_MEMORY(err, "a path");
}

och_code http_listen_open(struct http_server *server, och_error *err)
{
    TRY(open_internet(server, err));
    return open_unix(server, err);
}

/* ---- accepting ---- */

static void pause_accepting(struct http_server *server)
{
    if (server->accept_paused)
        return;
    server->accept_paused = true;
    for (unsigned i = 0; i < server->listener_count; i++)
        (void)event_del(&server->listeners[i].event);
    struct timeval pause = {.tv_usec = ACCEPT_PAUSE_US};
    (void)event_add(&server->accept_pause, &pause);
}

static void on_accept_pause(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct http_server *server = arg;
    server->accept_paused = false;
    for (unsigned i = 0; i < server->listener_count; i++)
        (void)event_add(&server->listeners[i].event, NULL);
}

static void take_connection(struct http_server *server, int fd, bool is_unix)
{
    struct http_loop *loop = &server->loops[server->loop_next];
    server->loop_next = (server->loop_next + 1) % server->loop_count;
    struct http_conn *conn = http_conn_new(loop, fd, is_unix);
    if (conn == NULL)
        (void)close(fd);
    else if (loop == &server->loops[0])
        http_conn_start(conn);
    else
        http_loop_post(conn);
}

static void on_accept(evutil_socket_t listening, short what, void *arg)
{
    (void)what;
    struct http_listener *listener = arg;
    struct http_server *server = listener->server;
    for (unsigned round = 0; round < ACCEPT_ROUNDS; round++) {
        if (atomic_load_explicit(&server->conn_count, memory_order_relaxed) >=
            server->options.connection_max) {
            for (unsigned i = 0; i < server->loop_count; i++) {
                atomic_store_explicit(&server->loops[i].evict, true, memory_order_relaxed);
                http_loop_wake(&server->loops[i]);
            }
            trace_line(server->options.trace, TRACE_WARN, "net",
                       "as many connections as allowed: idle ones are closed", NULL);
            pause_accepting(server);
            return;
        }
        int fd = accept4((int)listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            take_connection(server, fd, listener->is_unix);
        } else if (errno == EAGAIN) {
            return;
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            trace_line(server->options.trace, TRACE_WARN, "net",
                       "cannot accept connections for the moment", "reason", strerrordesc_np(errno),
                       NULL);
            pause_accepting(server); /* the socket stays readable: without a pause we would spin */
            return;
        }
        /* else this one connection is gone already (ECONNABORTED, EPROTO, ...) */
    }
}

och_code http_listen_start(struct http_server *server, och_error *err)
{
    struct event_base *base = server->loops[0].base;
    (void)event_assign(&server->accept_pause, base, -1, 0, on_accept_pause, server);
    for (unsigned i = 0; i < server->listener_count; i++) {
        struct http_listener *listener = &server->listeners[i];
        (void)event_assign(&listener->event, base, listener->fd, EV_READ | EV_PERSIST, on_accept,
                           listener);
        if (event_add(&listener->event, NULL) != 0)
            return FAIL(err, OCH_IO, "cannot watch a listening socket");
    }
    return OCH_OK;
}

void http_listen_close(struct http_server *server)
{
    bool started = event_initialized(&server->accept_pause) != 0;
    if (started)
        (void)event_del(&server->accept_pause);
    for (unsigned i = 0; i < server->listener_count; i++)
        if (event_initialized(&server->listeners[i].event))
            (void)event_del(&server->listeners[i].event);
    close_listeners(server);
    if (server->unix_path != NULL)
        (void)unlink(server->unix_path);
    mem_free(server->unix_path);
    server->unix_path = NULL;
}
