/* SPDX-License-Identifier: Apache-2.0 */
/* Refusals that pass: after which time it is worth trying again, as part of an error.  The embedded library's callers read it in the message, HTTP
 * clients as the header Retry-After besides. */
#ifndef BASE_RETRY_H
#define BASE_RETRY_H

#include "base/error.h"

#define RETRY_S_MAX 60u /* more is not foreseen: estimates are of what took so long lately */

/** Whole seconds, rounded up, 1 to RETRY_S_MAX. */
unsigned retry_seconds(uint64_t after_ns);

/** Append, as its way out, that the call may go through after so long; 0: nobody knows, which says 1 s. */
void retry_hint(och_error *err, uint64_t after_ns);

/** The seconds that the way out of an error names; 0: it names none. */
unsigned retry_told(const och_error *err);
#endif
