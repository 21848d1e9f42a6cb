/* SPDX-License-Identifier: Apache-2.0 */
/* Tests that need many rows to mean anything (recall, costs).  Not under valgrind, a hundred times slower: smaller tests walk the
 * same code there. */
#ifndef SUPPORT_SLOW_H
#define SUPPORT_SLOW_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

/** Skip the test that runs if OCHRE_TEST_QUICK is set. */
static inline void needs_many_rows(void)
{
    if (getenv("OCHRE_TEST_QUICK"))
        skip();
}

/** How many cases a test walks that needs no number in particular: `whole`, or the `quick` few. */
static inline uint32_t cases_of(uint32_t whole, uint32_t quick)
{
    return getenv("OCHRE_TEST_QUICK") ? quick : whole;
}

#endif
