/* SPDX-License-Identifier: Apache-2.0 */
/* Forks by the API and with all that runs beside them (D16, http-api.md §8). */
#include "gateway_test.h"

#include "shared_parts.h"

#include "model/limits.h"

#define GET_ALL "{\"include\":[\"documents\"]}"

static void fork_it(struct stack *s, const char *id, const char *name, char ret_id[UUID_TEXT_SIZE])
{
    static struct answer answer;
    char body[80];
    (void)snprintf(body, sizeof(body), "{\"new_name\":\"%s\"}", name);
    exchange(s, &(struct ask){.method = "POST", .target = path(id, "fork"), .body = body}, &answer);
    if (answer.status != 200)
        fail_msg("%s", answer.body);
    memcpy(ret_id, answer.body + 7, 36);
    ret_id[36] = '\0';
}

static void a_copy_has_parts_and_tail_and_both_go_on(void **state)
{
    (void)state;
    struct stack stack = {.tail_rows_max = 100}, *s = &stack;
    char id[UUID_TEXT_SIZE], copy[UUID_TEXT_SIZE], second[UUID_TEXT_SIZE];
    stack_open(s);
    make_collection(s, "{\"name\":\"one\",\"metadata\":{\"m\":1}}", id);
    uuid source = id_of(id);
    EXPECT(201, "{}", "POST", path(id, "add"),
           "{\"ids\":[\"a\",\"b\"],\"embeddings\":[[1,2],[3,4]],\"documents\":[\"in\",\"parts\"]}");
    OK(compactor_run(s->compactor, &source, true, err));
    EXPECT(200, "{}", "POST", path(id, "update"), "{\"ids\":[\"b\"],\"documents\":[\"tail\"]}");
    EXPECT(201, "{}", "POST", path(id, "add"), "{\"ids\":[\"c\"],\"embeddings\":[[5,6]]}");
    fork_it(s, id, "two", copy);
    fork_it(s, copy, "three", second);
    EXPECT(200, "{\"count\":2}", "GET", path(id, "fork_count"));
    EXPECT(200, "{\"deleted\":1}", "POST", path(id, "delete"), "{\"ids\":[\"a\"]}");
    EXPECT(200, "{}", "POST", path(copy, "update"), "{\"ids\":[\"c\"],\"documents\":[\"new\"]}");
    for (int round = 0; round < 4; round++) {
        EXPECT(200, "{\"ids\":[\"b\",\"c\"],\"embeddings\":null,\"documents\":[\"tail\",null]",
               "POST", path(id, "get"), GET_ALL);
        EXPECT(200,
               "{\"ids\":[\"a\",\"b\",\"c\"],\"embeddings\":null,\"documents\":[\"in\",\"tail\","
               "\"new\"]",
               "POST", path(copy, "get"), GET_ALL);
        EXPECT(200,
               "{\"ids\":[\"a\",\"b\",\"c\"],\"embeddings\":null,\"documents\":[\"in\",\"tail\","
               "null]",
               "POST", path(second, "get"), GET_ALL);
        EXPECT(200, "{\"ids\":[[\"c\"]]", "POST", path(second, "query"),
               "{\"query_embeddings\":[[5,6]],\"n_results\":1}");
        const char *which = round == 0 ? id : round == 1 ? second : copy;
        uuid merged = id_of(which);
        if (round == 1) {
            stack_close(s);
            stack_open(s);
        }
        OK(compactor_run(s->compactor, &merged, true, err));
    }
    verify(s);
    stack_done(s);
}

static void shared_files_go_with_the_last_that_has_them(void **state)
{
    (void)state;
    struct stack stack = {.tail_rows_max = 100}, *s = &stack;
    char id[UUID_TEXT_SIZE], copy[UUID_TEXT_SIZE];
    stack_open(s);
    make_collection(s, "{\"name\":\"one\"}", id);
    uuid source = id_of(id);
    EXPECT(201, "{}", "POST", path(id, "add"),
           "{\"ids\":[\"a\",\"b\"],\"embeddings\":[[1,2],[3,4]]}");
    OK(compactor_run(s->compactor, &source, true, err));
    assert_int_equal(blobs(s), 1);
    fork_it(s, id, "two", copy);
    assert_int_equal(blobs(s), 1); // nothing was copied
    EXPECT(201, "{}", "POST", path(id, "add"), "{\"ids\":[\"c\"],\"embeddings\":[[5,6]]}");
    OK(compactor_run(s->compactor, &source, true, err));
    assert_int_equal(blobs(s), 2); // the copy still reads the first one
    EXPECT(200, "{}", "DELETE", BASE "/collections/one");
    OK(compactor_run(s->compactor, NULL, true, err));
    assert_int_equal(blobs(s), 1);
    EXPECT(200, "{\"ids\":[\"a\",\"b\"]", "POST", path(copy, "get"), "{}");
    stack_close(s);
    stack_open(s);
    EXPECT(200, "{\"ids\":[\"a\",\"b\"]", "POST", path(copy, "get"), "{}");
    EXPECT(200, "{}", "DELETE", BASE "/collections/two");
    OK(compactor_run(s->compactor, NULL, true, err));
    assert_int_equal(blobs(s), 0);
    verify(s);
    stack_done(s);
}

/* A flush of the source between the copy of its log and the last step. */
static void a_flush_may_come_between(void **state)
{
    (void)state;
    struct stack stack = {.tail_rows_max = 100}, *s = &stack;
    stack_open(s);
    uuid source = stack_collection(s, "one", "l2");
    stack_add_many(s, source, 0, 3);
    stack_flush(s, source);
    stack_add_many(s, source, 3, 2);
    for (int beyond = 0; beyond < 2; beyond++) {
        const struct sysdb_collection *from CLEANUP(sysdb_collection_cleanup) = NULL,
                                            *copy CLEANUP(sysdb_collection_cleanup) = NULL;
        struct sysdb_fork fork = {
            .id = uuid_random(&s->random), .name = SLICE("two"), .edges_max = 5};
        uint32_t dimension;
        OK(sysdb_collection_get(s->sysdb, SLICE_NONE, SLICE_NONE, source, &from, err));
        OK(sysdb_fork_begin(s->sysdb, fork.id, err));
        OK(wal_head(s->wal, source, &fork.upto, &dimension, err));
        struct wal_origin origin = {fork.id, from->log_offset, from->dimension,
                                    from->last_created_at};
        OK(wal_fork(s->wal, source, &origin, fork.upto, err));
        views_forget(s->views, fork.id);
        if (beyond)
            stack_add(s, source, "more", 9);
        stack_flush(s, source);
        fork.source = from;
        if (beyond) {
            FAILS(OCH_STALE, "", sysdb_fork(s->sysdb, &fork, &copy, err));
            wal_forget(s->wal, fork.id);
            continue;
        }
        OK(sysdb_fork(s->sysdb, &fork, &copy, err));
        OK(wal_trim(s->wal, fork.id, copy->log_offset, err));
        stack_add(s, fork.id, "own", 7);
        stack_expect(s, fork.id, "id0:0,id1:1,id2:2,id3:3,id4:4,own:7");
        stack_close(s);
        stack_open(s);
        stack_expect(s, fork.id, "id0:0,id1:1,id2:2,id3:3,id4:4,own:7");
        OK(sysdb_collection_drop(s->sysdb, fork.id, err));
        wal_forget(s->wal, fork.id);
        views_forget(s->views, fork.id);
        stack_add_many(s, source, 5, 2);
    }
    stack_close(s);
    stack_open(s);
    stack_expect(s, source, "id0:0,id1:1,id2:2,id3:3,id4:4,id5:5,id6:6,more:9");
    stack_done(s);
}

static void keys_are_not_carried_over(void **state)
{
    (void)state;
    struct stack stack = {.tail_rows_max = 100}, *s = &stack;
    char id[UUID_TEXT_SIZE], copy[UUID_TEXT_SIZE];
    stack_open(s);
    make_collection(s, "{\"name\":\"one\"}", id);
    struct ask ask = {.method = "POST",
                      .target = path(id, "upsert"),
                      .body = "{\"ids\":[\"a\"],\"embeddings\":[[1,2]],\"counts\":true}",
                      .headers = {{SLICE("Idempotency-Key"), SLICE("k")}},
                      .header_count = 1};
    char target[256];
    expect(s, &ask, 200, "{\"inserted\":1");
    fork_it(s, id, "two", copy);
    (void)snprintf(target, sizeof(target), "%s", path(copy, "upsert"));
    expect(s, &ask, 200, "{\"inserted\":1"); // told again
    ask.target = target;
    expect(s, &ask, 200, "{\"inserted\":0,\"updated\":1"); // done, as nobody has used the key here
    expect(s, &ask, 200, "{\"inserted\":0,\"updated\":1");
    EXPECT(200, "{\"op_indexing_progress\":0.0,\"num_unindexed_ops\":2", "GET",
           path(copy, "indexing_status"));
    stack_done(s);
}

static void what_cannot_be_forked_is_refused(void **state)
{
    (void)state;
    struct stack stack = {.tail_rows_max = 100}, *s = &stack;
    char id[UUID_TEXT_SIZE], name[32], body[160], copy[UUID_TEXT_SIZE];
    stack_open(s);
    make_collection(s, "{\"name\":\"root\"}", id);
    EXPECT(400, "Validation error: new_name: Expected a name containing", "POST", path(id, "fork"),
           "{\"new_name\":\"-\"}");
    EXPECT(400, "Collection ID is not a valid UUIDv4", "POST", path("none", "fork"),
           "{\"new_name\":\"good\"}");
    EXPECT(404, "Collection [00000000-0000-4000-8000-000000000000] does not exist.", "POST",
           path("00000000-0000-4000-8000-000000000000", "fork"), "{\"new_name\":\"good\"}");
    EXPECT(409, "Collection [root] already exists", "POST", path(id, "fork"),
           "{\"new_name\":\"root\"}");
    EXPECT(200, "{}", "POST", "/api/v2/tenants/default_tenant/databases",
           "{\"name\":\"east+west\"}");
    EXPECT(400, "multi-region databases do not support forking", "POST",
           "/api/v2/tenants/default_tenant/databases/east+west/collections/"
           "00000000-0000-4000-8000-000000000000/fork",
           "{\"new_name\":\"good\"}");
    for (int i = 0; i < LIMIT_FORK_EDGES; i++) {
        (void)snprintf(name, sizeof(name), "leaf-%d", i);
        fork_it(s, id, name, copy);
    }
    EXPECT(200, "{\"count\":256}", "GET", path(copy, "fork_count"));
    EXPECT(422, "Quota exceeded: Collection [leaf-255] cannot be forked: its tree has 256 forks",
           "POST", path(copy, "fork"), "{\"new_name\":\"good\"}");
    (void)snprintf(body, sizeof(body), BASE "/collections/%s", "leaf-0");
    EXPECT(200, "{}", "DELETE", body);
    fork_it(s, copy, "good", copy);
    verify(s);
    stack_done(s);
}

static void the_limit_is_a_setting(void **state)
{
    (void)state;
    struct stack stack = {.tail_rows_max = 100, .forks_max = 2}, *s = &stack;
    char id[UUID_TEXT_SIZE], copy[UUID_TEXT_SIZE];
    stack_open(s);
    make_collection(s, "{\"name\":\"root\"}", id);
    fork_it(s, id, "one", copy);
    fork_it(s, copy, "two", copy);
    EXPECT(422, "Quota exceeded: Collection [two] cannot be forked: its tree has 2 forks", "POST",
           path(copy, "fork"), "{\"new_name\":\"three\"}");
    EXPECT(422, "Quota exceeded: Collection [root] cannot be forked: its tree has 2 forks", "POST",
           path(id, "fork"), "{\"new_name\":\"three\"}");
    stack_close(s);
    s->forks_max = 3;
    stack_open(s);
    fork_it(s, id, "three", copy);
    verify(s);
    stack_done(s);
}

/* ---- drops, resets and flushes beside it ---- */

struct hand {
    struct stack *s;
    struct thread thread;
    struct random random;
    int work, done;
    och_error refusal; /* the last */
};

static void run_hand(void *arg)
{
    struct hand *h = arg;
    struct gateway_scope scope = {.tenant = SLICE("default_tenant"),
                                  .database = SLICE("default_database")};
    for (int i = 0; i < 100 || (h->done == 0 && i < 10000); i++) {
        const struct sysdb_collection **rows = NULL, *copy = NULL;
        size_t count = 0;
        struct arena arena;
        arena_init(&arena, NULL, 0);
        och_error err = {0};
        IGNORE(sysdb_collection_list(h->s->sysdb, scope.tenant, scope.database, UINT64_MAX, 0,
                                     &arena, &rows, &count, &err));
        size_t pick = count ? random_below(&h->random, count) : 0;
        och_code code = OCH_OK;
        if (count && h->work == 0) {
            const char *name = arena_printf(&arena, "fork-%d-%d", i, (int)count);
            code = gateway_collection_fork(h->s->gateway, &scope, rows[pick]->id, slice_of(name),
                                           &copy, &err);
            sysdb_collection_unref(copy);
        } else if (h->work == 1 && i % 4) {
            sched_sleep_ns(100000); // let some live for a while
        } else if (count && h->work == 1 && i % 20 == 0) {
            code = gateway_reset(h->s->gateway, &err);
        } else if (count && h->work == 1) {
            code = gateway_collection_drop(h->s->gateway, &scope, rows[pick]->name, &err);
        } else if (count && h->work == 2) {
            code = compactor_run(h->s->compactor, &rows[pick]->id, i % 4 == 0, &err);
        } else {
            float vector[2] = {(float)i, 1};
            struct batch_input_row row = {.op = BATCH_UPSERT, .id = SLICE("id"), .vector = vector};
            struct gateway_write write = {.input = {.count = 1, .dimension = 2, .rows = &row}};
            struct gateway_counts counts;
            const struct gateway_collection_new spec = {.name = SLICE("root"),
                                                        .get_or_create = true};
            code = gateway_collection_create(h->s->gateway, &scope, &spec, &copy, &err);
            if (code == OCH_OK)
                write.collection =
                    random_below(&h->random, 2) || !count ? copy->id : rows[pick]->id;
            sysdb_collection_unref(copy);
            for (int n = 0; n < 8 && code == OCH_OK; n++)
                code = gateway_write(h->s->gateway, &scope, &write, &counts, &err);
        }
        if (code != OCH_OK && code != OCH_NOT_FOUND && code != OCH_EXISTS && code != OCH_BUSY &&
            code != OCH_INVALID)
            fail_msg("work %d: %d %s", h->work, (int)code, err.message);
        h->done += code == OCH_OK;
        if (code != OCH_OK) {
            h->refusal = err;
            sched_sleep_ns(100000); // a reset is at it
        }
        for (size_t row = 0; row < count; row++)
            sysdb_collection_unref(rows[row]);
        arena_done(&arena);
    }
}

static void drops_resets_and_flushes_may_run_beside_it(void **state)
{
    (void)state;
    struct stack stack = {.tail_rows_max = 100, .allow_reset = true}, *s = &stack;
    struct hand hands[4];
    char id[UUID_TEXT_SIZE];
    stack_open(s);
    make_collection(s, "{\"name\":\"root\"}", id);
    for (int i = 0; i < 4; i++) {
        hands[i] = (struct hand){.s = s, .work = i};
        random_seed(&hands[i].random, (uint64_t)i);
        OK(thread_start(&hands[i].thread, "hand", 0, run_hand, &hands[i], err));
    }
    for (int i = 0; i < 4; i++) {
        thread_join(&hands[i].thread);
        if (hands[i].done == 0)
            fail_msg("work %d did nothing: %s (%s:%d)", i, hands[i].refusal.message,
                     hands[i].refusal.file, hands[i].refusal.line);
    }
    verify(s);
    stack_close(s);
    stack_open(s); // the log and the catalogue agree
    OK(compactor_run(s->compactor, NULL, true, err));
    verify(s);
    stack_done(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_copy_has_parts_and_tail_and_both_go_on),
        cmocka_unit_test(shared_files_go_with_the_last_that_has_them),
        cmocka_unit_test(a_flush_may_come_between),
        cmocka_unit_test(keys_are_not_carried_over),
        cmocka_unit_test(what_cannot_be_forked_is_refused),
        cmocka_unit_test(the_limit_is_a_setting),
        cmocka_unit_test(drops_resets_and_flushes_may_run_beside_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
