/* SPDX-License-Identifier: Apache-2.0 */
/* The tables for bit slices, and which one this machine gets. */
#include "kernel/bits_internal.h"

#include "kernel/kernel.h"

#include <stdatomic.h>
#include <string.h>

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "words of bits lie in memory as in files");

static const struct kernel_bits tables[] = {
    {"scalar", kernel_bits_range_scalar, kernel_bits_slice_scalar},
#if defined(__x86_64__)
    {"avx2", kernel_bits_range_avx2, kernel_bits_slice_avx2},
    {"avx512", kernel_bits_range_avx512, kernel_bits_slice_avx512},
#elif defined(__aarch64__)
    {"neon", kernel_bits_range_neon, kernel_bits_slice_neon},
#endif
};

/* A machine has a set here when it has the table of that name for vectors: the loops ask for less. */
size_t kernel_bits_all(const struct kernel_bits *const **ret_tables)
{
    static const struct kernel_bits *const list[] = {&tables[0], &tables[COUNT_OF(tables) > 1],
                                                     &tables[COUNT_OF(tables) - 1]};
    const struct kernel *const *vectors;
    *ret_tables = list;
    return kernel_all(&vectors);
}

const struct kernel_bits *kernel_bits_get(void)
{
    /* Relaxed: the tables are constant, and threads that race choose the same one. */
    static _Atomic(const struct kernel_bits *) chosen;
    const struct kernel_bits *table = atomic_load_explicit(&chosen, memory_order_relaxed);
    if (UNLIKELY(!table)) {
        table = &tables[0];
        for (size_t i = 0; i < COUNT_OF(tables); i++)
            if (strcmp(tables[i].name, kernel_get()->name) == 0)
                table = &tables[i];
        atomic_store_explicit(&chosen, table, memory_order_relaxed);
    }
    return table;
}
