/* SPDX-License-Identifier: Apache-2.0 */
/* What is attached, who has work, and the two threads that do it: steps, which flushes wait for, and rebuilds, which may take long.
 *
 * Both work on entries that have consumed less than their input holds; at one entry one thread at a time. */
#include "function/function_internal.h"

#include <stdlib.h>

#define MS             1000000ull
#define RETRY_FIRST_NS (200 * MS)
#define RETRY_MOST_NS  (60000 * MS)
#define TRIES_HELD \
    3 /* a function that failed so often does not hold up flushes; it is rebuilt when it works again */
#define REST_FACTOR  9 /* a rebuild that must be done again and again takes a tenth of the time */
#define NICE_REBUILD 10

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

static uint64_t now_ns(const struct functions *f)
{
    return clock_mono_ns(f->options.clock);
}

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

static enum lane lane_of(const struct entry *e)
{
    return e->work->step && !e->built ? LANE_REBUILDS : LANE_STEPS;
}

static bool is_due(const struct entry *e)
{
    if (e->unsure)
        return true;
    uint64_t waiting = e->head > e->completion ? e->head - e->completion : 0;
    return waiting > 0 && (e->completion < e->wanted || waiting >= e->min_records);
}

/* Into the queue if there is work and nobody is at it. */
static void offer(struct functions *f, struct entry *e)
{
    if (e->running || e->gone || e->ready || !is_due(e))
        return;
    e->ready = true;
    TAILQ_INSERT_TAIL(&f->ready, e, ready_link);
    cond_signal(&f->wake[lane_of(e)]);
}

static void entry_free(struct entry *e)
{
    mem_free(e->params);
    mem_free(e);
}

/* Out of all lists; whoever runs it frees it when he is done. */
static void entry_remove(struct functions *f, struct entry *e)
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
        offer(f, e);
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

/* ---- running ---- */

/* The first one of a lane that may run now; *ret_wait_until: when the next one may. */
static struct entry *pick(struct functions *f, enum lane lane, uint64_t *ret_wait_until)
{
    uint64_t now = now_ns(f);
    struct entry *e;
    TAILQ_FOREACH(e, &f->ready, ready_link)
    {
        if (lane_of(e) != lane)
            continue;
        if (e->not_before <= now)
            break;
        if (e->not_before < *ret_wait_until)
            *ret_wait_until = e->not_before;
    }
    if (e) {
        TAILQ_REMOVE(&f->ready, e, ready_link);
        e->ready = false;
        e->running = true;
    }
    return e;
}

/* Is it still in the catalogue?  A collection may be dropped while a run looks at it. */
static bool was_dropped(struct functions *f, const struct run *run, och_code code)
{
    if (code != OCH_NOT_FOUND)
        return false;
    const struct sysdb_collection *sides[2] = {NULL, NULL};
    bool gone = sysdb_collection_get(f->options.sysdb, SLICE_NONE, SLICE_NONE, run->input,
                                     &sides[0], NULL) == OCH_NOT_FOUND ||
                sysdb_collection_get(f->options.sysdb, SLICE_NONE, SLICE_NONE, run->output,
                                     &sides[1], NULL) == OCH_NOT_FOUND;
    sysdb_collection_unref(sides[0]);
    sysdb_collection_unref(sides[1]);
    return gone;
}

/* Under lock: what came of a run.  True: flushes were held up and need not be any more. */
static bool settle(struct functions *f, struct entry *e, const struct run *run, och_code code,
                   uint64_t began)
{
    uint64_t now = now_ns(f);
    bool kick = e->held && run->completion > e->completion;
    e->running = false;
    e->completion = run->completion;
    e->built = run->built;
    e->unsure = run->unsure;
    e->keep_input = e->keep_output = UINT64_MAX;
    f->stats.consumed += run->consumed;
    f->stats.written += run->written;
    if (code == OCH_OK) {
        f->stats.runs++;
        f->stats.rebuilds += run->rebuilt;
        e->failures = 0;
        e->rebuild_ns = run->rebuilt ? now - began : e->rebuild_ns;
        e->not_before = run->demoted ? now + e->rebuild_ns * REST_FACTOR : 0;
    } else if (code != OCH_CANCELLED) {
        uint64_t wait = RETRY_FIRST_NS << (e->failures < 9 ? e->failures : 9);
        e->failures++;
        e->not_before = now + (wait < RETRY_MOST_NS ? wait : RETRY_MOST_NS);
        f->stats.failures++;
    }
    kick |= e->held && e->failures >= TRIES_HELD;
    e->held &= !kick;
    return kick;
}

static och_code run_entry(struct functions *f, struct entry *e, och_error *err)
{
    uint64_t began = now_ns(f);
    mutex_lock(&f->lock);
    struct run run = {.functions = f,
                      .entry = e,
                      .id = e->id,
                      .input = e->input,
                      .output = e->output,
                      .work = e->work,
                      .params = e->params,
                      .completion = e->completion,
                      .built = e->built,
                      .unsure = e->unsure,
                      .limits = {.cancel = &f->cancel}};
    mutex_unlock(&f->lock);
    och_code code = run_once(&run, err);
    view_release(run.view);
    view_release(run.before);
    bool dropped = was_dropped(f, &run, code);
    char text[UUID_TEXT_SIZE];
    if (code != OCH_OK && code != OCH_CANCELLED && !dropped && !function_is_gone(f, e))
        trace_line(f->options.trace, TRACE_WARN, "function",
                   "a run failed; what it should consume waits and it is tried again", "function",
                   run.work->kind.name, "collection", uuid_format(run.input, text), "reason",
                   err->message, NULL);
    mutex_lock(&f->lock);
    if (e->gone || dropped) {
        bool was_gone = e->gone;
        e->running = false;
        if (was_gone)
            entry_free(e);
        else
            entry_remove(f, e);
        mutex_unlock(&f->lock);
        error_clear(err);
        return OCH_OK;
    }
    bool kick = settle(f, e, &run, code, began);
    offer(f, e);
    mutex_unlock(&f->lock);
    if (kick)
        compactor_kick(f->compactor, run.input);
    return code;
}

static void work(struct functions *f, enum lane lane)
{
    mutex_lock(&f->lock);
    while (!f->stopping) {
        uint64_t wait_until = UINT64_MAX;
        struct entry *e = pick(f, lane, &wait_until);
        if (!e) {
            if (wait_until == UINT64_MAX)
                cond_wait(&f->wake[lane], &f->lock);
            else
                (void)cond_wait_until(&f->wake[lane], &f->lock, wait_until);
            continue;
        }
        mutex_unlock(&f->lock);
        och_error err = {0};
        IGNORE(run_entry(f, e, &err)); /* counted, told and tried again there */
        mutex_lock(&f->lock);
    }
    mutex_unlock(&f->lock);
}

static void run_steps(void *arg)
{
    work(arg, LANE_STEPS);
}

static void run_rebuilds(void *arg)
{
    thread_be_nice(NICE_REBUILD);
    work(arg, LANE_REBUILDS);
}

/* Most databases have no functions, and no threads for them. */
static och_code start_threads(struct functions *f, och_error *err)
{
    static void (*const bodies[LANES])(void *arg) = {run_steps, run_rebuilds};
    static const char *const names[LANES] = {"ochre-function", "ochre-rebuild"};
    mutex_lock(&f->lock);
    bool start = f->started && !f->stopping && atomic_load(&f->attached) > 0;
    bool mine[LANES];
    for (int lane = 0; lane < LANES; lane++) {
        mine[lane] = start && !f->starting[lane];
        f->starting[lane] |= start;
    }
    mutex_unlock(&f->lock);
    for (int lane = 0; lane < LANES; lane++) {
        if (mine[lane])
            TRY(thread_start(&f->threads[lane], names[lane], FUNCTION_STACK, bodies[lane], f, err));
    }
    return OCH_OK;
}

och_code functions_start(struct functions *f, och_error *err)
{
    mutex_lock(&f->lock);
    f->started = true;
    mutex_unlock(&f->lock);
    return start_threads(f, err);
}

void functions_stop(struct functions *f)
{
    atomic_store(&f->cancel.fired, true);
    mutex_lock(&f->lock);
    f->stopping = true;
    for (int lane = 0; lane < LANES; lane++)
        cond_broadcast(&f->wake[lane]);
    mutex_unlock(&f->lock);
    for (int lane = 0; lane < LANES; lane++) {
        if (f->threads[lane].started)
            thread_join(&f->threads[lane]);
    }
}

/* Once for each that has work, and for those that get some by it. */
static och_code run_round(struct functions *f, bool *ret_any, och_error *err)
{
    och_code first = OCH_OK;
    struct entry *e;
    *ret_any = false;
    mutex_lock(&f->lock);
    TAILQ_FOREACH(e, &f->all, link)
    {
        e->wanted = e->head;
        e->not_before = 0;
        offer(f, e);
    }
    for (int lane = 0; lane < LANES; lane++) {
        uint64_t never = UINT64_MAX;
        while ((e = pick(f, (enum lane)lane, &never))) {
            mutex_unlock(&f->lock);
            och_error why = {0};
            och_code code = run_entry(f, e, &why);
            *ret_any |= code == OCH_OK;
            if (code != OCH_OK && first == OCH_OK) {
                first = code;
                if (err)
                    *err = why;
            }
            mutex_lock(&f->lock);
        }
    }
    mutex_unlock(&f->lock);
    return first;
}

och_code functions_run(struct functions *f, och_error *err)
{
    och_code code = OCH_OK;
    for (bool any = true; any && code == OCH_OK;)
        code = run_round(f, &any, err);
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
            offer(f, e);
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
    return start_threads(f, err);
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
            offer(f, e);
            if (!e->work->step || !small || e->failures >= TRIES_HELD)
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
