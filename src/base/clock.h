/* SPDX-License-Identifier: Apache-2.0 */
/* Time and randomness as handles (D23). */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include "base/error.h"

struct clock;
struct clock_ops {
    uint64_t (*wall_ns)(struct clock *clock); /* since 1970, UTC */
    uint64_t (*mono_ns)(struct clock *clock); /* never goes back; for durations and deadlines */
};
struct clock {
    const struct clock_ops *ops;
};
/** The machine's clocks. */
struct clock *clock_system(void);
static inline uint64_t clock_wall_ns(struct clock *clock)
{
    return clock->ops->wall_ns(clock);
}
static inline uint64_t clock_mono_ns(struct clock *clock)
{
    return clock->ops->mono_ns(clock);
}
/** A clock that only moves when told (tests). */
struct clock_manual {
    struct clock clock;
    _Atomic uint64_t wall_ns, mono_ns;
};
void clock_manual_init(struct clock_manual *manual, uint64_t wall_ns);
void clock_manual_advance(struct clock_manual *manual, uint64_t ns);

/** xoshiro256**; any thread with its own, or under a lock. */
struct random {
    uint64_t state[4];
};
void random_seed(struct random *random, uint64_t seed);
/** Seed from the system's entropy. */
void random_seed_system(struct random *random);
uint64_t random_u64(struct random *random);
/** Uniform in [0, below); below ≥ 1. */
uint64_t random_below(struct random *random, uint64_t below);
/** Uniform in [0, 1). */
double random_unit(struct random *random);
void random_fill(struct random *random, void *at, size_t len);
/** Bytes that nobody can guess, from the system: for keys and tokens. OCH_IO when it gives none. */
MUST_USE och_code random_secret(void *at, size_t len, och_error *err);
#endif
