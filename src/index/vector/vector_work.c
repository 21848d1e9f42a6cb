/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of a build, and its loops over many threads. */
#include "index/vector/vector_internal.h"

#define SLOTS_MAX 256 /* threads in one loop */

och_code vector_alloc(struct budget *budget, uint64_t count, size_t size, const char *what,
                      struct vector_memory *ret, och_error *err)
{
    size_t bytes;
    if (count > SIZE_MAX / 2 || mul_overflows((size_t)count + 1, size, &bytes))
        return FAIL(err, OCH_TOO_LARGE, "%s: too many", what);
    TRY(budget_take(budget, bytes, what, err));
    void *at = mem_alloc_aligned(64, bytes);
    if (!at) {
        budget_give(budget, bytes);
        return FAIL_NO_MEMORY(err, what);
    }
    memset(at, 0, bytes);
    *ret = (struct vector_memory){at, bytes};
    return OCH_OK;
}

void vector_release(struct budget *budget, struct vector_memory *memory)
{
    if (memory->at)
        budget_give(budget, memory->bytes);
    mem_free_aligned(memory->at);
    *memory = (struct vector_memory){0};
}

struct crew {
    const struct vector_job *job;
    _Atomic uint32_t next, done;
    _Atomic bool failed;
    struct mutex lock; /* guards: the following */
    och_code code;
    uint32_t failed_item;
    och_error error;
};

/* Of several failures the one of the first item is told; a worker that could not begin comes after all items. */
static void note_failure(struct crew *crew, och_code code, uint32_t item, const och_error *error)
{
    mutex_lock(&crew->lock);
    if (crew->code == OCH_OK || item < crew->failed_item) {
        crew->code = code;
        crew->failed_item = item;
        crew->error = *error;
    }
    mutex_unlock(&crew->lock);
    if (item != UINT32_MAX)
        atomic_store(&crew->failed, true);
}

static bool has_work(struct crew *crew)
{
    return !atomic_load(&crew->failed) && atomic_load(&crew->next) < crew->job->items;
}

static void work(struct crew *crew, void *reader, void *state)
{
    const struct vector_job *job = crew->job;
    while (!atomic_load(&crew->failed)) {
        uint32_t item = atomic_fetch_add(&crew->next, 1);
        if (item >= job->items)
            return;
        och_error error = {0};
        och_code code = work_check(job->limits, &error);
        if (code == OCH_OK)
            code = job->run(job->context, reader, state, item, &error);
        if (code != OCH_OK)
            note_failure(crew, code, item, &error);
        else
            atomic_fetch_add(&crew->done, 1);
    }
}

static void run_slot(void *arg, size_t slot)
{
    struct crew *crew = arg;
    const struct vector_job *job = crew->job;
    (void)slot;
    if (!has_work(crew))
        return;
    och_error error = {0};
    och_code code = OCH_OK;
    void *reader = NULL, *state = mem_zalloc(job->state_size + 1);
    bool own = job->build && job->build->rows.reader_new;
    if (!state)
        code = FAIL_NO_MEMORY(&error, "a vector index");
    else if (own)
        code = job->build->rows.reader_new(job->build->rows.context, &reader, &error);
    else if (job->build)
        reader = job->build->rows.context;
    bool open = own && code == OCH_OK;
    if (code == OCH_OK && job->begin)
        code = job->begin(job->context, state, &error);
    if (code == OCH_OK)
        work(crew, reader, state);
    else
        note_failure(crew, code, UINT32_MAX, &error);
    if (state && job->end)
        job->end(job->context, state);
    if (open)
        job->build->rows.reader_free(reader);
    mem_free(state);
}

och_code vector_for(const struct vector_job *job, och_error *err)
{
    struct crew crew = {.job = job};
    assert(job->items < UINT32_MAX - SLOTS_MAX); /* each thread counts once beyond the end */
    mutex_init(&crew.lock, RANK_LEAF);
    size_t slots = job->items < SLOTS_MAX ? job->items : SLOTS_MAX;
    pool_for(job->pool, job->pool ? slots : (slots > 0), run_slot, &crew);
    mutex_done(&crew.lock);
    if (atomic_load(&crew.done) == job->items)
        return OCH_OK;
    assert(crew.code != OCH_OK);
    if (err)
        *err = crew.error;
    return crew.code;
}
