/* SPDX-License-Identifier: Apache-2.0 */
/* The recorded exchanges about configuration and schema, replayed against model/schema.h alone: every create and update of a
 * collection in the scenario files, and the collections read back. */
#include "model/schema.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define COLLECTION_MAX 256
#define PAIR_MAX       64
struct collection {
    slice name, variable; /* variable: what the scenario calls its id */
    slice stored;
    struct batch_pair pairs[PAIR_MAX];
    size_t pair_count;
};
struct replay {
    struct arena arena;
    struct collection collections[COLLECTION_MAX];
    size_t count;
    unsigned judged;
    const char *file;
    slice scenario;
};

static const struct schema_options options = {.spann = false, .thread_count = 2};

static slice read_file(struct arena *arena, const char *name)
{
    static const char *const folders[] = {"tests/conform/scenarios",
                                          "../shared/conformance/scenarios"};
    for (size_t i = 0; i < COUNT_OF(folders); i++) {
        char path[200];
        snprintf(path, sizeof(path), "%s/%s.json", folders[i], name);
        FILE *file = fopen(path, "rb");
        if (!file)
            continue;
        size_t cap = 4u << 20;
        uint8_t *at = arena_alloc(arena, cap);
        assert_non_null(at);
        size_t len = fread(at, 1, cap, file);
        fclose(file);
        assert_true(len < cap);
        return slice_make(at, len);
    }
    return SLICE_NONE;
}

static struct json_value parse(struct arena *arena, slice text)
{
    struct json_value value;
    struct json_fault fault;
    och_error err = {0};
    if (json_read(text, &(struct json_options){0}, arena, &value, &fault, &err) != OCH_OK)
        fail_msg("%s in %.*s", err.message, SLICE_ARG(text));
    return value;
}

static bool is_text(const struct json_value *value, const char *text)
{
    return value && value->kind == JSON_STRING && slice_equal(value->string, slice_of(text));
}

/* Placeholders of the kit: "<any>", "<int>", "<string>", "{{x}}". */
static bool matches(const struct json_value *wanted, const struct json_value *found)
{
    if (is_text(wanted, "<any>") ||
        (wanted->kind == JSON_STRING && slice_starts_with(wanted->string, SLICE("{{"))))
        return true;
    if (is_text(wanted, "<int>"))
        return found->kind == JSON_INT;
    if (wanted->kind != found->kind)
        return false;
    if (wanted->kind == JSON_OBJECT) {
        if (wanted->count != found->count)
            return false;
        for (uint32_t i = 0; i < wanted->count; i++) {
            const struct json_value *inner = json_get(found, wanted->members[i].name);
            if (!inner || !matches(&wanted->members[i].value, inner))
                return false;
        }
        return true;
    }
    return json_equal(wanted, found);
}

static slice text_of(struct arena *arena, const struct json_value *value)
{
    struct buf buf;
    buf_init(&buf, BUF_MAX_NONE);
    json_write_value(&buf, value);
    slice copy = arena_copy(arena, buf_view(&buf));
    buf_done(&buf);
    return copy;
}

/* The two members of a Collection that a schema decides. */
static struct json_value shown(struct replay *replay, const struct collection *collection)
{
    struct buf buf;
    och_error err = {0};
    buf_init(&buf, BUF_MAX_NONE);
    buf_text(&buf, "{\"configuration_json\":");
    if (schema_write_configuration(collection->stored, &replay->arena, &buf, &err) != OCH_OK)
        fail_msg("%s", err.message);
    buf_text(&buf, ",\"schema\":");
    if (schema_write(collection->stored, collection->pairs, collection->pair_count, &replay->arena,
                     &buf, &err) != OCH_OK)
        fail_msg("%s", err.message);
    buf_text(&buf, "}");
    slice copy = arena_copy(&replay->arena, buf_view(&buf));
    buf_done(&buf);
    return parse(&replay->arena, copy);
}

static void compare(struct replay *replay, const struct json_value *answer,
                    const struct collection *collection)
{
    static const char *const members[] = {"configuration_json", "schema"};
    struct json_value found = shown(replay, collection);
    const struct json_value *body = json_get(answer, SLICE("body"));
    for (size_t i = 0; i < COUNT_OF(members); i++) {
        const struct json_value *wanted = body ? json_get(body, slice_of(members[i])) : NULL;
        const struct json_value *inner = json_get(&found, slice_of(members[i]));
        if (wanted && !matches(wanted, inner)) {
            slice left = text_of(&replay->arena, wanted), right = text_of(&replay->arena, inner);
            fail_msg("%s %.*s: wanted %.*s\n found %.*s", replay->file, SLICE_ARG(replay->scenario),
                     SLICE_ARG(left), SLICE_ARG(right));
        }
    }
    const struct json_value *places = json_get(answer, SLICE("at"));
    for (uint32_t i = 0; places && i < places->count; i++) {
        slice path = places->members[i].name;
        const struct json_value *inner = &found;
        if (!slice_starts_with(path, SLICE("schema/")) &&
            !slice_starts_with(path, SLICE("configuration_json/")))
            continue;
        while (inner && path.len > 0) {
            const uint8_t *slash = memchr(path.at, '/', path.len);
            size_t len = slash ? (size_t)(slash - path.at) : path.len;
            inner = json_get(inner, slice_make(path.at, len));
            path = slice_from(path, slash ? len + 1 : len);
        }
        if (!inner || !matches(&places->members[i].value, inner))
            fail_msg("%s %.*s: not so: %.*s", replay->file, SLICE_ARG(replay->scenario),
                     SLICE_ARG(places->members[i].name));
    }
    replay->judged++;
}

/* "<fixed prefix><path>: ": what a message must begin with. */
static void compare_message(struct replay *replay, const struct json_value *answer, och_code code,
                            const och_error *err)
{
    const struct json_value *body = json_get(answer, SLICE("body"));
    const struct json_value *message = body ? json_get(body, SLICE("message")) : NULL;
    if (!message)
        return;
    char mine[1200];
    snprintf(mine, sizeof(mine), "%s%s",
             code == OCH_SHAPE ? "Failed to deserialize the JSON body into the target type: " : "",
             err->message);
    slice wanted = message->string;
    size_t end = 0;
    unsigned colons = 0;
    for (size_t i = 0; i + 1 < wanted.len; i++)
        if (wanted.at[i] == ':' && wanted.at[i + 1] == ' ' && ++colons == 2)
            end = i;
    if (code != OCH_SHAPE) /* rules: to the letter, we may add a reason */
        end =
            slice_starts_with(wanted, SLICE("Failed to parse the request body")) ? end : wanted.len;
    if (!slice_starts_with(slice_of(mine), slice_make(wanted.at, end)))
        fail_msg("%s %.*s:\n wanted %.*s\n found  %s", replay->file, SLICE_ARG(replay->scenario),
                 SLICE_ARG(wanted), mine);
}

static int64_t status_of(och_code code)
{
    return code == OCH_OK ? 200 : code == OCH_SHAPE ? 422 : code == OCH_INVALID ? 400 : 500;
}

static struct collection *find(struct replay *replay, slice name)
{
    for (size_t i = replay->count; i > 0; i--)
        if (slice_equal(replay->collections[i - 1].name, name) ||
            slice_equal(replay->collections[i - 1].variable, name))
            return &replay->collections[i - 1];
    return NULL;
}

static bool is_about_schema(struct replay *replay, const struct json_value *body)
{
    slice text = text_of(&replay->arena, body);
    return json_get(body, SLICE("configuration")) || json_get(body, SLICE("schema")) ||
           json_get(body, SLICE("new_configuration")) ||
           memmem(text.at, text.len, "\"hnsw:", 6) != NULL;
}

static void judge(struct replay *replay, const struct json_value *step,
                  const struct json_value *answer, och_code code, const och_error *err,
                  slice stored)
{
    const struct json_value *status = json_get(answer, SLICE("status"));
    if (status && status->integer != status_of(code)) {
        slice text = text_of(&replay->arena, json_get(step, SLICE("body")));
        fail_msg("%s %.*s: %.*s: %s, wanted %d", replay->file, SLICE_ARG(replay->scenario),
                 SLICE_ARG(text), code ? err->message : "accepted", (int)status->integer);
    }
    if (code != OCH_OK) {
        compare_message(replay, answer, code, err);
        replay->judged++;
    } else if (stored.at) {
        compare(replay, answer, &(struct collection){.stored = stored});
    }
}

static void create(struct replay *replay, const struct json_value *step,
                   const struct json_value *answer, const struct json_value *body)
{
    const struct json_value *name = json_get(body, SLICE("name"));
    const struct json_value *reuse = json_get(body, SLICE("get_or_create"));
    if (!name || name->kind != JSON_STRING)
        return;
    struct collection *existing = find(replay, name->string);
    if (existing) {
        if (reuse && reuse->boolean)
            compare(replay, answer, existing);
        return;
    }
    const struct json_value *configuration = json_get(body, SLICE("configuration"));
    const struct json_value *schema = json_get(body, SLICE("schema"));
    och_error err = {0};
    slice stored = SLICE_NONE;
    och_code code = schema_check_shape(configuration, schema, &err);
    if (code == OCH_OK)
        code = schema_create(configuration, schema, json_get(body, SLICE("metadata")), &options,
                             &replay->arena, &stored, &err);
    if (code != OCH_OK && json_get(step, SLICE("alternatives")))
        return;
    judge(replay, step, answer, code, &err, stored);
    if (code != OCH_OK)
        return;
    assert_true(replay->count < COLLECTION_MAX);
    struct collection *made = &replay->collections[replay->count++];
    *made = (struct collection){.name = name->string, .stored = stored};
    const struct json_value *save = json_get(step, SLICE("save"));
    if (save && save->count == 1)
        made->variable = save->members[0].name;
}

static slice last_part(slice path)
{
    size_t at = path.len;
    while (at > 0 && path.at[at - 1] != '/')
        at--;
    slice part = slice_from(path, at);
    if (slice_starts_with(part, SLICE("{{")) && part.len > 4)
        part = slice_make(part.at + 2, part.len - 4);
    return part;
}

static void update(struct replay *replay, const struct json_value *step,
                   const struct json_value *answer, const struct json_value *body)
{
    struct collection *collection = find(replay, last_part(json_get(step, SLICE("path"))->string));
    const struct json_value *change = json_get(body, SLICE("new_configuration"));
    if (!collection)
        return;
    och_error err = {0};
    slice stored = SLICE_NONE;
    och_code code = schema_check_update_shape(change, &err);
    if (code == OCH_OK)
        code = schema_update(collection->stored, change, &replay->arena, &stored, &err);
    judge(replay, step, answer, code, &err, SLICE_NONE);
    if (code == OCH_OK)
        collection->stored = stored;
    const struct json_value *name = json_get(body, SLICE("new_name"));
    if (code == OCH_OK && name && name->kind == JSON_STRING)
        collection->name = name->string;
}

/* What a write tells the schema: the pairs of its metadata. */
static void write_records(struct replay *replay, slice path, const struct json_value *body)
{
    size_t end = path.len;
    while (end > 0 && path.at[end - 1] != '/')
        end--;
    slice op = slice_from(path, end);
    if (end == 0 || !(slice_equal(op, SLICE("add")) || slice_equal(op, SLICE("upsert")) ||
                      slice_equal(op, SLICE("update"))))
        return;
    struct collection *collection = find(replay, last_part(slice_make(path.at, end - 1)));
    const struct json_value *rows = json_get(body, SLICE("metadatas"));
    for (uint32_t i = 0; collection && rows && rows->kind == JSON_ARRAY && i < rows->count; i++) {
        struct buf encoded;
        och_error err = {0};
        buf_init(&encoded, BUF_MAX_NONE);
        struct meta_iter iter;
        struct meta_entry entry;
        if (rows->items[i].kind == JSON_OBJECT &&
            meta_from_json(&rows->items[i], META_ALLOW_DELETE, &encoded, &err) == OCH_OK) {
            meta_iter_init(&iter, arena_copy(&replay->arena, buf_view(&encoded)));
            while (meta_iter_next(&iter, &entry)) {
                int type = meta_schema_type(entry.type);
                if (type >= 0 && collection->pair_count < PAIR_MAX)
                    collection->pairs[collection->pair_count++] =
                        (struct batch_pair){entry.key, (uint8_t)type};
            }
        }
        buf_done(&encoded);
    }
}

static void step_once(struct replay *replay, const struct json_value *step)
{
    const struct json_value *method = json_get(step, SLICE("method"));
    const struct json_value *path = json_get(step, SLICE("path"));
    const struct json_value *body = json_get(step, SLICE("body"));
    const struct json_value *answer = json_get(step, SLICE("ours"));
    if (!answer)
        answer = json_get(step, SLICE("expect"));
    const struct json_value *status = answer ? json_get(answer, SLICE("status")) : NULL;
    if (!method || !path || !status)
        return;
    if (is_text(method, "POST") && is_text(path, "collections")) {
        if (body && body->kind == JSON_OBJECT &&
            (status->integer == 200 || is_about_schema(replay, body)))
            create(replay, step, answer, body);
    } else if (is_text(method, "POST") && status->integer < 300 && body) {
        write_records(replay, path->string, body);
    } else if (is_text(method, "PUT")) {
        if (body && body->kind == JSON_OBJECT &&
            (status->integer == 200 || is_about_schema(replay, body)))
            update(replay, step, answer, body);
    } else if (is_text(method, "GET") && status->integer == 200) {
        const struct collection *collection = find(replay, last_part(path->string));
        const struct json_value *inner = json_get(answer, SLICE("body"));
        if (collection && inner && json_get(inner, SLICE("configuration_json")))
            compare(replay, answer, collection);
    }
}

static void replay_file(const char *name, unsigned judged_min)
{
    struct replay replay = {.file = name};
    arena_init(&replay.arena, NULL, 0);
    slice text = read_file(&replay.arena, name);
    if (!text.at) {
        arena_done(&replay.arena);
        skip();
    }
    struct json_value file = parse(&replay.arena, text);
    const struct json_value *scenarios = json_get(&file, SLICE("scenarios"));
    assert_non_null(scenarios);
    for (uint32_t i = 0; i < scenarios->count; i++) {
        const struct json_value *steps = json_get(&scenarios->items[i], SLICE("steps"));
        replay.scenario = json_get(&scenarios->items[i], SLICE("name"))->string;
        replay.count = 0;
        for (uint32_t s = 0; s < steps->count; s++)
            step_once(&replay, &steps->items[s]);
    }
    if (replay.judged < judged_min)
        fail_msg("%s: only %u exchanges judged", name, replay.judged);
    arena_done(&replay.arena);
}

static void creating_answers_as_recorded(void **state)
{
    (void)state;
    replay_file("04-create-collection", 80);
}
static void reading_answers_as_recorded(void **state)
{
    (void)state;
    replay_file("05-read-collection", 10);
}
static void updating_answers_as_recorded(void **state)
{
    (void)state;
    replay_file("06-update-collection", 20);
}
static void differences_are_as_promised(void **state)
{
    (void)state;
    replay_file("20-differences", 10);
}
static void sparse_schemas_are_accepted(void **state)
{
    (void)state;
    replay_file("23-sparse", 3);
}
static void schemas_with_disabled_indexes_are_accepted(void **state)
{
    (void)state;
    replay_file("24-schema", 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(creating_answers_as_recorded),
        cmocka_unit_test(reading_answers_as_recorded),
        cmocka_unit_test(updating_answers_as_recorded),
        cmocka_unit_test(differences_are_as_promised),
        cmocka_unit_test(sparse_schemas_are_accepted),
        cmocka_unit_test(schemas_with_disabled_indexes_are_accepted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
