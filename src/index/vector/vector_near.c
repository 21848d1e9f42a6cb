/* SPDX-License-Identifier: Apache-2.0 */
/* Rows and centroids of any width by 8 bits, for training and assignment: four products of bytes cost what one of floats does, and which of two
 * centroids is nearer matters only where they are not equally near. */
#include "index/vector/vector_internal.h"

void vector_near_query(const float *x, const float *mean, uint32_t width, float *scratch,
                       int8_t *q8, struct code_query8 *ret)
{
    size_t padded = vector_near_room(width);
    const float *y = x;
    if (mean || width < padded) {
        for (uint32_t i = 0; i < width; i++)
            scratch[i] = mean ? x[i] - mean[i] : x[i];
        memset(scratch + width, 0, (padded - width) * sizeof(float));
        y = scratch;
    }
    kernel_code_get()->quant8_query(y, padded, q8, ret);
}

och_code vector_near_pack(struct budget *budget, const float *centroids, const float *mean,
                          uint32_t lists, uint32_t width, uint8_t *packed, och_error *err)
{
    size_t padded = vector_near_room(width), dim = vector_near_dim(width);
    struct vector_memory rows8 = {0}, scratch = {0};
    /* a row is quantised at its padded width: the last one needs room for that */
    och_code code =
        vector_alloc(budget, (uint64_t)lists + 1, code_row_size(padded), "centroids", &rows8, err);
    if (code == OCH_OK)
        code = vector_alloc(budget, padded, sizeof(float), "centroids", &scratch, err);
    for (uint32_t j = 0; code == OCH_OK && j < lists; j++) {
        uint8_t *row8 = (uint8_t *)rows8.at + j * code_row_size(dim);
        const float *from = centroids + (size_t)j * width;
        float *y = scratch.at;
        for (uint32_t i = 0; i < width; i++)
            y[i] = mean ? from[i] - mean[i] : from[i];
        kernel_code_get()->quant8(y, padded, row8);
        memmove(row8 + dim, row8 + padded, code_row_size(dim) - dim);
    }
    if (code == OCH_OK)
        code_pack_coarse(rows8.at, lists, dim, packed);
    vector_release(budget, &rows8);
    vector_release(budget, &scratch);
    return code;
}
