/* SPDX-License-Identifier: Apache-2.0 */
/* What payload.c and the two halves of the batch format share; the layout is docs/formats/batch.md. */
#ifndef MODEL_BATCH_INTERNAL_H
#define MODEL_BATCH_INTERNAL_H

#include "model/batch.h"
#include "model/limits.h"

/** Like payload_new, but the bytes are not zeroed.  Errors: OCH_BUSY (over budget), OCH_NO_MEMORY. */
MUST_USE och_code payload_new_raw(size_t len, struct budget *budget, struct payload **ret_payload,
                                  och_error *err);

#define BATCH_HEADER_SIZE 64
#define BATCH_VERSION     1
enum batch_flag {
    BATCH_HAS_DOCUMENTS = 1,
    BATCH_HAS_URIS = 2,
    BATCH_HAS_METADATA = 4,
    BATCH_HAS_EXPIRY = 8,
    BATCH_FLAGS_ALL = 15
};
enum batch_state_bits {
    STATE_DOCUMENT_SHIFT = 0,
    STATE_URI_SHIFT = 2,
    STATE_METADATA_SHIFT = 4,
    STATE_VECTOR = 64
};

/* What the header says; everything else follows from it. */
struct batch_head {
    uint32_t count, dimension, flags;
    uint32_t ids_size, documents_size, uris_size, metadatas_size, pairs_size;
};
/* Where the columns begin.  An absent column begins where the next one does and has no bytes. */
struct batch_layout {
    uint64_t ops, states, id_ends, document_ends, uri_ends, metadata_ends, expiries, vectors, ids,
        documents, uris, metadatas, pairs, end;
};
/** Cannot overflow: every member of the head is 32 bits, so the sums stay far below 2^64 but for vectors, capped by `end`. */
void batch_layout_of(const struct batch_head *head, struct batch_layout *ret_layout);
#endif
