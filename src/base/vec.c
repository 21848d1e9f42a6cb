/* SPDX-License-Identifier: Apache-2.0 */
/* Growth of the typed arrays in vec.h. */
#include "base/vec.h"

#include <string.h>

/* `at` is really a T **; it is read and written by memcpy so that no aliasing rule is bent. */
bool vec_reserve(void **at, size_t *cap, size_t count, size_t size)
{
    assert(size > 0);
    if (LIKELY(count <= *cap))
        return true;
    size_t wanted = max_size(count, 8), doubled, bytes;
    if (!mul_overflows(*cap, 2, &doubled))
        wanted = max_size(wanted, doubled);
    if (mul_overflows(wanted, size, &bytes))
        return false;
    void *old;
    memcpy(&old, (const void *)at, sizeof(old));
    void *grown = mem_realloc(old, bytes);
    if (!grown)
        return false;
    memcpy((void *)at, &grown, sizeof(grown));
    *cap = wanted;
    return true;
}
