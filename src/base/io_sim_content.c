/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of one simulated file: 16 KiB chunks made when first written, so that preallocated files
 * cost nothing until they are filled. */
#include "base/io_sim_private.h"

#include <string.h>

/* The part of [offset, offset + len) that lies in one chunk. */
struct piece {
    size_t chunk, start, len;
};

static struct piece first_piece(uint64_t offset, uint64_t len)
{
    size_t start = (size_t)(offset % SIM_CHUNK);
    uint64_t room = SIM_CHUNK - start;
    return (struct piece){(size_t)(offset / SIM_CHUNK), start, (size_t)(len < room ? len : room)};
}

/* The blocks that bytes [start, start + len) touch, len > 0. */
static uint16_t blocks_touched(size_t start, size_t len)
{
    size_t from = start / SIM_BLOCK, to = (start + len - 1) / SIM_BLOCK;
    return (uint16_t)((0xFFFFu >> (15 - to)) & (0xFFFFu << from));
}

/* The blocks wholly inside; the last block of a file may be cut short by the caller's len. */
static uint16_t blocks_inside(size_t start, size_t len)
{
    size_t from = (start + SIM_BLOCK - 1) / SIM_BLOCK, to = (start + len) / SIM_BLOCK;
    if (from >= to)
        return 0;
    return (uint16_t)((0xFFFFu >> (16 - to)) & (0xFFFFu << from));
}

static uint64_t count_bits(uint16_t bits)
{
    return (uint64_t)__builtin_popcount(bits);
}

void content_done(struct content *content)
{
    for (size_t i = 0; i < content->chunk_count; i++)
        mem_free(content->chunks[i].data);
    mem_free(content->chunks);
    *content = (struct content){0};
}

static bool reach(struct content *content, uint64_t end)
{
    size_t wanted = (size_t)((end + SIM_CHUNK - 1) / SIM_CHUNK);
    if (wanted <= content->chunk_count)
        return true;
    size_t count = max_size(wanted, content->chunk_count * 2);
    struct chunk *chunks = mem_realloc(content->chunks, count * sizeof(*chunks));
    if (!chunks)
        return false;
    memset(chunks + content->chunk_count, 0, (count - content->chunk_count) * sizeof(*chunks));
    content->chunks = chunks;
    content->chunk_count = count;
    return true;
}

bool content_copy(struct content *to, const struct content *from)
{
    *to = (struct content){0};
    if (!reach(to, (uint64_t)from->chunk_count * SIM_CHUNK))
        return false;
    to->size = from->size;
    for (size_t i = 0; i < from->chunk_count; i++) {
        to->chunks[i].reserved = from->chunks[i].reserved;
        if (!from->chunks[i].data)
            continue;
        to->chunks[i].data = mem_alloc(SIM_CHUNK);
        if (!to->chunks[i].data) {
            content_done(to);
            return false;
        }
        memcpy(to->chunks[i].data, from->chunks[i].data, SIM_CHUNK);
    }
    return true;
}

void content_read(const struct content *content, uint64_t offset, uint8_t *at, size_t len)
{
    while (len > 0) {
        struct piece piece = first_piece(offset, len);
        const uint8_t *data =
            piece.chunk < content->chunk_count ? content->chunks[piece.chunk].data : NULL;
        if (data)
            memcpy(at, data + piece.start, piece.len);
        else
            memset(at, 0, piece.len);
        at += piece.len;
        offset += piece.len;
        len -= piece.len;
    }
}

bool content_write(struct content *content, uint64_t offset, const uint8_t *at, size_t len)
{
    assert(offset <= SIM_SIZE_MAX && len <= SIM_SIZE_MAX - offset);
    if (len && !reach(content, offset + len))
        return false;
    while (len > 0) {
        struct piece piece = first_piece(offset, len);
        struct chunk *chunk = &content->chunks[piece.chunk];
        if (!chunk->data)
            chunk->data = mem_zalloc(SIM_CHUNK);
        if (!chunk->data)
            return false;
        memcpy(chunk->data + piece.start, at, piece.len);
        chunk->reserved |= blocks_touched(piece.start, piece.len);
        at += piece.len;
        offset += piece.len;
        len -= piece.len;
        content->size = offset > content->size ? offset : content->size;
    }
    return true;
}

bool content_reserve(struct content *content, uint64_t offset, uint64_t len)
{
    assert(offset <= SIM_SIZE_MAX && len <= SIM_SIZE_MAX - offset);
    if (len && !reach(content, offset + len))
        return false;
    while (len > 0) {
        struct piece piece = first_piece(offset, len);
        content->chunks[piece.chunk].reserved |= blocks_touched(piece.start, piece.len);
        offset += piece.len;
        len -= piece.len;
        content->size = offset > content->size ? offset : content->size;
    }
    return true;
}

uint64_t content_missing(const struct content *content, uint64_t offset, uint64_t len)
{
    uint64_t missing = 0;
    while (len > 0) {
        struct piece piece = first_piece(offset, len);
        uint16_t have =
            piece.chunk < content->chunk_count ? content->chunks[piece.chunk].reserved : 0;
        missing += count_bits((uint16_t)(blocks_touched(piece.start, piece.len) & ~have));
        offset += piece.len;
        len -= piece.len;
    }
    return missing;
}

uint64_t content_zero(struct content *content, uint64_t offset, uint64_t len)
{
    uint64_t given = 0, end = (uint64_t)content->chunk_count * SIM_CHUNK;
    if (offset >= end)
        return 0;
    len = len < end - offset ? len : end - offset;
    while (len > 0) {
        struct piece piece = first_piece(offset, len);
        struct chunk *chunk = &content->chunks[piece.chunk];
        uint16_t inside = blocks_inside(piece.start, piece.len);
        given += count_bits((uint16_t)(chunk->reserved & inside));
        chunk->reserved &= (uint16_t)~inside;
        if (piece.len == SIM_CHUNK) {
            mem_free(chunk->data);
            chunk->data = NULL;
        } else if (chunk->data) {
            memset(chunk->data + piece.start, 0, piece.len);
        }
        offset += piece.len;
        len -= piece.len;
    }
    return given;
}

uint64_t content_set_size(struct content *content, uint64_t size)
{
    assert(size <= SIM_SIZE_MAX);
    uint64_t given = size < content->size ? content_zero(content, size, SIM_SIZE_MAX) : 0;
    content->size = size;
    return given;
}

uint64_t content_blocks(const struct content *content)
{
    uint64_t blocks = 0;
    for (size_t i = 0; i < content->chunk_count; i++)
        blocks += count_bits(content->chunks[i].reserved);
    return blocks;
}
