/* SPDX-License-Identifier: Apache-2.0 */
/* The order of a get's rows, and the place in it where a page begins: compare, encode, and as text for clients (cursors). */
#include "kernel/kernel.h"
#include "model/limits.h"
#include "model/plan.h"

#define CURSOR_VERSION 1
#define CURSOR_HEAD    9 /* version, fingerprint */

/* ---- order ---- */

static int rank_of(uint8_t type)
{
    return type == META_BOOL                        ? 1
           : type == META_INT || type == META_FLOAT ? 2
           : type == META_STRING                    ? 3
                                                    : 4;
}

static bool is_number(const struct plan_key *key)
{
    return (key->type == META_INT || key->type == META_FLOAT) && key->value.len == 8;
}

static int compare_floats(double a, double b)
{
    if (a != a || b != b)
        return (a != a) - (b != b); /* what is no number stands behind all numbers */
    return (a > b) - (a < b);
}

/* As numbers, whatever they are stored as. */
static int compare_numbers(const struct plan_key *a, const struct plan_key *b)
{
    if (a->type == META_INT && b->type == META_INT) {
        int64_t x = (int64_t)load_u64(a->value.at), y = (int64_t)load_u64(b->value.at);
        return (x > y) - (x < y);
    }
    if (a->type == META_FLOAT && b->type == META_FLOAT)
        return compare_floats(load_f64(a->value.at), load_f64(b->value.at));
    bool turned = a->type == META_FLOAT;
    double number = load_f64(turned ? a->value.at : b->value.at);
    int64_t integer = (int64_t)load_u64(turned ? b->value.at : a->value.at);
    if (number != number)
        return turned ? 1 : -1;
    int order = filter_compare_int_float(integer, number);
    return turned ? -order : order;
}

static int compare_values(const struct plan_key *a, const struct plan_key *b)
{
    int left = rank_of(a->type), right = rank_of(b->type);
    if (left != right)
        return left - right;
    if (is_number(a) && is_number(b))
        return compare_numbers(a, b);
    const struct meta_entry x = {.type = a->type, .value = a->value},
                            y = {.type = b->type, .value = b->value};
    return search_compare_meta(&x, &y);
}

int plan_compare(const struct plan_order *order, const struct plan_key *a, const struct plan_key *b)
{
    int by_seq = (a->seq > b->seq) - (a->seq < b->seq);
    if (order->by == PLAN_BY_INSERTION)
        return order->descending ? -by_seq : by_seq;
    if (!a->type || !b->type) { /* without a value: last, both ways */
        int missing = !a->type - !b->type;
        return missing ? missing : by_seq;
    }
    int by_value = compare_values(a, b);
    if (by_value)
        return order->descending ? -by_value : by_value;
    return by_seq;
}

/* ---- bytes ---- */

static void encode_key(const struct plan_key *key, struct buf *out)
{
    buf_byte(out, key->type);
    buf_u64(out, (uint64_t)key->seq);
    if (key->type)
        buf_sized(out, key->value);
}

static bool decode_key(struct reader *reader, struct plan_key *ret)
{
    ret->type = reader_u8(reader);
    ret->seq = (int64_t)reader_u64(reader);
    ret->value = ret->type ? reader_sized(reader) : SLICE_NONE;
    return !reader->failed && ret->type <= META_SPARSE;
}

void plan_order_encode(const struct plan *plan, struct buf *out)
{
    buf_byte(out, plan->order.by);
    buf_byte(out, (uint8_t)((plan->order.descending ? 1 : 0) | (plan->has_after ? 2 : 0)));
    if (plan->order.by == PLAN_BY_KEY)
        buf_sized(out, plan->order.key);
    if (plan->has_after)
        encode_key(&plan->after, out);
}

bool plan_order_decode(struct reader *reader, struct plan *plan)
{
    plan->order.by = reader_u8(reader);
    uint8_t flags = reader_u8(reader);
    plan->order.descending = flags & 1;
    plan->has_after = flags & 2;
    if (reader->failed || plan->order.by > PLAN_BY_KEY || flags > 3 || (!plan->order.by && !flags))
        return false;
    if (plan->order.by == PLAN_BY_KEY)
        plan->order.key = reader_sized(reader);
    return plan->has_after ? decode_key(reader, &plan->after) : !reader->failed;
}

void plan_facets_encode(const struct plan *plan, struct buf *out)
{
    buf_varint(out, plan->facet_count);
    for (uint32_t i = 0; i < plan->facet_count; i++) {
        buf_sized(out, plan->facets[i].key);
        buf_varint(out, plan->facets[i].limit);
        buf_byte(out, plan->facets[i].by_value);
    }
}

och_code plan_facets_decode(struct reader *reader, struct arena *arena, struct plan *plan,
                            och_error *err)
{
    uint64_t count = reader_varint(reader);
    if (reader->failed || count > LIMIT_FACETS)
        return FAIL(err, OCH_CORRUPT, "plan: facets out of range");
    struct plan_facet *facets = ARENA_ARRAY(arena, struct plan_facet, (size_t)count);
    if (!facets)
        return FAIL_NO_MEMORY(err, "a plan");
    for (uint64_t i = 0; i < count; i++) {
        facets[i].key = reader_sized(reader);
        uint64_t limit = reader_varint(reader);
        uint8_t by_value = reader_u8(reader);
        if (reader->failed || limit > UINT32_MAX || by_value > 1)
            return FAIL(err, OCH_CORRUPT, "plan: a facet that is none");
        facets[i].limit = (uint32_t)limit;
        facets[i].by_value = by_value;
    }
    if (reader_left(reader))
        return FAIL(err, OCH_CORRUPT, "plan: bytes behind its facets");
    plan->facets = facets;
    plan->facet_count = (uint32_t)count;
    return OCH_OK;
}

/* ---- cursors ---- */

/* Of all that decides which rows there are and in what order, pages aside. */
static och_code fingerprint(const struct plan *plan, uint64_t *ret, och_error *err)
{
    CLEANUP(buf_cleanup) struct buf bytes;
    buf_init(&bytes, BUF_MAX_NONE);
    buf_append(&bytes, plan->collection.bytes, sizeof(plan->collection.bytes));
    buf_byte(&bytes, plan->has_ids);
    for (uint64_t i = 0; plan->has_ids && i < plan->id_count; i++)
        buf_sized(&bytes, plan->ids[i]);
    filter_encode(plan->filter, &bytes);
    struct plan order = {.order = plan->order};
    plan_order_encode(&order, &bytes);
    TRY(buf_check(&bytes, "a cursor", err));
    *ret = slice_hash(buf_view(&bytes));
    return OCH_OK;
}

och_code plan_cursor_write(const struct plan *plan, const struct plan_key *last, struct buf *out,
                           och_error *err)
{
    uint64_t print;
    CLEANUP(buf_cleanup) struct buf bytes;
    buf_init(&bytes, BUF_MAX_NONE);
    TRY(fingerprint(plan, &print, err));
    buf_byte(&bytes, CURSOR_VERSION);
    buf_u64(&bytes, print);
    encode_key(last, &bytes);
    buf_u32(&bytes, kernel_get()->crc32c(0, bytes.at, bytes.len));
    TRY(buf_check(&bytes, "a cursor", err));
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < bytes.len; i++) {
        buf_byte(out, (uint8_t)digits[bytes.at[i] >> 4]);
        buf_byte(out, (uint8_t)digits[bytes.at[i] & 15]);
    }
    return OCH_OK;
}

static int digit_of(uint8_t c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

och_code plan_cursor_read(slice text, struct arena *arena, struct plan *plan, och_error *err)
{
    uint64_t print;
    size_t len = text.len / 2;
    uint8_t *bytes = arena_alloc(arena, len + 1);
    if (!bytes)
        return FAIL_NO_MEMORY(err, "a cursor");
    bool sound = text.len % 2 == 0 && len > CURSOR_HEAD + 4;
    for (size_t i = 0; i < len && sound; i++) {
        int high = digit_of(text.at[2 * i]), low = digit_of(text.at[2 * i + 1]);
        sound = high >= 0 && low >= 0;
        bytes[i] = (uint8_t)((unsigned)high << 4 | (unsigned)low);
    }
    sound = sound && kernel_get()->crc32c(0, bytes, len - 4) == load_u32(bytes + len - 4) &&
            bytes[0] == CURSOR_VERSION;
    struct reader reader = reader_of(slice_make(bytes, sound ? len - 4 : 0));
    (void)reader_skip(&reader, 1);
    uint64_t of = reader_u64(&reader);
    if (!sound || !decode_key(&reader, &plan->after) || reader_left(&reader))
        return FAIL(err, OCH_INVALID,
                    "cursor: not one that an answer gave. Begin with \"cursor\": \"\"");
    TRY(fingerprint(plan, &print, err));
    if (of != print)
        return FAIL(err, OCH_INVALID,
                    "cursor: it belongs to another request. Give it with the same collection, ids, "
                    "where, where_document and order_by");
    plan->has_after = true;
    return OCH_OK;
}
