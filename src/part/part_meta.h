/* SPDX-License-Identifier: Apache-2.0 */
/* The metadata index in a part: filters over its rows without reading them.  docs/formats/meta.md, index/meta. */
#ifndef PART_PART_META_H
#define PART_PART_META_H

#include "index/meta/meta_index.h"
#include "part/part.h"

/** A filter made ready for one part; of the arena it was made in. */
struct part_filter {
    struct part *part;
    struct meta_search search; /* exact, at_least, at_most */
    struct meta_pages pages;
    const struct extent **pins;
    uint64_t *pin_from;
    size_t pin_count, pin_room;
    struct arena *arena;
};

struct part_filter_options {
    const struct filter *compiled; /* the same filter; NULL: patterns on metadata stay open */
    rows_leaf other;
    void *other_context;
    const struct limits_of_work *limits; /* NULL: none */
};
/**
 * Make a filter ready.  `options` NULL: none; `other` answers what is not about metadata (NULL: nobody does).  *ret_filter NULL: nothing is known without reading the rows:
 * no index and no answers from `other`, the index is damaged (then it is noted), or there is no room for it now.
 * Errors: of `other`, of reading, OCH_NO_MEMORY, OCH_DEADLINE, OCH_CANCELLED.
 */
MUST_USE och_code part_filter_new(struct part *part, const struct filter_node *node,
                                  const struct part_filter_options *options, struct arena *arena,
                                  struct part_filter **ret_filter, och_error *err);
/** meta_search_chunk.  *ret_usable false: damaged or no room, look at the rows. */
MUST_USE och_code part_filter_chunk(struct part_filter *filter, uint32_t chunk, uint64_t *sure,
                                    uint64_t *maybe, bool *ret_usable, och_error *err);
/** meta_count_values.  *ret_known false: no index, damaged, no room now, or it cannot say: look at the rows, and forget what `counted` was given. */
MUST_USE och_code part_count_values(struct part *part, slice key, const uint64_t *mask,
                                    const struct limits_of_work *limits, struct arena *arena,
                                    meta_counted counted, void *context, bool *ret_known,
                                    och_error *err);
/** meta_walk_order; `options` without index and pages.  *ret_known false: as above, and forget what was given. */
MUST_USE och_code part_walk_order(struct part *part, const struct meta_order_options *options,
                                  struct arena *arena, bool *ret_known, och_error *err);
#endif
