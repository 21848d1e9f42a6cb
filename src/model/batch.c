/* SPDX-License-Identifier: Apache-2.0 */
/* Write a batch: sizes first, then one pass of copies into memory of exactly that size.
 * docs/formats/batch.md. */
#include "base/map.h"
#include "model/batch_internal.h"

void batch_layout_of(const struct batch_head *head, struct batch_layout *ret_layout)
{
    uint64_t count = head->count, at = BATCH_HEADER_SIZE;
    struct batch_layout layout;
    layout.ops = at;
    at += count;
    layout.states = at;
    at = round_up(at + count, 4);
    layout.id_ends = at;
    at += count * 4;
    layout.document_ends = at;
    at += head->flags & BATCH_HAS_DOCUMENTS ? count * 4 : 0;
    layout.uri_ends = at;
    at += head->flags & BATCH_HAS_URIS ? count * 4 : 0;
    layout.metadata_ends = at;
    at = at + (head->flags & BATCH_HAS_METADATA ? count * 4 : 0);
    at = round_up(at, 8);
    layout.expiries = at;
    at += head->flags & BATCH_HAS_EXPIRY ? count * 8 : 0;
    at = round_up(at, 64);
    layout.vectors = at;
    at += count * head->dimension * 4; /* < 2^32 * 2^16 * 4 */
    layout.ids = at;
    at += head->ids_size;
    layout.documents = at;
    at += head->documents_size;
    layout.uris = at;
    at += head->uris_size;
    layout.metadatas = at;
    at += head->metadatas_size;
    layout.pairs = at;
    layout.end = at + head->pairs_size;
    *ret_layout = layout;
}

/* ---- distinct (key, type) pairs ---- */

/* Rows mostly repeat the keys of the row before in the same order, so each entry is first compared
 * with its namesake there; only news go to the map. */
#define PAIRS_REMEMBERED 64
struct pairs {
    struct map types; /* key -> bit per schema type */
    struct buf out;
    struct batch_pair before[PAIRS_REMEMBERED];
    unsigned before_count;
};

static void pairs_cleanup(struct pairs *pairs)
{
    map_done(&pairs->types);
    buf_done(&pairs->out);
}

static och_code pairs_add(struct pairs *pairs, slice metadata, och_error *err)
{
    struct meta_iter iter;
    struct meta_entry entry;
    meta_iter_init(&iter, metadata);
    for (unsigned i = 0; meta_iter_next(&iter, &entry); i++) {
        int type = meta_schema_type(entry.type);
        if (type < 0)
            continue;
        if (i < pairs->before_count && pairs->before[i].type == type &&
            slice_equal(pairs->before[i].key, entry.key))
            continue;
        if (i < PAIRS_REMEMBERED) {
            for (; pairs->before_count <= i; pairs->before_count++)
                pairs->before[pairs->before_count] = (struct batch_pair){SLICE_NONE, UINT8_MAX};
            pairs->before[i] = (struct batch_pair){entry.key, (uint8_t)type};
        }
        if (slice_starts_with(entry.key, SLICE("chroma:")))
            continue;
        bool is_new;
        uint64_t *types = map_at(&pairs->types, entry.key, &is_new);
        if (!types)
            return FAIL_NO_MEMORY(err, "the keys of a batch");
        if (*types & 1u << type)
            continue;
        *types |= 1u << type;
        buf_byte(&pairs->out, (uint8_t)type);
        buf_sized(&pairs->out, entry.key);
    }
    return OCH_OK;
}

/* ---- sizes ---- */

static bool column_add(uint64_t *size, slice value, uint8_t state)
{
    if (state == FIELD_VALUE)
        *size += value.len;
    return *size < LIMIT_PAYLOAD_BYTES;
}

static och_code measure(const struct batch_input *input, struct pairs *pairs,
                        struct batch_head *head, och_error *err)
{
    uint64_t ids = 0, documents = 0, uris = 0, metadatas = 0;
    for (uint32_t i = 0; i < input->count; i++) {
        const struct batch_input_row *row = &input->rows[i];
        assert(row->op >= BATCH_ADD && row->op <= BATCH_DELETE);
        assert(!row->vector || input->dimension > 0);
        if (!column_add(&ids, row->id, FIELD_VALUE) ||
            !column_add(&documents, row->document, row->document_state) ||
            !column_add(&uris, row->uri, row->uri_state) ||
            !column_add(&metadatas, row->metadata, row->metadata_state))
            return FAIL(err, OCH_TOO_LARGE, "a batch holds at most %llu bytes: send fewer records",
                        (unsigned long long)LIMIT_PAYLOAD_BYTES);
        head->flags |= row->document_state == FIELD_VALUE ? BATCH_HAS_DOCUMENTS : 0u;
        head->flags |= row->uri_state == FIELD_VALUE ? BATCH_HAS_URIS : 0u;
        head->flags |= row->metadata_state == FIELD_VALUE ? BATCH_HAS_METADATA : 0u;
        head->flags |= row->expires_ms != 0 ? BATCH_HAS_EXPIRY : 0u;
        if (row->metadata_state == FIELD_VALUE && row->op != BATCH_DELETE)
            TRY(pairs_add(pairs, row->metadata, err));
    }
    TRY(buf_check(&pairs->out, "the keys of a batch", err));
    head->ids_size = (uint32_t)ids;
    head->documents_size = (uint32_t)documents;
    head->uris_size = (uint32_t)uris;
    head->metadatas_size = (uint32_t)metadatas;
    head->pairs_size = (uint32_t)pairs->out.len;
    return OCH_OK;
}

/* ---- copies ---- */

static void write_head(const struct batch_head *head, uint8_t *at)
{
    memset(at, 0, BATCH_HEADER_SIZE);
    store_u32(at, BATCH_VERSION);
    store_u32(at + 4, head->count);
    store_u32(at + 8, head->dimension);
    store_u32(at + 12, head->flags);
    store_u32(at + 16, head->ids_size);
    store_u32(at + 20, head->documents_size);
    store_u32(at + 24, head->uris_size);
    store_u32(at + 28, head->metadatas_size);
    store_u32(at + 32, head->pairs_size);
}

struct column_writer {
    uint8_t *ends; /* next place */
    uint8_t *bytes;
    uint32_t size;
};

static ALWAYS_INLINE void column_write(struct column_writer *column, slice value, uint8_t state)
{
    if (state == FIELD_VALUE && value.len) {
        memcpy(column->bytes + column->size, value.at, value.len);
        column->size += (uint32_t)value.len;
    }
    store_u32(column->ends, column->size);
    column->ends += 4;
}

static void write_rows(const struct batch_input *input, uint32_t flags,
                       const struct batch_layout *layout, uint8_t *base)
{
    struct column_writer ids = {base + layout->id_ends, base + layout->ids, 0};
    struct column_writer documents = {base + layout->document_ends, base + layout->documents, 0};
    struct column_writer uris = {base + layout->uri_ends, base + layout->uris, 0};
    struct column_writer metadatas = {base + layout->metadata_ends, base + layout->metadatas, 0};
    for (uint32_t i = 0; i < input->count; i++) {
        const struct batch_input_row *row = &input->rows[i];
        base[layout->ops + i] = row->op;
        base[layout->states + i] = (uint8_t)(row->document_state << STATE_DOCUMENT_SHIFT |
                                             row->uri_state << STATE_URI_SHIFT |
                                             row->metadata_state << STATE_METADATA_SHIFT |
                                             (row->vector ? STATE_VECTOR : 0));
        column_write(&ids, row->id, FIELD_VALUE);
        if (flags & BATCH_HAS_DOCUMENTS)
            column_write(&documents, row->document, row->document_state);
        if (flags & BATCH_HAS_URIS)
            column_write(&uris, row->uri, row->uri_state);
        if (flags & BATCH_HAS_METADATA)
            column_write(&metadatas, row->metadata, row->metadata_state);
        if (flags & BATCH_HAS_EXPIRY)
            store_u64(base + layout->expiries + (size_t)i * 8, (uint64_t)row->expires_ms);
    }
}

static void write_vectors(const struct batch_input *input, uint8_t *at)
{
    static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "vectors are copied as they lie");
    size_t size = (size_t)input->dimension * 4;
    for (uint32_t i = 0; i < input->count && size > 0; i++, at += size) {
        if (input->rows[i].vector)
            memcpy(at, input->rows[i].vector, size);
        else
            memset(at, 0, size);
    }
}

static void zero_gap(uint8_t *base, uint64_t from, uint64_t to)
{
    assert(from <= to && to - from < 64);
    memset(base + from, 0, (size_t)(to - from));
}

och_code batch_encode(const struct batch_input *input, struct budget *budget,
                      struct payload **ret_payload, och_error *err)
{
    assert(input->dimension <= LIMIT_DIMENSION_MAX);
    CLEANUP(pairs_cleanup) struct pairs pairs;
    map_init(&pairs.types);
    buf_init(&pairs.out, LIMIT_PAYLOAD_BYTES - 1);
    pairs.before_count = 0;
    struct batch_head head = {.count = input->count, .dimension = input->dimension};
    TRY(measure(input, &pairs, &head, err));
    struct batch_layout layout;
    batch_layout_of(&head, &layout);
    if (layout.end > LIMIT_PAYLOAD_BYTES)
        return FAIL(err, OCH_TOO_LARGE,
                    "a batch of %llu bytes is over the limit of %llu: send fewer records",
                    (unsigned long long)layout.end, (unsigned long long)LIMIT_PAYLOAD_BYTES);
    struct payload *payload;
    TRY(payload_new_raw((size_t)layout.end, budget, &payload, err));
    uint8_t *base = payload->at;
    write_head(&head, base);
    zero_gap(base, layout.states + head.count, layout.id_ends);
    zero_gap(base, layout.metadata_ends + (head.flags & BATCH_HAS_METADATA ? head.count * 4ull : 0),
             layout.expiries);
    zero_gap(base, layout.expiries + (head.flags & BATCH_HAS_EXPIRY ? head.count * 8ull : 0),
             layout.vectors);
    write_rows(input, head.flags, &layout, base);
    write_vectors(input, base + layout.vectors);
    if (head.pairs_size)
        memcpy(base + layout.pairs, pairs.out.at, head.pairs_size);
    *ret_payload = payload;
    return OCH_OK;
}
