/* SPDX-License-Identifier: Apache-2.0 */
/* Parts on their way into use.  A new part lies in no memory, and the first query of it would read some tens of megabytes of codes: tens of milliseconds
 * where others take one.  So who made it opens it and loads its codes while queries still run on the version before. */
#include "view/view_internal.h"

#define PASSING_NS \
    10000000000ull /* a part made while rows are added is likely to be merged within that */

static bool is_searched(const struct generation *g)
{
    bool searched = tail_codes_asked(g);
    for (uint32_t i = 0; i < g->part_count && !searched; i++)
        searched = part_was_searched(g->parts[i].part);
    return searched;
}

bool view_searched(const struct view *view)
{
    return is_searched(view->generation);
}

static void keep(struct collection *c, const struct sysdb_part *row, struct part *part)
{
    mutex_lock(&c->lock);
    bool kept = VEC_PUSH(&c->prepared, ((struct prepared){row->file, row->offset, part}));
    mutex_unlock(&c->lock);
    if (!kept)
        part_unref(part);
}

void views_prepare(struct views *views, uuid id, const struct sysdb_part *row,
                   const struct limits_of_work *limits)
{
    const struct sysdb_collection *owner CLEANUP(sysdb_collection_cleanup) = NULL;
    struct part *part;
    struct part_warmed warmed = {0};
    struct collection *c = collection_take(views, id, false);
    if (!c)
        return;
    mutex_lock(&c->lock);
    bool searched = c->current && is_searched(c->current);
    mutex_unlock(&c->lock);
    if (searched &&
        sysdb_collection_get(views->options.sysdb, SLICE_NONE, SLICE_NONE, id, &owner, NULL) ==
            OCH_OK &&
        view_part_open(views, owner, row, &part, NULL) == OCH_OK) {
        part_set_passing(part, sched_mono_ns() + PASSING_NS);
        IGNORE(part_warm(part, PART_WARM_CODES, limits, &warmed, NULL));
        keep(c, row, part);
    }
    collection_release(c);
}

struct part *prepared_take(struct collection *c, const struct sysdb_part *row)
{
    struct part *part = NULL;
    mutex_lock(&c->lock);
    for (size_t i = 0; i < c->prepared.len && !part; i++) {
        if (!uuid_equal(c->prepared.at[i].file, row->file) ||
            c->prepared.at[i].offset != row->offset)
            continue;
        part = c->prepared.at[i].part;
        c->prepared.at[i] = c->prepared.at[--c->prepared.len];
    }
    mutex_unlock(&c->lock);
    return part;
}

void views_unprepare(struct views *views, uuid id, const struct sysdb_part *row)
{
    struct collection *c = collection_take(views, id, false);
    if (!c)
        return;
    part_unref(prepared_take(c, row));
    collection_release(c);
}

void prepared_done(struct collection *c)
{
    for (size_t i = 0; i < c->prepared.len; i++)
        part_unref(c->prepared.at[i].part);
    VEC_DONE(&c->prepared);
}
