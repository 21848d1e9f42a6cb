/* SPDX-License-Identifier: Apache-2.0 */
/* Runs of 4 KiB units out of regions of 2 MiB, first fit.  The first touch of a region backs all of it (where huge pages are to be had), so
 * what is free in it counts as idle; idle memory beyond an allowance goes back to the kernel run by run, and a region that was broken up
 * like that is not made whole again behind our back.  To clear fresh memory costs more than to read a file into it, so who frees may allow
 * more to stay for who comes next, until nobody has for a while. */
#include "base/pages.h"

#include "base/sched.h"

#include <string.h>
#include <sys/mman.h>

#define UNIT       4096u
#define REGION     (2u << 20)
#define UNITS      (REGION / UNIT)
#define WORDS      (UNITS / 64)
#define LEAST      65536u /* smaller ones leave holes between those that matter */
#define IDLE_LEAST (4u << 20)
#define IDLE_SHARE 16u /* one in so many bytes of what is used may lie idle besides */
#define MORE_MOST  (64u << 20)
#define MORE_SHARE 4u /* the same for those that are allowed to */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define ON_HEAP true
#elif defined(__clang__)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
    __has_feature(memory_sanitizer)
#define ON_HEAP true
#else
#define ON_HEAP false
#endif
#else
#define ON_HEAP false
#endif

struct region {
    uint8_t *at;
    uint64_t used[WORDS], idle[WORDS]; /* idle: not used, perhaps backed */
    uint32_t used_count;
    uint32_t longest; /* no free run is longer */
    bool broken;      /* part of it went back */
};

static struct {
    struct mutex mutex;     /* guards all below */
    struct region *regions; /* by address */
    size_t count, room;
    size_t used_units, idle_units;
    uint64_t given, given_before;                            /* frees; at the last trim */
} pages = {.mutex = {PTHREAD_MUTEX_INITIALIZER, RANK_NONE}}; // under any lock, takes none

static bool on_heap(size_t size)
{
    return ON_HEAP || size < LEAST || mem_is_hosted();
}

static uint32_t units_of(size_t size)
{
    return (uint32_t)((size + UNIT - 1) / UNIT);
}

/* ---- bits ---- */

/* Bits of word `w` that lie in [first, end). */
static uint64_t bits_within(uint32_t w, uint32_t first, uint32_t end)
{
    uint32_t low = w * 64, high = low + 64;
    if (first >= high || end <= low)
        return 0;
    uint64_t bits = UINT64_MAX;
    if (first > low)
        bits &= UINT64_MAX << (first - low);
    if (end < high)
        bits &= UINT64_MAX >> (high - end);
    return bits;
}

/* The first free run of `count` units, else UNITS and what the longest is. */
static uint32_t find_run(struct region *region, uint32_t count)
{
    uint32_t run = 0, longest = 0;
    for (uint32_t i = 0; i < UNITS; i++) {
        uint64_t word = region->used[i / 64];
        if (i % 64 == 0 && word == UINT64_MAX) {
            run = 0;
            i += 63;
            continue;
        }
        run = word >> (i % 64) & 1 ? 0 : run + 1;
        if (run == count)
            return i + 1 - count;
        longest = run > longest ? run : longest;
    }
    region->longest = longest;
    return UNITS;
}

static uint32_t idle_within(const struct region *region, uint32_t first, uint32_t end)
{
    uint32_t sum = 0;
    for (uint32_t w = 0; w < WORDS; w++)
        sum += (uint32_t)__builtin_popcountll(region->idle[w] & bits_within(w, first, end));
    return sum;
}

static void set_idle(struct region *region, uint32_t first, uint32_t end, bool idle)
{
    pages.idle_units -= idle_within(region, first, end);
    for (uint32_t w = 0; w < WORDS; w++) {
        uint64_t bits = bits_within(w, first, end);
        region->idle[w] = idle ? region->idle[w] | bits : region->idle[w] & ~bits;
    }
    pages.idle_units += idle ? end - first : 0;
}

static void set_used(struct region *region, uint32_t first, uint32_t end, bool used)
{
    for (uint32_t w = 0; w < WORDS; w++) {
        uint64_t bits = bits_within(w, first, end);
        assert((region->used[w] & bits) == (used ? 0 : bits));
        region->used[w] ^= bits;
    }
}

/* ---- regions ---- */

static uint8_t *map_region(void)
{
    uint8_t *at = mmap(NULL, 2 * (size_t)REGION, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED)
        return NULL;
    size_t before = (size_t)(round_up((uintptr_t)at, REGION) - (uintptr_t)at);
    if (before)
        (void)munmap(at, before);
    (void)munmap(at + before + REGION, REGION - before);
    (void)madvise(at + before, REGION, MADV_HUGEPAGE); // a wish
    return at + before;
}

/* The first region at `at` or behind. */
static size_t place_of(const uint8_t *at)
{
    size_t low = 0, high = pages.count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (pages.regions[middle].at < at)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct region *region_new(void)
{
    if (pages.count == pages.room) {
        size_t room = pages.room ? 2 * pages.room : 64;
        struct region *more = mem_realloc(pages.regions, room * sizeof(*more));
        if (!more)
            return NULL;
        pages.regions = more;
        pages.room = room;
    }
    uint8_t *at = map_region();
    if (!at)
        return NULL;
    size_t place = place_of(at);
    struct region *region = &pages.regions[place];
    memmove(region + 1, region, (pages.count - place) * sizeof(*region));
    *region = (struct region){.at = at, .longest = UNITS};
    pages.count++;
    set_idle(region, 0, UNITS, true);
    return region;
}

static void region_free(struct region *region)
{
    set_idle(region, 0, UNITS, false);
    (void)munmap(region->at, REGION);
    pages.count--;
    memmove(region, region + 1, (pages.count - (size_t)(region - pages.regions)) * sizeof(*region));
    if (pages.count)
        return;
    pages.room = 0;
    mem_free(take(&pages.regions));
}

/* ---- runs ---- */

static uint8_t *take_run(uint32_t count)
{
    struct region *region = NULL;
    uint32_t first = UNITS;
    for (size_t i = 0; i < pages.count && first == UNITS; i++) {
        region = &pages.regions[i];
        if (region->longest >= count)
            first = find_run(region, count);
    }
    if (first == UNITS) {
        region = region_new();
        if (!region)
            return NULL;
        first = 0;
    }
    set_idle(region, first, first + count, false);
    set_used(region, first, first + count, true);
    region->used_count += count;
    pages.used_units += count;
    return region->at + (size_t)first * UNIT;
}

static size_t idle_least(void)
{
    return IDLE_LEAST / UNIT + pages.used_units / IDLE_SHARE;
}

/* A run that nobody uses leaves memory; its region has others in use. */
static void leave_run(struct region *region, uint32_t first, uint32_t end)
{
    if (!region->broken)
        (void)madvise(region->at, REGION, MADV_NOHUGEPAGE);
    region->broken = true;
    if (madvise(region->at + (size_t)first * UNIT, (size_t)(end - first) * UNIT, MADV_DONTNEED) ==
        0)
        set_idle(region, first, end, false);
}

static void give_run(uint8_t *at, uint32_t count, size_t idle_max)
{
    uint8_t *base = at - ((uintptr_t)at & (REGION - 1));
    struct region *region = &pages.regions[place_of(base)];
    assert(region < pages.regions + pages.count && region->at == base);
    uint32_t first = (uint32_t)((size_t)(at - base) / UNIT);
    set_used(region, first, first + count, false);
    set_idle(region, first, first + count, true);
    region->used_count -= count;
    region->longest = UNITS; // looked at when it is asked
    pages.used_units -= count;
    pages.given++;
    while (pages.used_units == 0 && pages.count)
        region_free(&pages.regions[pages.count - 1]);
    size_t more = min_size(idle_max, MORE_MOST + pages.used_units * UNIT / MORE_SHARE) / UNIT;
    if (pages.idle_units <= max_size(idle_least(), more))
        return;
    if (region->used_count == 0)
        region_free(region);
    else
        leave_run(region, first, first + count);
}

/* The runs of a region that are idle. */
static void leave_idle(struct region *region)
{
    for (uint32_t first = 0, end; first < UNITS; first = end + 1) {
        for (end = first; end < UNITS && region->idle[end / 64] >> (end % 64) & 1;)
            end++;
        if (end > first)
            leave_run(region, first, end);
    }
}

void pages_trim(void)
{
    mutex_lock(&pages.mutex);
    bool busy = pages.given != pages.given_before;
    pages.given_before = pages.given;
    for (size_t i = pages.count; !busy && i-- > 0 && pages.idle_units > idle_least();) {
        if (pages.regions[i].used_count == 0)
            region_free(&pages.regions[i]);
        else
            leave_idle(&pages.regions[i]);
    }
    mutex_unlock(&pages.mutex);
}

/* Larger than a region: a mapping of its own. */
static uint8_t *map_alone(size_t size)
{
    if (size > SIZE_MAX - UNIT)
        return NULL;
    uint8_t *at = mmap(NULL, round_up(size, UNIT), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

void *pages_alloc(size_t size)
{
    if (on_heap(size))
        return mem_alloc_aligned(64, size);
    uint8_t *ret = NULL;
    bool may = mem_count_attempt();
    if (may && size > REGION) {
        ret = map_alone(size);
    } else if (may) {
        mutex_lock(&pages.mutex);
        ret = take_run(units_of(size));
        mutex_unlock(&pages.mutex);
    }
    if (UNLIKELY(!ret))
        mem_count_gone();
    return ret;
}

void pages_free(void *at, size_t size, size_t idle_max)
{
    if (!at)
        return;
    if (on_heap(size)) {
        mem_free_aligned(at);
        return;
    }
    mem_count_gone();
    if (size > REGION) {
        (void)munmap(at, round_up(size, UNIT));
        return;
    }
    mutex_lock(&pages.mutex);
    give_run(at, units_of(size), idle_max);
    mutex_unlock(&pages.mutex);
}

void pages_stats(struct pages_stats *ret_stats)
{
    mutex_lock(&pages.mutex);
    *ret_stats = (struct pages_stats){.regions = pages.count,
                                      .used_bytes = pages.used_units * UNIT,
                                      .idle_bytes = pages.idle_units * UNIT};
    mutex_unlock(&pages.mutex);
}
