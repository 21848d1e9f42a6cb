/* SPDX-License-Identifier: Apache-2.0 */
/* Checking an index of a part: it is built again from the rows and held against what is stored, byte by byte.  Inside part/ only. */
#ifndef PART_PART_COMPARE_H
#define PART_PART_COMPARE_H

#include "part/part_internal.h"

struct part_comparison {
    struct part *part;
    unsigned id;             /* of the section */
    enum record_field field; /* what the index is of: RECORD_METADATA or RECORD_DOCUMENT */
    struct arena arena;
    struct part_reads reads;
    uint64_t at, fault_at; /* so far the same; where the last piece began */
    bool differs;
};
void part_comparison_init(struct part_comparison *c, struct part *part, unsigned id,
                          enum record_field field);
/** Where the index is built to; the context is the comparison.  Differences are noted, not told. */
och_code part_comparison_emit(void *context, const void *at, size_t len, och_error *err);
/** What it is built from: one field of a row, valid until the next 1,024 rows are begun. */
och_code part_comparison_row(void *context, uint32_t row, slice *ret, och_error *err);
/** The end: `what` and its place if something differed, also by its length; what it holds goes. */
void part_comparison_done(struct part_comparison *c, const char *what, const char **ret_fault,
                          uint64_t *ret_offset);
#endif
