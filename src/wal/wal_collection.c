/* SPDX-License-Identifier: Apache-2.0 */
/* What the log knows of each collection: made on first touch from the catalogue, or at open from its frames.
 * Everything here runs under the log's lock. */
#include "wal/wal_internal.h"

#include <string.h>

static const uint64_t wait_step_ns = 10000000; // a cancelled call notices within this

int64_t wal_now_ms(struct wal *wal)
{
    return (int64_t)(clock_wall_ns(wal->options.clock) / 1000000);
}

void wal_wake_changed(struct wal *wal)
{
    if (wal->changed_waiting)
        cond_broadcast(&wal->changed);
}

och_code wal_wait_changed(struct wal *wal, const struct limits_of_work *limits, och_error *err)
{
    wal->changed_waiting++;
    if (limits && (limits->cancel || limits->deadline_mono_ns))
        (void)cond_wait_until(&wal->changed, &wal->lock, sched_mono_ns() + wait_step_ns);
    else
        cond_wait(&wal->changed, &wal->lock);
    wal->changed_waiting--;
    return limits ? work_check(limits, err) : OCH_OK;
}

struct wal_collection *wal_collection_find(struct wal *wal, uuid id)
{
    uint64_t *found = map_find(&wal->collections, uuid_slice(&id));
    return found ? (struct wal_collection *)(uintptr_t)*found : NULL;
}

void wal_collection_pin(struct wal_collection *c)
{
    c->pins++;
}

void wal_collection_free(struct wal_collection *c)
{
    if (!c)
        return;
    size_t cursor = 0;
    slice key;
    uint64_t value;
    while (map_next(&c->ids, &cursor, &key, &value))
        mem_free((struct wal_id *)(uintptr_t)value);
    map_done(&c->ids);
    VEC_DONE(&c->entries);
    mem_free(c);
}

void wal_collection_unpin(struct wal *wal, struct wal_collection *c)
{
    assert(c->pins > 0);
    (void)wal;
    if (--c->pins == 0 && c->forgotten)
        wal_collection_free(c);
}

void wal_collection_remove(struct wal *wal, struct wal_collection *c)
{
    assert(!c->forgotten && wal->slots.at[c->slot] == c);
    (void)map_remove(&wal->collections, uuid_slice(&c->id));
    wal->slots.at[c->slot] = NULL;
    wal->free_slots.at[wal->free_slots.len++] = c->slot; // room was made with the slot
    wal->epoch++;
    c->forgotten = true;
    if (c->pins == 0)
        wal_collection_free(c);
}

static void collection_init(struct wal_collection *c, const struct wal_origin *origin)
{
    *c = (struct wal_collection){
        .id = origin->collection,
        .trimmed = origin->offset,
        .head = origin->offset,
        .next_head = origin->offset,
        .dimension = origin->dimension,
        .next_dimension = origin->dimension,
        .last_created_at = origin->created_at,
        .next_created_at = origin->created_at,
    };
}

static struct wal_collection *collection_new(struct wal *wal, const struct wal_origin *origin)
{
    struct wal_collection *c = MEM_NEW(struct wal_collection);
    if (!c)
        return NULL;
    bool reuse = wal->free_slots.len > 0;
    bool room = reuse || (VEC_RESERVE(&wal->slots, wal->slots.len + 1) &&
                          VEC_RESERVE(&wal->free_slots, wal->slots.len + 1));
    collection_init(c, origin);
    map_init(&c->ids);
    c->ids_last = &c->ids_first;
    bool fresh;
    uint64_t *value = room ? map_at(&wal->collections, uuid_slice(&c->id), &fresh) : NULL;
    if (!value) {
        wal_collection_free(c);
        return NULL;
    }
    assert(fresh);
    *value = (uint64_t)(uintptr_t)c;
    c->slot = reuse ? wal->free_slots.at[--wal->free_slots.len] : (uint32_t)wal->slots.len++;
    wal->slots.at[c->slot] = c;
    return c;
}

/* The table's entry, or with `scratch` what the catalogue says, without an entry. */
static och_code collection_find(struct wal *wal, uuid id, struct wal_collection *scratch,
                                struct wal_collection **ret, och_error *err)
{
    for (;;) {
        *ret = wal_collection_find(wal, id);
        if (*ret)
            return OCH_OK;
        uint64_t epoch = wal->epoch;
        const struct sysdb_collection *row = NULL;
        mutex_unlock(&wal->lock);
        och_code code =
            sysdb_collection_get(wal->options.sysdb, SLICE_NONE, SLICE_NONE, id, &row, err);
        mutex_lock(&wal->lock);
        if (code != OCH_OK)
            return code;
        struct wal_origin origin = {id, row->log_offset, row->dimension, row->last_created_at};
        sysdb_collection_unref(row);
        // whoever was faster knows better; and a removal meanwhile makes the row doubtful
        bool again = epoch != wal->epoch || wal_collection_find(wal, id);
        if (!again && scratch)
            collection_init(scratch, &origin);
        if (!again)
            *ret = scratch ? scratch : collection_new(wal, &origin);
        if (!again)
            return *ret ? OCH_OK : FAIL_NO_MEMORY(err, "a collection's log");
    }
}

och_code wal_collection_get(struct wal *wal, uuid id, struct wal_collection **ret, och_error *err)
{
    struct wal_collection *c;
    TRY(collection_find(wal, id, NULL, &c, err));
    wal_collection_pin(c);
    *ret = c;
    return OCH_OK;
}

och_code wal_collection_begin(struct wal *wal, const struct wal_origin *origin,
                              struct wal_collection **ret, och_error *err)
{
    struct wal_collection *c = wal_collection_find(wal, origin->collection);
    if (!c)
        c = collection_new(wal, origin);
    if (!c)
        return FAIL_NO_MEMORY(err, "a collection's log");
    wal_collection_pin(c);
    *ret = c;
    return OCH_OK;
}

och_code wal_collection_peek(struct wal *wal, uuid id, struct wal_collection *scratch,
                             const struct wal_collection **ret, och_error *err)
{
    struct wal_collection *c;
    TRY(collection_find(wal, id, scratch, &c, err));
    *ret = c;
    return OCH_OK;
}

void wal_id_free(struct wal_collection *c, struct wal_id *id)
{
    (void)map_remove(&c->ids, uuid_slice(&id->batch_id));
    mem_free(id);
}

void wal_id_drop(struct wal_collection *c, struct wal_id *id)
{
    assert(!id->in_flight);
    struct wal_id **link = &c->ids_first;
    while (*link != id)
        link = &(*link)->next;
    *link = id->next;
    if (c->ids_last == &id->next)
        c->ids_last = link;
    wal_id_free(c, id);
}

void wal_id_done(struct wal_collection *c, struct wal_id *id, uint64_t first, uint32_t count,
                 int64_t created_at)
{
    id->in_flight = false;
    id->first = first;
    id->count = count;
    id->created_at = created_at;
    id->next = NULL;
    *c->ids_last = id;
    c->ids_last = &id->next;
}

static void ids_trim(struct wal_collection *c, uint64_t to)
{
    while (c->ids_first && c->ids_first->first + c->ids_first->count <= to) {
        struct wal_id *id = c->ids_first;
        c->ids_first = id->next;
        if (!c->ids_first)
            c->ids_last = &c->ids_first;
        wal_id_free(c, id);
    }
}

bool wal_collection_trim(struct wal *wal, struct wal_collection *c, uint64_t to)
{
    bool emptied = false;
    while (c->start < c->entries.len) {
        struct wal_entry *entry = &c->entries.at[c->start];
        uint64_t bytes = wal_frame_bytes(entry->payload_size);
        if (entry->first + entry->count > to)
            break;
        assert(entry->segment->live_frames > 0 && c->live_bytes >= bytes);
        emptied |= --entry->segment->live_frames == 0;
        c->live_bytes -= bytes;
        wal->stats.backlog_bytes -= bytes;
        wal->stats.backlog_batches--;
        c->start++;
    }
    if (c->start == c->entries.len) {
        c->entries.len = c->start = 0;
        if (c->in_flight == 0) // else a flush counts on the room that it reserved
            VEC_DONE(&c->entries);
    } else if (c->start > c->entries.len / 2) {
        c->entries.len -= c->start;
        memmove(c->entries.at, c->entries.at + c->start, c->entries.len * sizeof(c->entries.at[0]));
        c->start = 0;
    }
    if (c->trimmed < to)
        c->trimmed = to;
    ids_trim(c, to);
    return emptied;
}
