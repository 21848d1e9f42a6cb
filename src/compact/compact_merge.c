/* SPDX-License-Identifier: Apache-2.0 */
/* Merge: adjacent parts become one, without their dead rows.  Runs beside flushes; it commits if its inputs are still current, and rows that died
 * meanwhile are mapped from old to new row into the output's bitmap (D31). */
#include "compact/compact_internal.h"

#include <inttypes.h>
#include <stdlib.h>

#define READS_KEEP  64     /* rows after which pinned extents are given back */
#define HELPED_ROWS 4096   /* fewer are built by one thread */
#define LIST_ROWS   320    /* vectors a list, of parts on the way to larger ones */
#define FLAT_ROWS   131072 /* up to here such parts have one, if nobody searches */

struct input {
    struct part *part;
    struct bitset
        dead; /* in the version at the start: tail operations may still need the rows they touch */
    struct compact_buried buried; /* dead besides: those that had expired by then */
    struct sysdb_part row;
};

struct from { /* where an output row comes from */
    uint32_t input, row;
};

struct merge {
    struct compactor *c;
    uuid id;
    const struct sysdb_collection *row;
    struct view *view;
    size_t first, count; /* inputs within the view's parts */
    struct input *inputs;
    struct from *rows; /* in ascending seq */
    uint32_t *new_rows;
    uint32_t row_count;
    bool passing;    /* the output is going to be merged again */
    int64_t last_ms; /* no operation of an earlier time can come */
    slice *kills;
    size_t kill_count;
    struct arena arena;
    struct part_info info;
};

struct head { /* next live row of an input, in seq order */
    uint32_t position, row;
    int64_t seq;
    const uint32_t *order;
    bool done;
};

static och_code head_next(struct merge *m, size_t i, struct head *head, och_error *err)
{
    struct input *input = &m->inputs[i];
    for (; head->position < part_rows(input->part); head->position++) {
        uint32_t row = head->order ? head->order[head->position] : head->position;
        if (bitset_has(&input->dead, row))
            continue;
        head->position++;
        head->row = row;
        return part_seq(input->part, row, &head->seq, err);
    }
    head->done = true;
    return OCH_OK;
}

static och_code order_rows(struct merge *m, och_error *err)
{
    uint64_t live = 0;
    for (size_t i = 0; i < m->count; i++)
        live += part_rows(m->inputs[i].part) - bitset_count(&m->inputs[i].dead);
    if (live >= UINT32_MAX)
        return FAIL(err, OCH_TOO_LARGE, "merge of %" PRIu64 " rows", live);
    m->rows = ARENA_ARRAY(&m->arena, struct from, live + 1);
    m->new_rows = ARENA_ARRAY(&m->arena, uint32_t, live + 1);
    struct head *heads = ARENA_ARRAY(&m->arena, struct head, m->count);
    if (!m->rows || !m->new_rows || !heads)
        return FAIL_NO_MEMORY(err, "a merge");
    struct part_reads reads;
    part_reads_init(&reads, m->c->options.parts.cache, &m->arena);
    och_code code = OCH_OK;
    for (size_t i = 0; i < m->count && code == OCH_OK; i++) {
        if (!part_is_seq_ordered(m->inputs[i].part))
            code = part_seq_order(m->inputs[i].part, &reads, &heads[i].order, err);
        if (code == OCH_OK)
            code = head_next(m, i, &heads[i], err);
    }
    while (code == OCH_OK) {
        size_t best = SIZE_MAX;
        for (size_t i = 0; i < m->count; i++) {
            if (!heads[i].done && (best == SIZE_MAX || heads[i].seq < heads[best].seq))
                best = i;
        }
        if (best == SIZE_MAX)
            break;
        m->rows[m->row_count++] = (struct from){(uint32_t)best, heads[best].row};
        code = head_next(m, best, &heads[best], err);
    }
    part_reads_done(&reads);
    return code;
}

/* KILL stays while an older part lives that may hold such an id (D3). */
static och_code gather_kills(struct merge *m, och_error *err)
{
    if (m->first == 0)
        return OCH_OK;
    struct map seen;
    map_init(&seen);
    VEC(slice) all = {0};
    och_code code = OCH_OK;
    for (size_t i = 0; i < m->count && code == OCH_OK; i++) {
        slice *kills;
        size_t count;
        code = part_kills(m->inputs[i].part, &m->arena, &kills, &count, err);
        size_t buried = m->inputs[i].buried.ids.len;
        for (size_t k = 0; code == OCH_OK && k < count + buried; k++) {
            slice id = k < count ? kills[k] : m->inputs[i].buried.ids.at[k - count];
            bool is_new;
            if (!map_at(&seen, id, &is_new) || (is_new && !VEC_PUSH(&all, id)))
                code = FAIL_NO_MEMORY(err, "a merge");
        }
    }
    if (code == OCH_OK && all.len > 0) {
        m->kills = ARENA_ARRAY(&m->arena, slice, all.len);
        if (m->kills) {
            memcpy(m->kills, all.at, all.len * sizeof(slice));
            m->kill_count = all.len;
        } else {
            code = FAIL_NO_MEMORY(err, "a merge");
        }
    }
    VEC_DONE(&all);
    map_done(&seen);
    return code;
}

struct merge_source {
    struct merge *merge;
    struct part_reads reads;
    struct arena arena;
    uint32_t since;
};

static och_code source_row(void *context, uint32_t i, unsigned fields, struct arena *arena,
                           struct record *ret_record, och_error *err)
{
    struct merge_source *source = context;
    (void)arena;
    if (++source->since == READS_KEEP) {
        source->since = 0;
        struct cache *cache = source->reads.cache;
        part_reads_done(&source->reads);
        arena_done(&source->arena);
        part_reads_init(&source->reads, cache, &source->arena);
    }
    struct from from = source->merge->rows[i];
    return part_read(source->merge->inputs[from.input].part, &source->reads, from.row, fields,
                     ret_record, err);
}

static void source_init(struct merge_source *source, struct merge *m)
{
    *source = (struct merge_source){.merge = m};
    arena_init(&source->arena, m->c->options.budget, 0);
    part_reads_init(&source->reads, m->c->options.parts.cache, &source->arena);
}

static void source_done(struct merge_source *source)
{
    part_reads_done(&source->reads);
    arena_done(&source->arena);
}

/* For one more thread. */
static och_code source_new(void *context, void **ret_source, och_error *err)
{
    struct merge_source *first = context, *source = MEM_NEW(struct merge_source);
    if (!source)
        return FAIL_NO_MEMORY(err, "a merge");
    source_init(source, first->merge);
    *ret_source = source;
    return OCH_OK;
}

static void source_free(void *source)
{
    source_done(source);
    mem_free(source);
}

static void source_place(const void *context, uint32_t i, uint32_t *ret_input, uint32_t *ret_row)
{
    const struct merge_source *source = context;
    *ret_input = source->merge->rows[i].input;
    *ret_row = source->merge->rows[i].row;
}

/* Threads that help this one build; they are as nice as it is.  NULL: none. */
static struct pool *take_helpers(const struct merge *m)
{
    unsigned threads = m->c->options.thread_count;
    struct pool_options options = {.name = "ochre-build",
                                   .thread_count = threads > 1 ? threads - 1 : 1};
    struct pool *pool = NULL;
    if (threads < 2 || m->row_count < HELPED_ROWS || pool_new(&options, &pool, NULL) != OCH_OK)
        return NULL;
    return pool;
}

static bool is_unlisted(struct part *part)
{
    const struct vector_index *index;
    return part_vector_index(part, &index, NULL) == OCH_OK && index && !vector_lists_suit(index);
}

static och_code build(struct merge *m, struct store_writer *writer, uuid file, och_error *err)
{
    struct compactor *c = m->c;
    struct part **parts = ARENA_ARRAY(&m->arena, struct part *, m->count);
    if (!parts)
        return FAIL_NO_MEMORY(err, "a merge");
    for (size_t i = 0; i < m->count; i++)
        parts[i] = m->inputs[i].part;
    struct part_spec spec = {.collection = m->id,
                             .lineage = compact_new_id(c),
                             .tenant = m->row->tenant,
                             .database = m->row->database,
                             .name = m->row->name,
                             .schema_json = m->row->schema_json,
                             .dimension = view_info(m->view)->dimension,
                             .metric = view_info(m->view)->metric,
                             .log_from = m->inputs[0].row.log_from,
                             .log_to = m->inputs[m->count - 1].row.log_to,
                             .kills = m->kills,
                             .kill_count = m->kill_count,
                             .inputs = parts,
                             .input_count = m->count};
    struct merge_source source;
    source_init(&source, m);
    struct part_source rows = {.context = &source,
                               .count = m->row_count,
                               .row = source_row,
                               .reader_new = source_new,
                               .reader_free = source_free,
                               .place = source_place};
    struct part_build_options options = {.budget = c->options.budget,
                                         .pool = take_helpers(m),
                                         .limits = {.cancel = &c->cancel},
                                         .flat_rows =
                                             m->passing && !view_searched(m->view) ? FLAT_ROWS : 0,
                                         .list_rows = m->passing ? LIST_ROWS : 0};
    och_code code = part_build(&spec, &rows, &options, writer, m->new_rows, &m->info, err);
    pool_free(options.pool);
    source_done(&source);
    TRY(code);
    memcpy(m->info.ref.object.bytes, file.bytes, sizeof(file.bytes));
    return OCH_OK;
}

/* Is a row alive again that was dead when the merge began, and is not in its output?  Only a restore does that. */
static och_code is_revived(const struct sysdb_part *before, const struct bitset *now,
                           bool *ret_revived, och_error *err)
{
    *ret_revived = false;
    if (before->dead.len == 0)
        return OCH_OK;
    struct bitset dead = {0};
    TRY(part_bitmap_decode(before->dead, before->rows, &dead, err));
    for (uint32_t row = 0; row < before->rows && !*ret_revived; row++)
        *ret_revived = bitset_has(&dead, row) && !bitset_has(now, row);
    bitset_done(&dead);
    return OCH_OK;
}

/* Rows of the inputs that died since: their bits in the output.  *ret_revived: the output is of no use. */
static och_code map_dead(struct merge *m, struct view *fresh, size_t at, struct bitset *ret_dead,
                         bool *ret_revived, och_error *err)
{
    *ret_revived = false;
    if (!bitset_init(ret_dead, m->row_count))
        return FAIL_NO_MEMORY(err, "a deletion bitmap");
    struct bitset *now = ARENA_ARRAY(&m->arena, struct bitset, m->count);
    if (!now)
        return FAIL_NO_MEMORY(err, "a merge");
    och_code code = OCH_OK;
    for (size_t i = 0; i < m->count && code == OCH_OK; i++)
        code = view_dead_upto(fresh, at + i, view_info(fresh)->from, &now[i], err);
    for (size_t i = 0; i < m->count && code == OCH_OK && !*ret_revived; i++)
        code = is_revived(&m->inputs[i].row, &now[i], ret_revived, err);
    for (uint32_t r = 0; r < m->row_count && code == OCH_OK; r++) {
        if (bitset_has(&now[m->rows[r].input], m->rows[r].row))
            bitset_add(ret_dead, m->new_rows[r]);
    }
    for (size_t i = 0; i < m->count; i++)
        bitset_done(&now[i]);
    return code;
}

/* Where the inputs lie in the current version; SIZE_MAX when they are not all there any more. */
static size_t find_inputs(const struct merge *m, const struct sysdb_version *current)
{
    for (size_t at = 0; at + m->count <= current->part_count; at++) {
        size_t same = 0;
        while (same < m->count &&
               uuid_equal(current->parts[at + same].file, m->inputs[same].row.file) &&
               current->parts[at + same].offset == m->inputs[same].row.offset)
            same++;
        if (same == m->count)
            return at;
    }
    return SIZE_MAX;
}

/* Under commit_lock. */
static och_code commit(struct merge *m, uuid file, bool has_part, bool *ret_asked,
                       bool *ret_committed, och_error *err)
{
    struct compactor *c = m->c;
    struct view *fresh CLEANUP(view_cleanup) = NULL;
    TRY(view_acquire(c->options.views, m->id, READ_INDEX_AND_WAL, &fresh, err));
    struct sysdb_version current;
    TRY(sysdb_version_get(c->options.sysdb, m->id, &m->arena, &current, err));
    size_t at = find_inputs(m, &current);
    *ret_committed = false;
    if (at == SIZE_MAX || current.version != view_info(fresh)->version)
        return OCH_OK;
    struct sysdb_part *parts = ARENA_ARRAY(&m->arena, struct sysdb_part, current.part_count + 1);
    if (!parts)
        return FAIL_NO_MEMORY(err, "a version");
    size_t kept = 0;
    for (size_t i = 0; i < at; i++)
        parts[kept++] = current.parts[i];
    struct bitset dead = {0};
    bool revived;
    och_code mapped = map_dead(m, fresh, at, &dead, &revived, err);
    if (has_part && mapped == OCH_OK && !revived) {
        parts[kept] = compact_part_row(file, &m->info);
        mapped = compact_set_dead(&dead, &m->arena, &parts[kept++], err);
    }
    bitset_done(&dead);
    TRY(mapped);
    if (revived)
        return OCH_OK;
    for (size_t i = at + m->count; i < current.part_count; i++)
        parts[kept++] = current.parts[i];
    struct sysdb_commit item = {
        .collection = m->id, .expected_version = current.version, .next = current};
    if (item.next.last_created_at < m->last_ms)
        item.next.last_created_at = m->last_ms;
    item.next.parts = parts;
    item.next.part_count = kept;
    *ret_asked = true;
    och_code code = sysdb_commit_versions(c->options.sysdb, &item, 1, err);
    if (code != OCH_OK) {
        IGNORE(views_install(c->options.views, m->id, NULL)); /* whichever it is now */
        return code;
    }
    *ret_committed = item.ret_committed;
    return item.ret_committed ? views_install(c->options.views, m->id, err) : OCH_OK;
}

static och_code run(struct merge *m, bool *ret_committed, och_error *err)
{
    struct compactor *c = m->c;
    TRY(order_rows(m, err));
    TRY(gather_kills(m, err));
    bool has_part = m->row_count > 0 || m->kill_count > 0;
    uuid file = {0};
    if (has_part) {
        struct store_writer *writer = NULL;
        compact_make_room(c);
        TRY(compact_object_new(c, &file, &writer, err));
        och_code code = build(m, writer, file, err);
        if (code == OCH_OK)
            code = store_finish(writer, err);
        else
            store_abandon(writer);
        if (code != OCH_OK) {
            compact_object_drop(c, file);
            return code;
        }
    }
    struct sysdb_part made = compact_part_row(file, &m->info);
    if (has_part)
        views_prepare(c->options.views, m->id, &made,
                      &(struct limits_of_work){.cancel = &c->cancel});
    mutex_lock(&c->commit_lock);
    bool asked = false;
    och_code code = commit(m, file, has_part, &asked, ret_committed, err);
    mutex_unlock(&c->commit_lock);
    if (has_part)
        views_unprepare(c->options.views, m->id, &made);
    /* Once the catalogue was asked and did not answer, the outcome is not known. */
    if (has_part && !*ret_committed && (code == OCH_OK || !asked))
        compact_object_drop(c, file);
    return code;
}

/* Choose and mark in one step, so that two tiers never take the same parts. */
static void choose_parts(struct merge *m, const struct policy *policy, enum merge_tier tier,
                         const struct sysdb_version *version, struct policy_part *parts)
{
    struct compactor *c = m->c;
    mutex_lock(&c->lock);
    for (size_t i = 0; i < version->part_count; i++) {
        for (int other = 0; other < MERGE_TIERS; other++) {
            const struct running *running = &c->running[other];
            parts[i].busy |= running->from < running->to && uuid_equal(running->id, m->id) &&
                             version->parts[i].log_from >= running->from &&
                             version->parts[i].log_to <= running->to;
        }
    }
    policy_choose(policy, parts, version->part_count, &m->first, &m->count);
    if (m->count)
        c->running[tier] = (struct running){m->id, version->parts[m->first].log_from,
                                            version->parts[m->first + m->count - 1].log_to};
    mutex_unlock(&c->lock);
}

/* A collection at rest: count rows that have expired as gone, where they are many.  The clock may judge them only if nothing was written that is not
 * in the parts. */
static och_code count_expired(struct merge *m, const struct sysdb_version *version,
                              struct policy_part *parts, och_error *err)
{
    struct compactor *c = m->c;
    int64_t now_ms = compact_wall_ms(c), passed_ms = 0;
    bool any = false;
    for (size_t i = 0; i < version->part_count; i++) {
        struct bitset dead = {0};
        uint64_t expired;
        if (!part_has_expiry(view_part(m->view, i)))
            continue;
        TRY(view_dead_upto(m->view, i, view_info(m->view)->from, &dead, err));
        och_code code =
            compact_count_expired(c, view_part(m->view, i), &dead, now_ms, &expired, err);
        bitset_done(&dead);
        TRY(code);
        bool hollow = expired && compact_is_hollow(parts[i].rows, parts[i].deleted + expired);
        parts[i].deleted += hollow ? expired : 0;
        any |= hollow || (expired && version->part_count > 1);
    }
    if (any)
        TRY(compact_pass_time(c, m->id, version->log_offset, &passed_ms, err));
    if (passed_ms > m->last_ms)
        m->last_ms = passed_ms;
    for (size_t i = 0; !passed_ms && i < version->part_count; i++)
        parts[i].deleted = version->parts[i].deleted;
    return OCH_OK;
}

static och_code choose(struct merge *m, bool to_one, unsigned tiers, bool *ret_wanted,
                       och_error *err)
{
    struct compactor *c = m->c;
    TRY(sysdb_collection_get(c->options.sysdb, SLICE_NONE, SLICE_NONE, m->id, &m->row, err));
    TRY(view_acquire(c->options.views, m->id, READ_INDEX_ONLY, &m->view, err));
    struct sysdb_version version;
    TRY(sysdb_version_get(c->options.sysdb, m->id, &m->arena, &version, err));
    *ret_wanted = false;
    if (version.version != view_info(m->view)->version)
        return OCH_OK; /* a flush got in between; it leaves a note */
    struct policy_part *parts = ARENA_ARRAY(&m->arena, struct policy_part, version.part_count + 1);
    if (!parts)
        return FAIL_NO_MEMORY(err, "a merge");
    for (size_t i = 0; i < version.part_count; i++)
        parts[i] = (struct policy_part){version.parts[i].rows, version.parts[i].deleted,
                                        part_damage(view_part(m->view, i)) != 0, false, false};
    m->last_ms = version.last_created_at;
    if (to_one)
        TRY(count_expired(m, &version, parts, err));
    if (to_one && version.part_count == 1)
        parts[0].unlisted = is_unlisted(view_part(m->view, 0));
    const struct budget *budget = c->options.budget;
    struct policy policy = {.tail_rows = c->options.tail_rows_max,
                            .part_rows_max = policy_rows_max(c->options.part_rows_max,
                                                             budget ? budget->limit_bytes : 0,
                                                             view_info(m->view)->dimension),
                            .to_one = to_one,
                            .tiers = tiers};
    choose_parts(m, &policy, tiers & 1u << MERGE_LARGE ? MERGE_LARGE : MERGE_SMALL, &version,
                 parts);
    if (m->count == 0)
        return OCH_OK;
    m->passing = !to_one && m->count > 1 && tiers != (1u << MERGE_TIERS) - 1;
    m->inputs = ARENA_ARRAY(&m->arena, struct input, m->count);
    if (!m->inputs)
        return FAIL_NO_MEMORY(err, "a merge");
    for (size_t i = 0; i < m->count; i++) {
        m->inputs[i].part = view_part(m->view, m->first + i);
        m->inputs[i].row = version.parts[m->first + i];
        TRY(view_dead_upto(m->view, m->first + i, view_info(m->view)->from, &m->inputs[i].dead,
                           err));
        m->inputs[i].buried.dead = &m->inputs[i].dead;
        m->inputs[i].buried.keep_ids = m->first > 0;
        TRY(compact_bury_expired(c, m->inputs[i].part, m->last_ms, &m->arena, &m->inputs[i].buried,
                                 err));
    }
    *ret_wanted = true;
    return OCH_OK;
}

static void input_done(struct input *input)
{
    VEC_DONE(&input->buried.ids);
    bitset_done(&input->dead);
}

/* Under the locks of these tiers. */
static och_code merge(struct compactor *c, uuid id, bool to_one, unsigned tiers, bool *ret_merged,
                      och_error *err)
{
    struct merge m = {.c = c, .id = id};
    enum merge_tier tier = tiers & 1u << MERGE_LARGE ? MERGE_LARGE : MERGE_SMALL;
    bool wanted = false;
    *ret_merged = false;
    arena_init(&m.arena, c->options.budget, 0);
    och_code code = choose(&m, to_one, tiers, &wanted, err);
    uint64_t began = now_ns(c);
    if (code == OCH_OK && wanted)
        code = run(&m, ret_merged, err);
    if (*ret_merged && m.row_count && !to_one)
        compact_learn_pace(c, tier == MERGE_SMALL ? PACE_MERGE : PACE_LARGE,
                           (now_ns(c) - began) * c->options.tail_rows_max / m.row_count);
    mutex_lock(&c->lock);
    c->running[tier] = (struct running){0};
    mutex_unlock(&c->lock);
    for (size_t i = 0; m.inputs && i < m.count; i++)
        input_done(&m.inputs[i]);
    view_release(m.view);
    sysdb_collection_unref(m.row);
    arena_done(&m.arena);
    if (wanted) {
        mutex_lock(&c->lock);
        c->garbage = true;
        c->stats.merges += *ret_merged;
        c->stats.rows_written += *ret_merged ? m.row_count : 0;
        mutex_unlock(&c->lock);
    }
    if (code == OCH_NOT_FOUND) { /* dropped meanwhile */
        error_clear(err);
        return OCH_OK;
    }
    return code;
}

och_code compact_merge_tier(struct compactor *c, uuid id, enum merge_tier tier, bool to_one,
                            bool *ret_merged, och_error *err)
{
    mutex_lock(&c->merge_locks[tier]);
    och_code code = merge(c, id, to_one, 1u << tier, ret_merged, err);
    mutex_unlock(&c->merge_locks[tier]);
    return code;
}

och_code compact_merge(struct compactor *c, uuid id, bool to_one, bool *ret_merged, och_error *err)
{
    for (int tier = 0; tier < MERGE_TIERS; tier++)
        mutex_lock(&c->merge_locks[tier]);
    och_code code = merge(c, id, to_one, (1u << MERGE_TIERS) - 1, ret_merged, err);
    for (int tier = MERGE_TIERS; tier-- > 0;)
        mutex_unlock(&c->merge_locks[tier]);
    return code;
}
