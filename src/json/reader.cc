// SPDX-License-Identifier: Apache-2.0
// The walk over a text by simdjson On-Demand.  Every value is visited, since what On-Demand does not visit it does not
// check; strings are handed on raw, because the tree unescapes them into their final place.
#include "json/shim.h"

#include <cmath>
#include <cstddef>
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

constexpr uint64_t eight_zeros = 0x3030303030303030;

inline uint64_t eight_bytes(const uint8_t *at)
{
    uint64_t word;
    std::memcpy(&word, at, sizeof word);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

// How many of eight bytes, from the first on, are digits.
inline unsigned digits_in(uint64_t word)
{
    // Bytes of 0 to 9 stay below 0x10 and below 0x10 with six more; a carry only spoils what lies behind a non-digit.
    const uint64_t off = word ^ eight_zeros;
    const uint64_t other = (off | (off + 0x0606060606060606)) & 0xf0f0f0f0f0f0f0f0;
    return other ? static_cast<unsigned>(__builtin_ctzll(other)) / 8 : 8;
}

// The value of eight digits, the first one highest: pairs, then fours, by multiplication.
// Source: Lemire, Number parsing at a gigabyte per second, 2021, section 6.
inline uint64_t eight_digits(uint64_t word)
{
    word = (word - eight_zeros) * 10 + ((word - eight_zeros) >> 8);
    return ((word & 0x000000ff000000ff) * 0x000f424000000064 +
            (word >> 16 & 0x000000ff000000ff) * 0x0000271000000001) >>
           32;
}

// Append the digits at `at` to value, eight at a time, and pass them.  Wraps when there are too many: count them.
inline const uint8_t *digits_at(const uint8_t *at, uint64_t &value)
{
    static constexpr uint64_t powers[9] = {1,      10,      100,      1000,     10000,
                                           100000, 1000000, 10000000, 100000000};
    for (;;) {
        const uint64_t word = eight_bytes(at);
        const unsigned count = digits_in(word);
        if (count == 0)
            return at;
        // Fewer than eight move up to the end, zeros before them.
        const unsigned shift = 8 * (8 - count);
        const uint64_t moved = shift ? word << shift | eight_zeros >> (64 - shift) : word;
        value = value * powers[count] + eight_digits(moved);
        at += count;
        if (count < 8)
            return at;
    }
}

// What may follow a number.
inline bool ends_number(uint8_t byte)
{
    return byte == ',' || byte == ']' || byte == '}' || byte == ' ' || byte == '\n' ||
           byte == '\r' || byte == '\t';
}

// A number by the grammar of JSON; false when it is none or overflows.  The scan is ours because simdjson 3.0.1 lets
// the digits of "0." with more than 19 of them overflow unseen and refuses exponents of 20 digits; the conversion is
// simdjson's.  The token is not consumed: stepping on to the next value passes over it.
inline bool number_at(const uint8_t *token, double &number)
{
    const bool negative = *token == '-';
    const uint8_t *start = token + negative, *at = start;
    uint64_t digits = 0;
    if (!is_digit(*at))
        return false;
    // Most have one digit before the point.
    digits = *at++ - static_cast<unsigned>('0');
    if (is_digit(*at)) {
        if (digits == 0)
            return false;
        at = digits_at(at, digits);
    }
    std::ptrdiff_t count = at - start;
    int64_t exponent = 0;
    if (*at == '.') {
        const uint8_t *fraction = at + 1;
        at = digits_at(fraction, digits);
        if (at == fraction)
            return false;
        exponent = fraction - at;
        count += at - fraction;
    }
    if (*at == 'e' || *at == 'E') {
        at++;
        const bool down = *at == '-';
        at += down || *at == '+';
        if (!is_digit(*at))
            return false;
        int64_t power = 0;
        for (; is_digit(*at); at++)
            power = power < 100000000 ? power * 10 + (*at - '0') : power;
        exponent += down ? -power : power;
    }
    if (!ends_number(*at))
        return false;
    namespace numbers = simdjson::SIMDJSON_BUILTIN_IMPLEMENTATION::numberparsing;
    // Nineteen digits fit; zeros in front of them are none.
    if (count > 19)
        for (const uint8_t *front = start; *front == '0' || *front == '.'; front++)
            count -= *front == '0';
    if (count <= 19 && exponent >= simdjson::internal::smallest_power &&
        exponent <= simdjson::internal::largest_power &&
        numbers::compute_float_64(exponent, digits, false, number)) {
        // The sign of a component is anybody's guess: no branch on it.
        uint64_t bits;
        std::memcpy(&bits, &number, sizeof bits);
        bits |= static_cast<uint64_t>(negative) << 63;
        std::memcpy(&number, &bits, sizeof bits);
        return true;
    }
    number = simdjson::internal::from_chars(reinterpret_cast<const char *>(token),
                                            reinterpret_cast<const char *>(at));
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
        if (!number_at(token, number))
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
        if (!number_at(start, number))
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
