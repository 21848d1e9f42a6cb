/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies grow by doubling from 64 KiB, so that a declared length alone costs nothing. */
#include "net/http_body.h"

#include <limits.h>
#include <zlib.h>

#define BODY_FIRST_BYTES    65536u
#define INFLATE_STEP_BYTES  65536u
#define INFLATE_STATE_BYTES 49152u /* zlib's window and tables, charged as a lump */

void http_body_init(struct http_body *body, struct budget *budget)
{
    *body = (struct http_body){.budget = budget};
}

void http_body_done(struct http_body *body)
{
    if (body->at != NULL) {
        budget_give(body->budget, body->cap + HTTP_BODY_PADDING);
        mem_free(body->at);
    }
    body->at = NULL;
    body->len = body->cap = 0;
}

och_code http_body_reserve(struct http_body *body, size_t extra, uint64_t expected, och_error *err)
{
    size_t need, cap = 0;
    if (add_overflows(body->len, extra, &need) || need > SIZE_MAX / 2 - HTTP_BODY_PADDING)
        return FAIL_NO_MEMORY(err, "a request body");
    if (need <= body->cap && body->at != NULL)
        return OCH_OK;
    cap = max_size(body->cap * 2, BODY_FIRST_BYTES);
    if (expected > 0 && expected < cap)
        cap = (size_t)expected;
    cap = max_size(cap, need);
    size_t held = body->at != NULL ? body->cap + HTTP_BODY_PADDING : 0;
    size_t more = cap + HTTP_BODY_PADDING - held;
    TRY(budget_take(body->budget, more, "a request body", err));
    uint8_t *at = mem_realloc(body->at, cap + HTTP_BODY_PADDING);
    if (at == NULL) {
        budget_give(body->budget, more);
        return FAIL_NO_MEMORY(err, "a request body");
    }
    body->at = at;
    body->cap = cap;
    return OCH_OK;
}

slice http_body_finish(struct http_body *body)
{
    static const uint8_t nothing[HTTP_BODY_PADDING];
    if (body->at == NULL)
        return (slice){nothing, 0};
    memset(body->at + body->len, 0, HTTP_BODY_PADDING);
    return (slice){body->at, body->len};
}

/* ---- inflate ---- */

struct http_inflate {
    z_stream stream;
    struct budget *budget;
    uint64_t taken, given; /* compressed and inflated bytes */
    bool ended;            /* at the end of a member */
};

static void *zlib_alloc(void *user, unsigned count, unsigned size)
{
    (void)user;
    size_t bytes;
    return mul_overflows(count, size, &bytes) ? NULL : mem_alloc(bytes);
}

static void zlib_free(void *user, void *at)
{
    (void)user;
    mem_free(at);
}

och_code http_inflate_new(struct budget *budget, struct http_inflate **ret_inflate, och_error *err)
{
    TRY(budget_take(budget, INFLATE_STATE_BYTES, "inflating a request body", err));
    struct http_inflate *unpacker = MEM_NEW(struct http_inflate);
    if (unpacker != NULL) {
        unpacker->budget = budget;
        unpacker->stream.zalloc = zlib_alloc;
        unpacker->stream.zfree = zlib_free;
        /* 32: gzip or zlib, as the first bytes say */
        if (inflateInit2(&unpacker->stream, 15 + 32) == Z_OK) {
            *ret_inflate = unpacker;
            return OCH_OK;
        }
    }
    mem_free(unpacker);
    budget_give(budget, INFLATE_STATE_BYTES);
    return FAIL_NO_MEMORY(err, "inflating a request body");
}

void http_inflate_free(struct http_inflate *unpacker)
{
    if (unpacker == NULL)
        return;
    (void)inflateEnd(&unpacker->stream);
    budget_give(unpacker->budget, INFLATE_STATE_BYTES);
    mem_free(unpacker);
}

static och_code inflate_broken(const struct http_inflate *unpacker, och_error *err)
{
    return FAIL(err, OCH_INVALID, "the compressed request body is damaged: %s",
                unpacker->stream.msg != NULL ? unpacker->stream.msg : "it does not inflate");
}

/* One call of zlib into the body's free room. */
static och_code inflate_step(struct http_inflate *unpacker, struct http_body *body, och_error *err)
{
    z_stream *stream = &unpacker->stream;
    TRY(http_body_reserve(body, INFLATE_STEP_BYTES, 0, err));
    size_t room = min_size(body->cap - body->len, UINT_MAX);
    unsigned before = stream->avail_in;
    stream->next_out = body->at + body->len;
    stream->avail_out = (unsigned)room;
    int result = inflate(stream, Z_NO_FLUSH);
    size_t made = room - stream->avail_out;
    body->len += made;
    unpacker->given += made;
    unpacker->taken += before - stream->avail_in;
    if (result == Z_MEM_ERROR)
        return FAIL_NO_MEMORY(err, "inflating a request body");
    if (result == Z_STREAM_END)
        unpacker->ended = true;
    else if (result != Z_OK && !(result == Z_BUF_ERROR && stream->avail_in == 0))
        return inflate_broken(unpacker, err);
    return OCH_OK;
}

och_code http_inflate_feed(struct http_inflate *unpacker, slice input, uint64_t bytes_max,
                           struct http_body *body, och_error *err)
{
    z_stream *stream = &unpacker->stream;
    assert(input.len <= UINT_MAX);
    stream->next_in = (unsigned char *)(uintptr_t)input.at; /* zlib only reads it */
    stream->avail_in = (unsigned)input.len;
    /* With no input left zlib may still hold output when it filled all room. */
    bool full = false;
    while (stream->avail_in > 0 || full) {
        if (unpacker->ended) { /* RFC 1952 2.2: another member may follow */
            if (inflateReset(stream) != Z_OK)
                return inflate_broken(unpacker, err);
            unpacker->ended = false;
        }
        TRY(inflate_step(unpacker, body, err));
        full = !unpacker->ended && stream->avail_out == 0;
        if (unpacker->given > bytes_max)
            return FAIL(err, OCH_TOO_LARGE, "the request body inflates to more than %llu bytes",
                        (unsigned long long)bytes_max);
        if (unpacker->given > HTTP_INFLATE_FREE_BYTES &&
            unpacker->given / HTTP_INFLATE_RATIO_MAX > unpacker->taken)
            return FAIL(err, OCH_INVALID,
                        "the request body inflates to more than %d times its size",
                        HTTP_INFLATE_RATIO_MAX);
    }
    return OCH_OK;
}

och_code http_inflate_finish(const struct http_inflate *unpacker, och_error *err)
{
    if (!unpacker->ended)
        return FAIL(err, OCH_INVALID, "the compressed request body stops in the middle");
    return OCH_OK;
}

/* ---- gzip ---- */

bool http_gzip(slice text, struct buf *ret_packed)
{
    if (text.len == 0 || text.len > UINT_MAX / 2)
        return false;
    z_stream stream = {.zalloc = zlib_alloc, .zfree = zlib_free};
    if (deflateInit2(&stream, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        return false;
    struct buf packed;
    buf_init(&packed, text.len); /* larger is of no use */
    uint8_t *room = buf_reserve(&packed, text.len);
    bool smaller = false;
    if (room != NULL) {
        stream.next_in = (unsigned char *)(uintptr_t)text.at;
        stream.avail_in = (unsigned)text.len;
        stream.next_out = room;
        stream.avail_out = (unsigned)text.len;
        smaller = deflate(&stream, Z_FINISH) == Z_STREAM_END;
        packed.len = text.len - stream.avail_out;
    }
    (void)deflateEnd(&stream);
    if (!smaller) {
        buf_done(&packed);
        return false;
    }
    *ret_packed = packed;
    return true;
}
