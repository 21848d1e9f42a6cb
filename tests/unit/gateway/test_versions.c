/* SPDX-License-Identifier: Apache-2.0 */
/* Versions that are kept, reads at them, restores (docs/decisions/0023-kept-versions.md). */
#include "gateway_test.h"

#include "shared_parts.h"

#include "compact/compact_internal.h"

#define IDS(ids_) "{\"ids\":" ids_
#define AT(which) "{\"include\":[\"documents\"],\"as_of\":" which "}"

static void pass(struct stack *s, uint64_t seconds)
{
    clock_manual_advance(&s->clock, seconds * 1000000000ull);
}

static void three_states(struct stack *s, char id[UUID_TEXT_SIZE])
{
    make_collection(s, "{\"name\":\"one\"}", id);
    EXPECT(201, "{}", "POST", path(id, "add"),
           "{\"ids\":[\"a\",\"b\"],\"embeddings\":[[1,0],[0,1]],\"documents\":[\"x\",\"y\"]}");
    EXPECT(200, "{\"version\":2,\"name\":\"first\",\"log_offset\":2,", "POST", path(id, "versions"),
           "{\"name\":\"first\"}");
    pass(s, 10);
    EXPECT(200, "{}", "POST", path(id, "upsert"),
           "{\"ids\":[\"b\",\"c\"],\"embeddings\":[[1,1],[0,2]],\"documents\":[\"z\",\"w\"]}");
    EXPECT(200, "{\"version\":4,\"name\":\"second\",", "POST", path(id, "versions"),
           "{\"name\":\"second\"}");
    pass(s, 10);
    EXPECT(200, "{\"deleted\":1}", "POST", path(id, "delete"), "{\"ids\":[\"a\"]}");
}

static void check_three(struct stack *s, const char *id)
{
    EXPECT(200, IDS("[\"a\",\"b\"],\"embeddings\":null,\"documents\":[\"x\",\"y\"]"), "POST",
           path(id, "get"), AT("{\"version\":\"first\"}"));
    EXPECT(200, IDS("[\"a\",\"b\",\"c\"],\"embeddings\":null,\"documents\":[\"x\",\"z\",\"w\"]"),
           "POST", path(id, "get"), AT("{\"version\":4}"));
    EXPECT(200, "2", "POST", path(id, "count"), "{\"as_of\":{\"version\":\"2\"}}");
    EXPECT(200, IDS("[[\"b\"]]"), "POST", path(id, "query"),
           "{\"query_embeddings\":[[0,1]],\"n_results\":1,\"as_of\":{\"version\":\"first\"}}");
    EXPECT(200, IDS("[[\"c\"]]"), "POST", path(id, "query"),
           "{\"query_embeddings\":[[0,2]],\"n_results\":1,\"as_of\":{\"version\":\"second\"}}");
}

static void states_are_kept_and_read_by_name_number_and_time(void **state)
{
    (void)state;
    struct stack stack = {.tail_rows_max = 100}, *s = &stack;
    char id[UUID_TEXT_SIZE];
    stack_open(s);
    three_states(s, id);
    uuid collection = id_of(id);
    for (int round = 0; round < 3; round++) {
        check_three(s, id);
        EXPECT(200, "2", "GET", path(id, "count"));
        EXPECT(200, IDS("[\"b\",\"c\"]"), "POST", path(id, "get"), AT("{\"version\":5}"));
        EXPECT(404, "Version 3 of collection [one] is not kept", "POST", path(id, "get"),
               AT("{\"version\":3}"));
        EXPECT(404, "Version [third] of collection [one] does not exist", "POST", path(id, "get"),
               AT("{\"version\":\"third\"}"));
        /* 2023-11-14T22:13:20Z is when it began */
        EXPECT(404, "No version of collection [one] is kept that is that old", "POST",
               path(id, "get"), AT("{\"time\":\"2023-11-14T22:13:19.999Z\"}"));
        EXPECT(200, IDS("[\"a\",\"b\"]"), "POST", path(id, "get"),
               AT("{\"time\":\"2023-11-15T00:13:29.9+02:00\"}"));
        EXPECT(200, IDS("[\"a\",\"b\",\"c\"]"), "POST", path(id, "get"),
               AT("{\"time\":\"2023-11-14T22:13:30Z\"}"));
        EXPECT(200, IDS("[\"b\",\"c\"]"), "POST", path(id, "get"), AT("{\"time\":1700000020000}"));
        if (round == 0)
            OK(compactor_run(s->compactor, &collection, true, err));
        stack_close(s);
        stack_open(s);
    }
    verify(s);
    EXPECT(409, "Version [first] already exists", "POST", path(id, "versions"),
           "{\"name\":\"first\"}");
    EXPECT(400, "Validation error: name: [123] is a number", "POST", path(id, "versions"),
           "{\"name\":\"123\"}");
    EXPECT(422, "", "POST", path(id, "get"), AT("{\"version\":1,\"time\":2}"));
    EXPECT(422, "", "POST", path(id, "get"), AT("{}"));
    EXPECT(422, "", "POST", path(id, "get"), AT("{\"time\":\"2023-02-29T00:00:00Z\"}"));
    EXPECT(200, "{\"deleted\":1}", "DELETE", path(id, "versions/first"));
    EXPECT(404, "", "POST", path(id, "get"), AT("{\"version\":2}"));
    EXPECT(200, "{\"deleted\":1}", "DELETE", path(id, "versions/4"));
    EXPECT(404, "", "DELETE", path(id, "versions/4"));
    OK(compactor_run(s->compactor, NULL, true, err));
    assert_int_equal(blobs(s), 1);
    stack_done(s);
}

/* The id of a kept version is nothing that a client could use. */
static void a_version_is_no_collection(void **state)
{
    (void)state;
    struct stack stack = {.tail_rows_max = 100}, *s = &stack;
    char id[UUID_TEXT_SIZE], kept[UUID_TEXT_SIZE];
    stack_open(s);
    three_states(s, id);
    struct arena arena;
    struct sysdb_kept *rows;
    size_t count;
    arena_init(&arena, NULL, 0);
    OK(sysdb_kept_list(s->sysdb, id_of(id), &arena, &rows, &count, err));
    assert_int_equal(count, 2);
    (void)uuid_format(rows[0].id, kept);
    arena_done(&arena);
    EXPECT(404, "", "GET", path(kept, "count"));
    EXPECT(404, "", "POST", path(kept, "add"), "{\"ids\":[\"q\"],\"embeddings\":[[1,2]]}");
    EXPECT(404, "", "POST", path(kept, "fork"), "{\"new_name\":\"copy\"}");
    EXPECT(404, "", "GET", path(kept, "versions"));
    stack_done(s);
}

static void a_restore_brings_a_state_back_and_can_be_undone(void **state)
{
    (void)state;
    struct stack stack = {.tail_rows_max = 100}, *s = &stack;
    char id[UUID_TEXT_SIZE];
    stack_open(s);
    three_states(s, id);
    EXPECT(200, "{\"restored\":2,\"version\":5,\"records\":2,\"records_before\":2}", "POST",
           path(id, "restore"), "{\"version\":\"first\",\"dry_run\":true}");
    EXPECT(200, IDS("[\"b\",\"c\"]"), "POST", path(id, "get"), "{}");
    EXPECT(200, "{\"restored\":2,\"version\":6,\"records\":2,\"records_before\":2}", "POST",
           path(id, "restore"), "{\"version\":\"first\",\"keep\":\"third\"}");
    for (int round = 0; round < 3; round++) {
        EXPECT(200, IDS("[\"a\",\"b\"],\"embeddings\":null,\"documents\":[\"x\",\"y\"]"), "POST",
               path(id, "get"), "{\"include\":[\"documents\"]}");
        check_three(s, id);
        EXPECT(200, IDS("[\"b\",\"c\"]"), "POST", path(id, "get"), AT("{\"version\":\"third\"}"));
        EXPECT(200, "{\"op_indexing_progress\":1.0", "GET", path(id, "indexing_status"));
        if (round == 1) {
            stack_close(s);
            stack_open(s);
        } else if (round == 0) {
            OK(compactor_run(s->compactor, NULL, true, err));
        }
    }
    EXPECT(201, "{}", "POST", path(id, "add"),
           "{\"ids\":[\"d\",\"a\"],\"embeddings\":[[1,0],[1,0]],\"documents\":[\"d\",\"not\"]}");
    EXPECT(200, IDS("[\"a\",\"b\",\"d\"]"), "POST", path(id, "get"), "{}");
    stack_close(s);
    stack_open(s);
    EXPECT(200, "{\"restored\":5,\"version\":9,\"records\":2,\"records_before\":3}", "POST",
           path(id, "restore"), "{\"version\":\"third\"}");
    EXPECT(200, IDS("[\"b\",\"c\"],\"embeddings\":null,\"documents\":[\"z\",\"w\"]"), "POST",
           path(id, "get"), "{\"include\":[\"documents\"]}");
    EXPECT(404, "", "POST", path(id, "restore"), "{\"version\":77}");
    EXPECT(422, "", "POST", path(id, "restore"), "{}");
    EXPECT(422, "", "POST", path(id, "restore"), "{\"version\":2,\"more\":1}");
    EXPECT(409, "Version [first] already exists", "POST", path(id, "restore"),
           "{\"version\":4,\"keep\":\"first\"}");
    EXPECT(200, IDS("[\"b\",\"c\"]"), "POST", path(id, "get"), "{}");
    verify(s);
    EXPECT(200, "{}", "DELETE", BASE "/collections/one");
    OK(compactor_run(s->compactor, NULL, true, err));
    assert_int_equal(blobs(s), 0);
    stack_done(s);
}

/* The parts of now can be gone back to also when nobody keeps them: what is in the tail goes. */
static void the_parts_of_now_are_a_version(void **state)
{
    (void)state;
    struct stack stack = {.tail_rows_max = 100}, *s = &stack;
    char id[UUID_TEXT_SIZE];
    stack_open(s);
    make_collection(s, "{\"name\":\"one\"}", id);
    uuid collection = id_of(id);
    EXPECT(201, "{}", "POST", path(id, "add"), "{\"ids\":[\"a\"],\"embeddings\":[[1,0]]}");
    OK(compactor_run(s->compactor, &collection, true, err));
    pass(s, 10);
    EXPECT(201, "{}", "POST", path(id, "add"), "{\"ids\":[\"b\"],\"embeddings\":[[1,0]]}");
    EXPECT(200, IDS("[\"a\"]"), "POST", path(id, "get"), AT("{\"version\":1}"));
    EXPECT(200, IDS("[\"a\"]"), "POST", path(id, "get"), AT("{\"time\":1700000009999}"));
    EXPECT(200, "{\"restored\":1,\"version\":3,\"records\":1,\"records_before\":2}", "POST",
           path(id, "restore"), "{\"time\":1700000005000}");
    EXPECT(200, IDS("[\"a\"]"), "POST", path(id, "get"), "{}");
    EXPECT(200, "{\"versions\":[{\"version\":3,\"name\":null,", "GET", path(id, "versions"));
    stack_done(s);
}

static void superseded_versions_are_kept_as_long_as_the_collection_says(void **state)
{
    (void)state;
    struct stack stack = {.tail_rows_max = 100}, *s = &stack;
    char id[UUID_TEXT_SIZE];
    stack_open(s);
    EXPECT(400, "Validation error: metadata: ochre:version_retention_seconds", "POST",
           BASE "/collections",
           "{\"name\":\"one\",\"metadata\":{\"ochre:version_retention_seconds\":-1}}");
    make_collection(s, "{\"name\":\"one\",\"metadata\":{\"ochre:version_retention_seconds\":60}}",
                    id);
    uuid collection = id_of(id);
    const char *add[] = {"{\"ids\":[\"a\"],\"embeddings\":[[1,0]]}",
                         "{\"ids\":[\"b\"],\"embeddings\":[[1,0]]}",
                         "{\"ids\":[\"c\"],\"embeddings\":[[1,0]]}"};
    for (int i = 0; i < 3; i++) {
        EXPECT(201, "{}", "POST", path(id, "add"), add[i]);
        OK(compactor_run(s->compactor, &collection, true, err));
        pass(s, 20);
    }
    EXPECT(200, "{\"versions\":[{\"version\":0,\"name\":null,", "GET", path(id, "versions"));
    EXPECT(200, IDS("[\"a\"]"), "POST", path(id, "get"), AT("{\"version\":1}"));
    EXPECT(200, IDS("[\"a\",\"b\"]"), "POST", path(id, "get"), AT("{\"time\":1700000039000}"));
    EXPECT(200, "{\"restored\":1,\"version\":4,\"records\":1,\"records_before\":3}", "POST",
           path(id, "restore"), "{\"version\":1}");
    pass(s, 10); /* 70 s: the empty one and that of the first record are over */
    OK(compactor_run(s->compactor, &collection, true, err));
    EXPECT(404, "", "POST", path(id, "get"), AT("{\"version\":0}"));
    EXPECT(200, IDS("[\"a\",\"b\"]"), "POST", path(id, "get"), AT("{\"version\":2}"));
    EXPECT(200, IDS("[\"a\",\"b\",\"c\"]"), "POST", path(id, "get"), AT("{\"version\":3}"));
    EXPECT(200, IDS("[\"a\"]"), "POST", path(id, "get"), "{}");
    pass(s, 100);
    OK(compactor_run(s->compactor, &collection, true, err));
    EXPECT(404, "", "POST", path(id, "get"), AT("{\"version\":3}"));
    OK(compactor_run(s->compactor, &collection, true, err));
    assert_int_equal(blobs(s), 1);
    verify(s);
    stack_done(s);
}

static void a_version_has_its_own_clock(void **state)
{
    (void)state;
    struct stack stack = {.tail_rows_max = 100}, *s = &stack;
    char id[UUID_TEXT_SIZE];
    stack_open(s);
    make_collection(s, "{\"name\":\"one\"}", id);
    uuid collection = id_of(id);
    EXPECT(201, "{}", "POST", path(id, "add"),
           "{\"ids\":[\"a\",\"b\"],\"embeddings\":[[1,0],[0,1]],\"expires_at\":[1700000015000,0]}");
    EXPECT(200, "{", "POST", path(id, "versions"), "{\"name\":\"early\"}");
    pass(s, 20);
    EXPECT(200, "{", "POST", path(id, "versions"), "{\"name\":\"late\"}");
    OK(compactor_run(s->compactor, &collection, true, err));
    EXPECT(200, "1", "GET", path(id, "count"));
    EXPECT(200, "2", "POST", path(id, "count"), "{\"as_of\":{\"version\":\"early\"}}");
    EXPECT(200, "1", "POST", path(id, "count"), "{\"as_of\":{\"version\":\"late\"}}");
    EXPECT(200, "{\"restored\":2,\"version\":3,\"records\":1,\"records_before\":1}", "POST",
           path(id, "restore"), "{\"version\":\"early\"}");
    EXPECT(200, "1", "GET", path(id, "count"));
    EXPECT(200, "2", "POST", path(id, "count"), "{\"as_of\":{\"version\":\"early\"}}");
    stack_done(s);
}

static void transactions_from_before_a_restore_abort(void **state)
{
    (void)state;
    struct stack stack = {.tail_rows_max = 100}, *s = &stack;
    static struct answer answer;
    char id[UUID_TEXT_SIZE], body[400];
    stack_open(s);
    three_states(s, id);
    exchange(s,
             &(struct ask){.method = "POST",
                           .target = path(id, "conditional/get"),
                           .body = "{\"ids\":[\"b\"]}"},
             &answer);
    const char *token = strstr(answer.body, "\"read_token\":") + 13;
    (void)snprintf(body, sizeof(body),
                   "{\"read_token\":%llu,\"read_ids\":[\"b\"],\"operations\":[{\"operation\":"
                   "\"delete\",\"payload\":{\"ids\":[\"c\"]}}]}",
                   strtoull(token, NULL, 10));
    EXPECT(200, "{", "POST", path(id, "restore"), "{\"version\":\"second\"}");
    exchange(
        s, &(struct ask){.method = "POST", .target = path(id, "conditional/commit"), .body = body},
        &answer);
    if (answer.status != 412)
        fail_msg("%d %s", answer.status, answer.body);
    EXPECT(200, IDS("[\"a\",\"b\",\"c\"]"), "POST", path(id, "get"), "{}");
    stack_done(s);
}

static void functions_and_restores_exclude_each_other(void **state)
{
    (void)state;
    struct stack stack = {.tail_rows_max = 100}, *s = &stack;
    char id[UUID_TEXT_SIZE];
    stack_open(s);
    three_states(s, id);
    EXPECT(
        200, "{", "POST", path(id, "functions/attach"),
        "{\"name\":\"counts\",\"function_id\":\"record_counter\",\"output_collection\":\"out\"}");
    EXPECT(409, "Collection [one] cannot be restored: the attached function [counts] reads from it",
           "POST", path(id, "restore"), "{\"version\":\"first\"}");
    EXPECT(200, "{", "POST", path(id, "attached_functions/counts/detach"), "{}");
    EXPECT(200, "{\"restored\":2,", "POST", path(id, "restore"), "{\"version\":\"first\"}");
    stack_done(s);
}

/* Forks share parts with what is kept in either direction; each has versions of its own. */
static void forks_and_versions_share_parts(void **state)
{
    (void)state;
    struct stack stack = {.tail_rows_max = 100}, *s = &stack;
    static struct answer answer;
    char id[UUID_TEXT_SIZE], copy[UUID_TEXT_SIZE];
    stack_open(s);
    three_states(s, id);
    exchange(s,
             &(struct ask){
                 .method = "POST", .target = path(id, "fork"), .body = "{\"new_name\":\"two\"}"},
             &answer);
    assert_int_equal(answer.status, 200);
    memcpy(copy, answer.body + 7, 36);
    copy[36] = '\0';
    EXPECT(404, "", "POST", path(copy, "get"), AT("{\"version\":\"first\"}"));
    EXPECT(200, "{\"version\":5,", "POST", path(copy, "versions"), "{\"name\":\"mine\"}");
    EXPECT(200, "{\"deleted\":2}", "POST", path(copy, "delete"), "{\"ids\":[\"b\",\"c\"]}");
    EXPECT(200, "{\"restored\":2,", "POST", path(id, "restore"), "{\"version\":\"first\"}");
    EXPECT(200, "{\"restored\":5,", "POST", path(copy, "restore"), "{\"version\":\"mine\"}");
    EXPECT(200, IDS("[\"b\",\"c\"]"), "POST", path(copy, "get"), "{}");
    EXPECT(200, "{}", "DELETE", BASE "/collections/one");
    OK(compactor_run(s->compactor, NULL, true, err));
    stack_close(s);
    stack_open(s);
    EXPECT(200, IDS("[\"b\",\"c\"]"), "POST", path(copy, "get"), "{}");
    EXPECT(200, IDS("[\"b\",\"c\"]"), "POST", path(copy, "get"), AT("{\"version\":\"mine\"}"));
    verify(s);
    EXPECT(200, "{}", "DELETE", BASE "/collections/two");
    OK(compactor_run(s->compactor, NULL, true, err));
    assert_int_equal(blobs(s), 0);
    stack_done(s);
}

/* ---- side by side ---- */

#define CROWD 400

struct crowd {
    struct stack *s;
    uuid id;
    _Atomic bool stop;
};

static void merge_again_and_again(void *arg)
{
    struct crowd *c = arg;
    while (!atomic_load(&c->stop))
        OK(compactor_run(c->s->compactor, &c->id, false, err));
}

static bool is_unflushed(struct crowd *c)
{
    const struct sysdb_collection *row CLEANUP(sysdb_collection_cleanup) = NULL;
    uint64_t head;
    uint32_t dimension;
    OK(wal_head(c->s->wal, c->id, &head, &dimension, err));
    OK(sysdb_collection_get(c->s->sysdb, SLICE_NONE, SLICE_NONE, c->id, &row, err));
    return row->log_offset < head;
}

static uint64_t count_of(struct crowd *c, const struct gateway_version_ref *ref)
{
    struct arena arena;
    struct query_result result = {0};
    struct plan plan = {.kind = PLAN_COUNT, .limit = PLAN_NO_LIMIT, .collection = c->id};
    struct gateway_scope scope = {
        .tenant = SLICE("default_tenant"), .database = SLICE("default_database"), .version = ref};
    arena_init(&arena, NULL, 0);
    OK(gateway_read(c->s->gateway, &scope, &plan, &arena, &result, err));
    uint64_t count = result.count;
    query_result_done(&result);
    arena_done(&arena);
    return count;
}

static void read_again_and_again(void *arg)
{
    struct crowd *c = arg;
    struct gateway_version_ref full = {.by = GATEWAY_BY_NAME, .name = SLICE("full")};
    while (!atomic_load(&c->stop)) {
        uint64_t now = count_of(c, NULL);
        if (now != CROWD && now != CROWD / 2)
            fail_msg("%llu records", (unsigned long long)now);
        assert_int_equal(count_of(c, &full), CROWD);
    }
}

/* Two parts, kept as they are under a name. */
static void crowd_open(struct crowd *c, char id[UUID_TEXT_SIZE])
{
    struct stack *s = c->s;
    static char body[CROWD * 40];
    stack_open(s);
    make_collection(s, "{\"name\":\"one\"}", id);
    c->id = id_of(id);
    for (int part = 0; part < 2; part++) {
        size_t at = (size_t)snprintf(body, sizeof(body), "{\"ids\":[");
        for (int i = 0; i < CROWD / 2; i++)
            at += (size_t)snprintf(body + at, sizeof(body) - at, "%s\"%c%d\"", i ? "," : "",
                                   'a' + part, i);
        at += (size_t)snprintf(body + at, sizeof(body) - at, "],\"embeddings\":[");
        for (int i = 0; i < CROWD / 2; i++)
            at += (size_t)snprintf(body + at, sizeof(body) - at, "%s[%d,1]", i ? "," : "", i);
        at += (size_t)snprintf(body + at, sizeof(body) - at, "],\"metadatas\":[");
        for (int i = 0; i < CROWD / 2; i++)
            at += (size_t)snprintf(body + at, sizeof(body) - at, "%s{\"odd\":%d}", i ? "," : "",
                                   i % 2);
        (void)snprintf(body + at, sizeof(body) - at, "]}");
        EXPECT(201, "{}", "POST", path(id, "add"), body);
        OK(compactor_flush(s->compactor, c->id, err));
    }
    EXPECT(200, "{\"version\":400,", "POST", path(id, "versions"), "{\"name\":\"full\"}");
}

static void merge_once(void *arg)
{
    struct crowd *c = arg;
    bool merged;
    OK(compact_merge(c->s->compactor, c->id, false, &merged, err)); /* a part half dead */
}

static void restore_full(void *arg)
{
    struct crowd *c = arg;
    struct gateway_restore restore = {.to = {.by = GATEWAY_BY_NAME, .name = SLICE("full")}};
    struct gateway_scope scope = {.tenant = SLICE("default_tenant"),
                                  .database = SLICE("default_database")};
    struct gateway_restored restored;
    OK(gateway_restore(c->s->gateway, &scope, c->id, &restore, &restored, err));
}

/* Rows that a merge has left out are alive again when it comes to commit. */
static void a_merge_from_before_a_restore_is_not_committed(void **state)
{
    (void)state;
    struct stack stack = {.tail_rows_max = 100, .part_rows_max = 100000}, *s = &stack;
    struct crowd c = {.s = s};
    struct thread merger, restorer;
    char id[UUID_TEXT_SIZE];
    crowd_open(&c, id);
    EXPECT(200, "{\"deleted\":200}", "POST", path(id, "delete"), "{\"where\":{\"odd\":1}}");
    OK(compactor_flush(s->compactor, c.id, err));
    mutex_lock(&s->compactor->commit_lock);
    OK(thread_start(&merger, "merger", 0, merge_once, &c, err));
    sched_sleep_ns(300000000); /* it has chosen, at least */
    OK(thread_start(&restorer, "restorer", 0, restore_full, &c, err));
    thread_join(&restorer);
    mutex_unlock(&s->compactor->commit_lock);
    thread_join(&merger);
    assert_int_equal(count_of(&c, NULL), CROWD);
    OK(compactor_run(s->compactor, &c.id, true, err));
    assert_int_equal(count_of(&c, NULL), CROWD);
    stack_done(s);
}

static void restores_hold_beside_merges_and_readers(void **state)
{
    (void)state;
    struct stack stack = {.tail_rows_max = 100, .part_rows_max = 100000}, *s = &stack;
    struct crowd c = {.s = s};
    struct thread merger, reader;
    char id[UUID_TEXT_SIZE];
    crowd_open(&c, id);
    OK(thread_start(&merger, "merger", 0, merge_again_and_again, &c, err));
    OK(thread_start(&reader, "reader", 0, read_again_and_again, &c, err));
    for (int round = 0; round < 40; round++) {
        EXPECT(200, "{\"deleted\":200}", "POST", path(id, "delete"), "{\"where\":{\"odd\":1}}");
        /* when a flush has taken the deletes, and a merge maybe has begun without what they mean */
        for (int wait = 0; wait < 200 && is_unflushed(&c); wait++)
            sched_sleep_ns(50000);
        sched_sleep_ns(random_below(&s->random, 40) * 50000);
        EXPECT(200, "{\"restored\":400,", "POST", path(id, "restore"), "{\"version\":\"full\"}");
        assert_int_equal(count_of(&c, NULL), CROWD);
    }
    atomic_store(&c.stop, true);
    thread_join(&merger);
    thread_join(&reader);
    OK(compactor_run(s->compactor, &c.id, true, err));
    assert_int_equal(count_of(&c, NULL), CROWD);
    verify(s);
    stack_done(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(states_are_kept_and_read_by_name_number_and_time),
        cmocka_unit_test(a_version_is_no_collection),
        cmocka_unit_test(a_restore_brings_a_state_back_and_can_be_undone),
        cmocka_unit_test(the_parts_of_now_are_a_version),
        cmocka_unit_test(superseded_versions_are_kept_as_long_as_the_collection_says),
        cmocka_unit_test(a_version_has_its_own_clock),
        cmocka_unit_test(transactions_from_before_a_restore_abort),
        cmocka_unit_test(functions_and_restores_exclude_each_other),
        cmocka_unit_test(forks_and_versions_share_parts),
        cmocka_unit_test(a_merge_from_before_a_restore_is_not_committed),
        cmocka_unit_test(restores_hold_beside_merges_and_readers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
