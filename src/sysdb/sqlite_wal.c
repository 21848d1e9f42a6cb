/* SPDX-License-Identifier: Apache-2.0 */
/* Telling damage from a torn end in SQLite's write-ahead log (format: sqlite.org/fileformat2.html §4).
 *
 * SQLite stops at the first frame whose running checksum is wrong and forgets all behind it.  That is right after a power
 * cut, when the last transaction was not synced; it silently loses acknowledged writes when a bit rots in the middle.  With
 * synchronous=FULL the header is synced before the first frame, and each commit before the next transaction's frames are
 * written.  So a bad frame is damage when the transaction it belongs to ended and a sound frame of a later one follows.
 * That it ended may be told by the header of a bad frame, half of which may be noise from a torn sector: it counts only with
 * figures that a catalogue of this size can have. */
#include "sysdb/sqlite_vfs.h"

#include "base/bytes.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define HEADER       32u
#define FRAME_HEADER 24u
#define FRAME        (FRAME_HEADER + CATALOGUE_PAGE)
#define MAGIC        0x377f0682u /* the lowest bit set: big-endian checksums */

static uint32_t load_big(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | (uint32_t)p[3];
}

void sqlite_wal_sum(const uint8_t *at, size_t len, bool big_endian, uint32_t sum[2])
{
    assert(len % 8 == 0);
    uint32_t a = sum[0], b = sum[1];
    for (size_t i = 0; i < len; i += 8) {
        a += (big_endian ? load_big(at + i) : load_u32(at + i)) + b;
        b += (big_endian ? load_big(at + i + 4) : load_u32(at + i + 4)) + a;
    }
    sum[0] = a, sum[1] = b;
}

/* Does a frame follow from the checksum that stands before it? */
static bool follows(const uint8_t *before, const uint8_t *header, const uint8_t *page, bool big)
{
    uint32_t sum[2] = {load_big(before), load_big(before + 4)};
    sqlite_wal_sum(header, 8, big, sum);
    sqlite_wal_sum(page, CATALOGUE_PAGE, big, sum);
    return sum[0] == load_big(header + 16) && sum[1] == load_big(header + 20);
}

och_code sqlite_wal_check_frame(struct file *file, uint64_t index, const uint8_t *page,
                                och_error *err)
{
    uint8_t first[4], before[8], header[FRAME_HEADER];
    TRY(file_read_all(file, 0, first, sizeof(first), err));
    uint64_t at = HEADER + index * FRAME;
    uint64_t sum_at = index == 0 ? HEADER - 8 : at - FRAME + 16;
    TRY(file_read_all(file, sum_at, before, sizeof(before), err));
    TRY(file_read_all(file, at, header, sizeof(header), err));
    if (follows(before, header, page, load_big(first) & 1))
        return OCH_OK;
    return FAIL(err, OCH_CORRUPT, "frame %" PRIu64 " of %s does not match its checksum", index + 1,
                file_path(file));
}

static bool header_sound(const uint8_t *header)
{
    uint32_t magic = load_big(header), sum[2] = {0, 0};
    if ((magic & ~1u) != MAGIC || load_big(header + 8) != CATALOGUE_PAGE)
        return false;
    sqlite_wal_sum(header, HEADER - 8, magic & 1, sum);
    return sum[0] == load_big(header + HEADER - 8) && sum[1] == load_big(header + HEADER - 4);
}

/* Does a frame's header, the checksum of which is wrong, end a transaction?  pages: the most that the catalogue can have. */
static bool ends_transaction(const uint8_t *header, uint64_t pages)
{
    uint32_t page = load_big(header), size = load_big(header + 4);
    return size != 0 && page != 0 && page <= size && size <= pages;
}

static och_code scan(struct file *file, uint64_t size, uint64_t catalogue_pages, och_error *err)
{
    uint8_t head[HEADER], before[8];
    if (size <= HEADER)
        return OCH_OK; // being made when the power went: nothing was acknowledged
    TRY(file_read_all(file, 0, head, sizeof(head), err));
    if (!header_sound(head))
        return FAIL(err, OCH_CORRUPT, "the header of %s is damaged", file_path(file));
    CLEANUP(mem_cleanup) uint8_t *frame = mem_alloc(FRAME);
    if (!frame)
        return FAIL_NO_MEMORY(err, "a frame");
    memcpy(before, head + HEADER - 8, 8);
    uint64_t bad = UINT64_MAX; // the first bad frame
    bool ended = false;        // its transaction ended, as far as headers say
    uint64_t count = (size - HEADER) / FRAME;
    for (uint64_t i = 0; i < count; i++) {
        TRY(file_read_all(file, HEADER + i * FRAME, frame, FRAME, err));
        bool ours =
            memcmp(frame + 8, head + 16, 8) == 0; // else left from before the log began anew
        bool sound = ours && follows(before, frame, frame + FRAME_HEADER, load_big(head) & 1);
        if (!sound && bad == UINT64_MAX)
            bad = i;
        if (sound && ended)
            return FAIL(err, OCH_CORRUPT,
                        "frame %" PRIu64 " of %s is damaged, though frame %" PRIu64
                        ", written after it was durable, is sound",
                        bad + 1, file_path(file), i + 1);
        // a new page of the catalogue is a frame here before it is a page there
        if (bad != UINT64_MAX && ours && ends_transaction(frame, catalogue_pages + count))
            ended = true;
        memcpy(before, frame + 16, 8);
    }
    return OCH_OK;
}

och_code sqlite_wal_check(struct io *io, const char *path, const char *catalogue_path,
                          och_error *err)
{
    CLEANUP(file_cleanup) struct file *file = NULL;
    och_error missing = {0};
    uint64_t size;
    och_code code = io_open(io, path, 0, &file, &missing);
    if (code == OCH_NOT_FOUND)
        return OCH_OK;
    if (code != OCH_OK) {
        if (err)
            *err = missing;
        return code;
    }
    TRY(file_size(file, &size, err));
    struct io_entry catalogue;
    TRY(io_stat(io, catalogue_path, &catalogue, err));
    return scan(file, size, catalogue.size / CATALOGUE_PAGE, err);
}
