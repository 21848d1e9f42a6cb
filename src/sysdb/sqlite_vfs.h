/* SPDX-License-Identifier: Apache-2.0 */
/* SQLite's files over struct io, so that the same catalogue runs on a disk, in memory and through simulated power cuts.
 * Every page of the catalogue file carries a checksum in its last 8 bytes (docs/formats/catalogue.md), set when the page is
 * written and checked when it is read; pages read back from the write-ahead log are checked against their frame. */
#ifndef SYSDB_SQLITE_VFS_H
#define SYSDB_SQLITE_VFS_H

#include "base/clock.h"
#include "base/io.h"

#include <sqlite3.h>

#define CATALOGUE_PAGE     4096u
#define CATALOGUE_RESERVED 8u /* bytes at the end of each page that SQLite leaves to us */

/** What the connections to one catalogue share: locks and the index of the write-ahead log, on the heap, since the data
 *  folder's lock (D32) keeps other processes out.  Any thread. */
struct sqlite_shared;
MUST_USE och_code sqlite_shared_new(struct sqlite_shared **ret_shared, och_error *err);
void sqlite_shared_free(struct sqlite_shared *shared);

/** One connection's file system, registered with SQLite.  `clock` tells SQLite's time.  One thread at a time.
 *  read_only: no file is made, changed or removed; a missing write-ahead log reads as empty. */
struct sqlite_vfs;
MUST_USE och_code sqlite_vfs_new(struct io *io, struct clock *clock, bool read_only,
                                 struct sqlite_shared *shared, struct sqlite_vfs **ret_vfs,
                                 och_error *err);
/** After all connections are closed. */
void sqlite_vfs_free(struct sqlite_vfs *vfs);
/** For sqlite3_open_v2. */
const char *sqlite_vfs_name(const struct sqlite_vfs *vfs);
/** What the disk said last, or code OCH_OK; forgets it. */
och_error sqlite_vfs_take_error(struct sqlite_vfs *vfs);

/** Look for damage that SQLite would take for the torn end of a write-ahead log: a bad frame before a sound one that was
 *  written later.  catalogue_path: the file that the log belongs to; how large it is tells headers from noise.  A missing log
 *  is fine.  OCH_CORRUPT names the frame. */
MUST_USE och_code sqlite_wal_check(struct io *io, const char *path, const char *catalogue_path,
                                   och_error *err);
/** The running checksum of a write-ahead log over `len` bytes (a multiple of 8), big- or little-endian words. */
void sqlite_wal_sum(const uint8_t *at, size_t len, bool big_endian, uint32_t sum[2]);
/** Is the page of frame `index` (from 0) what its header says?  `page` holds its bytes. */
MUST_USE och_code sqlite_wal_check_frame(struct file *file, uint64_t index, const uint8_t *page,
                                         och_error *err);
#endif
