/* SPDX-License-Identifier: Apache-2.0 */
/* `explain`: what a plan did, as one JSON object.  Sums first, then what each part and the tail did; of a Search, this for each ranking of each payload.
 * Members may be added. */
#include "query/query_correct.h"

#include <inttypes.h>

static const char *const stages[STAGE_COUNT] = {"filter", "coarse", "codes",
                                                "codes8", "rerank", "exact"};

/* Several ways when vectors of one request went different ones. */
static void write_ways(struct buf *out, uint32_t ways)
{
    static const struct {
        uint32_t bit;
        const char *name;
    } names[] = {{1u << VECTOR_BUDGET, "lists"},   {1u << VECTOR_PROBE, "probe"},
                 {1u << VECTOR_FULL, "all lists"}, {1u << VECTOR_CODES8, "codes8"},
                 {1u << VECTOR_CODES1, "codes"},   {RUN_EXACT, "exact"}};
    bool any = false;
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        if (!(ways & names[i].bit))
            continue;
        buf_printf(out, "%s%s", any ? ", " : "", names[i].name);
        any = true;
    }
    if (!any)
        buf_text(out, "nothing");
}

static void write_source(struct buf *out, struct run *run, size_t i)
{
    struct run_source *s = &run->sources[i];
    bool tail = i == view_part_count(run->view);
    buf_printf(out, "{\"source\":\"%s\",\"rows\":%" PRIu32 ",\"way\":\"", tail ? "tail" : "part",
               tail ? view_slot_count(run->view) : part_rows(view_part(run->view, i)));
    write_ways(out, atomic_load(&s->ways));
    buf_printf(out,
               "\",\"lists_probed\":%" PRIu64 ",\"rows_coded\":%" PRIu64 ",\"rows_scored\":%" PRIu64
               ",\"rows_reranked\":%" PRIu64 ",\"rows_exact\":%" PRIu64 ",\"time_us\":{",
               atomic_load(&s->lists_probed), atomic_load(&s->rows_coded),
               atomic_load(&s->rows_scored), atomic_load(&s->rows_reranked),
               atomic_load(&s->rows_exact));
    for (unsigned stage = 0; stage < STAGE_COUNT; stage++)
        buf_printf(out, "%s\"%s\":%.1f", stage ? "," : "", stages[stage],
                   (double)atomic_load(&s->ns[stage]) / 1000);
    buf_text(out, "}}");
}

static void write_effort(struct buf *out, const struct run *run)
{
    struct correction c;
    (void)corrector_effort(run->query->corrector, view_info(run->view)->collection, &c);
    buf_printf(out, ",\"recall_target\":%.4f,\"effort\":%.2f,\"correction\":{\"queries\":%" PRIu32,
               (double)run->recall, (double)run->effort, c.queries);
    if (c.before > 0)
        buf_printf(out, ",\"recall_before\":%.4f,\"recall_after\":%.4f", (double)c.before,
                   (double)c.after);
    buf_text(out, "}");
}

struct sums {
    uint64_t lists, coded, scored, reranked;
};

static struct sums sum_up(struct run *run, size_t sources)
{
    struct sums sums = {0};
    for (size_t i = 0; i < sources; i++) {
        sums.lists += atomic_load(&run->sources[i].lists_probed);
        sums.coded += atomic_load(&run->sources[i].rows_coded);
        sums.scored += atomic_load(&run->sources[i].rows_scored);
        sums.reranked += atomic_load(&run->sources[i].rows_reranked);
    }
    return sums;
}

static void write_sums(struct buf *out, const struct sums *sums)
{
    buf_printf(out,
               ",\"lists_probed\":%" PRIu64 ",\"rows_coded\":%" PRIu64 ",\"rows_scored\":%" PRIu64
               ",\"rows_reranked\":%" PRIu64,
               sums->lists, sums->coded, sums->scored, sums->reranked);
}

static void write_sources(struct buf *out, struct run *run, size_t sources)
{
    buf_text(out, ",\"sources\":[");
    for (size_t i = 0; i < sources; i++) {
        if (i)
            buf_text(out, ",");
        write_source(out, run, i);
    }
    buf_text(out, "]");
}

/* What a get or a query did. */
static void write_one(struct buf *out, struct run *run)
{
    size_t sources = run->sources ? view_part_count(run->view) + 1 : 0;
    struct sums sums = sum_up(run, sources);
    const char *name = run->plan->has_ids ? "by id" : sums.scored ? "vector index" : "exact scan";
    buf_printf(out, "\"plan\":\"%s\",\"rows_scanned\":%" PRIu64 ",\"survivors\":%" PRIu64, name,
               run->scanned, run->survivors);
    write_sums(out, &sums);
    if (run->recall > 0)
        write_effort(out, run);
    if (sources)
        write_sources(out, run, sources);
}

void run_tell_ranking(struct run *run, const char *kind, uint32_t limit, size_t hits,
                      uint64_t since_ns)
{
    struct buf *out = run->told;
    if (!out)
        return;
    bool first = out->len > 0 && out->at[out->len - 1] == '[';
    buf_printf(out, "%s{\"kind\":\"%s\",\"limit\":%" PRIu32 ",\"hits\":%zu", first ? "" : ",", kind,
               limit, hits);
    if (run->sources) { /* of this one: the next has its own */
        size_t sources = view_part_count(run->view) + 1;
        struct sums sums = sum_up(run, sources);
        write_sums(out, &sums);
        write_sources(out, run, sources);
    }
    buf_printf(out, ",\"time_us\":%" PRIu64 "}", (sched_mono_ns() - since_ns) / 1000);
}

och_code run_explain(struct run *run, uint64_t began_ns, slice *ret_json, och_error *err)
{
    const struct view_info *info = view_info(run->view);
    struct buf out;
    buf_init(&out, BUF_MAX_NONE);
    buf_printf(&out,
               "{\"version\":%" PRId64 ",\"log_from\":%" PRIu64 ",\"log_to\":%" PRIu64
               ",\"parts\":%zu,\"tail_slots\":%" PRIu32 ",",
               info->version, info->from, info->to, view_part_count(run->view),
               view_slot_count(run->view));
    if (run->plan->kind == PLAN_SEARCH)
        buf_printf(&out, "\"plan\":\"search\",\"searches\":[%.*s]", SLICE_ARG(run->searches));
    else
        write_one(&out, run);
    buf_printf(&out, ",\"time_us\":%" PRIu64 "}",
               (clock_mono_ns(run->query->options.clock) - began_ns) / 1000);
    och_code code = buf_check(&out, "explain", err);
    if (code == OCH_OK) {
        *ret_json = arena_copy(run->arena, buf_view(&out));
        if (!ret_json->at)
            code = FAIL_NO_MEMORY(err, "explain");
    }
    buf_done(&out);
    return code;
}
