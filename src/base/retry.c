/* SPDX-License-Identifier: Apache-2.0 */
#include "base/retry.h"

#include <string.h>

#define WORDS "Try again in "

unsigned retry_seconds(uint64_t after_ns)
{
    uint64_t seconds = after_ns / 1000000000u + (after_ns % 1000000000u != 0);
    return seconds < 1 ? 1 : seconds > RETRY_S_MAX ? RETRY_S_MAX : (unsigned)seconds;
}

void retry_hint(och_error *err, uint64_t after_ns)
{
    error_hint(err, WORDS "%u s.", retry_seconds(after_ns));
}

unsigned retry_told(const och_error *err)
{
    const char *at = err->message + err->hint_at;
    if (err->hint_at == 0 || strncmp(at, WORDS, sizeof(WORDS) - 1) != 0)
        return 0;
    unsigned seconds = 0;
    for (at += sizeof(WORDS) - 1; *at >= '0' && *at <= '9' && seconds <= RETRY_S_MAX; at++)
        seconds = seconds * 10 + (unsigned)(*at - '0');
    return seconds <= RETRY_S_MAX ? seconds : RETRY_S_MAX;
}
