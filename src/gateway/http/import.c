/* SPDX-License-Identifier: Apache-2.0 */
/* Records as NDJSON, bodies of add, upsert and update of our own (docs/extras.md): one record a line, `batch_size` lines an atomic batch.  Lines are
 * read one after the other, so beside the body this takes the memory of one batch.  A fault names its line; the batches before it stay. */
#include "base/bytes.h"
#include "gateway/http/exchange.h"

#include "model/limits.h"

#include <inttypes.h>
#include <math.h>

#define BATCH_LINES     1000u
#define BATCH_LINES_MAX 16384u

struct import {
    struct exchange *x;
    const struct sysdb_collection *collection;
    enum batch_op op;
    slice rest;            /* lines to come */
    uint64_t line;         /* number of the one being read, from 1 */
    uint64_t batch_number; /* from 0 */
    struct gateway_once key;
    struct gateway_counts counts;
    /* the batch under way */
    struct arena arena, scratch; /* of the batch; of one line */
    struct batch_input_row *rows;
    uint32_t count, dimension;
};

bool import_is_wanted(const struct exchange *x)
{
    slice type = http_request_header(x->request, SLICE("content-type"));
    size_t end = 0;
    while (end < type.len && type.at[end] != ';' && type.at[end] != ' ')
        end++;
    slice name = slice_make(type.at, end);
    return type.at && (slice_equal_nocase(name, SLICE("application/x-ndjson")) ||
                       slice_equal_nocase(name, SLICE("application/jsonl")));
}

/* A copy in the batch's arena: the line's own values go with the line. */
static och_code keep(struct import *m, slice text, slice *ret_copy, och_error *err)
{
    *ret_copy = arena_copy(&m->arena, text);
    return ret_copy->at ? OCH_OK : FAIL_NO_MEMORY(err, "a record");
}

static och_code wrong(struct import *m, const char *name, const struct json_value *value,
                      const char *expected, och_error *err)
{
    return FAIL(err, OCH_INVALID, "%s: %s, expected %s", name, json_describe(value, &m->scratch),
                expected);
}

static och_code read_text(struct import *m, const char *name, const struct json_value *value,
                          uint8_t *state, slice *text, och_error *err)
{
    if (value->kind == JSON_NULL)
        return OCH_OK;
    if (value->kind != JSON_STRING)
        return wrong(m, name, value, "a string", err);
    *state = FIELD_VALUE;
    return keep(m, value->string, text, err);
}

static och_code read_embedding(struct import *m, const struct json_value *value,
                               struct batch_input_row *row, och_error *err)
{
    if (value->kind == JSON_NULL)
        return OCH_OK;
    if (value->kind != JSON_ARRAY || value->count == 0)
        return wrong(m, "embedding", value, "an array of numbers", err);
    if (m->dimension && m->dimension != value->count)
        return FAIL(err, OCH_INVALID, "embedding of dimension %" PRIu32 " among others of %" PRIu32,
                    value->count, m->dimension);
    if (!m->dimension)
        TRY(gateway_check_dimension(m->x->gateway, m->collection, value->count, err));
    m->dimension = value->count;
    float *vector = ARENA_ARRAY(&m->arena, float, value->count);
    if (!vector)
        return FAIL_NO_MEMORY(err, "an embedding");
    for (uint32_t i = 0; i < value->count; i++) {
        const struct json_value *item = &value->items[i];
        if (item->kind != JSON_INT && item->kind != JSON_FLOAT)
            return wrong(m, "embedding", item, "a number", err);
        vector[i] = (float)(item->kind == JSON_INT ? (double)item->integer : item->number);
        if (!isfinite(vector[i]))
            return FAIL(err, OCH_INVALID, "embedding: number %" PRIu32 " is too large for f32", i);
    }
    row->vector = vector;
    return OCH_OK;
}

static och_code read_metadata(struct import *m, const struct json_value *value,
                              struct batch_input_row *row, och_error *err)
{
    if (value->kind == JSON_NULL)
        return OCH_OK;
    if (value->kind != JSON_OBJECT)
        return wrong(m, "metadata", value, "an object", err);
    struct buf encoded;
    buf_init(&encoded, BUF_MAX_NONE);
    och_code code =
        meta_from_json(value, m->op == BATCH_ADD ? 0 : META_ALLOW_DELETE, &encoded, err);
    if (code == OCH_OK)
        code = buf_check(&encoded, "metadata", err);
    if (code == OCH_OK)
        code = keep(m, buf_view(&encoded), &row->metadata, err);
    else
        error_context(err, "metadata");
    row->metadata_state = FIELD_VALUE;
    buf_done(&encoded);
    return code;
}

static och_code read_member(struct import *m, const struct json_member *member,
                            struct batch_input_row *row, och_error *err)
{
    const struct json_value *value = &member->value;
    uint8_t unused = 0;
    if (slice_equal(member->name, SLICE("id")))
        return read_text(m, "id", value, &unused, &row->id, err);
    if (slice_equal(member->name, SLICE("embedding")))
        return read_embedding(m, value, row, err);
    if (slice_equal(member->name, SLICE("document")))
        return read_text(m, "document", value, &row->document_state, &row->document, err);
    if (slice_equal(member->name, SLICE("uri")))
        return read_text(m, "uri", value, &row->uri_state, &row->uri, err);
    if (slice_equal(member->name, SLICE("metadata")))
        return read_metadata(m, value, row, err);
    if (slice_equal(member->name, SLICE("expires_at"))) {
        if (value->kind != JSON_INT && value->kind != JSON_NULL)
            return wrong(m, "expires_at", value, "an integer", err);
        return exchange_expiry(m->x, value, NULL, &row->expires_ms, err);
    }
    return FAIL(err, OCH_INVALID,
                "unknown member `%.*s`, expected one of `id`, `embedding`, `document`, `uri`, "
                "`metadata`, `expires_at`",
                (int)min_size(member->name.len, 40), (const char *)member->name.at);
}

static och_code read_record(struct import *m, slice line, och_error *err)
{
    struct json_options options = {.keep_text = true};
    struct json_fault fault = {0};
    struct json_value value;
    och_code code = json_read(line, &options, &m->scratch, &value, &fault, err);
    if (code == OCH_INVALID)
        return FAIL(err, OCH_INVALID, "not JSON: %s at column %" PRIu32, fault.reason,
                    fault.column);
    TRY(code);
    if (value.kind != JSON_OBJECT)
        return wrong(m, "record", &value, "an object", err);
    struct batch_input_row *row = &m->rows[m->count];
    *row = (struct batch_input_row){.op = (uint8_t)m->op};
    for (uint32_t i = 0; i < value.count; i++)
        TRY(read_member(m, &value.members[i], row, err));
    if (row->id.len == 0)
        return FAIL(err, OCH_INVALID, "a record needs an `id` of at least one character");
    if (!row->vector && m->op != BATCH_UPDATE)
        return FAIL(err, OCH_INVALID, "a record to add or upsert needs an `embedding`");
    m->count++;
    return OCH_OK;
}

/* The next line without its end; false: there is none. */
static bool next_line(struct import *m, slice *ret_line)
{
    if (m->rest.len == 0)
        return false;
    const uint8_t *end = memchr(m->rest.at, '\n', m->rest.len);
    size_t len = end ? (size_t)(end - m->rest.at) : m->rest.len;
    *ret_line = slice_make(m->rest.at, len);
    m->rest = slice_from(m->rest, end ? len + 1 : len);
    m->line++;
    return true;
}

static bool is_blank(slice line)
{
    for (size_t i = 0; i < line.len; i++) {
        if (line.at[i] != ' ' && line.at[i] != '\t' && line.at[i] != '\r')
            return false;
    }
    return true;
}

static och_code read_batch(struct import *m, uint32_t most, och_error *err)
{
    m->count = m->dimension = 0;
    m->rows = ARENA_ARRAY(&m->arena, struct batch_input_row, most);
    if (!m->rows)
        return FAIL_NO_MEMORY(err, "a batch");
    slice line;
    while (m->count < most && next_line(m, &line)) {
        TRY(work_check(&m->x->request->limits, err));
        och_code code = is_blank(line) ? OCH_OK : read_record(m, line, err);
        arena_done(&m->scratch);
        TRY(code);
    }
    return OCH_OK;
}

/* Under an Idempotency-Key each batch has a key of its own, made of the request's and its number: sent again, what is there is passed over. */
static struct gateway_once key_of(const struct import *m, slice text)
{
    struct gateway_once once = m->key;
    if (uuid_is_zero(once.batch_id))
        return once;
    uint64_t number = load_u64(once.batch_id.bytes + 8) + m->batch_number;
    store_u64(once.batch_id.bytes + 8, number);
    once.request_hash = slice_hash(text) + (uint64_t)m->op;
    return once;
}

static och_code write_batch(struct import *m, slice text, och_error *err)
{
    struct gateway_write write = {
        .collection = m->collection->id,
        .input = {.count = m->count, .dimension = m->dimension, .rows = m->rows},
        .want_counts = true,
        .once = key_of(m, text)};
    struct gateway_counts counts;
    och_code code = gateway_write(m->x->gateway, &m->x->scope, &write, &counts, err);
    if (code == OCH_CONFLICT)
        m->x->error_status = 422; /* another request under the same Idempotency-Key (D17) */
    TRY(code);
    m->counts.inserted += counts.inserted;
    m->counts.updated += counts.updated;
    m->counts.skipped += counts.skipped;
    m->batch_number++;
    return OCH_OK;
}

static och_code run(struct import *m, uint32_t most, uint64_t *ret_first_line, och_error *err)
{
    while (m->rest.len > 0) {
        const uint8_t *begin = m->rest.at;
        *ret_first_line = m->line + 1;
        och_code code = read_batch(m, most, err);
        bool at_line = code != OCH_OK;
        if (code == OCH_OK && m->count > 0)
            code = write_batch(m, slice_make(begin, (size_t)(m->rest.at - begin)), err);
        arena_done(&m->arena);
        if (code != OCH_OK && at_line)
            error_context(err, "line %" PRIu64, m->line);
        else if (code != OCH_OK)
            error_context(err, "lines %" PRIu64 " to %" PRIu64, *ret_first_line, m->line);
        TRY(code);
    }
    return OCH_OK;
}

och_code import_lines(struct exchange *x, enum batch_op op, int status, och_error *err)
{
    uint64_t most, first_line = 1;
    const struct sysdb_collection *collection CLEANUP(sysdb_collection_cleanup) = NULL;
    TRY(wire_check_size(x, err));
    TRY(wire_query_u64(x, "batch_size", BATCH_LINES, &most, err));
    if (most < 1 || most > BATCH_LINES_MAX)
        return FAIL(err, OCH_INVALID, "batch_size must be from 1 to %u", BATCH_LINES_MAX);
    TRY(exchange_collection(x, &collection, err));
    struct import m = {.x = x, .collection = collection, .op = op, .rest = x->request->body};
    TRY(exchange_key(x, op, collection->id, &m.key, err));
    arena_init(&m.arena, x->gateway->options.budget, 0);
    arena_init(&m.scratch, x->gateway->options.budget, 0);
    och_code code = run(&m, (uint32_t)most, &first_line, err);
    arena_done(&m.scratch);
    arena_done(&m.arena);
    if (code != OCH_OK && first_line > 1)
        error_append(err, "; what stands before line %" PRIu64 " is written", first_line);
    TRY(code);
    x->reply->status = status;
    exchange_counts(&x->reply->body, &m.counts);
    return OCH_OK;
}
