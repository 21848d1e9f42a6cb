/* SPDX-License-Identifier: Apache-2.0 */
/* Kept versions against a plain model: random commits, versions kept, given up, outlived and restored, forks, drops and restarts; after each step every
 * list, version and file is what the model says. */
#include "kept_model.h"

#include "base/bytes.h"
#include "model/meta.h"

#include <inttypes.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SEEDS 6
#else
#define SEEDS 24
#endif
#define STEPS 150

static void open_model(struct model *m)
{
    struct sysdb_options options = {.io = m->t->io,
                                    .path = CATALOGUE,
                                    .clock = &m->t->clock.clock,
                                    .create = true,
                                    .retention_ms = m->setting_ms};
    if (m->t->sysdb) {
        ok(sysdb_close(m->t->sysdb, &err));
        sysdb_free(m->t->sysdb);
        m->t->sysdb = NULL;
    }
    ok(sysdb_open(&options, &m->t->sysdb, &err));
}

/* ---- comparing ---- */

static void differs(const struct model *m, const char *what)
{
    fail_msg("seed %" PRIu64 ", step %" PRIu64 ": %s", m->seed, m->step, what);
}

static void check_version(struct model *m, uuid id, const struct plain_state *state)
{
    struct sysdb_version version;
    ok(sysdb_version_get(m->t->sysdb, id, &m->t->arena, &version, &err));
    if (version.log_offset != state->log_offset || version.last_created_at != state->last_at ||
        version.part_count != state->part_count)
        differs(m, "another version");
    for (size_t i = 0; i < state->part_count; i++) {
        const struct sysdb_part *part = &version.parts[i];
        const struct plain_part *plain = &state->parts[i];
        bool same = uuid_equal(part->file, file_id(plain->file)) &&
                    part->offset == plain->slot * PART_BYTES && part->rows == plain->rows &&
                    part->deleted == plain->deleted && part->dead.len == plain->deleted &&
                    part->log_from == plain->from && part->log_to == plain->to;
        for (size_t k = 0; same && k < part->dead.len; k++)
            same = part->dead.at[k] == (uint8_t)plain->deleted;
        if (!same)
            differs(m, "another part");
    }
}

static uint64_t live_rows(const struct plain_state *state)
{
    uint64_t rows = 0;
    for (size_t i = 0; i < state->part_count; i++)
        rows += state->parts[i].rows - state->parts[i].deleted;
    return rows;
}

static void check_kept(struct model *m, const struct plain_collection *c,
                       const struct sysdb_kept *row, const struct plain_kept *plain)
{
    const struct sysdb_collection *found = NULL;
    if (!uuid_equal(row->id, plain->id) || row->log_offset != plain->state.log_offset ||
        row->taken_at != plain->taken_at || row->last_at != plain->state.last_at ||
        row->keep_until != plain->keep_until || row->rows != live_rows(&plain->state) ||
        !slice_equal(row->name, slice_of(plain->name)) || (row->name.at != NULL) != !!*plain->name)
        differs(m, "another kept version");
    check_version(m, plain->id, &plain->state);
    ok(sysdb_collection_get(m->t->sysdb, SLICE_NONE, SLICE_NONE, plain->id, &found, &err));
    if (!found->kept || !uuid_equal(found->id, c->id) ||
        !slice_equal(found->name, slice_of(c->name)) ||
        found->log_offset != plain->state.log_offset)
        differs(m, "a kept version is read as another collection");
    sysdb_collection_unref(found);
    fails(OCH_NOT_FOUND, "",
          sysdb_collection_get(m->t->sysdb, TENANT, DATABASE, plain->id, &found, &err));
}

static void check_collection(struct model *m, const struct plain_collection *c)
{
    struct sysdb_kept *rows;
    size_t count;
    if (!c->there) {
        fails(OCH_NOT_FOUND, "",
              sysdb_kept_list(m->t->sysdb, c->id, &m->t->arena, &rows, &count, &err));
        return;
    }
    check_version(m, c->id, &c->now);
    ok(sysdb_kept_list(m->t->sysdb, c->id, &m->t->arena, &rows, &count, &err));
    if (count != c->kept_count)
        differs(m, "more or fewer versions are kept");
    for (size_t i = 0; i < count; i++)
        check_kept(m, c, &rows[i], &c->kept[i]);
}

static bool is_garbage(const struct sysdb_garbage *rows, size_t count, uint32_t file, bool whole,
                       uint32_t slot)
{
    for (size_t i = 0; i < count; i++)
        if (uuid_equal(rows[i].file, file_id(file)) && rows[i].whole == whole &&
            (whole || (rows[i].offset == slot * PART_BYTES && rows[i].size == PART_BYTES)))
            return true;
    return false;
}

/* A file that somebody refers to is live, and what nobody refers to of it is a hole until that is punched; else it is doomed until it is removed. */
static void check_files(struct model *m)
{
    struct sysdb_garbage *garbage;
    uuid *live;
    size_t count, live_count, wanted = 0, wanted_live = 0;
    ok(sysdb_garbage_list(m->t->sysdb, false, &m->t->arena, &garbage, &count, &err));
    ok(sysdb_file_list(m->t->sysdb, &m->t->arena, &live, &live_count, &err));
    for (uint32_t i = 0; i < m->file_count; i++) {
        const struct plain_file *file = &m->files[i];
        bool used = is_used(m, i, SLOTS);
        bool listed = false;
        for (size_t k = 0; k < live_count; k++)
            listed |= uuid_equal(live[k], file_id(i));
        if (listed != used)
            differs(m, used ? "a file in use is not live" : "a file that nobody uses is live");
        wanted_live += used;
        if (!used && file->was_live && !file->removed) {
            wanted++;
            if (!is_garbage(garbage, count, i, true, 0))
                differs(m, "a doomed file is no garbage");
        }
        for (uint32_t slot = 0; used && slot < file->slot_count; slot++) {
            if (file->punched[slot] || is_used(m, i, slot))
                continue;
            wanted++;
            if (!is_garbage(garbage, count, i, false, slot))
                differs(m, "a part that nobody uses is no hole");
        }
    }
    if (count != wanted || live_count != wanted_live)
        differs(m, "other garbage, or other files");
}

static void check_all(struct model *m)
{
    struct arena scratch = m->t->arena;
    arena_init(&m->t->arena, NULL, 0);
    for (size_t i = 0; i < COLLECTIONS; i++)
        check_collection(m, &m->collections[i]);
    check_files(m);
    arena_done(&m->t->arena);
    m->t->arena = scratch;
    if (m->step % 16 == 0)
        verify_clean(m->t->sysdb);
}

/* ---- steps ---- */

/* One entry, as model/meta.h has it; none without a retention of its own. */
static slice retention_metadata(int64_t seconds, uint8_t room[64])
{
    size_t len = 0, key_len = strlen(SYSDB_RETENTION_KEY);
    if (seconds < 0)
        return SLICE_NONE;
    room[len++] = 1;
    room[len++] = (uint8_t)key_len;
    memcpy(room + len, SYSDB_RETENTION_KEY, key_len);
    len += key_len;
    room[len++] = META_INT;
    room[len++] = 8;
    store_u64(room + len, (uint64_t)seconds);
    return slice_make(room, len + 8);
}

static int64_t random_retention(struct model *m)
{
    static const int64_t seconds[] = {-1, -1, 0, 20, 60};
    return seconds[below(m, COUNT_OF(seconds))];
}

static void create_step(struct model *m, struct plain_collection *c)
{
    uint8_t room[64];
    *c = (struct plain_collection){.there = true,
                                   .id = new_id(m),
                                   .created_at = now_of(m),
                                   .retention_s = random_retention(m)};
    (void)snprintf(c->name, sizeof(c->name), "c%" PRIu64, m->ids);
    struct sysdb_collection_new spec = {.id = c->id,
                                        .tenant = TENANT,
                                        .database = DATABASE,
                                        .name = slice_of(c->name),
                                        .metadata = retention_metadata(c->retention_s, room),
                                        .schema_json = m->t->schema};
    const struct sysdb_collection *made = NULL;
    bool created;
    ok(sysdb_collection_create(m->t->sysdb, &spec, &made, &created, &err));
    c->version = made->version;
    sysdb_collection_unref(made);
}

static void change_step(struct model *m, struct plain_collection *c)
{
    uint8_t room[64];
    c->retention_s = random_retention(m);
    struct sysdb_collection_change change = {.set_metadata = true,
                                             .metadata = retention_metadata(c->retention_s, room)};
    ok(sysdb_collection_update(m->t->sysdb, c->id, &change, &err));
}

/* Some of the parts of now, maybe with more rows dead, and some new ones in a file of their own. */
static struct plain_state next_state(struct model *m, const struct plain_collection *c, bool flush)
{
    struct plain_state next = {.log_offset = c->now.log_offset + (flush ? 1 + below(m, 9) : 0),
                               .last_at = flush ? now_of(m) : c->now.last_at};
    for (size_t i = 0; i < c->now.part_count; i++) {
        struct plain_part part = c->now.parts[i];
        if (below(m, 4) == 0 || next.part_count + SLOTS == PARTS)
            continue;
        if (part.deleted < part.rows && below(m, 3) == 0)
            part.deleted++;
        next.parts[next.part_count++] = part;
    }
    uint32_t slots = 1 + (uint32_t)below(m, SLOTS), file = m->file_count++;
    m->files[file] = (struct plain_file){.slot_count = slots};
    ok(sysdb_file_announce(m->t->sysdb, file_id(file), &err));
    for (uint32_t slot = 0; slot < slots; slot++)
        next.parts[next.part_count++] = (struct plain_part){.file = file,
                                                            .slot = slot,
                                                            .rows = 3 + (uint32_t)below(m, 20),
                                                            .from = c->now.log_offset,
                                                            .to = next.log_offset};
    return next;
}

static void commit_step(struct model *m, struct plain_collection *c)
{
    bool flush = below(m, 4) != 0, late = below(m, 12) == 0;
    struct plain_state next = next_state(m, c, flush);
    uint8_t dead[PARTS][64];
    struct sysdb_part parts[PARTS];
    for (size_t i = 0; i < next.part_count; i++) {
        const struct plain_part *plain = &next.parts[i];
        memset(dead[i], (int)plain->deleted, sizeof(dead[i]));
        parts[i] = (struct sysdb_part){.file = file_id(plain->file),
                                       .offset = plain->slot * PART_BYTES,
                                       .size = PART_BYTES,
                                       .rows = plain->rows,
                                       .deleted = plain->deleted,
                                       .log_from = plain->from,
                                       .log_to = plain->to,
                                       .dead = slice_make(dead[i], plain->deleted)};
    }
    struct sysdb_commit item = {.collection = c->id,
                                .expected_version = c->version - (late ? 1 : 0),
                                .next = {.log_offset = next.log_offset,
                                         .dimension = 2,
                                         .last_created_at = next.last_at,
                                         .parts = parts,
                                         .part_count = next.part_count},
                                .kept = new_id(m)};
    bool names = below(m, 8) != 0;
    item.kept = names ? item.kept : (uuid){{0}};
    ok(sysdb_commit_versions(m->t->sysdb, &item, 1, &err));
    if (item.ret_committed == late)
        differs(m, "committed, or not, as it should not be");
    if (late)
        return;
    if (flush && names) /* a merge changes no state */
        retain_plain(m, c, item.kept);
    c->now = next;
    c->version++;
    m->files[m->file_count - 1].was_live = true;
}

static void refused_or(struct model *m, och_code wanted, och_code code)
{
    if (code != wanted) {
        print_message("%s\n", err.message);
        fail_msg("seed %" PRIu64 ", step %" PRIu64 ": code %d, not %d", m->seed, m->step, (int)code,
                 (int)wanted);
    }
    m->refused += wanted != OCH_OK;
}

static void random_name(struct model *m, char name[8])
{
    (void)snprintf(name, 8, "k%d", (int)below(m, NAMED + 2));
    if (below(m, 3) == 0)
        *name = '\0';
}

static void keep_step(struct model *m, struct plain_collection *c)
{
    char name[8];
    random_name(m, name);
    bool ahead = below(m, 10) == 0;
    struct sysdb_keep keep = {.collection = c->id,
                              .id = new_id(m),
                              .name = *name ? slice_of(name) : SLICE_NONE,
                              .keep_until = *name ? 0 : now_of(m) + (int64_t)below(m, 30000),
                              .log_offset = c->now.log_offset + ahead,
                              .taken_at = now_of(m),
                              .max = NAMED};
    struct sysdb_kept kept;
    och_code wanted = ahead ? OCH_STALE : name_verdict(c, name);
    err = (och_error){0};
    refused_or(m, wanted, sysdb_keep(m->t->sysdb, &keep, &kept, &err));
    if (wanted != OCH_OK)
        return;
    keep_plain(c, keep.id, name, keep.taken_at, keep.keep_until);
    assert_true(uuid_equal(kept.id, keep.id) && kept.log_offset == c->now.log_offset &&
                kept.rows == live_rows(&c->now) && kept.keep_until == keep.keep_until);
}

static void release_step(struct model *m, struct plain_collection *c)
{
    const struct plain_collection *other = &m->collections[below(m, COLLECTIONS)];
    if (other != c && other->there && other->kept_count) /* it is not this one's to give up */
        refused_or(
            m, OCH_NOT_FOUND,
            sysdb_kept_drop(m->t->sysdb, c->id, other->kept[below(m, other->kept_count)].id, &err));
    refused_or(m, OCH_NOT_FOUND, sysdb_kept_drop(m->t->sysdb, c->id, new_id(m), &err));
    if (c->kept_count == 0)
        return;
    size_t at = below(m, c->kept_count);
    ok(sysdb_kept_drop(m->t->sysdb, c->id, c->kept[at].id, &err));
    drop_plain(c, at);
}

static void expire_step(struct model *m)
{
    size_t expired = 0, gone = 0, count;
    bool more = true;
    clock_manual_advance(&m->t->clock, below(m, 25) * 1000000000);
    for (size_t i = 0; i < COLLECTIONS; i++) {
        struct plain_collection *c = &m->collections[i];
        for (size_t k = c->there ? c->kept_count : 0; k-- > 0;) {
            if (c->kept[k].keep_until == 0 || c->kept[k].keep_until >= now_of(m))
                continue;
            drop_plain(c, k);
            expired++;
        }
    }
    for (; more; gone += count)
        ok(sysdb_kept_expire(m->t->sysdb, &count, &more, &err));
    if (gone != expired)
        differs(m, "others are outlived");
    m->expired += (unsigned)gone;
}

static void restore_step(struct model *m, struct plain_collection *c)
{
    char name[8];
    random_name(m, name);
    bool unknown = c->kept_count == 0 || below(m, 12) == 0, late = below(m, 10) == 0;
    size_t at = unknown ? 0 : below(m, c->kept_count);
    struct sysdb_restore restore = {.collection = c->id,
                                    .kept = unknown ? new_id(m) : c->kept[at].id,
                                    .from = c->now.log_offset + late,
                                    .log_offset = c->now.log_offset + 1 + below(m, 3),
                                    .created_at = now_of(m),
                                    .id = new_id(m),
                                    .name = *name ? slice_of(name) : SLICE_NONE,
                                    .max = NAMED};
    och_code wanted = unknown ? OCH_NOT_FOUND : late ? OCH_STALE : name_verdict(c, name);
    err = (och_error){0};
    refused_or(m, wanted, sysdb_restore(m->t->sysdb, &restore, &err));
    if (wanted != OCH_OK)
        return;
    struct plain_state next = c->kept[at].state;
    next.log_offset = restore.log_offset;
    next.last_at = restore.created_at;
    if (*name)
        keep_plain(c, restore.id, name, now_of(m), 0);
    else
        retain_plain(m, c, restore.id);
    c->now = next;
    c->version++;
    m->restored++;
}

/* It has the parts of now and none of the versions. */
static void fork_step(struct model *m, const struct plain_collection *from,
                      struct plain_collection *to)
{
    const struct sysdb_collection *source = NULL, *made = NULL;
    *to = (struct plain_collection){.there = true,
                                    .id = new_id(m),
                                    .created_at = now_of(m),
                                    .retention_s = from->retention_s,
                                    .now = from->now};
    (void)snprintf(to->name, sizeof(to->name), "c%" PRIu64, m->ids);
    ok(sysdb_collection_get(m->t->sysdb, TENANT, DATABASE, from->id, &source, &err));
    struct sysdb_fork fork = {.source = source,
                              .id = to->id,
                              .name = slice_of(to->name),
                              .upto = source->log_offset,
                              .edges_max = 1000};
    ok(sysdb_fork(m->t->sysdb, &fork, &made, &err));
    to->version = made->version;
    sysdb_collection_unref(source);
    sysdb_collection_unref(made);
}

static void collect_step(struct model *m)
{
    struct sysdb_garbage *rows;
    size_t count;
    struct arena arena;
    arena_init(&arena, NULL, 0);
    ok(sysdb_garbage_list(m->t->sysdb, false, &arena, &rows, &count, &err));
    for (size_t i = 0; i < count; i++) {
        uint32_t file = 0;
        while (!uuid_equal(file_id(file), rows[i].file))
            assert_true(++file < m->file_count);
        if (below(m, 2) == 0)
            continue;
        if (rows[i].whole) {
            ok(sysdb_file_forget(m->t->sysdb, &rows[i].file, 1, &err));
            m->files[file].removed = true;
        } else {
            ok(sysdb_hole_forget(m->t->sysdb, rows[i].file, rows[i].offset, &err));
            m->files[file].punched[rows[i].offset / PART_BYTES] = true;
            m->punched++;
        }
    }
    arena_done(&arena);
}

static void step(struct model *m)
{
    struct plain_collection *c = &m->collections[below(m, COLLECTIONS)];
    struct plain_collection *other = &m->collections[below(m, COLLECTIONS)];
    uint64_t what = below(m, 32);
    if (!c->there) {
        if (other->there && what < 16)
            fork_step(m, other, c);
        else
            create_step(m, c);
    } else if (what < 12 && c->kept_count < KEPT) {
        commit_step(m, c);
    } else if (what < 18 && c->kept_count < KEPT) {
        keep_step(m, c);
    } else if (what < 22 && c->kept_count < KEPT) {
        restore_step(m, c);
    } else if (what < 25) {
        release_step(m, c);
    } else if (what < 27) {
        expire_step(m);
    } else if (what < 29) {
        collect_step(m);
    } else if (what == 29) {
        change_step(m, c);
    } else if (what == 30) {
        open_model(m);
    } else if (below(m, 3) == 0) {
        ok(sysdb_collection_drop(m->t->sysdb, c->id, &err));
        c->there = false;
    }
}

static void a_catalogue_keeps_what_a_plain_model_keeps(void **state)
{
    unsigned retained = 0, restored = 0, expired = 0, refused = 0, punched = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        (void)test_begin(state);
        struct model *m = mem_zalloc(sizeof(*m));
        m->t = *state;
        m->seed = seed;
        m->setting_ms = seed % 2 ? 30000 : 0;
        random_seed(&m->random, seed);
        open_model(m);
        for (m->step = 1; m->step <= STEPS; m->step++) {
            step(m);
            check_all(m);
        }
        open_model(m);
        check_all(m);
        verify_clean(m->t->sysdb);
        retained += m->retained;
        restored += m->restored;
        expired += m->expired;
        refused += m->refused;
        punched += m->punched;
        mem_free(m);
        (void)test_end(state);
    }
    print_message("%u retained, %u restored, %u outlived, %u refused, %u holes\n", retained,
                  restored, expired, refused, punched);
    assert_true(retained > 5 * SEEDS && restored > 3 * SEEDS && expired > 2 * SEEDS &&
                refused > 5 * SEEDS && punched > SEEDS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_catalogue_keeps_what_a_plain_model_keeps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
