/* SPDX-License-Identifier: Apache-2.0 */
/* Integers in files: by shifts, never by casting a struct.  And a bounded cursor for parsing. */
#ifndef BASE_BYTES_H
#define BASE_BYTES_H

#include "base/slice.h"

static inline uint16_t load_u16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}
static inline uint32_t load_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}
static inline uint64_t load_u64(const uint8_t *p)
{
    return (uint64_t)load_u32(p) | (uint64_t)load_u32(p + 4) << 32;
}
static inline float load_f32(const uint8_t *p)
{
    uint32_t bits = load_u32(p);
    float value;
    memcpy(&value, &bits, 4);
    return value;
}
static inline double load_f64(const uint8_t *p)
{
    uint64_t bits = load_u64(p);
    double value;
    memcpy(&value, &bits, 8);
    return value;
}
static inline void store_u16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v, p[1] = (uint8_t)(v >> 8);
}
static inline void store_u32(uint8_t *p, uint32_t v)
{
    store_u16(p, (uint16_t)v), store_u16(p + 2, (uint16_t)(v >> 16));
}
static inline void store_u64(uint8_t *p, uint64_t v)
{
    store_u32(p, (uint32_t)v), store_u32(p + 4, (uint32_t)(v >> 32));
}

/** A cursor over untrusted bytes: reads past the end give zeros and set `failed`. */
struct reader {
    const uint8_t *at, *end;
    bool failed;
};

static inline struct reader reader_of(slice text)
{
    return (struct reader){text.at, text.at + text.len, false};
}
static inline size_t reader_left(const struct reader *r)
{
    return (size_t)(r->end - r->at);
}
static inline const uint8_t *reader_skip(struct reader *r, size_t len)
{
    if (r->failed || reader_left(r) < len) {
        r->failed = true;
        return NULL;
    }
    const uint8_t *at = r->at;
    r->at += len;
    return at;
}
static inline uint8_t reader_u8(struct reader *r)
{
    const uint8_t *p = reader_skip(r, 1);
    return p ? *p : 0;
}
static inline uint16_t reader_u16(struct reader *r)
{
    const uint8_t *p = reader_skip(r, 2);
    return p ? load_u16(p) : 0;
}
static inline uint32_t reader_u32(struct reader *r)
{
    const uint8_t *p = reader_skip(r, 4);
    return p ? load_u32(p) : 0;
}
static inline uint64_t reader_u64(struct reader *r)
{
    const uint8_t *p = reader_skip(r, 8);
    return p ? load_u64(p) : 0;
}
static inline slice reader_bytes(struct reader *r, size_t len)
{
    const uint8_t *p = reader_skip(r, len);
    return p ? (slice){p, len} : SLICE_NONE;
}
static inline uint64_t reader_varint(struct reader *r)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t byte = reader_u8(r);
        if (shift == 63 && byte > 1)
            break;
        value |= (uint64_t)(byte & 127) << shift;
        if (byte < 128)
            return value;
    }
    r->failed = true;
    return 0;
}
static inline slice reader_sized(struct reader *r)
{
    uint64_t len = reader_varint(r);
    if (len > reader_left(r)) {
        r->failed = true;
        return SLICE_NONE;
    }
    return reader_bytes(r, (size_t)len);
}
#endif
