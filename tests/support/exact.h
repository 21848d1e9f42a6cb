/* SPDX-License-Identifier: Apache-2.0 */
/* A number that holds every i64 and every double exactly, for models of comparisons.  On x86 not long double: valgrind computes it with 64 bits. */
#ifndef SUPPORT_EXACT_H
#define SUPPORT_EXACT_H

#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
__extension__ typedef __float128 exact_number;
#else
typedef long double exact_number; /* 128 bits */
#endif

/* A JSON number: an integer unless it has a point or an exponent. */
static inline exact_number exact_of(const char *text)
{
    return strpbrk(text, ".e") ? (exact_number)strtod(text, NULL)
                               : (exact_number)strtoll(text, NULL, 10);
}
#endif
