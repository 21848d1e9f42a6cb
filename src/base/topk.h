/* SPDX-License-Identifier: Apache-2.0 */
/* The k best of a stream: smallest distance first, ties by seq.  A bounded max-heap. */
#ifndef BASE_TOPK_H
#define BASE_TOPK_H

#include "base/arena.h"

struct topk_item {
    float distance;  /* NaN and +inf sort last, equal to one another */
    uint32_t source; /* which part or tail */
    uint64_t row;
    int64_t seq;
};
struct topk {
    struct topk_item *items;
    size_t len, k;
};

/** Room for k items from the arena. */
MUST_USE och_code topk_init(struct topk *top, size_t k, struct arena *arena, och_error *err);
/** The distance that a new item must not exceed; +inf until k are held. */
float topk_bound(const struct topk *top);
void topk_push(struct topk *top, struct topk_item item);
/** Order the held items, best first; afterwards only read. */
void topk_sort(struct topk *top);
/** <0 when a is better. */
int topk_compare(const struct topk_item *a, const struct topk_item *b);
#endif
