/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by recall*.c only. */
#ifndef ADMIN_RECALL_INTERNAL_H
#define ADMIN_RECALL_INTERNAL_H

#include "admin/recall.h"
#include "json/json.h"

struct recall_collection { /* one that is probed */
    slice name, id;
    uint64_t records;
    uint32_t dimension;
};
/** Send a request below the database's path; the answer is JSON in the arena.  `what` names it in errors. */
MUST_USE och_code recall_ask(const struct recall_options *options, const char *method,
                             const char *path, slice body, const char *what, struct arena *arena,
                             struct json_value *ret_value, och_error *err);
/** The collections that are meant; with their sizes. */
MUST_USE och_code recall_find(const struct recall_options *options, struct arena *arena,
                              struct recall_collection **ret_found, size_t *ret_count,
                              och_error *err);
/** An unsigned number of an object, 0 if it is not there. */
double recall_number(const struct json_value *object, const char *name);
#endif
