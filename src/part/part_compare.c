/* SPDX-License-Identifier: Apache-2.0 */
/* An index that is built again, held against the stored one. */
#include "part/part_compare.h"

#define ROWS_AT_ONCE 1024 /* then what was read is given back */

void part_comparison_init(struct part_comparison *c, struct part *part, unsigned id,
                          enum record_field field)
{
    assert(field == RECORD_METADATA || field == RECORD_DOCUMENT);
    *c = (struct part_comparison){.part = part, .id = id, .field = field};
    arena_init(&c->arena, NULL, 0);
    part_reads_init(&c->reads, part->env.cache, &c->arena);
}

och_code part_comparison_emit(void *context, const void *at, size_t len, och_error *err)
{
    struct part_comparison *c = context;
    const struct part_section *section = &c->part->sections[c->id];
    c->differs = c->differs || len > section->size - c->at;
    if (c->differs || !len)
        return OCH_OK;
    CLEANUP(mem_cleanup) uint8_t *stored = mem_alloc(len);
    if (!stored)
        return FAIL_NO_MEMORY(err, "checking an index");
    TRY(part_load_range(c->part, c->id, c->at, stored, len, err));
    c->differs = memcmp(stored, at, len) != 0;
    c->fault_at = c->at;
    c->at += len;
    return OCH_OK;
}

och_code part_comparison_row(void *context, uint32_t row, slice *ret, och_error *err)
{
    struct part_comparison *c = context;
    struct record record;
    if (row % ROWS_AT_ONCE == 0)
        part_reads_done(&c->reads);
    TRY(part_read(c->part, &c->reads, row, c->field, &record, err));
    *ret = c->field == RECORD_DOCUMENT ? record.document : record.metadata;
    return OCH_OK;
}

void part_comparison_done(struct part_comparison *c, const char *what, const char **ret_fault,
                          uint64_t *ret_offset)
{
    part_reads_done(&c->reads);
    arena_done(&c->arena);
    if (!c->differs && c->at == c->part->sections[c->id].size)
        return;
    *ret_fault = what;
    *ret_offset = c->fault_at;
}
