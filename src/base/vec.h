/* SPDX-License-Identifier: Apache-2.0 */
/* A typed growable array: VEC(int) numbers = {0}; if (!VEC_PUSH(&numbers, 7)) no memory; VEC_DONE(&numbers). */
#ifndef BASE_VEC_H
#define BASE_VEC_H

#include "base/mem.h"

#define VEC(type)        \
    struct {             \
        type *at;        \
        size_t len, cap; \
    }
#define VEC_RESERVE(v, count) \
    vec_reserve((void **)(void *)&(v)->at, &(v)->cap, (count), sizeof(*(v)->at))
#define VEC_PUSH(v, ...) \
    (VEC_RESERVE((v), (v)->len + 1) && (((v)->at[(v)->len++] = (__VA_ARGS__)), true))
#define VEC_DONE(v) (mem_free((v)->at), (v)->at = NULL, (v)->len = (v)->cap = 0)

bool vec_reserve(void **at, size_t *cap, size_t count, size_t size);
#endif
