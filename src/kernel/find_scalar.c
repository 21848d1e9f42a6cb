/* SPDX-License-Identifier: Apache-2.0 */
/* Substring search without vectors: the C library's, which is linear in the worst case. */
#include "kernel/kernel_internal.h"

#include <string.h>

size_t kernel_find_scalar(const uint8_t *text, size_t len, const uint8_t *needle, size_t needle_len)
{
    if (needle_len == 0)
        return 0;
    if (needle_len > len)
        return SIZE_MAX;
    const uint8_t *found = memmem(text, len, needle, needle_len);
    return found ? (size_t)(found - text) : SIZE_MAX;
}
