/* SPDX-License-Identifier: Apache-2.0 */
/* How near one name is to another, for "Did you mean". */
#ifndef BASE_NEAR_H
#define BASE_NEAR_H

#include "base/slice.h"

#define NEAR_MAX 48 /* bytes of a name that is compared */

/** Steps from one name to the other: a byte put in, left out, changed, or two neighbours swapped.  SIZE_MAX when they are
 *  too far apart to be meant for each other (over 2 and over a third of the known one), or longer than NEAR_MAX. */
size_t near_distance(slice wanted, slice known);
#endif
