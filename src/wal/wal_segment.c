/* SPDX-License-Identifier: Apache-2.0 */
/* Encoding, decoding and walking a segment.  The only things believed are checksums: of a header seeded
 * with the segment's salt, its id and the byte where it stands, so that bytes from elsewhere never pass. */
#include "wal/wal_segment.h"

#include "base/bytes.h"
#include "kernel/kernel.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define WINDOW_BYTES (64u << 10) /* when headers lie close together */
#define WINDOW_SHORT 4096u       /* after a jump over a payload */
#define PIECE_BYTES  (1u << 20)

const char *wal_name_format(struct wal_name name, char text[WAL_NAME_SIZE])
{
    (void)snprintf(text, WAL_NAME_SIZE, "%016" PRIx64 "-%016" PRIx64 ".log", name.id, name.salt);
    return text;
}

static bool parse_hex(const char *text, uint64_t *ret_value)
{
    uint64_t value = 0;
    for (int i = 0; i < 16; i++) {
        char c = text[i];
        unsigned digit;
        if (c >= '0' && c <= '9')
            digit = (unsigned)(c - '0');
        else if (c >= 'a' && c <= 'f')
            digit = (unsigned)(c - 'a' + 10);
        else
            return false;
        value = value << 4 | digit;
    }
    *ret_value = value;
    return true;
}

bool wal_name_parse(const char *text, struct wal_name *ret_name)
{
    struct wal_name name;
    if (strlen(text) != WAL_NAME_SIZE - 1 || text[16] != '-' || strcmp(text + 33, ".log") != 0)
        return false;
    if (!parse_hex(text, &name.id) || !parse_hex(text + 17, &name.salt) || name.id == 0)
        return false;
    *ret_name = name;
    return true;
}

/* The crc of a header whose bytes 4..8 hold it. */
static uint32_t header_crc(const uint8_t *at, struct wal_name name, uint64_t byte)
{
    static const uint8_t none[4];
    const struct kernel *kernel = kernel_get();
    uint8_t seed[24];
    store_u64(seed, name.salt);
    store_u64(seed + 8, name.id);
    store_u64(seed + 16, byte);
    uint32_t crc = kernel->crc32c(0, seed, sizeof(seed));
    crc = kernel->crc32c(crc, at, 4);
    crc = kernel->crc32c(crc, none, 4);
    return kernel->crc32c(crc, at + 8, WAL_HEADER_SIZE - 8);
}

static bool all_zero(const uint8_t *at, size_t len)
{
    return len == 0 || (at[0] == 0 && memcmp(at, at + 1, len - 1) == 0);
}

void wal_group_encode(const struct wal_group *group, struct wal_name name, uint64_t byte,
                      uint8_t out[WAL_HEADER_SIZE])
{
    assert(byte % WAL_ALIGN == 0 && group->size % WAL_ALIGN == 0);
    assert((byte == 0) == ((group->flags & WAL_GROUP_FIRST) != 0));
    memset(out, 0, WAL_HEADER_SIZE);
    store_u32(out, WAL_GROUP_MAGIC);
    store_u16(out + 8, WAL_VERSION_MAJOR);
    store_u16(out + 10, WAL_VERSION_MINOR);
    store_u32(out + 12, group->flags);
    store_u64(out + 16, name.salt);
    store_u64(out + 24, name.id);
    store_u64(out + 32, byte);
    store_u64(out + 40, group->size);
    store_u64(out + 48, group->sequence);
    store_u64(out + 56, group->synced.segment);
    store_u64(out + 64, group->synced.byte);
    store_u64(out + 72, group->ended.segment);
    store_u64(out + 80, group->ended.byte);
    store_u64(out + 88, group->generation);
    store_u32(out + 96, group->frame_count);
    store_u32(out + 4, header_crc(out, name, byte));
}

static bool group_stands_here(const uint8_t *at, struct wal_name name, uint64_t byte)
{
    return load_u32(at) == WAL_GROUP_MAGIC && load_u64(at + 16) == name.salt &&
           load_u64(at + 24) == name.id && load_u64(at + 32) == byte &&
           load_u32(at + 4) == header_crc(at, name, byte);
}

bool wal_group_unknown(const uint8_t at[WAL_HEADER_SIZE], struct wal_name name, uint64_t byte)
{
    return group_stands_here(at, name, byte) &&
           (load_u16(at + 8) != WAL_VERSION_MAJOR || load_u16(at + 10) != WAL_VERSION_MINOR);
}

bool wal_group_decode(const uint8_t at[WAL_HEADER_SIZE], struct wal_name name, uint64_t byte,
                      struct wal_group *ret_group)
{
    if (!group_stands_here(at, name, byte))
        return false;
    struct wal_group group = {
        .flags = load_u32(at + 12),
        .size = load_u64(at + 40),
        .sequence = load_u64(at + 48),
        .synced = {load_u64(at + 56), load_u64(at + 64)},
        .ended = {load_u64(at + 72), load_u64(at + 80)},
        .generation = load_u64(at + 88),
        .frame_count = load_u32(at + 96),
    };
    bool first = group.flags & WAL_GROUP_FIRST;
    if (load_u16(at + 8) != WAL_VERSION_MAJOR || load_u16(at + 10) != WAL_VERSION_MINOR ||
        (group.flags & ~3u) || byte % WAL_ALIGN || first != (byte == 0) || group.sequence == 0 ||
        group.sequence > INT64_MAX)
        return false;
    if (group.size % WAL_ALIGN || group.size < WAL_HEADER_SIZE || group.size > INT64_MAX ||
        group.frame_count > (group.size - WAL_HEADER_SIZE) / WAL_HEADER_SIZE)
        return false;
    if (group.ended.segment >= name.id || (!first && group.ended.segment) ||
        (!group.ended.segment && group.ended.byte))
        return false;
    if (wal_place_compare(group.synced, (struct wal_place){name.id, byte}) > 0)
        return false; // what is not written yet cannot be durable
    if (!all_zero(at + 100, WAL_HEADER_SIZE - 100))
        return false;
    *ret_group = group;
    return true;
}

void wal_frame_encode(const struct wal_frame *frame, struct wal_name name, uint64_t byte,
                      uint8_t out[WAL_HEADER_SIZE])
{
    assert(byte % WAL_ALIGN == 0 && frame->count > 0 && !(frame->kinds & ~(uint32_t)WAL_KINDS_ALL));
    memset(out, 0, WAL_HEADER_SIZE);
    store_u32(out, WAL_FRAME_MAGIC);
    store_u32(out + 8, frame->payload_size);
    store_u32(out + 12, frame->payload_crc);
    memcpy(out + 16, frame->collection.bytes, 16);
    memcpy(out + 32, frame->batch_id.bytes, 16);
    store_u64(out + 48, frame->first);
    store_u64(out + 56, frame->request_hash);
    store_u64(out + 64, (uint64_t)frame->created_at);
    store_u32(out + 72, frame->count);
    store_u32(out + 76, frame->dimension);
    store_u32(out + 80, frame->kinds);
    store_u32(out + 84, frame->index);
    store_u64(out + 88, frame->sequence);
    store_u32(out + 4, header_crc(out, name, byte));
}

bool wal_frame_decode(const uint8_t at[WAL_HEADER_SIZE], struct wal_name name, uint64_t byte,
                      struct wal_frame *ret_frame)
{
    if (load_u32(at) != WAL_FRAME_MAGIC || load_u32(at + 4) != header_crc(at, name, byte))
        return false;
    struct wal_frame frame = {
        .payload_size = load_u32(at + 8),
        .payload_crc = load_u32(at + 12),
        .first = load_u64(at + 48),
        .request_hash = load_u64(at + 56),
        .created_at = (int64_t)load_u64(at + 64),
        .count = load_u32(at + 72),
        .dimension = load_u32(at + 76),
        .kinds = load_u32(at + 80),
        .index = load_u32(at + 84),
        .sequence = load_u64(at + 88),
    };
    memcpy(frame.collection.bytes, at + 16, 16);
    memcpy(frame.batch_id.bytes, at + 32, 16);
    if (byte % WAL_ALIGN || frame.payload_size > 1u << 31 || frame.count == 0 ||
        frame.first > INT64_MAX - (uint64_t)frame.count ||
        (frame.kinds & ~(uint32_t)WAL_KINDS_ALL) || !all_zero(at + 96, WAL_HEADER_SIZE - 96))
        return false;
    *ret_frame = frame;
    return true;
}

och_code wal_walk_init(struct wal_walk *walk, struct file *file, struct wal_name name,
                       uint64_t size, och_error *err)
{
    *walk = (struct wal_walk){.file = file, .name = name, .size = size};
    walk->window = mem_alloc_aligned(64, PIECE_BYTES);
    return walk->window ? OCH_OK : FAIL_NO_MEMORY(err, "reading the log");
}

void wal_walk_done(struct wal_walk *walk)
{
    if (walk)
        mem_free_aligned(walk->window);
}

/* 128 bytes at `byte`; NULL through *ret_at when the segment ends before. */
static och_code window_get(struct wal_walk *walk, uint64_t byte, const uint8_t **ret_at,
                           och_error *err)
{
    *ret_at = NULL;
    if (byte > walk->size || walk->size - byte < WAL_HEADER_SIZE)
        return OCH_OK;
    uint64_t end = walk->window_at + walk->window_len;
    if (byte < walk->window_at || byte + WAL_HEADER_SIZE > end) {
        bool near = walk->window_len && byte >= walk->window_at && byte <= end + WINDOW_SHORT;
        size_t want = near ? WINDOW_BYTES : WINDOW_SHORT;
        walk->window_len = 0;
        size_t len;
        TRY(file_read(walk->file, byte, walk->window, want, &len, err));
        walk->window_at = byte;
        walk->window_len = len;
        if (len < WAL_HEADER_SIZE)
            return OCH_OK; // cut short behind our back: what is missing is not sound
    }
    *ret_at = walk->window + (byte - walk->window_at);
    return OCH_OK;
}

och_code wal_walk_frame(struct wal_walk *walk, uint64_t byte, struct wal_frame *ret_frame,
                        bool *ret_sound, och_error *err)
{
    const uint8_t *at;
    TRY(window_get(walk, byte, &at, err));
    *ret_sound = at && wal_frame_decode(at, walk->name, byte, ret_frame);
    return OCH_OK;
}

och_code wal_walk_group(struct wal_walk *walk, uint64_t byte, struct wal_group *ret_group,
                        wal_found_list *frames, bool *ret_sound, och_error *err)
{
    const uint8_t *at;
    struct wal_group group;
    *ret_sound = false;
    TRY(window_get(walk, byte, &at, err));
    if (at && wal_group_unknown(at, walk->name, byte))
        return FAIL(err, OCH_INVALID,
                    "%s byte %" PRIu64 ": log format %u.%u, this version reads %u.%u",
                    file_path(walk->file), byte, load_u16(at + 8), load_u16(at + 10),
                    WAL_VERSION_MAJOR, WAL_VERSION_MINOR);
    if (!at || !wal_group_decode(at, walk->name, byte, &group) || group.size > walk->size - byte)
        return OCH_OK;
    size_t before = frames ? frames->len : 0;
    uint64_t next = byte + WAL_HEADER_SIZE, end = byte + group.size;
    bool sound = true;
    for (uint32_t i = 0; sound && i < group.frame_count; i++) {
        struct wal_found found = {.byte = next};
        TRY(wal_walk_frame(walk, next, &found.frame, &sound, err));
        sound = sound && found.frame.index == i && found.frame.sequence == group.sequence &&
                wal_frame_bytes(found.frame.payload_size) <= end - next;
        if (!sound)
            break;
        if (frames && !VEC_PUSH(frames, found))
            return FAIL_NO_MEMORY(err, "the log's index");
        next += wal_frame_bytes(found.frame.payload_size);
    }
    if (!sound || next != end) {
        if (frames)
            frames->len = before;
        return OCH_OK;
    }
    *ret_group = group;
    *ret_sound = true;
    return OCH_OK;
}

och_code wal_walk_search(struct wal_walk *walk, uint64_t from, uint64_t to, uint64_t *ret_byte,
                         struct wal_group *ret_group, bool *ret_zero, och_error *err)
{
    bool zero = true;
    from = round_up(from, WAL_ALIGN);
    to = to < walk->size ? to : walk->size;
    for (uint64_t piece = from; piece < to; piece += PIECE_BYTES) {
        size_t want = to - piece < PIECE_BYTES ? (size_t)(to - piece) : PIECE_BYTES, len;
        walk->window_len = 0;
        TRY(file_read(walk->file, piece, walk->window, want, &len, err));
        if (all_zero(walk->window, len))
            continue;
        for (size_t i = 0; i + 4 <= len; i += WAL_ALIGN) {
            if (load_u32(walk->window + i) != WAL_GROUP_MAGIC)
                continue;
            bool sound;
            zero = zero && all_zero(walk->window, i);
            TRY(wal_walk_group(walk, piece + i, ret_group, NULL, &sound, err));
            if (sound) {
                *ret_byte = piece + i;
                *ret_zero = zero;
                return OCH_OK;
            }
            walk->window_len = 0; // the look at the group used the window
            TRY(file_read(walk->file, piece, walk->window, want, &len, err));
        }
        zero = false;
    }
    *ret_byte = to;
    *ret_zero = zero;
    return OCH_OK;
}

och_code wal_walk_payload(struct wal_walk *walk, const struct wal_found *found, bool *ret_sound,
                          och_error *err)
{
    uint64_t byte = found->byte + WAL_HEADER_SIZE;
    uint64_t left = found->frame.payload_size;
    uint32_t crc = 0;
    walk->window_len = 0;
    while (left > 0) {
        size_t want = left < PIECE_BYTES ? (size_t)left : PIECE_BYTES, len;
        TRY(file_read(walk->file, byte, walk->window, want, &len, err));
        if (len < want)
            break;
        crc = kernel_get()->crc32c(crc, walk->window, len);
        byte += len;
        left -= len;
    }
    *ret_sound = left == 0 && crc == found->frame.payload_crc;
    return OCH_OK;
}
