/* SPDX-License-Identifier: Apache-2.0 */
/* Records as NDJSON, of our own (docs/extras.md): one record a line, `batch_lines` lines an atomic batch, each durable before the next is read.  The
 * text comes in pieces cut anywhere, so this takes the memory of one batch and one line.  A fault names its line; the batches before it stay. */
#include "base/bytes.h"
#include "gateway/http/exchange.h"

#include "model/limits.h"

#include <inttypes.h>
#include <math.h>

#define LINE_PADDING 64 /* readable bytes behind a text of JSON */

struct gateway_import {
    struct gateway *gateway;
    struct gateway_import_options options;
    struct gateway_scope scope; /* its names are in `names` */
    struct arena names;
    const struct sysdb_collection *collection;
    struct buf carry;      /* the beginning of a line that has not come whole */
    uint64_t line;         /* number of the one being read, from 1 */
    uint64_t batch_number; /* from 0 */
    struct gateway_counts counts;
    bool failed;
    /* the batch under way */
    struct arena arena, scratch;  /* of the batch; of one line */
    struct batch_input_row *rows; /* options.batch_lines, NULL: none begun */
    uint64_t first_line, hash;
    uint32_t count, dimension;
};

/* A copy in the batch's arena: the line's own values go with the line. */
static och_code keep(struct gateway_import *m, slice text, slice *ret_copy, och_error *err)
{
    *ret_copy = arena_copy(&m->arena, text);
    return ret_copy->at ? OCH_OK : FAIL_NO_MEMORY(err, "a record");
}

static och_code wrong(struct gateway_import *m, const char *name, const struct json_value *value,
                      const char *expected, och_error *err)
{
    return FAIL(err, OCH_INVALID, "%s: %s, expected %s", name, json_describe(value, &m->scratch),
                expected);
}

static och_code read_text(struct gateway_import *m, const char *name,
                          const struct json_value *value, uint8_t *state, slice *text,
                          och_error *err)
{
    if (value->kind == JSON_NULL)
        return OCH_OK;
    if (value->kind != JSON_STRING)
        return wrong(m, name, value, "a string", err);
    *state = FIELD_VALUE;
    return keep(m, value->string, text, err);
}

static och_code read_embedding(struct gateway_import *m, const struct json_value *value,
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
        TRY(gateway_check_dimension(m->gateway, m->collection, value->count, err));
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

static och_code read_metadata(struct gateway_import *m, const struct json_value *value,
                              struct batch_input_row *row, och_error *err)
{
    if (value->kind == JSON_NULL)
        return OCH_OK;
    if (value->kind != JSON_OBJECT)
        return wrong(m, "metadata", value, "an object", err);
    struct buf encoded;
    buf_init(&encoded, BUF_MAX_NONE);
    och_code code =
        meta_from_json(value, m->options.op == BATCH_ADD ? 0 : META_ALLOW_DELETE, &encoded, err);
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

static och_code read_member(struct gateway_import *m, const struct json_member *member,
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
        if (value->kind == JSON_NULL)
            return OCH_OK;
        if (value->kind != JSON_INT)
            return wrong(m, "expires_at", value, "an integer", err);
        if (value->integer < 0)
            return FAIL(err, OCH_INVALID,
                        "Validation error: expires_at: %" PRId64
                        " is before 1970; milliseconds since then, or 0 for never",
                        value->integer);
        row->expires_ms = value->integer ? value->integer : BATCH_NEVER;
        return OCH_OK;
    }
    return FAIL(err, OCH_INVALID,
                "unknown member `%.*s`, expected one of `id`, `embedding`, `document`, `uri`, "
                "`metadata`, `expires_at`",
                (int)min_size(member->name.len, 40), (const char *)member->name.at);
}

static och_code read_record(struct gateway_import *m, slice line, och_error *err)
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
    *row = (struct batch_input_row){.op = (uint8_t)m->options.op};
    for (uint32_t i = 0; i < value.count; i++)
        TRY(read_member(m, &value.members[i], row, err));
    if (row->id.len == 0)
        return FAIL(err, OCH_INVALID, "a record needs an `id` of at least one character");
    if (!row->vector && m->options.op != BATCH_UPDATE)
        return FAIL(err, OCH_INVALID, "a record to add or upsert needs an `embedding`");
    m->count++;
    return OCH_OK;
}

static bool is_blank(slice line)
{
    for (size_t i = 0; i < line.len; i++) {
        if (line.at[i] != ' ' && line.at[i] != '\t' && line.at[i] != '\r')
            return false;
    }
    return true;
}

/* ---- batches ---- */

/* Under an Idempotency-Key each batch has a key of its own, made of the request's and its number: sent again, what is there is passed over. */
static struct gateway_once key_of(const struct gateway_import *m)
{
    struct gateway_once once = m->options.key;
    if (uuid_is_zero(once.batch_id))
        return once;
    uint64_t number = load_u64(once.batch_id.bytes + 8) + m->batch_number;
    store_u64(once.batch_id.bytes + 8, number);
    once.request_hash = m->hash + (uint64_t)m->options.op;
    return once;
}

static och_code write_batch(struct gateway_import *m, och_error *err)
{
    och_code code = OCH_OK;
    if (m->count > 0) {
        struct gateway_write write = {
            .collection = m->collection->id,
            .input = {.count = m->count, .dimension = m->dimension, .rows = m->rows},
            .want_counts = true,
            .once = key_of(m)};
        struct gateway_counts counts;
        code = gateway_write(m->gateway, &m->scope, &write, &counts, err);
        if (code == OCH_OK) {
            m->counts.inserted += counts.inserted;
            m->counts.updated += counts.updated;
            m->counts.skipped += counts.skipped;
            m->batch_number++;
        } else {
            error_context(err, "lines %" PRIu64 " to %" PRIu64, m->first_line, m->line);
        }
    }
    arena_done(&m->arena);
    m->rows = NULL;
    m->count = m->dimension = 0;
    if (code == OCH_OK)
        m->first_line = m->line + 1;
    return code;
}

/* 64 readable bytes follow the line. */
static och_code take_line(struct gateway_import *m, slice line, och_error *err)
{
    m->line++;
    if (!m->rows) {
        m->rows = ARENA_ARRAY(&m->arena, struct batch_input_row, m->options.batch_lines);
        m->hash = 0;
        if (!m->rows)
            return FAIL_NO_MEMORY(err, "a batch");
    }
    m->hash = (m->hash << 7 | m->hash >> 57) * UINT64_C(0x9e3779b97f4a7c15) ^ slice_hash(line);
    och_code code = work_check(&m->scope.limits, err);
    if (code == OCH_OK && !is_blank(line))
        code = read_record(m, line, err);
    arena_done(&m->scratch);
    if (code != OCH_OK)
        error_context(err, "line %" PRIu64, m->line);
    TRY(code);
    return m->count == m->options.batch_lines ? write_batch(m, err) : OCH_OK;
}

/* ---- text in pieces ---- */

static och_code carry_on(struct gateway_import *m, slice text, och_error *err)
{
    if (text.len > m->options.line_bytes_max - m->carry.len)
        return FAIL(err, OCH_TOO_LARGE, "line %" PRIu64 ": longer than %zu bytes", m->line + 1,
                    m->options.line_bytes_max);
    budget_force(m->gateway->options.budget, text.len);
    buf_slice(&m->carry, text);
    return buf_check(&m->carry, "a line", err);
}

static och_code take_carried(struct gateway_import *m, och_error *err)
{
    size_t len = m->carry.len;
    uint8_t *padding = buf_reserve(&m->carry, LINE_PADDING);
    if (!padding)
        return FAIL_NO_MEMORY(err, "a line");
    memset(padding, 0, LINE_PADDING);
    och_code code = take_line(m, slice_make(m->carry.at, len), err);
    budget_give(m->gateway->options.budget, len);
    buf_clear(&m->carry);
    return code;
}

static och_code take_text(struct gateway_import *m, slice text, och_error *err)
{
    while (text.len > 0) {
        const uint8_t *end = memchr(text.at, '\n', text.len);
        slice line = slice_make(text.at, end ? (size_t)(end - text.at) : text.len);
        text = slice_from(text, end ? line.len + 1 : line.len);
        if (!end || m->carry.len > 0)
            TRY(carry_on(m, line, err));
        if (end)
            TRY(m->carry.len > 0 ? take_carried(m, err) : take_line(m, line, err));
    }
    return OCH_OK;
}

/* What a fault leaves is told with it. */
static och_code judge(struct gateway_import *m, och_code code, och_error *err)
{
    if (code == OCH_OK)
        return code;
    m->failed = true;
    if (m->first_line == 2)
        error_append(err, "; line 1 is written");
    else if (m->first_line > 1)
        error_append(err, "; the %" PRIu64 " lines before line %" PRIu64 " are written",
                     m->first_line - 1, m->first_line);
    else
        error_append(err, "; nothing is written");
    return code;
}

och_code gateway_import_feed(struct gateway_import *m, slice text,
                             const struct limits_of_work *limits, och_error *err)
{
    assert(!m->failed);
    m->scope.limits = *limits;
    return judge(m, take_text(m, text, err), err);
}

och_code gateway_import_end(struct gateway_import *m, const struct limits_of_work *limits,
                            const och_error *broken, struct gateway_counts *ret_counts,
                            och_error *err)
{
    assert(!m->failed);
    m->scope.limits = *limits;
    if (broken)
        return judge(
            m, FAIL(err, broken->code, "line %" PRIu64 ": %s", m->line + 1, broken->message), err);
    och_code code = m->carry.len > 0 ? take_carried(m, err) : OCH_OK;
    if (code == OCH_OK && m->rows)
        code = write_batch(m, err);
    *ret_counts = m->counts;
    return judge(m, code, err);
}

/* ---- life ---- */

och_code gateway_import_new(struct gateway *gateway, const struct gateway_scope *scope,
                            const struct gateway_import_options *options,
                            struct gateway_import **ret_import, och_error *err)
{
    if (options->batch_lines < 1 || options->batch_lines > GATEWAY_IMPORT_LINES_MAX)
        return FAIL(err, OCH_INVALID, "batch_size must be from 1 to %u", GATEWAY_IMPORT_LINES_MAX);
    struct gateway_import *m = MEM_NEW(struct gateway_import);
    if (!m)
        return FAIL_NO_MEMORY(err, "an import");
    m->gateway = gateway;
    m->options = *options;
    m->first_line = 1;
    buf_init(&m->carry, BUF_MAX_NONE);
    arena_init(&m->names, gateway->options.budget, 0);
    arena_init(&m->arena, gateway->options.budget, 0);
    arena_init(&m->scratch, gateway->options.budget, 0);
    m->scope.tenant = arena_copy(&m->names, scope->tenant);
    m->scope.database = arena_copy(&m->names, scope->database);
    och_code code =
        m->scope.tenant.at && m->scope.database.at ? OCH_OK : FAIL_NO_MEMORY(err, "an import");
    if (code == OCH_OK)
        code = sysdb_collection_get(gateway->options.sysdb, scope->tenant, scope->database,
                                    options->collection, &m->collection, err);
    if (code == OCH_OK)
        *ret_import = m;
    else
        gateway_import_free(m);
    return code;
}

void gateway_import_free(struct gateway_import *import)
{
    if (!import)
        return;
    sysdb_collection_unref(import->collection);
    budget_give(import->gateway->options.budget, import->carry.len);
    buf_done(&import->carry);
    arena_done(&import->scratch);
    arena_done(&import->arena);
    arena_done(&import->names);
    mem_free(import);
}
