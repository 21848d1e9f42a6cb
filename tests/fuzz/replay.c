/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a fuzz target without a fuzzer: nothing at all, then every file named or found in the folders named.  Each input
 * lies at the end of a block of its own, so that a sanitizer sees the first byte read beyond it. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define PATH_SIZE 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t ran;

static void fail(const char *what, const char *path)
{
    (void)fprintf(stderr, "replay: cannot %s %s\n", what, path);
    exit(2);
}

static void run_file(const char *path, size_t size)
{
    uint8_t *data = malloc(size > 0 ? size : 1);
    FILE *file = fopen(path, "rb");
    if (!data || !file || fread(data, 1, size, file) != size)
        fail("read", path);
    (void)fclose(file);
    (void)fprintf(stderr, "%s\n", path); /* the last one named is the one that crashed */
    (void)LLVMFuzzerTestOneInput(data, size);
    ran++;
    free(data);
}

static void run_folder(const char *path)
{
    struct dirent **entries = NULL;
    int count = scandir(path, &entries, NULL, alphasort); /* sorted: the same order everywhere */
    if (count < 0)
        fail("list", path);
    for (int i = 0; i < count; i++) {
        char name[PATH_SIZE];
        struct stat stat_of;
        int len = snprintf(name, sizeof(name), "%s/%s", path, entries[i]->d_name);
        free(entries[i]);
        if (len < 0 || (size_t)len >= sizeof(name) || stat(name, &stat_of) != 0)
            fail("look at", path);
        if (S_ISREG(stat_of.st_mode))
            run_file(name, (size_t)stat_of.st_size);
    }
    free(entries);
}

int main(int argc, char **argv)
{
    (void)LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    for (int i = 1; i < argc; i++) {
        struct stat stat_of;
        if (stat(argv[i], &stat_of) != 0)
            fail("look at", argv[i]);
        if (S_ISDIR(stat_of.st_mode))
            run_folder(argv[i]);
        else
            run_file(argv[i], (size_t)stat_of.st_size);
    }
    (void)printf("%zu inputs\n", ran);
    return ran > 0 ? 0 : 1;
}
