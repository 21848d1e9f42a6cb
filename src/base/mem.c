/* SPDX-License-Identifier: Apache-2.0 */
/* The heap, with counting and failure on order, and budgets.  The counters are relaxed: they are
 * statistics, and the tests that read them have joined their threads. */
#include "base/pages.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
    void *(*alloc)(void *user, void *old, size_t size);
    void *user;
} hook;

static _Atomic uint64_t allocation_count, free_count;
static _Atomic uint64_t fail_at; /* the value of allocation_count that must fail; 0 = none */

void mem_set_allocator(void *(*alloc)(void *user, void *old, size_t size), void *user)
{
    hook.alloc = alloc;
    hook.user = user;
}

void mem_fail_at(uint64_t nth)
{
    uint64_t now = atomic_load_explicit(&allocation_count, memory_order_relaxed);
    atomic_store_explicit(&fail_at, nth ? now + nth : 0, memory_order_relaxed);
}

uint64_t mem_count_allocations(void)
{
    return atomic_load_explicit(&allocation_count, memory_order_relaxed);
}

/* A refused attempt counts as allocated and gone at once, so the difference is what lives. */
uint64_t mem_count_live(void)
{
    uint64_t gone = atomic_load_explicit(&free_count, memory_order_relaxed);
    return atomic_load_explicit(&allocation_count, memory_order_relaxed) - gone;
}

/* Count one attempt; false when a test wants it refused. */
static bool begin(void)
{
    uint64_t now = atomic_fetch_add_explicit(&allocation_count, 1, memory_order_relaxed) + 1;
    return LIKELY(now != atomic_load_explicit(&fail_at, memory_order_relaxed));
}

static void count_gone(void)
{
    atomic_fetch_add_explicit(&free_count, 1, memory_order_relaxed);
}

bool mem_is_hosted(void)
{
    return hook.alloc != NULL;
}

bool mem_count_attempt(void)
{
    return begin();
}

void mem_count_gone(void)
{
    count_gone();
}

void mem_free(void *pointer)
{
    if (!pointer)
        return;
    count_gone();
    if (UNLIKELY(hook.alloc != NULL))
        (void)hook.alloc(hook.user, pointer, 0);
    else
        free(pointer);
}

void *mem_alloc(size_t size)
{
    void *ret = NULL;
    size = size ? size : 1;
    if (begin() && size <= PTRDIFF_MAX)
        ret = UNLIKELY(hook.alloc != NULL) ? hook.alloc(hook.user, NULL, size) : malloc(size);
    if (UNLIKELY(!ret))
        count_gone();
    return ret;
}

void *mem_zalloc(size_t size)
{
    void *ret = NULL;
    size = size ? size : 1;
    if (UNLIKELY(hook.alloc != NULL)) {
        ret = mem_alloc(size);
        if (ret)
            memset(ret, 0, size);
        return ret;
    }
    if (begin() && size <= PTRDIFF_MAX)
        ret = calloc(1, size);
    if (UNLIKELY(!ret))
        count_gone();
    return ret;
}

void *mem_realloc(void *pointer, size_t size)
{
    if (!pointer)
        return mem_alloc(size);
    void *ret = NULL;
    size = size ? size : 1;
    bool allowed = begin() && size <= PTRDIFF_MAX;
    count_gone(); // the old block, or this attempt when it fails
    if (allowed)
        ret = UNLIKELY(hook.alloc != NULL) ? hook.alloc(hook.user, pointer, size)
                                           : realloc(pointer, size);
    return ret;
}

/* With a host's allocator: [ room to align | pointer to the start | aligned memory ]. */
static void *hook_aligned(size_t align, size_t size)
{
    size_t whole;
    if (add_overflows(size, align + sizeof(void *), &whole) || whole > PTRDIFF_MAX)
        return NULL;
    uint8_t *start = hook.alloc(hook.user, NULL, whole);
    if (!start)
        return NULL;
    uintptr_t place = (uintptr_t)start + sizeof(void *);
    uint8_t *ret = start + sizeof(void *) + (round_up(place, align) - place);
    memcpy(ret - sizeof(void *), &start, sizeof(void *));
    return ret;
}

void *mem_alloc_aligned(size_t align, size_t size)
{
    assert(align > 0 && align <= 4096 && (align & (align - 1)) == 0);
    void *ret = NULL;
    align = max_size(align, 16);
    size = size ? size : 1;
    if (begin() && size <= PTRDIFF_MAX - align)
        ret = UNLIKELY(hook.alloc != NULL) ? hook_aligned(align, size)
                                           : aligned_alloc(align, round_up(size, align));
    if (UNLIKELY(!ret))
        count_gone();
    return ret;
}

void mem_free_aligned(void *pointer)
{
    if (!pointer)
        return;
    count_gone();
    if (UNLIKELY(hook.alloc != NULL)) {
        void *start;
        memcpy(&start, (uint8_t *)pointer - sizeof(void *), sizeof(void *));
        (void)hook.alloc(hook.user, start, 0);
    } else {
        free(pointer);
    }
}

char *mem_copy_text(const void *at, size_t len)
{
    size_t size;
    if (add_overflows(len, 1, &size))
        return NULL;
    char *copy = mem_alloc(size);
    if (!copy)
        return NULL;
    if (len)
        memcpy(copy, at, len);
    copy[len] = '\0';
    return copy;
}

void mem_cleanup(void *pointer_to_pointer)
{
    void *pointer;
    memcpy(&pointer, pointer_to_pointer, sizeof(pointer));
    mem_free(pointer);
}

void budget_init(struct budget *budget, int64_t limit_bytes, struct budget *parent)
{
    assert(limit_bytes >= 0);
    atomic_init(&budget->used_bytes, 0);
    budget->limit_bytes = limit_bytes;
    budget->parent = parent;
}

struct size_text {
    char text[32];
};

/* "512 bytes", "1.9 GiB" */
static struct size_text size_text(int64_t bytes)
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB"};
    struct size_text ret;
    if (bytes < 1024) {
        (void)snprintf(ret.text, sizeof(ret.text), "%" PRId64 " bytes", bytes < 0 ? 0 : bytes);
        return ret;
    }
    double value = (double)bytes / 1024;
    size_t unit = 0;
    while (value >= 102.4 && unit + 1 < COUNT_OF(units)) { // 0.4 GiB rather than 409.6 MiB
        value /= 1024;
        unit++;
    }
    (void)snprintf(ret.text, sizeof(ret.text), "%.1f %s", value, units[unit]);
    return ret;
}

/* Take at one level, never passing its limit, not even for a moment. */
static bool take_level(struct budget *budget, int64_t bytes, int64_t *ret_used)
{
    int64_t used = atomic_load_explicit(&budget->used_bytes, memory_order_relaxed);
    do {
        *ret_used = used;
        if (budget->limit_bytes &&
            (used > budget->limit_bytes || bytes > budget->limit_bytes - used))
            return false;
        if (bytes > INT64_MAX - (used > 0 ? used : 0))
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&budget->used_bytes, &used, used + bytes,
                                                    memory_order_relaxed, memory_order_relaxed));
    return true;
}

och_code budget_take(struct budget *budget, size_t bytes, const char *what, och_error *err)
{
    int64_t wanted = bytes > INT64_MAX ? INT64_MAX : (int64_t)bytes;
    for (struct budget *level = budget; level; level = level->parent) {
        int64_t used;
        if (take_level(level, wanted, &used))
            continue;
        for (struct budget *below = budget; below != level; below = below->parent)
            atomic_fetch_sub_explicit(&below->used_bytes, wanted, memory_order_relaxed);
        if (!err)
            return OCH_BUSY;
        int64_t limit = level->limit_bytes ? level->limit_bytes : INT64_MAX;
        return FAIL(err, OCH_BUSY, "%s needs %s, %s of the memory limit (%s) is free", what,
                    size_text(wanted).text, size_text(used < limit ? limit - used : 0).text,
                    size_text(limit).text);
    }
    return OCH_OK;
}

void budget_force(struct budget *budget, size_t bytes)
{
    for (; budget; budget = budget->parent)
        atomic_fetch_add_explicit(&budget->used_bytes, (int64_t)bytes, memory_order_relaxed);
}

void budget_give(struct budget *budget, size_t bytes)
{
    for (; budget; budget = budget->parent) {
        int64_t before =
            atomic_fetch_sub_explicit(&budget->used_bytes, (int64_t)bytes, memory_order_relaxed);
        assert(before >= (int64_t)bytes);
        (void)before;
    }
}

int64_t budget_used(const struct budget *budget)
{
    return budget ? atomic_load_explicit(&budget->used_bytes, memory_order_relaxed) : 0;
}

int64_t budget_free(const struct budget *budget)
{
    int64_t least = INT64_MAX;
    for (; budget; budget = budget->parent) {
        if (!budget->limit_bytes)
            continue;
        int64_t left = budget->limit_bytes - budget_used(budget);
        least = left < least ? left : least;
    }
    return least;
}
