/* SPDX-License-Identifier: Apache-2.0 */
/* Making and passing on errors (STYLE §4).  `err` may be NULL everywhere. */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include "base/attr.h"
#include "ochre/error.h"

#include <stdarg.h>

/** Fill `err` and return `code`.  Use FAIL, which adds the place. */
och_code error_set(och_error *err, och_code code, int os_errno, const char *file, int line,
                   const char *format, ...) PRINTF_LIKE(6, 7);

/** Put "<context>: " before the message, on the way up.  Does nothing without an error. */
void error_context(och_error *err, const char *format, ...) PRINTF_LIKE(2, 3);

/** Append to the message: a hint, a way out. */
void error_append(och_error *err, const char *format, ...) PRINTF_LIKE(2, 3);

/** Say that the message names a place: `path` of `len` bytes, at its first occurrence.  Ignored when it is not there or
 *  a place is marked already (what is deeper knows better). */
void error_mark_path(och_error *err, const char *path, size_t len);

/** Say that the way out begins at the last occurrence of `begin` in the message.  Ignored when it is not there. */
void error_mark_hint(och_error *err, const char *begin);

/** Append a way out, a sentence of its own, and mark it. */
void error_hint(och_error *err, const char *format, ...) PRINTF_LIKE(2, 3);

/** Forget an error that was survived. */
void error_clear(och_error *err);

/** The code's stable snake_case name: "invalid", "not_found", ... */
const char *error_code_name(och_code code);

#define FAIL(err, code, ...) error_set((err), (code), 0, __FILE__, __LINE__, __VA_ARGS__)
/** For a failed system call: the errno is kept and its text appended to the message. */
#define FAIL_OS(err, code, os_errno, ...) \
    error_set((err), (code), (os_errno), __FILE__, __LINE__, __VA_ARGS__)
#define FAIL_NO_MEMORY(err, what) FAIL((err), OCH_NO_MEMORY, "no memory for %s", (what))

/** For a call whose failure changes nothing; say why beside it. */
#define IGNORE(call)                     \
    do {                                 \
        och_code ignored_code_ = (call); \
        (void)ignored_code_;             \
    } while (0)

#define TRY(call)                          \
    do {                                   \
        och_code try_code_ = (call);       \
        if (UNLIKELY(try_code_ != OCH_OK)) \
            return try_code_;              \
    } while (0)

#ifdef __clang_analyzer__
/* The analyser does not see into error_set: tell it that what fails has failed, lest it ask for the outputs. */
#undef FAIL
#undef FAIL_OS
#define FAIL(err, code, ...) FAIL_OS(err, code, 0, __VA_ARGS__)
#define FAIL_OS(err, code, os_errno, ...)                                                         \
    __extension__({                                                                               \
        och_code raised_ = error_set((err), (code), (os_errno), __FILE__, __LINE__, __VA_ARGS__); \
        if (raised_ == OCH_OK)                                                                    \
            __builtin_unreachable();                                                              \
        raised_;                                                                                  \
    })
#endif
#endif
