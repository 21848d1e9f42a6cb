/* SPDX-License-Identifier: Apache-2.0 */
/* GET /openapi.json: the routes (route.c) with what openapi.json in this folder says about them; /docs/: the page that shows it.
 *
 * Paths and methods come from the table of routes alone, words and shapes from the file alone.  A route without an entry
 * is left out, which a test refuses.  The file's members:
 *   info, tags, components  as in OpenAPI 3.1; components has parameters and schemas
 *   path_parameters         the path before a '*', or the segment before it -> a name in components.parameters
 *   errors                  status -> when (always; body: requests with one; path: a '*' in the path; named) and description
 *   operations              "METHOD pattern" -> id, tag, summary, description; parameters: names of components.parameters;
 *                           request: a schema's name; answers: status -> a schema's name or a whole response; errors: statuses */
#include "base/embed.h"
#include "gateway/http/exchange.h"

#include <stdio.h>
#include <string.h>

EMBED_FILE(openapi_source, "gateway/http/openapi.json");
EMBED_FILE(page_html, "gateway/http/web/page.html");
EMBED_FILE(page_js, "gateway/http/web/page.js");
EMBED_FILE(page_css, "gateway/http/web/page.css");

slice openapi_embedded(void)
{
    return EMBEDDED(openapi_source);
}

static slice text_of(const struct json_value *object, const char *name)
{
    const struct json_value *value = json_get(object, slice_of(name));
    return value && value->kind == JSON_STRING ? value->string : SLICE_NONE;
}

/* The members of an object, or none. */
static uint32_t member_count(const struct json_value *object)
{
    return object && object->kind == JSON_OBJECT ? object->count : 0;
}

static uint8_t last_byte(const struct buf *out)
{
    return out->len > 0 ? out->at[out->len - 1] : '{';
}

static void write_name(struct buf *out, slice name)
{
    if (last_byte(out) != '{')
        buf_byte(out, ',');
    json_write_string(out, name);
    buf_byte(out, ':');
}

static void write_reference(struct buf *out, const char *kind, slice name)
{
    if (last_byte(out) == '}')
        buf_byte(out, ',');
    buf_printf(out, "{\"$ref\":\"#/components/%s/%.*s\"}", kind, SLICE_ARG(name));
}

static void copy_member(struct buf *out, const struct json_value *from, const char *name,
                        const char *as)
{
    const struct json_value *value = json_get(from, slice_of(name));
    if (!value)
        return;
    write_name(out, slice_of(as));
    json_write_value(out, value);
}

static void write_json_content(struct buf *out, slice schema)
{
    write_name(out, SLICE("content"));
    buf_text(out, "{\"application/json\":{\"schema\":");
    buf_printf(out, "{\"$ref\":\"#/components/schemas/%.*s\"}}}", SLICE_ARG(schema));
}

/* ---- paths ---- */

/* The name of the parameter that the '*' at `star` stands for. */
static slice star_name(const struct json_value *source, const char *pattern, const char *star)
{
    const struct json_value *names = json_get(source, SLICE("path_parameters"));
    slice before = slice_make(pattern, star > pattern ? (size_t)(star - pattern) - 1 : 0);
    const struct json_value *name = json_get(names, before);
    if (!name) {
        size_t at = before.len;
        while (at > 0 && before.at[at - 1] != '/')
            at--;
        name = json_get(names, slice_from(before, at));
    }
    return name && name->kind == JSON_STRING ? name->string : SLICE("unnamed");
}

static void write_path(struct buf *out, const struct json_value *source, const char *pattern)
{
    struct buf path;
    buf_init(&path, 1024);
    buf_byte(&path, '/');
    for (const char *at = pattern; *at; at++) {
        if (*at == '*')
            buf_printf(&path, "{%.*s}", SLICE_ARG(star_name(source, pattern, at)));
        else
            buf_byte(&path, (uint8_t)*at);
    }
    write_name(out, buf_view(&path));
    buf_done(&path);
    buf_text(out, "{\"parameters\":[");
    for (const char *at = pattern; *at; at++)
        if (*at == '*')
            write_reference(out, "parameters", star_name(source, pattern, at));
    write_reference(out, "parameters", SLICE("deadline"));
    buf_byte(out, ']');
}

/* ---- operations ---- */

static bool names_status(const struct json_value *statuses, slice status)
{
    for (uint32_t i = 0; statuses && statuses->kind == JSON_ARRAY && i < statuses->count; i++) {
        char text[24];
        int len = snprintf(text, sizeof(text), "%lld", (long long)statuses->items[i].integer);
        if (slice_equal(slice_make(text, (size_t)len), status))
            return true;
    }
    return false;
}

static void write_answers(struct buf *out, const struct json_value *source,
                          const struct json_value *operation, const char *pattern)
{
    const struct json_value *answers = json_get(operation, SLICE("answers"));
    write_name(out, SLICE("responses"));
    buf_byte(out, '{');
    for (uint32_t i = 0; i < member_count(answers); i++) {
        const struct json_value *answer = &answers->members[i].value;
        write_name(out, answers->members[i].name);
        if (answer->kind != JSON_STRING) {
            json_write_value(out, answer);
            continue;
        }
        buf_text(out, "{\"description\":");
        json_write_string(out, answer->string);
        write_json_content(out, answer->string);
        buf_byte(out, '}');
    }
    const struct json_value *errors = json_get(source, SLICE("errors"));
    for (uint32_t i = 0; i < member_count(errors); i++) {
        slice status = errors->members[i].name, when = text_of(&errors->members[i].value, "when");
        bool wanted = slice_equal(when, SLICE("always")) ||
                      (slice_equal(when, SLICE("body")) && text_of(operation, "request").at) ||
                      (slice_equal(when, SLICE("path")) && strchr(pattern, '*')) ||
                      names_status(json_get(operation, SLICE("errors")), status);
        if (!wanted || json_get(answers, status))
            continue;
        write_name(out, status);
        buf_printf(out, "{\"$ref\":\"#/components/responses/%.*s\"}", SLICE_ARG(status));
    }
    buf_byte(out, '}');
}

static void write_operation(struct buf *out, const struct json_value *source, const char *method,
                            const char *pattern, const struct json_value *operation)
{
    char lower[16];
    size_t len = 0;
    for (; method[len] && len < sizeof(lower); len++)
        lower[len] = (char)(method[len] | 0x20);
    write_name(out, slice_make(lower, len));
    buf_byte(out, '{');
    copy_member(out, operation, "id", "operationId");
    write_name(out, SLICE("tags"));
    buf_byte(out, '[');
    json_write_string(out, text_of(operation, "tag"));
    buf_byte(out, ']');
    copy_member(out, operation, "summary", "summary");
    copy_member(out, operation, "description", "description");
    const struct json_value *parameters = json_get(operation, SLICE("parameters"));
    if (parameters && parameters->kind == JSON_ARRAY) {
        write_name(out, SLICE("parameters"));
        buf_byte(out, '[');
        for (uint32_t i = 0; i < parameters->count; i++)
            write_reference(out, "parameters", parameters->items[i].string);
        buf_byte(out, ']');
    }
    slice request = text_of(operation, "request");
    if (request.at) {
        write_name(out, SLICE("requestBody"));
        buf_text(out, "{\"required\":true");
        write_json_content(out, request);
        buf_byte(out, '}');
    }
    write_answers(out, source, operation, pattern);
    buf_byte(out, '}');
}

static const struct json_value *find_operation(const struct json_value *source, const char *method,
                                               const char *pattern, struct arena *arena)
{
    const char *name = arena_printf(arena, "%s %s", method, pattern);
    const struct json_value *operations = json_get(source, SLICE("operations"));
    return name && operations ? json_get(operations, slice_of(name)) : NULL;
}

/* Routes of one path follow each other in the answer, wherever they stand in the table. */
static void write_paths(struct exchange *x, const struct json_value *source)
{
    struct buf *out = &x->reply->body;
    const char *method, *pattern, *other;
    write_name(out, SLICE("paths"));
    buf_byte(out, '{');
    for (size_t i = 0; i < route_count(); i++) {
        route_name(i, &method, &pattern);
        bool seen = false;
        for (size_t j = 0; j < i && !seen; j++) {
            route_name(j, &method, &other);
            seen = strcmp(other, pattern) == 0;
        }
        if (seen)
            continue;
        write_path(out, source, pattern);
        for (size_t j = i; j < route_count(); j++) {
            route_name(j, &method, &other);
            const struct json_value *operation =
                strcmp(other, pattern) == 0 ? find_operation(source, method, pattern, &x->arena)
                                            : NULL;
            if (operation)
                write_operation(out, source, method, pattern, operation);
        }
        buf_byte(out, '}');
    }
    buf_byte(out, '}');
}

/* ---- the whole ---- */

static void write_info(struct exchange *x, const struct json_value *source)
{
    struct buf *out = &x->reply->body;
    const struct json_value *info = json_get(source, SLICE("info"));
    write_name(out, SLICE("info"));
    buf_text(out, "{\"version\":");
    json_write_string(out, slice_of(x->gateway->options.version));
    for (uint32_t i = 0; i < member_count(info); i++) {
        write_name(out, info->members[i].name);
        json_write_value(out, &info->members[i].value);
    }
    buf_byte(out, '}');
}

static void write_components(struct buf *out, const struct json_value *source)
{
    const struct json_value *components = json_get(source, SLICE("components"));
    const struct json_value *errors = json_get(source, SLICE("errors"));
    write_name(out, SLICE("components"));
    buf_byte(out, '{');
    copy_member(out, components, "parameters", "parameters");
    copy_member(out, components, "schemas", "schemas");
    write_name(out, SLICE("responses"));
    buf_byte(out, '{');
    for (uint32_t i = 0; i < member_count(errors); i++) {
        write_name(out, errors->members[i].name);
        buf_byte(out, '{');
        copy_member(out, &errors->members[i].value, "description", "description");
        write_json_content(out, SLICE("Error"));
        buf_byte(out, '}');
    }
    buf_text(out, "}}");
}

och_code handle_openapi(struct exchange *x, och_error *err)
{
    struct json_value source;
    struct json_fault fault;
    TRY(json_read(openapi_embedded(), NULL, &x->arena, &source, &fault, err));
    struct buf *out = &x->reply->body;
    buf_text(out, "{\"openapi\":\"3.1.0\"");
    write_info(x, &source);
    copy_member(out, &source, "tags", "tags");
    write_paths(x, &source);
    write_components(out, &source);
    buf_byte(out, '}');
    return OCH_OK;
}

/* ---- the page ---- */

och_code handle_docs(struct exchange *x, och_error *err)
{
    (void)err;
    x->reply->status = 303;
    http_reply_header(x->reply, "Location", "/docs/");
    return OCH_OK;
}

och_code handle_docs_file(struct exchange *x, och_error *err)
{
    const struct {
        const char *name, *type;
        slice bytes;
    } files[] = {
        {"", "text/html; charset=utf-8", EMBEDDED(page_html)},
        {"page.js", "text/javascript; charset=utf-8", EMBEDDED(page_js)},
        {"page.css", "text/css; charset=utf-8", EMBEDDED(page_css)},
    };
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        if (!slice_equal(x->target, slice_of(files[i].name)))
            continue;
        x->reply->content_type = slice_of(files[i].type);
        buf_slice(&x->reply->body, files[i].bytes);
        http_reply_header(x->reply, "Content-Security-Policy",
                          "default-src 'none'; script-src 'self'; style-src 'self'; "
                          "connect-src 'self'; img-src data:; base-uri 'none'; "
                          "form-action 'none'; frame-ancestors 'none'");
        http_reply_header(x->reply, "X-Content-Type-Options", "nosniff");
        http_reply_header(x->reply, "Referrer-Policy", "no-referrer");
        return OCH_OK;
    }
    return FAIL(err, OCH_NOT_FOUND, "No such page: the description of the API is at /docs/");
}
