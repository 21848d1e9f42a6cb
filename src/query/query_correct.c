/* SPDX-License-Identifier: Apache-2.0 */
/* Effort corrected by real queries.  A part's budget of lists is calibrated with its own rows as queries and holds for queries like them; for
 * queries far off the data it promises more than it gives.  So some of each collection's recent queries are remembered, asked again when nobody
 * is waiting, of all lists, and the collection's effort becomes the least one with which they reach their recall.  It is never less than
 * calibration says, so queries like the data lose nothing.  Nothing of this outlives the process. */
#include "query/query_correct.h"

#include "base/map.h"

#include <math.h>

#define SAMPLES         64         /* remembered queries of a collection */
#define SAMPLES_LEAST   16         /* fewer say too little */
#define SAMPLE_BYTES    (1u << 20) /* of vectors, of one collection */
#define COLLECTIONS_MAX 256        /* remembered at once */
#define FRESH           32         /* new ones before they are asked again */
#define EVERY           8          /* of a busy collection's queries one in so many is kept */
#define K_MAX           128        /* larger answers are not compared */
#define IDLE_NS         200000000u /* since the last query */
#define REST            9          /* idle time per time of work: a tenth of one core */

static const float efforts[] = {1, 1.5f, 2.2f, 3.3f, 5, 7.5f, 11, 17, 25, 40};

struct sample {
    float recall;
    uint32_t k;
};
struct corrected {
    uuid id;
    uint32_t dimension, room, count, fresh;
    uint64_t seen, used; /* used: clock of the corrector, to let the oldest go */
    size_t bytes;
    float *vectors; /* room x dimension, a ring */
    struct sample samples[SAMPLES];
    float effort, before, after; /* before, after: recall at effort 1 and at effort; 0: not known */
};

struct corrector {
    struct query *query;
    struct mutex lock; /* RANK_LEAF; guards: table, count, clock, entries, stats, stopping */
    struct map table;  /* collection -> struct corrected * */
    uint64_t clock;
    struct query_stats stats;
    bool stopping, due; /* due: some collection has enough that is new */
    struct cond wake;
    struct thread thread;     /* from the first time that something is due */
    _Atomic uint32_t at_work; /* queries of clients */
    _Atomic uint64_t last_ns; /* when the last one ended */
    struct cancel cancel;
};

/* ---- remembering ---- */

static void entry_free(struct corrector *c, struct corrected *entry)
{
    budget_give(c->query->options.budget, entry->bytes);
    mem_free(entry->vectors);
    mem_free(entry);
}

/* Under the lock. */
static void forget(struct corrector *c, uuid id)
{
    uint64_t *value = map_find(&c->table, uuid_slice(&id));
    if (!value)
        return;
    struct corrected *entry = (struct corrected *)(uintptr_t)*value;
    (void)map_remove(&c->table, uuid_slice(&id));
    entry_free(c, entry);
}

static void forget_oldest(struct corrector *c)
{
    size_t cursor = 0;
    slice key;
    uint64_t value;
    const struct corrected *oldest = NULL;
    while (map_next(&c->table, &cursor, &key, &value)) {
        const struct corrected *entry = (const struct corrected *)(uintptr_t)value;
        if (!oldest || entry->used < oldest->used)
            oldest = entry;
    }
    if (oldest)
        forget(c, oldest->id);
}

static struct corrected *entry_new(struct corrector *c, uuid id, uint32_t dimension)
{
    uint32_t room = SAMPLE_BYTES / (4 * dimension);
    room = room < SAMPLES ? room : SAMPLES;
    size_t bytes = sizeof(struct corrected) + (size_t)room * dimension * 4;
    if (room < SAMPLES_LEAST ||
        budget_take(c->query->options.budget, bytes, "queries to learn from", NULL) != OCH_OK)
        return NULL;
    struct corrected *entry = MEM_NEW(struct corrected);
    float *vectors = mem_alloc((size_t)room * dimension * 4);
    bool is_new;
    uint64_t *value = NULL;
    if (entry && vectors) {
        if (c->table.len >= COLLECTIONS_MAX)
            forget_oldest(c);
        *entry = (struct corrected){.id = id,
                                    .dimension = dimension,
                                    .room = room,
                                    .bytes = bytes,
                                    .vectors = vectors,
                                    .effort = 1};
        value = map_at(&c->table, uuid_slice(&entry->id), &is_new);
    }
    if (!value) {
        budget_give(c->query->options.budget, bytes);
        mem_free(vectors);
        mem_free(entry);
        return NULL;
    }
    *value = (uint64_t)(uintptr_t)entry;
    return entry;
}

static struct corrected *entry_of(struct corrector *c, uuid id)
{
    uint64_t *value = map_find(&c->table, uuid_slice(&id));
    return value ? (struct corrected *)(uintptr_t)*value : NULL;
}

static bool has_enough(const struct corrected *entry)
{
    uint32_t enough = entry->before > 0 ? FRESH : SAMPLES_LEAST;
    return entry->count >= SAMPLES_LEAST && entry->fresh >= enough;
}

static void work(void *context);

static void set_due(struct corrector *c, const struct corrected *entry)
{
    if (c->due || !has_enough(entry))
        return;
    c->due = true;
    if (c->query->options.correct && !c->thread.started && !c->stopping)
        c->due = thread_start(&c->thread, "ochre-correct", 0, work, c, NULL) == OCH_OK;
    cond_signal(&c->wake);
}

void corrector_remember(struct corrector *c, uuid id, const float *vector, uint32_t dimension,
                        uint32_t k, float recall)
{
    if (!c || k > K_MAX || !mutex_try_lock(&c->lock)) /* who is in a hurry is not kept */
        return;
    struct corrected *entry = entry_of(c, id);
    if (entry && entry->dimension != dimension) { /* the id came back as something else */
        forget(c, id);
        entry = NULL;
    }
    if (!entry)
        entry = entry_new(c, id, dimension);
    if (entry && (entry->count < entry->room || entry->seen % EVERY == 0)) {
        uint32_t at = entry->count < entry->room ? entry->count++
                                                 : (uint32_t)(entry->seen / EVERY % entry->room);
        memcpy(entry->vectors + (size_t)at * dimension, vector, (size_t)dimension * 4);
        entry->samples[at] = (struct sample){recall, k};
        entry->fresh++;
        entry->used = ++c->clock;
    }
    if (entry) {
        entry->seen++;
        set_due(c, entry);
    }
    mutex_unlock(&c->lock);
}

float corrector_effort(struct corrector *c, uuid id, struct correction *ret)
{
    *ret = (struct correction){.effort = 1};
    if (!c)
        return 1;
    mutex_lock(&c->lock);
    const struct corrected *entry = entry_of(c, id);
    if (entry)
        *ret = (struct correction){entry->effort, entry->before, entry->after, entry->count};
    mutex_unlock(&c->lock);
    return ret->effort;
}

void corrector_enter(struct corrector *c)
{
    if (c)
        atomic_fetch_add_explicit(&c->at_work, 1, memory_order_relaxed);
}

void corrector_leave(struct corrector *c)
{
    if (!c)
        return;
    atomic_store_explicit(&c->last_ns, sched_mono_ns(), memory_order_relaxed);
    atomic_fetch_sub_explicit(&c->at_work, 1, memory_order_relaxed);
}

/* ---- asking again ---- */

/* A copy of what one collection asked. */
struct lesson {
    uuid id;
    uint32_t dimension, count;
    struct arena arena;
    float *vectors;
    struct sample *samples;
    float *bounds; /* of the true k-th neighbours; NAN: not known */
};

/* Idle: nobody asks and nobody has for a while.  False: the corrector is closing. */
static bool wait_for_idle(struct corrector *c, uint64_t rest_ns)
{
    mutex_lock(&c->lock);
    uint64_t until = sched_mono_ns() + rest_ns;
    while (!c->stopping) {
        uint64_t now = sched_mono_ns(),
                 quiet = atomic_load_explicit(&c->last_ns, memory_order_relaxed) + IDLE_NS;
        bool busy = atomic_load_explicit(&c->at_work, memory_order_relaxed) != 0;
        if (!busy && now >= quiet && now >= until)
            break;
        uint64_t next = until > quiet ? until : quiet;
        (void)cond_wait_until(&c->wake, &c->lock, busy || next <= now ? now + IDLE_NS : next);
    }
    bool go = !c->stopping;
    mutex_unlock(&c->lock);
    return go;
}

/* Distances of one answer at one effort, ascending. */
static och_code ask(struct corrector *c, const struct lesson *lesson, uint32_t i, float effort,
                    float *out, size_t *ret_count, och_error *err)
{
    struct plan plan = {.kind = PLAN_QUERY,
                        .collection = lesson->id,
                        .limit = PLAN_NO_LIMIT,
                        .vectors = lesson->vectors + (size_t)i * lesson->dimension,
                        .vector_count = 1,
                        .dimension = lesson->dimension,
                        .k = lesson->samples[i].k,
                        .recall = lesson->samples[i].recall};
    struct limits_of_work limits = {.cancel = &c->cancel};
    struct query_result result;
    struct arena arena;
    arena_init(&arena, c->query->options.budget, 0);
    och_code code = query_run_effort(c->query, &plan, &limits, effort, &arena, &result, err);
    if (code == OCH_OK) {
        *ret_count = result.hits[0].count;
        for (size_t j = 0; j < *ret_count && j < K_MAX; j++)
            out[j] = result.hits[0].rows[j].distance;
    }
    query_result_done(&result);
    arena_done(&arena);
    return code;
}

/* One query, when there is time for it.  False: give up. */
static bool ask_in_time(struct corrector *c, const struct lesson *lesson, uint32_t i, float effort,
                        bool patient, float *out, size_t *ret_count)
{
    och_error err = {0};
    if (!patient && atomic_load_explicit(&c->cancel.fired, memory_order_relaxed))
        return false;
    uint64_t began = sched_mono_ns();
    och_code code = ask(c, lesson, i, effort, out, ret_count, &err);
    uint64_t spent = sched_mono_ns() - began;
    mutex_lock(&c->lock);
    c->stats.correction_ns += spent;
    c->stats.asked++;
    if (code == OCH_NOT_FOUND)
        forget(c, lesson->id);
    mutex_unlock(&c->lock);
    return code == OCH_OK && (!patient || wait_for_idle(c, REST * spent));
}

/* How much of what is asked for is found, less what was asked for; *ret_recall as it is. */
static bool measure(struct corrector *c, const struct lesson *lesson, float effort, bool patient,
                    double *ret_spare, double *ret_recall)
{
    double spare = 0, recall = 0;
    for (uint32_t i = 0; i < lesson->count; i++) {
        float found[K_MAX];
        size_t count = 0, hits = 0;
        if (!ask_in_time(c, lesson, i, effort, patient, found, &count))
            return false;
        for (size_t j = 0; j < count; j++)
            hits += found[j] <= lesson->bounds[i];
        double own = count ? (double)hits / (double)count : 1;
        recall += own / lesson->count;
        spare += (own - (double)lesson->samples[i].recall) / lesson->count;
    }
    *ret_spare = spare;
    *ret_recall = recall;
    return true;
}

static void learn(struct corrector *c, struct lesson *lesson, bool patient)
{
    double spare = 0, recall = 0, before = 0;
    size_t e = 0;
    for (uint32_t i = 0; i < lesson->count; i++) {
        float found[K_MAX];
        size_t count = 0;
        if (!ask_in_time(c, lesson, i, INFINITY, patient, found, &count))
            return;
        lesson->bounds[i] = count ? found[count - 1] : -INFINITY;
    }
    for (; e < COUNT_OF(efforts); e++) {
        if (!measure(c, lesson, efforts[e], patient, &spare, &recall))
            return;
        before = e ? before : recall;
        if (spare >= 0)
            break;
    }
    e = e < COUNT_OF(efforts) ? e : COUNT_OF(efforts) - 1;
    mutex_lock(&c->lock);
    struct corrected *entry = entry_of(c, lesson->id);
    if (entry) {
        entry->effort = efforts[e];
        entry->before = (float)before;
        entry->after = (float)recall;
    }
    c->stats.corrections++;
    mutex_unlock(&c->lock);
}

/* The next collection with enough that is new, copied.  False: none. */
static bool next_lesson(struct corrector *c, struct lesson *ret)
{
    size_t cursor = 0;
    slice key;
    uint64_t value;
    bool found = false;
    mutex_lock(&c->lock);
    while (!found && map_next(&c->table, &cursor, &key, &value)) {
        struct corrected *entry = (struct corrected *)(uintptr_t)value;
        if (!has_enough(entry))
            continue;
        entry->fresh = 0;
        *ret =
            (struct lesson){.id = entry->id, .dimension = entry->dimension, .count = entry->count};
        size_t floats = (size_t)entry->count * entry->dimension;
        arena_init(&ret->arena, c->query->options.budget, 0);
        ret->vectors = ARENA_ARRAY(&ret->arena, float, floats);
        ret->samples = ARENA_ARRAY(&ret->arena, struct sample, entry->count);
        ret->bounds = ARENA_ARRAY(&ret->arena, float, entry->count);
        found = ret->vectors && ret->samples && ret->bounds;
        if (found) {
            memcpy(ret->vectors, entry->vectors, floats * 4);
            memcpy(ret->samples, entry->samples, entry->count * sizeof(struct sample));
        } else {
            arena_done(&ret->arena);
        }
    }
    mutex_unlock(&c->lock);
    return found;
}

void query_correct_now(struct query *query)
{
    struct lesson lesson;
    while (query->corrector && next_lesson(query->corrector, &lesson)) {
        learn(query->corrector, &lesson, false);
        arena_done(&lesson.arena);
    }
}

static bool wait_until_due(struct corrector *c)
{
    mutex_lock(&c->lock);
    while (!c->due && !c->stopping)
        cond_wait(&c->wake, &c->lock);
    c->due = false;
    bool go = !c->stopping;
    mutex_unlock(&c->lock);
    return go;
}

static void work(void *context)
{
    struct corrector *c = context;
    thread_lower_priority();
    while (wait_until_due(c) && wait_for_idle(c, 0)) {
        struct lesson lesson;
        while (next_lesson(c, &lesson)) {
            learn(c, &lesson, true);
            arena_done(&lesson.arena);
        }
    }
}

/* ---- life ---- */

och_code corrector_new(struct query *query, struct corrector **ret, och_error *err)
{
    struct corrector *c = MEM_NEW(struct corrector);
    if (!c)
        return FAIL_NO_MEMORY(err, "the query executor");
    c->query = query;
    mutex_init(&c->lock, RANK_LEAF);
    cond_init(&c->wake);
    map_init(&c->table);
    *ret = c;
    return OCH_OK;
}

void corrector_stop(struct corrector *c)
{
    if (!c)
        return;
    mutex_lock(&c->lock);
    c->stopping = true;
    atomic_store(&c->cancel.fired, true);
    cond_broadcast(&c->wake);
    mutex_unlock(&c->lock);
    if (c->thread.started)
        thread_join(&c->thread);
    c->thread.started = false;
}

void corrector_free(struct corrector *c)
{
    if (!c)
        return;
    corrector_stop(c);
    size_t cursor = 0;
    slice key;
    uint64_t value;
    while (map_next(&c->table, &cursor, &key, &value))
        entry_free(c, (struct corrected *)(uintptr_t)value);
    map_done(&c->table);
    cond_done(&c->wake);
    mutex_done(&c->lock);
    mem_free(c);
}

void query_stats(struct query *query, struct query_stats *ret)
{
    struct corrector *c = query->corrector;
    *ret = (struct query_stats){.effort_max = 1};
    if (!c)
        return;
    size_t cursor = 0;
    slice key;
    uint64_t value;
    mutex_lock(&c->lock);
    *ret = c->stats;
    ret->effort_max = 1;
    while (map_next(&c->table, &cursor, &key, &value)) {
        const struct corrected *entry = (const struct corrected *)(uintptr_t)value;
        ret->remembered += entry->count;
        ret->corrected += entry->effort > 1;
        ret->effort_max = entry->effort > ret->effort_max ? entry->effort : ret->effort_max;
    }
    mutex_unlock(&c->lock);
}
