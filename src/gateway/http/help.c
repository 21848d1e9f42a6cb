/* SPDX-License-Identifier: Apache-2.0 */
/* Help that the server itself gives (experience.md §3): GET / says what there is, GET /help/errors/CODE what an error means.  HTML for browsers,
 * JSON for who asks for it, else plain text; the words are those of base/error_page.c. */
#include "base/error_page.h"
#include "gateway/http/exchange.h"

enum form { FORM_TEXT, FORM_JSON, FORM_HTML };

/* Of the types that the client takes the one named first counts; what has no name here says nothing. */
static enum form wanted_form(const struct exchange *x, enum form fallback)
{
    slice rest = http_request_header(x->request, SLICE("accept"));
    while (rest.len > 0) {
        const uint8_t *comma = memchr(rest.at, ',', rest.len);
        size_t len = comma ? (size_t)(comma - rest.at) : rest.len, end = 0;
        slice type = slice_make(rest.at, len);
        while (type.len > 0 && (type.at[0] == ' ' || type.at[0] == '\t'))
            type = slice_from(type, 1);
        while (end < type.len && type.at[end] != ';' && type.at[end] != ' ')
            end++;
        type.len = end;
        if (slice_equal_nocase(type, SLICE("text/html")))
            return FORM_HTML;
        if (slice_equal_nocase(type, SLICE("application/json")))
            return FORM_JSON;
        if (slice_equal_nocase(type, SLICE("text/plain")))
            return FORM_TEXT;
        rest = slice_from(rest, comma ? len + 1 : len);
    }
    return fallback;
}

/* ---- frames ---- */

static void write_html_text(struct buf *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '<')
            buf_text(out, "&lt;");
        else if (*text == '&')
            buf_text(out, "&amp;");
        else
            buf_byte(out, (uint8_t)*text);
    }
}

/* `up`: from the page to the root; relative, so that a proxy may serve this below a path of its own. */
static void html_begin(struct exchange *x, const char *title, const char *up)
{
    struct buf *out = &x->reply->body;
    x->reply->content_type = SLICE("text/html; charset=utf-8");
    http_reply_header(x->reply, "Content-Security-Policy",
                      "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; "
                      "form-action 'none'; frame-ancestors 'none'");
    http_reply_header(x->reply, "X-Content-Type-Options", "nosniff");
    http_reply_header(x->reply, "Referrer-Policy", "no-referrer");
    buf_text(out, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                  "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                  "<title>Ochre: ");
    write_html_text(out, title);
    buf_printf(out,
               "</title>\n<link rel=\"icon\" href=\"data:,\">\n"
               "<link rel=\"stylesheet\" href=\"%sdocs/page.css\">\n</head>\n<body>\n<h1>",
               up);
    write_html_text(out, title);
    buf_text(out, "</h1>\n");
}

static void html_end(struct exchange *x)
{
    buf_text(&x->reply->body, "</body>\n</html>\n");
}

static void begin(struct exchange *x, enum form form, const char *title, const char *up)
{
    http_reply_header(x->reply, "Vary", "Accept");
    if (form == FORM_HTML)
        html_begin(x, title, up);
    else if (form == FORM_TEXT)
        x->reply->content_type = SLICE("text/plain; charset=utf-8");
}

/* ---- GET / ---- */

static const struct {
    const char *name, *path, *about;
} doors[] = {
    {"docs", "/docs/", "every route of the API, with a form to try it"},
    {"openapi", "/openapi.json", "the same for programs"},
    {"heartbeat", "/api/v2/heartbeat", "is the server alive; the API is below /api/v2"},
    {"help", "/help/errors", "what each error means and what to do"},
    {"metrics", "/metrics", "figures for Prometheus"},
};

och_code handle_root(struct exchange *x, och_error *err)
{
    struct buf *out = &x->reply->body;
    const char *version = x->gateway->options.version;
    enum form form = wanted_form(x, FORM_JSON);
    (void)err;
    begin(x, form, "Ochre", "");
    if (form == FORM_JSON) {
        buf_text(out, "{\"name\":\"ochre\",\"version\":");
        json_write_string(out, slice_of(version));
        buf_text(out, ",\"api\":\"/api/v2\"");
        for (size_t i = 0; i < COUNT_OF(doors); i++)
            buf_printf(out, ",\"%s\":\"%s\"", doors[i].name, doors[i].path);
        buf_byte(out, '}');
        return OCH_OK;
    }
    if (form == FORM_TEXT)
        buf_printf(out, "ochre %s, a vector database\n\n", version);
    else
        buf_printf(out, "<p>Version %s, a vector database.</p>\n<table>\n", version);
    for (size_t i = 0; i < COUNT_OF(doors); i++) {
        if (form == FORM_TEXT)
            buf_printf(out, "%-20s %s\n", doors[i].path, doors[i].about);
        else
            buf_printf(out, "<tr><td><a href=\"%s\">%s</a></td><td>%s</td></tr>\n",
                       doors[i].path + 1, doors[i].path, doors[i].about);
    }
    if (form == FORM_HTML) {
        buf_text(out, "</table>\n");
        html_end(x);
    }
    return OCH_OK;
}

/* ---- GET /help/errors ---- */

och_code handle_help_errors(struct exchange *x, och_error *err)
{
    struct buf *out = &x->reply->body;
    enum form form = wanted_form(x, FORM_TEXT);
    (void)err;
    begin(x, form, "Errors", "../");
    if (form == FORM_HTML)
        buf_text(out, "<p>The member <code>code</code> of an error says which it is.</p>\n"
                      "<table>\n<tr><th>Code</th><th>Status</th><th>Meaning</th></tr>\n");
    for (size_t i = 0; i < error_page_count(); i++) {
        const struct error_page *page = error_page_at(i);
        if (form == FORM_JSON) {
            buf_text(out, i ? ",{\"code\":" : "[{\"code\":");
            json_write_string(out, slice_of(page->code));
            buf_printf(out, ",\"statuses\":[%s],\"title\":", page->statuses);
            json_write_string(out, slice_of(page->title));
            buf_printf(out, ",\"help\":\"/help/errors/%s\"}", page->code);
        } else if (form == FORM_TEXT) {
            buf_printf(out, "%-20s %-14s %s\n", page->code, page->statuses, page->title);
        } else {
            buf_printf(out, "<tr><td><a href=\"errors/%s\">%s</a></td><td>%s</td><td>", page->code,
                       page->code, page->statuses);
            write_html_text(out, page->title);
            buf_text(out, "</td></tr>\n");
        }
    }
    if (form == FORM_JSON)
        buf_byte(out, ']');
    if (form == FORM_HTML) {
        buf_text(out, "</table>\n");
        html_end(x);
    }
    return OCH_OK;
}

/* ---- GET /help/errors/CODE ---- */

static void write_paragraph(struct buf *out, enum form form, const char *member,
                            const char *heading, const char *text)
{
    if (form == FORM_JSON) {
        buf_printf(out, ",\"%s\":", member);
        json_write_string(out, slice_of(text));
    } else if (form == FORM_TEXT) {
        buf_printf(out, "\n%s\n  %s\n", heading, text);
    } else {
        buf_printf(out, "<h2>%s</h2>\n<p>", heading);
        write_html_text(out, text);
        buf_text(out, "</p>\n");
    }
}

och_code handle_help_error(struct exchange *x, och_error *err)
{
    struct buf *out = &x->reply->body;
    size_t found = error_page_find(x->target);
    if (found == error_page_count())
        return FAIL(err, OCH_NOT_FOUND, "No error has the code \"%.*s\". /help/errors lists all.",
                    (int)min_size(x->target.len, 40), (const char *)x->target.at);
    const struct error_page *page = error_page_at(found);
    enum form form = wanted_form(x, FORM_TEXT);
    begin(x, form, page->title, "../../");
    const char *statuses = *page->statuses ? page->statuses : "none";
    if (form == FORM_JSON) {
        buf_printf(out, "{\"code\":\"%s\",\"statuses\":[%s]", page->code, page->statuses);
        write_paragraph(out, form, "title", "", page->title);
    } else if (form == FORM_TEXT) {
        buf_printf(out, "%s: %s\nHTTP status: %s\n", page->code, page->title, statuses);
    } else {
        buf_printf(out, "<p>Code <code>%s</code>, HTTP status %s.</p>\n", page->code, statuses);
    }
    write_paragraph(out, form, "meaning", "What it means", page->meaning);
    write_paragraph(out, form, "causes", "Usual causes", page->causes);
    write_paragraph(out, form, "remedy", "What to do", page->remedy);
    write_paragraph(out, form, "retry", "Does it help to try again?", page->retry);
    if (form == FORM_JSON)
        buf_byte(out, '}');
    if (form == FORM_HTML) {
        buf_text(out, "<footer><a href=\"../errors\">All errors</a> · <a "
                      "href=\"../../docs/\">Routes of the API</a></footer>\n");
        html_end(x);
    }
    return OCH_OK;
}
