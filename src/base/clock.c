/* SPDX-License-Identifier: Apache-2.0 */
/* The machine's clocks, and one that a test moves. */
#include "base/clock.h"

#include <stdatomic.h>
#include <time.h>

static uint64_t read_ns(clockid_t id)
{
    struct timespec now;
    int rc = clock_gettime(id, &now);
    assert(rc == 0);
    (void)rc;
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t system_wall(struct clock *clock)
{
    (void)clock;
    return read_ns(CLOCK_REALTIME);
}

static uint64_t system_mono(struct clock *clock)
{
    (void)clock;
    return read_ns(CLOCK_MONOTONIC);
}

struct clock *clock_system(void)
{
    static const struct clock_ops ops = {.wall_ns = system_wall, .mono_ns = system_mono};
    static struct clock clock = {&ops};
    return &clock;
}

static uint64_t manual_wall(struct clock *clock)
{
    return atomic_load(&CONTAINER_OF(clock, struct clock_manual, clock)->wall_ns);
}

static uint64_t manual_mono(struct clock *clock)
{
    return atomic_load(&CONTAINER_OF(clock, struct clock_manual, clock)->mono_ns);
}

void clock_manual_init(struct clock_manual *manual, uint64_t wall_ns)
{
    static const struct clock_ops ops = {.wall_ns = manual_wall, .mono_ns = manual_mono};
    manual->clock.ops = &ops;
    atomic_init(&manual->wall_ns, wall_ns);
    atomic_init(&manual->mono_ns, 1); // 0 often means "no deadline"
}

void clock_manual_advance(struct clock_manual *manual, uint64_t ns)
{
    atomic_fetch_add(&manual->mono_ns, ns);
    atomic_fetch_add(&manual->wall_ns, ns);
}
