/* SPDX-License-Identifier: Apache-2.0 */
/* One run: a step, or a rebuild, and how neither is lost nor done twice.
 *
 * A step consumes the operations [completion, to) and writes one batch to the output.  The batch's id is made of function, input and `completion`, its
 * request hash is `to`.  Then the catalogue is told the new completion.  A crash between the two leaves the batch in the log: as long as it is not
 * certain, the compactor keeps the output's tail (functions_hold), so the batch is found there by its id, and says how far it went.
 *
 * A rebuild writes what the output should be, whatever it is; done again it writes the same.  The catalogue knows that one is needed before it begins. */
#include "function/function_internal.h"

#include "base/bytes.h"

#define WAIT_NS     (200 * 1000000ull)
#define WAITS_MAX   150 /* that a full log or memory makes a rebuild wait before it begins anew */
#define BATCH_ROWS  4096
#define BATCH_BYTES (4u << 20)

och_code run_check(struct run *run, och_error *err)
{
    TRY(work_check(&run->limits, err));
    if (function_is_gone(run->functions, run->entry))
        return FAIL(err, OCH_CANCELLED, "the function was detached");
    return OCH_OK;
}

/* The id of the batch by which a step from the run's completion on is known. */
static uuid step_id(const struct run *run)
{
    uint8_t text[41] = {0};
    uuid id;
    memcpy(text, run->id.bytes, 16);
    memcpy(text + 16, run->input.bytes, 16);
    store_u64(text + 32, run->completion);
    store_u64(id.bytes, slice_hash(slice_make(text, sizeof(text))));
    text[40] = 1;
    store_u64(id.bytes + 8, slice_hash(slice_make(text, sizeof(text))));
    id.bytes[0] |= 1; /* zero means none */
    return id;
}

static och_code note(struct run *run, uint64_t completion, bool built, och_error *err)
{
    TRY(sysdb_function_progress(run->functions->options.sysdb, run->id, run->input, completion,
                                built, err));
    run->consumed += completion - run->completion;
    run->completion = completion;
    run->built = built;
    return OCH_OK;
}

/* ---- writing ---- */

static och_code throttle(struct run *run, uint32_t count, och_error *err)
{
    uint64_t wait_ns = 0;
    for (unsigned waits = 0;; waits++) {
        och_code code =
            compactor_throttle(run->functions->compactor, run->output, count, &wait_ns, err);
        if (code != OCH_BUSY || waits == WAITS_MAX) {
            TRY(code);
            break;
        }
        error_clear(err);
        sched_sleep_ns(WAIT_NS);
        TRY(run_check(run, err));
    }
    for (; wait_ns > 0; wait_ns -= wait_ns < WAIT_NS ? wait_ns : WAIT_NS) {
        sched_sleep_ns(wait_ns < WAIT_NS ? wait_ns : WAIT_NS);
        TRY(run_check(run, err));
    }
    return OCH_OK;
}

/* `to` 0: no mark. */
static och_code append(struct run *run, struct output_rows *out, uint64_t to, och_error *err)
{
    struct batch_input input = {.count = (uint32_t)out->rows.len, .rows = out->rows.at};
    for (uint32_t i = 0; i < input.count && !input.dimension; i++)
        input.dimension = input.rows[i].vector ? out->dimension : 0;
    TRY(throttle(run, input.count, err));
    struct payload *payload CLEANUP(payload_cleanup) = NULL;
    TRY(batch_encode(&input, run->functions->options.budget, &payload, err));
    struct wal_append request = {.collection = run->output,
                                 .payload = payload,
                                 .count = input.count,
                                 .dimension = input.dimension,
                                 .fixes_dimension = input.dimension != 0,
                                 .batch_id = to ? step_id(run) : (uuid){{0}},
                                 .request_hash = to,
                                 .limits = run->limits};
    struct wal_appended appended;
    TRY(wal_append(run->functions->wal, &request, &appended, err));
    views_settle(run->functions->options.views, run->output);
    run->written += input.count;
    return OCH_OK;
}

static och_code begin_rows(struct run *run, struct arena *arena, struct output_rows *out,
                           och_error *err)
{
    uint64_t head;
    *out = (struct output_rows){.arena = arena};
    TRY(wal_head(run->functions->wal, run->output, &head, &out->dimension, err));
    out->dimension = out->dimension ? out->dimension : 1;
    out->zeros = ARENA_ARRAY(arena, float, out->dimension);
    return out->zeros ? OCH_OK : FAIL_NO_MEMORY(err, "rows of a function");
}

och_code run_write(struct run *run, struct output_rows *out, och_error *err)
{
    TRY(run_check(run, err));
    if (out->rows.len)
        TRY(append(run, out, 0, err));
    out->rows.len = 0;
    out->bytes = 0;
    arena_done(out->arena);
    out->zeros = ARENA_ARRAY(out->arena, float, out->dimension);
    return out->zeros ? OCH_OK : FAIL_NO_MEMORY(err, "rows of a function");
}

och_code run_write_full(struct run *run, struct output_rows *out, och_error *err)
{
    bool full = out->rows.len >= BATCH_ROWS || out->bytes >= BATCH_BYTES;
    return full ? run_write(run, out, err) : OCH_OK;
}

/* ---- steps ---- */

/* Is the batch of a step from here on in the output's tail?  Newest first: it is among the last. */
static och_code look_back(struct run *run, och_error *err)
{
    struct view *view CLEANUP(view_cleanup) = NULL;
    TRY(view_acquire(run->functions->options.views, run->output, READ_INDEX_AND_WAL, &view, err));
    uuid id = step_id(run);
    for (size_t i = view_batch_count(view); i-- > 0;) {
        const struct wal_batch *batch = view_batch(view, i);
        if (!uuid_equal(batch->batch_id, id))
            continue;
        if (batch->request_hash > run->completion)
            TRY(note(run, batch->request_hash, true, err));
        break;
    }
    run->unsure = false;
    return OCH_OK;
}

/* The end of as many batches as one step takes. */
static uint64_t step_end(const struct run *run)
{
    uint64_t to = run->completion, bytes = 0;
    for (size_t i = 0; i < view_batch_count(run->view); i++) {
        const struct wal_batch *batch = view_batch(run->view, i);
        uint64_t end = batch->first + batch->count;
        if (end <= run->completion)
            continue;
        bytes += batch->payload->len;
        if (to > run->completion &&
            (end - run->completion > FUNCTION_STEP_ROWS || bytes > FUNCTION_STEP_BYTES))
            break;
        to = end;
    }
    return to;
}

static och_code write_step(struct run *run, struct arena *arena, uint64_t to, och_error *err)
{
    struct output_rows out;
    TRY(begin_rows(run, arena, &out, err));
    och_code code = run->work->step(run, run->completion, to, &out, err);
    if (code == OCH_OK && out.rows.len > 0) {
        function_keep(run->functions, run->entry, UINT64_MAX, view_info(run->before)->to);
        run->unsure = true; /* until the catalogue knows, whatever fails */
        code = append(run, &out, to, err);
    }
    if (code == OCH_OK)
        code = note(run, to, true, err);
    run->unsure &= code != OCH_OK;
    VEC_DONE(&out.rows);
    return code;
}

static och_code step(struct run *run, och_error *err)
{
    struct views *views = run->functions->options.views;
    TRY(view_acquire(views, run->input, READ_INDEX_AND_WAL, &run->view, err));
    const struct view_info *info = view_info(run->view);
    if (info->has_expiry || info->from > run->completion) {
        run->demoted = true;
        return note(run, run->completion, false, err);
    }
    uint64_t to = step_end(run);
    if (to == run->completion)
        return OCH_OK;
    TRY(view_acquire(views, run->output, READ_INDEX_AND_WAL, &run->before, err));
    struct arena arena;
    arena_init(&arena, run->functions->options.budget, 0);
    och_code code = write_step(run, &arena, to, err);
    arena_done(&arena);
    return code;
}

/* ---- rebuilds ---- */

static och_code rebuild_from(struct run *run, struct arena *arena, och_error *err)
{
    struct output_rows out;
    TRY(begin_rows(run, arena, &out, err));
    och_code code = run->work->rebuild(run, &out, err);
    if (code == OCH_OK)
        code = run_write(run, &out, err);
    VEC_DONE(&out.rows);
    TRY(code);
    const struct view_info *info = view_info(run->view);
    /* Where rows expire nothing tells when: it is made anew each time. */
    bool built = !run->work->step || !info->has_expiry;
    run->rebuilt = run->work->step != NULL;
    run->demoted = !built;
    return note(run, info->to, built, err);
}

static och_code rebuild(struct run *run, och_error *err)
{
    struct functions *f = run->functions;
    uint64_t head;
    uint32_t dimension;
    /* Flushes of the input stop where the next step begins, so that there can be one. */
    TRY(wal_head(f->wal, run->input, &head, &dimension, err));
    function_keep(f, run->entry, head, UINT64_MAX);
    TRY(view_acquire(f->options.views, run->input, READ_INDEX_AND_WAL, &run->view, err));
    if (view_info(run->view)->to == run->completion)
        return OCH_OK;
    function_keep(f, run->entry, view_info(run->view)->to, UINT64_MAX);
    TRY(view_acquire(f->options.views, run->output, READ_INDEX_AND_WAL, &run->before, err));
    struct arena arena;
    arena_init(&arena, f->options.budget, 0);
    och_code code = rebuild_from(run, &arena, err);
    arena_done(&arena);
    return code;
}

och_code run_once(struct run *run, och_error *err)
{
    if (run->unsure)
        TRY(look_back(run, err));
    return run->work->step && run->built ? step(run, err) : rebuild(run, err);
}
