/* SPDX-License-Identifier: Apache-2.0 */
/* Assignment and rotation, written once over sixteen lanes.  code_float_<set>.c first defines NAME(loop), includes
 * code_v16_<set>.h, and says how much fits its registers:
 *   TILE_ROWS, TILE_LANES  rows x groups of 16 centroids of the multiplication's tile
 *   FHT_REGISTERS          v16 that a block of the transform keeps (a power of two >= 4) */
#ifndef KERNEL_CODE_FLOAT_LOOPS_H
#define KERNEL_CODE_FLOAT_LOOPS_H

#include <math.h>

#define WALK_ROWS 64 /* rows that pass over a tile of centroids while it is in the cache */

/* Scores of TILE_ROWS rows and 16 * TILE_LANES centroids: one chain of fused steps each. */
static ALWAYS_INLINE void score_tile(const float *const *rows, const float *tile,
                                     const float *norms, size_t dim,
                                     v16 score[TILE_ROWS][TILE_LANES])
{
    const float *row[TILE_ROWS];
    for (int r = 0; r < TILE_ROWS; r++) {
        row[r] = rows[r];
        for (int c = 0; c < TILE_LANES; c++)
            score[r][c] = v16_set1(0.0f);
    }
    for (size_t i = 0; i < dim; i++, tile += CODE_TILE) {
        v16 column[TILE_LANES];
        for (int c = 0; c < TILE_LANES; c++)
            column[c] = v16_load(tile + 16 * c);
        for (int r = 0; r < TILE_ROWS; r++) {
            v16 value = v16_set1(row[r][i]);
            for (int c = 0; c < TILE_LANES; c++)
                score[r][c] = v16_fma(value, column[c], score[r][c]);
        }
    }
    for (int r = 0; r < TILE_ROWS; r++)
        for (int c = 0; c < TILE_LANES; c++)
            score[r][c] = v16_fma(v16_set1(-2.0f), score[r][c], v16_load(norms + 16 * c));
}

/* Point at TILE_ROWS rows, the last one again where there are fewer.  Returns how many are there. */
static ALWAYS_INLINE size_t rows_of(const float *const *rows, size_t count, size_t from,
                                    const float *ret_rows[TILE_ROWS])
{
    for (size_t r = 0; r < TILE_ROWS; r++)
        ret_rows[r] = rows[min_size(from + r, count - 1)];
    return min_size(count - from, TILE_ROWS);
}

/* Smallest score so far in each of sixteen lanes, and the number of the group of 16 it came from. */
struct lanes {
    float best[16];
    int32_t group[16];
};

/* Lanes hold ascending centroids and kept the first of equals, so only equals in other lanes need a look. */
static void lanes_end(const struct lanes *lanes, uint32_t base, uint32_t *best_index,
                      float *best_score)
{
    for (uint32_t lane = 0; lane < 16; lane++) {
        if (lanes->group[lane] < 0)
            continue;
        uint32_t index = base + 16 * (uint32_t)lanes->group[lane] + lane;
        float score = lanes->best[lane];
        if (score < *best_score || (score == *best_score && index < *best_index)) {
            *best_score = score;
            *best_index = index;
        }
    }
}

static NO_INLINE void assign_walk(const float *const *rows, size_t count, const float *packed,
                                  const float *norms, size_t lists, size_t dim,
                                  struct lanes lanes[WALK_ROWS])
{
    for (size_t j = 0; j < lists; j += 16 * TILE_LANES) {
        const float *tile = packed + j / CODE_TILE * CODE_TILE * dim + j % CODE_TILE;
        for (size_t from = 0; from < count; from += TILE_ROWS) {
            const float *row[TILE_ROWS];
            v16 score[TILE_ROWS][TILE_LANES];
            size_t there = rows_of(rows, count, from, row);
            score_tile(row, tile, norms + j, dim, score);
            for (size_t r = 0; r < there; r++) {
                v16 best = v16_load(lanes[from + r].best);
                w16 group = w16_load(lanes[from + r].group);
                for (int c = 0; c < TILE_LANES; c++)
                    v16_keep_less(&best, &group, score[r][c], (int32_t)(j / 16) + c);
                v16_store(lanes[from + r].best, best);
                w16_store(lanes[from + r].group, group);
            }
        }
    }
}

void NAME(assign)(const float *const *rows, size_t count, const float *packed, const float *norms,
                  size_t lists, size_t dim, uint32_t base, uint32_t *best_index, float *best_score)
{
    struct lanes lanes[WALK_ROWS];
    for (size_t from = 0; from < count; from += WALK_ROWS) {
        size_t there = min_size(count - from, WALK_ROWS);
        for (size_t r = 0; r < there; r++)
            for (size_t lane = 0; lane < 16; lane++) {
                lanes[r].best[lane] = INFINITY; /* missing centroids are no nearer */
                lanes[r].group[lane] = -1;
            }
        assign_walk(rows + from, there, packed, norms, lists, dim, lanes);
        for (size_t r = 0; r < there; r++)
            lanes_end(&lanes[r], base, &best_index[from + r], &best_score[from + r]);
    }
}

void NAME(scores)(const float *const *rows, size_t count, const float *packed, const float *norms,
                  size_t lists, size_t dim, float *out)
{
    size_t width = code_packed_norms(lists);
    for (size_t walk = 0; walk < count; walk += WALK_ROWS) {
        size_t end = min_size(count, walk + WALK_ROWS);
        for (size_t j = 0; j < width; j += 16 * TILE_LANES) {
            const float *tile = packed + j / CODE_TILE * CODE_TILE * dim + j % CODE_TILE;
            for (size_t from = walk; from < end; from += TILE_ROWS) {
                const float *row[TILE_ROWS];
                v16 score[TILE_ROWS][TILE_LANES];
                size_t there = rows_of(rows, end, from, row);
                score_tile(row, tile, norms + j, dim, score);
                for (size_t r = 0; r < there; r++)
                    for (size_t c = 0; c < TILE_LANES; c++)
                        v16_store(out + (from + r) * width + j + 16 * c, score[r][c]);
            }
        }
    }
}

static ALWAYS_INLINE void butterfly(v16 *a, v16 *b)
{
    v16 sum = v16_add(*a, *b);
    *b = v16_sub(*a, *b);
    *a = sum;
}

/* Strides 1 to 8 * count of 16 * count floats, in registers.  With `signs`: x is multiplied by +-scale first, bit i of
 * word i / 64 negating. */
static ALWAYS_INLINE void fht_block(float *x, int count, bool sign, uint64_t seed, unsigned round,
                                    size_t at, v16 scale)
{
    v16 part[FHT_REGISTERS];
    for (int i = 0; i < count; i += 4) {
        uint64_t bits = sign ? code_rotation_sign(seed, round, at / 64 + (size_t)i / 4) : 0;
        for (int j = i; j < i + 4; j++) {
            part[j] = v16_load(x + 16 * j);
            if (sign)
                part[j] =
                    v16_negate(v16_mul(part[j], scale), (uint32_t)(bits >> 16 * (j - i)) & 0xffff);
        }
    }
    for (int i = 0; i < count; i++) {
        part[i] = v16_butterfly(part[i], 1);
        part[i] = v16_butterfly(part[i], 2);
        part[i] = v16_butterfly(part[i], 4);
        part[i] = v16_butterfly(part[i], 8);
    }
    for (int stride = 1; stride < count; stride *= 2)
        for (int i = 0; i < count; i++)
            if (!(i & stride))
                butterfly(&part[i], &part[i + stride]);
    for (int i = 0; i < count; i++)
        v16_store(x + 16 * i, part[i]);
}

/* `radix` = 2, 4 or 8: the strides `stride`, 2 stride, ... of one walk over x. */
static ALWAYS_INLINE void fht_pass(float *x, size_t length, size_t stride, int radix)
{
    for (size_t from = 0; from < length; from += (size_t)radix * stride)
        for (size_t i = from; i < from + stride; i += 16) {
            v16 part[8];
            for (int j = 0; j < radix; j++)
                part[j] = v16_load(x + i + (size_t)j * stride);
            for (int step = 1; step < radix; step *= 2)
                for (int j = 0; j < radix; j++)
                    if (!(j & step))
                        butterfly(&part[j], &part[j + step]);
            for (int j = 0; j < radix; j++)
                v16_store(x + i + (size_t)j * stride, part[j]);
        }
}

static ALWAYS_INLINE void fht(float *x, size_t length, bool sign, uint64_t seed, unsigned round,
                              size_t at, float by)
{
    v16 scale = v16_set1(by);
    size_t block = 16 * FHT_REGISTERS;
    if (length < block) {
        for (size_t i = 0; i < length; i += 64)
            fht_block(x + i, 4, sign, seed, round, at + i, scale);
        block = 64;
    } else {
        for (size_t i = 0; i < length; i += block)
            fht_block(x + i, FHT_REGISTERS, sign, seed, round, at + i, scale);
    }
    for (; FHT_REGISTERS >= 8 && 8 * block <= length && 16 * block != length; block *= 8)
        fht_pass(x, length, block, 8);
    for (; 4 * block <= length; block *= 4)
        fht_pass(x, length, block, 4);
    if (2 * block <= length)
        fht_pass(x, length, block, 2);
}

void NAME(fht)(float *x, size_t length)
{
    debug_assert(length > 0 && (length & (length - 1)) == 0);
    if (length < 64)
        code_fht_scalar(x, length);
    else
        fht(x, length, false, 0, 0, 0, 1.0f);
}

static inline size_t window_of(size_t dim)
{
    size_t window = CODE_DIM_STEP;
    while (2 * window <= dim)
        window *= 2;
    return window;
}

void NAME(rotate)(float *x, size_t dim, uint64_t seed)
{
    size_t window = window_of(dim);
    float scale = (float)(1.0 / sqrt((double)window));
    for (unsigned round = 0; round < code_rotation_rounds(dim); round++) {
        size_t from = round % 2 ? dim - window : 0;
        fht(x + from, window, true, seed, round, from, scale);
    }
}

void NAME(rotate_back)(float *x, size_t dim, uint64_t seed)
{
    size_t window = window_of(dim);
    v16 scale = v16_set1((float)(1.0 / sqrt((double)window)));
    for (unsigned round = code_rotation_rounds(dim); round-- > 0;) {
        size_t from = round % 2 ? dim - window : 0;
        NAME(fht)(x + from, window);
        for (size_t i = from; i < from + window; i += 64) {
            uint64_t bits = code_rotation_sign(seed, round, i / 64);
            for (size_t j = i; j < i + 64; j += 16, bits >>= 16)
                v16_store(x + j, v16_negate(v16_mul(v16_load(x + j), scale), bits & 0xffff));
        }
    }
}
#endif
