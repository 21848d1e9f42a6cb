/* SPDX-License-Identifier: Apache-2.0 */
/* Every table judges a text alike and decodes it alike; what is taken is exactly what encoding gives; any bytes come
 * back through encoding.  Checksums and search of every table agree on the same bytes. */
#include "kernel/kernel.h"

#include <stdlib.h>
#include <string.h>

static void demand(bool holds)
{
    if (!holds)
        abort();
}

static void decode_alike(const uint8_t *text, size_t len)
{
    const struct kernel *const *tables;
    size_t count = kernel_all(&tables), first_len = 0;
    size_t room = len / 4 * 3;
    uint8_t *first = malloc(room + 1), *other = malloc(room + 1);
    char *again = malloc(len + 4);
    demand(first && other && again);
    for (size_t t = 0; t < count; t++) {
        uint8_t *out = t == 0 ? first : other;
        out[room] = 0x5a;
        size_t got = tables[t]->base64_decode(text, len, out);
        demand(out[room] == 0x5a);
        first_len = t == 0 ? got : first_len;
        demand(got == first_len);
        demand(got == SIZE_MAX || memcmp(first, out, got) == 0);
    }
    if (first_len != SIZE_MAX) {
        demand(kernel_base64_encode(first, first_len, again) == len);
        demand(memcmp(again, text, len) == 0);
    }
    free(first);
    free(other);
    free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct kernel *const *tables;
    size_t count = kernel_all(&tables);
    decode_alike(data, size);
    char *text = malloc(size / 3 * 4 + 4);
    demand(text != NULL);
    size_t len = kernel_base64_encode(data, size, text);
    demand(len == (size + 2) / 3 * 4);
    decode_alike((const uint8_t *)text, len);
    if (size > 0) { /* one byte of the encoding changed */
        text[data[0] * (size_t)7 % len] = (char)data[size - 1];
        decode_alike((const uint8_t *)text, len);
        size_t needle_len = min_size(data[0] % 16, size - 1);
        for (size_t t = 1; t < count; t++) {
            demand(tables[t]->crc32c(data[0], data, size) ==
                   tables[0]->crc32c(data[0], data, size));
            demand(tables[t]->find(data + 1, size - 1, data + size - needle_len, needle_len) ==
                   tables[0]->find(data + 1, size - 1, data + size - needle_len, needle_len));
        }
    }
    free(text);
    return 0;
}
