/* SPDX-License-Identifier: Apache-2.0 */
/* A max-heap of the k best: items[0] is the worst one held. */
#include "base/topk.h"

#include <math.h>

och_code topk_init(struct topk *top, size_t k, struct arena *arena, och_error *err)
{
    *top = (struct topk){.k = k};
    top->items = ARENA_ARRAY(arena, struct topk_item, k);
    return top->items ? OCH_OK : FAIL_NO_MEMORY(err, "the best results of a query");
}

static float orderly(float distance)
{
    return isnan(distance) ? INFINITY : distance;
}

int topk_compare(const struct topk_item *a, const struct topk_item *b)
{
    float left = orderly(a->distance), right = orderly(b->distance);
    if (left != right)
        return left < right ? -1 : 1;
    if (a->seq != b->seq)
        return a->seq < b->seq ? -1 : 1;
    // the same seq twice only happens among different sources; keep even that order fixed
    if (a->source != b->source)
        return a->source < b->source ? -1 : 1;
    return (a->row > b->row) - (a->row < b->row);
}

float topk_bound(const struct topk *top)
{
    if (top->len < top->k)
        return INFINITY;
    return top->k ? orderly(top->items[0].distance) : -INFINITY;
}

/* Put `item` at the root's hole `at` of a heap of `len` and let it sink. */
static void sink(struct topk_item *items, size_t len, struct topk_item item)
{
    size_t at = 0;
    for (size_t child; (child = 2 * at + 1) < len; at = child) {
        if (child + 1 < len && topk_compare(&items[child], &items[child + 1]) < 0)
            child++;
        if (topk_compare(&item, &items[child]) >= 0)
            break;
        items[at] = items[child];
    }
    items[at] = item;
}

void topk_push(struct topk *top, struct topk_item item)
{
    struct topk_item *items = top->items;
    if (top->len == top->k) {
        if (top->k && topk_compare(&item, &items[0]) < 0)
            sink(items, top->len, item);
        return;
    }
    size_t at = top->len++;
    while (at > 0 && topk_compare(&items[(at - 1) / 2], &item) < 0) {
        items[at] = items[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    items[at] = item;
}

void topk_sort(struct topk *top)
{
    for (size_t left = top->len; left > 1; left--) {
        struct topk_item last = top->items[left - 1];
        top->items[left - 1] = top->items[0];
        sink(top->items, left - 1, last);
    }
}
