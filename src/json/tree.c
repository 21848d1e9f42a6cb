/* SPDX-License-Identifier: Apache-2.0 */
/* Building the values that the walk reports.  All memory that grows with the text is charged to the arena's budget. */
#include "json/tree.h"

#include <math.h>

void json_tree_init(struct json_tree *tree, const struct json_options *options, struct arena *arena,
                    slice padded)
{
    *tree = (struct json_tree){
        .options = options, .arena = arena, .text = padded.at, .end = padded.at + padded.len};
}

void json_tree_done(struct json_tree *tree)
{
    mem_free(tree->values);
    mem_free(tree->names);
    mem_free_aligned(tree->rows.at);
    if (tree->charged_bytes)
        budget_give(tree->arena->budget, tree->charged_bytes);
}

static bool no_memory(struct json_tree *tree)
{
    tree->no_memory = true;
    return false;
}

static bool charge(struct json_tree *tree, size_t bytes)
{
    if (budget_take(tree->arena->budget, bytes, "JSON", NULL) != OCH_OK) {
        tree->arena->refused_bytes = bytes;
        return no_memory(tree);
    }
    tree->charged_bytes += bytes;
    return true;
}

/* Double the room of one of the stacks. */
static bool grow(struct json_tree *tree, void **stack, size_t *capacity, size_t item_size)
{
    size_t more = *capacity ? *capacity : 64, bytes;
    if (mul_overflows(*capacity + more, item_size, &bytes) || !charge(tree, more * item_size))
        return no_memory(tree);
    void *bigger = mem_realloc(*stack, bytes);
    if (!bigger)
        return no_memory(tree);
    *stack = bigger;
    *capacity += more;
    return true;
}

static uint32_t offset_of(const struct json_tree *tree, const uint8_t *token)
{
    return (uint32_t)(token - tree->text) - tree->shift;
}

/* A fresh value on the stack, or NULL. */
static struct json_value *push(struct json_tree *tree, const uint8_t *token, enum json_kind kind)
{
    if (tree->value_count == tree->value_capacity) {
        void *stack = tree->values;
        if (!grow(tree, &stack, &tree->value_capacity, sizeof *tree->values))
            return NULL;
        tree->values = stack;
    }
    struct json_value *value = &tree->values[tree->value_count++];
    *value = (struct json_value){.kind = (uint8_t)kind, .offset = offset_of(tree, token)};
    return value;
}

bool json_tree_open(struct json_tree *tree, const uint8_t *token, bool object)
{
    assert(tree->depth < JSON_DEPTH_MAX);
    tree->frames[tree->depth++] = (struct json_frame){tree->value_count, tree->name_count,
                                                      (uint32_t)(token - tree->text), object};
    return true;
}

/* The members of an object, names and values put together again. */
static bool close_object(struct json_tree *tree, const struct json_frame *frame,
                         struct json_value *ret_object)
{
    size_t count = tree->value_count - frame->first_value;
    assert(tree->name_count - frame->first_name == count);
    struct json_member *members = NULL;
    if (count) {
        size_t bytes;
        if (mul_overflows(count, sizeof *members, &bytes) ||
            !(members = arena_alloc(tree->arena, bytes)))
            return no_memory(tree);
    }
    for (size_t i = 0; i < count; i++)
        members[i] = (struct json_member){tree->names[frame->first_name + i],
                                          tree->values[frame->first_value + i]};
    ret_object->members = members;
    ret_object->count = (uint32_t)count;
    return true;
}

static bool close_array(struct json_tree *tree, const struct json_frame *frame,
                        struct json_value *ret_array)
{
    size_t count = tree->value_count - frame->first_value;
    struct json_value *items = NULL;
    if (count) {
        items = arena_alloc(tree->arena, count * sizeof *items);
        if (!items)
            return no_memory(tree);
        memcpy(items, tree->values + frame->first_value, count * sizeof *items);
    }
    ret_array->items = items;
    ret_array->count = (uint32_t)count;
    return true;
}

bool json_tree_close(struct json_tree *tree)
{
    assert(tree->depth > 0);
    const struct json_frame *frame = &tree->frames[--tree->depth];
    struct json_value made = {.kind = frame->object ? JSON_OBJECT : JSON_ARRAY};
    if (!(frame->object ? close_object : close_array)(tree, frame, &made))
        return false;
    tree->value_count = frame->first_value;
    tree->name_count = frame->first_name;
    struct json_value *value = push(tree, tree->text + frame->offset, made.kind);
    if (!value)
        return false;
    made.offset = value->offset;
    *value = made;
    return true;
}

static uint32_t hex4(const uint8_t *at)
{
    uint32_t value = 0;
    for (int i = 0; i < 4; i++) {
        uint8_t c = at[i];
        uint32_t digit = c >= '0' && c <= '9'   ? c - (uint32_t)'0'
                         : c >= 'a' && c <= 'f' ? c - (uint32_t)'a' + 10
                         : c >= 'A' && c <= 'F' ? c - (uint32_t)'A' + 10
                                                : 0x10000;
        value = value << 4 | digit;
    }
    return value;
}

static uint8_t *put_utf8(uint8_t *out, uint32_t point)
{
    if (point < 0x80) {
        *out++ = (uint8_t)point;
    } else if (point < 0x800) {
        *out++ = (uint8_t)(0xc0 | point >> 6);
        *out++ = (uint8_t)(0x80 | (point & 63));
    } else if (point < 0x10000) {
        *out++ = (uint8_t)(0xe0 | point >> 12);
        *out++ = (uint8_t)(0x80 | (point >> 6 & 63));
        *out++ = (uint8_t)(0x80 | (point & 63));
    } else {
        *out++ = (uint8_t)(0xf0 | point >> 18);
        *out++ = (uint8_t)(0x80 | (point >> 12 & 63));
        *out++ = (uint8_t)(0x80 | (point >> 6 & 63));
        *out++ = (uint8_t)(0x80 | (point & 63));
    }
    return out;
}

/* *at stands on the 'u'.  False on bad digits and lone surrogates. */
static bool unescape_unicode(const uint8_t **at, const uint8_t *close, uint8_t **out)
{
    const uint8_t *in = *at;
    if (close - in < 5)
        return false;
    uint32_t point = hex4(in + 1);
    in += 5;
    if (point >= 0xd800 && point < 0xdc00) {
        if (close - in < 6 || in[0] != '\\' || in[1] != 'u')
            return false;
        uint32_t low = hex4(in + 2);
        if (low < 0xdc00 || low > 0xdfff)
            return false;
        point = 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00);
        in += 6;
    } else if (point > 0xffff || (point >= 0xdc00 && point <= 0xdfff)) {
        return false;
    }
    *out = put_utf8(*out, point);
    *at = in;
    return true;
}

static bool unescape(const uint8_t *in, const uint8_t *close, uint8_t *out, size_t *ret_len)
{
    static const uint8_t simple[256] = {['"'] = '"',  ['\\'] = '\\', ['/'] = '/',  ['b'] = '\b',
                                        ['f'] = '\f', ['n'] = '\n',  ['r'] = '\r', ['t'] = '\t'};
    const uint8_t *start = out;
    while (in < close) {
        const uint8_t *slash = memchr(in, '\\', (size_t)(close - in));
        size_t plain = (size_t)((slash ? slash : close) - in);
        memcpy(out, in, plain);
        out += plain;
        in += plain;
        if (!slash)
            break;
        in++; /* a string never ends in a lone backslash: it would have escaped the quote */
        if (*in == 'u') {
            if (!unescape_unicode(&in, close, &out))
                return false;
        } else if (simple[*in]) {
            *out++ = simple[*in++];
        } else {
            return false;
        }
    }
    *ret_len = (size_t)(out - start);
    return true;
}

/* The text behind an opening quote.  The first stage has seen the closing quote. */
static bool string_at(struct json_tree *tree, const uint8_t *raw, slice *ret_string)
{
    const uint8_t *close = memchr(raw, '"', (size_t)(tree->end - raw));
    if (!close)
        return false;
    const uint8_t *slash = memchr(raw, '\\', (size_t)(close - raw));
    if (!slash) {
        *ret_string = slice_make(raw, (size_t)(close - raw));
        if (tree->options->keep_text)
            return true;
        *ret_string = arena_copy(tree->arena, *ret_string);
        return ret_string->at || no_memory(tree);
    }
    for (const uint8_t *in = slash;; in++) {
        if (in >= tree->end)
            return false;
        if (*in == '"') {
            close = in;
            break;
        }
        in += *in == '\\';
    }
    /* An escape is never shorter than what it stands for. */
    uint8_t *out = arena_alloc(tree->arena, (size_t)(close - raw) + 1);
    if (!out)
        return no_memory(tree);
    size_t len;
    if (!unescape(raw, close, out, &len))
        return false;
    out[len] = 0;
    *ret_string = slice_make(out, len);
    return true;
}

bool json_tree_name(struct json_tree *tree, const uint8_t *raw)
{
    slice name;
    if (!string_at(tree, raw, &name))
        return false;
    if (tree->name_count == tree->name_capacity) {
        void *stack = tree->names;
        if (!grow(tree, &stack, &tree->name_capacity, sizeof *tree->names))
            return false;
        tree->names = stack;
    }
    tree->names[tree->name_count++] = name;
    const struct json_options *options = tree->options;
    bool here = tree->depth == (options->float_depth ? options->float_depth : 1);
    tree->rows_wanted = false;
    for (size_t i = 0; here && i < options->float_member_count; i++)
        if (slice_equal(name, options->float_members[i]))
            tree->rows_wanted = true;
    return true;
}

bool json_tree_string(struct json_tree *tree, const uint8_t *token, const uint8_t *raw)
{
    slice text;
    if (!string_at(tree, raw, &text))
        return false;
    struct json_value *value = push(tree, token, JSON_STRING);
    if (!value)
        return false;
    value->string = text;
    return true;
}

/* An integer literal that fits; "-0" is none, since it must keep its sign. */
static bool integer_at(const uint8_t *token, int64_t *ret_value, bool *ret_integer)
{
    bool negative = *token == '-', fits = true;
    const uint8_t *at = token + negative;
    int64_t value = 0;
    for (; *at >= '0' && *at <= '9'; at++) {
        int64_t digit = *at - '0';
        fits = fits && !__builtin_mul_overflow(value, 10, &value) &&
               !(negative ? __builtin_sub_overflow(value, digit, &value)
                          : __builtin_add_overflow(value, digit, &value));
    }
    *ret_integer = *at != '.' && *at != 'e' && *at != 'E';
    *ret_value = value;
    return *ret_integer && fits && !(negative && value == 0);
}

bool json_tree_number(struct json_tree *tree, const uint8_t *token, double number)
{
    bool integer;
    int64_t exact;
    bool fits = integer_at(token, &exact, &integer);
    struct json_value *value = push(tree, token, fits ? JSON_INT : JSON_FLOAT);
    if (!value)
        return false;
    if (fits) {
        value->integer = exact;
    } else {
        value->number = number;
        value->big = integer && number != 0.0;
    }
    return true;
}

bool json_tree_bool(struct json_tree *tree, const uint8_t *token, bool truth)
{
    struct json_value *value = push(tree, token, JSON_BOOL);
    if (value)
        value->boolean = truth;
    return value != NULL;
}

bool json_tree_null(struct json_tree *tree, const uint8_t *token)
{
    return push(tree, token, JSON_NULL) != NULL;
}

bool json_tree_wants_rows(const struct json_tree *tree)
{
    return tree->rows_wanted;
}

struct json_rows *json_tree_rows(struct json_tree *tree)
{
    return &tree->rows;
}

bool json_tree_rows_grow(struct json_tree *tree)
{
    struct json_rows *rows = &tree->rows;
    size_t more = rows->capacity ? rows->capacity : 1024, bytes;
    if (mul_overflows(rows->capacity + more, sizeof(float), &bytes) ||
        !charge(tree, more * sizeof(float)))
        return no_memory(tree);
    float *bigger = mem_alloc_aligned(64, bytes);
    if (!bigger)
        return no_memory(tree);
    if (rows->count)
        memcpy(bigger, rows->at, rows->count * sizeof(float));
    mem_free_aligned(rows->at);
    rows->at = bigger;
    rows->capacity += more;
    return true;
}

/* Rows hold their place in the block until json_tree_rows_done() knows the final one. */
bool json_tree_row(struct json_tree *tree, const uint8_t *token, size_t first, bool big)
{
    struct json_value *value = push(tree, token, JSON_FLOATS);
    if (!value)
        return false;
    value->big = big;
    value->count = (uint32_t)(tree->rows.count - first);
    value->integer = (int64_t)first;
    return true;
}

/* Rows of one length lie as they were read; else each row gets its own aligned place. */
bool json_tree_rows_done(struct json_tree *tree)
{
    const struct json_frame *frame = &tree->frames[tree->depth - 1];
    size_t count = tree->value_count - frame->first_value, row_count = 0, room = 0;
    if (count == 0)
        return true;
    struct json_value *rows = tree->values + frame->first_value;
    bool even = true;
    for (size_t i = 0; i < count; i++) {
        even = even && rows[i].kind == JSON_FLOATS && rows[i].count == rows[0].count;
        if (rows[i].kind == JSON_FLOATS) {
            row_count++;
            room += (size_t)round_up(rows[i].count, 16);
        }
    }
    if (row_count == 0)
        return true;
    if (even)
        room = tree->rows.count;
    float *block = arena_alloc_aligned(tree->arena, 64, (room ? room : 1) * sizeof(float));
    if (!block)
        return no_memory(tree);
    if (even && room)
        memcpy(block, tree->rows.at, room * sizeof(float));
    for (size_t i = 0, at = 0; i < count; i++) {
        if (rows[i].kind != JSON_FLOATS)
            continue;
        if (!even && rows[i].count)
            memcpy(block + at, tree->rows.at + rows[i].integer, rows[i].count * sizeof(float));
        rows[i].floats = block + at;
        at += even ? rows[i].count : (size_t)round_up(rows[i].count, 16);
    }
    tree->rows.count = 0;
    return true;
}
