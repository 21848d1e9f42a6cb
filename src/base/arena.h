/* SPDX-License-Identifier: Apache-2.0 */
/* Memory freed by lifetime: every request, plan and build owns one.  One thread at a time. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include "base/mem.h"
#include "base/slice.h"

struct arena_block;
struct arena {
    struct arena_block *blocks; /* newest first */
    uint8_t *at, *end;          /* free room of the newest */
    struct budget *budget;      /* NULL = uncounted */
    size_t used_bytes, limit_bytes;
    size_t
        refused_bytes; /* what the budget had not when an allocation failed; 0: it was not the budget */
};

/** limit_bytes 0 = only the budget limits. */
void arena_init(struct arena *arena, struct budget *budget, size_t limit_bytes);
/** Frees everything; the arena can be used again. */
void arena_done(struct arena *arena);
/** 16-byte aligned, not zeroed; NULL when memory, budget or limit is used up. */
void *arena_alloc(struct arena *arena, size_t size);
void *arena_zalloc(struct arena *arena, size_t size);
void *arena_alloc_aligned(struct arena *arena, size_t align, size_t size);
/** NULL also when count * size overflows.  Zeroed. */
void *arena_array(struct arena *arena, size_t count, size_t size);
/** Copy with a NUL behind (not counted in len).  at == NULL when memory is used up. */
slice arena_copy(struct arena *arena, slice text);
const char *arena_printf(struct arena *arena, const char *format, ...) PRINTF_LIKE(2, 3);

#define ARENA_NEW(arena, type)          ((type *)arena_zalloc((arena), sizeof(type)))
#define ARENA_ARRAY(arena, type, count) ((type *)arena_array((arena), (count), sizeof(type)))
#endif
