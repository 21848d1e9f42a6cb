/* SPDX-License-Identifier: Apache-2.0 */
/* Many threads at once: one winner per name, one id for all who ask, no stale read after an acknowledgement. */
#include "sysdb_test.h"

#define THREADS 8
#define ROUNDS  60

struct racer {
    struct test *t;
    uint64_t number;
    uuid ids[ROUNDS];
    unsigned won;
};

static void run_all(struct test *t, void (*run)(void *arg), struct racer *racers)
{
    struct thread threads[THREADS];
    for (uint64_t i = 0; i < THREADS; i++) {
        racers[i].t = t;
        racers[i].number = i;
        ok(thread_start(&threads[i], "race", 0, run, &racers[i], &err));
    }
    for (size_t i = 0; i < THREADS; i++)
        thread_join(&threads[i]);
}

static och_code make(struct racer *racer, uint64_t id, const char *name, bool get_or_create,
                     uuid *ret_id, bool *ret_created)
{
    struct sysdb_collection_new spec = {.id = id_of(id),
                                        .tenant = TENANT,
                                        .database = DATABASE,
                                        .name = slice_of(name),
                                        .schema_json = racer->t->schema,
                                        .get_or_create = get_or_create};
    const struct sysdb_collection *made;
    och_error mine = {0};
    och_code code = sysdb_collection_create(racer->t->sysdb, &spec, &made, ret_created, &mine);
    if (code == OCH_OK) {
        *ret_id = made->id;
        sysdb_collection_unref(made);
    } else {
        assert_int_equal(code, OCH_EXISTS);
    }
    return code;
}

static void create_same_names(void *arg)
{
    struct racer *racer = arg;
    for (uint64_t i = 0; i < ROUNDS; i++) {
        char name[20];
        bool created = false;
        (void)snprintf(name, sizeof(name), "same-%d", (int)i);
        racer->won +=
            make(racer, racer->number * 1000 + i, name, false, &racer->ids[i], &created) == OCH_OK;
    }
}

static void only_one_of_many_creates_wins(void **state)
{
    struct test *t = *state;
    struct racer racers[THREADS] = {0};
    unsigned won = 0;
    uint64_t count;
    run_all(t, create_same_names, racers);
    for (size_t i = 0; i < THREADS; i++)
        won += racers[i].won;
    assert_int_equal(won, ROUNDS);
    ok(sysdb_collection_count(t->sysdb, TENANT, DATABASE, &count, &err));
    assert_int_equal(count, ROUNDS);
    verify_clean(t->sysdb);
}

static void get_or_create_same_names(void *arg)
{
    struct racer *racer = arg;
    for (uint64_t i = 0; i < ROUNDS; i++) {
        char name[20];
        bool created;
        (void)snprintf(name, sizeof(name), "shared-%d", (int)i);
        assert_int_equal(
            make(racer, racer->number * 1000 + i, name, true, &racer->ids[i], &created), OCH_OK);
        racer->won += created;
    }
}

static void all_who_get_or_create_get_one_id(void **state)
{
    struct test *t = *state;
    struct racer racers[THREADS] = {0};
    unsigned won = 0;
    run_all(t, get_or_create_same_names, racers);
    for (size_t k = 0; k < THREADS; k++) {
        won += racers[k].won;
        for (size_t i = 0; i < ROUNDS; i++)
            assert_true(uuid_equal(racers[k].ids[i], racers[0].ids[i]));
    }
    assert_int_equal(won, ROUNDS);
}

/* Each thread renames its own collection and must read its own last name, by id and by name; others list all the while. */
static void rename_and_read(void *arg)
{
    struct racer *racer = arg;
    struct sysdb *sysdb = racer->t->sysdb;
    uuid id = id_of(racer->number);
    struct arena arena;
    arena_init(&arena, NULL, 0);
    for (int i = 0; i < ROUNDS; i++) {
        char name[40];
        const struct sysdb_collection *c, **rows;
        size_t count;
        och_error mine = {0};
        (void)snprintf(name, sizeof(name), "r-%d-%d", (int)racer->number, i);
        struct sysdb_collection_change change = {.set_name = true, .name = slice_of(name)};
        assert_int_equal(sysdb_collection_update(sysdb, id, &change, &mine), OCH_OK);
        assert_int_equal(sysdb_collection_get(sysdb, TENANT, DATABASE, id, &c, &mine), OCH_OK);
        assert_true(slice_equal(c->name, slice_of(name)));
        sysdb_collection_unref(c);
        assert_int_equal(sysdb_collection_find(sysdb, TENANT, DATABASE, slice_of(name), &c, &mine),
                         OCH_OK);
        assert_true(uuid_equal(c->id, id));
        sysdb_collection_unref(c);
        assert_int_equal(sysdb_collection_list(sysdb, TENANT, DATABASE, UINT64_MAX, 0, &arena,
                                               &rows, &count, &mine),
                         OCH_OK);
        assert_int_equal(count, THREADS);
        for (size_t k = 0; k < count; k++)
            sysdb_collection_unref(rows[k]);
        arena_done(&arena);
    }
}

static void nobody_reads_what_was_before_an_acknowledgement(void **state)
{
    struct test *t = *state;
    struct racer racers[THREADS] = {0};
    for (uint64_t i = 0; i < THREADS; i++) {
        char name[20];
        (void)snprintf(name, sizeof(name), "start-%d", (int)i);
        ok(create(t, t->sysdb, i, name));
    }
    run_all(t, rename_and_read, racers);
    verify_clean(t->sysdb);
}

static void create_and_drop(void *arg)
{
    struct racer *racer = arg;
    for (uint64_t i = 0; i < ROUNDS; i++) {
        char name[20];
        bool created = false;
        uuid id;
        const struct sysdb_collection *c;
        och_error mine = {0};
        (void)snprintf(name, sizeof(name), "gone-%d", (int)(i % 4));
        if (make(racer, racer->number * 1000 + i, name, true, &id, &created) != OCH_OK)
            continue;
        och_code code = sysdb_collection_get(racer->t->sysdb, TENANT, DATABASE, id, &c, &mine);
        if (code == OCH_OK)
            sysdb_collection_unref(c);
        else
            assert_int_equal(code, OCH_NOT_FOUND);
        code = sysdb_collection_drop(racer->t->sysdb, id, &mine);
        racer->won += code == OCH_OK;
        assert_true(code == OCH_OK || code == OCH_NOT_FOUND);
        assert_int_equal(sysdb_collection_get(racer->t->sysdb, TENANT, DATABASE, id, &c, &mine),
                         OCH_NOT_FOUND);
    }
}

static void a_dropped_collection_is_gone_for_all(void **state)
{
    struct test *t = *state;
    struct racer racers[THREADS] = {0};
    uuid *ids;
    size_t count, dropped = 0;
    run_all(t, create_and_drop, racers);
    for (size_t i = 0; i < THREADS; i++)
        dropped += racers[i].won;
    ok(sysdb_tombstones(t->sysdb, &t->arena, &ids, &count, &err));
    assert_int_equal(count, dropped);
    verify_clean(t->sysdb);
}

static void commit_versions(void *arg)
{
    struct racer *racer = arg;
    for (uint64_t i = 0; i < ROUNDS; i++) {
        och_error mine = {0};
        uuid file = id_of(100000 + racer->number * 1000 + i);
        struct sysdb_part part = {.file = file, .size = 1, .rows = 1};
        struct sysdb_commit item = {.collection = id_of(1),
                                    .expected_version = (int64_t)i,
                                    .next = {.parts = &part, .part_count = 1}};
        assert_int_equal(sysdb_file_announce(racer->t->sysdb, file, &mine), OCH_OK);
        do { // until this version is made by someone
            assert_int_equal(sysdb_commit_versions(racer->t->sysdb, &item, 1, &mine), OCH_OK);
            const struct sysdb_collection *c;
            assert_int_equal(
                sysdb_collection_get(racer->t->sysdb, TENANT, DATABASE, id_of(1), &c, &mine),
                OCH_OK);
            bool past = c->version > (int64_t)i;
            sysdb_collection_unref(c);
            assert_true(past || !item.ret_committed);
            if (past)
                break;
        } while (true);
        racer->won += item.ret_committed;
    }
}

static void each_version_is_made_once(void **state)
{
    struct test *t = *state;
    struct racer racers[THREADS] = {0};
    unsigned won = 0;
    uuid *files;
    size_t count;
    ok(create(t, t->sysdb, 1, "one"));
    run_all(t, commit_versions, racers);
    for (size_t i = 0; i < THREADS; i++)
        won += racers[i].won;
    assert_int_equal(won, ROUNDS);
    ok(sysdb_file_list(t->sysdb, &t->arena, &files, &count, &err));
    assert_int_equal(count, 1);
    verify_clean(t->sysdb);
}

/* A disk whose next sync waits until it is told to go on. */
static struct {
    struct mutex mutex;
    struct cond cond;
    bool hold, held;
    och_code (*sync)(struct file *file, och_error *fault);
} gate;

static och_code gated_sync(struct file *file, och_error *fault)
{
    mutex_lock(&gate.mutex);
    gate.held = gate.hold;
    cond_broadcast(&gate.cond);
    while (gate.hold)
        cond_wait(&gate.cond, &gate.mutex);
    mutex_unlock(&gate.mutex);
    return gate.sync(file, fault);
}

static void create_two(void *arg)
{
    struct racer *racer = arg;
    uuid id;
    bool created;
    assert_int_equal(make(racer, 2, "two", false, &id, &created), OCH_OK);
}

static void reads_do_not_wait_for_a_commit(void **state)
{
    struct test *t = *state;
    struct racer racer = {.t = t};
    struct thread thread;
    const struct io_ops *before = t->io->ops;
    struct io_ops ops = *before;
    const struct sysdb_collection *c, **rows;
    struct sysdb_version version;
    uint64_t count;
    size_t listed;
    ok(create(t, t->sysdb, 1, "one"));
    reopen(t); // nothing is cached
    mutex_init(&gate.mutex, RANK_NONE);
    cond_init(&gate.cond);
    gate.hold = true;
    gate.sync = ops.sync;
    ops.sync = gated_sync;
    t->io->ops = &ops;
    ok(thread_start(&thread, "create", 0, create_two, &racer, &err));
    mutex_lock(&gate.mutex);
    while (!gate.held)
        cond_wait(&gate.cond, &gate.mutex);
    mutex_unlock(&gate.mutex);
    // the commit is under way; what it changes is not seen yet
    ok(sysdb_collection_get(t->sysdb, TENANT, DATABASE, id_of(1), &c, &err));
    sysdb_collection_unref(c);
    fails(OCH_NOT_FOUND, "two",
          sysdb_collection_find(t->sysdb, TENANT, DATABASE, SLICE("two"), &c, &err));
    ok(sysdb_version_get(t->sysdb, id_of(1), &t->arena, &version, &err));
    ok(sysdb_collection_count(t->sysdb, TENANT, DATABASE, &count, &err));
    assert_int_equal(count, 1);
    mutex_lock(&gate.mutex);
    gate.hold = false;
    cond_broadcast(&gate.cond);
    mutex_unlock(&gate.mutex);
    thread_join(&thread);
    t->io->ops = before;
    ok(sysdb_collection_find(t->sysdb, TENANT, DATABASE, SLICE("two"), &c, &err));
    sysdb_collection_unref(c);
    ok(sysdb_collection_list(t->sysdb, TENANT, DATABASE, ALL, 0, &t->arena, &rows, &listed, &err));
    assert_int_equal(listed, 2);
    for (size_t i = 0; i < listed; i++)
        sysdb_collection_unref(rows[i]);
    cond_done(&gate.cond);
    mutex_done(&gate.mutex);
}

#define T(name) cmocka_unit_test_setup_teardown(name, test_begin_open, test_end)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(only_one_of_many_creates_wins),
        T(all_who_get_or_create_get_one_id),
        T(nobody_reads_what_was_before_an_acknowledgement),
        T(a_dropped_collection_is_gone_for_all),
        T(each_version_is_made_once),
        T(reads_do_not_wait_for_a_commit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
