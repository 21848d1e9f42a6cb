/* SPDX-License-Identifier: Apache-2.0 */
/* Damaged files (D1, D4, D8, D10, D19; invariant 10).  Every file of a database, closed well or not, is cut, flipped, zeroed, overwritten, shuffled,
 * exchanged or removed, one at a time at random places.  Whatever is then asked is answered exactly, or with an error that says what is wrong; it
 * never crashes, hangs or answers something else, not after further writes and compactions either.  Damage to derived sections costs no answer.
 * What costs an answer is found by the offline check.
 * OCHRE_CRASH_SEEDS: how many images; OCHRE_CRASH_FIRST: from which; OCHRE_CRASH_SECONDS or OCHRE_SOAK_MINUTES: how long at most; OCHRE_CRASH_TRACE: name each. */
#define MODEL_IDS 240
#include "support/damage.h"

#include "admin/check.h"
#include "part/part_format.h"

#include <unistd.h>

#define HISTORY 40

static struct scene {
    struct world *world;
    struct io *images[2]; /* closed well, not closed */
    struct damage_files files[2];
    struct world_state
        history[HISTORY]; /* after each write that is only in the log, the last first */
    size_t history_count;
    char now[512]; /* what is being tried */
    uint64_t tried, refused_open, refused_reads, harmless, older, found;
} scene;

static void must(och_code code, const och_error *err)
{
    if (code != OCH_OK)
        fail_msg("%s: %s", scene.now, err->message);
}

static void write_to(struct world *w, size_t i, uint32_t rows, uint8_t op)
{
    struct model_write writes[64];
    struct gateway_counts counts;
    och_error err = {0};
    world_use(w, i);
    for (uint32_t row = 0; row < rows; row++) {
        random_write(&w->bench.random, op, &writes[row]);
        model_apply(&w->now.at[i].model, &writes[row]);
    }
    must(bench_write(&w->bench, writes, rows, false, &counts, &err), &err);
}

static void compact(struct world *w, const uuid *collection, bool to_one)
{
    och_error err = {0};
    must(compactor_run(database_compactor(w->bench.database), collection, to_one, &err), &err);
}

/* What the offline check finds; an error of it counts as one. */
static uint64_t faults_of(struct io *io)
{
    struct check_options options = {.path = "data", .deep = true, .io = io};
    struct check_report report = {0};
    och_error err = {0};
    if (check_folder(&options, &report, &err) != OCH_OK) {
        if (!err.message[0])
            fail_msg("check fails without a word");
        return 1;
    }
    uint64_t faults = report.faults;
    check_report_done(&report);
    return faults;
}

/* Three collections: a large one of several parts with deleted rows, two small ones that share a file; and a tail on each. */
static int scene_begin(void **state)
{
    (void)state;
    static const enum metric metrics[] = {METRIC_COSINE, METRIC_L2, METRIC_IP};
    struct world *w = scene.world =
        world_new(number_from("OCHRE_CRASH_SCENE", 5), io_sim_new(false));
    och_error err = {0};
    bench_open(&w->bench);
    for (size_t i = 0; i < COUNT_OF(metrics); i++) {
        char name[16];
        w->bench.metric = metrics[i];
        must(bench_create(&w->bench, world_name((int)i, name), &err), &err);
        w->ids[i] = w->bench.collection;
        w->now.at[i] = (struct world_collection){.name = (int)i, .metric = metrics[i]};
        w->now.count++;
    }
    for (int round = 0; round < 7; round++) {
        for (int batch = 0; batch < 4; batch++)
            write_to(w, 0, 40, BATCH_ADD);
        write_to(w, 0, 30, BATCH_UPSERT);
        write_to(w, 0, 12, BATCH_DELETE);
        compact(w, &w->ids[0], round == 2);
    }
    for (size_t i = 1; i < 3; i++) {
        write_to(w, i, 40, BATCH_ADD);
        write_to(w, i, 8, BATCH_DELETE);
    }
    compact(w, NULL, false);
    for (int batch = 0; batch < 12; batch++) {
        static const uint8_t ops[] = {BATCH_UPSERT, BATCH_ADD, BATCH_DELETE, BATCH_UPDATE};
        memmove(&scene.history[1], &scene.history[0],
                scene.history_count * sizeof(scene.history[0]));
        scene.history[0] = w->now;
        scene.history_count++;
        write_to(w, (size_t)batch % 3, 12, ops[batch % 4]);
    }
    sched_sleep_ns(200000000); // the log notes what is durable
    scene.images[1] = io_sim_copy(w->bench.io);
    must(database_close(w->bench.database, &err), &err);
    database_free(w->bench.database);
    w->bench.database = NULL;
    scene.images[0] = io_sim_copy(w->bench.io);
    for (size_t i = 0; i < 2; i++) {
        damage_list(scene.images[i], &scene.files[i]);
        assert_int_equal(faults_of(scene.images[i]), 0);
    }
    return 0;
}

static int scene_end(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        damage_files_free(&scene.files[i]);
        io_sim_free(scene.images[i]);
    }
    world_free(scene.world);
    return 0;
}

static int say_which(void **state)
{
    (void)state;
    alarm(0);
    if (scene.now[0])
        printf("the last image was: %s\n", scene.now);
    return 0;
}

/* ---- asking everything ---- */

static bool is_damage(och_code code)
{
    return code == OCH_CORRUPT || code == OCH_IO || code == OCH_NOT_FOUND;
}

/* Whether the collections show this state; refused ones, which have no text, could be in any. */
static bool shows_state(const struct world_state *s, const struct buf *shown, const bool *refused)
{
    bool same = true;
    for (size_t i = 0; i < s->count && same; i++) {
        struct buf text;
        buf_init(&text, BUF_MAX_NONE);
        collection_text(&s->at[i], &text);
        same = refused[i] || slice_equal(buf_view(&text), buf_view(&shown[i]));
        buf_done(&text);
    }
    return same;
}

/*
 * Bytes at the end of a log that was not closed look the same lost as never written: then an earlier state is right, a whole one.  A swap may
 * besides have hurt the log of another collection.
 */
static void settle_older(struct world *w)
{
    struct buf shown[WORLD_COLLECTIONS];
    bool refused[WORLD_COLLECTIONS];
    for (size_t i = 0; i < w->now.count; i++) {
        och_error err = {0};
        buf_init(&shown[i], BUF_MAX_NONE);
        refused[i] = rows_text(w->bench.database, w->ids[i], &shown[i], &err) != OCH_OK;
    }
    if (!shows_state(&w->now, shown, refused)) {
        for (size_t i = 0; i < scene.history_count; i++) {
            if (shows_state(&scene.history[i], shown, refused)) {
                w->now = scene.history[i];
                scene.older++;
                break;
            }
        }
    }
    for (size_t i = 0; i < w->now.count; i++)
        buf_done(&shown[i]);
}

static void check_each_id(struct world *w, struct model *m)
{
    for (int id = 0; id < MODEL_IDS; id++) {
        struct arena arena;
        arena_init(&arena, NULL, 0);
        slice name = slice_of(arena_printf(&arena, "id%d", id));
        struct plan plan = {.kind = PLAN_GET,
                            .collection = w->bench.collection,
                            .fields = RECORD_ALL,
                            .limit = PLAN_NO_LIMIT,
                            .has_ids = true,
                            .ids = &name,
                            .id_count = 1};
        struct query_result result = {0};
        och_error err = {0};
        och_code code = gateway_read(database_gateway(w->bench.database), &bench_scope, &plan,
                                     &arena, &result, &err);
        if (!read_refused(&w->bench, code, &err)) {
            const struct model_record *row = model_find(m, id);
            if (result.hits->count != (row != NULL))
                fail_msg("get of id%d answers %zu rows", id, result.hits->count);
            if (row)
                compare_record(&result.hits->rows[0].record, row);
        }
        query_result_done(&result);
        arena_done(&arena);
    }
}

static void check_list(struct world *w)
{
    struct arena arena;
    const struct sysdb_collection **rows = NULL;
    size_t count = 0;
    och_error err = {0};
    char name[16];
    arena_init(&arena, NULL, 0);
    och_code code =
        sysdb_collection_list(database_sysdb(w->bench.database), bench_scope.tenant,
                              bench_scope.database, UINT64_MAX, 0, &arena, &rows, &count, &err);
    if (!read_refused(&w->bench, code, &err)) {
        assert_int_equal(count, w->now.count);
        for (size_t i = 0; i < count; i++) {
            assert_true(slice_equal(rows[i]->name, slice_of(world_name(w->now.at[i].name, name))));
            assert_memory_equal(&rows[i]->id, &w->ids[i], sizeof(uuid));
            sysdb_collection_unref(rows[i]);
        }
    }
    arena_done(&arena);
}

static void check_everything(struct world *w, bool each_id)
{
    check_list(w);
    for (size_t i = 0; i < w->now.count; i++) {
        struct model *m = &w->now.at[i].model;
        world_use(w, i);
        check_all(&w->bench, m);
        if (each_id)
            check_each_id(w, m);
        for (int round = 0; round < 2; round++) {
            struct model_filter filter = random_filter(&w->bench.random);
            check_get(&w->bench, m, &filter, round == 0, 0, PLAN_NO_LIMIT);
            check_query(&w->bench, m, &filter, 1 + (uint32_t)random_below(&w->bench.random, 12));
        }
    }
}

/* Writing and compacting on what is damaged must not turn damage into answers. */
static void go_on(struct world *w)
{
    och_error err = {0};
    for (size_t i = 0; i < w->now.count; i++) {
        w->before = w->now;
        world_use(w, i);
        struct model_write writes[6];
        struct gateway_counts counts;
        for (uint32_t row = 0; row < COUNT_OF(writes); row++) {
            random_write(&w->bench.random, i == 1 ? BATCH_UPDATE : BATCH_UPSERT, &writes[row]);
            model_apply(&w->now.at[i].model, &writes[row]);
        }
        och_code code = bench_write(&w->bench, writes, COUNT_OF(writes), i == 2, &counts, &err);
        if (code != OCH_OK && !is_damage(code) && code != OCH_UNAVAILABLE)
            fail_msg("write: %s", err.message);
        if (code != OCH_OK)
            w->now = w->before;
        error_clear(&err);
        code = compactor_run(database_compactor(w->bench.database), &w->ids[i], true, &err);
        if (code != OCH_OK && !is_damage(code) && code != OCH_UNAVAILABLE)
            fail_msg("compact: %s", err.message);
        error_clear(&err);
    }
    check_everything(w, false);
}

static void close_any(struct world *w)
{
    och_error err = {0};
    if (database_close(w->bench.database, &err) != OCH_OK && !err.message[0])
        fail_msg("close fails without a word");
    database_free(w->bench.database);
    w->bench.database = NULL;
}

static void try_image(struct world *w, const struct world_state *right, bool may_lose_end, bool all)
{
    och_error err = {0};
    uint64_t refused = w->bench.refused, faults = faults_of(w->bench.io);
    w->now = *right;
    och_code code = bench_try_open(&w->bench, &err);
    scene.tried++;
    scene.found += faults != 0;
    if (code != OCH_OK) {
        if (!faults)
            fail_msg("the check found nothing, but: %s", err.message);
        if (!is_damage(code) || !err.message[0])
            fail_msg("open: code %d: %s", (int)code, err.message);
        scene.refused_open++;
        return;
    }
    if (may_lose_end)
        settle_older(w);
    check_everything(w, all);
    if (w->bench.refused != refused && !faults)
        fail_msg("the check found nothing, but: %s", w->bench.refusal.message);
    if (all) {
        go_on(w);
        close_any(w);
        if (bench_try_open(&w->bench, &err) == OCH_OK) {
            check_everything(w, false);
            close_any(w);
        }
    } else {
        close_any(w);
    }
    if (w->bench.refused != refused)
        scene.refused_reads++;
    else
        scene.harmless++;
}

/* Does it reach into the last group of a log that was not closed? */
static bool reaches_end_of_log(const struct damage *d, const struct damage_files *files)
{
    const struct damage_file *last = NULL;
    for (size_t i = 0; i < files->count; i++) {
        if (strstr(files->at[i].path, "/log/") && files->at[i].used > 0)
            last = &files->at[i];
    }
    size_t end = d->kind == DAMAGE_SWAP && d->to > d->from ? d->to : d->from;
    end = d->len > d->file->size - end ? d->file->size : end + d->len;
    return d->file == last && end + 128 > last->used;
}

static void a_damaged_file_costs_no_wrong_answer(void **state)
{
    (void)state;
    struct world *w = scene.world;
    uint64_t images = count_from(8000 / WORLD_SLOW), first = number_from("OCHRE_CRASH_FIRST", 1),
             end = sched_mono_ns() + seconds_from(240) * 1000000000u;
    const struct world_state right = w->now;
    scene.tried = scene.refused_reads = 0;
    bool trace = getenv("OCHRE_CRASH_TRACE") != NULL;
    w->bench.lenient = true;
    struct io *own = w->bench.io;
    for (uint64_t image = first; image < first + images && sched_mono_ns() < end; image++) {
        struct random random;
        random_seed(&random, image);
        random_seed(&w->bench.random, image);
        size_t which = image & 1;
        struct damage d = damage_draw(&random, &scene.files[which]);
        int len = snprintf(scene.now, sizeof(scene.now), "image %" PRIu64 " (%s): ", image,
                           which ? "not closed" : "closed");
        damage_text(&d, scene.now + len, sizeof(scene.now) - (size_t)len);
        w->bench.io = io_sim_copy(scene.images[which]);
        if (damage_do(&d, &random, w->bench.io)) {
            if (trace)
                printf("%s\n", scene.now);
            alarm(60);
            try_image(w, &right, which && reaches_end_of_log(&d, &scene.files[which]),
                      image % 8 == 0);
        }
        io_sim_free(w->bench.io);
    }
    scene.now[0] = '\0';
    alarm(0);
    w->bench.io = own;
    w->now = right;
    printf("%" PRIu64 " images: %" PRIu64 " do not open, %" PRIu64 " refuse some answers, %" PRIu64
           " answer everything (%" PRIu64
           " without lost writes at the end of a log); the check finds something in %" PRIu64 "\n",
           scene.tried, scene.refused_open, scene.refused_reads, scene.harmless, scene.older,
           scene.found);
}

/* ---- derived sections ---- */

struct section {
    size_t offset, size; /* in its file */
    uint32_t id;
};

/* Sections of a part, from its directory; the file they are in. */
static struct damage_file *sections_of(struct damage_files *files, const struct sysdb_part *part,
                                       struct section *ret_sections, size_t max, size_t *ret_count)
{
    char hex[33];
    for (int i = 0; i < 16; i++)
        (void)snprintf(hex + 2 * i, 3, "%02x", part->file.bytes[i]);
    *ret_count = 0;
    for (size_t i = 0; i < files->count; i++) {
        struct damage_file *file = &files->at[i];
        if (!strstr(file->path, hex))
            continue;
        const uint8_t *directory = file->bytes + part->offset + part->dir_offset;
        uint32_t entries = load_u32(directory + 8);
        for (uint32_t e = 0; e < entries && *ret_count < max; e++) {
            const uint8_t *entry = directory + DIRECTORY_SIZE + e * ENTRY_SIZE;
            ret_sections[(*ret_count)++] =
                (struct section){.offset = (size_t)(part->offset + load_u64(entry + 8)),
                                 .size = (size_t)load_u64(entry + 16),
                                 .id = load_u32(entry)};
        }
        return file;
    }
    fail_msg("no file of a part");
    return NULL;
}

static void try_section(struct world *w, const struct damage_file *file, const struct section *s,
                        bool whole)
{
    bool derived = part_section_is_derived(s->id);
    struct damage d = {.kind = whole ? DAMAGE_ZERO : DAMAGE_FLIP,
                       .file = file,
                       .other = file,
                       .from = s->offset +
                               (whole ? 0 : (size_t)random_below(&w->bench.random, s->size)),
                       .len = whole ? s->size : 1,
                       .bit = 4};
    (void)snprintf(scene.now, sizeof(scene.now), "section %s, %s at %zu of %s",
                   part_section_name(s->id), whole ? "zeroed" : "a bit", d.from, file->path);
    w->bench.io = io_sim_copy(scene.images[0]);
    if (damage_do(&d, &w->bench.random, w->bench.io)) {
        och_error err = {0};
        w->bench.lenient = !derived;
        alarm(60);
        if (!faults_of(w->bench.io))
            fail_msg("the check finds nothing");
        must(bench_try_open(&w->bench, &err), &err);
        check_everything(w, true);
        close_any(w);
        scene.tried++;
        if (!derived && s->id == SECTION_VEC && !w->bench.refused)
            fail_msg("%s: nobody noticed", scene.now);
        scene.refused_reads += w->bench.refused != 0;
        w->bench.refused = 0;
    }
    io_sim_free(w->bench.io);
}

static void damage_to_a_derived_section_costs_no_answer(void **state)
{
    (void)state;
    struct world *w = scene.world;
    struct sysdb_version versions[WORLD_COLLECTIONS];
    struct arena arena;
    och_error err = {0};
    arena_init(&arena, NULL, 0);
    struct io *own = w->bench.io;
    w->bench.io = io_sim_copy(scene.images[0]);
    bench_open(&w->bench);
    for (size_t i = 0; i < w->now.count; i++)
        must(sysdb_version_get(database_sysdb(w->bench.database), w->ids[i], &arena, &versions[i],
                               &err),
             &err);
    bench_close(&w->bench);
    io_sim_free(w->bench.io);
    scene.tried = scene.refused_reads = w->bench.refused = 0;
    size_t parts = 0;
    for (size_t i = 0; i < w->now.count; i++) {
        for (size_t p = 0; p < versions[i].part_count; p++, parts++) {
            struct section sections[32];
            size_t count;
            struct damage_file *file = sections_of(&scene.files[0], &versions[i].parts[p], sections,
                                                   COUNT_OF(sections), &count);
            for (size_t s = 0; s < count; s++) {
                if (sections[s].size == 0)
                    continue;
                try_section(w, file, &sections[s], true);
                for (int flips = 0; flips < 2; flips++)
                    try_section(w, file, &sections[s], false);
            }
        }
    }
    scene.now[0] = '\0';
    alarm(0);
    w->bench.io = own;
    printf("%zu parts, %" PRIu64 " damaged sections, %" PRIu64 " primary ones refused\n", parts,
           scene.tried, scene.refused_reads);
    arena_done(&arena);
}

/* ---- sparse indexes, which the model's records have not ---- */

#define SPARSE_ROWS 900
#define SPARSE_SEARCH                                                                            \
    "{\"searches\":[{\"rank\":{\"$knn\":{\"query\":{\"indices\":[%u,%u,%u],\"values\":[1.5,1,0." \
    "25]},"                                                                                      \
    "\"key\":\"sp\",\"limit\":25}},%s\"limit\":{\"limit\":25},"                                  \
    "\"select\":{\"keys\":[\"#score\",\"n\"]}}]}"

/* The answer to a POST, as text; 200 is wanted. */
static void ask(struct world *w, const char *path, const char *body, struct buf *ret_answer)
{
    struct http_handler handler = gateway_handler(database_gateway(w->bench.database));
    size_t len = strlen(body);
    char *padded = calloc(1, len + 64);
    assert_non_null(padded);
    memcpy(padded, body, len);
    struct http_request request = {.method = SLICE("POST"),
                                   .target = slice_of(path),
                                   .path = slice_of(path),
                                   .body = slice_make((const uint8_t *)padded, len),
                                   .peer = SLICE("in-process")};
    struct http_reply reply;
    http_reply_init(&reply, 16u << 20);
    handler.handle(handler.context, &request, &reply);
    if (reply.status >= 300)
        fail_msg("%s: %s: %.*s", scene.now, path, (int)reply.body.len, (const char *)reply.body.at);
    buf_clear(ret_answer);
    buf_slice(ret_answer, buf_view(&reply.body));
    http_reply_done(&reply);
    free(padded);
}

#define SPARSE_BASE "/api/v2/tenants/default_tenant/databases/default_database/collections"

/* A few hundred rows of some of 60 indices each, more often the low ones; a third deleted or changed again. */
static void fill_sparse(struct world *w, const char *path, struct buf *answer)
{
    struct random *r = &w->bench.random;
    struct buf body;
    char target[256];
    buf_init(&body, BUF_MAX_NONE);
    buf_text(&body, "{\"ids\":[");
    for (int i = 0; i < SPARSE_ROWS; i++)
        buf_printf(&body, "%s\"s%d\"", i ? "," : "", i);
    buf_text(&body, "],\"embeddings\":[");
    for (int i = 0; i < SPARSE_ROWS; i++)
        buf_printf(&body, "%s[%d,1]", i ? "," : "", i % 7);
    buf_text(&body, "],\"metadatas\":[");
    for (int i = 0; i < SPARSE_ROWS; i++) {
        buf_printf(&body, "%s{\"n\":%d,\"sp\":{\"#type\":\"sparse_vector\",\"indices\":[",
                   i ? "," : "", i);
        uint64_t mask = random_u64(r) & random_u64(r) & ((1ull << 60) - 1), first = 1;
        mask |= 1; /* one that all rows have: a list of several blocks */
        for (unsigned bit = 0; bit < 60; bit++) {
            if (mask >> bit & 1) {
                buf_printf(&body, "%s%u", first ? "" : ",", bit * bit);
                first = 0;
            }
        }
        buf_text(&body, "],\"values\":[");
        for (int count = __builtin_popcountll(mask); count > 0; count--)
            buf_printf(&body, "%u.5%s", (unsigned)random_below(r, 9), count > 1 ? "," : "");
        buf_text(&body, "]}}");
    }
    buf_text(&body, "]}");
    buf_byte(&body, 0);
    (void)snprintf(target, sizeof(target), "%s/add", path);
    ask(w, target, (const char *)body.at, answer);
    (void)snprintf(target, sizeof(target), "%s/delete", path);
    ask(w, target, "{\"where\":{\"n\":{\"$lt\":90}}}", answer);
    buf_done(&body);
}

/* All searches, one text. */
static void search_sparse(struct world *w, const char *path, struct buf *ret_answers)
{
    struct buf answer;
    char target[256], body[600];
    buf_init(&answer, BUF_MAX_NONE);
    buf_clear(ret_answers);
    (void)snprintf(target, sizeof(target), "%s/search", path);
    for (unsigned i = 0; i < 12; i++) {
        const char *filter = i % 3 ? "" : "\"filter\":{\"n\":{\"$lt\":500}},";
        (void)snprintf(body, sizeof(body), SPARSE_SEARCH, i * i, (i + 9) * (i + 9), 59u * 59u,
                       filter);
        ask(w, target, body, &answer);
        buf_slice(ret_answers, buf_view(&answer));
    }
    buf_done(&answer);
}

static struct section sparse_section(struct world *w, const char *id, struct damage_files *files,
                                     struct damage_file **ret_file)
{
    struct sysdb_version version;
    struct arena arena;
    struct section sections[32], found = {0};
    och_error err = {0};
    uuid collection;
    size_t count;
    arena_init(&arena, NULL, 0);
    assert_true(uuid_parse(slice_of(id), &collection));
    must(sysdb_version_get(database_sysdb(w->bench.database), collection, &arena, &version, &err),
         &err);
    assert_int_equal(version.part_count, 1);
    *ret_file = sections_of(files, &version.parts[0], sections, COUNT_OF(sections), &count);
    for (size_t i = 0; i < count; i++)
        found = sections[i].id == SECTION_SPRS ? sections[i] : found;
    arena_done(&arena);
    assert_true(found.size > 4096); /* else there is little to damage */
    assert_true(part_section_is_derived(found.id));
    return found;
}

static void damage_to_a_sparse_index_costs_no_answer(void **state)
{
    (void)state;
    struct world *w = scene.world;
    struct io *own = w->bench.io, *image;
    struct buf right, got;
    och_error err = {0};
    char id[UUID_TEXT_SIZE], path[200], remove[220], name[200];
    static struct damage_files files;
    struct damage_file *file;
    buf_init(&right, BUF_MAX_NONE);
    buf_init(&got, BUF_MAX_NONE);
    w->bench.io = io_sim_new(false);
    bench_open(&w->bench);
    ask(w, SPARSE_BASE,
        "{\"name\":\"sparse\",\"schema\":{\"defaults\":{},\"keys\":{\"sp\":{\"sparse_vector\":"
        "{\"sparse_vector_index\":{\"enabled\":true,\"config\":{\"bm25\":false}}}}}}}",
        &got);
    memcpy(id, got.at + 7, 36); /* {"id":"... */
    id[36] = '\0';
    (void)snprintf(path, sizeof(path), "%s/%s", SPARSE_BASE, id);
    (void)snprintf(remove, sizeof(remove), "%s/delete", path);
    fill_sparse(w, path, &got);
    compact(w, NULL, true);
    search_sparse(w, path, &right);
    damage_list(w->bench.io, &files);
    struct section section = sparse_section(w, id, &files, &file);
    (void)snprintf(name, sizeof(name), "%s", file->path);
    bench_close(&w->bench);
    damage_files_free(&files);
    damage_list(w->bench.io, &files); /* as it was closed; the part is where it was */
    image = w->bench.io;
    uint64_t tried = 0;
    for (size_t i = 0; i < files.count; i++)
        file = strcmp(files.at[i].path, name) == 0 ? &files.at[i] : file;
    for (int round = 0; round < 120 / WORLD_SLOW; round++) {
        bool whole = round == 0;
        size_t at = whole ? 0 : (size_t)random_below(&w->bench.random, section.size);
        struct damage d = {.kind = round % 3 ? DAMAGE_FLIP : DAMAGE_ZERO,
                           .file = file,
                           .other = file,
                           .from = section.offset + at,
                           .len = whole                    ? section.size
                                  : round % 3              ? 1
                                  : section.size - at < 64 ? section.size - at
                                                           : 64,
                           .bit = (uint8_t)(1u << round % 8)};
        (void)snprintf(scene.now, sizeof(scene.now), "%s %zu bytes at %zu of the sparse section",
                       d.kind == DAMAGE_FLIP ? "a bit of" : "zeros over", d.len, at);
        w->bench.io = io_sim_copy(image);
        if (damage_do(&d, &w->bench.random, w->bench.io)) {
            alarm(60);
            if (!faults_of(w->bench.io))
                fail_msg("%s: the check finds nothing", scene.now);
            must(bench_try_open(&w->bench, &err), &err);
            search_sparse(w, path, &got);
            if (!slice_equal(buf_view(&got), buf_view(&right)))
                fail_msg("%s: another answer", scene.now);
            bool again = round % 10 == 0;
            if (again) { /* compaction makes it anew */
                ask(w, remove, "{\"ids\":[\"s899\"]}", &got);
                compact(w, NULL, true);
            }
            bench_close(&w->bench);
            if (again && faults_of(w->bench.io))
                fail_msg("%s: it is still there after a compaction", scene.now);
            tried++;
        }
        io_sim_free(w->bench.io);
    }
    scene.now[0] = '\0';
    alarm(0);
    printf("a sparse index of %zu bytes, damaged %" PRIu64 " times\n", section.size, tried);
    damage_files_free(&files);
    io_sim_free(image);
    w->bench.io = own;
    buf_done(&right);
    buf_done(&got);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(damage_to_a_derived_section_costs_no_answer, say_which),
        cmocka_unit_test_teardown(damage_to_a_sparse_index_costs_no_answer, say_which),
        cmocka_unit_test_teardown(a_damaged_file_costs_no_wrong_answer, say_which),
    };
    return cmocka_run_group_tests(tests, scene_begin, scene_end);
}
