/* SPDX-License-Identifier: Apache-2.0 */
/* One write within a request: the body of add, upsert or update, or an operation of a conditional commit.  Read step by step, in the order of
 * http-api.md §2.3; shared by http/ only. */
#ifndef GATEWAY_HTTP_WRITE_REQUEST_H
#define GATEWAY_HTTP_WRITE_REQUEST_H

#include "gateway/http/exchange.h"

struct write_body {
    const struct json_value *ids, *embeddings, *documents, *uris, *metadatas, *clear, *counts,
        *expires_at, *ttl_seconds;
};
struct write_request {
    enum batch_op op;
    struct write_body body;
    slice *metadatas; /* encoded, at NULL: none */
    och_code later;   /* a bad metadata key: judged after the collection is known */
    och_error later_error;
    uint32_t later_row;
    struct wire_vectors vectors;
};
/** The members that an add, upsert or update has. */
const struct wire_body *write_shape(enum batch_op op);
/** Once its body is read: metadata, as far as shape goes (422). */
MUST_USE och_code write_check_shape(struct exchange *x, struct write_request *w, och_error *err);
/** Once the collection is known: vectors, contents, dimension, lengths (400); then its rows, in the arena. */
MUST_USE och_code write_read_rows(struct exchange *x, struct write_request *w,
                                  const struct sysdb_collection *collection,
                                  struct batch_input *ret_input, och_error *err);
#endif
