/* SPDX-License-Identifier: Apache-2.0 */
/* CRC-32C with the ARMv8 crc instructions, one stream. */
#include "kernel/kernel_internal.h"

#include <arm_acle.h>
#include <string.h>

uint32_t kernel_crc32c_neon(uint32_t crc, const void *at, size_t len)
{
    const uint8_t *p = at;
    crc = ~crc;
    for (; len >= 8; len -= 8, p += 8) {
        uint64_t word;
        memcpy(&word, p, sizeof word);
        crc = __crc32cd(crc, word);
    }
    for (; len > 0; len--, p++)
        crc = __crc32cb(crc, *p);
    return ~crc;
}
