/* SPDX-License-Identifier: Apache-2.0 */
/* where and where_document as JSON to trees (query-language.md §2, 3).
 *
 * Every refusal names the place as a JSON path, what was found, and what to write instead (X17).
 * Recursion is bounded by the depth of the JSON text (128) and checked again here. */
#include "model/filter_internal.h"

#define PATH_MAX_BYTES  256
#define QUOTE_MAX_BYTES 40

/* One step from the root: a member's name or an element's index. */
struct step {
    const struct step *up; /* NULL: the root */
    slice name;
    uint32_t index;
    bool is_index;
};

struct parser {
    struct arena *arena;
    och_error *err;
    const char *prefix;
    const char *root;     /* what the clause is called in the request */
    bool document;        /* the grammar of where_document */
    bool document_as_key; /* '#document' with an operator of metadata: refused after the grammar */
};

struct operator_name {
    const char *name;
    uint8_t op;
    uint8_t document_op; /* on the document, 0: none */
};
static const struct operator_name operators[] = {
    {"$eq", FILTER_EQ, 0},
    {"$ne", FILTER_NE, 0},
    {"$gt", FILTER_GT, 0},
    {"$gte", FILTER_GTE, 0},
    {"$lt", FILTER_LT, 0},
    {"$lte", FILTER_LTE, 0},
    {"$in", FILTER_IN, 0},
    {"$nin", FILTER_NIN, 0},
    {"$contains", FILTER_CONTAINS, FILTER_DOC_CONTAINS},
    {"$not_contains", FILTER_NOT_CONTAINS, FILTER_DOC_NOT_CONTAINS},
    {"$regex", FILTER_META_REGEX, FILTER_DOC_REGEX},
    {"$not_regex", FILTER_META_NOT_REGEX, FILTER_DOC_NOT_REGEX},
    {"$prefix", FILTER_META_PREFIX, FILTER_DOC_PREFIX},
    {"$like", FILTER_META_LIKE, FILTER_DOC_LIKE},
    {"$icontains", FILTER_META_ICONTAINS, FILTER_DOC_ICONTAINS},
    {"$exists", FILTER_EXISTS, FILTER_EXISTS},
};

/* ---- messages ---- */

static slice cut(slice text, size_t max)
{
    size_t len = min_size(text.len, max);
    while (len < text.len && len > 0 && (text.at[len] & 0xc0) == 0x80)
        len--; /* never inside a character */
    return slice_make(text.at, len);
}

static void append_place(struct buf *out, const struct step *step)
{
    const struct step *steps[FILTER_DEPTH_MAX * 3];
    size_t count = 0;
    for (; step; step = step->up) {
        if (count < COUNT_OF(steps))
            steps[count++] = step;
    }
    for (bool first = true; count > 0; first = false) {
        step = steps[--count];
        if (step->is_index) {
            buf_printf(out, "[%u]", step->index);
            continue;
        }
        if (!first)
            buf_byte(out, '.');
        slice name = cut(step->name, QUOTE_MAX_BYTES);
        if (name.len == 0)
            buf_text(out, "\"\"");
        buf_slice(out, name);
        if (name.len < step->name.len)
            buf_text(out, "...");
    }
    if (out->len)
        buf_text(out, ": ");
}

/* `$and[1].price: ` in `place`.  A long path keeps its end: that is where the mistake is. */
static slice place_of(const struct step *step, struct buf *place, bool *ret_cut)
{
    append_place(place, step);
    slice text = place->failed ? SLICE_NONE : buf_view(place);
    *ret_cut = text.len > PATH_MAX_BYTES;
    if (*ret_cut) {
        text = slice_from(text, text.len - PATH_MAX_BYTES);
        while (text.len && (text.at[0] & 0xc0) == 0x80)
            text = slice_from(text, 1);
    }
    return text;
}

static och_code fail_at(struct parser *parser, const struct step *step, const char *reason)
{
    CLEANUP(buf_cleanup) struct buf place;
    buf_init(&place, BUF_MAX_NONE);
    bool long_path;
    slice text = place_of(step, &place, &long_path);
    och_code code = FAIL(parser->err, OCH_INVALID, "%s: %s%.*s%s", parser->prefix,
                         long_path ? "..." : "", SLICE_ARG(text), reason);
    if (text.len > 2) /* without ": " */
        error_mark_path(parser->err, (const char *)text.at, text.len - 2);
    error_mark_hint(parser->err, "Write ");
    return code;
}

/* A value for a message: `the string "12"`, `the number 1.5`, `a list`. */
static const char *describe(struct parser *parser, const struct json_value *value)
{
    const char *text = NULL;
    switch (value->kind) {
    case JSON_NULL:
        return "null";
    case JSON_BOOL:
        return value->boolean ? "true" : "false";
    case JSON_INT:
        text = arena_printf(parser->arena, "the number %lld", (long long)value->integer);
        break;
    case JSON_FLOAT:
        text = arena_printf(parser->arena, "the number %.17g", value->number);
        break;
    case JSON_STRING: {
        slice start = cut(value->string, QUOTE_MAX_BYTES);
        text = arena_printf(parser->arena, "the string \"%.*s%s\"", SLICE_ARG(start),
                            start.len < value->string.len ? "..." : "");
        break;
    }
    case JSON_ARRAY:
    case JSON_FLOATS:
        return value->count ? "a list" : "an empty list";
    default:
        return value->count ? "an object" : "an empty object";
    }
    return text ? text : "a value";
}

static och_code fail_needs(struct parser *parser, const struct step *step, const char *who,
                           const char *needs, const struct json_value *got, const char *example)
{
    const char *reason = arena_printf(parser->arena, "%s needs %s, got %s%s%s", who, needs,
                                      describe(parser, got), *example ? ". Write " : "", example);
    return fail_at(parser, step, reason ? reason : "wrong operand");
}

/* `{"price": {"$gt": 12}}` */
static const char *example_of(struct parser *parser, slice key, const char *op, const char *operand)
{
    if (key.len > QUOTE_MAX_BYTES || !json_utf8_valid(key))
        key = SLICE("key");
    const char *text =
        arena_printf(parser->arena, "{\"%.*s\": {\"%s\": %s}}.", SLICE_ARG(key), op, operand);
    return text ? text : "";
}

/* ---- operands ---- */

/* Integer literals between i64 and u64 are refused, as the peer does; smaller and larger ones are floats. */
static bool out_of_range(const struct json_value *value)
{
    return value->kind == JSON_FLOAT && value->big && value->number > 0 &&
           value->number <= 18446744073709551616.0;
}

static bool to_value(const struct json_value *json, struct filter_value *ret)
{
    switch (json->kind) {
    case JSON_STRING:
        *ret = (struct filter_value){.kind = FILTER_STRING, .string = json->string};
        return true;
    case JSON_BOOL:
        *ret = (struct filter_value){.kind = FILTER_BOOL, .boolean = json->boolean};
        return true;
    case JSON_INT:
        *ret = (struct filter_value){.kind = FILTER_INT, .integer = json->integer};
        return true;
    case JSON_FLOAT:
        *ret = (struct filter_value){.kind = FILTER_FLOAT, .number = json->number};
        return true;
    default:
        return false;
    }
}

static bool is_number(const struct json_value *value)
{
    return value->kind == JSON_INT || value->kind == JSON_FLOAT;
}

static och_code check_range(struct parser *parser, const struct step *step,
                            const struct json_value *value)
{
    if (out_of_range(value))
        return fail_at(parser, step,
                       "an integer beyond 9223372036854775807. Write it with a decimal point to "
                       "compare as a float");
    return OCH_OK;
}

static och_code set_values(struct parser *parser, struct filter_node *node,
                           const struct json_value *items, uint32_t count)
{
    struct filter_value *values = ARENA_ARRAY(parser->arena, struct filter_value, count);
    if (!values)
        return FAIL_NO_MEMORY(parser->err, "a filter");
    for (uint32_t i = 0; i < count; i++) {
        bool scalar = to_value(&items[i], &values[i]);
        assert(scalar);
        (void)scalar;
    }
    node->values = values;
    node->value_count = count;
    return OCH_OK;
}

static och_code parse_list(struct parser *parser, const struct step *step,
                           const struct operator_name *operator, slice key,
                           const struct json_value *operand, struct filter_node *node)
{
    if (operand->kind != JSON_ARRAY || operand->count == 0)
        return fail_needs(parser, step, operator->name, "a list of at least one value", operand,
                          example_of(parser, key, operator->name, "[1, 2]"));
    const struct json_value *first = &operand->items[0];
    for (uint32_t i = 0; i < operand->count; i++) {
        const struct json_value *item = &operand->items[i];
        struct filter_value value;
        if (!to_value(item, &value))
            return fail_needs(parser, step, operator->name, "strings, booleans or numbers", item,
                              "");
        if (item->kind != first->kind && !(is_number(item) && is_number(first)))
            return fail_needs(parser, step, operator->name, "values of one type", item,
                              example_of(parser, key, operator->name, "[1, 2]"));
        TRY(check_range(parser, step, item));
    }
    return set_values(parser, node, operand->items, operand->count);
}

static och_code parse_scalar(struct parser *parser, const struct step *step,
                             const struct operator_name *operator, slice key,
                             const struct json_value *operand, struct filter_node *node)
{
    struct filter_value value;
    if (!to_value(operand, &value))
        return fail_needs(parser, step, operator->name, "a string, a boolean or a number", operand,
                          operand->kind == JSON_ARRAY && node->op == FILTER_EQ
                              ? example_of(parser, key, "$in", "[1, 2]")
                              : "");
    TRY(check_range(parser, step, operand));
    return set_values(parser, node, operand, 1);
}

/* The number to show: what was meant when the operand is a number in quotes. */
static const char *number_of(struct parser *parser, const struct json_value *operand)
{
    if (operand->kind != JSON_STRING || operand->string.len == 0 || operand->string.len > 20)
        return "12";
    for (size_t i = 0; i < operand->string.len; i++) {
        if (operand->string.at[i] < '0' || operand->string.at[i] > '9')
            return "12";
    }
    const char *text = arena_printf(parser->arena, "%.*s", SLICE_ARG(operand->string));
    return text ? text : "12";
}

static och_code parse_string(struct parser *parser, const struct step *step,
                             const struct operator_name *operator,
                             const struct json_value * operand, struct filter_node *node)
{
    if (operand->kind != JSON_STRING)
        return fail_needs(parser, step, operator->name, "a string", operand, "");
    return set_values(parser, node, operand, 1);
}

static och_code parse_operand(struct parser *parser, const struct step *step,
                              const struct operator_name *operator, slice key,
                              const struct json_value *operand, struct filter_node *node)
{
    switch (node->op) {
    case FILTER_IN:
    case FILTER_NIN:
        return parse_list(parser, step, operator, key, operand, node);
    case FILTER_GT:
    case FILTER_GTE:
    case FILTER_LT:
    case FILTER_LTE:
        if (!is_number(operand))
            return fail_needs(parser, step, operator->name, "a number", operand,
                              example_of(parser, key, operator->name, number_of(parser, operand)));
        return parse_scalar(parser, step, operator, key, operand, node);
    case FILTER_EXISTS:
        if (operand->kind != JSON_BOOL)
            return fail_needs(parser, step, operator->name, "true or false", operand, "");
        return set_values(parser, node, operand, 1);
    case FILTER_META_REGEX:
    case FILTER_META_NOT_REGEX:
    case FILTER_META_PREFIX:
    case FILTER_META_LIKE:
    case FILTER_META_ICONTAINS:
        return parse_string(parser, step, operator, operand, node);
    default:
        return parse_scalar(parser, step, operator, key, operand, node);
    }
}

/* ---- leaves ---- */

/* Patterns are compiled later: where one stands is kept for its errors. */
static och_code keep_place(struct parser *parser, const struct step *step, struct filter_node *node)
{
    CLEANUP(buf_cleanup) struct buf place;
    buf_init(&place, BUF_MAX_NONE);
    bool cut_off;
    slice text = place_of(step, &place, &cut_off);
    text.len -= text.len ? 2 : 0; /* ": " */
    const char *join = cut_off ? "..." : text.len && text.at[0] != '[' ? "." : "";
    const char *whole =
        arena_printf(parser->arena, "%s%s%.*s", parser->root, join, SLICE_ARG(text));
    if (!whole)
        return FAIL_NO_MEMORY(parser->err, "a filter");
    node->place = slice_of(whole);
    return OCH_OK;
}

/* A predicate on the document.  It exists when it contains the empty text. */
static och_code parse_document(struct parser *parser, const struct step *step,
                               const struct operator_name *operator,
                               const struct json_value * operand, struct filter_node *node)
{
    static const struct filter_value nothing = {.kind = FILTER_STRING,
                                                .string = {(const uint8_t *)"", 0}};
    node->op = operator->document_op;
    if (node->op != FILTER_EXISTS)
        return parse_string(parser, step, operator, operand, node);
    if (operand->kind != JSON_BOOL)
        return fail_needs(parser, step, operator->name, "true or false", operand, "");
    node->op = operand->boolean ? FILTER_DOC_CONTAINS : FILTER_DOC_NOT_CONTAINS;
    node->values = &nothing;
    node->value_count = 1;
    return OCH_OK;
}

/* '#id' with strings is the record's id; with anything else a key that nobody has. */
static void redirect_id(struct filter_node *node)
{
    if (node->values[0].kind != FILTER_STRING)
        return;
    if (node->op == FILTER_EQ || node->op == FILTER_IN)
        node->op = FILTER_ID_IN;
    else if (node->op == FILTER_NE || node->op == FILTER_NIN)
        node->op = FILTER_ID_NIN;
    if (!filter_is_metadata(node->op))
        node->key = SLICE_NONE;
}

static och_code parse_leaf(struct parser *parser, const struct step *step,
                           const struct operator_name *operator, slice key,
                           const struct json_value *operand, struct filter_node *node)
{
    node->op = operator->op;
    if (slice_equal(key, SLICE("#document"))) {
        if (operator->document_op)
            return parse_document(parser, step, operator, operand, node);
        parser->document_as_key = true;
    }
    node->key = key;
    TRY(parse_operand(parser, step, operator, key, operand, node));
    if (!slice_equal(key, SLICE("#id")))
        return OCH_OK;
    if (node->op >= FILTER_META_PREFIX) {
        const char *reason = arena_printf(
            parser->arena,
            "%s works on metadata and documents. Ids take $eq, $ne, $in, $nin", operator->name);
        return fail_at(parser, step, reason ? reason : "not on ids");
    }
    redirect_id(node);
    return OCH_OK;
}

static const struct operator_name *find_operator(slice name)
{
    for (size_t i = 0; i < COUNT_OF(operators); i++) {
        if (slice_equal(name, slice_of(operators[i].name)))
            return &operators[i];
    }
    return NULL;
}

/* The one member of an object; a name that is repeated counts once, the last value wins. */
static const struct json_member *only_member(const struct json_value *object)
{
    if (object->count == 0)
        return NULL;
    const struct json_member *last = &object->members[object->count - 1];
    for (uint32_t i = 0; i + 1 < object->count; i++) {
        if (!slice_equal(object->members[i].name, last->name))
            return NULL;
    }
    return last;
}

static och_code fail_not_one(struct parser *parser, const struct step *step,
                             const struct json_value *object, const char *what)
{
    if (object->count == 0) {
        const char *empty =
            arena_printf(parser->arena, "expected one %s, got an empty object", what);
        return fail_at(parser, step, empty ? empty : "an empty object");
    }
    assert(object->members != NULL);
    slice first = cut(object->members[0].name, QUOTE_MAX_BYTES);
    slice last = cut(object->members[object->count - 1].name, QUOTE_MAX_BYTES);
    const char *reason = arena_printf(
        parser->arena,
        "expected one %s, got \"%.*s\" and \"%.*s\". Combine them: {\"$and\": [{...}, {...}]}",
        what, SLICE_ARG(first), SLICE_ARG(last));
    return fail_at(parser, step, reason ? reason : "more than one member");
}

static och_code fail_unknown(struct parser *parser, const struct step *step, slice name)
{
    slice start = cut(name, QUOTE_MAX_BYTES);
    const char *known =
        parser->document
            ? "$and, $or, $not, $contains, $not_contains, $regex, $not_regex, $prefix, $like, "
              "$icontains, $exists"
            : "$eq, $ne, $gt, $gte, $lt, $lte, $in, $nin, $contains, $not_contains, $regex, "
              "$not_regex, $prefix, $like, $icontains, $exists";
    const char *reason = arena_printf(parser->arena, "unknown operator \"%.*s\". Use one of %s",
                                      SLICE_ARG(start), known);
    return fail_at(parser, step, reason ? reason : "unknown operator");
}

/* {key: scalar} or {key: {op: operand}} */
static och_code parse_key(struct parser *parser, const struct step *step, slice key,
                          const struct json_value *value, struct filter_node *node)
{
    struct filter_value scalar;
    if (to_value(value, &scalar))
        return parse_leaf(parser, step, &operators[0], key, value, node);
    if (value->kind != JSON_OBJECT)
        return fail_needs(parser, step, "a key", "a value or an operator", value,
                          example_of(parser, key, "$in", "[1, 2]"));
    const struct json_member *member = only_member(value);
    if (!member)
        return fail_not_one(parser, step, value, "operator");
    const struct operator_name *operator= find_operator(member->name);
    if (!operator)
        return fail_unknown(parser, step, member->name);
    return parse_leaf(parser, step, operator, key, &member->value, node);
}

/* ---- groups ---- */

static och_code parse_clause(struct parser *parser, const struct step *up,
                             const struct json_value *clause, unsigned depth,
                             struct filter_node **ret_node);

static och_code parse_children(struct parser *parser, const struct step *step, const char *name,
                               const struct json_value *list, unsigned depth,
                               struct filter_node *node)
{
    if (list->kind != JSON_ARRAY)
        return fail_needs(parser, step, name, "a list of clauses", list, "");
    node->children = ARENA_ARRAY(parser->arena, struct filter_node *, list->count);
    if (!node->children)
        return FAIL_NO_MEMORY(parser->err, "a filter");
    for (uint32_t i = 0; i < list->count; i++) {
        struct step element = {.up = step, .index = i, .is_index = true};
        TRY(parse_clause(parser, &element, &list->items[i], depth + 1, &node->children[i]));
    }
    node->child_count = list->count;
    return OCH_OK;
}

static och_code parse_not(struct parser *parser, const struct step *step,
                          const struct json_value *clause, unsigned depth, struct filter_node *node)
{
    node->children = ARENA_ARRAY(parser->arena, struct filter_node *, 1);
    if (!node->children)
        return FAIL_NO_MEMORY(parser->err, "a filter");
    TRY(parse_clause(parser, step, clause, depth + 1, &node->children[0]));
    node->child_count = 1;
    return OCH_OK;
}

/* A member whose name begins with '$', or any member of a where_document clause. */
static och_code parse_named(struct parser *parser, const struct step *step,
                            const struct json_member *member, unsigned depth,
                            struct filter_node *node)
{
    slice name = member->name;
    if (slice_equal(name, SLICE("$and")) || slice_equal(name, SLICE("$or"))) {
        node->op = name.len == 4 ? FILTER_AND : FILTER_OR;
        return parse_children(parser, step, name.len == 4 ? "$and" : "$or", &member->value, depth,
                              node);
    }
    if (slice_equal(name, SLICE("$not"))) {
        node->op = FILTER_NOT;
        return parse_not(parser, step, &member->value, depth, node);
    }
    const struct operator_name *operator= find_operator(name);
    if (parser->document) {
        if (!operator|| !operator->document_op)
            return fail_unknown(parser, step->up, name);
        return parse_document(parser, step, operator, & member->value, node);
    }
    if (operator) {
        const char *reason =
            arena_printf(parser->arena, "%s stands without a key. Write %s", operator->name,
                         example_of(parser, SLICE("key"), operator->name, "..."));
        return fail_at(parser, step->up, reason ? reason : "an operator without a key");
    }
    const char *reason =
        arena_printf(parser->arena, "unknown operator \"%.*s\". Use one of $and, $or, $not",
                     SLICE_ARG(cut(name, QUOTE_MAX_BYTES)));
    return fail_at(parser, step->up, reason ? reason : "unknown operator");
}

static och_code parse_clause(struct parser *parser, const struct step *up,
                             const struct json_value *clause, unsigned depth,
                             struct filter_node **ret_node)
{
    if (depth >= FILTER_DEPTH_MAX - 8) /* leaves room for joins */
        return fail_at(parser, NULL, "nested too deeply");
    if (clause->kind != JSON_OBJECT)
        return fail_needs(parser, up, "a clause", "an object", clause, "");
    const struct json_member *member = only_member(clause);
    if (!member)
        return fail_not_one(parser, up, clause, parser->document ? "operator" : "key or operator");
    struct filter_node *node = ARENA_NEW(parser->arena, struct filter_node);
    if (!node)
        return FAIL_NO_MEMORY(parser->err, "a filter");
    struct step step = {.up = up, .name = member->name};
    if (parser->document || (member->name.len && member->name.at[0] == '$'))
        TRY(parse_named(parser, &step, member, depth, node));
    else
        TRY(parse_key(parser, &step, member->name, &member->value, node));
    if (filter_is_pattern(node->op))
        TRY(keep_place(parser, &step, node));
    assert(filter_node_sound(node));
    *ret_node = node;
    return OCH_OK;
}

static och_code parse(struct parser *parser, const struct json_value *where,
                      struct filter_node **ret_node)
{
    struct filter_node *node = NULL;
    if (where && where->kind != JSON_NULL)
        TRY(parse_clause(parser, NULL, where, 0, &node));
    if (parser->document_as_key)
        return FAIL(parser->err, OCH_INVALID,
                    "Cannot filter using metadata key '#document' with type 'Str' because indexing "
                    "is disabled");
    *ret_node = node;
    return OCH_OK;
}

och_code filter_parse_where_at(const struct json_value *where, const char *root,
                               struct arena *arena, struct filter_node **ret_node, och_error *err)
{
    struct parser parser = {
        .arena = arena, .err = err, .prefix = "Invalid where clause", .root = root};
    return parse(&parser, where, ret_node);
}

och_code filter_parse_where(const struct json_value *where, struct arena *arena,
                            struct filter_node **ret_node, och_error *err)
{
    return filter_parse_where_at(where, "where", arena, ret_node, err);
}

och_code filter_parse_document(const struct json_value *where, struct arena *arena,
                               struct filter_node **ret_node, och_error *err)
{
    struct parser parser = {.arena = arena,
                            .err = err,
                            .prefix = "Invalid where document clause",
                            .root = "where_document",
                            .document = true};
    return parse(&parser, where, ret_node);
}
