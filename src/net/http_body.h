/* SPDX-License-Identifier: Apache-2.0 */
/* A request body as it is gathered, charged to a budget; inflating on the way; and gzip for answers. */
#ifndef NET_HTTP_BODY_H
#define NET_HTTP_BODY_H

#include "net/http.h"

#define HTTP_BODY_PADDING      64
#define HTTP_INFLATE_RATIO_MAX 200
#define HTTP_INFLATE_FREE_BYTES \
    (1u << 20) /* the ratio counts from here: small bodies may repeat themselves */

struct http_body {
    uint8_t *at; /* cap + HTTP_BODY_PADDING bytes */
    size_t len, cap;
    struct budget *budget; /* holds cap + padding */
};

void http_body_init(struct http_body *body, struct budget *budget);
void http_body_done(struct http_body *body);
/**
 * Make room for `extra` bytes more.
 *
 * `expected` bounds doubling: the declared length, else 0.  Memory follows what has arrived, not what was declared.
 * Errors: OCH_BUSY (budget), OCH_NO_MEMORY.
 */
MUST_USE och_code http_body_reserve(struct http_body *body, size_t extra, uint64_t expected,
                                    och_error *err);
/** Zero the padding and view the body. */
slice http_body_finish(struct http_body *body);

struct http_inflate;
/** Errors: OCH_BUSY (budget), OCH_NO_MEMORY. */
MUST_USE och_code http_inflate_new(struct budget *budget, struct http_inflate **ret_inflate,
                                   och_error *err);
void http_inflate_free(struct http_inflate *unpacker);
/**
 * Inflate gzip (also of several members) or zlib data into `body`.
 *
 * Errors: OCH_TOO_LARGE over `bytes_max`, OCH_INVALID over the ratio or for broken data, OCH_BUSY, OCH_NO_MEMORY.
 */
MUST_USE och_code http_inflate_feed(struct http_inflate *inflate, slice input, uint64_t bytes_max,
                                    struct http_body *body, och_error *err);
/** The data has ended: OCH_INVALID when it stops in the middle. */
MUST_USE och_code http_inflate_finish(const struct http_inflate *inflate, och_error *err);

/** gzip at level 1.  False: no memory, or it would not be smaller; then `ret_packed` is untouched. */
bool http_gzip(slice text, struct buf *ret_packed);

#endif
