/* SPDX-License-Identifier: Apache-2.0 */
/* Diagnostics (experience.md §4): one line each, to the sink of the process or of one database.
 * Never a document, a vector, a key or a token. */
#ifndef BASE_TRACE_H
#define BASE_TRACE_H

#include "base/slice.h"

enum trace_level { TRACE_ERROR, TRACE_WARN, TRACE_INFO, TRACE_DEBUG };

struct trace {              /* a sink; embedders bring their own */
    enum trace_level level; /* lines above it are dropped */
    bool json;
    void (*write)(void *user, enum trace_level level, slice line); /* line ends without newline */
    void *user;
};
void trace_init_stderr(struct trace *trace, enum trace_level level, bool json);
/** A line that repeats word for word within 10 s is dropped and counted: the next one carries repeated=N.
 *  Debug lines are never dropped.  `values`: NULL-terminated pairs of C strings, key then value: trace_line(t, TRACE_WARN, "compact", "part quarantined", "part", id, NULL). */
void trace_line(struct trace *trace, enum trace_level level, const char *module,
                const char *message, ...) __attribute__((sentinel));
/** The same for what is told each time that it happens: never dropped, and no reason to drop another line. */
void trace_event(struct trace *trace, enum trace_level level, const char *module,
                 const char *message, ...) __attribute__((sentinel));
#endif
