/* SPDX-License-Identifier: Apache-2.0 */
/* A growing byte buffer.  Failure (no memory, over max) is sticky: append freely, check once. */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include "base/arena.h"

struct buf {
    uint8_t *at;
    size_t len, cap, max;
    bool failed;
    bool too_large; /* why it failed: over max, else no memory */
};

#define BUF_MAX_NONE SIZE_MAX
void buf_init(struct buf *buf, size_t max);
void buf_done(struct buf *buf);
/** Make room for `extra` more bytes and return the place, or NULL (then failed is set). */
uint8_t *buf_reserve(struct buf *buf, size_t extra);
void buf_append(struct buf *buf, const void *at, size_t len);
void buf_slice(struct buf *buf, slice text);
void buf_text(struct buf *buf, const char *text);
void buf_byte(struct buf *buf, uint8_t byte);
void buf_u16(struct buf *buf, uint16_t value); /* all integers little-endian */
void buf_u32(struct buf *buf, uint32_t value);
void buf_u64(struct buf *buf, uint64_t value);
void buf_f32(struct buf *buf, float value);
void buf_f64(struct buf *buf, double value);
/** LEB128, 1 to 10 bytes. */
void buf_varint(struct buf *buf, uint64_t value);
/** varint length, then the bytes. */
void buf_sized(struct buf *buf, slice text);
void buf_zero(struct buf *buf, size_t count);
/** Zero bytes until len is a multiple of `align` (power of two). */
void buf_align(struct buf *buf, size_t align);
void buf_printf(struct buf *buf, const char *format, ...) PRINTF_LIKE(2, 3);
static inline slice buf_view(const struct buf *buf)
{
    return (slice){buf->at, buf->len};
}
static inline void buf_clear(struct buf *buf)
{
    buf->len = 0;
    buf->failed = false;
}
/** OCH_NO_MEMORY or OCH_TOO_LARGE naming `what`, when an append failed. */
MUST_USE och_code buf_check(const struct buf *buf, const char *what, och_error *err);
void buf_cleanup(
    struct buf *buf); /* CLEANUP(buf_cleanup) struct buf b; buf_init(&b, ...) at once */
#endif
