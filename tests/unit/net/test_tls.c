/* SPDX-License-Identifier: Apache-2.0 */
/* The same server behind TLS, with a certificate made here. */
#include "net_test.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <signal.h>

#define H "Host: a\r\n"

static char folder[64], certificate_path[128], key_path[128];

static void make_certificate(void)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    assert_non_null(key);
    assert_non_null(certificate);
    assert_int_equal(X509_set_version(certificate, 2), 1);
    assert_int_equal(ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1), 1);
    assert_non_null(X509_gmtime_adj(X509_getm_notBefore(certificate), -60));
    assert_non_null(X509_gmtime_adj(X509_getm_notAfter(certificate), 3600));
    X509_NAME *name = X509_get_subject_name(certificate);
    assert_int_equal(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                                                (const unsigned char *)"localhost", -1, -1, 0),
                     1);
    assert_int_equal(X509_set_issuer_name(certificate, name), 1);
    assert_int_equal(X509_set_pubkey(certificate, key), 1);
    assert_true(X509_sign(certificate, key, EVP_sha256()) > 0);
    FILE *out = fopen(certificate_path, "w");
    assert_non_null(out);
    assert_int_equal(PEM_write_X509(out, certificate), 1);
    (void)fclose(out);
    out = fopen(key_path, "w");
    assert_non_null(out);
    assert_int_equal(PEM_write_PrivateKey(out, key, NULL, NULL, 0, NULL, NULL), 1);
    (void)fclose(out);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

static int set_up(void **state)
{
    (void)state;
    (void)snprintf(folder, sizeof(folder), "/tmp/ochre-tls-XXXXXX");
    assert_non_null(mkdtemp(folder));
    (void)snprintf(certificate_path, sizeof(certificate_path), "%s/cert.pem", folder);
    (void)snprintf(key_path, sizeof(key_path), "%s/key.pem", folder);
    make_certificate();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    (void)unlink(certificate_path);
    (void)unlink(key_path);
    return rmdir(folder);
}

static struct http_server_options tls_options(struct net_test *test)
{
    struct http_server_options options = test_options(test);
    options.tls_certificate = certificate_path;
    options.tls_key = key_path;
    return options;
}

struct client {
    SSL_CTX *context;
    SSL *tls;
    int fd;
    struct buf input;
};

/* False when the handshake fails. */
static bool client_open(struct client *client, uint16_t port, int version_max,
                        const char *protocols)
{
    client->context = SSL_CTX_new(TLS_client_method());
    assert_non_null(client->context);
    (void)SSL_CTX_set_max_proto_version(client->context, version_max);
    client->tls = SSL_new(client->context);
    client->fd = raw_connect(port);
    buf_init(&client->input, BUF_MAX_NONE);
    assert_int_equal(SSL_set_fd(client->tls, client->fd), 1);
    if (protocols != NULL)
        assert_int_equal(SSL_set_alpn_protos(client->tls, (const unsigned char *)protocols,
                                             (unsigned)strlen(protocols)),
                         0);
    return SSL_connect(client->tls) == 1;
}

static void client_close(struct client *client)
{
    ERR_clear_error();
    (void)SSL_shutdown(client->tls);
    SSL_free(client->tls);
    SSL_CTX_free(client->context);
    (void)close(client->fd);
    buf_done(&client->input);
}

static int client_answer(struct client *client, struct buf *body)
{
    int status = 0;
    slice text;
    size_t size;
    while ((size = answer_parse(buf_view(&client->input), false, &status, &text)) == 0) {
        uint8_t *room = buf_reserve(&client->input, 65536);
        assert_non_null(room);
        int got = SSL_read(client->tls, room, 65536);
        if (got <= 0)
            return 0;
        client->input.len += (size_t)got;
    }
    buf_clear(body);
    buf_slice(body, text);
    memmove(client->input.at, client->input.at + size, client->input.len - size);
    client->input.len -= size;
    return status;
}

static void client_send(struct client *client, slice text)
{
    assert_int_equal(SSL_write(client->tls, text.at, (int)text.len), (int)text.len);
}

static void requests_pass_through_tls(void **state)
{
    (void)state;
    struct net_test test;
    struct http_server_options options = tls_options(&test);
    test_start(&test, &options);
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    struct buf body;
    buf_init(&body, BUF_MAX_NONE);
    for (size_t i = 0; i < COUNT_OF(versions); i++) {
        struct client client;
        assert_true(client_open(&client, test.port, versions[i], "\x05h3-29\x08http/1.1"));
        const unsigned char *chosen = NULL;
        unsigned len = 0;
        SSL_get0_alpn_selected(client.tls, &chosen, &len);
        assert_true(len == 8 && memcmp(chosen, "http/1.1", 8) == 0);
        client_send(&client, SLICE("GET /cheap HTTP/1.1\r\n" H "\r\n"));
        assert_int_equal(client_answer(&client, &body), 200);
        client_send(&client, SLICE("POST /pooled HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\nabc"));
        assert_int_equal(client_answer(&client, &body), 200);
        assert_true(slice_equal(buf_view(&body), SLICE("POST /pooled abc")));
        /* several in one record, larger answers, several records */
        client_send(&client, SLICE("GET /1 HTTP/1.1\r\n" H "\r\nGET /big HTTP/1.1\r\n" H
                                   "\r\nGET /cheap/3 HTTP/1.1\r\n" H "\r\n"));
        assert_int_equal(client_answer(&client, &body), 200);
        assert_int_equal(client_answer(&client, &body), 200);
        assert_true(body.len > 1000000);
        assert_int_equal(client_answer(&client, &body), 200);
        assert_true(slice_equal(buf_view(&body), SLICE("GET /cheap/3 ")));
        client_close(&client);
    }
    buf_done(&body);
    test_stop(&test);
}

/* Fields as indexes of HPACK's table: GET, "/", https, and ":authority: a". */
#define HTTP2_GET                                    \
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"               \
    "\0\0\0\x04\0\0\0\0\0"                           \
    "\0\0\x06\x01\x05\0\0\0\x01\x82\x84\x87\x41\x01" \
    "a"

static void http_2_is_spoken_where_the_handshake_chose_it(void **state)
{
    (void)state;
    struct net_test test;
    struct http_server_options options = tls_options(&test);
    test_start(&test, &options);
    struct client client;
    assert_true(client_open(&client, test.port, TLS1_3_VERSION, "\x02h2\x08http/1.1"));
    const unsigned char *chosen = NULL;
    unsigned len = 0;
    SSL_get0_alpn_selected(client.tls, &chosen, &len);
    assert_true(len == 2 && memcmp(chosen, "h2", 2) == 0);
    client_send(&client, SLICE(HTTP2_GET));
    while (client.input.len == 0 ||
           memmem(client.input.at, client.input.len, "GET / ", 6) == NULL) {
        uint8_t *room = buf_reserve(&client.input, 65536);
        int got = SSL_read(client.tls, room, 65536);
        assert_true(got > 0);
        client.input.len += (size_t)got;
    }
    client_close(&client);
    /* Not agreed on: refused as a head of HTTP/1.1 */
    struct buf body;
    buf_init(&body, BUF_MAX_NONE);
    assert_true(client_open(&client, test.port, TLS1_3_VERSION, "\x08http/1.1"));
    client_send(&client, SLICE(HTTP2_GET));
    assert_int_equal(client_answer(&client, &body), 505);
    client_close(&client);
    buf_done(&body);
    test_stop(&test);
}

static void a_large_body_passes_through_tls(void **state)
{
    (void)state;
    struct net_test test;
    struct http_server_options options = tls_options(&test);
    test_start(&test, &options);
    struct buf text, body;
    buf_init(&text, BUF_MAX_NONE);
    buf_init(&body, BUF_MAX_NONE);
    buf_text(&text, "POST / HTTP/1.1\r\n" H "Content-Length: 900000\r\n\r\n");
    size_t head = text.len;
    while (text.len < head + 900000)
        buf_byte(&text, (uint8_t)(text.len * 7 + text.len / 256));
    struct client client;
    assert_true(client_open(&client, test.port, TLS1_3_VERSION, NULL));
    for (unsigned i = 0; i < 3; i++) {
        client_send(&client, buf_view(&text));
        assert_int_equal(client_answer(&client, &body), 200);
        assert_int_equal(body.len, 7 + 900000);
        assert_memory_equal(body.at + 7, text.at + head, 900000);
    }
    client_close(&client);
    buf_done(&text);
    buf_done(&body);
    test_stop(&test);
}

static void what_is_not_our_tls_is_closed(void **state)
{
    (void)state;
    struct net_test test;
    struct http_server_options options = tls_options(&test);
    options.head_timeout_ms = 200;
    test_start(&test, &options);
    struct buf input;
    buf_init(&input, BUF_MAX_NONE);
    int fd = raw_connect(test.port);
    raw_send(fd, SLICE("GET / HTTP/1.1\r\n" H "\r\n"));
    raw_read_all(fd, &input); /* ends: an alert, no HTTP */
    assert_true(input.len < 12 || memcmp(input.at, "HTTP", 4) != 0);
    (void)close(fd);
    fd = raw_connect(test.port); /* a handshake that does not come */
    raw_read_all(fd, &input);
    (void)close(fd);
    buf_done(&input);
    struct client client;
    assert_false(client_open(&client, test.port, TLS1_1_VERSION, NULL));
    client_close(&client);
    assert_false(client_open(&client, test.port, TLS1_3_VERSION, "\x05h3-29"));
    client_close(&client);
    assert_int_equal(atomic_load(&test.handled), 0);
    test_stop(&test);
}

static void hang_up_and_drain_work_behind_tls(void **state)
{
    (void)state;
    struct net_test test;
    struct http_server_options options = tls_options(&test);
    test_start(&test, &options);
    struct client client, idle;
    assert_true(client_open(&client, test.port, TLS1_3_VERSION, NULL));
    client_send(&client, SLICE("GET /wait HTTP/1.1\r\n" H "\r\n"));
    wait_until_at_least(&test.waiting, 1);
    client_close(&client);
    wait_until_at_least(&test.cancelled, 1);
    assert_true(client_open(&idle, test.port, TLS1_3_VERSION, NULL));
    http_server_drain(test.server, after_ms(20000));
    uint8_t byte;
    assert_true(SSL_read(idle.tls, &byte, 1) <= 0);
    client_close(&idle);
    test_stop(&test);
}

static void certificates_are_checked_and_can_be_renewed(void **state)
{
    (void)state;
    struct net_test test;
    struct http_server_options options = tls_options(&test);
    och_error err = {0};
    struct http_server *server = NULL;
    options.tls_key = "/nowhere/key.pem";
    assert_int_equal(http_server_start(&options, &server, &err), OCH_SETTING);
    assert_non_null(strstr(err.message, "/nowhere/key.pem"));
    options.tls_key = NULL;
    assert_int_equal(http_server_start(&options, &server, &err), OCH_SETTING);
    options.tls_key = key_path;
    test_start(&test, &options);
    struct client before, after;
    assert_true(client_open(&before, test.port, TLS1_3_VERSION, NULL));
    make_certificate();
    assert_int_equal(http_server_renew_tls(test.server, &err), OCH_OK);
    assert_true(client_open(&after, test.port, TLS1_3_VERSION, NULL));
    X509 *old = SSL_get1_peer_certificate(before.tls), *new = SSL_get1_peer_certificate(after.tls);
    assert_int_not_equal(X509_cmp(old, new), 0);
    X509_free(old);
    X509_free(new);
    struct buf body;
    buf_init(&body, BUF_MAX_NONE);
    client_send(&before, SLICE("GET /cheap HTTP/1.1\r\n" H "\r\n")); /* lives on with the old one */
    assert_int_equal(client_answer(&before, &body), 200);
    FILE *out = fopen(key_path, "w");
    assert_non_null(out);
    (void)fclose(out);
    assert_int_equal(http_server_renew_tls(test.server, &err), OCH_SETTING);
    client_close(&after);
    assert_true(client_open(&after, test.port, TLS1_3_VERSION, NULL));
    client_close(&before);
    client_close(&after);
    buf_done(&body);
    test_stop(&test);
    make_certificate();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_pass_through_tls),
        cmocka_unit_test(http_2_is_spoken_where_the_handshake_chose_it),
        cmocka_unit_test(a_large_body_passes_through_tls),
        cmocka_unit_test(what_is_not_our_tls_is_closed),
        cmocka_unit_test(hang_up_and_drain_work_behind_tls),
        cmocka_unit_test(certificates_are_checked_and_can_be_renewed),
    };
    /* The client writes from here: as in the server's threads, SIGPIPE stays blocked. */
    sigset_t pipe;
    (void)sigemptyset(&pipe);
    (void)sigaddset(&pipe, SIGPIPE);
    (void)pthread_sigmask(SIG_BLOCK, &pipe, NULL);
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
