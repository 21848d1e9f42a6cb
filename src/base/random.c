/* SPDX-License-Identifier: Apache-2.0 */
/* xoshiro256** 1.0 (Blackman and Vigna, "Scrambled linear pseudorandom number generators", 2018),
 * its state filled by splitmix64 as its authors advise.  Not for secrets: those come from random_secret(). */
#include "base/clock.h"

#include "base/bytes.h"

#include <errno.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

static uint64_t split_mix(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

void random_seed(struct random *random, uint64_t seed)
{
    for (size_t i = 0; i < 4; i++)
        random->state[i] = split_mix(&seed);
}

och_code random_secret(void *at, size_t len, och_error *err)
{
    size_t done = 0;
    while (done < len) {
        ssize_t got = getrandom((uint8_t *)at + done, len - done, 0);
        if (got > 0)
            done += (size_t)got;
        else if (got < 0 && errno != EINTR)
            return FAIL_OS(err, OCH_IO, errno, "the system gives no random bytes");
    }
    return OCH_OK;
}

void random_seed_system(struct random *random)
{
    uint64_t *s = random->state;
    if (random_secret(s, sizeof(random->state), NULL) == OCH_OK && (s[0] | s[1] | s[2] | s[3]))
        return;
    // no entropy (a sandbox may forbid the call): time, process and address still differ
    struct clock *clock = clock_system();
    random_seed(random, clock_wall_ns(clock) ^ clock_mono_ns(clock) << 20 ^
                            (uint64_t)getpid() << 40 ^ (uint64_t)(uintptr_t)random);
}

static uint64_t rotate(uint64_t x, unsigned by)
{
    return x << by | x >> (64 - by);
}

uint64_t random_u64(struct random *random)
{
    uint64_t *s = random->state;
    uint64_t ret = rotate(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return ret;
}

/* Lemire, "Fast random integer generation in an interval", 2019: the high half of a product, with
 * the few low products that would favour some results thrown again. */
uint64_t random_below(struct random *random, uint64_t below)
{
    assert(below > 0);
    uint64_t unfair = (0 - below) % below;
    __extension__ typedef unsigned __int128 u128;
    u128 product;
    do
        product = (u128)random_u64(random) * below;
    while ((uint64_t)product < unfair);
    return (uint64_t)(product >> 64);
}

double random_unit(struct random *random)
{
    return (double)(random_u64(random) >> 11) * 0x1.0p-53;
}

void random_fill(struct random *random, void *at, size_t len)
{
    uint8_t *to = at;
    for (; len >= 8; to += 8, len -= 8)
        store_u64(to, random_u64(random));
    if (len) {
        uint8_t rest[8];
        store_u64(rest, random_u64(random));
        memcpy(to, rest, len);
    }
}
