/* SPDX-License-Identifier: Apache-2.0 */
/* The two threads that do the work: steps, which flushes wait for, and rebuilds, which may take long.
 *
 * Both work on entries that have consumed less than their input holds; at one entry one thread at a time. */
#include "function/function_internal.h"

#define MS             1000000ull
#define RETRY_FIRST_NS (200 * MS)
#define RETRY_MOST_NS  (60000 * MS)
#define REST_FACTOR    9 /* a rebuild that must be done again and again takes a tenth of the time */
#define NICE_REBUILD   10

static uint64_t now_ns(const struct functions *f)
{
    return clock_mono_ns(f->options.clock);
}

/* The first one of a lane that may run now; *ret_wait_until: when the next one may. */
static struct entry *pick(struct functions *f, enum lane lane, uint64_t *ret_wait_until)
{
    uint64_t now = now_ns(f);
    struct entry *e;
    TAILQ_FOREACH(e, &f->ready, ready_link)
    {
        if (entry_lane(e) != lane)
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
    kick |= e->held && e->failures >= FUNCTION_TRIES_HELD;
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
    entry_offer(f, e);
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

och_code functions_start_threads(struct functions *f, och_error *err)
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
    return functions_start_threads(f, err);
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
        entry_offer(f, e);
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
