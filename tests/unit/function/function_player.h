/* SPDX-License-Identifier: Apache-2.0 */
/* Random writes to a collection that a `statistics` function follows, with runs, flushes and merges between, as a seed says. */
#ifndef TESTS_FUNCTION_PLAYER_H
#define TESTS_FUNCTION_PLAYER_H

#include "unit/function/function_test.h"

struct player {
    struct stack stack;
    struct random random;
    uint64_t seed;
    uuid input, output;
};

static uint64_t player_number(const char *variable, uint64_t fallback)
{
    const char *text = getenv(variable);
    return text && *text ? strtoull(text, NULL, 10) : fallback;
}

static void player_open(struct player *p, uint64_t seed)
{
    *p = (struct player){.seed = seed};
    struct stack *s = &p->stack;
    random_seed(&p->random, seed);
    s->tail_rows_max = 64;
    s->hold_rows = seed % 3 == 0 ? 8 : 0; /* sometimes flushes pass by */
    s->io = io_sim_new(true);
    clock_manual_init(&s->clock, STACK_WALL_NS);
    random_seed(&s->random, seed);
    s->trace = (struct trace){.level = TRACE_ERROR, .write = stack_quiet};
    budget_init(&s->budget, 0, NULL);
    stack_open(s);
    p->input = stack_collection(s, "input", "l2");
    p->output = attach_to(s, p->input, "stats", "statistics", "{}").output;
}

static const char *player_metadata(struct player *p, bool patch, char text[128])
{
    static const char *const values[] = {"1",   "2",  "\"x\"",   "\"y\"", "[1,2,1]",    "true",
                                         "0.5", "[]", "[\"x\"]", "null",  "[0.5,1e20]", "\"\""};
    static const char keys[] = "abc";
    size_t len = 0;
    text[len++] = '{';
    for (int i = 0; i < 3; i++) {
        uint64_t value = random_below(&p->random, COUNT_OF(values) + 4);
        if (value >= COUNT_OF(values) || (!patch && strcmp(values[value], "null") == 0))
            continue;
        len += (size_t)snprintf(text + len, 128 - len, "%s\"%c\":%s", len > 1 ? "," : "", keys[i],
                                values[value]);
    }
    text[len++] = '}';
    text[len] = '\0';
    return len > 2 ? text : NULL;
}

static och_code player_write(struct player *p, och_error *err)
{
    struct stack_row rows[6];
    char ids[6][8], texts[6][128];
    uint32_t count = 1 + (uint32_t)random_below(&p->random, COUNT_OF(rows));
    for (uint32_t i = 0; i < count; i++) {
        static const uint8_t ops[] = {BATCH_ADD, BATCH_ADD, BATCH_UPSERT, BATCH_UPDATE,
                                      BATCH_DELETE};
        uint8_t op = ops[random_below(&p->random, COUNT_OF(ops))];
        (void)snprintf(ids[i], sizeof(ids[i]), "i%u", (unsigned)random_below(&p->random, 14));
        rows[i] = (struct stack_row){.op = op, .id = ids[i], .value = 1};
        if (op != BATCH_DELETE)
            rows[i].metadata_json = player_metadata(p, op != BATCH_ADD, texts[i]);
    }
    struct wal_appended appended;
    return stack_try_write(&p->stack, p->input, rows, count, &appended, err);
}

static och_code player_step(struct player *p, och_error *err)
{
    struct stack *s = &p->stack;
    switch (random_below(&p->random, 10)) {
    case 0:
    case 1:
        return functions_run(s->functions, err);
    case 2:
        return compactor_run(s->compactor, &p->input, random_below(&p->random, 2), err);
    case 3:
        return compactor_run(s->compactor, &p->output, random_below(&p->random, 2), err);
    default:
        return player_write(p, err);
    }
}

/* The output is what counting from scratch gives. */
static void player_check(struct player *p)
{
    char where[32];
    (void)snprintf(where, sizeof(where), "seed %llu", (unsigned long long)p->seed);
    run_all(&p->stack);
    struct dump any = dump_of(&p->stack, p->output, false);
    if (any.count > 0) { /* nobody wrote before */
        uuid scratch = from_scratch(&p->stack, p->input, "statistics");
        expect_same(&p->stack, p->output, scratch, where);
        OK(sysdb_collection_drop(p->stack.sysdb, scratch, err));
        wal_forget(p->stack.wal, scratch);
        views_forget(p->stack.views, scratch);
    }
    dump_done(&any);
}

__attribute__((unused)) static void player_count(struct player *p, struct functions_stats *all)
{
    struct functions_stats stats;
    functions_stats(p->stack.functions, &stats);
    all->runs += stats.runs;
    all->rebuilds += stats.rebuilds;
    all->failures += stats.failures;
    all->consumed += stats.consumed;
    all->written += stats.written;
}
#endif
