/* SPDX-License-Identifier: Apache-2.0 */
/* Room for what lies in memory long and is read here and there: pieces of a cache.  It comes from regions of 2 MiB that the kernel may back
 * with one huge page each, so that a look at a random place costs no walk through page tables. */
#ifndef BASE_PAGES_H
#define BASE_PAGES_H

#include "base/mem.h"

/**
 * `size` bytes, 64-byte aligned, whole pages where it matters; NULL when there are none.  Counts and fails like any
 * allocation of mem.h.  From 64 KiB to 2 MiB they come from a region; more is a mapping of its own, which leaves memory when it is freed; less (and
 * all with a host's allocator, and under sanitizers, which see the ends of heap blocks only) comes from the heap.  Cost: some hundred ns, and now and
 * then an mmap.
 */
void *pages_alloc(size_t size);
/** With the size that was asked for.  Up to `idle_max` bytes may stay backed for who comes next, but no more than 64 MiB and a quarter of what is used. */
void pages_free(void *at, size_t size, size_t idle_max);
/** From time to time: when nothing was freed since the last call, what is idle beyond pages_stats' least leaves memory. */
void pages_trim(void);

struct pages_stats {
    size_t regions, used_bytes;
    size_t
        idle_bytes; /* nobody's, but perhaps backed by memory: at the least 4 MiB and a sixteenth of what is used may be */
};
void pages_stats(struct pages_stats *ret_stats);

/* ---- base/mem.c has the counters; base/pages.c alone calls these ---- */
/** Is memory a host's affair? */
bool mem_is_hosted(void);
/** Count one attempt; false: it must fail.  Then, and when it was given back, mem_count_gone. */
bool mem_count_attempt(void);
void mem_count_gone(void);
#endif
