/* SPDX-License-Identifier: Apache-2.0 */
/* `ochre recall`: talking to the database that is probed, by its HTTP API. */
#include "admin/recall_internal.h"

#include "net/http.h"

#include <math.h>
#include <stdio.h>

#define LIST_COUNT 256

/* ---- a server as a peer ---- */

static och_code exchange_server(void *context, const char *method, const char *target, slice body,
                                struct arena *arena, int *ret_status, slice *ret_body,
                                och_error *err)
{
    const struct recall_server *server = context;
    struct http_header headers[2] = {
        {SLICE("Content-Type"), SLICE("application/json")},
    };
    size_t count = 1;
    if (server->key.len > 0) {
        const char *value = arena_printf(arena, "Bearer %.*s", SLICE_ARG(server->key));
        if (!value)
            return FAIL_NO_MEMORY(err, "a header");
        headers[count++] = (struct http_header){SLICE("Authorization"), slice_of(value)};
    }
    struct http_answer answer;
    TRY(http_fetch(server->host, server->port, method, target, headers, count, body,
                   server->timeout_ms, arena, &answer, err));
    *ret_status = answer.status;
    *ret_body = answer.body;
    return OCH_OK;
}

void recall_peer_init_server(struct recall_peer *peer, struct recall_server *server)
{
    *peer = (struct recall_peer){.context = server, .exchange = exchange_server};
}

/* ---- one exchange ---- */

static och_code code_of_status(int status)
{
    switch (status) {
    case 401:
        return OCH_UNAUTHENTICATED;
    case 403:
        return OCH_FORBIDDEN;
    case 404:
        return OCH_NOT_FOUND;
    case 429:
    case 503:
        return OCH_BUSY;
    default:
        return status >= 500 ? OCH_UNAVAILABLE : OCH_INVALID;
    }
}

/* The server's own message, if it is one. */
static och_code refuse(int status, const struct json_value *value, const char *what, och_error *err)
{
    const struct json_value *message = json_get(value, SLICE("message"));
    slice text = message && message->kind == JSON_STRING ? message->string : SLICE_NONE;
    return FAIL(err, code_of_status(status), "%s: %.*s (status %d)", what,
                (int)min_size(text.len, 300), (const char *)(text.len ? text.at : SLICE("-").at),
                status);
}

/* Tenants and databases may hold any byte; in a path most must be escaped. */
static void write_segment(struct buf *out, slice name)
{
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.at[i];
        bool plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                     c == '-' || c == '.' || c == '_' || c == '~';
        if (plain)
            buf_byte(out, c);
        else
            buf_printf(out, "%%%02X", c);
    }
}

och_code recall_ask(const struct recall_options *options, const char *method, const char *path,
                    slice body, const char *what, struct arena *arena, struct json_value *ret_value,
                    och_error *err)
{
    static const slice float_members[] = {{(const uint8_t *)"embeddings", 10}};
    static const struct json_options reading = {.float_members = float_members,
                                                .float_member_count = 1};
    CLEANUP(buf_cleanup) struct buf target;
    buf_init(&target, HTTP_HEAD_BYTES_MAX);
    buf_text(&target, "/api/v2/tenants/");
    write_segment(&target, options->tenant.len ? options->tenant : SLICE("default_tenant"));
    buf_text(&target, "/databases/");
    write_segment(&target, options->database.len ? options->database : SLICE("default_database"));
    buf_text(&target, path);
    buf_byte(&target, 0);
    TRY(buf_check(&target, "a request", err));
    TRY(work_check(&options->limits, err));
    int status = 0;
    slice answer = SLICE_NONE;
    TRY(options->peer->exchange(options->peer->context, method, (const char *)target.at, body,
                                arena, &status, &answer, err));
    struct json_fault fault;
    och_error unread = {0};
    och_code code = json_read(answer, &reading, arena, ret_value, &fault, &unread);
    if (code == OCH_NO_MEMORY)
        return FAIL_NO_MEMORY(err, "an answer");
    if (code != OCH_OK)
        *ret_value = (struct json_value){.kind = JSON_NULL};
    if (status != 200)
        return refuse(status, ret_value, what, err);
    return code == OCH_OK
               ? OCH_OK
               : FAIL(err, OCH_UNAVAILABLE, "%s: the answer is not JSON: %s", what, unread.message);
}

double recall_number(const struct json_value *object, const char *name)
{
    const struct json_value *value = name ? json_get(object, slice_of(name)) : object;
    double number = 0;
    if (value && value->kind == JSON_INT)
        number = (double)value->integer;
    else if (value && value->kind == JSON_FLOAT)
        number = value->number;
    return isfinite(number) && number > 0 ? number : 0;
}

/* ---- collections ---- */

/* False: it holds no vector. */
static och_code read_collection(const struct recall_options *options,
                                const struct json_value *value, struct arena *arena,
                                struct recall_collection *ret_found, bool *ret_any, och_error *err)
{
    const struct json_value *name = json_get(value, SLICE("name")),
                            *id = json_get(value, SLICE("id"));
    *ret_any = false;
    if (!name || name->kind != JSON_STRING || !id || id->kind != JSON_STRING || id->string.len > 64)
        return FAIL(err, OCH_UNAVAILABLE, "a collection without name or id");
    double dimension = recall_number(value, "dimension");
    if (dimension < 1 || dimension > UINT16_MAX)
        return OCH_OK;
    struct json_value count;
    const char *path = arena_printf(arena, "/collections/%.*s/count", SLICE_ARG(id->string));
    if (!path)
        return FAIL_NO_MEMORY(err, "a path");
    TRY(recall_ask(options, "GET", path, SLICE_NONE, "count", arena, &count, err));
    *ret_found = (struct recall_collection){.name = name->string,
                                            .id = id->string,
                                            .records = (uint64_t)recall_number(&count, NULL),
                                            .dimension = (uint32_t)dimension};
    *ret_any = ret_found->records > 0;
    return OCH_OK;
}

static och_code find_one(const struct recall_options *options, struct arena *arena,
                         struct recall_collection *ret_found, bool *ret_any, och_error *err)
{
    struct json_value value;
    CLEANUP(buf_cleanup) struct buf path;
    buf_init(&path, 8192);
    buf_text(&path, "/collections/");
    write_segment(&path, options->collection);
    buf_byte(&path, 0);
    TRY(buf_check(&path, "a path", err));
    och_code code = recall_ask(options, "GET", (const char *)path.at, SLICE_NONE, "collection",
                               arena, &value, err);
    if (code == OCH_NOT_FOUND)
        return FAIL(err, OCH_NOT_FOUND, "no collection \"%.*s\"",
                    (int)min_size(options->collection.len, 40),
                    (const char *)options->collection.at);
    TRY(code);
    return read_collection(options, &value, arena, ret_found, ret_any, err);
}

och_code recall_find(const struct recall_options *options, struct arena *arena,
                     struct recall_collection **ret_found, size_t *ret_count, och_error *err)
{
    struct recall_collection *found = NULL;
    size_t count = 0, room = 0;
    bool one = options->collection.len > 0, any = false;
    for (size_t offset = 0, seen = LIST_COUNT; seen == LIST_COUNT; offset += LIST_COUNT) {
        struct json_value list = {.kind = JSON_ARRAY};
        const char *path =
            arena_printf(arena, "/collections?limit=%d&offset=%zu", LIST_COUNT, offset);
        if (!path)
            return FAIL_NO_MEMORY(err, "a path");
        if (!one)
            TRY(recall_ask(options, "GET", path, SLICE_NONE, "collections", arena, &list, err));
        if (list.kind != JSON_ARRAY)
            return FAIL(err, OCH_UNAVAILABLE, "the collections are no array");
        seen = one ? 1 : list.count;
        room = count + seen;
        struct recall_collection *grown = ARENA_ARRAY(arena, struct recall_collection, room + 1);
        if (!grown)
            return FAIL_NO_MEMORY(err, "a list of collections");
        if (count)
            memcpy(grown, found, count * sizeof(*grown));
        found = grown;
        for (size_t i = 0; i < seen; i++) {
            if (one)
                TRY(find_one(options, arena, &found[count], &any, err));
            else
                TRY(read_collection(options, &list.items[i], arena, &found[count], &any, err));
            count += any;
        }
    }
    *ret_found = found;
    *ret_count = count;
    return OCH_OK;
}
