/* SPDX-License-Identifier: Apache-2.0 */
/* Batches: any bytes are refused or read inside their bounds, and what is read can be written and
 * read again with the same rows. */
#include "base/mem.h"
#include "model/batch.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static bool same(slice a, slice b)
{
    return (a.at == NULL) == (b.at == NULL) && slice_equal(a, b);
}

static void compare(const struct batch *a, const struct batch *b)
{
    require(a->count == b->count && a->dimension == b->dimension);
    for (uint32_t i = 0; i < a->count; i++) {
        struct batch_input_row x, y;
        batch_row(a, i, &x);
        batch_row(b, i, &y);
        require(x.op == y.op && x.document_state == y.document_state);
        require(x.uri_state == y.uri_state && x.metadata_state == y.metadata_state);
        require(slice_equal(x.id, y.id) && same(x.document, y.document) && same(x.uri, y.uri));
        require(same(x.metadata, y.metadata) && x.expires_ms == y.expires_ms);
        require((x.vector != NULL) == (y.vector != NULL));
        if (x.vector)
            require(memcmp(x.vector, y.vector, a->dimension * sizeof(float)) == 0);
    }
}

static void write_again(const struct batch *batch)
{
    struct batch_input_row *rows = mem_zalloc((batch->count + 1ull) * sizeof(*rows));
    require(rows != NULL);
    for (uint32_t i = 0; i < batch->count; i++)
        batch_row(batch, i, &rows[i]);
    struct batch_input input = {batch->count, batch->dimension, rows};
    struct payload *payload = NULL;
    struct batch again;
    require(batch_encode(&input, NULL, &payload, NULL) == OCH_OK);
    require(batch_open(slice_make(payload->at, payload->len), &again, NULL) == OCH_OK);
    compare(batch, &again);
    payload_unref(payload);
    mem_free(rows);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = mem_alloc_aligned(64, size ? size : 1);
    if (size)
        memcpy(copy, data, size);
    struct batch batch;
    struct batch_pair pair;
    if (batch_open(slice_make(copy, size), &batch, NULL) == OCH_OK) {
        write_again(&batch);
        for (slice cursor = batch.pairs; batch_pair_next(&cursor, &pair);)
            require(pair.type < SCHEMA_TYPE_COUNT);
    }
    mem_free_aligned(copy);
    return 0;
}
