/* SPDX-License-Identifier: Apache-2.0 */
/* One metric inside: squared L2 between centred vectors.  cosine: of vectors of length one.  ip: of vectors with one more coordinate that
 * makes all rows equally long, so that the nearest is the one with the largest product. */
#include "index/vector/vector_internal.h"

#include <math.h>

#define NORM2_LEAST 1e-30f

static double norm2_f64(const float *x, size_t dim)
{
    double sum = 0;
    for (size_t i = 0; i < dim; i++)
        sum += (double)x[i] * (double)x[i];
    return sum;
}

bool vector_norm2(const struct vector_space *space, const float *x, float *ret_norm2)
{
    float limit =
        space->limit2 > 0 && space->limit2 < VECTOR_NORM2_MAX ? space->limit2 : VECTOR_NORM2_MAX;
    *ret_norm2 = kernel_get()->dot_f32(x, x, space->dim);
    return space->metric == METRIC_COSINE || *ret_norm2 <= limit;
}

/* 1/|x|; 0 for a vector without direction. */
static double inverse_norm(const struct vector_space *space, const float *x, float norm2)
{
    double exact = norm2;
    if (!(norm2 >= NORM2_LEAST && norm2 <= VECTOR_NORM2_MAX))
        exact = norm2_f64(x, space->dim);
    return exact > 0 ? 1 / sqrt(exact) : 0;
}

void vector_row(const struct vector_space *space, const float *x, float norm2, float *out,
                size_t out_floats, float *ret_shift)
{
    uint32_t dim = space->dim;
    *ret_shift = 0;
    if (space->metric == METRIC_COSINE) {
        double inverse = inverse_norm(space, x, norm2);
        if (inverse == 0)
            *ret_shift = 1; /* its distance is reported as that of a right angle */
        if (norm2 >= NORM2_LEAST) {
            float factor = (float)inverse;
            for (uint32_t i = 0; i < dim; i++)
                out[i] = x[i] * factor - space->mean[i];
        } else { /* the factor has no place in f32 */
            for (uint32_t i = 0; i < dim; i++)
                out[i] = (float)((double)x[i] * inverse) - space->mean[i];
        }
    } else {
        for (uint32_t i = 0; i < dim; i++)
            out[i] = x[i] - space->mean[i];
    }
    if (space->metric == METRIC_IP) {
        float rest = space->big2 - norm2;
        out[dim] = (rest > 0 ? sqrtf(rest) : 0) - space->mean[dim];
        *ret_shift = rest < 0 ? rest : 0;
    }
    for (size_t i = space->wide; i < out_floats; i++)
        out[i] = 0;
}

bool vector_query_row(const struct vector_space *space, const float *q, float *out,
                      float *ret_norm2)
{
    float norm2, shift;
    if (!vector_norm2(space, q, &norm2))
        return false;
    *ret_norm2 = norm2;
    if (space->metric == METRIC_COSINE && inverse_norm(space, q, norm2) == 0)
        return false;
    vector_row(space, q, norm2, out, space->code_dim, &shift);
    if (space->metric == METRIC_IP)
        out[space->dim] = 0 - space->mean[space->dim];
    return true;
}

double vector_internal(const struct vector_space *space, float query_norm2, float reported)
{
    switch (space->metric) {
    case METRIC_COSINE:
        return 2 * (double)reported;
    case METRIC_IP:
        return (double)query_norm2 + (double)space->big2 - 2 * (1 - (double)reported);
    case METRIC_L2:
        break;
    }
    return reported;
}
