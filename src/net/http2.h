/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/2 on a connection (RFC 9113): what http2*.c offer to the rest of the folder.  The protocol's states are nghttp2's,
 * bytes and time are ours; each stream carries an exchange as HTTP/1.1 does. */
#ifndef NET_HTTP2_H
#define NET_HTTP2_H

#include "net/http_internal.h"

#include <nghttp2/nghttp2.h>

#define HTTP2_PREFACE      "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define HTTP2_STREAMS_MAX  100
#define HTTP2_WINDOW_BYTES (1 << 20)
#define HTTP2_OUTBOUND_MAX 2048 /* frames that wait for a client which does not read */
#define HTTP2_FRAMES_BURST 10000
#define HTTP2_FRAMES_RATE  1000 /* a second */
#define HTTP2_RESETS_BURST 1000
#define HTTP2_RESETS_RATE  33
#define HTTP2_FRAME_ROOM   (16384 + 64)
#define HTTP2_ROUNDS       16 /* buffers sent in one turn */

enum http2_state {
    STREAM_HEAD,
    STREAM_BODY,
    STREAM_WORK,   /* a worker has the exchange */
    STREAM_ANSWER, /* the answer goes out as the client's windows allow */
    STREAM_LINGER, /* answered; what still comes of the request is read away */
    STREAM_GONE    /* closed while at work: the worker's return frees it */
};

struct http2_stream {
    TAILQ_ENTRY(http2_stream) link;
    STAILQ_ENTRY(http2_stream) done;
    struct http_conn *conn;
    struct http_exchange *exchange;
    struct cancel cancel;
    int32_t id;
    enum http2_state state;
    bool input_ended;                /* the client has sent all of the request */
    bool line_is_written;            /* of the head, below */
    bool answers;                    /* the head of the answer is with nghttp2 */
    bool cut_off;                    /* a piece of it could not be made */
    slice method, target, authority; /* until the request line is written; own copies */
    struct buf
        ahead; /* of the body, while an intake works on the piece before; its window stays closed */
    struct buf head; /* the head in HTTP/1.1's form, for the one parser that judges heads */
    uint64_t since_ns, progress; /* of the window that fast_enough() looks at */
};
TAILQ_HEAD(http2_streams, http2_stream);
STAILQ_HEAD(http2_done, http2_stream);

/* So many at once, so many a second. */
struct http2_allowance {
    double left;
    uint64_t at_ns;
};

struct http2 {
    nghttp2_session *session;
    struct http2_streams streams;
    unsigned stream_count, at_work;
    struct http2_done done; /* guarded by loop->mutex, as is `posted` */
    bool posted;
    bool busy;    /* the timer ticks for streams, not for idleness */
    bool broken;  /* the session reads no more */
    bool goes;    /* GOAWAY is on its way */
    bool more;    /* there is more to send, after others had their turn */
    uint8_t *out; /* what the socket did not take */
    size_t out_len, out_sent;
    uint64_t out_since_ns, head_since_ns; /* 0: nothing waits; no head is incomplete */
    struct http2_allowance frames, resets;
};

/** Does the input begin as HTTP/2 does?  *ret_whole: with all 24 bytes. */
bool http2_is_preface(slice input, bool *ret_whole);
/** The connection speaks HTTP/2 from here on; `input` begins with the preface. */
void http2_begin(struct http_conn *conn, slice input);
void http2_event(struct http_conn *conn, short what);
/** Workers have answered. */
void http2_posted(struct http_conn *conn);
void http2_tick(struct http_conn *conn);
void http2_drain(struct http_conn *conn);
bool http2_is_idle(const struct http_conn *conn);
/** Everything but what workers still hold; part of http_conn_close(). */
void http2_close(struct http_conn *conn);
/** The rest, of a closed connection; false while workers hold some of it. */
bool http2_forget(struct http_conn *conn);
/** Take back what workers have finished. */
void http2_reap(struct http_conn *conn);

/* ---- http2_stream.c ---- */
/** NULL: no memory. */
struct http2_stream *http2_stream_new(struct http_conn *conn, int32_t id);
/** nghttp2 has forgotten it, or the connection is closed. */
void http2_stream_close(struct http2_stream *stream);
void http2_stream_free(struct http2_stream *stream);
/** A field of the head.  False: no memory. */
bool http2_stream_field(struct http2_stream *stream, slice name, slice value);
void http2_stream_head_end(struct http2_stream *stream, bool input_ended);
/** Returns how much of it waits for its turn: the stream's window must not open for that yet. */
size_t http2_stream_data(struct http2_stream *stream, slice data);
void http2_stream_input_end(struct http2_stream *stream);
/** Give the answer to nghttp2. */
void http2_stream_answer(struct http2_stream *stream);
/** The answer is out. */
void http2_stream_answered(struct http2_stream *stream);
/** Nothing more of the request is wanted. */
void http2_stream_hurry(struct http2_stream *stream);
/** Its time is up if it was too slow. */
void http2_stream_tick(struct http2_stream *stream, uint64_t now_ns);

#endif
