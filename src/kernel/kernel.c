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

/* What a machine can run, the best one last. */
static const struct kernel *const list_scalar[] = {&scalar_table};
static const struct kernel *const list_avx2[] = {&scalar_table, &avx2_table};
static const struct kernel *const list_avx512_old[] = {&scalar_table, &avx2_table,
                                                       &avx512_old_table};
static const struct kernel *const list_avx512[] = {&scalar_table, &avx2_table, &avx512_table};

size_t kernel_all(const struct kernel *const **ret_tables)
{
    __builtin_cpu_init();
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul");
    bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    bool late =
        avx512 && __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("vpclmulqdq");
    *ret_tables = late ? list_avx512 : avx512 ? list_avx512_old : avx2 ? list_avx2 : list_scalar;
    return avx512 ? 3 : avx2 ? 2 : 1;
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
static const struct kernel *const list_neon[] = {&scalar_table, &neon_table};
static const struct kernel *const list_neon_old[] = {&scalar_table, &neon_old_table};

size_t kernel_all(const struct kernel *const **ret_tables)
{
    *ret_tables = getauxval(AT_HWCAP) & HWCAP_CRC32 ? list_neon : list_neon_old;
    return 2;
}
#else
static const struct kernel *const list_scalar[] = {&scalar_table};

size_t kernel_all(const struct kernel *const **ret_tables)
{
    *ret_tables = list_scalar;
    return 1;
}
#endif

static const struct kernel *choose(void)
{
    const struct kernel *const *list;
    size_t count = kernel_all(&list);
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
