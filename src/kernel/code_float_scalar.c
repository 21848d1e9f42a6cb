/* SPDX-License-Identifier: Apache-2.0 */
/* Assignment and rotation, the specification. */
#include "kernel/code_internal.h"

#include <math.h>

static float score(const float *row, const float *packed, const float *norms, size_t dim, size_t j)
{
    const float *tile = packed + j / CODE_TILE * CODE_TILE * dim;
    float dot = 0.0f;
    for (size_t i = 0; i < dim; i++)
        dot = fmaf(row[i], tile[CODE_TILE * i + j % CODE_TILE], dot);
    return fmaf(-2.0f, dot, norms[j]);
}

void code_assign_scalar(const float *const *rows, size_t count, const float *packed,
                        const float *norms, size_t lists, size_t dim, uint32_t base,
                        uint32_t *best_index, float *best_score)
{
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < lists; j++) {
            float own = score(rows[i], packed, norms, dim, j);
            uint32_t index = base + (uint32_t)j;
            if (own < best_score[i] || (own == best_score[i] && index < best_index[i])) {
                best_score[i] = own;
                best_index[i] = index;
            }
        }
}

void code_scores_scalar(const float *const *rows, size_t count, const float *packed,
                        const float *norms, size_t lists, size_t dim, float *out)
{
    size_t width = code_packed_norms(lists);
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < width; j++)
            out[i * width + j] = score(rows[i], packed, norms, dim, j);
}

void code_fht_scalar(float *x, size_t length)
{
    debug_assert(length > 0 && (length & (length - 1)) == 0);
    for (size_t stride = 1; stride < length; stride *= 2)
        for (size_t from = 0; from < length; from += 2 * stride)
            for (size_t i = from; i < from + stride; i++) {
                float a = x[i], b = x[i + stride];
                x[i] = a + b;
                x[i + stride] = a - b;
            }
}

static size_t window_of(size_t dim)
{
    size_t window = CODE_DIM_STEP;
    while (2 * window <= dim)
        window *= 2;
    return window;
}

static void multiply_signs(float *x, size_t from, size_t window, uint64_t seed, unsigned round)
{
    float scale = (float)(1.0 / sqrt((double)window));
    for (size_t i = from; i < from + window; i++) {
        bool negate = code_rotation_sign(seed, round, i / 64) >> i % 64 & 1;
        x[i] *= negate ? -scale : scale;
    }
}

void code_rotate_scalar(float *x, size_t dim, uint64_t seed)
{
    size_t window = window_of(dim);
    for (unsigned round = 0; round < code_rotation_rounds(dim); round++) {
        size_t from = round % 2 ? dim - window : 0;
        multiply_signs(x, from, window, seed, round);
        code_fht_scalar(x + from, window);
    }
}

void code_rotate_back_scalar(float *x, size_t dim, uint64_t seed)
{
    size_t window = window_of(dim);
    for (unsigned round = code_rotation_rounds(dim); round-- > 0;) {
        size_t from = round % 2 ? dim - window : 0;
        code_fht_scalar(x + from, window);
        multiply_signs(x, from, window, seed, round);
    }
}
