/* SPDX-License-Identifier: Apache-2.0 */
/* What tests of forks and kept versions ask the disk and the catalogue: files that several of them share. */
#ifndef GATEWAY_SHARED_PARTS_H
#define GATEWAY_SHARED_PARTS_H

#include "gateway_test.h"

static uuid id_of(const char *text)
{
    uuid id;
    assert_true(uuid_parse(slice_of(text), &id));
    return id;
}

static size_t blobs(struct stack *s)
{
    struct arena arena;
    struct io_entry *folders = NULL, *files = NULL;
    size_t count = 0, inner, total = 0;
    arena_init(&arena, NULL, 0);
    OK(io_list(s->io, "blobs", &arena, &folders, &count, err));
    for (size_t i = 0; i < count; i++) {
        OK(io_list(s->io, arena_printf(&arena, "blobs/%s", folders[i].name), &arena, &files, &inner,
                   err));
        total += inner;
    }
    arena_done(&arena);
    return total;
}

static void verify(struct stack *s)
{
    struct buf report;
    uint64_t faults = 0;
    buf_init(&report, BUF_MAX_NONE);
    OK(sysdb_verify(s->sysdb, &report, &faults, err));
    if (faults)
        fail_msg("%.*s", SLICE_ARG(buf_view(&report)));
    buf_done(&report);
}

#endif
