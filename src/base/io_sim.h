/* SPDX-License-Identifier: Apache-2.0 */
/* A disk in memory, for databases without a folder and for tests: it can lose power (unsynced writes,
 * creations, renames and sizes are dropped, reordered or torn at 512-byte sectors, as a seed says), fail
 * the n-th operation, and fill up. */
#ifndef BASE_IO_SIM_H
#define BASE_IO_SIM_H

#include "base/clock.h"
#include "base/io.h"

enum io_sim_operation { /* which kind io_sim_fail_at counts */
                        IO_SIM_ANY,
                        IO_SIM_WRITE,
                        IO_SIM_SYNC,
                        IO_SIM_RENAME,
                        IO_SIM_OPEN,
                        IO_SIM_REMOVE,
                        IO_SIM_READ
};

/** keep_history: remember what is not yet synced, so that power can fail; costs memory. */
struct io *io_sim_new(bool keep_history);
void io_sim_free(struct io *io);
/** What a machine finds after the power failed now: a new disk; open files of the old one stay usable
 *  but no longer matter.  Same seed, same image. */
struct io *io_sim_power_cut(struct io *io, uint64_t seed);
/** Everything counted as synced, a plain copy: the image of a clean stop. */
struct io *io_sim_copy(struct io *io);
/** Let the n-th operation of a kind from now on fail with os_errno; `stuck` = every later one too; n 0 = stop failing. */
void io_sim_fail_at(struct io *io, enum io_sim_operation kind, uint64_t nth, int os_errno,
                    bool stuck);
/** Operations of a kind so far. */
uint64_t io_sim_count(struct io *io, enum io_sim_operation kind);
/** Bytes that all files together may hold; 0 = no limit. Beyond it writes fail with ENOSPC. */
void io_sim_set_capacity(struct io *io, uint64_t bytes);
/** Direct access for damage tests: change bytes of a file behind everyone's back. */
MUST_USE och_code io_sim_poke(struct io *io, const char *path, uint64_t offset, const void *at,
                              size_t len, och_error *err);
#endif
