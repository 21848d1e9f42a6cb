/* SPDX-License-Identifier: Apache-2.0 */
/* A segment's bytes: names, group headers, frame headers and a walk over them (D1, D2, docs/formats/log.md).
 * Everything here treats bytes as untrusted; encode and decode are inverses on what decode accepts. */
#ifndef WAL_WAL_SEGMENT_H
#define WAL_WAL_SEGMENT_H

#include "base/io.h"
#include "base/vec.h"
#include "model/uuid.h"

#define WAL_HEADER_SIZE   128u
#define WAL_ALIGN         64u
#define WAL_GROUP_MAGIC   0x5052474fu /* "OGRP" */
#define WAL_FRAME_MAGIC   0x4d52464fu /* "OFRM" */
#define WAL_VERSION_MAJOR 1u
#define WAL_VERSION_MINOR 0u
#define WAL_NAME_SIZE     38 /* 16 hex, '-', 16 hex, ".log", NUL */
#define WAL_RESERVE_NAME  "reserve"

/** A byte of the log; segment 0 is "nowhere", before all others. */
struct wal_place {
    uint64_t segment, byte;
};
static inline int wal_place_compare(struct wal_place a, struct wal_place b)
{
    if (a.segment != b.segment)
        return a.segment < b.segment ? -1 : 1;
    return (a.byte > b.byte) - (a.byte < b.byte);
}

/** What a segment's file name says, and what seeds its checksums. */
struct wal_name {
    uint64_t id, salt;
};
const char *wal_name_format(struct wal_name name, char text[WAL_NAME_SIZE]);
/** Exactly what wal_name_format makes, else false. */
bool wal_name_parse(const char *text, struct wal_name *ret_name);

enum wal_group_flags {
    WAL_GROUP_FIRST = 1, /* of its segment: `ended` says where the log went before */
    WAL_GROUP_LAST = 2   /* of its segment: nothing follows in it */
};
struct wal_group {
    uint64_t size; /* with headers, payloads and padding */
    uint32_t frame_count;
    uint32_t flags;
    uint64_t sequence;       /* ascends by one within a segment */
    struct wal_place synced; /* everything before it was durable when this was written */
    struct wal_place ended;  /* FIRST: the segment with groups before this one, and where it ends */
    uint64_t generation;     /* of the catalogue */
};

enum wal_kinds { /* bits 1-4: 1 << enum batch_op */
                 WAL_KIND_VECTORS = 1 << 8,
                 WAL_KIND_DOCUMENTS = 1 << 9,
                 WAL_KIND_URIS = 1 << 10,
                 WAL_KIND_METADATA = 1 << 11,
                 WAL_KIND_EXPIRY = 1 << 12,
                 WAL_KINDS_ALL = 0x1f1e
};
struct wal_frame {
    uint32_t payload_size, payload_crc;
    uint32_t count, dimension;
    uint32_t kinds, index; /* index: within the group */
    uuid collection, batch_id;
    uint64_t first, request_hash;
    uint64_t sequence; /* the group's */
    int64_t created_at;
};
/** Header, payload and padding. */
static inline uint64_t wal_frame_bytes(uint32_t payload_size)
{
    return WAL_HEADER_SIZE + round_up(payload_size, WAL_ALIGN);
}

void wal_group_encode(const struct wal_group *group, struct wal_name name, uint64_t byte,
                      uint8_t out[WAL_HEADER_SIZE]);
/** Whether these 128 bytes are a group header that was written at this place. */
bool wal_group_decode(const uint8_t at[WAL_HEADER_SIZE], struct wal_name name, uint64_t byte,
                      struct wal_group *ret_group);
/** A sound header of a format that this version does not know. */
bool wal_group_unknown(const uint8_t at[WAL_HEADER_SIZE], struct wal_name name, uint64_t byte);
void wal_frame_encode(const struct wal_frame *frame, struct wal_name name, uint64_t byte,
                      uint8_t out[WAL_HEADER_SIZE]);
bool wal_frame_decode(const uint8_t at[WAL_HEADER_SIZE], struct wal_name name, uint64_t byte,
                      struct wal_frame *ret_frame);

/** A frame found by a walk. */
struct wal_found {
    struct wal_frame frame;
    uint64_t byte; /* of its header */
};
typedef VEC(struct wal_found) wal_found_list;

/** Reads headers of one segment through a window, payloads are jumped over. */
struct wal_walk {
    struct file *file; /* borrowed */
    struct wal_name name;
    uint64_t size; /* bytes of the segment */
    uint8_t *window;
    uint64_t window_at;
    size_t window_len;
};
MUST_USE och_code wal_walk_init(struct wal_walk *walk, struct file *file, struct wal_name name,
                                uint64_t size, och_error *err);
void wal_walk_done(struct wal_walk *walk);
/**
 * Read the group at `byte`: its header and those of all its frames.  *ret_sound false when some header is not sound.
 * frames (may be NULL) gets the frames appended when the group is sound.  Errors: OCH_IO, OCH_NO_MEMORY,
 * OCH_INVALID (a format newer than ours: never cut).
 */
MUST_USE och_code wal_walk_group(struct wal_walk *walk, uint64_t byte, struct wal_group *ret_group,
                                 wal_found_list *frames, bool *ret_sound, och_error *err);
/** The frame header at `byte`. */
MUST_USE och_code wal_walk_frame(struct wal_walk *walk, uint64_t byte, struct wal_frame *ret_frame,
                                 bool *ret_sound, och_error *err);
/**
 * Look for a sound group in 64-byte steps in [from, to).  *ret_byte = to when there is none.
 * *ret_zero tells whether everything in [from, *ret_byte) is zero.
 */
MUST_USE och_code wal_walk_search(struct wal_walk *walk, uint64_t from, uint64_t to,
                                  uint64_t *ret_byte, struct wal_group *ret_group, bool *ret_zero,
                                  och_error *err);
/** Checksum of a payload on disk, read in pieces. */
MUST_USE och_code wal_walk_payload(struct wal_walk *walk, const struct wal_found *found,
                                   bool *ret_sound, och_error *err);
#endif
