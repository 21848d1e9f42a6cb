/* SPDX-License-Identifier: Apache-2.0 */
/* $like and $icontains as regular expressions: one matcher, one limit on its work, one way through the indexes.
 *
 * $like speaks of the whole text, so it is anchored where it does not begin or end with '%'; there a search does the same without a walk to
 * the end. */
#include "model/filter_internal.h"
#include "model/limits.h"

static bool is_like(uint8_t op)
{
    return op == FILTER_META_LIKE || op == FILTER_DOC_LIKE;
}

/* One byte of a character that stands for itself.  Letters, digits and what is no ASCII need no backslash and must not have one. */
static void append_literal(struct buf *out, uint8_t c)
{
    bool plain = c >= 0x80 || c <= ' ' || c == 0x7f || (c >= '0' && c <= '9') ||
                 ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || c == '_' || c == '"' || c == '\'' ||
                 c == '%' || c == ',' || c == ':' || c == ';' || c == '=' || c == '@' || c == '!' ||
                 c == '/' || c == '`' || c == '<' || c == '>';
    if (!plain)
        buf_byte(out, '\\');
    buf_byte(out, c);
}

static och_code like_pattern(slice like, struct buf *out, och_error *err)
{
    size_t first = 0;
    bool any = false; /* '%' is pending: nothing is written at the end */
    while (first < like.len && like.at[first] == '%')
        first++;
    if (first == 0)
        buf_text(out, "\\A");
    for (size_t i = first; i < like.len; i++) {
        uint8_t c = like.at[i];
        if (c == '%') {
            any = true;
            continue;
        }
        if (any)
            buf_text(out, "(?s:.)*");
        any = false;
        if (c == '_') {
            buf_text(out, "(?s:.)");
            continue;
        }
        if (c == '\\' && ++i == like.len)
            return FAIL(err, OCH_INVALID,
                        "Invalid pattern of $like: it ends in a lone backslash. Write \\\\ for a "
                        "backslash itself");
        append_literal(out, like.at[i]);
    }
    if (!any && (first < like.len || first == 0))
        buf_text(out, "\\z");
    return OCH_OK;
}

och_code filter_pattern(const struct filter_node *leaf, struct arena *arena, slice *ret_pattern,
                        och_error *err)
{
    slice text = leaf->values[0].string;
    bool like = is_like(leaf->op);
    assert(filter_is_pattern(leaf->op));
    if (!like && leaf->op != FILTER_META_ICONTAINS && leaf->op != FILTER_DOC_ICONTAINS) {
        *ret_pattern = text;
        return OCH_OK;
    }
    if (text.len > LIMIT_FILTER_PATTERN)
        return FAIL(err, OCH_INVALID, "%s takes at most %d bytes, got %zu",
                    like ? "$like" : "$icontains", LIMIT_FILTER_PATTERN, text.len);
    CLEANUP(buf_cleanup) struct buf out;
    buf_init(&out, BUF_MAX_NONE);
    if (like) {
        TRY(like_pattern(text, &out, err));
    } else {
        buf_text(&out, "(?i)");
        for (size_t i = 0; i < text.len; i++)
            append_literal(&out, text.at[i]);
    }
    *ret_pattern = out.failed ? SLICE_NONE : arena_copy(arena, buf_view(&out));
    return ret_pattern->at ? OCH_OK : FAIL_NO_MEMORY(err, "a filter");
}

och_code filter_literal_start(const struct filter_node *leaf, struct arena *arena, slice *ret_start,
                              och_error *err)
{
    slice text = leaf->values[0].string;
    if (leaf->op == FILTER_META_PREFIX || leaf->op == FILTER_DOC_PREFIX) {
        *ret_start = text;
        return OCH_OK;
    }
    *ret_start = SLICE_NONE;
    if (!is_like(leaf->op))
        return OCH_OK;
    uint8_t *start = arena_alloc(arena, text.len + 1);
    size_t len = 0;
    if (!start)
        return FAIL_NO_MEMORY(err, "a filter");
    for (size_t i = 0; i < text.len && text.at[i] != '%' && text.at[i] != '_'; i++) {
        i += text.at[i] == '\\' && i + 1 < text.len;
        start[len++] = text.at[i];
    }
    *ret_start = slice_make(start, len);
    return OCH_OK;
}
