/* SPDX-License-Identifier: Apache-2.0 */
/* Memory between two forbidden pages, so that a read or write past either end is a crash. */
#ifndef TESTS_UNIT_KERNEL_GUARDED_H
#define TESTS_UNIT_KERNEL_GUARDED_H

#include "base/attr.h"

#include <sys/mman.h>
#include <unistd.h>

struct guarded {
    uint8_t *start, *end; /* what may be touched */
    size_t mapped;
};

static inline struct guarded guarded_new(size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t inner = (size_t)round_up(size, page);
    uint8_t *at =
        mmap(NULL, inner + 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(at != MAP_FAILED);
    assert_int_equal(mprotect(at, page, PROT_NONE), 0);
    assert_int_equal(mprotect(at + page + inner, page, PROT_NONE), 0);
    return (struct guarded){at + page, at + page + inner, inner + 2 * page};
}

static inline void guarded_free(struct guarded *memory)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    munmap(memory->start - page, memory->mapped);
}

/* Small, seeded and the same everywhere. */
static inline uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}
#endif
