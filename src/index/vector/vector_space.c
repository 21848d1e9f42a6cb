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

static void ip_query_row(const struct vector_space *space, const float *q, double stretch,
                         float *out)
{
    uint32_t dim = space->dim;
    for (uint32_t i = 0; i < dim; i++)
        out[i] = (float)((double)q[i] * stretch) - space->mean[i];
    out[dim] = 0 - space->mean[dim];
    for (size_t i = space->wide; i < space->code_dim; i++)
        out[i] = 0;
}

bool vector_query_row(const struct vector_space *space, const float *q, double stretch, float *out)
{
    float norm2, shift;
    if (space->metric == METRIC_IP) {
        ip_query_row(space, q, stretch, out);
        return true;
    }
    if (!vector_norm2(space, q, &norm2))
        return false;
    if (space->metric == METRIC_COSINE && inverse_norm(space, q, norm2) == 0)
        return false;
    vector_row(space, q, norm2, out, space->code_dim, &shift);
    return true;
}

/* Of a query as long as rows are, and of one half or four times as long, lists tell as much; but the longer it is the less the lift's rounding weighs:
 * 15 to 35 % fewer rows are scored than at 1. */
#define STRETCH2 4

/* ip: the |q|² that queries get, of what |x|² is on average. */
static double usual2_of(float big2, const float *mean, uint32_t dim)
{
    /* the last coordinate's mean square is what is missing to big2: at least the square of its mean */
    double rest = (double)big2 - (double)mean[dim] * (double)mean[dim];
    return STRETCH2 * (rest > 1e-6 * (double)big2 ? rest : 1e-6 * (double)big2);
}

static struct vector_stretch stretch_to(const float *q, uint32_t dim, double norm2)
{
    double own = (double)kernel_get()->dot_f32(q, q, dim);
    if (!(own >= (double)NORM2_LEAST && own <= (double)VECTOR_NORM2_MAX))
        own = norm2_f64(q, dim);
    if (!(own > 0 && norm2 > 0)) /* no direction: rows are all the same to it */
        return (struct vector_stretch){1, own};
    return (struct vector_stretch){sqrt(norm2 / own), norm2};
}

double vector_usual_stretch(const struct vector_space *space, const float *q)
{
    if (space->metric != METRIC_IP)
        return 1;
    return stretch_to(q, space->dim, usual2_of(space->big2, space->mean, space->dim)).times;
}

struct vector_stretch vector_stretch(const struct vector_index *const *indexes, size_t count,
                                     const float *q)
{
    double rows = 0, usual2 = 0;
    for (size_t i = 0; i < count; i++) {
        const struct vector_index *index = indexes[i];
        if (index->metric != METRIC_IP)
            return (struct vector_stretch){1, 0};
        rows += index->coded;
        usual2 += index->coded * usual2_of(index->big2, index->mean, index->dimension);
    }
    return stretch_to(q, count ? indexes[0]->dimension : 0, rows > 0 ? usual2 / rows : 0);
}

double vector_internal(const struct vector_space *space, const struct vector_stretch *stretch,
                       float reported)
{
    switch (space->metric) {
    case METRIC_COSINE:
        return 2 * (double)reported;
    case METRIC_IP:
        return stretch->norm2 + (double)space->big2 - 2 * stretch->times * (1 - (double)reported);
    case METRIC_L2:
        break;
    }
    return reported;
}
