/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the two halves of opening: wal_recover.c (files, chain, where to go on) and wal_replay.c (groups, frames). */
#ifndef WAL_WAL_RECOVER_H
#define WAL_WAL_RECOVER_H

#include "wal/wal_internal.h"

#define NO_LIMIT UINT64_MAX

struct link { /* a segment while the log is being opened */
    struct wal_segment *segment;
    struct wal_group first;
    bool has_first, chained;
    uint64_t
        limit; /* where it ends, as the next one says; NO_LIMIT: it must say so itself, or it is the tail */
};
struct group_at {
    uint64_t byte, end, sequence;
    size_t frames; /* before it in the list */
    struct wal_place synced;
};
struct recovery {
    struct wal *wal;
    struct arena arena;
    struct link *links;
    size_t count;
    size_t tail; /* index, == count when there is no group at all */
    struct sysdb_log_end noted;
    uuid *tombs;
    uint64_t *tombs_last; /* highest segment with frames of it */
    size_t tomb_count;
    const char **leftover; /* names of files to remove */
    size_t leftover_count;
    uint64_t generation;
    struct wal_place synced;     /* the highest that anybody says */
    VEC(struct group_at) groups; /* of the segment being walked */
    wal_found_list frames;
    uint64_t end;   /* of the tail */
    bool rest_zero; /* nothing was ever written behind it */
    bool closed;    /* the tail's last group is LAST */
};

och_code wal_corrupt(och_error *err, const struct wal_segment *segment, uint64_t byte,
                     const char *what);
/** Walk a segment of the chain, judge what is not sound in it, and put its frames into the index. */
MUST_USE och_code wal_replay(struct recovery *r, size_t index, och_error *err);
#endif
