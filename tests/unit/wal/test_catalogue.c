/* SPDX-License-Identifier: Apache-2.0 */
/* The log with the real catalogue on one simulated disk: kills, power cuts, drops and trims. */
#include "base/io_sim.h"
#include "wal/wal.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define KEPT_MAX 512

struct machine {
    struct io *io;
    struct sysdb *db;
    struct wal *wal;
    uuid id;
    uint64_t seed;
    och_error err;
    uint64_t count, trimmed, tried;
};

#define OK(m, call)                                                                     \
    do {                                                                                \
        if ((call) != OCH_OK)                                                           \
            fail_msg("seed %llu: %s", (unsigned long long)(m)->seed, (m)->err.message); \
    } while (0)

static och_code machine_open(struct machine *m)
{
    struct sysdb_options options = {
        .io = m->io, .path = "data/catalogue.sqlite", .clock = clock_system(), .create = true};
    TRY(io_make_folder(m->io, "data", &m->err));
    TRY(sysdb_open(&options, &m->db, &m->err));
    struct wal_options log = {.io = m->io,
                              .folder = "data/log",
                              .sysdb = m->db,
                              .clock = clock_system(),
                              .segment_bytes = 32768,
                              .seed = 5};
    return wal_open(&log, &m->wal, &m->err);
}

static void machine_kill(struct machine *m)
{
    wal_free(m->wal);
    sysdb_free(m->db);
    m->wal = NULL;
    m->db = NULL;
}

static struct payload *payload_of(uint64_t number)
{
    char id[32];
    char text[3000];
    (void)snprintf(id, sizeof(id), "n%llu", (unsigned long long)number);
    memset(text, 'a' + (int)(number % 26), sizeof(text));
    struct batch_input_row row = {.op = BATCH_UPSERT,
                                  .id = slice_of(id),
                                  .document_state = FIELD_VALUE,
                                  .document = slice_make(text, number % sizeof(text))};
    struct batch_input input = {1, 0, &row};
    struct payload *payload = NULL;
    assert_int_equal(batch_encode(&input, NULL, &payload, NULL), OCH_OK);
    return payload;
}

static och_code machine_put(struct machine *m, uuid id, uint64_t number, struct wal_appended *got)
{
    struct payload *payload = payload_of(number);
    struct wal_append ask = {.collection = id, .payload = payload, .count = 1};
    och_code code = wal_append(m->wal, &ask, got, &m->err);
    payload_unref(payload);
    return code;
}

static uuid machine_create(struct machine *m, const char *name)
{
    static uint64_t next;
    const struct sysdb_collection *row;
    bool created;
    uuid id = {{0}};
    struct arena arena;
    slice schema;
    const struct schema_options options = {.thread_count = 1};
    arena_init(&arena, NULL, 0);
    OK(m, schema_create(NULL, NULL, NULL, &options, &arena, &schema, &m->err));
    next++;
    memcpy(id.bytes, &next, 8);
    struct sysdb_collection_new spec = {.id = id,
                                        .tenant = slice_of("default_tenant"),
                                        .database = slice_of("default_database"),
                                        .name = slice_of(name),
                                        .metadata = SLICE_NONE,
                                        .schema_json = schema};
    OK(m, sysdb_collection_create(m->db, &spec, &row, &created, &m->err));
    id = row->id;
    arena_done(&arena);
    sysdb_collection_unref(row);
    return id;
}

/* What a flush commits, without parts. */
static bool machine_trim(struct machine *m, uint64_t to)
{
    struct arena arena;
    struct sysdb_version version;
    arena_init(&arena, NULL, 0);
    bool done = sysdb_version_get(m->db, m->id, &arena, &version, &m->err) == OCH_OK;
    struct sysdb_commit commit = {.collection = m->id, .expected_version = version.version};
    if (done) {
        commit.next = version;
        commit.next.version++;
        commit.next.log_offset = to;
        done = sysdb_commit_versions(m->db, &commit, 1, &m->err) == OCH_OK && commit.ret_committed;
    }
    if (done) {
        m->trimmed = to;
        done = wal_trim(m->wal, m->id, to, &m->err) == OCH_OK;
    }
    arena_done(&arena);
    return done;
}

static void machine_check(struct machine *m)
{
    struct arena arena;
    struct sysdb_version version;
    struct wal_batch **tail;
    size_t count;
    arena_init(&arena, NULL, 0);
    OK(m, sysdb_version_get(m->db, m->id, &arena, &version, &m->err));
    arena_done(&arena);
    assert_true(version.log_offset >= m->trimmed); // a commit of unknown outcome may have happened
    OK(m, wal_tail(m->wal, m->id, version.log_offset, &tail, &count, &m->err));
    assert_true(version.log_offset + count >= m->count);
    assert_true(version.log_offset + count <= m->tried);
    for (size_t i = 0; i < count; i++) {
        struct payload *want = payload_of(version.log_offset + i);
        assert_int_equal(tail[i]->first, version.log_offset + i);
        assert_int_equal(tail[i]->payload->len, want->len);
        assert_memory_equal(tail[i]->payload->at, want->at, want->len);
        payload_unref(want);
        wal_batch_unref(tail[i]);
    }
    mem_free(tail);
    m->count = m->tried = version.log_offset + count;
    m->trimmed = version.log_offset;
}

static void machine_live(struct machine *m, struct random *random)
{
    for (uint64_t i = 0, steps = 5 + random_below(random, 30); i < steps; i++) {
        struct wal_appended got;
        if (random_below(random, 8) == 0 && m->count > m->trimmed) {
            if (!machine_trim(m, m->trimmed + 1 + random_below(random, m->count - m->trimmed)))
                return;
            continue;
        }
        m->tried = m->count + 1;
        if (machine_put(m, m->id, m->count, &got) != OCH_OK)
            return;
        assert_int_equal(got.first, m->count);
        m->count++;
    }
}

static void log_and_catalogue_agree_after_every_power_cut(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct machine m = {.io = io_sim_new(true), .seed = seed};
        struct random random;
        random_seed(&random, seed);
        OK(&m, machine_open(&m));
        m.id = machine_create(&m, "kept");
        for (int era = 0; era < 3; era++) {
            machine_check(&m);
            bool stops = random_below(&random, 3) != 0;
            if (stops)
                io_sim_fail_at(m.io, IO_SIM_ANY, 1 + random_below(&random, 200), EIO, true);
            machine_live(&m, &random);
            if (!stops && random_below(&random, 2)) {
                OK(&m, wal_close(m.wal, &m.err));
                OK(&m, sysdb_close(m.db, &m.err));
            }
            io_sim_fail_at(m.io, IO_SIM_ANY, 1, EIO, true);
            machine_kill(&m);
            struct io *left = io_sim_power_cut(m.io, random_u64(&random));
            io_sim_free(m.io);
            m.io = left;
            OK(&m, machine_open(&m));
        }
        machine_check(&m);
        machine_kill(&m);
        io_sim_free(m.io);
    }
}

static void D15_a_drop_outlives_a_kill_at_any_moment(void **state)
{
    (void)state;
    for (int moment = 0; moment < 3; moment++) {
        struct machine m = {.io = io_sim_new(true)};
        struct wal_appended got;
        OK(&m, machine_open(&m));
        m.id = machine_create(&m, "kept");
        uuid other = machine_create(&m, "dropped");
        OK(&m, machine_put(&m, m.id, 0, &got));
        OK(&m, machine_put(&m, other, 2999, &got));
        m.count = m.tried = 1;
        OK(&m, wal_seal(m.wal, other, &m.err));
        if (moment > 0)
            OK(&m, sysdb_collection_drop(m.db, other, &m.err));
        if (moment > 1)
            wal_forget(m.wal, other);
        machine_kill(&m);
        OK(&m, machine_open(&m));
        machine_check(&m);
        och_code code = machine_put(&m, other, 1, &got);
        assert_int_equal(code, moment > 0 ? OCH_NOT_FOUND : OCH_OK);
        machine_kill(&m);
        io_sim_free(m.io);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(log_and_catalogue_agree_after_every_power_cut),
        cmocka_unit_test(D15_a_drop_outlives_a_kill_at_any_moment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
