/* SPDX-License-Identifier: Apache-2.0 */
/* Requests and replies as values: pure functions, used with and without a server. */
#include "net/http.h"

#include <stdio.h>

slice http_request_header(const struct http_request *request, slice name)
{
    for (size_t i = 0; i < request->header_count; i++)
        if (request->headers[i].name.len == name.len &&
            slice_equal_nocase(request->headers[i].name, name))
            return request->headers[i].value;
    return SLICE_NONE;
}

void http_reply_init(struct http_reply *reply, size_t body_max)
{
    *reply = (struct http_reply){.status = 200, .content_type = SLICE("application/json")};
    buf_init(&reply->body, body_max);
    buf_init(&reply->headers, HTTP_HEAD_BYTES_MAX);
}

void http_reply_done(struct http_reply *reply)
{
    if (reply == NULL)
        return;
    if (reply->stream)
        reply->stream->free(reply->stream);
    reply->stream = NULL;
    buf_done(&reply->body);
    buf_done(&reply->headers);
}

/* No byte that could end the line or begin another header. */
static bool text_is_clean(const char *text)
{
    for (; *text != '\0'; text++)
        if ((uint8_t)*text < 0x20 || *text == 0x7f)
            return false;
    return true;
}

void http_reply_header(struct http_reply *reply, const char *name, const char *format, ...)
{
    char value[1024];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(value, sizeof(value), format, args);
    va_end(args);
    /* A bug of ours, yet one that would let others write our headers: then there is no answer but 500. */
    bool clean = len >= 0 && (size_t)len < sizeof(value) && text_is_clean(name) &&
                 strchr(name, ':') == NULL && text_is_clean(value);
    assert(clean);
    if (!clean) {
        reply->headers.failed = true;
        return;
    }
    buf_text(&reply->headers, name);
    buf_text(&reply->headers, ": ");
    buf_append(&reply->headers, value, (size_t)len);
    buf_text(&reply->headers, "\r\n");
}

const char *http_error_code(int status)
{
    switch (status) {
    case 408:
        return "slow_request";
    case 413:
        return "too_large";
    case 415:
        return "content_type";
    case 429:
        return "busy";
    case 431:
        return "head_too_large";
    case 500:
        return "internal";
    default:
        return "malformed";
    }
}

const char *http_reason(int status)
{
    static const struct {
        int status;
        const char *reason;
    } reasons[] = {
        {100, "Continue"},
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {206, "Partial Content"},
        {301, "Moved Permanently"},
        {302, "Found"},
        {303, "See Other"},
        {304, "Not Modified"},
        {307, "Temporary Redirect"},
        {308, "Permanent Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {406, "Not Acceptable"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {410, "Gone"},
        {411, "Length Required"},
        {412, "Precondition Failed"},
        {413, "Payload Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {416, "Range Not Satisfiable"},
        {417, "Expectation Failed"},
        {422, "Unprocessable Entity"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
        {507, "Insufficient Storage"},
    };
    for (size_t i = 0; i < COUNT_OF(reasons); i++)
        if (reasons[i].status == status)
            return reasons[i].reason;
    return "Unknown";
}

static int hex_digit(uint8_t byte)
{
    if (byte >= '0' && byte <= '9')
        return byte - '0';
    uint8_t lower = (uint8_t)(byte | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

bool http_percent_decode(slice text, bool plus_is_blank, struct arena *arena, slice *ret_text)
{
    bool plain = text.len == 0 || memchr(text.at, '%', text.len) == NULL;
    if (plain && plus_is_blank && text.len > 0)
        plain = memchr(text.at, '+', text.len) == NULL;
    slice copy = arena_copy(arena, text);
    if (copy.at == NULL)
        return false;
    *ret_text = copy;
    if (plain)
        return true;
    /* The copy is ours alone, and decoding only shrinks it. */
    uint8_t *to = (uint8_t *)(uintptr_t)copy.at;
    size_t len = 0;
    for (size_t i = 0; i < text.len; i++) {
        uint8_t byte = text.at[i];
        if (byte == '%') {
            int high = text.len - i < 3 ? -1 : hex_digit(text.at[i + 1]);
            int low = high < 0 ? -1 : hex_digit(text.at[i + 2]);
            if (low >= 0) {
                byte = (uint8_t)(high * 16 + low);
                i += 2;
            }
        } else if (byte == '+' && plus_is_blank) {
            byte = ' ';
        }
        to[len++] = byte;
    }
    to[len] = 0;
    ret_text->len = len;
    return true;
}
