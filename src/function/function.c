/* SPDX-License-Identifier: Apache-2.0 */
/* What is attached, who has work, and how far flushes wait for it. */
#include "function/function_internal.h"

/* ---- the kinds ---- */

static const char no_network[] =
    "it calls a service outside, which this server does not do; send what it would write instead";
static const char no_objects[] = "it writes to object storage, which this server has none of";

static const struct function_work works[] = {
    {{"record_counter", false, false, NULL}, NULL, counter_rebuild},
    {{"statistics", false, false, NULL}, statistics_step, statistics_rebuild},
    {{"revision_history", false, false, NULL}, history_step, history_rebuild},
    {{"dummy_async", true, false, NULL}, NULL, dummy_rebuild},
    {{"count_to_file_async", true, true, no_objects}, NULL, dummy_rebuild},
    {{"http_generate", true, false, no_network}, NULL, dummy_rebuild},
    {{"http_currents", true, false, no_network}, NULL, dummy_rebuild},
};

const struct function_work *function_work_find(slice name)
{
    for (size_t i = 0; i < COUNT_OF(works); i++) {
        if (slice_equal(name, slice_of(works[i].kind.name)))
            return &works[i];
    }
    return NULL;
}

const struct function_kind *function_kind_find(slice name)
{
    const struct function_work *work = function_work_find(name);
    return work ? &work->kind : NULL;
}

/* ---- the table: under lock ---- */

static struct place *place_find(const struct functions *f, uuid collection)
{
    uint64_t *value = map_find(&f->places, uuid_slice(&collection));
    return value ? (struct place *)(uintptr_t)*value : NULL;
}

/* NULL: no memory. */
static struct place *place_take(struct functions *f, uuid collection)
{
    struct place *place = place_find(f, collection);
    if (place)
        return place;
    place = MEM_NEW(struct place);
    if (!place)
        return NULL;
    place->collection = collection;
    bool is_new;
    uint64_t *value = map_at(&f->places, uuid_slice(&place->collection), &is_new);
    if (!value) {
        mem_free(place);
        return NULL;
    }
    *value = (uint64_t)(uintptr_t)place;
    return place;
}

static void place_forget_empty(struct functions *f, uuid collection)
{
    struct place *place = place_find(f, collection);
    if (!place || !LIST_EMPTY(&place->inputs) || !LIST_EMPTY(&place->outputs))
        return;
    (void)map_remove(&f->places, uuid_slice(&place->collection));
    mem_free(place);
}

static bool is_due(const struct entry *e)
{
    if (e->unsure)
        return true;
    uint64_t waiting = e->head > e->completion ? e->head - e->completion : 0;
    return waiting > 0 && (e->completion < e->wanted || waiting >= e->min_records);
}

void entry_offer(struct functions *f, struct entry *e)
{
    if (e->running || e->gone || e->ready || !is_due(e))
        return;
    e->ready = true;
    TAILQ_INSERT_TAIL(&f->ready, e, ready_link);
    cond_signal(&f->wake[entry_lane(e)]);
}

void entry_free(struct entry *e)
{
    mem_free(e->params);
    mem_free(e);
}

void entry_remove(struct functions *f, struct entry *e)
{
    uuid input = e->input, output = e->output;
    e->gone = true;
    TAILQ_REMOVE(&f->all, e, link);
    if (e->ready)
        TAILQ_REMOVE(&f->ready, e, ready_link);
    e->ready = false;
    LIST_REMOVE(e, input_link);
    LIST_REMOVE(e, output_link);
    place_forget_empty(f, input);
    place_forget_empty(f, output);
    atomic_fetch_sub(&f->attached, 1);
    if (!e->running)
        entry_free(e);
}

static struct entry *entry_find(struct functions *f, uuid id, uuid input)
{
    struct place *place = place_find(f, input);
    struct entry *e = NULL;
    if (place) {
        LIST_FOREACH(e, &place->inputs, input_link)
        {
            if (uuid_equal(e->id, id))
                break;
        }
    }
    return e;
}

static och_code entry_new(const struct sysdb_function *row, struct entry **ret_entry,
                          och_error *err)
{
    const struct function_work *work = function_work_find(row->function);
    if (!work) /* of a newer version: left alone */
        return FAIL(err, OCH_UNSUPPORTED, "function %.*s is not known", SLICE_ARG(row->function));
    struct entry *e = MEM_NEW(struct entry);
    char *params = mem_copy_text(row->params.at, row->params.len);
    if (!e || !params) {
        mem_free(e);
        mem_free(params);
        return FAIL_NO_MEMORY(err, "an attached function");
    }
    *e = (struct entry){.id = row->id,
                        .input = row->input,
                        .output = row->output,
                        .work = work,
                        .params = params,
                        .min_records = row->min_records,
                        .completion = row->completion,
                        .built = row->built,
                        .keep_input = UINT64_MAX,
                        .keep_output = UINT64_MAX};
    *ret_entry = e;
    return OCH_OK;
}

static bool entry_insert(struct functions *f, struct entry *e)
{
    struct place *input = place_take(f, e->input);
    struct place *output = input ? place_take(f, e->output) : NULL;
    if (!output) {
        place_forget_empty(f, e->input);
        return false;
    }
    LIST_INSERT_HEAD(&input->inputs, e, input_link);
    LIST_INSERT_HEAD(&output->outputs, e, output_link);
    TAILQ_INSERT_TAIL(&f->all, e, link);
    atomic_fetch_add(&f->attached, 1);
    return true;
}

/* ---- life ---- */

och_code functions_new(const struct functions_options *options, struct functions **ret_functions,
                       och_error *err)
{
    struct functions *f = MEM_NEW(struct functions);
    if (!f)
        return FAIL_NO_MEMORY(err, "attached functions");
    f->options = *options;
    mutex_init(&f->lock, RANK_LEAF);
    for (int lane = 0; lane < LANES; lane++)
        cond_init(&f->wake[lane]);
    map_init(&f->places);
    TAILQ_INIT(&f->all);
    TAILQ_INIT(&f->ready);
    *ret_functions = f;
    return OCH_OK;
}

void functions_free(struct functions *f)
{
    if (!f)
        return;
    functions_stop(f);
    while (!TAILQ_EMPTY(&f->all))
        entry_remove(f, TAILQ_FIRST(&f->all));
    map_done(&f->places);
    for (int lane = 0; lane < LANES; lane++)
        cond_done(&f->wake[lane]);
    mutex_done(&f->lock);
    mem_free(f);
}

/* `unsure`: another process may have been cut off between a step and its note. */
static och_code attach(struct functions *f, const struct sysdb_function *row, bool unsure,
                       och_error *err)
{
    uint64_t head;
    uint32_t dimension;
    struct entry *e = NULL;
    TRY(entry_new(row, &e, err));
    e->unsure = unsure && e->work->step && e->built;
    mutex_lock(&f->lock);
    bool known = entry_find(f, row->id, row->input);
    bool inserted = !known && entry_insert(f, e);
    mutex_unlock(&f->lock);
    if (!inserted)
        entry_free(e);
    if (!known && !inserted)
        return FAIL_NO_MEMORY(err, "an attached function");
    /* Now that batches are told here: what came before. */
    TRY(wal_head(f->wal, row->input, &head, &dimension, err));
    mutex_lock(&f->lock);
    e = entry_find(f, row->id, row->input); /* if nobody has detached it */
    if (e) {
        e->head = e->head > head ? e->head : head;
        e->wanted = head;
        entry_offer(f, e);
    }
    mutex_unlock(&f->lock);
    return OCH_OK;
}

och_code functions_load(struct functions *f, struct wal *wal, struct compactor *compactor,
                        och_error *err)
{
    struct arena arena;
    struct sysdb_function *rows = NULL;
    size_t count = 0;
    f->wal = wal;
    f->compactor = compactor;
    arena_init(&arena, f->options.budget, 0);
    och_code code = sysdb_function_list(f->options.sysdb, &arena, &rows, &count, err);
    for (size_t i = 0; i < count && code == OCH_OK; i++) {
        code = attach(f, &rows[i], true, err);
        if (code == OCH_UNSUPPORTED) {
            char text[UUID_TEXT_SIZE];
            trace_line(f->options.trace, TRACE_WARN, "function",
                       "a function that this version does not know is left alone", "collection",
                       uuid_format(rows[i].input, text), NULL);
            error_clear(err);
            code = OCH_OK;
        }
    }
    arena_done(&arena);
    return code;
}

/* ---- what others tell, and ask ---- */

static void deliver(void *context, struct wal_batch *batch)
{
    struct functions *f = context;
    f->next.deliver(f->next.context, batch);
    if (atomic_load_explicit(&f->attached, memory_order_relaxed) == 0)
        return; /* attach asks the log for the head after it is in the table */
    uint64_t end = batch->first + batch->count;
    mutex_lock(&f->lock);
    struct place *place = place_find(f, batch->collection);
    struct entry *e;
    if (place) {
        LIST_FOREACH(e, &place->inputs, input_link)
        {
            e->head = e->head > end ? e->head : end;
            entry_offer(f, e);
        }
    }
    mutex_unlock(&f->lock);
}

struct wal_sink functions_sink(struct functions *f, struct wal_sink next)
{
    f->next = next;
    return (struct wal_sink){f, deliver};
}

och_code functions_attached(struct functions *f, const struct sysdb_function *row, och_error *err)
{
    TRY(attach(f, row, false, err));
    return functions_start_threads(f, err);
}

void functions_detached(struct functions *f, uuid id, uuid input)
{
    mutex_lock(&f->lock);
    struct entry *e = entry_find(f, id, input);
    if (e)
        entry_remove(f, e);
    mutex_unlock(&f->lock);
}

void functions_forget(struct functions *f, uuid collection)
{
    mutex_lock(&f->lock);
    struct place *place;
    while ((place = place_find(f, collection))) { /* goes with the last one */
        struct entry *e = LIST_FIRST(&place->inputs);
        entry_remove(f, e ? e : LIST_FIRST(&place->outputs));
    }
    mutex_unlock(&f->lock);
}

uint64_t functions_hold(void *functions, uuid collection, uint64_t from, uint64_t to,
                        uint64_t bytes)
{
    struct functions *f = functions;
    uint64_t upto = UINT64_MAX;
    if (atomic_load_explicit(&f->attached, memory_order_relaxed) == 0)
        return upto;
    mutex_lock(&f->lock);
    struct place *place = place_find(f, collection);
    bool small = to - from <= f->options.hold_rows && bytes <= f->options.hold_bytes;
    struct entry *e = NULL;
    if (place) {
        LIST_FOREACH(e, &place->inputs, input_link)
        {
            e->wanted = e->wanted > to ? e->wanted : to;
            entry_offer(f, e);
            if (!e->work->step || !small || e->failures >= FUNCTION_TRIES_HELD)
                continue;
            uint64_t keep = e->built ? e->completion : e->keep_input;
            e->held |= keep < to;
            upto = keep < upto ? keep : upto;
        }
        /* What a step wrote is recognised in the log only. */
        LIST_FOREACH(e, &place->outputs, output_link)
        {
            uint64_t keep = e->unsure ? 0 : e->keep_output;
            upto = keep < upto ? keep : upto;
        }
    }
    mutex_unlock(&f->lock);
    return upto;
}

void function_keep(struct functions *f, struct entry *e, uint64_t input, uint64_t output)
{
    mutex_lock(&f->lock);
    e->keep_input = input;
    e->keep_output = output;
    mutex_unlock(&f->lock);
}

bool function_is_gone(struct functions *f, struct entry *e)
{
    mutex_lock(&f->lock);
    bool gone = e->gone;
    mutex_unlock(&f->lock);
    return gone;
}

void functions_stats(struct functions *f, struct functions_stats *ret_stats)
{
    mutex_lock(&f->lock);
    *ret_stats = f->stats;
    struct entry *e;
    TAILQ_FOREACH(e, &f->all, link)
    {
        ret_stats->attached++;
        ret_stats->waiting += e->head > e->completion ? e->head - e->completion : 0;
        ret_stats->failing += e->failures > 0;
    }
    mutex_unlock(&f->lock);
}
