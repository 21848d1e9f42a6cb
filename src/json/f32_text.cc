// SPDX-License-Identifier: Apache-2.0
// Shortest text of floating point numbers: dragonbox finds the digits, this file lays them out in json.h's notation.
// Needs no C++ library at run time.
#include "json/shim.h"

#include <cstring>
#include <dragonbox/dragonbox.h>

namespace
{

// "00" to "99".
struct digit_pairs {
    char text[200];
    constexpr digit_pairs() : text()
    {
        for (int i = 0; i < 100; i++) {
            text[2 * i] = static_cast<char>('0' + i / 10);
            text[2 * i + 1] = static_cast<char>('0' + i % 10);
        }
    }
};
constexpr digit_pairs pairs;

// 10^0 to 10^19.
struct powers_of_ten {
    uint64_t value[20];
    constexpr powers_of_ten() : value()
    {
        value[0] = 1;
        for (int i = 1; i < 20; i++)
            value[i] = value[i - 1] * 10;
    }
};
constexpr powers_of_ten powers;

// Without a branch on the length, which no one can foresee: 1233 / 4096 is a little more than log10(2).
inline int count_digits(uint64_t value)
{
    const int bits = 64 - __builtin_clzll(value | 1);
    const int least = bits * 1233 >> 12;
    return least + (value >= powers.value[least]);
}

// The decimal digits of value, which has `count` of them.
template <class Unsigned> inline void put_digits(char *out, Unsigned value, int count)
{
    while (count > 2) {
        const auto rest = static_cast<unsigned>(value % 100);
        value /= 100;
        count -= 2;
        std::memcpy(out + count, pairs.text + 2 * rest, 2);
    }
    if (count == 2)
        std::memcpy(out, pairs.text + 2 * static_cast<unsigned>(value), 2);
    else
        out[0] = static_cast<char>('0' + static_cast<unsigned>(value));
}

inline char *put_exponent(char *out, int exponent)
{
    *out++ = 'e';
    *out++ = exponent < 0 ? '-' : '+';
    const auto size = static_cast<unsigned>(exponent < 0 ? -exponent : exponent);
    const int count = count_digits(size);
    put_digits(out, size, count);
    return out + count;
}

// digits × 10^exponent, digits not 0 and not a multiple of ten.
template <class Unsigned> inline char *put_decimal(char *out, Unsigned digits, int exponent)
{
    const int count = count_digits(digits);
    const int point = count + exponent; // digits before the point, if positive
    if (point > 16 || point < -4) {
        put_digits(out + 1, digits, count);
        out[0] = out[1];
        if (count == 1)
            return put_exponent(out + 1, point - 1);
        out[1] = '.';
        return put_exponent(out + 1 + count, point - 1);
    }
    if (point <= 0) {
        std::memcpy(out, "0.00000", 7);
        put_digits(out + 2 - point, digits, count);
        return out + 2 - point + count;
    }
    if (exponent >= 0) {
        put_digits(out, digits, count);
        std::memset(out + count, '0', static_cast<size_t>(exponent));
        std::memcpy(out + point, ".0", 2);
        return out + point + 2;
    }
    put_digits(out + 1, digits, count);
    std::memmove(out, out + 1, static_cast<size_t>(point));
    out[point] = '.';
    return out + count + 1;
}

template <class Float> inline char *put_float(char *out, Float value)
{
    if (value == 0) {
        const bool negative = jkj::dragonbox::float_bits<Float>(value).is_negative();
        std::memcpy(out, negative ? "-0.0" : "0.0", 4);
        return out + (negative ? 4 : 3);
    }
    const auto decimal = jkj::dragonbox::to_decimal(value);
    *out = '-';
    out += decimal.is_negative;
    return put_decimal(out, decimal.significand, decimal.exponent);
}
} // namespace

size_t json_f32_text(float value, char *out)
{
    return static_cast<size_t>(put_float(out, value) - out);
}

size_t json_f64_text(double value, char *out)
{
    return static_cast<size_t>(put_float(out, value) - out);
}

size_t json_f32_texts(const float *values, size_t count, char *out)
{
    char *at = out;
    for (size_t i = 0; i < count; i++) {
        if (jkj::dragonbox::float_bits<float>(values[i]).is_finite()) {
            at = put_float(at, values[i]);
        } else {
            std::memcpy(at, "null", 4);
            at += 4;
        }
        *at++ = ',';
    }
    return count == 0 ? 0 : static_cast<size_t>(at - out - 1);
}
