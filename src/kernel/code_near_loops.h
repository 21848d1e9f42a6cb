/* SPDX-License-Identifier: Apache-2.0 */
/* Many queries among many lists by 8-bit codes, written once over sixteen lanes.  code_near_<set>.c first defines NAME(loop), includes
 * code_v16_<set>.h and says
 *   x64, x64_load(at), w16_dot(sum, x, four)   four dimensions of sixteen lists; add their products with four bytes of a query: of the bytes
 *                                              as they are or less 128, BIAS being what the former adds for each unit of the query's sum
 *   NEAR_ROWS, NEAR_BLOCKS                     queries x blocks of a tile whose sums stay in registers; blocks 1 to 3 */
#ifndef KERNEL_CODE_NEAR_LOOPS_H
#define KERNEL_CODE_NEAR_LOOPS_H

/* Distances of `rows` queries to the lists of `blocks` blocks.  Both are constants. */
static ALWAYS_INLINE void near_tile(const struct code_query8 *const *queries, int rows,
                                    const uint8_t *packed, int blocks, size_t dim,
                                    v16 ret[NEAR_ROWS][NEAR_BLOCKS])
{
    size_t size = code_coarse_size(dim);
    const int8_t *q[NEAR_ROWS];
    w16 sum[NEAR_ROWS][NEAR_BLOCKS];
    for (int r = 0; r < rows; r++) {
        q[r] = queries[r]->q8;
        for (int b = 0; b < blocks; b++)
            sum[r][b] = w16_set1(-BIAS * queries[r]->sum);
    }
    for (size_t i = 0; i < dim; i += 4) {
        x64 x[NEAR_BLOCKS];
        for (int b = 0; b < blocks; b++)
            x[b] = x64_load(packed + (size_t)b * size + 16 * i);
        for (int r = 0; r < rows; r++) {
            int32_t four;
            memcpy(&four, q[r] + i, sizeof four);
            for (int b = 0; b < blocks; b++)
                sum[r][b] = w16_dot(sum[r][b], x[b], four);
        }
    }
    for (int b = 0; b < blocks; b++) {
        float factors[2 * CODE_LISTS];
        memcpy(factors, packed + (size_t)b * size + CODE_LISTS * dim, sizeof factors);
        v16 scale = v16_load(factors), norm2 = v16_load(factors + CODE_LISTS);
        for (int r = 0; r < rows; r++) {
            v16 twice = v16_mul(v16_set1(-2.0f * queries[r]->scale), scale);
            ret[r][b] =
                v16_fma(twice, w16_float(sum[r][b]), v16_add(norm2, v16_set1(queries[r]->norm2)));
        }
    }
}

/* Point at NEAR_ROWS queries, the last one again where there are fewer.  Returns how many are there. */
static ALWAYS_INLINE int queries_of(const struct code_query8 *queries, size_t count, size_t from,
                                    const struct code_query8 *ret[NEAR_ROWS])
{
    for (size_t r = 0; r < NEAR_ROWS; r++)
        ret[r] = &queries[min_size(from + r, count - 1)];
    return (int)min_size(count - from, NEAR_ROWS);
}

/* The widest tile that fits what is left; returns its blocks. */
static ALWAYS_INLINE int near_step(const struct code_query8 *const *queries, const uint8_t *packed,
                                   size_t left, size_t dim, v16 ret[NEAR_ROWS][NEAR_BLOCKS])
{
    if (NEAR_BLOCKS >= 3 && left >= 3) {
        near_tile(queries, NEAR_ROWS, packed, NEAR_BLOCKS < 3 ? NEAR_BLOCKS : 3, dim, ret);
        return 3;
    }
    if (NEAR_BLOCKS >= 2 && left >= 2) {
        near_tile(queries, NEAR_ROWS, packed, NEAR_BLOCKS < 2 ? NEAR_BLOCKS : 2, dim, ret);
        return 2;
    }
    near_tile(queries, NEAR_ROWS, packed, 1, dim, ret);
    return 1;
}

void NAME(coarse16_rows)(const uint8_t *packed, size_t blocks, const struct code_query8 *queries,
                         size_t count, size_t dim, float *out)
{
    for (size_t from = 0; from < count; from += NEAR_ROWS) {
        const struct code_query8 *q[NEAR_ROWS];
        int there = queries_of(queries, count, from, q);
        for (size_t block = 0, step; block < blocks; block += step) {
            v16 distance[NEAR_ROWS][NEAR_BLOCKS];
            step = (size_t)near_step(q, packed + block * code_coarse_size(dim), blocks - block, dim,
                                     distance);
            for (int r = 0; r < there; r++)
                for (size_t b = 0; b < step; b++)
                    v16_store(out + CODE_LISTS * ((from + (size_t)r) * blocks + block + b),
                              distance[r][b]);
        }
    }
}

/* Lanes hold ascending lists and kept the first of equals, so only equals in other lanes need a look. */
static ALWAYS_INLINE void near_end(v16 best, w16 block, uint32_t base, uint32_t *best_index,
                                   float *best_distance)
{
    int32_t blocks[CODE_LISTS];
    float least = -v16_largest(v16_negate(best, 0xffff));
    if (!(least < INFINITY))
        return;
    w16_store(blocks, block);
    uint32_t index = UINT32_MAX;
    for (uint32_t equal = v16_upto(best, v16_set1(least)); equal; equal &= equal - 1) {
        uint32_t lane = (uint32_t)__builtin_ctz(equal),
                 own = CODE_LISTS * (uint32_t)blocks[lane] + lane;
        index = own < index ? own : index;
    }
    index += base;
    if (least < *best_distance || (least == *best_distance && index < *best_index)) {
        *best_distance = least;
        *best_index = index;
    }
}

void NAME(nearest16)(const uint8_t *packed, size_t blocks, const struct code_query8 *queries,
                     size_t count, size_t dim, uint32_t base, uint32_t *best_index,
                     float *best_distance)
{
    for (size_t from = 0; from < count; from += NEAR_ROWS) {
        const struct code_query8 *q[NEAR_ROWS];
        int there = queries_of(queries, count, from, q);
        v16 best[NEAR_ROWS];
        w16 where[NEAR_ROWS];
        for (int r = 0; r < NEAR_ROWS; r++) {
            best[r] = v16_set1(INFINITY); /* missing lists are no nearer */
            where[r] = w16_zero();
        }
        for (size_t block = 0, step; block < blocks; block += step) {
            v16 distance[NEAR_ROWS][NEAR_BLOCKS];
            step = (size_t)near_step(q, packed + block * code_coarse_size(dim), blocks - block, dim,
                                     distance);
            for (int r = 0; r < NEAR_ROWS; r++)
                for (size_t b = 0; b < step; b++)
                    v16_keep_less(&best[r], &where[r], distance[r][b], (int32_t)(block + b));
        }
        for (int r = 0; r < there; r++)
            near_end(best[r], where[r], base, &best_index[from + (size_t)r],
                     &best_distance[from + (size_t)r]);
    }
}
#endif
