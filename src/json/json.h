/* SPDX-License-Identifier: Apache-2.0 */
/* JSON text to arena values and back.  Reading is simdjson behind a C++ shim, writing is ours around dragonbox. */
#ifndef JSON_JSON_H
#define JSON_JSON_H

#include "base/arena.h"
#include "base/buf.h"

#define JSON_DEPTH_MAX 128

enum json_kind {
    JSON_NULL,
    JSON_BOOL,
    JSON_INT,   /* no '.', no exponent, fits i64, not "-0" */
    JSON_FLOAT, /* any other number; `big` when it was an integer literal outside i64 */
    JSON_STRING,
    JSON_ARRAY,
    JSON_OBJECT,
    JSON_FLOATS /* only below a member named in json_options: an array of numbers, as f32 */
};

struct json_member;
struct json_value {
    uint8_t kind;
    bool big; /* JSON_FLOAT: integer literal outside i64.  JSON_FLOATS: an element overflowed f32 */
    uint32_t count;  /* elements, members (as written, repeated names included), floats */
    uint32_t offset; /* byte in the text where the value starts, for messages */
    union {
        bool boolean;
        int64_t integer;
        double number;
        slice string; /* unescaped, in the arena */
        struct json_value *items;
        struct json_member *members;
        float *
            floats; /* 64-byte aligned; rows of equal length lie one behind the other, see json_options */
    };
};
struct json_member {
    slice name;
    struct json_value value;
};

struct json_options {
    /** Names of members, of the outermost object or of those at float_depth, whose value is an array of arrays of numbers: rows become JSON_FLOATS straight
     *  from the text.  When every element of such an array is an array of numbers of one length, all rows lie in one
     *  contiguous 64-byte aligned block in order (row i at floats + i*count).  Elements that are not arrays of
     *  numbers stay ordinary values.  Numbers are read as f64 and rounded to f32. */
    const slice *float_members;
    size_t float_member_count;
    uint32_t float_depth; /* arrays and objects around such a member, its own included; 0: 1 */
    bool keep_text; /* unused strings may point into `text`: the caller keeps it alive and padded */
};

/** Where and why a text is not JSON. */
struct json_fault {
    size_t offset;
    uint32_t line, column; /* 1-based; column in bytes */
    const char *reason;    /* static text */
};

/**
 * Read one JSON value; nothing but blanks may follow.  UTF-8 is checked, lone surrogates are refused, depth ≤ 128,
 * numbers that overflow f64 are refused.
 * Errors: OCH_INVALID (ret_fault filled, message "<reason> at line L column C"), OCH_NO_MEMORY.
 * Cost: about 1 GB/s; strings and nodes in the arena.
 */
MUST_USE och_code json_read(slice text, const struct json_options *options, struct arena *arena,
                            struct json_value *ret_value, struct json_fault *ret_fault,
                            och_error *err);

/** Line and column of a byte offset. */
void json_locate(slice text, size_t offset, uint32_t *ret_line, uint32_t *ret_column);
/** The LAST member of that name (a repeated key: last wins), NULL if absent or not an object. */
const struct json_value *json_get(const struct json_value *object, slice name);
/** What the peer calls it in messages: "null", "boolean `true`", "integer `1`", "floating point `1.5`", "string \"x\"", "sequence", "map". */
const char *json_describe(const struct json_value *value, struct arena *arena);

/** True when text is valid UTF-8. */
bool json_utf8_valid(slice text);

/* Writing: append to a buf; commas and colons are the caller's. */
void json_write_string(struct buf *buf, slice text);
void json_write_int(struct buf *buf, int64_t value);
/** Shortest text that reads back bit-equal, always with '.', or exponent; non-finite = null.
 *  Notation: 0.1, 1.0, 1e-7, 1e+16, plain from 1e-5 to below 1e16. */
void json_write_f64(struct buf *buf, double value);
void json_write_f32(struct buf *buf, float value);
/** "[1.0,2.5]". */
void json_write_f32_array(struct buf *buf, const float *values, size_t count);
/** Any value, compactly. */
void json_write_value(struct buf *buf, const struct json_value *value);
/** Deep equality (objects without regard to order, a repeated name's last value; ints and floats differ).
 *  Cost: members squared. */
bool json_equal(const struct json_value *a, const struct json_value *b);
#endif
