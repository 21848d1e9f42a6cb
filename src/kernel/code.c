/* SPDX-License-Identifier: Apache-2.0 */
/* The tables for codes, which one this machine gets, and what is packed once. */
#include "kernel/code_internal.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "codes lie in memory as in files");

#define SCANS(set)                                                                                 \
    .scan1_block = code_scan1_block_##set, .scan1_bound = code_scan1_bound_##set,                  \
    .scan1 = code_scan1_##set, .dot_u8s8 = code_dot_u8s8_##set, .distance8 = code_distance8_##set, \
    .distance8_of = code_distance8_of_##set, .coarse16 = code_coarse16_##set,                      \
    .popcount = code_popcount_##set, .popcount_and = code_popcount_and_##set
#define MAKES(set)                                                            \
    .quant8 = code_quant8_##set, .decode8 = code_decode8_##set,               \
    .quant8_query = code_quant8_query_##set, .table_u8 = code_table_u8_##set, \
    .sign_encode = code_sign_encode_##set
#define RANKS(set)                                                          \
    .list_keys = code_list_keys_##set, .count_keys = code_count_keys_##set, \
    .keys_upto = code_keys_upto_##set
#define FLOATS(set)                                                                              \
    .assign_f32 = code_assign_##set, .scores_f32 = code_scores_##set, .fht_f32 = code_fht_##set, \
    .rotate_f32 = code_rotate_##set, .rotate_back_f32 = code_rotate_back_##set
#define NEARS(set) .coarse16_rows = code_coarse16_rows_##set, .nearest16 = code_nearest16_##set

static const struct kernel_code scalar_table = {
    .name = "scalar", SCANS(scalar), NEARS(scalar), MAKES(scalar), RANKS(scalar), FLOATS(scalar)};

#if defined(__x86_64__)
static const struct kernel_code avx2_table = {
    .name = "avx2", SCANS(avx2), NEARS(avx2), MAKES(avx2), RANKS(avx2), FLOATS(avx2)};
/* First generation of AVX-512: no byte permutation, no dot products of bytes. */
static const struct kernel_code avx512bw_table = {.name = "avx512bw",
                                                  SCANS(avx512bw),
                                                  NEARS(avx512bw),
                                                  MAKES(avx512),
                                                  RANKS(avx512),
                                                  FLOATS(avx512)};
static const struct kernel_code avx512_table = {
    .name = "avx512", SCANS(avx512), NEARS(avx512), MAKES(avx512), RANKS(avx512), FLOATS(avx512)};

static const struct kernel_code *const list[] = {&scalar_table, &avx2_table, &avx512bw_table,
                                                 &avx512_table};

size_t kernel_code_all(const struct kernel_code *const **ret_tables)
{
    __builtin_cpu_init();
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                __builtin_cpu_supports("popcnt");
    bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                  __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
    bool late = avx512 && __builtin_cpu_supports("avx512vbmi") &&
                __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vpopcntdq");
    *ret_tables = list;
    return late ? 4 : avx512 ? 3 : avx2 ? 2 : 1;
}
#elif defined(__aarch64__)
/* Dot products of bytes came with ARMv8.2. */
static const struct kernel_code neon_old_table = {
    .name = "neonold", SCANS(neon), NEARS(neon), MAKES(neon), RANKS(neon), FLOATS(neon)};
static const struct kernel_code neon_table = {
    .name = "neon", SCANS(neondot), NEARS(neondot), MAKES(neon), RANKS(neon), FLOATS(neon)};
static const struct kernel_code *const list[] = {&scalar_table, &neon_old_table, &neon_table};

size_t kernel_code_all(const struct kernel_code *const **ret_tables)
{
    *ret_tables = list;
    return getauxval(AT_HWCAP) & HWCAP_ASIMDDP ? 3 : 2;
}
#else
static const struct kernel_code *const list[] = {&scalar_table};

size_t kernel_code_all(const struct kernel_code *const **ret_tables)
{
    *ret_tables = list;
    return COUNT_OF(list);
}
#endif

static const struct kernel_code *choose(void)
{
    const struct kernel_code *const *tables;
    size_t count = kernel_code_all(&tables);
    const char *wish = getenv("OCHRE_KERNEL");
    for (size_t i = 0; wish && i < count; i++)
        if (strcmp(tables[i]->name, wish) == 0)
            return tables[i];
    return tables[count - 1];
}

const struct kernel_code *kernel_code_get(void)
{
    /* Relaxed: the tables are constant, and threads that race choose the same one. */
    static _Atomic(const struct kernel_code *) chosen;
    const struct kernel_code *table = atomic_load_explicit(&chosen, memory_order_relaxed);
    if (UNLIKELY(!table)) {
        table = choose();
        atomic_store_explicit(&chosen, table, memory_order_relaxed);
    }
    return table;
}

void code_pack_f32(const float *centroids, size_t stride, size_t lists, size_t dim, float *packed,
                   float *norms)
{
    debug_assert(stride >= dim);
    for (size_t j = 0; j < code_packed_norms(lists); j++) {
        float *tile = packed + j / CODE_TILE * CODE_TILE * dim + j % CODE_TILE;
        const float *from = j < lists ? centroids + j * stride : NULL;
        float norm2 = 0.0f;
        for (size_t i = 0; i < dim; i++) {
            float value = from ? from[i] : 0.0f;
            tile[CODE_TILE * i] = value;
            norm2 = fmaf(value, value, norm2);
        }
        norms[j] = from ? norm2 : INFINITY;
    }
}

void code_pack_coarse(const uint8_t *rows, size_t lists, size_t dim, uint8_t *packed)
{
    const float zero = 0.0f, far = INFINITY;
    for (size_t j = 0; j < (lists + CODE_LISTS - 1) / CODE_LISTS * CODE_LISTS; j++) {
        uint8_t *block = packed + j / CODE_LISTS * code_coarse_size(dim);
        uint8_t *factors = block + CODE_LISTS * dim + 4 * (j % CODE_LISTS);
        const uint8_t *row = j < lists ? rows + j * code_row_size(dim) : NULL;
        for (size_t i = 0; i < dim; i++)
            block[i / 4 * 64 + 4 * (j % CODE_LISTS) + i % 4] = row ? row[i] : 128;
        memcpy(factors, row ? (const void *)(row + dim) : &zero, 4);
        memcpy(factors + 64, row ? (const void *)(row + dim + 4) : &far, 4);
    }
}

void code_block_clear(uint8_t *block, size_t dim)
{
    memset(block, 0, code_block_size(dim));
    for (size_t v = 0; v < CODE_BLOCK_ROWS; v++)
        code_factors_set(block, dim, v, CODE_PAD_A, 0.0f);
}
