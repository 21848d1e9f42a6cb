/* SPDX-License-Identifier: Apache-2.0 */
/* where, where_document and #id as one tree (query-language.md §2, 3): parse, check, encode, compile, match. */
#ifndef MODEL_FILTER_H
#define MODEL_FILTER_H

#include "base/sched.h"
#include "model/meta.h"
#include "json/json.h"

enum filter_op {
    FILTER_AND = 1, /* no children: all */
    FILTER_OR = 2,  /* no children: none */
    FILTER_NOT = 3, /* one child (ours, D22) */
    FILTER_EQ = 10,
    FILTER_NE,
    FILTER_GT,
    FILTER_GTE,
    FILTER_LT,
    FILTER_LTE,
    FILTER_IN,
    FILTER_NIN,
    FILTER_CONTAINS, /* array element */
    FILTER_NOT_CONTAINS,
    FILTER_EXISTS,     /* ours; operand bool */
    FILTER_META_REGEX, /* ours: on a string value */
    FILTER_META_NOT_REGEX,
    FILTER_META_PREFIX, /* ours, as the next two: on a string value */
    FILTER_META_LIKE,   /* whole value; % any text, _ one character, \ takes the next as it is */
    FILTER_META_ICONTAINS,
    FILTER_ID_IN = 30, /* #id $eq, $in */
    FILTER_ID_NIN,
    FILTER_DOC_CONTAINS = 40,
    FILTER_DOC_NOT_CONTAINS,
    FILTER_DOC_REGEX,
    FILTER_DOC_NOT_REGEX,
    FILTER_DOC_PREFIX, /* ours, as the next two */
    FILTER_DOC_LIKE,
    FILTER_DOC_ICONTAINS
};
enum filter_value_kind { FILTER_STRING, FILTER_BOOL, FILTER_INT, FILTER_FLOAT };
struct filter_value {
    uint8_t kind;
    union {
        slice string;
        bool boolean;
        int64_t integer;
        double number;
    };
};
struct filter_node {
    uint8_t op;
    slice key; /* metadata key, for 10..29 */
    const struct filter_value
        *values; /* operands: one, or the list of $in / $nin; strings for id and document nodes */
    uint32_t value_count;
    struct filter_node **children;
    uint32_t child_count;
    slice
        place; /* of a pattern, where it stands in the request: `where.$and[1].name`.  For messages: not part of the binary form */
};

/** Keys that nobody has: every positive operator on one is false (query-language.md §2.2). */
static inline bool filter_key_is_reserved(slice key)
{
    return key.len == 0 || key.at[0] == '#' || slice_starts_with(key, SLICE("chroma:"));
}

/**
 * Parse a where clause; null or absent gives *ret_node = NULL (no filter).
 * Errors: OCH_INVALID "Invalid where clause: <json path>: <reason>" (X17), e.g. "Invalid where clause: $and[1].price: $gt needs a number, got the
 * string "12". Write {"price": {"$gt": 12}}."; also the quoted text for '#document' with another operator.
 */
MUST_USE och_code filter_parse_where(const struct json_value *where, struct arena *arena,
                                     struct filter_node **ret_node, och_error *err);
/** Same for where_document: "Invalid where document clause: ...". */
MUST_USE och_code filter_parse_document(const struct json_value *where, struct arena *arena,
                                        struct filter_node **ret_node, och_error *err);
/** filter_parse_where of a clause that errors of its patterns shall place below `root`: `searches[1].filter`. */
MUST_USE och_code filter_parse_where_at(const struct json_value *where, const char *root,
                                        struct arena *arena, struct filter_node **ret_node,
                                        och_error *err);
/** a AND b, either may be NULL. */
MUST_USE och_code filter_join(struct filter_node *a, struct filter_node *b, struct arena *arena,
                              struct filter_node **ret_node, och_error *err);

/** Binary form, part of the plan's.  node NULL is written as such. */
void filter_encode(const struct filter_node *node, struct buf *out);
MUST_USE och_code filter_decode(struct reader *reader, struct arena *arena,
                                struct filter_node **ret_node, och_error *err);

/** A tree made ready to match: regexes compiled, big lists hashed.  Immutable; any thread may match. */
struct filter;
/** Errors: OCH_INVALID "Regex syntax error: ..." (also for over-sized patterns and byte mode), ending in the pattern's place, which is marked; OCH_NO_MEMORY.
 *  node NULL gives NULL. */
MUST_USE och_code filter_compile(const struct filter_node *node, struct filter **ret_filter,
                                 och_error *err);
void filter_free(struct filter *filter); /* NULL is fine */
void filter_cleanup(struct filter **filter);

enum filter_need { FILTER_NEEDS_ID = 1, FILTER_NEEDS_METADATA = 2, FILTER_NEEDS_DOCUMENT = 4 };
unsigned filter_needs(const struct filter *filter);

/**
 * The regular expression that a leaf stands for which is matched by one: $regex and $not_regex, $like, $icontains, on metadata or documents.
 * Errors: OCH_INVALID (a $like that ends in a lone backslash; $like and $icontains longer than LIMIT_FILTER_PATTERN), OCH_NO_MEMORY.
 */
MUST_USE och_code filter_pattern(const struct filter_node *leaf, struct arena *arena,
                                 slice *ret_pattern, och_error *err);
/** What all strings begin with that such a leaf, or $prefix, can match; empty: nothing is known. */
MUST_USE och_code filter_literal_start(const struct filter_node *leaf, struct arena *arena,
                                       slice *ret_start, och_error *err);
/** The compiled expression of a leaf of the tree that `filter` was compiled from (the same node); NULL: it has none.  For those that match
 *  distinct values instead of rows; lives as long as the filter, any thread may use it. */
struct rure *filter_regex_of(const struct filter *filter, const struct filter_node *leaf);
bool filter_regex_match(struct rure *regex, slice text);

enum filter_truth { FILTER_FALSE = 0, FILTER_TRUE = 1, FILTER_UNKNOWN = 2 };
/** What looking at rows has cost: a filter may be large and a row, too.  Once `limits` say so it is given up: `stopped`, and the answers mean nothing. */
struct filter_work {
    const struct limits_of_work *limits;
    uint64_t bytes; /* since they were asked last */
    bool stopped;
};
/** What a filter looks at. `have` says which fields are loaded (enum filter_need); leaves on others are unknown and the answer may be FILTER_UNKNOWN. */
struct filter_row {
    unsigned have;
    slice id;
    slice metadata;           /* encoded, at NULL: none */
    slice document;           /* at NULL: none */
    struct filter_work *work; /* NULL: no limits */
};
/** Three-valued: evaluate with cheap fields first, load the document only when the answer is FILTER_UNKNOWN. filter NULL is true. */
enum filter_truth filter_match(const struct filter *filter, const struct filter_row *row);
/** Exact order of an int and a float as real numbers: <0, 0, >0; NaN is unordered (2). */
int filter_compare_int_float(int64_t a, double b);
#endif
