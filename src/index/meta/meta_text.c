/* SPDX-License-Identifier: Apache-2.0 */
/* Predicates on the text of strings: what begins alike is a range of the dictionary; patterns are matched with its distinct values, each once,
 * however many rows have it. */
#include "index/meta/meta_tree.h"

/* The least text behind all that begin with `start`: the last byte that can be is one more.  False: there is none. */
static bool text_after(slice start, uint8_t room[META_STRING_MAX], slice *ret)
{
    assert(start.len <= META_STRING_MAX);
    while (start.len && start.at[start.len - 1] == 0xff)
        start.len--;
    if (!start.len)
        return false;
    memcpy(room, start.at, start.len);
    room[start.len - 1]++;
    *ret = slice_make(room, start.len);
    return true;
}

/* A start longer than what the dictionary keeps leaves one value, of candidates. */
static och_code span_of_start(struct meta_cursor *cursor, slice start, struct meta_span *ret,
                              och_error *err)
{
    uint8_t room[META_STRING_MAX + 1];
    slice after;
    *ret = (struct meta_span){.from = 1, .to = cursor->column->ordinals + 1};
    if (start.len > META_STRING_MAX) {
        TRY(meta_find_string(cursor, meta_cut(start, room), &ret->from, err));
        ret->to = ret->from ? ret->from + 1 : 0;
        return OCH_OK;
    }
    if (start.len)
        TRY(meta_find_place(cursor, start, &ret->from, err));
    return text_after(start, room, &after) ? meta_find_place(cursor, after, &ret->to, err) : OCH_OK;
}

och_code meta_text_span(struct meta_cursor *cursor, const struct filter_node *node,
                        struct meta_spans *spans, och_error *err)
{
    struct arena made;
    slice start;
    arena_init(&made, NULL, 0);
    och_code code = filter_literal_start(node, &made, &start, err);
    if (code == OCH_OK)
        code = span_of_start(cursor, start, &spans->at[0], err);
    arena_done(&made);
    TRY(code);
    spans->count = spans->at[0].from < spans->at[0].to;
    return OCH_OK;
}

/* ---- patterns ---- */

#define CHECK_VALUES 256u

struct spans_made { /* ordinals, in order */
    struct meta_span *at;
    size_t count, room;
};
struct matching {
    struct meta_eval *eval;
    struct rure *regex;
    struct spans_made matches, cut;
    uint32_t looked_at;
};

static och_code add_ordinal(struct spans_made *made, uint32_t ordinal, och_error *err)
{
    if (made->count && made->at[made->count - 1].to == ordinal) {
        made->at[made->count - 1].to++;
        return OCH_OK;
    }
    if (made->count == made->room) {
        size_t room = made->room ? made->room * 2 : 16;
        struct meta_span *more = mem_realloc(made->at, room * sizeof(*more));
        if (!more)
            return FAIL_NO_MEMORY(err, "a filter");
        made->at = more;
        made->room = room;
    }
    made->at[made->count++] = (struct meta_span){.from = ordinal, .to = ordinal + 1};
    return OCH_OK;
}

static och_code match_value(void *context, uint32_t ordinal, slice text, och_error *err)
{
    struct matching *m = context;
    const struct limits_of_work *limits = m->eval->options.limits;
    if (limits && m->looked_at++ % CHECK_VALUES == 0)
        TRY(work_check(limits, err));
    if (meta_string_is_cut(text))
        return add_ordinal(&m->cut, ordinal, err);
    return filter_regex_match(m->regex, text) ? add_ordinal(&m->matches, ordinal, err) : OCH_OK;
}

/* Spans of the same column in place of those it had. */
static och_code leaf_with(struct meta_eval *eval, const struct meta_leaf *like,
                          const struct spans_made *made, struct meta_leaf *ret, och_error *err)
{
    struct meta_spans *spans = ARENA_NEW(eval->arena, struct meta_spans);
    struct meta_span *at = ARENA_ARRAY(eval->arena, struct meta_span, made->count + 1);
    if (!spans || !at)
        return FAIL_NO_MEMORY(err, "a filter");
    if (made->count)
        memcpy(at, made->at, made->count * sizeof(*at));
    *spans = (struct meta_spans){
        .column = like->columns[0].column, .at = at, .count = (uint32_t)made->count};
    *ret = (struct meta_leaf){.key = like->key, .columns = spans, .column_count = made->count != 0};
    return meta_leaf_count(eval, ret, err);
}

och_code meta_text_refine(struct meta_eval *eval, struct rure *regex, struct meta_leaf *leaf,
                          struct meta_leaf *ret_cut, och_error *err)
{
    struct matching m = {.eval = eval, .regex = regex};
    struct meta_cursor cursor = {.reader = &eval->reader, .column = &leaf->columns[0].column};
    const struct meta_span span = leaf->columns[0].at[0];
    struct meta_leaf matches = {0}, cut = {0};
    och_code code = meta_walk_strings(&cursor, span.from, span.to, match_value, &m, err);
    if (code == OCH_OK)
        code = leaf_with(eval, leaf, &m.matches, &matches, err);
    if (code == OCH_OK)
        code = leaf_with(eval, leaf, &m.cut, &cut, err);
    mem_free(m.matches.at);
    mem_free(m.cut.at);
    TRY(code);
    *leaf = matches;
    *ret_cut = cut;
    ret_cut->unsure = true;
    return OCH_OK;
}
