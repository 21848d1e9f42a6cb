/* SPDX-License-Identifier: Apache-2.0 */
/* What the catalogue promises of collections, versions that are kept and files, as plain arrays.  Included once by its test. */
#ifndef TESTS_SYSDB_KEPT_MODEL_H
#define TESTS_SYSDB_KEPT_MODEL_H

#include "sysdb_test.h"

#define COLLECTIONS 5
#define PARTS       6
#define KEPT        12
#define NAMED       3   /* of one collection, at most */
#define FILES       400 /* made in one run */
#define SLOTS       3   /* parts that one file may hold */
#define PART_BYTES  4096u

struct plain_part {
    uint32_t file, slot; /* numbers */
    uint32_t rows, deleted;
    uint64_t from, to;
};
/* What a version is. */
struct plain_state {
    uint64_t log_offset;
    int64_t last_at; /* ms */
    struct plain_part parts[PARTS];
    size_t part_count;
};
struct plain_kept {
    uuid id;
    char name[8]; /* "": none */
    int64_t taken_at, keep_until;
    struct plain_state state;
};
struct plain_collection {
    bool there;
    uuid id;
    char name[8];
    int64_t version, created_at, retention_s; /* < 0: the setting's */
    struct plain_state now;
    struct plain_kept kept[KEPT]; /* in the order of the list */
    size_t kept_count;
};
struct plain_file {
    bool removed, was_live, punched[SLOTS];
    uint32_t slot_count;
};
struct model {
    struct test *t;
    struct random random;
    uint64_t seed, step, ids;
    int64_t setting_ms; /* version_retention */
    struct plain_collection collections[COLLECTIONS];
    struct plain_file files[FILES];
    uint32_t file_count;
    /* what came to pass, so that the test tells when it stopped testing */
    unsigned retained, restored, expired, refused, punched;
};

static uint64_t below(struct model *m, uint64_t limit)
{
    return random_below(&m->random, limit);
}
static int64_t now_of(const struct model *m)
{
    return (int64_t)(clock_wall_ns(&m->t->clock.clock) / 1000000);
}
static uuid new_id(struct model *m)
{
    return id_of(++m->ids);
}
static uuid file_id(uint32_t number)
{
    return id_of(1000000 + number);
}

/* ---- the model's rules ---- */

static void keep_plain(struct plain_collection *c, uuid id, const char *name, int64_t taken_at,
                       int64_t keep_until)
{
    assert_true(c->kept_count < KEPT);
    size_t at = c->kept_count++;
    for (; at > 0; at--) { /* by offset, then time, then age */
        const struct plain_kept *before = &c->kept[at - 1];
        if (before->state.log_offset < c->now.log_offset ||
            (before->state.log_offset == c->now.log_offset && before->taken_at <= taken_at))
            break;
        c->kept[at] = *before;
    }
    struct plain_kept *kept = &c->kept[at];
    *kept = (struct plain_kept){
        .id = id, .taken_at = taken_at, .keep_until = keep_until, .state = c->now};
    (void)snprintf(kept->name, sizeof(kept->name), "%s", name);
}

static void retain_plain(struct model *m, struct plain_collection *c, uuid id)
{
    int64_t keep_ms = c->retention_s < 0 ? m->setting_ms : c->retention_s * 1000;
    if (keep_ms <= 0)
        return;
    int64_t taken = c->now.last_at > c->created_at ? c->now.last_at : c->created_at;
    keep_plain(c, id, "", taken, now_of(m) + keep_ms);
    m->retained++;
}

static void drop_plain(struct plain_collection *c, size_t at)
{
    for (; at + 1 < c->kept_count; at++)
        c->kept[at] = c->kept[at + 1];
    c->kept_count--;
}

/* OCH_OK, or why another version of this name is refused. */
static och_code name_verdict(const struct plain_collection *c, const char *name)
{
    size_t named = 0;
    bool taken = false;
    for (size_t i = 0; i < c->kept_count; i++) {
        named += c->kept[i].name[0] != '\0';
        taken |= strcmp(c->kept[i].name, name) == 0;
    }
    return *name == '\0' ? OCH_OK : taken ? OCH_EXISTS : named >= NAMED ? OCH_QUOTA : OCH_OK;
}

static bool state_has(const struct plain_state *state, uint32_t file, uint32_t slot)
{
    for (size_t i = 0; i < state->part_count; i++)
        if (state->parts[i].file == file && (slot == SLOTS || state->parts[i].slot == slot))
            return true;
    return false;
}

/* Does any version, kept or current, refer to it?  SLOTS: to any part of the file. */
static bool is_used(const struct model *m, uint32_t file, uint32_t slot)
{
    for (size_t i = 0; i < COLLECTIONS; i++) {
        const struct plain_collection *c = &m->collections[i];
        bool used = c->there && state_has(&c->now, file, slot);
        for (size_t k = 0; c->there && k < c->kept_count; k++)
            used |= state_has(&c->kept[k].state, file, slot);
        if (used)
            return true;
    }
    return false;
}
#endif
