/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies that are taken in pieces over HTTP/1.1: of any length, in little memory, however they are framed, cut and coded. */
#include "intake_test.h"

#define BODY_BYTES 5000011u /* over the limit of other bodies, and no whole number of pieces */

static void send_chunked(int fd, slice body, size_t step)
{
    for (size_t at = 0; at < body.len; at += step) {
        char size[32];
        slice part = slice_from(body, at);
        part.len = min_size(part.len, step);
        (void)snprintf(size, sizeof(size), "%zx\r\n", part.len);
        raw_send(fd, slice_of(size));
        raw_send(fd, part);
        raw_send(fd, SLICE("\r\n"));
    }
}

/* Head, then what the caller sends, then the answer, which must hold this. */
static void answers(int fd, int status, const char *text)
{
    struct buf answer;
    char line[32];
    buf_init(&answer, BUF_MAX_NONE);
    raw_read_all(fd, &answer);
    buf_byte(&answer, 0);
    (void)snprintf(line, sizeof(line), "HTTP/1.1 %d ", status);
    const char *end = strstr((const char *)answer.at, "\r\n\r\n");
    if (strncmp((const char *)answer.at, line, strlen(line)) != 0 || !end ||
        strncmp(end + 4, text, strlen(text)) != 0)
        fail_msg("expected %d %s, got %s", status, text, (const char *)answer.at);
    buf_done(&answer);
    (void)close(fd);
}

static const char *expected(slice body)
{
    static char text[64];
    (void)snprintf(text, sizeof(text), "%zu %llu", body.len, (unsigned long long)sum_of(0, body));
    return text;
}

#define HEAD "POST /sum HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"

static void a_body_of_any_length_is_taken_in_little_memory(void **state)
{
    (void)state;
    struct net_test test;
    uint8_t *bytes = make_body(BODY_BYTES);
    slice body = slice_make(bytes, BODY_BYTES);
    start_intake(&test);
    test.budget.limit_bytes = 4 << 20; /* less than the body */
    const size_t sizes[] = {0, 1, 65536, HTTP_PIECE_BYTES, HTTP_PIECE_BYTES + 1, BODY_BYTES};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        char head[256];
        int fd = raw_connect(test.port);
        (void)snprintf(head, sizeof(head), HEAD "Content-Length: %zu\r\n\r\n", sizes[i]);
        raw_send(fd, slice_of(head));
        raw_send(fd, slice_make(bytes, sizes[i]));
        answers(fd, 200, expected(slice_make(bytes, sizes[i])));
    }
    const size_t steps[] = {997, 70000, BODY_BYTES};
    for (size_t i = 0; i < COUNT_OF(steps); i++) {
        int fd = raw_connect(test.port);
        raw_send(fd, SLICE(HEAD "Transfer-Encoding: chunked\r\n\r\n"));
        send_chunked(fd, body, steps[i]);
        raw_send(fd, SLICE("0\r\n\r\n"));
        answers(fd, 200, expected(body));
    }
    wait_until_at_least(&test.let_go, COUNT_OF(sizes) + COUNT_OF(steps)); /* all are freed */
    free(bytes);
    test_stop(&test);
}

static void a_compressed_body_is_unpacked_on_the_way(void **state)
{
    (void)state;
    struct net_test test;
    struct buf packed;
    uint8_t *bytes = make_body(BODY_BYTES);
    slice body = slice_make(bytes, BODY_BYTES);
    assert_true(http_gzip(body, &packed));
    start_intake(&test);
    test.budget.limit_bytes = 8 << 20;
    int fd = raw_connect(test.port);
    raw_send(fd, SLICE(HEAD "Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"));
    send_chunked(fd, buf_view(&packed), 5000);
    raw_send(fd, SLICE("0\r\n\r\n"));
    answers(fd, 200, expected(body));
    /* cut off: what came is taken, and the intake is told */
    char head[256];
    fd = raw_connect(test.port);
    (void)snprintf(head, sizeof(head), HEAD "Content-Encoding: gzip\r\nContent-Length: %zu\r\n\r\n",
                   packed.len / 2);
    raw_send(fd, slice_of(head));
    raw_send(fd, slice_make(packed.at, packed.len / 2));
    answers(fd, 400, "");
    fd = raw_connect(test.port);
    raw_send(fd, SLICE(HEAD "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nnonsense\r\n"));
    answers(fd, 400, "3 ");
    buf_done(&packed);
    free(bytes);
    test_stop(&test);
}

static void an_answer_before_the_end_is_not_lost(void **state)
{
    (void)state;
    struct net_test test;
    uint8_t *bytes = make_body(BODY_BYTES);
    start_intake(&test);
    int fd = raw_connect(test.port);
    char head[256];
    (void)snprintf(head, sizeof(head),
                   "POST /sum/stop HTTP/1.1\r\nHost: x\r\nContent-Length: %u\r\n\r\n", BODY_BYTES);
    raw_send(fd, slice_of(head));
    raw_send(fd, slice_make(bytes, BODY_BYTES)); /* reads only afterwards */
    answers(fd, 418, "");
    /* requests behind one another on one connection */
    fd = raw_connect(test.port);
    raw_send(fd, SLICE("POST /sum HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
                       "POST /sum HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: "
                       "2\r\n\r\nab"));
    answers(fd, 200, expected(slice_make("abc", 3)));
    /* gone in the middle */
    unsigned freed = atomic_load(&test.let_go);
    fd = raw_connect(test.port);
    raw_send(fd, slice_of(HEAD "Content-Length: 9000000\r\n\r\n"));
    raw_send(fd, slice_make(bytes, 2000000));
    (void)close(fd);
    wait_until_at_least(&test.let_go, freed + 1);
    free(bytes);
    test_stop(&test);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_body_of_any_length_is_taken_in_little_memory),
        cmocka_unit_test(a_compressed_body_is_unpacked_on_the_way),
        cmocka_unit_test(an_answer_before_the_end_is_not_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
