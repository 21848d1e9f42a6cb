/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the tests of model/: JSON literals, metadata from JSON, loops over failing allocations. */
#ifndef TESTS_MODEL_TEST_H
#define TESTS_MODEL_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "model/meta.h"
#include "json/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static inline struct json_value *json_in(struct arena *arena, slice text)
{
    struct json_value *value = ARENA_NEW(arena, struct json_value);
    struct json_fault fault;
    och_error err = {0};
    assert_non_null(value);
    if (json_read(text, NULL, arena, value, &fault, &err) != OCH_OK)
        fail_msg("%s in %.*s", err.message, SLICE_ARG(text));
    return value;
}

static inline struct json_value *json_of(struct arena *arena, const char *text)
{
    return json_in(arena, slice_of(text));
}

/* Encode a JSON object; the bytes live in the arena. */
static inline slice meta_of(struct arena *arena, const char *text, unsigned flags)
{
    CLEANUP(buf_cleanup) struct buf out;
    buf_init(&out, BUF_MAX_NONE);
    och_error err = {0};
    if (meta_from_json(json_of(arena, text), flags, &out, &err) != OCH_OK)
        fail_msg("%s in %s", err.message, text);
    return arena_copy(arena, buf_view(&out));
}

static inline void assert_slice(slice got, const char *expected)
{
    if (!slice_equal(got, slice_of(expected)))
        fail_msg("got %.*s, expected %s", SLICE_ARG(got), expected);
}

/* Run body(user) with the 1st, 2nd, ... allocation failing until it passes; body returns its code. */
static inline void for_each_failing_allocation(och_code (*body)(void *user), void *user)
{
    for (uint64_t nth = 1; nth < 100000; nth++) {
        uint64_t before = mem_count_allocations(), live = mem_count_live();
        mem_fail_at(nth);
        och_code code = body(user);
        mem_fail_at(0);
        assert_int_equal(mem_count_live(), live);
        if (mem_count_allocations() - before < nth) {
            assert_int_equal(code, OCH_OK);
            return;
        }
        assert_true(code == OCH_NO_MEMORY || code == OCH_OK);
    }
    fail_msg("never passed");
}
#endif
