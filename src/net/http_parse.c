/* SPDX-License-Identifier: Apache-2.0 */
/* Request heads and chunked bodies, strictly: what two implementations could read in two ways is refused.
 * RFC 9112 sections 3, 5, 6, 7.  Fuzzed against llhttp (tests/fuzz/fuzz_http.c). */
#include "net/http_parse.h"

#define CHUNK_LINE_BYTES_MAX 256
#define TRAILER_BYTES_MAX    4096

/* ---- characters ---- */

/* RFC 9110 5.6.2, one bit for each ASCII character */
static bool is_token_byte(uint8_t byte)
{
    static const uint64_t bits[2] = {UINT64_C(0x3ff6cfa00000000), UINT64_C(0x57ffffffc7fffffe)};
    return byte < 128 && (bits[byte / 64] >> (byte % 64) & 1) != 0;
}

static bool is_token(slice text)
{
    for (size_t i = 0; i < text.len; i++)
        if (!is_token_byte(text.at[i]))
            return false;
    return text.len > 0;
}

/* Allowed inside a line of the head: visible, blank, tab, and bytes from 128 up (opaque, in values). */
static bool is_line_byte(uint8_t byte)
{
    return byte >= 0x20 ? byte != 0x7f : byte == '\t';
}

static bool is_blank(uint8_t byte)
{
    return byte == ' ' || byte == '\t';
}

static slice trim(slice text)
{
    while (text.len > 0 && is_blank(text.at[0]))
        text.at++, text.len--;
    while (text.len > 0 && is_blank(text.at[text.len - 1]))
        text.len--;
    return text;
}

/* Take the next element of a comma-separated list, trimmed; false at its end. */
static bool list_next(slice *list, slice *ret_element)
{
    if (list->at == NULL)
        return false;
    const uint8_t *comma = list->len ? memchr(list->at, ',', list->len) : NULL;
    size_t len = comma ? (size_t)(comma - list->at) : list->len;
    *ret_element = trim((slice){list->at, len});
    *list = comma ? slice_from(*list, len + 1) : SLICE_NONE;
    return true;
}

/* "; q=0", "; q=0.00": the weight says never */
static bool weight_is_zero(slice parameters)
{
    slice text = trim(parameters);
    if (text.len < 3 || (text.at[0] | 0x20) != 'q' || text.at[1] != '=')
        return false;
    for (size_t i = 2; i < text.len; i++)
        if (text.at[i] != '0' && text.at[i] != '.')
            return false;
    return true;
}

bool http_list_has(slice list, slice token)
{
    slice element;
    while (list_next(&list, &element)) {
        const uint8_t *mark = element.len ? memchr(element.at, ';', element.len) : NULL;
        slice name = mark ? trim((slice){element.at, (size_t)(mark - element.at)}) : element;
        if (!slice_equal_nocase(name, token))
            continue;
        return mark == NULL ||
               !weight_is_zero(slice_from(element, (size_t)(mark - element.at) + 1));
    }
    return false;
}

/* ---- the head ---- */

void http_head_init(struct http_head *head)
{
    memset(head, 0, offsetof(struct http_head, fields));
}

static enum http_parse head_bad(struct http_head *head, int status, const char *problem)
{
    head->status = status;
    head->problem = problem;
    return HTTP_PARSE_BAD;
}

static struct http_span span_of(const uint8_t *base, slice text)
{
    return (struct http_span){(uint32_t)(text.at - base), (uint32_t)text.len};
}

static enum http_parse parse_version(struct http_head *head, slice version)
{
    if (slice_equal(version, SLICE("HTTP/1.1"))) {
        head->keep_alive = true;
        return HTTP_PARSE_MORE;
    }
    if (slice_equal(version, SLICE("HTTP/1.0"))) {
        head->http_1_0 = true;
        return HTTP_PARSE_MORE;
    }
    bool numbers = version.len == 8 && memcmp(version.at, "HTTP/", 5) == 0 &&
                   version.at[5] >= '0' && version.at[5] <= '9' && version.at[6] == '.' &&
                   version.at[7] >= '0' && version.at[7] <= '9';
    if (numbers)
        return head_bad(head, 505, "only HTTP/1.1 and HTTP/1.0 are spoken here");
    return head_bad(head, 400, "the request line does not end in an HTTP version");
}

/* origin-form, absolute-form, or "*" for OPTIONS; path and query without the authority */
static enum http_parse parse_target(struct http_head *head, const uint8_t *base, slice method,
                                    slice target)
{
    for (size_t i = 0; i < target.len; i++)
        if (target.at[i] <= 0x20 || target.at[i] >= 0x7f || target.at[i] == '#')
            return head_bad(head, 400,
                            "the request target holds a character that must be percent-encoded");
    slice path = target;
    if (target.len == 0 || target.at[0] != '/') {
        size_t scheme = slice_starts_with(target, SLICE("http://"))    ? 7
                        : slice_starts_with(target, SLICE("https://")) ? 8
                                                                       : 0;
        if (scheme > 0) {
            path = slice_from(target, scheme);
            while (path.len > 0 && path.at[0] != '/' && path.at[0] != '?')
                path = slice_from(path, 1);
            if (path.at == target.at + scheme)
                return head_bad(head, 400, "the request target names no host");
        } else if (!slice_equal(target, SLICE("*")) || !slice_equal(method, SLICE("OPTIONS"))) {
            return head_bad(head, 400, "the request target must begin with a slash");
        }
    }
    const uint8_t *mark = path.len ? memchr(path.at, '?', path.len) : NULL;
    slice query =
        mark ? slice_from(path, (size_t)(mark - path.at) + 1) : (slice){path.at + path.len, 0};
    if (mark)
        path.len = (size_t)(mark - path.at);
    head->target = span_of(base, target);
    head->path = span_of(base, path);
    head->query = span_of(base, query);
    return HTTP_PARSE_MORE;
}

static enum http_parse parse_request_line(struct http_head *head, const uint8_t *base, slice line)
{
    const uint8_t *blank = line.len ? memchr(line.at, ' ', line.len) : NULL;
    if (blank == NULL)
        return head_bad(head, 400, "the request line has no target");
    slice method = {line.at, (size_t)(blank - line.at)};
    if (method.len == 0 || method.len > 32)
        return head_bad(head, 400, "the method is empty or too long");
    for (size_t i = 0; i < method.len; i++)
        if (method.at[i] < 'A' || method.at[i] > 'Z')
            return head_bad(head, 400, "the method must be written in upper case");
    slice rest = slice_from(line, method.len + 1);
    blank = rest.len ? memchr(rest.at, ' ', rest.len) : NULL;
    if (blank == NULL)
        return head_bad(head, 400, "the request line has no HTTP version");
    slice target = {rest.at, (size_t)(blank - rest.at)};
    enum http_parse result = parse_version(head, slice_from(rest, target.len + 1));
    if (result == HTTP_PARSE_MORE)
        result = parse_target(head, base, method, target);
    head->method = span_of(base, method);
    return result;
}

static enum http_parse parse_content_length(struct http_head *head, slice value)
{
    if (head->has_length)
        return head_bad(head, 400, "there is more than one Content-Length");
    if (value.len == 0 || value.len > 18)
        return head_bad(head, 400, "Content-Length is not a number of bytes");
    uint64_t length = 0;
    for (size_t i = 0; i < value.len; i++) {
        if (value.at[i] < '0' || value.at[i] > '9')
            return head_bad(head, 400, "Content-Length is not a number of bytes");
        length = length * 10 + (uint64_t)(value.at[i] - '0');
    }
    head->has_length = true;
    head->content_length = length;
    return HTTP_PARSE_MORE;
}

static enum http_parse parse_transfer_encoding(struct http_head *head, slice value)
{
    if (head->has_transfer)
        return head_bad(head, 400, "there is more than one Transfer-Encoding");
    head->has_transfer = true;
    if (slice_equal_nocase(value, SLICE("chunked"))) {
        head->chunked = true;
        return HTTP_PARSE_MORE;
    }
    slice element;
    unsigned chunked_count = 0;
    bool chunked_last = false;
    while (list_next(&value, &element)) {
        if (!is_token(element))
            return head_bad(head, 400, "Transfer-Encoding is not a list of names");
        chunked_last = slice_equal_nocase(element, SLICE("chunked"));
        chunked_count += chunked_last;
    }
    if (chunked_count > 1 || (chunked_count == 1 && !chunked_last))
        return head_bad(head, 400, "chunked must be the last Transfer-Encoding, and be there once");
    return head_bad(head, 501, "no Transfer-Encoding but chunked is known here");
}

static enum http_parse parse_host(struct http_head *head, slice value)
{
    if (head->has_host)
        return head_bad(head, 400, "there is more than one Host");
    head->has_host = true;
    for (size_t i = 0; i < value.len; i++) {
        uint8_t byte = value.at[i];
        if (byte <= 0x20 || byte >= 0x7f || strchr("/\\@,?#\"<>{}|^`", byte) != NULL)
            return head_bad(head, 400, "Host is not a host name");
    }
    return HTTP_PARSE_MORE;
}

/* The five fields that change how the connection is read. */
static enum http_parse parse_framing_field(struct http_head *head, slice name, slice value)
{
    switch (name.len) {
    case 4:
        if (slice_equal_nocase(name, SLICE("Host")))
            return parse_host(head, value);
        break;
    case 6:
        if (slice_equal_nocase(name, SLICE("Expect"))) {
            if (!slice_equal_nocase(value, SLICE("100-continue")))
                return head_bad(head, 417, "no Expect but 100-continue is known here");
            head->expect_continue = true;
        }
        break;
    case 10:
        if (slice_equal_nocase(name, SLICE("Connection"))) {
            if (http_list_has(value, SLICE("close")))
                head->has_close = true;
            else if (http_list_has(value, SLICE("keep-alive")))
                head->keep_alive = true;
        }
        break;
    case 14:
        if (slice_equal_nocase(name, SLICE("Content-Length")))
            return parse_content_length(head, value);
        break;
    case 17:
        if (slice_equal_nocase(name, SLICE("Transfer-Encoding")))
            return parse_transfer_encoding(head, value);
        break;
    default:
        break;
    }
    return HTTP_PARSE_MORE;
}

static enum http_parse parse_field(struct http_head *head, const uint8_t *base, slice line)
{
    if (is_blank(line.at[0]))
        return head_bad(head, 400, "a header field is folded over two lines");
    const uint8_t *colon = memchr(line.at, ':', line.len);
    slice name = {line.at, colon ? (size_t)(colon - line.at) : 0};
    if (!is_token(name))
        return head_bad(head, 400, "a header line is not a name, a colon and a value");
    if (head->field_count == HTTP_HEADERS_MAX)
        return head_bad(head, 431, "the request has more than 64 header fields");
    slice value = trim(slice_from(line, name.len + 1));
    head->fields[head->field_count++] =
        (struct http_field){span_of(base, name), span_of(base, value)};
    return parse_framing_field(head, name, value);
}

/* What only the whole head can tell. */
static enum http_parse head_finish(struct http_head *head)
{
    if (!head->has_host && !head->http_1_0)
        return head_bad(head, 400, "a HTTP/1.1 request needs a Host");
    if (head->has_transfer && head->has_length)
        return head_bad(head, 400, "both Transfer-Encoding and Content-Length are there");
    if (head->has_transfer && head->http_1_0)
        return head_bad(head, 400, "HTTP/1.0 has no Transfer-Encoding");
    if (head->http_1_0)
        head->expect_continue = false; /* RFC 9110 10.1.1 */
    head->keep_alive = head->keep_alive && !head->has_close;
    head->size = head->line_at;
    return HTTP_PARSE_DONE;
}

enum http_parse http_head_parse(struct http_head *head, slice bytes)
{
    assert(bytes.len >= head->scanned);
    size_t seen = min_size(bytes.len, HTTP_HEAD_BYTES_MAX);
    for (;;) {
        size_t at = head->scanned;
        while (at < seen && is_line_byte(bytes.at[at]))
            at++;
        head->scanned = (uint32_t)at;
        if (at < seen && bytes.at[at] != '\r')
            return head_bad(head, 400,
                            "a control character is in the head, or a line ends without CR");
        if (at + 1 < seen && bytes.at[at + 1] != '\n')
            return head_bad(head, 400, "a CR without LF is in the head");
        if (at + 1 >= seen)
            break;
        slice line = {bytes.at + head->line_at, at - head->line_at};
        head->line_at = head->scanned = (uint32_t)at + 2;
        enum http_parse result = HTTP_PARSE_MORE;
        if (line.len == 0 && head->has_line)
            return head_finish(head);
        if (line.len > 0) {
            result = head->has_line ? parse_field(head, bytes.at, line)
                                    : parse_request_line(head, bytes.at, line);
            head->has_line = true;
        } else if (at > 0) {
            result = head_bad(head, 400,
                              "more than one empty line is before the request"); /* RFC 9112 2.2 */
        }
        if (result != HTTP_PARSE_MORE)
            return result;
    }
    if (seen == HTTP_HEAD_BYTES_MAX)
        return head_bad(head, 431, "the head of the request is larger than 32 KiB");
    return HTTP_PARSE_MORE;
}

void http_head_view(const struct http_head *head, const uint8_t *bytes, struct http_header *headers,
                    struct http_request *request)
{
    for (uint32_t i = 0; i < head->field_count; i++) {
        const struct http_field *field = &head->fields[i];
        headers[i].name = (slice){bytes + field->name.at, field->name.len};
        headers[i].value = (slice){bytes + field->value.at, field->value.len};
    }
    request->method = (slice){bytes + head->method.at, head->method.len};
    request->target = (slice){bytes + head->target.at, head->target.len};
    /* "http://host" has an empty path, which means "/" (RFC 9112 3.2.2) */
    request->path = head->path.len ? (slice){bytes + head->path.at, head->path.len} : SLICE("/");
    request->query = (slice){bytes + head->query.at, head->query.len};
    request->headers = headers;
    request->header_count = head->field_count;
    request->http_1_0 = head->http_1_0;
}

/* ---- chunks ---- */

enum chunk_state {
    CHUNK_SIZE,
    CHUNK_EXTENSION,
    CHUNK_SIZE_LF,
    CHUNK_DATA,
    CHUNK_DATA_CR,
    CHUNK_DATA_LF,
    TRAILER_START, /* of a line */
    TRAILER_NAME,
    TRAILER_VALUE,
    TRAILER_LF,
    TRAILER_END_LF,
    CHUNKS_DONE
};

void http_chunks_init(struct http_chunks *chunks)
{
    *chunks = (struct http_chunks){.state = CHUNK_SIZE};
}

static bool chunk_bad(struct http_chunks *chunks, const char *problem)
{
    chunks->problem = problem;
    return false;
}

static int hex_value(uint8_t byte)
{
    if (byte >= '0' && byte <= '9')
        return byte - '0';
    uint8_t lower = (uint8_t)(byte | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

static bool size_step(struct http_chunks *chunks, uint8_t byte)
{
    int digit = hex_value(byte);
    if (digit >= 0) {
        if (chunks->left >> 58 != 0) /* two digits below overflow: nothing that large is meant */
            return chunk_bad(chunks, "a chunk is too large");
        chunks->left = chunks->left << 4 | (uint64_t)digit;
        chunks->digits = 1;
        return true;
    }
    if (chunks->digits == 0 || (byte != '\r' && byte != ';'))
        return chunk_bad(chunks, "a chunk size is not a hexadecimal number");
    chunks->state = byte == ';' ? CHUNK_EXTENSION : CHUNK_SIZE_LF;
    return true;
}

static bool trailer_step(struct http_chunks *chunks, uint8_t byte)
{
    switch (chunks->state) {
    case TRAILER_START:
        if (byte == '\r') {
            chunks->state = TRAILER_END_LF;
            return true;
        }
        chunks->state = TRAILER_NAME;
        return is_token_byte(byte) || chunk_bad(chunks, "a trailer line is not a field");
    case TRAILER_NAME:
        if (byte == ':')
            chunks->state = TRAILER_VALUE;
        return byte == ':' || is_token_byte(byte) ||
               chunk_bad(chunks, "a trailer line is not a field");
    case TRAILER_VALUE:
        if (byte == '\r')
            chunks->state = TRAILER_LF;
        return byte == '\r' || is_line_byte(byte) ||
               chunk_bad(chunks, "a control character is in a trailer");
    default:
        assert(chunks->state == TRAILER_LF || chunks->state == TRAILER_END_LF);
        if (byte != '\n')
            return chunk_bad(chunks, "a trailer line ends in CR without LF");
        chunks->state = chunks->state == TRAILER_LF ? TRAILER_START : CHUNKS_DONE;
        return true;
    }
}

/* One byte outside of chunk data. */
static bool chunk_step(struct http_chunks *chunks, uint8_t byte)
{
    switch (chunks->state) {
    case CHUNK_SIZE:
    case CHUNK_EXTENSION:
        if (++chunks->line_bytes > CHUNK_LINE_BYTES_MAX)
            return chunk_bad(chunks, "a chunk size line is longer than 256 bytes");
        if (chunks->state == CHUNK_SIZE)
            return size_step(chunks, byte);
        if (byte == '\r')
            chunks->state = CHUNK_SIZE_LF;
        return byte == '\r' || (byte < 128 && is_line_byte(byte)) ||
               chunk_bad(chunks, "a control character is in a chunk extension");
    case CHUNK_SIZE_LF:
        if (byte != '\n')
            return chunk_bad(chunks, "a chunk size line ends in CR without LF");
        chunks->state = chunks->left > 0 ? CHUNK_DATA : TRAILER_START;
        chunks->line_bytes = 0;
        return true;
    case CHUNK_DATA_CR:
        chunks->state = CHUNK_DATA_LF;
        return byte == '\r' || chunk_bad(chunks, "a chunk is longer than its size says");
    case CHUNK_DATA_LF:
        chunks->state = CHUNK_SIZE;
        chunks->digits = 0;
        return byte == '\n' || chunk_bad(chunks, "a chunk ends in CR without LF");
    default:
        if (++chunks->line_bytes > TRAILER_BYTES_MAX)
            return chunk_bad(chunks, "the trailers are larger than 4 KiB");
        return trailer_step(chunks, byte);
    }
}

enum http_parse http_chunks_decode(struct http_chunks *chunks, slice input, size_t *ret_used,
                                   slice *ret_data)
{
    *ret_data = SLICE_NONE;
    size_t at = 0;
    while (at < input.len && chunks->state != CHUNKS_DONE) {
        if (chunks->state == CHUNK_DATA) {
            size_t len = chunks->left < input.len - at ? (size_t)chunks->left : input.len - at;
            *ret_data = (slice){input.at + at, len};
            chunks->left -= len;
            if (chunks->left == 0)
                chunks->state = CHUNK_DATA_CR;
            at += len;
            break;
        }
        if (!chunk_step(chunks, input.at[at++])) {
            *ret_used = at;
            return HTTP_PARSE_BAD;
        }
    }
    *ret_used = at;
    return chunks->state == CHUNKS_DONE ? HTTP_PARSE_DONE : HTTP_PARSE_MORE;
}
