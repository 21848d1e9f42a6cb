/* SPDX-License-Identifier: Apache-2.0 */
/* Versions of a collection: which there are, reads at one, one kept under a name, one given up, the collection as it was in one
 * (docs/decisions/0023-kept-versions.md). */
#include "gateway/rule/version.h"

#include "base/bytes.h"

#include <inttypes.h>

#define TRIES        500
#define AGAIN_NS     2000000 /* between tries: a flush shows its version soon after it is committed */
#define NAMES_MAX    1000    /* of one collection */
#define HELD_WAIT_NS 50000000 /* between looks whether functions have let a tail go */
#define HELD_TRIES   40
#define PASSING_MS   600000

static int64_t now_ms(const struct gateway *gateway)
{
    return (int64_t)(clock_wall_ns(gateway->options.clock) / 1000000);
}

och_code gateway_check_retention(slice metadata, const char *member, och_error *err)
{
    struct meta_entry entry;
    if (!metadata.at || !meta_find(metadata, SLICE(SYSDB_RETENTION_KEY), &entry))
        return OCH_OK;
    int64_t seconds = entry.type == META_INT ? (int64_t)load_u64(entry.value.at) : -1;
    if (seconds >= 0 && seconds <= SYSDB_RETENTION_SECONDS)
        return OCH_OK;
    return FAIL(err, OCH_INVALID,
                "Validation error: %s: " SYSDB_RETENTION_KEY
                ": must be an integer number of seconds from 0 to %" PRId64,
                member, SYSDB_RETENTION_SECONDS);
}

/* ---- which ---- */

/* All that can be read of a collection at one moment. */
struct versions {
    struct arena arena;
    const struct sysdb_collection *row;
    struct view *now; /* everything acknowledged */
    int64_t head_ms;  /* when its last operation was written; 0: there was none */
    struct sysdb_kept *kept;
    size_t count;
};

static void versions_done(struct versions *v)
{
    view_release(v->now);
    sysdb_collection_unref(v->row);
    arena_done(&v->arena);
    *v = (struct versions){0};
}

static och_code versions_once(struct gateway *gateway, const struct gateway_scope *scope,
                              uuid collection, struct versions *v, och_error *err)
{
    const struct gateway_options *o = &gateway->options;
    TRY(view_acquire(o->views, collection, READ_INDEX_AND_WAL, &v->now, err));
    TRY(sysdb_kept_list(o->sysdb, collection, &v->arena, &v->kept, &v->count, err));
    TRY(sysdb_collection_get(o->sysdb, scope->tenant, scope->database, collection, &v->row, err));
    if (v->row->log_offset != view_info(v->now)->from) /* a flush is committed and not shown yet */
        return FAIL(err, OCH_STALE, "the collection got a new version meanwhile");
    size_t batches = view_batch_count(v->now);
    v->head_ms = batches ? view_batch(v->now, batches - 1)->created_at : v->row->last_created_at;
    return OCH_OK;
}

/* After OCH_STALE. */
static och_code try_again(const struct gateway_scope *scope, int attempt, och_error *err)
{
    if (attempt == TRIES)
        return FAIL(err, OCH_BUSY, "the collection changes too fast: retry later");
    error_clear(err);
    sched_sleep_ns(AGAIN_NS);
    return work_check(&scope->limits, err);
}

/* Versions, the row and the view are of one moment.  versions_done also after an error. */
static och_code versions_open(struct gateway *gateway, const struct gateway_scope *scope,
                              uuid collection, struct versions *v, och_error *err)
{
    for (int attempt = 1;; attempt++) {
        *v = (struct versions){0};
        arena_init(&v->arena, gateway->options.budget, 0);
        och_code code = versions_once(gateway, scope, collection, v, err);
        if (code != OCH_STALE)
            return code;
        versions_done(v);
        TRY(try_again(scope, attempt, err));
    }
}

enum chosen_kind { CHOSEN_NONE, CHOSEN_KEPT, CHOSEN_PARTS, CHOSEN_NOW };
struct chosen {
    enum chosen_kind kind;
    const struct sysdb_kept *kept;
    int64_t clock_ms;
    uint64_t number;
};

static struct chosen choose_kept(const struct sysdb_kept *kept)
{
    return (struct chosen){CHOSEN_KEPT, kept, kept->taken_at, kept->log_offset};
}

/* What is kept comes first: it reads the same as long as it is. */
static struct chosen choose_number(const struct gateway *gateway, const struct versions *v,
                                   uint64_t number)
{
    const struct view_info *info = view_info(v->now);
    for (size_t i = 0; i < v->count; i++)
        if (v->kept[i].log_offset == number)
            return choose_kept(&v->kept[i]);
    if (number == info->to)
        return (struct chosen){CHOSEN_NOW, NULL, now_ms(gateway), number};
    if (number == info->from)
        return (struct chosen){CHOSEN_PARTS, NULL, v->row->last_created_at, number};
    return (struct chosen){0};
}

/* The last state that can be read of those that stood at that time, or before. */
static struct chosen choose_time(const struct gateway *gateway, const struct versions *v,
                                 int64_t time_ms)
{
    const struct view_info *info = view_info(v->now);
    int64_t now = now_ms(gateway);
    if (v->head_ms <= time_ms) /* nothing was written since */
        return (struct chosen){CHOSEN_NOW, NULL, time_ms < now ? time_ms : now, info->to};
    if (info->from > 0 && v->row->last_created_at <= time_ms)
        return (struct chosen){CHOSEN_PARTS, NULL, v->row->last_created_at, info->from};
    for (size_t i = v->count; i-- > 0;) {
        const struct sysdb_kept *kept = &v->kept[i];
        int64_t since = kept->last_at ? kept->last_at : kept->taken_at;
        if (since > time_ms)
            continue;
        int64_t clock = time_ms < kept->taken_at ? time_ms : kept->taken_at;
        return (struct chosen){CHOSEN_KEPT, kept, clock, kept->log_offset};
    }
    return (struct chosen){0};
}

static och_code not_kept(const struct versions *v, const struct gateway_version_ref *ref,
                         och_error *err)
{
    switch (ref->by) {
    case GATEWAY_BY_NUMBER:
        return FAIL(err, OCH_NOT_FOUND, "Version %" PRIu64 " of collection [%.*s] is not kept",
                    ref->number, SLICE_ARG(v->row->name));
    case GATEWAY_BY_NAME:
        return FAIL(err, OCH_NOT_FOUND, "Version [%.*s] of collection [%.*s] does not exist",
                    (int)min_size(ref->name.len, 256), (const char *)ref->name.at,
                    SLICE_ARG(v->row->name));
    default:
        return FAIL(err, OCH_NOT_FOUND, "No version of collection [%.*s] is kept that is that old",
                    SLICE_ARG(v->row->name));
    }
}

static och_code choose(const struct gateway *gateway, const struct versions *v,
                       const struct gateway_version_ref *ref, struct chosen *ret, och_error *err)
{
    *ret = (struct chosen){0};
    if (ref->by == GATEWAY_BY_NUMBER)
        *ret = choose_number(gateway, v, ref->number);
    if (ref->by == GATEWAY_BY_TIME)
        *ret = choose_time(gateway, v, ref->time_ms);
    for (size_t i = 0; i < v->count && ref->by == GATEWAY_BY_NAME; i++)
        if (v->kept[i].name.at && slice_equal(v->kept[i].name, ref->name))
            *ret = choose_kept(&v->kept[i]);
    return ret->kind == CHOSEN_NONE ? not_kept(v, ref, err) : OCH_OK;
}

/* OCH_STALE: it was given up since it was listed, and nobody but us knows its id. */
static och_code open_kept(struct views *views, const struct sysdb_kept *kept,
                          struct view **ret_view, och_error *err)
{
    och_code code = view_acquire(views, kept->id, READ_INDEX_AND_WAL, ret_view, err);
    if (code != OCH_NOT_FOUND)
        return code;
    error_clear(err);
    return FAIL(err, OCH_STALE, "the version was given up meanwhile");
}

/* A view of what was chosen. */
static och_code open_chosen(struct gateway *gateway, struct versions *v,
                            const struct chosen *chosen, struct view **ret_view, och_error *err)
{
    struct views *views = gateway->options.views;
    struct view *view = NULL;
    if (chosen->kind == CHOSEN_NOW)
        TRY(view_copy(v->now, &view, err));
    else if (chosen->kind == CHOSEN_KEPT)
        TRY(open_kept(views, chosen->kept, &view, err));
    else
        TRY(view_acquire(views, view_info(v->now)->collection, READ_INDEX_ONLY, &view, err));
    if (view_info(view)->to != chosen->number) {
        view_release(view);
        return FAIL(err, OCH_STALE, "the collection got a new version meanwhile");
    }
    view_set_clock(view, chosen->clock_ms);
    *ret_view = view;
    return OCH_OK;
}

och_code gateway_version_view(struct gateway *gateway, const struct gateway_scope *scope,
                              uuid collection, const struct gateway_version_ref *ref,
                              struct view **ret_view, och_error *err)
{
    for (int attempt = 1;; attempt++) {
        struct versions v;
        struct chosen chosen;
        och_code code = versions_open(gateway, scope, collection, &v, err);
        if (code == OCH_OK)
            code = choose(gateway, &v, ref, &chosen, err);
        if (code == OCH_OK)
            code = open_chosen(gateway, &v, &chosen, ret_view, err);
        versions_done(&v);
        if (code != OCH_STALE)
            return code;
        TRY(try_again(scope, attempt, err));
    }
}

/* ---- listing, keeping, giving up ---- */

static struct gateway_version version_of(const struct sysdb_kept *kept, struct arena *arena)
{
    struct gateway_version version = {.number = kept->log_offset,
                                      .time_ms = kept->taken_at,
                                      .keep_until_ms = kept->keep_until,
                                      .records = kept->rows};
    if (kept->name.at)
        version.name = arena_copy(arena, kept->name);
    return version;
}

och_code gateway_versions(struct gateway *gateway, const struct gateway_scope *scope,
                          uuid collection, struct arena *arena, struct gateway_version **ret_rows,
                          size_t *ret_count, och_error *err)
{
    struct versions v;
    och_code code = versions_open(gateway, scope, collection, &v, err);
    struct gateway_version *rows = NULL;
    if (code == OCH_OK) {
        rows = ARENA_ARRAY(arena, struct gateway_version, v.count + 1);
        if (!rows)
            code = FAIL_NO_MEMORY(err, "a list of versions");
    }
    if (code == OCH_OK) {
        for (size_t i = 0; i < v.count; i++) {
            rows[i] = version_of(&v.kept[i], arena);
            if (v.kept[i].name.at && !rows[i].name.at)
                code = FAIL_NO_MEMORY(err, "a list of versions");
        }
        rows[v.count] = (struct gateway_version){.number = view_info(v.now)->to,
                                                 .time_ms = v.head_ms,
                                                 .records = view_info(v.now)->live_rows,
                                                 .current = true};
        *ret_rows = rows;
        *ret_count = v.count + 1;
    }
    versions_done(&v);
    return code;
}

/* Names and numbers are told apart. */
static och_code check_name(slice name, och_error *err)
{
    och_code code = gateway_check_name(name, err);
    bool digits = code == OCH_OK;
    for (size_t i = 0; i < name.len && digits; i++)
        digits = name.at[i] >= '0' && name.at[i] <= '9';
    if (digits)
        code = FAIL(err, OCH_INVALID, "[%.*s] is a number, which versions have besides",
                    SLICE_ARG(name));
    if (code != OCH_OK)
        error_context(err, "Validation error: name");
    return code;
}

och_code gateway_version_keep(struct gateway *gateway, const struct gateway_scope *scope,
                              uuid collection, slice name, struct gateway_version *ret_version,
                              och_error *err)
{
    const struct gateway_options *o = &gateway->options;
    const struct sysdb_collection *row CLEANUP(sysdb_collection_cleanup) = NULL;
    uint64_t head;
    uint32_t dimension;
    TRY(check_name(name, err));
    TRY(sysdb_collection_get(o->sysdb, scope->tenant, scope->database, collection, &row, err));
    TRY(wal_head(o->wal, collection, &head, &dimension, err));
    struct sysdb_keep keep = {.collection = collection,
                              .id = gateway_new_id(gateway),
                              .name = name,
                              .log_offset = head,
                              .max = NAMES_MAX};
    struct sysdb_kept kept = {0};
    for (int attempt = 1;; attempt++) {
        TRY(compactor_flush(o->compactor, collection, err));
        keep.taken_at = now_ms(gateway);
        och_code code = sysdb_keep(o->sysdb, &keep, &kept, err);
        if (code == OCH_OK)
            break;
        if (code != OCH_STALE)
            return code;
        if (attempt == HELD_TRIES)
            return FAIL(err, OCH_BUSY,
                        "an attached function still reads what was written: retry later");
        error_clear(err);
        sched_sleep_ns(HELD_WAIT_NS);
        TRY(work_check(&scope->limits, err));
    }
    *ret_version = (struct gateway_version){
        .number = kept.log_offset, .name = name, .time_ms = kept.taken_at, .records = kept.rows};
    return OCH_OK;
}

och_code gateway_version_drop(struct gateway *gateway, const struct gateway_scope *scope,
                              uuid collection, const struct gateway_version_ref *ref,
                              uint64_t *ret_dropped, och_error *err)
{
    struct versions v;
    *ret_dropped = 0;
    och_code code = versions_open(gateway, scope, collection, &v, err);
    for (size_t i = 0; i < v.count && code == OCH_OK; i++) {
        bool meant = ref->by == GATEWAY_BY_NUMBER
                         ? v.kept[i].log_offset == ref->number
                         : v.kept[i].name.at && slice_equal(v.kept[i].name, ref->name);
        if (!meant)
            continue;
        code = sysdb_kept_drop(gateway->options.sysdb, collection, v.kept[i].id, err);
        *ret_dropped += code == OCH_OK;
        if (code == OCH_NOT_FOUND) { /* its time was over */
            error_clear(err);
            code = OCH_OK;
        }
    }
    if (code == OCH_OK && *ret_dropped == 0)
        code = not_kept(&v, ref, err);
    versions_done(&v);
    if (*ret_dropped)
        compactor_kick(gateway->options.compactor, collection);
    return code;
}

/* ---- restoring ---- */

struct restore {
    struct gateway *gateway;
    struct sysdb_restore row;
    struct views_replace *replace; /* nobody makes views of the collection */
    struct payload *payload;
};

/* An operation that does nothing: what is an offset of before the restore cannot be one of after it. */
static och_code barrier(struct restore *r, och_error *err)
{
    char text[UUID_TEXT_SIZE];
    struct batch_input_row row = {.op = BATCH_DELETE,
                                  .id = slice_of(uuid_format(gateway_new_id(r->gateway), text))};
    struct batch_input input = {.count = 1, .rows = &row};
    return batch_encode(&input, r->gateway->options.budget, &r->payload, err);
}

static och_code decide(void *context, uint64_t head, struct wal_append *request, bool *ret_append,
                       och_error *err)
{
    struct restore *r = context;
    const struct gateway_options *o = &r->gateway->options;
    TRY(compactor_flush(o->compactor, r->row.collection, err));
    const struct sysdb_collection *row CLEANUP(sysdb_collection_cleanup) = NULL;
    TRY(sysdb_collection_get(o->sysdb, SLICE_NONE, SLICE_NONE, r->row.collection, &row, err));
    if (row->log_offset != head)
        return FAIL(err, OCH_BUSY, "what was written is not in parts yet: retry later");
    TRY(barrier(r, err));
    TRY(views_replace_begin(o->views, r->row.collection, &r->replace, err));
    r->row.from = head;
    request->payload = r->payload;
    request->count = 1;
    *ret_append = true;
    return OCH_OK;
}

static void replace_end(struct restore *r)
{
    if (r->replace)
        views_replace_end(r->replace);
    r->replace = NULL;
}

static och_code switch_state(void *context, const struct wal_appended *appended, int64_t created_at,
                             och_error *err)
{
    struct restore *r = context;
    const struct gateway_options *o = &r->gateway->options;
    r->row.log_offset = appended->first + appended->count;
    r->row.created_at = created_at;
    och_code code = sysdb_restore(o->sysdb, &r->row, err);
    /* Once the catalogue writes again, what failed cannot show up any more: better now than behind what is written next. */
    if (code == OCH_IO || code == OCH_CORRUPT)
        IGNORE(sysdb_fork_begin(o->sysdb, gateway_new_id(r->gateway), NULL));
    replace_end(r);
    if (code == OCH_OK)
        IGNORE(wal_trim(o->wal, r->row.collection, r->row.log_offset, NULL));
    return code;
}

static och_code run_restore(struct restore *r, const struct gateway_scope *scope, och_error *err)
{
    struct wal_append request = {.collection = r->row.collection,
                                 .decide = decide,
                                 .after = switch_state,
                                 .context = r,
                                 .limits = scope->limits};
    struct wal_appended appended;
    och_code code = wal_append(r->gateway->options.wal, &request, &appended, err);
    replace_end(r); /* if it came no further */
    payload_unref(r->payload);
    return code;
}

static och_code count_rows(struct gateway *gateway, const struct gateway_scope *scope,
                           uuid collection, const struct view *view, uint64_t *ret_count,
                           och_error *err)
{
    struct arena arena;
    struct query_result result = {0};
    struct plan plan = {.kind = PLAN_COUNT, .limit = PLAN_NO_LIMIT, .collection = collection};
    arena_init(&arena, gateway->options.budget, 0);
    och_code code =
        query_run_view(gateway->options.query, &plan, view, &scope->limits, &arena, &result, err);
    *ret_count = result.count;
    query_result_done(&result);
    arena_done(&arena);
    return code;
}

/* What it is now and what it would be: both by the clock of now, as the restored records will be. */
static och_code count_both(struct gateway *gateway, const struct gateway_scope *scope,
                           uuid collection, struct versions *v, const struct chosen *chosen,
                           struct gateway_restored *ret, och_error *err)
{
    struct view *then CLEANUP(view_cleanup) = NULL;
    TRY(open_chosen(gateway, v, chosen, &then, err));
    view_set_clock(then, view_info(v->now)->now_ms);
    TRY(count_rows(gateway, scope, collection, then, &ret->records, err));
    return count_rows(gateway, scope, collection, v->now, &ret->records_before, err);
}

/* The parts of now are kept until they are those of the restored version: a flush comes before that. */
static och_code keep_parts(struct gateway *gateway, uuid collection, const struct chosen *chosen,
                           struct sysdb_kept *ret_kept, och_error *err)
{
    struct sysdb_keep keep = {.collection = collection,
                              .id = gateway_new_id(gateway),
                              .keep_until = now_ms(gateway) + PASSING_MS,
                              .log_offset = chosen->number,
                              .taken_at = chosen->clock_ms};
    TRY(sysdb_keep(gateway->options.sysdb, &keep, ret_kept, err));
    if (ret_kept->log_offset == chosen->number)
        return OCH_OK;
    IGNORE(sysdb_kept_drop(gateway->options.sysdb, collection, keep.id, NULL));
    return FAIL(err, OCH_STALE, "the collection got a new version meanwhile");
}

static och_code restore_chosen(struct gateway *gateway, const struct gateway_scope *scope,
                               uuid collection, const struct gateway_restore *restore,
                               struct versions *v, const struct chosen *chosen,
                               struct gateway_restored *ret, och_error *err)
{
    TRY(sysdb_restore_check(gateway->options.sysdb, collection, err));
    TRY(count_both(gateway, scope, collection, v, chosen, ret, err));
    ret->version = view_info(v->now)->to;
    if (restore->dry_run)
        return OCH_OK;
    if (chosen->kind == CHOSEN_NOW) {
        struct gateway_version kept;
        return restore->keep.at
                   ? gateway_version_keep(gateway, scope, collection, restore->keep, &kept, err)
                   : OCH_OK;
    }
    struct sysdb_kept passing = {0};
    const struct sysdb_kept *kept = chosen->kept;
    if (chosen->kind == CHOSEN_PARTS) {
        TRY(keep_parts(gateway, collection, chosen, &passing, err));
        kept = &passing;
    }
    assert(kept); /* CHOSEN_KEPT says which */
    struct restore r = {.gateway = gateway,
                        .row = {.collection = collection,
                                .kept = kept->id,
                                .id = gateway_new_id(gateway),
                                .name = restore->keep,
                                .max = NAMES_MAX}};
    och_code code = run_restore(&r, scope, err);
    if (kept == &passing)
        IGNORE(sysdb_kept_drop(gateway->options.sysdb, collection, passing.id, NULL));
    TRY(code);
    ret->version = r.row.log_offset;
    compactor_kick(gateway->options.compactor, collection);
    return OCH_OK;
}

och_code gateway_restore(struct gateway *gateway, const struct gateway_scope *scope,
                         uuid collection, const struct gateway_restore *restore,
                         struct gateway_restored *ret_restored, och_error *err)
{
    if (restore->keep.at)
        TRY(check_name(restore->keep, err));
    for (int attempt = 1;; attempt++) {
        struct versions v;
        struct chosen chosen = {0};
        *ret_restored = (struct gateway_restored){0};
        och_code code = versions_open(gateway, scope, collection, &v, err);
        if (code == OCH_OK)
            code = choose(gateway, &v, &restore->to, &chosen, err);
        ret_restored->restored = chosen.number;
        if (code == OCH_OK)
            code =
                restore_chosen(gateway, scope, collection, restore, &v, &chosen, ret_restored, err);
        versions_done(&v);
        if (code != OCH_STALE)
            return code;
        TRY(try_again(scope, attempt, err));
    }
}
