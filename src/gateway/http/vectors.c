/* SPDX-License-Identifier: Apache-2.0 */
/* Embeddings from the wire: rows of numbers, already f32 (json.h), or base64 of little-endian f32 (http-api.md §6.1). */
#include "base/bytes.h"
#include "gateway/http/exchange.h"
#include "kernel/kernel.h"

#include <inttypes.h>
#include <math.h>

/* First value that is NaN or infinite; count when all are finite. */
static uint32_t find_non_finite(const float *values, uint32_t count)
{
    uint32_t bad = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], 4);
        bad |= (bits & 0x7f800000u) == 0x7f800000u;
    }
    if (!bad)
        return count;
    uint32_t i = 0;
    while (isfinite(values[i]))
        i++;
    return i;
}

/* The error that comes is in this row. */
static void at_row(struct exchange *x, uint32_t i)
{
    exchange_at(x, "%s[%" PRIu32 "]", x->vectors_name ? x->vectors_name : "embeddings", i);
}

static och_code base64_size(slice text, uint32_t i, size_t *ret_bytes, och_error *err)
{
    if (text.len % 4 != 0)
        return FAIL(err, OCH_INVALID,
                    "Invalid base64 string: Invalid input length: %zu (embedding %" PRIu32 ")",
                    text.len, i);
    size_t padding = text.len == 0                  ? 0
                     : text.at[text.len - 1] != '=' ? 0
                     : text.at[text.len - 2] != '=' ? 1
                                                    : 2;
    *ret_bytes = text.len / 4 * 3 - padding;
    return OCH_OK;
}

static och_code check_row(const float *row, uint32_t dim, bool base64, och_error *err)
{
    uint32_t bad = find_non_finite(row, dim);
    if (bad == dim)
        return OCH_OK;
    if (!base64)
        return FAIL(
            err, OCH_INVALID,
            "Validation error: embeddings: Embeddings must not contain NaN or Infinity values");
    return FAIL(err, OCH_INVALID, "Non-finite float value at embedding index %" PRIu32 ": %s", bad,
                isnan(row[bad]) ? "NaN"
                : row[bad] > 0  ? "inf"
                                : "-inf");
}

static och_code decode_row(const struct json_value *item, uint32_t i, uint8_t *out, size_t room,
                           size_t *ret_bytes, och_error *err)
{
    size_t expected = 0;
    TRY(base64_size(item->string, i, &expected, err));
    if (expected > room)
        return FAIL(err, OCH_INVALID,
                    "Inconsistent dimensions in provided embeddings: record %" PRIu32, i);
    *ret_bytes = kernel_get()->base64_decode(item->string.at, item->string.len, out);
    if (*ret_bytes == SIZE_MAX)
        return FAIL(err, OCH_INVALID,
                    "Invalid base64 string: Invalid symbol or padding (embedding %" PRIu32 ")", i);
    if (*ret_bytes % 4 != 0)
        return FAIL(err, OCH_INVALID,
                    "Invalid byte length: %zu bytes cannot be converted to f32 values (must be "
                    "divisible by 4)",
                    *ret_bytes);
    return OCH_OK;
}

static const struct json_value *first_given(const struct json_value *value)
{
    for (uint32_t i = 0; i < value->count; i++) {
        if (value->items[i].kind != JSON_NULL)
            return &value->items[i];
    }
    return NULL;
}

/* base64: all rows one behind the other; the decoder may write two bytes past a row, into the next one's place. */
static och_code decode_all(struct exchange *x, const struct json_value *value,
                           struct wire_vectors *v, och_error *err)
{
    /* Every string must be sound before lengths are compared. */
    size_t most = 0;
    for (uint32_t i = 0; i < value->count; i++) {
        size_t bytes = 0;
        if (value->items[i].kind == JSON_NULL)
            continue;
        och_code code = base64_size(value->items[i].string, i, &bytes, err);
        if (code != OCH_OK)
            at_row(x, i);
        TRY(code);
        most = max_size(most, bytes);
    }
    size_t total, stride = (most + 3) & ~(size_t)3; /* floats are read in place, of bad sizes too */
    if (mul_overflows(stride, value->count, &total) || add_overflows(total, 64, &total))
        return FAIL(err, OCH_TOO_LARGE, "embeddings are too large");
    uint8_t *out = arena_alloc_aligned(&x->arena, 64, total);
    if (!out)
        return FAIL_NO_MEMORY(err, "embeddings");
    bool differ = false;
    uint32_t odd = 0;
    for (uint32_t i = 0; i < value->count; i++) {
        uint8_t *row = out + (size_t)i * stride;
        size_t bytes = 0;
        if (value->items[i].kind == JSON_NULL) {
            memset(row, 0, stride);
            continue;
        }
        och_code code = decode_row(&value->items[i], i, row, most, &bytes, err);
        if (code == OCH_OK)
            code = check_row((const float *)(const void *)row, (uint32_t)(bytes / 4), true, err);
        if (code != OCH_OK)
            at_row(x, i);
        TRY(code);
        if (bytes != most && !differ)
            odd = i;
        differ |= bytes != most;
    }
    if (most == 0)
        return FAIL(err, OCH_INVALID,
                    "Validation error: embeddings: Each embedding must have at least 1 dimension");
    if (differ)
        at_row(x, odd);
    if (differ)
        return FAIL(err, OCH_INVALID, "Inconsistent dimensions in provided embeddings");
    v->matrix = (const float *)(const void *)out;
    v->dimension = (uint32_t)(most / 4);
    return OCH_OK;
}

static och_code gather_rows(struct exchange *x, const struct json_value *value, bool allow_empty,
                            struct wire_vectors *v, och_error *err)
{
    bool contiguous = true, differ = false, given = false;
    uint32_t dim = 0, odd = 0;
    const float *first = NULL;
    for (uint32_t i = 0; i < value->count; i++) {
        const struct json_value *item = &value->items[i];
        if (item->kind == JSON_NULL) {
            contiguous = false;
            continue;
        }
        och_code code =
            item->count == 0 && !allow_empty
                ? FAIL(
                      err, OCH_INVALID,
                      "Validation error: embeddings: Each embedding must have at least 1 dimension")
                : check_row(item->floats, item->count, false, err);
        if (code != OCH_OK)
            at_row(x, i);
        TRY(code);
        if (!given) {
            dim = item->count;
            first = dim ? item->floats : NULL; /* an empty row is no JSON_FLOATS */
            given = true;
        }
        if (item->count != dim && !differ)
            odd = i;
        differ |= item->count != dim;
        contiguous = contiguous && dim && item->floats == first + (size_t)i * dim;
    }
    if (differ)
        at_row(x, odd);
    if (differ)
        return FAIL(err, OCH_INVALID, "Inconsistent dimensions in provided embeddings");
    v->dimension = dim;
    v->matrix = first;
    if (contiguous || dim == 0)
        return OCH_OK;
    size_t bytes;
    if (mul_overflows((size_t)dim * sizeof(float), value->count, &bytes))
        return FAIL(err, OCH_TOO_LARGE, "embeddings are too large");
    float *matrix = arena_alloc_aligned(&x->arena, 64, bytes);
    if (!matrix)
        return FAIL_NO_MEMORY(err, "embeddings");
    for (uint32_t i = 0; i < value->count; i++) {
        float *row = matrix + (size_t)i * dim;
        if (value->items[i].kind == JSON_NULL)
            memset(row, 0, dim * sizeof(float));
        else
            memcpy(row, value->items[i].floats, dim * sizeof(float));
    }
    v->matrix = matrix;
    return OCH_OK;
}

och_code wire_vectors(struct exchange *x, const struct json_value *value, bool allow_empty,
                      struct wire_vectors *ret_vectors, och_error *err)
{
    *ret_vectors = (struct wire_vectors){.count = value->count};
    const struct json_value *first = first_given(value);
    if (!first)
        return OCH_OK;
    if (first->kind == JSON_STRING)
        TRY(decode_all(x, value, ret_vectors, err));
    else
        TRY(gather_rows(x, value, allow_empty, ret_vectors, err));
    bool *present = ARENA_ARRAY(&x->arena, bool, value->count);
    if (!present)
        return FAIL_NO_MEMORY(err, "embeddings");
    bool all = true;
    for (uint32_t i = 0; i < value->count; i++) {
        present[i] = value->items[i].kind != JSON_NULL;
        all = all && present[i];
    }
    ret_vectors->present = all ? NULL : present;
    return OCH_OK;
}
