/* SPDX-License-Identifier: Apache-2.0 */
/* The GNU extensions we use, each behind a name.  Open to every folder. */
#ifndef BASE_ATTR_H
#define BASE_ATTR_H

/* Assertions stay on in release (STYLE §11), whatever the build type defines. */
#undef NDEBUG
#include <assert.h>
#include <stdalign.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MUST_USE                        __attribute__((warn_unused_result))
#define PRINTF_LIKE(format_at, args_at) __attribute__((format(printf, format_at, args_at)))
#define CLEANUP(function)               __attribute__((cleanup(function)))
#define UNUSED                          __attribute__((unused))
#define NO_INLINE                       __attribute__((noinline))
#define ALWAYS_INLINE                   inline __attribute__((always_inline))
#define LIKELY(x)                       __builtin_expect(!!(x), 1)
#define UNLIKELY(x)                     __builtin_expect(!!(x), 0)
#define COUNT_OF(array)                 (sizeof(array) / sizeof((array)[0]))
#define CONTAINER_OF(pointer, type, member) \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

/* In loops of kernel/ only; elsewhere assert stays on in release. */
#ifdef OCHRE_DEBUG
#define debug_assert(x) assert(x)
#else
#define debug_assert(x) ((void)0)
#endif

/** Hand over what a CLEANUP local owns: returns the pointer and forgets it. */
#define take(pointer_to_local)                                        \
    __extension__({                                                   \
        __typeof__(*(pointer_to_local)) taken_ = *(pointer_to_local); \
        *(pointer_to_local) = NULL;                                   \
        taken_;                                                       \
    })

static inline bool mul_overflows(size_t a, size_t b, size_t *ret)
{
    return __builtin_mul_overflow(a, b, ret);
}
static inline bool add_overflows(size_t a, size_t b, size_t *ret)
{
    return __builtin_add_overflow(a, b, ret);
}
static inline size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}
static inline size_t max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}
/** Round up to a multiple of a power of two. */
static inline uint64_t round_up(uint64_t value, uint64_t power_of_two)
{
    return (value + power_of_two - 1) & ~(power_of_two - 1);
}
#endif
