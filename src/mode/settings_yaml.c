/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration file, read as a stream of events: a mapping of settings, in which the original's keys may nest.
 * Nothing else that YAML can say (documents, anchors, tags, merge keys) is understood, and none of it is passed over in silence. */
#include "mode/settings_internal.h"

#include <stdlib.h>
#include <yaml.h>

#define DEPTH_MAX 8
#define ITEMS_MAX 1024
#define SKIP_MAX  64 /* nesting inside what has no effect */

struct walk {
    struct settings *settings;
    const char *name; /* of the file */
    och_error *err;
    char path[200]; /* dotted, of the key being read */
    size_t path_len;
    size_t ends[DEPTH_MAX]; /* length of the path at each open mapping */
    size_t depth;
    bool has_key;
    unsigned key_line;
    unsigned skip; /* open levels of a value without effect */
    bool in_list;
    slice items[ITEMS_MAX];
    size_t item_count;
    const struct setting_row *row;   /* of the list */
    unsigned lines[SETTING_ROW_MAX]; /* where each setting was given */
};

static struct setting_given given_here(const struct walk *walk, unsigned line)
{
    return (struct setting_given){
        .source = SETTING_FILE, .where = walk->name, .line = line, .count = 0};
}

static och_code fail_here(struct walk *walk, unsigned line, const char *reason)
{
    return FAIL(walk->err, OCH_SETTING, "%s line %u: %s", walk->name, line, reason);
}

static och_code fail_unknown(struct walk *walk)
{
    slice path = slice_make(walk->path, walk->path_len);
    const char *nearest = setting_nearest(path);
    return FAIL(walk->err, OCH_SETTING, "%s line %u: unknown setting \"%.*s\"%s%s%s", walk->name,
                walk->key_line, (int)min_size(path.len, 64), walk->path,
                nearest ? ". Did you mean \"" : "", nearest ? nearest : "",
                nearest ? "\"?" : ". See \"ochre config print\" for those there are");
}

/* What the key at the path stands for: a setting, nothing (then *ret_row is NULL and a note is kept), or an error. */
static och_code resolve(struct walk *walk, bool *ret_known, const struct setting_row **ret_row)
{
    slice path = slice_make(walk->path, walk->path_len);
    struct setting_given given = given_here(walk, walk->key_line);
    const struct setting_row *row = setting_find(path);
    const struct setting_original *original = row ? NULL : setting_find_original(path);
    TRY(setting_check_retired(path, path, &given, &walk->settings->arena, walk->err));
    *ret_known = row || original;
    if (original && original->ours)
        row = setting_find(slice_of(original->ours));
    if (original && !original->ours) {
        const char *note =
            arena_printf(&walk->settings->arena, "%s line %u: %s has no effect here: %s",
                         walk->name, walk->key_line, walk->path, original->reason);
        TRY(settings_note(walk->settings, note, walk->err));
    }
    *ret_row = row;
    return OCH_OK;
}

static och_code apply(struct walk *walk, const struct setting_row *row, bool is_list,
                      const slice *items, size_t count)
{
    assert(row != NULL); /* keys without one are skipped */
    struct setting_given given = given_here(walk, walk->key_line);
    unsigned *line = &walk->lines[row - setting_rows];
    if (*line)
        return FAIL(walk->err, OCH_SETTING, "%s line %u: %s was set in line %u already", walk->name,
                    walk->key_line, row->name, *line);
    *line = walk->key_line;
    given.is_list = is_list;
    given.items = items;
    given.count = count;
    return setting_apply(walk->settings, row, &given, walk->err);
}

static bool is_null(const yaml_event_t *event)
{
    slice text = slice_make(event->data.scalar.value, event->data.scalar.length);
    return event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
           (text.len == 0 || slice_equal(text, SLICE("~")) ||
            slice_equal_nocase(text, SLICE("null")));
}

static och_code take_key(struct walk *walk, slice key, unsigned line)
{
    size_t end = walk->ends[walk->depth - 1];
    walk->key_line = line;
    if (end + key.len + 2 > sizeof(walk->path) || memchr(key.at, 0, key.len) || key.len == 0)
        return fail_here(walk, line, "the name of a setting is empty or too long");
    if (end > 0)
        walk->path[end++] = '.';
    memcpy(walk->path + end, key.at, key.len);
    walk->path_len = end + key.len;
    walk->path[walk->path_len] = 0;
    walk->has_key = true;
    return OCH_OK;
}

/* Some key of the original lies below the path. */
static bool is_section(const struct walk *walk)
{
    for (size_t i = 0; i < setting_original_count; i++) {
        const char *name = setting_originals[i].name;
        if (setting_originals[i].ours && strlen(name) > walk->path_len &&
            name[walk->path_len] == '.' && memcmp(name, walk->path, walk->path_len) == 0)
            return true;
    }
    return false;
}

static och_code on_scalar(struct walk *walk, const yaml_event_t *event, unsigned line)
{
    slice text = slice_make(event->data.scalar.value, event->data.scalar.length);
    if (walk->skip)
        return OCH_OK;
    if (walk->in_list) {
        if (walk->item_count == ITEMS_MAX)
            return fail_here(walk, line, "the list is too long");
        text = arena_copy(&walk->settings->arena, text);
        if (!text.at)
            return FAIL_NO_MEMORY(walk->err, "the settings");
        walk->items[walk->item_count++] = text;
        return OCH_OK;
    }
    if (walk->depth == 0) {
        if (is_null(event)) /* a file of comments */
            return OCH_OK;
        return fail_here(walk, line, "expected lines like \"port: 8000\"");
    }
    if (!walk->has_key)
        return take_key(walk, text, line);
    walk->has_key = false;
    bool known;
    const struct setting_row *row;
    if (is_null(event) && is_section(walk))
        return OCH_OK;
    TRY(resolve(walk, &known, &row));
    if (!known)
        return fail_unknown(walk);
    if (!row || is_null(event))
        return OCH_OK;
    return apply(walk, row, false, &text, 1);
}

static och_code on_mapping(struct walk *walk, unsigned line)
{
    bool known = false;
    const struct setting_row *row = NULL;
    if (walk->skip)
        return ++walk->skip > SKIP_MAX ? fail_here(walk, line, "too many levels") : OCH_OK;
    if (walk->in_list)
        return fail_here(walk, line, "expected a list of texts");
    if (walk->depth > 0) {
        if (!walk->has_key)
            return fail_here(walk, line, "a setting needs a name");
        walk->has_key = false;
        if (!is_section(walk)) {
            TRY(resolve(walk, &known, &row));
            if (!known)
                return fail_unknown(walk);
            if (row)
                return fail_here(walk, line, "expected a value, got a section");
            walk->skip = 1;
            return OCH_OK;
        }
    }
    if (walk->depth == DEPTH_MAX)
        return fail_here(walk, line, "too many levels");
    walk->ends[walk->depth] = walk->depth == 0 ? 0 : walk->path_len;
    walk->depth++;
    return OCH_OK;
}

static och_code on_sequence(struct walk *walk, unsigned line)
{
    bool known;
    if (walk->skip)
        return ++walk->skip > SKIP_MAX ? fail_here(walk, line, "too many levels") : OCH_OK;
    if (walk->in_list)
        return fail_here(walk, line, "expected a list of texts");
    if (walk->depth == 0 || !walk->has_key)
        return fail_here(walk, line, "expected lines like \"port: 8000\"");
    walk->has_key = false;
    TRY(resolve(walk, &known, &walk->row));
    if (!known)
        return fail_unknown(walk);
    if (!walk->row) {
        walk->skip = 1;
        return OCH_OK;
    }
    walk->in_list = true;
    walk->item_count = 0;
    return OCH_OK;
}

static och_code on_end(struct walk *walk, bool mapping)
{
    if (walk->skip) {
        walk->skip--;
        return OCH_OK;
    }
    if (mapping) {
        walk->depth--;
        return OCH_OK;
    }
    walk->in_list = false;
    return apply(walk, walk->row, true, walk->items, walk->item_count);
}

static och_code on_event(struct walk *walk, const yaml_event_t *event, unsigned *documents)
{
    unsigned line = (unsigned)event->start_mark.line + 1;
    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        return ++*documents > 1 ? fail_here(walk, line, "a second document") : OCH_OK;
    case YAML_ALIAS_EVENT:
        return fail_here(walk, line, "references (*name) are not understood");
    case YAML_SCALAR_EVENT:
        return on_scalar(walk, event, line);
    case YAML_MAPPING_START_EVENT:
        return on_mapping(walk, line);
    case YAML_SEQUENCE_START_EVENT:
        return on_sequence(walk, line);
    case YAML_MAPPING_END_EVENT:
        return on_end(walk, true);
    case YAML_SEQUENCE_END_EVENT:
        return on_end(walk, false);
    default:
        return OCH_OK;
    }
}

static och_code fail_parser(const struct walk *walk, const yaml_parser_t *parser)
{
    if (parser->error == YAML_MEMORY_ERROR)
        return FAIL_NO_MEMORY(walk->err, "the settings");
    return FAIL(walk->err, OCH_SETTING, "%s line %zu: %s%s%s", walk->name,
                parser->problem_mark.line + 1, parser->context ? parser->context : "",
                parser->context ? ": " : "", parser->problem ? parser->problem : "not YAML");
}

och_code settings_read_yaml(struct settings *settings, slice text, const char *name, och_error *err)
{
    struct walk *walk = MEM_NEW(struct walk);
    yaml_parser_t parser;
    if (!walk || !yaml_parser_initialize(&parser)) {
        mem_free(walk);
        return FAIL_NO_MEMORY(err, "the settings");
    }
    *walk = (struct walk){.settings = settings, .name = name, .err = err};
    yaml_parser_set_input_string(&parser, text.at ? text.at : (const uint8_t *)"", text.len);
    unsigned documents = 0;
    och_code code = OCH_OK;
    for (bool more = true; more && code == OCH_OK;) {
        yaml_event_t event;
        if (!yaml_parser_parse(&parser, &event)) {
            code = fail_parser(walk, &parser);
            break;
        }
        more = event.type != YAML_STREAM_END_EVENT && event.type != YAML_NO_EVENT;
        code = on_event(walk, &event, &documents);
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    mem_free(walk);
    return code;
}
