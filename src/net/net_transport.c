/* SPDX-License-Identifier: Apache-2.0 */
/* The two transports.  TLS is OpenSSL straight on the socket. */
#include "net/net_transport.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define TLS_RECORD_BYTES 16384

/* ---- plain ---- */

static ssize_t result_of_errno(enum net_result wanted)
{
    return errno == EAGAIN ? (ssize_t)wanted : (ssize_t)NET_BROKEN;
}

static ssize_t plain_read(struct net_transport *transport, void *at, size_t len)
{
    ssize_t got;
    do {
        got = recv(transport->fd, at, len, 0);
    } while (got < 0 && errno == EINTR);
    return got >= 0 ? got : result_of_errno(NET_WANT_READ);
}

static ssize_t plain_write(struct net_transport *transport, const struct iovec *parts, int count)
{
    /* sendmsg does not write through msg_iov; its type only lacks the const */
    struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)parts,
                             .msg_iovlen = (size_t)count};
    ssize_t put;
    do {
        put = sendmsg(transport->fd, &message, MSG_NOSIGNAL);
    } while (put < 0 && errno == EINTR);
    return put >= 0 ? put : result_of_errno(NET_WANT_WRITE);
}

static bool plain_pending(const struct net_transport *transport)
{
    (void)transport;
    return false;
}

static void plain_end(struct net_transport *transport)
{
    (void)shutdown(transport->fd, SHUT_WR);
}

static void plain_close(struct net_transport *transport)
{
    (void)close(transport->fd);
    transport->fd = -1;
}

void net_transport_init_plain(struct net_transport *transport, int fd)
{
    static const struct net_transport_ops ops = {plain_read, plain_write, plain_pending, plain_end,
                                                 plain_close};
    *transport = (struct net_transport){.ops = &ops, .fd = fd};
}

/* ---- TLS ---- */

static ssize_t result_of_tls(struct net_transport *transport, int result)
{
    switch (SSL_get_error(transport->tls, result)) {
    case SSL_ERROR_WANT_READ:
        return NET_WANT_READ;
    case SSL_ERROR_WANT_WRITE:
        return NET_WANT_WRITE;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    default:
        return NET_BROKEN;
    }
}

static ssize_t tls_read(struct net_transport *transport, void *at, size_t len)
{
    ERR_clear_error();
    size_t got = 0;
    bool shaking = !SSL_is_init_finished(transport->tls);
    int result = SSL_read_ex(transport->tls, at, len, &got);
    if (shaking && SSL_is_init_finished(transport->tls)) {
        /* We say nothing after the handshake, so its last part would be acknowledged late, and a client that
         * leaves Nagle on would hold its first request back until then: 40 ms. */
        int one = 1;
        (void)setsockopt(transport->fd, IPPROTO_TCP, TCP_QUICKACK, &one, sizeof(one));
    }
    return result > 0 ? (ssize_t)got : result_of_tls(transport, result);
}

/* OpenSSL writes with write(2): SIGPIPE stays blocked in the threads that thread_start() makes. */
static ssize_t tls_write(struct net_transport *transport, const struct iovec *parts, int count)
{
    /* One record for a head and a small body, instead of one for each part. */
    uint8_t gathered[TLS_RECORD_BYTES];
    const void *from = gathered;
    size_t len = 0;
    for (int i = 0; i < count; i++) {
        if (len == 0 && parts[i].iov_len >= TLS_RECORD_BYTES) {
            from = parts[i].iov_base;
            len = parts[i].iov_len;
            break;
        }
        size_t room = TLS_RECORD_BYTES - len;
        size_t part = parts[i].iov_len < room ? parts[i].iov_len : room;
        memcpy(gathered + len, parts[i].iov_base, part);
        len += part;
    }
    if (len == 0)
        return 0;
    ERR_clear_error();
    size_t put = 0;
    int result = SSL_write_ex(transport->tls, from, len, &put);
    if (result > 0)
        return (ssize_t)put;
    ssize_t failure = result_of_tls(transport, result);
    return failure == 0 ? (ssize_t)NET_BROKEN : failure;
}

static bool tls_pending(const struct net_transport *transport)
{
    return SSL_pending(transport->tls) > 0;
}

/* close_notify, if the socket takes it at once */
static void tls_notify(struct net_transport *transport)
{
    if (!SSL_is_init_finished(transport->tls) || SSL_get_shutdown(transport->tls) != 0)
        return;
    ERR_clear_error();
    (void)SSL_shutdown(transport->tls);
}

static void tls_end(struct net_transport *transport)
{
    tls_notify(transport);
    (void)shutdown(transport->fd, SHUT_WR);
}

static void tls_close(struct net_transport *transport)
{
    tls_notify(transport);
    SSL_free(transport->tls);
    transport->tls = NULL;
    (void)close(transport->fd);
    transport->fd = -1;
}

och_code net_transport_init_tls(struct net_transport *transport, int fd, struct ssl_ctx_st *context,
                                och_error *err)
{
    static const struct net_transport_ops ops = {tls_read, tls_write, tls_pending, tls_end,
                                                 tls_close};
    SSL *tls = SSL_new(context);
    if (tls == NULL || SSL_set_fd(tls, fd) != 1) {
        SSL_free(tls);
        return FAIL_NO_MEMORY(err, "a TLS connection");
    }
    SSL_set_accept_state(tls);
    *transport = (struct net_transport){.ops = &ops, .fd = fd, .tls = tls};
    return OCH_OK;
}

bool net_transport_in_handshake(const struct net_transport *transport)
{
    return transport->tls != NULL && !SSL_is_init_finished(transport->tls);
}

bool net_transport_agreed_http2(const struct net_transport *transport)
{
    const unsigned char *name = NULL;
    unsigned int len = 0;
    if (transport->tls != NULL)
        SSL_get0_alpn_selected(transport->tls, &name, &len);
    return len == 2 && memcmp(name, "h2", 2) == 0;
}

static int choose_protocol(SSL *tls, const unsigned char **ret_name, unsigned char *ret_len,
                           const unsigned char *offered, unsigned int offered_len, void *user)
{
    (void)tls, (void)user;
    static const unsigned char known[] = "\x02h2\x08http/1.1";
    unsigned char *name = NULL;
    if (SSL_select_next_proto(&name, ret_len, known, sizeof(known) - 1, offered, offered_len) !=
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *ret_name = name;
    return SSL_TLSEXT_ERR_OK;
}

static och_code tls_failed(och_error *err, const char *what, const char *path)
{
    char text[256];
    ERR_error_string_n(ERR_get_error(), text, sizeof(text));
    ERR_clear_error();
    return FAIL(err, OCH_SETTING,
                "cannot use %s %s for TLS: %s. Give PEM files that belong together.", what, path,
                text);
}

och_code net_tls_context_new(const char *certificate, const char *key,
                             struct ssl_ctx_st **ret_context, och_error *err)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    if (context == NULL)
        return FAIL_NO_MEMORY(err, "the TLS context");
    (void)SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    (void)SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                           SSL_OP_NO_TICKET | SSL_OP_IGNORE_UNEXPECTED_EOF |
                                           SSL_OP_CIPHER_SERVER_PREFERENCE);
    (void)SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                        SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    (void)SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    (void)SSL_CTX_set_num_tickets(context, 0);
    SSL_CTX_set_alpn_select_cb(context, choose_protocol, NULL);
    och_code code = OCH_OK;
    ERR_clear_error();
    if (SSL_CTX_use_certificate_chain_file(context, certificate) != 1)
        code = tls_failed(err, "certificate", certificate);
    else if (SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1 ||
             SSL_CTX_check_private_key(context) != 1)
        code = tls_failed(err, "key", key);
    if (code != OCH_OK) {
        SSL_CTX_free(context);
        return code;
    }
    *ret_context = context;
    return OCH_OK;
}

void net_tls_context_free(struct ssl_ctx_st *context)
{
    SSL_CTX_free(context);
}
