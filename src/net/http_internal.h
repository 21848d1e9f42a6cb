/* SPDX-License-Identifier: Apache-2.0 */
/* What the server's files share: server > loops > connections > one exchange at a time.
 *
 * A connection belongs to its loop.  While its request is at work (CONN_WORK) the worker owns the exchange and
 * the writing side of the transport; `work` says who tells whom when it is done (http_work.c). */
#ifndef NET_HTTP_INTERNAL_H
#define NET_HTTP_INTERNAL_H

#include "base/pool.h"
#include "net/http_body.h"
#include "net/http_parse.h"
#include "net/net_transport.h"

#include <event2/event.h>
#include <event2/event_struct.h>
#include <sys/queue.h>

#define HTTP_READ_BYTES      65536u
#define HTTP_REPLY_BYTES_MAX ((size_t)1 << 31)
#define HTTP_LISTENERS_MAX   9
#define HTTP_PEER_BYTES      56

enum http_conn_state {
    CONN_HEAD, /* between requests, or inside a head */
    CONN_BODY,
    CONN_WORK,  /* on the pool */
    CONN_WRITE, /* the answer waits for the socket */
    CONN_LINGER, /* answered; reading away what still comes, so that the answer is not lost to a reset */
    CONN_HTTP2, /* conn->http2 knows more */
    CONN_CLOSED
};

/* Who notices the end of a request at work. */
enum http_conn_work {
    WORK_WATCHED, /* the loop waits for input and will look; the worker may go WORK_DONE without a word */
    WORK_PAUSED, /* the loop no longer reads: the worker posts the connection */
    WORK_DONE    /* answered in full by the worker; only from WORK_WATCHED */
};

/* What a timer means in this state. */
enum http_timeout {
    TIMEOUT_IDLE,
    TIMEOUT_HEAD,
    TIMEOUT_BODY,
    TIMEOUT_WRITE,
    TIMEOUT_LINGER,
    TIMEOUT_HASTE, /* lingering while draining */
    TIMEOUT_COUNT
};

struct http_exchange {
    struct http_conn *conn;
    struct http_server *server;
    struct http_request request;
    struct http_reply reply;
    struct http_body body;
    struct http_chunks chunks;
    struct http_inflate *inflate;
    struct http_intake *intake; /* takes the body in pieces; NULL: whole */
    uint64_t received;          /* bytes of the body after chunks, before inflating */
    uint64_t sent;              /* bytes of the answer */
    size_t reply_charged;       /* bytes taken from the budget for the answer */
    uint64_t queued_ns;         /* when it began to wait for a worker */
    uint8_t *head_bytes;        /* the head, in head_inline or its own */
    bool answered;              /* the reply is complete, the body is only read away */
    bool keep_alive;
    bool linger;   /* input is left that nobody will read */
    bool bodyless; /* HEAD: send the head only */
    bool pieces;   /* it came with an intake: to be asked while a worker may be releasing that */
    bool accepts_gzip;
    bool last, wants_more; /* of an intake: the body ends with this piece; it waits for the next */
    bool begun;            /* it had a piece */
    bool chunked;          /* the streamed answer is */
    bool streamed;         /* the worker has sent all of it, */
    int stream_result;     /* 0, or NET_BROKEN */
    uint16_t lines_len;
    char lines[384];      /* status line and our own header lines */
    och_code broken_code; /* why the body ends early, for an intake; OCH_OK: it does not */
    char broken[128];
    struct http_header headers[HTTP_HEADERS_MAX];
    struct http_head head;
    uint8_t head_inline[1024];
};

struct http_conn {
    struct http_loop *loop;
    TAILQ_ENTRY(http_conn) link;
    STAILQ_ENTRY(http_conn) posted;
    struct net_transport transport;
    struct event event; /* of the socket */
    struct event timer;
    uint64_t timer_at_ns;   /* when the timer fires, 0 = not armed */
    uint64_t deadline_ns;   /* when this state's time is up, UINT64_MAX = never */
    uint64_t progress;      /* bytes moved since the deadline was set */
    uint64_t idle_since_ns; /* set by the worker that answered */
    enum http_timeout timeout;
    short watched; /* EV_READ, EV_WRITE, EV_CLOSED or 0 */
    enum http_conn_state state;
    _Atomic uint8_t work; /* enum http_conn_work */
    bool is_new;          /* posted by the acceptor, not yet seen by its loop */
    bool local;           /* peer on this machine */
    bool submit;          /* the request goes to the pool once the input behind it is put away */
    bool used;            /* had a request: HTTP/2 can no longer begin */
    bool patient;         /* what is left of a body of any length is read away */
    struct cancel cancel;
    struct http_exchange *exchange; /* NULL when idle */
    struct http2 *http2;            /* NULL unless it speaks HTTP/2 */
    uint8_t *held;                  /* input that came too early, or a head in parts */
    uint32_t held_len, held_cap;
    char peer[HTTP_PEER_BYTES];
};
TAILQ_HEAD(http_conn_list, http_conn);
STAILQ_HEAD(http_posted, http_conn);

enum http_phase { /* only rises */
                  PHASE_SERVE,
                  PHASE_DRAIN,
                  PHASE_CUT,
                  PHASE_STOP
};

struct http_loop {
    struct http_server *server;
    struct thread thread;
    struct event_base *base;
    struct event wake;
    int wake_fd;
    const struct timeval *timeouts[TIMEOUT_COUNT]; /* common timeouts: queues, not heap entries */
    struct http_conn_list conns;                   /* longest without a request first, roughly */
    enum http_phase phase;                         /* last one acted on */
    struct mutex mutex;                            /* guards: posted */
    struct http_posted posted;
    _Atomic bool evict; /* the acceptor asks for one idle connection */
    uint8_t *buffer;    /* HTTP_READ_BYTES and padding */
};

struct http_listener {
    struct http_server *server;
    struct event event;
    int fd;
    bool is_unix;
};

struct http_server {
    struct http_server_options options;
    uint16_t port;
    char *unix_path, *tls_certificate, *tls_key;
    unsigned loop_count, loop_next;
    struct http_loop *loops;
    struct pool *pool;
    struct http_listener listeners[HTTP_LISTENERS_MAX];
    unsigned listener_count;
    struct event accept_pause;
    bool accept_paused;
    uint64_t timeout_ns[TIMEOUT_COUNT];
    _Atomic int phase;
    _Atomic unsigned at_work;
    _Atomic unsigned running;       /* of those at work: begun by a worker */
    _Atomic uint64_t busy, refused; /* answers without the handler */
    _Atomic uint64_t taken_ns,
        waited_ns; /* when a worker last took a request, which had waited so long */
    _Atomic unsigned conn_count;
    struct mutex mutex; /* guards: tls, cut_count, and waiting for connections to go */
    struct cond changed;
    struct ssl_ctx_st *tls;
    unsigned cut_count; /* loops that have cut their connections */
};

/* ---- http_exchange.c: any thread that owns the exchange ---- */
struct http_exchange *http_exchange_new(struct http_conn *conn);
void http_exchange_free(struct http_exchange *exchange);
/** Replace the reply by a JSON error. */
void http_exchange_error(struct http_exchange *exchange, int status, const char *name,
                         const char *message);
/** The same when no worker takes the request: 429, and when those that wait now will have been served. */
void http_exchange_busy(struct http_exchange *exchange);
/** A worker takes the request. */
void http_exchange_taken(struct http_exchange *exchange);
/** Call the handler and make the answer ready to send. */
void http_exchange_handle(struct http_exchange *exchange);
/** Add data to the request's body.  Errors: OCH_TOO_LARGE, OCH_INVALID (broken gzip), OCH_BUSY, OCH_NO_MEMORY. */
MUST_USE och_code http_exchange_take(struct http_exchange *exchange, slice data, och_error *err);
/** Most data to take at once, so that a piece does not grow far beyond its size. */
size_t http_exchange_step(const struct http_exchange *exchange);
/** Is there a piece for the intake? */
bool http_exchange_full(const struct http_exchange *exchange);
/** For an intake the body ends here, as it is damaged: dispatch it.  False: it has none. */
bool http_exchange_break(struct http_exchange *exchange, const och_error *why);
/** Write status line and headers; compress the body if that is wanted. */
void http_exchange_encode(struct http_exchange *exchange);
/** Send what the socket takes: 0 when all is out, else a net_result. */
int http_exchange_send(struct http_exchange *exchange);
/** On a worker: send head, body and the rest of a streamed answer, waiting for the socket.  0 or NET_BROKEN. */
int http_exchange_stream(struct http_exchange *exchange);
/** Look at the head: deadline, codings, body limit, admission.  False: the answer is ready, see `answered`. */
bool http_exchange_begin(struct http_exchange *exchange, const uint8_t *head_bytes);

/* ---- http_conn.c: the connection's loop ---- */
struct http_conn *http_conn_new(struct http_loop *loop, int fd, bool is_unix);
void http_conn_start(struct http_conn *conn);
/** Wait for these events of the socket, or for none. */
void http_conn_watch(struct http_conn *conn, short events);
void http_conn_set_deadline(struct http_conn *conn, enum http_timeout timeout);
void http_conn_set_deadline_from(struct http_conn *conn, enum http_timeout timeout,
                                 uint64_t from_ns);
void http_conn_release_held(struct http_conn *conn);
/** Everything but the memory, which http_conn_settle() frees when nobody up the stack looks at it any more. */
void http_conn_close(struct http_conn *conn);
void http_conn_free(struct http_conn *conn);
/** Act on draining or cutting; may free `conn`. */
void http_conn_phase(struct http_conn *conn, enum http_phase phase);
bool http_conn_is_idle(const struct http_conn *conn);
/** Close and free, whatever it does; not while at work. */
void http_conn_drop(struct http_conn *conn);

/* ---- http_input.c: the connection's loop ---- */
/** Work through input; NULL and 0 = only what is held. */
void http_conn_feed(struct http_conn *conn, const uint8_t *at, size_t len);
/** Read from the socket, in CONN_HEAD and CONN_BODY. */
void http_conn_read(struct http_conn *conn);
/** An intake waits for its next piece. */
void http_conn_resume_body(struct http_conn *conn);
/** Back between requests: what was held or decrypted already will not raise an event. */
void http_conn_read_on(struct http_conn *conn);
/** Read and drop, in CONN_LINGER. */
void http_conn_read_away(struct http_conn *conn);

/* ---- http_work.c: the connection's loop ---- */
/** Send the encoded answer as far as it goes. */
void http_conn_send(struct http_conn *conn);
/** Encode and send the reply. */
void http_conn_answer(struct http_conn *conn);
/** Framing is lost, or the rest of the body unwanted: answer with an error and close. */
void http_conn_refuse(struct http_conn *conn, int status, const char *name, const char *message);
/** The request is whole: answer it here, or mark it for the pool. */
void http_conn_dispatch(struct http_conn *conn);
bool http_conn_has_unread(const struct http_conn *conn);
/** Say that nothing more comes, and read away what the client still sends. */
void http_conn_linger(struct http_conn *conn);
/** Every way in from the loop ends here: submit what became ready, free what was closed. */
void http_conn_settle(struct http_conn *conn);
/** Stop watching a request at work.  False when the worker was first and the request is done. */
bool http_conn_pause_watching(struct http_conn *conn);
/** The worker answered while the loop was watching. */
void http_conn_finish_done(struct http_conn *conn);
/** Input or hang-up while a request is at work. */
void http_conn_event_at_work(struct http_conn *conn, short what);
/** A worker posted it. */
void http_conn_finish_work(struct http_conn *conn);

/* ---- http_loop.c ---- */
MUST_USE och_code http_loop_init(struct http_loop *loop, struct http_server *server,
                                 och_error *err);
void http_loop_done(struct http_loop *loop);
void http_loop_run(void *arg);
/** Hand a connection to its loop, from any thread. */
void http_loop_post(struct http_conn *conn);
void http_loop_wake(struct http_loop *loop);

/* ---- http_listen.c ---- */
MUST_USE och_code http_listen_open(struct http_server *server, och_error *err);
/** On loop 0. */
MUST_USE och_code http_listen_start(struct http_server *server, och_error *err);
void http_listen_close(struct http_server *server);

/* Edges, as unread input stays; with EV_READ, since libevent reports errors as that alone. */
#define WATCH_HANG_UP (EV_READ | EV_CLOSED | EV_ET)

static inline uint64_t http_now_ns(void)
{
    return clock_mono_ns(clock_system());
}
static inline enum http_phase http_server_phase(struct http_server *server)
{
    return (enum http_phase)atomic_load_explicit(&server->phase, memory_order_acquire);
}

#endif
