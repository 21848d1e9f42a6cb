/* SPDX-License-Identifier: Apache-2.0 */
/* The tables, and which one this machine gets. */
#include "kernel/kernel_internal.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

#define DISTANCES(set)                                                                           \
    .l2_f32 = kernel_l2_##set, .dot_f32 = kernel_dot_##set, .l2_rows_f32 = kernel_l2_rows_##set, \
    .dot_rows_f32 = kernel_dot_rows_##set, .dot_norm_rows_f32 = kernel_dot_norm_rows_##set

static const struct kernel scalar_table = {
    .name = "scalar",
    DISTANCES(scalar),
    .crc32c = kernel_crc32c_scalar,
    .base64_decode = kernel_base64_decode_scalar,
    .find = kernel_find_scalar,
};

#if defined(__x86_64__)
static const struct kernel avx2_table = {
    .name = "avx2",
    DISTANCES(avx2),
    .crc32c = kernel_crc32c_sse42,
    .base64_decode = kernel_base64_decode_avx2,
    .find = kernel_find_avx2,
};
/* First generation of AVX-512: no byte permutation, no wide carry-less product. */
static const struct kernel avx512_old_table = {
    .name = "avx512",
    DISTANCES(avx512),
    .crc32c = kernel_crc32c_sse42,
    .base64_decode = kernel_base64_decode_avx2,
    .find = kernel_find_avx512,
};
static const struct kernel avx512_table = {
    .name = "avx512",
    DISTANCES(avx512),
    .crc32c = kernel_crc32c_avx512,
    .base64_decode = kernel_base64_decode_avx512,
    .find = kernel_find_avx512,
};

static const struct kernel *best_avx2(void)
{
    bool can = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
               __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul");
    return can ? &avx2_table : NULL;
}

static const struct kernel *best_avx512(void)
{
    if (!best_avx2() || !__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl"))
        return NULL;
    bool late = __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("vpclmulqdq");
    return late ? &avx512_table : &avx512_old_table;
}
#elif defined(__aarch64__)
/* The crc instructions are optional in ARMv8.0, and there in every server. */
static const struct kernel neon_table = {
    .name = "neon",
    DISTANCES(neon),
    .crc32c = kernel_crc32c_neon,
    .base64_decode = kernel_base64_decode_neon,
    .find = kernel_find_neon,
};
static const struct kernel neon_old_table = {
    .name = "neon",
    DISTANCES(neon),
    .crc32c = kernel_crc32c_scalar,
    .base64_decode = kernel_base64_decode_neon,
    .find = kernel_find_neon,
};
#endif

/* Every table for this machine, the best one last. */
static size_t list_tables(const struct kernel *list[4])
{
    size_t count = 0;
    list[count++] = &scalar_table;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (best_avx2())
        list[count++] = best_avx2();
    if (best_avx512())
        list[count++] = best_avx512();
#elif defined(__aarch64__)
    list[count++] = getauxval(AT_HWCAP) & HWCAP_CRC32 ? &neon_table : &neon_old_table;
#endif
    return count;
}

static const struct kernel *choose(void)
{
    const struct kernel *list[4];
    size_t count = list_tables(list);
    const char *wish = getenv("OCHRE_KERNEL");
    for (size_t i = 0; wish && i < count; i++)
        if (strcmp(list[i]->name, wish) == 0)
            return list[i];
    return list[count - 1];
}

const struct kernel *kernel_get(void)
{
    /* Relaxed: the tables are constant, and threads that race choose the same one. */
    static _Atomic(const struct kernel *) chosen;
    const struct kernel *table = atomic_load_explicit(&chosen, memory_order_relaxed);
    if (UNLIKELY(!table)) {
        table = choose();
        atomic_store_explicit(&chosen, table, memory_order_relaxed);
    }
    return table;
}

size_t kernel_all(const struct kernel *const **ret_tables)
{
    static const struct kernel *list[4];
    static _Atomic size_t count;
    size_t known =
        atomic_load_explicit(&count, memory_order_acquire); /* pairs with the store below */
    if (known == 0) {
        known = list_tables(list);
        atomic_store_explicit(&count, known, memory_order_release);
    }
    *ret_tables = list;
    return known;
}

float kernel_cosine_distance(float dot, float norm2_a, float norm2_b)
{
    if (norm2_a == 0.0f || norm2_b == 0.0f)
        return 1.0f;
    if (!isfinite(dot) || !isfinite(norm2_a) || !isfinite(norm2_b))
        return NAN;
    /* The product of two f32 is exact in f64, root and quotient are rounded correctly: the same everywhere. */
    double distance = 1.0 - (double)dot / sqrt((double)norm2_a * (double)norm2_b);
    return distance > 0.0 ? (float)distance : 0.0f;
}
