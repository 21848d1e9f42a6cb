/* SPDX-License-Identifier: Apache-2.0 */
/* Random operations against plain models of a collection and its forks, with restarts, compactions and forced small parts between, versions that are
 * kept, read and restored: equal answers (invariants 4, 5).
 * OCHRE_PROP_OPS and OCHRE_PROP_SEED make runs longer and other. */
#include "support/model.h"

#define TREE_MAX     4  /* collections at a time, all of one tree */
#define VERSIONS_MAX 3  /* of one, by name */
#define PAST_MAX     24 /* states of one that are remembered, for what retention keeps */

struct past { /* a state: what the collection held before the operation at this offset */
    bool there;
    uint64_t offset;
    struct model model;
};
struct member {
    uuid id;
    int name;
    struct model model;
    struct past versions[VERSIONS_MAX], past[PAST_MAX];
    size_t past_next;
};

struct world {
    struct bench bench;
    struct model *model; /* of bench.collection */
    struct member *member;
    struct member tree[TREE_MAX];
    size_t tree_count;
    int names; /* given so far */
    uint64_t operations;
};

/* Go on with any collection of the tree. */
static void turn_to(struct world *w, size_t i)
{
    w->bench.collection = w->tree[i].id;
    w->member = &w->tree[i];
    w->model = &w->tree[i].model;
}

static uint64_t head_of(struct world *w)
{
    uint64_t head;
    uint32_t dimension;
    if (wal_head(database_wal(w->bench.database), w->bench.collection, &head, &dimension, NULL) !=
        OCH_OK)
        fail_msg("no head");
    return head;
}

/* What a flush may keep from here on. */
static void remember(struct world *w)
{
    struct past *past = &w->member->past[w->member->past_next++ % PAST_MAX];
    past->there = true;
    past->offset = head_of(w);
    past->model = *w->model;
}

static const char *name_of(int name, char text[16])
{
    (void)snprintf(text, 16, "model%d", name);
    return text;
}

static void write_some(struct world *w)
{
    struct model_write writes[24];
    uint32_t count = random_batch(&w->bench.random, writes, COUNT_OF(writes));
    bool counted = random_below(&w->bench.random, 4) == 0;
    struct gateway_counts counts = {0}, expected = {0};
    for (uint32_t i = 0; i < count; i++) {
        bool present = model_find(w->model, writes[i].id) != NULL;
        uint8_t op = writes[i].op;
        expected.inserted += !present && (op == BATCH_ADD || op == BATCH_UPSERT);
        expected.updated += present && (op == BATCH_UPDATE || op == BATCH_UPSERT);
        expected.deleted += present && op == BATCH_DELETE;
        expected.skipped += (present && op == BATCH_ADD) ||
                            (!present && (op == BATCH_UPDATE || op == BATCH_DELETE));
        model_apply(w->model, &writes[i]);
    }
    och_error err = {0};
    if (bench_write(&w->bench, writes, count, counted, &counts, &err) != OCH_OK)
        fail_msg("write: %s", err.message);
    if (counted)
        assert_memory_equal(&counts, &expected, sizeof(counts));
}

static void delete_some(struct world *w)
{
    struct arena arena;
    arena_init(&arena, NULL, 0);
    struct model_filter filter = random_filter(&w->bench.random);
    struct plan plan = {.collection = w->bench.collection, .limit = PLAN_NO_LIMIT};
    uint64_t expected = 0;
    if (filter.shape == 0 && filter.document_part < 0)
        filter.shape = 2;
    plan.filter = filter_node_of(&filter, &arena);
    if (random_below(&w->bench.random, 2))
        plan.limit = random_below(&w->bench.random, 12);
    for (size_t i = 0; i < w->model->count && expected < plan.limit;) {
        if (!filter_accepts(&filter, &w->model->rows[i])) {
            i++;
            continue;
        }
        model_remove(w->model, w->model->rows[i].id);
        expected++;
    }
    uint64_t deleted;
    och_error err = {0};
    if (gateway_delete(database_gateway(w->bench.database), &bench_scope, &plan, NULL, false,
                       &deleted, &err) != OCH_OK)
        fail_msg("delete: %s", err.message);
    assert_int_equal(deleted, expected);
    arena_done(&arena);
}

/* All that a filter chooses get the same patch. */
static void update_some(struct world *w)
{
    struct arena arena;
    arena_init(&arena, NULL, 0);
    struct model_filter filter = random_filter(&w->bench.random);
    struct plan plan = {.collection = w->bench.collection, .limit = PLAN_NO_LIMIT};
    if (filter.shape == 0 && filter.document_part < 0)
        filter.shape = 2;
    plan.filter = filter_node_of(&filter, &arena);
    if (random_below(&w->bench.random, 2))
        plan.limit = random_below(&w->bench.random, 12);
    bool dry_run = random_below(&w->bench.random, 8) == 0;
    struct model_write write;
    struct batch_input_row set;
    random_write(&w->bench.random, BATCH_UPDATE, &write);
    write.has_vector = false;
    encode_row(&write, &arena, &set);
    set.id = SLICE_NONE;
    uint64_t expected = 0, updated;
    for (size_t i = 0; i < w->model->count && expected < plan.limit; i++) {
        if (!filter_accepts(&filter, &w->model->rows[i]))
            continue;
        expected++;
        if (!dry_run)
            model_merge(&w->model->rows[i], &write);
    }
    och_error err = {0};
    if (gateway_update_chosen(database_gateway(w->bench.database), &bench_scope, &plan, &set, NULL,
                              dry_run, &updated, &err) != OCH_OK)
        fail_msg("update: %s", err.message);
    assert_int_equal(updated, expected);
    arena_done(&arena);
}

static void read_some(struct world *w)
{
    struct random *r = &w->bench.random;
    struct model_filter filter = random_filter(r);
    switch (random_below(r, 4)) {
    case 0:
        check_get(&w->bench, w->model, &filter, false, random_below(r, 30), random_below(r, 30));
        break;
    case 1:
        check_get(&w->bench, w->model, &filter, true, 0, PLAN_NO_LIMIT);
        break;
    case 2:
        check_query(&w->bench, w->model, &filter, 1 + (uint32_t)random_below(r, 12));
        break;
    default:
        check_query(&w->bench, w->model, &(struct model_filter){.document_part = -1},
                    1 + (uint32_t)random_below(r, 12));
    }
}

static void compact(struct world *w)
{
    och_error err = {0};
    if (compactor_run(database_compactor(w->bench.database), &w->bench.collection,
                      random_below(&w->bench.random, 4) == 0, &err) != OCH_OK)
        fail_msg("compact: %s", err.message);
}

/* ---- versions ---- */

static slice version_name(size_t i, char text[16])
{
    (void)snprintf(text, 16, "version-%zu", i);
    return slice_of(text);
}

static void read_version(struct world *w, const struct gateway_version_ref *ref,
                         const struct past *past)
{
    struct random *r = &w->bench.random;
    struct model model = past->model; /* comparing marks nothing, but takes no const */
    bench_scope.version = ref;
    if (random_below(r, 2)) {
        check_all(&w->bench, &model);
    } else {
        struct model_filter filter = random_filter(r);
        check_get(&w->bench, &model, &filter, false, random_below(r, 30), random_below(r, 30));
        check_query(&w->bench, &model, &filter, 1 + (uint32_t)random_below(r, 12));
    }
    bench_scope.version = NULL;
}

/* By its name, or by its number, which says the same. */
static struct gateway_version_ref ref_of(struct world *w, size_t i, char text[16])
{
    if (random_below(&w->bench.random, 2))
        return (struct gateway_version_ref){.by = GATEWAY_BY_NUMBER,
                                            .number = w->member->versions[i].offset};
    return (struct gateway_version_ref){.by = GATEWAY_BY_NAME, .name = version_name(i, text)};
}

static void keep_version(struct world *w, size_t i)
{
    struct past *version = &w->member->versions[i];
    struct gateway_version kept;
    och_error err = {0};
    char text[16];
    if (gateway_version_keep(database_gateway(w->bench.database), &bench_scope, w->bench.collection,
                             version_name(i, text), &kept, &err) != OCH_OK)
        fail_msg("keep: %s", err.message);
    assert_int_equal(kept.number, head_of(w));
    assert_int_equal(kept.records, w->model->count);
    *version = (struct past){true, kept.number, *w->model};
}

static void drop_version(struct world *w, size_t i)
{
    struct gateway_version_ref ref = {.by = GATEWAY_BY_NAME};
    uint64_t dropped;
    och_error err = {0};
    char text[16];
    ref.name = version_name(i, text);
    if (gateway_version_drop(database_gateway(w->bench.database), &bench_scope, w->bench.collection,
                             &ref, &dropped, &err) != OCH_OK)
        fail_msg("drop version: %s", err.message);
    w->member->versions[i].there = false;
}

static void restore_version(struct world *w, size_t i)
{
    struct random *r = &w->bench.random;
    char text[16], keep_text[16];
    och_error err = {0};
    struct gateway_restore restore = {.to = ref_of(w, i, text), .dry_run = !random_below(r, 6)};
    struct gateway_restored restored;
    size_t keep = random_below(r, VERSIONS_MAX);
    struct past before = {true, head_of(w), *w->model};
    bool keeps = !w->member->versions[keep].there && random_below(r, 2);
    if (keeps)
        restore.keep = version_name(keep, keep_text);
    if (gateway_restore(database_gateway(w->bench.database), &bench_scope, w->bench.collection,
                        &restore, &restored, &err) != OCH_OK)
        fail_msg("restore: %s", err.message);
    assert_int_equal(restored.records, w->member->versions[i].model.count);
    assert_int_equal(restored.records_before, before.model.count);
    if (restore.dry_run)
        return;
    *w->model = w->member->versions[i].model;
    assert_int_equal(restored.version, head_of(w));
    if (keeps)
        w->member->versions[keep] = before;
    remember(w);
}

/* What flushes left behind, as far as it is remembered here. */
static void check_retained(struct world *w)
{
    struct arena arena;
    struct gateway_version *rows;
    size_t count;
    och_error err = {0};
    arena_init(&arena, NULL, 0);
    if (gateway_versions(database_gateway(w->bench.database), &bench_scope, w->bench.collection,
                         &arena, &rows, &count, &err) != OCH_OK)
        fail_msg("versions: %s", err.message);
    assert_true(rows[count - 1].current);
    assert_int_equal(rows[count - 1].number, head_of(w));
    assert_int_equal(rows[count - 1].records, w->model->count);
    for (size_t i = 0; i < count; i++) {
        for (size_t p = 0; p < PAST_MAX; p++) {
            const struct past *past = &w->member->past[p];
            if (!past->there || past->offset != rows[i].number)
                continue;
            struct gateway_version_ref ref = {.by = GATEWAY_BY_NUMBER, .number = past->offset};
            assert_int_equal(rows[i].records, past->model.count);
            read_version(w, &ref, past);
        }
    }
    arena_done(&arena);
}

static void version_step(struct world *w)
{
    struct random *r = &w->bench.random;
    size_t i = random_below(r, VERSIONS_MAX);
    char text[16];
    if (random_below(r, 8) == 0) {
        check_retained(w);
    } else if (!w->member->versions[i].there) {
        keep_version(w, i);
    } else {
        uint64_t dice = random_below(r, 10);
        struct gateway_version_ref ref = ref_of(w, i, text);
        if (dice < 2)
            drop_version(w, i);
        else if (dice < 5)
            restore_version(w, i);
        else
            read_version(w, &ref, &w->member->versions[i]);
    }
}

static void check_versions(struct world *w)
{
    char text[16];
    for (size_t i = 0; i < VERSIONS_MAX; i++) {
        struct gateway_version_ref ref = ref_of(w, i, text);
        if (w->member->versions[i].there)
            read_version(w, &ref, &w->member->versions[i]);
    }
    check_retained(w);
}

static void check_tree(struct world *w)
{
    for (size_t i = 0; i < w->tree_count; i++) {
        turn_to(w, i);
        check_all(&w->bench, w->model);
        check_versions(w);
    }
}

/* A copy of the current collection goes on by itself, in the place of another one when there are enough. */
static void fork_or_drop(struct world *w)
{
    struct random *r = &w->bench.random;
    char text[16];
    och_error err = {0};
    size_t from = 0, to = w->tree_count;
    while (!uuid_equal(w->tree[from].id, w->bench.collection))
        from++;
    if (to == TREE_MAX || (to > 1 && random_below(r, 3) == 0)) {
        to = random_below(r, w->tree_count);
        if (gateway_collection_drop(database_gateway(w->bench.database), &bench_scope,
                                    slice_of(name_of(w->tree[to].name, text)), &err) != OCH_OK)
            fail_msg("drop: %s", err.message);
        w->tree[to] = w->tree[--w->tree_count];
    } else {
        memset(&w->tree[to], 0, sizeof(w->tree[to])); /* versions stay with the source */
        w->tree[to].name = ++w->names;
        w->tree[to].model = w->tree[from].model;
        if (bench_fork(&w->bench, name_of(w->names, text), &w->tree[to].id, &err) != OCH_OK)
            fail_msg("fork: %s", err.message);
        w->tree_count++;
    }
    turn_to(w, random_below(r, w->tree_count));
}

static void step(struct world *w)
{
    uint64_t dice = random_below(&w->bench.random, 1000);
    w->operations++;
    if (random_below(&w->bench.random, 50) == 0)
        turn_to(w, random_below(&w->bench.random, w->tree_count));
    if (dice < 4) {
        fork_or_drop(w);
    } else if (dice < 380) {
        write_some(w);
        remember(w);
    } else if (dice < 420) {
        delete_some(w);
        remember(w);
    } else if (dice < 440) {
        update_some(w);
        remember(w);
    } else if (dice < 445) {
        bench_close(&w->bench);
        bench_open(&w->bench);
        check_tree(w);
    } else if (dice < 480) {
        compact(w);
    } else if (dice < 500) {
        version_step(w);
    } else {
        read_some(w);
    }
}

static uint64_t number_from(const char *name, uint64_t fallback)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : fallback;
}

static void run_world(enum metric metric, uint64_t seed, uint64_t operations)
{
    struct world *w = calloc(1, sizeof(*w));
    assert_non_null(w);
    random_seed(&w->bench.random, seed);
    w->bench.metric = metric;
    w->bench.io = io_sim_new(false);
    bench_settings(&w->bench, "40");
    w->bench.settings.version_retention = metric == METRIC_COSINE ? 3600000 : 0;
    bench_open(&w->bench);
    och_error err = {0};
    char name[16];
    if (bench_create(&w->bench, name_of(0, name), &err) != OCH_OK)
        fail_msg("create: %s", err.message);
    w->tree[w->tree_count++].id = w->bench.collection;
    turn_to(w, 0);
    while (w->operations < operations)
        step(w);
    check_tree(w);
    bench_close(&w->bench);
    settings_done(&w->bench.settings);
    io_sim_free(w->bench.io);
    free(w);
}

static void answers_equal_the_model(void **state)
{
    (void)state;
    uint64_t operations = number_from("OCHRE_PROP_OPS", 12000),
             seed = number_from("OCHRE_PROP_SEED", 1);
    run_world(METRIC_L2, seed, operations);
    run_world(METRIC_COSINE, seed + 1, operations);
    run_world(METRIC_IP, seed + 2, operations);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(answers_equal_the_model)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
