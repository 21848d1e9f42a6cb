/* SPDX-License-Identifier: Apache-2.0 */
/* What one write request carries, as the payload of one log frame (D2).  docs/formats/batch.md.
 * The bytes in memory are the bytes on disk; a decoded batch points into them, nothing is copied. */
#ifndef MODEL_BATCH_H
#define MODEL_BATCH_H

#include "model/meta.h"
#include "model/record.h"
#include "model/uuid.h"

enum batch_op { BATCH_ADD = 1, BATCH_UPSERT = 2, BATCH_UPDATE = 3, BATCH_DELETE = 4 };
#define BATCH_NEVER INT64_MAX
enum batch_field_state { FIELD_KEEP = 0, FIELD_VALUE = 1, FIELD_CLEAR = 2 };

/** A counted, immutable-after-building piece of memory, 64-byte aligned; a tail keeps it as long as a row points into it. */
struct payload {
    _Atomic uint32_t refs;
    struct budget *budget;
    size_t len;
    uint8_t *at;
};
/** Zeroed bytes, one reference.  NULL: no memory or over budget. */
struct payload *payload_new(size_t len, struct budget *budget);
struct payload *payload_ref(struct payload *payload);
void payload_unref(struct payload *payload); /* NULL is fine */
void payload_cleanup(struct payload **payload);

/** One row to encode.  vector NULL: absent. */
struct batch_input_row {
    uint8_t op;
    uint8_t document_state, uri_state, metadata_state; /* enum batch_field_state */
    slice id;
    const float *vector;
    slice document, uri, metadata; /* metadata encoded */
    int64_t expires_ms; /* since 1970; 0: says nothing; BATCH_NEVER: does not expire (any more) */
};
struct batch_input {
    uint32_t count, dimension; /* dimension 0: no row has a vector */
    const struct batch_input_row *rows;
};
/** Errors: OCH_NO_MEMORY, OCH_BUSY (over budget), OCH_TOO_LARGE (payload > 2 GiB). */
MUST_USE och_code batch_encode(const struct batch_input *input, struct budget *budget,
                               struct payload **ret_payload, och_error *err);

/** A (key, type) pair of the schema that the batch uses. */
struct batch_pair {
    slice key;
    uint8_t type; /* enum schema_type */
};
/** A decoded payload: columns point into it. */
struct batch {
    uint32_t count, dimension;
    const uint8_t *ops;
    const uint8_t *states; /* per row: bits 0-1 document, 2-3 uri, 4-5 metadata, 6 vector present */
    const uint8_t *id_ends; /* u32 each */
    const uint8_t *ids;
    const float *vectors; /* count x dimension, zeros where absent; NULL when dimension is 0 */
    const uint8_t *document_ends, *documents, *uri_ends, *uris, *metadata_ends,
        *metadatas;          /* NULL: column absent */
    const uint8_t *expiries; /* i64 each or NULL */
    slice pairs;             /* see batch_pair_next */
};
/** Check everything (bounds, ends ascending, states, metadata).  `payload.at` must be 64-byte aligned.  OCH_CORRUPT. */
MUST_USE och_code batch_open(slice payload, struct batch *ret_batch, och_error *err);
void batch_row(const struct batch *batch, uint32_t i, struct batch_input_row *ret_row);
slice batch_id(const struct batch *batch, uint32_t i);
/** Walk the distinct pairs: start with cursor = batch->pairs. */
bool batch_pair_next(slice *cursor, struct batch_pair *ret_pair);
#endif
