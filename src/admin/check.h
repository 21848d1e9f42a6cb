/* SPDX-License-Identifier: Apache-2.0 */
/* Offline verification of a folder: catalogue, log, blobs, parts, and what they say of one another.  Changes nothing. */
#ifndef ADMIN_CHECK_H
#define ADMIN_CHECK_H

#include "base/buf.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/sched.h"
#include "base/trace.h"

struct check_options {
    const char *path; /* the folder */
    bool deep;        /* also look up every live id in every part of its collection */
    struct io *io;    /* NULL: the machine's */
    struct clock *clock;
    struct trace *trace;        /* NULL: nobody listens */
    int64_t memory_limit_bytes; /* 0: 512 MiB */
    struct limits_of_work limits;
};
/** What was looked at and found; check_report_done frees it. */
struct check_report {
    uint64_t collections, parts, rows, blobs, blob_bytes, frames;
    uint64_t faults;
    struct buf lines; /* a line per fault: what, where, what is wrong; ends with newlines */
};

/**
 * Verify everything.  Damage is no error: it stands in the report.
 * Locks:   the folder is shared with readers meanwhile, not with a writer.
 * Errors:  OCH_NOT_FOUND (no such folder, no database in it), OCH_IN_USE, OCH_IO, OCH_NO_MEMORY, OCH_CANCELLED.
 */
MUST_USE och_code check_folder(const struct check_options *options, struct check_report *ret_report,
                               och_error *err);
void check_report_done(struct check_report *report);
/** For people: the faults, then a summary. */
void check_report_write(const struct check_report *report, struct buf *out);
/** {"faults": n, "lines": [...], "collections": ..., ...} and a newline. */
void check_report_write_json(const struct check_report *report, struct buf *out);
#endif
