/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by check*.c only. */
#ifndef ADMIN_CHECK_INTERNAL_H
#define ADMIN_CHECK_INTERNAL_H

#include "admin/check.h"
#include "part/part.h"
#include "sysdb/sysdb.h"

struct check {
    struct check_options options;
    struct check_report *report;
    struct arena arena; /* paths, lists of files */
    struct io *io;
    struct clock *clock;
    struct budget budget;
    struct file *lock;
    struct sysdb *sysdb;
    struct store *store; /* NULL: there is no folder of blobs */
    struct cache *cache;
    uuid *missing; /* files that the catalogue knows and the store does not */
    size_t missing_count;
};
/** A line of the report. */
void check_fault(struct check *c, const char *format, ...) PRINTF_LIKE(2, 3);
/** Damage goes into the report; anything else ends the check. */
MUST_USE och_code check_note(struct check *c, och_code code, const och_error *found,
                             och_error *err);
/** Is a 16-byte id among sorted ones? */
bool check_holds(const uuid *sorted, size_t count, const void *id);
object_id check_object(uuid file);
#define CHECK_BLOB_SIZE 48
/** "blobs/66/66d29a77....blob", as it lies in the folder. */
const char *check_blob_name(uuid file, char text[CHECK_BLOB_SIZE]);
/** Every part of every collection. */
MUST_USE och_code check_collections(struct check *c, och_error *err);
#endif
