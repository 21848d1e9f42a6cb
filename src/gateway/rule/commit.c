/* SPDX-License-Identifier: Apache-2.0 */
/* Transactions on one collection: reads at one state, then writes that are applied if nothing was written since that those reads would have seen
 * (docs/decisions/0017-what-a-commit-checks.md).
 *
 * What is checked is what was written between the state H of the reads and the head, not what was read: an id that was read or is to be written,
 * or a record that a filter meant, before at H or now at the head (precision locking: Jordan, Banerjee, Batman, 1981; as in Neumann, Mühlbauer,
 * Kemper, "Fast serializable multi-version concurrency control", 2015, section 2.3).  Most of it happens before the append turn, the rest in it. */
#include "base/map.h"
#include "base/vec.h"
#include "gateway/rule/token.h"

#include <inttypes.h>

#define CHECKS_BEFORE 3   /* times, each for what was written during the one before */
#define CHECK_WORTH   256 /* operations; so few are checked in the turn */

/* ---- reading ---- */

/* When is the first row gone by itself that a read went over, those before its offset included? */
static och_code first_expiry(struct gateway *gateway, const struct gateway_scope *scope,
                             const struct plan *plan, const struct view *view, int64_t *ret_ms,
                             och_error *err)
{
    *ret_ms = 0;
    if (!view_info(view)->has_expiry)
        return OCH_OK;
    struct plan walk = *plan;
    walk.fields = RECORD_EXPIRY;
    walk.offset = 0;
    walk.explain = false;
    if (walk.limit != PLAN_NO_LIMIT)
        walk.limit += plan->offset; /* both are u32 on the wire, and saturate in the library */
    if (walk.limit < plan->limit)
        walk.limit = PLAN_NO_LIMIT;
    struct arena arena;
    struct query_result rows;
    arena_init(&arena, gateway->options.budget, 0);
    och_code code =
        query_run_view(gateway->options.query, &walk, view, &scope->limits, &arena, &rows, err);
    if (code == OCH_OK) {
        for (size_t i = 0; i < rows.hits->count; i++) {
            int64_t ms = rows.hits->rows[i].record.expires_ms;
            if (ms != 0 && (*ret_ms == 0 || ms < *ret_ms))
                *ret_ms = ms;
        }
        query_result_done(&rows);
    }
    arena_done(&arena);
    return code;
}

/* What this read depends on goes into the token. */
static och_code note_read(struct gateway *gateway, struct token *token, const struct plan *plan,
                          const struct query_result *result, int64_t expires_ms, och_error *err)
{
    if (plan->limit == 0)
        return OCH_OK;
    struct token_read read = {.seq_max = INT64_MAX, .expires_ms = expires_ms};
    const struct query_hits *hits = result->hits;
    if (hits->count > 0 && hits->count == plan->limit)
        read.seq_max = hits->rows[hits->count - 1].record.seq;
    struct plan what = {
        .kind = PLAN_GET,
        .collection = plan->collection,
        .limit = PLAN_NO_LIMIT,
        .has_ids = plan->has_ids,
        .ids = plan->ids,
        .id_count = plan->id_count,
        /* Of ids named every change counts, whether the filter meant them or not. */
        .filter = plan->has_ids ? NULL : plan->filter};
    struct buf encoded;
    buf_init(&encoded, BUF_MAX_NONE);
    plan_encode(&what, &encoded);
    och_code code = buf_check(&encoded, "what a transaction has read", err);
    if (code == OCH_OK) {
        read.plan = buf_view(&encoded);
        token_note(gateway->tokens, token, &read);
    }
    buf_done(&encoded);
    return code;
}

static och_code begin(struct gateway *gateway, const struct plan *plan, struct token **ret_token,
                      och_error *err)
{
    struct view *view = NULL;
    TRY(view_acquire(gateway->options.views, plan->collection, READ_INDEX_AND_WAL, &view, err));
    view_trace(view);
    return token_new(gateway->tokens, plan->collection, view, ret_token, err);
}

och_code gateway_read_conditional(struct gateway *gateway, const struct gateway_scope *scope,
                                  const struct plan *plan, struct arena *arena,
                                  uint64_t *read_token, struct query_result *ret_result,
                                  och_error *err)
{
    assert(plan->kind == PLAN_GET);
    *ret_result = (struct query_result){0};
    const struct sysdb_collection *collection CLEANUP(sysdb_collection_cleanup) = NULL;
    TRY(sysdb_collection_get(gateway->options.sysdb, scope->tenant, scope->database,
                             plan->collection, &collection, err));
    TRY(schema_gate(&collection->schema, plan->filter, err));
    struct token *token = NULL;
    if (*read_token)
        TRY(token_find(gateway->tokens, plan->collection, *read_token, &token, err));
    else
        TRY(begin(gateway, plan, &token, err));
    int64_t expires_ms = 0;
    och_code code = query_run_view(gateway->options.query, plan, token_view(token), &scope->limits,
                                   arena, ret_result, err);
    if (code == OCH_OK)
        code = first_expiry(gateway, scope, plan, token_view(token), &expires_ms, err);
    if (code == OCH_OK)
        code = note_read(gateway, token, plan, ret_result, expires_ms, err);
    if (code == OCH_OK) {
        *read_token = token_number(token);
    } else {
        query_result_done(ret_result);
        if (*read_token == 0)
            token_end(gateway->tokens, token_number(token));
    }
    token_unref(gateway->tokens, token);
    return code;
}

void gateway_transaction_end(struct gateway *gateway, uint64_t read_token)
{
    if (read_token)
        token_end(gateway->tokens, read_token);
}

/* ---- what a commit depends on ---- */

struct filter_read {
    const struct filter_node *filter; /* NULL: all rows */
    int64_t seq_max;
};

struct commit {
    struct gateway *gateway;
    const struct gateway_scope *scope;
    const struct gateway_commit *ask;
    struct token *token; /* NULL: nothing was read */
    struct view *base;   /* the state that was read, for this thread */
    struct arena arena;
    struct map watched; /* ids read or to be written */
    struct filter_read *filters;
    size_t filter_count;
    bool reads_all;
    int64_t expires_ms;  /* the first row read is gone by then, 0: never */
    uint64_t checked_to; /* all before is known not to matter */
    bool conflict;
    struct payload *payload;
};

static och_code conflict(struct commit *c, och_error *err)
{
    c->conflict = true;
    return FAIL(err, OCH_CONFLICT, "conditional write conflict");
}

static och_code watch(struct commit *c, const slice *ids, uint64_t count, och_error *err)
{
    for (uint64_t i = 0; i < count; i++) {
        bool is_new;
        if (!map_at(&c->watched, ids[i], &is_new))
            return FAIL_NO_MEMORY(err, "ids of a transaction");
    }
    return OCH_OK;
}

static och_code take_read(struct commit *c, const struct token_read *read, och_error *err)
{
    struct plan plan;
    TRY(plan_decode(read->plan, &c->arena, &plan, err));
    if (read->expires_ms && (c->expires_ms == 0 || read->expires_ms < c->expires_ms))
        c->expires_ms = read->expires_ms;
    if (plan.has_ids)
        return watch(c, plan.ids, plan.id_count, err);
    c->filters[c->filter_count++] = (struct filter_read){plan.filter, read->seq_max};
    return OCH_OK;
}

static och_code take_reads(struct commit *c, och_error *err)
{
    const struct gateway_commit *ask = c->ask;
    struct token_read *reads = NULL;
    size_t count = 0;
    TRY(token_reads(c->gateway->tokens, c->token, &c->arena, &reads, &count, &c->reads_all, err));
    c->filters = ARENA_ARRAY(&c->arena, struct filter_read, count + 1);
    if (!c->filters)
        return FAIL_NO_MEMORY(err, "what a transaction has read");
    for (size_t i = 0; i < count; i++)
        TRY(take_read(c, &reads[i], err));
    TRY(watch(c, ask->read_ids, ask->read_id_count, err));
    for (uint32_t i = 0; i < ask->input.count; i++)
        TRY(watch(c, &ask->input.rows[i].id, 1, err));
    TRY(view_copy(token_view(c->token), &c->base, err));
    c->checked_to = view_info(c->base)->to;
    return OCH_OK;
}

/* ---- the check ---- */

struct touched { /* in [checked_to, head) */
    struct commit *commit;
    struct arena arena;
    struct map seen;
    VEC(slice) ids; /* each once; only when filters want to know */
    bool failed;
};

static bool note_touch(void *context, slice id)
{
    struct touched *t = context;
    if (map_find(&t->commit->watched, id)) {
        t->commit->conflict = true;
        return false;
    }
    if (t->commit->filter_count == 0 || map_find(&t->seen, id))
        return true;
    slice copy = arena_copy(&t->arena, id);
    bool is_new;
    t->failed = !copy.at || !map_at(&t->seen, copy, &is_new) || !VEC_PUSH(&t->ids, copy);
    return !t->failed;
}

/* Was a row touched that one of the filters meant, then or now? */
static och_code check_filters(struct commit *c, const struct touched *t, struct view *view,
                              och_error *err)
{
    for (size_t i = 0; i < c->filter_count && !c->conflict; i++) {
        struct query_suspects suspects = {.ids = t->ids.at,
                                          .count = t->ids.len,
                                          .filter = c->filters[i].filter,
                                          .seq_max = c->filters[i].seq_max};
        struct view *states[] = {c->base, view};
        for (size_t j = 0; j < COUNT_OF(states) && !c->conflict; j++)
            TRY(query_any(c->gateway->options.query, states[j], &suspects, &c->scope->limits,
                          &c->conflict, err));
    }
    return OCH_OK;
}

static och_code check_touched(struct commit *c, struct view *view, och_error *err)
{
    struct touched t = {.commit = c};
    arena_init(&t.arena, c->gateway->options.budget, 0);
    map_init(&t.seen);
    och_code code = view_touches(view, c->checked_to, note_touch, &t, err);
    if (code == OCH_STALE)
        code = FAIL(err, OCH_STALE,
                    "read token %" PRIu64 " is too old to commit with: too much was written since. "
                    "Begin the transaction again.",
                    c->ask->read_token);
    if (code == OCH_OK && t.failed)
        code = FAIL_NO_MEMORY(err, "ids touched");
    if (code == OCH_OK && !c->conflict)
        code = check_filters(c, &t, view, err);
    VEC_DONE(&t.ids);
    map_done(&t.seen);
    arena_done(&t.arena);
    return code;
}

/* Whatever was written up to this view does not matter, or OCH_CONFLICT. */
static och_code check(struct commit *c, struct view *view, och_error *err)
{
    uint64_t to = view_info(view)->to;
    if (to > c->checked_to && c->reads_all)
        return conflict(c, err);
    if (to > c->checked_to)
        TRY(check_touched(c, view, err));
    if (c->conflict)
        return conflict(c, err);
    c->checked_to = to;
    return OCH_OK;
}

/* ---- inside the turn ---- */

/* Is there a record that an update's vector goes to?  (X9)  None that the commit itself adds: those come with a vector, which fixes the dimension. */
static och_code update_finds_record(struct commit *c, struct view *view, bool *ret_finds,
                                    och_error *err)
{
    const struct batch_input *input = &c->ask->input;
    *ret_finds = false;
    for (uint32_t i = 0; i < input->count && !*ret_finds; i++) {
        struct view_place place;
        if (input->rows[i].vector)
            TRY(view_find(view, input->rows[i].id, &place, ret_finds, err));
    }
    return OCH_OK;
}

/* Nobody takes the vectors, so they shall not say what the collection's dimension is. */
static och_code leave_vectors_out(struct commit *c, struct wal_append *request, och_error *err)
{
    struct batch_input input = c->ask->input;
    struct batch_input_row *rows = ARENA_ARRAY(&c->arena, struct batch_input_row, input.count);
    if (!rows)
        return FAIL_NO_MEMORY(err, "a commit");
    for (uint32_t i = 0; i < input.count; i++) {
        rows[i] = input.rows[i];
        rows[i].vector = NULL;
    }
    input.rows = rows;
    input.dimension = 0;
    payload_unref(take(&c->payload));
    TRY(batch_encode(&input, c->gateway->options.budget, &c->payload, err));
    request->payload = c->payload;
    request->dimension = 0;
    return OCH_OK;
}

static och_code decide_commit(void *context, uint64_t head, struct wal_append *request,
                              bool *ret_append, och_error *err)
{
    struct commit *c = context;
    struct view *view CLEANUP(view_cleanup) = NULL;
    (void)head;
    *ret_append = true;
    if (c->ask->read_token && !c->token) /* not asked before, since the key might be known */
        TRY(token_find(c->gateway->tokens, c->ask->collection, c->ask->read_token, &c->token, err));
    if (c->token && !c->base)
        TRY(take_reads(c, err));
    TRY(view_acquire(c->gateway->options.views, c->ask->collection, READ_INDEX_AND_WAL, &view,
                     err));
    if (c->token)
        TRY(check(c, view, err));
    if (c->expires_ms && c->expires_ms <= view_info(view)->now_ms)
        return conflict(c, err);
    request->as_of_ms = view_info(view)->now_ms; /* what has expired is judged by one clock */
    if (request->fixes_dimension || !request->dimension || view_info(view)->dimension)
        return OCH_OK;
    bool finds;
    TRY(update_finds_record(c, view, &finds, err));
    request->fixes_dimension = finds;
    return finds ? OCH_OK : leave_vectors_out(c, request, err);
}

/* ---- the call ---- */

/* While others write much, most of it is looked at without holding them up. */
static och_code check_before(struct commit *c, och_error *err)
{
    TRY(token_find(c->gateway->tokens, c->ask->collection, c->ask->read_token, &c->token, err));
    TRY(take_reads(c, err));
    for (int i = 0; i < CHECKS_BEFORE; i++) {
        struct view *view CLEANUP(view_cleanup) = NULL;
        TRY(view_acquire(c->gateway->options.views, c->ask->collection, READ_INDEX_AND_WAL, &view,
                         err));
        if (view_info(view)->to - c->checked_to < CHECK_WORTH)
            break;
        TRY(check(c, view, err));
    }
    return OCH_OK;
}

static och_code append(struct commit *c, struct gateway_committed *ret, och_error *err)
{
    const struct batch_input *input = &c->ask->input;
    bool fixes = false;
    for (uint32_t i = 0; i < input->count; i++)
        fixes |= input->rows[i].vector && input->rows[i].op <= BATCH_UPSERT;
    TRY(batch_encode(input, c->gateway->options.budget, &c->payload, err));
    uint32_t have = 0; /* once fixed it stays */
    TRY(gateway_dimension(c->gateway, c->ask->collection, &have, err));
    bool in_turn = c->ask->read_token || (input->dimension && !fixes && !have);
    struct wal_append request = {.collection = c->ask->collection,
                                 .payload = c->payload,
                                 .count = input->count,
                                 .dimension = input->dimension,
                                 .fixes_dimension = fixes,
                                 .batch_id = c->ask->once.batch_id,
                                 .request_hash = c->ask->once.request_hash,
                                 .decide = in_turn ? decide_commit : NULL,
                                 .context = c,
                                 .limits = c->scope->limits};
    struct wal_appended appended;
    TRY(wal_append(c->gateway->options.wal, &request, &appended, err));
    ret->first = appended.first;
    ret->count = appended.count;
    return OCH_OK;
}

static och_code run(struct commit *c, struct gateway_committed *ret, och_error *err)
{
    const struct gateway_commit *ask = c->ask;
    const struct sysdb_collection *collection CLEANUP(sysdb_collection_cleanup) = NULL;
    TRY(sysdb_collection_get(c->gateway->options.sysdb, c->scope->tenant, c->scope->database,
                             ask->collection, &collection, err));
    if (!ask->read_token && ask->read_id_count)
        return FAIL(err, OCH_INVALID, "conditional commit with read_ids requires read_token");
    TRY(gateway_check_dimension(c->gateway, collection, ask->input.dimension, err));
    if (ask->input.count == 0)
        return OCH_OK; /* nothing but reads, all of one state */
    /* Under a key the log is asked first: what is true now need not have been then. */
    if (ask->read_token && uuid_is_zero(ask->once.batch_id))
        TRY(check_before(c, err));
    struct gateway_commit stamped = *ask;
    TRY(gateway_default_expiry(c->gateway, collection, &stamped.input, &c->arena, err));
    TRY(gateway_throttle(c->gateway, ask->collection, ask->input.count, err));
    c->ask = &stamped;
    och_code code = append(c, ret, err);
    c->ask = ask;
    return code;
}

och_code gateway_commit(struct gateway *gateway, const struct gateway_scope *scope,
                        const struct gateway_commit *ask, struct gateway_committed *ret_committed,
                        och_error *err)
{
    struct commit c = {.gateway = gateway, .scope = scope, .ask = ask};
    struct gateway_committed committed = {0};
    arena_init(&c.arena, gateway->options.budget, 0);
    map_init(&c.watched);
    och_code code = run(&c, &committed, err);
    committed.key_reused = code == OCH_CONFLICT && !c.conflict;
    /* Committed it is over, and after a conflict no later try with it can go better. */
    if (code == OCH_OK || c.conflict)
        gateway_transaction_end(gateway, ask->read_token);
    token_unref(gateway->tokens, c.token);
    view_release(c.base);
    payload_unref(c.payload);
    map_done(&c.watched);
    arena_done(&c.arena);
    views_settle(gateway->options.views, ask->collection);
    *ret_committed = committed;
    return code;
}
