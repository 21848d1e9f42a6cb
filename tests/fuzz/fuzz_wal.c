/* SPDX-License-Identifier: Apache-2.0 */
/* Arbitrary bytes as segments: headers that decode encode to the same bytes; opening never crashes; a log that opens gives
 * the same tails when opened again, for writing, and takes a batch that is then there.  So that inputs get past the
 * checksums, bit 0 of the first byte seals every header again. */
#include "unit/wal/fake_sysdb.h"

#include "base/bytes.h"
#include "base/io_sim.h"
#include "kernel/kernel.h"
#include "wal/wal.h"
#include "wal/wal_segment.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SEGMENT_MAX 16384u

enum input_flags { SEAL = 1, TWO = 2, NOTED = 4, DROPPED = 8 };

static const uuid ids[2] = {{{1, 1}}, {{2, 2}}};

#define CHECK(x)              \
    do {                      \
        if (!(x))             \
            __builtin_trap(); \
    } while (0)

static void seal_header(uint8_t *at, struct wal_name name, uint64_t byte)
{
    uint8_t seed[24];
    store_u64(seed, name.salt);
    store_u64(seed + 8, name.id);
    store_u64(seed + 16, byte);
    store_u32(at + 4, 0);
    uint32_t crc = kernel_get()->crc32c(0, seed, sizeof(seed));
    store_u32(at + 4, kernel_get()->crc32c(crc, at, WAL_HEADER_SIZE));
}

static void seal(uint8_t *at, size_t len, struct wal_name name)
{
    for (size_t i = 0; i + WAL_HEADER_SIZE <= len; i += WAL_ALIGN) {
        uint32_t magic = load_u32(at + i);
        if (magic == WAL_GROUP_MAGIC) {
            store_u64(at + i + 16, name.salt);
            store_u64(at + i + 24, name.id);
            store_u64(at + i + 32, i);
        } else if (magic == WAL_FRAME_MAGIC) {
            uint32_t payload = load_u32(at + i + 8);
            memcpy(at + i + 16, ids[at[i + 16] & 1].bytes, 16);
            if (payload <= len - i - WAL_HEADER_SIZE)
                store_u32(at + i + 12, kernel_get()->crc32c(0, at + i + WAL_HEADER_SIZE, payload));
        } else {
            continue;
        }
        seal_header(at + i, name, i);
    }
}

static void check_headers(const uint8_t *at, size_t len, struct wal_name name)
{
    uint8_t again[WAL_HEADER_SIZE];
    for (size_t i = 0; i + WAL_HEADER_SIZE <= len; i += WAL_ALIGN) {
        struct wal_group group;
        struct wal_frame frame;
        if (wal_group_decode(at + i, name, i, &group)) {
            wal_group_encode(&group, name, i, again);
            CHECK(memcmp(again, at + i, sizeof(again)) == 0);
        }
        if (wal_frame_decode(at + i, name, i, &frame)) {
            wal_frame_encode(&frame, name, i, again);
            CHECK(memcmp(again, at + i, sizeof(again)) == 0);
        }
    }
}

static void add_segment(struct io *io, struct sysdb *db, uint64_t id, uint8_t *at, size_t len,
                        bool sealed)
{
    struct wal_name name = {id, 0xd22f5048870c16bfu};
    char text[WAL_NAME_SIZE], path[WAL_NAME_SIZE + 8] = "log/";
    struct file *file;
    if (sealed)
        seal(at, len, name);
    check_headers(at, len, name);
    memcpy(path + 4, wal_name_format(name, text), WAL_NAME_SIZE);
    CHECK(io_open(io, path, IO_WRITE | IO_CREATE, &file, NULL) == OCH_OK);
    CHECK(file_write(file, 0, at, len, NULL) == OCH_OK);
    CHECK(file_truncate(file, SEGMENT_MAX, NULL) == OCH_OK);
    file_close(file);
    struct sysdb_segment row = {id, name.salt, SEGMENT_MAX};
    CHECK(sysdb_segment_add(db, &row, NULL) == OCH_OK);
}

struct sum {
    uint64_t hash, head, count;
    och_code code;
};

static struct sum tail_sum(struct wal *wal, uuid id)
{
    struct sum sum = {0};
    struct wal_batch **batches = NULL;
    size_t count = 0;
    uint32_t dimension;
    if (wal_head(wal, id, &sum.head, &dimension, NULL) != OCH_OK)
        return sum;
    sum.code = wal_tail(wal, id, 0, &batches, &count, NULL);
    uint64_t next = 0;
    for (size_t i = 0; sum.code == OCH_OK && i < count; i++) {
        CHECK(i == 0 ? batches[i]->first == 0 : batches[i]->first == next);
        next = batches[i]->first + batches[i]->count;
        sum.hash = sum.hash * 31 +
                   slice_hash(slice_make(batches[i]->payload->at, batches[i]->payload->len));
        wal_batch_unref(batches[i]);
    }
    if (sum.code == OCH_OK) {
        CHECK(count == 0 || next == sum.head);
        mem_free(batches);
    }
    sum.count = count;
    return sum;
}

static void add_one(struct wal *wal, uint64_t head)
{
    struct batch_input_row row = {.op = BATCH_DELETE, .id = slice_of("x")};
    struct batch_input input = {1, 0, &row};
    struct payload *payload = NULL;
    CHECK(batch_encode(&input, NULL, &payload, NULL) == OCH_OK);
    struct wal_append ask = {.collection = ids[0], .payload = payload, .count = 1};
    struct wal_appended got;
    CHECK(wal_append(wal, &ask, &got, NULL) == OCH_OK);
    CHECK(got.first == head);
    payload_unref(payload);
}

static void open_thrice(struct wal_options *options)
{
    struct wal *wal;
    struct sum sums[2];
    options->read_only = true;
    if (wal_open(options, &wal, NULL) != OCH_OK)
        return;
    for (size_t i = 0; i < 2; i++)
        sums[i] = tail_sum(wal, ids[i]);
    wal_free(wal);
    options->read_only = false;
    CHECK(wal_open(options, &wal, NULL) == OCH_OK);
    for (size_t i = 0; i < 2; i++) {
        struct sum sum = tail_sum(wal, ids[i]);
        CHECK(memcmp(&sum, &sums[i], sizeof(sum)) == 0);
    }
    bool drops = wal_head(wal, ids[0], &(uint64_t){0}, &(uint32_t){0}, NULL) != OCH_OK;
    // near the end of all offsets or sequences there is no place for another
    bool room = sums[0].head < UINT32_MAX;
    if (!drops && room)
        add_one(wal, sums[0].head);
    wal_free(wal);
    CHECK(wal_open(options, &wal, NULL) == OCH_OK);
    struct sum sum = tail_sum(wal, ids[0]);
    if (!drops && room) {
        CHECK(sum.head == sums[0].head + 1 && sum.code == sums[0].code);
        CHECK(sum.code != OCH_OK || sum.count == sums[0].count + 1);
    }
    wal_free(wal);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > SEGMENT_MAX)
        return 0;
    uint8_t flags = data[0];
    size_t len = size - 1, half = flags & TWO ? (len / 2) & ~(size_t)63 : len;
    struct io *io = io_sim_new(false);
    struct sysdb *db = fake_new();
    uint8_t *copy = mem_zalloc(len + 1);
    CHECK(io && db && copy);
    memcpy(copy, data + 1, len);
    CHECK(io_make_folder(io, "log", NULL) == OCH_OK);
    fake_add(db, ids[0]);
    fake_add(db, ids[1]);
    db->generation = 1 << 20;
    add_segment(io, db, 1, copy, half, flags & SEAL);
    if (flags & TWO)
        add_segment(io, db, 2, copy + half, len - half, flags & SEAL);
    if (flags & NOTED)
        db->end = (struct sysdb_log_end){true, flags & TWO ? 2u : 1u, half & ~(size_t)63, 1};
    if (flags & DROPPED)
        fake_drop(db, ids[1]);
    struct wal_options options = {
        .io = io, .folder = "log", .sysdb = db, .segment_bytes = SEGMENT_MAX, .seed = 3};
    open_thrice(&options);
    mem_free(copy);
    fake_free(db);
    io_sim_free(io);
    return 0;
}
