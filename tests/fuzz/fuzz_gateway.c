/* SPDX-License-Identifier: Apache-2.0 */
/* Any requests, one behind the other, to the gateway over a database in memory.  Input: lines "METHOD target [Header: value]" each followed by its
 * body up to a line of one dot; "@" in a target stands for a collection that is there, "@@" in a body for the last read token.  The properties: no crash, every status ≥ 400 has a JSON
 * body with error and message, an answer is JSON at all, no request leaves memory behind, and the database stays usable. */
#include "mode/database.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define BASE       "/api/v2/tenants/default_tenant/databases/default_database"
#define REPLY_MOST (64u << 20)

static struct settings settings;
static struct database *database;
static char collection[64];  /* its UUID */
static char token[24] = "0"; /* the last one that a conditional get gave */

static void check(bool holds)
{
    if (!holds)
        abort();
}

static void check_json(const struct http_reply *reply)
{
    if (reply->body.len == 0) { /* only where the answer to OPTIONS has none */
        check(reply->status < 400);
        return;
    }
    slice type = reply->content_type;
    if (reply->status < 400 && type.len && !slice_starts_with(type, SLICE("application/json")))
        return; /* lines of records, figures, pages */
    struct arena arena;
    struct json_value value;
    struct json_fault fault;
    arena_init(&arena, NULL, 0);
    char *padded = calloc(1, reply->body.len + 64);
    check(padded != NULL);
    memcpy(padded, reply->body.at, reply->body.len);
    check(json_read(slice_make(padded, reply->body.len), NULL, &arena, &value, &fault, NULL) ==
          OCH_OK);
    if (reply->status >= 400 && !json_get(&value, SLICE("is_executor_ready"))) {
        const struct json_value *error = json_get(&value, SLICE("error")),
                                *message = json_get(&value, SLICE("message"));
        check(error && error->kind == JSON_STRING && error->string.len > 0);
        check(message && message->kind == JSON_STRING && message->string.len > 0);
    }
    free(padded);
    arena_done(&arena);
}

static int ask(slice method, slice target, const struct http_header *header, slice body,
               struct http_reply *reply)
{
    struct http_handler handler = gateway_handler(database_gateway(database));
    struct http_request request = {.method = method,
                                   .target = target,
                                   .path = target,
                                   .query = SLICE_NONE,
                                   .headers = header,
                                   .header_count = header->name.len ? 1 : 0};
    const uint8_t *mark = target.len ? memchr(target.at, '?', target.len) : NULL;
    if (mark) {
        request.path = slice_make(target.at, (size_t)(mark - target.at));
        request.query = slice_from(target, request.path.len + 1);
    }
    uint8_t *copy = calloc(1, body.len + 64);
    check(copy != NULL);
    if (body.len)
        memcpy(copy, body.at, body.len);
    request.body = slice_make(copy, body.len);
    http_reply_init(reply, REPLY_MOST);
    (void)handler.is_cheap(handler.context, &request);
    handler.handle(handler.context, &request, reply);
    check(reply->status >= 200 && reply->status < 600);
    check_json(reply);
    free(copy);
    return reply->status;
}

static int ask_text(const char *method, const char *target, const char *body,
                    struct http_reply *reply)
{
    struct http_header none = {SLICE_NONE, SLICE_NONE};
    return ask(slice_of(method), slice_of(target), &none, slice_of(body), reply);
}

static void make_collection(void)
{
    struct http_reply reply;
    check(ask_text("POST", BASE "/collections", "{\"name\":\"fuzz\",\"get_or_create\":true}",
                   &reply) == 200);
    check(reply.body.len > 43);
    memcpy(collection, reply.body.at + 7, 36);
    http_reply_done(&reply);
}

static void open_database(void)
{
    static struct database_options options;
    static const struct setting_flag flags[] = {{"memory_limit", "512MiB"},
                                                {"tail_rows_max", "200"},
                                                {"allow_reset", "true"},
                                                {"threads", "1"}};
    struct settings_input input = {.flags = flags, .flag_count = sizeof(flags) / sizeof(flags[0])};
    if (database)
        return;
    check(settings_init(&input, &settings, NULL) == OCH_OK);
    options = (struct database_options){.settings = &settings};
    check(database_open(&options, &database, NULL) == OCH_OK);
}

/* The next line, without its end. */
static slice next_line(slice *left)
{
    const uint8_t *end = left->len ? memchr(left->at, '\n', left->len) : NULL;
    size_t len = end ? (size_t)(end - left->at) : left->len;
    slice line = slice_make(left->at, len);
    *left = slice_from(*left, end ? len + 1 : len);
    return line;
}

static slice next_word(slice *left)
{
    const uint8_t *end = left->len ? memchr(left->at, ' ', left->len) : NULL;
    size_t len = end ? (size_t)(end - left->at) : left->len;
    slice word = slice_make(left->at, len);
    *left = slice_from(*left, end ? len + 1 : len);
    return word;
}

static bool is_clean(slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.at[i] < 0x20 || text.at[i] == 0x7f)
            return false;
    }
    return true;
}

/* '@' -> the path of the collection. */
static void spell(slice target, struct buf *out)
{
    for (size_t i = 0; i < target.len; i++) {
        if (target.at[i] == '@')
            buf_printf(out, BASE "/collections/%s", collection);
        else
            buf_byte(out, target.at[i]);
    }
}

/* "@@" -> the token. */
static void spell_body(slice body, struct buf *out)
{
    for (size_t i = 0; i < body.len; i++) {
        bool here = body.at[i] == '@' && i + 1 < body.len && body.at[i + 1] == '@';
        if (here)
            buf_text(out, token);
        else
            buf_byte(out, body.at[i]);
        i += here;
    }
}

static void note_token(const struct http_reply *reply)
{
    static const char name[] = "\"read_token\":";
    slice left = buf_view(&reply->body);
    const uint8_t *at = left.len ? memmem(left.at, left.len, name, sizeof(name) - 1) : NULL;
    if (reply->status != 200 || !at)
        return;
    left = slice_from(left, (size_t)(at - left.at) + sizeof(name) - 1);
    size_t len = 0;
    while (len < left.len && len < sizeof(token) - 1 && left.at[len] >= '0' && left.at[len] <= '9')
        len++;
    memcpy(token, left.at, len);
    token[len] = '\0';
}

static void one_request(slice *left)
{
    slice line = next_line(left), body = slice_make(left->at, 0);
    while (left->len) {
        slice next = next_line(left);
        if (next.len == 1 && next.at[0] == '.')
            break;
        body.len = (size_t)(next.at + next.len - body.at);
    }
    slice method = next_word(&line), target = next_word(&line);
    struct http_header header = {SLICE_NONE, SLICE_NONE};
    const uint8_t *colon = line.len ? memchr(line.at, ':', line.len) : NULL;
    if (colon) {
        header.name = slice_make(line.at, (size_t)(colon - line.at));
        header.value = slice_from(line, header.name.len + 1);
        while (header.value.len && header.value.at[0] == ' ')
            header.value = slice_from(header.value, 1);
    }
    /* What the parser of messages lets through. */
    if (method.len == 0 || method.len > 20 || !is_clean(method) || !is_clean(target) ||
        !is_clean(header.name) || !is_clean(header.value))
        return;
    struct buf spelled, filled;
    struct http_reply reply;
    buf_init(&spelled, 1 << 20);
    buf_init(&filled, 4 << 20);
    spell(target, &spelled);
    spell_body(body, &filled);
    if (!spelled.failed && !filled.failed) {
        (void)ask(method, buf_view(&spelled), &header, buf_view(&filled), &reply);
        note_token(&reply);
        http_reply_done(&reply);
    }
    buf_done(&filled);
    buf_done(&spelled);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 1 << 16)
        return 0;
    open_database();
    make_collection();
    slice left = slice_make(data, size);
    for (int i = 0; i < 16 && left.len; i++)
        one_request(&left);
    /* Still usable, whatever came. */
    struct http_reply reply;
    make_collection();
    char target[256];
    (void)snprintf(target, sizeof(target), BASE "/collections/%s/", collection);
    size_t len = strlen(target);
    memcpy(target + len, "upsert", 7);
    check(ask_text("POST", target, "{\"ids\":[\"probe\"],\"embeddings\":[[1]]}", &reply) == 200 ||
          reply.status == 400); /* of another dimension by now */
    bool written = reply.status == 200;
    http_reply_done(&reply);
    memcpy(target + len, "get", 4);
    check(ask_text("POST", target, "{\"ids\":[\"probe\"],\"include\":[]}", &reply) == 200);
    if (written)
        check(reply.body.len > 16 && memcmp(reply.body.at, "{\"ids\":[\"probe\"]", 16) == 0);
    http_reply_done(&reply);
    if (size % 7 == 0) {
        uuid id;
        check(uuid_parse(slice_make(collection, 36), &id));
        check(compactor_run(database_compactor(database), &id, size % 2, NULL) == OCH_OK);
    }
    check(ask_text("POST", "/api/v2/reset", "", &reply) == 200);
    http_reply_done(&reply);
    return 0;
}
