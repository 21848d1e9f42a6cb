/* SPDX-License-Identifier: Apache-2.0 */
/* The strict HTTP/1.1 subset as pure functions: request head, chunked body.  No I/O, no memory of its own.
 * RFC 9110, RFC 9112; what we refuse beyond them is listed in README.md. */
#ifndef NET_HTTP_PARSE_H
#define NET_HTTP_PARSE_H

#include "net/http.h"

enum http_parse {
    HTTP_PARSE_MORE, /* sound so far, not complete */
    HTTP_PARSE_DONE,
    HTTP_PARSE_BAD /* answer with `status` and close: framing is lost */
};

/** Bytes of the head by offset, so that the head may move while it grows. */
struct http_span {
    uint32_t at, len;
};
struct http_field {
    struct http_span name, value;
};

struct http_head {
    /* the parser's own */
    uint32_t line_at; /* start of the first line not yet parsed */
    uint32_t scanned; /* bytes before it hold no forbidden one */
    bool has_line, has_host, has_length, has_transfer, has_close;
    /* the request, valid after HTTP_PARSE_DONE */
    bool http_1_0;
    bool keep_alive;
    bool chunked;
    bool expect_continue;
    uint32_t size; /* bytes of the head, blank line included */
    uint64_t content_length;
    struct http_span method, target, path, query;
    uint32_t field_count;
    /* after HTTP_PARSE_BAD */
    int status;
    const char *problem;
    struct http_field fields[HTTP_HEADERS_MAX];
};

void http_head_init(struct http_head *head);

/**
 * Parse a request head; call again with the same bytes and more behind them while it says MORE.
 *
 * Errors: BAD as soon as a byte is wrong: nothing is gained by waiting for the rest.
 * Cost:   each byte is looked at about twice, however the head is cut.
 */
enum http_parse http_head_parse(struct http_head *head, slice bytes);

/** Point `request` and `headers` (HTTP_HEADERS_MAX of them) into `bytes`, the head as it was parsed. */
void http_head_view(const struct http_head *head, const uint8_t *bytes, struct http_header *headers,
                    struct http_request *request);

/** Decoder of chunked bodies, by the byte; trailers are checked and dropped. */
struct http_chunks {
    uint8_t state;
    uint8_t digits;      /* of the size so far */
    uint32_t line_bytes; /* of the size line or of all trailers */
    uint64_t left;       /* of the chunk's data */
    const char *problem;
};

void http_chunks_init(struct http_chunks *chunks);

/**
 * Decode from `input`: at most one piece of data, which points into it.
 *
 * `ret_used` bytes were taken.  MORE with ret_used < input.len: call again with the rest.  DONE: the body
 * has ended, what follows is the next request's.
 */
enum http_parse http_chunks_decode(struct http_chunks *chunks, slice input, size_t *ret_used,
                                   slice *ret_data);

/** Does a comma-separated list hold `token`, and not with q=0? */
bool http_list_has(slice list, slice token);

#endif
