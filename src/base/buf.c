/* SPDX-License-Identifier: Apache-2.0 */
/* Growing byte buffer.  After a failure nothing is appended any more; what is there stays. */
#include "base/buf.h"

#include "base/bytes.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define CAP_FIRST 64u

void buf_init(struct buf *buf, size_t max)
{
    *buf = (struct buf){.max = max};
}

void buf_done(struct buf *buf)
{
    if (!buf)
        return;
    mem_free(buf->at);
    buf_init(buf, buf->max);
}

void buf_cleanup(struct buf *buf)
{
    buf_done(buf);
}

static bool grow(struct buf *buf, size_t extra)
{
    size_t wanted;
    buf->too_large = add_overflows(buf->len, extra, &wanted) || wanted > buf->max;
    if (buf->too_large)
        return false;
    size_t half_more;
    if (add_overflows(buf->cap, buf->cap / 2, &half_more))
        half_more = wanted;
    size_t cap = min_size(max_size(max_size(half_more, wanted), CAP_FIRST), buf->max);
    uint8_t *at = mem_realloc(buf->at, cap);
    if (!at && cap > wanted) { // memory is tight: ask for no more than needed
        cap = wanted;
        at = mem_realloc(buf->at, cap);
    }
    if (!at)
        return false;
    buf->at = at;
    buf->cap = cap;
    return true;
}

uint8_t *buf_reserve(struct buf *buf, size_t extra)
{
    if (UNLIKELY(buf->failed))
        return NULL;
    if (UNLIKELY(extra > buf->cap - buf->len || !buf->at) && !grow(buf, extra)) {
        buf->failed = true;
        return NULL;
    }
    return buf->at + buf->len;
}

void buf_append(struct buf *buf, const void *at, size_t len)
{
    uint8_t *to = len ? buf_reserve(buf, len) : NULL;
    if (!to)
        return;
    memcpy(to, at, len);
    buf->len += len;
}

void buf_slice(struct buf *buf, slice text)
{
    buf_append(buf, text.at, text.len);
}

void buf_text(struct buf *buf, const char *text)
{
    buf_append(buf, text, strlen(text));
}

void buf_byte(struct buf *buf, uint8_t byte)
{
    buf_append(buf, &byte, 1);
}

void buf_u16(struct buf *buf, uint16_t value)
{
    uint8_t bytes[2];
    store_u16(bytes, value);
    buf_append(buf, bytes, sizeof(bytes));
}

void buf_u32(struct buf *buf, uint32_t value)
{
    uint8_t bytes[4];
    store_u32(bytes, value);
    buf_append(buf, bytes, sizeof(bytes));
}

void buf_u64(struct buf *buf, uint64_t value)
{
    uint8_t bytes[8];
    store_u64(bytes, value);
    buf_append(buf, bytes, sizeof(bytes));
}

void buf_f32(struct buf *buf, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    buf_u32(buf, bits);
}

void buf_f64(struct buf *buf, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof(bits));
    buf_u64(buf, bits);
}

void buf_varint(struct buf *buf, uint64_t value)
{
    uint8_t bytes[10];
    size_t len = 0;
    for (; value >= 128; value >>= 7)
        bytes[len++] = (uint8_t)(value | 128);
    bytes[len++] = (uint8_t)value;
    buf_append(buf, bytes, len);
}

void buf_sized(struct buf *buf, slice text)
{
    buf_varint(buf, text.len);
    buf_slice(buf, text);
}

void buf_zero(struct buf *buf, size_t count)
{
    uint8_t *to = count ? buf_reserve(buf, count) : NULL;
    if (!to)
        return;
    memset(to, 0, count);
    buf->len += count;
}

void buf_align(struct buf *buf, size_t align)
{
    assert(align > 0 && (align & (align - 1)) == 0);
    buf_zero(buf, (size_t)(round_up(buf->len, align) - buf->len));
}

void buf_printf(struct buf *buf, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    /* The NUL that vsnprintf writes must fit too, though it is not counted: format small texts
     * apart, so that `max` means bytes of content. */
    char small[256];
    if (len < 0) {
        buf->failed = true;
        buf->too_large = false;
    } else if ((size_t)len < sizeof(small)) {
        (void)vsnprintf(small, sizeof(small), format, again);
        buf_append(buf, small, (size_t)len);
    } else {
        char *text = mem_alloc((size_t)len + 1);
        if (text) {
            (void)vsnprintf(text, (size_t)len + 1, format, again);
            buf_append(buf, text, (size_t)len);
            mem_free(text);
        } else {
            buf->failed = true;
            buf->too_large = false;
        }
    }
    va_end(again);
}

och_code buf_check(const struct buf *buf, const char *what, och_error *err)
{
    if (LIKELY(!buf->failed))
        return OCH_OK;
    if (!buf->too_large)
        return FAIL_NO_MEMORY(err, what);
    return FAIL(err, OCH_TOO_LARGE, "%s is larger than its limit of %zu bytes", what, buf->max);
}
