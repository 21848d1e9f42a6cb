/* SPDX-License-Identifier: Apache-2.0 */
/* The tables for lists of rows, and which one this machine gets. */
#include "kernel/postings_internal.h"

#include "kernel/kernel.h"

#include <stdatomic.h>

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers lie in memory as in files");

#define LOOPS(set) kernel_unpack_##set, kernel_unpack_rows_##set, kernel_above_##set
static const struct kernel_postings tables[] = {
    {"scalar", LOOPS(scalar)},
#if defined(__x86_64__)
    {"avx2", LOOPS(avx2)},
    {"avx512", LOOPS(avx512)},
#elif defined(__aarch64__)
    {"neon", LOOPS(scalar)},
#endif
};

/* A machine has a set here when it has the table of that name for vectors: the loops ask for no more. */
size_t kernel_postings_all(const struct kernel_postings *const **ret_tables)
{
    static const struct kernel_postings *const list[] = {&tables[0], &tables[COUNT_OF(tables) > 1],
                                                         &tables[COUNT_OF(tables) - 1]};
    const struct kernel *const *vectors;
    *ret_tables = list;
    return kernel_all(&vectors);
}

const struct kernel_postings *kernel_postings_get(void)
{
    /* Relaxed: the tables are constant, and threads that race choose the same one. */
    static _Atomic(const struct kernel_postings *) chosen;
    const struct kernel_postings *table = atomic_load_explicit(&chosen, memory_order_relaxed);
    if (UNLIKELY(!table)) {
        table = &tables[0];
        for (size_t i = 0; i < COUNT_OF(tables); i++)
            if (strcmp(tables[i].name, kernel_get()->name) == 0)
                table = &tables[i];
        atomic_store_explicit(&chosen, table, memory_order_relaxed);
    }
    return table;
}
