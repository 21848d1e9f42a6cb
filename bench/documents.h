/* SPDX-License-Identifier: Apache-2.0 */
/* A text file cut into documents of 600 bytes to 4 KB, at empty lines where there are any, and the clock of the benchmarks that read it. */
#ifndef BENCH_DOCUMENTS_H
#define BENCH_DOCUMENTS_H

#include "base/slice.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct documents {
    uint8_t *text;
    slice *at;
    uint32_t count;
    uint64_t bytes;
};

static double cpu(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static bool documents_load(struct documents *d, const char *path, uint32_t most)
{
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END) != 0)
        return false;
    size_t len = (size_t)ftell(file);
    rewind(file);
    d->text = malloc(len + 1);
    d->at = malloc(sizeof(slice) * most);
    if (!d->text || !d->at || fread(d->text, 1, len, file) != len)
        return false;
    (void)fclose(file);
    for (size_t at = 0; at < len && d->count < most;) {
        size_t end = at + 600 < len ? at + 600 : len;
        while (end < len && !(d->text[end - 1] == '\n' && d->text[end] == '\n') && end - at < 4000)
            end++;
        while (end < len && (d->text[end] & 0xc0) == 0x80)
            end++;
        d->at[d->count++] = slice_make(d->text + at, end - at);
        d->bytes += end - at;
        at = end;
    }
    return true;
}
#endif
