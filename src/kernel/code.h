/* SPDX-License-Identifier: Apache-2.0 */
/* Loops over the codes of the vector index: one table of functions per instruction set, chosen once.
 *
 * Every function gives the same bits in every table.  Integers are exact; floating point keeps one order:
 *   strided sum  component i goes to stride i mod 16, each stride is a chain of fused multiply-adds (or additions) in
 *                ascending i from +0.0, the sixteen are added by the tree of kernel.h.  Beyond CODE_SUM_STEP
 *                components: one such sum for each CODE_SUM_STEP of them, these added in f64, rounded once.
 *   rounding     to integers: to nearest, ties to even.
 * NaN and infinities are not inputs (they are refused long before); they cannot make a function leave its memory.
 *
 * `dim` is the code dimension D, a multiple of CODE_DIM_STEP from 64 to CODE_DIM_MAX, unless said otherwise.  Pointers to
 * bytes may have any alignment (64 is fastest), others that of their type.  Nothing past the named sizes is touched.
 *
 * 1-bit block, code_block_size(dim) bytes for 32 rows: 4*dim bytes of codes, f32 a[32], f32 b[32].  Bit t of 4-bit group m
 * is set if the rotated residual is >= 0 at dimension 4m+t.  Row v's nibble of group m = 4g+t lies in byte 64g + 4(v%16) + t,
 * the low half for v < 16, else the high half.
 * 8-bit row, code_row_size(dim) bytes: dim bytes value+128, value in -127..127; f32 scale; f32 norm2.
 * 16-list block, code_coarse_size(dim) bytes: dim/4 groups of 64 bytes = 16 lists x 4 dimensions; f32 scale[16], norm2[16].
 * Little-endian. */
#ifndef KERNEL_CODE_H
#define KERNEL_CODE_H

#include "base/attr.h"

#include <math.h>
#include <string.h>

#define CODE_DIM_STEP   64
#define CODE_DIM_MAX    65536
#define CODE_BLOCK_ROWS 32
#define CODE_LISTS      16 /* lists in a block of coarse16 */
#define CODE_TILE       32 /* centroids in a tile of assign_f32 */
#define CODE_SUM_STEP   4096
#define CODE_PAD_A \
    1e30f /* factor a of rows that are not there: a row with a >= this never passes */
#define CODE_TINY \
    0x1p-100f /* a vector with no component this large is coded as zero; its norm2 is 0 in f32 */

static inline size_t code_block_size(size_t dim)
{
    return 4 * dim + 256;
}
static inline size_t code_row_size(size_t dim)
{
    return dim + 8;
}
static inline size_t code_coarse_size(size_t dim)
{
    return CODE_LISTS * dim + 128;
}
/** Bytes of the table that table_u8 makes: 16 for each 4 dimensions. */
static inline size_t code_table_size(size_t dim)
{
    return 4 * dim;
}
/** Floats of `lists` centroids packed for assign_f32, any dim >= 1; and of their norms. */
static inline size_t code_packed_floats(size_t lists, size_t dim)
{
    return (lists + CODE_TILE - 1) / CODE_TILE * CODE_TILE * dim;
}
static inline size_t code_packed_norms(size_t lists)
{
    return (lists + CODE_TILE - 1) / CODE_TILE * CODE_TILE;
}

/** A query's 8-bit side; `q8` is the caller's memory, dim bytes, each in -127..127. */
struct code_query8 {
    const int8_t *q8;
    int32_t sum; /* of q8 */
    float scale; /* q ~ scale * q8 */
    float norm2; /* |q|^2 */
};

/** <s,q> ~ a * acc + c, where acc is what scan1_block adds up and s are the signs of a row. */
struct code_table {
    float a, c;
};

/** What a list's scan compares: low = (a[v] + delta) - b[v]*(scale*acc[v] + offset), passing below `limit`.
 *  scale = code_table.a; offset = code_table.c + eps*kappa*sqrt(delta), or code_table.c for the plain estimate. */
struct code_bound {
    float scale, offset, delta, limit;
};

/** The key of a list at squared distance delta whose rows lie spread (a mean square) around its centroid:
 *  (delta + weight*spread) - reach*sqrt(max(delta, 0)*spread), the last term only with a reach. */
struct code_keys {
    float weight, reach;
};

/** Strided sums over one row: r = y - centroid, s_i = +1 if r_i >= 0 else -1. */
struct code_sums {
    float norm2;        /* sum of r_i^2 */
    float norm1;        /* sum of |r_i| */
    float centroid_dot; /* sum of s_i * centroid_i */
};

struct kernel_code {
    const char *
        name; /* "scalar"; "avx2", "avx512bw" (without VBMI and VNNI), "avx512"; "neonold", "neon" */

    /** acc[v] = sum over groups m of table[16m + nibble(v, m)]; groups = dim/4, a multiple of 16. */
    void (*scan1_block)(const uint8_t *code, const uint8_t *table, size_t groups, int32_t acc[32]);
    /** low[v] by struct code_bound (two fused steps); bit v of the mask: low[v] < limit and a[v] < CODE_PAD_A. */
    uint32_t (*scan1_bound)(const int32_t acc[32], const float a[32], const float b[32],
                            const struct code_bound *bound, float low[32]);
    /** Both for a whole 1-bit block, the sums staying in registers.  low[] of rows out of the mask is set, too. */
    uint32_t (*scan1)(const uint8_t *block, const uint8_t *table, size_t dim,
                      const struct code_bound *bound, float low[32]);

    /** Sum of (x_i - 128) * q_i, exact; q in -127..127, q_sum = sum of q_i (code_query8.sum). */
    int32_t (*dot_u8s8)(const uint8_t *x, const int8_t *q, size_t dim, int32_t q_sum);
    /** out[i] = squared distance by codes of the 8-bit row at[i] of `rows`:
     *  (norm2 + query.norm2) - (2 * query.scale * scale) * dot, the last step fused.  Prefetches ahead. */
    void (*distance8)(const uint8_t *rows, const uint32_t *at, size_t count,
                      const struct code_query8 *query, size_t dim, float *out);
    /** The same of rows that lie anywhere, on their way into the cache already: nothing is prefetched. */
    void (*distance8_of)(const uint8_t *const *rows, size_t count, const struct code_query8 *query,
                         size_t dim, float *out);
    /** The same for all 16*blocks lists of coarse blocks in a row.  Lists that are not there give +inf. */
    void (*coarse16)(const uint8_t *packed, size_t blocks, const struct code_query8 *query,
                     size_t dim, float *out);

    /** The same for `count` queries at once: out[i * 16 * blocks + j], every bit as coarse16 has it.  dim: any multiple of 4, here and in
     *  nearest16. */
    void (*coarse16_rows)(const uint8_t *packed, size_t blocks, const struct code_query8 *queries,
                          size_t count, size_t dim, float *out);
    /** For each query the list of coarse blocks with the smallest of these distances, lower number in a tie.  Continues from best_index
     *  (UINT32_MAX at first) and best_distance (+inf at first) as assign_f32; list j has the number base + j.  Four times as many products an
     *  instruction as assign_f32 where there are dot products of bytes, as many elsewhere. */
    void (*nearest16)(const uint8_t *packed, size_t blocks, const struct code_query8 *queries,
                      size_t count, size_t dim, uint32_t base, uint32_t *best_index,
                      float *best_distance);

    /** keys[count] by struct code_keys.  lists: four f32 a list, the last of them its spread (the others may be no numbers).
     *  ret_range: the smallest and the largest; +inf and -inf of none. */
    void (*list_keys)(const float *lists, const float *deltas, size_t count,
                      const struct code_keys *how, float *keys, float ret_range[2]);
    /** counts[code_key_bucket(key, least, scale, buckets - 1)]++ for each key; buckets up to 2^20. */
    void (*count_keys)(const float *keys, size_t count, float least, float scale, uint32_t buckets,
                       uint32_t *counts);
    /** Numbers of the keys <= limit, ascending; room for `count` of them.  Returns how many. */
    size_t (*keys_upto)(const float *keys, size_t count, float limit, uint32_t *ret_numbers);

    /** For each row the list with the smallest score = norm2 - 2<x,c> (add |x|^2 for the distance), lower number in a tie.
     *  Continues from best_index (UINT32_MAX at first) and best_score (+inf at first): a list replaces the best if its
     *  score is smaller, or equal and its number `base` + j lower.  <x,c> is one chain of fused steps in ascending
     *  dimension.  Any dim >= 1.  Cost: eight rows at a time, 64 rows a walk over the centroids. */
    void (*assign_f32)(const float *const *rows, size_t count, const float *packed,
                       const float *norms, size_t lists, size_t dim, uint32_t base,
                       uint32_t *best_index, float *best_score);
    /** All scores: out[i * code_packed_norms(lists) + j]; +inf for lists that are not there. */
    void (*scores_f32)(const float *const *rows, size_t count, const float *packed,
                       const float *norms, size_t lists, size_t dim, float *out);

    /** Walsh-Hadamard transform in place, not scaled, strides ascending: twice gives length * x.  A power of two. */
    void (*fht_f32)(float *x, size_t length);
    /** x := R x, in place; see code_rotation_sign. */
    void (*rotate_f32)(float *x, size_t dim, uint64_t seed);
    /** x := R^-1 x. */
    void (*rotate_back_f32)(float *x, size_t dim, uint64_t seed);

    /** The 8-bit row of y: value = round(y * (127 / max|y|)), scale = |y|^2 / sum(value*y), norm2 = |y|^2; strided sums. */
    void (*quant8)(const float *y, size_t dim, uint8_t *row);
    /** y_i = scale * value_i, less centroid_i if centroid is not NULL. */
    void (*decode8)(const uint8_t *row, const float *centroid, size_t dim, float *y);
    /** q8 = round(q * (127 / max|q|)), scale = max|q|/127.  ret->q8 = q8. */
    void (*quant8_query)(const float *q, size_t dim, int8_t *q8, struct code_query8 *ret);
    /** The lookup table of q: sums ((bit0 q0 + bit1 q1) + (bit2 q2 + bit3 q3)) less the group's smallest, by 255/range. */
    struct code_table (*table_u8)(const float *q, size_t dim, uint8_t *table);
    /** Set row v's code in a block whose bits of that row are still 0, and sum.  Factors are not written: code_factors_set. */
    void (*sign_encode)(const float *y, const float *centroid, size_t dim, uint8_t *block, size_t v,
                        struct code_sums *ret);

    /** Bits set in words[count]; and in both. */
    uint64_t (*popcount)(const uint64_t *words, size_t count);
    uint64_t (*popcount_and)(const uint64_t *a, const uint64_t *b, size_t count);
};

/** The best table for this machine; OCHRE_KERNEL overrides as in kernel_get().  Cheap after the first call. */
const struct kernel_code *kernel_code_get(void);
/** All tables that this machine can run, scalar first; for tests. */
size_t kernel_code_all(const struct kernel_code *const **ret_tables);

/** Pack centroids[lists][stride floats] into [tiles][dim][32] and norms (chains of fused steps, so that a row equal to its
 *  centroid scores exactly -norm).  Missing lists: 0, norm +inf. */
void code_pack_f32(const float *centroids, size_t stride, size_t lists, size_t dim, float *packed,
                   float *norms);
/** Pack `lists` 8-bit rows lying one after the other into (lists+15)/16 coarse blocks; missing lists: norm2 +inf. */
void code_pack_coarse(const uint8_t *rows, size_t lists, size_t dim, uint8_t *packed);
/** An empty 1-bit block: codes 0, a = CODE_PAD_A, b = 0. */
void code_block_clear(uint8_t *block, size_t dim);

/** Rounds of the rotation: 3 if dim is a power of two, else 4.  Round r multiplies the window [0,P) (r even) or [dim-P,dim)
 *  by sign/sqrt(P), then transforms it; P is the largest power of two <= dim. */
static inline unsigned code_rotation_rounds(size_t dim)
{
    return (dim & (dim - 1)) == 0 ? 3 : 4;
}
/** 64 signs of round r, from dimension 64*word of the vector: bit i set negates.  Output number 1024*r + word + 1 of
 *  splitmix64 started at seed. */
static inline uint64_t code_rotation_sign(uint64_t seed, unsigned round, size_t word)
{
    uint64_t z = seed + 0x9e3779b97f4a7c15 * (1024 * (uint64_t)round + word + 1);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

/** Buckets of equal width around least + b / scale, b from 0 to last; what lies beyond goes to the first or the last. */
static inline uint32_t code_key_bucket(float key, float least, float scale, float last)
{
    float place = (key - least) * scale;
    place = place < last ? place : last;
    return (uint32_t)lrintf(place > 0.0f ? place : 0.0f);
}

/** Scale and norm2 of an 8-bit row. */
static inline float code_row_scale(const uint8_t *row, size_t dim)
{
    float value;
    memcpy(&value, row + dim, sizeof value);
    return value;
}
static inline float code_row_norm2(const uint8_t *row, size_t dim)
{
    float value;
    memcpy(&value, row + dim + 4, sizeof value);
    return value;
}
/** Factors of row v of a 1-bit block. */
static inline void code_factors_set(uint8_t *block, size_t dim, size_t v, float a, float b)
{
    memcpy(block + 4 * dim + 4 * v, &a, sizeof a);
    memcpy(block + 4 * dim + 128 + 4 * v, &b, sizeof b);
}
static inline void code_factors_get(const uint8_t *block, size_t dim, size_t v, float *ret_a,
                                    float *ret_b)
{
    memcpy(ret_a, block + 4 * dim + 4 * v, sizeof *ret_a);
    memcpy(ret_b, block + 4 * dim + 128 + 4 * v, sizeof *ret_b);
}
/** The factors as section 6 of the format gives them: f = norm2/norm1, a = norm2 + 2f*centroid_dot, b = 2f. */
static inline void code_factors_of(const struct code_sums *sums, float *ret_a, float *ret_b)
{
    float f = sums->norm1 > 0.0f ? sums->norm2 / sums->norm1 : 0.0f;
    *ret_a = sums->norm2 + 2.0f * f * sums->centroid_dot;
    *ret_b = 2.0f * f;
}
#endif
