/* SPDX-License-Identifier: Apache-2.0 */
/* A handler whose bodies come in pieces: it sums them up, and answers how many bytes and what sum. */
#ifndef INTAKE_TEST_H
#define INTAKE_TEST_H

#include "net/http_body.h"
#include "net_test.h"

struct summing {
    struct http_intake intake;
    struct net_test *test;
    uint64_t bytes, sum, pieces;
    bool stops; /* after the first piece */
};

/* Place and value of each byte count. */
UNUSED static uint64_t sum_of(uint64_t at, slice text)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < text.len; i++)
        sum += (at + i + 1) * text.at[i];
    return sum;
}

static bool feed_sum(struct http_intake *intake, const struct http_request *request, bool last,
                     const och_error *broken, struct http_reply *reply)
{
    struct summing *s = (struct summing *)(void *)intake;
    assert_true(request->body.len < 6 * HTTP_PIECE_BYTES);
    for (size_t i = 0; i < 64; i++)
        reply->status += request->body.at[request->body.len + i] & 0;
    s->sum += sum_of(s->bytes, request->body);
    s->bytes += request->body.len;
    s->pieces++;
    if (!last && !s->stops)
        return false;
    reply->status = broken ? 400 : s->stops ? 418 : 200;
    buf_printf(&reply->body, "%llu %llu%s%s", (unsigned long long)s->bytes,
               (unsigned long long)s->sum, broken ? " " : "", broken ? broken->message : "");
    return true;
}

static void free_sum(struct http_intake *intake)
{
    struct summing *s = (struct summing *)(void *)intake;
    atomic_fetch_add(&s->test->let_go, 1);
    mem_free(s);
}

static struct http_intake *take_in(void *context, const struct http_request *head)
{
    if (!slice_starts_with(head->path, SLICE("/sum")))
        return NULL;
    struct summing *s = mem_zalloc(sizeof(*s));
    if (s)
        *s = (struct summing){.intake = {feed_sum, free_sum},
                              .test = context,
                              .stops = slice_equal(head->path, SLICE("/sum/stop"))};
    return s ? &s->intake : NULL;
}

UNUSED static void start_intake(struct net_test *test)
{
    struct http_server_options options = test_options(test);
    options.handler.intake = take_in;
    options.body_bytes_max = 100000; /* does not count for these */
    test_start(test, &options);
}

/* A body of so many bytes; free() it. */
UNUSED static uint8_t *make_body(size_t len)
{
    uint8_t *body = malloc(len + 1);
    assert_non_null(body);
    for (size_t i = 0; i < len; i++)
        body[i] = (uint8_t)('a' + i % 23 + i / 100003 % 3);
    return body;
}
#endif
