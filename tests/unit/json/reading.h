/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the tests of json/: read, write, and a seeded generator. */
#ifndef TESTS_UNIT_JSON_READING_H
#define TESTS_UNIT_JSON_READING_H

#include "json/json.h"

struct reading {
    struct arena arena;
    struct json_value value;
    struct json_fault fault;
    och_error err;
    och_code code;
};

static inline struct reading *read_with(struct reading *r, slice text,
                                        const struct json_options *options)
{
    *r = (struct reading){0};
    arena_init(&r->arena, NULL, 0);
    r->code = json_read(text, options, &r->arena, &r->value, &r->fault, &r->err);
    return r;
}

static inline void done_with(struct reading *r)
{
    arena_done(&r->arena);
}

static inline uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

/* Has every kind of value, escape and nesting, in few bytes. */
static const char rich[] =
    " {\"ids\" : [\"a\", \"b\\u00e9\\\"\\\\\\/\\b\\f\\n\\r\\t\", "
    "\"\xf0\x9f\x98\x80\\ud83d\\ude00\"],\n"
    "\t\"embeddings\":[[1,2.5,-3e-2],[4,5,6E+1]], "
    "\"where\":{\"$and\":[{\"k\":{\"$gt\":-0}},{}]},\r\n"
    " \"n\":null,\"t\":true,\"f\":false,\"big\":18446744073709551616,\"e\":[],\"\":\"\"} ";

static const slice embeddings_only[] = {{(const uint8_t *)"embeddings", 10}};
static const struct json_options float_options = {.float_members = embeddings_only,
                                                  .float_member_count = 1};
#endif
