/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP messages as values, and the server.  The same handler serves sockets and the embedded exchange. */
#ifndef NET_HTTP_H
#define NET_HTTP_H

#include "base/buf.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/sched.h"
#include "base/trace.h"

#define HTTP_HEADERS_MAX    64
#define HTTP_HEAD_BYTES_MAX 32768

struct http_header {
    slice name, value; /* name as sent; compare with slice_equal_nocase */
};
struct http_request {
    slice method; /* upper case */
    slice target; /* as sent, "/a/b?x=1" */
    slice path;   /* target up to '?', still percent-encoded */
    slice query;  /* behind '?', without it */
    const struct http_header *headers;
    size_t header_count;
    slice body; /* decoded (chunks, gzip); SIMDJSON-style padding of 64 readable bytes follows it */
    bool http_1_0;
    uint64_t
        body_size_refused; /* body was over the limit: its declared or seen size; body is empty then */
    uint64_t received_mono_ns;
    struct limits_of_work limits; /* deadline and hang-up */
    slice peer;                   /* "127.0.0.1:1234", "in-process" */
    bool streams;                 /* the answer may come in pieces: http_reply.stream */
};
/** The rest of a long answer, made piece by piece while it is sent, so that it needs the memory of one piece. */
struct http_stream {
    /** Append the next piece to the body, which is empty; *ret_more false: it was the last.  Anything but OCH_OK cuts the answer off, so that
     *  the client sees that it is not whole.  May block; on the thread that called handle(). */
    och_code (*next)(struct http_stream *stream, struct buf *body, bool *ret_more);
    void (*free)(struct http_stream *stream);
};
struct http_reply {
    int status;
    slice content_type; /* default application/json */
    struct buf body;
    struct buf headers; /* complete "Name: value\r\n" lines of the handler's own */
    bool close;         /* close the connection after it */
    struct http_stream
        *stream; /* what follows the body, owned; only if the request said `streams` */
};
/** The first value of a header, SLICE_NONE if absent. */
slice http_request_header(const struct http_request *request, slice name);
void http_reply_init(struct http_reply *reply, size_t body_max);
void http_reply_done(struct http_reply *reply);
/** Add a header line; name and value must be clean (checked by assert). */
void http_reply_header(struct http_reply *reply, const char *name, const char *format, ...)
    PRINTF_LIKE(3, 4);
const char *http_reason(int status);
/** The stable name of what a status means when the server itself answers it: "malformed", "slow_request", ... */
const char *http_error_code(int status);
/** %XX decoding of one path segment or query value; plus_is_blank for queries.  A % without two hex digits stands for itself.
 *  False: no memory.  Result in arena. */
bool http_percent_decode(slice text, bool plus_is_blank, struct arena *arena, slice *ret_text);

/** A body that is taken piece by piece while it arrives, so that it may be of any length and needs the memory of one piece. */
struct http_intake {
    /** Take the next piece, as decoded: request->body, 64 readable bytes behind it; request->limits hold for this piece.  `last`: the body ends with
     *  it; `broken`: it ends because the rest is damaged or cannot be had, as this says, else NULL.  True: the reply is complete (always so after the last piece),
     *  no more is wanted.  May block; on any thread, one at a time. */
    bool (*feed)(struct http_intake *intake, const struct http_request *request, bool last,
                 const och_error *broken, struct http_reply *reply);
    void (*free)(struct http_intake *intake); /* also when the client went away in the middle */
};
/** About so many bytes a piece. */
#define HTTP_PIECE_BYTES ((size_t)1 << 20)

struct http_handler {
    void *context;
    /** Answer a whole request.  May block; called on the server's pool (or the embedder's thread). */
    void (*handle)(void *context, const struct http_request *request, struct http_reply *reply);
    /** Head only, before the body is read; may run on an I/O loop, must not block.  False: the reply is complete, the
     *  body is not wanted (D25).  NULL = accept all. */
    bool (*admit)(void *context, const struct http_request *head, struct http_reply *reply);
    /** True when handle() cannot block and is short: it then runs on the loop.  NULL = never. */
    bool (*is_cheap)(void *context, const struct http_request *head);
    /** The head of a request whose body is to be taken in pieces: what takes them, in place of handle().  NULL: not this one.  Called after
     *  admit(), may run on an I/O loop, must not block.  NULL = never. */
    struct http_intake *(*intake)(void *context, const struct http_request *head);
    /** Write the answer to what the server itself refuses (framing, time, too many at once), so that all errors look alike; the reply is
     *  empty, `request` may be, too.  Must not block; any thread.  NULL: a body with error and message. */
    void (*refuse)(void *context, const struct http_request *request, int status, const char *name,
                   const char *message, struct http_reply *reply);
};

struct http_server_options {
    const char *host;      /* name or address */
    uint16_t port;         /* 0 = any */
    const char *unix_path; /* a local socket besides, or NULL */
    unsigned loop_count;   /* 0 = one per core */
    unsigned worker_max;   /* requests at work; ≤ 256 */
    unsigned running_max;  /* of these, at a time, that neither wait nor are long at it; 0 = all */
    unsigned waiting_max;  /* requests queued beyond; then 429 with Retry-After */
    uint64_t body_bytes_max;
    uint32_t deadline_ms,
        deadline_ms_max; /* default 60 000, most 600 000; header Ochre-Deadline-Ms */
    uint32_t head_timeout_ms, idle_timeout_ms, body_bytes_per_s_min; /* 10 000, 75 000, 1024 */
    unsigned connection_max;                                         /* 0 = from RLIMIT_NOFILE */
    const char *tls_certificate, *tls_key; /* PEM files or NULL; "TLS-ready" */
    /* Answers from min up are compressed for clients that accept gzip; to clients on this machine only up to local_max,
     * as loopback is faster than gzip.  0 = 64 KiB and 256 KiB; SIZE_MAX as min = never. */
    size_t gzip_replies_min_bytes, gzip_local_max_bytes;
    struct budget *budget; /* bodies and answers are charged here */
    struct clock *clock;
    struct trace *trace;
    struct http_handler handler;
};
struct http_server;
/** Listens and serves when it returns.  Errors: OCH_IN_USE (port taken), OCH_SETTING, OCH_IO. */
MUST_USE och_code http_server_start(const struct http_server_options *options,
                                    struct http_server **ret_server, och_error *err);
uint16_t http_server_port(const struct http_server *server);
/** For metrics. */
struct http_server_stats {
    uint64_t connections;
    uint64_t running, waiting; /* requests that a worker has, and that wait for one */
    uint64_t busy;             /* answered 429 for want of a worker, since the start */
    uint64_t refused; /* answered here for another reason: malformed, too large, too slow */
};
void http_server_stats(const struct http_server *server, struct http_server_stats *ret_stats);
/** Stop accepting, answer what is at work with `Connection: close`, drop idle connections; returns when all are gone or
 *  at `deadline_mono_ns`, when the rest is cut. */
void http_server_drain(struct http_server *server, uint64_t deadline_mono_ns);
void http_server_free(struct http_server *server);
/** Read the certificate and key files again, for new connections.  Errors: OCH_SETTING; then the old ones stay. */
MUST_USE och_code http_server_renew_tls(struct http_server *server, och_error *err);

/** A small blocking client for the command line and tests: one request, whole answer.  host: a name, an address, or the path of a local socket
 *  (it has a '/'; the port does not count then). */
struct http_answer {
    int status;
    slice body, head;
};
MUST_USE och_code http_fetch(const char *host, uint16_t port, const char *method,
                             const char *target, const struct http_header *headers,
                             size_t header_count, slice body, uint32_t timeout_ms,
                             struct arena *arena, struct http_answer *ret_answer, och_error *err);
#endif
