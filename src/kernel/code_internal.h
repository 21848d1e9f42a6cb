/* SPDX-License-Identifier: Apache-2.0 */
/* What the instruction sets bring for the codes, by file; code.c puts the tables together. */
#ifndef KERNEL_CODE_INTERNAL_H
#define KERNEL_CODE_INTERNAL_H

#include "kernel/code.h"

/* code_scan_<set>.c */
#define CODE_SCAN_OF(set)                                                                        \
    void code_scan1_block_##set(const uint8_t *code, const uint8_t *table, size_t groups,        \
                                int32_t acc[32]);                                                \
    uint32_t code_scan1_bound_##set(const int32_t acc[32], const float a[32], const float b[32], \
                                    const struct code_bound *bound, float low[32]);              \
    uint32_t code_scan1_##set(const uint8_t *block, const uint8_t *table, size_t dim,            \
                              const struct code_bound *bound, float low[32]);                    \
    int32_t code_dot_u8s8_##set(const uint8_t *x, const int8_t *q, size_t dim, int32_t q_sum);   \
    void code_distance8_##set(const uint8_t *rows, const uint32_t *at, size_t count,             \
                              const struct code_query8 *query, size_t dim, float *out);          \
    void code_distance8_of_##set(const uint8_t *const *rows, size_t count,                       \
                                 const struct code_query8 *query, size_t dim, float *out);       \
    void code_coarse16_##set(const uint8_t *packed, size_t blocks,                               \
                             const struct code_query8 *query, size_t dim, float *out);           \
    uint64_t code_popcount_##set(const uint64_t *words, size_t count);                           \
    uint64_t code_popcount_and_##set(const uint64_t *a, const uint64_t *b, size_t count);
CODE_SCAN_OF(scalar)
CODE_SCAN_OF(avx2)
CODE_SCAN_OF(avx512bw)
CODE_SCAN_OF(avx512)
CODE_SCAN_OF(neon)
CODE_SCAN_OF(neondot)

/* code_rank_<set>.c */
#define CODE_RANK_OF(set)                                                                    \
    void code_list_keys_##set(const float *lists, const float *deltas, size_t count,         \
                              const struct code_keys *how, float *keys, float ret_range[2]); \
    void code_count_keys_##set(const float *keys, size_t count, float least, float scale,    \
                               uint32_t buckets, uint32_t *counts);                          \
    size_t code_keys_upto_##set(const float *keys, size_t count, float limit,                \
                                uint32_t *ret_numbers);
CODE_RANK_OF(scalar)
CODE_RANK_OF(avx2)
CODE_RANK_OF(avx512)
CODE_RANK_OF(neon)

/* code_make_<set>.c */
#define CODE_MAKE_OF(set)                                                                          \
    void code_quant8_##set(const float *y, size_t dim, uint8_t *row);                              \
    void code_decode8_##set(const uint8_t *row, const float *centroid, size_t dim, float *y);      \
    void code_quant8_query_##set(const float *q, size_t dim, int8_t *q8, struct code_query8 *ret); \
    struct code_table code_table_u8_##set(const float *q, size_t dim, uint8_t *table);             \
    void code_sign_encode_##set(const float *y, const float *centroid, size_t dim, uint8_t *block, \
                                size_t v, struct code_sums *ret);
CODE_MAKE_OF(scalar)
CODE_MAKE_OF(avx2)
CODE_MAKE_OF(avx512)
CODE_MAKE_OF(neon)

/* code_float_<set>.c */
#define CODE_FLOAT_OF(set)                                                              \
    void code_assign_##set(const float *const *rows, size_t count, const float *packed, \
                           const float *norms, size_t lists, size_t dim, uint32_t base, \
                           uint32_t *best_index, float *best_score);                    \
    void code_scores_##set(const float *const *rows, size_t count, const float *packed, \
                           const float *norms, size_t lists, size_t dim, float *out);   \
    void code_fht_##set(float *x, size_t length);                                       \
    void code_rotate_##set(float *x, size_t dim, uint64_t seed);                        \
    void code_rotate_back_##set(float *x, size_t dim, uint64_t seed);
CODE_FLOAT_OF(scalar)
CODE_FLOAT_OF(avx2)
CODE_FLOAT_OF(avx512)
CODE_FLOAT_OF(neon)

/* code_near_<set>.c */
#define CODE_NEAR_OF(set)                                                                      \
    void code_coarse16_rows_##set(const uint8_t *packed, size_t blocks,                        \
                                  const struct code_query8 *queries, size_t count, size_t dim, \
                                  float *out);                                                 \
    void code_nearest16_##set(const uint8_t *packed, size_t blocks,                            \
                              const struct code_query8 *queries, size_t count, size_t dim,     \
                              uint32_t base, uint32_t *best_index, float *best_distance);
CODE_NEAR_OF(scalar)
CODE_NEAR_OF(avx2)
CODE_NEAR_OF(avx512bw)
CODE_NEAR_OF(avx512)
CODE_NEAR_OF(neon)
CODE_NEAR_OF(neondot)

#endif
