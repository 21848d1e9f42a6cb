/* SPDX-License-Identifier: Apache-2.0 */
/* One request over a connection of its own, blocking until the answer is whole or time is up. */
#include "net/http_parse.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define ANSWER_BYTES_MAX ((size_t)1 << 31)
#define READ_BYTES       65536u

struct client {
    int fd;
    uint64_t deadline_ns;
    const char *host;
    uint16_t port;
};

static void client_done(struct client *client)
{
    if (client->fd >= 0)
        (void)close(client->fd);
    client->fd = -1;
}

/* A host with a '/' is the path of a local socket: no name and no address has one. */
static bool is_local(const char *host)
{
    return strchr(host, '/') != NULL;
}

static och_code client_fails(const struct client *client, och_code code, int os_errno,
                             const char *what, och_error *err)
{
    char port[8] = "";
    if (!is_local(client->host))
        (void)snprintf(port, sizeof(port), ":%u", (unsigned)client->port);
    if (os_errno != 0)
        return FAIL_OS(err, code, os_errno, "%s %s%s", what, client->host, port);
    return FAIL(err, code, "%s %s%s", what, client->host, port);
}

static och_code wait_for(const struct client *client, short events, och_error *err)
{
    for (;;) {
        uint64_t now = clock_mono_ns(clock_system());
        if (now >= client->deadline_ns)
            return client_fails(client, OCH_DEADLINE, 0, "no answer in time from", err);
        uint64_t left_ms = (client->deadline_ns - now) / 1000000 + 1;
        struct pollfd one = {.fd = client->fd, .events = events};
        int ready = poll(&one, 1, left_ms > 60000 ? 60000 : (int)left_ms);
        if (ready > 0)
            return OCH_OK;
        if (ready < 0 && errno != EINTR)
            return client_fails(client, OCH_IO, errno, "cannot wait for", err);
    }
}

static och_code connect_local(struct client *client, och_error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t len = strlen(client->host);
    if (len >= sizeof(address.sun_path))
        return FAIL(err, OCH_UNAVAILABLE, "the path %s is too long for a local socket",
                    client->host);
    memcpy(address.sun_path, client->host, len + 1);
    client->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (client->fd < 0)
        return client_fails(client, OCH_IO, errno, "cannot make a socket for", err);
    /* Here it is done at once, or refused: also when too many wait to be taken. */
    if (connect(client->fd, (struct sockaddr *)(void *)&address, sizeof(address)) != 0)
        return client_fails(client, OCH_UNAVAILABLE, errno, "cannot connect to", err);
    return OCH_OK;
}

/* Connect to the first of the host's addresses that takes us. */
static och_code client_connect(struct client *client, och_error *err)
{
    if (is_local(client->host))
        return connect_local(client, err);
    char port[8];
    (void)snprintf(port, sizeof(port), "%u", (unsigned)client->port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    int failure = getaddrinfo(client->host, port, &hints, &found);
    if (failure != 0)
        return FAIL(err, OCH_UNAVAILABLE, "cannot find the host %s: %s", client->host,
                    gai_strerror(failure));
    och_code code = client_fails(client, OCH_UNAVAILABLE, 0, "cannot connect to", err);
    for (const struct addrinfo *one = found; one != NULL && code == OCH_UNAVAILABLE;
         one = one->ai_next) {
        client_done(client);
        client->fd = socket(one->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (client->fd < 0)
            continue;
        int reason = connect(client->fd, one->ai_addr, one->ai_addrlen) == 0 ? 0 : errno;
        if (reason == EINPROGRESS) {
            code = wait_for(client, POLLOUT, err);
            socklen_t size = sizeof(reason);
            if (code != OCH_OK || getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &reason, &size) != 0)
                continue;
        }
        code = reason == 0
                   ? OCH_OK
                   : client_fails(client, OCH_UNAVAILABLE, reason, "cannot connect to", err);
    }
    freeaddrinfo(found);
    if (code == OCH_OK)
        error_clear(err);
    return code;
}

static och_code client_send(const struct client *client, slice text, och_error *err)
{
    while (text.len > 0) {
        ssize_t put = send(client->fd, text.at, text.len, MSG_NOSIGNAL);
        if (put > 0)
            text = slice_from(text, (size_t)put);
        else if (put < 0 && errno == EAGAIN)
            TRY(wait_for(client, POLLOUT, err));
        else if (put < 0 && errno != EINTR)
            return OCH_OK; /* the server may have answered and closed before it read all: see what it says */
    }
    return OCH_OK;
}

/* Append what has come to `answer`; 0 bytes at the end. */
static och_code client_read(const struct client *client, struct buf *answer, size_t *ret_got,
                            och_error *err)
{
    uint8_t *room = buf_reserve(answer, READ_BYTES);
    if (room == NULL)
        return buf_check(answer, "an answer", err);
    for (;;) {
        ssize_t got = recv(client->fd, room, READ_BYTES, 0);
        if (got >= 0) {
            answer->len += (size_t)got;
            *ret_got = (size_t)got;
            return OCH_OK;
        }
        if (errno == EAGAIN)
            TRY(wait_for(client, POLLIN, err));
        else if (errno != EINTR)
            return client_fails(client, OCH_UNAVAILABLE, errno, "lost the connection to", err);
    }
}

/* ---- the answer ---- */

struct framing {
    int status;
    size_t head_size;
    bool chunked, has_length, bodyless;
    uint64_t length;
};

static slice line_next(slice *text)
{
    const uint8_t *end = text->len ? memchr(text->at, '\n', text->len) : NULL;
    slice line = {text->at, end ? (size_t)(end - text->at) : text->len};
    *text = slice_from(*text, end ? line.len + 1 : line.len);
    if (line.len > 0 && line.at[line.len - 1] == '\r')
        line.len--;
    return line;
}

static slice header_of(slice head, slice name)
{
    (void)line_next(&head);
    while (head.len > 0) {
        slice line = line_next(&head);
        if (line.len <= name.len || line.at[name.len] != ':' ||
            !slice_equal_nocase((slice){line.at, name.len}, name))
            continue;
        slice value = slice_from(line, name.len + 1);
        while (value.len > 0 && value.at[0] == ' ')
            value = slice_from(value, 1);
        return value;
    }
    return SLICE_NONE;
}

/* False when the head is not complete or not HTTP; `ret_framing->status` 0 in the first case. */
static bool read_head(slice answer, bool bodyless, struct framing *ret_framing)
{
    *ret_framing = (struct framing){0};
    const uint8_t *end = answer.len ? memmem(answer.at, answer.len, "\r\n\r\n", 4) : NULL;
    if (end == NULL)
        return false;
    slice head = {answer.at, (size_t)(end - answer.at) + 2};
    ret_framing->head_size = head.len + 2;
    ret_framing->status = -1;
    if (head.len < 12 || memcmp(head.at, "HTTP/1.", 7) != 0)
        return false;
    int status = 0;
    for (size_t i = 9; i < 12; i++) {
        if (head.at[i] < '0' || head.at[i] > '9')
            return false;
        status = status * 10 + (head.at[i] - '0');
    }
    ret_framing->chunked =
        slice_equal_nocase(header_of(head, SLICE("Transfer-Encoding")), SLICE("chunked"));
    slice length = header_of(head, SLICE("Content-Length"));
    ret_framing->has_length = length.len > 0 && length.len <= 18;
    for (size_t i = 0; i < length.len; i++) {
        if (length.at[i] < '0' || length.at[i] > '9')
            return false;
        ret_framing->length = ret_framing->length * 10 + (uint64_t)(length.at[i] - '0');
    }
    ret_framing->status = status;
    ret_framing->bodyless = bodyless || status < 200 || status == 204 || status == 304;
    return true;
}

/* Decode chunks; `to` may be `at`, or NULL to look only.  DONE when their end is there. */
static enum http_parse decode_chunks(const uint8_t *at, size_t len, uint8_t *to, size_t *ret_len)
{
    struct http_chunks chunks;
    http_chunks_init(&chunks);
    size_t out = 0, used = 0;
    enum http_parse result = HTTP_PARSE_MORE;
    while (result == HTTP_PARSE_MORE && used < len) {
        size_t step;
        slice data;
        result = http_chunks_decode(&chunks, (slice){at + used, len - used}, &step, &data);
        if (data.len > 0 && to != NULL)
            memmove(to + out, data.at, data.len);
        out += data.len;
        used += step;
    }
    *ret_len = out;
    return result;
}

/* Does `answer` hold a whole one?  Interim answers (1xx) are dropped from its front. */
static bool answer_is_whole(struct buf *answer, bool bodyless, bool ended, struct framing *framing)
{
    while (read_head(buf_view(answer), bodyless, framing) && framing->status < 200) {
        memmove(answer->at, answer->at + framing->head_size, answer->len - framing->head_size);
        answer->len -= framing->head_size;
    }
    if (framing->status <= 0)
        return ended || framing->status < 0;
    size_t have = answer->len - framing->head_size;
    if (framing->bodyless)
        return true;
    if (framing->chunked) { /* looked through only when the bytes look like an end */
        size_t len;
        bool end = answer->len >= 5 && memcmp(answer->at + answer->len - 4, "\r\n\r\n", 4) == 0;
        return ended || (end && decode_chunks(answer->at + framing->head_size, have, NULL, &len) !=
                                    HTTP_PARSE_MORE);
    }
    return framing->has_length ? have >= framing->length || ended : ended;
}

static och_code read_answer(const struct client *client, bool bodyless, struct arena *arena,
                            struct http_answer *ret_answer, och_error *err)
{
    CLEANUP(buf_cleanup) struct buf answer;
    buf_init(&answer, ANSWER_BYTES_MAX);
    struct framing framing;
    size_t got = 1;
    while (!answer_is_whole(&answer, bodyless, got == 0, &framing))
        TRY(client_read(client, &answer, &got, err));
    if (framing.status <= 0)
        return client_fails(client, OCH_UNAVAILABLE, 0, "no HTTP answer from", err);
    uint8_t *body = answer.at + framing.head_size;
    size_t len = framing.bodyless ? 0 : answer.len - framing.head_size;
    bool whole = true;
    if (framing.chunked && !framing.bodyless)
        whole = decode_chunks(body, len, body, &len) == HTTP_PARSE_DONE;
    else if (framing.has_length && !framing.bodyless)
        whole = len >= framing.length;
    if (!whole)
        return client_fails(client, OCH_UNAVAILABLE, 0, "the answer was cut off by", err);
    if (framing.has_length && !framing.chunked && len > framing.length)
        len = (size_t)framing.length;
    struct http_answer result = {.status = framing.status};
    result.head = arena_copy(arena, (slice){answer.at, framing.head_size});
    result.body = arena_copy(arena, (slice){body, len});
    if (result.head.at == NULL || result.body.at == NULL)
        return FAIL_NO_MEMORY(err, "an answer");
    *ret_answer = result;
    return OCH_OK;
}

static bool has_header(const struct http_header *headers, size_t count, slice name)
{
    for (size_t i = 0; i < count; i++)
        if (slice_equal_nocase(headers[i].name, name))
            return true;
    return false;
}

och_code http_fetch(const char *host, uint16_t port, const char *method, const char *target,
                    const struct http_header *headers, size_t header_count, slice body,
                    uint32_t timeout_ms, struct arena *arena, struct http_answer *ret_answer,
                    och_error *err)
{
    CLEANUP(client_done) struct client client = {.fd = -1, .host = host, .port = port};
    client.deadline_ns = clock_mono_ns(clock_system()) + timeout_ms * UINT64_C(1000000);
    CLEANUP(buf_cleanup) struct buf head;
    buf_init(&head, HTTP_HEAD_BYTES_MAX);
    buf_printf(&head, "%s %s HTTP/1.1\r\n", method, target);
    bool named = has_header(headers, header_count, SLICE("Host"));
    if (!named && is_local(host))
        buf_text(&head, "Host: localhost\r\n");
    else if (!named)
        buf_printf(&head, strchr(host, ':') != NULL ? "Host: [%s]:%u\r\n" : "Host: %s:%u\r\n", host,
                   (unsigned)port);
    for (size_t i = 0; i < header_count; i++)
        buf_printf(&head, "%.*s: %.*s\r\n", SLICE_ARG(headers[i].name),
                   SLICE_ARG(headers[i].value));
    if (body.len > 0 || strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0 ||
        strcmp(method, "PATCH") == 0)
        buf_printf(&head, "Content-Length: %zu\r\n", body.len);
    buf_text(&head, "Connection: close\r\n\r\n");
    TRY(buf_check(&head, "a request", err));
    TRY(client_connect(&client, err));
    TRY(client_send(&client, buf_view(&head), err));
    TRY(client_send(&client, body, err));
    return read_answer(&client, strcmp(method, "HEAD") == 0, arena, ret_answer, err);
}
