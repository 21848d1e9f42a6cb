/* SPDX-License-Identifier: Apache-2.0 */
/* 128-bit names: collections, parts, batches, segments. */
#ifndef MODEL_UUID_H
#define MODEL_UUID_H

#include "base/clock.h"
#include "base/slice.h"

typedef struct uuid {
    uint8_t bytes[16];
} uuid;

#define UUID_TEXT_SIZE 37 /* with the NUL */
/** With or without dashes, either case, in braces or as an URN. */
bool uuid_parse(slice text, uuid *ret_id);
/** Lower case with dashes. */
const char *uuid_format(uuid id, char text[UUID_TEXT_SIZE]);
/** Version 4. */
uuid uuid_random(struct random *random);
static inline bool uuid_equal(uuid a, uuid b)
{
    return memcmp(a.bytes, b.bytes, 16) == 0;
}
static inline int uuid_compare(uuid a, uuid b)
{
    return memcmp(a.bytes, b.bytes, 16);
}
static inline slice uuid_slice(const uuid *id)
{
    return slice_make(id->bytes, 16);
}
bool uuid_is_zero(uuid id);
#endif
