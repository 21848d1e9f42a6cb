/* SPDX-License-Identifier: Apache-2.0 */
/* Metadata in its one encoding, shared by log, parts and wire (D2).  docs/formats/metadata.md.
 *
 * varint entry count, then entries in ascending byte order of their keys, each key once:
 * varint key length, key, u8 type, varint value size, value.  Values: bool u8; int i64; float f64; string bytes;
 * arrays: elements one behind the other (bools u8, ints i64, floats f64, strings varint length + bytes);
 * empty array and delete-key: nothing; sparse: varint count, u32 indices, f32 values, u8 has_tokens, tokens as strings. */
#ifndef MODEL_META_H
#define MODEL_META_H

#include "base/buf.h"
#include "base/bytes.h"
#include "json/json.h"

enum meta_type {
    META_BOOL = 1,
    META_INT = 2,
    META_FLOAT = 3,
    META_STRING = 4,
    META_BOOLS = 5,
    META_INTS = 6,
    META_FLOATS = 7,
    META_STRINGS = 8,
    META_EMPTY = 9,
    META_SPARSE = 10,
    META_DELETE = 11 /* only in updates: remove this key */
};
struct meta_entry {
    slice key;
    uint8_t type;
    slice value; /* the value's bytes */
};
struct meta_iter {
    struct reader reader;
    uint64_t left;
};

/** Walk trusted or untrusted bytes; false at the end or at damage (then iter->reader.failed). */
void meta_iter_init(struct meta_iter *iter, slice encoded);
bool meta_iter_next(struct meta_iter *iter, struct meta_entry *ret_entry);
/** The entry of a key; hot: called per row by filters. */
bool meta_find(slice encoded, slice key, struct meta_entry *ret_entry);
/** Check everything: structure, order of keys, sizes, UTF-8 not.  OCH_CORRUPT. */
MUST_USE och_code meta_validate(slice encoded, och_error *err);

enum meta_flags {
    META_ALLOW_DELETE = 1, /* null values mean "delete this key" (update, upsert) */
    META_NO_SPARSE = 2,    /* collection metadata: sparse vectors are 400 */
    META_COLLECTION = 4    /* collection metadata: nulls refused as add; messages say so */
};
/**
 * Encode a JSON object.  Errors: OCH_INVALID for a bad key ("", '#', '$', "chroma:" first) or a malformed sparse vector, message =
 * reason with the key; OCH_SHAPE for a value of no type (mixed or nested array, null not allowed).  `value` must be an object.
 */
MUST_USE och_code meta_from_json(const struct json_value *value, unsigned flags, struct buf *out,
                                 och_error *err);
/** Write as a JSON object; META_DELETE entries are left out. */
void meta_to_json(slice encoded, struct buf *out);
/** Write one value as JSON. */
void meta_value_to_json(const struct meta_entry *entry, struct buf *out);
/** old with patch laid over it, META_DELETE entries applied and dropped.  An empty result is a map of 0 entries; *ret_empty says so. */
void meta_merge(slice old, slice patch, struct buf *out, bool *ret_empty);
/** How many entries. */
uint64_t meta_count(slice encoded);

/* Value access; the entry must have that type. */
bool meta_bool(const struct meta_entry *entry);
int64_t meta_int(const struct meta_entry *entry);
double meta_float(const struct meta_entry *entry);

/** Value types of schema keys (schema-and-config.md §5): arrays count as their element type. */
enum schema_type {
    SCHEMA_STRING = 0,
    SCHEMA_INT = 1,
    SCHEMA_FLOAT = 2,
    SCHEMA_BOOL = 3,
    SCHEMA_SPARSE = 4,
    SCHEMA_TYPE_COUNT = 5
};
/** -1 for META_EMPTY and META_DELETE. */
int meta_schema_type(uint8_t meta_type);
#endif
