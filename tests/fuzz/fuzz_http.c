/* SPDX-License-Identifier: Apache-2.0 */
/* Input: what a client sends over one connection.  Properties of the strict parser:
 *  - however the input is cut, it is read the same;
 *  - what it accepts holds no line that ends in anything but CR LF, and all spans lie inside the head;
 *  - a message that llhttp accepts too is framed alike (with HTTP_ORACLE; the sources are Debian's node-llhttp). */
#include "net/http_parse.h"

#include "base/clock.h"

#include <stdlib.h>

#ifdef HTTP_ORACLE /* set by the build, which then compiles llhttp's sources besides, with LLHTTP_STRICT_MODE=1 */
#include "llhttp.h"
#endif

#define MESSAGES_MAX 16

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct message {
    size_t end; /* in the input */
    size_t target_len;
    const uint8_t *target;
    uint64_t body_hash;
    size_t body_len;
    bool keep_alive;
};
struct messages {
    struct message at[MESSAGES_MAX];
    size_t count;
    bool bad;   /* refused behind the last */
    bool other; /* another protocol follows, says the oracle */
};

static void check(bool holds)
{
    if (!holds)
        abort();
}

/* FNV-1a, so that pieces can be added one by one */
static void add_body(struct message *message, const uint8_t *at, size_t len)
{
    if (message->body_len == 0)
        message->body_hash = UINT64_C(14695981039346656037);
    for (size_t i = 0; i < len; i++)
        message->body_hash = (message->body_hash ^ at[i]) * UINT64_C(1099511628211);
    message->body_len += len;
}

/* Input arrives in pieces: of random size when `random` is given, else whole. */
struct input {
    const uint8_t *data;
    size_t size, seen;
    struct random *random;
};

static bool input_more(struct input *input)
{
    size_t left = input->size - input->seen;
    if (left == 0)
        return false;
    input->seen +=
        input->random ? 1 + (size_t)random_below(input->random, left < 40 ? left : 40) : left;
    return true;
}

static void check_head(const struct http_head *head, const uint8_t *bytes)
{
    check(head->size <= HTTP_HEAD_BYTES_MAX && head->field_count <= HTTP_HEADERS_MAX);
    for (size_t i = 0; i < head->size; i++)
        check((bytes[i] != '\n' || (i > 0 && bytes[i - 1] == '\r')) && bytes[i] != 0);
    struct http_header headers[HTTP_HEADERS_MAX];
    struct http_request request = {0};
    http_head_view(head, bytes, headers, &request);
    for (size_t i = 0; i < request.header_count; i++)
        check(headers[i].name.len > 0 &&
              headers[i].value.at + headers[i].value.len <= bytes + head->size);
    check(request.method.len > 0 && request.path.len > 0);
    check(!(head->chunked && head->has_length));
}

/* The body behind `at`; false when it is not complete or refused. */
static bool read_body(const struct http_head *head, struct input *input, size_t at,
                      struct message *message, bool *ret_bad)
{
    if (!head->chunked) {
        while (input->seen - at < head->content_length)
            if (!input_more(input))
                return false;
        add_body(message, input->data + at, (size_t)head->content_length);
        message->end = at + (size_t)head->content_length;
        return true;
    }
    struct http_chunks chunks;
    http_chunks_init(&chunks);
    for (;;) {
        size_t used;
        slice data;
        enum http_parse result =
            http_chunks_decode(&chunks, (slice){input->data + at, input->seen - at}, &used, &data);
        check(used <= input->seen - at);
        if (data.len > 0)
            add_body(message, data.at, data.len);
        at += used;
        *ret_bad = result == HTTP_PARSE_BAD;
        if (result == HTTP_PARSE_BAD)
            return false;
        message->end = at;
        if (result == HTTP_PARSE_DONE)
            return true;
        if (at == input->seen && !input_more(input))
            return false;
    }
}

static void read_ours(struct input *input, struct messages *messages)
{
    size_t at = 0;
    while (messages->count < MESSAGES_MAX) {
        struct http_head head;
        http_head_init(&head);
        enum http_parse result;
        while ((result = http_head_parse(&head, (slice){input->data + at, input->seen - at})) ==
               HTTP_PARSE_MORE)
            if (!input_more(input))
                return;
        if (result == HTTP_PARSE_BAD) {
            check(head.status >= 400 && head.problem != NULL);
            messages->bad = true;
            return;
        }
        check_head(&head, input->data + at);
        struct message message = {.target = input->data + at + head.target.at,
                                  .target_len = head.target.len};
        message.keep_alive = head.keep_alive;
        if (!read_body(&head, input, at + head.size, &message, &messages->bad))
            return;
        at = message.end;
        messages->at[messages->count++] = message;
        if (!head.keep_alive)
            return;
    }
}

#ifdef HTTP_ORACLE
struct oracle {
    llhttp_t parser; /* first: callbacks get it */
    struct messages *messages;
    struct message now;
};

static int oracle_begin(llhttp_t *parser)
{
    struct oracle *oracle = (struct oracle *)parser;
    oracle->now = (struct message){0};
    return 0;
}
static int oracle_url(llhttp_t *parser, const char *at, size_t length)
{
    struct oracle *oracle = (struct oracle *)parser;
    oracle->now.target = (const uint8_t *)at;
    oracle->now.target_len = length;
    return 0;
}
static int oracle_body(llhttp_t *parser, const char *at, size_t length)
{
    struct oracle *oracle = (struct oracle *)parser;
    add_body(&oracle->now, (const uint8_t *)at, length);
    return 0;
}
static int oracle_complete(llhttp_t *parser)
{
    (void)parser;
    return HPE_PAUSED; /* so that its place can be asked for */
}

static void read_oracle(const uint8_t *data, size_t size, struct messages *messages)
{
    llhttp_settings_t settings;
    llhttp_settings_init(&settings);
    settings.on_message_begin = oracle_begin;
    settings.on_url = oracle_url;
    settings.on_body = oracle_body;
    settings.on_message_complete = oracle_complete;
    struct oracle oracle = {.messages = messages};
    llhttp_init(&oracle.parser, HTTP_REQUEST, &settings);
    size_t at = 0;
    while (messages->count < MESSAGES_MAX) {
        llhttp_errno_t result = llhttp_execute(&oracle.parser, (const char *)data + at, size - at);
        messages->bad = result != HPE_OK && result != HPE_PAUSED;
        if (result != HPE_PAUSED)
            return; /* more is wanted, refused, or another protocol from here on */
        at = (size_t)((const uint8_t *)llhttp_get_error_pos(&oracle.parser) - data);
        oracle.now.end = at;
        messages->at[messages->count++] = oracle.now;
        messages->other = oracle.parser.upgrade != 0;
        if (messages->other)
            return;
        llhttp_resume(&oracle.parser);
    }
}

static void compare_with_oracle(const uint8_t *data, size_t size, const struct messages *ours)
{
    struct messages theirs = {0};
    read_oracle(data, size, &theirs);
    for (size_t i = 0; i < ours->count && i < theirs.count; i++) {
        const struct message *a = &ours->at[i], *b = &theirs.at[i];
        check(a->end == b->end);
        check(a->body_len == b->body_len && (a->body_len == 0 || a->body_hash == b->body_hash));
        check(a->target_len == b->target_len && memcmp(a->target, b->target, a->target_len) == 0);
    }
    /* What they still wait for, we must not have answered. */
    check(theirs.bad || theirs.other || ours->count <= theirs.count);
}
#endif

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 65536)
        return 0;
    struct messages whole = {0}, parts = {0};
    struct input input = {.data = data, .size = size, .seen = size};
    read_ours(&input, &whole);
    struct random random;
    random_seed(&random, slice_hash((slice){data, size}));
    struct input pieces = {.data = data, .size = size, .random = &random};
    read_ours(&pieces, &parts);
    check(whole.count == parts.count && whole.bad == parts.bad);
    for (size_t i = 0; i < whole.count; i++) {
        check(whole.at[i].end == parts.at[i].end && whole.at[i].body_len == parts.at[i].body_len);
        check(whole.at[i].body_hash == parts.at[i].body_hash &&
              whole.at[i].target == parts.at[i].target);
    }
#ifdef HTTP_ORACLE
    compare_with_oracle(data, size, &whole);
#endif
    return 0;
}
