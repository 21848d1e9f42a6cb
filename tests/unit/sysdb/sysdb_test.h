/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the catalogue share: a catalogue on a simulated disk, and short ways to fill it. */
#ifndef TESTS_SYSDB_TEST_H
#define TESTS_SYSDB_TEST_H

#include "base/clock.h"
#include "base/io_sim.h"
#include "base/sched.h"
#include "sysdb/sysdb.h"
#include "json/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define CATALOGUE "data/catalogue.sqlite"
#define TENANT    SLICE("default_tenant")
#define DATABASE  SLICE("default_database")
#define ALL       UINT64_MAX

#define ok(call)                                                     \
    do {                                                             \
        err = (och_error){0};                                        \
        och_code ok_code = (call);                                   \
        if (ok_code != OCH_OK)                                       \
            fail_msg("%s: %d %s", #call, (int)ok_code, err.message); \
    } while (0)
#define fails(wanted, text, call)                                            \
    do {                                                                     \
        err = (och_error){0};                                                \
        assert_int_equal((call), (wanted));                                  \
        assert_int_equal(err.code, (wanted));                                \
        if (!strstr(err.message, (text)))                                    \
            fail_msg("%s: \"%s\" lacks \"%s\"", #call, err.message, (text)); \
    } while (0)

struct test {
    struct io *io;
    struct clock_manual clock;
    struct arena arena;
    slice schema; /* canonical text of a default schema */
    struct sysdb *sysdb;
};
static och_error err;

static inline uuid id_of(uint64_t number)
{
    uuid id = {{0}};
    for (int i = 0; i < 8; i++)
        id.bytes[i] = (uint8_t)(number * 0x9e3779b97f4a7c15ull >> (8 * i));
    for (int i = 0; i < 8; i++)
        id.bytes[8 + i] = (uint8_t)(number >> (8 * i));
    return id;
}

static inline och_code open_on(struct test *t, struct io *io, bool create, struct sysdb **ret)
{
    struct sysdb_options options = {
        .io = io, .path = CATALOGUE, .clock = &t->clock.clock, .create = create};
    return sysdb_open(&options, ret, &err);
}

static inline void reopen(struct test *t)
{
    if (t->sysdb) {
        ok(sysdb_close(t->sysdb, &err));
        sysdb_free(t->sysdb);
        t->sysdb = NULL;
    }
    ok(open_on(t, t->io, true, &t->sysdb));
}

static inline int test_begin(void **state)
{
    struct test *t = mem_zalloc(sizeof(*t));
    t->io = io_sim_new(true);
    clock_manual_init(&t->clock, 1700000000ull * 1000000000ull);
    arena_init(&t->arena, NULL, 0);
    ok(io_make_folder(t->io, "data", &err));
    const struct schema_options options = {.thread_count = 2};
    ok(schema_create(NULL, NULL, NULL, &options, &t->arena, &t->schema, &err));
    *state = t;
    return 0;
}

static inline int test_begin_open(void **state)
{
    (void)test_begin(state);
    reopen(*state);
    return 0;
}

static inline int test_end(void **state)
{
    struct test *t = *state;
    if (t->sysdb) {
        ok(sysdb_close(t->sysdb, &err));
        sysdb_free(t->sysdb);
    }
    io_sim_free(t->io);
    arena_done(&t->arena);
    mem_free(t);
    return 0;
}

static inline och_code create(struct test *t, struct sysdb *sysdb, uint64_t number,
                              const char *name)
{
    struct sysdb_collection_new spec = {.id = id_of(number),
                                        .tenant = TENANT,
                                        .database = DATABASE,
                                        .name = slice_of(name),
                                        .schema_json = t->schema};
    const struct sysdb_collection *made = NULL;
    bool created;
    och_code code = sysdb_collection_create(sysdb, &spec, &made, &created, &err);
    if (code == OCH_OK)
        sysdb_collection_unref(made);
    return code;
}

static inline void verify_clean(struct sysdb *sysdb)
{
    struct buf report;
    uint64_t faults = 1;
    buf_init(&report, BUF_MAX_NONE);
    ok(sysdb_verify(sysdb, &report, &faults, &err));
    if (faults)
        fail_msg("%.*s", SLICE_ARG(buf_view(&report)));
    buf_done(&report);
}
#endif
