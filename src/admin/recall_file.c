/* SPDX-License-Identifier: Apache-2.0 */
/* `ochre recall`: query vectors from a file.  The file is somebody's: every length is checked. */
#include "admin/recall.h"

#include "base/bytes.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#define FILE_BYTES_MAX (UINT64_C(1) << 30)
#define NPY_MAGIC      "\x93NUMPY"
#define NPY_TEXT_MAX   4096

/* Digits and what follows them; false: no number of at most nine digits. */
static bool read_number(const char **at, uint32_t *ret_number)
{
    uint32_t number = 0;
    int digits = 0;
    for (; **at >= '0' && **at <= '9' && digits < 9; digits++, (*at)++)
        number = number * 10 + (uint32_t)(**at - '0');
    *ret_number = number;
    return digits > 0 && !(**at >= '0' && **at <= '9');
}

static void skip_blanks(const char **at)
{
    while (**at == ' ')
        (*at)++;
}

/* "(12, 384)": behind 'shape'. */
static bool read_shape(const char *text, uint32_t *ret_count, uint32_t *ret_dimension)
{
    const char *at = strchr(text, '(');
    if (!at)
        return false;
    at++;
    skip_blanks(&at);
    if (!read_number(&at, ret_count))
        return false;
    skip_blanks(&at);
    if (*at++ != ',')
        return false;
    skip_blanks(&at);
    if (!read_number(&at, ret_dimension))
        return false;
    skip_blanks(&at);
    return *at == ')';
}

/* The header of a .npy file; *ret_data is where its numbers begin. */
static och_code read_npy(slice file, const char *path, uint32_t *ret_count, uint32_t *ret_dimension,
                         size_t *ret_data, och_error *err)
{
    size_t start = file.at[6] == 1 ? 10 : 12;
    if (file.len < 12 || file.at[6] < 1 || file.at[6] > 3)
        return FAIL(err, OCH_INVALID, "%s: an unknown version of .npy", path);
    size_t len = file.at[6] == 1 ? load_u16(file.at + 8) : load_u32(file.at + 8);
    if (len > NPY_TEXT_MAX || len > file.len - start)
        return FAIL(err, OCH_INVALID, "%s: a header of %zu bytes", path, len);
    char text[NPY_TEXT_MAX + 1];
    memcpy(text, file.at + start, len);
    text[len] = '\0';
    const char *shape = strstr(text, "'shape':");
    if (!strstr(text, "'descr': '<f4'") || !strstr(text, "'fortran_order': False") || !shape ||
        !read_shape(shape, ret_count, ret_dimension))
        return FAIL(err, OCH_INVALID,
                    "%s: vectors must be float32 of two dimensions in C order; its header is "
                    "%.200s",
                    path, text);
    *ret_data = start + len;
    uint64_t bytes = (uint64_t)*ret_count * *ret_dimension * sizeof(float); /* below 2^62 */
    if (*ret_count == 0 || *ret_dimension == 0 || bytes != file.len - *ret_data)
        return FAIL(err, OCH_INVALID,
                    "%s: %" PRIu32 " x %" PRIu32 " vectors do not fill its %zu bytes", path,
                    *ret_count, *ret_dimension, file.len);
    return OCH_OK;
}

static och_code read_file(struct io *io, const char *path, struct arena *arena, slice *ret_file,
                          och_error *err)
{
    struct file *file = NULL;
    uint64_t size = 0;
    TRY(io_open(io, path, 0, &file, err));
    och_code code = file_size(file, &size, err);
    if (code == OCH_OK && size > FILE_BYTES_MAX)
        code = FAIL(err, OCH_TOO_LARGE, "%s: %" PRIu64 " bytes, at most %" PRIu64 " are read", path,
                    size, FILE_BYTES_MAX);
    uint8_t *at = code == OCH_OK ? arena_alloc(arena, (size_t)size + 1) : NULL;
    if (code == OCH_OK)
        code = at ? file_read_all(file, 0, at, (size_t)size, err) : FAIL_NO_MEMORY(err, "vectors");
    file_close(file);
    *ret_file = slice_make(at, (size_t)size);
    return code;
}

och_code recall_read_vectors(struct io *io, const char *path, struct arena *arena,
                             float **ret_vectors, uint32_t *ret_count, uint32_t *ret_dimension,
                             och_error *err)
{
    slice file;
    size_t data = 0;
    TRY(read_file(io, path, arena, &file, err));
    *ret_count = (uint32_t)(file.len / sizeof(float));
    *ret_dimension = 0;
    if (file.len >= 10 && memcmp(file.at, NPY_MAGIC, 6) == 0)
        TRY(read_npy(file, path, ret_count, ret_dimension, &data, err));
    else if (file.len == 0 || file.len % sizeof(float) != 0)
        return FAIL(err, OCH_INVALID, "%s: %zu bytes are no float32 numbers", path, file.len);
    size_t floats = (file.len - data) / sizeof(float);
    float *vectors = ARENA_ARRAY(arena, float, floats + 1);
    if (!vectors)
        return FAIL_NO_MEMORY(err, "vectors");
    for (size_t i = 0; i < floats; i++) {
        vectors[i] = load_f32(file.at + data + i * sizeof(float));
        if (!isfinite(vectors[i]))
            return FAIL(err, OCH_INVALID, "%s: number %zu is not finite", path, i);
    }
    *ret_vectors = vectors;
    return OCH_OK;
}
