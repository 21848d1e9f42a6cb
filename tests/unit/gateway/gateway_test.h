/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to the gateway in this process, without a socket; answers as text.  Included once by each test. */
#ifndef GATEWAY_TEST_H
#define GATEWAY_TEST_H

#define STACK_GATEWAY
#include "support/stack.h"

#define BASE "/api/v2/tenants/default_tenant/databases/default_database"

struct answer {
    int status;
    char body[65536];
    char headers[4096]; /* "Name: value\r\n" lines */
};

struct ask {
    const char *method, *target, *body;
    struct http_header headers[4];
    size_t header_count;
    uint64_t body_size_refused;
};

/* Every error has the JSON shape: an `error`, a `message`, and the trace id in a header. */
static void check_error_shape(const struct ask *ask, const struct answer *answer)
{
    struct arena arena;
    struct json_value value;
    struct json_fault fault;
    arena_init(&arena, NULL, 0);
    if (json_read(slice_of(answer->body), NULL, &arena, &value, &fault, NULL) != OCH_OK ||
        !json_get(&value, SLICE("error")) || !json_get(&value, SLICE("message")) ||
        json_get(&value, SLICE("message"))->string.len == 0)
        fail_msg("%s %s: status %d with body %s", ask->method, ask->target, answer->status,
                 answer->body);
    if (!strstr(answer->headers, "chroma-trace-id: "))
        fail_msg("%s %s: no trace id", ask->method, ask->target);
    arena_done(&arena);
}

/* Whatever comes, an error without memory for its words too. */
static void exchange_raw(struct stack *s, const struct ask *ask, struct answer *ret)
{
    struct http_handler handler = gateway_handler(s->gateway);
    size_t len = ask->body ? strlen(ask->body) : 0;
    char *body = calloc(1, len + 64); /* exact: a reader beyond the padding is caught */
    assert_non_null(body);
    if (len)
        memcpy(body, ask->body, len);
    slice target = slice_of(ask->target);
    const char *mark = strchr(ask->target, '?');
    struct http_request request = {
        .method = slice_of(ask->method),
        .target = target,
        .path = mark ? slice_make(target.at, (size_t)(mark - ask->target)) : target,
        .query = mark ? slice_of(mark + 1) : SLICE_NONE,
        .headers = ask->headers,
        .header_count = ask->header_count,
        .body = slice_make(body, len),
        .body_size_refused = ask->body_size_refused,
        .peer = SLICE("in-process")};
    struct http_reply reply;
    http_reply_init(&reply, sizeof(ret->body) - 1);
    handler.handle(handler.context, &request, &reply);
    *ret = (struct answer){.status = reply.status};
    assert_true(reply.body.len < sizeof(ret->body) && reply.headers.len < sizeof(ret->headers));
    if (reply.body.len)
        memcpy(ret->body, reply.body.at, reply.body.len);
    if (reply.headers.len)
        memcpy(ret->headers, reply.headers.at, reply.headers.len);
    http_reply_done(&reply);
    free(body);
}

static void exchange(struct stack *s, const struct ask *ask, struct answer *ret)
{
    exchange_raw(s, ask, ret);
    if (ret->status >= 400 && strstr(ask->target, "healthcheck") == NULL)
        check_error_shape(ask, ret);
}

/* Compares the status and the beginning of the body, or of the message when `expected` does not begin with '{', '[' or a digit. */
__attribute__((unused)) static void expect(struct stack *s, const struct ask *ask, int status,
                                           const char *expected)
{
    static struct answer answer;
    exchange(s, ask, &answer);
    const char *at = answer.body;
    if (status >= 400) {
        at = strstr(at, "\"message\":\"");
        at = at ? at + 11 : "";
    }
    if (answer.status != status || strncmp(at, expected, strlen(expected)) != 0)
        fail_msg("%s %s %s\n  expected %d %s\n  got      %d %s", ask->method, ask->target,
                 ask->body ? ask->body : "", status, expected, answer.status, answer.body);
}

/* Without headers; the body is the third argument, or NULL. */
__attribute__((unused)) static struct ask plain(const char *method, const char *target, ...)
{
    va_list args;
    va_start(args, target);
    struct ask ask = {.method = method, .target = target, .body = va_arg(args, const char *)};
    va_end(args);
    return ask;
}

#define PLAIN(method_, ...) plain(method_, __VA_ARGS__, (const char *)NULL)
/* status, beginning of the answer, method, target and maybe body */
#define EXPECT(status_, expected_, ...)                 \
    do {                                                \
        struct ask expect_ask = PLAIN(__VA_ARGS__);     \
        expect(s, &expect_ask, (status_), (expected_)); \
    } while (0)

/* A collection by the API; its UUID as text. */
__attribute__((unused)) static void make_collection(struct stack *s, const char *body,
                                                    char ret_id[UUID_TEXT_SIZE])
{
    static struct answer answer;
    exchange(s, &(struct ask){.method = "POST", .target = BASE "/collections", .body = body},
             &answer);
    if (answer.status != 200)
        fail_msg("%s", answer.body);
    memcpy(ret_id, answer.body + 7, 36); /* {"id":"… */
    ret_id[36] = '\0';
}

/* The path of an operation on a collection; four calls' texts live side by side. */
__attribute__((unused)) static const char *path(const char *id, const char *operation)
{
    static char texts[4][256];
    static unsigned next;
    char *text = texts[next++ % 4];
    (void)snprintf(text, sizeof(texts[0]), BASE "/collections/%s/%s", id, operation);
    return text;
}
#endif
