/* SPDX-License-Identifier: Apache-2.0 */
/* All heap goes through here, so tests can make the n-th allocation fail and hosts can bring their
 * own allocator.  Memory that a client can make grow is charged to a budget (D24). */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include "base/error.h"

#include <stdatomic.h>

void mem_free(void *pointer);
/** NULL when there is none.  16-byte aligned; size 0 gives a unique pointer. */
void *mem_alloc(size_t size) __attribute__((malloc, alloc_size(1)));
void *mem_zalloc(size_t size) __attribute__((malloc, alloc_size(1)));
void *mem_realloc(void *pointer, size_t size) __attribute__((alloc_size(2)));
/** For vectors and pages: `align` a power of two up to 4096.  Free with mem_free_aligned only. */
void *mem_alloc_aligned(size_t align, size_t size) __attribute__((malloc));
void mem_free_aligned(void *pointer);
/** Copy `len` bytes and add a NUL behind them. */
char *mem_copy_text(const void *at, size_t len);

#define MEM_NEW(type) ((type *)mem_zalloc(sizeof(type)))

/* CLEANUP(mem_cleanup) char *text = ...; */
void mem_cleanup(void *pointer_to_pointer);

/** Whole process, before the first allocation; `alloc(user, old, size)` is realloc and, with size 0, free. */
void mem_set_allocator(void *(*alloc)(void *user, void *old, size_t size), void *user);
/** Tests: let the n-th allocation from now (1 = the next) and only that one fail; 0 = none. */
void mem_fail_at(uint64_t nth);
/** Tests: allocations since the process began, and those not yet freed. */
uint64_t mem_count_allocations(void);
uint64_t mem_count_live(void);

/** A limit on bytes, optionally inside a parent's.  Counting is exact, atomic and lock-free. */
struct budget {
    _Atomic int64_t used_bytes;
    int64_t limit_bytes; /* 0 = none of its own */
    struct budget *parent;
};

void budget_init(struct budget *budget, int64_t limit_bytes, struct budget *parent);
/** Errors: OCH_BUSY naming what, wanted, free and limit; then nothing was taken.  budget NULL = no limit. */
MUST_USE och_code budget_take(struct budget *budget, size_t bytes, const char *what,
                              och_error *err);
/** Take without asking: for what cannot be refused any more.  */
void budget_force(struct budget *budget, size_t bytes);
void budget_give(struct budget *budget, size_t bytes);
int64_t budget_used(const struct budget *budget);
/** Bytes still free, the tightest of it and its parents; may be negative. */
int64_t budget_free(const struct budget *budget);
#endif
