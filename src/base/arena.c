/* SPDX-License-Identifier: Apache-2.0 */
/* A chain of blocks that double in size.  Blocks, not single allocations, are charged to the budget
 * and the limit; when a doubled block is over them, one that just fits is tried. */
#include "base/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct arena_block {
    struct arena_block *next; /* older */
    size_t size;              /* with this header */
};

#define BLOCK_HEADER 16u
#define BLOCK_FIRST  2048u
#define BLOCK_MAX    (1u << 20)
#define ALIGN        16u

static_assert(sizeof(struct arena_block) <= BLOCK_HEADER, "blocks hand out 16-byte alignment");

void arena_init(struct arena *arena, struct budget *budget, size_t limit_bytes)
{
    *arena = (struct arena){.budget = budget, .limit_bytes = limit_bytes};
}

void arena_done(struct arena *arena)
{
    if (!arena)
        return;
    for (struct arena_block *block = arena->blocks; block;) {
        struct arena_block *next = block->next;
        mem_free(block);
        block = next;
    }
    if (arena->budget && arena->used_bytes)
        budget_give(arena->budget, arena->used_bytes);
    arena_init(arena, arena->budget, arena->limit_bytes);
}

static struct arena_block *block_new(struct arena *arena, size_t size)
{
    if (arena->limit_bytes &&
        (arena->used_bytes > arena->limit_bytes || size > arena->limit_bytes - arena->used_bytes))
        return NULL;
    if (budget_take(arena->budget, size, "arena", NULL) != OCH_OK) {
        arena->refused_bytes = size;
        return NULL;
    }
    arena->refused_bytes = 0;
    struct arena_block *block = mem_alloc(size);
    if (!block) {
        budget_give(arena->budget, size);
        return NULL;
    }
    block->size = size;
    arena->used_bytes += size;
    return block;
}

/* Room for `size` bytes (a multiple of ALIGN) that the newest block does not have. */
static NO_INLINE void *alloc_slow(struct arena *arena, size_t size)
{
    size_t wanted;
    if (add_overflows(size, BLOCK_HEADER, &wanted))
        return NULL;
    size_t usual = min_size(max_size(arena->used_bytes, BLOCK_FIRST), BLOCK_MAX);
    bool own =
        wanted > usual / 2 && arena->blocks; // a big one gets its own, the newest stays in use
    struct arena_block *block = NULL;
    if (!own)
        block = block_new(arena, max_size(usual, wanted));
    if (!block)
        block = block_new(arena, wanted);
    if (!block)
        return NULL;
    uint8_t *at = (uint8_t *)block + BLOCK_HEADER;
    if (own) {
        block->next = arena->blocks->next;
        arena->blocks->next = block;
        return at;
    }
    block->next = arena->blocks;
    arena->blocks = block;
    arena->at = at + size;
    arena->end = (uint8_t *)block + block->size;
    return at;
}

void *arena_alloc(struct arena *arena, size_t size)
{
    if (UNLIKELY(size > PTRDIFF_MAX - 4096))
        return NULL;
    size = round_up(size ? size : 1, ALIGN);
    if (LIKELY(size <= (size_t)(arena->end - arena->at))) {
        uint8_t *at = arena->at;
        arena->at += size;
        return at;
    }
    return alloc_slow(arena, size);
}

void *arena_zalloc(struct arena *arena, size_t size)
{
    void *at = arena_alloc(arena, size);
    if (at)
        memset(at, 0, size);
    return at;
}

void *arena_alloc_aligned(struct arena *arena, size_t align, size_t size)
{
    assert(align > 0 && align <= 4096 && (align & (align - 1)) == 0);
    size_t wanted;
    if (align <= ALIGN)
        return arena_alloc(arena, size);
    if (add_overflows(size, align - ALIGN, &wanted))
        return NULL;
    uint8_t *at = arena_alloc(arena, wanted);
    return at ? at + (round_up((uintptr_t)at, align) - (uintptr_t)at) : NULL;
}

void *arena_array(struct arena *arena, size_t count, size_t size)
{
    size_t whole;
    return mul_overflows(count, size, &whole) ? NULL : arena_zalloc(arena, whole);
}

slice arena_copy(struct arena *arena, slice text)
{
    size_t size;
    uint8_t *at = add_overflows(text.len, 1, &size) ? NULL : arena_alloc(arena, size);
    if (!at)
        return SLICE_NONE;
    if (text.len)
        memcpy(at, text.at, text.len);
    at[text.len] = '\0';
    return (slice){at, text.len};
}

const char *arena_printf(struct arena *arena, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = len < 0 ? NULL : arena_alloc(arena, (size_t)len + 1);
    if (text)
        (void)vsnprintf(text, (size_t)len + 1, format, again);
    va_end(again);
    return text;
}
