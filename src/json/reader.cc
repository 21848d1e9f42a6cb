// SPDX-License-Identifier: Apache-2.0
// The walk over a text by simdjson On-Demand.  Every value is visited, since what On-Demand does not visit it does not
// check; strings are handed on raw, because the tree unescapes them into their final place.
#include "json/shim.h"

#include <cmath>
#include <cstring>
#include <memory>
#include <new>
#include <simdjson.h>
#include <utility>

namespace
{
namespace od = simdjson::ondemand;

static_assert(JSON_PADDING >= simdjson::SIMDJSON_PADDING, "texts are padded for simdjson");
constexpr int depth_max = 128;

// One parser a thread: its index grows to the largest text and is used again.
od::parser *thread_parser()
{
    static thread_local std::unique_ptr<od::parser> parser;
    if (!parser)
        parser.reset(new (std::nothrow) od::parser());
    return parser.get();
}

// simdjson reads on into the padding where containers are left open; a value or name that begins there is none.
struct walk {
    json_tree *tree;
    const uint8_t *end;
    json_walk_result result = JSON_WALK_OK;

    bool refuse()
    {
        result = JSON_WALK_REFUSED;
        return false;
    }
    bool stop()
    {
        result = JSON_WALK_STOPPED;
        return false;
    }
    bool told(bool went_on)
    {
        return went_on || stop();
    }

    // The recursion is bounded by depth_max.
    bool value(od::value &value, int depth);
    bool array(od::array &array, const uint8_t *token, int depth);
    bool object(od::object &object, const uint8_t *token, int depth);
    bool rows(od::array &array, const uint8_t *token, int depth);
    bool row(od::value &value, const uint8_t *token, int depth);
};

const uint8_t *start_of(od::value &value)
{
    return reinterpret_cast<const uint8_t *>(value.raw_json_token().data());
}

inline bool is_digit(uint8_t byte)
{
    return byte >= '0' && byte <= '9';
}

// Where a well-formed number ends; null when it is none, or something else follows than may follow a number.
const uint8_t *number_end(const uint8_t *at)
{
    at += *at == '-';
    if (!is_digit(*at) || (*at == '0' && is_digit(at[1])))
        return nullptr;
    while (is_digit(*at))
        at++;
    if (*at == '.') {
        if (!is_digit(*++at))
            return nullptr;
        while (is_digit(*at))
            at++;
    }
    if (*at == 'e' || *at == 'E') {
        at++;
        at += *at == '-' || *at == '+';
        if (!is_digit(*at))
            return nullptr;
        while (is_digit(*at))
            at++;
    }
    return std::strchr(" \t\n\r,]}", *at) && *at ? at : nullptr;
}

// simdjson 3.0.1 reads "0." with more than 19 digits after the leading zeros wrong (it lets the digits overflow), and
// refuses exponents of 20 digits and more.
bool misread(const uint8_t *token, size_t len)
{
    const size_t sign = *token == '-';
    if (token[sign] != '0' || token[sign + 1] != '.' || len <= 21)
        return false;
    size_t zeros = 0;
    while (token[sign + 2 + zeros] == '0')
        zeros++;
    return len - sign - 2 - zeros > 19;
}

// False when it is not a number or overflows.  What simdjson cannot be trusted with goes to its slow and exact
// conversion; the token then stays where it is, and stepping on to the next value passes over it.
inline bool number_of(od::value &value, const uint8_t *token, double &number)
{
    if (!misread(token, value.raw_json_token().size()) && !value.get_double().get(number))
        return true;
    const uint8_t *end = number_end(token);
    if (!end)
        return false;
    number = simdjson::internal::from_chars(reinterpret_cast<const char *>(token),
                                            reinterpret_cast<const char *>(end));
    return std::isfinite(number);
}

bool walk::value(od::value &value, int depth)
{
    const uint8_t *token = start_of(value);
    if (token >= end)
        return refuse();
    switch (*token) {
    case '{': {
        od::object members;
        if (depth > depth_max || value.get_object().get(members))
            return refuse();
        return object(members, token, depth);
    }
    case '[': {
        od::array items;
        if (depth > depth_max || value.get_array().get(items))
            return refuse();
        return array(items, token, depth);
    }
    case '"': {
        od::raw_json_string raw;
        if (value.get_raw_json_string().get(raw))
            return refuse();
        return told(json_tree_string(tree, token, reinterpret_cast<const uint8_t *>(raw.raw())));
    }
    case 't':
    case 'f': {
        bool truth;
        if (value.get_bool().get(truth))
            return refuse();
        return told(json_tree_bool(tree, token, truth));
    }
    case 'n': {
        bool null;
        if (value.is_null().get(null) || !null)
            return refuse();
        return told(json_tree_null(tree, token));
    }
    default: {
        double number;
        if (!number_of(value, token, number))
            return refuse();
        return told(json_tree_number(tree, token, number));
    }
    }
}

bool walk::array(od::array &array, const uint8_t *token, int depth)
{
    if (!json_tree_open(tree, token, false))
        return stop();
    for (auto item : array) {
        od::value child;
        if (item.get(child))
            return refuse();
        if (!value(child, depth + 1))
            return false;
    }
    return told(json_tree_close(tree));
}

bool walk::object(od::object &object, const uint8_t *token, int depth)
{
    if (!json_tree_open(tree, token, true))
        return stop();
    for (auto member : object) {
        od::field field;
        if (std::move(member).get(field))
            return refuse();
        const uint8_t *raw = reinterpret_cast<const uint8_t *>(field.key().raw());
        if (raw >= end)
            return refuse();
        if (!json_tree_name(tree, raw))
            return stop();
        od::value &child = field.value();
        const uint8_t *start = start_of(child);
        if (json_tree_wants_rows(tree) && start < end && *start == '[') {
            od::array items;
            if (child.get_array().get(items))
                return refuse();
            if (!rows(items, start, depth + 1))
                return false;
        } else if (!value(child, depth + 1)) {
            return false;
        }
    }
    return told(json_tree_close(tree));
}

bool walk::rows(od::array &array, const uint8_t *token, int depth)
{
    if (!json_tree_open(tree, token, false))
        return stop();
    for (auto item : array) {
        od::value child;
        if (item.get(child))
            return refuse();
        const uint8_t *start = start_of(child);
        if (start < end && *start == '[' ? !row(child, start, depth + 1) : !value(child, depth + 1))
            return false;
    }
    return told(json_tree_rows_done(tree) && json_tree_close(tree));
}

// Numbers straight into the rows.  At the first thing that is not a number the array is walked again as any other.
bool walk::row(od::value &value, const uint8_t *token, int depth)
{
    json_rows *rows = json_tree_rows(tree);
    const size_t first = rows->count;
    bool big = false;
    od::array items;
    if (value.get_array().get(items))
        return refuse();
    for (auto item : items) {
        od::value child;
        if (item.get(child))
            return refuse();
        const uint8_t *start = start_of(child);
        if (start >= end)
            return refuse();
        if (*start != '-' && !is_digit(*start)) {
            rows->count = first;
            if (items.reset().error())
                return refuse();
            return array(items, token, depth);
        }
        double number;
        if (!number_of(child, start, number))
            return refuse();
        if (rows->count == rows->capacity && !json_tree_rows_grow(tree))
            return stop();
        // Out of range is infinity here by IEEE 754's rounding; written out, since C++ leaves it undefined.
        const bool over = std::fabs(number) >= 0x1.ffffffp127;
        rows->at[rows->count++] =
            over ? static_cast<float>(std::copysign(INFINITY, number)) : static_cast<float>(number);
        big |= over;
    }
    return told(json_tree_row(tree, token, first, big));
}
} // namespace

// Whether the last byte that is no blank closes a container: then no number runs on into the padding.
static bool ends_closed(const uint8_t *text, size_t len)
{
    while (len > 0 && (text[len - 1] == ' ' || text[len - 1] == '\n' || text[len - 1] == '\t' ||
                       text[len - 1] == '\r'))
        len--;
    return len > 0 && (text[len - 1] == '}' || text[len - 1] == ']');
}

enum json_walk_result json_walk(const uint8_t *text, size_t len, struct json_tree *tree)
{
    if (!ends_closed(text, len))
        return JSON_WALK_REFUSED;
    od::parser *parser = thread_parser();
    if (!parser)
        return JSON_WALK_NO_MEMORY;
    od::document document;
    simdjson::error_code error = parser->iterate(text, len, len + JSON_PADDING).get(document);
    if (error)
        return error == simdjson::MEMALLOC ? JSON_WALK_NO_MEMORY : JSON_WALK_REFUSED;
    od::value root;
    if (document.get_value().get(root))
        return JSON_WALK_REFUSED;
    walk walk{tree, text + len};
    // Nothing may be left, and nothing behind the end have been taken for more: then, and then only, is it out of bounds.
    if (walk.value(root, 1) && document.current_location().error() != simdjson::OUT_OF_BOUNDS)
        return JSON_WALK_REFUSED;
    return walk.result;
}

bool json_shim_utf8_valid(const uint8_t *text, size_t len)
{
    return simdjson::validate_utf8(reinterpret_cast<const char *>(text), len);
}

void json_shim_trim(size_t len)
{
    od::parser *parser = thread_parser();
    if (parser && parser->capacity() > len)
        *parser = od::parser();
}
