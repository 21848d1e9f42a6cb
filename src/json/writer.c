/* SPDX-License-Identifier: Apache-2.0 */
/* Values to text, compactly, escaped and laid out as the peer does. */
#include "json/json.h"
#include "json/shim.h"

#include <math.h>

/* 0: as it is; 'u': as \u00xx; else the letter behind the backslash. */
static const uint8_t escapes[256] = {
    'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', 'b',         't',           'n', 'u',
    'f', 'r', 'u', 'u', 'u', 'u', 'u', 'u', 'u',         'u',           'u', 'u',
    'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', ['"'] = '"', ['\\'] = '\\',
};

/* How many bytes from `at` on need no escape: eight at a time, then one by one. */
static size_t plain_run(const uint8_t *at, size_t len)
{
    const uint64_t ones = 0x0101010101010101, tops = 0x8080808080808080;
    size_t run = 0;
    for (; run + 8 <= len; run += 8) {
        uint64_t word;
        memcpy(&word, at + run, 8);
        uint64_t quote = word ^ ones * '"', slash = word ^ ones * '\\';
        /* A byte below its limit borrows; bytes of 128 and more are taken out by their top bit. */
        uint64_t found = (word - ones * 0x20) | (quote - ones) | (slash - ones);
        if (found & ~word & tops)
            break;
    }
    while (run < len && !escapes[at[run]])
        run++;
    return run;
}

void json_write_string(struct buf *buf, slice text)
{
    static const char hex[] = "0123456789abcdef";
    buf_byte(buf, '"');
    for (size_t at = 0; at < text.len && !buf->failed;) {
        size_t run = plain_run(text.at + at, text.len - at);
        buf_append(buf, text.at + at, run);
        at += run;
        if (at == text.len)
            break;
        uint8_t byte = text.at[at++], escape = escapes[byte];
        uint8_t out[6] = {'\\', escape, '0', '0', (uint8_t)hex[byte >> 4], (uint8_t)hex[byte & 15]};
        buf_append(buf, out, escape == 'u' ? 6 : 2);
    }
    buf_byte(buf, '"');
}

void json_write_int(struct buf *buf, int64_t value)
{
    uint8_t text[20];
    size_t at = sizeof text;
    uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    do {
        text[--at] = (uint8_t)('0' + rest % 10);
        rest /= 10;
    } while (rest);
    if (value < 0)
        text[--at] = '-';
    buf_append(buf, text + at, sizeof text - at);
}

void json_write_f64(struct buf *buf, double value)
{
    char text[JSON_NUMBER_MAX];
    if (isfinite(value))
        buf_append(buf, text, json_f64_text(value, text));
    else
        buf_text(buf, "null");
}

void json_write_f32(struct buf *buf, float value)
{
    char text[JSON_NUMBER_MAX];
    if (isfinite(value))
        buf_append(buf, text, json_f32_text(value, text));
    else
        buf_text(buf, "null");
}

void json_write_f32_array(struct buf *buf, const float *values, size_t count)
{
    enum { PIECE = 256 };
    buf_byte(buf, '[');
    for (size_t at = 0; at < count && !buf->failed; at += PIECE) {
        size_t piece = min_size(PIECE, count - at);
        char text[PIECE * JSON_NUMBER_MAX];
        if (at)
            buf_byte(buf, ',');
        buf_append(buf, text, json_f32_texts(values + at, piece, text));
    }
    buf_byte(buf, ']');
}

static void write_scalar(struct buf *buf, const struct json_value *value)
{
    switch (value->kind) {
    case JSON_BOOL:
        buf_text(buf, value->boolean ? "true" : "false");
        break;
    case JSON_INT:
        json_write_int(buf, value->integer);
        break;
    case JSON_FLOAT:
        json_write_f64(buf, value->number);
        break;
    case JSON_STRING:
        json_write_string(buf, value->string);
        break;
    case JSON_FLOATS:
        json_write_f32_array(buf, value->floats, value->count);
        break;
    default:
        buf_text(buf, "null");
    }
}

void json_write_value(struct buf *buf, const struct json_value *value)
{
    struct {
        const struct json_value *container;
        uint32_t next;
    } stack[JSON_DEPTH_MAX];
    size_t depth = 0;
    for (;;) {
        if (value->kind == JSON_ARRAY || value->kind == JSON_OBJECT) {
            assert(depth < JSON_DEPTH_MAX);
            stack[depth].container = value;
            stack[depth++].next = 0;
            buf_byte(buf, value->kind == JSON_ARRAY ? '[' : '{');
        } else {
            write_scalar(buf, value);
        }
        /* Close what is complete, then go on with the next child. */
        for (;; depth--) {
            if (depth == 0)
                return;
            const struct json_value *top = stack[depth - 1].container;
            if (stack[depth - 1].next < top->count)
                break;
            buf_byte(buf, top->kind == JSON_ARRAY ? ']' : '}');
        }
        const struct json_value *top = stack[depth - 1].container;
        uint32_t next = stack[depth - 1].next++;
        if (next)
            buf_byte(buf, ',');
        if (top->kind == JSON_OBJECT) {
            json_write_string(buf, top->members[next].name);
            buf_byte(buf, ':');
            value = &top->members[next].value;
        } else {
            value = &top->items[next];
        }
    }
}
