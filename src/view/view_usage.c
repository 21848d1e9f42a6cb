/* SPDX-License-Identifier: Apache-2.0 */
/* What loaded collections take, for metrics: only the largest are told apart, whatever their number. */
#include "view/view_internal.h"

/* Under c->lock. */
static struct views_usage usage_of(const struct collection *c, const struct generation *g)
{
    struct views_usage usage = {.collection = c->id,
                                .live_rows = g->live_rows,
                                .stored_rows = g->slot_count,
                                .parts = g->part_count,
                                .tail_rows = g->next - g->from,
                                .tail_bytes = g->payload_bytes};
    for (uint32_t i = 0; i < g->part_count; i++) {
        const struct part_info *info = part_info(g->parts[i].part);
        usage.stored_rows += info->rows;
        usage.part_bytes += info->ref.size;
        usage.damaged_parts += part_damage(g->parts[i].part) != 0;
    }
    return usage;
}

static uint64_t bytes_of(const struct views_usage *usage)
{
    return usage->part_bytes + usage->tail_bytes;
}

size_t views_largest(struct views *views, struct views_usage *ret_rows, size_t max)
{
    size_t count = 0, cursor = 0;
    slice key;
    uint64_t value;
    mutex_lock(&views->lock);
    while (max > 0 && map_next(&views->table, &cursor, &key, &value)) {
        struct collection *c = (struct collection *)(uintptr_t)value;
        mutex_lock(&c->lock);
        bool loaded = c->current != NULL;
        struct views_usage usage = loaded ? usage_of(c, c->current) : (struct views_usage){0};
        mutex_unlock(&c->lock);
        if (!loaded || (count == max && bytes_of(&usage) <= bytes_of(&ret_rows[max - 1])))
            continue;
        size_t at = count < max ? count++ : max - 1;
        for (; at > 0 && bytes_of(&ret_rows[at - 1]) < bytes_of(&usage); at--)
            ret_rows[at] = ret_rows[at - 1];
        ret_rows[at] = usage;
    }
    mutex_unlock(&views->lock);
    return count;
}
