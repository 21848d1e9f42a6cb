/* SPDX-License-Identifier: Apache-2.0 */
/* Read a batch: everything is checked once, so that the accessors check nothing.
 * docs/formats/batch.md. */
#include "model/batch_internal.h"

static och_code fail(och_error *err, const char *what)
{
    return FAIL(err, OCH_CORRUPT, "batch: %s", what);
}

static och_code read_head(slice payload, struct batch_head *head, och_error *err)
{
    const uint8_t *at = payload.at;
    if (payload.len < BATCH_HEADER_SIZE)
        return fail(err, "shorter than its header");
    if (load_u32(at) != BATCH_VERSION)
        return FAIL(err, OCH_CORRUPT, "batch: version %u is unknown", load_u32(at));
    *head = (struct batch_head){
        .count = load_u32(at + 4),
        .dimension = load_u32(at + 8),
        .flags = load_u32(at + 12),
        .ids_size = load_u32(at + 16),
        .documents_size = load_u32(at + 20),
        .uris_size = load_u32(at + 24),
        .metadatas_size = load_u32(at + 28),
        .pairs_size = load_u32(at + 32),
    };
    for (unsigned i = 36; i < BATCH_HEADER_SIZE; i++) {
        if (at[i])
            return fail(err, "reserved bytes are not zero");
    }
    if (head->flags & ~(uint32_t)BATCH_FLAGS_ALL)
        return fail(err, "unknown flags");
    if (head->dimension > LIMIT_DIMENSION_MAX)
        return fail(err, "dimension out of range");
    if ((!(head->flags & BATCH_HAS_DOCUMENTS) && head->documents_size) ||
        (!(head->flags & BATCH_HAS_URIS) && head->uris_size) ||
        (!(head->flags & BATCH_HAS_METADATA) && head->metadatas_size))
        return fail(err, "bytes of an absent column");
    return OCH_OK;
}

static void place_columns(const struct batch_head *head, const struct batch_layout *layout,
                          const uint8_t *base, struct batch *batch)
{
    bool documents = head->flags & BATCH_HAS_DOCUMENTS, uris = head->flags & BATCH_HAS_URIS;
    bool metadata = head->flags & BATCH_HAS_METADATA;
    *batch = (struct batch){
        .count = head->count,
        .dimension = head->dimension,
        .ops = base + layout->ops,
        .states = base + layout->states,
        .id_ends = base + layout->id_ends,
        .ids = base + layout->ids,
        .vectors = head->dimension ? (const float *)(const void *)(base + layout->vectors) : NULL,
        .document_ends = documents ? base + layout->document_ends : NULL,
        .documents = documents ? base + layout->documents : NULL,
        .uri_ends = uris ? base + layout->uri_ends : NULL,
        .uris = uris ? base + layout->uris : NULL,
        .metadata_ends = metadata ? base + layout->metadata_ends : NULL,
        .metadatas = metadata ? base + layout->metadatas : NULL,
        .expiries = head->flags & BATCH_HAS_EXPIRY ? base + layout->expiries : NULL,
        .pairs = slice_make(base + layout->pairs, head->pairs_size),
    };
}

/* Ends ascend and the last one is the column's size. */
static bool ends_valid(const uint8_t *ends, uint32_t count, uint32_t size)
{
    uint32_t before = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t end = load_u32(ends + (size_t)i * 4);
        if (end < before)
            return false;
        before = end;
    }
    return before == size;
}

static slice column_at(const uint8_t *ends, const uint8_t *bytes, uint32_t i)
{
    uint32_t start = i ? load_u32(ends + (size_t)i * 4 - 4) : 0;
    uint32_t end = load_u32(ends + (size_t)i * 4);
    return slice_make(bytes + start, end - start);
}

static enum batch_field_state field_state(const struct batch *batch, uint32_t i, unsigned shift)
{
    return (enum batch_field_state)(batch->states[i] >> shift & 3);
}

/* A column holds bytes only where the state says value, and a value needs its column. */
static bool states_fit(const struct batch *batch, const uint8_t *ends, unsigned shift)
{
    uint32_t before = 0;
    for (uint32_t i = 0; i < batch->count; i++) {
        unsigned state = field_state(batch, i, shift);
        uint32_t end = ends ? load_u32(ends + (size_t)i * 4) : 0;
        if (state > FIELD_CLEAR || (state == FIELD_VALUE && !ends) ||
            (state != FIELD_VALUE && end != before))
            return false;
        before = end;
    }
    return true;
}

static och_code check_rows(const struct batch *batch, och_error *err)
{
    for (uint32_t i = 0; i < batch->count; i++) {
        if (batch->ops[i] < BATCH_ADD || batch->ops[i] > BATCH_DELETE)
            return fail(err, "unknown operation");
        if (batch->states[i] & 128 || (batch->states[i] & STATE_VECTOR && !batch->dimension))
            return fail(err, "bad row state");
    }
    if (!states_fit(batch, batch->document_ends, STATE_DOCUMENT_SHIFT) ||
        !states_fit(batch, batch->uri_ends, STATE_URI_SHIFT) ||
        !states_fit(batch, batch->metadata_ends, STATE_METADATA_SHIFT))
        return fail(err, "a row's state does not fit its columns");
    for (uint32_t i = 0; batch->metadata_ends && i < batch->count; i++) {
        if (field_state(batch, i, STATE_METADATA_SHIFT) != FIELD_VALUE)
            continue;
        och_code code = meta_validate(column_at(batch->metadata_ends, batch->metadatas, i), err);
        if (code != OCH_OK) {
            error_context(err, "batch row %u", i);
            return code;
        }
    }
    return OCH_OK;
}

static och_code check_pairs(slice pairs, och_error *err)
{
    struct reader reader = reader_of(pairs);
    while (reader_left(&reader) > 0) {
        uint8_t type = reader_u8(&reader);
        (void)reader_sized(&reader);
        if (reader.failed || type >= SCHEMA_TYPE_COUNT)
            return fail(err, "bad list of keys");
    }
    return OCH_OK;
}

static bool all_zero(const uint8_t *from, const uint8_t *to)
{
    for (; from < to; from++) {
        if (*from)
            return false;
    }
    return true;
}

static bool gaps_zero(const struct batch_head *head, const struct batch_layout *layout,
                      const uint8_t *base)
{
    uint64_t metadata_size = head->flags & BATCH_HAS_METADATA ? head->count * 4ull : 0;
    uint64_t expiry_size = head->flags & BATCH_HAS_EXPIRY ? head->count * 8ull : 0;
    return all_zero(base + layout->states + head->count, base + layout->id_ends) &&
           all_zero(base + layout->metadata_ends + metadata_size, base + layout->expiries) &&
           all_zero(base + layout->expiries + expiry_size, base + layout->vectors);
}

och_code batch_open(slice payload, struct batch *ret_batch, och_error *err)
{
    assert((uintptr_t)payload.at % 64 == 0);
    struct batch_head head;
    struct batch_layout layout;
    struct batch batch;
    TRY(read_head(payload, &head, err));
    batch_layout_of(&head, &layout);
    if (layout.end != payload.len)
        return FAIL(err, OCH_CORRUPT, "batch: %zu bytes, but its header makes it %llu", payload.len,
                    (unsigned long long)layout.end);
    place_columns(&head, &layout, payload.at, &batch);
    if (!gaps_zero(&head, &layout, payload.at))
        return fail(err, "padding is not zero");
    if (!ends_valid(batch.id_ends, head.count, head.ids_size) ||
        (batch.document_ends &&
         !ends_valid(batch.document_ends, head.count, head.documents_size)) ||
        (batch.uri_ends && !ends_valid(batch.uri_ends, head.count, head.uris_size)) ||
        (batch.metadata_ends && !ends_valid(batch.metadata_ends, head.count, head.metadatas_size)))
        return fail(err, "column ends are wrong");
    TRY(check_rows(&batch, err));
    TRY(check_pairs(batch.pairs, err));
    *ret_batch = batch;
    return OCH_OK;
}

slice batch_id(const struct batch *batch, uint32_t i)
{
    assert(i < batch->count);
    return column_at(batch->id_ends, batch->ids, i);
}

static slice field_at(const uint8_t *ends, const uint8_t *bytes, uint32_t i, uint8_t state)
{
    return state == FIELD_VALUE ? column_at(ends, bytes, i) : SLICE_NONE;
}

void batch_row(const struct batch *batch, uint32_t i, struct batch_input_row *ret_row)
{
    assert(i < batch->count);
    struct batch_input_row row = {
        .op = batch->ops[i],
        .document_state = (uint8_t)field_state(batch, i, STATE_DOCUMENT_SHIFT),
        .uri_state = (uint8_t)field_state(batch, i, STATE_URI_SHIFT),
        .metadata_state = (uint8_t)field_state(batch, i, STATE_METADATA_SHIFT),
        .id = batch_id(batch, i),
        .expires_ms = batch->expiries ? (int64_t)load_u64(batch->expiries + (size_t)i * 8) : 0,
    };
    row.document = field_at(batch->document_ends, batch->documents, i, row.document_state);
    row.uri = field_at(batch->uri_ends, batch->uris, i, row.uri_state);
    row.metadata = field_at(batch->metadata_ends, batch->metadatas, i, row.metadata_state);
    if (batch->states[i] & STATE_VECTOR)
        row.vector = batch->vectors + (size_t)i * batch->dimension;
    *ret_row = row;
}

bool batch_pair_next(slice *cursor, struct batch_pair *ret_pair)
{
    if (cursor->len == 0)
        return false;
    struct reader reader = reader_of(*cursor);
    uint8_t type = reader_u8(&reader);
    slice key = reader_sized(&reader);
    if (reader.failed)
        return false;
    *ret_pair = (struct batch_pair){key, type};
    *cursor = slice_make(reader.at, reader_left(&reader));
    return true;
}
