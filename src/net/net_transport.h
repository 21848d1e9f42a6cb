/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes in and out of one non-blocking connection, plain or TLS. */
#ifndef NET_TRANSPORT_H
#define NET_TRANSPORT_H

#include "base/error.h"

#include <sys/types.h>
#include <sys/uio.h>

struct ssl_st;
struct ssl_ctx_st;

/* Negative results of read and write; 0 from read means that the peer has ended. */
enum net_result { NET_WANT_READ = -1, NET_WANT_WRITE = -2, NET_BROKEN = -3 };

struct net_transport;
struct net_transport_ops {
    ssize_t (*read)(struct net_transport *transport, void *at, size_t len);
    /** Bytes taken from the front of `parts`, or a net_result.  Never raises SIGPIPE that anyone sees. */
    ssize_t (*write)(struct net_transport *transport, const struct iovec *parts, int count);
    /** Bytes that read() has at hand without the socket becoming readable. */
    bool (*pending)(const struct net_transport *transport);
    /** Tell the peer that nothing more will be written; reading goes on. */
    void (*end)(struct net_transport *transport);
    /** Closes the socket too. */
    void (*close)(struct net_transport *transport);
};
struct net_transport {
    const struct net_transport_ops *ops;
    int fd;
    struct ssl_st *tls; /* NULL when plain */
};

void net_transport_init_plain(struct net_transport *transport, int fd);
/** Takes `fd` on success.  The handshake happens inside the first reads. */
MUST_USE och_code net_transport_init_tls(struct net_transport *transport, int fd,
                                         struct ssl_ctx_st *context, och_error *err);
/** Did the handshake settle on HTTP/2 (ALPN h2)? */
bool net_transport_agreed_http2(const struct net_transport *transport);
bool net_transport_in_handshake(const struct net_transport *transport);

/** Server context from PEM files: TLS 1.2 and up, h2 and http/1.1, no sessions kept, no renegotiation. */
MUST_USE och_code net_tls_context_new(const char *certificate, const char *key,
                                      struct ssl_ctx_st **ret_context, och_error *err);
void net_tls_context_free(struct ssl_ctx_st *context);

#endif
