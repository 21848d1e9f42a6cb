/* SPDX-License-Identifier: Apache-2.0 */
/* `revision_history`: every version of a record as a record of its own, "<id>::v<n>", n from 1 on without end; "<id>::v0" is the tracker, which knows
 * the last n.
 *
 * A record that carries a version itself (an integer under `version_key`) has its revisions numbered along with it: the same version again is no
 * revision, a smaller one begins a new generation behind the last (it was deleted and made anew).  Others count by one. */
#include "function/function_internal.h"

#include "json/json.h"

#include <inttypes.h>

struct tracker {
    slice id;
    int64_t last;                /* revision; 0: none yet */
    int64_t first, first_source; /* of the generation: revision and version of the record */
    bool changed;
};

struct history {
    struct run *run;
    struct output_rows *out;
    slice version_key;
    int64_t now_s;
    struct arena arena; /* trackers */
    struct map by_id;   /* -> struct tracker * */
    VEC(struct tracker *) trackers;
};

static och_code read_params(struct history *h, och_error *err)
{
    struct json_value params;
    struct json_fault fault;
    h->version_key = SLICE("version");
    TRY(json_read(slice_of(h->run->params), NULL, &h->arena, &params, &fault, err));
    const struct json_value *key = json_get(&params, SLICE("version_key"));
    if (key && key->kind == JSON_STRING)
        h->version_key = key->string;
    return OCH_OK;
}

static och_code history_begin(struct history *h, struct run *run, struct output_rows *out,
                              och_error *err)
{
    *h = (struct history){.run = run, .out = out};
    h->now_s = (int64_t)(clock_wall_ns(run->functions->options.clock) / 1000000000u);
    arena_init(&h->arena, run->functions->options.budget, 0);
    map_init(&h->by_id);
    return read_params(h, err);
}

static void history_end(struct history *h)
{
    VEC_DONE(&h->trackers);
    map_done(&h->by_id);
    arena_done(&h->arena);
}

/* ---- trackers ---- */

static int64_t int_of(slice metadata, const char *key)
{
    struct meta_entry entry;
    bool has = meta_find(metadata, slice_of(key), &entry) && entry.type == META_INT;
    return has ? meta_int(&entry) : 0;
}

static slice revision_id(struct history *h, slice id, int64_t revision)
{
    const char *text = arena_printf(h->out->arena, "%.*s::v%" PRId64, SLICE_ARG(id), revision);
    return text ? slice_of(text) : SLICE_NONE;
}

static och_code load_tracker(struct history *h, slice id, struct tracker *tracker, och_error *err)
{
    struct arena scratch;
    struct record record;
    bool found;
    slice name = revision_id(h, id, 0);
    if (!name.at)
        return FAIL_NO_MEMORY(err, "a revision");
    arena_init(&scratch, NULL, 0);
    och_code code =
        record_find(h->run, h->run->before, name, RECORD_METADATA, &scratch, &record, &found, err);
    *tracker = (struct tracker){.id = id};
    if (code == OCH_OK && found) {
        tracker->last = int_of(record.metadata, "max_version");
        tracker->first = int_of(record.metadata, "generation_start_pos");
        tracker->first_source = int_of(record.metadata, "generation_start_source_ver");
    }
    arena_done(&scratch);
    return code;
}

static och_code find_tracker(struct history *h, slice id, struct tracker **ret_tracker,
                             och_error *err)
{
    uint64_t *known = map_find(&h->by_id, id);
    if (known) {
        *ret_tracker = (struct tracker *)(uintptr_t)*known;
        return OCH_OK;
    }
    struct tracker *tracker = ARENA_NEW(&h->arena, struct tracker);
    slice copy = arena_copy(&h->arena, id);
    if (!tracker || !copy.at)
        return FAIL_NO_MEMORY(err, "a revision");
    TRY(load_tracker(h, copy, tracker, err));
    bool is_new;
    uint64_t *place = map_at(&h->by_id, copy, &is_new);
    if (!place || !VEC_PUSH(&h->trackers, tracker))
        return FAIL_NO_MEMORY(err, "a revision");
    *place = (uint64_t)(uintptr_t)tracker;
    *ret_tracker = tracker;
    return OCH_OK;
}

static void put_int(struct buf *out, const char *key, int64_t value)
{
    buf_sized(out, slice_of(key));
    buf_byte(out, META_INT);
    buf_varint(out, 8);
    buf_u64(out, (uint64_t)value);
}

static void put_string(struct buf *out, const char *key, slice value)
{
    buf_sized(out, slice_of(key));
    buf_byte(out, META_STRING);
    buf_sized(out, value);
}

static och_code write_tracker(struct history *h, const struct tracker *tracker, och_error *err)
{
    struct buf metadata CLEANUP(buf_cleanup);
    buf_init(&metadata, BUF_MAX_NONE);
    buf_varint(&metadata, 4); /* keys ascend */
    put_int(&metadata, "generation_start_pos", tracker->first);
    put_int(&metadata, "generation_start_source_ver", tracker->first_source);
    put_int(&metadata, "max_version", tracker->last);
    put_string(&metadata, "original_id", tracker->id);
    TRY(buf_check(&metadata, "a revision", err));
    slice name = revision_id(h, tracker->id, 0);
    if (!name.at)
        return FAIL_NO_MEMORY(err, "a revision");
    return output_upsert(h->out, name, SLICE_NONE, buf_view(&metadata), err);
}

/* ---- numbering ---- */

static bool version_of(const struct history *h, const struct record *record, int64_t *ret_version)
{
    struct meta_entry entry;
    if (!meta_find(record->metadata, h->version_key, &entry) || entry.type != META_INT)
        return false;
    *ret_version = meta_int(&entry);
    return true;
}

/* The number of the next revision; 0: this version has one. */
static int64_t next_revision(struct tracker *t, bool has_version, int64_t version)
{
    int64_t newest, revision;
    bool known = has_version && t->last > 0 && t->first > 0 &&
                 !__builtin_add_overflow(t->first_source, t->last - t->first, &newest) &&
                 version >= newest;
    if (has_version && !known) { /* the first one, or one that begins anew */
        t->first = t->last + 1;
        t->first_source = version;
    }
    if (!has_version || __builtin_sub_overflow(version, t->first_source, &revision) ||
        __builtin_add_overflow(revision, t->first, &revision))
        revision = t->last + 1;
    if (revision <= t->last)
        return 0;
    t->last = revision;
    t->changed = true;
    return revision;
}

/* ---- revisions ---- */

struct revision {
    const struct tracker *tracker;
    int64_t number, version, archived_s;
    bool has_version, is_delete;
    slice metadata; /* of the record; at NULL: none */
};

static och_code encode_revision(const struct revision *r, struct buf *out, och_error *err)
{
    struct buf own CLEANUP(buf_cleanup);
    bool empty;
    buf_init(&own, BUF_MAX_NONE);
    buf_varint(&own, r->has_version ? 5 : 4); /* keys ascend */
    put_int(&own, "archived_at", r->archived_s);
    buf_sized(&own, SLICE("is_delete"));
    buf_byte(&own, META_BOOL);
    buf_varint(&own, 1);
    buf_byte(&own, r->is_delete);
    put_string(&own, "original_id", r->tracker->id);
    if (r->has_version)
        put_int(&own, "source_version", r->version);
    put_int(&own, "version", r->number);
    TRY(buf_check(&own, "a revision", err));
    meta_merge(r->metadata.at ? r->metadata : SLICE("\0"), buf_view(&own), out, &empty);
    return buf_check(out, "a revision", err);
}

static och_code write_revision(struct history *h, const struct revision *r, slice document,
                               och_error *err)
{
    struct buf metadata CLEANUP(buf_cleanup);
    buf_init(&metadata, BUF_MAX_NONE);
    TRY(encode_revision(r, &metadata, err));
    slice name = revision_id(h, r->tracker->id, r->number);
    if (!name.at)
        return FAIL_NO_MEMORY(err, "a revision");
    return output_upsert(h->out, name, document, buf_view(&metadata), err);
}

static och_code archive(struct history *h, struct tracker *tracker, const struct record *record,
                        bool is_delete, och_error *err)
{
    struct revision r = {.tracker = tracker, .archived_s = h->now_s, .is_delete = is_delete};
    r.has_version = version_of(h, record, &r.version);
    int64_t version = r.version;
    if (is_delete && r.has_version && version < INT64_MAX)
        version++; /* behind the version that is deleted */
    r.number = next_revision(tracker, r.has_version, version);
    if (r.number == 0)
        return OCH_OK;
    if (!is_delete)
        r.metadata = record->metadata;
    return write_revision(h, &r, is_delete ? SLICE_NONE : record->document, err);
}

static och_code archive_change(void *context, const struct change *change, och_error *err)
{
    struct history *h = context;
    struct tracker *tracker = NULL;
    TRY(find_tracker(h, change->id, &tracker, err));
    return archive(h, tracker, change->after ? change->after : change->before, !change->after, err);
}

och_code history_step(struct run *run, uint64_t from, uint64_t to, struct output_rows *out,
                      och_error *err)
{
    struct history h;
    och_code code = history_begin(&h, run, out, err);
    if (code == OCH_OK)
        code = changes_walk(run, from, to, true, RECORD_DOCUMENT | RECORD_METADATA, archive_change,
                            &h, err);
    for (size_t i = 0; i < h.trackers.len && code == OCH_OK; i++) {
        if (h.trackers.at[i]->changed)
            code = write_tracker(&h, h.trackers.at[i], err);
    }
    history_end(&h);
    return code;
}

/* ---- rebuild: what the records are now, where the last revision says something else ---- */

static och_code last_revision(struct history *h, const struct tracker *tracker, struct arena *arena,
                              struct record *ret_record, bool *ret_found, och_error *err)
{
    slice name = revision_id(h, tracker->id, tracker->last);
    if (!name.at)
        return FAIL_NO_MEMORY(err, "a revision");
    return record_find(h->run, h->run->before, name, RECORD_DOCUMENT | RECORD_METADATA, arena,
                       ret_record, ret_found, err);
}

static bool is_deleted(slice metadata)
{
    struct meta_entry entry;
    return meta_find(metadata, SLICE("is_delete"), &entry) && entry.type == META_BOOL &&
           meta_bool(&entry);
}

/* Is this record what its last revision says? */
static och_code is_archived(struct history *h, const struct tracker *tracker,
                            const struct record *record, bool *ret_is, och_error *err)
{
    struct arena scratch;
    struct record stored;
    bool found;
    struct buf metadata CLEANUP(buf_cleanup);
    buf_init(&metadata, BUF_MAX_NONE);
    arena_init(&scratch, NULL, 0);
    och_code code = last_revision(h, tracker, &scratch, &stored, &found, err);
    if (code == OCH_OK && found) {
        struct revision r = {.tracker = tracker,
                             .number = tracker->last,
                             .archived_s = int_of(stored.metadata, "archived_at"),
                             .metadata = record->metadata};
        code = encode_revision(&r, &metadata, err);
    }
    *ret_is = code == OCH_OK && found && slice_equal(buf_view(&metadata), stored.metadata) &&
              !record->document.at == !stored.document.at &&
              (!stored.document.at || slice_equal(record->document, stored.document));
    arena_done(&scratch);
    return code;
}

static och_code archive_row(void *context, const struct record *record, och_error *err)
{
    struct history *h = context;
    struct tracker tracker;
    int64_t version;
    bool done = false;
    slice id = arena_copy(h->out->arena, record->id);
    if (!id.at)
        return FAIL_NO_MEMORY(err, "a revision");
    TRY(load_tracker(h, id, &tracker, err));
    int64_t last = tracker.last;
    if (last > 0 && !version_of(h, record, &version))
        TRY(is_archived(h, &tracker, record, &done, err));
    if (!done)
        TRY(archive(h, &tracker, record, false, err));
    if (tracker.last != last)
        TRY(write_tracker(h, &tracker, err));
    return run_write_full(h->run, h->out, err);
}

/* The tracker of a record that is gone: its last revision says so, or will. */
static och_code bury_row(void *context, const struct record *record, och_error *err)
{
    struct history *h = context;
    struct meta_entry entry;
    struct view_place place;
    bool found;
    if (!int_of(record->metadata, "max_version") ||
        !meta_find(record->metadata, SLICE("original_id"), &entry) || entry.type != META_STRING)
        return OCH_OK;
    slice id = arena_copy(h->out->arena, entry.value);
    if (!id.at)
        return FAIL_NO_MEMORY(err, "a revision");
    TRY(view_find(h->run->view, id, &place, &found, err));
    if (found)
        return OCH_OK;
    struct tracker tracker;
    TRY(load_tracker(h, id, &tracker, err));
    struct arena scratch;
    struct record last = {0};
    arena_init(&scratch, NULL, 0);
    och_code code = last_revision(h, &tracker, &scratch, &last, &found, err);
    if (code == OCH_OK && !(found && is_deleted(last.metadata))) {
        struct revision r = {.tracker = &tracker,
                             .number = ++tracker.last,
                             .archived_s = h->now_s,
                             .is_delete = true};
        code = write_revision(h, &r, SLICE_NONE, err);
        if (code == OCH_OK)
            code = write_tracker(h, &tracker, err);
    }
    arena_done(&scratch);
    TRY(code);
    return run_write_full(h->run, h->out, err);
}

och_code history_rebuild(struct run *run, struct output_rows *out, och_error *err)
{
    struct history h;
    och_code code = history_begin(&h, run, out, err);
    if (code == OCH_OK)
        code = rows_walk(run, run->view, RECORD_ID | RECORD_DOCUMENT | RECORD_METADATA, archive_row,
                         &h, err);
    if (code == OCH_OK)
        code = rows_walk(run, run->before, RECORD_METADATA, bury_row, &h, err);
    history_end(&h);
    return code;
}
