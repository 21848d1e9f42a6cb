/* SPDX-License-Identifier: Apache-2.0 */
/* A record as the data model sees it (DESIGN §2); everything is borrowed. */
#ifndef MODEL_RECORD_H
#define MODEL_RECORD_H

#include "base/slice.h"

enum record_field { /* which fields a caller wants or has */
                    RECORD_ID = 1,
                    RECORD_SEQ = 2,
                    RECORD_VECTOR = 4,
                    RECORD_DOCUMENT = 8,
                    RECORD_URI = 16,
                    RECORD_METADATA = 32,
                    RECORD_EXPIRY = 64,
                    RECORD_ALL = 127
};

struct record {
    slice id;
    int64_t seq;         /* log offset of the first insertion: insertion order */
    const float *vector; /* dimension floats, NULL when the record has none */
    slice document, uri; /* at == NULL: none.  An empty one has at != NULL */
    slice metadata;      /* encoded (meta.h); at == NULL: none */
    int64_t expires_ms;  /* since 1970, 0 = never */
};

enum metric { METRIC_L2 = 0, METRIC_COSINE = 1, METRIC_IP = 2 };
#endif
