/* SPDX-License-Identifier: Apache-2.0 */
/* Flush: the tails of one or of thousands of collections become parts of one object; one transaction makes them current (D10, D17). */
#include "compact/compact_internal.h"

#include <inttypes.h>
#include <stdlib.h>

#define READS_KEEP 256 /* rows after which pinned blocks of older parts are given back */
#define STEP_OVER  8   /* a tail longer than the usual by one in so many is flushed in steps */

struct wish {
    uuid id;
    uint64_t head; /* where its tail ended when it was asked for; 0: not looked at yet */
};

struct flush { /* one collection on its way */
    uuid id;
    const struct sysdb_collection *row;
    struct view *view; /* at H: what the part holds */
    struct part_info info;
    bool has_part;
    const struct tail_slot **slots; /* live rows in ascending seq */
    uint32_t slot_count;
    struct arena arena; /* for the commit's values */
};

static int slot_compare(const void *a, const void *b)
{
    const struct tail_slot *x = *(const struct tail_slot *const *)a,
                           *y = *(const struct tail_slot *const *)b;
    return (x->record.seq > y->record.seq) - (x->record.seq < y->record.seq);
}

/* Rows that stand at H.  Those that expired by the last batch's time are left behind: no reader and no later operation can find them. */
static och_code collect_slots(struct flush *f, och_error *err)
{
    uint32_t count = view_slot_count(f->view);
    f->slots = ARENA_ARRAY(&f->arena, const struct tail_slot *, (size_t)count + 1);
    if (!f->slots)
        return FAIL_NO_MEMORY(err, "a flush");
    bool ordered = true;
    for (uint32_t i = 0; i < count; i++) {
        const struct tail_slot *slot = view_slot(f->view, i);
        if (!view_slot_stands(f->view, slot))
            continue;
        ordered = ordered && (f->slot_count == 0 ||
                              f->slots[f->slot_count - 1]->record.seq < slot->record.seq);
        f->slots[f->slot_count++] = slot;
    }
    if (!ordered)
        qsort(f->slots, f->slot_count, sizeof(struct tail_slot *), slot_compare);
    return OCH_OK;
}

struct flush_source {
    struct flush *flush;
    struct part_reads reads;
    struct arena arena;
    uint32_t since;
};

static och_code source_row(void *context, uint32_t i, unsigned fields, struct arena *arena,
                           struct record *ret_record, och_error *err)
{
    struct flush_source *source = context;
    (void)arena;
    if (++source->since == READS_KEEP) {
        source->since = 0;
        struct cache *cache = source->reads.cache;
        part_reads_done(&source->reads);
        arena_done(&source->arena);
        part_reads_init(&source->reads, cache, &source->arena);
    }
    return view_slot_read(source->flush->view, source->flush->slots[i], &source->reads, fields,
                          ret_record, err);
}

/* Whose mean and rotation the new part takes, so that merges copy codes (D18): the largest part that has codes. */
static och_code find_like(const struct flush *f, struct part **ret_like, och_error *err)
{
    uint32_t most = 0;
    *ret_like = NULL;
    for (size_t i = 0; i < view_part_count(f->view); i++) {
        struct part *part = view_part(f->view, i);
        const struct vector_index *index;
        if (part_rows(part) <= most)
            continue;
        TRY(part_vector_index(part, &index, err));
        if (!index || index->coded <= most)
            continue;
        most = index->coded;
        *ret_like = part;
    }
    return OCH_OK;
}

static och_code build(struct compactor *c, struct flush *f, bool plain, struct store_writer *writer,
                      uuid file, och_error *err)
{
    const struct view_info *info = view_info(f->view);
    TRY(collect_slots(f, err));
    slice *kills;
    size_t kill_count;
    TRY(view_kills(f->view, &f->arena, &kills, &kill_count, err));
    if (f->slot_count == 0 && kill_count == 0)
        return OCH_OK; /* what came is gone again: only the offset moves */
    struct part_spec spec = {.collection = f->id,
                             .lineage = compact_new_id(c),
                             .tenant = f->row->tenant,
                             .database = f->row->database,
                             .name = f->row->name,
                             .schema_json = f->row->schema_json,
                             .dimension = info->dimension,
                             .metric = info->metric,
                             .log_from = info->from,
                             .log_to = info->to,
                             .kills = kills,
                             .kill_count = kill_count,
                             .plain = plain};
    if (!plain && vector_wanted(f->slot_count, info->dimension))
        TRY(find_like(f, &spec.like, err));
    struct flush_source source = {.flush = f};
    arena_init(&source.arena, c->options.budget, 0);
    part_reads_init(&source.reads, c->options.parts.cache, &source.arena);
    struct part_source rows = {.context = &source, .count = f->slot_count, .row = source_row};
    struct part_build_options options = {.budget = c->options.budget,
                                         .limits = {.cancel = &c->cancel}};
    och_code code = part_build(&spec, &rows, &options, writer, NULL, &f->info, err);
    part_reads_done(&source.reads);
    arena_done(&source.arena);
    TRY(code);
    memcpy(f->info.ref.object.bytes, file.bytes, sizeof(file.bytes));
    f->has_part = true;
    return OCH_OK;
}

/* The version after this flush, as of now: `fresh` may have been merged meanwhile, its masks up to H say what H made dead. */
static och_code next_version(struct compactor *c, struct flush *f, struct view *fresh, uuid file,
                             struct sysdb_version *ret_next, och_error *err)
{
    struct sysdb_version current;
    TRY(sysdb_version_get(c->options.sysdb, f->id, &f->arena, &current, err));
    if (current.version != view_info(fresh)->version ||
        current.part_count != view_part_count(fresh))
        return FAIL(err, OCH_INTERNAL, "version %" PRId64 " was not installed", current.version);
    uint64_t upto = view_info(f->view)->to;
    struct sysdb_part *parts = ARENA_ARRAY(&f->arena, struct sysdb_part, current.part_count + 1);
    if (!parts)
        return FAIL_NO_MEMORY(err, "a version");
    for (size_t i = 0; i < current.part_count; i++) {
        parts[i] = current.parts[i];
        struct bitset dead = {0};
        TRY(view_dead_upto(fresh, i, upto, &dead, err));
        och_code code = compact_set_dead(&dead, &f->arena, &parts[i], err);
        bitset_done(&dead);
        TRY(code);
    }
    *ret_next = current;
    ret_next->parts = parts;
    if (f->has_part)
        parts[ret_next->part_count++] = compact_part_row(file, &f->info);
    ret_next->log_offset = upto;
    ret_next->dimension = view_info(f->view)->dimension;
    return OCH_OK;
}

static och_code note_batches(struct flush *f, struct sysdb_commit *item, och_error *err)
{
    size_t count = view_batch_count(f->view);
    struct sysdb_batch_id *ids = ARENA_ARRAY(&f->arena, struct sysdb_batch_id, count + 1);
    if (!ids)
        return FAIL_NO_MEMORY(err, "batch ids");
    for (size_t i = 0; i < count; i++) {
        const struct wal_batch *batch = view_batch(f->view, i);
        item->next.last_created_at = batch->created_at;
        if (uuid_is_zero(batch->batch_id))
            continue;
        struct view_counts counts;
        TRY(view_batch_counts(f->view, batch->first, batch->count, &counts, err));
        ids[item->batch_id_count++] = (struct sysdb_batch_id){.batch_id = batch->batch_id,
                                                              .request_hash = batch->request_hash,
                                                              .first = batch->first,
                                                              .count = batch->count,
                                                              .inserted = (uint32_t)counts.inserted,
                                                              .updated = (uint32_t)counts.updated,
                                                              .skipped = (uint32_t)counts.skipped,
                                                              .deleted = (uint32_t)counts.deleted,
                                                              .created_at = batch->created_at};
    }
    item->batch_ids = ids;
    return OCH_OK;
}

static och_code prepare_item(struct compactor *c, struct flush *f, uuid file,
                             struct sysdb_commit *item, och_error *err)
{
    struct view *fresh CLEANUP(view_cleanup) = NULL;
    TRY(view_acquire(c->options.views, f->id, READ_INDEX_AND_WAL, &fresh, err));
    *item = (struct sysdb_commit){.collection = f->id,
                                  .expected_version = view_info(fresh)->version,
                                  .kept = compact_new_id(c)};
    TRY(next_version(c, f, fresh, file, &item->next, err));
    struct batch_pair *pairs;
    TRY(view_pairs(f->view, &f->arena, &pairs, &item->pair_count, err));
    item->pairs = pairs;
    return note_batches(f, item, err);
}

static och_code after_commit(struct compactor *c, struct flush *f, const struct sysdb_version *next,
                             och_error *err)
{
    uint64_t dead = 0;
    for (size_t i = 0; i < next->part_count; i++)
        dead += next->parts[i].deleted;
    if (next->part_count > 1 || dead > 0)
        compact_want_merge(c, f->id);
    och_code code = views_install(c->options.views, f->id, err);
    /* The batches are in a part, whether that is shown already or with the next load. */
    och_code trimmed =
        wal_trim(c->options.wal, f->id, view_info(f->view)->to, code == OCH_OK ? err : NULL);
    TRY(code);
    TRY(trimmed);
    mutex_lock(&c->lock);
    c->stats.flushes++;
    c->stats.rows_written += f->slot_count;
    mutex_unlock(&c->lock);
    return OCH_OK;
}

/* Parts of collections that were dropped meanwhile take no room in the object of the others (D15). */
static void punch_unused(struct compactor *c, const struct flush *flushes, size_t count, uuid file,
                         const struct sysdb_commit *items, size_t ready)
{
    object_id object;
    memcpy(object.bytes, file.bytes, sizeof(object.bytes));
    for (size_t i = 0, item = 0; i < count; i++) {
        bool used = false;
        if (item < ready && uuid_equal(flushes[i].id, items[item].collection))
            used = items[item++].ret_committed;
        const struct part_ref *ref = &flushes[i].info.ref;
        if (!used && flushes[i].has_part)
            IGNORE(store_punch(c->options.store, object, ref->offset, ref->size, NULL));
    }
}

/* Under commit_lock. */
static och_code commit(struct compactor *c, struct flush *flushes, size_t count, uuid file,
                       bool *ret_asked, bool *ret_any, och_error *err)
{
    struct sysdb_commit *items = mem_zalloc((count + 1) * sizeof(*items));
    if (!items)
        return FAIL_NO_MEMORY(err, "a commit");
    och_code code = OCH_OK;
    size_t ready = 0;
    for (size_t i = 0; i < count && code == OCH_OK; i++) {
        code = prepare_item(c, &flushes[i], file, &items[ready], err);
        if (code == OCH_OK) {
            ready++;
        } else if (code == OCH_NOT_FOUND) { /* dropped meanwhile */
            error_clear(err);
            code = OCH_OK;
        }
    }
    bool asked = *ret_asked = code == OCH_OK && ready > 0;
    if (asked)
        code = sysdb_commit_versions(c->options.sysdb, items, ready, err);
    bool unknown = asked && code != OCH_OK;
    /* Every collection that switched must show it, whatever happens to another one. */
    for (size_t i = 0, item = 0; asked && i < count && item < ready; i++) {
        if (!uuid_equal(flushes[i].id, items[item].collection))
            continue;
        *ret_any |= items[item].ret_committed;
        if (unknown) {
            IGNORE(views_install(c->options.views, flushes[i].id, NULL)); /* whichever it is now */
        } else if (items[item].ret_committed) {
            och_error why = {0};
            och_code after = after_commit(c, &flushes[i], &items[item].next, &why);
            if (after != OCH_OK && after != OCH_NOT_FOUND && code == OCH_OK) { /* not dropped */
                code = after;
                if (err)
                    *err = why;
            }
        }
        item++;
    }
    if (*ret_any && !unknown)
        punch_unused(c, flushes, count, file, items, ready);
    mem_free(items);
    return code;
}

static void flush_done(struct flush *f)
{
    view_release(f->view);
    sysdb_collection_unref(f->row);
    arena_done(&f->arena);
}

/* However long the tail, a part is made of about one tail's worth: built soon, in one list, and merged like the others (D18).
 * Nor does it pass what functions have not consumed.  False: nothing may leave the tail now. */
static bool cut(struct compactor *c, struct view *view)
{
    const struct view_info *info = view_info(view);
    if (c->options.hold) {
        uint64_t held = 0;
        for (size_t i = 0; i < view_batch_count(view); i++)
            held += view_batch(view, i)->payload->len;
        uint64_t upto =
            c->options.hold(c->options.hold_context, info->collection, info->from, info->to, held);
        if (upto < info->to && !view_cut_at(view, upto))
            return false;
    }
    uint64_t rows = c->options.tail_rows_max, bytes = c->options.tail_bytes_max;
    (void)view_cut(view, rows + rows / STEP_OVER, bytes + bytes / STEP_OVER);
    return true;
}

/* A view of each collection that has a tail; those that are gone are passed over. */
static och_code open_flush(struct compactor *c, struct wish *wish, struct flush *f,
                           bool *ret_wanted, och_error *err)
{
    uuid id = wish->id;
    *ret_wanted = false;
    *f = (struct flush){.id = id};
    arena_init(&f->arena, c->options.budget, 0);
    och_code code =
        sysdb_collection_get(c->options.sysdb, SLICE_NONE, SLICE_NONE, id, &f->row, err);
    if (code == OCH_OK)
        code = view_acquire(c->options.views, id, READ_INDEX_AND_WAL, &f->view, err);
    if (code == OCH_NOT_FOUND) {
        error_clear(err);
        code = OCH_OK;
    } else if (code == OCH_OK) {
        const struct view_info *info = view_info(f->view);
        wish->head = wish->head ? wish->head : info->to;
        *ret_wanted = info->from < info->to && info->from < wish->head;
        if (*ret_wanted)
            *ret_wanted = cut(c, f->view);
        else /* a flush that failed behind its commit may have left this undone */
            IGNORE(wal_trim(c->options.wal, id, info->from, NULL));
    }
    if (code != OCH_OK || !*ret_wanted)
        flush_done(f);
    return code;
}

static void prepare(struct compactor *c, uuid id, const struct sysdb_part *row)
{
    views_prepare(c->options.views, id, row, &(struct limits_of_work){.cancel = &c->cancel});
}

static void unprepare(struct compactor *c, uuid id, const struct sysdb_part *row)
{
    views_unprepare(c->options.views, id, row);
}

static void each_made(struct compactor *c, const struct flush *flushes, size_t count, uuid file,
                      void (*what)(struct compactor *c, uuid id, const struct sysdb_part *row))
{
    for (size_t i = 0; i < count; i++) {
        struct sysdb_part row = compact_part_row(file, &flushes[i].info);
        if (flushes[i].has_part)
            what(c, flushes[i].id, &row);
    }
}

static och_code flush_all(struct compactor *c, struct flush *flushes, size_t count, bool plain,
                          och_error *err)
{
    uuid file;
    struct store_writer *writer = NULL;
    compact_make_room(c);
    TRY(compact_object_new(c, &file, &writer, err));
    och_code code = OCH_OK;
    bool any = false;
    for (size_t i = 0; i < count && code == OCH_OK; i++) {
        code = build(c, &flushes[i], plain, writer, file, err);
        any |= flushes[i].has_part;
    }
    if (code == OCH_OK && any)
        code = store_finish(writer, err);
    else
        store_abandon(writer);
    bool unused = code != OCH_OK || !any;
    if (code == OCH_OK) {
        bool asked = false, committed = false;
        each_made(c, flushes, count, file, prepare);
        mutex_lock(&c->commit_lock);
        code = commit(c, flushes, count, file, &asked, &committed, err);
        mutex_unlock(&c->commit_lock);
        each_made(c, flushes, count, file, unprepare);
        /* Once the catalogue was asked and did not answer, the outcome is not known. */
        unused |= !committed && (code == OCH_OK || !asked);
    }
    if (unused)
        compact_object_drop(c, file);
    return code;
}

/* At most one part of each; *count and wishes: those not yet flushed up to their heads. */
static och_code flush_step(struct compactor *c, struct wish *wishes, size_t *count, bool plain,
                           och_error *err)
{
    struct flush *flushes = mem_zalloc((*count + 1) * sizeof(*flushes));
    if (!flushes)
        return FAIL_NO_MEMORY(err, "a flush");
    mutex_lock(&c->flush_lock);
    och_code code = OCH_OK;
    size_t wanted = 0, left = 0;
    for (size_t i = 0; i < *count && code == OCH_OK; i++) {
        bool has_tail;
        struct wish wish = wishes[i];
        code = open_flush(c, &wish, &flushes[wanted], &has_tail, err);
        if (code != OCH_OK || !has_tail)
            continue;
        if (view_info(flushes[wanted++].view)->to < wish.head)
            wishes[left++] = wish;
    }
    if (code == OCH_OK && wanted > 0)
        code = flush_all(c, flushes, wanted, plain, err);
    for (size_t i = 0; i < wanted; i++)
        flush_done(&flushes[i]);
    mutex_unlock(&c->flush_lock);
    mem_free(flushes);
    *count = left;
    return code;
}

och_code compact_flush_step(struct compactor *c, uuid id, bool plain, och_error *err)
{
    struct wish wish = {.id = id};
    size_t count = 1;
    return flush_step(c, &wish, &count, plain, err);
}

och_code compact_flush(struct compactor *c, const uuid *ids, size_t count, bool plain,
                       och_error *err)
{
    struct wish *wishes = mem_zalloc((count + 1) * sizeof(*wishes));
    if (!wishes)
        return FAIL_NO_MEMORY(err, "a flush");
    for (size_t i = 0; i < count; i++)
        wishes[i].id = ids[i];
    och_code code = OCH_OK;
    while (count > 0 && code == OCH_OK)
        code = flush_step(c, wishes, &count, plain, err);
    mem_free(wishes);
    return code;
}
